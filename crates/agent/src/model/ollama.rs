//! `ollama`: its own protocol.

use clawgate_core::turn::Failure;
use serde_json::{Value, json};

use super::{Draft, Model, Request, Thinking, count, failure};
use crate::message::{Message, Stop, Usage};

pub(super) fn body(model: &Model, request: &Request<'_>) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    for message in request.messages {
        messages.push(match message {
            Message::User(said) => {
                let mut message = json!({"role": "user", "content": model.words(said)});
                if model.images && !said.images.is_empty() {
                    let images = said.images.iter().map(|image| image.base64.as_str());
                    message["images"] = images.collect();
                }
                message
            }
            Message::Answer(answer) => {
                let mut message = json!({"role": "assistant", "content": answer.text});
                if !answer.calls.is_empty() {
                    message["tool_calls"] = answer
                        .calls
                        .iter()
                        .map(|call| {
                            json!({"function": {"name": call.name,
                                   "arguments": super::arguments_object(&call.arguments)}})
                        })
                        .collect();
                }
                message
            }
            Message::ToolResult(result) => {
                json!({"role": "tool", "tool_name": result.name, "content": result.text})
            }
        });
    }
    let mut body = json!({"model": model.id, "messages": messages, "stream": true});
    let mut options = json!({});
    if let Some(tokens) = model.output_max {
        options["num_predict"] = tokens.into();
    }
    // It takes a small window where nothing is said, and forgets the beginning without a word.
    if let Some(tokens) = model.context_window {
        options["num_ctx"] = tokens.into();
    }
    if options.as_object().is_some_and(|map| !map.is_empty()) {
        body["options"] = options;
    }
    if let Some(level) = model.thinks() {
        body["think"] = (level != Thinking::Off).into();
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

pub(super) fn take(draft: &mut Draft<'_>, event: &Value) -> Result<(), Failure> {
    if event.get("error").is_some() {
        return Err(failure::told(event));
    }
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    draft.thinking(text("/message/thinking"))?;
    draft.text(text("/message/content"))?;
    let calls = event
        .pointer("/message/tool_calls")
        .and_then(Value::as_array);
    for call in calls.into_iter().flatten() {
        let arguments = match call.pointer("/function/arguments") {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(value) => value.to_string(),
        };
        let name = call.pointer("/function/name").and_then(Value::as_str);
        let id = call.get("id").and_then(Value::as_str);
        draft.call(
            None,
            id.unwrap_or_default(),
            name.unwrap_or_default(),
            &arguments,
        )?;
    }
    if event.get("done") == Some(&Value::Bool(true)) {
        draft.usage = Usage {
            input: count(event.get("prompt_eval_count")),
            output: count(event.get("eval_count")),
            ..Usage::default()
        };
        draft.stop = Some(match text("/done_reason") {
            "length" => Stop::Length,
            _ => Stop::Done,
        });
        draft.is_over = true;
    }
    Ok(())
}
