//! This machine's device identity: one Ed25519 key in the original's file format, so that an
//! existing OpenClaw identity keeps working.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawgate_protocol::proof::ProofText;
use ed25519_dalek::{
    Signer as _, SigningKey,
    ed25519::KeypairBytes,
    pkcs8::{
        DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _,
        spki::der::pem::LineEnding,
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    clock,
    endpoint::hex,
    files::{self, Existing},
};

/// The device key of this machine. It prints as its id.
pub struct Identity {
    device_id: String,
    public_key: String,
    key: SigningKey,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot use the device identity {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("the device identity {} is not usable: {problem}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gives no randomness for a new key.
    #[error("no randomness for a new device key")]
    Random,
}

impl IdentityError {
    /// What to do about it, a sentence for a person.
    pub fn fix(&self) -> String {
        match self {
            Self::Io { path, .. } => {
                format!(
                    "make {} readable and writable for this user",
                    path.display()
                )
            }
            Self::Invalid { path, .. } => format!(
                "restore {0} from a backup, or move it away (mv {0} {0}.bad) to become a new device",
                path.display()
            ),
            Self::Random => "check that this system's random device works".to_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityFile {
    version: u32,
    device_id: String,
    public_key_pem: String,
    private_key_pem: String,
    created_at_ms: u64,
}

impl Identity {
    /// Path of the identity inside a client state directory.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("identity").join("device.json")
    }

    /// The identity of a client state directory, made on first use.
    ///
    /// # Errors
    /// [`IdentityError`]; a file that cannot be used is never replaced.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::load(state_dir)? {
            return Ok(identity);
        }
        let path = Self::path(state_dir);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| IdentityError::Random)?;
        let identity = Self::from_key(SigningKey::from_bytes(&seed));
        let written = files::write(&path, &identity.to_file(clock::now_ms()), Existing::Keep)
            .map_err(|source| IdentityError::Io {
                path: path.clone(),
                source,
            })?;
        if written {
            return Ok(identity);
        }
        // Another process was first; its key is the machine's.
        Self::load(state_dir)?.ok_or_else(|| IdentityError::Io {
            path,
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// The identity of a client state directory, if there is one.
    ///
    /// # Errors
    /// [`IdentityError::Io`] or [`IdentityError::Invalid`].
    pub fn load(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = Self::path(state_dir);
        let text = files::read(&path).map_err(|source| IdentityError::Io {
            path: path.clone(),
            source,
        })?;
        text.map(|text| {
            Self::from_file(&text).map_err(|problem| IdentityError::Invalid { path, problem })
        })
        .transpose()
    }

    /// Lower-case hex SHA-256 of the public key.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The public key, base64url.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Signs the newer proof text; base64url.
    pub fn sign(&self, text: &ProofText<'_>) -> String {
        URL_SAFE_NO_PAD.encode(self.key.sign(text.v3().as_bytes()).to_bytes())
    }

    fn from_key(key: SigningKey) -> Self {
        let public_key = key.verifying_key().to_bytes();
        Self {
            device_id: hex(&Sha256::digest(public_key)),
            public_key: URL_SAFE_NO_PAD.encode(public_key),
            key,
        }
    }

    fn from_file(text: &str) -> Result<Self, String> {
        // serde_json's own message can repeat what it read, and this file holds a key.
        let file: IdentityFile = serde_json::from_str(text).map_err(|error| {
            format!(
                "it is not a device identity (line {}, column {})",
                error.line(),
                error.column()
            )
        })?;
        if file.version != 1 {
            return Err(format!("its version is {}, not 1", file.version));
        }
        let key = SigningKey::from_pkcs8_pem(&file.private_key_pem)
            .map_err(|_| "privateKeyPem is no Ed25519 key in PKCS#8 PEM".to_owned())?;
        let identity = Self::from_key(key);
        if identity.device_id != file.device_id {
            return Err("deviceId does not belong to privateKeyPem".to_owned());
        }
        Ok(identity)
    }

    fn to_file(&self, created_at_ms: u64) -> String {
        // Without the public half: the original reads PKCS#8 version 1 only.
        let private = KeypairBytes {
            secret_key: self.key.to_bytes(),
            public_key: None,
        };
        let file = IdentityFile {
            version: 1,
            device_id: self.device_id.clone(),
            public_key_pem: self
                .key
                .verifying_key()
                .to_public_key_pem(LineEnding::LF)
                .expect("an Ed25519 public key always encodes"),
            private_key_pem: private
                .to_pkcs8_pem(LineEnding::LF)
                .expect("an Ed25519 private key always encodes")
                .to_string(),
            created_at_ms,
        };
        let mut text = serde_json::to_string_pretty(&file).expect("five plain fields");
        text.push('\n');
        text
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.device_id)
    }
}
