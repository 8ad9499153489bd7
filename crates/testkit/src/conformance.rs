//! Recorded dialogues, held against any gateway: what is sent, and what the answers look like.
//!
//! A dialogue is data (`tests/conformance/*.json`, described in the README there), so that it can be
//! read by people who do not know this code and be played to a gateway that is not this one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use serde_json::{Map, Value, json};

use crate::{Call, Client, Close, Connect, Device, OPERATOR, SignedForm, Upgrade};

/// A gateway to play to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its shared token.
    pub token: String,
}

/// One dialogue.
#[derive(Clone, Debug)]
pub struct Dialogue {
    /// `FILE: NAME`.
    pub name: String,
    /// The lines of the list of chosen differences that it depends on.
    pub differs: Vec<String>,
    wires: Vec<u32>,
    /// It needs the model of [`Provider::conversing`](crate::provider::Provider::conversing).
    needs_model: bool,
    steps: Vec<Value>,
}

/// What a dialogue waits for whose gateway has no scripted model.
pub const SCRIPTED_MODEL: &str = "a scripted model";

/// What became of a dialogue on one wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as written.
    Passed,
    /// What was not.
    Failed(String),
    /// The gateway does not serve this method.
    Waiting(String),
}

/// Reads the dialogues of a folder.
///
/// # Errors
/// What cannot be read, or is no dialogue.
pub fn load(folder: &Path) -> Result<Vec<Dialogue>, String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    let mut dialogues = Vec::new();
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{stem}: {error}"))?;
        let content: Value = serde_json::from_str(&text).map_err(|e| format!("{stem}: {e}"))?;
        for one in list(&content["dialogues"]) {
            let name = format!("{stem}: {}", one["name"].as_str().unwrap_or("?"));
            let dialogue = Dialogue {
                differs: list(&one["differs"]).iter().map(text_of).collect(),
                wires: if one["wires"].is_null() {
                    vec![3, 4]
                } else {
                    list(&one["wires"])
                        .iter()
                        .filter_map(|wire| u32::try_from(wire.as_u64()?).ok())
                        .collect()
                },
                needs_model: one["needs"] == SCRIPTED_MODEL,
                steps: list(&one["steps"]).to_vec(),
                name,
            };
            if !one["needs"].is_null() && !dialogue.needs_model {
                return Err(format!("{}: nobody has {}", dialogue.name, one["needs"]));
            }
            if dialogue.steps.is_empty() {
                return Err(format!("{}: it has no steps", dialogue.name));
            }
            let forks = dialogue.steps.iter().any(|step| {
                step.to_string().contains("\"<differs>\"")
                    || (!step["ok"].is_null() && !step["error"].is_null())
                    || (!step["hello"].is_null() && !step["refused"].is_null())
            });
            if forks == dialogue.differs.is_empty() {
                return Err(format!(
                    "{}: `differs` belongs to dialogues with two ways, and to no other",
                    dialogue.name
                ));
            }
            dialogues.push(dialogue);
        }
    }
    Ok(dialogues)
}

/// Which wires a gateway speaks.
pub fn wires(target: &Target) -> Vec<u32> {
    [3, 4]
        .into_iter()
        .filter(|wire| {
            let connect = Connect::new(*wire).token(&target.token);
            catch_unwind(AssertUnwindSafe(|| {
                Client::open(target.address).connect(&connect).is_ok()
            }))
            .unwrap_or(false)
        })
        .collect()
}

/// Plays a dialogue on every wire that it is written for and the gateway speaks.
pub fn play(target: &Target, wires: &[u32], dialogue: &Dialogue) -> Vec<(u32, Outcome)> {
    let both = dialogue.wires.iter().filter(|wire| wires.contains(wire));
    both.map(|wire| {
        let mut stage = Stage::new(target, *wire);
        let played = catch_unwind(AssertUnwindSafe(|| {
            if dialogue.needs_model && !stage.has_model()? {
                return Err(Stop::Waiting(SCRIPTED_MODEL.to_owned()));
            }
            stage.play(&dialogue.steps)
        }));
        let outcome = match played {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(Stop::Waiting(method))) => Outcome::Waiting(method),
            Ok(Err(Stop::Wrong(why))) => Outcome::Failed(why),
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Outcome::Failed(why.unwrap_or_else(|| "it ended without a word".to_owned()))
            }
        };
        (*wire, outcome)
    })
    .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

enum Stop {
    Wrong(String),
    Waiting(String),
}

/// A dialogue under way.
struct Stage<'a> {
    target: &'a Target,
    wire: u32,
    peers: BTreeMap<String, Client>,
    devices: BTreeMap<String, Device>,
    saved: BTreeMap<String, Value>,
}

impl<'a> Stage<'a> {
    fn new(target: &'a Target, wire: u32) -> Self {
        Self {
            target,
            wire,
            peers: BTreeMap::new(),
            devices: BTreeMap::new(),
            saved: BTreeMap::from([
                ("token".to_owned(), json!(target.token)),
                ("wire".to_owned(), json!(wire)),
                (
                    "origin".to_owned(),
                    json!(format!("http://{}", target.address)),
                ),
                (
                    "unique".to_owned(),
                    json!(Device::new().id()[..12].to_owned()),
                ),
            ]),
        }
    }

    /// Whether the gateway's models are those of a provider that is called `scripted`.
    fn has_model(&mut self) -> Result<bool, Stop> {
        let listed = self.peer("owner")?.call("models.list", &json!({}));
        let models = list(&listed["models"]);
        Ok(models.iter().any(|model| model["provider"] == "scripted"))
    }

    fn play(&mut self, steps: &[Value]) -> Result<(), Stop> {
        for (at, step) in steps.iter().enumerate() {
            let go_on = self.step(step).map_err(|stop| match stop {
                Stop::Wrong(why) => Stop::Wrong(format!("step {}: {why}", at + 1)),
                waiting @ Stop::Waiting(_) => waiting,
            })?;
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// Plays a step; false when the dialogue ends with it.
    fn step(&mut self, step: &Value) -> Result<bool, Stop> {
        let on = step["on"].as_str().unwrap_or("owner").to_owned();
        if step["open"].is_string() {
            let name = text_of(&step["open"]);
            let client = self.open(step);
            let challenge = client.challenge.clone();
            self.peers.insert(name, client);
            self.fits(step, "challenge", &challenge)?;
        } else if step["connect"].is_string() {
            return self.connect(step);
        } else if step["call"].is_string() {
            return self.call(&on, step);
        } else if step["event"].is_string() {
            self.event(&on, step)?;
        } else if step["text"].is_string() {
            let text = text_of(&self.fill(&step["text"]));
            self.peer(&on)?.socket.send_text(&text);
        } else if !step["response"].is_null() {
            let response = self.peer(&on)?.response();
            self.fits(step, "response", &response)?;
        } else if !step["closed"].is_null() {
            let close = self.peer(&on)?.closed();
            self.peers.remove(&on);
            self.fits(step, "closed", &closed(&close))?;
        } else {
            return Err(Stop::Wrong(format!("this is no step: {step}")));
        }
        Ok(true)
    }

    fn open(&mut self, step: &Value) -> Client {
        let headers = self.fill(&step["headers"]);
        let upgrade = headers
            .as_object()
            .into_iter()
            .flatten()
            .fold(Upgrade::new(), |upgrade, (name, value)| {
                upgrade.header(name, value.as_str().unwrap_or_default())
            });
        Client::open_with(self.target.address, &upgrade)
            .unwrap_or_else(|answer| panic!("no upgrade: {answer:?}"))
    }

    fn device(&mut self, name: &str) -> Device {
        self.devices.entry(name.to_owned()).or_default().clone()
    }

    fn connect(&mut self, step: &Value) -> Result<bool, Stop> {
        let name = text_of(&step["connect"]);
        let mut client = match self.peers.remove(&name) {
            Some(client) => client,
            None => self.open(step),
        };
        let how = self.fill(&step["as"]);
        let text = |key: &str| how[key].as_str();
        let mut connect = Connect::new(self.wire).scopes(&OPERATOR);
        if let Some(pair) = how["client"].as_array() {
            connect = connect.client(&text_of(&pair[0]), &text_of(&pair[1]));
        }
        if let Some(range) = how["range"].as_array() {
            let end = |at: usize| range[at].as_i64().unwrap_or_default();
            connect = connect.range(end(0), end(1));
        }
        if let Some(role) = text("role") {
            connect = connect.role(role);
        }
        if let Some(scopes) = how["scopes"].as_array() {
            let scopes: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
            connect = connect.scopes(&scopes);
        }
        for key in ["token", "password", "deviceToken", "bootstrapToken"] {
            if let Some(secret) = text(key) {
                connect = connect.auth(key, secret);
            }
        }
        if let Some(device) = text("device") {
            connect = connect.device(&self.device(device));
        }
        if let Some(ms) = how["clockOffMs"].as_i64() {
            connect = connect.clock_off_by(ms);
        }
        if let Some(nonce) = text("nonce") {
            connect = connect.nonce(nonce);
        }
        match text("form") {
            Some("v1") => connect = connect.form(SignedForm::V1),
            Some("v2") => connect = connect.form(SignedForm::V2),
            _ => {}
        }
        if let Some(sets) = how["set"].as_object().cloned() {
            connect = connect.edit(move |params| {
                for (pointer, value) in &sets {
                    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
                    if let Some(Value::Object(map)) = params.pointer_mut(parent) {
                        map.insert(key.to_owned(), value.clone());
                    }
                }
            });
        }
        match client.connect(&connect) {
            Ok(hello) => {
                self.peers.insert(name, client);
                if step["hello"].is_null() {
                    return Err(Stop::Wrong(format!(
                        "it was welcome: {}",
                        hello.raw["auth"]
                    )));
                }
                self.fits(step, "hello", &hello.raw)?;
                Ok(step["endsIf"] != "hello")
            }
            Err(refusal) => {
                let error = refusal.error.map_or(Value::Null, |error| error.raw.clone());
                let seen = json!({"error": error, "close": closed(&refusal.close)});
                if step["refused"].is_null() {
                    return Err(Stop::Wrong(format!("it was refused: {seen}")));
                }
                self.fits(step, "refused", &seen)?;
                Ok(step["endsIf"] != "refused")
            }
        }
    }

    fn call(&mut self, on: &str, step: &Value) -> Result<bool, Stop> {
        let method = text_of(&step["call"]);
        let params = self.fill(&step["params"]);
        match self.peer(on)?.try_call(&method, &params) {
            Call::Ok(payload) => {
                if step["ok"].is_null() {
                    return Err(Stop::Wrong(format!(
                        "{method} was answered: {}",
                        short(&payload)
                    )));
                }
                self.fits(step, "ok", &payload)?;
                Ok(step["endsIf"] != "ok")
            }
            Call::Error(error) => {
                let unknown = error.message == format!("unknown method: {method}");
                if unknown && !step["error"].to_string().contains("unknown method") {
                    return Err(Stop::Waiting(method));
                }
                if step["error"].is_null() {
                    return Err(Stop::Wrong(format!(
                        "{method} was refused: {}",
                        short(&error.raw)
                    )));
                }
                self.fits(step, "error", &error.raw)?;
                Ok(step["endsIf"] != "error")
            }
            Call::Closed(close) => Err(Stop::Wrong(format!("{method}: closed with {close:?}"))),
        }
    }

    fn event(&mut self, on: &str, step: &Value) -> Result<(), Stop> {
        let name = text_of(&step["event"]);
        let want = self.fill(&step["payload"]);
        // Others of the same name may come before: of dialogues that went, or of somebody else.
        loop {
            let frame = self.peer(on)?.event(&name);
            if want.is_null() || differences(&want, &frame["payload"], "$").is_empty() {
                self.fits(step, "payload", &frame["payload"])?;
                return Ok(());
            }
        }
    }

    /// The peer of that name. The owner is there without being asked.
    fn peer(&mut self, name: &str) -> Result<&mut Client, Stop> {
        if name == "owner" && !self.peers.contains_key(name) {
            let connect = Connect::new(self.wire)
                .token(&self.target.token)
                .device(&owner_device(&self.target.token));
            let mut client = Client::open(self.target.address);
            client
                .connect(&connect)
                .map_err(|refusal| Stop::Wrong(format!("the owner was refused: {refusal:?}")))?;
            self.peers.insert(name.to_owned(), client);
        }
        self.peers
            .get_mut(name)
            .ok_or_else(|| Stop::Wrong(format!("nobody is called {name}")))
    }

    /// Compares with the expectation of that name, and keeps what is to be saved.
    fn fits(&mut self, step: &Value, key: &str, got: &Value) -> Result<(), Stop> {
        let want = self.fill(&step[key]);
        let wrong = if step[key].is_null() {
            Vec::new()
        } else {
            differences(&want, got, "$")
        };
        if !wrong.is_empty() {
            return Err(Stop::Wrong(format!(
                "{}; it was {}",
                wrong.join("; "),
                short(got)
            )));
        }
        for (name, pointer) in step["save"].as_object().into_iter().flatten() {
            let pointer = text_of(&self.fill(pointer));
            let found = got.pointer(&pointer).cloned().unwrap_or_default();
            self.saved.insert(name.clone(), found);
        }
        Ok(())
    }

    /// With saved values in the place of `${name}`.
    fn fill(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                if let Some(name) = text.strip_prefix("${").and_then(|t| t.strip_suffix('}'))
                    && !name.contains("${")
                {
                    return self.value(name);
                }
                let mut filled = String::new();
                let mut rest = text.as_str();
                while let Some((before, after)) = rest.split_once("${") {
                    let (name, after) = after.split_once('}').unwrap_or((after, ""));
                    filled.push_str(before);
                    match self.value(name) {
                        Value::String(text) => filled.push_str(&text),
                        other => filled.push_str(&other.to_string()),
                    }
                    rest = after;
                }
                Value::String(filled + rest)
            }
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(map) => {
                let mut filled = Map::new();
                for (key, value) in map {
                    filled.insert(key.clone(), self.fill(value));
                }
                Value::Object(filled)
            }
            other => other.clone(),
        }
    }

    fn value(&mut self, name: &str) -> Value {
        if let Some(device) = name.strip_prefix("device:") {
            return json!(self.device(device).id());
        }
        self.saved.get(name).cloned().unwrap_or_default()
    }
}

/// One device for the owner of all dialogues, the same in every run against a gateway.
fn owner_device(token: &str) -> Device {
    Device::of_seed(&format!("conformance owner of {token}"))
}

fn closed(close: &Close) -> Value {
    json!({"code": close.code, "reason": close.reason})
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    text.chars().take(600).collect()
}

/// What of an expectation does not hold.
pub fn differences(want: &Value, got: &Value, path: &str) -> Vec<String> {
    let wrong = || {
        vec![format!(
            "{path}: wanted {}, got {}",
            short(want),
            short(got)
        )]
    };
    match want {
        Value::String(text) => match text.strip_prefix('<').and_then(|t| t.strip_suffix('>')) {
            Some(kind) if is_kind(kind, got) => Vec::new(),
            None if got == want => Vec::new(),
            _ => wrong(),
        },
        Value::Object(map) => {
            if let Some(each) = map.get("<each>") {
                let Some(items) = got.as_array() else {
                    return wrong();
                };
                let at = |(n, item)| differences(each, item, &format!("{path}/{n}"));
                return items.iter().enumerate().flat_map(at).collect();
            }
            if let Some(some) = map.get("<some>") {
                let found = list(got)
                    .iter()
                    .any(|item| differences(some, item, path).is_empty());
                return if found { Vec::new() } else { wrong() };
            }
            if let Some(either) = map.get("<either>").or_else(|| map.get("<differs>")) {
                let fits = |one: &Value| differences(one, got, path).is_empty();
                return if list(either).iter().any(fits) {
                    Vec::new()
                } else {
                    wrong()
                };
            }
            if let Some(values) = map.get("<values>") {
                let Some(object) = got.as_object() else {
                    return wrong();
                };
                let at = |(key, value): (&String, &Value)| {
                    differences(values, value, &format!("{path}/{key}"))
                };
                return object.iter().flat_map(at).collect();
            }
            let Some(object) = got.as_object() else {
                return wrong();
            };
            let mut found = Vec::new();
            let mut named = BTreeSet::new();
            for (key, value) in map {
                if key == "<no others>" {
                    continue;
                }
                let (key, optional) = match key.strip_suffix('?') {
                    Some(key) => (key, true),
                    None => (key.as_str(), false),
                };
                named.insert(key);
                match object.get(key) {
                    Some(_) if value == "<absent>" => {
                        found.push(format!("{path}/{key}: it is there"));
                    }
                    None if optional || value == "<absent>" => {}
                    None => found.push(format!("{path}/{key}: it is missing")),
                    Some(got) => found.extend(differences(value, got, &format!("{path}/{key}"))),
                }
            }
            if map.contains_key("<no others>") {
                let others = object.keys().filter(|key| !named.contains(key.as_str()));
                found.extend(others.map(|key| format!("{path}/{key}: nobody expects it")));
            }
            found
        }
        Value::Array(items) => {
            let Some(others) = got.as_array() else {
                return wrong();
            };
            if items.len() != others.len() {
                return wrong();
            }
            let at = |(n, (want, got))| differences(want, got, &format!("{path}/{n}"));
            items.iter().zip(others).enumerate().flat_map(at).collect()
        }
        other if other == got => Vec::new(),
        _ => wrong(),
    }
}

/// Whether a value is of a kind: a name, several of them with `|`, or a word with an argument.
fn is_kind(kinds: &str, got: &Value) -> bool {
    let text = got.as_str();
    if let Some(part) = kinds.strip_prefix("contains:") {
        return text.is_some_and(|text| text.contains(part));
    }
    if let Some(part) = kinds.strip_prefix("starts:") {
        return text.is_some_and(|text| text.starts_with(part));
    }
    if let Some(words) = kinds.strip_prefix("one of:") {
        return text.is_some_and(|text| words.split(',').any(|word| word.trim() == text));
    }
    let hex = |text: &str| text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    kinds.split('|').any(|kind| match kind {
        "any" => true,
        "null" => got.is_null(),
        "bool" => got.is_boolean(),
        "string" => got.is_string(),
        "text" => text.is_some_and(|text| !text.is_empty()),
        "int" => got.is_i64() || got.is_u64(),
        // A time in this century, in milliseconds.
        "ms" => got
            .as_i64()
            .is_some_and(|ms| (1_000_000_000_000..4_200_000_000_000).contains(&ms)),
        "number" => got.is_number(),
        "array" => got.is_array(),
        "object" => got.is_object(),
        "hex64" => text.is_some_and(|text| text.len() == 64 && hex(text)),
        "uuid" => text.is_some_and(|text| {
            let parts: Vec<&str> = text.split('-').collect();
            parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|p| hex(p))
        }),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let want = json!({
            "id": "<uuid>", "state": {"at": "<ms>", "left?": "<int>", "secret": "<absent>"},
            "jobs": {"<each>": {"kind": "<one of: at, every>"}}, "tags": {"<some>": "a"}, "name": "x",
        });
        let good = json!({
            "id": "0b9f9536-72b1-4a62-b18f-eefe5d1e1a8e", "state": {"at": 1_795_399_736_915_i64},
            "jobs": [{"kind": "at"}, {"kind": "every"}], "tags": ["b", "a"], "name": "x", "more": 1,
        });
        assert_eq!(differences(&want, &good, "$"), Vec::<String>::new());
        let broken = [
            ("/id", json!("6b9f"), "$/id"),
            ("/state/at", json!("now"), "$/state/at"),
            ("/state/left", json!(null), "$/state/left"),
            ("/state/secret", json!("s"), "$/state/secret"),
            ("/jobs/1", json!({"kind": "cron"}), "$/jobs/1/kind"),
            ("/tags", json!(["b"]), "$/tags"),
            ("/name", json!("y"), "$/name"),
        ];
        for (pointer, value, place) in broken {
            let mut bad = good.clone();
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
            match bad.pointer_mut(parent).expect("its parent is there") {
                Value::Object(map) => drop(map.insert(key.to_owned(), value)),
                other => other[1] = value,
            }
            let found = differences(&want, &bad, "$");
            assert!(
                found.len() == 1 && found[0].starts_with(place),
                "{pointer}: {found:?}"
            );
        }
    }
}
