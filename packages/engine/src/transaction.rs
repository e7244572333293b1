//! What a guest takes for transactions: savepoints in the one of the kernel, kept by name, so that none
//! reaches below.

use rusqlite::ffi;

use crate::authorizer::Control;
use crate::home::{host, Done, Home, Trouble};
use crate::statement::SqlError;

pub const TRANSACTION: [&str; 3] =
    ["savepoint _cardinal_transaction", "release _cardinal_transaction", "rollback to _cardinal_transaction"];

/// What the guest takes for its transaction: its savepoints by name, the outermost first.
#[derive(Default)]
pub struct Transaction {
    pub open: bool,
    /// Begun by SAVEPOINT: releasing the outermost one commits.
    pub implicit: bool,
    pub names: Vec<String>,
}

impl Home {
    pub fn control(&mut self, control: &Control) -> Done<()> {
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
                open.forget_tables();
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
                self.open_ref().forget_tables();
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
        open.reset_deferring().map_err(|e| host("reset", &e))?;
        self.transaction = Transaction::default();
        Ok(())
    }

    pub fn in_transaction(&self) -> bool {
        self.transaction.open
    }
}
