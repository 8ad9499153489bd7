//! The health snapshot and the operator's status, kept as encoded text.
//!
//! Both are asked for far more often than they change: `health` is rebuilt every minute or when
//! a probe asks, `status` when something in it changed.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::config::{AgentEntry, Config};

/// How often heartbeats are due when they run, milliseconds.
const HEARTBEAT_EVERY_MS: u64 = 1_800_000;
const HEARTBEAT_EVERY: &str = "30m";
/// What a heartbeat turn is asked.
const HEARTBEAT_PROMPT: &str = "Look through HEARTBEAT.md if the workspace has one and do what is due. \
     Answer HEARTBEAT_OK when nothing needs attention.";

/// What both snapshots are made of.
#[derive(Debug)]
pub(crate) struct Health {
    /// What is configured now.
    configured: RwLock<Configured>,
    /// The first agent at the start: sessions and jobs are named after it while the process lives.
    default_agent: String,
    /// Where sessions are kept.
    sessions_path: String,
    heartbeats: AtomicBool,
    text: RwLock<Arc<str>>,
    refreshed_at_ms: AtomicU64,
    status: Status,
}

#[derive(Debug)]
struct Configured {
    agents: Arc<[AgentEntry]>,
    model: Option<String>,
    /// What an operator should know of the file.
    note: Option<Value>,
}

impl Configured {
    fn of(config: &Config) -> Self {
        Self {
            agents: config.agents.clone().into(),
            model: config.default_model.clone(),
            note: None,
        }
    }
}

#[derive(Debug, Default)]
struct Status {
    epoch: AtomicU64,
    /// Epoch and text, as administrators and as others see it.
    texts: RwLock<[Option<Kept>; 2]>,
}

/// A text, and the epoch for which it holds.
type Kept = (u64, Arc<str>);

impl Health {
    pub(crate) fn new(
        config: &Config,
        sessions_path: String,
        heartbeats: bool,
        now_ms: i64,
    ) -> Self {
        let health = Self {
            configured: RwLock::new(Configured::of(config)),
            default_agent: config
                .agents
                .first()
                .map_or_else(|| "main".to_owned(), |agent| agent.id.clone()),
            sessions_path,
            heartbeats: AtomicBool::new(heartbeats),
            text: RwLock::new(Arc::from("{}")),
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

    fn configured(&self) -> std::sync::RwLockReadGuard<'_, Configured> {
        self.configured
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text.read().unwrap_or_else(PoisonError::into_inner))
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
        let text: Arc<str> = Arc::from(self.build(now_ms).to_string());
        *self.text.write().unwrap_or_else(PoisonError::into_inner) = text;
        true
    }

    fn build(&self, now_ms: i64) -> Value {
        let sessions = json!({"path": self.sessions_path, "count": 0, "recent": []});
        let enabled = self.heartbeats();
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
                row["heartbeat"] = json!({
                    "enabled": enabled && index == 0,
                    "every": HEARTBEAT_EVERY,
                    "everyMs": HEARTBEAT_EVERY_MS,
                    "prompt": HEARTBEAT_PROMPT,
                    "target": "none",
                    "ackMaxChars": 300,
                });
                row["sessions"] = sessions.clone();
                row
            })
            .collect();
        json!({
            "ok": true,
            "ts": now_ms,
            "durationMs": 0,
            "channels": {},
            "channelOrder": [],
            "channelLabels": {},
            "heartbeatSeconds": HEARTBEAT_EVERY_MS / 1_000,
            "defaultAgentId": self.default_agent(),
            "agents": agents,
            "sessions": sessions,
        })
    }

    pub(crate) fn default_agent(&self) -> &str {
        &self.default_agent
    }

    pub(crate) fn agents(&self) -> Arc<[AgentEntry]> {
        Arc::clone(&self.configured().agents)
    }

    pub(crate) fn model(&self) -> Option<String> {
        self.configured().model.clone()
    }

    pub(crate) fn sessions_path(&self) -> &str {
        &self.sessions_path
    }

    pub(crate) fn heartbeats(&self) -> bool {
        self.heartbeats.load(Ordering::Acquire)
    }

    pub(crate) fn set_heartbeats(&self, enabled: bool, now_ms: i64) {
        self.heartbeats.store(enabled, Ordering::Release);
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
            .filter(|(at, _)| *at == epoch)
            .map(|(_, text)| Arc::clone(text))
    }

    /// The epoch under which a status is about to be built.
    pub(crate) fn status_epoch(&self) -> u64 {
        self.status.epoch.load(Ordering::Acquire)
    }

    /// Builds the status and keeps it for as long as its epoch lasts.
    pub(crate) fn keep_status(&self, admin: bool, epoch: u64, queued: &[String]) -> Arc<str> {
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
                    "agentId": agent.id, "path": path(&self.sessions_path), "count": 0, "recent": [],
                })
            })
            .collect();
        let heartbeats: Vec<Value> = self
            .agents()
            .iter()
            .enumerate()
            .map(|(index, agent)| {
                json!({
                    "agentId": agent.id,
                    "enabled": self.heartbeats() && index == 0,
                    "every": HEARTBEAT_EVERY,
                    "everyMs": HEARTBEAT_EVERY_MS,
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
                "count": 0,
                "defaults": {
                    "model": if admin { json!(self.model()) } else { Value::Null },
                    "contextTokens": null,
                },
                "recent": [],
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
        texts[usize::from(admin)] = Some((epoch, Arc::clone(&text)));
        text
    }
}
