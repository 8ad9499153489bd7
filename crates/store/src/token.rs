//! API tokens.

use clawgate_core::ScopeSet;
use rusqlite::{OptionalExtension as _, Row};

use crate::{
    Read, StoreError, Tx,
    device::{scopes_from, scopes_to},
};

/// An API token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Unique name.
    pub name: String,
    /// SHA-256 of the secret, hex.
    pub fingerprint: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it ends, never if absent.
    pub expires_at_ms: Option<i64>,
    /// When it was last used.
    pub last_used_at_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
}

const COLUMNS: &str =
    "name, fingerprint, scopes, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms";

fn from_row(row: &Row<'_>) -> rusqlite::Result<ApiToken> {
    Ok(ApiToken {
        name: row.get(0)?,
        fingerprint: row.get(1)?,
        scopes: scopes_from(&row.get::<_, String>(2)?),
        created_at_ms: row.get(3)?,
        expires_at_ms: row.get(4)?,
        last_used_at_ms: row.get(5)?,
        revoked_at_ms: row.get(6)?,
    })
}

impl Read<'_> {
    /// Every API token, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let doing = StoreError::doing("listing API tokens");
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM api_tokens ORDER BY created_at_ms DESC, name"
            ))
            .map_err(&doing)?;
        let rows = statement.query_map([], from_row).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// The API token of a name.
    ///
    /// # Errors
    /// The database's.
    pub fn api_token(&self, name: &str) -> Result<Option<ApiToken>, StoreError> {
        self.db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM api_tokens WHERE name = ?1"))
            .and_then(|mut s| s.query_row([name], from_row).optional())
            .map_err(StoreError::doing("finding an API token"))
    }
}

impl Tx<'_> {
    /// Keeps a new API token. `false` when the name is taken by a living one; a revoked or expired
    /// one makes room.
    ///
    /// # Errors
    /// The database's.
    pub fn insert_api_token(&self, token: &ApiToken) -> Result<bool, StoreError> {
        let doing = StoreError::doing("keeping an API token");
        self.db
            .prepare_cached(
                "DELETE FROM api_tokens WHERE name = ?1
                 AND (revoked_at_ms IS NOT NULL OR expires_at_ms <= ?2)",
            )
            .and_then(|mut s| s.execute((&token.name, token.created_at_ms)))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "INSERT INTO api_tokens (name, fingerprint, scopes, created_at_ms, expires_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO NOTHING",
            )
            .and_then(|mut s| {
                s.execute((
                    &token.name,
                    &token.fingerprint,
                    scopes_to(&token.scopes),
                    token.created_at_ms,
                    token.expires_at_ms,
                ))
            })
            .map(|rows| rows == 1)
            .map_err(&doing)
    }

    /// Revokes an API token. `false` when there is no living one of that name.
    ///
    /// # Errors
    /// The database's.
    pub fn revoke_api_token(&self, name: &str, now_ms: i64) -> Result<bool, StoreError> {
        self.db
            .prepare_cached(
                "UPDATE api_tokens SET revoked_at_ms = ?2 WHERE name = ?1 AND revoked_at_ms IS NULL",
            )
            .and_then(|mut s| s.execute((name, now_ms)))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("revoking an API token"))
    }

    /// Notes when an API token was last used.
    ///
    /// # Errors
    /// The database's.
    pub fn note_api_token_use(&self, name: &str, at_ms: i64) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE api_tokens SET last_used_at_ms = ?2 WHERE name = ?1")
            .and_then(|mut s| s.execute((name, at_ms)))
            .map(drop)
            .map_err(StoreError::doing("noting the use of an API token"))
    }
}
