//! `import`: the state of another gateway, with an account of every thing.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clawgate_gateway::{ImportError, ImportOptions, ImportReport, Remark, StateError};
use serde_json::to_value;

use super::Context;
use crate::{
    app::Globals,
    config::Paths,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Tone, json, plain, table},
};

/// `import`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Jobs, run history, sessions, paired devices, key and configuration of an OpenClaw gateway
    #[command(
        long_about = "Jobs, run history, sessions, paired devices, key and configuration of an OpenClaw gateway.\n\nOpenClaw's files are only read, and its gateway should be stopped first, or both will run the same jobs. The gateway of the target must be stopped. Running it again brings nothing twice.\n\nThe source is named with --from; --state-dir means the same here, because that is what OpenClaw calls it. The target is named with --into; without it, it is the state directory of `gateway run`.",
        after_help = "Examples:\n  clawgate import openclaw --from ~/.openclaw --dry-run\n  clawgate import openclaw --from ~/.openclaw\n  clawgate import openclaw --state-dir ~/.openclaw --into /var/lib/clawgate\n  clawgate import openclaw --from ~/.openclaw --json | jq '.skipped'"
    )]
    Openclaw(OpenclawArgs),
}

/// `import openclaw`.
#[derive(Args, Debug)]
pub(crate) struct OpenclawArgs {
    /// OpenClaw's state directory
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The same as --from, which is what OpenClaw calls it; never the target
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// State directory that it comes into (default: the one of `gateway run`)
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Say what would come, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ImportCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Openclaw(args) => args.json,
        }
    }
}

pub(crate) fn run(context: &Context, command: &ImportCommand) -> CommandResult {
    match command {
        ImportCommand::Openclaw(args) => openclaw(context, args),
    }
}

fn openclaw(context: &Context, args: &OpenclawArgs) -> CommandResult {
    let options = options(context, args)?;
    let report = clawgate_gateway::import(&options).map_err(|error| failure(&error))?;
    if args.json {
        let report = to_value(&report).expect("a report is plain data");
        context.output.json(&report)?;
    } else {
        render(context, &options, &report)?;
    }
    Ok(Exit::Ok)
}

/// Which directory is which. `--state-dir` is an option of every command and names the gateway's
/// own directory elsewhere; here it is the source, and both at once are a question.
fn options(context: &Context, args: &OpenclawArgs) -> CommandResult<ImportOptions> {
    let source = match (
        &args.from,
        args.state_dir
            .as_ref()
            .or(context.globals.state_dir.as_ref()),
    ) {
        (Some(from), None) => from,
        (None, Some(from)) => from,
        (Some(_), Some(_)) => {
            return Err(
                CommandError::usage("--from and --state-dir both name the source here")
                    .hint("name the target with --into"),
            );
        }
        (None, None) => {
            return Err(CommandError::usage(
                "the source is missing: --from DIR, OpenClaw's state directory",
            )
            .hint("clawgate import openclaw --from ~/.openclaw --dry-run"));
        }
    };
    let globals = Globals {
        state_dir: args.into.clone(),
        ..context.globals.clone()
    };
    let paths = Paths::of_gateway(&globals, &context.env);
    Ok(ImportOptions {
        source: source.clone(),
        state_dir: paths.state_dir,
        config_path: paths.config,
        dry_run: args.dry_run,
    })
}

fn failure(error: &ImportError) -> CommandError {
    let code = match error {
        ImportError::State(StateError::Held { .. }) => "TARGET_IN_USE",
        ImportError::Unreadable { .. } => "SOURCE_UNREADABLE",
        ImportError::NoSource { .. } | ImportError::NothingThere { .. } => "SOURCE_MISSING",
        ImportError::SameDirectory { .. } => "SOURCE_IS_TARGET",
        _ => "IMPORT",
    };
    let failure = CommandError::new(Exit::Failed, code, error.to_string());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn render(context: &Context, options: &ImportOptions, report: &ImportReport) -> CommandResult<()> {
    let output = context.output;
    let target = options.state_dir.display();
    let taken = if report.dry_run { "would come" } else { "came" };
    let rows = report.kinds.iter().map(|tally| {
        vec![
            tally.kind.to_owned(),
            tally.read.to_string(),
            tally.taken.to_string(),
            tally.skipped.to_string(),
            tally.note.clone(),
        ]
    });
    output.line(table::table(
        &["kind", "read", taken, "skipped", "note"],
        &["kind"],
        rows.collect(),
    ))?;
    for (title, remarks) in [
        ("Did not come:", &report.skipped),
        ("To know about what came:", &report.remarks),
    ] {
        if !remarks.is_empty() {
            output.line(format!("\n{}", output.paint(Tone::Bold, title)))?;
            for remark in remarks {
                output.line(line(remark))?;
            }
        }
    }
    if let Some(config) = report.config.as_ref().filter(|_| report.dry_run) {
        let path = options.config_path.display();
        let title = format!("{path} would be:");
        output.line(format!("\n{}", output.paint(Tone::Bold, title)))?;
        output.line(plain(&json::pretty(config)))?;
    }
    output.line(if report.dry_run {
        format!("\nNothing was written. Without --dry-run it comes into {target}.")
    } else {
        format!(
            "\nEverything that was to come is in {target}, verified by count. Stop OpenClaw's gateway before this one starts, or both run the same jobs."
        )
    })
}

fn line(remark: &Remark) -> String {
    let count = match remark.count {
        1 => String::new(),
        count => format!(" ({count})"),
    };
    plain(&format!(
        "  {} {}{count}: {}",
        remark.kind, remark.what, remark.why
    ))
}
