//! Attacks on the handshake that are not told elsewhere. Which test is of which attack is in
//! docs/attacks.md.

use clawgate_testkit::{Connect, Device, TOKEN, gateway, token_config};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];

/// What is wrong, and how it is done.
type Broken = (&'static str, fn(&mut Value));

#[test]
fn e19_a_range_of_versions_that_is_none_is_refused_and_opens_nothing() {
    let gateway = gateway!();
    for dialect in DIALECTS {
        let broken: [Broken; 9] = [
            ("no smallest", |params| {
                params.as_object_mut().unwrap().remove("minProtocol");
            }),
            ("no greatest", |params| {
                params.as_object_mut().unwrap().remove("maxProtocol");
            }),
            ("swapped", |params| {
                params["minProtocol"] = json!(4);
                params["maxProtocol"] = json!(3);
            }),
            ("negative", |params| params["minProtocol"] = json!(-1)),
            ("nothing", |params| params["maxProtocol"] = json!(0)),
            ("a text", |params| params["maxProtocol"] = json!("4")),
            ("a fraction", |params| params["maxProtocol"] = json!(3.5)),
            ("no number", |params| params["maxProtocol"] = Value::Null),
            ("far away", |params| {
                params["minProtocol"] = json!(1_000_000_000);
                params["maxProtocol"] = json!(1_000_000_000);
            }),
        ];
        for (what, edit) in broken {
            let connect = Connect::new(dialect).token(TOKEN).edit(edit);
            let refusal = gateway.refusal(&connect);
            let error = refusal.error.unwrap();
            assert_eq!(error.code, "INVALID_REQUEST", "{what} in {dialect}");
            // Numbers that are in order have no version in common; everything else is no request.
            let is_range = ["swapped", "far away"].contains(&what);
            let (code, words) = if is_range {
                (1002, "protocol mismatch")
            } else {
                (1008, "invalid connect params")
            };
            assert_eq!(refusal.close.code, code, "{what} in {dialect}");
            assert!(error.message.starts_with(words), "{what}: {error:?}");
            assert!(
                refusal.close.reason.starts_with(words),
                "{what}: {:?}",
                refusal.close
            );
        }
    }
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn e25_a_program_here_with_the_secret_gets_what_it_asks_for_and_the_terminal_says_reachable() {
    let gateway = gateway!(token_config());
    for dialect in DIALECTS {
        let connect = Connect::new(dialect)
            .token(TOKEN)
            .scopes(&["operator.read"]);
        let (mut client, hello) = gateway.welcome(&connect);
        assert_eq!(hello.session_scopes(), ["operator.read"], "{dialect}");
        client.call("status", &json!({}));
        client.call("cron.list", &json!({}));
    }
    let home = gateway.home();
    let url = format!("ws://{}", gateway.address());
    for command in [&["gateway", "probe"][..], &["status"]] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .args(command)
            .args(["--json", "--url", &url, "--token", TOKEN])
            .args(["--state-dir", home.state().to_str().unwrap()])
            .output();
        let done = done.unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(0), "{text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        let reachable = told
            .pointer("/gateway/reachable")
            .or_else(|| told.pointer("/ok"));
        assert_eq!(reachable, Some(&json!(true)), "{command:?}: {told}");
        assert!(!text.contains("missing scope"), "{text}");
    }
}

#[test]
fn e27_a_time_of_a_proof_that_is_no_time_is_refused() {
    let gateway = gateway!();
    let device = Device::new();
    for dialect in DIALECTS {
        for at in [0, -1, 1_000_000_000_000_000_000, i64::MAX, i64::MIN] {
            let connect = Connect::new(dialect).token(TOKEN).device(&device);
            let refusal = gateway.refusal(&connect.signed_at(at));
            let expired = at >= 0;
            let code = if expired {
                "DEVICE_AUTH_SIGNATURE_EXPIRED"
            } else {
                ""
            };
            assert_eq!(refusal.code(), code, "{at} in {dialect}");
            assert_eq!(refusal.close.code, 1008, "{at} in {dialect}");
        }
        for at in [
            json!("NaN"),
            Value::Null,
            json!(1.5e300),
            json!([]),
            json!(true),
        ] {
            let told = at.clone();
            let connect = Connect::new(dialect).token(TOKEN).device(&device);
            let connect = connect.edit(move |params| params["device"]["signedAt"] = told.clone());
            let refusal = gateway.refusal(&connect);
            // A number is a time, however far away; anything else is no request.
            let (code, words) = if at.is_number() {
                ("DEVICE_AUTH_SIGNATURE_EXPIRED", "device signature expired")
            } else {
                ("", "invalid connect params")
            };
            assert_eq!(refusal.code(), code, "{at} in {dialect}");
            let error = refusal.error.as_ref().unwrap();
            assert_eq!(error.code, "INVALID_REQUEST", "{at} in {dialect}");
            assert!(error.message.starts_with(words), "{at}: {error:?}");
            assert_eq!(refusal.close.code, 1008, "{at} in {dialect}");
            assert!(refusal.close.reason.starts_with(words), "{at}: {refusal:?}");
        }
    }
}

#[test]
fn e31_a_role_that_is_empty_or_a_list_is_refused() {
    let gateway = gateway!();
    for dialect in DIALECTS {
        for role in [
            json!(""),
            json!(["operator"]),
            json!({}),
            json!(1),
            json!("Operator"),
        ] {
            let told = role.clone();
            let connect = Connect::new(dialect).token(TOKEN);
            let connect = connect.edit(move |params| params["role"] = told.clone());
            let mut client = gateway.client();
            assert!(client.connect(&connect).is_err(), "{role} in {dialect}");
            assert_eq!(client.closed().code, 1008, "{role} in {dialect}");
        }
    }
}

#[test]
fn e31_a_role_that_is_none_leaves_nothing_behind_and_is_told_the_same_with_any_secret() {
    let gateway = gateway!();
    let device = Device::new();
    for dialect in DIALECTS {
        for role in [
            json!("admin"),
            json!("Operator"),
            json!(""),
            json!(["node"]),
        ] {
            let mut told = Vec::new();
            for secret in [TOKEN, "a-wrong-one"] {
                let role = role.clone();
                let connect = Connect::new(dialect).token(secret).device(&device);
                let connect = connect.edit(move |params| params["role"] = role.clone());
                let mut client = gateway.client();
                let error = client
                    .connect(&connect)
                    .map(drop)
                    .unwrap_err()
                    .error
                    .unwrap();
                assert_eq!(error.code, "INVALID_REQUEST", "{error:?}");
                told.push(error.raw);
            }
            assert_eq!(told[0], told[1], "{role} in {dialect}");
        }
    }
    let mut owner = gateway.owner(4);
    let devices = owner.call("device.pair.list", &json!({})).to_string();
    assert!(!devices.contains(&device.id()), "{devices}");
    // None of them was a guess.
    gateway.welcome(&Connect::new(4).token(TOKEN));
}

#[test]
fn e35_a_new_shared_secret_ends_those_that_came_by_the_old_one_before_it_is_answered() {
    let gateway = gateway!(token_config());
    let mut sockets: Vec<_> = (0..5).map(|_| gateway.owner(4)).collect();
    let mut operator = gateway.owner(4);
    let hash = operator.call("config.get", &json!({}))["hash"].clone();
    let raw = json!({"gateway": {"auth": {"token": "another-secret-of-thirty-two-letters"}}});
    let id = operator.send(
        "config.patch",
        &json!({"raw": raw.to_string(), "baseHash": hash}),
    );
    // Whoever asked may have its answer before its own end.
    let _ = operator.answer(&id);
    for socket in &mut sockets {
        let close = socket.closed();
        assert_eq!(close.code, 4001, "{close:?}");
    }
    gateway.refusal(&Connect::new(4).token(TOKEN));
    gateway.welcome(&Connect::new(4).token("another-secret-of-thirty-two-letters"));
}
