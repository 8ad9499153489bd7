//! `devices`: who is paired, who wants to be, and their tokens.

use clap::{Args, Subcommand};
use clawgate_protocol::{
    Scope, ScopeSet,
    device::{DeviceIdParams, PairList, PairedRecord, PendingRecord, RequestIdParams, TokenParams},
};
use serde_json::{Value, json};

use super::{Context, ORDINARY_MS, call_once, read};
use crate::{
    app::ConnectArgs,
    clock,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Tone, plain, table},
    session::Link,
    words,
};

/// `devices`.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Pending requests and paired devices
    List(ConnectArgs),
    /// Let a pending device in
    #[command(
        after_help = "Examples:\n  clawgate devices approve 5c860922-4b65-48a0-86fe-31b91d5685e5\n  clawgate devices approve --latest"
    )]
    Approve(ApproveArgs),
    /// Turn a pending device away
    Reject(RequestArgs),
    /// Forget a paired device; its connections are closed
    #[command(visible_alias = "rm")]
    Remove(DeviceArgs),
    /// Replace a device's token
    #[command(
        after_help = "Examples:\n  clawgate devices rotate --device ID --role operator\n  clawgate devices rotate --device ID --role operator --scope operator.read"
    )]
    Rotate(RotateArgs),
    /// End a device's token now
    Revoke(RevokeArgs),
}

/// `devices approve`.
#[derive(Args, Debug)]
pub(crate) struct ApproveArgs {
    /// Which request; without it, the newest after a look at the list
    request_id: Option<String>,
    /// The newest request
    #[arg(long, conflicts_with = "request_id")]
    latest: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A request by id.
#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// Which request
    request_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A device by id.
#[derive(Args, Debug)]
pub(crate) struct DeviceArgs {
    /// Which device
    device_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `devices rotate`.
#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// Which device
    #[arg(long, value_name = "ID")]
    device: String,
    /// Which of its roles
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// Scopes of the new token; without it, those of the old one
    #[arg(long, value_name = "SCOPE", num_args = 1.., value_delimiter = ',')]
    scope: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `devices revoke`.
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Which device
    #[arg(long, value_name = "ID")]
    device: String,
    /// Which of its roles
    #[arg(long, value_name = "ROLE")]
    role: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl DevicesCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::List(connect) => connect,
            Self::Approve(args) => &args.connect,
            Self::Reject(args) => &args.connect,
            Self::Remove(args) => &args.connect,
            Self::Rotate(args) => &args.connect,
            Self::Revoke(args) => &args.connect,
        }
    }
}

pub(crate) async fn run(context: &Context, command: DevicesCommand) -> CommandResult {
    match command {
        DevicesCommand::List(connect) => list(context, &connect).await,
        DevicesCommand::Approve(args) => approve(context, &args).await,
        DevicesCommand::Reject(args) => {
            let params = json!(RequestIdParams {
                request_id: args.request_id
            });
            let answer = ask(context, &args.connect, "device.pair.reject", &params).await?;
            told(context, &args.connect, &answer, "turned away", "deviceId")
        }
        DevicesCommand::Remove(args) => {
            let params = json!(DeviceIdParams {
                device_id: args.device_id
            });
            let answer = ask(context, &args.connect, "device.pair.remove", &params).await?;
            told(context, &args.connect, &answer, "forgotten", "deviceId")
        }
        DevicesCommand::Rotate(args) => rotate(context, &args).await,
        DevicesCommand::Revoke(args) => {
            let params = json!({"deviceId": args.device, "role": args.role});
            let answer = ask(context, &args.connect, "device.token.revoke", &params).await?;
            told(
                context,
                &args.connect,
                &answer,
                "its token is no longer good",
                "deviceId",
            )
        }
    }
}

async fn ask(
    context: &Context,
    connect: &ConnectArgs,
    method: &str,
    params: &Value,
) -> CommandResult<Value> {
    call_once(context, connect, ORDINARY_MS, method, Some(params)).await
}

fn told(
    context: &Context,
    connect: &ConnectArgs,
    answer: &Value,
    what: &str,
    member: &str,
) -> CommandResult {
    if connect.json {
        context.output.json(answer);
    } else {
        let id = answer[member].as_str().unwrap_or_default();
        context.output.line(format!("{}: {what}", plain(id)));
    }
    Ok(Exit::Ok)
}

async fn approve(context: &Context, args: &ApproveArgs) -> CommandResult {
    let methods = ["device.pair.list", "device.pair.approve"];
    let link = Link::open(context, &args.connect, ORDINARY_MS, &methods).await?;
    let request_id = match &args.request_id {
        Some(id) => id.clone(),
        None => {
            let answer = link.call("device.pair.list", Some(&json!({}))).await?;
            let list: PairList = read("device.pair.list", &answer)?;
            let newest = list.pending.iter().max_by_key(|pending| pending.ts);
            let Some(newest) = newest else {
                link.close().await;
                return Err(CommandError::new(
                    Exit::Failed,
                    "NOTHING_PENDING",
                    "no device waits for approval",
                ));
            };
            newest.request_id.clone()
        }
    };
    let params = json!(RequestIdParams { request_id });
    let answer = link.call("device.pair.approve", Some(&params)).await?;
    link.close().await;
    if args.connect.json {
        context.output.json(&answer);
        return Ok(Exit::Ok);
    }
    let device: PairedRecord = read("device.pair.approve", &answer["device"])?;
    context.output.line(format!(
        "{} is paired as {} with {}",
        plain(&name_of(&device)),
        device.roles.join(", "),
        device
            .scopes
            .as_ref()
            .map_or_else(|| "no scopes".to_owned(), ScopeSet::joined),
    ));
    Ok(Exit::Ok)
}

async fn rotate(context: &Context, args: &RotateArgs) -> CommandResult {
    let method = "device.token.rotate";
    let scopes = (!args.scope.is_empty()).then(|| {
        args.scope
            .iter()
            .map(String::as_str)
            .map(Scope::from)
            .collect::<ScopeSet>()
    });
    let params = json!(TokenParams {
        device_id: args.device.clone(),
        role: args.role.clone(),
        scopes,
    });
    let link = Link::open(context, &args.connect, ORDINARY_MS, &[method]).await?;
    let answer = link.call(method, Some(&params)).await?;
    // This machine's own token: keep it, the old one ends with the first use of the new one.
    let own = args.device == link.approach().device_id() && args.role == "operator";
    if let (true, Some(token)) = (own, answer["token"].as_str()) {
        let scopes: ScopeSet = read(method, &answer["scopes"])?;
        link.approach()
            .keep_token(token, &scopes)
            .map_err(|error| {
                CommandError::internal(format!("the new token could not be kept: {error}"))
            })?;
    }
    link.close().await;
    if args.connect.json {
        context.output.json(&answer);
        return Ok(Exit::Ok);
    }
    match answer["token"].as_str() {
        Some(_) if own => context
            .output
            .line("rotated; this machine keeps its new token"),
        Some(token) => {
            context.output.line(plain(token));
            context
                .output
                .note("the device's new token; it is not shown again");
        }
        None => context
            .output
            .line("rotated; the device gets its new token with its next connect"),
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let method = "device.pair.list";
    let answer = ask(context, connect, method, &json!({})).await?;
    let output = context.output;
    if connect.json {
        output.json(&answer);
        return Ok(Exit::Ok);
    }
    let list: PairList = read(method, &answer)?;
    let now = clock::now_ms();
    if !list.pending.is_empty() {
        output.line(output.paint(Tone::Bold, format!("Pending ({})", list.pending.len())));
        let rows = list
            .pending
            .iter()
            .map(|pending| pending_row(pending, now))
            .collect();
        let header = ["request", "device", "role", "scopes", "ip", "age", "flags"];
        output.line(table::table(&header, rows));
        output.line("approve one with: clawgate devices approve REQUEST\n");
    }
    if list.paired.is_empty() {
        output.line("no device is paired");
        return Ok(Exit::Ok);
    }
    output.line(output.paint(Tone::Bold, format!("Paired ({})", list.paired.len())));
    let rows = list
        .paired
        .iter()
        .map(|paired| paired_row(paired, now))
        .collect();
    output.line(table::table(
        &["device", "roles", "scopes", "tokens", "ip", "paired"],
        rows,
    ));
    Ok(Exit::Ok)
}

fn pending_row(pending: &PendingRecord, now: i64) -> Vec<String> {
    let mut flags = Vec::new();
    if pending.is_repair {
        flags.push("known device");
    }
    if pending.silent {
        flags.push("silent");
    }
    vec![
        pending.request_id.clone(),
        pending
            .display_name
            .clone()
            .unwrap_or_else(|| short(&pending.device_id)),
        pending.role.clone(),
        short_scopes(Some(&pending.scopes)),
        pending
            .remote_ip
            .clone()
            .unwrap_or_else(|| "local".to_owned()),
        words::relative(pending.ts, now),
        flags.join(", "),
    ]
}

fn paired_row(paired: &PairedRecord, now: i64) -> Vec<String> {
    let live = paired
        .tokens
        .iter()
        .filter(|token| token.revoked_at_ms.is_none())
        .count();
    let revoked = paired.tokens.len() - live;
    let tokens = if revoked == 0 {
        live.to_string()
    } else {
        format!("{live} (+{revoked} revoked)")
    };
    vec![
        name_of(paired),
        paired.roles.join(", "),
        short_scopes(paired.scopes.as_ref()),
        tokens,
        paired
            .remote_ip
            .clone()
            .unwrap_or_else(|| "local".to_owned()),
        words::relative(paired.approved_at_ms, now),
    ]
}

fn name_of(paired: &PairedRecord) -> String {
    match &paired.display_name {
        Some(name) => format!("{name} {}", paired.device_id),
        None => paired.device_id.clone(),
    }
}

fn short(id: &str) -> String {
    table::cut(id, 13)
}

fn short_scopes(scopes: Option<&ScopeSet>) -> String {
    match scopes {
        Some(scopes) if !scopes.is_empty() => {
            scopes.joined().replace("operator.", "").replace(',', " ")
        }
        Some(_) | None => "-".to_owned(),
    }
}
