//! `sessions` and `usage` at the terminal, and the sessions that an import brings.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{collections::BTreeMap, fs, path::Path};

use clawgate_testkit::{TOKEN, TestGateway, gateway, home, now_ms, token_config};
use serde_json::{Value, json};
use terminal::{Done, Terminal};

/// Runs a command against a gateway.
fn run(gateway: &TestGateway, args: &[&str]) -> Done {
    let url = format!("ws://{}", gateway.address());
    Terminal::new().run(&[args, &["--url", &url, "--token", TOKEN]].concat())
}

fn line(id: &str, parent: Option<&str>, role: &str, words: &str) -> String {
    json!({"type": "message", "id": id, "parentId": parent,
        "timestamp": "2026-11-23T02:13:36.697Z", "novel": {"kept": true},
        "message": {"role": role, "content": [{"type": "text", "text": words}], "odd": 1}})
    .to_string()
}

fn transcript(id: &str) -> String {
    let header = json!({"type": "session", "version": 3, "id": id,
        "timestamp": "2026-11-23T02:00:00.000Z", "cwd": "/home/user"});
    let change = json!({"type": "model_change", "id": "m1", "parentId": null,
        "timestamp": "2026-11-23T02:00:01.000Z", "provider": "mock", "modelId": "mock-1"});
    let lines = [
        header.to_string(),
        change.to_string(),
        line("u1", Some("m1"), "user", "where is the teapot"),
        line("a1", Some("u1"), "assistant", "in the kitchen"),
        line("a2", Some("u1"), "assistant", "in the other kitchen"),
    ];
    lines.join("\n") + "\n"
}

/// Lines as values, so that the order of members does not matter.
fn values(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every file below a directory with its bytes.
fn contents(dir: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn a_transcript_goes_in_and_out_as_it_was() {
    let gateway = gateway!();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.jsonl");
    let file = file.to_str().unwrap();
    fs::write(file, transcript("x")).unwrap();
    drop(
        run(&gateway, &["sessions", "import", file, "--key", "side"])
            .exits(0)
            .says("4 entries"),
    );
    let out = dir.path().join("out.jsonl");
    let out = out.to_str().unwrap();
    drop(
        run(&gateway, &["sessions", "export", "side", "--out", out])
            .exits(0)
            .says("4 entries"),
    );
    assert_eq!(
        values(&fs::read_to_string(out).unwrap()),
        values(&transcript("x"))
    );
    let printed = run(&gateway, &["sessions", "export", "side"])
        .exits(0)
        .stdout;
    assert_eq!(values(&printed), values(&transcript("x")));
    drop(
        run(&gateway, &["sessions", "export", "side", "--out", out])
            .exits(1)
            .complains("cannot write"),
    );
    let bad = dir.path().join("bad.jsonl");
    fs::write(&bad, format!("{}{}", transcript("x"), "{\"type\":\n")).unwrap();
    drop(
        run(
            &gateway,
            &["sessions", "import", bad.to_str().unwrap(), "--key", "bad"],
        )
        .exits(1)
        .complains("line 6: it is not JSON"),
    );
    let list = run(&gateway, &["sessions", "--json"]).exits(0).json();
    assert_eq!(
        list["count"], 1,
        "a transcript that is refused makes no session"
    );
}

#[test]
fn sessions_are_listed_shown_searched_and_removed() {
    let gateway = gateway!();
    drop(run(&gateway, &["sessions"]).exits(0).says("no sessions"));
    drop(run(&gateway, &["usage"]).exits(0).says("Usage cost"));
    let mut owner = gateway.owner(4);
    for n in 0..3 {
        let key = format!("side{n}");
        owner.call(
            "sessions.patch",
            &json!({"key": key, "label": format!("name {n}")}),
        );
        let said = json!({"sessionKey": key, "message": format!("teapot {n}")});
        owner.call("chat.inject", &said);
    }
    let list = run(&gateway, &["sessions", "--json"]).exits(0).json();
    assert_eq!(
        (&list["count"], &list["activeMinutes"]),
        (&json!(3), &Value::Null)
    );
    for member in [
        "key",
        "kind",
        "updatedAt",
        "ageMs",
        "sessionId",
        "agentId",
        "totalTokensFresh",
    ] {
        assert!(list["sessions"][0].get(member).is_some(), "{member}");
    }
    let listed = run(&gateway, &["sessions", "list", "--limit", "2"]).exits(0);
    drop(listed.says("agent:main:side2").never_says("side0"));
    drop(
        run(&gateway, &["sessions", "show", "side1"])
            .exits(0)
            .says("teapot 1"),
    );
    drop(
        run(&gateway, &["sessions", "show", "nope"])
            .exits(1)
            .complains("no session"),
    );
    drop(
        run(&gateway, &["sessions", "preview", "side1"])
            .exits(0)
            .says("assistant: teapot 1"),
    );
    let found = run(
        &gateway,
        &["sessions", "search", "teapot", "--key", "side2"],
    )
    .exits(0);
    drop(found.says("agent:main:side2").never_says("side1"));
    drop(
        run(
            &gateway,
            &["sessions", "compact", "side1", "--max-lines", "1"],
        )
        .exits(0)
        .says("not more"),
    );
    drop(
        run(&gateway, &["sessions", "reset", "side1"])
            .exits(0)
            .says("begins anew"),
    );
    drop(
        run(&gateway, &["sessions", "delete", "side2"])
            .exits(0)
            .says(".jsonl.deleted."),
    );
    drop(
        run(&gateway, &["sessions", "delete", "main"])
            .exits(1)
            .complains("Cannot delete the main session"),
    );
    let usage = run(&gateway, &["gateway", "usage-cost", "--json"])
        .exits(0)
        .json();
    assert_eq!(usage["days"], 31);
}

/// What is old is counted, and goes when that is asked for; the main session stays.
fn cleaned(gateway: &TestGateway) {
    let dry = run(gateway, &["sessions", "cleanup", "--dry-run", "--json"])
        .exits(0)
        .json();
    let want = json!({"agentId": "main", "mode": "warn", "dryRun": true, "beforeCount": 4,
        "afterCount": 3, "missing": 0, "pruned": 1, "capped": 0, "diskBudget": null,
        "wouldMutate": true, "archivesErased": 0});
    for (member, value) in want.as_object().unwrap() {
        assert_eq!(&dry[member], value, "{member}");
    }
    drop(
        run(gateway, &["sessions", "cleanup"])
            .exits(0)
            .says("1 session would be put away"),
    );
    drop(
        run(gateway, &["sessions", "cleanup", "--enforce"])
            .exits(0)
            .says("1 session put away"),
    );
    let left = run(gateway, &["sessions", "--json"]).exits(0).json();
    assert_eq!(left["count"], 2);
}

#[test]
fn an_import_brings_sessions_with_their_conversations_and_counts_what_does_not_come() {
    let original = tempfile::tempdir().unwrap();
    let sessions = original.path().join("agents/main/sessions");
    fs::create_dir_all(&sessions).unwrap();
    let (run_key, now) = ("agent:main:cron:j1:run:c1", now_ms());
    let store = json!({
        "agent:main:main": {"sessionId": "s1", "updatedAt": 1_795_400_000_000_i64, "label": "home",
            "chatType": "direct", "novel": [1], "skillsSnapshot": {"prompt": "long"}},
        "agent:main:cron:j1": {"sessionId": "c1", "updatedAt": now, "label": "Cron: j"},
        run_key: {"sessionId": "c1", "updatedAt": now, "label": "Cron: j"},
        "agent:main:../x": {"sessionId": "s3", "updatedAt": 1},
        "agent:main:none": {"updatedAt": 1},
        "agent:main:evil": {"sessionId": "../../../openclaw", "updatedAt": 1, "sessionFile": "/etc/passwd"},
    });
    fs::write(sessions.join("sessions.json"), store.to_string()).unwrap();
    fs::write(sessions.join("s1.jsonl"), transcript("s1")).unwrap();
    fs::write(sessions.join("c1.jsonl"), transcript("c1") + "{\"cut").unwrap();
    fs::write(sessions.join("s1.jsonl.reset.2026"), transcript("s0")).unwrap();
    fs::write(original.path().join("openclaw.json"), "{}").unwrap();
    let before = contents(original.path());
    let home = home!(token_config());
    let (from, into) = (
        original.path().display().to_string(),
        home.state().display().to_string(),
    );
    let import = |more: &[&str]| {
        let args = [
            "import", "openclaw", "--from", &from, "--into", &into, "--json",
        ];
        Terminal::new().run(&[&args, more].concat()).exits(0).json()
    };
    let counts = |report: &Value| -> Vec<(String, u64, u64, u64)> {
        let kinds = report["kinds"].as_array().unwrap().iter();
        let count = |tally: &Value, member: &str| tally[member].as_u64().unwrap();
        kinds
            .map(|tally| {
                (
                    tally["kind"].as_str().unwrap().to_owned(),
                    count(tally, "read"),
                    count(tally, "taken"),
                    count(tally, "skipped"),
                )
            })
            .filter(|(kind, ..)| kind == "sessions" || kind == "entries")
            .collect()
    };
    let want = [
        ("sessions".to_owned(), 7, 4, 3),
        ("entries".to_owned(), 9, 8, 1),
    ];
    assert_eq!(counts(&import(&["--dry-run"])), want);
    assert!(!home.state().join("clawgate.sqlite").exists());
    assert_eq!(counts(&import(&[])), want);
    assert_eq!(contents(original.path()), before);
    let again = import(&[]);
    assert_eq!(counts(&again)[0], ("sessions".to_owned(), 9, 0, 9));
    let gateway = home.start();
    let mut owner = gateway.owner(3);
    let history = owner.call("chat.history", &json!({"sessionKey": "main"}));
    assert_eq!(history["messages"].as_array().unwrap().len(), 3);
    assert_eq!(history["messages"][2]["odd"], 1);
    let entry = owner.call(
        "sessions.patch",
        &json!({"key": "main", "thinkingLevel": "low"}),
    );
    assert_eq!(entry["entry"]["novel"], json!([1]));
    let list = owner.call("sessions.list", &json!({"includeDerivedTitles": true}));
    assert_eq!(list["count"], 3, "the row of a run is not listed");
    let title = &list["sessions"][0]["derivedTitle"];
    assert_eq!(title, "where is the teapot");
    let out = run(&gateway, &["sessions", "export", "main"])
        .exits(0)
        .stdout;
    assert_eq!(values(&out), values(&transcript("s1")));
    assert_eq!(owner.call("status", &json!({}))["sessions"]["count"], 4);
    cleaned(&gateway);
}
