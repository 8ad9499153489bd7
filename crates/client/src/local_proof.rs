//! Local proof: who can read the gateway's key file is its owner.

use std::{fmt, io, path::Path, sync::Arc};

use clawgate_protocol::{ScopeSet, proof::local_proof_text};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::Sha256;

use crate::{
    endpoint::{hex, hex_bytes},
    files,
};

/// The gateway's local key. It never leaves this process; what is sent is bound to one socket.
#[derive(Clone)]
pub struct LocalKey(Arc<SecretBox<[u8; 32]>>);

impl LocalKey {
    /// Reads `identity/local.key` of a gateway's state directory.
    ///
    /// # Errors
    /// The file is there and cannot be read, or holds something else.
    pub fn load(gateway_state_dir: &Path) -> io::Result<Option<Self>> {
        let path = gateway_state_dir.join("identity").join("local.key");
        let Some(text) = files::read(&path)? else {
            return Ok(None);
        };
        let bytes = hex_bytes(text.trim().as_bytes()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is no local key (64 hex digits)", path.display()),
            )
        })?;
        Ok(Some(Self(Arc::new(SecretBox::new(Box::new(bytes))))))
    }

    /// The proof for one challenge.
    pub(crate) fn prove(&self, nonce: &str, role: &str, scopes: &ScopeSet) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret())
            .expect("HMAC takes a key of any length");
        mac.update(local_proof_text(nonce, role, Some(scopes)).as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalKey")
    }
}
