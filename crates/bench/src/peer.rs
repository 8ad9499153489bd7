//! Who connects, and the requests that it sends.

use std::{fmt, net::SocketAddr, sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawgate_protocol::proof::ProofText;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::{
    error::BenchError,
    wire::{Wire, text_frame, upgrade},
};

const SCOPES: [&str; 5] = [
    "operator.admin",
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.pairing",
];
/// How the answer to a connect begins, whatever its id.
const ANSWER: &str = r#"{"type":"res""#;
/// Where in it a hello says that it is one.
const WELCOMED: &str = r#""ok":true"#;
/// So far from the beginning an answer says whether it is good.
const HEAD_BYTES: usize = 120;
/// How a good answer to a [`request`] begins.
pub const ANSWERED: &str = r#"{"type":"res","id":"b","ok":true"#;

/// A request as it travels, framed. All requests carry one id: only their number counts.
pub fn request(method: &str, params: Option<&str>) -> Vec<u8> {
    text_frame(&clawgate_protocol::frame::request("b", method, params))
}

/// Who comes in: it answers a gateway's challenge.
pub trait Guest: fmt::Debug + Send + Sync {
    /// The text of the connect request, for the text of the challenge.
    ///
    /// # Errors
    /// The challenge does not read, or what it asks for is not to be had.
    fn connect_text(&self, challenge: &str) -> Result<String, BenchError>;
}

/// A gateway's address and who comes in there.
#[derive(Clone, Debug)]
pub struct Door {
    address: SocketAddr,
    upgrade: Arc<[u8]>,
    guest: Arc<dyn Guest>,
}

impl Door {
    /// The door of a server on this machine.
    pub fn of(address: SocketAddr, device: &Arc<Device>) -> Self {
        let guest: Arc<dyn Guest> = Arc::<Device>::clone(device);
        Self::at(address, "127.0.0.1", "/", guest)
    }

    /// The door of a server that is called by a name, at a path of it.
    pub fn at(address: SocketAddr, host: &str, path: &str, guest: Arc<dyn Guest>) -> Self {
        Self {
            address,
            upgrade: upgrade(host, path).into(),
            guest,
        }
    }

    /// TCP, upgrade, challenge, signed connect, hello.
    ///
    /// # Errors
    /// Nobody is there, or the guest is not welcome.
    pub async fn enter(&self) -> Result<Wire, BenchError> {
        let mut wire = Wire::open(self.address, &self.upgrade).await?;
        let challenge = wire.message().await?;
        let connect = self.guest.connect_text(&challenge)?;
        wire.send(&text_frame(&connect)).await?;
        loop {
            let hello = wire.message().await?;
            if !hello.starts_with(ANSWER) {
                continue;
            }
            let head = hello.get(..HEAD_BYTES.min(hello.len())).unwrap_or(&hello);
            return if head.contains(WELCOMED) {
                Ok(wire)
            } else {
                Err(BenchError::Unexpected(format!(
                    "connect was answered with {hello}"
                )))
            };
        }
    }
}

/// A key and the shared token that goes with it.
#[derive(Debug)]
pub struct Device {
    key: SigningKey,
    id: String,
    public_key: String,
    token: String,
}

impl Device {
    /// A new device that also knows the shared token.
    pub fn new(token: &str) -> Result<Self, BenchError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| BenchError::Unexpected(error.to_string()))?;
        let key = SigningKey::from_bytes(&seed);
        let public = key.verifying_key();
        let digest = Sha256::digest(public.as_bytes());
        Ok(Self {
            key,
            id: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            public_key: URL_SAFE_NO_PAD.encode(public.as_bytes()),
            token: token.to_owned(),
        })
    }

    /// The connect of this device, for a nonce.
    fn signed(&self, nonce: &str) -> String {
        let signed_at_ms = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            });
        let proof = ProofText {
            device_id: &self.id,
            client_id: "cli",
            client_mode: "cli",
            role: "operator",
            scopes: &SCOPES.join(","),
            signed_at_ms,
            token: &self.token,
            nonce,
            platform: "linux",
            device_family: "",
        };
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(proof.v3().as_bytes()).to_bytes());
        let (id, key, token, scopes) = (
            &self.id,
            &self.public_key,
            &self.token,
            SCOPES.join("\",\""),
        );
        format!(
            concat!(
                r#"{{"type":"req","id":"c","method":"connect","params":{{"minProtocol":3,"#,
                r#""maxProtocol":4,"client":{{"id":"cli","version":"1","platform":"linux","#,
                r#""mode":"cli"}},"role":"operator","scopes":["{scopes}"],"auth":{{"token":"{token}"}},"#,
                r#""device":{{"id":"{id}","publicKey":"{key}","signature":"{signature}","#,
                r#""signedAt":{signed_at_ms},"nonce":"{nonce}"}}}}}}"#
            ),
            scopes = scopes,
            token = token,
            id = id,
            key = key,
            signature = signature,
            signed_at_ms = signed_at_ms,
            nonce = nonce,
        )
    }
}

impl Guest for Device {
    fn connect_text(&self, challenge: &str) -> Result<String, BenchError> {
        let nonce = challenge
            .split_once(r#""nonce":""#)
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(nonce, _)| nonce)
            .ok_or_else(|| BenchError::Unexpected(format!("no nonce in {challenge}")))?;
        Ok(self.signed(nonce))
    }
}

/// Sends one request and gives its answer, whatever it is.
pub async fn call(
    wire: &mut Wire,
    method: &str,
    params: Option<&str>,
) -> Result<String, BenchError> {
    wire.send(&request(method, params)).await?;
    loop {
        let message = wire.message().await?;
        if message.starts_with(r#"{"type":"res""#) {
            return Ok(message);
        }
    }
}

/// The same; an answer that is an error is one here, and an unknown method is a reason to skip.
pub async fn answer(
    wire: &mut Wire,
    method: &str,
    params: Option<&str>,
) -> Result<String, BenchError> {
    let answer = call(wire, method, params).await?;
    if answer.starts_with(ANSWERED) {
        Ok(answer)
    } else if answer.contains("unknown method") {
        Err(BenchError::Skipped(format!("the gateway has no {method}")))
    } else {
        Err(BenchError::Unexpected(format!(
            "{method} was answered with {answer}"
        )))
    }
}
