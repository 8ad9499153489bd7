//! What can go wrong with the database.

use std::cell::Cell;

use rusqlite::ffi;

thread_local! {
    /// The last fault that this thread met. Acts and looks give back errors of their own making, in
    /// which it may not be found any more.
    static MET: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// What the disk under the database does, or what became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no room.
    Full,
    /// It cannot be written: it is read only, or it fails.
    Refused,
    /// What was written was not confirmed to last. Whether it does is known when the file is read
    /// anew.
    Unsynced,
    /// The file holds what no database holds.
    Damaged,
}

impl Fault {
    /// What stands behind an error of SQLite's, if it is a fault and no mistake.
    fn of(error: &rusqlite::Error) -> Option<Self> {
        let error = error.sqlite_error()?;
        match error.extended_code {
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => return Some(Self::Unsynced),
            ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_SHORT_READ => {
                return Some(Self::Damaged);
            }
            // The index of the log takes its room when it is opened.
            ffi::SQLITE_IOERR_SHMSIZE => return Some(Self::Full),
            _ => {}
        }
        match error.code {
            ffi::ErrorCode::DiskFull => Some(Self::Full),
            ffi::ErrorCode::SystemIoFailure
            | ffi::ErrorCode::ReadOnly
            | ffi::ErrorCode::CannotOpen => Some(Self::Refused),
            ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase => Some(Self::Damaged),
            _ => None,
        }
    }

    /// Whether nothing is written any more until the file was opened anew.
    ///
    /// After a failed sync the system may count pages as written that are not, and the log in the file
    /// may or may not hold the commit whose caller was told that it failed: what is in memory could
    /// be another state than the one that the next start reads. A file that is damaged takes harm from
    /// what is written to it.
    pub fn ends_writing(self) -> bool {
        matches!(self, Self::Unsynced | Self::Damaged)
    }

    /// Takes what this thread met since this was last asked.
    pub(crate) fn take_met() -> Option<Self> {
        MET.take()
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::Refused => "the disk cannot be written",
            Self::Unsynced => "the disk did not confirm a write",
            Self::Damaged => "the database is damaged",
        })
    }
}

/// A failed act. It says what was being done; the gateway logs it and tells the peer an id.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("database: {doing}: {}", words(source))]
    Sqlite {
        /// The act.
        doing: &'static str,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// A row holds what no version of clawgate writes.
    #[error("database: {table}.{column} of {row} holds something unreadable")]
    Inconsistent {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Key of the row.
        row: String,
    },
    /// The file comes from a newer clawgate.
    #[error("database: schema version {found} is newer than this program knows ({known})")]
    TooNew {
        /// Version of the file.
        found: i64,
        /// Newest known version.
        known: i64,
    },
    /// A file that should not be started over: something lies where the database was.
    #[error("database: {path} is not a database that can be opened: {why}")]
    Unusable {
        /// Path of the file.
        path: String,
        /// Why.
        why: String,
    },
    /// The act itself broke off; it left no trace.
    #[error("database: {doing}: broke off")]
    Abandoned {
        /// The act.
        doing: &'static str,
    },
    /// It was not tried, or not finished: the disk fails, or failed before. It left no trace.
    #[error("database: {doing}: {fault}")]
    Faulty {
        /// The act.
        doing: &'static str,
        /// What is known of the disk.
        fault: Fault,
    },
    /// The database thread is gone: the process is stopping, or it panicked.
    #[error("database: closed")]
    Closed,
}

/// SQLite's words, behind what they mean where it is the disk.
fn words(source: &rusqlite::Error) -> String {
    match Fault::of(source) {
        Some(fault) => format!("{fault} ({source})"),
        None => source.to_string(),
    }
}

impl StoreError {
    /// Wraps SQLite's error with the act, for `map_err`.
    pub(crate) fn doing(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| {
            if let Some(fault) = Fault::of(&source) {
                MET.set(Some(fault));
            }
            Self::Sqlite { doing, source }
        }
    }

    /// What the disk did, where that is what failed.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Sqlite { source, .. } => Fault::of(source),
            Self::Faulty { fault, .. } => Some(*fault),
            Self::Inconsistent { .. }
            | Self::TooNew { .. }
            | Self::Unusable { .. }
            | Self::Abandoned { .. }
            | Self::Closed => None,
        }
    }
}
