//! Cron expressions: text to a compact calendar rule, without a clock or a zone.
//!
//! The `croner` crate reads the fields; this file makes its grammar equal to the JavaScript croner 10 that OpenClaw
//! runs (recorded in `tests/fixtures/croner-js.txt`) and refuses what can never fire. Searching real time under a time
//! zone is [`walk`](super::walk)'s work: here every instant is *local seconds*, seconds since 1970-01-01T00:00:00 on a
//! wall clock that knows no daylight saving.
//!
//! Chosen where the two libraries differ: `?` is `*` in every field, `@midnight` exists, a bare `L` is no weekday, a
//! step may not exceed its field, an empty list item is an error. Years end at 5000 (the crate's limit).

use std::fmt;
use std::sync::{Arc, OnceLock};

use croner::parser::CronParser;
use croner::{CronPattern, Weekday};

use super::schedule::ScheduleError;

pub(super) const DAY_S: i64 = 86_400;

/// Longest expression that is read at all; the longest useful one (every value listed) is well below.
const EXPR_BYTES_MAX: usize = 1_024;

/// The Gregorian calendar repeats after 400 years; a rule that skips that long never matches again.
const CALENDAR_CYCLE_YEARS: i64 = 400;

/// No search looks past this year: jiff's timestamps end in 9999.
const YEAR_MAX: i64 = 9_990;

/// Field names in the order of a seven-field expression, for messages.
const FIELD_NAMES: [&str; 7] = [
    "second",
    "minute",
    "hour",
    "day of month",
    "month",
    "day of week",
    "year",
];

/// Largest step per field: the number of distinct values the field has (croner 10 refuses larger ones).
const STEP_MAX: [u32; 7] = [60, 60, 24, 31, 12, 7, 9_999];

/// A parsed cron expression. Cheap to clone; two expressions are equal when their texts are.
///
/// The text is kept as written apart from runs of white space, so that a stored job shows what its author typed.
#[derive(Clone)]
pub struct CronExpr {
    text: Arc<str>,
    /// Read at once by [`parse`](CronExpr::parse), on first use by [`stored`](CronExpr::stored). `None` = unreadable.
    rule: Arc<OnceLock<Option<Rule>>>,
}

/// What the text means. Masks: bit `n` set = value `n` matches.
struct Rule {
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    days: Days,
    /// `None` = every year; else ascending.
    years: Option<Box<[i64]>>,
    /// A wildcard or a step in the second, minute or hour field: such a schedule follows real time through a clock
    /// change, the others follow the local day.
    repeating: bool,
}

/// The two day fields together.
enum Days {
    /// No modifier: masks decide. Kept apart because it is nearly every job, and 100,000 jobs must stay small.
    Plain {
        dom: u64,
        dow: u64,
        star_dom: bool,
        star_dow: bool,
        both: bool,
    },
    /// `L`, `W` or `#` somewhere: the crate knows these rules.
    Modified(Box<CronPattern>),
}

impl CronExpr {
    /// Reads an expression of 5, 6 (seconds first) or 7 (year last) fields, or a nickname.
    ///
    /// # Errors
    /// [`ScheduleError`] naming the field at fault; [`ScheduleError::NeverFires`] when the calendar has no such date
    /// (`0 0 30 2 *`), which OpenClaw 2026.3.13 accepts and then never runs.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = spaced(text)?;
        let rule = Rule::parse(&text)?;
        Ok(Self {
            text: text.into(),
            rule: Arc::new(OnceLock::from(Some(rule))),
        })
    }

    /// Takes a text that [`parse`](Self::parse) accepted earlier and a store kept, without reading it before its first
    /// use: a start with 100,000 jobs reads only those that are due. A text that `parse` would refuse never fires.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self {
            text: text.into(),
            rule: Arc::default(),
        }
    }

    /// The expression as written, with single spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the second, minute or hour field repeats (`*`, `?` or a step). Such schedules stay continuous in real
    /// time across a clock change; the others run once per local day at their times.
    #[must_use]
    pub fn is_repeating(&self) -> bool {
        self.rule().is_some_and(|rule| rule.repeating)
    }

    /// Whether the written fields mean "on the hour, in hours picked by a wildcard": minute exactly `0` and `*` in the
    /// hour field of 5 fields, or also second exactly `0` of 6 (`cron.md` 1.2). These jobs are spread by default.
    /// Nicknames are not, as in the original.
    #[must_use]
    pub fn is_on_the_hour(&self) -> bool {
        let fields: Vec<&str> = self.text.split(' ').collect();
        match fields.as_slice() {
            [minute, hour, _, _, _] => *minute == "0" && hour.contains('*'),
            [second, minute, hour, _, _, _] => {
                *second == "0" && *minute == "0" && hour.contains('*')
            }
            _ => false,
        }
    }

    /// First match at or after `from` and before `until` (local seconds).
    pub(super) fn next_local(&self, from: i64, until: i64) -> Option<i64> {
        if from >= until {
            return None;
        }
        let rule = self.rule()?;
        let day = from.div_euclid(DAY_S);
        if rule.day_matches(day)
            && let Some(second) = rule.time_from(from.rem_euclid(DAY_S))
        {
            return Some(day * DAY_S + second).filter(|local| *local < until);
        }
        let day = rule.next_day(day + 1, until.div_euclid(DAY_S))?;
        let second = rule.time_from(0)?;
        Some(day * DAY_S + second).filter(|local| *local < until)
    }

    /// Whether this very local second matches.
    pub(super) fn matches_local(&self, local: i64) -> bool {
        self.next_local(local, local.saturating_add(1)).is_some()
    }

    /// How many matches lie at or after `from` and before `until` (local seconds).
    pub(super) fn count_local(&self, from: i64, until: i64) -> u64 {
        let Some(rule) = self.rule().filter(|_| from < until) else {
            return 0;
        };
        let (first, last) = (from.div_euclid(DAY_S), until.div_euclid(DAY_S));
        let before_first = rule.times_before(from.rem_euclid(DAY_S));
        let on_last = rule.times_before(until.rem_euclid(DAY_S));
        let days = rule.count_days(first, last - 1);
        let mut count = days * rule.times_before(DAY_S);
        if rule.day_matches(last) {
            count += on_last;
        }
        if rule.day_matches(first) {
            count -= before_first;
        }
        count
    }

    fn rule(&self) -> Option<&Rule> {
        self.rule
            .get_or_init(|| spaced(&self.text).and_then(|text| Rule::parse(&text)).ok())
            .as_ref()
    }
}

impl PartialEq for CronExpr {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CronExpr {}

impl fmt::Debug for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CronExpr({:?})", self.text)
    }
}

impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text with single spaces, if it has a sane length.
fn spaced(text: &str) -> Result<String, ScheduleError> {
    if text.len() > EXPR_BYTES_MAX {
        return Err(ScheduleError::ExprTooLong {
            bytes_max: EXPR_BYTES_MAX,
        });
    }
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Seven upper-case fields in the crate's grammar, after the checks that the crate does not make.
fn normalised_fields(text: &str) -> Result<Vec<String>, ScheduleError> {
    let syntax = |field: &'static str, problem: String| ScheduleError::Syntax {
        expr: text.to_owned(),
        field,
        problem,
    };
    let upper = text.to_ascii_uppercase();
    let spelled = match upper.as_str() {
        "@YEARLY" | "@ANNUALLY" => "0 0 1 1 *",
        "@MONTHLY" => "0 0 1 * *",
        "@WEEKLY" => "0 0 * * 0",
        "@DAILY" | "@MIDNIGHT" => "0 0 * * *",
        "@HOURLY" => "0 * * * *",
        other if other.starts_with('@') => {
            return Err(ScheduleError::UnknownNickname {
                expr: text.to_owned(),
            });
        }
        other => other,
    };
    let mut fields: Vec<String> = spelled
        .split(' ')
        .map(|field| field.replace('?', "*"))
        .collect();
    match fields.len() {
        5 => {
            fields.insert(0, "0".to_owned());
            fields.push("*".to_owned());
        }
        6 => fields.push("*".to_owned()),
        7 => {}
        found => {
            return Err(ScheduleError::FieldCount {
                expr: text.to_owned(),
                found: if text.is_empty() { 0 } else { found },
            });
        }
    }
    for ((field, name), step_max) in fields.iter().zip(FIELD_NAMES).zip(STEP_MAX) {
        // Also keeps letters whose upper case is ASCII (`ſun`) away from the crate.
        if !field.is_ascii() {
            return Err(syntax(name, "contains illegal characters".to_owned()));
        }
        let list = if name == "day of week" {
            field.strip_prefix('+').unwrap_or(field)
        } else {
            field
        };
        for item in list.split(',') {
            if item.is_empty() {
                return Err(syntax(name, "has an empty entry".to_owned()));
            }
            if name == "day of week" && item == "L" {
                return Err(syntax(name, "needs a weekday before L".to_owned()));
            }
            if let Some((_, step)) = item.split_once('/')
                && step.parse::<u32>().is_ok_and(|step| step > step_max)
            {
                return Err(syntax(name, format!("has a step above {step_max}")));
            }
        }
    }
    Ok(fields)
}

impl Rule {
    fn parse(text: &str) -> Result<Self, ScheduleError> {
        let rule = Self::from_fields(&normalised_fields(text)?, text)?;
        if rule.fires_on_some_day() {
            Ok(rule)
        } else {
            Err(ScheduleError::NeverFires {
                expr: text.to_owned(),
            })
        }
    }

    fn from_fields(fields: &[String], text: &str) -> Result<Self, ScheduleError> {
        let every_year = fields[6] == "*";
        // A wildcard year would make the crate fill 5,000 slots for each of 100,000 jobs; any fixed year parses fast.
        let year = if every_year { "2000" } else { &fields[6] };
        let spelled = format!("{} {year}", fields[..6].join(" "));
        let cron = CronParser::new()
            .parse(&spelled)
            .map_err(|error| ScheduleError::Grammar {
                expr: text.to_owned(),
                problem: error.to_string(),
            })?;
        let mut pattern = cron.pattern;
        let years =
            (!every_year).then(|| pattern.years.values().into_iter().map(i64::from).collect());
        // 5,000 bytes that nobody asks again: `years` above holds them.
        pattern.years = croner::CronComponent::new(1, 1, 0, 0);
        let days = if pattern.days.has_modifiers() || pattern.days_of_week.has_modifiers() {
            Days::Modified(Box::new(pattern.clone()))
        } else {
            Days::Plain {
                dom: mask(&pattern.days),
                dow: mask(&pattern.days_of_week),
                star_dom: pattern.is_dom_wildcard(),
                star_dow: pattern.is_dow_wildcard(),
                both: pattern.matches_dom_and_dow(),
            }
        };
        Ok(Self {
            seconds: mask(&pattern.seconds),
            minutes: mask(&pattern.minutes),
            hours: mask(&pattern.hours),
            months: mask(&pattern.months),
            days,
            years,
            repeating: fields[..3].iter().any(|field| field.contains(['*', '/'])),
        })
    }

    fn fires_on_some_day(&self) -> bool {
        let first_year = match &self.years {
            Some(years) => years.first().copied().unwrap_or(1),
            None => 1970,
        };
        self.next_day(days_from_civil(first_year, 1, 1), i64::MAX)
            .is_some()
    }

    /// Whether a day, counted from 1970-01-01, matches year, month and the day fields.
    fn day_matches(&self, day: i64) -> bool {
        self.next_day(day, day).is_some()
    }

    /// How many matching days lie from `from` to `last`, both included.
    fn count_days(&self, from: i64, last: i64) -> u64 {
        if self.is_daily() {
            return u64::try_from(last - from + 1).unwrap_or(0);
        }
        let days = std::iter::successors(self.next_day(from, last), |day| {
            self.next_day(day + 1, last)
        });
        days.count() as u64
    }

    /// Whether every day matches, as in most jobs.
    fn is_daily(&self) -> bool {
        let is_starred = matches!(
            self.days,
            Days::Plain {
                star_dom: true,
                star_dow: true,
                ..
            }
        );
        is_starred && self.years.is_none() && self.months.count_ones() == 12
    }

    /// First matching day from `from` to `last`, both included.
    fn next_day(&self, from: i64, last: i64) -> Option<i64> {
        if from > last {
            return None;
        }
        let (first_year, first_month, first_day) = civil_from_days(from);
        let year_end = match self.years {
            Some(_) => YEAR_MAX,
            None => YEAR_MAX.min(first_year + CALENDAR_CYCLE_YEARS),
        };
        let mut year = first_year;
        while let Some(found) = self.next_year(year).filter(|found| *found <= year_end) {
            year = found;
            let month_from = if year == first_year { first_month } else { 1 };
            for month in month_from..=12 {
                let month_start = days_from_civil(year, month, 1);
                if month_start > last {
                    return None;
                }
                if self.months >> month & 1 == 0 {
                    continue;
                }
                let is_first = year == first_year && month == first_month;
                let day_from = if is_first { first_day } else { 1 };
                for day in day_from..=days_in_month(year, month) {
                    let absolute = month_start + day - 1;
                    if absolute > last {
                        return None;
                    }
                    if self.days.matches(year, month, day, absolute) {
                        return Some(absolute);
                    }
                }
            }
            year += 1;
        }
        None
    }

    fn next_year(&self, from: i64) -> Option<i64> {
        match &self.years {
            None => Some(from),
            Some(years) => years
                .get(years.partition_point(|year| *year < from))
                .copied(),
        }
    }

    /// First matching second of the day at or after `second`.
    fn time_from(&self, second: i64) -> Option<i64> {
        let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
        let first_s = next_bit(self.seconds, 0)?;
        let first_m = next_bit(self.minutes, 0)?;
        if self.hours >> h & 1 == 1 {
            if self.minutes >> m & 1 == 1
                && let Some(s) = next_bit(self.seconds, s)
            {
                return Some(h * 3_600 + m * 60 + s);
            }
            if let Some(m) = next_bit(self.minutes, m + 1) {
                return Some(h * 3_600 + m * 60 + first_s);
            }
        }
        next_bit(self.hours, h + 1).map(|h| h * 3_600 + first_m * 60 + first_s)
    }

    /// How many matching times of day lie before `second` (0 to 86,400).
    fn times_before(&self, second: i64) -> u64 {
        let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
        let per_minute = u64::from(self.seconds.count_ones());
        let per_hour = u64::from(self.minutes.count_ones()) * per_minute;
        let below = |mask: u64, bit: i64| u64::from((mask & ((1_u64 << bit) - 1)).count_ones());
        let mut count = below(self.hours, h) * per_hour;
        if self.hours >> h & 1 == 1 {
            count += below(self.minutes, m) * per_minute;
            if self.minutes >> m & 1 == 1 {
                count += below(self.seconds, s);
            }
        }
        count
    }
}

impl Days {
    /// `absolute` is the same day counted from 1970-01-01, a Thursday.
    fn matches(&self, year: i64, month: i64, day: i64, absolute: i64) -> bool {
        let weekday = (absolute + 4).rem_euclid(7);
        match self {
            Self::Plain {
                dom,
                dow,
                star_dom,
                star_dow,
                both,
            } => {
                let dom = dom >> day & 1 == 1;
                let dow = dow >> weekday & 1 == 1;
                // A starred field has no say, and with both starred every day matches. `+` asks for both.
                match (star_dom, star_dow) {
                    (true, true) => true,
                    (true, false) => dow,
                    (false, true) => dom,
                    (false, false) if *both => dom && dow,
                    (false, false) => dom || dow,
                }
            }
            Self::Modified(pattern) => {
                let weekday = match weekday {
                    0 => Weekday::Sunday,
                    1 => Weekday::Monday,
                    2 => Weekday::Tuesday,
                    3 => Weekday::Wednesday,
                    4 => Weekday::Thursday,
                    5 => Weekday::Friday,
                    _ => Weekday::Saturday,
                };
                let narrow = |value: i64| u32::try_from(value).ok();
                // Years beyond the search limit do not fit, and do not match.
                i32::try_from(year)
                    .ok()
                    .zip(narrow(month).zip(narrow(day)))
                    .is_some_and(|(year, (month, day))| {
                        pattern
                            .day_match(year, month, day, weekday)
                            .unwrap_or(false)
                    })
            }
        }
    }
}

/// The field's plain values as bits; every field but the year has values below 64.
fn mask(field: &croner::CronComponent) -> u64 {
    field
        .values()
        .into_iter()
        .filter(|value| *value < 64)
        .fold(0, |mask, value| mask | 1 << value)
}

/// Lowest set bit at or above `from` (0 to 64).
fn next_bit(mask: u64, from: i64) -> Option<i64> {
    let rest = mask.checked_shr(u32::try_from(from).ok()?)?;
    (rest != 0).then(|| from + i64::from(rest.trailing_zeros()))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. Years are counted from March so that the leap
/// day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates_round_trip_through_day_counts() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
        for days in (-800_000..3_000_000).step_by(17) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month));
        }
    }

    #[test]
    fn impossible_dates_never_fire() {
        for text in [
            "0 0 30 2 *",
            "0 0 31 4 *",
            "0 0 31 2,4,6,9,11 *",
            "0 0 0 29 2 * 2027",
            "0 0 31 2 +1",
        ] {
            assert_eq!(
                CronExpr::parse(text),
                Err(ScheduleError::NeverFires {
                    expr: text.to_owned()
                }),
            );
        }
    }

    #[test]
    fn rare_dates_are_kept() {
        for text in [
            "0 0 29 2 *",
            "0 0 29 2 +1",
            "0 0 0 29 2 * 2400",
            "0 0 0 1 1 * 5000",
        ] {
            assert!(CronExpr::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn fields_beyond_the_original_grammar_are_refused() {
        for text in [
            "",
            " ",
            "@",
            "@every 5m",
            "@reboot",
            "1,,2 * * * *",
            ",1 * * * *",
            "* * * * +",
            "*/61 * * * *",
            "0-59/61 * * * *",
            "* */25 * * *",
            "* * * * */8",
            "* * * * L",
            "* * * * 1,L",
            "* * * * \u{17f}un",
            "/5 * * * *",
            "* * W * *",
            "* * * * 5#6",
        ] {
            assert!(CronExpr::parse(text).is_err(), "{text:?}");
        }
        assert!(CronExpr::parse(&"1,".repeat(4_000)).is_err());
    }

    #[test]
    fn a_stored_text_is_read_on_first_use_and_equal_to_a_parsed_one() {
        let parsed = CronExpr::parse("*/15 9 * * MON").expect("valid");
        let stored = CronExpr::stored(parsed.as_str());
        assert_eq!(stored, parsed);
        assert_eq!(
            stored.next_local(0, i64::MAX),
            parsed.next_local(0, i64::MAX)
        );
        assert!(stored.is_repeating());
        assert_eq!(CronExpr::stored("nonsense").next_local(0, i64::MAX), None);
        assert_eq!(CronExpr::stored("nonsense").count_local(0, DAY_S), 0);
    }

    #[test]
    fn white_space_is_normalised_in_the_kept_text() {
        let expr = CronExpr::parse("  0 \t 9  * * mon ");
        assert_eq!(
            expr.map(|expr| expr.as_str().to_owned()),
            Ok("0 9 * * mon".to_owned())
        );
    }

    #[test]
    fn on_the_hour_follows_the_written_fields() {
        let cases = [
            ("0 * * * *", true),
            ("0 */2 * * *", true),
            ("0 0 * * * *", true),
            ("00 * * * *", false),
            ("0 9 * * *", false),
            ("5 * * * *", false),
            ("30 0 * * * *", false),
            ("0 0 * * * * 2030", false),
            ("@hourly", false),
        ];
        for (text, expected) in cases {
            let expr = CronExpr::parse(text).expect("valid");
            assert_eq!(expr.is_on_the_hour(), expected, "{text}");
        }
    }

    #[test]
    fn counting_agrees_with_walking() {
        for text in [
            "*/7 3,9-11 1-20 * 1",
            "0 0 L * *",
            "15 10 5 * * *",
            "*/20 * * * * 2",
        ] {
            let expr = CronExpr::parse(text).expect("valid");
            let (from, until) = (1_780_000_123, 1_790_000_456);
            let mut walked = 0;
            let mut at = from;
            while let Some(found) = expr.next_local(at, until) {
                walked += 1;
                at = found + 1;
            }
            assert_eq!(expr.count_local(from, until), walked, "{text}");
        }
    }
}
