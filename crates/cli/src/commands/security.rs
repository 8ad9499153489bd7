//! `security audit`: what of this installation is open to others.

use clap::{Args, Subcommand};
use clawgate_client::Mode;
use clawgate_gateway::{ExamineOptions, Finding, Severity, audit};
use serde_json::{Value, json, to_value};

use super::{
    Context, ORDINARY_MS,
    probe::{Facts, look},
};
use crate::{
    app::ConnectArgs,
    clock,
    config::Paths,
    env,
    error::CommandResult,
    exit::Exit,
    output::{Tone, plain},
    session::Approach,
};

/// `security`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecurityCommand {
    /// Configuration, files, grants, tokens: what each opens, and to whom
    #[command(
        long_about = "Configuration, files, grants, tokens: what each opens, and to whom.\n\nIt reads, and asks the gateway only with --deep. --fix closes files to others; everything else is decided by you. Exits 0 whatever it finds, as the original does.",
        after_help = "Examples:\n  clawgate security audit\n  clawgate security audit --fix\n  clawgate security audit --json | jq -e '.summary.critical == 0'"
    )]
    Audit(AuditArgs),
}

/// `security audit`.
#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    /// Also ask the gateway, as one who has no device would
    #[arg(long)]
    deep: bool,
    /// Close files to others
    #[arg(long)]
    fix: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl SecurityCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::Audit(args) => &args.connect,
        }
    }
}

/// What is looked at: this machine's own gateway.
pub(crate) fn examined(context: &Context) -> ExamineOptions {
    let paths = Paths::of_gateway(&context.globals, &context.env);
    ExamineOptions {
        state_dir: paths.state_dir,
        config_path: paths.config,
        environment_password: context.env.of_gateway(env::GATEWAY_PASSWORD),
    }
}

/// The original's report.
pub(crate) fn audit_json(findings: &[Finding]) -> Value {
    json!({
        "ts": clock::now_ms(),
        "summary": {
            "critical": count(findings, Severity::Critical),
            "warn": count(findings, Severity::Warn),
            "info": count(findings, Severity::Info),
        },
        "findings": to_value(findings).expect("findings are plain data"),
    })
}

/// Counts in words.
pub(crate) fn summary_words(findings: &[Finding]) -> String {
    format!(
        "{} critical, {} to look at, {} to know",
        count(findings, Severity::Critical),
        count(findings, Severity::Warn),
        count(findings, Severity::Info),
    )
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|f| f.severity == severity).count()
}

/// What was mended, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Mended {
    pub(crate) changes: Vec<String>,
    pub(crate) errors: Vec<String>,
}

impl Mended {
    /// Mends what can be mended without deciding anything for the operator.
    pub(crate) fn of(findings: &[Finding]) -> Self {
        let mut mended = Self::default();
        for mend in findings.iter().filter_map(|finding| finding.mend.as_ref()) {
            match mend.apply() {
                Ok(()) => mended.changes.push(mend.words()),
                Err(error) => mended.errors.push(format!("{}: {error}", mend.words())),
            }
        }
        mended
    }
}

pub(crate) async fn run(context: &Context, command: &SecurityCommand) -> CommandResult {
    let SecurityCommand::Audit(args) = command;
    let options = examined(context);
    let mut findings = audit(&options);
    let mended = args.fix.then(|| {
        let mended = Mended::of(&findings);
        findings = audit(&options);
        mended
    });
    let deep = if args.deep {
        let approach = Approach::new(context, &args.connect, Mode::Probe, ORDINARY_MS)?;
        let facts = look(&approach).await;
        if !facts.ok() {
            findings.push(probe_failed(&facts, &approach));
            findings.sort_by_key(|finding| finding.severity);
        }
        Some(json!({"gateway": {
            "attempted": true,
            "url": approach.target.endpoint.to_string(),
            "ok": facts.ok(),
            "error": facts.error_words(),
            "close": facts.close_json(),
        }}))
    } else {
        None
    };
    if args.connect.json {
        let mut report = audit_json(&findings);
        if let Some(deep) = deep {
            report["deep"] = deep;
        }
        // As in the original: with --fix the report lies beside what was done.
        if let Some(mended) = &mended {
            report = json!({
                "fix": {
                    "ok": mended.errors.is_empty(),
                    "stateDir": options.state_dir.display().to_string(),
                    "configPath": options.config_path.display().to_string(),
                    "configWritten": false,
                    "changes": mended.changes,
                    "actions": mended.changes,
                    "errors": mended.errors,
                },
                "report": report,
            });
        }
        context.output.json(&report)?;
    } else {
        print(context, &findings, mended.as_ref())?;
    }
    Ok(Exit::Ok)
}

fn probe_failed(facts: &Facts, approach: &Approach) -> Finding {
    Finding {
        check_id: "gateway.probe_failed",
        severity: Severity::Warn,
        title: "Gateway probe failed (deep)".to_owned(),
        detail: facts.error_words().unwrap_or_default(),
        remediation: facts.hints(approach).into_iter().next(),
        mend: None,
    }
}

fn print(context: &Context, findings: &[Finding], mended: Option<&Mended>) -> CommandResult<()> {
    let output = context.output;
    output.line(summary_words(findings))?;
    print_findings(context, findings)?;
    if let Some(mended) = mended {
        print_mended(context, mended)?;
    } else if findings.iter().any(|finding| finding.mend.is_some()) {
        let hint = context.globals.typed("clawgate security audit --fix");
        output.line(format!("\nnext: {hint}"))?;
    }
    Ok(())
}

/// Findings in groups, the worst first.
pub(crate) fn print_findings(context: &Context, findings: &[Finding]) -> CommandResult<()> {
    let output = context.output;
    for (severity, title, tone) in [
        (Severity::Critical, "CRITICAL", Tone::Bad),
        (Severity::Warn, "TO LOOK AT", Tone::Warn),
        (Severity::Info, "TO KNOW", Tone::Dim),
    ] {
        let of_it: Vec<&Finding> = findings.iter().filter(|f| f.severity == severity).collect();
        if of_it.is_empty() {
            continue;
        }
        output.line(format!("\n{}", output.paint(tone, title)))?;
        for finding in of_it {
            output.line(plain(&format!("  {}  {}", finding.check_id, finding.title)))?;
            output.line(plain(&format!("    {}", finding.detail)))?;
            if let Some(fix) = &finding.remediation {
                let fix = context.globals.typed(fix);
                output.line(plain(&format!("    fix: {fix}")))?;
            }
        }
    }
    Ok(())
}

/// What was done.
pub(crate) fn print_mended(context: &Context, mended: &Mended) -> CommandResult<()> {
    let output = context.output;
    if mended.changes.is_empty() && mended.errors.is_empty() {
        return output.line("\nnothing was to be mended");
    }
    output.line("\nmended:")?;
    for change in &mended.changes {
        output.line(plain(&format!("  {change}")))?;
    }
    for error in &mended.errors {
        let line = format!("  not: {error}");
        output.line(output.paint(Tone::Bad, plain(&line)))?;
    }
    Ok(())
}
