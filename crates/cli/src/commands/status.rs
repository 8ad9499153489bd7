//! `status`: one page about the gateway. It exits 0 even when the gateway is down.

use std::path::{Path, PathBuf};

use clap::Args;
use clawgate_client::Mode;
use clawgate_gateway::{Severity, audit};
use serde_json::{Value, json};

use super::{
    Context, ORDINARY_MS, call_once,
    gateway::service::{State, Unit},
    probe::{Facts, look},
    security::{audit_json, examined, summary_words},
};
use crate::{
    app::ConnectArgs,
    clock,
    config::Config,
    error::CommandResult,
    exit::Exit,
    output::{Tone, one_line, table},
    session::Approach,
    words,
};

/// `status`.
#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the original"
)]
pub(crate) struct StatusArgs {
    /// Also ask for the health with probes and for the last heartbeat
    #[arg(long)]
    deep: bool,
    /// More of everything
    #[arg(long)]
    all: bool,
    #[arg(long, hide = true)]
    usage: bool,
    #[arg(long, hide = true)]
    verbose: bool,
    #[arg(long, hide = true)]
    debug: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

pub(crate) async fn run(context: &Context, args: &StatusArgs) -> CommandResult {
    let config = Config::load(&context.paths.config)?;
    let approach = Approach::new(context, &args.connect, Mode::Probe, ORDINARY_MS)?;
    let facts = look(&approach).await;
    let deep = if (args.deep || args.all) && facts.ok() {
        let call = |method, params| {
            let connect = &args.connect;
            async move { call_once(context, connect, ORDINARY_MS, method, Some(&params)).await }
        };
        let (health, heartbeat) = tokio::join!(
            call("health", json!({"probe": true})),
            call("last-heartbeat", json!({})),
        );
        Some((
            health.unwrap_or(Value::Null),
            heartbeat.unwrap_or(Value::Null),
        ))
    } else {
        None
    };
    let usage = if args.usage && facts.ok() {
        let asked = call_once(context, &args.connect, ORDINARY_MS, "usage.status", None).await;
        asked.ok()
    } else {
        None
    };
    // Of this machine's own gateway; what another one opens is its operator's to see.
    let findings = if approach.target.is_local_default() && (args.connect.json || args.all) {
        audit(&examined(context))
    } else {
        Vec::new()
    };
    let more = More {
        wants_usage: args.usage,
        usage,
        deep,
    };
    if args.connect.json {
        let service = Unit::of(context, false).state();
        let audit = audit_json(&findings);
        let report = report(&config, &approach, &facts, &service, &audit, more);
        context.output.json(&report)?;
        return Ok(Exit::Ok);
    }
    print(context, &approach, &facts, more.deep.as_ref())?;
    if let Some(usage) = &more.usage {
        let providers = usage["providers"].as_array().map_or(0, Vec::len);
        let words = words::count(providers, "provider", "providers");
        context
            .output
            .line(format!("usage      {words} tell theirs"))?;
    }
    if args.all {
        let service = Unit::of(context, false).state();
        context
            .output
            .line(format!("service    {}", service.short()))?;
        let summary = summary_words(&findings);
        context.output.line(format!("security   {summary}"))?;
        for finding in findings.iter().filter(|f| f.severity != Severity::Info) {
            let line = format!("           {}: {}", finding.check_id, finding.title);
            context.output.line(one_line(&line))?;
        }
    }
    Ok(Exit::Ok)
}

/// What `--usage` and `--deep` ask for.
struct More {
    wants_usage: bool,
    usage: Option<Value>,
    deep: Option<(Value, Value)>,
}

fn report(
    config: &Config,
    approach: &Approach,
    facts: &Facts,
    service: &State,
    audit: &Value,
    more: More,
) -> Value {
    let mut report = nothing_known();
    if let Value::Object(status) = facts.payload("status") {
        report.extend(status);
    }
    let target = &approach.target;
    let mode = config
        .get("gateway.mode")
        .and_then(Value::as_str)
        .unwrap_or("local");
    let latency = facts
        .hello
        .as_ref()
        .map(|hello| u64::try_from(hello.timings.hello.as_millis()).unwrap_or(u64::MAX));
    let installed = service.installed;
    let of_systemd = |ours: bool| {
        json!({
            "label": "systemd",
            "installed": ours && installed,
            "managedByOpenClaw": ours && installed,
            "externallyManaged": false,
            "loadedText": if ours && service.enabled { "enabled" } else { "disabled" },
            "runtimeShort": if ours { service.short() } else { "unknown".to_owned() },
        })
    };
    let health = facts.payload("health");
    // The original reads these from its own files; here they are the gateway's to tell, and until
    // it does they are empty, of the same types.
    let or = |value: &Value, otherwise: Value| {
        if value.is_null() {
            otherwise
        } else {
            value.clone()
        }
    };
    let state = target.gateway_state_dirs.first();
    let agents: Vec<Value> = health["agents"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|agent| of_agent(config, state.map(PathBuf::as_path), agent))
        .collect();
    let members = json!({
        "os": os(),
        "update": null,
        "updateChannel": "stable",
        "updateChannelSource": "default",
        "memory": null,
        "memoryPlugin": null,
        "gateway": {
            "mode": mode,
            "url": target.endpoint.to_string(),
            "urlSource": target.url_source,
            "misconfigured": false,
            // As in the original: connected, and its read calls answered.
            "reachable": facts.ok(),
            "connectLatencyMs": latency,
            "self": facts.self_entry(),
            "error": facts.error_words(),
            "authWarning": null,
            "facts": facts.to_json(approach),
        },
        "gatewayService": of_systemd(true),
        "nodeService": of_systemd(false),
        "agents": {
            "defaultId": or(&health["defaultAgentId"], json!("main")),
            "agents": agents,
            "totalSessions": or(&health["sessions"]["count"], json!(0)),
            "bootstrapPendingCount": 0,
        },
        "securityAudit": audit,
        "secretDiagnostics": [],
    });
    if let Value::Object(members) = members {
        report.extend(members);
    }
    if more.wants_usage {
        let nothing = json!({"updatedAt": clock::now_ms(), "providers": []});
        report.insert("usage".to_owned(), more.usage.unwrap_or(nothing));
        report.insert("lastHeartbeat".to_owned(), Value::Null);
    }
    if let Some((health, heartbeat)) = more.deep {
        report.insert("health".to_owned(), health);
        report.insert("lastHeartbeat".to_owned(), heartbeat);
    }
    Value::Object(report)
}

/// An agent as its sessions show it, and its workspace as the configuration names it, or where it
/// is in the gateway's state directory.
fn of_agent(config: &Config, state: Option<&Path>, agent: &Value) -> Value {
    let id = agent["agentId"].as_str().unwrap_or("main");
    let updated = agent["sessions"]["recent"][0]["updatedAt"].as_i64();
    let own = config.get("agents.list").and_then(Value::as_array);
    let own = own
        .into_iter()
        .flatten()
        .find(|entry| entry["id"].as_str() == Some(id))
        .and_then(|entry| entry["workspace"].as_str());
    let is_default = agent["isDefault"] != false;
    let of_all = config
        .get("agents.defaults.workspace")
        .and_then(Value::as_str);
    let named = own
        .or_else(|| of_all.filter(|_| is_default))
        .map(PathBuf::from);
    let workspace = named.or_else(|| {
        let name = if is_default {
            "workspace".to_owned()
        } else {
            format!("workspace-{id}")
        };
        Some(state?.join(name))
    });
    let bootstrap = workspace
        .as_ref()
        .is_some_and(|dir| dir.join("BOOTSTRAP.md").exists());
    json!({
        "id": id,
        "workspaceDir": workspace.map(|dir| dir.display().to_string()),
        "bootstrapPending": bootstrap,
        "sessionsPath": agent["sessions"]["path"],
        "sessionsCount": agent["sessions"]["count"],
        "lastUpdatedAt": updated,
        "lastActiveAgeMs": updated.map(|at| clock::now_ms().saturating_sub(at).max(0)),
    })
}

/// What a gateway's `status` says, before one has said anything.
fn nothing_known() -> serde_json::Map<String, Value> {
    let members = json!({
        "runtimeVersion": env!("CARGO_PKG_VERSION"),
        "heartbeat": {"defaultAgentId": "main", "agents": []},
        "channelSummary": [],
        "queuedSystemEvents": [],
        "sessions": {
            "paths": [],
            "count": 0,
            "defaults": {"model": null, "contextTokens": null},
            "recent": [],
            "byAgent": [],
        },
    });
    match members {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            serde_json::Map::new()
        }
    }
}

fn os() -> Value {
    let platform = match std::env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default();
    json!({
        "platform": platform,
        "arch": arch,
        "release": release,
        "label": format!("{platform} {release} ({arch})"),
    })
}

fn print(
    context: &Context,
    approach: &Approach,
    facts: &Facts,
    deep: Option<&(Value, Value)>,
) -> CommandResult<()> {
    let output = context.output;
    let target = &approach.target;
    let state = if facts.ok() {
        output.paint(Tone::Good, "up")
    } else if facts.hello.is_some() {
        output.paint(Tone::Warn, "up, with limits")
    } else if facts.refused() {
        output.paint(Tone::Bad, "answers, but refused this client")
    } else if facts.reachable() {
        output.paint(Tone::Bad, "something answers there, but not as a gateway")
    } else {
        output.paint(Tone::Bad, "down")
    };
    output.line(format!(
        "gateway    {state}  {} ({})",
        target.endpoint, target.url_source
    ))?;
    let mut rows = Vec::new();
    if let Some(error) = facts.error_words() {
        rows.push(("problem", error));
    }
    if let Some(seen) = &facts.hello {
        let server = &seen.hello.server;
        rows.push((
            "version",
            format!("{} · wire {}", server.version, seen.hello.protocol),
        ));
        let uptime = seen.hello.snapshot["uptimeMs"].as_i64();
        if let Some(uptime) = uptime {
            rows.push(("uptime", words::span(uptime)));
        }
        rows.push(("authority", facts.authorized_words(approach)));
    }
    let status = facts.payload("status");
    if let Some(count) = status["sessions"]["count"].as_u64() {
        rows.push(("sessions", count.to_string()));
    }
    if let Some(agents) = status["heartbeat"]["agents"].as_array() {
        let beats: Vec<String> = agents
            .iter()
            .map(|agent| {
                let id = agent["agentId"].as_str().unwrap_or("?");
                let every = agent["every"].as_str().unwrap_or("?");
                if agent["enabled"] == true {
                    format!("{id} every {every}")
                } else {
                    format!("{id} off")
                }
            })
            .collect();
        rows.push(("heartbeat", beats.join(", ")));
    }
    if let Some(queued) = status["queuedSystemEvents"]
        .as_array()
        .filter(|list| !list.is_empty())
    {
        rows.push((
            "queued",
            words::count(queued.len(), "system event", "system events"),
        ));
    }
    if let Some(presence) = facts.payload("system-presence").as_array() {
        rows.push(("presence", words::count(presence.len(), "entry", "entries")));
    }
    if let Some((_, heartbeat)) = deep
        && let Some(ts) = heartbeat["ts"].as_i64()
    {
        let word = heartbeat["status"].as_str().unwrap_or("?");
        rows.push((
            "last beat",
            format!("{word}, {}", words::relative(ts, clock::now_ms())),
        ));
    }
    let width = 9;
    let rows: Vec<String> = rows
        .iter()
        .map(|(label, value)| format!("{label:<width$}  {}", one_line(value)))
        .collect();
    if !rows.is_empty() {
        output.line(rows.join("\n"))?;
    }
    let sessions = status["sessions"]["recent"]
        .as_array()
        .filter(|list| !list.is_empty());
    if let Some(sessions) = sessions {
        let now = clock::now_ms();
        let rows = sessions.iter().take(5).map(|session| {
            let at = session["updatedAt"].as_i64();
            vec![
                session["key"].as_str().unwrap_or("?").to_owned(),
                session["model"].as_str().unwrap_or("-").to_owned(),
                at.map_or_else(|| "-".to_owned(), |at| words::relative(at, now)),
            ]
        });
        output.line("")?;
        let header = ["session", "model", "updated"];
        output.line(table::table(&header, &["session"], rows.collect()))?;
    }
    for hint in facts.hints(approach) {
        output.line(format!("next: {}", one_line(&hint)))?;
    }
    Ok(())
}
