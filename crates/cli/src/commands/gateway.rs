//! `gateway`: run one, look at one, call one.

mod call;
pub(crate) mod listeners;
mod run;
pub(crate) mod service;
mod status;

use clap::{Args, Subcommand};

use service::Action;

use super::{Context, block_on, health, probe};
use crate::{
    app::ConnectArgs,
    error::{CommandError, CommandResult},
};

/// `gateway`, with the options of `gateway run` when no subcommand is given.
#[derive(Args, Debug)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    command: Option<GatewayCommand>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// Run a gateway in the foreground
    #[command(
        after_help = "Examples:\n  clawgate gateway run\n  clawgate gateway run --port 18790 --state-dir /srv/claw --config /srv/claw/clawgate.json\n  clawgate gateway run --bind lan --auth password --password-file /run/secrets/gateway"
    )]
    Run(run::RunArgs),
    /// Four facts about a gateway, each with its evidence
    #[command(
        after_help = "Reachable, handshake, authorized, RPC: none is inferred from another, and the exit\ncode is 0 only if all four hold.\n\nExamples:\n  clawgate gateway probe\n  clawgate gateway probe --url ws://127.0.0.1:18789 --token TOKEN --json | jq .targets[0].facts"
    )]
    Probe(ProbeArgs),
    /// Configuration, port and one call; exits 0 unless --require-rpc
    #[command(
        after_help = "Examples:\n  clawgate gateway status\n  clawgate gateway status --require-rpc --json"
    )]
    Status(status::StatusArgs),
    /// The gateway's health
    #[command(
        after_help = "Examples:\n  clawgate gateway health\n  clawgate gateway health --json"
    )]
    Health(health::HealthArgs),
    /// Tokens and money by day
    #[command(
        after_help = "Examples:\n  clawgate gateway usage-cost\n  clawgate gateway usage-cost --days 7 --json"
    )]
    UsageCost(super::usage::UsageCostArgs),
    /// Make the gateway a service of systemd, and start it
    #[command(
        after_help = "Examples:\n  clawgate gateway install\n  clawgate gateway install --port 18790 --force\n  sudo clawgate gateway install --system"
    )]
    Install(service::InstallArgs),
    /// Take the service away; its state is kept
    #[command(after_help = "Examples:\n  clawgate gateway uninstall")]
    Uninstall(service::ServiceArgs),
    /// Start the service
    #[command(after_help = "Examples:\n  clawgate gateway start")]
    Start(service::ServiceArgs),
    /// Stop the gateway, of a service or not
    #[command(after_help = "Examples:\n  clawgate gateway stop\n  clawgate gateway stop --json")]
    Stop(service::ServiceArgs),
    /// Stop the service and start it again
    #[command(after_help = "Examples:\n  clawgate gateway restart")]
    Restart(service::ServiceArgs),
    /// Call any method
    #[command(
        after_help = "Examples:\n  clawgate gateway call status\n  clawgate gateway call cron.list --params '{\"includeDisabled\":true}' --json\n  clawgate gateway call system-presence"
    )]
    Call(call::CallArgs),
}

/// `gateway probe`.
#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// The original's tunnel; refused with the way to have one
    #[arg(long, hide = true, value_name = "TARGET")]
    ssh: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    ssh_identity: Option<String>,
    #[arg(long, hide = true)]
    ssh_auto: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl GatewayArgs {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Some(GatewayCommand::Probe(args)) => args.connect.json,
            Some(GatewayCommand::Status(args)) => args.connect.json,
            Some(GatewayCommand::Health(args)) => args.connect.json,
            Some(GatewayCommand::Install(args)) => args.common.json,
            Some(
                GatewayCommand::Uninstall(args)
                | GatewayCommand::Start(args)
                | GatewayCommand::Stop(args)
                | GatewayCommand::Restart(args),
            ) => args.json,
            Some(GatewayCommand::UsageCost(args)) => args.connect.json,
            Some(GatewayCommand::Call(args)) => args.connect.json,
            Some(GatewayCommand::Run(_)) | None => false,
        }
    }
}

/// Runs one of them.
pub(crate) fn run(context: &Context, args: GatewayArgs) -> CommandResult {
    let GatewayArgs { command, run } = args;
    if let (Some(option), false) = (
        run.given().first(),
        matches!(command, None | Some(GatewayCommand::Run(_))),
    ) {
        return Err(CommandError::usage(format!(
            "{option} is an option of gateway run; other commands take theirs behind their name"
        )));
    }
    match command {
        None => run::run(context, &run),
        Some(GatewayCommand::Run(own)) => run::run(context, &own.over(run)),
        Some(GatewayCommand::Probe(args)) => {
            if args.ssh.is_some() || args.ssh_identity.is_some() || args.ssh_auto {
                return Err(CommandError::usage(
                    "no tunnel is opened here; open one and probe its end on this machine",
                )
                .hint("ssh -N -L 18790:127.0.0.1:18789 HOST")
                .hint("clawgate gateway probe --url ws://127.0.0.1:18790 --token TOKEN"));
            }
            block_on(probe::run(context, &args.connect))
        }
        Some(GatewayCommand::Status(args)) => block_on(status::run(context, &args)),
        Some(GatewayCommand::Health(args)) => block_on(health::run(context, &args)),
        Some(GatewayCommand::UsageCost(args)) => block_on(super::usage::cost(context, &args)),
        Some(GatewayCommand::Install(args)) => {
            service::run(context, Action::Install, args.common, Some(&args))
        }
        Some(GatewayCommand::Uninstall(args)) => {
            service::run(context, Action::Uninstall, args, None)
        }
        Some(GatewayCommand::Start(args)) => service::run(context, Action::Start, args, None),
        Some(GatewayCommand::Stop(args)) => service::run(context, Action::Stop, args, None),
        Some(GatewayCommand::Restart(args)) => service::run(context, Action::Restart, args, None),
        Some(GatewayCommand::Call(args)) => block_on(call::run(context, &args)),
    }
}
