//! What comes over from another gateway: looks at what is here already, and rows as they were there.
//!
//! Every row of an import is written in one transaction ([`crate::Store::write`]), so that an import
//! that is cut short leaves nothing.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use rusqlite::{Connection, OpenFlags, named_params};

use crate::{CronRun, LastRun, Read, StoreError, Tx};

/// What an import must not bring a second time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Ids of jobs.
    pub jobs: HashSet<String>,
    /// Keys under which jobs are declared.
    pub declared: HashSet<String>,
    /// Ids of the runs that an import brought.
    pub runs: HashSet<String>,
    /// Rows of history of each job id, whoever wrote them.
    pub history: HashMap<String, usize>,
    /// Ids of paired devices.
    pub devices: HashSet<String>,
    /// Keys of sessions.
    pub sessions: HashSet<String>,
}

/// How many rows there are of what an import brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCounts {
    /// Jobs.
    pub jobs: u64,
    /// Runs.
    pub runs: u64,
    /// Paired devices.
    pub devices: u64,
    /// Sessions.
    pub sessions: u64,
    /// Entries of transcripts.
    pub entries: u64,
}

/// Looks at a database that no gateway holds, and writes nothing: neither the file nor anything
/// beside it, unless a gateway that was killed left its log there.
///
/// # Errors
/// [`StoreError`] when the file cannot be read.
pub fn look(path: &Path) -> Result<Present, StoreError> {
    let log = path.with_extension("sqlite-wal");
    let settled = std::fs::metadata(&log).map_or(true, |meta| meta.len() == 0);
    let address = format!(
        "file:{}{}",
        path.display()
            .to_string()
            .replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23"),
        // Without a log the file is all there is, and SQLite needs no files of its own to read it.
        if settled { "?immutable=1" } else { "" }
    );
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(address, flags).map_err(StoreError::doing("looking"))?;
    Read { db: &db }.present()
}

impl Read<'_> {
    /// What is here already.
    ///
    /// # Errors
    /// The database's.
    pub fn present(&self) -> Result<Present, StoreError> {
        let history = self
            .db
            .prepare("SELECT job_id, count(*) FROM cron_runs GROUP BY job_id")
            .and_then(|mut s| {
                s.query_map([], |row| {
                    let rows: i64 = row.get(1)?;
                    Ok((row.get(0)?, usize::try_from(rows).unwrap_or(usize::MAX)))
                })?
                .collect()
            })
            .map_err(StoreError::doing("counting runs"))?;
        Ok(Present {
            jobs: self.texts("SELECT job_id FROM cron_jobs")?,
            declared: self
                .texts("SELECT declaration_key FROM cron_jobs WHERE declaration_key IS NOT NULL")?,
            runs: self.texts("SELECT run_id FROM cron_runs WHERE run_id LIKE 'import:%'")?,
            history,
            devices: self.texts("SELECT device_id FROM devices")?,
            sessions: self.session_keys()?,
        })
    }

    /// Keys of sessions; a database that no newer gateway has opened yet has no place for them.
    fn session_keys(&self) -> Result<HashSet<String>, StoreError> {
        let has_place = self
            .db
            .prepare("SELECT 1 FROM sqlite_schema WHERE name = 'sessions'")
            .and_then(|mut s| s.exists([]))
            .map_err(StoreError::doing("looking at what is here"))?;
        if has_place {
            self.texts("SELECT session_key FROM sessions")
        } else {
            Ok(HashSet::new())
        }
    }

    fn texts(&self, sql: &str) -> Result<HashSet<String>, StoreError> {
        self.db
            .prepare(sql)
            .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
            .map_err(StoreError::doing("looking at what is here"))
    }

    /// Counts the rows themselves, not the kept totals.
    ///
    /// # Errors
    /// The database's.
    pub fn row_counts(&self) -> Result<RowCounts, StoreError> {
        let count = |sql: &str| {
            self.db
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .map(|rows| u64::try_from(rows).unwrap_or(0))
                .map_err(StoreError::doing("counting rows"))
        };
        Ok(RowCounts {
            jobs: count("SELECT count(*) FROM cron_jobs")?,
            runs: count("SELECT count(*) FROM cron_runs")?,
            devices: count("SELECT count(*) FROM devices")?,
            sessions: count("SELECT count(*) FROM sessions")?,
            entries: count("SELECT count(*) FROM transcript_entries")?,
        })
    }
}

impl Tx<'_> {
    /// Notes what a job did before it came here.
    ///
    /// # Errors
    /// The database's.
    pub fn import_last_run(&self, job_id: &str, last: &LastRun) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE cron_jobs SET last_run_at_ms = :at, last_status = :status,
                     last_duration_ms = :duration, last_error = :error,
                     last_error_class = :class, last_delivery = :delivery,
                     last_delivery_error = :delivery_error
                 WHERE job_id = :job_id",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":job_id": job_id,
                    ":at": last.at_ms,
                    ":status": last.status,
                    ":duration": last.duration_ms,
                    ":error": last.error,
                    ":class": last.error_class,
                    ":delivery": last.delivery_status,
                    ":delivery_error": last.delivery_error,
                })
            })
            .map(drop)
            .map_err(StoreError::doing("importing a job's last run"))
    }

    /// Writes a run that ended elsewhere. It has no number of the planner and takes no slot; it
    /// counts in its job's history, if the job is here.
    ///
    /// # Errors
    /// The database's, also when a run of that id is here.
    pub fn import_run(&self, run: &CronRun) -> Result<(), StoreError> {
        let doing = StoreError::doing("importing a run");
        self.db
            .prepare_cached(
                "INSERT INTO cron_runs (run_id, job_id, job_name, kind, attempt, status, verdict,
                     reason, error, error_class, summary, started_at_ms, ended_at_ms, duration_ms,
                     next_run_at_ms, delivery_status, delivery_error, about, boot_id)
                 VALUES (:run_id, :job_id, :name, :kind, :attempt, :status, :verdict, :reason,
                     :error, :class, :summary, :started, :ended, :duration, :next_run, :delivery,
                     :delivery_error, :about, :boot)",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":run_id": run.run_id.as_str(),
                    ":job_id": run.job_id.as_str(),
                    ":name": run.job_name,
                    ":kind": run.kind,
                    ":attempt": run.attempt,
                    ":status": run.status,
                    ":verdict": run.verdict,
                    ":reason": run.reason,
                    ":error": run.error,
                    ":class": run.error_class,
                    ":summary": run.summary,
                    ":started": run.started_at_ms,
                    ":ended": run.ended_at_ms,
                    ":duration": run.duration_ms,
                    ":next_run": run.next_run_at_ms,
                    ":delivery": run.delivery_status,
                    ":delivery_error": run.delivery_error,
                    ":about": run.about,
                    ":boot": run.boot_id,
                })
            })
            .map_err(&doing)?;
        self.db
            .prepare_cached("UPDATE cron_jobs SET history = history + 1 WHERE job_id = ?1")
            .and_then(|mut s| s.execute([run.job_id.as_str()]))
            .map(drop)
            .map_err(&doing)
    }
}
