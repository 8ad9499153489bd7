//! `backup`: make one, look into one, bring one back.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clawgate_gateway::{
    BackupError, BackupOptions, BackupReport, RestoreOptions, Restored, Skipped, backup,
    list_backups, restore_backup, verify_backup,
};
use serde_json::{json, to_value};

use super::Context;
use crate::{
    app::Globals,
    config::Paths,
    env,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{plain, table},
};

/// `backup`.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup, while the gateway runs or not
    #[command(
        long_about = "Make a backup, while the gateway runs or not.\n\nThe archive holds the whole state directory: the database as one snapshot, keys, the generated token, the configuration, workspaces. Logs stay out. It holds every secret of the gateway, so it is readable by you alone; keep it so.",
        after_help = "Examples:\n  clawgate backup create\n  clawgate backup create --output /mnt/backups --verify\n  clawgate backup create --only-config --output config.tar.gz --json"
    )]
    Create(CreateArgs),
    /// Read a backup in full and say whether it is good
    #[command(
        after_help = "Examples:\n  clawgate backup verify ARCHIVE\n  clawgate backup verify ARCHIVE --json | jq .schemaVersion"
    )]
    Verify(VerifyArgs),
    /// Bring a backup back into a state directory
    #[command(
        long_about = "Bring a backup back into a state directory.\n\nThe archive is verified in full beside the target and takes its place in one rename. A target that holds a state is refused; with --force that state is put into a backup of its own first. Whoever holds a token of the gateway then holds it again: what was revoked after the backup was made is valid anew.",
        after_help = "Examples:\n  clawgate backup restore ARCHIVE --dry-run\n  clawgate backup restore ARCHIVE --into /var/lib/clawgate\n  clawgate backup restore ARCHIVE --force"
    )]
    Restore(RestoreArgs),
    /// Backups in a directory
    #[command(
        after_help = "Examples:\n  clawgate backup list\n  clawgate backup list /mnt/backups --json"
    )]
    List(ListArgs),
}

/// `backup create`.
#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the original"
)]
pub(crate) struct CreateArgs {
    /// File to make, or a directory to make one in (default: this one)
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Say what would go into it, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Read it back afterwards
    #[arg(long)]
    verify: bool,
    /// Only the configuration file
    #[arg(long)]
    only_config: bool,
    /// Without the agents' workspaces
    #[arg(long)]
    no_include_workspace: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `backup verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The backup
    archive: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `backup restore`.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The backup
    archive: PathBuf,
    /// State directory that it becomes (default: the one of `gateway run`)
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Replace what is there, once that is in a backup of its own
    #[arg(long)]
    force: bool,
    /// Verify, say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `backup list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Where they are (default: this directory)
    directory: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BackupCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Create(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Restore(args) => args.json,
            Self::List(args) => args.json,
        }
    }
}

pub(crate) fn run(context: &Context, command: &BackupCommand) -> CommandResult {
    match command {
        BackupCommand::Create(args) => create(context, args),
        BackupCommand::Verify(args) => verify(context, args),
        BackupCommand::Restore(args) => restore(context, args),
        BackupCommand::List(args) => list(context, args),
    }
}

fn failure(error: &BackupError) -> CommandError {
    let failure = CommandError::new(Exit::Failed, error.code(), error.to_string());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn create(context: &Context, args: &CreateArgs) -> CommandResult {
    let paths = Paths::of_gateway(&context.globals, &context.env);
    let report = backup(&BackupOptions {
        state_dir: paths.state_dir,
        config_path: paths.config,
        output: args.output.clone().unwrap_or_else(|| PathBuf::from(".")),
        only_config: args.only_config,
        include_workspace: !args.no_include_workspace,
        dry_run: args.dry_run,
        verify: args.verify,
        home: context.env.first(env::HOME).map(|(home, _)| home.into()),
    })
    .map_err(|error| failure(&error))?;
    if args.json {
        context
            .output
            .json(&to_value(&report).expect("a report is plain data"))?;
    } else {
        render(context, &report)?;
    }
    Ok(Exit::Ok)
}

fn render(context: &Context, report: &BackupReport) -> CommandResult<()> {
    let output = context.output;
    let archive = report.archive_path.display();
    output.line(if report.dry_run {
        format!("{archive} would hold {} files", report.files)
    } else {
        let verified = if report.verified { ", verified" } else { "" };
        format!(
            "{archive}  {} files, {}{verified}",
            report.files,
            size(report.bytes)
        )
    })?;
    for asset in &report.assets {
        output.line(plain(&format!(
            "  {:<9}  {}",
            asset.kind, asset.display_path
        )))?;
    }
    stays_out(context, &report.skipped)?;
    if !report.dry_run && !report.verified {
        let hint = format!("clawgate backup verify {archive}");
        output.line(format!("next: {}", context.globals.typed(&hint)))?;
    }
    Ok(())
}

fn stays_out(context: &Context, skipped: &[Skipped]) -> CommandResult<()> {
    for one in skipped {
        let why = match one.reason.as_str() {
            "covered" => continue,
            "not-state" => "not a part of the state",
            "not-wanted" => "left out as asked",
            "not-a-file" => "neither a file nor a directory",
            "name-is-no-text" => "its name is no text",
            "gone" => "went away meanwhile",
            "outside-the-state-directory" => {
                "lay elsewhere; take it out with tar, below payload/posix"
            }
            other => other,
        };
        context
            .output
            .line(plain(&format!("  not        {}: {why}", one.display_path)))?;
    }
    Ok(())
}

fn verify(context: &Context, args: &VerifyArgs) -> CommandResult {
    let verified = verify_backup(&args.archive).map_err(|error| failure(&error))?;
    if args.json {
        context
            .output
            .json(&to_value(&verified).expect("a report is plain data"))?;
        return Ok(Exit::Ok);
    }
    let database = verified.schema_version.map_or_else(
        || "none".to_owned(),
        |version| format!("whole, schema {version}"),
    );
    context.output.line(table::pairs(&[
        (
            "backup",
            format!("{} is good", verified.archive_path.display()),
        ),
        (
            "made",
            format!("{} by {}", verified.created_at, verified.runtime_version),
        ),
        ("entries", verified.entry_count.to_string()),
        ("database", database),
    ]))?;
    Ok(Exit::Ok)
}

fn restore(context: &Context, args: &RestoreArgs) -> CommandResult {
    let globals = Globals {
        state_dir: args.into.clone().or(context.globals.state_dir.clone()),
        ..context.globals.clone()
    };
    let paths = Paths::of_gateway(&globals, &context.env);
    let restored = restore_backup(&RestoreOptions {
        archive: args.archive.clone(),
        state_dir: paths.state_dir,
        config_path: context.globals.config.clone(),
        force: args.force,
        dry_run: args.dry_run,
    })
    .map_err(|error| failure(&error))?;
    if args.json {
        context
            .output
            .json(&to_value(&restored).expect("a report is plain data"))?;
    } else {
        render_restored(context, &restored)?;
    }
    Ok(Exit::Ok)
}

fn render_restored(context: &Context, restored: &Restored) -> CommandResult<()> {
    let output = context.output;
    let target = restored.state_dir.display();
    let (files, made) = (restored.files, &restored.created_at);
    output.line(if restored.dry_run {
        format!("good; {files} files of {made} would come into {target}. Nothing was written.")
    } else {
        format!("{target} is the state of {made} again, {files} files")
    })?;
    if let Some(config) = &restored.config_path {
        output.line(format!("  configuration  {}", config.display()))?;
    }
    if let Some(replaced) = &restored.replaced {
        output.line(format!("  what was there {}", replaced.display()))?;
    }
    stays_out(context, &restored.skipped)
}

fn list(context: &Context, args: &ListArgs) -> CommandResult {
    let directory = args.directory.clone().unwrap_or_else(|| PathBuf::from("."));
    let found = list_backups(&directory).map_err(|error| failure(&error))?;
    let output = context.output;
    if args.json {
        let backups = to_value(&found).expect("a list is plain data");
        output.json(&json!({"directory": directory.display().to_string(), "backups": backups}))?;
        return Ok(Exit::Ok);
    }
    if found.is_empty() {
        output.line(format!("no backups in {}", directory.display()))?;
        return Ok(Exit::Ok);
    }
    let rows = found.iter().map(|one| {
        vec![
            one.created_at.clone(),
            size(one.bytes),
            one.runtime_version.clone(),
            if one.has_database {
                "whole state"
            } else {
                "configuration"
            }
            .to_owned(),
            one.archive_path.display().to_string(),
        ]
    });
    output.line(table::table(
        &["made", "size", "by", "holds", "backup"],
        &["backup"],
        rows.collect(),
    ))?;
    Ok(Exit::Ok)
}

/// Bytes in a unit that reads.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{} GiB", bytes / 1_073_741_824),
    }
}
