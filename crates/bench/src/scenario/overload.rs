//! What somebody who behaves notices of those who do not.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{Bench, Subject};
use crate::{
    error::BenchError,
    load,
    peer::{self, ANSWERED, Door},
    process::Server,
    stats::{Bar, Row, Unit},
    wire::{Wire, upgrade},
};

/// Sockets that say nothing.
const SILENT: usize = 500;
/// Connections that ask all the time and read no answer.
const UNREAD: usize = 20;
/// Connections that send large messages, one after another.
const LARGE: usize = 2;
const LARGE_BYTES: usize = 25 * 1024 * 1024 - 1024;
/// About what `health` is answered with.
const ANSWER_BYTES: usize = 1_000;
/// Time for them to get going.
const GOING: Duration = Duration::from_millis(500);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    // What the offenders and this program take of the machine, an echo has to do without as well.
    let mut beside = Row::new(
        "health, p99 beside offenders (floor: an echo)",
        Unit::Millis,
    )
    .bar(Bar::RatioAtMost(2.0));
    let mut alone = Row::new("health, p99 alone", Unit::Millis);
    let mut held = Row::new("memory beside offenders", Unit::Megabytes);
    let request = peer::request("health", None);
    for _ in 0..bench.runs {
        let subject = bench.gateway().await?;
        let mut active = load::open(&subject.door(), 1).await?;
        let floor = Server::floor(ANSWER_BYTES)?;
        let mut echo = load::open(&Door::of(floor.address, &subject.device), 1).await?;
        let quiet = load::rpc(&mut active, &request, 1, bench.leg).await?;
        alone.subject.push(quiet.p99_us() / 1e3);
        let offenders = offend(&subject).await?;
        tokio::time::sleep(GOING).await;
        let echoed = load::rpc(&mut echo, &request, 1, bench.leg).await?;
        let crowded = load::rpc(&mut active, &request, 1, bench.leg).await?;
        held.subject.push(subject.server.memory()?.resident / 1e6);
        drop(offenders);
        beside.pair(echoed.p99_us() / 1e3, crowded.p99_us() / 1e3);
    }
    Ok(vec![beside, alone, held])
}

/// Everybody who does not behave; they end with what is returned.
async fn offend(subject: &Subject) -> Result<(Vec<Wire>, JoinSet<()>), BenchError> {
    let address = subject.server.address;
    let mut silent = Vec::with_capacity(SILENT);
    for _ in 0..SILENT {
        silent.push(Wire::open(address, &upgrade("127.0.0.1", "/")).await?);
    }
    let mut busy = JoinSet::new();
    let requests = peer::request("health", None).repeat(100);
    for mut wire in load::open(&subject.door(), UNREAD).await? {
        let requests = requests.clone();
        busy.spawn(async move { while wire.send(&requests).await.is_ok() {} });
    }
    let params = format!(r#"{{"x":"{}"}}"#, "x".repeat(LARGE_BYTES));
    let large = peer::request("health", Some(&params));
    for mut wire in load::open(&subject.door(), LARGE).await? {
        let large = large.clone();
        busy.spawn(async move {
            while wire.send(&large).await.is_ok() && wire.answers(ANSWERED.as_bytes()).await.is_ok()
            {
            }
        });
    }
    Ok((silent, busy))
}
