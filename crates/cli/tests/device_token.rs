//! Device tokens: where they are taken, how they are replaced, and that they end at once when
//! somebody ends them.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use clawgate_testkit::{
    Call, Client, Close, Connect, Device, Hello, Refusal, TOKEN, TestGateway, gateway,
};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];
const READ: &[&str] = &["operator.read"];
const READ_AND_PAIRING: &[&str] = &["operator.read", "operator.pairing"];

/// A device that is paired from elsewhere, and its token.
struct Paired {
    device: Device,
    scopes: &'static [&'static str],
    token: String,
}

impl Paired {
    #[track_caller]
    fn new(gateway: &TestGateway, scopes: &'static [&'static str]) -> Self {
        let device = Device::new();
        let connect = Connect::new(4).token(TOKEN).device(&device).scopes(scopes);
        let refusal = gateway
            .from_afar(&connect)
            .map(|(_, hello)| hello)
            .unwrap_err();
        let id = refusal.error.unwrap().detail("requestId").clone();
        gateway
            .owner(4)
            .call("device.pair.approve", &json!({"requestId": id}));
        let (_, hello) = gateway.from_afar(&connect).unwrap();
        let token = hello.device_token().unwrap().to_owned();
        Self {
            device,
            scopes,
            token,
        }
    }

    fn connect(&self, protocol: u32) -> Connect {
        Connect::new(protocol)
            .device(&self.device)
            .scopes(self.scopes)
    }

    fn with_token(&self, gateway: &TestGateway, token: &str) -> Result<(Client, Hello), Refusal> {
        gateway.from_afar(&self.connect(4).auth("deviceToken", token))
    }

    fn id(&self) -> Value {
        json!({"deviceId": self.device.id(), "role": "operator"})
    }
}

#[test]
fn a_token_is_taken_in_either_field_and_beside_a_wrong_secret() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ);
    let token = paired.token.as_str();
    for protocol in DIALECTS {
        for connect in [
            paired.connect(protocol).auth("token", token),
            paired.connect(protocol).auth("deviceToken", token),
            paired
                .connect(protocol)
                .auth("token", token)
                .auth("deviceToken", token),
            paired
                .connect(protocol)
                .auth("token", "wrong")
                .auth("deviceToken", token),
            paired
                .connect(protocol)
                .token(TOKEN)
                .auth("deviceToken", "wrong"),
            paired
                .connect(protocol)
                .auth("token", token)
                .client("test", "test"),
        ] {
            let (mut client, hello) = gateway.from_afar(&connect).unwrap();
            assert_eq!(hello.session_scopes(), READ);
            assert_eq!(hello.device_token(), Some(token));
            client.call("status", &json!({}));
        }
    }
}

#[test]
fn a_token_is_of_no_use_without_its_device() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ);
    let token = paired.token.as_str();
    for protocol in DIALECTS {
        let bare = Connect::new(protocol).scopes(READ);
        let refusal = gateway
            .from_afar(&bare.auth("deviceToken", token))
            .unwrap_err();
        assert_eq!(refusal.code(), "DEVICE_IDENTITY_REQUIRED");
        let bare = Connect::new(protocol).scopes(READ);
        let refusal = gateway.from_afar(&bare.auth("token", token)).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
        let thief = Connect::new(protocol).device(&Device::new()).scopes(READ);
        let refusal = gateway
            .from_afar(&thief.auth("deviceToken", token))
            .unwrap_err();
        assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
        assert_eq!(
            refusal.close,
            Close::new(
                1008,
                "unauthorized: device token mismatch (rotate/reissue device token)"
            )
        );
        let other = Paired::new(&gateway, READ);
        let refusal = other.with_token(&gateway, token).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
    }
}

#[test]
fn a_token_is_for_its_role_alone() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ);
    let as_node = || paired.connect(4).role("node").scopes(&[]);
    let refusal = gateway
        .from_afar(&as_node().auth("deviceToken", &paired.token))
        .unwrap_err();
    assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
    let refusal = gateway
        .from_afar(&as_node().auth("token", &paired.token))
        .unwrap_err();
    assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
}

#[test]
fn a_token_carries_no_more_than_was_approved() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ);
    for protocol in DIALECTS {
        let wider = Connect::new(protocol)
            .device(&paired.device)
            .scopes(&["operator.admin", "operator.read"])
            .auth("deviceToken", &paired.token);
        let (_, hello) = gateway.from_afar(&wider).unwrap();
        assert_eq!(hello.session_scopes(), READ);
        // Not even on this machine, where the shared secret would do it silently.
        let (_, hello) = gateway.welcome(&wider);
        assert_eq!(hello.session_scopes(), READ);
    }
}

#[test]
fn no_token_lies_in_the_state_directory() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ);
    assert_eq!(
        gateway.home().state_files_with(&paired.token),
        Vec::<std::path::PathBuf>::new()
    );
    assert!(!gateway.stderr().contains(&paired.token));
}

#[test]
fn rotation_by_another_ends_the_old_token_at_once() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let paired = Paired::new(&gateway, READ);
        let answer = gateway
            .owner(protocol)
            .call("device.token.rotate", &paired.id());
        assert_eq!(answer["deviceId"], paired.device.id());
        assert_eq!(answer["role"], "operator");
        assert_eq!(answer["scopes"], json!(READ));
        assert!(answer["rotatedAtMs"].is_i64());
        let refusal = paired.with_token(&gateway, &paired.token).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
        // The device gets the new one with its next good connect.
        let (_, hello) = gateway
            .from_afar(&paired.connect(protocol).token(TOKEN))
            .unwrap();
        let new = hello.device_token().unwrap().to_owned();
        assert_ne!(new, paired.token);
        paired.with_token(&gateway, &new).unwrap();
        if protocol == 3 {
            assert_eq!(answer["token"], new.as_str());
        } else {
            assert!(answer.get("token").is_none(), "{answer}");
            assert_eq!(answer["tokenDelivery"], "withheld-cross-device");
        }
    }
}

/// The act of an owner, and what closes the sockets of the device.
type Act = (&'static str, fn(&Paired) -> Value, &'static str);

const ACTS: [Act; 3] = [
    ("device.token.rotate", Paired::id, "gateway auth changed"),
    ("device.token.revoke", Paired::id, "gateway auth changed"),
    (
        "device.pair.remove",
        |paired| json!({"deviceId": paired.device.id()}),
        "device removed",
    ),
];

#[test]
fn e53_sessions_are_over_before_the_call_that_ends_them_is_answered() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        for (method, params, reason) in ACTS {
            let paired = Paired::new(&gateway, READ);
            let by_token = paired.connect(protocol).auth("deviceToken", &paired.token);
            let (mut first, _) = gateway.from_afar(&by_token).unwrap();
            let (mut second, _) = gateway.from_afar(&paired.connect(4).token(TOKEN)).unwrap();
            let bystander = Paired::new(&gateway, READ);
            let (mut other, _) = bystander.with_token(&gateway, &bystander.token).unwrap();
            gateway.owner(protocol).call(method, &params(&paired));
            // Answered. From here on nothing that the device says counts.
            for client in [&mut first, &mut second] {
                let outcome = client.try_call("status", &json!({}));
                assert_eq!(outcome, Call::Closed(Close::new(4001, reason)), "{method}");
            }
            other.call("status", &json!({}));
        }
    }
}

#[test]
fn calls_that_were_sent_before_the_end_are_answered_or_closed_and_nothing_else() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ);
    let (mut client, _) = paired.with_token(&gateway, &paired.token).unwrap();
    let ids: Vec<String> = (0..200)
        .map(|_| client.send("status", &json!({})))
        .collect();
    gateway.owner(4).call("device.token.revoke", &paired.id());
    for id in &ids {
        match client.answer(id) {
            Call::Ok(_) => {}
            Call::Closed(close) => assert_eq!(close, Close::new(4001, "gateway auth changed")),
            Call::Error(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(client.closed().code, 4001);
}

#[test]
fn a_device_that_rotates_its_own_token_is_not_locked_out_by_a_lost_answer() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let paired = Paired::new(&gateway, READ_AND_PAIRING);
        let by_token = paired.connect(protocol).auth("deviceToken", &paired.token);
        let (mut client, _) = gateway.from_afar(&by_token).unwrap();
        let answer = client.call("device.token.rotate", &paired.id());
        let new = answer["token"].as_str().unwrap().to_owned();
        assert_ne!(new, paired.token);
        if protocol == 4 {
            assert_eq!(answer["tokenDelivery"], "in-band");
        }
        // Its own session goes on, and until the new one is used the old one does.
        client.call("status", &json!({}));
        paired.with_token(&gateway, &paired.token).unwrap();
        paired.with_token(&gateway, &paired.token).unwrap();
        paired.with_token(&gateway, &new).unwrap();
        let refusal = paired.with_token(&gateway, &paired.token).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
        paired.with_token(&gateway, &new).unwrap();
    }
}

#[test]
fn the_old_token_of_an_own_rotation_does_not_outlive_a_revocation() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ_AND_PAIRING);
    let (mut client, _) = paired.with_token(&gateway, &paired.token).unwrap();
    let answer = client.call("device.token.rotate", &paired.id());
    let new = answer["token"].as_str().unwrap().to_owned();
    gateway.owner(4).call("device.token.revoke", &paired.id());
    for token in [&paired.token, &new] {
        let refusal = paired.with_token(&gateway, token).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
    }
}

/// Two answers in a row may be lost. What was last used lives until a successor is used.
#[test]
fn a_second_own_rotation_keeps_the_token_that_was_last_used() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ_AND_PAIRING);
    let (mut client, _) = paired.with_token(&gateway, &paired.token).unwrap();
    let rotate = |client: &mut Client| {
        let answer = client.call("device.token.rotate", &paired.id());
        answer["token"].as_str().unwrap().to_owned()
    };
    let second = rotate(&mut client);
    let third = rotate(&mut client);
    paired.with_token(&gateway, &paired.token).unwrap();
    let refusal = paired.with_token(&gateway, &second).unwrap_err();
    assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
    paired.with_token(&gateway, &third).unwrap();
    let refusal = paired.with_token(&gateway, &paired.token).unwrap_err();
    assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
    // The third was used: now it is the one to be kept.
    let fourth = rotate(&mut client);
    paired.with_token(&gateway, &third).unwrap();
    paired.with_token(&gateway, &fourth).unwrap();
    paired.with_token(&gateway, &third).unwrap_err();
}

#[test]
fn a_device_that_narrows_its_own_token_has_no_wider_session_left() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let paired = Paired::new(&gateway, READ_AND_PAIRING);
        let by_token = || paired.connect(protocol).auth("deviceToken", &paired.token);
        let (mut client, _) = gateway.from_afar(&by_token()).unwrap();
        let (mut twin, _) = gateway.from_afar(&by_token()).unwrap();
        let (mut reader, _) = gateway.from_afar(&by_token().scopes(READ)).unwrap();
        let mut narrower = paired.id();
        narrower["scopes"] = json!(READ);
        let answer = client.call("device.token.rotate", &narrower);
        assert_eq!(answer["scopes"], json!(READ));
        let over = Close::new(4001, "gateway auth changed");
        assert_eq!(
            twin.try_call("device.pair.list", &json!({})),
            Call::Closed(over.clone())
        );
        assert_eq!(client.closed(), over, "after its answer");
        reader.call("status", &json!({}));
        let (_, hello) = paired
            .with_token(&gateway, answer["token"].as_str().unwrap())
            .unwrap();
        assert_eq!(hello.session_scopes(), READ);
    }
}

#[test]
fn e52_a_rotation_may_narrow_and_never_widens() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let paired = Paired::new(&gateway, READ_AND_PAIRING);
        let mut owner = gateway.owner(protocol);
        let mut wider = paired.id();
        wider["scopes"] = json!(["operator.admin"]);
        let error = owner.refused("device.token.rotate", &wider);
        assert_eq!(error.message, unknown(protocol, "rotation"));
        paired.with_token(&gateway, &paired.token).unwrap();
        let mut narrower = paired.id();
        narrower["scopes"] = json!(READ);
        assert_eq!(
            owner.call("device.token.rotate", &narrower)["scopes"],
            json!(READ)
        );
        let connect = paired.connect(protocol).scopes(READ).token(TOKEN);
        let (_, hello) = gateway.from_afar(&connect).unwrap();
        let token = hello.device_token().unwrap().to_owned();
        let (_, hello) = paired.with_token(&gateway, &token).unwrap();
        assert_eq!(
            hello.session_scopes(),
            READ,
            "the token alone carries what it was made with"
        );
    }
}

#[test]
fn nobody_replaces_or_takes_away_authority_that_they_lack() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let target = Paired::new(&gateway, &["operator.admin"]);
        let deciding = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.pairing"]);
        let (mut deciding, _) = gateway.welcome(&deciding);
        for (method, act) in [
            ("device.token.rotate", "rotation"),
            ("device.token.revoke", "revocation"),
        ] {
            let error = deciding.refused(method, &target.id());
            let message = match protocol {
                3 => "missing scope: operator.admin".to_owned(),
                _ => unknown(protocol, act),
            };
            assert_eq!(error.message, message);
        }
        let whole = json!({"deviceId": target.device.id()});
        let named = json!({"name": format!("deciding-{protocol}"), "scopes": ["operator.pairing"]});
        let token = gateway.owner(protocol).call("tokens.create", &named)["token"].clone();
        let automation = Connect::new(protocol)
            .token(token.as_str().unwrap())
            .scopes(&["operator.pairing"]);
        let (mut automation, _) = gateway.welcome(&automation);
        let error = automation.refused("device.pair.remove", &whole);
        assert_eq!(error.message, "missing scope: operator.admin");
        target.with_token(&gateway, &target.token).unwrap();
    }
}

/// As the command line of wire 4 does it, which asks for no more than the method names.
#[test]
fn who_holds_the_secret_on_this_machine_removes_any_device_with_the_pairing_scope() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let target = Paired::new(&gateway, &["operator.admin"]);
        let thrifty = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.pairing"]);
        let (mut thrifty, _) = gateway.welcome(&thrifty);
        let whole = json!({"deviceId": target.device.id()});
        assert_eq!(thrifty.call("device.pair.remove", &whole), whole);
        target.with_token(&gateway, &target.token).unwrap_err();
    }
}

/// Wire 4 has one word for all that is refused, so that nothing can be probed.
fn unknown(protocol: u32, act: &str) -> String {
    match protocol {
        3 => "unknown deviceId/role".to_owned(),
        _ => format!("device token {act} denied"),
    }
}

#[test]
fn e52_unknown_devices_and_roles_are_unknown() {
    let gateway = gateway!();
    let paired = Paired::new(&gateway, READ);
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        for (method, act) in [
            ("device.token.rotate", "rotation"),
            ("device.token.revoke", "revocation"),
        ] {
            for params in [
                json!({"deviceId": "no-such-device", "role": "operator"}),
                json!({"deviceId": paired.device.id(), "role": "node"}),
                json!({"deviceId": paired.device.id(), "role": "root"}),
            ] {
                let error = owner.refused(method, &params);
                assert_eq!(error.code, "INVALID_REQUEST");
                assert_eq!(error.message, unknown(protocol, act), "{method} {params}");
                assert!(error.raw.get("details").is_none(), "{error:?}");
            }
        }
    }
    paired.with_token(&gateway, &paired.token).unwrap();
}

#[test]
fn e53_a_revoked_device_is_never_paired_silently_again() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let paired = Paired::new(&gateway, READ);
        let mut owner = gateway.owner(protocol);
        let answer = owner.call("device.token.revoke", &paired.id());
        assert!(answer["revokedAtMs"].is_i64(), "{answer}");
        let refusal = paired.with_token(&gateway, &paired.token).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
        // From elsewhere it must ask.
        let shared = || paired.connect(protocol).token(TOKEN);
        let refusal = gateway.from_afar(&shared()).unwrap_err();
        assert_eq!(refusal.code(), "PAIRING_REQUIRED");
        let request = refusal.error.unwrap().detail("requestId").clone();
        // Here it gets what the secret alone would get, and no token.
        let (mut client, hello) = gateway.welcome(&shared());
        assert_eq!(hello.session_scopes(), READ);
        assert_eq!(hello.device_token(), None);
        client.call("status", &json!({}));
        // A page of this gateway's own gets nothing at all.
        let origin = format!("http://127.0.0.1:{}", gateway.address().port());
        let mut page = gateway.client_with(&[("Origin", &origin)]);
        let refusal = page
            .connect(&shared().client("openclaw-control-ui", "ui"))
            .unwrap_err();
        assert_eq!(refusal.code(), "PAIRING_REQUIRED");
        let list = owner.call("device.pair.list", &json!({}));
        let record = list["paired"].as_array().unwrap();
        let record = record
            .iter()
            .find(|d| d["deviceId"] == paired.device.id())
            .unwrap();
        assert!(
            record["tokens"][0]["revokedAtMs"].is_i64(),
            "still revoked: {record}"
        );
        // A person may approve it again.
        owner.call("device.pair.approve", &json!({"requestId": request}));
        let (_, hello) = gateway.from_afar(&shared()).unwrap();
        let new = hello.device_token().unwrap();
        assert_ne!(new, paired.token);
        paired.with_token(&gateway, new).unwrap();
        paired.with_token(&gateway, &paired.token).unwrap_err();
    }
}

#[test]
fn a_revocation_survives_kill_and_restart() {
    let mut gateway = gateway!();
    let revoked = Paired::new(&gateway, READ);
    let rotated = Paired::new(&gateway, READ);
    let removed = Paired::new(&gateway, READ);
    let mut owner = gateway.owner(4);
    owner.call("device.token.revoke", &revoked.id());
    owner.call("device.token.rotate", &rotated.id());
    owner.call(
        "device.pair.remove",
        &json!({"deviceId": removed.device.id()}),
    );
    gateway.kill();
    gateway.restart();
    for paired in [&revoked, &rotated, &removed] {
        let refusal = paired.with_token(&gateway, &paired.token).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_DEVICE_TOKEN_MISMATCH");
    }
    let (_, hello) = gateway.welcome(&revoked.connect(4).token(TOKEN));
    assert_eq!(hello.device_token(), None);
}

#[test]
fn a_device_that_ends_itself_gets_its_answer_and_then_the_close() {
    let gateway = gateway!();
    for (method, params, reason) in &ACTS[1..] {
        let paired = Paired::new(&gateway, READ_AND_PAIRING);
        let (mut client, _) = paired.with_token(&gateway, &paired.token).unwrap();
        let (mut twin, _) = paired.with_token(&gateway, &paired.token).unwrap();
        client.call(method, &params(&paired));
        assert_eq!(client.closed(), Close::new(4001, reason), "{method}");
        assert_eq!(twin.closed(), Close::new(4001, reason), "{method}");
    }
}

#[test]
fn one_role_may_end_while_the_other_lives() {
    let gateway = gateway!();
    let device = Device::new();
    let operator = || Connect::new(4).token(TOKEN).device(&device).scopes(READ);
    let node = || {
        let base = Connect::new(4).token(TOKEN).device(&device).scopes(&[]);
        base.client("node-host", "node").role("node")
    };
    gateway.welcome(&operator());
    let refusal = gateway.refusal(&node());
    let mut owner = gateway.owner(4);
    let request = refusal.error.unwrap().detail("requestId").clone();
    owner.call("device.pair.approve", &json!({"requestId": request}));
    let (mut as_node, _) = gateway.welcome(&node());
    let (mut as_operator, _) = gateway.welcome(&operator());
    owner.call(
        "device.token.revoke",
        &json!({"deviceId": device.id(), "role": "node"}),
    );
    assert_eq!(as_node.closed(), Close::new(4001, "gateway auth changed"));
    as_operator.call("status", &json!({}));
}

#[test]
fn no_session_slips_in_while_its_authority_is_taken_away() {
    let gateway = gateway!();
    let mut slipped_in_time = 0;
    for round in 0..12 {
        let mut owner = gateway.owner(4);
        let name = format!("race-{round}");
        let params = json!({"name": name, "scopes": READ});
        let secret = owner.call("tokens.create", &params)["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let connect = || Connect::new(4).token(&secret).scopes(READ);
        let sockets: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
        let sessions: Vec<Client> = std::thread::scope(|scope| {
            let connecting: Vec<_> = sockets
                .into_iter()
                .map(|mut client| {
                    let connect = &connect;
                    scope.spawn(move || client.connect(&connect()).ok().map(|_| client))
                })
                .collect();
            owner.call("tokens.revoke", &json!({"name": name}));
            connecting
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .collect()
        });
        slipped_in_time += sessions.len();
        for mut session in sessions {
            let outcome = session.try_call("status", &json!({}));
            assert_eq!(
                outcome,
                Call::Closed(Close::new(4001, "gateway auth changed"))
            );
        }
    }
    println!("{slipped_in_time} of 96 connects came before the revocation");
}
