//! The options of `cron`.

use clap::{Args, Subcommand};

use crate::app::ConnectArgs;

/// `cron`.
#[derive(Debug, Subcommand)]
pub(crate) enum CronCommand {
    /// Add a job
    #[command(
        alias = "create",
        after_help = "A schedule is one of --at, --every, --cron; a payload one of --system-event,\n--message.\n\nExamples:\n  clawgate cron add --name stretch --every 45m --system-event 'Time to stretch'\n  clawgate cron add --name once --at 20m --system-event 'Tea is ready' --keep-after-run\n  clawgate cron add --name brief --cron '0 7 * * 1-5' --tz Europe/Berlin --message 'Morning brief' --no-deliver"
    )]
    Add(Box<AddArgs>),
    /// Jobs and when they run next
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  clawgate cron list\n  clawgate cron list --all --json | jq -r '.jobs[].id'"
    )]
    List(ListArgs),
    /// One job in full
    #[command(
        alias = "get",
        after_help = "Examples:\n  clawgate cron show ID\n  clawgate cron show stretch"
    )]
    Show(IdArgs),
    /// Change a job
    #[command(
        after_help = "Examples:\n  clawgate cron edit ID --every 1h\n  clawgate cron edit ID --tz UTC\n  clawgate cron edit ID --model provider/model --timeout-seconds 120"
    )]
    Edit(Box<EditArgs>),
    /// Let a job run again
    #[command(after_help = "Examples:\n  clawgate cron enable ID")]
    Enable(IdArgs),
    /// Keep a job from running
    #[command(after_help = "Examples:\n  clawgate cron disable ID")]
    Disable(IdArgs),
    /// Remove a job; exits 0 even if there is none
    #[command(
        visible_aliases = ["remove", "delete"],
        after_help = "Examples:\n  clawgate cron rm ID\n  clawgate cron rm ID --json | jq .removed"
    )]
    Rm(IdArgs),
    /// Run a job now; exits 1 when it did not start
    #[command(after_help = "Examples:\n  clawgate cron run ID\n  clawgate cron run ID --due")]
    Run(RunArgs),
    /// What ran, and how it went
    #[command(
        after_help = "Examples:\n  clawgate cron runs --id ID\n  clawgate cron runs --limit 20"
    )]
    Runs(RunsArgs),
    /// Whether the scheduler works
    #[command(
        after_help = "Examples:\n  clawgate cron status\n  clawgate cron status --json | jq .enabled"
    )]
    Status(ConnectArgs),
}

impl CronCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::Add(args) => &args.connect,
            Self::List(args) => &args.connect,
            Self::Edit(args) => &args.connect,
            Self::Show(args) | Self::Enable(args) | Self::Disable(args) | Self::Rm(args) => {
                &args.connect
            }
            Self::Run(args) => &args.connect,
            Self::Runs(args) => &args.connect,
            Self::Status(connect) => connect,
        }
    }
}

/// A job by id.
#[derive(Args, Debug)]
pub(crate) struct IdArgs {
    /// Which job
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `cron list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Disabled jobs too
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `cron run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Which job
    pub(crate) id: String,
    /// Only if it is due
    #[arg(long)]
    pub(crate) due: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `cron runs`.
#[derive(Args, Debug)]
pub(crate) struct RunsArgs {
    /// Which job; without it, all of them
    #[arg(long = "id", value_name = "ID", conflicts_with = "job")]
    pub(crate) id: Option<String>,
    /// The same without an option
    #[arg(value_name = "ID")]
    pub(crate) job: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// When a job runs.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Schedule")]
pub(crate) struct ScheduleArgs {
    /// Once: an ISO time (UTC unless it says otherwise) or a span from now (20m)
    #[arg(long, value_name = "WHEN")]
    pub(crate) at: Option<String>,
    /// Again and again (10m, 1h30m, 2d)
    #[arg(long, value_name = "SPAN")]
    pub(crate) every: Option<String>,
    /// Cron expression, 5 or 6 fields
    #[arg(long, value_name = "EXPR")]
    pub(crate) cron: Option<String>,
    /// Zone of the cron expression (Europe/Berlin)
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// Spread jobs of one cron slot over this span
    #[arg(long, value_name = "SPAN", conflicts_with = "exact")]
    pub(crate) stagger: Option<String>,
    /// No spreading
    #[arg(long)]
    pub(crate) exact: bool,
}

/// What a job does.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Payload")]
pub(crate) struct PayloadArgs {
    /// Tell the main session this
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system_event: Option<String>,
    /// Let the agent do this
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) message: Option<String>,
    /// Thinking level of the agent
    #[arg(long, value_name = "LEVEL", allow_hyphen_values = true)]
    pub(crate) thinking: Option<String>,
    /// Model, as provider/model
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Time limit of a run, 0 for none
    #[arg(long, value_name = "N")]
    pub(crate) timeout_seconds: Option<u64>,
    /// Leave the workspace files out of the prompt
    #[arg(long)]
    pub(crate) light_context: bool,
}

/// Where a result goes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Delivery")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the original"
)]
pub(crate) struct DeliveryArgs {
    /// Send the result to a channel (the default of an agent job)
    #[arg(long, conflicts_with = "no_deliver")]
    pub(crate) announce: bool,
    #[arg(long, hide = true, conflicts_with = "no_deliver")]
    pub(crate) deliver: bool,
    /// Keep the result
    #[arg(long)]
    pub(crate) no_deliver: bool,
    /// Which channel (default last)
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,
    /// Whom
    #[arg(long, value_name = "DEST", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// Which account of the channel
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<String>,
    /// A failed delivery is no failed run
    #[arg(long)]
    pub(crate) best_effort_deliver: bool,
}

/// `cron add`.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Name
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub(crate) name: String,
    /// Description
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) description: Option<String>,
    /// Add it without letting it run
    #[arg(long)]
    pub(crate) disabled: bool,
    /// Remove it after its run (the default of --at)
    #[arg(long, conflicts_with = "keep_after_run")]
    pub(crate) delete_after_run: bool,
    /// Keep it after its run
    #[arg(long)]
    pub(crate) keep_after_run: bool,
    /// Agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// main (with --system-event) or isolated (with --message)
    #[arg(long, value_name = "TARGET", value_parser = ["main", "isolated"])]
    pub(crate) session: Option<String>,
    /// Session that is meant
    #[arg(long, value_name = "KEY")]
    pub(crate) session_key: Option<String>,
    /// Wake the agent now, or wait for the next heartbeat
    #[arg(long, value_name = "MODE", default_value = "now", value_parser = ["now", "next-heartbeat"])]
    pub(crate) wake: String,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    #[command(flatten)]
    pub(crate) delivery: DeliveryArgs,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `cron edit`.
#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the original"
)]
pub(crate) struct EditArgs {
    /// Which job
    pub(crate) id: String,
    /// Name
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub(crate) name: Option<String>,
    /// Description
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) description: Option<String>,
    /// Let it run
    #[arg(long, conflicts_with = "disable")]
    pub(crate) enable: bool,
    /// Keep it from running
    #[arg(long)]
    pub(crate) disable: bool,
    /// Remove it after its run
    #[arg(long, conflicts_with = "keep_after_run")]
    pub(crate) delete_after_run: bool,
    /// Keep it after its run
    #[arg(long)]
    pub(crate) keep_after_run: bool,
    /// main or isolated
    #[arg(long, value_name = "TARGET", value_parser = ["main", "isolated"])]
    pub(crate) session: Option<String>,
    /// Agent
    #[arg(long, value_name = "ID", conflicts_with = "clear_agent")]
    pub(crate) agent: Option<String>,
    /// No agent of its own
    #[arg(long)]
    pub(crate) clear_agent: bool,
    /// Session that is meant
    #[arg(long, value_name = "KEY", conflicts_with = "clear_session_key")]
    pub(crate) session_key: Option<String>,
    /// No session of its own
    #[arg(long)]
    pub(crate) clear_session_key: bool,
    /// Wake the agent now, or wait for the next heartbeat
    #[arg(long, value_name = "MODE", value_parser = ["now", "next-heartbeat"])]
    pub(crate) wake: Option<String>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// Put the workspace files into the prompt
    #[arg(long, conflicts_with = "light_context", help_heading = "Payload")]
    pub(crate) no_light_context: bool,
    #[command(flatten)]
    pub(crate) delivery: DeliveryArgs,
    /// A failed delivery is a failed run
    #[arg(
        long,
        conflicts_with = "best_effort_deliver",
        help_heading = "Delivery"
    )]
    pub(crate) no_best_effort_deliver: bool,
    #[command(flatten)]
    pub(crate) alert: AlertArgs,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Who is told of failures.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Failure alert")]
pub(crate) struct AlertArgs {
    /// Tell somebody about failures
    #[arg(long, conflicts_with = "no_failure_alert")]
    pub(crate) failure_alert: bool,
    /// Tell nobody
    #[arg(long)]
    pub(crate) no_failure_alert: bool,
    /// After this many in a row
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) failure_alert_after: Option<u32>,
    /// Which channel
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) failure_alert_channel: Option<String>,
    /// Whom
    #[arg(long, value_name = "DEST", allow_hyphen_values = true)]
    pub(crate) failure_alert_to: Option<String>,
    /// No second alert within this span
    #[arg(long, value_name = "SPAN")]
    pub(crate) failure_alert_cooldown: Option<String>,
    /// announce or webhook
    #[arg(long, value_name = "MODE", value_parser = ["announce", "webhook"])]
    pub(crate) failure_alert_mode: Option<String>,
    /// Which account of the channel
    #[arg(long, value_name = "ID")]
    pub(crate) failure_alert_account_id: Option<String>,
}
