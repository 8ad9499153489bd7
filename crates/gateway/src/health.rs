//! The health snapshot and the operator's status, kept as encoded text.
//!
//! Both are asked for far more often than they change: `health` is rebuilt every minute or when
//! a probe asks, `status` when something in it changed.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use clawgate_core::heartbeat;
use clawgate_store::{Fault, Read, SessionFilter, StoreError};
use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    config::{AgentEntry, Config},
    disk,
    heartbeat::{Beat, PROMPT},
    methods::session::{DefaultModel, Held},
};

/// Newest sessions that a status shows.
const RECENT: i64 = 10;
/// The same of a health snapshot.
const RECENT_IN_HEALTH: usize = 5;
/// How long a status that shows ages may be told again, milliseconds.
const AGES_LAST_MS: i64 = 1_000;

/// What snapshots show of the sessions: kept counts and the newest rows.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    counts: Vec<(String, i64)>,
    recent: Vec<Held>,
    /// By agent.
    recent_of: Vec<(String, Vec<Held>)>,
}

impl Glance {
    /// Takes it. Costs the same however many sessions there are.
    pub(crate) fn take(db: &Read<'_>) -> Result<Self, StoreError> {
        let newest = |agent_id: Option<String>| {
            let filter = SessionFilter {
                agent_id,
                with_runs: true,
                limit: RECENT,
                ..SessionFilter::default()
            };
            db.session_page(&filter).map(|rows| {
                rows.into_iter()
                    .map(|listed| Held::of(listed.session))
                    .collect::<Vec<_>>()
            })
        };
        let counts = db.session_counts()?;
        let recent_of = counts
            .iter()
            .map(|(agent, _)| Ok((agent.clone(), newest(Some(agent.clone()))?)))
            .collect::<Result<_, StoreError>>()?;
        Ok(Self {
            recent: newest(None)?,
            recent_of,
            counts,
        })
    }

    fn count(&self, agent: Option<&str>) -> i64 {
        self.counts
            .iter()
            .filter(|(one, _)| agent.is_none_or(|agent| agent == one))
            .map(|(_, count)| count)
            .sum()
    }

    fn recent(&self, agent: &str) -> &[Held] {
        self.recent_of
            .iter()
            .find(|(one, _)| one == agent)
            .map_or(&[], |(_, rows)| rows.as_slice())
    }
}

/// A session as a status shows it.
fn status_row(held: &Held, model: &DefaultModel, now_ms: i64) -> Value {
    let session = &held.session;
    let number = |member: &str| held.entry.get(member).and_then(Value::as_i64);
    let is_fresh = held.entry.get("totalTokensFresh") == Some(&Value::Bool(true));
    let total = number("totalTokens").filter(|_| is_fresh);
    let context = number("contextTokens").or(model.context_tokens);
    let known = total.zip(context.filter(|context| *context > 0));
    let mut flags = Vec::new();
    for (member, name) in [
        ("thinkingLevel", "thinking"),
        ("verboseLevel", "verbose"),
        ("reasoningLevel", "reasoning"),
        ("elevatedLevel", "elevated"),
    ] {
        if let Some(level) = held.text(member) {
            flags.push(format!("{name}:{level}"));
        }
    }
    for (member, flag) in [
        ("fastMode", "fast"),
        ("systemSent", "system"),
        ("abortedLastRun", "aborted"),
    ] {
        if held.entry.get(member) == Some(&Value::Bool(true)) {
            flags.push(flag.to_owned());
        }
    }
    flags.push(format!("id:{}", session.session_id));
    let mut row = json!({
        "agentId": session.agent_id,
        "key": session.key,
        "kind": session.kind,
        "sessionId": session.session_id,
        "updatedAt": session.updated_at_ms,
        "age": (now_ms - session.updated_at_ms).max(0),
        "totalTokens": total,
        "totalTokensFresh": is_fresh,
        "remainingTokens": known.map(|(total, context)| (context - total).max(0)),
        "percentUsed": known.map(|(total, context)| (total * 100 / context).min(999)),
        "model": held.model(model).1,
        "contextTokens": context,
        "flags": flags,
    });
    for member in [
        "thinkingLevel",
        "fastMode",
        "verboseLevel",
        "reasoningLevel",
        "elevatedLevel",
        "systemSent",
        "abortedLastRun",
        "inputTokens",
        "outputTokens",
        "cacheRead",
        "cacheWrite",
    ] {
        if let Some(value) = held.entry.get(member) {
            row[member] = value.clone();
        }
    }
    row
}

/// What both snapshots are made of.
#[derive(Debug)]
pub(crate) struct Health {
    /// What is configured now.
    configured: RwLock<Configured>,
    /// The first agent at the start: sessions and jobs are named after it while the process lives.
    default_agent: String,
    glance: RwLock<Arc<Glance>>,
    /// Where sessions are kept.
    sessions_path: String,
    /// What the disk does, while something is wrong with it.
    disk: RwLock<Option<Fault>>,
    /// Whether somebody switched them on (1) or off (2).
    heartbeats: AtomicU8,
    text: RwLock<Arc<str>>,
    /// The same with the newest sessions, for those that may read.
    full_text: RwLock<Arc<str>>,
    refreshed_at_ms: AtomicU64,
    status: Status,
}

#[derive(Debug)]
struct Configured {
    agents: Arc<[AgentEntry]>,
    /// How each of them beats.
    beats: Arc<[Option<Beat>]>,
    /// What an operator should know of the file.
    note: Option<Value>,
}

impl Configured {
    fn of(config: &Config) -> Self {
        Self {
            agents: config.agents.clone().into(),
            beats: config
                .agents
                .iter()
                .enumerate()
                .map(|(index, agent)| Beat::of(&config.snapshot.parsed, &agent.id, index == 0))
                .collect(),
            note: None,
        }
    }
}

/// As it is kept.
fn switched(heartbeats: Option<bool>) -> u8 {
    match heartbeats {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    }
}

#[derive(Debug, Default)]
struct Status {
    epoch: AtomicU64,
    /// Epoch and text, as administrators and as others see it.
    texts: RwLock<[Option<Kept>; 2]>,
}

/// A text, the epoch for which it holds, and until when its ages are right.
type Kept = (u64, Arc<str>, Option<i64>);

impl Health {
    pub(crate) fn new(
        config: &Config,
        sessions_path: String,
        glance: Glance,
        heartbeats: Option<bool>,
        now_ms: i64,
    ) -> Self {
        let health = Self {
            configured: RwLock::new(Configured::of(config)),
            default_agent: config
                .agents
                .first()
                .map_or_else(|| "main".to_owned(), |agent| agent.id.clone()),
            glance: RwLock::new(Arc::new(glance)),
            sessions_path,
            disk: RwLock::new(None),
            heartbeats: AtomicU8::new(switched(heartbeats)),
            text: RwLock::new(Arc::from("{}")),
            full_text: RwLock::new(Arc::from("{}")),
            refreshed_at_ms: AtomicU64::new(0),
            status: Status::default(),
        };
        health.refresh(now_ms);
        health
    }

    /// Another configuration holds.
    pub(crate) fn configure(&self, config: &Config, now_ms: i64) {
        *self
            .configured
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Configured::of(config);
        self.refreshed_at_ms.store(0, Ordering::Release);
        self.refresh(now_ms);
        self.status_changed();
    }

    /// What administrators are told of the file: that it does not hold, or not yet.
    pub(crate) fn note_config(&self, note: Option<Value>) {
        self.configured
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .note = note;
        self.status_changed();
    }

    /// What the snapshots from now on say of the disk.
    pub(crate) fn note_disk(&self, fault: Option<Fault>, now_ms: i64) {
        *self.disk.write().unwrap_or_else(PoisonError::into_inner) = fault;
        self.refreshed_at_ms.store(0, Ordering::Release);
        self.refresh(now_ms);
        self.status_changed();
    }

    fn configured(&self) -> std::sync::RwLockReadGuard<'_, Configured> {
        self.configured
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot as everybody may see it.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The snapshot with the keys of the newest sessions, which tell who talks to whom.
    pub(crate) fn full_text(&self) -> Arc<str> {
        Arc::clone(
            &self
                .full_text
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// What the snapshots from now on show of the sessions.
    pub(crate) fn set_glance(&self, glance: Glance) {
        *self.glance.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(glance);
    }

    fn glance(&self) -> Arc<Glance> {
        Arc::clone(&self.glance.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Builds the snapshot anew. `false` when that was done less than a second ago.
    pub(crate) fn refresh(&self, now_ms: i64) -> bool {
        let now = u64::try_from(now_ms).unwrap_or_default();
        // Only a refresh that happens moves the time, else asking often would put it off for ever.
        let due = |before: u64| (now < before || now - before >= 1_000).then_some(now);
        let moved = self
            .refreshed_at_ms
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, due);
        if moved.is_err() {
            return false;
        }
        for (kept, with_recent) in [(&self.text, false), (&self.full_text, true)] {
            let text: Arc<str> = Arc::from(self.build(now_ms, with_recent).to_string());
            *kept.write().unwrap_or_else(PoisonError::into_inner) = text;
        }
        true
    }

    fn build(&self, now_ms: i64, with_recent: bool) -> Value {
        let glance = self.glance();
        let sessions = |agent: &str| {
            let recent: Vec<Value> = glance
                .recent(agent)
                .iter()
                .take(if with_recent { RECENT_IN_HEALTH } else { 0 })
                .map(|held| {
                    let at = held.session.updated_at_ms;
                    json!({
                        "key": held.session.key, "updatedAt": at, "age": (now_ms - at).max(0),
                    })
                })
                .collect();
            json!({
                "path": self.sessions_path, "count": glance.count(Some(agent)), "recent": recent,
            })
        };
        let beats = self.configured().beats.clone();
        let agents: Vec<Value> = self
            .agents()
            .iter()
            .enumerate()
            .map(|(index, agent)| {
                let mut row = json!({"agentId": agent.id});
                if let Some(name) = &agent.name {
                    row["name"] = name.as_str().into();
                }
                row["isDefault"] = (index == 0).into();
                let beat = beats.get(index).and_then(Option::as_ref);
                row["heartbeat"] = json!({
                    "enabled": beat.is_some_and(|beat| self.beats(beat.is_asked_for)),
                    "every": beat.map_or("30m", |beat| beat.every.as_str()),
                    "everyMs": beat.map_or(heartbeat::EVERY_MS, |beat| beat.every_ms),
                    "prompt": beat.map_or(PROMPT, |beat| beat.prompt.as_str()),
                    "target": beat.map_or("none", |beat| beat.target.as_str()),
                    "ackMaxChars": beat.map_or(heartbeat::ACK_MAX, |beat| beat.ack_max),
                });
                row["sessions"] = sessions(&agent.id);
                row
            })
            .collect();
        let fault = *self.disk.read().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = json!({
            "ok": fault.is_none(),
            "ts": now_ms,
            "durationMs": 0,
            "channels": {},
            "channelOrder": [],
            "channelLabels": {},
            "heartbeatSeconds": beats
                .first()
                .and_then(Option::as_ref)
                .map_or(heartbeat::EVERY_MS, |beat| beat.every_ms) / 1_000,
            "defaultAgentId": self.default_agent(),
            "agents": agents,
            "sessions": sessions(self.default_agent()),
        });
        if let Some(fault) = fault {
            snapshot["disk"] = json!({
                "ok": false,
                "code": disk::code(fault),
                "message": format!("{fault}: {}", disk::advice(fault)),
            });
        }
        snapshot
    }

    pub(crate) fn default_agent(&self) -> &str {
        &self.default_agent
    }

    pub(crate) fn agents(&self) -> Arc<[AgentEntry]> {
        Arc::clone(&self.configured().agents)
    }

    pub(crate) fn sessions_path(&self) -> &str {
        &self.sessions_path
    }

    /// Whether an agent beats by itself: as somebody switched, else when it is asked for.
    pub(crate) fn beats(&self, is_asked_for: bool) -> bool {
        match self.heartbeats.load(Ordering::Acquire) {
            1 => true,
            2 => false,
            _ => is_asked_for,
        }
    }

    pub(crate) fn set_heartbeats(&self, enabled: bool, now_ms: i64) {
        self.heartbeats
            .store(switched(Some(enabled)), Ordering::Release);
        self.refreshed_at_ms.store(0, Ordering::Release);
        self.refresh(now_ms);
        self.status_changed();
    }

    /// Something in the status is other than it was.
    pub(crate) fn status_changed(&self) {
        self.status.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The status as kept, if it still holds.
    pub(crate) fn status(&self, admin: bool) -> Option<Arc<str>> {
        let epoch = self.status.epoch.load(Ordering::Acquire);
        let texts = self
            .status
            .texts
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        texts[usize::from(admin)]
            .as_ref()
            .filter(|(at, _, until)| *at == epoch && until.is_none_or(|until| now_ms() < until))
            .map(|(_, text, _)| Arc::clone(text))
    }

    /// The epoch under which a status is about to be built.
    pub(crate) fn status_epoch(&self) -> u64 {
        self.status.epoch.load(Ordering::Acquire)
    }

    /// Builds the status and keeps it for as long as its epoch lasts.
    pub(crate) fn keep_status(
        &self,
        admin: bool,
        epoch: u64,
        queued: &[String],
        model: &DefaultModel,
    ) -> Arc<str> {
        let (glance, now) = (self.glance(), now_ms());
        let shown = |rows: &[Held]| -> Vec<Value> {
            rows.iter()
                .filter(|_| admin)
                .map(|held| status_row(held, model, now))
                .collect()
        };
        let path = |path: &str| {
            if admin {
                path.to_owned()
            } else {
                String::new()
            }
        };
        let rows: Vec<Value> = self
            .agents()
            .iter()
            .map(|agent| {
                json!({
                    "agentId": agent.id,
                    "path": path(&self.sessions_path),
                    "count": glance.count(Some(&agent.id)),
                    "recent": shown(glance.recent(&agent.id)),
                })
            })
            .collect();
        let beats = self.configured().beats.clone();
        let heartbeats: Vec<Value> = self
            .agents()
            .iter()
            .enumerate()
            .map(|(index, agent)| {
                let beat = beats.get(index).and_then(Option::as_ref);
                json!({
                    "agentId": agent.id,
                    "enabled": beat.is_some_and(|beat| self.beats(beat.is_asked_for)),
                    "every": beat.map_or("30m", |beat| beat.every.as_str()),
                    "everyMs": beat.map_or(heartbeat::EVERY_MS, |beat| beat.every_ms),
                })
            })
            .collect();
        let status = json!({
            "runtimeVersion": crate::VERSION,
            "heartbeat": {"defaultAgentId": self.default_agent(), "agents": heartbeats},
            "channelSummary": [],
            "queuedSystemEvents": queued,
            "sessions": {
                "paths": if admin { json!([self.sessions_path]) } else { json!([]) },
                "count": glance.count(None),
                "defaults": {
                    "model": model.model.as_ref().filter(|_| admin),
                    "contextTokens": model.context_tokens.filter(|_| admin),
                },
                "recent": shown(&glance.recent),
                "byAgent": rows,
            },
        });
        let mut status = status;
        if let Some(note) = self.configured().note.clone().filter(|_| admin) {
            status["config"] = note;
        }
        let text: Arc<str> = Arc::from(status.to_string());
        let mut texts = self
            .status
            .texts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let has_ages = admin && !glance.recent.is_empty();
        let until = has_ages.then_some(now + AGES_LAST_MS);
        texts[usize::from(admin)] = Some((epoch, Arc::clone(&text), until));
        text
    }
}
