//! A program that a gateway asked for: in a process group of its own, bounded in time and output.

use std::{
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use clawgate_protocol::node::NodeFault;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::{Resolved, fault};

/// How long a program may run when nobody says.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
/// How long it may run at most.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of each stream that are kept, from its end.
const OUTPUT_MAX: usize = 200_000;
/// How long pipes may stay open after the program is gone.
const DRAIN: Duration = Duration::from_millis(500);
/// Variables of this process that a program sees.
const PASSED: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
];

pub(super) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Ends a program with everything that it started in its group, when it goes out of scope.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nobody left is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        // Now and then, so that a byte is moved a bounded number of times.
        if self.bytes.len() >= OUTPUT_MAX * 2 {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let surplus = self.bytes.len().saturating_sub(OUTPUT_MAX);
        self.cut |= surplus > 0;
        self.bytes.drain(..surplus);
    }

    fn text(mut self) -> String {
        self.trim();
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut {
            format!("... (truncated) {text}")
        } else {
            text.into_owned()
        }
    }
}

/// Runs a program to its end, or to the end of its time.
pub(super) async fn run(
    resolved: &Resolved,
    path_env: &str,
    within_ms: Option<u64>,
) -> Result<Value, NodeFault> {
    let mut command = Command::new(&resolved.real);
    command
        .arg0(&resolved.argv[0])
        .args(&resolved.argv[1..])
        .current_dir(&resolved.cwd)
        .env_clear()
        .env("PATH", path_env)
        .envs(passed())
        .envs(&resolved.env);
    let (mut child, group) = spawn(command)?;
    let within = match within_ms {
        None | Some(0) => TIMEOUT_DEFAULT,
        Some(ms) => Duration::from_millis(ms).min(TIMEOUT_MAX),
    };
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut said, mut complained) = (Tail::default(), Tail::default());
    let ended = timeout(
        within,
        attend(&mut child, &mut out, &mut err, &mut said, &mut complained),
    );
    let status = ended.await;
    drop(group);
    // What it left behind is gone, and so are the pipes.
    let rest = async {
        let (mut a, mut b) = (vec![0; 8 * 1024], vec![0; 8 * 1024]);
        while out.is_some() || err.is_some() {
            tokio::select! {
                read = next(&mut out, &mut a) => said.push(&a[..read]),
                read = next(&mut err, &mut b) => complained.push(&b[..read]),
            }
        }
    };
    let _ = timeout(DRAIN, rest).await;
    let (timed_out, status) = match status {
        Ok(status) => (false, status.ok()),
        Err(_) => (true, None),
    };
    let code = status.and_then(|status| status.code());
    let error = match (timed_out, status.and_then(|status| status.signal())) {
        (true, _) => Value::from("timed out"),
        (false, Some(signal)) => Value::from(format!("ended by signal {signal}")),
        (false, None) => Value::Null,
    };
    Ok(json!({
        "exitCode": code,
        "timedOut": timed_out,
        "success": code == Some(0),
        "stdout": said.text(),
        "stderr": complained.text(),
        "error": error,
    }))
}

fn passed() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        name.to_str()
            .is_some_and(|name| PASSED.contains(&name) || name.starts_with("LC_"))
    })
}

fn spawn(mut command: Command) -> Result<(Child, Group), NodeFault> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = command
        .spawn()
        .map_err(|error| fault("UNAVAILABLE", format!("it could not be started: {error}")))?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    Ok((child, Group(pid.and_then(Pid::from_raw))))
}

async fn attend(
    child: &mut Child,
    out: &mut Option<tokio::process::ChildStdout>,
    err: &mut Option<tokio::process::ChildStderr>,
    said: &mut Tail,
    complained: &mut Tail,
) -> std::io::Result<std::process::ExitStatus> {
    let (mut a, mut b) = (vec![0; 8 * 1024], vec![0; 8 * 1024]);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            read = next(out, &mut a) => said.push(&a[..read]),
            read = next(err, &mut b) => complained.push(&b[..read]),
        }
    }
}

/// The next piece of a stream; 0 bytes and no stream at its end. Waits for ever without one.
async fn next<R: AsyncRead + Unpin>(stream: &mut Option<R>, chunk: &mut [u8]) -> usize {
    match stream {
        None => std::future::pending().await,
        Some(open) => match open.read(chunk).await {
            Ok(0) | Err(_) => {
                *stream = None;
                0
            }
            Ok(read) => read,
        },
    }
}

/// Shows a notification.
pub(super) async fn notify(
    notifier: &Path,
    urgency: &str,
    title: &str,
    body: &str,
) -> Result<(), NodeFault> {
    let mut command = Command::new(notifier);
    command
        .args([
            "--app-name",
            "clawgate",
            "--urgency",
            urgency,
            "--",
            title,
            body,
        ])
        .env_clear()
        .envs(passed());
    let (mut child, _group) = spawn(command)?;
    match timeout(Duration::from_secs(10), child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        _ => Err(fault("UNAVAILABLE", "notify-send did not show it")),
    }
}
