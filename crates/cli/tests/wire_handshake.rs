//! From the first message to hello-ok: what is accepted, in which words the rest is refused, and
//! what the hello promises.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::time::{Duration, Instant};

use clawgate_testkit::{
    Call, Close, Connect, Device, Frame, Hello, OPERATOR, Opcode, Refusal, SignedForm, TOKEN,
    TestGateway, gateway,
};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];
const READ: &[&str] = &["operator.read"];

/// Sends one text as the first message.
fn first(gateway: &TestGateway, text: &str) -> Result<Hello, Refusal> {
    let mut client = gateway.client();
    client.socket.send_text(text);
    match client.socket.read() {
        clawgate_testkit::Message::Closed(close) => Err(Refusal { error: None, close }),
        clawgate_testkit::Message::Text(answer) => {
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["ok"], false, "{answer}");
            let error = Box::new(clawgate_testkit::WireError::of(&answer["error"]));
            Err(Refusal {
                error: Some(error),
                close: client.closed(),
            })
        }
        other => panic!("{other:?}"),
    }
}

/// A connect frame around params.
fn frame(params: &Value) -> Value {
    json!({"type": "req", "id": "1", "method": "connect", "params": params})
}

/// Good params without device.
fn good(protocol: u32) -> Value {
    Connect::new(protocol).token(TOKEN).params("", 0)
}

#[test]
fn e13_text_that_is_no_json_closes_1000_without_a_word() {
    let gateway = gateway!();
    for text in [
        "hello",
        "",
        "{",
        "nul",
        "{\"a\":1} trailing",
        "\u{feff}{}",
        "undefined",
        "'x'",
    ] {
        let refusal = first(&gateway, text).unwrap_err();
        assert!(refusal.error.is_none(), "{text:?}: {refusal:?}");
        assert_eq!(refusal.close, Close::new(1000, ""), "{text:?}");
    }
}

#[test]
fn e13_json_that_is_no_request_closes_1008_without_a_response() {
    let gateway = gateway!();
    let whole = good(3);
    for text in [
        "null".to_owned(),
        "5".to_owned(),
        "\"connect\"".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "true".to_owned(),
        json!({"type": "event", "event": "x"}).to_string(),
        json!({"type": "res", "id": "1", "ok": true}).to_string(),
        json!({"type": "req", "method": "connect", "params": whole}).to_string(),
        json!({"type": "req", "id": "", "method": "connect", "params": whole}).to_string(),
        json!({"type": "req", "id": 1, "method": "connect", "params": whole}).to_string(),
        json!({"type": "req", "id": null, "method": "connect", "params": whole}).to_string(),
        json!({"type": "req", "id": "1", "params": whole}).to_string(),
        json!({"type": "req", "id": "1", "method": "", "params": whole}).to_string(),
        json!({"type": "req", "id": "1", "method": "connect", "params": whole, "foo": 1})
            .to_string(),
        json!({"type": "REQ", "id": "1", "method": "connect", "params": whole}).to_string(),
    ] {
        let refusal = first(&gateway, &text).unwrap_err();
        assert!(refusal.error.is_none(), "{text}: {refusal:?}");
        assert_eq!(
            refusal.close,
            Close::new(1008, "invalid request frame"),
            "{text}"
        );
    }
}

#[test]
fn e18_a_first_request_other_than_connect_is_answered_and_closed() {
    let gateway = gateway!();
    let text = "invalid handshake: first request must be connect";
    for method in [
        "health",
        "Connect",
        "connect ",
        "no.such.method",
        "device.pair.list",
    ] {
        let request = json!({"type": "req", "id": "1", "method": method, "params": {}});
        let refusal = first(&gateway, &request.to_string()).unwrap_err();
        let error = refusal.error.unwrap();
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("INVALID_REQUEST", text)
        );
        assert_eq!(refusal.close, Close::new(1008, text), "{method}");
    }
}

#[test]
fn connect_without_params_is_told_that_they_must_be_an_object() {
    let gateway = gateway!();
    let text = "invalid connect params: must be object";
    for request in [
        json!({"type": "req", "id": "1", "method": "connect"}),
        json!({"type": "req", "id": "1", "method": "connect", "params": null}),
        json!({"type": "req", "id": "1", "method": "connect", "params": []}),
        json!({"type": "req", "id": "1", "method": "connect", "params": "x"}),
    ] {
        let refusal = first(&gateway, &request.to_string()).unwrap_err();
        let error = refusal.error.unwrap();
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("INVALID_REQUEST", text)
        );
        assert_eq!(refusal.close, Close::new(1008, text), "{request}");
    }
}

#[test]
fn bad_params_are_listed_in_the_words_of_the_dialect() {
    type Spoil = fn(&mut Value);
    let cases: &[(Spoil, &str, &str)] = &[
        (
            |p| p["client"]["id"] = "nope".into(),
            "at /client/id: must be equal to constant; at /client/id: must match a schema in anyOf",
            "at /client/id: must be equal to one of the allowed values",
        ),
        (
            |p| p["client"]["mode"] = "operator".into(),
            "at /client/mode: must be equal to constant; at /client/mode: must match a schema in anyOf",
            "at /client/mode: must be equal to one of the allowed values",
        ),
        (
            |p| p["foo"] = 1.into(),
            "at root: unexpected property 'foo'",
            "at root: unexpected property 'foo'",
        ),
        (
            |p| p["client"]["foo"] = 1.into(),
            "at /client: unexpected property 'foo'",
            "at /client: unexpected property 'foo'",
        ),
        (
            |p| p["minProtocol"] = "3".into(),
            "at /minProtocol: must be integer",
            "at /minProtocol: must be integer",
        ),
        (
            |p| p["minProtocol"] = json!(2.5),
            "at /minProtocol: must be integer",
            "at /minProtocol: must be integer",
        ),
        (
            |p| p["minProtocol"] = 0.into(),
            "at /minProtocol: must be >= 1",
            "at /minProtocol: must be >= 1",
        ),
        (
            |p| p["minProtocol"] = json!(-7),
            "at /minProtocol: must be >= 1",
            "at /minProtocol: must be >= 1",
        ),
        (
            |p| p["device"] = json!({"id": "x", "publicKey": "y", "signature": "z", "signedAt": 1}),
            "at /device: must have required property 'nonce'",
            "at /device: must have required property 'nonce'",
        ),
        (
            |p| {
                p["device"] = json!({
                    "id": "x", "publicKey": "y", "signature": "z", "signedAt": 1, "nonce": "",
                });
            },
            "at /device/nonce: must NOT have fewer than 1 characters",
            "at /device/nonce: must not have fewer than 1 characters",
        ),
        (
            |p| p["client"]["version"] = "".into(),
            "at /client/version: must NOT have fewer than 1 characters",
            "at /client/version: must not have fewer than 1 characters",
        ),
        (
            |p| p["scopes"] = "operator.read".into(),
            "at /scopes: must be array",
            "at /scopes: must be array",
        ),
        (
            |p| p["scopes"] = json!([5]),
            "at /scopes/0: must be string",
            "at /scopes/0: must be string",
        ),
        (
            |p| p["permissions"] = json!({"camera": "yes"}),
            "at /permissions/camera: must be boolean",
            "at /permissions/camera: must be boolean",
        ),
        (
            |p| p["auth"]["token"] = 5.into(),
            "at /auth/token: must be string",
            "at /auth/token: must be string",
        ),
        (
            |p| p["role"] = json!(["operator"]),
            "at /role: must be string",
            "at /role: must be string",
        ),
        (
            |p| p["role"] = "".into(),
            "at /role: must NOT have fewer than 1 characters",
            "at /role: must not have fewer than 1 characters",
        ),
        (
            |p| p["__proto__"] = json!({"admin": true}),
            "at root: unexpected property '__proto__'",
            "at root: unexpected property '__proto__'",
        ),
    ];
    let gateway = gateway!();
    for (spoil, v3, v4) in cases {
        for (protocol, problems) in [(3, v3), (4, v4)] {
            let mut params = good(protocol);
            spoil(&mut params);
            // A spoiled range still says which dialect is spoken, by its other end.
            let refusal = first(&gateway, &frame(&params).to_string()).unwrap_err();
            let message = format!("invalid connect params: {problems}");
            let error = refusal.error.unwrap();
            assert_eq!(
                (error.code.as_str(), &error.message),
                ("INVALID_REQUEST", &message)
            );
            let reason: String = message.chars().take(120).collect();
            assert_eq!(refusal.close, Close::new(1008, &reason));
        }
    }
}

#[test]
fn wire_3_lists_every_problem_and_wire_4_the_first_of_a_kind() {
    let gateway = gateway!();
    let refusal = first(&gateway, &frame(&json!({})).to_string()).unwrap_err();
    let all = "invalid connect params: must have required property 'minProtocol'; must have \
               required property 'maxProtocol'; must have required property 'client'";
    assert_eq!(refusal.error.unwrap().message, all);
    assert_eq!(
        refusal.close,
        Close::new(1008, &all[..120]),
        "cut to 120 bytes"
    );

    let params = json!({"maxProtocol": 4});
    let refusal = first(&gateway, &frame(&params).to_string()).unwrap_err();
    let text = "invalid connect params: must have required property 'minProtocol'";
    assert_eq!(refusal.error.unwrap().message, text);
    assert_eq!(refusal.close, Close::new(1008, text));
}

#[test]
fn properties_of_wire_4_are_unknown_to_wire_3() {
    let gateway = gateway!();
    let mut params = good(3);
    params["client"]["buildId"] = "b".into();
    let refusal = first(&gateway, &frame(&params).to_string()).unwrap_err();
    assert_eq!(
        refusal.error.unwrap().message,
        "invalid connect params: at /client: unexpected property 'buildId'"
    );
    let with_build = Connect::new(4).token(TOKEN).with_client("buildId", "b");
    gateway.welcome(&with_build.with_client("timeZone", "Europe/Berlin"));
    let long = Connect::new(4)
        .token(TOKEN)
        .with_client("buildId", &"b".repeat(97));
    let refusal = gateway.refusal(&long);
    assert_eq!(
        refusal.error.unwrap().message,
        "invalid connect params: at /client/buildId: must not have more than 96 characters"
    );
}

#[test]
fn every_client_id_and_mode_of_the_dialect_is_taken() {
    let gateway = gateway!();
    let ids = [
        "cli",
        "gateway-client",
        "openclaw-macos",
        "openclaw-ios",
        "openclaw-android",
        "node-host",
        "test",
        "fingerprint",
        "openclaw-probe",
        "webchat",
    ];
    for protocol in DIALECTS {
        for id in ids {
            gateway.welcome(&Connect::new(protocol).token(TOKEN).client(id, "test"));
        }
        for mode in ["cli", "ui", "backend", "node", "probe", "test"] {
            gateway.welcome(&Connect::new(protocol).token(TOKEN).client("cli", mode));
        }
    }
    for id in [
        "openclaw-browser-copilot",
        "openclaw-tui",
        "openclaw-linux",
        "openclaw-watchos",
    ] {
        gateway.welcome(&Connect::new(4).token(TOKEN).client(id, "ui"));
        let refusal = gateway.refusal(&Connect::new(3).token(TOKEN).client(id, "ui"));
        assert_eq!(refusal.close.code, 1008, "{id}");
    }
}

#[test]
fn a_worker_is_turned_away_on_this_path() {
    let gateway = gateway!();
    for connect in [
        Connect::new(4).token(TOKEN).role("worker"),
        Connect::new(4)
            .token(TOKEN)
            .client("openclaw-worker", "cli"),
        Connect::new(4).token(TOKEN).client("cli", "worker"),
    ] {
        let refusal = gateway.refusal(&connect);
        assert!(refusal.error.is_none(), "{refusal:?}");
        assert_eq!(refusal.close, Close::new(1008, "invalid-handshake"));
    }
    let refusal = gateway.refusal(&Connect::new(3).token(TOKEN).role("worker"));
    assert_eq!(refusal.close, Close::new(1008, "invalid role"));
}

#[test]
fn e31_an_unknown_role_is_refused() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        for role in [
            "root",
            "admin",
            "Operator",
            "operator ",
            "bogus",
            "operator.admin",
        ] {
            let refusal = gateway.refusal(&Connect::new(protocol).token(TOKEN).role(role));
            let error = refusal.error.unwrap();
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                ("INVALID_REQUEST", "invalid role")
            );
            assert_eq!(refusal.close, Close::new(1008, "invalid role"), "{role}");
        }
    }
}

#[test]
fn the_newest_common_protocol_is_spoken() {
    let gateway = gateway!();
    for (min, max, spoken) in [
        (3, 3, 3),
        (4, 4, 4),
        (3, 4, 4),
        (1, 99, 4),
        (1, 3, 3),
        (4, 7, 4),
    ] {
        let (_, hello) = gateway.welcome(&Connect::new(3).range(min, max).token(TOKEN));
        assert_eq!(hello.raw["protocol"], spoken, "{min}..{max}");
    }
}

#[test]
fn e19_no_common_protocol_closes_1002_with_the_details_of_the_callers_dialect() {
    let gateway = gateway!();
    for (min, max) in [(1, 2), (2, 2), (1, 1), (5, 9), (99, 99), (4, 3), (9, 1)] {
        let refusal = gateway.refusal(&Connect::new(3).range(min, max).token(TOKEN));
        let error = refusal.error.unwrap();
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("INVALID_REQUEST", "protocol mismatch")
        );
        assert_eq!(
            refusal.close,
            Close::new(1002, "protocol mismatch"),
            "{min}..{max}"
        );
        let details = if max >= 4 {
            json!({
                "code": "PROTOCOL_MISMATCH", "clientMinProtocol": min, "clientMaxProtocol": max,
                "expectedProtocol": 4, "minimumProbeProtocol": 3,
            })
        } else {
            json!({"expectedProtocol": 3})
        };
        assert_eq!(error.raw["details"], details, "{min}..{max}");
    }
}

#[test]
fn a_first_message_of_65536_bytes_is_taken() {
    let gateway = gateway!();
    let text = padded(65_536);
    assert_eq!(text.len(), 65_536);
    for fragments in [1, 3] {
        let mut client = gateway.client();
        send_in(&mut client, &text, fragments);
        assert_eq!(client.response()["ok"], true, "{fragments} fragments");
    }
}

#[test]
fn e01_a_first_message_of_65537_bytes_closes_1009_without_a_reason() {
    let gateway = gateway!();
    let text = padded(65_537);
    for fragments in [1, 3, 65] {
        let mut client = gateway.client();
        send_in(&mut client, &text, fragments);
        assert_eq!(
            client.closed(),
            Close::new(1009, ""),
            "{fragments} fragments"
        );
    }
}

#[test]
fn e02_an_announced_giant_is_refused_at_its_header() {
    let gateway = gateway!();
    for length in [65_537, 1 << 40, (1 << 63) - 1] {
        let mut client = gateway.client();
        client
            .socket
            .send(&Frame::new(Opcode::Text, "x").announcing(length));
        assert_eq!(client.closed(), Close::new(1009, ""), "{length}");
    }
    let mut client = gateway.client();
    client
        .socket
        .send(&Frame::new(Opcode::Text, "x").announcing(1 << 63));
    assert!(matches!(client.closed().code, 1002 | 1009));
}

fn padded(length: usize) -> String {
    let mut params = good(3);
    params["userAgent"] = "".into();
    let bare = frame(&params).to_string().len();
    params["userAgent"] = "a".repeat(length - bare).into();
    frame(&params).to_string()
}

fn send_in(client: &mut clawgate_testkit::Client, text: &str, fragments: usize) {
    let size = text.len().div_ceil(fragments);
    let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
    for (at, part) in parts.iter().enumerate() {
        let opcode = if at == 0 {
            Opcode::Text
        } else {
            Opcode::Continuation
        };
        let frame = Frame::new(opcode, *part);
        client.socket.send(&if at + 1 < parts.len() {
            frame.more()
        } else {
            frame
        });
    }
}

#[test]
fn e10_silence_closes_1000_at_the_deadline() {
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "handshakeTimeoutMs": 200,
    }});
    let gateway = gateway!(config);
    let before = Instant::now();
    let mut silent = gateway.client();
    // Bytes of a message that never ends, and pings, are no connect.
    let mut dripping = gateway.client();
    dripping.socket.send(&Frame::new(Opcode::Ping, "x"));
    dripping
        .socket
        .send(&Frame::new(Opcode::Text, "{\"type\":").more());
    assert_eq!(silent.closed(), Close::new(1000, ""));
    assert_eq!(dripping.closed(), Close::new(1000, ""));
    assert!(
        before.elapsed() >= Duration::from_millis(150),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn the_deadline_is_fifteen_seconds_unless_configured() {
    let gateway = gateway!();
    let before = Instant::now();
    assert_eq!(gateway.client().closed(), Close::new(1000, ""));
    let took = before.elapsed();
    assert!(
        took >= Duration::from_millis(14_500) && took < Duration::from_secs(19),
        "{took:?}"
    );
}

#[test]
fn e32_scopes_with_control_characters_or_of_great_length_are_refused() {
    let gateway = gateway!();
    for scope in ["operator.read\n", "operator\u{0}.read", &"x".repeat(10_000)] {
        let refusal = gateway.refusal(&Connect::new(4).token(TOKEN).scopes(&[scope]));
        let message = refusal.error.unwrap().message;
        assert!(message.starts_with("invalid connect params: "), "{message}");
    }
}

#[test]
fn e32_scope_names_are_literal_and_there_is_no_wildcard() {
    let gateway = gateway!();
    for scope in [
        "operator.admin ",
        "OPERATOR.ADMIN",
        "operator.*",
        "*",
        "operator",
    ] {
        match gateway
            .client()
            .connect(&Connect::new(4).token(TOKEN).scopes(&[scope]))
        {
            Err(refusal) => assert_eq!(refusal.close.code, 1008, "{scope:?}"),
            Ok(hello) => assert_eq!(hello.session_scopes(), [scope], "carried as it is"),
        }
        let mixed = Connect::new(4)
            .token(TOKEN)
            .scopes(&[scope, "operator.read"]);
        let (mut client, _) = gateway.welcome(&mixed);
        let error = client.refused("cron.add", &json!({}));
        assert_eq!(error.message, "missing scope: operator.admin", "{scope:?}");
    }
}

#[test]
fn e32_duplicate_scopes_count_once_and_keep_their_order() {
    let gateway = gateway!();
    let asked = ["operator.write", "operator.read", "operator.write"];
    let (_, hello) = gateway.welcome(&Connect::new(4).token(TOKEN).scopes(&asked));
    assert_eq!(hello.scopes(), ["operator.write", "operator.read"]);
}

#[test]
fn a_proof_covers_repeated_scopes_as_they_were_sent() {
    let gateway = gateway!();
    let asked = ["operator.read", "operator.read", "operator.write"];
    for protocol in DIALECTS {
        let connect = Connect::new(protocol).token(TOKEN).scopes(&asked);
        let (_, hello) = gateway.welcome(&connect.device(&Device::new()));
        assert_eq!(
            hello.session_scopes(),
            ["operator.read", "operator.write"],
            "wire {protocol}"
        );
    }
}

#[test]
fn e32_ten_thousand_scopes_do_not_slow_the_gateway() {
    let gateway = gateway!();
    let many: Vec<String> = (0..3_000).map(|n| format!("operator.x{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let before = Instant::now();
    let _ = gateway
        .client()
        .connect(&Connect::new(4).token(TOKEN).scopes(&many));
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn hello_of_wire_3_has_every_member() {
    let gateway = gateway!();
    let (_, hello) = gateway.welcome(&Connect::new(3).token(TOKEN));
    let raw = &hello.raw;
    assert_eq!(raw["type"], "hello-ok");
    assert_eq!(raw["protocol"], 3);
    assert!(raw["server"]["version"].is_string());
    assert!(raw["server"]["connId"].is_string());
    assert_eq!(
        raw["server"].as_object().unwrap().len(),
        2,
        "closed in wire 3: {raw}"
    );
    assert_eq!(
        raw["features"].as_object().unwrap().len(),
        2,
        "closed in wire 3"
    );
    common_members(raw);
    assert_eq!(raw["snapshot"]["authMode"], "token");
    assert_eq!(
        raw["snapshot"]["configPath"],
        gateway.home().config().display().to_string()
    );
    assert_eq!(
        raw["snapshot"]["stateDir"],
        gateway.home().state().display().to_string()
    );
}

#[test]
fn hello_of_wire_4_has_every_member() {
    let gateway = gateway!();
    let (_, hello) = gateway.welcome(&Connect::new(4).token(TOKEN));
    let raw = &hello.raw;
    assert_eq!(raw["protocol"], 4);
    assert!(raw["server"]["bootId"].is_string());
    common_members(raw);
    assert_eq!(raw["auth"]["method"], "token");
    assert_eq!(raw["auth"]["role"], "operator");
    assert_eq!(hello.scopes(), OPERATOR);
}

fn common_members(raw: &Value) {
    assert_eq!(
        raw["policy"],
        json!({"maxPayload": 26_214_400, "maxBufferedBytes": 52_428_800, "tickIntervalMs": 30_000})
    );
    let snapshot = &raw["snapshot"];
    assert!(snapshot["presence"].is_array(), "{snapshot}");
    assert_eq!(snapshot["presence"][0]["reason"], "self", "{snapshot}");
    assert!(snapshot["health"].is_object(), "{snapshot}");
    for counter in ["presence", "health"] {
        assert!(snapshot["stateVersion"][counter].is_u64(), "{snapshot}");
    }
    assert!(snapshot["uptimeMs"].is_u64(), "{snapshot}");
    let defaults = &snapshot["sessionDefaults"];
    assert_eq!(defaults["defaultAgentId"], "main");
    assert_eq!(defaults["mainKey"], "main");
    assert_eq!(defaults["mainSessionKey"], "agent:main:main");
    assert_eq!(defaults["scope"], "per-sender");
    for event in [
        "connect.challenge",
        "tick",
        "presence",
        "health",
        "shutdown",
        "cron",
        "agent",
        "heartbeat",
        "chat",
    ] {
        let events = raw["features"]["events"].as_array().unwrap();
        assert!(
            events.contains(&event.into()),
            "{event} is sent and not announced"
        );
    }
}

#[test]
fn the_hello_always_says_what_was_granted() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        for scopes in [&OPERATOR[..], READ, &[]] {
            let bare = Connect::new(protocol).token(TOKEN).scopes(scopes);
            let (_, hello) = gateway.welcome(&bare);
            assert_eq!(hello.session_scopes(), scopes, "wire {protocol}");
            assert_eq!(hello.raw["auth"]["role"], "operator");
            let proven = Connect::new(protocol)
                .token(TOKEN)
                .scopes(scopes)
                .device(&Device::new());
            let (_, hello) = gateway.welcome(&proven);
            assert_eq!(
                hello.session_scopes(),
                scopes,
                "wire {protocol} with a device"
            );
        }
    }
}

#[test]
fn wire_3_prints_the_scopes_of_the_device_token_and_those_of_the_session_beside_them() {
    let gateway = gateway!();
    let device = Device::new();
    gateway.welcome(&Connect::new(3).token(TOKEN).device(&device));
    let narrow = Connect::new(3).token(TOKEN).device(&device).scopes(READ);
    let (mut client, hello) = gateway.welcome(&narrow);
    let mut sorted = OPERATOR.to_vec();
    sorted.sort_unstable();
    assert_eq!(hello.scopes(), sorted, "the token's, sorted");
    assert_eq!(hello.session_scopes(), READ);
    assert!(hello.raw["auth"]["issuedAtMs"].is_i64());
    assert_eq!(hello.device_token().unwrap().len(), 43);
    let error = client.refused("cron.add", &json!({}));
    assert_eq!(error.message, "missing scope: operator.admin");
    let narrow = Connect::new(4).token(TOKEN).device(&device).scopes(READ);
    let (_, hello) = gateway.welcome(&narrow);
    assert_eq!(hello.scopes(), READ, "wire 4 prints the session's");
}

#[test]
fn paths_and_auth_mode_are_told_to_administrators_alone() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let (_, hello) = gateway.welcome(&Connect::new(protocol).token(TOKEN).scopes(READ));
        for key in ["configPath", "stateDir", "authMode"] {
            assert!(
                hello.raw["snapshot"].get(key).is_none(),
                "wire {protocol}: {key}"
            );
        }
    }
}

#[test]
fn presence_is_empty_for_a_session_without_read() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let pairing = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.pairing"]);
        let (_, hello) = gateway.welcome(&pairing);
        assert_eq!(
            hello.raw["snapshot"]["presence"],
            json!([]),
            "wire {protocol}"
        );
    }
}

#[test]
fn every_socket_has_its_own_connection_id_and_the_boot_id_stays() {
    let gateway = gateway!();
    let (_, one) = gateway.welcome(&Connect::new(4).token(TOKEN));
    let (_, two) = gateway.welcome(&Connect::new(4).token(TOKEN));
    assert_ne!(one.raw["server"]["connId"], two.raw["server"]["connId"]);
    assert_eq!(one.raw["server"]["bootId"], two.raw["server"]["bootId"]);
}

/// Who may call what is served, from the original's tables (wire 3 and wire 4 agree on these).
const TABLE: &[(&str, &str)] = &[
    ("health", "any"),
    ("auth.explain", "any"),
    ("logs.tail", "operator.read"),
    ("status", "operator.read"),
    ("config.get", "operator.read"),
    ("models.list", "operator.read"),
    ("agents.list", "operator.read"),
    ("sessions.list", "operator.read"),
    ("sessions.preview", "operator.read"),
    ("sessions.describe", "operator.read"),
    ("sessions.search", "operator.read"),
    ("sessions.subscribe", "operator.read"),
    ("sessions.messages.subscribe", "operator.read"),
    ("sessions.messages.unsubscribe", "operator.read"),
    ("sessions.create", "operator.write"),
    ("sessions.reset", "operator.admin"),
    ("sessions.delete", "operator.admin"),
    ("sessions.compact", "operator.admin"),
    ("sessions.cleanup", "operator.admin"),
    ("sessions.export", "operator.admin"),
    ("sessions.import", "operator.admin"),
    ("usage.status", "operator.read"),
    ("usage.cost", "operator.read"),
    ("chat.history", "operator.read"),
    ("chat.message.get", "operator.read"),
    ("last-heartbeat", "operator.read"),
    ("node.list", "operator.read"),
    ("voicewake.get", "operator.read"),
    ("voicewake.set", "operator.write"),
    ("node.describe", "operator.read"),
    ("node.invoke", "operator.write"),
    ("node.pending.enqueue", "operator.write"),
    ("node.pair.request", "operator.pairing"),
    ("node.pair.approve", "operator.pairing"),
    ("node.pair.reject", "operator.pairing"),
    ("node.pair.verify", "operator.pairing"),
    ("node.pair.remove", "operator.pairing"),
    ("node.rename", "operator.pairing"),
    ("cron.list", "operator.read"),
    ("cron.status", "operator.read"),
    ("cron.runs", "operator.read"),
    ("gateway.identity.get", "operator.read"),
    ("system-presence", "operator.read"),
    ("wake", "operator.write"),
    ("node.pair.list", "operator.pairing"),
    ("device.pair.list", "operator.pairing"),
    ("device.pair.approve", "operator.pairing"),
    ("device.pair.reject", "operator.pairing"),
    ("device.pair.remove", "operator.pairing"),
    ("device.token.rotate", "operator.pairing"),
    ("device.token.revoke", "operator.pairing"),
    ("tokens.create", "operator.pairing"),
    ("tokens.list", "operator.pairing"),
    ("tokens.revoke", "operator.pairing"),
    ("exec.approvals.get", "operator.admin"),
    ("exec.approvals.set", "operator.admin"),
    ("exec.approvals.node.get", "operator.admin"),
    ("exec.approvals.node.set", "operator.admin"),
    ("exec.approval.request", "operator.approvals"),
    ("exec.approval.waitDecision", "operator.approvals"),
    ("exec.approval.resolve", "operator.approvals"),
    ("exec.approval.get", "operator.approvals"),
    ("exec.approval.list", "operator.approvals"),
    ("approval.get", "operator.approvals"),
    ("approval.resolve", "operator.approvals"),
    ("approval.history", "operator.approvals"),
    ("set-heartbeats", "operator.admin"),
    ("cron.add", "operator.admin"),
    ("cron.cancel", "operator.admin"),
    ("cron.get", "operator.read"),
    ("cron.update", "operator.admin"),
    ("cron.remove", "operator.admin"),
    ("cron.run", "operator.admin"),
    ("system-event", "operator.admin"),
    ("agent", "operator.write"),
    ("agent.wait", "operator.write"),
    ("chat.send", "operator.write"),
    ("chat.abort", "operator.write"),
    ("agent.identity.get", "operator.read"),
    ("agents.files.list", "operator.read"),
    ("agents.files.get", "operator.read"),
    ("agents.files.set", "operator.admin"),
    ("agents.create", "operator.admin"),
    ("agents.update", "operator.admin"),
    ("agents.delete", "operator.admin"),
    ("tools.catalog", "operator.read"),
    ("skills.status", "operator.read"),
    ("skills.update", "operator.admin"),
    ("channels.status", "operator.read"),
    ("talk.config", "operator.read"),
    ("doctor.memory.status", "operator.read"),
    ("update.run", "operator.admin"),
    ("wizard.start", "operator.admin"),
    ("wizard.next", "operator.admin"),
    ("wizard.cancel", "operator.admin"),
    ("wizard.status", "operator.admin"),
    ("config.set", "operator.admin"),
    ("config.apply", "operator.admin"),
    ("config.patch", "operator.admin"),
    ("config.schema.lookup", "operator.read"),
    ("secrets.reload", "operator.admin"),
    ("secrets.resolve", "operator.admin"),
];

/// Where the dialects have it otherwise: wire 3, wire 4.
const DIFFERING: &[(&str, &str, &str)] = &[
    ("config.schema", "operator.admin", "operator.read"),
    ("talk.mode", "operator.write", "operator.talk"),
    ("sessions.patch", "operator.admin", "operator.write"),
];

/// What the node role alone may call, and is listed for operators too.
const OF_NODES: &[&str] = &[
    "skills.bins",
    "node.pending.drain",
    "node.pending.pull",
    "node.pending.ack",
    "node.invoke.result",
    "node.event",
];

/// Who may call what in one dialect.
fn table(protocol: u32) -> Vec<(&'static str, &'static str)> {
    let differing = DIFFERING
        .iter()
        .map(|(name, v3, v4)| (*name, if protocol == 3 { *v3 } else { *v4 }));
    TABLE.iter().copied().chain(differing).collect()
}

const SCOPES: [&str; 11] = [
    "operator.admin",
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.pairing",
    "operator.talk.secrets",
    "operator.questions",
    "operator.talk",
    "operator.sessions.read",
    "operator.sessions.write",
    "operator.frobnicate",
];

fn holds(held: &str, wanted: &str) -> bool {
    wanted == "any"
        || held == wanted
        || held == "operator.admin"
        || (held == "operator.write" && ["operator.read", "operator.talk"].contains(&wanted))
}

#[test]
fn the_hello_lists_exactly_what_the_table_knows() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let (_, hello) = gateway.welcome(&Connect::new(protocol).token(TOKEN));
        let mut listed = hello.methods();
        listed.sort();
        let mut known: Vec<&str> = table(protocol).iter().map(|(name, _)| *name).collect();
        known.extend(OF_NODES);
        known.sort_unstable();
        assert_eq!(listed, known, "wire {protocol}");
    }
}

#[test]
fn e61_every_scope_alone_opens_exactly_its_own_methods() {
    let gateway = gateway!();
    let mut probes = 0;
    for protocol in DIALECTS {
        for scope in SCOPES {
            let connect = Connect::new(protocol).token(TOKEN).scopes(&[scope]);
            let (mut client, hello) = gateway.welcome(&connect);
            assert_eq!(hello.session_scopes(), [scope], "wire {protocol}");
            for (method, wanted) in &table(protocol) {
                probes += 1;
                let refused = match client.try_call(method, &json!({})) {
                    Call::Error(error) => error
                        .message
                        .starts_with("missing scope: ")
                        .then_some(error),
                    Call::Ok(_) => None,
                    Call::Closed(close) => panic!("{method}: {close:?}"),
                };
                assert_eq!(
                    refused.is_none(),
                    holds(scope, wanted),
                    "wire {protocol}, {scope}, {method}: {refused:?}"
                );
                if let Some(error) = refused {
                    assert_eq!(
                        error.message,
                        format!("missing scope: {wanted}"),
                        "{method}"
                    );
                    let details = json!({
                        "code": "MISSING_SCOPE", "missingScope": wanted, "requiredScopes": [wanted],
                    });
                    if protocol == 3 {
                        assert_eq!(error.code, "INVALID_REQUEST");
                        assert!(error.raw.get("details").is_none(), "{error:?}");
                    } else {
                        assert_eq!(error.code, "FORBIDDEN");
                        assert_eq!(error.raw["details"], details);
                    }
                }
            }
        }
    }
    println!(
        "{probes} probes: {} methods, {} scopes, both dialects",
        table(4).len(),
        SCOPES.len()
    );
}

#[test]
fn e61_a_session_without_scopes_may_look_at_health_and_at_itself() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let (mut client, _) = gateway.welcome(&Connect::new(protocol).token(TOKEN).scopes(&[]));
        for (method, wanted) in &table(protocol) {
            match client.try_call(method, &json!({})) {
                Call::Ok(_) => assert_eq!(*wanted, "any", "wire {protocol}: {method}"),
                Call::Error(error) => {
                    assert_eq!(
                        error.message,
                        format!("missing scope: {wanted}"),
                        "{method}"
                    );
                }
                Call::Closed(close) => panic!("{method}: {close:?}"),
            }
        }
    }
}

#[test]
fn e61_a_node_may_call_nothing_of_an_operators() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        for (method, wanted) in &table(protocol) {
            let node = Connect::new(protocol)
                .token(TOKEN)
                .client("node-host", "node")
                .role("node")
                .scopes(&[])
                .device(&Device::new());
            let (mut client, _) = gateway.welcome(&node);
            match client.try_call(method, &json!({})) {
                Call::Ok(_) => assert_eq!(*wanted, "any", "wire {protocol}: {method}"),
                Call::Error(error) => {
                    assert_eq!(error.message, "unauthorized role: node", "{method}");
                    assert_eq!(error.code, "INVALID_REQUEST", "{method}");
                }
                Call::Closed(close) => panic!("{method}: {close:?}"),
            }
        }
    }
}

/// What the original of wire 3 advertises.
const ORIGINAL: &[&str] = &[
    "health",
    "doctor.memory.status",
    "logs.tail",
    "channels.status",
    "channels.logout",
    "status",
    "usage.status",
    "usage.cost",
    "tts.status",
    "tts.providers",
    "tts.enable",
    "tts.disable",
    "tts.convert",
    "tts.setProvider",
    "config.get",
    "config.set",
    "config.apply",
    "config.patch",
    "config.schema",
    "config.schema.lookup",
    "exec.approvals.get",
    "exec.approvals.set",
    "exec.approvals.node.get",
    "exec.approvals.node.set",
    "exec.approval.request",
    "exec.approval.waitDecision",
    "exec.approval.resolve",
    "wizard.start",
    "wizard.next",
    "wizard.cancel",
    "wizard.status",
    "talk.config",
    "talk.mode",
    "models.list",
    "tools.catalog",
    "agents.list",
    "agents.create",
    "agents.update",
    "agents.delete",
    "agents.files.list",
    "agents.files.get",
    "agents.files.set",
    "skills.status",
    "skills.bins",
    "skills.install",
    "skills.update",
    "update.run",
    "voicewake.get",
    "voicewake.set",
    "secrets.reload",
    "secrets.resolve",
    "sessions.list",
    "sessions.preview",
    "sessions.patch",
    "sessions.reset",
    "sessions.delete",
    "sessions.compact",
    "last-heartbeat",
    "set-heartbeats",
    "wake",
    "node.pair.request",
    "node.pair.list",
    "node.pair.approve",
    "node.pair.reject",
    "node.pair.verify",
    "device.pair.list",
    "device.pair.approve",
    "device.pair.reject",
    "device.pair.remove",
    "device.token.rotate",
    "device.token.revoke",
    "node.rename",
    "node.list",
    "node.describe",
    "node.pending.drain",
    "node.pending.enqueue",
    "node.invoke",
    "node.pending.pull",
    "node.pending.ack",
    "node.invoke.result",
    "node.event",
    "node.canvas.capability.refresh",
    "cron.list",
    "cron.status",
    "cron.add",
    "cron.cancel",
    "cron.get",
    "cron.update",
    "cron.remove",
    "cron.run",
    "cron.runs",
    "gateway.identity.get",
    "system-presence",
    "system-event",
    "send",
    "agent",
    "agent.identity.get",
    "agent.wait",
    "browser.request",
    "chat.history",
    "chat.abort",
    "chat.send",
];

#[test]
fn a_listed_method_is_known_and_an_unknown_one_is_not_listed() {
    let gateway = gateway!();
    let v3_node_only = [
        "node.invoke.result",
        "node.event",
        "node.pending.drain",
        "node.canvas.capability.refresh",
        "node.pending.pull",
        "node.pending.ack",
        "skills.bins",
    ];
    for protocol in DIALECTS {
        let node_only: Vec<&str> = v3_node_only
            .into_iter()
            .filter(|name| protocol == 3 || *name != "node.canvas.capability.refresh")
            .collect();
        let (mut client, hello) = gateway.welcome(&Connect::new(protocol).token(TOKEN));
        let listed = hello.methods();
        for method in ORIGINAL
            .iter()
            .copied()
            .chain(listed.iter().map(String::as_str))
        {
            let unknown = match client.try_call(method, &json!({})) {
                Call::Ok(_) => false,
                Call::Error(error) if node_only.contains(&method) => {
                    assert_eq!(error.message, "unauthorized role: operator", "{method}");
                    true
                }
                Call::Error(error) => error.message == format!("unknown method: {method}"),
                Call::Closed(close) => panic!("{method}: {close:?}"),
            };
            // What is refused because its service is not here is known, and not listed either.
            assert!(
                !unknown || node_only.contains(&method) || !listed.contains(&method.to_owned()),
                "wire {protocol}: {method}"
            );
        }
    }
}

#[test]
fn e26_both_signed_texts_are_taken_and_the_one_without_a_nonce_is_not() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        for form in [SignedForm::V3, SignedForm::V2] {
            let device = Device::new();
            let connect = Connect::new(protocol)
                .token(TOKEN)
                .device(&device)
                .form(form);
            let (_, hello) = gateway.welcome(&connect);
            assert!(hello.device_token().is_some(), "wire {protocol} {form:?}");
        }
        let oldest = Connect::new(protocol).token(TOKEN).device(&Device::new());
        let refusal = gateway.refusal(&oldest.form(SignedForm::V1));
        assert_eq!(refusal.code(), "DEVICE_AUTH_SIGNATURE_INVALID");
    }
}

#[test]
fn e27_a_proof_may_be_two_minutes_off_and_no_more() {
    let gateway = gateway!();
    let now = clawgate_testkit::now_ms;
    for off in [-115_000, 115_000] {
        gateway.welcome(
            &Connect::new(4)
                .token(TOKEN)
                .device(&Device::new())
                .clock_off_by(off),
        );
    }
    for at in [
        now() - 121_500,
        now() + 123_000,
        0,
        now() - 600_000,
        1_000_000_000_000_000_000,
    ] {
        let late = Connect::new(4)
            .token(TOKEN)
            .device(&Device::new())
            .signed_at(at);
        let refusal = gateway.refusal(&late);
        assert_eq!(
            refusal.close,
            Close::new(1008, "device signature expired"),
            "{at}"
        );
        let error = refusal.error.unwrap();
        assert_eq!(
            error.raw["details"],
            json!({"code": "DEVICE_AUTH_SIGNATURE_EXPIRED", "reason": "device-signature-stale"})
        );
    }
}

#[test]
fn e26_a_proof_is_bound_to_the_nonce_of_its_socket() {
    let gateway = gateway!();
    let other = gateway.client();
    let stolen = Connect::new(4)
        .token(TOKEN)
        .device(&Device::new())
        .nonce(other.nonce());
    let refusal = gateway.refusal(&stolen);
    assert_eq!(refusal.close, Close::new(1008, "device nonce mismatch"));
    assert_eq!(refusal.code(), "DEVICE_AUTH_NONCE_MISMATCH");
    let blank = Connect::new(4)
        .token(TOKEN)
        .device(&Device::new())
        .nonce("   ");
    let refusal = gateway.refusal(&blank);
    assert_eq!(refusal.close, Close::new(1008, "device nonce required"));
    assert_eq!(refusal.code(), "DEVICE_AUTH_NONCE_REQUIRED");
}

#[test]
fn e28_a_proof_covers_everything_that_matters() {
    type Tamper = fn(&mut Value);
    let tampers: &[(&str, Tamper)] = &[
        ("role", |p| p["role"] = "node".into()),
        ("scopes", |p| p["scopes"] = json!(["operator.read"])),
        ("scope order", |p| {
            p["scopes"] = json!(["operator.read", "operator.admin"]);
        }),
        ("token", |p| p["auth"]["token"] = "another".into()),
        ("client id", |p| p["client"]["id"] = "test".into()),
        ("client mode", |p| p["client"]["mode"] = "ui".into()),
        ("platform", |p| p["client"]["platform"] = "darwin".into()),
        ("device family", |p| {
            p["client"]["deviceFamily"] = "Mac".into();
        }),
        ("time", |p| {
            let at = p["device"]["signedAt"].as_i64().unwrap();
            p["device"]["signedAt"] = (at + 1).into();
        }),
        ("signature", |p| p["device"]["signature"] = "AAAA".into()),
        ("a signature that is no base64", |p| {
            p["device"]["signature"] = "*".into();
        }),
    ];
    let gateway = gateway!();
    for (what, tamper) in tampers {
        let connect = Connect::new(3)
            .token(TOKEN)
            .device(&Device::new())
            .scopes(&["operator.admin", "operator.read"])
            .edit(tamper);
        let refusal = gateway.refusal(&connect);
        assert_eq!(
            refusal.close,
            Close::new(1008, "device signature invalid"),
            "{what}"
        );
        assert_eq!(refusal.code(), "DEVICE_AUTH_SIGNATURE_INVALID", "{what}");
    }
    let password = Connect::new(3)
        .token(TOKEN)
        .auth("password", "x")
        .device(&Device::new());
    gateway.welcome(&password.edit(|p| p["auth"]["password"] = "y".into()));
}

#[test]
fn a_device_id_is_the_lower_case_hash_of_its_key() {
    let gateway = gateway!();
    let other = Device::new();
    let other_id = other.id();
    let other_key = other.public_key();
    let spoiled = [
        Connect::new(3).edit(|p| {
            let upper = p["device"]["id"].as_str().unwrap().to_uppercase();
            p["device"]["id"] = upper.into();
        }),
        Connect::new(3).edit(move |p| p["device"]["id"] = other_id.as_str().into()),
        Connect::new(3).edit(move |p| p["device"]["publicKey"] = other_key.as_str().into()),
        Connect::new(3).edit(|p| p["device"]["publicKey"] = "junk".into()),
        Connect::new(3).edit(|p| p["device"]["id"] = "x".into()),
    ];
    for connect in spoiled {
        let refusal = gateway.refusal(&connect.token(TOKEN).device(&Device::new()));
        assert_eq!(refusal.close, Close::new(1008, "device identity mismatch"));
        assert_eq!(
            refusal.error.unwrap().raw["details"],
            json!({"code": "DEVICE_AUTH_DEVICE_ID_MISMATCH", "reason": "device-id-mismatch"})
        );
    }
}

#[test]
fn a_bad_proof_is_told_before_a_bad_token_and_a_foreign_page_before_both() {
    let gateway = gateway!();
    let spoiled = || {
        Connect::new(4)
            .token("wrong")
            .device(&Device::new())
            .edit(|p| p["device"]["signature"] = "AAAA".into())
    };
    assert_eq!(
        gateway.refusal(&spoiled()).code(),
        "DEVICE_AUTH_SIGNATURE_INVALID"
    );
    let mut page = gateway.client_with(&[("Origin", "https://evil.example")]);
    let refusal = page.connect(&spoiled()).unwrap_err();
    assert_eq!(refusal.code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
    let mut page = gateway.client_with(&[("Origin", "https://evil.example")]);
    let refusal = page.connect(&spoiled().role("bogus")).unwrap_err();
    assert_eq!(
        refusal.close.reason, "invalid role",
        "the role comes before the origin"
    );
    let mut page = gateway.client_with(&[("Origin", "https://evil.example")]);
    let refusal = page
        .connect(&spoiled().role("bogus").range(9, 9))
        .unwrap_err();
    assert_eq!(
        refusal.close.code, 1002,
        "the protocol comes before the role"
    );
}

#[test]
fn what_a_client_says_after_a_refusal_is_not_read() {
    let gateway = gateway!();
    let mut client = gateway.client();
    client
        .socket
        .send_text(&frame(&Connect::new(4).token("wrong").params("", 0)).to_string());
    client.socket.send_text(&frame(&good(4)).to_string());
    assert_eq!(client.response()["ok"], false);
    assert_eq!(client.closed().code, 1008);
}
