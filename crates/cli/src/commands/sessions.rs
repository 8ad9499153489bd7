//! `sessions`: conversations that the gateway keeps.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use clap::{Args, Subcommand};
use clawgate_protocol::frame::PAYLOAD_BYTES_MAX;
use serde_json::{Map, Value, json};

use super::{Context, ORDINARY_MS, SLOW_MS, call_once};
use crate::{
    app::ConnectArgs,
    clock,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Tone, plain, table},
    session::Link,
    words,
};

/// Rows of one call.
const PAGE: u64 = 200;

/// `sessions`, which lists them when nothing else is said.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Sessions, newest first
    #[command(
        after_help = "Examples:\n  clawgate sessions list\n  clawgate sessions --active 60 --json"
    )]
    List(ListArgs),
    /// The last messages of a session
    #[command(
        visible_alias = "history",
        after_help = "Examples:\n  clawgate sessions show main\n  clawgate sessions show agent:main:main --limit 50 --json"
    )]
    Show(ShowArgs),
    /// Beginnings of the last messages of several sessions
    #[command(after_help = "Examples:\n  clawgate sessions preview main agent:main:side")]
    Preview(PreviewArgs),
    /// Messages in which words stand
    #[command(
        after_help = "Examples:\n  clawgate sessions search invoice march\n  clawgate sessions search deploy --key main --json"
    )]
    Search(SearchArgs),
    /// Begin a session's conversation anew; the old one is put away
    #[command(after_help = "Examples:\n  clawgate sessions reset main")]
    Reset(KeyArgs),
    /// Remove a session; its conversation is put away
    #[command(
        after_help = "Examples:\n  clawgate sessions delete agent:main:side\n  clawgate sessions delete agent:main:side --json | jq -r '.archived[]'"
    )]
    Delete(KeyArgs),
    /// Cut a conversation to its last entries; the others are put away
    #[command(after_help = "Examples:\n  clawgate sessions compact main --max-lines 200")]
    Compact(CompactArgs),
    /// Put away what nobody touched for long, and erase what was put away long ago
    #[command(
        after_help = "Without --enforce it only counts, unless session.maintenance.mode is \"enforce\".\nOld is what session.maintenance.pruneAfter says (30d), or is beyond maxEntries (500).\n\nExamples:\n  clawgate sessions cleanup\n  clawgate sessions cleanup --all-agents --enforce"
    )]
    Cleanup(CleanupArgs),
    /// Write a conversation as OpenClaw's JSONL
    #[command(
        after_help = "Examples:\n  clawgate sessions export main > main.jsonl\n  clawgate sessions export main --out main.jsonl\n  clawgate sessions export --archive NAME --out old.jsonl"
    )]
    Export(ExportArgs),
    /// Bring a JSONL transcript into a session that has no conversation
    #[command(
        after_help = "Examples:\n  clawgate sessions import main.jsonl --key agent:main:old\n  ssh host cat a.jsonl | clawgate sessions import - --key agent:main:a"
    )]
    Import(ImportArgs),
}

/// `sessions list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Those of one agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Those of every agent, which is the rule
    #[arg(long, conflicts_with = "agent")]
    all_agents: bool,
    /// Those that changed within so many minutes
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..))]
    active: Option<u32>,
    /// Those whose names or keys contain this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Those of exactly this label
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Accepted for scripts
    #[arg(long, hide = true)]
    verbose: bool,
    /// The original's; refused, sessions are in the gateway's database
    #[arg(long, hide = true, value_name = "PATH")]
    store: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `sessions show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Which session
    key: String,
    /// At most so many messages
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `sessions preview`.
#[derive(Args, Debug)]
pub(crate) struct PreviewArgs {
    /// Which sessions
    #[arg(required = true)]
    keys: Vec<String>,
    /// Messages of each
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `sessions search`.
#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    /// Words that all stand in the message
    #[arg(required = true)]
    words: Vec<String>,
    /// In the sessions of one agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// In these sessions
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=25))]
    limit: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A session by key.
#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// Which session
    key: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `sessions compact`.
#[derive(Args, Debug)]
pub(crate) struct CompactArgs {
    /// Which session
    key: String,
    /// Entries that stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_lines: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `sessions cleanup`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of a command line are independent"
)]
#[derive(Args, Debug)]
pub(crate) struct CleanupArgs {
    /// Sessions of one agent (default: the default agent)
    #[arg(long, value_name = "ID", conflicts_with = "all_agents")]
    agent: Option<String>,
    /// Sessions of every agent
    #[arg(long)]
    all_agents: bool,
    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    enforce: bool,
    /// Only count, which is the rule
    #[arg(long)]
    dry_run: bool,
    /// A session that stays
    #[arg(long, value_name = "KEY")]
    active_key: Option<String>,
    /// Accepted for scripts; nothing here can miss its transcript
    #[arg(long, hide = true)]
    fix_missing: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `sessions export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Which session
    #[arg(required_unless_present = "archive")]
    key: Option<String>,
    /// What a reset, a deletion or a compaction put away under this name
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    archive: Option<String>,
    /// Write here, readable by you alone; a file that is there is refused
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `sessions import`.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The transcript, or - for standard input
    file: PathBuf,
    /// The session, made if it is not there
    #[arg(long, value_name = "KEY")]
    key: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl SessionsArgs {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match &self.command {
            None => &self.list.connect,
            Some(SessionsCommand::List(args)) => &args.connect,
            Some(SessionsCommand::Show(args)) => &args.connect,
            Some(SessionsCommand::Preview(args)) => &args.connect,
            Some(SessionsCommand::Search(args)) => &args.connect,
            Some(SessionsCommand::Reset(args) | SessionsCommand::Delete(args)) => &args.connect,
            Some(SessionsCommand::Compact(args)) => &args.connect,
            Some(SessionsCommand::Cleanup(args)) => &args.connect,
            Some(SessionsCommand::Export(args)) => &args.connect,
            Some(SessionsCommand::Import(args)) => &args.connect,
        }
    }
}

pub(crate) async fn run(context: &Context, args: SessionsArgs) -> CommandResult {
    match args.command.unwrap_or(SessionsCommand::List(args.list)) {
        SessionsCommand::List(args) => list(context, &args).await,
        SessionsCommand::Show(args) => show(context, &args).await,
        SessionsCommand::Preview(args) => preview(context, &args).await,
        SessionsCommand::Search(args) => search(context, &args).await,
        SessionsCommand::Reset(args) => {
            let (method, params) = ("sessions.reset", json!({"key": args.key}));
            change(context, &args.connect, method, &params, |answer| {
                format!("{} begins anew", text(answer, "key"))
            })
            .await
        }
        SessionsCommand::Delete(args) => {
            let (method, params) = ("sessions.delete", json!({"key": args.key}));
            change(context, &args.connect, method, &params, deleted).await
        }
        SessionsCommand::Compact(args) => {
            let mut params = json!({"key": args.key});
            if let Some(lines) = args.max_lines {
                params["maxLines"] = json!(lines);
            }
            change(
                context,
                &args.connect,
                "sessions.compact",
                &params,
                compacted,
            )
            .await
        }
        SessionsCommand::Cleanup(args) => {
            let mut params = json!({
                "allAgents": args.all_agents, "enforce": args.enforce,
                "fixMissing": args.fix_missing,
            });
            for (member, value) in [("agent", &args.agent), ("activeKey", &args.active_key)] {
                if let Some(value) = value {
                    params[member] = json!(value);
                }
            }
            change(context, &args.connect, "sessions.cleanup", &params, cleaned).await
        }
        SessionsCommand::Export(args) => export(context, &args).await,
        SessionsCommand::Import(args) => import(context, &args).await,
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Calls a method that changes something and says in a line what.
async fn change(
    context: &Context,
    connect: &ConnectArgs,
    method: &str,
    params: &Value,
    words: impl Fn(&Value) -> String,
) -> CommandResult {
    let answer = call_once(context, connect, ORDINARY_MS, method, Some(params)).await?;
    if connect.json {
        context.output.json(&answer)?;
    } else {
        context.output.line(plain(&words(&answer)))?;
    }
    Ok(Exit::Ok)
}

fn deleted(answer: &Value) -> String {
    let key = text(answer, "key");
    if answer["deleted"] != true {
        return format!("there was no session {key}");
    }
    let names: Vec<&str> = rows(&answer["archived"])
        .filter_map(Value::as_str)
        .collect();
    if names.is_empty() {
        format!("deleted {key}")
    } else {
        format!(
            "deleted {key}; its conversation is kept as {}",
            names.join(", ")
        )
    }
}

fn cleaned(answer: &Value) -> String {
    let stores = match answer["stores"].as_array() {
        Some(stores) => stores.iter().collect(),
        None => vec![answer],
    };
    let count = |member: &str| -> usize {
        let counts = stores.iter().filter_map(|store| store[member].as_u64());
        counts.sum::<u64>().try_into().unwrap_or(usize::MAX)
    };
    let gone = words::count(count("pruned") + count("capped"), "session", "sessions");
    if answer["dryRun"] == true {
        return format!("{gone} would be put away; --enforce does it");
    }
    let erased = answer["archivesErased"].as_u64().unwrap_or(0);
    format!("{gone} put away, {erased} archives erased")
}

fn compacted(answer: &Value) -> String {
    let key = text(answer, "key");
    let kept = answer["kept"].as_u64().unwrap_or(0);
    match (answer["compacted"] == true, answer["reason"].as_str()) {
        (true, _) => format!(
            "{key} keeps its last {kept} entries; the others are {}",
            text(answer, "archived")
        ),
        (false, Some("no sessionId")) => format!("there is no session {key}"),
        (false, Some(_)) => format!("{key} has no conversation"),
        (false, None) => format!("{key} has {kept} entries, which is not more"),
    }
}

async fn list(context: &Context, args: &ListArgs) -> CommandResult {
    if args.store.is_some() {
        return Err(CommandError::usage(
            "there is no store file; sessions are in the gateway's database",
        )
        .hint("clawgate sessions list"));
    }
    let mut params = json!({"includeGlobal": true, "includeUnknown": true});
    for (member, value) in [
        ("agentId", json!(args.agent)),
        ("activeMinutes", json!(args.active)),
        ("search", json!(args.search)),
        ("label", json!(args.label)),
    ] {
        if !value.is_null() {
            params[member] = value;
        }
    }
    let method = "sessions.list";
    let link = Link::open(context, &args.connect, ORDINARY_MS, &[method]).await?;
    let mut sessions: Vec<Value> = Vec::new();
    let path = loop {
        let have = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        let left = args.limit.map_or(PAGE, |limit| limit.saturating_sub(have));
        params["limit"] = json!(left.clamp(1, PAGE));
        let mut answer = link.call(method, Some(&params)).await?;
        let path = answer["path"].take();
        let next = answer["nextOffset"].take();
        sessions.extend(
            answer["sessions"]
                .as_array_mut()
                .map(std::mem::take)
                .unwrap_or_default(),
        );
        let have = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        if next.is_null() || args.limit.is_some_and(|limit| have >= limit) {
            break path;
        }
        params["offset"] = next;
    };
    link.close().await;
    let now = clock::now_ms();
    if args.connect.json {
        for session in &mut sessions {
            as_original(session, now);
        }
        context.output.json(&json!({
            "path": path,
            "count": sessions.len(),
            "activeMinutes": args.active,
            "sessions": sessions,
        }))?;
        return Ok(Exit::Ok);
    }
    if sessions.is_empty() {
        context.output.line("no sessions")?;
        return Ok(Exit::Ok);
    }
    let shown = sessions.iter().map(|session| row(session, now)).collect();
    let header = [
        "key", "kind", "changed", "model", "tokens", "label", "flags",
    ];
    context
        .output
        .line(table::table(&header, &["key"], shown))?;
    Ok(Exit::Ok)
}

/// Members that the original's command prints besides.
fn as_original(session: &mut Value, now: i64) {
    let updated = session["updatedAt"].as_i64();
    let key = text(session, "key").to_owned();
    let Some(session) = session.as_object_mut() else {
        return;
    };
    session.insert(
        "ageMs".to_owned(),
        json!(updated.map(|at| (now - at).max(0))),
    );
    if !session.contains_key("agentId") {
        let agent = key
            .strip_prefix("agent:")
            .and_then(|rest| rest.split(':').next());
        session.insert("agentId".to_owned(), json!(agent.unwrap_or("main")));
    }
}

fn row(session: &Value, now: i64) -> Vec<String> {
    let tokens = match (
        session["totalTokens"].as_i64(),
        session["contextTokens"].as_i64(),
    ) {
        (Some(total), Some(context)) if context > 0 => {
            format!("{total}/{context} ({}%)", total * 100 / context)
        }
        (Some(total), _) => total.to_string(),
        (None, _) => String::new(),
    };
    let flags: Vec<String> = [
        "thinkingLevel",
        "verboseLevel",
        "reasoningLevel",
        "elevatedLevel",
    ]
    .iter()
    .filter_map(|member| {
        let level = session[*member].as_str()?;
        Some(format!("{}:{level}", member.trim_end_matches("Level")))
    })
    .chain((session["archived"] == true).then(|| "archived".to_owned()))
    .collect();
    vec![
        text(session, "key").to_owned(),
        text(session, "kind").to_owned(),
        session["updatedAt"]
            .as_i64()
            .map_or_else(String::new, |at| words::relative(at, now)),
        text(session, "model").to_owned(),
        tokens,
        session["label"].as_str().unwrap_or_default().to_owned(),
        flags.join(" "),
    ]
}

async fn show(context: &Context, args: &ShowArgs) -> CommandResult {
    let params = json!({"sessionKey": args.key, "limit": args.limit});
    let method = "chat.history";
    let answer = call_once(context, &args.connect, SLOW_MS, method, Some(&params)).await?;
    let output = context.output;
    if args.connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    if answer["sessionId"].is_null() {
        return Err(CommandError::new(
            Exit::Failed,
            "SESSION_NOT_FOUND",
            format!("no session {}", args.key),
        )
        .hint("clawgate sessions list"));
    }
    let now = clock::now_ms();
    let mut said = 0;
    for message in rows(&answer["messages"]) {
        let when = message["timestamp"]
            .as_i64()
            .map_or_else(String::new, |at| words::moment(at, now));
        let who = message["senderLabel"]
            .as_str()
            .unwrap_or(text(message, "role"));
        let head = plain(&format!("{who}  {when}"));
        output.line(output.paint(Tone::Bold, head))?;
        output.line(plain(&words_of(message)))?;
        output.line("")?;
        said += 1;
    }
    if said == 0 {
        output.line("nothing was said yet")?;
    }
    Ok(Exit::Ok)
}

/// What a message shows in a terminal.
fn words_of(message: &Value) -> String {
    if let Some(text) = message["content"].as_str() {
        return text.to_owned();
    }
    let blocks: Vec<String> = rows(&message["content"])
        .filter_map(|block| match text(block, "type") {
            "text" => block["text"].as_str().map(str::to_owned),
            "toolCall" => Some(format!("[calls {}]", text(block, "name"))),
            "image" => Some("[image]".to_owned()),
            _ => None,
        })
        .collect();
    blocks.join("\n")
}

async fn preview(context: &Context, args: &PreviewArgs) -> CommandResult {
    let params = json!({"keys": args.keys, "limit": args.limit});
    let method = "sessions.preview";
    let answer = call_once(context, &args.connect, ORDINARY_MS, method, Some(&params)).await?;
    let output = context.output;
    if args.connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    for preview in rows(&answer["previews"]) {
        let head = plain(&format!(
            "{} ({})",
            text(preview, "key"),
            text(preview, "status")
        ));
        output.line(output.paint(Tone::Bold, head))?;
        for item in rows(&preview["items"]) {
            let said = text(item, "text").replace('\n', " ");
            output.line(plain(&format!("  {}: {said}", text(item, "role"))))?;
        }
    }
    Ok(Exit::Ok)
}

async fn search(context: &Context, args: &SearchArgs) -> CommandResult {
    let mut params = json!({"query": args.words.join(" "), "limit": args.limit});
    if let Some(agent) = &args.agent {
        params["agentId"] = json!(agent);
    }
    if !args.key.is_empty() {
        params["sessionKeys"] = json!(args.key);
    }
    let method = "sessions.search";
    let answer = call_once(context, &args.connect, SLOW_MS, method, Some(&params)).await?;
    if args.connect.json {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let now = clock::now_ms();
    let found: Vec<Vec<String>> = rows(&answer["results"])
        .map(|hit| {
            vec![
                text(hit, "sessionKey").to_owned(),
                hit["timestamp"]
                    .as_i64()
                    .map_or_else(String::new, |at| words::relative(at, now)),
                text(hit, "role").to_owned(),
                text(hit, "snippet").to_owned(),
            ]
        })
        .collect();
    if found.is_empty() {
        context.output.line("nothing found")?;
        return Ok(Exit::Ok);
    }
    let header = ["session", "when", "who", "words"];
    context
        .output
        .line(table::table(&header, &["session"], found))?;
    Ok(Exit::Ok)
}

async fn export(context: &Context, args: &ExportArgs) -> CommandResult {
    let method = "sessions.export";
    let mut params = match (&args.key, &args.archive) {
        (_, Some(archive)) => json!({"archive": archive}),
        (key, None) => json!({"key": key}),
    };
    let mut file = match &args.out {
        Some(path) => Some(
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(|error| file_error("write", path, &error))?,
        ),
        None => None,
    };
    let link = Link::open(context, &args.connect, SLOW_MS, &[method]).await?;
    let mut entries = 0;
    let mut is_first = true;
    loop {
        let answer = match link.call(method, Some(&params)).await {
            Ok(answer) => answer,
            Err(error) => {
                // A file with nothing in it would look like a conversation without words.
                if let (Some(path), true) = (&args.out, is_first) {
                    drop(fs::remove_file(path));
                }
                return Err(error);
            }
        };
        let header = answer["header"].as_str().filter(|_| is_first);
        let lines: Vec<&str> = rows(&answer["lines"]).filter_map(Value::as_str).collect();
        entries += lines.len();
        let page: String = header
            .into_iter()
            .chain(lines)
            .flat_map(|line| [line, "\n"])
            .collect();
        match (&mut file, &args.out) {
            (Some(file), Some(path)) => file
                .write_all(page.as_bytes())
                .map_err(|error| file_error("write", path, &error))?,
            _ if page.is_empty() => {}
            _ => context.output.line(page.trim_end_matches('\n'))?,
        }
        is_first = false;
        if answer["next"].is_null() {
            break;
        }
        params["after"] = answer["next"].clone();
    }
    link.close().await;
    if let (Some(file), Some(path)) = (file, &args.out) {
        file.sync_all()
            .map_err(|error| file_error("write", path, &error))?;
        let told = json!({"file": path.display().to_string(), "entries": entries});
        if args.connect.json {
            context.output.json(&told)?;
        } else {
            let count = words::count(entries, "entry", "entries");
            context
                .output
                .line(format!("{count} in {}", path.display()))?;
        }
    }
    Ok(Exit::Ok)
}

fn file_error(doing: &str, path: &std::path::Path, error: &std::io::Error) -> CommandError {
    CommandError::new(
        Exit::Failed,
        "FILE",
        format!("cannot {doing} {}: {error}", path.display()),
    )
}

async fn import(context: &Context, args: &ImportArgs) -> CommandResult {
    let mut bytes = Vec::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| file_error("read", &args.file, &error))?;
    } else {
        bytes = fs::read(&args.file).map_err(|error| file_error("read", &args.file, &error))?;
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let mut params = Map::new();
    params.insert("key".to_owned(), json!(args.key));
    params.insert("lines".to_owned(), json!(lines));
    let params = Value::Object(params);
    // It comes in one transaction or not at all, so it goes in one frame.
    if params.to_string().len() + 1_024 > PAYLOAD_BYTES_MAX {
        return Err(CommandError::new(
            Exit::Failed,
            "TOO_LARGE",
            "the transcript is larger than one message to a gateway may be",
        )
        .hint("clawgate import openclaw --from DIR, with the gateway stopped, takes any size"));
    }
    let method = "sessions.import";
    let answer = call_once(context, &args.connect, SLOW_MS, method, Some(&params)).await?;
    if args.connect.json {
        context.output.json(&answer)?;
    } else {
        let entries = answer["entries"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok());
        let count = words::count(entries.unwrap_or(0), "entry", "entries");
        context
            .output
            .line(plain(&format!("{count} in {}", args.key)))?;
    }
    Ok(Exit::Ok)
}
