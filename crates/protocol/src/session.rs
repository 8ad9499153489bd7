//! Sessions: params.

use crate::shape::{COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4};

/// One or more.
const FROM_ONE: Shape = Shape::Int {
    min: 1,
    max: i64::MAX,
};
/// A name for people. Wire 3 allows 64 characters; that is looked at where it is used, because a
/// shape has one bound.
const LABEL: Shape = Shape::Str { min: 1, max: 512 };
const TEXT_OR_NULL: Shape = Shape::AnyOf(&[NON_EMPTY, Shape::Null]);
const LABEL_OR_NULL: Shape = Shape::AnyOf(&[LABEL, Shape::Null]);

/// Params of `sessions.list`.
pub const LIST: &[Field] = &[
    optional("limit", FROM_ONE),
    optional("activeMinutes", FROM_ONE),
    optional("includeGlobal", Shape::Bool),
    optional("includeUnknown", Shape::Bool),
    optional("includeDerivedTitles", Shape::Bool),
    optional("includeLastMessage", Shape::Bool),
    optional("label", LABEL),
    optional("spawnedBy", NON_EMPTY),
    optional("agentId", NON_EMPTY),
    optional("search", Shape::Text),
    since_v4("offset", COUNT),
    since_v4("requireLastInteraction", Shape::Bool),
    since_v4("sortBy", Shape::OneOf(&["updatedAt", "lastInteractionAt"])),
    since_v4("configuredAgentsOnly", Shape::Bool),
    since_v4("boardFace", Shape::OneOf(&["chat", "dashboard"])),
    since_v4("creatorId", NON_EMPTY),
    since_v4("ownerId", NON_EMPTY),
    since_v4("ownerFirst", Shape::Bool),
    since_v4("involvingMe", Shape::Bool),
    since_v4("involvingProfileId", NON_EMPTY),
    since_v4("includePeople", Shape::Bool),
    since_v4(
        "archived",
        Shape::AnyOf(&[Shape::Bool, Shape::Const("all")]),
    ),
];

/// Params of `sessions.preview`.
pub const PREVIEW: &[Field] = &[
    required(
        "keys",
        Shape::List {
            of: &NON_EMPTY,
            min: 1,
            max: 0,
        },
    ),
    optional("limit", FROM_ONE),
    optional(
        "maxChars",
        Shape::Int {
            min: 20,
            max: i64::MAX,
        },
    ),
];

/// Params of `sessions.resolve`.
pub const RESOLVE: &[Field] = &[
    optional("key", NON_EMPTY),
    optional("sessionId", NON_EMPTY),
    optional("label", LABEL),
    since_v4("shortId", NON_EMPTY),
    since_v4("slugHint", NON_EMPTY),
    optional("agentId", NON_EMPTY),
    optional("spawnedBy", NON_EMPTY),
    optional("includeGlobal", Shape::Bool),
    optional("includeUnknown", Shape::Bool),
    since_v4("allowMissing", Shape::Bool),
];

/// Params of `sessions.describe`.
pub const DESCRIBE: &[Field] = &[
    required("key", NON_EMPTY),
    optional("includeDerivedTitles", Shape::Bool),
    optional("includeLastMessage", Shape::Bool),
];

/// Params of `sessions.patch`.
pub const PATCH: &[Field] = &[
    required("key", NON_EMPTY),
    optional("label", LABEL_OR_NULL),
    optional("thinkingLevel", TEXT_OR_NULL),
    optional(
        "fastMode",
        Shape::AnyOf(&[Shape::Bool, Shape::Const("auto"), Shape::Null]),
    ),
    optional("verboseLevel", TEXT_OR_NULL),
    optional("reasoningLevel", TEXT_OR_NULL),
    optional(
        "responseUsage",
        Shape::AnyOf(&[Shape::OneOf(&["off", "tokens", "full", "on"]), Shape::Null]),
    ),
    optional("elevatedLevel", TEXT_OR_NULL),
    optional("execHost", TEXT_OR_NULL),
    optional("execSecurity", TEXT_OR_NULL),
    optional("execAsk", TEXT_OR_NULL),
    optional("execNode", TEXT_OR_NULL),
    optional("model", TEXT_OR_NULL),
    optional("spawnedBy", TEXT_OR_NULL),
    optional("spawnedWorkspaceDir", TEXT_OR_NULL),
    optional("spawnDepth", Shape::AnyOf(&[COUNT, Shape::Null])),
    optional(
        "subagentRole",
        Shape::AnyOf(&[Shape::OneOf(&["orchestrator", "leaf"]), Shape::Null]),
    ),
    optional(
        "subagentControlScope",
        Shape::AnyOf(&[Shape::OneOf(&["children", "none"]), Shape::Null]),
    ),
    optional(
        "sendPolicy",
        Shape::AnyOf(&[Shape::OneOf(&["allow", "deny"]), Shape::Null]),
    ),
    optional(
        "groupActivation",
        Shape::AnyOf(&[Shape::OneOf(&["mention", "always"]), Shape::Null]),
    ),
    since_v4("agentId", NON_EMPTY),
    since_v4("expectedSessionId", NON_EMPTY),
    since_v4("expectedLifecycleRevision", NON_EMPTY),
    since_v4(
        "icon",
        Shape::AnyOf(&[Shape::Str { min: 0, max: 64 }, Shape::Null]),
    ),
    since_v4(
        "color",
        Shape::AnyOf(&[Shape::Str { min: 0, max: 64 }, Shape::Null]),
    ),
    since_v4("category", LABEL_OR_NULL),
    since_v4(
        "statusNote",
        Shape::AnyOf(&[Shape::Str { min: 0, max: 120 }, Shape::Null]),
    ),
    since_v4(
        "attention",
        Shape::AnyOf(&[
            Shape::OneOf(&["hand", "key", "alert", "flag", "lock", "hourglass"]),
            Shape::Null,
        ]),
    ),
    since_v4("archived", Shape::Bool),
    since_v4("pinned", Shape::Bool),
    since_v4("unread", Shape::Bool),
    since_v4("traceLevel", TEXT_OR_NULL),
];

/// Settings of a session that change how it looks and not what it may do: wire 4 lets a writer set
/// them.
pub const COSMETIC: &[&str] = &[
    "label",
    "icon",
    "color",
    "category",
    "statusNote",
    "attention",
    "archived",
    "pinned",
    "unread",
];

/// Params of `sessions.reset`.
pub const RESET: &[Field] = &[
    required("key", NON_EMPTY),
    optional("reason", Shape::OneOf(&["new", "reset"])),
    since_v4("agentId", NON_EMPTY),
];

/// Params of `sessions.delete`.
pub const DELETE: &[Field] = &[
    required("key", NON_EMPTY),
    optional("deleteTranscript", Shape::Bool),
    optional("emitLifecycleHooks", Shape::Bool),
    since_v4("agentId", NON_EMPTY),
    since_v4("expectedSessionId", NON_EMPTY),
    since_v4("expectedLifecycleRevision", NON_EMPTY),
    since_v4("expectedSessionUpdatedAt", Shape::Number { min: 0 }),
    since_v4("archivedOnly", Shape::Bool),
];

/// Params of `sessions.compact`.
pub const COMPACT: &[Field] = &[
    required("key", NON_EMPTY),
    optional("maxLines", FROM_ONE),
    since_v4("agentId", NON_EMPTY),
];

/// Params of `sessions.cleanup`. What the original mends in its files needs no mending here.
pub const CLEANUP: &[Field] = &[
    optional("agent", NON_EMPTY),
    optional("allAgents", Shape::Bool),
    optional("enforce", Shape::Bool),
    optional("activeKey", NON_EMPTY),
    optional("fixMissing", Shape::Bool),
    optional("fixDmScope", Shape::Bool),
];

/// Params of `sessions.create`. Those that need an agent turn, a worktree or a project are known, so
/// that they are refused by what they need.
pub const CREATE: &[Field] = &[
    optional("key", NON_EMPTY),
    optional("idempotencyKey", NON_EMPTY),
    optional("agentId", NON_EMPTY),
    optional("label", LABEL),
    optional("displayName", Shape::Str { min: 1, max: 500 }),
    optional("category", LABEL),
    optional("model", NON_EMPTY),
    optional("contextWindow", NON_EMPTY),
    optional("thinkingLevel", NON_EMPTY),
    optional(
        "fastMode",
        Shape::AnyOf(&[Shape::Bool, Shape::Const("auto")]),
    ),
    optional(
        "permissionMode",
        Shape::OneOf(&["read-only", "guarded", "workspace", "full"]),
    ),
    optional("toolOverrides", Shape::MapOf(&Shape::Any)),
    optional("incognito", Shape::Bool),
    optional(
        "visibility",
        Shape::OneOf(&["shared", "read-only", "suggest", "draft"]),
    ),
    optional("catalogId", NON_EMPTY),
    optional("parentSessionKey", NON_EMPTY),
    optional("spawnDepth", FROM_ONE),
    optional("fork", Shape::Bool),
    optional("forkFrom", Shape::Const("last-completed")),
    optional("emitCommandHooks", Shape::Bool),
    optional("succeedsParent", Shape::Bool),
    optional("task", Shape::Text),
    optional("message", Shape::Text),
    optional(
        "attachments",
        Shape::List {
            of: &Shape::MapOf(&Shape::Any),
            min: 0,
            max: 0,
        },
    ),
    optional("projectId", NON_EMPTY),
    optional("projectGitUrl", Shape::Str { min: 1, max: 2_048 }),
    optional("worktree", Shape::Bool),
    optional("worktreeBaseRef", NON_EMPTY),
    optional("worktreeName", Shape::Str { min: 1, max: 64 }),
    optional("execNode", NON_EMPTY),
    optional("cwd", NON_EMPTY),
];

/// Params of `sessions.create` that ask for what is not served here, with what that is.
pub const CREATE_NEEDS: &[(&str, &str)] = &[
    ("message", "agent turns"),
    ("task", "agent turns"),
    ("attachments", "agent turns"),
    ("fork", "branches of conversations"),
    ("forkFrom", "branches of conversations"),
    ("catalogId", "session catalogs"),
    ("projectId", "projects"),
    ("projectGitUrl", "projects"),
    ("worktree", "worktrees"),
    ("worktreeBaseRef", "worktrees"),
    ("worktreeName", "worktrees"),
    ("cwd", "agent turns"),
    ("execNode", "agent turns"),
    ("permissionMode", "permission modes"),
    ("toolOverrides", "tool overrides"),
    ("incognito", "sessions that are not kept"),
    ("visibility", "shared sessions"),
];

/// Params of `sessions.search`.
pub const SEARCH: &[Field] = &[
    required("query", Shape::Str { min: 1, max: 4_096 }),
    optional("agentId", NON_EMPTY),
    optional(
        "sessionKeys",
        Shape::List {
            of: &NON_EMPTY,
            min: 1,
            max: 200,
        },
    ),
    optional("limit", Shape::Int { min: 1, max: 25 }),
];

/// Params of `sessions.messages.subscribe`.
pub const MESSAGES_SUBSCRIBE: &[Field] = &[
    required("key", NON_EMPTY),
    optional("agentId", NON_EMPTY),
    optional("includeApprovals", Shape::Bool),
];
/// Params of `sessions.messages.unsubscribe`.
pub const MESSAGES_UNSUBSCRIBE: &[Field] =
    &[required("key", NON_EMPTY), optional("agentId", NON_EMPTY)];

/// Params of clawgate's own `sessions.export`: a session's present conversation, or what was put away
/// under a name, after a line.
pub const EXPORT: &[Field] = &[
    optional("key", NON_EMPTY),
    optional("archive", NON_EMPTY),
    optional("after", COUNT),
];

/// Params of clawgate's own `sessions.import`: the lines of a transcript for a session that has none.
pub const IMPORT: &[Field] = &[
    required("key", NON_EMPTY),
    required(
        "lines",
        Shape::List {
            of: &Shape::Text,
            min: 1,
            max: 0,
        },
    ),
];
