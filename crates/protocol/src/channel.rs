//! Channels and messages through them. No channel is connected to this gateway: what asks about
//! them is answered truthfully, what needs one is refused.

use crate::shape::{COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4};

/// `channels.status`.
pub const STATUS: &[Field] = &[
    optional("probe", Shape::Bool),
    optional("timeoutMs", COUNT),
    since_v4("channel", NON_EMPTY),
];
/// `channels.logout`.
pub const LOGOUT: &[Field] = &[
    required("channel", NON_EMPTY),
    optional("accountId", Shape::Text),
];
/// `web.login.start`.
pub const LOGIN_START: &[Field] = &[
    optional("force", Shape::Bool),
    optional("timeoutMs", COUNT),
    optional("verbose", Shape::Bool),
    optional("accountId", Shape::Text),
];
/// `web.login.wait`.
pub const LOGIN_WAIT: &[Field] = &[
    optional("timeoutMs", COUNT),
    optional("accountId", Shape::Text),
    since_v4("currentQrDataUrl", Shape::Text),
];
/// `send`.
pub const SEND: &[Field] = &[
    required("to", NON_EMPTY),
    optional("message", Shape::Text),
    optional("mediaUrl", Shape::Text),
    optional(
        "mediaUrls",
        Shape::List {
            of: &Shape::Text,
            min: 0,
            max: 0,
        },
    ),
    optional("gifPlayback", Shape::Bool),
    optional("channel", Shape::Text),
    optional("accountId", Shape::Text),
    optional("agentId", Shape::Text),
    optional("threadId", Shape::Text),
    optional("sessionKey", Shape::Text),
    required("idempotencyKey", NON_EMPTY),
    since_v4("asVoice", Shape::Bool),
    since_v4("buffer", Shape::Text),
    since_v4("contentType", Shape::Text),
    since_v4("filename", Shape::Text),
    since_v4("forceDocument", Shape::Bool),
    since_v4("parseMode", Shape::Text),
    since_v4("replyToId", Shape::Text),
    since_v4("silent", Shape::Bool),
];
/// `poll`.
pub const POLL: &[Field] = &[
    required("to", NON_EMPTY),
    required("question", NON_EMPTY),
    required(
        "options",
        Shape::List {
            of: &NON_EMPTY,
            min: 2,
            max: 12,
        },
    ),
    optional("maxSelections", Shape::Int { min: 1, max: 12 }),
    optional(
        "durationSeconds",
        Shape::Int {
            min: 1,
            max: 604_800,
        },
    ),
    optional(
        "durationHours",
        Shape::Int {
            min: 1,
            max: i64::MAX,
        },
    ),
    optional("silent", Shape::Bool),
    optional("isAnonymous", Shape::Bool),
    optional("threadId", Shape::Text),
    optional("channel", Shape::Text),
    optional("accountId", Shape::Text),
    required("idempotencyKey", NON_EMPTY),
];
/// `push.test`.
pub const PUSH_TEST: &[Field] = &[
    required("nodeId", NON_EMPTY),
    optional("title", Shape::Text),
    optional("body", Shape::Text),
    optional("environment", Shape::OneOf(&["sandbox", "production"])),
];
