//! Skills: what there is, what it lacks, and the configuration's word about each.

use std::sync::Arc;

use clawgate_core::Dialect;
use clawgate_protocol::{ErrorShape, agent::OfAgentParams};
use serde_json::{Map, Value, json};

use super::agent::{named, on_disk};
use crate::{
    config::redact,
    dispatch::{Answer, Call, Reply, later},
    settings::Change,
    skills,
};

pub(crate) fn status(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let agent = call.typed::<OfAgentParams>().and_then(|params| {
        let of_key = params
            .session_key
            .as_deref()
            .and_then(clawgate_core::agent::of_session_key);
        named(&gateway.roster(), params.agent_id.or(of_key).as_deref())
    });
    later(agent, move |agent| async move {
        on_disk("looking at skills", move || {
            let config = gateway.config();
            let report = skills::report(&agent, &config.snapshot.parsed, gateway.state.path());
            Ok(Reply::json(&report))
        })
        .await
    })
}

pub(crate) fn bins(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.fits(), move |()| async move {
        on_disk("looking at skills", move || {
            let config = gateway.config();
            let roster = gateway.roster();
            let parsed = &config.snapshot.parsed;
            let bins = skills::wanted_bins(&roster.agents, parsed, gateway.state.path());
            Ok(Reply::json(&json!({"bins": bins})))
        })
        .await
    })
}

/// Nothing is installed by the gateway: which skill and which way are looked up, and the answer says
/// what the operator can do.
pub(crate) fn install(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let read = || {
        let params = call.value()?;
        let text = |key: &str| params.get(key).and_then(Value::as_str).map(str::to_owned);
        if call.dialect() == Dialect::V3 {
            for key in ["name", "installId"] {
                if params.get(key).is_none() {
                    return Err(call.invalid(&format!("must have required property '{key}'")));
                }
            }
        }
        let agent = named(&gateway.roster(), text("agentId").as_deref())?;
        let name = text("name").or_else(|| text("slug")).unwrap_or_default();
        Ok((agent, name, text("installId")))
    };
    let params = read();
    later(params, move |(agent, name, install_id)| async move {
        on_disk("looking at skills", move || {
            let config = gateway.config();
            let report = skills::report(&agent, &config.snapshot.parsed, gateway.state.path());
            let skill = report.skills.iter().find(|skill| skill.name == name);
            let message = match (skill, install_id) {
                (None, _) => format!("Skill not found: {name}"),
                (Some(skill), Some(id)) if !skill.install.iter().any(|way| way.id == id) => {
                    format!("Installer not found: {id}")
                }
                (Some(skill), _) => {
                    let bins = skill.missing.bins.join(", ");
                    let what = if bins.is_empty() { "what it needs" } else { &bins };
                    format!("nothing is installed by this gateway; install {what} on this machine yourself")
                }
            };
            Err(ErrorShape::unavailable(message)
                .with_details(json!({"code": "SKILL_INSTALL_UNAVAILABLE"})))
        })
        .await
    })
}

pub(crate) fn update(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let read = || {
        let params = call.value()?;
        let Some(key) = params.get("skillKey").and_then(Value::as_str) else {
            // Wire 4 can have one fetched anew from where it came.
            let fetches = params.get("source").and_then(Value::as_str) == Some("clawhub");
            return Err(if fetches {
                ErrorShape::unavailable("nothing is installed by this gateway")
                    .with_details(json!({"code": "SKILL_INSTALL_UNAVAILABLE"}))
            } else {
                call.invalid("must have required property 'skillKey'")
            });
        };
        let key = key.trim().to_owned();
        if key.is_empty() || matches!(key.as_str(), "__proto__" | "constructor" | "prototype") {
            return Err(call.invalid("at /skillKey: must be the key of a skill"));
        }
        Ok((key, params))
    };
    let params = read();
    later(params, move |(key, params)| async move {
        let entry = key.clone();
        let edit = Change::edit(move |config| set(config, &entry, &params));
        let after = gateway.change_settings_by(&link, None, edit).await?.config;
        let shown = redact(&after.snapshot.parsed);
        Ok(Reply::json(&json!({
            "ok": true,
            "skillKey": key,
            "config": shown["skills"]["entries"].get(&key).cloned().unwrap_or_else(|| json!({})),
        })))
    })
}

/// Sets what the params name in the entry of a skill; an empty key or variable is removed.
fn set(config: &mut Value, key: &str, params: &Value) -> Result<(), ErrorShape> {
    let mut at = config;
    for step in ["skills", "entries", key] {
        at = object(at)?
            .entry(step)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    let entry = object(at)?;
    if let Some(enabled) = params.get("enabled").and_then(Value::as_bool) {
        entry.insert("enabled".to_owned(), enabled.into());
    }
    if let Some(secret) = params.get("apiKey").and_then(Value::as_str) {
        put(entry, "apiKey", secret);
    }
    if let Some(variables) = params.get("env").and_then(Value::as_object) {
        let env = entry.entry("env").or_insert_with(|| json!({}));
        let env = object(env)?;
        for (name, value) in variables {
            let name = name.trim();
            if !name.is_empty() {
                put(env, name, value.as_str().unwrap_or_default());
            }
        }
    }
    Ok(())
}

fn object(value: &mut Value) -> Result<&mut Map<String, Value>, ErrorShape> {
    value
        .as_object_mut()
        .ok_or_else(|| ErrorShape::invalid("invalid config: skills.entries: expected an object"))
}

fn put(map: &mut Map<String, Value>, key: &str, value: &str) {
    let value = value.trim();
    if value.is_empty() {
        map.shift_remove(key);
    } else {
        map.insert(key.to_owned(), value.into());
    }
}
