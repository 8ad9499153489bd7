//! Secrets that the file only refers to: `${NAME}` in a text, and references
//! `{source, provider, id}` with `secrets.providers`.
//!
//! They are resolved here and nowhere else. One that cannot be is a failure with its path: nothing
//! weaker is taken instead. What goes wrong is said without what was read.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use secrecy::SecretString;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// How long a program or file may take where nothing is said, milliseconds.
const TIMEOUT_MS: u64 = 5_000;
/// Greatest size of what is read where nothing is said, bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Provider of references that name none, where the defaults name none either.
const DEFAULT_PROVIDER: &str = "default";

/// Where a provider's secrets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Env,
    File,
    Exec,
}

impl Source {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "env" => Some(Self::Env),
            "file" => Some(Self::File),
            "exec" => Some(Self::Exec),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::File => "file",
            Self::Exec => "exec",
        }
    }
}

/// A reference in the place of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub source: Source,
    pub provider: Option<String>,
    pub id: String,
}

impl Reference {
    /// The reference that a value is, if it is one.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let map = value.as_object()?;
        let known = ["source", "provider", "id"];
        if map.keys().any(|key| !known.contains(&key.as_str())) {
            return None;
        }
        let text = |key| map.get(key).and_then(Value::as_str);
        Some(Self {
            source: Source::parse(text("source")?)?,
            provider: match map.get("provider") {
                None => None,
                Some(name) => Some(name.as_str()?.to_owned()),
            },
            id: text("id").filter(|id| !id.is_empty())?.to_owned(),
        })
    }
}

/// Names of variables that a text asks for, in order.
pub(crate) fn names_in(text: &str) -> Vec<&str> {
    parts(text)
        .filter_map(|part| match part {
            Part::Name(name) => Some(name),
            Part::Text(_) => None,
        })
        .collect()
}

enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// A text cut at its `${NAME}`; `$${` stands for `${`.
fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("${") else {
            return Some(Part::Text(std::mem::take(&mut rest)));
        };
        if at > 0 && rest.as_bytes()[at - 1] == b'$' {
            // The first of both dollars is left out, the brace is an ordinary one.
            let (before, after) = rest.split_at(at - 1);
            if before.is_empty() {
                let (shown, tail) = after[1..].split_at(2);
                rest = tail;
                return Some(Part::Text(shown));
            }
            rest = after;
            return Some(Part::Text(before));
        }
        if at > 0 {
            let (before, after) = rest.split_at(at);
            rest = after;
            return Some(Part::Text(before));
        }
        let name = rest[2..].split('}').next().unwrap_or_default();
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
            && rest.len() > 2 + name.len();
        if is_name {
            rest = &rest[name.len() + 3..];
            return Some(Part::Name(name));
        }
        let (shown, tail) = rest.split_at(2);
        rest = tail;
        Some(Part::Text(shown))
    })
}

/// Resolves what a configuration refers to.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    providers: BTreeMap<String, Map<String, Value>>,
    defaults: Map<String, Value>,
}

impl Resolver {
    /// With the `secrets` section of a configuration.
    pub(crate) fn of(root: &Value) -> Self {
        let section = root.get("secrets");
        let map = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
        let providers = map(section.and_then(|section| section.get("providers")));
        Self {
            providers: providers
                .into_iter()
                .flatten()
                .filter_map(|(name, provider)| Some((name, provider.as_object()?.clone())))
                .collect(),
            defaults: map(section.and_then(|section| section.get("defaults"))).unwrap_or_default(),
        }
    }

    /// The same configuration with every text under `path` and below read as it is meant, and every
    /// reference replaced by its secret. What cannot be resolved is told to `failed` by its path.
    pub(crate) fn resolved(
        &self,
        value: &Value,
        path: &str,
        failed: &mut dyn FnMut(&str, String),
    ) -> Value {
        match value {
            Value::String(text) if text.contains("${") => match self.text(text) {
                Ok(text) => Value::String(text),
                Err(why) => {
                    failed(path, why);
                    Value::Null
                }
            },
            Value::Object(map) => {
                if let Some(reference) = Reference::read(value) {
                    return match self.resolve(&reference) {
                        Ok(secret) => Value::String(secret.as_str().to_owned()),
                        Err(why) => {
                            failed(path, why);
                            Value::Null
                        }
                    };
                }
                let inner = map.iter().map(|(key, inner)| {
                    let place = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    (key.clone(), self.resolved(inner, &place, failed))
                });
                Value::Object(inner.collect())
            }
            Value::Array(items) => {
                let inner = items.iter().enumerate().map(|(index, inner)| {
                    self.resolved(inner, &format!("{path}[{index}]"), failed)
                });
                Value::Array(inner.collect())
            }
            other => other.clone(),
        }
    }

    /// A text with the variables that it names put in.
    fn text(&self, text: &str) -> Result<String, String> {
        let mut whole = String::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => whole.push_str(text),
                Part::Name(name) => whole.push_str(&variable(name)?),
            }
        }
        Ok(whole)
    }

    /// A secret by itself: a text, or a reference. `None` when it is neither.
    pub(crate) fn secret(&self, value: &Value) -> Option<Result<SecretString, String>> {
        match value {
            Value::String(text) => Some(self.text(text).map(SecretString::from)),
            other => {
                let reference = Reference::read(other)?;
                let found = self.resolve(&reference);
                Some(found.map(|secret| SecretString::from(secret.as_str())))
            }
        }
    }

    fn resolve(&self, reference: &Reference) -> Result<Zeroizing<String>, String> {
        let source = reference.source;
        let default = self.defaults.get(source.as_str()).and_then(Value::as_str);
        let name = reference
            .provider
            .as_deref()
            .or(default)
            .unwrap_or(DEFAULT_PROVIDER);
        let found = match self.providers.get(name) {
            Some(provider) => {
                let is = provider.get("source").and_then(Value::as_str);
                if is != Some(source.as_str()) {
                    return Err(format!(
                        "secrets.providers.{name} is no provider of source \"{}\"",
                        source.as_str()
                    ));
                }
                match source {
                    Source::Env => from_env(provider, &reference.id),
                    Source::File => from_file(provider, &reference.id),
                    Source::Exec => from_program(provider, name, &reference.id),
                }
            }
            // Variables need no provider.
            None if source == Source::Env && name == DEFAULT_PROVIDER => variable(&reference.id),
            None => return Err(format!("secrets.providers.{name} is not configured")),
        };
        let secret = found.map_err(|why| match source {
            Source::Env => why,
            Source::File | Source::Exec => format!("provider {name}: {why}"),
        })?;
        if secret.trim().is_empty() {
            return Err(format!("provider {name} has an empty secret there"));
        }
        Ok(Zeroizing::new(secret.trim().to_owned()))
    }
}

fn variable(name: &str) -> Result<Zeroizing<String>, String> {
    match std::env::var(name) {
        Ok(value) if !value.trim().is_empty() => Ok(Zeroizing::new(value.trim().to_owned())),
        _ => Err(format!(
            "names the environment variable {name}, which is not set"
        )),
    }
}

fn from_env(provider: &Map<String, Value>, id: &str) -> Result<Zeroizing<String>, String> {
    if let Some(allowed) = provider.get("allowlist").and_then(Value::as_array)
        && !allowed.iter().any(|name| name.as_str() == Some(id))
    {
        return Err(format!(
            "names the environment variable {id}, which is not in the provider's allowlist"
        ));
    }
    variable(id)
}

fn from_file(provider: &Map<String, Value>, id: &str) -> Result<Zeroizing<String>, String> {
    let path = path_of(provider, "path")?;
    let shown = path.display();
    let mut file = File::open(&path).map_err(|error| format!("{shown}: {error}"))?;
    let meta = file
        .metadata()
        .map_err(|error| format!("{shown}: {error}"))?;
    if !meta.is_file() {
        return Err(format!("{shown} is no file"));
    }
    if meta.mode() & 0o077 != 0 && !is_set(provider, "allowInsecurePath") {
        return Err(format!(
            "{shown} can be read by others; chmod 600 it, or set allowInsecurePath"
        ));
    }
    let max = number(provider, "maxBytes").unwrap_or(BYTES_MAX);
    let text =
        Zeroizing::new(read_at_most(&mut file, max).map_err(|error| format!("{shown}: {error}"))?);
    if provider.get("mode").and_then(Value::as_str) == Some("singleValue") {
        return Ok(text);
    }
    let whole: Value = serde_json::from_str(&text).map_err(|_| format!("{shown} is not JSON"))?;
    let found = if id.starts_with('/') {
        whole.pointer(id)
    } else {
        whole.get(id)
    };
    match found.and_then(Value::as_str) {
        Some(secret) => Ok(Zeroizing::new(secret.to_owned())),
        None => Err(format!("{shown} holds no text at {id}")),
    }
}

fn read_at_most(source: &mut impl io::Read, max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    source.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("is larger than {max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8"))
}

/// Asks a program: it gets `{protocolVersion, provider, ids}` and answers `{values, errors}`.
fn from_program(
    provider: &Map<String, Value>,
    name: &str,
    id: &str,
) -> Result<Zeroizing<String>, String> {
    let path = path_of(provider, "command")?;
    let shown = path.display().to_string();
    may_run(&path, provider)?;
    let mut command = Command::new(&path);
    command
        .args(texts(provider, "args"))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    for key in texts(provider, "passEnv") {
        if let Some(value) = std::env::var_os(&key) {
            command.env(key, value);
        }
    }
    for (key, value) in provider
        .get("env")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        command.env(key, value.as_str().unwrap_or_default());
    }
    let timeout = Duration::from_millis(number(provider, "timeoutMs").unwrap_or(TIMEOUT_MS));
    let max = number(provider, "maxOutputBytes").unwrap_or(BYTES_MAX);
    let question = json!({"protocolVersion": 1, "provider": name, "ids": [id]}).to_string();
    let said = ask(&mut command, question, timeout, max).map_err(|why| format!("{shown} {why}"))?;
    let strict = provider.get("jsonOnly").and_then(Value::as_bool) != Some(false);
    let answer: Value = match serde_json::from_str(&said) {
        Ok(answer @ Value::Object(_)) => answer,
        _ if strict => return Err(format!("{shown} did not answer with a JSON object")),
        _ => return Ok(said),
    };
    if let Some(secret) = answer
        .get("values")
        .and_then(|values| values.get(id))
        .and_then(Value::as_str)
    {
        return Ok(Zeroizing::new(secret.to_owned()));
    }
    let has_error = answer
        .get("errors")
        .and_then(|errors| errors.get(id))
        .is_some();
    let why = if has_error {
        "has an error for"
    } else {
        "has no value for"
    };
    Err(format!("{shown} {why} {id}"))
}

/// Runs a program to its end, and ends it and what it started when it takes too long.
fn ask(
    command: &mut Command,
    question: String,
    timeout: Duration,
    max: u64,
) -> Result<Zeroizing<String>, String> {
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let began = Instant::now();
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let end_group = || {
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    };
    let asking = std::thread::spawn(move || {
        if let Some(stdin) = &mut stdin {
            // One that does not read its question may answer all the same.
            let _ = stdin.write_all(question.as_bytes());
        }
        drop(stdin);
    });
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let said = match &mut stdout {
            Some(stdout) => read_at_most(stdout, max),
            None => Ok(String::new()),
        };
        let _ = answer.send(said.map(Zeroizing::new));
    });
    let said = answered.recv_timeout(timeout);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if said.is_ok() && began.elapsed() < timeout => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => break None,
        }
    };
    end_group();
    if status.is_none() {
        let _ = child.wait();
    }
    drop(asking);
    match (said, status) {
        (Ok(Ok(said)), Some(status)) if status.success() => Ok(said),
        (Ok(Ok(_)), Some(status)) => Err(match status.code() {
            Some(code) => format!("ended with code {code}"),
            None => "was killed".to_owned(),
        }),
        (Ok(Err(error)), _) => Err(format!("said what {error}")),
        (Err(_), _) | (_, None) => Err(format!("did not answer within {} ms", timeout.as_millis())),
    }
}

/// Whether a program may be asked for secrets: nobody else can have put it there.
fn may_run(path: &Path, provider: &Map<String, Value>) -> Result<(), String> {
    let shown = path.display();
    let link = fs::symlink_metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if link.is_symlink() && !is_set(provider, "allowSymlinkCommand") {
        return Err(format!(
            "{shown} is a link; name the program itself, or set allowSymlinkCommand"
        ));
    }
    let real = fs::canonicalize(path).map_err(|error| format!("{shown}: {error}"))?;
    let dirs = texts(provider, "trustedDirs");
    if !dirs.is_empty() && !dirs.iter().any(|dir| real.starts_with(dir)) {
        return Err(format!("{shown} is in none of trustedDirs"));
    }
    let meta = fs::metadata(&real).map_err(|error| format!("{shown}: {error}"))?;
    if !meta.is_file() {
        return Err(format!("{shown} is no program"));
    }
    let mine = rustix::process::getuid().as_raw();
    let may_be_anybodys = meta.mode() & 0o022 != 0 || !(meta.uid() == mine || meta.uid() == 0);
    if may_be_anybodys && !is_set(provider, "allowInsecurePath") {
        return Err(format!(
            "{shown} can be changed by others; set allowInsecurePath to run it all the same"
        ));
    }
    Ok(())
}

fn path_of(provider: &Map<String, Value>, key: &str) -> Result<PathBuf, String> {
    let text = provider
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default();
    let path = match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    };
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("its {key} must be an absolute path"))
    }
}

fn texts(provider: &Map<String, Value>, key: &str) -> Vec<String> {
    let items = provider.get(key).and_then(Value::as_array);
    let texts = items.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn number(provider: &Map<String, Value>, key: &str) -> Option<u64> {
    provider.get(key).and_then(Value::as_u64)
}

fn is_set(provider: &Map<String, Value>, key: &str) -> bool {
    provider.get(key).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn said(root: &Value, value: &Value) -> Result<String, String> {
        Resolver::of(root)
            .secret(value)
            .unwrap()
            .map(|secret| secret.expose_secret().to_owned())
    }

    fn place(name: &str, text: &str, mode: u32) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("clawgate-secret-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn variables_stand_anywhere_in_a_text_and_a_doubled_dollar_is_none() {
        let home = std::env::var("HOME").unwrap();
        let none = json!({});
        assert_eq!(
            said(&none, &json!("a ${HOME} b")).unwrap(),
            format!("a {home} b")
        );
        assert_eq!(
            said(&none, &json!("$${HOME} $x ${} ${a b} ${")).unwrap(),
            "${HOME} $x ${} ${a b} ${"
        );
        assert_eq!(names_in("${A}-$${B}-${C_1}"), ["A", "C_1"]);
        let unset = said(&none, &json!("x ${CLAWGATE_NOT_SET_ANYWHERE}")).unwrap_err();
        assert!(unset.contains("CLAWGATE_NOT_SET_ANYWHERE"));
    }

    #[test]
    fn a_file_gives_by_pointer_or_as_a_whole_and_not_when_others_can_read_it() {
        let path = place("s.json", r#"{"a": {"b": "canary"}, "n": 5}"#, 0o600);
        let root = |mode: &str| {
            json!({"secrets": {"providers": {"f": {
            "source": "file", "path": path, "mode": mode}}, "defaults": {"file": "f"}}})
        };
        let at = |id: &str| json!({"source": "file", "provider": "f", "id": id});
        assert_eq!(said(&root("json"), &at("/a/b")).unwrap(), "canary");
        assert_eq!(
            said(&root("json"), &json!({"source": "file", "id": "/a/b"})).unwrap(),
            "canary"
        );
        assert!(
            said(&root("singleValue"), &at("value"))
                .unwrap()
                .contains("canary")
        );
        for wrong in ["/a", "/n", "/x", ""] {
            let value = json!({"source": "file", "provider": "f", "id": wrong});
            let Some(found) = Resolver::of(&root("json")).secret(&value) else {
                continue;
            };
            assert!(!found.unwrap_err().contains("canary"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            said(&root("json"), &at("/a/b"))
                .unwrap_err()
                .contains("read by others")
        );
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_program_is_asked_and_ended_when_it_takes_too_long() {
        let script = "#!/bin/sh\nread -r q\ncase \"$q\" in *slow*) sleep 60;; *plain*) echo canary;; \
            *fail*) echo canary; exit 3;; *) printf '{\"values\":{\"one\":\"%s\"}}' \"got $X$PATH\";; esac\n";
        let path = place("give", script, 0o700);
        let root = |more: Value| {
            let mut provider =
                json!({"source": "exec", "command": path, "env": {"X": "x"}, "timeoutMs": 10_000});
            for (key, value) in more.as_object().unwrap() {
                provider[key] = value.clone();
            }
            json!({"secrets": {"providers": {"p": provider}}})
        };
        let at = |id: &str| json!({"source": "exec", "provider": "p", "id": id});
        assert!(
            said(&root(json!({})), &at("one"))
                .unwrap()
                .starts_with("got x")
        );
        assert!(
            said(&root(json!({})), &at("two"))
                .unwrap_err()
                .contains("no value for two")
        );
        assert!(
            said(&root(json!({})), &at("plain"))
                .unwrap_err()
                .contains("JSON")
        );
        assert_eq!(
            said(&root(json!({"jsonOnly": false})), &at("plain")).unwrap(),
            "canary"
        );
        let failed = said(&root(json!({"jsonOnly": false})), &at("fail")).unwrap_err();
        assert!(failed.contains("code 3") && !failed.contains("canary"));
        let began = Instant::now();
        assert!(
            said(&root(json!({"timeoutMs": 200})), &at("slow"))
                .unwrap_err()
                .contains("200 ms")
        );
        assert!(began.elapsed() < Duration::from_secs(30));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o722)).unwrap();
        assert!(
            said(&root(json!({})), &at("one"))
                .unwrap_err()
                .contains("changed by others")
        );
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_provider_that_is_missing_or_of_another_source_is_said() {
        let root = json!({"secrets": {"providers": {"e": {"source": "env", "allowlist": ["A"]}}}});
        for (value, words) in [
            (
                json!({"source": "file", "provider": "e", "id": "x"}),
                "no provider of source",
            ),
            (
                json!({"source": "exec", "provider": "q", "id": "x"}),
                "not configured",
            ),
            (
                json!({"source": "env", "provider": "e", "id": "HOME"}),
                "allowlist",
            ),
        ] {
            assert!(said(&root, &value).unwrap_err().contains(words), "{value}");
        }
        assert!(
            said(
                &root,
                &json!({"source": "env", "provider": "default", "id": "HOME"})
            )
            .is_ok()
        );
    }
}
