//! Backups: of a gateway that runs, brought back elsewhere, and archives that are not what they were.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "each file of tests uses a part of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use clawgate_testkit::{
    Connect, Device, Home, OPERATOR, TestGateway, gateway, home,
    provider::{Dialect, Provider},
    token_config,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use tempfile::TempDir;
use terminal::{Done, Terminal};

fn job(name: &str) -> Value {
    json!({"name": name, "schedule": {"kind": "every", "everyMs": 3_600_000},
        "sessionTarget": "main", "wakeMode": "now",
        "payload": {"kind": "systemEvent", "text": "hello"}})
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn backup(home: &Home, args: &[&str]) -> Done {
    let (state, config) = (text(&home.state()), text(&home.config()));
    let common = ["--state-dir", &state, "--config", &config];
    Terminal::new().run(&[&["backup"], args, &common].concat())
}

fn created(home: &Home, at: &Path) -> Value {
    let at = text(at);
    let done = backup(home, &["create", "--output", &at, "--verify", "--json"]);
    done.exits(0).json()
}

fn restore(archive: &Path, into: &Path, more: &[&str]) -> Done {
    let (archive, into) = (text(archive), text(into));
    let args = ["backup", "restore", &archive, "--into", &into, "--json"];
    Terminal::new().run(&[&args, more].concat())
}

fn verify(archive: &Path) -> Done {
    Terminal::new().run(&["backup", "verify", &text(archive), "--json"])
}

/// A home of a state directory that was brought back.
fn restored_home(archive: &Path) -> Home {
    let home = home!(token_config());
    drop(restore(archive, &home.state(), &[]).exits(0));
    home
}

#[test]
fn what_was_acknowledged_before_a_backup_of_a_busy_gateway_is_there_after_its_restore() {
    let mut gateway = gateway!();
    let device = Device::new();
    let connect = Connect::new(4)
        .token(clawgate_testkit::TOKEN)
        .device(&device)
        .scopes(&OPERATOR);
    let (_, hello) = gateway.welcome(&connect);
    let device_token = hello.device_token().unwrap().to_owned();
    let acknowledged = Mutex::new(BTreeSet::new());
    let enough = AtomicBool::new(false);
    let out = TempDir::new().unwrap();
    let archive = out.path().join("state.tar.gz");
    let mut before = BTreeSet::new();
    let mut report = Value::Null;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (gateway, acknowledged, enough) = (&gateway, &acknowledged, &enough);
                scope.spawn(move || {
                    let mut client = gateway.owner(4);
                    let mut number = 0;
                    // A few at least, so that writes were under way on both sides of the copy.
                    while number < 20 || !enough.load(Ordering::Acquire) {
                        let kept = client.call("cron.add", &job(&format!("{writer}-{number}")));
                        let id = kept["id"].as_str().unwrap().to_owned();
                        acknowledged.lock().unwrap().insert(id);
                        number += 1;
                    }
                })
            })
            .collect();
        while acknowledged.lock().unwrap().len() < 10 {
            std::thread::yield_now();
        }
        before.clone_from(&acknowledged.lock().unwrap());
        report = created(gateway.home(), &archive);
        enough.store(true, Ordering::Release);
        for writer in writers {
            writer.join().unwrap();
        }
    });
    gateway.kill();
    assert_eq!(report["verified"], true);
    let kinds: Vec<&str> = report["assets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|asset| asset["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["state", "config"], "{report:#}");
    let mode = fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let home = restored_home(&archive);
    assert!(home.state().join("clawgate.json").is_file());
    let back = home.start();
    let jobs = ids(&back);
    assert!(before.is_subset(&jobs), "{before:?} in {jobs:?}");
    let everything = acknowledged.into_inner().unwrap();
    assert!(jobs.is_subset(&everything), "nothing that never was");
    // Keys and database came together: the device's token is good, and so is local proof.
    let alone = Connect::new(4)
        .device(&device)
        .scopes(&OPERATOR)
        .auth("deviceToken", &device_token);
    back.from_afar(&alone).unwrap();
    let key = back.home().local_key();
    back.welcome(&Connect::new(4).local_proof(&key));
}

fn ids(gateway: &TestGateway) -> BTreeSet<String> {
    let mut client = gateway.owner(4);
    let mut found = BTreeSet::new();
    loop {
        let page = client.call(
            "cron.list",
            &json!({"includeDisabled": true, "limit": 200, "offset": found.len()}),
        );
        let jobs = page["jobs"].as_array().unwrap();
        found.extend(
            jobs.iter()
                .map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        if jobs.is_empty() || page["hasMore"] == false {
            return found;
        }
    }
}

/// A backup of a gateway that stopped, with one job, and the directory that it lies in.
fn small() -> (TempDir, PathBuf, TestGateway) {
    let mut gateway = gateway!();
    gateway.owner(4).call("cron.add", &job("one"));
    gateway.terminate();
    gateway.ended();
    let out = TempDir::new().unwrap();
    let archive = out.path().join("one.tar.gz");
    created(gateway.home(), &archive);
    (out, archive, gateway)
}

#[test]
fn a_report_has_the_members_of_the_originals_and_an_archive_is_never_written_over() {
    let (out, archive, gateway) = small();
    let verified = verify(&archive).exits(0).json();
    for member in [
        "ok",
        "archivePath",
        "archiveRoot",
        "createdAt",
        "runtimeVersion",
    ] {
        assert!(!verified[member].is_null(), "{member} of {verified:#}");
    }
    assert_eq!(verified["assetCount"], 2);
    assert!(verified["entryCount"].as_u64().unwrap() > 5, "{verified:#}");
    let at = text(&archive);
    let again = backup(gateway.home(), &["create", "--output", &at, "--json"]).exits(1);
    assert_eq!(again.json_error()["code"], "BACKUP_EXISTS");
    let inside = text(&gateway.home().state().join("x.tar.gz"));
    let inside = backup(gateway.home(), &["create", "--output", &inside, "--json"]).exits(1);
    assert_eq!(inside.json_error()["code"], "BACKUP_INSIDE_SOURCE");

    let directory = text(out.path());
    let dry = backup(
        gateway.home(),
        &["create", "--output", &directory, "--dry-run", "--json"],
    );
    let dry = dry.exits(0).json();
    assert_eq!(dry["dryRun"], true);
    assert_eq!(dry["verified"], false);
    let planned = PathBuf::from(dry["archivePath"].as_str().unwrap());
    assert!(!planned.exists());
    assert!(planned.starts_with(out.path()));
    let config = out.path().join("config.tar.gz");
    let config_text = text(&config);
    let only = backup(
        gateway.home(),
        &[
            "create",
            "--only-config",
            "--output",
            &config_text,
            "--verify",
            "--json",
        ],
    );
    let only = only.exits(0).json();
    assert_eq!(only["includeWorkspace"], false);
    assert_eq!(verify(&config).exits(0).json()["entryCount"], 3);
    let list = Terminal::new().run(&["backup", "list", &directory, "--json"]);
    let list = list.exits(0).json();
    let listed: Vec<&str> = list["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["archivePath"].as_str().unwrap())
        .collect();
    assert_eq!(
        listed,
        [config_text.as_str(), at.as_str()],
        "the newest first"
    );
}

#[test]
fn a_state_that_is_there_is_kept_unless_it_may_be_replaced_and_then_it_is_a_backup() {
    let (_out, archive, mut gateway) = small();
    gateway.restart();
    let state = gateway.home().state();
    let held = restore(&archive, &state, &["--force"]).exits(1);
    assert_eq!(held.json_error()["code"], "TARGET_IN_USE");
    gateway.owner(4).call("cron.add", &job("two"));
    assert_eq!(ids(&gateway).len(), 2);
    gateway.terminate();
    gateway.ended();
    let before = fs::read(state.join("clawgate.sqlite")).unwrap();
    let refused = restore(&archive, &state, &[]).exits(1);
    assert_eq!(refused.json_error()["code"], "TARGET_NOT_EMPTY");
    let dry = restore(&archive, &state, &["--dry-run"]).exits(0).json();
    assert_eq!(dry["replaced"], Value::Null);
    assert_eq!(fs::read(state.join("clawgate.sqlite")).unwrap(), before);

    let log_before = fs::read_dir(state.join("logs")).unwrap().count();
    let done = restore(&archive, &state, &["--force"]).exits(0).json();
    gateway.restart();
    assert_eq!(ids(&gateway).len(), 1);
    assert_eq!(
        fs::read_dir(state.join("logs")).unwrap().count(),
        log_before
    );
    let replaced = PathBuf::from(done["replaced"].as_str().unwrap());
    let elsewhere = restored_home(&replaced).start();
    assert_eq!(
        ids(&elsewhere).len(),
        2,
        "what was replaced can be brought back"
    );
    let beside: Vec<_> = fs::read_dir(state.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(beside, Vec::<String>::new(), "nothing is left over");
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let (_out, archive, mut gateway) = small();
    let home = gateway.home();
    let (state, config) = (text(&home.state()), text(&home.config()));
    let archive_text = text(&archive);
    let whole = std::time::Instant::now();
    drop(restore(&archive, &home.state(), &["--force"]).exits(0));
    let whole = whole.elapsed();
    for round in 1..=12_u32 {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .args(["backup", "restore", &archive_text, "--into", &state])
            .args(["--force", "--config", &config])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Killed at another moment of its work each time.
        let until = std::time::Instant::now() + whole * round / 12;
        while std::time::Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().unwrap();
        let doctor = Terminal::new().run(&["doctor", "--deep", "--json", "--state-dir", &state]);
        let report = doctor.json();
        assert_eq!(report["database"]["jobs"], 1, "round {round}: {report:#}");
        for lost in ["database", "keys"] {
            let found = report["findings"].as_array().unwrap().iter();
            let id = |one: &Value| one["id"].as_str().unwrap().starts_with(lost);
            assert_eq!(
                found.filter(|one| id(one)).count(),
                0,
                "round {round}: {report:#}"
            );
        }
        let beside = fs::read_dir(home.state().parent().unwrap()).unwrap();
        let left = beside
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_str().unwrap().starts_with(".clawgate.")
            })
            .count();
        let findings = report["findings"].as_array().unwrap().iter();
        let named = findings.filter(|one| one["id"] == "backup.left_over");
        assert_eq!(
            named.count(),
            left,
            "what is left over is named: {report:#}"
        );
    }
    gateway.restart();
    assert_eq!(ids(&gateway).len(), 1);
}

#[test]
fn a_configuration_and_a_workspace_that_lie_elsewhere_come_along_as_they_were_asked_for() {
    let (out, _archive, gateway) = small();
    let home = gateway.home();
    let elsewhere = out.path().join("work");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("AGENTS.md"), "elsewhere").unwrap();
    fs::create_dir(home.state().join("workspace")).unwrap();
    fs::write(home.state().join("workspace/SOUL.md"), "inside").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", home.state().join("workspace/link")).unwrap();
    let mut config = token_config();
    config["agents"] = json!({"defaults": {"workspace": elsewhere}});
    home.write_config(&config.to_string());
    let with = out.path().join("with.tar.gz");
    let report = created(home, &with);
    let kinds = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|one| {
            format!(
                "{} {}",
                one["kind"].as_str().unwrap(),
                one["reason"].as_str().unwrap_or("")
            )
        })
        .collect()
    };
    assert_eq!(
        kinds(&report["assets"]),
        ["state ", "config ", "workspace "]
    );
    let skipped = kinds(&report["skipped"]);
    for wanted in [
        "workspace covered",
        "file not-a-file",
        "directory not-state",
    ] {
        assert!(
            skipped.iter().any(|one| one == wanted),
            "{wanted} in {skipped:?}"
        );
    }
    let into = out.path().join("new");
    let config_at = out.path().join("other.json");
    let place = text(&config_at);
    let done = restore(&with, &into, &["--config", &place]).exits(0).json();
    assert_eq!(done["configPath"], place.as_str());
    assert_eq!(fs::read_to_string(&config_at).unwrap(), config.to_string());
    assert!(!into.join("clawgate.json").exists());
    assert_eq!(
        fs::read_to_string(into.join("workspace/SOUL.md")).unwrap(),
        "inside"
    );
    assert!(!into.join("workspace/link").exists());
    assert_eq!(done["skipped"][0]["reason"], "outside-the-state-directory");

    let without = text(&out.path().join("without.tar.gz"));
    let args = [
        "create",
        "--no-include-workspace",
        "--output",
        &without,
        "--json",
    ];
    let report = backup(home, &args).exits(0).json();
    assert_eq!(report["includeWorkspace"], false);
    let skipped = kinds(&report["skipped"]);
    assert_eq!(
        skipped
            .iter()
            .filter(|one| *one == "workspace not-wanted")
            .count(),
        2,
        "{skipped:?}"
    );
}

/// An archive written anew, with its entries changed.
fn rewritten(archive: &Path, change: impl Fn(&str, Vec<u8>) -> Vec<(String, Vec<u8>)>) -> PathBuf {
    let mut reader = tar::Archive::new(GzDecoder::new(fs::File::open(archive).unwrap()));
    let path = archive.with_file_name(format!("{}.tar.gz", rand()));
    let mut writer = tar::Builder::new(GzEncoder::new(
        fs::File::create(&path).unwrap(),
        Compression::fast(),
    ));
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        for (name, bytes) in change(&name, bytes) {
            append(&mut writer, &name, &bytes, tar::EntryType::Regular);
        }
    }
    writer
        .into_inner()
        .unwrap()
        .finish()
        .unwrap()
        .flush()
        .unwrap();
    path
}

/// The crate's own setters refuse names that lead out; an attacker's do not.
fn append(
    writer: &mut tar::Builder<impl std::io::Write>,
    name: &str,
    bytes: &[u8],
    kind: tar::EntryType,
) {
    if name.len() < 100 {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        if kind == tar::EntryType::Symlink {
            header.set_link_name("/etc").unwrap();
        }
        header.set_size(u64::try_from(bytes.len()).unwrap());
        header.set_mode(0o600);
        header.set_cksum();
        writer.append(&header, bytes).unwrap();
    } else {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).unwrap());
        header.set_mode(0o600);
        writer.append_data(&mut header, name, bytes).unwrap();
    }
}

fn rand() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What must be refused by both, with nothing brought back.
#[track_caller]
fn is_refused(archive: &Path, code: &str, why: &str) {
    let done = verify(archive).exits(1);
    let error = done.json_error();
    assert_eq!(error["code"], code, "{error:#}");
    assert!(
        error["message"].as_str().unwrap().contains(why),
        "{error:#}"
    );
    let parent = TempDir::new().unwrap();
    let error = restore(archive, &parent.path().join("new"), &[])
        .exits(1)
        .json_error();
    assert_eq!(error["code"], code, "{error:#}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "{error:#}");
}

#[test]
fn an_archive_that_was_changed_is_refused_whole() {
    let (_out, archive, _gateway) = small();
    let same = |name: &str, bytes: Vec<u8>| vec![(name.to_owned(), bytes)];
    drop(verify(&rewritten(&archive, same)).exits(0));

    let ends = |name: &str, end: &str| name.ends_with(end);
    let another_key = rewritten(&archive, |name, mut bytes| {
        if ends(name, "identity/local.key") {
            bytes[0] = if bytes[0] == b'0' { b'1' } else { b'0' };
        }
        same(name, bytes)
    });
    is_refused(&another_key, "BACKUP_DAMAGED", "has another checksum");
    let less = rewritten(&archive, |name, bytes| {
        if ends(name, "identity/local.key") {
            Vec::new()
        } else {
            same(name, bytes)
        }
    });
    is_refused(&less, "BACKUP_DAMAGED", "is missing");
    let without_end = rewritten(&archive, |name, bytes| {
        if ends(name, "checksums.json") {
            Vec::new()
        } else {
            same(name, bytes)
        }
    });
    is_refused(&without_end, "BACKUP_DAMAGED", "its end is missing");
    let more = rewritten(&archive, |name, bytes| {
        let mut entries = same(name, bytes);
        if ends(name, "identity/local.key") {
            entries.push((name.replace("local.key", "more.key"), b"x".to_vec()));
        }
        entries
    });
    is_refused(&more, "BACKUP_DAMAGED", "not in the checksums");
    let whole = fs::read(&archive).unwrap();
    let cut = archive.with_file_name("cut.tar.gz");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    is_refused(&cut, "BACKUP_DAMAGED", "");
    let other = archive.with_file_name("other.tar.gz");
    fs::write(&other, "not an archive").unwrap();
    is_refused(&other, "NOT_A_BACKUP", "");
    // A database whose checksum is right and whose pages are not.
    let torn = rewritten(&archive, |name, mut bytes| {
        if ends(name, "clawgate.sqlite") {
            let middle = bytes.len() / 2;
            bytes[middle..].fill(0x55);
        }
        if ends(name, "checksums.json") {
            return Vec::new();
        }
        same(name, bytes)
    });
    let torn = with_checksums(&torn);
    is_refused(&torn, "BACKUP_DAMAGED", "its database is not whole");
}

/// The same with checksums of what is in it, as one who changes an archive would make them.
fn with_checksums(archive: &Path) -> PathBuf {
    let mut reader = tar::Archive::new(GzDecoder::new(fs::File::open(archive).unwrap()));
    let mut sums = serde_json::Map::new();
    let mut root = String::new();
    let mut kept = Vec::new();
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let kind = entry.header().entry_type();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if root.is_empty() {
            name.split('/').next().unwrap().clone_into(&mut root);
        }
        let sum = clawgate_testkit::sha256_hex(&bytes);
        sums.insert(name.clone(), json!({"bytes": bytes.len(), "sha256": sum}));
        kept.push((name, bytes, kind));
    }
    let path = archive.with_file_name(format!("{}.tar.gz", rand()));
    let gzip = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
    let mut writer = tar::Builder::new(gzip);
    for (name, bytes, kind) in kept {
        append(&mut writer, &name, &bytes, kind);
    }
    let sums = Value::Object(sums).to_string();
    let name = format!("{root}/checksums.json");
    append(&mut writer, &name, sums.as_bytes(), tar::EntryType::Regular);
    writer.into_inner().unwrap().finish().unwrap();
    path
}

#[test]
fn an_archive_that_leads_out_of_its_directory_is_refused() {
    let (_out, archive, _gateway) = small();
    for (name, kind) in [
        ("ROOT/../../escaped", tar::EntryType::Regular),
        ("/tmp/clawgate-escaped", tar::EntryType::Regular),
        ("elsewhere/file", tar::EntryType::Regular),
        ("ROOT/payload/link", tar::EntryType::Symlink),
        ("ROOT/payload/hard", tar::EntryType::Link),
        ("ROOT/payload/fifo", tar::EntryType::Fifo),
    ] {
        let mut reader = tar::Archive::new(GzDecoder::new(fs::File::open(&archive).unwrap()));
        let path = archive.with_file_name(format!("{}.tar.gz", rand()));
        let gzip = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
        let mut writer = tar::Builder::new(gzip);
        for (at, entry) in reader.entries().unwrap().enumerate() {
            let mut entry = entry.unwrap();
            let own = entry.path().unwrap().to_str().unwrap().to_owned();
            let root = own.split('/').next().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            append(&mut writer, &own, &bytes, tar::EntryType::Regular);
            if at == 0 {
                append(&mut writer, &name.replace("ROOT", &root), b"", kind);
            }
        }
        writer.into_inner().unwrap().finish().unwrap();
        is_refused(&path, "BACKUP_DAMAGED", "");
    }
    assert!(!Path::new("/tmp/clawgate-escaped").exists());
}

/// Every row of every table, and what the schema is.
fn rows(database: &Path) -> BTreeMap<String, Vec<String>> {
    let db = rusqlite::Connection::open(database).unwrap();
    let all = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut found: Vec<String> = statement
            .query_map([], |row| {
                (0..columns)
                    .map(|at| Ok(format!("{:?}", row.get_ref(at)?)))
                    .collect::<Result<Vec<_>, _>>()
                    .map(|values| values.join(" "))
            })
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        found.sort();
        found
    };
    let names = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<Vec<String>, _>>()
        .unwrap();
    let mut found: BTreeMap<String, Vec<String>> = names
        .into_iter()
        .map(|name| {
            let rows = all(&format!("SELECT * FROM {name}"));
            (name, rows)
        })
        .collect();
    let schema = all("SELECT type, name, sql FROM sqlite_schema");
    found.insert("the schema".to_owned(), schema);
    found
}

/// Files of a state that a backup holds, but the database, with their bytes.
fn files(state: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![state.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(state).unwrap().to_owned();
            let text = name.display().to_string();
            if path.is_dir() {
                left.extend((text != "logs").then_some(path));
            } else if !text.starts_with("clawgate.sqlite") && !text.ends_with(".lock") {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Something of everything that a gateway keeps.
fn full_state(gateway: &TestGateway) {
    let mut owner = gateway.owner(4);
    let device = Device::new();
    let connect = |device: &Device| {
        Connect::new(4)
            .token(clawgate_testkit::TOKEN)
            .device(device)
            .scopes(&["operator.read"])
    };
    let asks = |device: &Device| -> Value {
        let refusal = gateway.from_afar(&connect(device)).map(drop).unwrap_err();
        refusal.error.unwrap().detail("requestId").clone()
    };
    let id = asks(&device);
    owner.call("device.pair.approve", &json!({"requestId": id}));
    gateway.from_afar(&connect(&device)).unwrap();
    asks(&Device::new());
    for name in ["kept", "revoked"] {
        let params = json!({"name": name, "scopes": ["operator.read"]});
        owner.call("tokens.create", &params);
    }
    owner.call("tokens.revoke", &json!({"name": "revoked"}));
    owner.call("set-heartbeats", &json!({"enabled": false}));
    owner.call("system-event", &json!({"text": "water the plants"}));
    let mut posts = job("posts");
    posts["payload"] = json!({"kind": "command", "argv": ["/bin/echo", "hi"]});
    posts["delivery"] = json!({"mode": "webhook", "to": "http://127.0.0.1:9/hook"});
    posts.as_object_mut().unwrap().remove("sessionTarget");
    let posts = owner.call("cron.add", &posts);
    owner.call("cron.run", &json!({"id": posts["id"]}));
    while owner.event("cron")["payload"]["action"] != "delivery" {}
    let ask = json!({"id": "asked", "command": "ls", "timeoutMs": 3_600_000, "twoPhase": true});
    owner.call("exec.approval.request", &ask);
    let policy = owner.call("exec.approvals.get", &json!({}));
    let file = json!({"version": 1, "defaults": {"security": "allowlist"}});
    let params = json!({"file": file, "baseHash": policy["hash"]});
    owner.call("exec.approvals.set", &params);
    let node = Device::new();
    let as_node = Connect::new(4)
        .token(clawgate_testkit::TOKEN)
        .device(&node)
        .scopes(&[])
        .client("node-host", "node")
        .role("node");
    gateway.welcome(&as_node);
    let named = json!({"nodeId": node.id(), "displayName": "Attic"});
    owner.call("node.rename", &named);
    let work = json!({"nodeId": node.id(), "type": "status.request"});
    owner.call("node.pending.enqueue", &work);
    for (id, approves) in [("old-1", true), ("old-2", false)] {
        let filed = owner.call("node.pair.request", &json!({"nodeId": id}));
        if approves {
            let id = json!({"requestId": filed["request"]["requestId"]});
            owner.call("node.pair.approve", &id);
        }
    }
    for words in ["read that", "and again"] {
        let ask = json!({
            "message": words, "sessionKey": "agent:main:kept", "idempotencyKey": words,
        });
        let id = owner.send("agent", &ask);
        owner.answer(&id);
        assert_eq!(owner.response()["ok"], true);
    }
    owner.call(
        "sessions.patch",
        &json!({"key": "agent:main:kept", "label": "kept"}),
    );
    owner.call("sessions.reset", &json!({"key": "agent:main:kept"}));
    let said = json!({"sessionKey": "agent:main:kept", "message": "after the reset"});
    owner.call("chat.inject", &said);
}

/// What nothing of this fills: what waits for a phone that sleeps.
const EMPTY: &[&str] = &["node_actions"];

#[test]
fn a_restore_has_every_row_and_every_file_of_a_state_with_something_of_everything() {
    let chat = Dialect::Chat;
    let call = chat.calls(&[
        (
            "c1",
            "write",
            json!({"path": "MEMORY.md", "content": "the plants are dry"}),
        ),
        ("c2", "read", json!({"path": "AGENTS.md"})),
    ]);
    let search = chat.calls(&[("c3", "memory_search", json!({"query": "plants"}))]);
    let provider = Provider::start(vec![call, search, chat.text(&["All ", "is well."])]);
    let mut config = token_config();
    config["models"] = json!({"providers": {"scripted": provider.config(chat)}});
    config["agents"] = json!({"defaults": {"model": "scripted/some-model"}});
    let mut gateway = gateway!(config);
    full_state(&gateway);
    let out = TempDir::new().unwrap();
    let archive = out.path().join("all.tar.gz");
    // While it runs, and again when it does not.
    created(gateway.home(), &archive);
    gateway.terminate();
    gateway.ended();
    let state = gateway.home().state();
    let (kept, kept_files) = (rows(&state.join("clawgate.sqlite")), files(&state));
    let empty: Vec<&str> = kept
        .iter()
        .filter(|(name, rows)| rows.is_empty() && !name.contains("_search"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(empty, EMPTY, "of each table something");
    let stopped = out.path().join("stopped.tar.gz");
    created(gateway.home(), &stopped);
    for archive in [&archive, &stopped] {
        let home = home!(config);
        drop(restore(archive, &home.state(), &[]).exits(0));
        let mut found = files(&home.state());
        // The configuration lies elsewhere, and comes along.
        let config = found.remove(Path::new("clawgate.json")).unwrap();
        assert_eq!(config, fs::read(gateway.home().config()).unwrap());
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<PathBuf> {
            files.keys().cloned().collect()
        };
        assert_eq!(names(&found), names(&kept_files));
        assert!(found == kept_files, "a file is another one");
        let found = rows(&home.state().join("clawgate.sqlite"));
        for (table, rows) in &kept {
            assert_eq!(&found[table], rows, "{table}");
        }
        assert_eq!(found.len(), kept.len());
    }
}

#[test]
fn a_damaged_state_is_replaced_by_a_backup_as_the_doctor_says_and_kept_as_it_was() {
    let (_out, archive, gateway) = small();
    let home = gateway.home();
    let (state, config) = (home.state(), text(&home.config()));
    let database = state.join("clawgate.sqlite");
    let whole = fs::read(&database).unwrap();
    let mut spoiled = whole.clone();
    spoiled[4_096..].fill(0x55);
    for bytes in [
        &b""[..],
        b"no database",
        &whole[..whole.len() / 2],
        &spoiled,
    ] {
        fs::write(&database, bytes).unwrap();
        let at = text(&state);
        let args = ["doctor", "--json", "--state-dir", &at, "--config", &config];
        let report = Terminal::new().run(&args).exits(1).json();
        let advice = report.to_string();
        assert!(
            advice.contains("backup restore ARCHIVE --force"),
            "{advice}"
        );
        let done = restore(&archive, &state, &["--force", "--config", &config]);
        let done = done.exits(0).json();
        assert_eq!(fs::read(&database).unwrap().len(), whole.len());
        let kept = PathBuf::from(done["replaced"].as_str().unwrap());
        assert_eq!(fs::read(kept.join("clawgate.sqlite")).unwrap(), bytes);
        assert!(kept.join("identity/local.key").is_file());
        assert_eq!(
            fs::read_to_string(kept.join("clawgate.json")).unwrap(),
            token_config().to_string()
        );
        assert!(state.join("logs").is_dir(), "its log goes on");
        let mode = fs::metadata(&kept).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
    let mut gateway = gateway;
    gateway.restart();
    assert_eq!(ids(&gateway).len(), 1);
    let beside = fs::read_dir(state.parent().unwrap()).unwrap();
    let archives = beside
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".tar.gz")
        })
        .count();
    assert_eq!(archives, 0, "none of what could not be saved");
}
