//! `openai-completions`: chat completions, of OpenAI and of everybody who is compatible.

use clawgate_core::turn::Failure;
use serde_json::{Value, json};

use super::{Draft, Model, Request, count, failure};
use crate::message::{Answer, Message, Stop, Usage};

pub(super) fn body(model: &Model, request: &Request<'_>) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    for message in request.messages {
        messages.push(match message {
            Message::User(said) if model.images && !said.images.is_empty() => {
                let mut parts = vec![json!({"type": "text", "text": said.text})];
                parts.extend(said.images.iter().map(|image| {
                    let url = format!("data:{};base64,{}", image.mime, image.base64);
                    json!({"type": "image_url", "image_url": {"url": url}})
                }));
                json!({"role": "user", "content": parts})
            }
            Message::User(said) => json!({"role": "user", "content": super::in_words(said)}),
            Message::Answer(answer) => assistant(answer),
            Message::ToolResult(result) => {
                json!({"role": "tool", "tool_call_id": result.call_id, "content": result.text})
            }
        });
    }
    let mut body = json!({
        "model": model.id, "messages": messages,
        "stream": true, "stream_options": {"include_usage": true},
    });
    // Everybody else knows the older word, and some refuse what they do not know.
    let is_openai = model.endpoint.is_of("openai.com");
    if is_openai {
        body["store"] = false.into();
    }
    if let Some(tokens) = model.output_max {
        let word = if is_openai {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        body[word] = tokens.into();
    }
    if let Some(effort) = model.effort() {
        body["reasoning_effort"] = effort.into();
    }
    if !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|tool| {
                json!({"type": "function", "function": {
                    "name": tool.name, "description": tool.description, "parameters": tool.parameters,
                }})
            })
            .collect();
    }
    body
}

fn assistant(answer: &Answer) -> Value {
    if answer.calls.is_empty() {
        return json!({"role": "assistant", "content": answer.text});
    }
    let calls: Vec<Value> = answer
        .calls
        .iter()
        .map(|call| {
            json!({"id": call.id, "type": "function", "function": {
                "name": call.name, "arguments": super::arguments_text(&call.arguments),
            }})
        })
        .collect();
    let content = (!answer.text.is_empty()).then_some(answer.text.as_str());
    json!({"role": "assistant", "content": content, "tool_calls": calls})
}

pub(super) fn take(draft: &mut Draft<'_>, event: &Value) -> Result<(), Failure> {
    if event.get("error").is_some_and(|error| !error.is_null()) {
        return Err(failure::told(event));
    }
    if let Some(told) = event.get("usage").filter(|usage| usage.is_object()) {
        let cached = count(told.pointer("/prompt_tokens_details/cached_tokens"));
        draft.usage = Usage {
            input: count(told.get("prompt_tokens")).saturating_sub(cached),
            output: count(told.get("completion_tokens")),
            cache_read: cached,
            cache_write: 0,
        };
    }
    let Some(choice) = event.pointer("/choices/0") else {
        return Ok(());
    };
    // Whoever does not stream gives the same as a whole.
    let delta = choice.get("delta").or_else(|| choice.get("message"));
    if let Some(delta) = delta {
        let text = |key: &str| delta.get(key).and_then(Value::as_str).unwrap_or_default();
        let thought = match text("reasoning_content") {
            "" => text("reasoning"),
            thought => thought,
        };
        draft.thinking(thought)?;
        draft.text(text("content"))?;
        draft.text(text("refusal"))?;
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str);
            let arguments = match call.pointer("/function/arguments") {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => String::new(),
                Some(value) => value.to_string(),
            };
            draft.call(
                call.get("index").and_then(Value::as_u64),
                text("/id").unwrap_or_default(),
                text("/function/name").unwrap_or_default(),
                &arguments,
            )?;
        }
    }
    match choice.get("finish_reason").and_then(Value::as_str) {
        None | Some("") => {}
        Some("length") => draft.stop = Some(Stop::Length),
        Some("content_filter") => draft.stop = Some(Stop::Filtered),
        Some("tool_calls" | "function_call") => draft.stop = Some(Stop::Tools),
        Some(_) => draft.stop = Some(Stop::Done),
    }
    Ok(())
}

/// `[DONE]`.
pub(super) fn done(draft: &mut Draft<'_>) {
    draft.is_over = true;
    draft.stop.get_or_insert(Stop::Done);
}
