//! After the hello: what each kind of message is answered, in both dialects, and what ends the
//! connection.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use clawgate_testkit::{
    Call, Client, Close, Connect, Device, Frame, Message, Opcode, TOKEN, gateway,
};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];
const MIB_25: usize = 26_214_400;

fn error_of(answer: &Value) -> (&Value, &str) {
    assert_eq!(answer["ok"], false, "{answer}");
    assert_eq!(answer["error"]["code"], "INVALID_REQUEST", "{answer}");
    (&answer["id"], answer["error"]["message"].as_str().unwrap())
}

fn lives(client: &mut Client) {
    assert_eq!(client.call("health", &json!({}))["ok"], true);
}

#[test]
fn e13_what_is_no_json_is_ignored() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for text in ["not json", "", "{", "{\"type\":\"req\"", "nul", "]"] {
            client.socket.send_text(text);
        }
        // The next response belongs to the next request: nothing was said before.
        let id = client.send("health", &json!({}));
        assert_eq!(client.response()["id"], id.as_str());
    }
}

#[test]
fn e13_json_that_is_no_request_is_described_and_the_connection_stays() {
    let gateway = gateway!();
    let cases: &[(&str, Value, &str, &str)] = &[
        ("null", json!("invalid"), "must be object", "must be object"),
        ("[]", json!("invalid"), "must be object", "must be object"),
        ("5", json!("invalid"), "must be object", "must be object"),
        (
            "{}",
            json!("invalid"),
            "must have required property 'type'; must have required property 'id'; \
             must have required property 'method'",
            "must have required property 'type'",
        ),
        (
            r#"{"type":"req","id":"","method":"health"}"#,
            json!(""),
            "at /id: must NOT have fewer than 1 characters",
            "at /id: must not have fewer than 1 characters",
        ),
        (
            r#"{"type":"req","id":5,"method":"health"}"#,
            json!(5),
            "at /id: must be string",
            "at /id: must be string",
        ),
        (
            r#"{"type":"req","id":{"a":1},"method":"health"}"#,
            json!("invalid"),
            "at /id: must be string",
            "at /id: must be string",
        ),
        (
            r#"{"type":"req","id":"a","method":""}"#,
            json!("a"),
            "at /method: must NOT have fewer than 1 characters",
            "at /method: must not have fewer than 1 characters",
        ),
        (
            r#"{"type":"req","id":"a"}"#,
            json!("a"),
            "must have required property 'method'",
            "must have required property 'method'",
        ),
        (
            r#"{"type":"event","id":"a","method":"x"}"#,
            json!("a"),
            "at /type: must be equal to constant",
            "at /type: must be equal to constant",
        ),
        (
            r#"{"type":"req","id":"a","method":"status","extra":1}"#,
            json!("a"),
            "at root: unexpected property 'extra'",
            "at root: unexpected property 'extra'",
        ),
    ];
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for (text, id, v3, v4) in cases {
            let answer = client.raw(text);
            let problems = if protocol == 3 { v3 } else { v4 };
            let message = format!("invalid request frame: {problems}");
            assert_eq!(
                error_of(&answer),
                (id, message.as_str()),
                "wire {protocol}: {text}"
            );
        }
        lives(&mut client);
    }
}

#[test]
fn e61_an_unknown_method_is_unknown_to_an_administrator_and_forbidden_to_others() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut admin = gateway.owner(protocol);
        let reader = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.read"]);
        let (mut reader, _) = gateway.welcome(&reader);
        for method in [
            "no.such.method",
            "HEALTH",
            "health ",
            "status\u{0}",
            "__proto__",
            "🦀",
        ] {
            let error = admin.refused(method, &json!({}));
            assert_eq!(error.code, "INVALID_REQUEST");
            assert_eq!(error.message, format!("unknown method: {method}"));
            let error = reader.refused(method, &json!({}));
            assert_eq!(error.message, "missing scope: operator.admin", "{method}");
        }
    }
}

#[test]
fn a_known_method_that_is_not_served_asks_for_its_own_scope_first() {
    let gateway = gateway!();
    for (protocol, method, scope) in [
        (4, "talk.catalog", "operator.read"),
        (4, "tts.speak", "operator.write"),
        (4, "talk.speak", "operator.talk"),
        (4, "question.list", "operator.questions"),
        (4, "device.pair.rename", "operator.pairing"),
        (3, "question.list", "operator.admin"),
        (4, "secrets.store.set", "operator.admin"),
    ] {
        let with = |scopes: &[&str]| {
            let connect = Connect::new(protocol).token(TOKEN).scopes(scopes);
            gateway.welcome(&connect).0
        };
        let error = with(&[]).refused(method, &json!({}));
        assert_eq!(
            error.message,
            format!("missing scope: {scope}"),
            "wire {protocol}: {method}"
        );
        let error = with(&[scope]).refused(method, &json!({}));
        assert_eq!(
            error.message,
            format!("unknown method: {method}"),
            "wire {protocol}"
        );
    }
}

#[test]
fn e18_a_second_connect_is_refused_and_changes_nothing() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let again = Connect::new(protocol).token(TOKEN).params("", 0);
        let mut admin = gateway.owner(protocol);
        let error = admin.refused("connect", &again);
        assert_eq!(error.message, "connect is only valid as the first request");
        let reader = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.read"]);
        let (mut reader, _) = gateway.welcome(&reader);
        let error = reader.refused("connect", &again);
        assert_eq!(error.message, "missing scope: operator.admin");
        let error = reader.refused("cron.add", &json!({}));
        assert_eq!(
            error.message, "missing scope: operator.admin",
            "no more than before"
        );
    }
}

#[test]
fn a_missing_scope_has_the_shape_of_the_dialect() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let pairing = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.pairing"]);
        let (mut client, _) = gateway.welcome(&pairing);
        let error = client.refused("status", &json!({}));
        let shape = if protocol == 3 {
            json!({"code": "INVALID_REQUEST", "message": "missing scope: operator.read"})
        } else {
            json!({
                "code": "FORBIDDEN", "message": "missing scope: operator.read",
                "details": {
                    "code": "MISSING_SCOPE", "missingScope": "operator.read",
                    "requiredScopes": ["operator.read"],
                },
            })
        };
        assert_eq!(error.raw, shape);
        lives(&mut client);
    }
}

#[test]
fn a_method_of_the_other_role_is_refused_by_role_even_to_administrators() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for method in [
            "node.event",
            "node.invoke.result",
            "node.pending.drain",
            "skills.bins",
        ] {
            let error = client.refused(method, &json!({}));
            let shape =
                json!({"code": "INVALID_REQUEST", "message": "unauthorized role: operator"});
            assert_eq!(error.raw, shape, "wire {protocol}: {method}");
        }
    }
}

#[test]
fn scope_is_looked_at_before_params() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let reader = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.read"]);
        let (mut reader, _) = gateway.welcome(&reader);
        let error = reader.refused("device.pair.approve", &json!({"bogus": 1}));
        assert_eq!(error.message, "missing scope: operator.pairing");
        let error = reader.refused("logs.tail", &json!({"bogus": 1}));
        assert_eq!(
            error.message,
            "invalid logs.tail params: at root: unexpected property 'bogus'"
        );
    }
}

#[test]
fn params_may_be_null_or_left_out() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for method in [
            "config.get",
            "device.pair.list",
            "status",
            "tokens.list",
            "logs.tail",
        ] {
            let absent = json!({"type": "req", "id": "a", "method": method});
            let null = json!({"type": "req", "id": "n", "method": method, "params": null});
            assert_eq!(client.raw(&absent.to_string())["ok"], true, "{method}");
            assert_eq!(client.raw(&null.to_string())["ok"], true, "{method}");
        }
        let absent = json!({"type": "req", "id": "a", "method": "device.pair.approve"});
        let answer = client.raw(&absent.to_string());
        assert_eq!(
            error_of(&answer).1,
            "invalid device.pair.approve params: must have required property 'requestId'"
        );
    }
}

#[test]
fn params_of_another_kind_are_refused() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for params in [json!([]), json!("x"), json!(5), json!(true)] {
            let error = client.refused("config.get", &params);
            assert_eq!(error.message, "invalid config.get params: must be object");
        }
        for (method, params) in [
            ("device.pair.remove", json!({"deviceId": 5})),
            ("device.pair.remove", json!({"deviceId": ""})),
            (
                "device.token.rotate",
                json!({"deviceId": "x", "role": "operator", "scopes": "all"}),
            ),
            ("tokens.create", json!({"name": "a", "scopes": []})),
            (
                "tokens.create",
                json!({"name": "a", "scopes": ["operator.read"], "expiresInMs": -1}),
            ),
            ("logs.tail", json!({"limit": 0})),
            ("logs.tail", json!({"limit": 1_000_000})),
            ("logs.tail", json!({"maxBytes": 1e300})),
            ("logs.tail", json!({"file": "/etc/passwd"})),
            (
                "device.pair.approve",
                json!({"requestId": "x", "approved": true}),
            ),
            ("device.pair.list", json!({"__proto__": {"x": 1}})),
            ("device.pair.list", json!({"constructor": 1})),
        ] {
            let error = client.refused(method, &params);
            assert_eq!(error.code, "INVALID_REQUEST");
            let start = format!("invalid {method} params: ");
            assert!(
                error.message.starts_with(&start),
                "{method} {params}: {}",
                error.message
            );
        }
    }
}

#[test]
fn e13_deep_nesting_is_refused_and_harms_nothing() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        client.socket.send_text(&deep);
        for method in ["config.get", "device.pair.list", "tokens.create"] {
            let text =
                format!(r#"{{"type":"req","id":"d","method":"{method}","params":{{"a":{deep}}}}}"#);
            let answer = client.raw(&text);
            assert_eq!(answer["id"], "d");
            assert!(
                error_of(&answer)
                    .1
                    .starts_with(&format!("invalid {method} params: "))
            );
        }
        lives(&mut client);
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_the_true_reason() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for (method, params, reason) in [
            (
                "wake",
                r#"{"mode":"now","text":"\ud800"}"#,
                "must not hold half of a surrogate pair",
            ),
            (
                "logs.tail",
                r#"{"limit":1e999}"#,
                "must not hold numbers beyond 1.8e308",
            ),
        ] {
            let answer = client.raw(&format!(
                r#"{{"type":"req","id":"u","method":"{method}","params":{params}}}"#
            ));
            assert_eq!(answer["id"], "u");
            let message = format!("invalid {method} params: {reason}");
            assert_eq!(error_of(&answer).1, message, "wire {protocol}");
        }
        let answer = client.raw(r#"{"type":"req","id":"\ud800","method":"health"}"#);
        assert_eq!(
            error_of(&answer),
            (
                &json!("invalid"),
                "invalid request frame: must not hold half of a surrogate pair"
            ),
            "wire {protocol}"
        );
        lives(&mut client);
    }
}

#[test]
fn e14_an_id_of_more_than_1024_characters_is_not_repeated() {
    let gateway = gateway!();
    for (protocol, not) in [(3, "NOT"), (4, "not")] {
        let mut client = gateway.owner(protocol);
        let request = |id: &str| json!({"type": "req", "id": id, "method": "health"}).to_string();
        let long = "i".repeat(1_024);
        assert_eq!(client.raw(&request(&long))["id"], long.as_str());
        let answer = client.raw(&request(&"i".repeat(1024 * 1024)));
        let message =
            format!("invalid request frame: at /id: must {not} have more than 1024 characters");
        assert_eq!(error_of(&answer), (&json!("invalid"), message.as_str()));
    }
}

#[test]
fn a_call_on_behalf_of_a_profile_is_refused_on_wire_4() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let answer = client.raw(
        &json!({"type": "req", "id": "p", "method": "health", "expectedProfileId": "p-1"})
            .to_string(),
    );
    assert_eq!(answer["error"]["code"], "INVALID_REQUEST");
    assert_eq!(
        answer["error"]["details"],
        json!({"reason": "EXPECTED_PROFILE_MISMATCH", "execution": "not_started"})
    );
    lives(&mut client);
}

#[test]
fn e14_ids_may_repeat_and_are_given_back_as_they_came() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for id in ["same", "same", "\u{1f980} \"q\" \\ \n", "0", "invalid"] {
            let request = json!({"type": "req", "id": id, "method": "health"});
            assert_eq!(client.raw(&request.to_string())["id"], id);
        }
        // Both in flight at once.
        let request = json!({"type": "req", "id": "twin", "method": "device.pair.list"});
        client.socket.send_text(&request.to_string());
        client.socket.send_text(&request.to_string());
        assert_eq!(client.response()["id"], "twin");
        assert_eq!(client.response()["id"], "twin");
        lives(&mut client);
    }
}

#[test]
fn a_pipeline_of_requests_is_answered_completely() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        let methods = [
            "device.pair.list",
            "health",
            "set-heartbeats",
            "status",
            "config.get",
        ];
        let ids: Vec<String> = (0..500)
            .map(|n| client.send(methods[n % methods.len()], &json!({"enabled": false})))
            .collect();
        // Asked for in the opposite order, so that an answer that is lost or doubled shows.
        for id in ids.iter().rev() {
            assert!(!matches!(client.answer(id), Call::Closed(_)));
        }
        lives(&mut client);
    }
}

#[test]
fn a_quick_answer_overtakes_a_slow_one() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let mut overtook = false;
    for round in 0..50 {
        let name = format!("slow-{round}");
        let slow = client.send(
            "tokens.create",
            &json!({"name": name, "scopes": ["operator.read"]}),
        );
        let quick = client.send("health", &json!({}));
        let first = client.response();
        overtook |= first["id"] == quick.as_str();
        let second = client.response();
        let mut both = [
            first["id"].as_str().unwrap(),
            second["id"].as_str().unwrap(),
        ];
        both.sort_unstable();
        let mut sent = [slow.as_str(), quick.as_str()];
        sent.sort_unstable();
        assert_eq!(both, sent);
    }
    assert!(
        overtook,
        "a call that writes to disk held up every call behind it"
    );
}

#[test]
fn e07_binary_and_fragmented_messages_are_messages_too() {
    let gateway = gateway!();
    let request = json!({"type": "req", "id": "b", "method": "health"}).to_string();
    for protocol in DIALECTS {
        let mut client = gateway.client();
        let hello = json!({
            "type": "req", "id": "c", "method": "connect",
            "params": Connect::new(protocol).token(TOKEN).params("", 0),
        });
        client
            .socket
            .send(&Frame::new(Opcode::Binary, hello.to_string()));
        assert_eq!(client.response()["ok"], true, "a binary connect");
        client
            .socket
            .send(&Frame::new(Opcode::Binary, request.as_str()));
        assert_eq!(client.response()["ok"], true);
        for byte in request.as_bytes().chunks(1).enumerate() {
            let opcode = if byte.0 == 0 {
                Opcode::Text
            } else {
                Opcode::Continuation
            };
            client.socket.send(&Frame::new(opcode, byte.1).more());
            // Control frames may stand between fragments.
            if byte.0 == 3 {
                client.socket.send(&Frame::new(Opcode::Ping, "between"));
            }
        }
        client.socket.send(&Frame::new(Opcode::Continuation, ""));
        assert_eq!(client.response()["ok"], true);
        client
            .socket
            .send(&Frame::new(Opcode::Binary, [0xff, 0xfe, 0x00]));
        lives(&mut client);
    }
}

#[test]
fn a_character_may_be_split_between_fragments() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let request = json!({"type": "req", "id": "crab 🦀", "method": "health"}).to_string();
    let middle = request.find('🦀').unwrap() + 2;
    let (a, b) = request.as_bytes().split_at(middle);
    client.socket.send(&Frame::new(Opcode::Text, a).more());
    client.socket.send(&Frame::new(Opcode::Continuation, b));
    assert_eq!(client.response()["id"], "crab 🦀");
}

#[test]
fn e06_text_that_is_not_utf8_closes_1007() {
    let gateway = gateway!();
    let broken = b"{\"a\":\"\xff\"}";
    for connected in [false, true] {
        let open = || {
            if connected {
                gateway.owner(3)
            } else {
                gateway.client()
            }
        };
        let mut whole = open();
        whole.socket.send(&Frame::new(Opcode::Text, broken));
        assert_eq!(whole.closed().code, 1007, "connected: {connected}");
        let mut split = open();
        split
            .socket
            .send(&Frame::new(Opcode::Text, b"ok \xf0\x9f").more());
        split
            .socket
            .send(&Frame::new(Opcode::Continuation, b"nope"));
        assert_eq!(split.closed().code, 1007, "connected: {connected}");
    }
}

/// Each of these closes 1002, before a connect and after it.
fn broken(cases: &[(&str, Vec<Frame>)]) {
    let gateway = gateway!();
    for connected in [false, true] {
        for (what, frames) in cases {
            let mut client = if connected {
                gateway.owner(4)
            } else {
                gateway.client()
            };
            for frame in frames {
                client.socket.send(frame);
            }
            assert_eq!(client.closed().code, 1002, "{what}, connected: {connected}");
        }
    }
    lives(&mut gateway.owner(3));
}

#[test]
fn e03_a_frame_without_a_mask_closes_1002() {
    broken(&[("unmasked", vec![Frame::new(Opcode::Text, "{}").unmasked()])]);
}

#[test]
fn e04_reserved_bits_and_opcodes_close_1002() {
    let bits = |bits| vec![Frame::new(Opcode::Text, "{}").reserved(bits)];
    broken(&[
        ("the first reserved bit", bits(4)),
        ("the second", bits(2)),
        ("the third", bits(1)),
        ("opcode 3", vec![Frame::new(Opcode::Other(3), "x")]),
        ("opcode 11", vec![Frame::new(Opcode::Other(11), "x")]),
    ]);
}

#[test]
fn e05_control_frames_that_are_none_close_1002() {
    let close = |code: u16| Frame::new(Opcode::Close, code.to_be_bytes());
    broken(&[
        (
            "a ping of 126 bytes",
            vec![Frame::new(Opcode::Ping, vec![0; 126])],
        ),
        (
            "a fragmented ping",
            vec![Frame::new(Opcode::Ping, "x").more()],
        ),
        ("a close of one byte", vec![Frame::new(Opcode::Close, "x")]),
        ("close code 999", vec![close(999)]),
        ("close code 1005", vec![close(1005)]),
    ]);
}

#[test]
fn fragments_out_of_their_order_close_1002() {
    broken(&[
        (
            "a continuation of nothing",
            vec![Frame::new(Opcode::Continuation, "x")],
        ),
        (
            "a message inside a message",
            vec![
                Frame::new(Opcode::Text, "x").more(),
                Frame::new(Opcode::Text, "y"),
            ],
        ),
    ]);
}

#[test]
fn a_ping_is_answered_with_its_own_payload() {
    let gateway = gateway!();
    for connected in [false, true] {
        let mut client = if connected {
            gateway.owner(3)
        } else {
            gateway.client()
        };
        for payload in ["", "x", &"y".repeat(125)] {
            client.socket.send(&Frame::new(Opcode::Ping, payload));
            assert_eq!(
                client.socket.read(),
                Message::Pong(payload.as_bytes().to_vec())
            );
        }
    }
}

#[test]
fn e08_a_flood_of_pings_leaves_others_served() {
    let gateway = gateway!();
    let mut flood = gateway.owner(4);
    let mut writer = flood.socket.writer();
    let pings = Frame::new(Opcode::Ping, "flood").bytes().repeat(1_000);
    let over = Arc::new(AtomicBool::new(false));
    let writing = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut sent: u32 = 0;
            while !over.load(Ordering::Acquire) && writer.write_all(&pings).is_ok() {
                sent += 1_000;
            }
            let _ = writer.shutdown(std::net::Shutdown::Write);
            sent
        }
    });
    // The pongs are read, so that nothing holds the flood back.
    let reading = std::thread::spawn(move || {
        let mut pongs: u32 = 0;
        loop {
            match flood.socket.read() {
                Message::Pong(_) => pongs += 1,
                Message::Closed(_) => return pongs,
                _ => {}
            }
        }
    });
    let mut other = gateway.owner(3);
    let began = Instant::now();
    for _ in 0..200 {
        lives(&mut other);
    }
    let took = began.elapsed();
    over.store(true, Ordering::Release);
    let (sent, pongs) = (writing.join().unwrap(), reading.join().unwrap());
    let a_second = |count: u32| f64::from(count) / took.as_secs_f64();
    println!(
        "{:.0} pings a second, {pongs} pongs, others {:.0} answers a second",
        a_second(sent),
        a_second(200)
    );
    assert!(sent > 1_000, "it is a flood");
    assert!(pongs <= sent, "no more is said than was asked");
    assert!(a_second(200) > 20.0, "200 answers took {took:?}");
    lives(&mut other);
}

#[test]
fn a_close_is_answered_with_the_same_code() {
    let gateway = gateway!();
    for code in [1000_u16, 1001, 1008, 3000, 4000] {
        let mut client = gateway.owner(4);
        client
            .socket
            .send(&Frame::new(Opcode::Close, code.to_be_bytes()));
        assert_eq!(client.closed().code, code);
    }
    let mut client = gateway.owner(4);
    client.socket.send(&Frame::new(Opcode::Close, ""));
    assert_eq!(client.closed().code, 1005);
}

#[test]
fn e12_a_message_of_25_mib_is_taken_and_one_byte_more_closes_1009() {
    let gateway = gateway!();
    let request = |bytes: usize| {
        let bare = json!({"type": "req", "id": "", "method": "no.such.method", "params": ""});
        let room = bytes - bare.to_string().len() - 1;
        json!({"type": "req", "id": "1", "method": "no.such.method", "params": "a".repeat(room)})
            .to_string()
    };
    let mut client = gateway.owner(3);
    let fits = request(MIB_25);
    assert_eq!(fits.len(), MIB_25);
    assert_eq!(
        error_of(&client.raw(&fits)).1,
        "unknown method: no.such.method"
    );
    let mut other = gateway.owner(4);
    client.socket.send_text(&request(MIB_25 + 1));
    assert_eq!(client.closed(), Close::new(1009, ""));
    lives(&mut other);
    // At the header already, and when fragments add up.
    other
        .socket
        .send(&Frame::new(Opcode::Text, "x").announcing(1 << 50));
    assert_eq!(other.closed(), Close::new(1009, ""));
    let mut third = gateway.owner(4);
    let part = vec![b'a'; MIB_25 / 2];
    third
        .socket
        .send(&Frame::new(Opcode::Text, part.clone()).more());
    third
        .socket
        .send(&Frame::new(Opcode::Continuation, part).more());
    third.socket.send(&Frame::new(Opcode::Continuation, "aa"));
    assert_eq!(third.closed(), Close::new(1009, ""));
}

#[test]
fn e17_the_eleventh_role_error_in_a_row_is_answered_and_closes() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for _ in 0..11 {
            let error = client.refused("node.event", &json!({}));
            assert_eq!(error.message, "unauthorized role: operator");
        }
        assert_eq!(
            client.closed(),
            Close::new(1008, "repeated unauthorized calls")
        );

        let node = Connect::new(protocol)
            .token(TOKEN)
            .client("node-host", "node")
            .role("node");
        let (mut node, _) = gateway.welcome(&node.scopes(&[]).device(&Device::new()));
        for _ in 0..11 {
            let error = node.refused("status", &json!({}));
            assert_eq!(error.message, "unauthorized role: node");
        }
        assert_eq!(
            node.closed(),
            Close::new(1008, "repeated unauthorized calls")
        );
    }
}

#[test]
fn any_other_outcome_ends_a_run_of_role_errors() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let reader = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.read"]);
        for (breaker, ok) in [
            ("health", true),
            ("no.such.method", false),
            ("cron.add", false),
        ] {
            let (mut client, _) = gateway.welcome(&reader);
            for _ in 0..10 {
                client.refused("node.event", &json!({}));
            }
            let outcome = client.try_call(breaker, &json!({}));
            assert_eq!(matches!(outcome, Call::Ok(_)), ok, "{outcome:?}");
            for _ in 0..10 {
                client.refused("node.event", &json!({}));
            }
            lives(&mut client);
        }
    }
}

#[test]
fn trace_headers_are_a_property_of_wire_4() {
    let gateway = gateway!();
    let request = json!({
        "type": "req", "id": "t", "method": "health", "traceparent": "not a trace at all",
    });
    assert_eq!(
        gateway.owner(4).raw(&request.to_string())["ok"],
        true,
        "bad syntax is ignored"
    );
    let mut old = gateway.owner(3);
    let answer = old.raw(&request.to_string());
    assert_eq!(
        error_of(&answer).1,
        "invalid request frame: at root: unexpected property 'traceparent'"
    );
    let long = json!({
        "type": "req", "id": "t", "method": "health", "traceparent": "x".repeat(129),
    });
    let mut new = gateway.owner(4);
    let answer = new.raw(&long.to_string());
    assert_eq!(
        error_of(&answer).1,
        "invalid request frame: at /traceparent: must not have more than 128 characters"
    );
}

#[test]
fn a_peer_that_vanishes_in_the_middle_of_a_frame_leaves_others_alone() {
    let gateway = gateway!();
    let mut other = gateway.owner(4);
    for _ in 0..20 {
        let mut client = gateway.owner(3);
        let half = &Frame::new(Opcode::Text, "x".repeat(5_000)).bytes()[..2_000];
        client.socket.send_bytes(half).unwrap();
        client.socket.shut();
        drop(client);
        lives(&mut other);
    }
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_others_are_served() {
    let gateway = gateway!();
    let lazy = gateway.owner(3);
    let mut writer = lazy.socket.writer();
    let request = json!({"type": "req", "id": "1", "method": "config.get"}).to_string();
    let many = Frame::new(Opcode::Text, request).bytes().repeat(600_000);
    let writing = std::thread::spawn(move || {
        let _ = writer.set_write_timeout(Some(std::time::Duration::from_secs(1)));
        writer.write_all(&many).is_err()
    });
    let mut other = gateway.owner(4);
    for _ in 0..20 {
        lives(&mut other);
    }
    assert!(
        writing.join().unwrap(),
        "600,000 requests were taken of a client that reads nothing"
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    assert!(resident < 100_000, "{resident} kB");
}
