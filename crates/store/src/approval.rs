//! Approvals: requests that wait, and what became of them.
//!
//! **Invariant:** a request leaves `pending` once, and is spent at most once.

use clawgate_core::approval::Decision;
use rusqlite::{OptionalExtension as _, Row, named_params};

use crate::{Read, StoreError, Tx};

/// Ended requests that are kept; the oldest make room.
const HISTORY_MAX: i64 = 1_000;

/// A request for a command to be let run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Unique for ever.
    pub id: String,
    /// Who asked, for the bounds.
    pub requester: String,
    /// The device that asked.
    pub requester_device: Option<String>,
    /// The connection that asked.
    pub requester_conn: String,
    /// What was shown, as JSON.
    pub request: String,
    /// SHA-256 over everything that is decided about, hex.
    pub digest: String,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it is over.
    pub expires_at_ms: i64,
    /// Whether that was noticed.
    pub expired: bool,
    /// What was decided.
    pub decision: Option<Decision>,
    /// Who did.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at_ms: Option<i64>,
    /// When the run that it was for was begun.
    pub spent_at_ms: Option<i64>,
}

impl Approval {
    /// When it ended, or will.
    pub fn ended_at_ms(&self) -> i64 {
        self.decided_at_ms.unwrap_or(self.expires_at_ms)
    }
}

const COLUMNS: &str = "approval_id, requester, requester_device, requester_conn, request, digest, \
                       created_at_ms, expires_at_ms, status, decision, decided_by, decided_at_ms, \
                       spent_at_ms";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Approval> {
    let decision: Option<String> = row.get(9)?;
    Ok(Approval {
        id: row.get(0)?,
        requester: row.get(1)?,
        requester_device: row.get(2)?,
        requester_conn: row.get(3)?,
        request: row.get(4)?,
        digest: row.get(5)?,
        created_at_ms: row.get(6)?,
        expires_at_ms: row.get(7)?,
        expired: row.get::<_, String>(8)? == "expired",
        // The table's check lets no other word in; one that is not understood would deny.
        decision: decision.map(|word| Decision::parse(&word).unwrap_or(Decision::Deny)),
        decided_by: row.get(10)?,
        decided_at_ms: row.get(11)?,
        spent_at_ms: row.get(12)?,
    })
}

impl Read<'_> {
    /// The request of an id.
    ///
    /// # Errors
    /// The database's.
    pub fn approval(&self, id: &str) -> Result<Option<Approval>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM approvals WHERE approval_id = ?1"
            ))
            .and_then(|mut s| s.query_row([id], from_row).optional())
            .map_err(StoreError::doing("finding an approval"))
    }

    /// Requests that wait, oldest first. The gateway bounds how many there are.
    ///
    /// # Errors
    /// The database's.
    pub fn pending_approvals(&self, now_ms: i64) -> Result<Vec<Approval>, StoreError> {
        let doing = StoreError::doing("listing approvals");
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM approvals WHERE status = 'pending' AND expires_at_ms > ?1
                 ORDER BY created_at_ms, approval_id"
            ))
            .map_err(&doing)?;
        let rows = statement.query_map([now_ms], from_row).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// Requests that ended, the last one first; those that ended before `before` (when, which).
    ///
    /// # Errors
    /// The database's.
    pub fn ended_approvals(
        &self,
        before: Option<(i64, String)>,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<Approval>, StoreError> {
        let doing = StoreError::doing("listing approvals that ended");
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM approvals
                 WHERE (status <> 'pending' OR expires_at_ms <= :now)
                 AND (:at IS NULL
                      OR (coalesce(decided_at_ms, expires_at_ms), approval_id) < (:at, :id))
                 ORDER BY coalesce(decided_at_ms, expires_at_ms) DESC, approval_id DESC LIMIT :limit"
            ))
            .map_err(&doing)?;
        let (at, id) = before.unzip();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(
                named_params! {":now": now_ms, ":at": at, ":id": id, ":limit": limit},
                from_row,
            )
            .map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// How many requests wait, and how many of these are of one caller.
    ///
    /// # Errors
    /// The database's.
    pub fn count_pending_approvals(
        &self,
        requester: &str,
        now_ms: i64,
    ) -> Result<(usize, usize), StoreError> {
        self.db
            .prepare_cached(
                "SELECT count(*), count(*) FILTER (WHERE requester = ?1) FROM approvals
                 WHERE status = 'pending' AND expires_at_ms > ?2",
            )
            .and_then(|mut s| {
                s.query_row((requester, now_ms), |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
                })
            })
            .map(|(all, own)| {
                let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
                (count(all), count(own))
            })
            .map_err(StoreError::doing("counting approvals"))
    }
}

impl Tx<'_> {
    /// Keeps a new request. `false` when there was one of that id.
    ///
    /// # Errors
    /// The database's.
    pub fn insert_approval(&self, approval: &Approval) -> Result<bool, StoreError> {
        let doing = StoreError::doing("keeping an approval");
        self.db
            .prepare_cached(
                "DELETE FROM approvals WHERE status <> 'pending' AND created_at_ms < (
                     SELECT created_at_ms FROM approvals WHERE status <> 'pending'
                     ORDER BY created_at_ms DESC LIMIT 1 OFFSET ?1)",
            )
            .and_then(|mut s| s.execute([HISTORY_MAX]))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "INSERT INTO approvals (approval_id, requester, requester_device, requester_conn,
                     request, digest, created_at_ms, expires_at_ms, status)
                 VALUES (:id, :requester, :device, :conn, :request, :digest, :created, :expires,
                     'pending')
                 ON CONFLICT (approval_id) DO NOTHING",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":id": approval.id,
                    ":requester": approval.requester,
                    ":device": approval.requester_device,
                    ":conn": approval.requester_conn,
                    ":request": approval.request,
                    ":digest": approval.digest,
                    ":created": approval.created_at_ms,
                    ":expires": approval.expires_at_ms,
                })
            })
            .map(|rows| rows == 1)
            .map_err(&doing)
    }

    /// Writes a decision down. `false` when the request does not wait any more.
    ///
    /// # Errors
    /// The database's.
    pub fn decide_approval(
        &self,
        id: &str,
        decision: Decision,
        by: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        self.db
            .prepare_cached(
                "UPDATE approvals
                 SET status = 'decided', decision = ?2, decided_by = ?3, decided_at_ms = ?4
                 WHERE approval_id = ?1 AND status = 'pending' AND expires_at_ms > ?4",
            )
            .and_then(|mut s| s.execute((id, decision.as_str(), by, now_ms)))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("deciding an approval"))
    }

    /// Notes that the time of requests is over, so that no clock that goes back revives them: of those
    /// that are to wait until now or less, or until later than `latest_ms`.
    ///
    /// # Errors
    /// The database's.
    pub fn expire_approvals(&self, now_ms: i64, latest_ms: i64) -> Result<usize, StoreError> {
        self.db
            .prepare_cached(
                "UPDATE approvals SET status = 'expired'
                 WHERE status = 'pending' AND (expires_at_ms <= ?1 OR expires_at_ms > ?2)",
            )
            .and_then(|mut s| s.execute([now_ms, latest_ms]))
            .map_err(StoreError::doing("expiring approvals"))
    }

    /// Uses a decision that allows one run. `false` when it was used.
    ///
    /// # Errors
    /// The database's.
    pub fn spend_approval(&self, id: &str, now_ms: i64) -> Result<bool, StoreError> {
        self.db
            .prepare_cached(
                "UPDATE approvals SET spent_at_ms = ?2
                 WHERE approval_id = ?1 AND spent_at_ms IS NULL
                 AND decision IN ('allow-once', 'allow-always')",
            )
            .and_then(|mut s| s.execute((id, now_ms)))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("spending an approval"))
    }
}
