//! Looks at a process from outside over a long time, and what stays of it.

use std::time::Instant;

use crate::{
    error::BenchError,
    process::Memory,
    stats::{Bar, Row, Unit},
};

/// The part of the time in which caches fill, buffers grow to their size and history reaches its bounds.
const WARM_UP: f64 = 1.0 / 3.0;
/// What memory may seem to grow by where nothing grows: a page here, an arena there.
const NOISE_BYTES: f64 = 1e6;

/// One look at the process.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    hours: f64,
    resident: f64,
    descriptors: Option<f64>,
    threads: f64,
}

/// One of the figures of a look, where it is known.
type Figure = fn(&Look) -> Option<f64>;

impl Look {
    /// Looks now.
    ///
    /// # Errors
    /// The process is gone, or the kernel does not tell.
    pub fn at(id: u32, began: Instant) -> Result<Self, BenchError> {
        // Another user's are not shown, and a gateway's are like another user's.
        let descriptors = std::fs::read_dir(format!("/proc/{id}/fd"))
            .ok()
            .map(|entries| entries.fold(0.0, |many, _| many + 1.0));
        let threads = std::fs::read_dir(format!("/proc/{id}/task"))
            .map(|entries| entries.fold(0.0, |many, _| many + 1.0))
            .unwrap_or_default();
        let memory = Memory::of(id)
            .ok_or_else(|| BenchError::Unexpected("the server's memory is not known".to_owned()))?;
        Ok(Self {
            hours: began.elapsed().as_secs_f64() / 3_600.0,
            resident: memory.resident,
            descriptors,
            threads,
        })
    }
}

/// What memory, descriptors and threads did, each held against what does not count.
///
/// # Errors
/// There was no look.
pub fn rows(looks: &[Look]) -> Result<Vec<Row>, BenchError> {
    let Some(last) = looks.last() else {
        return Err(BenchError::Unexpected("nothing was seen".to_owned()));
    };
    let steady: Vec<Look> = looks
        .iter()
        .filter(|look| look.hours >= last.hours * WARM_UP)
        .copied()
        .collect();
    let line = Line::through(steady.iter().map(|look| (look.hours, look.resident)));
    let span = last.hours * (1.0 - WARM_UP);
    let mut grown = Row::new("memory grown by its slope (floor: noise)", Unit::Megabytes)
        .bar(Bar::RatioAtMost(1.0));
    grown.pair(
        (NOISE_BYTES + 2.0 * line.spread) / 1e6,
        line.slope * span / 1e6,
    );
    let mut slope = Row::new("memory, slope an hour", Unit::Megabytes);
    slope.subject.push(line.slope / 1e6);
    let mut held = Row::new("memory at the end", Unit::Megabytes);
    held.subject.push(last.resident / 1e6);
    // At any moment some connects and some files are open; the least of many looks is what stays.
    let least = |looks: &[Look], of: Figure| looks.iter().filter_map(of).min_by(f64::total_cmp);
    let (early, late) = steady.split_at(steady.len() / 2);
    let mut rows = vec![grown, slope, held];
    let kinds: [(&str, Figure); 2] = [
        ("descriptors that stayed", |look| look.descriptors),
        ("threads that stayed", |look| Some(look.threads)),
    ];
    for (name, of) in kinds {
        if let (Some(early), Some(late)) = (least(early, of), least(late, of)) {
            let mut row = Row::new(name, Unit::Pieces).bar(Bar::AtMost(1.0));
            row.subject.push(late - early);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A line through points by least squares, and how far they lie from it (standard deviation).
#[derive(Clone, Copy, Debug)]
struct Line {
    slope: f64,
    spread: f64,
}

impl Line {
    fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let many = points.clone().fold(0.0, |many, _| many + 1.0);
        let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / many;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let (mut both, mut square) = (0.0, 0.0);
        for (px, py) in points.clone() {
            both += (px - x) * (py - y);
            square += (px - x) * (px - x);
        }
        let slope = if square > 0.0 { both / square } else { 0.0 };
        let far: f64 = points
            .map(|(px, py)| (py - y - slope * (px - x)).powi(2))
            .sum();
        Self {
            slope,
            spread: (far / many).sqrt(),
        }
    }
}
