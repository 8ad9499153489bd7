//! A state directory of OpenClaw, read and never written. What cannot be read for certain refuses
//! the whole import: a part of somebody's jobs is worse than none, because it looks like all.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::ImportError;

/// Everything of a state directory that has a place here. It holds secrets and does not print.
#[derive(Default)]
pub(super) struct Source {
    /// `jobs.json`: its jobs, in their order.
    pub(super) jobs: Vec<Value>,
    /// Where `jobs.json` should be, when it is not there.
    pub(super) no_jobs: Option<PathBuf>,
    /// `runs/*.jsonl`, sorted by name.
    pub(super) histories: Vec<History>,
    /// `devices/paired.json`.
    pub(super) devices: Vec<(String, Value)>,
    /// `identity/device.json`, as text: it holds a private key.
    pub(super) identity: Option<Zeroizing<String>>,
    /// Whether there is an `identity/device-auth.json`.
    pub(super) has_client_tokens: bool,
    /// `openclaw.json`: where it is, and what it says.
    pub(super) config: Option<(PathBuf, Map<String, Value>)>,
    /// `agents/*/sessions`, sorted by agent.
    pub(super) sessions: Vec<SessionStore>,
    /// A database of a later OpenClaw, which is not read.
    pub(super) later_database: Option<PathBuf>,
}

/// The sessions of one agent.
pub(super) struct SessionStore {
    /// Its id, which is its directory's name.
    pub(super) agent: String,
    /// `agents/<agent>/sessions`.
    pub(super) dir: PathBuf,
    /// `sessions.json`.
    pub(super) entries: Vec<(String, Value)>,
    /// Every transcript there, put away or not.
    pub(super) transcripts: Vec<PathBuf>,
}

/// The run log of one job.
pub(super) struct History {
    /// The file's name without its ending, which is the job's id.
    pub(super) job_id: String,
    /// Its entries with their line numbers, from 1.
    pub(super) entries: Vec<(usize, Value)>,
    /// The number of a last line that was cut short by the end of its writer.
    pub(super) torn: Option<usize>,
}

impl Source {
    pub(super) fn read(dir: &Path) -> Result<Self, ImportError> {
        if !dir.is_dir() {
            return Err(ImportError::NoSource {
                path: dir.to_owned(),
            });
        }
        let mut source = Self::default();
        let config_path = dir.join("openclaw.json");
        if let Some(text) = read(&config_path)? {
            match json5(&config_path, &text)? {
                Value::Object(config) => source.config = Some((config_path, config)),
                _ => return Err(unreadable(&config_path, None, "it is not an object")),
            }
        }
        let jobs_path = source.jobs_path(dir);
        let jobs_text = read(&jobs_path)?;
        match &jobs_text {
            Some(text) => source.jobs = jobs(&jobs_path, text)?,
            None => source.no_jobs = Some(jobs_path.clone()),
        }
        let runs = jobs_path.parent().unwrap_or(dir).join("runs");
        source.histories = histories(&runs)?;
        let devices_path = dir.join("devices/paired.json");
        let devices_text = read(&devices_path)?;
        if let Some(text) = &devices_text {
            source.devices = devices(&devices_path, text)?;
        }
        source.identity = read(&dir.join("identity/device.json"))?.map(Zeroizing::new);
        source.has_client_tokens = dir.join("identity/device-auth.json").is_file();
        source.sessions = session_stores(&dir.join("agents"))?;
        let later = dir.join("state/openclaw.sqlite");
        source.later_database = later.is_file().then_some(later);
        let is_empty = jobs_text.is_none()
            && devices_text.is_none()
            && source.histories.is_empty()
            && source.sessions.is_empty()
            && source.identity.is_none()
            && source.config.is_none();
        if is_empty {
            return Err(ImportError::NothingThere {
                path: dir.to_owned(),
                is_later: source.later_database.is_some(),
            });
        }
        Ok(source)
    }

    /// `cron/jobs.json`, or where `cron.store` of the configuration says.
    fn jobs_path(&self, dir: &Path) -> PathBuf {
        let named = self
            .config
            .as_ref()
            .and_then(|(_, config)| config.get("cron")?.get("store")?.as_str())
            .filter(|path| !path.trim().is_empty());
        match named {
            None => dir.join("cron/jobs.json"),
            Some(path) => match (path.strip_prefix("~/"), std::env::home_dir()) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => dir.join(path),
            },
        }
    }
}

/// A file's text; none when it is not there.
fn read(path: &Path) -> Result<Option<String>, ImportError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, None, &error.to_string())),
    }
}

fn unreadable(path: &Path, line: Option<usize>, why: &str) -> ImportError {
    ImportError::Unreadable {
        file: path.to_owned(),
        line,
        why: why.to_owned(),
    }
}

/// JSON, or JSON with comments, as the original takes it.
fn json5(path: &Path, text: &str) -> Result<Value, ImportError> {
    let strict = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    jsonc_parser::parse_to_serde_value::<Option<Value>>(
        text,
        &jsonc_parser::ParseOptions::default(),
    )
    .ok()
    .flatten()
    .ok_or_else(|| {
        let why = format!("it is not JSON: {strict}");
        unreadable(path, Some(strict.line()), &why)
    })
}

fn jobs(path: &Path, text: &str) -> Result<Vec<Value>, ImportError> {
    let Value::Object(mut file) = json5(path, text)? else {
        return Err(unreadable(path, None, "it is not an object"));
    };
    let line_of = |key: &str| line_of(text, &format!("\"{key}\""), 1);
    match file.get("version") {
        Some(version) if version.as_i64() == Some(1) => {}
        Some(other) => {
            let why = format!("its version is {other}; 1 is the only one that is known");
            return Err(unreadable(path, line_of("version"), &why));
        }
        None => return Err(unreadable(path, None, "it has no version")),
    }
    let Some(Value::Array(jobs)) = file.remove("jobs") else {
        return Err(unreadable(path, line_of("jobs"), "jobs is not a list"));
    };
    let mut seen = HashMap::new();
    for (index, job) in jobs.iter().enumerate() {
        let Some(id) = job.get("id").and_then(Value::as_str) else {
            continue;
        };
        if let Some(first) = seen.insert(id.to_owned(), index) {
            let why = format!("jobs[{first}] and jobs[{index}] have the same id, {id}");
            let line = self::line_of(text, &Value::from(id).to_string(), 2);
            return Err(unreadable(path, line, &why));
        }
    }
    Ok(jobs)
}

/// The line, from 1, of the `nth` place where a text stands.
fn line_of(text: &str, wanted: &str, nth: usize) -> Option<usize> {
    let (at, _) = text.match_indices(wanted).nth(nth - 1)?;
    Some(text[..at].matches('\n').count() + 1)
}

fn histories(dir: &Path) -> Result<Vec<History>, ImportError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(dir, None, &error.to_string())),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| unreadable(dir, None, &error.to_string()))?
            .path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut histories = Vec::with_capacity(paths.len());
    for path in paths {
        if let Some(text) = read(&path)? {
            histories.push(history(&path, &text)?);
        }
    }
    Ok(histories)
}

fn history(path: &Path, text: &str) -> Result<History, ImportError> {
    let mut history = History {
        job_id: path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default(),
        entries: Vec::new(),
        torn: None,
    };
    let mut lines = text.split('\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(entry) => history.entries.push((index + 1, entry)),
            // The log is appended to: a writer that was killed leaves half a line at the end.
            Err(_) if lines.peek().is_none() => history.torn = Some(index + 1),
            Err(error) => {
                let why = format!("it is not JSON: {error}");
                return Err(unreadable(path, Some(index + 1), &why));
            }
        }
    }
    Ok(history)
}

/// Members of an object as they stand there. (A map would keep the last of two with the same key
/// without a word.)
struct Members(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// The sessions of every agent that has any.
fn session_stores(agents: &Path) -> Result<Vec<SessionStore>, ImportError> {
    let mut stores = Vec::new();
    for agent in names(agents)? {
        let dir = agents.join(&agent).join("sessions");
        let path = dir.join("sessions.json");
        let Some(text) = read(&path)? else {
            continue;
        };
        // A writer that was killed leaves an empty file; what it held is nowhere.
        let entries = if text.trim().is_empty() {
            Vec::new()
        } else {
            let Members(entries) = serde_json::from_str(&text).map_err(|error| {
                let why = format!("it is not JSON of sessions: {error}");
                unreadable(&path, Some(error.line()), &why)
            })?;
            entries
        };
        let transcripts = names(&dir)?
            .into_iter()
            .filter(|name| name.contains(".jsonl"))
            .map(|name| dir.join(name))
            .collect();
        stores.push(SessionStore {
            agent: agent.to_lowercase(),
            dir,
            entries,
            transcripts,
        });
    }
    Ok(stores)
}

/// Names in a directory, sorted; none where there is no directory.
fn names(dir: &Path) -> Result<Vec<String>, ImportError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(dir, None, &error.to_string())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(dir, None, &error.to_string()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn devices(path: &Path, text: &str) -> Result<Vec<(String, Value)>, ImportError> {
    let Members(devices) = serde_json::from_str(text).map_err(|error| {
        let why = format!("it is not JSON of devices: {error}");
        unreadable(path, Some(error.line()), &why)
    })?;
    let mut seen = HashMap::new();
    for (index, (id, _)) in devices.iter().enumerate() {
        if seen.insert(id, index).is_some() {
            let line = line_of(text, &format!("{}:", Value::from(id.as_str())), 2);
            return Err(unreadable(
                path,
                line,
                &format!("the device {id} stands there twice"),
            ));
        }
    }
    Ok(devices)
}
