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
    looks::{self, Look},
    peer,
    provider::{Provider, QUICK},
    report,
    stats::Row,
};

/// Looks at the process in the whole time.
const LOOKS: u32 = 240;
/// Between two of the same kind, so that the disk and not the load tool is what is waited for.
const PACE: Duration = Duration::from_millis(5);
/// Between two readings of the configuration.
const RELOADS: Duration = Duration::from_secs(3);
const JOB: &str = r#"{"name":"soak","enabled":true,"schedule":{"kind":"every","everyMs":3600000},
    "sessionTarget":"main","wakeMode":"next-heartbeat","payload":{"kind":"systemEvent","text":"soak"}}"#;
/// Sessions of the turns.
const SESSIONS: usize = 50;

/// What was done so far.
#[derive(Debug, Default)]
struct Done {
    connects: AtomicUsize,
    calls: AtomicUsize,
    jobs: AtomicUsize,
    turns: AtomicUsize,
    reloads: AtomicUsize,
}

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
        looks.push(Look::at(subject.server.id(), began)?);
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
    looks::rows(&looks)
}

async fn connects(
    subject: Arc<Subject>,
    done: Arc<Done>,
    until: Instant,
) -> Result<(), BenchError> {
    while Instant::now() < until {
        let wire = subject.door().enter().await?;
        wire.close().await;
        done.connects.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

async fn calls(subject: Arc<Subject>, done: Arc<Done>, until: Instant) -> Result<(), BenchError> {
    let mut wire = subject.door().enter().await?;
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
    let mut wire = subject.door().enter().await?;
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
    let mut wire = subject.door().enter().await?;
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
