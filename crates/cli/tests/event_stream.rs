//! Events: their shapes, who gets them, and how they are counted in each dialect.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::time::Duration;

use clawgate_testkit::{Client, Connect, Device, TOKEN, TestGateway, gateway};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];
const READ: &[&str] = &["operator.read"];

fn reader(gateway: &TestGateway, protocol: u32) -> Client {
    gateway
        .welcome(&Connect::new(protocol).token(TOKEN).scopes(READ))
        .0
}

/// A client that presence tracks.
fn tracked(gateway: &TestGateway, protocol: u32, instance: &str) -> Client {
    let connect = Connect::new(protocol)
        .token(TOKEN)
        .scopes(READ)
        .client("openclaw-macos", "ui")
        .with_client("instanceId", instance)
        .with_client("displayName", "Desk");
    gateway.welcome(&connect).0
}

/// Makes the gateway send a presence event to everybody who may read.
fn beacon(client: &mut Client, text: &str) {
    client.call("system-event", &json!({"text": text}));
}

/// Makes the gateway send an event to those alone who may decide about pairing.
fn ask_for_pairing(gateway: &TestGateway) {
    let connect = Connect::new(4)
        .token(TOKEN)
        .scopes(READ)
        .device(&Device::new());
    gateway
        .from_afar(&connect)
        .map(|(_, hello)| hello)
        .unwrap_err();
}

#[test]
fn ticks_come_every_thirty_seconds_to_every_session() {
    let gateway = gateway!();
    let node = Connect::new(4)
        .token(TOKEN)
        .client("node-host", "node")
        .role("node")
        .scopes(&[]);
    let mut clients = vec![
        gateway.owner(3),
        gateway.owner(4),
        gateway.welcome(&Connect::new(3).token(TOKEN).scopes(&[])).0,
        gateway.welcome(&node.device(&Device::new())).0,
    ];
    for client in &mut clients {
        let tick = client.event_within("tick", Duration::from_secs(45));
        assert_eq!(tick["type"], "event");
        let payload = tick["payload"].as_object().unwrap();
        assert_eq!(payload.keys().collect::<Vec<_>>(), ["ts"]);
        let age = clawgate_testkit::now_ms() - payload["ts"].as_i64().unwrap();
        assert!((0..20_000).contains(&age), "{age}");
        assert!(
            tick["seq"].is_u64() && tick.get("stateVersion").is_none(),
            "{tick}"
        );
    }
}

#[test]
fn coming_and_going_is_told_to_those_who_may_read() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut watching = reader(&gateway, protocol);
        let instance = format!("desk-{protocol}");
        let mut new = reader(&gateway, 4);
        let guest = tracked(&gateway, protocol, &instance);
        // Wire 4 alone is told at once; wire 3 hears of it with the next change.
        let told = new.event("presence");
        let came = if protocol == 4 {
            watching.event("presence")
        } else {
            let names = watching.event_names_until_now();
            assert!(!names.contains(&"presence".to_owned()), "{names:?}");
            told
        };
        let entry = of(&came, &instance);
        assert_eq!(entry["reason"], "connect");
        assert_eq!(entry["host"], "Desk");
        assert_eq!(entry["mode"], "ui");
        assert_eq!(entry["roles"], json!(["operator"]));
        assert_eq!(entry["scopes"], json!(READ));
        assert_eq!(entry["text"], "Node: Desk · mode ui");
        assert!(entry["ts"].is_i64());
        drop(guest);
        let went = watching.event("presence");
        assert_eq!(of(&went, &instance)["reason"], "disconnect");
        let counters = |event: &Value| event["stateVersion"]["presence"].as_u64().unwrap();
        assert!(counters(&went) > counters(&came), "{came} {went}");
        assert!(came["stateVersion"]["health"].is_u64());
    }
}

#[test]
fn presence_entries_have_the_members_of_the_readers_dialect() {
    let gateway = gateway!();
    let connect = Connect::new(4)
        .token(TOKEN)
        .scopes(READ)
        .client("openclaw-macos", "ui")
        .with_client("instanceId", "desk")
        .with_client("timeZone", "Europe/Berlin");
    let (_guest, hello) = gateway.welcome(&connect);
    let of_desk = |entries: &Value| {
        let entries = entries.as_array().unwrap();
        let desk = entries.iter().find(|entry| entry["instanceId"] == "desk");
        (entries[0].clone(), desk.unwrap().clone())
    };
    let (own, desk) = of_desk(&hello.raw["snapshot"]["presence"]);
    assert!(own["instanceId"].is_string(), "{own}");
    assert_eq!(desk["clientId"], "openclaw-macos");
    assert_eq!(desk["timeZone"], "Europe/Berlin");
    assert_eq!(desk["onlineSince"], desk["ts"]);
    assert_eq!(
        of_desk(&reader(&gateway, 4).call("system-presence", &json!({}))).1,
        desk
    );
    let (own, desk) = of_desk(&reader(&gateway, 3).call("system-presence", &json!({})));
    assert!(own.get("instanceId").is_none(), "{own}");
    assert!(own["modelIdentifier"].is_string(), "{own}");
    for key in ["clientId", "timeZone", "onlineSince"] {
        assert!(desk.get(key).is_none(), "{key}: {desk}");
    }
}

#[test]
fn a_mistyped_field_of_a_beacon_counts_as_absent() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        let text = format!("Node: odd-{protocol}");
        client.call(
            "system-event",
            &json!({"text": text, "mode": 5, "tags": ["a", 1], "lastInputSeconds": "x", "ip": "10.0.0.9"}),
        );
        let list = client.call("system-presence", &json!({}));
        let entry = list
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["text"] == text.as_str())
            .unwrap();
        assert_eq!(entry["ip"], "10.0.0.9");
        for key in ["mode", "tags", "lastInputSeconds"] {
            assert!(entry.get(key).is_none(), "{key}: {entry}");
        }
        let error = client.refused("system-event", &json!({"text": 5}));
        assert_eq!(error.message, "text required");
    }
}

#[test]
fn the_health_counter_grows_when_heartbeats_are_switched() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let counted = || {
        let (_, hello) = gateway.welcome(&Connect::new(4).token(TOKEN).scopes(READ));
        hello.raw["snapshot"]["stateVersion"]["health"]
            .as_u64()
            .unwrap()
    };
    let before = counted();
    owner.call("set-heartbeats", &json!({"enabled": true}));
    assert!(counted() > before);
}

fn of(event: &Value, instance: &str) -> Value {
    let entries = event["payload"]["presence"].as_array().unwrap();
    assert_eq!(
        entries[0]["reason"], "self",
        "this gateway is first: {event}"
    );
    let found = entries.iter().find(|entry| entry["instanceId"] == instance);
    found
        .unwrap_or_else(|| panic!("{instance} is not there: {event}"))
        .clone()
}

#[test]
fn one_shot_clients_come_and_go_unseen() {
    let gateway = gateway!();
    let mut watching = reader(&gateway, 4);
    for mode in ["cli", "probe", "backend"] {
        gateway.welcome(&Connect::new(4).token(TOKEN).client("cli", mode));
    }
    let names = watching.event_names_until_now();
    assert!(!names.contains(&"presence".to_owned()), "{names:?}");
}

#[test]
fn a_beacon_is_told_and_listed() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        let text = format!("Node: pi-{protocol} (10.0.0.7) · app 1.2 · mode node · reason launch");
        beacon(&mut owner, &text);
        let event = owner.event("presence");
        let told = event["payload"]["presence"].to_string();
        assert!(told.contains(&format!("pi-{protocol}")), "{told}");
        let listed = owner.call("system-presence", &json!({})).to_string();
        assert!(listed.contains(&format!("pi-{protocol}")), "{listed}");
    }
}

#[test]
fn a_health_probe_refreshes_and_tells_everybody() {
    let gateway = gateway!();
    let node = Connect::new(3)
        .token(TOKEN)
        .client("node-host", "node")
        .role("node")
        .scopes(&[]);
    let mut clients = vec![
        reader(&gateway, 3),
        gateway.welcome(&Connect::new(4).token(TOKEN).scopes(&[])).0,
        gateway.welcome(&node.device(&Device::new())).0,
    ];
    // A snapshot serves for a second; asking again and again does not put the next one off.
    let mut asking = gateway.owner(4);
    let first = asking.call("health", &json!({}))["ts"].clone();
    let deadline = std::time::Instant::now() + clawgate_testkit::PATIENCE;
    let payload = loop {
        let payload = asking.call("health", &json!({"probe": true}));
        if payload["ts"] != first {
            break payload;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the snapshot is never made anew"
        );
    };
    for client in &mut clients {
        let event = client.event("health");
        assert_eq!(event["payload"]["ok"], true);
        assert_eq!(event["payload"]["ts"], payload["ts"], "the same snapshot");
        assert!(
            event["stateVersion"]["health"].as_u64().unwrap() > 0,
            "{event}"
        );
    }
}

#[test]
fn e73_what_a_session_may_not_read_it_is_not_told() {
    let gateway = gateway!();
    let node = Connect::new(4)
        .token(TOKEN)
        .client("node-host", "node")
        .role("node")
        .scopes(&[]);
    let deciding = ["operator.pairing", "operator.approvals"];
    let mut blind = vec![
        gateway.welcome(&Connect::new(3).token(TOKEN).scopes(&[])).0,
        gateway
            .welcome(&Connect::new(4).token(TOKEN).scopes(&deciding))
            .0,
        gateway.welcome(&node.device(&Device::new())).0,
    ];
    let mut watching = reader(&gateway, 4);
    beacon(&mut gateway.owner(4), "Node: somewhere");
    watching.event("presence");
    for client in &mut blind {
        let names = client.event_names_until_now();
        assert!(!names.contains(&"presence".to_owned()), "{names:?}");
    }
}

#[test]
fn wire_4_counts_what_is_addressed_to_the_connection_from_one() {
    let gateway = gateway!();
    // Something happened before.
    let mut owner = gateway.owner(3);
    for n in 0..5 {
        beacon(&mut owner, &format!("Node: early-{n}"));
    }
    let mut watching = reader(&gateway, 4);
    for n in 0..3 {
        beacon(&mut owner, &format!("Node: late-{n}"));
        ask_for_pairing(&gateway);
    }
    let seen: Vec<u64> = watching
        .events_until_now()
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seen, [1, 2, 3], "without gaps, whatever others were told");
}

#[test]
fn wire_3_counts_every_broadcast_so_that_hidden_ones_leave_gaps() {
    let gateway = gateway!();
    let mut owner = gateway.owner(3);
    let mut watching = reader(&gateway, 3);
    owner.events_until_now();
    for n in 0..3 {
        beacon(&mut owner, &format!("Node: n-{n}"));
        ask_for_pairing(&gateway);
    }
    let numbers = |events: Vec<Value>| -> Vec<u64> {
        events
            .iter()
            .map(|event| event["seq"].as_u64().unwrap())
            .collect()
    };
    let all = numbers(owner.events_until_now());
    assert_eq!(all.len(), 6);
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
    let some = numbers(watching.events_until_now());
    assert_eq!(
        some,
        [all[0], all[2], all[4]],
        "the same numbers, with gaps"
    );
}

#[test]
fn both_dialects_are_told_the_same_in_the_same_order() {
    let gateway = gateway!();
    let mut old = gateway.owner(3);
    let mut new = gateway.owner(4);
    let mut acting = gateway.owner(4);
    for n in 0..20 {
        beacon(&mut acting, &format!("Node: n-{n}"));
        ask_for_pairing(&gateway);
    }
    let told = |events: Vec<Value>| -> Vec<(String, String)> {
        events
            .iter()
            .map(|event| {
                let mut payload = event["payload"].clone();
                // The gateway's own entry is another one by dialect.
                if let Some(entries) = payload["presence"].as_array_mut() {
                    entries.remove(0);
                }
                (event["event"].to_string(), payload.to_string())
            })
            .collect()
    };
    let (a, b) = (told(old.events_until_now()), told(new.events_until_now()));
    assert_eq!(
        a.len(),
        40,
        "{:?}",
        a.iter().map(|x| &x.0).collect::<Vec<_>>()
    );
    assert_eq!(a, b);
}

#[test]
fn answers_and_the_challenge_are_not_counted() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        assert!(client.challenge.get("seq").is_none());
        let answer = client.raw(&json!({"type": "req", "id": "1", "method": "health"}).to_string());
        assert!(answer.get("seq").is_none(), "{answer}");
    }
}

#[test]
fn keys_stand_in_the_order_of_the_original() {
    let gateway = gateway!();
    let mut client = gateway.owner(3);
    client.send("system-event", &json!({"text": "Node: order"}));
    loop {
        let clawgate_testkit::Message::Text(text) = client.socket.read() else {
            panic!("a frame was expected");
        };
        if text.contains("\"event\":\"presence\"") {
            assert!(
                text.starts_with(r#"{"type":"event","event":"presence","payload":{"#),
                "{text}"
            );
            let seq = text.rfind(r#","seq":"#).unwrap();
            let version = text.rfind(r#","stateVersion":{"presence":"#).unwrap();
            assert!(seq < version, "{text}");
            break;
        }
    }
}

#[test]
fn a_listener_that_does_not_read_is_left_behind_and_the_others_are_told() {
    let gateway = gateway!();
    let lazy = reader(&gateway, 3);
    let mut watching = reader(&gateway, 4);
    let mut acting = gateway.owner(4);
    for n in 0..500 {
        beacon(&mut acting, &format!("Node: n-{}", n % 150));
    }
    let events = watching.events_until_now();
    assert_eq!(events.len(), 500);
    drop(lazy);
    acting.call("health", &json!({}));
}
