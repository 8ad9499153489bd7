//! Commands against a scripted gateway: what is sent, what is printed, how they exit.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "../../client/tests/support/server.rs"]
mod server;
#[path = "support/terminal.rs"]
mod terminal;

use serde_json::{Value, json};
use server::{Act, Greeting, Reply, Server, hello_v4, owner, refusal};
use terminal::Terminal;

fn answering(hello: Value) -> Server {
    Server::start(
        Greeting::Challenge,
        move |_, _| Act::Hello(hello.clone()),
        |method, params| match method {
            "health" => Reply::Payload(json!({"ok": true, "agents": [], "sessions": {"count": 0}})),
            "status" => Reply::Payload(
                json!({"runtimeVersion": "t", "sessions": {"count": 0, "recent": []}}),
            ),
            "system-presence" => {
                Reply::Payload(json!([{"host": "vm", "ip": "192.0.2.2", "version": "t",
                "platform": "linux", "mode": "gateway", "reason": "self", "text": "x", "ts": 1}]))
            }
            "config.get" => Reply::Payload(json!({"path": "/c", "exists": true, "valid": true,
                "issues": [], "config": {"gateway": {"port": 1, "auth": {"mode": "token"}}}})),
            "cron.add" | "cron.update" => {
                Reply::Payload(json!({"id": "j1", "name": "n", "enabled": true,
                "createdAtMs": 1, "updatedAtMs": 1, "schedule": {"kind": "every", "everyMs": 60000},
                "sessionTarget": "main", "wakeMode": "now",
                "payload": {"kind": "systemEvent", "text": "hi"}, "state": {}, "echo": params}))
            }
            "cron.status" => Reply::Payload(
                json!({"enabled": false, "storePath": "/s", "jobs": 1, "nextWakeAtMs": null}),
            ),
            "cron.list" => {
                Reply::Payload(json!({"jobs": [{"id": "j1", "name": "n", "enabled": true,
                "createdAtMs": 1, "updatedAtMs": 1, "schedule": {"kind": "cron", "expr": "0 * * * *", "staggerMs": 5},
                "sessionTarget": "isolated", "wakeMode": "now", "payload": {"kind": "agentTurn", "message": "m"},
                "state": {}}], "total": 1, "offset": 0, "limit": 50, "hasMore": false, "nextOffset": null}))
            }
            "cron.run" => Reply::Payload(json!({"ok": true, "ran": false, "reason": "not-due"})),
            "cron.remove" => Reply::Payload(json!({"ok": true, "removed": false})),
            "tokens.create" => Reply::Payload(json!({"token": "cgt_shown_once",
                "record": {"name": "ci", "scopes": ["operator.read"], "createdAtMs": 1}})),
            _ => Reply::Error(
                json!({"code": "INVALID_REQUEST", "message": format!("unknown method: {method}")}),
            ),
        },
    )
}

fn run(terminal: &Terminal, server: &Server, args: &[&str]) -> terminal::Done {
    let url = server.url();
    terminal
        .run(&[args, &["--url", &url, "--token", "canary-token"]].concat())
        .never_says("canary-token")
}

#[test]
fn probe_prints_four_facts_with_evidence() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    let done = run(&terminal, &server, &["gateway", "probe"]).exits(0);
    for fact in [
        "reachable   yes",
        "handshake   yes",
        "authorized  yes",
        "rpc         yes",
    ] {
        assert!(done.stdout.contains(fact), "{done:#?}");
    }
    assert_eq!(server.connects()[0]["client"]["mode"], "probe");
    let methods: Vec<String> = server
        .requests()
        .into_iter()
        .map(|(method, _)| method)
        .collect();
    assert_eq!(
        methods,
        ["health", "status", "system-presence", "config.get"]
    );
}

#[test]
fn probe_json_has_the_originals_shape_and_our_facts() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    let report = run(&terminal, &server, &["gateway", "probe", "--json"])
        .exits(0)
        .json();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        names(&report),
        "ok degraded ts durationMs timeoutMs primaryTargetId warnings network discovery targets"
    );
    let target = &report["targets"][0];
    assert_eq!(
        names(target),
        "id kind url active tunnel connect self config health summary presence facts"
    );
    assert_eq!(
        names(&target["connect"]),
        "ok rpcOk scopeLimited latencyMs error close"
    );
    assert_eq!(
        names(&target["facts"]),
        "reachable handshake authorized rpc next"
    );
    assert_eq!(
        (&report["ok"], &report["primaryTargetId"]),
        (&json!(true), &json!("explicit"))
    );
    assert_eq!(target["self"]["host"], "vm");
    assert_eq!(target["presence"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_session_without_scopes_is_not_called_to_see_it_fail() {
    let (terminal, server) = (Terminal::new(), answering(hello_v4(&[])));
    let done = run(&terminal, &server, &["gateway", "probe", "--json"]).exits(4);
    let report = done.json();
    let connect = &report["targets"][0]["connect"];
    assert_eq!(
        (&report["ok"], &report["degraded"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        (&connect["ok"], &connect["rpcOk"], &connect["scopeLimited"]),
        (&json!(true), &json!(false), &json!(true))
    );
    assert_eq!(
        report["targets"][0]["facts"]["authorized"]["missing"],
        json!(["operator.read"])
    );
    assert_eq!(report["warnings"][0]["code"], "probe_scope_limited");
    let methods: Vec<String> = server
        .requests()
        .into_iter()
        .map(|(method, _)| method)
        .collect();
    assert_eq!(methods, ["health"], "the one call that needs no scope");
}

#[test]
fn a_command_that_falls_short_stops_with_what_is_missing_and_why() {
    let mut hello = hello_v4(&["operator.read"]);
    hello["auth"]["basis"] = "shared-secret-narrow".into();
    hello["auth"]["missing"] = json!([{"scope": "operator.admin", "reason": "not-approved"}]);
    hello["auth"]["pendingRequestId"] = "req-7".into();
    let (terminal, server) = (Terminal::new(), answering(hello));
    let add = [
        "cron",
        "add",
        "--name",
        "n",
        "--every",
        "1m",
        "--system-event",
        "hi",
    ];
    let done = run(&terminal, &server, &add).exits(4);
    assert!(server.requests().is_empty(), "{:?}", server.requests());
    insta::assert_snapshot!(done.stderr.replace(&server.url(), "URL"), @r"
    error: connected, but not authorized: missing operator.admin
      needs       operator.admin for cron.add, cron.status
      granted     operator.read
      gateway     URL (cli --url)
      credential  --token
      rule        shared-secret-narrow
      why         operator.admin: not-approved
      next: on the gateway's machine: clawgate devices approve req-7
      next: clawgate auth explain
    ");
    let error = run(&terminal, &server, &[&add[..], &["--json"]].concat())
        .exits(4)
        .json_error();
    assert_eq!(
        (&error["kind"], &error["code"]),
        (&json!("unauthorized"), &json!("MISSING_SCOPE"))
    );
    assert_eq!(error["hints"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_refused_credential_is_named_by_source_and_never_shown() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| refusal("AUTH_TOKEN_MISMATCH"),
        |_, _| Reply::Nothing,
    );
    let port = server.address.port();
    let from_config = Terminal::new().config(&format!(
        r#"{{"gateway":{{"port":{port},"auth":{{"token":"canary-config"}}}}}}"#
    ));
    drop(
        from_config
            .run(&["health"])
            .exits(5)
            .complains("config gateway.auth.token")
            .complains("next: the token from config gateway.auth.token")
            .never_says("canary"),
    );
    let error = from_config.run(&["health", "--json"]).exits(5).json_error();
    assert_eq!(
        (&error["kind"], &error["code"]),
        (&json!("refused"), &json!("AUTH_TOKEN_MISMATCH"))
    );
    let from_env = from_config.env("OPENCLAW_GATEWAY_TOKEN", "canary-env");
    drop(
        from_env
            .run(&["health"])
            .exits(5)
            .complains("env OPENCLAW_GATEWAY_TOKEN")
            .never_says("canary"),
    );
    let last = server.connects();
    let tokens: Vec<&Value> = last
        .iter()
        .map(|connect| &connect["auth"]["token"])
        .collect();
    assert_eq!(
        tokens,
        [
            "canary-config",
            "canary-config",
            "canary-env",
            "canary-config"
        ]
    );
}

#[test]
fn a_pairing_refusal_names_the_command_that_ends_it() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Refuse {
            error: json!({"code": "NOT_PAIRED", "message": "pairing required",
                "details": {"code": "PAIRING_REQUIRED", "requestId": "req-9"}}),
            code: 1008,
            reason: "pairing required",
        },
        |_, _| Reply::Nothing,
    );
    let done = run(&Terminal::new(), &server, &["devices", "list"]).exits(5);
    drop(done.complains("clawgate devices approve req-9"));
}

#[test]
fn a_gateway_that_is_down_is_unreachable_and_status_still_exits_0() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let terminal = Terminal::new().env("CLAWGATE_GATEWAY_PORT", free.to_string());
    drop(
        terminal
            .run(&["health"])
            .exits(3)
            .complains("not reachable")
            .complains("clawgate gateway run"),
    );
    drop(terminal.run(&["cron", "status", "--json"]).exits(3));
    let report = terminal
        .run(&["gateway", "probe", "--json"])
        .exits(3)
        .json();
    assert_eq!(
        report["targets"][0]["connect"]["close"],
        json!({"code": 1006, "reason": ""})
    );
    assert_eq!(
        report["targets"][0]["connect"]["error"],
        format!("connect failed: connect ECONNREFUSED 127.0.0.1:{free}")
    );
    assert_eq!(report["targets"][0]["facts"]["reachable"]["ok"], false);
    let status = terminal.run(&["status", "--json"]).exits(0).json();
    assert_eq!(
        (
            &status["gateway"]["reachable"],
            &status["gateway"]["urlSource"]
        ),
        (&json!(false), &json!("local loopback"))
    );
    drop(terminal.run(&["status"]).exits(0).says("down"));
    let status = terminal
        .run(&["gateway", "status", "--json"])
        .exits(0)
        .json();
    assert_eq!(
        (&status["rpc"]["ok"], &status["port"]["status"]),
        (&json!(false), &json!("free"))
    );
    drop(
        terminal
            .run(&["gateway", "status", "--require-rpc", "--json"])
            .exits(1),
    );
    drop(terminal.run(&["gateway", "status", "--no-probe"]).exits(0));
}

#[test]
fn cron_add_sends_what_the_original_sends_on_one_connection() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    let cases: &[(&[&str], Value)] = &[
        (
            &[
                "--name",
                "cli every",
                "--every",
                "10m",
                "--session",
                "main",
                "--system-event",
                "ping",
            ],
            json!({"name": "cli every", "enabled": true, "schedule": {"kind": "every", "everyMs": 600_000},
                "sessionTarget": "main", "wakeMode": "now", "payload": {"kind": "systemEvent", "text": "ping"}}),
        ),
        (
            &[
                "--name",
                "cli cron",
                "--cron",
                "0 7 * * 1-5",
                "--tz",
                "Europe/Berlin",
                "--session",
                "isolated",
                "--message",
                "morning",
                "--thinking",
                "low",
                "--announce",
                "--channel",
                "last",
            ],
            json!({"name": "cli cron", "enabled": true,
                "schedule": {"kind": "cron", "expr": "0 7 * * 1-5", "tz": "Europe/Berlin"},
                "sessionTarget": "isolated", "wakeMode": "now",
                "payload": {"kind": "agentTurn", "message": "morning", "thinking": "low"},
                "delivery": {"mode": "announce", "channel": "last"}}),
        ),
        (
            &[
                "--name",
                "once",
                "--at",
                "2026-12-01T09:00:00+01:00",
                "--system-event",
                "x",
                "--keep-after-run",
                "--disabled",
            ],
            json!({"name": "once", "enabled": false, "deleteAfterRun": false,
                "schedule": {"kind": "at", "at": "2026-12-01T08:00:00.000Z"},
                "sessionTarget": "main", "wakeMode": "now", "payload": {"kind": "systemEvent", "text": "x"}}),
        ),
        (
            &[
                "--name",
                "Every",
                "--every",
                "1.5h",
                "--message",
                "x",
                "--model",
                "mock/m1",
                "--timeout-seconds",
                "30",
                "--light-context",
                "--channel",
                "telegram",
                "--to",
                "-100123:topic:4",
                "--best-effort-deliver",
                "--agent",
                "main",
            ],
            json!({"name": "Every", "agentId": "main", "enabled": true,
                "schedule": {"kind": "every", "everyMs": 5_400_000},
                "sessionTarget": "isolated", "wakeMode": "now",
                "payload": {"kind": "agentTurn", "message": "x", "model": "mock/m1", "timeoutSeconds": 30, "lightContext": true},
                "delivery": {"mode": "announce", "channel": "telegram", "to": "-100123:topic:4", "bestEffort": true}}),
        ),
        (
            &[
                "--name",
                "s",
                "--cron",
                "0 * * * *",
                "--exact",
                "--message",
                "x",
                "--no-deliver",
            ],
            json!({"name": "s", "enabled": true, "schedule": {"kind": "cron", "expr": "0 * * * *", "staggerMs": 0},
                "sessionTarget": "isolated", "wakeMode": "now", "payload": {"kind": "agentTurn", "message": "x"},
                "delivery": {"mode": "none", "channel": "last"}}),
        ),
    ];
    for (number, (args, want)) in cases.iter().enumerate() {
        let done = run(
            &terminal,
            &server,
            &[&["cron", "add", "--json"], *args].concat(),
        )
        .exits(0);
        assert_eq!(&done.json()["echo"], want);
        drop(done.complains("the scheduler is off"));
        assert_eq!(
            server.connects().len(),
            number + 1,
            "one connection for both calls"
        );
    }
}

#[test]
fn cron_edit_patches_only_what_is_named() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    let cases: &[(&[&str], Value)] = &[
        (&[], json!({})),
        (
            &["--name", "cli renamed", "--every", "15m"],
            json!({"name": "cli renamed", "schedule": {"kind": "every", "everyMs": 900_000}}),
        ),
        (
            &["--tz", "UTC"],
            json!({"schedule": {"kind": "cron", "expr": "0 * * * *", "tz": "UTC", "staggerMs": 5}}),
        ),
        (
            &["--exact"],
            json!({"schedule": {"kind": "cron", "expr": "0 * * * *", "staggerMs": 0}}),
        ),
        (
            &["--clear-agent", "--disable", "--model", "a/b"],
            json!({"enabled": false, "agentId": null, "payload": {"kind": "agentTurn", "model": "a/b"}}),
        ),
        (
            &["--channel", "telegram", "--to", "123"],
            json!({"delivery": {"channel": "telegram", "to": "123"}}),
        ),
        (
            &[
                "--failure-alert-after",
                "3",
                "--failure-alert-cooldown",
                "30m",
                "--failure-alert-mode",
                "webhook",
            ],
            json!({"failureAlert": {"after": 3, "cooldownMs": 1_800_000, "mode": "webhook"}}),
        ),
        (&["--no-failure-alert"], json!({"failureAlert": false})),
    ];
    for (args, want) in cases {
        let done = run(
            &terminal,
            &server,
            &[&["cron", "edit", "j1", "--json"], *args].concat(),
        )
        .exits(0);
        assert_eq!(done.json()["echo"], json!({"id": "j1", "patch": want}));
    }
}

#[test]
fn cron_keeps_the_exit_codes_that_scripts_rely_on() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    drop(
        run(&terminal, &server, &["cron", "rm", "nope"])
            .exits(0)
            .says("there is no job nope"),
    );
    drop(
        run(&terminal, &server, &["cron", "run", "j1", "--due"])
            .exits(1)
            .says("not-due"),
    );
    drop(
        run(&terminal, &server, &["cron", "show", "n"])
            .exits(0)
            .says("cron 0 * * * *"),
    );
}

#[test]
fn a_token_is_alone_on_stdout() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    let create = [
        "tokens",
        "create",
        "--name",
        "ci",
        "--scopes",
        "operator.read",
        "--expires",
        "30d",
    ];
    let done = run(&terminal, &server, &create).exits(0);
    assert_eq!(done.stdout, "cgt_shown_once\n");
    let params = &server.requests()[0].1;
    assert_eq!(
        params,
        &json!({"name": "ci", "scopes": ["operator.read"], "expiresInMs": 2_592_000_000_i64})
    );
}

#[test]
fn can_i_answers_with_its_exit_code() {
    let (terminal, server) = (Terminal::new(), answering(hello_v4(&["operator.read"])));
    drop(
        run(&terminal, &server, &["auth", "can-i", "status"])
            .exits(0)
            .says("yes"),
    );
    drop(
        run(&terminal, &server, &["auth", "can-i", "cron.add"])
            .exits(4)
            .says("missing operator.admin"),
    );
    drop(run(&terminal, &server, &["auth", "can-i", "no.such.method"]).exits(4));
    assert!(server.requests().is_empty());
    drop(
        run(&terminal, &server, &["auth", "explain"])
            .exits(0)
            .says("granted"),
    );
}

#[test]
fn a_failed_call_exits_1_and_terminal_commands_of_a_gateway_do_not_pass() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    drop(
        run(&terminal, &server, &["gateway", "call", "nope"])
            .exits(1)
            .complains("unknown method: nope"),
    );
    let evil = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |_, _| Reply::Error(json!({"code": "UNAVAILABLE", "message": "\u{1b}]0;owned\u{7}oops"})),
    );
    let done = run(&terminal, &evil, &["health"])
        .exits(1)
        .complains("oops");
    drop(done.never_says("\u{1b}"));
}
