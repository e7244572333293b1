//! A home: the SQLite file of one agent, as its turns see it.
//!
//! All turns since the last pair run inside one open transaction; what a guest takes for transactions
//! are savepoints in it. `commit` ends it together with the agent's memory: rows and memory are one
//! pair. Whoever drops a home without that has rolled it back.
//!
//! Nothing that a guest sees lives in the connection: counters, cursors and transactions begin anew
//! with each turn. What stops a statement without being a pure function of what guests did is told to
//! the caller as (call, row), and repeated as told.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::OnceLock;

use rusqlite::ffi;
use sha2::{Digest, Sha256};

use crate::connection::{open_connection, pages_of, read_pair, Open, Prepared};
use crate::portable;
use crate::running::{bind, spent, SPENT};
use crate::{sqlite, sys};
use crate::statement::{Cell, Column, SqlError, Statement, Value};
use crate::transaction::{Transaction, TRANSACTION};

pub const PAGE: u64 = 4096;
const FORMAT: i64 = 1;
const MAX_CURSORS: usize = 64;
/// More stops than this in one turn, and it has failed: its program does not listen.
pub const MAX_STOPS: usize = 16;
/// What one call may allocate. A repetition may take more: it must not stop where the first did not.
pub const CALL_BYTES: i64 = 256 << 20;
const REPEAT_BYTES: i64 = 384 << 20;
const REPEAT_STEPS: u64 = 20;

pub const SCHEMA: &str = "
    pragma application_id = 1128353348;
    create table _cardinal_pair(id integer primary key check(id = 1), format integer not null, seq integer not null,
        hash blob not null, bytes blob not null);
    create view _cardinal_schema as select type, name, tbl_name, 0 as rootpage, sql from sqlite_master
        where lower(substr(tbl_name, 1, 9)) <> '_cardinal';
";

/// Savepoint of the kernel around one statement.
pub const AROUND: [&str; 3] =
    ["savepoint _cardinal_call", "release _cardinal_call", "rollback to _cardinal_call"];

/// What one turn may take.
#[derive(Clone, Copy, Default)]
pub struct Bounds {
    pub steps: u64,
    /// Bytes that tables, files and indexes may take.
    pub quota: u64,
}

/// Why a call did not do what it should.
pub enum Trouble {
    /// The program sees it as an exception, and goes on.
    Sql(SqlError),
    /// The turn fails.
    Turn { kind: &'static str, detail: String },
    /// The host's doing: the attempt never happened.
    Host(String),
}

impl From<SqlError> for Trouble {
    fn from(error: SqlError) -> Trouble {
        Trouble::Sql(error)
    }
}

pub type Done<T> = Result<T, Trouble>;

/// A stop that must be repeated where it was: the call of the turn, the row of the call, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    pub call: u32,
    pub row: u32,
    pub kind: StopKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopKind {
    /// Steps or memory were spent.
    Spent,
    /// The quota was reached.
    Full,
}

/// What a turn says of its home.
#[derive(Default)]
pub struct TurnReport {
    pub calls: u32,
    /// SHA-256 over what every call answered.
    pub digest: Vec<u8>,
    pub stops: Vec<Stop>,
}

pub struct Pair {
    pub seq: i64,
    pub hash: Vec<u8>,
    pub bytes: Vec<u8>,
}

/// What a program is told of a statement.
pub struct About {
    pub readonly: bool,
    pub tail: bool,
    pub parameters: Vec<String>,
    pub columns: Vec<Column>,
}

pub struct Ran {
    pub changes: i64,
    pub rowid: i64,
}

/// Who takes rows; false: no more for now.
pub type Sink<'a> = dyn FnMut(&Statement) -> Result<bool, String> + 'a;

/// The cursor that holds the rest, if there is one; the stamp of the column names, and they themselves
/// if the caller knew another stamp.
pub struct Fetched {
    pub cursor: u32,
    pub stamp: u32,
    pub columns: Option<Vec<String>>,
}

#[derive(Default)]
pub struct Turn {
    pub clock_ms: i64,
    pub seed: [u8; 32],
    pub bounds: Bounds,
    pub calls: u32,
    pub row: u32,
    pub next_cursor: u32,
    pub digest: Sha256,
    pub stops: Vec<Stop>,
    /// Recorded stops that are still to come; undefined in a turn that happens for the first time.
    pub repeat: Option<VecDeque<Stop>>,
    pub wrote: bool,
}

pub struct Home {
    pub file: PathBuf,
    open: Option<Open>,
    /// The entry of the pair that the file holds, as far as it is known.
    paired: Option<i64>,
    /// It is closed, and holds that pair: whoever comes next opens it again.
    parked: bool,
    pub turn: Turn,
    pub transaction: Transaction,
}

/// Failures of the disk begin otherwise than those that a guest may have brought about.
pub const OF_DISK: &str = "home: the disk: ";

fn of_disk(error: &SqlError) -> bool {
    [ffi::SQLITE_IOERR, ffi::SQLITE_CANTOPEN, ffi::SQLITE_READONLY, ffi::SQLITE_BUSY].contains(&error.primary())
}

pub fn told(what: &str, error: &SqlError) -> String {
    let begin = if of_disk(error) { OF_DISK } else { "home: " };
    format!("{begin}{what}: {} (SQLite code {})", error.message, error.code)
}

pub fn host(what: &str, error: &SqlError) -> Trouble {
    Trouble::Host(told(what, error))
}

/// Whether the machine failed and not the statement.
pub fn of_machine(error: &SqlError) -> bool {
    let plain_corrupt = [ffi::SQLITE_CORRUPT, ffi::SQLITE_CORRUPT_INDEX].contains(&error.code);
    plain_corrupt
        || [ffi::SQLITE_IOERR, ffi::SQLITE_CANTOPEN, ffi::SQLITE_NOTADB, ffi::SQLITE_PROTOCOL, ffi::SQLITE_BUSY, ffi::SQLITE_READONLY]
            .contains(&error.primary())
}

/// Whether what lies in a file is no home, or half of one.
fn is_broken(error: &SqlError) -> bool {
    [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_ERROR].contains(&error.primary())
        || error.code == ffi::SQLITE_IOERR_SHORT_READ
}

pub fn wal_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Removes a home, its log first: a file without its log is no home.
pub fn remove(file: &Path) -> std::io::Result<()> {
    for path in [wal_of(file), file.to_owned()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Home {
    /// A home that has no file yet, or whose file is not looked at yet.
    pub fn new(file: PathBuf) -> Home {
        Home { file, open: None, paired: None, parked: false, turn: Turn::default(), transaction: Transaction::default() }
    }

    /// A file that was just made, without a pair.
    pub fn over(file: PathBuf) -> Result<Home, SqlError> {
        let open = open_connection(&file)?;
        Ok(Home { open: Some(open), ..Home::new(file) })
    }

    /// Opens what is there and reads its pair. None: there is no home, or only half of one, which is
    /// removed: it is made again from the log.
    pub fn find(file: PathBuf) -> Result<(Home, Option<Pair>), String> {
        let mut home = Home::new(file.clone());
        if !file.exists() || !wal_of(&file).exists() {
            remove(&file).map_err(|e| format!("home: {e}"))?;
            return Ok((home, None));
        }
        match open_connection(&file).and_then(|mut open| read_pair(&mut open).map(|pair| (open, pair))) {
            Ok((open, Some(pair))) => {
                home.open = Some(open);
                home.paired = Some(pair.seq);
                Ok((home, Some(pair)))
            }
            Ok((_, None)) => home.discard().map(|()| (home, None)).map_err(|e| format!("home: {e}")),
            // The log has everything that was in it.
            Err(error) if is_broken(&error) => home.discard().map(|()| (home, None)).map_err(|e| format!("home: {e}")),
            // It may be whole: somebody else has it open, or the disk does not answer.
            Err(error) => Err(told("open", &error)),
        }
    }

    /// Closes and removes it.
    pub fn discard(&mut self) -> std::io::Result<()> {
        self.open = None;
        remove(&self.file)
    }

    /// A turn begins; `repeat` are the stops of one that is repeated.
    pub fn begin_turn(&mut self, clock_ms: f64, seed: &[u8; 32], bounds: Bounds, repeat: Option<Vec<Stop>>) {
        let repeat = repeat.map(VecDeque::from);
        self.turn = Turn { clock_ms: clock_ms as i64, seed: *seed, bounds, repeat, ..Turn::default() };
    }

    /// The turn has ended, or its program says that it is about to. Whether a transaction was open: it is
    /// rolled back.
    pub fn end_turn(&mut self) -> Done<bool> {
        let Some(open) = &mut self.open else { return Ok(false) };
        open.cursors.clear();
        let was_open = self.transaction.open;
        if was_open {
            open.forget_tables();
            open.kernel_run(TRANSACTION[2]).map_err(|e| host("roll back", &e))?;
            open.kernel_run(TRANSACTION[1]).map_err(|e| host("roll back", &e))?;
            open.reset_deferring().map_err(|e| host("reset", &e))?;
            self.transaction = Transaction::default();
        }
        if std::mem::take(&mut self.turn.wrote) {
            // Full-text indexes write what they hold back when a savepoint begins: at every end of a turn,
            // whether the agent is then suspended or not.
            open.kernel_run(AROUND[0]).map_err(|e| host("flush", &e))?;
            open.kernel_run(AROUND[1]).map_err(|e| host("flush", &e))?;
        }
        Ok(was_open)
    }

    pub fn report(&mut self) -> TurnReport {
        let turn = std::mem::take(&mut self.turn);
        if turn.calls == 0 {
            return TurnReport::default();
        }
        TurnReport { calls: turn.calls, digest: turn.digest.finalize().to_vec(), stops: turn.stops }
    }

    /// Makes rows and memory one pair, durable at the next checkpoint. Returns the length of the log in
    /// bytes.
    pub fn commit(&mut self, pair: &Pair) -> Result<u64, String> {
        let done = self.commit_pair(pair);
        if done.is_err() {
            // Nobody knows what of it is there: it is read anew.
            self.open = None;
        }
        done.map_err(|e| {
            let full = e.primary() == ffi::SQLITE_FULL && sys::disk_is_full(&self.file);
            if full { format!("{OF_DISK}it is full") } else { told("commit", &e) }
        })?;
        Ok(fs::metadata(wal_of(&self.file)).map_or(0, |m| m.len()))
    }

    fn commit_pair(&mut self, pair: &Pair) -> Result<(), SqlError> {
        self.reopen()?;
        let open = self.open.as_mut().ok_or_else(|| SqlError::new(ffi::SQLITE_MISUSE, "a home without a file"))?;
        open.begin()?;
        let sql = "insert or replace into _cardinal_pair(id, format, seq, hash, bytes) values(1, ?, ?, ?, ?)";
        let values =
            [Value::Integer(FORMAT), Value::Integer(pair.seq), Value::Blob(pair.hash.clone()), Value::Blob(pair.bytes.clone())];
        open.as_kernel(|open| {
            let statement = open.kernel_statement(sql)?;
            for (i, value) in values.iter().enumerate() {
                statement.bind(i + 1, value)?;
            }
            let done = statement.step();
            statement.reset();
            done.map(|_| ())
        })?;
        open.kernel_run("commit")?;
        open.began = false;
        open.pair_pages = pages_of(pair.bytes.len());
        self.paired = Some(pair.seq);
        Ok(())
    }

    /// Closes the file until somebody needs it. Only between a commit and the next turn.
    pub fn park(&mut self) {
        if self.paired.is_some() && self.open.as_ref().is_some_and(|open| !open.began) {
            self.open = None;
            self.parked = true;
        }
    }

    fn reopen(&mut self) -> Result<(), SqlError> {
        if !self.parked {
            return Ok(());
        }
        let mut open = open_connection(&self.file)?;
        if read_pair(&mut open)?.map(|pair| pair.seq) != self.paired {
            return Err(SqlError::new(ffi::SQLITE_CORRUPT, "the file is not as it was left"));
        }
        self.open = Some(open);
        self.parked = false;
        Ok(())
    }

    /// Moves the log into the file. Only between a commit and the next turn.
    pub fn checkpoint(&mut self) -> Result<(), String> {
        let Some(open) = self.open.as_mut().filter(|open| !open.began) else { return Ok(()) };
        open.prepared.clear();
        open.kernel.clear();
        open.kernel_run("pragma wal_checkpoint(truncate)").map_err(|e| told("checkpoint", &e))
    }

    /// Writes what the guest has stored into a file. Only between a commit and the next turn.
    pub fn export(&mut self, to: &Path) -> Result<(), String> {
        self.reopen().map_err(|e| told("open", &e))?;
        let open = self.open.as_mut().filter(|open| !open.began).ok_or("home: export: nothing is committed")?;
        portable::export(open, to)
    }

    /// What the file holds wrongly, by SQLite's own check; empty: nothing.
    pub fn check(&mut self) -> Result<Vec<String>, String> {
        self.reopen().map_err(|e| told("open", &e))?;
        let Some(open) = self.open.as_mut() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        open.as_kernel(|open| {
            let statement = open.kernel_statement("pragma integrity_check")?;
            while statement.step()? {
                if let Cell::Text(text) = statement.cell(0) {
                    found.push(String::from_utf8_lossy(text).into_owned());
                }
            }
            statement.reset();
            Ok(())
        })
        .map_err(|e: SqlError| told("check", &e))?;
        found.retain(|line| line != "ok");
        Ok(found)
    }

    fn open_file(&mut self) -> Done<&mut Open> {
        if self.open.is_none() {
            self.open = Some(open_connection(&self.file).map_err(|e| host("open", &e))?);
        }
        Ok(self.open.as_mut().expect("just set"))
    }

    fn create_if_missing(&mut self) -> Done<()> {
        self.reopen().map_err(|e| host("open", &e))?;
        if self.open.is_some() {
            return Ok(());
        }
        static TEMPLATE: OnceLock<Result<Vec<u8>, SqlError>> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| sqlite::template(SCHEMA)).as_ref().map_err(|e| host("template", e))?;
        let file = &self.file;
        // Whoever comes here knows of no pair: what lies there was never finished.
        let made = remove(file)
            .and_then(|()| file.parent().map_or(Ok(()), fs::create_dir_all))
            .and_then(|()| fs::write(file, template));
        made.map_err(|e| Trouble::Host(format!("{OF_DISK}{e}")))?;
        self.open_file().map(|_| ())
    }

    /// Everything that a guest calls goes through here: one call, counted, with its clock, draws and bounds.
    fn call<T>(&mut self, act: impl FnOnce(&mut Home) -> Done<T>) -> Done<T> {
        self.create_if_missing()?;
        let first = self.turn.calls == 0;
        self.turn.calls += 1;
        self.turn.row = 0;
        let open = self.open.as_mut().expect("just made");
        let repeats = self.turn.repeat.is_some();
        if first {
            let times = if repeats { REPEAT_STEPS } else { 1 };
            open.meter.fill(self.turn.bounds.steps.saturating_mul(times));
            // What happened once fits again, whatever the bound is now.
            let quota = if repeats { u64::from(u32::MAX) * PAGE / 2 } else { self.turn.bounds.quota };
            open.bound(quota).map_err(|e| host("bound", &e))?;
            open.forget_counters().map_err(|e| host("begin", &e))?;
        }
        open.scope.draws.lock().expect("draws").begin(&self.turn.seed, self.turn.calls);
        open.meter.begin_call();
        let bytes = if repeats { REPEAT_BYTES } else { CALL_BYTES };
        let done = sqlite::within(self.turn.clock_ms, bytes, || {
            self.require_steps()?;
            // Reading the names of tables for the first time takes steps too.
            match act(self) {
                Err(Trouble::Sql(error)) if error.primary() == ffi::SQLITE_INTERRUPT && error.message != SPENT => {
                    self.note_stop(StopKind::Spent)?;
                    Err(spent().into())
                }
                done => done,
            }
        });
        if let Some(open) = &self.open {
            open.meter.end_call();
        }
        let digest = &mut self.turn.digest;
        if let Err(Trouble::Sql(error)) = &done {
            digest.update([b'e']);
            digest.update(error.code.to_le_bytes());
            digest.update((error.message.len() as u32).to_le_bytes());
            digest.update(error.message.as_bytes());
        }
        done
    }

    /// Runs every statement of `sql`. Whether a transaction of the guest is open afterwards.
    pub fn exec(&mut self, sql: &str) -> Done<bool> {
        self.call(|home| {
            let mut rest = sql;
            while !rest.trim_start().is_empty() {
                let used = home.exec_first(rest)?;
                rest = &rest[used..];
            }
            home.answered(&[i64::from(home.transaction.open)]);
            Ok(home.transaction.open)
        })
    }

    fn exec_first(&mut self, sql: &str) -> Done<usize> {
        let (prepared, used) = self.open_ref().prepare(sql)?;
        if let Some(mut prepared) = prepared {
            self.run_all(&mut prepared, &[], &mut |_| Ok(true))?;
            self.turn.row += 1;
        }
        Ok(used.max(1))
    }

    pub fn about(&mut self, sql: &str) -> Done<Option<About>> {
        self.call(|home| {
            let open = home.open_ref();
            let Some(prepared) = open.take(sql)? else {
                home.answered(&[]);
                return Ok(None);
            };
            let statement = &prepared.statement;
            let about = About {
                readonly: statement.readonly() && prepared.control.is_none(),
                tail: prepared.tail,
                parameters: statement.parameters(),
                columns: (0..statement.column_count()).map(|i| statement.column(i)).collect(),
            };
            open.keep(sql, prepared);
            home.answered(&[i64::from(about.readonly), i64::from(about.tail), about.columns.len() as i64]);
            for column in &about.columns {
                home.turn.digest.update(column.name.as_bytes());
                home.turn.digest.update([0]);
            }
            Ok(Some(about))
        })
    }

    /// Runs one statement to its end.
    pub fn run(&mut self, sql: &str, values: &[Value]) -> Done<(Ran, bool)> {
        self.call(|home| {
            let Some(mut prepared) = home.open_ref().take(sql)? else { return Err(nothing()) };
            let done = home.run_all(&mut prepared, values, &mut |_| Ok(true));
            let open = home.open_ref();
            prepared.statement.reset();
            let ran = Ran { changes: open.scope.changes.load(Relaxed), rowid: open.raw.last_rowid() };
            open.keep(sql, prepared);
            done?;
            home.answered(&[ran.changes, ran.rowid]);
            Ok((ran, home.transaction.open))
        })
    }

    /// The first rows of a statement, as many as `sink` wants; where `rest` is wanted, a cursor holds what is
    /// left. `known` is the stamp of the column names that the caller has.
    pub fn fetch(&mut self, sql: &str, values: &[Value], known: u32, rest: bool, sink: &mut Sink<'_>) -> Done<Fetched> {
        self.call(|home| {
            let Some(mut prepared) = home.open_ref().take(sql)? else { return Err(nothing()) };
            let done = home.run_all(&mut prepared, values, sink);
            let more = match &done {
                Ok(more) => *more && rest,
                Err(_) => false,
            };
            // A schema that has changed since changes names only once the statement has stepped.
            prepared.look_at_columns();
            let stamp = prepared.stamp;
            let columns = (stamp != known).then(|| prepared.columns.clone());
            let mut cursor = 0;
            if more {
                cursor = home.put_cursor(prepared)?;
            } else {
                prepared.statement.reset();
                home.open_ref().keep(sql, prepared);
            }
            done?;
            home.answered(&[i64::from(cursor), i64::from(stamp)]);
            Ok(Fetched { cursor, stamp, columns })
        })
    }

    fn put_cursor(&mut self, prepared: Prepared) -> Done<u32> {
        if self.open_ref().cursors.len() >= MAX_CURSORS {
            let text = format!("{MAX_CURSORS} iterators are open in this turn; end some");
            return Err(SqlError::new(ffi::SQLITE_BUSY_SNAPSHOT, text).into());
        }
        self.turn.next_cursor += 1;
        let cursor = self.turn.next_cursor;
        self.open_ref().cursors.insert(cursor, prepared);
        Ok(cursor)
    }

    /// The next rows of a cursor. Whether there are more.
    pub fn next(&mut self, cursor: u32, sink: &mut Sink<'_>) -> Done<bool> {
        self.call(|home| {
            let Some(mut prepared) = home.open_ref().cursors.remove(&cursor) else {
                let text = "an iterator ends with the turn in which it began: it was open at an await";
                return Err(SqlError::new(ffi::SQLITE_MISUSE, text).into());
            };
            home.open_ref().enter(&prepared);
            let more = home.rows(&mut prepared, sink)?;
            if more {
                home.open_ref().cursors.insert(cursor, prepared);
            }
            home.answered(&[i64::from(more)]);
            Ok(more)
        })
    }

    pub fn close(&mut self, cursor: u32) {
        if let Some(open) = &mut self.open {
            open.cursors.remove(&cursor);
        }
    }

    pub fn expanded(&mut self, sql: &str, values: &[Value]) -> Done<String> {
        self.call(|home| {
            let Some(mut prepared) = home.open_ref().take(sql)? else { return Err(nothing()) };
            let bound = bind(&mut prepared.statement, values);
            let shown = prepared.statement.expanded();
            prepared.statement.reset();
            home.open_ref().keep(sql, prepared);
            bound?;
            home.turn.digest.update(shown.as_bytes());
            Ok(shown)
        })
    }

    /// Reads for an operator, outside of any turn: nothing but rows comes of it.
    pub fn read(&mut self, sql: &str, steps: u64, clock_ms: f64, sink: &mut Sink<'_>) -> Done<Vec<String>> {
        self.reopen().map_err(|e| host("open", &e))?;
        let Some(open) = self.open.as_mut() else { return Err(SqlError::new(1, "the agent has stored nothing").into()) };
        open.meter.fill(steps);
        open.meter.begin_call();
        open.scope.draws.lock().expect("draws").begin(&[0; 32], 0);
        let done = sqlite::within(clock_ms as i64, CALL_BYTES, || {
            let (prepared, _) = open.prepare(sql)?;
            let Some(mut prepared) = prepared else { return Err(nothing()) };
            if prepared.tail {
                return Err(SqlError::new(1, "one statement at a time").into());
            }
            if prepared.control.is_some() || !prepared.statement.readonly() || prepared.statement.explains() == 1 {
                return Err(SqlError::new(ffi::SQLITE_READONLY, "an operator reads; this statement would write").into());
            }
            while prepared.statement.step()? {
                if !sink(&prepared.statement).map_err(Trouble::Host)? {
                    break;
                }
            }
            Ok(prepared.columns)
        });
        open.meter.end_call();
        open.reset_deferring().map_err(|e| host("reset", &e))?;
        match done {
            Err(Trouble::Sql(error)) if of_machine(&error) && error.primary() != ffi::SQLITE_READONLY => Err(host("read", &error)),
            other => other,
        }
    }

    pub fn open_ref(&mut self) -> &mut Open {
        self.open.as_mut().expect("a call opens it")
    }

    /// Into the digest of what the turn was answered.
    fn answered(&mut self, numbers: &[i64]) {
        let digest = &mut self.turn.digest;
        digest.update([b'a', numbers.len() as u8]);
        for number in numbers {
            digest.update(number.to_le_bytes());
        }
    }
}

fn nothing() -> Trouble {
    SqlError::new(ffi::SQLITE_MISUSE, "the SQL holds no statement").into()
}
