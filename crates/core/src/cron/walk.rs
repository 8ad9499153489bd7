//! Cron expressions in real time: from local seconds to instants under a time zone.
//!
//! A zone is a row of *stretches* with one UTC offset each. Inside a stretch, local and real time differ by a constant,
//! so the calendar search of [`expr`](super::expr) applies; only the borders need rules:
//!
//! - **The clock goes forward** (local times are missing). A fixed time that is missing runs once, shifted by the gap:
//!   02:30 becomes 03:30. A repeating schedule shifts only the first missing time, and drops the rest: it keeps its
//!   pace and never bursts. Shifted times that coincide with ordinary ones are one slot.
//! - **The clock goes back** (local times happen twice). A fixed time runs at the first occurrence. A repeating
//!   schedule runs in both, so the repeated hour is not silent (in OpenClaw it is: `cron.md` 1.2).
//!
//! "Repeating" is a `*`, `?` or step in the second, minute or hour field. The search is bounded: it leaps over empty
//! years, visits each stretch once, and ends at the calendar's cycle.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::expr::{CronExpr, DAY_S};

/// Twice any offset jiff allows (25:59:59), rounded up: how far a slot's instant can lie from its local time read as UTC.
const OFFSET_MARGIN_S: i64 = 2 * DAY_S;

/// Stretches visited in one search. A leap of the calendar costs none, so only a pathological zone gets near.
const STRETCHES_MAX: usize = 10_000;

/// How a slot relates to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockNote {
    /// The local time does not exist that day; the slot runs later by this many milliseconds.
    Shifted {
        /// Length of the gap.
        by_ms: i64,
    },
    /// The local time happens twice that day; this is the first.
    FirstOfTwo,
    /// The local time happens twice that day; this is the second. Repeating schedules only.
    SecondOfTwo,
}

/// One UTC offset in force from `start` until before `end` (epoch seconds).
struct Stretch {
    start: i64,
    end: i64,
    offset: i64,
    /// The offset in force before `start`.
    before: i64,
}

impl Stretch {
    fn at(zone: &TimeZone, second: i64) -> Option<Self> {
        let at = Timestamp::from_second(second).ok()?;
        let offset = i64::from(zone.to_offset(at).seconds());
        let end = zone
            .following(at)
            .next()
            .map_or(i64::MAX, |next| next.timestamp().as_second());
        let after = Timestamp::from_second(second + 1).ok()?;
        let Some(start) = zone.preceding(after).next() else {
            return Some(Self {
                start: i64::MIN,
                end,
                offset,
                before: offset,
            });
        };
        let start = start.timestamp().as_second();
        let before = Timestamp::from_second(start - 1)
            .map_or(offset, |before| i64::from(zone.to_offset(before).seconds()));
        Some(Self {
            start,
            end,
            offset,
            before,
        })
    }

    /// Seconds of local time that the border at `start` skipped; 0 if none.
    fn gap(&self) -> i64 {
        (self.offset - self.before).max(0)
    }

    /// The first instant at or after `from` whose own local time may count: a fixed time already ran in the first of
    /// two equal hours.
    fn floor(&self, expr: &CronExpr, from: i64) -> i64 {
        let repeated = (self.before - self.offset).max(0);
        if repeated > 0 && !expr.is_repeating() {
            from.max(self.start + repeated)
        } else {
            from
        }
    }

    fn local_end(&self, until: i64) -> i64 {
        until.min(self.end).saturating_add(self.offset)
    }

    /// First instant at or after `from` that stands for a missing local time.
    fn next_shifted(&self, expr: &CronExpr, from: i64) -> Option<i64> {
        if self.gap() == 0 || from >= self.start + self.gap() {
            return None;
        }
        let (missing, resumed) = (self.start + self.before, self.start + self.offset);
        let local = if expr.is_repeating() {
            expr.next_local(missing, resumed)?
        } else {
            expr.next_local(from.max(self.start) + self.before, resumed)?
        };
        Some(local - self.before).filter(|at| *at >= from && *at < self.end)
    }

    /// First slot in this stretch at or after `from`, with whether it was shifted.
    fn next(&self, expr: &CronExpr, from: i64) -> Option<(i64, bool)> {
        let plain = expr
            .next_local(
                self.floor(expr, from).saturating_add(self.offset),
                self.local_end(i64::MAX),
            )
            .map(|local| local - self.offset);
        match (plain, self.next_shifted(expr, from)) {
            (Some(plain), Some(shifted)) if shifted < plain => Some((shifted, true)),
            (Some(plain), _) => Some((plain, false)),
            (None, shifted) => shifted.map(|at| (at, true)),
        }
    }

    /// How many slots of this stretch lie at or after `from` and before `until`.
    fn count(&self, expr: &CronExpr, from: i64, until: i64) -> u64 {
        let floor = self.floor(expr, from).saturating_add(self.offset);
        let mut count = expr.count_local(floor, self.local_end(until));
        let mut at = from;
        while let Some(shifted) = self.next_shifted(expr, at).filter(|at| *at < until) {
            if !expr.matches_local(shifted + self.offset) {
                count += 1;
            }
            at = shifted + 1;
        }
        count
    }
}

impl CronExpr {
    /// The first slot strictly after `after_ms` in `zone`, in epoch milliseconds. `None` when the expression has no
    /// later match (its years are over) or the search left the supported calendar (year 9990).
    #[must_use]
    pub fn next_after(&self, after_ms: i64, zone: &TimeZone) -> Option<i64> {
        self.next_noted(after_ms, zone).map(|(at_ms, _)| at_ms)
    }

    /// As [`next_after`](Self::next_after), with what the clock does at that slot.
    #[must_use]
    pub fn next_noted(&self, after_ms: i64, zone: &TimeZone) -> Option<(i64, Option<ClockNote>)> {
        let mut from = after_ms.div_euclid(1_000) + 1;
        for _ in 0..STRETCHES_MAX {
            from = self.leap(from)?;
            let stretch = Stretch::at(zone, from)?;
            if let Some((at, is_shifted)) = stretch.next(self, from) {
                let note = if is_shifted {
                    let by_ms = stretch.gap() * 1_000;
                    Some(ClockNote::Shifted { by_ms })
                } else {
                    twice_note(zone, &stretch, at)
                };
                return Some((at.checked_mul(1_000)?, note));
            }
            if stretch.end == i64::MAX {
                return None;
            }
            from = stretch.end;
        }
        None
    }

    /// How many slots lie after `after_ms` up to and including `until_ms`. Costs one step per matching day, not per
    /// slot.
    #[must_use]
    pub fn count_between(&self, after_ms: i64, until_ms: i64, zone: &TimeZone) -> u64 {
        let mut from = after_ms.div_euclid(1_000) + 1;
        let until = until_ms.div_euclid(1_000) + 1;
        let mut count = 0;
        for _ in 0..STRETCHES_MAX {
            let Some(leapt) = self.leap(from) else { break };
            from = leapt;
            if from >= until {
                break;
            }
            let Some(stretch) = Stretch::at(zone, from) else {
                break;
            };
            count += stretch.count(self, from, until);
            from = stretch.end;
        }
        count
    }

    /// Skips years without a match: no slot can lie between `from` and the answer. `None` = no slot at all.
    fn leap(&self, from: i64) -> Option<i64> {
        let near = self.next_local(from.checked_sub(OFFSET_MARGIN_S)?, i64::MAX)?;
        Some(from.max(near - OFFSET_MARGIN_S))
    }
}

fn twice_note(zone: &TimeZone, stretch: &Stretch, at: i64) -> Option<ClockNote> {
    let second_until = stretch
        .start
        .saturating_add((stretch.before - stretch.offset).max(0));
    if stretch.start != i64::MIN && at < second_until {
        return Some(ClockNote::SecondOfTwo);
    }
    if stretch.end == i64::MAX {
        return None;
    }
    let next = Timestamp::from_second(stretch.end).ok()?;
    let next_offset = i64::from(zone.to_offset(next).seconds());
    (at >= stretch.end - (stretch.offset - next_offset).max(0)).then_some(ClockNote::FirstOfTwo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("bundled")
    }

    fn slots(expr: &str, name: &str, from: &str, count: usize) -> Vec<String> {
        let expr = CronExpr::parse(expr).expect("valid");
        let from: Timestamp = from.parse().expect("timestamp");
        let mut at = from.as_millisecond();
        (0..count)
            .filter_map(|_| {
                at = expr.next_after(at, &zone(name))?;
                Some(Timestamp::from_millisecond(at).ok()?.to_string())
            })
            .collect()
    }

    #[test]
    fn a_repeating_schedule_runs_through_the_repeated_hour() {
        assert_eq!(
            slots("0 * * * *", "America/New_York", "2026-11-01T03:30:00Z", 4),
            [
                "2026-11-01T04:00:00Z",
                "2026-11-01T05:00:00Z",
                "2026-11-01T06:00:00Z",
                "2026-11-01T07:00:00Z"
            ]
        );
    }

    #[test]
    fn every_listed_time_in_a_gap_runs_once() {
        assert_eq!(
            slots(
                "0,30 2 * * *",
                "America/New_York",
                "2026-03-07T12:00:00Z",
                4
            ),
            [
                "2026-03-08T07:00:00Z",
                "2026-03-08T07:30:00Z",
                "2026-03-09T06:00:00Z",
                "2026-03-09T06:30:00Z"
            ]
        );
    }

    #[test]
    fn shifted_and_ordinary_times_that_coincide_are_one_slot() {
        assert_eq!(
            slots("0 2,3 * * *", "America/New_York", "2026-03-08T00:00:00Z", 2),
            ["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"]
        );
    }

    #[test]
    fn a_day_missing_from_the_calendar_moves_its_fixed_time_to_the_next() {
        // Samoa had no 30 December 2011.
        assert_eq!(
            slots("0 9 30 12 *", "Pacific/Apia", "2011-06-01T00:00:00Z", 2),
            ["2011-12-30T19:00:00Z", "2012-12-29T19:00:00Z"]
        );
        assert_eq!(
            slots("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 2).len(),
            2
        );
    }

    #[test]
    fn rare_matches_are_found_without_walking_every_year() {
        assert_eq!(
            slots("0 0 29 2 +1", "Europe/Berlin", "2026-01-01T00:00:00Z", 2),
            ["2044-02-28T23:00:00Z", "2072-02-28T23:00:00Z"]
        );
        assert_eq!(
            slots(
                "0 0 0 1 1 * 4999",
                "Europe/Berlin",
                "2026-01-01T00:00:00Z",
                2
            )
            .len(),
            1
        );
    }

    #[test]
    fn notes_name_what_the_clock_does() {
        let noted = |text: &str, from: &str| {
            let from: Timestamp = from.parse().expect("timestamp");
            CronExpr::parse(text)
                .expect("valid")
                .next_noted(from.as_millisecond(), &zone("America/New_York"))
                .expect("a slot")
                .1
        };
        assert_eq!(
            noted("30 2 * * *", "2026-03-08T00:00:00Z"),
            Some(ClockNote::Shifted { by_ms: 3_600_000 })
        );
        assert_eq!(
            noted("30 1 * * *", "2026-11-01T00:00:00Z"),
            Some(ClockNote::FirstOfTwo)
        );
        assert_eq!(
            noted("30 * * * *", "2026-11-01T05:30:00Z"),
            Some(ClockNote::SecondOfTwo)
        );
        assert_eq!(noted("30 3 * * *", "2026-11-01T05:30:00Z"), None);
    }

    #[test]
    fn extreme_instants_answer_none_instead_of_panicking() {
        let expr = CronExpr::parse("* * * * * *").expect("valid");
        for at in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            assert_eq!(expr.next_after(at, &zone("Europe/Berlin")), None);
            assert_eq!(expr.count_between(at, at, &TimeZone::UTC), 0);
        }
    }
}
