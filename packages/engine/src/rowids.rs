//! Tables whose largest rowid is taken. SQLite then draws rowids at random, from a source that no
//! repetition has; here such a table is full.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rusqlite::hooks::Action;
use rusqlite::{Connection, Result};

#[derive(Default)]
struct State {
    /// Whether a table holds the largest rowid, as far as it was looked at.
    known: HashMap<String, bool>,
    /// A table that was full has taken a row in this statement.
    overfull: bool,
}

#[derive(Default)]
pub struct Rowids {
    state: Mutex<State>,
}

impl Rowids {
    /// Before a statement: the tables among `tables` that must be looked at first. One that is known to be
    /// full may have been emptied meanwhile.
    pub fn begin_statement<'a>(&self, tables: &'a [String]) -> Vec<&'a String> {
        let mut state = self.state.lock().expect("rowids");
        state.overfull = false;
        tables.iter().filter(|table| state.known.get(*table) != Some(&false)).collect()
    }

    pub fn overfull(&self) -> bool {
        self.state.lock().expect("rowids").overfull
    }

    pub fn note(&self, table: &str, full: bool) {
        self.state.lock().expect("rowids").known.insert(table.to_string(), full);
    }

    /// Rows came back, or tables changed their names.
    pub fn forget(&self) {
        self.state.lock().expect("rowids").known.clear();
    }

    pub fn watch(self: &Arc<Self>, connection: &mut Connection) -> Result<()> {
        let rowids = self.clone();
        connection.update_hook(Some(move |action: Action, _: &str, table: &str, rowid: i64| {
            let mut state = rowids.state.lock().expect("rowids");
            let largest = rowid == i64::MAX;
            match (action, state.known.get(table)) {
                (Action::SQLITE_INSERT, Some(false)) if !largest => {}
                (Action::SQLITE_INSERT | Action::SQLITE_UPDATE, _) if largest => {
                    state.known.insert(table.to_string(), true);
                }
                (Action::SQLITE_INSERT, Some(true)) => state.overfull = true,
                (Action::SQLITE_DELETE, Some(true)) if largest => {
                    state.known.insert(table.to_string(), false);
                }
                _ => {}
            }
        }))
    }
}
