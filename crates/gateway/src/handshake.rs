//! `connect`: gathers the evidence, asks `core::authz`, and writes the hello or the refusal.

mod hello;
mod refusal;

use std::{collections::BTreeMap, sync::Arc};

use clawgate_core::{
    DeviceId, Dialect, Role, Scope, ScopeSet,
    authz::{
        self, Browser, Declared, Evidence, Grant, Outcome, PairingReason, PairingStep, Peer, Proof,
        Record,
    },
    node::Surface,
    origin::OriginFault,
    pairing::Claims,
    proof::{self, Claim},
};
use clawgate_protocol::{
    ErrorShape,
    connect::{ConnectParams, parse_connect},
    frame::{self, DecodeError},
    node::{NAME_MAX, NAMES_MAX},
    proof::ProofText,
    system::EvidenceSeen,
};
use clawgate_store::StoreError;
use serde_json::{Value, json};

pub(crate) use hello::{hello, missing};
use refusal::{identity_required, origin_error, pairing_required, proof_error};

use crate::{
    Gateway,
    clock::now_ms,
    config::Auth,
    credentials::{Checked, Checker, Presented},
    error,
    hub::{Caps, Principal},
    listen::Request,
    logs, nodes,
    pairing::{Arrival, IssuedToken},
    presence::Here,
    standing::{self, Page, Standing},
    tokens::Held,
};

/// How a connect ends without a hello: an optional response, then a close.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub response: Option<(Value, ErrorShape)>,
    pub code: u16,
    pub reason: String,
    /// What was asked for instead of `connect`, for the log.
    method: Option<String>,
    /// What the client calls itself, for the log.
    client: Option<String>,
}

impl Refusal {
    fn silent(code: u16, reason: &str) -> Self {
        Self {
            response: None,
            code,
            reason: reason.to_owned(),
            method: None,
            client: None,
        }
    }

    fn answered(id: &str, error: ErrorShape) -> Self {
        let reason = error.message.clone();
        Self {
            response: Some((Value::from(id), error)),
            code: 1008,
            reason,
            method: None,
            client: None,
        }
    }

    fn closing_with(mut self, code: u16, reason: impl Into<String>) -> Self {
        self.code = code;
        self.reason = reason.into();
        self
    }

    /// One line for a refused connect.
    fn log(&self, request: &Request, conn_id: &str) {
        let (id, code) = match &self.response {
            Some((id, error)) => (id.as_str().unwrap_or("-"), error.exact_code().to_owned()),
            None => ("-", self.code.to_string()),
        };
        let reason = match self.reason.as_str() {
            "" => "not JSON",
            reason => reason,
        };
        tracing::warn!(
            method = logs::clip(self.method.as_deref().unwrap_or("connect"), 80),
            code,
            reason = logs::clip(reason, 300),
            conn = conn_id,
            id = logs::clip(id, 80),
            peer = request.way.peer.as_str(),
            address = %request.client_address(),
            client = self.client.as_deref().unwrap_or("-"),
            "refused"
        );
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
    /// What it declares, where it is a node.
    pub node: Option<nodes::Declared>,
}

/// What `auth.explain` tells later.
#[derive(Clone, Debug)]
pub(crate) struct Explained {
    pub seen: EvidenceSeen,
    pub requested: Option<ScopeSet>,
}

/// Judges the first message of a socket. A refusal has its line in the log.
pub(crate) async fn judge(
    gateway: &Arc<Gateway>,
    request: &Request,
    conn_id: &str,
    nonce: &str,
    text: &str,
) -> Result<(Principal, Welcome), Refusal> {
    let judged = judge_text(gateway, request, conn_id, nonce, text).await;
    if let Err(refusal) = &judged {
        let address = request.way.client.unwrap_or_else(|| request.socket.ip());
        if gateway
            .strangers
            .is_written(address, std::time::Instant::now())
        {
            refusal.log(request, conn_id);
        }
    }
    judged
}

async fn judge_text(
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
        return Err(Refusal {
            method: Some(frame.method.into_owned()),
            ..Refusal::answered(&id, ErrorShape::invalid(message))
        });
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
    let judged = if dialect == Dialect::V4 && frame.expected_profile.is_some() {
        Err(attempt.refuse(error::other_profile()))
    } else {
        attempt.judge().await
    };
    judged.map_err(|refusal| Refusal {
        client: Some(params.client.id.clone()),
        ..refusal
    })
}

/// The dialect that both speak. A probe of the newer version offers 3 as well and is answered in 4.
fn negotiate(params: &ConnectParams) -> Option<Dialect> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
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
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates; the shape asks for integers"
    )]
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
    Refusal::answered(
        id,
        ErrorShape::invalid("protocol mismatch").with_details(details),
    )
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
        if role == Role::Node
            && let Some(problem) = self.undeclarable()
        {
            return Err(self.refuse(ErrorShape::invalid(format!(
                "invalid connect params: {problem}"
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
        let policy = standing::policy(&self.gateway.config());
        let outcome = authz::grant(&evidence, params.scopes.as_ref(), &policy);
        match outcome {
            Outcome::Granted(grant) => self.welcome(&evidence, grant, arrival, &checked).await,
            Outcome::NeedsPairing(reason) => Err(self.ask(&evidence, arrival, reason).await),
            Outcome::Denied(denied) => Err(self.refuse(self.denied(&evidence, denied, &checked))),
        }
    }

    fn unprintable_scope(&self) -> Option<usize> {
        let scopes = self.params.scopes.as_ref()?;
        scopes.iter().position(|scope| {
            scope.as_str().chars().any(char::is_control) || scope.as_str().len() > 128
        })
    }

    /// What a node declares is kept, shown and approved: names only, and not without bound.
    fn undeclarable(&self) -> Option<String> {
        let params = self.params;
        let permissions = params.permissions.as_ref().map_or(0, BTreeMap::len);
        if permissions > NAMES_MAX {
            return Some(format!(
                "at /permissions: must NOT have more than {NAMES_MAX} properties"
            ));
        }
        [("caps", &params.caps), ("commands", &params.commands)]
            .into_iter()
            .find_map(|(member, names)| {
                if names.len() > NAMES_MAX {
                    return Some(format!(
                        "at /{member}: must NOT have more than {NAMES_MAX} items"
                    ));
                }
                let odd = names.iter().position(|name| {
                    name.chars().any(char::is_control) || name.chars().count() > NAME_MAX
                })?;
                Some(format!("at /{member}/{odd}: must be a name"))
            })
    }

    fn browser(&self) -> (Browser, Option<OriginFault>) {
        self.page().judge(&self.gateway.config())
    }

    fn page(&self) -> Page {
        let client = &self.params.client;
        let header = |name| self.request.header(name).map(str::to_owned);
        Page {
            origin: self
                .request
                .headers
                .get("origin")
                .map(|value| value.to_str().unwrap_or("unreadable").to_owned()),
            host: header("host"),
            fetch_site: header("sec-fetch-site"),
            direct_loopback: self.request.way.peer == Peer::LoopbackDirect,
            needs_origin: client.is_control_ui() || client.is_webchat(),
        }
    }

    fn proof(&self, role: Role, role_name: &str) -> (Proof, Option<Arrival>) {
        let Some(device) = &self.params.device else {
            return (Proof::Absent, None);
        };
        let client = &self.params.client;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates"
        )]
        let signed_at_ms = device.signed_at as u64;
        let claim = Claim {
            public_key: &device.public_key,
            signature: &device.signature,
            text: ProofText {
                device_id: &device.id,
                client_id: &client.id,
                client_mode: &client.mode,
                role: role_name,
                scopes: &self.params.signed_scopes,
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
                        surface: match role {
                            Role::Node => Surface::new(&self.params.caps, &self.params.commands),
                            Role::Operator => Surface::default(),
                        },
                    },
                };
                (Proof::Valid, Some(arrival))
            }
        }
    }

    async fn check(&self, browser: Browser, role: &str, arrival: Option<&Arrival>) -> Checked {
        let checker = Checker {
            config: &self.gateway.config(),
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
            let done = self.settle(&grant, &evidence.record, arrival).await;
            (token, pending_request) = done.map_err(|error| self.unavailable(&error))?;
        }
        let node = match &arrival {
            Some(arrival) if grant.role() == Role::Node => {
                let declared = self
                    .gateway
                    .nodes
                    .declare(arrival, &self.params.client)
                    .await;
                let declared = declared.map_err(|error| self.unavailable(&error))?;
                Some(nodes::Declared {
                    permissions: self.params.permissions.clone(),
                    path_env: self.params.path_env.clone(),
                    ..declared
                })
            }
            _ => None,
        };
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
            method: method(evidence, checked, &self.gateway.config().auth),
            token,
            node,
        };
        let principal = Principal {
            conn_id: self.conn_id.to_owned(),
            dialect: self.dialect,
            device_id,
            api_token: checked.api_token.as_ref().map(|held| held.name.clone()),
            expires_at_ms: checked
                .api_token
                .as_ref()
                .and_then(|held| held.expires_at_ms),
            pending_request,
            peer: self.request.way.peer,
            address: self.request.client_address(),
            client_id: client.id.clone(),
            client_mode: client.mode.clone(),
            caps: Caps::of(&self.params.caps, self.dialect),
            standing: Some(Box::new(Standing {
                evidence: evidence.clone(),
                requested: self.params.scopes.clone(),
                page: self.page(),
                proxy_user: checked.proxy_user.clone(),
                socket: self.request.socket.ip(),
            })),
            grant,
        };
        Ok((principal, welcome))
    }

    /// Does to the device's record what the grant says: keeps, approves, or asks.
    async fn settle(
        &self,
        grant: &Grant,
        judged: &Record,
        arrival: &Arrival,
    ) -> Result<(Option<IssuedToken>, Option<String>), StoreError> {
        let pairings = &self.gateway.pairings;
        let mut request = None;
        match grant.pairing() {
            PairingStep::None => return Ok((None, None)),
            PairingStep::Keep => {}
            PairingStep::Approve(reason) => {
                pairings
                    .approve_silently(arrival, judged, grant.scopes(), reason)
                    .await?;
            }
            PairingStep::Ask(_) => {
                let wanted = self.to_be_approved(grant.role());
                request = Some(pairings.ask(arrival, &wanted).await?.into_string());
            }
        }
        // An operator that asked for nothing and has nothing gets no token to keep.
        if !grant.has_device_token() {
            return Ok((None, request));
        }
        Ok((pairings.token_of(arrival).await?, request))
    }

    /// What a person is asked to approve. Scopes that nobody can grant are not asked for.
    fn to_be_approved(&self, role: Role) -> ScopeSet {
        match (&self.params.scopes, role) {
            (_, Role::Node) => ScopeSet::EMPTY,
            (Some(scopes), Role::Operator) => scopes
                .iter()
                .filter(|scope| scope.is_operator())
                .cloned()
                .collect(),
            (None, Role::Operator) => ScopeSet::from_iter([Scope::READ]),
        }
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
        let wanted = self.to_be_approved(evidence.role);
        match self.gateway.pairings.ask(&arrival, &wanted).await {
            Ok(request_id) => pairing_required(
                self.dialect,
                self.id,
                evidence,
                &arrival,
                &wanted,
                reason,
                request_id.as_str(),
            ),
            Err(error) => self.unavailable(&error),
        }
    }

    fn refuse(&self, error: ErrorShape) -> Refusal {
        Refusal::answered(self.id, error)
    }

    fn unavailable(&self, error: &StoreError) -> Refusal {
        self.refuse(error::store(error))
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
    if let Some(Held { name, .. }) = &checked.api_token {
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
        device_proof: if evidence.proof == Proof::Valid {
            "valid"
        } else {
            "absent"
        }
        .to_owned(),
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
