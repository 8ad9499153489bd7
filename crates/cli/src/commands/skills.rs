//! `skills`: what there is on this machine and what it lacks. Read from the disk.

use clap::{Args, Subcommand};
use clawgate_gateway::{Roster, skill_report};
use clawgate_protocol::skill::{Requirements, SkillReport, SkillStatus};
use serde_json::{Value, json};

use super::Context;
use crate::{
    config::{Config, Paths},
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{plain, table},
};

/// `skills`.
#[derive(Debug, Subcommand)]
pub(crate) enum SkillsCommand {
    /// Every skill of the default agent
    #[command(
        after_help = "Examples:\n  clawgate skills list\n  clawgate skills list --eligible --json | jq -r '.skills[].name'"
    )]
    List(ListArgs),
    /// One skill
    #[command(after_help = "Examples:\n  clawgate skills info weather")]
    Info(InfoArgs),
    /// Which can be used, and what the others lack
    #[command(
        after_help = "Examples:\n  clawgate skills check\n  clawgate skills check --json | jq .summary"
    )]
    Check(CheckArgs),
}

/// `skills list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Those that can be used
    #[arg(long)]
    eligible: bool,
    /// Say what is missing
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `skills info`.
#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    /// Which skill
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `skills check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SkillsCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Info(args) => args.json,
            Self::Check(args) => args.json,
        }
    }
}

pub(crate) fn run(context: &Context, command: &SkillsCommand) -> CommandResult {
    let paths = Paths::of_gateway(&context.globals, &context.env);
    let config = Config::load(&paths.config)?;
    let roster = Roster::of(config.root(), &paths.state_dir);
    let report = skill_report(roster.default_agent(), config.root(), &paths.state_dir);
    match command {
        SkillsCommand::List(args) => list(context, report, args),
        SkillsCommand::Info(args) => info(context, &report, args),
        SkillsCommand::Check(args) => check(context, &report, args),
    }
}

/// One word for how it stands.
fn state(skill: &SkillStatus) -> &'static str {
    if skill.disabled {
        "disabled"
    } else if skill.eligible {
        "ready"
    } else {
        "missing"
    }
}

/// What is missing, in words.
fn lacks(missing: &Requirements) -> String {
    let mut words = Vec::new();
    for (kind, names) in [
        ("bins", &missing.bins),
        ("any of", &missing.any_bins),
        ("env", &missing.env),
        ("config", &missing.config),
        ("os", &missing.os),
    ] {
        if !names.is_empty() {
            words.push(format!("{kind}: {}", names.join(", ")));
        }
    }
    words.join("; ")
}

/// A skill without what only `info` tells.
fn short(skill: &SkillStatus) -> Value {
    let whole = serde_json::to_value(skill).unwrap_or_default();
    let mut row = json!({});
    for key in [
        "name",
        "description",
        "emoji",
        "eligible",
        "disabled",
        "blockedByAllowlist",
        "source",
        "bundled",
        "primaryEnv",
        "homepage",
        "missing",
    ] {
        if let Some(value) = whole.get(key) {
            row[key] = value.clone();
        }
    }
    row
}

fn none(context: &Context, report: &SkillReport) -> CommandResult {
    context.output.line(plain(&format!(
        "no skills; put directories with a SKILL.md into {} or {}/skills",
        report.managed_skills_dir, report.workspace_dir
    )))?;
    Ok(Exit::Ok)
}

fn list(context: &Context, mut report: SkillReport, args: &ListArgs) -> CommandResult {
    if args.eligible {
        report.skills.retain(|skill| skill.eligible);
    }
    if args.json {
        let rows: Vec<Value> = report.skills.iter().map(short).collect();
        context.output.json(&json!({
            "workspaceDir": report.workspace_dir,
            "managedSkillsDir": report.managed_skills_dir,
            "skills": rows,
        }))?;
        return Ok(Exit::Ok);
    }
    if report.skills.is_empty() {
        return none(context, &report);
    }
    let rows = report.skills.iter().map(|skill| {
        let missing = if args.verbose {
            lacks(&skill.missing)
        } else {
            String::new()
        };
        vec![
            state(skill).to_owned(),
            skill.name.clone(),
            skill.source.clone(),
            skill.description.clone(),
            missing,
        ]
    });
    let header = ["state", "skill", "source", "description", "lacks"];
    context
        .output
        .line(table::table(&header, &["skill"], rows.collect()))?;
    Ok(Exit::Ok)
}

fn info(context: &Context, report: &SkillReport, args: &InfoArgs) -> CommandResult {
    let found = report
        .skills
        .iter()
        .find(|skill| skill.name == args.name || skill.skill_key == args.name);
    let Some(skill) = found else {
        let message = format!("no skill {}", args.name);
        return Err(
            CommandError::new(Exit::Failed, "NOT_FOUND", message).hint("clawgate skills list")
        );
    };
    if args.json {
        context
            .output
            .json(&serde_json::to_value(skill).unwrap_or_default())?;
        return Ok(Exit::Ok);
    }
    let mut rows = vec![
        ("skill", skill.name.clone()),
        ("state", state(skill).to_owned()),
        ("for", skill.description.clone()),
        ("source", skill.source.clone()),
        ("file", skill.file_path.clone()),
        ("key", format!("skills.entries.{}", skill.skill_key)),
    ];
    if let Some(homepage) = &skill.homepage {
        rows.push(("homepage", homepage.clone()));
    }
    if !skill.requirements.is_empty() {
        rows.push(("needs", lacks(&skill.requirements)));
    }
    if !skill.missing.is_empty() {
        rows.push(("lacks", lacks(&skill.missing)));
    }
    for option in &skill.install {
        rows.push(("to install", option.label.clone()));
    }
    context.output.line(plain(&table::pairs(&rows)))?;
    Ok(Exit::Ok)
}

fn check(context: &Context, report: &SkillReport, args: &CheckArgs) -> CommandResult {
    let names = |wanted: &dyn Fn(&SkillStatus) -> bool| -> Vec<&str> {
        let skills = report.skills.iter().filter(|skill| wanted(skill));
        skills.map(|skill| skill.name.as_str()).collect()
    };
    let eligible = names(&|skill| skill.eligible);
    let disabled = names(&|skill| skill.disabled);
    let lacking: Vec<&SkillStatus> = report
        .skills
        .iter()
        .filter(|skill| !skill.eligible && !skill.disabled)
        .collect();
    if args.json {
        let rows: Vec<Value> = lacking
            .iter()
            .map(|skill| json!({"name": skill.name, "missing": skill.missing, "install": skill.install}))
            .collect();
        context.output.json(&json!({
            "summary": {
                "total": report.skills.len(),
                "eligible": eligible.len(),
                "disabled": disabled.len(),
                "blocked": 0,
                "missingRequirements": lacking.len(),
            },
            "eligible": eligible,
            "disabled": disabled,
            "blocked": [],
            "missingRequirements": rows,
        }))?;
        return Ok(Exit::Ok);
    }
    if report.skills.is_empty() {
        return none(context, report);
    }
    let mut rows = vec![
        ("ready", eligible.join(", ")),
        ("disabled", disabled.join(", ")),
    ];
    for skill in lacking {
        rows.push((
            "lacking",
            format!("{} ({})", skill.name, lacks(&skill.missing)),
        ));
    }
    rows.retain(|(_, words)| !words.is_empty());
    context.output.line(plain(&table::pairs(&rows)))?;
    Ok(Exit::Ok)
}
