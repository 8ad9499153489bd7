//! Updates of the program itself.

use crate::shape::{COUNT, Field, Shape, optional, since_v4};

/// `update.run`.
pub const RUN: &[Field] = &[
    optional("sessionKey", Shape::Text),
    optional("note", Shape::Str { min: 0, max: 2_048 }),
    optional("restartDelayMs", COUNT),
    optional(
        "timeoutMs",
        Shape::Int {
            min: 1,
            max: i64::MAX,
        },
    ),
    since_v4("continuationMessage", Shape::Text),
    since_v4("deliveryContext", Shape::Any),
    since_v4("target", Shape::Any),
];
