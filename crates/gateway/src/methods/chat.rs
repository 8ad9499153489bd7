//! Chat: conversations as clients show them, and messages that are put into them.

use std::sync::Arc;

use clawgate_core::{Dialect, heartbeat, session::SessionKey};
use clawgate_protocol::{ErrorShape, event::Event};
use clawgate_store::{Appended, Entry, ListedSession, Read, StoreError, Transcript};
use serde_json::{Map, Value, json};

use super::session::{
    ANSWER_BYTES_MAX, DefaultModel, Held, Refused, Wanted, newest_messages, number, row, text,
};
use crate::{
    Gateway,
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
    transcript::{message_entry, new_entry_id},
};

/// What an agent says when it has nothing to say.
pub(crate) const NO_REPLY: &str = "NO_REPLY";
const MESSAGES: i64 = 200;
const MESSAGES_MAX: i64 = 1_000;
/// Characters of one text that are shown.
const TEXT_MAX: usize = 12_000;
const CUT_MARK: &str = "\n...(truncated)...";
/// A message of more bytes is replaced.
const MESSAGE_BYTES_MAX: usize = 128 << 10;
const TOO_LARGE: &str = "[chat.history omitted: message too large]";
/// Names of the original's for messages that no model made.
const INJECTED_BY: (&str, &str, &str) = ("openai-responses", "openclaw", "gateway-injected");

/// A page of a conversation.
struct Page {
    session: Option<ListedSession>,
    of: Option<Transcript>,
    entries: Vec<Entry>,
    /// Number of the newest message of the page.
    last: i64,
}

pub(crate) fn history(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    let default = call.default_model();
    let asked = call.value().and_then(|value| {
        let Value::Object(members) = value else {
            return Err(call.invalid("must be object"));
        };
        Ok((call.key(&members, "sessionKey")?, members))
    });
    later(asked, move |(key, members)| async move {
        if let Some(cursor) = text(&members, "cursor").map(str::to_owned) {
            return since(&gateway, &default, key, &cursor, &members).await;
        }
        let limit = number(&members, "limit")
            .unwrap_or(MESSAGES)
            .clamp(1, MESSAGES_MAX);
        let of_id = text(&members, "sessionId").map(str::to_owned);
        let around = text(&members, "messageId").map(str::to_owned);
        let offset = number(&members, "offset").unwrap_or(0).max(0);
        let in_flight = gateway.in_flight(&key, dialect);
        let page = gateway
            .look(move |db| page(db, &key, of_id.as_deref(), around.as_deref(), offset, limit))
            .await?;
        let shown = Shown::of(&members);
        let messages: Vec<Value> = page
            .entries
            .iter()
            .filter_map(|entry| shown.message(entry, dialect))
            .collect();
        let held = page.session.clone().map(|listed| Held::of(listed.session));
        let mut answer = levels(held.as_ref(), &default);
        answer.insert("sessionKey".to_owned(), members["sessionKey"].clone());
        if let Some(held) = &held {
            let of = page.of.as_ref().map(|of| of.session_id.clone());
            let id = of.unwrap_or_else(|| held.session.session_id.clone());
            answer.insert("sessionId".to_owned(), json!(id));
        }
        answer.insert("messages".to_owned(), Value::Array(messages));
        if dialect == Dialect::V4 {
            paging(&mut answer, page, &default);
        }
        if let Some(run) = in_flight {
            answer.insert("inFlightRun".to_owned(), run);
        }
        Ok(Reply::json(&Value::Object(answer)))
    })
}

fn page(
    db: &Read<'_>,
    key: &SessionKey,
    of_id: Option<&str>,
    around: Option<&str>,
    offset: i64,
    limit: i64,
) -> Result<Page, StoreError> {
    let session = db.listed_session(key.as_str())?;
    let of = match (&session, of_id) {
        // An earlier conversation of this session and of no other.
        (_, Some(id)) => db
            .transcript_of_id(key.agent(), id)?
            .filter(|of| of.session_key == key.as_str()),
        (Some(listed), None) => {
            db.live_transcript(&listed.session.agent_id, &listed.session.session_id)?
        }
        (None, None) => None,
    };
    let Some(of) = of else {
        return Ok(Page {
            session,
            of: None,
            entries: Vec::new(),
            last: 0,
        });
    };
    let anchor = match around {
        Some(id) => db.entry(&of, id)?.and_then(|entry| entry.message),
        None => None,
    };
    let last = match anchor {
        Some(message) => (message + limit / 2).min(of.messages),
        None => (of.messages - offset).max(of.cut_messages),
    };
    Ok(Page {
        session,
        entries: newest_messages(db, &of, last, limit)?,
        of: Some(of),
        last,
    })
}

/// Levels as clients show them beside a conversation.
fn levels(held: Option<&Held>, default: &DefaultModel) -> Map<String, Value> {
    let mut levels = Map::new();
    let thinking = held
        .and_then(|held| held.text("thinkingLevel"))
        .or(default.thinking.as_deref())
        .unwrap_or("off");
    levels.insert("thinkingLevel".to_owned(), json!(thinking));
    for member in ["fastMode", "verboseLevel"] {
        if let Some(value) = held.and_then(|held| held.entry.get(member)) {
            levels.insert(member.to_owned(), value.clone());
        }
    }
    levels
}

/// What wire 4 says of where a page is.
fn paging(answer: &mut Map<String, Value>, page: Page, default: &DefaultModel) {
    let Page {
        session,
        of,
        entries,
        last,
    } = page;
    let (total, newest, cut) = of.as_ref().map_or((0, 0, 0), |of| {
        (of.messages - of.cut_messages, of.messages, of.cut_messages)
    });
    let first = entries.first().and_then(|entry| entry.message);
    let has_more = first.is_some_and(|first| first > cut + 1);
    answer.insert("totalMessages".to_owned(), json!(total));
    answer.insert("offset".to_owned(), json!(newest - last));
    answer.insert("hasMore".to_owned(), json!(has_more));
    if let Some(first) = first.filter(|_| has_more) {
        answer.insert("nextOffset".to_owned(), json!(newest - first + 1));
    }
    if let Some(of) = &of {
        answer.insert("deltaCursor".to_owned(), json!(cursor(of, last)));
    }
    let info = session.map(|listed| row(listed, default, Wanted::default(), Dialect::V4));
    answer.insert("sessionInfo".to_owned(), json!(info));
}

/// Where a client is in a conversation.
fn cursor(of: &Transcript, message: i64) -> String {
    format!("{}:{message}", of.session_id)
}

/// What was said since a cursor; a conversation that is another one now begins anew.
async fn since(
    gateway: &Arc<Gateway>,
    default: &DefaultModel,
    key: SessionKey,
    cursor: &str,
    members: &Map<String, Value>,
) -> Result<Reply, ErrorShape> {
    let reset = || Ok(Reply::json(&json!({"kind": "reset"})));
    let Some((id, after)) = cursor.rsplit_once(':') else {
        return reset();
    };
    let Ok(after) = after.parse::<i64>() else {
        return reset();
    };
    let id = id.to_owned();
    let limit = number(members, "limit")
        .unwrap_or(MESSAGES)
        .clamp(1, MESSAGES_MAX);
    let found = gateway
        .look(move |db| {
            let Some(listed) = db.listed_session(key.as_str())? else {
                return Ok(None);
            };
            let session = &listed.session;
            let of = db.live_transcript(&session.agent_id, &session.session_id)?;
            match of {
                Some(of)
                    if of.session_id == id && after >= of.cut_messages && after <= of.messages =>
                {
                    let entries = db.messages_after(&of, after, limit)?;
                    Ok(Some((listed, of, entries)))
                }
                _ => Ok(None),
            }
        })
        .await?;
    let Some((listed, of, mut entries)) = found else {
        return reset();
    };
    let mut bytes = 0;
    let fits = entries
        .iter()
        .take_while(|entry| {
            bytes += entry.body.len();
            bytes <= ANSWER_BYTES_MAX
        })
        .count();
    entries.truncate(fits.max(1));
    let last = entries
        .last()
        .and_then(|entry| entry.message)
        .unwrap_or(after);
    let shown = Shown::of(members);
    let messages: Vec<Value> = entries
        .iter()
        .filter_map(|entry| shown.message(entry, Dialect::V4))
        .collect();
    Ok(Reply::json(&json!({
        "kind": "delta",
        "messages": messages,
        "deltaCursor": self::cursor(&of, last),
        "sessionInfo": row(listed, default, Wanted::default(), Dialect::V4),
    })))
}

/// How messages are shown.
struct Shown {
    text_max: usize,
}

impl Shown {
    fn of(members: &Map<String, Value>) -> Self {
        let asked = number(members, "maxChars").and_then(|chars| usize::try_from(chars).ok());
        Self {
            text_max: asked.unwrap_or(TEXT_MAX),
        }
    }

    /// A message as a client shows it; none where it shows nothing.
    fn message(&self, entry: &Entry, dialect: Dialect) -> Option<Value> {
        let mut message = if entry.body.len() > MESSAGE_BYTES_MAX.max(self.text_max) {
            json!({
                "role": entry.role,
                "timestamp": entry.at_ms,
                "content": [{"type": "text", "text": TOO_LARGE}],
                "__openclaw": {"truncated": true, "reason": "oversized"},
            })
        } else {
            self.trimmed(entry)?
        };
        if dialect == Dialect::V4 {
            if !message["__openclaw"].is_object() {
                message["__openclaw"] = json!({});
            }
            message["__openclaw"]["id"] = json!(entry.id);
            message["__openclaw"]["seq"] = json!(entry.message);
        }
        Some(message)
    }

    fn trimmed(&self, entry: &Entry) -> Option<Value> {
        let Ok(Value::Object(mut message)) = serde_json::from_str(&entry.body) else {
            return None;
        };
        let role = entry.role.as_deref().unwrap_or_default();
        let is_silent = entry.text.as_deref().map(str::trim) == Some(NO_REPLY);
        if role == "assistant" && is_silent {
            return None;
        }
        // What a heartbeat is asked is nobody's word, and its sign of life is none either.
        let said = entry.text.as_deref().unwrap_or_default().trim();
        if message.remove("heartbeat") == Some(Value::Bool(true))
            || (role == "assistant" && said.starts_with(heartbeat::ACK))
        {
            return None;
        }
        message.remove("details");
        if let Some(usage) = message.get("usage").and_then(Value::as_object) {
            message.insert("usage".to_owned(), short_usage(usage));
        }
        match message.get_mut("content") {
            Some(Value::Array(blocks)) => blocks.iter_mut().for_each(|block| self.block(block)),
            Some(Value::String(text)) => self.cut(text),
            _ => {}
        }
        if role == "user" {
            let label = unwrap_user(&mut message);
            if let Some(label) = label {
                message.entry("senderLabel").or_insert(Value::from(label));
            }
        }
        Some(Value::Object(message))
    }

    fn block(&self, block: &mut Value) {
        let Some(block) = block.as_object_mut() else {
            return;
        };
        for member in ["text", "thinking", "partialJson"] {
            if let Some(Value::String(text)) = block.get_mut(member) {
                self.cut(text);
            }
        }
        block.remove("thinkingSignature");
        if block.get("type").and_then(Value::as_str) == Some("image")
            && let Some(Value::String(data)) = block.remove("data")
        {
            block.insert("omitted".to_owned(), Value::Bool(true));
            block.insert("bytes".to_owned(), json!(data.len() / 4 * 3));
        }
    }

    fn cut(&self, text: &mut String) {
        if text.len() <= self.text_max {
            return;
        }
        if let Some((at, _)) = text.char_indices().nth(self.text_max) {
            text.truncate(at);
            text.push_str(CUT_MARK);
        }
    }
}

/// Usage without the parts of the cost.
fn short_usage(usage: &Map<String, Value>) -> Value {
    let mut short = Map::new();
    for member in ["input", "output", "totalTokens", "cacheRead", "cacheWrite"] {
        if let Some(value) = usage.get(member).filter(|value| value.is_number()) {
            short.insert(member.to_owned(), value.clone());
        }
    }
    if let Some(total) = usage.get("cost").and_then(|cost| cost.get("total")) {
        short.insert("cost".to_owned(), json!({"total": total}));
    }
    Value::Object(short)
}

/// Takes what a gateway wrote around a person's words off them, and gives the sender that stood there.
fn unwrap_user(message: &mut Map<String, Value>) -> Option<String> {
    let mut label = None;
    let mut unwrap = |text: &mut String| {
        let (words, sender) = unwrapped(text);
        label = label.take().or(sender);
        *text = words;
    };
    match message.get_mut("content") {
        Some(Value::String(text)) => unwrap(text),
        Some(Value::Array(blocks)) => {
            for block in blocks {
                if let Some(Value::String(text)) = block.get_mut("text") {
                    unwrap(text);
                }
            }
        }
        _ => {}
    }
    label
}

fn unwrapped(text: &str) -> (String, Option<String>) {
    let mut label = None;
    let text = if text.contains(" (untrusted") {
        let mut kept: Vec<&str> = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let heads = line.ends_with("):") && line.contains(" (untrusted");
            if !heads || lines.peek().is_none_or(|next| next.trim() != "```json") {
                kept.push(line);
                continue;
            }
            let block: Vec<&str> = lines
                .by_ref()
                .skip(1)
                .take_while(|line| line.trim() != "```")
                .collect();
            if let Ok(Value::Object(facts)) = serde_json::from_str(&block.join("\n"))
                && line.starts_with("Sender")
            {
                let name = ["label", "name", "username"]
                    .iter()
                    .find_map(|member| facts.get(*member)?.as_str());
                label = label.or(name.map(str::to_owned));
            }
        }
        kept.join("\n").trim_start().to_owned()
    } else {
        text.to_owned()
    };
    // `[Mon 2026-11-23 02:13 UTC] ` before everything else.
    let stamped = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    let is_stamp = |inner: &str| {
        let digits = inner.chars().filter(char::is_ascii_digit).count();
        inner.len() < 64 && digits >= 12 && inner.matches('-').count() >= 2 && inner.contains(':')
    };
    match stamped {
        Some((inner, rest)) if is_stamp(inner) => (rest.to_owned(), label),
        _ => (text, label),
    }
}

pub(crate) fn message_get(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    let asked = call.value().and_then(|value| {
        let Value::Object(members) = value else {
            return Err(call.invalid("must be object"));
        };
        Ok((call.key(&members, "sessionKey")?, members))
    });
    later(asked, move |(key, members)| async move {
        let id = text(&members, "messageId").unwrap_or_default().to_owned();
        let found = gateway
            .look(
                move |db| match super::session::conversation(db, key.as_str())? {
                    Some(of) => db.entry(&of, &id),
                    None => Ok(None),
                },
            )
            .await?;
        let Some(entry) = found.filter(|entry| entry.message.is_some()) else {
            let none = json!({"ok": false, "unavailableReason": "not_found"});
            return Ok(Reply::json(&none));
        };
        if entry.body.len() > ANSWER_BYTES_MAX {
            let none = json!({"ok": false, "unavailableReason": "oversized"});
            return Ok(Reply::json(&none));
        }
        let shown = Shown {
            text_max: number(&members, "maxChars")
                .and_then(|chars| usize::try_from(chars).ok())
                .unwrap_or(ANSWER_BYTES_MAX),
        };
        Ok(Reply::json(&match shown.message(&entry, dialect) {
            Some(message) => json!({"ok": true, "message": message}),
            None => json!({"ok": false, "unavailableReason": "not_visible"}),
        }))
    })
}

/// A message of the agent that no model made.
fn injected(words: &str, at_ms: i64) -> Value {
    let (api, provider, model) = INJECTED_BY;
    json!({
        "role": "assistant",
        "content": [{"type": "text", "text": words}],
        "timestamp": at_ms,
        "stopReason": "stop",
        "usage": {
            "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 0,
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "total": 0},
        },
        "api": api,
        "provider": provider,
        "model": model,
    })
}

/// A message that is in a conversation now.
struct Said {
    key: SessionKey,
    /// The key as the caller wrote it.
    asked_key: String,
    session: Option<ListedSession>,
    of: Transcript,
    id: String,
    number: Option<i64>,
    message: Value,
}

pub(crate) fn inject(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let default = call.default_model();
    let asked = call.value().and_then(|value| {
        let Value::Object(members) = value else {
            return Err(call.invalid("must be object"));
        };
        let words = text(&members, "message").unwrap_or_default();
        if words.contains('\0') {
            return Err(ErrorShape::invalid("message must not contain null bytes"));
        }
        if words.trim().is_empty() {
            return Err(call.invalid("at /message: must not be blank"));
        }
        let label = text(&members, "label").map(str::trim).unwrap_or_default();
        let words = if label.is_empty() {
            words.to_owned()
        } else {
            format!("[{label}]\n\n{words}")
        };
        let asked_key = text(&members, "sessionKey").unwrap_or_default().to_owned();
        Ok((call.key(&members, "sessionKey")?, asked_key, words))
    });
    later(asked, move |(key, asked_key, words)| async move {
        let teller = Arc::clone(&gateway);
        let id = gateway
            .store
            .write_then(
                "injecting a message",
                move |tx| {
                    let now = now_ms();
                    if !link.may_act(now) {
                        let gone = "the authority of this connection has ended";
                        return Err(Refused::Said(ErrorShape::invalid(gone)));
                    }
                    let Some(session) = tx.read().session(key.as_str())? else {
                        return Err(Refused::Said(ErrorShape::invalid("session not found")));
                    };
                    let (agent, sid) = (&session.agent_id, &session.session_id);
                    let mut of = match tx.read().live_transcript(agent, sid)? {
                        Some(of) => of,
                        None => tx.begin_transcript(agent, sid, key.as_str(), None, now)?,
                    };
                    let message = injected(&words, now);
                    let mut id = new_entry_id();
                    while tx.read().entry(&of, &id)?.is_some() {
                        id = new_entry_id();
                    }
                    let appended = tx.append(&mut of, &message_entry(id.clone(), now, &message))?;
                    let number = match appended {
                        Appended::New { message, .. } => message,
                        Appended::Before(_) => None,
                    };
                    Ok(Said {
                        session: tx.read().listed_session(key.as_str())?,
                        key,
                        asked_key,
                        of,
                        id,
                        number,
                        message,
                    })
                },
                move |said| {
                    let id = said.id.clone();
                    teller.tell_message(said, &default);
                    id
                },
            )
            .await
            .map_err(Refused::shape)?;
        Ok(Reply::json(&json!({"ok": true, "messageId": id})))
    })
}

impl Gateway {
    /// Tells of a message: everybody who may see it, and those of wire 4 that asked for more.
    fn tell_message(&self, said: Said, default: &DefaultModel) {
        let run_id = format!("inject-{}", said.id);
        let v3 = json!({
            "runId": run_id,
            "sessionKey": said.asked_key,
            "seq": 0,
            "state": "final",
            "message": said.message,
        });
        let mut v4 = v3.clone();
        v4["sessionKey"] = json!(said.key.as_str());
        v4["agentId"] = json!(said.key.agent());
        self.hub
            .publish_each(Event::Chat, Some(&v3.to_string()), &v4.to_string(), None);
        self.nodes
            .tell_followers(&said.key, Event::Chat, |dialect, written| match dialect {
                Dialect::V3 => {
                    // By the name that the node goes by, as clients of wire 3 look for it.
                    let mut payload = v3.clone();
                    payload["sessionKey"] = json!(written);
                    payload.to_string()
                }
                Dialect::V4 => v4.to_string(),
            });
        let session = said
            .session
            .map(|listed| row(listed, default, Wanted::default(), Dialect::V4));
        let session = session.unwrap_or(Value::Null);
        let said_id = (said.id.as_str(), said.number);
        self.tell_appended(
            &said.key,
            &said.of.session_id,
            said_id,
            &said.message,
            &session,
        );
    }

    /// Tells those of wire 4 that asked of a message that is in a conversation now. `row` is its
    /// session as rows show it.
    pub(crate) fn tell_appended(
        &self,
        key: &SessionKey,
        session_id: &str,
        (id, number): (&str, Option<i64>),
        message: &Value,
        row: &Value,
    ) {
        let told = json!({
            "sessionKey": key.as_str(),
            "agentId": key.agent(),
            "sessionId": session_id,
            "messageId": id,
            "messageSeq": number,
            "message": message,
            "session": row,
        });
        self.hub
            .publish_watched(Event::SessionMessage, &told.to_string(), |watch| {
                watch.messages.contains(key.as_str())
            });
        self.tell_row(key, "message", row);
    }

    /// Tells those that asked that a session is other than it was.
    pub(crate) fn tell_row(&self, key: &SessionKey, reason: &str, row: &Value) {
        self.health.status_changed();
        let changed = json!({
            "sessionKey": key.as_str(),
            "reason": reason,
            "ts": now_ms(),
            "session": row,
        });
        self.hub
            .publish_watched(Event::SessionsChanged, &changed.to_string(), |watch| {
                watch.sessions
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_wrote_around_words_is_taken_off() {
        let sender = "Sender (untrusted metadata):\n```json\n{\n  \"label\": \"openclaw-control-ui\"\n}\n```\n\n";
        for (text, want, label) in [
            ("plain", "plain", None),
            ("[Mon 2026-11-23 02:13 UTC] hello", "hello", None),
            ("[ops] hello", "[ops] hello", None),
            (
                &format!("{sender}[Mon 2026-11-23 02:13 UTC] USE_TOOL please"),
                "USE_TOOL please",
                Some("openclaw-control-ui"),
            ),
            (
                &format!("System: a\n\n{sender}[Mon 2026-11-23 02:13 UTC] hi"),
                "System: a\n\n\n[Mon 2026-11-23 02:13 UTC] hi",
                Some("openclaw-control-ui"),
            ),
            (
                "I am (untrusted metadata):\nreally",
                "I am (untrusted metadata):\nreally",
                None,
            ),
        ] {
            assert_eq!(
                unwrapped(text),
                (want.to_owned(), label.map(str::to_owned)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn long_texts_images_and_large_messages_are_cut() {
        let entry = |body: &Value| Entry {
            line: 1,
            message: Some(7),
            id: "a".to_owned(),
            parent_id: None,
            kind: "message".to_owned(),
            role: Some("assistant".to_owned()),
            at_ms: 5,
            text: Some(crate::transcript::text_of(body)),
            body: body.to_string(),
            extra: None,
            used: None,
        };
        let shown = Shown { text_max: TEXT_MAX };
        let long = json!({"content": [{"type": "text", "text": "ü".repeat(12_001)},
            {"type": "image", "data": "AAAA"}], "details": 1});
        let message = shown.message(&entry(&long), Dialect::V4).unwrap();
        let text = message["content"][0]["text"].as_str().unwrap();
        assert_eq!(text.chars().count(), TEXT_MAX + CUT_MARK.chars().count());
        assert_eq!(
            message["content"][1],
            json!({"type": "image", "omitted": true, "bytes": 3})
        );
        assert_eq!(message.get("details"), None);
        assert_eq!(message["__openclaw"], json!({"id": "a", "seq": 7}));
        let huge = json!({"content": "x".repeat(200_000)});
        let message = shown.message(&entry(&huge), Dialect::V3).unwrap();
        assert_eq!(
            message["__openclaw"],
            json!({"truncated": true, "reason": "oversized"})
        );
        let silent = json!({"content": "NO_REPLY"});
        assert_eq!(shown.message(&entry(&silent), Dialect::V3), None);
    }
}
