//! Credentials: checks what a connect presents, each kind on its own, under the lockout.
//!
//! One failing never keeps another from being looked at. What the checks mean is decided by `core::authz`; here it is only found out which hold.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use clawgate_core::{
    Dialect, ScopeSet,
    authz::{Browser, Check, CredentialFault, Credentials, Peer, ScopedCheck},
    lockout::{Attempt, Limits, Lockout, Purpose, Source},
};
use clawgate_protocol::{connect::AuthClaim, proof::local_proof_text};

use crate::{
    clock::running_ms,
    config::{Auth, Config, ProxyAuth, is_secret},
    listen::Request,
    pairing::{Arrival, Pairings},
    state::Keys,
    tokens::{ApiTokens, Held},
};

/// The lockout, shared by all connections.
#[derive(Debug)]
pub(crate) struct Guard(Mutex<Lockout>);

impl Guard {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Mutex::new(Lockout::new(limits)))
    }

    /// Other limits hold from now on.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.lock().set_limits(limits);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lockout> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves an attempt, or says how many milliseconds there is none.
    pub(crate) fn reserve(&self, purpose: Purpose, source: Source) -> Result<Attempt, u64> {
        self.lock().reserve(purpose, source, running_ms())
    }

    pub(crate) fn succeeded(&self, attempt: Attempt) {
        self.lock().succeeded(attempt);
    }

    pub(crate) fn failed(&self, attempt: Attempt) {
        self.lock().failed(attempt);
    }

    fn withdrawn(&self, attempt: Attempt) {
        self.lock().withdrawn(attempt);
    }
}

/// Everything that a check needs to know about the caller.
#[derive(Debug)]
pub(crate) struct Presented<'a> {
    pub request: &'a Request,
    pub peer: Peer,
    pub browser: Browser,
    pub dialect: Dialect,
    pub auth: &'a AuthClaim,
    pub nonce: &'a str,
    pub role: &'a str,
    pub scopes: Option<&'a ScopeSet>,
    /// The proven device, if any.
    pub arrival: Option<&'a Arrival>,
}

/// What was found out.
#[derive(Debug)]
pub(crate) struct Checked {
    pub credentials: Credentials,
    /// The API token that held.
    pub api_token: Option<Held>,
    /// Whether the device token held; wire 4 names the method by it.
    pub by_device_token: bool,
    /// The user that a trusted proxy named, where that was let pass.
    pub proxy_user: Option<String>,
}

/// Where the secrets are.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    pub config: &'a Config,
    pub guard: &'a Guard,
    pub keys: &'a Keys,
    pub pairings: &'a Pairings,
    pub tokens: &'a ApiTokens,
}

impl Checker<'_> {
    /// Checks everything that is presented.
    pub(crate) async fn check(&self, presented: &Presented<'_>) -> Checked {
        let mut checked = Checked {
            credentials: Credentials::NONE,
            api_token: None,
            by_device_token: false,
            proxy_user: None,
        };
        let auth = presented.auth;
        let token = filled(auth.token.as_deref());
        if let Some(secret) = token.filter(|token| ApiTokens::is_shaped(token)) {
            checked.credentials.api_token = self.api_token(presented, secret, &mut checked).await;
        }
        checked.credentials.shared = self.shared(presented).await;
        if let Some(arrival) = presented.arrival {
            self.device_token(presented, arrival, &mut checked).await;
        }
        // A setup code is a device's; without one there is nothing that it could set up.
        if presented.arrival.is_some() && filled(auth.bootstrap_token.as_deref()).is_some() {
            checked.credentials.bootstrap = Check::Bad(CredentialFault::BootstrapInvalid);
        }
        if let Some(proof) = filled(auth.local_proof.as_deref()) {
            checked.credentials.local_proof = self.local_proof(presented, proof).await;
        }
        if let Auth::TrustedProxy(proxy) = &self.config.auth {
            (checked.credentials.identity, checked.proxy_user) = match identity(presented, proxy) {
                Ok(Some(user)) => (
                    ScopedCheck::Valid(proxy.scopes_of(user)),
                    Some(user.to_owned()),
                ),
                Ok(None) => (ScopedCheck::Absent, None),
                Err(fault) => (ScopedCheck::Bad(fault), None),
            };
        }
        checked
    }

    /// Reserves an attempt, and waits as long as it has to be waited before the secret is compared.
    async fn attempt(
        &self,
        presented: &Presented<'_>,
        purpose: Purpose,
    ) -> Result<Attempt, CredentialFault> {
        let attempt = self
            .guard
            .reserve(purpose, source(presented))
            .map_err(|retry_after_ms| CredentialFault::RateLimited { retry_after_ms })?;
        if attempt.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(attempt.delay_ms)).await;
        }
        Ok(attempt)
    }

    async fn shared(&self, presented: &Presented<'_>) -> Check {
        let auth = presented.auth;
        // No shared secret looks like an API token; the configuration sees to that.
        let (token, password) = (
            filled(auth.token.as_deref()).filter(|token| !ApiTokens::is_shaped(token)),
            filled(auth.password.as_deref()),
        );
        // Wire 4 takes the other field where its own is empty; wire 3 calls that missing.
        let other = |field| {
            if presented.dialect == Dialect::V4 {
                field
            } else {
                None
            }
        };
        let (secret, given, fault) = match &self.config.auth {
            Auth::Token(secret) => (
                secret,
                token.or(other(password)),
                CredentialFault::TokenMismatch,
            ),
            Auth::Password(secret) => (
                secret,
                password.or(other(token)),
                CredentialFault::PasswordMismatch,
            ),
            Auth::None | Auth::TrustedProxy(_) => return Check::Absent,
        };
        let Some(given) = given else {
            return Check::Absent;
        };
        let attempt = match self.attempt(presented, Purpose::SharedSecret).await {
            Ok(attempt) => attempt,
            Err(limited) => return Check::Bad(limited),
        };
        if is_secret(secret, given) {
            self.guard.succeeded(attempt);
            Check::Valid
        } else {
            self.guard.failed(attempt);
            Check::Bad(fault)
        }
    }

    async fn api_token(
        &self,
        presented: &Presented<'_>,
        secret: &str,
        checked: &mut Checked,
    ) -> ScopedCheck {
        let attempt = match self.attempt(presented, Purpose::ApiToken).await {
            Ok(attempt) => attempt,
            Err(limited) => return ScopedCheck::Bad(limited),
        };
        let (check, held) = self.tokens.check(secret);
        match &check {
            ScopedCheck::Valid(_) => self.guard.succeeded(attempt),
            // Who shows a token that was good once knows it and guesses nothing.
            ScopedCheck::Bad(
                CredentialFault::ApiTokenRevoked | CredentialFault::ApiTokenExpired,
            ) => self.guard.withdrawn(attempt),
            ScopedCheck::Bad(_) | ScopedCheck::Absent => self.guard.failed(attempt),
        }
        checked.api_token = held;
        check
    }

    /// Tries the device token: `deviceToken` if sent, else what stands in `token` and is nothing
    /// else. Only the former is a claim of its own; the latter failing leaves the shared secret's
    /// fault in place.
    async fn device_token(
        &self,
        presented: &Presented<'_>,
        arrival: &Arrival,
        checked: &mut Checked,
    ) {
        let auth = presented.auth;
        let vouched = checked.credentials.shared == Check::Valid || checked.api_token.is_some();
        let own = filled(auth.device_token.as_deref());
        let other =
            filled(auth.token.as_deref()).filter(|token| !ApiTokens::is_shaped(token) && !vouched);
        let Some(candidate) = own.or(other) else {
            return;
        };
        let attempt = match self.attempt(presented, Purpose::DeviceToken).await {
            Ok(attempt) => attempt,
            Err(limited) => {
                checked.credentials.device_token = ScopedCheck::Bad(limited);
                return;
            }
        };
        if let Some(scopes) = self.pairings.check_token(arrival, candidate).await {
            self.guard.succeeded(attempt);
            checked.credentials.device_token = ScopedCheck::Valid(scopes);
            checked.by_device_token = true;
            return;
        }
        if vouched {
            // Who comes with a good secret and an old token beside it guesses nothing.
            self.guard.withdrawn(attempt);
        } else {
            self.guard.failed(attempt);
        }
        if own.is_some() {
            checked.credentials.device_token =
                ScopedCheck::Bad(CredentialFault::DeviceTokenMismatch);
        }
    }

    async fn local_proof(&self, presented: &Presented<'_>, proof: &str) -> Check {
        if presented.peer != Peer::LoopbackDirect || presented.browser != Browser::No {
            return Check::Bad(CredentialFault::LocalProofNotLocal);
        }
        let attempt = match self.attempt(presented, Purpose::LocalProof).await {
            Ok(attempt) => attempt,
            Err(limited) => return Check::Bad(limited),
        };
        let text = local_proof_text(presented.nonce, presented.role, presented.scopes);
        if self.keys.verifies_local(&text, proof) {
            self.guard.succeeded(attempt);
            Check::Valid
        } else {
            self.guard.failed(attempt);
            Check::Bad(CredentialFault::LocalProofMismatch)
        }
    }
}

/// A credential that is there: blanks around it do not count, and nothing but blanks is absent.
fn filled(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

/// Who guesses, by where from and whether as a page.
fn source(presented: &Presented<'_>) -> Source {
    let request = presented.request;
    let page = presented.browser != Browser::No || request.headers.contains_key("origin");
    let address = request.way.client.unwrap_or_else(|| request.socket.ip());
    Source::of(address, presented.peer == Peer::LoopbackDirect, page)
}

/// The user that a proxy names, if it may and that one may pass.
fn identity<'a>(
    presented: &Presented<'a>,
    proxy: &ProxyAuth,
) -> Result<Option<&'a str>, CredentialFault> {
    let request = presented.request;
    // Two of them name nobody: one may be the client's own.
    let named_once = request.headers.get_all(&proxy.user_header).iter().count() == 1;
    let user = request
        .header(&proxy.user_header)
        .map(str::trim)
        .filter(|user| named_once && !user.is_empty());
    // Any program on this machine can send what a proxy on it sends.
    let may_be_anybody = request.socket.ip().to_canonical().is_loopback() && !proxy.allow_loopback;
    if presented.peer != Peer::TrustedProxy || may_be_anybody {
        return match user {
            Some(_) => Err(CredentialFault::ProxyUntrusted),
            None => Ok(None),
        };
    }
    let all_there = proxy.required_headers.iter().all(|name| {
        request
            .header(name)
            .is_some_and(|value| !value.trim().is_empty())
    });
    let Some(user) = user.filter(|_| all_there) else {
        let sent = filled(presented.auth.token.as_deref()).is_some() || presented.arrival.is_some();
        return if sent {
            Err(CredentialFault::ProxyUserMissing)
        } else {
            Ok(None)
        };
    };
    if !proxy.allows(user) {
        return Err(CredentialFault::ProxyUserNotAllowed);
    }
    Ok(Some(user))
}
