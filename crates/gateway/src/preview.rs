//! A look ahead at a cron expression, for a person who writes one. No gateway is asked: what
//! answers is the planner's own arithmetic.

use clawgate_core::cron::{ClockNote, Schedule, ScheduleError, Slot, Zone};

use crate::{clock::now_ms, methods::cron::host_zone};

/// When an expression is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The zone in which it is read, resolved.
    pub time_zone: String,
    /// Milliseconds within which a job of this expression is spread, by its id.
    pub stagger_ms: i64,
    /// The next due times, spread not included.
    pub slots: Vec<PreviewSlot>,
}

/// One due time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewSlot {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// What a clock change does to it, in words.
    pub note: Option<String>,
}

/// The next `count` due times of a cron expression.
///
/// # Errors
/// What is wrong with the expression, the zone or the spread.
pub fn preview(
    expr: &str,
    zone: Option<&str>,
    stagger_ms: Option<i64>,
    count: usize,
) -> Result<Preview, String> {
    let now = now_ms();
    let words = |error: ScheduleError| error.to_string();
    let schedule = Schedule::cron(expr, zone, stagger_ms, &host_zone(), now).map_err(words)?;
    let (exact, tz, stagger_ms) = match schedule {
        Schedule::Cron {
            expr,
            tz,
            stagger_ms,
        } => {
            let exact = Schedule::Cron {
                expr,
                tz: tz.clone(),
                stagger_ms: 0,
            };
            (exact, tz, stagger_ms)
        }
        other @ (Schedule::At { .. } | Schedule::Every { .. }) => (other, Zone::utc(), 0),
    };
    Ok(Preview {
        time_zone: tz.name().to_owned(),
        stagger_ms,
        slots: exact
            .slots("", now, count)
            .into_iter()
            .map(|Slot { at_ms, note }| PreviewSlot {
                at_ms,
                note: note.map(note_words),
            })
            .collect(),
    })
}

fn note_words(note: ClockNote) -> String {
    match note {
        ClockNote::Shifted { by_ms } => format!(
            "the clocks go forward over this time; it runs {} minutes later",
            by_ms / 60_000
        ),
        ClockNote::FirstOfTwo => "this time comes twice; it is the first".to_owned(),
        ClockNote::SecondOfTwo => "this time comes twice; it is the second".to_owned(),
    }
}
