//! Processes under test: starting them, ending them, and what the kernel knows of them.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::error::{BenchError, Doing as _};

/// How long a server may take to its first hello, and to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const ENDING: Duration = Duration::from_secs(5);

/// A server in a process of its own. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens, or will.
    pub address: SocketAddr,
}

impl Server {
    /// Starts the floor and waits until it listens.
    pub(crate) fn floor(answer_bytes: usize) -> Result<Self, BenchError> {
        let this = std::env::current_exe().doing("finding this program")?;
        let mut child = Command::new(this)
            .args(["floor", "--answer-bytes", &answer_bytes.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .doing("starting the floor")?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .doing("reading the floor's port")?;
        }
        let port = line
            .trim()
            .parse()
            .map_err(|_| BenchError::Unexpected(format!("the floor said {line:?}")))?;
        Ok(Self {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait().doing("looking after the server")? {
            None => Ok(()),
            Some(status) => Err(BenchError::Unexpected(format!(
                "the server ended: {status}"
            ))),
        }
    }

    /// Memory that it holds now and held at most, in bytes.
    pub(crate) fn memory(&self) -> Result<Memory, BenchError> {
        Memory::read(&format!("/proc/{}/status", self.id()))
            .ok_or_else(|| BenchError::Unexpected("the server's memory is not known".to_owned()))
    }

    /// Processor time that it used so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(&self.id().to_string())
    }
}

impl Server {
    /// Ends it and waits for that, so that another can take its place.
    pub(crate) fn end(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + ENDING;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// What is needed to start gateways that share a state directory.
#[derive(Debug)]
pub(crate) struct GatewayHome {
    binary: PathBuf,
    state: PathBuf,
    config: PathBuf,
    port: u16,
}

impl GatewayHome {
    /// Chooses a port and writes a configuration into `home`, which is empty. The members of
    /// `more` stand in it as well.
    pub(crate) fn new(
        binary: &Path,
        home: &Path,
        token: &str,
        more: &Value,
    ) -> Result<Self, BenchError> {
        let port = free_port()?;
        let config = home.join("clawgate.json");
        let mut text = serde_json::json!({"gateway": {
            "mode": "local", "port": port, "bind": "loopback",
            "auth": {"mode": "token", "token": token},
        }});
        for (member, value) in more.as_object().into_iter().flatten() {
            text[member] = value.clone();
        }
        std::fs::write(&config, text.to_string()).doing("writing the configuration")?;
        Ok(Self {
            binary: binary.to_owned(),
            state: home.join("state"),
            config,
            port,
        })
    }

    /// Starts a gateway. It may not listen yet.
    pub(crate) fn start(&self) -> Result<Server, BenchError> {
        let child = clean(&self.binary)
            .args([
                "gateway",
                "run",
                "--port",
                &self.port.to_string(),
                "--state-dir",
            ])
            .arg(&self.state)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing("starting the gateway")?;
        Ok(Server {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
        })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

/// A command that inherits nobody's gateway settings.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CLAWGATE_") || text.starts_with("OPENCLAW_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A port below those that the system hands out by itself.
fn free_port() -> Result<u16, BenchError> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 10_000).unwrap_or_default();
    for _ in 0..10_000 {
        let offset = (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let port = 20_000 + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(BenchError::Unexpected("no port is free".to_owned()))
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    /// Now.
    pub resident: f64,
    /// At most, ever.
    pub peak: f64,
}

impl Memory {
    /// Of a process that lives and is no zombie.
    fn read(status: &str) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(status).ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kib * 1_024.0)
        };
        Some(Self {
            resident: bytes("VmRSS:")?,
            peak: bytes("VmHWM:")?,
        })
    }
}

/// Processor time of a process's living threads; zero where the kernel does not tell.
pub(crate) fn cpu(pid: &str) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let nanos = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanos)
}

/// Runs a command to its end, unseen, and says how long that took.
pub(crate) fn timed(command: &mut Command) -> Result<(Duration, ExitStatus), BenchError> {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().doing("running a command")?;
    Ok((began.elapsed(), status))
}

/// Runs a command some times and says how much memory it held at most, in bytes. The kernel is asked
/// all the time while it runs, because what it tells at the end counts the parent's memory, too;
/// on a busy machine one run may go by unseen.
pub(crate) fn peak_memory(command: impl Fn() -> Command) -> Result<f64, BenchError> {
    const LOOKS: usize = 5;
    let mut peak = 0.0_f64;
    for _ in 0..LOOKS {
        let mut command = command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().doing("running a command")?;
        let status = format!("/proc/{}/status", child.id());
        while child.try_wait().doing("waiting for a command")?.is_none() {
            if let Some(memory) = Memory::read(&status) {
                peak = peak.max(memory.peak);
            }
        }
    }
    Ok(peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_a_status() {
        let status = "Name:\tx\nVmHWM:\t  11552 kB\nVmRSS:\t   1024 kB\n";
        let memory = Memory::parse(status).unwrap();
        assert_eq!(memory.resident, 1_048_576.0);
        assert_eq!(memory.peak, 11_829_248.0);
        assert_eq!(Memory::parse("State:\tZ (zombie)\n"), None);
    }
}
