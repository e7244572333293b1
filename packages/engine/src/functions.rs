//! Functions of SQL that homes have of their own: the same on every machine and in every repetition,
//! and none that takes hours in one step.
//!
//! Draws come from the turn's seed, one stream a call. Mathematics is `libm` in Rust, not the
//! machine's. `instr`, `replace` and `trim` are those of SQLite in linear time; theirs is quadratic, and
//! nothing can stop a function. Vectors are blobs of little-endian f32, or JSON arrays, as in sqlite-vec;
//! sums run from the first element to the last in f64, so that no instruction set changes a distance.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Error, Result};
use sha2::{Digest, Sha256};

use crate::statement::Raw;

const MAX_BLOB: i64 = 8 << 20;

/// Where draws come from: the seed of the turn and the number of the call.
#[derive(Default)]
pub struct Draws {
    seed: [u8; 32],
    stream: Option<ChaCha20Rng>,
}

impl Draws {
    pub fn begin(&mut self, seed: &[u8; 32], call: u32) {
        let mut hash = Sha256::new();
        hash.update(b"cardinal.sql.random");
        hash.update(seed);
        hash.update(call.to_le_bytes());
        self.seed = hash.finalize().into();
        self.stream = None;
    }

    fn stream(&mut self) -> &mut ChaCha20Rng {
        let seed = self.seed;
        self.stream.get_or_insert_with(|| ChaCha20Rng::from_seed(seed))
    }
}

/// What functions see of the turn.
#[derive(Default)]
pub struct Scope {
    pub draws: Mutex<Draws>,
    /// The connection's count of changes when the turn began.
    pub changes_before: AtomicI64,
    /// What the last statement that wrote has changed. SQLite's own count is also that of what full-text
    /// indexes write when a savepoint ends.
    pub changes: AtomicI64,
    /// A statement that writes is under way: its triggers see SQLite's count.
    pub writing: AtomicBool,
}

fn failed(text: &str) -> Error {
    Error::UserFunctionError(text.into())
}

/// A number, or a text that is one; undefined otherwise, as SQLite's own functions have it.
fn number(context: &Context<'_>, i: usize) -> Option<f64> {
    match context.get_raw(i) {
        ValueRef::Integer(n) => Some(n as f64),
        ValueRef::Real(x) => Some(x),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            if plain { text.parse().ok() } else { None }
        }
        _ => None,
    }
}

fn real(value: Option<f64>) -> Value {
    match value {
        Some(x) if !x.is_nan() => Value::Real(x),
        _ => Value::Null,
    }
}

fn log(base: f64, x: f64) -> Option<f64> {
    if base <= 0.0 || x <= 0.0 {
        return None;
    }
    let divisor = libm::log(base);
    (divisor > 0.0).then(|| libm::log(x) / divisor)
}

fn positive(f: fn(f64) -> f64) -> impl Fn(f64) -> f64 {
    move |x| if x <= 0.0 { f64::NAN } else { f(x) }
}

/// Its bytes as SQLite shows it as text; of a real only SQLite knows how.
fn bytes_of<'a>(context: &'a Context<'_>, i: usize) -> Result<Option<Cow<'a, [u8]>>> {
    Ok(match context.get_raw(i) {
        ValueRef::Null => None,
        ValueRef::Integer(n) => Some(n.to_string().into_bytes().into()),
        ValueRef::Real(x) => {
            // SAFETY: the connection is used within this call of a function that it makes itself.
            let connection = unsafe { context.get_connection()? };
            let shown: String = connection.query_row("select cast(?1 as text)", [x], |row| row.get(0))?;
            Some(shown.into_bytes().into())
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.into()),
    })
}

fn text_value(bytes: &[u8]) -> Value {
    Value::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// Where each character begins, as SQLite steps over UTF-8.
fn characters(bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut end = at + 1;
        if bytes[at] >= 0xc0 {
            while end < bytes.len() && bytes[end] & 0xc0 == 0x80 {
                end += 1;
            }
        }
        found.push(&bytes[at..end]);
        at = end;
    }
    found
}

fn instr(context: &Context<'_>) -> Result<Value> {
    let both_blobs = matches!((context.get_raw(0), context.get_raw(1)), (ValueRef::Blob(_), ValueRef::Blob(_)));
    let (Some(whole), Some(part)) = (bytes_of(context, 0)?, bytes_of(context, 1)?) else { return Ok(Value::Null) };
    let Some(at) = memchr::memmem::find(&whole, &part) else { return Ok(Value::Integer(0)) };
    let before = if both_blobs { at } else { characters(&whole[..at]).len() };
    Ok(Value::Integer(before as i64 + 1))
}

fn replace(context: &Context<'_>) -> Result<Value> {
    let (Some(whole), Some(part)) = (bytes_of(context, 0)?, bytes_of(context, 1)?) else {
        return Ok(Value::Null);
    };
    if part.is_empty() {
        return Ok(text_value(&whole));
    }
    let Some(with) = bytes_of(context, 2)? else { return Ok(Value::Null) };
    let mut out = Vec::with_capacity(whole.len());
    let mut rest = 0;
    for at in memchr::memmem::find_iter(&whole, &*part) {
        out.extend_from_slice(&whole[rest..at]);
        out.extend_from_slice(&with);
        rest = at + part.len();
        if out.len() as i64 > MAX_BLOB {
            return Err(Error::UserFunctionError("string or blob too big".into()));
        }
    }
    out.extend_from_slice(&whole[rest..]);
    Ok(text_value(&out))
}

fn trim(context: &Context<'_>, left: bool, right: bool) -> Result<Value> {
    let Some(whole) = bytes_of(context, 0)? else { return Ok(Value::Null) };
    let given = if context.len() > 1 { bytes_of(context, 1)? } else { Some(b" "[..].into()) };
    let Some(given) = given else { return Ok(Value::Null) };
    let away: HashSet<&[u8]> = characters(&given).into_iter().collect();
    let parts = characters(&whole);
    let first = if left { parts.iter().position(|c| !away.contains(c)).unwrap_or(parts.len()) } else { 0 };
    let kept = &parts[first..];
    let last = if right { kept.iter().rposition(|c| !away.contains(c)).map_or(0, |i| i + 1) } else { kept.len() };
    Ok(text_value(&kept[..last].concat()))
}

/// A vector as it stands in a row or a parameter.
fn vector(value: ValueRef<'_>) -> Result<Option<Vec<f32>>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) if bytes.len() % 4 == 0 => {
            let word = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("four bytes"));
            Ok(Some(bytes.chunks_exact(4).map(word).collect()))
        }
        ValueRef::Text(text) => {
            let wrong = || failed("a vector is a JSON array of numbers, or a blob of 32-bit floats");
            let text = std::str::from_utf8(text).map_err(|_| wrong())?.trim();
            let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or_else(wrong)?;
            if inside.trim().is_empty() {
                return Ok(Some(Vec::new()));
            }
            let parsed = inside.split(',').map(|part| part.trim().parse::<f32>().ok().filter(|x| x.is_finite()));
            parsed.collect::<Option<Vec<f32>>>().map(Some).ok_or_else(wrong)
        }
        _ => Err(failed("a vector is a JSON array of numbers, or a blob of 32-bit floats")),
    }
}

fn distance(context: &Context<'_>, of: fn(&[f32], &[f32]) -> f64) -> Result<Value> {
    let (Some(a), Some(b)) = (vector(context.get_raw(0))?, vector(context.get_raw(1))?) else {
        return Ok(Value::Null);
    };
    if a.len() != b.len() {
        let text = format!("vectors of {} and {} elements have no distance", a.len(), b.len());
        return Err(failed(&text));
    }
    Ok(real(Some(of(&a, &b))))
}

fn pairs<'a>(a: &'a [f32], b: &'a [f32]) -> impl Iterator<Item = (f64, f64)> + 'a {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)))
}

fn l1(a: &[f32], b: &[f32]) -> f64 {
    pairs(a, b).fold(0.0, |sum, (x, y)| sum + (x - y).abs())
}

fn l2(a: &[f32], b: &[f32]) -> f64 {
    libm::sqrt(pairs(a, b).fold(0.0, |sum, (x, y)| sum + (x - y) * (x - y)))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (dot, aa, bb) = pairs(a, b).fold((0.0, 0.0, 0.0), |(d, p, q), (x, y)| (d + x * y, p + x * x, q + y * y));
    1.0 - dot / (libm::sqrt(aa) * libm::sqrt(bb))
}

/// Adds all of them to a connection.
pub fn add(connection: &Connection, scope: &Arc<Scope>) -> Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    let varying = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;

    let drawn = scope.clone();
    connection.create_scalar_function("random", 0, varying, move |_| {
        let mut draws = drawn.draws.lock().expect("draws");
        Ok(draws.stream().next_u64() as i64)
    })?;
    let drawn = scope.clone();
    connection.create_scalar_function("randomblob", 1, varying, move |context| {
        let wanted = number(context, 0).unwrap_or(0.0).max(1.0);
        if wanted > MAX_BLOB as f64 {
            return Err(failed("string or blob too big"));
        }
        let mut bytes = vec![0u8; wanted as usize];
        drawn.draws.lock().expect("draws").stream().fill_bytes(&mut bytes);
        Ok(Value::Blob(bytes))
    })?;
    let (counted, raw) = (scope.clone(), Raw::of(connection));
    connection.create_scalar_function("total_changes", 0, varying, move |_| {
        Ok(raw.total_changes() - counted.changes_before.load(Relaxed))
    })?;

    let (counted, raw) = (scope.clone(), Raw::of(connection));
    connection.create_scalar_function("changes", 0, varying, move |_| {
        let writing = counted.writing.load(Relaxed);
        Ok(if writing { raw.changes() } else { counted.changes.load(Relaxed) })
    })?;

    let one: [(&str, fn(f64) -> f64); 16] = [
        ("acos", libm::acos), ("acosh", libm::acosh), ("asin", libm::asin), ("asinh", libm::asinh),
        ("atan", libm::atan), ("atanh", libm::atanh), ("cos", libm::cos), ("cosh", libm::cosh),
        ("exp", libm::exp), ("sin", libm::sin), ("sinh", libm::sinh), ("sqrt", libm::sqrt),
        ("tan", libm::tan), ("tanh", libm::tanh), ("degrees", f64::to_degrees), ("radians", f64::to_radians),
    ];
    for (name, f) in one {
        connection.create_scalar_function(name, 1, pure, move |c| Ok(real(number(c, 0).map(f))))?;
    }
    let logarithms: [(&str, fn(f64) -> f64); 4] =
        [("ln", libm::log), ("log", libm::log10), ("log10", libm::log10), ("log2", libm::log2)];
    for (name, f) in logarithms {
        connection.create_scalar_function(name, 1, pure, move |c| Ok(real(number(c, 0).map(positive(f)))))?;
    }
    let two: [(&str, fn(f64, f64) -> f64); 4] =
        [("atan2", libm::atan2), ("mod", libm::fmod), ("pow", libm::pow), ("power", libm::pow)];
    for (name, f) in two {
        connection.create_scalar_function(name, 2, pure, move |c| {
            Ok(real(number(c, 0).zip(number(c, 1)).map(|(x, y)| f(x, y))))
        })?;
    }
    connection.create_scalar_function("log", 2, pure, |c| {
        Ok(real(number(c, 0).zip(number(c, 1)).and_then(|(base, x)| log(base, x))))
    })?;
    let whole: [(&str, fn(f64) -> f64); 4] =
        [("ceil", libm::ceil), ("ceiling", libm::ceil), ("floor", libm::floor), ("trunc", libm::trunc)];
    for (name, f) in whole {
        connection.create_scalar_function(name, 1, pure, move |c| match c.get_raw(0) {
            ValueRef::Integer(n) => Ok(Value::Integer(n)),
            _ => Ok(real(number(c, 0).map(f))),
        })?;
    }
    connection.create_scalar_function("pi", 0, pure, |_| Ok(std::f64::consts::PI))?;

    connection.create_scalar_function("instr", 2, pure, instr)?;
    connection.create_scalar_function("replace", 3, pure, replace)?;
    for (name, left, right) in [("trim", true, true), ("ltrim", true, false), ("rtrim", false, true)] {
        for arguments in [1, 2] {
            connection.create_scalar_function(name, arguments, pure, move |c| trim(c, left, right))?;
        }
    }

    connection.create_scalar_function("unhex", 2, pure, |_| -> Result<Value> {
        Err(failed("unhex takes one argument here"))
    })?;

    let distances: [(&str, fn(&[f32], &[f32]) -> f64); 3] =
        [("vec_distance_l1", l1), ("vec_distance_l2", l2), ("vec_distance_cosine", cosine)];
    for (name, of) in distances {
        connection.create_scalar_function(name, 2, pure, move |c| distance(c, of))?;
    }
    connection.create_scalar_function("vec_f32", 1, pure, |c| {
        let blob = vector(c.get_raw(0))?.map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect());
        Ok(blob.map_or(Value::Null, Value::Blob))
    })?;
    connection.create_scalar_function("vec_length", 1, pure, |c| {
        Ok(vector(c.get_raw(0))?.map_or(Value::Null, |v| Value::Integer(v.len() as i64)))
    })?;
    connection.create_scalar_function("vec_to_json", 1, pure, |c| {
        let shown = vector(c.get_raw(0))?.map(|v| {
            let parts: Vec<String> = v.iter().map(f32::to_string).collect();
            ToSqlOutput::Owned(Value::Text(format!("[{}]", parts.join(","))))
        });
        Ok(shown.unwrap_or(ToSqlOutput::Owned(Value::Null)))
    })
}
