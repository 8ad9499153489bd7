//! Sessions: what their keys mean, what a person may set on one, when one is over, and what it is
//! called.
//!
//! A key is `agent:<agent>:<rest>`, `global` or `unknown`. People and programs write shorter ones,
//! which are those of an agent. Keys are names in a database and never part of a path.

/// Characters of a key at most.
pub const KEY_MAX: usize = 512;
/// Rest of the key of an agent's main session.
pub const MAIN: &str = "main";
/// Characters of a derived title at most.
const TITLE_MAX: usize = 60;

/// A session key in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    text: String,
    agent: String,
}

/// Why a text is no session key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// Nothing is there.
    Empty,
    /// More than [`KEY_MAX`] characters.
    TooLong,
    /// It holds what could be taken for something else: control characters, look-alikes, steps of a
    /// path.
    Characters,
    /// It names another agent than the caller did.
    OtherAgent,
}

impl BadKey {
    /// A sentence without its full stop.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Empty => "the session key is empty",
            Self::TooLong => "the session key is longer than 512 characters",
            Self::Characters => "the session key holds characters that no session key has",
            Self::OtherAgent => "the session key belongs to another agent",
        }
    }
}

/// What lists call a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One person, or nobody.
    Direct,
    /// A group or a channel.
    Group,
    /// The one session of everybody.
    Global,
    /// What came from nowhere.
    Unknown,
}

impl Kind {
    /// The wire's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
            Self::Global => "global",
            Self::Unknown => "unknown",
        }
    }
}

impl SessionKey {
    /// Reads a key as a caller writes it: `main` is the default agent's main session, and a key
    /// without `agent:` is one of `agent`, else of the default agent.
    ///
    /// # Errors
    /// [`BadKey`]; nothing is ever made under such a key.
    pub fn read(text: &str, agent: Option<&str>, default_agent: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadKey::Empty);
        }
        if text.chars().count() > KEY_MAX {
            return Err(BadKey::TooLong);
        }
        let text = text.to_lowercase();
        if !is_plain(&text) {
            return Err(BadKey::Characters);
        }
        let wanted = agent.map(|agent| agent.trim().to_lowercase());
        let owner = wanted.as_deref().unwrap_or(default_agent);
        if text == "global" || text == "unknown" {
            return Ok(Self {
                agent: owner.to_owned(),
                text,
            });
        }
        let Some(own) = text.strip_prefix("agent:") else {
            if !is_agent_id(owner) {
                return Err(BadKey::Characters);
            }
            return Ok(Self {
                text: format!("agent:{owner}:{text}"),
                agent: owner.to_owned(),
            });
        };
        match own.split_once(':') {
            Some((agent, rest)) if is_agent_id(agent) && !rest.trim().is_empty() => {
                if wanted.is_some_and(|wanted| wanted != agent) {
                    return Err(BadKey::OtherAgent);
                }
                Ok(Self {
                    agent: agent.to_owned(),
                    text,
                })
            }
            _ => Err(BadKey::Characters),
        }
    }

    /// The main session of an agent.
    pub fn main_of(agent: &str) -> Self {
        Self {
            text: format!("agent:{agent}:{MAIN}"),
            agent: agent.to_owned(),
        }
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose session it is.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// What follows the agent; the whole of a key without one.
    pub fn rest(&self) -> &str {
        self.text
            .strip_prefix("agent:")
            .and_then(|own| own.split_once(':'))
            .map_or(self.text.as_str(), |(_, rest)| rest)
    }

    /// Whether it is the main session of its agent, which cannot be deleted.
    pub fn is_main(&self) -> bool {
        self.rest() == MAIN
    }

    /// Whether it is the row of one run of a job, which lists leave out.
    pub fn is_cron_run(&self) -> bool {
        let mut parts = self.rest().split(':');
        parts.next() == Some("cron") && parts.nth(1) == Some("run")
    }

    /// The session of the job whose run this is.
    pub fn of_job(&self) -> Option<Self> {
        if !self.is_cron_run() {
            return None;
        }
        let (base, _) = self.text.rsplit_once(":run:")?;
        Some(Self {
            text: base.to_owned(),
            agent: self.agent.clone(),
        })
    }

    /// Whether another session made it: only such have a line of descent.
    pub fn is_made_by_session(&self) -> bool {
        let rest = self.rest();
        rest.starts_with("subagent:") || rest.starts_with("acp:")
    }

    /// What lists call it; `chat_type` is what its channel said.
    pub fn kind(&self, chat_type: Option<&str>) -> Kind {
        match self.text.as_str() {
            "global" => return Kind::Global,
            "unknown" => return Kind::Unknown,
            _ => {}
        }
        let is_group = matches!(chat_type, Some("group" | "channel"))
            || self
                .rest()
                .split(':')
                .any(|part| part == "group" || part == "channel");
        if is_group { Kind::Group } else { Kind::Direct }
    }

    /// The channel that its form tells, if it tells one: `telegram:group:1` is one of telegram.
    pub fn channel(&self) -> Option<&str> {
        let mut parts = self.rest().split(':');
        let (first, second) = (parts.next()?, parts.next()?);
        let mut rest = std::iter::once(second).chain(parts);
        let names_channel = rest.any(|part| matches!(part, "group" | "channel" | "direct" | "dm"));
        let is_own = matches!(
            first,
            "cron" | "subagent" | "acp" | "hook" | "direct" | "dm" | "group" | "channel"
        );
        (names_channel && !is_own).then_some(first)
    }
}

/// Whether a text can be an agent's id.
pub fn is_agent_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// No control characters, nothing invisible, no full-width look-alikes, no steps of a path. Slashes
/// alone are part of the ids of several channels.
fn is_plain(text: &str) -> bool {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\\' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}' | '\u{fe50}'..='\u{fe6f}' | '\u{feff}'
                | '\u{ff00}'..='\u{ffef}')
    };
    let steps = |part: &str| part == ".." || part == ".";
    !text.contains(odd)
        && !text.starts_with('/')
        && !text.split(['/', ':']).any(steps)
        && !["%2f", "%5c", "%2e", "%00"]
            .iter()
            .any(|code| text.contains(code))
}

/// A thinking level as it is kept, from the words that people use for it.
pub fn thinking_level(text: &str) -> Option<&'static str> {
    Some(match text.trim().to_lowercase().as_str() {
        "off" | "none" => "off",
        "minimal" | "min" | "think" => "minimal",
        "low" | "on" | "enable" | "enabled" => "low",
        "medium" | "med" | "mid" => "medium",
        "high" | "highest" | "max" | "ultra" => "high",
        "xhigh" | "x-high" | "extra-high" => "xhigh",
        "adaptive" | "auto" => "adaptive",
        _ => return None,
    })
}

/// The word of a choice as it is kept; `None` when it is none of them.
pub fn choice(text: &str, of: &[&'static str]) -> Option<&'static str> {
    let text = text.trim().to_lowercase();
    of.iter().find(|word| **word == text).copied()
}

/// When a conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetPolicy {
    /// With the first message after this hour of the gateway's day.
    Daily {
        /// 0 to 23.
        at_hour: u8,
        /// And after so many quiet minutes, if that comes first.
        idle_minutes: Option<u32>,
    },
    /// After so many quiet minutes.
    Idle {
        /// At least one.
        minutes: u32,
    },
}

impl ResetPolicy {
    /// What holds when nothing is configured.
    pub const DEFAULT: Self = Self::Daily {
        at_hour: 4,
        idle_minutes: None,
    };

    /// Whether a conversation that was last changed at `updated_at_ms` is over. `day_began_ms` is
    /// when the reset hour of the gateway's clock last struck.
    pub fn is_over(self, updated_at_ms: i64, now_ms: i64, day_began_ms: i64) -> bool {
        let quiet = |minutes: u32| now_ms - updated_at_ms > i64::from(minutes) * 60_000;
        match self {
            Self::Daily { idle_minutes, .. } => {
                updated_at_ms < day_began_ms || idle_minutes.is_some_and(quiet)
            }
            Self::Idle { minutes } => quiet(minutes),
        }
    }
}

/// What a session is called: a name that it has, else the beginning of what a person said first, else
/// the beginning of its id with the day (`YYYY-MM-DD`) of its last change.
pub fn derived_title(
    names: &[Option<&str>],
    first_text: Option<&str>,
    session_id: &str,
    day: &str,
) -> String {
    let given = names.iter().flatten().map(|name| name.trim());
    if let Some(name) = given.into_iter().find(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let said: Vec<&str> = first_text.unwrap_or_default().split_whitespace().collect();
    if !said.is_empty() {
        return cut_at_word(&said.join(" "), TITLE_MAX);
    }
    let short: String = session_id.chars().take(8).collect();
    format!("{short} ({day})")
}

/// At most `max` characters, cut between words where there is a place.
fn cut_at_word(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let short: String = text.chars().take(max - 1).collect();
    let whole = match short.rfind(' ') {
        Some(at) if short[..at].chars().count() > max * 6 / 10 => &short[..at],
        _ => short.as_str(),
    };
    format!("{whole}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SessionKey, BadKey> {
        SessionKey::read(text, None, "main")
    }

    #[test]
    fn short_keys_are_those_of_an_agent() {
        for (text, agent, want) in [
            ("main", None, "agent:main:main"),
            (" Side ", None, "agent:main:side"),
            ("agent:Ops:Main", None, "agent:ops:main"),
            ("main", Some("ops"), "agent:ops:main"),
            ("agent:ops:x", Some("Ops"), "agent:ops:x"),
            ("global", None, "global"),
            ("UNKNOWN", None, "unknown"),
            (
                "telegram:group:-100/7",
                None,
                "agent:main:telegram:group:-100/7",
            ),
            ("hook:8c", None, "agent:main:hook:8c"),
        ] {
            let key = SessionKey::read(text, agent, "main").unwrap();
            assert_eq!(key.as_str(), want);
            assert_eq!(
                read(key.as_str()).unwrap(),
                SessionKey::read(want, None, "main").unwrap()
            );
        }
    }

    #[test]
    fn hostile_keys_are_none() {
        let long = "x".repeat(10_000);
        for (text, want) in [
            ("", BadKey::Empty),
            ("  ", BadKey::Empty),
            (long.as_str(), BadKey::TooLong),
            ("../x", BadKey::Characters),
            ("agent:main:../../x", BadKey::Characters),
            ("a/./b", BadKey::Characters),
            ("/etc/passwd", BadKey::Characters),
            ("a\0b", BadKey::Characters),
            ("a\nb", BadKey::Characters),
            ("a%2Fb", BadKey::Characters),
            ("ＨＯＯＫ:1", BadKey::Characters),
            ("ma\u{200b}in", BadKey::Characters),
            ("agent:", BadKey::Characters),
            ("agent:main", BadKey::Characters),
            ("agent:main:", BadKey::Characters),
            ("agent: :x", BadKey::Characters),
            ("agent:a/b:x", BadKey::Characters),
        ] {
            assert_eq!(read(text), Err(want), "{text:?}");
        }
        let foreign = SessionKey::read("agent:ops:x", Some("main"), "main");
        assert_eq!(foreign, Err(BadKey::OtherAgent));
        let odd = SessionKey::read("x", Some("a b"), "main");
        assert_eq!(odd, Err(BadKey::Characters));
    }

    #[test]
    fn a_key_tells_what_it_is_of() {
        let key = |text: &str| read(text).unwrap();
        assert!(key("main").is_main());
        assert!(!key("agent:main:main2").is_main());
        assert!(key("agent:main:cron:j1:run:s1").is_cron_run());
        assert!(!key("agent:main:cron:j1").is_cron_run());
        let job = key("agent:main:cron:j1:run:s1").of_job();
        assert_eq!(job, Some(key("agent:main:cron:j1")));
        assert_eq!(key("agent:main:cron:j1").of_job(), None);
        assert!(key("agent:main:subagent:u").is_made_by_session());
        assert_eq!(key("telegram:group:1").kind(None), Kind::Group);
        assert_eq!(key("telegram:direct:1").kind(None), Kind::Direct);
        assert_eq!(key("x").kind(Some("channel")), Kind::Group);
        assert_eq!(key("global").kind(None), Kind::Global);
        assert_eq!(key("telegram:work:direct:1").channel(), Some("telegram"));
        assert_eq!(key("cron:j1:run:channel").channel(), None);
        assert_eq!(key("main").channel(), None);
    }

    #[test]
    fn a_conversation_ends_with_the_day_or_after_quiet_minutes() {
        let hour = 3_600_000;
        let daily = ResetPolicy::DEFAULT;
        assert!(daily.is_over(3 * hour, 10 * hour, 4 * hour));
        assert!(!daily.is_over(5 * hour, 10 * hour, 4 * hour));
        let both = ResetPolicy::Daily {
            at_hour: 4,
            idle_minutes: Some(30),
        };
        assert!(both.is_over(5 * hour, 10 * hour, 4 * hour));
        let idle = ResetPolicy::Idle { minutes: 60 };
        assert!(!idle.is_over(9 * hour, 10 * hour, 4 * hour));
        assert!(idle.is_over(9 * hour - 1, 10 * hour, 4 * hour));
    }

    #[test]
    fn a_title_is_a_name_or_the_beginning_of_what_was_said() {
        let text =
            "System: [2026-11-23 02:12:26 UTC] Gateway restart config-patch ok (config.patch)";
        let titled = |names: &[Option<&str>], text| {
            derived_title(names, text, "09da009a-3415", "2026-11-23")
        };
        assert_eq!(titled(&[None, Some("Team")], Some(text)), "Team");
        assert_eq!(
            titled(&[None, Some(" ")], Some(text)),
            "System: [2026-11-23 02:12:26 UTC] Gateway restart…"
        );
        assert_eq!(titled(&[], Some(" a\n\n b ")), "a b");
        assert_eq!(titled(&[], None), "09da009a (2026-11-23)");
        assert_eq!(titled(&[], Some(&"ü".repeat(100))).chars().count(), 60);
    }
}
