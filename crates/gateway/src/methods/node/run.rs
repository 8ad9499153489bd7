//! What of the params of `system.run` goes on to a node: what runs, and nothing that claims that
//! somebody approved it. An approval counts where its record says so, and nobody else can say it.

use std::sync::Arc;

use clawgate_protocol::ErrorShape;
use serde_json::{Map, Value, json};

use crate::{Gateway, approvals::spend, hub::Link};

/// Members that travel on.
const FORWARDED: &[&str] = &[
    "command",
    "rawCommand",
    "systemRunPlan",
    "cwd",
    "env",
    "timeoutMs",
    "needsScreenRecording",
    "agentId",
    "sessionKey",
    "runId",
    "suppressNotifyOnExit",
];

/// Members that travel on beside what an approval says: those that say nothing of what runs.
const BESIDE_AN_APPROVAL: &[&str] = &[
    "env",
    "timeoutMs",
    "needsScreenRecording",
    "suppressNotifyOnExit",
];

/// The params as they go on. Those that claim an approval use it up, and what runs is then what was
/// shown to whoever approved it.
pub(super) async fn forwarded(
    gateway: &Gateway,
    caller: &Arc<Link>,
    node_id: &str,
    given: &Value,
) -> Result<Value, ErrorShape> {
    let Some(members) = given.as_object() else {
        return Err(refused(
            "INVALID_PARAMS",
            "system.run params must be an object",
        ));
    };
    let argv = members.get("command").and_then(Value::as_array);
    let is_argv = argv.is_some_and(|argv| {
        argv.iter().all(Value::is_string)
            && argv
                .first()
                .and_then(Value::as_str)
                .is_some_and(|program| !program.trim().is_empty())
    });
    if !is_argv {
        return Err(refused("MISSING_COMMAND", "command required"));
    }
    if spend::claims_approval(given) {
        let mut run = only(members, BESIDE_AN_APPROVAL);
        let approved = gateway.approvals.approved_run(caller, node_id, given);
        run.extend(approved.await?);
        return Ok(Value::Object(run));
    }
    Ok(Value::Object(only(members, FORWARDED)))
}

fn only(members: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    members
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn refused(code: &str, message: &str) -> ErrorShape {
    ErrorShape::invalid(message).with_details(json!({"code": code}))
}
