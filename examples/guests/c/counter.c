/* An agent that counts, asks a tool and waits: `../counter.ts` in C.
 *
 *   clang --target=wasm32 -O2 -ffreestanding -fno-builtin -nostdlib -Wl,--no-entry -o counter.wasm c/counter.c
 *
 * State is memory: what is in `count` and `waiting` after a turn is there in the next one, whatever happens to the
 * node in between. */
#include "cardinal.h"

#define MOST 64

static long long count;
static u32 next_effect = 1;
/* Invocations that wait for a receipt: the effect's number, whose they are, and whether they asked for a price. */
static struct { u32 effect; int price; char invocation[64]; u32 len; } waiting[MOST];

static char effects[1 << 18], replies[1 << 18], logs[1 << 12], drops[1 << 10];
static u32 effects_len, replies_len, logs_len, drops_len;

/* Moves what was written since `from` to one of the four lists. */
static void into(char *list, u32 *len, u32 room, u32 from) {
  u32 more = out_len - from;
  if (more + 1 > room - *len) __builtin_trap();
  if (*len) list[(*len)++] = ',';
  __builtin_memcpy(list + *len, out_bytes + from, more);
  *len += more;
  out_len = from;
}
#define INTO(list, from) into(list, &list##_len, sizeof list, from)

static u32 begin_reply(json invocation, const char *ok) {
  u32 from = out_len;
  put("{\"inv\":"), put_json(invocation), put(",\"ok\":"), put(ok), put(",\"value\":");
  return from;
}
static void end_reply(u32 from) { put("}"), INTO(replies, from); }

static void reply_count(json invocation) {
  u32 from = begin_reply(invocation, "true");
  put_number(count);
  end_reply(from);
}

/* Queues an effect, and remembers who waits for it. The arguments are written by the caller. */
static u32 begin_effect(json invocation, const char *tool, int price) {
  u32 slot = 0, from = out_len;
  while (slot < MOST && waiting[slot].effect) slot++;
  if (slot == MOST || invocation.len > sizeof waiting[slot].invocation) __builtin_trap();
  waiting[slot].effect = next_effect++;
  waiting[slot].price = price;
  waiting[slot].len = invocation.len;
  __builtin_memcpy(waiting[slot].invocation, invocation.at, invocation.len);
  put("{\"c\":"), put_number(waiting[slot].effect), put(",\"inv\":"), put_json(invocation);
  put(",\"tool\":\""), put(tool), put("\",\"args\":");
  return from;
}
static void end_effect(u32 from) { put("}"), INTO(effects, from); }

static void invoke(json event) {
  json id = member(event, "id"), method = member(event, "method"), args = member(event, "args");
  if (is(method, "\"add\"")) {
    count += number(member(args, "n"));
    u32 from = out_len;
    put("[\"info\",\"counted to "), put_number(count), put("\"]"), INTO(logs, from);
    reply_count(id);
  } else if (is(method, "\"total\"")) {
    reply_count(id);
  } else if (is(method, "\"price\"")) {
    u32 from = begin_effect(id, "rates.get", 1);
    put("{\"currency\":"), put_json(member(args, "currency")), put("}");
    end_effect(from);
  } else if (is(method, "\"nap\"")) {
    u32 from = begin_effect(id, "cardinal.sleep", 0);
    put("{\"ms\":"), put_json(member(args, "ms")), put("}");
    end_effect(from);
  } else {
    u32 from = begin_reply(id, "false");
    put("{\"class\":\"Thrown\",\"code\":\"Thrown\",\"message\":\"no such method\"}");
    end_reply(from);
  }
}

static void receive(json event) {
  u32 effect = (u32)number(member(event, "id"));
  for (u32 i = 0; i < MOST; i++) {
    if (!effect || waiting[i].effect != effect) continue;
    json invocation = {waiting[i].invocation, waiting[i].len};
    waiting[i].effect = 0;
    if (!is(member(event, "ok"), "true")) {
      u32 from = begin_reply(invocation, "false");
      put_json(member(event, "error"));
      end_reply(from);
    } else if (waiting[i].price) {
      u32 from = begin_reply(invocation, "true");
      put("{\"count\":"), put_number(count), put(",\"rate\":"), put_json(member(event, "value")), put("}");
      end_reply(from);
    } else {
      reply_count(invocation);
    }
  }
}

/* Ends the waits of an invocation; the kernel is told which effects nobody waits for any more. */
static void stop(json id, int cancelled) {
  for (u32 i = 0; i < MOST; i++) {
    if (!waiting[i].effect || waiting[i].len != id.len) continue;
    if (__builtin_memcmp(waiting[i].invocation, id.at, id.len) != 0) continue;
    u32 from = out_len;
    put_number(waiting[i].effect), INTO(drops, from);
    waiting[i].effect = 0;
    if (!cancelled) continue;
    from = begin_reply(id, "false");
    put("{\"class\":\"Cancelled\",\"code\":\"Cancelled\",\"message\":\"cancelled\"}");
    end_reply(from);
  }
}

static const char ABOUT[] =
    "{\"version\":1,\"methods\":{\"add\":{\"about\":\"adds n to the count\"},\"total\":{\"shared\":true},"
    "\"price\":{\"about\":\"what rates.get says of a currency\"},\"nap\":{\"about\":\"waits for so many milliseconds\"}}}";

EXPORT("cardinal_turn") u64 cardinal_turn(const char *at, u32 len) {
  const char *end = at + len;
  out_len = effects_len = replies_len = logs_len = drops_len = 0;
  for (at++; at < end && *(at = skip_space(at, end)) == '{';) {
    json event = value_at(at, end), kind = member(event, "t");
    if (is(kind, "\"describe\"")) {
      put(ABOUT);
      return (u64)(u32)out_bytes << 32 | out_len;
    }
    if (is(kind, "\"invoke\"")) invoke(event);
    else if (is(kind, "\"receipt\"")) receive(event);
    else if (is(kind, "\"cancel\"")) stop(member(event, "id"), 1);
    else if (is(kind, "\"abandon\"")) {
      json ids = member(event, "ids");
      for (const char *from = ids.at + 1; from < ids.at + ids.len && *from == '"';) {
        json id = value_at(from, ids.at + ids.len);
        stop(id, 0);
        from = skip_space(id.at + id.len, ids.at + ids.len) + 1;
      }
    }
    at = skip_space(event.at + event.len, end) + 1;
  }
  put("{\"effects\":["), put_bytes(effects, effects_len), put("],\"replies\":["), put_bytes(replies, replies_len);
  put("],\"logs\":["), put_bytes(logs, logs_len), put("],\"drops\":["), put_bytes(drops, drops_len), put("]}");
  return (u64)(u32)out_bytes << 32 | out_len;
}
