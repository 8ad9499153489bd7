//! Turns on a real model behind a real server. `make llm` sets both up and says with
//! `CLAWGATE_LLM_URL` where they are; without them these tests are left out.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use clawgate_testkit::{Call, Client, TestGateway, gateway, request, token_config};
use serde_json::{Value, json};

/// How long a model may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a server may take to notice that nobody listens any more: far less than the answer
/// that is broken off would have taken.
const NOTICED: Duration = Duration::from_secs(15);
/// Tokens of a short answer. The server does not end one before.
const SHORT: u64 = 24;
const LONG: u64 = 6_000;

fn url() -> String {
    std::env::var("CLAWGATE_LLM_URL").expect("make llm says where the model is")
}

fn server() -> SocketAddr {
    let url = url();
    let rest = url.strip_prefix("http://").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// Answers that the server is giving now.
fn busy_slots() -> usize {
    let answer = request(server(), "GET", "/slots", &[]);
    let slots: Value = serde_json::from_str(&answer.body).unwrap();
    let slots = slots.as_array().unwrap().iter();
    slots.filter(|slot| slot["is_processing"] == true).count()
}

fn wait_for_slots(busy: usize, within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let now = busy_slots();
        if now == busy {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{now} answers are under way, not {busy}"
        );
    }
}

fn started(tokens: u64) -> TestGateway {
    let mut config = token_config();
    config["models"] = json!({"providers": {"small": {
        "baseUrl": url(),
        "models": [{"id": "gemma3-270m", "contextWindow": 8_192, "maxTokens": tokens}],
    }}});
    config["agents"] = json!({"defaults": {
        "model": {"primary": "small/gemma3-270m"},
        "skipBootstrap": true,
    }});
    config["tools"] = json!({"deny": ["*"]});
    gateway!(config)
}

fn send(client: &mut Client, run: &str, words: &str) {
    let params = json!({"sessionKey": "main", "message": words, "idempotencyKey": run});
    let answer = client.call("chat.send", &params);
    assert_eq!(answer["status"], "started");
}

/// The parts of an answer as they came, and its last word.
fn listen(client: &mut Client, run: &str) -> (Vec<String>, Value) {
    let mut parts = Vec::new();
    loop {
        let event = client.event_within("chat", PATIENCE)["payload"].clone();
        assert_eq!(event["runId"], run);
        if event["state"] != "delta" {
            return (parts, event);
        }
        parts.push(event["deltaText"].as_str().unwrap().to_owned());
    }
}

fn text(message: &Value) -> &str {
    message["content"][0]["text"].as_str().unwrap_or_default()
}

fn history(client: &mut Client, key: &str) -> Vec<Value> {
    let answer = client.call("chat.history", &json!({"sessionKey": key}));
    answer["messages"].as_array().unwrap().clone()
}

#[test]
#[ignore = "needs a real model: make llm"]
fn a_real_model_is_streamed_counted_and_kept() {
    let gateway = started(SHORT);
    let mut client = gateway.owner(4);
    send(&mut client, "real-1", "Tell me about the sea.");
    let (parts, last) = listen(&mut client, "real-1");
    assert_eq!(last["state"], "final", "{last}");
    assert!(
        parts.len() > 1,
        "it came at once and not as a stream: {parts:?}"
    );
    assert_eq!(parts.concat(), text(&last["message"]));
    let messages = history(&mut client, "main");
    assert_eq!(messages.len(), 2);
    assert_eq!(text(&messages[0]), "Tell me about the sea.");
    assert_eq!(text(&messages[1]), text(&last["message"]));
    assert_eq!(messages[1]["stopReason"], "length");
    let usage = &messages[1]["usage"];
    assert_eq!(usage["output"], SHORT, "{usage}");
    let read = usage["input"].as_u64().unwrap() + usage["cacheRead"].as_u64().unwrap();
    assert!(
        read > 20,
        "the model was told more than the message: {usage}"
    );
    assert_eq!(usage["totalTokens"], read + SHORT);
    let sessions = client.call("sessions.list", &json!({}));
    assert_eq!(sessions["sessions"][0]["totalTokens"], read + SHORT);
    assert_eq!(sessions["sessions"][0]["contextTokens"], 8_192);
    // What was said is told with what is said next.
    send(&mut client, "real-2", "And about the shore?");
    let (_, last) = listen(&mut client, "real-2");
    assert_eq!(last["state"], "final", "{last}");
    let messages = history(&mut client, "main");
    assert_eq!(messages.len(), 4);
    let usage = &messages[3]["usage"];
    let more = usage["input"].as_u64().unwrap() + usage["cacheRead"].as_u64().unwrap();
    assert!(
        more > read + SHORT,
        "{more} tokens after {read} and {SHORT}"
    );
}

#[test]
#[ignore = "needs a real model: make llm"]
fn an_abort_frees_the_servers_slot_and_the_lane() {
    let gateway = started(LONG);
    let mut client = gateway.owner(4);
    wait_for_slots(0, PATIENCE);
    send(&mut client, "long", "Tell me everything about the sea.");
    let first = client.event_within("chat", PATIENCE)["payload"].clone();
    assert_eq!(first["state"], "delta", "{first}");
    assert_eq!(busy_slots(), 1);
    let aborted = client.call(
        "chat.abort",
        &json!({"sessionKey": "main", "runId": "long"}),
    );
    assert_eq!(aborted["runIds"], json!(["long"]));
    wait_for_slots(0, NOTICED);
    let (_, last) = listen(&mut client, "long");
    assert_eq!(last["state"], "aborted", "{last}");
    let messages = history(&mut client, "main");
    let kept = &messages[1];
    assert_eq!(kept["stopReason"], "aborted");
    assert!(text(kept).starts_with(text(&first["message"])), "{kept}");
    send(&mut client, "next", "And now?");
    let next = client.event_within("chat", PATIENCE)["payload"].clone();
    assert_eq!(
        (&next["runId"], &next["state"]),
        (&json!("next"), &json!("delta"))
    );
    client.call("chat.abort", &json!({"sessionKey": "main"}));
    wait_for_slots(0, NOTICED);
}

#[test]
#[ignore = "needs a real model: make llm"]
fn a_jobs_turn_is_told_to_who_watches_and_its_conversation_is_kept() {
    let gateway = started(SHORT);
    let mut client = gateway.owner(4);
    let mut watcher = gateway.owner(3);
    let job = client.call(
        "cron.add",
        &json!({
            "name": "sea", "schedule": {"kind": "every", "everyMs": 86_400_000},
            "sessionTarget": "isolated", "wakeMode": "now",
            "payload": {"kind": "agentTurn", "message": "Write one sentence about the sea."},
            "delivery": {"mode": "none"},
        }),
    );
    let id = client.send("cron.run", &json!({"id": job["id"], "mode": "force"}));
    let (_, answer) = client.answer_after_events(&id);
    assert!(matches!(answer, Call::Ok(_)), "{answer:?}");
    let mut told = String::new();
    loop {
        let event = watcher.event_within("agent", PATIENCE)["payload"].clone();
        match event["stream"].as_str().unwrap() {
            "assistant" => told.push_str(event["data"]["delta"].as_str().unwrap()),
            "lifecycle" if event["data"]["phase"] == "end" => break,
            _ => assert_eq!(event["data"]["phase"], "start", "{event}"),
        }
    }
    let finished = loop {
        let event = watcher.event_within("cron", PATIENCE)["payload"].clone();
        if event["action"] == "finished" {
            break event;
        }
    };
    assert_eq!(finished["status"], "ok", "{finished}");
    assert_eq!(finished["usage"]["output_tokens"], SHORT);
    let key = finished["sessionKey"].as_str().unwrap();
    let messages = history(&mut client, key);
    assert_eq!(messages.len(), 2);
    assert!(text(&messages[0]).starts_with("Write one sentence about the sea."));
    assert_eq!(text(&messages[1]), told);
    assert_eq!(finished["summary"].as_str().unwrap().trim(), told.trim());
}
