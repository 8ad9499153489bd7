//! Connections that merely sit there: what they hold, and what they cost others.

use super::Bench;
use crate::{
    error::BenchError,
    measure,
    stats::{Bar, Row, Unit},
};

const CONNECTIONS: usize = 1_000;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut held =
        Row::new("memory a connection, 1,000 idle", Unit::Kilobytes).target(Bar::AtMost(20.0));
    let mut beside = Row::new("health beside 1,000 idle (floor: alone)", Unit::PerSecond)
        .target(Bar::RatioAtLeast(0.95));
    for _ in 0..bench.runs {
        // One of its own each time: what earlier ones left would be used again.
        let subject = bench.gateway().await?;
        let seen = measure::idle_round(&subject.side(), CONNECTIONS, bench.leg).await?;
        let held_kb = seen
            .held_kb
            .ok_or_else(|| BenchError::Unexpected("the memory is not known".to_owned()))?;
        held.pair(seen.floor_kb, held_kb);
        beside.pair(seen.alone.per_second, seen.crowded.per_second);
    }
    Ok(vec![held, beside])
}
