//! The only words of failure that a peer ever reads.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which of the two wire versions a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Wire version 3 (OpenClaw 2026.3.x).
    V3,
    /// Wire version 4 (OpenClaw 2026.9.x).
    V4,
}

impl Dialect {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V3, Self::V4];

    /// The number in `hello-ok.protocol`.
    pub fn version(self) -> u32 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// The newest dialect inside the offered range, if any.
    pub fn negotiate(min: u64, max: u64) -> Option<Self> {
        if min <= 4 && 4 <= max {
            Some(Self::V4)
        } else if min <= 3 && 3 <= max {
            Some(Self::V3)
        } else {
            None
        }
    }
}

/// First-level error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// Validation, unknown method, failed auth, wrong role; in wire 3 also a missing scope.
    InvalidRequest,
    /// No device identity, or pairing required.
    NotPaired,
    /// A channel is not linked.
    NotLinked,
    /// An agent run timed out.
    AgentTimeout,
    /// The gateway cannot do it now.
    Unavailable,
    /// Wire 4: missing scope.
    Forbidden,
    /// Wire 4: no such approval.
    ApprovalNotFound,
}

impl ErrorCode {
    /// The wire's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::NotPaired => "NOT_PAIRED",
            Self::NotLinked => "NOT_LINKED",
            Self::AgentTimeout => "AGENT_TIMEOUT",
            Self::Unavailable => "UNAVAILABLE",
            Self::Forbidden => "FORBIDDEN",
            Self::ApprovalNotFound => "APPROVAL_NOT_FOUND",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The `error` member of a response. Key order is the wire's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorShape {
    /// First-level code.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub message: String,
    /// Second-level facts, among them `code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Whether trying again can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// How long to wait before trying again, in milliseconds.
    #[serde(rename = "retryAfterMs", skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Bytes of an error's message at most.
pub const MESSAGE_MAX: usize = 8_192;

impl ErrorShape {
    /// An error with code and message alone. A message that repeats what a caller sent is cut at
    /// [`MESSAGE_MAX`], so that it does not buy a long answer.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            message.truncate(cut(&message, MESSAGE_MAX).len());
            message.push('…');
        }
        Self {
            code,
            message,
            details: None,
            retryable: None,
            retry_after_ms: None,
        }
    }

    /// `INVALID_REQUEST` with a message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// `UNAVAILABLE` with a message.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The same, marked as worth trying again after `after_ms`.
    #[must_use]
    pub fn retry_after(mut self, after_ms: u64) -> Self {
        self.retryable = Some(true);
        self.retry_after_ms = Some(after_ms);
        self
    }

    /// `details.code`, where there is one.
    pub fn detail_code(&self) -> Option<&str> {
        self.details.as_ref()?.get("code")?.as_str()
    }

    /// The most exact code that it has.
    pub fn exact_code(&self) -> &str {
        self.detail_code().unwrap_or(self.code.as_str())
    }
}

/// An error as a client receives it. Codes of other gateways are kept as text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ReceivedError {
    /// First-level code, whatever it is.
    #[serde(default)]
    pub code: String,
    /// The gateway's sentence.
    #[serde(default)]
    pub message: String,
    /// Second-level facts.
    #[serde(default)]
    pub details: Option<Value>,
    /// Whether trying again can help.
    #[serde(default)]
    pub retryable: Option<bool>,
    /// How long to wait, in milliseconds.
    #[serde(default, rename = "retryAfterMs")]
    pub retry_after_ms: Option<u64>,
}

impl ReceivedError {
    /// `details.code`, where there is one.
    pub fn detail_code(&self) -> Option<&str> {
        self.details.as_ref()?.get("code")?.as_str()
    }

    /// A text member of `details`.
    pub fn detail(&self, key: &str) -> Option<&str> {
        self.details.as_ref()?.get(key)?.as_str()
    }

    /// The scope that was missing, in the words of either dialect.
    pub fn missing_scope(&self) -> Option<&str> {
        self.detail("missingScope")
            .or_else(|| self.message.strip_prefix("missing scope: "))
    }
}

/// Cuts a close reason to the 120 bytes that the original allows itself, on a character boundary.
pub fn close_reason(text: &str) -> &str {
    cut(text, 120)
}

/// As much of a text as fits into so many bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_dialect_in_the_range_is_chosen() {
        for (min, max, want) in [
            (3, 3, Some(Dialect::V3)),
            (4, 4, Some(Dialect::V4)),
            (3, 4, Some(Dialect::V4)),
            (1, 99, Some(Dialect::V4)),
            (1, 2, None),
            (5, 9, None),
            (4, 3, None),
            (99, 99, None),
        ] {
            assert_eq!(Dialect::negotiate(min, max), want, "{min}..{max}");
        }
    }

    #[test]
    fn a_close_reason_is_cut_on_a_character_boundary() {
        assert_eq!(close_reason("short"), "short");
        let long = "ü".repeat(100);
        assert_eq!(close_reason(&long).len(), 120);
        let odd = format!("a{}", "ü".repeat(100));
        assert_eq!(close_reason(&odd).len(), 119);
    }
}
