//! `clawgate chat` in a terminal of its own, which `script` of util-linux makes.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed step of a test is a failed test; one that is left out says so"
)]

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/script.rs"]
mod script;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use script::{Act, Script};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";
const PASTE_OFF: &str = "\u{1b}[?2004l";

struct Screen {
    child: Child,
    keys: ChildStdin,
    shown: Receiver<Vec<u8>>,
    seen: String,
    home: TempDir,
}

impl Screen {
    /// None where this machine has no `script`.
    fn open(gateway: &Script) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let command = format!(
            "stty rows 20 cols 60; echo $$ > pid; exec {} chat --url {} --token t",
            env!("CARGO_BIN_EXE_clawgate"),
            gateway.url()
        );
        let spawned = Command::new("script")
            .args(["-qfec", &command, "/dev/null"])
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            eprintln!("left out: there is no script(1) here");
            return None;
        };
        let mut output = child.stdout.take().unwrap();
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read) = output.read(&mut bytes) {
                if read == 0 || sender.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Some(Self {
            keys: child.stdin.take().unwrap(),
            child,
            shown,
            seen: String::new(),
            home,
        })
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.shown.recv_timeout(left) else {
                panic!("no {text:?} in {:?}", self.seen);
            };
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn pid(&self) -> String {
        let file: PathBuf = self.home.path().join("pid");
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// The exit code, once the terminal was given back.
    fn given_back(mut self) -> Option<i32> {
        self.sees(LEFT);
        self.sees(PASTE_OFF);
        self.child.wait().unwrap().code()
    }
}

fn gateway() -> Script {
    Script::play(|_, method, params| match method {
        "chat.send" => {
            let run = &params["idempotencyKey"];
            let text = format!("<{}>", params["message"].as_str().unwrap_or_default());
            let message = json!({"role": "assistant", "content": [{"type": "text", "text": text}]});
            let event = json!({"runId": run, "sessionKey": "agent:main:main", "state": "final",
                "message": message});
            vec![
                Act::Answer(json!({"runId": run, "status": "started"})),
                Act::Event("chat", event),
            ]
        }
        "chat.history" => vec![Act::Answer(json!({"messages": []}))],
        "exec.approval.list" => vec![Act::Answer(Value::Array(Vec::new()))],
        _ => Vec::new(),
    })
}

#[test]
fn what_is_typed_is_answered_and_the_terminal_is_given_back() {
    let gateway = gateway();
    let Some(mut screen) = Screen::open(&gateway) else {
        return;
    };
    screen.sees(ENTERED);
    screen.sees("/help");
    screen.press("tea\r");
    screen.sees("<tea>");
    screen.press("/exit\r");
    assert_eq!(screen.given_back(), Some(0));
    assert_eq!(gateway.asked("chat.send").len(), 1);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let gateway = gateway();
    let Some(mut screen) = Screen::open(&gateway) else {
        return;
    };
    screen.sees("/help");
    let killed = Command::new("kill").arg(screen.pid()).status().unwrap();
    assert!(killed.success());
    assert_eq!(screen.given_back(), Some(0));
}
