//! From nothing to the first hello-ok.

use std::time::Duration;

use serde_json::Value;

use super::Bench;
use crate::{
    error::{BenchError, Doing as _},
    measure::timed_start,
    process::Server,
    stats::{Bar, Row, Unit},
};

/// When memory is looked at after the start.
const SETTLED: Duration = Duration::from_secs(2);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let limit = Bar::AtMost(25.0);
    let mut first = Row::new("start, empty state directory", Unit::Millis).bar(limit);
    let mut again = Row::new("start, existing state", Unit::Millis).bar(limit);
    let mut resident = Row::new("memory 2 s after start", Unit::Megabytes).bar(Bar::AtMost(15.0));
    let mut peak = Row::new("memory at most until then", Unit::Megabytes);
    let device = bench.device()?;
    for _ in 0..bench.runs {
        let (_dir, home) = bench.home(&Value::Null)?;
        let (floor_ms, _floor) = timed_start(|| Server::floor(0), &device).await?;
        let (ms, subject) = timed_start(|| home.start(), &device).await?;
        first.pair(floor_ms, ms);
        drop(subject);
        let (floor_ms, floor) = timed_start(|| Server::floor(0), &device).await?;
        let (ms, subject) = timed_start(|| home.start(), &device).await?;
        again.pair(floor_ms, ms);
        tokio::time::sleep(SETTLED).await;
        let (floor, subject) = (floor.memory()?, subject.memory()?);
        resident.pair(floor.resident / 1e6, subject.resident / 1e6);
        peak.pair(floor.peak / 1e6, subject.peak / 1e6);
    }
    let mut size = Row::new("binary", Unit::Megabytes).target(Bar::AtMost(20.0));
    let bytes = std::fs::metadata(&bench.bin)
        .doing("looking at the binary")?
        .len();
    #[expect(clippy::cast_precision_loss, reason = "a file's size")]
    size.subject.push(bytes as f64 / 1e6);
    Ok(vec![first, again, resident, peak, size])
}
