//! `config`: the file on this machine, read only.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use crate::{
    config::Config,
    env,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::plain,
};

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// One value; secrets are masked
    #[command(
        after_help = "Examples:\n  clawgate config get gateway.port\n  clawgate config get gateway --json"
    )]
    Get(GetArgs),
    /// Whether the file can be used
    Validate(ValidateArgs),
    /// Where the file is
    File,
}

/// `config get`.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[arg(help = "Dotted path, such as gateway.auth.mode or agents.list[0].id")]
    path: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `config validate`.
#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Get(args) => args.json,
            Self::Validate(args) => args.json,
            Self::File => false,
        }
    }
}

pub(crate) fn run(context: &Context, command: &ConfigCommand) -> CommandResult {
    match command {
        ConfigCommand::Get(args) => get(context, args),
        ConfigCommand::Validate(args) => validate(context, args),
        ConfigCommand::File => {
            context.output.line(shown(context, &context.paths.config));
            Ok(Exit::Ok)
        }
    }
}

fn get(context: &Context, args: &GetArgs) -> CommandResult {
    let config = Config::load(&context.paths.config)?;
    let Some(value) = config.masked(&args.path) else {
        let message = format!("{} is not set in {}", args.path, config.path.display());
        return Err(CommandError::new(Exit::Failed, "NOT_FOUND", message));
    };
    match value.as_str().filter(|_| !args.json) {
        Some(text) => context.output.line(plain(text)),
        None => context.output.json(&value),
    }
    Ok(Exit::Ok)
}

fn validate(context: &Context, args: &ValidateArgs) -> CommandResult {
    let output = context.output;
    let path = &context.paths.config;
    let config = Config::load(path)?;
    let issues = config.issues();
    if args.json {
        let mut report = json!({"valid": issues.is_empty(), "path": path.display().to_string()});
        if !issues.is_empty() {
            report["issues"] = issues
                .iter()
                .map(|issue| json!({"path": issue.path, "message": issue.message}))
                .collect();
        }
        output.json_line(&report);
    } else if issues.is_empty() {
        let note = if config.exists {
            ""
        } else {
            " (not there; defaults are in use)"
        };
        output.line(format!("valid: {}{note}", shown(context, path)));
    } else {
        output.line(format!("not valid: {}", shown(context, path)));
        for issue in &issues {
            let place = if issue.path.is_empty() {
                "(root)"
            } else {
                &issue.path
            };
            output.line(format!("  {place}: {}", issue.message));
        }
    }
    Ok(if issues.is_empty() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// A path as people write it.
fn shown(context: &Context, path: &Path) -> String {
    let home = context
        .env
        .first(env::HOME)
        .map(|(home, _)| Path::new(home));
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}
