//! The command line: its tree, its words, its examples. No behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

use crate::{
    commands::{
        agent::AgentArgs, agents::AgentsCommand, approvals::ApprovalsCommand, auth::AuthCommand,
        backup::BackupCommand, bench::BenchCommand, channels::ChannelsCommand, chat::ChatArgs,
        config::ConfigCommand, cron::args::CronCommand, dashboard::DashboardArgs,
        devices::DevicesCommand, doctor::DoctorArgs, gateway::GatewayArgs, health::HealthArgs,
        import::ImportCommand, logs::LogsArgs, mcp::McpCommand, models::ModelsCommand,
        node::NodeCommand, nodes::NodesCommand, secrets::SecretsCommand, security::SecurityCommand,
        sessions::SessionsArgs, skills::SkillsCommand, status::StatusArgs, system::SystemCommand,
        tokens::TokensCommand, usage::UsageArgs,
    },
    exit,
    typed::WhenTyped,
};

/// A gateway for OpenClaw clients, and the tool of its operator.
#[derive(Debug, Parser)]
#[command(name = "clawgate", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct App {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Globals {
    /// State directory (default ~/.clawgate)
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) state_dir: Option<PathBuf>,
    /// Configuration file (default clawgate.json in the state directory)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Use the state directory ~/.clawgate-NAME
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options", value_parser = profile)]
    pub(crate) profile: Option<String>,
    /// No colours
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_color: bool,
    /// Text for people, also where the output is no terminal and JSON is the rule
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) human: bool,
    /// The original's log level; debug and trace are what --verbose of gateway run is
    #[arg(long, global = true, hide = true, value_name = "LEVEL", value_parser = ["silent", "fatal", "error", "warn", "info", "debug", "trace"])]
    pub(crate) log_level: Option<String>,
    /// The original's second state directory; refused with the way to have one
    #[arg(long, global = true, hide = true)]
    pub(crate) dev: bool,
}

impl Globals {
    /// A hint as it must be typed: a command is for the same state directory, configuration and
    /// profile as the one that gives the hint. Whatever is no command stays as it is.
    pub(crate) fn typed(&self, hint: &str) -> String {
        let rest = hint.strip_prefix("clawgate ");
        // One with options there is one that was typed already.
        let Some(rest) = rest.filter(|rest| !rest.starts_with("--")) else {
            return hint.to_owned();
        };
        let mut command = "clawgate ".to_owned();
        let paths = [("--state-dir", &self.state_dir), ("--config", &self.config)]
            .map(|(option, path)| (option, path.as_ref().map(|path| path.display().to_string())));
        for (option, value) in paths
            .into_iter()
            .chain([("--profile", self.profile.clone())])
        {
            if let Some(value) = value {
                command.push_str(option);
                command.push(' ');
                command.push_str(&quoted(&value));
                command.push(' ');
            }
        }
        command + rest
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./~:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What every command that talks to a gateway takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConnectArgs {
    /// Gateway to talk to (ws:// or wss://); needs --token or --password
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub(crate) url: Option<String>,
    /// Shared token, API token or device token
    #[arg(long, value_name = "TOKEN", help_heading = "Connection", value_parser = secret, allow_hyphen_values = true)]
    pub(crate) token: Option<SecretString>,
    /// Shared password
    #[arg(long, value_name = "PASSWORD", help_heading = "Connection", value_parser = secret, allow_hyphen_values = true)]
    pub(crate) password: Option<SecretString>,
    /// Time limit in milliseconds, for connecting and for the answer
    #[arg(long, value_name = "MS", help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: Option<u64>,
    /// Print JSON
    #[arg(long, help_heading = "Connection")]
    pub(crate) json: bool,
    /// Wait for the final answer of a two-stage method
    #[arg(long, help_heading = "Connection")]
    pub(crate) expect_final: bool,
}

/// Everything that clawgate does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run, examine and call a gateway
    #[command(
        alias = "daemon",
        after_help = "Examples:\n  clawgate gateway run\n  clawgate gateway probe\n  clawgate gateway call health --json"
    )]
    Gateway(WhenTyped<Box<GatewayArgs>>),
    /// One page about the gateway; exits 0 even when it is down
    #[command(
        after_help = "Examples:\n  clawgate status\n  clawgate status --json | jq .gateway.reachable"
    )]
    Status(WhenTyped<StatusArgs>),
    /// The gateway's health
    #[command(after_help = "Examples:\n  clawgate health\n  clawgate health --json")]
    Health(WhenTyped<HealthArgs>),
    /// The gateway's log
    #[command(
        after_help = "Examples:\n  clawgate logs --limit 50\n  clawgate logs --follow\n  clawgate logs --json | jq -r 'select(.level==\"error\").message'"
    )]
    Logs(WhenTyped<LogsArgs>),
    /// Scheduled jobs
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate cron add --name stretch --every 45m --system-event 'Time to stretch'\n  clawgate cron add --name brief --cron '0 7 * * 1-5' --tz Europe/Berlin --message 'Morning brief'\n  clawgate cron list\n  clawgate cron runs --id ID"
    )]
    Cron(WhenTyped<CronCommand>),
    /// Paired devices and pairing requests
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate devices list\n  clawgate devices approve --latest\n  clawgate devices revoke --device ID --role operator"
    )]
    Devices(WhenTyped<DevicesCommand>),
    /// One turn of an agent: a message, and its answer
    #[command(
        long_about = "One turn of an agent: a message, and its answer.\n\nThe answer streams to a terminal; elsewhere it is printed when it is whole, and with --json as the gateway gave it. Ctrl-C ends the run at the gateway. A lost connection does not: the gateway is looked for again, and the same run is waited for.\n\nExit codes: 0 the turn went well, 1 it failed, took too long or was aborted; the others as for every command.",
        after_help = "Examples:\n  clawgate agent -m 'What is on for today?'\n  clawgate agent --agent ops -m 'Is the disk full?' --json | jq -r '.result.payloads[].text'\n  clawgate agent --session-key agent:main:build --timeout 120 -m 'Why did it fail?'"
    )]
    Agent(WhenTyped<Box<AgentArgs>>),
    /// A chat in the terminal
    #[command(
        alias = "tui",
        long_about = "A chat in the terminal.\n\nText streams, tools are shown as they run, commands that wait for a decision are asked about, older messages are a PageUp away, and a lost connection is made again without losing or repeating a message. /help lists what can be typed.\n\nWhere standard input or output is no terminal, and with --plain or --json, each line of standard input is a message and each answer is printed; the exit code is 1 when a turn failed.",
        after_help = "Examples:\n  clawgate chat\n  clawgate chat --session agent:ops:main --thinking high\n  echo 'What is on for today?' | clawgate chat --plain\n  clawgate chat --json < questions.txt | jq -r .text"
    )]
    Chat(WhenTyped<Box<ChatArgs>>),
    /// Tools of the Model Context Protocol: servers that agents use, and the control plane as one
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate mcp list\n  clawgate mcp probe notes\n  clawgate tokens create --name desk --scopes operator.read\n  CLAWGATE_GATEWAY_TOKEN=TOKEN clawgate mcp serve --api-token-only"
    )]
    Mcp(WhenTyped<McpCommand>),
    /// Conversations: list, read, search, reset, delete, export, import
    #[command(
        after_help = "Examples:\n  clawgate sessions\n  clawgate sessions show main\n  clawgate sessions search invoice\n  clawgate sessions export main > main.jsonl"
    )]
    Sessions(WhenTyped<Box<SessionsArgs>>),
    /// Tokens and money that were used
    #[command(
        after_help = "Examples:\n  clawgate usage\n  clawgate usage --days 7 --by session\n  clawgate usage --json | jq .totals.totalCost"
    )]
    Usage(WhenTyped<UsageArgs>),
    /// Machines that run commands for the gateway
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate nodes status\n  clawgate nodes approve REQUEST\n  clawgate nodes run --node kitchen-pi uptime"
    )]
    Nodes(WhenTyped<NodesCommand>),
    /// Run commands for a gateway on this machine
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate node run\n  clawgate node run --host gateway.lan --tls --display-name kitchen-pi"
    )]
    Node(WhenTyped<NodeCommand>),
    /// Named API tokens for scripts
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate tokens create --name ci --scopes operator.read,operator.write --expires 30d\n  clawgate tokens list\n  clawgate tokens revoke ci"
    )]
    Tokens(WhenTyped<TokensCommand>),
    /// Commands that wait to be let run, and what runs without asking
    #[command(
        subcommand,
        alias = "exec-approvals",
        after_help = "Examples:\n  clawgate approvals pending\n  clawgate approvals allow ID\n  clawgate approvals get\n  clawgate approvals allowlist add /usr/bin/uptime"
    )]
    Approvals(WhenTyped<ApprovalsCommand>),
    /// What this connection may do, and why
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate auth explain\n  clawgate auth can-i cron.add && clawgate cron add ..."
    )]
    Auth(WhenTyped<AuthCommand>),
    /// Presence, system events, heartbeats
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate system presence\n  clawgate system event --text 'build finished' --mode now"
    )]
    System(WhenTyped<SystemCommand>),
    /// The configuration file
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate config file\n  clawgate config get gateway.port\n  clawgate config set cron.maxConcurrentRuns 4\n  clawgate config validate"
    )]
    Config(WhenTyped<ConfigCommand>),
    /// References to secrets, and secrets in the configuration
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate secrets audit\n  clawgate secrets reload"
    )]
    Secrets(WhenTyped<SecretsCommand>),
    /// Agents of this machine
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate agents list\n  clawgate agents add ops --workspace ~/ops"
    )]
    Agents(WhenTyped<AgentsCommand>),
    /// Models of the configuration
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate models list\n  clawgate models status"
    )]
    Models(WhenTyped<ModelsCommand>),
    /// Skills of this machine
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate skills list\n  clawgate skills check"
    )]
    Skills(WhenTyped<SkillsCommand>),
    /// Channels of the gateway
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate channels list\n  clawgate channels status"
    )]
    Channels(WhenTyped<ChannelsCommand>),
    /// Bring the state of another gateway over
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate import openclaw --from ~/.openclaw --dry-run\n  clawgate import openclaw --from ~/.openclaw"
    )]
    Import(WhenTyped<ImportCommand>),
    /// The address of the Control UI
    #[command(
        after_help = "Examples:\n  clawgate dashboard\n  clawgate dashboard --json | jq -r .url"
    )]
    Dashboard(WhenTyped<DashboardArgs>),
    /// Backups of the state directory: make, verify, list, bring back
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate backup create --verify\n  clawgate backup verify 2026-11-23T02-47-16.739Z-clawgate-backup.tar.gz\n  clawgate backup restore ARCHIVE --into /var/lib/clawgate"
    )]
    Backup(WhenTyped<BackupCommand>),
    /// Load for a gateway, and what it makes of it: each figure beside its floor
    #[command(
        subcommand,
        long_about = "Load for a gateway, and what it makes of it: each figure beside its floor.\n\nFor any gateway of this protocol that answers without TLS, in both of its versions. Every figure is taken in turn with a floor, in the same run: a bare echo, a check of a signature, an append that is synced, a timer; the ratio is the median of the pairs' ratios. The load shares the processors with a gateway of this machine, the floor does so too. Ctrl-C ends it with what was measured so far.\n\nLoad is load: who uses the gateway meanwhile waits longer.",
        after_help = "Exits 0 with figures; 1 when the gateway answered with an error, went away, or nothing was measured; others as in clawgate --help.\n\nExamples:\n  clawgate bench rpc\n  clawgate bench connect --in-flight 8 --runs 5\n  clawgate bench fanout --subscribers 1000\n  clawgate bench rpc --url ws://127.0.0.1:18789 --token TOKEN --json | jq '.rows[] | {scenario, ratio}'"
    )]
    Bench(WhenTyped<BenchCommand>),
    /// What is wrong here, why it matters, and what to type
    #[command(
        long_about = "What is wrong here, why it matters, and what to type.\n\nLooks at the configuration, the state directory with its keys and its database, the port and who listens there, whether this client may use the gateway, the disk, the clock, jobs that fail and results that do not arrive. It changes nothing; with --fix it makes the changes that it named and nothing else, each of which is listed.\n\nExit codes: 0 nothing critical is left, 1 something is.",
        after_help = "Examples:\n  clawgate doctor\n  clawgate doctor --deep\n  clawgate doctor --fix\n  clawgate doctor --json | jq -r '.findings[] | select(.severity==\"critical\").fix'"
    )]
    Doctor(WhenTyped<DoctorArgs>),
    /// What of this installation is open to others
    #[command(
        subcommand,
        after_help = "Examples:\n  clawgate security audit\n  clawgate security audit --deep --json"
    )]
    Security(WhenTyped<SecurityCommand>),
    /// Completion script for a shell
    #[command(
        after_help = "Examples:\n  clawgate completion bash > ~/.local/share/bash-completion/completions/clawgate\n  clawgate completion zsh > ~/.zfunc/_clawgate\n  clawgate completion fish > ~/.config/fish/completions/clawgate.fish"
    )]
    Completion(WhenTyped<CompletionArgs>),
}

/// `completion`.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(required_unless_present_any = ["shell_flag", "install", "write_state"])]
    pub(crate) shell: Option<Shell>,
    /// The same as an option
    #[arg(
        short = 's',
        long = "shell",
        value_name = "SHELL",
        id = "shell_flag",
        conflicts_with = "shell"
    )]
    pub(crate) shell_flag: Option<Shell>,
    /// The original's; refused, nothing here writes into the files of a shell
    #[arg(short = 'i', long, hide = true)]
    pub(crate) install: bool,
    /// The original's; refused like --install
    #[arg(long, hide = true)]
    pub(crate) write_state: bool,
    /// Accepted for scripts; there is no question to say yes to
    #[arg(short = 'y', long, hide = true)]
    pub(crate) yes: bool,
}

/// Shells with a completion script.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Elvish,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
            Shell::Powershell => Self::PowerShell,
            Shell::Elvish => Self::Elvish,
        }
    }
}

impl Command {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Gateway(gateway) => gateway.wants_json(),
            Self::Status(status) => status.connect.json,
            Self::Health(args) => args.connect.json,
            Self::Logs(logs) => logs.connect.json,
            Self::Cron(cron) => cron.connect().json,
            Self::Devices(devices) => devices.connect().json,
            Self::Sessions(sessions) => sessions.connect().json,
            Self::Usage(usage) => usage.connect.json,
            Self::Nodes(nodes) => nodes.connect().json,
            Self::Node(node) => node.wants_json(),
            Self::Tokens(tokens) => tokens.connect().json,
            Self::Approvals(approvals) => approvals.connect().json,
            Self::Auth(auth) => auth.connect().json,
            Self::System(system) => system.connect().json,
            Self::Config(config) => config.wants_json(),
            Self::Secrets(secrets) => secrets.wants_json(),
            Self::Agent(args) => args.json,
            Self::Chat(args) => args.connect.json,
            Self::Mcp(command) => command.wants_json(),
            Self::Agents(agents) => agents.wants_json(),
            Self::Models(models) => models.wants_json(),
            Self::Skills(skills) => skills.wants_json(),
            Self::Channels(channels) => channels.wants_json(),
            Self::Import(import) => import.wants_json(),
            Self::Dashboard(dashboard) => dashboard.connect.json,
            Self::Backup(backup) => backup.wants_json(),
            Self::Bench(command) => command.wants_json(),
            Self::Doctor(args) => args.connect.json,
            Self::Security(command) => command.connect().json,
            Self::Completion(_) => false,
        }
    }
}

/// A secret from the command line.
pub(crate) fn secret(text: &str) -> Result<SecretString, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(text.into())
}

/// Whether a command line that does not read asks for JSON: then its error is JSON too.
pub(crate) fn asks_for_json<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> bool {
    args.into_iter()
        .take_while(|arg| arg.as_ref() != "--")
        .any(|arg| arg.as_ref() == "--json")
}

fn profile(text: &str) -> Result<String, String> {
    let ok = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if ok {
        Ok(text.to_owned())
    } else {
        Err("letters, digits, - and _ only".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_for_the_same_state_and_configuration() {
        let globals = Globals {
            state_dir: Some("/srv/my claw".into()),
            config: Some("/srv/c.json".into()),
            profile: Some("lab".to_owned()),
            ..Globals::default()
        };
        assert_eq!(
            globals.typed("clawgate config validate"),
            "clawgate --state-dir '/srv/my claw' --config /srv/c.json --profile lab config validate"
        );
        let typed = globals.typed("clawgate config validate");
        assert_eq!(globals.typed(&typed), typed);
        assert_eq!(globals.typed("wait a little"), "wait a little");
        assert_eq!(Globals::default().typed("clawgate logs"), "clawgate logs");
    }
}
