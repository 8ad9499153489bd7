//! `clawgate mcp serve`: raw JSON-RPC on its standard input and output, a real gateway behind it.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use clawgate_testkit::{TestGateway, gateway};
use serde_json::{Value, json};

/// A client of the Model Context Protocol.
struct Desk {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Desk {
    fn start(gateway: &TestGateway, args: &[&str], token: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .args(["mcp", "serve"])
            .args(args)
            .args(["--url", &format!("ws://{}", gateway.address())])
            .args(["--token", token])
            .env_clear()
            .env("HOME", gateway.home().state())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut desk = Self {
            stdin: child.stdin.take(),
            child,
            stdout,
            next: 0,
        };
        let hello = desk.call(
            "initialize",
            &json!({"protocolVersion": "2025-06-18", "capabilities": {},
                "clientInfo": {"name": "desk", "version": "1"}}),
        );
        assert_eq!(hello["result"]["serverInfo"]["name"], "clawgate", "{hello}");
        desk.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        desk
    }

    fn write(&mut self, message: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it ended");
            // Whatever is on standard output is the protocol's.
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == id {
                return message;
            }
        }
    }

    fn tools(&mut self) -> Vec<Value> {
        let answer = self.call("tools/list", &json!({}));
        answer["result"]["tools"].as_array().unwrap().clone()
    }

    fn names(&mut self) -> Vec<String> {
        let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
        self.tools().iter().map(name).collect()
    }

    fn tool(&mut self, name: &str, arguments: &Value) -> Value {
        self.call("tools/call", &json!({"name": name, "arguments": arguments}))
    }

    /// Leaves; gives the exit code.
    fn leave(mut self) -> Option<i32> {
        self.stdin = None;
        self.child.wait().unwrap().code()
    }
}

fn token(gateway: &TestGateway, name: &str, scopes: &[&str]) -> String {
    let created = gateway
        .owner(4)
        .call("tokens.create", &json!({"name": name, "scopes": scopes}));
    created["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_reader_is_offered_what_reads_and_nothing_else() {
    let gateway = gateway!();
    let token = token(&gateway, "desk", &["operator.read"]);
    let mut desk = Desk::start(&gateway, &["--api-token-only"], &token);
    let tools = desk.tools();
    let named = |name: &str| tools.iter().find(|tool| tool["name"] == name);
    for name in ["status", "cron_list", "sessions_list", "config_get"] {
        let tool = named(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{name}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{name}");
    }
    for name in [
        "cron_add",
        "config_set",
        "wake",
        "device_pair_list",
        "connect",
        "node_event",
    ] {
        assert!(named(name).is_none(), "{name}");
    }
    assert!(
        tools
            .iter()
            .all(|tool| tool["annotations"]["readOnlyHint"] == true)
    );
    let listed = desk.tool("cron_list", &json!({}));
    assert_eq!(
        listed["result"]["structuredContent"]["jobs"],
        json!([]),
        "{listed}"
    );
    // What is not offered is not called either, whatever it is called.
    for name in ["cron_add", "cron.add", "cron_list2"] {
        let answer = desk.tool(name, &json!({}));
        assert!(answer["error"].is_object(), "{answer}");
    }
    assert_eq!(desk.leave(), Some(0));
}

#[test]
fn an_administrator_adds_a_job_and_is_told_what_is_wrong_with_another() {
    let gateway = gateway!();
    let token = token(&gateway, "ops", &["operator.admin", "operator.read"]);
    let mut desk = Desk::start(&gateway, &[], &token);
    let add = desk.tools();
    let add = add.iter().find(|tool| tool["name"] == "cron_add").unwrap();
    assert_ne!(add["annotations"]["readOnlyHint"], true);
    let job = json!({"name": "tea", "schedule": {"kind": "every", "everyMs": 3_600_000},
        "sessionTarget": "main", "wakeMode": "now", "payload": {"kind": "systemEvent", "text": "tea"}});
    let added = desk.tool("cron_add", &job);
    assert_ne!(added["result"]["isError"], true, "{added}");
    let listed = desk.tool("cron_list", &json!({}));
    assert_eq!(
        listed["result"]["structuredContent"]["jobs"][0]["name"],
        "tea"
    );
    let wrong = desk.tool("cron_add", &json!({"name": "x"}));
    assert_eq!(wrong["result"]["isError"], true, "{wrong}");
    let said = wrong["result"]["content"][0]["text"].as_str().unwrap();
    assert!(said.contains("schedule"), "{said}");
    assert_eq!(desk.leave(), Some(0));
}

#[test]
fn read_only_leaves_out_what_an_administrator_could_change() {
    let gateway = gateway!();
    let token = token(&gateway, "ops", &["operator.admin", "operator.read"]);
    let mut desk = Desk::start(&gateway, &["--read-only"], &token);
    let names = desk.names();
    assert!(names.contains(&"cron_list".to_owned()));
    assert!(!names.contains(&"cron_add".to_owned()), "{names:?}");
    assert!(desk.tool("cron_add", &json!({}))["error"].is_object());
}

#[test]
fn a_revoked_token_ends_what_can_be_called() {
    let gateway = gateway!();
    let token = token(&gateway, "desk", &["operator.read"]);
    let mut desk = Desk::start(&gateway, &[], &token);
    gateway
        .owner(4)
        .call("tokens.revoke", &json!({"name": "desk"}));
    let answer = desk.tool("status", &json!({}));
    let failed = answer["error"].is_object() || answer["result"]["isError"] == true;
    assert!(failed, "{answer}");
    assert_eq!(desk.leave(), Some(0));
}

#[test]
fn the_shared_token_is_not_taken_for_an_api_token() {
    let gateway = gateway!();
    let output = Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["mcp", "serve", "--api-token-only", "--json"])
        .args(["--url", &format!("ws://{}", gateway.address())])
        .args(["--token", clawgate_testkit::TOKEN])
        .env_clear()
        .env("HOME", gateway.home().state())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("NO_API_TOKEN"));
}
