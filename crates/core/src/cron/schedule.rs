//! When a job is due: one-shot, interval or cron expression, each a pure function from an instant to the next slot.
//!
//! A *slot* is one due time in epoch milliseconds, stagger included. A schedule yields its slots in strictly rising
//! order and never looks at a clock.

use std::fmt;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::expr::CronExpr;
use super::walk::ClockNote;

/// How far in the past a one-shot may lie when it is added; it then runs at once (`cron.md` 1.2).
pub const AT_PAST_MAX_MS: i64 = 60_000;

/// How far ahead a one-shot may lie: ten years of 365.25 days (`cron.md` 1.2).
pub const AT_AHEAD_MAX_MS: i64 = 10 * YEAR_MS;

/// Default spread of jobs that run on the hour (`cron.md` 1.2).
pub const STAGGER_DEFAULT_MS: i64 = 300_000;

const YEAR_MS: i64 = 31_557_600_000;

/// Why a schedule is refused. Messages about `at` are wire literals of OpenClaw 2026.3.13
/// (`313-rpc-add-validation.json`), the others are our own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not 5, 6 or 7 fields.
    #[error(
        "cron expression \"{expr}\" has {found} fields; 5, 6 (seconds first) or 7 (year last) are required"
    )]
    FieldCount {
        /// As given.
        expr: String,
        /// How many fields it has.
        found: usize,
    },
    /// An `@word` that is no nickname of a schedule; `@reboot` is an event and not one either.
    #[error(
        "cron expression \"{expr}\" is not a known nickname (@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly)"
    )]
    UnknownNickname {
        /// As given.
        expr: String,
    },
    /// One field breaks a rule of the JavaScript grammar that the Rust crate does not check.
    #[error("cron expression \"{expr}\": the {field} field {problem}")]
    Syntax {
        /// As given.
        expr: String,
        /// Name of the field.
        field: &'static str,
        /// What is wrong, as the end of a sentence.
        problem: String,
    },
    /// The `croner` crate refused it.
    #[error("cron expression \"{expr}\": {problem}")]
    Grammar {
        /// As given.
        expr: String,
        /// The crate's words.
        problem: String,
    },
    /// Longer than any real expression.
    #[error("cron expression is longer than {bytes_max} bytes")]
    ExprTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// No date, or no later date, matches.
    #[error("cron expression \"{expr}\" has no upcoming run time and would never fire")]
    NeverFires {
        /// As given.
        expr: String,
    },
    /// Neither an IANA zone nor an offset like `+02:00`.
    #[error(
        "unknown time zone \"{name}\": give an IANA name such as Europe/Berlin, or an offset such as +02:00"
    )]
    UnknownZone {
        /// As given.
        name: String,
    },
    /// Not ISO 8601 and not epoch milliseconds.
    #[error("Invalid schedule.at: expected ISO-8601 timestamp (got {text})")]
    AtUnreadable {
        /// As given.
        text: String,
    },
    /// More than [`AT_PAST_MAX_MS`] ago.
    #[error("schedule.at is in the past: {at} ({minutes} minutes ago). Current time: {now}")]
    AtPast {
        /// The instant, re-serialised.
        at: String,
        /// Whole minutes since.
        minutes: i64,
        /// The instant it was compared with.
        now: String,
    },
    /// More than [`AT_AHEAD_MAX_MS`] ahead.
    #[error(
        "schedule.at is too far in the future: {at} ({years} years ahead). Maximum allowed: 10 years"
    )]
    AtTooFar {
        /// The instant, re-serialised.
        at: String,
        /// Whole years until then.
        years: i64,
    },
    /// `everyMs` below 1, or so large that no second slot exists.
    #[error("schedule.everyMs must be a whole number of milliseconds from 1 to {max}")]
    EveryOutOfRange {
        /// Largest accepted interval.
        max: i64,
    },
    /// `anchorMs` below 0 or past the calendar.
    #[error("schedule.anchorMs must be a valid epoch millisecond value")]
    AnchorOutOfRange,
    /// `staggerMs` below 0 or longer than a day's order of magnitude allows.
    #[error("schedule.staggerMs must be from 0 to {max}")]
    StaggerOutOfRange {
        /// Largest accepted spread: the offset is drawn from 32 bits.
        max: i64,
    },
}

/// Largest interval: ten years, as for one-shots.
const EVERY_MAX_MS: i64 = AT_AHEAD_MAX_MS;
/// The hash behind the offset has 32 bits.
const STAGGER_MAX_MS: i64 = u32::MAX as i64;
/// 9999-12-30T22:00:00Z, jiff's last second.
const INSTANT_MAX_MS: i64 = 253_402_207_200_000;

/// Below this many slots too many, walking over them is cheaper than another bisection.
const WALKED_SLOTS_MAX: u64 = 8;

/// A resolved time zone together with the name it is stored and shown under.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: Arc<str>,
    zone: TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub fn utc() -> Self {
        Self {
            name: "UTC".into(),
            zone: TimeZone::UTC,
        }
    }

    /// Resolves an IANA name in any case (stored in its canonical case; `EST` and other links keep their own name) or
    /// a fixed offset `+HH`, `+HHMM`, `+HH:MM` (stored as `+HH:MM`). Others, such as `UTC+2`, are refused, as the
    /// JavaScript runtime does.
    ///
    /// # Errors
    /// [`ScheduleError::UnknownZone`].
    pub fn parse(name: &str) -> Result<Self, ScheduleError> {
        let unknown = || ScheduleError::UnknownZone {
            name: name.to_owned(),
        };
        if name.starts_with(['+', '-']) {
            let seconds = offset_seconds(name).ok_or_else(unknown)?;
            let offset = Offset::from_seconds(seconds).map_err(|_| unknown())?;
            let sign = if seconds < 0 { '-' } else { '+' };
            let (hours, minutes) = (seconds.abs() / 3_600, seconds.abs() / 60 % 60);
            return Ok(Self {
                name: format!("{sign}{hours:02}:{minutes:02}").into(),
                zone: TimeZone::fixed(offset),
            });
        }
        // Files of a system's zone directory that name no place: leap-second copies and the host's own setting.
        let lower = name.to_ascii_lowercase();
        if ["posix/", "right/"]
            .iter()
            .any(|prefix| lower.starts_with(prefix))
            || ["localtime", "posixrules", "factory", "etc/unknown"].contains(&lower.as_str())
        {
            return Err(unknown());
        }
        let zone = TimeZone::get(name).map_err(|_| unknown())?;
        // jiff answers "UTC" with a nameless built-in.
        let canonical = zone.iana_name().ok_or_else(unknown)?.into();
        Ok(Self {
            name: canonical,
            zone,
        })
    }

    /// The name to store and show; [`parse`](Self::parse) reads it back.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rules behind the name.
    #[must_use]
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

fn offset_seconds(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.get(1..)?;
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':')?,
        _ => return None,
    };
    let number = |text: &str, max: i32| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<i32>().ok())
            .flatten()
            .filter(|value| *value <= max)
    };
    Some(sign * (number(hours, 23)? * 3_600 + number(minutes, 59)? * 60))
}

/// When a job is due. Instants and spans in milliseconds.
///
/// Build values with [`at`](Self::at), [`every`](Self::every) and [`cron`](Self::cron), which check the limits; the
/// fields are open so that a store can write and read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Once.
    At {
        /// The instant.
        at_ms: i64,
    },
    /// Again and again, on the grid `anchor_ms + k * every_ms`. The original drifts by each run's dispatch delay; this
    /// does not.
    Every {
        /// Interval, at least 1.
        every_ms: i64,
        /// The grid's origin and its first possible slot.
        anchor_ms: i64,
    },
    /// By the calendar of a zone.
    Cron {
        /// The expression.
        expr: CronExpr,
        /// The zone, resolved when the job was written, so that moving the host does not move the job.
        tz: Zone,
        /// Spread: each slot is delayed by an offset in `0..stagger_ms` that depends on the job id alone. 0 = exact.
        stagger_ms: i64,
    },
}

/// One line of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Due time, stagger included.
    pub at_ms: i64,
    /// Set when a clock change touches this slot.
    pub note: Option<ClockNote>,
}

impl Schedule {
    /// A one-shot from its text; see [`parse_at`].
    ///
    /// # Errors
    /// The `At*` variants of [`ScheduleError`].
    pub fn at(text: &str, now_ms: i64) -> Result<Self, ScheduleError> {
        let at_ms = parse_at(text)?;
        check_at(at_ms, now_ms)?;
        Ok(Self::At { at_ms })
    }

    /// An interval. Without an anchor the grid starts at `created_at_ms`, so the first slot is one interval later.
    ///
    /// # Errors
    /// [`ScheduleError::EveryOutOfRange`], [`ScheduleError::AnchorOutOfRange`].
    pub fn every(
        every_ms: i64,
        anchor_ms: Option<i64>,
        created_at_ms: i64,
    ) -> Result<Self, ScheduleError> {
        if !(1..=EVERY_MAX_MS).contains(&every_ms) {
            return Err(ScheduleError::EveryOutOfRange { max: EVERY_MAX_MS });
        }
        let anchor_ms = anchor_ms.unwrap_or(created_at_ms);
        if !(0..=INSTANT_MAX_MS - EVERY_MAX_MS).contains(&anchor_ms) {
            return Err(ScheduleError::AnchorOutOfRange);
        }
        Ok(Self::Every {
            every_ms,
            anchor_ms,
        })
    }

    /// A cron schedule. No `tz` means the host's zone, given by the caller and stored resolved. No `stagger_ms` means
    /// [`STAGGER_DEFAULT_MS`] for expressions [on the hour](CronExpr::is_on_the_hour) and exact for all others.
    ///
    /// # Errors
    /// Any of [`ScheduleError`] about expression, zone and stagger; [`ScheduleError::NeverFires`] also when all
    /// matching years lie before `now_ms`.
    pub fn cron(
        expr: &str,
        tz: Option<&str>,
        stagger_ms: Option<i64>,
        host: &Zone,
        now_ms: i64,
    ) -> Result<Self, ScheduleError> {
        let expr = CronExpr::parse(expr)?;
        let tz = tz.map_or_else(|| Ok(host.clone()), Zone::parse)?;
        let default_ms = if expr.is_on_the_hour() {
            STAGGER_DEFAULT_MS
        } else {
            0
        };
        let stagger_ms = stagger_ms.unwrap_or(default_ms);
        if !(0..=STAGGER_MAX_MS).contains(&stagger_ms) {
            return Err(ScheduleError::StaggerOutOfRange {
                max: STAGGER_MAX_MS,
            });
        }
        if expr.next_after(now_ms, tz.time_zone()).is_none() {
            return Err(ScheduleError::NeverFires {
                expr: expr.as_str().to_owned(),
            });
        }
        Ok(Self::Cron {
            expr,
            tz,
            stagger_ms,
        })
    }

    /// The first slot of a job that starts to exist, or to be enabled, at `now_ms`: strictly later than now, except
    /// that a one-shot up to [`AT_PAST_MAX_MS`] old is still due.
    #[must_use]
    pub fn first_after(&self, job_id: &str, now_ms: i64) -> Option<i64> {
        match self {
            Self::At { at_ms } => {
                (*at_ms >= now_ms.saturating_sub(AT_PAST_MAX_MS)).then_some(*at_ms)
            }
            Self::Every { .. } | Self::Cron { .. } => self.next_after(job_id, now_ms),
        }
    }

    /// The first slot strictly after `after_ms`.
    #[must_use]
    pub fn next_after(&self, job_id: &str, after_ms: i64) -> Option<i64> {
        self.next_slot(job_id, after_ms).map(|slot| slot.at_ms)
    }

    /// How many slots lie after `after_ms` up to and including `until_ms`. Never walks slot by slot.
    #[must_use]
    pub fn count_between(&self, job_id: &str, after_ms: i64, until_ms: i64) -> u64 {
        if after_ms >= until_ms {
            return 0;
        }
        match self {
            Self::At { at_ms } => u64::from(after_ms < *at_ms && *at_ms <= until_ms),
            Self::Every {
                every_ms,
                anchor_ms,
            } => {
                let passed = |instant: i64| {
                    let since = i128::from(instant) - i128::from(*anchor_ms);
                    since.div_euclid(i128::from((*every_ms).max(1))).max(-1)
                };
                u64::try_from(passed(until_ms) - passed(after_ms)).unwrap_or(u64::MAX)
            }
            Self::Cron {
                expr,
                tz,
                stagger_ms,
            } => {
                let offset = stagger_offset_ms(job_id, *stagger_ms);
                expr.count_between(
                    after_ms.saturating_sub(offset),
                    until_ms.saturating_sub(offset),
                    tz.time_zone(),
                )
            }
        }
    }

    /// The newest `count` slots after `after_ms` up to and including `until_ms`, in rising order.
    #[must_use]
    pub fn latest(&self, job_id: &str, after_ms: i64, until_ms: i64, count: u64) -> Vec<i64> {
        if count == 0 || after_ms >= until_ms {
            return Vec::new();
        }
        // Widen backwards until the span holds enough slots: passed time may be years, the newest slots are near its end.
        let (mut span, mut few) = (60_000_i64, until_ms);
        let mut many = until_ms.saturating_sub(span).max(after_ms);
        let mut found = self.count_between(job_id, many, until_ms);
        while found < count && many > after_ms {
            span = span.saturating_mul(4);
            few = many;
            many = until_ms.saturating_sub(span).max(after_ms);
            found = self.count_between(job_id, many, until_ms);
        }
        // Narrow down until little is left to walk and throw away.
        while found > count + WALKED_SLOTS_MAX && few - many > 1 {
            let middle = many + (few - many) / 2;
            let right = self.count_between(job_id, middle, until_ms);
            if right >= count {
                (many, found) = (middle, right);
            } else {
                few = middle;
            }
        }
        let surplus = usize::try_from(found.saturating_sub(count)).unwrap_or(usize::MAX);
        std::iter::successors(self.next_after(job_id, many), |at| {
            self.next_after(job_id, *at)
        })
        .take_while(|at| *at <= until_ms)
        .skip(surplus)
        .collect()
    }

    /// The next `count` slots after `now_ms` with notes on clock changes, for `cron next`.
    #[must_use]
    pub fn slots(&self, job_id: &str, now_ms: i64, count: usize) -> Vec<Slot> {
        std::iter::successors(self.next_slot(job_id, now_ms), |slot| {
            self.next_slot(job_id, slot.at_ms)
        })
        .take(count)
        .collect()
    }

    fn next_slot(&self, job_id: &str, after_ms: i64) -> Option<Slot> {
        match self {
            Self::At { at_ms } => (*at_ms > after_ms).then_some(Slot {
                at_ms: *at_ms,
                note: None,
            }),
            Self::Every {
                every_ms,
                anchor_ms,
            } => {
                let every = i128::from((*every_ms).max(1));
                let since = i128::from(after_ms) - i128::from(*anchor_ms);
                let steps = (since.div_euclid(every) + 1).max(0);
                let at_ms = i64::try_from(i128::from(*anchor_ms) + steps * every).ok()?;
                (at_ms <= INSTANT_MAX_MS).then_some(Slot { at_ms, note: None })
            }
            Self::Cron {
                expr,
                tz,
                stagger_ms,
            } => {
                let offset = stagger_offset_ms(job_id, *stagger_ms);
                let (at_ms, note) =
                    expr.next_noted(after_ms.saturating_sub(offset), tz.time_zone())?;
                Some(Slot {
                    at_ms: at_ms + offset,
                    note,
                })
            }
        }
    }
}

/// A job's own share of the spread: the first four bytes, big endian, of SHA-256 over its id, modulo the spread
/// (`cron.md` 1.2, checked against a job of the capture). 0 when the spread is 0.
#[must_use]
pub fn stagger_offset_ms(job_id: &str, stagger_ms: i64) -> i64 {
    if stagger_ms <= 0 {
        return 0;
    }
    let digest = Sha256::digest(job_id.as_bytes());
    i64::from(u32::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3],
    ])) % stagger_ms
}

/// Reads the text of a one-shot: ISO 8601 date or date and time (`T` or a space between; no zone = UTC, date alone =
/// midnight UTC), or digits alone = epoch milliseconds. Natural language is not read.
///
/// # Errors
/// [`ScheduleError::AtUnreadable`].
pub fn parse_at(text: &str) -> Result<i64, ScheduleError> {
    let unreadable = || ScheduleError::AtUnreadable {
        text: text.to_owned(),
    };
    let trimmed = text.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return trimmed
            .parse()
            .ok()
            .filter(|at| *at <= INSTANT_MAX_MS)
            .ok_or_else(unreadable);
    }
    // jiff's parser also takes zone annotations and week dates, which this contract does not have.
    if !trimmed
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"-+:.,TtZz ".contains(&byte))
    {
        return Err(unreadable());
    }
    let time = trimmed.get(10..).unwrap_or_default();
    let at = if time.contains(['Z', 'z', '+', '-']) {
        trimmed.parse::<Timestamp>().map_err(|_| unreadable())?
    } else {
        trimmed
            .parse::<DateTime>()
            .and_then(|civil| civil.to_zoned(TimeZone::UTC))
            .map_err(|_| unreadable())?
            .timestamp()
    };
    Ok(at.as_millisecond())
}

/// Checks the limits of a new one-shot.
///
/// # Errors
/// [`ScheduleError::AtPast`], [`ScheduleError::AtTooFar`].
pub fn check_at(at_ms: i64, now_ms: i64) -> Result<(), ScheduleError> {
    let ahead_ms = at_ms.saturating_sub(now_ms);
    if ahead_ms < -AT_PAST_MAX_MS {
        return Err(ScheduleError::AtPast {
            at: format_at(at_ms),
            minutes: ahead_ms.saturating_neg() / 60_000,
            now: format_at(now_ms),
        });
    }
    if ahead_ms > AT_AHEAD_MAX_MS {
        return Err(ScheduleError::AtTooFar {
            at: format_at(at_ms),
            years: ahead_ms / YEAR_MS,
        });
    }
    Ok(())
}

/// An instant in the one form that is stored and shown: `YYYY-MM-DDTHH:MM:SS.mmmZ`.
#[must_use]
pub fn format_at(at_ms: i64) -> String {
    let clamped = Timestamp::from_millisecond(at_ms).unwrap_or(if at_ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    });
    // Whole milliseconds, so that exactly three digits come out.
    let floor = clamped
        .checked_sub(SignedDuration::from_nanos(i64::from(
            clamped.subsec_nanosecond().rem_euclid(1_000_000),
        )))
        .unwrap_or(clamped);
    format!("{floor:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>()
            .expect("timestamp")
            .as_millisecond()
    }

    #[test]
    fn stagger_matches_the_captured_job() {
        // 313-rpc-add-validation.json, "cron top-of-hour default stagger".
        let id = "6476df0a-7dc5-45d4-a233-8e2d925f1e87";
        let schedule = Schedule::cron("0 * * * *", None, None, &Zone::utc(), 0).expect("valid");
        assert_eq!(
            schedule.first_after(id, 1_795_399_593_974),
            Some(1_795_402_975_137)
        );
    }

    #[test]
    fn stagger_defaults_to_five_minutes_only_on_the_hour() {
        let stagger = |expr: &str, given| match Schedule::cron(expr, None, given, &Zone::utc(), 0) {
            Ok(Schedule::Cron { stagger_ms, .. }) => stagger_ms,
            other => panic!("{other:?}"),
        };
        assert_eq!(stagger("0 * * * *", None), 300_000);
        assert_eq!(stagger("0 0 */3 * * *", None), 300_000);
        assert_eq!(stagger("15 3 * * *", None), 0);
        assert_eq!(stagger("0 * * * *", Some(0)), 0);
        assert!(Schedule::cron("0 * * * *", None, Some(-1), &Zone::utc(), 0).is_err());
    }

    #[test]
    fn at_reads_iso_8601_and_epoch_milliseconds() {
        let cases = [
            ("2031-05-01T10:00", "2031-05-01T10:00:00.000Z"),
            ("2031-05-01", "2031-05-01T00:00:00.000Z"),
            ("2031-05-01 10:00:05", "2031-05-01T10:00:05.000Z"),
            ("2031-05-01T10:00:00.1234Z", "2031-05-01T10:00:00.123Z"),
            ("2031-05-01T10:00:00-04:00", "2031-05-01T14:00:00.000Z"),
            (" 2031-05-01T10:00:00+0530 ", "2031-05-01T04:30:00.000Z"),
            ("1935396000000", "2031-05-01T10:00:00.000Z"),
        ];
        for (text, stored) in cases {
            assert_eq!(
                parse_at(text).map(format_at),
                Ok(stored.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn at_refuses_everything_else() {
        for text in [
            "",
            "tomorrow 9am",
            "+20m",
            "20m",
            "2031-13-01",
            "2031-02-30",
            "2031-05-01T25:00",
            "2031-05-01T10:00[Europe/Berlin]",
            "99999999999999999999",
            "-5",
            "2031-05-01T10:00 ZZ",
        ] {
            assert_eq!(
                parse_at(text),
                Err(ScheduleError::AtUnreadable {
                    text: text.to_owned()
                })
            );
        }
        assert_eq!(
            parse_at("tomorrow 9am").map_err(|error| error.to_string()),
            Err("Invalid schedule.at: expected ISO-8601 timestamp (got tomorrow 9am)".to_owned())
        );
    }

    #[test]
    fn limits_of_at_speak_the_words_of_the_capture() {
        let now = ms("2026-11-23T02:06:34.228Z");
        let message = |text| Schedule::at(text, now).expect_err("refused").to_string();
        assert_eq!(
            message("2020-01-01T00:00:00Z"),
            "schedule.at is in the past: 2020-01-01T00:00:00.000Z (3626046 minutes ago). Current time: 2026-11-23T02:06:34.228Z"
        );
        assert_eq!(
            message("2099-01-01T00:00:00Z"),
            "schedule.at is too far in the future: 2099-01-01T00:00:00.000Z (72 years ahead). Maximum allowed: 10 years"
        );
        assert!(check_at(now - 60_000, now).is_ok() && check_at(now - 60_001, now).is_err());
        assert!(check_at(now + AT_AHEAD_MAX_MS, now).is_ok());
        assert!(check_at(now + AT_AHEAD_MAX_MS + 1, now).is_err());
    }

    #[test]
    fn an_interval_stays_on_its_anchor() {
        let schedule = Schedule::every(20_000, None, 18_816).expect("valid");
        assert_eq!(schedule.first_after("j", 18_816), Some(38_816));
        assert_eq!(schedule.next_after("j", 38_824), Some(58_816));
        assert_eq!(schedule.next_after("j", 58_816), Some(78_816));
        let ahead = Schedule::every(1, Some(1_000), 0).expect("valid");
        assert_eq!(ahead.first_after("j", 5), Some(1_000));
        assert!(Schedule::every(0, None, 0).is_err());
        assert!(Schedule::every(i64::MAX, None, 0).is_err());
        assert!(Schedule::every(5, Some(-1), 0).is_err());
    }

    #[test]
    fn counting_and_latest_agree_with_walking() {
        let host = Zone::parse("Australia/Lord_Howe").expect("bundled");
        let schedules = [
            Schedule::every(7_000, Some(3), 0).expect("valid"),
            Schedule::At { at_ms: 900_000 },
            Schedule::cron("*/10 1,2 * * *", None, Some(4_000), &host, 0).expect("valid"),
            Schedule::cron("0 5 * * *", None, None, &host, 0).expect("valid"),
        ];
        let until = 400 * 86_400_000;
        for schedule in schedules {
            let walked: Vec<i64> = std::iter::successors(schedule.next_after("j", -5), |at| {
                schedule.next_after("j", *at)
            })
            .take_while(|at| *at <= until)
            .collect();
            assert_eq!(schedule.count_between("j", -5, until), walked.len() as u64);
            for count in [0, 1, 3, 100] {
                let newest = &walked[walked.len().saturating_sub(count)..];
                assert_eq!(schedule.latest("j", -5, until, count as u64), newest);
            }
        }
    }

    #[test]
    fn zones_resolve_as_in_the_original() {
        let cases = [
            ("america/new_york", "America/New_York"),
            ("EST", "EST"),
            ("utc", "UTC"),
            ("+02:00", "+02:00"),
            ("-0330", "-03:30"),
            ("+00", "+00:00"),
        ];
        for (given, stored) in cases {
            let zone = Zone::parse(given).expect(given);
            assert_eq!(zone.name(), stored);
            assert_eq!(Zone::parse(zone.name()), Ok(zone));
        }
        for given in [
            "UTC+2",
            "Invalid/Zone",
            "",
            "+25:00",
            "+2",
            "+02:60",
            "+a1:00",
            "../etc/passwd",
            "localtime",
            "right/UTC",
        ] {
            assert_eq!(
                Zone::parse(given),
                Err(ScheduleError::UnknownZone {
                    name: given.to_owned()
                })
            );
        }
    }

    #[test]
    fn a_schedule_whose_years_are_over_never_fires() {
        let now = ms("2026-06-01T00:00:00Z");
        assert!(matches!(
            Schedule::cron("0 0 9 1 1 * 2020", None, None, &Zone::utc(), now),
            Err(ScheduleError::NeverFires { .. })
        ));
    }
}
