//! `connect`: gathers the evidence, asks `core::authz`, and writes the hello or the refusal.

use std::sync::Arc;

use clawgate_core::{
    DeviceId, Dialect, ErrorCode, Role, Scope, ScopeSet,
    authz::{
        self, Browser, CredentialFault, Declared, Denied, Evidence, Grant, Outcome, PairingReason,
        PairingStep, Peer, Policy, Proof, Record,
    },
    origin::{self, OriginFault, OriginSeen},
    pairing::Claims,
    proof::{self, Claim, ProofFault},
};
use clawgate_protocol::{
    ErrorShape,
    connect::{
        ConnectParams, HelloAuth, HelloOk, HelloPolicy, HelloServer, HelloSnapshot, MissingScope,
        SessionDefaults, parse_connect,
    },
    frame::{self, BUFFERED_BYTES_MAX, DecodeError, PAYLOAD_BYTES_MAX, TICK_INTERVAL_MS, to_json},
    proof::ProofText,
    system::EvidenceSeen,
};
use clawgate_store::StoreError;
use serde_json::{Value, json, value::RawValue};

use crate::{
    Gateway,
    clock::now_ms,
    config::Auth,
    credentials::{Checked, Checker, Presented},
    hub::Principal,
    listen::Request,
    pairing::{Arrival, IssuedToken},
    presence::Here,
};

/// How a connect ends without a hello: an optional response, then a close.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub response: Option<(Value, ErrorShape)>,
    pub code: u16,
    pub reason: String,
}

impl Refusal {
    fn silent(code: u16, reason: &str) -> Self {
        Self {
            response: None,
            code,
            reason: reason.to_owned(),
        }
    }

    fn answered(id: &str, error: ErrorShape) -> Self {
        let reason = error.message.clone();
        Self {
            response: Some((Value::from(id), error)),
            code: 1008,
            reason,
        }
    }

    fn closing_with(mut self, code: u16, reason: impl Into<String>) -> Self {
        self.code = code;
        self.reason = reason.into();
        self
    }
}

/// A connect that was granted.
#[derive(Debug)]
pub(crate) struct Welcome {
    /// The request's id.
    pub id: String,
    pub here: Here,
    pub explained: Explained,
    pub method: &'static str,
    pub token: Option<IssuedToken>,
}

/// What `auth.explain` tells later.
#[derive(Clone, Debug)]
pub(crate) struct Explained {
    pub seen: EvidenceSeen,
    pub requested: Option<ScopeSet>,
}

/// Judges the first message of a socket.
pub(crate) async fn judge(
    gateway: &Arc<Gateway>,
    request: &Request,
    conn_id: &str,
    nonce: &str,
    text: &str,
) -> Result<(Principal, Welcome), Refusal> {
    let frame = match frame::decode_request(text, Dialect::V4) {
        Ok(frame) => frame,
        Err(DecodeError::NotJson) => return Err(Refusal::silent(1000, "")),
        Err(DecodeError::Shape { .. }) => {
            return Err(Refusal::silent(1008, "invalid request frame"));
        }
    };
    let id = frame.id.into_owned();
    if frame.method != "connect" {
        let message = "invalid handshake: first request must be connect";
        return Err(Refusal::answered(&id, ErrorShape::invalid(message)));
    }
    let params = parse_connect(frame.params.as_deref()).map_err(|problems| {
        Refusal::answered(
            &id,
            ErrorShape::invalid(format!("invalid connect params: {problems}")),
        )
    })?;
    let dialect = negotiate(&params).ok_or_else(|| mismatch(&id, &params))?;
    if dialect == Dialect::V4 && is_worker(&params) {
        return Err(Refusal::silent(1008, "invalid-handshake"));
    }
    let attempt = Attempt {
        gateway,
        request,
        conn_id,
        nonce,
        id: &id,
        dialect,
        params: &params,
    };
    let judged = attempt.judge().await;
    if let Err(refusal) = &judged {
        attempt.log(refusal);
    }
    judged
}

/// The dialect that both speak. A probe of the newer version offers 3 as well and is answered in 4.
fn negotiate(params: &ConnectParams) -> Option<Dialect> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    Dialect::negotiate(params.min_protocol as u64, params.max_protocol as u64)
}

/// Workers have a path of their own in wire 4; on this one they are turned away.
fn is_worker(params: &ConnectParams) -> bool {
    params.role.as_deref() == Some("worker")
        || params.client.id == "openclaw-worker"
        || params.client.mode == "worker"
}

fn mismatch(id: &str, params: &ConnectParams) -> Refusal {
    let newer = params.max_protocol >= 4.0;
    #[expect(clippy::cast_possible_truncation, reason = "saturates; the shape asks for integers")]
    let whole = |version: f64| version as i64;
    let details = if newer {
        json!({
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": whole(params.min_protocol),
            "clientMaxProtocol": whole(params.max_protocol),
            "expectedProtocol": 4,
            "minimumProbeProtocol": 3,
        })
    } else {
        json!({"expectedProtocol": 3})
    };
    Refusal::answered(id, ErrorShape::invalid("protocol mismatch").with_details(details))
        .closing_with(1002, "protocol mismatch")
}

struct Attempt<'a> {
    gateway: &'a Arc<Gateway>,
    request: &'a Request,
    conn_id: &'a str,
    nonce: &'a str,
    id: &'a str,
    dialect: Dialect,
    params: &'a ConnectParams,
}

impl Attempt<'_> {
    async fn judge(&self) -> Result<(Principal, Welcome), Refusal> {
        let params = self.params;
        let role_name = params.role.as_deref().unwrap_or("operator");
        let role = Role::parse(role_name)
            .ok_or_else(|| self.refuse(ErrorShape::invalid("invalid role")))?;
        if let Some(odd) = self.unprintable_scope() {
            return Err(self.refuse(ErrorShape::invalid(format!(
                "invalid connect params: at /scopes/{odd}: must not hold control characters"
            ))));
        }
        let (browser, fault) = self.browser();
        if let Some(fault) = fault {
            return Err(self.refuse(origin_error(fault)));
        }
        let (proof, arrival) = self.proof(role, role_name);
        if let Proof::Bad(fault) = proof {
            return Err(self.refuse(proof_error(fault)));
        }
        let checked = self.check(browser, role_name, arrival.as_ref()).await;
        let evidence = Evidence {
            peer: self.request.way.peer,
            browser,
            declared: declared(params),
            role,
            credentials: checked.credentials.clone(),
            proof,
            record: match &arrival {
                Some(arrival) => self.gateway.pairings.record(arrival),
                None => Record::Unknown,
            },
        };
        let policy = Policy {
            open: matches!(self.gateway.config.auth, Auth::None),
            deviceless_loopback: self.gateway.config.deviceless_loopback.clone(),
        };
        let outcome = authz::grant(&evidence, params.scopes.as_ref(), &policy);
        match outcome {
            Outcome::Granted(grant) => {
                self.welcome(&evidence, grant, arrival, &checked).await
            }
            Outcome::NeedsPairing(reason) => Err(self.ask(&evidence, arrival, reason).await),
            Outcome::Denied(denied) => {
                if matches!(denied, Denied::Credential(_)) && checked.delay_ms > 0 {
                    // A failure on this machine is answered slowly when there were many.
                    tokio::time::sleep(std::time::Duration::from_millis(checked.delay_ms)).await;
                }
                Err(self.refuse(self.denied(&evidence, denied, &checked)))
            }
        }
    }

    fn unprintable_scope(&self) -> Option<usize> {
        let scopes = self.params.scopes.as_ref()?;
        scopes
            .iter()
            .position(|scope| scope.as_str().chars().any(char::is_control) || scope.as_str().len() > 128)
    }

    fn browser(&self) -> (Browser, Option<OriginFault>) {
        let client = &self.params.client;
        let seen = OriginSeen {
            origin: match self.request.headers.get("origin") {
                Some(value) => Some(value.to_str().unwrap_or("unreadable")),
                None => None,
            },
            host: self.request.header("host"),
            fetch_site: self.request.header("sec-fetch-site"),
            direct_loopback: self.request.way.peer == Peer::LoopbackDirect,
            needs_origin: client.is_control_ui() || client.is_webchat(),
        };
        origin::judge(&seen, &self.gateway.config.origins)
    }

    fn proof(&self, role: Role, role_name: &str) -> (Proof, Option<Arrival>) {
        let Some(device) = &self.params.device else {
            return (Proof::Absent, None);
        };
        let client = &self.params.client;
        let scopes = self.params.scopes.as_ref().map(ScopeSet::joined).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let signed_at_ms = device.signed_at as u64;
        let claim = Claim {
            public_key: &device.public_key,
            signature: &device.signature,
            text: ProofText {
                device_id: &device.id,
                client_id: &client.id,
                client_mode: &client.mode,
                role: role_name,
                scopes: &scopes,
                signed_at_ms,
                token: self.params.auth.signed_token(),
                nonce: &device.nonce,
                platform: &client.platform,
                device_family: client.device_family.as_deref().unwrap_or_default(),
            },
        };
        match proof::verify(&claim, self.nonce, now_ms()) {
            Err(fault) => (Proof::Bad(fault), None),
            Ok(key) => {
                let direct = self.request.way.peer == Peer::LoopbackDirect;
                let arrival = Arrival {
                    device_id: DeviceId::new(key.device_id()),
                    public_key: key.to_base64url(),
                    role,
                    claims: Claims {
                        display_name: client.display_name.clone(),
                        platform: Some(client.platform.clone()),
                        device_family: client.device_family.clone(),
                        client_id: client.id.clone(),
                        client_mode: client.mode.clone(),
                        remote_ip: (!direct).then(|| self.request.client_address()),
                    },
                };
                (Proof::Valid, Some(arrival))
            }
        }
    }

    async fn check(&self, browser: Browser, role: &str, arrival: Option<&Arrival>) -> Checked {
        let checker = Checker {
            config: &self.gateway.config,
            guard: &self.gateway.guard,
            keys: &self.gateway.keys,
            pairings: &self.gateway.pairings,
            tokens: &self.gateway.tokens,
        };
        let presented = Presented {
            request: self.request,
            peer: self.request.way.peer,
            browser,
            dialect: self.dialect,
            auth: &self.params.auth,
            nonce: self.nonce,
            role,
            scopes: self.params.scopes.as_ref(),
            arrival,
        };
        checker.check(&presented).await
    }

    async fn welcome(
        &self,
        evidence: &Evidence,
        grant: Grant,
        arrival: Option<Arrival>,
        checked: &Checked,
    ) -> Result<(Principal, Welcome), Refusal> {
        let mut pending_request = None;
        let mut token = None;
        if let Some(arrival) = &arrival {
            let done = self.settle(&grant, arrival).await;
            (token, pending_request) = done.map_err(|error| self.unavailable(&error))?;
        }
        let client = &self.params.client;
        let device_id = arrival.as_ref().map(|arrival| arrival.device_id.clone());
        let key = device_id
            .as_ref()
            .map(ToString::to_string)
            .or_else(|| client.instance_id.clone())
            .unwrap_or_else(|| self.conn_id.to_owned());
        let welcome = Welcome {
            id: self.id.to_owned(),
            here: Here {
                client: client.clone(),
                role: grant.role(),
                scopes: grant.scopes().clone(),
                device_id: device_id.as_ref().map(ToString::to_string),
                key,
            },
            explained: Explained {
                seen: seen(evidence, checked, device_id.as_ref()),
                requested: self.params.scopes.clone(),
            },
            method: method(evidence, checked, &self.gateway.config.auth),
            token,
        };
        let principal = Principal {
            conn_id: self.conn_id.to_owned(),
            dialect: self.dialect,
            device_id,
            api_token: checked.api_token.clone(),
            pending_request,
            address: self.request.client_address(),
            client_id: client.id.clone(),
            client_mode: client.mode.clone(),
            grant,
        };
        Ok((principal, welcome))
    }

    /// Does to the device's record what the grant says: keeps, approves, or asks.
    async fn settle(
        &self,
        grant: &Grant,
        arrival: &Arrival,
    ) -> Result<(Option<IssuedToken>, Option<String>), StoreError> {
        let pairings = &self.gateway.pairings;
        let mut request = None;
        match grant.pairing() {
            PairingStep::None => return Ok((None, None)),
            PairingStep::Keep => {}
            PairingStep::Approve(reason) => {
                pairings
                    .approve_silently(arrival, grant.scopes(), reason)
                    .await?;
            }
            PairingStep::Ask(_) => {
                let wanted = self.params.scopes.clone().unwrap_or_default();
                request = Some(pairings.ask(arrival, &wanted).await?.into_string());
            }
        }
        // An operator that asked for nothing and has nothing gets no token to keep.
        if !grant.has_device_token() {
            return Ok((None, request));
        }
        Ok((pairings.token_of(arrival).await?, request))
    }

    async fn ask(
        &self,
        evidence: &Evidence,
        arrival: Option<Arrival>,
        reason: PairingReason,
    ) -> Refusal {
        let Some(arrival) = arrival else {
            return self.refuse(identity_required(self.params));
        };
        let wanted = match (&self.params.scopes, evidence.role) {
            (_, Role::Node) => ScopeSet::EMPTY,
            (Some(scopes), Role::Operator) => scopes.clone(),
            (None, Role::Operator) => ScopeSet::from_iter([Scope::READ]),
        };
        match self.gateway.pairings.ask(&arrival, &wanted).await {
            Ok(request_id) => {
                pairing_required(self.dialect, self.id, evidence, &arrival, &wanted, reason, request_id.as_str())
            }
            Err(error) => self.unavailable(&error),
        }
    }

    fn denied(&self, evidence: &Evidence, denied: Denied, checked: &Checked) -> ErrorShape {
        // A Control UI without a device is told that first, whatever else it presents.
        if evidence.proof == Proof::Absent
            && self.params.client.is_control_ui()
            && matches!(denied, Denied::Credential(_))
        {
            return identity_required(self.params);
        }
        match denied {
            Denied::DeviceIdentityRequired if self.secret_is_in_the_other_field() => {
                self.credential_missing()
            }
            Denied::OriginNotAllowed => origin_error(OriginFault::NotAllowed),
            Denied::DeviceProof(fault) => proof_error(fault),
            Denied::DeviceIdentityRequired => identity_required(self.params),
            Denied::CredentialMissing => self.credential_missing(),
            Denied::Credential(fault) => self.credential_error(evidence, fault),
            Denied::NothingGranted => nothing_granted(self.dialect, self.params, checked),
        }
    }

    /// Wire 3 takes the secret from the field of its mode alone and calls the other one missing.
    fn secret_is_in_the_other_field(&self) -> bool {
        let auth = &self.params.auth;
        let (own, other) = match &self.gateway.config.auth {
            Auth::Token(_) => (&auth.token, &auth.password),
            Auth::Password(_) => (&auth.password, &auth.token),
            Auth::None | Auth::TrustedProxy(_) => return false,
        };
        let filled = |secret: &Option<String>| {
            secret.as_deref().is_some_and(|secret| !secret.trim().is_empty())
        };
        self.dialect == Dialect::V3
            && !self.params.client.is_control_ui()
            && !filled(own)
            && filled(other)
    }

    fn credential_missing(&self) -> ErrorShape {
        let hint = self.hint("provide gateway auth");
        match &self.gateway.config.auth {
            Auth::Password(_) => auth_error(
                "password_missing",
                "AUTH_PASSWORD_MISSING",
                format!("unauthorized: gateway password missing ({hint})"),
                "update_auth_configuration",
            ),
            Auth::Token(_) => auth_error(
                "token_missing",
                "AUTH_TOKEN_MISSING",
                format!("unauthorized: gateway token missing ({hint})"),
                "update_auth_configuration",
            ),
            Auth::TrustedProxy(_) => auth_error(
                "trusted_proxy_user_missing",
                "AUTH_UNAUTHORIZED",
                "unauthorized".to_owned(),
                "review_auth_configuration",
            ),
            Auth::None => auth_error(
                "unauthorized",
                "AUTH_REQUIRED",
                "unauthorized".to_owned(),
                "review_auth_configuration",
            ),
        }
    }

    /// The original's hints, by who asks.
    fn hint(&self, other: &str) -> String {
        let client = &self.params.client;
        let password = matches!(self.gateway.config.auth, Auth::Password(_));
        let word = if password { "password" } else { "token" };
        if client.mode == "cli" {
            let local = self.request.way.peer == Peer::LoopbackDirect;
            return match self.dialect {
                Dialect::V4 if local && password => {
                    "use this gateway's gateway.auth.password".to_owned()
                }
                Dialect::V4 if local => {
                    "use this gateway's gateway.auth.token or pair the device".to_owned()
                }
                _ => format!("set gateway.remote.{word} to match gateway.auth.{word}"),
            };
        }
        if client.is_control_ui() || client.is_webchat() {
            return if password {
                "enter the password in Control UI settings".to_owned()
            } else {
                "open the dashboard URL and paste the token in Control UI settings".to_owned()
            };
        }
        format!("{other} {word}")
    }

    fn credential_error(&self, evidence: &Evidence, fault: CredentialFault) -> ErrorShape {
        let hint = || self.hint("provide gateway auth");
        let credentials = "update_auth_credentials";
        let configuration = "update_auth_configuration";
        let review = "review_auth_configuration";
        match fault {
            CredentialFault::TokenMismatch => {
                let mut error = auth_error(
                    "token_mismatch",
                    "AUTH_TOKEN_MISMATCH",
                    format!("unauthorized: gateway token mismatch ({})", hint()),
                    credentials,
                );
                let auth = &self.params.auth;
                if evidence.proof == Proof::Valid
                    && auth.token.is_some()
                    && auth.device_token.is_none()
                    && let Some(details) = error.details.as_mut()
                {
                    details["canRetryWithDeviceToken"] = Value::Bool(true);
                    details["recommendedNextStep"] = "retry_with_device_token".into();
                }
                error
            }
            CredentialFault::TokenNotConfigured => auth_error(
                "token_missing_config",
                "AUTH_TOKEN_NOT_CONFIGURED",
                "unauthorized: gateway token not configured on gateway (set gateway.auth.token)".to_owned(),
                configuration,
            ),
            CredentialFault::PasswordMismatch => auth_error(
                "password_mismatch",
                "AUTH_PASSWORD_MISMATCH",
                format!("unauthorized: gateway password mismatch ({})", hint()),
                credentials,
            ),
            CredentialFault::PasswordNotConfigured => auth_error(
                "password_missing_config",
                "AUTH_PASSWORD_NOT_CONFIGURED",
                "unauthorized: gateway password not configured on gateway (set gateway.auth.password)".to_owned(),
                configuration,
            ),
            CredentialFault::DeviceTokenMismatch => auth_error(
                "device_token_mismatch",
                "AUTH_DEVICE_TOKEN_MISMATCH",
                "unauthorized: device token mismatch (rotate/reissue device token)".to_owned(),
                credentials,
            ),
            CredentialFault::BootstrapInvalid => auth_error(
                "bootstrap_token_invalid",
                "AUTH_BOOTSTRAP_TOKEN_INVALID",
                match self.dialect {
                    Dialect::V3 => "unauthorized: bootstrap token invalid or expired (scan a fresh setup code)",
                    Dialect::V4 => "unauthorized: setup code invalid, expired, revoked, or already used (create a new code; review `openclaw devices list`)",
                }
                .to_owned(),
                review,
            ),
            CredentialFault::ApiTokenExpired => auth_error(
                "api_token_expired",
                "AUTH_API_TOKEN_EXPIRED",
                "unauthorized: API token expired (make a new one: clawgate tokens create)".to_owned(),
                credentials,
            ),
            CredentialFault::ApiTokenRevoked => auth_error(
                "api_token_revoked",
                "AUTH_API_TOKEN_REVOKED",
                "unauthorized: API token revoked (make a new one: clawgate tokens create)".to_owned(),
                credentials,
            ),
            CredentialFault::LocalProofMismatch => auth_error(
                "local_proof_mismatch",
                "AUTH_LOCAL_PROOF_MISMATCH",
                "unauthorized: local proof mismatch (point --state-dir at this gateway's state directory)".to_owned(),
                credentials,
            ),
            CredentialFault::LocalProofNotLocal => auth_error(
                "local_proof_not_local",
                "AUTH_LOCAL_PROOF_NOT_LOCAL",
                "unauthorized: a local proof counts on the gateway's own machine only".to_owned(),
                review,
            ),
            CredentialFault::ProxyUserMissing => {
                auth_error("trusted_proxy_user_missing", "AUTH_UNAUTHORIZED", "unauthorized".to_owned(), review)
            }
            CredentialFault::ProxyUntrusted => {
                auth_error("trusted_proxy_untrusted_source", "AUTH_UNAUTHORIZED", "unauthorized".to_owned(), review)
            }
            CredentialFault::ProxyUserNotAllowed => {
                auth_error("trusted_proxy_user_not_allowed", "AUTH_UNAUTHORIZED", "unauthorized".to_owned(), review)
            }
            CredentialFault::RateLimited { retry_after_ms } => {
                let error = auth_error(
                    "rate_limited",
                    "AUTH_RATE_LIMITED",
                    "unauthorized: too many failed authentication attempts (retry later)".to_owned(),
                    "wait_then_retry",
                );
                match self.dialect {
                    Dialect::V3 => error,
                    Dialect::V4 => error.retry_after(retry_after_ms),
                }
            }
        }
    }

    fn refuse(&self, error: ErrorShape) -> Refusal {
        Refusal::answered(self.id, error)
    }

    fn unavailable(&self, error: &StoreError) -> Refusal {
        let incident = uuid::Uuid::new_v4();
        tracing::error!(%incident, %error, "a connect failed inside");
        self.refuse(ErrorShape::unavailable(format!("internal error (incident {incident})")))
    }

    /// One line for a refused connect.
    fn log(&self, refusal: &Refusal) {
        let error = refusal.response.as_ref().map(|(_, error)| error);
        tracing::warn!(
            method = "connect",
            code = error.and_then(ErrorShape::detail_code).unwrap_or("-"),
            reason = %refusal.reason,
            conn = self.conn_id,
            id = self.id,
            peer = self.request.way.peer.as_str(),
            address = %self.request.client_address(),
            client = %self.params.client.id,
            "refused"
        );
    }
}

fn declared(params: &ConnectParams) -> Declared {
    let client = &params.client;
    if client.is_control_ui() {
        Declared::ControlUi
    } else if client.is_webchat() {
        Declared::Webchat
    } else if client.is_backend() {
        Declared::Backend
    } else {
        Declared::Other
    }
}

fn auth_error(reason: &str, code: &str, message: String, next: &str) -> ErrorShape {
    ErrorShape::invalid(message).with_details(json!({
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": false,
        "recommendedNextStep": next,
    }))
}

fn origin_error(fault: OriginFault) -> ErrorShape {
    ErrorShape::invalid(
        "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
    )
    .with_details(json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": fault.as_str()}))
}

fn proof_error(fault: ProofFault) -> ErrorShape {
    let (message, code, reason) = match fault {
        ProofFault::IdentityMismatch => (
            "device identity mismatch",
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            "device-id-mismatch",
        ),
        ProofFault::Expired => (
            "device signature expired",
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            "device-signature-stale",
        ),
        ProofFault::NonceMissing => (
            "device nonce required",
            "DEVICE_AUTH_NONCE_REQUIRED",
            "device-nonce-missing",
        ),
        ProofFault::NonceMismatch => (
            "device nonce mismatch",
            "DEVICE_AUTH_NONCE_MISMATCH",
            "device-nonce-mismatch",
        ),
        ProofFault::SignatureInvalid => (
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
        ),
    };
    ErrorShape::invalid(message).with_details(json!({"code": code, "reason": reason}))
}

/// Refused for want of a device, with the next step in it: a remote caller never gets a hello
/// that can do nothing.
fn identity_required(params: &ConnectParams) -> ErrorShape {
    let next = "connect with a device identity and have it approved: clawgate devices approve";
    if params.client.is_control_ui() {
        return ErrorShape::invalid(
            "control ui requires device identity (use HTTPS or localhost secure context)",
        )
        .with_details(json!({"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED", "nextStep": next}));
    }
    ErrorShape::new(ErrorCode::NotPaired, "device identity required")
        .with_details(json!({"code": "DEVICE_IDENTITY_REQUIRED", "nextStep": next}))
}

fn nothing_granted(dialect: Dialect, params: &ConnectParams, checked: &Checked) -> ErrorShape {
    let wanted = params.scopes.clone().unwrap_or_default();
    let held = checked.api_token.as_deref().map_or_else(
        || "no presented credential".to_owned(),
        |name| format!("API token {name:?}"),
    );
    let first = wanted.iter().next().map(ToString::to_string).unwrap_or_default();
    let code = match dialect {
        Dialect::V3 => ErrorCode::InvalidRequest,
        Dialect::V4 => ErrorCode::Forbidden,
    };
    ErrorShape::new(code, format!("missing scope: {first}")).with_details(json!({
        "code": "MISSING_SCOPE",
        "missingScope": first,
        "requiredScopes": wanted,
        "reason": format!("{held} carries none of the requested scopes"),
        "nextStep": "ask for scopes that the credential carries, or make one that carries them: clawgate tokens create",
    }))
}

fn pairing_required(
    dialect: Dialect,
    id: &str,
    evidence: &Evidence,
    arrival: &Arrival,
    wanted: &ScopeSet,
    reason: PairingReason,
    request_id: &str,
) -> Refusal {
    if dialect == Dialect::V3 {
        let details =
            json!({"code": "PAIRING_REQUIRED", "requestId": request_id, "reason": reason.as_str()});
        let error = ErrorShape::new(ErrorCode::NotPaired, "pairing required").with_details(details);
        return Refusal::answered(id, error);
    }
    let (text, hint) = match reason {
        PairingReason::NotPaired => (
            "device is not approved yet",
            "Approve this device from the pending pairing requests.",
        ),
        PairingReason::ScopeUpgrade => (
            "device is asking for more scopes than currently approved",
            "Review the requested scopes, then approve the pending upgrade.",
        ),
        PairingReason::RoleUpgrade => (
            "device is asking for a higher role than currently approved",
            "Review the requested role upgrade, then approve the pending request.",
        ),
        PairingReason::MetadataUpgrade => (
            "device identity changed and must be re-approved",
            "Review the refreshed device details, then approve the pending request.",
        ),
    };
    let mut details = json!({
        "code": "PAIRING_REQUIRED",
        "reason": reason.as_str(),
        "requestId": request_id,
        "remediationHint": hint,
        "deviceId": arrival.device_id,
        "requestedRole": arrival.role,
    });
    if !wanted.is_empty() {
        details["requestedScopes"] = json!(wanted);
    }
    if let Record::Paired {
        scopes, for_role, ..
    } = &evidence.record
    {
        let roles = if *for_role { vec![arrival.role] } else { Vec::new() };
        details["approvedRoles"] = json!(roles);
        details["approvedScopes"] = json!(scopes);
    }
    let message = format!("pairing required: {text}");
    let reason = format!("{message} (requestId: {request_id})");
    let error = ErrorShape::new(ErrorCode::NotPaired, message).with_details(details);
    Refusal::answered(id, error).closing_with(1008, reason)
}

/// `hello-ok.auth.method` of wire 4.
fn method(evidence: &Evidence, checked: &Checked, auth: &Auth) -> &'static str {
    if checked.api_token.is_some() {
        return "api-token";
    }
    if evidence.credentials.shared == authz::Check::Valid {
        return auth.mode();
    }
    if checked.by_device_token {
        return "device-token";
    }
    if evidence.credentials.local_proof == authz::Check::Valid {
        return "local-proof";
    }
    auth.mode()
}

fn seen(evidence: &Evidence, checked: &Checked, device: Option<&DeviceId>) -> EvidenceSeen {
    let given = &evidence.credentials;
    let mut credentials = Vec::new();
    if given.shared == authz::Check::Valid {
        credentials.push("shared-secret".to_owned());
    }
    if let Some(name) = &checked.api_token {
        credentials.push(format!("api-token:{name}"));
    }
    if matches!(given.device_token, authz::ScopedCheck::Valid(_)) {
        credentials.push("device-token".to_owned());
    }
    if given.local_proof == authz::Check::Valid {
        credentials.push("local-proof".to_owned());
    }
    if matches!(given.identity, authz::ScopedCheck::Valid(_)) {
        credentials.push("proxy-identity".to_owned());
    }
    EvidenceSeen {
        peer: evidence.peer.as_str().to_owned(),
        browser: evidence.browser.as_str().to_owned(),
        credentials,
        device_proof: if evidence.proof == Proof::Valid { "valid" } else { "absent" }.to_owned(),
        record: match &evidence.record {
            Record::Unknown => "unknown",
            Record::Pending => "pending",
            Record::Revoked => "revoked",
            Record::Paired { .. } => "paired",
        }
        .to_owned(),
        device_id: device.map(ToString::to_string),
    }
}

/// The hello of a granted connect.
pub(crate) fn hello(gateway: &Gateway, principal: &Principal, welcome: &Welcome) -> String {
    let grant = &principal.grant;
    let dialect = principal.dialect;
    let admin = grant.scopes().covers(&Scope::ADMIN);
    let reads = grant.scopes().covers(&Scope::READ);
    let presence = if reads {
        gateway.presence.list_json(now_ms())
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
    let config_path = gateway.config.path.to_string_lossy();
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
            auth_mode: admin.then(|| gateway.config.auth.mode()),
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
