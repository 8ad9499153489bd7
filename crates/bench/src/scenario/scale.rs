//! A hundred thousand jobs: adding one more, looking at a page, starting again, being on time,
//! and doing nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Bench, Subject, cron};
use crate::{
    error::BenchError,
    load, peer,
    process::first_hello,
    stats::{Bar, Row, Unit, quantile},
    wire::Wire,
};

const JOBS: usize = 100_000;
/// Requests under way at a time while the jobs are added.
const WINDOW: usize = 500;
/// Jobs that are due within one second.
const DUE: usize = 50;
/// How long nothing is asked.
const QUIET: Duration = Duration::from_secs(5);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut subject = bench.gateway().await?;
    let mut wires = load::open(&subject.door(), 1).await?;
    let add = peer::request("cron.add", Some(cron::ADD));
    let page = peer::request("cron.list", Some(r#"{"limit":50}"#));
    let few = load::rpc(&mut wires, &add, 1, bench.leg).await?;
    fill(&subject).await?;

    let mut added = Row::new("cron.add among 100,000, p50 (floor: few)", Unit::Millis)
        .target(Bar::RatioAtMost(1.25));
    let mut listed = Row::new("cron.list, 50 of 100,000, p50", Unit::Millis).bar(Bar::AtMost(5.0));
    for _ in 0..bench.runs {
        let many = load::rpc(&mut wires, &add, 1, bench.leg).await?;
        added.pair(few.p50_us() / 1e3, many.p50_us() / 1e3);
        let pages = load::rpc(&mut wires, &page, 1, bench.leg).await?;
        listed.subject.push(pages.p50_us() / 1e3);
    }
    drop(wires);

    let mut late =
        Row::new("start after the due time, p99 of 50", Unit::Millis).bar(Bar::AtMost(5.0));
    for _ in 0..bench.runs {
        late.subject.push(lateness(&subject).await?);
    }

    let mut idle = Row::new("processor time, nothing asked", Unit::Percent).bar(Bar::AtMost(0.1));
    for _ in 0..bench.runs {
        let before = subject.server.cpu();
        tokio::time::sleep(QUIET).await;
        let used = subject.server.cpu().saturating_sub(before);
        idle.subject
            .push(used.as_secs_f64() / QUIET.as_secs_f64() * 100.0);
    }
    let mut resident = Row::new("memory with 100,000 jobs", Unit::Megabytes);
    resident
        .subject
        .push(subject.server.memory()?.resident / 1e6);

    let mut again = Row::new("start with 100,000 jobs", Unit::Millis).bar(Bar::AtMost(500.0));
    for _ in 0..bench.runs {
        subject.server.end();
        let began = Instant::now();
        subject.server = subject.home.start()?;
        let door = subject.door();
        let wire = first_hello(&mut subject.server, &door).await?;
        again.subject.push(began.elapsed().as_secs_f64() * 1e3);
        wire.close().await;
    }
    Ok(vec![added, listed, late, idle, resident, again])
}

async fn fill(subject: &Subject) -> Result<(), BenchError> {
    let mut wire = subject.door().enter().await?;
    let requests = peer::request("cron.add", Some(cron::ADD)).repeat(WINDOW);
    for _ in 0..JOBS / WINDOW {
        answered(&mut wire, &requests, WINDOW).await?;
    }
    wire.close().await;
    Ok(())
}

async fn answered(wire: &mut Wire, requests: &[u8], count: usize) -> Result<(), BenchError> {
    wire.send(requests).await?;
    let mut done = 0;
    while done < count {
        done += wire.answers(peer::ANSWERED.as_bytes()).await?;
    }
    Ok(())
}

/// Milliseconds from due to started, the slowest hundredth of jobs that are due within a second.
async fn lateness(subject: &Subject) -> Result<f64, BenchError> {
    let mut wire = subject.door().enter().await?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let from = now + 2_000;
    let mut requests = Vec::new();
    for number in 0..DUE {
        let at = from + (number as u128 * 20);
        let job = format!(
            r#"{{"name":"due {from}","schedule":{{"kind":"at","at":"{at}"}},"sessionTarget":"main","deleteAfterRun":true,"payload":{{"kind":"systemEvent","text":"due"}}}}"#
        );
        requests.extend(peer::request("cron.add", Some(&job)));
    }
    answered(&mut wire, &requests, DUE).await?;
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let query = format!(r#"{{"scope":"all","limit":200,"query":"due {from}"}}"#);
    let answer = peer::answer(&mut wire, "cron.runs", Some(&query)).await?;
    wire.close().await;
    let answer: Value =
        serde_json::from_str(&answer).map_err(|error| BenchError::Unexpected(error.to_string()))?;
    let entries = answer["payload"]["entries"].as_array();
    let mut late: Vec<f64> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let late = entry["runAtMs"].as_i64()? - entry["slotMs"].as_i64()?;
            u32::try_from(late).ok().map(f64::from)
        })
        .collect();
    if late.len() != DUE {
        return Err(BenchError::Unexpected(format!(
            "{} of {DUE} jobs ran",
            late.len()
        )));
    }
    late.sort_by(f64::total_cmp);
    Ok(quantile(&late, 0.99))
}
