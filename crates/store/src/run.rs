//! Runs of turns, by the key under which they were asked for.

use rusqlite::{OptionalExtension as _, Row};

use crate::{Read, StoreError, Tx};

/// Ended runs are forgotten this long after their end, milliseconds.
const RUNS_KEPT_MS: i64 = 7 * 24 * 3_600_000;

/// Whether a run may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunClaim {
    /// It is the caller's now.
    Claimed,
    /// It was asked for before.
    Before(Run),
}

/// A run, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// In which session.
    pub session_key: String,
    /// When it was asked for, milliseconds.
    pub claimed_at_ms: i64,
    /// When its turn began, milliseconds.
    pub started_at_ms: Option<i64>,
    /// When it ended, milliseconds, and how.
    pub ended: Option<(i64, String)>,
    /// What came of it, JSON.
    pub result: Option<String>,
}

/// A run that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// Its key.
    pub run_id: String,
    /// In which session.
    pub session_key: String,
    /// When its turn began, milliseconds.
    pub started_at_ms: Option<i64>,
    /// What was asked for, JSON.
    pub request: Option<String>,
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let (ended_at, outcome): (Option<i64>, Option<String>) = (row.get(3)?, row.get(4)?);
    Ok(Run {
        session_key: row.get(0)?,
        claimed_at_ms: row.get(1)?,
        started_at_ms: row.get(2)?,
        ended: ended_at.zip(outcome),
        result: row.get(5)?,
    })
}

impl Read<'_> {
    /// A run by its key. What ended a week ago may be forgotten.
    ///
    /// # Errors
    /// The database's.
    pub fn run(&self, run_id: &str) -> Result<Option<Run>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT session_key, claimed_at_ms, started_at_ms, ended_at_ms, outcome, result
                 FROM session_runs WHERE run_id = ?1",
            )
            .and_then(|mut s| s.query_row([run_id], run).optional())
            .map_err(StoreError::doing("reading a run"))
    }

    /// The runs that are not over, in the order of their coming.
    ///
    /// # Errors
    /// The database's.
    pub fn open_runs(&self) -> Result<Vec<OpenRun>, StoreError> {
        let doing = StoreError::doing("reading the runs under way");
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT run_id, session_key, started_at_ms, request FROM session_runs
                 WHERE ended_at_ms IS NULL ORDER BY claimed_at_ms, run_id",
            )
            .map_err(&doing)?;
        let rows = statement
            .query_map([], |row| {
                Ok(OpenRun {
                    run_id: row.get(0)?,
                    session_key: row.get(1)?,
                    started_at_ms: row.get(2)?,
                    request: row.get(3)?,
                })
            })
            .map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }
}

impl Tx<'_> {
    /// Takes a run for the caller, once: whoever asks again is told how far it is. `request` is kept
    /// until it is over. What ended a week ago is forgotten.
    ///
    /// # Errors
    /// The database's.
    pub fn claim_run(
        &self,
        run_id: &str,
        session_key: &str,
        request: Option<&str>,
        now_ms: i64,
    ) -> Result<RunClaim, StoreError> {
        let doing = StoreError::doing("claiming a run");
        self.db
            .prepare_cached(
                "DELETE FROM session_runs WHERE ended_at_ms < ?1
                 AND run_id IN (SELECT run_id FROM session_runs WHERE ended_at_ms < ?1 LIMIT 100)",
            )
            .and_then(|mut s| s.execute([now_ms - RUNS_KEPT_MS]))
            .map_err(&doing)?;
        if let Some(before) = self.read().run(run_id)? {
            return Ok(RunClaim::Before(before));
        }
        self.db
            .prepare_cached(
                "INSERT INTO session_runs (run_id, session_key, claimed_at_ms, request)
                 VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut s| s.execute((run_id, session_key, now_ms, request)))
            .map(|_| RunClaim::Claimed)
            .map_err(&doing)
    }

    /// Its turn begins. `false` when it began before, or is over: it may not begin then.
    ///
    /// # Errors
    /// The database's.
    pub fn start_run(&self, run_id: &str, now_ms: i64) -> Result<bool, StoreError> {
        self.db
            .prepare_cached(
                "UPDATE session_runs SET started_at_ms = ?2
                 WHERE run_id = ?1 AND started_at_ms IS NULL AND ended_at_ms IS NULL",
            )
            .and_then(|mut s| s.execute((run_id, now_ms)))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("starting a run"))
    }

    /// Writes down how a run ended. `false` when it was none that is under way.
    ///
    /// # Errors
    /// The database's.
    pub fn end_run(
        &self,
        run_id: &str,
        outcome: &str,
        result: Option<&str>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        self.db
            .prepare_cached(
                "UPDATE session_runs SET ended_at_ms = ?4, outcome = ?2, result = ?3, request = NULL
                 WHERE run_id = ?1 AND ended_at_ms IS NULL",
            )
            .and_then(|mut s| s.execute((run_id, outcome, result, now_ms)))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("ending a run"))
    }
}
