/* The turn ABI for C, without a C library: room for what the host writes, an output that grows, and as much
 * JSON as events need. One turn is one call of `cardinal_turn`; see docs/guests.md. */
#ifndef CARDINAL_H
#define CARDINAL_H

typedef unsigned char byte;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(name)))

/* A piece of JSON as it stands in the input: a text with its quotes, an object with its braces. */
typedef struct { const char *at; u32 len; } json;

/* What is written in this turn. */
static char out_bytes[1 << 20];
static u32 out_len;
static char in_bytes[1 << 20];

static void put_bytes(const char *from, u32 len) {
  if (len > sizeof out_bytes - out_len) __builtin_trap();
  __builtin_memcpy(out_bytes + out_len, from, len);
  out_len += len;
}
static u32 length(const char *text) {
  u32 n = 0;
  while (text[n]) n++;
  return n;
}
static void put(const char *text) { put_bytes(text, length(text)); }
static void put_json(json of) { put_bytes(of.at, of.len); }
static void put_number(long long n) {
  char digits[24];
  u32 at = sizeof digits;
  u64 left = n < 0 ? 0 - (u64)n : (u64)n;
  do digits[--at] = '0' + left % 10; while (left /= 10);
  if (n < 0) digits[--at] = '-';
  put_bytes(digits + at, sizeof digits - at);
}

static const char *skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) at++;
  return at;
}
/* The value that begins here. Input comes from the kernel, which sends JSON and nothing else. */
static json value_at(const char *at, const char *end) {
  const char *start = at = skip_space(at, end);
  u32 depth = 0;
  while (at < end) {
    char c = *at++;
    if (c == '"') {
      while (at < end && *at != '"') at += *at == '\\' ? 2 : 1;
      at++;
    } else if (c == '{' || c == '[') {
      depth++;
    } else if (c == '}' || c == ']') {
      depth--;
    } else {
      while (at < end && *at != ',' && *at != '}' && *at != ']' && *at != ':') at++;
    }
    if (depth == 0) break;
    at = skip_space(at, end);
    while (at < end && (*at == ',' || *at == ':')) at = skip_space(at + 1, end);
  }
  return (json){start, (u32)(at - start)};
}
static int is(json of, const char *text) {
  u32 len = length(text);
  return of.len == len && __builtin_memcmp(of.at, text, len) == 0;
}
/* A member of an object; of length 0 if there is none. */
static json member(json of, const char *name) {
  const char *at = of.at + 1, *end = of.at + of.len;
  while (of.len > 1) {
    at = skip_space(at, end);
    if (at >= end || *at != '"') break;
    json key = value_at(at, end);
    at = skip_space(key.at + key.len, end) + 1;
    json found = value_at(at, end);
    if (key.len == length(name) + 2 && __builtin_memcmp(key.at + 1, name, key.len - 2) == 0) return found;
    at = skip_space(found.at + found.len, end) + 1;
  }
  return (json){0, 0};
}
static long long number(json of) {
  long long n = 0;
  u32 i = of.len > 0 && of.at[0] == '-';
  for (; i < of.len && of.at[i] >= '0' && of.at[i] <= '9'; i++) n = n * 10 + (of.at[i] - '0');
  return of.len > 0 && of.at[0] == '-' ? -n : n;
}

/* Of freestanding C, compilers call these. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ n) {
  for (__SIZE_TYPE__ i = 0; i < n; i++) ((byte *)to)[i] = ((const byte *)from)[i];
  return to;
}
void *memset(void *to, int value, __SIZE_TYPE__ n) {
  for (__SIZE_TYPE__ i = 0; i < n; i++) ((byte *)to)[i] = (byte)value;
  return to;
}
int memcmp(const void *a, const void *b, __SIZE_TYPE__ n) {
  for (__SIZE_TYPE__ i = 0; i < n; i++)
    if (((const byte *)a)[i] != ((const byte *)b)[i]) return ((const byte *)a)[i] - ((const byte *)b)[i];
  return 0;
}

/* The host writes a turn's events here. 0: there is no room, and the turn fails. */
EXPORT("cardinal_alloc") char *cardinal_alloc(u32 len) { return len <= sizeof in_bytes ? in_bytes : 0; }

#endif
