//! How long things took, in a bounded place: counts of ranges that are 1.6 % wide.
//!
//! A load that goes on for an hour has a billion of them, and each loop has a histogram of its own.

use serde_json::{Value, json};

/// Ranges of one doubling.
const PARTS: u64 = 64;
/// Its logarithm.
const PART_BITS: u32 = 6;
/// Ranges in all: the first doublings are counted one by one.
const RANGES: usize = (64 - PART_BITS as usize + 1) << PART_BITS;

/// Counts by duration.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Nanoseconds fall into ranges; none are there before something is counted.
    counts: Vec<u32>,
    many: u64,
    max_ns: u64,
}

/// A doubling of time, for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// What is in it took at most so many microseconds, and more than half of that.
    pub up_to_us: f64,
    /// So many are in it.
    pub many: u64,
}

fn range_of(ns: u64) -> usize {
    if ns < PARTS {
        return usize::try_from(ns).unwrap_or_default();
    }
    let doubling = u64::from(ns.ilog2() - PART_BITS);
    let part = (ns >> doubling) & (PARTS - 1);
    usize::try_from((doubling + 1) * PARTS + part).unwrap_or(RANGES - 1)
}

/// The least of a range, in nanoseconds.
fn least_of(range: usize) -> u64 {
    let range = range as u64;
    if range < PARTS {
        return range;
    }
    let doubling = range / PARTS - 1;
    (PARTS + range % PARTS) << doubling
}

#[expect(clippy::cast_precision_loss, reason = "durations and counts of a run")]
fn float(number: u64) -> f64 {
    number as f64
}

impl Histogram {
    /// Counts one.
    pub fn count(&mut self, took: std::time::Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if self.counts.is_empty() {
            self.counts = vec![0; RANGES];
        }
        let range = &mut self.counts[range_of(ns)];
        *range = range.saturating_add(1);
        self.many += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
        } else {
            for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
                *mine = mine.saturating_add(*theirs);
            }
        }
        self.many += other.many;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many were counted.
    pub fn many(&self) -> u64 {
        self.many
    }

    /// Microseconds that a fraction of all took at most; 0 where nothing was counted.
    pub fn quantile_us(&self, fraction: f64) -> f64 {
        let wanted = (float(self.many) * fraction).ceil().max(1.0);
        let mut seen = 0.0;
        for (range, many) in self.counts.iter().enumerate() {
            seen += f64::from(*many);
            if seen >= wanted {
                let middle = least_of(range).midpoint(least_of(range + 1));
                return float(middle.min(self.max_ns)) / 1e3;
            }
        }
        0.0
    }

    /// The longest, in microseconds.
    pub fn max_us(&self) -> f64 {
        float(self.max_ns) / 1e3
    }

    /// Doublings of a microsecond, from the first with something in it to the last.
    pub fn bins(&self) -> Vec<Bin> {
        let mut bins: Vec<Bin> = Vec::new();
        let mut up_to = 1_000_u64;
        for (range, many) in self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, many)| **many > 0)
        {
            while least_of(range) > up_to {
                up_to = up_to.saturating_mul(2);
                if !bins.is_empty() {
                    let up_to_us = float(up_to) / 1e3;
                    bins.push(Bin { up_to_us, many: 0 });
                }
            }
            if bins.is_empty() {
                let up_to_us = float(up_to) / 1e3;
                bins.push(Bin { up_to_us, many: 0 });
            }
            if let Some(last) = bins.last_mut() {
                last.many += u64::from(*many);
            }
        }
        bins
    }

    /// All of it for programs.
    pub fn json(&self) -> Value {
        let bins: Vec<Value> = self
            .bins()
            .iter()
            .map(|bin| json!({"upToUs": bin.up_to_us, "count": bin.many}))
            .collect();
        json!({
            "count": self.many,
            "p50Us": self.quantile_us(0.5),
            "p90Us": self.quantile_us(0.9),
            "p99Us": self.quantile_us(0.99),
            "maxUs": self.max_us(),
            "histogram": bins,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_quantile_is_right_to_two_percent_at_any_size() {
        for exponent in 0..10 {
            let mut histogram = Histogram::default();
            let unit = 10_u64.pow(exponent);
            for many in 1..=100 {
                histogram.count(Duration::from_nanos(many * unit));
            }
            let (p50, p99) = (histogram.quantile_us(0.5), histogram.quantile_us(0.99));
            let unit_us = float(unit) / 1e3;
            assert!(
                (p50 / (50.0 * unit_us) - 1.0).abs() < 0.02,
                "{p50} of {unit}"
            );
            assert!(
                (p99 / (99.0 * unit_us) - 1.0).abs() < 0.02,
                "{p99} of {unit}"
            );
            assert_eq!(histogram.max_us(), 100.0 * unit_us);
        }
        assert_eq!(Histogram::default().quantile_us(0.5), 0.0);
    }

    #[test]
    fn every_duration_has_its_range_and_none_is_beyond_the_last() {
        assert!(range_of(u64::MAX) < RANGES);
        for ns in [0, 1, 63, 64, 65, 127, 128, 1_000, 123_456_789] {
            let range = range_of(ns);
            assert!(least_of(range) <= ns && ns < least_of(range + 1), "{ns}");
        }
    }

    #[test]
    fn bins_have_all_that_was_counted_and_no_gap() {
        let mut histogram = Histogram::default();
        for us in [3, 3, 50] {
            histogram.count(Duration::from_micros(us));
        }
        let mut other = Histogram::default();
        other.count(Duration::from_micros(3));
        histogram.add(&other);
        let bins = histogram.bins();
        let many: Vec<u64> = bins.iter().map(|bin| bin.many).collect();
        assert_eq!(many, [3, 0, 0, 0, 1]);
        assert_eq!((bins[0].up_to_us, bins[4].up_to_us), (4.0, 64.0));
    }
}
