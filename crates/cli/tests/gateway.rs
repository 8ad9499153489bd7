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
      why         operator.admin: this device is not approved for it
      next: on the gateway's machine: clawgate devices approve req-7
      next: clawgate auth explain
    ");
    // An API token does not grow by an approval; another one is made.
    let mut hello = hello_v4(&["operator.read"]);
    hello["auth"]["basis"] = "api-token".into();
    hello["auth"]["missing"] = json!([
        {"scope": "operator.admin", "reason": "not-held"},
        {"scope": "operator.admin", "reason": "else"},
    ]);
    let narrow = answering(hello);
    let done = run(&terminal, &narrow, &[&add[..], &["--json"]].concat()).exits(4);
    let error = done.json_error();
    assert_eq!(
        error["hints"][0],
        "clawgate tokens create --name NAME --scopes operator.admin"
    );
    assert_eq!(
        error["details"]["why"],
        json!([
            "operator.admin: the credential does not carry it",
            "operator.admin: else"
        ])
    );
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
fn e82_a_refused_credential_is_named_by_source_and_never_shown() {
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
fn e82_a_gateway_that_is_down_is_unreachable_and_status_still_exits_0() {
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
    // What scripts read is there, empty and of the same types.
    assert_eq!(
        (&status["sessions"]["count"], &status["sessions"]["recent"]),
        (&json!(0), &json!([]))
    );
    // Of the files here, whether or not the gateway runs.
    assert_eq!(
        status["securityAudit"]["summary"],
        json!({"critical": 0, "warn": 0, "info": 2})
    );
    for list in [
        "/channelSummary",
        "/queuedSystemEvents",
        "/heartbeat/agents",
        "/agents/agents",
    ] {
        assert_eq!(status.pointer(list), Some(&json!([])), "{list}");
    }
    assert_eq!(status["agents"]["totalSessions"], 0);
    let usage = terminal
        .run(&["status", "--usage", "--json"])
        .exits(0)
        .json();
    assert_eq!(usage["usage"]["providers"], json!([]));
    // Lines of a log have no object under `error`.
    let failed = terminal.run(&["logs", "--json"]).exits(3);
    let failed: Value = serde_json::from_str(&failed.stderr).unwrap();
    assert_eq!(
        (&failed["type"], &failed["kind"]),
        (&json!("error"), &json!("unreachable"))
    );
    assert!(
        failed["error"].is_string() && failed["details"].is_object(),
        "{failed}"
    );
    assert_eq!(failed["hint"], "clawgate gateway run");
    let lab = terminal.run(&["--profile", "lab", "health"]).exits(3);
    drop(lab.complains("next: clawgate --profile lab gateway run\n"));
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
        run(&terminal, &server, &["cron", "rm", "nope", "--human"])
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
fn removing_a_job_that_is_not_there_is_no_failure_on_either_wire() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |_, _| {
            Reply::Error(json!({"code": "INVALID_REQUEST", "message": "no such job",
                "details": {"code": "CRON_JOB_NOT_FOUND", "jobId": "nope"}}))
        },
    );
    let terminal = Terminal::new();
    let done = run(&terminal, &server, &["cron", "rm", "nope", "--json"]).exits(0);
    assert_eq!(done.json(), json!({"ok": true, "removed": false}));
    // Every other command still says so, and where to look.
    drop(
        run(&terminal, &server, &["cron", "enable", "nope"])
            .exits(1)
            .complains("next: clawgate cron list --all"),
    );
}

#[test]
fn where_the_original_always_prints_json_a_program_gets_it_unasked() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    for args in [
        &[
            "cron",
            "add",
            "--name",
            "n",
            "--every",
            "1m",
            "--system-event",
            "x",
        ][..],
        &["cron", "edit", "j1", "--name", "m"],
        &["cron", "enable", "j1"],
        &["cron", "disable", "j1"],
        &["cron", "rm", "j1"],
        &["cron", "run", "j1"],
        &["cron", "status"],
        &["system", "presence"],
    ] {
        let unasked = run(&terminal, &server, args);
        let asked = run(&terminal, &server, &[args, &["--json"]].concat());
        assert_eq!(unasked.json(), asked.json(), "{args:?}");
        let human = run(&terminal, &server, &[args, &["--human"]].concat());
        assert!(!human.stdout.starts_with(['{', '[']), "{human:#?}");
    }
    let list = run(&terminal, &server, &["cron", "list"]).exits(0);
    assert!(list.stdout.starts_with("ID"), "{list:#?}");
}

#[test]
fn a_job_for_an_agent_is_added_with_a_warning_where_no_agent_runs() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    let add = ["cron", "add", "--name", "n", "--every", "1m"];
    drop(
        run(
            &terminal,
            &server,
            &[&add[..], &["--message", "x"]].concat(),
        )
        .exits(0)
        .complains("runs no agent turns"),
    );
    let event = run(
        &terminal,
        &server,
        &[&add[..], &["--system-event", "x"]].concat(),
    )
    .exits(0);
    drop(event.never_says("agent turns"));
    let mut hello = owner();
    let methods = hello["features"]["methods"].as_array_mut().unwrap();
    methods.push("agent".into());
    let server = answering(hello);
    let served = run(
        &terminal,
        &server,
        &[&add[..], &["--message", "x"]].concat(),
    )
    .exits(0);
    drop(served.never_says("agent turns"));
}

#[test]
fn a_wrong_token_on_the_command_line_is_refused_whatever_else_is_at_hand() {
    // The first connect brings a device token; then the token turns out wrong.
    let server = Server::start(
        Greeting::Challenge,
        |_, connect| match connect["auth"]["token"].as_str() {
            Some("wrong") => refusal("AUTH_TOKEN_MISMATCH"),
            _ => {
                let mut hello = owner();
                hello["auth"]["deviceToken"] = "issued".into();
                Act::Hello(hello)
            }
        },
        |_, _| Reply::Payload(json!({"ok": true})),
    );
    let terminal = Terminal::new().env("CLAWGATE_GATEWAY_PORT", server.address.port().to_string());
    drop(terminal.run(&["health", "--token", "right"]).exits(0));
    drop(
        terminal
            .run(&["health", "--token", "wrong"])
            .exits(5)
            .complains("--token"),
    );
    assert_eq!(server.offered(), [["token"], ["token"]]);
    // One that merely stands in the environment is not asked about.
    let terminal = terminal.env("CLAWGATE_GATEWAY_TOKEN", "wrong");
    drop(
        terminal
            .run(&["health"])
            .exits(0)
            .complains("stored device token"),
    );
}

fn paired(id: &str) -> Value {
    json!({"deviceId": id, "publicKey": "k", "role": "operator", "roles": ["operator"],
        "scopes": ["operator.read"], "createdAtMs": 1, "approvedAtMs": 1, "tokens": []})
}

#[test]
fn the_beginning_of_an_id_is_enough_when_it_is_the_only_one() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |method, params| match method {
            "device.pair.list" => Reply::Payload(json!({
                "pending": [],
                "paired": [paired(&"abcdef01".repeat(8)), paired(&"abcdef02".repeat(8))],
            })),
            "device.pair.remove" => Reply::Payload(json!({"deviceId": params["deviceId"]})),
            "device.token.rotate" => Reply::Payload(json!({"deviceId": params["deviceId"],
                "role": "operator", "scopes": [], "rotatedAtMs": 1})),
            _ => Reply::Error(json!({"code": "INVALID_REQUEST", "message": "unknown deviceId"})),
        },
    );
    let terminal = Terminal::new();
    drop(
        run(&terminal, &server, &["devices", "remove", "abcdef02"])
            .exits(0)
            .says(&"abcdef02".repeat(8)),
    );
    drop(
        run(&terminal, &server, &["devices", "remove", "abcdef"])
            .exits(1)
            .complains("abcdef could be 2 of them")
            .complains("next: clawgate devices list"),
    );
    // Too short to be meant as a beginning: the gateway judges it, and no list is asked for.
    let before = server.requests().len();
    drop(run(&terminal, &server, &["devices", "remove", "abcde"]).exits(0));
    assert_eq!(server.requests().len(), before + 1);
    // No token for another device's owner: a script is told why.
    let rotate = [
        "devices", "rotate", "--role", "operator", "--json", "--device",
    ];
    let done = run(&terminal, &server, &[&rotate[..], &["abcdef01"]].concat()).exits(0);
    assert_eq!(done.json()["deviceId"], "abcdef01".repeat(8));
    drop(done.complains("the device gets its new token with its next connect"));
    drop(
        run(
            &terminal,
            &server,
            &["devices", "revoke", "--role", "operator", "--device", "x"],
        )
        .exits(1)
        .complains("next: clawgate devices list"),
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
    for method in ["no.such.method", "sessions.list"] {
        let done = run(&terminal, &server, &["auth", "can-i", method, "--json"]).exits(4);
        assert_eq!(
            (&done.json()["allowed"], &done.json()["reason"]),
            (&json!(false), &json!("not served here"))
        );
    }
    assert!(server.requests().is_empty());
    drop(
        run(&terminal, &server, &["auth", "explain"])
            .exits(0)
            .says("granted"),
    );
}

#[test]
fn what_answers_and_is_no_gateway_has_refused_nobody() {
    let server = Server::start(Greeting::Silence, |_, _| Act::Ignore, |_, _| Reply::Nothing);
    let terminal = Terminal::new().env("CLAWGATE_GATEWAY_PORT", server.address.port().to_string());
    drop(
        terminal
            .run(&["status", "--timeout", "200"])
            .exits(0)
            .says("something answers there, but not as a gateway"),
    );
    drop(
        terminal
            .run(&["gateway", "probe", "--timeout", "200"])
            .exits(6)
            .says("authorized  no   not tried"),
    );
    let refusing = Server::start(
        Greeting::Challenge,
        |_, _| refusal("AUTH_TOKEN_MISMATCH"),
        |_, _| Reply::Nothing,
    );
    drop(
        run(&terminal, &refusing, &["status"])
            .exits(0)
            .says("answers, but refused this client"),
    );
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_fails_and_a_reader_that_left_does_not() {
    let (terminal, server) = (Terminal::new(), answering(owner()));
    let url = server.url();
    let args = ["cron", "list", "--url", &url, "--token", "t"];
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let done = terminal.run_into(&args, full.into());
    drop(done.exits(6).complains("cannot write the output"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = terminal.run_into(&args, writer.into()).exits(0);
    assert_eq!(done.stderr, "");
}

#[cfg(unix)]
#[test]
fn following_a_log_ends_with_its_reader() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |_, _| {
            Reply::Payload(json!({"file": "/l", "cursor": 1, "size": 1, "lines": [],
                "truncated": false, "reset": false}))
        },
    );
    let url = server.url();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (ended, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let follow = ["logs", "--follow", "--url", &url, "--token", "t"];
        ended.send(Terminal::new().run_into(&follow, writer.into()).code)
    });
    // As `head -n 1` does: the first line, and gone, while nothing more is logged.
    let mut first = [0; 4];
    std::io::Read::read_exact(&mut reader, &mut first).unwrap();
    drop(reader);
    assert_eq!(wait.recv_timeout(std::time::Duration::from_secs(20)), Ok(0));
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
