//! Commands that wait for somebody to let them run: asked, shown, decided once, or over.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use clawgate_testkit::{Call, Client, Connect, TOKEN, gateway, now_ms};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];
const REQUESTED: &str = "exec.approval.requested";
const RESOLVED: &str = "exec.approval.resolved";
const REQUEST: &str = "exec.approval.request";
const RESOLVE: &str = "exec.approval.resolve";
const WAIT: &str = "exec.approval.waitDecision";

fn asked() -> Value {
    json!({
        "id": "auto-1", "command": "rm -rf /tmp/x", "cwd": "/tmp", "host": "gateway",
        "security": "allowlist", "ask": "on-miss", "agentId": "main",
        "sessionKey": "agent:main:main", "timeoutMs": 60_000,
    })
}

fn answered(client: &mut Client, id: &str) -> Value {
    match client.answer(id) {
        Call::Ok(payload) => payload,
        other => panic!("{other:?}"),
    }
}

/// Asks in two phases, and has the request stand when this returns.
fn stand(client: &mut Client, id: &str, timeout_ms: i64) -> (String, Value) {
    let params = json!({"id": id, "command": "ls", "timeoutMs": timeout_ms, "twoPhase": true});
    let request = client.send(REQUEST, &params);
    let accepted = answered(client, &request);
    assert_eq!(accepted["status"], "accepted");
    (request, accepted)
}

fn pending(client: &mut Client) -> Vec<Value> {
    let list = client.call("exec.approval.list", &json!({}));
    list.as_array().unwrap().clone()
}

#[test]
fn a_request_is_shown_decided_and_told_in_the_originals_shapes() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut asking = gateway.owner(protocol);
        let mut deciding = gateway.owner(protocol);
        let mut params = asked();
        params["id"] = json!(format!("auto-{protocol}-with-a-tail"));
        let request = asking.send(REQUEST, &params);
        let shown = deciding.event(REQUESTED)["payload"].clone();
        assert_eq!(shown["id"], params["id"]);
        assert_eq!(
            shown["request"],
            json!({
                "command": "rm -rf /tmp/x", "systemRunBinding": null, "systemRunPlan": null,
                "cwd": "/tmp", "nodeId": null, "host": "gateway", "security": "allowlist",
                "ask": "on-miss", "agentId": "main", "resolvedPath": null,
                "sessionKey": "agent:main:main", "turnSourceChannel": null, "turnSourceTo": null,
                "turnSourceAccountId": null, "turnSourceThreadId": null,
            })
        );
        let life = shown["expiresAtMs"].as_i64().unwrap() - shown["createdAtMs"].as_i64().unwrap();
        assert_eq!(life, 60_000);
        assert_eq!(pending(&mut deciding), std::slice::from_ref(&shown));
        let one = deciding.call("exec.approval.get", &json!({"id": params["id"]}));
        assert_eq!(one["commandText"], "rm -rf /tmp/x");
        assert_eq!(
            one["allowedDecisions"],
            json!(["allow-once", "allow-always", "deny"])
        );
        // The beginning of an id is enough.
        let by_prefix = json!({"id": format!("auto-{protocol}"), "decision": "allow-once"});
        assert_eq!(deciding.call(RESOLVE, &by_prefix), json!({"ok": true}));
        let told = deciding.event(RESOLVED)["payload"].clone();
        assert_eq!(told["id"], params["id"]);
        assert_eq!(told["decision"], "allow-once");
        assert_eq!(told["resolvedBy"], "cli");
        assert_eq!(told["request"], shown["request"]);
        let answer = answered(&mut asking, &request);
        for key in ["id", "createdAtMs", "expiresAtMs", "digest"] {
            assert_eq!(answer[key], shown[key], "{key}");
        }
        assert_eq!(answer["decision"], "allow-once");
        assert_eq!(asking.call(WAIT, &json!({"id": params["id"]})), answer);
        assert!(pending(&mut deciding).is_empty());
    }
}

#[test]
fn in_two_phases_the_first_answer_says_that_it_stands_and_the_second_how_it_ended() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        let id = format!("two-{protocol}");
        let (request, accepted) = stand(&mut client, &id, 60_000);
        // The same connection goes on speaking, and may decide.
        client.call(RESOLVE, &json!({"id": id, "decision": "deny"}));
        let ended = answered(&mut client, &request);
        assert_eq!(ended["decision"], "deny");
        assert_eq!(ended["createdAtMs"], accepted["createdAtMs"]);
    }
}

#[test]
fn e69_of_two_who_decide_at_once_one_does_and_the_other_is_told_who() {
    let gateway = gateway!();
    let mut asking = gateway.owner(4);
    let mut deciders: Vec<Client> = [3, 4, 3, 4].map(|p| gateway.owner(p)).into();
    for round in 0..20 {
        let id = format!("race-{round}");
        let (request, _) = stand(&mut asking, &id, 60_000);
        let decisions = ["allow-once", "deny", "deny", "allow-once"];
        let sent: Vec<String> = deciders
            .iter_mut()
            .zip(decisions)
            .map(|(client, decision)| {
                client.send(RESOLVE, &json!({"id": id, "decision": decision}))
            })
            .collect();
        let ended = answered(&mut asking, &request);
        let mut won = Vec::new();
        for ((client, sent), decision) in deciders.iter_mut().zip(&sent).zip(decisions) {
            match client.answer(sent) {
                Call::Ok(_) => won.push(decision),
                Call::Error(error) => {
                    assert_eq!(error.message, "unknown or expired approval id");
                    assert_eq!(error.detail_code(), "APPROVAL_ALREADY_RESOLVED");
                    assert_eq!(error.detail("decision"), &ended["decision"]);
                    assert_eq!(error.detail("resolvedBy"), "cli");
                    assert!(error.detail("resolvedAtMs").as_i64().unwrap() <= now_ms());
                }
                Call::Closed(close) => panic!("{close:?}"),
            }
        }
        assert_eq!(won, [ended["decision"].as_str().unwrap()], "round {round}");
        let told = asking.events_until_now();
        let resolved = told.iter().filter(|event| event["event"] == RESOLVED);
        assert_eq!(resolved.count(), 1, "round {round}");
    }
}

#[test]
fn a_request_survives_a_kill_and_so_does_its_decision() {
    let mut gateway = gateway!();
    let (_, accepted) = stand(&mut gateway.owner(3), "kept", 600_000);
    let shown = pending(&mut gateway.owner(3));
    gateway.kill();
    gateway.restart();
    let mut waiting = gateway.owner(3);
    let wait = waiting.send(WAIT, &json!({"id": "kept"}));
    let mut deciding = gateway.owner(4);
    assert_eq!(pending(&mut deciding), shown);
    assert_eq!(shown[0]["digest"], accepted["digest"]);
    deciding.call(RESOLVE, &json!({"id": "kept", "decision": "allow-once"}));
    let answer = answered(&mut waiting, &wait);
    assert_eq!(answer["decision"], "allow-once");
    gateway.kill();
    gateway.restart();
    let mut client = gateway.owner(4);
    assert_eq!(client.call(WAIT, &json!({"id": "kept"})), answer);
    let again = client.refused(RESOLVE, &json!({"id": "kept", "decision": "deny"}));
    assert_eq!(again.detail_code(), "APPROVAL_ALREADY_RESOLVED");
    let reused = client.refused(REQUEST, &json!({"id": "kept", "command": "ls"}));
    assert_eq!(reused.detail_code(), "APPROVAL_ID_USED");
}

#[test]
fn e69_what_nobody_decides_in_time_is_denied_also_when_the_gateway_was_away() {
    let mut gateway = gateway!();
    let mut client = gateway.owner(3);
    let params = json!({"id": "short", "command": "sleep 1", "timeoutMs": 300});
    let answer = client.call(REQUEST, &params);
    assert_eq!(answer["decision"], Value::Null);
    assert!(now_ms() >= answer["expiresAtMs"].as_i64().unwrap());
    for decision in ["allow-once", "allow-always", "deny"] {
        let late = client.refused(RESOLVE, &json!({"id": "short", "decision": decision}));
        assert_eq!(late.message, "unknown or expired approval id");
    }
    assert!(pending(&mut client).is_empty());
    let (_, accepted) = stand(&mut client, "away", 1_000);
    gateway.kill();
    gateway.restart();
    let mut client = gateway.owner(4);
    let answer = client.call(WAIT, &json!({"id": "away"}));
    assert_eq!(answer["decision"], Value::Null);
    assert!(now_ms() >= accepted["expiresAtMs"].as_i64().unwrap());
    let late = client.refused(RESOLVE, &json!({"id": "away", "decision": "allow-once"}));
    assert_eq!(late.detail("reason"), "APPROVAL_NOT_FOUND");
}

#[test]
fn e69_only_who_holds_the_scope_sees_asks_or_decides() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let with = |scopes: &[&str]| {
            gateway
                .welcome(&Connect::new(protocol).token(TOKEN).scopes(scopes))
                .0
        };
        let mut asking = with(&["operator.approvals"]);
        let mut others = [
            with(&["operator.read", "operator.write", "operator.pairing"]),
            with(&[]),
        ];
        let id = format!("scope-{protocol}");
        let (request, _) = stand(&mut asking, &id, 60_000);
        for other in &mut others {
            for (method, params) in [
                (REQUEST, json!({"command": "ls"})),
                (WAIT, json!({"id": id})),
                (RESOLVE, json!({"id": id, "decision": "allow-once"})),
                ("exec.approval.get", json!({"id": id})),
                ("exec.approval.list", json!({})),
            ] {
                let refused = other.refused(method, &params);
                assert_eq!(
                    refused.message, "missing scope: operator.approvals",
                    "{method}"
                );
            }
            for method in ["exec.approvals.get", "exec.approvals.set"] {
                let refused = other.refused(method, &json!({}));
                assert_eq!(refused.message, "missing scope: operator.admin", "{method}");
            }
        }
        // Who may approve may not say what runs without asking.
        let refused = asking.refused("exec.approvals.get", &json!({}));
        assert_eq!(refused.message, "missing scope: operator.admin");
        asking.call(RESOLVE, &json!({"id": id, "decision": "deny"}));
        answered(&mut asking, &request);
        for other in &mut others {
            let seen = other.event_names_until_now();
            assert!(
                !seen.iter().any(|name| name.starts_with("exec.")),
                "{seen:?}"
            );
        }
    }
}

#[test]
fn a_caller_has_few_requests_waiting_and_still_speaks() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    for number in 0..32 {
        stand(&mut client, &format!("many-{number:02}"), 60_000);
    }
    let refused = client.refused(REQUEST, &json!({"command": "ls"}));
    assert_eq!(refused.code, "UNAVAILABLE");
    assert_eq!(refused.detail_code(), "TOO_MANY_APPROVALS");
    assert_eq!(pending(&mut client).len(), 32);
    let several = client.refused(RESOLVE, &json!({"id": "many-", "decision": "deny"}));
    assert_eq!(
        several.message,
        "ambiguous approval id prefix; matches: many-00, many-01, many-02 (+29 more). Use the full id."
    );
    client.call(RESOLVE, &json!({"id": "many-31", "decision": "deny"}));
    let twice = client.refused(REQUEST, &json!({"id": "many-01", "command": "ls"}));
    assert_eq!(twice.message, "approval id already pending");
    stand(&mut client, "one-more", 60_000);
}

#[test]
fn what_is_shown_is_what_is_there() {
    let gateway = gateway!();
    let mut asking = gateway.owner(4);
    let mut watching = gateway.owner(4);
    let mut shown = |params: Value| {
        asking.send(REQUEST, &params);
        watching.event(REQUESTED)["payload"].clone()
    };
    let hidden = shown(json!({"command": "ls\u{202E}\u{200B}\n#"}));
    assert_eq!(hidden["request"]["command"], "ls\\u{202E}\\u{200B}\\u{A}#");
    let long = format!("echo {}", "x".repeat(10_000));
    assert_eq!(shown(json!({"command": long}))["request"]["command"], long);
    // A text that says something else than the command line is not shown for it.
    let plan = |text: &str| {
        json!({
            "host": "node", "nodeId": "n", "env": {"B": "2", "A": "secret"}, "systemRunPlan": {
                "argv": ["rm", "-rf", "a b"], "cwd": null, "commandText": text, "agentId": null,
                "sessionKey": null,
            },
        })
    };
    let told = shown(plan("ls"));
    assert_eq!(told["request"]["command"], "rm -rf 'a b'");
    assert_eq!(told["request"]["envKeys"], json!(["A", "B"]));
    assert_eq!(
        told["request"]["systemRunBinding"]["argv"],
        json!(["rm", "-rf", "a b"])
    );
    assert!(!told.to_string().contains("secret"));
    let same = shown(plan("rm -rf \"a b\""));
    assert_eq!(same["request"]["command"], "rm -rf \"a b\"");
    let mut other = plan("rm -rf \"a b\"");
    other["env"]["A"] = json!("another secret");
    assert_ne!(shown(other)["digest"], same["digest"]);
}

#[test]
fn a_request_that_says_too_little_or_too_much_is_refused_and_nothing_waits() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut client = gateway.owner(protocol);
        for (params, words) in [
            (json!({}), "command is required"),
            (json!({"command": "  "}), "command is required"),
            (
                json!({"command": "x", "host": "node"}),
                "nodeId is required for host=node",
            ),
            (
                json!({"command": "x", "host": "node", "nodeId": "n"}),
                "systemRunPlan is required for host=node",
            ),
            (
                json!({"command": "x", "approved": true}),
                "unexpected property 'approved'",
            ),
            (json!({"command": 5}), "at /command: must be string"),
            (
                json!({"command": "x", "env": {"A": 1}}),
                "at /env/A: must be string",
            ),
            (
                json!({"command": "x", "env": {"A=B": "1"}}),
                "'A=B' is no name of a variable",
            ),
            (
                json!({"command": "x", "timeoutMs": 0}),
                "at /timeoutMs: must be >= 1",
            ),
            (json!({"command": "x", "id": "a\nb"}), "without controls"),
            (
                json!({"command": "x", "id": "a".repeat(129)}),
                "at most 128 characters",
            ),
            (
                json!({"command": "x", "commandArgv": ["a\u{0}b"]}),
                "a NUL stands in",
            ),
            (
                json!({"command": "x".repeat(300_000)}),
                "larger than 262144 bytes",
            ),
        ] {
            let refused = client.refused(REQUEST, &params);
            assert_eq!(refused.code, "INVALID_REQUEST");
            assert!(
                refused.message.contains(words),
                "{words}: {}",
                refused.message
            );
        }
        for params in [json!({}), json!({"id": 5}), json!({"id": " "})] {
            assert_eq!(client.refused(WAIT, &params).message, "id is required");
        }
        let unknown = client.refused(WAIT, &json!({"id": "zz"}));
        assert_eq!(unknown.message, "approval expired or not found");
        let unknown = client.refused(RESOLVE, &json!({"id": "zz", "decision": "deny"}));
        assert_eq!(unknown.message, "unknown or expired approval id");
        let maybe = client.refused(RESOLVE, &json!({"id": "zz", "decision": "maybe"}));
        assert_eq!(maybe.message, "invalid decision");
        assert!(pending(&mut client).is_empty());
    }
}

#[test]
fn what_became_of_a_request_is_told_to_who_came_late_and_page_by_page() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let decide = |client: &mut Client, id: &str, decision: &str| {
        let params = json!({"id": id, "kind": "exec", "decision": decision});
        client.call("approval.resolve", &params)
    };
    for id in ["one", "two", "a/b"] {
        stand(&mut client, id, 60_000);
    }
    let waits = client.call("approval.get", &json!({"id": "a/b"}))["approval"].clone();
    assert_eq!(
        (&waits["status"], &waits["urlPath"]),
        (&json!("pending"), &json!("/approve/a%2Fb"))
    );
    assert_eq!(waits["presentation"]["commandText"], "ls");
    let first = decide(&mut client, "one", "allow-once");
    assert_eq!(first["applied"], true);
    assert_eq!(first["approval"]["status"], "allowed");
    let late = decide(&mut client, "one", "deny");
    assert_eq!(late["applied"], false);
    assert_eq!(late["approval"], first["approval"]);
    let denied = decide(&mut client, "two", "deny")["approval"].clone();
    assert_eq!(
        (&denied["status"], &denied["reason"], &denied["decision"]),
        (&json!("denied"), &json!("user"), &json!("deny"))
    );
    client.call(
        REQUEST,
        &json!({"id": "over", "command": "ls", "timeoutMs": 1}),
    );
    let mut cursor = Value::Null;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut params = json!({"limit": 1});
        if cursor.is_string() {
            params["cursor"] = cursor;
        }
        let page = client.call("approval.history", &params);
        for item in page["items"].as_array().unwrap() {
            let text = |key: &str| item[key].as_str().unwrap().to_owned();
            seen.push((text("id"), text("status"), text("reason")));
        }
        cursor = page["nextCursor"].clone();
    }
    let row = |id: &str, status: &str, reason: &str| {
        (id.to_owned(), status.to_owned(), reason.to_owned())
    };
    let wanted = [
        row("over", "expired", "timeout"),
        row("two", "denied", "user"),
        row("one", "allowed", "user"),
    ];
    assert_eq!(seen, wanted);
    let unknown = client.refused("approval.get", &json!({"id": "zz"}));
    assert_eq!(unknown.code, "APPROVAL_NOT_FOUND");
    let plugin = json!({"id": "a/b", "kind": "plugin", "decision": "deny"});
    let unknown = client.refused("approval.resolve", &plugin);
    assert_eq!(unknown.code, "APPROVAL_NOT_FOUND");
    let page = client.refused("approval.history", &json!({"cursor": "x"}));
    assert_eq!(page.code, "INVALID_REQUEST");
}
