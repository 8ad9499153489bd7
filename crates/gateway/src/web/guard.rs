//! Who makes a plain request: the same evidence, the same checks and the same decision as for a
//! socket.

use std::{sync::Arc, time::Duration};

use clawgate_core::{
    Dialect, Role, Scope, ScopeSet,
    authz::{
        self, Browser, Check, CredentialFault, Declared, Denied, Evidence, Grant, Outcome, Peer,
        Proof, Record,
    },
    origin::OriginFault,
};
use clawgate_protocol::connect::AuthClaim;

use crate::{
    Gateway,
    clock::now_ms,
    credentials::{Checked, Checker, Presented},
    hub::{Caps, Link, Principal},
    listen::Request,
    standing::{self, Page, Standing},
};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The page may not talk to this gateway.
    Origin(OriginFault),
    /// There is no credential, or none that holds here.
    Unauthorized,
    /// The shared secret is right, and is not enough from elsewhere without a device.
    NotFromElsewhere,
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
            Self::NotFromElsewhere => "shared secret from elsewhere",
            Self::MissingScope(_) => "missing scope",
            Self::RateLimited { .. } => "too many failures",
        }
    }
}

/// Who makes a request, for as long as what it asked for goes on: a session like that of a socket,
/// so that whoever takes authority away finds it.
#[derive(Debug)]
pub(super) struct Caller {
    gateway: Arc<Gateway>,
    link: Arc<Link>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.gateway.hub.leave(&self.link.principal.conn_id);
    }
}

impl Caller {
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether its authority still stands.
    pub(super) fn is_live(&self) -> bool {
        self.link.may_act(now_ms())
    }

    /// Whether it holds a scope.
    pub(super) fn has(&self, scope: &Scope) -> bool {
        self.link.principal.grant.scopes().covers(scope)
    }

    /// Whether it may have what needs this scope.
    pub(super) fn may(&self, scope: Scope) -> Result<(), Refused> {
        if self.has(&scope) {
            return Ok(());
        }
        Err(Refused::MissingScope(scope))
    }

    /// The same words for the same credential, whenever it comes.
    pub(super) fn name(&self) -> String {
        let principal = &self.link.principal;
        if let Some(token) = &principal.api_token {
            return format!("api-token {token}");
        }
        let standing = principal.standing.as_deref();
        match standing.and_then(|standing| standing.proxy_user.as_deref()) {
            Some(user) => format!("proxy-user {user}"),
            None => principal.grant.basis().as_str().to_owned(),
        }
    }

    /// Waits until its authority ends. Cancel-safe; for one waiter at a time.
    pub(super) async fn ended(&self) {
        let expires = async {
            match self.link.principal.expires_at_ms {
                Some(at) => {
                    let left = u64::try_from(at - now_ms()).unwrap_or_default();
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.link.ended() => {}
            () = expires => {}
        }
    }
}

fn page_of(request: &Request) -> Page {
    let header = |name| request.header(name).map(str::to_owned);
    Page {
        origin: request
            .headers
            .get("origin")
            .map(|value| value.to_str().unwrap_or("unreadable").to_owned()),
        host: header("host"),
        fetch_site: header("sec-fetch-site"),
        direct_loopback: request.way.peer == Peer::LoopbackDirect,
        needs_origin: false,
    }
}

/// Which page speaks, if one does. Before any credential is looked at.
pub(super) fn page(gateway: &Gateway, request: &Request) -> Result<Browser, OriginFault> {
    match page_of(request).judge(&gateway.config()) {
        (browser, None) => Ok(browser),
        (_, Some(fault)) => Err(fault),
    }
}

/// The secret of `Authorization: Bearer`.
pub(super) fn bearer(request: &Request) -> Option<&str> {
    let (scheme, secret) = request.header("authorization")?.trim().split_once(' ')?;
    Some(secret.trim()).filter(|secret| scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty())
}

/// What a request is given, and on which grounds.
struct Judged {
    grant: Grant,
    evidence: Evidence,
    checked: Checked,
}

/// The decision about a request that wants these scopes and cannot do without one of them.
async fn judge(
    gateway: &Arc<Gateway>,
    request: &Request,
    wanted: &ScopeSet,
    needed: &Scope,
) -> Result<Judged, Refused> {
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
        scopes: Some(wanted),
        arrival: None,
    };
    let checked = checker.check(&presented).await;
    let evidence = Evidence {
        peer: request.way.peer,
        browser,
        declared: Declared::Other,
        role: Role::Operator,
        credentials: checked.credentials.clone(),
        proof: Proof::Absent,
        record: Record::Unknown,
    };
    match authz::grant(&evidence, Some(wanted), &standing::policy(&config)) {
        Outcome::Granted(grant) if grant.scopes().covers(needed) => Ok(Judged {
            grant,
            evidence,
            checked,
        }),
        Outcome::Granted(_) | Outcome::Denied(Denied::NothingGranted) => {
            Err(Refused::MissingScope(needed.clone()))
        }
        Outcome::Denied(Denied::Credential(CredentialFault::RateLimited { retry_after_ms })) => {
            Err(Refused::RateLimited { retry_after_ms })
        }
        Outcome::Denied(_) | Outcome::NeedsPairing(_)
            if evidence.credentials.shared == Check::Valid =>
        {
            Err(Refused::NotFromElsewhere)
        }
        Outcome::Denied(_) | Outcome::NeedsPairing(_) => Err(Refused::Unauthorized),
    }
}

/// Whether a request may have what needs this scope.
pub(super) async fn authorize(
    gateway: &Arc<Gateway>,
    request: &Request,
    needed: Scope,
) -> Result<(), Refused> {
    let wanted = ScopeSet::from_iter([needed.clone()]);
    judge(gateway, request, &wanted, &needed).await.map(|_| ())
}

/// Lets a caller in with everything that its credential carries, if that is this scope at least.
pub(super) async fn admit(
    gateway: &Arc<Gateway>,
    request: &Request,
    needed: Scope,
) -> Result<Caller, Refused> {
    let wanted: ScopeSet = Scope::ALL.into_iter().collect();
    loop {
        // As for a socket: a verdict that was reached while authority was taken away somewhere is
        // reached again.
        let judged_at = gateway.hub.revocations();
        let judged = judge(gateway, request, &wanted, &needed).await?;
        let api_token = judged.checked.api_token.as_ref();
        let principal = Principal {
            conn_id: uuid::Uuid::new_v4().to_string(),
            dialect: Dialect::V4,
            grant: judged.grant,
            device_id: None,
            api_token: api_token.map(|held| held.name.clone()),
            expires_at_ms: api_token.and_then(|held| held.expires_at_ms),
            pending_request: None,
            peer: request.way.peer,
            address: request.client_address(),
            client_id: "http".to_owned(),
            client_mode: "http".to_owned(),
            caps: Caps::default(),
            standing: Some(Box::new(Standing {
                evidence: judged.evidence,
                requested: Some(wanted.clone()),
                page: page_of(request),
                proxy_user: judged.checked.proxy_user,
                socket: request.socket.ip(),
            })),
        };
        if let Some(link) = gateway.hub.join_unheard(principal, judged_at) {
            return Ok(Caller {
                gateway: Arc::clone(gateway),
                link,
            });
        }
    }
}

/// Whether a request may read what says more of the gateway than that it is there: it comes from
/// this machine, or it is authorized to read.
pub(super) async fn is_trusted(gateway: &Arc<Gateway>, request: &Request) -> bool {
    let here = request.way.peer == Peer::LoopbackDirect && page(gateway, request).is_ok();
    here || (bearer(request).is_some() && authorize(gateway, request, Scope::READ).await.is_ok())
}
