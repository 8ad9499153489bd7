//! `clawgate agent` and `clawgate chat` by lines, against a gateway that plays recorded turns.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/script.rs"]
mod script;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use script::{Act, Script};
use serde_json::{Value, json};
use terminal::{Done, Terminal};

const KEY: &str = "agent:main:main";

fn agent_event(run: &Value, stream: &str, data: &Value) -> Act {
    Act::Event(
        "agent",
        json!({"runId": run, "stream": stream, "data": data, "sessionKey": KEY, "seq": 1, "ts": 1}),
    )
}

fn chat_event(run: &Value, state: &str, text: &str) -> Act {
    Act::Event(
        "chat",
        json!({"runId": run, "sessionKey": KEY, "seq": 1, "state": state,
            "message": {"role": "assistant", "content": [{"type": "text", "text": text}]}}),
    )
}

/// The final answer as it was recorded.
fn finished(run: &Value, text: &str) -> Value {
    json!({"runId": run, "status": "ok", "summary": "completed", "result": {
        "payloads": [{"text": text, "mediaUrl": null}],
        "meta": {"durationMs": 563, "aborted": false, "agentMeta": {"provider": "mock"}}}})
}

fn accepted(run: &Value) -> Act {
    Act::Answer(json!({"runId": run, "status": "accepted", "acceptedAt": 1}))
}

/// A whole turn with a tool, as it was recorded.
fn turn(run: &Value) -> Vec<Act> {
    let tool = |phase: &str| {
        agent_event(
            run,
            "tool",
            &json!({"phase": phase, "name": "exec", "toolCallId": "call_1", "args": {"command": "echo ran"}, "isError": false}),
        )
    };
    vec![
        accepted(run),
        agent_event(run, "lifecycle", &json!({"phase": "start"})),
        agent_event(
            run,
            "assistant",
            &json!({"text": "Let me look.", "delta": "Let me look."}),
        ),
        tool("start"),
        tool("result"),
        agent_event(
            run,
            "assistant",
            &json!({"text": "Hello", "delta": "Hello"}),
        ),
        Act::Answer(finished(run, "Hello from the mock model.")),
    ]
}

fn run(script: &Script, args: &[&str]) -> Done {
    let url = script.url();
    Terminal::new().run(&[args, &["--url", &url, "--token", "t"]].concat())
}

fn start(script: &Script, args: &[&str]) -> (Child, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(args)
        .args(["--url", &script.url(), "--token", "t"])
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, home)
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn the_final_answer_is_waited_for_and_printed_alone() {
    let script = Script::play(|_, _, params| turn(&params["idempotencyKey"]));
    let done = run(
        &script,
        &["agent", "--agent", "main", "-m", "hello", "--timeout", "60"],
    );
    assert_eq!(done.exits(0).stdout, "Hello from the mock model.\n");
    let asked = &script.asked("agent")[0];
    assert_eq!(
        (&asked["agentId"], &asked["timeout"]),
        (&json!("main"), &json!(60))
    );
    assert_eq!(
        (&asked["message"], &asked["deliver"]),
        (&json!("hello"), &json!(false))
    );
    assert_eq!(script.asked("connect")[0]["caps"], json!(["tool-events"]));
}

#[test]
fn json_is_the_gateways_answer() {
    let script = Script::play(|_, _, params| turn(&params["idempotencyKey"]));
    let done = run(&script, &["agent", "-m", "hello", "--json"]).exits(0);
    let run_id = &script.asked("agent")[0]["idempotencyKey"];
    assert_eq!(done.json(), finished(run_id, "Hello from the mock model."));
}

#[test]
fn tools_are_told_of_where_somebody_asked() {
    let script = Script::play(|_, _, params| turn(&params["idempotencyKey"]));
    let told = run(&script, &["agent", "-m", "hello", "--verbose", "on"])
        .exits(0)
        .complains("[exec] {\"command\":\"echo ran\"}")
        .complains("[exec] done");
    assert_eq!(told.stdout, "Hello from the mock model.\n");
    let quiet = run(&script, &["agent", "-m", "hello"]).exits(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_turn_that_fails_exits_1_and_says_why() {
    let error = json!({"code": "UNAVAILABLE", "message": "the provider answered 400"});
    let script = Script::play(move |_, _, params| {
        vec![
            accepted(&params["idempotencyKey"]),
            Act::Refuse(error.clone()),
        ]
    });
    let done = run(&script, &["agent", "-m", "hello"]);
    drop(done.exits(1).complains("the provider answered 400"));
    let ends = [
        (
            json!({"status": "error", "summary": "no credit"}),
            "no credit",
        ),
        (json!({"status": "timeout"}), "took too long"),
        (
            json!({"status": "ok", "result": {"meta": {"aborted": true}}}),
            "aborted",
        ),
    ];
    for (end, said) in ends {
        let script = Script::play(move |_, _, params| {
            vec![
                accepted(&params["idempotencyKey"]),
                Act::Answer(end.clone()),
            ]
        });
        let done = run(&script, &["agent", "-m", "hello"]);
        drop(done.exits(1).complains(said));
        run(&script, &["agent", "-m", "hello", "--json"])
            .exits(1)
            .json();
    }
}

#[test]
fn a_turn_without_a_gateway_is_refused_with_the_way() {
    let done = Terminal::new().run(&["agent", "-m", "hello", "--local"]);
    drop(done.exits(2).complains("clawgate gateway run"));
}

#[test]
fn a_lost_connection_is_made_again_and_the_same_run_waited_for() {
    let ended = Arc::new(AtomicBool::new(false));
    let script = Script::play(
        move |connection, method, params| match (connection, method) {
            (0, "agent") => vec![accepted(&params["idempotencyKey"]), Act::Drop],
            (_, "agent") if ended.load(Ordering::SeqCst) => {
                vec![Act::Answer(finished(
                    &params["idempotencyKey"],
                    "still here",
                ))]
            }
            (_, "agent") => vec![Act::Answer(
                json!({"runId": params["idempotencyKey"], "status": "in_flight"}),
            )],
            (_, "agent.wait") if !ended.swap(true, Ordering::SeqCst) => {
                vec![Act::Answer(
                    json!({"runId": params["runId"], "status": "timeout"}),
                )]
            }
            (_, "agent.wait") => vec![Act::Answer(
                json!({"runId": params["runId"], "status": "ok", "endedAt": 2}),
            )],
            _ => Vec::new(),
        },
    );
    let done = run(&script, &["agent", "-m", "hello"])
        .exits(0)
        .complains("connection was lost");
    assert_eq!(done.stdout, "still here\n");
    let keys: Vec<Value> = script
        .asked("agent")
        .iter()
        .map(|params| params["idempotencyKey"].clone())
        .collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(script.asked("agent.wait").len(), 2);
}

#[test]
fn control_c_ends_the_run_at_the_gateway() {
    let script = Script::play(|_, method, params| match method {
        "agent" => {
            let run = &params["idempotencyKey"];
            let key = "agent:main:build";
            let mut data = json!({"phase": "start", "name": "exec", "toolCallId": "c"});
            data["args"] = Value::Null;
            let event = json!({"runId": run, "stream": "tool", "sessionKey": key, "data": data});
            vec![accepted(run), Act::Event("agent", event)]
        }
        "chat.abort" => vec![
            Act::Answer(json!({"ok": true, "aborted": true, "runIds": [params["runId"]]})),
            Act::Event(
                "chat",
                json!({"runId": params["runId"], "sessionKey": params["sessionKey"], "state": "aborted"}),
            ),
        ],
        _ => Vec::new(),
    });
    let (mut child, _home) = start(&script, &["agent", "-m", "hello", "--verbose", "on"]);
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = errors.next().unwrap().unwrap();
    assert!(first.contains("[exec]"), "{first}");
    interrupt(&child);
    let rest: Vec<String> = errors.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.join("\n").contains("the run was aborted"), "{rest:?}");
    let aborted = &script.asked("chat.abort")[0];
    assert_eq!(aborted["sessionKey"], "agent:main:build");
    assert_eq!(aborted["runId"], script.asked("agent")[0]["idempotencyKey"]);
}

/// A gateway that answers chats.
fn chats() -> Script {
    Script::play(|_, method, params| match method {
        "chat.send" => {
            let run = &params["idempotencyKey"];
            let said = params["message"].as_str().unwrap_or_default();
            let mut acts = vec![
                Act::Answer(json!({"runId": run, "status": "started"})),
                chat_event(run, "delta", "You"),
            ];
            if said == "fail" {
                acts.push(Act::Event(
                    "chat",
                    json!({"runId": run, "sessionKey": KEY, "state": "error", "errorMessage": "no credit"}),
                ));
            } else {
                acts.push(chat_event(&json!("another"), "final", "not yours"));
                acts.push(chat_event(run, "final", &format!("You said {said}")));
            }
            acts
        }
        "sessions.list" => vec![Act::Answer(
            json!({"sessions": [{"key": KEY, "model": "m", "totalTokens": 5}]}),
        )],
        _ => vec![Act::Answer(json!({}))],
    })
}

fn chat(script: &Script, args: &[&str], lines: &str) -> Done {
    let (mut child, _home) = start(script, args);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn without_a_terminal_each_line_is_answered_by_a_line() {
    let done = chat(
        &chats(),
        &["chat"],
        "one\n\n//two\n/sessions\n/exit\nnever\n",
    );
    assert_eq!(
        done.exits(0).stdout,
        "You said one\nYou said /two\nagent:main:main  m  5 tokens\n"
    );
}

#[test]
fn the_name_of_the_original_and_a_first_message_work() {
    let script = chats();
    let done = chat(
        &script,
        &["tui", "--message", "hi", "--thinking", "high"],
        "",
    );
    assert_eq!(done.exits(0).stdout, "You said hi\n");
    assert_eq!(script.asked("chat.send")[0]["thinking"], "high");
}

#[test]
fn a_chat_in_which_a_turn_failed_exits_1_and_goes_on_before() {
    let done = chat(&chats(), &["chat", "--json"], "fail\ntwo\n").exits(1);
    let answers: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(
        (&answers[0]["status"], &answers[0]["error"]),
        (&json!("error"), &json!("no credit"))
    );
    assert_eq!(
        (&answers[1]["status"], &answers[1]["text"]),
        (&json!("ok"), &json!("You said two"))
    );
}

#[test]
fn a_chat_that_lost_its_connection_gets_its_answer_from_the_history() {
    let script = Script::play(|connection, method, params| match (connection, method) {
        (0, "chat.send") => {
            let run = &params["idempotencyKey"];
            vec![
                Act::Answer(json!({"runId": run, "status": "started"})),
                chat_event(run, "delta", "You"),
                Act::Drop,
            ]
        }
        (_, "agent.wait") => vec![Act::Answer(json!({"status": "ok", "endedAt": 1}))],
        (_, "chat.history") => vec![Act::Answer(json!({"messages": [
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": "You said it"}]}))],
        _ => Vec::new(),
    });
    let done = chat(&script, &["chat", "--plain"], "hi\n").exits(0);
    assert_eq!(done.stdout, "You said it\n");
    assert_eq!(script.asked("chat.send").len(), 1);
}
