//! Times and spans, in both directions: what a person types and what a person reads.

use clawgate_protocol::connect::MissingScope;
use jiff::{Timestamp, tz::TimeZone};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Reads `500ms`, `90s`, `10m`, `1.5h`, `1h30m`, `2d` as milliseconds. A number needs a unit, and
/// nothing and less than nothing are no spans.
pub(crate) fn parse_span(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total = 0.0_f64;
    let mut smallest = f64::INFINITY;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit = match rest[..end].to_ascii_lowercase().as_str() {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 6e4,
            "h" => 3.6e6,
            "d" => 8.64e7,
            _ => return None,
        };
        // 1h30m, not 30m1h and not 1h1h.
        if unit >= smallest {
            return None;
        }
        smallest = unit;
        total += number * unit;
        rest = &rest[end..];
    }
    let total = total.round();
    if !(1.0..=8.64e15).contains(&total) {
        return None;
    }
    format!("{total:.0}").parse().ok()
}

/// Reads a moment: ISO 8601 (without a zone it is UTC), milliseconds since the epoch, or a span
/// from now with or without a plus sign.
pub(crate) fn parse_moment(text: &str, now_ms: i64) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_millisecond(text.parse().ok()?).ok();
    }
    if let Some(span) = parse_span(text.strip_prefix('+').unwrap_or(text)) {
        return Timestamp::from_millisecond(now_ms.checked_add(span)?).ok();
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    if let Ok(civil) = text.parse::<jiff::civil::DateTime>() {
        return civil
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp());
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    date.to_zoned(TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`, as the wire writes moments.
pub(crate) fn wire_moment(moment: Timestamp) -> String {
    format!("{moment:.3}")
}

/// A span in one or two units: `850ms`, `42s`, `1h 30m`, `3d 4h`.
pub(crate) fn span(ms: i64) -> String {
    let ms = ms.max(0);
    if ms < SECOND {
        return format!("{ms}ms");
    }
    let two = |big: i64, name: &str, small: i64, small_name: &str| {
        let (whole, rest) = (ms / big, ms % big / small);
        if rest == 0 {
            format!("{whole}{name}")
        } else {
            format!("{whole}{name} {rest}{small_name}")
        }
    };
    if ms < MINUTE {
        if ms < 10 * SECOND && ms % SECOND >= 100 {
            return format!("{}.{}s", ms / SECOND, ms % SECOND / 100);
        }
        format!("{}s", ms / SECOND)
    } else if ms < HOUR {
        two(MINUTE, "m", SECOND, "s")
    } else if ms < DAY {
        two(HOUR, "h", MINUTE, "m")
    } else {
        two(DAY, "d", HOUR, "h")
    }
}

/// `in 3m`, `2h ago`, `now`.
pub(crate) fn relative(at_ms: i64, now_ms: i64) -> String {
    let away = at_ms.saturating_sub(now_ms);
    if away.abs() < SECOND {
        "now".to_owned()
    } else if away > 0 {
        format!("in {}", coarse(away))
    } else {
        format!("{} ago", coarse(-away))
    }
}

/// One unit, rounded down.
fn coarse(ms: i64) -> String {
    if ms < MINUTE {
        format!("{}s", ms / SECOND)
    } else if ms < HOUR {
        format!("{}m", ms / MINUTE)
    } else if ms < DAY {
        format!("{}h", ms / HOUR)
    } else {
        format!("{}d", ms / DAY)
    }
}

/// A moment in this machine's zone, to the second.
pub(crate) fn local(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(
        |_| at_ms.to_string(),
        |moment| {
            moment
                .to_zoned(TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S %Z")
                .to_string()
        },
    )
}

/// A moment in a zone by name, to the minute, seconds only where there are any; in this machine's
/// zone without a name, or with one that is not known here.
pub(crate) fn zoned(at_ms: i64, zone: Option<&str>) -> String {
    let zone = zone
        .and_then(|name| TimeZone::get(name).ok())
        .unwrap_or_else(TimeZone::system);
    Timestamp::from_millisecond(at_ms).map_or_else(
        |_| at_ms.to_string(),
        |moment| {
            let format = if at_ms % MINUTE == 0 {
                "%a %Y-%m-%d %H:%M %Z"
            } else {
                "%a %Y-%m-%d %H:%M:%S %Z"
            };
            moment.to_zoned(zone).strftime(format).to_string()
        },
    )
}

/// Both: `2026-11-24 10:00:00 CET (in 3h)`.
pub(crate) fn moment(at_ms: i64, now_ms: i64) -> String {
    format!("{} ({})", local(at_ms), relative(at_ms, now_ms))
}

/// Why a scope is missing, in words; a word of a gateway that is not known here stays as it is.
pub(crate) fn why_missing(why: &MissingScope) -> String {
    let words = match why.reason.as_str() {
        "not-approved" => "this device is not approved for it",
        "not-held" => "the credential does not carry it",
        "unknown-scope" => "there is no such scope",
        other => other,
    };
    format!("{}: {words}", why.scope)
}

/// `1 entry`, `2 entries`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_a_unit_and_a_length() {
        for (text, want) in [
            ("500ms", Some(500)),
            ("10m", Some(600_000)),
            ("1.5h", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("2D", Some(172_800_000)),
            ("10", None),
            ("0s", None),
            ("-5m", None),
            ("30m1h", None),
            ("1h1h", None),
            ("1w", None),
            ("", None),
            ("m", None),
            ("1.2.3s", None),
            ("999999999999d", None),
        ] {
            assert_eq!(parse_span(text), want, "{text}");
        }
    }

    #[test]
    fn moments_are_absolute_or_from_now() {
        let now = 1_767_225_600_000;
        for (text, want) in [
            ("20m", Some("2026-01-01T00:20:00.000Z")),
            ("+20m", Some("2026-01-01T00:20:00.000Z")),
            ("2026-03-01T10:00:00Z", Some("2026-03-01T10:00:00.000Z")),
            (
                "2026-03-01T10:00:00+02:00",
                Some("2026-03-01T08:00:00.000Z"),
            ),
            ("2026-03-01T10:00", Some("2026-03-01T10:00:00.000Z")),
            ("2026-03-01", Some("2026-03-01T00:00:00.000Z")),
            ("1767225600000", Some("2026-01-01T00:00:00.000Z")),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(
                parse_moment(text, now).map(wire_moment).as_deref(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn spans_and_distances_read_well() {
        for (ms, want) in [
            (5, "5ms"),
            (1_500, "1.5s"),
            (42_000, "42s"),
            (90_000, "1m 30s"),
            (5_400_000, "1h 30m"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(span(ms), want);
        }
        assert_eq!(relative(1_000_000, 0), "in 16m");
        assert_eq!(relative(0, 7_200_000), "2h ago");
        assert_eq!(relative(10, 0), "now");
    }
}
