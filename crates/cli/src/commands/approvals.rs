//! `approvals`: commands that wait to be let run, and the file of what runs without asking.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use clawgate_gateway::{PolicyError, PolicyFile, runs_others, shown};
use clawgate_protocol::{
    approval::{FileSetParams, Pending, Resolved, Snapshot},
    exec_policy::{Agent, Entry, File},
};
use serde_json::{Value, json};

use super::{Context, ORDINARY_MS, call_once, read};
use crate::{
    app::ConnectArgs,
    clock,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Tone, one_line, plain, reader_gone, table},
    session::Link,
    words,
};

const LIST: &str = "exec.approval.list";
const RESOLVE: &str = "exec.approval.resolve";
/// Bytes of a file at most; the gateway takes no more.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// `approvals`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// What may be run without asking
    #[command(
        after_help = "Examples:\n  clawgate approvals get\n  clawgate approvals get --gateway --json\n  clawgate approvals get --node kitchen-pi"
    )]
    Get(PlaceArgs),
    /// Replace that file
    #[command(
        after_help = "Examples:\n  clawgate approvals set --file exec-approvals.json\n  clawgate approvals get --json | jq .file | clawgate approvals set --stdin --node kitchen-pi"
    )]
    Set(SetArgs),
    /// Add programs that may be run, or remove them
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate approvals allowlist add /usr/bin/uptime\n  clawgate approvals allowlist remove /usr/bin/uptime"
    )]
    Allowlist(AllowlistCommand),
    /// Commands that wait for a decision
    #[command(
        after_help = "Examples:\n  clawgate approvals pending\n  clawgate approvals pending --json | jq -r '.[].id'"
    )]
    Pending(ConnectArgs),
    /// Let a command run
    #[command(
        after_help = "Examples:\n  clawgate approvals allow 08936d65\n  clawgate approvals allow 08936d65 --always"
    )]
    Allow(AllowArgs),
    /// Do not let a command run
    #[command(after_help = "Examples:\n  clawgate approvals deny 08936d65")]
    Deny(DenyArgs),
    /// Commands as they come and are decided
    #[command(
        after_help = "Examples:\n  clawgate approvals watch\n  clawgate approvals watch --json"
    )]
    Watch(ConnectArgs),
}

/// `approvals allowlist`.
#[derive(Debug, Subcommand)]
pub(crate) enum AllowlistCommand {
    /// Let a program run without asking
    #[command(
        after_help = "Examples:\n  clawgate approvals allowlist add /usr/bin/uptime\n  clawgate approvals allowlist add '~/Projects/**/bin/rg' --agent main\n  clawgate approvals allowlist add /usr/bin/uptime --node kitchen-pi"
    )]
    Add(PatternArgs),
    /// Ask about a program again
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  clawgate approvals allowlist remove /usr/bin/uptime --agent main"
    )]
    Remove(PatternArgs),
}

/// Whose file.
#[derive(Args, Debug)]
pub(crate) struct PlaceArgs {
    /// That of a node, by id, name or address
    #[arg(long, value_name = "NODE", conflicts_with = "gateway")]
    node: Option<String>,
    /// That of the gateway, through the gateway; without it, the file of this machine
    #[arg(long)]
    gateway: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `approvals set`.
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Read the new file from here
    #[arg(long, value_name = "PATH", conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Read the new file from standard input
    #[arg(long)]
    stdin: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// `approvals allowlist add` and `remove`.
#[derive(Args, Debug)]
pub(crate) struct PatternArgs {
    /// Absolute path of the program, with links followed; * ** ? and a leading ~ are understood
    pattern: String,
    /// For which agent
    #[arg(long, value_name = "ID", default_value = "*")]
    agent: String,
    #[command(flatten)]
    place: PlaceArgs,
}

/// `approvals allow`.
#[derive(Args, Debug)]
pub(crate) struct AllowArgs {
    /// Which command, or the beginning of its id
    id: String,
    /// And the same again without asking
    #[arg(long)]
    always: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `approvals deny`.
#[derive(Args, Debug)]
pub(crate) struct DenyArgs {
    /// Which command, or the beginning of its id
    id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl ApprovalsCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::Get(args) => &args.connect,
            Self::Set(args) => &args.place.connect,
            Self::Allowlist(AllowlistCommand::Add(args) | AllowlistCommand::Remove(args)) => {
                &args.place.connect
            }
            Self::Pending(connect) | Self::Watch(connect) => connect,
            Self::Allow(args) => &args.connect,
            Self::Deny(args) => &args.connect,
        }
    }
}

pub(crate) async fn run(context: &Context, command: ApprovalsCommand) -> CommandResult {
    match command {
        ApprovalsCommand::Get(args) => {
            let place = Place::open(context, &args, Want::Read).await?;
            let snapshot = place.read().await?;
            place.show(context, &args, snapshot).await
        }
        ApprovalsCommand::Set(args) => {
            let file = incoming(&args)?;
            change(context, &args.place, move |_| Ok(file)).await
        }
        ApprovalsCommand::Allowlist(AllowlistCommand::Add(args)) => add(context, args).await,
        ApprovalsCommand::Allowlist(AllowlistCommand::Remove(args)) => {
            let pattern = args.pattern.trim().to_owned();
            let agent = args.agent.clone();
            change(context, &args.place, move |mut file| {
                remove(&mut file, &agent, &pattern)?;
                Ok(file)
            })
            .await
        }
        ApprovalsCommand::Pending(connect) => pending(context, &connect).await,
        ApprovalsCommand::Allow(args) => {
            let decision = if args.always {
                "allow-always"
            } else {
                "allow-once"
            };
            decide(context, &args.connect, &args.id, decision).await
        }
        ApprovalsCommand::Deny(args) => decide(context, &args.connect, &args.id, "deny").await,
        ApprovalsCommand::Watch(connect) => {
            tokio::select! {
                ended = watch(context, &connect) => ended,
                () = reader_gone() => Ok(Exit::Ok),
            }
        }
    }
}

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Read,
    Write,
}

/// Where a file is.
#[derive(Debug)]
enum Place {
    /// On this machine, whether a gateway runs or not.
    Here(PolicyFile),
    Gateway(Link),
    Node(Link, String),
}

/// A file as it was shown, typed and as it came.
#[derive(Debug)]
struct Shown {
    snapshot: Snapshot,
    raw: Value,
}

impl Place {
    async fn open(context: &Context, args: &PlaceArgs, want: Want) -> CommandResult<Self> {
        let (get, set) = if args.node.is_some() {
            ("exec.approvals.node.get", "exec.approvals.node.set")
        } else {
            ("exec.approvals.get", "exec.approvals.set")
        };
        let mut methods = vec![get];
        if want == Want::Write {
            methods.push(set);
        }
        let Some(wanted) = &args.node else {
            // A gateway that was named is asked; the file of this machine is not its.
            if args.gateway || args.connect.url.is_some() {
                let link = Link::open(context, &args.connect, ORDINARY_MS, &methods).await?;
                return Ok(Self::Gateway(link));
            }
            let directory = &context.paths.gateway_state_dir;
            return Ok(Self::Here(PolicyFile::of(directory)));
        };
        methods.push("node.list");
        let link = Link::open(context, &args.connect, ORDINARY_MS, &methods).await?;
        let list = link.call("node.list", Some(&json!({}))).await?;
        let node = node_id(&list, wanted)?;
        Ok(Self::Node(link, node))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Here(_) => "local",
            Self::Gateway(_) => "gateway",
            Self::Node(..) => "node",
        }
    }

    async fn read(&self) -> CommandResult<Shown> {
        let (method, answer) = match self {
            Self::Here(file) => {
                let snapshot = file.snapshot().map_err(|error| unusable(&error))?;
                let raw = json!(snapshot);
                return Ok(Shown { snapshot, raw });
            }
            Self::Gateway(link) => {
                let method = "exec.approvals.get";
                (method, link.call(method, Some(&json!({}))).await?)
            }
            Self::Node(link, node) => {
                let (method, params) = ("exec.approvals.node.get", json!({"nodeId": node}));
                (method, link.call(method, Some(&params)).await?)
            }
        };
        taken(method, answer)
    }

    async fn write(&self, base: &str, file: File) -> CommandResult<Shown> {
        let mut params = json!(FileSetParams {
            file: file.clone(),
            base_hash: Some(base.to_owned()),
        });
        let (method, answer) = match self {
            Self::Here(place) => {
                let snapshot = place
                    .replace(Some(base), file)
                    .map_err(|error| unusable(&error))?;
                let raw = json!(snapshot);
                return Ok(Shown { snapshot, raw });
            }
            Self::Gateway(link) => {
                let method = "exec.approvals.set";
                (method, link.call(method, Some(&params)).await?)
            }
            Self::Node(link, node) => {
                params["nodeId"] = json!(node);
                let method = "exec.approvals.node.set";
                (method, link.call(method, Some(&params)).await?)
            }
        };
        taken(method, answer)
    }

    async fn show(self, context: &Context, args: &PlaceArgs, shown: Shown) -> CommandResult {
        let name = self.name();
        if let Self::Gateway(link) | Self::Node(link, _) = self {
            link.close().await;
        }
        if args.connect.json {
            context.output.json_line(&shown.raw)?;
        } else {
            context.output.line(page(name, &shown.snapshot))?;
        }
        Ok(Exit::Ok)
    }
}

fn taken(method: &str, raw: Value) -> CommandResult<Shown> {
    let snapshot = read(method, &raw)?;
    Ok(Shown { snapshot, raw })
}

fn unusable(error: &PolicyError) -> CommandError {
    let code = match error {
        PolicyError::NoBase | PolicyError::Changed => "EXEC_APPROVALS_CHANGED",
        PolicyError::Unreadable { .. } | PolicyError::Io { .. } => "EXEC_APPROVALS_UNREADABLE",
    };
    CommandError::new(Exit::Failed, code, error.to_string())
}

/// The id of the node that somebody means: by id, name, address, or the beginning of an id.
fn node_id(list: &Value, wanted: &str) -> CommandResult<String> {
    let nodes = list["nodes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let is = |node: &&Value, key: &str| {
        node[key]
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case(wanted))
    };
    let begins = |node: &&Value| {
        let id = node["nodeId"].as_str().unwrap_or_default();
        wanted.len() >= 6 && id.starts_with(wanted)
    };
    let exact: Vec<&Value> = nodes
        .iter()
        .filter(|node| {
            ["nodeId", "displayName", "remoteIp"]
                .iter()
                .any(|key| is(node, key))
        })
        .collect();
    let found = if exact.is_empty() {
        nodes.iter().filter(begins).collect()
    } else {
        exact
    };
    match found[..] {
        [one] => Ok(one["nodeId"].as_str().unwrap_or_default().to_owned()),
        [] => Err(CommandError::new(
            Exit::Failed,
            "UNKNOWN_NODE",
            format!("no node is called {wanted}"),
        )),
        _ => Err(CommandError::new(
            Exit::Failed,
            "AMBIGUOUS_ID",
            format!("{wanted} could be {} nodes", found.len()),
        )),
    }
}

/// Reads a file, changes it and writes it back, unless somebody else was quicker.
async fn change(
    context: &Context,
    args: &PlaceArgs,
    change: impl FnOnce(File) -> CommandResult<File>,
) -> CommandResult {
    let place = Place::open(context, args, Want::Write).await?;
    let before = place.read().await?.snapshot;
    let file = change(before.file)?;
    let after = place.write(&before.hash, file).await?;
    place.show(context, args, after).await
}

async fn add(context: &Context, args: PatternArgs) -> CommandResult {
    let pattern = args.pattern.trim().to_owned();
    let absolute = pattern.starts_with('/') || pattern.starts_with("~/") || pattern == "*";
    if !absolute {
        return Err(CommandError::usage(format!(
            "{pattern:?} would never match: programs are matched by their absolute path"
        ))
        .hint(format!(
            "clawgate approvals allowlist add \"$(readlink -f \"$(command -v {pattern})\")\""
        )));
    }
    let name = pattern.rsplit('/').next().unwrap_or_default();
    if runs_others(name) {
        context.output.note(format!(
            "note: {name} runs what its arguments say, so this entry alone lets nothing run; \
             allow a command of it with: {}",
            context
                .globals
                .typed("clawgate approvals allow ID --always")
        ));
    }
    let agent = args.agent.clone();
    change(context, &args.place, move |mut file| {
        let list = &mut file.agents.entry(agent).or_default().allowlist;
        if !list
            .iter()
            .any(|entry| entry.pattern == pattern && entry.argv.is_none())
        {
            list.push(Entry {
                pattern,
                last_used_at: Some(clock::now_ms().into()),
                ..Entry::default()
            });
        }
        Ok(file)
    })
    .await
}

fn remove(file: &mut File, agent: &str, pattern: &str) -> CommandResult<()> {
    let Some(place) = file.agents.get_mut(agent) else {
        return Err(not_listed(agent, pattern));
    };
    let before = place.allowlist.len();
    place
        .allowlist
        .retain(|entry| entry.pattern.trim() != pattern);
    if place.allowlist.len() == before {
        return Err(not_listed(agent, pattern));
    }
    if *place == Agent::default() {
        file.agents.remove(agent);
    }
    Ok(())
}

fn not_listed(agent: &str, pattern: &str) -> CommandError {
    CommandError::new(
        Exit::Failed,
        "NOT_LISTED",
        format!("{pattern} is not listed for agent {agent}"),
    )
    .hint("clawgate approvals get")
}

/// The file that somebody wants to have instead.
fn incoming(args: &SetArgs) -> CommandResult<File> {
    let usage = || CommandError::usage("--file PATH or --stdin says where the new file is");
    let text = match (&args.file, args.stdin) {
        (Some(path), _) => open(path)?,
        (None, true) => {
            if std::io::stdin().is_terminal() {
                return Err(usage());
            }
            limited(std::io::stdin(), "standard input")?
        }
        (None, false) => return Err(usage()),
    };
    let options = jsonc_parser::ParseOptions::default();
    let value: Option<Value> = jsonc_parser::parse_to_serde_value(&text, &options)
        .map_err(|error| CommandError::usage(format!("the new file does not read: {error}")))?;
    serde_json::from_value(value.unwrap_or_default())
        .map_err(|error| CommandError::usage(format!("the new file does not read: {error}")))
}

fn open(path: &Path) -> CommandResult<String> {
    let file = std::fs::File::open(path).map_err(|error| {
        CommandError::usage(format!("{} cannot be read: {error}", path.display()))
    })?;
    limited(file, &path.display().to_string())
}

fn limited(source: impl std::io::Read, name: &str) -> CommandResult<String> {
    let mut text = String::new();
    source
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| CommandError::usage(format!("{name} cannot be read: {error}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(CommandError::usage(format!(
            "{name} is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

/// A file for people.
fn page(target: &str, snapshot: &Snapshot) -> String {
    let file = &snapshot.file;
    let dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| plain(text));
    let defaults = [
        ("security", &file.defaults.security),
        ("ask", &file.defaults.ask),
        ("askFallback", &file.defaults.ask_fallback),
    ];
    let mut said: Vec<String> = defaults
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", plain(value.as_ref()?))))
        .collect();
    if let Some(skills) = file.defaults.auto_allow_skills {
        said.push(format!("autoAllowSkills={skills}"));
    }
    let socket = file.socket.as_ref().and_then(|socket| socket.path.as_ref());
    let entries = file.agents.values().map(|agent| agent.allowlist.len());
    let mut page = table::pairs(&[
        ("target", target.to_owned()),
        ("path", plain(&snapshot.path)),
        (
            "exists",
            if snapshot.exists { "yes" } else { "no" }.to_owned(),
        ),
        ("hash", plain(&snapshot.hash)),
        ("version", file.version.to_string()),
        ("socket", dash(socket)),
        (
            "defaults",
            if said.is_empty() {
                "none".to_owned()
            } else {
                said.join(", ")
            },
        ),
        ("agents", file.agents.len().to_string()),
        ("allowlist", entries.sum::<usize>().to_string()),
    ]);
    let now = clock::now_ms();
    let rows: Vec<Vec<String>> = file
        .agents
        .iter()
        .flat_map(|(name, agent)| agent.allowlist.iter().map(move |entry| (name, entry)))
        .map(|(name, entry)| {
            let used = entry
                .last_used_at
                .as_ref()
                .and_then(serde_json::Number::as_i64);
            vec![
                plain(&entry.pattern),
                plain(name),
                entry
                    .argv
                    .as_ref()
                    .map_or_else(|| "any".to_owned(), |argv| plain(&argv.join(" "))),
                used.map_or_else(|| "never".to_owned(), |at| words::relative(at, now)),
            ]
        })
        .collect();
    if !rows.is_empty() {
        page.push_str("\n\n");
        let header = ["program", "agent", "command line", "last used"];
        page.push_str(&table::table(&header, &["program"], rows));
    }
    page
}

async fn pending(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let answer = call_once(context, connect, ORDINARY_MS, LIST, Some(&json!({}))).await?;
    if connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let list: Vec<Pending> = read(LIST, &answer)?;
    if list.is_empty() {
        context.output.line("no command waits for a decision")?;
        return Ok(Exit::Ok);
    }
    let now = clock::now_ms();
    for (number, pending) in list.iter().enumerate() {
        if number > 0 {
            context.output.line("")?;
        }
        context.output.line(told(context, pending, now))?;
    }
    Ok(Exit::Ok)
}

/// A request with all that is decided about: a command that is cut cannot be judged.
fn told(context: &Context, pending: &Pending, now: i64) -> String {
    let request = &pending.request;
    let text = |key: &str| request[key].as_str().map(shown);
    let mut rows = vec![
        ("id", plain(&pending.id)),
        ("command", text("command").unwrap_or_default()),
    ];
    for (label, key) in [
        ("program", "resolvedPath"),
        ("in", "cwd"),
        ("host", "host"),
        ("node", "nodeId"),
        ("agent", "agentId"),
        ("session", "sessionKey"),
        ("warning", "warningText"),
    ] {
        if let Some(value) = text(key) {
            rows.push((label, value));
        }
    }
    if let Some(names) = request["envKeys"].as_array() {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        rows.push(("sets", shown(&names.join(", "))));
    }
    rows.push(("over", words::relative(pending.expires_at_ms, now)));
    let page = table::pairs(&rows);
    let allow = context
        .globals
        .typed(&format!("clawgate approvals allow {}", pending.id));
    format!(
        "{page}\n{}",
        context.output.paint(Tone::Dim, one_line(&allow))
    )
}

async fn decide(
    context: &Context,
    connect: &ConnectArgs,
    id: &str,
    decision: &str,
) -> CommandResult {
    let params = json!({"id": id, "decision": decision});
    let answer = call_once(context, connect, ORDINARY_MS, RESOLVE, Some(&params)).await?;
    if connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let what = match decision {
        "deny" => "denied",
        "allow-always" if answer["kept"] == false => "allowed this once",
        "allow-always" => "allowed, and the same again",
        _ => "allowed",
    };
    context.output.line(format!("{}: {what}", plain(id)))?;
    if let Some(why) = answer["whyNotKept"].as_str() {
        context
            .output
            .note(format!("it is asked about again: {why}"));
    }
    Ok(Exit::Ok)
}

async fn watch(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let mut link = Link::open(context, connect, ORDINARY_MS, &[LIST]).await?;
    let answer = link.call(LIST, Some(&json!({}))).await?;
    let waiting: Vec<Pending> = read(LIST, &answer)?;
    for pending in &waiting {
        tell(context, connect, "exec.approval.requested", &json!(pending))?;
    }
    while let Some(event) = link.next_event().await {
        if event.event.starts_with("exec.approval.") {
            tell(context, connect, &event.event, &event.payload)?;
        }
    }
    Err(
        CommandError::new(Exit::Unreachable, "GATEWAY_GONE", "the gateway went away")
            .hint("clawgate gateway status"),
    )
}

fn tell(
    context: &Context,
    connect: &ConnectArgs,
    event: &str,
    payload: &Value,
) -> CommandResult<()> {
    if connect.json {
        let line = json!({"event": event, "payload": payload});
        return context.output.json_line(&line);
    }
    if event == "exec.approval.requested" {
        let pending: Pending = read(event, payload)?;
        return context
            .output
            .line(told(context, &pending, clock::now_ms()));
    }
    let resolved: Resolved = read(event, payload)?;
    let by = resolved.resolved_by.as_deref().unwrap_or("somebody");
    context.output.line(plain(&format!(
        "{}  {} {} by {by}",
        words::local(resolved.ts),
        resolved.id,
        resolved.decision
    )))
}
