//! What a program of an agent can and cannot do once the gateway's own binary has become it.
//! Where the system has no Landlock, the tests say so and look at nothing.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "a test that looks at nothing says so")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

fn binary() -> Command {
    let mut command = Command::new(
        std::env::var("CLAWGATE_TEST_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_clawgate").to_owned()),
    );
    command.arg("sandbox-exec").stdin(Stdio::null());
    command
}

fn ability() -> Value {
    let output = binary().arg("--probe").output().expect("it works in tests");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("it works in tests")
}

/// Whether there is something to look at; says why not.
fn has_landlock() -> bool {
    let has = ability()["files"] == true;
    if !has {
        eprintln!("skipped: this system has no Landlock");
    }
    has
}

/// A state directory with a workspace in it, as an ordinary installation has.
struct Place {
    dir: TempDir,
    state: PathBuf,
    workspace: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().expect("it works in tests");
        let state = dir.path().join("state");
        let workspace = state.join("workspace");
        fs::create_dir_all(&workspace).expect("it works in tests");
        fs::create_dir_all(dir.path().join("temp")).expect("it works in tests");
        fs::write(state.join("gateway-token"), "canary").expect("it works in tests");
        fs::write(dir.path().join("elsewhere"), "canary").expect("it works in tests");
        Self {
            state,
            workspace,
            dir,
        }
    }

    fn run(&self, network: &str, script: &str) -> Output {
        let spec = json!({
            "program": "/bin/sh",
            "argv": ["sh", "-c", script],
            "tty": false,
            "bounds": {
                "write": [self.workspace, self.dir.path().join("temp")],
                "read": ["/usr", "/bin", "/lib", "/lib64", "/etc", "/proc"],
                "never": [self.state, "/etc/shadow"],
                "network": network,
            },
        });
        binary()
            .arg(spec.to_string())
            .current_dir(&self.workspace)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .expect("it works in tests")
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_program_reads_the_system_and_writes_its_workspace() {
    if !has_landlock() {
        return;
    }
    let place = Place::new();
    let script = "echo text > made && mkdir -p a/b && mv made a/b/ && cat a/b/made && ls /usr \
                  >/dev/null && echo $$ > ../../temp/pid && echo fine";
    let output = place.run("open", script);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "text\nfine\n");
    assert_eq!(
        fs::read_to_string(place.workspace.join("a/b/made")).unwrap(),
        "text\n"
    );
}

#[test]
fn a_program_sees_no_secret_whatever_way_it_takes() {
    if !has_landlock() {
        return;
    }
    let place = Place::new();
    symlink("../gateway-token", place.workspace.join("link")).unwrap();
    let elsewhere = place.dir.path().join("elsewhere").display().to_string();
    let state = place.state.display().to_string();
    for script in [
        "cat ../gateway-token".to_owned(),
        "cat link".to_owned(),
        "cat /proc/self/cwd/../gateway-token".to_owned(),
        format!("cat /proc/self/root{state}/gateway-token"),
        "ln ../gateway-token hard && cat hard".to_owned(),
        "mv ../gateway-token here && cat here".to_owned(),
        format!("cat {elsewhere}"),
        "ls ..".to_owned(),
        "cat /etc/shadow".to_owned(),
        "cat /proc/1/environ".to_owned(),
        "cat /proc/$PPID/environ".to_owned(),
        "echo x > ../made".to_owned(),
        format!("echo x > {elsewhere}"),
        "rm ../gateway-token".to_owned(),
    ] {
        let output = place.run("open", &script);
        assert!(!output.status.success(), "{script}: {}", said(&output));
        assert!(!said(&output).contains("canary"), "{script}");
    }
    for untouched in [place.state.join("gateway-token"), PathBuf::from(&elsewhere)] {
        assert_eq!(fs::read_to_string(untouched).unwrap(), "canary");
    }
    assert!(!place.state.join("made").exists());
}

#[test]
fn a_program_without_a_network_reaches_nobody() {
    let ability = ability();
    let network = ability["network"].as_str().unwrap().to_owned();
    if !has_landlock() || network == "open" {
        eprintln!("skipped: this system cannot close the network");
        return;
    }
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec bash -c 'echo hello > /dev/tcp/127.0.0.1/{port}'");
    let open = place.run("open", &script);
    assert!(open.status.success(), "{}", said(&open));
    assert!(listener.accept().is_ok());
    let closed = place.run(&network, &script);
    assert!(!closed.status.success(), "{}", said(&closed));
    assert!(listener.accept().is_err(), "somebody knocked");
    // It is who it was, and keeps what it may write.
    let output = place.run(&network, "id -u && echo x > made");
    assert!(output.status.success(), "{}", said(&output));
    let own = Command::new("id").arg("-u").output().unwrap();
    assert_eq!(output.stdout, own.stdout);
}

#[test]
fn bounds_that_lie_around_a_secret_leave_it_out() {
    if !has_landlock() {
        return;
    }
    let place = Place::new();
    // Everything beneath the temporary directory may be read, and the state lies in it.
    let spec = json!({
        "program": "/bin/sh",
        "argv": ["sh", "-c", "cat elsewhere && cat state/gateway-token"],
        "tty": false,
        "bounds": {
            "write": [], "read": ["/usr", "/bin", "/lib", "/lib64", place.dir.path()],
            "never": [place.state], "network": "open",
        },
    });
    let output = binary()
        .arg(spec.to_string())
        .current_dir(place.dir.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "canary");
    assert!(!output.status.success());
}

#[test]
fn what_cannot_run_ends_as_shells_say_it() {
    let spec =
        |program: &str| json!({"program": program, "argv": ["x"], "tty": false, "bounds": null});
    let missing = binary().arg(spec("/no/such/program").to_string()).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(127));
    assert!(said(&missing).contains("/no/such/program"));
    let denied = binary().arg(spec("/etc/passwd").to_string()).output();
    assert_eq!(denied.unwrap().status.code(), Some(126));
    assert_eq!(
        binary().arg("hello").output().unwrap().status.code(),
        Some(2)
    );
}
