//! The table, and the same as JSON.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::{
    error::{BenchError, Doing as _},
    stats::{Bar, Costs, Row, Spread, Unit},
};

/// Prints rows as they come and keeps them for the end.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// Scenarios without figures, and why.
    missing: Vec<(String, String)>,
    /// Some of those are failures.
    failed: bool,
}

impl Report {
    /// What stands above the table.
    pub(crate) fn head(&self, lines: &[String]) -> Result<(), BenchError> {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&line([
            "scenario", "subject", "floor", "ratio", "bar", "ok",
        ]));
        text.push_str(&"-".repeat(112));
        say(&text)
    }

    pub(crate) fn rows(&mut self, rows: Vec<Row>) -> Result<(), BenchError> {
        for row in rows {
            say(&row_line(&row))?;
            self.rows.push(row);
        }
        Ok(())
    }

    /// A scenario that has no figures.
    pub(crate) fn without(&mut self, scenario: &str, error: &BenchError) -> Result<(), BenchError> {
        let why = error.to_string();
        self.failed |= !matches!(error, BenchError::Skipped(_));
        say(&format!("{scenario:<34} {why}"))?;
        self.missing.push((scenario.to_owned(), why));
        Ok(())
    }

    /// Where the time goes, below the table.
    pub(crate) fn costs(&self) -> Result<(), BenchError> {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.costs.is_some()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut text = format!(
            "\nmicroseconds a request{:>22} {:>12} {:>12} {:>18} {:>18}\n",
            "server cpu", "floor cpu", "client cpu", "p50 (floor)", "p99 (floor)"
        );
        text.push_str(&"-".repeat(112));
        for row in rows {
            let Some(costs) = row.costs else { continue };
            text.push_str(&cost_line(row, costs));
        }
        say(&text)
    }

    pub(crate) fn json(&self, about: &Value) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let missing: Vec<Value> = self
            .missing
            .iter()
            .map(|(scenario, why)| json!({"scenario": scenario, "why": why}))
            .collect();
        json!({"about": about, "rows": rows, "missing": missing})
    }

    /// The scenarios whose bar is missed, and whether something failed.
    pub(crate) fn verdict(&self) -> (Vec<&str>, bool) {
        let missed = self
            .rows
            .iter()
            .filter(|row| row.holds(row.bar) == Some(false))
            .map(|row| row.scenario.as_str())
            .collect();
        (missed, self.failed)
    }
}

fn cost_line(row: &Row, costs: Costs) -> String {
    let beside = |subject: f64, floor: f64| format!("{subject:.0} ({floor:.0})");
    format!(
        "\n{:<34} {:>9.1} {:>12.1} {:>12.1} {:>18} {:>18}",
        row.scenario,
        costs.server_cpu_us,
        costs.floor_cpu_us,
        costs.client_cpu_us,
        beside(costs.p50_us, costs.floor_p50_us),
        beside(costs.p99_us, costs.floor_p99_us),
    )
}

/// Writes a text and a line's end.
pub(crate) fn say(text: &str) -> Result<(), BenchError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .doing("writing")
}

fn line(cells: [&str; 6]) -> String {
    let [scenario, subject, floor, ratio, bar, ok] = cells;
    format!("{scenario:<34} {subject:>19} {floor:>19} {ratio:>7}  {bar:<21} {ok}\n")
}

fn row_line(row: &Row) -> String {
    let side = |values: &[f64], unit: Unit| match values {
        [] => "-".to_owned(),
        [only] => unit.text(*only),
        _ => {
            let spread = Spread::of(values);
            format!("{} ±{:.0}%", unit.text(spread.median), spread.percent())
        }
    };
    let limit = |limit: Option<Bar>| limit.map(|bar| bar.text(row.unit));
    let (bar, ok) = match (limit(row.bar), limit(row.target)) {
        (Some(bar), target) => {
            let ok = match (row.holds(row.bar), row.holds(row.target)) {
                (Some(false), _) => "NO",
                (_, Some(false)) => "yes, target missed",
                _ => "yes",
            };
            (
                target.map_or_else(|| bar.clone(), |target| format!("{bar}, aim {target}")),
                ok,
            )
        }
        (None, Some(target)) => {
            let ok = if row.holds(row.target) == Some(true) {
                "yes"
            } else {
                "target missed"
            };
            (format!("aim {target}"), ok)
        }
        (None, None) => ("-".to_owned(), "-"),
    };
    let ratio = row
        .ratio()
        .map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median));
    let cells = [
        row.scenario.as_str(),
        &side(&row.subject, row.unit),
        &side(&row.floor, row.unit),
        &ratio,
        &bar,
        ok,
    ];
    line(cells).trim_end().to_owned()
}
