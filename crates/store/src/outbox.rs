//! The outbox: what is to be sent to a web address, until it was sent or given up.
//!
//! **Invariant:** a delivery is queued in the transaction that settles its run, under an id made
//! of the run's; it leaves `pending` once, and takes the run's delivery status along.

use clawgate_core::{JobId, RunId, delivery::Purpose};
use rusqlite::{OptionalExtension as _, Row, named_params};

use crate::{Read, StoreError, Tx};

/// Ended deliveries that are kept; the oldest make room.
pub const OUTBOX_HISTORY_MAX: i64 = 10_000;

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, the same at every attempt: `<run id>:<purpose>`.
    pub id: String,
    /// What for.
    pub purpose: Purpose,
    /// Whose.
    pub job_id: JobId,
    /// Of which run.
    pub run_id: RunId,
    /// Where to.
    pub url: String,
    /// JSON text.
    pub body: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was queued.
    pub created_at_ms: i64,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The target took it; what it answered.
    Taken(String),
    /// It was given up, and why.
    GivenUp(String),
}

fn delivery_from(row: &Row<'_>) -> rusqlite::Result<Option<Delivery>> {
    let purpose: String = row.get(1)?;
    let Some(purpose) = Purpose::parse(&purpose) else {
        return Ok(None);
    };
    Ok(Some(Delivery {
        id: row.get(0)?,
        purpose,
        job_id: JobId::new(row.get::<_, String>(2)?),
        run_id: RunId::new(row.get::<_, String>(3)?),
        url: row.get(4)?,
        body: row.get(5)?,
        attempts: row.get(6)?,
        created_at_ms: row.get(7)?,
    }))
}

impl Read<'_> {
    /// Deliveries that are due, the longest waiting first.
    ///
    /// # Errors
    /// The database's.
    pub fn due_deliveries(&self, now_ms: i64, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        let doing = StoreError::doing("finding due deliveries");
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT delivery_id, purpose, job_id, run_id, url, body, attempts, created_at_ms
                 FROM outbox WHERE status = 'pending' AND next_attempt_at_ms <= ?1
                 ORDER BY next_attempt_at_ms LIMIT ?2",
            )
            .map_err(&doing)?;
        let rows = statement
            .query_map(
                (now_ms, i64::try_from(limit).unwrap_or(i64::MAX)),
                delivery_from,
            )
            .map_err(&doing)?;
        let found: Vec<Option<Delivery>> = rows.collect::<Result<_, _>>().map_err(&doing)?;
        Ok(found.into_iter().flatten().collect())
    }

    /// When the next delivery is due that is not due at `now_ms`.
    ///
    /// # Errors
    /// The database's.
    pub fn next_delivery_after(&self, now_ms: i64) -> Result<Option<i64>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT min(next_attempt_at_ms) FROM outbox
                 WHERE status = 'pending' AND next_attempt_at_ms > ?1",
            )
            .and_then(|mut s| s.query_row([now_ms], |row| row.get(0)))
            .map_err(StoreError::doing("finding the next delivery"))
    }

    /// How many deliveries wait.
    ///
    /// # Errors
    /// The database's.
    pub fn pending_deliveries(&self) -> Result<u64, StoreError> {
        self.db
            .prepare_cached("SELECT count(*) FROM outbox WHERE status = 'pending'")
            .and_then(|mut s| s.query_row([], |row| row.get::<_, i64>(0)))
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(StoreError::doing("counting deliveries"))
    }
}

impl Tx<'_> {
    /// Queues a delivery, due at once. The same id is queued once.
    ///
    /// # Errors
    /// The database's.
    pub fn queue_delivery(&self, delivery: &Delivery) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO outbox (delivery_id, purpose, job_id, run_id, url, body, status,
                     next_attempt_at_ms, created_at_ms)
                 VALUES (:id, :purpose, :job, :run, :url, :body, 'pending', :now, :now)
                 ON CONFLICT DO NOTHING",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":id": delivery.id,
                    ":purpose": delivery.purpose.as_str(),
                    ":job": delivery.job_id.as_str(),
                    ":run": delivery.run_id.as_str(),
                    ":url": delivery.url,
                    ":body": delivery.body,
                    ":now": delivery.created_at_ms,
                })
            })
            .map(drop)
            .map_err(StoreError::doing("queueing a delivery"))
    }

    /// Puts an attempt on record that is to be repeated.
    ///
    /// # Errors
    /// The database's.
    pub fn retry_delivery(&self, id: &str, error: &str, next_ms: i64) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE outbox SET attempts = attempts + 1, error = ?2, next_attempt_at_ms = ?3
                 WHERE delivery_id = ?1 AND status = 'pending'",
            )
            .and_then(|mut s| s.execute((id, error, next_ms)))
            .map(drop)
            .map_err(StoreError::doing("putting off a delivery"))
    }

    /// Ends a delivery. A result's outcome is put on its run, and on the job if that run is still
    /// its last. `false` when it had ended before.
    ///
    /// # Errors
    /// The database's.
    pub fn end_delivery(
        &self,
        delivery: &Delivery,
        outcome: &Delivered,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let doing = StoreError::doing("ending a delivery");
        let (status, error, receipt) = match outcome {
            Delivered::Taken(receipt) => ("delivered", None, Some(receipt)),
            Delivered::GivenUp(error) => ("failed", Some(error), None),
        };
        let seq: Option<i64> = self
            .db
            .prepare_cached(
                "UPDATE outbox SET status = :status, attempts = attempts + 1, error = :error,
                     receipt = :receipt, next_attempt_at_ms = NULL, ended_at_ms = :now
                 WHERE delivery_id = :id AND status = 'pending' RETURNING seq",
            )
            .and_then(|mut s| {
                s.query_row(
                    named_params! {
                        ":status": status, ":error": error, ":receipt": receipt,
                        ":now": now_ms, ":id": delivery.id,
                    },
                    |row| row.get(0),
                )
                .optional()
            })
            .map_err(&doing)?;
        let Some(seq) = seq else {
            return Ok(false);
        };
        if delivery.purpose == Purpose::Result {
            let status = match outcome {
                Delivered::Taken(_) => "delivered",
                Delivered::GivenUp(_) => "not-delivered",
            };
            let started: Option<Option<i64>> = self
                .db
                .prepare_cached(
                    "UPDATE cron_runs SET delivery_status = ?2, delivery_error = ?3,
                         delivery_receipt = ?4
                     WHERE run_id = ?1 RETURNING started_at_ms",
                )
                .and_then(|mut s| {
                    s.query_row((delivery.run_id.as_str(), status, error, receipt), |row| {
                        row.get(0)
                    })
                    .optional()
                })
                .map_err(&doing)?;
            self.db
                .prepare_cached(
                    "UPDATE cron_jobs SET last_delivery = ?2, last_delivery_error = ?3
                     WHERE job_id = ?1 AND last_run_at_ms = ?4",
                )
                .and_then(|mut s| {
                    s.execute((delivery.job_id.as_str(), status, error, started.flatten()))
                })
                .map_err(&doing)?;
        }
        self.db
            .prepare_cached("DELETE FROM outbox WHERE seq <= ?1 AND status <> 'pending'")
            .and_then(|mut s| s.execute([seq - OUTBOX_HISTORY_MAX]))
            .map_err(&doing)?;
        Ok(true)
    }
}
