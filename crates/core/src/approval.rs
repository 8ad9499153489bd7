//! Approvals: what exactly is decided, how it is shown, and whether a decision still may be made.
//!
//! A decision is about bytes: the command line, the directory, the variables, the program and the
//! script, each as it was shown. [`Bound::digest`] is over all of them, and whoever runs the
//! command computes it again.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// What somebody decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This one run.
    AllowOnce,
    /// This run, and the same again.
    AllowAlways,
    /// Not.
    Deny,
}

impl Decision {
    /// The wire's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowOnce => "allow-once",
            Self::AllowAlways => "allow-always",
            Self::Deny => "deny",
        }
    }

    /// From the wire's word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::AllowOnce, Self::AllowAlways, Self::Deny]
            .into_iter()
            .find(|decision| decision.as_str() == word)
    }

    /// Whether it lets anything run.
    pub fn allows(self) -> bool {
        self != Self::Deny
    }
}

/// Everything that a decision is about. Absent and empty are different.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bound<'a> {
    /// `node`, `gateway`, or whatever the caller said.
    pub host: Option<&'a str>,
    /// On which node.
    pub node: Option<&'a str>,
    /// What was shown, in full.
    pub command: &'a str,
    /// The command line, where there is one.
    pub argv: &'a [String],
    /// Where it runs.
    pub cwd: Option<&'a str>,
    /// Variables that the caller sets, sorted by name.
    pub env: &'a [(&'a str, &'a str)],
    /// For which agent.
    pub agent: Option<&'a str>,
    /// In which session.
    pub session: Option<&'a str>,
    /// The program, absolute.
    pub program: Option<&'a str>,
    /// SHA-256 of it, hex.
    pub program_sha256: Option<&'a str>,
    /// The script that the command line names, and its SHA-256.
    pub operand: Option<(&'a str, &'a str)>,
}

impl Bound<'_> {
    /// SHA-256 over all of it, hex. Every part is written with its length, so that no two of them
    /// read alike.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |text: Option<&str>| match text {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
        };
        let count = |length: usize| length.to_string();
        part(Some("clawgate approval 1"));
        part(self.host);
        part(self.node);
        part(Some(self.command));
        part(Some(&count(self.argv.len())));
        for argument in self.argv {
            part(Some(argument));
        }
        part(self.cwd);
        part(Some(&count(self.env.len())));
        for (name, value) in self.env {
            part(Some(name));
            part(Some(value));
        }
        part(self.agent);
        part(self.session);
        part(self.program);
        part(self.program_sha256);
        part(self.operand.map(|(path, _)| path));
        part(self.operand.map(|(_, sha256)| sha256));
        crate::proof::hex(&hash.finalize())
    }
}

/// A command as a person may read it: what moves the cursor, hides or reorders text is written as
/// its number, so that what is read is what is there.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if hides(character) {
            write!(shown, "\\u{{{:X}}}", u32::from(character))
                .expect("writing to a string does not fail");
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Controls, formatting characters, separators of lines and fillers that have no width.
pub fn hides(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            0xAD | 0x34F | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2
            | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
            | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0
            | 0xFFF0..=0xFFFB | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3
            | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

/// A command line as text that says where each argument begins and ends.
pub fn rendered(argv: &[String]) -> String {
    let quoted = argv.iter().map(|argument| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What is shown for a command: the caller's text where it says what the command line does, and
/// otherwise the command line.
pub fn told(text: Option<&str>, argv: &[String]) -> Option<String> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    if argv.is_empty() {
        return text.map(shown);
    }
    // Quoting is a matter of style; everything else has to be the same, in the same order.
    let bare = |text: &str| -> String {
        let style = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\');
        text.chars().filter(|c| !style(*c)).collect()
    };
    match text {
        Some(text) if bare(text) == bare(&argv.concat()) => Some(shown(text)),
        _ => Some(shown(&rendered(argv))),
    }
}

/// Whether a name can be that of a variable everywhere.
pub fn is_variable(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody decided yet.
    Waits,
    /// Somebody did.
    Decided(Decision),
    /// Its time is over, which denies it.
    Expired,
}

/// How long a request waits at most, milliseconds.
pub const WAITS_MAX_MS: i64 = 24 * 3_600_000;

/// Where a request stands now. One whose time is over is expired whatever was written down, and so is
/// one that would wait for longer than any may: the clock went back since.
pub fn standing(
    decision: Option<Decision>,
    expired: bool,
    expires_at_ms: i64,
    now_ms: i64,
) -> Standing {
    match decision {
        Some(decision) => Standing::Decided(decision),
        None if expired
            || now_ms >= expires_at_ms
            || expires_at_ms.saturating_sub(now_ms) > WAITS_MAX_MS =>
        {
            Standing::Expired
        }
        None => Standing::Waits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(argv: &[&str]) -> Vec<String> {
        argv.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn everything_that_is_decided_about_is_in_the_digest() {
        let argv = words(&["a", "b"]);
        let one = Bound {
            host: Some("node"),
            command: "a b",
            argv: &argv,
            cwd: Some("/"),
            env: &[("A", "1")],
            ..Bound::default()
        };
        let joined = words(&["ab"]);
        let mut seen = std::collections::HashSet::from([one.digest()]);
        for other in [
            Bound { host: None, ..one },
            Bound {
                node: Some(""),
                ..one
            },
            Bound {
                node: Some("n"),
                ..one
            },
            Bound {
                command: "a",
                ..one
            },
            Bound {
                argv: &joined,
                ..one
            },
            Bound { argv: &[], ..one },
            Bound { cwd: None, ..one },
            Bound { env: &[], ..one },
            Bound {
                env: &[("A", "2")],
                ..one
            },
            Bound {
                env: &[("A1", "")],
                ..one
            },
            Bound {
                agent: Some("a"),
                ..one
            },
            Bound {
                session: Some("a"),
                ..one
            },
            Bound {
                program: Some("a"),
                ..one
            },
            Bound {
                program_sha256: Some("a"),
                ..one
            },
            Bound {
                operand: Some(("a", "b")),
                ..one
            },
            Bound {
                operand: Some(("", "ab")),
                ..one
            },
        ] {
            assert!(seen.insert(other.digest()), "{other:?}");
        }
        assert_eq!(one.digest(), Bound { ..one }.digest());
    }

    #[test]
    fn what_hides_or_reorders_is_shown_by_its_number() {
        assert_eq!(shown("ls -la ~/ü"), "ls -la ~/ü");
        assert_eq!(
            shown("a\u{202E}b\u{200B}\n\u{1b}[2K"),
            "a\\u{202E}b\\u{200B}\\u{A}\\u{1B}[2K"
        );
    }

    #[test]
    fn a_text_that_says_something_else_than_the_command_line_is_not_shown() {
        let argv = words(&["sh", "-c", "rm -rf \"$HOME\""]);
        for same in ["sh -c \"rm -rf $HOME\"", "sh -c 'rm -rf \"$HOME\"'"] {
            assert_eq!(told(Some(same), &argv).unwrap(), same);
        }
        for other in [Some("ls"), Some("sh -c ls"), Some("  "), None] {
            assert_eq!(
                told(other, &argv).unwrap(),
                "sh -c 'rm -rf \"$HOME\"'",
                "{other:?}"
            );
        }
        assert_eq!(told(Some("ls | head"), &[]).unwrap(), "ls | head");
        assert_eq!(told(None, &[]), None);
        assert_eq!(
            rendered(&words(&["a b", "", "it's"])),
            r"'a b' '' 'it'\''s'"
        );
    }

    #[test]
    fn what_is_over_is_denied_whoever_looks() {
        assert_eq!(standing(None, false, 10, 9), Standing::Waits);
        assert_eq!(standing(None, false, 10, 10), Standing::Expired);
        assert_eq!(standing(None, true, 10, 9), Standing::Expired);
        let far = 10 + WAITS_MAX_MS;
        assert_eq!(standing(None, false, far, 10), Standing::Waits);
        assert_eq!(standing(None, false, far, 9), Standing::Expired);
        let once = Some(Decision::AllowOnce);
        assert_eq!(
            standing(once, false, 10, 11),
            Standing::Decided(Decision::AllowOnce)
        );
    }
}
