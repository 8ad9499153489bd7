//! The real process: started on a home of its own, killed, told to stop, started again.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    PATIENCE,
    client::{Client, Hello, Refusal},
    connect::Connect,
    device::unhex,
    http::Upgrade,
};

/// The shared token of [`token_config`].
pub const TOKEN: &str = "tok-testkit-shared-0001";

/// The ordinary configuration: mode token.
pub fn token_config() -> Value {
    json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": TOKEN}}})
}

/// A state directory, a configuration file, and the program to run on them.
#[derive(Debug)]
pub struct Home {
    binary: String,
    dir: TempDir,
    env: Vec<(String, String)>,
    args: Vec<String>,
    port: u16,
}

impl Home {
    /// A new one; without a configuration there is no file.
    pub fn new(binary: &str, config: Option<&Value>) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let home = Self {
            binary: binary.to_owned(),
            dir,
            env: Vec::new(),
            args: Vec::new(),
            port: 0,
        };
        if let Some(config) = config {
            home.write_config(&config.to_string());
        }
        home
    }

    /// With a variable of the environment. Nothing else of this process's reaches the gateway.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With a further argument of `gateway run`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// On this port instead of one that the system chooses.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("clawgate.json")
    }

    /// Writes the configuration file.
    pub fn write_config(&self, text: &str) {
        fs::write(self.config(), text).expect("the home can be written");
    }

    /// The key behind local proofs.
    pub fn local_key(&self) -> Vec<u8> {
        let path = self.state().join("identity/local.key");
        unhex(
            fs::read_to_string(path)
                .expect("the gateway made its local key")
                .trim(),
        )
    }

    /// Starts a gateway that must come up.
    #[track_caller]
    pub fn start(self) -> TestGateway {
        let process = Process::start(&self).unwrap_or_else(|ended| panic!("no start: {ended:?}"));
        TestGateway {
            home: self,
            process: Some(process),
        }
    }

    /// Starts a gateway that must not come up.
    #[track_caller]
    pub fn start_in_vain(&self) -> Ended {
        match Process::start(self) {
            Err(ended) => ended,
            Ok(process) => panic!("it started: {}", process.stderr()),
        }
    }
}

/// A gateway that is no more.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything that it said.
    pub stderr: String,
    /// How long it lived, from its start or from the signal.
    pub took: Duration,
}

#[derive(Debug)]
struct Process {
    child: Child,
    address: Option<SocketAddr>,
    started: Instant,
    /// Behind a lock, so that threads of a test can share the gateway.
    lines: Mutex<Receiver<String>>,
    said: Arc<Mutex<String>>,
}

impl Process {
    fn start(home: &Home) -> Result<Self, Ended> {
        let started = Instant::now();
        let mut child = Command::new(&home.binary)
            .args(["gateway", "run", "--port"])
            .arg(home.port.to_string())
            .arg("--state-dir")
            .arg(home.state())
            .arg("--config")
            .arg(home.config())
            .args(&home.args)
            .env_clear()
            .env("HOME", home.dir.path())
            .env("NO_COLOR", "1")
            .envs(home.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway's program can be started");
        let stderr = child.stderr.take().expect("its standard error is a pipe");
        let said = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::channel();
        let heard = Arc::clone(&said);
        // Ends with the pipe, which ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = heard.lock().expect("no reader panics");
                said.push_str(&line);
                said.push('\n');
                drop(said);
                let _ = sender.send(line);
            }
        });
        let mut process = Self {
            child,
            address: None,
            started,
            lines: Mutex::new(lines),
            said,
        };
        loop {
            match process.next_line(PATIENCE) {
                Ok(line) => {
                    if let Some(address) = address_in(&line) {
                        process.address = Some(address);
                        return Ok(process);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(process.end(started)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("neither up nor gone: {}", process.stderr())
                }
            }
        }
    }

    fn next_line(&self, wait: Duration) -> Result<String, RecvTimeoutError> {
        self.lines
            .lock()
            .expect("no reader panics")
            .recv_timeout(wait)
    }

    fn stderr(&self) -> String {
        self.said.lock().expect("no reader panics").clone()
    }

    /// Waits until it is gone: its end of the pipe closes.
    fn end(mut self, since: Instant) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_line(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {}", self.stderr()),
            }
        }
        let status = self.child.wait().expect("a child can be waited for");
        Ended {
            code: status.code(),
            stderr: self.stderr(),
            took: since.elapsed(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening url=ws://")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A running gateway. It ends with the test.
#[derive(Debug)]
pub struct TestGateway {
    home: Home,
    process: Option<Process>,
}

impl TestGateway {
    fn process(&self) -> &Process {
        self.process.as_ref().expect("the gateway runs")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.process()
            .address
            .expect("a started gateway has an address")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process().child.id()
    }

    /// Its home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// What it said so far.
    pub fn stderr(&self) -> String {
        self.process().stderr()
    }

    /// Waits until it says a line with this text in it.
    #[track_caller]
    pub fn says(&self, text: &str) {
        self.says_within(text, PATIENCE);
    }

    /// Waits longer than usual for it.
    #[track_caller]
    pub fn says_within(&self, text: &str, wait: Duration) {
        let deadline = Instant::now() + wait;
        while !self.stderr().contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.process().next_line(left).is_err() && !self.stderr().contains(text) {
                panic!("it did not say {text:?}: {}", self.stderr());
            }
        }
    }

    /// Opens a socket.
    pub fn client(&self) -> Client {
        Client::open(self.address())
    }

    /// Opens a socket with headers.
    #[track_caller]
    pub fn client_with(&self, headers: &[(&str, &str)]) -> Client {
        let upgrade = headers
            .iter()
            .fold(Upgrade::new(), |upgrade, (name, value)| {
                upgrade.header(name, value)
            });
        Client::open_with(self.address(), &upgrade)
            .unwrap_or_else(|answer| panic!("no upgrade: {answer:?}"))
    }

    /// Connects and must be welcome.
    #[track_caller]
    pub fn welcome(&self, connect: &Connect) -> (Client, Hello) {
        let mut client = self.client();
        let hello = client
            .connect(connect)
            .unwrap_or_else(|refusal| panic!("{connect:?} was refused: {refusal:?}"));
        (client, hello)
    }

    /// Connects and must be refused.
    #[track_caller]
    pub fn refusal(&self, connect: &Connect) -> Refusal {
        match self.client().connect(connect) {
            Err(refusal) => refusal,
            Ok(hello) => panic!("{connect:?} was welcome: {}", hello.raw["auth"]),
        }
    }

    /// An operator on this machine with the shared token of [`token_config`] and every scope.
    #[track_caller]
    pub fn owner(&self, protocol: u32) -> Client {
        self.welcome(&Connect::new(protocol).token(TOKEN)).0
    }

    /// Connects as from another machine: through something that forwards.
    ///
    /// # Errors
    /// The refusal.
    pub fn from_afar(&self, connect: &Connect) -> Result<(Client, Hello), Refusal> {
        let mut client = self.client_with(&[("X-Forwarded-For", "203.0.113.7")]);
        let hello = client.connect(connect)?;
        Ok((client, hello))
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Sends SIGTERM, without waiting.
    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.process().child);
        kill_process(pid, Signal::TERM).expect("the child is ours");
    }

    /// Sends SIGHUP, without waiting.
    pub fn hang_up(&self) {
        let pid = Pid::from_child(&self.process().child);
        kill_process(pid, Signal::HUP).expect("the child is ours");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> Ended {
        let process = self.process.take().expect("the gateway runs");
        process.end(Instant::now())
    }

    /// How long the start took until it listened, measured from outside.
    pub fn lived(&self) -> Duration {
        self.process().started.elapsed()
    }

    /// Starts it again on the same home, after it ended.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs still");
        let process =
            Process::start(&self.home).unwrap_or_else(|ended| panic!("no restart: {ended:?}"));
        self.process = Some(process);
    }
}

/// Every file below a directory.
pub(crate) fn files_below(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path)
        .expect("the directory can be read")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        }
        found.push(path);
    }
}

impl Home {
    /// Everything in the state directory, directories too.
    pub fn state_entries(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.state(), &mut found);
        found
    }

    /// Files of the state directory that hold a text.
    pub fn state_files_with(&self, text: &str) -> Vec<PathBuf> {
        let holds = |path: &PathBuf| {
            path.is_file()
                && fs::read(path)
                    .expect("the file can be read")
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
        };
        self.state_entries().into_iter().filter(holds).collect()
    }
}
