//! The owner of the operator's file: changes it, reads it anew, and says what that changes here.
//!
//! A change goes: the file as it is on disk → what it shall say → the same text edited, so that
//! comments and order stay → judged by the reader that judges it at start → on disk → in effect.
//! One at a time, and nothing is written that the gateway could not start with. Whoever gives the
//! hash of what they saw changes that and nothing newer.

mod edit;
mod file;
mod merge;
mod offline;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use clawgate_core::proof;
use clawgate_protocol::ErrorShape;
use serde_json::{Value, json};

use crate::{
    Gateway,
    clock::now_ms,
    config::{self, Bind, Config, ConfigError, Environment, Issue, Overrides},
    error,
    hub::{Link, Principal},
    outbound::Outbound,
    outbox,
    state::generated_token,
};

pub(crate) use file::read;
pub use offline::{
    EditError, FileChange, SecretFinding, audit_secrets, config_schema, config_schema_at,
    edit_config, edited_config, find_secret, parse_config,
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How sessions end that the configuration does not let in as they are any more.
pub(crate) const AUTH_CHANGED: (u16, &str) = (4001, "gateway auth changed");
/// Nesting that every reader of an answer can follow.
const DEPTH_MAX: usize = 100;

/// What a method does to what the file says.
type Edit = Box<dyn FnOnce(&mut Value) -> Result<(), ErrorShape> + Send>;

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
    Edit(Edit),
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
    /// Whether the session that asked is to end after its answer.
    pub ends_caller: bool,
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

/// What the process began with and does not change.
#[derive(Debug)]
struct Started {
    port: u16,
    bind: Bind,
    default_agent: String,
}

/// A file by what tells one from the next without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    pub(crate) fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(std::fs::metadata(path).ok().map(|meta| {
            (
                meta.dev(),
                meta.ino(),
                meta.size(),
                meta.mtime(),
                meta.mtime_nsec(),
            )
        }))
    }
}

fn default_agent(config: &Config) -> String {
    config
        .agents
        .first()
        .map(|agent| agent.id.clone())
        .unwrap_or_default()
}

/// The owner.
#[derive(Debug)]
pub(crate) struct Settings {
    sources: Sources,
    started: Started,
    /// Held by the one change, or reading, that is under way.
    changing: Mutex<()>,
    /// The file as it was last read.
    seen: ArcSwapOption<Stamp>,
    /// The text on disk that does not hold, and why, while there is one.
    refused: Mutex<Option<Arc<Refused>>>,
}

/// A file that was found changed and cannot be used: what held before goes on.
pub(crate) struct Refused {
    /// Its text, `None` where it cannot even be read.
    pub text: Option<String>,
    /// Everything that is wrong with it.
    pub issues: Vec<Issue>,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refused")
            .field("issues", &self.issues)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// `stamp` is of before `config` was read.
    pub(crate) fn new(sources: Sources, stamp: Stamp, config: &Config) -> Self {
        Self {
            sources,
            started: Started {
                port: config.port,
                bind: config.bind.clone(),
                default_agent: default_agent(config),
            },
            changing: Mutex::default(),
            seen: ArcSwapOption::from_pointee(Some(stamp)),
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

    /// The file on disk, while it is not the one that was last read: what an edit begins with.
    pub(crate) fn unread(&self) -> Option<Refused> {
        if self.has_seen(&Stamp::of(&self.sources.path)) {
            return None;
        }
        let text = read(&self.sources.path).ok().flatten();
        let issues = match config::parse(text.as_deref().unwrap_or_default()) {
            Ok(_) => Vec::new(),
            Err(why) => vec![Issue {
                path: String::new(),
                message: format!("is not JSON5: {why}"),
            }],
        };
        Some(Refused { text, issues })
    }

    /// Whether there is a file to be changed.
    pub(crate) fn has_file(&self) -> bool {
        self.sources.path.exists()
    }

    /// Whether the file is the one that was last read.
    fn has_seen(&self, now: &Stamp) -> bool {
        self.seen.load().as_deref() == Some(now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, refused: Option<Refused>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused.map(Arc::new);
    }

    /// What of a configuration holds only after a restart.
    pub(crate) fn restart_for(&self, config: &Config) -> Vec<&'static str> {
        let mut paths = Vec::new();
        if self.started.port != config.port {
            paths.push("gateway.port");
        }
        if self.started.bind != config.bind {
            paths.push("gateway.bind");
        }
        if self.started.default_agent != default_agent(config) {
            paths.push("agents.list[0].id");
        }
        paths
    }
}

impl Gateway {
    /// Changes the operator's file for a session, and brings into effect what can be. With a base
    /// hash only if the file still is what has that hash. It is on disk and in effect when this
    /// returns. A session whose authority ended meanwhile changes nothing; one whose authority ends
    /// by the change itself still gets its answer, and is to end after it.
    ///
    /// # Errors
    /// In the words of the wire; nothing was changed then.
    pub(crate) async fn change_settings_by(
        self: &Arc<Self>,
        caller: &Arc<Link>,
        base_hash: Option<String>,
        change: Change,
    ) -> Result<Changed, ErrorShape> {
        let caller = Arc::clone(caller);
        let gateway = Arc::clone(self);
        // Waits for the disk, and for programs that hand out secrets.
        let done = tokio::task::spawn_blocking(move || {
            let settings = &gateway.settings;
            let _one = settings.lock();
            let sources = &settings.sources;
            let judge = |text: String| {
                let config = sources.judge(Some(text)).map_err(Unchanged::Invalid)?;
                if caller.may_act(now_ms()) {
                    Ok(config)
                } else {
                    Err(Unchanged::Refused(error::caller_ended()))
                }
            };
            let config = change_file(&sources.path, base_hash.as_deref(), change, judge)?;
            settings
                .seen
                .store(Some(Arc::new(Stamp::of(&sources.path))));
            Ok(gateway.bring_into_effect(config, Some(&caller)))
        });
        match done.await {
            Ok(changed) => changed.map_err(words),
            Err(died) => Err(error::internal("changing the configuration", &died)),
        }
    }

    /// Reads the file anew, because `why`. One that cannot be used changes nothing, and that is
    /// said in the log and by `config.get`. Waits for the disk.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn reload_settings(&self, why: &'static str) -> Result<Changed, ConfigError> {
        let settings = &self.settings;
        let _one = settings.lock();
        let path = &settings.sources.path;
        let stamp = Stamp::of(path);
        let old = self.config();
        let text = read(path);
        settings.seen.store(Some(Arc::new(stamp)));
        let judged = match &text {
            Err(io) => Err(config::unreadable(path, io)),
            // What is being written by an editor, or was lost, is no wish for the defaults.
            Ok(text)
                if old.snapshot.exists
                    && !old.snapshot.raw.trim().is_empty()
                    && text.as_deref().is_none_or(|text| text.trim().is_empty()) =>
            {
                let what = if text.is_none() {
                    "is gone"
                } else {
                    "is empty"
                };
                Err(ConfigError {
                    file: path.clone(),
                    issues: vec![Issue {
                        path: String::new(),
                        message: format!("{what}; what it said before goes on until a restart"),
                    }],
                })
            }
            Ok(text) => settings.sources.judge(text.clone()),
        };
        match judged {
            Ok(config) => Ok(self.bring_into_effect(config, None)),
            Err(wrong) => {
                for issue in &wrong.issues {
                    tracing::error!(
                        why, path = %issue.path,
                        "the configuration is not taken, what held before goes on: {}", issue.message
                    );
                }
                self.health.note_config(Some(json!({
                    "valid": false,
                    "issues": wrong.issues.iter().map(|issue| {
                        json!({"path": issue.path, "message": issue.message})
                    }).collect::<Vec<_>>(),
                })));
                settings.refuse(Some(Refused {
                    text: text.ok().flatten(),
                    issues: wrong.issues.clone(),
                }));
                Err(wrong)
            }
        }
    }

    /// Brings a configuration into effect that is the file's. `caller` is told first and ended
    /// after that.
    fn bring_into_effect(&self, config: Config, caller: Option<&Link>) -> Changed {
        let old = self.config();
        let config = Arc::new(config);
        let touched = touched(&old.snapshot.parsed, &config.snapshot.parsed);
        self.live.store(Arc::clone(&config));
        crate::tools::reloaded(self, &old.snapshot.parsed, &config.snapshot.parsed);
        self.settings.refuse(None);
        for issue in &config.snapshot.warnings {
            if !old.snapshot.warnings.contains(issue) {
                tracing::warn!(path = %issue.path, "configuration: {}", issue.message);
            }
        }
        self.guard.set_limits(config.rate_limit);
        if old.cron != config.cron {
            self.delivery_way.store(Arc::new(outbox::Way::new(
                Outbound::new(config.cron.dial.clone()),
                config.cron.webhook_token.clone(),
            )));
            self.scheduler.configure_blocking(&config.cron);
        }
        self.turns.configure(&config.snapshot.parsed);
        self.health.configure(&config, now_ms());
        let ends = |principal: &Principal| {
            let standing = principal.standing.as_deref();
            standing.is_some_and(|standing| !standing.holds(&principal.grant, &old, &config))
        };
        let except = caller.map(|link| link.principal.conn_id.as_str());
        let ended = if config.admits_like(&old) {
            0
        } else {
            // Also has those judged again that were being judged by what held before.
            self.hub
                .revoke(AUTH_CHANGED.0, AUTH_CHANGED.1, except, ends)
        };
        let restart = self.settings.restart_for(&config);
        let waits = (!restart.is_empty()).then(|| json!({"valid": true, "restart": restart}));
        self.health.note_config(waits);
        if !touched.is_empty() {
            tracing::info!(
                changed = ?touched, after_restart = ?restart, sessions_ended = ended,
                "another configuration holds"
            );
        }
        Changed {
            ends_caller: caller.is_some_and(|link| ends(&link.principal)),
            config,
            touched,
            restart,
        }
    }

    /// Follows the file for as long as the gateway runs: another one is taken when it has been the
    /// same for a while, so that none is read half written.
    pub(crate) async fn watch_settings(self: Arc<Self>) {
        let mut looked = tokio::time::interval(LOOK_EVERY);
        looked.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last: Option<(Stamp, tokio::time::Instant)> = None;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = looked.tick() => {}
            }
            let reload = self.config().reload;
            let now = Stamp::of(&self.settings.sources.path);
            if !reload.watches || self.settings.has_seen(&now) {
                last = None;
                continue;
            }
            let since = match last.take() {
                Some((stamp, since)) if stamp == now => since,
                _ => tokio::time::Instant::now(),
            };
            if since.elapsed() < reload.debounce {
                last = Some((now, since));
                continue;
            }
            self.reload_settings_soon("the file changed").await;
        }
    }

    /// Reads the file anew on a thread that may wait. What is wrong with it is in the log.
    pub(crate) async fn reload_settings_soon(self: &Arc<Self>, why: &'static str) {
        let gateway = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || drop(gateway.reload_settings(why)));
        if let Err(died) = done.await {
            tracing::error!(%died, "reading the configuration anew failed inside");
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
    judge: impl FnOnce(String) -> Result<T, Unchanged>,
) -> Result<T, Unchanged> {
    let held = file::Held::take(path).map_err(Unchanged::Io)?;
    let now = held.text().unwrap_or_default();
    if base_hash.is_some_and(|seen| seen != proof::fingerprint(now)) {
        return Err(Unchanged::Stale);
    }
    let text = changed(now, change)?;
    let judged = judge(text.clone())?;
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
    Ok(text)
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
fn words(unchanged: Unchanged) -> ErrorShape {
    match unchanged {
        Unchanged::Io(io) => error::file("the configuration file", &io),
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
