//! Owner of the file of what may be run here: `exec-approvals.json` in the state directory.
//!
//! The operator's editor, the command line and the gateway all write it. Each change is made from
//! what is there, under a lock beside the file, and replaces it whole: written beside its place
//! (0600), synced, moved. A file that cannot be read is refused and left as it is, and lets
//! nothing run.

use std::{
    collections::BTreeMap,
    fs::{self, File as Handle, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clawgate_core::proof;
use clawgate_protocol::{
    approval::{AGENT_KEPT, ENTRY_KEPT, Snapshot},
    exec_policy::{Agent, Entry, File, Rest, Rules, Socket, VERSION},
};

use crate::state::{StateError, write_private};

/// Bytes of a file at most.
const BYTES_MAX: u64 = 1024 * 1024;

/// Why the file cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The caller did not say from what its change is made.
    #[error("exec approvals base hash required; re-run exec.approvals.get and retry")]
    NoBase,
    /// Somebody else changed it meanwhile.
    #[error("exec approvals changed since last load; re-run exec.approvals.get and retry")]
    Changed,
    /// What is there, or would be, is not such a file.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// The file, wherever it lies.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    path: PathBuf,
}

/// The file as it was read.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether it is there.
    pub exists: bool,
    /// SHA-256 of its text.
    pub hash: String,
    /// What it says, all of it.
    pub file: File,
}

impl PolicyFile {
    /// The file of a state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("exec-approvals.json"),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. One that is not there says nothing.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn read(&self) -> Result<Policy, PolicyError> {
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(crate::state::nofollow())
            .open(&self.path);
        let mut text = String::new();
        let exists = match handle {
            Ok(handle) => {
                handle
                    .take(BYTES_MAX + 1)
                    .read_to_string(&mut text)
                    .map_err(|source| self.io(source))?;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(self.io(source)),
        };
        if text.len() as u64 > BYTES_MAX {
            return Err(self.unreadable(format!("it is larger than {BYTES_MAX} bytes")));
        }
        let file = if exists {
            serde_json::from_str(&text).map_err(|error| self.unreadable(error.to_string()))?
        } else {
            File::default()
        };
        if file.version != VERSION {
            return Err(self.unreadable(format!("version {} is not known", file.version)));
        }
        Ok(Policy {
            exists,
            hash: proof::fingerprint(&text),
            file,
        })
    }

    /// The file as it is shown.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn snapshot(&self) -> Result<Snapshot, PolicyError> {
        self.read().map(|policy| self.shown(policy))
    }

    /// Replaces it by what somebody made of what was shown. Members that were not shown stay.
    ///
    /// # Errors
    /// Somebody else was quicker; or the file cannot be used.
    pub fn replace(&self, base: Option<&str>, incoming: File) -> Result<Snapshot, PolicyError> {
        let lock = self.lock()?;
        let current = self.read()?;
        match base {
            None if current.exists => return Err(PolicyError::NoBase),
            Some(base) if base != current.hash => return Err(PolicyError::Changed),
            None | Some(_) => {}
        }
        let written = self.write(merged(current.file, incoming))?;
        drop(lock);
        Ok(self.shown(written))
    }

    /// Changes it in place. Nothing is written when `change` says that there is nothing to keep.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn change<T, E>(
        &self,
        change: impl FnOnce(&mut File) -> Result<T, E>,
    ) -> Result<Result<T, E>, PolicyError> {
        let lock = self.lock()?;
        let mut file = self.read()?.file;
        let outcome = change(&mut file);
        if outcome.is_ok() {
            self.write(file)?;
        }
        drop(lock);
        Ok(outcome)
    }

    /// One change at a time, by whichever process. Ends with the handle.
    fn lock(&self) -> Result<Handle, PolicyError> {
        let path = self.path.with_extension("lock");
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(crate::state::nofollow())
            .open(&path);
        let locked = open.and_then(|handle| handle.lock().map(|()| handle));
        locked.map_err(|source| PolicyError::Io { path, source })
    }

    fn write(&self, mut file: File) -> Result<Policy, PolicyError> {
        for entry in file
            .agents
            .values_mut()
            .flat_map(|agent| &mut agent.allowlist)
        {
            if entry.id.as_ref().is_none_or(|id| id.trim().is_empty()) {
                entry.id = Some(uuid::Uuid::new_v4().to_string());
            }
        }
        let mut text = serde_json::to_string_pretty(&file)
            .map_err(|error| self.unreadable(error.to_string()))?;
        text.push('\n');
        if text.len() as u64 > BYTES_MAX {
            return Err(self.unreadable(format!("it would be larger than {BYTES_MAX} bytes")));
        }
        write_private(&self.path, &text).map_err(|error| match error {
            StateError::Io { source, .. } => self.io(source),
            other => self.io(io::Error::other(other.to_string())),
        })?;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        fs::File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| self.io(source))?;
        Ok(Policy {
            exists: true,
            hash: proof::fingerprint(&text),
            file,
        })
    }

    fn shown(&self, policy: Policy) -> Snapshot {
        let mut file = policy.file;
        file.rest.clear();
        file.defaults.rest.clear();
        for agent in file.agents.values_mut() {
            agent.rules.rest = split(&agent.rules.rest, AGENT_KEPT).0;
            for entry in &mut agent.allowlist {
                entry.rest = split(&entry.rest, ENTRY_KEPT).0;
            }
        }
        // Clients of the original expect to read where its helper would listen.
        let beside = self.path.with_extension("sock").display().to_string();
        let path = file.socket.and_then(|socket| socket.path);
        file.socket = Some(Socket {
            path: Some(path.unwrap_or(beside)),
            ..Socket::default()
        });
        Snapshot {
            path: self.path.display().to_string(),
            exists: policy.exists,
            hash: policy.hash,
            file,
        }
    }

    fn io(&self, source: io::Error) -> PolicyError {
        PolicyError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn unreadable(&self, why: String) -> PolicyError {
        PolicyError::Unreadable {
            path: self.path.clone(),
            why,
        }
    }
}

/// Members by whether they are shown.
fn split(rest: &Rest, kept: &[&str]) -> (Rest, Rest) {
    let all = rest.iter().map(|(key, value)| (key.clone(), value.clone()));
    all.partition(|(key, _)| kept.contains(&key.as_str()))
}

/// What somebody made of what was shown, with what was not shown put back. An entry that is the
/// same as before does not get wider because a client did not know what narrows it.
fn merged(current: File, incoming: File) -> File {
    let old = current.socket.unwrap_or_default();
    let new = incoming.socket.unwrap_or_default();
    let socket = Socket {
        path: new.path.or(old.path),
        token: new.token.or(old.token),
        rest: old.rest,
    };
    let mut agents = incoming.agents;
    for (name, agent) in &mut agents {
        if let Some(old) = current.agents.get(name) {
            restore(agent, old);
        }
    }
    File {
        version: VERSION,
        socket: (socket != Socket::default()).then_some(socket),
        defaults: Rules {
            rest: current.defaults.rest,
            ..incoming.defaults
        },
        agents,
        rest: current.rest,
    }
}

fn restore(agent: &mut Agent, old: &Agent) {
    agent
        .rules
        .rest
        .extend(split(&old.rules.rest, AGENT_KEPT).1);
    let by_id: BTreeMap<&str, &Entry> = old
        .allowlist
        .iter()
        .filter_map(|entry| Some((entry.id.as_deref()?, entry)))
        .collect();
    for entry in &mut agent.allowlist {
        let was = entry.id.as_deref().and_then(|id| by_id.get(id));
        let Some(was) = was.filter(|was| was.pattern == entry.pattern) else {
            continue;
        };
        entry.rest.extend(split(&was.rest, ENTRY_KEPT).1);
        let narrow = |now: &mut Option<String>, was: &Option<String>| {
            if now.is_none() {
                now.clone_from(was);
            }
        };
        narrow(&mut entry.cwd, &was.cwd);
        narrow(&mut entry.sha256, &was.sha256);
        narrow(&mut entry.operand_sha256, &was.operand_sha256);
        narrow(&mut entry.arg_pattern, &was.arg_pattern);
        if entry.argv.is_none() {
            entry.argv.clone_from(&was.argv);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file(value: Value) -> File {
        serde_json::from_value(value).expect("a file")
    }

    #[test]
    fn what_was_not_shown_is_put_back_and_nothing_gets_wider() {
        let current = file(json!({
            "version": 1, "later": 1, "socket": {"path": "/s", "token": "secret"},
            "defaults": {"strict": true},
            "agents": {"main": {"x": 1, "allowlist": [
                {"id": "a", "pattern": "/bin/sh", "argv": ["sh"], "cwd": "/", "sha256": "aa", "y": 1},
                {"id": "b", "pattern": "/bin/ls", "sha256": "bb"},
            ]}},
        }));
        let incoming = file(json!({
            "version": 1, "socket": {"path": "/s"}, "defaults": {"security": "allowlist"},
            "agents": {"main": {"allowlist": [
                {"id": "a", "pattern": "/bin/sh"}, {"id": "b", "pattern": "/bin/*"},
                {"pattern": "/bin/cat"},
            ]}},
        }));
        let wanted = file(json!({
            "version": 1, "later": 1, "socket": {"path": "/s", "token": "secret"},
            "defaults": {"security": "allowlist", "strict": true},
            "agents": {"main": {"x": 1, "allowlist": [
                {"id": "a", "pattern": "/bin/sh", "argv": ["sh"], "cwd": "/", "sha256": "aa", "y": 1},
                {"id": "b", "pattern": "/bin/*"}, {"pattern": "/bin/cat"},
            ]}},
        }));
        assert_eq!(merged(current, incoming), wanted);
    }
}
