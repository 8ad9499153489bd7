//! Makes an empty database once, here, so that no first start has to: its hundred tables, indices and
//! triggers take SQLite longer than everything else that a start does.

use std::{env, error::Error, fs, path::Path};

use rusqlite::Connection;

/// `PRAGMA application_id`, as `src/migrate.rs` has it.
const APPLICATION_ID: i32 = 0x636c_6761;
/// Zeros in a row that are worth a new run.
const GAP: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-changed=build.rs");
    let mut migrations = fs::read_dir("migrations")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    migrations.sort();
    let out = env::var("OUT_DIR")?;
    let path = Path::new(&out).join("new.sqlite");
    if path.exists() {
        fs::remove_file(&path)?;
    }
    let db = Connection::open(&path)?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    for migration in &migrations {
        db.execute_batch(&fs::read_to_string(migration)?)?;
    }
    db.pragma_update(None, "user_version", i64::try_from(migrations.len())?)?;
    db.execute_batch("VACUUM")?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.close().map_err(|(_, error)| error)?;
    fs::write(Path::new(&out).join("new.runs"), runs(&fs::read(&path)?)?)?;
    Ok(())
}

/// What of a file is not zero, since nearly all of it is: its length, then for each run where it
/// begins, its length (all as 32 bits, little end first), and its bytes.
fn runs(file: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut runs = u32::try_from(file.len())?.to_le_bytes().to_vec();
    let mut at = 0;
    while let Some(skip) = file[at..].iter().position(|byte| *byte != 0) {
        let begin = at + skip;
        let length = file[begin..]
            .windows(GAP)
            .position(|next| next.iter().all(|byte| *byte == 0))
            .unwrap_or(file.len() - begin);
        runs.extend(u32::try_from(begin)?.to_le_bytes());
        runs.extend(u32::try_from(length)?.to_le_bytes());
        runs.extend(&file[begin..begin + length]);
        at = begin + length;
    }
    Ok(runs)
}
