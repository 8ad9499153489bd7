//! The gateway about itself: health, status, presence, wake and system events.

use serde::{Deserialize, Serialize};

use crate::{
    scope::{Role, ScopeSet},
    shape::{Field, NON_EMPTY, Shape, required, since_v4},
};

/// `{mode, text}` of `wake`.
pub const WAKE: &[Field] = &[
    required("mode", Shape::OneOf(&["now", "next-heartbeat"])),
    required("text", NON_EMPTY),
    since_v4("agentId", Shape::Str { min: 1, max: 200 }),
    since_v4("sessionKey", Shape::Str { min: 1, max: 512 }),
];

/// One presence entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PresenceEntry {
    /// Host or display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the client calls itself, wire 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Version of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Platform, for the gateway itself with the kernel's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Kind of device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Model, for the gateway itself the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_identifier: Option<String>,
    /// Zone of the client, wire 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Seconds since the last input there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_input_seconds: Option<f64>,
    /// `gateway`, or the client's mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// `self`, `connect`, `disconnect`, or what a beacon said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Free tags of a beacon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Device, where one was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// Roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Scopes, when there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Key of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Since when a connected client is here, milliseconds, wire 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_since: Option<i64>,
    /// One line for people.
    pub text: String,
    /// Last renewal, milliseconds.
    pub ts: i64,
}

/// Params of `system-event`, all optional: the handler says what is missing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of a presence entry")]
pub struct SystemEventParams {
    pub text: Option<String>,
    pub device_id: Option<String>,
    pub instance_id: Option<String>,
    pub host: Option<String>,
    pub ip: Option<String>,
    pub mode: Option<String>,
    pub version: Option<String>,
    pub platform: Option<String>,
    pub device_family: Option<String>,
    pub model_identifier: Option<String>,
    pub last_input_seconds: Option<f64>,
    pub reason: Option<String>,
    pub roles: Option<Vec<String>>,
    pub scopes: Option<Vec<String>>,
    pub tags: Option<Vec<String>>,
}

/// Params of `wake`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WakeParams {
    /// `now` or `next-heartbeat`.
    pub mode: String,
    /// The event's text.
    pub text: String,
    /// The agent whose main session hears it, wire 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The session that hears it, wire 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
}

/// Params of `logs.tail`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogsTailParams {
    /// Byte offset of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
    /// Lines at most, 500 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Bytes at most, 250,000 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// Result of `logs.tail`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LogsTail {
    /// Path of the log file.
    pub file: String,
    /// Where to go on reading.
    pub cursor: u64,
    /// Size of the file, bytes.
    pub size: u64,
    /// Whole lines, each one JSON object.
    pub lines: Vec<String>,
    /// Whether lines were left out.
    pub truncated: bool,
    /// Whether the cursor no longer fitted and the tail was read anew.
    pub reset: bool,
}

/// Result of `auth.explain`: how this connection's authority came about.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthExplanation {
    /// What the gateway saw.
    pub evidence: EvidenceSeen,
    /// The rule that decided, a stable name.
    pub basis: String,
    /// The same as one sentence.
    pub rule: String,
    /// The granted role.
    pub role: Role,
    /// What was asked for; absent when nothing was said.
    pub requested: Option<ScopeSet>,
    /// What dispatch enforces.
    pub granted: ScopeSet,
    /// What is missing, and why.
    pub missing: Vec<crate::connect::MissingScope>,
    /// The pending request that would add it.
    pub pending_request_id: Option<String>,
    /// The next command to type, when something is missing.
    pub next_step: Option<String>,
}

/// What the gateway saw of a caller.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceSeen {
    /// `loopback-direct`, `loopback-proxied`, `trusted-proxy` or `remote`.
    pub peer: String,
    /// `no`, `allowed-origin` or `foreign-origin`.
    pub browser: String,
    /// Names of the credentials that held.
    pub credentials: Vec<String>,
    /// `absent` or `valid`.
    pub device_proof: String,
    /// `unknown`, `pending`, `paired` or `revoked`.
    pub record: String,
    /// The device, where one was proven.
    pub device_id: Option<String>,
}
