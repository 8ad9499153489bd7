//! The text that a device signs, and the text behind a local proof.

use crate::scope::ScopeSet;

/// How far a proof's `signedAt` may be from the gateway's clock, in milliseconds.
pub const PROOF_AGE_MS_MAX: u64 = 120_000;

/// The fields under a device's signature.
#[derive(Clone, Debug)]
pub struct ProofText<'a> {
    /// Claimed device id.
    pub device_id: &'a str,
    /// `client.id`.
    pub client_id: &'a str,
    /// `client.mode`.
    pub client_mode: &'a str,
    /// Role as sent, `operator` if absent.
    pub role: &'a str,
    /// Scopes exactly as sent, joined with a comma.
    pub scopes: &'a str,
    /// `device.signedAt`, decimal milliseconds.
    pub signed_at_ms: u64,
    /// See `AuthClaim::signed_token`.
    pub token: &'a str,
    /// The challenge's nonce.
    pub nonce: &'a str,
    /// `client.platform`.
    pub platform: &'a str,
    /// `client.deviceFamily`, empty if absent.
    pub device_family: &'a str,
}

impl ProofText<'_> {
    /// The newer text, with platform and device family.
    pub fn v3(&self) -> String {
        format!(
            "v3|{}|{}|{}",
            self.middle(),
            pinned(self.platform),
            pinned(self.device_family)
        )
    }

    /// The older text, still accepted.
    pub fn v2(&self) -> String {
        format!("v2|{}", self.middle())
    }

    fn middle(&self) -> String {
        format!(
            "{}|{}|{}|{}|{}|{}|{}|{}",
            self.device_id,
            self.client_id,
            self.client_mode,
            self.role,
            self.scopes,
            self.signed_at_ms,
            self.token,
            self.nonce
        )
    }
}

/// How a platform or device family is compared and signed: trimmed, ASCII letters lowered.
pub fn pinned(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

/// The text under a local proof's HMAC-SHA256: it is bound to one socket's challenge and to what
/// is asked for there, each scope once.
pub fn local_proof_text(nonce: &str, role: &str, scopes: Option<&ScopeSet>) -> String {
    let scopes = scopes.map(ScopeSet::joined).unwrap_or_default();
    format!("clawgate-local-proof|v1|{nonce}|{role}|{scopes}")
}
