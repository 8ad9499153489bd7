//! Attacks on calls and their params: E61 to E74 of the checklist (docs/attacks.md), what other
//! files do not try already.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use clawgate_protocol::{
    error::Dialect,
    method::{Access, Method, access_by_name},
    scope::Scope,
    shape::Shape,
};
use clawgate_testkit::{
    Call, Client, Connect, Device, PATIENCE, TOKEN, TestGateway, gateway, post,
    provider::{Dialect as Api, Provider},
    request, token_config,
};
use serde_json::{Value, json};
use terminal::Terminal;

const DIALECTS: [(u32, Dialect); 2] = [(3, Dialect::V3), (4, Dialect::V4)];
const MAIN: &str = "agent:main:main";
const MASK: &str = "__OPENCLAW_REDACTED__";
/// Requests that are under way at once: fewer than a connection may have.
const AT_ONCE: usize = 32;
/// What no method knows, so that what is let in does nothing.
const NOTHING: &str = r#"{"unheardOf": 1}"#;

fn nothing() -> Value {
    serde_json::from_str(NOTHING).unwrap()
}

fn with(gateway: &TestGateway, protocol: u32, scopes: &[&str]) -> Client {
    let connect = Connect::new(protocol).token(TOKEN).scopes(scopes);
    gateway.welcome(&connect).0
}

fn api_token(gateway: &TestGateway, name: &str, scopes: &[&str]) -> String {
    let params = json!({"name": name, "scopes": scopes});
    let made = gateway.owner(4).call("tokens.create", &params);
    made["token"].as_str().unwrap().to_owned()
}

/// A configuration with an agent that answers.
fn agent_config(provider: &Provider) -> Value {
    let mut config = token_config();
    config["models"] = json!({"providers": {"scripted": provider.config(Api::Chat)}});
    config["agents"] = json!({
        "defaults": {"model": {"primary": "scripted/some-model"}},
        "list": [{"id": "main"}, {"id": "ops"}],
    });
    config
}

fn file(gateway: &TestGateway) -> String {
    fs::read_to_string(gateway.home().config()).unwrap()
}

/// Whether a session that holds these may call what wants that, restated.
fn holds(held: &[&str], wanted: &str) -> bool {
    held.contains(&wanted)
        || held.contains(&"operator.admin")
        || (held.contains(&"operator.write")
            && [
                "operator.read",
                "operator.talk",
                "operator.sessions.read",
                "operator.sessions.write",
            ]
            .contains(&wanted))
}

/// Names of the table, and some that are in none.
fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Method::ALL
        .iter()
        .filter(|method| **method != Method::Connect)
        .map(|method| method.spec().name)
        .collect();
    names.extend(["no.such.method", "Health", "health ", "__proto__", ""]);
    names
}

/// What the table says becomes of a call, as far as authority goes: nothing, or the message.
fn refusal(name: &str, dialect: Dialect, scopes: Option<&[&str]>) -> Option<String> {
    match (access_by_name(name, dialect), scopes) {
        (Access::AnySession, _) | (Access::Node, None) => None,
        (Access::Scope(wanted), Some(held)) if holds(held, wanted.as_str()) => None,
        (Access::Scope(wanted), Some(_)) => Some(format!("missing scope: {wanted}")),
        (Access::Node, Some(_)) => Some("unauthorized role: operator".to_owned()),
        (Access::Scope(_), None) => Some("unauthorized role: node".to_owned()),
        (Access::Handshake, _) => unreachable!("connect is not among the names"),
    }
}

/// Calls everything and compares with the table. Gives how many calls that were.
fn call_everything(
    who: &str,
    client: &mut Client,
    dialect: Dialect,
    scopes: Option<&[&str]>,
) -> usize {
    let names = names();
    for group in names.chunks(AT_ONCE / 2) {
        let asked: Vec<(&str, String)> = group
            .iter()
            .map(|name| {
                let id = client.send(name, &nothing());
                // Ends a run of role errors, of which a connection may make ten.
                client.send("health", &json!({}));
                (*name, id)
            })
            .collect();
        for (name, id) in asked {
            let outcome = client.answer(&id);
            let said = match &outcome {
                Call::Ok(_) => None,
                Call::Error(error) => ["missing scope: ", "unauthorized role: "]
                    .iter()
                    .any(|of| error.message.starts_with(of))
                    .then(|| error.message.clone()),
                Call::Closed(close) => panic!("{who}, {name}: {close:?}"),
            };
            // A name that is no name is no request.
            if name.is_empty() {
                assert!(matches!(outcome, Call::Error(_)), "{who}: {outcome:?}");
                continue;
            }
            let want = refusal(name, dialect, scopes);
            assert_eq!(said, want, "{who}, {dialect:?}, {name}: {outcome:?}");
            if Method::parse(name).is_none() && want.is_none() {
                let Call::Error(error) = outcome else {
                    panic!("{who}, {name}: {outcome:?}");
                };
                assert_eq!(error.code, "INVALID_REQUEST", "{name}");
                assert_eq!(error.message, format!("unknown method: {name}"));
            }
        }
    }
    names.len()
}

#[test]
fn e61_every_method_and_every_principal_are_as_the_table_says() {
    const SCOPES: [&str; 5] = [
        "operator.admin",
        "operator.read",
        "operator.write",
        "operator.approvals",
        "operator.pairing",
    ];
    let gateway = gateway!();
    let mut calls = 0;
    for (protocol, dialect) in DIALECTS {
        for set in 0..1_usize << SCOPES.len() {
            let scopes: Vec<&str> = (0..SCOPES.len())
                .filter(|at| set & (1 << at) != 0)
                .map(|at| SCOPES[at])
                .collect();
            let mut client = with(&gateway, protocol, &scopes);
            let who = format!("the shared token with {scopes:?}");
            calls += call_everything(&who, &mut client, dialect, Some(&scopes));
        }
        for scope in Scope::ALL {
            let name = format!("{}-{protocol}", scope.as_str());
            let token = api_token(&gateway, &name, &[scope.as_str()]);
            let scopes = [scope.as_str()];
            let connect = Connect::new(protocol).token(&token).scopes(&scopes);
            let mut client = gateway.welcome(&connect).0;
            let who = format!("an API token with {scope}");
            calls += call_everything(&who, &mut client, dialect, Some(&scopes));
        }
        for scopes in [&["operator.read"][..], &["operator.write"], &SCOPES] {
            let device = Device::new();
            let connect = || Connect::new(protocol).device(&device).scopes(scopes);
            let (_, hello) = gateway.welcome(&connect().token(TOKEN));
            let token = hello.device_token().unwrap().to_owned();
            let mut client = gateway.welcome(&connect().auth("deviceToken", &token)).0;
            let who = format!("a device with {scopes:?}");
            calls += call_everything(&who, &mut client, dialect, Some(scopes));
        }
        let node = Connect::new(protocol)
            .token(TOKEN)
            .client("node-host", "node")
            .role("node")
            .scopes(&SCOPES)
            .device(&Device::new());
        calls += call_everything("a node", &mut gateway.welcome(&node).0, dialect, None);
    }
    println!("{calls} calls, {} methods", Method::ALL.len());
    assert!(calls > 10_000, "{calls}");
}

#[test]
fn e61_what_opens_one_door_opens_no_other() {
    const HOOK: &str = "hook-secret-0001";
    let provider = Provider::conversing();
    let mut config = agent_config(&provider);
    config["hooks"] = json!({"enabled": true, "token": HOOK});
    let on = json!({"enabled": true});
    config["gateway"]["http"] = json!({"endpoints": {"chatCompletions": on, "responses": on}});
    let gateway = gateway!(config);
    let body = json!({"model": "openclaw", "messages": [{"role": "user", "content": "hi"}],
        "input": "hi", "tool": "no_such_tool", "args": {}})
    .to_string();
    let http = |method: &str, path: &str, secret: &str| {
        let bearer = format!("Bearer {secret}");
        let headers = [("Authorization", bearer.as_str())];
        match method {
            "GET" => request(gateway.address(), "GET", path, &headers).status,
            _ => post(gateway.address(), path, &headers, &body).status,
        }
    };
    let doors = [
        ("GET", "/v1/models", "operator.read"),
        ("POST", "/v1/chat/completions", "operator.write"),
        ("POST", "/v1/responses", "operator.write"),
        ("POST", "/tools/invoke", "operator.write"),
    ];
    // The secret of hooks is one of hooks alone.
    for protocol in [3, 4] {
        for scopes in [&["operator.read"][..], &[]] {
            let connect = Connect::new(protocol).token(HOOK).scopes(scopes);
            assert_eq!(gateway.refusal(&connect).code(), "AUTH_TOKEN_MISMATCH");
        }
    }
    for (method, path, _) in doors {
        assert_eq!(http(method, path, HOOK), 401, "{path}");
    }
    // And no other secret is one of hooks.
    let everything = api_token(&gateway, "everything", &["operator.admin"]);
    for secret in [TOKEN, &everything] {
        for hook in ["/hooks/wake", "/hooks/agent"] {
            assert_eq!(http("POST", hook, secret), 401, "{hook}");
        }
    }
    for scope in Scope::ALL {
        let scope = scope.as_str();
        let token = api_token(&gateway, scope, &[scope]);
        for (method, path, wanted) in doors {
            let status = http(method, path, &token);
            let open = holds(&[scope], wanted);
            assert_eq!(status != 403, open, "{scope} at {path}: {status}");
            assert_ne!(status, 401, "{scope} at {path}");
        }
    }
}

#[test]
fn e61_over_http_a_device_a_node_and_a_revoked_token_are_nobody_and_the_secret_is_for_this_machine()
{
    let gateway = {
        let provider = Provider::conversing();
        let mut config = agent_config(&provider);
        let on = json!({"enabled": true});
        config["gateway"]["http"] = json!({"endpoints": {"chatCompletions": on, "responses": on}});
        gateway!(config)
    };
    let handed_out = |connect: Connect| {
        let (_, hello) = gateway.welcome(&connect.token(TOKEN).device(&Device::new()));
        hello.device_token().unwrap().to_owned()
    };
    let device = handed_out(Connect::new(4));
    let node = handed_out(
        Connect::new(4)
            .client("node-host", "node")
            .role("node")
            .scopes(&[]),
    );
    let live = api_token(&gateway, "live", &["operator.admin"]);
    let revoked = api_token(&gateway, "revoked", &["operator.admin"]);
    let named = json!({"name": "revoked"});
    gateway.owner(4).call("tokens.revoke", &named);
    // Who it is, the credential, whether it opens anything from here and from elsewhere.
    let principals = [
        ("the shared secret", TOKEN, true, false),
        ("an API token", &live, true, true),
        ("a revoked API token", &revoked, false, false),
        ("a device's token", &device, false, false),
        ("a node's token", &node, false, false),
        ("nobody", "", false, false),
    ];
    let body = json!({"model": "openclaw", "messages": [{"role": "user", "content": "hi"}],
        "input": "hi", "tool": "no_such_tool", "args": {}})
    .to_string();
    let paths = [
        "/v1/models",
        "/v1/chat/completions",
        "/v1/responses",
        "/tools/invoke",
    ];
    let mut asked = 0;
    for (who, secret, here, elsewhere) in principals {
        for path in paths {
            for (opens, address) in [(here, None), (elsewhere, Some(asked))] {
                asked += 1;
                // Another address each time: guesses of one are locked out.
                let from = address.map(|n| format!("203.0.113.{n}"));
                let bearer = format!("Bearer {secret}");
                let mut headers = Vec::new();
                if !secret.is_empty() {
                    headers.push(("Authorization", bearer.as_str()));
                }
                if let Some(from) = &from {
                    headers.push(("X-Forwarded-For", from.as_str()));
                }
                let status = if path == "/v1/models" {
                    request(gateway.address(), "GET", path, &headers).status
                } else {
                    post(gateway.address(), path, &headers, &body).status
                };
                let refused = [401, 429].contains(&status);
                assert_eq!(!refused, opens, "{who} at {path} from {from:?}: {status}");
                assert_ne!(status, 403, "{who} at {path} from {from:?}");
            }
        }
    }
    println!("{asked} requests");
}

/// What `mcp serve` offers to a token, and what it says to calls of these names.
fn at_the_desk(
    gateway: &TestGateway,
    token: &str,
    names: &[String],
) -> (BTreeSet<String>, Vec<Value>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args([
            "mcp",
            "serve",
            "--url",
            &format!("ws://{}", gateway.address()),
        ])
        .args(["--token", token])
        .env_clear()
        .env("HOME", gateway.home().state())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut number = 0;
    let mut call = |method: &str, params: Value| {
        number += 1;
        let message = json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params});
        writeln!(stdin, "{message}").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == number {
                return message;
            }
        }
    };
    call(
        "initialize",
        json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "desk", "version": "1"}}),
    );
    let tools = call("tools/list", json!({}));
    let offered = tools["result"]["tools"].as_array().unwrap().iter();
    let offered = offered.map(|tool| tool["name"].as_str().unwrap().to_owned());
    let offered = offered.collect();
    let answers = names
        .iter()
        .map(|name| call("tools/call", json!({"name": name, "arguments": nothing()})))
        .collect();
    drop(stdin);
    child.wait().unwrap();
    (offered, answers)
}

#[test]
fn e61_a_program_of_models_is_offered_what_its_token_covers_and_nothing_else() {
    let gateway = gateway!();
    let of_method = |name: &str| name.replace('.', "_");
    let wanted: BTreeMap<String, Access> = Method::ALL
        .iter()
        .map(|method| {
            (
                of_method(method.spec().name),
                method.spec().access(Dialect::V4).clone(),
            )
        })
        .collect();
    let admin = api_token(&gateway, "admin", &["operator.admin"]);
    let (all, _) = at_the_desk(&gateway, &admin, &[]);
    assert!(all.len() > 50, "{all:?}");
    for scope in [
        "operator.read",
        "operator.write",
        "operator.approvals",
        "operator.pairing",
    ] {
        let covered = |name: &String| match &wanted[name] {
            Access::AnySession => true,
            Access::Scope(wanted) => holds(&[scope], wanted.as_str()),
            Access::Node | Access::Handshake => false,
        };
        let want: BTreeSet<String> = all.iter().filter(|name| covered(name)).cloned().collect();
        let closed: Vec<String> = all.difference(&want).cloned().collect();
        let token = api_token(&gateway, scope, &[scope]);
        let (offered, answers) = at_the_desk(&gateway, &token, &closed);
        assert_eq!(offered, want, "{scope}");
        for (name, answer) in closed.iter().zip(answers) {
            assert!(answer["error"].is_object(), "{scope}, {name}: {answer}");
        }
    }
}

#[test]
fn e62_what_a_caller_says_of_its_own_authority_is_no_param() {
    const INTERNAL: [&str; 9] = [
        "approved",
        "spawnedBy",
        "lane",
        "provenance",
        "inputProvenance",
        "systemInputProvenance",
        "senderIsOwner",
        "workspaceDir",
        "__proto__",
    ];
    // Where the original's shape has one of them; what it means there is tried below.
    let known: BTreeSet<(&str, &str)> = [
        ("agent", "lane"),
        ("agent", "inputProvenance"),
        ("chat.send", "systemInputProvenance"),
        ("sessions.list", "spawnedBy"),
        ("sessions.resolve", "spawnedBy"),
        ("sessions.patch", "spawnedBy"),
    ]
    .into();
    let gateway = gateway!();
    let mut seen = BTreeSet::new();
    for (protocol, dialect) in DIALECTS {
        let mut owner = gateway.owner(protocol);
        for method in Method::ALL {
            let spec = method.spec();
            let Some(Shape::Object(fields)) = spec.params else {
                continue;
            };
            // Wire 4 lets further members of `wake` pass and does not look at them.
            let open = (*method, dialect) == (Method::Wake, Dialect::V4);
            if open
                || matches!(
                    access_by_name(spec.name, dialect),
                    Access::Node | Access::Handshake
                )
            {
                continue;
            }
            for name in INTERNAL {
                if fields.iter().any(|field| field.name == name) {
                    seen.insert((spec.name, name));
                    continue;
                }
                let error = owner.refused(spec.name, &json!({name: true}));
                assert_eq!(error.code, "INVALID_REQUEST", "{} {name}", spec.name);
            }
        }
        let patch = json!({"key": "main", "spawnedBy": MAIN});
        assert_eq!(
            owner.refused("sessions.patch", &patch).code,
            "INVALID_REQUEST"
        );
        for member in ["systemInputProvenance", "systemProvenanceReceipt"] {
            let mut params = json!({"sessionKey": "main", "message": "x", "idempotencyKey": "p"});
            params[member] = match member {
                "systemProvenanceReceipt" => json!("receipt"),
                _ => json!({"kind": "external_user"}),
            };
            let error = owner.refused("chat.send", &params);
            assert_eq!(error.code, "INVALID_REQUEST", "{error:?}");
        }
    }
    assert_eq!(seen, known);
}

/// Every file and directory below a place, directories with the time of their last change: what was
/// made and taken away again is seen too.
fn places(root: &Path) -> BTreeMap<PathBuf, Option<SystemTime>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            found.insert(path, Some(meta.modified().unwrap()));
        } else {
            found.insert(path, None);
        }
    }
    found
}

#[test]
fn e63_no_key_of_a_session_is_a_path_and_none_leads_to_another_agent() {
    let provider = Provider::conversing();
    let gateway = gateway!(agent_config(&provider));
    let mut owner = gateway.owner(4);
    owner.call("sessions.patch", &json!({"key": "main", "label": "home"}));
    owner.call("agents.files.list", &json!({"agentId": "main"}));
    let root = gateway.home().state().parent().unwrap().to_owned();
    let sessions = |client: &mut Client| {
        let all = json!({"includeGlobal": true, "includeUnknown": true});
        client.call("sessions.list", &all)["sessions"].clone()
    };
    let (before, known) = (places(&root), sessions(&mut owner));
    let long = "k".repeat(10_240);
    let hostile = [
        "../x",
        "..",
        "/etc/passwd",
        "/tmp/clawgate-attack-e63",
        long.as_str(),
        "a\u{0}b",
        "a\nb",
        "a%2fb",
        "%2e%2e%2fx",
        "a\\b",
        "agent:main:../../x",
        "agent:main:a\nb",
        "agent:../x:main",
    ];
    for (protocol, dialect) in DIALECTS {
        let mut client = gateway.owner(protocol);
        for key in hostile {
            let turn = |member: &str| json!({member: key, "message": "hi", "idempotencyKey": format!("k-{}", key.len())});
            let mut calls = vec![
                ("chat.send", turn("sessionKey")),
                ("agent", turn("sessionKey")),
                ("agent", turn("sessionId")),
                ("chat.inject", json!({"sessionKey": key, "message": "hi"})),
                ("sessions.patch", json!({"key": key, "label": "taken"})),
                ("sessions.reset", json!({"key": key})),
                ("sessions.compact", json!({"key": key})),
                ("sessions.delete", json!({"key": key})),
                ("sessions.resolve", json!({"sessionId": key})),
                ("sessions.resolve", json!({"key": key})),
                ("sessions.usage.timeseries", json!({"key": key})),
                ("wizard.next", json!({"sessionId": key})),
                (
                    "cron.add",
                    json!({"name": "k", "schedule": {"kind": "every", "everyMs": 3_600_000},
                        "sessionTarget": "isolated", "wakeMode": "now", "sessionKey": key,
                        "payload": {"kind": "agentTurn", "message": "x"}}),
                ),
                (
                    "cron.add",
                    json!({"name": "k", "schedule": {"kind": "every", "everyMs": 3_600_000},
                        "sessionTarget": format!("session:{key}"), "wakeMode": "now",
                        "payload": {"kind": "agentTurn", "message": "x"}}),
                ),
            ];
            if dialect == Dialect::V4 {
                calls.push(("sessions.create", json!({"key": key})));
                calls.push(("sessions.export", json!({"key": key})));
                calls.push((
                    "wake",
                    json!({"mode": "now", "text": "x", "sessionKey": key}),
                ));
            }
            for (method, params) in calls {
                let error = client.refused(method, &params);
                let shown: String = params.to_string().chars().take(120).collect();
                assert!(
                    ["INVALID_REQUEST", "NOT_FOUND"].contains(&error.code.as_str()),
                    "{method} {shown}: {error:?}"
                );
                assert_ne!(error.detail_code(), "INTERNAL", "{method} {shown}");
                let most = params.to_string().len() + 1_000;
                assert!(error.raw.to_string().len() < most, "{method} {shown}");
            }
        }
        // An agent that is not there has no turns, and another agent's key is not one's own agent's.
        for (method, params) in [
            (
                "agent",
                json!({"sessionKey": "agent:ghost:main", "message": "x", "idempotencyKey": "g"}),
            ),
            (
                "chat.send",
                json!({"sessionKey": "agent:ghost:main", "message": "x", "idempotencyKey": "g"}),
            ),
            (
                "agent",
                json!({"agentId": "main", "sessionKey": "agent:ops:main", "message": "x", "idempotencyKey": "o"}),
            ),
            (
                "chat.send",
                json!({"agentId": "main", "sessionKey": "agent:ops:main", "message": "x", "idempotencyKey": "o"}),
            ),
        ] {
            assert_eq!(
                client.refused(method, &params).code,
                "INVALID_REQUEST",
                "{method}"
            );
        }
    }
    assert_eq!(sessions(&mut owner), known);
    assert_eq!(places(&root), before, "nothing was made or taken away");
    assert!(!Path::new("/tmp/clawgate-attack-e63").exists());
    assert!(provider.asked().is_empty(), "nobody had a turn");
}

#[test]
fn e64_a_pipe_or_a_socket_in_the_place_of_a_file_is_not_waited_for() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.call("agents.files.list", &json!({"agentId": "main"}));
    let workspace = gateway.home().state().join("workspace");
    for name in ["SOUL.md", "USER.md", "IDENTITY.md"] {
        fs::remove_file(workspace.join(name)).unwrap();
    }
    let made = Command::new("mkfifo")
        .args([workspace.join("SOUL.md"), workspace.join("IDENTITY.md")])
        .status()
        .unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(workspace.join("USER.md")).unwrap();
    for name in ["SOUL.md", "USER.md", "IDENTITY.md"] {
        for (method, params) in [
            ("agents.files.get", json!({"agentId": "main", "name": name})),
            (
                "agents.files.set",
                json!({"agentId": "main", "name": name, "content": "x"}),
            ),
        ] {
            // Whoever opened a pipe would wait until somebody writes to it.
            let error = owner.refused(method, &params);
            assert_eq!(error.code, "INVALID_REQUEST", "{method} {name}: {error:?}");
        }
    }
    let identity = owner.call("agent.identity.get", &json!({}));
    assert_eq!(identity["name"], "Assistant");
    owner.call("agents.files.list", &json!({"agentId": "main"}));
}

/// A configuration with a canary at every one of these places, a place being a path in which `*` is
/// any item.
fn planted(paths: &[String]) -> (Value, Vec<String>) {
    let mut config = json!({});
    let mut birds = Vec::new();
    for path in paths {
        let bird = format!("canary-{}-77c1", path.replace(['.', '*', '_'], "-"));
        let mut at = &mut config;
        for part in path.split('.') {
            let part = if part == "*" { "some" } else { part };
            at = &mut at[part];
        }
        *at = json!(bird);
        birds.push(bird);
    }
    (config, birds)
}

/// Canaries in a text.
fn flown(birds: &[String], text: &str) -> Vec<String> {
    birds
        .iter()
        .filter(|bird| text.contains(bird.as_str()))
        .cloned()
        .collect()
}

/// Places of secrets that the schema names.
fn secret_paths() -> Vec<String> {
    let told = gateway!().owner(4).call("config.schema", &json!({}));
    let hints = told["uiHints"].as_object().unwrap();
    hints
        .iter()
        .filter(|(_, hint)| hint["sensitive"] == true)
        .map(|(path, _)| path.clone())
        .collect()
}

/// What is known of a process and of those that it started.
fn processes_of(root: u32) -> Vec<String> {
    let read = |pid: &str, what: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mut family = vec![root.to_string()];
    let mut at = 0;
    while let Some(pid) = family.get(at).cloned() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        for task in tasks.map_while(Result::ok) {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().map(str::to_owned));
        }
        at += 1;
    }
    family
        .iter()
        .map(|pid| read(pid, "cmdline") + &read(pid, "environ"))
        .collect()
}

#[test]
fn e65_no_secret_that_the_schema_knows_is_shown_anywhere() {
    let paths = secret_paths();
    assert!(paths.len() >= 9, "{paths:?}");
    let (mut config, birds) = planted(&paths);
    let of = |path: &str| {
        let at = paths.iter().position(|one| one == path).unwrap();
        birds[at].clone()
    };
    let secret = of("gateway.auth.token");
    let provider = Provider::conversing();
    config["gateway"]["auth"]["mode"] = json!("token");
    config["hooks"]["enabled"] = json!(true);
    config["agents"] = json!({"defaults": {"model": {"primary": "some/some-model"}}});
    let mut of_provider = provider.config(Api::Chat);
    of_provider["apiKey"] = config["models"]["providers"]["some"]["apiKey"].clone();
    config["models"]["providers"]["some"] = of_provider;
    // Places that the schema leaves open, under names that say what they hold.
    for (place, member) in [
        ("plugins", "password"),
        ("channels", "botToken"),
        ("talk", "apiKey"),
    ] {
        config[place]["x"][member] = json!(format!("canary-{place}-77c1"));
    }
    let mut birds = birds;
    birds.extend(["plugins", "channels", "talk"].map(|place| format!("canary-{place}-77c1")));
    let mut gateway = gateway!(config);
    let none = Vec::<String>::new();
    let mut said = Vec::new();
    for (protocol, _) in DIALECTS {
        for scopes in [
            &["operator.read"][..],
            &["operator.admin", "operator.read", "operator.write"],
        ] {
            let connect = Connect::new(protocol).token(&secret).scopes(scopes);
            let (mut client, hello) = gateway.welcome(&connect);
            said.push(("hello".to_owned(), hello.raw.to_string()));
            for method in Method::ALL
                .iter()
                .filter(|method| **method != Method::Connect)
            {
                let name = method.spec().name;
                for params in [
                    json!({}),
                    nothing(),
                    json!({"agentId": "main"}),
                    json!({"key": "main"}),
                ] {
                    let id = client.send(name, &params);
                    client.send("health", &json!({}));
                    let (events, outcome) = client.answer_after_events(&id);
                    assert!(!matches!(outcome, Call::Closed(_)), "{name}: {outcome:?}");
                    said.push((name.to_owned(), format!("{outcome:?}")));
                    said.extend(
                        events
                            .iter()
                            .map(|event| (format!("event at {name}"), event.to_string())),
                    );
                }
            }
            for bad in [
                "{",
                "{gateway: {port: 'x'}}",
                "{gateway: {auth: {token: 5}}}",
            ] {
                for method in ["config.set", "config.patch", "config.apply"] {
                    let hash = client.call("config.get", &json!({}))["hash"].clone();
                    let params = json!({"raw": bad, "baseHash": hash});
                    said.push((
                        method.to_owned(),
                        format!("{:?}", client.try_call(method, &params)),
                    ));
                }
            }
            let refusal = gateway.refusal(&Connect::new(protocol).token("wrong"));
            said.push(("refusal".to_owned(), format!("{refusal:?}")));
        }
        // What runs while a program runs, of the gateway and of the program.
        let (mut owner, _) = gateway.welcome(&Connect::new(protocol).token(&secret));
        let held = gateway.home().state().join(format!("held-{protocol}"));
        assert!(
            Command::new("mkfifo")
                .arg(&held)
                .status()
                .unwrap()
                .success()
        );
        let script = format!(
            "env; tr '\\0' ' ' < /proc/self/cmdline; echo up > '{}'; exec sleep 60",
            held.display()
        );
        let job = owner.call(
            "cron.add",
            &json!({
                "name": "looks", "schedule": {"kind": "every", "everyMs": 3_600_000},
                "sessionTarget": "isolated", "wakeMode": "now",
                "payload": {"kind": "command", "argv": ["/bin/sh", "-c", script]},
            }),
        );
        owner.call("cron.run", &json!({"id": job["id"], "mode": "force"}));
        assert_eq!(fs::read_to_string(&held).unwrap(), "up\n");
        let seen = processes_of(gateway.pid());
        assert!(seen.len() > 1, "the program is among them: {seen:?}");
        said.extend(seen.into_iter().map(|one| ("/proc".to_owned(), one)));
        owner.call("cron.remove", &json!({"id": job["id"]}));
        said.push((
            "runs".to_owned(),
            owner.call("cron.runs", &json!({})).to_string(),
        ));
        fs::remove_file(&held).unwrap();
        // A turn, and what the tool of a turn sees.
        let turn = json!({"sessionKey": "main", "message": "USE_TOOL", "idempotencyKey": format!("t{protocol}")});
        owner.call("chat.send", &turn);
        loop {
            let event = owner.event("chat");
            said.push(("chat".to_owned(), event.to_string()));
            if event["payload"]["state"] != "delta" {
                break;
            }
        }
        said.push((
            "history".to_owned(),
            owner
                .call("chat.history", &json!({"sessionKey": "main"}))
                .to_string(),
        ));
    }
    for asked in provider.asked() {
        said.push(("the provider's text".to_owned(), asked.body.to_string()));
    }
    for path in [
        "/",
        "/health",
        "/ready",
        "/__openclaw/control-ui-config.json",
        "/v1/models",
        "/api/x",
    ] {
        let answer = request(gateway.address(), "GET", path, &[]);
        said.push((path.to_owned(), answer.body));
    }
    for (what, text) in &said {
        assert_eq!(flown(&birds, text), none, "{what}");
    }
    // A guess that was wrong and a secret in a place for a file's name are not written either.
    gateway.terminate();
    let ended = gateway.ended();
    assert_eq!(flown(&birds, &ended.stderr), none, "the log");
    for bird in &birds {
        let found = gateway.home().state_files_with(bird);
        assert!(found.is_empty(), "{bird} in {found:?}");
    }
    for args in [
        &["config", "get", "gateway"][..],
        &["config", "get", "models"],
        &["config", "validate"],
        &["doctor"],
        &["security", "audit"],
    ] {
        let done = Terminal::new()
            .env(
                "CLAWGATE_STATE_DIR",
                gateway.home().state().display().to_string(),
            )
            .env(
                "CLAWGATE_CONFIG_PATH",
                gateway.home().config().display().to_string(),
            )
            .run(args);
        assert_eq!(
            flown(&birds, &(done.stdout + &done.stderr)),
            none,
            "{args:?}"
        );
    }
}

/// Changes the file by the hash that holds.
fn change(client: &mut Client, method: &str, raw: &str) -> Call {
    let hash = client.call("config.get", &json!({}))["hash"].clone();
    client.try_call(method, &json!({"raw": raw, "baseHash": hash}))
}

#[test]
fn e66_a_mask_that_is_written_back_keeps_the_secret_and_is_never_one() {
    let mut config = token_config();
    config["hooks"] = json!({"enabled": true, "token": "hook-secret-0001"});
    config["models"] = json!({"providers": {"acme": {"apiKey": "acme-key-0001",
        "baseUrl": "https://api.example", "models": [{"id": "m"}]}}});
    let secrets = [TOKEN, "hook-secret-0001", "acme-key-0001"];
    for (protocol, _) in DIALECTS {
        let gateway = gateway!(config);
        let mut owner = gateway.owner(protocol);
        let shown = owner.call("config.get", &json!({}))["parsed"].clone();
        assert_eq!(shown.to_string().matches(MASK).count(), 3, "{shown}");
        for method in ["config.set", "config.apply", "config.patch"] {
            let mut raw = shown.clone();
            raw["messages"] = json!({"by": method});
            let outcome = change(&mut owner, method, &raw.to_string());
            assert!(matches!(outcome, Call::Ok(_)), "{method}: {outcome:?}");
            let now = file(&gateway);
            assert!(now.contains(method) && !now.contains(MASK), "{now}");
            for secret in secrets {
                assert!(now.contains(secret), "{method}: {now}");
            }
        }
        let good = file(&gateway);
        // Where there was no secret a mask stands for none, also a part of one or one in a list.
        for raw in [
            json!({"gateway": {"remote": {"token": MASK}}}),
            json!({"gateway": {"auth": {"password": MASK}}}),
            json!({"models": {"providers": {"other": {"apiKey": MASK, "baseUrl": "https://o.example", "models": []}}}}),
            json!({"channels": {"telegram": {"botToken": MASK}}}),
        ] {
            for method in ["config.patch", "config.set", "config.apply"] {
                let mut whole = raw.clone();
                if method != "config.patch" {
                    whole["hooks"] = json!({"enabled": true, "token": "hook-secret-0001"});
                }
                let outcome = change(&mut owner, method, &whole.to_string());
                let Call::Error(error) = outcome else {
                    panic!("{method} {raw}: {outcome:?}");
                };
                assert_eq!(error.code, "INVALID_REQUEST", "{method} {raw}");
                assert_eq!(file(&gateway), good, "{method} {raw}");
            }
        }
        assert!(gateway.home().state_files_with(MASK).is_empty());
        gateway.welcome(&Connect::new(protocol).token(TOKEN));
        gateway.refusal(&Connect::new(protocol).token(MASK));
    }
}

#[test]
fn e67_of_a_hundred_who_saw_one_text_one_wins_and_what_cannot_be_changes_no_byte() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let good = file(&gateway);
    let stale = owner.call("config.get", &json!({}))["hash"].clone();
    let large = json!({"messages": {"text": "x".repeat(5 << 20)}}).to_string();
    for method in ["config.set", "config.patch", "config.apply"] {
        for raw in [
            large.as_str(),
            "{",
            "[]",
            r#"{"gateway": {"auth": {"mode": "nobody"}}}"#,
            r#"{"gateway": {"port": 70000}}"#,
            r#"{"gateway": {"bind": "lan", "auth": {"mode": "none"}}}"#,
            r#"{"gateway": {"auth": {"mode": "token", "token": "tok-testkit-shared-0001"}},
                "hooks": {"enabled": true, "token": "tok-testkit-shared-0001"}}"#,
        ] {
            let outcome = change(&mut owner, method, raw);
            let Call::Error(error) = outcome else {
                panic!("{method} {}: {outcome:?}", &raw[..raw.len().min(80)]);
            };
            assert_eq!(error.code, "INVALID_REQUEST", "{error:?}");
            assert_eq!(
                file(&gateway),
                good,
                "{method} {}",
                &raw[..raw.len().min(80)]
            );
        }
    }
    // Every hash has one winner, and who lost sees the text as it was left.
    let mut clients: Vec<Client> = (0..100).map(|n| gateway.owner(3 + n % 2)).collect();
    let mut last = good;
    for round in 0..3 {
        let hash = owner.call("config.get", &json!({}))["hash"].clone();
        let ids: Vec<String> = clients
            .iter_mut()
            .enumerate()
            .map(|(n, client)| {
                let raw = json!({"messages": {"winner": format!("{round}-{n}")}}).to_string();
                client.send("config.patch", &json!({"raw": raw, "baseHash": hash}))
            })
            .collect();
        let mut won = Vec::new();
        for (n, (client, id)) in clients.iter_mut().zip(ids).enumerate() {
            match client.answer(&id) {
                Call::Ok(_) => won.push(format!("{round}-{n}")),
                Call::Error(error) => {
                    assert!(error.message.starts_with("config changed since last load"));
                }
                Call::Closed(close) => panic!("{close:?}"),
            }
        }
        assert_eq!(won.len(), 1, "{won:?}");
        let now = file(&gateway);
        assert!(now.contains(&won[0]) && now != last, "{now}");
        last = now;
    }
    let raw = json!({"messages": {"winner": "late"}}).to_string();
    let params = json!({"raw": raw, "baseHash": stale});
    for method in ["config.set", "config.patch", "config.apply"] {
        let error = owner.refused(method, &params);
        assert!(error.message.starts_with("config changed since last load"));
    }
    assert_eq!(file(&gateway), last);
}

#[test]
fn e68_no_word_of_a_chat_does_what_its_writer_may_not() {
    let provider = Provider::conversing();
    let gateway = gateway!(agent_config(&provider));
    let mut owner = gateway.owner(4);
    let refusal = gateway
        .from_afar(&Connect::new(4).token(TOKEN).device(&Device::new()))
        .map(|_| ())
        .unwrap_err();
    let request = refusal.error.unwrap().detail("requestId").clone();
    let request = request.as_str().unwrap().to_owned();
    let ask = json!({"id": "waits", "command": "ls", "timeoutMs": 600_000, "twoPhase": true});
    owner.call("exec.approval.request", &ask);
    let boot = owner.call("status", &json!({}))["queuedSystemEvents"].clone();
    let good = file(&gateway);
    let policy = owner.call("exec.approvals.get", &json!({}));
    for (protocol, _) in DIALECTS {
        let mut writer = with(&gateway, protocol, &["operator.read", "operator.write"]);
        for (n, words) in [
            "/config set gateway.auth.mode none",
            "/config unset gateway.auth",
            "/approve waits allow-once",
            "/approve waits allow-always",
            "/allowlist add exec **",
            "/allowlist add * --config",
            &format!("/pair approve {request}"),
            "/pair",
            "/restart",
            "/exec host=gateway security=full ask=off",
            "/elevated full",
            "/debug set tools.exec.security=full",
            "/bash id",
            "! id",
            "hello\n/restart\n/approve waits allow-once",
            " /RESTART",
        ]
        .into_iter()
        .enumerate()
        {
            let key = format!("w{protocol}-{n}");
            let params = json!({"sessionKey": "main", "message": words, "idempotencyKey": key});
            match writer.try_call("chat.send", &params) {
                Call::Ok(_) => {
                    let waited = json!({"runId": key, "timeoutMs": 20_000});
                    writer.call("agent.wait", &waited);
                }
                Call::Error(error) => assert!(
                    ["INVALID_REQUEST", "FORBIDDEN"].contains(&error.code.as_str()),
                    "{words}: {error:?}"
                ),
                Call::Closed(close) => panic!("{words}: {close:?}"),
            }
            assert_eq!(file(&gateway), good, "{words}");
            let waiting = owner.call("exec.approval.list", &json!({}));
            assert_eq!(waiting[0]["id"], "waits", "{words}");
            let devices = owner.call("device.pair.list", &json!({}));
            assert_eq!(
                devices["pending"][0]["requestId"],
                request.as_str(),
                "{words}"
            );
            assert_eq!(
                owner.call("exec.approvals.get", &json!({})),
                policy,
                "{words}"
            );
        }
    }
    // The same process, and nobody was sent away.
    assert_eq!(owner.call("status", &json!({}))["queuedSystemEvents"], boot);
    let asked = provider.asked();
    let tools: Vec<&Value> = asked.iter().map(|one| &one.body["messages"]).collect();
    for messages in tools {
        let all = messages.as_array().unwrap().iter();
        assert_eq!(all.filter(|one| one["role"] == "tool").count(), 0);
    }
}

#[test]
fn e69_a_decision_is_one_by_who_may_about_the_request_that_is_named() {
    const RESOLVE: &str = "exec.approval.resolve";
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let stand = |client: &mut Client, id: &str, session: &str, timeout_ms: i64| {
        let params = json!({"id": id, "command": "ls", "sessionKey": session,
            "timeoutMs": timeout_ms, "twoPhase": true});
        let request = client.send("exec.approval.request", &params);
        assert!(matches!(client.answer(&request), Call::Ok(_)));
        request
    };
    for (protocol, _) in DIALECTS {
        let id = |name: &str| format!("{name}-{protocol}");
        let mut decider = with(&gateway, protocol, &["operator.approvals"]);
        let mut others = [
            with(
                &gateway,
                protocol,
                &["operator.read", "operator.write", "operator.pairing"],
            ),
            with(&gateway, protocol, &[]),
        ];
        let first = stand(&mut owner, &id("one"), MAIN, 60_000);
        stand(&mut owner, &id("two"), "agent:main:other", 60_000);
        for other in &mut others {
            let params = json!({"id": id("one"), "decision": "allow-once"});
            let error = other.refused(RESOLVE, &params);
            assert_eq!(error.message, "missing scope: operator.approvals");
        }
        // What is no id of a request decides about none: a session's key, a beginning of both.
        for not_one in [
            MAIN,
            "agent:main:other",
            "nobody",
            "%",
            "*",
            "one-",
            "' OR 1=1 --",
        ] {
            let params = json!({"id": not_one, "decision": "allow-once"});
            if not_one == "one-" {
                continue;
            }
            let error = decider.refused(RESOLVE, &params);
            assert_eq!(error.message, "unknown or expired approval id", "{not_one}");
        }
        decider.call(RESOLVE, &json!({"id": id("one"), "decision": "deny"}));
        let Call::Ok(ended) = owner.answer(&first) else {
            panic!("it ended")
        };
        assert_eq!(ended["decision"], "deny");
        for decision in ["allow-once", "allow-always", "deny"] {
            let error = decider.refused(RESOLVE, &json!({"id": id("one"), "decision": decision}));
            assert_eq!(error.detail_code(), "APPROVAL_ALREADY_RESOLVED");
            assert_eq!(error.detail("decision"), "deny");
        }
        let waiting = decider.call("exec.approval.list", &json!({}));
        let waiting: Vec<&Value> = waiting
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["id"])
            .collect();
        assert_eq!(
            waiting,
            [&json!(id("two"))],
            "the other session's request waits"
        );
        decider.call(RESOLVE, &json!({"id": id("two"), "decision": "deny"}));
        let late = stand(&mut owner, &id("late"), MAIN, 1);
        let Call::Ok(ended) = owner.answer(&late) else {
            panic!("it ended")
        };
        assert_eq!(ended["decision"], Value::Null);
        let error = decider.refused(
            RESOLVE,
            &json!({"id": id("late"), "decision": "allow-once"}),
        );
        assert_eq!(error.message, "unknown or expired approval id");
    }
}

#[test]
fn e70_one_key_has_one_effect_from_fifty_at_once_and_after_a_restart() {
    let provider = Provider::conversing();
    let mut gateway = gateway!(agent_config(&provider));
    let chat = json!({"sessionKey": "main", "message": "hi", "idempotencyKey": "same-chat"});
    let agent = json!({"agentId": "main", "message": "hi", "idempotencyKey": "same-agent"});
    let job = json!({"name": "once", "declarationKey": "same-job",
        "schedule": {"kind": "every", "everyMs": 3_600_000},
        "payload": {"kind": "command", "argv": ["/bin/true"]}});
    let mut clients: Vec<Client> = (0..50).map(|n| gateway.owner(3 + n % 2)).collect();
    for (method, params) in [("chat.send", &chat), ("agent", &agent), ("cron.add", &job)] {
        let ids: Vec<String> = clients
            .iter_mut()
            .map(|client| client.send(method, params))
            .collect();
        let mut named = BTreeSet::new();
        for (client, id) in clients.iter_mut().zip(ids) {
            let Call::Ok(answer) = client.answer(&id) else {
                panic!("{method} is answered");
            };
            let id = answer["runId"].as_str().or(answer["job"]["id"].as_str());
            named.insert(
                id.unwrap_or_else(|| panic!("{method}: {answer}"))
                    .to_owned(),
            );
        }
        assert_eq!(named.len(), 1, "{method}: {named:?}");
    }
    for run in ["same-chat", "same-agent"] {
        let waited = clients[0].call("agent.wait", &json!({"runId": run, "timeoutMs": 20_000}));
        assert_eq!(waited["status"], "ok", "{run}: {waited}");
    }
    assert_eq!(provider.asked().len(), 2, "one turn each");
    let said = |client: &mut Client| {
        let history = client.call("chat.history", &json!({"sessionKey": "main"}));
        history["messages"].as_array().unwrap().len()
    };
    let jobs = |client: &mut Client| {
        let list = client.call("cron.list", &json!({"includeDisabled": true}));
        list["jobs"].as_array().unwrap().len()
    };
    let before = said(&mut clients[0]);
    assert_eq!(jobs(&mut clients[0]), 1);
    drop(clients);
    gateway.kill();
    gateway.restart();
    let mut client = gateway.owner(4);
    let again = client.call("chat.send", &chat);
    assert_eq!(again["runId"], "same-chat", "{again}");
    let again = client.call("agent", &agent);
    assert_eq!(again["runId"], "same-agent", "{again}");
    assert_eq!(again["status"], "ok", "the same answer: {again}");
    client.call("cron.add", &job);
    assert_eq!((said(&mut client), jobs(&mut client)), (before, 1));
    assert_eq!(provider.asked().len(), 2);
}

#[test]
fn e71_an_attachment_that_is_too_large_or_no_base64_is_refused_and_nothing_of_it_kept() {
    let provider = Provider::conversing();
    let gateway = gateway!(agent_config(&provider));
    let params = |attachment: Value| {
        json!({"sessionKey": "main", "message": "look", "idempotencyKey": "a",
            "attachments": [attachment]})
    };
    let picture =
        |content: &str| json!({"type": "image", "mimeType": "image/png", "content": content});
    let six = "A".repeat(8 << 20);
    for (protocol, _) in DIALECTS {
        let mut owner = gateway.owner(protocol);
        let mut lies = picture(&six);
        for member in ["size", "sizeBytes", "bytes"] {
            lies[member] = json!(12);
        }
        let short = format!("data:image/png;base64,{six}");
        for (what, attachment) in [
            ("6 MB", picture(&six)),
            ("6 MB that are said to be 12 bytes", lies),
            ("6 MB of a data URL", picture(&short)),
            ("no alphabet", picture("not*base64!")),
            ("another alphabet", picture("a-b_")),
            ("blanks", picture("aGVs bG8=")),
            ("lines", picture("aGVs\nbG8=")),
            ("an end in the middle", picture("aG=sbG8=")),
            ("too many ends", picture("aGVsbA====")),
            ("ends alone", picture("====")),
            ("a length that none has", picture("aGVsb")),
            ("ends that do not fit", picture("aGVsbG8==")),
            ("nothing", picture("")),
            ("NUL", picture("aGVs\u{0}bG8=")),
            (
                "no text",
                json!({"type": "image", "mimeType": "image/png", "content": [1, 2]}),
            ),
            (
                "no picture",
                json!({"type": "file", "mimeType": "application/x-sh", "content": "aGVsbG8="}),
            ),
        ] {
            for method in ["chat.send", "agent"] {
                let mut params = params(attachment.clone());
                if method == "agent" {
                    params["agentId"] = json!("main");
                }
                let error = owner.refused(method, &params);
                assert_eq!(error.code, "INVALID_REQUEST", "{method}, {what}");
                assert!(error.message.len() < 200, "{method}, {what}");
                assert!(error.message.contains("attachment 1"), "{what}: {error:?}");
            }
        }
        // More than a message may be is not read at all.
        let mut other = gateway.owner(protocol);
        let thirty = params(picture(&"A".repeat(40 << 20))).to_string();
        let frame = format!(r#"{{"type":"req","id":"x","method":"chat.send","params":{thirty}}}"#);
        // The other end may close before all of it was sent.
        let mut writer = other.socket.writer();
        let sent = clawgate_testkit::Frame::new(clawgate_testkit::Opcode::Text, frame.into_bytes());
        let _ = writer.write_all(&sent.bytes());
        assert_eq!(other.closed().code, 1009);
        owner.call("health", &json!({}));
    }
    let history = gateway
        .owner(4)
        .call("chat.history", &json!({"sessionKey": "main"}));
    assert_eq!(history["messages"], json!([]));
    assert!(provider.asked().is_empty());
    // Both ways to write the end are one text.
    let mut owner = gateway.owner(4);
    for (n, content) in ["aGVsbG8=", "aGVsbG8"].into_iter().enumerate() {
        let mut good = params(picture(content));
        good["idempotencyKey"] = json!(format!("good-{n}"));
        owner.call("chat.send", &good);
    }
}

fn webhook(url: &str) -> Value {
    json!({
        "name": "posts", "schedule": {"kind": "every", "everyMs": 3_600_000},
        "sessionTarget": "isolated", "wakeMode": "now",
        "payload": {"kind": "command", "argv": ["/bin/echo", "hi"]},
        "delivery": {"mode": "webhook", "to": url},
    })
}

#[test]
fn e72_a_webhook_reaches_nothing_inside_under_whatever_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let six = TcpListener::bind("[::1]:0").unwrap();
    six.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let six_port = six.local_addr().unwrap().port();
    let tried = |gateway: &TestGateway| gateway.stderr().matches("a delivery was tried").count();
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("localhost.:{port}"),
        format!("LOCALHOST:{port}"),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("0x7f.1:{port}"),
        format!("0177.0.0.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("127.0.0.1.:{port}"),
        format!("user:pass@127.0.0.1:{port}"),
        format!("[::1]:{six_port}"),
        format!("[::]:{six_port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[::ffff:7f00:1]:{port}"),
        format!("[::127.0.0.1]:{port}"),
        format!("[64:ff9b::7f00:1]:{port}"),
        "169.254.169.254".to_owned(),
        "[::ffff:169.254.169.254]".to_owned(),
        "2852039166".to_owned(),
        "100.100.100.200".to_owned(),
        "10.0.0.1".to_owned(),
        "[fd00:ec2::254]".to_owned(),
        "[fe80::1]".to_owned(),
    ] {
        let url = format!("http://{host}/latest/meta-data");
        let added = match owner.try_call("cron.add", &webhook(&url)) {
            // What is refused when it is asked for is never dialled.
            Call::Error(error) => {
                assert_eq!(error.code, "INVALID_REQUEST", "{url}");
                continue;
            }
            Call::Ok(added) => added,
            Call::Closed(close) => panic!("{url}: {close:?}"),
        };
        let before = tried(&gateway);
        owner.call("cron.run", &json!({"id": added["id"], "mode": "force"}));
        // What is forbidden is over with the first attempt; a name that leads nowhere is tried again
        // later, which nobody waits for here.
        let deadline = Instant::now() + PATIENCE;
        while tried(&gateway) <= before {
            assert!(Instant::now() < deadline, "{url} was not tried");
            owner.call("health", &json!({}));
        }
        let runs = owner.call("cron.runs", &json!({"id": added["id"]}));
        assert_ne!(runs["entries"][0]["delivered"], true, "{url}");
        owner.call("cron.remove", &json!({"id": added["id"]}));
    }
    for listener in [&listener, &six] {
        let came = listener.accept().map(|_| ()).unwrap_err();
        assert_eq!(came.kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    }
}

#[test]
fn e72_a_redirect_is_not_followed_and_a_name_is_not_its_address() {
    let (first, second) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    second.set_nonblocking(true).unwrap();
    let mut config = token_config();
    // The address is allowed, and no name that leads to it.
    config["cron"] = json!({"webhookToken": "hook-secret-0002",
        "webhookSsrfPolicy": {"allowedHostnames": ["127.0.0.1"]}});
    let gateway = gateway!(config);
    let mut owner = gateway.owner(4);
    let delivered = |owner: &mut Client, added: &Value| loop {
        let event = owner.event("cron")["payload"].clone();
        if event["action"] == "delivery" && event["jobId"] == added["id"] {
            break event;
        }
    };
    let to = second.local_addr().unwrap();
    let url = format!("http://{}/hook", first.local_addr().unwrap());
    let added = owner.call("cron.add", &webhook(&url));
    owner.call("cron.run", &json!({"id": added["id"], "mode": "force"}));
    let (mut stream, _) = first.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut chunk = [0; 4_096];
    assert_ne!(stream.read(&mut chunk).unwrap(), 0);
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{to}/in\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    let told = delivered(&mut owner, &added);
    assert_eq!(told["deliveryStatus"], "not-delivered", "{told}");
    let named = format!("http://localhost:{}/hook", to.port());
    let added = owner.call("cron.add", &webhook(&named));
    owner.call("cron.run", &json!({"id": added["id"], "mode": "force"}));
    let told = delivered(&mut owner, &added);
    assert_eq!(told["deliveryStatus"], "not-delivered", "{told}");
    let came = second.accept().map(|_| ()).unwrap_err();
    assert_eq!(came.kind(), std::io::ErrorKind::WouldBlock, "nobody came");
}

#[test]
fn e73_who_only_reads_is_told_of_no_decision_no_secret_and_no_session_it_did_not_ask_for() {
    const BIRD: &str = "canary-event-41aa";
    let gateway = gateway!();
    let mut readers: Vec<Client> = DIALECTS
        .iter()
        .map(|(protocol, _)| with(&gateway, *protocol, &["operator.read"]))
        .collect();
    for reader in &mut readers {
        reader.call("sessions.subscribe", &json!({}));
        let asked = json!({"key": "agent:main:mine", "includeApprovals": true});
        reader.call("sessions.messages.subscribe", &asked);
        for closed in [
            "device.pair.list",
            "exec.approval.list",
            "tokens.list",
            "node.pair.list",
        ] {
            let error = reader.refused(closed, &json!({}));
            assert!(error.message.starts_with("missing scope: "), "{closed}");
        }
    }
    let mut owner = gateway.owner(4);
    for role in ["operator", "node"] {
        let device = Device::new();
        let connect = Connect::new(4).token(TOKEN).device(&device).role(role);
        let connect = match role {
            "node" => connect.client("node-host", "node").scopes(&[]),
            _ => connect.with_client("displayName", BIRD),
        };
        let refusal = gateway.from_afar(&connect).map(|_| ()).unwrap_err();
        let id = refusal.error.unwrap().detail("requestId").clone();
        owner.call("device.pair.approve", &json!({"requestId": id}));
    }
    let ask = json!({"id": "b", "command": format!("echo {BIRD}"), "sessionKey": "agent:main:mine",
        "timeoutMs": 60_000, "twoPhase": true});
    owner.call("exec.approval.request", &ask);
    owner.call(
        "exec.approval.resolve",
        &json!({"id": "b", "decision": "deny"}),
    );
    let made = api_token(&gateway, "bird", &["operator.read"]);
    owner.call("tokens.revoke", &json!({"name": "bird"}));
    let patch = json!({"gateway": {"remote": {"token": BIRD}}}).to_string();
    assert!(matches!(
        change(&mut owner, "config.patch", &patch),
        Call::Ok(_)
    ));
    owner.call("talk.mode", &json!({"enabled": true}));
    let inject = |owner: &mut Client, key: &str, words: &str| {
        owner.call("sessions.patch", &json!({"key": key}));
        owner.call("chat.inject", &json!({"sessionKey": key, "message": words}));
    };
    inject(&mut owner, "agent:main:other", "unheard");
    inject(&mut owner, "agent:main:mine", "heard");
    for reader in &mut readers {
        let events = reader.events_until_now();
        let all = Value::Array(events.clone()).to_string();
        for secret in [BIRD, TOKEN, &made] {
            assert!(!all.contains(secret), "{all}");
        }
        let mut heard = 0;
        for event in &events {
            let name = event["event"].as_str().unwrap();
            for closed in [
                "device.",
                "node.pair",
                "exec.",
                "approval",
                "talk.",
                "config",
                "token",
            ] {
                assert!(!name.starts_with(closed), "{event}");
            }
            if name == "session.message" {
                assert_eq!(event["payload"]["sessionKey"], "agent:main:mine", "{event}");
                heard += 1;
            }
        }
        assert_eq!(heard, 1, "what was asked for is told: {all}");
    }
}

#[test]
fn e74_a_log_is_bounded_names_no_other_file_and_no_line_of_it_is_forged() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let evil = "no\n2026-01-01T00:00:00Z INFO forged\r\u{1b}[2J\u{1b}]52;c;cm0gLXJm\u{7}\u{9b}31m\u{202e}gnp.exe\u{2066}\u{200b}{\"level\":\"info\",\"msg\":\"forged\"}";
    owner.refused(evil, &json!({}));
    owner.refused("agents.files.get", &json!({"agentId": evil, "name": evil}));
    let hello = Connect::new(4)
        .token("wrong")
        .with_client("displayName", evil);
    gateway.refusal(&hello.with_client("version", evil));
    gateway.says("forged");
    // Enough that the tail does not hold it.
    for (protocol, _) in DIALECTS {
        let mut reader = with(&gateway, protocol, &["operator.read"]);
        for params in [
            json!({"limit": 5_001}),
            json!({"limit": u64::MAX}),
            json!({"limit": 0}),
            json!({"limit": -1}),
            json!({"maxBytes": 1_000_001}),
            json!({"maxBytes": u64::MAX}),
            json!({"cursor": -1}),
            json!({"file": "/etc/passwd"}),
            json!({"path": "../../etc/passwd"}),
            json!({"cursor": "../x"}),
            json!({"date": "2026-01-01"}),
        ] {
            let error = reader.refused("logs.tail", &params);
            assert_eq!(error.code, "INVALID_REQUEST", "{params}");
        }
        let told = reader.call(
            "logs.tail",
            &json!({"limit": 5_000, "maxBytes": 1_000_000, "cursor": i64::MAX}),
        );
        assert_eq!(told["reset"], true, "a cursor beyond the end begins anew");
        let lines = told["lines"].as_array().unwrap();
        assert!(lines.len() <= 5_000);
        assert!(
            lines
                .iter()
                .any(|line| line.as_str().unwrap().contains("forged"))
        );
        for line in lines {
            let line = line.as_str().unwrap();
            let odd = |c: char| {
                c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            assert!(!line.contains(odd), "{line:?}");
            let read: Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            assert!(read.is_object(), "{line}");
            assert_ne!(read["msg"], "forged", "{line}");
            assert_ne!(read["message"], "forged", "{line}");
        }
        let one = reader.call("logs.tail", &json!({"limit": 1, "maxBytes": 300}));
        assert!(one["lines"].as_array().unwrap().len() <= 1);
    }
    let port = gateway.address().port().to_string();
    for args in [&["logs"][..], &["logs", "--plain"], &["logs", "--json"]] {
        let done = Terminal::new()
            .env(
                "CLAWGATE_STATE_DIR",
                gateway.home().state().display().to_string(),
            )
            .env("CLAWGATE_GATEWAY_PORT", port.clone())
            .run(args)
            .exits(0);
        assert!(done.stdout.contains("forged"), "{args:?}");
        for c in ['\u{1b}', '\u{9b}', '\u{7}', '\r', '\u{202e}', '\u{2066}'] {
            assert!(!done.stdout.contains(c), "{args:?} {c:?}");
        }
        let forged = |line: &str| line.starts_with("2026-01-01");
        assert!(!done.stdout.lines().any(forged), "{args:?}");
    }
}
