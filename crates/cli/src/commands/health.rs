//! `health`: is it well?

use serde_json::Value;

use super::{Context, ORDINARY_MS, call_once};
use crate::{
    app::ConnectArgs,
    clock,
    error::CommandResult,
    exit::Exit,
    output::{Tone, table},
    words,
};

pub(crate) async fn run(context: &Context, args: &ConnectArgs) -> CommandResult {
    let started = clock::instant();
    let health = call_once(context, args, ORDINARY_MS, "health", None).await?;
    if args.json {
        context.output.json(&health);
    } else {
        print(context, &health, started.elapsed().as_millis());
    }
    Ok(Exit::Ok)
}

fn print(context: &Context, health: &Value, took_ms: u128) {
    let output = context.output;
    let ok = health["ok"] == true;
    let word = if ok {
        output.paint(Tone::Good, "healthy")
    } else {
        output.paint(Tone::Bad, "not healthy")
    };
    output.line(format!("{word} ({took_ms} ms)"));
    let mut rows = Vec::new();
    if let Some(seconds) = health["heartbeatSeconds"].as_i64() {
        rows.push((
            "heartbeat",
            format!("every {}", words::span(seconds * 1000)),
        ));
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
        output.line(table::pairs(&rows));
    }
}
