//! Nodes over the wire, by the real process: what a node may be asked to run, who answers for it, and
//! how what was asked ends.

use clawgate_testkit::{Call, Client, Connect, Device, TOKEN, TestGateway, gateway};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];

/// A connect of a headless node with these commands.
fn node(protocol: u32, device: &Device, commands: &[&str]) -> Connect {
    let commands: Vec<String> = commands.iter().map(|name| (*name).to_owned()).collect();
    Connect::new(protocol)
        .client("node-host", "node")
        .with_client("displayName", "kitchen-pi")
        .role("node")
        .scopes(&[])
        .device(device)
        .token(TOKEN)
        .edit(move |params| {
            params["caps"] = json!(["system"]);
            params["commands"] = json!(commands);
            params["pathEnv"] = json!("/usr/bin:/bin");
            params["permissions"] = json!({"screen": false});
        })
}

/// The command that a node was asked to run.
fn asked(node: &mut Client) -> Value {
    let event = node.event("node.invoke.request");
    assert!(event["seq"].is_null(), "it is for this node alone: {event}");
    event["payload"].clone()
}

fn result(node: &mut Client, request: &Value, payload: &str) -> Value {
    node.call(
        "node.invoke.result",
        &json!({"id": request["id"], "nodeId": request["nodeId"], "ok": true, "payloadJSON": payload}),
    )
}

fn invoke(device: &Device, command: &str, key: &str) -> Value {
    json!({
        "nodeId": device.id(), "command": command, "params": {"bins": ["ls"]},
        "idempotencyKey": key,
    })
}

fn describe(owner: &mut Client, device: &Device) -> Value {
    owner.call("node.describe", &json!({"nodeId": device.id()}))
}

fn with_node(commands: &[&str]) -> (TestGateway, Device, Client, Client) {
    let gateway = gateway!();
    let device = Device::new();
    let owner = gateway.owner(4);
    let (node, _) = gateway.welcome(&node(3, &device, commands));
    (gateway, device, owner, node)
}

#[test]
fn a_command_goes_to_the_node_and_its_answer_comes_back_in_both_dialects() {
    for protocol in DIALECTS {
        let gateway = gateway!();
        let device = Device::new();
        let mut owner = gateway.owner(protocol);
        let (mut node, _) = gateway.welcome(&node(protocol, &device, &["system.which"]));
        let words = node.event("voicewake.changed");
        assert_eq!(
            words["payload"]["triggers"],
            json!(["openclaw", "claude", "computer"])
        );

        let listed = owner.call("node.list", &json!({}));
        let shown = &listed["nodes"][0];
        assert_eq!(shown["nodeId"], device.id());
        assert_eq!(shown["displayName"], "kitchen-pi");
        assert_eq!(shown["commands"], json!(["system.which"]));
        assert_eq!(shown["permissions"], json!({"screen": false}));
        assert_eq!(
            (&shown["paired"], &shown["connected"]),
            (&json!(true), &json!(true))
        );

        let call = owner.send("node.invoke", &invoke(&device, "system.which", "k1"));
        let request = asked(&mut node);
        assert_eq!(request["command"], "system.which");
        assert_eq!(request["paramsJSON"], r#"{"bins":["ls"]}"#);
        assert_eq!(request["idempotencyKey"], "k1");
        assert_eq!(
            result(&mut node, &request, r#"{"bins":{}}"#),
            json!({"ok": true})
        );
        let Call::Ok(answer) = owner.answer(&call) else {
            panic!("it was answered")
        };
        assert_eq!(
            answer,
            json!({
                "ok": true, "nodeId": device.id(), "command": "system.which",
                "payload": {"bins": {}}, "payloadJSON": r#"{"bins":{}}"#,
            })
        );
        // The same key is the same act; for another act it is refused.
        let again = owner.call("node.invoke", &invoke(&device, "system.which", "k1"));
        assert_eq!(again, answer);
        let mut other = invoke(&device, "system.which", "k1");
        other["params"] = json!({"bins": ["rm"]});
        let refused = owner.refused("node.invoke", &other);
        assert_eq!(refused.detail_code(), "IDEMPOTENCY_KEY_REUSED");
        let quiet = node.event_names_until_now();
        assert!(
            !quiet.contains(&"node.invoke.request".to_owned()),
            "{quiet:?}"
        );
    }
}

#[test]
fn a_node_that_fails_is_quoted_and_one_that_is_not_there_is_named() {
    let (_gateway, device, mut owner, mut node) = with_node(&["system.notify"]);
    let call = owner.send("node.invoke", &invoke(&device, "system.notify", "k"));
    let request = asked(&mut node);
    node.call(
        "node.invoke.result",
        &json!({
            "id": request["id"], "nodeId": device.id(), "ok": false, "payloadJSON": null,
            "error": {"code": "UNSUPPORTED", "message": "no notifier"},
        }),
    );
    let Call::Error(error) = owner.answer(&call) else {
        panic!("it failed")
    };
    assert_eq!(error.code, "UNAVAILABLE");
    assert_eq!(error.message, "UNSUPPORTED: no notifier");
    assert_eq!(
        error.detail("nodeError"),
        &json!({"code": "UNSUPPORTED", "message": "no notifier"})
    );

    let absent = json!({"nodeId": "nope", "command": "system.which", "idempotencyKey": "k"});
    let error = owner.refused("node.invoke", &absent);
    assert_eq!(error.message, "node not connected");
    assert_eq!(error.detail_code(), "NOT_CONNECTED");
}

#[test]
fn what_is_not_declared_not_allowed_or_reserved_is_not_sent() {
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN},
        "nodes": {"allowCommands": ["camera.snap"], "denyCommands": ["system.which"]},
    }});
    let gateway = gateway!(config);
    let device = Device::new();
    let mut owner = gateway.owner(3);
    let commands = [
        "camera.snap",
        "camera.clip",
        "system.which",
        "system.execApprovals.get",
    ];
    let (mut node, _) = gateway.welcome(&node(3, &device, &commands));
    let shown = describe(&mut owner, &device);
    assert_eq!(shown["commands"], json!(["camera.snap"]));
    assert_eq!(
        shown["withheld"],
        json!([
            {"command": "camera.clip", "reason": "not-allowed"},
            {"command": "system.which", "reason": "not-allowed"},
        ])
    );
    for (command, message, reason) in [
        (
            "system.which",
            r#"node command not allowed: "system.which" is not in the allowlist for platform "linux""#,
            json!("command not allowlisted"),
        ),
        (
            "browser.proxy",
            r#"node command not allowed: the node (platform: linux) does not support "browser.proxy""#,
            json!("command not declared by node"),
        ),
        (
            "system.execApprovals.get",
            "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*",
            Value::Null,
        ),
    ] {
        let error = owner.refused("node.invoke", &invoke(&device, command, command));
        assert_eq!(error.code, "INVALID_REQUEST");
        assert_eq!(error.message, message);
        assert_eq!(error.detail("reason"), &reason);
        assert_eq!(error.detail("command"), command);
    }
    let names = node.event_names_until_now();
    assert!(
        !names.contains(&"node.invoke.request".to_owned()),
        "{names:?}"
    );
    // A writer may not reach what stands behind the browser of a node.
    let writer = Connect::new(4).token(TOKEN).scopes(&["operator.write"]);
    let (mut writer, _) = gateway.welcome(&writer);
    let error = writer.refused("node.invoke", &invoke(&device, "browser.proxy", "w"));
    assert_eq!(error.message, "missing scope: operator.admin");
}

#[test]
fn an_approval_that_nobody_gave_is_not_forwarded() {
    let (_gateway, device, mut owner, mut node) = with_node(&["system.run"]);
    let run = |params: Value, key: &str| json!({"nodeId": device.id(), "command": "system.run", "params": params, "idempotencyKey": key});
    for (params, code) in [
        (
            json!({"command": ["id"], "approved": true}),
            "MISSING_RUN_ID",
        ),
        (
            json!({"command": ["id"], "approvalDecision": "allow-once", "runId": "x"}),
            "UNKNOWN_APPROVAL_ID",
        ),
        (json!({"command": []}), "MISSING_COMMAND"),
        (json!({"command": "id"}), "MISSING_COMMAND"),
        (json!(["id"]), "INVALID_PARAMS"),
    ] {
        let error = owner.refused("node.invoke", &run(params, "k"));
        assert_eq!(
            (error.code.as_str(), error.detail_code()),
            ("INVALID_REQUEST", code)
        );
    }
    let sneaky = json!({"command": ["id"], "cwd": "/", "approved": "true", "internalAllow": true});
    let call = owner.send("node.invoke", &run(sneaky, "k2"));
    let request = asked(&mut node);
    assert_eq!(request["paramsJSON"], r#"{"command":["id"],"cwd":"/"}"#);
    result(&mut node, &request, "{}");
    assert!(matches!(owner.answer(&call), Call::Ok(_)));
}

#[test]
fn only_the_node_that_was_asked_answers_and_only_once() {
    let (gateway, device, mut owner, mut first) = with_node(&["system.which"]);
    let other = Device::new();
    let (mut second, _) = gateway.welcome(&node(4, &other, &["system.which"]));
    let call = owner.send("node.invoke", &invoke(&device, "system.which", "k"));
    let request = asked(&mut first);
    let forged =
        json!({"id": request["id"], "nodeId": device.id(), "ok": true, "payloadJSON": "1"});
    let error = second.refused("node.invoke.result", &forged);
    assert_eq!(error.message, "nodeId mismatch");
    let mut own_name = forged.clone();
    own_name["nodeId"] = other.id().into();
    let ignored = json!({"ok": true, "ignored": true});
    assert_eq!(second.call("node.invoke.result", &own_name), ignored);
    // A second session of the same node was not asked either.
    let (mut twin, _) = gateway.welcome(&node(3, &device, &["system.which"]));
    assert_eq!(twin.call("node.invoke.result", &forged), ignored);
    assert_eq!(result(&mut first, &request, "2"), json!({"ok": true}));
    assert_eq!(result(&mut first, &request, "3"), ignored);
    let Call::Ok(answer) = owner.answer(&call) else {
        panic!("it was answered")
    };
    assert_eq!(answer["payload"], 2);
    let error = owner.refused("node.invoke.result", &forged);
    assert_eq!(error.message, "unauthorized role: operator");
}

#[test]
fn a_node_that_goes_ends_what_it_was_asked_at_once() {
    let (_gateway, device, mut owner, mut node) = with_node(&["system.which"]);
    let call = owner.send("node.invoke", &invoke(&device, "system.which", "k"));
    asked(&mut node);
    drop(node);
    let Call::Error(error) = owner.answer(&call) else {
        panic!("nobody answers any more")
    };
    assert_eq!(error.code, "UNAVAILABLE");
    assert_eq!(error.detail("nodeError")["code"], "NODE_DISCONNECTED");
    let shown = describe(&mut owner, &device);
    assert_eq!(shown["connected"], false);
    assert_eq!(
        (&shown["caps"], &shown["commands"]),
        (&json!([]), &json!([]))
    );
}

#[test]
fn a_node_that_takes_too_long_is_not_waited_for_and_told_to_stop() {
    let gateway = gateway!();
    let device = Device::new();
    let mut owner = gateway.owner(3);
    let (mut node, _) = gateway.welcome(&node(4, &device, &["system.which"]));
    let mut params = invoke(&device, "system.which", "k");
    params["timeoutMs"] = 50.into();
    let call = owner.send("node.invoke", &params);
    let request = asked(&mut node);
    assert_eq!(request["timeoutMs"], 50);
    let Call::Error(error) = owner.answer(&call) else {
        panic!("it is not waited for")
    };
    assert_eq!(error.message, "TIMEOUT: node invoke timed out");
    let cancel = node.event("node.invoke.cancel");
    assert_eq!(cancel["payload"]["id"], request["id"]);
    assert_eq!(
        result(&mut node, &request, "1"),
        json!({"ok": true, "ignored": true})
    );
}

#[test]
fn a_caller_that_goes_leaves_nothing_running() {
    let gateway = gateway!();
    let device = Device::new();
    let (mut node, _) = gateway.welcome(&node(4, &device, &["system.which"]));
    let mut caller = gateway.owner(4);
    caller.send("node.invoke", &invoke(&device, "system.which", "k"));
    let request = asked(&mut node);
    drop(caller);
    let cancel = node.event("node.invoke.cancel");
    assert_eq!(cancel["payload"]["id"], request["id"]);
}

#[test]
fn one_node_does_not_get_more_than_it_may_run_at_once() {
    let (gateway, device, mut owner, mut node) = with_node(&["system.which"]);
    for n in 0..63 {
        owner.send(
            "node.invoke",
            &invoke(&device, "system.which", &format!("k{n}")),
        );
    }
    let mut second = gateway.owner(4);
    second.send("node.invoke", &invoke(&device, "system.which", "last"));
    let requests: Vec<Value> = (0..64).map(|_| asked(&mut node)).collect();
    let error = second.refused("node.invoke", &invoke(&device, "system.which", "more"));
    assert_eq!(error.detail("nodeError")["code"], "NODE_BUSY");
    // One that ends makes room.
    result(&mut node, &requests[0], "1");
    let call = second.send("node.invoke", &invoke(&device, "system.which", "more"));
    let request = asked(&mut node);
    result(&mut node, &request, "2");
    assert!(matches!(second.answer(&call), Call::Ok(_)));
}

#[test]
fn what_is_said_in_a_session_goes_to_the_nodes_that_follow_it_and_to_no_other() {
    for protocol in DIALECTS {
        let gateway = gateway!();
        let (follower, other) = (Device::new(), Device::new());
        let mut owner = gateway.owner(4);
        let (mut following, _) = gateway.welcome(&node(protocol, &follower, &["system.which"]));
        let (mut quiet, _) = gateway.welcome(&node(protocol, &other, &["system.which"]));
        for key in ["main", "agent:main:side"] {
            owner.call("sessions.patch", &json!({"key": key, "label": key}));
        }
        let tell = |node: &mut Client, event: &str, key: &str| {
            let payload = json!({"sessionKey": key}).to_string();
            let params = json!({"event": event, "payloadJSON": payload});
            assert_eq!(node.call("node.event", &params), json!({"ok": true}));
        };
        let mut say = |key: &str, words: &str| {
            owner.call("chat.inject", &json!({"sessionKey": key, "message": words}));
        };
        tell(&mut following, "chat.subscribe", "Main");
        tell(&mut quiet, "chat.subscribe", "agent:main:side");
        // A key that reads as none is followed by nobody and does no harm.
        tell(&mut quiet, "chat.subscribe", "../main");
        say("agent:main:main", "dinner");
        let event = following.event("chat");
        assert!(event["seq"].is_null(), "it is for this node alone: {event}");
        let told = &event["payload"];
        assert_eq!(told["message"]["content"][0]["text"], "dinner");
        assert_eq!(told["state"], "final");
        let called = if protocol == 3 {
            "Main"
        } else {
            "agent:main:main"
        };
        assert_eq!(told["sessionKey"], called);
        assert!(!quiet.event_names_until_now().contains(&"chat".to_owned()));

        tell(&mut following, "chat.unsubscribe", "agent:main:main");
        say("main", "over");
        say("agent:main:side", "side");
        assert_eq!(
            quiet.event("chat")["payload"]["message"]["content"][0]["text"],
            "side"
        );
        assert!(
            !following
                .event_names_until_now()
                .contains(&"chat".to_owned())
        );
    }
}
