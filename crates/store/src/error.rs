//! What can go wrong with the database.

/// A failed act. It says what was being done; the gateway logs it and tells the peer an id.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("database: {doing}: {source}")]
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
    /// The database thread is gone: the process is stopping, or it panicked.
    #[error("database: closed")]
    Closed,
}

impl StoreError {
    /// Wraps SQLite's error with the act, for `map_err`.
    pub(crate) fn doing(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { doing, source }
    }
}
