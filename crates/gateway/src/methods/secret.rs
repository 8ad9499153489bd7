//! Secret references: resolved anew, and handed to commands on this machine.

use std::sync::Arc;

use clawgate_core::{Dialect, authz::Peer};
use clawgate_protocol::ErrorShape;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::{
    config::{Reference, Resolver, names_in, names_secret, secret_paths},
    dispatch::{Answer, Call, Reply, later},
    error,
};

pub(crate) fn reload(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(Ok(()), move |()| async move {
        let reading = Arc::clone(&gateway);
        let read = tokio::task::spawn_blocking(move || reading.reload_settings("secrets.reload"));
        match read.await {
            Err(died) => Err(error::internal("resolving secrets", &died)),
            Ok(Ok(_)) => Ok(Reply::json(&json!({"ok": true, "warningCount": 0}))),
            Ok(Err(wrong)) => {
                let places: Vec<String> = wrong
                    .issues
                    .iter()
                    .map(|issue| format!("{}: {}", issue.path, issue.message))
                    .collect();
                Err(ErrorShape::unavailable(format!(
                    "secrets not reloaded, those before stay in use: {}",
                    places.join("; ")
                ))
                .with_details(json!({"issues": wrong.issues.iter().map(|issue| {
                    json!({"path": issue.path, "message": issue.message})
                }).collect::<Vec<_>>()})))
            }
        }
    })
}

/// What a command asks for.
struct Asked {
    targets: Vec<String>,
    allowed: Option<Vec<String>>,
}

/// Params, in the words of the original, which names the first that is wrong and no more.
fn asked(call: &Call<'_>) -> Result<Asked, ErrorShape> {
    let params = call.unchecked()?;
    let map = params
        .as_object()
        .ok_or_else(|| call.invalid("must be object"))?;
    let known: &[&str] = match call.dialect() {
        Dialect::V3 => &["commandName", "targetIds"],
        Dialect::V4 => &[
            "commandName",
            "targetIds",
            "allowedPaths",
            "forcedActivePaths",
            "optionalActivePaths",
            "providerOverrides",
        ],
    };
    let text = map.get("commandName").and_then(Value::as_str);
    if text.is_none_or(|name| name.trim().is_empty()) {
        return Err(call.invalid("commandName"));
    }
    let texts = |key: &str| -> Result<Option<Vec<String>>, ErrorShape> {
        let Some(value) = map.get(key) else {
            return Ok(None);
        };
        let items = value.as_array().filter(|items| items.len() <= 256);
        let items = items.ok_or_else(|| call.invalid(key))?;
        let texts: Option<Vec<String>> = items
            .iter()
            .map(|item| item.as_str().map(|text| text.trim().to_owned()))
            .collect();
        let texts = texts.filter(|texts| texts.iter().all(|text| !text.is_empty()));
        texts.map(Some).ok_or_else(|| call.invalid(key))
    };
    let targets = texts("targetIds")?.ok_or_else(|| call.invalid("targetIds"))?;
    if let Some(odd) = map.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(call.invalid(&format!("at root: unexpected property '{odd}'")));
    }
    if map.get("providerOverrides").is_some_and(|overrides| {
        overrides
            .as_object()
            .is_none_or(|overrides| !overrides.is_empty())
    }) {
        // It would have the gateway run what the caller names.
        return Err(call.invalid("providerOverrides"));
    }
    let secrets = secret_paths();
    for target in &targets {
        let last = target.rsplit('.').next().unwrap_or_default();
        let is_known = secrets.contains(&target.replace("[]", ".*"))
            || (target.contains('.') && names_secret(last));
        if !is_known {
            return Err(call.invalid(&format!("unknown target id {target:?}")));
        }
    }
    Ok(Asked {
        targets,
        allowed: texts("allowedPaths")?,
    })
}

pub(crate) fn resolve(call: &Call<'_>) -> Answer {
    let asked = asked(call).and_then(|asked| {
        // They are for a command that could read them here itself; over a network nobody needs them.
        if call.link.principal.peer == Peer::LoopbackDirect || asked.targets.is_empty() {
            return Ok(asked);
        }
        Err(
            ErrorShape::invalid("secrets are handed out on the gateway's own machine alone")
                .with_details(json!({"code": "SECRETS_LOCAL_ONLY"})),
        )
    });
    let config = call.gateway.config();
    later(asked, move |asked| async move {
        let resolved = tokio::task::spawn_blocking(move || {
            let parsed = &config.snapshot.parsed;
            let resolver = Resolver::of(parsed);
            let mut found = Vec::new();
            for target in &asked.targets {
                let pattern = target.replace("[]", ".*");
                let parts: Vec<&str> = pattern.split('.').collect();
                places(parsed, &parts, &mut Vec::new(), &mut found);
            }
            let mut assignments = Vec::new();
            let mut diagnostics = Vec::new();
            let mut inactive = Vec::new();
            for (segments, value) in found {
                let path = segments.join(".");
                let refers = Reference::read(value).is_some()
                    || value
                        .as_str()
                        .is_some_and(|text| !names_in(text).is_empty());
                let is_allowed = asked
                    .allowed
                    .as_ref()
                    .is_none_or(|allowed| allowed.contains(&path));
                if !refers || !is_allowed {
                    continue;
                }
                match resolver.secret(value) {
                    Some(Ok(secret)) => assignments.push(json!({
                        "path": path, "pathSegments": segments, "value": secret.expose_secret(),
                    })),
                    Some(Err(why)) => {
                        diagnostics.push(format!("{path}: {why}"));
                        inactive.push(path);
                    }
                    None => {}
                }
            }
            json!({
                "ok": true,
                "assignments": assignments,
                "diagnostics": diagnostics,
                "inactiveRefPaths": inactive,
            })
        });
        match resolved.await {
            Ok(result) => Ok(Reply::json(&result)),
            Err(died) => Err(error::internal("resolving secrets", &died)),
        }
    })
}

/// Every place of a configuration that a pattern names.
fn places<'a>(
    value: &'a Value,
    pattern: &[&str],
    at: &mut Vec<String>,
    found: &mut Vec<(Vec<String>, &'a Value)>,
) {
    let Some((part, rest)) = pattern.split_first() else {
        found.push((at.clone(), value));
        return;
    };
    let mut step = |key: String, inner: &'a Value| {
        at.push(key);
        places(inner, rest, at, found);
        at.pop();
    };
    match value {
        Value::Object(map) if *part == "*" => {
            for (key, inner) in map {
                step(key.clone(), inner);
            }
        }
        Value::Object(map) => {
            if let Some(inner) = map.get(*part) {
                step((*part).to_owned(), inner);
            }
        }
        Value::Array(items) if *part == "*" => {
            for (index, inner) in items.iter().enumerate() {
                step(index.to_string(), inner);
            }
        }
        _ => {}
    }
}
