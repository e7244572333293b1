//! How one statement runs: its rows, where it is stopped, and what it may not leave behind.

use rusqlite::ffi;
use sha2::{Digest, Sha256};

use crate::connection::{Prepared, COUNT_NONE};
use crate::home::{host, of_machine, Done, Home, Sink, Stop, StopKind, Trouble, AROUND, CALL_BYTES, MAX_STOPS, OF_DISK};
use crate::meter::STEPS_A_LOOK;
use crate::statement::{Cell, SqlError, Statement, Value};
use crate::sys;
use std::sync::atomic::Ordering::Relaxed;

fn lost(error: &SqlError) -> Trouble {
    Trouble::Turn {
        kind: "TransactionLost",
        detail: format!("a statement ended more than itself ({}); OR ROLLBACK and RAISE(ROLLBACK) do that", error.message),
    }
}

impl Home {
    /// Binds and runs; whether rows are left, which only a statement that reads can say.
    pub fn run_all(&mut self, prepared: &mut Prepared, values: &[Value], sink: &mut Sink<'_>) -> Done<bool> {
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
            let more = self.rows(prepared, sink)?;
            // As SQLite has it, it holds until the transaction ends: without one, not at all.
            if prepared.defers && !self.transaction.open {
                self.open_ref().reset_deferring().map_err(|e| host("reset", &e))?;
            }
            return Ok(more);
        }
        self.write(prepared, sink)?;
        Ok(false)
    }

    /// Steps a statement while `sink` wants rows, and counts its steps. Whether it was asked to pause.
    pub fn rows(&mut self, prepared: &mut Prepared, sink: &mut Sink<'_>) -> Done<bool> {
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
    pub fn require_steps(&mut self) -> Done<()> {
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
    pub fn note_stop(&mut self, kind: StopKind) -> Done<()> {
        self.turn.stops.push(Stop { call: self.turn.calls, row: self.turn.row, kind });
        if self.turn.stops.len() <= MAX_STOPS {
            return Ok(());
        }
        Err(Trouble::Turn { kind: "SqlStops", detail: format!("more than {MAX_STOPS} statements were stopped in one turn") })
    }

    fn after_error(&mut self, error: SqlError, reads: bool) -> Trouble {
        let full = error.primary() == ffi::SQLITE_FULL && sys::disk_is_full(&self.file);
        let machine = of_machine(&error) || full;
        let open = self.open_ref();
        let gone = open.began && open.raw.autocommit();
        if gone {
            open.began = false;
        }
        if full {
            return Trouble::Host(format!("{OF_DISK}it is full"));
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

    pub fn full_text(&self) -> String {
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
                if prepared.defines {
                    // Triggers may put rows elsewhere than when a statement was prepared.
                    self.open_ref().forget_tables();
                }
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
            open.forget_tables();
            open.kernel_run(AROUND[2]).map_err(|e| host("roll back", &e))?;
            // Else what is undone would count after a statement that counts nothing.
            open.kernel_run(COUNT_NONE).map_err(|e| host("count", &e))?;
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
}

pub const SPENT: &str = "interrupted: the turn's SQL has taken all the steps or memory that it may";

pub fn spent() -> SqlError {
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

pub fn bind(statement: &mut Statement, values: &[Value]) -> Done<()> {
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
