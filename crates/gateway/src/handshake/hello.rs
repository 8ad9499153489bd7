//! The hello of a granted connect, in either dialect.

use clawgate_core::{Dialect, Scope, authz::Grant};
use clawgate_protocol::{
    connect::{
        HelloAuth, HelloOk, HelloPolicy, HelloServer, HelloSnapshot, MissingScope, SessionDefaults,
    },
    frame::{self, BUFFERED_BYTES_MAX, PAYLOAD_BYTES_MAX, TICK_INTERVAL_MS, to_json},
};
use serde_json::value::RawValue;

use super::Welcome;
use crate::{Gateway, clock::now_ms, hub::Principal};

/// The hello of a granted connect.
pub(crate) fn hello(gateway: &Gateway, principal: &Principal, welcome: &Welcome) -> String {
    let grant = &principal.grant;
    let dialect = principal.dialect;
    let admin = grant.scopes().covers(&Scope::ADMIN);
    let reads = grant.scopes().covers(&Scope::READ);
    let presence = if reads {
        gateway.presence.list_json(dialect, now_ms())
    } else {
        "[]".to_owned()
    };
    let raw = |text: String| {
        RawValue::from_string(text).expect("presence and health are encoded by this program")
    };
    let (presence, health) = (raw(presence), raw(gateway.health.text().to_string()));
    let token = welcome.token.as_ref();
    let v3_with_token = dialect == Dialect::V3 && token.is_some();
    let session_scopes = grant.scopes().clone();
    let config = gateway.config();
    let config_path = config.path.to_string_lossy();
    let state_dir = gateway.state.path().to_string_lossy();
    let hello = HelloOk {
        r#type: "hello-ok",
        protocol: dialect.version(),
        server: HelloServer {
            version: crate::VERSION,
            boot_id: (dialect == Dialect::V4).then_some(gateway.boot_id.as_str()),
            conn_id: &principal.conn_id,
        },
        features: &gateway.features,
        snapshot: HelloSnapshot {
            presence: &presence,
            health: &health,
            state_version: gateway.presence.version(),
            uptime_ms: gateway.uptime_ms(),
            config_path: admin.then_some(&*config_path),
            state_dir: admin.then_some(&*state_dir),
            session_defaults: SessionDefaults {
                default_agent_id: gateway.default_agent(),
                main_key: "main",
                main_session_key: &gateway.main_session_key,
                scope: "per-sender",
            },
            auth_mode: admin.then(|| config.auth.mode()),
        },
        auth: HelloAuth {
            method: (dialect == Dialect::V4).then_some(welcome.method),
            device_token: token.map(|token| token.token.as_str()),
            role: grant.role(),
            scopes: match token {
                Some(token) if v3_with_token => token.scopes.sorted(),
                _ => session_scopes.clone(),
            },
            session_scopes: v3_with_token.then_some(session_scopes),
            issued_at_ms: token.map(|token| token.issued_at_ms),
            basis: grant.basis().as_str(),
            missing: missing(grant),
            pending_request_id: principal.pending_request.clone(),
        },
        policy: HelloPolicy {
            max_payload: PAYLOAD_BYTES_MAX,
            max_buffered_bytes: BUFFERED_BYTES_MAX,
            tick_interval_ms: TICK_INTERVAL_MS,
        },
    };
    frame::response_ok(&welcome.id, &to_json(&hello))
}

/// What is missing, as the wire says it.
pub(crate) fn missing(grant: &Grant) -> Vec<MissingScope> {
    grant
        .missing()
        .iter()
        .map(|(scope, why)| MissingScope {
            scope: scope.to_string(),
            reason: why.as_str().to_owned(),
        })
        .collect()
}
