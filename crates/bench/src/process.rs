//! Processes under test: starting them, ending them, and what the kernel knows of them.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    error::{BenchError, Doing as _},
    floor,
    peer::Door,
    stats::Spread,
    wire::Wire,
};

/// How long a server may take to its first hello, and to end.
pub const PATIENCE: Duration = Duration::from_secs(30);
const ENDING: Duration = Duration::from_secs(5);

/// A server in a process of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens, or will.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a floor whose answers have so many bytes, and waits until it listens.
    ///
    /// # Errors
    /// It did not come up.
    pub fn floor(answer_bytes: usize) -> Result<Self, BenchError> {
        Self::floor_of(&[answer_bytes])
    }

    /// The same with an event to everybody for each message.
    ///
    /// # Errors
    /// It did not come up.
    pub fn broadcasting_floor(answer_bytes: usize, event_bytes: usize) -> Result<Self, BenchError> {
        Self::floor_of(&[answer_bytes, event_bytes])
    }

    fn floor_of(bytes: &[usize]) -> Result<Self, BenchError> {
        let this = std::env::current_exe().doing("finding this program")?;
        let mut child = Command::new(this)
            .arg(floor::NAME)
            .args(bytes.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
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
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process ended by itself.
    pub fn check_alive(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait().doing("looking after the server")? {
            None => Ok(()),
            Some(status) => Err(BenchError::Unexpected(format!(
                "the server ended: {status}"
            ))),
        }
    }

    /// Memory that it holds now and held at most, in bytes.
    pub fn memory(&self) -> Result<Memory, BenchError> {
        Memory::of(self.id())
            .ok_or_else(|| BenchError::Unexpected("the server's memory is not known".to_owned()))
    }

    /// Processor time that it used so far.
    pub fn cpu(&self) -> Duration {
        cpu(&self.id().to_string())
    }
}

impl Server {
    /// Ends it and waits for that, so that another can take its place.
    pub fn end(&mut self) {
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
pub struct GatewayHome {
    binary: PathBuf,
    state: PathBuf,
    config: PathBuf,
    port: u16,
}

impl GatewayHome {
    /// Writes a configuration into `home`, which is empty, for this port or one that is free. The
    /// members of `more` stand in it as well.
    ///
    /// # Errors
    /// No port is free, or the disk refuses.
    pub fn new(
        binary: &Path,
        home: &Path,
        port: Option<u16>,
        token: &str,
        more: &Value,
    ) -> Result<Self, BenchError> {
        let port = port.map_or_else(free_port, Ok)?;
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
    pub fn start(&self) -> Result<Server, BenchError> {
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

    /// Where its rows are, once it was started.
    pub fn database(&self) -> PathBuf {
        self.state.join("clawgate.sqlite")
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

/// An empty directory of our own, removed with all that is in it when this goes.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// The system has no randomness, or no place there.
    pub fn in_dir(dir: &Path) -> Result<Self, BenchError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| BenchError::Unexpected(error.to_string()))?;
        let path = dir.join(format!(
            "clawgate-bench-{:016x}",
            u64::from_ne_bytes(random)
        ));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).doing("making a directory")?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the place for what is temporary.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Knocks at a server that was started until there is a hello.
///
/// # Errors
/// It ended, refused, or is not up within [`PATIENCE`].
pub async fn first_hello(server: &mut Server, door: &Door) -> Result<Wire, BenchError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match door.enter().await {
            Ok(wire) => return Ok(wire),
            Err(BenchError::Io { .. }) if Instant::now() < until => {
                server.check_alive()?;
                // The timer of the runtime is too coarse, and nothing else is to do here.
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a directory is in memory, where nothing is durable.
pub fn is_in_memory(dir: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(dir)
        .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| kind == TMPFS))
}

/// Median time of an append of 4 KiB that is on the disk when it returns, in milliseconds.
///
/// # Errors
/// The disk refuses.
pub fn fdatasync_ms(dir: &Path, for_time: Duration) -> Result<f64, BenchError> {
    let mut file = File::create(dir.join("floor")).doing("making a file")?;
    let page = [0x5a_u8; 4_096];
    let until = Instant::now() + for_time;
    let mut took = Vec::new();
    while Instant::now() < until || took.is_empty() {
        let began = Instant::now();
        file.write_all(&page).doing("appending to a file")?;
        file.sync_data().doing("syncing a file")?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Spread::of(&took).median)
}

/// A command that inherits nobody's gateway settings.
pub fn clean(program: &Path) -> Command {
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
pub struct Memory {
    /// Now.
    pub resident: f64,
    /// At most, ever.
    pub peak: f64,
}

impl Memory {
    /// Of a process that lives and is no zombie, where the kernel tells.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(&format!("/proc/{pid}/status"))
    }

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
pub fn cpu(pid: &str) -> Duration {
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
pub fn timed(command: &mut Command) -> Result<(Duration, ExitStatus), BenchError> {
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
pub fn peak_memory(command: impl Fn() -> Command) -> Result<f64, BenchError> {
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
