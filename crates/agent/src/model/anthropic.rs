//! `anthropic-messages`.

use clawgate_core::turn::Failure;
use serde_json::{Map, Value, json};

use super::{Draft, Model, Request, Thinking, count, failure};
use crate::message::{Answer, Message, Stop};

/// Tokens of an answer where the configuration has no bound; the protocol wants one.
const OUTPUT_MAX: u32 = 8_192;
/// What the signatures of this protocol begin with.
const SIGNED: &str = "anthropic:";
/// And thoughts that only the provider can read.
const REDACTED: &str = "anthropic-redacted:";

pub(super) fn body(model: &Model, request: &Request<'_>) -> Value {
    let output_max = model.output_max.unwrap_or(OUTPUT_MAX);
    let thinks = thinking(model, output_max).filter(|_| may_think(request.messages));
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in request.messages {
        let (role, parts) = match message {
            Message::User(said) => {
                let mut parts = Vec::new();
                if model.images {
                    parts.extend(said.images.iter().map(|image| {
                        json!({"type": "image", "source": {"type": "base64",
                               "media_type": image.mime, "data": image.base64}})
                    }));
                }
                let words = model.words(said);
                if !words.is_empty() {
                    parts.push(json!({"type": "text", "text": words}));
                }
                ("user", parts)
            }
            Message::Answer(answer) => ("assistant", assistant(answer, thinks.is_some())),
            Message::ToolResult(result) => (
                "user",
                vec![
                    json!({"type": "tool_result", "tool_use_id": own_id(&result.call_id),
                            "content": result.text, "is_error": result.is_error}),
                ],
            ),
        };
        // All results of one answer belong into one message, and no message may be empty.
        match messages.last_mut() {
            Some((last, before)) if *last == role => before.extend(parts),
            _ if parts.is_empty() => {}
            _ => messages.push((role, parts)),
        }
    }
    // What was said so far is the same the next time.
    if let Some(part) = messages.last_mut().and_then(|(_, parts)| parts.last_mut()) {
        part["cache_control"] = json!({"type": "ephemeral"});
    }
    let messages: Vec<Value> = messages
        .into_iter()
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect();
    let mut body = json!({
        "model": model.id, "messages": messages, "max_tokens": output_max, "stream": true,
    });
    if !request.system.is_empty() {
        body["system"] = json!([{"type": "text", "text": request.system,
                                 "cache_control": {"type": "ephemeral"}}]);
    }
    if let Some(thinks) = thinks {
        body["thinking"] = thinks;
    }
    if !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|tool| {
                json!({"name": tool.name, "description": tool.description,
                       "input_schema": tool.parameters})
            })
            .collect();
    }
    body
}

fn thinking(model: &Model, output_max: u32) -> Option<Value> {
    let budget: u32 = match model.thinks()? {
        Thinking::Off => return None,
        Thinking::Adaptive => return Some(json!({"type": "adaptive"})),
        Thinking::Minimal => 1_024,
        Thinking::Low => 4_096,
        Thinking::Medium => 10_240,
        Thinking::High => 20_480,
        Thinking::XHigh => 32_768,
    };
    // What is thought counts as answer; half of it at least is left for what is said.
    let budget = budget.min(output_max / 2);
    (budget >= 1_024).then(|| json!({"type": "enabled", "budget_tokens": budget}))
}

/// Whether the answers since somebody spoke last have their thoughts with them, which a model that
/// thinks wants to have back.
fn may_think(messages: &[Message]) -> bool {
    messages
        .iter()
        .rev()
        .take_while(|message| !matches!(message, Message::User(_)))
        .all(|message| match message {
            Message::Answer(answer) => {
                answer.calls.is_empty() || signatures(answer).next().is_some()
            }
            _ => true,
        })
}

fn signatures(answer: &Answer) -> impl Iterator<Item = &str> {
    let first = answer
        .calls
        .first()
        .and_then(|call| call.signatures.as_ref());
    first
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(|signature| signature.starts_with(SIGNED) || signature.starts_with(REDACTED))
}

fn assistant(answer: &Answer, with_thoughts: bool) -> Vec<Value> {
    let mut parts = Vec::new();
    if with_thoughts {
        for signature in signatures(answer) {
            if let Some(data) = signature.strip_prefix(REDACTED) {
                parts.push(json!({"type": "redacted_thinking", "data": data}));
            } else if let (Some(signature), Some(thought)) =
                (signature.strip_prefix(SIGNED), &answer.thinking)
            {
                parts
                    .push(json!({"type": "thinking", "thinking": thought, "signature": signature}));
            }
        }
    }
    if !answer.text.trim().is_empty() {
        parts.push(json!({"type": "text", "text": answer.text}));
    }
    parts.extend(answer.calls.iter().map(|call| {
        json!({"type": "tool_use", "id": own_id(&call.id), "name": call.name,
               "input": super::arguments_object(&call.arguments)})
    }));
    parts
}

/// An id of another provider in the letters that are allowed here.
fn own_id(id: &str) -> String {
    id.chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => letter,
            _ => '_',
        })
        .collect()
}

pub(super) fn take(draft: &mut Draft<'_>, event: &Value) -> Result<(), Failure> {
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let slot = event.get("index").and_then(Value::as_u64);
    match text("/type") {
        "message_start" => usage(draft, event.pointer("/message/usage")),
        "content_block_start" => match text("/content_block/type") {
            "tool_use" => {
                // Some who are compatible give the whole of it here.
                let whole = event
                    .pointer("/content_block/input")
                    .and_then(Value::as_object)
                    .filter(|input| !input.is_empty())
                    .map(|input| Value::Object(Map::clone(input)).to_string());
                draft.call(
                    slot,
                    text("/content_block/id"),
                    text("/content_block/name"),
                    whole.as_deref().unwrap_or_default(),
                )?;
            }
            "text" => draft.text(text("/content_block/text"))?,
            "redacted_thinking" => {
                draft.sign(format!("{REDACTED}{}", text("/content_block/data")))?;
            }
            _ => {}
        },
        "content_block_delta" => match text("/delta/type") {
            "text_delta" => draft.text(text("/delta/text"))?,
            "thinking_delta" => draft.thinking(text("/delta/thinking"))?,
            "signature_delta" => draft.sign(format!("{SIGNED}{}", text("/delta/signature")))?,
            "input_json_delta" => draft.call(slot, "", "", text("/delta/partial_json"))?,
            _ => {}
        },
        "message_delta" => {
            usage(draft, event.get("usage"));
            match text("/delta/stop_reason") {
                "" => {}
                "max_tokens" | "model_context_window_exceeded" => draft.stop = Some(Stop::Length),
                "refusal" => draft.stop = Some(Stop::Filtered),
                "tool_use" => draft.stop = Some(Stop::Tools),
                _ => draft.stop = Some(Stop::Done),
            }
        }
        "message_stop" => draft.is_over = true,
        "error" => return Err(failure::told(event)),
        _ if event.get("error").is_some_and(Value::is_object) => {
            return Err(failure::told(event));
        }
        _ => {}
    }
    Ok(())
}

/// Counts are told at the beginning and, as far as they changed, at the end.
fn usage(draft: &mut Draft<'_>, told: Option<&Value>) {
    let Some(told) = told else { return };
    let mut set = |key: &str, place: fn(&mut crate::message::Usage) -> &mut u64| {
        if let Some(tokens) = told.get(key).filter(|tokens| tokens.is_u64()) {
            *place(&mut draft.usage) = count(Some(tokens));
        }
    };
    set("input_tokens", |usage| &mut usage.input);
    set("output_tokens", |usage| &mut usage.output);
    set("cache_read_input_tokens", |usage| &mut usage.cache_read);
    set("cache_creation_input_tokens", |usage| {
        &mut usage.cache_write
    });
}
