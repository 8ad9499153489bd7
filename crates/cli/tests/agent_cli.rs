//! Agents, models, skills and channels at the terminal: without a gateway, and beside one.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/terminal.rs"]
mod terminal;

use std::fs;

use clawgate_testkit::{TOKEN, gateway};
use serde_json::{Value, json};
use terminal::Terminal;

const CONFIG: &str = "{ // mine
  gateway: {auth: {mode: 'token', token: 'canary-token'}},
  models: {providers: {mock: {baseUrl: 'http://127.0.0.1:1/v1', apiKey: 'canary-key', models: [
    {id: 'mock-1', name: 'Mock One', input: ['text', 'image'], contextWindow: 32000}, {id: 'other'}]}}},
  agents: {defaults: {model: {primary: 'fast', fallbacks: ['cloud/big']}, models: {'mock/mock-1': {alias: 'fast'}, 'cloud/big': {}}}},
  bindings: [{agentId: 'cli-agent', match: {channel: 'x', accountId: 'a'}}],
}
";

fn config(terminal: &Terminal) -> String {
    fs::read_to_string(terminal.state_dir().join("clawgate.json")).unwrap()
}

#[test]
fn agents_are_listed_added_named_and_removed_as_the_original_prints_it() {
    let terminal = Terminal::new().config(CONFIG);
    let state = terminal.state_dir();
    let agent_dir = |id: &str| state.join("agents").join(id).join("agent");
    let list = terminal.run(&["agents", "list", "--json"]).exits(0).json();
    let want = json!([{"id": "main", "workspace": state.join("workspace"), "agentDir": agent_dir("main"),
        "model": "fast", "bindings": 0, "isDefault": true, "routes": ["default (no explicit rules)"]}]);
    assert_eq!(list, want);
    let added = terminal
        .run(&[
            "agents",
            "add",
            "Cli Agent",
            "--model",
            "mock/other",
            "--non-interactive",
            "--json",
        ])
        .exits(0)
        .json();
    let workspace = state.join("workspace-cli-agent");
    let none = json!([]);
    let want = json!({"agentId": "cli-agent", "name": "Cli Agent", "workspace": workspace,
        "agentDir": agent_dir("cli-agent"),
        "bindings": {"added": none, "updated": none, "skipped": none, "conflicts": none}});
    assert_eq!(added, want);
    assert!(workspace.join("AGENTS.md").exists());
    let named = terminal
        .run(&[
            "agents",
            "set-identity",
            "--agent",
            "cli-agent",
            "--name",
            "Cli",
            "--emoji",
            "🐚",
            "--json",
        ])
        .exits(0)
        .json();
    let want = json!({"agentId": "cli-agent", "identity": {"name": "Cli", "emoji": "🐚"},
        "workspace": null, "identityFile": null});
    assert_eq!(named, want);
    let list = terminal.run(&["agents", "list", "--json"]).exits(0).json();
    let want = json!({"id": "cli-agent", "name": "Cli Agent", "identityName": "Cli", "identityEmoji": "🐚",
        "workspace": workspace, "agentDir": agent_dir("cli-agent"), "model": "mock/other", "bindings": 1,
        "isDefault": false, "routes": ["x accountId=a"]});
    assert_eq!(list[1], want);
    let bindings = terminal
        .run(&["agents", "bindings", "--json"])
        .exits(0)
        .json();
    assert_eq!(bindings[0]["description"], "x accountId=a");
    drop(
        terminal
            .run(&["agents", "list"])
            .exits(0)
            .says("cli-agent")
            .says("MODEL"),
    );
    let from_file = terminal
        .run(&[
            "agents",
            "set-identity",
            "--agent",
            "cli-agent",
            "--from-identity",
            "--json",
        ])
        .exits(0)
        .json();
    assert_eq!(from_file["identity"]["name"], "Cli Agent");
    drop(terminal.run(&["agents", "delete", "cli-agent"]).exits(2));
    assert!(workspace.exists());
    let gone = terminal
        .run(&["agents", "delete", "cli-agent", "--force", "--json"])
        .exits(0)
        .json();
    let want = json!({"agentId": "cli-agent", "workspace": workspace, "agentDir": agent_dir("cli-agent"),
        "sessionsDir": state.join("agents/cli-agent/sessions"), "removedBindings": 1, "removedAllow": 0});
    assert_eq!(gone, want);
    assert!(!workspace.exists());
    let text = config(&terminal);
    assert!(
        text.starts_with("{ // mine") && text.contains("canary-token"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let terminal = Terminal::new().config(CONFIG);
    for args in [
        vec!["agents", "add", "main"],
        vec!["agents", "delete", "main", "--force"],
        vec!["agents", "delete", "nobody", "--force"],
        vec!["agents", "set-identity", "--agent", "nobody", "--name", "x"],
        vec!["agents", "add", "x", "--workspace", "/"],
        vec!["skills", "info", "nope"],
    ] {
        drop(terminal.run(&args).exits(1).never_says("canary"));
    }
    let reserved = terminal.run(&["agents", "add", "main", "--json"]).exits(1);
    assert_eq!(reserved.json_error()["message"], "\"main\" is reserved");
    let unknown = terminal
        .run(&["agents", "delete", "zz", "--force"])
        .exits(1);
    drop(unknown.complains("agent \"zz\" not found"));
    assert_eq!(config(&terminal), CONFIG);
    let broken = Terminal::new().config("{gateway: {port: 'x'}}");
    drop(broken.run(&["agents", "add", "x"]).exits(78));
    assert!(!broken.state_dir().join("clawgate.json.bak").exists());
}

#[test]
fn a_gateway_that_runs_takes_up_what_the_terminal_changed() {
    let gateway = gateway!();
    let terminal = Terminal::new();
    let state = gateway.home().state().display().to_string();
    let file = gateway.home().config().display().to_string();
    let place = ["--state-dir", state.as_str(), "--config", file.as_str()];
    let added = ["agents", "add", "ops", "--json"];
    drop(terminal.run(&[&place[..], &added[..]].concat()).exits(0));
    gateway.says("another configuration holds");
    let list = gateway.owner(4).call("agents.list", &json!({}));
    assert_eq!(list["agents"][1]["id"], "ops");
    let url = format!("ws://{}", gateway.address());
    let reach = [
        "channels",
        "status",
        "--json",
        "--url",
        url.as_str(),
        "--token",
        TOKEN,
    ];
    let status = terminal.run(&reach).exits(0).json();
    assert_eq!(status["channelOrder"], json!([]));
    let list = terminal
        .run(&["channels", "list", "--json"])
        .exits(0)
        .json();
    assert_eq!((&list["chat"], &list["auth"]), (&json!({}), &json!([])));
}

#[test]
fn models_are_those_in_use_with_what_is_known_about_them() {
    let terminal = Terminal::new().config(CONFIG);
    let list = terminal.run(&["models", "list", "--json"]).exits(0).json();
    let want = json!({"count": 2, "models": [
        {"key": "cloud/big", "name": "cloud/big", "input": "-", "contextWindow": null, "local": null,
            "available": null, "tags": ["fallback#1", "configured", "missing"], "missing": true},
        {"key": "mock/mock-1", "name": "Mock One", "input": "text+image", "contextWindow": 32_000, "local": true,
            "available": true, "tags": ["default", "configured", "alias:fast"], "missing": false},
    ]});
    assert_eq!(list, want);
    let status = terminal.run(&["models", "status", "--json"]).exits(0);
    let status = status.never_says("canary").json();
    assert_eq!(status["defaultModel"], "fast");
    assert_eq!(status["resolvedDefault"], "mock/mock-1");
    assert_eq!(status["aliases"], json!({"fast": "mock/mock-1"}));
    assert_eq!(status["auth"]["missingProvidersInUse"], json!(["cloud"]));
    assert_eq!(
        status["auth"]["providers"][1]["effective"],
        json!({"kind": "config", "detail": "models.providers.mock.apiKey"})
    );
    drop(
        terminal
            .run(&["models", "status", "--check"])
            .exits(1)
            .says("no key"),
    );
    drop(
        terminal
            .run(&["models", "status", "--plain"])
            .exits(0)
            .says("mock/mock-1"),
    );
    let aliases = terminal
        .run(&["models", "aliases", "list", "--json"])
        .exits(0)
        .json();
    assert_eq!(aliases, json!({"aliases": {"fast": "mock/mock-1"}}));
    let fallbacks = terminal
        .run(&["models", "fallbacks", "list", "--json"])
        .exits(0)
        .json();
    assert_eq!(fallbacks, json!({"fallbacks": ["cloud/big"]}));
}

#[test]
fn skills_are_listed_shown_and_checked() {
    let terminal = Terminal::new().config(CONFIG).env("PATH", "/usr/bin:/bin");
    for (name, bin) in [("ready", "sh"), ("lacking", "no-such-program")] {
        let directory = terminal.state_dir().join("skills").join(name);
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "---\nname: {name}\ndescription: does \u{1b}[31mthings\nmetadata: {{\"openclaw\": {{\"requires\": {{\"bins\": [\"{bin}\"]}}}}}}\n---\n"
        );
        fs::write(directory.join("SKILL.md"), text).unwrap();
    }
    let list = terminal
        .run(&["skills", "list", "--eligible", "--json"])
        .exits(0)
        .json();
    let names: Vec<&Value> = list["skills"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skill| &skill["name"])
        .collect();
    assert_eq!(names, ["ready"]);
    let info = terminal
        .run(&["skills", "info", "lacking", "--json"])
        .exits(0)
        .json();
    assert_eq!(info["missing"]["bins"], json!(["no-such-program"]));
    let check = terminal.run(&["skills", "check", "--json"]).exits(0).json();
    let want =
        json!({"total": 2, "eligible": 1, "disabled": 0, "blocked": 0, "missingRequirements": 1});
    assert_eq!(check["summary"], want);
    assert_eq!(check["eligible"], json!(["ready"]));
    assert_eq!(check["missingRequirements"][0]["name"], "lacking");
    for args in [
        &["skills", "list", "-v"][..],
        &["skills", "check"],
        &["skills", "info", "lacking"],
    ] {
        drop(
            terminal
                .run(args)
                .exits(0)
                .says("no-such-program")
                .never_says("\u{1b}[31m"),
        );
    }
}
