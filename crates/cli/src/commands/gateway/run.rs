//! `gateway run`: options in, the daemon's library out.

use std::{fs, path::PathBuf};

use clap::Args;
use clawgate_gateway::RunOptions;
use secrecy::SecretString;

use crate::{
    app::secret,
    commands::Context,
    config::{Config, Paths},
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
    /// Where to listen: loopback, lan, auto, custom
    #[arg(long, value_name = "MODE")]
    bind: Option<String>,
    /// How clients prove themselves: token, password, none, trusted-proxy
    #[arg(long, value_name = "MODE", value_parser = ["none", "token", "password", "trusted-proxy"])]
    auth: Option<String>,
    /// Shared token, instead of the configured one
    #[arg(long, value_name = "TOKEN", value_parser = secret, allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// Shared password, instead of the configured one
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
    dev: bool,
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
        Some(path) => Some(read_password(path)?),
        None => args.password.clone(),
    };
    let environment = |name| {
        context
            .env
            .first(&[name])
            .map(|(value, _)| SecretString::from(value))
    };
    let options = RunOptions {
        state_dir: paths.state_dir,
        config_path: paths.config,
        port: args.port,
        bind: args.bind.clone(),
        auth: args.auth.clone(),
        token: args.token.clone(),
        password,
        environment_token: environment("CLAWGATE_GATEWAY_TOKEN"),
        environment_password: environment("CLAWGATE_GATEWAY_PASSWORD"),
        verbose: args.verbose,
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
        ("--dev", args.dev),
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

fn read_password(path: &PathBuf) -> CommandResult<SecretString> {
    let text = fs::read_to_string(path).map_err(|error| {
        CommandError::config(format!(
            "cannot read the password file {}: {error}",
            path.display()
        ))
    })?;
    secret(text.trim()).map_err(|problem| {
        CommandError::config(format!("the password file {}: {problem}", path.display()))
    })
}
