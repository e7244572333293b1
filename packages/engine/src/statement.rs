//! One prepared statement, and what a connection can tell: the part of SQLite's C interface that
//! rusqlite does not show as a value that outlives a borrow. All of it is `unsafe` towards C and safe
//! towards its callers, as long as a statement is dropped before its connection.

use std::ffi::{c_char, c_int, CStr};
use std::ptr;

use rusqlite::ffi;

/// A value that a guest binds.
pub enum Value {
    Null,
    Real(f64),
    Integer(i64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// A value of a row, until the next step.
pub enum Cell<'a> {
    Null,
    Real(f64),
    Integer(i64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// What SQLite said: its extended result code and its message.
#[derive(Debug, Clone)]
pub struct SqlError {
    pub code: i32,
    pub message: String,
}

impl SqlError {
    pub fn new(code: i32, message: impl Into<String>) -> SqlError {
        SqlError { code, message: message.into() }
    }

    pub fn primary(&self) -> i32 {
        self.code & 0xff
    }
}

#[derive(Clone, Copy)]
pub struct Raw(*mut ffi::sqlite3);

// SAFETY: a connection is used by one thread at a time; whoever holds a `Raw` holds the home's lock.
unsafe impl Send for Raw {}

impl Raw {
    pub fn of(connection: &rusqlite::Connection) -> Raw {
        // SAFETY: the handle is only used while its connection lives; `Home` drops statements first.
        Raw(unsafe { connection.handle() })
    }

    pub(crate) fn handle(self) -> *mut ffi::sqlite3 {
        self.0
    }

    pub fn error(self) -> SqlError {
        // SAFETY: a live connection; the message is copied at once.
        unsafe {
            let text = CStr::from_ptr(ffi::sqlite3_errmsg(self.0)).to_string_lossy().into_owned();
            SqlError { code: ffi::sqlite3_extended_errcode(self.0), message: text }
        }
    }

    /// Whether no transaction is open.
    pub fn autocommit(self) -> bool {
        // SAFETY: a live connection.
        unsafe { ffi::sqlite3_get_autocommit(self.0) != 0 }
    }

    pub fn changes(self) -> i64 {
        // SAFETY: a live connection.
        unsafe { ffi::sqlite3_changes64(self.0) }
    }

    pub fn total_changes(self) -> i64 {
        // SAFETY: a live connection.
        unsafe { ffi::sqlite3_total_changes64(self.0) }
    }

    pub fn last_rowid(self) -> i64 {
        // SAFETY: a live connection.
        unsafe { ffi::sqlite3_last_insert_rowid(self.0) }
    }

    pub fn set_last_rowid(self, rowid: i64) {
        // SAFETY: a live connection.
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.0, rowid) }
    }

    /// Foreign keys that are violated and checked only at the end of the transaction.
    pub fn deferred_violations(self) -> bool {
        let (mut now, mut peak) = (0, 0);
        // SAFETY: a live connection and two integers.
        unsafe {
            ffi::sqlite3_db_status(self.0, ffi::SQLITE_DBSTATUS_DEFERRED_FKS, &mut now, &mut peak, 0);
        }
        now != 0
    }

    /// The first statement of `sql`, and how many bytes of it were read. None: only space and comments.
    pub fn prepare(self, sql: &str) -> Result<(Option<Statement>, usize), SqlError> {
        let length = c_int::try_from(sql.len()).map_err(|_| SqlError::new(ffi::SQLITE_TOOBIG, "string or blob too big"))?;
        let mut raw = ptr::null_mut();
        let mut tail: *const c_char = ptr::null();
        let start = sql.as_ptr().cast::<c_char>();
        // SAFETY: `sql` is `length` bytes long; both outputs are ours.
        let code = unsafe {
            let flags = ffi::SQLITE_PREPARE_PERSISTENT as u32;
            ffi::sqlite3_prepare_v3(self.0, start, length, flags, &mut raw, &mut tail)
        };
        if code != ffi::SQLITE_OK {
            return Err(self.error());
        }
        // SAFETY: SQLite sets the tail to a place within `sql`.
        let used = if tail.is_null() { sql.len() } else { unsafe { tail.offset_from(start) as usize } };
        let statement = (!raw.is_null()).then(|| Statement { raw, db: self });
        Ok((statement, used))
    }

    /// Runs statements of the kernel's own to their ends.
    pub fn run(self, mut sql: &str) -> Result<(), SqlError> {
        while let (Some(mut statement), used) = self.prepare(sql)? {
            while statement.step()? {}
            sql = &sql[used..];
        }
        Ok(())
    }
}

/// A column of a result, as far as it stands for one of a table.
#[derive(Clone, Default)]
pub struct Column {
    pub name: String,
    pub origin: Option<String>,
    pub table: Option<String>,
    pub database: Option<String>,
    pub declared: Option<String>,
}

pub struct Statement {
    raw: *mut ffi::sqlite3_stmt,
    db: Raw,
}

// SAFETY: as for `Raw`.
unsafe impl Send for Statement {}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: finalised once, before its connection is closed.
        unsafe { ffi::sqlite3_finalize(self.raw) };
    }
}

fn text(at: *const c_char) -> Option<String> {
    // SAFETY: SQLite returns NULL or a string that lives at least until the next call.
    (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned())
}

impl Statement {
    pub fn readonly(&self) -> bool {
        // SAFETY: a live statement, as everywhere below.
        unsafe { ffi::sqlite3_stmt_readonly(self.raw) != 0 }
    }

    /// 0: none; 1: EXPLAIN; 2: EXPLAIN QUERY PLAN.
    pub fn explains(&self) -> i32 {
        // SAFETY: see above.
        unsafe { ffi::sqlite3_stmt_isexplain(self.raw) }
    }

    pub fn column_count(&self) -> usize {
        // SAFETY: see above.
        unsafe { ffi::sqlite3_column_count(self.raw) as usize }
    }

    pub fn column_name(&self, i: usize) -> String {
        // SAFETY: see above; `i` is below the count.
        text(unsafe { ffi::sqlite3_column_name(self.raw, i as c_int) }).unwrap_or_default()
    }

    pub fn column(&self, i: usize) -> Column {
        let at = i as c_int;
        // SAFETY: see above; `i` is below the count.
        unsafe {
            Column {
                name: self.column_name(i),
                origin: text(ffi::sqlite3_column_origin_name(self.raw, at)),
                table: text(ffi::sqlite3_column_table_name(self.raw, at)),
                database: text(ffi::sqlite3_column_database_name(self.raw, at)),
                declared: text(ffi::sqlite3_column_decltype(self.raw, at)),
            }
        }
    }

    /// The names of its parameters; empty for one without.
    pub fn parameters(&self) -> Vec<String> {
        // SAFETY: see above.
        let count = unsafe { ffi::sqlite3_bind_parameter_count(self.raw) };
        (1..=count)
            // SAFETY: numbered from 1 to the count.
            .map(|i| text(unsafe { ffi::sqlite3_bind_parameter_name(self.raw, i) }).unwrap_or_default())
            .collect()
    }

    /// Binds a value to the parameter of this number, counted from 1.
    pub fn bind(&mut self, number: usize, value: &Value) -> Result<(), SqlError> {
        let at = number as c_int;
        let copy = ffi::SQLITE_TRANSIENT();
        // SAFETY: texts and blobs are copied by SQLite before these calls return.
        let code = unsafe {
            match value {
                Value::Null => ffi::sqlite3_bind_null(self.raw, at),
                Value::Real(number) => ffi::sqlite3_bind_double(self.raw, at, *number),
                Value::Integer(number) => ffi::sqlite3_bind_int64(self.raw, at, *number),
                Value::Text(bytes) => {
                    let utf8 = ffi::SQLITE_UTF8 as u8;
                    ffi::sqlite3_bind_text64(self.raw, at, bytes.as_ptr().cast(), bytes.len() as u64, copy, utf8)
                }
                Value::Blob(bytes) if bytes.is_empty() => ffi::sqlite3_bind_zeroblob(self.raw, at, 0),
                Value::Blob(bytes) => {
                    ffi::sqlite3_bind_blob64(self.raw, at, bytes.as_ptr().cast(), bytes.len() as u64, copy)
                }
            }
        };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(self.db.error()) }
    }

    /// Whether there is a row.
    pub fn step(&mut self) -> Result<bool, SqlError> {
        // SAFETY: see above.
        match unsafe { ffi::sqlite3_step(self.raw) } {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            _ => Err(self.db.error()),
        }
    }

    pub fn cell(&self, i: usize) -> Cell<'_> {
        let at = i as c_int;
        // SAFETY: there is a row; what is pointed to lives until the next step, as does the borrow.
        unsafe {
            let bytes = |start: *const u8| {
                let length = ffi::sqlite3_column_bytes(self.raw, at) as usize;
                if start.is_null() { &[][..] } else { std::slice::from_raw_parts(start, length) }
            };
            match ffi::sqlite3_column_type(self.raw, at) {
                ffi::SQLITE_INTEGER => Cell::Integer(ffi::sqlite3_column_int64(self.raw, at)),
                ffi::SQLITE_FLOAT => Cell::Real(ffi::sqlite3_column_double(self.raw, at)),
                ffi::SQLITE_TEXT => Cell::Text(bytes(ffi::sqlite3_column_text(self.raw, at))),
                ffi::SQLITE_BLOB => Cell::Blob(bytes(ffi::sqlite3_column_blob(self.raw, at).cast())),
                _ => Cell::Null,
            }
        }
    }

    /// Steps of SQLite's machine since this was last asked.
    pub fn steps(&self) -> u64 {
        // SAFETY: see above.
        unsafe { ffi::sqlite3_stmt_status(self.raw, ffi::SQLITE_STMTSTATUS_VM_STEP, 1).max(0) as u64 }
    }

    /// Back to its beginning, with nothing bound.
    pub fn reset(&mut self) {
        // SAFETY: see above. Its error is that of the last step, which was already told.
        unsafe {
            ffi::sqlite3_reset(self.raw);
            ffi::sqlite3_clear_bindings(self.raw);
        }
    }

    /// Its text with what is bound written in.
    pub fn expanded(&self) -> String {
        // SAFETY: the string is ours and freed by SQLite's own function.
        unsafe {
            let at = ffi::sqlite3_expanded_sql(self.raw);
            let shown = text(at).unwrap_or_default();
            ffi::sqlite3_free(at.cast());
            shown
        }
    }
}
