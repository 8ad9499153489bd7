//! `models`: which models the configuration knows, and which of them is used. Read from the file.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use clawgate_gateway::{Model, ModelDefaults, Roster, key_source, models};
use serde_json::{Value, json};

use super::Context;
use crate::{
    config::{Config, Paths},
    error::CommandResult,
    exit::Exit,
    output::{plain, table},
};

/// `models`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Models in use; with --all every one that is configured
    #[command(
        after_help = "Examples:\n  clawgate models list\n  clawgate models list --all --json | jq -r '.models[].key'"
    )]
    List(ListArgs),
    /// The default model, what comes after it, and where keys come from
    #[command(after_help = "Examples:\n  clawgate models status\n  clawgate models status --check")]
    Status(StatusArgs),
    /// Other names of models
    #[command(subcommand, after_help = "Examples:\n  clawgate models aliases list")]
    Aliases(PartCommand),
    /// Models that come after the default one
    #[command(subcommand, after_help = "Examples:\n  clawgate models fallbacks list")]
    Fallbacks(PartCommand),
}

/// `models aliases` and `models fallbacks`.
#[derive(Debug, Subcommand)]
pub(crate) enum PartCommand {
    /// All of them
    #[command(after_help = "Examples:\n  clawgate models aliases list --json")]
    List(PartArgs),
}

/// Its options.
#[derive(Args, Debug)]
pub(crate) struct PartArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// One a line
    #[arg(long, conflicts_with = "json")]
    plain: bool,
}

/// `models list`.
#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a command line has flags, and these are independent"
)]
pub(crate) struct ListArgs {
    /// Every configured model, not only those in use
    #[arg(long)]
    all: bool,
    /// Those of this machine and of the local network
    #[arg(long)]
    local: bool,
    /// Those of one provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// One key a line
    #[arg(long, conflicts_with = "json")]
    plain: bool,
}

/// `models status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Exit 1 when a provider in use has no key
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The default model alone
    #[arg(long, conflicts_with = "json")]
    plain: bool,
}

impl ModelsCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Status(args) => args.json,
            Self::Aliases(PartCommand::List(args)) | Self::Fallbacks(PartCommand::List(args)) => {
                args.json
            }
        }
    }
}

pub(crate) fn run(context: &Context, command: &ModelsCommand) -> CommandResult {
    let paths = Paths::of_gateway(&context.globals, &context.env);
    let config = Config::load(&paths.config)?;
    let defaults = ModelDefaults::of(config.root());
    let output = context.output;
    match command {
        ModelsCommand::List(args) => list(context, &config, &defaults, args),
        ModelsCommand::Status(args) => status(context, &paths, &config, &defaults, args),
        ModelsCommand::Aliases(PartCommand::List(args)) => {
            if args.json {
                output.json(&json!({"aliases": defaults.aliases}))?;
            } else {
                for (alias, model) in &defaults.aliases {
                    output.line(plain(&format!("{alias} {model}")))?;
                }
            }
            Ok(Exit::Ok)
        }
        ModelsCommand::Fallbacks(PartCommand::List(args)) => {
            if args.json {
                output.json(&json!({"fallbacks": defaults.fallbacks}))?;
            } else {
                for model in &defaults.fallbacks {
                    output.line(plain(model))?;
                }
            }
            Ok(Exit::Ok)
        }
    }
}

/// What a model is to this configuration.
fn tags(model: &Model, defaults: &ModelDefaults) -> Vec<String> {
    let key = model.key();
    let is = |name: &Option<String>| {
        name.as_deref()
            .is_some_and(|name| defaults.resolve(name) == key)
    };
    let mut tags = Vec::new();
    if is(&defaults.primary) {
        tags.push("default".to_owned());
    }
    for (kind, list) in [
        ("fallback", &defaults.fallbacks),
        ("img-fallback", &defaults.image_fallbacks),
    ] {
        if let Some(at) = list.iter().position(|name| defaults.resolve(name) == key) {
            tags.push(format!("{kind}#{}", at + 1));
        }
    }
    if is(&defaults.image) {
        tags.push("image".to_owned());
    }
    if defaults.allowed.contains(&key) {
        tags.push("configured".to_owned());
    }
    if let Some(alias) = &model.alias {
        tags.push(format!("alias:{alias}"));
    }
    tags
}

fn list(
    context: &Context,
    config: &Config,
    defaults: &ModelDefaults,
    args: &ListArgs,
) -> CommandResult {
    let is_wanted = |model: &Model, tags: &[String]| {
        let is_local = model
            .described
            .as_ref()
            .is_some_and(|described| described.local);
        (args.all || !tags.is_empty())
            && (!args.local || is_local)
            && args
                .provider
                .as_ref()
                .is_none_or(|name| *name == model.provider)
    };
    let rows: Vec<Value> = models(config.root())
        .iter()
        .map(|model| (model, tags(model, defaults)))
        .filter(|(model, tags)| is_wanted(model, tags))
        .map(|(model, mut tags)| match &model.described {
            Some(known) => json!({
                "key": model.key(), "name": model.name, "input": known.input.join("+"),
                "contextWindow": known.context_window, "local": known.local,
                "available": known.available || known.local, "tags": tags, "missing": false,
            }),
            None => {
                tags.push("missing".to_owned());
                json!({"key": model.key(), "name": model.key(), "input": "-", "contextWindow": null,
                    "local": null, "available": null, "tags": tags, "missing": true})
            }
        })
        .collect();
    let output = context.output;
    if args.json {
        output.json(&json!({"count": rows.len(), "models": rows}))?;
        return Ok(Exit::Ok);
    }
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    if args.plain {
        for row in &rows {
            output.line(plain(&text(row, "key")))?;
        }
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        output.line("no models; describe them under models.providers of the configuration")?;
        return Ok(Exit::Ok);
    }
    let yes_or_no = |value: &Value| match value.as_bool() {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "-".to_owned(),
    };
    let cells = rows.iter().map(|row| {
        let tags: Vec<&str> = row["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        vec![
            text(row, "key"),
            text(row, "input"),
            row["contextWindow"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |n| n.to_string()),
            yes_or_no(&row["local"]),
            yes_or_no(&row["available"]),
            tags.join(", "),
        ]
    });
    let header = ["model", "input", "context", "local", "auth", "tags"];
    output.line(table::table(&header, &["model"], cells.collect()))?;
    Ok(Exit::Ok)
}

fn status(
    context: &Context,
    paths: &Paths,
    config: &Config,
    defaults: &ModelDefaults,
    args: &StatusArgs,
) -> CommandResult {
    let root = config.root();
    let roster = Roster::of(root, &paths.state_dir);
    let resolved = defaults
        .primary
        .as_deref()
        .map(|name| defaults.resolve(name));
    let provider_of = |name: &str| {
        let key = defaults.resolve(name);
        key.split_once('/').map(|(provider, _)| provider.to_owned())
    };
    let in_use: BTreeSet<String> = defaults
        .primary
        .iter()
        .chain(&defaults.fallbacks)
        .chain(&defaults.image)
        .chain(&defaults.image_fallbacks)
        .filter_map(|name| provider_of(name))
        .collect();
    let configured = root.pointer("/models/providers").and_then(Value::as_object);
    let providers: BTreeSet<String> = configured
        .into_iter()
        .flat_map(|map| map.keys().cloned())
        .chain(in_use.iter().cloned())
        .collect();
    let is_local = |provider: &str| {
        models(root).iter().any(|model| {
            model.provider == provider
                && model
                    .described
                    .as_ref()
                    .is_some_and(|described| described.local)
        })
    };
    let missing: Vec<&String> = in_use
        .iter()
        .filter(|provider| key_source(root, provider).is_none() && !is_local(provider))
        .collect();
    let exit = if args.check && !missing.is_empty() {
        Exit::Failed
    } else {
        Exit::Ok
    };
    let output = context.output;
    if args.plain {
        output.line(plain(resolved.unwrap_or("-")))?;
        return Ok(exit);
    }
    if args.json {
        let rows: Vec<Value> = providers
            .iter()
            .map(|provider| {
                let source = key_source(root, provider);
                let kind = match &source {
                    None => "missing",
                    Some(source) if source.contains('.') => "config",
                    Some(_) => "env",
                };
                json!({
                    "provider": provider,
                    "effective": {"kind": kind, "detail": source.unwrap_or_else(|| "missing".to_owned())},
                    "profiles": {"count": 0, "oauth": 0, "token": 0, "apiKey": 0, "labels": []},
                })
            })
            .collect();
        let oauth: Vec<Value> = providers
            .iter()
            .map(|provider| json!({"provider": provider, "status": "missing", "profiles": []}))
            .collect();
        output.json(&json!({
            "configPath": config.path.display().to_string(),
            "agentDir": roster.default_agent().agent_dir.display().to_string(),
            "defaultModel": defaults.primary,
            "resolvedDefault": resolved,
            "fallbacks": defaults.fallbacks,
            "imageModel": defaults.image,
            "imageFallbacks": defaults.image_fallbacks,
            "aliases": defaults.aliases,
            "allowed": defaults.allowed,
            "auth": {
                "storePath": config.path.display().to_string(),
                "shellEnvFallback": {"enabled": false, "appliedKeys": []},
                "providersWithOAuth": [],
                "missingProvidersInUse": missing,
                "providers": rows,
                "unusableProfiles": [],
                "oauth": {"warnAfterMs": 86_400_000, "profiles": [], "providers": oauth},
            },
        }))?;
        return Ok(exit);
    }
    let or_none = |list: &[String]| match list {
        [] => "none".to_owned(),
        list => list.join(", "),
    };
    let keys: Vec<String> = providers
        .iter()
        .map(|provider| match key_source(root, provider) {
            Some(source) => format!("{provider} ({source})"),
            None => format!("{provider} (no key)"),
        })
        .collect();
    let aliases: Vec<String> = defaults
        .aliases
        .iter()
        .map(|(alias, model)| format!("{alias} -> {model}"))
        .collect();
    let rows = [
        ("config", config.path.display().to_string()),
        ("default", resolved.unwrap_or("none").to_owned()),
        ("fallbacks", or_none(&defaults.fallbacks)),
        (
            "image",
            defaults.image.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        ("aliases", or_none(&aliases)),
        ("keys", or_none(&keys)),
    ];
    output.line(plain(&table::pairs(&rows)))?;
    Ok(exit)
}
