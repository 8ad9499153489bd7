//! Turns over the wire, by the real process and a provider that says what it is told: what was said
//! yes to is done once, what was said is streamed and kept, and every end is the one that is told.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use clawgate_testkit::{
    Client, Connect, TOKEN, TestGateway, gateway,
    provider::{Dialect, Gate, KEY, Provider, Say},
    token_config,
};
use serde_json::{Value, json};

const MAIN: &str = "agent:main:main";
const CHAT: Dialect = Dialect::Chat;

fn config(provider: &Provider) -> Value {
    let mut config = token_config();
    config["models"] = json!({"providers": {"scripted": provider.config(CHAT)}});
    config["agents"] = json!({"defaults": {"model": {"primary": "scripted/some-model"}}});
    config
}

fn started(provider: &Provider) -> TestGateway {
    gateway!(config(provider))
}

fn send(client: &mut Client, key: &str, words: &str) -> Value {
    client.call(
        "chat.send",
        &json!({"sessionKey": "main", "message": words, "idempotencyKey": key}),
    )
}

/// The last word of a run, and everything before it.
fn last_word(client: &mut Client, run: &str) -> (Vec<Value>, Value) {
    let mut before = Vec::new();
    loop {
        let event = client.event("chat")["payload"].clone();
        if event["runId"] == run && event["state"] != "delta" {
            return (before, event);
        }
        before.push(event);
    }
}

fn text(message: &Value) -> &str {
    message["content"][0]["text"].as_str().unwrap_or_default()
}

fn history(client: &mut Client) -> Vec<Value> {
    let answer = client.call("chat.history", &json!({"sessionKey": "main"}));
    answer["messages"].as_array().unwrap().clone()
}

fn wait(client: &mut Client, run: &str) -> Value {
    client.call("agent.wait", &json!({"runId": run, "timeoutMs": 20_000}))
}

/// What a request told the model, without what the gateway says first.
fn told(request: &Value) -> Vec<(String, String)> {
    request["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] != "system")
        .map(|message| {
            let content = &message["content"];
            let said = content.as_str().or_else(|| content[0]["text"].as_str());
            let said = said.unwrap_or_default().to_owned();
            (message["role"].as_str().unwrap().to_owned(), said)
        })
        .collect()
}

#[test]
fn a_chat_is_streamed_kept_and_priced_in_both_dialects() {
    for protocol in [3, 4] {
        let gate = Gate::new();
        let say = CHAT
            .text(&["Hello", " from", " here."])
            .held_after(2, &gate);
        let provider = Provider::start(vec![say]);
        let gateway = started(&provider);
        let mut client = gateway.owner(protocol);
        let accepted = send(&mut client, "run-1", "hello there");
        assert_eq!(accepted, json!({"runId": "run-1", "status": "started"}));
        let start = client.event("agent")["payload"].clone();
        assert_eq!(start["stream"], "lifecycle");
        assert_eq!(start["data"]["phase"], "start");
        assert_eq!(
            (&start["seq"], &start["sessionKey"]),
            (&json!(1), &json!(MAIN))
        );
        assert_eq!(start.get("agentId").is_some(), protocol == 4);
        let first = client.event("agent")["payload"].clone();
        assert_eq!(first["stream"], "assistant");
        assert_eq!(first["data"]["text"], "Hello");
        let delta = client.event("chat")["payload"].clone();
        assert_eq!(delta["state"], "delta");
        assert!(text(&delta["message"]).starts_with("Hello"), "{delta}");
        assert_eq!(delta.get("deltaText").is_some(), protocol == 4);
        assert_eq!(
            delta["sessionKey"],
            if protocol == 3 { "main" } else { MAIN },
            "wire 3 gets the key back as it was written"
        );
        let again = send(&mut client, "run-1", "hello there");
        assert_eq!(again, json!({"runId": "run-1", "status": "in_flight"}));
        gate.open();
        let (before, last) = last_word(&mut client, "run-1");
        assert_eq!(last["state"], "final");
        assert_eq!(text(&last["message"]), "Hello from here.");
        let full = before
            .last()
            .map_or("Hello", |event| text(&event["message"]));
        assert_eq!(
            full, "Hello from here.",
            "everything was told before the end"
        );
        let messages = history(&mut client);
        assert_eq!(messages.len(), 2);
        assert_eq!(
            text(&messages[0]),
            "hello there",
            "the time is for the model alone"
        );
        assert_eq!(text(&messages[1]), "Hello from here.");
        assert_eq!(messages[1]["provider"], "scripted");
        assert_eq!(messages[1]["stopReason"], "stop");
        assert_eq!(messages[1]["usage"]["output"], 3);
        assert!(messages[1]["usage"]["cost"]["total"].as_f64().unwrap() > 0.0);
        let over = send(&mut client, "run-1", "hello there");
        assert_eq!(over, json!({"runId": "run-1", "status": "ok"}));
        assert_eq!(provider.asked().len(), 1, "asked twice it is done once");
        let list = client.call("sessions.list", &json!({}));
        assert_eq!(list["sessions"][0]["model"], "some-model");
        assert_eq!(list["sessions"][0]["totalTokens"], 15);
        let asked = &provider.asked()[0];
        assert_eq!(
            asked.header("authorization"),
            Some(format!("Bearer {KEY}").as_str())
        );
        assert!(
            told(&asked.body)[0].1.ends_with("UTC] hello there"),
            "{:?}",
            told(&asked.body)
        );
    }
}

#[test]
fn e70_an_agent_call_has_two_answers_and_the_same_key_has_the_same_one_after_a_restart() {
    let provider = Provider::start(vec![CHAT.text(&["Done."]), CHAT.text(&["Again?"])]);
    let mut gateway = started(&provider);
    let mut client = gateway.owner(3);
    let asked = json!({"message": "do it", "agentId": "main", "idempotencyKey": "ag-1"});
    let id = client.send("agent", &asked);
    let (_, accepted) = client.answer_after_events(&id);
    let clawgate_testkit::Call::Ok(accepted) = accepted else {
        panic!("{accepted:?}");
    };
    assert_eq!(accepted["status"], "accepted");
    assert!(accepted["acceptedAt"].is_i64());
    let (_, done) = client.answer_after_events(&id);
    let clawgate_testkit::Call::Ok(done) = done else {
        panic!("{done:?}");
    };
    assert_eq!(
        (&done["status"], &done["summary"]),
        (&json!("ok"), &json!("completed"))
    );
    assert_eq!(
        done["result"]["payloads"][0],
        json!({"text": "Done.", "mediaUrl": null})
    );
    let meta = &done["result"]["meta"]["agentMeta"];
    assert_eq!(
        (&meta["provider"], &meta["model"]),
        (&json!("scripted"), &json!("some-model"))
    );
    assert_eq!(meta["usage"]["total"], 15);
    assert_eq!(wait(&mut client, "ag-1")["status"], "ok");
    gateway.kill();
    gateway.restart();
    let mut client = gateway.owner(3);
    let again = client.call("agent", &asked);
    assert_eq!(again["result"]["payloads"][0]["text"], "Done.");
    assert_eq!(provider.asked().len(), 1);
    let waited = wait(&mut client, "ag-1");
    assert_eq!(waited["status"], "ok");
    assert!(waited["startedAt"].as_i64().unwrap() <= waited["endedAt"].as_i64().unwrap());
}

#[test]
fn what_a_provider_refuses_is_a_failed_turn_with_its_reason_and_the_lane_is_free() {
    let provider = Provider::start(vec![
        Say::refused(400, "that is no request"),
        CHAT.text(&["Better."]),
    ]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    send(&mut client, "bad", "one");
    let (_, last) = last_word(&mut client, "bad");
    assert_eq!(last["state"], "error");
    assert!(
        last["errorMessage"]
            .as_str()
            .unwrap()
            .contains("that is no request"),
        "{last}"
    );
    assert_eq!(provider.asked().len(), 1, "what is wrong is not repeated");
    let waited = wait(&mut client, "bad");
    assert_eq!(waited["status"], "error");
    assert!(
        waited["error"].as_str().unwrap().contains("400"),
        "{waited}"
    );
    let messages = history(&mut client);
    assert_eq!(messages[1]["stopReason"], "error");
    assert_eq!(send(&mut client, "bad", "one")["status"], "error");
    send(&mut client, "good", "two");
    assert_eq!(last_word(&mut client, "good").1["state"], "final");
    assert!(!gateway.stderr().contains(KEY));
}

#[test]
fn an_abort_closes_the_request_and_keeps_what_was_said() {
    let gate = Gate::new();
    let say = CHAT
        .text(&["word0", " word1", " word2"])
        .held_after(3, &gate);
    let provider = Provider::start(vec![say, CHAT.text(&["Fresh."])]);
    let gateway = started(&provider);
    let mut client = gateway.owner(3);
    let (mut other, _) = gateway.welcome(
        &Connect::new(3)
            .token(TOKEN)
            .scopes(&["operator.read", "operator.write"]),
    );
    send(&mut client, "slow", "tell me");
    while text(&client.event("chat")["payload"]["message"]) != "word0 word1" {}
    let wrong = json!({"sessionKey": "agent:main:other", "runId": "slow"});
    assert_eq!(
        client.refused("chat.abort", &wrong).message,
        "runId does not match sessionKey"
    );
    let own = json!({"sessionKey": "main", "runId": "slow"});
    assert_eq!(other.refused("chat.abort", &own).message, "unauthorized");
    let aborted = client.call("chat.abort", &own);
    assert_eq!(
        aborted,
        json!({"ok": true, "aborted": true, "runIds": ["slow"]})
    );
    let (_, last) = last_word(&mut client, "slow");
    assert_eq!(
        (&last["state"], &last["stopReason"]),
        (&json!("aborted"), &json!("rpc"))
    );
    assert_eq!(text(&last["message"]), "word0 word1");
    provider.wait_left(1);
    let messages = history(&mut client);
    assert_eq!(text(&messages[1]), "word0 word1");
    assert_eq!(messages[1]["openclawAbort"]["runId"], "slow");
    let nothing = client.call("chat.abort", &json!({"sessionKey": "main"}));
    assert_eq!(nothing, json!({"ok": true, "aborted": false, "runIds": []}));
    send(&mut client, "next", "and now");
    assert_eq!(last_word(&mut client, "next").1["state"], "final");
}

#[test]
fn what_waits_for_a_busy_session_is_answered_together_or_in_its_turn_as_asked() {
    let gate = Gate::new();
    let provider = Provider::start(vec![
        CHAT.text(&["One."]).held_after(0, &gate),
        CHAT.text(&["Both."]),
        CHAT.text(&["Last."]),
    ]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    send(&mut client, "a", "first");
    let _ = provider.wait_asked(1);
    assert_eq!(send(&mut client, "b", "second")["queuePosition"], 1);
    assert_eq!(send(&mut client, "c", "third")["queuePosition"], 2);
    let followup = json!({"sessionKey": "main", "message": "fourth", "idempotencyKey": "d",
        "queueMode": "followup"});
    client.call("chat.send", &followup);
    // Somebody else's words come between.
    let note = json!({"sessionKey": "main", "message": "by the way"});
    client.call("chat.inject", &note);
    gate.open();
    for (run, words) in [
        ("a", "One."),
        ("b", "Both."),
        ("c", "Both."),
        ("d", "Last."),
    ] {
        let (_, last) = last_word(&mut client, run);
        assert_eq!(
            (&last["state"], text(&last["message"])),
            (&json!("final"), words)
        );
    }
    let asked = provider.asked();
    assert_eq!(asked.len(), 3);
    let second: Vec<String> = told(&asked[1].body)
        .into_iter()
        .map(|(_, said)| said)
        .collect();
    assert_eq!(second.len(), 5, "{second:?}");
    assert!(second[3].ends_with("second") && second[4].ends_with("third"));
    assert!(told(&asked[2].body).last().unwrap().1.ends_with("fourth"));
}

#[test]
fn a_message_that_interrupts_takes_the_place_of_the_turn() {
    let gate = Gate::new();
    let provider = Provider::start(vec![
        CHAT.text(&["Long."]).held_after(0, &gate),
        CHAT.text(&["Short."]),
    ]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    send(&mut client, "long", "first");
    let _ = provider.wait_asked(1);
    let other = json!({"sessionKey": "main", "message": "second", "idempotencyKey": "short",
        "queueMode": "interrupt"});
    client.call("chat.send", &other);
    let (_, last) = last_word(&mut client, "long");
    assert_eq!(
        (&last["state"], &last["stopReason"]),
        (&json!("aborted"), &json!("interrupted"))
    );
    assert_eq!(
        text(&last_word(&mut client, "short").1["message"]),
        "Short."
    );
}

#[test]
fn after_a_kill_what_ran_is_interrupted_what_waited_runs_and_nothing_runs_twice() {
    let gate = Gate::new();
    let provider = Provider::start(vec![
        CHAT.text(&["Half", " done"]).held_after(2, &gate),
        CHAT.text(&["Later."]),
    ]);
    let mut gateway = started(&provider);
    let mut client = gateway.owner(4);
    send(&mut client, "ran", "first");
    while client.event("agent")["payload"]["stream"] != "assistant" {}
    send(&mut client, "waited", "second");
    gateway.kill();
    gateway.restart();
    let mut client = gateway.owner(4);
    let waited = wait(&mut client, "waited");
    assert_eq!(waited["status"], "ok", "{waited}");
    let ran = wait(&mut client, "ran");
    assert_eq!(ran["status"], "error");
    assert!(
        ran["error"]
            .as_str()
            .unwrap()
            .contains("stopped during the turn"),
        "{ran}"
    );
    assert_eq!(send(&mut client, "ran", "first")["status"], "error");
    assert_eq!(provider.asked().len(), 2);
    let messages = history(&mut client);
    let said: Vec<&str> = messages.iter().map(text).collect();
    assert_eq!(said, ["first", "", "second", "Later."]);
    assert_eq!(messages[1]["stopReason"], "aborted");
}

#[test]
fn a_turn_that_takes_too_long_is_stopped_and_says_so() {
    let provider = Provider::start(vec![CHAT.text(&["Hm"]).first(2).stalled()]);
    let gateway = started(&provider);
    let mut client = gateway.owner(3);
    client.call(
        "chat.send",
        &json!({"sessionKey": "main", "message": "x", "idempotencyKey": "t", "timeoutMs": 300}),
    );
    let (_, last) = last_word(&mut client, "t");
    assert_eq!(
        (&last["state"], &last["stopReason"]),
        (&json!("aborted"), &json!("timeout"))
    );
    assert_eq!(wait(&mut client, "t")["status"], "timeout");
    provider.wait_left(1);
}

#[test]
fn e68_a_command_needs_the_scope_of_what_it_does() {
    let provider = Provider::start(vec![CHAT.text(&["One."]), CHAT.text(&["Two."])]);
    let gateway = started(&provider);
    let mut owner = gateway.owner(3);
    send(&mut owner, "a", "before");
    last_word(&mut owner, "a");
    let (mut writer, _) = gateway.welcome(
        &Connect::new(3)
            .token(TOKEN)
            .scopes(&["operator.read", "operator.write"]),
    );
    for words in [
        "/new",
        "/reset now",
        "/model scripted/other",
        "/think high",
        "/compact",
    ] {
        let params = json!({"sessionKey": "main", "message": words, "idempotencyKey": words});
        let refused = writer.refused("chat.send", &params);
        assert_eq!(refused.message, "missing scope: operator.admin", "{words}");
    }
    let agent = json!({"message": "/new", "idempotencyKey": "n"});
    assert_eq!(
        writer.refused("agent", &agent).message,
        "missing scope: operator.admin"
    );
    assert_eq!(history(&mut owner).len(), 2, "nothing was reset");
    send(&mut writer, "s", "/status");
    let (_, status) = last_word(&mut writer, "s");
    assert!(
        text(&status["message"]).contains("scripted/some-model"),
        "{status}"
    );
    assert_eq!(history(&mut owner).len(), 2, "a command is no message");
    let stop = send(&mut writer, "st", "/stop");
    assert_eq!(stop, json!({"ok": true, "aborted": false, "runIds": []}));
    send(&mut owner, "new", "/new after");
    last_word(&mut owner, "new");
    let messages = history(&mut owner);
    assert_eq!(
        messages.iter().map(text).collect::<Vec<_>>(),
        ["after", "Two."]
    );
}

#[test]
fn a_reset_ends_what_goes_on_first() {
    let gate = Gate::new();
    let provider = Provider::start(vec![CHAT.text(&["Never"]).held_after(0, &gate)]);
    let gateway = started(&provider);
    let mut client = gateway.owner(3);
    send(&mut client, "a", "before");
    let _ = provider.wait_asked(1);
    client.call("sessions.reset", &json!({"key": "main"}));
    let (_, last) = last_word(&mut client, "a");
    assert_eq!(
        (&last["state"], &last["stopReason"]),
        (&json!("aborted"), &json!("removed"))
    );
    assert_eq!(history(&mut client).len(), 0);
    provider.wait_left(1);
}

#[test]
fn without_a_model_or_with_one_that_is_not_there_nothing_is_asked_and_the_turn_says_why() {
    let gateway = gateway!();
    let mut client = gateway.owner(3);
    send(&mut client, "a", "hello");
    let (_, last) = last_word(&mut client, "a");
    assert_eq!(last["state"], "error");
    assert!(
        last["errorMessage"].as_str().unwrap().contains("model"),
        "{last}"
    );
    let refused = client.refused(
        "agent",
        &json!({"message": "x", "sessionKey": "agent:", "idempotencyKey": "b"}),
    );
    assert_eq!(
        refused.message,
        "invalid agent params: malformed session key \"agent:\""
    );
}

fn add_job(client: &mut Client, more: &Value) -> String {
    let mut job = json!({
        "name": "nightly", "schedule": {"kind": "every", "everyMs": 86_400_000},
        "sessionTarget": "isolated", "wakeMode": "now",
        "payload": {"kind": "agentTurn", "message": "look after things"},
        "delivery": {"mode": "none"},
    });
    for (member, value) in more.as_object().unwrap() {
        job[member] = value.clone();
    }
    client.call("cron.add", &job)["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Runs a job by hand and gives its record.
fn run_job(client: &mut Client, id: &str) -> Value {
    client.call("cron.run", &json!({"id": id, "mode": "force"}));
    loop {
        let event = client.event("cron")["payload"].clone();
        if event["action"] == "finished" && event["jobId"] == id {
            let runs = client.call("cron.runs", &json!({"scope": "job", "id": id, "limit": 1}));
            return runs["entries"][0].clone();
        }
    }
}

#[test]
fn a_job_takes_its_turn_in_a_conversation_of_its_own_and_records_what_it_came_to() {
    let provider = Provider::start(vec![
        CHAT.text(&["All ", "quiet."]),
        Say::refused(400, "no"),
    ]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    let id = add_job(&mut client, &json!({}));
    let run = run_job(&mut client, &id);
    assert_eq!(
        (&run["status"], &run["summary"]),
        (&json!("ok"), &json!("All quiet.")),
        "{run}"
    );
    assert_eq!(
        (&run["provider"], &run["model"]),
        (&json!("scripted"), &json!("some-model"))
    );
    assert_eq!(run["usage"]["total_tokens"], 15);
    let key = run["sessionKey"].as_str().unwrap();
    assert_eq!(
        key,
        format!(
            "agent:main:cron:{id}:run:{}",
            run["sessionId"].as_str().unwrap()
        )
    );
    let said = client.call("chat.history", &json!({"sessionKey": key}));
    assert_eq!(text(&said["messages"][1]), "All quiet.");
    let asked = &provider.asked()[0];
    let (_, words) = told(&asked.body).pop().unwrap();
    assert!(
        words.starts_with(&format!("[cron:{id} nightly] look after things\n")),
        "{words}"
    );
    let list = client.call("sessions.list", &json!({}));
    let keys: Vec<&str> = list["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        [format!("agent:main:cron:{id}")],
        "one row a job, not one a run"
    );
    assert_eq!(list["sessions"][0]["displayName"], "Cron: nightly");
    let failed = run_job(&mut client, &id);
    assert_eq!(failed["status"], "error", "{failed}");
    assert!(
        failed["error"].as_str().unwrap().contains("400"),
        "{failed}"
    );
    assert_eq!(provider.asked().len(), 2, "what is wrong is not repeated");
    let waited = wait(&mut client, failed["runId"].as_str().unwrap());
    assert_eq!(waited["status"], "error", "run and turn are one");
}

#[test]
fn a_job_whose_model_is_not_there_fails_and_no_other_model_runs() {
    let provider = Provider::start(vec![CHAT.text(&["Wrong one."])]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    let payload = json!({"kind": "agentTurn", "message": "m", "model": "nobody/nothing"});
    let id = add_job(&mut client, &json!({"payload": payload}));
    let run = run_job(&mut client, &id);
    assert_eq!(run["status"], "error", "{run}");
    assert!(run["error"].as_str().unwrap().contains("nobody"), "{run}");
    assert_eq!(provider.asked().len(), 0);
}

#[test]
fn a_job_that_is_removed_ends_its_turn_and_its_request() {
    let gate = Gate::new();
    let provider = Provider::start(vec![CHAT.text(&["Never"]).held_after(0, &gate)]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    let id = add_job(&mut client, &json!({}));
    client.call("cron.run", &json!({"id": id, "mode": "force"}));
    let _ = provider.wait_asked(1);
    client.call("cron.remove", &json!({"id": id}));
    provider.wait_left(1);
    while client.event("cron")["payload"]["action"] != "finished" {}
    let runs = client.call("cron.runs", &json!({"scope": "all", "limit": 1}));
    assert_eq!(runs["entries"][0]["verdict"], "interrupted", "{runs}");
}

#[test]
fn a_text_that_is_due_now_is_told_to_the_main_session_and_answered_there() {
    let provider = Provider::start(vec![CHAT.text(&["Stretch, please."])]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    let id = add_job(
        &mut client,
        &json!({"sessionTarget": "main", "payload": {"kind": "systemEvent", "text": "stretch"}}),
    );
    let run = run_job(&mut client, &id);
    assert_eq!(
        (&run["status"], &run["summary"]),
        (&json!("ok"), &json!("Stretch, please.")),
        "{run}"
    );
    let messages = history(&mut client);
    assert!(text(&messages[0]).starts_with("System: ["), "{messages:?}");
    assert_eq!(text(&messages[1]), "Stretch, please.");
}

#[test]
fn what_waits_for_a_session_is_told_with_its_next_turn_once() {
    let provider = Provider::start(vec![CHAT.text(&["Noted."])]);
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    client.call("system-event", &json!({"text": "the printer is empty"}));
    send(&mut client, "a", "hello");
    last_word(&mut client, "a");
    send(&mut client, "b", "again");
    last_word(&mut client, "b");
    let asked = provider.asked();
    let first = &told(&asked[0].body)[0].1;
    assert!(
        first.starts_with("System: [") && first.contains("the printer is empty"),
        "{first}"
    );
    let second = told(&asked[1].body);
    assert!(!second.last().unwrap().1.contains("printer"), "{second:?}");
}

#[test]
fn a_wake_is_answered_at_once_and_a_heartbeat_without_news_is_shown_to_nobody() {
    let provider = Provider::start(vec![
        CHAT.text(&["The printer is empty."]),
        CHAT.text(&["HEARTBEAT_OK"]),
        CHAT.text(&["Hi."]),
    ]);
    let mut gateway = started(&provider);
    let mut client = gateway.owner(4);
    let wake = |client: &mut Client, text: &str| {
        client.call("wake", &json!({"mode": "now", "text": text}));
        client.event("heartbeat")["payload"].clone()
    };
    let beat = wake(&mut client, "printer: paper out");
    assert_eq!(beat["status"], "sent", "{beat}");
    assert_eq!(beat["preview"], "The printer is empty.");
    let messages = history(&mut client);
    assert_eq!(
        messages.iter().map(text).collect::<Vec<_>>(),
        ["The printer is empty."]
    );
    let beat = wake(&mut client, "printer: paper in");
    assert_eq!(beat["status"], "ok-token", "{beat}");
    assert_eq!(history(&mut client).len(), 1);
    send(&mut client, "a", "hello");
    last_word(&mut client, "a");
    let asked = provider.asked();
    let first = &told(&asked[0].body)[0].1;
    assert!(
        first.contains("printer: paper out") && first.contains("HEARTBEAT.md"),
        "{first}"
    );
    let third = told(&asked[2].body);
    assert_eq!(third.len(), 3, "the silent one is not told: {third:?}");
    gateway.kill();
    gateway.restart();
    let mut client = gateway.owner(4);
    assert_eq!(
        client.call("last-heartbeat", &json!({}))["status"],
        "ok-token"
    );
}

#[test]
fn a_turn_uses_tools_and_what_is_said_meanwhile_is_told_with_their_results() {
    let gate = Gate::new();
    let provider = Provider::start(vec![
        CHAT.answer(
            &["Let me look."],
            &[("c1", "exec", json!({"command": "echo tool-ran"}))],
        )
        .held_after(2, &gate),
        CHAT.text(&["It ran."]),
    ]);
    let gateway = started(&provider);
    let connect = Connect::new(4)
        .token(TOKEN)
        .local_proof(&gateway.home().local_key())
        .edit(|params| params["caps"] = json!(["tool-events"]));
    let (mut client, _) = gateway.welcome(&connect);
    send(&mut client, "a", "run it");
    while client.event("agent")["payload"]["stream"] != "assistant" {}
    let steer = json!({"sessionKey": "main", "message": "and hurry", "idempotencyKey": "b",
        "queueMode": "steer"});
    client.call("chat.send", &steer);
    gate.open();
    let mut tools = Vec::new();
    loop {
        let event = client.event("agent")["payload"].clone();
        if event["stream"] == "tool" {
            tools.push(event["data"].clone());
        }
        if event["data"]["phase"] == "end" {
            break;
        }
    }
    assert_eq!(tools.len(), 2, "{tools:?}");
    assert_eq!(tools[1]["isError"], false, "{:?}", history(&mut client));
    assert_eq!(
        (&tools[0]["name"], &tools[0]["args"]["command"]),
        (&json!("exec"), &json!("echo tool-ran"))
    );
    assert_eq!(
        (&tools[1]["phase"], &tools[1]["isError"]),
        (&json!("result"), &json!(false))
    );
    for run in ["a", "b"] {
        let (_, last) = last_word(&mut client, run);
        assert_eq!(text(&last["message"]), "Let me look.It ran.");
    }
    let asked = provider.asked();
    let second = told(&asked[1].body);
    let roles: Vec<&str> = second.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "user"]);
    assert!(second[2].1.contains("tool-ran"), "{second:?}");
    assert!(second[3].1.ends_with("and hurry"), "{second:?}");
    let messages = history(&mut client);
    assert_eq!(messages[2]["role"], "toolResult");
    assert_eq!(messages[1]["stopReason"], "toolUse");
}

#[test]
fn a_conversation_that_does_not_fit_is_summed_up_once_and_stays_readable() {
    let long = "All of this was said. ".repeat(1_500);
    let provider = Provider::deciding(move |_, asked| {
        let system = asked.body["messages"][0]["content"].to_string();
        if system.contains("memory of a conversation") {
            return CHAT.text(&["The person likes tea."]);
        }
        CHAT.text(&[&long])
    });
    let gateway = started(&provider);
    let mut client = gateway.owner(4);
    for turn in 0..4 {
        send(&mut client, &format!("t{turn}"), &format!("number {turn}"));
        let (_, last) = last_word(&mut client, &format!("t{turn}"));
        assert_eq!(last["state"], "final", "{}", last["errorMessage"]);
    }
    let asked = provider.asked();
    let is_summary = |asked: &&clawgate_testkit::provider::Asked| {
        asked.body["messages"][0]["content"]
            .to_string()
            .contains("memory of a conversation")
    };
    let summaries: Vec<_> = asked.iter().filter(is_summary).collect();
    assert!(!summaries.is_empty(), "it fits: {}", asked.len());
    let summed = told(&summaries[0].body).remove(0).1;
    assert!(
        summed.contains("Person: ") && summed.contains("number 0"),
        "{summed:.200}"
    );
    assert!(summaries[0].body.get("tools").is_none());
    let last = told(&asked.last().unwrap().body);
    assert!(
        last[0].1.contains("The person likes tea."),
        "{:.200}",
        last[0].1
    );
    assert!(last.last().unwrap().1.ends_with("number 3"));
    assert!(last.len() < 8, "{}", last.len());
    assert_eq!(history(&mut client).len(), 8, "people see all of it");
    let list = client.call("sessions.describe", &json!({"key": "main"}));
    assert!(list["session"].is_object());
}
