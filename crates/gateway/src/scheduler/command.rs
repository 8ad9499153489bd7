//! A program that a job runs: argv without a shell, in a process group of its own, with bounds on
//! time and on output.
//!
//! However a run ends, its whole tree is ended with it: the group first, and then, on Linux,
//! whatever carries the run's id in its environment and has left the group. The next start of the
//! gateway looks for such leftovers too ([`end_leftovers`]).

use std::{collections::BTreeMap, io, process::Stdio, time::Duration};

use clawgate_agent::tools::{Tree, end_marked};
use clawgate_core::cron::ErrorClass;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Execution time when nobody says how long.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
/// Output that is kept when nobody says how much.
pub(super) const OUTPUT_DEFAULT: usize = 64 * 1024;
/// Between asking a tree to end and ending it.
const GRACE: Duration = Duration::from_secs(2);
/// How long a tree that was ended may hold its pipes open.
const DRAIN: Duration = Duration::from_millis(500);
/// Far away.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Variable by which a run's processes are known.
const MARK: &str = "CLAWGATE_RUN_ID";
/// Variables of the gateway that a program sees. Its credentials are not among them.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// What to run.
#[derive(Debug)]
pub(super) struct Program {
    pub argv: Vec<String>,
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub input: Option<String>,
    /// `None` = the default, zero = none.
    pub timeout: Option<Duration>,
    /// `None` or zero = none.
    pub no_output_timeout: Option<Duration>,
    pub output_max: usize,
    pub run_id: String,
    pub job_id: String,
    pub slot_ms: Option<i64>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, well; its last words.
    Done { output: String },
    /// Not well.
    Failed {
        class: ErrorClass,
        error: String,
        output: String,
    },
    /// Told to.
    Stopped,
}

/// The last bytes of a stream.
struct Tail {
    bytes: Vec<u8>,
    max: usize,
}

impl Tail {
    fn new(max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            max,
        }
    }

    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        // Cut now and then, so that a byte is moved a bounded number of times.
        if self.bytes.len() >= self.max.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(self.max);
        self.bytes.drain(..surplus);
    }

    fn text(mut self) -> String {
        self.cut();
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}

impl Program {
    /// Runs it to its end, or until told to stop.
    pub(super) async fn run(self, stop: &CancellationToken) -> End {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return self.not_started(&error),
        };
        let tree = Tree::new(child.id(), MARK, self.run_id.clone());
        let end = self.attend(&mut child, &tree, stop).await;
        tree.end();
        let _ = timeout(DRAIN, child.wait()).await;
        end
    }

    fn spawn(&self) -> io::Result<Child> {
        let (program, arguments) = self
            .argv
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .stdin(if self.input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for (name, value) in std::env::vars_os() {
            let is_passed = name
                .to_str()
                .is_some_and(|name| PASSED.contains(&name) || name.starts_with("LC_"));
            if is_passed {
                command.env(name, value);
            }
        }
        command.envs(&self.env);
        command.env(MARK, &self.run_id);
        command.env("CLAWGATE_JOB_ID", &self.job_id);
        if let Some(slot_ms) = self.slot_ms {
            command.env("CLAWGATE_SLOT_MS", slot_ms.to_string());
        }
        let home = std::env::var_os("HOME");
        if let Some(directory) = self.cwd.as_ref().map(Into::into).or(home) {
            command.current_dir(directory);
        }
        command.spawn()
    }

    fn not_started(&self, error: &io::Error) -> End {
        let program = self.argv.first().map_or("", String::as_str);
        let class = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorClass::NotAvailable,
            io::ErrorKind::PermissionDenied => ErrorClass::Denied,
            io::ErrorKind::InvalidInput => ErrorClass::Invalid,
            _ => ErrorClass::Unknown,
        };
        let place = self
            .cwd
            .as_ref()
            .map_or_else(String::new, |cwd| format!(" in {cwd}"));
        End::Failed {
            class,
            error: format!("{program} could not be started{place}: {error}"),
            output: String::new(),
        }
    }

    /// Feeds and reads the child until it ends, its time is over, or it is told to stop.
    async fn attend(&self, child: &mut Child, tree: &Tree, stop: &CancellationToken) -> End {
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let mut said = Tail::new(self.output_max);
        let mut complained = Tail::new(self.output_max);
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input.clone()) {
            // On its own, because a program may speak before it has read everything. It ends with
            // the pipe, and the pipe with the program.
            tokio::spawn(async move {
                let _ = stdin.write_all(input.as_bytes()).await;
            });
        }
        let began = Instant::now();
        let limit = match self.timeout {
            None => TIMEOUT_DEFAULT,
            Some(Duration::ZERO) => NEVER,
            Some(limit) => limit,
        };
        let silence = match self.no_output_timeout {
            None | Some(Duration::ZERO) => NEVER,
            Some(silence) => silence,
        };
        let mut heard = began;
        let (mut out_chunk, mut err_chunk) = (vec![0_u8; 8 * 1024], vec![0_u8; 8 * 1024]);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                read = read(&mut stdout, &mut out_chunk) => {
                    said.push(&out_chunk[..read]);
                    heard = Instant::now();
                }
                read = read(&mut stderr, &mut err_chunk) => {
                    complained.push(&err_chunk[..read]);
                    heard = Instant::now();
                }
                () = sleep_until(began + limit) => {
                    wind_down(child, tree).await;
                    return timed_out(&format!("after {}", seconds(limit)), said);
                }
                () = sleep_until(heard + silence) => {
                    wind_down(child, tree).await;
                    return timed_out(&format!("after {} without output", seconds(silence)), said);
                }
                () = stop.cancelled() => {
                    wind_down(child, tree).await;
                    return End::Stopped;
                }
            }
        };
        // What it left behind ends with it, and so do the pipes.
        tree.end();
        let rest = async {
            while stdout.is_some() || stderr.is_some() {
                tokio::select! {
                    read = read(&mut stdout, &mut out_chunk) => said.push(&out_chunk[..read]),
                    read = read(&mut stderr, &mut err_chunk) => complained.push(&err_chunk[..read]),
                }
            }
        };
        let _ = timeout(DRAIN, rest).await;
        judged(status, said.text(), &complained.text())
    }
}

/// The next piece of a stream; 0 bytes and no stream at its end. Waits for ever without one.
async fn read<R: AsyncRead + Unpin>(stream: &mut Option<R>, chunk: &mut [u8]) -> usize {
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

/// Asks the group to end, and waits a moment for it to do so.
async fn wind_down(child: &mut Child, tree: &Tree) {
    tree.ask();
    let _ = timeout(GRACE, child.wait()).await;
    tree.end();
}

fn timed_out(how: &str, said: Tail) -> End {
    End::Failed {
        class: ErrorClass::Timeout,
        error: format!("cron: job execution timed out {how}"),
        output: said.text(),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn judged(status: io::Result<std::process::ExitStatus>, said: String, complained: &str) -> End {
    use std::os::unix::process::ExitStatusExt as _;
    let output = |said: String| {
        if said.is_empty() {
            complained.to_owned()
        } else {
            said
        }
    };
    let how = match status {
        Ok(status) if status.success() => {
            return End::Done {
                output: output(said),
            };
        }
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("lost: {error}"),
    };
    let last = complained.lines().next_back().unwrap_or_default().trim();
    let error = if last.is_empty() {
        how
    } else {
        format!("{how}: {last}")
    };
    End::Failed {
        class: ErrorClass::CommandFailed,
        error,
        output: output(said),
    }
}

/// Ends what runs of an earlier process left behind.
pub(super) fn end_leftovers(run_ids: &[String]) {
    if run_ids.is_empty() {
        return;
    }
    let ended = end_marked(MARK, |mark| {
        run_ids.iter().any(|run_id| run_id.as_bytes() == mark)
    });
    if ended > 0 {
        tracing::warn!(
            processes = ended,
            "ended what interrupted runs had left behind"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
            cwd: None,
            env: BTreeMap::new(),
            input: None,
            timeout: None,
            no_output_timeout: None,
            output_max: OUTPUT_DEFAULT,
            run_id: format!("test-{}", uuid::Uuid::new_v4()),
            job_id: "job".to_owned(),
            slot_ms: Some(7),
        }
    }

    async fn run(program: Program) -> End {
        program.run(&CancellationToken::new()).await
    }

    fn done(output: &str) -> End {
        End::Done {
            output: output.to_owned(),
        }
    }

    fn left(run_id: &str) -> usize {
        let mark = format!("{MARK}={run_id}").into_bytes();
        let has_mark = |entry: std::fs::DirEntry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == mark)
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.map(has_mark).filter(|is| *is).count()
    }

    #[tokio::test]
    async fn a_program_says_what_it_says() {
        assert_eq!(run(shell("echo hello")).await, done("hello"));
        assert_eq!(run(shell("echo only >&2")).await, done("only"));
        let job = shell("echo $CLAWGATE_JOB_ID $CLAWGATE_SLOT_MS $GREETING");
        let job = Program {
            env: BTreeMap::from([("GREETING".to_owned(), "hi there".to_owned())]),
            ..job
        };
        assert_eq!(run(job).await, done("job 7 hi there"));
        let fed = Program {
            input: Some("line\n".repeat(50_000)),
            ..shell("wc -l")
        };
        assert_eq!(run(fed).await, done("50000"));
    }

    #[tokio::test]
    async fn it_does_not_see_the_gateways_secrets() {
        let End::Done { output } = run(shell("env")).await else {
            panic!("it failed");
        };
        for line in output.lines() {
            let name = line.split('=').next().unwrap();
            assert!(
                PASSED.contains(&name)
                    || name.starts_with("LC_")
                    || name.starts_with("CLAWGATE_")
                    || ["PWD", "SHLVL", "_", "OLDPWD"].contains(&name),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn failures_have_a_class_and_the_last_complaint() {
        let End::Failed {
            class,
            error,
            output,
        } = run(shell("echo partly; echo first >&2; echo last >&2; exit 3")).await
        else {
            panic!("it did well");
        };
        assert_eq!(class, ErrorClass::CommandFailed);
        assert_eq!(error, "exit code 3: last");
        assert_eq!(output, "partly");
        let missing = Program {
            argv: vec!["/nowhere/program".to_owned()],
            ..shell("")
        };
        assert!(matches!(
            run(missing).await,
            End::Failed {
                class: ErrorClass::NotAvailable,
                ..
            }
        ));
        assert!(matches!(
            run(shell("kill -9 $$")).await,
            End::Failed { error, .. } if error == "ended by signal 9"
        ));
    }

    #[tokio::test]
    async fn its_time_and_its_silence_are_bounded() {
        let slow = Program {
            timeout: Some(Duration::from_millis(200)),
            ..shell("while :; do echo x; done")
        };
        assert!(matches!(
            run(slow).await,
            End::Failed { class: ErrorClass::Timeout, error, .. } if error.contains("after 0.2 s")
        ));
        let silent = Program {
            no_output_timeout: Some(Duration::from_millis(200)),
            ..shell("sleep 60")
        };
        assert!(matches!(
            run(silent).await,
            End::Failed { class: ErrorClass::Timeout, error, .. } if error.contains("without output")
        ));
    }

    #[tokio::test]
    async fn output_is_bounded_and_its_end_is_kept() {
        let loud = Program {
            output_max: 1_000,
            ..shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done")
        };
        let End::Done { output } = run(loud).await else {
            panic!("it failed");
        };
        assert!(output.len() <= 1_000, "{}", output.len());
        assert!(output.ends_with("line 20000"), "{output}");
    }

    #[tokio::test]
    async fn the_whole_tree_ends_with_it_even_what_left_its_group() {
        let job = shell("setsid sleep 300 & sleep 300 & echo started");
        let run_id = job.run_id.clone();
        let began = Instant::now();
        assert_eq!(run(job).await, done("started"));
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(left(&run_id), 0);
    }

    #[tokio::test]
    async fn told_to_stop_it_stops_with_its_tree() {
        let job = shell("trap '' TERM; setsid sleep 300 & while :; do sleep 1; done");
        let run_id = job.run_id.clone();
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { job.run(&stop).await }
        });
        let begun = async {
            while left(&run_id) < 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), begun).await.unwrap();
        stop.cancel();
        let end = timeout(Duration::from_secs(5), running).await;
        assert_eq!(end.expect("within five seconds").unwrap(), End::Stopped);
        assert_eq!(left(&run_id), 0);
    }

    #[tokio::test]
    async fn a_run_that_is_dropped_leaves_nothing() {
        let job = shell("setsid sleep 300 & sleep 300");
        let run_id = job.run_id.clone();
        let running = tokio::spawn(async move { job.run(&CancellationToken::new()).await });
        let begun = async {
            while left(&run_id) < 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), begun).await.unwrap();
        running.abort();
        let _ = running.await;
        // They were told; the system takes its time to clear them away.
        let gone = async {
            while left(&run_id) > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), gone).await.unwrap();
    }

    #[tokio::test]
    async fn leftovers_of_an_earlier_process_are_ended() {
        let run_id = format!("left-{}", uuid::Uuid::new_v4());
        let mut child = std::process::Command::new("sleep")
            .arg("300")
            .env(MARK, &run_id)
            .spawn()
            .unwrap();
        while left(&run_id) == 0 {
            std::thread::yield_now();
        }
        end_leftovers(std::slice::from_ref(&run_id));
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
