//! What SQL of a guest may do. Denied is whatever is not named here: other files, settings of the
//! connection, what lies in pages, the kernel's own tables, and temporary objects, which would live in
//! a connection and so be gone after a suspension.

use std::sync::{Arc, Mutex};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};
use rusqlite::{Connection, Result};

use crate::names::{is_reserved as reserved, is_schema_table as is_schema, is_view};

#[derive(Default)]
pub struct Preparing {
    /// SQL of the kernel itself: anything goes.
    pub kernel: bool,
    /// The guest's SQL names one of these itself; otherwise it is FTS5 or R-tree who asks.
    pub names_layout: bool,
    /// It goes over all tables, one after another.
    pub over_tables: bool,
    pub found: Option<Control>,
    /// Tables that take rows.
    pub inserts: Vec<String>,
    /// The statement changes what tables there are.
    pub defines: bool,
    /// It says that foreign keys are checked at the end of the transaction.
    pub defers: bool,
    altering: bool,
}

/// A statement that begins or ends a transaction: it is not run but translated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
}

impl Preparing {
    /// SQL of the kernel's own.
    pub fn kernel() -> Preparing {
        Preparing { kernel: true, ..Preparing::default() }
    }

    /// A statement that was prepared before.
    pub fn again(names_layout: bool) -> Preparing {
        Preparing { names_layout, ..Preparing::default() }
    }

    /// SQL of a guest, in small letters.
    pub fn guest(lower: &str) -> Preparing {
        let names_layout = ["data_version", "page_size"].iter().any(|name| lower.contains(name));
        Preparing { names_layout, ..Preparing::default() }
    }
}

const FUNCTIONS_DENIED: [&str; 6] =
    ["load_extension", "sqlite_log", "json_patch", "jsonb_patch", "fts3_tokenizer", "sqlite_offset"];

/// Settings that can be read, and those that can be "set" to what they are.
const PRAGMAS_READ: [&str; 14] = [
    "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "foreign_key_list", "foreign_key_check",
    "foreign_keys", "journal_mode", "encoding", "user_version", "collation_list", "recursive_triggers", "defer_foreign_keys",
];

fn pragma(name: &str, value: Option<&str>, state: &Preparing) -> Authorization {
    let name = name.to_ascii_lowercase();
    let value = value.map(str::to_ascii_lowercase);
    let on = matches!(value.as_deref(), Some("on" | "1" | "true" | "yes"));
    match (name.as_str(), value.as_deref()) {
        ("data_version" | "page_size", None) if !state.names_layout => Authorization::Allow,
        ("user_version" | "defer_foreign_keys", _) => Authorization::Allow,
        ("foreign_keys", Some(_)) if on => Authorization::Allow,
        ("journal_mode", Some("wal")) => Authorization::Allow,
        // Nobody else is there to wait for, and a home is synced when it is checkpointed.
        ("synchronous", Some("normal" | "1")) | ("busy_timeout", Some(_)) => Authorization::Ignore,
        ("foreign_keys" | "journal_mode" | "encoding" | "recursive_triggers", Some(_)) => Authorization::Deny,
        ("table_info" | "table_xinfo" | "index_list" | "index_info" | "index_xinfo" | "foreign_key_list", Some(of))
            if reserved(of) =>
        {
            Authorization::Deny
        }
        (known, _) if PRAGMAS_READ.contains(&known) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn decide(context: &AuthContext<'_>, state: &mut Preparing) -> Authorization {
    use AuthAction as A;
    let allowed = |yes: bool| if yes { Authorization::Allow } else { Authorization::Deny };
    match context.action {
        A::Select | A::Recursive => Authorization::Allow,
        A::Read { table_name, column_name } if is_schema(table_name) => {
            // Through the view, or on behalf of ALTER and DROP, which look up what else names a table.
            let by_view = context.accessor.is_some_and(is_view);
            allowed(by_view || state.altering || column_name.eq_ignore_ascii_case("rowid"))
        }
        A::Insert { table_name } | A::Delete { table_name } | A::Update { table_name, .. } if is_schema(table_name) => {
            // Part of every CREATE and DROP; a guest's own INSERT SQLite refuses itself.
            state.defines = true;
            Authorization::Allow
        }
        A::Insert { table_name } if !reserved(table_name) => {
            if !state.inserts.iter().any(|known| known == table_name) {
                state.inserts.push(table_name.to_string());
            }
            Authorization::Allow
        }
        A::Read { table_name, .. } if is_view(table_name) => Authorization::Allow,
        A::Read { table_name: "pragma_foreign_key_check", .. } => {
            state.over_tables = true;
            Authorization::Allow
        }
        A::Read { table_name, .. } | A::Insert { table_name } | A::Delete { table_name } | A::Update { table_name, .. } => {
            let temporary = table_name.eq_ignore_ascii_case("sqlite_temp_master");
            allowed(!reserved(table_name) && (!temporary || state.altering))
        }
        A::CreateTable { table_name } | A::CreateVtable { table_name, module_name: "fts5" | "rtree" | "rtree_i32" } => {
            allowed(!reserved(table_name))
        }
        A::CreateView { view_name } => allowed(!reserved(view_name)),
        A::CreateIndex { index_name: name, table_name } | A::CreateTrigger { trigger_name: name, table_name } => {
            allowed(!reserved(name) && !reserved(table_name))
        }
        A::DropTable { table_name: name }
        | A::DropVtable { table_name: name, .. }
        | A::DropIndex { table_name: name, .. }
        | A::DropTrigger { table_name: name, .. }
        | A::DropView { view_name: name }
        | A::AlterTable { table_name: name, .. } => {
            state.altering = true;
            allowed(!reserved(name))
        }
        A::Reindex { .. } => Authorization::Allow,
        // ANALYZE without a name goes over all tables.
        A::Analyze { table_name } => {
            state.over_tables = true;
            if reserved(table_name) { Authorization::Ignore } else { Authorization::Allow }
        }
        A::Pragma { pragma_name, pragma_value } => {
            state.defers |= pragma_name.eq_ignore_ascii_case("defer_foreign_keys");
            state.over_tables |= pragma_name.eq_ignore_ascii_case("foreign_key_check") && pragma_value.is_none();
            pragma(pragma_name, pragma_value, state)
        }
        A::Function { function_name } => {
            allowed(!FUNCTIONS_DENIED.iter().any(|name| name.eq_ignore_ascii_case(function_name)))
        }
        A::Transaction { operation } => {
            state.found = match operation {
                TransactionOperation::Begin => Some(Control::Begin),
                TransactionOperation::Rollback => Some(Control::Rollback),
                _ => Some(Control::Commit),
            };
            Authorization::Allow
        }
        A::Savepoint { operation, savepoint_name } => {
            let name = savepoint_name.to_string();
            state.found = match operation {
                TransactionOperation::Begin => Some(Control::Savepoint(name)),
                TransactionOperation::Release => Some(Control::Release(name)),
                _ => Some(Control::RollbackTo(name)),
            };
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

/// Every statement that is prepared on the connection is decided by `state`.
pub fn install(connection: &mut Connection, state: Arc<Mutex<Preparing>>) -> Result<()> {
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        let mut state = state.lock().expect("preparing");
        if state.kernel { Authorization::Allow } else { decide(&context, &mut state) }
    }))
}
