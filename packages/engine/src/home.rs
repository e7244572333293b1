//! A home: the SQLite file of one agent, as its turns see it.
//!
//! All turns since the last pair run inside one open transaction; what a guest takes for transactions
//! are savepoints in it. `commit` ends it together with the agent's memory: rows and memory are one
//! pair. Whoever drops a home without that has rolled it back.
//!
//! Nothing that a guest sees lives in the connection: counters, cursors and transactions begin anew
//! with each turn. What stops a statement without being a pure function of what guests did is told to
//! the caller as (call, row), and repeated as told.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use rusqlite::{ffi, Connection};
use sha2::{Digest, Sha256};

use crate::authorizer::{self, Control, Preparing};
use crate::functions::{self, Scope};
use crate::meter::{Meter, STEPS_A_LOOK};
use crate::names::{self, RESERVED};
use crate::rowids::Rowids;
use crate::sqlite;
use crate::statement::{Cell, Column, Raw, SqlError, Statement, Value};

pub const PAGE: u64 = 4096;
const FORMAT: i64 = 1;
const STATEMENTS_KEPT: usize = 32;
const MAX_CURSORS: usize = 64;
/// More stops than this in one turn, and it has failed: its program does not listen.
const MAX_STOPS: usize = 16;
/// What one call may allocate. A repetition may take more: it must not stop where the first did not.
const CALL_BYTES: i64 = 256 << 20;
const REPEAT_BYTES: i64 = 384 << 20;
const REPEAT_STEPS: u64 = 20;
/// Room beyond the quota, in pages, before SQLite itself says that the file is full.
const SPARE_PAGES: u64 = 1024;

const SCHEMA: &str = "
    pragma application_id = 1128353348;
    create table _cardinal_pair(id integer primary key check(id = 1), format integer not null, seq integer not null,
        hash blob not null, bytes blob not null);
    create view _cardinal_schema as select type, name, tbl_name, 0 as rootpage, sql from sqlite_master
        where lower(substr(tbl_name, 1, 9)) <> '_cardinal';
";

/// Savepoint of the kernel around one statement, and around what the guest takes for a transaction.
const AROUND: [&str; 3] =
    ["savepoint _cardinal_call", "release _cardinal_call", "rollback to _cardinal_call"];
const TRANSACTION: [&str; 3] =
    ["savepoint _cardinal_transaction", "release _cardinal_transaction", "rollback to _cardinal_transaction"];

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

type Done<T> = Result<T, Trouble>;

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
    /// Steps that it took: what a repetition costs.
    pub steps: u64,
}

pub struct Pair {
    pub seq: i64,
    pub hash: Vec<u8>,
    pub bytes: Vec<u8>,
}

/// A statement that was prepared before, and what is known of it.
struct Prepared {
    statement: Statement,
    control: Option<Control>,
    names_layout: bool,
    /// Tables that it puts rows into.
    inserts: Vec<String>,
    /// It changes what tables there are.
    defines: bool,
    columns: Vec<String>,
    /// Changes with the names of its columns.
    stamp: u32,
    tail: bool,
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

struct Open {
    // Statements are dropped before their connection.
    cursors: HashMap<u32, Prepared>,
    prepared: Vec<(String, Prepared)>,
    kernel: HashMap<&'static str, Statement>,
    raw: Raw,
    preparing: Arc<Mutex<Preparing>>,
    rowids: Arc<Rowids>,
    scope: Arc<Scope>,
    meter: Arc<Meter>,
    /// The kernel's transaction is open.
    began: bool,
    /// Pages that the pair takes.
    pair_pages: u64,
    /// Beyond which SQLite itself says that the file is full.
    max_pages: u64,
    _connection: Connection,
}

/// What the guest takes for its transaction: its savepoints by name, the outermost first.
#[derive(Default)]
struct Transaction {
    open: bool,
    /// Begun by SAVEPOINT: releasing the outermost one commits.
    implicit: bool,
    names: Vec<String>,
}

#[derive(Default)]
struct Turn {
    clock_ms: i64,
    seed: [u8; 32],
    bounds: Bounds,
    calls: u32,
    row: u32,
    next_cursor: u32,
    digest: Sha256,
    stops: Vec<Stop>,
    /// Recorded stops that are still to come; undefined in a turn that happens for the first time.
    repeat: Option<VecDeque<Stop>>,
    wrote: bool,
}

pub struct Home {
    file: PathBuf,
    open: Option<Open>,
    turn: Turn,
    transaction: Transaction,
}

fn lost(error: &SqlError) -> Trouble {
    Trouble::Turn {
        kind: "TransactionLost",
        detail: format!("a statement ended more than itself ({}); OR ROLLBACK and RAISE(ROLLBACK) do that", error.message),
    }
}

fn host(what: &str, error: &SqlError) -> Trouble {
    Trouble::Host(format!("home: {what}: {} (SQLite code {})", error.message, error.code))
}

/// Whether the machine failed and not the statement.
fn of_machine(error: &SqlError) -> bool {
    let plain_corrupt = [ffi::SQLITE_CORRUPT, ffi::SQLITE_CORRUPT_INDEX].contains(&error.code);
    plain_corrupt
        || [ffi::SQLITE_IOERR, ffi::SQLITE_CANTOPEN, ffi::SQLITE_NOTADB, ffi::SQLITE_PROTOCOL, ffi::SQLITE_BUSY, ffi::SQLITE_READONLY]
            .contains(&error.primary())
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
        Home { file, open: None, turn: Turn::default(), transaction: Transaction::default() }
    }

    /// Opens what is there and reads its pair. None: there is no home, or only half of one, which is
    /// removed: it is made again from the log.
    pub fn find(file: PathBuf) -> Result<(Home, Option<Pair>), String> {
        let mut home = Home::new(file.clone());
        if !file.exists() || !wal_of(&file).exists() {
            remove(&file).map_err(|e| format!("home: {e}"))?;
            return Ok((home, None));
        }
        let found = home.open_file().and_then(|open| read_pair(open).map_err(|e| host("read the pair", &e)));
        match found {
            Ok(Some(pair)) => Ok((home, Some(pair))),
            Ok(None) => {
                home.discard().map_err(|e| format!("home: {e}"))?;
                Ok((home, None))
            }
            Err(Trouble::Host(why)) => {
                // Whatever is wrong with it: the log has everything. But an error of the disk is no reason.
                if why.contains("(SQLite code 10)") || why.contains("(SQLite code 14)") {
                    return Err(why);
                }
                home.discard().map_err(|e| format!("home: {e}"))?;
                Ok((home, None))
            }
            Err(_) => Err("home: a pair that cannot be read".into()),
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
            open.rowids.forget();
            open.kernel_run(TRANSACTION[2]).map_err(|e| host("roll back", &e))?;
            open.kernel_run(TRANSACTION[1]).map_err(|e| host("roll back", &e))?;
            self.transaction = Transaction::default();
        }
        if std::mem::take(&mut self.turn.wrote) {
            // Full-text indexes write what they hold back when a savepoint begins: at every end of a turn,
            // whether the agent is then suspended or not.
            open.kernel_run(AROUND[0]).map_err(|e| host("flush", &e))?;
            open.kernel_run(AROUND[1]).map_err(|e| host("flush", &e))?;
            open.kernel_run("pragma defer_foreign_keys = off").map_err(|e| host("reset", &e))?;
        }
        Ok(was_open)
    }

    pub fn report(&mut self) -> TurnReport {
        let turn = std::mem::take(&mut self.turn);
        if turn.calls == 0 {
            return TurnReport::default();
        }
        let steps = self.open.as_ref().map_or(0, |open| open.meter.taken());
        TurnReport { calls: turn.calls, digest: turn.digest.finalize().to_vec(), stops: turn.stops, steps }
    }

    /// Makes rows and memory one pair, durable at the next checkpoint. Returns the length of the log in
    /// bytes.
    pub fn commit(&mut self, pair: &Pair) -> Result<u64, String> {
        let done = self.commit_pair(pair);
        if done.is_err() {
            // Nobody knows what of it is there: it is read anew.
            self.open = None;
        }
        done.map_err(|e| format!("home: commit: {} (SQLite code {})", e.message, e.code))?;
        Ok(fs::metadata(wal_of(&self.file)).map_or(0, |m| m.len()))
    }

    fn commit_pair(&mut self, pair: &Pair) -> Result<(), SqlError> {
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
        Ok(())
    }

    /// Moves the log into the file. Only between a commit and the next turn.
    pub fn checkpoint(&mut self) -> Result<(), String> {
        let Some(open) = self.open.as_mut().filter(|open| !open.began) else { return Ok(()) };
        open.prepared.clear();
        open.kernel.clear();
        open.kernel_run("pragma wal_checkpoint(truncate)").map_err(|e| format!("home: checkpoint: {}", e.message))
    }

    /// What the file holds wrongly, by SQLite's own check; empty: nothing.
    pub fn check(&mut self) -> Result<Vec<String>, String> {
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
        .map_err(|e: SqlError| format!("home: check: {}", e.message))?;
        found.retain(|line| line != "ok");
        Ok(found)
    }

    fn open_file(&mut self) -> Done<&mut Open> {
        if self.open.is_none() {
            self.open = Some(open_connection(&self.file)?);
        }
        Ok(self.open.as_mut().expect("just set"))
    }

    fn create_if_missing(&mut self) -> Done<()> {
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
        made.map_err(|e| Trouble::Host(format!("home: {e}")))?;
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
        let began = Instant::now();
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
            open.meter.end_call(began);
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
        let Some(open) = self.open.as_mut() else { return Err(SqlError::new(1, "the agent has stored nothing").into()) };
        open.meter.fill(steps);
        open.scope.draws.lock().expect("draws").begin(&[0; 32], 0);
        let done = sqlite::within(clock_ms as i64, CALL_BYTES, || {
            let (prepared, used) = open.prepare(sql)?;
            let Some(mut prepared) = prepared else { return Err(nothing()) };
            if !sql[used..].trim().is_empty() {
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
        match done {
            Err(Trouble::Sql(error)) if of_machine(&error) && error.primary() != ffi::SQLITE_READONLY => Err(host("read", &error)),
            other => other,
        }
    }

    fn open_ref(&mut self) -> &mut Open {
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

    /// Binds and runs; whether rows are left, which only a statement that reads can say.
    fn run_all(&mut self, prepared: &mut Prepared, values: &[Value], sink: &mut Sink<'_>) -> Done<bool> {
        if let Some(control) = prepared.control.clone() {
            self.control(&control)?;
            return Ok(false);
        }
        if prepared.statement.explains() == 1 {
            let text = "EXPLAIN shows where pages lie, which differs between two runs; EXPLAIN QUERY PLAN does not";
            return Err(SqlError::new(ffi::SQLITE_AUTH, text).into());
        }
        self.require_steps()?;
        self.open_ref().enter(prepared);
        bind(&mut prepared.statement, values)?;
        self.open_ref().begin().map_err(|e| host("begin", &e))?;
        if prepared.statement.readonly() {
            return self.rows(prepared, sink);
        }
        self.write(prepared, sink)?;
        Ok(false)
    }

    /// Steps a statement while `sink` wants rows, and counts its steps. Whether it was asked to pause.
    fn rows(&mut self, prepared: &mut Prepared, sink: &mut Sink<'_>) -> Done<bool> {
        prepared.statement.steps();
        let done = self.step_rows(prepared, sink);
        let rest = prepared.statement.steps() % STEPS_A_LOOK;
        self.open_ref().meter.charge(rest);
        done
    }

    fn step_rows(&mut self, prepared: &mut Prepared, sink: &mut Sink<'_>) -> Done<bool> {
        loop {
            if self.stop_comes(StopKind::Spent) {
                return Err(spent().into());
            }
            match prepared.statement.step() {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => return Err(self.after_error(error, true)),
            }
            self.turn.row += 1;
            let bytes = fold_row(&mut self.turn.digest, &prepared.statement);
            self.open_ref().meter.charge(bytes / 16);
            if !sink(&prepared.statement).map_err(out_of_range)? {
                return Ok(true);
            }
        }
    }

    /// Steps a statement that writes to its end: it has written all before its first row. What it answers
    /// counts only if all of it stands.
    fn write_rows(&mut self, prepared: &mut Prepared, sink: &mut Sink<'_>) -> Done<Answer> {
        let mut answer = Answer::default();
        let mut wanted = true;
        loop {
            match prepared.statement.step() {
                Ok(true) => {}
                Ok(false) => return Ok(answer),
                Err(error) => return Err(self.after_error(error, false)),
            }
            self.turn.row += 1;
            let bytes = fold_row(&mut answer.digest, &prepared.statement);
            self.open_ref().meter.charge(bytes / 16);
            if wanted {
                let told = sink(&prepared.statement);
                wanted = matches!(told, Ok(true));
                answer.trouble = told.err();
            }
        }
    }

    /// Nothing begins once all steps of the turn are spent.
    fn require_steps(&mut self) -> Done<()> {
        if self.turn.repeat.is_some() {
            return if self.stop_comes(StopKind::Spent) { Err(spent().into()) } else { Ok(()) };
        }
        if !self.open_ref().meter.spent() {
            return Ok(());
        }
        self.note_stop(StopKind::Spent)?;
        Err(spent().into())
    }

    /// Whether a recorded stop is due here; it is then taken note of, as it was.
    fn stop_comes(&mut self, kind: StopKind) -> bool {
        let here = Stop { call: self.turn.calls, row: self.turn.row, kind };
        let Some(repeat) = &mut self.turn.repeat else { return false };
        if repeat.front() != Some(&here) {
            return false;
        }
        repeat.pop_front();
        self.turn.stops.push(here);
        true
    }

    /// Notes a stop of a turn that happens for the first time.
    fn note_stop(&mut self, kind: StopKind) -> Done<()> {
        self.turn.stops.push(Stop { call: self.turn.calls, row: self.turn.row, kind });
        if self.turn.stops.len() <= MAX_STOPS {
            return Ok(());
        }
        Err(Trouble::Turn { kind: "SqlStops", detail: format!("more than {MAX_STOPS} statements were stopped in one turn") })
    }

    fn after_error(&mut self, error: SqlError, reads: bool) -> Trouble {
        let open = self.open_ref();
        let machine = of_machine(&error) || (error.primary() == ffi::SQLITE_FULL && open.raw.disk_full());
        let gone = open.began && open.raw.autocommit();
        if gone {
            open.began = false;
        }
        if machine {
            return host("a statement", &error);
        }
        let stopped = [ffi::SQLITE_INTERRUPT, ffi::SQLITE_NOMEM].contains(&error.primary());
        if stopped && reads && !gone {
            return match self.note_stop(StopKind::Spent) {
                Ok(()) => spent().into(),
                Err(trouble) => trouble,
            };
        }
        let stopped = |what: &str| format!("a statement that writes was stopped: {what}");
        match error.primary() {
            ffi::SQLITE_INTERRUPT => {
                let detail = stopped(&format!("a turn may take {} steps of SQL", self.turn.bounds.steps));
                Trouble::Turn { kind: "SqlSteps", detail }
            }
            ffi::SQLITE_NOMEM => {
                let detail = stopped(&format!("one call may take {CALL_BYTES} bytes of memory"));
                Trouble::Turn { kind: "SqlMemory", detail }
            }
            ffi::SQLITE_FULL if gone => Trouble::Turn { kind: "HomeFull", detail: stopped(&self.full_text()) },
            _ if gone => lost(&error),
            _ => error.into(),
        }
    }

    fn full_text(&self) -> String {
        format!("the home may take {} bytes (`homeBytes` of the card, or the node's default)", self.turn.bounds.quota)
    }

    /// One statement that writes: all of it or nothing, and never more than it.
    fn write(&mut self, prepared: &mut Prepared, sink: &mut Sink<'_>) -> Done<()> {
        self.turn.wrote = true;
        let open = self.open_ref();
        open.kernel_run(AROUND[0]).map_err(|e| host("savepoint", &e))?;
        open.look_at_rowids(prepared);
        let rowid = open.raw.last_rowid();
        prepared.statement.steps();
        let scope = self.open_ref().scope.clone();
        scope.writing.store(true, Relaxed);
        let done = self.write_rows(prepared, sink);
        scope.writing.store(false, Relaxed);
        let rest = prepared.statement.steps() % STEPS_A_LOOK;
        prepared.statement.reset();
        self.open_ref().meter.charge(rest);
        let answer = match done {
            Ok(answer) => answer,
            // The statement undid itself, or kept what it had done (OR FAIL), as SQLite has it.
            Err(Trouble::Sql(mut error)) => {
                let changes = self.open_ref().raw.changes();
                let broken = match self.broken_by_write(rowid) {
                    Ok(()) => false,
                    Err(Trouble::Sql(worse)) => {
                        error = worse;
                        true
                    }
                    Err(trouble) => return Err(trouble),
                };
                scope.changes.store(if broken { 0 } else { changes }, Relaxed);
                self.leave(broken)?;
                return Err(error.into());
            }
            Err(trouble) => return Err(trouble),
        };
        match self.broken_by_write(rowid) {
            Ok(()) => {
                let raw = self.open_ref().raw;
                scope.changes.store(raw.changes(), Relaxed);
                let last = raw.last_rowid();
                self.leave(false)?;
                raw.set_last_rowid(last);
                self.turn.digest.update(answer.digest.finalize());
                answer.trouble.map_or(Ok(()), |text| Err(out_of_range(text)))
            }
            Err(trouble @ Trouble::Sql(_)) => {
                scope.changes.store(0, Relaxed);
                self.leave(true)?;
                Err(trouble)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Ends the savepoint around a statement.
    fn leave(&mut self, undo: bool) -> Done<()> {
        let open = self.open_ref();
        if open.raw.autocommit() {
            open.began = false;
            return Err(lost(&SqlError::new(ffi::SQLITE_ABORT_ROLLBACK, "the transaction is gone")));
        }
        if undo {
            open.rowids.forget();
            open.kernel_run(AROUND[2]).map_err(|e| host("roll back", &e))?;
        }
        open.kernel_run(AROUND[1]).map_err(|e| host("release", &e))
    }

    /// What a statement may not leave behind, whatever SQLite allows inside a transaction that stays open.
    fn broken_by_write(&mut self, rowid: i64) -> Done<()> {
        let in_transaction = self.transaction.open;
        let open = self.open_ref();
        if !in_transaction && open.raw.deferred_violations() {
            return Err(SqlError::new(ffi::SQLITE_CONSTRAINT_FOREIGNKEY, "FOREIGN KEY constraint failed").into());
        }
        if open.rowids.overfull() {
            // The last one is one that SQLite drew.
            open.raw.set_last_rowid(rowid);
            return Err(SqlError::new(ffi::SQLITE_FULL, "database or disk is full").into());
        }
        if self.turn.repeat.is_some() {
            let comes = self.stop_comes(StopKind::Full);
            return if comes { Err(self.full()) } else { Ok(()) };
        }
        let quota = self.turn.bounds.quota;
        if self.open_ref().guest_bytes_beyond(quota).map_err(|e| host("measure", &e))? {
            self.note_stop(StopKind::Full)?;
            return Err(self.full());
        }
        Ok(())
    }

    fn full(&self) -> Trouble {
        SqlError::new(ffi::SQLITE_FULL, format!("database or disk is full: {}", self.full_text())).into()
    }

    fn control(&mut self, control: &Control) -> Done<()> {
        let plain = |text: &str| Err(Trouble::Sql(SqlError::new(ffi::SQLITE_ERROR, text)));
        let find = |names: &[String], name: &str| names.iter().rposition(|n| n.eq_ignore_ascii_case(name));
        self.turn.wrote = true;
        match control {
            Control::Begin if self.transaction.open => plain("cannot start a transaction within a transaction"),
            Control::Begin => self.begin_transaction(false),
            Control::Commit if !self.transaction.open => plain("cannot commit - no transaction is active"),
            Control::Commit => self.commit_transaction(),
            Control::Rollback if !self.transaction.open => plain("cannot rollback - no transaction is active"),
            Control::Rollback => {
                let open = self.open_ref();
                open.rowids.forget();
                open.kernel_run(TRANSACTION[2]).map_err(|e| host("roll back", &e))?;
                    self.end_transaction()
            }
            Control::Savepoint(name) => {
                if !self.transaction.open {
                    self.begin_transaction(true)?;
                }
                self.named("savepoint", name)?;
                self.transaction.names.push(name.clone());
                Ok(())
            }
            Control::Release(name) => {
                let Some(at) = find(&self.transaction.names, name) else { return plain(&format!("no such savepoint: {name}")) };
                if at == 0 && self.transaction.implicit {
                    return self.commit_transaction();
                }
                self.named("release", name)?;
                self.transaction.names.truncate(at);
                Ok(())
            }
            Control::RollbackTo(name) => {
                let Some(at) = find(&self.transaction.names, name) else { return plain(&format!("no such savepoint: {name}")) };
                self.named("rollback to", name)?;
                self.transaction.names.truncate(at + 1);
                self.open_ref().rowids.forget();
                Ok(())
            }
        }
    }

    fn named(&mut self, what: &str, name: &str) -> Done<()> {
        let sql = format!("{what} \"{}\"", name.replace('"', "\"\""));
        self.open_ref().as_kernel(|open| open.raw.run(&sql)).map_err(|e| host(what, &e))
    }

    fn begin_transaction(&mut self, implicit: bool) -> Done<()> {
        let open = self.open_ref();
        open.begin().map_err(|e| host("begin", &e))?;
        open.kernel_run(TRANSACTION[0]).map_err(|e| host("begin", &e))?;
        self.transaction = Transaction { open: true, implicit, names: Vec::new() };
        Ok(())
    }

    fn commit_transaction(&mut self) -> Done<()> {
        if self.open_ref().raw.deferred_violations() {
            return Err(SqlError::new(ffi::SQLITE_CONSTRAINT_FOREIGNKEY, "FOREIGN KEY constraint failed").into());
        }
        self.end_transaction()
    }

    fn end_transaction(&mut self) -> Done<()> {
        let open = self.open_ref();
        open.kernel_run(TRANSACTION[1]).map_err(|e| host("release", &e))?;
        open.kernel_run("pragma defer_foreign_keys = off").map_err(|e| host("reset", &e))?;
        self.transaction = Transaction::default();
        Ok(())
    }

    pub fn in_transaction(&self) -> bool {
        self.transaction.open
    }
}

/// Whether only space, comments and semicolons are left.
fn blank(mut sql: &str) -> bool {
    loop {
        sql = sql.trim_start_matches([' ', '\t', '\n', '\r', '\x0c', ';']);
        sql = if let Some(rest) = sql.strip_prefix("--") {
            rest.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(rest) = sql.strip_prefix("/*") {
            rest.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return sql.is_empty();
        };
    }
}

fn nothing() -> Trouble {
    SqlError::new(ffi::SQLITE_MISUSE, "the SQL holds no statement").into()
}

const SPENT: &str = "interrupted: the turn's SQL has taken all the steps or memory that it may";

fn spent() -> SqlError {
    SqlError::new(ffi::SQLITE_INTERRUPT, SPENT)
}

fn out_of_range(text: String) -> Trouble {
    SqlError::new(ffi::SQLITE_RANGE, text).into()
}

/// What a statement that writes answered.
#[derive(Default)]
struct Answer {
    digest: Sha256,
    /// Why the program cannot have its rows.
    trouble: Option<String>,
}

fn bind(statement: &mut Statement, values: &[Value]) -> Done<()> {
    for (i, value) in values.iter().enumerate() {
        statement.bind(i + 1, value)?;
    }
    Ok(())
}

/// A row into the digest; how many bytes it has.
fn fold_row(digest: &mut Sha256, statement: &Statement) -> u64 {
    digest.update([b'r']);
    let mut bytes = 0;
    for i in 0..statement.column_count() {
        match statement.cell(i) {
            Cell::Null => digest.update([0]),
            Cell::Integer(n) => {
                digest.update([1]);
                digest.update(n.to_le_bytes());
                bytes += 8;
            }
            Cell::Real(x) => {
                digest.update([2]);
                digest.update(x.to_bits().to_le_bytes());
                bytes += 8;
            }
            Cell::Text(b) | Cell::Blob(b) => {
                digest.update([3]);
                digest.update((b.len() as u32).to_le_bytes());
                digest.update(b);
                bytes += b.len() as u64;
            }
        }
    }
    bytes
}

fn pages_of(bytes: usize) -> u64 {
    bytes as u64 / (PAGE - 4) + 2
}

fn open_connection(file: &Path) -> Done<Open> {
    let mut connection = sqlite::open(file).map_err(|e| host("open", &e))?;
    let preparing = Arc::new(Mutex::new(Preparing::kernel()));
    let (scope, meter) = (Arc::new(Scope::default()), Arc::new(Meter::default()));
    meter.fill(u64::MAX);
    let rowids = Arc::new(Rowids::default());
    let installed = authorizer::install(&mut connection, preparing.clone())
        .and_then(|()| functions::add(&connection, &scope))
        .and_then(|()| meter.watch(&mut connection))
        .and_then(|()| rowids.watch(&mut connection));
    installed.map_err(|e| Trouble::Host(format!("home: {e}")))?;
    let raw = Raw::of(&connection);
    Ok(Open {
        cursors: HashMap::new(),
        prepared: Vec::new(),
        kernel: HashMap::new(),
        raw,
        preparing,
        rowids,
        scope,
        meter,
        began: false,
        pair_pages: 0,
        max_pages: 0,
        _connection: connection,
    })
}

fn read_pair(open: &mut Open) -> Result<Option<Pair>, SqlError> {
    let sql = "select seq, hash, bytes from _cardinal_pair where id = 1 and format = 1";
    let pair = open.as_kernel(|open| {
        let statement = open.kernel_statement(sql)?;
        let mut pair = None;
        if statement.step()? {
            if let (Cell::Integer(seq), Cell::Blob(hash), Cell::Blob(bytes)) =
                (statement.cell(0), statement.cell(1), statement.cell(2))
            {
                pair = Some(Pair { seq, hash: hash.to_vec(), bytes: bytes.to_vec() });
            }
        }
        statement.reset();
        Ok(pair)
    })?;
    open.pair_pages = pair.as_ref().map_or(0, |pair| pages_of(pair.bytes.len()));
    Ok(pair)
}

impl Prepared {
    fn look_at_columns(&mut self) {
        let count = self.statement.column_count();
        let same = count == self.columns.len() && (0..count).all(|i| self.statement.column_name(i) == self.columns[i]);
        if !same {
            self.columns = (0..count).map(|i| self.statement.column_name(i)).collect();
            self.stamp = stamp(&self.columns);
        }
    }
}

fn stamp(columns: &[String]) -> u32 {
    let mut hash = Sha256::new();
    for column in columns {
        hash.update((column.len() as u32).to_le_bytes());
        hash.update(column.as_bytes());
    }
    let bytes: [u8; 32] = hash.finalize().into();
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) | 1
}

impl Open {
    fn as_kernel<T>(&mut self, act: impl FnOnce(&mut Open) -> T) -> T {
        self.preparing.lock().expect("preparing").kernel = true;
        self.meter.pause(true);
        let done = act(self);
        self.meter.pause(false);
        self.preparing.lock().expect("preparing").kernel = false;
        done
    }

    fn kernel_statement(&mut self, sql: &'static str) -> Result<&mut Statement, SqlError> {
        if !self.kernel.contains_key(sql) {
            let (statement, _) = self.raw.prepare(sql)?;
            self.kernel.insert(sql, statement.ok_or_else(|| SqlError::new(1, "no statement"))?);
        }
        Ok(self.kernel.get_mut(sql).expect("just put"))
    }

    fn kernel_run(&mut self, sql: &'static str) -> Result<(), SqlError> {
        self.as_kernel(|open| {
            let statement = open.kernel_statement(sql)?;
            let done = loop {
                match statement.step() {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            statement.reset();
            done
        })
    }

    fn kernel_number(&mut self, sql: &'static str) -> Result<i64, SqlError> {
        self.as_kernel(|open| {
            let statement = open.kernel_statement(sql)?;
            let mut number = 0;
            if statement.step()? {
                if let Cell::Integer(n) = statement.cell(0) {
                    number = n;
                }
            }
            statement.reset();
            Ok(number)
        })
    }

    fn bound(&mut self, quota: u64) -> Result<(), SqlError> {
        let pages = quota / PAGE;
        let most = (pages + pages / 4 + self.pair_pages + SPARE_PAGES).min(u64::from(u32::MAX) - 1);
        if most == self.max_pages {
            return Ok(());
        }
        self.max_pages = most;
        self.as_kernel(|open| open.raw.run(&format!("pragma max_page_count = {most}")))
    }

    /// Opens the kernel's transaction, if it is not.
    fn begin(&mut self) -> Result<(), SqlError> {
        if self.began {
            return Ok(());
        }
        self.kernel_run("begin")?;
        self.began = true;
        Ok(())
    }

    /// Counters of the connection begin anew.
    fn forget_counters(&mut self) -> Result<(), SqlError> {
        self.raw.set_last_rowid(0);
        if self.raw.changes() != 0 {
            self.begin()?;
            self.kernel_run("delete from _cardinal_pair where 0")?;
        }
        self.scope.changes.store(0, Relaxed);
        self.scope.changes_before.store(self.raw.total_changes(), Relaxed);
        Ok(())
    }

    /// What is prepared again while it runs is decided as if it were prepared now.
    fn enter(&mut self, prepared: &Prepared) {
        let state = Preparing::again(prepared.names_layout);
        *self.preparing.lock().expect("preparing") = state;
    }

    /// The first statement of guest SQL; how much of it was read.
    fn prepare(&mut self, sql: &str) -> Done<(Option<Prepared>, usize)> {
        let lower = sql.to_ascii_lowercase();
        if lower.contains(RESERVED) {
            let text = format!("names that begin with {RESERVED} are the kernel's");
            return Err(SqlError::new(ffi::SQLITE_AUTH, text).into());
        }
        *self.preparing.lock().expect("preparing") = Preparing::guest(&lower);
        let shown = if names::may_name_schema(&lower) { Some(names::with_view(sql)) } else { None };
        let (statement, used) = match self.raw.prepare(shown.as_deref().unwrap_or(sql)) {
            Ok((statement, used)) => (statement, shown.map_or(used, |_| names::place_before(sql, used))),
            Err(error) if of_machine(&error) => return Err(host("prepare", &error)),
            Err(error) => return Err(error.into()),
        };
        let Some(statement) = statement else { return Ok((None, used)) };
        let (control, names_layout, inserts, defines) = {
            let mut state = self.preparing.lock().expect("preparing");
            let control = state.found.take().filter(|_| statement.explains() == 0);
            (control, state.names_layout, std::mem::take(&mut state.inserts), state.defines)
        };
        let tail = !blank(&sql[used..]);
        let mut prepared = Prepared { statement, control, names_layout, inserts, defines, columns: Vec::new(), stamp: stamp(&[]), tail };
        prepared.look_at_columns();
        Ok((Some(prepared), used))
    }

    /// A statement by its text, from those that were prepared before if it is among them.
    fn take(&mut self, sql: &str) -> Done<Option<Prepared>> {
        if let Some(at) = self.prepared.iter().rposition(|(text, _)| text == sql) {
            return Ok(Some(self.prepared.remove(at).1));
        }
        Ok(self.prepare(sql)?.0)
    }

    fn keep(&mut self, sql: &str, prepared: Prepared) {
        if self.prepared.len() >= STATEMENTS_KEPT {
            self.prepared.remove(0);
        }
        self.prepared.push((sql.to_string(), prepared));
    }

    /// Before a statement that writes: which of its tables are full.
    fn look_at_rowids(&mut self, prepared: &Prepared) {
        if prepared.defines {
            self.rowids.forget();
        }
        let rowids = self.rowids.clone();
        for table in rowids.begin_statement(&prepared.inserts) {
            // Full-text indexes and R-trees keep their rows in tables of these names.
            for part in ["", "_content", "_rowid"] {
                let name = format!("{table}{part}");
                let full = self.has_last_rowid(&name);
                rowids.note(&name, full);
            }
        }
    }

    /// False for what is no table, or has no rowids.
    fn has_last_rowid(&mut self, table: &str) -> bool {
        let sql = format!("select 1 from \"{}\" where rowid = {}", table.replace('"', "\"\""), i64::MAX);
        self.as_kernel(|open| match open.raw.prepare(&sql) {
            Ok((Some(mut statement), _)) => statement.step().unwrap_or(false),
            _ => false,
        })
    }

    /// Whether the guest's part of the file is larger than `quota`.
    fn guest_bytes_beyond(&mut self, quota: u64) -> Result<bool, SqlError> {
        let pages = self.kernel_number("pragma page_count")? as u64;
        if pages * PAGE <= quota {
            return Ok(false);
        }
        let free = self.kernel_number("pragma freelist_count")? as u64;
        Ok(pages.saturating_sub(free + self.pair_pages) * PAGE > quota)
    }
}
