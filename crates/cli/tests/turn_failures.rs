//! Every way in which a provider fails, in every protocol, through the real process: the outcome is
//! typed and the right one, so many requests were made and no more, the session goes on afterwards.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use clawgate_testkit::{
    Client, WireError, gateway,
    provider::{Asked, Dialect, KEY, Provider, Say},
    token_config,
};
use serde_json::{Value, json};

/// What a provider does, what that is called, and how often it is asked.
const CASES: &[(&str, &str, usize)] = &[
    ("fine", "", 1),
    ("400", "invalid", 1),
    ("401", "auth", 1),
    ("404", "no-model", 1),
    ("429-once", "", 2),
    ("500", "server", 4),
    ("529", "overloaded", 4),
    ("malformed", "malformed", 1),
    ("cut", "cut", 4),
    ("cut-late", "cut", 1),
    ("huge", "too-large", 1),
    ("calls", "", 2),
];

fn case_of(asked: &Asked) -> &str {
    let from = asked
        .text
        .rfind("case:")
        .map_or("", |at| &asked.text[at + 5..]);
    let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    &from[..end.unwrap_or(from.len())]
}

fn say(dialect: Dialect, asked: &Asked, limited: &Mutex<HashSet<String>>) -> Say {
    let fine = || dialect.text(&["All ", "is well."]);
    match case_of(asked) {
        "400" => Say::refused(400, "no such field"),
        "401" => Say::refused(401, "who are you"),
        "404" => Say::refused(404, "no such model"),
        "429-once" => {
            if limited.lock().unwrap().insert(format!("{dialect:?}")) {
                Say::refused(429, "slow down").header("retry-after", "0")
            } else {
                fine()
            }
        }
        "500" => Say::refused(500, "it broke"),
        "529" => Say::refused(529, "overloaded"),
        "malformed" => Say::stream(["data: {not json\n\n"]),
        "cut" => fine().first(0).cut(),
        // What was begun to be said is not begun again.
        "cut-late" => fine().first(1).then(&dialect.piece("begun")).cut(),
        "huge" => fine()
            .first(1)
            .then_over(&dialect.piece(&"x".repeat(64 << 10)), 100 << 20),
        "calls" if !asked.text.contains("nowhere-to-be-found") => dialect.calls(&[
            ("c1", "read", json!({"path": "nowhere-to-be-found"})),
            ("c2", "read", json!({"path": "nor-this"})),
        ]),
        _ => fine(),
    }
}

fn session(dialect: Dialect, case: &str) -> String {
    format!("agent:main:{}-{case}", dialect.api())
}

fn ask(client: &mut Client, dialect: Dialect, case: &str, words: &str) -> String {
    client.send(
        "agent",
        &json!({
            "message": words, "sessionKey": session(dialect, case), "model":
            format!("{}/some-model", dialect.api()), "idempotencyKey": format!("{dialect:?}{words}{case}"),
        }),
    )
}

/// Reads until every request has its second answer, and gives those.
fn ends(client: &mut Client, ids: &[String]) -> HashMap<String, Value> {
    let (mut accepted, mut ended) = (HashSet::new(), HashMap::new());
    while ended.len() < ids.len() {
        let frame = client.response();
        let id = frame["id"].as_str().unwrap().to_owned();
        if accepted.insert(id.clone()) {
            assert_eq!(frame["payload"]["status"], "accepted", "{frame}");
        } else {
            ended.insert(id, frame);
        }
    }
    ended
}

#[test]
fn every_failure_of_a_provider_is_told_for_what_it_is_and_the_session_goes_on() {
    let limited: Arc<Mutex<HashSet<String>>> = Arc::default();
    let providers: Vec<(Dialect, Provider)> = Dialect::ALL
        .into_iter()
        .map(|dialect| {
            let limited = Arc::clone(&limited);
            let provider = Provider::deciding(move |_, asked| say(dialect, asked, &limited));
            (dialect, provider)
        })
        .collect();
    let mut config = token_config();
    config["models"] = json!({"providers": {}});
    for (dialect, provider) in &providers {
        config["models"]["providers"][dialect.api()] = provider.config(*dialect);
    }
    config["agents"] = json!({"defaults": {"maxConcurrent": 64}});
    let gateway = gateway!(config);
    let mut client = gateway.owner(4);
    let mut waiting = Vec::new();
    for (dialect, _) in &providers {
        for (case, kind, _) in CASES {
            let id = ask(&mut client, *dialect, case, &format!("case:{case}"));
            waiting.push((*dialect, *case, *kind, id));
        }
    }
    let ids: Vec<String> = waiting.iter().map(|(.., id)| id.clone()).collect();
    let ended = ends(&mut client, &ids);
    for (dialect, case, kind, id) in &waiting {
        let frame = &ended[id];
        if kind.is_empty() {
            let said = frame["payload"]["result"]["payloads"][0]["text"].as_str();
            let said = said.unwrap_or_else(|| panic!("{dialect:?} {case}: {frame}"));
            assert!(said.ends_with("All is well."), "{dialect:?} {case}: {said}");
        } else {
            assert_eq!(frame["ok"], false, "{dialect:?} {case}: {frame}");
            let error = WireError::of(&frame["error"]);
            assert_eq!(error.detail("kind"), *kind, "{dialect:?} {case}: {error:?}");
            assert_eq!(error.detail_code(), "AGENT_TURN_FAILED");
            assert!(!error.message.contains(KEY));
        }
    }
    for (dialect, provider) in &providers {
        for (case, _, times) in CASES {
            let asked = provider.asked();
            let asked = asked.iter().filter(|asked| case_of(asked) == *case).count();
            assert_eq!(asked, *times, "{dialect:?} {case}");
        }
    }
    // The lane is free, and what is in the transcript is a conversation that can go on.
    let mut waiting = Vec::new();
    for (dialect, _) in &providers {
        for (case, ..) in CASES {
            waiting.push((
                *dialect,
                *case,
                ask(&mut client, *dialect, case, "case:again"),
            ));
        }
    }
    let ids: Vec<String> = waiting.iter().map(|(.., id)| id.clone()).collect();
    let ended = ends(&mut client, &ids);
    for (dialect, case, id) in &waiting {
        assert_eq!(ended[id]["ok"], true, "{dialect:?} {case}: {}", ended[id]);
        let history = client.call(
            "chat.history",
            &json!({"sessionKey": session(*dialect, case)}),
        );
        let messages = history["messages"].as_array().unwrap();
        let last: &Value = messages.last().unwrap();
        assert_eq!(last["stopReason"], "stop", "{dialect:?} {case}");
        let errors = messages
            .iter()
            .filter(|message| message["stopReason"] == "error");
        let kind = CASES.iter().find(|(name, ..)| name == case).unwrap().1;
        assert_eq!(
            errors.count(),
            usize::from(!kind.is_empty()),
            "{dialect:?} {case}"
        );
    }
    assert!(!gateway.stderr().contains(KEY));
}
