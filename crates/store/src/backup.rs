//! A copy of the whole database, and in what condition a database is. Neither needs the gateway to
//! stand still, and neither migrates anything.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{StoreError, migrate};

/// Problems of a database that are named one by one.
const PROBLEMS_MAX: u32 = 20;

/// In what condition a database is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Version of its schema.
    pub schema: i64,
    /// The newest version that this program knows.
    pub known_schema: i64,
    /// What SQLite finds wrong with it, at most twenty; empty when it is whole.
    pub problems: Vec<String>,
}

impl Condition {
    /// Whether it is whole and this program can open it.
    pub fn is_usable(&self) -> bool {
        self.problems.is_empty() && self.schema <= self.known_schema
    }
}

/// Copies the last committed state into a new file, one snapshot however long it takes. A gateway
/// that has the database open goes on writing meanwhile.
///
/// `to` must not exist or be empty; its mode is what it was made with.
///
/// # Errors
/// [`StoreError`] when the database is none of clawgate's, damaged, or the copy cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    migrate::refuse_foreign(from)?;
    migrate::refuse_damaged_log(from)?;
    let doing = StoreError::doing("copying");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(from, flags).map_err(&doing)?;
    db.busy_timeout(Duration::from_secs(10)).map_err(&doing)?;
    let to = to.to_str().ok_or_else(|| StoreError::Unusable {
        path: to.display().to_string(),
        why: "its name is no text".to_owned(),
    })?;
    db.execute("VACUUM INTO ?1", [to]).map(drop).map_err(&doing)
}

/// Examines a database without changing it: whose it is, its schema, every page of it, and with
/// `deep` whether every index agrees with its table.
///
/// # Errors
/// [`StoreError`] when it cannot be opened at all.
pub fn examine(path: &Path, deep: bool) -> Result<Condition, StoreError> {
    let db = open_to_look(path)?;
    let doing = StoreError::doing("examining");
    let schema = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(&doing)?;
    let check = if deep {
        "integrity_check"
    } else {
        "quick_check"
    };
    let mut problems: Vec<String> = db
        .prepare(&format!("PRAGMA {check}({PROBLEMS_MAX})"))
        .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
        // A page that cannot be read at all ends the check; that is its finding.
        .unwrap_or_else(|error| vec![error.to_string()]);
    problems.retain(|problem| problem != "ok");
    if problems.is_empty() {
        let orphans: Vec<String> = db
            .prepare("PRAGMA foreign_key_check")
            .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
            .map_err(&doing)?;
        problems.extend(
            orphans
                .iter()
                .take(usize::try_from(PROBLEMS_MAX).unwrap_or_default())
                .map(|table| format!("a row of {table} belongs to nothing")),
        );
    }
    Ok(Condition {
        schema,
        known_schema: migrate::newest(),
        problems,
    })
}

/// Opens a database to look at it and nothing else. Where no gateway has it open there is no log
/// beside it, and SQLite is told that it needs no files of its own to read it.
pub(crate) fn open_to_look(path: &Path) -> Result<Connection, StoreError> {
    migrate::refuse_foreign(path)?;
    migrate::refuse_damaged_log(path)?;
    let doing = StoreError::doing("looking");
    let log = path.with_extension("sqlite-wal");
    let flags = OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let address = format!(
        "file:{}",
        path.display()
            .to_string()
            .replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23")
    );
    if log.symlink_metadata().is_err() {
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY;
        return Connection::open_with_flags(format!("{address}?immutable=1"), flags)
            .map_err(&doing);
    }
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE;
    let db = Connection::open_with_flags(address, flags).map_err(&doing)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(&doing)?;
    // A log that a killed gateway left is read, and left for the next start.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(&doing)?;
    db.pragma_update(None, "query_only", true).map_err(&doing)?;
    Ok(db)
}
