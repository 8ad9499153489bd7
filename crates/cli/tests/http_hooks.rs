//! Web hooks: who may post, what is kept, and what is refused before anything is read or lost.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use clawgate_testkit::{
    HttpAnswer, PATIENCE, TOKEN, TestGateway, gateway, home, post, request, token_config,
};
use serde_json::{Value, json};

const HOOK: &str = "hook-secret-0001";

fn config(more: &Value) -> Value {
    let mut config = token_config();
    config["hooks"] = json!({"enabled": true, "token": HOOK});
    for (key, value) in more.as_object().expect("an object") {
        config["hooks"][key] = value.clone();
    }
    config
}

fn hooked(gateway: &TestGateway, name: &str, body: &Value) -> HttpAnswer {
    let bearer = format!("Bearer {HOOK}");
    post(
        gateway.address(),
        &format!("/hooks/{name}"),
        &[("Authorization", &bearer)],
        &body.to_string(),
    )
}

/// The texts that wait for the main session.
fn queued(gateway: &TestGateway) -> Vec<String> {
    let status = gateway.owner(4).call("status", &json!({}));
    serde_json::from_value(status["queuedSystemEvents"].clone()).expect("a list of texts")
}

#[test]
fn a_text_that_was_acknowledged_outlives_a_kill() {
    let mut gateway = gateway!(config(&json!({})));
    let now = hooked(&gateway, "wake", &json!({"text": " new mail "}));
    assert_eq!(
        (now.status, now.body.as_str()),
        (200, r#"{"ok":true,"mode":"now"}"#)
    );
    let later = post(
        gateway.address(),
        "/hooks/wake",
        &[("X-OpenClaw-Token", HOOK)],
        r#"{"text":"later","mode":"next-heartbeat"}"#,
    );
    let later: Value = serde_json::from_str(&later.body).unwrap();
    assert_eq!(later, json!({"ok": true, "mode": "next-heartbeat"}));
    gateway.kill();
    gateway.restart();
    assert_eq!(queued(&gateway), ["new mail", "later"]);
}

#[test]
fn the_same_key_with_the_same_text_is_queued_once() {
    let gateway = gateway!(config(&json!({})));
    let bearer = format!("Bearer {HOOK}");
    let send = |header: &str, body: Value| {
        let headers = [("Authorization", bearer.as_str()), (header, "k-1")];
        let answer = post(
            gateway.address(),
            "/hooks/wake",
            &headers,
            &body.to_string(),
        );
        assert_eq!(answer.status, 200);
    };
    send("Idempotency-Key", json!({"text": "once"}));
    send("X-OpenClaw-Idempotency-Key", json!({"text": "once"}));
    send("X-Other", json!({"text": "once", "idempotencyKey": "k-1"}));
    send("Idempotency-Key", json!({"text": "twice"}));
    send("X-Other", json!({"text": "twice"}));
    assert_eq!(queued(&gateway), ["once", "twice", "twice"]);
}

#[test]
fn e41_only_the_hooks_own_secret_in_a_header_opens() {
    let gateway = gateway!(config(&json!({})));
    let at = |path: &str, headers: &[(&str, &str)]| {
        post(gateway.address(), path, headers, r#"{"text":"x"}"#)
    };
    let bearer = format!("Bearer {HOOK}");
    for headers in [
        &[][..],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", &format!("Bearer {TOKEN}"))],
        &[("Authorization", HOOK)],
        &[("X-OpenClaw-Token", "")],
    ] {
        let answer = at("/hooks/wake", headers);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, "Unauthorized"),
            "{headers:?}"
        );
    }
    for path in [
        &format!("/hooks/wake?token={HOOK}"),
        &format!("/hooks/wake?x=1&tok%65n={HOOK}"),
    ] {
        let answer = at(path, &[("Authorization", &bearer)]);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains("query parameters are not allowed"));
        assert!(!gateway.stderr().contains(HOOK));
    }
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let answer = at("/hooks/wake", &[("Authorization", &bearer), (name, value)]);
        assert_eq!(answer.status, 403, "{name}: {value}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let answer = request(gateway.address(), method, "/hooks/wake", &[]);
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
    for path in ["/hooks", "/hooks/", "/hooks/nope"] {
        assert_eq!(
            at(path, &[("Authorization", &bearer)]).status,
            404,
            "{path}"
        );
    }
    assert_eq!(queued(&gateway), Vec::<String>::new());
    let opened = at("/hooks/wake", &[("Authorization", &bearer)]);
    assert_eq!(opened.status, 200);
}

#[test]
fn guessing_is_locked_out_and_requests_without_a_guess_are_not_counted() {
    let gateway = gateway!(config(&json!({})));
    let guess = |secret: &str| {
        let bearer = format!("Bearer {secret}");
        post(
            gateway.address(),
            "/hooks/wake",
            &[("Authorization", &bearer)],
            r#"{"text":"x"}"#,
        )
    };
    for _ in 0..40 {
        assert_eq!(
            request(gateway.address(), "GET", "/hooks/wake", &[]).status,
            405
        );
        assert_eq!(
            post(gateway.address(), "/hooks/wake", &[], "{}").status,
            401
        );
    }
    assert_eq!(guess(HOOK).status, 200);
    for _ in 0..20 {
        assert_eq!(guess("wrong").status, 401);
    }
    for secret in ["wrong", HOOK] {
        let locked = guess(secret);
        assert_eq!(
            (locked.status, locked.body.as_str()),
            (429, "Too Many Requests")
        );
        let seconds: u32 = locked.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    // What guesses at hooks does not lock the operator out.
    assert_eq!(queued(&gateway), ["x"]);
}

#[test]
fn e44_a_body_is_bounded_and_a_strangers_is_not_read_at_all() {
    let gateway = gateway!(config(&json!({"maxBodyBytes": 1000})));
    let bearer = format!("Authorization: Bearer {HOOK}");
    let raw = |head: &str, body: &str| -> String {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = format!(
            "POST /hooks/wake HTTP/1.1\r\nHost: {}\r\n{head}\r\n\r\n{body}",
            gateway.address()
        );
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        // Ends when the gateway closes, which it does without the rest of the body.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let unread = raw(
        "Authorization: Bearer wrong\r\nContent-Length: 1073741824",
        "{",
    );
    assert_eq!(status(&unread), "401", "{unread}");
    let announced = raw(&format!("{bearer}\r\nContent-Length: 1001"), "{");
    assert_eq!(status(&announced), "413", "{announced}");
    assert!(
        announced.ends_with(r#"{"ok":false,"error":"payload too large"}"#),
        "{announced}"
    );
    let chunked = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1001, "x".repeat(1001));
    let grown = raw(&format!("{bearer}\r\nTransfer-Encoding: chunked"), &chunked);
    assert_eq!(status(&grown), "413", "{grown}");
    let both = raw(
        &format!("{bearer}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked"),
        "2\r\n{}\r\n0\r\n\r\n",
    );
    assert_eq!(status(&both), "400", "{both}");
    let packed = raw(
        &format!("{bearer}\r\nContent-Encoding: gzip\r\nContent-Length: 2"),
        "{}",
    );
    assert_eq!(status(&packed), "415", "{packed}");
    for (body, error) in [
        ("{", "invalid JSON"),
        (&"[".repeat(900), "invalid JSON"),
        ("", "text required"),
        ("5", "text required"),
        ("[]", "text required"),
        (r#"{"text":" "}"#, "text required"),
        (r#"{"text":5}"#, "text required"),
        (r#"{"__proto__":{"text":"x"}}"#, "text required"),
    ] {
        let answer = post(
            gateway.address(),
            "/hooks/wake",
            &[("X-OpenClaw-Token", HOOK)],
            body,
        );
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (answer.status, &told["error"]),
            (400, &json!(error)),
            "{body}"
        );
    }
    assert_eq!(queued(&gateway), Vec::<String>::new());
}

#[test]
fn a_mapping_turns_a_payload_into_a_text() {
    let gateway = gateway!(config(&json!({
        "path": "/in",
        "mappings": [
            {"match": {"path": "gh", "source": "ci"}, "action": "wake", "textTemplate": "CI: {{payload.job}}"},
            {"match": {"path": "gh"}, "action": "wake", "wakeMode": "next-heartbeat",
             "textTemplate": "{{headers.x-event}} by {{who[1].name}} in {{repo}} ({{path}}, {{query.n}}) \
                {{payload.missing}}{{headers.authorization}}"},
        ],
    })));
    let send = |path: &str, body: Value| {
        let bearer = format!("Bearer {HOOK}");
        let headers = [("Authorization", bearer.as_str()), ("X-Event", "push")];
        post(gateway.address(), path, &headers, &body.to_string())
    };
    let who = json!([{"name": "a"}, {"name": "{{repo}}"}]);
    let answer = send("/in/gh?n=7", json!({"who": who, "repo": {"id": 1}}));
    assert_eq!(answer.body, r#"{"ok":true,"mode":"next-heartbeat"}"#);
    assert_eq!(
        send("/in/gh/", json!({"source": "ci", "job": 5})).status,
        200
    );
    assert_eq!(
        queued(&gateway),
        [r#"push by {{repo}} in {"id":1} (gh, 7)"#, "CI: 5"]
    );
    assert_eq!(send("/in/other", json!({})).status, 404);
    assert_eq!(send("/hooks/wake", json!({"text": "x"})).status, 404);
}

#[test]
fn a_turn_is_judged_then_accepted_under_an_id_that_tells_how_it_ended() {
    let gateway = gateway!(config(&json!({
        "allowedAgentIds": ["main"], "allowRequestSessionKey": true,
        "allowedSessionKeyPrefixes": ["hook:"], "presets": ["gmail"],
        "mappings": [{"match": {"path": "bad"}, "messageTemplate": "m", "sessionKey": "agent:{{a}}"}],
    })));
    let told = |name: &str, body: Value| {
        let answer = hooked(&gateway, name, &body);
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["ok"], false);
        (answer.status, told["error"].as_str().unwrap().to_owned())
    };
    for (name, body, error) in [
        ("agent", json!({}), "message required"),
        (
            "agent",
            json!({"message": "m", "model": 5}),
            "model required",
        ),
        (
            "agent",
            json!({"message": "m", "sessionKey": "agent:main:main"}),
            "sessionKey must start with one of: hook:",
        ),
        (
            "bad",
            json!({"a": "main"}),
            "sessionKey must start with one of: hook:",
        ),
    ] {
        assert_eq!(told(name, body), (400, error.to_owned()), "{name}");
    }
    for (name, body) in [
        (
            "agent",
            json!({"message": "m", "agentId": " ", "sessionKey": "hook:a"}),
        ),
        ("agent", json!({"message": "m", "agentId": "nobody"})),
        ("gmail", json!({"messages": [{"id": "1", "from": "a"}]})),
    ] {
        let answer = hooked(&gateway, name, &body);
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["ok"], true, "{name}");
        // No model is configured here, which is the turn's matter and not the hook's.
        let wait = json!({"runId": told["runId"], "timeoutMs": 20_000});
        let waited = gateway.owner(4).call("agent.wait", &wait);
        assert_eq!(waited["status"], "error", "{name}: {waited}");
        let why = waited["error"].as_str().unwrap();
        assert!(why.starts_with("no model is configured"), "{name}: {why}");
    }
    assert_eq!(queued(&gateway), Vec::<String>::new());
}

#[test]
fn e49_hooks_that_would_be_open_or_run_code_stop_the_start() {
    for (hooks, path) in [
        (json!({"enabled": true}), "hooks.token"),
        (json!({"enabled": true, "token": TOKEN}), "hooks.token"),
        (
            json!({"enabled": true, "token": HOOK, "mappings": [{"transform": {"module": "t.js"}}]}),
            "hooks.mappings[0].transform",
        ),
    ] {
        let mut config = token_config();
        config["hooks"] = hooks;
        let ended = home!(config).start_in_vain();
        assert_eq!(ended.code, Some(78), "{path}");
        assert!(ended.stderr.contains(path), "{}", ended.stderr);
        assert!(!ended.stderr.contains(HOOK) && !ended.stderr.contains(TOKEN));
    }
}

#[test]
fn hooks_are_not_there_unless_they_are_enabled() {
    let gateway = gateway!();
    let answer = hooked(&gateway, "wake", &json!({"text": "x"}));
    assert_eq!(answer.status, 404);
}

#[test]
fn another_secret_and_another_path_hold_at_once() {
    let gateway = gateway!(token_config());
    let mut owner = gateway.owner(4);
    let mut patch = |hooks: Value| {
        let hash = owner.call("config.get", &json!({}))["hash"].clone();
        let raw = json!({"hooks": hooks}).to_string();
        let told = owner.call("config.patch", &json!({"raw": raw, "baseHash": hash}));
        assert_eq!(told["restart"]["needed"], json!([]), "{told}");
    };
    let wake = |path: &str, secret: &str| {
        let bearer = format!("Bearer {secret}");
        let headers = [("Authorization", bearer.as_str())];
        post(gateway.address(), path, &headers, r#"{"text":"x"}"#).status
    };
    assert_eq!(wake("/hooks/wake", HOOK), 404);
    patch(json!({"enabled": true, "token": HOOK}));
    assert_eq!(wake("/hooks/wake", HOOK), 200);
    let next = "hook-secret-0002";
    patch(json!({"token": next}));
    assert_eq!(wake("/hooks/wake", HOOK), 401);
    assert_eq!(wake("/hooks/wake", next), 200);
    patch(json!({"path": "/in"}));
    assert_eq!(wake("/hooks/wake", next), 404);
    assert_eq!(wake("/in/wake", next), 200);
    patch(json!({"enabled": false}));
    assert_eq!(wake("/in/wake", next), 404);
    assert_eq!(queued(&gateway).len(), 3);
    let told = gateway.stderr();
    assert!(!told.contains(HOOK) && !told.contains(next), "{told}");
}
