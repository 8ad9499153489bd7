//! Measures a clawgate binary against the floor of the machine it runs on.
//!
//! Every figure that has a floor is taken in pairs (floor, subject, floor, subject …) in the same
//! run, and the median of the pairs' ratios is what counts: absolute figures say as much about the
//! machine as about the program. The binary under test is the real one, started as a user starts
//! it; the floor is a process as well. What is measured and why is in `docs/performance.md`.

mod provider;
mod report;
mod scenario;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use clawgate_bench::{
    error, fan_out, floor, jobs, load, looks, measure, meter, peer, process,
    raise_descriptor_limit, runtime, stats, wire,
};
use serde_json::json;

use crate::{
    error::{BenchError, Doing as _},
    process::is_in_memory,
    report::Report,
    scenario::{Bench, Scenario},
};

/// Measures a clawgate binary, each figure with its floor from the same run.
#[derive(Debug, Parser)]
#[command(version)]
struct App {
    /// The binary to measure.
    #[arg(long, value_name = "PATH", default_value = "target/release/clawgate")]
    bin: PathBuf,
    /// Writes all figures to a file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Paired runs of each scenario.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Counted time of one side of one run.
    #[arg(long, value_name = "MS", default_value_t = 600)]
    leg_ms: u64,
    /// How long `soak` goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(10..))]
    soak_seconds: u64,
    /// Where state directories are made; should be on a real disk. The system's place for
    /// temporary files by default.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Exits with 1 when a bar is missed.
    #[arg(long)]
    check: bool,
    /// What to measure, all by default.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == floor::NAME) {
        return floor::main(&args[2..]);
    }
    match run(App::parse()) {
        Ok(exit) => exit,
        Err(error) => {
            // With a stdout that cannot be written to there is nothing left to say.
            drop(report::say(&format!("error: {error}")));
            ExitCode::from(2)
        }
    }
}

fn run(app: App) -> Result<ExitCode, BenchError> {
    runtime()
        .doing("starting the runtime")?
        .block_on(measure_all(app))
}

async fn measure_all(app: App) -> Result<ExitCode, BenchError> {
    raise_descriptor_limit();
    let bin = app
        .bin
        .canonicalize()
        .doing("finding the binary to measure")?;
    let dir = app.dir.unwrap_or_else(std::env::temp_dir);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let mut head = vec![format!(
        "{} paired runs of {} ms a side, {cores} cores, Linux {}, load before {load}",
        app.runs,
        app.leg_ms,
        kernel.trim()
    )];
    if is_in_memory(&dir) {
        head.push(format!(
            "{} is in memory: what is said about durable writes is worth nothing (--dir)",
            dir.display()
        ));
    }
    let mut report = Report::default();
    report.head(&head)?;
    let bench = Bench {
        bin,
        dir,
        runs: app.runs,
        leg: Duration::from_millis(app.leg_ms),
        soak: Duration::from_secs(app.soak_seconds),
        token: "a-token-for-benchmarks-only".to_owned(),
    };
    let all = if app.scenarios.is_empty() {
        Scenario::all()
    } else {
        app.scenarios
    };
    for scenario in all {
        match bench.run(scenario).await {
            Ok(rows) => report.rows(rows)?,
            Err(error) => report.without(scenario.name(), &error)?,
        }
    }
    report.costs()?;
    if let Some(path) = &app.json {
        let about = json!({
            "runs": app.runs, "legMs": app.leg_ms, "cores": cores, "kernel": kernel.trim(),
            "loadBefore": load,
        });
        let text = serde_json::to_string_pretty(&report.json(&about)).unwrap_or_default();
        std::fs::write(path, text + "\n").doing("writing the JSON file")?;
    }
    let (missed, failed) = report.verdict();
    if !missed.is_empty() {
        report::say(&format!("\nmissed: {}", missed.join(", ")))?;
    }
    Ok(match (failed, app.check && !missed.is_empty()) {
        (true, _) => ExitCode::from(2),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}
