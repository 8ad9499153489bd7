//! What came out: a table with histograms, or JSON.

use std::path::PathBuf;

use clawgate_bench::{
    histogram::Histogram,
    measure::Pace,
    process::Memory,
    stats::{Row, Spread, Unit},
};
use serde_json::{Value, json};

use crate::{
    commands::Context,
    error::CommandResult,
    exit::Exit,
    output::{Output, Tone, one_line, table},
    words,
};

/// The longest bar of a histogram.
const BAR: u32 = 40;

/// What was measured.
#[derive(Debug)]
pub(super) enum Gateway {
    /// One that runs.
    Running {
        url: String,
        protocol: u32,
        version: String,
        pid: Option<u32>,
        memory: Option<Memory>,
    },
    /// One that was started.
    Program(PathBuf),
}

/// All of it.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) kind: &'a str,
    pub(super) gateway: Gateway,
    pub(super) pace: &'a Pace,
    pub(super) rows: Vec<Row>,
    /// Jobs that were added and are removed again, those that the gateway removed itself apart.
    pub(super) removed: Option<usize>,
}

impl Report<'_> {
    pub(super) fn print(&self, context: &Context, as_json: bool) -> CommandResult {
        if self.rows.iter().all(|row| row.subject.is_empty()) {
            return Err(super::stopped());
        }
        if as_json {
            context.output.json(&self.json())?;
        } else {
            self.table(context.output)?;
        }
        Ok(Exit::Ok)
    }

    fn runs(&self) -> usize {
        let runs = self.rows.iter().map(|row| row.subject.len());
        runs.max().unwrap_or_default()
    }

    fn json(&self) -> Value {
        let gateway = match &self.gateway {
            Gateway::Running {
                url,
                protocol,
                version,
                pid,
                memory,
            } => json!({
                "url": url,
                "protocol": protocol,
                "version": version,
                "pid": pid,
                "memory": memory.map(|memory| json!({
                    "residentBytes": memory.resident, "peakBytes": memory.peak,
                })),
            }),
            Gateway::Program(bin) => json!({"bin": bin.display().to_string()}),
        };
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({
            "kind": self.kind,
            "gateway": gateway,
            "runs": self.runs(),
            "durationMs": u64::try_from(self.pace.leg.as_millis()).unwrap_or(u64::MAX),
            "cores": cores(),
            "stopped": self.pace.stop.is_asked(),
            "jobsRemoved": self.removed,
            "rows": rows,
        })
    }

    fn table(&self, output: Output) -> CommandResult<()> {
        let leg = i64::try_from(self.pace.leg.as_millis()).unwrap_or(i64::MAX);
        let what = match &self.gateway {
            Gateway::Running {
                url,
                protocol,
                version,
                ..
            } => format!("{url}, wire {protocol}, version {}", one_line(version)),
            Gateway::Program(bin) => bin.display().to_string(),
        };
        output.line(format!("{}: {what}", output.paint(Tone::Bold, self.kind)))?;
        output.line(format!(
            "{} runs of {} a side, {} processors{}\n",
            self.runs(),
            words::span(leg),
            cores(),
            if self.pace.stop.is_asked() {
                "; stopped early"
            } else {
                ""
            }
        ))?;
        let header = ["", "gateway", "floor", "ratio", "p50", "p90", "p99", "max"];
        let cells = self.rows.iter().map(cells).collect();
        output.line(table::table(&header, &["gateway", "ratio"], cells))?;
        for row in &self.rows {
            if let Some(took) = row.took.as_ref().filter(|took| took.many() > 0) {
                output.line(format!("\n{}", row.scenario))?;
                output.line(bars(took))?;
            }
        }
        output.line("")?;
        for row in self.rows.iter().filter(|row| !row.floor_is.is_empty()) {
            output.line(format!("floor of {}: {}", row.scenario, row.floor_is))?;
        }
        for row in &self.rows {
            if let Some(costs) = row.costs.filter(|costs| costs.server_cpu_us > 0.0) {
                output.line(format!(
                    "processor time each: gateway {:.1} µs, floor {:.1} µs, this program {:.1} µs",
                    costs.server_cpu_us, costs.floor_cpu_us, costs.client_cpu_us
                ))?;
            }
        }
        if let Gateway::Running {
            memory: Some(memory),
            pid: Some(pid),
            ..
        } = &self.gateway
        {
            output.line(format!(
                "memory of process {pid}: {}, at most {}",
                Unit::Megabytes.text(memory.resident / 1e6),
                Unit::Megabytes.text(memory.peak / 1e6)
            ))?;
        }
        if let Some(removed) = self.removed.filter(|removed| *removed > 0) {
            output.line(format!("{removed} jobs of this run were removed"))?;
        }
        Ok(())
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn cells(row: &Row) -> Vec<String> {
    let side = |values: &[f64]| match values {
        [] => String::new(),
        [only] => row.unit.text(*only),
        _ => {
            let spread = Spread::of(values);
            format!("{} ±{:.0}%", row.unit.text(spread.median), spread.percent())
        }
    };
    let mut cells = vec![
        row.scenario.clone(),
        side(&row.subject),
        side(&row.floor),
        row.ratio()
            .map(|ratio| format!("{:.2}", ratio.median))
            .unwrap_or_default(),
    ];
    let took = row.took.as_ref().filter(|took| took.many() > 0);
    for fraction in [0.5, 0.9, 0.99] {
        cells.push(
            took.map(|took| micros(took.quantile_us(fraction)))
                .unwrap_or_default(),
        );
    }
    cells.push(took.map(|took| micros(took.max_us())).unwrap_or_default());
    cells
}

/// Microseconds, in a unit that reads well.
fn micros(us: f64) -> String {
    if us >= 1e6 {
        format!("{:.2} s", us / 1e6)
    } else if us >= 1e3 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{us:.1} µs")
    }
}

fn bars(took: &Histogram) -> String {
    let bins = took.bins();
    let most = bins.iter().map(|bin| bin.many).max().unwrap_or(1).max(1);
    let lines: Vec<String> = bins
        .iter()
        .map(|bin| {
            let length = bin.many * u64::from(BAR) / most;
            let bar = "#".repeat(usize::try_from(length).unwrap_or_default());
            // What is there is seen, however little it is.
            let bar = if bar.is_empty() && bin.many > 0 {
                ".".to_owned()
            } else {
                bar
            };
            let line = format!("  <= {:>9}  {bar:<40} {}", micros(bin.up_to_us), bin.many);
            line.trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}
