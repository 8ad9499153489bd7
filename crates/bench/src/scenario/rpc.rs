//! One request over and over, against a floor whose answers are as long.

use std::time::Duration;

use super::{Bench, Subject};
use crate::{
    error::BenchError,
    load::{self, Flow},
    peer, process,
    process::Server,
    stats::{Bar, Costs, Row, Spread, Unit},
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
    (connections, window): (usize, usize),
    row: Row,
) -> Result<Row, BenchError> {
    let mut wires = load::open(subject.server.address, &subject.device, connections).await?;
    let answer = match wires.first_mut() {
        Some(wire) => peer::answer(wire, method, params).await?,
        None => return Err(BenchError::Unexpected("no connection".to_owned())),
    };
    let floor = Server::floor(answer.len())?;
    let mut floor_wires = load::open(floor.address, &subject.device, connections).await?;
    let request = peer::request(method, params);
    let mut meter = Meter::default();
    for _ in 0..bench.runs {
        for (server, wires) in [(&floor, &mut floor_wires), (&subject.server, &mut wires)] {
            let began = meter.begin(server);
            let flow = load::rpc(wires, &request, window, bench.leg).await?;
            meter.end(server, &began, flow);
        }
    }
    Ok(meter.row(row))
}

/// Takes the figures of floor and subject in turn, the floor first.
#[derive(Debug, Default)]
pub(super) struct Meter {
    flows: Vec<Flow>,
    server_cpu_us: Vec<f64>,
    client_cpu_us: Vec<f64>,
}

/// Processor times when a leg began.
#[derive(Debug)]
pub(super) struct Began {
    server: Duration,
    client: Duration,
}

impl Meter {
    #[expect(clippy::unused_self, reason = "reads as a pair with `end`")]
    pub(super) fn begin(&self, server: &Server) -> Began {
        Began {
            server: server.cpu(),
            client: process::cpu("self"),
        }
    }

    pub(super) fn end(&mut self, server: &Server, began: &Began, flow: Flow) {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let per_request = |now: Duration, before: Duration| {
            now.saturating_sub(before).as_secs_f64() * 1e6 / flow.finished.max(1) as f64
        };
        self.server_cpu_us
            .push(per_request(server.cpu(), began.server));
        self.client_cpu_us
            .push(per_request(process::cpu("self"), began.client));
        self.flows.push(flow);
    }

    /// The row of all pairs.
    pub(super) fn row(&self, mut row: Row) -> Row {
        for pair in self.flows.chunks_exact(2) {
            row.pair(pair[0].per_second, pair[1].per_second);
        }
        let side = |of: &dyn Fn(usize) -> f64, first: usize| {
            let values: Vec<f64> = (first..self.flows.len()).step_by(2).map(of).collect();
            Spread::of(&values).median
        };
        let (floor, subject) = (0, 1);
        row.costs = Some(Costs {
            server_cpu_us: side(&|leg| self.server_cpu_us[leg], subject),
            floor_cpu_us: side(&|leg| self.server_cpu_us[leg], floor),
            client_cpu_us: side(&|leg| self.client_cpu_us[leg], subject),
            p50_us: side(&|leg| self.flows[leg].p50_us, subject),
            p99_us: side(&|leg| self.flows[leg].p99_us, subject),
            floor_p50_us: side(&|leg| self.flows[leg].p50_us, floor),
            floor_p99_us: side(&|leg| self.flows[leg].p99_us, floor),
        });
        row
    }
}
