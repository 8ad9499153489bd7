//! What a turn says while it goes on: `agent` events in small steps, `chat` events in larger ones.
//!
//! The first words go out at once, later ones together after a moment: an event carries all of the
//! text so far, so one for every word would cost more with every word. What is held back goes out
//! before anything else is told, and after the moment at the latest.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clawgate_core::{Dialect, turn::FailureKind};
use clawgate_protocol::event::Event;
use serde_json::{Map, Value, json};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{settle::Ended, wanted::Wanted};
use crate::{
    Gateway,
    clock::now_ms,
    hub::{Link, Way},
};

/// Between two `agent` events of the same text.
const STEP: Duration = Duration::from_millis(50);
/// Between two `chat` events, as in the original.
const CHAT_STEP: Duration = Duration::from_millis(150);
/// Bytes of a text after which the steps are twice as long, then three times, and so on.
const LONG: usize = 32 << 10;
/// What an agent says when it has nothing to say begins so.
const SILENT: &str = "NO_REPLY";

/// What a turn has said, and how much of it was told.
#[derive(Debug)]
pub(super) struct Voice {
    run_id: String,
    key: String,
    written_key: String,
    agent: String,
    conn_id: Option<String>,
    is_heartbeat: bool,
    said: Mutex<Said>,
    /// Told when something is held back.
    held_back: Notify,
    /// Told when there is more to hear.
    more: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Said {
    session_id: String,
    seq: u64,
    /// Messages before this one.
    before: String,
    /// This message so far.
    text: String,
    thought: String,
    /// Bytes of `text` that were told.
    told: usize,
    thought_told: usize,
    /// Bytes of both that were told to chats.
    chat_told: usize,
    told_at: Option<Instant>,
    chat_told_at: Option<Instant>,
}

impl Said {
    fn whole(&self) -> String {
        format!("{}{}", self.before, self.text)
    }

    /// Whether it may yet be, or is, what is said when there is nothing to say.
    fn is_silent(&self) -> bool {
        let said = self.text.trim_start();
        self.before.is_empty() && (SILENT.starts_with(said) || said.starts_with(SILENT))
    }
}

impl Voice {
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self {
            run_id: wanted.run_id.clone(),
            key: wanted.key.as_str().to_owned(),
            written_key: wanted.written_key.clone(),
            agent: wanted.key.agent().to_owned(),
            conn_id: wanted.conn_id.clone(),
            is_heartbeat: wanted.origin == super::Origin::Heartbeat,
            said: Mutex::default(),
            held_back: Notify::new(),
            more: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything so far.
    pub(super) fn said(&self) -> String {
        self.lock().whole()
    }

    /// Tells whenever there is more to hear.
    pub(super) fn more(&self) -> watch::Receiver<()> {
        self.more.subscribe()
    }

    /// What was said after so many bytes; nothing while that may be nothing to say.
    pub(super) fn said_after(&self, bytes: usize) -> String {
        let said = self.lock();
        if bytes == 0 && said.is_silent() {
            return String::new();
        }
        let (before, text) = (said.before.as_str(), said.text.as_str());
        let of_before = before.get(bytes..).unwrap_or_default();
        let of_text = text.get(bytes.saturating_sub(before.len())..);
        format!("{of_before}{}", of_text.unwrap_or_default())
    }

    /// This message so far, which is nowhere else yet.
    pub(super) fn unfinished(&self) -> String {
        self.lock().text.clone()
    }

    /// It begins.
    pub(super) fn begins(&self, gateway: &Gateway, session_id: &str, at_ms: i64) {
        let mut said = self.lock();
        session_id.clone_into(&mut said.session_id);
        let data = json!({"phase": "start", "startedAt": at_ms});
        self.tell(gateway, &mut said, "lifecycle", &data);
    }

    /// Text came in.
    pub(super) fn says(&self, gateway: &Gateway, words: &str) {
        let mut said = self.lock();
        said.text.push_str(words);
        self.tell_some(gateway, &mut said);
        drop(said);
        self.more.send_replace(());
    }

    /// Thought came in.
    pub(super) fn thinks(&self, gateway: &Gateway, words: &str) {
        let mut said = self.lock();
        said.thought.push_str(words);
        self.tell_some(gateway, &mut said);
    }

    fn tell_some(&self, gateway: &Gateway, said: &mut Said) {
        let now = Instant::now();
        // An event carries everything so far, so the longer it is the fewer there are.
        let longer = u32::try_from((said.before.len() + said.text.len()) / LONG).unwrap_or(0) + 1;
        let due = |at: Option<Instant>, step: Duration| {
            at.is_none_or(|at: Instant| now >= at + step * longer)
        };
        if due(said.told_at, STEP) {
            self.tell_step(gateway, said, now);
        }
        if due(said.chat_told_at, CHAT_STEP) {
            self.tell_chat(gateway, said, now);
        }
        if said.told < said.text.len() || said.chat_told < said.before.len() + said.text.len() {
            self.held_back.notify_one();
        }
    }

    /// Tells what is held back when its moment has passed, for as long as it is polled.
    pub(super) async fn keep_telling(&self, gateway: &Gateway) {
        loop {
            self.held_back.notified().await;
            tokio::time::sleep(STEP).await;
            let mut said = self.lock();
            self.tell_some(gateway, &mut said);
        }
    }

    /// Tells everything that is held back.
    pub(super) fn flush(&self, gateway: &Gateway) {
        let mut said = self.lock();
        let now = Instant::now();
        self.tell_step(gateway, &mut said, now);
        self.tell_chat(gateway, &mut said, now);
    }

    fn tell_step(&self, gateway: &Gateway, said: &mut Said, now: Instant) {
        if said.thought_told < said.thought.len() {
            let data = json!({"text": said.thought, "delta": &said.thought[said.thought_told..]});
            said.thought_told = said.thought.len();
            said.told_at = Some(now);
            self.tell(gateway, said, "thinking", &data);
        }
        if said.told < said.text.len() && !said.is_silent() {
            let data = json!({"text": said.text, "delta": &said.text[said.told..]});
            said.told = said.text.len();
            said.told_at = Some(now);
            self.tell(gateway, said, "assistant", &data);
        }
    }

    fn tell_chat(&self, gateway: &Gateway, said: &mut Said, now: Instant) {
        let whole = said.whole();
        if said.chat_told >= whole.len() || said.is_silent() || self.is_heartbeat {
            return;
        }
        let delta = whole.get(said.chat_told..).unwrap_or_default().to_owned();
        said.chat_told = whole.len();
        said.chat_told_at = Some(now);
        let message = assistant(&whole, now_ms());
        self.tell_chat_state(
            gateway,
            said,
            &self.run_id,
            "delta",
            Some(message),
            |event| {
                event.insert("deltaText".to_owned(), json!(delta));
            },
        );
    }

    /// The message is whole and kept; the next one is another.
    pub(super) fn message_ends(&self, gateway: &Gateway) {
        self.flush(gateway);
        let mut said = self.lock();
        let text = std::mem::take(&mut said.text);
        said.before.push_str(&text);
        said.thought.clear();
        (said.told, said.thought_told) = (0, 0);
    }

    /// The request failed and another one is made: what it said is void.
    pub(super) fn takes_back(&self) {
        let mut said = self.lock();
        said.text.clear();
        said.thought.clear();
        (said.told, said.thought_told) = (0, 0);
        said.chat_told = said.chat_told.min(said.before.len());
    }

    /// A tool begins.
    pub(super) fn tool_begins(&self, gateway: &Gateway, id: &str, name: &str, args: &Value) {
        self.flush(gateway);
        let data = json!({"phase": "start", "name": name, "toolCallId": id, "args": args});
        self.tell(gateway, &mut self.lock(), "tool", &data);
    }

    /// A tool is done.
    pub(super) fn tool_ends(
        &self,
        gateway: &Gateway,
        (id, name): (&str, &str),
        is_error: bool,
        result: Option<&str>,
    ) {
        let mut data =
            json!({"phase": "result", "name": name, "toolCallId": id, "isError": is_error});
        if let Some(result) = result {
            data["result"] = json!({"content": [{"type": "text", "text": result}]});
        }
        self.tell(gateway, &mut self.lock(), "tool", &data);
    }

    /// Something else, of its own stream.
    pub(super) fn tells(&self, gateway: &Gateway, stream: &'static str, data: &Value) {
        self.tell(gateway, &mut self.lock(), stream, data);
    }

    /// It is over: for itself and for those that it answered too.
    pub(super) fn ends(&self, gateway: &Gateway, ended: &Ended, others: &[(String, String)]) {
        self.flush(gateway);
        let mut said = self.lock();
        self.tell(gateway, &mut said, "lifecycle", &ended.lifecycle());
        // A heartbeat that has nothing to say is told to nobody.
        if self.is_heartbeat && (ended.is_silent() || ended.status != super::Status::Ok) {
            return;
        }
        let ids = std::iter::once((self.run_id.as_str(), self.written_key.as_str()));
        let others = others.iter().map(|(id, key)| (id.as_str(), key.as_str()));
        for (id, _) in ids.chain(others) {
            let message = ended.message().filter(|_| !ended.is_silent());
            self.tell_chat_state(gateway, &said, id, ended.chat_state(), message, |event| {
                if let Some(reason) = ended.stop_reason() {
                    event.insert("stopReason".to_owned(), json!(reason));
                }
                if let Some(error) = &ended.error {
                    event.insert("errorMessage".to_owned(), json!(error));
                }
                if let Some(kind) = ended.failure {
                    event.insert("errorKind".to_owned(), json!(error_kind(kind)));
                }
            });
        }
    }

    /// Sends an `agent` event.
    fn tell(&self, gateway: &Gateway, said: &mut Said, stream: &str, data: &Value) {
        said.seq += 1;
        let event = json!({
            "runId": self.run_id,
            "stream": stream,
            "data": data,
            "sessionKey": self.key,
            "seq": said.seq,
            "ts": now_ms(),
        });
        let of_tools = stream == "tool";
        let payload = |dialect: Dialect| match dialect {
            Dialect::V3 => event.to_string(),
            Dialect::V4 => {
                let mut event = event.clone();
                event["sessionId"] = json!(said.session_id);
                event["agentId"] = json!(self.agent);
                if self.is_heartbeat {
                    event["isHeartbeat"] = json!(true);
                }
                event.to_string()
            }
        };
        let way = Way {
            event: Event::Agent,
            numbered: !of_tools,
            droppable: false,
        };
        gateway
            .hub
            .publish_if(way, payload, |link| self.is_for(link, of_tools));
        if !of_tools {
            let payload = |dialect, _: &str| payload(dialect);
            gateway
                .nodes
                .tell_followers_of(&self.key, Event::Agent, payload);
        }
    }

    /// Sends a `chat` event. What `more` adds beyond wire 3 stays in wire 4.
    fn tell_chat_state(
        &self,
        gateway: &Gateway,
        said: &Said,
        run_id: &str,
        state: &str,
        message: Option<Value>,
        more: impl FnOnce(&mut Map<String, Value>),
    ) {
        let mut event = Map::new();
        event.insert("runId".to_owned(), json!(run_id));
        event.insert("sessionKey".to_owned(), json!(self.key));
        event.insert("agentId".to_owned(), json!(self.agent));
        event.insert("seq".to_owned(), json!(said.seq));
        event.insert("state".to_owned(), json!(state));
        if let Some(message) = message {
            event.insert("message".to_owned(), message);
        }
        more(&mut event);
        // Wire 3 has less of it, and the key as whoever asked wrote it.
        let v3 = |written: &str| {
            let mut event = event.clone();
            for member in ["agentId", "deltaText", "errorKind"] {
                event.remove(member);
            }
            if state == "final" {
                event.remove("stopReason");
            }
            event.insert("sessionKey".to_owned(), json!(written));
            Value::Object(event).to_string()
        };
        let payload = |dialect: Dialect, written: &str| match dialect {
            Dialect::V3 => v3(written),
            Dialect::V4 => Value::Object(event.clone()).to_string(),
        };
        // The last word is never left out for a slow receiver; a part of it is, for the next one
        // has it again.
        let way = Way {
            event: Event::Chat,
            numbered: true,
            droppable: state == "delta",
        };
        gateway.hub.publish_if(
            way,
            |dialect| payload(dialect, &self.written_key),
            |link| self.is_for(link, false),
        );
        gateway
            .nodes
            .tell_followers_of(&self.key, Event::Chat, payload);
    }

    /// Whether a connection hears of it: of tools only who asked for the turn or for its session,
    /// and can tell so.
    fn is_for(&self, link: &Link, of_tools: bool) -> bool {
        let caps = link.principal.caps;
        if !of_tools && !caps.only_own_sessions {
            return true;
        }
        if of_tools && !caps.tool_events {
            return false;
        }
        self.conn_id.as_deref() == Some(link.principal.conn_id.as_str())
            || link.watch().messages.contains(&self.key)
    }
}

/// A message of the agent as events carry it.
pub(super) fn assistant(words: &str, at_ms: i64) -> Value {
    json!({
        "role": "assistant",
        "content": [{"type": "text", "text": words}],
        "timestamp": at_ms,
    })
}

/// Wire 4's kinds of errors of a chat.
fn error_kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Timeout => "timeout",
        FailureKind::RateLimited | FailureKind::Overloaded => "rate_limit",
        FailureKind::TooLong => "context_length",
        _ => "unknown",
    }
}
