//! The ladder: which credential is tried after which, until the grant covers the command.
//!
//! 1. the shared secret or API token that the caller resolved (and, when that is refused as wrong,
//!    the caller's other token for the same gateway), or, without one, the device token stored for
//!    this very endpoint;
//! 2. when that falls short or the credential is refused: the stored device token;
//! 3. when that falls short or is refused, or this device waits for pairing: the local proof,
//!    where the gateway takes one and its key can be read.
//!
//! A credential that was given for this very command is a question about that credential: when it is
//! refused, that is the answer, and nothing else is tried. Falling short is no refusal.
//!
//! Nothing is tried twice, a locked-out client stops at once, and the best session is kept.

use std::{fmt, time::Duration};

use clawgate_protocol::{ReceivedError, Scope, ScopeSet};
use secrecy::SecretString;
use tokio::time::sleep;

use crate::{
    client::{ConnectOptions, Offer, Session},
    clock,
    error::ClientError,
    granted::needed_scopes,
    handshake::connect,
    local_proof::LocalKey,
    tokens::{StoredToken, TokenStore},
};

const ROLE: &str = "operator";

/// What a command brings to its connect.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// How to connect.
    pub options: ConnectOptions<'a>,
    /// The methods that will be called: what they need is what the grant is held against.
    pub methods: Vec<String>,
    /// Shared token or API token.
    pub token: Option<SecretString>,
    /// Another shared token for the same gateway, tried when the first is refused as wrong.
    pub second_token: Option<SecretString>,
    /// Shared password.
    pub password: Option<SecretString>,
    /// Whether token or password were given for this very command, and not found in an environment
    /// or a configuration: then their refusal is the answer.
    pub asks_about_credential: bool,
    /// The device token stored for this very endpoint.
    pub stored: Option<StoredToken>,
    /// The local gateway's key, when this endpoint is that gateway.
    pub local_key: Option<LocalKey>,
}

/// Which credential an attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// Token or password that the caller resolved.
    Shared,
    /// The caller's other token for the same gateway.
    SecondShared,
    /// Device token stored for the endpoint.
    StoredDeviceToken,
    /// Proof of reading the gateway's state directory.
    LocalProof,
    /// Nothing but the device proof.
    DeviceOnly,
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "given credential",
            Self::SecondShared => "second token",
            Self::StoredDeviceToken => "stored device token",
            Self::LocalProof => "local proof",
            Self::DeviceOnly => "device proof alone",
        })
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Everything needed was granted, as far as is known.
    Enough,
    /// These are missing.
    Short(ScopeSet),
    /// The gateway refused the connect.
    Refused(Box<ReceivedError>),
    /// It could not be tried here.
    NotTaken,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// What was offered.
    pub credential: CredentialKind,
    /// What came of it.
    pub outcome: Outcome,
}

/// A session, and how it was come by.
#[derive(Debug)]
pub struct Opened {
    /// The best session that was to be had.
    pub session: Session,
    /// The credential behind it.
    pub credential: CredentialKind,
    /// What the command needs and the session is known not to have.
    pub missing: ScopeSet,
    /// Every attempt in order.
    pub attempts: Vec<Attempt>,
}

/// Climbs the ladder.
///
/// # Errors
/// The first refusal, when nothing led to a session: it is about the credential that the caller
/// knows of. With it comes every attempt.
pub async fn open(plan: &Plan<'_>) -> Result<Opened, (ClientError, Vec<Attempt>)> {
    let mut attempts = Vec::new();
    let mut best: Option<Opened> = None;
    let mut failure: Option<ClientError> = None;
    for credential in rungs(plan) {
        let waits_for_pairing = failure.as_ref().is_some_and(ClientError::needs_pairing);
        if waits_for_pairing && credential == CredentialKind::StoredDeviceToken {
            continue;
        }
        if credential == CredentialKind::SecondShared && !was_wrong_token(failure.as_ref()) {
            continue;
        }
        match connect_patiently(plan, credential).await {
            Ok(session) => {
                let missing = missing(plan, &session);
                let enough = missing.is_empty();
                let outcome = if enough {
                    Outcome::Enough
                } else {
                    Outcome::Short(missing.clone())
                };
                attempts.push(Attempt {
                    credential,
                    outcome,
                });
                let better = best
                    .as_ref()
                    .is_none_or(|best| missing.len() < best.missing.len());
                let opened = Opened {
                    session,
                    credential,
                    missing,
                    attempts: Vec::new(),
                };
                let loser = if better {
                    best.replace(opened)
                } else {
                    Some(opened)
                };
                if let Some(loser) = loser {
                    loser.session.close().await;
                }
                if enough {
                    break;
                }
            }
            Err(error) => {
                if let Some(outcome) = refusal(&error) {
                    attempts.push(Attempt {
                        credential,
                        outcome,
                    });
                }
                let answered = plan.asks_about_credential
                    && credential == CredentialKind::Shared
                    && error.is_credential_refusal();
                let another_may_help =
                    !answered && (error.is_credential_refusal() || error.needs_pairing());
                failure.get_or_insert(error);
                if !another_may_help {
                    break;
                }
            }
        }
    }
    match (best, failure) {
        (Some(opened), _) => Ok(Opened { attempts, ..opened }),
        (None, Some(error)) => Err((error, attempts)),
        (None, None) => Err((ClientError::NoLocalProof, attempts)),
    }
}

fn was_wrong_token(failure: Option<&ClientError>) -> bool {
    failure.is_some_and(|error| error.detail_code() == Some("AUTH_TOKEN_MISMATCH"))
}

/// Connects, and waits as long as a gateway that is still starting asks for it.
async fn connect_patiently(
    plan: &Plan<'_>,
    credential: CredentialKind,
) -> Result<Session, ClientError> {
    let offer = offer(plan, credential);
    let deadline = clock::instant() + plan.options.handshake_within;
    loop {
        let error = match connect(&plan.options, &offer).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let Some(after) = retry_after(&error).filter(|at| clock::instant() + *at < deadline) else {
            return Err(error);
        };
        sleep(after).await;
    }
}

fn retry_after(error: &ClientError) -> Option<Duration> {
    if !error.is_retryable() || error.is_rate_limited() {
        return None;
    }
    error.received()?.retry_after_ms.map(Duration::from_millis)
}

/// The outcome to report of a failed attempt; `None` when no gateway judged it.
fn refusal(error: &ClientError) -> Option<Outcome> {
    if let ClientError::NoLocalProof = error {
        return Some(Outcome::NotTaken);
    }
    error
        .received()
        .map(|received| Outcome::Refused(Box::new(received.clone())))
}

impl Opened {
    /// Keeps the device token that the hello brought, if any, for this endpoint alone.
    ///
    /// # Errors
    /// The token file cannot be read or written.
    pub fn keep_token(
        &self,
        store: &TokenStore,
        options: &ConnectOptions<'_>,
    ) -> std::io::Result<()> {
        let Some(auth) = &self.session.hello().auth else {
            return Ok(());
        };
        let Some(token) = &auth.device_token else {
            return Ok(());
        };
        let role = auth.role.as_deref().unwrap_or(ROLE);
        let token = SecretString::from(token.as_str());
        store.keep(options.endpoint, role, &token, &auth.scopes)
    }
}

fn rungs(plan: &Plan<'_>) -> Vec<CredentialKind> {
    let mut rungs = Vec::with_capacity(3);
    if plan.token.is_some() || plan.password.is_some() {
        rungs.push(CredentialKind::Shared);
    }
    if plan.second_token.is_some() {
        rungs.push(CredentialKind::SecondShared);
    }
    if plan.stored.is_some() {
        rungs.push(CredentialKind::StoredDeviceToken);
    }
    if rungs.is_empty() {
        rungs.push(CredentialKind::DeviceOnly);
    }
    if plan.local_key.is_some() {
        rungs.push(CredentialKind::LocalProof);
    }
    rungs
}

impl Plan<'_> {
    /// What is offered with this credential.
    pub fn offer(&self, credential: CredentialKind) -> Offer {
        offer(self, credential)
    }
}

fn offer(plan: &Plan<'_>, credential: CredentialKind) -> Offer {
    match credential {
        CredentialKind::Shared => Offer {
            token: plan.token.clone(),
            password: plan.password.clone(),
            ..Offer::default()
        },
        CredentialKind::SecondShared => Offer {
            token: plan.second_token.clone(),
            ..Offer::default()
        },
        CredentialKind::StoredDeviceToken => Offer {
            device_token: plan.stored.as_ref().map(|stored| stored.token.clone()),
            ..Offer::default()
        },
        CredentialKind::LocalProof => Offer {
            local_key: plan.local_key.clone(),
            ..Offer::default()
        },
        CredentialKind::DeviceOnly => Offer::default(),
    }
}

fn missing(plan: &Plan<'_>, session: &Session) -> ScopeSet {
    let methods = plan.methods.iter().map(String::as_str);
    let needed = needed_scopes(methods, session.dialect());
    let missing = session.granted().missing(&needed);
    debug_assert!(
        missing.iter().all(Scope::is_known),
        "the table names known scopes"
    );
    missing
}
