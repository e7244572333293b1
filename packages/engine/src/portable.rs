//! A home that leaves its node, and one that comes in: the guest's part of the file and nothing else.
//!
//! What leaves has no pair, no tables of the kernel and no trace of them in free pages. Rowids stay, which
//! `VACUUM` alone would not promise.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::ffi;

use crate::connection::{open_connection, Open};
use crate::home::{remove, told, Home, OF_DISK, PAGE, SCHEMA};
use crate::statement::{Cell, SqlError};

/// Where the versions to write and to read stand in a file, and the value for write-ahead.
const VERSIONS_AT: u64 = 18;
const WRITE_AHEAD: [u8; 2] = [2, 2];

/// Nothing bounds such a file but the disk: whatever SQLite finds full is that.
fn said(what: &str, error: &SqlError) -> String {
    if error.primary() == ffi::SQLITE_FULL { format!("{OF_DISK}it is full") } else { told(what, error) }
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(end);
    PathBuf::from(name)
}

fn lines(open: &mut Open, sql: &'static str) -> Result<Vec<String>, SqlError> {
    open.as_kernel(|open| {
        let statement = open.kernel_statement(sql)?;
        let mut found = Vec::new();
        while statement.step()? {
            found.push(match statement.cell(0) {
                Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Cell::Integer(n) => n.to_string(),
                _ => String::new(),
            });
        }
        statement.reset();
        Ok(found)
    })
}

/// Removes a database that was under way, and what SQLite keeps beside it.
fn clear(file: &Path) -> Result<(), String> {
    let journal = fs::remove_file(beside(file, "-journal"));
    let journal = journal.or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) });
    remove(file).and(journal).map_err(|e| format!("{OF_DISK}{e}"))
}

/// Writes what the guest has stored, as committed, into a file that is not there yet.
pub fn export(open: &mut Open, to: &Path) -> Result<(), String> {
    let whole = beside(to, ".whole");
    let done = open.vacuum_into(&whole).and_then(|()| {
        let mut copy = open_connection(&whole)?;
        copy.as_kernel(|copy| copy.raw.run("drop view _cardinal_schema; drop table _cardinal_pair"))?;
        copy.vacuum_into(to)
    });
    clear(&whole)?;
    done.map_err(|e| said("export", &e))
}

/// What speaks against taking a file in; empty: nothing.
pub fn problems(file: &Path) -> Result<Vec<String>, String> {
    let look = || {
        let mut open = open_connection(file)?;
        if lines(&mut open, "pragma page_size")? != [PAGE.to_string()] {
            return Ok(vec![format!("its pages are not of {PAGE} bytes")]);
        }
        let mut found = lines(&mut open, "pragma integrity_check")?;
        found.retain(|line| line != "ok");
        let ours = "select 'it holds `' || name || '`, which is a name of the kernel' from sqlite_master
            where lower(substr(name, 1, 9)) = '_cardinal' or lower(substr(tbl_name, 1, 9)) = '_cardinal'";
        found.extend(lines(&mut open, ours)?);
        Ok(found)
    };
    // What SQLite says of a file that is none is a problem of the file.
    Ok(look().unwrap_or_else(|e: SqlError| vec![e.message]))
}

/// Makes the home of `to` out of such a file: whatever lay there is removed. It has no pair yet.
pub fn adopt(from: &Path, to: &Path) -> Result<Home, String> {
    let io = |e: std::io::Error| format!("{OF_DISK}{e}");
    remove(to).map_err(io)?;
    to.parent().map_or(Ok(()), fs::create_dir_all).map_err(io)?;
    // Beside the copy, where whatever an end of the process leaves is removed by the next start.
    let made = beside(from, ".made");
    clear(&made)?;
    let copied = open_connection(from).and_then(|mut open| open.vacuum_into(&made));
    let set_up = copied.and_then(|()| open_connection(&made)?.as_kernel(|open| open.raw.run(SCHEMA)));
    if let Err(error) = set_up {
        clear(&made)?;
        return Err(said("adopt", &error));
    }
    let write_ahead = || {
        let mut file = OpenOptions::new().write(true).open(&made)?;
        file.seek(SeekFrom::Start(VERSIONS_AT))?;
        file.write_all(&WRITE_AHEAD)?;
        file.sync_all()?;
        fs::rename(&made, to)?;
        to.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    if let Err(error) = write_ahead() {
        clear(&made)?;
        return Err(io(error));
    }
    Home::over(to.to_owned()).map_err(|e| said("adopt", &e))
}
