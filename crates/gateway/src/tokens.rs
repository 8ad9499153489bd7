//! Owner of the API tokens: a book in memory, keyed by the secret's fingerprint.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use clawgate_core::{
    authz::{self, CredentialFault, ScopedCheck},
    proof,
};
use clawgate_protocol::token::{ApiTokenRecord, CreateParams, Created, PREFIX};
use clawgate_store::{ApiToken, Store, StoreError};
use serde_json::json;

use crate::{
    clock::now_ms,
    hub::{Hub, Link},
    pairing::AUTHORITY_CHANGED,
    state::random_text,
};

/// Why a token cannot be made or revoked.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// The caller does not hold this scope itself.
    NotCovered(clawgate_core::Scope),
    /// A living token has that name.
    NameTaken,
    /// No living token has that name.
    Unknown,
    /// The caller's authority ended before its turn came.
    CallerEnded,
    /// The database.
    Store(StoreError),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A token that a connection came with.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub name: String,
    /// When it ends, and every session with it.
    pub expires_at_ms: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    token: ApiToken,
    /// When the use was last written down; the database need not know every call.
    noted_at_ms: i64,
}

/// How often the last use of a token is written down at most, milliseconds.
const NOTE_EVERY_MS: i64 = 60_000;

/// Handle of the API tokens.
#[derive(Clone, Debug)]
pub(crate) struct ApiTokens {
    store: Store,
    hub: Hub,
    book: Arc<RwLock<HashMap<String, Entry>>>,
}

impl ApiTokens {
    /// Reads the tokens from the database.
    pub(crate) fn open(store: &Store, hub: &Hub) -> Result<Self, StoreError> {
        let tokens = store.read_blocking(|db| db.api_tokens())?;
        let book = tokens
            .into_iter()
            .map(|token| {
                let noted_at_ms = token.last_used_at_ms.unwrap_or_default();
                (token.fingerprint.clone(), Entry { token, noted_at_ms })
            })
            .collect();
        Ok(Self {
            store: store.clone(),
            hub: hub.clone(),
            book: Arc::new(RwLock::new(book)),
        })
    }

    /// Whether a presented secret has the shape of an API token at all.
    pub(crate) fn is_shaped(presented: &str) -> bool {
        presented.starts_with(PREFIX)
    }

    /// Checks a presented secret. Looking it up by its SHA-256 tells nothing about near misses.
    pub(crate) fn check(&self, presented: &str) -> (ScopedCheck, Option<Held>) {
        let now = now_ms();
        let fingerprint = proof::fingerprint(presented);
        let (scopes, held, note) = {
            let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
            let Some(Entry { token, noted_at_ms }) = book.get(&fingerprint) else {
                return (ScopedCheck::Bad(CredentialFault::TokenMismatch), None);
            };
            if token.revoked_at_ms.is_some() {
                return (ScopedCheck::Bad(CredentialFault::ApiTokenRevoked), None);
            }
            if token.expires_at_ms.is_some_and(|at| at <= now) {
                return (ScopedCheck::Bad(CredentialFault::ApiTokenExpired), None);
            }
            let note = now - noted_at_ms >= NOTE_EVERY_MS;
            let held = Held {
                name: token.name.clone(),
                expires_at_ms: token.expires_at_ms,
            };
            (token.scopes.clone(), held, note)
        };
        if note {
            self.note_use(&fingerprint, held.name.clone(), now);
        }
        (ScopedCheck::Valid(scopes), Some(held))
    }

    /// Writes down a use, off the caller's path: losing one to a crash loses a minute's precision.
    fn note_use(&self, fingerprint: &str, name: String, now: i64) {
        {
            let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = book.get_mut(fingerprint) {
                entry.noted_at_ms = now;
                entry.token.last_used_at_ms = Some(now);
            }
        }
        let store = self.store.clone();
        tokio::spawn(async move {
            let noted = store
                .write("noting the use of an API token", move |tx| {
                    tx.note_api_token_use(&name, now)
                })
                .await;
            if let Err(error) = noted {
                tracing::warn!(%error, "the use of an API token was not noted");
            }
        });
    }

    /// Makes a token. The caller must cover every scope itself, when it is made.
    pub(crate) async fn create(
        &self,
        caller: &Arc<Link>,
        params: CreateParams,
    ) -> Result<Created, TokenError> {
        let now = now_ms();
        let secret = format!("{PREFIX}{}", random_text(32));
        let token = ApiToken {
            name: params.name,
            fingerprint: proof::fingerprint(&secret),
            scopes: params.scopes,
            created_at_ms: now,
            expires_at_ms: params.expires_in_ms.map(|ms| now.saturating_add(ms)),
            last_used_at_ms: None,
            revoked_at_ms: None,
        };
        let record = record(&token);
        let (by, book) = (Arc::clone(caller), Arc::clone(&self.book));
        self.store
            .write_then(
                "making an API token",
                move |tx| {
                    if !by.may_act(now) {
                        return Err(TokenError::CallerEnded);
                    }
                    authz::covers(&by.principal.grant, &token.scopes)
                        .map_err(TokenError::NotCovered)?;
                    if !tx.insert_api_token(&token)? {
                        return Err(TokenError::NameTaken);
                    }
                    let detail = json!({"name": token.name, "scopes": token.scopes});
                    let actor = by.principal.actor();
                    tx.audit("tokens.create", &actor, &detail.to_string(), now)?;
                    Ok(token)
                },
                move |token| {
                    let mut book = book.write().unwrap_or_else(PoisonError::into_inner);
                    book.retain(|_, entry| entry.token.name != token.name);
                    let noted_at_ms = 0;
                    book.insert(token.fingerprint.clone(), Entry { token, noted_at_ms });
                },
            )
            .await?;
        Ok(Created {
            token: secret,
            record,
        })
    }

    /// Every token without its secret, newest first.
    pub(crate) fn list(&self) -> Vec<ApiTokenRecord> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<ApiTokenRecord> =
            book.values().map(|entry| record(&entry.token)).collect();
        records.sort_by(|a, b| (b.created_at_ms, &a.name).cmp(&(a.created_at_ms, &b.name)));
        records
    }

    /// Revokes a token. Its sessions are over when this returns.
    pub(crate) async fn revoke(&self, caller: &Arc<Link>, name: String) -> Result<i64, TokenError> {
        let now = now_ms();
        let (by, book) = (Arc::clone(caller), Arc::clone(&self.book));
        let (hub, closing) = (self.hub.clone(), self.hub.clone());
        let except = caller.principal.conn_id.clone();
        self.store
            .write_then(
                "revoking an API token",
                move |tx| {
                    if !by.may_act(now) {
                        return Err(TokenError::CallerEnded);
                    }
                    let token = tx
                        .read()
                        .api_token(&name)?
                        .filter(|token| token.revoked_at_ms.is_none())
                        .ok_or(TokenError::Unknown)?;
                    // Taking away needs no less authority than giving; a token may always end itself.
                    if by.principal.api_token.as_ref() != Some(&name) {
                        authz::covers(&by.principal.grant, &token.scopes)
                            .map_err(TokenError::NotCovered)?;
                    }
                    if !tx.revoke_api_token(&name, now)? {
                        return Err(TokenError::Unknown);
                    }
                    let detail = json!({"name": name});
                    let actor = by.principal.actor();
                    tx.audit("tokens.revoke", &actor, &detail.to_string(), now)?;
                    hub.disarm(AUTHORITY_CHANGED, "gateway auth changed", |principal| {
                        principal.api_token.as_ref() == Some(&name)
                    });
                    Ok(name)
                },
                move |name| {
                    {
                        let mut book = book.write().unwrap_or_else(PoisonError::into_inner);
                        for entry in book.values_mut().filter(|e| e.token.name == name) {
                            entry.token.revoked_at_ms = Some(now);
                        }
                    }
                    closing.revoke(
                        AUTHORITY_CHANGED,
                        "gateway auth changed",
                        Some(&except),
                        |principal| principal.api_token.as_ref() == Some(&name),
                    );
                },
            )
            .await?;
        Ok(now)
    }
}

fn record(token: &ApiToken) -> ApiTokenRecord {
    ApiTokenRecord {
        name: token.name.clone(),
        scopes: token.scopes.clone(),
        created_at_ms: token.created_at_ms,
        expires_at_ms: token.expires_at_ms,
        last_used_at_ms: token.last_used_at_ms,
        revoked_at_ms: token.revoked_at_ms,
    }
}
