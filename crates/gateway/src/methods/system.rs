//! The gateway about itself.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use clawgate_core::{Dialect, Scope, session::SessionKey};
use clawgate_protocol::{
    ErrorShape,
    event::Event,
    shape::Shape,
    system::{LogsTail, LogsTailParams, SystemEventParams, WAKE, WakeParams},
};
use clawgate_store::StoreError;
use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
    error,
    health::Glance,
    logs,
    methods::session::DefaultModel,
    presence::BEACON_BYTES_MAX,
};

/// Lines and bytes of `logs.tail` when the caller does not say.
const LOG_LINES: usize = 500;
const LOG_BYTES: u64 = 250_000;

pub(crate) fn health(call: &Call<'_>) -> Answer {
    let probe = call.params.is_some()
        && call
            .unchecked()
            .is_ok_and(|params| params.get("probe") == Some(&Value::Bool(true)));
    // Keys of sessions tell who talks to whom: for those that may read them.
    let may_read = call.link.principal.grant.scopes().covers(&Scope::READ);
    let text = move |gateway: &crate::Gateway| {
        Reply::kept(if may_read {
            gateway.health.full_text()
        } else {
            gateway.health.text()
        })
    };
    if !probe {
        return Answer::Now(text(call.gateway));
    }
    let gateway = Arc::clone(call.gateway);
    later(Ok(()), move |()| async move {
        gateway.look_at_sessions().await;
        if gateway.health.refresh(now_ms()) {
            gateway.publish_health();
        }
        Ok(text(&gateway))
    })
}

pub(crate) fn status(call: &Call<'_>) -> Answer {
    let admin = call.link.principal.grant.scopes().covers(&Scope::ADMIN);
    if let Some(text) = call.gateway.health.status(admin) {
        return Answer::Now(Reply::kept(text));
    }
    let gateway = Arc::clone(call.gateway);
    later(Ok(()), move |()| async move {
        let epoch = gateway.health.status_epoch();
        let key = gateway.main_session_key.clone();
        let (queued, glance) = gateway
            .store
            .read(move |db| Ok((db.queued_system_events(&key)?, Glance::take(db)?)))
            .await
            .map_err(|error| error::store(&error))?;
        gateway.health.set_glance(glance);
        let model = DefaultModel::of(&gateway.config());
        Ok(Reply::kept(
            gateway.health.keep_status(admin, epoch, &queued, &model),
        ))
    })
}

pub(crate) fn last_heartbeat(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(Ok(()), move |()| async move {
        let last = gateway.last_heartbeat().await;
        last.map(Reply::made).map_err(|error| error::store(&error))
    })
}

pub(crate) fn set_heartbeats(call: &Call<'_>) -> Answer {
    let enabled = call.unchecked().and_then(|params| {
        params
            .get("enabled")
            .and_then(Value::as_bool)
            .ok_or_else(|| call.invalid("enabled (boolean) required"))
    });
    let gateway = Arc::clone(call.gateway);
    later(enabled, move |enabled| async move {
        gateway
            .store
            .write("setting heartbeats", move |tx| {
                tx.set_setting(
                    crate::HEARTBEATS_SETTING,
                    if enabled { "on" } else { "off" },
                )
            })
            .await
            .map_err(|error: StoreError| error::store(&error))?;
        gateway.health.set_heartbeats(enabled, now_ms());
        // The snapshot is another one now; the next event and hello say so.
        gateway.presence.bump_health();
        Ok(Reply::json(&json!({"ok": true, "enabled": enabled})))
    })
}

pub(crate) fn wake(call: &Call<'_>) -> Answer {
    let read = || {
        let mut value = call.unchecked()?;
        // Wire 4 lets further members pass.
        if let (Dialect::V4, Some(map)) = (call.dialect(), value.as_object_mut()) {
            map.retain(|key, _| WAKE.iter().any(|field| field.name == key));
        }
        call.check(&value, &Shape::Object(WAKE))?;
        let params: WakeParams = call.parse(value)?;
        if let Some(key) = &params.session_key {
            SessionKey::read(key, None, call.gateway.default_agent())
                .map_err(|bad| call.bad_key("sessionKey", bad))?;
        }
        let key = call.gateway.session_to_wake(&params)?;
        Ok((params.text.trim().to_owned(), key, params.mode == "now"))
    };
    let gateway = Arc::clone(call.gateway);
    later(read(), move |(text, key, at_once)| async move {
        if text.is_empty() {
            return Ok(Reply::json(&json!({"ok": false})));
        }
        gateway.queue_event_for(key.clone(), text).await?;
        if at_once {
            gateway.heartbeats.wake(&key, "wake");
        }
        Ok(Reply::json(&json!({"ok": true})))
    })
}

pub(crate) fn presence(call: &Call<'_>) -> Answer {
    Answer::Now(Reply::made(
        call.gateway.presence.list_json(call.dialect(), now_ms()),
    ))
}

pub(crate) fn event(call: &Call<'_>) -> Answer {
    let given = call.params.as_deref().map_or(0, str::len);
    if given > BEACON_BYTES_MAX {
        let error = ErrorShape::invalid(format!(
            "a system event has at most {BEACON_BYTES_MAX} bytes"
        ));
        return Answer::Now(Reply::error(error));
    }
    let params = call
        .unchecked()
        .map(|value| as_far_as_it_is_well_typed(&value))
        .and_then(|params| match params.text.as_deref().map(str::trim) {
            Some(text) if !text.is_empty() => Ok(params),
            _ => Err(ErrorShape::invalid("text required")),
        });
    let gateway = Arc::clone(call.gateway);
    later(params, move |params| async move {
        let text = params.text.clone().unwrap_or_default();
        gateway.presence.beacon(&params, now_ms());
        // A beacon line says where a client is; any other text is for the agent.
        if !text.starts_with("Node:") {
            gateway.queue_system_event(text.trim().to_owned()).await?;
        }
        gateway.publish_presence();
        Ok(Reply::json(&json!({"ok": true})))
    })
}

/// Each field on its own: one of another type counts as absent, as in the original.
fn as_far_as_it_is_well_typed(params: &Value) -> SystemEventParams {
    let text = |key: &str| params.get(key).and_then(Value::as_str).map(str::to_owned);
    let texts = |key: &str| {
        let list = params.get(key)?.as_array()?;
        list.iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<String>>>()
    };
    SystemEventParams {
        text: text("text"),
        device_id: text("deviceId"),
        instance_id: text("instanceId"),
        host: text("host"),
        ip: text("ip"),
        mode: text("mode"),
        version: text("version"),
        platform: text("platform"),
        device_family: text("deviceFamily"),
        model_identifier: text("modelIdentifier"),
        last_input_seconds: params.get("lastInputSeconds").and_then(Value::as_f64),
        reason: text("reason"),
        roles: texts("roles"),
        scopes: texts("scopes"),
        tags: texts("tags"),
    }
}

pub(crate) fn identity(call: &Call<'_>) -> Answer {
    let identity = &call.gateway.keys.identity;
    Answer::Now(Reply::json(&json!({
        "deviceId": identity.device_id,
        "publicKey": identity.public_key,
    })))
}

pub(crate) fn logs_tail(call: &Call<'_>) -> Answer {
    let directory = call.gateway.state.logs();
    later(call.typed::<LogsTailParams>(), move |params| async move {
        let tail = tokio::task::spawn_blocking(move || tail(&directory, params)).await;
        match tail {
            Ok(Ok(tail)) => Ok(Reply::json(&tail)),
            Ok(Err(error)) => Err(error::internal("reading the log", &error)),
            Err(error) => Err(error::internal("reading the log", &error)),
        }
    })
}

/// Reads whole lines from the cursor, or from the tail when the cursor does not fit.
fn tail(directory: &Path, params: LogsTailParams) -> std::io::Result<LogsTail> {
    let Some(path) = logs::current_file(directory) else {
        return Ok(LogsTail {
            file: directory.display().to_string(),
            ..LogsTail::default()
        });
    };
    let limit = params.limit.unwrap_or(LOG_LINES);
    let bytes_max = params.max_bytes.unwrap_or(LOG_BYTES);
    let mut file = std::fs::File::open(&path)?;
    let size = file.metadata()?.len();
    let fits = |cursor: &u64| *cursor <= size && size - *cursor <= bytes_max;
    let cursor = params.cursor.filter(fits);
    let reset = params.cursor.is_some() && cursor.is_none();
    let start = cursor.unwrap_or_else(|| size.saturating_sub(bytes_max));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(size - start).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // The tail begins in the middle of a line, unless the file does.
    if cursor.is_none() && start > 0 && !lines.is_empty() {
        lines.remove(0);
    }
    let cut = lines.len().saturating_sub(limit);
    let truncated = cut > 0 || (cursor.is_none() && start > 0);
    Ok(LogsTail {
        file: path.display().to_string(),
        cursor: size,
        size,
        lines: lines.split_off(cut),
        truncated,
        reset,
    })
}

impl crate::Gateway {
    /// Queues a text for the main session, durably.
    pub(crate) async fn queue_system_event(&self, text: String) -> Result<(), ErrorShape> {
        self.queue_event_for(self.main_session_key.clone(), text)
            .await
    }

    /// The session that `wake` is for: the named one, the main one of the named agent, or the main one.
    fn session_to_wake(&self, params: &WakeParams) -> Result<String, ErrorShape> {
        let of_key = params
            .session_key
            .as_deref()
            .and_then(clawgate_core::agent::of_session_key);
        let asked = params.agent_id.as_deref().or(of_key.as_deref());
        let Some(asked) = asked else {
            return Ok(self.main_session_key.clone());
        };
        let roster = self.roster();
        let agent = super::agent::named(&roster, Some(asked))?;
        match (&params.session_key, of_key) {
            (Some(key), Some(of_key)) if of_key == agent.id => Ok(key.trim().to_lowercase()),
            (Some(_), Some(of_key)) => Err(ErrorShape::invalid(format!(
                "agent \"{}\" does not match session key agent \"{of_key}\"",
                agent.id
            ))),
            _ if agent.id == self.default_agent() => Ok(self.main_session_key.clone()),
            _ => Ok(format!("agent:{}:{}", agent.id, roster.main_key)),
        }
    }

    /// Queues a text for a session, durably.
    async fn queue_event_for(&self, key: String, text: String) -> Result<(), ErrorShape> {
        let at = now_ms();
        self.store
            .write("queueing a system event", move |tx| {
                tx.queue_system_event(&key, &text, None, at)
            })
            .await
            .map_err(|error: StoreError| error::store(&error))?;
        self.health.status_changed();
        Ok(())
    }

    /// Tells everybody who may see it who is here.
    pub(crate) fn publish_presence(&self) {
        self.tell_presence(&Dialect::ALL);
    }

    /// The same when somebody came, which wire 3 does not tell.
    pub(crate) fn publish_arrival(&self) {
        self.tell_presence(&[Dialect::V4]);
    }

    fn tell_presence(&self, dialects: &[Dialect]) {
        let now = now_ms();
        let payload = |dialect| {
            let list = self.presence.list_json(dialect, now);
            format!(r#"{{"presence":{list}}}"#)
        };
        let v3 = dialects
            .contains(&Dialect::V3)
            .then(|| payload(Dialect::V3));
        self.hub.publish_each(
            Event::Presence,
            v3.as_deref(),
            &payload(Dialect::V4),
            Some(self.presence.version()),
        );
    }

    /// Has the next snapshots show the sessions as they are now.
    pub(crate) async fn look_at_sessions(&self) {
        match self.store.read(Glance::take).await {
            Ok(glance) => self.health.set_glance(glance),
            Err(error) => tracing::warn!(%error, "the health snapshot shows sessions of before"),
        }
    }

    /// Tells everybody the health snapshot.
    pub(crate) fn publish_health(&self) {
        let version = self.presence.bump_health();
        self.hub
            .publish(Event::Health, &self.health.text(), Some(version));
    }
}
