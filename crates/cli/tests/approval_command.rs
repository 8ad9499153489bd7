//! `clawgate approvals`: what waits is seen and decided, what runs unasked is read and changed.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Output, Stdio},
};

use clawgate_testkit::{Call, TestGateway, gateway};
use serde_json::{Value, json};

fn command(gateway: &TestGateway, args: &[&str]) -> Command {
    let home = gateway.home();
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawgate"));
    command
        .args(["--state-dir".as_ref(), home.state().as_os_str()])
        .args(["--config".as_ref(), home.config().as_os_str()])
        .arg("approvals")
        .args(args)
        .env_clear()
        .env("HOME", home.state())
        .env(
            "CLAWGATE_GATEWAY_PORT",
            gateway.address().port().to_string(),
        );
    command
}

fn ran(gateway: &TestGateway, args: &[&str]) -> Output {
    command(gateway, args).output().unwrap()
}

#[track_caller]
fn said(gateway: &TestGateway, args: &[&str]) -> String {
    let output = ran(gateway, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json_of(gateway: &TestGateway, args: &[&str]) -> Value {
    serde_json::from_str(&said(gateway, args)).unwrap()
}

#[test]
fn what_waits_is_shown_whole_and_decided_once() {
    let gateway = gateway!();
    let mut asking = gateway.owner(4);
    assert_eq!(
        said(&gateway, &["pending"]).trim(),
        "no command waits for a decision"
    );
    let long = format!("echo {} \u{1b}[2J the end", "x".repeat(400));
    let params = json!({"id": "abcdef-1", "command": long, "cwd": "/w", "twoPhase": true});
    let request = asking.send("exec.approval.request", &params);
    assert!(matches!(asking.answer(&request), Call::Ok(_)));
    let shown = said(&gateway, &["pending"]);
    assert!(
        shown.contains(&format!("echo {} \\u{{1B}}[2J the end", "x".repeat(400))),
        "{shown}"
    );
    assert!(shown.contains("/w") && !shown.contains('\u{1b}'));
    assert_eq!(
        json_of(&gateway, &["pending", "--json"])[0]["id"],
        "abcdef-1"
    );
    assert_eq!(
        said(&gateway, &["allow", "abcdef"]).trim(),
        "abcdef: allowed"
    );
    let Call::Ok(answer) = asking.answer(&request) else {
        panic!("it is answered")
    };
    assert_eq!(answer["decision"], "allow-once");
    let late = ran(&gateway, &["deny", "abcdef-1", "--json"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("APPROVAL_ALREADY_RESOLVED"));
}

#[test]
fn who_watches_sees_what_waits_what_comes_and_what_becomes_of_it() {
    let gateway = gateway!();
    let mut asking = gateway.owner(3);
    asking.send(
        "exec.approval.request",
        &json!({"id": "first", "command": "ls"}),
    );
    asking.event("exec.approval.requested");
    let mut watching = command(&gateway, &["watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || -> (String, String) {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&line["event"]), text(&line["payload"]["id"]))
    };
    let pair = |event: &str, id: &str| (event.to_owned(), id.to_owned());
    assert_eq!(next(), pair("exec.approval.requested", "first"));
    asking.send(
        "exec.approval.request",
        &json!({"id": "second", "command": "ls"}),
    );
    assert_eq!(next(), pair("exec.approval.requested", "second"));
    said(&gateway, &["deny", "first"]);
    assert_eq!(next(), pair("exec.approval.resolved", "first"));
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn the_file_is_changed_here_and_through_the_gateway_alike() {
    let gateway = gateway!();
    for place in [&[][..], &["--gateway"]] {
        let with = |args: &[&str]| {
            let all: Vec<&str> = args.iter().chain(place).copied().collect();
            json_of(&gateway, &[&all[..], &["--json"]].concat())
        };
        let added = with(&["allowlist", "add", "/usr/bin/uptime", "--agent", "main"]);
        let entry = &added["file"]["agents"]["main"]["allowlist"][0];
        assert_eq!(entry["pattern"], "/usr/bin/uptime");
        assert!(entry["id"].is_string() && entry["lastUsedAt"].is_i64());
        assert_eq!(with(&["get"]), added);
        let again = with(&["allowlist", "add", "/usr/bin/uptime", "--agent", "main"]);
        assert_eq!(again["file"], added["file"]);
        let removed = with(&["allowlist", "remove", "/usr/bin/uptime", "--agent", "main"]);
        assert_eq!(removed["file"]["agents"], json!({}));
        let file = json!({"version": 1, "defaults": {"security": "allowlist"}, "agents": {}});
        let all = [&["set", "--stdin", "--json"], place].concat();
        let mut set = command(&gateway, &all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = set.stdin.take().unwrap();
        stdin.write_all(file.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = set.wait_with_output().unwrap();
        assert!(output.status.success());
        // One line, as the original prints it.
        assert_eq!(
            output.stdout.iter().filter(|byte| **byte == b'\n').count(),
            1
        );
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(shown["file"]["defaults"], file["defaults"]);
    }
    let page = said(&gateway, &["get"]);
    assert!(page.contains("security=allowlist"), "{page}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_written() {
    let gateway = gateway!();
    let path = gateway.home().state().join("exec-approvals.json");
    for (args, code, words) in [
        (&["allowlist", "add", "ls"][..], 2, "would never match"),
        (&["allowlist", "add", "**/ls"], 2, "would never match"),
        (
            &["allowlist", "remove", "/usr/bin/ls"],
            1,
            "is not listed for agent *",
        ),
        (&["set"], 2, "--file PATH or --stdin"),
        (&["set", "--file", "/nowhere"], 2, "cannot be read"),
        (
            &["get", "--node", "kitchen"],
            1,
            "no node is called kitchen",
        ),
    ] {
        let output = ran(&gateway, args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(errors.contains(words), "{args:?}: {errors}");
        assert!(!path.exists(), "{args:?}");
    }
    let output = ran(&gateway, &["allowlist", "add", "/bin/bash"]);
    let note = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && note.contains("runs what its arguments say"),
        "{note}"
    );
}
