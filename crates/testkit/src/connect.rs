//! The `connect` request: a good one of either dialect, and every way to spoil it.

use serde_json::{Map, Value, json};

use crate::{
    OPERATOR,
    device::{Device, hmac_hex},
};

/// Which text a device signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedForm {
    /// With platform and device family.
    V3,
    /// Without.
    V2,
    /// The oldest one, without a nonce. Nobody takes it any more.
    V1,
}

type Edit = Box<dyn Fn(&mut Value)>;

/// A connect to be sent.
pub struct Connect {
    range: (i64, i64),
    client: Map<String, Value>,
    role: Option<String>,
    scopes: Option<Vec<String>>,
    auth: Map<String, Value>,
    device: Option<Device>,
    form: SignedForm,
    signed_at: Option<i64>,
    signed_offset_ms: i64,
    nonce: Option<String>,
    local_key: Option<Vec<u8>>,
    edits: Vec<Edit>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("client", &self.client)
            .field("role", &self.role)
            .field("scopes", &self.scopes)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Connect {
    /// A CLI of one protocol version that asks for everything an operator asks for, without a
    /// credential and without a device.
    pub fn new(protocol: u32) -> Self {
        let client = json!({"id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli"});
        let Value::Object(client) = client else {
            unreachable!("it is an object")
        };
        Self {
            range: (i64::from(protocol), i64::from(protocol)),
            client,
            role: Some("operator".to_owned()),
            scopes: Some(OPERATOR.map(str::to_owned).to_vec()),
            auth: Map::new(),
            device: None,
            form: SignedForm::V3,
            signed_at: None,
            signed_offset_ms: 0,
            nonce: None,
            local_key: None,
            edits: Vec::new(),
        }
    }

    /// Offers another range of protocol versions.
    #[must_use]
    pub fn range(mut self, min: i64, max: i64) -> Self {
        self.range = (min, max);
        self
    }

    /// Declares another client.
    #[must_use]
    pub fn client(mut self, id: &str, mode: &str) -> Self {
        self.client.insert("id".to_owned(), id.into());
        self.client.insert("mode".to_owned(), mode.into());
        self
    }

    /// Sets a member of `client`.
    #[must_use]
    pub fn with_client(mut self, key: &str, value: &str) -> Self {
        self.client.insert(key.to_owned(), value.into());
        self
    }

    /// Asks for another role.
    #[must_use]
    pub fn role(mut self, role: &str) -> Self {
        self.role = Some(role.to_owned());
        self
    }

    /// Asks for these scopes.
    #[must_use]
    pub fn scopes(mut self, scopes: &[&str]) -> Self {
        self.scopes = Some(scopes.iter().map(|scope| (*scope).to_owned()).collect());
        self
    }

    /// Leaves `scopes` out.
    #[must_use]
    pub fn without_scopes(mut self) -> Self {
        self.scopes = None;
        self
    }

    /// Sets a member of `auth`: `token`, `password`, `deviceToken`, `bootstrapToken`.
    #[must_use]
    pub fn auth(mut self, key: &str, secret: &str) -> Self {
        self.auth.insert(key.to_owned(), secret.into());
        self
    }

    /// With the shared token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.auth("token", token)
    }

    /// With a device proof.
    #[must_use]
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Signs another text.
    #[must_use]
    pub fn form(mut self, form: SignedForm) -> Self {
        self.form = form;
        self
    }

    /// Signs with a clock that is wrong by this much.
    #[must_use]
    pub fn clock_off_by(mut self, ms: i64) -> Self {
        self.signed_offset_ms = ms;
        self
    }

    /// Signs at this moment.
    #[must_use]
    pub fn signed_at(mut self, ms: i64) -> Self {
        self.signed_at = Some(ms);
        self
    }

    /// Signs another nonce than the challenge's.
    #[must_use]
    pub fn nonce(mut self, nonce: &str) -> Self {
        self.nonce = Some(nonce.to_owned());
        self
    }

    /// With a local proof under this key.
    #[must_use]
    pub fn local_proof(mut self, key: &[u8]) -> Self {
        self.local_key = Some(key.to_vec());
        self
    }

    /// Changes the params after everything was signed.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&mut Value) + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// The params for a challenge.
    pub fn params(&self, nonce: &str, ts: i64) -> Value {
        let mut params = json!({
            "minProtocol": self.range.0,
            "maxProtocol": self.range.1,
            "client": self.client,
            "caps": [],
        });
        if let Some(role) = &self.role {
            params["role"] = role.as_str().into();
        }
        if let Some(scopes) = &self.scopes {
            params["scopes"] = json!(scopes);
        }
        let mut auth = self.auth.clone();
        let (role, scopes) = (self.role.as_deref().unwrap_or("operator"), self.joined());
        if let Some(key) = &self.local_key {
            let text = format!("clawgate-local-proof|v1|{nonce}|{role}|{scopes}");
            auth.insert("localProof".to_owned(), hmac_hex(key, &text).into());
        }
        if !auth.is_empty() {
            params["auth"] = Value::Object(auth);
        }
        if let Some(device) = &self.device {
            let nonce = self.nonce.as_deref().unwrap_or(nonce);
            let at = self.signed_at.unwrap_or(ts) + self.signed_offset_ms;
            let text = self.signed_text(&device.id(), role, &scopes, at, nonce);
            params["device"] = json!({
                "id": device.id(),
                "publicKey": device.public_key(),
                "signature": device.sign(&text),
                "signedAt": at,
                "nonce": nonce,
            });
        }
        for edit in &self.edits {
            edit(&mut params);
        }
        params
    }

    fn joined(&self) -> String {
        self.scopes.as_deref().unwrap_or_default().join(",")
    }

    fn signed_text(&self, id: &str, role: &str, scopes: &str, at: i64, nonce: &str) -> String {
        let client = |key: &str| {
            self.client
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let secret = |key: &str| self.auth.get(key).and_then(Value::as_str);
        let token = secret("token")
            .or(secret("deviceToken"))
            .or(secret("bootstrapToken"))
            .unwrap_or_default();
        let (name, mode) = (client("id"), client("mode"));
        let pinned = |key: &str| client(key).trim().to_ascii_lowercase();
        match self.form {
            SignedForm::V1 => format!("v1|{id}|{name}|{mode}|{role}|{scopes}|{at}|{token}"),
            SignedForm::V2 => format!("v2|{id}|{name}|{mode}|{role}|{scopes}|{at}|{token}|{nonce}"),
            SignedForm::V3 => format!(
                "v3|{id}|{name}|{mode}|{role}|{scopes}|{at}|{token}|{nonce}|{}|{}",
                pinned("platform"),
                pinned("deviceFamily")
            ),
        }
    }
}
