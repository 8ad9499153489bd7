//! `bench`: load for any gateway, and what it makes of it.
//!
//! What is measured and how is in `clawgate-bench`; here it is said which gateway, as whom, and what
//! came out.

mod args;
mod report;

use std::{net::SocketAddr, path::PathBuf, pin::pin, sync::Arc};

pub(crate) use args::BenchCommand;
use args::{CronLateArgs, CronLoadArgs, StartArgs, TargetArgs};
use clawgate_bench::{
    error::BenchError,
    fan_out::Cause,
    jobs::Jobs,
    measure::{self, Call, Pace},
    meter::Side,
    peer::{Door, Guest},
    process::is_in_memory,
    stats::{Row, Unit},
};
use clawgate_client::{CredentialKind, Mode};
use report::{Gateway, Report};
use serde_json::Value;

use super::{Context, ORDINARY_MS, gateway::listeners};
use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
    session::{Approach, Link},
    stop::Stop,
};

/// The first argument of a process that is a floor. Nobody types it, so it is not in the help.
pub(crate) const FLOOR: &str = clawgate_bench::floor::NAME;

/// Calls of an active connection, and of a soak.
const READ_METHODS: [&str; 4] = ["health", "status", "cron.list", "system-presence"];

pub(crate) fn run(context: &Context, command: &BenchCommand) -> CommandResult {
    clawgate_bench::raise_descriptor_limit();
    clawgate_bench::runtime()
        .map_err(|error| CommandError::internal(format!("no runtime: {error}")))?
        .block_on(Box::pin(measured(context, command)))
}

async fn measured(context: &Context, command: &BenchCommand) -> CommandResult {
    let kind = command.kind();
    match command {
        BenchCommand::Connect(args) => {
            let subject = Subject::open(context, &args.target, &["health"]).await?;
            let row = Row::new(
                format!("connects, {} in flight", args.in_flight),
                Unit::PerSecond,
            );
            let pace = args.target.pace.of(args::LEG);
            let rows = heeding(context, &pace, async {
                let row = measure::connects(&pace, &subject.side, args.in_flight, row).await?;
                Ok(vec![row])
            });
            let rows = rows.await;
            subject.tell(context, kind, &args.target, &pace, rows, None)
        }
        BenchCommand::Rpc(args) => {
            let params = args.params.as_ref().map(Value::to_string);
            let subject = Subject::open(context, &args.target, &[&args.method]).await?;
            subject
                .try_call(context, &args.target, &args.method, args.params.as_ref())
                .await?;
            let call = Call {
                method: &args.method,
                params: params.as_deref(),
                clients: args.clients,
                in_flight: args.in_flight,
            };
            let name = format!("{}, {} x {}", args.method, args.clients, args.in_flight);
            let row = Row::new(name, Unit::PerSecond);
            let pace = args.target.pace.of(args::LEG);
            let rows = heeding(context, &pace, async {
                Ok(vec![measure::calls(&pace, &subject.side, call, row).await?])
            });
            let rows = rows.await;
            subject.tell(context, kind, &args.target, &pace, rows, None)
        }
        BenchCommand::Idle(args) => {
            let subject = Subject::open(context, &args.target, &["health"]).await?;
            let pace = args.target.pace.of(args::LEG);
            let rows = heeding(context, &pace, async {
                measure::idle(&pace, &subject.side, args.connections).await
            });
            let rows = rows.await;
            subject.tell(context, kind, &args.target, &pace, rows, None)
        }
        BenchCommand::Fanout(args) => {
            let methods = ["system-event", "cron.add", "cron.list", "cron.remove"];
            let subject = Subject::open(context, &args.target, &methods).await?;
            let jobs = new_jobs()?;
            let pace = args.target.pace.of(args::LEG);
            let rows = heeding(context, &pace, async {
                let cause = Cause::find(&subject.side.door, &jobs).await?;
                let name = format!("{} to the last of {}", cause.name, args.subscribers);
                let row = Row::new(name, Unit::Millis);
                let row = measure::fan_out(&pace, &subject.side, args.subscribers, &cause, row);
                Ok(vec![row.await?])
            });
            let rows = rows.await;
            let (rows, removed) = remove(&subject, &jobs, rows).await?;
            subject.tell(context, kind, &args.target, &pace, Ok(rows), Some(removed))
        }
        BenchCommand::CronLoad(args) => cron_load(context, kind, args).await,
        BenchCommand::CronLate(args) => cron_late(context, kind, args).await,
        BenchCommand::Start(args) => start(context, kind, args).await,
        BenchCommand::Soak(args) => {
            let mut methods = READ_METHODS.to_vec();
            methods.extend(["cron.add", "cron.remove"]);
            let subject = Subject::open(context, &args.target, &methods).await?;
            let jobs = new_jobs()?;
            let mut pace = args.target.pace.of(args::SOAK);
            pace.runs = 1;
            let rows = heeding(context, &pace, async {
                measure::soak(&pace, &subject.side, &jobs).await
            });
            let rows = rows.await;
            let (rows, removed) = remove(&subject, &jobs, rows).await?;
            subject.tell(context, kind, &args.target, &pace, Ok(rows), Some(removed))
        }
    }
}

async fn cron_load(context: &Context, kind: &str, args: &CronLoadArgs) -> CommandResult {
    let methods = ["cron.add", "cron.list", "cron.remove"];
    let subject = Subject::open(context, &args.target, &methods).await?;
    let jobs = new_jobs()?;
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    if is_in_memory(&dir) {
        context.output.note(format!(
            "note: {} is in memory, so the floor syncs nothing; --dir names another",
            dir.display()
        ));
    }
    let pace = args.target.pace.of(args::LEG);
    let rows = heeding(context, &pace, async {
        measure::cron_load(&pace, &subject.side, args.clients, &jobs, &dir).await
    });
    let rows = rows.await;
    let (rows, removed) = remove(&subject, &jobs, rows).await?;
    subject.tell(context, kind, &args.target, &pace, Ok(rows), Some(removed))
}

async fn cron_late(context: &Context, kind: &str, args: &CronLateArgs) -> CommandResult {
    let methods = ["cron.add", "cron.list", "cron.remove"];
    let subject = Subject::open(context, &args.target, &methods).await?;
    let jobs = new_jobs()?;
    let pace = args.target.pace.of(args::LEG);
    let rows = heeding(context, &pace, async {
        measure::cron_late(&pace, &subject.side, args.jobs, &jobs).await
    });
    let rows = rows.await;
    let (rows, removed) = remove(&subject, &jobs, rows).await?;
    subject.tell(context, kind, &args.target, &pace, Ok(rows), Some(removed))
}

async fn start(context: &Context, kind: &str, args: &StartArgs) -> CommandResult {
    let bin = match &args.bin {
        Some(bin) => bin.canonicalize().map_err(|error| {
            CommandError::usage(format!("cannot use {}: {error}", bin.display()))
        })?,
        None => own_program()?,
    };
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let pace = args.pace.of(args::LEG);
    let rows = heeding(context, &pace, async {
        measure::starts(&pace, &bin, args.port, &dir).await
    });
    let rows = rows.await;
    Report {
        kind,
        gateway: Gateway::Program(bin),
        pace: &pace,
        rows: rows?,
        removed: None,
    }
    .print(context, args.json)
}

fn own_program() -> CommandResult<PathBuf> {
    std::env::current_exe()
        .map_err(|error| CommandError::internal(format!("this program is not found: {error}")))
}

/// Does it to its end, or until somebody wants the end: first as soon as what is under way is measured,
/// then at once.
async fn heeding<T>(
    context: &Context,
    pace: &Pace,
    doing: impl Future<Output = Result<T, BenchError>>,
) -> CommandResult<T> {
    let mut signals = Stop::watch()?;
    let mut doing = pin!(doing);
    tokio::select! {
        done = &mut doing => return done.map_err(failed),
        () = signals.asked() => {}
    }
    pace.stop.ask();
    context
        .output
        .note("stopping when this run is measured; once more to stop at once");
    tokio::select! {
        done = doing => done.map_err(failed),
        () = signals.asked() => Err(stopped()),
    }
}

fn stopped() -> CommandError {
    CommandError::new(
        Exit::Failed,
        "STOPPED",
        "stopped before anything was measured",
    )
}

fn failed(error: BenchError) -> CommandError {
    match error {
        BenchError::Skipped(why) => CommandError::new(Exit::Failed, "NOT_SERVED", why),
        other => CommandError::new(
            Exit::Failed,
            "BENCH",
            format!("the measurement failed: {other}"),
        ),
    }
}

fn new_jobs() -> CommandResult<Jobs> {
    Jobs::new().map_err(failed)
}

/// Removes the jobs of this run, whatever became of it, and says how many they were. What went wrong
/// first is told first.
async fn remove(
    subject: &Subject,
    jobs: &Jobs,
    rows: CommandResult<Vec<Row>>,
) -> CommandResult<(Vec<Row>, usize)> {
    let mut signals = Stop::watch()?;
    let removed = tokio::select! {
        removed = jobs.remove_all(&subject.side.door) => removed.map_err(|error| error.to_string()),
        () = signals.asked() => Err("stopped".to_owned()),
    };
    let error = match (rows, removed) {
        (rows, Ok(removed)) => return rows.map(|rows| (rows, removed)),
        (Err(first), Err(_)) => first.fact(
            "jobs",
            format!("those called {:?} may be left", jobs.name()),
        ),
        (Ok(_), Err(error)) => CommandError::new(
            Exit::Failed,
            "JOBS_LEFT",
            format!("jobs called {:?} may be left: {error}", jobs.name()),
        ),
    };
    Err(error
        .hint("clawgate cron list --all")
        .hint("clawgate cron rm ID"))
}

/// The gateway that is measured.
#[derive(Debug)]
struct Subject {
    side: Side,
    url: String,
    protocol: u32,
    version: String,
}

/// This command's connect, for connections that are no [`Link`].
#[derive(Debug)]
struct Caller {
    approach: Approach,
    credential: CredentialKind,
}

impl Guest for Caller {
    fn connect_text(&self, challenge: &str) -> Result<String, BenchError> {
        self.approach
            .connect_text(self.credential, challenge)
            .map_err(|error| BenchError::Unexpected(error.to_string()))
    }
}

impl Subject {
    /// Connects as every command does, and keeps the way that led in.
    async fn open(context: &Context, args: &TargetArgs, methods: &[&str]) -> CommandResult<Self> {
        let approach = Approach::new(context, &args.connect, Mode::Cli, ORDINARY_MS)?;
        if approach.target.endpoint.is_secure() {
            return Err(CommandError::usage(
                "what is measured answers without TLS, which would be measured as well",
            )
            .hint("clawgate bench on the gateway's own machine")
            .hint("a tunnel: ssh -N -L 18789:127.0.0.1:18789 HOST"));
        }
        let link = Link::by(context, approach, false, methods).await?;
        let (approach, opened) = link.into_parts();
        let hello = opened.session.hello();
        let protocol = hello.protocol;
        let version = hello.server.version.clone();
        opened.session.close().await;
        let endpoint = &approach.target.endpoint;
        let url = endpoint.to_string();
        let request = endpoint.request_url();
        let request = request.split_once("://").map_or("", |(_, rest)| rest);
        let (host, path) = request.split_at(request.find('/').unwrap_or(request.len()));
        let (host, path) = (host.to_owned(), path.to_owned());
        let address = reachable(endpoint).await?;
        let pid = args.pid.or_else(|| {
            let listening = listeners::on_port(endpoint.port());
            let mut pids = listening.iter().filter_map(|listener| listener.pid);
            // Two programs on one port are not told apart.
            let pid = pids.next().filter(|_| endpoint.is_loopback())?;
            pids.all(|other| other == pid).then_some(pid)
        });
        if pid.is_none() {
            context.output.note(
                "note: the gateway's process is not known, so its processor time and memory are not; --pid PID",
            );
        }
        let guest = Arc::new(Caller {
            approach,
            credential: opened.credential,
        });
        let path = if path.is_empty() { "/" } else { &path };
        Ok(Self {
            side: Side {
                door: Door::at(address, &host, path, guest),
                pid,
            },
            url,
            protocol,
            version,
        })
    }

    /// One call as every command makes it, so that a refusal is told as everywhere.
    async fn try_call(
        &self,
        context: &Context,
        args: &TargetArgs,
        method: &str,
        params: Option<&Value>,
    ) -> CommandResult<()> {
        super::call_once(context, &args.connect, ORDINARY_MS, method, params)
            .await
            .map(drop)
    }

    fn tell(
        self,
        context: &Context,
        kind: &str,
        args: &TargetArgs,
        pace: &Pace,
        rows: CommandResult<Vec<Row>>,
        removed: Option<usize>,
    ) -> CommandResult {
        Report {
            kind,
            rows: rows?,
            gateway: Gateway::Running {
                memory: self.side.memory(),
                pid: self.side.pid,
                url: self.url,
                protocol: self.protocol,
                version: self.version,
            },
            pace,
            removed,
        }
        .print(context, args.connect.json)
    }
}

/// The first address of an endpoint that answers.
async fn reachable(endpoint: &clawgate_client::Endpoint) -> CommandResult<SocketAddr> {
    let mut failure = "it has no address".to_owned();
    for host in endpoint.dial_hosts() {
        match tokio::net::TcpStream::connect((host, endpoint.port())).await {
            Ok(stream) => match stream.peer_addr() {
                Ok(address) => return Ok(address),
                Err(error) => failure = error.to_string(),
            },
            Err(error) => failure = error.to_string(),
        }
    }
    Err(CommandError::new(
        Exit::Unreachable,
        "UNREACHABLE",
        format!("{endpoint} is not reachable any more: {failure}"),
    ))
}
