//! `logs --follow` on a gateway that goes away and comes back, and a log that strangers cannot fill.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Instant,
};

use clawgate_testkit::{Connect, Home, PATIENCE, TestGateway, gateway, home, token_config};
use serde_json::{Value, json};

/// `logs --follow --json` as it runs, line by line.
struct Following {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Following {
    fn start(home: &Home, port: u16) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .env_clear()
            .env("HOME", home.state())
            .env("CLAWGATE_GATEWAY_PORT", port.to_string())
            .args(["logs", "--follow", "--json", "--interval", "100"])
            .arg("--state-dir")
            .arg(home.state())
            .arg("--config")
            .arg(home.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Reads until a line is as wanted.
    #[track_caller]
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {what} in {:#?}", self.seen);
            };
            let found = wanted(&line);
            self.seen.push(line);
            if found {
                return;
            }
        }
    }

    fn says(&mut self, message: &str) {
        self.until(message, |line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains(message))
        });
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn log_lines(gateway: &TestGateway) -> Vec<String> {
    let directory = gateway.home().state().join("logs");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_log_is_followed_through_a_restart_with_every_line_once() {
    let port = free_port();
    let mut gateway = home!(token_config()).port(port).start();
    let mut following = Following::start(gateway.home(), port);
    following.says("listening");
    gateway.refusal(&Connect::new(4).token("wrong-one"));
    following.says("refused");
    gateway.terminate();
    gateway.ended();
    following.says("the gateway went away; trying again (1 of 5)");
    gateway.restart();
    following.says("listening");
    gateway.refusal(&Connect::new(4).token("wrong-two"));
    following.says("refused");

    let metas = following.seen.iter().filter(|line| line["type"] == "meta");
    assert_eq!(metas.count(), 1, "it goes on where it was");
    let told: Vec<&str> = following
        .seen
        .iter()
        .filter(|line| line["type"] == "log")
        .map(|line| line["raw"].as_str().unwrap())
        .collect();
    let kept = log_lines(&gateway);
    let kept = &kept[..told.len()];
    assert_eq!(told, kept, "every line once, in its order");
}

#[test]
fn strangers_that_come_again_and_again_leave_a_bounded_number_of_lines() {
    let mut gateway = gateway!();
    for _ in 0..60 {
        // No connect at all: nothing about it is known, and each is a connection of its own.
        gateway.client().refused("health", &json!({}));
    }
    gateway.owner(4).call("health", &json!({}));
    gateway.terminate();
    let said = gateway.ended().stderr;
    let refused = said
        .lines()
        .filter(|line| line.contains("first request must be connect"));
    assert_eq!(refused.count(), 20, "{said}");
}
