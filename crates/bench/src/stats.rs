//! Paired samples, and the bars that they are held against.

use serde_json::{Value, json};

use crate::histogram::Histogram;

/// The value at a fraction of a sorted list; 0 of an empty one.
pub fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a list in memory, rounded"
    )]
    let index = (last as f64 * fraction).round() as usize;
    sorted[index.min(last)]
}

/// The middle of a list, its quarters and its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// A quarter is below it.
    pub lower_quarter: f64,
    /// A quarter is above it.
    pub upper_quarter: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of values in any order.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (lower, upper) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Self {
            median: f64::midpoint(at(lower), at(upper)),
            lower_quarter: quantile(&sorted, 0.25),
            upper_quarter: quantile(&sorted, 0.75),
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
        }
    }

    /// Half of what lies between the quarters, in percent of the middle.
    pub fn percent(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        (self.upper_quarter - self.lower_quarter) / 2.0 / self.median * 100.0
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many in a second.
    PerSecond,
    /// Milliseconds.
    Millis,
    /// A million bytes.
    Megabytes,
    /// A thousand bytes.
    Kilobytes,
    /// Hundredths.
    Percent,
    /// Things.
    Pieces,
}

impl Unit {
    /// As it stands behind a figure.
    pub fn word(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Millis => "ms",
            Self::Megabytes => "MB",
            Self::Kilobytes => "KB",
            Self::Percent => "%",
            Self::Pieces => "of them",
        }
    }

    /// A figure with as many digits as it deserves.
    pub fn text(self, value: f64) -> String {
        let digits = match value.abs() {
            large if large >= 1_000.0 => 0,
            middle if middle >= 100.0 => 1,
            _ => 2,
        };
        format!("{value:.digits$} {}", self.word())
    }
}

/// A limit, on the figure itself or on its ratio to the floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// Of the figure.
    AtMost(f64),
    /// Of its ratio to the floor.
    RatioAtLeast(f64),
    /// The same the other way round.
    RatioAtMost(f64),
}

impl Bar {
    fn holds(self, subject: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::AtMost(limit) => subject <= limit,
            Self::RatioAtLeast(limit) => ratio.is_some_and(|ratio| ratio >= limit),
            Self::RatioAtMost(limit) => ratio.is_some_and(|ratio| ratio <= limit),
        }
    }

    /// As it stands in a table.
    pub fn text(self, unit: Unit) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit} {}", unit.word()),
            Self::RatioAtLeast(limit) => format!(">= {limit:.2} x"),
            Self::RatioAtMost(limit) => format!("<= {limit:.2} x"),
        }
    }
}

/// Where the time of one request went, medians.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// Processor time of the server, microseconds; 0 where its process is not known.
    pub server_cpu_us: f64,
    /// The same of the floor.
    pub floor_cpu_us: f64,
    /// The same of the load generator, while it asked the server.
    pub client_cpu_us: f64,
    /// Half of the answers came within so many microseconds.
    pub p50_us: f64,
    /// All but a hundredth of them.
    pub p99_us: f64,
    /// Half of the floor's.
    pub floor_p50_us: f64,
    /// All but a hundredth of the floor's.
    pub floor_p99_us: f64,
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    /// What was measured.
    pub scenario: String,
    /// What its figures count.
    pub unit: Unit,
    /// One figure a run.
    pub subject: Vec<f64>,
    /// One figure a run, taken beside the subject's; empty where there is no floor.
    pub floor: Vec<f64>,
    /// Must hold.
    pub bar: Option<Bar>,
    /// Is aimed at.
    pub target: Option<Bar>,
    /// Where the time went.
    pub costs: Option<Costs>,
    /// What the floor is, where the name does not say it.
    pub floor_is: &'static str,
    /// How long each took, of the subject.
    pub took: Option<Histogram>,
}

impl Row {
    /// Nothing is measured yet.
    pub fn new(scenario: impl Into<String>, unit: Unit) -> Self {
        Self {
            scenario: scenario.into(),
            unit,
            subject: Vec::new(),
            floor: Vec::new(),
            bar: None,
            target: None,
            costs: None,
            floor_is: "",
            took: None,
        }
    }

    /// The same with what must hold.
    #[must_use]
    pub fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    /// The same with what is aimed at.
    #[must_use]
    pub fn target(mut self, target: Bar) -> Self {
        self.target = Some(target);
        self
    }

    /// The same with what its floor is.
    #[must_use]
    pub fn floor_is(mut self, floor_is: &'static str) -> Self {
        self.floor_is = floor_is;
        self
    }

    /// Keeps a figure with the floor's beside it.
    pub fn pair(&mut self, floor: f64, subject: f64) {
        self.floor.push(floor);
        self.subject.push(subject);
    }

    /// The middle of the pairs' ratios.
    pub fn ratio(&self) -> Option<Spread> {
        let ratios: Vec<f64> = self
            .floor
            .iter()
            .zip(&self.subject)
            .filter(|(floor, _)| **floor > 0.0)
            .map(|(floor, subject)| subject / floor)
            .collect();
        (!ratios.is_empty()).then(|| Spread::of(&ratios))
    }

    /// Whether a limit of this row holds; `None` when it has no such limit.
    pub fn holds(&self, limit: Option<Bar>) -> Option<bool> {
        let subject = Spread::of(&self.subject).median;
        limit.map(|bar| bar.holds(subject, self.ratio().map(|ratio| ratio.median)))
    }

    /// All of it for programs.
    pub fn json(&self) -> Value {
        let side = |values: &[f64]| {
            let spread = Spread::of(values);
            json!({"median": spread.median, "min": spread.min, "max": spread.max, "runs": values})
        };
        let limit = |limit: Option<Bar>| {
            limit.map(|bar| json!({"limit": bar.text(self.unit), "holds": self.holds(limit)}))
        };
        json!({
            "scenario": self.scenario,
            "unit": self.unit.word(),
            "subject": side(&self.subject),
            "floorIs": (!self.floor_is.is_empty()).then_some(self.floor_is),
            "latency": self.took.as_ref().map(Histogram::json),
            "floor": (!self.floor.is_empty()).then(|| side(&self.floor)),
            "ratio": self.ratio().map(|ratio| ratio.median),
            "bar": limit(self.bar),
            "target": limit(self.target),
            "costs": self.costs.map(|costs| json!({
                "serverCpuUs": costs.server_cpu_us,
                "floorCpuUs": costs.floor_cpu_us,
                "clientCpuUs": costs.client_cpu_us,
                "p50Us": costs.p50_us,
                "p99Us": costs.p99_us,
                "floorP50Us": costs.floor_p50_us,
                "floorP99Us": costs.floor_p99_us,
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(&[]).median, 0.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.99), 3.0);
    }

    #[test]
    fn a_ratio_is_taken_pair_by_pair() {
        let mut row = Row::new("x", Unit::PerSecond).bar(Bar::RatioAtLeast(0.5));
        for (floor, subject) in [(10.0, 5.0), (20.0, 20.0), (10.0, 6.0)] {
            row.pair(floor, subject);
        }
        assert_eq!(row.ratio().unwrap().median, 0.6);
        assert_eq!(row.holds(row.bar), Some(true));
        assert_eq!(row.holds(row.target), None);
    }
}
