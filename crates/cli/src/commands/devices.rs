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

/// The method that lists both.
const LIST: &str = "device.pair.list";

/// `devices`.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Pending requests and paired devices
    #[command(
        after_help = "Examples:\n  clawgate devices list\n  clawgate devices list --json | jq -r '.pending[].requestId'"
    )]
    List(ConnectArgs),
    /// Let a pending device in
    #[command(
        after_help = "Examples:\n  clawgate devices approve 5c860922-4b65-48a0-86fe-31b91d5685e5\n  clawgate devices approve --latest"
    )]
    Approve(ApproveArgs),
    /// Turn a pending device away
    #[command(
        after_help = "Examples:\n  clawgate devices reject REQUEST\n  clawgate devices reject 5c8609"
    )]
    Reject(RequestArgs),
    /// Forget a paired device; its connections are closed
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  clawgate devices remove DEVICE\n  clawgate devices remove a73c3e"
    )]
    Remove(DeviceArgs),
    /// Replace a device's token
    #[command(
        after_help = "Examples:\n  clawgate devices rotate --device ID --role operator\n  clawgate devices rotate --device ID --role operator --scope operator.read"
    )]
    Rotate(RotateArgs),
    /// End a device's token now
    #[command(after_help = "Examples:\n  clawgate devices revoke --device DEVICE --role operator")]
    Revoke(RevokeArgs),
}

/// `devices approve`.
#[derive(Args, Debug)]
pub(crate) struct ApproveArgs {
    /// Which request, or the beginning of its id; without it, the newest after a look at the list
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
    /// Which request, or the beginning of its id (6 characters or more)
    request_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A device by id.
#[derive(Args, Debug)]
pub(crate) struct DeviceArgs {
    /// Which device, or the beginning of its id (6 characters or more)
    device_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `devices rotate`.
#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// Which device, or the beginning of its id (6 characters or more)
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
    /// Which device, or the beginning of its id (6 characters or more)
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
            let link = open(
                context,
                &args.connect,
                "device.pair.reject",
                &args.request_id,
                Listed::Pending,
            )
            .await?;
            let request_id = full_id(&link, &args.request_id, Listed::Pending).await?;
            let params = json!(RequestIdParams { request_id });
            let answer = link.call("device.pair.reject", Some(&params)).await?;
            link.close().await;
            told(context, args.connect.json, &answer, "turned away")
        }
        DevicesCommand::Remove(args) => {
            let link = open(
                context,
                &args.connect,
                "device.pair.remove",
                &args.device_id,
                Listed::Paired,
            )
            .await?;
            let device_id = full_id(&link, &args.device_id, Listed::Paired).await?;
            let params = json!(DeviceIdParams { device_id });
            let answer = link.call("device.pair.remove", Some(&params)).await?;
            link.close().await;
            told(context, args.connect.json, &answer, "forgotten")
        }
        DevicesCommand::Rotate(args) => rotate(context, &args).await,
        DevicesCommand::Revoke(args) => {
            let link = open(
                context,
                &args.connect,
                "device.token.revoke",
                &args.device,
                Listed::Paired,
            )
            .await?;
            let device_id = full_id(&link, &args.device, Listed::Paired).await?;
            let params = json!({"deviceId": device_id, "role": args.role});
            let answer = link.call("device.token.revoke", Some(&params)).await?;
            link.close().await;
            let as_json = context.output.always_json(args.connect.json);
            told(context, as_json, &answer, "its token is no longer good")
        }
    }
}

/// Which list an id is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    /// Requests, by request id: a UUID.
    Pending,
    /// Devices, by device id: 64 hex digits.
    Paired,
}

impl Listed {
    /// Whether a text may be the beginning of an id, and is no whole one. Less than six characters
    /// are more likely a slip than a beginning.
    fn may_begin(self, text: &str) -> bool {
        let whole = match self {
            Self::Pending => 36,
            Self::Paired => 64,
        };
        (6..whole).contains(&text.len())
    }
}

/// A connection for a method that takes an id, and for the list where the id may be a beginning.
async fn open(
    context: &Context,
    connect: &ConnectArgs,
    method: &str,
    id: &str,
    listed: Listed,
) -> CommandResult<Link> {
    let methods = [method, LIST];
    let needed = if listed.may_begin(id) {
        &methods[..]
    } else {
        &methods[..1]
    };
    Link::open(context, connect, ORDINARY_MS, needed).await
}

/// The id that a text is the only beginning of. What begins none is left for the gateway to judge.
async fn full_id(link: &Link, text: &str, listed: Listed) -> CommandResult<String> {
    if !listed.may_begin(text) {
        return Ok(text.to_owned());
    }
    let answer = link.call(LIST, Some(&json!({}))).await?;
    let list: PairList = read(LIST, &answer)?;
    let ids: Vec<&str> = match listed {
        Listed::Pending => {
            let ids = list.pending.iter().map(|pending| &pending.request_id);
            ids.map(String::as_str).collect()
        }
        Listed::Paired => {
            let ids = list.paired.iter().map(|paired| &paired.device_id);
            ids.map(String::as_str).collect()
        }
    };
    if ids.contains(&text) {
        return Ok(text.to_owned());
    }
    let meant: Vec<&str> = ids.into_iter().filter(|id| id.starts_with(text)).collect();
    match meant[..] {
        [] => Ok(text.to_owned()),
        [one] => Ok(one.to_owned()),
        _ => Err(CommandError::new(
            Exit::Failed,
            "AMBIGUOUS_ID",
            format!("{text} could be {} of them", meant.len()),
        )
        .hint("clawgate devices list")),
    }
}

fn told(context: &Context, as_json: bool, answer: &Value, what: &str) -> CommandResult {
    if as_json {
        context.output.json(answer)?;
    } else {
        let id = answer["deviceId"].as_str().unwrap_or_default();
        context.output.line(format!("{}: {what}", plain(id)))?;
    }
    Ok(Exit::Ok)
}

async fn approve(context: &Context, args: &ApproveArgs) -> CommandResult {
    let methods = [LIST, "device.pair.approve"];
    let link = Link::open(context, &args.connect, ORDINARY_MS, &methods).await?;
    let request_id = match &args.request_id {
        Some(id) => full_id(&link, id, Listed::Pending).await?,
        None => {
            let answer = link.call(LIST, Some(&json!({}))).await?;
            let list: PairList = read(LIST, &answer)?;
            let newest = list.pending.iter().max_by_key(|pending| pending.ts);
            let Some(newest) = newest else {
                link.close().await;
                return Err(CommandError::new(
                    Exit::Failed,
                    "NOTHING_PENDING",
                    "no device waits for approval",
                )
                .hint("clawgate devices list"));
            };
            newest.request_id.clone()
        }
    };
    let params = json!(RequestIdParams { request_id });
    let answer = link.call("device.pair.approve", Some(&params)).await?;
    link.close().await;
    if args.connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let device: PairedRecord = read("device.pair.approve", &answer["device"])?;
    context.output.line(format!(
        "{} is paired as {} with {}",
        plain(&name_of(&device)),
        plain(&device.roles.join(", ")),
        plain(
            &device
                .scopes
                .as_ref()
                .map_or_else(|| "no scopes".to_owned(), ScopeSet::joined)
        ),
    ))?;
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
    let link = open(context, &args.connect, method, &args.device, Listed::Paired).await?;
    let device_id = full_id(&link, &args.device, Listed::Paired).await?;
    // This machine's own token: keep it, the old one ends with the first use of the new one.
    let own = device_id == link.approach().device_id() && args.role == "operator";
    let params = json!(TokenParams {
        device_id,
        role: args.role.clone(),
        scopes,
    });
    let answer = link.call(method, Some(&params)).await?;
    if let (true, Some(token)) = (own, answer["token"].as_str()) {
        let scopes: ScopeSet = read(method, &answer["scopes"])?;
        link.approach()
            .keep_token(token, &scopes)
            .map_err(|error| {
                CommandError::internal(format!("the new token could not be kept: {error}"))
            })?;
    }
    link.close().await;
    let output = context.output;
    let token = answer["token"].as_str();
    let handed_over = "rotated; the device gets its new token with its next connect";
    if output.always_json(args.connect.json) {
        output.json(&answer)?;
        // The original's answer has the token; a script that reads it should know why it is gone.
        if token.is_none() {
            output.note(format!("note: {handed_over}, and nobody else sees it"));
        }
        return Ok(Exit::Ok);
    }
    match token {
        Some(_) if own => output.line("rotated; this machine keeps its new token")?,
        Some(token) => {
            output.line(plain(token))?;
            output.note("the device's new token; it is not shown again");
        }
        None => output.line(handed_over)?,
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let answer = call_once(context, connect, ORDINARY_MS, LIST, Some(&json!({}))).await?;
    let output = context.output;
    if connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let list: PairList = read(LIST, &answer)?;
    let now = clock::now_ms();
    if !list.pending.is_empty() {
        output.line(output.paint(Tone::Bold, format!("Pending ({})", list.pending.len())))?;
        let rows = list
            .pending
            .iter()
            .map(|pending| pending_row(pending, now))
            .collect();
        let header = ["request", "device", "role", "scopes", "ip", "age", "flags"];
        output.line(table::table(&header, &["request"], rows))?;
        let approve = context.globals.typed("clawgate devices approve REQUEST");
        output.line(format!("approve one with: {approve}\n"))?;
    }
    if list.paired.is_empty() {
        output.line("no device is paired")?;
        return Ok(Exit::Ok);
    }
    output.line(output.paint(Tone::Bold, format!("Paired ({})", list.paired.len())))?;
    let rows = list
        .paired
        .iter()
        .map(|paired| paired_row(paired, now))
        .collect();
    let header = [
        "device", "name", "roles", "scopes", "tokens", "ip", "paired",
    ];
    output.line(table::table(&header, &["device"], rows))?;
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
        paired.device_id.clone(),
        paired.display_name.clone().unwrap_or_default(),
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
