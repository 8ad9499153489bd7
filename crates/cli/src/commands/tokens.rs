//! `tokens`: named API tokens, for scripts.

use clap::{Args, Subcommand};
use clawgate_protocol::{
    Scope, ScopeSet,
    token::{ApiTokenRecord, CreateParams, Created, List, NameParams},
};
use serde_json::json;

use super::{Context, ORDINARY_MS, call_once, read};
use crate::{
    app::ConnectArgs,
    clock,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{plain, table},
    words,
};

/// `tokens`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token; its secret is shown this once
    #[command(
        after_help = "Examples:\n  clawgate tokens create --name ci --scopes operator.read\n  clawgate tokens create --name deploy --scopes operator.read,operator.write --expires 30d\n  TOKEN=$(clawgate tokens create --name ci --scopes operator.read --json | jq -r .token)"
    )]
    Create(CreateArgs),
    /// Every token, without its secret
    #[command(
        after_help = "Examples:\n  clawgate tokens list\n  clawgate tokens list --json | jq -r '.tokens[].name'"
    )]
    List(ConnectArgs),
    /// End a token now
    #[command(alias = "rm", after_help = "Examples:\n  clawgate tokens revoke ci")]
    Revoke(RevokeArgs),
}

/// `tokens create`.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Name, unique
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it may do, comma separated
    #[arg(long, value_name = "SCOPES", required = true, value_delimiter = ',')]
    scopes: Vec<String>,
    /// How long it lives (30d, 12h); without it, until revoked
    #[arg(long, value_name = "SPAN")]
    expires: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `tokens revoke`.
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Which token
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl TokensCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::Create(args) => &args.connect,
            Self::List(connect) => connect,
            Self::Revoke(args) => &args.connect,
        }
    }
}

pub(crate) async fn run(context: &Context, command: TokensCommand) -> CommandResult {
    match command {
        TokensCommand::Create(args) => create(context, &args).await,
        TokensCommand::List(connect) => list(context, &connect).await,
        TokensCommand::Revoke(args) => {
            let params = json!(NameParams {
                name: args.name.clone()
            });
            let method = "tokens.revoke";
            let answer =
                call_once(context, &args.connect, ORDINARY_MS, method, Some(&params)).await?;
            if args.connect.json {
                context.output.json(&answer)?;
            } else {
                context
                    .output
                    .line(format!("revoked {}; its connections are closed", args.name))?;
            }
            Ok(Exit::Ok)
        }
    }
}

async fn create(context: &Context, args: &CreateArgs) -> CommandResult {
    let scopes: ScopeSet = args
        .scopes
        .iter()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
        .map(Scope::from)
        .collect();
    if scopes.is_empty() {
        return Err(CommandError::usage("--scopes names no scope"));
    }
    if let Some(unknown) = scopes.iter().find(|scope| !scope.is_known()) {
        let known = Scope::ALL.map(|scope| scope.to_string());
        return Err(CommandError::usage(format!("{unknown} is no scope"))
            .hint(format!("scopes are {}", known.join(", "))));
    }
    let expires_in_ms = args
        .expires
        .as_deref()
        .map(|text| {
            words::parse_span(text)
                .ok_or_else(|| CommandError::usage("--expires is a span such as 30d or 12h"))
        })
        .transpose()?;
    let params = json!(CreateParams {
        name: args.name.clone(),
        scopes,
        expires_in_ms
    });
    let method = "tokens.create";
    let answer = call_once(context, &args.connect, ORDINARY_MS, method, Some(&params)).await?;
    if args.connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let created: Created = read(method, &answer)?;
    context.output.line(plain(&created.token))?;
    context.output.note(format!(
        "token {} for {}; it is not shown again",
        created.record.name,
        created.record.scopes.joined()
    ));
    Ok(Exit::Ok)
}

async fn list(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let method = "tokens.list";
    let answer = call_once(context, connect, ORDINARY_MS, method, Some(&json!({}))).await?;
    if connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let list: List = read(method, &answer)?;
    if list.tokens.is_empty() {
        let create = context
            .globals
            .typed("clawgate tokens create --name NAME --scopes SCOPES");
        context
            .output
            .line(format!("no API tokens; {create} makes one"))?;
        return Ok(Exit::Ok);
    }
    let now = clock::now_ms();
    let rows = list.tokens.iter().map(|token| row(token, now)).collect();
    let header = ["name", "scopes", "state", "created", "expires", "last used"];
    context
        .output
        .line(table::table(&header, &["name"], rows))?;
    Ok(Exit::Ok)
}

fn row(token: &ApiTokenRecord, now: i64) -> Vec<String> {
    let when = |at: Option<i64>, never: &str| {
        at.map_or_else(|| never.to_owned(), |at| words::relative(at, now))
    };
    let state = if token.revoked_at_ms.is_some() {
        "revoked"
    } else if token.expires_at_ms.is_some_and(|at| at <= now) {
        "expired"
    } else {
        "live"
    };
    vec![
        token.name.clone(),
        token.scopes.joined().replace(',', " "),
        state.to_owned(),
        words::relative(token.created_at_ms, now),
        when(token.expires_at_ms, "never"),
        when(token.last_used_at_ms, "never"),
    ]
}
