//! One request over and over, against a floor whose answers are as long.

use super::{Bench, Subject};
use crate::{
    error::BenchError,
    measure::{self, Call},
    stats::{Bar, Row, Unit},
};

/// Connections and requests in flight on each.
const MANY: (usize, usize) = (8, 16);

pub(super) async fn health(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let subject = bench.gateway().await?;
    let one = Row::new("health, 1 x 1", Unit::PerSecond).target(Bar::RatioAtLeast(0.75));
    let many = Row::new("health, 8 x 16", Unit::PerSecond)
        .bar(Bar::RatioAtLeast(0.2))
        .target(Bar::RatioAtLeast(0.3));
    Ok(vec![
        pairs(bench, &subject, "health", None, (1, 1), one).await?,
        pairs(bench, &subject, "health", None, MANY, many).await?,
    ])
}

pub(super) async fn status(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let subject = bench.gateway().await?;
    let row = Row::new("status, 8 x 16", Unit::PerSecond).target(Bar::RatioAtLeast(0.25));
    Ok(vec![
        pairs(bench, &subject, "status", None, MANY, row).await?,
    ])
}

pub(super) async fn config(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let subject = bench.gateway().await?;
    let row = Row::new("config.get, 8 x 16", Unit::PerSecond).target(Bar::RatioAtLeast(0.2));
    Ok(vec![
        pairs(bench, &subject, "config.get", None, MANY, row).await?,
    ])
}

pub(super) async fn cron_list(bench: &Bench, subject: &Subject) -> Result<Row, BenchError> {
    let row =
        Row::new("cron.list of 1,000 jobs, 8 x 16", Unit::PerSecond).target(Bar::RatioAtLeast(0.2));
    pairs(bench, subject, "cron.list", None, MANY, row).await
}

/// Floor and subject in turn, with connections that stay.
async fn pairs(
    bench: &Bench,
    subject: &Subject,
    method: &str,
    params: Option<&str>,
    (clients, in_flight): (usize, usize),
    row: Row,
) -> Result<Row, BenchError> {
    let call = Call {
        method,
        params,
        clients,
        in_flight,
    };
    measure::calls(&bench.pace(), &subject.side(), call, row).await
}
