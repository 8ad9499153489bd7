//! `mcp list` and `mcp probe`: the servers whose tools agents may call. Read from the file.

use clap::Args;
use clawgate_gateway::{configured_servers, probe_server};
use serde_json::{Value, json};

use crate::{
    commands::Context,
    config::{Config, Paths},
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{plain, table},
};

/// `mcp list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mcp probe`.
#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// As mcp.servers names it
    #[arg(value_name = "NAME")]
    name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) fn list(context: &Context, args: &ListArgs) -> CommandResult {
    let paths = Paths::of_gateway(&context.globals, &context.env);
    let config = Config::load(&paths.config)?;
    let servers = configured_servers(config.root());
    let output = context.output;
    if args.json {
        let rows = servers.iter().map(|server| {
            json!({
                "name": server.name,
                "transport": server.reached.as_str(),
                "status": server.standing.as_str(),
                "toolPrefix": server.prefix,
            })
        });
        output.json(&json!({"servers": rows.collect::<Vec<Value>>()}))?;
    } else if servers.is_empty() {
        output.line("no servers; name one under mcp.servers of the configuration")?;
    } else {
        let cells = servers.iter().map(|server| {
            vec![
                server.name.clone(),
                server.reached.as_str().to_owned(),
                server.standing.as_str().to_owned(),
                format!("{}*", server.prefix),
            ]
        });
        let header = ["name", "transport", "status", "tools"];
        output.line(table::table(&header, &["name", "tools"], cells.collect()))?;
    }
    Ok(Exit::Ok)
}

pub(super) async fn probe(context: &Context, args: &ProbeArgs) -> CommandResult {
    let paths = Paths::of_gateway(&context.globals, &context.env);
    let config = Config::load(&paths.config)?;
    let Some(probe) = probe_server(config.root(), &paths.gateway_state_dir, &args.name).await
    else {
        let known = configured_servers(config.root());
        let known: Vec<&str> = known.iter().map(|server| server.name.as_str()).collect();
        return Err(CommandError::new(
            Exit::Failed,
            "SERVER_UNKNOWN",
            format!("no server \"{}\" is configured", args.name),
        )
        .fact("configured", known.join(", "))
        .hint("clawgate mcp list"));
    };
    let output = context.output;
    let took_ms = u64::try_from(probe.took.as_millis()).unwrap_or(u64::MAX);
    match probe.outcome {
        Ok(tools) if args.json => {
            let rows = tools
                .iter()
                .map(|(name, about)| json!({"name": name, "description": about}));
            let tools: Vec<Value> = rows.collect();
            output.json(&json!({
                "name": args.name, "ok": true, "latencyMs": took_ms, "tools": tools,
            }))?;
        }
        Ok(tools) => {
            let cells = tools.into_iter().map(|(name, about)| vec![name, about]);
            let cells: Vec<_> = cells.collect();
            output.line(plain(&format!(
                "{} answers: {} tools in {took_ms} ms",
                args.name,
                cells.len()
            )))?;
            if !cells.is_empty() {
                output.line(table::table(
                    &["tool", "what it does"],
                    &["what it does"],
                    cells,
                ))?;
            }
        }
        Err(why) if args.json => {
            output.json(&json!({
                "name": args.name, "ok": false, "latencyMs": took_ms, "error": why,
            }))?;
            return Ok(Exit::Failed);
        }
        Err(why) => {
            return Err(CommandError::new(Exit::Failed, "SERVER_FAILED", why)
                .hint(format!("clawgate config get mcp.servers.{}", args.name)));
        }
    }
    Ok(Exit::Ok)
}
