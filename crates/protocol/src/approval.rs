//! Approvals: a command that waits for somebody to let it run, and the file of what runs unasked.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    exec_policy::File,
    shape::{COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4},
};

const TEXT_OR_NULL: Shape = Shape::AnyOf(&[Shape::Text, Shape::Null]);
const NON_EMPTY_OR_NULL: Shape = Shape::AnyOf(&[NON_EMPTY, Shape::Null]);
const TEXTS: Shape = Shape::List {
    of: &Shape::Text,
    min: 0,
    max: 0,
};
const NAMES: Shape = Shape::List {
    of: &NON_EMPTY,
    min: 0,
    max: 256,
};

const OPERAND: Shape = Shape::AnyOf(&[
    Shape::Object(&[
        required("argvIndex", COUNT),
        required("path", Shape::Text),
        required("sha256", Shape::Text),
    ]),
    Shape::Null,
]);
const PLAN: &[Field] = &[
    required("argv", TEXTS),
    required("cwd", TEXT_OR_NULL),
    required("commandText", Shape::Text),
    optional("commandPreview", TEXT_OR_NULL),
    required("agentId", TEXT_OR_NULL),
    required("sessionKey", TEXT_OR_NULL),
    since_v4("policySnapshot", Shape::MapOf(&Shape::Any)),
    optional("mutableFileOperand", OPERAND),
];
const SPANS: Shape = Shape::List {
    of: &Shape::Object(&[
        required("startIndex", COUNT),
        required(
            "endIndex",
            Shape::Int {
                min: 1,
                max: i64::MAX,
            },
        ),
    ]),
    min: 0,
    max: 1_024,
};

/// Shape of the params of `exec.approval.request`.
pub const REQUEST: &[Field] = &[
    optional("id", NON_EMPTY),
    optional("command", NON_EMPTY),
    optional("commandArgv", TEXTS),
    optional("systemRunPlan", Shape::Object(PLAN)),
    optional("env", Shape::MapOf(&Shape::Text)),
    optional("cwd", TEXT_OR_NULL),
    optional("nodeId", NON_EMPTY_OR_NULL),
    optional("host", TEXT_OR_NULL),
    optional("security", TEXT_OR_NULL),
    optional("ask", TEXT_OR_NULL),
    since_v4("warningText", TEXT_OR_NULL),
    since_v4(
        "unavailableDecisions",
        Shape::List {
            of: &Shape::OneOf(&["allow-always"]),
            min: 1,
            max: 1,
        },
    ),
    since_v4("commandSpans", SPANS),
    since_v4(
        "scope",
        Shape::AnyOf(&[Shape::MapOf(&Shape::Any), Shape::Null]),
    ),
    optional("agentId", TEXT_OR_NULL),
    optional("resolvedPath", TEXT_OR_NULL),
    // clawgate's own: SHA-256 of the program, so that the approval is of what is in it.
    optional(
        "resolvedSha256",
        Shape::AnyOf(&[Shape::Str { min: 64, max: 64 }, Shape::Null]),
    ),
    optional("sessionKey", TEXT_OR_NULL),
    since_v4("sessionId", TEXT_OR_NULL),
    since_v4("runId", TEXT_OR_NULL),
    since_v4("toolCallId", TEXT_OR_NULL),
    optional("turnSourceChannel", TEXT_OR_NULL),
    optional("turnSourceTo", TEXT_OR_NULL),
    optional("turnSourceAccountId", TEXT_OR_NULL),
    optional(
        "turnSourceThreadId",
        Shape::AnyOf(&[Shape::Text, Shape::Number { min: i64::MIN }, Shape::Null]),
    ),
    since_v4("approvalReviewerDeviceIds", NAMES),
    since_v4("requireDeliveryRoute", Shape::Bool),
    since_v4("suppressDelivery", Shape::Bool),
    since_v4("deliverToApprovalClientsOnly", Shape::Bool),
    optional(
        "timeoutMs",
        Shape::Int {
            min: 1,
            max: i64::MAX,
        },
    ),
    optional("twoPhase", Shape::Bool),
];

const REVIEWER: &[Field] = &[
    required("channel", NON_EMPTY),
    required("accountId", NON_EMPTY),
    required("senderId", NON_EMPTY),
];
/// Shape of the params of `exec.approval.resolve`.
pub const RESOLVE: &[Field] = &[
    required("id", NON_EMPTY),
    required("decision", NON_EMPTY),
    since_v4("reviewer", Shape::Object(REVIEWER)),
    since_v4("grantExpiresInDays", Shape::Int { min: 1, max: 3_650 }),
];
/// Shape of params that name an approval.
pub const ID: &[Field] = &[required("id", NON_EMPTY)];

const KINDS: Shape = Shape::OneOf(&["exec", "plugin", "system-agent"]);
/// Shape of the params of `approval.resolve`.
pub const SNAPSHOT_RESOLVE: &[Field] = &[
    required("id", NON_EMPTY),
    required("kind", KINDS),
    required(
        "decision",
        Shape::OneOf(&["allow-once", "allow-always", "deny"]),
    ),
    optional("reviewer", Shape::Object(REVIEWER)),
    optional("grantExpiresInDays", Shape::Int { min: 1, max: 3_650 }),
];
/// Shape of the params of `approval.history`.
pub const HISTORY: &[Field] = &[
    optional("cursor", Shape::Str { min: 1, max: 512 }),
    optional("limit", Shape::Int { min: 1, max: 100 }),
    optional("kind", KINDS),
];

const SOCKET: &[Field] = &[
    optional("path", Shape::Text),
    optional("token", Shape::Text),
];
const DEFAULTS: &[Field] = &[
    optional("security", Shape::Text),
    optional("ask", Shape::Text),
    optional("askFallback", Shape::Text),
    optional("autoAllowSkills", Shape::Bool),
];
const ENTRY: &[Field] = &[
    optional("id", NON_EMPTY),
    required("pattern", Shape::Text),
    optional("source", Shape::Const("allow-always")),
    optional("commandText", Shape::Text),
    optional("argPattern", Shape::Text),
    optional("argv", TEXTS),
    optional("cwd", Shape::Text),
    optional("sha256", Shape::Text),
    optional("operandSha256", Shape::Text),
    optional("lastUsedAt", Shape::Number { min: 0 }),
    optional("lastUsedCommand", Shape::Text),
    optional("lastResolvedPath", Shape::Text),
];
const AGENT: &[Field] = &[
    optional("security", Shape::Text),
    optional("ask", Shape::Text),
    optional("askFallback", Shape::Text),
    optional("autoAllowSkills", Shape::Bool),
    optional(
        "allowlist",
        Shape::List {
            of: &Shape::Object(ENTRY),
            min: 0,
            max: 0,
        },
    ),
    optional(
        "mcpTools",
        Shape::List {
            of: &Shape::MapOf(&Shape::Any),
            min: 0,
            max: 0,
        },
    ),
];
/// Members of an agent that this version keeps without reading them.
pub const AGENT_KEPT: &[&str] = &["mcpTools"];
/// The same of an entry.
pub const ENTRY_KEPT: &[&str] = &["source", "commandText"];
const FILE: &[Field] = &[
    required("version", Shape::Exactly(1)),
    optional("socket", Shape::Object(SOCKET)),
    optional("defaults", Shape::Object(DEFAULTS)),
    optional("agents", Shape::MapOf(&Shape::Object(AGENT))),
];
/// Shape of the params of `exec.approvals.set`.
pub const FILE_SET: &[Field] = &[
    required("file", Shape::Object(FILE)),
    optional("baseHash", NON_EMPTY),
];
/// Shape of the params of `exec.approvals.node.get`.
pub const NODE_GET: &[Field] = &[required("nodeId", NON_EMPTY)];
/// Shape of the params of `exec.approvals.node.set`. Since wire 4 a node may have rules of its own
/// kind instead of the file.
pub const NODE_SET: &[Field] = &[
    required("nodeId", NON_EMPTY),
    optional("file", Shape::Object(FILE)),
    since_v4("native", Shape::MapOf(&Shape::Any)),
    optional("baseHash", NON_EMPTY),
];

/// Params of `exec.approval.request`: those that are read here. What else is shown is passed on
/// as it came.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestParams {
    /// The caller's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What a person reads, and what a shell would be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The command line, program first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_argv: Option<Vec<String>>,
    /// What a node prepared; it runs that and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_run_plan: Option<Plan>,
    /// Variables that the caller sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<std::collections::BTreeMap<String, String>>,
    /// Where it would run.
    #[serde(default)]
    pub cwd: Option<String>,
    /// On which node.
    #[serde(default)]
    pub node_id: Option<String>,
    /// `gateway`, `node`, `sandbox`.
    #[serde(default)]
    pub host: Option<String>,
    /// For which agent.
    #[serde(default)]
    pub agent_id: Option<String>,
    /// In which session.
    #[serde(default)]
    pub session_key: Option<String>,
    /// The program, absolute.
    #[serde(default)]
    pub resolved_path: Option<String>,
    /// SHA-256 of the program, hex.
    #[serde(default)]
    pub resolved_sha256: Option<String>,
    /// How long it waits, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
    /// Whether it is first told that the request stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub two_phase: Option<bool>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a node prepared to run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The command line, program first.
    pub argv: Vec<String>,
    /// Where it runs.
    pub cwd: Option<String>,
    /// What a person reads.
    pub command_text: String,
    /// A shorter form of it.
    #[serde(default)]
    pub command_preview: Option<String>,
    /// For which agent.
    pub agent_id: Option<String>,
    /// In which session.
    pub session_key: Option<String>,
    /// What the policy was when it was prepared; passed on as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_snapshot: Option<Value>,
    /// The script that the command line names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutable_file_operand: Option<Operand>,
}

/// A file that the command line hands to the program.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operand {
    /// Where it stands in the command line.
    pub argv_index: u32,
    /// Its path.
    pub path: String,
    /// SHA-256 of it, hex.
    pub sha256: String,
}

/// Params of `exec.approval.resolve`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ResolveParams {
    /// Which one, or the beginning of its id.
    pub id: String,
    /// `allow-once`, `allow-always` or `deny`.
    pub decision: String,
}

/// Params of `approval.resolve`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SnapshotResolveParams {
    /// Which one; its whole id.
    pub id: String,
    /// `exec`, `plugin` or `system-agent`.
    pub kind: String,
    /// `allow-once`, `allow-always` or `deny`.
    pub decision: String,
}

/// Params of `approval.history`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct HistoryParams {
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Of this kind alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Params of `exec.approvals.set`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSetParams {
    /// The whole file.
    pub file: File,
    /// Hash of the file that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_hash: Option<String>,
}

/// The file as it is shown: without the socket's secret and without what is not known here.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Where it lies.
    pub path: String,
    /// Whether it is there.
    pub exists: bool,
    /// SHA-256 of its text.
    pub hash: String,
    /// What it says.
    pub file: File,
}

/// A request that waits, as `exec.approval.requested` and `exec.approval.list` have it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Its id.
    pub id: String,
    /// What was shown.
    pub request: Value,
    /// SHA-256 of everything that a decision is about, hex. Gateways of the original have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it is over.
    pub expires_at_ms: i64,
}

/// A decision, as `exec.approval.resolved` has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// Which one.
    pub id: String,
    /// `allow-once`, `allow-always` or `deny`.
    pub decision: String,
    /// By which client.
    #[serde(default)]
    pub resolved_by: Option<String>,
    /// When.
    pub ts: i64,
    /// What was shown.
    #[serde(default)]
    pub request: Value,
}
