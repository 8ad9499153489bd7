//! A long day in an hour: everything at once, again and again, and nothing may be left of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Bench, Subject, turns};
use crate::{
    error::BenchError,
    peer,
    process::Server,
    provider::{Provider, QUICK},
    report,
    stats::{Bar, Row, Unit},
};

/// Looks at the process in the whole time.
const LOOKS: u32 = 240;
/// The part of the time in which caches fill, buffers grow to their size and history reaches its bounds.
const WARM_UP: f64 = 1.0 / 3.0;
/// Between two of the same kind, so that the disk and not the load tool is what is waited for.
const PACE: Duration = Duration::from_millis(5);
/// Between two readings of the configuration.
const RELOADS: Duration = Duration::from_secs(3);
const JOB: &str = r#"{"name":"soak","enabled":true,"schedule":{"kind":"every","everyMs":3600000},
    "sessionTarget":"main","wakeMode":"next-heartbeat","payload":{"kind":"systemEvent","text":"soak"}}"#;
/// Sessions of the turns.
const SESSIONS: usize = 50;
/// What memory may seem to grow by where nothing grows: a page here, an arena there.
const NOISE_BYTES: f64 = 1e6;

/// What was done so far.
#[derive(Debug, Default)]
struct Done {
    connects: AtomicUsize,
    calls: AtomicUsize,
    jobs: AtomicUsize,
    turns: AtomicUsize,
    reloads: AtomicUsize,
}

/// One look at the process.
#[derive(Clone, Copy, Debug)]
struct Look {
    hours: f64,
    resident: f64,
    descriptors: Option<f64>,
    threads: f64,
}

/// One of the figures of a look, where it is known.
type Figure = fn(&Look) -> Option<f64>;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let provider = Provider::start().await?;
    let subject = Arc::new(bench.gateway_with(&provider.config(4)).await?);
    let done = Arc::new(Done::default());
    let began = Instant::now();
    let until = began + bench.soak;
    let mut busy = JoinSet::new();
    busy.spawn(connects(Arc::clone(&subject), Arc::clone(&done), until));
    busy.spawn(calls(Arc::clone(&subject), Arc::clone(&done), until));
    busy.spawn(jobs(Arc::clone(&subject), Arc::clone(&done), until));
    busy.spawn(conversations(
        Arc::clone(&subject),
        Arc::clone(&done),
        until,
    ));
    busy.spawn(reloads(Arc::clone(&subject), Arc::clone(&done), until));
    let mut looks = Vec::new();
    while Instant::now() < until {
        tokio::time::sleep(bench.soak / LOOKS).await;
        looks.push(look(&subject.server, began)?);
        // Somebody who failed ends it; the others end with their time.
        while let Some(ended) = busy.try_join_next() {
            ended.map_err(|died| BenchError::Unexpected(died.to_string()))??;
        }
    }
    while let Some(ended) = busy.join_next().await {
        ended.map_err(|died| BenchError::Unexpected(died.to_string()))??;
    }
    let count = |what: &AtomicUsize| what.load(Ordering::Relaxed);
    report::say(&format!(
        "soak: {} connects, {} calls, {} jobs made, run and removed, {} turns, {} readings of the configuration",
        count(&done.connects),
        count(&done.calls),
        count(&done.jobs),
        count(&done.turns),
        count(&done.reloads),
    ))?;
    rows(&looks)
}

fn rows(looks: &[Look]) -> Result<Vec<Row>, BenchError> {
    let Some(last) = looks.last() else {
        return Err(BenchError::Unexpected("nothing was seen".to_owned()));
    };
    let steady: Vec<Look> = looks
        .iter()
        .filter(|look| look.hours >= last.hours * WARM_UP)
        .copied()
        .collect();
    let line = Line::through(steady.iter().map(|look| (look.hours, look.resident)));
    let span = last.hours * (1.0 - WARM_UP);
    let mut grown = Row::new("memory grown by its slope (floor: noise)", Unit::Megabytes)
        .bar(Bar::RatioAtMost(1.0));
    grown.pair(
        (NOISE_BYTES + 2.0 * line.spread) / 1e6,
        line.slope * span / 1e6,
    );
    let mut slope = Row::new("memory, slope an hour", Unit::Megabytes);
    slope.subject.push(line.slope / 1e6);
    let mut held = Row::new("memory at the end", Unit::Megabytes);
    held.subject.push(last.resident / 1e6);
    // At any moment some connects and some files are open; the least of many looks is what stays.
    let least = |looks: &[Look], of: Figure| looks.iter().filter_map(of).min_by(f64::total_cmp);
    let (early, late) = steady.split_at(steady.len() / 2);
    let mut rows = vec![grown, slope, held];
    let kinds: [(&str, Figure); 2] = [
        ("descriptors that stayed", |look| look.descriptors),
        ("threads that stayed", |look| Some(look.threads)),
    ];
    for (name, of) in kinds {
        if let (Some(early), Some(late)) = (least(early, of), least(late, of)) {
            let mut row = Row::new(name, Unit::Pieces).bar(Bar::AtMost(1.0));
            row.subject.push(late - early);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A line through points by least squares, and how far they lie from it (standard deviation).
#[derive(Clone, Copy, Debug)]
struct Line {
    slope: f64,
    spread: f64,
}

impl Line {
    fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let many = points.clone().fold(0.0, |many, _| many + 1.0);
        let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / many;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let (mut both, mut square) = (0.0, 0.0);
        for (px, py) in points.clone() {
            both += (px - x) * (py - y);
            square += (px - x) * (px - x);
        }
        let slope = if square > 0.0 { both / square } else { 0.0 };
        let far: f64 = points
            .map(|(px, py)| (py - y - slope * (px - x)).powi(2))
            .sum();
        Self {
            slope,
            spread: (far / many).sqrt(),
        }
    }
}

fn look(server: &Server, began: Instant) -> Result<Look, BenchError> {
    let id = server.id();
    // Another user's are not shown, and a gateway's are like another user's.
    let descriptors = std::fs::read_dir(format!("/proc/{id}/fd"))
        .ok()
        .map(|entries| entries.fold(0.0, |many, _| many + 1.0));
    let threads = std::fs::read_dir(format!("/proc/{id}/task"))
        .map(|entries| entries.fold(0.0, |many, _| many + 1.0))
        .unwrap_or_default();
    Ok(Look {
        hours: began.elapsed().as_secs_f64() / 3_600.0,
        resident: server.memory()?.resident,
        descriptors,
        threads,
    })
}

async fn connects(
    subject: Arc<Subject>,
    done: Arc<Done>,
    until: Instant,
) -> Result<(), BenchError> {
    while Instant::now() < until {
        let wire = subject.device.connect(subject.server.address).await?;
        wire.close().await;
        done.connects.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

async fn calls(subject: Arc<Subject>, done: Arc<Done>, until: Instant) -> Result<(), BenchError> {
    let mut wire = subject.device.connect(subject.server.address).await?;
    let methods = [
        "health",
        "status",
        "config.get",
        "cron.list",
        "cron.runs",
        "sessions.list",
        "system-presence",
    ];
    for method in methods.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        peer::answer(&mut wire, method, None).await?;
        done.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE).await;
    }
    wire.close().await;
    Ok(())
}

async fn jobs(subject: Arc<Subject>, done: Arc<Done>, until: Instant) -> Result<(), BenchError> {
    let mut wire = subject.device.connect(subject.server.address).await?;
    while Instant::now() < until {
        let answer = peer::answer(&mut wire, "cron.add", Some(JOB)).await?;
        let added: Value = serde_json::from_str(&answer)
            .map_err(|error| BenchError::Unexpected(error.to_string()))?;
        let id = &added["payload"]["id"];
        let run = json!({"id": id, "mode": "force"}).to_string();
        peer::answer(&mut wire, "cron.run", Some(&run)).await?;
        let remove = json!({"id": id}).to_string();
        peer::answer(&mut wire, "cron.remove", Some(&remove)).await?;
        done.jobs.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE).await;
    }
    wire.close().await;
    Ok(())
}

async fn conversations(
    subject: Arc<Subject>,
    done: Arc<Done>,
    until: Instant,
) -> Result<(), BenchError> {
    let mut wire = subject.device.connect(subject.server.address).await?;
    while Instant::now() < until {
        let number = done.turns.fetch_add(1, Ordering::Relaxed);
        let session = format!("soak-{}", number % SESSIONS);
        turns::turn(&mut wire, QUICK, &session, &format!("soak-{number}")).await?;
        tokio::time::sleep(PACE).await;
    }
    wire.close().await;
    Ok(())
}

async fn reloads(subject: Arc<Subject>, done: Arc<Done>, until: Instant) -> Result<(), BenchError> {
    let pid = Pid::from_raw(subject.server.id().cast_signed())
        .ok_or_else(|| BenchError::Unexpected("the gateway has no process".to_owned()))?;
    while Instant::now() < until {
        kill_process(pid, Signal::HUP)
            .map_err(|error| BenchError::Unexpected(format!("SIGHUP: {error}")))?;
        done.reloads.fetch_add(1, Ordering::Relaxed);
        let left = until.saturating_duration_since(Instant::now());
        tokio::time::sleep(RELOADS.min(left)).await;
    }
    Ok(())
}
