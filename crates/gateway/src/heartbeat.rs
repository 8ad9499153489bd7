//! Heartbeats: the owner of the moments at which agents look up by themselves.
//!
//! When each agent did so last is on disk, so a gateway that is restarted often still beats. A beat
//! that falls into quiet hours waits for their end. A wake is a beat at once: what waits for the
//! session is told to it, and stays there if no agent can be asked.

use std::{sync::Arc, time::Duration};

use clawgate_core::{
    heartbeat::{self, ActiveHours},
    lane::QueueMode,
    session::SessionKey,
};
use clawgate_protocol::event::Event;
use clawgate_store::StoreError;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Gateway,
    agents::{self, Agent},
    clock::now_ms,
    turns::{Begun, Calendar, Ended, Origin, Status, Wanted},
};

/// Where the last heartbeat of all is kept, as `last-heartbeat` tells it.
const LAST_SETTING: &str = "heartbeat.last";
/// Wakes that wait at most; one more of the same session changes nothing.
const WAKES_MAX: usize = 64;
/// Looked at least this often, so that a jump of the clock or another configuration is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What a heartbeat turn is asked when nobody says.
pub(crate) const PROMPT: &str = "Look through HEARTBEAT.md if the workspace has one and do what is due. \
     Answer HEARTBEAT_OK when nothing needs attention.";
/// Characters of an answer that `last-heartbeat` shows.
const PREVIEW_MAX: usize = 200;

/// How an agent beats.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beat {
    pub(crate) every_ms: i64,
    /// As it is written.
    pub(crate) every: String,
    pub(crate) prompt: String,
    pub(crate) ack_max: usize,
    pub(crate) target: String,
    /// Whether it is configured to beat; otherwise it does so when somebody switched it on.
    pub(crate) is_asked_for: bool,
    model: Option<String>,
    session: Option<String>,
    hours: Option<ActiveHours>,
    zone: Option<TimeZone>,
    light: bool,
}

impl Beat {
    /// From `agents.list[].heartbeat` over `agents.defaults.heartbeat`. `None` when the agent does
    /// not beat: others have such a block and it has none.
    pub(crate) fn of(config: &Value, agent: &str, is_default: bool) -> Option<Self> {
        let list = config.pointer("/agents/list").and_then(Value::as_array);
        let with_block = |entry: &&Value| entry.get("heartbeat").is_some_and(Value::is_object);
        let own = list.into_iter().flatten().find(|entry| {
            let id = entry["id"].as_str().map(clawgate_core::agent::id);
            id.as_deref() == Some(agent)
        });
        let any_has = list.into_iter().flatten().any(|entry| with_block(&entry));
        let own = own.filter(with_block).map(|entry| &entry["heartbeat"]);
        if own.is_none() && (any_has || !is_default) {
            return None;
        }
        let defaults = config.pointer("/agents/defaults/heartbeat");
        let at = |pointer: &str| {
            own.and_then(|own| own.pointer(pointer))
                .or_else(|| defaults?.pointer(pointer))
        };
        let text = |pointer: &str| at(pointer).and_then(Value::as_str).map(str::to_owned);
        let every = match at("/every") {
            Some(Value::Number(minutes)) => format!("{minutes}m"),
            Some(Value::String(text)) => text.clone(),
            _ => "30m".to_owned(),
        };
        let zone = match text("/activeHours/timezone").as_deref() {
            None | Some("user") => None,
            Some("local") => Some(TimeZone::system()),
            Some(name) => TimeZone::get(name).ok(),
        };
        Some(Self {
            every_ms: heartbeat::every_ms(&every).unwrap_or(heartbeat::EVERY_MS),
            every,
            prompt: text("/prompt").unwrap_or_else(|| PROMPT.to_owned()),
            ack_max: at("/ackMaxChars")
                .and_then(Value::as_u64)
                .and_then(|chars| usize::try_from(chars).ok())
                .unwrap_or(heartbeat::ACK_MAX),
            target: text("/target").unwrap_or_else(|| "none".to_owned()),
            is_asked_for: own.is_some() || defaults.is_some_and(Value::is_object),
            model: text("/model"),
            session: text("/session").filter(|session| session != "main"),
            hours: text("/activeHours/start")
                .zip(text("/activeHours/end"))
                .and_then(|(start, end)| ActiveHours::parse(&start, &end)),
            zone,
            light: at("/lightContext") == Some(&Value::Bool(true)),
        })
    }

    /// When it may look up, if it is to do so then.
    fn allowed_ms(&self, at_ms: i64, calendar: &Calendar) -> i64 {
        let Some(hours) = self.hours else {
            return at_ms;
        };
        let zoned = match &self.zone {
            Some(zone) => calendar.zoned(at_ms).with_time_zone(zone.clone()),
            None => calendar.zoned(at_ms),
        };
        let minute = i64::from(zoned.hour()) * 60 + i64::from(zoned.minute());
        let wait = hours.wait(u16::try_from(minute).unwrap_or(0));
        if wait == 0 {
            return at_ms;
        }
        // From the beginning of the minute, so that it ends when the hours begin.
        let into = i64::from(zoned.second()) * 1_000 + i64::from(zoned.millisecond());
        at_ms + i64::from(wait) * 60_000 - into
    }
}

/// A wake: a session that is to be told what waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wake {
    key: String,
    reason: &'static str,
}

/// Handle of the owner.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeats {
    wakes: mpsc::Sender<Wake>,
}

/// The owner.
#[derive(Debug)]
pub(crate) struct Heart {
    wakes: mpsc::Receiver<Wake>,
}

/// An owner and its handle.
pub(crate) fn open() -> (Heart, Heartbeats) {
    let (sender, wakes) = mpsc::channel(WAKES_MAX);
    (Heart { wakes }, Heartbeats { wakes: sender })
}

impl Heartbeats {
    /// Has a session told what waits for it, soon. When so many wait already, the texts stay where
    /// they are, on disk, for the next turn.
    pub(crate) fn wake(&self, key: &str, reason: &'static str) {
        let key = key.to_owned();
        let _ = self.wakes.try_send(Wake { key, reason });
    }
}

impl Heart {
    /// Beats until told to stop.
    pub(crate) async fn run(mut self, gateway: Arc<Gateway>, stop: CancellationToken) {
        let since_ms = now_ms();
        loop {
            let (wait, due) = due(&gateway, since_ms).await;
            for (agent, beat) in due {
                beat_of(&gateway, &agent, &beat, None).await;
            }
            let wake = tokio::select! {
                () = stop.cancelled() => return,
                wake = self.wakes.recv() => wake,
                () = tokio::time::sleep(wait) => None,
            };
            let Some(wake) = wake else { continue };
            let mut all = vec![wake];
            while let Ok(more) = self.wakes.try_recv() {
                if !all.iter().any(|wake| wake.key == more.key) {
                    all.push(more);
                }
            }
            for wake in all {
                woken(&gateway, wake).await;
            }
        }
    }
}

fn last_setting(agent: &str) -> String {
    format!("heartbeat.last.{agent}")
}

/// The agents that are to look up now, and how long it is until another one is.
async fn due(gateway: &Arc<Gateway>, since_ms: i64) -> (Duration, Vec<(Agent, Beat)>) {
    let config = gateway.config();
    let parsed = &config.snapshot.parsed;
    let roster = gateway.roster();
    // Reading the system's time zone is for those that beat.
    let calendar = std::cell::OnceCell::new();
    let (mut wait, mut ready) = (LOOK_EVERY, Vec::new());
    for agent in &roster.agents {
        let is_default = agent.id == roster.default_id;
        let Some(beat) = Beat::of(parsed, &agent.id, is_default) else {
            continue;
        };
        let is_on = gateway.health.beats(beat.is_asked_for);
        if !is_on || beat.every_ms <= 0 || agent.model.is_none() {
            continue;
        }
        let name = last_setting(&agent.id);
        let last = gateway.store.read(move |db| db.setting(&name)).await;
        let last_ms = last.ok().flatten().and_then(|text| text.parse().ok());
        let now = now_ms();
        let due_ms = heartbeat::due_ms(beat.every_ms, last_ms, since_ms, now);
        let at_ms = beat.allowed_ms(due_ms, calendar.get_or_init(|| Calendar::of(parsed)));
        if at_ms <= now {
            ready.push((agent.clone(), beat));
        } else {
            let left = Duration::from_millis(u64::try_from(at_ms - now).unwrap_or(0));
            wait = wait.min(left);
        }
    }
    (wait, ready)
}

async fn woken(gateway: &Arc<Gateway>, wake: Wake) {
    let roster = gateway.roster();
    let Ok(key) = SessionKey::read(&wake.key, None, &roster.default_id) else {
        return;
    };
    let Some(agent) = roster
        .get(key.agent())
        .filter(|agent| agent.model.is_some())
    else {
        tracing::debug!(
            session = wake.key,
            "a wake found no agent that can be asked; its text waits"
        );
        return;
    };
    let parsed = &gateway.config().snapshot.parsed;
    let beat = Beat::of(parsed, &agent.id, true).unwrap_or_else(|| {
        Beat::of(&Value::Null, &agent.id, true).expect("the default agent of an empty file beats")
    });
    beat_of(gateway, agent, &beat, Some((key, wake.reason))).await;
}

/// Begins a beat; how it ended is told by a task of its own.
async fn beat_of(
    gateway: &Arc<Gateway>,
    agent: &Agent,
    beat: &Beat,
    wake: Option<(SessionKey, &'static str)>,
) {
    let now = now_ms();
    if let Err(error) = note(gateway, &last_setting(&agent.id), &now.to_string()).await {
        tracing::error!(%error, agent = %agent.id, "no heartbeat: its time cannot be kept");
        return;
    }
    let key = match &wake {
        Some((key, _)) => key.clone(),
        None => {
            let own = beat.session.as_deref();
            let own = own.and_then(|own| SessionKey::read(own, Some(&agent.id), &agent.id).ok());
            own.unwrap_or_else(|| SessionKey::main_of(&agent.id))
        }
    };
    if wake.is_none() && !has_anything_to_do(gateway, agent, &key).await {
        let skipped = json!({"ts": now, "status": "skipped", "reason": "empty-heartbeat-file", "durationMs": 0});
        return tell(gateway, skipped).await;
    }
    let calendar = Calendar::of(&gateway.config().snapshot.parsed);
    let wanted = Wanted {
        message: format!("{}\nCurrent time: {}", beat.prompt, calendar.stamp(now)),
        model: beat.model.clone(),
        light: beat.light,
        queue: QueueMode::Followup,
        resumes: false,
        ..Wanted::new(
            format!("heartbeat:{}:{}", agent.id, uuid::Uuid::new_v4()),
            key,
            Origin::Heartbeat,
        )
    };
    let run = match gateway.begin_turn(None, wanted).await {
        Ok(Begun::New(run)) => run,
        Ok(_) => return,
        Err(shape) => {
            let failed =
                json!({"ts": now, "status": "failed", "reason": shape.message, "durationMs": 0});
            return tell(gateway, failed).await;
        }
    };
    let (teller, ack_max) = (Arc::clone(gateway), beat.ack_max);
    let reason = wake.map(|(_, reason)| reason);
    gateway.tasks.spawn(async move {
        let ended = run.ended().await;
        tell(&teller, outcome(&ended, ack_max, reason)).await;
    });
}

/// Whether a beat by itself is worth a request: a text waits, or the file holds a task.
async fn has_anything_to_do(gateway: &Arc<Gateway>, agent: &Agent, key: &SessionKey) -> bool {
    let waits = key.as_str().to_owned();
    let queued = gateway
        .store
        .read(move |db| db.queued_system_events(&waits))
        .await;
    if queued.is_ok_and(|queued| !queued.is_empty()) {
        return true;
    }
    let (config, agent) = (gateway.config(), agent.clone());
    let state = gateway.state.path().to_owned();
    let file = tokio::task::spawn_blocking(move || {
        let workspace = agents::workspace_of(&agent, &config.snapshot.parsed, &state).ok()??;
        workspace.read("HEARTBEAT.md").ok()?.content
    })
    .await;
    // A file that is not there says nothing against asking, as in the original.
    file.ok()
        .flatten()
        .is_none_or(|text| heartbeat::has_tasks(&text))
}

fn outcome(ended: &Ended, ack_max: usize, reason: Option<&str>) -> Value {
    let said = heartbeat::said(&ended.answer, ack_max);
    let (status, why) = match ended.status {
        Status::Ok if ended.answer.trim().is_empty() => ("ok-empty", None),
        Status::Ok if said.is_none() => ("ok-token", None),
        Status::Ok => ("sent", None),
        _ => ("failed", ended.error.as_deref()),
    };
    let mut told = json!({
        "ts": ended.ended_at_ms,
        "status": status,
        "durationMs": ended.started_at_ms.map_or(0, |at| ended.ended_at_ms - at),
        "hasMedia": false,
    });
    if let Some(why) = why.or(reason) {
        told["reason"] = json!(why);
    }
    if let Some(said) = said {
        told["preview"] = json!(said.chars().take(PREVIEW_MAX).collect::<String>());
        told["channel"] = json!("webchat");
    }
    told
}

async fn note(gateway: &Arc<Gateway>, name: &str, value: &str) -> Result<(), StoreError> {
    let (name, value) = (name.to_owned(), value.to_owned());
    gateway
        .store
        .write("keeping a heartbeat", move |tx| {
            tx.set_setting(&name, &value)
        })
        .await
}

/// Keeps what became of a beat, and tells it.
async fn tell(gateway: &Arc<Gateway>, told: Value) {
    let text = told.to_string();
    if let Err(error) = note(gateway, LAST_SETTING, &text).await {
        tracing::warn!(%error, "what became of a heartbeat cannot be kept");
    }
    gateway.hub.publish(Event::Heartbeat, &text, None);
}

impl Gateway {
    /// What became of the last heartbeat, as `last-heartbeat` tells it.
    pub(crate) async fn last_heartbeat(&self) -> Result<String, StoreError> {
        let last = self.store.read(|db| db.setting(LAST_SETTING)).await?;
        Ok(last.unwrap_or_else(|| "null".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_with_a_block_of_their_own_beat_and_others_do_not() {
        let config = json!({"agents": {
            "defaults": {"heartbeat": {"every": "10m", "model": "a/b"}},
            "list": [{"id": "main"}, {"id": "ops", "heartbeat": {"every": 5}}],
        }});
        assert_eq!(Beat::of(&config, "main", true), None);
        let ops = Beat::of(&config, "ops", false).unwrap();
        assert_eq!((ops.every_ms, ops.model.as_deref()), (300_000, Some("a/b")));
        let main = Beat::of(&json!({}), "main", true).unwrap();
        assert!(!main.is_asked_for);
        assert_eq!(main.every_ms, 1_800_000);
        assert_eq!(Beat::of(&json!({}), "ops", false), None);
    }

    #[test]
    fn a_beat_in_quiet_hours_waits_for_their_end() {
        let config = json!({"agents": {"defaults": {"userTimezone": "UTC", "heartbeat":
            {"activeHours": {"start": "08:00", "end": "22:00", "timezone": "Europe/Berlin"}}}}});
        let beat = Beat::of(&config, "main", true).unwrap();
        let calendar = Calendar::of(&config);
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let late = at("2026-11-28T21:30:20Z");
        assert_eq!(beat.allowed_ms(late, &calendar), at("2026-11-29T07:00:00Z"));
        let day = at("2026-11-28T12:00:00Z");
        assert_eq!(beat.allowed_ms(day, &calendar), day);
    }
}
