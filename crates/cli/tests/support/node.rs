//! Real processes at both ends of a gateway: machines that run commands, and operators at their
//! command line.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Instant,
};

use clawgate_testkit::{PATIENCE, TOKEN, TestGateway};
use serde_json::{Value, json};

pub(crate) fn binary() -> String {
    std::env::var("CLAWGATE_TEST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_clawgate").to_owned())
}

pub(crate) fn url(gateway: &TestGateway) -> String {
    format!("ws://{}", gateway.address())
}

/// A `node run` that ends with the test.
pub(crate) struct Host {
    pub(crate) child: Child,
    lines: Receiver<String>,
    dir: PathBuf,
}

impl Host {
    pub(crate) fn start(
        gateway: &TestGateway,
        dir: &Path,
        name: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let mut child = Command::new(binary())
            .args(["node", "run", "--url", &url(gateway), "--token", TOKEN])
            .args(["--display-name", name, "--state-dir"])
            .arg(dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", dir)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            child,
            lines,
            dir: dir.to_owned(),
        }
    }

    /// Waits until it says a line with this text in it.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|error| {
                panic!("it did not say {text:?}: {error}");
            });
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn policy(&self) -> PathBuf {
        self.dir.join("node/exec-approvals.json")
    }

    pub(crate) fn allow(&self, defaults: &Value) {
        let file = json!({"version": 1, "defaults": defaults});
        fs::write(self.policy(), file.to_string()).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of an operator, who has a state directory of their own, against that gateway.
pub(crate) fn operator(gateway: &TestGateway, dir: &Path, noun: &str, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .arg(noun)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", dir)
        .env("CLAWGATE_STATE_DIR", dir)
        .env("CLAWGATE_GATEWAY_URL", url(gateway))
        .env("CLAWGATE_GATEWAY_TOKEN", TOKEN)
        .stdin(Stdio::null());
    command
}

#[track_caller]
pub(crate) fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
