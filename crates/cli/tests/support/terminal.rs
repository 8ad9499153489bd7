//! A terminal session: the real binary, a home of its own, nothing else from the environment.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Terminal {
    home: TempDir,
    env: Vec<(&'static str, String)>,
}

/// What a command did.
#[must_use]
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        }
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// With this configuration in the default place.
    pub(crate) fn config(self, text: &str) -> Self {
        fs::create_dir_all(self.state_dir()).unwrap();
        fs::write(self.state_dir().join("clawgate.json"), text).unwrap();
        self
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.home.path().join(".clawgate")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_into(args, Stdio::piped())
    }

    /// With this as its stdout.
    pub(crate) fn run_into(&self, args: &[&str], stdout: Stdio) -> Done {
        let mut command = Command::new(cargo_bin!("clawgate"));
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .args(args);
        for (name, value) in &self.env {
            command.env(name, value);
        }
        let running = command.spawn().unwrap();
        // The command's own ends of pipes must be the only ones.
        drop(command);
        let output = running.wait_with_output().unwrap();
        Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    /// Exit code, checked with everything that was said.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in {self:#?}");
        self
    }

    pub(crate) fn complains(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// On neither stream.
    pub(crate) fn never_says(self, text: &str) -> Self {
        assert!(
            !self.stdout.contains(text) && !self.stderr.contains(text),
            "{text:?} in {self:#?}"
        );
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }

    pub(crate) fn json_error(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stderr)
            .unwrap_or_else(|error| panic!("{error} in {self:#?}"));
        value["error"].clone()
    }
}
