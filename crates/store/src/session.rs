//! Sessions: one row a key, with pages that cost the same however many there are.

use rusqlite::{OptionalExtension as _, Row, named_params, types::Value};

use crate::{Read, StoreError, Tx};

/// How many sessions a page of a search may look at, so that a word that is nowhere ends it too.
const SEARCHED_MAX: i64 = 20_000;

/// A session without its transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Canonical key.
    pub key: String,
    /// Whose it is.
    pub agent_id: String,
    /// Its present conversation.
    pub session_id: String,
    /// `direct`, `group`, `global` or `unknown`.
    pub kind: String,
    /// The row of one cron run, which lists leave out.
    pub is_run: bool,
    /// Name that a person gave.
    pub label: Option<String>,
    /// Key of the session that made it.
    pub spawned_by: Option<String>,
    /// When it was put away, milliseconds.
    pub archived_at_ms: Option<i64>,
    /// Milliseconds.
    pub created_at_ms: i64,
    /// Milliseconds.
    pub updated_at_ms: i64,
    /// Lower-cased names, which a search looks through.
    pub names: String,
    /// Everything else that is known about it, a JSON object.
    pub entry: String,
}

/// A session as lists show it: with the beginnings of what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    /// The session.
    pub session: Session,
    /// Beginning of the first thing that a person said.
    pub first_text: Option<String>,
    /// Beginning of the last thing that anybody said.
    pub last_text: Option<String>,
    /// When that was, milliseconds.
    pub last_at_ms: Option<i64>,
}

/// Which sessions, newest first.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Those of one agent.
    pub agent_id: Option<String>,
    /// Changed since then, milliseconds.
    pub since_ms: Option<i64>,
    /// Of exactly this label.
    pub label: Option<String>,
    /// Made by this session.
    pub spawned_by: Option<String>,
    /// Whose names contain this, lower-cased.
    pub search: Option<String>,
    /// Kinds that are left out.
    pub without_kinds: Vec<&'static str>,
    /// Put away or not; both when absent.
    pub archived: Option<bool>,
    /// Whether the rows of single cron runs are shown too.
    pub with_runs: bool,
    /// How many of the newest are passed over.
    pub offset: i64,
    /// How many at most.
    pub limit: i64,
}

const COLUMNS: &str = "s.session_key, s.agent_id, s.session_id, s.kind, s.is_run, s.label,
    s.spawned_by, s.archived_at_ms, s.created_at_ms, s.updated_at_ms, s.names, s.entry";

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        key: row.get(0)?,
        agent_id: row.get(1)?,
        session_id: row.get(2)?,
        kind: row.get(3)?,
        is_run: row.get(4)?,
        label: row.get(5)?,
        spawned_by: row.get(6)?,
        archived_at_ms: row.get(7)?,
        created_at_ms: row.get(8)?,
        updated_at_ms: row.get(9)?,
        names: row.get(10)?,
        entry: row.get(11)?,
    })
}

fn listed(row: &Row<'_>) -> rusqlite::Result<ListedSession> {
    Ok(ListedSession {
        session: session(row)?,
        first_text: row.get(12)?,
        last_text: row.get(13)?,
        last_at_ms: row.get(14)?,
    })
}

/// The statement of a page, and what it is asked with. Kept apart so that its plan can be looked at.
fn session_page_sql(filter: &SessionFilter) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = Vec::new();
    let mut wanted: Vec<String> = Vec::new();
    if !filter.with_runs {
        wanted.push("s.is_run = 0".to_owned());
    }
    let mut texts = |column: &str, text: &Option<String>| {
        if let Some(text) = text {
            values.push(Value::from(text.clone()));
            wanted.push(format!("{column} = ?{}", values.len()));
        }
    };
    texts("s.agent_id", &filter.agent_id);
    texts("s.label", &filter.label);
    texts("s.spawned_by", &filter.spawned_by);
    if let Some(since) = filter.since_ms {
        values.push(Value::from(since));
        wanted.push(format!("s.updated_at_ms >= ?{}", values.len()));
    }
    for kind in &filter.without_kinds {
        values.push(Value::from((*kind).to_owned()));
        wanted.push(format!("s.kind <> ?{}", values.len()));
    }
    match filter.archived {
        Some(true) => wanted.push("s.archived_at_ms IS NOT NULL".to_owned()),
        Some(false) => wanted.push("s.archived_at_ms IS NULL".to_owned()),
        None => {}
    }
    let rest = if wanted.is_empty() {
        "1".to_owned()
    } else {
        wanted.join(" AND ")
    };
    let source = match &filter.search {
        None => format!("sessions s WHERE {rest}"),
        Some(search) => {
            values.push(Value::from(search.clone()));
            format!(
                "(SELECT * FROM sessions s WHERE {rest} ORDER BY s.updated_at_ms DESC
                  LIMIT {SEARCHED_MAX}) s WHERE instr(s.names, ?{}) > 0",
                values.len()
            )
        }
    };
    // The page is cut before the transcripts are looked at.
    let sql = format!(
        "SELECT {COLUMNS}, t.first_text, t.last_text, t.last_at_ms
         FROM (SELECT * FROM {source}
               ORDER BY s.updated_at_ms DESC, s.session_key DESC LIMIT {} OFFSET {}) s
         LEFT JOIN transcripts t
             ON t.agent_id = s.agent_id AND t.session_id = s.session_id AND t.live = 1
         ORDER BY s.updated_at_ms DESC, s.session_key DESC",
        filter.limit, filter.offset
    );
    (sql, values)
}

impl Read<'_> {
    /// The session of a canonical key.
    ///
    /// # Errors
    /// The database's.
    pub fn session(&self, key: &str) -> Result<Option<Session>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sessions s WHERE s.session_key = ?1"
            ))
            .and_then(|mut s| s.query_row([key], session).optional())
            .map_err(StoreError::doing("reading a session"))
    }

    /// A session as lists show it.
    ///
    /// # Errors
    /// The database's.
    pub fn listed_session(&self, key: &str) -> Result<Option<ListedSession>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {COLUMNS}, t.first_text, t.last_text, t.last_at_ms FROM sessions s
                 LEFT JOIN transcripts t
                     ON t.agent_id = s.agent_id AND t.session_id = s.session_id AND t.live = 1
                 WHERE s.session_key = ?1"
            ))
            .and_then(|mut s| s.query_row([key], listed).optional())
            .map_err(StoreError::doing("reading a session"))
    }

    /// The long members of a session's entry, a JSON object.
    ///
    /// # Errors
    /// The database's.
    pub fn session_reports(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.db
            .prepare_cached("SELECT reports FROM sessions WHERE session_key = ?1")
            .and_then(|mut s| s.query_row([key], |row| row.get(0)).optional())
            .map(Option::flatten)
            .map_err(StoreError::doing("reading a session's reports"))
    }

    /// A page of sessions, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn session_page(&self, filter: &SessionFilter) -> Result<Vec<ListedSession>, StoreError> {
        let (sql, values) = session_page_sql(filter);
        self.db
            .prepare_cached(&sql)
            .and_then(|mut s| {
                s.query_map(rusqlite::params_from_iter(values), listed)?
                    .collect()
            })
            .map_err(StoreError::doing("reading sessions"))
    }

    /// How SQLite goes about a page; for tests.
    ///
    /// # Errors
    /// The database's.
    pub fn session_page_plan(&self, filter: &SessionFilter) -> Result<Vec<String>, StoreError> {
        let (sql, values) = session_page_sql(filter);
        self.db
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .and_then(|mut s| {
                s.query_map(rusqlite::params_from_iter(values), |row| row.get(3))?
                    .collect()
            })
            .map_err(StoreError::doing("planning"))
    }

    /// Sessions whose present conversation has this id, or begins so; `max` at most, single cron
    /// runs last.
    ///
    /// # Errors
    /// The database's.
    pub fn sessions_by_id(
        &self,
        session_id: &str,
        is_prefix: bool,
        max: i64,
    ) -> Result<Vec<Session>, StoreError> {
        let end = if is_prefix {
            format!("{session_id}\u{10ffff}")
        } else {
            session_id.to_owned()
        };
        self.db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sessions s WHERE s.session_id >= ?1 AND s.session_id <= ?2
                 ORDER BY s.is_run, s.updated_at_ms DESC LIMIT ?3"
            ))
            .and_then(|mut s| s.query_map((session_id, end, max), session)?.collect())
            .map_err(StoreError::doing("looking for a session"))
    }

    /// The key of another session that has this label.
    ///
    /// # Errors
    /// The database's.
    pub fn label_taken(&self, label: &str, by_other_than: &str) -> Result<bool, StoreError> {
        self.db
            .prepare_cached("SELECT 1 FROM sessions WHERE label = ?1 AND session_key <> ?2 LIMIT 1")
            .and_then(|mut s| s.exists((label, by_other_than)))
            .map_err(StoreError::doing("looking for a label"))
    }

    /// The key that a create with this key made.
    ///
    /// # Errors
    /// The database's.
    pub fn created_session(&self, creation_key: &str) -> Result<Option<String>, StoreError> {
        self.db
            .prepare_cached("SELECT session_key FROM sessions WHERE creation_key = ?1")
            .and_then(|mut s| s.query_row([creation_key], |row| row.get(0)).optional())
            .map_err(StoreError::doing("looking for a session"))
    }

    /// How many sessions each agent has. Kept, not counted.
    ///
    /// # Errors
    /// The database's.
    pub fn session_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.db
            .prepare_cached("SELECT agent_id, sessions FROM session_counts WHERE sessions > 0")
            .and_then(|mut s| {
                s.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(StoreError::doing("reading session counts"))
    }
}

impl Tx<'_> {
    /// Writes a session as it is now, new or not. Its reports stay.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_session(&self, session: &Session) -> Result<(), StoreError> {
        let doing = StoreError::doing("writing a session");
        let known = self
            .db
            .prepare_cached("SELECT 1 FROM sessions WHERE session_key = ?1")
            .and_then(|mut s| s.exists([&session.key]))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "INSERT INTO sessions (session_key, agent_id, session_id, kind, is_run, label,
                     spawned_by, archived_at_ms, created_at_ms, updated_at_ms, names, entry)
                 VALUES (:key, :agent, :id, :kind, :is_run, :label, :spawned_by, :archived,
                     :created, :updated, :names, :entry)
                 ON CONFLICT (session_key) DO UPDATE SET session_id = excluded.session_id,
                     kind = excluded.kind, label = excluded.label,
                     spawned_by = excluded.spawned_by, archived_at_ms = excluded.archived_at_ms,
                     updated_at_ms = excluded.updated_at_ms, names = excluded.names,
                     entry = excluded.entry",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":key": session.key, ":agent": session.agent_id, ":id": session.session_id,
                    ":kind": session.kind, ":is_run": session.is_run, ":label": session.label,
                    ":spawned_by": session.spawned_by, ":archived": session.archived_at_ms,
                    ":created": session.created_at_ms, ":updated": session.updated_at_ms,
                    ":names": session.names, ":entry": session.entry,
                })
            })
            .map_err(&doing)?;
        if known {
            return Ok(());
        }
        self.count_sessions(&session.agent_id, 1)
    }

    fn count_sessions(&self, agent_id: &str, by: i64) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO session_counts (agent_id, sessions) VALUES (?1, ?2)
                 ON CONFLICT (agent_id) DO UPDATE SET sessions = sessions + excluded.sessions",
            )
            .and_then(|mut s| s.execute((agent_id, by)))
            .map(drop)
            .map_err(StoreError::doing("counting sessions"))
    }

    /// Writes the long members of a session's entry.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_session_reports(&self, key: &str, reports: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE sessions SET reports = ?2 WHERE session_key = ?1")
            .and_then(|mut s| s.execute((key, reports)))
            .map(drop)
            .map_err(StoreError::doing("writing a session's reports"))
    }

    /// Notes under which key a session was asked for.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_creation_key(&self, key: &str, creation_key: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE sessions SET creation_key = ?2 WHERE session_key = ?1")
            .and_then(|mut s| s.execute((key, creation_key)))
            .map(drop)
            .map_err(StoreError::doing("writing a session"))
    }

    /// Removes a session's row; its transcripts stay. `false` when there was none.
    ///
    /// # Errors
    /// The database's.
    pub fn remove_session(&self, key: &str) -> Result<bool, StoreError> {
        let agent: Option<String> = self
            .db
            .prepare_cached("DELETE FROM sessions WHERE session_key = ?1 RETURNING agent_id")
            .and_then(|mut s| s.query_row([key], |row| row.get(0)).optional())
            .map_err(StoreError::doing("removing a session"))?;
        match agent {
            None => Ok(false),
            Some(agent) => self.count_sessions(&agent, -1).map(|()| true),
        }
    }
}
