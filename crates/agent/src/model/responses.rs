//! `openai-responses`.

use clawgate_core::turn::{Failure, FailureKind};
use serde_json::{Value, json};

use super::{Draft, Model, Request, count, failure};
use crate::message::{Message, Stop, Usage};

pub(super) fn body(model: &Model, request: &Request<'_>) -> Value {
    let mut input = Vec::with_capacity(request.messages.len());
    for message in request.messages {
        match message {
            Message::User(said) => {
                let mut parts = vec![json!({"type": "input_text", "text": model.words(said)})];
                if model.images {
                    parts.extend(said.images.iter().map(|image| {
                        let url = format!("data:{};base64,{}", image.mime, image.base64);
                        json!({"type": "input_image", "detail": "auto", "image_url": url})
                    }));
                }
                input.push(json!({"role": "user", "content": parts}));
            }
            Message::Answer(answer) => {
                if !answer.text.is_empty() {
                    input.push(json!({"role": "assistant",
                        "content": [{"type": "output_text", "text": answer.text}]}));
                }
                input.extend(answer.calls.iter().map(|call| {
                    json!({"type": "function_call", "call_id": call.id, "name": call.name,
                           "arguments": super::arguments_text(&call.arguments)})
                }));
            }
            Message::ToolResult(result) => input.push(json!({
                "type": "function_call_output", "call_id": result.call_id, "output": result.text,
            })),
        }
    }
    let mut body = json!({"model": model.id, "input": input, "stream": true, "store": false});
    if !request.system.is_empty() {
        body["instructions"] = request.system.into();
    }
    if let Some(tokens) = model.output_max {
        body["max_output_tokens"] = tokens.into();
    }
    if let Some(effort) = model.effort() {
        body["reasoning"] = json!({"effort": effort, "summary": "auto"});
    }
    if !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|tool| {
                json!({"type": "function", "name": tool.name, "description": tool.description,
                       "parameters": tool.parameters, "strict": false})
            })
            .collect();
    }
    body
}

pub(super) fn take(draft: &mut Draft<'_>, event: &Value) -> Result<(), Failure> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let slot = event.get("output_index").and_then(Value::as_u64);
    let delta = text("/delta").unwrap_or_default();
    match text("/type").unwrap_or_default() {
        "response.output_text.delta" | "response.refusal.delta" => draft.text(delta)?,
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
            draft.thinking(delta)?;
        }
        "response.output_item.added" if text("/item/type") == Some("function_call") => draft.call(
            slot,
            text("/item/call_id").unwrap_or_default(),
            text("/item/name").unwrap_or_default(),
            "",
        )?,
        "response.function_call_arguments.delta" => draft.call(slot, "", "", delta)?,
        "response.output_item.done" if text("/item/type") == Some("function_call") => {
            // Known by now, or told for the first time.
            draft.call(
                slot,
                text("/item/call_id").unwrap_or_default(),
                text("/item/name").unwrap_or_default(),
                "",
            )?;
            if let (Some(slot), Some(arguments)) = (slot, text("/item/arguments")) {
                draft.settle_call(slot, arguments)?;
            }
        }
        "response.completed" => {
            usage(draft, event);
            draft.stop = Some(Stop::Done);
            draft.is_over = true;
        }
        "response.incomplete" => {
            usage(draft, event);
            let filtered = text("/response/incomplete_details/reason") == Some("content_filter");
            draft.stop = Some(if filtered {
                Stop::Filtered
            } else {
                Stop::Length
            });
            draft.is_over = true;
        }
        "response.failed" => return Err(failure::told(&event["response"])),
        "response.cancelled" => {
            return Err(failure::of(
                FailureKind::Server,
                "the provider stopped the answer".to_owned(),
            ));
        }
        "error" => return Err(failure::told(event)),
        _ if event.get("error").is_some_and(Value::is_object) => {
            return Err(failure::told(event));
        }
        _ => {}
    }
    Ok(())
}

fn usage(draft: &mut Draft<'_>, event: &Value) {
    let told = |pointer: &str| count(event.pointer(&format!("/response/usage/{pointer}")));
    let cached = told("input_tokens_details/cached_tokens");
    draft.usage = Usage {
        input: told("input_tokens").saturating_sub(cached),
        output: told("output_tokens"),
        cache_read: cached,
        cache_write: 0,
    };
}
