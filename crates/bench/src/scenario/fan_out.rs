//! One event to the last of many subscribers.

use super::Bench;
use crate::{
    error::BenchError,
    fan_out::Cause,
    jobs::Jobs,
    measure,
    stats::{Bar, Row, Unit},
};

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for (many, name) in [
        (200, "event to the last of 200"),
        (5_000, "event to the last of 5,000"),
    ] {
        let subject = bench.gateway().await?;
        let cause = Cause::find(&subject.door(), &Jobs::new()?).await?;
        let row = Row::new(name, Unit::Millis).target(Bar::RatioAtMost(1.1));
        rows.push(measure::fan_out(&bench.pace(), &subject.side(), many, &cause, row).await?);
    }
    Ok(rows)
}
