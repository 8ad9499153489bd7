//! Programs that models run, and their owner.
//!
//! [`Processes`] knows all of them. Each is attended by a task of its own, which reads what it says
//! (the end of it is kept), feeds it, and ends it with everything that it started: when its time is
//! over, when somebody asks for it, and when the task is dropped, which is what the end of the
//! gateway comes to. What ended stays for a while, to be looked at.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::unix::pipe,
    process::{Child, Command},
    sync::{OnceCell, mpsc, watch},
    time::{sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::tree::{MARK, Tree};
use crate::sandbox::{Ability, Bounds, Spec};

/// Bytes of what a program says that are kept.
const KEPT_MAX: usize = 200_000;
/// Programs that run at once.
const RUNNING_MAX: usize = 32;
/// Programs that are known, those that ended among them.
const KNOWN_MAX: usize = 128;
/// Pieces of input that wait for a program to read them.
const INPUT_MAX: usize = 16;
/// Between asking a program to end and ending it.
const GRACE: Duration = Duration::from_secs(2);
/// How long pipes may stay open after the program is gone.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the launcher may take to say what the system can do.
const PROBE: Duration = Duration::from_secs(5);
/// Size of a terminal: what models read is not wide.
const TERMINAL: Winsize = Winsize {
    ws_row: 40,
    ws_col: 120,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// What is started again to become a program within bounds: its last argument is a [`Spec`], and
/// with `--probe` there it says its [`Ability`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The binary.
    pub program: PathBuf,
    /// What it is told before the spec.
    pub arguments: Vec<String>,
}

/// Owner of the programs that models run. A handle.
#[derive(Clone, Debug)]
pub struct Processes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    launcher: Option<Launcher>,
    /// What every mark begins with: leftovers of an earlier gateway are known by it.
    marks: String,
    ability: OnceCell<Ability>,
    known: Mutex<HashMap<String, Arc<Running>>>,
    stopping: CancellationToken,
}

/// A program to start.
#[derive(Debug)]
pub(super) struct Launch {
    /// Who may attend to it: a session.
    pub owner: String,
    pub run_id: String,
    /// As a person reads it.
    pub shown: String,
    pub program: PathBuf,
    pub argv: Vec<String>,
    pub cwd: PathBuf,
    pub env: Vec<(String, String)>,
    pub bounds: Option<Bounds>,
    pub tty: bool,
    /// Whether somebody may write to it.
    pub input: bool,
    pub timeout: Duration,
}

/// A program, running or ended.
#[derive(Debug)]
pub(super) struct Running {
    pub id: String,
    pub owner: String,
    pub run_id: String,
    pub shown: String,
    pub cwd: PathBuf,
    pub pid: Option<u32>,
    pub started: Instant,
    said: Mutex<Said>,
    changed: watch::Sender<()>,
    input: Option<mpsc::Sender<Input>>,
    kill: CancellationToken,
}

/// What is written to a program.
#[derive(Debug)]
pub(super) enum Input {
    Bytes(Vec<u8>),
    /// Nothing comes any more.
    End,
}

#[derive(Debug, Default)]
struct Said {
    bytes: VecDeque<u8>,
    /// How many bytes there were before those.
    gone: u64,
    /// Up to where they were given out by a poll.
    polled: u64,
    end: Option<Ended>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub how: How,
    pub after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Exited(i32),
    Signalled(i32),
    TimedOut(Duration),
    Killed,
    Lost,
}

/// Why a program is not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartFault {
    #[error("{RUNNING_MAX} programs run already; end one of them with the process tool")]
    Full,
    #[error("the gateway is stopping")]
    Stopping,
    #[error("a terminal cannot be had here")]
    NoTerminal,
    #[error("it could not be started: {0}")]
    Io(#[from] io::Error),
}

impl Processes {
    /// The owner. `marks` names this gateway among others of the same user.
    #[must_use]
    pub fn new(launcher: Option<Launcher>, marks: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                launcher,
                marks: marks.to_owned(),
                ability: OnceCell::new(),
                known: Mutex::default(),
                stopping: CancellationToken::new(),
            }),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Running>>> {
        self.inner
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What this system can do to bound a program; asked once.
    pub async fn ability(&self) -> Ability {
        *self.inner.ability.get_or_init(|| self.probe()).await
    }

    async fn probe(&self) -> Ability {
        let Some(launcher) = &self.inner.launcher else {
            return Ability::NOTHING;
        };
        let asked = Command::new(&launcher.program)
            .args(&launcher.arguments)
            .arg("--probe")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        match timeout(PROBE, asked).await {
            Ok(Ok(output)) => {
                // The last line: whatever else is said there is not for us.
                let text = String::from_utf8_lossy(&output.stdout);
                text.lines()
                    .find_map(|line| serde_json::from_str(line).ok())
                    .unwrap_or(Ability::NOTHING)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, program = %launcher.program.display(), "no sandbox");
                Ability::NOTHING
            }
            Err(_) => Ability::NOTHING,
        }
    }

    /// Starts a program.
    pub(super) fn start(&self, launch: Launch) -> Result<Arc<Running>, StartFault> {
        if self.inner.stopping.is_cancelled() {
            return Err(StartFault::Stopping);
        }
        let mark = format!("{}/{}", self.inner.marks, uuid::Uuid::new_v4().simple());
        let mut known = self.known();
        if known.values().filter(|one| one.end().is_none()).count() >= RUNNING_MAX {
            return Err(StartFault::Full);
        }
        let mut spawned = self.spawn(&launch, &mark)?;
        let tree = Tree::new(spawned.child.id(), MARK, mark);
        let (input, written) = mpsc::channel(INPUT_MAX);
        let has_input = spawned.input.is_some();
        let writer = spawned
            .input
            .take()
            .map(|sink| AbortOnDropHandle::new(tokio::spawn(feed(sink, written, launch.tty))));
        let id = loop {
            let id = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
            if !known.contains_key(&id) {
                break id;
            }
        };
        let running = Arc::new(Running {
            id: id.clone(),
            owner: launch.owner,
            run_id: launch.run_id,
            shown: launch.shown,
            cwd: launch.cwd,
            pid: spawned.child.id(),
            started: Instant::now(),
            said: Mutex::default(),
            changed: watch::channel(()).0,
            input: has_input.then_some(input),
            kill: self.inner.stopping.child_token(),
        });
        known.insert(id, Arc::clone(&running));
        forget_oldest(&mut known);
        tokio::spawn(attend(
            Arc::clone(&running),
            spawned,
            tree,
            writer,
            launch.timeout,
        ));
        Ok(running)
    }

    fn spawn(&self, launch: &Launch, mark: &str) -> Result<Spawned, StartFault> {
        let mut command = match &self.inner.launcher {
            Some(launcher) => {
                let spec = Spec {
                    program: launch.program.clone(),
                    argv: launch.argv.clone(),
                    tty: launch.tty,
                    bounds: launch.bounds.clone(),
                };
                let spec = serde_json::to_string(&spec).map_err(io::Error::from)?;
                let mut command = Command::new(&launcher.program);
                command.args(&launcher.arguments).arg(spec);
                command
            }
            None if launch.tty => return Err(StartFault::NoTerminal),
            None => {
                let mut command = Command::new(&launch.program);
                if let Some((name, arguments)) = launch.argv.split_first() {
                    command.arg0(name).args(arguments);
                }
                command.process_group(0);
                command
            }
        };
        command
            .env_clear()
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, mark)
            .current_dir(&launch.cwd)
            .kill_on_drop(true);
        if launch.tty {
            let (reader, writer, terminal) = terminal()?;
            command
                .stdin(terminal.try_clone()?)
                .stdout(terminal.try_clone()?)
                .stderr(terminal);
            let child = command.spawn()?;
            // With the command go the gateway's own handles of the terminal, or it never ends.
            drop(command);
            return Ok(Spawned {
                child,
                outputs: vec![Box::new(reader)],
                input: Some(Box::new(writer)),
            });
        }
        command
            .stdin(if launch.input {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut outputs: Vec<Source> = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            outputs.push(Box::new(stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            outputs.push(Box::new(stderr));
        }
        let input = child.stdin.take().map(|stdin| -> Sink { Box::new(stdin) });
        Ok(Spawned {
            child,
            outputs,
            input,
        })
    }

    /// A program of an owner.
    pub(super) fn get(&self, owner: &str, id: &str) -> Option<Arc<Running>> {
        self.known()
            .get(id.trim())
            .filter(|running| running.owner == owner)
            .cloned()
    }

    /// The programs of an owner, the newest first.
    pub(super) fn list(&self, owner: &str) -> Vec<Arc<Running>> {
        let mut list: Vec<_> = self
            .known()
            .values()
            .filter(|running| running.owner == owner)
            .cloned()
            .collect();
        list.sort_by_key(|running| std::cmp::Reverse(running.started));
        list
    }

    /// Forgets a program that ended.
    pub(super) fn forget(&self, id: &str) {
        self.known().remove(id);
    }

    /// Ends what a run started and is still there: for a run that is cancelled or removed.
    pub async fn end_run(&self, run_id: &str) {
        let of_run: Vec<_> = self
            .known()
            .values()
            .filter(|running| running.run_id == run_id)
            .cloned()
            .collect();
        end_all(of_run).await;
    }

    /// Ends everything, and starts nothing any more.
    pub async fn stop(&self) {
        self.inner.stopping.cancel();
        let all: Vec<_> = self.known().values().cloned().collect();
        end_all(all).await;
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        let known = self.known();
        known.values().filter(|one| one.end().is_none()).count()
    }
}

async fn end_all(all: Vec<Arc<Running>>) {
    for running in &all {
        running.kill();
    }
    for running in &all {
        running.ended().await;
    }
}

/// Makes room: those go first that ended first.
fn forget_oldest(known: &mut HashMap<String, Arc<Running>>) {
    while known.len() > KNOWN_MAX {
        let oldest = known
            .values()
            .filter(|running| running.end().is_some())
            .min_by_key(|running| running.started)
            .map(|running| running.id.clone());
        match oldest {
            Some(id) => known.remove(&id),
            None => return,
        };
    }
}

impl Running {
    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it did.
    pub(super) fn end(&self) -> Option<Ended> {
        self.said().end.clone()
    }

    /// Asks it to end, and ends it when it does not.
    pub(super) fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits until it ended.
    pub(super) async fn ended(&self) -> Ended {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(end) = self.end() {
                return end;
            }
            // The sender lives in `self`.
            let _ = changed.changed().await;
        }
    }

    /// Waits until it says something that was not polled, or ended.
    pub(super) async fn news(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let said = self.said();
                if said.end.is_some() || said.total() > said.polled {
                    return;
                }
            }
            let _ = changed.changed().await;
        }
    }

    /// Everything that is kept of what it said, and how much is not.
    pub(super) fn text(&self) -> (String, u64) {
        let said = self.said();
        (said.from(said.gone), said.gone)
    }

    /// What it said since the last poll, and how much of that is not kept.
    pub(super) fn poll(&self) -> (String, u64) {
        let mut said = self.said();
        let from = said.polled.max(said.gone);
        let lost = from - said.polled;
        let text = said.from(from);
        said.polled = said.total();
        (text, lost)
    }

    /// Whether it can be written to.
    pub(super) fn takes_input(&self) -> bool {
        self.input.is_some()
    }

    /// Writes to it; false when it does not read.
    pub(super) fn write(&self, input: Input) -> bool {
        let input = self.input.as_ref().map(|sender| sender.try_send(input));
        matches!(input, Some(Ok(())))
    }

    fn push(&self, bytes: &[u8]) {
        {
            let mut said = self.said();
            said.bytes.extend(bytes);
            let surplus = said.bytes.len().saturating_sub(KEPT_MAX);
            said.bytes.drain(..surplus);
            said.gone += surplus as u64;
        }
        self.changed.send_replace(());
    }

    fn over(&self, how: How) {
        self.said().end = Some(Ended {
            how,
            after: self.started.elapsed(),
        });
        self.changed.send_replace(());
    }
}

impl Said {
    fn total(&self) -> u64 {
        self.gone + self.bytes.len() as u64
    }

    fn from(&self, from: u64) -> String {
        let skip = usize::try_from(from - self.gone).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = self.bytes.iter().skip(skip).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

type Source = Box<dyn AsyncRead + Send + Unpin>;
type Sink = Box<dyn AsyncWrite + Send + Unpin>;

struct Spawned {
    child: Child,
    outputs: Vec<Source>,
    input: Option<Sink>,
}

/// Writes what comes, until the program does not read any more.
async fn feed(mut sink: Sink, mut written: mpsc::Receiver<Input>, tty: bool) {
    while let Some(Input::Bytes(bytes)) = written.recv().await {
        if sink.write_all(&bytes).await.is_err() || sink.flush().await.is_err() {
            return;
        }
    }
    // A terminal has no end of input but the character that stands for it.
    if tty {
        let _ = sink.write_all(&[4]).await;
    }
    let _ = sink.shutdown().await;
}

/// Says how it ended, whatever happens to the task that attends to it.
struct Over {
    running: Arc<Running>,
    how: How,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.running.over(self.how);
    }
}

/// Attends to a program until it ended, with everything that it started.
async fn attend(
    running: Arc<Running>,
    spawned: Spawned,
    tree: Tree,
    writer: Option<AbortOnDropHandle<()>>,
    limit: Duration,
) {
    let Spawned {
        mut child, outputs, ..
    } = spawned;
    let mut over = Over {
        running: Arc::clone(&running),
        how: How::Lost,
    };
    let mut outputs = outputs.into_iter();
    let (mut first, mut second) = (outputs.next(), outputs.next());
    let (mut a, mut b) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let until = tokio::time::Instant::now() + limit;
    over.how = loop {
        tokio::select! {
            status = child.wait() => break exited(&status),
            read = next(&mut first, &mut a) => running.push(&a[..read]),
            read = next(&mut second, &mut b) => running.push(&b[..read]),
            () = sleep_until(until) => {
                wind_down(&mut child, &tree).await;
                break How::TimedOut(limit);
            }
            () = running.kill.cancelled() => {
                wind_down(&mut child, &tree).await;
                break How::Killed;
            }
        }
    };
    // What it left behind ends with it, and so do the pipes.
    tree.end();
    drop(writer);
    let rest = async {
        while first.is_some() || second.is_some() {
            tokio::select! {
                read = next(&mut first, &mut a) => running.push(&a[..read]),
                read = next(&mut second, &mut b) => running.push(&b[..read]),
            }
        }
    };
    let _ = timeout(DRAIN, rest).await;
    let _ = timeout(DRAIN, child.wait()).await;
}

fn exited(status: &io::Result<ExitStatus>) -> How {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => How::Exited(code),
            (None, Some(signal)) => How::Signalled(signal),
            (None, None) => How::Lost,
        },
        Err(_) => How::Lost,
    }
}

/// Asks the group to end, and waits a moment for it to do so.
async fn wind_down(child: &mut Child, tree: &Tree) {
    tree.ask();
    let _ = timeout(GRACE, child.wait()).await;
    let _ = child.start_kill();
    tree.end();
}

/// The next piece of a stream; 0 bytes and no stream at its end. Waits for ever without one.
async fn next(stream: &mut Option<Source>, chunk: &mut [u8]) -> usize {
    match stream {
        None => std::future::pending().await,
        Some(open) => match open.read(chunk).await {
            // A terminal that nobody has open any more is an error and no end.
            Ok(0) | Err(_) => {
                *stream = None;
                0
            }
            Ok(read) => read,
        },
    }
}

/// A new terminal: the side that is read and written here, and the program's.
fn terminal() -> io::Result<(pipe::Receiver, pipe::Sender, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
    tcsetwinsize(&master, TERMINAL)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    // They read and write whatever can be waited for.
    let reader = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
    let writer = pipe::Sender::from_owned_fd_unchecked(master)?;
    Ok((reader, writer, terminal))
}
