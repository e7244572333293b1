//! The connection of a home: statements that were prepared, the kernel's own, and what SQL of a guest is
//! before it is a statement.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use rusqlite::limits::Limit;
use rusqlite::{ffi, Connection};
use sha2::{Digest, Sha256};

use crate::authorizer::{self, Control, Preparing};
use crate::functions::{self, Scope};
use crate::home::{host, of_machine, Done, Pair, AROUND, PAGE};
use crate::meter::Meter;
use crate::names::{self, RESERVED};
use crate::rowids::Rowids;
use crate::sqlite;
use crate::statement::{Cell, Raw, SqlError, Statement};

const STATEMENTS_KEPT: usize = 32;
/// Room beyond the quota, in pages, before SQLite itself says that the file is full.
const SPARE_PAGES: u64 = 1024;

/// Changes nothing, which is what the connection then says of its last change.
pub const COUNT_NONE: &str = "delete from _cardinal_pair where 0";

/// A statement that was prepared before, and what is known of it.
pub struct Prepared {
    pub statement: Statement,
    pub control: Option<Control>,
    pub names_layout: bool,
    pub over_tables: bool,
    /// Tables that it puts rows into.
    pub inserts: Vec<String>,
    /// It changes what tables there are.
    pub defines: bool,
    /// It says that foreign keys are checked at the end of the transaction.
    pub defers: bool,
    pub columns: Vec<String>,
    /// Changes with the names of its columns.
    pub stamp: u32,
    pub tail: bool,
}

pub struct Open {
    // Statements are dropped before their connection.
    pub cursors: HashMap<u32, Prepared>,
    pub prepared: Vec<(String, Prepared)>,
    pub kernel: HashMap<&'static str, Statement>,
    pub raw: Raw,
    pub preparing: Arc<Mutex<Preparing>>,
    pub rowids: Arc<Rowids>,
    pub scope: Arc<Scope>,
    pub meter: Arc<Meter>,
    /// The kernel's transaction is open.
    pub began: bool,
    /// Pages that the pair takes.
    pub pair_pages: u64,
    /// Beyond which SQLite itself says that the file is full.
    pub max_pages: u64,
    connection: Connection,
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

pub fn pages_of(bytes: usize) -> u64 {
    bytes as u64 / (PAGE - 4) + 2
}

pub fn open_connection(file: &Path) -> Result<Open, SqlError> {
    let mut connection = sqlite::open(file)?;
    let preparing = Arc::new(Mutex::new(Preparing::kernel()));
    let (scope, meter) = (Arc::new(Scope::default()), Arc::new(Meter::default()));
    meter.fill(u64::MAX);
    let rowids = Arc::new(Rowids::default());
    let installed = authorizer::install(&mut connection, preparing.clone())
        .and_then(|()| functions::add(&connection, &scope))
        .and_then(|()| meter.watch(&mut connection))
        .and_then(|()| rowids.watch(&mut connection));
    installed.map_err(|e| SqlError::new(ffi::SQLITE_MISUSE, e.to_string()))?;
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
        connection,
    })
}

pub fn read_pair(open: &mut Open) -> Result<Option<Pair>, SqlError> {
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
    pub fn look_at_columns(&mut self) {
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
    pub fn as_kernel<T>(&mut self, act: impl FnOnce(&mut Open) -> T) -> T {
        self.preparing.lock().expect("preparing").kernel = true;
        self.meter.pause(true);
        let done = act(self);
        self.meter.pause(false);
        self.preparing.lock().expect("preparing").kernel = false;
        done
    }

    pub fn kernel_statement(&mut self, sql: &'static str) -> Result<&mut Statement, SqlError> {
        if !self.kernel.contains_key(sql) {
            let (statement, _) = self.raw.prepare(sql)?;
            self.kernel.insert(sql, statement.ok_or_else(|| SqlError::new(1, "no statement"))?);
        }
        Ok(self.kernel.get_mut(sql).expect("just put"))
    }

    pub fn kernel_run(&mut self, sql: &'static str) -> Result<(), SqlError> {
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

    pub fn kernel_number(&mut self, sql: &'static str) -> Result<i64, SqlError> {
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

    /// Copies the database into a file that is not there yet, without free pages. No transaction is open.
    pub fn vacuum_into(&mut self, to: &Path) -> Result<(), SqlError> {
        self.cursors.clear();
        self.prepared.clear();
        self.kernel.clear();
        let path = to.to_str().ok_or_else(|| SqlError::new(ffi::SQLITE_CANTOPEN, "a path that is no UTF-8"))?;
        let sql = format!("vacuum into '{}'", path.replace('\'', "''"));
        // It attaches what it writes.
        let bound = |connection: &Connection, most| {
            connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, most).map_err(|e| SqlError::new(ffi::SQLITE_MISUSE, e.to_string()))
        };
        bound(&self.connection, 1)?;
        let done = self.as_kernel(|open| open.raw.run(&sql));
        bound(&self.connection, 0)?;
        done
    }

    pub fn bound(&mut self, quota: u64) -> Result<(), SqlError> {
        let pages = quota / PAGE;
        let most = (pages + pages / 4 + self.pair_pages + SPARE_PAGES).min(u64::from(u32::MAX) - 1);
        if most == self.max_pages {
            return Ok(());
        }
        self.max_pages = most;
        self.as_kernel(|open| open.raw.run(&format!("pragma max_page_count = {most}")))
    }

    /// Opens the kernel's transaction, if it is not.
    pub fn begin(&mut self) -> Result<(), SqlError> {
        if self.began {
            return Ok(());
        }
        self.kernel_run("begin")?;
        self.began = true;
        Ok(())
    }

    /// Counters of the connection begin anew.
    pub fn forget_counters(&mut self) -> Result<(), SqlError> {
        self.raw.set_last_rowid(0);
        if self.raw.changes() != 0 {
            self.begin()?;
            self.kernel_run(COUNT_NONE)?;
        }
        self.scope.changes.store(0, Relaxed);
        self.scope.changes_before.store(self.raw.total_changes(), Relaxed);
        Ok(())
    }

    /// What is prepared again while it runs is decided as if it were prepared now.
    pub fn enter(&mut self, prepared: &Prepared) {
        let state = Preparing::again(prepared.names_layout);
        *self.preparing.lock().expect("preparing") = state;
    }

    /// The first statement of guest SQL; how much of it was read.
    pub fn prepare(&mut self, sql: &str) -> Done<(Option<Prepared>, usize)> {
        let lower = sql.to_ascii_lowercase();
        if lower.contains(RESERVED) {
            let text = format!("names that begin with {RESERVED} are the kernel's");
            return Err(SqlError::new(ffi::SQLITE_AUTH, text).into());
        }
        let shown = if names::may_name_schema(&lower) { Some(names::with_view(sql)) } else { None };
        let text = shown.as_deref().unwrap_or(sql);
        let (statement, used) = self.prepare_guest(text, &lower)?;
        let over_tables = self.preparing.lock().expect("preparing").over_tables;
        let (statement, used) = if over_tables {
            drop(statement);
            self.read_tables_anew()?;
            self.prepare_guest(text, &lower)?
        } else {
            (statement, used)
        };
        let used = shown.map_or(used, |_| names::place_before(sql, used));
        let Some(statement) = statement else { return Ok((None, used)) };
        let mut prepared = {
            let mut state = self.preparing.lock().expect("preparing");
            let control = state.found.take().filter(|_| statement.explains() == 0);
            Prepared {
                statement,
                control,
                names_layout: state.names_layout,
                over_tables,
                inserts: std::mem::take(&mut state.inserts),
                defines: state.defines,
                defers: state.defers,
                columns: Vec::new(),
                stamp: stamp(&[]),
                tail: !blank(&sql[used..]),
            }
        };
        prepared.look_at_columns();
        Ok((Some(prepared), used))
    }

    fn prepare_guest(&mut self, text: &str, lower: &str) -> Done<(Option<Statement>, usize)> {
        *self.preparing.lock().expect("preparing") = Preparing::guest(lower);
        self.raw.prepare(text).map_err(|error| if of_machine(&error) { host("prepare", &error) } else { error.into() })
    }

    /// SQLite goes over all tables in the order of a hash table in memory, which differs between a
    /// connection that has created them and one that has read them. After this it is that of one that
    /// has read them, whether the agent was suspended since or not.
    fn read_tables_anew(&mut self) -> Done<()> {
        // Full-text indexes and R-trees would not know of iterators that began before.
        if !self.cursors.is_empty() {
            let text = "an iterator is open: end it before a statement that goes over all tables";
            return Err(SqlError::new(ffi::SQLITE_BUSY_SNAPSHOT, text).into());
        }
        let anew = |open: &mut Open| {
            // What full-text indexes hold back is written when a savepoint begins.
            open.kernel_run(AROUND[0])?;
            open.kernel_run(AROUND[1])?;
            open.as_kernel(|open| open.raw.run("pragma writable_schema = reset; select 1 from sqlite_schema limit 0"))
        };
        anew(self).map_err(|e| host("read tables", &e))
    }

    /// A statement by its text, from those that were prepared before if it is among them.
    pub fn take(&mut self, sql: &str) -> Done<Option<Prepared>> {
        if let Some(at) = self.prepared.iter().rposition(|(text, _)| text == sql) {
            let prepared = self.prepared.remove(at).1;
            if !prepared.over_tables {
                return Ok(Some(prepared));
            }
        }
        Ok(self.prepare(sql)?.0)
    }

    pub fn keep(&mut self, sql: &str, prepared: Prepared) {
        if self.prepared.len() >= STATEMENTS_KEPT {
            self.prepared.remove(0);
        }
        self.prepared.push((sql.to_string(), prepared));
    }

    /// Rows came back, or there are other tables: what was known of them is looked at again.
    pub fn forget_tables(&mut self) {
        self.rowids.forget();
        self.prepared.clear();
    }

    /// Foreign keys are checked by each statement again.
    pub fn reset_deferring(&mut self) -> Result<(), SqlError> {
        self.kernel_run("pragma defer_foreign_keys = off")
    }

    /// Before a statement that writes: which of its tables are full.
    pub fn look_at_rowids(&mut self, prepared: &Prepared) {
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
    pub fn has_last_rowid(&mut self, table: &str) -> bool {
        let sql = format!("select 1 from \"{}\" where rowid = {}", table.replace('"', "\"\""), i64::MAX);
        self.as_kernel(|open| match open.raw.prepare(&sql) {
            Ok((Some(mut statement), _)) => statement.step().unwrap_or(false),
            _ => false,
        })
    }

    /// Whether the guest's part of the file is larger than `quota`.
    pub fn guest_bytes_beyond(&mut self, quota: u64) -> Result<bool, SqlError> {
        let pages = self.kernel_number("pragma page_count")? as u64;
        if pages * PAGE <= quota {
            return Ok(false);
        }
        let free = self.kernel_number("pragma freelist_count")? as u64;
        Ok(pages.saturating_sub(free + self.pair_pages) * PAGE > quota)
    }
}
