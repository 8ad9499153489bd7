//! `agents`: who is configured on this machine, and changes to that. Like the original these read
//! and write the file itself, so they work without a gateway; one that runs takes changes up.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clawgate_gateway::{Agent, AgentChange, AgentError, Place, Roster};
use clawgate_protocol::agent::Identity;
use serde_json::{Value, json};

use super::Context;
use crate::{
    clock,
    config::{Config, Paths},
    env,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{plain, table},
};

/// `agents`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// Every agent with its workspace and model
    #[command(
        after_help = "Examples:\n  clawgate agents list\n  clawgate agents list --json | jq -r '.[].workspace'"
    )]
    List(ListArgs),
    /// Rules that lead messages to agents
    #[command(
        after_help = "Examples:\n  clawgate agents bindings\n  clawgate agents bindings --agent ops --json"
    )]
    Bindings(BindingsArgs),
    /// Add an agent and make its workspace
    #[command(
        after_help = "Examples:\n  clawgate agents add ops\n  clawgate agents add 'Cat Two' --workspace ~/cat --model anthropic/claude-opus-4-6"
    )]
    Add(AddArgs),
    /// Say who an agent is
    #[command(
        after_help = "Examples:\n  clawgate agents set-identity --agent ops --name Ops --emoji 🐚\n  clawgate agents set-identity --agent ops --from-identity"
    )]
    SetIdentity(SetIdentityArgs),
    /// Remove an agent; its directories in the state directory go to the trash
    #[command(after_help = "Examples:\n  clawgate agents delete ops --force")]
    Delete(DeleteArgs),
}

/// `agents list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Name the rules of each agent
    #[arg(long)]
    bindings: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `agents bindings`.
#[derive(Args, Debug)]
pub(crate) struct BindingsArgs {
    /// Those of one agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `agents add`.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// What to call it; its id is made of this
    name: String,
    /// Its directory (default workspace-ID in the state directory)
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Its model, as provider/model
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    /// Accepted for scripts; nothing is asked anyway
    #[arg(long, hide = true)]
    non_interactive: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `agents set-identity`.
#[derive(Args, Debug)]
pub(crate) struct SetIdentityArgs {
    /// Which agent (default: the one of --workspace, else the default agent)
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// The agent that works in this directory
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Read this file
    #[arg(long, value_name = "FILE")]
    identity_file: Option<PathBuf>,
    /// Read IDENTITY.md of the workspace
    #[arg(long, conflicts_with = "identity_file")]
    from_identity: bool,
    /// Name
    #[arg(long)]
    name: Option<String>,
    /// How it is
    #[arg(long)]
    theme: Option<String>,
    /// One emoji
    #[arg(long)]
    emoji: Option<String>,
    /// URL, data URI or a path in the workspace
    #[arg(long, value_name = "VALUE")]
    avatar: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `agents delete`.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// Which agent
    id: String,
    /// Do it; without this nothing happens
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl AgentsCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Bindings(args) => args.json,
            Self::Add(args) => args.json,
            Self::SetIdentity(args) => args.json,
            Self::Delete(args) => args.json,
        }
    }
}

pub(crate) fn run(context: &Context, command: &AgentsCommand) -> CommandResult {
    let paths = Paths::of_gateway(&context.globals, &context.env);
    match command {
        AgentsCommand::List(args) => list(context, &paths, args),
        AgentsCommand::Bindings(args) => bindings(context, &paths, args),
        AgentsCommand::Add(args) => add(context, &paths, args),
        AgentsCommand::SetIdentity(args) => set_identity(context, &paths, args),
        AgentsCommand::Delete(args) => delete(context, &paths, args),
    }
}

fn place<'a>(context: &Context, paths: &'a Paths) -> Place<'a> {
    Place {
        config: &paths.config,
        state: &paths.state_dir,
        password: context.env.of_gateway(env::GATEWAY_PASSWORD),
    }
}

fn failed(error: AgentError) -> CommandError {
    match error {
        AgentError::Refused(why) => CommandError::new(Exit::Failed, "AGENT", why),
        AgentError::Config(error) => CommandError::config(error.to_string()),
        AgentError::Io(error) => CommandError::new(Exit::Failed, "FILE", error.to_string()),
    }
}

/// A rule of `bindings`, in words.
fn description(rule: &Value) -> String {
    let rule = &rule["match"];
    let mut words = vec![rule["channel"].as_str().unwrap_or("any channel").to_owned()];
    if let Some(account) = rule["accountId"].as_str() {
        words.push(format!("accountId={account}"));
    }
    if let (Some(kind), Some(id)) = (rule["peer"]["kind"].as_str(), rule["peer"]["id"].as_str()) {
        words.push(format!("peer={kind}:{id}"));
    }
    for key in ["guildId", "teamId"] {
        if let Some(id) = rule[key].as_str() {
            words.push(format!("{key}={id}"));
        }
    }
    words.join(" ")
}

/// The rules of one agent, or of all.
fn rules<'a>(config: &'a Config, of: Option<&'a str>) -> impl Iterator<Item = &'a Value> {
    let rules = config.get("bindings").and_then(Value::as_array);
    rules
        .into_iter()
        .flatten()
        .filter(move |rule| of.is_none_or(|id| rule["agentId"].as_str().unwrap_or("main") == id))
}

fn row(agent: &Agent, roster: &Roster, config: &Config) -> Value {
    let is_default = agent.id == roster.default_id;
    let mut row = json!({"id": agent.id});
    for (key, value) in [
        ("name", &agent.name),
        ("identityName", &agent.identity.name),
        ("identityEmoji", &agent.identity.emoji),
    ] {
        if let Some(value) = value {
            row[key] = value.as_str().into();
        }
    }
    row["workspace"] = agent.workspace.display().to_string().into();
    row["agentDir"] = agent.agent_dir.display().to_string().into();
    if let Some(model) = &agent.model {
        row["model"] = model.as_str().into();
    }
    row["bindings"] = agent.bindings.into();
    row["isDefault"] = is_default.into();
    let mut routes: Vec<String> = rules(config, Some(&agent.id)).map(description).collect();
    if routes.is_empty() && is_default {
        routes.push("default (no explicit rules)".to_owned());
    }
    row["routes"] = json!(routes);
    row
}

fn list(context: &Context, paths: &Paths, args: &ListArgs) -> CommandResult {
    let config = Config::load(&paths.config)?;
    let roster = Roster::of(config.root(), &paths.state_dir);
    let rows: Vec<Value> = roster
        .agents
        .iter()
        .map(|agent| {
            let mut row = row(agent, &roster, &config);
            if args.bindings {
                let details: Vec<String> =
                    rules(&config, Some(&agent.id)).map(description).collect();
                row["bindingDetails"] = json!(details);
            }
            row
        })
        .collect();
    if args.json {
        context.output.json(&json!(rows))?;
        return Ok(Exit::Ok);
    }
    let cells = roster.agents.iter().zip(&rows).map(|(agent, row)| {
        let routes: Vec<&str> = row["routes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let default = if agent.id == roster.default_id {
            "yes"
        } else {
            ""
        };
        vec![
            agent.id.clone(),
            agent
                .name
                .clone()
                .or_else(|| agent.identity.name.clone())
                .unwrap_or_default(),
            default.to_owned(),
            agent.model.clone().unwrap_or_default(),
            agent.workspace.display().to_string(),
            routes.join(", "),
        ]
    });
    let header = ["id", "name", "default", "model", "workspace", "routes"];
    context
        .output
        .line(table::table(&header, &["id", "workspace"], cells.collect()))?;
    Ok(Exit::Ok)
}

fn bindings(context: &Context, paths: &Paths, args: &BindingsArgs) -> CommandResult {
    let config = Config::load(&paths.config)?;
    let found: Vec<&Value> = rules(&config, args.agent.as_deref()).collect();
    if args.json {
        let rows: Vec<Value> = found
            .iter()
            .map(|rule| {
                json!({"agentId": rule["agentId"].as_str().unwrap_or("main"),
                    "match": rule["match"], "description": description(rule)})
            })
            .collect();
        context.output.json(&json!(rows))?;
        return Ok(Exit::Ok);
    }
    if found.is_empty() {
        context
            .output
            .line("no bindings; everything goes to the default agent")?;
        return Ok(Exit::Ok);
    }
    let cells = found.iter().map(|rule| {
        vec![
            rule["agentId"].as_str().unwrap_or("main").to_owned(),
            description(rule),
        ]
    });
    context.output.line(table::table(
        &["agent", "messages of"],
        &["agent"],
        cells.collect(),
    ))?;
    Ok(Exit::Ok)
}

/// A directory as the configuration can hold it.
fn absolute(path: &Path) -> CommandResult<String> {
    if path.starts_with("~") {
        return Ok(path.display().to_string());
    }
    let path = std::path::absolute(path)
        .map_err(|error| CommandError::usage(format!("--workspace: {error}")))?;
    Ok(path.display().to_string())
}

fn add(context: &Context, paths: &Paths, args: &AddArgs) -> CommandResult {
    if args.name.trim().is_empty() {
        return Err(CommandError::usage("the name is empty"));
    }
    let change = AgentChange {
        workspace: args.workspace.as_deref().map(absolute).transpose()?,
        model: args.model.clone().map(Some),
        ..AgentChange::default()
    };
    let agent = place(context, paths)
        .add_agent(&args.name, change)
        .map_err(failed)?;
    if args.json {
        let none = json!([]);
        context.output.json(&json!({
            "agentId": agent.id,
            "name": agent.name,
            "workspace": agent.workspace.display().to_string(),
            "agentDir": agent.agent_dir.display().to_string(),
            "bindings": {"added": none, "updated": none, "skipped": none, "conflicts": none},
        }))?;
        return Ok(Exit::Ok);
    }
    context.output.line(plain(&format!(
        "added {}; it works in {}",
        agent.id,
        agent.workspace.display()
    )))?;
    Ok(Exit::Ok)
}

fn set_identity(context: &Context, paths: &Paths, args: &SetIdentityArgs) -> CommandResult {
    let place = place(context, paths);
    let config = Config::load(&paths.config)?;
    let roster = Roster::of(config.root(), &paths.state_dir);
    let workspace = args.workspace.as_deref().map(absolute).transpose()?;
    let agent = match (&args.agent, &workspace) {
        (Some(id), _) => roster.get(id),
        (None, Some(path)) => roster
            .agents
            .iter()
            .find(|agent| agent.workspace == Path::new(path)),
        (None, None) => Some(roster.default_agent()),
    };
    let Some(agent) = agent else {
        let who = args.agent.as_ref().or(workspace.as_ref());
        let message = format!("no agent {}", who.map_or("", String::as_str));
        return Err(CommandError::new(Exit::Failed, "AGENT", message).hint("clawgate agents list"));
    };
    let reads_file = args.from_identity
        || (args.name.is_none()
            && args.theme.is_none()
            && args.emoji.is_none()
            && args.avatar.is_none());
    let file = match &args.identity_file {
        Some(file) => Some(file.clone()),
        None if reads_file => Some(agent.workspace.join("IDENTITY.md")),
        None => None,
    };
    let mut identity = match &file {
        None => Identity::default(),
        Some(file) if args.identity_file.is_some() => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                CommandError::new(Exit::Failed, "FILE", format!("{}: {error}", file.display()))
            })?;
            clawgate_gateway::identity_in(&text)
        }
        Some(_) => place.identity_of(&agent.workspace).map_err(failed)?,
    };
    let given = |value: &Option<String>| {
        let text = value.as_deref()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    for (place, value) in [
        (&mut identity.name, &args.name),
        (&mut identity.theme, &args.theme),
        (&mut identity.emoji, &args.emoji),
        (&mut identity.avatar, &args.avatar),
    ] {
        if let Some(value) = given(value) {
            *place = Some(value);
        }
    }
    if identity.is_empty() {
        return Err(CommandError::usage(
            "nothing to set: give --name, --theme, --emoji or --avatar, or a file that says one",
        ));
    }
    let changed = place.set_identity(&agent.id, identity).map_err(failed)?;
    if args.json {
        context.output.json(&json!({
            "agentId": changed.id,
            "identity": changed.identity,
            "workspace": workspace,
            "identityFile": file.map(|file| file.display().to_string()),
        }))?;
        return Ok(Exit::Ok);
    }
    let identity = &changed.identity;
    let said = [
        &identity.emoji,
        &identity.name,
        &identity.theme,
        &identity.avatar,
    ];
    let said: Vec<&str> = said.into_iter().flatten().map(String::as_str).collect();
    context
        .output
        .line(plain(&format!("{} is {}", changed.id, said.join(", "))))?;
    Ok(Exit::Ok)
}

fn delete(context: &Context, paths: &Paths, args: &DeleteArgs) -> CommandResult {
    if !args.force {
        return Err(CommandError::usage(format!(
            "removing {} takes --force; its directories in the state directory go to the trash",
            args.id
        )));
    }
    let (gone, pruned) = place(context, paths)
        .delete_agent(&args.id, clock::now_ms())
        .map_err(failed)?;
    if args.json {
        let sessions = gone.agent_dir.with_file_name("sessions");
        context.output.json(&json!({
            "agentId": gone.id,
            "workspace": gone.workspace.display().to_string(),
            "agentDir": gone.agent_dir.display().to_string(),
            "sessionsDir": sessions.display().to_string(),
            "removedBindings": pruned.bindings,
            "removedAllow": pruned.allow,
        }))?;
        return Ok(Exit::Ok);
    }
    let rest = if gone.workspace.exists() {
        format!("; {} is left as it is", gone.workspace.display())
    } else {
        String::new()
    };
    context
        .output
        .line(plain(&format!("removed {}{rest}", gone.id)))?;
    Ok(Exit::Ok)
}
