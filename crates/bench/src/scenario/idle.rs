//! Connections that merely sit there, what they hold and what they cost others; and as many that all ask.

use super::Bench;
use crate::{
    error::BenchError,
    load, measure, peer,
    process::Server,
    stats::{Bar, Row, Unit},
};

/// How many sit there, and how that is written.
const IDLE: [(usize, &str); 2] = [(1_000, "1,000"), (10_000, "10,000")];
/// How many ask at once, one question in flight each.
const ACTIVE: usize = 1_000;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for (many, written) in IDLE {
        let mut held = Row::new(
            format!("memory a connection, {written} idle"),
            Unit::Kilobytes,
        )
        .target(Bar::AtMost(20.0));
        let mut beside = Row::new(
            format!("health beside {written} idle (floor: alone)"),
            Unit::PerSecond,
        )
        .target(Bar::RatioAtLeast(0.95));
        for _ in 0..bench.runs {
            // One of its own each time: what earlier ones left would be used again.
            let subject = bench.gateway().await?;
            let seen = measure::idle_round(&subject.side(), many, bench.leg).await?;
            let held_kb = seen
                .held_kb
                .ok_or_else(|| BenchError::Unexpected("the memory is not known".to_owned()))?;
            held.pair(seen.floor_kb, held_kb);
            beside.pair(seen.alone.per_second, seen.crowded.per_second);
        }
        rows.extend([held, beside]);
    }
    rows.extend(active(bench).await?);
    Ok(rows)
}

/// A thousand that all ask: all of them together, and the one that is answered least.
async fn active(bench: &Bench) -> Result<[Row; 2], BenchError> {
    let subject = bench.gateway().await?;
    let mut wires = load::open(&subject.door(), ACTIVE).await?;
    let answer = match wires.first_mut() {
        Some(wire) => peer::answer(wire, "health", None).await?,
        None => return Err(BenchError::Unexpected("no connection".to_owned())),
    };
    let floor = Server::floor(answer.len())?;
    let door = peer::Door::of(floor.address, &subject.device);
    let mut floor_wires = load::open(&door, ACTIVE).await?;
    let request = peer::request("health", None);
    let mut all = Row::new("health of 1,000 clients, 1 in flight each", Unit::PerSecond);
    let mut least = Row::new("the least of them, of a fair share", Unit::Percent);
    for _ in 0..bench.runs {
        let floor = load::rpc(&mut floor_wires, &request, 1, bench.leg).await?;
        let flow = load::rpc(&mut wires, &request, 1, bench.leg).await?;
        all.pair(floor.per_second, flow.per_second);
        least.pair(floor.least_share() * 100.0, flow.least_share() * 100.0);
    }
    Ok([all, least])
}
