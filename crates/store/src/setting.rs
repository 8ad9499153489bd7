//! Settings that are changed over the wire and outlive a restart.

use rusqlite::OptionalExtension as _;

use crate::{Read, Store, StoreError, Tx};

/// The setting that is written to find out whether anything can be.
const TRIED: &str = "disk.tried";

impl Store {
    /// Writes something that nobody needs, so that [`Store::fault`] tells whether the disk takes it.
    ///
    /// # Errors
    /// The database's.
    pub async fn try_disk(&self, now_ms: i64) -> Result<(), StoreError> {
        let now = now_ms.to_string();
        self.write("trying the disk", move |tx| tx.set_setting(TRIED, &now))
            .await
    }
}

impl Read<'_> {
    /// The value of a setting.
    ///
    /// # Errors
    /// The database's.
    pub fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.db
            .prepare_cached("SELECT value FROM settings WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
            .map_err(StoreError::doing("reading a setting"))
    }
}

impl Tx<'_> {
    /// Sets a setting.
    ///
    /// # Errors
    /// The database's.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO settings (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )
            .and_then(|mut statement| statement.execute([name, value]))
            .map(drop)
            .map_err(StoreError::doing("writing a setting"))
    }
}
