//! Agents: who is configured, the files of their workspaces, and the runs that are asked of them.

use serde::{Deserialize, Serialize};

use crate::shape::{COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4};

/// Files of a workspace that are read and written over the wire, in the order in which they are
/// listed. Nothing else of a workspace is.
pub const WORKSPACE_FILES: [&str; 9] = [
    "AGENTS.md",
    "SOUL.md",
    "TOOLS.md",
    "IDENTITY.md",
    "USER.md",
    "HEARTBEAT.md",
    "BOOTSTRAP.md",
    "MEMORY.md",
    "memory.md",
];

/// Bytes of one of them at most.
pub const WORKSPACE_FILE_BYTES_MAX: usize = 2 * 1024 * 1024;

const NAME: Shape = Shape::Str { min: 1, max: 200 };
const PATH: Shape = Shape::Str { min: 1, max: 4_096 };
const SHORT: Shape = Shape::Str { min: 0, max: 2_048 };
const ID: Shape = Shape::Str { min: 1, max: 200 };
/// A key of a session.
const SESSION_KEY: Shape = Shape::Str { min: 1, max: 512 };
const MODEL: Shape = Shape::Str { min: 1, max: 512 };
/// A model, or none of its own.
const MODEL_OR_NONE: Shape = Shape::AnyOf(&[MODEL, Shape::Null]);

/// `agents.create`. Wire 3 asks for `workspace` as well, which the handler says.
pub const CREATE: &[Field] = &[
    required("name", NAME),
    optional("workspace", PATH),
    optional("emoji", SHORT),
    optional("avatar", SHORT),
    since_v4("model", MODEL),
];
/// `agents.update`.
pub const UPDATE: &[Field] = &[
    required("agentId", ID),
    optional("name", NAME),
    optional("workspace", PATH),
    optional("model", MODEL_OR_NONE),
    optional("avatar", SHORT),
    since_v4("emoji", SHORT),
];
/// `agents.delete`.
pub const DELETE: &[Field] = &[
    required("agentId", ID),
    optional("deleteFiles", Shape::Bool),
];
/// `agents.files.list`.
pub const FILES_LIST: &[Field] = &[required("agentId", ID)];
/// `agents.files.get`.
pub const FILES_GET: &[Field] = &[required("agentId", ID), required("name", NAME)];
/// `agents.files.set`.
pub const FILES_SET: &[Field] = &[
    required("agentId", ID),
    required("name", NAME),
    required("content", Shape::Text),
];
/// `agent.identity.get`.
pub const IDENTITY_GET: &[Field] = &[
    optional("agentId", ID),
    optional("sessionKey", Shape::Str { min: 0, max: 512 }),
];
/// Params of a method that asks about one agent, the default one where it is left out.
pub const OF_AGENT: &[Field] = &[optional("agentId", ID), since_v4("sessionKey", SESSION_KEY)];
/// `tools.catalog`.
pub const TOOLS_CATALOG: &[Field] = &[
    optional("agentId", ID),
    optional("includePlugins", Shape::Bool),
];

const PROVENANCE: Shape = Shape::Object(&[
    required(
        "kind",
        Shape::OneOf(&["external_user", "inter_session", "internal_system"]),
    ),
    optional("originSessionId", Shape::Text),
    optional("sourceSessionKey", Shape::Text),
    optional("sourceChannel", Shape::Text),
    optional("sourceTool", Shape::Text),
]);
const ANY_LIST: Shape = Shape::List {
    of: &Shape::Any,
    min: 0,
    max: 0,
};
const INTERNAL_EVENT: Shape = Shape::Object(&[
    required("type", Shape::Const("task_completion")),
    required("source", Shape::OneOf(&["subagent", "cron"])),
    required("childSessionKey", Shape::Text),
    optional("childSessionId", Shape::Text),
    required("announceType", Shape::Text),
    required("taskLabel", Shape::Text),
    required(
        "status",
        Shape::OneOf(&["ok", "timeout", "error", "unknown"]),
    ),
    required("statusLabel", Shape::Text),
    required("result", Shape::Text),
    optional("statsLine", Shape::Text),
    required("replyInstruction", Shape::Text),
]);

/// `agent`: a turn of an agent.
pub const RUN: &[Field] = &[
    required("message", NON_EMPTY),
    optional("agentId", NON_EMPTY),
    optional("to", Shape::Text),
    optional("replyTo", Shape::Text),
    optional("sessionId", Shape::Text),
    optional("sessionKey", Shape::Text),
    optional("thinking", Shape::Text),
    optional("deliver", Shape::Bool),
    optional("attachments", ANY_LIST),
    optional("channel", Shape::Text),
    optional("replyChannel", Shape::Text),
    optional("accountId", Shape::Text),
    optional("replyAccountId", Shape::Text),
    optional("threadId", Shape::Text),
    optional("groupId", Shape::Text),
    optional("groupChannel", Shape::Text),
    optional("groupSpace", Shape::Text),
    optional("timeout", COUNT),
    optional("bestEffortDeliver", Shape::Bool),
    optional("lane", Shape::Text),
    optional("extraSystemPrompt", Shape::Text),
    optional(
        "internalEvents",
        Shape::List {
            of: &INTERNAL_EVENT,
            min: 0,
            max: 0,
        },
    ),
    optional("inputProvenance", PROVENANCE),
    required("idempotencyKey", NON_EMPTY),
    optional("label", Shape::Str { min: 1, max: 64 }),
    since_v4("acpTurnSource", Shape::Any),
    since_v4("bootstrapContextMode", Shape::Any),
    since_v4("bootstrapContextRunKind", Shape::Any),
    since_v4("cleanupBundleMcpOnRunEnd", Shape::Bool),
    since_v4("cwd", Shape::Text),
    since_v4("disableMessageTool", Shape::Bool),
    since_v4("execApprovalFollowupExpectedSessionId", Shape::Text),
    since_v4("expectedExistingSessionId", Shape::Text),
    since_v4("forceCodeModeTools", Shape::Any),
    since_v4("forceRestartSafeTools", Shape::Any),
    since_v4("internalExecutionIdentityRecoveryAttempt", Shape::Any),
    since_v4("internalExecutionIdentityRetry", Shape::Any),
    since_v4("internalRuntimeHandoffId", Shape::Text),
    since_v4("model", Shape::Text),
    since_v4("modelRun", Shape::Any),
    since_v4("promptMode", Shape::Any),
    since_v4("provider", Shape::Text),
    since_v4("sessionEffects", Shape::Any),
    since_v4("sourceReplyDeliveryMode", Shape::Any),
    since_v4("suppressPromptPersistence", Shape::Bool),
    since_v4("swarmCollector", Shape::Any),
    since_v4("swarmOutputSchema", Shape::Any),
    since_v4("voiceWakeTrigger", Shape::Any),
];
/// `agent.wait`.
pub const WAIT: &[Field] = &[required("runId", NON_EMPTY), optional("timeoutMs", COUNT)];
/// `chat.send`: a turn of the chat of a session.
pub const CHAT_SEND: &[Field] = &[
    required("sessionKey", SESSION_KEY),
    required("message", Shape::Text),
    optional("thinking", Shape::Text),
    optional("deliver", Shape::Bool),
    optional("attachments", ANY_LIST),
    optional("timeoutMs", COUNT),
    optional("systemInputProvenance", PROVENANCE),
    optional("systemProvenanceReceipt", Shape::Text),
    required("idempotencyKey", NON_EMPTY),
    since_v4("agentId", NON_EMPTY),
    since_v4("expectedLeafEntryId", Shape::Any),
    since_v4("expectedPermissionMode", Shape::Any),
    since_v4("expectedSessionRoutingContract", Shape::Any),
    since_v4("expectedToolOverrides", Shape::Any),
    since_v4("fastAutoOnSeconds", Shape::Any),
    since_v4("fastMode", Shape::Any),
    since_v4("intent", Shape::Any),
    since_v4("originatingAccountId", Shape::Text),
    since_v4("originatingChannel", Shape::Text),
    since_v4("originatingThreadId", Shape::Any),
    since_v4("originatingTo", Shape::Text),
    since_v4("queueMode", Shape::Any),
    since_v4("replyToId", Shape::Text),
    since_v4("sessionId", Shape::Text),
    since_v4("suppressCommandInterpretation", Shape::Bool),
    since_v4("toolBindings", Shape::Any),
];
/// `chat.abort`.
pub const CHAT_ABORT: &[Field] = &[
    required("sessionKey", NON_EMPTY),
    optional("runId", NON_EMPTY),
    since_v4("agentId", NON_EMPTY),
    since_v4("preserveSideRuns", Shape::Bool),
];

/// Params of `agents.create`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateParams {
    /// What people call it; its id is made of this.
    pub name: String,
    /// Its directory, absolute or under `~`; left out, one in the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// One emoji.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// A URL, a data URI or a path inside the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Params of `agents.update`: what is left out stays.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of `CreateParams`")]
pub struct UpdateParams {
    pub agent_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// `null` takes away the model of its own.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub model: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
}

/// What is there, `null` too.
fn given<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Params of `agents.delete`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteParams {
    /// Whom.
    pub agent_id: String,
    /// Whether its directories go to the trash, true unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_files: Option<bool>,
}

/// Params of `agents.files.get` and, without `name`, of `agents.files.list`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileParams {
    /// Whose workspace.
    pub agent_id: String,
    /// One of [`WORKSPACE_FILES`].
    pub name: String,
    /// The new text, for `agents.files.set`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Params that name an agent, a session, both or neither.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OfAgentParams {
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// A session, whose key names its agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
}

/// Params of `chat.send`, as far as something follows from them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChatSendParams {
    /// The session.
    pub session_key: String,
    /// Whose, where the key does not say.
    pub agent_id: Option<String>,
    /// The conversation that is meant, where that matters.
    pub session_id: Option<String>,
    /// What is said.
    pub message: String,
    /// How much is thought.
    pub thinking: Option<String>,
    /// Pictures and files.
    pub attachments: Vec<serde_json::Value>,
    /// From the beginning of the turn, milliseconds.
    pub timeout_ms: Option<u64>,
    /// Reserved for bridges.
    pub system_input_provenance: Option<serde_json::Value>,
    /// Reserved for bridges.
    pub system_provenance_receipt: Option<String>,
    /// What happens when a turn runs already.
    pub queue_mode: Option<String>,
    /// Whether a slash at the beginning is a slash.
    pub suppress_command_interpretation: bool,
    /// The last entry that the caller has seen, or none: another one refuses the message.
    #[serde(deserialize_with = "given")]
    pub expected_leaf_entry_id: Option<Option<String>>,
    /// Under which it is done once, and the id of the run.
    pub idempotency_key: String,
}

/// Params of `agent`, as far as something follows from them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunParams {
    /// What is said.
    pub message: String,
    /// Who is to do it.
    pub agent_id: Option<String>,
    /// Whom the answer is for; a session is made of it where none is named.
    pub to: Option<String>,
    /// The conversation that is meant.
    pub session_id: Option<String>,
    /// The session that is meant.
    pub session_key: Option<String>,
    /// How much is thought.
    pub thinking: Option<String>,
    /// Whether the answer goes out through a channel.
    pub deliver: bool,
    /// Pictures and files.
    pub attachments: Vec<serde_json::Value>,
    /// The channel that the answer goes out through.
    pub channel: Option<String>,
    /// The same for the reply.
    pub reply_channel: Option<String>,
    /// Whether an answer that cannot be delivered is as good.
    pub best_effort_deliver: bool,
    /// From the beginning of the turn, seconds; 0 for none.
    pub timeout: Option<u64>,
    /// `nested` for a turn of a turn.
    pub lane: Option<String>,
    /// What the agent is told besides.
    pub extra_system_prompt: Option<String>,
    /// A name for the session, if it has none.
    pub label: Option<String>,
    /// `provider/model`, or the model of `provider`.
    pub model: Option<String>,
    /// The provider of `model`.
    pub provider: Option<String>,
    /// The conversation that must be there.
    pub expected_existing_session_id: Option<String>,
    /// Under which it is done once, and the id of the run.
    pub idempotency_key: String,
}

/// Params of `agent.wait`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WaitParams {
    /// The run.
    pub run_id: String,
    /// Milliseconds, 30 s when nobody says.
    pub timeout_ms: Option<u64>,
}

/// Params of `chat.abort`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AbortParams {
    /// The session.
    pub session_key: String,
    /// Whose, where the key does not say.
    pub agent_id: Option<String>,
    /// One run of it; all of them where it is left out.
    pub run_id: Option<String>,
}

/// Members of [`RUN`] that ask for what is not served.
pub const RUN_NEEDS: &[&str] = &[
    "forceCodeModeTools",
    "internalRuntimeHandoffId",
    "modelRun",
    "suppressPromptPersistence",
    "swarmCollector",
    "swarmOutputSchema",
];
/// Members of [`CHAT_SEND`] that ask for what is not served.
pub const CHAT_SEND_NEEDS: &[&str] = &[
    "expectedPermissionMode",
    "expectedSessionRoutingContract",
    "expectedToolOverrides",
    "toolBindings",
];

/// One file of a workspace as the wire shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceFile {
    /// One of [`WORKSPACE_FILES`].
    pub name: String,
    /// Where it is on the gateway's machine.
    pub path: String,
    /// Whether it is not there.
    pub missing: bool,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was last written, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at_ms: Option<i64>,
    /// Its text, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Who an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theme: Option<String>,
    /// One emoji.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// A URL, a data URI or a path inside the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// The avatar as a browser loads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

impl Identity {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
