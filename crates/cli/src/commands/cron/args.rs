//! The options of `cron`.

use clap::{Args, Subcommand};

use crate::app::ConnectArgs;

/// `cron`.
#[derive(Debug, Subcommand)]
pub(crate) enum CronCommand {
    /// Add a job
    #[command(
        alias = "create",
        after_help = "A schedule is one of --at, --every, --cron; a payload one of --system-event,\n--message, or a program after --.\n\nExamples:\n  clawgate cron add --name stretch --every 45m --system-event 'Time to stretch'\n  clawgate cron add --name once --at 20m --system-event 'Tea is ready' --keep-after-run\n  clawgate cron add --name brief --cron '0 7 * * 1-5' --tz Europe/Berlin --message 'Morning brief' --no-deliver\n  clawgate cron add --name backup --cron '0 3 * * *' --webhook https://example.org/hook -- restic backup /srv"
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
    /// End the run of a job that is under way, with everything it started
    #[command(
        after_help = "Examples:\n  clawgate cron cancel ID\n  clawgate cron cancel ID --run-id RUN"
    )]
    Cancel(CancelArgs),
    /// When a cron expression is due, clock changes noted; asks no gateway
    #[command(
        after_help = "Examples:\n  clawgate cron next '0 7 * * 1-5' --tz Europe/Berlin\n  clawgate cron next '30 2 * * *' --tz America/New_York -n 5 --json"
    )]
    Next(NextArgs),
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
            Self::Cancel(args) => &args.connect,
            Self::Next(args) => &args.connect,
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

/// `cron cancel`.
#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// Which job
    pub(crate) id: String,
    /// Only if this is the run under way
    #[arg(long, value_name = "RUN")]
    pub(crate) run_id: Option<String>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `cron next`.
#[derive(Args, Debug)]
pub(crate) struct NextArgs {
    /// Cron expression, 5 to 7 fields, or a nickname like @daily
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub(crate) expr: String,
    /// Zone in which it is read (default: this machine's)
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) number: u16,
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
    /// Wait for its end; exits 1 when it does not go well
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, value_name = "SPAN", default_value = "10m", requires = "wait")]
    pub(crate) wait_timeout: String,
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
    /// Pass over so many
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) offset: u64,
    /// Only this run
    #[arg(long, value_name = "RUN")]
    pub(crate) run_id: Option<String>,
    /// Only these
    #[arg(long, value_name = "STATUS", value_parser = ["ok", "error", "skipped"])]
    pub(crate) status: Option<String>,
    /// Only these deliveries
    #[arg(long, value_name = "STATUS", value_parser = ["delivered", "not-delivered", "unknown", "not-requested"])]
    pub(crate) delivery_status: Option<String>,
    /// Only with this text in summary, error or name
    #[arg(long, value_name = "TEXT")]
    pub(crate) query: Option<String>,
    /// Then follow what runs from now on, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
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
    /// Slots that passed unseen: none, latest (default), or all:N to run the newest N
    #[arg(long, value_name = "POLICY")]
    pub(crate) catch_up: Option<String>,
    /// Passed slots older than this are missed
    #[arg(long, value_name = "SPAN", requires = "catch_up")]
    pub(crate) catch_up_max_age: Option<String>,
    /// A slot that is due during a run: skip (default) or queue
    #[arg(long, value_name = "POLICY", value_parser = ["skip", "queue"])]
    pub(crate) overlap: Option<String>,
    /// Disable it after so many failures in a row, or never (default 10)
    #[arg(long, value_name = "N")]
    pub(crate) disable_after: Option<String>,
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
    /// Time limit of a run, 0 for none; parts of a second too
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub(crate) timeout_seconds: Option<serde_json::Number>,
    /// Leave the workspace files out of the prompt
    #[arg(long)]
    pub(crate) light_context: bool,
    /// Directory in which the program runs
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Variable of the program; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Standard input of the program
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) input: Option<String>,
    /// End the program when it is silent for so long
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub(crate) no_output_timeout_seconds: Option<serde_json::Number>,
    /// Bytes of output that are looked at
    #[arg(long, value_name = "N")]
    pub(crate) output_max_bytes: Option<u64>,
    /// Run this program, without a shell
    #[arg(last = true, value_name = "PROGRAM", num_args = 1..)]
    pub(crate) argv: Vec<String>,
}

/// Seconds: a number that JSON keeps as it is written.
fn seconds(text: &str) -> Result<serde_json::Number, String> {
    let number: serde_json::Number = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    if number.as_f64().is_some_and(|seconds| seconds >= 0.0) {
        Ok(number)
    } else {
        Err("expected a number of seconds, 0 or more".to_owned())
    }
}

/// Where a result goes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Delivery")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the original"
)]
pub(crate) struct DeliveryArgs {
    /// Send the result to a channel
    #[arg(long, conflicts_with = "no_deliver")]
    pub(crate) announce: bool,
    #[arg(long, hide = true, conflicts_with = "no_deliver")]
    pub(crate) deliver: bool,
    /// Keep the result
    #[arg(long)]
    pub(crate) no_deliver: bool,
    /// Post the result of every run to this address
    #[arg(long, value_name = "URL", conflicts_with_all = ["announce", "deliver", "no_deliver", "channel", "to", "account"])]
    pub(crate) webhook: Option<String>,
    /// Post failures to this address
    #[arg(long, value_name = "URL")]
    pub(crate) failure_webhook: Option<String>,
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

/// A session target.
fn target(text: &str) -> Result<String, String> {
    let known = matches!(text, "main" | "isolated" | "current")
        || text
            .strip_prefix("session:")
            .is_some_and(|key| !key.trim().is_empty());
    if known {
        Ok(text.to_owned())
    } else {
        Err("expected main, isolated, current or session:KEY".to_owned())
    }
}

/// `cron add`.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Key under which the job is declared: the same key again changes the job
    #[arg(long, value_name = "KEY")]
    pub(crate) declaration_key: Option<String>,
    /// Name for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
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
    /// main (with --system-event), isolated, current (with --session-key) or session:KEY
    #[arg(long, value_name = "TARGET", value_parser = target)]
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
    pub(crate) alert: AlertArgs,
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
    /// Only if the job is still as it was under this revision
    #[arg(long, value_name = "REVISION")]
    pub(crate) expect_revision: Option<String>,
    /// Name for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
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
    /// main, isolated, current (with --session-key) or session:KEY
    #[arg(long, value_name = "TARGET", value_parser = target)]
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
