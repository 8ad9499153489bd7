//! Attacks on the command line: E82 of the checklist (docs/attacks.md).

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "../../client/tests/support/server.rs"]
mod server;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clawgate_testkit::{TOKEN, gateway};
use serde_json::{Value, json};
use server::{Act, Greeting, Reply, Server, hello_v4, owner, refusal};
use terminal::{Done, Terminal};

/// What no terminal may be sent: escapes, their eight-bit forms, a clipboard, a title, what
/// reorders and what hides.
const EVIL: &str = "n\u{1b}[2J\u{1b}[31m\u{1b}]52;c;cm0gLXJm\u{7}\u{1b}]0;t\u{1b}\\\u{9b}31m\u{9d}52;c;eA==\u{9c}\u{90}q\r\u{8}\u{202e}exe.gnp\u{2066}\u{2069}\u{200b}\u{feff}\u{7f}\nforged line";

/// Commands that ask a gateway.
const ASKING: &[&[&str]] = &[
    &["health"],
    &["cron", "list"],
    &["cron", "status"],
    &["cron", "rm", "x"],
    &["devices", "list"],
    &["devices", "approve", "x"],
    &["nodes", "list"],
    &["sessions", "show", "main"],
    &["tokens", "list"],
    &["approvals", "pending"],
    &["logs"],
    &["gateway", "probe"],
    &["gateway", "call", "health"],
    &["system", "presence"],
    &["auth", "can-i", "operator.read"],
];

/// A place where nobody may come.
struct Sink(TcpListener);

impl Sink {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    #[track_caller]
    fn nobody_came(&self, what: &str) {
        match self.0.accept() {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            Ok(_) => panic!("{what}: somebody came"),
        }
    }
}

/// A terminal that has a secret of every kind at hand.
fn with_secrets(gateway: u16) -> Terminal {
    Terminal::new().config(&format!(
        r#"{{"gateway": {{"port": {gateway}, "auth": {{"mode": "token", "token": "canary-config"}},
            "remote": {{"token": "canary-remote", "password": "canary-password"}}}}}}"#
    ))
}

#[test]
fn e82_an_address_without_a_credential_of_its_own_is_sent_none() {
    let sink = Sink::new();
    for url in [
        format!("wss://127.0.0.1:{}", sink.port()),
        format!("ws://127.0.0.1:{}", sink.port()),
        format!("wss://localhost:{}/x", sink.port()),
    ] {
        let terminal = with_secrets(1).env("CLAWGATE_GATEWAY_TOKEN", "canary-env");
        for args in ASKING {
            let args = [args, &["--url", &url][..]].concat();
            let done = terminal.run(&args).never_says("canary");
            assert_ne!(done.code, 0, "{args:?}");
            assert!(done.stderr.contains("--token"), "{args:?}: {done:?}");
        }
        sink.nobody_came(&url);
    }
    // An address from the environment gets what stands beside it there, and never the file's.
    let server = Server::start(
        Greeting::LocalProof,
        |_, _| refusal("AUTH_TOKEN_MISMATCH"),
        |_, _| Reply::Nothing,
    );
    let terminal = with_secrets(1).env("CLAWGATE_GATEWAY_URL", server.url());
    assert_ne!(terminal.run(&["health"]).never_says("canary").code, 0);
    let terminal = terminal.env("CLAWGATE_GATEWAY_TOKEN", "meant-for-it");
    assert_ne!(terminal.run(&["health"]).code, 0);
    for connect in server.connects() {
        let text = connect.to_string();
        assert!(!text.contains("canary"), "{text}");
        assert!(connect.get("localProof").is_none(), "{text}");
    }
    assert_eq!(server.offered().last().unwrap(), &["token"]);
}

#[test]
fn e82_nothing_is_sent_in_plain_text_to_another_machine() {
    for url in [
        "ws://192.0.2.1:18789",
        "ws://gateway.example:18789",
        "ws://0.0.0.0:18789",
        "ws://10.0.0.1:18789",
        "ws://[2001:db8::1]:18789",
        "ws://127.0.0.1.example:18789",
        "ws://localhost.example:18789",
        "ws://user:pass@192.0.2.1:18789",
        "http://192.0.2.1:18789",
        "ftp://127.0.0.1:18789",
        "ws://",
        "192.0.2.1:18789",
    ] {
        let began = Instant::now();
        let done = Terminal::new()
            .run(&["health", "--json", "--url", url, "--token", "canary-token"])
            .never_says("canary");
        assert_ne!(done.code, 0, "{url}");
        assert!(done.json_error()["code"].is_string(), "{url}: {done:?}");
        // It was not dialled: nobody answers there, and a dial would wait.
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{url}: {:?}",
            began.elapsed()
        );
        // Nor where it stands in a file or in the environment.
        let config = json!({"gateway": {"mode": "remote", "remote": {"url": url, "token": "canary-remote"}}});
        let of_file = Terminal::new().config(&config.to_string());
        assert_ne!(
            of_file.run(&["health"]).never_says("canary").code,
            0,
            "{url}"
        );
        let of_env = Terminal::new()
            .env("CLAWGATE_GATEWAY_URL", url)
            .env("CLAWGATE_GATEWAY_TOKEN", "canary-env");
        assert_ne!(
            of_env.run(&["health"]).never_says("canary").code,
            0,
            "{url}"
        );
    }
}

#[test]
fn e82_a_server_that_sends_elsewhere_is_not_followed() {
    let sink = Sink::new();
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: ws://127.0.0.1:{}/in\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            sink.port()
        );
        let heard = Arc::new(Mutex::new(String::new()));
        let book = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in server.incoming().map_while(Result::ok) {
                let mut stream = stream;
                let mut chunk = [0; 8_192];
                let read = stream.read(&mut chunk).unwrap_or_default();
                book.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&chunk[..read]));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let done = Terminal::new()
            .run(&[
                "health",
                "--json",
                "--url",
                &url,
                "--token",
                "canary-token",
                "--timeout",
                "3000",
            ])
            .never_says("canary");
        assert_ne!(done.code, 0, "{status}");
        assert!(done.json_error()["code"].is_string(), "{status}: {done:?}");
        sink.nobody_came(status);
        // A secret is for who proves to be a gateway, not for whoever is dialled.
        assert!(!heard.lock().unwrap().contains("canary"), "{status}");
    }
}

/// A text of every kind, wherever a command may look for one.
fn hostile(method: &str) -> Reply {
    let device = json!({"deviceId": EVIL, "displayName": EVIL, "platform": EVIL, "clientId": EVIL,
        "clientMode": EVIL, "role": "operator", "roles": ["operator"], "scopes": [EVIL], "remoteIp": EVIL,
        "requestId": EVIL, "createdAtMs": 1, "approvedAtMs": 1, "ts": 1, "tokens": []});
    Reply::Payload(match method {
        "device.pair.list" => json!({"pending": [device], "paired": [device]}),
        "node.list" => {
            json!({"ts": 1, "nodes": [{"nodeId": EVIL, "displayName": EVIL, "platform": EVIL,
            "version": EVIL, "remoteIp": EVIL, "caps": [EVIL], "commands": [EVIL], "paired": true, "connected": true}]})
        }
        "node.pair.list" => json!({"pending": [], "paired": []}),
        "cron.list" => {
            json!({"jobs": [{"id": EVIL, "name": EVIL, "description": EVIL, "enabled": true,
            "createdAtMs": 1, "updatedAtMs": 1, "schedule": {"kind": "cron", "expr": EVIL, "tz": EVIL},
            "sessionTarget": EVIL, "wakeMode": "now", "agentId": EVIL,
            "payload": {"kind": "agentTurn", "message": EVIL, "model": EVIL},
            "state": {"lastError": EVIL, "lastStatus": "error"}}],
            "total": 1, "offset": 0, "limit": 50, "hasMore": false, "nextOffset": null})
        }
        "system-presence" => json!([{"host": EVIL, "ip": EVIL, "version": EVIL, "platform": EVIL,
            "mode": EVIL, "reason": EVIL, "text": EVIL, "ts": 1}]),
        "tokens.list" => json!({"tokens": [{"name": EVIL, "scopes": [EVIL], "createdAtMs": 1}]}),
        "exec.approval.list" => {
            json!([{"id": EVIL, "createdAtMs": 1, "expiresAtMs": 9_999_999_999_999_i64,
            "digest": EVIL, "request": {"command": EVIL, "cwd": EVIL, "host": EVIL, "agentId": EVIL, "sessionKey": EVIL}}])
        }
        "logs.tail" => {
            json!({"file": EVIL, "cursor": 1, "size": 1, "truncated": false, "reset": false,
            "lines": [EVIL, json!({"0": EVIL, "1": EVIL, "message": EVIL, "time": EVIL, "level": EVIL,
                "subsystem": EVIL, "_meta": {"logLevelName": EVIL, "name": EVIL}}).to_string()]})
        }
        "health" => json!({"ok": true, "ts": 1, "agents": [{"agentId": EVIL, "name": EVIL}],
            "sessions": {"path": EVIL, "count": 1, "recent": [{"key": EVIL, "age": 1, "updatedAt": 1}]}}),
        "status" => {
            json!({"runtimeVersion": EVIL, "sessions": {"count": 1, "recent": [{"key": EVIL}]},
            "queuedSystemEvents": [EVIL], "channelSummary": [EVIL]})
        }
        "sessions.list" => json!({"ts": 1, "path": EVIL, "count": 1, "defaults": {},
            "sessions": [{"key": EVIL, "label": EVIL, "displayName": EVIL, "kind": EVIL, "model": EVIL, "updatedAt": 1}]}),
        _ => {
            return Reply::Error(json!({"code": EVIL, "message": EVIL,
            "details": {"code": EVIL, "nextStep": EVIL, "reason": EVIL}}));
        }
    })
}

/// What stands on either stream that moves a cursor, reorders or forges a line.
fn wild(what: &str, done: &Done) -> Vec<String> {
    let odd = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    [&done.stdout, &done.stderr]
        .into_iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.contains(odd) || line.starts_with("forged line"))
        .map(|line| format!("{what}: {line:?}"))
        .collect()
}

#[test]
fn e82_what_a_server_says_is_written_without_what_moves_or_hides() {
    let mut hello = owner();
    hello["server"]["version"] = json!(EVIL);
    hello["server"]["host"] = json!(EVIL);
    hello["auth"]["missing"] = json!([{"scope": EVIL, "reason": EVIL}]);
    let methods = [
        "device.pair.list",
        "node.list",
        "node.pair.list",
        "cron.list",
        "system-presence",
        "tokens.list",
        "exec.approval.list",
        "logs.tail",
        "health",
        "status",
        "sessions.list",
    ];
    hello["features"]["methods"] = json!(methods);
    let server = Server::start(
        Greeting::Challenge,
        move |_, _| Act::Hello(hello.clone()),
        |method, _| hostile(method),
    );
    let url = server.url();
    let (mut shown, mut found) = (0, Vec::new());
    for args in ASKING.iter().copied().chain([
        &["status"][..],
        &["sessions"],
        &["logs", "--plain"],
        &["cron", "show", "n"],
    ]) {
        for json in [false, true] {
            let mut args = [
                args,
                &["--url", &url, "--token", "t", "--timeout", "3000"][..],
            ]
            .concat();
            if json {
                args.push("--json");
            }
            let done = Terminal::new().run(&args);
            found.extend(wild(&format!("{args:?}"), &done));
            shown +=
                usize::from(done.stdout.contains("exe.gnp") || done.stderr.contains("exe.gnp"));
        }
    }
    assert!(shown > 15, "only {shown} showed what was sent");
    let refusing = Server::start(
        Greeting::Challenge,
        |_, _| Act::Refuse {
            error: json!({"code": "INVALID_REQUEST", "message": EVIL, "details": {"code": EVIL,
                "requestId": EVIL, "remediationHint": EVIL, "nextStep": EVIL, "canRetryWithDeviceToken": false}}),
            code: 1008,
            reason: "no\u{1b}[2J\u{202e}",
        },
        |_, _| Reply::Nothing,
    );
    let at = refusing.url();
    for args in [
        &["health"][..],
        &["status"],
        &["gateway", "probe"],
        &["health", "--json"],
    ] {
        let args = [
            args,
            &["--url", &at, "--token", "t", "--timeout", "3000"][..],
        ]
        .concat();
        found.extend(wild(&format!("{args:?}"), &Terminal::new().run(&args)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn e82_two_tokens_that_differ_are_named_by_where_they_come_from() {
    for args in [&["health"][..], &["cron", "list"], &["devices", "list"]] {
        // Who guesses again and again is slowed, so each has a gateway of its own.
        let gateway = gateway!();
        let port = gateway.address().port();
        let terminal = with_secrets(port).env("CLAWGATE_GATEWAY_TOKEN", "canary-env");
        let done = terminal
            .run(args)
            .exits(5)
            .never_says("canary")
            .never_says(TOKEN);
        for source in ["env CLAWGATE_GATEWAY_TOKEN", "config gateway.auth.token"] {
            assert!(done.stderr.contains(source), "{args:?}: {done:?}");
        }
        let error = terminal
            .run(&[args, &["--json"]].concat())
            .exits(5)
            .json_error();
        assert_eq!(error["code"], "AUTH_TOKEN_MISMATCH", "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn e82_without_a_gateway_every_command_ends_in_time_with_a_failure_that_is_json() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let silent = Server::start(Greeting::Silence, |_, _| Act::Ignore, |_, _| Reply::Nothing);
    let garbage = Server::start(Greeting::Garbage, |_, _| Act::Ignore, |_, _| Reply::Nothing);
    let mute = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(hello_v4(&["operator.admin", "operator.read"])),
        |_, _| Reply::Nothing,
    );
    // Takes a connection and says nothing at all.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let places = [
        ("nobody", free),
        ("a socket without a challenge", silent.address.port()),
        ("what is no frame", garbage.address.port()),
        ("a gateway that answers nothing", mute.address.port()),
        (
            "a listener that says nothing",
            deaf.local_addr().unwrap().port(),
        ),
    ];
    std::thread::scope(|scope| {
        for (what, port) in places {
            scope.spawn(move || {
                for args in ASKING {
                    let url = format!("ws://127.0.0.1:{port}");
                    let args = [
                        args,
                        &[
                            "--json",
                            "--timeout",
                            "300",
                            "--url",
                            &url,
                            "--token",
                            "canary-t",
                        ][..],
                    ]
                    .concat();
                    let began = Instant::now();
                    let done = Terminal::new().run(&args).never_says("canary");
                    let took = began.elapsed();
                    assert_ne!(done.code, 0, "{what}, {args:?}");
                    assert!(took < Duration::from_secs(4), "{what}, {args:?}: {took:?}");
                    let said = if done.stdout.trim().is_empty() {
                        &done.stderr
                    } else {
                        &done.stdout
                    };
                    let read: Result<Value, _> = serde_json::from_str(said);
                    assert!(read.is_ok(), "{what}, {args:?}: {done:?}");
                }
            });
        }
    });
}
