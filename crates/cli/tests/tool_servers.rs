//! Servers of tools, by the real process: what a turn gets of them, and what becomes of those that
//! misbehave.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clawgate_testkit::{
    Client, TestGateway, gateway, home,
    provider::{Dialect, Provider},
    token_config,
};
use serde_json::{Value, json};

const CHAT: Dialect = Dialect::Chat;
const SECRET: &str = "canary-of-a-tool-server";

fn fixture() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tool_server.py");
    path.display().to_string()
}

fn server(how: &str) -> Value {
    json!({"command": "python3", "args": [fixture(), how], "env": {"GIVEN_KEY": SECRET}})
}

/// A server that is reached over HTTP, ended with the value.
struct Web {
    child: Child,
    url: String,
    record: PathBuf,
    _directory: tempfile::TempDir,
}

impl Web {
    fn start(how: &str, target: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("requests");
        let mut child = Command::new("python3")
            .arg(fixture().replace("tool_server.py", "tool_server_http.py"))
            .args([how, record.to_str().unwrap(), target])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let said = child.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut port).unwrap();
        Self {
            child,
            url: format!("http://127.0.0.1:{}/mcp", port.trim()),
            record,
            _directory: directory,
        }
    }

    fn server(&self) -> Value {
        json!({"url": self.url, "headers": {"Authorization": format!("Bearer {SECRET}")}})
    }

    /// The requests that came, with their credentials.
    fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway with one server, whose model calls a tool and then says so.
fn house(tool: &str, server: &Value, tools: &Value) -> (Provider, TestGateway) {
    let provider = Provider::start(vec![
        CHAT.calls(&[("call-1", tool, json!({"words": "hello"}))]),
        CHAT.text(&["Done."]),
        CHAT.calls(&[("call-2", tool, json!({"words": "again"}))]),
        CHAT.text(&["Done."]),
    ]);
    let mut config = token_config();
    config["models"] = json!({"providers": {"scripted": provider.config(CHAT)}});
    config["agents"] = json!({"defaults": {"model": {"primary": "scripted/some-model"}}});
    config["mcp"] = json!({"servers": {"echo": server}});
    config["tools"] = tools.clone();
    let gateway = gateway!(config);
    (provider, gateway)
}

fn turn(client: &mut Client, run: &str) {
    client.call(
        "chat.send",
        &json!({"sessionKey": "main", "message": "do it", "idempotencyKey": run}),
    );
    let ended = client.call("agent.wait", &json!({"runId": run, "timeoutMs": 60_000}));
    assert_eq!(ended["status"], "ok", "{ended}");
}

/// Names of servers' tools that a request told a model.
fn offered(request: &Value) -> Vec<&str> {
    let tools = request["tools"].as_array().into_iter().flatten();
    tools
        .filter_map(|tool| tool["function"]["name"].as_str())
        .filter(|name| name.starts_with("mcp__"))
        .collect()
}

/// What a tool answered, as the next request told the model.
fn answered(request: &Value) -> &str {
    let last = request["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(last["role"], "tool", "{last}");
    last["content"].as_str().unwrap()
}

/// One turn against a server, and what its tool answered.
fn answer_of(how: &str) -> String {
    let (provider, gateway) = house("mcp__echo__say", &server(how), &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    answered(&provider.asked()[1].body).to_owned()
}

fn processes(file: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(file).unwrap();
    let ids = text.split_whitespace();
    ids.map(|id| Path::new("/proc").join(id)).collect()
}

/// Waits until processes are gone; one that nobody waited for yet is.
fn gone(processes: &[PathBuf]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let lives = |process: &PathBuf| {
        let stat = std::fs::read_to_string(process.join("stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while processes.iter().any(lives) {
        assert!(Instant::now() < deadline, "{processes:?} still run");
        std::thread::yield_now();
    }
}

#[test]
fn a_turn_calls_a_servers_tool_and_gets_its_answer() {
    let (provider, gateway) = house("mcp__echo__say", &server("well"), &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    let asked = provider.asked();
    assert_eq!(offered(&asked[0].body), ["mcp__echo__say"]);
    assert_eq!(answered(&asked[1].body), "said: hello");
}

#[test]
fn a_server_sees_what_it_was_given_and_no_secret_of_the_gateway_and_the_log_has_neither() {
    let (provider, gateway) = house("mcp__echo__say", &server("environment"), &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    let asked = provider.asked();
    let seen = answered(&asked[1].body);
    assert!(seen.contains(&format!("GIVEN_KEY={SECRET}")), "{seen}");
    for name in ["CLAWGATE_GATEWAY_TOKEN", "CARGO", "OPENCLAW"] {
        assert!(!seen.contains(name), "{seen}");
    }
    gateway.says("it starts with ***");
    assert!(!gateway.stderr().contains(SECRET));
}

#[test]
fn a_server_that_dies_fails_the_call_by_its_name_and_is_there_again_for_the_next_turn() {
    let (provider, gateway) = house("mcp__echo__say", &server("dies"), &json!({}));
    let mut client = gateway.owner(4);
    turn(&mut client, "run-1");
    assert!(answered(&provider.asked()[1].body).contains("the server \"echo\""));
    turn(&mut client, "run-2");
    assert_eq!(offered(&provider.asked()[2].body), ["mcp__echo__say"]);
}

#[test]
fn a_server_that_hangs_at_its_start_is_left_out_of_the_turn_when_its_time_is_over() {
    let mut hanging = server("hangs");
    hanging["connectionTimeoutMs"] = json!(500);
    let (provider, gateway) = house("mcp__echo__say", &hanging, &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    assert!(offered(&provider.asked()[0].body).is_empty());
    gateway.says("did not start in");
}

#[test]
fn a_server_that_never_answers_a_call_is_given_up_after_its_time() {
    let mut mute = server("mute");
    mute["requestTimeoutMs"] = json!(1_000);
    let (provider, gateway) = house("mcp__echo__say", &mute, &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    let asked = provider.asked();
    assert!(answered(&asked[1].body).contains("did not answer in 1 s"));
}

#[test]
fn an_answer_of_ten_megabytes_reaches_nobody() {
    let answer = answer_of("huge");
    assert!(
        answer.contains("the server \"echo\""),
        "{}",
        &answer[..200.min(answer.len())]
    );
    assert!(answer.len() < 2_000);
}

#[test]
fn of_ten_thousand_tools_a_turn_has_a_few() {
    let (provider, gateway) = house("mcp__echo__t1", &server("many"), &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    let asked = provider.asked();
    assert_eq!(offered(&asked[0].body).len(), 128);
    assert_eq!(answered(&asked[1].body), "said: hello");
}

#[test]
fn hostile_names_are_made_plain_and_take_no_other_tools_place() {
    let (provider, gateway) = house("mcp__echo__say_it__", &server("hostile"), &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    let asked = provider.asked();
    let names = offered(&asked[0].body);
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!((names[0], names[1].len()), ("mcp__echo__say_it__", 64));
    assert_eq!(names[2], "mcp__echo__read");
    assert_eq!(answered(&asked[1].body), "said: hello");
}

#[test]
fn a_server_that_no_turn_may_use_is_not_even_started() {
    for tools in [
        json!({"deny": ["mcp__echo__*"]}),
        json!({"deny": ["group:mcp"]}),
        json!({"allow": ["read"]}),
        json!({"profile": "minimal"}),
        json!({"profile": "coding"}),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let started = directory.path().join("started");
        let mut server = server("well");
        server["args"].as_array_mut().unwrap().push(json!(started));
        let (provider, gateway) = house("mcp__echo__say", &server, &tools);
        turn(&mut gateway.owner(4), "run-1");
        let asked = provider.asked();
        assert!(offered(&asked[0].body).is_empty(), "{tools}");
        assert!(answered(&asked[1].body).contains("no tool"), "{tools}");
        assert!(!started.exists(), "{tools}");
    }
}

#[test]
fn servers_end_with_the_gateway_and_what_a_killed_one_left_ends_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let started = directory.path().join("started");
    let mut server = server("well");
    server["args"].as_array_mut().unwrap().push(json!(started));
    let (_provider, mut gateway) = house("mcp__echo__say", &server, &json!({}));
    turn(&mut gateway.owner(4), "run-1");
    let first = processes(&started);
    assert_eq!(first.len(), 2);
    gateway.kill();
    gateway.restart();
    gone(&first);
    std::fs::remove_file(&started).unwrap();
    turn(&mut gateway.owner(4), "run-2");
    let second = processes(&started);
    assert!(second.iter().all(|process| process.exists()));
    gateway.terminate();
    gateway.ended();
    gone(&second);
}

#[test]
fn the_doctor_names_servers_and_the_ones_that_no_turn_can_have_and_shows_no_value_of_theirs() {
    let home = home!({
        let mut config = token_config();
        config["mcp"] = json!({"servers": {
            "echo": server("well"),
            "off": {"command": "off", "enabled": false},
            "far": {"url": "https://far.example/mcp", "headers": {"Authorization": SECRET}},
            "old": {"url": "https://old.example/sse", "transport": "sse"},
        }});
        config
    });
    let state = home.state().display().to_string();
    let config = home.config().display().to_string();
    let done = Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args([
            "doctor",
            "--json",
            "--state-dir",
            &state,
            "--config",
            &config,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    for words in [
        "echo (stdio, enabled)",
        "off (stdio, disabled)",
        "far (http, enabled)",
        "old (sse, unusable)",
        "servers.unusable",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_server_over_http_is_called_with_its_credential_which_no_log_has() {
    for how in ["well", "streams"] {
        let web = Web::start(how, "");
        let (provider, gateway) = house("mcp__echo__say", &web.server(), &json!({}));
        turn(&mut gateway.owner(4), "run-1");
        let asked = provider.asked();
        assert_eq!(offered(&asked[0].body), ["mcp__echo__say"], "{how}");
        assert_eq!(answered(&asked[1].body), "said: hello", "{how}");
        let requests = web.requests();
        let posts = requests.iter().filter(|line| line.starts_with("POST"));
        assert!(posts.count() >= 4, "{requests:?}");
        let credential = format!("Bearer {SECRET}");
        assert!(
            requests.iter().all(|line| line.ends_with(&credential)),
            "{requests:?}"
        );
        assert!(!gateway.stderr().contains(SECRET));
    }
}

#[test]
fn a_server_over_http_that_points_elsewhere_or_refuses_is_left_out_and_nothing_goes_elsewhere() {
    let elsewhere = Web::start("well", "");
    for (how, target) in [("elsewhere", elsewhere.url.as_str()), ("refuses", "")] {
        let web = Web::start(how, target);
        let (provider, gateway) = house("mcp__echo__say", &web.server(), &json!({}));
        turn(&mut gateway.owner(4), "run-1");
        assert!(offered(&provider.asked()[0].body).is_empty(), "{how}");
        gateway.says("no tools of a server: the server \"echo\"");
        assert!(!gateway.stderr().contains(SECRET), "{how}");
        assert!(!web.requests().is_empty(), "{how}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn servers_are_listed_without_being_started_and_one_is_tried_by_hand() {
    let web = Web::start("well", "");
    let home = home!({
        let mut config = token_config();
        config["mcp"] = json!({"servers": {
            "far": web.server(),
            "gone": {"url": format!("http://127.0.0.1:1/mcp?key={SECRET}")},
            "off": {"command": "off", "enabled": false},
            "small": server("well"),
            "wrong": server("hangs"),
        }});
        config["mcp"]["servers"]["wrong"]["connectionTimeoutMs"] = json!(300);
        config
    });
    let run = |arguments: &[&str]| {
        let state = home.state().display().to_string();
        let config = home.config().display().to_string();
        let done = Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .args(["--state-dir", &state, "--config", &config, "mcp"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(!text.contains(SECRET), "{text}");
        (done.status.code(), text)
    };
    let (code, text) = run(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, Some(0));
    let short = |row: &Value| {
        let word = |member: &str| row[member].as_str().unwrap().to_owned();
        [word("name"), word("transport"), word("status")]
    };
    let rows: Vec<_> = listed["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(short)
        .collect();
    assert_eq!(
        rows,
        [
            ["far", "http", "enabled"],
            ["gone", "http", "enabled"],
            ["off", "stdio", "disabled"],
            ["small", "stdio", "enabled"],
            ["wrong", "stdio", "enabled"],
        ]
    );
    assert!(web.requests().is_empty());
    for name in ["far", "small"] {
        let (code, text) = run(&["probe", name, "--json"]);
        let probe: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &probe["ok"]), (Some(0), &json!(true)), "{probe}");
        assert_eq!(probe["tools"][0]["name"], format!("mcp__{name}__say"));
        assert_eq!(probe["tools"][0]["description"], "Says it again");
    }
    let (code, text) = run(&["probe", "wrong", "--json"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("did not start in"), "{text}");
    let (code, text) = run(&["probe", "gone", "--json"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("cannot be spoken to"), "{text}");
    let (code, text) = run(&["probe", "nobody", "--json"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("SERVER_UNKNOWN"), "{text}");
}
