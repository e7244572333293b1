//! The host function `home`, by which the SDK in a guest reaches the agent's home: values of the
//! guest in, values of the guest out.
//!
//! `home(op, sql, tags, values, a, b, c)`; `tags` has a letter for each value: `0` null, `n` number,
//! `i` integer as decimal text, `s` text, `b` bytes. A text as the answer is an error: its code, a space,
//! its message.

use wasmtime::{AsContextMut, Caller};

use crate::home::{Fetched, Home, Trouble};
use crate::host::{Calls, Host};
use crate::statement::{Cell, SqlError, Statement, Value};

const EXEC: i32 = 0;
const ABOUT: i32 = 1;
const RUN: i32 = 2;
const FETCH: i32 = 3;
const NEXT: i32 = 4;
const CLOSE: i32 = 5;
const END: i32 = 6;
const EXPAND: i32 = 7;

/// Integers beyond this are no longer all numbers of JavaScript.
const MAX_SAFE: i64 = (1 << 53) - 1;

fn is_safe(number: i64) -> bool {
    (-MAX_SAFE..=MAX_SAFE).contains(&number)
}

/// How integers become values: as numbers, refusing what is none; all as bigints; as the nearest number
/// (2); or as numbers, and as bigints where they are no safe numbers.
const STRICT: i32 = 0;
const BIGINTS: i32 = 1;
const MIXED: i32 = 3;

/// The home failed in a way that is not the program's to catch.
#[derive(Debug)]
pub struct HomeTrouble {
    /// None: the host's doing.
    pub kind: Option<&'static str>,
    pub detail: String,
}

impl std::fmt::Display for HomeTrouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for HomeTrouble {}

impl From<Trouble> for HomeTrouble {
    fn from(trouble: Trouble) -> HomeTrouble {
        match trouble {
            Trouble::Turn { kind, detail } => HomeTrouble { kind: Some(kind), detail },
            Trouble::Host(detail) => HomeTrouble { kind: None, detail },
            Trouble::Sql(error) => HomeTrouble { kind: None, detail: error.message },
        }
    }
}

type Made = wasmtime::Result<i32>;

/// Reading arguments and making values, with one buffer in the guest's memory for all texts of a call.
struct Guest<'a, 'b> {
    caller: &'a mut Caller<'b, Host>,
    calls: Calls,
    buffer: i32,
    room: usize,
}

impl Guest<'_, '_> {
    fn argument(&mut self, argv: i32, i: i32) -> Made {
        let mut word = [0u8; 4];
        self.calls.memory.read(&self.caller, (argv + i * 4) as u32 as usize, &mut word)?;
        Ok(i32::from_le_bytes(word))
    }

    fn integer(&mut self, handle: i32) -> Made {
        Ok(self.calls.get_number.call(self.caller.as_context_mut(), handle)? as i32)
    }

    fn text(&mut self, handle: i32) -> wasmtime::Result<Vec<u8>> {
        let length_at = self.space(8)?;
        let at = self.calls.get_text.call(self.caller.as_context_mut(), (handle, length_at))?;
        if at == 0 {
            return Ok(Vec::new());
        }
        let mut word = [0u8; 4];
        self.calls.memory.read(&self.caller, length_at as u32 as usize, &mut word)?;
        let bytes = self.bytes(at, u32::from_le_bytes(word) as usize)?;
        self.calls.free_text.call(self.caller.as_context_mut(), at)?;
        Ok(bytes)
    }

    fn bytes(&mut self, at: i32, length: usize) -> wasmtime::Result<Vec<u8>> {
        let start = at as u32 as usize;
        let memory = self.calls.memory.data(&self.caller);
        let found = memory.get(start..start + length).ok_or_else(|| wasmtime::Error::msg("bytes outside memory"))?;
        Ok(found.to_vec())
    }

    fn blob(&mut self, handle: i32) -> wasmtime::Result<Vec<u8>> {
        let out = self.space(16)?;
        let buffer =
            self.calls.typed_array.call(self.caller.as_context_mut(), (handle, out, out + 4, out + 8))?;
        let mut words = [0u8; 8];
        self.calls.memory.read(&self.caller, out as u32 as usize, &mut words)?;
        let (offset, length) = words.split_at(4);
        let offset = u32::from_le_bytes(offset.try_into().expect("four bytes"));
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        let found = if self.calls.is_exception.call(self.caller.as_context_mut(), buffer)? == 0 {
            let data = self.calls.array_buffer.call(self.caller.as_context_mut(), (buffer, out))?;
            if data == 0 { Vec::new() } else { self.bytes(data + offset as i32, length as usize)? }
        } else {
            Vec::new()
        };
        self.calls.free_value.call(self.caller.as_context_mut(), buffer)?;
        Ok(found)
    }

    fn values(&mut self, tags: &[u8], list: i32) -> wasmtime::Result<Vec<Value>> {
        let mut values = Vec::with_capacity(tags.len());
        for (i, tag) in tags.iter().enumerate() {
            if *tag == b'0' {
                values.push(Value::Null);
                continue;
            }
            let item = self.calls.get_item.call(self.caller.as_context_mut(), (list, i as i32))?;
            values.push(match tag {
                b'n' => Value::Real(self.calls.get_number.call(self.caller.as_context_mut(), item)?),
                b'i' => {
                    let text = String::from_utf8_lossy(&self.text(item)?).into_owned();
                    Value::Integer(text.parse().map_err(|_| wasmtime::Error::msg("an integer that is none"))?)
                }
                b'b' => Value::Blob(self.blob(item)?),
                _ => Value::Text(well_formed(self.text(item)?)),
            });
            self.calls.free_value.call(self.caller.as_context_mut(), item)?;
        }
        Ok(values)
    }

    /// Space in the guest's memory for so many bytes, until the next use of it.
    fn space(&mut self, bytes: usize) -> Made {
        if bytes > self.room {
            let wanted = bytes.next_power_of_two().max(4096);
            if self.buffer != 0 {
                self.calls.free.call(self.caller.as_context_mut(), self.buffer)?;
                self.room = 0;
            }
            self.buffer = self.calls.malloc.call(self.caller.as_context_mut(), wanted as i32)?;
            if self.buffer == 0 {
                return Err(wasmtime::Trap::AllocationTooLarge.into());
            }
            self.room = wanted;
        }
        Ok(self.buffer)
    }

    fn put(&mut self, bytes: &[u8]) -> Made {
        let at = self.space(bytes.len() + 1)?;
        self.calls.memory.write(self.caller.as_context_mut(), at as u32 as usize, bytes)?;
        Ok(at)
    }

    fn new_text(&mut self, text: &[u8]) -> Made {
        let at = self.put(text)?;
        self.calls.new_string.call(self.caller.as_context_mut(), (at, text.len() as i32))
    }

    fn new_number(&mut self, number: f64) -> Made {
        self.calls.new_number.call(self.caller.as_context_mut(), number)
    }

    fn new_integer(&mut self, number: i64, mode: i32) -> Made {
        if mode == BIGINTS || (mode == MIXED && !is_safe(number)) {
            return self.calls.new_big_int.call(self.caller.as_context_mut(), (number as i32, (number >> 32) as i32));
        }
        self.new_number(number as f64)
    }

    fn new_cell(&mut self, cell: Cell<'_>, mode: i32) -> Made {
        match cell {
            Cell::Null => self.calls.null.call(self.caller.as_context_mut(), ()),
            Cell::Integer(number) => self.new_integer(number, mode),
            Cell::Real(number) => self.new_number(number),
            Cell::Text(text) => match std::str::from_utf8(text) {
                Ok(_) => self.new_text(text),
                Err(_) => self.new_text(String::from_utf8_lossy(text).as_bytes()),
            },
            Cell::Blob(bytes) => {
                let at = self.put(bytes)?;
                self.calls.new_bytes.call(self.caller.as_context_mut(), (at, bytes.len() as i32))
            }
        }
    }

    /// A list of values that it takes.
    fn new_list(&mut self, items: &[i32]) -> Made {
        let list = self.calls.new_array.call(self.caller.as_context_mut(), ())?;
        for (i, item) in items.iter().enumerate() {
            self.add(list, i, *item)?;
        }
        Ok(list)
    }

    fn add(&mut self, list: i32, i: usize, item: i32) -> wasmtime::Result<()> {
        self.calls.set_item.call(self.caller.as_context_mut(), (list, i as i32, item))?;
        self.calls.free_value.call(self.caller.as_context_mut(), item)
    }

    fn new_row(&mut self, statement: &Statement, mode: i32) -> wasmtime::Result<Result<i32, String>> {
        let row = self.calls.new_array.call(self.caller.as_context_mut(), ())?;
        for i in 0..statement.column_count() {
            let cell = statement.cell(i);
            if let Cell::Integer(number) = cell {
                if mode == STRICT && !is_safe(number) {
                    let text = format!("Value is too large to be represented as a JavaScript number: {number}");
                    return Ok(Err(text));
                }
            }
            let item = self.new_cell(cell, mode)?;
            self.add(row, i, item)?;
        }
        Ok(Ok(row))
    }

    fn new_texts(&mut self, texts: &[String]) -> Made {
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            items.push(self.new_text(text.as_bytes())?);
        }
        self.new_list(&items)
    }

    fn new_error(&mut self, error: &SqlError) -> Made {
        let shown = format!("{} {}", error.code, error.message);
        self.new_text(shown.as_bytes())
    }

    fn optional(&mut self, text: Option<&String>) -> Made {
        match text {
            Some(text) => self.new_text(text.as_bytes()),
            None => self.calls.null.call(self.caller.as_context_mut(), ()),
        }
    }

    fn release(&mut self) -> wasmtime::Result<()> {
        if self.buffer != 0 {
            self.calls.free.call(self.caller.as_context_mut(), self.buffer)?;
        }
        Ok(())
    }
}

/// Text as SQLite keeps it: what is no UTF-8, half a character for instance, becomes U+FFFD.
fn well_formed(text: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(text) {
        Ok(text) => text.into_bytes(),
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned().into_bytes(),
    }
}

/// What is done with rows until `max` of them are there.
struct Rows {
    list: i32,
    count: usize,
    failed: Option<wasmtime::Error>,
}

fn collect(guest: &mut Guest<'_, '_>, rows: &mut Rows, statement: &Statement, mode: i32, max: usize) -> Result<bool, String> {
    let done = guest.new_row(statement, mode).and_then(|row| match row {
        Ok(row) => guest.add(rows.list, rows.count, row).map(|()| Ok(())),
        Err(text) => Ok(Err(text)),
    });
    match done {
        Ok(Ok(())) => {
            rows.count += 1;
            Ok(rows.count < max)
        }
        Ok(Err(text)) => Err(text),
        Err(error) => {
            rows.failed = Some(error);
            Err("the guest's memory".into())
        }
    }
}

/// What the guest calls. Without a home (while an image is built) it answers with an error.
pub fn home(mut caller: Caller<'_, Host>, argc: i32, argv: i32) -> Made {
    let Some(calls) = caller.data().calls.clone() else { return Ok(0) };
    // Taken out while it works, so that rows can be put into the guest meanwhile.
    let taken = caller.data_mut().home.take();
    let mut guest = Guest { caller: &mut caller, calls, buffer: 0, room: 0 };
    let Some(mut home) = taken else {
        return guest.new_error(&SqlError::new(21, "an agent has no home while its image is built"));
    };
    let done = answer(&mut guest, &mut home, argc, argv);
    let released = guest.release();
    caller.data_mut().home = Some(home);
    released?;
    done
}

fn answer(guest: &mut Guest<'_, '_>, home: &mut Home, argc: i32, argv: i32) -> Made {
    let mut numbers = [0i32; 3];
    let op = guest.argument(argv, 0)?;
    let op = guest.integer(op)?;
    let mut sql = String::new();
    if argc > 1 {
        let handle = guest.argument(argv, 1)?;
        sql = String::from_utf8_lossy(&guest.text(handle)?).into_owned();
    }
    let mut values = Vec::new();
    if argc > 3 {
        let (tags, list) = (guest.argument(argv, 2)?, guest.argument(argv, 3)?);
        let tags = guest.text(tags)?;
        values = guest.values(&tags, list)?;
    }
    for (i, number) in numbers.iter_mut().enumerate() {
        if argc > 4 + i as i32 {
            let handle = guest.argument(argv, 4 + i as i32)?;
            *number = guest.integer(handle)?;
        }
    }
    let done = perform(guest, home, op, &sql, &values, numbers);
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Trouble::Sql(error))) => guest.new_error(&error),
        Ok(Err(trouble)) => Err(HomeTrouble::from(trouble).into()),
        Err(error) => Err(error),
    }
}

fn perform(
    guest: &mut Guest<'_, '_>,
    home: &mut Home,
    op: i32,
    sql: &str,
    values: &[Value],
    [a, b, c]: [i32; 3],
) -> wasmtime::Result<Result<i32, Trouble>> {
    macro_rules! ok {
        ($done:expr) => {
            match $done {
                Ok(value) => value,
                Err(trouble) => return Ok(Err(trouble)),
            }
        };
    }
    Ok(Ok(match op {
        EXEC => {
            let open = ok!(home.exec(sql));
            guest.new_number(f64::from(u8::from(open)))?
        }
        ABOUT => {
            let Some(about) = ok!(home.about(sql)) else { return Ok(Ok(guest.calls.null.call(guest.caller.as_context_mut(), ())?)) };
            let flags = i32::from(about.readonly) | i32::from(!about.columns.is_empty()) << 1 | i32::from(about.tail) << 2;
            let mut columns = Vec::new();
            for column in &about.columns {
                let items = [
                    guest.new_text(column.name.as_bytes())?,
                    guest.optional(column.origin.as_ref())?,
                    guest.optional(column.table.as_ref())?,
                    guest.optional(column.database.as_ref())?,
                    guest.optional(column.declared.as_ref())?,
                ];
                columns.push(guest.new_list(&items)?);
            }
            let items = [guest.new_number(f64::from(flags))?, guest.new_texts(&about.parameters)?, guest.new_list(&columns)?];
            guest.new_list(&items)?
        }
        RUN => {
            let (ran, open) = ok!(home.run(sql, values));
            let items = [
                guest.new_integer(ran.changes, MIXED)?,
                guest.new_integer(ran.rowid, MIXED)?,
                guest.new_number(f64::from(u8::from(open)))?,
            ];
            guest.new_list(&items)?
        }
        FETCH => {
            let mut rows = Rows { list: guest.new_list(&[])?, count: 0, failed: None };
            let max = a.max(1) as usize;
            let fetched = home.fetch(sql, values, b as u32, max > 1, &mut |statement| collect(guest, &mut rows, statement, c, max));
            if let Some(error) = rows.failed {
                return Err(error);
            }
            let Fetched { cursor, stamp, columns } = ok!(fetched);
            let names = match columns {
                Some(columns) => guest.new_texts(&columns)?,
                None => guest.calls.null.call(guest.caller.as_context_mut(), ())?,
            };
            let open = f64::from(u8::from(home.in_transaction()));
            let items = [
                rows.list,
                guest.new_number(f64::from(cursor))?,
                guest.new_number(f64::from(stamp as i32))?,
                names,
                guest.new_number(open)?,
            ];
            guest.new_list(&items)?
        }
        NEXT => {
            let mut rows = Rows { list: guest.new_list(&[])?, count: 0, failed: None };
            let max = a.max(1) as usize;
            let more = home.next(b as u32, &mut |statement| collect(guest, &mut rows, statement, c, max));
            if let Some(error) = rows.failed {
                return Err(error);
            }
            let more = ok!(more);
            let items = [rows.list, guest.new_number(f64::from(u8::from(more)))?];
            guest.new_list(&items)?
        }
        CLOSE => {
            home.close(b as u32);
            guest.new_number(0.0)?
        }
        END => {
            let open = ok!(home.end_turn());
            guest.new_number(f64::from(u8::from(open)))?
        }
        EXPAND => {
            let shown = ok!(home.expanded(sql, values));
            let item = guest.new_text(shown.as_bytes())?;
            guest.new_list(&[item])?
        }
        _ => guest.new_error(&SqlError::new(21, "no such call of a home"))?,
    }))
}
