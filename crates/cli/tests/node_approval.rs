//! What a node may be asked is what somebody approved: with its pairing, and anew for whatever it
//! declares later. The older store of node pairings stands beside it.

use clawgate_testkit::{Client, Connect, Device, TOKEN, gateway};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];

fn node(protocol: u32, device: &Device, commands: &[&str]) -> Connect {
    let commands: Vec<String> = commands.iter().map(|name| (*name).to_owned()).collect();
    Connect::new(protocol)
        .client("node-host", "node")
        .role("node")
        .scopes(&[])
        .device(device)
        .token(TOKEN)
        .edit(move |params| params["commands"] = json!(commands))
}

fn describe(client: &mut Client, device: &Device) -> Value {
    client.call("node.describe", &json!({"nodeId": device.id()}))
}

fn invoke(device: &Device, command: &str) -> Value {
    json!({"nodeId": device.id(), "command": command, "idempotencyKey": command})
}

fn pairing_only(protocol: u32) -> Connect {
    Connect::new(protocol)
        .token(TOKEN)
        .scopes(&["operator.pairing", "operator.read"])
}

#[test]
fn a_node_that_declares_more_later_waits_for_an_administrator() {
    for protocol in DIALECTS {
        let mut gateway = gateway!();
        let device = Device::new();
        let mut owner = gateway.owner(protocol);
        let (mut first, _) = gateway.welcome(&node(protocol, &device, &["system.which"]));
        first.call("node.pending.pull", &json!({}));
        drop(first);

        let wider = node(protocol, &device, &["system.which", "system.run"]);
        let (_second, _) = gateway.welcome(&wider);
        let requested = owner.event("node.pair.requested");
        let id = requested["payload"]["requestId"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(requested["payload"]["nodeId"], device.id());
        assert_eq!(
            requested["payload"]["commands"],
            json!(["system.run", "system.which"])
        );
        let shown = describe(&mut owner, &device);
        assert_eq!(shown["commands"], json!(["system.which"]));
        assert_eq!(
            shown["withheld"],
            json!([{"command": "system.run", "reason": "not-approved"}])
        );
        assert_eq!(shown["pendingRequestId"], id);
        let error = owner.refused("node.invoke", &invoke(&device, "system.run"));
        assert_eq!(error.detail("reason"), "command not approved");

        // Who may pair may not let anybody run programs.
        let (mut pairing, _) = gateway.welcome(&pairing_only(protocol));
        let error = pairing.refused("node.pair.approve", &json!({"requestId": id}));
        assert_eq!(error.message, "missing scope: operator.admin");

        // It waits across a restart, and asks but once.
        drop((owner, pairing));
        gateway.terminate();
        gateway.ended();
        gateway.restart();
        let mut owner = gateway.owner(protocol);
        let (mut again, _) = gateway.welcome(&wider);
        let pending = owner.call("node.pair.list", &json!({}))["pending"].clone();
        assert_eq!(pending.as_array().unwrap().len(), 1, "{pending}");
        assert_eq!(pending[0]["requestId"], id);

        let approved = owner.call("node.pair.approve", &json!({"requestId": id}));
        assert_eq!(approved["node"]["nodeId"], device.id());
        assert!(approved["node"]["token"].is_null(), "{approved}");
        let resolved = owner.event("node.pair.resolved");
        assert_eq!(resolved["payload"]["decision"], "approved");
        // The session that is here may run it at once.
        let shown = describe(&mut owner, &device);
        assert_eq!(shown["commands"], json!(["system.run", "system.which"]));
        let mut run = invoke(&device, "system.run");
        run["params"] = json!({"command": ["id"]});
        owner.send("node.invoke", &run);
        assert_eq!(
            again.event("node.invoke.request")["payload"]["command"],
            "system.run"
        );
        let error = owner.refused("node.pair.approve", &json!({"requestId": id}));
        assert_eq!(error.message, "unknown requestId");
    }
}

#[test]
fn a_request_is_for_what_it_showed_and_for_nothing_that_came_after() {
    let gateway = gateway!();
    let device = Device::new();
    let mut owner = gateway.owner(4);
    drop(gateway.welcome(&node(3, &device, &["system.which"])));
    let (_b, _) = gateway.welcome(&node(3, &device, &["system.notify"]));
    let first = owner.event("node.pair.requested")["payload"]["requestId"].clone();
    let (_c, _) = gateway.welcome(&node(3, &device, &["system.notify", "system.run"]));
    let resolved = owner.event("node.pair.resolved");
    assert_eq!(resolved["payload"]["requestId"], first);
    assert_eq!(resolved["payload"]["decision"], "rejected");
    let second = owner.event("node.pair.requested")["payload"]["requestId"].clone();
    owner.refused("node.pair.approve", &json!({"requestId": first}));
    owner.call("node.pair.reject", &json!({"requestId": second}));
    let shown = describe(&mut owner, &device);
    assert_eq!(shown["commands"], json!([]));
    assert!(shown["pendingRequestId"].is_null(), "{shown}");
    // What was approved is taken back as well.
    let (_d, _) = gateway.welcome(&node(3, &device, &["system.which"]));
    assert_eq!(
        describe(&mut owner, &device)["commands"],
        json!(["system.which"])
    );
    owner.call("node.pair.remove", &json!({"nodeId": device.id()}));
    let shown = describe(&mut owner, &device);
    assert_eq!(shown["withheld"][0]["reason"], "not-approved");
}

#[test]
fn a_device_that_asks_to_be_a_node_shows_what_it_would_run() {
    let gateway = gateway!();
    let device = Device::new();
    let mut owner = gateway.owner(4);
    let wanted = node(4, &device, &["system.run"]);
    let refusal = gateway.from_afar(&wanted).unwrap_err();
    assert_eq!(refusal.code(), "PAIRING_REQUIRED");
    let asked = owner.event("device.pair.requested")["payload"].clone();
    assert_eq!(asked["commands"], json!(["system.run"]));
    // Asking for more is another request.
    let more = node(4, &device, &["system.run", "system.notify"]);
    gateway.from_afar(&more).unwrap_err();
    let wider = owner.event("device.pair.requested")["payload"].clone();
    assert_ne!(wider["requestId"], asked["requestId"]);
    owner.call(
        "device.pair.approve",
        &json!({"requestId": wider["requestId"]}),
    );
    let (_node, _) = gateway.from_afar(&more).unwrap();
    assert_eq!(
        describe(&mut owner, &device)["commands"],
        json!(["system.notify", "system.run"])
    );
    let paired = owner.call("node.pair.list", &json!({}))["paired"].clone();
    assert_eq!(paired[0]["nodeId"], device.id());
    let mut old = gateway.owner(3);
    assert_eq!(
        old.call("node.pair.list", &json!({})),
        json!({"pending": [], "paired": []})
    );
}

#[test]
fn the_older_store_gives_a_token_once_and_checks_it_across_restarts() {
    let mut gateway = gateway!();
    let mut owner = gateway.owner(3);
    let asked = json!({
        "nodeId": "legacy-1", "displayName": "Old Phone", "platform": "ios", "version": "1.0",
        "caps": ["camera"], "commands": ["camera.list"], "remoteIp": "10.1.1.1", "silent": false,
    });
    let filed = owner.call("node.pair.request", &asked);
    let request = filed["request"].clone();
    assert_eq!(
        (&filed["status"], &filed["created"]),
        (&json!("pending"), &json!(true))
    );
    assert_eq!(request["isRepair"], false);
    for (key, value) in asked.as_object().unwrap() {
        assert_eq!(&request[key], value, "{key}");
    }
    assert_eq!(owner.event("node.pair.requested")["payload"], request);
    let again = owner.call(
        "node.pair.request",
        &json!({"nodeId": "legacy-1", "displayName": "Other"}),
    );
    assert_eq!(
        (&again["request"], &again["created"]),
        (&request, &json!(false))
    );
    let id = json!({"requestId": request["requestId"]});
    let approved = owner.call("node.pair.approve", &id);
    let token = approved["node"]["token"].as_str().unwrap().to_owned();
    assert_eq!(approved["node"]["displayName"], "Old Phone");
    gateway.terminate();
    gateway.ended();
    gateway.restart();
    let mut owner = gateway.owner(3);
    let check = |token: &str| json!({"nodeId": "legacy-1", "token": token});
    let verified = owner.call("node.pair.verify", &check(&token));
    assert_eq!(
        (&verified["ok"], &verified["node"]["platform"]),
        (&json!(true), &json!("ios"))
    );
    assert_eq!(
        owner.call("node.pair.verify", &check("bad")),
        json!({"ok": false})
    );
    let listed = owner.call("node.pair.list", &json!({}));
    assert_eq!(listed["paired"][0]["nodeId"], "legacy-1");
    assert!(
        !listed.to_string().contains(&token),
        "a token is not listed"
    );
    owner.call(
        "node.rename",
        &json!({"nodeId": "legacy-1", "displayName": "Renamed"}),
    );
    let listed = owner.call("node.pair.list", &json!({}));
    assert_eq!(listed["paired"][0]["displayName"], "Renamed");
    owner.call("node.pair.remove", &json!({"nodeId": "legacy-1"}));
    assert_eq!(
        owner.call("node.pair.verify", &check(&token)),
        json!({"ok": false})
    );
}

#[test]
fn the_name_of_a_device_is_not_for_the_older_store_and_can_be_chosen() {
    let gateway = gateway!();
    let device = Device::new();
    let mut owner = gateway.owner(4);
    let (_node, _) = gateway.welcome(&node(4, &device, &["system.which"]));
    let asked = json!({"nodeId": device.id(), "commands": ["system.run"]});
    let error = owner.refused("node.pair.request", &asked);
    assert_eq!(error.detail_code(), "NODE_IS_DEVICE");
    owner.call(
        "node.rename",
        &json!({"nodeId": device.id(), "displayName": "Attic"}),
    );
    assert_eq!(describe(&mut owner, &device)["displayName"], "Attic");
    let error = owner.refused(
        "node.rename",
        &json!({"nodeId": "nobody", "displayName": "x"}),
    );
    assert_eq!(error.message, "unknown nodeId");
    let error = owner.refused("node.describe", &json!({"nodeId": "nobody"}));
    assert_eq!(error.message, "unknown nodeId");
}

#[test]
fn work_waits_for_a_node_until_it_says_that_it_is_done() {
    let mut gateway = gateway!();
    let device = Device::new();
    let mut owner = gateway.owner(3);
    let left = json!({
        "nodeId": device.id(), "type": "location.request", "priority": "high", "expiresInMs": 60_000,
    });
    let queued = owner.call("node.pending.enqueue", &left);
    assert_eq!(
        (&queued["revision"], &queued["wakeTriggered"]),
        (&json!(1), &json!(false))
    );
    let again = owner.call(
        "node.pending.enqueue",
        &json!({"nodeId": device.id(), "type": "location.request"}),
    );
    assert_eq!(again["queued"], queued["queued"]);
    gateway.kill();
    gateway.restart();
    let (mut node, _) = gateway.welcome(&node(3, &device, &["location.get"]));
    let drained = node.call("node.pending.drain", &json!({"maxItems": 4}));
    assert_eq!(drained["items"][0], queued["queued"]);
    assert_eq!(drained["items"][1]["id"], "baseline-status");
    assert_eq!(drained["hasMore"], false);
    let done = json!({"ids": [queued["queued"]["id"], "x"]});
    let acked = node.call("node.pending.ack", &done);
    assert_eq!(
        (&acked["ackedIds"], &acked["remainingCount"]),
        (&done["ids"], &json!(0))
    );
    let drained = node.call("node.pending.drain", &json!({}));
    assert_eq!(drained["items"].as_array().unwrap().len(), 1);
    for (method, params) in [
        ("node.pending.drain", json!({"maxItems": 99})),
        ("node.pending.ack", json!({"ids": []})),
    ] {
        assert_eq!(node.refused(method, &params).code, "INVALID_REQUEST");
    }
    let error = node.refused("node.list", &json!({}));
    assert_eq!(error.message, "unauthorized role: node");
    let error = node.refused("node.canvas.capability.refresh", &json!({}));
    assert_eq!(error.message, "canvas host unavailable");
}

#[test]
fn a_telephone_in_the_background_finds_what_it_could_not_run() {
    let gateway = gateway!();
    let device = Device::new();
    let mut owner = gateway.owner(3);
    let phone = node(3, &device, &["camera.list"]).with_client("platform", "iOS 19");
    let (mut node, _) = gateway.welcome(&phone);
    let call = owner.send("node.invoke", &invoke(&device, "camera.list"));
    let request = node.event("node.invoke.request")["payload"].clone();
    node.call(
        "node.invoke.result",
        &json!({
            "id": request["id"], "nodeId": device.id(), "ok": false,
            "error": {"code": "NODE_BACKGROUND_UNAVAILABLE", "message": "in the background"},
        }),
    );
    let clawgate_testkit::Call::Error(error) = owner.answer(&call) else {
        panic!("it is in the background")
    };
    assert_eq!(error.detail_code(), "QUEUED_UNTIL_FOREGROUND");
    let parked = node.call("node.pending.pull", &json!({}))["actions"].clone();
    assert_eq!(parked[0]["id"], *error.detail("queuedActionId"));
    assert_eq!(parked[0]["command"], "camera.list");
    node.call("node.pending.ack", &json!({"ids": [parked[0]["id"]]}));
    assert_eq!(
        node.call("node.pending.pull", &json!({}))["actions"],
        json!([])
    );
}

#[test]
fn wake_words_last_and_are_told_to_whoever_may_know() {
    let mut gateway = gateway!();
    let device = Device::new();
    let mut owner = gateway.owner(3);
    let (mut node, _) = gateway.welcome(&node(3, &device, &[]));
    node.event("voicewake.changed");
    let set = owner.call(
        "voicewake.set",
        &json!({"triggers": ["openclaw", " hey claw ", ""]}),
    );
    let words = json!({"triggers": ["openclaw", "hey claw"]});
    assert_eq!(set, words);
    assert_eq!(owner.event("voicewake.changed")["payload"], words);
    assert_eq!(node.event("voicewake.changed")["payload"], words);
    gateway.kill();
    gateway.restart();
    let mut owner = gateway.owner(4);
    assert_eq!(owner.call("voicewake.get", &json!({})), words);
    let error = owner.refused("voicewake.set", &json!({"triggers": [1]}));
    assert_eq!(error.message, "voicewake.set requires triggers: string[]");
    let reset = owner.call("voicewake.set", &json!({"triggers": []}));
    assert_eq!(reset["triggers"], json!(["openclaw", "claude", "computer"]));
}

#[test]
fn a_node_that_declares_without_bound_is_turned_away() {
    let gateway = gateway!();
    let device = Device::new();
    for commands in [
        vec!["x"; 513],
        vec!["system.run\nsystem.which"],
        vec!["\u{7f}"],
    ] {
        let refusal = gateway.refusal(&node(4, &device, &commands));
        assert!(
            refusal
                .error
                .unwrap()
                .message
                .starts_with("invalid connect params: at /commands")
        );
    }
}
