//! Who calls, and what they may.

use std::hint::black_box;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawgate_core::{
    Dialect, Method, Role, ScopeSet,
    authz::{
        Browser, Check, Credentials, Declared, Evidence, Grant, Outcome, Peer, Policy, Proof,
        Record, ScopedCheck, admit, grant,
    },
    proof::{Claim, DeviceKey, verify},
};
use clawgate_protocol::{connect::parse_connect, proof::ProofText};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;

use crate::Path;

const SIGNED_AT_MS: u64 = 1_780_000_000_000;
const NONCE: &str = "0f4c9f2e-3d55-4f0e-9f5e-0d7a8f9c1b2a";
const SCOPES: &str = "operator.read,operator.write";

/// A device, and its signature.
struct Device {
    id: String,
    public_key: String,
    signature: String,
}

impl Device {
    fn new() -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public_key = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        let id = DeviceKey::parse(&public_key)
            .expect("a key that was just made")
            .device_id();
        let mut device = Self {
            id,
            public_key,
            signature: String::new(),
        };
        let signature = key.sign(device.text().v3().as_bytes());
        device.signature = URL_SAFE_NO_PAD.encode(signature.to_bytes());
        device
    }

    fn text(&self) -> ProofText<'_> {
        ProofText {
            device_id: &self.id,
            client_id: "cli",
            client_mode: "cli",
            role: "operator",
            scopes: SCOPES,
            signed_at_ms: SIGNED_AT_MS,
            token: "",
            nonce: NONCE,
            platform: "linux",
            device_family: "",
        }
    }
}

pub(crate) const READ_A_CONNECT: Path = Path {
    name: "read-a-connect",
    rounds: 200,
    prepare: || {
        let device = Device::new();
        let params = json!({
            "minProtocol": 3,
            "maxProtocol": 4,
            "client": {"id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli"},
            "caps": ["tool-events"],
            "role": "operator",
            "scopes": ["operator.read", "operator.write"],
            "device": {
                "id": device.id,
                "publicKey": device.public_key,
                "signature": device.signature,
                "signedAt": SIGNED_AT_MS,
                "nonce": NONCE,
            },
            "auth": {"token": "a-token-of-forty-eight-letters-as-they-are-made"},
            "locale": "en-GB",
            "userAgent": "cli/1.0.0",
        })
        .to_string();
        Box::new(move || {
            let read = parse_connect(Some(black_box(&params))).expect("it is a connect");
            black_box(read);
        })
    },
};

pub(crate) const CHECK_A_PROOF: Path = Path {
    name: "check-a-proof",
    rounds: 20,
    prepare: || {
        let device = Device::new();
        let now_ms = i64::try_from(SIGNED_AT_MS).expect("of this century");
        Box::new(move || {
            let claim = Claim {
                public_key: black_box(&device.public_key),
                signature: black_box(&device.signature),
                text: device.text(),
            };
            let key = verify(&claim, black_box(NONCE), now_ms).expect("it was just signed");
            black_box(key);
        })
    },
};

/// What a paired device with the gateway's token brings along.
fn evidence() -> Evidence {
    Evidence {
        peer: Peer::LoopbackDirect,
        browser: Browser::No,
        declared: Declared::Other,
        role: Role::Operator,
        credentials: Credentials {
            shared: Check::Valid,
            device_token: ScopedCheck::Valid(ScopeSet::owner()),
            ..Credentials::NONE
        },
        proof: Proof::Valid,
        record: Record::Paired {
            for_role: true,
            scopes: ScopeSet::owner(),
            pinned: true,
        },
    }
}

fn granted() -> Grant {
    let Outcome::Granted(grant) = grant(&evidence(), None, &Policy::default()) else {
        panic!("a paired device is let in");
    };
    grant
}

pub(crate) const DECIDE_A_GRANT: Path = Path {
    name: "decide-a-grant",
    rounds: 500,
    prepare: || {
        let (evidence, policy) = (evidence(), Policy::default());
        Box::new(move || {
            black_box(grant(black_box(&evidence), None, &policy));
        })
    },
};

/// Names of methods found in the table, and whether a session may call them.
pub(crate) const ADMIT_A_CALL: Path = Path {
    name: "admit-10-calls",
    rounds: 500,
    prepare: || {
        const NAMES: [&str; 10] = [
            "health",
            "status",
            "config.get",
            "cron.list",
            "cron.add",
            "chat.send",
            "chat.history",
            "sessions.list",
            "device.pair.approve",
            "agent.wait",
        ];
        let grant = granted();
        Box::new(move || {
            for name in NAMES {
                let method = Method::parse(black_box(name)).expect("it is in the table");
                let access = method.spec().access(Dialect::V4);
                black_box(admit(black_box(&grant), access)).expect("an owner may");
            }
        })
    },
};
