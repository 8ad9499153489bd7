//! Device tokens, each kept with the one endpoint that it may be sent to.
//!
//! `identity/gateways.json` is ours. For the local gateway alone, the original's
//! `identity/device-auth.json` is read as well, never written.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use clawgate_protocol::ScopeSet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    endpoint::Endpoint,
    files::{self, Existing},
};

/// Where the device tokens of a client state directory are.
#[derive(Clone, Debug)]
pub struct TokenStore {
    own: PathBuf,
    original: PathBuf,
    device_id: String,
}

/// A device token as it was stored.
#[derive(Clone)]
pub struct StoredToken {
    /// The secret.
    pub token: SecretString,
    /// What it carried when it was issued.
    pub scopes: ScopeSet,
    /// Which file it is from.
    pub source: PathBuf,
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("scopes", &self.scopes)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    token: String,
    role: String,
    #[serde(default)]
    scopes: ScopeSet,
    #[serde(default)]
    updated_at_ms: u64,
}

type ByRole = BTreeMap<String, Entry>;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GatewaysFile {
    version: u32,
    device_id: String,
    #[serde(default)]
    gateways: BTreeMap<String, ByRole>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OriginalFile {
    device_id: String,
    #[serde(default)]
    tokens: ByRole,
}

impl TokenStore {
    /// The tokens that a device keeps in a client state directory.
    pub fn new(state_dir: &Path, device_id: &str) -> Self {
        let folder = state_dir.join("identity");
        Self {
            own: folder.join("gateways.json"),
            original: folder.join("device-auth.json"),
            device_id: device_id.to_owned(),
        }
    }

    /// The token kept for an endpoint and role. `is_local_default` says that the endpoint is this
    /// machine's own gateway, for which the original's file counts too.
    ///
    /// # Errors
    /// The file exists and cannot be read. A file of another device holds nothing for this one.
    pub fn find(
        &self,
        endpoint: &Endpoint,
        role: &str,
        is_local_default: bool,
    ) -> io::Result<Option<StoredToken>> {
        let mut file = self.read()?;
        if let Some(entry) = file
            .gateways
            .get_mut(&endpoint.key())
            .and_then(|roles| roles.remove(role))
        {
            return Ok(Some(stored(entry, &self.own)));
        }
        if !is_local_default || !endpoint.is_loopback() {
            return Ok(None);
        }
        let Some(text) = files::read(&self.original)? else {
            return Ok(None);
        };
        // Not ours: what cannot be read there is as good as absent.
        let Ok(mut original) = serde_json::from_str::<OriginalFile>(&text) else {
            return Ok(None);
        };
        if original.device_id != self.device_id {
            return Ok(None);
        }
        Ok(original
            .tokens
            .remove(role)
            .map(|entry| stored(entry, &self.original)))
    }

    /// Keeps a token for an endpoint and role; writes only if that changes something.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn keep(
        &self,
        endpoint: &Endpoint,
        role: &str,
        token: &SecretString,
        scopes: &ScopeSet,
    ) -> io::Result<()> {
        let mut file = self.read()?;
        let roles = file.gateways.entry(endpoint.key()).or_default();
        if roles
            .get(role)
            .is_some_and(|entry| entry.token == token.expose_secret() && entry.scopes == *scopes)
        {
            return Ok(());
        }
        let entry = Entry {
            token: token.expose_secret().to_owned(),
            role: role.to_owned(),
            scopes: scopes.clone(),
            updated_at_ms: clock::now_ms(),
        };
        roles.insert(role.to_owned(), entry);
        let mut text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        text.push('\n');
        files::write(&self.own, &text, Existing::Replace).map(drop)
    }

    fn read(&self) -> io::Result<GatewaysFile> {
        let empty = || GatewaysFile {
            version: 1,
            device_id: self.device_id.clone(),
            gateways: BTreeMap::new(),
        };
        let Some(text) = files::read(&self.own)? else {
            return Ok(empty());
        };
        let file: GatewaysFile = serde_json::from_str(&text).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is damaged (line {}, column {}); remove it, the gateway issues new tokens",
                    self.own.display(),
                    error.line(),
                    error.column()
                ),
            )
        })?;
        Ok(if file.device_id == self.device_id {
            file
        } else {
            empty()
        })
    }
}

fn stored(entry: Entry, source: &Path) -> StoredToken {
    StoredToken {
        token: entry.token.into(),
        scopes: entry.scopes,
        source: source.to_owned(),
    }
}
