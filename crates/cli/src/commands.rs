//! The commands, one noun a file.

pub(crate) mod agent;
pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod auth;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod channels;
pub(crate) mod chat;
pub(crate) mod config;
pub(crate) mod cron;
pub(crate) mod dashboard;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod gateway;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod logs;
pub(crate) mod mcp;
pub(crate) mod models;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod probe;
pub(crate) mod sandbox;
pub(crate) mod secrets;
pub(crate) mod security;
pub(crate) mod sessions;
pub(crate) mod skills;
pub(crate) mod status;
pub(crate) mod system;
pub(crate) mod tokens;
pub(crate) mod usage;

use clap::CommandFactory as _;
use serde_json::Value;

use crate::{
    app::{App, Command, ConnectArgs, Globals},
    config::Paths,
    env::Env,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::Output,
    session::Link,
    typed::WhenTyped,
};

/// Time limit of cron, system and log commands, milliseconds.
pub(crate) const SLOW_MS: u64 = 30_000;
/// Time limit of everything else.
pub(crate) const ORDINARY_MS: u64 = 10_000;

/// What every command can see.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) paths: Paths,
    pub(crate) env: Env,
    pub(crate) globals: Globals,
}

impl Context {
    pub(crate) fn new(globals: Globals, output: Output) -> Self {
        let env = Env::read();
        let paths = Paths::find(&globals, &env);
        Self {
            output,
            paths,
            env,
            globals,
        }
    }
}

/// Runs a command to its exit code.
pub(crate) fn run(context: &Context, command: Command) -> CommandResult {
    if context.globals.dev {
        return Err(CommandError::usage(
            "there is no --dev; a profile is a second state directory, and takes its own port",
        )
        .hint("clawgate --profile dev gateway run --port 19001"));
    }
    match command {
        Command::Gateway(WhenTyped(args)) => gateway::run(context, *args),
        Command::Status(WhenTyped(args)) => block_on(status::run(context, &args)),
        Command::Health(WhenTyped(args)) => block_on(health::run(context, &args)),
        Command::Logs(WhenTyped(args)) => block_on(logs::run(context, &args)),
        Command::Cron(WhenTyped(command)) => block_on(cron::run(context, command)),
        Command::Devices(WhenTyped(command)) => block_on(devices::run(context, command)),
        Command::Sessions(WhenTyped(args)) => block_on(sessions::run(context, *args)),
        Command::Usage(WhenTyped(args)) => block_on(usage::run(context, &args)),
        Command::Nodes(WhenTyped(command)) => block_on(nodes::run(context, command)),
        Command::Node(WhenTyped(command)) => block_on(node::run(context, command)),
        Command::Tokens(WhenTyped(command)) => block_on(tokens::run(context, command)),
        Command::Approvals(WhenTyped(command)) => block_on(approvals::run(context, command)),
        Command::Auth(WhenTyped(command)) => block_on(auth::run(context, command)),
        Command::System(WhenTyped(command)) => block_on(system::run(context, command)),
        Command::Config(WhenTyped(command)) => config::run(context, &command),
        Command::Secrets(WhenTyped(command)) => secrets::run(context, &command),
        Command::Agent(WhenTyped(args)) => block_on(agent::run(context, &args)),
        Command::Chat(WhenTyped(args)) => block_on(chat::run(context, &args)),
        Command::Mcp(WhenTyped(command)) => block_on(mcp::run(context, command)),
        Command::Agents(WhenTyped(command)) => agents::run(context, &command),
        Command::Models(WhenTyped(command)) => models::run(context, &command),
        Command::Skills(WhenTyped(command)) => skills::run(context, &command),
        Command::Channels(WhenTyped(command)) => channels::run(context, &command),
        Command::Import(WhenTyped(command)) => import::run(context, &command),
        Command::Dashboard(WhenTyped(args)) => dashboard::run(context, &args),
        Command::Backup(WhenTyped(command)) => backup::run(context, &command),
        Command::Bench(WhenTyped(command)) => bench::run(context, &command),
        Command::Doctor(WhenTyped(args)) => block_on(doctor::run(context, &args)),
        Command::Security(WhenTyped(command)) => block_on(security::run(context, &command)),
        Command::Completion(WhenTyped(args)) => {
            if args.install || args.write_state {
                return Err(CommandError::usage(
                    "nothing here writes into the files of a shell; redirect the script instead",
                )
                .hint("clawgate completion bash > ~/.local/share/bash-completion/completions/clawgate"));
            }
            let shell = args.shell.or(args.shell_flag);
            let shell = shell.ok_or_else(|| CommandError::usage("which shell?"))?;
            let mut script = Vec::new();
            clap_complete::generate(
                clap_complete::Shell::from(shell),
                &mut App::command(),
                "clawgate",
                &mut script,
            );
            context
                .output
                .line(String::from_utf8_lossy(&script).trim_end())?;
            Ok(Exit::Ok)
        }
    }
}

/// One thread is enough for a client.
pub(crate) fn block_on<T>(future: impl Future<Output = CommandResult<T>>) -> CommandResult<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::internal(format!("no runtime: {error}")))?
        .block_on(future)
}

/// Connects, calls one method, closes.
pub(crate) async fn call_once(
    context: &Context,
    args: &ConnectArgs,
    timeout_ms: u64,
    method: &str,
    params: Option<&Value>,
) -> CommandResult<Value> {
    let link = Link::open(context, args, timeout_ms, &[method]).await?;
    let answer = link.call(method, params).await;
    link.close().await;
    answer
}

/// Reads an answer as what it should be.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    method: &str,
    answer: &Value,
) -> CommandResult<T> {
    // Borrowed: the JSON itself may be printed as well.
    T::deserialize(answer).map_err(|error| {
        CommandError::internal(format!("the answer to {method} does not read: {error}"))
    })
}
