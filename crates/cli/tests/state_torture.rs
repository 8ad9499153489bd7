//! kill -9 at random moments under changes of everything that a gateway keeps: devices and their
//! tokens, API tokens, jobs, sessions and what was said in them, the configuration, what may be run.
//!
//! Every thing has one state as of the last answer, and while a change of it is under way another one
//! that it may have instead. After each restart each has exactly one of those, and there is nothing
//! else: what was answered is there, what was removed is gone, what was revoked opens nothing.
//!
//! `CLAWGATE_KILLS=10000` raises the number of rounds, `CLAWGATE_SEED=n` repeats one sequence of
//! choices. Both are printed.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use clawgate_testkit::{Call, Client, Connect, Device, TOKEN, TestGateway, gateway};
use serde_json::{Value, json};
use terminal::Terminal;

const KILLS_DEFAULT: u64 = 80;
/// Changes of one round at most: each of another thing, so that their order is no matter.
const CHANGES_MAX: u64 = 14;
/// Things of each kind.
const EACH: usize = 6;
const READ: &[&str] = &["operator.read"];

/// splitmix64
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() {
            return None;
        }
        let at = usize::try_from(self.below(all.len() as u64)).unwrap();
        all.get(at)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// States by the thing's name, `job/3`; what is not there has none.
type States = BTreeMap<String, String>;

/// A change that was asked for.
struct Change {
    /// What it does to which things: their states if it is done.
    does: Vec<(String, Option<String>)>,
    method: &'static str,
    params: Value,
}

impl Change {
    fn of(thing: &str, then: Option<String>, method: &'static str, params: Value) -> Self {
        Self {
            does: vec![(thing.to_owned(), then)],
            method,
            params,
        }
    }
}

struct Torture {
    gateway: TestGateway,
    rng: Rng,
    /// As of the last answer.
    known: States,
    /// Ids of jobs by name, and hashes to change the two files by: as last seen.
    jobs: BTreeMap<String, String>,
    hashes: [Value; 2],
    devices: Vec<Device>,
    /// Requests of devices that wait.
    requests: BTreeMap<String, Value>,
    /// Secrets that must be good, by thing; and some that must not be.
    good: BTreeMap<String, String>,
    bad: BTreeMap<String, String>,
    made: u64,
    answered: u64,
    undecided: u64,
    undecided_done: u64,
    by_method: BTreeMap<&'static str, u64>,
}

/// Everything that a gateway keeps, as it tells it.
fn seen(torture: &mut Torture) -> States {
    let mut owner = torture.gateway.owner(4);
    let mut found = States::new();
    torture.jobs.clear();
    let page = owner.call("cron.list", &json!({"includeDisabled": true, "limit": 200}));
    for job in page["jobs"].as_array().unwrap() {
        let name = job["name"].as_str().unwrap().to_owned();
        let text = job["description"].as_str().unwrap().to_owned();
        let id = job["id"].as_str().unwrap().to_owned();
        assert!(
            torture.jobs.insert(name.clone(), id).is_none(),
            "{name} twice"
        );
        found.insert(name, text);
    }
    let tokens = owner.call("tokens.list", &json!({}));
    for token in tokens["tokens"].as_array().unwrap() {
        let is_revoked = token["revokedAtMs"].is_i64();
        let state = if is_revoked { "revoked" } else { "live" };
        found.insert(token["name"].as_str().unwrap().to_owned(), state.to_owned());
    }
    let devices = owner.call("device.pair.list", &json!({}));
    let name = |record: &Value| format!("device/{}", record["deviceId"].as_str().unwrap());
    for record in devices["pending"].as_array().unwrap() {
        let id = record["requestId"].clone();
        torture.requests.insert(name(record), id);
        found.insert(name(record), "asked".to_owned());
    }
    for record in devices["paired"].as_array().unwrap() {
        let is_revoked = record["tokens"][0]["revokedAtMs"].is_i64();
        let state = if is_revoked { "revoked" } else { "paired" };
        found.insert(name(record), state.to_owned());
    }
    let sessions = owner.call("sessions.list", &json!({"limit": 200}));
    for session in sessions["sessions"].as_array().unwrap() {
        let key = session["key"].as_str().unwrap();
        let Some(name) = key.strip_prefix("agent:main:session/") else {
            continue;
        };
        let label = session["label"].as_str().unwrap_or_default();
        found.insert(format!("session/{name}"), label.to_owned());
        let history = json!({"sessionKey": key, "limit": 200});
        let history = owner.call("chat.history", &history);
        let said: Vec<&str> = history["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["content"][0]["text"].as_str().unwrap())
            .collect();
        found.insert(format!("said/{name}"), said.join(" "));
    }
    let config = owner.call("config.get", &json!({}));
    assert_eq!(config["valid"], true, "{config}");
    if let Some(n) = config["config"]["messages"]["n"].as_u64() {
        found.insert("config".to_owned(), n.to_string());
    }
    let policy = owner.call("exec.approvals.get", &json!({}));
    if let Some(pattern) = policy["file"]["agents"]["main"]["allowlist"][0]["pattern"].as_str() {
        found.insert("policy".to_owned(), pattern.to_owned());
    }
    torture.hashes = [config["hash"].clone(), policy["hash"].clone()];
    found
}

impl Torture {
    fn state(&self, thing: &str) -> Option<&str> {
        self.known.get(thing).map(String::as_str)
    }

    /// A change of some thing that is not among those that are changed already.
    fn change(&mut self, taken: &BTreeSet<String>) -> Option<Change> {
        self.made += 1;
        let n = self.made;
        let which = self.rng.below(EACH as u64);
        let again = self.rng.below(3) > 0;
        let change = match self.rng.below(7) {
            0 => {
                let name = format!("job/{which}");
                let text = format!("text {n}");
                match self
                    .jobs
                    .get(&name)
                    .filter(|_| self.known.contains_key(&name))
                {
                    None => {
                        let params = json!({
                            "name": name, "description": text,
                            "schedule": {"kind": "every", "everyMs": 3_600_000},
                            "payload": {"kind": "command", "argv": ["/bin/true"]},
                        });
                        Change::of(&name, Some(text), "cron.add", params)
                    }
                    Some(id) if again => {
                        let params = json!({"id": id, "patch": {"description": text}});
                        Change::of(&name, Some(text), "cron.update", params)
                    }
                    Some(id) => Change::of(&name, None, "cron.remove", json!({"id": id})),
                }
            }
            1 => {
                let name = format!("token/{which}");
                if self.state(&name) == Some("live") {
                    let params = json!({"name": name});
                    Change::of(&name, Some("revoked".to_owned()), "tokens.revoke", params)
                } else {
                    let params = json!({"name": name, "scopes": READ});
                    Change::of(&name, Some("live".to_owned()), "tokens.create", params)
                }
            }
            2 => self.change_device(usize::try_from(which).unwrap(), again)?,
            3 => {
                let key = format!("agent:main:session/{which}");
                let (name, said) = (format!("session/{which}"), format!("said/{which}"));
                let text = format!("w{n}");
                match self.state(&said).map(str::to_owned) {
                    Some(before) if again => {
                        let then = format!("{before} {text}").trim().to_owned();
                        let params = json!({"sessionKey": key, "message": text});
                        Change::of(&said, Some(then), "chat.inject", params)
                    }
                    Some(before) if before.len() > 60 || self.rng.below(4) == 0 => Change {
                        does: vec![(name, None), (said, None)],
                        method: "sessions.delete",
                        params: json!({"key": key}),
                    },
                    before => Change {
                        does: vec![
                            (name, Some(text.clone())),
                            (said, Some(before.unwrap_or_default())),
                        ],
                        method: "sessions.patch",
                        params: json!({"key": key, "label": text}),
                    },
                }
            }
            4 => {
                // A long text, so that a moment within its writing is a moment that is met.
                let text = json!({"messages": {"n": n, "text": "x".repeat(20_000)}}).to_string();
                let params = json!({"raw": text, "baseHash": self.hashes[0]});
                Change::of("config", Some(n.to_string()), "config.patch", params)
            }
            5 => {
                let pattern = format!("/usr/bin/p{n}");
                let file = json!({
                    "version": 1, "agents": {"main": {"allowlist": [{"pattern": pattern}]}},
                });
                let params = json!({"file": file, "baseHash": self.hashes[1]});
                Change::of("policy", Some(pattern), "exec.approvals.set", params)
            }
            _ => return None,
        };
        let is_free = change.does.iter().all(|(thing, _)| !taken.contains(thing));
        is_free.then_some(change)
    }

    fn change_device(&mut self, which: usize, again: bool) -> Option<Change> {
        let id = self.devices[which].id();
        let name = format!("device/{id}");
        let role = json!({"deviceId": id, "role": "operator"});
        let remove = json!({"deviceId": id});
        let state = self.state(&name)?.to_owned();
        Some(match state.as_str() {
            "asked" => {
                let params = json!({"requestId": self.requests.get(&name)?});
                Change::of(
                    &name,
                    Some("paired".to_owned()),
                    "device.pair.approve",
                    params,
                )
            }
            "paired" if again => Change::of(
                &name,
                Some("paired".to_owned()),
                "device.token.rotate",
                role,
            ),
            "paired" if self.rng.below(2) == 0 => Change::of(
                &name,
                Some("revoked".to_owned()),
                "device.token.revoke",
                role,
            ),
            _ => Change::of(&name, None, "device.pair.remove", remove),
        })
    }

    /// One that nobody knows asks, and one that is paired fetches its token.
    fn devices_come(&mut self) {
        let which = usize::try_from(self.rng.below(EACH as u64)).unwrap();
        let device = self.devices[which].clone();
        let name = format!("device/{}", device.id());
        let connect = Connect::new(4).token(TOKEN).device(&device).scopes(READ);
        match self.state(&name) {
            None => {
                let refusal = self.gateway.from_afar(&connect).map(drop).unwrap_err();
                let id = refusal.error.unwrap().detail("requestId").clone();
                assert!(id.is_string(), "it asks");
                self.requests.insert(name.clone(), id);
                self.known.insert(name, "asked".to_owned());
            }
            Some("paired") => {
                let (_, hello) = self.gateway.from_afar(&connect).unwrap();
                let token = hello.device_token().unwrap().to_owned();
                self.good.insert(name, token);
            }
            Some(_) => {}
        }
    }

    /// Asks for changes on some connections, and kills it at any moment.
    fn round(&mut self) {
        self.devices_come();
        let mut changes = Vec::new();
        let mut taken = BTreeSet::new();
        let wanted = 1 + self.rng.below(CHANGES_MAX);
        for _ in 0..wanted {
            if let Some(change) = self.change(&taken) {
                // A conversation and its session are one thing.
                for (thing, _) in &change.does {
                    taken.insert(thing.clone());
                    if let Some((_, which)) = thing.split_once('/') {
                        taken.insert(format!("said/{which}"));
                        taken.insert(format!("session/{which}"));
                    }
                }
                changes.push(change);
            }
        }
        let mut clients: Vec<Client> = (0..3).map(|_| self.gateway.owner(4)).collect();
        let connections = clients.len();
        let sent: Vec<(usize, String)> = changes
            .iter()
            .enumerate()
            .map(|(at, change)| {
                let client = at % connections;
                (client, clients[client].send(change.method, &change.params))
            })
            .collect();
        // Some are answered, the others are somewhere on their way.
        let answered = usize::try_from(self.rng.below(sent.len() as u64 + 1)).unwrap();
        let mut open = States::new();
        let mut gone = BTreeSet::new();
        for (at, (change, (client, id))) in changes.into_iter().zip(&sent).enumerate() {
            if at == answered {
                self.ends();
            }
            match clients[*client].answer(id) {
                Call::Ok(answer) => self.is_answered(change, &answer),
                Call::Closed(_) => {
                    self.undecided += 1;
                    for (thing, then) in change.does {
                        // What it opened may be over, or may not.
                        self.good.remove(&thing);
                        match then {
                            Some(then) => drop(open.insert(thing, then)),
                            None => drop(gone.insert(thing)),
                        }
                    }
                }
                Call::Error(error) => panic!("{} {}: {error:?}", change.method, change.params),
            }
        }
        if answered == sent.len() {
            self.ends();
        }
        self.files_are_whole(&open);
        self.gateway.restart();
        self.is_there(&open, &gone);
    }

    /// The end, at any moment.
    fn ends(&mut self) {
        let until = Instant::now() + Duration::from_micros(self.rng.below(4_000));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        self.gateway.kill();
    }

    fn is_answered(&mut self, change: Change, answer: &Value) {
        self.answered += 1;
        *self.by_method.entry(change.method).or_default() += 1;
        for (thing, then) in change.does {
            // A rotated token ends; so does one that is revoked or whose device is removed.
            let ends_secret = thing.starts_with("device/") || change.method == "tokens.revoke";
            if ends_secret && let Some(old) = self.good.remove(&thing) {
                self.bad.insert(thing.clone(), old);
            }
            if change.method == "tokens.create" {
                let secret = answer["token"].as_str().unwrap().to_owned();
                self.good.insert(thing.clone(), secret);
            }
            match then {
                Some(then) => drop(self.known.insert(thing, then)),
                None => drop(self.known.remove(&thing)),
            }
        }
    }

    /// The two files: the text before or the text after, and never half of one.
    fn files_are_whole(&self, open: &States) {
        let home = self.gateway.home();
        let text = fs::read_to_string(home.config()).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let n = config["messages"]["n"].as_u64().map(|n| n.to_string());
        let is = |thing: &str, found: &Option<String>| {
            found.as_deref() == self.state(thing)
                || (found.is_some() && found.as_ref() == open.get(thing))
        };
        assert!(is("config", &n), "{n:?}");
        if let Ok(text) = fs::read_to_string(home.state().join("exec-approvals.json")) {
            let policy: Value = serde_json::from_str(&text).unwrap();
            let pattern = &policy["agents"]["main"]["allowlist"][0]["pattern"];
            let pattern = pattern.as_str().map(str::to_owned);
            assert!(is("policy", &pattern), "{pattern:?}");
        }
    }

    /// Everything is as it was answered, or as what was under way would have it.
    fn is_there(&mut self, open: &States, gone: &BTreeSet<String>) {
        let found = seen(self);
        let things: BTreeSet<String> = found.keys().chain(self.known.keys()).cloned().collect();
        for thing in things {
            let (now, before) = (found.get(&thing), self.known.get(&thing));
            let undecided = open.contains_key(&thing) || gone.contains(&thing);
            let is_done =
                now.is_some() && now == open.get(&thing) || now.is_none() && gone.contains(&thing);
            assert!(
                now == before || is_done,
                "{thing} was answered to be {before:?}, might be {:?}, and is {now:?}",
                open.get(&thing)
            );
            self.undecided_done += u64::from(undecided && now != before);
        }
        self.known = found;
        let at = self.gateway.home().state().join("clawgate.sqlite");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = rusqlite::Connection::open_with_flags(at, flags).unwrap();
        let sound: String = db
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        drop(db);
        self.secrets_open_what_they_should();
    }

    fn secrets_open_what_they_should(&mut self) {
        let good: Vec<(String, String)> = self.good.clone().into_iter().collect();
        let bad: Vec<(String, String)> = std::mem::take(&mut self.bad).into_iter().collect();
        for (all, wanted) in [(good, true), (bad, false)] {
            // Of each kind one: failures of strangers are counted.
            for kind in ["token/", "device/"] {
                let of_kind: Vec<_> = all
                    .iter()
                    .filter(|(thing, _)| thing.starts_with(kind))
                    .collect();
                let Some((thing, secret)) = self.rng.pick(&of_kind) else {
                    continue;
                };
                let connect = match thing.strip_prefix("device/") {
                    None => Connect::new(4).token(secret).scopes(READ),
                    Some(id) => {
                        let device = self.devices.iter().find(|one| one.id() == id).unwrap();
                        Connect::new(4)
                            .device(device)
                            .scopes(READ)
                            .auth("deviceToken", secret)
                    }
                };
                let is_let_in = self.gateway.from_afar(&connect).is_ok();
                assert_eq!(is_let_in, wanted, "the secret of {thing}");
            }
        }
    }
}

#[test]
fn whatever_was_answered_is_there_and_what_was_removed_is_gone_however_often_it_is_killed() {
    let kills = number("CLAWGATE_KILLS").unwrap_or(KILLS_DEFAULT);
    let seed = number("CLAWGATE_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos())
    });
    println!("CLAWGATE_KILLS={kills} CLAWGATE_SEED={seed}");
    let mut torture = Torture {
        gateway: gateway!(),
        rng: Rng(seed),
        known: States::new(),
        jobs: BTreeMap::new(),
        hashes: [Value::Null, Value::Null],
        devices: (0..EACH).map(|_| Device::new()).collect(),
        requests: BTreeMap::new(),
        good: BTreeMap::new(),
        bad: BTreeMap::new(),
        made: 0,
        answered: 0,
        undecided: 0,
        undecided_done: 0,
        by_method: BTreeMap::new(),
    };
    torture.is_there(&States::new(), &BTreeSet::new());
    for _ in 0..kills {
        torture.round();
    }
    println!("{:?}", torture.by_method);
    println!(
        "{kills} kills, {} writes acknowledged, 0 lost, {} undecided at the kill, of which {} were done",
        torture.answered, torture.undecided, torture.undecided_done
    );
    assert!(torture.answered >= kills, "little was answered");
    torture.gateway.kill();
    let home = torture.gateway.home();
    let (state, config) = (
        home.state().display().to_string(),
        home.config().display().to_string(),
    );
    let args = [
        "doctor",
        "--deep",
        "--json",
        "--state-dir",
        &state,
        "--config",
        &config,
    ];
    let report = Terminal::new().run(&args).json();
    let wrong = report["findings"].as_array().unwrap().iter();
    let wrong: Vec<_> = wrong
        .filter(|one| one["id"].as_str().unwrap().starts_with("database"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
