//! Settings of one session: what may be set, and in which words.

use clawgate_core::session::{self, SessionKey};
use serde_json::{Map, Value, json};

use super::row::{DefaultModel, Held};

/// Members that name what is patched, or what it must be.
const NOT_SETTINGS: &[&str] = &[
    "key",
    "agentId",
    "expectedSessionId",
    "expectedLifecycleRevision",
];
/// Settings with few words: name, words, and how a refusal lists them.
const CHOICES: &[(&str, &[&str], &str)] = &[
    (
        "verboseLevel",
        &["on", "off", "full"],
        "\"on\"|\"off\"|\"full\"",
    ),
    (
        "reasoningLevel",
        &["on", "off", "stream"],
        "\"on\"|\"off\"|\"stream\"",
    ),
    (
        "elevatedLevel",
        &["on", "off", "ask", "full"],
        "\"on\"|\"off\"|\"ask\"|\"full\"",
    ),
    (
        "execHost",
        &["sandbox", "gateway", "node"],
        "\"sandbox\"|\"gateway\"|\"node\"",
    ),
    (
        "execSecurity",
        &["deny", "allowlist", "full"],
        "\"deny\"|\"allowlist\"|\"full\"",
    ),
    (
        "execAsk",
        &["off", "on-miss", "always"],
        "\"off\"|\"on-miss\"|\"always\"",
    ),
];
/// Settings that only a session made by another one has, once.
const DESCENT: &[&str] = &[
    "spawnedBy",
    "spawnedWorkspaceDir",
    "spawnDepth",
    "subagentRole",
    "subagentControlScope",
];

/// Applies settings to a session. Nothing of it holds when one is refused; whether a label is free
/// is for the caller to look at.
///
/// # Errors
/// The refusal as the wire says it.
pub(super) fn apply(
    settings: &Map<String, Value>,
    key: &SessionKey,
    held: &mut Held,
    default: &DefaultModel,
    now_ms: i64,
) -> Result<(), String> {
    for (name, value) in settings {
        let name = name.as_str();
        if NOT_SETTINGS.contains(&name) {
            continue;
        }
        if name == "archived" {
            held.session.archived_at_ms = (value == &Value::Bool(true))
                .then(|| held.session.archived_at_ms.unwrap_or(now_ms));
            continue;
        }
        if name == "model" {
            model(value, held, default)?;
            continue;
        }
        if DESCENT.contains(&name) {
            descent(name, value, key, held)?;
            continue;
        }
        match setting(name, value)? {
            None => {
                held.entry.remove(name);
            }
            Some(value) => {
                if name == "pinned" {
                    held.entry.insert("pinnedAt".to_owned(), json!(now_ms));
                }
                held.entry.insert(name.to_owned(), value);
            }
        }
        if name == "pinned" && !held.entry.contains_key("pinned") {
            held.entry.remove("pinnedAt");
        }
    }
    Ok(())
}

/// A setting as it is kept; none where it is cleared.
fn setting(name: &str, value: &Value) -> Result<Option<Value>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        // What is off is not kept.
        Value::Bool(false) if matches!(name, "pinned" | "unread") => return Ok(None),
        Value::String(text) => text.trim(),
        other => return Ok(Some(other.clone())),
    };
    if let Some((_, words, listed)) = CHOICES.iter().find(|choice| choice.0 == name) {
        return match session::choice(text, words) {
            Some(word) => Ok(Some(Value::from(word))),
            None => Err(format!("invalid {name} (use {listed})")),
        };
    }
    match name {
        "thinkingLevel" => session::thinking_level(text)
            .map(|level| Some(Value::from(level)))
            .ok_or_else(|| {
                "invalid thinkingLevel (use off|minimal|low|medium|high|adaptive)".to_owned()
            }),
        "responseUsage" => Ok(match text {
            "off" => None,
            "on" => Some(Value::from("tokens")),
            other => Some(Value::from(other)),
        }),
        _ if text.is_empty() => match name {
            "label" | "execNode" | "category" => Err(format!("invalid {name}: empty")),
            _ => Ok(None),
        },
        _ => Ok(Some(Value::from(text))),
    }
}

fn model(value: &Value, held: &mut Held, default: &DefaultModel) -> Result<(), String> {
    for member in [
        "providerOverride",
        "modelOverride",
        "modelProvider",
        "model",
        "contextTokens",
    ] {
        // What answered last says nothing about what answers next.
        held.entry.remove(member);
    }
    let Some(text) = value.as_str().map(str::trim) else {
        return Ok(());
    };
    let (provider, model) = match text.split_once('/') {
        Some((provider, model)) => (Some(provider.trim()), model.trim()),
        None => (default.provider.as_deref(), text),
    };
    if model.is_empty() || provider.is_some_and(str::is_empty) {
        return Err(format!("invalid model: {text}"));
    }
    let named = provider.map_or_else(
        || model.to_owned(),
        |provider| format!("{provider}/{model}"),
    );
    let is_default =
        provider == default.provider.as_deref() && Some(model) == default.model.as_deref();
    if let Some(allowed) = &default.allowed
        && !is_default
        && !allowed.contains(&named)
    {
        return Err(format!("model not allowed: {named}"));
    }
    if !is_default {
        if let Some(provider) = provider {
            held.entry
                .insert("providerOverride".to_owned(), json!(provider));
        }
        held.entry.insert("modelOverride".to_owned(), json!(model));
    }
    Ok(())
}

/// A line of descent is set once and never changed.
fn descent(name: &str, value: &Value, key: &SessionKey, held: &mut Held) -> Result<(), String> {
    let before = held.entry.get(name);
    if value.is_null() {
        return if before.is_some() {
            Err(format!("{name} cannot be cleared once set"))
        } else {
            Ok(())
        };
    }
    if !key.is_made_by_session() {
        return Err(format!(
            "{name} is only supported for subagent:* or acp:* sessions"
        ));
    }
    let value = match value.as_str() {
        Some(text) if text.trim().is_empty() => return Err(format!("invalid {name}: empty")),
        Some(text) => json!(text.trim()),
        None => value.clone(),
    };
    if before.is_some_and(|before| *before != value) {
        return Err(format!("{name} cannot be changed once set"));
    }
    held.entry.insert(name.to_owned(), value);
    Ok(())
}
