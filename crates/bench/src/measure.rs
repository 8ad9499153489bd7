//! What is measured, of any gateway: each function takes pairs of floor and subject and gives rows.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    error::BenchError,
    fan_out::{Cause, Circle},
    histogram::Histogram,
    jobs::{self, Jobs},
    load::{self, Flow},
    looks::{self, Look},
    meter::{Began, Meter, Side},
    peer::{self, Device, Door},
    process::{GatewayHome, PATIENCE, Scratch, Server, fdatasync_ms, first_hello},
    stats::{Costs, Row, Unit, quantile},
};

/// Time for a server to put away what a burst of connects took.
const SETTLED: Duration = Duration::from_millis(300);
/// Requests in flight on the connection that is active beside idle ones.
const ACTIVE_WINDOW: usize = 16;
/// When memory is looked at after a start.
const STARTED: Duration = Duration::from_secs(2);
/// Looks at the process in the time of a soak.
const LOOKS: u32 = 240;
/// The floor checks a signature under some token; which one is its own matter.
const FLOOR_TOKEN: &str = "a-token-for-the-floor";

/// Somebody's wish to end early, for whoever looks.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for the end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How often and how long.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Pairs of floor and subject.
    pub runs: u32,
    /// Counted time of one side of a pair.
    pub leg: Duration,
    /// Looked at between pairs.
    pub stop: Stop,
}

impl Pace {
    /// One number for each pair, until somebody wants the end.
    fn pairs(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.runs).take_while(|_| !self.stop.is_asked())
    }

    /// What is done in a leg, unless the server does not answer any more.
    async fn leg<T>(
        &self,
        doing: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        tokio::time::timeout(self.leg + PATIENCE, doing)
            .await
            .unwrap_or_else(|_| {
                Err(BenchError::Unexpected(
                    "there was no answer for 30 s".to_owned(),
                ))
            })
    }
}

/// One request over and over.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which method.
    pub method: &'a str,
    /// Its parameters, as JSON.
    pub params: Option<&'a str>,
    /// Connections.
    pub clients: usize,
    /// Requests in flight on each.
    pub in_flight: usize,
}

fn floor_side(server: &Server) -> Result<Side, BenchError> {
    Ok(Side::of(server, &Arc::new(Device::new(FLOOR_TOKEN)?)))
}

/// A call, against a floor whose answers are as long, on connections that stay.
///
/// # Errors
/// The gateway refuses the call or is gone.
pub async fn calls(
    pace: &Pace,
    subject: &Side,
    call: Call<'_>,
    row: Row,
) -> Result<Row, BenchError> {
    let mut wires = load::open(&subject.door, call.clients).await?;
    let answer = match wires.first_mut() {
        Some(wire) => {
            pace.leg(peer::answer(wire, call.method, call.params))
                .await?
        }
        None => return Err(BenchError::Unexpected("no connection".to_owned())),
    };
    let floor = Server::floor(answer.len())?;
    let floor = (floor_side(&floor)?, floor);
    let mut floor_wires = load::open(&floor.0.door, call.clients).await?;
    let request = peer::request(call.method, call.params);
    let mut meter = Meter::default();
    for _ in pace.pairs() {
        for (side, wires) in [(&floor.0, &mut floor_wires), (subject, &mut wires)] {
            let began = Began::now(side);
            let flow = pace
                .leg(load::rpc(wires, &request, call.in_flight, pace.leg))
                .await?;
            meter.end(side, &began, flow);
        }
    }
    for wire in wires {
        wire.close().await;
    }
    Ok(meter.row(row.floor_is("bare echo, answers as long")))
}

/// Full connects: TCP, upgrade, challenge, Ed25519 proof, hello-ok, goodbye.
///
/// # Errors
/// The gateway refuses or is gone.
pub async fn connects(
    pace: &Pace,
    subject: &Side,
    in_flight: usize,
    row: Row,
) -> Result<Row, BenchError> {
    let floor = Server::floor(0)?;
    let floor = (floor_side(&floor)?, floor);
    let mut meter = Meter::default();
    for _ in pace.pairs() {
        for side in [&floor.0, subject] {
            let began = Began::now(side);
            let flow = pace
                .leg(load::handshakes(&side.door, in_flight, pace.leg))
                .await?;
            meter.end(side, &began, flow);
        }
    }
    Ok(meter.row(row.floor_is("bare echo that checks one Ed25519 signature")))
}

/// What idle connections hold and what they cost another one.
#[derive(Debug)]
pub struct Idle {
    /// Kilobytes of the gateway's memory for each, where its process is known.
    pub held_kb: Option<f64>,
    /// The same of a bare echo.
    pub floor_kb: f64,
    /// An active connection before.
    pub alone: Flow,
    /// The same beside them.
    pub crowded: Flow,
}

/// Opens idle connections and has one be active, alone and beside them.
///
/// # Errors
/// They cannot be opened, or the gateway is gone.
pub async fn idle_round(subject: &Side, many: usize, leg: Duration) -> Result<Idle, BenchError> {
    let request = peer::request("health", None);
    let floor = Server::floor(0)?;
    let (floor_kb, idle) = sit(&floor_side(&floor)?, many).await?;
    drop((idle, floor));
    let mut active = load::open(&subject.door, 1).await?;
    let alone = load::rpc(&mut active, &request, ACTIVE_WINDOW, leg).await?;
    let (held_kb, idle) = sit(subject, many).await?;
    let crowded = load::rpc(&mut active, &request, ACTIVE_WINDOW, leg).await?;
    for wire in idle.into_iter().chain(active) {
        wire.close().await;
    }
    Ok(Idle {
        held_kb,
        floor_kb: floor_kb.unwrap_or_default(),
        alone,
        crowded,
    })
}

/// Opens the connections and says what each made the server hold, in kilobytes.
async fn sit(
    side: &Side,
    many: usize,
) -> Result<(Option<f64>, Vec<crate::wire::Wire>), BenchError> {
    let before = side.memory();
    let idle = load::open(&side.door, many).await?;
    tokio::time::sleep(SETTLED).await;
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let each = before
        .zip(side.memory())
        .map(|(before, after)| (after.resident - before.resident) / idle.len() as f64 / 1e3);
    Ok((each, idle))
}

/// The same for a gateway that runs already: only the first run says what a connection takes, later ones
/// take what it left.
///
/// # Errors
/// They cannot be opened, or the gateway is gone.
pub async fn idle(pace: &Pace, subject: &Side, many: usize) -> Result<Vec<Row>, BenchError> {
    let mut held = Row::new(format!("memory a connection, {many} idle"), Unit::Kilobytes)
        .floor_is("bare echo");
    let mut beside = Row::new(format!("health beside {many} idle"), Unit::PerSecond)
        .floor_is("the same connection alone");
    let mut took = Histogram::default();
    for run in pace.pairs() {
        let seen = idle_round(subject, many, pace.leg).await?;
        if run == 0
            && let Some(held_kb) = seen.held_kb
        {
            held.pair(seen.floor_kb, held_kb);
        }
        beside.pair(seen.alone.per_second, seen.crowded.per_second);
        took.add(&seen.crowded.took);
    }
    beside.took = Some(took);
    Ok(vec![held, beside]
        .into_iter()
        .filter(|row| !row.subject.is_empty())
        .collect())
}

/// An event to the last of many subscribers, against a process that sends the same bytes to as many.
///
/// # Errors
/// There is no event that others are told of, or a subscriber was lost.
pub async fn fan_out(
    pace: &Pace,
    subject: &Side,
    many: usize,
    cause: &Cause,
    mut row: Row,
) -> Result<Row, BenchError> {
    let (answer_bytes, event_bytes) = cause.bytes;
    let floor = Server::broadcasting_floor(answer_bytes, event_bytes)?;
    let floor = (floor_side(&floor)?, floor);
    let mut floor_circle = Circle::gather(&floor.0.door, Cause::of_floor(), many).await?;
    let mut circle = Circle::gather(&subject.door, cause.clone(), many).await?;
    let (mut took, mut floor_took) = (Histogram::default(), Histogram::default());
    let (mut cpu_us, mut floor_cpu_us, mut client_cpu_us) = (Vec::new(), Vec::new(), Vec::new());
    // Nobody's first is counted.
    floor_circle.round().await?;
    circle.round().await?;
    for _ in pace.pairs() {
        let began = Began::now(&floor.0);
        let floor_ms = rounds(&mut floor_circle, pace.leg, &mut floor_took).await?;
        floor_cpu_us.push(began.server_us(&floor.0));
        let began = Began::now(subject);
        let ms = rounds(&mut circle, pace.leg, &mut took).await?;
        cpu_us.push(began.server_us(subject));
        client_cpu_us.push(began.client_us());
        row.pair(floor_ms, ms);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    let each = |us: &[f64], took: &Histogram| {
        us.iter().sum::<f64>() / (took.many().max(1) as f64 * many as f64)
    };
    // Of an event to one of them.
    row.costs = Some(Costs {
        server_cpu_us: each(&cpu_us, &took),
        floor_cpu_us: each(&floor_cpu_us, &floor_took),
        client_cpu_us: each(&client_cpu_us, &took),
        p50_us: took.quantile_us(0.5),
        p99_us: took.quantile_us(0.99),
        floor_p50_us: floor_took.quantile_us(0.5),
        floor_p99_us: floor_took.quantile_us(0.99),
    });
    row.took = Some(took);
    Ok(row.floor_is("a process that does nothing but send the same bytes to as many"))
}

/// One event after the other, and the middle of the times to the last subscriber, in milliseconds.
async fn rounds(
    circle: &mut Circle,
    for_time: Duration,
    took: &mut Histogram,
) -> Result<f64, BenchError> {
    let until = Instant::now() + for_time;
    let mut all = Vec::new();
    while Instant::now() < until || all.is_empty() {
        let one = circle.round().await?;
        took.count(one);
        all.push(one.as_secs_f64() * 1e3);
    }
    Ok(crate::stats::Spread::of(&all).median)
}

/// Adds jobs that are never due, by one client and by many. They are there afterwards.
///
/// # Errors
/// The gateway refuses, or the floor's disk does.
pub async fn cron_load(
    pace: &Pace,
    subject: &Side,
    clients: usize,
    jobs: &Jobs,
    dir: &Path,
) -> Result<Vec<Row>, BenchError> {
    let request = peer::request("cron.add", Some(&jobs.idle()));
    let place = Scratch::in_dir(dir)?;
    let mut one = load::open(&subject.door, 1).await?;
    let mut durable = Row::new("cron.add, one client, p50", Unit::Millis)
        .floor_is("append of 4 KiB and fdatasync");
    let mut shared =
        Row::new(format!("cron.add, {clients} clients"), Unit::PerSecond).floor_is("one client");
    let (mut took, mut took_of_many) = (Histogram::default(), Histogram::default());
    for _ in pace.pairs() {
        let floor_ms = fdatasync_ms(place.path(), pace.leg)?;
        let alone = pace.leg(load::rpc(&mut one, &request, 1, pace.leg)).await?;
        // They come for their own leg only: each of them is told of every job, which is work beside
        // the one that is measured alone.
        let mut many = load::open(&subject.door, clients).await?;
        let together = pace
            .leg(load::rpc(&mut many, &request, 1, pace.leg))
            .await?;
        for wire in many {
            wire.close().await;
        }
        durable.pair(floor_ms, alone.p50_us() / 1e3);
        shared.pair(alone.per_second, together.per_second);
        took.add(&alone.took);
        took_of_many.add(&together.took);
    }
    durable.took = Some(took);
    shared.took = Some(took_of_many);
    Ok(vec![durable, shared])
}

/// Has jobs be due within one second, and says how late they are.
///
/// # Errors
/// The gateway refuses, or not all of them ran.
pub async fn cron_late(
    pace: &Pace,
    subject: &Side,
    many: u32,
    jobs: &Jobs,
) -> Result<Vec<Row>, BenchError> {
    let mut started = Row::new(
        format!("start after the due time, p99 of {many}"),
        Unit::Millis,
    )
    .floor_is("timers of this program");
    let mut told = Row::new(
        format!("told after the due time, p99 of {many}"),
        Unit::Millis,
    )
    .floor_is("timers of this program");
    let mut took = Histogram::default();
    let p99 = |mut late: Vec<f64>| {
        late.sort_by(f64::total_cmp);
        quantile(&late, 0.99)
    };
    for _ in pace.pairs() {
        let floor_ms = p99(jobs::timer_lateness(many).await?);
        let late = jobs.lateness(&subject.door, many).await?;
        for one in &late {
            took.count(Duration::from_secs_f64(one.told_ms.max(0.0) / 1e3));
        }
        started.pair(
            floor_ms,
            p99(late.iter().map(|one| one.started_ms).collect()),
        );
        told.pair(floor_ms, p99(late.iter().map(|one| one.told_ms).collect()));
    }
    told.took = Some(took);
    Ok(vec![started, told])
}

/// From nothing to the first hello-ok, in milliseconds.
///
/// # Errors
/// It does not come up.
pub async fn timed_start(
    start: impl FnOnce() -> Result<Server, BenchError>,
    device: &Arc<Device>,
) -> Result<(f64, Server), BenchError> {
    let began = Instant::now();
    let mut server = start()?;
    let door = Door::of(server.address, device);
    let wire = first_hello(&mut server, &door).await?;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    wire.close().await;
    Ok((ms, server))
}

/// Starts a program's gateway on an empty state directory and on one that it knows, and looks at its
/// memory two seconds later.
///
/// # Errors
/// It does not come up.
pub async fn starts(
    pace: &Pace,
    bin: &Path,
    port: Option<u16>,
    dir: &Path,
) -> Result<Vec<Row>, BenchError> {
    const FLOOR: &str = "a process that checks one Ed25519 signature";
    let mut first = Row::new("start, empty state directory", Unit::Millis).floor_is(FLOOR);
    let mut again = Row::new("start, existing state", Unit::Millis).floor_is(FLOOR);
    let mut resident = Row::new("memory 2 s after start", Unit::Megabytes).floor_is(FLOOR);
    let device = Arc::new(Device::new(FLOOR_TOKEN)?);
    for _ in pace.pairs() {
        let place = Scratch::in_dir(dir)?;
        let home = GatewayHome::new(
            bin,
            place.path(),
            port,
            FLOOR_TOKEN,
            &serde_json::Value::Null,
        )?;
        let (floor_ms, floor) = timed_start(|| Server::floor(0), &device).await?;
        let (ms, mut subject) = timed_start(|| home.start(), &device).await?;
        first.pair(floor_ms, ms);
        subject.end();
        drop(floor);
        let (floor_ms, floor) = timed_start(|| Server::floor(0), &device).await?;
        let (ms, subject) = timed_start(|| home.start(), &device).await?;
        again.pair(floor_ms, ms);
        tokio::time::sleep(STARTED).await;
        resident.pair(
            floor.memory()?.resident / 1e6,
            subject.memory()?.resident / 1e6,
        );
    }
    Ok(vec![first, again, resident])
}

/// What a soak did so far.
#[derive(Debug, Default)]
struct Done {
    connects: AtomicU64,
    calls: AtomicU64,
    jobs: AtomicU64,
}

/// Connects, calls, and jobs that are added and removed, all at once and for long; and what the process
/// holds meanwhile, where it is known. `jobs` may be there afterwards.
///
/// # Errors
/// The gateway refuses or is gone.
pub async fn soak(pace: &Pace, subject: &Side, jobs: &Jobs) -> Result<Vec<Row>, BenchError> {
    const FLOOR_LEG: Duration = Duration::from_millis(600);
    let floor = Server::floor(0)?;
    let floor = (floor_side(&floor)?, floor);
    let leg = pace.leg.min(FLOOR_LEG);
    let connects_floor = load::handshakes(&floor.0.door, 1, leg).await?;
    let mut wires = load::open(&floor.0.door, 1).await?;
    let calls_floor = load::rpc(&mut wires, &peer::request("floor", None), 1, leg).await?;
    drop((wires, floor));

    let done = Arc::new(Done::default());
    let began = Instant::now();
    let until = began + pace.leg;
    let goes_on = {
        let stop = pace.stop.clone();
        move || Instant::now() < until && !stop.is_asked()
    };
    let mut busy = JoinSet::new();
    busy.spawn({
        let (door, done, goes_on) = (subject.door.clone(), Arc::clone(&done), goes_on.clone());
        async move {
            while goes_on() {
                door.enter().await?.close().await;
                done.connects.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, BenchError>(())
        }
    });
    busy.spawn({
        let (door, done, goes_on) = (subject.door.clone(), Arc::clone(&done), goes_on.clone());
        async move {
            let mut wire = door.enter().await?;
            for method in ["health", "status", "cron.list", "system-presence"]
                .iter()
                .cycle()
            {
                if !goes_on() {
                    break;
                }
                peer::answer(&mut wire, method, None).await?;
                done.calls.fetch_add(1, Ordering::Relaxed);
            }
            wire.close().await;
            Ok(())
        }
    });
    busy.spawn({
        let (door, done, goes_on) = (subject.door.clone(), Arc::clone(&done), goes_on.clone());
        let jobs = jobs.clone();
        async move {
            let mut wire = door.enter().await?;
            while goes_on() {
                let id = jobs.add(&mut wire).await?;
                let remove = serde_json::json!({"id": id}).to_string();
                peer::answer(&mut wire, "cron.remove", Some(&remove)).await?;
                done.jobs.fetch_add(1, Ordering::Relaxed);
            }
            wire.close().await;
            Ok(())
        }
    });
    let mut seen = Vec::new();
    while goes_on() {
        tokio::time::sleep((pace.leg / LOOKS).max(Duration::from_millis(10))).await;
        if let Some(pid) = subject.pid {
            seen.push(Look::at(pid, began)?);
        }
        // Somebody who failed ends it; the others end with their time.
        while let Some(ended) = busy.try_join_next() {
            ended.map_err(|died| BenchError::Unexpected(died.to_string()))??;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    while let Some(ended) = tokio::time::timeout(PATIENCE, busy.join_next())
        .await
        .map_err(|_| BenchError::Unexpected("there was no answer for 30 s".to_owned()))?
    {
        ended.map_err(|died| BenchError::Unexpected(died.to_string()))??;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    let rate = |many: &AtomicU64| many.load(Ordering::Relaxed) as f64 / seconds;
    let mut rows = Vec::new();
    for (name, many, floor, floor_is) in [
        (
            "connects",
            &done.connects,
            connects_floor.per_second,
            "bare echo that checks one Ed25519 signature",
        ),
        ("calls", &done.calls, calls_floor.per_second, "bare echo"),
        (
            "jobs added and removed",
            &done.jobs,
            calls_floor.per_second,
            "bare echo",
        ),
    ] {
        let mut row = Row::new(name, Unit::PerSecond).floor_is(floor_is);
        row.pair(floor, rate(many));
        rows.push(row);
    }
    if !seen.is_empty() {
        rows.extend(looks::rows(&seen)?);
    }
    Ok(rows)
}
