//! Speech and talk mode. Nothing speaks here; apps that talk among themselves are told of each other.

use clawgate_core::Scope;
use clawgate_protocol::{ErrorShape, event::Event, voice::SPEECH_PROVIDERS};
use serde_json::{Map, Value, json};

use crate::{
    clock::now_ms,
    config::redact,
    dispatch::{Answer, Call, Reply, now},
    error,
};

fn no_speech() -> ErrorShape {
    ErrorShape::unavailable("text-to-speech is not available: no service speaks here")
        .with_details(json!({"code": "TTS_UNAVAILABLE"}))
}

pub(crate) fn status(_: &Call<'_>) -> Answer {
    Answer::Now(Reply::json(&json!({
        "enabled": false,
        "auto": "off",
        "provider": "",
        "fallbackProvider": null,
        "fallbackProviders": [],
        "prefsPath": "",
        "hasOpenAIKey": false,
        "hasElevenLabsKey": false,
        "edgeEnabled": false,
    })))
}

pub(crate) fn providers(_: &Call<'_>) -> Answer {
    Answer::Now(Reply::json(&json!({"providers": [], "active": ""})))
}

pub(crate) fn enable(_: &Call<'_>) -> Answer {
    Answer::Now(Reply::error(no_speech()))
}

pub(crate) fn disable(_: &Call<'_>) -> Answer {
    Answer::Now(Reply::json(&json!({"enabled": false})))
}

pub(crate) fn convert(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.unchecked()?;
        let text = params.get("text").and_then(Value::as_str);
        if text.is_none_or(|text| text.trim().is_empty()) {
            return Err(ErrorShape::invalid("tts.convert requires text"));
        }
        Err(no_speech())
    })
}

pub(crate) fn set_provider(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.unchecked()?;
        let provider = params
            .get("provider")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !SPEECH_PROVIDERS.contains(&provider.trim()) {
            return Err(ErrorShape::invalid(
                "Invalid provider. Use openai, elevenlabs, or edge.",
            ));
        }
        Err(no_speech())
    })
}

pub(crate) fn talk_config(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.value()?;
        let wants_secrets = params.get("includeSecrets") == Some(&Value::Bool(true));
        let principal = &call.link.principal;
        if wants_secrets && !principal.grant.scopes().covers(&Scope::TALK_SECRETS) {
            return Err(error::missing_scope(principal, &Scope::TALK_SECRETS));
        }
        let config = call.gateway.config();
        let parsed = &config.snapshot.parsed;
        let masked = redact(parsed);
        let talk = if wants_secrets { parsed } else { &masked }.get("talk");
        let mut answer = Map::new();
        if let Some(talk) = talk
            .and_then(Value::as_object)
            .filter(|talk| !talk.is_empty())
        {
            answer.insert("talk".to_owned(), talk_answer(talk));
        }
        if let Some(key) = parsed
            .pointer("/session/mainKey")
            .filter(|key| key.is_string())
        {
            answer.insert("session".to_owned(), json!({"mainKey": key}));
        }
        if let Some(color) = parsed
            .pointer("/ui/seamColor")
            .filter(|color| color.is_string())
        {
            answer.insert("ui".to_owned(), json!({"seamColor": color}));
        }
        Ok(Reply::json(&json!({"config": answer})))
    })
}

/// The section as apps read it: with the service that is meant and its settings in one place. Older
/// configurations have the settings of one service right in the section.
fn talk_answer(talk: &Map<String, Value>) -> Value {
    let mut answer = talk.clone();
    let providers = talk.get("providers").and_then(Value::as_object);
    let older: Map<String, Value> = [
        "voiceId",
        "voiceAliases",
        "modelId",
        "outputFormat",
        "apiKey",
    ]
    .into_iter()
    .filter_map(|key| Some((key.to_owned(), talk.get(key)?.clone())))
    .collect();
    let named = talk.get("provider").and_then(Value::as_str);
    let only = || {
        let mut names = providers?.keys();
        let first = names.next()?;
        names.next().is_none().then_some(first.as_str())
    };
    let provider = named
        .or_else(only)
        .or_else(|| (!older.is_empty()).then_some("elevenlabs"));
    if let Some(provider) = provider {
        let config = providers.and_then(|all| all.get(provider)).cloned();
        let config = config.unwrap_or_else(|| older.into());
        answer.insert(
            "resolved".to_owned(),
            json!({"provider": provider, "config": config}),
        );
    }
    answer.into()
}

pub(crate) fn talk_mode(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.value()?;
        let principal = &call.link.principal;
        let is_webchat = principal.client_mode == "webchat" || principal.client_id == "webchat";
        if is_webchat && !call.gateway.has_mobile_node() {
            return Err(ErrorShape::unavailable(
                "talk disabled: no connected iOS/Android nodes",
            ));
        }
        let payload = json!({
            "enabled": params.get("enabled"),
            "phase": params.get("phase"),
            "ts": now_ms(),
        });
        let text = payload.to_string();
        call.gateway.hub.publish(Event::TalkMode, &text, None);
        Ok(Reply::made(text))
    })
}

impl crate::Gateway {
    /// Whether a phone is connected as a node.
    fn has_mobile_node(&self) -> bool {
        let list = self
            .presence
            .list_json(clawgate_core::Dialect::V4, now_ms());
        let entries: Vec<Value> = serde_json::from_str(&list).unwrap_or_default();
        entries.iter().any(|entry| {
            let platform = entry["platform"]
                .as_str()
                .unwrap_or_default()
                .to_ascii_lowercase();
            entry["mode"] == "node"
                && entry["reason"] != "disconnect"
                && ["ios", "ipados", "android"]
                    .iter()
                    .any(|name| platform.starts_with(name))
        })
    }
}
