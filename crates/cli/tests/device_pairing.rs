//! Pairing: who must ask, who may decide, what a decision changes, and who is told.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use clawgate_testkit::{
    Call, Client, Close, Connect, Device, Hello, OPERATOR, Refusal, TOKEN, TestGateway, gateway,
};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];
const READ: &[&str] = &["operator.read"];
const READ_AND_PAIRING: &[&str] = &["operator.read", "operator.pairing"];

fn with(protocol: u32, device: &Device, scopes: &[&str]) -> Connect {
    Connect::new(protocol)
        .token(TOKEN)
        .device(device)
        .scopes(scopes)
}

fn node(protocol: u32, device: &Device) -> Connect {
    with(protocol, device, &[])
        .client("node-host", "node")
        .role("node")
}

#[track_caller]
fn asks(gateway: &TestGateway, connect: &Connect) -> String {
    let refusal = gateway
        .from_afar(connect)
        .map(|(_, hello)| hello)
        .unwrap_err();
    assert_eq!(refusal.code(), "PAIRING_REQUIRED", "{refusal:?}");
    request_id(&refusal)
}

fn request_id(refusal: &Refusal) -> String {
    let error = refusal.error.as_ref().unwrap();
    error.detail("requestId").as_str().unwrap().to_owned()
}

/// Pairs a device from elsewhere with exactly these scopes.
#[track_caller]
fn pair(gateway: &TestGateway, device: &Device, scopes: &[&str]) {
    let id = asks(gateway, &with(4, device, scopes));
    gateway
        .owner(4)
        .call("device.pair.approve", &json!({"requestId": id}));
}

fn paired(client: &mut Client, device: &Device) -> Value {
    let list = client.call("device.pair.list", &json!({}));
    let found = list["paired"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["deviceId"] == device.id());
    found
        .unwrap_or_else(|| panic!("not paired: {list}"))
        .clone()
}

fn pending(client: &mut Client) -> Vec<Value> {
    let list = client.call("device.pair.list", &json!({}));
    list["pending"].as_array().unwrap().clone()
}

/// A caller that may decide about pairing and nothing else, without a device.
fn decider(gateway: &TestGateway, protocol: u32) -> Client {
    gateway
        .welcome(
            &Connect::new(protocol)
                .token(TOKEN)
                .scopes(&["operator.pairing"]),
        )
        .0
}

#[test]
fn a_new_device_from_elsewhere_must_ask_in_the_words_of_wire_3() {
    let gateway = gateway!();
    let refusal = gateway
        .from_afar(&with(3, &Device::new(), READ))
        .unwrap_err();
    assert_eq!(refusal.close, Close::new(1008, "pairing required"));
    let error = refusal.error.as_ref().unwrap();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("NOT_PAIRED", "pairing required")
    );
    let id = request_id(&refusal);
    assert_eq!(
        error.raw["details"],
        json!({"code": "PAIRING_REQUIRED", "requestId": id, "reason": "not-paired"})
    );
}

#[test]
fn a_new_device_from_elsewhere_must_ask_in_the_words_of_wire_4() {
    let gateway = gateway!();
    let device = Device::new();
    let refusal = gateway.from_afar(&with(4, &device, READ)).unwrap_err();
    let error = refusal.error.as_ref().unwrap();
    assert_eq!(error.code, "NOT_PAIRED");
    assert_eq!(
        error.message,
        "pairing required: device is not approved yet"
    );
    let id = request_id(&refusal);
    let reason = format!("{} (requestId: {id})", error.message);
    assert_eq!(refusal.close, Close::new(1008, &reason));
    assert_eq!(
        error.raw["details"],
        json!({
            "code": "PAIRING_REQUIRED", "reason": "not-paired", "requestId": id,
            "remediationHint": "Approve this device from the pending pairing requests.",
            "deviceId": device.id(), "requestedRole": "operator", "requestedScopes": READ,
        })
    );
}

#[test]
fn a_new_device_on_this_machine_is_paired_without_asking_and_the_pairing_is_told() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut watcher = decider(&gateway, protocol);
        let device = Device::new();
        let (_, hello) = gateway.welcome(&with(protocol, &device, READ));
        assert_eq!(hello.session_scopes(), READ);
        assert_eq!(hello.device_token().unwrap().len(), 43);
        assert_eq!(hello.raw["auth"]["basis"], "silent-pairing");
        let events = watcher.events_until_now();
        let of_pairing: Vec<&Value> = events
            .iter()
            .filter(|e| e["event"].as_str().unwrap().starts_with("device.pair."))
            .collect();
        assert_eq!(of_pairing.len(), 1, "{events:?}");
        assert_eq!(of_pairing[0]["event"], "device.pair.resolved");
        assert_eq!(of_pairing[0]["payload"]["decision"], "approved");
        assert_eq!(of_pairing[0]["payload"]["deviceId"], device.id());
        assert_eq!(paired(&mut watcher, &device)["approvedVia"], "silent");
    }
}

#[test]
fn a_pending_request_says_who_asks_and_for_what() {
    let gateway = gateway!();
    let device = Device::new();
    let connect = with(4, &device, READ)
        .with_client("displayName", "Kitchen")
        .with_client("deviceFamily", "Linux");
    let id = asks(&gateway, &connect);
    let waiting = pending(&mut gateway.owner(3));
    assert_eq!(waiting.len(), 1);
    let mut record = waiting[0].clone();
    let ts = record["ts"].take().as_i64().unwrap();
    assert!((clawgate_testkit::now_ms() - ts).abs() < 60_000);
    let ip = record["remoteIp"].take();
    assert!(ip.is_string(), "{ip}");
    assert_eq!(
        record,
        json!({
            "requestId": id, "deviceId": device.id(), "publicKey": device.public_key(),
            "displayName": "Kitchen", "platform": "linux", "deviceFamily": "Linux",
            "clientId": "cli", "clientMode": "cli", "role": "operator", "roles": ["operator"],
            "scopes": READ, "remoteIp": null, "silent": false, "isRepair": false, "ts": null,
        })
    );
}

#[test]
fn asking_again_keeps_the_request_and_tells_nobody_twice() {
    let gateway = gateway!();
    let mut watcher = decider(&gateway, 4);
    let device = Device::new();
    let id = asks(&gateway, &with(4, &device, READ_AND_PAIRING));
    for protocol in [3, 4, 3] {
        assert_eq!(
            asks(&gateway, &with(protocol, &device, READ_AND_PAIRING)),
            id
        );
        assert_eq!(
            asks(&gateway, &with(protocol, &device, READ)),
            id,
            "a narrower one as well"
        );
    }
    let requested = watcher.event_names_until_now();
    let requested = requested
        .iter()
        .filter(|name| *name == "device.pair.requested")
        .count();
    assert_eq!(requested, 1);
    let waiting = pending(&mut watcher);
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        waiting[0]["scopes"],
        json!(READ_AND_PAIRING),
        "nothing was taken off it"
    );
}

#[test]
fn a_wider_repeat_replaces_the_request_under_a_new_id() {
    let gateway = gateway!();
    let mut watcher = decider(&gateway, 4);
    let device = Device::new();
    let first = asks(&gateway, &with(4, &device, READ));
    assert_eq!(
        watcher.event("device.pair.requested")["payload"]["requestId"],
        first.as_str()
    );
    let second = asks(&gateway, &with(4, &device, READ_AND_PAIRING));
    assert_ne!(first, second);
    let resolved = watcher.event("device.pair.resolved");
    assert_eq!(resolved["payload"]["requestId"], first.as_str());
    assert_eq!(resolved["payload"]["decision"], "rejected");
    let requested = watcher.event("device.pair.requested");
    assert_eq!(requested["payload"]["requestId"], second.as_str());
    assert_eq!(requested["payload"]["scopes"], json!(READ_AND_PAIRING));
    assert_eq!(pending(&mut watcher).len(), 1);
    let error = gateway
        .owner(4)
        .refused("device.pair.approve", &json!({"requestId": first}));
    assert_eq!(
        error.message, "unknown requestId",
        "nobody approves more than was shown"
    );
}

#[test]
fn a_device_waits_once_for_each_role() {
    let gateway = gateway!();
    let device = Device::new();
    let operator = asks(&gateway, &with(4, &device, READ));
    let as_node = asks(&gateway, &node(4, &device));
    assert_ne!(operator, as_node);
    let mut owner = gateway.owner(4);
    let waiting = pending(&mut owner);
    assert_eq!(waiting.len(), 2);
    owner.call("device.pair.approve", &json!({"requestId": operator}));
    let waiting = pending(&mut owner);
    assert_eq!(waiting.len(), 1, "the other role waits still");
    assert_eq!(waiting[0]["role"], "node");
}

#[test]
fn e56_a_hundred_reconnects_leave_one_request() {
    let gateway = gateway!();
    let device = Device::new();
    let id = asks(&gateway, &with(3, &device, READ));
    for _ in 0..99 {
        assert_eq!(asks(&gateway, &with(3, &device, READ)), id);
    }
    assert_eq!(pending(&mut gateway.owner(3)).len(), 1);
}

#[test]
fn e56_parallel_connects_of_one_device_file_one_request() {
    let gateway = gateway!();
    let device = Device::new();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let asking = |_| scope.spawn(|| asks(&gateway, &with(4, &device, READ)));
        let threads: Vec<_> = (0..16).map(asking).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(pending(&mut gateway.owner(4)).len(), 1);
}

#[test]
fn parallel_connects_of_one_new_device_here_pair_it_once() {
    let gateway = gateway!();
    let device = Device::new();
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let connecting = |_| {
            scope.spawn(|| {
                let (_, hello) = gateway.welcome(&with(4, &device, READ));
                hello.device_token().unwrap().to_owned()
            })
        };
        let threads: Vec<_> = (0..16).map(connecting).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        tokens.iter().all(|token| *token == tokens[0]),
        "one token stands"
    );
}

#[test]
fn e55_a_flood_of_invented_devices_is_bounded_and_leaves_paired_ones_alone() {
    let gateway = gateway!();
    let device = Device::new();
    pair(&gateway, &device, READ);
    for _ in 0..300 {
        asks(&gateway, &with(3, &Device::new(), READ));
    }
    let mut owner = gateway.owner(4);
    let waiting = pending(&mut owner).len();
    assert_eq!(waiting, 32, "of one address");
    paired(&mut owner, &device);
    gateway.from_afar(&with(4, &device, READ)).unwrap();
}

#[test]
fn e55_a_flood_from_one_address_crowds_out_itself_and_says_so() {
    let mut gateway = gateway!();
    let params = json!({"name": "watch", "scopes": ["operator.pairing"]});
    let watch = gateway.owner(4).call("tokens.create", &params)["token"].clone();
    gateway.kill();
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "trustedProxies": ["127.0.0.1"],
    }});
    gateway.home().write_config(&config.to_string());
    gateway.restart();
    let asks_from = |address: &str| {
        let mut client = gateway.client_with(&[("X-Forwarded-For", address)]);
        request_id(&client.connect(&with(4, &Device::new(), READ)).unwrap_err())
    };
    let watching = Connect::new(4)
        .token(watch.as_str().unwrap())
        .scopes(&["operator.pairing"]);
    let (mut watcher, _) = gateway.welcome(&watching);
    let other = asks_from("203.0.113.7");
    let flood: Vec<String> = (0..36).map(|_| asks_from("203.0.113.9")).collect();
    for dropped in &flood[..4] {
        let resolved = watcher.event("device.pair.resolved");
        assert_eq!(resolved["payload"]["requestId"], dropped.as_str());
        assert_eq!(resolved["payload"]["decision"], "rejected");
    }
    let waiting = pending(&mut watcher);
    assert_eq!(waiting.len(), 33);
    assert!(waiting.iter().any(|one| one["requestId"] == other.as_str()));
}

#[test]
fn an_approved_upgrade_leaves_the_device_its_token() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        pair(&gateway, &device, READ);
        let (_, hello) = gateway.from_afar(&with(protocol, &device, READ)).unwrap();
        let token = hello.device_token().unwrap();
        let by_token = || {
            let connect = Connect::new(protocol).device(&device);
            connect.auth("deviceToken", token).scopes(READ_AND_PAIRING)
        };
        let (mut session, hello) = gateway.from_afar(&by_token()).unwrap();
        assert_eq!(hello.session_scopes(), READ);
        let mut owner = gateway.owner(protocol);
        let request = pending(&mut owner)[0]["requestId"].clone();
        owner.call("device.pair.approve", &json!({"requestId": request}));
        session.call("status", &json!({}));
        let (_, hello) = gateway.from_afar(&by_token()).unwrap();
        assert_eq!(hello.session_scopes(), READ_AND_PAIRING);
        assert_eq!(hello.device_token(), Some(token));
    }
}

#[test]
fn e73_events_of_pairing_reach_those_who_may_decide_and_nobody_else() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut deciding = decider(&gateway, protocol);
        let mut admin = gateway.owner(protocol);
        let reading = Connect::new(protocol).token(TOKEN);
        let others = ["operator.read", "operator.write", "operator.approvals"];
        let (mut reader, _) = gateway.welcome(&reading.scopes(&others));
        let (mut as_node, _) = gateway.welcome(&node(protocol, &Device::new()));
        // What came of the node's own pairing is not meant here.
        deciding.events_until_now();
        admin.events_until_now();

        let id = asks(&gateway, &with(protocol, &Device::new(), READ));
        admin.call("device.pair.reject", &json!({"requestId": id}));
        for client in [&mut deciding, &mut admin] {
            let requested = client.event("device.pair.requested");
            assert_eq!(requested["payload"]["requestId"], id.as_str());
            let resolved = client.event("device.pair.resolved");
            assert_eq!(resolved["payload"]["requestId"], id.as_str());
        }
        for client in [&mut reader, &mut as_node] {
            let names = client.event_names_until_now();
            assert!(
                !names.iter().any(|name| name.starts_with("device.pair.")),
                "{names:?}"
            );
        }
    }
}

#[test]
fn the_decision_is_told_before_it_is_answered() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        for (method, decision) in [
            ("device.pair.approve", "approved"),
            ("device.pair.reject", "rejected"),
        ] {
            let device = Device::new();
            let id = asks(&gateway, &with(protocol, &device, READ));
            let mut owner = gateway.owner(protocol);
            let request = owner.send(method, &json!({"requestId": id}));
            let (events, call) = owner.answer_after_events(&request);
            let Call::Ok(answer) = call else {
                panic!("{call:?}")
            };
            assert_eq!(answer["requestId"], id.as_str());
            let resolved = events
                .iter()
                .find(|e| e["event"] == "device.pair.resolved")
                .unwrap();
            let mut payload = resolved["payload"].clone();
            assert!(payload["ts"].take().is_i64());
            assert_eq!(
                payload,
                json!({
                    "requestId": id, "deviceId": device.id(), "decision": decision, "ts": null,
                })
            );
        }
    }
}

#[test]
fn an_approved_device_gets_what_it_asked_for_and_a_token_that_stands_alone() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        let id = asks(&gateway, &with(protocol, &device, READ));
        let mut owner = gateway.owner(protocol);
        let answer = owner.call("device.pair.approve", &json!({"requestId": id}));
        let record = &answer["device"];
        assert_eq!(record["deviceId"], device.id());
        assert_eq!(record["roles"], json!(["operator"]));
        assert_eq!(record["scopes"], json!(READ));
        assert_eq!(record["tokens"][0]["role"], "operator");
        assert!(record["tokens"][0].get("token").is_none(), "{record}");

        let (_, hello) = gateway.from_afar(&with(protocol, &device, READ)).unwrap();
        assert_eq!(hello.session_scopes(), READ);
        let token = hello.device_token().unwrap().to_owned();
        let alone = Connect::new(protocol)
            .device(&device)
            .scopes(READ)
            .auth("deviceToken", &token);
        let (mut client, hello) = gateway.from_afar(&alone).unwrap();
        assert_eq!(hello.session_scopes(), READ);
        client.call("status", &json!({}));
        if protocol == 4 {
            assert_eq!(hello.raw["auth"]["method"], "device-token");
        }
        // The answer and the list never show it.
        let list = owner.call("device.pair.list", &json!({})).to_string();
        assert!(!list.contains(&token) && !answer.to_string().contains(&token));
    }
}

#[test]
fn a_rejected_device_is_nobody_and_may_ask_again_under_a_new_id() {
    let gateway = gateway!();
    let device = Device::new();
    let id = asks(&gateway, &with(4, &device, READ));
    let mut owner = gateway.owner(4);
    let answer = owner.call("device.pair.reject", &json!({"requestId": id}));
    assert_eq!(answer, json!({"requestId": id, "deviceId": device.id()}));
    assert!(pending(&mut owner).is_empty());
    assert_ne!(asks(&gateway, &with(4, &device, READ)), id);
}

#[test]
fn e58_a_decided_or_unknown_request_cannot_be_decided_again() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        let approved = asks(&gateway, &with(protocol, &Device::new(), READ));
        owner.call("device.pair.approve", &json!({"requestId": approved}));
        let rejected = asks(&gateway, &with(protocol, &Device::new(), READ));
        owner.call("device.pair.reject", &json!({"requestId": rejected}));
        for id in [
            approved.as_str(),
            rejected.as_str(),
            "no-such-request",
            "' OR 1=1 --",
        ] {
            for method in ["device.pair.approve", "device.pair.reject"] {
                let error = owner.refused(method, &json!({"requestId": id}));
                assert_eq!(error.code, "INVALID_REQUEST");
                assert_eq!(error.message, "unknown requestId", "{method} {id}");
            }
        }
    }
}

#[test]
fn e58_two_deciders_at_once_decide_once() {
    let gateway = gateway!();
    let id = asks(&gateway, &with(4, &Device::new(), READ));
    let params = json!({"requestId": id});
    let decided: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (gateway, params) = (&gateway, &params);
                scope.spawn(move || {
                    let method = if n % 2 == 0 {
                        "device.pair.approve"
                    } else {
                        "device.pair.reject"
                    };
                    usize::from(matches!(
                        gateway.owner(4).try_call(method, params),
                        Call::Ok(_)
                    ))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(decided, 1);
}

#[test]
fn e51_nobody_approves_more_than_they_hold() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut deciding = decider(&gateway, protocol);
        for scope in [
            "operator.admin",
            "operator.read",
            "operator.write",
            "operator.approvals",
        ] {
            let device = Device::new();
            let id = asks(&gateway, &with(protocol, &device, &[scope]));
            let params = json!({"requestId": id});
            let error = deciding.refused("device.pair.approve", &params);
            assert_eq!(
                error.message,
                format!("missing scope: {scope}"),
                "wire {protocol}"
            );
            assert_eq!(error.code, "INVALID_REQUEST");
            let waiting = pending(&mut deciding);
            assert!(
                waiting.iter().any(|p| p["requestId"] == id.as_str()),
                "the request stands"
            );
            gateway.owner(protocol).call("device.pair.approve", &params);
        }
        let device = Device::new();
        let id = asks(&gateway, &with(protocol, &device, &["operator.pairing"]));
        deciding.call("device.pair.approve", &json!({"requestId": id}));
    }
}

#[test]
fn e51_a_node_is_approved_by_administrators_alone() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        let id = asks(&gateway, &node(protocol, &device));
        let params = json!({"requestId": id});
        let error = decider(&gateway, protocol).refused("device.pair.approve", &params);
        assert_eq!(error.message, "device pairing approval denied");
        gateway.owner(protocol).call("device.pair.approve", &params);
        let (_, hello) = gateway.from_afar(&node(protocol, &device)).unwrap();
        assert_eq!(hello.raw["auth"]["role"], "node");
        assert_eq!(hello.session_scopes(), Vec::<String>::new());
    }
}

#[test]
fn e52_a_device_without_admin_decides_about_itself_alone() {
    let gateway = gateway!();
    let limited = Device::new();
    pair(&gateway, &limited, READ_AND_PAIRING);
    let (mut client, _) = gateway
        .from_afar(&with(4, &limited, READ_AND_PAIRING))
        .unwrap();
    let other = Device::new();
    let id = asks(&gateway, &with(4, &other, READ));
    client.refused("device.pair.approve", &json!({"requestId": id}));
    client.refused("device.pair.reject", &json!({"requestId": id}));
    pair(&gateway, &other, READ);
    let target = json!({"deviceId": other.id(), "role": "operator"});
    client.refused("device.token.rotate", &target);
    client.refused("device.token.revoke", &target);
    client.refused("device.pair.remove", &json!({"deviceId": other.id()}));
    let own = json!({"deviceId": limited.id(), "role": "operator"});
    client.call("device.token.rotate", &own);
    // The other one is untouched.
    gateway.from_afar(&with(4, &other, READ)).unwrap();
}

#[test]
fn e57_asking_for_more_gets_what_is_approved_and_says_what_is_missing() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        pair(&gateway, &device, READ);
        let wider = with(protocol, &device, &["operator.read", "operator.admin"]);
        let (mut client, hello) = gateway.from_afar(&wider).unwrap();
        assert_eq!(hello.session_scopes(), READ);
        assert_eq!(hello.missing(), ["operator.admin"]);
        assert_eq!(hello.raw["auth"]["missing"][0]["reason"], "not-approved");
        let id = hello.raw["auth"]["pendingRequestId"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(hello.device_token().is_some());

        // Each refusal for want of it says again how to get it, in both dialects.
        let error = client.refused("cron.add", &json!({}));
        assert_eq!(error.message, "missing scope: operator.admin");
        assert_eq!(
            error.detail("pendingRequestId"),
            id.as_str(),
            "wire {protocol}"
        );
        assert_eq!(
            error.code,
            if protocol == 3 {
                "INVALID_REQUEST"
            } else {
                "FORBIDDEN"
            }
        );
        let explained = client.call("auth.explain", &json!({}));
        assert_eq!(explained["pendingRequestId"], id.as_str());
        assert!(
            explained["nextStep"].as_str().unwrap().contains(&id),
            "{explained}"
        );

        let mut owner = gateway.owner(protocol);
        owner.call("device.pair.approve", &json!({"requestId": id}));
        let (mut client, hello) = gateway.from_afar(&wider).unwrap();
        assert!(hello.missing().is_empty());
        assert!(hello.raw["auth"].get("pendingRequestId").is_none());
        client.call("set-heartbeats", &json!({"enabled": false}));
    }
}

#[test]
fn asking_for_nothing_that_is_approved_is_refused_with_the_request() {
    let gateway = gateway!();
    for (protocol, message) in [
        (3, "pairing required"),
        (
            4,
            "pairing required: device is asking for more scopes than currently approved",
        ),
    ] {
        let device = Device::new();
        pair(&gateway, &device, READ);
        let other = with(protocol, &device, &["operator.pairing"]);
        let refusal = gateway.from_afar(&other).unwrap_err();
        let error = refusal.error.as_ref().unwrap();
        assert_eq!(error.detail("reason"), "scope-upgrade");
        assert_eq!(error.message, message);
        if protocol == 4 {
            assert_eq!(error.detail("approvedRoles"), &json!(["operator"]));
            assert_eq!(error.detail("approvedScopes"), &json!(READ));
        }
        let id = request_id(&refusal);
        let waiting = pending(&mut gateway.owner(4));
        let waiting = waiting
            .iter()
            .find(|p| p["requestId"] == id.as_str())
            .unwrap();
        assert_eq!(waiting["isRepair"], true);
    }
}

#[test]
fn an_upgrade_on_this_machine_needs_nobody_and_keeps_what_was_approved() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        gateway.welcome(&with(protocol, &device, READ));
        let (_, hello) = gateway.welcome(&with(protocol, &device, &["operator.admin"]));
        assert_eq!(hello.session_scopes(), ["operator.admin"]);
        let (_, hello) = gateway.welcome(&with(protocol, &device, READ));
        assert_eq!(hello.session_scopes(), READ);
    }
}

#[test]
fn e57_scopes_left_out_are_what_was_approved() {
    let gateway = gateway!();
    let device = Device::new();
    pair(&gateway, &device, READ_AND_PAIRING);
    let silent = Connect::new(4)
        .token(TOKEN)
        .device(&device)
        .without_scopes();
    let (_, hello) = gateway.from_afar(&silent).unwrap();
    assert_eq!(hello.scopes(), READ_AND_PAIRING);
    let (_, hello) = gateway.welcome(&Connect::new(4).token(TOKEN).without_scopes());
    assert_eq!(
        hello.scopes(),
        READ,
        "and reading for a caller without a device"
    );
}

#[test]
fn e29_another_platform_or_family_must_be_approved_from_elsewhere() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        let base = || with(protocol, &device, READ).with_client("deviceFamily", "Linux");
        let id = asks(&gateway, &base());
        gateway
            .owner(protocol)
            .call("device.pair.approve", &json!({"requestId": id}));
        for changed in [
            base().with_client("platform", "darwin"),
            base().with_client("deviceFamily", "Mac"),
            // Full-width letters are other letters.
            base().with_client("platform", "ｌｉｎｕｘ"),
        ] {
            let refusal = gateway.from_afar(&changed).unwrap_err();
            let error = refusal.error.as_ref().unwrap();
            assert_eq!(
                error.detail("reason"),
                "metadata-upgrade",
                "wire {protocol}"
            );
            if protocol == 4 {
                assert_eq!(
                    error.message,
                    "pairing required: device identity changed and must be re-approved"
                );
            }
        }
        for same in [
            base().with_client("platform", "LINUX"),
            base().with_client("platform", " linux "),
            base().with_client("deviceFamily", "linux"),
        ] {
            gateway.from_afar(&same).unwrap();
        }
    }
}

#[test]
fn an_approved_change_of_platform_is_the_new_pin() {
    let gateway = gateway!();
    let device = Device::new();
    pair(&gateway, &device, READ);
    let moved = || with(4, &device, READ).with_client("platform", "darwin");
    let id = asks(&gateway, &moved());
    gateway
        .owner(4)
        .call("device.pair.approve", &json!({"requestId": id}));
    gateway.from_afar(&moved()).unwrap();
    let refusal = gateway.from_afar(&with(4, &device, READ)).unwrap_err();
    assert_eq!(refusal.error.unwrap().detail("reason"), "metadata-upgrade");
}

#[test]
fn another_role_is_never_given_silently() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        gateway.welcome(&with(protocol, &device, READ));
        for here in [true, false] {
            let refusal = if here {
                gateway.refusal(&node(protocol, &device))
            } else {
                gateway.from_afar(&node(protocol, &device)).unwrap_err()
            };
            let error = refusal.error.unwrap();
            assert_eq!(error.detail("reason"), "role-upgrade", "here: {here}");
        }
        let mut owner = gateway.owner(protocol);
        let waiting = pending(&mut owner);
        let waiting = waiting
            .iter()
            .find(|p| p["deviceId"] == device.id())
            .unwrap();
        assert_eq!(waiting["role"], "node");
        owner.call(
            "device.pair.approve",
            &json!({"requestId": waiting["requestId"]}),
        );
        gateway.welcome(&node(protocol, &device));
        gateway.welcome(&with(protocol, &device, READ));
        assert_eq!(
            paired(&mut owner, &device)["roles"],
            json!(["operator", "node"])
        );
    }
}

#[test]
fn a_page_must_be_approved_unless_it_is_this_gateways_own() {
    let gateway = gateway!();
    let origin = format!("http://127.0.0.1:{}", gateway.address().port());
    let headers = [("Origin", origin.as_str())];
    for protocol in DIALECTS {
        let mut page = gateway.client_with(&headers);
        let refusal = page
            .connect(&with(protocol, &Device::new(), READ))
            .unwrap_err();
        assert_eq!(refusal.code(), "PAIRING_REQUIRED");
        for (id, mode) in [("openclaw-control-ui", "ui"), ("webchat-ui", "webchat")] {
            let mut page = gateway.client_with(&headers);
            let connect = with(protocol, &Device::new(), READ).client(id, mode);
            let hello = page.connect(&connect).unwrap();
            assert_eq!(hello.session_scopes(), READ);
        }
    }
}

#[test]
fn a_device_that_waited_is_paired_by_its_first_connect_on_this_machine() {
    let gateway = gateway!();
    let device = Device::new();
    asks(&gateway, &with(4, &device, READ));
    gateway.welcome(&with(4, &device, READ));
    let mut owner = gateway.owner(4);
    assert!(pending(&mut owner).is_empty());
    paired(&mut owner, &device);
}

#[test]
fn e30_identity_strings_change_nothing_about_who_must_ask() {
    let gateway = gateway!();
    for (id, mode) in [
        ("gateway-client", "backend"),
        ("openclaw-macos", "ui"),
        ("openclaw-probe", "probe"),
        ("test", "test"),
        ("node-host", "node"),
    ] {
        let connect = with(4, &Device::new(), &OPERATOR).client(id, mode);
        assert_eq!(
            gateway.from_afar(&connect).unwrap_err().code(),
            "PAIRING_REQUIRED",
            "{id}"
        );
        let bare = Connect::new(4).token(TOKEN).client(id, mode);
        let refusal = gateway.from_afar(&bare).unwrap_err();
        assert_eq!(refusal.code(), "DEVICE_IDENTITY_REQUIRED", "{id}");
        let next = refusal.error.unwrap();
        assert!(
            next.detail("nextStep").is_string(),
            "the next step is named: {next:?}"
        );
    }
}

#[test]
fn e30_whoever_calls_itself_the_control_ui_a_backend_or_acp_gets_what_anybody_gets() {
    const PLAIN: (&str, &str) = ("cli", "cli");
    const LOUD: [(&str, &str); 6] = [
        ("openclaw-control-ui", "ui"),
        ("openclaw-control-ui", "node"),
        ("openclaw-control-ui", "backend"),
        ("gateway-client", "backend"),
        ("cli", "acp"),
        ("node-host", "node"),
    ];
    let gateway = gateway!();
    // What comes of a connect: the authority, or the code of the refusal.
    let outcome = |connect: &Connect, afar: bool| -> Result<Value, String> {
        let answer = if afar {
            gateway.from_afar(connect).map(|(_, hello)| hello)
        } else {
            gateway.client().connect(connect)
        };
        let hello = answer.map_err(|refusal| refusal.code().to_owned())?;
        let auth = &hello.raw["auth"];
        Ok(json!({"role": auth["role"], "scopes": auth["scopes"]}))
    };
    for protocol in DIALECTS {
        for role in ["operator", "node"] {
            for (afar, with_device) in [(true, true), (true, false), (false, false)] {
                let as_whom = |(id, mode): (&str, &str)| {
                    let connect = Connect::new(protocol).token(TOKEN).role(role);
                    let connect = connect.client(id, mode);
                    if with_device {
                        connect.device(&Device::new())
                    } else {
                        connect
                    }
                };
                let plain = outcome(&as_whom(PLAIN), afar);
                for loud in LOUD {
                    let told = outcome(&as_whom(loud), afar);
                    let what = format!("{loud:?} as {role} in {protocol}, afar: {afar}");
                    match (&told, &plain) {
                        (Ok(more), Ok(less)) => assert_eq!(more, less, "{what}"),
                        (Ok(more), Err(code)) => panic!("{what} gets {more} instead of {code}"),
                        // The Control UI has to be a page, and "acp" is no mode; no name brings anything.
                        (Err(_), _) => {}
                    }
                    if afar && matches!(loud.0, "gateway-client" | "node-host") {
                        assert_eq!(told, plain, "{what}");
                    }
                }
            }
        }
    }
    let devices = gateway.owner(4).call("device.pair.list", &json!({}));
    assert_eq!(devices["paired"], json!([]), "nobody was let in by a name");
}

#[test]
fn removing_forgets_the_device_and_what_it_waited_for() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        pair(&gateway, &device, READ);
        asks(&gateway, &node(protocol, &device));
        let mut owner = gateway.owner(protocol);
        let params = json!({"deviceId": device.id()});
        assert_eq!(owner.call("device.pair.remove", &params), params);
        let list = owner.call("device.pair.list", &json!({})).to_string();
        assert!(!list.contains(&device.id()), "{list}");
        let error = owner.refused("device.pair.remove", &params);
        assert_eq!(error.message, "unknown deviceId");
        asks(&gateway, &with(protocol, &device, READ));
    }
}

#[test]
fn the_list_is_newest_first_and_says_who_is_connected() {
    let gateway = gateway!();
    let (first, second) = (Device::new(), Device::new());
    pair(&gateway, &first, READ);
    pair(&gateway, &second, READ);
    let connected = gateway.from_afar(&with(4, &second, READ)).unwrap();
    let mut owner = gateway.owner(4);
    let list = owner.call("device.pair.list", &json!({}));
    let ids: Vec<&str> = list["paired"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["deviceId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [second.id(), first.id()]);
    assert_eq!(list["paired"][0]["connected"], true);
    assert_eq!(list["paired"][1]["connected"], false);
    drop(connected);
}

#[test]
fn a_pairing_survives_a_restart() {
    let mut gateway = gateway!();
    let device = Device::new();
    let waiting = asks(&gateway, &with(4, &Device::new(), READ));
    pair(&gateway, &device, READ);
    let (_, hello) = gateway.from_afar(&with(4, &device, READ)).unwrap();
    let token = Hello::device_token(&hello).unwrap().to_owned();
    gateway.kill();
    gateway.restart();
    let alone = Connect::new(4)
        .device(&device)
        .scopes(READ)
        .auth("deviceToken", &token);
    gateway.from_afar(&alone).unwrap();
    gateway
        .owner(4)
        .call("device.pair.approve", &json!({"requestId": waiting}));
}
