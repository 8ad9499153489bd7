//! `google-generative-ai`.

use clawgate_core::turn::Failure;
use serde_json::{Value, json};

use super::{Draft, Model, Request, Thinking, count, failure};
use crate::message::{Answer, Message, Stop, Usage};

/// What the signatures of this protocol begin with.
const SIGNED: &str = "google:";

pub(super) fn body(model: &Model, request: &Request<'_>) -> Value {
    let mut contents: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in request.messages {
        let (role, parts) = match message {
            Message::User(said) => {
                let mut parts = vec![json!({"text": model.words(said)})];
                if model.images {
                    parts.extend(said.images.iter().map(|image| {
                        json!({"inlineData": {"mimeType": image.mime, "data": image.base64}})
                    }));
                }
                ("user", parts)
            }
            Message::Answer(answer) => ("model", said_by_model(answer)),
            Message::ToolResult(result) => {
                let member = if result.is_error { "error" } else { "output" };
                (
                    "user",
                    vec![json!({"functionResponse": {"name": result.name,
                                "response": {member: result.text}}})],
                )
            }
        };
        match contents.last_mut() {
            Some((last, before)) if *last == role => before.extend(parts),
            _ if parts.is_empty() => {}
            _ => contents.push((role, parts)),
        }
    }
    let contents: Vec<Value> = contents
        .into_iter()
        .map(|(role, parts)| json!({"role": role, "parts": parts}))
        .collect();
    let mut body = json!({"contents": contents});
    if !request.system.is_empty() {
        body["systemInstruction"] = json!({"parts": [{"text": request.system}]});
    }
    let mut settings = json!({});
    if let Some(tokens) = model.output_max {
        settings["maxOutputTokens"] = tokens.into();
    }
    let budget = model.thinks().and_then(|level| match level {
        Thinking::Off => None,
        Thinking::Minimal => Some(512),
        Thinking::Low => Some(2_048),
        Thinking::Medium => Some(8_192),
        Thinking::High | Thinking::XHigh => Some(24_576),
        // The model decides.
        Thinking::Adaptive => Some(-1),
    });
    if let Some(budget) = budget {
        settings["thinkingConfig"] = json!({"thinkingBudget": budget, "includeThoughts": true});
    }
    if settings.as_object().is_some_and(|map| !map.is_empty()) {
        body["generationConfig"] = settings;
    }
    if !request.tools.is_empty() {
        let declared: Vec<Value> = request
            .tools
            .iter()
            .map(|tool| {
                json!({"name": tool.name, "description": tool.description,
                       "parametersJsonSchema": tool.parameters})
            })
            .collect();
        body["tools"] = json!([{"functionDeclarations": declared}]);
    }
    body
}

fn said_by_model(answer: &Answer) -> Vec<Value> {
    let mut parts = Vec::new();
    if !answer.text.is_empty() {
        parts.push(json!({"text": answer.text}));
    }
    for call in &answer.calls {
        let mut part = json!({"functionCall": {
            "name": call.name, "args": super::arguments_object(&call.arguments),
        }});
        let signature = call
            .signatures
            .iter()
            .flatten()
            .find_map(|signature| signature.strip_prefix(SIGNED));
        if let Some(signature) = signature {
            part["thoughtSignature"] = signature.into();
        }
        parts.push(part);
    }
    parts
}

pub(super) fn take(draft: &mut Draft<'_>, event: &Value) -> Result<(), Failure> {
    if event.get("error").is_some() {
        return Err(failure::told(event));
    }
    if let Some(told) = event.get("usageMetadata") {
        let cached = count(told.get("cachedContentTokenCount"));
        draft.usage = Usage {
            input: count(told.get("promptTokenCount")).saturating_sub(cached),
            output: count(told.get("candidatesTokenCount")) + count(told.get("thoughtsTokenCount")),
            cache_read: cached,
            cache_write: 0,
        };
    }
    if event
        .pointer("/promptFeedback/blockReason")
        .is_some_and(|reason| !reason.is_null())
    {
        draft.stop = Some(Stop::Filtered);
    }
    let parts = event.pointer("/candidates/0/content/parts");
    for part in parts.and_then(Value::as_array).into_iter().flatten() {
        let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
        if part.get("thought") == Some(&Value::Bool(true)) {
            draft.thinking(text)?;
        } else {
            draft.text(text)?;
        }
        if let Some(call) = part.get("functionCall") {
            let text = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default();
            let arguments = call.get("args").map(Value::to_string).unwrap_or_default();
            draft.call(None, text("id"), text("name"), &arguments)?;
            if let Some(signature) = part.get("thoughtSignature").and_then(Value::as_str) {
                draft.sign_call(format!("{SIGNED}{signature}"))?;
            }
        }
    }
    match event
        .pointer("/candidates/0/finishReason")
        .and_then(Value::as_str)
    {
        None | Some("") => {}
        Some("MAX_TOKENS") => draft.stop = Some(Stop::Length),
        Some(
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE",
        ) => draft.stop = Some(Stop::Filtered),
        Some(why @ ("MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL")) => {
            return Err(failure::malformed(why));
        }
        Some(_) => draft.stop = Some(Stop::Done),
    }
    Ok(())
}
