//! `config`: the file on this machine, read only.

use std::path::Path;

use clap::{Args, Subcommand};
use clawgate_gateway::Issue;
use serde_json::json;

use super::Context;
use crate::{
    config::{Config, judged},
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
    /// Whether a gateway starts with the file; exits 1 if it does not
    #[command(
        after_help = "Examples:\n  clawgate config validate\n  clawgate config validate --config /srv/claw/clawgate.json --json"
    )]
    Validate(ValidateArgs),
    /// Where the file is
    #[command(
        after_help = "Examples:\n  clawgate config file\n  $EDITOR \"$(clawgate config file --json | jq -r .path)\""
    )]
    File(FileArgs),
}

/// `config file`.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
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
            Self::File(args) => args.json,
        }
    }
}

pub(crate) fn run(context: &Context, command: &ConfigCommand) -> CommandResult {
    match command {
        ConfigCommand::Get(args) => get(context, args),
        ConfigCommand::Validate(args) => validate(context, args),
        ConfigCommand::File(args) => {
            let path = &context.paths.config;
            if args.json {
                let report = json!({"path": path.display().to_string(), "exists": path.exists()});
                context.output.json_line(&report)?;
            } else {
                context.output.line(shown(context, path))?;
            }
            Ok(Exit::Ok)
        }
    }
}

fn get(context: &Context, args: &GetArgs) -> CommandResult {
    let config = Config::load(&context.paths.config)?;
    let Some(value) = config.masked(&args.path) else {
        let message = format!("{} is not set in {}", args.path, config.path.display());
        let error = CommandError::new(Exit::Failed, "NOT_FOUND", message);
        // The section around it shows what there is.
        let mut section = args.path.as_str();
        while let Some((outer, _)) = section.rsplit_once('.') {
            section = outer;
            if config.get(section).is_some() {
                return Err(error.hint(format!("clawgate config get {section}")));
            }
        }
        return Err(error.hint("clawgate config file"));
    };
    match value.as_str().filter(|_| !args.json) {
        Some(text) => context.output.line(plain(text))?,
        None => context.output.json(&value)?,
    }
    Ok(Exit::Ok)
}

/// Asks the gateway's own reader: what it calls valid is what `gateway run` starts with.
fn validate(context: &Context, args: &ValidateArgs) -> CommandResult {
    let output = context.output;
    let path = &context.paths.config;
    let (issues, mut warnings) = match judged(path, &context.env) {
        Ok(warnings) => (Vec::new(), warnings),
        Err(error) => (error.issues, Vec::new()),
    };
    let valid = issues.is_empty();
    if valid && Config::load(path)?.text("gateway.mode")?.as_deref() == Some("remote") {
        warnings.push(Issue {
            path: "gateway.mode".to_owned(),
            message: "is remote: for clients; gateway run wants --allow-unconfigured".to_owned(),
        });
    }
    if args.json {
        let mut report = json!({"valid": valid, "path": path.display().to_string()});
        for (member, remarks) in [("issues", &issues), ("warnings", &warnings)] {
            if !remarks.is_empty() {
                report[member] = remarks
                    .iter()
                    .map(|issue| json!({"path": issue.path, "message": issue.message}))
                    .collect();
            }
        }
        output.json_line(&report)?;
    } else {
        let word = if valid { "valid" } else { "not valid" };
        let note = if path.exists() {
            ""
        } else {
            " (not there; defaults are in use)"
        };
        output.line(format!("{word}: {}{note}", shown(context, path)))?;
        for issue in &issues {
            output.line(plain(&remark(issue)))?;
        }
        for warning in &warnings {
            output.line(plain(&format!("{} (warning)", remark(warning))))?;
        }
    }
    Ok(if valid { Exit::Ok } else { Exit::Failed })
}

fn remark(issue: &Issue) -> String {
    let place = if issue.path.is_empty() {
        "(root)"
    } else {
        &issue.path
    };
    format!("  {place}: {}", issue.message)
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
