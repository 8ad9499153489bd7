//! The configuration file as a client reads it: where it is, and what of it matters here.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clawgate_gateway::{ConfigError, Issue};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

use crate::{
    app::Globals,
    env::{self, Env},
    error::{CommandError, CommandResult},
};

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The client's state directory.
    pub(crate) state_dir: PathBuf,
    /// Whether `--state-dir` named it.
    pub(crate) state_dir_by_flag: bool,
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Where this machine's gateway keeps its state; another place than the client's where only the
    /// original's variable names one.
    pub(crate) gateway_state_dir: PathBuf,
}

impl Paths {
    /// Flags, then ours of the environment, then the original's, then the defaults.
    pub(crate) fn find(globals: &Globals, env: &Env) -> Self {
        let state_dir = state_dir(globals, env);
        // A state directory that was asked for brings its configuration along.
        let asked = globals.state_dir.is_some() || globals.profile.is_some();
        let from_env = || env.first(env::CONFIG_PATH).filter(|_| !asked);
        let config = globals
            .config
            .clone()
            .or_else(|| from_env().map(|(path, _)| expand_home(path, &home(env))))
            .unwrap_or_else(|| config_in(&state_dir));
        Self {
            gateway_state_dir: self::state_dir(globals, &env.without_the_originals()),
            state_dir,
            state_dir_by_flag: globals.state_dir.is_some(),
            config,
        }
    }

    /// Where a gateway keeps its own state: never in a directory that is only named for clients of
    /// the original.
    pub(crate) fn of_gateway(globals: &Globals, env: &Env) -> Self {
        Self::find(globals, &env.without_the_originals())
    }

    /// Every directory in which a gateway of this machine may keep its state, the client's first.
    pub(crate) fn of_local_gateway(&self) -> impl Iterator<Item = &Path> {
        let own = Some(self.gateway_state_dir.as_path()).filter(|dir| *dir != self.state_dir);
        std::iter::once(self.state_dir.as_path()).chain(own)
    }
}

fn home(env: &Env) -> PathBuf {
    PathBuf::from(env.first(env::HOME).map_or(".", |(home, _)| home))
}

fn state_dir(globals: &Globals, env: &Env) -> PathBuf {
    if let Some(dir) = &globals.state_dir {
        return dir.clone();
    }
    // A profile names a state directory; the environment's is for the unnamed one.
    if let Some(profile) = &globals.profile {
        return home(env).join(format!(".clawgate-{profile}"));
    }
    match env.first(env::STATE_DIR) {
        Some((dir, _)) => expand_home(dir, &home(env)),
        None => home(env).join(".clawgate"),
    }
}

/// Ours, or the original's if only that one is there.
fn config_in(state_dir: &Path) -> PathBuf {
    let ours = state_dir.join("clawgate.json");
    let original = state_dir.join("openclaw.json");
    if !ours.exists() && original.exists() {
        original
    } else {
        ours
    }
}

fn expand_home(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None if path == "~" => home.to_owned(),
        None => PathBuf::from(path),
    }
}

/// A configuration, read.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where it is, or would be.
    pub(crate) path: PathBuf,
    /// Whether there is a file.
    pub(crate) exists: bool,
    root: Value,
}

/// What the gateway says of a file: warnings, or why it would not start with it.
pub(crate) fn judged(path: &Path, env: &Env) -> Result<Vec<Issue>, ConfigError> {
    clawgate_gateway::validate(path, env.of_gateway(env::GATEWAY_PASSWORD))
}

impl Config {
    /// Reads the file; no file is an empty configuration.
    pub(crate) fn load(path: &Path) -> CommandResult<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(CommandError::config(format!(
                    "cannot read the configuration {}: {error}",
                    path.display()
                )));
            }
        };
        let exists = text.is_some();
        let root = parse(text.as_deref().unwrap_or_default()).map_err(|problem| {
            CommandError::config(format!(
                "the configuration {} is broken: {problem}",
                path.display()
            ))
            .hint("clawgate config validate")
        })?;
        Ok(Self {
            path: path.to_owned(),
            exists,
            root,
        })
    }

    /// Everything in it, secrets too.
    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// A member by dotted path (`gateway.auth.mode`, `agents.list[0].id`).
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        let mut value = &self.root;
        for part in path.split('.') {
            let (name, indexes) = part.split_once('[').map_or((part, ""), |(n, i)| (n, i));
            if !name.is_empty() {
                value = value.get(name)?;
            }
            for index in indexes.split('[').filter(|index| !index.is_empty()) {
                value = value.get(index.strip_suffix(']')?.parse::<usize>().ok()?)?;
            }
        }
        Some(value)
    }

    /// A member with every secret masked, as the gateway itself would show it.
    pub(crate) fn masked(&self, path: &str) -> Option<Value> {
        // The whole is masked: whether a value is a secret can depend on what it stands in.
        let whole = Self {
            root: clawgate_gateway::redact(&self.root),
            ..self.clone()
        };
        whole.get(path).cloned()
    }

    /// A text; `${NAME}` stands for the variable, and counts as absent when that is not set.
    pub(crate) fn text(&self, path: &str) -> CommandResult<Option<String>> {
        match self.get(path) {
            None | Some(Value::Null | Value::Object(_)) => Ok(None),
            Some(Value::String(text)) => Ok(resolve(text)),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
                Err(self.wrong(path, "a text"))
            }
        }
    }

    /// A port.
    pub(crate) fn port(&self, path: &str) -> CommandResult<Option<u16>> {
        match self.get(path) {
            None | Some(Value::Null) => Ok(None),
            // The gateway lets the system choose then; which one it chose, no file knows.
            Some(value) if value.as_u64() == Some(0) => Ok(None),
            Some(value) => value
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0)
                .map(Some)
                .ok_or_else(|| self.wrong(path, "a port from 1 to 65535")),
        }
    }

    fn wrong(&self, path: &str, expected: &str) -> CommandError {
        let error = CommandError::config(format!(
            "{path} in {} is not {expected}",
            self.path.display()
        ));
        // What only clients read is none of the gateway's concern, whose reading is checked there.
        if path.starts_with("gateway.remote") {
            error
        } else {
            error.hint("clawgate config validate")
        }
    }
}

/// JSON with comments, by the gateway's rules: both read the same file.
fn parse(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    parse_to_serde_value::<Value>(text, &ParseOptions::default()).map_err(|error| error.to_string())
}

fn resolve(text: &str) -> Option<String> {
    let text = text.trim();
    let placeholder = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    match placeholder {
        Some(name) => Env::named(name),
        None if text.is_empty() => None,
        None => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(text: &str) -> Config {
        Config {
            path: "c.json".into(),
            exists: true,
            root: parse(text).unwrap(),
        }
    }

    #[test]
    fn json5_is_read_and_members_are_found() {
        let config =
            config("// mine\n{gateway: {port: 0x4965, auth: {token: 'a b',}, list: [{id: 'x'}]}}");
        assert_eq!(config.port("gateway.port").unwrap(), Some(18789));
        assert_eq!(
            config.text("gateway.auth.token").unwrap().as_deref(),
            Some("a b")
        );
        assert_eq!(config.get("gateway.list[0].id"), Some(&json!("x")));
        assert_eq!(config.get("gateway.nope"), None);
        assert!(parse("{").is_err());
        assert_eq!(parse("  ").unwrap(), json!({}));
    }

    #[test]
    fn an_unresolved_placeholder_counts_as_absent() {
        let config = config(r#"{"gateway":{"auth":{"token":"${CLAWGATE_TEST_IS_NOT_SET}"}}}"#);
        assert_eq!(config.text("gateway.auth.token").unwrap(), None);
    }

    #[test]
    fn secrets_are_masked_wherever_they_are() {
        let config = config(
            r#"{"gateway":{"auth":{"mode":"token","token":"canary"}},
            "hooks":{"token":"canary"},"models":{"apiKey":"canary","list":[{"botToken":"canary"}],
            "headers":{"x":"canary"},"clientSecretValue":"canary","proxy":"http://u:canary@h"}}"#,
        );
        for path in [
            "gateway",
            "gateway.auth",
            "gateway.auth.token",
            "hooks",
            "models",
            "models.headers.x",
            "models.proxy",
        ] {
            let text = config.masked(path).unwrap().to_string();
            assert!(!text.contains("canary"), "{path}: {text}");
        }
        assert_eq!(
            config.masked("gateway.auth.token").unwrap(),
            json!("__OPENCLAW_REDACTED__")
        );
        assert_eq!(config.masked("gateway.auth.mode").unwrap(), json!("token"));
    }

    #[test]
    fn wrong_types_are_named_with_path_and_expectation() {
        let config = config(r#"{"gateway":{"port":"x","auth":{"token":5}}}"#);
        for (error, place) in [
            (
                config.text("gateway.auth.token").unwrap_err(),
                "gateway.auth.token",
            ),
            (config.port("gateway.port").unwrap_err(), "gateway.port"),
        ] {
            assert!(error.message().contains(place), "{error:?}");
            assert_eq!(error.hints(), ["clawgate config validate"]);
        }
    }
}
