//! Sessions and conversations over the wire, by the real process, in both dialects: answers have the
//! original's shape, what is refused changes nothing, and what was answered is kept.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use clawgate_testkit::{Client, Connect, TOKEN, gateway};
use serde_json::{Value, json};

const MAIN: &str = "agent:main:main";

/// Says something in a session and gives the message's id.
fn inject(client: &mut Client, key: &str, words: &str) -> String {
    let answer = client.call("chat.inject", &json!({"sessionKey": key, "message": words}));
    answer["messageId"].as_str().unwrap().to_owned()
}

fn words(messages: &Value) -> Vec<&str> {
    messages
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"][0]["text"].as_str().unwrap())
        .collect()
}

fn keys(list: &Value) -> Vec<&str> {
    list["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["key"].as_str().unwrap())
        .collect()
}

fn has_members(value: &Value, members: &[&str]) {
    for member in members {
        assert!(
            value.get(member).is_some(),
            "{member} is missing in {value}"
        );
    }
}

#[test]
fn a_session_is_made_labelled_found_and_spoken_in_as_in_the_original() {
    for protocol in [3, 4] {
        let gateway = gateway!();
        let mut client = gateway.owner(protocol);
        let missing = client.call("chat.history", &json!({"sessionKey": "main"}));
        assert_eq!(missing["messages"], json!([]));
        assert_eq!(missing["thinkingLevel"], "off");
        assert_eq!(missing["sessionKey"], "main");
        assert_eq!(
            client
                .refused(
                    "chat.inject",
                    &json!({"sessionKey": "ghost", "message": "x"})
                )
                .message,
            "session not found"
        );
        let patched = client.call(
            "sessions.patch",
            &json!({"key": "main", "label": "home", "thinkingLevel": "low", "verboseLevel": "on", "responseUsage": "on"}),
        );
        has_members(&patched, &["ok", "path", "entry", "resolved"]);
        assert_eq!(patched["key"], MAIN);
        assert_eq!(patched["entry"]["label"], "home");
        assert_eq!(patched["entry"]["responseUsage"], "tokens");
        let id = inject(&mut client, "main", "injected note");
        assert_eq!(id.len(), 8);
        let event = client.event("chat")["payload"].clone();
        assert_eq!(event["runId"], format!("inject-{id}"));
        assert_eq!(event["state"], "final");
        assert_eq!(event["seq"], 0);
        assert_eq!(
            event["sessionKey"],
            if protocol == 3 { "main" } else { MAIN }
        );
        assert_eq!(event["message"]["model"], "gateway-injected");
        let history = client.call("chat.history", &json!({"sessionKey": MAIN, "limit": 10}));
        assert_eq!(words(&history["messages"]), ["injected note"]);
        assert_eq!(history["thinkingLevel"], "low");
        assert_eq!(history["verboseLevel"], "on");
        assert_eq!(history["messages"][0]["usage"]["cost"], json!({"total": 0}));
        assert_eq!(
            history["messages"][0]["__openclaw"].is_object(),
            protocol == 4
        );
        let got = client.call("sessions.get", &json!({"key": "main"}));
        assert_eq!(words(&got["messages"]), ["injected note"]);
        has_members(
            &got["messages"][0],
            &[
                "role",
                "timestamp",
                "stopReason",
                "usage",
                "api",
                "provider",
            ],
        );
        let list = client.call(
            "sessions.list",
            &json!({"includeDerivedTitles": true, "includeLastMessage": true}),
        );
        has_members(&list, &["ts", "path", "count", "defaults"]);
        let row = &list["sessions"][0];
        has_members(
            row,
            &[
                "key",
                "sessionId",
                "updatedAt",
                "totalTokensFresh",
                "derivedTitle",
            ],
        );
        assert_eq!(
            (&row["kind"], &row["displayName"]),
            (&json!("direct"), &json!("home"))
        );
        assert_eq!(row["lastMessagePreview"], "injected note");
        let preview = client.call("sessions.preview", &json!({"keys": ["main", "zz"]}));
        assert_eq!(
            preview["previews"],
            json!([
                {"key": "main", "status": "ok", "items": [{"role": "assistant", "text": "injected note"}]},
                {"key": "zz", "status": "missing", "items": []},
            ])
        );
        let resolved = client.call("sessions.resolve", &json!({"label": "home"}));
        assert_eq!(
            (&resolved["ok"], &resolved["key"]),
            (&json!(true), &json!(MAIN))
        );
        let status = client.call("status", &json!({}));
        assert_eq!(status["sessions"]["count"], 1);
        assert_eq!(status["sessions"]["recent"][0]["key"], MAIN);
    }
}

#[test]
fn what_is_refused_is_refused_in_the_originals_words_and_changes_nothing() {
    let gateway = gateway!();
    let mut client = gateway.owner(3);
    client.call("sessions.patch", &json!({"key": "main", "label": "home"}));
    for (method, params, want) in [
        (
            "sessions.list",
            json!({"limit": 0}),
            "invalid sessions.list params: at /limit: must be >= 1",
        ),
        (
            "sessions.patch",
            json!({}),
            "invalid sessions.patch params: must have required property 'key'",
        ),
        (
            "sessions.patch",
            json!({"key": "main", "thinkingLevel": "bogus"}),
            "invalid thinkingLevel (use off|minimal|low|medium|high|adaptive)",
        ),
        (
            "sessions.patch",
            json!({"key": "agent:main:side", "label": "home"}),
            "label already in use: home",
        ),
        (
            "sessions.patch",
            json!({"key": "main", "spawnedBy": "x"}),
            "spawnedBy is only supported for subagent:* or acp:* sessions",
        ),
        (
            "sessions.patch",
            json!({"key": "main", "archived": true}),
            "invalid sessions.patch params: at root: unexpected property 'archived'",
        ),
        ("sessions.get", json!({}), "key required"),
        (
            "sessions.resolve",
            json!({}),
            "Either key, sessionId, or label is required",
        ),
        (
            "sessions.resolve",
            json!({"key": "a", "label": "b"}),
            "Provide either key, sessionId, or label (not multiple)",
        ),
        (
            "sessions.resolve",
            json!({"key": "agent:main:nope"}),
            "No session found: agent:main:nope",
        ),
        (
            "sessions.delete",
            json!({"key": "main"}),
            "Cannot delete the main session (agent:main:main).",
        ),
        (
            "sessions.usage.timeseries",
            json!({}),
            "key is required for timeseries",
        ),
        (
            "sessions.usage.timeseries",
            json!({"key": MAIN}),
            "No transcript found for session: agent:main:main",
        ),
        (
            "chat.history",
            json!({"sessionKey": "main", "offset": 1}),
            "invalid chat.history params: at root: unexpected property 'offset'",
        ),
        (
            "chat.inject",
            json!({"sessionKey": "main", "message": "a\u{0}b"}),
            "message must not contain null bytes",
        ),
    ] {
        let error = client.refused(method, &params);
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("INVALID_REQUEST", want),
            "{params}"
        );
    }
    for hostile in [
        "../x",
        "/etc/passwd",
        "a\u{0}b",
        "a\nb",
        "a%2fb",
        "ＨＯＯＫ:x",
        "agent:main:../../x",
    ] {
        for method in [
            "sessions.patch",
            "sessions.reset",
            "sessions.compact",
            "sessions.delete",
        ] {
            let error = client.refused(method, &json!({"key": hostile}));
            assert_eq!(
                error.detail_code(),
                "SESSION_KEY_INVALID",
                "{method} {hostile:?}"
            );
        }
    }
    let list = client.call(
        "sessions.list",
        &json!({"includeGlobal": true, "includeUnknown": true}),
    );
    assert_eq!(keys(&list), [MAIN]);
    assert_eq!(list["sessions"][0]["label"], "home");
}

#[test]
fn reset_delete_and_compact_put_away_what_export_still_shows() {
    let gateway = gateway!();
    let mut client = gateway.owner(3);
    let side = "agent:main:side";
    let compact = |client: &mut Client, params: Value| client.call("sessions.compact", &params);
    assert_eq!(
        compact(&mut client, json!({"key": "side"})),
        json!({"ok": true, "key": side, "compacted": false, "reason": "no sessionId"})
    );
    let first = client.call("sessions.patch", &json!({"key": "side", "label": "side"}));
    assert_eq!(
        compact(&mut client, json!({"key": "side"})),
        json!({"ok": true, "key": side, "compacted": false, "reason": "no transcript"})
    );
    for n in 1..=5 {
        inject(&mut client, "side", &format!("word {n}"));
    }
    let cut = compact(&mut client, json!({"key": "side", "maxLines": 2}));
    assert_eq!((&cut["compacted"], &cut["kept"]), (&json!(true), &json!(2)));
    let history = client.call("chat.history", &json!({"sessionKey": "side"}));
    assert_eq!(words(&history["messages"]), ["word 4", "word 5"]);
    let archive = client.call("sessions.export", &json!({"archive": cut["archived"]}));
    assert_eq!(archive["lines"].as_array().unwrap().len(), 3);
    let reset = client.call("sessions.reset", &json!({"key": "side", "reason": "new"}));
    assert_ne!(reset["entry"]["sessionId"], first["entry"]["sessionId"]);
    assert_eq!(reset["entry"]["label"], "side");
    assert_eq!(reset["entry"]["totalTokens"], 0);
    let history = client.call("chat.history", &json!({"sessionKey": "side"}));
    assert_eq!(history["messages"], json!([]));
    inject(&mut client, "side", "after the reset");
    let deleted = client.call("sessions.delete", &json!({"key": "side"}));
    assert_eq!(deleted["deleted"], true);
    let name = deleted["archived"][0].as_str().unwrap();
    assert!(name.contains(".jsonl.deleted."), "{name}");
    let archive = client.call("sessions.export", &json!({"archive": name}));
    let line: Value = serde_json::from_str(archive["lines"][0].as_str().unwrap()).unwrap();
    assert_eq!(line["message"]["content"][0]["text"], "after the reset");
    assert_eq!(
        client.call("sessions.delete", &json!({"key": "side"})),
        json!({"ok": true, "key": side, "deleted": false, "archived": []})
    );
    assert_eq!(client.call("sessions.list", &json!({}))["count"], 0);
}

#[test]
fn changes_at_the_same_time_lose_nothing() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.call("sessions.patch", &json!({"key": "main"}));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let mut client = gateway.owner(4);
            std::thread::spawn(move || {
                let ids: Vec<String> = (0..25)
                    .map(|n| {
                        let said =
                            json!({"sessionKey": "main", "message": format!("{writer}-{n}")});
                        client.send("chat.inject", &said)
                    })
                    .collect();
                let level = ["low", "high"][writer % 2];
                client.call(
                    "sessions.patch",
                    &json!({"key": "main", "thinkingLevel": level}),
                );
                for id in ids {
                    let answer = client.answer(&id);
                    assert!(
                        matches!(answer, clawgate_testkit::Call::Ok(_)),
                        "{answer:?}"
                    );
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let history = owner.call(
        "chat.history",
        &json!({"sessionKey": "main", "limit": 1000}),
    );
    let mut said = words(&history["messages"]);
    assert_eq!(said.len(), 100);
    said.sort_unstable();
    said.dedup();
    assert_eq!(said.len(), 100);
}

#[test]
fn what_was_answered_survives_a_kill() {
    let mut gateway = gateway!();
    let mut client = gateway.owner(4);
    client.call("sessions.patch", &json!({"key": "main", "label": "home"}));
    let ids: Vec<String> = (0..20)
        .map(|n| inject(&mut client, "main", &format!("word {n}")))
        .collect();
    gateway.kill();
    gateway.restart();
    let mut client = gateway.owner(4);
    let history = client.call("chat.history", &json!({"sessionKey": "main"}));
    let kept: Vec<&str> = history["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["__openclaw"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(kept, ids);
    assert_eq!(
        client.call("sessions.resolve", &json!({"label": "home"}))["key"],
        MAIN
    );
    let health = client.call("health", &json!({}));
    assert_eq!(health["sessions"]["count"], 1);
    assert_eq!(health["agents"][0]["sessions"]["recent"][0]["key"], MAIN);
    assert_eq!(client.call("status", &json!({}))["sessions"]["count"], 1);
}

#[test]
fn wire_4_pages_follows_and_finds_what_was_said() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    client.call("sessions.patch", &json!({"key": "main"}));
    for n in 1..=7 {
        inject(&mut client, "main", &format!("word number{n}"));
    }
    let mut all = Vec::new();
    let mut offset = json!(0);
    loop {
        let page = client.call(
            "chat.history",
            &json!({"sessionKey": "main", "limit": 3, "offset": offset}),
        );
        assert_eq!(page["totalMessages"], 7);
        let mut before: Vec<String> = words(&page["messages"])
            .into_iter()
            .map(str::to_owned)
            .collect();
        before.append(&mut all);
        all = before;
        if page["hasMore"] == false {
            break;
        }
        offset = page["nextOffset"].clone();
    }
    let want: Vec<String> = (1..=7).map(|n| format!("word number{n}")).collect();
    assert_eq!(all, want);
    let page = client.call("chat.history", &json!({"sessionKey": "main", "limit": 1}));
    let cursor = page["deltaCursor"].clone();
    let id = inject(&mut client, "main", "new since then");
    let delta = client.call(
        "chat.history",
        &json!({"sessionKey": "main", "cursor": cursor}),
    );
    assert_eq!(delta["kind"], "delta");
    assert_eq!(words(&delta["messages"]), ["new since then"]);
    let one = client.call(
        "chat.message.get",
        &json!({"sessionKey": "main", "messageId": id}),
    );
    assert_eq!(one["message"]["content"][0]["text"], "new since then");
    let found = client.call("sessions.search", &json!({"query": "number4"}));
    assert_eq!(found["results"][0]["sessionKey"], MAIN);
    assert_eq!(found["results"].as_array().unwrap().len(), 1);
    client.call("sessions.reset", &json!({"key": "main"}));
    let delta = client.call(
        "chat.history",
        &json!({"sessionKey": "main", "cursor": cursor}),
    );
    assert_eq!(delta, json!({"kind": "reset"}));
    assert_eq!(
        client.call("sessions.search", &json!({"query": "number4"}))["results"],
        json!([])
    );
}

#[test]
fn e73_a_connection_hears_of_what_it_asked_for_and_of_nothing_else() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let mut hears = gateway.owner(4);
    let mut hears_too = gateway.owner(3);
    hears_too.call("sessions.subscribe", &json!({}));
    let mut deaf = gateway.owner(4);
    let nothing = Connect::new(4).token(TOKEN).scopes(&["operator.pairing"]);
    let (mut blind, _) = gateway.welcome(&nothing);
    assert_eq!(
        hears.call("sessions.subscribe", &json!({}))["subscribed"],
        true
    );
    hears.call("sessions.messages.subscribe", &json!({"key": "main"}));
    owner.call("sessions.patch", &json!({"key": "main", "label": "home"}));
    let changed = hears.event("sessions.changed")["payload"].clone();
    assert_eq!(
        (&changed["sessionKey"], &changed["reason"]),
        (&json!(MAIN), &json!("create"))
    );
    assert_eq!(changed["session"]["label"], "home");
    let frame = hears_too.event("sessions.changed");
    assert_eq!(frame["payload"]["reason"], "create");
    assert!(frame.get("seq").is_none(), "{frame}");
    owner.call("sessions.patch", &json!({"key": "other"}));
    inject(&mut owner, "other", "unheard");
    let id = inject(&mut owner, "main", "heard");
    let message = hears.event("session.message")["payload"].clone();
    assert_eq!(
        (&message["messageId"], &message["messageSeq"]),
        (&json!(id), &json!(1))
    );
    hears.call("sessions.messages.unsubscribe", &json!({"key": MAIN}));
    inject(&mut owner, "main", "unheard too");
    assert!(
        !hears
            .event_names_until_now()
            .contains(&"session.message".to_owned())
    );
    let names = deaf.event_names_until_now();
    assert!(
        !names.iter().any(|name| name.starts_with("session")),
        "{names:?}"
    );
    assert!(names.contains(&"chat".to_owned()));
    assert!(!blind.event_names_until_now().contains(&"chat".to_owned()));
    let error = blind.refused("chat.history", &json!({"sessionKey": "main"}));
    assert_eq!(error.code, "FORBIDDEN");
    // Keys tell who talks to whom: only how many there are is for everybody.
    let health = blind.call("health", &json!({"probe": true}));
    assert_eq!(health["sessions"]["recent"], json!([]));
}

#[test]
fn wire_4_lets_a_writer_name_sessions_and_an_administrator_set_them() {
    let gateway = gateway!();
    let writer = Connect::new(4)
        .token(TOKEN)
        .scopes(&["operator.read", "operator.write"]);
    let (mut writer, _) = gateway.welcome(&writer);
    let made = writer.call(
        "sessions.create",
        &json!({"label": "mine", "idempotencyKey": "k"}),
    );
    let again = writer.call(
        "sessions.create",
        &json!({"label": "mine", "idempotencyKey": "k"}),
    );
    assert_eq!(made["key"], again["key"]);
    let key = made["key"].clone();
    writer.call(
        "sessions.patch",
        &json!({"key": key, "pinned": true, "archived": true}),
    );
    for (method, params) in [
        (
            "sessions.patch",
            json!({"key": key, "execSecurity": "full"}),
        ),
        ("sessions.delete", json!({"key": key})),
        ("sessions.reset", json!({"key": key})),
        ("chat.inject", json!({"sessionKey": key, "message": "x"})),
    ] {
        let error = writer.refused(method, &params);
        assert_eq!(error.code, "FORBIDDEN", "{method}");
        assert_eq!(error.detail("missingScope"), "operator.admin");
    }
    let error = writer.refused("sessions.create", &json!({"message": "hello"}));
    assert_eq!(
        (error.code.as_str(), error.detail_code()),
        ("UNAVAILABLE", "NOT_SERVED")
    );
    let list =
        |client: &mut Client, params: Value| client.call("sessions.list", &params)["count"].clone();
    assert_eq!(list(&mut writer, json!({})), 0, "it is put away");
    assert_eq!(list(&mut writer, json!({"archived": true})), 1);
    let described = writer.call("sessions.describe", &json!({"key": key}));
    assert_eq!(
        (
            &described["session"]["pinned"],
            &described["session"]["archived"]
        ),
        (&json!(true), &json!(true))
    );
    let mut owner = gateway.owner(4);
    let stale = owner.refused(
        "sessions.delete",
        &json!({"key": key, "expectedSessionId": "other"}),
    );
    assert_eq!(stale.detail_code(), "SESSION_CHANGED");
    assert_eq!(
        owner.call("sessions.delete", &json!({"key": key}))["deleted"],
        true
    );
}

#[test]
fn usage_is_summed_by_day_session_and_model() {
    let gateway = gateway!();
    let mut client = gateway.owner(3);
    let line = |id: &str, role: &str, more: Value| {
        let mut message = json!({"role": role, "content": [{"type": "text", "text": id}]});
        for (member, value) in more.as_object().unwrap() {
            message[member] = value.clone();
        }
        json!({"type": "message", "id": id, "parentId": null,
            "timestamp": "2026-11-23T02:13:36.697Z", "message": message})
        .to_string()
    };
    let used = json!({"provider": "mock", "model": "mock-1", "stopReason": "stop",
        "usage": {"input": 120, "output": 8, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 128,
            "cost": {"input": 0.5, "output": 0.25, "cacheRead": 0, "cacheWrite": 0, "total": 0.75}}});
    let lines = json!([
        json!({"type": "session", "version": 3, "id": "x", "timestamp": "2026-11-23T02:00:00.000Z", "cwd": "/w"}).to_string(),
        line("u1", "user", json!({})),
        line("a1", "assistant", used.clone()),
        line("a2", "assistant", used),
    ]);
    let imported = client.call("sessions.import", &json!({"key": "side", "lines": lines}));
    assert_eq!(imported["entries"], 3);
    let again = client.refused("sessions.import", &json!({"key": "side", "lines": ["{}"]}));
    assert_eq!(again.detail_code(), "SESSION_NOT_EMPTY");
    let asked = json!({"startDate": "2026-11-23", "endDate": "2026-11-23", "mode": "specific", "utcOffset": "UTC+0"});
    let cost = client.call("usage.cost", &asked);
    assert_eq!(cost["days"], 2);
    assert_eq!(cost["daily"].as_array().unwrap().len(), 1);
    assert_eq!(cost["daily"][0]["date"], "2026-11-23");
    assert_eq!(cost["daily"][0]["totalTokens"], 256);
    assert_eq!(cost["totals"]["totalCost"], 1.5);
    let report = client.call("sessions.usage", &asked);
    let usage = &report["sessions"][0]["usage"];
    assert_eq!(usage["messageCounts"]["total"], 3);
    assert_eq!(usage["modelUsage"][0]["count"], 2);
    assert_eq!(report["totals"]["inputCost"], 1);
    has_members(
        &report["aggregates"],
        &[
            "messages",
            "tools",
            "byModel",
            "byProvider",
            "byAgent",
            "byChannel",
            "dailyLatency",
            "modelDaily",
            "daily",
            "latency",
        ],
    );
    let series = client.call("sessions.usage.timeseries", &json!({"key": "side"}));
    assert_eq!(series["points"][1]["cumulativeTokens"], 256);
    let logs = client.call("sessions.usage.logs", &json!({"key": "side", "limit": 2}));
    assert_eq!(
        logs["logs"][0],
        json!({"timestamp": 1_795_400_016_697_i64, "role": "assistant", "content": "a1", "tokens": 128, "cost": 0.75})
    );
    // What was spent stays spent when the conversation begins anew.
    client.call("sessions.reset", &json!({"key": "side"}));
    assert_eq!(
        client.call("usage.cost", &asked)["totals"]["totalTokens"],
        256
    );
    assert_eq!(client.call("sessions.usage", &asked)["sessions"], json!([]));
    assert_eq!(
        client.call("usage.status", &json!({}))["providers"],
        json!([]),
    );
}
