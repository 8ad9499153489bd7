//! Figures of floor and subject in turn, the floor first.

use std::time::Duration;

use crate::{
    histogram::Histogram,
    load::Flow,
    peer::Door,
    process::{self, Memory, Server},
    stats::{Costs, Row, Spread},
};

/// A server that is measured: the way in, and its process where that is known.
#[derive(Clone, Debug)]
pub struct Side {
    /// The way in.
    pub door: Door,
    /// Its process.
    pub pid: Option<u32>,
}

impl Side {
    /// A server that was started here.
    pub fn of(server: &Server, device: &std::sync::Arc<crate::peer::Device>) -> Self {
        Self {
            door: Door::of(server.address, device),
            pid: Some(server.id()),
        }
    }

    /// Processor time that it used so far; zero where that is not known.
    pub fn cpu(&self) -> Duration {
        self.pid
            .map_or(Duration::ZERO, |pid| process::cpu(&pid.to_string()))
    }

    /// Memory that it holds, where that is known.
    pub fn memory(&self) -> Option<Memory> {
        Memory::of(self.pid?)
    }
}

/// Takes the figures of floor and subject in turn, the floor first.
#[derive(Debug, Default)]
pub struct Meter {
    flows: Vec<Flow>,
    server_cpu_us: Vec<f64>,
    client_cpu_us: Vec<f64>,
}

/// Processor times when a leg began.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    server: Duration,
    client: Duration,
}

impl Began {
    /// Looks at the clock of the server and at our own.
    pub fn now(side: &Side) -> Self {
        Self {
            server: side.cpu(),
            client: process::cpu("self"),
        }
    }

    /// Microseconds of processor time that the server used since.
    pub fn server_us(&self, side: &Side) -> f64 {
        side.cpu().saturating_sub(self.server).as_secs_f64() * 1e6
    }

    /// The same of this program.
    pub fn client_us(&self) -> f64 {
        process::cpu("self")
            .saturating_sub(self.client)
            .as_secs_f64()
            * 1e6
    }
}

impl Meter {
    /// Keeps what a leg achieved, and what it cost since it began.
    pub fn end(&mut self, side: &Side, began: &Began, flow: Flow) {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let each = |us: f64| us / flow.finished.max(1) as f64;
        self.server_cpu_us.push(each(began.server_us(side)));
        self.client_cpu_us.push(each(began.client_us()));
        self.flows.push(flow);
    }

    /// Whether there is a pair.
    pub fn has_figures(&self) -> bool {
        self.flows.len() > 1
    }

    /// The row of all pairs.
    pub fn row(&self, mut row: Row) -> Row {
        let mut took = Histogram::default();
        for pair in self.flows.chunks_exact(2) {
            row.pair(pair[0].per_second, pair[1].per_second);
            took.add(&pair[1].took);
        }
        row.took = Some(took);
        let side = |of: &dyn Fn(usize) -> f64, first: usize| {
            let values: Vec<f64> = (first..self.flows.len()).step_by(2).map(of).collect();
            Spread::of(&values).median
        };
        let (floor, subject) = (0, 1);
        row.costs = Some(Costs {
            server_cpu_us: side(&|leg| self.server_cpu_us[leg], subject),
            floor_cpu_us: side(&|leg| self.server_cpu_us[leg], floor),
            client_cpu_us: side(&|leg| self.client_cpu_us[leg], subject),
            p50_us: side(&|leg| self.flows[leg].p50_us(), subject),
            p99_us: side(&|leg| self.flows[leg].p99_us(), subject),
            floor_p50_us: side(&|leg| self.flows[leg].p50_us(), floor),
            floor_p99_us: side(&|leg| self.flows[leg].p99_us(), floor),
        });
        row
    }
}
