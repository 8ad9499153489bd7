//! Migrations: each one is applied once, in order, all that are missing in one transaction: a database
//! is as old as it was, or up to date. And the mark in the file that says whose it is.

use std::{fs::File, io::Read as _, os::unix::fs::FileExt as _, path::Path};

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// Every migration, oldest first. A released one is never changed.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_init.sql"),
    include_str!("../migrations/0002_cron.sql"),
    include_str!("../migrations/0003_delivery.sql"),
    include_str!("../migrations/0004_sessions.sql"),
    include_str!("../migrations/0005_nodes.sql"),
    include_str!("../migrations/0006_approvals.sql"),
    include_str!("../migrations/0007_runs.sql"),
    include_str!("../migrations/0008_memory.sql"),
];

/// An empty database of the newest schema, without its zeros: `build.rs` makes it of the migrations and
/// says how it is written down.
const NEW: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/new.runs"));

/// `PRAGMA application_id` of clawgate's databases, "clga". Older ones have none.
const APPLICATION_ID: i32 = 0x636c_6761;

/// What a SQLite file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Refuses a file that is another program's database or none at all, by what its first bytes say and
/// without writing to it. They are up to date: a new database gets its mark and its version before
/// it has a log.
pub(crate) fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    let unusable = |why: String| StoreError::Unusable {
        path: path.display().to_string(),
        why,
    };
    let mut header = [0_u8; 100];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if let Err(error) = read
        && error.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return Err(unusable(error.to_string()));
    }
    if !header.starts_with(MAGIC) {
        return Err(unusable(
            "it is not a SQLite file; restore a backup, or move it away".to_owned(),
        ));
    }
    let number = |at: usize| {
        let bytes = header[at..at + 4].try_into().expect("four bytes");
        i32::from_be_bytes(bytes)
    };
    let (version, application) = (number(60), number(68));
    let ours = match (application, version) {
        (APPLICATION_ID, _) => true,
        // One of before there was a mark. Other programs count versions too, in other tables.
        (0, 1..) => has_our_tables(path)?,
        _ => false,
    };
    if ours {
        Ok(())
    } else {
        Err(unusable(
            "it is another program's database; move it away, or use another --state-dir".to_owned(),
        ))
    }
}

/// Refuses a log that is none. SQLite takes one whose beginning is not what it wrote for one without
/// commits, and the state would go back to what it was before them without a word. (Where a commit in
/// the middle of it is damaged, that one and those behind it look like a write that was cut short,
/// and nobody can tell them apart.)
pub(crate) fn refuse_damaged_log(path: &Path) -> Result<(), StoreError> {
    const HEADER: usize = 32;
    let log = path.with_extension("sqlite-wal");
    let mut header = [0_u8; HEADER];
    let read = match File::open(&log) {
        Ok(mut file) => file.read_exact(&mut header),
        Err(error) => Err(error),
    };
    match read {
        Ok(()) => {}
        // Nothing was ever committed into one that is shorter.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            return Ok(());
        }
        Err(error) => {
            return Err(StoreError::Unusable {
                path: log.display().to_string(),
                why: error.to_string(),
            });
        }
    }
    // A header is synced before the first commit behind it is answered; zeros stand where the power
    // went before that.
    if header == [0; HEADER] || is_log_header(&header) {
        return Ok(());
    }
    Err(StoreError::Unusable {
        path: path.display().to_string(),
        why: format!(
            "its log {} is damaged, and what was committed last is in it; restore a backup, or move the log away to go on without that",
            log.display()
        ),
    })
}

/// Whether a log begins as SQLite begins one: a magic number, and a checksum over what follows it.
fn is_log_header(header: &[u8; 32]) -> bool {
    let word = |at: usize, big: bool| {
        let bytes: [u8; 4] = header[at..at + 4].try_into().expect("four bytes");
        if big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let magic = word(0, true);
    if magic & !1 != 0x377f_0682 {
        return false;
    }
    let (mut one, mut two) = (0_u32, 0_u32);
    for at in (0..24).step_by(8) {
        one = one.wrapping_add(word(at, magic & 1 == 1)).wrapping_add(two);
        two = two
            .wrapping_add(word(at + 4, magic & 1 == 1))
            .wrapping_add(one);
    }
    (one, two) == (word(24, true), word(28, true))
}

fn has_our_tables(path: &Path) -> Result<bool, StoreError> {
    let doing = StoreError::doing("looking whose database it is");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(&doing)?;
    let found: i64 = db
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table'
             AND name IN ('device_roles', 'device_tokens', 'pairing_requests', 'api_tokens')",
            [],
            |row| row.get(0),
        )
        .map_err(&doing)?;
    Ok(found == 4)
}

/// Writes a new database into an empty file. That it is there for good is the caller's to see to.
pub(crate) fn lay_out(file: &File) -> std::io::Result<()> {
    let mut rest = NEW;
    let number = |rest: &mut &[u8]| {
        let (bytes, after) = rest.split_first_chunk().expect("whole numbers");
        *rest = after;
        u32::from_le_bytes(*bytes)
    };
    file.set_len(u64::from(number(&mut rest)))?;
    while !rest.is_empty() {
        let at = u64::from(number(&mut rest));
        let length = usize::try_from(number(&mut rest)).expect("shorter than this program");
        let (bytes, after) = rest.split_at(length);
        file.write_all_at(bytes, at)?;
        rest = after;
    }
    Ok(())
}

/// The newest schema that is known.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).expect("a handful of migrations")
}

/// Brings a database to the newest schema, and marks it as clawgate's.
pub(crate) fn run(db: &mut Connection) -> Result<(), StoreError> {
    let number = |db: &Connection, pragma: &str| -> Result<i64, StoreError> {
        db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
            .map_err(StoreError::doing("reading the schema version"))
    };
    let version = number(db, "user_version")?;
    let known = newest();
    if version > known {
        return Err(StoreError::TooNew {
            found: version,
            known,
        });
    }
    let doing = StoreError::doing("migrating");
    if number(db, "application_id")? != i64::from(APPLICATION_ID) {
        db.pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(&doing)?;
    }
    if version == known {
        return Ok(());
    }
    let tx = db.transaction().map_err(&doing)?;
    for (number, sql) in (1_i64..).zip(MIGRATIONS) {
        if number > version {
            tx.execute_batch(sql).map_err(&doing)?;
        }
    }
    tx.pragma_update(None, "user_version", known)
        .map_err(&doing)?;
    tx.commit().map_err(&doing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of some program, in a directory of its own.
    fn made(sql: &str) -> std::path::PathBuf {
        static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("clawgate-migrate-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("clawgate.sqlite");
        let _ = std::fs::remove_file(&path);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    }

    #[test]
    fn a_database_of_another_program_is_refused_and_left_as_it_is() {
        for sql in [
            "CREATE TABLE notes (a)",
            "CREATE TABLE notes (a); PRAGMA user_version = 1",
            "CREATE TABLE devices (a); PRAGMA user_version = 2",
            "CREATE TABLE notes (a); PRAGMA application_id = 7; PRAGMA user_version = 2",
            "PRAGMA user_version = 1",
        ] {
            let path = made(sql);
            let before = std::fs::read(&path).unwrap();
            let refused = crate::Store::open(&path).unwrap_err();
            assert!(
                matches!(refused, StoreError::Unusable { .. }),
                "{refused:?}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), before, "{sql}");
            std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }

    /// Everything in a database but what SQLite keeps for itself.
    fn dump(db: &Connection) -> Vec<String> {
        let text = |sql: &str| -> Vec<String> {
            let mut statement = db.prepare(sql).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                (0..columns)
                    .map(|at| Ok(format!("{:?}", row.get_ref(at)?)))
                    .collect::<rusqlite::Result<Vec<_>>>()
                    .map(|values| values.join(" "))
            };
            let rows = statement.query_map([], row).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        let mut all =
            text("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name");
        for pragma in [
            "application_id",
            "user_version",
            "page_size",
            "auto_vacuum",
            "encoding",
        ] {
            all.extend(text(&format!("PRAGMA {pragma}")));
        }
        let tables: Vec<String> = db
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for table in tables {
            all.push(table.clone());
            all.extend(text(&format!("SELECT * FROM {table}")));
        }
        all
    }

    #[test]
    fn a_new_database_is_what_the_migrations_make() {
        let path = made("");
        std::fs::remove_file(&path).unwrap();
        drop(crate::Store::open(&path).unwrap());
        let new = Connection::open(&path).unwrap();
        let mut migrated = Connection::open_in_memory().unwrap();
        run(&mut migrated).unwrap();
        assert_eq!(dump(&new), dump(&migrated));
        let sound: String = new
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn an_older_database_of_our_own_is_taken_and_marked() {
        let path = made(&format!("{}; PRAGMA user_version = 1", MIGRATIONS[0]));
        drop(crate::Store::open(&path).unwrap());
        let db = Connection::open(&path).unwrap();
        let mark: i32 = db
            .query_row("PRAGMA application_id", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mark, APPLICATION_ID);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
