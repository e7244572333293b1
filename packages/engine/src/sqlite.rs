//! What all homes share of SQLite: a clock that is the turn's, a cap on what one call may allocate,
//! UTC as the only time zone, and how a connection is opened.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::path::Path;
use std::sync::OnceLock;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{ffi, Connection, OpenFlags};

use crate::statement::{Raw, SqlError};

/// The Julian day number of 1970-01-01, in milliseconds.
const UNIX_EPOCH_JULIAN_MS: i64 = 210_866_760_000_000;
const MS_PER_DAY: f64 = 86_400_000.0;

/// The largest text, blob or row.
const MAX_LENGTH: i32 = 8 << 20;
const MAX_SQL: i32 = 1 << 20;
const MAX_COLUMNS: i32 = 2000;
const MAX_DEPTH: i32 = 200;
const MAX_COMPOUND: i32 = 100;
const MAX_OPS: i32 = 1_000_000;
const MAX_FUNCTION_ARGS: i32 = 100;
const MAX_PATTERN: i32 = 256;
const MAX_VARIABLES: i32 = 32_766;
const MAX_TRIGGER_DEPTH: i32 = 100;

/// Pages kept in memory, in KiB; what is more goes to the write-ahead log and comes back from it.
const CACHE_KIB: i32 = 2048;

thread_local! {
    static CLOCK_MS: Cell<i64> = const { Cell::new(0) };
    static ALLOCATED: Cell<i64> = const { Cell::new(0) };
    static MAY_ALLOCATE: Cell<i64> = const { Cell::new(i64::MAX) };
}

/// Runs `work` with the turn's time as SQLite's clock, and with at most so many bytes more allocated
/// than before; beyond that SQLite is out of memory.
pub fn within<T>(clock_ms: i64, bytes: i64, work: impl FnOnce() -> T) -> T {
    CLOCK_MS.set(clock_ms);
    ALLOCATED.set(0);
    MAY_ALLOCATE.set(bytes);
    let done = work();
    MAY_ALLOCATE.set(i64::MAX);
    done
}

/// Before each allocation stands its size: what the C library would say of it differs from run to run, and
/// the order of SQLite's hash tables, which statements show, depends on it.
const HEADER: usize = 8;

/// Room for `size` bytes at `old`, or anew where that is null.
fn resize(old: *mut c_void, size: c_int) -> *mut c_void {
    let (before, size) = (i64::from(size_of(old)), i64::from(round_up(size)));
    if ALLOCATED.get() - before + size > MAY_ALLOCATE.get() {
        return std::ptr::null_mut();
    }
    // SAFETY: null or an allocation of ours, which stays as it is on failure; the header is inside of it.
    unsafe {
        let start = if old.is_null() { old } else { old.byte_sub(HEADER) };
        let moved = libc::realloc(start, size as usize + HEADER);
        if moved.is_null() {
            return moved;
        }
        moved.cast::<i64>().write(size);
        ALLOCATED.set(ALLOCATED.get() - before + size);
        moved.byte_add(HEADER)
    }
}

extern "C" fn allocate(size: c_int) -> *mut c_void {
    resize(std::ptr::null_mut(), size)
}

extern "C" fn reallocate(at: *mut c_void, size: c_int) -> *mut c_void {
    resize(at, size)
}

extern "C" fn release(at: *mut c_void) {
    if at.is_null() {
        return;
    }
    ALLOCATED.set(ALLOCATED.get() - i64::from(size_of(at)));
    // SAFETY: SQLite frees what it got from `resize`, once.
    unsafe { libc::free(at.byte_sub(HEADER)) }
}

extern "C" fn size_of(at: *mut c_void) -> c_int {
    // SAFETY: null or an allocation of `resize`, behind its header.
    if at.is_null() { 0 } else { unsafe { at.byte_sub(HEADER).cast::<i64>().read() as c_int } }
}

extern "C" fn round_up(size: c_int) -> c_int {
    (size + 7) & !7
}

extern "C" fn start_allocator(_: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

extern "C" fn end_allocator(_: *mut c_void) {}

unsafe extern "C" fn julian_ms(_: *mut ffi::sqlite3_vfs, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = CLOCK_MS.get() + UNIX_EPOCH_JULIAN_MS };
    ffi::SQLITE_OK
}

unsafe extern "C" fn julian_days(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = (CLOCK_MS.get() + UNIX_EPOCH_JULIAN_MS) as f64 / MS_PER_DAY };
    ffi::SQLITE_OK
}

/// The local time of an agent is UTC, whatever the machine's is.
unsafe extern "C" fn utc(time: *const c_void, out: *mut c_void) -> c_int {
    // SAFETY: SQLite passes a `time_t` and a `struct tm`.
    let done = unsafe { libc::gmtime_r(time.cast(), out.cast()) };
    c_int::from(done.is_null())
}

const VFS_NAME: &CStr = c"cardinal";

/// Sets SQLite up for the process, once. Says why if it cannot.
fn set_up() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| {
        let methods: &'static ffi::sqlite3_mem_methods = Box::leak(Box::new(ffi::sqlite3_mem_methods {
            xMalloc: Some(allocate),
            xFree: Some(release),
            xRealloc: Some(reallocate),
            xSize: Some(size_of),
            xRoundup: Some(round_up),
            xInit: Some(start_allocator),
            xShutdown: Some(end_allocator),
            pAppData: std::ptr::null_mut(),
        }));
        // SAFETY: before SQLite is initialised in this process; the methods and the VFS live for ever.
        unsafe {
            let check = |what: &str, code: c_int| {
                if code == ffi::SQLITE_OK { Ok(()) } else { Err(format!("SQLite: {what}: code {code}")) }
            };
            check("allocator", ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, std::ptr::from_ref(methods)))?;
            check("initialise", ffi::sqlite3_initialize())?;
            let standard = ffi::sqlite3_vfs_find(std::ptr::null());
            if standard.is_null() {
                return Err("SQLite: no file system".into());
            }
            let mut ours = Box::new(*standard);
            ours.zName = VFS_NAME.as_ptr();
            ours.pNext = std::ptr::null_mut();
            ours.xCurrentTimeInt64 = Some(julian_ms);
            ours.xCurrentTime = Some(julian_days);
            check("file system", ffi::sqlite3_vfs_register(Box::leak(ours), 0))?;
            let local: unsafe extern "C" fn(*const c_void, *mut c_void) -> c_int = utc;
            check("time zone", ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_LOCALTIME_FAULT, 2 as c_int, local))
        }
    })
    .clone()
}

fn said(error: rusqlite::Error) -> SqlError {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            SqlError::new(code.extended_code, message.unwrap_or_else(|| code.to_string()))
        }
        other => SqlError::new(ffi::SQLITE_ERROR, other.to_string()),
    }
}

/// Opens the file of a home, which exists. Nobody else has it open.
pub fn open(file: &Path) -> Result<Connection, SqlError> {
    set_up().map_err(|why| SqlError::new(ffi::SQLITE_CANTOPEN, why))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags_and_vfs(file, flags, VFS_NAME).map_err(said)?;
    // Nobody else may have it open; who has is not waited for on a turn thread.
    connection.busy_timeout(std::time::Duration::ZERO).map_err(said)?;
    configure(&connection).map_err(said)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        connection.set_db_config(setting, on)?;
    }
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_LENGTH),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL),
        (Limit::SQLITE_LIMIT_COLUMN, MAX_COLUMNS),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, MAX_DEPTH),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, MAX_COMPOUND),
        (Limit::SQLITE_LIMIT_VDBE_OP, MAX_OPS),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, MAX_FUNCTION_ARGS),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, MAX_VARIABLES),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, MAX_TRIGGER_DEPTH),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection.execute_batch(&format!(
        "pragma locking_mode = exclusive; pragma synchronous = normal; pragma wal_autocheckpoint = 0; \
         pragma cache_size = -{CACHE_KIB}; pragma temp_store = memory; pragma mmap_size = 0; pragma secure_delete = on; \
         pragma recursive_triggers = off; pragma automatic_index = on;"
    ))?;
    small_lookaside(Raw::of(connection));
    Ok(())
}

/// A live connection is to cost little.
fn small_lookaside(raw: Raw) {
    raw.lookaside(64, 128);
}

/// The bytes of an empty home: `schema` in a file that begins in write-ahead mode.
pub fn template(schema: &str) -> Result<Vec<u8>, SqlError> {
    set_up().map_err(|why| SqlError::new(ffi::SQLITE_CANTOPEN, why))?;
    let connection = Connection::open_in_memory().map_err(said)?;
    connection.execute_batch("pragma page_size = 4096;").map_err(said)?;
    connection.execute_batch(schema).map_err(said)?;
    let mut bytes = Raw::of(&connection).serialized()?;
    // Bytes 18 and 19 of the header: the versions to write and to read, 2 for write-ahead.
    bytes[18..20].copy_from_slice(&[2, 2]);
    Ok(bytes)
}

impl Raw {
    fn lookaside(self, size: c_int, count: c_int) {
        // SAFETY: a connection that has nothing open yet; SQLite allocates the buffer itself.
        unsafe {
            let none: *mut c_void = std::ptr::null_mut();
            ffi::sqlite3_db_config(self.handle(), ffi::SQLITE_DBCONFIG_LOOKASIDE, none, size, count);
        }
    }

    fn serialized(self) -> Result<Vec<u8>, SqlError> {
        let main = CString::new("main").expect("no zero byte");
        let mut length: ffi::sqlite3_int64 = 0;
        // SAFETY: the buffer is SQLite's, of `length` bytes, copied and freed here.
        unsafe {
            let at = ffi::sqlite3_serialize(self.handle(), main.as_ptr().cast::<c_char>(), &mut length, 0);
            if at.is_null() {
                return Err(self.error());
            }
            let bytes = std::slice::from_raw_parts(at, length as usize).to_vec();
            ffi::sqlite3_free(at.cast());
            Ok(bytes)
        }
    }
}
