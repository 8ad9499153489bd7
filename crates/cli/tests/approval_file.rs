//! The file of what may be run without asking: read, replaced from what was read, added to.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use clawgate_testkit::{Call, Client, TestGateway, gateway};
use serde_json::{Value, json};

const GET: &str = "exec.approvals.get";
const SET: &str = "exec.approvals.set";

fn path(gateway: &TestGateway) -> PathBuf {
    gateway.home().state().join("exec-approvals.json")
}

fn written(gateway: &TestGateway) -> Value {
    serde_json::from_str(&fs::read_to_string(path(gateway)).unwrap()).unwrap()
}

fn get(client: &mut Client) -> Value {
    client.call(GET, &json!({}))
}

#[test]
fn the_file_is_replaced_from_what_was_read_and_from_nothing_else() {
    let gateway = gateway!();
    for protocol in [3, 4] {
        let _ = fs::remove_file(path(&gateway));
        let mut client = gateway.owner(protocol);
        let empty = get(&mut client);
        assert_eq!(empty["exists"], false);
        let file = json!({
            "version": 1, "defaults": {"security": "allowlist", "ask": "on-miss"},
            "agents": {"main": {"allowlist": [{"pattern": "/usr/bin/ls"}]}},
        });
        let params = json!({"file": file, "baseHash": empty["hash"]});
        let set = client.call(SET, &params);
        assert_eq!(set["exists"], true);
        assert_eq!(set["file"]["defaults"], file["defaults"]);
        let entry = &set["file"]["agents"]["main"]["allowlist"][0];
        assert_eq!(entry["pattern"], "/usr/bin/ls");
        assert!(!entry["id"].as_str().unwrap().is_empty());
        assert_eq!(get(&mut client), set);
        assert_eq!(set.get("resolvedDefaults").is_some(), protocol == 4);
        let mode = fs::metadata(path(&gateway)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(path(&gateway)).unwrap();
        for (params, words) in [
            (
                json!({"file": {"version": 1}}),
                "exec approvals base hash required; re-run exec.approvals.get and retry",
            ),
            (
                json!({"file": {"version": 1}, "baseHash": "bad"}),
                "exec approvals changed since last load; re-run exec.approvals.get and retry",
            ),
            (
                json!({"file": {"version": 2}, "baseHash": "x"}),
                "invalid exec.approvals.set params: at /file/version: must be equal to constant",
            ),
            (
                json!({"file": {"version": 1, "agents": {"a": {"allowlist": [{}]}}}}),
                "invalid exec.approvals.set params: at /file/agents/a/allowlist/0: \
                 must have required property 'pattern'",
            ),
            (
                json!({"file": {"version": 1, "x": 1}, "baseHash": set["hash"]}),
                "invalid exec.approvals.set params: at /file: unexpected property 'x'",
            ),
        ] {
            let refused = client.refused(SET, &params);
            assert_eq!(
                (refused.code.as_str(), refused.message.as_str()),
                ("INVALID_REQUEST", words)
            );
        }
        assert_eq!(fs::read(path(&gateway)).unwrap(), before);
    }
}

#[test]
fn of_many_who_start_from_the_same_file_one_replaces_it() {
    let gateway = gateway!();
    let mut clients: Vec<Client> = (0..8).map(|n| gateway.owner(3 + n % 2)).collect();
    for round in 0..5 {
        let base = get(&mut clients[0])["hash"].clone();
        let sent: Vec<String> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let agents = json!({format!("agent-{round}-{number}"): {"security": "deny"}});
                let file = json!({"version": 1, "agents": agents});
                client.send(SET, &json!({"file": file, "baseHash": base}))
            })
            .collect();
        let mut won = Vec::new();
        for (client, sent) in clients.iter_mut().zip(&sent) {
            match client.answer(sent) {
                Call::Ok(payload) => won.push(payload),
                Call::Error(error) => assert!(error.message.contains("changed since last load")),
                Call::Closed(close) => panic!("{close:?}"),
            }
        }
        assert_eq!(won.len(), 1);
        assert_eq!(get(&mut clients[0])["hash"], won[0]["hash"]);
    }
}

#[test]
fn the_sockets_secret_and_what_is_not_known_stay_where_they_are() {
    let gateway = gateway!();
    let text = json!({
        "version": 1, "later": {"a": 1},
        "socket": {"path": "/run/s.sock", "token": "canary-secret"},
        "defaults": {"security": "deny", "strict": true},
        "agents": {"main": {"allowlist": [
            {"id": "a", "pattern": "/bin/sh", "argv": ["sh", "-c", "x"], "note": "mine"},
        ]}},
    });
    fs::write(path(&gateway), text.to_string()).unwrap();
    for protocol in [3, 4] {
        let mut client = gateway.owner(protocol);
        let mut read = get(&mut client);
        let said = read.to_string();
        for hidden in ["canary", "strict", "later", "note"] {
            assert!(!said.contains(hidden), "{hidden}");
        }
        assert_eq!(read["file"]["socket"], json!({"path": "/run/s.sock"}));
        // A client that knows less writes back what it knows.
        let entry = read["file"]["agents"]["main"]["allowlist"][0]
            .as_object_mut()
            .unwrap();
        entry.remove("argv");
        read["file"]["defaults"]["security"] = json!("allowlist");
        let params = json!({"file": read["file"], "baseHash": read["hash"]});
        let said = client.call(SET, &params).to_string();
        assert!(!said.contains("canary"));
        let mut wanted = text.clone();
        wanted["defaults"]["security"] = json!("allowlist");
        assert_eq!(written(&gateway), wanted);
    }
}

#[test]
fn a_file_that_cannot_be_understood_is_left_as_it_is() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    for text in [
        "",
        "{",
        "[]",
        r#"{"version": 2}"#,
        r#"{"version": 1, "agents": 5}"#,
    ] {
        fs::write(path(&gateway), text).unwrap();
        for params in [
            json!({"file": {"version": 1}}),
            json!({"file": {"version": 1}, "baseHash": "x"}),
        ] {
            let refused = client.refused(SET, &params);
            assert_eq!(refused.detail_code(), "EXEC_APPROVALS_UNREADABLE", "{text}");
        }
        let refused = client.refused(GET, &json!({}));
        assert_eq!(refused.detail_code(), "EXEC_APPROVALS_UNREADABLE", "{text}");
        assert_eq!(fs::read_to_string(path(&gateway)).unwrap(), text);
    }
}

#[test]
fn what_is_allowed_for_good_stands_in_the_file_as_narrow_as_it_was_asked() {
    let mut gateway = gateway!();
    let hash = "ab".repeat(32);
    let allow = |gateway: &TestGateway, params: Value| {
        let mut client = gateway.owner(3);
        let id = params["id"].clone();
        client.send("exec.approval.request", &params);
        client.event("exec.approval.requested");
        client.call(
            "exec.approval.resolve",
            &json!({"id": id, "decision": "allow-always"}),
        )
    };
    let plain = json!({
        "id": "a", "command": "ls -l", "commandArgv": ["ls", "-l"], "cwd": "/w",
        "resolvedPath": "/usr/bin/ls", "resolvedSha256": hash, "agentId": "work",
    });
    assert_eq!(allow(&gateway, plain)["kept"], true);
    let shell = json!({
        "id": "b", "command": "sh -c 'rm x'", "commandArgv": ["sh", "-c", "rm x"], "cwd": "/w",
        "resolvedPath": "/usr/bin/dash", "resolvedSha256": hash,
    });
    assert_eq!(allow(&gateway, shell)["kept"], true);
    for (id, change) in [
        ("c", json!({"resolvedPath": null})),
        ("d", json!({"resolvedPath": "/tmp/*"})),
        ("e", json!({"env": {"LD_PRELOAD": "/tmp/x.so"}})),
        ("f", json!({"commandArgv": []})),
    ] {
        let mut params = json!({
            "id": id, "command": "ls", "commandArgv": ["ls"], "resolvedPath": "/usr/bin/ls",
        });
        params
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let answer = allow(&gateway, params);
        assert_eq!(
            (&answer["ok"], &answer["kept"]),
            (&json!(true), &json!(false)),
            "{id}"
        );
    }
    gateway.kill();
    let agents = &written(&gateway)["agents"];
    let entry = &agents["work"]["allowlist"][0];
    assert_eq!(
        (&entry["pattern"], &entry["sha256"]),
        (&json!("/usr/bin/ls"), &json!(hash))
    );
    assert_eq!((entry.get("argv"), entry.get("cwd")), (None, None));
    assert_eq!(entry["lastUsedCommand"], "ls -l");
    let list = agents["main"]["allowlist"].as_array().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["argv"], json!(["sh", "-c", "rm x"]));
    assert_eq!(list[0]["cwd"], "/w");
}

#[test]
fn the_file_of_a_node_that_is_not_here_cannot_be_had() {
    let gateway = gateway!();
    for protocol in [3, 4] {
        let mut client = gateway.owner(protocol);
        for (method, params) in [
            ("exec.approvals.node.get", json!({"nodeId": "nope"})),
            (
                "exec.approvals.node.set",
                json!({"nodeId": "nope", "file": {"version": 1}}),
            ),
        ] {
            let refused = client.refused(method, &params);
            assert_eq!(refused.code, "UNAVAILABLE");
            assert_eq!(refused.message, "NOT_CONNECTED: node not connected");
            let fault = json!({"code": "NOT_CONNECTED", "message": "node not connected"});
            assert_eq!(refused.detail("nodeError"), &fault);
        }
        client.refused("exec.approvals.node.set", &json!({"nodeId": "nope"}));
    }
}
