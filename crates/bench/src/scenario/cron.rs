//! Cron: the first page of a thousand jobs, and adding one so that it lasts.

use super::{Bench, Subject, rpc};
use crate::{
    error::BenchError,
    load, peer,
    process::fdatasync_ms,
    stats::{Bar, Row, Unit},
};

const JOBS: usize = 1_000;
const AT_ONCE: usize = 64;
pub(super) const ADD: &str = r#"{"name":"bench","schedule":{"kind":"every","everyMs":86400000},"sessionTarget":"main","wakeMode":"next-heartbeat","payload":{"kind":"systemEvent","text":"bench"}}"#;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let subject = bench.gateway().await?;
    fill(&subject).await?;
    let list = rpc::cron_list(bench, &subject).await?;
    let mut rows = vec![list];
    rows.extend(add(bench, &subject).await?);
    Ok(rows)
}

/// Adds the jobs that the list is of.
async fn fill(subject: &Subject) -> Result<(), BenchError> {
    let mut wire = subject.door().enter().await?;
    peer::answer(&mut wire, "cron.add", Some(ADD)).await?;
    let batch = 50;
    let requests = peer::request("cron.add", Some(ADD)).repeat(batch);
    for _ in 0..JOBS / batch {
        wire.send(&requests).await?;
        let mut done = 0;
        while done < batch {
            done += wire.answers(peer::ANSWERED.as_bytes()).await?;
        }
    }
    wire.close().await;
    Ok(())
}

async fn add(bench: &Bench, subject: &Subject) -> Result<Vec<Row>, BenchError> {
    let request = peer::request("cron.add", Some(ADD));
    let mut one = load::open(&subject.door(), 1).await?;
    let mut durable =
        Row::new("cron.add, p50 (floor: fdatasync)", Unit::Millis).target(Bar::RatioAtMost(2.0));
    let mut shared = Row::new("cron.add, 64 clients (floor: one)", Unit::PerSecond)
        .target(Bar::RatioAtLeast(10.0));
    for _ in 0..bench.runs {
        let floor_ms = fdatasync_ms(subject.dir.path(), bench.leg)?;
        let alone = load::rpc(&mut one, &request, 1, bench.leg).await?;
        // They come for their own leg only: each of them is told of every job, which is work beside
        // the one that is measured alone.
        let mut many = load::open(&subject.door(), AT_ONCE).await?;
        let together = load::rpc(&mut many, &request, 1, bench.leg).await?;
        for wire in many {
            wire.close().await;
        }
        durable.pair(floor_ms, alone.p50_us() / 1e3);
        shared.pair(alone.per_second, together.per_second);
    }
    Ok(vec![durable, shared])
}
