//! System events: texts that wait for a session's next turn, and the audit trail.

use crate::{Read, StoreError, Tx};

/// Events kept per session at most; the oldest make room. The original keeps 20 in memory.
const QUEUED_MAX: i64 = 200;
/// Events kept of all sessions at most.
const QUEUED_OF_ALL_MAX: i64 = 10_000;
/// Audit rows kept.
const AUDIT_MAX: i64 = 100_000;

impl Read<'_> {
    /// The texts that wait for a session, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub fn queued_system_events(&self, session_key: &str) -> Result<Vec<String>, StoreError> {
        let doing = StoreError::doing("reading queued system events");
        let mut statement = self
            .db
            .prepare_cached("SELECT text FROM system_events WHERE session_key = ?1 ORDER BY seq")
            .map_err(&doing)?;
        let rows = statement
            .query_map([session_key], |row| row.get(0))
            .map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }
}

impl Tx<'_> {
    /// Takes the texts that wait for a session, with when they came, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub fn take_system_events(&self, session_key: &str) -> Result<Vec<(String, i64)>, StoreError> {
        let doing = StoreError::doing("taking queued system events");
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT text, at_ms FROM system_events WHERE session_key = ?1 ORDER BY seq",
            )
            .map_err(&doing)?;
        let rows = statement
            .query_map([session_key], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(&doing)?;
        let taken: Vec<_> = rows.collect::<Result<_, _>>().map_err(&doing)?;
        if !taken.is_empty() {
            self.db
                .prepare_cached("DELETE FROM system_events WHERE session_key = ?1")
                .and_then(|mut s| s.execute([session_key]))
                .map_err(&doing)?;
        }
        Ok(taken)
    }

    /// Queues a text for a session. The same `origin` is queued once.
    ///
    /// # Errors
    /// The database's.
    pub fn queue_system_event(
        &self,
        session_key: &str,
        text: &str,
        origin: Option<&str>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let doing = StoreError::doing("queueing a system event");
        self.db
            .prepare_cached(
                "INSERT INTO system_events (session_key, text, origin, at_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (origin) DO NOTHING",
            )
            .and_then(|mut s| s.execute((session_key, text, origin, now_ms)))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "DELETE FROM system_events WHERE session_key = ?1 AND seq <= (
                     SELECT seq FROM system_events WHERE session_key = ?1
                     ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            )
            .and_then(|mut s| s.execute((session_key, QUEUED_MAX)))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "DELETE FROM system_events WHERE seq <= (SELECT max(seq) FROM system_events) - ?1",
            )
            .and_then(|mut s| s.execute([QUEUED_OF_ALL_MAX]))
            .map(drop)
            .map_err(&doing)
    }

    /// Writes down a decision about authority.
    ///
    /// # Errors
    /// The database's.
    pub fn audit(
        &self,
        act: &str,
        actor: &str,
        detail: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let doing = StoreError::doing("writing the audit trail");
        self.db
            .prepare_cached("INSERT INTO audit (at_ms, act, actor, detail) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut s| s.execute((now_ms, act, actor, detail)))
            .map_err(&doing)?;
        self.db
            .prepare_cached("DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?1")
            .and_then(|mut s| s.execute([AUDIT_MAX]))
            .map(drop)
            .map_err(&doing)
    }
}
