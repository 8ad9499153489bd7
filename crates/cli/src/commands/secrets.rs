//! `secrets`: references to secrets, and secrets that stand in the file itself.

use clap::{Args, Subcommand};
use clawgate_gateway::audit_secrets;
use serde_json::{Value, json};

use super::{Context, SLOW_MS, block_on, call_once};
use crate::{app::ConnectArgs, config::Config, error::CommandResult, exit::Exit, output::plain};

/// `secrets`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Have the gateway resolve its references anew
    #[command(after_help = "Examples:\n  clawgate secrets reload")]
    Reload(ConnectArgs),
    /// Secrets that stand in the file as text, and references that cannot be resolved
    #[command(
        after_help = "Programs that hand out secrets are asked for them.\n\nExamples:\n  clawgate secrets audit\n  clawgate secrets audit --check && echo clean"
    )]
    Audit(AuditArgs),
}

/// `secrets audit`.
#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    /// Exit 1 when secrets stand in the file, 2 when references cannot be resolved
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SecretsCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Reload(connect) => connect.json,
            Self::Audit(args) => args.json,
        }
    }
}

pub(crate) fn run(context: &Context, command: &SecretsCommand) -> CommandResult {
    match command {
        SecretsCommand::Reload(connect) => block_on(reload(context, connect)),
        SecretsCommand::Audit(args) => audit(context, args),
    }
}

async fn reload(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let method = "secrets.reload";
    let answer = call_once(context, connect, SLOW_MS, method, Some(&json!({}))).await?;
    if connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    match answer["warningCount"].as_u64() {
        None | Some(0) => context.output.line("secrets reloaded")?,
        Some(count) => context
            .output
            .line(format!("secrets reloaded with {count} warnings"))?,
    }
    Ok(Exit::Ok)
}

fn audit(context: &Context, args: &AuditArgs) -> CommandResult {
    let config = Config::load(&context.paths.config)?;
    let findings = audit_secrets(config.root());
    let broken = findings
        .iter()
        .filter(|finding| finding.unresolved.is_some())
        .count();
    let status = match (findings.is_empty(), broken) {
        (true, _) => "clean",
        (false, 0) => "findings",
        (false, _) => "unresolved",
    };
    let file = config.path.display().to_string();
    if args.json {
        let rows: Vec<Value> = findings
            .iter()
            .map(|finding| match &finding.unresolved {
                None => json!({
                    "code": "PLAINTEXT_FOUND", "severity": "warn", "file": file,
                    "jsonPath": finding.path,
                    "message": format!("{} is stored as plaintext.", finding.path),
                }),
                Some(why) => json!({
                    "code": "REF_UNRESOLVED", "severity": "error", "file": file,
                    "jsonPath": finding.path,
                    "message": format!("{} cannot be resolved: {why}.", finding.path),
                }),
            })
            .collect();
        context.output.json(&json!({
            "version": 1,
            "status": status,
            "filesScanned": if config.exists { json!([file]) } else { json!([]) },
            "summary": {
                "plaintextCount": findings.len() - broken,
                "unresolvedRefCount": broken,
                "shadowedRefCount": 0,
                "legacyResidueCount": 0,
            },
            "findings": rows,
        }))?;
    } else {
        context.output.line(format!("{status}: {file}"))?;
        for finding in &findings {
            let words = match &finding.unresolved {
                None => format!("  {}: stands there as text", finding.path),
                Some(why) => format!("  {}: {why}", finding.path),
            };
            context.output.line(plain(&words))?;
        }
    }
    Ok(match status {
        "findings" if args.check => Exit::Failed,
        "unresolved" if args.check => Exit::Usage,
        _ => Exit::Ok,
    })
}
