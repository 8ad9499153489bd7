//! `clawgate bench` against a gateway that runs: figures with their floors, refusals as everywhere, and
//! nothing left behind. How fast anything is, is no matter here.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "what other tests of commands need as well")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use clawgate_testkit::{TOKEN, TestGateway, gateway};
use serde_json::{Value, json};
use terminal::{Done, Terminal};

fn bench(terminal: &Terminal, gateway: &TestGateway, words: &[&str]) -> Done {
    bench_at(terminal, gateway.address(), words)
}

fn bench_at(terminal: &Terminal, address: SocketAddr, words: &[&str]) -> Done {
    let url = format!("ws://{address}");
    let target = ["--url", &url, "--token", TOKEN, "--runs", "1", "--json"];
    terminal.run(&[&["bench"], words, &target].concat())
}

/// The same gateway as one that speaks no more than wire 3, as the original does: of each connection the
/// first message is told to ask for that.
fn on_wire_3(gateway: &TestGateway) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, there) = (listener.local_addr().unwrap(), gateway.address());
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(there).unwrap());
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                // Who only looks whether somebody is there sends nothing.
                let _ = to_wire_3(client, server);
            });
        }
    });
    here
}

fn to_wire_3(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    let mut upgrade = Vec::new();
    while !upgrade.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        upgrade.push(byte[0]);
    }
    server.write_all(&upgrade)?;
    let mut header = [0; 8];
    client.read_exact(&mut header)?;
    assert_eq!(header[1], 0x80 | 126, "a connect is longer than 125 bytes");
    let mask = &header[4..];
    let masked = |bytes: &[u8]| -> Vec<u8> {
        let mask = mask.iter().cycle();
        bytes
            .iter()
            .zip(mask)
            .map(|(byte, mask)| byte ^ mask)
            .collect()
    };
    let mut connect = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
    client.read_exact(&mut connect)?;
    let text = String::from_utf8(masked(&connect)).unwrap();
    let older = text.replace(r#""maxProtocol":4"#, r#""maxProtocol":3"#);
    assert_ne!(older, text, "it asks for the newest");
    server.write_all(&header)?;
    server.write_all(&masked(older.as_bytes()))?;
    io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Write)
}

/// Every row has a figure and a floor, both above nothing, and their ratio.
#[track_caller]
fn rows(report: &Value) -> Vec<Value> {
    let rows = report["rows"].as_array().unwrap().clone();
    assert!(!rows.is_empty(), "{report:#}");
    for row in &rows {
        for side in ["subject", "floor"] {
            let median = row[side]["median"].as_f64().unwrap_or(-1.0);
            assert!(median > 0.0, "{side} of {row:#}");
        }
        assert!(row["ratio"].as_f64().unwrap() > 0.0, "{row:#}");
        assert!(row["floorIs"].is_string(), "{row:#}");
    }
    rows
}

fn jobs(gateway: &TestGateway) -> Vec<Value> {
    let mut owner = gateway.owner(4);
    let all = owner.call("cron.list", &json!({"includeDisabled": true}));
    all["jobs"].as_array().unwrap().clone()
}

#[test]
fn connects_and_calls_have_a_floor_a_ratio_and_a_histogram() {
    let gateway = gateway!();
    let terminal = Terminal::new();
    for words in [
        &["connect", "--in-flight", "2", "--duration", "300ms"][..],
        &[
            "rpc",
            "--method",
            "health",
            "--clients",
            "2",
            "--in-flight",
            "4",
            "--duration",
            "300ms",
        ],
    ] {
        let report = bench(&terminal, &gateway, words).exits(0).json();
        assert_eq!(report["kind"], words[0]);
        assert_eq!(report["gateway"]["pid"], gateway.pid(), "{report:#}");
        assert_eq!(report["gateway"]["protocol"], 4);
        assert!(
            report["gateway"]["memory"]["residentBytes"]
                .as_f64()
                .unwrap()
                > 0.0
        );
        let row = &rows(&report)[0];
        let took = &row["latency"];
        let many = took["count"].as_u64().unwrap();
        let bins = took["histogram"].as_array().unwrap();
        let of_bins: u64 = bins.iter().map(|bin| bin["count"].as_u64().unwrap()).sum();
        assert!(many > 0 && of_bins == many, "{took:#}");
        let order = ["p50Us", "p90Us", "p99Us", "maxUs"].map(|name| took[name].as_f64().unwrap());
        assert!(order.is_sorted() && order[0] > 0.0, "{order:?}");
    }
}

#[test]
fn idle_connections_cost_memory_and_an_active_one_is_compared_with_itself() {
    let gateway = gateway!();
    let words = ["idle", "--connections", "50", "--duration", "300ms"];
    let report = bench(&Terminal::new(), &gateway, &words).exits(0).json();
    let named: Vec<String> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["scenario"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        named,
        ["memory a connection, 50 idle", "health beside 50 idle"]
    );
    assert!(
        report["rows"][1]["ratio"].as_f64().unwrap() > 0.0,
        "{report:#}"
    );
}

#[test]
fn an_event_is_timed_to_its_last_subscriber() {
    let gateway = gateway!();
    let words = ["fanout", "--subscribers", "20", "--duration", "300ms"];
    let report = bench(&Terminal::new(), &gateway, &words).exits(0).json();
    let row = &rows(&report)[0];
    let name = "presence, by system-event to the last of 20";
    assert_eq!(row["scenario"], name);
    assert!(row["latency"]["count"].as_u64().unwrap() > 0);
}

#[test]
fn jobs_that_are_added_for_load_are_all_removed_and_no_others() {
    let gateway = gateway!();
    let mine = json!({
        "name": "clawgate-bench of mine", "enabled": false,
        "schedule": {"kind": "every", "everyMs": 3_600_000}, "sessionTarget": "main",
        "wakeMode": "next-heartbeat", "payload": {"kind": "systemEvent", "text": "x"},
    });
    gateway.owner(4).call("cron.add", &mine);
    let words = ["cron-load", "--clients", "4", "--duration", "300ms"];
    let report = bench(&Terminal::new(), &gateway, &words).exits(0).json();
    assert_eq!(rows(&report).len(), 2);
    // With the warm-up more were added than counted.
    let counted = report["rows"][0]["latency"]["count"].as_u64().unwrap();
    assert!(
        report["jobsRemoved"].as_u64().unwrap() >= counted,
        "{report:#}"
    );
    let left = jobs(&gateway);
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0]["name"], mine["name"]);
}

#[test]
fn jobs_that_were_due_are_gone_and_their_lateness_is_told() {
    let gateway = gateway!();
    let words = ["cron-late", "--jobs", "10"];
    let report = bench(&Terminal::new(), &gateway, &words).exits(0).json();
    let told = &report["rows"][1];
    assert_eq!(told["latency"]["count"], 10, "{report:#}");
    assert!(told["ratio"].as_f64().unwrap() > 0.0, "{report:#}");
    assert_eq!(jobs(&gateway), Vec::<Value>::new());
}

#[test]
fn every_kind_of_load_measures_a_gateway_of_wire_3() {
    let gateway = gateway!();
    let address = on_wire_3(&gateway);
    let terminal = Terminal::new();
    for words in [
        &["connect", "--in-flight", "2", "--duration", "300ms"][..],
        &[
            "rpc",
            "--clients",
            "2",
            "--in-flight",
            "4",
            "--duration",
            "300ms",
        ],
        &["idle", "--connections", "20", "--duration", "300ms"],
        &["fanout", "--subscribers", "10", "--duration", "300ms"],
        &["cron-load", "--clients", "2", "--duration", "300ms"],
        &["cron-late", "--jobs", "5"],
        &["soak", "--duration", "900ms"],
    ] {
        let report = bench_at(&terminal, address, words).exits(0).json();
        assert_eq!(report["gateway"]["protocol"], 3, "{report:#}");
        let rows = report["rows"].as_array().unwrap();
        let measured = |row: &Value| row["subject"]["median"].is_f64();
        assert!(!rows.is_empty() && rows.iter().all(measured), "{report:#}");
    }
    assert_eq!(jobs(&gateway), Vec::<Value>::new());
}

#[test]
fn a_start_of_this_program_is_timed_beside_the_floors() {
    let terminal = Terminal::new();
    let report = terminal
        .run(&["bench", "start", "--runs", "1", "--json"])
        .exits(0)
        .json();
    assert_eq!(rows(&report).len(), 3);
}

#[test]
fn a_soak_says_what_was_done_and_what_stayed() {
    let gateway = gateway!();
    let words = ["soak", "--duration", "900ms"];
    let report = bench(&Terminal::new(), &gateway, &words).exits(0).json();
    for at in 0..3 {
        let done = report["rows"][at]["subject"]["median"].as_f64().unwrap();
        assert!(done > 0.0, "{report:#}");
    }
    let named = |name: &str| {
        let mut rows = report["rows"].as_array().unwrap().iter();
        rows.any(|row| row["scenario"] == name)
    };
    assert!(
        named("memory at the end") && named("threads that stayed"),
        "{report:#}"
    );
    assert_eq!(jobs(&gateway), Vec::<Value>::new());
}

#[test]
fn who_wants_the_end_gets_what_was_measured_and_no_job_stays() {
    let gateway = gateway!();
    let url = format!("ws://{}", gateway.address());
    let home = tempfile::tempdir().unwrap();
    let running = std::process::Command::new(assert_cmd::cargo::cargo_bin!("clawgate"))
        .env_clear()
        .env("HOME", home.path())
        .args([
            "bench",
            "cron-load",
            "--clients",
            "2",
            "--duration",
            "300ms",
        ])
        .args(["--runs", "1000", "--url", &url, "--token", TOKEN, "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while jobs(&gateway).is_empty() {
        assert!(std::time::Instant::now() < until, "nothing was added");
    }
    let asked = std::process::Command::new("kill")
        .args(["-INT", &running.id().to_string()])
        .status();
    assert!(asked.unwrap().success());
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("stopping when this run is measured"),
        "{said}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["stopped"], true, "{report:#}");
    assert_eq!(jobs(&gateway), Vec::<Value>::new());
}

#[test]
fn who_is_not_let_in_is_told_as_by_every_other_command() {
    let gateway = gateway!();
    let terminal = Terminal::new();
    let url = format!("ws://{}", gateway.address());
    let to = |token: &str, words: &[&str]| {
        let target = ["--url", &url, "--token", token, "--duration", "300ms"];
        terminal.run(&[&["bench"], words, &target].concat())
    };
    let error = to("not-the-token", &["rpc", "--json"])
        .exits(5)
        .json_error();
    assert_eq!(error["code"], "AUTH_TOKEN_MISMATCH", "{error}");
    assert!(!error["hints"].as_array().unwrap().is_empty(), "{error}");
    let mut owner = gateway.owner(4);
    let scopes = json!({"name": "reader", "scopes": ["operator.read"]});
    let reader = owner.call("tokens.create", &scopes)["token"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(
        to(&reader, &["cron-load"])
            .exits(4)
            .complains("operator.admin"),
    );
    let error = to(TOKEN, &["rpc", "--method", "no.such", "--json"])
        .exits(1)
        .json_error();
    assert!(
        error["message"].as_str().unwrap().contains("no.such"),
        "{error}"
    );
    drop(
        terminal
            .run(&["bench", "rpc", "--url", "wss://127.0.0.1:1", "--token", "x"])
            .exits(2)
            .complains("without TLS"),
    );
    let nobody = [
        "bench",
        "connect",
        "--url",
        "ws://127.0.0.1:1",
        "--token",
        "x",
    ];
    drop(terminal.run(&nobody).exits(3));
}
