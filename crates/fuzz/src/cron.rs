use clawgate_core::cron::{CronExpr, Zone, format_at, parse_at};

/// Slots that are walked.
const SLOTS: usize = 6;

/// An expression, a zone and an instant in milliseconds, a line each: a slot is later than what it
/// follows, is found again from just before it, and as many are counted as there are. The first line
/// is also read as the time of a one-shot, which is the same when it is written and read again.
///
/// # Panics
/// When one of these does not hold.
pub fn cron(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    if let Ok(at) = parse_at(first) {
        let written = format_at(at);
        assert_eq!(parse_at(&written), Ok(at), "{first:?} as {written}");
    }
    let Ok(expr) = CronExpr::parse(first) else {
        return;
    };
    let zone = match lines.next() {
        None | Some("") => Zone::utc(),
        Some(name) => match Zone::parse(name) {
            Ok(zone) => zone,
            Err(_) => return,
        },
    };
    assert_eq!(Zone::parse(zone.name()), Ok(zone.clone()));
    assert_eq!(CronExpr::parse(expr.as_str()).as_ref(), Ok(&expr));
    let after: i64 = lines
        .next()
        .and_then(|line| line.parse().ok())
        .unwrap_or(1_780_000_000_000);
    let stored = CronExpr::stored(expr.as_str());
    let zone = zone.time_zone();
    let mut at = after;
    let mut found = 0;
    while found < SLOTS {
        let next = expr.next_after(at, zone);
        assert_eq!(stored.next_after(at, zone), next, "of the kept text");
        let Some(next) = next else { break };
        assert!(next > at, "{next} is not after {at}");
        assert_eq!(
            expr.next_after(next - 1, zone),
            Some(next),
            "from just before it"
        );
        at = next;
        found += 1;
    }
    assert_eq!(
        expr.count_between(after, at, zone),
        found as u64,
        "slots after {after} up to {at}"
    );
}
