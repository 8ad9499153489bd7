//! Nodes: machines that run commands for the gateway. Params, records, payloads of events, and
//! wake words.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::shape::{COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4};

/// Longest name, id or version that is kept, in characters.
pub const TEXT_MAX: usize = 256;
/// Longest name of a command or capability, in characters.
pub const NAME_MAX: usize = 128;
/// Commands or capabilities that one node may declare.
pub const NAMES_MAX: usize = 512;
/// Wake words at most.
pub const TRIGGERS_MAX: usize = 32;
/// Characters of a wake word at most.
pub const TRIGGER_CHARS_MAX: usize = 64;
/// Wake words while nobody chose any, as the original's clients expect them.
pub const TRIGGERS_DEFAULT: [&str; 3] = ["openclaw", "claude", "computer"];

const TEXT: Shape = Shape::Str {
    min: 1,
    max: TEXT_MAX,
};
const NAME: Shape = Shape::Str {
    min: 1,
    max: NAME_MAX,
};
/// A list of commands or capabilities.
pub const NAMES: Shape = Shape::List {
    of: &NAME,
    min: 0,
    max: NAMES_MAX,
};

/// `{nodeId}`
pub const NODE_ID: &[Field] = &[required("nodeId", TEXT)];
/// `{requestId}`
pub const REQUEST_ID: &[Field] = &[required("requestId", TEXT)];
/// `{nodeId, token}`
pub const VERIFY: &[Field] = &[
    required("nodeId", TEXT),
    required("token", Shape::Str { min: 1, max: 1_024 }),
];
/// `{nodeId, displayName}`
pub const RENAME: &[Field] = &[required("nodeId", TEXT), required("displayName", TEXT)];
/// Params of `node.pair.request`.
pub const PAIR_REQUEST: &[Field] = &[
    required("nodeId", TEXT),
    optional("displayName", TEXT),
    optional("platform", TEXT),
    optional("version", TEXT),
    optional("coreVersion", TEXT),
    optional("uiVersion", TEXT),
    optional("deviceFamily", TEXT),
    optional("modelIdentifier", TEXT),
    optional("caps", NAMES),
    optional("commands", NAMES),
    optional("remoteIp", TEXT),
    optional("silent", Shape::Bool),
];
/// Params of `node.invoke`.
pub const INVOKE: &[Field] = &[
    required("nodeId", NON_EMPTY),
    required("command", NAME),
    optional("params", Shape::Any),
    optional("timeoutMs", COUNT),
    required("idempotencyKey", TEXT),
    since_v4("sessionKey", TEXT),
    since_v4("turnSourceChannel", TEXT),
    since_v4("turnSourceTo", TEXT),
    since_v4("turnSourceAccountId", TEXT),
    since_v4("turnSourceThreadId", Shape::Any),
];
/// Params of `node.invoke.result`.
pub const INVOKE_RESULT: &[Field] = &[
    required("id", NON_EMPTY),
    required("nodeId", NON_EMPTY),
    required("ok", Shape::Bool),
    optional("payload", Shape::Any),
    optional("payloadJSON", Shape::Text),
    optional(
        "error",
        Shape::Object(&[optional("code", NON_EMPTY), optional("message", NON_EMPTY)]),
    ),
];
/// Params of `node.event`.
pub const EVENT: &[Field] = &[
    required("event", TEXT),
    optional("payload", Shape::Any),
    optional("payloadJSON", Shape::AnyOf(&[Shape::Text, Shape::Null])),
];
/// Params of `node.pending.enqueue`.
pub const ENQUEUE: &[Field] = &[
    required("nodeId", TEXT),
    required("type", Shape::Enum(&["status.request", "location.request"])),
    optional("priority", Shape::Enum(&["normal", "high"])),
    optional(
        "expiresInMs",
        Shape::Int {
            min: 1_000,
            max: 86_400_000,
        },
    ),
    optional("wake", Shape::Bool),
];
/// Params of `node.pending.drain`.
pub const DRAIN: &[Field] = &[optional("maxItems", Shape::Int { min: 1, max: 10 })];
/// Params of `node.pending.ack`.
pub const ACK: &[Field] = &[required(
    "ids",
    Shape::List {
        of: &TEXT,
        min: 1,
        max: 256,
    },
)];

/// What a node says about itself, in a pairing request or by connecting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct About {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Claimed platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Version of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version of its core, where it has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_version: Option<String>,
    /// Version of its interface, where it has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ui_version: Option<String>,
    /// Kind of device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Model of device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_identifier: Option<String>,
    /// What it can do, in groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<String>>,
    /// What it can do, one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<String>>,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
}

/// Params of `node.pair.request`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairRequestParams {
    /// Which node.
    pub node_id: String,
    /// What it says about itself.
    #[serde(flatten)]
    pub about: About,
    /// Whether it may be approved without a person; kept and told, never followed.
    pub silent: Option<bool>,
}

/// A request that waits for a decision, and the payload of `node.pair.requested`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingNode {
    /// Id to approve or reject it by.
    pub request_id: String,
    /// The node.
    pub node_id: String,
    /// What it says about itself.
    #[serde(flatten)]
    pub about: About,
    /// As it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<bool>,
    /// Whether the node is known already.
    #[serde(default)]
    pub is_repair: bool,
    /// When it was asked, milliseconds.
    pub ts: i64,
}

/// A node that was approved. Its token is only in the answer that approves it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PairedNode {
    /// The node.
    pub node_id: String,
    /// Its token, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What it said about itself.
    #[serde(flatten)]
    pub about: About,
    /// When it was first approved, milliseconds.
    #[serde(default)]
    pub created_at_ms: i64,
    /// When it was last approved, milliseconds.
    #[serde(default)]
    pub approved_at_ms: i64,
}

/// Result of `node.pair.list`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PairList {
    /// Requests that wait for a decision, newest first.
    pub pending: Vec<PendingNode>,
    /// Approved nodes, newest first.
    pub paired: Vec<PairedNode>,
}

/// A command that a node declares and that is not invoked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Withheld {
    /// Its name.
    pub command: String,
    /// Why, a stable word: `not-allowed`, `not-approved`.
    pub reason: String,
}

/// A node as `node.list` and `node.describe` show it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeView {
    /// The node.
    pub node_id: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Its platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Version of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Kind of device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Model of device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_identifier: Option<String>,
    /// Where it comes from, absent on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    /// What it can do, in groups; empty while it is away.
    pub caps: Vec<String>,
    /// What may be invoked now; empty while it is away.
    pub commands: Vec<String>,
    /// Its search path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_env: Option<String>,
    /// What its system allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<std::collections::BTreeMap<String, bool>>,
    /// Since when it is here, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_at_ms: Option<i64>,
    /// Whether its device is paired.
    pub paired: bool,
    /// Whether it is here.
    pub connected: bool,
    /// clawgate's own: what it declares and is not invoked, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    /// clawgate's own: the request that would approve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_request_id: Option<String>,
}

/// Result of `node.list`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct NodeList {
    /// Now, milliseconds.
    pub ts: i64,
    /// Those that are here first, then by name.
    pub nodes: Vec<NodeView>,
}

/// `{nodeId}`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeIdParams {
    /// Which node.
    pub node_id: String,
}

/// `{requestId}`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestIdParams {
    /// Which request.
    pub request_id: String,
}

/// Params of `node.rename`, and its result.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenameParams {
    /// Which node.
    pub node_id: String,
    /// What it is called from now on.
    pub display_name: String,
}

/// Params of `node.invoke`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeParams {
    /// Which node.
    pub node_id: String,
    /// Which command.
    pub command: String,
    /// Params of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// How long to wait, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<f64>,
    /// The same key is the same act.
    pub idempotency_key: String,
}

/// Payload of `node.invoke.request`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeRequest {
    /// Id to answer to.
    pub id: String,
    /// The node that is meant.
    pub node_id: String,
    /// Which command.
    pub command: String,
    /// Params of the command as JSON text, or null.
    #[serde(rename = "paramsJSON", default)]
    pub params_json: Option<String>,
    /// How long the gateway waits, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The same key is the same act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Params of `node.invoke.result`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeResultParams {
    /// Which invoke.
    pub id: String,
    /// The node that answers.
    pub node_id: String,
    /// Whether it went well.
    pub ok: bool,
    /// The result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// The result as JSON text; stands above `payload`.
    #[serde(
        rename = "payloadJSON",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub payload_json: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<NodeFault>,
}

/// What went wrong at a node, in its words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct NodeFault {
    /// A code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Params of `node.event`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventParams {
    /// What happened.
    pub event: String,
    /// Its facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// The same as JSON text; stands above `payload`.
    #[serde(
        rename = "payloadJSON",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub payload_json: Option<String>,
}

/// Params of `node.pending.enqueue`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnqueueParams {
    /// Which node.
    pub node_id: String,
    /// What it is to do.
    #[serde(rename = "type")]
    pub kind: String,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Option<String>,
    /// How long it is of use, milliseconds.
    #[serde(default)]
    pub expires_in_ms: Option<f64>,
}

/// One thing that a node is to do when it looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItem {
    /// Its id.
    pub id: String,
    /// What.
    #[serde(rename = "type")]
    pub kind: String,
    /// `default`, `normal` or `high`.
    pub priority: String,
    /// Since when, milliseconds.
    pub created_at_ms: i64,
    /// Until when it is of use.
    pub expires_at_ms: Option<i64>,
}

/// Params of `node.pending.ack`.
#[derive(Clone, Debug, Deserialize)]
pub struct AckParams {
    /// What was done.
    pub ids: Vec<String>,
}
