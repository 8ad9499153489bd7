//! The file for commands on this machine: changed as a gateway would change it, which takes the
//! change by itself when one runs.

use std::{fmt, path::Path};

use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{Change, Unchanged, change_file, changed};
use crate::config::{
    self, Config, ConfigError, Environment, Issue, Overrides, Reference, Resolver, names_in,
    names_secret, secret_paths,
};

/// Why a file was not changed.
#[derive(Debug)]
pub enum EditError {
    /// A gateway would not start with it.
    Invalid(ConfigError),
    /// What was asked for makes no sense there, in words.
    Refused(String),
    /// The disk says no, or something failed inside.
    Failed(String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Refused(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for EditError {}

/// What becomes of the file.
#[derive(Debug)]
pub enum FileChange {
    /// The value at a path.
    Set(String, Value),
    /// No value at a path.
    Unset(String),
    /// A merge patch; null removes.
    Merge(Value),
}

impl FileChange {
    /// Does it to what a file says.
    ///
    /// # Errors
    /// Why it makes no sense there.
    pub fn apply(&self, root: &mut Value) -> Result<(), String> {
        match self {
            Self::Set(path, value) => set_at(root, path, value.clone()),
            Self::Unset(path) => remove_at(root, path),
            Self::Merge(patch) => {
                *root = super::merge::merged(root, patch, "", &mut Vec::new());
                Ok(())
            }
        }
    }
}

/// Changes a configuration file, if a gateway could start with what it says then. The text before
/// stands beside it. Gives the gateway's warnings.
///
/// # Errors
/// Why nothing was changed.
pub fn edit_config(
    path: &Path,
    environment_password: Option<SecretString>,
    change: FileChange,
) -> Result<Vec<Issue>, EditError> {
    let environment = Environment {
        token: None,
        password: environment_password,
    };
    let judge = |text: String| {
        let generated = || Ok(SecretString::from("not-generated"));
        Config::of(
            path,
            Some(text),
            &Overrides::default(),
            &environment,
            generated,
        )
        .map(|config| config.snapshot.warnings)
        .map_err(Unchanged::Invalid)
    };
    change_file(path, None, change.into_edit(), judge).map_err(EditError::of)
}

/// The text that a change makes of the text of a configuration: what stays the same keeps its
/// comments, its order and its spelling. Whether a gateway could start with it is not asked.
///
/// # Errors
/// Why there is no such text.
pub fn edited_config(text: &str, change: FileChange) -> Result<String, EditError> {
    changed(text, change.into_edit()).map_err(EditError::of)
}

impl FileChange {
    fn into_edit(self) -> Change {
        Change::edit(move |root| {
            self.apply(root)
                .map_err(clawgate_protocol::ErrorShape::invalid)
        })
    }
}

impl EditError {
    fn of(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Invalid(error) => Self::Invalid(error),
            Unchanged::Refused(error) => Self::Refused(error.message),
            Unchanged::Syntax(why) => Self::Refused(format!("the file is not JSON5: {why}")),
            Unchanged::NotAnObject => Self::Refused("a configuration is an object".to_owned()),
            Unchanged::TooMuch(why) => Self::Refused(why.to_owned()),
            Unchanged::Masked(path) => Self::Refused(format!(
                "{path}: a masked value stands for nothing in the file; give the value itself"
            )),
            Unchanged::Io(error) => Self::Failed(error.to_string()),
            Unchanged::Stale | Unchanged::Shrunk(_) | Unchanged::Inside => {
                Self::Failed("the text could not be edited in place".to_owned())
            }
        }
    }
}

/// Reads JSON5; nothing is an empty object.
///
/// # Errors
/// Where it ends to be JSON5.
pub fn parse_config(text: &str) -> Result<Value, String> {
    config::parse(text)
}

/// JSON Schema of a configuration.
pub fn config_schema() -> Value {
    config::json_schema()
}

/// What is known of a place of a configuration, with its members.
pub fn config_schema_at(path: &str) -> Option<Value> {
    config::lookup(path)
}

/// A step into a value.
enum Step {
    Key(String),
    Index(usize),
}

/// `agents.list[0].id`; `\.` is a dot of a key.
fn steps(path: &str) -> Result<Vec<Step>, String> {
    let wrong = || format!("{path:?} is no path such as gateway.auth.mode or agents.list[0].id");
    let mut steps = Vec::new();
    let mut key = String::new();
    let mut chars = path.chars();
    let mut after_index = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.push(chars.next().ok_or_else(wrong)?),
            '.' if key.is_empty() && !after_index => return Err(wrong()),
            '.' => {
                if !key.is_empty() {
                    steps.push(Step::Key(std::mem::take(&mut key)));
                }
                after_index = false;
            }
            '[' => {
                if !key.is_empty() {
                    steps.push(Step::Key(std::mem::take(&mut key)));
                }
                let index: String = chars.by_ref().take_while(|c| *c != ']').collect();
                steps.push(Step::Index(index.parse().map_err(|_| wrong())?));
                after_index = true;
            }
            c => {
                key.push(c);
                after_index = false;
            }
        }
    }
    if !key.is_empty() {
        steps.push(Step::Key(key));
    } else if !after_index {
        return Err(wrong());
    }
    Ok(steps)
}

fn set_at(root: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let mut place = root;
    for step in steps(path)? {
        if place.is_null() {
            *place = match step {
                Step::Key(_) => Value::Object(Map::new()),
                Step::Index(_) => Value::Array(Vec::new()),
            };
        }
        place = match (step, place) {
            (Step::Key(key), Value::Object(map)) => map.entry(key).or_insert(Value::Null),
            (Step::Index(index), Value::Array(items)) => {
                if index > items.len() {
                    return Err(format!(
                        "{path}: there are {} items, and [{index}] is beyond them",
                        items.len()
                    ));
                }
                if index == items.len() {
                    items.push(Value::Null);
                }
                &mut items[index]
            }
            (Step::Key(key), _) => return Err(format!("{path}: what holds {key:?} is no object")),
            (Step::Index(index), _) => {
                return Err(format!("{path}: what holds [{index}] is no list"));
            }
        };
    }
    *place = value;
    Ok(())
}

fn remove_at(root: &mut Value, path: &str) -> Result<(), String> {
    let gone = || format!("{path} is not set");
    let mut steps = steps(path)?;
    let last = steps.pop().ok_or_else(gone)?;
    let mut place = root;
    for step in steps {
        place = match step {
            Step::Key(key) => place.get_mut(&key).ok_or_else(gone)?,
            Step::Index(index) => place.get_mut(index).ok_or_else(gone)?,
        };
    }
    match (last, place) {
        (Step::Key(key), Value::Object(map)) => map.shift_remove(&key).map(drop).ok_or_else(gone),
        (Step::Index(index), Value::Array(items)) if index < items.len() => {
            items.remove(index);
            Ok(())
        }
        _ => Err(gone()),
    }
}

/// The secret that a reference in a configuration leads to. `None` where the value is no reference.
///
/// # Errors
/// Why it leads nowhere.
pub fn find_secret(root: &Value, value: &Value) -> Option<Result<SecretString, String>> {
    Reference::read(value)?;
    Resolver::of(root).secret(value)
}

/// A remark about how a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFinding {
    /// Dotted path.
    pub path: String,
    /// `Some` says why a reference cannot be resolved; `None` that the secret stands there itself.
    pub unresolved: Option<String>,
}

/// How the secrets of a configuration are kept. References are resolved to see whether they can be,
/// which asks the programs that hand them out.
pub fn audit_secrets(root: &Value) -> Vec<SecretFinding> {
    let resolver = Resolver::of(root);
    let known = secret_paths();
    let mut findings = Vec::new();
    audit(root, "", "", &known, &resolver, &mut findings);
    findings
}

fn audit(
    value: &Value,
    path: &str,
    pattern: &str,
    known: &[String],
    resolver: &Resolver,
    findings: &mut Vec<SecretFinding>,
) {
    let last = pattern.rsplit('.').next().unwrap_or_default();
    let is_secret = known.iter().any(|known| known == pattern) || names_secret(last);
    let refers = match value {
        Value::String(text) => !names_in(text).is_empty(),
        other => Reference::read(other).is_some(),
    };
    match value {
        _ if refers => {
            if let Some(Err(why)) = resolver.secret(value) {
                findings.push(SecretFinding {
                    path: path.to_owned(),
                    unresolved: Some(why),
                });
            }
        }
        Value::String(text) if is_secret && !text.trim().is_empty() => {
            findings.push(SecretFinding {
                path: path.to_owned(),
                unresolved: None,
            });
        }
        Value::Object(map) => {
            for (key, inner) in map {
                // What the providers are told is where secrets are, and none itself.
                if path == "secrets" {
                    continue;
                }
                let join = |outer: &str, key: &str| match outer {
                    "" => key.to_owned(),
                    outer => format!("{outer}.{key}"),
                };
                let open = known
                    .iter()
                    .any(|known| known.starts_with(&format!("{pattern}.*")));
                let part = if open { "*" } else { key };
                audit(
                    inner,
                    &join(path, key),
                    &join(pattern, part),
                    known,
                    resolver,
                    findings,
                );
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                let place = format!("{path}[{index}]");
                audit(
                    inner,
                    &place,
                    &format!("{pattern}.*"),
                    known,
                    resolver,
                    findings,
                );
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_set_and_removed_by_path() {
        let mut root = json!({"a": {"b": [1, {"c": 2}]}});
        for (path, value) in [
            ("a.b[1].c", json!(3)),
            ("a.b[2]", json!("new")),
            ("x.y[0].z", json!(true)),
            (r"m.a\.b", json!(1)),
        ] {
            set_at(&mut root, path, value).unwrap();
        }
        let expected =
            json!({"a": {"b": [1, {"c": 3}, "new"]}, "x": {"y": [{"z": true}]}, "m": {"a.b": 1}});
        assert_eq!(root, expected);
        for path in [
            "a.b[9]",
            "a.b.c",
            "x.y[0].z.q",
            "",
            ".",
            "a..b",
            "a[x]",
            "a.",
        ] {
            assert!(set_at(&mut root, path, json!(0)).is_err(), "{path}");
        }
        for path in ["a.b[1].c", "a.b[0]", "x", r"m.a\.b"] {
            remove_at(&mut root, path).unwrap();
        }
        assert_eq!(root, json!({"a": {"b": [{}, "new"]}, "m": {}}));
        for path in ["a.q", "a.b[7]", "q.r", "a.b[0].c"] {
            assert!(remove_at(&mut root, path).is_err(), "{path}");
        }
    }

    #[test]
    fn an_audit_tells_plain_secrets_from_references_and_those_from_broken_ones() {
        let root = json!({
            "gateway": {"auth": {"mode": "token", "token": "canary"}},
            "cron": {"webhookToken": "${CLAWGATE_NOT_SET_ANYWHERE}"},
            "models": {"providers": {"p": {"apiKey": "${HOME}"}}},
            "channels": {"t": {"botToken": {"source": "file", "provider": "none", "id": "x"}, "name": "t"}},
            "secrets": {"providers": {"x": {"source": "env"}}},
        });
        let found: Vec<(String, bool)> = audit_secrets(&root)
            .into_iter()
            .map(|finding| (finding.path, finding.unresolved.is_some()))
            .collect();
        let expected = [
            ("gateway.auth.token", false),
            ("cron.webhookToken", true),
            ("channels.t.botToken", true),
        ];
        assert_eq!(
            found,
            expected.map(|(path, broken)| (path.to_owned(), broken))
        );
    }
}
