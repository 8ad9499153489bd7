//! The configuration as callers may see it: secrets are masked before anything is encoded.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    config::{Config, Issue, redact},
    dispatch::{Answer, Call, Reply, now},
};

pub(crate) fn get(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        let config = call.gateway.config();
        let text = config.shown.get_or_init(|| Arc::from(payload(&config)));
        Ok(Reply::kept(Arc::clone(text)))
    })
}

/// The payload of `config.get`.
fn payload(config: &Config) -> String {
    let snapshot = &config.snapshot;
    let shown = redact(&snapshot.parsed);
    // The text is written anew from what was masked, never shown as it is: comments and repeated
    // keys hold what no reading of it brings to light, such as the token of last year.
    let raw = if snapshot.raw.trim().is_empty() {
        String::new()
    } else {
        serde_json::to_string_pretty(&shown).unwrap_or_default()
    };
    let issues = |issues: &[Issue]| -> Vec<Value> {
        issues
            .iter()
            .map(|issue| json!({"path": issue.path, "message": issue.message}))
            .collect()
    };
    let mut effective = shown.clone();
    fill(&mut effective, config);
    json!({
        "path": config.path.display().to_string(),
        "exists": snapshot.exists,
        "raw": raw,
        "parsed": shown,
        "resolved": shown,
        "valid": true,
        "config": effective,
        "hash": config.hash(),
        "issues": [],
        "warnings": issues(&snapshot.warnings),
        "legacyIssues": [],
    })
    .to_string()
}

/// Puts in what holds where the file says nothing.
fn fill(shown: &mut Value, config: &Config) {
    if !shown.is_object() {
        *shown = json!({});
    }
    let gateway = &mut shown["gateway"];
    if !gateway.is_object() {
        *gateway = json!({});
    }
    for (key, value) in [
        ("port", json!(config.port)),
        ("bind", json!("loopback")),
        ("mode", json!("local")),
    ] {
        if gateway.get(key).is_none() {
            gateway[key] = value;
        }
    }
    if !gateway["auth"].is_object() {
        gateway["auth"] = json!({});
    }
    gateway["auth"]["mode"] = config.auth.mode().into();
}
