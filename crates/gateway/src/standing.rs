//! What a session's authority rests on, kept so that it can be judged anew when another
//! configuration holds: only those end that would not be let in as they are any more.

use std::net::IpAddr;

use clawgate_core::{
    ScopeSet,
    authz::{self, Browser, Check, Evidence, Grant, Outcome, Peer, Policy, ScopedCheck},
    origin::{self, OriginFault, OriginSeen},
};

use crate::config::{Auth, Config};

/// What was found out about a session when it began.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub evidence: Evidence,
    pub requested: Option<ScopeSet>,
    pub page: Page,
    /// The user that a trusted proxy named.
    pub proxy_user: Option<String>,
    /// The other end of the socket, which may be a proxy.
    pub socket: IpAddr,
}

/// What a request says about the page behind it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub origin: Option<String>,
    pub host: Option<String>,
    pub fetch_site: Option<String>,
    pub direct_loopback: bool,
    pub needs_origin: bool,
}

impl Page {
    pub(crate) fn judge(&self, config: &Config) -> (Browser, Option<OriginFault>) {
        let seen = OriginSeen {
            origin: self.origin.as_deref(),
            host: self.host.as_deref(),
            fetch_site: self.fetch_site.as_deref(),
            direct_loopback: self.direct_loopback,
            needs_origin: self.needs_origin,
        };
        origin::judge(&seen, &config.origins)
    }
}

/// What the operator configured, as the decision about authority takes it.
pub(crate) fn policy(config: &Config) -> Policy {
    Policy {
        open: matches!(config.auth, Auth::None),
        deviceless_loopback: config.deviceless_loopback.clone(),
    }
}

impl Standing {
    /// Whether the session would get what it has under another configuration, showing what it
    /// showed. The secret that it showed was that of `old`.
    pub(crate) fn holds(&self, grant: &Grant, old: &Config, new: &Config) -> bool {
        let (browser, fault) = self.page.judge(new);
        if fault.is_some() {
            return false;
        }
        let mut evidence = self.evidence.clone();
        evidence.browser = browser;
        if !new.has_secret_of(old) {
            evidence.credentials.shared = Check::Absent;
        }
        if evidence.peer == Peer::TrustedProxy && !new.is_trusted_proxy(self.socket) {
            evidence.peer = Peer::Remote;
        }
        evidence.credentials.identity = self.identity(&evidence, new);
        match authz::grant(&evidence, self.requested.as_ref(), &policy(new)) {
            Outcome::Granted(again) => again.scopes().covers_all(grant.scopes()),
            Outcome::NeedsPairing(_) | Outcome::Denied(_) => false,
        }
    }

    fn identity(&self, evidence: &Evidence, new: &Config) -> ScopedCheck {
        let (Auth::TrustedProxy(proxy), Some(user)) = (&new.auth, &self.proxy_user) else {
            return ScopedCheck::Absent;
        };
        let is_local = self.socket.to_canonical().is_loopback() && !proxy.allow_loopback;
        if evidence.peer == Peer::TrustedProxy && !is_local && proxy.allows(user) {
            ScopedCheck::Valid(proxy.scopes_of(user))
        } else {
            ScopedCheck::Absent
        }
    }
}
