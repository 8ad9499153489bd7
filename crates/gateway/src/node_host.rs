//! The other end of an invoke: a machine that runs commands for a gateway, under its own policy.
//!
//! What may run is decided here, by `exec-approvals.json` beside the node's identity, whatever the
//! gateway says; the gateway can only say that somebody approved what the policy asks about. A command
//! that nobody waits for is dropped, and everything that it started ends with it.

mod program;

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use clawgate_core::{
    exec_policy::{self, Executable, NotKept, Request, Verdict, Why},
    proof,
};
use clawgate_protocol::{
    approval::{Operand, Plan},
    exec_policy::File,
    frame::to_json,
    node::NodeFault,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, Semaphore};

use crate::{
    clock::now_ms,
    state::{StateDir, StateError, write_private},
};

/// Commands that run at once.
const AT_ONCE_MAX: usize = 16;
/// Names that are looked up in one go.
const BINS_MAX: usize = 256;
/// Largest policy that is taken, bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Largest program or script whose content is looked at, bytes.
const HASHED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A machine that runs commands for a gateway.
#[derive(Debug)]
pub struct NodeHost {
    file: PathBuf,
    path_env: String,
    places: Semaphore,
    /// Changes of the policy happen one after the other.
    changing: Mutex<()>,
}

fn fault(code: &str, message: impl Into<String>) -> NodeFault {
    NodeFault {
        code: Some(code.to_owned()),
        message: Some(message.into()),
    }
}

fn invalid(message: impl Into<String>) -> NodeFault {
    fault("INVALID_REQUEST", message)
}

fn denied(message: &str) -> NodeFault {
    fault("UNAVAILABLE", format!("SYSTEM_RUN_DENIED: {message}"))
}

/// Params of `system.run` and `system.run.prepare`. Shell text (`rawCommand`) is never run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunParams {
    command: Vec<String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    session_key: Option<String>,
    #[serde(default)]
    needs_screen_recording: Option<bool>,
    #[serde(default)]
    approved: Option<bool>,
    #[serde(default)]
    approval_decision: Option<String>,
    /// The program's content when it was approved.
    #[serde(default)]
    resolved_sha256: Option<String>,
    /// What was approved.
    #[serde(default)]
    system_run_plan: Option<Plan>,
}

/// A command as it would really run.
#[derive(Debug)]
struct Resolved {
    argv: Vec<String>,
    /// The program, with every link followed.
    real: PathBuf,
    found: String,
    sha256: Option<String>,
    operand_sha256: Option<String>,
    /// The first file among the arguments, and its place there.
    operand: Option<(usize, PathBuf)>,
    cwd: PathBuf,
    env: BTreeMap<String, String>,
}

impl Resolved {
    /// The file that says what an interpreter does.
    fn script(&self) -> Option<Operand> {
        let name = self.real.file_name().and_then(std::ffi::OsStr::to_str);
        let (index, path) = self.operand.as_ref()?;
        if !exec_policy::runs_others(name.unwrap_or_default()) {
            return None;
        }
        Some(Operand {
            argv_index: u32::try_from(*index).ok()?,
            path: path.display().to_string(),
            sha256: self.operand_sha256.clone()?,
        })
    }

    fn still_has(&self, script: &Operand) -> bool {
        self.operand.as_ref().is_some_and(|(index, _)| {
            u32::try_from(*index).is_ok_and(|index| index == script.argv_index)
        }) && self.operand_sha256.as_ref() == Some(&script.sha256)
    }
}

impl NodeHost {
    /// Takes a directory for the node's policy, making it (0700) if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: &Path, path_env: &str) -> Result<Self, StateError> {
        StateDir::make_private_dir(directory)?;
        Ok(Self {
            file: directory.join("exec-approvals.json"),
            path_env: path_env.to_owned(),
            places: Semaphore::new(AT_ONCE_MAX),
            changing: Mutex::new(()),
        })
    }

    /// Groups of abilities, for the connect.
    pub fn caps() -> Vec<String> {
        vec!["system".to_owned()]
    }

    /// Commands that this machine can run, for the connect.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = vec![
            "system.run.prepare",
            "system.run",
            "system.which",
            "system.execApprovals.get",
            "system.execApprovals.set",
        ];
        if self.find("notify-send").is_some() {
            commands.push("system.notify");
        }
        commands.into_iter().map(str::to_owned).collect()
    }

    /// Does what the gateway asks. Dropping it ends what it started.
    ///
    /// # Errors
    /// What is told to the gateway.
    pub async fn answer(&self, command: &str, params: Option<&str>) -> Result<Value, NodeFault> {
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| fault("NODE_BUSY", "this node runs as much as it may"))?;
        let given = || {
            let text = params.ok_or_else(|| invalid("INVALID_REQUEST: paramsJSON required"))?;
            serde_json::from_str::<Value>(text)
                .map_err(|error| invalid(format!("INVALID_REQUEST: params do not read: {error}")))
        };
        match command {
            "system.run" => self.run(read(given()?)?).await,
            "system.run.prepare" => self.prepare(read(given()?)?).await,
            "system.which" => self.which(&given()?),
            "system.notify" => self.notify(&given()?).await,
            "system.execApprovals.get" => self
                .policy()
                .await
                .map(|(text, file)| self.shown(text.as_deref(), file)),
            "system.execApprovals.set" => self.set_policy(&given()?).await,
            _ => Err(fault("UNAVAILABLE", "command not supported")),
        }
    }

    async fn run(&self, params: RunParams) -> Result<Value, NodeFault> {
        if params.needs_screen_recording == Some(true) {
            return Err(denied("PERMISSION_MISSING: screenRecording"));
        }
        let agent = agent_of(&params);
        let within = params.timeout_ms;
        let approved = params.approved == Some(true);
        let always = params.approval_decision.as_deref() == Some("allow-always");
        let seen = params.resolved_sha256.clone();
        let script = params.system_run_plan.as_ref();
        let script = script.and_then(|plan| plan.mutable_file_operand.clone());
        let resolved = self.resolve(params).await?;
        // What stands in a file now need not be what stood there when somebody looked at it.
        if approved && seen.is_some() && seen != resolved.sha256 {
            return Err(denied("approval program changed before execution"));
        }
        if approved && script.is_some_and(|script| !resolved.still_has(&script)) {
            return Err(denied("approval script operand changed before execution"));
        }
        let (_, mut file) = self.policy().await?;
        let home = std::env::var("HOME").ok();
        let names: Vec<String> = resolved.env.keys().cloned().collect();
        let cwd = resolved.cwd.to_str();
        let real = resolved.real.to_str().unwrap_or_default();
        let request = Request {
            argv: &resolved.argv,
            cwd,
            env: &names,
            executable: Some(Executable {
                found: &resolved.found,
                real,
                sha256: resolved.sha256.as_deref(),
            }),
            operand_sha256: resolved.operand_sha256.as_deref(),
            skill: false,
            home: home.as_deref(),
        };
        match exec_policy::evaluate(&file, &agent, &request) {
            Verdict::Allow { .. } => {}
            Verdict::Ask { .. } if approved => {
                if always {
                    self.remember(&mut file, &agent, &request).await?;
                }
            }
            Verdict::Ask { .. } => return Err(denied("approval required")),
            Verdict::Deny { why: Why::Denied } => {
                return Err(fault("UNAVAILABLE", "SYSTEM_RUN_DISABLED: security=deny"));
            }
            Verdict::Deny { why } => {
                return Err(denied(&format!("allowlist miss ({})", why.as_str())));
            }
        }
        program::run(&resolved, &self.path_env, within).await
    }

    /// What would run, for whoever approves it.
    async fn prepare(&self, params: RunParams) -> Result<Value, NodeFault> {
        let (agent, session) = (params.agent_id.clone(), params.session_key.clone());
        let resolved = self.resolve(params).await?;
        let same_name = resolved.real.file_name().and_then(std::ffi::OsStr::to_str)
            == Path::new(&resolved.argv[0])
                .file_name()
                .and_then(std::ffi::OsStr::to_str);
        let mut argv = resolved.argv.clone();
        // Pinned, unless the program does something else under another name.
        argv[0] = if same_name {
            resolved.real.display().to_string()
        } else {
            resolved.found.clone()
        };
        let text: Vec<String> = argv.iter().map(|part| shell_word(part)).collect();
        let plan = Plan {
            argv,
            cwd: Some(resolved.cwd.display().to_string()),
            command_text: text.join(" "),
            command_preview: None,
            agent_id: agent,
            session_key: session,
            policy_snapshot: None,
            mutable_file_operand: resolved.script(),
        };
        Ok(json!({
            "plan": plan,
            "resolvedPath": resolved.real.display().to_string(),
            "resolvedSha256": resolved.sha256,
        }))
    }

    async fn resolve(&self, params: RunParams) -> Result<Resolved, NodeFault> {
        let program = params.command.first().map(|program| program.trim());
        let program = program.filter(|program| !program.is_empty());
        let program = program
            .ok_or_else(|| invalid("command required"))?
            .to_owned();
        if params.command.iter().any(|part| part.contains('\0')) {
            return Err(invalid("command must not hold NUL"));
        }
        let env = params.env.unwrap_or_default();
        if let Some(name) = env.keys().find(|name| !exec_policy::may_set(name)) {
            return Err(invalid(format!("the variable {name:?} cannot be set")));
        }
        let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
        let cwd = params
            .cwd
            .filter(|cwd| !cwd.trim().is_empty())
            .unwrap_or(home);
        let cwd = std::fs::canonicalize(&cwd)
            .ok()
            .filter(|cwd| cwd.is_dir())
            .ok_or_else(|| invalid(format!("cwd is no directory: {cwd}")))?;
        let found = if program.contains('/') {
            Some(cwd.join(&program))
        } else {
            self.find(&program)
        };
        let missing = || invalid(format!("no such program: {program}"));
        let found = found.ok_or_else(missing)?;
        let real = std::fs::canonicalize(&found).map_err(|_| missing())?;
        let arguments = params.command.iter().enumerate().skip(1);
        let operand = arguments
            .filter(|(_, part)| !part.starts_with('-'))
            .map(|(index, part)| (index, cwd.join(part)))
            .find(|(_, path)| path.is_file());
        let (hashed, script) = (real.clone(), operand.clone());
        let hashes = tokio::task::spawn_blocking(move || {
            let script = script.and_then(|(_, path)| sha256(&path));
            (sha256(&hashed), script)
        });
        let (sha256, operand_sha256) = hashes.await.unwrap_or_default();
        Ok(Resolved {
            argv: params.command,
            real,
            found: found.display().to_string(),
            sha256,
            operand_sha256,
            operand,
            cwd,
            env,
        })
    }

    fn which(&self, params: &Value) -> Result<Value, NodeFault> {
        let bins = params["bins"].as_array();
        let bins = bins.ok_or_else(|| invalid("INVALID_REQUEST: bins required"))?;
        let found: serde_json::Map<String, Value> = bins
            .iter()
            .take(BINS_MAX)
            .filter_map(Value::as_str)
            .map(str::trim)
            .filter_map(|bin| Some((bin.to_owned(), self.find(bin)?.display().to_string().into())))
            .collect();
        Ok(json!({"bins": found}))
    }

    async fn notify(&self, params: &Value) -> Result<Value, NodeFault> {
        let notifier = self.find("notify-send");
        let notifier =
            notifier.ok_or_else(|| fault("UNAVAILABLE", "no notify-send on this node"))?;
        let text = |key: &str| params[key].as_str().unwrap_or_default().trim().to_owned();
        let (title, body) = (text("title"), text("body"));
        if title.is_empty() && body.is_empty() {
            return Err(invalid("INVALID_REQUEST: empty notification"));
        }
        let urgency = match params["priority"].as_str() {
            Some("passive") => "low",
            Some("timeSensitive") => "critical",
            _ => "normal",
        };
        let title = if title.is_empty() { "clawgate" } else { &title };
        program::notify(&notifier, urgency, title, &body).await?;
        Ok(json!({"ok": true}))
    }

    /// The program of a name on this node's own search path. Names only: a path names itself.
    fn find(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') || name.contains('\0') {
            return None;
        }
        self.path_env
            .split(':')
            .filter(|dir| dir.starts_with('/'))
            .map(|dir| Path::new(dir).join(name))
            .find(|path| program::is_executable(path))
    }

    /// The policy as it stands, with its text. A file that does not read denies everything.
    async fn policy(&self) -> Result<(Option<String>, File), NodeFault> {
        let path = self.file.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
        let read = read
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let text = match read {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((None, File::default()));
            }
            Err(error) => return Err(denied(&format!("the policy cannot be read: {error}"))),
        };
        let file = serde_json::from_str(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            denied(&format!(
                "the policy does not read (line {line}, column {column})"
            ))
        })?;
        Ok((Some(text), file))
    }

    /// The policy as it may be seen: without the secret of its socket.
    fn shown(&self, text: Option<&str>, mut file: File) -> Value {
        if let Some(socket) = &mut file.socket {
            socket.token = None;
        }
        json!({
            "path": self.file.display().to_string(),
            "exists": text.is_some(),
            "hash": proof::fingerprint(text.unwrap_or_default()),
            "file": file,
        })
    }

    /// Replaces the policy, by somebody who has seen the one that stands.
    async fn set_policy(&self, params: &Value) -> Result<Value, NodeFault> {
        if !params["file"].is_object() {
            return Err(invalid("INVALID_REQUEST: exec approvals file required"));
        }
        let mut wanted: File = File::deserialize(&params["file"])
            .map_err(|error| invalid(format!("INVALID_REQUEST: {error}")))?;
        let _turn = self.changing.lock().await;
        let (text, standing) = self.policy().await?;
        if let Some(text) = &text {
            let base = params["baseHash"]
                .as_str()
                .map(str::trim)
                .unwrap_or_default();
            if base.is_empty() {
                return Err(invalid(
                    "INVALID_REQUEST: exec approvals base hash required; reload and retry",
                ));
            }
            if base != proof::fingerprint(text) {
                return Err(invalid(
                    "INVALID_REQUEST: exec approvals changed; reload and retry",
                ));
            }
        }
        // Whoever writes has not seen the secret of the socket, and does not take it away.
        let secret = standing.socket.and_then(|socket| socket.token);
        if let Some(secret) = secret {
            let socket = wanted.socket.get_or_insert_default();
            socket.token.get_or_insert(secret);
        }
        let text = self.write(&wanted).await?;
        Ok(self.shown(Some(&text), wanted))
    }

    async fn remember(
        &self,
        file: &mut File,
        agent: &str,
        request: &Request<'_>,
    ) -> Result<(), NodeFault> {
        let _turn = self.changing.lock().await;
        let (_, standing) = self.policy().await?;
        *file = standing;
        let id = uuid::Uuid::new_v4().to_string();
        let command: Vec<String> = request.argv.iter().map(|part| shell_word(part)).collect();
        let kept = exec_policy::remember(file, agent, request, id, &command.join(" "), now_ms());
        match kept {
            Ok(()) => self.write(file).await.map(drop),
            // It was approved for this once all the same.
            Err(NotKept::NoProgram | NotKept::PathIsPattern | NotKept::Environment) => Ok(()),
        }
    }

    async fn write(&self, file: &File) -> Result<String, NodeFault> {
        let mut text = serde_json::to_string_pretty(file).unwrap_or_else(|_| to_json(file));
        text.push('\n');
        if text.len() > FILE_BYTES_MAX {
            return Err(invalid(
                "INVALID_REQUEST: the exec approvals file is too large",
            ));
        }
        let (path, written) = (self.file.clone(), text.clone());
        let done = tokio::task::spawn_blocking(move || write_private(&path, &written)).await;
        match done {
            Ok(Ok(())) => Ok(text),
            Ok(Err(error)) => Err(fault("UNAVAILABLE", error.to_string())),
            Err(error) => Err(fault("UNAVAILABLE", error.to_string())),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, NodeFault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        invalid(format!(
            "INVALID_REQUEST: at {}: {}",
            error.path(),
            error.inner()
        ))
    })
}

fn agent_of(params: &RunParams) -> String {
    let agent = params
        .agent_id
        .as_deref()
        .map(str::trim)
        .unwrap_or_default();
    if agent.is_empty() { "main" } else { agent }.to_owned()
}

/// SHA-256 of a file, hex; nothing of one that is very large.
pub(crate) fn sha256(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    if file.metadata().ok()?.len() > HASHED_BYTES_MAX {
        return None;
    }
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk).ok()? {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    Some(proof::hex(&hash.finalize()))
}

/// A word as a shell would need it, for people.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
