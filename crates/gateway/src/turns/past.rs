//! What was said before, as a model is told it: the newest that fits, from a place where somebody
//! speaks, every call with its result.

use clawgate_agent::{Answer, Image, Message, Said, ToolCall, ToolResult};
use clawgate_core::heartbeat;
use clawgate_store::{Entry, Read, StoreError, Transcript};
use serde_json::Value;

use crate::transcript::text_of;

/// Bytes that a token is, about. Few, so that what is thought to fit does.
pub(super) const BYTES_PER_TOKEN: u64 = 3;
/// What a picture counts.
const IMAGE_BYTES: usize = 4_500;

/// What a model is told of a conversation.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) messages: Vec<Message>,
    /// Number of the first message that is told.
    pub(super) from: i64,
    /// Whether older ones are left out for want of room.
    pub(super) is_cut: bool,
    pub(super) bytes: usize,
}

/// Reads as much as `bytes_max` hold, and nothing that was summed up or cut away.
pub(super) fn read(db: &Read<'_>, of: &Transcript, bytes_max: usize) -> Result<Past, StoreError> {
    let summed_up = db.summed_up(of)?;
    let first = summed_up.as_ref().map_or(0, |(from, _)| *from);
    let mut newest: Vec<Entry> = Vec::new();
    let (mut bytes, mut is_cut) = (0, false);
    db.messages_back(of, of.messages, |entry| {
        if entry.message.is_some_and(|number| number < first) {
            return false;
        }
        bytes += weight(&entry);
        if bytes > bytes_max && !newest.is_empty() {
            is_cut = true;
            return false;
        }
        newest.push(entry);
        true
    })?;
    newest.reverse();
    // A conversation begins with somebody who speaks.
    without_silence(&mut newest);
    let begins = newest
        .iter()
        .position(|entry| entry.role.as_deref() == Some("user"))
        .unwrap_or(newest.len());
    if begins < newest.len() {
        newest.drain(..begins);
    }
    let from = newest.first().and_then(|entry| entry.message).unwrap_or(0);
    let mut messages = Vec::with_capacity(newest.len() + 1);
    if let Some((_, summary)) = summed_up {
        messages.push(Message::user(format!(
            "Summary of what was said before in this conversation:\n\n{summary}"
        )));
    }
    messages.extend(newest.iter().filter_map(told));
    Ok(Past {
        messages: with_results(messages),
        from,
        is_cut,
        bytes,
    })
}

/// What stands before a message: an earlier summary, and what was said since, the newest of it that
/// fits.
pub(super) fn before(
    db: &Read<'_>,
    of: &Transcript,
    from: i64,
    bytes_max: usize,
) -> Result<Vec<Message>, StoreError> {
    let summed_up = db.summed_up(of)?;
    let first = summed_up.as_ref().map_or(0, |(from, _)| *from);
    let (mut newest, mut bytes) = (Vec::new(), 0);
    db.messages_back(of, from - 1, |entry| {
        bytes += weight(&entry);
        if entry.message.is_some_and(|number| number < first) || bytes > bytes_max {
            return false;
        }
        newest.push(entry);
        true
    })?;
    newest.reverse();
    if newest.is_empty() {
        return Ok(Vec::new());
    }
    let earlier = summed_up.map(|(_, summary)| Message::user(format!("Earlier: {summary}")));
    let told = newest.iter().filter_map(told);
    Ok(earlier.into_iter().chain(told).collect())
}

/// Leaves out heartbeats that had nothing to say: they would fill a conversation with nothing.
fn without_silence(entries: &mut Vec<Entry>) {
    let is_beat = |entry: &Entry| {
        entry.role.as_deref() == Some("user") && entry.body.contains("\"heartbeat\":true")
    };
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut beat: Vec<Entry> = Vec::new();
    let settle = |beat: &mut Vec<Entry>, kept: &mut Vec<Entry>| {
        let last = beat
            .last()
            .filter(|entry| entry.role.as_deref() == Some("assistant"));
        let answer = last.map(|entry| entry.text.as_deref().unwrap_or_default());
        let silent =
            answer.is_some_and(|answer| heartbeat::said(answer, heartbeat::ACK_MAX).is_none());
        if silent {
            beat.clear();
        }
        kept.append(beat);
    };
    for entry in entries.drain(..) {
        if entry.role.as_deref() == Some("user") {
            settle(&mut beat, &mut kept);
        }
        if is_beat(&entry) || !beat.is_empty() {
            beat.push(entry);
        } else {
            kept.push(entry);
        }
    }
    settle(&mut beat, &mut kept);
    *entries = kept;
}

fn weight(entry: &Entry) -> usize {
    if entry.body.len() > 64 << 10 && entry.body.contains("\"type\":\"image\"") {
        return entry.text.as_deref().map_or(0, str::len) + IMAGE_BYTES;
    }
    entry.body.len()
}

/// An entry as a message; none where there is nothing to tell.
fn told(entry: &Entry) -> Option<Message> {
    let body: Value = serde_json::from_str(&entry.body).ok()?;
    let text = text_of(&body);
    match entry.role.as_deref()? {
        "user" => Some(user(text, &body)),
        "assistant" => {
            let calls: Vec<ToolCall> = blocks(&body).filter_map(call).collect();
            if text.trim().is_empty() && calls.is_empty() {
                return None;
            }
            Some(Message::Answer(Answer {
                text,
                calls,
                ..Answer::default()
            }))
        }
        "toolResult" => Some(Message::ToolResult(ToolResult {
            call_id: body["toolCallId"].as_str()?.to_owned(),
            name: body["toolName"].as_str().unwrap_or_default().to_owned(),
            text,
            details: None,
            is_error: body["isError"] == true,
        })),
        _ => None,
    }
}

/// Somebody's words and pictures.
pub(super) fn user(text: String, body: &Value) -> Message {
    let images = blocks(body).filter(|block| block["type"] == "image");
    let images = images.filter_map(|block| {
        Some(Image {
            mime: block["mimeType"].as_str()?.to_owned(),
            base64: block["data"].as_str()?.to_owned(),
        })
    });
    Message::User(Said {
        text,
        images: images.collect(),
    })
}

fn blocks(body: &Value) -> impl Iterator<Item = &Value> {
    body["content"].as_array().into_iter().flatten()
}

fn call(block: &Value) -> Option<ToolCall> {
    if block["type"] != "toolCall" {
        return None;
    }
    Some(ToolCall {
        id: block["id"].as_str()?.to_owned(),
        name: block["name"].as_str()?.to_owned(),
        arguments: block["arguments"].clone(),
        signatures: block["signatures"].as_array().map(|list| {
            list.iter()
                .filter_map(|one| one.as_str().map(str::to_owned))
                .collect()
        }),
    })
}

/// A call without a result, as a stop leaves it, gets one, and a result without its call goes:
/// providers refuse a conversation that has either.
fn with_results(messages: Vec<Message>) -> Vec<Message> {
    let mut whole: Vec<Message> = Vec::with_capacity(messages.len());
    let mut open: Vec<ToolCall> = Vec::new();
    for message in messages {
        match &message {
            Message::ToolResult(result) => {
                let Some(at) = open.iter().position(|call| call.id == result.call_id) else {
                    continue;
                };
                open.remove(at);
            }
            other => {
                whole.extend(open.drain(..).map(unanswered));
                if let Message::Answer(answer) = other {
                    open.clone_from(&answer.calls);
                }
            }
        }
        whole.push(message);
    }
    whole.extend(open.into_iter().map(unanswered));
    whole
}

fn unanswered(call: ToolCall) -> Message {
    Message::ToolResult(ToolResult {
        call_id: call.id,
        name: call.name,
        text: "no result: the turn ended before the tool did".to_owned(),
        details: None,
        is_error: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(calls: &[&str]) -> Message {
        Message::Answer(Answer {
            text: "a".to_owned(),
            calls: calls
                .iter()
                .map(|id| ToolCall {
                    id: (*id).to_owned(),
                    name: "look".to_owned(),
                    arguments: Value::Null,
                    signatures: None,
                })
                .collect(),
            ..Answer::default()
        })
    }

    fn result(id: &str) -> Message {
        Message::ToolResult(ToolResult {
            call_id: id.to_owned(),
            name: "look".to_owned(),
            text: "seen".to_owned(),
            details: None,
            is_error: false,
        })
    }

    fn shape(messages: &[Message]) -> Vec<String> {
        messages
            .iter()
            .map(|message| match message {
                Message::User(_) => "user".to_owned(),
                Message::Answer(_) => "answer".to_owned(),
                Message::ToolResult(result) if result.is_error => {
                    format!("none {}", result.call_id)
                }
                Message::ToolResult(result) => format!("result {}", result.call_id),
            })
            .collect()
    }

    #[test]
    fn every_call_has_its_result_and_every_result_its_call() {
        let messages = vec![
            result("lost"),
            Message::user("q".to_owned()),
            answer(&["1", "2"]),
            result("1"),
            Message::user("again".to_owned()),
            answer(&["3"]),
            result("3"),
            result("3"),
            answer(&["4"]),
        ];
        assert_eq!(
            shape(&with_results(messages)),
            [
                "user", "answer", "result 1", "none 2", "user", "answer", "result 3", "answer",
                "none 4"
            ]
        );
    }
}
