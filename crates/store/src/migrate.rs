//! Migrations: each one is applied once, in its own transaction, in order.

use rusqlite::Connection;

use crate::StoreError;

/// Every migration, oldest first. A released one is never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_init.sql"),
    include_str!("../migrations/0002_cron.sql"),
    include_str!("../migrations/0003_delivery.sql"),
];

/// Brings a database to the newest schema.
pub(crate) fn run(db: &mut Connection) -> Result<(), StoreError> {
    let version: i64 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(StoreError::doing("reading the schema version"))?;
    let known = i64::try_from(MIGRATIONS.len()).expect("a handful of migrations");
    if version > known {
        return Err(StoreError::TooNew {
            found: version,
            known,
        });
    }
    for (number, sql) in (1_i64..).zip(MIGRATIONS) {
        if number <= version {
            continue;
        }
        let doing = StoreError::doing("migrating");
        let tx = db.transaction().map_err(&doing)?;
        tx.execute_batch(sql).map_err(&doing)?;
        tx.pragma_update(None, "user_version", number)
            .map_err(&doing)?;
        tx.commit().map_err(&doing)?;
    }
    Ok(())
}
