//! Device proofs: who holds the key of which device, and local proofs.

use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD,
    },
};
use clawgate_protocol::proof::{PROOF_AGE_MS_MAX, ProofText};
use ed25519_dalek::{Signature, VerifyingKey, pkcs8::DecodePublicKey as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Why a device proof is bad, in the order in which it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProofFault {
    /// The id is not the hash of the key, or the key cannot be read.
    IdentityMismatch,
    /// Signed too long ago, or in the future.
    Expired,
    /// The nonce is blank.
    NonceMissing,
    /// The nonce is another socket's.
    NonceMismatch,
    /// The signature does not verify.
    SignatureInvalid,
}

impl ProofFault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::IdentityMismatch,
        Self::Expired,
        Self::NonceMissing,
        Self::NonceMismatch,
        Self::SignatureInvalid,
    ];
}

/// A device's public key, checked to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    key: VerifyingKey,
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const LENIENT_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const LENIENT_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// Base64url, or standard base64, with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    LENIENT_URL
        .decode(text)
        .or_else(|_| LENIENT_STANDARD.decode(text))
        .ok()
}

impl DeviceKey {
    /// Reads a key as clients send it: base64url of the raw 32 bytes, or a PEM. Keys on which
    /// Ed25519 proves nothing (of small order) are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let key = if text.contains("BEGIN") {
            VerifyingKey::from_public_key_pem(text).ok()?
        } else {
            let raw: [u8; 32] = decode(text)?.try_into().ok()?;
            VerifyingKey::from_bytes(&raw).ok()?
        };
        (!key.is_weak()).then_some(Self { key })
    }

    /// Base64url without padding of the raw key, the form in which it is kept.
    pub fn to_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.as_bytes())
    }

    /// Lower-case hex SHA-256 of the raw key.
    pub fn device_id(&self) -> String {
        hex(&Sha256::digest(self.key.as_bytes()))
    }

    fn verifies(&self, text: &str, signature: &Signature) -> bool {
        self.key.verify_strict(text.as_bytes(), signature).is_ok()
    }
}

/// A device proof as it came.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// Public key, base64url or PEM.
    pub public_key: &'a str,
    /// Signature, base64url.
    pub signature: &'a str,
    /// The fields that were signed, as the connect carries them.
    pub text: ProofText<'a>,
}

/// Checks a device proof against this socket's nonce.
///
/// # Errors
/// The first check that fails, in the order of the original.
pub fn verify(claim: &Claim<'_>, nonce: &str, now_ms: i64) -> Result<DeviceKey, ProofFault> {
    let key = DeviceKey::parse(claim.public_key).ok_or(ProofFault::IdentityMismatch)?;
    if key.device_id() != claim.text.device_id {
        return Err(ProofFault::IdentityMismatch);
    }
    let now = u64::try_from(now_ms).unwrap_or_default();
    if now.abs_diff(claim.text.signed_at_ms) > PROOF_AGE_MS_MAX {
        return Err(ProofFault::Expired);
    }
    if claim.text.nonce.trim().is_empty() {
        return Err(ProofFault::NonceMissing);
    }
    if !same(claim.text.nonce, nonce) {
        return Err(ProofFault::NonceMismatch);
    }
    let signature = decode(claim.signature)
        .and_then(|raw| Signature::from_slice(&raw).ok())
        .ok_or(ProofFault::SignatureInvalid)?;
    if key.verifies(&claim.text.v3(), &signature) || key.verifies(&claim.text.v2(), &signature) {
        return Ok(key);
    }
    Err(ProofFault::SignatureInvalid)
}

/// Equality of two secrets in time that does not depend on where they differ.
pub fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a.as_bytes()), Sha256::digest(b.as_bytes()));
    a.ct_eq(&b).into()
}

/// HMAC-SHA256 over a text.
pub fn mac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Checks a local proof: lower-case hex HMAC-SHA256 over `text` under the local key.
pub fn verify_local(key: &[u8], text: &str, proof: &str) -> bool {
    same(&hex(&mac(key, text)), proof)
}

/// A device token: derived, not stored. Whoever reads the database alone learns no token.
pub fn device_token(key: &[u8], device_id: &str, role: &str, serial: &str) -> String {
    URL_SAFE_NO_PAD.encode(mac(
        key,
        &format!("device-token|v1|{device_id}|{role}|{serial}"),
    ))
}

/// SHA-256 of a high-entropy secret, hex: how API tokens are kept.
pub fn fingerprint(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
}
