//! `channels`: what the gateway is connected to.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Context, ORDINARY_MS, block_on, call_once};
use crate::{app::ConnectArgs, clock, error::CommandResult, exit::Exit, output::table};

/// `channels`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelsCommand {
    /// Configured channels and accounts
    #[command(after_help = "Examples:\n  clawgate channels list\n  clawgate channels list --json")]
    List(ListArgs),
    /// How the channels of the running gateway are
    #[command(
        after_help = "Examples:\n  clawgate channels status\n  clawgate channels status --probe --json"
    )]
    Status(StatusArgs),
}

/// `channels list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Leave usage out
    #[arg(long)]
    no_usage: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `channels status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Have every channel looked at anew
    #[arg(long)]
    probe: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl ChannelsCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Status(args) => args.connect.json,
        }
    }
}

/// What there is to say without channels.
const NONE: &str = "no channels: this gateway connects none";

pub(crate) fn run(context: &Context, command: &ChannelsCommand) -> CommandResult {
    match command {
        ChannelsCommand::List(args) => {
            if args.json {
                let mut list = json!({"chat": {}, "auth": []});
                if !args.no_usage {
                    list["usage"] = json!({"updatedAt": clock::now_ms(), "providers": []});
                }
                context.output.json(&list)?;
            } else {
                context.output.line(NONE)?;
            }
            Ok(Exit::Ok)
        }
        ChannelsCommand::Status(args) => block_on(status(context, args)),
    }
}

async fn status(context: &Context, args: &StatusArgs) -> CommandResult {
    let timeout = args.connect.timeout.unwrap_or(ORDINARY_MS);
    let params = json!({"probe": args.probe, "timeoutMs": timeout});
    let method = "channels.status";
    let answer = call_once(context, &args.connect, ORDINARY_MS, method, Some(&params)).await?;
    if args.connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let accounts = answer["channelAccounts"].as_object();
    let rows: Vec<Vec<String>> = accounts
        .into_iter()
        .flatten()
        .flat_map(|(channel, accounts)| {
            let accounts = accounts.as_array().into_iter().flatten();
            accounts.map(move |account| row(channel, account))
        })
        .collect();
    if rows.is_empty() {
        context.output.line(NONE)?;
    } else {
        let header = ["channel", "account", "state"];
        context
            .output
            .line(table::table(&header, &["channel"], rows))?;
    }
    Ok(Exit::Ok)
}

fn row(channel: &str, account: &Value) -> Vec<String> {
    let mut states = Vec::new();
    for (key, word) in [
        ("configured", "configured"),
        ("linked", "linked"),
        ("running", "running"),
        ("connected", "connected"),
    ] {
        if account[key] == true {
            states.push(word);
        }
    }
    let id = account["accountId"].as_str().unwrap_or("default");
    vec![channel.to_owned(), id.to_owned(), states.join(", ")]
}
