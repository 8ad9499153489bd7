//! What can go wrong between here and an answer.

use std::{fmt, io, time::Duration};

use clawgate_protocol::ReceivedError;

use crate::endpoint::EndpointError;

/// How the peer ended a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseInfo {
    /// Close code; absent when the peer went away without a close frame.
    pub code: Option<u16>,
    /// Close reason, often empty.
    pub reason: String,
}

impl fmt::Display for CloseInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.reason.is_empty()) {
            (Some(code), true) => write!(f, "close code {code}"),
            (Some(code), false) => write!(f, "close code {code}, {}", self.reason),
            (None, _) => f.write_str("no close frame"),
        }
    }
}

/// What a deadline was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The TCP and TLS connection.
    Connection,
    /// The answer to the WebSocket upgrade.
    Upgrade,
    /// `connect.challenge`.
    Challenge,
    /// The answer to `connect`.
    Hello,
    /// The answer to a request.
    Answer,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "the connection",
            Self::Upgrade => "the WebSocket upgrade",
            Self::Challenge => "the gateway's challenge",
            Self::Hello => "the answer to connect",
            Self::Answer => "the answer",
        })
    }
}

/// Why there is no session, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL may not be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody answers there, or TLS failed.
    #[error("connect failed: {source}")]
    Connect {
        /// What the system or TLS said.
        #[source]
        source: io::Error,
    },
    /// Something answers there, but it is no WebSocket.
    #[error("the WebSocket upgrade was answered with HTTP {status}")]
    Upgrade {
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        body: String,
    },
    /// The gateway refused the connect, and said why.
    #[error("connect refused: {}", error.message)]
    Rejected {
        /// The gateway's error.
        error: Box<ReceivedError>,
        /// How it closed afterwards.
        close: Option<CloseInfo>,
    },
    /// The connection ended before an answer.
    #[error("the gateway closed the connection ({close})")]
    Closed {
        /// How.
        close: CloseInfo,
        /// Whether hello-ok had been received.
        after_hello: bool,
    },
    /// A deadline passed.
    #[error("no sign of {waiting} within {} ms", after.as_millis())]
    Timeout {
        /// What was waited for.
        waiting: Waiting,
        /// For how long.
        after: Duration,
    },
    /// The peer does not speak this protocol.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// A local proof was wanted, and the gateway does not take one.
    #[error("the gateway takes no local proof")]
    NoLocalProof,
    /// A request was answered with an error.
    #[error("{method} failed: {}", error.message)]
    Failed {
        /// Which method.
        method: String,
        /// The gateway's error.
        error: Box<ReceivedError>,
    },
}

impl ClientError {
    /// The gateway's own error, when there is one.
    pub fn received(&self) -> Option<&ReceivedError> {
        match self {
            Self::Rejected { error, .. } | Self::Failed { error, .. } => Some(error),
            Self::Endpoint(_)
            | Self::Connect { .. }
            | Self::Upgrade { .. }
            | Self::Closed { .. }
            | Self::Timeout { .. }
            | Self::Protocol(_)
            | Self::NoLocalProof => None,
        }
    }

    /// How the peer closed, when it did.
    pub fn close(&self) -> Option<&CloseInfo> {
        match self {
            Self::Rejected { close, .. } => close.as_ref(),
            Self::Closed { close, .. } => Some(close),
            Self::Endpoint(_)
            | Self::Connect { .. }
            | Self::Upgrade { .. }
            | Self::Timeout { .. }
            | Self::Protocol(_)
            | Self::NoLocalProof
            | Self::Failed { .. } => None,
        }
    }

    /// Whether the same call can succeed a little later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Closed { close, .. } => matches!(close.code, Some(1012 | 1013) | None),
            Self::Timeout { .. } => true,
            Self::Rejected { error, .. } | Self::Failed { error, .. } => {
                error.retryable == Some(true)
            }
            Self::Endpoint(_) | Self::Upgrade { .. } | Self::Protocol(_) | Self::NoLocalProof => {
                false
            }
        }
    }

    /// Whether a person must approve this device first.
    pub fn needs_pairing(&self) -> bool {
        self.received()
            .is_some_and(|error| error.detail_code() == Some("PAIRING_REQUIRED"))
    }

    /// The pending request that would help, when the gateway names one.
    pub fn pairing_request(&self) -> Option<&str> {
        self.received().and_then(|error| error.detail("requestId"))
    }

    /// Whether the credential itself was refused (and another one might be taken).
    pub fn is_credential_refusal(&self) -> bool {
        self.detail_code()
            .is_some_and(|code| code.starts_with("AUTH_") && code != "AUTH_RATE_LIMITED")
    }

    /// Whether the gateway stopped listening to credentials for a while.
    pub fn is_rate_limited(&self) -> bool {
        self.detail_code() == Some("AUTH_RATE_LIMITED")
    }

    /// `details.code` of the gateway's error.
    pub fn detail_code(&self) -> Option<&str> {
        self.received().and_then(ReceivedError::detail_code)
    }

    /// The scope that a call lacked.
    pub fn missing_scope(&self) -> Option<&str> {
        self.received().and_then(ReceivedError::missing_scope)
    }

    /// Whether a peer was there at all.
    pub fn was_reached(&self) -> bool {
        match self {
            Self::Endpoint(_) | Self::Connect { .. } => false,
            Self::Timeout { waiting, .. } => *waiting != Waiting::Connection,
            Self::Upgrade { .. }
            | Self::Rejected { .. }
            | Self::Closed { .. }
            | Self::Protocol(_)
            | Self::NoLocalProof
            | Self::Failed { .. } => true,
        }
    }
}
