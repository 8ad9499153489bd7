//! `doctor`: what is wrong here, why it matters, and what to type.

use clap::Args;
use clawgate_client::Mode;
use clawgate_gateway::{Diagnosis, Finding, Severity, diagnose};
use serde_json::{Value, json};

use super::{
    Context, ORDINARY_MS,
    backup::size,
    gateway::{
        listeners::{Listener, on_port},
        service::{State, Unit},
    },
    probe::{Facts, look},
    security::{Mended, examined, print_findings, print_mended, summary_words},
};
use crate::{
    app::ConnectArgs,
    clock,
    error::CommandResult,
    exit::Exit,
    output::{Tone, table},
    session::Approach,
};

/// `doctor`. Options of the original that decide nothing here are taken and change nothing.
#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the original"
)]
pub(crate) struct DoctorArgs {
    /// Make the changes that are named, and no others
    #[arg(long, visible_alias = "repair")]
    fix: bool,
    /// Read every index of the database too
    #[arg(long)]
    deep: bool,
    #[arg(long, hide = true)]
    yes: bool,
    #[arg(long, hide = true)]
    non_interactive: bool,
    #[arg(long, hide = true)]
    force: bool,
    #[arg(long, hide = true)]
    no_workspace_suggestions: bool,
    #[arg(long, hide = true)]
    generate_gateway_token: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

pub(crate) async fn run(context: &Context, args: &DoctorArgs) -> CommandResult {
    let options = examined(context);
    let mut diagnosis = diagnose(&options, args.deep);
    let mended = args.fix.then(|| {
        let mended = Mended::of(&diagnosis.findings);
        diagnosis = diagnose(&options, args.deep);
        mended
    });
    let mut findings = std::mem::take(&mut diagnosis.findings);
    // What it is about to say of the configuration was said.
    let reached = match Approach::new(context, &args.connect, Mode::Probe, ORDINARY_MS) {
        Ok(approach) => {
            let facts = look(&approach).await;
            findings.extend(reach(&diagnosis, &approach, &facts));
            Some(facts.ok())
        }
        Err(error) => {
            let known = findings.iter().any(|f| f.check_id == "config.invalid");
            if !known {
                findings.push(found(
                    "client.unusable",
                    Severity::Critical,
                    "This client cannot try the gateway",
                    error.message(),
                    error.hints().first().cloned(),
                ));
            }
            None
        }
    };
    findings.extend(service(context));
    findings.sort_by_key(|finding| finding.severity);
    let critical = findings.iter().any(|f| f.severity == Severity::Critical);
    if args.connect.json {
        let report = json!({
            "ok": !critical,
            "ts": clock::now_ms(),
            "stateDir": options.state_dir.display().to_string(),
            "configPath": options.config_path.display().to_string(),
            "gateway": {"holder": diagnosis.holder, "ok": reached},
            "database": {"schemaVersion": diagnosis.schema, "jobs": diagnosis.jobs},
            "freeBytes": diagnosis.free_bytes,
            "version": env!("CARGO_PKG_VERSION"),
            "findings": findings.iter().map(|one| to_json(context, one)).collect::<Vec<_>>(),
            "changes": mended.as_ref().map_or(&[][..], |mended| &mended.changes),
            "errors": mended.as_ref().map_or(&[][..], |mended| &mended.errors),
        });
        context.output.json(&report)?;
    } else {
        print(
            context,
            &options.state_dir.display().to_string(),
            &diagnosis,
            &findings,
        )?;
        match &mended {
            Some(mended) => print_mended(context, mended)?,
            None if findings.iter().any(|finding| finding.mend.is_some()) => {
                let hint = context.globals.typed("clawgate doctor --fix");
                context.output.line(format!("\nnext: {hint}"))?;
            }
            None => {}
        }
    }
    Ok(if critical { Exit::Failed } else { Exit::Ok })
}

fn found(
    check_id: &'static str,
    severity: Severity,
    title: &str,
    detail: impl Into<String>,
    fix: Option<String>,
) -> Finding {
    Finding {
        check_id,
        severity,
        title: title.to_owned(),
        detail: detail.into(),
        remediation: fix,
        mend: None,
    }
}

fn to_json(context: &Context, finding: &Finding) -> Value {
    json!({
        "id": finding.check_id,
        "severity": finding.severity,
        "what": finding.title,
        "why": finding.detail,
        "fix": finding.remediation.as_deref().map(|fix| context.globals.typed(fix)),
        "fixable": finding.mend.is_some(),
    })
}

/// What lies between this client and a gateway that works for it.
fn reach(diagnosis: &Diagnosis, approach: &Approach, facts: &Facts) -> Vec<Finding> {
    let target = &approach.target;
    let hint = || facts.hints(approach).into_iter().next();
    if let Some(seen) = &facts.hello {
        let (theirs, ours) = (
            seen.hello.server.version.as_str(),
            env!("CARGO_PKG_VERSION"),
        );
        let mut found_here = Vec::new();
        if !facts.ok() {
            found_here.push(found(
                "gateway.not_authorized",
                Severity::Critical,
                "The gateway answers, and this client may not use it in full",
                format!(
                    "{}; {}",
                    facts.authorized_words(approach),
                    facts.rpc_words()
                ),
                hint().or_else(|| Some("clawgate auth explain".to_owned())),
            ));
        }
        if theirs != ours {
            found_here.push(found(
                "gateway.other_version",
                Severity::Warn,
                "The gateway that runs is of another version",
                format!("it is {theirs}, this program is {ours}"),
                Some("clawgate gateway restart".to_owned()),
            ));
        }
        return found_here;
    }
    if facts.reachable() {
        let listeners = listeners(target.is_loopback(), target.endpoint.port());
        let is_gateway = facts.refused();
        let who = listeners.first().map(Listener::words);
        return vec![if is_gateway {
            found(
                "gateway.refused",
                Severity::Critical,
                "The gateway refused this client",
                format!(
                    "{}; tried: {}",
                    facts.handshake_words(),
                    target.credential_words()
                ),
                hint(),
            )
        } else {
            found(
                "port.taken",
                Severity::Critical,
                "Something else than a gateway listens on the port",
                format!(
                    "{}: {}",
                    target.endpoint,
                    who.unwrap_or_else(|| facts.handshake_words())
                ),
                Some(
                    "clawgate gateway run --port PORT, and gateway.port in the configuration"
                        .to_owned(),
                ),
            )
        }];
    }
    match &diagnosis.holder {
        Some(holder) if target.is_local_default() => vec![found(
            "gateway.elsewhere",
            Severity::Critical,
            "A gateway runs, and not where it is looked for",
            format!("it is {holder}; it was looked for at {} ({})", target.endpoint, target.url_source),
            Some("give both the same port: gateway.port in the configuration, or CLAWGATE_GATEWAY_PORT".to_owned()),
        )],
        _ => vec![found(
            "gateway.down",
            Severity::Warn,
            "No gateway answers",
            format!("{}: {}", target.endpoint, facts.reachable_words()),
            hint(),
        )],
    }
}

fn listeners(here: bool, port: u16) -> Vec<Listener> {
    if here { on_port(port) } else { Vec::new() }
}

fn service(context: &Context) -> Option<Finding> {
    let state: State = Unit::of(context, false).state();
    if !state.installed {
        return None;
    }
    if let Some(problem) = state.problem() {
        return Some(found(
            "service.program_missing",
            Severity::Critical,
            "The service starts a program that is not there",
            problem,
            Some("clawgate gateway install --force".to_owned()),
        ));
    }
    (state.running() == "stopped").then(|| {
        found(
            "service.stopped",
            Severity::Warn,
            "The service is installed and does not run",
            format!("systemd says it is {}", state.active),
            Some("clawgate gateway start".to_owned()),
        )
    })
}

fn print(
    context: &Context,
    state_dir: &str,
    diagnosis: &Diagnosis,
    findings: &[Finding],
) -> CommandResult<()> {
    let output = context.output;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let database = diagnosis.schema.map(|schema| match diagnosis.jobs {
        Some(jobs) => format!("schema {schema}, {jobs} jobs"),
        None => format!("schema {schema}"),
    });
    output.line(table::pairs(&[
        ("state", state_dir.to_owned()),
        ("gateway", or_none(diagnosis.holder.clone())),
        ("database", or_none(database)),
        (
            "disk",
            or_none(
                diagnosis
                    .free_bytes
                    .map(|free| format!("{} free", size(free))),
            ),
        ),
    ]))?;
    if findings.is_empty() {
        return output.line(output.paint(Tone::Good, "\nnothing is wrong"));
    }
    output.line(format!("\n{}", summary_words(findings)))?;
    print_findings(context, findings)
}
