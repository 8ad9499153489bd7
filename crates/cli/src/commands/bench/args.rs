//! The options of `bench`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use clawgate_bench::measure::{Pace, Stop};
use serde_json::Value;

use crate::{app::ConnectArgs, words};

/// Counted time of one side of a pair.
pub(super) const LEG: Duration = Duration::from_secs(1);
/// How long a soak goes on.
pub(super) const SOAK: Duration = Duration::from_secs(600);

/// `bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Connects: handshakes in a second, each with an Ed25519 proof
    #[command(
        after_help = "Examples:\n  clawgate bench connect\n  clawgate bench connect --in-flight 32 --duration 5s --json"
    )]
    Connect(ConnectLoadArgs),
    /// One call over and over
    #[command(
        long_about = "One call over and over.\n\nThe call is made as often as the gateway answers it, so it should change nothing that matters.",
        after_help = "Examples:\n  clawgate bench rpc\n  clawgate bench rpc --method sessions.list --params '{\"limit\":20}' --clients 4 --in-flight 1\n  clawgate bench rpc --json | jq '.rows[0].latency'"
    )]
    Rpc(RpcArgs),
    /// Connections that merely sit there: their memory, and what they cost an active one
    #[command(
        after_help = "Examples:\n  clawgate bench idle\n  clawgate bench idle --connections 10000 --pid \"$(pidof openclaw)\""
    )]
    Idle(IdleArgs),
    /// One event to many subscribers, until the last has heard of it
    #[command(
        long_about = "One event to many subscribers, until the last has heard of it.\n\nThe event is presence, caused by a beacon (system-event with the text \"Node: clawgate bench\"), which adds an entry to presence for some minutes. Where others are not told of that, it is a change of one disabled job, which is removed in the end.",
        after_help = "Examples:\n  clawgate bench fanout\n  clawgate bench fanout --subscribers 5000 --runs 3"
    )]
    Fanout(FanoutArgs),
    /// Jobs that are added, by one client and by many
    #[command(
        long_about = "Jobs that are added, by one client and by many.\n\nThe jobs are disabled, their names begin with \"clawgate-bench\", and they are removed in the end, after Ctrl-C as well. If this program is killed, they stay: clawgate cron list --all.",
        after_help = "Examples:\n  clawgate bench cron-load\n  clawgate bench cron-load --clients 16 --dir ~/.clawgate --json"
    )]
    CronLoad(CronLoadArgs),
    /// Jobs that are due within one second, and how late they start
    #[command(
        long_about = "Jobs that are due within one second, and how late they start.\n\nThe jobs run once, are not spread, put the line \"clawgate-bench\" before the main session each, and are removed in the end, after Ctrl-C as well. Their names begin with \"clawgate-bench\".",
        after_help = "Examples:\n  clawgate bench cron-late\n  clawgate bench cron-late --jobs 500 --runs 3 --json"
    )]
    CronLate(CronLateArgs),
    /// From the start of a program to its first hello, and its memory two seconds later
    #[command(
        long_about = "From the start of a program to its first hello, and its memory two seconds later.\n\nThe program is started as this one's gateway is: PATH gateway run --port PORT --state-dir DIR --config FILE, with directories of its own that are removed in the end. No running gateway is touched.",
        after_help = "Examples:\n  clawgate bench start\n  clawgate bench start --bin ./target/release/clawgate --runs 10"
    )]
    Start(StartArgs),
    /// Connects, calls and jobs at once for a long time, and what of it stays
    #[command(
        long_about = "Connects, calls and jobs at once for a long time, and what of it stays.\n\nWith the gateway's process known, a line is laid through its memory over the last two thirds of the time, and descriptors and threads are counted. The jobs are disabled, their names begin with \"clawgate-bench\", and each is removed at once.",
        after_help = "Examples:\n  clawgate bench soak --duration 10m\n  clawgate bench soak --duration 1h --pid 4242 --json"
    )]
    Soak(SoakArgs),
}

/// How often and how long.
#[derive(Args, Clone, Debug)]
pub(super) struct PaceArgs {
    /// Pairs of floor and gateway
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Counted time of each side of a pair, of soak in all (300ms, 5s, 10m) [default: 1s, soak 10m]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    duration: Option<Duration>,
}

impl PaceArgs {
    pub(super) fn of(&self, default: Duration) -> Pace {
        Pace {
            runs: self.runs,
            leg: self.duration.unwrap_or(default),
            stop: Stop::default(),
        }
    }
}

/// Which gateway.
#[derive(Args, Clone, Debug)]
pub(super) struct TargetArgs {
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    /// The gateway's process, for its processor time and memory; found where it listens on this machine
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Option<u32>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// `bench connect`.
#[derive(Args, Debug)]
pub(crate) struct ConnectLoadArgs {
    /// Connects under way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = many)]
    pub(super) in_flight: usize,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `bench rpc`.
#[derive(Args, Debug)]
pub(crate) struct RpcArgs {
    /// Which method
    #[arg(long, value_name = "METHOD", default_value = "health")]
    pub(super) method: String,
    /// Its parameters
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(super) params: Option<Value>,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = many)]
    pub(super) clients: usize,
    /// Requests under way at once on each
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = many)]
    pub(super) in_flight: usize,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `bench idle`.
#[derive(Args, Debug)]
pub(crate) struct IdleArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = many)]
    pub(super) connections: usize,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `bench fanout`.
#[derive(Args, Debug)]
pub(crate) struct FanoutArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = many)]
    pub(super) subscribers: usize,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `bench cron-load`.
#[derive(Args, Debug)]
pub(crate) struct CronLoadArgs {
    /// Clients that add at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = many)]
    pub(super) clients: usize,
    /// Where the floor appends and syncs; should be on the gateway's disk [default: temporary files]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `bench cron-late`.
#[derive(Args, Debug)]
pub(crate) struct CronLateArgs {
    /// How many are due within one second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) jobs: u32,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `bench start`.
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Which program [default: this one]
    #[arg(long, value_name = "PATH")]
    pub(super) bin: Option<PathBuf>,
    /// Where it listens [default: a free port]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
    /// Where its state directories are made [default: temporary files]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `bench soak`.
#[derive(Args, Debug)]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

impl BenchCommand {
    /// Its name on the command line.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Rpc(_) => "rpc",
            Self::Idle(_) => "idle",
            Self::Fanout(_) => "fanout",
            Self::CronLoad(_) => "cron-load",
            Self::CronLate(_) => "cron-late",
            Self::Start(_) => "start",
            Self::Soak(_) => "soak",
        }
    }

    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        let target = match self {
            Self::Connect(args) => &args.target,
            Self::Rpc(args) => &args.target,
            Self::Idle(args) => &args.target,
            Self::Fanout(args) => &args.target,
            Self::CronLoad(args) => &args.target,
            Self::CronLate(args) => &args.target,
            Self::Soak(args) => &args.target,
            Self::Start(args) => return args.json,
        };
        target.connect.json
    }
}

fn span(text: &str) -> Result<Duration, String> {
    words::parse_span(text)
        .and_then(|ms| u64::try_from(ms).ok())
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| "a number with ms, s, m or h".to_owned())
}

fn many(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|many| (1..=100_000).contains(many))
        .ok_or_else(|| "a number from 1 to 100000".to_owned())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
