//! The gateway under a service manager: what it tells it, and the unit that starts it.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "each file of tests uses a part of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clawgate_testkit::{PATIENCE, gateway, home, token_config};
use serde_json::json;
use tempfile::TempDir;
use terminal::{Done, Terminal};

/// Waits until the gateway told something.
#[track_caller]
fn told(socket: &UnixDatagram, wanted: &str) -> String {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut all = String::new();
    while Instant::now() < deadline {
        let mut buffer = [0; 1_024];
        let length = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if text.lines().any(|line| line == wanted) {
            return text;
        }
        all.push_str(&text);
    }
    panic!("it did not tell {wanted}: {all}");
}

#[test]
fn the_manager_is_told_when_the_gateway_is_ready_works_and_stops() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut gateway = home!(token_config())
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "100000")
        .start();
    let ready = told(&socket, "READY=1");
    let address = gateway.address();
    assert!(
        ready.contains(&format!("listening on ws://{address}")),
        "{ready}"
    );
    // Ready means that it answers now.
    gateway.owner(4).call("health", &json!({}));
    for _ in 0..3 {
        told(&socket, "WATCHDOG=1");
    }
    gateway.terminate();
    told(&socket, "STOPPING=1");
    assert_eq!(gateway.ended().code, Some(0));
}

#[test]
fn a_gateway_whose_database_takes_no_writes_shows_no_life_to_the_watchdog() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let gateway = home!(token_config())
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "100000")
        .start();
    told(&socket, "WATCHDOG=1");
    let database = gateway.home().state().join("clawgate.sqlite");
    let other = rusqlite::Connection::open(database).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // What was on its way comes still; then nothing, for as long as twenty signs would take.
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 1_024];
    while socket.recv(&mut buffer).is_ok() {
        assert!(Instant::now() < deadline, "it goes on as if all were well");
    }
    other.execute_batch("ROLLBACK").unwrap();
    told(&socket, "WATCHDOG=1");
    drop(gateway);
}

#[test]
fn a_watchdog_that_waits_for_another_process_is_not_fed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut gateway = home!(token_config())
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1")
        .start();
    gateway.owner(4).call("health", &json!({}));
    gateway.terminate();
    assert_eq!(gateway.ended().code, Some(0));
    socket.set_nonblocking(true).unwrap();
    let mut all = String::new();
    let mut buffer = [0; 1_024];
    while let Ok(length) = socket.recv(&mut buffer) {
        all.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        all.push('\n');
    }
    assert!(
        all.contains("READY=1") && all.contains("STOPPING=1"),
        "{all}"
    );
    assert!(!all.contains("WATCHDOG"), "{all}");
}

/// A systemctl that keeps what it was asked for, and a home to install into.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new(systemctl: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let program = bin.join("systemctl");
        let log = directory.path().join("asked");
        let text = format!("#!/bin/sh\necho \"$@\" >> {}\n{systemctl}\n", log.display());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn run(&self, args: &[&str]) -> Done {
        let text = |path: PathBuf| path.display().to_string();
        let state = text(self.state());
        let terminal = Terminal::new()
            .env("PATH", text(self.directory.path().join("bin")))
            .env(
                "XDG_CONFIG_HOME",
                text(self.directory.path().join("config")),
            );
        terminal.run(&[args, &["--state-dir", &state, "--json"]].concat())
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state of mine")
    }

    fn unit(&self) -> PathBuf {
        let units = self.directory.path().join("config/systemd/user");
        units.join("clawgate-gateway.service")
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.directory.path().join("asked")).unwrap_or_default()
    }
}

const WORKS: &str = "case \"$2\" in show) echo ActiveState=active; echo MainPID=42; \
                     echo UnitFileState=enabled;; esac";

#[test]
fn a_service_is_installed_started_and_taken_away_with_the_shapes_of_the_original() {
    let machine = Machine::new(WORKS);
    let missing = machine.run(&["gateway", "start"]).exits(0).json();
    assert_eq!(missing["result"], "not-loaded");
    assert!(!missing["hints"].as_array().unwrap().is_empty());
    let secret = "tok-of-the-service-0123456789";
    let install = ["gateway", "install", "--port", "18999", "--token", secret];
    let done = machine.run(&install).exits(0).never_says(secret).json();
    assert_eq!(done["action"], "install");
    assert_eq!(done["ok"], true);
    assert_eq!(done["result"], "installed");
    assert_eq!(done["service"]["label"], "systemd");
    assert_eq!(done["service"]["loaded"], true);
    for asked in [
        "daemon-reload",
        "enable clawgate-gateway.service",
        "restart clawgate-gateway.service",
    ] {
        let asked = format!("--user {asked}");
        assert!(
            machine.asked().contains(&asked),
            "{asked} in {}",
            machine.asked()
        );
    }
    let unit = fs::read_to_string(machine.unit()).unwrap();
    for line in [
        "Type=notify",
        "WatchdogSec=60",
        "NoNewPrivileges=yes",
        "UMask=0077",
        "RestartPreventExitStatus=2 78",
    ] {
        assert!(unit.lines().any(|own| own == line), "{line} in {unit}");
    }
    assert!(!unit.contains(secret), "{unit}");
    let secrets = machine.state().join("service.env");
    assert_eq!(
        fs::metadata(&secrets).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(fs::read_to_string(&secrets).unwrap().contains(secret));

    let again = machine.run(&["gateway", "install"]).exits(0).json();
    assert_eq!(again["result"], "already-installed");
    assert_eq!(
        machine.run(&["gateway", "restart"]).exits(0).json()["result"],
        "restarted"
    );
    let status = machine
        .run(&["gateway", "status", "--no-probe"])
        .exits(0)
        .json();
    assert_eq!(
        status["service"]["runtime"],
        json!({"status": "running", "pid": 42})
    );
    let state = machine.state().display().to_string();
    let command = status["service"]["command"]["programArguments"]
        .as_array()
        .unwrap();
    assert!(command.contains(&json!(state)), "{command:?}");
    assert!(Path::new(command[0].as_str().unwrap()).exists());
    assert_eq!(status["service"]["configAudit"]["ok"], true);
    assert_eq!(
        machine.run(&["daemon", "stop"]).exits(0).json()["result"],
        "stopped"
    );
    let gone = machine.run(&["gateway", "uninstall"]).exits(0).json();
    assert_eq!(gone["result"], "uninstalled");
    assert!(!machine.unit().exists());
    assert_eq!(
        machine.run(&["gateway", "uninstall"]).exits(0).json()["result"],
        "not-loaded"
    );
}

#[test]
fn where_systemd_refuses_nothing_is_left_installed() {
    let machine = Machine::new("echo 'Failed to connect to bus' >&2; exit 1");
    let done = machine.run(&["gateway", "install"]).exits(1).json();
    assert_eq!(done["ok"], false);
    assert!(
        done["error"]
            .as_str()
            .unwrap()
            .contains("Failed to connect to bus"),
        "{done:#}"
    );
    assert!(!done["hints"].as_array().unwrap().is_empty());
    assert!(!machine.unit().exists());
}

#[test]
fn the_command_of_the_unit_starts_a_gateway_that_stop_ends() {
    let mut gateway = gateway!();
    let machine = Machine::new(WORKS);
    let state = gateway.home().state().display().to_string();
    let terminal = Terminal::new().env(
        "PATH",
        machine.directory.path().join("bin").display().to_string(),
    );
    let pid = gateway.pid();
    let done = terminal.run(&["gateway", "stop", "--state-dir", &state, "--json"]);
    let done = done.exits(0).json();
    assert_eq!(done["result"], "stopped", "{done:#}");
    assert!(
        done["message"].as_str().unwrap().contains(&pid.to_string()),
        "{done:#}"
    );
    assert_eq!(gateway.ended().code, Some(0), "in order, not killed");
    let again = terminal.run(&["gateway", "stop", "--state-dir", &state, "--json"]);
    assert_eq!(again.exits(0).json()["result"], "not-loaded");
}
