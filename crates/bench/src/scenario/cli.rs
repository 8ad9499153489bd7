//! The command line tool as its users see it: a process that starts, asks, prints and ends.

use std::{path::Path, process::Command};

use super::{Bench, Subject};
use crate::{
    error::{BenchError, Doing as _},
    process,
    stats::{Bar, Row, Spread, Unit},
};

/// Processes of one side of one run, of which the median counts.
const PROCESSES: usize = 15;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let subject = bench.gateway().await?;
    let probe = ["gateway", "probe"];
    check(bench, &subject, &probe)?;
    let mut rows = one(
        bench,
        &subject,
        &probe,
        Row::new("gateway probe --json", Unit::Millis).bar(Bar::AtMost(15.0)),
    )?;
    let list = ["cron", "list"];
    if check(bench, &subject, &list).is_ok() {
        let row = Row::new("cron list --json", Unit::Millis).target(Bar::AtMost(10.0));
        rows.extend(one(bench, &subject, &list, row)?);
    }
    Ok(rows)
}

fn command(bench: &Bench, subject: &Subject, words: &[&str]) -> Command {
    let mut command = process::clean(&bench.bin);
    command
        .args(words)
        .args([
            "--json",
            "--token",
            &bench.token,
            "--url",
            &subject.home.url(),
        ])
        .env("HOME", subject.dir.path())
        .env("CLAWGATE_STATE_DIR", subject.dir.path().join("client"));
    command
}

/// Whether it works at all. The first call also makes the client's identity.
fn check(bench: &Bench, subject: &Subject, words: &[&str]) -> Result<(), BenchError> {
    let output = command(bench, subject, words)
        .output()
        .doing("running a command")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(BenchError::Unexpected(format!(
        "{} failed ({}): {said}",
        words.join(" "),
        output.status
    )))
}

fn one(
    bench: &Bench,
    subject: &Subject,
    words: &[&str],
    mut row: Row,
) -> Result<Vec<Row>, BenchError> {
    let name = format!("{}, memory at most", row.scenario);
    let mut memory = Row::new(name, Unit::Megabytes).target(Bar::AtMost(12.0));
    for _ in 0..bench.runs {
        let floor = median_ms(|| Command::new(Path::new("/bin/true")))?;
        let subject_ms = median_ms(|| command(bench, subject, words))?;
        row.pair(floor, subject_ms);
        let bytes = process::peak_memory(|| command(bench, subject, words))?;
        memory.subject.push(bytes / 1e6);
    }
    Ok(vec![row, memory])
}

fn median_ms(command: impl Fn() -> Command) -> Result<f64, BenchError> {
    let mut took = Vec::with_capacity(PROCESSES);
    for _ in 0..PROCESSES {
        let (time, status) = process::timed(&mut command())?;
        if !status.success() {
            return Err(BenchError::Unexpected(format!(
                "a command failed: {status}"
            )));
        }
        took.push(time.as_secs_f64() * 1e3);
    }
    Ok(Spread::of(&took).median)
}
