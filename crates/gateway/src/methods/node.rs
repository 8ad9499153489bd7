//! Nodes: who they are, what is asked of them, what they answer.

mod run;

use std::sync::Arc;

use clawgate_core::{
    Scope,
    node::{Withheld, is_reserved, may_run, needs_admin, waits_for_foreground},
    proof,
    session::SessionKey,
};
use clawgate_protocol::{
    ErrorShape,
    node::{
        AckParams, EnqueueParams, EventParams, INVOKE_RESULT, InvokeParams, InvokeResultParams,
        NodeFault, NodeIdParams, PairRequestParams, RenameParams, RequestIdParams,
        TRIGGER_CHARS_MAX, TRIGGERS_DEFAULT, TRIGGERS_MAX,
    },
    shape::Shape,
};
use serde_json::{Value, json};

use crate::{
    Gateway,
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later, now},
    error,
    hub::{Link, Principal},
    nodes::{Done, Failure, Invoke, Target},
    turns::{Origin, Wanted},
};

/// Characters of what is said through a node.
const SAID_MAX: usize = 32 * 1024;

pub(crate) fn list(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.fits(), move |()| async move {
        let rules = gateway.config();
        let nodes = gateway.nodes.views(&rules.nodes).await;
        let nodes = nodes.map_err(|error| error::store(&error))?;
        Ok(Reply::json(&json!({"ts": now_ms(), "nodes": nodes})))
    })
}

pub(crate) fn describe(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.typed::<NodeIdParams>(), move |params| async move {
        let rules = gateway.config();
        let nodes = gateway.nodes.views(&rules.nodes).await;
        let nodes = nodes.map_err(|error| error::store(&error))?;
        let node = nodes.iter().find(|node| node.node_id == params.node_id);
        let node = node.ok_or_else(|| ErrorShape::invalid("unknown nodeId"))?;
        let mut shown = json!({"ts": now_ms()});
        let members = json!(node);
        if let (Some(shown), Some(members)) = (shown.as_object_mut(), members.as_object()) {
            shown.extend(members.clone());
        }
        Ok(Reply::json(&shown))
    })
}

pub(crate) fn pair_request(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(
        call.typed::<PairRequestParams>(),
        move |params| async move {
            let filed = gateway.nodes.file(params).await;
            let (request, created) = filed.map_err(error::node)?;
            Ok(Reply::json(&json!({
                "status": "pending", "request": request, "created": created,
            })))
        },
    )
}

pub(crate) fn pair_list(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    later(call.fits(), move |()| async move {
        let list = gateway.nodes.pair_list(dialect).await;
        list.map(|list| Reply::json(&list))
            .map_err(|error| error::store(&error))
    })
}

pub(crate) fn pair_approve(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<RequestIdParams>(), move |params| async move {
        let id = params.request_id;
        let node = gateway.nodes.approve(&link, id.clone()).await;
        let node = node.map_err(|error| error::node_change(&link.principal, error))?;
        Ok(Reply::json(&json!({"requestId": id, "node": node})))
    })
}

pub(crate) fn pair_reject(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<RequestIdParams>(), move |params| async move {
        let id = params.request_id;
        let node = gateway.nodes.reject(&link, id.clone()).await;
        let node = node.map_err(|error| error::node_change(&link.principal, error))?;
        Ok(Reply::json(&json!({"requestId": id, "nodeId": node})))
    })
}

pub(crate) fn pair_verify(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.value(), move |params| async move {
        let text = |key: &str| params[key].as_str().unwrap_or_default();
        let node_id = text("nodeId").to_owned();
        let found = gateway.nodes.verify(node_id, text("token")).await;
        Ok(match found.map_err(|error| error::store(&error))? {
            Some(node) => Reply::json(&json!({"ok": true, "node": node})),
            None => Reply::json(&json!({"ok": false})),
        })
    })
}

pub(crate) fn pair_remove(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<NodeIdParams>(), move |params| async move {
        let id = params.node_id;
        let removed = gateway.nodes.withdraw(&link, id.clone()).await;
        removed.map_err(|error| error::node_change(&link.principal, error))?;
        Ok(Reply::json(&json!({"nodeId": id})))
    })
}

pub(crate) fn rename(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<RenameParams>(), move |params| async move {
        let name = params.display_name.trim().to_owned();
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(ErrorShape::invalid("displayName required"));
        }
        let renamed = gateway
            .nodes
            .rename(&link, params.node_id.clone(), name.clone());
        let renamed = renamed.await;
        renamed.map_err(|error| error::node_change(&link.principal, error))?;
        Ok(Reply::json(
            &json!({"nodeId": params.node_id, "displayName": name}),
        ))
    })
}

/// Not a task of its own: where the caller goes, nobody waits, and the node is told to stop.
pub(crate) fn invoke(call: &Call<'_>) -> Answer {
    let params = match call.typed::<InvokeParams>() {
        Ok(params) => params,
        Err(error) => return Answer::Now(Reply::error(error)),
    };
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    Answer::later(async move { invoked(&gateway, &link, params).await.into() })
}

async fn invoked(
    gateway: &Gateway,
    link: &Arc<Link>,
    params: InvokeParams,
) -> Result<Reply, ErrorShape> {
    let command = params.command.trim().to_owned();
    let node_id = params.node_id.trim().to_owned();
    if command.is_empty() || node_id.is_empty() {
        return Err(ErrorShape::invalid("nodeId and command required"));
    }
    if is_reserved(&command) {
        return Err(ErrorShape::invalid(
            "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*",
        )
        .with_details(json!({"command": command})));
    }
    if needs_admin(&command) && !link.principal.grant.scopes().covers(&Scope::ADMIN) {
        return Err(error::missing_scope(&link.principal, &Scope::ADMIN));
    }
    let target = gateway.nodes.target(&node_id);
    let target = target.ok_or_else(not_connected)?;
    let rules = gateway.config();
    let allowed = rules.nodes.allows(
        &command,
        Some(&target.platform),
        target.device_family.as_deref(),
    );
    may_run(&command, allowed, &target.declared, &target.approved)
        .map_err(|why| withheld(why, &command, &target))?;
    let timeout_ms = params.timeout_ms.map(whole);
    let key = (caller(&link.principal), params.idempotency_key.clone());
    let asked = params.params.as_ref().map(Value::to_string);
    let act = format!("{command}\n{}", asked.as_deref().unwrap_or_default());
    // Who asks again gets what came of it, and uses up no second approval.
    let before = gateway
        .nodes
        .invoked_before(&node_id, &key, &act, timeout_ms);
    let (params_json, outcome) = match before.await {
        Some(outcome) => (asked, outcome),
        None => {
            let params_json = match &params.params {
                Some(given) if command == "system.run" => Some(
                    run::forwarded(gateway, link, &node_id, given)
                        .await?
                        .to_string(),
                ),
                _ => asked,
            };
            let wanted = Invoke {
                node_id: node_id.clone(),
                session: Some(target.conn_id.clone()),
                command: command.clone(),
                params_json: params_json.clone(),
                timeout_ms,
                key: Some(key),
                act,
            };
            (params_json, gateway.nodes.invoke(wanted).await)
        }
    };
    match outcome {
        Ok(done) => Ok(Reply::json(&json!({
            "ok": true, "nodeId": node_id, "command": command, "payload": payload(&done),
            "payloadJSON": done.payload_json,
        }))),
        Err(Failure::Node(fault))
            if waits_for_foreground(Some(&target.platform), &command, fault.code.as_deref()) =>
        {
            let parked = gateway.nodes.park(
                node_id.clone(),
                command.clone(),
                params_json,
                params.idempotency_key,
            );
            let parked = parked.await.map_err(|error| error::store(&error))?;
            let mut error =
                ErrorShape::unavailable("node command queued until iOS returns to foreground")
                    .with_details(json!({
                        "code": "QUEUED_UNTIL_FOREGROUND", "queuedActionId": parked,
                        "nodeId": node_id, "command": command, "nodeError": fault,
                    }));
            error.retryable = Some(true);
            Err(error)
        }
        Err(Failure::NotConnected) => Err(not_connected()),
        Err(failure) => Err(failed(failure, &command)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the shape asks for integers of zero or more; beyond, it saturates"
)]
fn whole(ms: f64) -> u64 {
    ms as u64
}

/// What a node answered; its text stands above its value.
fn payload(done: &Done) -> Value {
    match &done.payload_json {
        Some(text) => read_or_text(text),
        None => done.payload.clone().unwrap_or(Value::Null),
    }
}

/// JSON as JSON, anything else as the text that it is, and so what would be too much to be read.
fn read_or_text(text: &str) -> Value {
    if clawgate_protocol::frame::has_too_many_values(text) {
        return Value::from(text);
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// Whose keys these are: a device's or a token's, whichever socket it uses; else the socket's.
fn caller(principal: &Principal) -> String {
    match (&principal.device_id, &principal.api_token) {
        (Some(device), _) => device.to_string(),
        (None, Some(token)) => format!("api-token {token}"),
        (None, None) => principal.conn_id.clone(),
    }
}

fn not_connected() -> ErrorShape {
    ErrorShape::unavailable("node not connected").with_details(json!({"code": "NOT_CONNECTED"}))
}

fn withheld(why: Withheld, command: &str, target: &Target) -> ErrorShape {
    let platform = match target.platform.as_str() {
        "" => "unknown",
        platform => platform,
    };
    let (reason, message) = match why {
        Withheld::NotAllowed => (
            "command not allowlisted",
            format!("\"{command}\" is not in the allowlist for platform \"{platform}\""),
        ),
        Withheld::NothingDeclared => (
            "node did not declare commands",
            "the node did not declare any supported commands".to_owned(),
        ),
        Withheld::NotDeclared => (
            "command not declared by node",
            format!("the node (platform: {platform}) does not support \"{command}\""),
        ),
        Withheld::NotApproved => (
            "command not approved",
            format!("\"{command}\" waits for approval; nodes pending shows the request"),
        ),
    };
    ErrorShape::invalid(format!("node command not allowed: {message}"))
        .with_details(json!({"reason": reason, "command": command}))
}

/// A failure at the node, as the original says it. Also for the methods that send a command of their
/// own.
pub(crate) fn failed(failure: Failure, command: &str) -> ErrorShape {
    let fault = |code: &str, message: String| NodeFault {
        code: Some(code.to_owned()),
        message: Some(message),
    };
    let fault = match failure {
        Failure::Node(fault) => fault,
        Failure::NotConnected => fault("NOT_CONNECTED", "node not connected".to_owned()),
        Failure::Disconnected => fault(
            "NODE_DISCONNECTED",
            format!("node disconnected ({command})"),
        ),
        Failure::TimedOut => fault("TIMEOUT", "node invoke timed out".to_owned()),
        Failure::Busy => fault(
            "NODE_BUSY",
            "the node runs as many commands as it may".to_owned(),
        ),
        Failure::KeyReused => {
            return ErrorShape::invalid("idempotencyKey was used for another command")
                .with_details(json!({"code": "IDEMPOTENCY_KEY_REUSED"}));
        }
    };
    let words = fault.message.as_deref().unwrap_or("node invoke failed");
    let message = match &fault.code {
        Some(code) => format!("{code}: {words}"),
        None => words.to_owned(),
    };
    ErrorShape::unavailable(message).with_details(json!({"nodeError": fault}))
}

pub(crate) fn invoke_result(call: &Call<'_>) -> Answer {
    now(|| {
        let mut value = call.unchecked()?;
        if let Some(params) = value.as_object_mut() {
            // What nodes send for "nothing" is no mistake of theirs.
            match params.get("payloadJSON") {
                None | Some(Value::String(_)) => {}
                Some(Value::Null) => drop(params.remove("payloadJSON")),
                Some(_) => {
                    let payload = params.remove("payloadJSON").unwrap_or_default();
                    params.entry("payload").or_insert(payload);
                }
            }
            if params.get("error").is_some_and(Value::is_null) {
                params.remove("error");
            }
        }
        call.check(&value, &Shape::Object(INVOKE_RESULT))?;
        let result: InvokeResultParams = call.parse(value)?;
        if own_id(call) != result.node_id {
            return Err(ErrorShape::invalid("nodeId mismatch"));
        }
        let conn_id = &call.link.principal.conn_id;
        Ok(Reply::json(
            &if call.gateway.nodes.answered(conn_id, result) {
                json!({"ok": true})
            } else {
                json!({"ok": true, "ignored": true})
            },
        ))
    })
}

/// Sends a command that has a method of its own, whose scope was looked at. The node need not
/// declare it: one that does not know it says so itself.
pub(crate) async fn ask(
    gateway: &Gateway,
    node_id: &str,
    command: &str,
    params: &Value,
) -> Result<Value, ErrorShape> {
    let wanted = Invoke {
        node_id: node_id.to_owned(),
        session: None,
        command: command.to_owned(),
        params_json: Some(params.to_string()),
        timeout_ms: None,
        key: None,
        act: String::new(),
    };
    match gateway.nodes.invoke(wanted).await {
        Ok(done) => Ok(payload(&done)),
        Err(failure) => Err(failed(failure, command)),
    }
}

/// The id of a node that calls.
fn own_id(call: &Call<'_>) -> String {
    let device = call.link.principal.device_id.as_ref();
    device.map(ToString::to_string).unwrap_or_default()
}

/// What nobody knows is taken and dropped, as the original does.
pub(crate) fn event(call: &Call<'_>) -> Answer {
    let read = || {
        let params: EventParams = call.typed()?;
        let payload = match (&params.payload_json, params.payload) {
            (Some(text), _) => read_or_text(text),
            (None, payload) => payload.unwrap_or_default(),
        };
        Ok((params.event, payload))
    };
    let (event, payload) = match read() {
        Ok(read) => read,
        Err(error) => return Answer::Now(Reply::error(error)),
    };
    if let "voice.transcript" | "agent.request" = event.as_str() {
        return turn(call, &payload);
    }
    now(|| {
        match event.as_str() {
            "chat.subscribe" | "chat.unsubscribe" => {
                let written = payload["sessionKey"].as_str().unwrap_or_default().trim();
                let wants = event == "chat.subscribe";
                let conn_id = &call.link.principal.conn_id;
                // No session is ever made under a key that does not read.
                if let Ok(session) = SessionKey::read(written, None, call.gateway.default_agent())
                    && !call.gateway.nodes.follow(conn_id, &session, written, wants)
                {
                    return Err(ErrorShape::unavailable("too many sessions are followed"));
                }
            }
            other => {
                tracing::debug!(
                    event = crate::logs::clip(other, 80),
                    "a node's event was dropped"
                );
            }
        }
        Ok(Reply::json(&json!({"ok": true})))
    })
}

/// What somebody said to a node, or asked through it, becomes a turn of the session that it names.
fn turn(call: &Call<'_>, payload: &Value) -> Answer {
    let text = |name: &str| {
        payload[name]
            .as_str()
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let read = || {
        let message = text("message").or_else(|| text("text"));
        let message = message.ok_or_else(|| call.invalid("at /payload: text required"))?;
        if message.chars().count() > SAID_MAX {
            return Err(call.invalid("at /payload: the text is too long"));
        }
        let written = text("sessionKey").unwrap_or(clawgate_core::session::MAIN);
        let key = SessionKey::read(written, None, call.gateway.default_agent())
            .map_err(|bad| call.bad_key("payload/sessionKey", bad))?;
        let run_id = match text("eventId").or_else(|| text("key")) {
            Some(id) => format!(
                "node:{}",
                proof::fingerprint(&format!("{}\n{id}", own_id(call)))
            ),
            None => uuid::Uuid::new_v4().to_string(),
        };
        let name = own_id(call);
        Ok(Wanted {
            written_key: written.to_owned(),
            message: message.replace('\0', ""),
            thinking: text("thinking").map(str::to_owned),
            timeout_ms: payload["timeoutSeconds"]
                .as_u64()
                .map(|s| s.saturating_mul(1_000)),
            extra_system: Some(format!(
                "The message came through the paired device {name}."
            )),
            ..Wanted::new(run_id, key, Origin::Hook)
        })
    };
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(read(), move |wanted| async move {
        let run_id = wanted.run_id.clone();
        gateway.begin_turn(Some(link), wanted).await?;
        Ok(Reply::json(&json!({"ok": true, "runId": run_id})))
    })
}

pub(crate) fn pending_enqueue(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.typed::<EnqueueParams>(), move |params| async move {
        let expires = params.expires_in_ms.map(whole);
        let expires = expires.and_then(|ms| i64::try_from(ms).ok());
        let node_id = params.node_id.clone();
        let left = gateway
            .nodes
            .leave(params.node_id, params.kind, params.priority, expires);
        let left = left.await.map_err(|error| error::store(&error))?;
        let (revision, queued) = left.ok_or_else(|| {
            ErrorShape::unavailable("too much work waits for nodes")
                .with_details(json!({"code": "QUEUE_FULL"}))
        })?;
        Ok(Reply::json(&json!({
            "nodeId": node_id, "revision": revision, "queued": queued, "wakeTriggered": false,
        })))
    })
}

pub(crate) fn pending_drain(call: &Call<'_>) -> Answer {
    let (gateway, node_id) = (Arc::clone(call.gateway), own_id(call));
    later(call.value(), move |params| async move {
        let max = params["maxItems"].as_f64().map(whole);
        let max = max.and_then(|max| usize::try_from(max).ok());
        let drained = gateway.nodes.drain(node_id.clone(), max).await;
        let drained = drained.map_err(|error| error::store(&error))?;
        Ok(Reply::json(&json!({
            "nodeId": node_id, "revision": drained.revision, "items": drained.items,
            "hasMore": drained.has_more,
        })))
    })
}

/// Only what it still may run: an approval may have been taken back meanwhile.
pub(crate) fn pending_pull(call: &Call<'_>) -> Answer {
    let (gateway, node_id) = (Arc::clone(call.gateway), own_id(call));
    later(call.fits(), move |()| async move {
        let parked = gateway.nodes.parked(node_id.clone()).await;
        let parked = parked.map_err(|error| error::store(&error))?;
        let rules = gateway.config();
        let target = gateway.nodes.target(&node_id);
        let runs = |command: &str| {
            target.as_ref().is_some_and(|target| {
                let family = target.device_family.as_deref();
                let allowed = rules.nodes.allows(command, Some(&target.platform), family);
                may_run(command, allowed, &target.declared, &target.approved).is_ok()
            })
        };
        let actions: Vec<Value> = parked
            .iter()
            .filter(|action| runs(&action.command))
            .map(|action| {
                json!({
                    "id": action.action_id, "command": action.command,
                    "paramsJSON": action.params, "enqueuedAtMs": action.enqueued_at_ms,
                })
            })
            .collect();
        Ok(Reply::json(&json!({"nodeId": node_id, "actions": actions})))
    })
}

pub(crate) fn pending_ack(call: &Call<'_>) -> Answer {
    let (gateway, node_id) = (Arc::clone(call.gateway), own_id(call));
    later(call.typed::<AckParams>(), move |params| async move {
        let left = gateway
            .nodes
            .acknowledge(node_id.clone(), params.ids.clone());
        let left = left.await.map_err(|error| error::store(&error))?;
        Ok(Reply::json(&json!({
            "nodeId": node_id, "ackedIds": params.ids, "remainingCount": left,
        })))
    })
}

pub(crate) fn canvas_refresh(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        Err(ErrorShape::unavailable("canvas host unavailable"))
    })
}

pub(crate) fn wake_words(call: &Call<'_>) -> Answer {
    now(|| {
        Ok(Reply::json(
            &json!({"triggers": call.gateway.nodes.wake_words()}),
        ))
    })
}

pub(crate) fn set_wake_words(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let words = call.unchecked().and_then(|params| {
        let wrong = || ErrorShape::invalid("voicewake.set requires triggers: string[]");
        let list = params["triggers"].as_array().ok_or_else(wrong)?;
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        let mut words: Vec<String> = texts
            .ok_or_else(wrong)?
            .into_iter()
            .map(|word| {
                word.trim()
                    .chars()
                    .take(TRIGGER_CHARS_MAX)
                    .collect::<String>()
            })
            .filter(|word| !word.is_empty())
            .take(TRIGGERS_MAX)
            .collect();
        if words.is_empty() {
            words = TRIGGERS_DEFAULT.map(str::to_owned).to_vec();
        }
        Ok(words)
    });
    later(words, move |words| async move {
        let kept = gateway.nodes.set_wake_words(words.clone()).await;
        kept.map_err(|error| error::store(&error))?;
        Ok(Reply::json(&json!({"triggers": words})))
    })
}
