//! Usage: params.

use crate::shape::{Field, NON_EMPTY, Shape, optional, since_v4};

/// Params of `sessions.usage`. Dates and offsets are looked at where they are read.
pub const SESSIONS: &[Field] = &[
    optional("key", NON_EMPTY),
    optional("startDate", Shape::Text),
    optional("endDate", Shape::Text),
    optional("mode", Shape::OneOf(&["utc", "gateway", "specific"])),
    optional("utcOffset", Shape::Text),
    optional(
        "limit",
        Shape::Int {
            min: 1,
            max: i64::MAX,
        },
    ),
    optional("includeContextWeight", Shape::Bool),
    since_v4("agentId", NON_EMPTY),
    since_v4("agentScope", Shape::Const("all")),
    since_v4("range", Shape::OneOf(&["7d", "30d", "90d", "1y", "all"])),
    since_v4("groupBy", Shape::OneOf(&["instance", "family"])),
    since_v4("includeHistorical", Shape::Bool),
    since_v4("timeZone", NON_EMPTY),
];
