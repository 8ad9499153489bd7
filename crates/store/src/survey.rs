//! What an operator should know of what a database holds, read without a gateway.

use std::path::Path;

use clawgate_core::pairing::{Device, Pending};

use crate::{ApiToken, Read, StoreError, backup::open_to_look};

/// Jobs and deliveries that are named one by one; the counts are of all.
const NAMED_MAX: i64 = 50;

/// What a database holds that may need somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Pairing requests, expired ones among them.
    pub pairing_requests: Vec<Pending>,
    /// Jobs that failed so often that they were disabled, or that fail in a row, worst first.
    pub failing_jobs: Vec<FailingJob>,
    /// Enabled jobs that will never be due again, and are not running.
    pub idle_jobs: Vec<(String, String)>,
    /// Jobs, enabled or not.
    pub jobs: u64,
    /// Deliveries that wait although they were tried, the oldest first.
    pub stuck_deliveries: Vec<StuckDelivery>,
    /// Deliveries that wait, tried or not.
    pub waiting_deliveries: u64,
    /// The newest moment that anything was recorded at, milliseconds.
    pub newest_ms: Option<i64>,
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Paired devices.
    pub devices: Vec<Device>,
    /// API tokens.
    pub api_tokens: Vec<ApiToken>,
}

/// A job that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingJob {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it still runs.
    pub enabled: bool,
    /// Failures in a row.
    pub failures: u32,
    /// The last one.
    pub last_error: Option<String>,
}

/// A delivery that does not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckDelivery {
    /// Whose.
    pub job_id: String,
    /// Attempts so far.
    pub attempts: u32,
    /// What went wrong at the last one.
    pub error: Option<String>,
    /// When it was queued, milliseconds.
    pub created_at_ms: i64,
}

/// Surveys a database of the schema that this program knows, without changing it.
///
/// # Errors
/// The database's.
pub fn survey(path: &Path) -> Result<Survey, StoreError> {
    let db = open_to_look(path)?;
    let read = Read { db: &db };
    Ok(Survey {
        pairing_requests: read.pairing_requests()?,
        failing_jobs: read.failing_jobs()?,
        idle_jobs: read.idle_jobs()?,
        jobs: read.row_counts()?.jobs,
        stuck_deliveries: read.stuck_deliveries()?,
        waiting_deliveries: read.pending_deliveries()?,
        newest_ms: read.newest_record()?,
    })
}

/// Reads who may do what from a database of the schema that this program knows, without changing it.
///
/// # Errors
/// The database's.
pub fn grants(path: &Path) -> Result<Grants, StoreError> {
    let db = open_to_look(path)?;
    let read = Read { db: &db };
    Ok(Grants {
        devices: read.devices()?,
        api_tokens: read.api_tokens()?,
    })
}

impl Read<'_> {
    fn newest_record(&self) -> Result<Option<i64>, StoreError> {
        self.db
            .query_row(
                "SELECT max(
                     ifnull((SELECT max(ended_at_ms) FROM cron_runs WHERE status <> 'running'), 0),
                     ifnull((SELECT at_ms FROM audit ORDER BY seq DESC LIMIT 1), 0))",
                [],
                |row| row.get::<_, i64>(0),
            )
            .map(|at| (at > 0).then_some(at))
            .map_err(StoreError::doing("finding the newest record"))
    }

    fn failing_jobs(&self) -> Result<Vec<FailingJob>, StoreError> {
        self.db
            .prepare(
                "SELECT job_id, name, enabled, consecutive_errors, last_error FROM cron_jobs
                 WHERE (enabled AND consecutive_errors >= 2)
                    OR (NOT enabled AND disabled_why IS NOT NULL AND consecutive_errors > 0)
                 ORDER BY enabled, consecutive_errors DESC, job_id LIMIT ?1",
            )
            .and_then(|mut s| {
                s.query_map([NAMED_MAX], |row| {
                    Ok(FailingJob {
                        id: row.get(0)?,
                        name: row.get(1)?,
                        enabled: row.get(2)?,
                        failures: row.get(3)?,
                        last_error: row.get(4)?,
                    })
                })?
                .collect()
            })
            .map_err(StoreError::doing("finding jobs that fail"))
    }

    fn idle_jobs(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.db
            .prepare(
                "SELECT job_id, name FROM cron_jobs
                 WHERE enabled AND next_run_at_ms IS NULL AND running_at_ms IS NULL
                   AND schedule_kind <> 'at'
                 ORDER BY job_id LIMIT ?1",
            )
            .and_then(|mut s| {
                s.query_map([NAMED_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(StoreError::doing("finding jobs that are never due"))
    }

    fn stuck_deliveries(&self) -> Result<Vec<StuckDelivery>, StoreError> {
        self.db
            .prepare(
                "SELECT job_id, attempts, error, created_at_ms FROM outbox
                 WHERE status = 'pending' AND attempts > 0
                 ORDER BY created_at_ms LIMIT ?1",
            )
            .and_then(|mut s| {
                s.query_map([NAMED_MAX], |row| {
                    Ok(StuckDelivery {
                        job_id: row.get(0)?,
                        attempts: row.get(1)?,
                        error: row.get(2)?,
                        created_at_ms: row.get(3)?,
                    })
                })?
                .collect()
            })
            .map_err(StoreError::doing("finding deliveries that do not arrive"))
    }
}
