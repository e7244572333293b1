//! SQLite's table of names, which shows the kernel's too. Guests read a view in its place, which leaves
//! those out and where anything lies; SQLite lets nobody give a view that name, so it is exchanged in
//! the text of their statements.

/// Names that begin so are the kernel's, in any case of letters.
pub const RESERVED: &str = "_cardinal";

/// The view in the file of every home.
pub const VIEW: &str = "_cardinal_schema";

const TABLES: [&str; 2] = ["sqlite_master", "sqlite_schema"];

pub fn is_reserved(name: &str) -> bool {
    name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
}

pub fn is_view(name: &str) -> bool {
    name.eq_ignore_ascii_case(VIEW)
}

pub fn is_schema_table(name: &str) -> bool {
    TABLES.iter().any(|table| table.eq_ignore_ascii_case(name))
}

/// Whether a text in small letters may name it at all.
pub fn may_name_schema(lower: &str) -> bool {
    TABLES.iter().any(|table| lower.contains(table))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Where the token ends that begins at `at`, as SQLite reads it; always on a character's boundary.
fn token_end(sql: &[u8], at: usize) -> usize {
    let after = |end: &[u8], from: usize| {
        let found = sql.get(from..).and_then(|rest| rest.windows(end.len()).position(|w| w == end));
        found.map_or(sql.len(), |i| from + i + end.len())
    };
    match sql[at] {
        quote @ (b'\'' | b'"' | b'`') => {
            let mut end = at + 1;
            while end < sql.len() {
                if sql[end] == quote {
                    if sql.get(end + 1) != Some(&quote) {
                        return end + 1;
                    }
                    end += 1;
                }
                end += 1;
            }
            sql.len()
        }
        b'[' => after(b"]", at + 1),
        b'-' if sql.get(at + 1) == Some(&b'-') => after(b"\n", at + 2),
        b'/' if sql.get(at + 1) == Some(&b'*') => after(b"*/", at + 2),
        byte if is_word(byte) => sql[at..].iter().position(|b| !is_word(*b)).map_or(sql.len(), |n| at + n),
        _ => at + 1,
    }
}

/// The text with the view in place of the table.
pub fn with_view(sql: &str) -> String {
    exchange(sql, usize::MAX).0
}

/// How much of a text stands for the first `used` bytes of what `with_view` made of it.
pub fn place_before(sql: &str, used: usize) -> usize {
    exchange(sql, used).1
}

fn exchange(sql: &str, until: usize) -> (String, usize) {
    let bytes = sql.as_bytes();
    let mut out = String::with_capacity(sql.len());
    let mut at = 0;
    while at < bytes.len() && out.len() < until {
        let end = token_end(bytes, at);
        let token = &sql[at..end];
        let bare = match token.as_bytes() {
            [b'"' | b'`' | b'[', .., _] => &token[1..token.len() - 1],
            _ => token,
        };
        out.push_str(if is_schema_table(bare) { VIEW } else { token });
        at = end;
    }
    (out, at)
}
