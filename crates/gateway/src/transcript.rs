//! Lines of a transcript, as the original writes them to its files, and entries, as they are kept.
//!
//! What a line holds beyond what is known here is kept with it, so that a conversation that came from
//! a file goes back into one as it was.

use clawgate_store::{Cost, Entry, NewEntry, Parent, Transcript, Used};
use serde_json::{Map, Value, json};

/// Version of the file format.
pub(crate) const FILE_VERSION: u64 = 3;

/// A fresh entry id: eight hex digits, as the original's.
pub(crate) fn new_entry_id() -> String {
    let mut bytes = [0_u8; 4];
    crate::state::random(&mut bytes);
    clawgate_core::proof::hex(&bytes)
}

/// A time as the files write it.
pub(crate) fn iso(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

/// The same as part of a name.
pub(crate) fn iso_in_name(at_ms: i64) -> String {
    iso(at_ms).replace(':', "-")
}

/// What a message says, without markup.
pub(crate) fn text_of(message: &Value) -> String {
    match message.get("content").or_else(|| message.get("text")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let texts: Vec<&str> = blocks
                .iter()
                .filter(|block| {
                    let kind = block.get("type").and_then(Value::as_str);
                    matches!(kind, Some("text" | "input_text" | "output_text"))
                })
                .filter_map(|block| block.get("text")?.as_str())
                .collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// Names of the tools that a message calls.
fn tool_calls(message: &Value) -> Vec<String> {
    let Some(blocks) = message.get("content").and_then(Value::as_array) else {
        return Vec::new();
    };
    let name = |block: &Value| {
        let kind = block.get("type")?.as_str()?;
        matches!(kind, "toolCall" | "toolUse" | "tool_call" | "tool_use")
            .then(|| block.get("name")?.as_str().map(str::to_owned))?
    };
    blocks.iter().filter_map(name).collect()
}

fn used(message: &Value) -> Option<Used> {
    let usage = message.get("usage")?.as_object()?;
    let count = |key: &str| usage.get(key).and_then(Value::as_i64).unwrap_or(0).max(0);
    let (input, output) = (count("input"), count("output"));
    let (cache_read, cache_write) = (count("cacheRead"), count("cacheWrite"));
    let sum = input + output + cache_read + cache_write;
    let cost = usage.get("cost").and_then(Value::as_object).map(|cost| {
        let money = |key: &str| cost.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let parts = Cost {
            input: money("input"),
            output: money("output"),
            cache_read: money("cacheRead"),
            cache_write: money("cacheWrite"),
            total: 0.0,
        };
        let sum = parts.input + parts.output + parts.cache_read + parts.cache_write;
        Cost {
            total: cost.get("total").and_then(Value::as_f64).unwrap_or(sum),
            ..parts
        }
    });
    Some(Used {
        input,
        output,
        cache_read,
        cache_write,
        tokens: usage
            .get("totalTokens")
            .and_then(Value::as_i64)
            .unwrap_or(sum),
        cost,
    })
}

/// An entry that is a message.
pub(crate) fn message_entry(id: String, at_ms: i64, message: &Value) -> NewEntry {
    let text = |key: &str| message.get(key).and_then(Value::as_str).map(str::to_owned);
    let role = text("role");
    let is_error = match role.as_deref() {
        Some("assistant") => matches!(
            message.get("stopReason").and_then(Value::as_str),
            Some("error" | "aborted" | "timeout")
        ),
        _ => message.get("isError") == Some(&Value::Bool(true)),
    };
    let said = text_of(message);
    NewEntry {
        id,
        parent: Parent::Leaf,
        kind: "message".to_owned(),
        at_ms,
        run_id: None,
        idempotency_key: text("idempotencyKey"),
        body: message.to_string(),
        extra: None,
        text: Some(said).filter(|said| !said.is_empty()),
        provider: text("provider").filter(|_| role.as_deref() == Some("assistant")),
        model: text("model").filter(|_| role.as_deref() == Some("assistant")),
        tool_calls: tool_calls(message),
        is_error,
        used: used(message).filter(|_| role.as_deref() == Some("assistant")),
        role,
    }
}

/// Reads a line that is not the first one of its file. `before_ms` is the time of the line before
/// it, for one that does not tell its own.
///
/// # Errors
/// A sentence without its full stop.
pub(crate) fn read_line(line: Value, before_ms: i64) -> Result<NewEntry, &'static str> {
    let Value::Object(mut line) = line else {
        return Err("it is not an object");
    };
    let Some(Value::String(kind)) = line.remove("type") else {
        return Err("it does not say what it is");
    };
    let id = match line.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => id,
        _ => new_entry_id(),
    };
    let parent = match line.remove("parentId") {
        Some(Value::String(parent)) => Parent::Given(Some(parent)),
        Some(Value::Null) => Parent::Given(None),
        _ => Parent::Leaf,
    };
    let message = if kind == "message" {
        match line.remove("message") {
            Some(message @ Value::Object(_)) => Some(message),
            _ => return Err("it is a message without one"),
        }
    } else {
        None
    };
    let own_ms = line
        .get("timestamp")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map(jiff::Timestamp::as_millisecond);
    let at_ms = own_ms
        .or_else(|| message.as_ref()?.get("timestamp")?.as_i64())
        .unwrap_or(before_ms);
    // What prints from the time itself need not be kept as text.
    if own_ms.is_some_and(|own| line.get("timestamp") == Some(&Value::from(iso(own)))) {
        line.remove("timestamp");
    }
    Ok(match message {
        Some(message) => NewEntry {
            parent,
            extra: (!line.is_empty()).then(|| Value::Object(line).to_string()),
            ..message_entry(id, at_ms, &message)
        },
        None => NewEntry {
            id,
            parent,
            kind,
            at_ms,
            body: Value::Object(line).to_string(),
            ..NewEntry::default()
        },
    })
}

/// An entry as a line.
pub(crate) fn line_of(entry: &Entry) -> Value {
    let object = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let mut line = match (&entry.extra, entry.message) {
        (Some(extra), Some(_)) => object(extra),
        (_, Some(_)) => Map::new(),
        (_, None) => object(&entry.body),
    };
    line.insert("type".to_owned(), Value::from(entry.kind.as_str()));
    line.insert("id".to_owned(), Value::from(entry.id.as_str()));
    let parent = entry.parent_id.as_deref().map_or(Value::Null, Value::from);
    line.insert("parentId".to_owned(), parent);
    if !line.contains_key("timestamp") {
        line.insert("timestamp".to_owned(), Value::from(iso(entry.at_ms)));
    }
    if entry.message.is_some() {
        let message = serde_json::from_str(&entry.body).unwrap_or(Value::Null);
        line.insert("message".to_owned(), message);
    }
    Value::Object(line)
}

/// The first line of a file.
pub(crate) fn header_of(of: &Transcript) -> Value {
    of.header
        .as_deref()
        .and_then(|header| serde_json::from_str(header).ok())
        .unwrap_or_else(|| {
            json!({
                "type": "session",
                "version": FILE_VERSION,
                "id": of.session_id,
                "timestamp": iso(of.created_at_ms),
                "cwd": "",
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_out_as_it_came_in_with_what_is_unknown_here() {
        for line in [
            json!({"type": "message", "id": "a6674b1c", "parentId": null,
                "timestamp": "2026-11-23T02:09:09.527Z", "later": {"x": 1},
                "message": {"role": "assistant", "content": [{"type": "text", "text": "hi"}],
                    "timestamp": 1_795_399_749_527_i64, "novel": [1, 2]}}),
            json!({"type": "compaction", "id": "b", "parentId": "a6674b1c",
                "timestamp": "2026-11-23T02:09:09.527Z", "summary": "s", "tokensBefore": 7}),
            json!({"type": "custom", "id": "c", "parentId": "b", "timestamp": "yesterday",
                "customType": "model-snapshot", "data": {"a": null}}),
        ] {
            let new = read_line(line.clone(), 5).unwrap();
            let entry = Entry {
                line: 1,
                message: (new.kind == "message").then_some(1),
                id: new.id,
                parent_id: match new.parent {
                    Parent::Given(parent) => parent,
                    Parent::Leaf => None,
                },
                kind: new.kind,
                role: new.role,
                at_ms: new.at_ms,
                body: new.body,
                extra: new.extra,
                text: new.text,
                used: None,
            };
            assert_eq!(line_of(&entry), line);
        }
    }

    #[test]
    fn what_a_message_used_is_read_from_it() {
        let message = json!({"role": "assistant", "provider": "mock", "model": "m", "stopReason": "toolUse",
            "content": [{"type": "text", "text": "a"}, {"type": "toolCall", "name": "exec"}, {"type": "text", "text": "b"}],
            "usage": {"input": 120, "output": 8, "cost": {"input": 0.1, "output": 0.2}}});
        let entry = message_entry("x".to_owned(), 1, &message);
        let used = entry.used.unwrap();
        assert_eq!((used.input, used.output, used.tokens), (120, 8, 128));
        assert!((used.cost.unwrap().total - 0.3).abs() < 1e-9);
        assert_eq!(entry.tool_calls, ["exec"]);
        assert_eq!(entry.text.as_deref(), Some("a\nb"));
        assert!(!entry.is_error);
    }
}
