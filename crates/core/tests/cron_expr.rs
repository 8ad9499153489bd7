//! Cron expressions against what the JavaScript croner 10 did (`fixtures/croner-js.txt`, recorded by running it), and
//! against properties that must hold in every zone (`PROPTEST_CASES` raises their number).

use clawgate_core::cron::{CronExpr, Schedule, ScheduleError, Zone};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

const FIXTURE: &str = include_str!("fixtures/croner-js.txt");

/// Lines on which clawgate chooses otherwise: expression, zone, what happens here, why.
const DIFFERENCES: &[(&str, &str, Here, &str)] = &[
    (
        "*/30 * * * *",
        "America/New_York from 2026-11-01T04:20:00Z",
        Here::Slots(&[
            "2026-11-01T04:30:00Z",
            "2026-11-01T05:00:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:30:00Z",
            "2026-11-01T07:00:00Z",
            "2026-11-01T07:30:00Z",
            "2026-11-01T08:00:00Z",
        ]),
        "a repeating schedule stays continuous through the repeated hour",
    ),
    (
        "0 * * * *",
        "America/New_York from 2026-11-01T03:30:00Z",
        Here::Slots(&[
            "2026-11-01T04:00:00Z",
            "2026-11-01T05:00:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T07:00:00Z",
            "2026-11-01T08:00:00Z",
            "2026-11-01T09:00:00Z",
        ]),
        "a repeating schedule stays continuous through the repeated hour",
    ),
    (
        "*/15 1 * * *",
        "America/New_York from 2026-11-01T04:00:00Z",
        Here::Slots(&[
            "2026-11-01T05:00:00Z",
            "2026-11-01T05:15:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-01T05:45:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:15:00Z",
            "2026-11-01T06:30:00Z",
            "2026-11-01T06:45:00Z",
            "2026-11-02T06:00:00Z",
            "2026-11-02T06:15:00Z",
        ]),
        "a repeating schedule runs in both occurrences of its hour",
    ),
    (
        "0 0 30 2 *",
        "UTC from 2026-06-01T00:00:00Z",
        Here::NeverFires,
        "an impossible date is refused instead of kept without a next run",
    ),
    (
        "0 0 31 4 *",
        "UTC from 2026-06-01T00:00:00Z",
        Here::NeverFires,
        "an impossible date is refused instead of kept without a next run",
    ),
];

enum Here {
    Slots(&'static [&'static str]),
    NeverFires,
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>()
        .expect("timestamp")
        .as_millisecond()
}

fn walk(expr: &CronExpr, zone: &TimeZone, from_ms: i64, count: usize) -> Vec<i64> {
    std::iter::successors(expr.next_after(from_ms, zone), |at| {
        expr.next_after(*at, zone)
    })
    .take(count)
    .collect()
}

/// The zone and the rest start after two or more spaces from the right; the expression itself may hold runs of them.
fn split_line(line: &str) -> (&str, &str) {
    let zone_at = line
        .find(" ERR ")
        .or(line.find(" from "))
        .expect("a verdict");
    let zone_from = line[..zone_at].rfind(' ').expect("an expression") + 1;
    (&line[..zone_from], &line[zone_from..])
}

#[test]
fn every_recorded_line_behaves_the_same_or_is_a_named_difference() {
    let (mut lines, mut differences) = (0, 0);
    for line in FIXTURE
        .lines()
        .filter(|line| !line.starts_with("---") && !line.is_empty())
    {
        lines += 1;
        let (text, rest) = split_line(line);
        let (zone_name, verdict) = rest.split_once(' ').expect("zone");
        let schedule = Schedule::cron(text, Some(zone_name), Some(0), &Zone::utc(), 0);
        if verdict.starts_with("ERR") {
            assert!(schedule.is_err(), "refused there, accepted here: {line}");
            continue;
        }
        let (from, slots) = verdict.split_once("=>").expect("slots");
        let from_ms = ms(from.trim_start_matches("from ").trim());
        let recorded: Vec<&str> = slots.split_whitespace().collect();
        let key = format!("{zone_name} {}", from.trim());
        let named = DIFFERENCES
            .iter()
            .find(|(expr, place, ..)| *expr == text.trim() && *place == key);
        let expected: Vec<&str> = match named {
            Some((_, _, Here::NeverFires, _)) => {
                differences += 1;
                assert!(
                    matches!(schedule, Err(ScheduleError::NeverFires { .. })),
                    "{line}: {schedule:?}"
                );
                continue;
            }
            Some((_, _, Here::Slots(slots), why)) => {
                differences += 1;
                assert_ne!(
                    &recorded[..],
                    *slots,
                    "no longer a difference ({why}): {line}"
                );
                slots.to_vec()
            }
            None => recorded,
        };
        let schedule = schedule.unwrap_or_else(|error| panic!("{line}: {error}"));
        let found: Vec<String> = schedule
            .slots("job", from_ms, expected.len())
            .iter()
            .map(|slot| {
                Timestamp::from_millisecond(slot.at_ms)
                    .expect("in range")
                    .to_string()
            })
            .collect();
        assert_eq!(found, expected, "{line}");
    }
    assert_eq!(lines, 72, "every line of the capture is checked");
    assert_eq!(
        differences,
        DIFFERENCES.len(),
        "every named difference is met"
    );
}

const ZONES: [&str; 5] = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Apia",
];

const DAY_MS: i64 = 86_400_000;

fn zone() -> impl Strategy<Value = TimeZone> {
    prop::sample::select(&ZONES[..]).prop_map(|name| TimeZone::get(name).expect("bundled"))
}

/// 2010 to 2036: Samoa's missing day included.
fn instant() -> impl Strategy<Value = i64> {
    1_262_304_000_000_i64..2_100_000_000_000
}

/// A field of random shape over a range of values.
fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => (min..=max).prop_map(|value| value.to_string()),
        2 => (1..=(max - min).max(1)).prop_map(|step| format!("*/{step}")),
        2 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (min..=max, min..=max, 1_u32..5)
            .prop_map(|(a, b, step)| format!("{}-{}/{step}", a.min(b), a.max(b))),
        2 => prop::collection::vec(min..=max, 1..4)
            .prop_map(|list| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let dom = prop_oneof![
        4 => field(1, 31),
        1 => Just("L".to_owned()),
        1 => Just("LW".to_owned()),
        1 => (1_u32..=28).prop_map(|day| format!("{day}W")),
    ];
    let dow = prop_oneof![
        4 => field(0, 6),
        1 => (0_u32..=7, 1_u32..=5).prop_map(|(day, nth)| format!("{day}#{nth}")),
        1 => (0_u32..=7).prop_map(|day| format!("{day}L")),
        1 => Just("+MON-FRI".to_owned()),
    ];
    (
        field(0, 59),
        field(0, 59),
        field(0, 23),
        dom,
        field(1, 12),
        dow,
        any::<bool>(),
    )
        .prop_map(|(s, m, h, dom, month, dow, has_seconds)| {
            if has_seconds {
                format!("{s} {m} {h} {dom} {month} {dow}")
            } else {
                format!("{m} {h} {dom} {month} {dow}")
            }
        })
}

proptest! {
    /// Any text gets an answer, and no answer is a panic or a hang.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}") {
        let _ = CronExpr::parse(&text);
        let _ = Schedule::at(&text, 0);
        let _ = Zone::parse(&text);
    }

    #[test]
    fn any_text_of_cron_letters_is_answered(
        text in "[0-9*/,LW#?+ -]{0,30}",
        fields in prop::collection::vec("[0-9*/,LW#?+-]{1,4}", 5..8),
        after in any::<i64>(),
        zone in zone(),
    ) {
        for text in [text, fields.join(" ")] {
            if let Ok(expr) = CronExpr::parse(&text) {
                let _ = expr.next_after(after, &zone);
                let _ = expr.next_after(after / 1_000_000, &zone);
            }
        }
    }

    /// In UTC, where no clock changes, our calendar search and the crate's own agree.
    #[test]
    fn utc_agrees_with_the_crate(text in expression(), after in instant()) {
        if let Ok(expr) = CronExpr::parse(&text) {
            let cron: croner::Cron = text.parse().expect("what we take, it takes");
            let start = Timestamp::from_millisecond(after).expect("in range").to_zoned(TimeZone::UTC);
            let theirs = cron.find_next_occurrence(&start, false).expect("fires");
            prop_assert_eq!(
                expr.next_after(after, &TimeZone::UTC),
                Some(theirs.timestamp().as_second() * 1_000)
            );
        }
    }

    #[test]
    fn slots_rise_and_counting_agrees(text in expression(), after in instant(), zone in zone()) {
        if let Ok(expr) = CronExpr::parse(&text) {
            let slots = walk(&expr, &zone, after, 40);
            prop_assert!(slots.first().is_none_or(|first| *first > after));
            prop_assert!(slots.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", slots);
            if let Some(last) = slots.last() {
                prop_assert_eq!(expr.count_between(after, *last, &zone), slots.len() as u64);
                prop_assert_eq!(expr.count_between(after, *last - 1, &zone), slots.len() as u64 - 1);
            }
        }
    }

    /// One run per local day, at the named time, or later by the gap that swallowed it.
    #[test]
    fn a_fixed_time_runs_once_per_local_day(
        hour in 0_i8..24, minute in 0_i8..60, from in instant(), zone in zone(),
    ) {
        let expr = CronExpr::parse(&format!("{minute} {hour} * * *")).expect("valid");
        let mut day_before: Option<jiff::civil::Date> = None;
        for at in walk(&expr, &zone, from, 400) {
            let local = Timestamp::from_millisecond(at).expect("in range").to_zoned(zone.clone());
            let wanted = local.date().at(hour, minute, 0, 0);
            let here = zone.to_ambiguous_timestamp(wanted).compatible().expect("in range");
            // The last clause: 23:30 swallowed by a gap at midnight would surface on the next day.
            let swallowed = wanted.date().yesterday().expect("in range").at(hour, minute, 0, 0);
            let shifted = zone.to_ambiguous_timestamp(swallowed).compatible().expect("in range");
            prop_assert!(here == local.timestamp() || shifted == local.timestamp(), "{local}");
            if let Some(before) = day_before {
                let days = (local.date() - before).get_days();
                // Two only where the calendar itself skips a day.
                let missing = zone.to_ambiguous_timestamp(
                    local.date().yesterday().expect("in range").at(12, 0, 0, 0));
                prop_assert!(days == 1 || (days == 2 && missing.is_ambiguous()), "{local}");
            }
            day_before = Some(local.date());
        }
    }

    /// No hole and no burst in real time: all five zones move by multiples of 30 minutes.
    #[test]
    fn a_repeating_schedule_is_continuous(
        step in prop::sample::select(&[1_i64, 2, 3, 5, 6, 10, 15, 30][..]),
        from in instant(), zone in zone(),
    ) {
        let expr = CronExpr::parse(&format!("*/{step} * * * *")).expect("valid");
        // Jump close to the next clock change, where it matters.
        let near = zone
            .following(Timestamp::from_millisecond(from).expect("in range"))
            .next()
            .map_or(from, |change| change.timestamp().as_millisecond() - 3 * 3_600_000);
        for start in [from, near] {
            for pair in walk(&expr, &zone, start, 300).windows(2) {
                prop_assert_eq!(pair[1] - pair[0], step * 60_000);
            }
        }
    }

    #[test]
    fn an_hourly_schedule_is_continuous_where_clocks_move_by_whole_hours(
        minute in 0..60, from in instant(),
        name in prop::sample::select(&["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia"][..]),
    ) {
        let zone = TimeZone::get(name).expect("bundled");
        let expr = CronExpr::parse(&format!("{minute} * * * *")).expect("valid");
        let change = zone
            .following(Timestamp::from_millisecond(from).expect("in range"))
            .next()
            .map_or(from, |change| change.timestamp().as_millisecond() - DAY_MS);
        for pair in walk(&expr, &zone, change, 60).windows(2) {
            prop_assert_eq!(pair[1] - pair[0], 3_600_000);
        }
    }

    #[test]
    fn stagger_delays_each_slot_by_the_same_offset_within_bounds(
        id in "[a-f0-9-]{1,36}", stagger in 0_i64..400_000, after in instant(), name in prop::sample::select(&ZONES[..]),
    ) {
        let host = Zone::parse(name).expect("bundled");
        let schedule = |stagger| Schedule::cron("0 * * * *", None, Some(stagger), &host, after).expect("valid");
        let offset = clawgate_core::cron::stagger_offset_ms(&id, stagger);
        prop_assert!((0..stagger.max(1)).contains(&offset));
        let exact = schedule(0).slots(&id, after - offset, 20);
        let spread = schedule(stagger).slots(&id, after, 20);
        for (exact, spread) in exact.iter().zip(&spread) {
            prop_assert_eq!(exact.at_ms + offset, spread.at_ms);
        }
    }

    #[test]
    fn an_interval_stays_on_its_grid(every in 1_i64..10_000_000, anchor in instant(), after in instant()) {
        let schedule = Schedule::every(every, Some(anchor), 0).expect("valid");
        let next = schedule.next_after("job", after).expect("in range");
        prop_assert!(next > after && next >= anchor && (next - anchor) % every == 0);
        prop_assert!(next == anchor || next - every <= after);
    }
}
