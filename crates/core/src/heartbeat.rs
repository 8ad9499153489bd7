//! Heartbeats: when an agent looks up by itself, and whether what it then says is for anybody.

/// What an agent says when nothing needs attention.
pub const ACK: &str = "HEARTBEAT_OK";
/// The same of every silent answer.
pub const NO_REPLY: &str = "NO_REPLY";
/// Characters beside [`ACK`] that are still nothing.
pub const ACK_MAX: usize = 300;
/// Between two beats when nobody says, milliseconds.
pub const EVERY_MS: i64 = 30 * 60_000;
const DAY: u16 = 24 * 60;

/// The part of the day in which an agent may look up: minutes since midnight, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveHours {
    start: u16,
    end: u16,
}

impl ActiveHours {
    /// From `HH:MM` to `HH:MM`, which may be after midnight; `24:00` is midnight. `None` when that is
    /// no time, or no span at all.
    #[must_use]
    pub fn parse(start: &str, end: &str) -> Option<Self> {
        let (start, end) = (minutes(start)?, minutes(end)?);
        let hours = Self {
            start: start % DAY,
            end,
        };
        (hours.start != hours.end).then_some(hours)
    }

    /// Minutes from a minute of the day until it may look up; none when it may now.
    #[must_use]
    pub fn wait(self, minute: u16) -> u16 {
        let minute = minute % DAY;
        let is_in = if self.start < self.end {
            (self.start..self.end).contains(&minute)
        } else {
            minute >= self.start || minute < self.end
        };
        if is_in {
            return 0;
        }
        (self.start + DAY - minute) % DAY
    }
}

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let at = hours * 60 + minutes;
    (minutes < 60 && at <= DAY).then_some(at)
}

/// A span as `heartbeat.every` has it: `30m`, `1h30m`, `90s`, a bare number of minutes; 0 is off.
/// `None` when it is none.
#[must_use]
pub fn every_ms(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(minutes) = text.parse::<u32>() {
        return Some(i64::from(minutes) * 60_000);
    }
    let mut rest = text.as_str();
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse::<u32>().ok()?.into();
        rest = &rest[digits..];
        let (unit, ms) = [
            ("ms", 1),
            ("s", 1_000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ]
        .into_iter()
        .find(|(unit, _)| rest.starts_with(unit))?;
        sum = sum.checked_add(number.checked_mul(ms)?)?;
        rest = rest[unit.len()..].trim_start();
    }
    (!text.is_empty()).then_some(sum)
}

/// When the next beat is due: after the last one, or after `since_ms` when there was none, and never
/// in the past of `now_ms`. What was missed while the gateway was down is one beat, now.
#[must_use]
pub fn due_ms(every_ms: i64, last_ms: Option<i64>, since_ms: i64, now_ms: i64) -> i64 {
    // A clock that went back does not put it off for longer than one span.
    let last = last_ms.unwrap_or(since_ms).min(now_ms);
    last.saturating_add(every_ms.max(1)).max(now_ms)
}

/// What is for people of an answer to a heartbeat; `None` when nothing is.
#[must_use]
pub fn said(answer: &str, ack_max: usize) -> Option<&str> {
    let plain = answer
        .trim()
        .trim_matches(|c: char| c == '*' || c == '`' || c == '_');
    if plain.is_empty() || plain.starts_with(NO_REPLY) {
        return None;
    }
    let bare = plain.trim_end_matches(['.', '!', '?', ')', '"']);
    let rest = bare
        .strip_prefix(ACK)
        .or_else(|| bare.strip_suffix(ACK))
        .map(str::trim);
    match rest {
        Some(rest) if rest.chars().count() <= ack_max => None,
        _ => Some(answer.trim()),
    }
}

/// Whether `HEARTBEAT.md` holds anything to do: something beside headings, blanks, empty boxes and
/// the sentence that says that nothing is due.
#[must_use]
pub fn has_tasks(file: &str) -> bool {
    file.lines().map(str::trim).any(|line| {
        let bare = line.trim_start_matches(['-', '*', '+', ' ']);
        let is_empty_box = matches!(bare, "" | "[ ]" | "[]");
        !line.is_empty()
            && !line.starts_with('#')
            && !line.starts_with("<!--")
            && !is_empty_box
            && line != "Nothing is due as long as nothing stands below."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, want) in [
            ("30m", Some(1_800_000)),
            ("1h30m", Some(5_400_000)),
            ("90 s", None),
            ("45", Some(2_700_000)),
            ("0m", Some(0)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("soon", None),
            ("5x", None),
            ("-5m", None),
        ] {
            assert_eq!(every_ms(text), want, "{text:?}");
        }
    }

    #[test]
    fn quiet_hours_put_a_beat_off_until_they_end_and_never_drop_it() {
        let day = ActiveHours::parse("08:00", "22:00").unwrap();
        let night = ActiveHours::parse("22:00", "06:00").unwrap();
        for (hours, minute, want) in [
            (day, 8 * 60, 0),
            (day, 22 * 60 - 1, 0),
            (day, 22 * 60, 600),
            (day, 0, 480),
            (night, 23 * 60, 0),
            (night, 5 * 60, 0),
            (night, 6 * 60, 960),
        ] {
            assert_eq!(hours.wait(minute), want, "{hours:?} at {minute}");
        }
        for hours in [day, night] {
            for minute in 0..DAY {
                let wait = hours.wait(minute);
                assert_eq!(
                    hours.wait((minute + wait) % DAY),
                    0,
                    "{hours:?} at {minute}"
                );
            }
        }
        assert_eq!(
            ActiveHours::parse("09:00", "24:00").unwrap().wait(23 * 60),
            0
        );
        for (start, end) in [
            ("9:00", "10:00"),
            ("10:00", "10:00"),
            ("25:00", "26:00"),
            ("a", "b"),
        ] {
            assert_eq!(ActiveHours::parse(start, end), None, "{start} {end}");
        }
    }

    #[test]
    fn a_restart_does_not_put_a_beat_off() {
        assert_eq!(due_ms(100, Some(1_000), 5_000, 1_050), 1_100);
        assert_eq!(
            due_ms(100, Some(1_000), 5_000, 9_000),
            9_000,
            "what was missed is due now"
        );
        assert_eq!(due_ms(100, None, 5_000, 5_000), 5_100);
        assert_eq!(
            due_ms(100, Some(9_000), 0, 1_000),
            1_100,
            "the clock went back"
        );
    }

    #[test]
    fn an_answer_that_says_nothing_is_for_nobody() {
        for (answer, want) in [
            ("HEARTBEAT_OK", None),
            ("**HEARTBEAT_OK**", None),
            ("HEARTBEAT_OK.", None),
            ("All fine. HEARTBEAT_OK!", None),
            ("", None),
            (" NO_REPLY", None),
            ("The mail server is down.", Some("The mail server is down.")),
        ] {
            assert_eq!(said(answer, ACK_MAX), want, "{answer:?}");
        }
        let long = format!("HEARTBEAT_OK {}", "x".repeat(301));
        assert_eq!(said(&long, ACK_MAX), Some(long.as_str()));
    }

    #[test]
    fn a_file_without_tasks_needs_no_model() {
        assert!(!has_tasks(
            "# HEARTBEAT.md\n\nNothing is due as long as nothing stands below.\n- [ ]\n"
        ));
        assert!(has_tasks("# H\n- [ ] look at the mail"));
    }
}
