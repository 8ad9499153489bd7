//! `config`: the file on this machine, or of a gateway that `--url` names.

use std::{io::Read as _, path::Path};

use clap::{Args, Subcommand};
use clawgate_gateway::{
    EditError, FileChange, Issue, config_schema, config_schema_at, edit_config, parse_config,
};
use serde_json::{Value, json};

use super::{Context, SLOW_MS, block_on};
use crate::{
    app::ConnectArgs,
    config::{Config, judged},
    env,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::plain,
    session::Link,
};

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// One value; secrets are masked
    #[command(
        after_help = "Examples:\n  clawgate config get gateway.port\n  clawgate config get gateway --json"
    )]
    Get(GetArgs),
    /// Set one value; the file keeps its comments, and a running gateway takes it by itself
    #[command(
        after_help = "The value is JSON5 where it reads as such, else a text; - reads it from standard input.\n\nExamples:\n  clawgate config set gateway.auth.mode password\n  clawgate config set gateway.controlUi.allowedOrigins '[\"https://claw.example.org\"]'\n  pass show claw | clawgate config set gateway.auth.password -\n  clawgate config set cron.enabled false --url wss://claw.example.org --token TOKEN"
    )]
    Set(SetArgs),
    /// Remove one value
    #[command(after_help = "Examples:\n  clawgate config unset gateway.auth.password")]
    Unset(UnsetArgs),
    /// Merge a JSON5 object into the configuration; null removes, lists are merged by id
    #[command(
        after_help = "Examples:\n  clawgate config patch '{cron: {maxConcurrentRuns: 4}}'\n  clawgate config patch - < change.json5"
    )]
    Patch(PatchArgs),
    /// What a configuration may hold, as JSON Schema
    #[command(
        after_help = "Examples:\n  clawgate config schema > clawgate.schema.json\n  clawgate config schema gateway.auth"
    )]
    Schema(SchemaArgs),
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

/// `config set`.
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[arg(help = "Dotted path, such as gateway.auth.mode or agents.list[0].id")]
    path: String,
    /// The value, or - for standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Refuse a value that is not JSON5
    #[arg(long, alias = "strict")]
    strict_json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `config unset`.
#[derive(Args, Debug)]
pub(crate) struct UnsetArgs {
    /// Dotted path
    path: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `config patch`.
#[derive(Args, Debug)]
pub(crate) struct PatchArgs {
    /// The patch, or - for standard input
    #[arg(allow_hyphen_values = true)]
    patch: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `config schema`.
#[derive(Args, Debug)]
pub(crate) struct SchemaArgs {
    /// Dotted path of the place; the whole without it
    path: Option<String>,
    /// Print JSON; it always is
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
            Self::Set(args) => args.connect.json,
            Self::Unset(args) => args.connect.json,
            Self::Patch(args) => args.connect.json,
            Self::Schema(args) => args.json,
            Self::Validate(args) => args.json,
            Self::File(args) => args.json,
        }
    }
}

pub(crate) fn run(context: &Context, command: &ConfigCommand) -> CommandResult {
    match command {
        ConfigCommand::Get(args) => get(context, args),
        ConfigCommand::Set(args) => {
            let value = read_value(&args.value, args.strict_json)?;
            let done = format!("updated {}", args.path);
            let change = FileChange::Set(args.path.clone(), value);
            change_config(context, &args.connect, change, &done)
        }
        ConfigCommand::Unset(args) => {
            let done = format!("removed {}", args.path);
            let change = FileChange::Unset(args.path.clone());
            change_config(context, &args.connect, change, &done)
        }
        ConfigCommand::Patch(args) => {
            let patch = read_value(&args.patch, true)?;
            if !patch.is_object() {
                return Err(CommandError::usage("a patch is an object"));
            }
            change_config(context, &args.connect, FileChange::Merge(patch), "patched")
        }
        ConfigCommand::Schema(args) => schema(context, args),
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

/// JSON5 where it reads as such, else a text.
fn read_value(text: &str, strict: bool) -> CommandResult<Value> {
    let mut given = text.to_owned();
    if text == "-" {
        given.clear();
        std::io::stdin()
            .read_to_string(&mut given)
            .map_err(|error| CommandError::usage(format!("standard input: {error}")))?;
        let ended = given.trim_end_matches(['\n', '\r']).len();
        given.truncate(ended);
    }
    if given.trim().is_empty() {
        return Ok(Value::String(given));
    }
    match parse_config(&given) {
        Ok(value) => Ok(value),
        Err(why) if strict => Err(CommandError::usage(format!("that is not JSON5: {why}"))),
        Err(_) => Ok(Value::String(given)),
    }
}

/// Changes the file of this machine, or of the gateway that the options name.
fn change_config(
    context: &Context,
    connect: &ConnectArgs,
    change: FileChange,
    done: &str,
) -> CommandResult {
    let named = connect.url.is_some() || connect.token.is_some() || connect.password.is_some();
    let (path, waiting) = if named {
        block_on(change_remotely(context, connect, change))?
    } else {
        let path = &context.paths.config;
        let password = context.env.of_gateway(env::GATEWAY_PASSWORD);
        edit_config(path, password, change).map_err(not_changed)?;
        (path.display().to_string(), Vec::new())
    };
    if connect.json {
        context
            .output
            .json(&json!({"ok": true, "path": path, "restart": waiting}))?;
        return Ok(Exit::Ok);
    }
    context.output.line(plain(done))?;
    if waiting.is_empty() {
        let note = if named {
            "it holds now"
        } else {
            "a gateway that runs with this file takes it by itself; gateway.port and gateway.bind hold after a restart"
        };
        context.output.note(note);
    } else {
        let places = waiting.join(", ");
        context.output.note(plain(&format!(
            "{places}: holds after a restart of the gateway"
        )));
    }
    Ok(Exit::Ok)
}

fn not_changed(error: EditError) -> CommandError {
    match error {
        EditError::Invalid(error) => {
            let issues: Vec<String> = error
                .issues
                .iter()
                .map(|issue| remark(issue).trim().to_owned())
                .collect();
            CommandError::new(
                Exit::Failed,
                "CONFIG_INVALID",
                format!(
                    "nothing was changed, a gateway would not start with it: {}",
                    issues.join("; ")
                ),
            )
        }
        EditError::Refused(why) => CommandError::new(Exit::Failed, "CONFIG_REFUSED", why),
        EditError::Failed(why) => {
            CommandError::config(format!("the configuration cannot be changed: {why}"))
        }
    }
}

/// Over the wire, against the hash of what was read: what somebody else changed meanwhile is not
/// undone. Gives the path there, and what holds after a restart only.
async fn change_remotely(
    context: &Context,
    connect: &ConnectArgs,
    change: FileChange,
) -> CommandResult<(String, Vec<String>)> {
    let link = Link::open(context, connect, SLOW_MS, &["config.get", "config.apply"]).await?;
    let told = link.call("config.get", Some(&json!({}))).await?;
    let mut wanted = told.get("parsed").cloned().unwrap_or_else(|| json!({}));
    change
        .apply(&mut wanted)
        .map_err(|why| CommandError::new(Exit::Failed, "CONFIG_REFUSED", why))?;
    let mut params = json!({"raw": wanted.to_string()});
    if told.get("exists") == Some(&Value::Bool(true)) {
        params["baseHash"] = told["hash"].clone();
    }
    let answer = link.call("config.apply", Some(&params)).await?;
    link.close().await;
    let waiting = answer["restart"]["needed"].as_array();
    Ok((
        answer["path"].as_str().unwrap_or_default().to_owned(),
        waiting
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    ))
}

fn schema(context: &Context, args: &SchemaArgs) -> CommandResult {
    let found = match &args.path {
        None => Some(config_schema()),
        Some(path) => config_schema_at(path),
    };
    let found = found.ok_or_else(|| {
        let path = args.path.as_deref().unwrap_or_default();
        CommandError::new(
            Exit::Failed,
            "NOT_FOUND",
            format!("nothing is known of {path}"),
        )
        .hint("clawgate config schema")
    })?;
    context.output.json(&found)?;
    Ok(Exit::Ok)
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
