//! `gateway run`: options in, the daemon's library out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use clawgate_gateway::RunOptions;
use secrecy::SecretString;

use crate::{
    app::secret,
    commands::Context,
    config::{Config, Paths},
    env,
    error::{CommandError, CommandResult},
    exit::Exit,
};

/// `gateway run`. The original's options are all known here, so that a script that uses one that
/// means nothing to this gateway is told so.
#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the original"
)]
pub(crate) struct RunArgs {
    /// Port to listen on (default 18789; 0 lets the system choose)
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Where to listen; custom is gateway.customBindHost
    #[arg(long, value_name = "MODE", value_parser = ["loopback", "lan", "auto", "custom"])]
    bind: Option<String>,
    /// How clients prove themselves: token, password, none, trusted-proxy
    #[arg(long, value_name = "MODE", value_parser = ["none", "token", "password", "trusted-proxy"])]
    auth: Option<String>,
    /// Shared token, instead of the configured one; everybody on this machine sees it in the list
    /// of processes, --token-file and CLAWGATE_GATEWAY_TOKEN keep it out of there
    #[arg(long, value_name = "TOKEN", value_parser = secret, allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// File that holds the shared token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Shared password, instead of the configured one; seen like --token
    #[arg(long, value_name = "PASSWORD", value_parser = secret, allow_hyphen_values = true)]
    password: Option<SecretString>,
    /// File that holds the shared password
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// Start although gateway.mode is remote
    #[arg(long)]
    allow_unconfigured: bool,
    /// Accepted for scripts; a gateway that runs is never pushed aside
    #[arg(long, hide = true)]
    force: bool,
    /// Log more
    #[arg(long)]
    verbose: bool,
    #[arg(long, hide = true, value_name = "MODE")]
    tailscale: Option<String>,
    #[arg(long, hide = true)]
    tailscale_reset_on_exit: bool,
    #[arg(long, hide = true)]
    reset: bool,
    #[arg(long, hide = true)]
    claude_cli_logs: bool,
    #[arg(long, hide = true, value_name = "STYLE")]
    ws_log: Option<String>,
    #[arg(long, hide = true)]
    compact: bool,
    #[arg(long, hide = true)]
    raw_stream: bool,
    #[arg(long, hide = true, value_name = "PATH")]
    raw_stream_path: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, args: &RunArgs) -> CommandResult {
    refuse_what_is_not_served(args)?;
    let paths = Paths::of_gateway(&context.globals, &context.env);
    let config = Config::load(&paths.config)?;
    if config.text("gateway.mode")?.as_deref() == Some("remote") && !args.allow_unconfigured {
        let path = paths.config.display();
        return Err(CommandError::config(format!(
            "gateway.mode in {path} is remote: this machine's gateway is elsewhere"
        ))
        .hint("set gateway.mode to local, or pass --allow-unconfigured"));
    }
    let password = match &args.password_file {
        Some(path) => Some(read_secret(path, "password")?),
        None => args.password.clone(),
    };
    let token = match &args.token_file {
        Some(path) => Some(read_secret(path, "token")?),
        None => args.token.clone(),
    };
    // The variable tells clients where this gateway is; so it listens there.
    let port_named = || {
        let Some((text, name)) = context.env.first(&["CLAWGATE_GATEWAY_PORT"]) else {
            return Ok(None);
        };
        let port = text.parse().ok();
        let wrong = || CommandError::usage(format!("{name} is no port: {text}"));
        port.map(Some).ok_or_else(wrong)
    };
    let port = match args.port {
        Some(port) => Some(port),
        None => port_named()?,
    };
    let verbose = args.verbose
        || matches!(
            context.globals.log_level.as_deref(),
            Some("debug" | "trace")
        );
    let options = RunOptions {
        state_dir: paths.state_dir,
        config_path: paths.config,
        port,
        bind: args.bind.clone(),
        auth: args.auth.clone(),
        token,
        password,
        environment_token: context.env.of_gateway(env::GATEWAY_TOKEN),
        environment_password: context.env.of_gateway(env::GATEWAY_PASSWORD),
        verbose,
    };
    clawgate_gateway::run(&options)
        .map(|()| Exit::Ok)
        .map_err(|error| {
            let exit = if error.exit_code() == Exit::Config.code() {
                Exit::Config
            } else {
                Exit::Failed
            };
            let failure = CommandError::new(exit, "START", error.to_string());
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
}

/// Options that would change what the gateway does, and that it does not have. The log styles
/// (`--ws-log`, `--compact`, `--claude-cli-logs`) change nothing but looks and are let through.
fn refuse_what_is_not_served(args: &RunArgs) -> CommandResult<()> {
    let off = |mode: &String| mode == "off";
    for (option, given) in [
        (
            "--tailscale",
            args.tailscale.as_ref().is_some_and(|mode| !off(mode)),
        ),
        ("--reset", args.reset),
        (
            "--raw-stream",
            args.raw_stream || args.raw_stream_path.is_some(),
        ),
    ] {
        if given {
            return Err(CommandError::usage(format!(
                "{option} is not something this gateway does"
            )));
        }
    }
    Ok(())
}

fn read_secret(path: &Path, what: &str) -> CommandResult<SecretString> {
    let path_shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        CommandError::config(format!("cannot read the {what} file {path_shown}: {error}"))
    })?;
    secret(text.trim())
        .map_err(|problem| CommandError::config(format!("the {what} file {path_shown}: {problem}")))
}

impl RunArgs {
    /// These, and what was given in front of the command's name where they say nothing.
    pub(super) fn over(self, outer: Self) -> Self {
        // A secret and the file that holds it stand for each other.
        let (token, token_file) = match (self.token, self.token_file) {
            (None, None) => (outer.token, outer.token_file),
            own => own,
        };
        let (password, password_file) = match (self.password, self.password_file) {
            (None, None) => (outer.password, outer.password_file),
            own => own,
        };
        Self {
            port: self.port.or(outer.port),
            bind: self.bind.or(outer.bind),
            auth: self.auth.or(outer.auth),
            token,
            token_file,
            password,
            password_file,
            allow_unconfigured: self.allow_unconfigured || outer.allow_unconfigured,
            force: self.force || outer.force,
            verbose: self.verbose || outer.verbose,
            tailscale: self.tailscale.or(outer.tailscale),
            tailscale_reset_on_exit: self.tailscale_reset_on_exit || outer.tailscale_reset_on_exit,
            reset: self.reset || outer.reset,
            claude_cli_logs: self.claude_cli_logs || outer.claude_cli_logs,
            ws_log: self.ws_log.or(outer.ws_log),
            compact: self.compact || outer.compact,
            raw_stream: self.raw_stream || outer.raw_stream,
            raw_stream_path: self.raw_stream_path.or(outer.raw_stream_path),
        }
    }

    /// The options that were given.
    pub(super) fn given(&self) -> Vec<&'static str> {
        [
            ("--port", self.port.is_some()),
            ("--bind", self.bind.is_some()),
            ("--auth", self.auth.is_some()),
            ("--token", self.token.is_some()),
            ("--token-file", self.token_file.is_some()),
            ("--password", self.password.is_some()),
            ("--password-file", self.password_file.is_some()),
            ("--allow-unconfigured", self.allow_unconfigured),
            ("--force", self.force),
            ("--verbose", self.verbose),
            ("--tailscale", self.tailscale.is_some()),
            ("--tailscale-reset-on-exit", self.tailscale_reset_on_exit),
            ("--reset", self.reset),
            ("--claude-cli-logs", self.claude_cli_logs),
            ("--ws-log", self.ws_log.is_some()),
            ("--compact", self.compact),
            ("--raw-stream", self.raw_stream),
            ("--raw-stream-path", self.raw_stream_path.is_some()),
        ]
        .into_iter()
        .filter_map(|(option, given)| given.then_some(option))
        .collect()
    }
}
