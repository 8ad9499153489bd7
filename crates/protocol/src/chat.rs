//! Chat: params.

use crate::shape::{COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4};

/// Params of `chat.history`.
pub const HISTORY: &[Field] = &[
    required("sessionKey", NON_EMPTY),
    optional("limit", Shape::Int { min: 1, max: 1_000 }),
    since_v4("agentId", NON_EMPTY),
    since_v4("cursor", Shape::Text),
    since_v4("offset", COUNT),
    since_v4(
        "pendingBefore",
        Shape::Int {
            min: 1,
            max: i64::MAX,
        },
    ),
    since_v4(
        "inputRunIds",
        Shape::List {
            of: &Shape::Str { min: 1, max: 256 },
            min: 1,
            max: 50,
        },
    ),
    since_v4("messageId", NON_EMPTY),
    since_v4("sessionId", NON_EMPTY),
    since_v4(
        "maxChars",
        Shape::Int {
            min: 1,
            max: 500_000,
        },
    ),
];

/// Params of `chat.inject`.
pub const INJECT: &[Field] = &[
    required("sessionKey", NON_EMPTY),
    required("message", NON_EMPTY),
    optional("label", Shape::Str { min: 0, max: 100 }),
    since_v4("agentId", NON_EMPTY),
];

/// Params of `chat.message.get`.
pub const MESSAGE_GET: &[Field] = &[
    required("sessionKey", NON_EMPTY),
    required("messageId", NON_EMPTY),
    optional("agentId", NON_EMPTY),
    optional(
        "maxChars",
        Shape::Int {
            min: 1,
            max: 2_000_000,
        },
    ),
];
