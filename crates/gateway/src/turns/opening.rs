//! The beginning of a turn, in one transaction: the session is there, a conversation that is over is
//! put away, what waited for the session is taken, and what was said is in the transcript.

use std::sync::Arc;

use clawgate_core::{
    Dialect,
    session::{ResetPolicy, SessionKey},
};
use clawgate_store::{Appended, StoreError, Transcript, Tx};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    Run,
    wanted::{Origin, Wanted},
};
use crate::{
    methods::session::{DefaultModel, Held, free_name, row},
    transcript::{message_entry, new_entry_id},
};

/// What a turn begins with.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) held: Held,
    pub(super) of: Transcript,
    /// Messages that are in the transcript now, to be told of.
    pub(super) said: Vec<Kept>,
    /// The session as rows show it.
    pub(super) row: Value,
}

/// A message that is in a transcript.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) number: Option<i64>,
    pub(super) message: Value,
}

/// Which clock people read, and when conversations end.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    pub(crate) zone: TimeZone,
    reset: Value,
}

impl Calendar {
    pub(crate) fn of(config: &Value) -> Self {
        let named = config
            .pointer("/agents/defaults/userTimezone")
            .and_then(Value::as_str)
            .and_then(|name| TimeZone::get(name.trim()).ok());
        Self {
            zone: named.unwrap_or_else(TimeZone::system),
            reset: config.get("session").cloned().unwrap_or_default(),
        }
    }

    /// `Sat 2026-11-28 02:30 UTC`.
    pub(crate) fn stamp(&self, at_ms: i64) -> String {
        self.zoned(at_ms)
            .strftime("%a %Y-%m-%d %H:%M %Z")
            .to_string()
    }

    pub(crate) fn zoned(&self, at_ms: i64) -> jiff::Zoned {
        jiff::Timestamp::from_millisecond(at_ms)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_zoned(self.zone.clone())
    }

    /// When a conversation of this key is over, from `session.reset`, `session.resetByType` and
    /// `session.idleMinutes`.
    fn policy(&self, key: &SessionKey) -> ResetPolicy {
        let kind = match key.kind(None).as_str() {
            "group" => "group",
            _ if key.rest().contains(":thread:") => "thread",
            _ => "direct",
        };
        let by_type = self.reset.pointer(&format!("/resetByType/{kind}"));
        let reset = by_type.or_else(|| self.reset.get("reset"));
        let idle = |value: Option<&Value>| {
            let minutes = value?.get("idleMinutes")?.as_u64()?;
            u32::try_from(minutes).ok().filter(|minutes| *minutes > 0)
        };
        let old_idle = idle(Some(&self.reset));
        let hour = reset
            .and_then(|reset| reset.get("atHour")?.as_u64())
            .and_then(|hour| u8::try_from(hour).ok())
            .filter(|hour| *hour < 24);
        match reset.and_then(|reset| reset.get("mode")?.as_str()) {
            Some("idle") => ResetPolicy::Idle {
                minutes: idle(reset).or(old_idle).unwrap_or(60),
            },
            None if reset.is_none() && old_idle.is_some() => ResetPolicy::Idle {
                minutes: old_idle.unwrap_or(60),
            },
            _ => ResetPolicy::Daily {
                at_hour: hour.unwrap_or(4),
                idle_minutes: idle(reset),
            },
        }
    }

    /// Whether a conversation that was last changed then is over now.
    fn is_over(&self, key: &SessionKey, updated_at_ms: i64, now_ms: i64) -> bool {
        let policy = self.policy(key);
        let day_began_ms = match policy {
            ResetPolicy::Daily { at_hour, .. } => self.day_began(now_ms, at_hour),
            ResetPolicy::Idle { .. } => i64::MIN,
        };
        policy.is_over(updated_at_ms, now_ms, day_began_ms)
    }

    fn day_began(&self, now_ms: i64, at_hour: u8) -> i64 {
        let now = self.zoned(now_ms);
        let hour = i8::try_from(at_hour).unwrap_or(4);
        let struck = |date: jiff::civil::Date| {
            let at = date.at(hour, 0, 0, 0).to_zoned(self.zone.clone());
            at.map_or(i64::MIN, |at| at.timestamp().as_millisecond())
        };
        let today = struck(now.date());
        if today <= now_ms {
            return today;
        }
        now.date().yesterday().map_or(i64::MIN, struck)
    }
}

/// A user's message as it is kept.
fn user_message(wanted: &Wanted, words: &str, at_ms: i64) -> Value {
    let mut content = vec![json!({"type": "text", "text": words})];
    for image in &wanted.images {
        content.push(json!({"type": "image", "data": image.data, "mimeType": image.mime}));
    }
    let mut message = json!({
        "role": "user",
        "content": content,
        "timestamp": at_ms,
        "idempotencyKey": wanted.run_id,
    });
    if wanted.origin == Origin::Heartbeat {
        message["heartbeat"] = json!(true);
    }
    message
}

/// Begins a turn and those that it answers too. `None` when it began before, or is over.
pub(super) fn open(
    tx: &Tx<'_>,
    runs: &[Arc<Run>],
    calendar: &Calendar,
    default: &DefaultModel,
    now_ms: i64,
) -> Result<Option<Opened>, StoreError> {
    let Some(leader) = runs.first() else {
        return Ok(None);
    };
    for run in runs {
        if !tx.start_run(run.id(), now_ms)? {
            return Ok(None);
        }
    }
    let (key, wanted) = (leader.key(), &leader.wanted);
    let mut held = match tx.read().session(key.as_str())? {
        Some(session) => {
            let mut held = Held::of(session);
            let is_over = calendar.is_over(key, held.session.updated_at_ms, now_ms);
            if wanted.fresh || (is_over && wanted.origin.is_conversation()) {
                begin_anew(tx, &mut held, now_ms)?;
            }
            held
        }
        None => new(tx, key, now_ms)?,
    };
    if let (Some(label), None) = (&wanted.label, held.text("label")) {
        held.entry.insert("label".to_owned(), json!(label));
    }
    if wanted.origin == Origin::Chat {
        // As the original notes where words came from that no channel brought.
        for (member, value) in [
            ("chatType", json!("direct")),
            (
                "origin",
                json!({"provider": "webchat", "surface": "webchat", "chatType": "direct"}),
            ),
            ("lastChannel", json!("webchat")),
            ("deliveryContext", json!({"channel": "webchat"})),
        ] {
            held.entry.entry(member).or_insert(value);
        }
    }
    held.entry.insert("systemSent".to_owned(), json!(true));
    held.entry.insert("abortedLastRun".to_owned(), json!(false));
    held.session.updated_at_ms = now_ms;
    held.keep(tx, key)?;
    if let Some(base) = key.of_job() {
        // The job's own row shows its newest run, with the settings that people gave it.
        let mut shown = held.clone();
        base.as_str().clone_into(&mut shown.session.key);
        shown.session.is_run = false;
        shown.keep(tx, &base)?;
    }
    let (agent, session_id) = (&held.session.agent_id, &held.session.session_id);
    let mut of = match tx.read().live_transcript(agent, session_id)? {
        Some(of) => of,
        None => tx.begin_transcript(agent, session_id, key.as_str(), None, now_ms)?,
    };
    let events = tx.take_system_events(key.as_str())?;
    let mut before: Vec<String> = events
        .into_iter()
        // Further lines stand under the first: none of them is another line of the system.
        .map(|(text, at_ms)| {
            let text = text.replace(['\n', '\r'], "\n  ");
            format!("System: [{}] {text}", calendar.stamp(at_ms))
        })
        .collect();
    let mut said = Vec::with_capacity(runs.len());
    for run in runs {
        let kept = say(
            tx,
            &mut of,
            &run.wanted,
            std::mem::take(&mut before),
            calendar,
            now_ms,
        )?;
        said.extend(kept);
    }
    let listed = tx.read().listed_session(key.as_str())?;
    let row = listed.map_or(Value::Null, |listed| {
        row(
            listed,
            default,
            crate::methods::session::Wanted::default(),
            Dialect::V4,
        )
    });
    Ok(Some(Opened {
        held,
        of,
        said,
        row,
    }))
}

/// A session that was not there before. One of a job's run has the settings of the job's.
fn new(tx: &Tx<'_>, key: &SessionKey, now_ms: i64) -> Result<Held, StoreError> {
    let mut held = Held::new(key, now_ms);
    if let Some((base, conversation)) = key.of_job().zip(key.rest().rsplit(':').next()) {
        if let Some(before) = tx.read().session(base.as_str())? {
            held.entry = Held::of(before).entry;
            held.end_conversation();
        }
        conversation.clone_into(&mut held.session.session_id);
    }
    Ok(held)
}

/// Puts what somebody says into a conversation. `before` are lines of the system.
pub(super) fn say(
    tx: &Tx<'_>,
    of: &mut Transcript,
    wanted: &Wanted,
    before: Vec<String>,
    calendar: &Calendar,
    now_ms: i64,
) -> Result<Option<Kept>, StoreError> {
    let mut words = before;
    if !wanted.message.is_empty() || words.is_empty() {
        words.push(if wanted.origin.is_conversation() {
            format!("[{}] {}", calendar.stamp(now_ms), wanted.message)
        } else {
            wanted.message.clone()
        });
    }
    let message = user_message(wanted, &words.join("\n\n"), now_ms);
    keep(tx, of, &wanted.run_id, message, now_ms)
}

/// Appends a message of a run. `None` when it is there already. `of` is brought up to date first:
/// others may have appended since it was read.
pub(super) fn keep(
    tx: &Tx<'_>,
    of: &mut Transcript,
    run_id: &str,
    message: Value,
    now_ms: i64,
) -> Result<Option<Kept>, StoreError> {
    if let Some(now) = tx.read().transcript(of.number)? {
        *of = now;
    }
    let mut id = new_entry_id();
    while tx.read().entry(of, &id)?.is_some() {
        id = new_entry_id();
    }
    let mut entry = message_entry(id.clone(), now_ms, &message);
    entry.run_id = Some(run_id.to_owned());
    Ok(match tx.append(of, &entry)? {
        Appended::New {
            message: number, ..
        } => Some(Kept {
            id,
            number,
            message,
        }),
        Appended::Before(_) => None,
    })
}

/// Puts a session's conversation away and begins another one.
fn begin_anew(tx: &Tx<'_>, held: &mut Held, now_ms: i64) -> Result<(), StoreError> {
    let session = &mut held.session;
    let of = tx
        .read()
        .live_transcript(&session.agent_id, &session.session_id)?;
    if let Some(of) = of {
        let name = free_name(tx, &of, "reset", now_ms)?;
        tx.put_transcript_away(&of, Some((&name, "reset")), now_ms)?;
    }
    session.session_id = uuid::Uuid::new_v4().to_string();
    held.end_conversation();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(session: &Value) -> Calendar {
        Calendar::of(
            &json!({"agents": {"defaults": {"userTimezone": "Europe/Berlin"}}, "session": session}),
        )
    }

    fn key(text: &str) -> SessionKey {
        SessionKey::read(text, None, "main").unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_day_ends_at_its_hour_of_the_persons_clock() {
        let calendar = calendar(&json!({}));
        let night = at("2026-11-27T23:00:00Z");
        assert!(!calendar.is_over(&key("main"), night, at("2026-11-28T02:59:00Z")));
        assert!(calendar.is_over(&key("main"), night, at("2026-11-28T03:00:00Z")));
        assert_eq!(calendar.stamp(night), "Sat 2026-11-28 00:00 CET");
    }

    #[test]
    fn quiet_minutes_end_a_conversation_where_that_is_configured() {
        let (then, later) = (at("2026-11-28T10:00:00Z"), at("2026-11-28T10:31:00Z"));
        for (session, group, direct) in [
            (
                json!({"reset": {"mode": "idle", "idleMinutes": 30}}),
                true,
                true,
            ),
            (
                json!({"reset": {"mode": "daily", "atHour": 4}}),
                false,
                false,
            ),
            (json!({"idleMinutes": 30}), true, true),
            (
                json!({"resetByType": {"group": {"mode": "idle", "idleMinutes": 30}}}),
                true,
                false,
            ),
            (json!({"reset": {"idleMinutes": 30}}), true, true),
        ] {
            let calendar = calendar(&session);
            let over = |text| calendar.is_over(&key(text), then, later);
            assert_eq!(over("telegram:group:1"), group, "{session}");
            assert_eq!(over("main"), direct, "{session}");
        }
    }
}
