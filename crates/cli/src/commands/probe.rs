//! `gateway probe`: four facts about a gateway, none inferred from another.
//!
//! Reachable: TCP answered. Handshake: a hello-ok came. Authorized: what was granted covers what
//! the probe's calls need. RPC: the calls were answered. A call whose scope is known to be missing
//! is not sent to see it fail.

mod facts;
mod render;

pub(crate) use facts::{Facts, look};

use clawgate_client::{CredentialKind, Mode, Outcome};
use serde_json::{Value, json};

use super::Context;
use crate::{app::ConnectArgs, clock, error::CommandResult, exit::Exit, session::Approach};

/// Time limit, milliseconds.
const PROBE_MS: u64 = 3_000;

pub(crate) async fn run(context: &Context, args: &ConnectArgs) -> CommandResult {
    let approach = Approach::new(context, args, Mode::Probe, PROBE_MS)?;
    let started = clock::instant();
    let facts = look(&approach).await;
    if args.json {
        let took = started.elapsed();
        context
            .output
            .json(&report(&approach, &facts, took.as_millis()))?;
    } else {
        render::print(context, &approach, &facts)?;
    }
    Ok(facts.exit())
}

/// The original's report of a probe, with our facts beside each target.
fn report(approach: &Approach, facts: &Facts, took_ms: u128) -> Value {
    let target = &approach.target;
    let id = target.kind.id();
    let mut warnings = Vec::new();
    if facts.hello.is_some() && !facts.missing().is_empty() {
        warnings.push(json!({
            "code": "probe_scope_limited",
            "message": format!(
                "connected, but missing {}: details are incomplete",
                facts.missing().join(", ")
            ),
            "targetIds": [id],
        }));
    }
    if let Some(first) = refused_first(facts) {
        warnings.push(json!({
            "code": "probe_credential_refused",
            "message": format!("the credential from {} was refused; another one was taken", approach.source_of(first)),
            "targetIds": [id],
        }));
    }
    json!({
        "ok": facts.ok(),
        "degraded": facts.hello.is_some() && !facts.ok(),
        "ts": clock::now_ms(),
        "durationMs": u64::try_from(took_ms).unwrap_or(u64::MAX),
        "timeoutMs": u64::try_from(approach.within().as_millis()).unwrap_or(u64::MAX),
        "primaryTargetId": facts.hello.is_some().then_some(id),
        "warnings": warnings,
        "network": {
            "localLoopbackUrl": format!("ws://127.0.0.1:{}", target.local_port),
            "localTailnetUrl": null,
            "tailnetIPv4": null,
        },
        "discovery": {"timeoutMs": 0, "count": 0, "beacons": []},
        "targets": [{
            "id": id,
            "kind": id,
            "url": target.endpoint.to_string(),
            "active": true,
            "tunnel": null,
            "connect": connect_json(facts),
            "self": facts.self_entry(),
            "config": facts.config_summary(),
            "health": facts.payload("health"),
            "summary": facts.payload("status"),
            "presence": facts.payload("system-presence"),
            "facts": facts.to_json(approach),
        }],
    })
}

/// The credential that was refused before another one was taken.
fn refused_first(facts: &Facts) -> Option<CredentialKind> {
    facts.hello.as_ref()?;
    facts
        .attempts
        .iter()
        .find(|attempt| matches!(attempt.outcome, Outcome::Refused(_)))
        .map(|attempt| attempt.credential)
}

fn connect_json(facts: &Facts) -> Value {
    let limited = facts.hello.is_some() && !facts.missing().is_empty();
    let latency = facts
        .hello
        .as_ref()
        .map(|hello| u64::try_from(hello.timings.hello.as_millis()).unwrap_or(u64::MAX));
    json!({
        "ok": facts.hello.is_some(),
        "rpcOk": facts.rpc_ok(),
        "scopeLimited": limited,
        "latencyMs": latency,
        "error": facts.error_words(),
        "close": facts.close_json(),
    })
}

/// What a finished look means for the exit code: the first fact that does not hold.
impl Facts {
    fn exit(&self) -> Exit {
        if !self.reachable() {
            return self.failed_exit(Exit::Unreachable);
        }
        if self.hello.is_none() {
            return self.failed_exit(Exit::Internal);
        }
        if !self.authorized() {
            return Exit::Unauthorized;
        }
        if self.rpc_ok() {
            Exit::Ok
        } else {
            Exit::Failed
        }
    }
}
