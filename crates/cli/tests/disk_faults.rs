//! A disk that is full, fails or turns read only under a running gateway, and a database that is not
//! what it was: who is told what, what is lost (nothing that was answered), how it goes on
//! (docs/failures.md).

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "other tests move the clock")]
#[path = "support/faults.rs"]
mod faults;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use clawgate_testkit::{
    Call, Client, Connect, Device, PATIENCE, TOKEN, TestGateway, WireError, home,
    provider::{Dialect, Gate, Provider},
    request, token_config,
};
use faults::{FULL, Faults, NO_SYNC, READ_ONLY, bytes};
use serde_json::{Value, json};
use terminal::{Done, Terminal};

const READ: &[&str] = &["operator.read"];
const PAGE: u64 = 4_096;

fn until(client: &mut Client, method: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    // A sync may take long where much else is written.
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let told = client.call(method, &json!({}));
        if wanted(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "{method} stays {told}");
        std::thread::yield_now();
    }
}

fn job(name: &str) -> Value {
    json!({
        "name": name, "schedule": {"kind": "every", "everyMs": 3_600_000},
        "payload": {"kind": "command", "argv": ["/bin/true"]},
    })
}

/// Has a device ask, and gives the id of its request.
fn asks(gateway: &TestGateway, device: &Device) -> Value {
    let connect = Connect::new(4).token(TOKEN).device(device).scopes(READ);
    let refusal = gateway.from_afar(&connect).map(drop).unwrap_err();
    refusal.error.unwrap().detail("requestId").clone()
}

/// One of each thing that a gateway keeps, and what changes each of them.
struct Kept {
    device: Device,
    device_token: String,
    api_token: String,
    job: String,
    request: Value,
    waiting: Device,
}

const SESSION: &str = "agent:main:kept";

impl Kept {
    fn new(gateway: &TestGateway) -> Self {
        let mut owner = gateway.owner(4);
        let device = Device::new();
        let id = asks(gateway, &device);
        owner.call("device.pair.approve", &json!({"requestId": id}));
        let connect = Connect::new(4).token(TOKEN).device(&device).scopes(READ);
        let (_, hello) = gateway.from_afar(&connect).unwrap();
        let token = json!({"name": "kept", "scopes": ["operator.read"]});
        let api_token = owner.call("tokens.create", &token);
        let job = owner.call("cron.add", &job("kept"));
        let said = json!({"sessionKey": SESSION, "message": "kept words"});
        owner.call("sessions.patch", &json!({"key": SESSION, "label": "kept"}));
        owner.call("chat.inject", &said);
        let policy = owner.call("exec.approvals.get", &json!({}));
        owner.call(
            "exec.approvals.set",
            &json!({"file": {"version": 1}, "baseHash": policy["hash"]}),
        );
        let waiting = Device::new();
        Self {
            device_token: hello.device_token().unwrap().to_owned(),
            api_token: api_token["token"].as_str().unwrap().to_owned(),
            job: job["id"].as_str().unwrap().to_owned(),
            request: asks(gateway, &waiting),
            device,
            waiting,
        }
    }

    /// A change of each kind. None of them may be done before.
    fn changes(&self, owner: &mut Client) -> Vec<(&'static str, Value)> {
        let config = owner.call("config.get", &json!({}))["hash"].clone();
        let policy = owner.call("exec.approvals.get", &json!({}))["hash"].clone();
        let role = json!({"deviceId": self.device.id(), "role": "operator"});
        let raw = json!({"messages": {"changed": true}}).to_string();
        vec![
            ("cron.add", job("changed")),
            (
                "cron.update",
                json!({"id": self.job, "patch": {"name": "changed"}}),
            ),
            ("cron.remove", json!({"id": self.job})),
            ("config.patch", json!({"raw": raw, "baseHash": config})),
            ("device.pair.approve", json!({"requestId": self.request})),
            ("device.token.rotate", role),
            (
                "tokens.create",
                json!({"name": "changed", "scopes": ["operator.read"]}),
            ),
            ("tokens.revoke", json!({"name": "kept"})),
            (
                "sessions.patch",
                json!({"key": SESSION, "label": "changed"}),
            ),
            (
                "chat.inject",
                json!({"sessionKey": SESSION, "message": "changed"}),
            ),
            ("sessions.delete", json!({"key": SESSION})),
            (
                "exec.approvals.set",
                json!({
                    "file": {"version": 1, "defaults": {"security": "deny"}}, "baseHash": policy,
                }),
            ),
            ("set-heartbeats", json!({"enabled": true})),
            ("system-event", json!({"text": "changed"})),
        ]
    }

    /// All of it as it was made, and nothing else.
    #[track_caller]
    fn is_unchanged(&self, gateway: &TestGateway) {
        let mut owner = gateway.owner(4);
        let jobs = owner.call("cron.list", &json!({"includeDisabled": true}));
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs}");
        assert_eq!(jobs["jobs"][0]["name"], "kept");
        let tokens = owner.call("tokens.list", &json!({}));
        assert_eq!(tokens["tokens"].as_array().unwrap().len(), 1, "{tokens}");
        assert!(tokens["tokens"][0]["revokedAtMs"].is_null(), "{tokens}");
        let devices = owner.call("device.pair.list", &json!({}));
        let paired = devices["paired"].as_array().unwrap();
        // Those on this machine pair by themselves.
        let asked: Vec<&Value> = paired
            .iter()
            .filter(|one| one["approvedVia"] == "owner")
            .collect();
        assert_eq!(asked.len(), 1, "{devices}");
        assert_eq!(asked[0]["deviceId"], self.device.id());
        assert_eq!(devices["pending"][0]["deviceId"], self.waiting.id());
        let config = owner.call("config.get", &json!({}));
        assert!(config["config"]["messages"].is_null(), "{config}");
        let policy = owner.call("exec.approvals.get", &json!({}));
        assert!(policy["file"]["defaults"]["security"].is_null(), "{policy}");
        let session = owner.call("sessions.describe", &json!({"key": SESSION}));
        assert!(session.to_string().contains("kept"), "{session}");
        let history = owner.call("chat.history", &json!({"sessionKey": SESSION}));
        let messages = history["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 1, "{history}");
        assert!(messages[0].to_string().contains("kept words"), "{history}");
        let status = owner.call("status", &json!({}));
        assert_eq!(status["queuedSystemEvents"], json!([]), "{status}");
        // Who was let in is, by each credential.
        let alone = Connect::new(4)
            .device(&self.device)
            .scopes(READ)
            .auth("deviceToken", &self.device_token);
        gateway.from_afar(&alone).unwrap();
        gateway.welcome(&Connect::new(4).token(&self.api_token).scopes(READ));
    }
}

/// A gateway over a disk that will fail, with something of everything.
fn started(faults: &Faults) -> (TestGateway, Kept) {
    let gateway = faults.under(home!(token_config())).start();
    let kept = Kept::new(&gateway);
    (gateway, kept)
}

#[track_caller]
fn is_of_disk(method: &str, error: &WireError, codes: &[&str]) {
    assert_eq!(error.code, "UNAVAILABLE", "{method}: {error:?}");
    assert!(codes.contains(&error.detail_code()), "{method}: {error:?}");
    assert!(error.message.contains("disk"), "{method}: {error:?}");
    assert!(!error.message.contains("incident"), "{method}: {error:?}");
}

#[test]
fn a_full_disk_refuses_each_change_by_its_name_and_takes_them_when_there_is_room() {
    let mut faults = Faults::new();
    let (mut gateway, kept) = started(&faults);
    let mut owner = gateway.owner(4);
    let changes = kept.changes(&mut owner);
    let backups = || -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(gateway.home().config().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        found.sort();
        found
    };
    let before = backups();
    // A command whose device is known already.
    let terminal = Terminal::new();
    let url = format!("ws://{}", gateway.address());
    let health = || terminal.run(&["health", "--human", "--url", &url, "--token", TOKEN]);
    drop(health().exits(0).says("healthy"));
    faults.disk(FULL);
    // Not once only: what one of them leaves behind must not stand in the way of the next one.
    for _ in 0..3 {
        for (method, params) in &changes {
            let error = owner.refused(method, params);
            is_of_disk(method, &error, &["DISK_FULL"]);
            assert!(error.message.contains("nothing was changed"), "{error:?}");
            assert_eq!(error.raw["retryable"], true, "{error:?}");
        }
    }
    // A stranger cannot leave its request, and is told why.
    let connect = Connect::new(4)
        .token(TOKEN)
        .device(&Device::new())
        .scopes(READ);
    let refusal = gateway.from_afar(&connect).map(drop).unwrap_err();
    is_of_disk("connect", &refusal.error.unwrap(), &["DISK_FULL"]);
    let told = until(&mut owner, "health", |told| told["ok"] == false);
    assert_eq!(told["disk"]["code"], "DISK_FULL", "{told}");
    gateway.says("the disk is full");
    drop(
        health()
            .exits(0)
            .says("not healthy")
            .says("the disk is full"),
    );
    kept.is_unchanged(&gateway);
    assert_eq!(backups(), before, "nothing is left over or moved on");

    faults.disk(0);
    let told = until(&mut owner, "health", |told| told["ok"] == true);
    assert!(told.get("disk").is_none(), "{told}");
    kept.is_unchanged(&gateway);
    // The log says what is missing of it, and has whole lines before and after that.
    until(&mut owner, "logs.tail", |told| {
        told.to_string().contains("could not be written")
    });
    for entry in fs::read_dir(gateway.home().state().join("logs")).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            assert!(
                line.is_empty() || serde_json::from_str::<Value>(line).is_ok(),
                "{line}"
            );
        }
    }
    gateway.kill();
    gateway.restart();
    kept.is_unchanged(&gateway);
    let mut owner = gateway.owner(4);
    for (method, params) in &changes {
        owner.call(method, params);
    }
}

#[test]
fn a_start_on_a_full_disk_says_so_and_touches_nothing() {
    let mut faults = Faults::new();
    let (mut gateway, kept) = started(&faults);
    gateway.kill();
    let database = gateway.home().state().join("clawgate.sqlite");
    let (before, log) = (
        bytes(&database),
        bytes(&database.with_extension("sqlite-wal")),
    );
    faults.disk(FULL);
    let said = in_vain(&gateway);
    assert!(
        said.contains("disk is full") || said.contains("No space"),
        "{said}"
    );
    assert!(said.contains("df -h"), "{said}");
    assert_eq!(bytes(&database), before);
    assert_eq!(bytes(&database.with_extension("sqlite-wal")), log);
    faults.disk(0);
    gateway.restart();
    kept.is_unchanged(&gateway);
    // Where nothing ever was, nothing is left that looks like a loss.
    let fresh = faults.under(home!(token_config()));
    faults.disk(FULL);
    let ended = fresh.start_in_vain();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    faults.disk(0);
    fresh.start();
}

/// What a gateway says that must not come up again on the home of one that ended.
fn in_vain(gateway: &TestGateway) -> String {
    let ended = gateway.home().start_in_vain();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn a_turn_that_finds_no_room_fails_in_words_and_the_next_one_goes() {
    let chat = Dialect::Chat;
    let gate = Gate::new();
    let provider = Provider::start(vec![
        chat.text(&["Half ", "an answer"]).held_after(2, &gate),
        chat.text(&["All ", "is well."]),
    ]);
    let mut config = token_config();
    config["models"] = json!({"providers": {"scripted": provider.config(chat)}});
    config["agents"] = json!({"defaults": {"model": "scripted/some-model"}});
    let mut faults = Faults::new();
    let mut gateway = faults.under(home!(config)).start();
    let mut owner = gateway.owner(4);
    let ask = |words: &str| json!({"message": words, "sessionKey": "agent:main:room", "idempotencyKey": words});
    // One that begins without room is told so at once.
    faults.disk(FULL);
    let error = owner.refused("agent", &ask("none"));
    is_of_disk("agent", &error, &["DISK_FULL"]);
    faults.disk(0);
    until(&mut owner, "health", |told| told["ok"] == true);
    let id = owner.send("agent", &ask("first"));
    let Call::Ok(accepted) = owner.answer(&id) else {
        panic!("it is accepted")
    };
    assert_eq!(accepted["status"], "accepted");
    // Its words come; what it says has no room.
    loop {
        let event = owner.event("agent");
        if event["payload"]["stream"] == "assistant" {
            break;
        }
    }
    faults.disk(FULL);
    gate.open();
    let frame = owner.response();
    assert_eq!(frame["ok"], false, "{frame}");
    let error = WireError::of(&frame["error"]);
    assert_eq!(error.detail_code(), "AGENT_TURN_FAILED", "{error:?}");
    assert!(error.message.contains("disk is full"), "{error:?}");
    let history = owner.call("chat.history", &json!({"sessionKey": "agent:main:room"}));
    assert_eq!(
        history["messages"].as_array().unwrap().len(),
        1,
        "{history}"
    );
    faults.disk(0);
    until(&mut owner, "health", |told| told["ok"] == true);
    let id = owner.send("agent", &ask("second"));
    assert!(matches!(owner.answer(&id), Call::Ok(_)));
    let frame = owner.response();
    assert_eq!(frame["ok"], true, "{frame}");
    let wait = |owner: &mut Client, key: &str| {
        owner.call("agent.wait", &json!({"runId": key, "timeoutMs": 0}))
    };
    assert_eq!(wait(&mut owner, "second")["status"], "ok");
    let deadline = Instant::now() + PATIENCE;
    while wait(&mut owner, "first")["status"] != "error" {
        assert!(Instant::now() < deadline, "how it ended is not recorded");
    }
    // What could not be recorded then is now: the next start finds nothing that was under way.
    gateway.kill();
    gateway.restart();
    let mut owner = gateway.owner(4);
    assert_eq!(wait(&mut owner, "second")["status"], "ok");
    let first = wait(&mut owner, "first");
    assert_eq!(first["status"], "error", "{first}");
    assert_eq!(provider.asked().len(), 2);
}

#[test]
fn a_sync_that_fails_ends_the_writing_until_a_restart_has_read_the_file() {
    let mut faults = Faults::new();
    let (mut gateway, kept) = started(&faults);
    let mut owner = gateway.owner(4);
    let mut changes = kept.changes(&mut owner);
    faults.disk(NO_SYNC);
    // The first one may be there or not; it is never said to be done, and it is whole.
    let first = owner.refused("tokens.create", &json!({"name": "open", "scopes": READ}));
    is_of_disk("tokens.create", &first, &["DISK_NOT_SYNCED"]);
    assert!(first.message.contains("after a restart"), "{first:?}");
    for (method, params) in &changes {
        let error = owner.refused(method, params);
        is_of_disk(method, &error, &["DISK_NOT_SYNCED", "DISK_FAILED"]);
    }
    faults.disk(0);
    // The files beside the database are replaced whole or not at all, and need no restart.
    let in_files = |method: &str| method == "config.patch" || method == "exec.approvals.set";
    changes.retain(|(method, _)| !in_files(method));
    for (method, params) in &changes {
        let error = owner.refused(method, params);
        is_of_disk(method, &error, &["DISK_NOT_SYNCED"]);
        assert!(error.message.contains("nothing was changed"), "{error:?}");
        assert!(error.raw.get("retryable").is_none(), "{error:?}");
    }
    let told = until(&mut owner, "health", |told| told["ok"] == false);
    assert_eq!(told["disk"]["code"], "DISK_NOT_SYNCED", "{told}");
    kept.is_unchanged(&gateway);
    for clean in [false, true] {
        if clean {
            faults.disk(NO_SYNC);
            let mut owner = gateway.owner(4);
            owner.refused("tokens.create", &json!({"name": "open", "scopes": READ}));
            faults.disk(0);
            gateway.terminate();
            assert_eq!(gateway.ended().code, Some(0));
        } else {
            gateway.kill();
        }
        gateway.restart();
        let mut owner = gateway.owner(4);
        let tokens = owner.call("tokens.list", &json!({}))["tokens"].clone();
        let open = tokens
            .as_array()
            .unwrap()
            .iter()
            .any(|token| token["name"] == "open");
        // What was undecided is decided now, and whole.
        if open {
            owner.call("tokens.revoke", &json!({"name": "open"}));
            let mut db = database(&gateway);
            drop(owner);
            gateway.terminate();
            gateway.ended();
            db = rusqlite::Connection::open(db.path().unwrap()).unwrap();
            db.execute("DELETE FROM api_tokens WHERE name = 'open'", [])
                .unwrap();
            drop(db);
            gateway.restart();
        }
        kept.is_unchanged(&gateway);
    }
    let mut owner = gateway.owner(4);
    for (method, params) in &kept.changes(&mut owner) {
        owner.call(method, params);
    }
}

fn database(gateway: &TestGateway) -> rusqlite::Connection {
    rusqlite::Connection::open(gateway.home().state().join("clawgate.sqlite")).unwrap()
}

#[test]
fn a_disk_that_turns_read_only_refuses_changes_and_a_start_and_needs_no_restart_afterwards() {
    let mut faults = Faults::new();
    let (mut gateway, kept) = started(&faults);
    let mut owner = gateway.owner(4);
    let changes = kept.changes(&mut owner);
    faults.disk(READ_ONLY);
    for (method, params) in &changes {
        let error = owner.refused(method, params);
        is_of_disk(method, &error, &["DISK_FAILED"]);
    }
    let told = until(&mut owner, "health", |told| told["ok"] == false);
    assert_eq!(told["disk"]["code"], "DISK_FAILED", "{told}");
    kept.is_unchanged(&gateway);
    gateway.kill();
    let said = in_vain(&gateway);
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("findmnt"), "{said}");
    faults.disk(0);
    gateway.restart();
    kept.is_unchanged(&gateway);
    faults.disk(READ_ONLY);
    let mut owner = gateway.owner(4);
    owner.refused("cron.add", &job("changed"));
    faults.disk(0);
    until(&mut owner, "health", |told| told["ok"] == true);
    for (method, params) in &kept.changes(&mut owner) {
        owner.call(method, params);
    }
}

/// Writes over a page of a file, counted from 1.
fn spoil(path: &Path, page: u64) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start((page - 1) * PAGE)).unwrap();
    file.write_all(&[0x55; 4_096]).unwrap();
}

/// Where the root of a table or index lies.
fn root_of(path: &Path, table: &str) -> u64 {
    let db = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: i64 = db.query_row(sql, [table], |row| row.get(0)).unwrap();
    u64::try_from(page).unwrap()
}

fn doctor(state: &Path, config: &Path) -> Done {
    let (state, config) = (state.display().to_string(), config.display().to_string());
    Terminal::new().run(&[
        "doctor",
        "--deep",
        "--json",
        "--state-dir",
        &state,
        "--config",
        &config,
    ])
}

#[track_caller]
fn doctor_finds(gateway: &TestGateway, what: &str) {
    let report = doctor(&gateway.home().state(), &gateway.home().config());
    let report = report.exits(1).json();
    let found = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == "database.unusable" || one["id"] == "database.damaged")
        .unwrap_or_else(|| panic!("{what}: nothing in {report:#}"));
    assert_eq!(found["severity"], "critical", "{what}: {found}");
    let fix = found["remediation"].as_str().or(found["fix"].as_str());
    let fix = fix.unwrap_or_else(|| panic!("{what}: {found}"));
    assert!(fix.contains("backup restore"), "{what}: {found}");
}

#[test]
fn a_database_that_is_not_whole_is_refused_with_what_to_do_and_left_as_it_is() {
    let mut faults = Faults::new();
    let (mut gateway, kept) = started(&faults);
    faults.disk(0);
    // A log with commits in it, as a kill leaves it.
    gateway.kill();
    let state = gateway.home().state();
    let (path, log) = (
        state.join("clawgate.sqlite"),
        state.join("clawgate.sqlite-wal"),
    );
    let with_log = (bytes(&path), bytes(&log));
    assert!(with_log.1.len() > 32);
    gateway.restart();
    gateway.terminate();
    gateway.ended();
    let whole = bytes(&path);
    assert!(!log.exists());
    let jobs = root_of(&path, "cron_jobs");
    type Harm = Box<dyn Fn()>;
    let cases: Vec<(&str, Harm)> = vec![
        ("empty", {
            let path = path.clone();
            Box::new(move || fs::write(&path, []).unwrap())
        }),
        ("cut in half", {
            let (path, whole) = (path.clone(), whole.clone());
            Box::new(move || fs::write(&path, &whole[..whole.len() / 2]).unwrap())
        }),
        ("cut within a page", {
            let (path, whole) = (path.clone(), whole.clone());
            Box::new(move || fs::write(&path, &whole[..whole.len() - 1_000]).unwrap())
        }),
        ("a text", {
            let path = path.clone();
            Box::new(move || fs::write(&path, "it was here").unwrap())
        }),
        ("a page of jobs", {
            let path = path.clone();
            Box::new(move || spoil(&path, jobs))
        }),
        ("the schema", {
            let path = path.clone();
            Box::new(move || {
                let mut file = OpenOptions::new().write(true).open(&path).unwrap();
                file.seek(SeekFrom::Start(100)).unwrap();
                file.write_all(&[0x55; 2_000]).unwrap();
            })
        }),
        ("garbage for a log", {
            let (path, log, old) = (path.clone(), log.clone(), with_log.0.clone());
            Box::new(move || {
                fs::write(&path, &old).unwrap();
                fs::write(&log, vec![0x55; 200_000]).unwrap();
            })
        }),
        ("a log whose head is gone", {
            let (path, log, old) = (path.clone(), log.clone(), with_log.clone());
            Box::new(move || {
                fs::write(&path, &old.0).unwrap();
                let mut text = old.1.clone();
                text[..32].fill(7);
                fs::write(&log, text).unwrap();
            })
        }),
    ];
    for (what, harm) in &cases {
        fs::write(&path, &whole).unwrap();
        let _ = fs::remove_file(&log);
        let _ = fs::remove_file(state.join("clawgate.sqlite-shm"));
        harm();
        let before = (bytes(&path), fs::read(&log).ok());
        let said = in_vain(&gateway);
        assert!(said.contains("database"), "{what}: {said}");
        assert!(said.contains("clawgate doctor"), "{what}: {said}");
        assert!(said.contains("backup restore"), "{what}: {said}");
        assert!(bytes(&path) == before.0, "{what}: it was written");
        assert!(fs::read(&log).ok() == before.1, "{what}: its log was");
        doctor_finds(&gateway, what);
        assert!(bytes(&path) == before.0, "{what}: the doctor wrote");
    }
    // The log that a kill left, and the file before it, are the whole state.
    fs::write(&path, &with_log.0).unwrap();
    fs::write(&log, &with_log.1).unwrap();
    let _ = fs::remove_file(state.join("clawgate.sqlite-shm"));
    gateway.restart();
    kept.is_unchanged(&gateway);
}

#[test]
fn damage_that_is_met_while_it_runs_ends_the_writing_and_is_told_to_everybody_who_meets_it() {
    let faults = Faults::new();
    let (mut gateway, kept) = started(&faults);
    gateway.terminate();
    gateway.ended();
    let path = gateway.home().state().join("clawgate.sqlite");
    // What a start does not look at: the words of a conversation.
    spoil(&path, root_of(&path, "transcript_entries"));
    gateway.restart();
    let mut owner = gateway.owner(4);
    let error = owner.refused("chat.history", &json!({"sessionKey": SESSION}));
    assert_eq!(error.code, "UNAVAILABLE", "{error:?}");
    assert_eq!(error.detail_code(), "DATABASE_DAMAGED", "{error:?}");
    for words in ["database is damaged", "doctor --deep", "backup restore"] {
        assert!(error.message.contains(words), "{error:?}");
    }
    let told = until(&mut owner, "health", |told| told["ok"] == false);
    assert_eq!(told["disk"]["code"], "DATABASE_DAMAGED", "{told}");
    let before = owner.call("cron.list", &json!({}));
    let error = owner.refused("cron.add", &job("changed"));
    assert_eq!(error.detail_code(), "DATABASE_DAMAGED", "{error:?}");
    assert_eq!(owner.call("cron.list", &json!({}))["jobs"], before["jobs"]);
    let alone = Connect::new(4)
        .device(&kept.device)
        .scopes(READ)
        .auth("deviceToken", &kept.device_token);
    gateway.from_afar(&alone).unwrap();
    doctor_finds(&gateway, "while it runs");
    gateway.terminate();
    assert_eq!(gateway.ended().code, Some(0));
}

#[test]
fn jobs_that_are_due_while_the_disk_is_full_have_one_record_a_slot_and_no_effect_twice() {
    const EVERY_MS: i64 = 20;
    let mut faults = Faults::new();
    let gateway = faults.under(home!(token_config())).start();
    let mut owner = gateway.owner(4);
    let outside = tempfile::tempdir().unwrap();
    let effects = outside.path().join("effects");
    let script = format!("echo $CLAWGATE_SLOT_MS >> '{}'", effects.display());
    let job = owner.call(
        "cron.add",
        &json!({
            "name": "often", "schedule": {"kind": "every", "everyMs": EVERY_MS},
            "payload": {"kind": "command", "argv": ["/bin/sh", "-c", script]},
            "disableAfter": false,
        }),
    );
    let id = job["id"].clone();
    for _ in 0..4 {
        for _ in 0..3 {
            while owner.event("cron")["payload"]["action"] != "finished" {}
        }
        faults.disk(FULL);
        until(&mut owner, "health", |told| told["ok"] == false);
        let before = fs::read_to_string(&effects).unwrap().lines().count();
        // It is tried again and again, and nothing runs that could not be written down.
        gateway.says("cron could not write");
        let error = owner.refused("cron.run", &json!({"id": id}));
        is_of_disk("cron.run", &error, &["DISK_FULL"]);
        let after = fs::read_to_string(&effects).unwrap().lines().count();
        assert!(
            after <= before + 1,
            "what was claimed before may have ended"
        );
        faults.disk(0);
        until(&mut owner, "health", |told| told["ok"] == true);
    }
    let patch = json!({"id": id, "patch": {"enabled": false}});
    let deadline = Instant::now() + PATIENCE;
    // The scheduler reads its state anew when it can.
    while !matches!(owner.try_call("cron.update", &patch), Call::Ok(_)) {
        assert!(Instant::now() < deadline, "cron does not go on");
    }
    until_no_run(&mut owner);
    let mut entries: Vec<Value> = Vec::new();
    loop {
        let params = json!({"id": id, "scope": "job", "limit": 200, "offset": entries.len()});
        let page = owner.call("cron.runs", &params);
        entries.extend(page["entries"].as_array().unwrap().iter().cloned());
        if page["hasMore"] != true {
            break;
        }
    }
    let mut slots: Vec<(i64, i64)> = entries
        .iter()
        .filter_map(|entry| {
            let first = entry["slotMs"].as_i64()?;
            Some((first, entry["lastSlotMs"].as_i64().unwrap_or(first)))
        })
        .collect();
    slots.sort_unstable();
    let mut next = job["state"]["nextRunAtMs"].as_i64().unwrap();
    for (first, last) in &slots {
        assert_eq!(*first, next, "a slot is missing or recorded twice");
        next = last + EVERY_MS;
    }
    let text = fs::read_to_string(&effects).unwrap();
    let mut done: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let times = done.len();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), times, "something was done twice");
    println!("{} records, {times} effects", slots.len());
}

#[test]
fn while_the_disk_is_full_it_is_not_ready_and_cron_says_once_when_it_begins_and_when_it_is_over() {
    const ASKED: usize = 20;
    let mut faults = Faults::new();
    let gateway = faults.under(home!(token_config())).start();
    let mut owner = gateway.owner(4);
    let often = json!({
        "name": "often", "schedule": {"kind": "every", "everyMs": 20},
        "payload": {"kind": "command", "argv": ["/bin/true"]}, "disableAfter": false,
    });
    let id = owner.call("cron.add", &often)["id"].clone();
    let probe = |headers: &[(&str, &str)]| {
        let answer = request(gateway.address(), "GET", "/ready", headers);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, body)
    };
    let stranger = [("Via", "1.1 x")];
    while owner.event("cron")["payload"]["action"] != "finished" {}
    assert_eq!(probe(&[]).0, 200);
    for round in 1..=2 {
        faults.disk(FULL);
        until(&mut owner, "health", |told| told["ok"] == false);
        let (status, body) = probe(&[]);
        assert_eq!((status, &body["ready"]), (503, &json!(false)), "{body}");
        assert_eq!(body["failing"], json!(["disk"]));
        assert_eq!(probe(&stranger), (503, json!({"ready": false})));
        let health = request(gateway.address(), "GET", "/health", &[]);
        assert_eq!(health.status, 200, "it lives: a restart makes no room");
        for _ in 0..ASKED {
            let Call::Error(error) = owner.try_call("cron.run", &json!({"id": id})) else {
                panic!("{}", gateway.stderr());
            };
            is_of_disk("cron.run", &error, &["DISK_FULL"]);
        }
        faults.disk(0);
        until(&mut owner, "health", |told| told["ok"] == true);
        let (status, body) = probe(&[]);
        assert_eq!((status, &body["failing"]), (200, &json!([])), "{body}");
        // Whoever waits for the next run knows that cron has written.
        let deadline = Instant::now() + PATIENCE;
        let lines = |words: &str| -> Vec<String> {
            let said = gateway.stderr();
            let of_it = said.lines().filter(|line| line.contains(words));
            of_it.map(str::to_owned).collect()
        };
        while lines("cron writes again").len() < round {
            assert!(Instant::now() < deadline, "{}", gateway.stderr());
            owner.event("cron");
        }
        let (begun, over) = (lines("cron could not write"), lines("cron writes again"));
        assert_eq!(
            (begun.len(), over.len()),
            (round, round),
            "{begun:?} {over:?}"
        );
        let told = over[round - 1].split("times=").nth(1);
        let digits = told.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        let times: usize = digits.map_or(0, |text: String| text.parse().unwrap_or(0));
        assert!((ASKED..100 * ASKED).contains(&times), "{over:?}");
        assert_eq!(lines("cron still cannot write").len(), 0, "not a minute");
    }
}

fn until_no_run(owner: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = owner.call("cron.list", &json!({"includeDisabled": true}));
        let runs = |job: &Value| job["state"].get("runningAtMs").is_some();
        if !page["jobs"].as_array().unwrap().iter().any(runs) {
            return;
        }
        assert!(Instant::now() < deadline, "a run goes on: {page}");
    }
}
