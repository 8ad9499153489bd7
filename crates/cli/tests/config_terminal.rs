//! `config` and `secrets` at the terminal.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/terminal.rs"]
mod terminal;

use std::fs;

use clawgate_testkit::{TOKEN, gateway};
use serde_json::json;
use terminal::Terminal;

const TEXT: &str = "{ // mine\n  gateway: {auth: {token: 'canary-1'}}, // kept\n}\n";

fn file(terminal: &Terminal) -> String {
    fs::read_to_string(terminal.state_dir().join("clawgate.json")).unwrap()
}

#[test]
fn values_are_set_and_removed_in_the_file_without_a_gateway() {
    let terminal = Terminal::new().config(TEXT);
    drop(
        terminal
            .run(&["config", "set", "gateway.port", "0x10"])
            .exits(0)
            .says("updated gateway.port"),
    );
    drop(
        terminal
            .run(&["config", "set", "agents.list[0].id", "main"])
            .exits(0),
    );
    drop(
        terminal
            .run(&["config", "patch", "{cron: {maxConcurrentRuns: 4}}"])
            .exits(0)
            .says("patched"),
    );
    let text = file(&terminal);
    assert!(
        text.contains("// mine") && text.contains("// kept") && text.contains("canary-1"),
        "{text}"
    );
    drop(
        terminal
            .run(&["config", "get", "gateway.port"])
            .exits(0)
            .says("16"),
    );
    drop(
        terminal
            .run(&["config", "get", "agents.list[0].id"])
            .exits(0)
            .says("main"),
    );
    drop(
        terminal
            .run(&["config", "get", "gateway.auth.token"])
            .exits(0)
            .says("__OPENCLAW_REDACTED__"),
    );
    let done = terminal
        .run(&["config", "unset", "cron", "--json"])
        .exits(0);
    assert_eq!(done.json()["ok"], true);
    assert!(!file(&terminal).contains("cron"));
    drop(
        terminal
            .run(&["config", "unset", "cron"])
            .exits(1)
            .complains("cron is not set"),
    );
    assert!(terminal.state_dir().join("clawgate.json.bak").exists());

    let before = file(&terminal);
    for (args, words) in [
        (
            &["config", "set", "gateway.port", "seventy"][..],
            "gateway.port: expected a whole number",
        ),
        (
            &["config", "set", "gateway.auth.password", "p"],
            "gateway.auth.mode",
        ),
        (
            &[
                "config",
                "set",
                "gateway.remote.token",
                "__OPENCLAW_REDACTED__",
            ],
            "gateway.remote.token",
        ),
        (&["config", "set", "gateway.port[0]", "1"], "no list"),
    ] {
        drop(
            terminal
                .run(args)
                .exits(1)
                .complains(words)
                .never_says("canary-1"),
        );
    }
    drop(
        terminal
            .run(&["config", "set", "a", "{x", "--strict-json"])
            .exits(2),
    );
    drop(terminal.run(&["config", "patch", "[]"]).exits(2));
    assert_eq!(file(&terminal), before);
    let failed = terminal
        .run(&["config", "set", "gateway.port", "x", "--json"])
        .exits(1);
    assert_eq!(failed.json_error()["code"], "CONFIG_INVALID");
    // A first value makes the file.
    let fresh = Terminal::new();
    drop(
        fresh
            .run(&["config", "set", "cron.enabled", "false"])
            .exits(0),
    );
    assert!(file(&fresh).contains("enabled"));
    let schema = fresh.run(&["config", "schema"]).exits(0).json();
    assert_eq!(schema["properties"]["cron"]["type"], "object");
    drop(fresh.run(&["config", "schema", "gateway.nope"]).exits(1));
}

#[test]
fn a_gateway_that_is_named_is_changed_over_the_wire() {
    let gateway = gateway!();
    let url = format!("ws://{}", gateway.address());
    let terminal = Terminal::new();
    let run = |args: &[&str]| {
        let mut args = args.to_vec();
        args.extend(["--url", &url, "--token", TOKEN]);
        terminal.run(&args)
    };
    drop(
        run(&["config", "set", "cron.enabled", "false"])
            .exits(0)
            .says("updated"),
    );
    assert_eq!(
        gateway.owner(4).call("cron.status", &json!({}))["enabled"],
        false
    );
    let done = run(&["config", "set", "gateway.bind", "lan", "--json"]).exits(0);
    assert_eq!(done.json()["restart"], json!(["gateway.bind"]));
    drop(
        run(&["config", "unset", "gateway.bind"])
            .exits(0)
            .complains("it holds now"),
    );
    drop(
        run(&["config", "set", "cron.enabled", "maybe"])
            .exits(1)
            .complains("cron.enabled"),
    );
    drop(
        run(&["secrets", "reload"])
            .exits(0)
            .says("secrets reloaded"),
    );
    let text = fs::read_to_string(gateway.home().config()).unwrap();
    assert!(
        text.contains(TOKEN) && !text.contains("__OPENCLAW"),
        "{text}"
    );
    assert!(!terminal.state_dir().join("clawgate.json").exists());
}

#[test]
fn an_audit_finds_secrets_in_the_file_and_references_that_lead_nowhere() {
    let terminal = Terminal::new().config(TEXT);
    let done = terminal
        .run(&["secrets", "audit", "--json"])
        .exits(0)
        .never_says("canary-1");
    let told = done.json();
    assert_eq!(
        (&told["version"], &told["status"]),
        (&json!(1), &json!("findings"))
    );
    assert_eq!(told["summary"]["plaintextCount"], 1);
    assert_eq!(told["findings"][0]["code"], "PLAINTEXT_FOUND");
    assert_eq!(told["findings"][0]["jsonPath"], "gateway.auth.token");
    drop(terminal.run(&["secrets", "audit", "--check"]).exits(1));
    let terminal = Terminal::new().config("{gateway: {auth: {token: '${NOT_SET_AT_ALL}'}}}");
    drop(
        terminal
            .run(&["secrets", "audit", "--check"])
            .exits(2)
            .says("NOT_SET_AT_ALL"),
    );
    let terminal = Terminal::new()
        .env("A_SECRET", "canary-1")
        .config("{gateway: {auth: {token: '${A_SECRET}'}}}");
    drop(
        terminal
            .run(&["secrets", "audit", "--check"])
            .exits(0)
            .says("clean")
            .never_says("canary-1"),
    );
}

#[test]
fn every_configuration_that_the_readme_shows_is_one() {
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```js\n").skip(1);
    let shown: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(shown.len() >= 3, "{shown:?}");
    for text in shown {
        let terminal = Terminal::new()
            .config(text)
            .env("CLAWGATE_TOKEN", "tok-1")
            .env("HOOK_TOKEN", "tok-2")
            .env("HOOKS_TOKEN", "tok-3");
        let done = terminal.run(&["config", "validate"]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{text}");
    }
}
