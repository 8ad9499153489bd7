//! Every credential that is presented is looked at: one more that is good takes nothing away, and one
//! more that is bad changes nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::BTreeSet;

use clawgate_testkit::{Connect, Device, TestGateway, gateway};
use serde_json::json;

const SECRET: &str = "pass-word-of-the-gateway";
const WANTED: [&str; 3] = ["operator.read", "operator.write", "operator.approvals"];

/// Good credentials of each kind, for the same device.
struct Keyring {
    device: Device,
    device_token: String,
    api_token: String,
    local_key: Vec<u8>,
}

/// One bit for each kind.
const PASSWORD: u8 = 1;
const DEVICE_TOKEN: u8 = 1 << 1;
const API_TOKEN: u8 = 1 << 2;
const LOCAL_PROOF: u8 = 1 << 3;
const ALL: u8 = 1 << 4;

impl Keyring {
    /// A device that was approved for reading, and an API token for approvals.
    fn of(gateway: &TestGateway) -> Self {
        let local_key = gateway.home().local_key();
        let (mut owner, _) = gateway.welcome(&Connect::new(4).local_proof(&local_key));
        let params = json!({"name": "ci", "scopes": ["operator.approvals"]});
        let api_token = owner.call("tokens.create", &params)["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let device = Device::new();
        let connect = || {
            let base = Connect::new(4).auth("password", SECRET).device(&device);
            base.scopes(&["operator.read"])
        };
        let refusal = gateway.from_afar(&connect()).map(|_| ()).unwrap_err();
        let request = refusal.error.unwrap().detail("requestId").clone();
        owner.call("device.pair.approve", &json!({"requestId": request}));
        let (_, hello) = gateway.from_afar(&connect()).unwrap();
        Self {
            device_token: hello.device_token().unwrap().to_owned(),
            device,
            api_token,
            local_key,
        }
    }

    /// A connect with these kinds, each of them good, or bad where `bad` says so.
    fn connect(&self, protocol: u32, kinds: u8, bad: u8) -> Connect {
        let text = |kind: u8, good: &str| {
            if bad & kind == 0 {
                good.to_owned()
            } else {
                format!("{good}x")
            }
        };
        let mut connect = Connect::new(protocol).device(&self.device).scopes(&WANTED);
        if kinds & PASSWORD != 0 {
            connect = connect.auth("password", &text(PASSWORD, SECRET));
        }
        if kinds & DEVICE_TOKEN != 0 {
            connect = connect.auth("deviceToken", &text(DEVICE_TOKEN, &self.device_token));
        }
        if kinds & API_TOKEN != 0 {
            connect = connect.auth("token", &text(API_TOKEN, &self.api_token));
        }
        if kinds & LOCAL_PROOF != 0 {
            let mut key = self.local_key.clone();
            key[0] ^= u8::from(bad & LOCAL_PROOF != 0);
            connect = connect.local_proof(&key);
        }
        connect
    }
}

/// What a connect from elsewhere gets; on this machine the first of them would pair the device for
/// all the others.
fn granted(gateway: &TestGateway, connect: &Connect) -> BTreeSet<String> {
    let scopes = gateway
        .from_afar(connect)
        .map(|(_, hello)| hello.session_scopes());
    scopes.unwrap_or_default().into_iter().collect()
}

fn home() -> TestGateway {
    gateway!(json!({"gateway": {"auth": {
        "mode": "password", "password": SECRET,
        "rateLimit": {"maxAttempts": 10_000, "exemptLoopback": false},
    }}}))
}

#[test]
fn one_more_good_credential_takes_nothing_away() {
    let gateway = home();
    let keyring = Keyring::of(&gateway);
    for protocol in [3, 4] {
        let of: Vec<BTreeSet<String>> = (0..ALL)
            .map(|kinds| granted(&gateway, &keyring.connect(protocol, kinds, 0)))
            .collect();
        for kinds in 0..ALL {
            for more in 0..ALL {
                let both = usize::from(kinds | more);
                assert!(
                    of[usize::from(kinds)].is_subset(&of[both]),
                    "wire {protocol}: {kinds:#06b} got {:?}, with {more:#06b} {:?}",
                    of[usize::from(kinds)],
                    of[both]
                );
            }
        }
        let everything = &of[usize::from(PASSWORD | DEVICE_TOKEN | API_TOKEN)];
        let expected = ["operator.approvals", "operator.read"].map(str::to_owned);
        assert_eq!(everything, &BTreeSet::from(expected), "both lanes add up");
    }
}

#[test]
fn one_more_bad_credential_changes_nothing() {
    let gateway = home();
    let keyring = Keyring::of(&gateway);
    for protocol in [3, 4] {
        for kinds in 1..ALL {
            let alone = granted(&gateway, &keyring.connect(protocol, kinds, 0));
            for bad in (1..ALL).filter(|bad| bad & kinds == 0) {
                let connect = keyring.connect(protocol, kinds | bad, bad);
                assert_eq!(
                    granted(&gateway, &connect),
                    alone,
                    "wire {protocol}: {kinds:#06b} beside bad {bad:#06b}"
                );
            }
        }
    }
}

#[test]
fn an_old_device_token_beside_a_good_secret_is_no_guess() {
    let gateway = gateway!(json!({"gateway": {"auth": {
        "mode": "password", "password": SECRET, "rateLimit": {"maxAttempts": 3},
    }}}));
    let keyring = Keyring::of(&gateway);
    for _ in 0..10 {
        let kinds = PASSWORD | DEVICE_TOKEN;
        granted(&gateway, &keyring.connect(4, kinds, DEVICE_TOKEN));
    }
    let alone = granted(&gateway, &keyring.connect(4, DEVICE_TOKEN, 0));
    assert_eq!(alone.len(), 1, "the good one is still looked at");
}
