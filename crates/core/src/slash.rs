//! What a person types with a slash in front. A command is a short way to say what a method does, and
//! no way around that method's scope.

use clawgate_protocol::Method;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slash {
    /// `/help`: what there is.
    Help,
    /// `/status`: the session and its model.
    Status,
    /// `/new`, `/reset`: another conversation, which begins with this, if anything follows.
    New(String),
    /// `/model`: which one, or another one.
    Model(Option<String>),
    /// `/think`: how much, or another amount.
    Think(Option<String>),
    /// `/compact`: older messages are put away.
    Compact,
}

impl Slash {
    /// The method that does the same, whose scope it needs; `None` for what `chat.send` may.
    #[must_use]
    pub const fn method(&self) -> Option<Method> {
        match self {
            Self::Help | Self::Status | Self::Model(None) | Self::Think(None) => None,
            Self::New(_) => Some(Method::SessionsReset),
            Self::Model(Some(_)) | Self::Think(Some(_)) => Some(Method::SessionsPatch),
            Self::Compact => Some(Method::SessionsCompact),
        }
    }

    /// Reads a message. What is no command is said to the agent, slash and all.
    #[must_use]
    pub fn parse(message: &str) -> Option<Self> {
        let rest = message.trim().strip_prefix('/')?;
        let (word, argument) = match rest.split_once(char::is_whitespace) {
            Some((word, argument)) => (word, argument.trim()),
            None => (rest, ""),
        };
        let word = word.strip_suffix(':').unwrap_or(word);
        let given = || (!argument.is_empty()).then(|| argument.to_owned());
        Some(match word.to_ascii_lowercase().as_str() {
            "help" | "commands" => Self::Help,
            "status" => Self::Status,
            "new" | "reset" => Self::New(argument.to_owned()),
            "model" | "models" => Self::Model(given()),
            "think" | "thinking" | "t" => Self::Think(given()),
            "compact" => Self::Compact,
            _ => return None,
        })
    }
}

/// Whether a message says nothing but that the agent shall stop.
#[must_use]
pub fn is_stop(message: &str) -> bool {
    matches!(
        message.trim().to_ascii_lowercase().as_str(),
        "/stop" | "stop" | "/abort" | "abort"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_and_everything_else_is_said() {
        for (text, want) in [
            ("/help", Some(Slash::Help)),
            (" /STATUS ", Some(Slash::Status)),
            ("/new", Some(Slash::New(String::new()))),
            (
                "/reset hello  there",
                Some(Slash::New("hello  there".to_owned())),
            ),
            ("/model", Some(Slash::Model(None))),
            ("/model: a/b", Some(Slash::Model(Some("a/b".to_owned())))),
            ("/think high", Some(Slash::Think(Some("high".to_owned())))),
            ("/compact", Some(Slash::Compact)),
            ("/etc/passwd is a file", None),
            ("/newer", None),
            ("new", None),
            ("", None),
        ] {
            assert_eq!(Slash::parse(text), want, "{text:?}");
        }
    }

    #[test]
    fn only_a_word_alone_stops() {
        assert!(is_stop(" Stop "));
        assert!(is_stop("/abort"));
        assert!(!is_stop("stop the music"));
    }
}
