//! What a chat asks of the gateway, and the words after a slash.

use serde_json::{Value, json};

/// Messages of a page of the history.
pub(super) const PAGE: u64 = 200;

/// A call under way, or to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A message; the key is the run's id, so asking again starts nothing twice.
    Send { text: String, run: String },
    /// The end of a run, or of whatever runs.
    Abort { run: Option<String> },
    /// The newest messages, or those before so many.
    History { offset: Option<u64> },
    /// Whether a run still goes on.
    Waited { run: String },
    /// A conversation begun anew.
    Reset,
    /// Another model for the session.
    Model(String),
    /// Models to choose from.
    Models,
    /// Other sessions.
    Sessions,
    /// The session's row: model and tokens.
    Status,
    /// Commands that wait for a decision.
    Approvals,
    /// A decision.
    Decide { id: String, decision: &'static str },
}

impl Ask {
    /// The method that is called.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Send { .. } => "chat.send",
            Self::Abort { .. } => "chat.abort",
            Self::History { .. } => "chat.history",
            Self::Waited { .. } => "agent.wait",
            Self::Reset => "sessions.reset",
            Self::Model(_) => "sessions.patch",
            Self::Models => "models.list",
            Self::Sessions | Self::Status => "sessions.list",
            Self::Approvals => "exec.approval.list",
            Self::Decide { .. } => "exec.approval.resolve",
        }
    }

    /// Its params in a session.
    pub(super) fn params(&self, key: &str, say: &Saying) -> Value {
        match self {
            Self::Send { text, run } => {
                let mut params = json!({"sessionKey": key, "message": text, "deliver": say.deliver,
                    "idempotencyKey": run});
                if let Some(level) = &say.thinking {
                    params["thinking"] = json!(level);
                }
                if let Some(ms) = say.timeout_ms {
                    params["timeoutMs"] = json!(ms);
                }
                params
            }
            Self::Abort { run: Some(run) } => json!({"sessionKey": key, "runId": run}),
            Self::Abort { run: None } => json!({"sessionKey": key}),
            Self::History { offset: None } => json!({"sessionKey": key, "limit": say.page}),
            Self::History {
                offset: Some(offset),
            } => json!({"sessionKey": key, "limit": say.page, "offset": offset}),
            Self::Waited { run } => json!({"runId": run, "timeoutMs": 0}),
            Self::Reset => json!({"key": key}),
            Self::Model(name) => json!({"key": key, "model": name}),
            Self::Models | Self::Approvals => json!({}),
            Self::Sessions => json!({"limit": 20}),
            Self::Status => json!({"search": key, "limit": 20}),
            Self::Decide { id, decision } => json!({"id": id, "decision": decision}),
        }
    }
}

/// What goes with every message.
#[derive(Clone, Debug)]
pub(super) struct Saying {
    pub(super) thinking: Option<String>,
    pub(super) deliver: bool,
    pub(super) timeout_ms: Option<u64>,
    /// Messages of a page of the history.
    pub(super) page: u64,
}

/// A line that begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slash {
    Help,
    Reset,
    Abort,
    /// With a name, or the list of them.
    Model(Option<String>),
    Thinking(Option<String>),
    History,
    Sessions,
    Session(String),
    Status,
    /// A decision on what waits: the oldest, or the one of this id.
    Decide(&'static str, Option<String>),
    Exit,
    /// Nothing of that name, or something missing behind it.
    Wrong(String),
}

/// What is shown for `/help`, and in the documentation.
pub(super) const HELP: &[&str] = &[
    "/help                what can be typed",
    "/new, /reset         begin the conversation anew",
    "/abort               end what runs (Esc)",
    "/model [NAME]        models, or another one for this session",
    "/thinking [LEVEL]    how much the model thinks from now on",
    "/history             older messages (PageUp)",
    "/sessions            other sessions; /session KEY goes there",
    "/status              this session: model and tokens",
    "/allow [ID]          let the command that waits run (F2)",
    "/always [ID]         and the same again without asking (F3)",
    "/deny [ID]           do not let it run (F4)",
    "/exit                leave (Ctrl-D); what runs goes on",
    "//TEXT               say something that begins with a slash",
    "Alt-Enter, Ctrl-J or \\ before Enter begin another line",
];

/// Reads a line; `None` where it is something to say.
pub(super) fn slash(line: &str) -> Option<Slash> {
    let line = line.trim();
    let rest = line.strip_prefix('/')?;
    if rest.starts_with('/') {
        return None;
    }
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let given = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
    Some(match (word.to_ascii_lowercase().as_str(), given) {
        ("help" | "?", _) => Slash::Help,
        ("new" | "reset", _) => Slash::Reset,
        ("abort" | "stop", _) => Slash::Abort,
        ("model" | "models", name) => Slash::Model(name),
        ("thinking" | "think", level) => Slash::Thinking(level),
        ("history", _) => Slash::History,
        ("sessions", _) | ("session", None) => Slash::Sessions,
        ("session", Some(key)) => Slash::Session(key),
        ("status", _) => Slash::Status,
        ("allow", id) => Slash::Decide("allow-once", id),
        ("always", id) => Slash::Decide("allow-always", id),
        ("deny", id) => Slash::Decide("deny", id),
        ("exit" | "quit" | "q", _) => Slash::Exit,
        (other, _) => Slash::Wrong(format!(
            "/{other} is nothing here; /help shows what is, //{other} says it to the agent"
        )),
    })
}

/// What is said where a line is no command: a doubled slash is one.
pub(super) fn said(line: &str) -> &str {
    match line.strip_prefix("//") {
        Some(_) => &line[1..],
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_after_a_slash_are_commands_and_two_slashes_are_words() {
        assert_eq!(slash("hello /help"), None);
        assert_eq!(slash(" /HELP "), Some(Slash::Help));
        assert_eq!(
            slash("/session  work x"),
            Some(Slash::Session("work x".to_owned()))
        );
        assert_eq!(slash("/session"), Some(Slash::Sessions));
        assert_eq!(slash("/deny"), Some(Slash::Decide("deny", None)));
        assert_eq!(
            slash("/model a/b"),
            Some(Slash::Model(Some("a/b".to_owned())))
        );
        assert!(matches!(slash("/frobnicate"), Some(Slash::Wrong(_))));
        assert_eq!(slash("//etc is a directory"), None);
        assert_eq!(said("//etc"), "/etc");
        assert_eq!(said("etc"), "etc");
    }

    #[test]
    fn a_message_carries_what_was_chosen_for_it() {
        let say = Saying {
            thinking: Some("high".to_owned()),
            deliver: false,
            timeout_ms: Some(5),
            page: PAGE,
        };
        let ask = Ask::Send {
            text: "hi".to_owned(),
            run: "r".to_owned(),
        };
        assert_eq!(
            ask.params("agent:main:main", &say),
            json!({"sessionKey": "agent:main:main", "message": "hi", "deliver": false,
                "idempotencyKey": "r", "thinking": "high", "timeoutMs": 5})
        );
    }
}
