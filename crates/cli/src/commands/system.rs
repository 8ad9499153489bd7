//! `system`: who is here, what the main session should hear, heartbeats.

use clap::{Args, Subcommand};
use clawgate_protocol::system::{PresenceEntry, WakeParams};
use serde_json::{Value, json};

use super::{Context, SLOW_MS, call_once, read};
use crate::{app::ConnectArgs, clock, error::CommandResult, exit::Exit, output::table, words};

/// `system`.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Who is connected
    #[command(
        after_help = "Examples:\n  clawgate system presence\n  clawgate system presence --json | jq -r '.[].host'"
    )]
    Presence(ConnectArgs),
    /// Tell the main session something
    #[command(
        after_help = "Examples:\n  clawgate system event --text 'build finished'\n  clawgate system event --text 'look now' --mode now"
    )]
    Event(EventArgs),
    /// The heartbeat: last one, on, off
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate system heartbeat last\n  clawgate system heartbeat disable"
    )]
    Heartbeat(HeartbeatCommand),
}

/// `system event`.
#[derive(Args, Debug)]
pub(crate) struct EventArgs {
    /// What to say
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
    /// Wake the agent now, or let it read this with the next heartbeat
    #[arg(long, value_name = "MODE", default_value = "next-heartbeat", value_parser = ["now", "next-heartbeat"])]
    mode: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `system heartbeat`.
#[derive(Debug, Subcommand)]
pub(crate) enum HeartbeatCommand {
    /// The last one
    #[command(after_help = "Examples:\n  clawgate system heartbeat last")]
    Last(ConnectArgs),
    /// Turn heartbeats on
    #[command(after_help = "Examples:\n  clawgate system heartbeat enable")]
    Enable(ConnectArgs),
    /// Turn heartbeats off
    #[command(after_help = "Examples:\n  clawgate system heartbeat disable")]
    Disable(ConnectArgs),
}

impl SystemCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::Event(args) => &args.connect,
            Self::Presence(connect)
            | Self::Heartbeat(
                HeartbeatCommand::Last(connect)
                | HeartbeatCommand::Enable(connect)
                | HeartbeatCommand::Disable(connect),
            ) => connect,
        }
    }
}

pub(crate) async fn run(context: &Context, command: SystemCommand) -> CommandResult {
    let output = context.output;
    let connect = command.connect();
    // The original prints JSON for all of these but the event, asked or not.
    let as_json = match &command {
        SystemCommand::Event(_) => connect.json,
        SystemCommand::Presence(_) | SystemCommand::Heartbeat(_) => {
            output.always_json(connect.json)
        }
    };
    let (method, params) = match &command {
        SystemCommand::Presence(_) => ("system-presence", json!({})),
        SystemCommand::Event(args) => {
            let params = WakeParams {
                mode: args.mode.clone(),
                text: args.text.clone(),
                agent_id: None,
                session_key: None,
            };
            ("wake", serde_json::to_value(params).unwrap_or_default())
        }
        SystemCommand::Heartbeat(HeartbeatCommand::Last(_)) => ("last-heartbeat", json!({})),
        SystemCommand::Heartbeat(HeartbeatCommand::Enable(_)) => {
            ("set-heartbeats", json!({"enabled": true}))
        }
        SystemCommand::Heartbeat(HeartbeatCommand::Disable(_)) => {
            ("set-heartbeats", json!({"enabled": false}))
        }
    };
    let answer = call_once(context, connect, SLOW_MS, method, Some(&params)).await?;
    if as_json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let text = match command {
        SystemCommand::Presence(_) => presence(&read::<Vec<PresenceEntry>>(method, &answer)?),
        SystemCommand::Event(args) if args.mode == "now" => "told; the agent is woken".to_owned(),
        SystemCommand::Event(_) => "told; the agent reads it with the next heartbeat".to_owned(),
        SystemCommand::Heartbeat(HeartbeatCommand::Last(_)) => heartbeat(&answer),
        SystemCommand::Heartbeat(HeartbeatCommand::Enable(_)) => "heartbeats are on".to_owned(),
        SystemCommand::Heartbeat(HeartbeatCommand::Disable(_)) => "heartbeats are off".to_owned(),
    };
    output.line(text)?;
    Ok(Exit::Ok)
}

fn presence(entries: &[PresenceEntry]) -> String {
    if entries.is_empty() {
        return "nobody is here".to_owned();
    }
    let now = clock::now_ms();
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = entries
        .iter()
        .map(|entry| {
            vec![
                or_dash(&entry.host),
                or_dash(&entry.mode),
                or_dash(&entry.version),
                or_dash(&entry.platform),
                or_dash(&entry.ip),
                or_dash(&entry.reason),
                words::relative(entry.ts, now),
            ]
        })
        .collect();
    table::table(
        &[
            "host", "mode", "version", "platform", "ip", "reason", "seen",
        ],
        &[],
        rows,
    )
}

fn heartbeat(answer: &Value) -> String {
    let Some(ts) = answer["ts"].as_i64() else {
        return "no heartbeat yet".to_owned();
    };
    let mut rows = vec![("when", words::moment(ts, clock::now_ms()))];
    for (label, member) in [
        ("status", "status"),
        ("reason", "reason"),
        ("said", "preview"),
    ] {
        if let Some(text) = answer[member].as_str() {
            rows.push((label, text.to_owned()));
        }
    }
    if let Some(ms) = answer["durationMs"].as_i64() {
        rows.push(("took", words::span(ms)));
    }
    table::pairs(&rows)
}
