//! `exec`: a program, or a line for a shell.
//!
//! What is judged is what runs: a plain command line (words without anything that a shell would
//! read otherwise) is run as it is, without a shell, so that a list of programs can let it pass;
//! everything else is a line for `/bin/sh`, and judged as that.

use std::{
    future::Future,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use clawgate_core::exec_policy::may_set;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    args::{Args, Misread},
    running::{Ended, How, Launch, Processes, Running},
};
use crate::{
    model::ToolSpec,
    sandbox::{Bounds, Network},
    tool::{Output, Tool, Working},
};

/// Characters of what a program said that a model is told: the end of it.
const SHOWN_MAX: usize = 30_000;
/// How long a program may be waited for before it goes on in the background.
const YIELD_DEFAULT: Duration = Duration::from_secs(10);
const YIELD_MAX: Duration = Duration::from_secs(600);
/// How long a program may run at most, whoever asks.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of a command at most.
const COMMAND_MAX: usize = 64 * 1024;
/// Variables of the gateway that a program sees. Its credentials are not among them.
const PASSED: &[&str] = &["HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"];
/// What a program sees of the gateway's own variables.
pub(crate) fn passed_variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| PASSED.contains(&name.as_str()) || name.starts_with("LC_"))
        .collect()
}

/// How much a sandbox has to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxMode {
    /// As much of it as the system has.
    #[default]
    Auto,
    /// All of it, or the program does not run.
    Required,
    /// None.
    Off,
}

/// How programs of a turn run.
#[derive(Clone, Debug)]
pub struct ExecSettings {
    /// Who attends to them: a session.
    pub owner: String,
    /// The run that starts them.
    pub run_id: String,
    /// Where they work when nobody says.
    pub workspace: PathBuf,
    /// Search path of programs.
    pub path: String,
    /// Directory for their temporary files; in the gateway's own if it is there.
    pub temp: Option<PathBuf>,
    /// The sandbox.
    pub sandbox: SandboxMode,
    /// What the sandbox leaves; the network as it is wanted.
    pub bounds: Bounds,
    /// How long they may run when nobody says.
    pub timeout: Duration,
}

/// A command that is about to run.
#[derive(Clone, Debug)]
pub struct ExecCommand {
    /// As the model wrote it.
    pub text: String,
    /// The program as it was found.
    pub found: PathBuf,
    /// The command line.
    pub argv: Vec<String>,
    /// Where.
    pub cwd: PathBuf,
    /// Variables that the model sets.
    pub env: Vec<(String, String)>,
    /// What the model says about how strictly it is to be judged; never laxer than otherwise.
    pub security: Option<String>,
    /// When it wants somebody to be asked.
    pub ask: Option<String>,
    /// What of a sandbox it runs in.
    pub confined: Confined,
}

/// What of a sandbox there is for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    /// Whether files are closed to it.
    pub files: bool,
    /// What of the network it has.
    pub network: Network,
}

/// Why a command does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A stable word: `unattended`, `denied`, `expired`, `policy`, ...
    pub reason: String,
    /// For the model.
    pub text: String,
}

/// Whether a command runs.
pub type Permitting<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

/// Who says whether a command runs. May wait for a person.
pub trait Permit: Send + Sync {
    /// Decides. Dropped, nobody waits any more.
    fn permit<'a>(&'a self, command: &'a ExecCommand) -> Permitting<'a>;
}

/// Runs programs.
pub struct Exec {
    settings: ExecSettings,
    processes: Processes,
    permit: Arc<dyn Permit>,
    spec: ToolSpec,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Exec {
    /// The tool of a turn.
    #[must_use]
    pub fn new(settings: ExecSettings, processes: &Processes, permit: Arc<dyn Permit>) -> Self {
        let network = match settings.bounds.network {
            Network::Open => "",
            Network::Tcp | Network::None => " It has no network.",
        };
        let place = match settings.sandbox {
            SandboxMode::Off => "",
            SandboxMode::Auto | SandboxMode::Required => {
                " It may write in the workspace and in the directory for temporary files alone."
            }
        };
        Self {
            spec: ToolSpec {
                name: "exec".to_owned(),
                description: format!(
                    "Runs a program or a line of shell in the workspace and tells what it \
                     said.{place}{network} What takes longer than yieldMs goes on in the \
                     background; attend to it with process."
                ),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "command": {"type": "string"},
                        "workdir": {"type": "string", "description": "Directory; the workspace if left out."},
                        "env": {"type": "object", "additionalProperties": {"type": "string"}},
                        "yieldMs": {"type": "number", "description": "How long to wait, 10000 if left out."},
                        "background": {"type": "boolean", "description": "Do not wait at all."},
                        "timeout": {"type": "number", "description": "Seconds until it is ended."},
                        "pty": {"type": "boolean", "description": "Give it a terminal."},
                    },
                    "required": ["command"],
                }),
            },
            settings,
            processes: processes.clone(),
            permit,
        }
    }

    async fn run(&self, arguments: &Value, stop: &CancellationToken) -> Result<Output, Output> {
        let args = Args::of(arguments)?;
        let text = args.required(&["command"])?.trim();
        if text.is_empty() || text.contains('\0') || text.len() > COMMAND_MAX {
            return Err(Output::failed(format!(
                "the command is empty, holds a NUL or has more than {COMMAND_MAX} bytes"
            )));
        }
        let cwd = self.directory(args)?;
        let env = variables(args)?;
        let wanted = args.number("timeout")?.map(Duration::from_secs);
        let limit = wanted.filter(|wanted| !wanted.is_zero());
        let limit = limit.unwrap_or(self.settings.timeout).min(TIMEOUT_MAX);
        let background = args.flag("background")?;
        let tty = args.flag("pty")?;
        let wait = args.number("yieldMs")?.map(Duration::from_millis);
        let wait = wait.unwrap_or(YIELD_DEFAULT).min(YIELD_MAX);
        let (confined, bounds) = self.bounds().await?;
        let (found, argv) = self.command_line(text, &cwd);
        let command = ExecCommand {
            text: text.to_owned(),
            found,
            argv,
            cwd,
            env,
            security: args.text(&["security"])?.map(str::to_owned),
            ask: args.text(&["ask"])?.map(str::to_owned),
            confined,
        };
        let permitted = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(stopped()),
            permitted = self.permit.permit(&command) => permitted,
        };
        if let Err(refusal) = permitted {
            return Err(Output {
                text: refusal.text,
                details: Some(json!({
                    "status": "denied", "reason": refusal.reason, "command": text,
                })),
                is_error: true,
            });
        }
        let running = self
            .processes
            .start(Launch {
                owner: self.settings.owner.clone(),
                run_id: self.settings.run_id.clone(),
                shown: command.text,
                program: command.found,
                argv: command.argv,
                cwd: command.cwd,
                env: self.environment(command.env, tty),
                bounds,
                tty,
                input: background || tty,
                timeout: limit,
            })
            .map_err(|fault| Output::failed(fault.to_string()))?;
        if background {
            return Ok(goes_on(&running, confined));
        }
        let attended = Attended(Some(Arc::clone(&running)));
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                running.kill();
                running.ended().await;
                attended.leave();
                Err(stopped())
            }
            end = running.ended() => {
                attended.leave();
                // It was told here; there is nothing to attend to.
                self.processes.forget(&running.id);
                Ok(told(&running, &end, confined))
            }
            () = tokio::time::sleep(wait) => {
                attended.leave();
                Ok(goes_on(&running, confined))
            }
        }
    }

    fn directory(&self, args: Args<'_>) -> Result<PathBuf, Misread> {
        let wanted = args.text(&["workdir"])?.map(str::trim).unwrap_or_default();
        let path = self.settings.workspace.join(wanted);
        path.canonicalize()
            .ok()
            .filter(|path| path.is_dir())
            .ok_or_else(|| Output::failed(format!("workdir is no directory: {}", path.display())))
    }

    /// What of the sandbox there will be.
    async fn bounds(&self) -> Result<(Confined, Option<Bounds>), Output> {
        let open = Confined {
            files: false,
            network: Network::Open,
        };
        if self.settings.sandbox == SandboxMode::Off {
            return Ok((open, None));
        }
        let ability = self.processes.ability().await;
        let wanted = self.settings.bounds.network;
        let network = match (wanted, ability.network) {
            (Network::Open, _) | (_, Network::Open) => Network::Open,
            (Network::None, Network::None) => Network::None,
            (_, Network::Tcp | Network::None) => Network::Tcp,
        };
        let lacks = !ability.files || (wanted != Network::Open && network != wanted);
        if lacks && self.settings.sandbox == SandboxMode::Required {
            return Err(Output {
                text: "not run: this system cannot bound what a program does, and the \
                       configuration requires that it does (tools.exec.sandbox.mode)"
                    .to_owned(),
                details: Some(json!({"status": "denied", "reason": "no-sandbox"})),
                is_error: true,
            });
        }
        if !ability.files {
            return Ok((open, None));
        }
        let bounds = Bounds {
            network,
            ..self.settings.bounds.clone()
        };
        let confined = Confined {
            files: true,
            network,
        };
        Ok((confined, Some(bounds)))
    }

    /// The program and its command line, without a shell where none is needed.
    fn command_line(&self, text: &str, cwd: &Path) -> (PathBuf, Vec<String>) {
        if let Some(words) = plain_words(text)
            && let Some(found) = words.first().and_then(|name| self.find(name, cwd))
        {
            return (found, words);
        }
        let shell = PathBuf::from("/bin/sh");
        let line = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
        (shell, line)
    }

    fn find(&self, name: &str, cwd: &Path) -> Option<PathBuf> {
        let is_program = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        if name.contains('/') {
            return Some(cwd.join(name)).filter(is_program);
        }
        self.settings
            .path
            .split(':')
            .filter(|directory| directory.starts_with('/'))
            .map(|directory| Path::new(directory).join(name))
            .find(is_program)
    }

    fn environment(&self, own: Vec<(String, String)>, tty: bool) -> Vec<(String, String)> {
        let mut all = passed_variables();
        let mut set = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
        set("PATH", &self.settings.path);
        if let Some(temp) = &self.settings.temp {
            set("TMPDIR", &temp.display().to_string());
        }
        set("TERM", if tty { "xterm-256color" } else { "dumb" });
        set("CLAWGATE_RUN_ID", &self.settings.run_id);
        all.extend(own);
        all
    }
}

impl Tool for Exec {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            match self.run(arguments, stop).await {
                Ok(output) | Err(output) => output,
            }
        })
    }
}

/// Ends a program that is waited for when the waiting is given up.
struct Attended(Option<Arc<Running>>);

impl Attended {
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.kill();
        }
    }
}

fn stopped() -> Output {
    Output::failed("ended: the turn was stopped")
}

/// A command line of words that a shell would read as themselves.
fn plain_words(text: &str) -> Option<Vec<String>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_ ".contains(c);
    if !text.chars().all(plain) {
        return None;
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    // `NAME=value program` sets a variable.
    words
        .first()
        .is_some_and(|first| !first.contains('='))
        .then_some(words)
}

fn variables(args: Args<'_>) -> Result<Vec<(String, String)>, Misread> {
    let mut env = Vec::new();
    for (name, value) in args.pairs("env")? {
        if !may_set(name) || value.contains('\0') {
            return Err(Output::failed(format!(
                "the variable {name:?} cannot be set for a program"
            )));
        }
        env.push((name.to_owned(), value.to_owned()));
    }
    env.sort();
    Ok(env)
}

/// The end of a text, with a word about what is missing before it.
pub(super) fn tail(text: &str, gone: u64) -> String {
    let text = text.trim_end();
    let surplus = text.chars().count().saturating_sub(SHOWN_MAX);
    let shown: String = text.chars().skip(surplus).collect();
    let gone = gone + (text.len() - shown.len()) as u64;
    if gone > 0 {
        format!("[{gone} bytes before this are left out]\n{shown}")
    } else {
        shown
    }
}

fn sandbox(confined: Confined) -> Value {
    json!({"files": confined.files, "network": confined.network})
}

/// What is said where something of a sandbox is missing that one would expect.
fn warning(confined: Confined) -> &'static str {
    match (confined.files, confined.network) {
        (false, _) => "\n[it ran without a sandbox]",
        (true, Network::Tcp) => "\n[TCP is closed to it; other protocols cannot be closed here]",
        (true, Network::None | Network::Open) => "",
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How a program ended, in words; `None` when it ended well.
pub(super) fn ending(end: &Ended) -> Option<String> {
    match end.how {
        How::Exited(0) => None,
        How::Exited(code) => Some(format!("it ended with exit code {code}")),
        How::Signalled(signal) => Some(format!("it was ended by signal {signal}")),
        How::TimedOut(limit) => Some(format!(
            "it was ended because its {} s were over",
            limit.as_secs_f64()
        )),
        How::Killed => Some("it was ended as asked for".to_owned()),
        How::Lost => Some("nobody knows how it ended".to_owned()),
    }
}

/// Everything about a program for people and programs.
pub(super) fn details(running: &Running, confined: Option<Confined>) -> Value {
    let (text, gone) = running.text();
    let end = running.end();
    let code = match end.as_ref().map(|end| end.how) {
        Some(How::Exited(code)) => Some(code),
        _ => None,
    };
    let status = match &end {
        None => "running",
        Some(end) if ending(end).is_none() => "completed",
        Some(_) => "failed",
    };
    let lasted = end
        .as_ref()
        .map_or_else(|| running.started.elapsed(), |end| end.after);
    let mut details = json!({
        "status": status,
        "sessionId": running.id,
        "pid": running.pid,
        "exitCode": code,
        "durationMs": milliseconds(lasted),
        "cwd": running.cwd.display().to_string(),
        "aggregated": tail(&text, gone),
    });
    if let Some(How::TimedOut(_)) = end.map(|end| end.how) {
        details["timedOut"] = true.into();
    }
    if let Some(confined) = confined {
        details["sandbox"] = sandbox(confined);
    }
    details
}

/// What came of a program that ended while it was waited for.
fn told(running: &Running, end: &Ended, confined: Confined) -> Output {
    let (text, gone) = running.text();
    let mut shown = tail(&text, gone);
    let ending = ending(end);
    shown = match (&ending, shown.is_empty()) {
        (Some(how), true) => format!("[{how}]"),
        (Some(how), false) => format!("{shown}\n[{how}]"),
        (None, true) => "[it said nothing]".to_owned(),
        (None, false) => shown,
    };
    shown.push_str(warning(confined));
    Output {
        text: shown,
        details: Some(details(running, Some(confined))),
        is_error: ending.is_some(),
    }
}

/// What a model is told of a program that goes on.
fn goes_on(running: &Running, confined: Confined) -> Output {
    let (text, gone) = running.text();
    let so_far = tail(&text, gone);
    let said = if so_far.is_empty() {
        String::new()
    } else {
        format!("\nSo far it said:\n{so_far}")
    };
    // What was told is not news.
    running.poll();
    Output {
        text: format!(
            "It runs in the background as session {}. Look at it with process (poll).{said}{}",
            running.id,
            warning(confined)
        ),
        details: Some(details(running, Some(confined))),
        is_error: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_shell_would_read_otherwise_is_plain() {
        assert_eq!(
            plain_words("git status -s").unwrap(),
            ["git", "status", "-s"]
        );
        for text in [
            "ls | wc",
            "echo $HOME",
            "ls *",
            "a;b",
            "a&&b",
            "~/x",
            "x=1 ls",
            "echo 'a b'",
            "a\nb",
            "echo {a,b}",
            "ls > x",
            "echo `id`",
            "a \\b",
            "# x",
            "!x",
            "",
        ] {
            assert_eq!(plain_words(text), None, "{text}");
        }
    }
}
