//! The configuration as callers may see and change it: secrets are masked before anything is
//! encoded, and masked values that come back mean what is in the file.

use std::{process::Stdio, sync::Arc, time::Duration};

use clawgate_core::{Dialect, proof};
use clawgate_protocol::{
    ErrorShape,
    config::{LOOKUP_PATTERN, LookupParams, WriteParams, is_lookup_path},
};
use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    config::{self, Config, Issue, redact},
    dispatch::{Answer, Call, Reply, later, now},
    settings::{AUTH_CHANGED, Change, Changed, Refused},
};

/// How long the program that opens the file may take.
const OPENING: Duration = Duration::from_secs(10);

pub(crate) fn get(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        let config = call.gateway.config();
        let settings = &call.gateway.settings;
        if let Some(unread) = settings.unread() {
            return Ok(Reply::made(refused_payload(&config, &unread)));
        }
        if let Some(refused) = settings.refused() {
            return Ok(Reply::made(refused_payload(&config, &refused)));
        }
        let text = config.shown.get_or_init(|| Arc::from(payload(&config)));
        Ok(Reply::kept(Arc::clone(text)))
    })
}

/// The text is written anew from what was masked, never shown as it is: comments and repeated keys
/// hold what no reading of it brings to light, such as the token of last year.
fn raw(text: &str, shown: &Value) -> String {
    if text.trim().is_empty() {
        String::new()
    } else {
        serde_json::to_string_pretty(shown).unwrap_or_default()
    }
}

fn rows(issues: &[Issue]) -> Vec<Value> {
    issues
        .iter()
        .map(|issue| json!({"path": issue.path, "message": issue.message}))
        .collect()
}

/// The payload of `config.get`.
fn payload(config: &Config) -> String {
    let snapshot = &config.snapshot;
    let shown = redact(&snapshot.parsed);
    json!({
        "path": config.path.display().to_string(),
        "exists": snapshot.exists,
        "raw": raw(&snapshot.raw, &shown),
        "parsed": shown,
        "resolved": shown,
        "valid": true,
        "config": effective(config),
        "hash": config.hash(),
        "issues": [],
        "warnings": rows(&snapshot.warnings),
        "legacyIssues": [],
    })
    .to_string()
}

/// The same while the file on disk is another one, which cannot be used or was not read yet: it is
/// the one that an edit would begin with, and `config` is what holds.
fn refused_payload(config: &Config, refused: &Refused) -> String {
    let text = refused.text.as_deref().unwrap_or_default();
    let parsed = config::parse(text).ok();
    let shown = parsed.as_ref().map(redact);
    json!({
        "path": config.path.display().to_string(),
        "exists": refused.text.is_some(),
        "raw": shown.as_ref().map(|shown| raw(text, shown)),
        "parsed": shown.clone().unwrap_or_else(|| json!({})),
        "resolved": shown.unwrap_or_else(|| json!({})),
        "valid": refused.issues.is_empty(),
        "config": effective(config),
        "hash": proof::fingerprint(text),
        "issues": rows(&refused.issues),
        "warnings": [],
        "legacyIssues": [],
    })
    .to_string()
}

/// What holds, masked, with what the file leaves out.
fn effective(config: &Config) -> Value {
    let mut shown = redact(&config.snapshot.parsed);
    fill(&mut shown, config);
    shown
}

pub(crate) fn set(call: &Call<'_>) -> Answer {
    write(call, |params, _| Ok(Change::Replace(params.raw.clone())))
}

pub(crate) fn apply(call: &Call<'_>) -> Answer {
    set(call)
}

pub(crate) fn patch(call: &Call<'_>) -> Answer {
    write(call, |params, dialect| {
        let patch = config::parse(&params.raw)
            .map_err(|why| ErrorShape::invalid(format!("SyntaxError: JSON5: {why}")))?;
        if !patch.is_object() {
            return Err(ErrorShape::invalid("config.patch raw must be an object"));
        }
        Ok(match dialect {
            Dialect::V3 => Change::Merge(patch),
            Dialect::V4 => Change::MergeNaming {
                patch,
                replace_paths: params.replace_paths.clone().unwrap_or_default(),
            },
        })
    })
}

fn write(
    call: &Call<'_>,
    change: impl FnOnce(&WriteParams, Dialect) -> Result<Change, ErrorShape>,
) -> Answer {
    let method = call.method.spec().name;
    let asked = call.typed::<WriteParams>().and_then(|params| {
        if params.base_hash.is_none() && call.gateway.settings.has_file() {
            return Err(ErrorShape::invalid(
                "config base hash required; re-run config.get and retry",
            ));
        }
        let change = change(&params, call.dialect())?;
        Ok((params, change))
    });
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(asked, move |(params, change)| async move {
        let hash = params.base_hash.clone();
        let changed = gateway.change_settings_by(&link, hash, change).await?;
        tracing::info!(
            by = link.principal.actor(), conn = link.principal.conn_id, method,
            changed = ?changed.touched, "the configuration was changed by a caller"
        );
        let mut result = json!({
            "ok": true,
            "path": changed.config.path.display().to_string(),
            "config": effective(&changed.config),
            "hash": changed.config.hash(),
        });
        if method != "config.set" {
            result["restart"] = restart(method, &changed);
            result["sentinel"] = sentinel(method, &params, &changed);
        }
        let reply = Reply::json(&result);
        Ok(if changed.ends_caller {
            reply.closing(AUTH_CHANGED.0, AUTH_CHANGED.1)
        } else {
            reply
        })
    })
}

/// What the original says of its restart. Here the change is in effect already; `needed` names what
/// of it waits for one.
fn restart(method: &str, changed: &Changed) -> Value {
    json!({
        "ok": true,
        "pid": std::process::id(),
        "signal": null,
        "delayMs": 0,
        "reason": method,
        "mode": "live",
        "coalesced": false,
        "cooldownMsApplied": 0,
        "applied": changed.touched,
        "needed": changed.restart,
    })
}

fn sentinel(method: &str, params: &WriteParams, changed: &Changed) -> Value {
    let path = changed.config.path.display().to_string();
    let mut payload = json!({"kind": method.replace('.', "-"), "status": "ok", "ts": now_ms()});
    if let Some(key) = &params.session_key {
        payload["sessionKey"] = key.as_str().into();
    }
    if let Some(context) = &params.delivery_context {
        payload["deliveryContext"] = context.clone();
    }
    payload["message"] = params.note.clone().into();
    payload["doctorHint"] = "Run: clawgate config validate".into();
    payload["stats"] = json!({"mode": method, "root": path});
    json!({"path": null, "payload": payload})
}

pub(crate) fn schema(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        Ok(Reply::json(&json!({
            "schema": config::json_schema(),
            "uiHints": config::hints(),
            "version": crate::VERSION,
            "generatedAt": crate::clock::iso(now_ms()),
        })))
    })
}

pub(crate) fn schema_lookup(call: &Call<'_>) -> Answer {
    now(|| {
        let params: LookupParams = call.typed()?;
        if !is_lookup_path(&params.path) {
            return Err(call.invalid(&format!(
                "at /path: must match pattern \"{LOOKUP_PATTERN}\""
            )));
        }
        match config::lookup(&params.path) {
            Some(found) => Ok(Reply::json(&found)),
            None => Err(ErrorShape::invalid("config schema path not found")),
        }
    })
}

/// Opens the file with what this machine opens such files with.
pub(crate) fn open_file(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.fits(), move |()| async move {
        let path = gateway.config().path.clone();
        let program = if cfg!(target_os = "macos") {
            "open"
        } else {
            "xdg-open"
        };
        let mut command = tokio::process::Command::new(program);
        command
            .arg(&path)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // What a desktop needs, and none of the gateway's secrets.
        for (name, value) in std::env::vars_os() {
            let is_desktops = name.to_str().is_some_and(|name| {
                let whole = [
                    "PATH",
                    "HOME",
                    "USER",
                    "LANG",
                    "DISPLAY",
                    "WAYLAND_DISPLAY",
                    "XAUTHORITY",
                    "DBUS_SESSION_BUS_ADDRESS",
                ];
                whole.contains(&name) || name.starts_with("XDG_") || name.starts_with("LC_")
            });
            if is_desktops {
                command.env(name, value);
            }
        }
        let opened = tokio::time::timeout(OPENING, command.status()).await;
        let why = match opened {
            // One that stays is the editor itself.
            Ok(Ok(status)) if status.success() => None,
            Err(_) => None,
            Ok(Ok(status)) => Some(status.to_string()),
            Ok(Err(error)) => Some(format!("{program}: {error}")),
        };
        let mut result = json!({"ok": why.is_none(), "path": path.display().to_string()});
        if let Some(why) = why {
            result["error"] = format!(
                "Command failed: {program} {:?}\n{why}\n",
                path.display().to_string()
            )
            .into();
        }
        Ok(Reply::json(&result))
    })
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
