//! `clawgate node run` and `clawgate nodes`: real processes at both ends. What runs on a node is
//! decided by that node's own policy, and ends with whoever wanted it.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/node.rs"]
mod node;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use clawgate_testkit::{Call, Client, PATIENCE, TestGateway, gateway, home, token_config};
use node::{Host, binary, free_port, json_of, operator, url};
use serde_json::{Value, json};

/// A command about nodes against that gateway, to its end.
fn nodes(gateway: &TestGateway, dir: &Path, args: &[&str]) -> Output {
    operator(gateway, dir, "nodes", args).output().unwrap()
}

fn run(node_id: &Value, params: &Value, key: &str) -> Value {
    json!({"nodeId": node_id, "command": "system.run", "params": params, "idempotencyKey": key})
}

fn id_of(owner: &mut Client, name: &str) -> Value {
    let listed = owner.call("node.list", &json!({}));
    let nodes = listed["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["displayName"] == name);
    node.unwrap_or_else(|| panic!("no {name}: {listed}"))["nodeId"].clone()
}

#[test]
fn a_node_runs_what_its_own_policy_allows_and_nothing_else() {
    let gateway = gateway!();
    let (dir, operator) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Host::start(
        &gateway,
        dir.path(),
        "pi",
        &[("SECRET_OF_THE_NODE", "canary")],
    );
    host.says("connected to");
    let status = json_of(&nodes(&gateway, operator.path(), &["status", "--json"]));
    let commands = &status["nodes"][0]["commands"];
    assert_eq!(
        commands,
        &json!(["system.run", "system.run.prepare", "system.which"])
    );
    let which = [
        "invoke",
        "--node",
        "pi",
        "--command",
        "system.which",
        "--params",
    ];
    let which: Vec<&str> = which
        .into_iter()
        .chain([r#"{"bins":["sh","nope"]}"#, "--json"])
        .collect();
    let found = json_of(&nodes(&gateway, operator.path(), &which));
    assert_eq!(
        found["payload"]["bins"].as_object().unwrap().len(),
        1,
        "{found}"
    );

    // Nobody wrote a policy: nothing passes unasked.
    let mut owner = gateway.owner(4);
    let id = id_of(&mut owner, "pi");
    let unasked = run(&id, &json!({"command": ["echo", "hi"]}), "unasked");
    let error = owner.refused("node.invoke", &unasked);
    assert_eq!(
        error.message,
        "UNAVAILABLE: SYSTEM_RUN_DENIED: approval required"
    );

    host.allow(&json!({"security": "full", "ask": "off"}));
    let done = nodes(
        &gateway,
        operator.path(),
        &["run", "--node", "pi", "echo", "hi"],
    );
    assert_eq!(
        (done.status.code(), &*done.stdout),
        (Some(0), &b"hi\n"[..]),
        "{done:?}"
    );
    let failed = nodes(
        &gateway,
        operator.path(),
        &[
            "run",
            "--node",
            "pi",
            "--json",
            "--",
            "/bin/sh",
            "-c",
            "echo oops >&2; exit 3",
        ],
    );
    assert_eq!(failed.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(
        answer["payload"],
        json!({
            "exitCode": 3, "timedOut": false, "success": false, "stdout": "", "stderr": "oops\n",
            "error": null,
        })
    );

    // What the node's environment holds is not the program's, and the caller chooses no PATH.
    let printed = owner.call(
        "node.invoke",
        &run(&id, &json!({"command": ["env"], "env": {"A": "1"}}), "env"),
    );
    let printed = printed["payload"]["stdout"].as_str().unwrap().to_owned();
    assert!(
        printed.contains("A=1") && printed.contains("PATH=/usr/bin:/bin"),
        "{printed}"
    );
    assert!(!printed.contains("canary"), "{printed}");
    for name in [
        "PATH",
        "LD_PRELOAD",
        "BASH_ENV",
        "a b",
        "CLAWGATE_GATEWAY_TOKEN",
    ] {
        let params = json!({"command": ["env"], "env": {name: "x"}});
        let error = owner.refused("node.invoke", &run(&id, &params, name));
        assert_eq!(
            error.detail("nodeError")["code"],
            "INVALID_REQUEST",
            "{name}"
        );
    }
    let long = owner.call(
        "node.invoke",
        &run(
            &id,
            &json!({"command": ["sh", "-c", "yes | head -c 1000000; sleep 600"], "timeoutMs": 300}),
            "long",
        ),
    );
    assert_eq!(
        (&long["payload"]["timedOut"], &long["payload"]["success"]),
        (&json!(true), &json!(false))
    );
    assert!(long["payload"]["stdout"].as_str().unwrap().len() < 210_000);

    // A list names programs; a shell passes by no entry that names it.
    let file = json!({"version": 1, "defaults": {"security": "allowlist", "ask": "off"},
        "agents": {"main": {"allowlist": [{"pattern": "/**"}]}}});
    fs::write(host.policy(), file.to_string()).unwrap();
    let listed = owner.call(
        "node.invoke",
        &run(&id, &json!({"command": ["uname"]}), "l1"),
    );
    assert_eq!(listed["payload"]["success"], true);
    let error = owner.refused(
        "node.invoke",
        &run(&id, &json!({"command": ["sh", "-c", "uname"]}), "l2"),
    );
    assert_eq!(
        error.message,
        "UNAVAILABLE: SYSTEM_RUN_DENIED: allowlist miss (runs_others)"
    );
    fs::write(host.policy(), "{").unwrap();
    let error = owner.refused(
        "node.invoke",
        &run(&id, &json!({"command": ["uname"]}), "l3"),
    );
    assert!(
        error.message.contains("the policy does not read"),
        "{}",
        error.message
    );
}

/// Waits until no process carries this mark in its arguments.
fn gone(mark: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let alive = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            fs::read(entry.path().join("cmdline")).is_ok_and(|line| {
                let line = String::from_utf8_lossy(&line).into_owned();
                line.contains(mark) && line.contains("sleep")
            })
        });
        if !alive {
            return;
        }
        assert!(Instant::now() < deadline, "{mark} lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_program_that_nobody_waits_for_any_more_is_ended() {
    let gateway = gateway!();
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&gateway, dir.path(), "pi", &[]);
    host.says("connected to");
    host.allow(&json!({"security": "full", "ask": "off"}));
    let mut owner = gateway.owner(4);
    let id = id_of(&mut owner, "pi");
    let (fifo, mark) = (
        dir.path().join("started"),
        format!("600.{}", std::process::id()),
    );
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let script = format!("echo > {}; sleep {mark} & wait", fifo.display());
    owner.send(
        "node.invoke",
        &run(&id, &json!({"command": ["sh", "-c", script]}), "k"),
    );
    // It runs once it writes.
    fs::read_to_string(&fifo).unwrap();
    drop(owner);
    gone(&mark);
}

#[test]
fn a_node_that_is_killed_fails_what_it_ran_and_its_fellow_goes_on() {
    let gateway = gateway!();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = Host::start(&gateway, one.path(), "one", &[]);
    let second = Host::start(&gateway, two.path(), "two", &[]);
    for host in [&first, &second] {
        host.says("connected to");
        host.allow(&json!({"security": "full", "ask": "off"}));
    }
    let mut owner = gateway.owner(3);
    let (a, b) = (id_of(&mut owner, "one"), id_of(&mut owner, "two"));
    assert_ne!(a, b);
    let fifo = one.path().join("started");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let script = format!("echo > {}; exec sleep 20", fifo.display());
    let call = owner.send(
        "node.invoke",
        &run(&a, &json!({"command": ["sh", "-c", script]}), "k"),
    );
    fs::read_to_string(&fifo).unwrap();
    let began = Instant::now();
    first.child.kill().unwrap();
    let Call::Error(error) = owner.answer(&call) else {
        panic!("nobody answers any more")
    };
    assert_eq!(error.detail("nodeError")["code"], "NODE_DISCONNECTED");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "at once, not after its time"
    );
    let other = owner.call(
        "node.invoke",
        &run(&b, &json!({"command": ["echo", "two"]}), "k"),
    );
    assert_eq!(other["payload"]["stdout"], "two\n");
}

#[test]
fn a_node_comes_back_by_itself_and_ends_in_order() {
    let mut gateway = home!(token_config()).port(free_port()).start();
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::start(&gateway, dir.path(), "pi", &[]);
    let first = host.says("connected to");
    gateway.kill();
    host.says("disconnected");
    gateway.restart();
    let again = host.says("connected to");
    assert_eq!(first, again, "it is the same node");
    let mut owner = gateway.owner(4);
    let id = id_of(&mut owner, "pi");
    let shown = owner.call("node.describe", &json!({"nodeId": id}));
    assert!(
        shown["withheld"].is_null(),
        "what was approved still is: {shown}"
    );
    let pid = host.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(host.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_secret_ends_the_node_and_a_device_that_is_unknown_elsewhere_waits() {
    let gateway = gateway!();
    let dir = tempfile::tempdir().unwrap();
    let refused = Command::new(binary())
        .args([
            "node",
            "run",
            "--url",
            &url(&gateway),
            "--token",
            "wrong",
            "--state-dir",
        ])
        .arg(dir.path())
        .env_clear()
        .env("HOME", dir.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let operator = tempfile::tempdir().unwrap();
    let unknown = nodes(
        &gateway,
        operator.path(),
        &["describe", "--node", "zzz", "--json"],
    );
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("unknown node: zzz"));
    let reserved = ["invoke", "--node", "x", "--command", "system.run"];
    assert_eq!(
        nodes(&gateway, operator.path(), &reserved).status.code(),
        Some(2)
    );
}

#[test]
fn the_command_line_shows_what_waits_and_decides_it() {
    let gateway = gateway!();
    let (dir, operator) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Host::start(&gateway, dir.path(), "pi", &[]);
    host.says("connected to");
    let at = operator.path();
    json_of(&nodes(&gateway, at, &["remove", "--node", "pi", "--json"]));
    drop(host);
    let host = Host::start(&gateway, dir.path(), "pi", &[]);
    host.says("connected to");
    let pending = json_of(&nodes(&gateway, at, &["pending", "--json"]));
    let request = pending[0]["requestId"].as_str().unwrap().to_owned();
    let described = nodes(&gateway, at, &["describe", "--node", "PI"]);
    let text = String::from_utf8_lossy(&described.stdout).into_owned();
    assert!(
        text.contains("waits for approval") && text.contains(&request),
        "{text}"
    );
    let refused = nodes(&gateway, at, &["run", "--node", "pi", "id"]);
    assert_eq!(refused.status.code(), Some(1));
    let approved = nodes(&gateway, at, &["approve", &request[..8]]);
    assert!(
        String::from_utf8_lossy(&approved.stdout).contains("pi may run"),
        "{approved:?}"
    );
    let renamed = json_of(&nodes(
        &gateway,
        at,
        &["rename", "--node", "pi", "--name", "Attic", "--json"],
    ));
    assert_eq!(renamed["displayName"], "Attic");
    host.allow(&json!({"security": "full", "ask": "off"}));
    // The only node that is here need not be named.
    let done = nodes(&gateway, at, &["run", "echo", "there"]);
    assert_eq!(&*done.stdout, b"there\n", "{done:?}");
}
