//! What is measured. Each scenario starts its own servers and gives rows of the table.

mod cli;
mod cron;
mod fan_out;
mod handshake;
mod history;
mod idle;
mod overload;
mod rpc;
mod scale;
mod soak;
mod start;
mod turns;

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    error::BenchError,
    measure::{Pace, Stop},
    meter::Side,
    peer::{Device, Door},
    process::{GatewayHome, Scratch, Server, first_hello},
    stats::Row,
};

/// What all scenarios share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub bin: PathBuf,
    pub dir: PathBuf,
    pub runs: u32,
    /// Counted time of one side of one run.
    pub leg: Duration,
    /// How long the soak goes on.
    pub soak: Duration,
    pub token: String,
}

/// One of the things to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Start to the first hello-ok, memory after it, size of the binary.
    Start,
    /// `gateway probe` and `cron list` as processes.
    Cli,
    /// Connects with a device proof.
    Handshake,
    /// `health`, one request and many at a time.
    Health,
    /// `status`, many at a time.
    Status,
    /// `config.get`, many at a time.
    Config,
    /// `cron.list` over a thousand jobs, durable `cron.add`.
    Cron,
    /// A hundred thousand jobs: one more, a page, lateness, idle time, a start.
    Scale,
    /// A million messages: pages, lists, searches, a start.
    History,
    /// A thousand idle connections and ten thousand, one active one beside them; a thousand active ones.
    Idle,
    /// An event to the last of 200 and of 5,000 subscribers.
    FanOut,
    /// One active connection beside many that do not behave.
    Overload,
    /// Turns: the first word, a hundred at once.
    Turns,
    /// Ten thousand turns, one after another.
    ManyTurns,
    /// An hour (`--soak-seconds`) of connects, calls, jobs, turns and readings of the configuration. Only
    /// when it is named.
    Soak,
}

impl Scenario {
    pub(crate) fn all() -> Vec<Self> {
        use clap::ValueEnum as _;
        let variants = Self::value_variants().iter();
        variants.filter(|it| **it != Self::Soak).copied().collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Cli => "cli",
            Self::Handshake => "handshake",
            Self::Health => "health",
            Self::Status => "status",
            Self::Config => "config",
            Self::Cron => "cron",
            Self::Scale => "scale",
            Self::History => "history",
            Self::Idle => "idle",
            Self::FanOut => "fan-out",
            Self::Overload => "overload",
            Self::Turns => "turns",
            Self::ManyTurns => "many-turns",
            Self::Soak => "soak",
        }
    }
}

impl Bench {
    pub(crate) async fn run(&self, scenario: Scenario) -> Result<Vec<Row>, BenchError> {
        match scenario {
            Scenario::Start => start::measure(self).await,
            Scenario::Cli => cli::measure(self).await,
            Scenario::Handshake => handshake::measure(self).await,
            Scenario::Health => rpc::health(self).await,
            Scenario::Status => rpc::status(self).await,
            Scenario::Config => rpc::config(self).await,
            Scenario::Cron => cron::measure(self).await,
            Scenario::Scale => scale::measure(self).await,
            Scenario::History => history::measure(self).await,
            Scenario::Idle => idle::measure(self).await,
            Scenario::FanOut => fan_out::measure(self).await,
            Scenario::Overload => overload::measure(self).await,
            Scenario::Turns => turns::measure(self).await,
            Scenario::ManyTurns => turns::many(self).await,
            Scenario::Soak => soak::measure(self).await,
        }
    }

    fn pace(&self) -> Pace {
        Pace {
            runs: self.runs,
            leg: self.leg,
            stop: Stop::default(),
        }
    }

    fn device(&self) -> Result<Arc<Device>, BenchError> {
        Device::new(&self.token).map(Arc::new)
    }

    /// An empty place for one gateway's state. `more` is configured beside what is needed.
    fn home(&self, more: &Value) -> Result<(Scratch, GatewayHome), BenchError> {
        let dir = Scratch::in_dir(&self.dir)?;
        let home = GatewayHome::new(&self.bin, dir.path(), None, &self.token, more)?;
        Ok((dir, home))
    }

    /// A gateway that answers, with a device that it has paired.
    async fn gateway(&self) -> Result<Subject, BenchError> {
        self.gateway_with(&Value::Null).await
    }

    /// The same, with more in its configuration.
    async fn gateway_with(&self, more: &Value) -> Result<Subject, BenchError> {
        let (dir, home) = self.home(more)?;
        let device = self.device()?;
        let mut server = home.start()?;
        let door = Door::of(server.address, &device);
        first_hello(&mut server, &door).await?.close().await;
        Ok(Subject {
            server,
            device,
            home,
            dir,
        })
    }
}

/// A running gateway and what belongs to it.
#[derive(Debug)]
struct Subject {
    server: Server,
    device: Arc<Device>,
    home: GatewayHome,
    dir: Scratch,
}

impl Subject {
    /// The way in.
    fn door(&self) -> Door {
        Door::of(self.server.address, &self.device)
    }

    /// The same as a side of a measurement.
    fn side(&self) -> Side {
        Side::of(&self.server, &self.device)
    }
}
