//! Named API tokens: what automation uses. clawgate's own; the original has nothing like it.

use serde::{Deserialize, Serialize};

use crate::scope::ScopeSet;

/// What every API token starts with, so that one is recognised in a log or a commit.
pub const PREFIX: &str = "cgt_";

/// Params of `tokens.create`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateParams {
    /// Unique name, 1 to 64 characters.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Lifetime in milliseconds; absent never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<i64>,
}

/// Params of `tokens.revoke`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NameParams {
    /// Which token.
    pub name: String,
}

/// A token without its secret.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenRecord {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it was made, milliseconds.
    pub created_at_ms: i64,
    /// When it ends; absent never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// When it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at_ms: Option<i64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<i64>,
}

/// Result of `tokens.create`: the only time that the secret is shown.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The secret. It is stored hashed and cannot be shown again.
    pub token: String,
    /// Everything else about it.
    #[serde(rename = "record")]
    pub record: ApiTokenRecord,
}

impl std::fmt::Debug for Created {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Created")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// Result of `tokens.list`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct List {
    /// Every token, newest first.
    pub tokens: Vec<ApiTokenRecord>,
}
