//! `connect` and `hello-ok`: how a session begins.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    error::Dialect,
    frame::{StateVersion, unreadable},
    scope::{Role, ScopeSet},
    shape::{self, COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4},
};

/// `client.id` values of either version.
pub const CLIENT_IDS_V3: &[&str] = &[
    "webchat-ui",
    "openclaw-control-ui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-ios",
    "openclaw-android",
    "node-host",
    "test",
    "fingerprint",
    "openclaw-probe",
];
/// `client.id` values that version 4 adds, `openclaw-worker` left out: it belongs to another path.
pub const CLIENT_IDS_SINCE_V4: &[&str] = &[
    "openclaw-browser-copilot",
    "openclaw-tui",
    "openclaw-linux",
    "openclaw-watchos",
    "openclaw-worker",
];
/// `client.mode` values of version 3.
pub const CLIENT_MODES_V3: &[&str] = &["webchat", "cli", "ui", "backend", "node", "probe", "test"];

const CLIENT_IDS_V4: &[&str] = &[
    "webchat-ui",
    "openclaw-control-ui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-ios",
    "openclaw-android",
    "node-host",
    "test",
    "fingerprint",
    "openclaw-probe",
    "openclaw-browser-copilot",
    "openclaw-tui",
    "openclaw-linux",
    "openclaw-watchos",
    "openclaw-worker",
];
const CLIENT_MODES_V4: &[&str] = &[
    "webchat", "cli", "ui", "backend", "node", "probe", "test", "worker",
];

macro_rules! client_fields {
    ($ids:expr, $modes:expr) => {
        &[
            required("id", Shape::OneOf($ids)),
            optional("displayName", NON_EMPTY),
            required("version", NON_EMPTY),
            since_v4("buildId", Shape::Str { min: 1, max: 96 }),
            required("platform", NON_EMPTY),
            optional("deviceFamily", NON_EMPTY),
            optional("modelIdentifier", NON_EMPTY),
            required("mode", Shape::OneOf($modes)),
            optional("instanceId", NON_EMPTY),
            since_v4("timeZone", Shape::Str { min: 1, max: 64 }),
        ]
    };
}
macro_rules! connect_fields {
    ($client:expr) => {
        &[
            required("minProtocol", PROTOCOL),
            required("maxProtocol", PROTOCOL),
            required("client", Shape::Object($client)),
            optional("caps", TEXTS),
            optional("commands", TEXTS),
            optional("permissions", Shape::MapOf(&Shape::Bool)),
            optional("pathEnv", Shape::Text),
            optional("role", NON_EMPTY),
            optional("scopes", TEXTS),
            optional("device", Shape::Object(DEVICE)),
            optional("auth", Shape::Object(AUTH)),
            optional("locale", Shape::Text),
            optional("userAgent", Shape::Text),
            since_v4("computerUse", Shape::Any),
            since_v4("workerRuns", Shape::Any),
            since_v4("modelCatalog", Shape::Any),
        ]
    };
}

const PROTOCOL: Shape = Shape::Int {
    min: 1,
    max: i64::MAX,
};
const TEXTS: Shape = Shape::List {
    of: &NON_EMPTY,
    min: 0,
    max: 0,
};
const DEVICE: &[Field] = &[
    required("id", NON_EMPTY),
    required("publicKey", NON_EMPTY),
    required("signature", NON_EMPTY),
    required("signedAt", COUNT),
    required("nonce", NON_EMPTY),
];
const AUTH: &[Field] = &[
    optional("token", Shape::Text),
    optional("bootstrapToken", Shape::Text),
    optional("deviceToken", Shape::Text),
    optional("password", Shape::Text),
    // clawgate's own: sent only where the challenge announces `clawgate-local-proof`.
    optional("localProof", Shape::Text),
    since_v4("approvalRuntimeToken", Shape::Text),
    since_v4("agentRuntimeIdentityToken", Shape::Text),
];
const CONNECT_V3: Shape = Shape::Object(connect_fields!(client_fields!(
    CLIENT_IDS_V3,
    CLIENT_MODES_V3
)));
const CONNECT_V4: Shape = Shape::Object(connect_fields!(client_fields!(
    CLIENT_IDS_V4,
    CLIENT_MODES_V4
)));

/// What the challenge announces when the gateway takes a local proof.
pub const LOCAL_PROOF_CAPABILITY: &str = "clawgate-local-proof";

/// Params of `connect`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectParams {
    /// Lowest wire version that the client speaks.
    pub min_protocol: f64,
    /// Highest wire version that the client speaks.
    pub max_protocol: f64,
    /// Who the client says it is.
    pub client: Client,
    /// Optional features that the client understands.
    #[serde(default)]
    pub caps: Vec<String>,
    /// Commands that a node claims.
    #[serde(default)]
    pub commands: Vec<String>,
    /// What a node's system allows it.
    #[serde(default)]
    pub permissions: Option<std::collections::BTreeMap<String, bool>>,
    /// A node's search path.
    #[serde(default)]
    pub path_env: Option<String>,
    /// Role asked for, `operator` when absent.
    #[serde(default)]
    pub role: Option<String>,
    /// Scopes asked for; absent is not the same as empty.
    #[serde(default)]
    pub scopes: Option<ScopeSet>,
    /// The same, joined exactly as sent, repeats too: the device proof covers this text.
    #[serde(skip)]
    pub signed_scopes: String,
    /// The device proof.
    #[serde(default)]
    pub device: Option<DeviceClaim>,
    /// The credentials.
    #[serde(default)]
    pub auth: AuthClaim,
}

/// Who the client says it is. Nothing of it adds authority.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// One of the known client ids.
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The client's version.
    pub version: String,
    /// `linux`, `darwin`, `win32`, or what the browser says.
    pub platform: String,
    /// Kind of device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Model of device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_identifier: Option<String>,
    /// One of the known modes.
    pub mode: String,
    /// Distinguishes processes of one client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Zone of the client, wire 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl Client {
    /// Whether it declares itself the Control UI.
    pub fn is_control_ui(&self) -> bool {
        self.id == "openclaw-control-ui"
    }

    /// Whether it declares itself the web chat.
    pub fn is_webchat(&self) -> bool {
        self.mode == "webchat" || self.id == "webchat-ui"
    }

    /// Whether it declares itself the in-process style backend client.
    pub fn is_backend(&self) -> bool {
        self.id == "gateway-client" && self.mode == "backend"
    }
}

/// The device proof as sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceClaim {
    /// Claimed device id.
    pub id: String,
    /// Base64url of the raw key, or a PEM.
    pub public_key: String,
    /// Base64url of the signature.
    pub signature: String,
    /// Milliseconds since the epoch at which it was signed.
    pub signed_at: f64,
    /// The challenge's nonce.
    pub nonce: String,
}

/// The credentials as sent. They print as nothing.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthClaim {
    /// Shared token, API token or device token.
    pub token: Option<String>,
    /// Setup code.
    pub bootstrap_token: Option<String>,
    /// Device token.
    pub device_token: Option<String>,
    /// Shared password.
    pub password: Option<String>,
    /// Proof of reading the state directory's local key.
    pub local_proof: Option<String>,
}

impl std::fmt::Debug for AuthClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthClaim")
            .field("token", &self.token.is_some())
            .field("bootstrap_token", &self.bootstrap_token.is_some())
            .field("device_token", &self.device_token.is_some())
            .field("password", &self.password.is_some())
            .field("local_proof", &self.local_proof.is_some())
            .finish()
    }
}

impl AuthClaim {
    /// The text that the device proof covers: `token`, else `deviceToken`, else
    /// `bootstrapToken`, else nothing. "Else" means that the key is absent.
    pub fn signed_token(&self) -> &str {
        self.token
            .as_deref()
            .or(self.device_token.as_deref())
            .or(self.bootstrap_token.as_deref())
            .unwrap_or_default()
    }
}

/// Reads the params of `connect`.
///
/// The dialect is chosen from the offered range before the rest is looked at, so that a client
/// of either version is judged by its own schema and answered in its own words.
///
/// # Errors
/// The list of problems, as the wire words them.
pub fn parse_connect(params: Option<&str>) -> Result<ConnectParams, String> {
    let value: Value = params
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| unreadable(&error).to_owned())?
        .unwrap_or(Value::Null);
    let dialect = spoken_dialect(&value);
    let shape = match dialect {
        Dialect::V3 => &CONNECT_V3,
        Dialect::V4 => &CONNECT_V4,
    };
    shape::check(&value, shape, dialect)?;
    let signed_scopes = value
        .get("scopes")
        .and_then(Value::as_array)
        .map(|scopes| {
            let names: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
            names.join(",")
        })
        .unwrap_or_default();
    let params: ConnectParams = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok(ConnectParams {
        signed_scopes,
        ..params
    })
}

/// The dialect in which a connect is judged: version 4 when the offered maximum reaches it.
fn spoken_dialect(params: &Value) -> Dialect {
    match params.get("maxProtocol").and_then(Value::as_f64) {
        Some(max) if max >= 4.0 => Dialect::V4,
        _ => Dialect::V3,
    }
}

/// `hello-ok`, the answer to a good `connect`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloOk<'a> {
    /// Always `hello-ok`.
    pub r#type: &'static str,
    /// The dialect's number.
    pub protocol: u32,
    /// Who answers.
    pub server: HelloServer<'a>,
    /// What is served, exactly.
    pub features: &'a RawValue,
    /// State at this moment.
    pub snapshot: HelloSnapshot<'a>,
    /// What was granted. Sent in both dialects, always.
    pub auth: HelloAuth<'a>,
    /// Limits that hold on this socket.
    pub policy: HelloPolicy,
}

/// Who answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloServer<'a> {
    /// Version of the gateway.
    pub version: &'a str,
    /// New at every start of the process, wire 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<&'a str>,
    /// Id of this socket.
    pub conn_id: &'a str,
}

/// State at the moment of the hello.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloSnapshot<'a> {
    /// Presence entries; empty for a session without read.
    pub presence: &'a RawValue,
    /// The health snapshot.
    pub health: &'a RawValue,
    /// Counters of both.
    pub state_version: StateVersion,
    /// Milliseconds since the gateway started.
    pub uptime_ms: u64,
    /// Path of the configuration, to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_path: Option<&'a str>,
    /// The state directory, to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<&'a str>,
    /// Defaults of sessions.
    pub session_defaults: SessionDefaults<'a>,
    /// Auth mode, to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_mode: Option<&'a str>,
}

/// Defaults of sessions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDefaults<'a> {
    /// Agent that is meant when none is named.
    pub default_agent_id: &'a str,
    /// Short key of the main session.
    pub main_key: &'a str,
    /// Full key of the main session.
    pub main_session_key: &'a str,
    /// `per-sender` or `global`.
    pub scope: &'a str,
}

/// What was granted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloAuth<'a> {
    /// How the caller was authenticated, wire 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// The device token to keep, when one stands behind the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_token: Option<&'a str>,
    /// The granted role.
    pub role: Role,
    /// Wire 4: what dispatch enforces. Wire 3 with a device token: the token's scopes, sorted.
    pub scopes: ScopeSet,
    /// Wire 3 with a device token: what dispatch enforces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_scopes: Option<ScopeSet>,
    /// When the device token was issued, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at_ms: Option<i64>,
    /// The rule that decided, a stable name.
    pub basis: &'static str,
    /// What was asked for and not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingScope>,
    /// The pending request that would add it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_request_id: Option<String>,
}

/// One scope that was asked for and not granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MissingScope {
    /// Its name.
    pub scope: String,
    /// Why, a stable word.
    pub reason: String,
}

/// Limits that hold on a socket.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloPolicy {
    /// Largest message, bytes.
    pub max_payload: usize,
    /// Outbound backlog that counts as slow, bytes.
    pub max_buffered_bytes: usize,
    /// Time between ticks, milliseconds.
    pub tick_interval_ms: u64,
}

/// `hello-ok` as a client reads it: what is not needed is ignored, nothing but the type is required.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceivedHello {
    /// The dialect's number.
    pub protocol: u32,
    /// Who answers.
    pub server: ReceivedServer,
    /// What is served.
    pub features: Features,
    /// What was granted; absent from a version 3 gateway of the original without a device token.
    pub auth: Option<ReceivedAuth>,
    /// State at this moment, untranslated.
    pub snapshot: Value,
    /// Limits, untranslated.
    pub policy: Value,
}

/// Who answers, as a client reads it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceivedServer {
    /// Version of the gateway.
    pub version: String,
    /// Id of this socket.
    pub conn_id: String,
}

/// What is served.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Features {
    /// Advertised methods.
    pub methods: Vec<String>,
    /// Advertised events.
    pub events: Vec<String>,
}

/// What was granted, as a client reads it.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceivedAuth {
    /// How the caller was authenticated.
    pub method: Option<String>,
    /// A device token to keep.
    pub device_token: Option<String>,
    /// The granted role.
    pub role: Option<String>,
    /// Token scopes (wire 3) or session scopes (wire 4).
    pub scopes: ScopeSet,
    /// Session scopes, where clawgate answers a version 3 client.
    pub session_scopes: Option<ScopeSet>,
    /// When the device token was issued.
    pub issued_at_ms: Option<i64>,
    /// The rule that decided, where the gateway says it.
    pub basis: Option<String>,
    /// What was asked for and not granted.
    pub missing: Vec<MissingScope>,
    /// The pending request that would add it.
    pub pending_request_id: Option<String>,
}

impl std::fmt::Debug for ReceivedAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceivedAuth")
            .field("method", &self.method)
            .field("device_token", &self.device_token.is_some())
            .field("role", &self.role)
            .field("scopes", &self.scopes)
            .field("session_scopes", &self.session_scopes)
            .field("basis", &self.basis)
            .field("missing", &self.missing)
            .field("pending_request_id", &self.pending_request_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_params_are_described_as_the_original_does() {
        assert_eq!(
            parse_connect(Some("{}")).unwrap_err(),
            "must have required property 'minProtocol'; must have required property 'maxProtocol'; \
             must have required property 'client'"
        );
        assert_eq!(parse_connect(None).unwrap_err(), "must be object");
        assert_eq!(
            parse_connect(Some(r#"{"maxProtocol":4}"#)).unwrap_err(),
            "must have required property 'minProtocol'"
        );
    }

    #[test]
    fn params_that_cannot_be_read_are_told_why() {
        assert_eq!(
            parse_connect(Some(r#"{"locale":"\ud800"}"#)).unwrap_err(),
            "must not hold half of a surrogate pair"
        );
    }

    #[test]
    fn repeated_scopes_are_signed_as_sent_and_held_once() {
        let params = parse_connect(Some(
            r#"{"minProtocol":3,"maxProtocol":3,"scopes":["b","a","b"],
                "client":{"id":"cli","version":"1","platform":"linux","mode":"cli"}}"#,
        ))
        .unwrap();
        assert_eq!(params.signed_scopes, "b,a,b");
        assert_eq!(params.scopes.unwrap().joined(), "b,a");
    }

    #[test]
    fn credentials_do_not_print() {
        let auth = AuthClaim {
            token: Some("canary".to_owned()),
            password: Some("canary".to_owned()),
            ..AuthClaim::default()
        };
        assert!(!format!("{auth:?}").contains("canary"));
    }

    #[test]
    fn an_empty_token_does_not_fall_through() {
        let auth = AuthClaim {
            token: Some(String::new()),
            device_token: Some("d".to_owned()),
            ..AuthClaim::default()
        };
        assert_eq!(auth.signed_token(), "");
    }
}
