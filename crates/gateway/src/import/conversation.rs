//! Sessions and their conversations: rows that are decided like everything else, and transcripts that
//! are read line by line as they are written, because they can be large.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use clawgate_core::session::SessionKey;
use clawgate_store::{Present, Session, StoreError, Transcript, Tx};
use serde_json::{Map, Value};

use super::{ImportError, decide::Decided, source::SessionStore};
use crate::{
    methods::session::{Held, REPORTS},
    transcript::{new_entry_id, read_line},
};

pub(super) const SESSIONS: &str = "sessions";
pub(super) const ENTRIES: &str = "entries";

/// A session that comes.
pub(super) struct Incoming {
    pub(super) key: SessionKey,
    pub(super) held: Held,
    reports: Option<String>,
    /// Its conversation, if there is a file of it that no other session brings.
    file: Option<PathBuf>,
}

/// What comes of the sessions.
pub(super) fn sessions(
    stores: &[SessionStore],
    present: &Present,
    now_ms: i64,
    decided: &mut Decided,
) {
    if stores.is_empty() {
        return;
    }
    let mut read = 0;
    let mut found: BTreeMap<SessionKey, (String, Incoming)> = BTreeMap::new();
    for store in stores {
        for (name, entry) in &store.entries {
            read += 1;
            let what = format!("{name} of agent {}", store.agent);
            let incoming = match incoming(store, name, entry, now_ms) {
                Ok(incoming) => incoming,
                Err(why) => {
                    decided.skip(SESSIONS, what, why);
                    continue;
                }
            };
            if present.sessions.contains(incoming.key.as_str()) {
                decided.skip(SESSIONS, what, "a session of this key is here already");
                continue;
            }
            let other = found.remove(&incoming.key);
            let why = "another session has the same key in other letters, and is newer";
            let newest = match other {
                Some((other_what, other)) if at(&other) >= at(&incoming) => {
                    decided.skip(SESSIONS, what, why);
                    (other_what, other)
                }
                Some((other_what, _)) => {
                    decided.skip(SESSIONS, other_what, why);
                    (what, incoming)
                }
                None => (what, incoming),
            };
            found.insert(newest.1.key.clone(), newest);
        }
    }
    // The row of a run names the conversation of its job: that is brought by the job's row.
    let mut sessions: Vec<Incoming> = found.into_values().map(|(_, incoming)| incoming).collect();
    sessions.sort_by_key(|incoming| incoming.held.session.is_run);
    let mut brought = HashSet::new();
    for incoming in &mut sessions {
        let file = incoming.file.take();
        incoming.file = file.filter(|file| file.is_file() && brought.insert(file.clone()));
    }
    for store in stores {
        let left: Vec<&PathBuf> = store
            .transcripts
            .iter()
            .filter(|file| !brought.contains(*file))
            .collect();
        decided.skip_all(
            SESSIONS,
            format!("transcripts in {}", store.dir.display()),
            left.len(),
            "no session that comes has them: put away by a reset or a deletion, or left behind",
        );
        read += left.len();
    }
    let without = sessions.iter().filter(|incoming| incoming.file.is_none());
    let notes = match without.count() {
        0 => Vec::new(),
        count => vec![format!("{count} without a transcript of their own")],
    };
    let taken = sessions.len();
    decided.sessions = sessions;
    decided.tally(SESSIONS, read, taken, &notes);
}

fn at(incoming: &Incoming) -> i64 {
    incoming.held.session.updated_at_ms
}

fn incoming(
    store: &SessionStore,
    name: &str,
    entry: &Value,
    now_ms: i64,
) -> Result<Incoming, String> {
    let Value::Object(entry) = entry else {
        return Err("it is not an object".to_owned());
    };
    let key =
        SessionKey::read(name, None, &store.agent).map_err(|bad| bad.sentence().to_owned())?;
    let mut entry = entry.clone();
    let Some(Value::String(session_id)) = entry.remove("sessionId") else {
        return Err("it has no session id".to_owned());
    };
    let updated = entry.remove("updatedAt").and_then(|at| at.as_f64());
    #[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds")]
    let updated_at_ms = updated.map_or(now_ms, |at| at as i64);
    let mut reports = Map::new();
    for member in REPORTS {
        if let Some(report) = entry.remove(member) {
            reports.insert(member.to_owned(), report);
        }
    }
    // A name in the same directory and nothing else: what a file says is never a path here.
    let named = entry
        .get("sessionFile")
        .and_then(Value::as_str)
        .and_then(|path| Path::new(path).file_name())
        .map(|name| store.dir.join(name));
    let plain = !session_id.is_empty() && !session_id.contains(['/', '\\', '\0']);
    let by_id = plain.then(|| store.dir.join(format!("{session_id}.jsonl")));
    let file = named.filter(|file| file.is_file()).or(by_id);
    let mut held = Held::new(&key, updated_at_ms);
    held.session.session_id = session_id;
    held.entry = entry;
    Ok(Incoming {
        key,
        held,
        reports: (!reports.is_empty()).then(|| Value::Object(reports).to_string()),
        file,
    })
}

/// Writes the sessions that come, with their conversations; without a transaction only counts.
pub(super) fn bring(
    tx: Option<&Tx<'_>>,
    decided: &mut Decided,
    now_ms: i64,
) -> Result<(), ImportError> {
    if decided.sessions.is_empty() {
        return Ok(());
    }
    let mut sessions = std::mem::take(&mut decided.sessions);
    let (mut read, mut taken) = (0, 0);
    for incoming in &mut sessions {
        if let Some(tx) = tx {
            incoming.held.keep(tx, &incoming.key)?;
            if let Some(reports) = &incoming.reports {
                tx.keep_session_reports(incoming.key.as_str(), reports)?;
            }
        }
        let session = &incoming.held.session;
        let is_here = match tx {
            Some(tx) => tx
                .read()
                .live_transcript(&session.agent_id, &session.session_id)?
                .is_some(),
            None => false,
        };
        if let Some(file) = incoming.file.as_ref().filter(|_| !is_here) {
            let (lines, entries) = transcript(tx, &incoming.held.session, file, now_ms, decided)?;
            read += lines;
            taken += entries;
        }
    }
    decided.sessions = sessions;
    decided.entries = taken;
    decided.tally(ENTRIES, read, taken, &[]);
    Ok(())
}

/// Reads one transcript: how many entries stand there, and how many come.
fn transcript(
    tx: Option<&Tx<'_>>,
    session: &Session,
    path: &Path,
    now_ms: i64,
    decided: &mut Decided,
) -> Result<(usize, usize), ImportError> {
    let unreadable = |error: std::io::Error| ImportError::Unreadable {
        file: path.to_owned(),
        line: None,
        why: error.to_string(),
    };
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut read, mut taken) = (0, 0);
    let mut ids = HashSet::new();
    let mut of: Option<Transcript> = None;
    let mut at_ms = session.updated_at_ms;
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            return Ok((read, taken));
        }
        number += 1;
        let line = String::from_utf8_lossy(&bytes);
        if line.trim().is_empty() {
            continue;
        }
        let value = serde_json::from_str::<Value>(&line);
        let is_header = value
            .as_ref()
            .is_ok_and(|value| value.get("type").and_then(Value::as_str) == Some("session"));
        if is_header && of.is_none() && taken == 0 {
            if let Some(tx) = tx {
                of = Some(begin(tx, session, Some(line.trim()), now_ms)?);
            }
            continue;
        }
        read += 1;
        let what = || format!("{}, line {number}", path.display());
        let new = match value {
            Ok(value) => read_line(value, at_ms),
            Err(_) if bytes.last() != Some(&b'\n') => Err("the line was cut short"),
            Err(_) => Err("it is not JSON"),
        };
        let mut new = match new {
            Ok(new) => new,
            Err(why) => {
                decided.skip(ENTRIES, what(), why);
                continue;
            }
        };
        // Two of one id cannot be told apart: the later one gets another.
        if !ids.insert(new.id.clone()) {
            let id = new_entry_id();
            ids.insert(id.clone());
            new.id = id;
        }
        // As kept: what is said once is said once, whatever key it was said under.
        new.idempotency_key = None;
        at_ms = new.at_ms;
        if let Some(tx) = tx {
            let mut into = match of.take() {
                Some(of) => of,
                None => begin(tx, session, None, now_ms)?,
            };
            tx.append(&mut into, &new)?;
            of = Some(into);
        }
        taken += 1;
    }
}

fn begin(
    tx: &Tx<'_>,
    session: &Session,
    header: Option<&str>,
    now_ms: i64,
) -> Result<Transcript, StoreError> {
    tx.begin_transcript(
        &session.agent_id,
        &session.session_id,
        &session.key,
        header,
        now_ms,
    )
}
