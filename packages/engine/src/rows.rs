//! Rows as JSON, for those who read a home from outside: integers that are no safe numbers of JavaScript
//! are texts, and so are infinities; bytes are `{"hex":"…"}`.

use crate::statement::{Cell, Statement};

const HEX: &[u8; 16] = b"0123456789abcdef";
const MAX_SAFE: i64 = (1 << 53) - 1;

fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A text as JSON.
pub fn text(text: &str) -> String {
    let mut out = String::new();
    put_text(&mut out, text);
    out
}

fn put_cell(out: &mut String, cell: Cell<'_>) {
    match cell {
        Cell::Null => out.push_str("null"),
        Cell::Integer(n) if (-MAX_SAFE..=MAX_SAFE).contains(&n) => out.push_str(&n.to_string()),
        Cell::Integer(n) => put_text(out, &n.to_string()),
        Cell::Real(x) if x.is_finite() => out.push_str(&format!("{x:?}")),
        Cell::Real(x) => put_text(out, if x > 0.0 { "Infinity" } else { "-Infinity" }),
        Cell::Text(bytes) => put_text(out, &String::from_utf8_lossy(bytes)),
        Cell::Blob(bytes) => {
            out.push_str("{\"hex\":\"");
            out.extend(bytes.iter().flat_map(|b| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]).map(char::from));
            out.push_str("\"}");
        }
    }
}

/// `{"columns":[…],"rows":[[…]],"more":false}`, until so many rows or bytes are there.
pub struct Rows {
    text: String,
    count: usize,
    max: usize,
    more: bool,
}

const MAX_BYTES: usize = 8 << 20;

impl Rows {
    pub fn new(max: usize) -> Rows {
        Rows { text: String::new(), count: 0, max, more: false }
    }

    /// Whether more is wanted.
    pub fn take(&mut self, statement: &Statement) -> bool {
        if self.count == self.max || self.text.len() > MAX_BYTES {
            self.more = true;
            return false;
        }
        self.text.push_str(if self.count == 0 { "[" } else { ",[" });
        for i in 0..statement.column_count() {
            if i > 0 {
                self.text.push(',');
            }
            put_cell(&mut self.text, statement.cell(i));
        }
        self.text.push(']');
        self.count += 1;
        true
    }

    pub fn finish(self, columns: &[String]) -> Vec<u8> {
        format!("{{\"columns\":{},\"rows\":[{}],\"more\":{}}}", texts(columns), self.text, self.more).into_bytes()
    }
}

/// A list of texts.
pub fn texts(items: &[String]) -> String {
    let mut out = String::from("[");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        put_text(&mut out, item);
    }
    out.push(']');
    out
}

/// `{"code":…,"error":"…"}`: what SQLite, or the rules of a home, said.
pub fn error(code: i32, message: &str) -> Vec<u8> {
    let mut out = format!("{{\"code\":{code},\"error\":");
    put_text(&mut out, message);
    out.push('}');
    out.into_bytes()
}
