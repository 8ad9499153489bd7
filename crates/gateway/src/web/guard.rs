//! Who makes a plain request: the same evidence, the same checks and the same decision as for a
//! socket.

use std::sync::Arc;

use clawgate_core::{
    Dialect, Role, Scope, ScopeSet,
    authz::{
        self, Browser, CredentialFault, Declared, Denied, Evidence, Outcome, Peer, Policy, Proof,
        Record,
    },
    origin::{self, OriginFault, OriginSeen},
};
use clawgate_protocol::connect::AuthClaim;

use crate::{
    Gateway,
    config::Auth,
    credentials::{Checker, Presented},
    listen::Request,
};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The page may not talk to this gateway.
    Origin(OriginFault),
    /// There is no credential, or none that holds here.
    Unauthorized,
    /// The credential holds, and does not carry this.
    MissingScope(Scope),
    /// Too many failures from there.
    RateLimited { retry_after_ms: u64 },
}

impl Refused {
    /// A word for the log.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Origin(fault) => fault.as_str(),
            Self::Unauthorized => "unauthorized",
            Self::MissingScope(_) => "missing scope",
            Self::RateLimited { .. } => "too many failures",
        }
    }
}

/// Which page speaks, if one does. Before any credential is looked at.
pub(super) fn page(gateway: &Gateway, request: &Request) -> Result<Browser, OriginFault> {
    let seen = OriginSeen {
        origin: request
            .headers
            .get("origin")
            .map(|value| value.to_str().unwrap_or("unreadable")),
        host: request.header("host"),
        fetch_site: request.header("sec-fetch-site"),
        direct_loopback: request.way.peer == Peer::LoopbackDirect,
        needs_origin: false,
    };
    match origin::judge(&seen, &gateway.config().origins) {
        (browser, None) => Ok(browser),
        (_, Some(fault)) => Err(fault),
    }
}

/// The secret of `Authorization: Bearer`.
pub(super) fn bearer(request: &Request) -> Option<&str> {
    let (scheme, secret) = request.header("authorization")?.trim().split_once(' ')?;
    Some(secret.trim()).filter(|secret| scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty())
}

/// Whether a request may have what needs this scope.
pub(super) async fn authorize(
    gateway: &Arc<Gateway>,
    request: &Request,
    needed: Scope,
) -> Result<(), Refused> {
    let browser = page(gateway, request).map_err(Refused::Origin)?;
    let config = gateway.config();
    let secret = bearer(request).map(str::to_owned);
    let auth = AuthClaim {
        token: secret.clone(),
        password: secret,
        bootstrap_token: None,
        device_token: None,
        local_proof: None,
    };
    let wanted = ScopeSet::from_iter([needed.clone()]);
    let checker = Checker {
        config: &config,
        guard: &gateway.guard,
        keys: &gateway.keys,
        pairings: &gateway.pairings,
        tokens: &gateway.tokens,
    };
    let presented = Presented {
        request,
        peer: request.way.peer,
        browser,
        dialect: Dialect::V3,
        auth: &auth,
        nonce: "",
        role: "operator",
        scopes: Some(&wanted),
        arrival: None,
    };
    let checked = checker.check(&presented).await;
    let evidence = Evidence {
        peer: request.way.peer,
        browser,
        declared: Declared::Other,
        role: Role::Operator,
        credentials: checked.credentials,
        proof: Proof::Absent,
        record: Record::Unknown,
    };
    let policy = Policy {
        open: matches!(config.auth, Auth::None),
        deviceless_loopback: config.deviceless_loopback.clone(),
    };
    match authz::grant(&evidence, Some(&wanted), &policy) {
        Outcome::Granted(grant) if grant.scopes().covers(&needed) => Ok(()),
        Outcome::Granted(_) | Outcome::Denied(Denied::NothingGranted) => {
            Err(Refused::MissingScope(needed))
        }
        Outcome::Denied(Denied::Credential(CredentialFault::RateLimited { retry_after_ms })) => {
            Err(Refused::RateLimited { retry_after_ms })
        }
        Outcome::Denied(_) | Outcome::NeedsPairing(_) => Err(Refused::Unauthorized),
    }
}

/// Whether a request may read what says more of the gateway than that it is there: it comes from
/// this machine, or it is authorized to read.
pub(super) async fn is_trusted(gateway: &Arc<Gateway>, request: &Request) -> bool {
    let here = request.way.peer == Peer::LoopbackDirect && page(gateway, request).is_ok();
    here || (bearer(request).is_some() && authorize(gateway, request, Scope::READ).await.is_ok())
}
