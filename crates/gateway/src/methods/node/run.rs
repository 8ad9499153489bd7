//! What of the params of `system.run` goes on to a node: what runs, and nothing that claims that
//! somebody approved it. An approval counts where its record says so, and nobody else can say it.

use clawgate_protocol::ErrorShape;
use serde_json::{Map, Value, json};

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

/// The params as they go on.
pub(super) fn forwarded(given: &Value) -> Result<Value, ErrorShape> {
    let Some(given) = given.as_object() else {
        return Err(refused(
            "INVALID_PARAMS",
            "system.run params must be an object",
        ));
    };
    let argv = given.get("command").and_then(Value::as_array);
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
    let claims_approval = given.get("approved") == Some(&Value::Bool(true))
        || given
            .get("approvalDecision")
            .and_then(Value::as_str)
            .is_some_and(|decision| matches!(decision.trim(), "allow-once" | "allow-always"));
    if claims_approval {
        let run_id = given.get("runId").and_then(Value::as_str).map(str::trim);
        return Err(match run_id.filter(|id| !id.is_empty()) {
            None => refused("MISSING_RUN_ID", "approval override requires params.runId"),
            Some(id) => ErrorShape::invalid("unknown or expired approval id")
                .with_details(json!({"code": "UNKNOWN_APPROVAL_ID", "runId": id})),
        });
    }
    let members: Map<String, Value> = given
        .iter()
        .filter(|(name, _)| FORWARDED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Ok(Value::Object(members))
}

fn refused(code: &str, message: &str) -> ErrorShape {
    ErrorShape::invalid(message).with_details(json!({"code": code}))
}
