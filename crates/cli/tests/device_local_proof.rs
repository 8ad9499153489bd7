//! The local proof: whoever can read the key file is the owner, here and nowhere else.

use std::os::unix::fs::PermissionsExt as _;

use clawgate_testkit::{Connect, Device, OPERATOR, TOKEN, TestGateway, gateway};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];

fn proof(gateway: &TestGateway, protocol: u32) -> Connect {
    Connect::new(protocol).local_proof(&gateway.home().local_key())
}

#[test]
fn the_challenge_announces_that_a_local_proof_is_taken() {
    let gateway = gateway!();
    let challenge = gateway.client().challenge;
    let capabilities = challenge["payload"]["capabilities"].as_array().unwrap();
    assert!(
        capabilities.contains(&json!("clawgate-local-proof")),
        "{challenge}"
    );
}

#[test]
fn the_key_is_readable_to_the_owner_alone() {
    let gateway = gateway!();
    let identity = gateway.home().state().join("identity");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&identity), 0o700);
    assert_eq!(mode(&identity.join("local.key")), 0o600);
}

#[test]
fn the_proof_alone_makes_the_owner_in_every_mode() {
    for auth in [
        json!({"mode": "token", "token": TOKEN}),
        json!({"mode": "password", "password": TOKEN}),
        json!({"mode": "none"}),
    ] {
        let gateway = gateway!(json!({"gateway": {"auth": auth}}));
        for protocol in DIALECTS {
            let (mut client, hello) = gateway.welcome(&proof(&gateway, protocol));
            assert_eq!(hello.session_scopes(), OPERATOR);
            client.call("set-heartbeats", &json!({"enabled": false}));
        }
    }
}

#[test]
fn the_grant_names_the_proof_as_its_basis_and_is_bounded_by_what_was_asked() {
    let gateway = gateway!();
    let (mut client, hello) = gateway.welcome(&proof(&gateway, 4).scopes(&["operator.read"]));
    assert_eq!(hello.scopes(), ["operator.read"]);
    assert_eq!(hello.raw["auth"]["basis"], "local-proof");
    assert_eq!(hello.raw["auth"]["method"], "local-proof");
    client.refused("cron.add", &json!({}));
}

#[test]
fn a_wrong_key_is_refused_and_named() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let refusal = gateway.refusal(&Connect::new(protocol).local_proof(&[7; 32]));
        assert_eq!(refusal.code(), "AUTH_LOCAL_PROOF_MISMATCH");
        assert_eq!(refusal.close.code, 1008);
    }
}

#[test]
fn the_proof_is_bound_to_the_socket_the_role_and_the_scopes() {
    let gateway = gateway!();
    type Tamper = fn(&mut Value);
    let tampers: [(&str, Tamper); 3] = [
        ("scopes", |p| p["scopes"] = json!(["operator.admin"])),
        ("no scopes", |p| {
            p.as_object_mut().unwrap().remove("scopes");
        }),
        ("the proof", |p| {
            let text = p["auth"]["localProof"].as_str().unwrap().to_uppercase();
            p["auth"]["localProof"] = text.into();
        }),
    ];
    for (what, tamper) in tampers {
        let connect = proof(&gateway, 4).scopes(&["operator.read"]).edit(tamper);
        assert_eq!(
            gateway.refusal(&connect).code(),
            "AUTH_LOCAL_PROOF_MISMATCH",
            "{what}"
        );
    }
    let connect = proof(&gateway, 4)
        .device(&Device::new())
        .role("node")
        .scopes(&[]);
    let replayed = connect.params("another socket's nonce", clawgate_testkit::now_ms());
    let stolen = replayed["auth"]["localProof"].clone();
    let replay = Connect::new(4).edit(move |p| p["auth"] = json!({"localProof": stolen}));
    assert_eq!(gateway.refusal(&replay).code(), "AUTH_LOCAL_PROOF_MISMATCH");
}

#[test]
fn the_proof_counts_on_direct_loopback_without_a_page_alone() {
    let gateway = gateway!();
    let origin = format!("http://127.0.0.1:{}", gateway.address().port());
    for headers in [
        [("X-Forwarded-For", "127.0.0.1")],
        [("X-Forwarded-For", "203.0.113.7")],
        [("X-Real-IP", "127.0.0.1")],
        [("Forwarded", "for=127.0.0.1")],
        [("X-Forwarded-Proto", "https")],
        [("Via", "1.1 proxy")],
        [("Tailscale-User-Login", "a@example.com")],
        [("Host", "attacker.example")],
        [("Host", "box.tail1234.ts.net")],
        [("Origin", origin.as_str())],
    ] {
        let mut client = gateway.client_with(&headers);
        let refusal = client.connect(&proof(&gateway, 4)).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_LOCAL_PROOF_NOT_LOCAL", "{headers:?}");
    }
    let mut client = gateway.client_with(&[("Origin", "https://evil.example")]);
    let refusal = client.connect(&proof(&gateway, 4)).unwrap_err();
    assert_eq!(refusal.code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
}

#[test]
fn an_address_of_a_trusted_proxy_is_not_this_machine() {
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "trustedProxies": ["127.0.0.1"],
    }});
    let gateway = gateway!(config);
    let refusal = gateway.refusal(&proof(&gateway, 4));
    assert_eq!(refusal.code(), "AUTH_LOCAL_PROOF_NOT_LOCAL");
}

#[test]
fn e60_the_owner_can_always_approve_what_nobody_else_can() {
    let gateway = gateway!();
    // Everybody who is paired may read, and the one who asks is far away.
    let device = Device::new();
    let connect = Connect::new(4).token(TOKEN).device(&device);
    let refusal = gateway.from_afar(&connect).unwrap_err();
    let request = refusal.error.unwrap().detail("requestId").clone();
    let (mut owner, _) = gateway.welcome(&proof(&gateway, 4));
    owner.call("device.pair.approve", &json!({"requestId": request}));
    let (_, hello) = gateway.from_afar(&connect).unwrap();
    assert_eq!(hello.scopes(), OPERATOR);
}

#[test]
fn a_good_proof_beside_a_wrong_token_is_a_good_proof() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let connect = proof(&gateway, protocol).auth("token", "wrong");
        let (_, hello) = gateway.welcome(&connect);
        assert_eq!(hello.session_scopes(), OPERATOR);
    }
}

#[test]
fn the_key_survives_a_restart_and_is_never_said() {
    let mut gateway = gateway!();
    let key = gateway.home().local_key();
    let text = std::fs::read_to_string(gateway.home().state().join("identity/local.key")).unwrap();
    gateway.welcome(&Connect::new(4).local_proof(&key));
    gateway.kill();
    gateway.restart();
    assert_eq!(gateway.home().local_key(), key);
    gateway.welcome(&Connect::new(4).local_proof(&key));
    assert!(!gateway.stderr().contains(text.trim()));
    let found = gateway.home().state_files_with(text.trim());
    assert_eq!(found, [gateway.home().state().join("identity/local.key")]);
}
