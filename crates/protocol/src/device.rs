//! Devices: params and records of pairing and device tokens.

use serde::{Deserialize, Serialize};

use crate::{
    scope::ScopeSet,
    shape::{Field, NON_EMPTY, Shape, optional, required},
};

/// `{requestId}`
pub const REQUEST_ID: &[Field] = &[required("requestId", NON_EMPTY)];
/// `{deviceId}`
pub const DEVICE_ID: &[Field] = &[required("deviceId", NON_EMPTY)];
/// `{deviceId, role, scopes?}`
pub const TOKEN_ROTATE: &[Field] = &[
    required("deviceId", NON_EMPTY),
    required("role", NON_EMPTY),
    optional(
        "scopes",
        Shape::List {
            of: &NON_EMPTY,
            min: 0,
            max: 0,
        },
    ),
];
/// `{deviceId, role}`
pub const TOKEN_REVOKE: &[Field] = &[required("deviceId", NON_EMPTY), required("role", NON_EMPTY)];

/// Params of approve and reject.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestIdParams {
    /// Which request.
    pub request_id: String,
}

/// Params of remove.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceIdParams {
    /// Which device.
    pub device_id: String,
}

/// Params of rotate and revoke.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenParams {
    /// Which device.
    pub device_id: String,
    /// Which of its roles.
    pub role: String,
    /// Scopes of the new token; absent keeps those of the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
}

/// A pending pairing request, and the payload of `device.pair.requested`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingRecord {
    /// Id to approve or reject it by.
    pub request_id: String,
    /// The device that asks.
    pub device_id: String,
    /// Its key, base64url.
    pub public_key: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Claimed platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Claimed device family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Claimed client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Claimed client mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_mode: Option<String>,
    /// Role asked for.
    pub role: String,
    /// The same as a list.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Scopes asked for.
    #[serde(default)]
    pub scopes: ScopeSet,
    /// What a node can do, in groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<String>>,
    /// What a node declares: approving it approves these commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<String>>,
    /// Where it asked from, absent for local connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    /// Whether it may be approved without a person.
    #[serde(default)]
    pub silent: bool,
    /// Whether the device is paired already.
    #[serde(default)]
    pub is_repair: bool,
    /// When it was asked, milliseconds.
    pub ts: i64,
}

/// A paired device without its secrets.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PairedRecord {
    /// The device.
    pub device_id: String,
    /// Its key, base64url.
    #[serde(default)]
    pub public_key: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Pinned platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Pinned device family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Client id of the last connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Client mode of the last connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_mode: Option<String>,
    /// Role of the last approval.
    #[serde(default)]
    pub role: String,
    /// Every approved role.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Approved scopes; absent for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
    /// Where it last came from, absent for local connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    /// `silent` or `owner`, wire 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_via: Option<String>,
    /// When it was first paired, milliseconds.
    #[serde(default)]
    pub created_at_ms: i64,
    /// When it was last approved, milliseconds.
    #[serde(default)]
    pub approved_at_ms: i64,
    /// Last connect, wire 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<i64>,
    /// Whether it is connected now, wire 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Its tokens without their secrets.
    #[serde(default)]
    pub tokens: Vec<TokenRecord>,
}

/// A device token without its secret.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    /// Role it is for.
    pub role: String,
    /// What it carries, sorted.
    #[serde(default)]
    pub scopes: ScopeSet,
    /// When it was first issued, milliseconds.
    #[serde(default)]
    pub created_at_ms: i64,
    /// When it was last replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at_ms: Option<i64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<i64>,
    /// When it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at_ms: Option<i64>,
}

/// Result of `device.pair.list`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PairList {
    /// Requests that wait for a decision, newest first.
    pub pending: Vec<PendingRecord>,
    /// Paired devices, newest first.
    pub paired: Vec<PairedRecord>,
}
