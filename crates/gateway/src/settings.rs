//! The owner of the operator's file: changes it, reads it anew, and says what that changes here.
//!
//! A change goes: the file as it is on disk → what it shall say → the same text edited, so that
//! comments and order stay → judged by the reader that judges it at start → on disk → in effect.
//! One at a time, and nothing is written that the gateway could not start with. Whoever gives the
//! hash of what they saw changes that and nothing newer.

mod edit;
mod file;
mod merge;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clawgate_core::proof;
use clawgate_protocol::ErrorShape;
use serde_json::{Value, json};

use crate::{
    Gateway,
    config::{self, Bind, Config, ConfigError, Environment, Issue, Overrides},
    error,
    state::generated_token,
};

pub(crate) use file::read;

/// Nesting that every reader of an answer can follow.
const DEPTH_MAX: usize = 100;

/// What shall become of the file.
pub(crate) enum Change {
    /// A merge patch: null removes, lists of things with an `id` are merged by it.
    Merge(Value),
    /// The same, refused where a list would lose items and is not named, as in
    /// `agents.list[].skills`.
    MergeNaming {
        /// The patch.
        patch: Value,
        /// Lists that may lose items.
        replace_paths: Vec<String>,
    },
    /// A whole text. Without comments of its own it is written into the text that is there.
    Replace(String),
    /// Whatever a method does to what the file says, or why it cannot. It sees secrets.
    Edit(Box<dyn FnOnce(&mut Value) -> Result<(), ErrorShape> + Send>),
}

impl Change {
    /// An edit.
    pub(crate) fn edit(
        edit: impl FnOnce(&mut Value) -> Result<(), ErrorShape> + Send + 'static,
    ) -> Self {
        Self::Edit(Box::new(edit))
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Merge(_) => "Merge",
            Self::MergeNaming { .. } => "MergeNaming",
            Self::Replace(_) => "Replace",
            Self::Edit(_) => "Edit",
        })
    }
}

/// What a change did.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// What holds now.
    pub config: Arc<Config>,
    /// Paths that say something else than before, such as `gateway.auth` or `agents`.
    pub touched: Vec<String>,
    /// What of the file holds only after a restart.
    pub restart: Vec<&'static str>,
}

/// Why a text is not changed.
#[derive(Debug)]
pub(crate) enum Unchanged {
    /// The file on disk cannot be read or written.
    Io(std::io::Error),
    /// The file is not what the caller saw.
    Stale,
    /// What is given, or what is there, is not JSON5.
    Syntax(String),
    /// It is no object.
    NotAnObject,
    /// It is larger than a configuration may be, or nested deeper.
    TooMuch(&'static str),
    /// A masked value that stands for nothing in the file.
    Masked(String),
    /// Lists that would lose items.
    Shrunk(Vec<String>),
    /// A gateway would not start with it.
    Invalid(ConfigError),
    /// The method that asked says no.
    Refused(ErrorShape),
    /// The text could not be made to say what it shall.
    Inside,
}

/// Where the configuration comes from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub path: PathBuf,
    pub state_dir: PathBuf,
    pub overrides: Overrides,
    pub environment: Environment,
}

impl Sources {
    /// Reads and judges the file.
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        let text = read(&self.path).map_err(|error| config::unreadable(&self.path, &error))?;
        self.judge(text)
    }

    /// Judges a text as if it were the file's. `None` is no file.
    fn judge(&self, text: Option<String>) -> Result<Config, ConfigError> {
        Config::of(&self.path, text, &self.overrides, &self.environment, || {
            generated_token(&self.state_dir)
        })
    }
}

/// The owner.
#[derive(Debug)]
pub(crate) struct Settings {
    sources: Sources,
    /// What the process began with and cannot change.
    started: (u16, Bind),
    /// Held by the one change, or reading, that is under way.
    changing: Mutex<()>,
    /// The text on disk that does not hold, and why, while there is one.
    refused: Mutex<Option<Arc<Refused>>>,
}

/// A file that was found changed and cannot be used: what held before goes on.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its text, `None` where it cannot even be read.
    pub text: Option<String>,
    /// Everything that is wrong with it.
    pub issues: Vec<Issue>,
}

impl Settings {
    pub(crate) fn new(sources: Sources, config: &Config) -> Self {
        Self {
            sources,
            started: (config.port, config.bind.clone()),
            changing: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// What is wrong with the file on disk, while that is not the one that holds.
    pub(crate) fn refused(&self) -> Option<Arc<Refused>> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn refuse(&self, refused: Option<Refused>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused.map(Arc::new);
    }

    /// What of a configuration holds only after a restart.
    pub(crate) fn restart_for(&self, config: &Config) -> Vec<&'static str> {
        let (port, bind) = &self.started;
        let mut paths = Vec::new();
        if *port != config.port {
            paths.push("gateway.port");
        }
        if *bind != config.bind {
            paths.push("gateway.bind");
        }
        paths
    }
}

impl Gateway {
    /// Changes the operator's file and brings into effect what can be. With a base hash only if
    /// the file still is what has that hash. It is on disk and in effect when this returns.
    ///
    /// # Errors
    /// In the words of the wire; nothing was changed then.
    pub(crate) async fn change_settings(
        self: &Arc<Self>,
        base_hash: Option<String>,
        change: Change,
    ) -> Result<Changed, ErrorShape> {
        let gateway = Arc::clone(self);
        // Waits for the disk, and for programs that hand out secrets.
        let done = tokio::task::spawn_blocking(move || {
            let settings = &gateway.settings;
            let _one = settings
                .changing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let sources = &settings.sources;
            let judge = |text: String| sources.judge(Some(text));
            let config = change_file(&sources.path, base_hash.as_deref(), change, judge)?;
            Ok(gateway.take_settings(config))
        });
        match done.await {
            Ok(changed) => changed.map_err(words),
            Err(died) => Err(error::internal("changing the configuration", &died)),
        }
    }

    /// Brings a configuration into effect that is the file's.
    fn take_settings(&self, config: Config) -> Changed {
        let old = self.config();
        let config = Arc::new(config);
        let touched = touched(&old.snapshot.parsed, &config.snapshot.parsed);
        self.live.store(Arc::clone(&config));
        self.settings.refuse(None);
        let restart = self.settings.restart_for(&config);
        self.health
            .set_agents(&config.agents, crate::clock::now_ms());
        if !touched.is_empty() {
            tracing::info!(changed = ?touched, after_restart = ?restart, "the configuration changed");
        }
        Changed {
            config,
            touched,
            restart,
        }
    }
}

/// Changes a file, without a gateway: judged by `judge`, written when that is content.
///
/// # Errors
/// Why nothing was changed.
pub(crate) fn change_file<T>(
    path: &Path,
    base_hash: Option<&str>,
    change: Change,
    judge: impl FnOnce(String) -> Result<T, ConfigError>,
) -> Result<T, Unchanged> {
    let held = file::Held::take(path).map_err(Unchanged::Io)?;
    let now = held.text().unwrap_or_default();
    if base_hash.is_some_and(|seen| seen != proof::fingerprint(now)) {
        return Err(Unchanged::Stale);
    }
    let text = changed(now, change)?;
    let judged = judge(text.clone()).map_err(Unchanged::Invalid)?;
    if held.text() != Some(text.as_str()) {
        held.replace(&text).map_err(Unchanged::Io)?;
    }
    Ok(judged)
}

/// The text that a change makes of a text.
fn changed(now: &str, change: Change) -> Result<String, Unchanged> {
    let said = || config::parse(now).map_err(Unchanged::Syntax);
    let (base, said, wanted) = match change {
        Change::Merge(patch) => {
            let said = said()?;
            let wanted = merge::merged(&said, &patch, "", &mut Vec::new());
            (now.to_owned(), said, wanted)
        }
        Change::MergeNaming {
            patch,
            replace_paths,
        } => {
            let said = said()?;
            let mut shrunk = Vec::new();
            let wanted = merge::merged(&said, &patch, "", &mut shrunk);
            shrunk.retain(|path| !replace_paths.contains(path));
            if !shrunk.is_empty() {
                return Err(Unchanged::Shrunk(shrunk));
            }
            (now.to_owned(), said, wanted)
        }
        Change::Edit(edit) => {
            let said = said()?;
            let mut wanted = said.clone();
            edit(&mut wanted).map_err(Unchanged::Refused)?;
            (now.to_owned(), said, wanted)
        }
        Change::Replace(text) => {
            if text.len() > file::BYTES_MAX {
                return Err(Unchanged::TooMuch("it is too large"));
            }
            let wanted = config::parse(&text).map_err(Unchanged::Syntax)?;
            // What is there may be what the caller wants to be rid of.
            match said() {
                Ok(said) if !edit::has_comments(&text) => (now.to_owned(), said, wanted),
                Ok(said) => {
                    let whole = merge::unmasked(&wanted, &said).map_err(Unchanged::Masked)?;
                    return finished(&text, &wanted, &whole);
                }
                Err(_) => (text, wanted.clone(), wanted),
            }
        }
    };
    let wanted = merge::unmasked(&wanted, &said).map_err(Unchanged::Masked)?;
    finished(&base, &said, &wanted)
}

fn finished(base: &str, said: &Value, wanted: &Value) -> Result<String, Unchanged> {
    if !wanted.is_object() {
        return Err(Unchanged::NotAnObject);
    }
    if depth(wanted) > DEPTH_MAX {
        return Err(Unchanged::TooMuch("it is nested too deeply"));
    }
    if said == wanted && !base.trim().is_empty() {
        return Ok(base.to_owned());
    }
    let text = edit::edited(base, said, wanted).ok_or(Unchanged::Inside)?;
    if text.len() > file::BYTES_MAX {
        return Err(Unchanged::TooMuch("it would be too large"));
    }
    match config::parse(&text) {
        Ok(says) if says == *wanted => Ok(text),
        _ => Err(Unchanged::Inside),
    }
}

fn depth(value: &Value) -> usize {
    let deepest = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(map) => map.values().map(depth).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 0,
    };
    1 + deepest.unwrap_or(0)
}

/// Where two configurations differ: by section, and by member of `gateway`.
fn touched(old: &Value, new: &Value) -> Vec<String> {
    let keys = |value: &Value| -> Vec<String> {
        let map = value.as_object();
        map.into_iter()
            .flat_map(|map| map.keys().cloned())
            .collect()
    };
    let differ = |old: &Value, new: &Value| -> Vec<String> {
        let mut all = keys(old);
        all.extend(keys(new).into_iter().filter(|key| old.get(key).is_none()));
        all.retain(|key| old.get(key) != new.get(key));
        all
    };
    let mut paths = Vec::new();
    for section in differ(old, new) {
        let (before, after) = (old.get(&section), new.get(&section));
        if section == "gateway" {
            let null = Value::Null;
            let members = differ(before.unwrap_or(&null), after.unwrap_or(&null));
            paths.extend(
                members
                    .into_iter()
                    .map(|member| format!("gateway.{member}")),
            );
        } else {
            paths.push(section);
        }
    }
    paths
}

/// Why nothing was changed, in the words of the wire.
pub(crate) fn words(unchanged: Unchanged) -> ErrorShape {
    match unchanged {
        Unchanged::Io(io) => error::internal("the configuration file", &io),
        Unchanged::Stale => ErrorShape::invalid(
            "config changed since last load; re-run config.get and retry",
        ),
        Unchanged::Syntax(message) => ErrorShape::invalid(format!("SyntaxError: JSON5: {message}")),
        Unchanged::NotAnObject => invalid(&[Issue {
            path: String::new(),
            message: "expected an object".to_owned(),
        }]),
        Unchanged::TooMuch(why) => ErrorShape::invalid(format!("invalid config: {why}")),
        Unchanged::Masked(path) => ErrorShape::invalid(format!(
            "invalid config: {path}: a masked value stands for nothing in the file; give the value itself"
        ))
        .with_details(json!({"code": "CONFIG_MASKED_VALUE", "path": path})),
        Unchanged::Shrunk(paths) => ErrorShape::invalid(format!(
            "config.patch would remove items of {}; name the path in replacePaths to replace the list",
            paths.join(", ")
        ))
        .with_details(json!({"code": "CONFIG_REPLACE_PATHS", "paths": paths})),
        Unchanged::Invalid(error) => invalid(&error.issues),
        Unchanged::Refused(error) => error,
        Unchanged::Inside => error::internal("editing the configuration", &"the text did not follow"),
    }
}

/// `invalid config: …`, every issue with its path.
fn invalid(issues: &[Issue]) -> ErrorShape {
    let said: Vec<String> = issues
        .iter()
        .map(|issue| match issue.path.as_str() {
            "" => issue.message.clone(),
            path => format!("{path}: {}", issue.message),
        })
        .collect();
    let rows: Vec<Value> = issues
        .iter()
        .map(|issue| json!({"path": issue.path, "message": issue.message}))
        .collect();
    ErrorShape::invalid(format!("invalid config: {}", said.join("; ")))
        .with_details(json!({"issues": rows}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(now: &str, patch: &Value) -> Result<String, Unchanged> {
        changed(now, Change::Merge(patch.clone()))
    }

    #[test]
    fn a_patch_edits_the_text_in_place() {
        let now = "{ // mine\n  gateway: {port: 1}, // kept\n}\n";
        let text = merged(now, &json!({"agents": {"list": [{"id": "a"}]}})).unwrap();
        assert!(
            text.starts_with("{ // mine\n  gateway: {port: 1}, // kept\n"),
            "{text}"
        );
        let back = merged(&text, &json!({"agents": null})).unwrap();
        assert_eq!(config::parse(&back), config::parse(now));
        assert_eq!(merged(now, &json!({"gateway": {"port": 1}})).unwrap(), now);
    }

    #[test]
    fn a_text_without_comments_is_written_into_the_one_with_them() {
        let now = "{ // mine\n  gateway: {port: 1, auth: {token: 'canary'}}, // kept\n}\n";
        let given = r#"{"gateway": {"port": 2, "auth": {"token": "__OPENCLAW_REDACTED__"}}}"#;
        let text = changed(now, Change::Replace(given.to_owned())).unwrap();
        assert!(
            text.contains("// mine") && text.contains("// kept"),
            "{text}"
        );
        assert!(text.contains("canary"));
        let given = given.replace('}', "} // theirs\n");
        let text = changed(now, Change::Replace(given)).unwrap();
        assert!(
            !text.contains("// mine") && text.contains("// theirs"),
            "{text}"
        );
        assert!(text.contains("canary"));
    }

    #[test]
    fn what_cannot_be_a_configuration_is_refused() {
        let deep = format!("{}1{}", "{a:".repeat(101), "}".repeat(101));
        for text in ["{nope", "[]", "5", &deep] {
            assert!(
                changed("{}", Change::Replace(text.to_owned())).is_err(),
                "{text}"
            );
        }
        assert!(matches!(
            merged("{nope", &json!({"a": 1})),
            Err(Unchanged::Syntax(_))
        ));
        // A broken file can be replaced.
        assert_eq!(
            changed("{nope", Change::Replace("{a: 1}".to_owned())).unwrap(),
            "{a: 1}"
        );
    }

    #[test]
    fn differences_are_named_by_section_and_by_member_of_the_gateway() {
        let old = json!({"gateway": {"port": 1, "auth": {"token": "a"}}, "cron": {}, "ui": 1});
        let new = json!({"gateway": {"port": 1, "auth": {"token": "b"}, "bind": "lan"}, "ui": 1,
            "agents": {}});
        assert_eq!(
            touched(&old, &new),
            ["gateway.auth", "gateway.bind", "cron", "agents"]
        );
    }
}
