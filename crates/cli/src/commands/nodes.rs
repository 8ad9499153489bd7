//! `nodes`: machines that run commands for the gateway.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};
use clawgate_client::{ClientError, new_key};
use clawgate_protocol::node::{NodeList, NodeView, PairList, PairedNode, PendingNode};
use serde_json::{Value, json};

use super::{Context, ORDINARY_MS, SLOW_MS, call_once, read};
use crate::{
    app::ConnectArgs,
    clock,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Tone, json::pretty, plain, table},
    session::Link,
    words,
};

const LIST: &str = "node.list";
const PAIR_LIST: &str = "node.pair.list";
const INVOKE: &str = "node.invoke";
/// Beyond what a node may take, for the way there and back, milliseconds.
const MARGIN_MS: u64 = 5_000;

/// `nodes`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// Known nodes: who is here, and what each may be asked to run
    #[command(
        after_help = "Examples:\n  clawgate nodes status\n  clawgate nodes status --connected --json | jq -r '.nodes[].nodeId'"
    )]
    Status(StatusArgs),
    /// One node, with what it declares and may not run yet
    #[command(after_help = "Examples:\n  clawgate nodes describe --node kitchen-pi")]
    Describe(NodeArgs),
    /// Requests that wait, and approved nodes
    #[command(after_help = "Examples:\n  clawgate nodes list\n  clawgate nodes list --json")]
    List(ConnectArgs),
    /// Requests that wait for a decision
    #[command(after_help = "Examples:\n  clawgate nodes pending")]
    Pending(ConnectArgs),
    /// Let a node run what its request shows
    #[command(
        after_help = "Examples:\n  clawgate nodes approve 5c860922-4b65-48a0-86fe-31b91d5685e5"
    )]
    Approve(RequestArgs),
    /// Turn a request away
    #[command(after_help = "Examples:\n  clawgate nodes reject 5c8609")]
    Reject(RequestArgs),
    /// Take back what was approved for a node
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  clawgate nodes remove --node kitchen-pi"
    )]
    Remove(NodeArgs),
    /// Call a node by another name
    #[command(after_help = "Examples:\n  clawgate nodes rename --node 3f2a91 --name kitchen-pi")]
    Rename(RenameArgs),
    /// Run a command of a node and print its answer
    #[command(
        after_help = "Examples:\n  clawgate nodes invoke --node kitchen-pi --command system.which --params '{\"bins\":[\"git\"]}'"
    )]
    Invoke(InvokeArgs),
    /// Run a program on a node, under the policy of that node
    #[command(
        after_help = "The exit code is 1 when the node refuses, when it takes too long, and when the program fails.\n\nExamples:\n  clawgate nodes run --node kitchen-pi uptime\n  clawgate nodes run --node kitchen-pi --cwd /srv -- git log -1\n  clawgate nodes run --node kitchen-pi --raw 'df -h | head'"
    )]
    Run(RunArgs),
    /// Show a notification on a node
    #[command(
        after_help = "Examples:\n  clawgate nodes notify --node kitchen-pi --title Tea --body 'It is ready'"
    )]
    Notify(NotifyArgs),
}

/// `nodes status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Only those that are here
    #[arg(long)]
    connected: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A node.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// Which node: id or its beginning, name, or address
    #[arg(long, value_name = "NODE")]
    node: String,
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

/// `nodes rename`.
#[derive(Args, Debug)]
pub(crate) struct RenameArgs {
    /// Which node: id or its beginning, name, or address
    #[arg(long, value_name = "NODE")]
    node: String,
    /// The new name
    #[arg(long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `nodes invoke`.
#[derive(Args, Debug)]
pub(crate) struct InvokeArgs {
    /// Which node: id or its beginning, name, or address
    #[arg(long, value_name = "NODE")]
    node: String,
    /// Which command
    #[arg(long, value_name = "COMMAND")]
    command: String,
    /// Its params
    #[arg(long, value_name = "JSON", default_value = "{}")]
    params: String,
    /// How long the node may take, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    invoke_timeout: u64,
    /// The same key is the same act, done once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `nodes run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "raw",
        conflicts_with = "raw"
    )]
    command: Vec<String>,
    /// Which node: id or its beginning, name, or address; without it, the only one that is here
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Where to run it
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// A variable for the program
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Shell text instead of a program
    #[arg(long, value_name = "TEXT")]
    raw: Option<String>,
    /// On behalf of which agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// The original's; what the node asks about is its own decision
    #[arg(long, hide = true, value_name = "MODE", value_parser = ["off", "on-miss", "always"])]
    ask: Option<String>,
    /// The original's; how much the node lets pass is its own decision
    #[arg(long, hide = true, value_name = "MODE", value_parser = ["deny", "allowlist", "full"])]
    security: Option<String>,
    /// How long the program may run, milliseconds
    #[arg(long, value_name = "MS")]
    command_timeout: Option<u64>,
    /// The program needs to record the screen
    #[arg(long)]
    needs_screen_recording: bool,
    /// How long the node may take, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    invoke_timeout: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `nodes notify`.
#[derive(Args, Debug)]
pub(crate) struct NotifyArgs {
    /// Which node: id or its beginning, name, or address
    #[arg(long, value_name = "NODE")]
    node: String,
    /// Title
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Text
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Sound, where the node has sounds
    #[arg(long, value_name = "NAME")]
    sound: Option<String>,
    /// How urgent it is
    #[arg(long, value_name = "PRIORITY", value_parser = ["passive", "active", "timeSensitive"])]
    priority: Option<String>,
    /// How it is shown
    #[arg(long, value_name = "HOW", default_value = "system", value_parser = ["system", "overlay", "auto"])]
    delivery: String,
    /// How long the node may take, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    invoke_timeout: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl NodesCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::Status(args) => &args.connect,
            Self::Describe(args) | Self::Remove(args) => &args.connect,
            Self::List(connect) | Self::Pending(connect) => connect,
            Self::Approve(args) | Self::Reject(args) => &args.connect,
            Self::Rename(args) => &args.connect,
            Self::Invoke(args) => &args.connect,
            Self::Run(args) => &args.connect,
            Self::Notify(args) => &args.connect,
        }
    }
}

pub(crate) async fn run(context: &Context, command: NodesCommand) -> CommandResult {
    match command {
        NodesCommand::Status(args) => status(context, &args).await,
        NodesCommand::Describe(args) => describe(context, &args).await,
        NodesCommand::List(connect) => list(context, &connect).await,
        NodesCommand::Pending(connect) => pending(context, &connect).await,
        NodesCommand::Approve(args) => {
            let answer = decide(context, &args, "node.pair.approve").await?;
            if args.connect.json {
                context.output.json(&answer)?;
                return Ok(Exit::Ok);
            }
            let node: PairedNode = read("node.pair.approve", &answer["node"])?;
            let name = node.about.display_name.as_deref().unwrap_or(&node.node_id);
            let commands = node.about.commands.unwrap_or_default().join(", ");
            let may = if commands.is_empty() {
                "nothing"
            } else {
                &commands
            };
            context
                .output
                .line(format!("{} may run {}", plain(name), plain(may)))?;
            if let Some(token) = &node.token {
                context.output.line(plain(token))?;
                context
                    .output
                    .note("the node's token; it is not shown again");
            }
            Ok(Exit::Ok)
        }
        NodesCommand::Reject(args) => {
            let answer = decide(context, &args, "node.pair.reject").await?;
            told(context, &args.connect, &answer, "turned away")
        }
        NodesCommand::Remove(args) => {
            let method = "node.pair.remove";
            let link = Link::open(context, &args.connect, ORDINARY_MS, &[LIST, method]).await?;
            let node_id = named_or_as_is(&link, &args.node).await?;
            let answer = link.call(method, Some(&json!({"nodeId": node_id}))).await?;
            link.close().await;
            told(
                context,
                &args.connect,
                &answer,
                "what was approved is taken back",
            )
        }
        NodesCommand::Rename(args) => {
            let method = "node.rename";
            let link = Link::open(context, &args.connect, ORDINARY_MS, &[LIST, method]).await?;
            let node_id = named_or_as_is(&link, &args.node).await?;
            let params = json!({"nodeId": node_id, "displayName": args.name});
            let answer = link.call(method, Some(&params)).await?;
            link.close().await;
            told(
                context,
                &args.connect,
                &answer,
                &format!("is called {}", plain(&args.name)),
            )
        }
        NodesCommand::Invoke(args) => invoke(context, &args).await,
        NodesCommand::Run(args) => run_program(context, &args).await,
        NodesCommand::Notify(args) => notify(context, &args).await,
    }
}

fn told(context: &Context, connect: &ConnectArgs, answer: &Value, what: &str) -> CommandResult {
    if connect.json {
        context.output.json(answer)?;
    } else {
        let id = answer["nodeId"].as_str().unwrap_or_default();
        context.output.line(format!("{}: {what}", plain(id)))?;
    }
    Ok(Exit::Ok)
}

/// Approves or rejects; a beginning of the id is completed from the list.
async fn decide(context: &Context, args: &RequestArgs, method: &str) -> CommandResult<Value> {
    let begins = (6..36).contains(&args.request_id.len());
    let methods = [method, PAIR_LIST];
    let needed = if begins { &methods[..] } else { &methods[..1] };
    let link = Link::open(context, &args.connect, ORDINARY_MS, needed).await?;
    let mut request_id = args.request_id.clone();
    if begins {
        let answer = link.call(PAIR_LIST, Some(&json!({}))).await?;
        let list: PairList = read(PAIR_LIST, &answer)?;
        let ids = list.pending.iter().map(|pending| &pending.request_id);
        let meant: Vec<&String> = ids.filter(|id| id.starts_with(&request_id)).collect();
        match meant[..] {
            [] => {}
            [one] => request_id.clone_from(one),
            _ => {
                return Err(CommandError::new(
                    Exit::Failed,
                    "AMBIGUOUS_ID",
                    format!("{request_id} could be {} of them", meant.len()),
                )
                .hint("clawgate nodes pending"));
            }
        }
    }
    let answer = link
        .call(method, Some(&json!({"requestId": request_id})))
        .await;
    link.close().await;
    answer
}

async fn status(context: &Context, args: &StatusArgs) -> CommandResult {
    let params = json!({});
    let mut answer = call_once(context, &args.connect, ORDINARY_MS, LIST, Some(&params)).await?;
    if args.connected
        && let Some(nodes) = answer["nodes"].as_array_mut()
    {
        nodes.retain(|node| node["connected"] == true);
    }
    let output = context.output;
    if args.connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let list: NodeList = read(LIST, &answer)?;
    let paired = list.nodes.iter().filter(|node| node.paired).count();
    let here = list.nodes.iter().filter(|node| node.connected).count();
    output.line(format!(
        "Known: {} · Paired: {paired} · Connected: {here}",
        list.nodes.len()
    ))?;
    if list.nodes.is_empty() {
        return Ok(Exit::Ok);
    }
    let now = clock::now_ms();
    let rows = list
        .nodes
        .iter()
        .map(|node| status_row(node, now))
        .collect();
    let header = ["node", "id", "status", "commands", "waits", "ip", "detail"];
    output.line(table::table(&header, &["node"], rows))?;
    if list
        .nodes
        .iter()
        .any(|node| node.pending_request_id.is_some())
    {
        let pending = context.globals.typed("clawgate nodes pending");
        output.line(format!("commands wait for approval: {pending}"))?;
    }
    Ok(Exit::Ok)
}

fn status_row(node: &NodeView, now: i64) -> Vec<String> {
    let since = node.connected_at_ms.map(|at| words::relative(at, now));
    vec![
        name_of(node).to_owned(),
        table::cut(&node.node_id, 13),
        match since {
            Some(since) => format!("here since {since}"),
            None => "away".to_owned(),
        },
        node.commands.len().to_string(),
        match node.withheld.len() {
            0 => String::new(),
            waits => waits.to_string(),
        },
        node.remote_ip.clone().unwrap_or_else(|| "local".to_owned()),
        [&node.platform, &node.version]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" "),
    ]
}

fn name_of(node: &NodeView) -> &str {
    node.display_name.as_deref().unwrap_or(&node.node_id)
}

async fn describe(context: &Context, args: &NodeArgs) -> CommandResult {
    let method = "node.describe";
    let link = Link::open(context, &args.connect, ORDINARY_MS, &[LIST, method]).await?;
    let node = find(&link, &args.node).await?;
    let params = json!({"nodeId": node.node_id});
    let answer = link.call(method, Some(&params)).await?;
    link.close().await;
    let output = context.output;
    if args.connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let node: NodeView = read(method, &answer)?;
    let now = clock::now_ms();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let status = match node.connected_at_ms {
        Some(at) => format!("here since {}", words::relative(at, now)),
        None => "away".to_owned(),
    };
    let rows: Vec<(&str, String)> = [
        ("node", name_of(&node).to_owned()),
        ("id", node.node_id.clone()),
        ("status", status),
        ("platform", text(&node.platform)),
        ("family", text(&node.device_family)),
        ("version", text(&node.version)),
        ("address", text(&node.remote_ip)),
        ("abilities", node.caps.join(", ")),
        ("path", text(&node.path_env)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect();
    output.line(table::pairs(&rows))?;
    if !node.commands.is_empty() {
        output.line(output.paint(Tone::Bold, "\nMay be asked to run"))?;
        for command in &node.commands {
            output.line(format!("  {}", plain(command)))?;
        }
    }
    if !node.withheld.is_empty() {
        output.line(output.paint(Tone::Bold, "\nDeclared, and not run"))?;
        for withheld in &node.withheld {
            let why = match withheld.reason.as_str() {
                "not-approved" => "waits for approval",
                "not-allowed" => "not allowed (gateway.nodes)",
                other => other,
            };
            output.line(format!("  {}  {}", plain(&withheld.command), plain(why)))?;
        }
    }
    if let Some(request) = &node.pending_request_id {
        let approve = context.globals.typed("clawgate nodes approve");
        output.line(format!("\napprove it with: {approve} {}", plain(request)))?;
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let answer = call_once(context, connect, ORDINARY_MS, PAIR_LIST, Some(&json!({}))).await?;
    let output = context.output;
    if connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let list: PairList = read(PAIR_LIST, &answer)?;
    let (waits, paired) = (list.pending.len(), list.paired.len());
    output.line(format!("Pending: {waits} · Paired: {paired}"))?;
    let now = clock::now_ms();
    if waits > 0 {
        output.line(pending_table(&list.pending, now))?;
    }
    if paired > 0 {
        let rows = list
            .paired
            .iter()
            .map(|node| {
                vec![
                    node.about.display_name.clone().unwrap_or_default(),
                    node.node_id.clone(),
                    node.about.commands.clone().unwrap_or_default().join(" "),
                    words::relative(node.approved_at_ms, now),
                ]
            })
            .collect();
        let header = ["node", "id", "commands", "approved"];
        output.line(table::table(&header, &["node"], rows))?;
    }
    Ok(Exit::Ok)
}

fn pending_table(pending: &[PendingNode], now: i64) -> String {
    let rows = pending
        .iter()
        .map(|pending| {
            vec![
                pending.request_id.clone(),
                pending
                    .about
                    .display_name
                    .clone()
                    .unwrap_or_else(|| table::cut(&pending.node_id, 13)),
                pending.about.commands.clone().unwrap_or_default().join(" "),
                pending
                    .about
                    .remote_ip
                    .clone()
                    .unwrap_or_else(|| "local".to_owned()),
                words::relative(pending.ts, now),
            ]
        })
        .collect();
    let header = ["request", "node", "commands", "ip", "age"];
    table::table(&header, &["request", "commands"], rows)
}

async fn pending(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let answer = call_once(context, connect, ORDINARY_MS, PAIR_LIST, Some(&json!({}))).await?;
    let output = context.output;
    if connect.json {
        output.json(&answer["pending"])?;
        return Ok(Exit::Ok);
    }
    let list: PairList = read(PAIR_LIST, &answer)?;
    if list.pending.is_empty() {
        output.line("no node waits for approval")?;
        return Ok(Exit::Ok);
    }
    output.line(pending_table(&list.pending, clock::now_ms()))?;
    let approve = context.globals.typed("clawgate nodes approve REQUEST");
    output.line(format!("approve one with: {approve}"))?;
    Ok(Exit::Ok)
}

async fn nodes_of(link: &Link) -> CommandResult<Vec<NodeView>> {
    let answer = link.call(LIST, Some(&json!({}))).await?;
    let list: NodeList = read(LIST, &answer)?;
    Ok(list.nodes)
}

/// The nodes that a text may mean: by whole id, name or address first, by the beginning of an id
/// otherwise.
fn meant<'a>(nodes: &'a [NodeView], text: &str) -> Vec<&'a NodeView> {
    let text = text.trim();
    let exact: Vec<&NodeView> = nodes
        .iter()
        .filter(|node| {
            node.node_id == text
                || node.remote_ip.as_deref() == Some(text)
                || node
                    .display_name
                    .as_deref()
                    .is_some_and(|name| name.to_lowercase() == text.to_lowercase())
        })
        .collect();
    if !exact.is_empty() || text.len() < 6 {
        return exact;
    }
    let begins = nodes.iter().filter(|node| node.node_id.starts_with(text));
    begins.collect()
}

fn ambiguous(text: &str, meant: &[&NodeView]) -> CommandError {
    let ids: Vec<&str> = meant.iter().map(|node| node.node_id.as_str()).collect();
    CommandError::new(
        Exit::Failed,
        "AMBIGUOUS_NODE",
        format!("ambiguous node: {text} (matches: {})", ids.join(", ")),
    )
    .hint("name it by its id")
}

/// The one node that a text means.
async fn find(link: &Link, text: &str) -> CommandResult<NodeView> {
    let nodes = nodes_of(link).await?;
    match meant(&nodes, text)[..] {
        [one] => Ok(one.clone()),
        [] => {
            let known: Vec<&str> = nodes.iter().map(name_of).collect();
            let known = if known.is_empty() {
                String::new()
            } else {
                format!(" (known: {})", known.join(", "))
            };
            let message = format!("unknown node: {}{}", plain(text), plain(&known));
            Err(CommandError::new(Exit::Failed, "UNKNOWN_NODE", message)
                .hint("clawgate nodes status"))
        }
        ref several => Err(ambiguous(text, several)),
    }
}

/// The same, and what is unknown here is left for the gateway to judge: the older store has names of
/// its own.
async fn named_or_as_is(link: &Link, text: &str) -> CommandResult<String> {
    let nodes = nodes_of(link).await?;
    match meant(&nodes, text)[..] {
        [one] => Ok(one.node_id.clone()),
        [] => Ok(text.to_owned()),
        ref several => Err(ambiguous(text, several)),
    }
}

/// A connection whose answers may take as long as the node.
async fn open(
    context: &Context,
    connect: &ConnectArgs,
    within_ms: u64,
    methods: &[&str],
) -> CommandResult<Link> {
    let patient = ConnectArgs {
        timeout: Some(
            connect
                .timeout
                .unwrap_or(SLOW_MS)
                .max(within_ms + MARGIN_MS),
        ),
        ..connect.clone()
    };
    Link::open(context, &patient, SLOW_MS, methods).await
}

async fn invoke(context: &Context, args: &InvokeArgs) -> CommandResult {
    let command = args.command.trim();
    if matches!(command, "system.run" | "system.run.prepare") {
        return Err(
            CommandError::usage(format!("{command} is run by: clawgate nodes run"))
                .hint("clawgate nodes run --node NODE -- PROGRAM"),
        );
    }
    let params: Value = serde_json::from_str(&args.params)
        .map_err(|error| CommandError::usage(format!("--params is no JSON: {error}")))?;
    let link = open(context, &args.connect, args.invoke_timeout, &[LIST, INVOKE]).await?;
    let node = find(&link, &args.node).await?;
    let answer = link
        .call(
            INVOKE,
            Some(&json!({
                "nodeId": node.node_id,
                "command": command,
                "params": params,
                "timeoutMs": args.invoke_timeout,
                "idempotencyKey": args.idempotency_key.clone().unwrap_or_else(new_key),
            })),
        )
        .await?;
    link.close().await;
    if args.connect.json {
        context.output.json(&answer)?;
    } else {
        context.output.line(pretty(&answer["payload"]))?;
    }
    Ok(Exit::Ok)
}

async fn notify(context: &Context, args: &NotifyArgs) -> CommandResult {
    if args.title.is_none() && args.body.is_none() {
        return Err(CommandError::usage("--title or --body is needed"));
    }
    let link = open(context, &args.connect, args.invoke_timeout, &[LIST, INVOKE]).await?;
    let node = find(&link, &args.node).await?;
    let mut params = json!({"delivery": args.delivery});
    for (key, value) in [
        ("title", &args.title),
        ("body", &args.body),
        ("sound", &args.sound),
        ("priority", &args.priority),
    ] {
        if let Some(value) = value {
            params[key] = value.as_str().into();
        }
    }
    let wanted = json!({
        "nodeId": node.node_id, "command": "system.notify", "params": params,
        "timeoutMs": args.invoke_timeout, "idempotencyKey": new_key(),
    });
    let answer = link.call(INVOKE, Some(&wanted)).await?;
    link.close().await;
    if args.connect.json {
        context.output.json(&answer)?;
    } else {
        context
            .output
            .line(format!("shown on {}", plain(name_of(&node))))?;
    }
    Ok(Exit::Ok)
}

async fn run_program(context: &Context, args: &RunArgs) -> CommandResult {
    let mut env = BTreeMap::new();
    for pair in &args.env {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| CommandError::usage(format!("--env {pair} is not KEY=VALUE")))?;
        env.insert(name.to_owned(), value.to_owned());
    }
    let argv = match &args.raw {
        Some(text) => vec!["/bin/sh".to_owned(), "-lc".to_owned(), text.clone()],
        None => args.command.clone(),
    };
    let link = open(context, &args.connect, args.invoke_timeout, &[LIST, INVOKE]).await?;
    let node = match &args.node {
        Some(text) => find(&link, text).await?,
        None => only_one(&link).await?,
    };
    let mut params = json!({"command": argv});
    if !env.is_empty() {
        params["env"] = json!(env);
    }
    let texts = [
        ("cwd", &args.cwd),
        ("agentId", &args.agent),
        ("rawCommand", &args.raw),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            params[key] = value.as_str().into();
        }
    }
    if let Some(ms) = args.command_timeout {
        params["timeoutMs"] = ms.into();
    }
    if args.needs_screen_recording {
        params["needsScreenRecording"] = true.into();
    }
    let call = |params: Value| {
        json!({
            "nodeId": node.node_id, "command": "system.run", "params": params,
            "timeoutMs": args.invoke_timeout, "idempotencyKey": new_key(),
        })
    };
    let first = link.try_call(INVOKE, Some(&call(params.clone()))).await;
    let answer = match first {
        Err(error) if asks_for_approval(&error) && link.opened().session.serves(APPROVAL) => {
            let approved = approved(context, &link, &node, params).await?;
            link.call(INVOKE, Some(&call(approved))).await?
        }
        Err(error) => return Err(link.failed(INVOKE, &error)),
        Ok(answer) => answer,
    };
    link.close().await;
    let payload = &answer["payload"];
    if args.connect.json {
        context.output.json(&answer)?;
    } else {
        let text = |key: &str| {
            payload[key]
                .as_str()
                .unwrap_or_default()
                .trim_end()
                .to_owned()
        };
        let (out, err) = (text("stdout"), text("stderr"));
        if !out.is_empty() {
            context.output.line(plain(&out))?;
        }
        if !err.is_empty() {
            context.output.note(err);
        }
        if payload["success"] != true {
            let how = match (payload["timedOut"] == true, payload["exitCode"].as_i64()) {
                (true, _) => "it took too long".to_owned(),
                (false, Some(code)) => format!("exit code {code}"),
                (false, None) => payload["error"].as_str().unwrap_or("it failed").to_owned(),
            };
            context.output.note(how);
        }
    }
    Ok(if payload["success"] == true {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

const APPROVAL: &str = "exec.approval.request";
/// How long somebody may take to decide, milliseconds.
const DECISION_MS: u64 = 120_000;

fn asks_for_approval(error: &ClientError) -> bool {
    error.received().is_some_and(|received| {
        let fault = received
            .details
            .as_ref()
            .map(|details| &details["nodeError"]);
        fault.is_some_and(|fault| {
            fault["message"].as_str() == Some("SYSTEM_RUN_DENIED: approval required")
        })
    })
}

/// Asks for an approval of exactly what would run there, and gives the params that carry it.
async fn approved(
    context: &Context,
    link: &Link,
    node: &NodeView,
    params: Value,
) -> CommandResult<Value> {
    let prepare = json!({
        "nodeId": node.node_id, "command": "system.run.prepare", "params": params,
        "idempotencyKey": new_key(),
    });
    let prepared = link.call(INVOKE, Some(&prepare)).await?;
    let plan = prepared["payload"]["plan"].clone();
    let id = new_key();
    let mut request = json!({
        "id": id,
        "command": plan["commandText"],
        "commandArgv": plan["argv"],
        "systemRunPlan": plan,
        "cwd": plan["cwd"],
        "nodeId": node.node_id,
        "host": "node",
        "timeoutMs": DECISION_MS,
    });
    let payload = &prepared["payload"];
    for (key, value) in [
        ("agentId", &params["agentId"]),
        ("env", &params["env"]),
        ("resolvedPath", &payload["resolvedPath"]),
        ("resolvedSha256", &payload["resolvedSha256"]),
    ] {
        if !value.is_null() {
            request[key] = value.clone();
        }
    }
    context.output.note(format!(
        "{} asks for approval of: {}",
        plain(name_of(node)),
        plain(plan["commandText"].as_str().unwrap_or_default())
    ));
    let allow = context
        .globals
        .typed(&format!("clawgate approvals allow {id}"));
    context.output.note(plain(&allow));
    // Longer than the request stands, so that the gateway says that nobody decided.
    let within = Duration::from_millis(DECISION_MS + MARGIN_MS);
    let session = &link.opened().session;
    let answer = session
        .request_final_within(APPROVAL, Some(&request), within)
        .await
        .map_err(|error| link.failed(APPROVAL, &error))?;
    let decision = answer["decision"].as_str().unwrap_or_default();
    if !matches!(decision, "allow-once" | "allow-always") {
        let why = match decision {
            "deny" => "exec denied: it was not approved",
            _ => "exec denied: nobody decided in time",
        };
        return Err(CommandError::new(Exit::Failed, "EXEC_DENIED", why));
    }
    let mut carried = params;
    carried["command"] = plan["argv"].clone();
    carried["cwd"] = plan["cwd"].clone();
    carried["rawCommand"] = plan["commandText"].clone();
    carried["approved"] = true.into();
    carried["approvalDecision"] = decision.into();
    carried["runId"] = id.into();
    Ok(carried)
}

async fn only_one(link: &Link) -> CommandResult<NodeView> {
    let nodes = nodes_of(link).await?;
    let mut runs = nodes.into_iter().filter(|node| {
        node.connected && node.commands.iter().any(|command| command == "system.run")
    });
    match (runs.next(), runs.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(CommandError::new(
            Exit::Failed,
            "NO_NODE",
            "no node is here that runs programs",
        )
        .hint("clawgate nodes status")),
        (Some(_), Some(_)) => Err(CommandError::usage("several nodes are here: --node NODE")
            .hint("clawgate nodes status")),
    }
}
