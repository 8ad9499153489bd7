//! `health`: is it well?

use clap::Args;
use serde_json::{Value, json};

use super::{Context, ORDINARY_MS, call_once};
use crate::{
    app::ConnectArgs,
    clock,
    error::CommandResult,
    exit::Exit,
    output::{Tone, table},
    words,
};

/// `health`.
#[derive(Args, Debug)]
pub(crate) struct HealthArgs {
    /// Have the gateway look anew instead of telling what it knows
    #[arg(long)]
    verbose: bool,
    /// Accepted for scripts; like --verbose
    #[arg(long, hide = true)]
    debug: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

pub(crate) async fn run(context: &Context, args: &HealthArgs) -> CommandResult {
    let started = clock::instant();
    let params = (args.verbose || args.debug).then(|| json!({"probe": true}));
    let health = call_once(
        context,
        &args.connect,
        ORDINARY_MS,
        "health",
        params.as_ref(),
    )
    .await?;
    if args.connect.json {
        context.output.json(&health)?;
    } else {
        print(context, &health, started.elapsed().as_millis())?;
    }
    Ok(Exit::Ok)
}

fn print(context: &Context, health: &Value, took_ms: u128) -> CommandResult<()> {
    let output = context.output;
    let ok = health["ok"] == true;
    let word = if ok {
        output.paint(Tone::Good, "healthy")
    } else {
        output.paint(Tone::Bad, "not healthy")
    };
    output.line(format!("{word} ({took_ms} ms)"))?;
    let mut rows = Vec::new();
    if let Some(trouble) = health["disk"]["message"].as_str() {
        rows.push(("disk", trouble.to_owned()));
    }
    if let Some(seconds) = health["heartbeatSeconds"].as_i64() {
        // The period is told whether or not anything beats.
        let off = seconds == 0
            || health["agents"].as_array().is_some_and(|agents| {
                !agents.is_empty()
                    && agents
                        .iter()
                        .all(|agent| agent["heartbeat"]["enabled"] == false)
            });
        let heartbeat = if off {
            "off".to_owned()
        } else {
            format!("every {}", words::span(seconds.saturating_mul(1000)))
        };
        rows.push(("heartbeat", heartbeat));
    }
    if let Some(agents) = health["agents"].as_array() {
        let ids: Vec<&str> = agents
            .iter()
            .filter_map(|agent| agent["agentId"].as_str())
            .collect();
        rows.push(("agents", ids.join(", ")));
    }
    if let Some(count) = health["sessions"]["count"].as_u64() {
        rows.push(("sessions", count.to_string()));
    }
    if let Some(channels) = health["channelOrder"]
        .as_array()
        .filter(|list| !list.is_empty())
    {
        let names: Vec<&str> = channels.iter().filter_map(Value::as_str).collect();
        rows.push(("channels", names.join(", ")));
    }
    if !rows.is_empty() {
        output.line(table::pairs(&rows))?;
    }
    Ok(())
}
