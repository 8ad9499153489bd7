//! `import openclaw`: the real binary on state directories as OpenClaw 2026.3.13 leaves them.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/terminal.rs"]
mod terminal;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clawgate_testkit::{Connect, Device, Home, OPERATOR, TOKEN, gateway, home, token_config};
use serde_json::{Value, json};
use tempfile::TempDir;
use terminal::{Done, Terminal};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openclaw");
/// Seed of the key in [`Original::key`]: the bytes from 0 to 31.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n";

/// A copy of the fixture that a test may change.
struct Original(TempDir);

impl Original {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(Path::new(FIXTURE), dir.path());
        let original = Self(dir);
        fs::create_dir_all(original.path("identity")).unwrap();
        let key = json!({"version": 1, "deviceId": "", "publicKeyPem": "", "privateKeyPem": KEY});
        fs::write(original.path("identity/device.json"), key.to_string()).unwrap();
        original
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self) -> String {
        self.0.path().display().to_string()
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value =
            serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        fs::write(
            self.path(name),
            serde_json::to_string_pretty(&value).unwrap(),
        )
        .unwrap();
    }

    fn only_jobs(&self, jobs: Value) {
        self.edit("cron/jobs.json", |file| file["jobs"] = jobs);
    }

    fn import(&self, into: &Path, more: &[&str]) -> Done {
        let from = self.text();
        let into = into.display().to_string();
        let args = ["import", "openclaw", "--from", &from, "--into", &into];
        Terminal::new().run(&[&args, more].concat())
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Every file below a directory with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

/// Kind, read, taken, skipped; read is always the sum of the others.
fn counts(report: &Value) -> Vec<(String, u64, u64, u64)> {
    let count = |tally: &Value, key: &str| tally[key].as_u64().unwrap();
    let counts: Vec<_> = report["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tally| {
            (
                tally["kind"].as_str().unwrap().to_owned(),
                count(tally, "read"),
                count(tally, "taken"),
                count(tally, "skipped"),
            )
        })
        .collect();
    for (kind, read, taken, skipped) in &counts {
        assert_eq!(*read, taken + skipped, "{kind} of {report:#}");
        let named: u64 = report["skipped"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|remark| remark["kind"] == kind.as_str())
            .map(|remark| remark["count"].as_u64().unwrap())
            .sum();
        assert_eq!(*skipped, named, "{kind} of {report:#}");
    }
    counts
}

fn job(id: &str, more: Value) -> Value {
    let mut job = json!({"id": id, "name": id, "enabled": true, "createdAtMs": 1_795_399_594_000_i64,
        "updatedAtMs": 1_795_399_594_000_i64, "schedule": {"kind": "every", "everyMs": 3_600_000},
        "sessionTarget": "main", "wakeMode": "now",
        "payload": {"kind": "systemEvent", "text": "hi"}, "state": {}});
    if let Value::Object(more) = more {
        for (key, value) in more {
            job[key] = value;
        }
    }
    job
}

/// A home whose state came from an import.
fn imported(original: &Original, config: &Value) -> Home {
    let home = home!(*config);
    drop(original.import(&home.state(), &[]).exits(0));
    home
}

fn jobs_of(gateway: &clawgate_testkit::TestGateway) -> BTreeMap<String, Value> {
    let page = gateway
        .owner(4)
        .call("cron.list", &json!({"includeDisabled": true}));
    page["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["id"].as_str().unwrap().to_owned(), job.clone()))
        .collect()
}

#[test]
fn everything_is_counted_and_nothing_of_the_original_is_touched() {
    let (original, target) = (Original::new(), tempfile::tempdir().unwrap());
    let before = contents(original.0.path());
    let report = original.import(target.path(), &["--json"]).exits(0).json();
    let want = [
        ("jobs", 21, 21, 0),
        ("runs", 20, 20, 0),
        ("devices", 3, 3, 0),
        ("keys", 1, 1, 0),
        ("configuration", 3, 1, 2),
    ];
    let want = want.map(|(kind, read, taken, skipped)| (kind.to_owned(), read, taken, skipped));
    assert_eq!(counts(&report), want);
    assert_eq!(before, contents(original.0.path()));
}

#[test]
fn the_report_is_a_table_and_a_line_for_each_thing_that_did_not_come() {
    let (original, target) = (Original::new(), tempfile::tempdir().unwrap());
    original.only_jobs(json!([
        job("a", json!({})),
        job(
            "b",
            json!({"schedule": {"kind": "cron", "expr": "0 7 * * *", "tz": "Mars/Olympus"}})
        ),
        job("c", json!({"payload": {"kind": "script", "script": "x"}})),
    ]));
    drop(
        original
            .import(target.path(), &[])
            .exits(0)
            .says("KIND")
            .says("jobs b (b): ")
            .says("Mars/Olympus")
            .says("jobs c (c): ")
            .says("configuration agents: ")
            .says("new device token at its next connect"),
    );
}

#[test]
fn a_dry_run_writes_nothing_and_shows_the_configuration_without_its_secret() {
    let original = Original::new();
    let target = tempfile::tempdir().unwrap();
    let into = target.path().join("new");
    drop(
        original
            .import(&into, &["--dry-run"])
            .exits(0)
            .says("WOULD COME")
            .says("18911")
            .never_says("tok-of-the-fixture"),
    );
    assert!(!into.exists());

    drop(
        original
            .import(&into, &[])
            .exits(0)
            .never_says("tok-of-the-fixture"),
    );
    let before = contents(&into);
    let report = original
        .import(&into, &["--dry-run", "--json"])
        .exits(0)
        .json();
    assert!(counts(&report).iter().all(|(_, _, taken, _)| *taken == 0));
    assert_eq!(before, contents(&into));
}

#[test]
fn a_second_import_brings_nothing_twice_and_what_is_new() {
    let (original, target) = (Original::new(), tempfile::tempdir().unwrap());
    drop(original.import(target.path(), &[]).exits(0));
    let again = original.import(target.path(), &["--json"]).exits(0).json();
    assert!(
        counts(&again).iter().all(|(_, _, taken, _)| *taken == 0),
        "{again:#}"
    );

    original.edit("cron/jobs.json", |file| {
        file["jobs"]
            .as_array_mut()
            .unwrap()
            .push(job("new", json!({})));
    });
    fs::write(
        original.path("cron/runs/new.jsonl"),
        "{\"ts\":5,\"jobId\":\"new\",\"action\":\"finished\",\"status\":\"ok\",\"runAtMs\":4}\n",
    )
    .unwrap();
    let more = original.import(target.path(), &["--json"]).exits(0).json();
    let taken: Vec<u64> = counts(&more)
        .iter()
        .map(|(_, _, taken, _)| *taken)
        .collect();
    assert_eq!(taken, [1, 1, 0, 0, 0]);
}

#[test]
fn a_gateway_serves_what_came() {
    let original = Original::new();
    let mut gateway = imported(&original, &token_config()).start();
    let jobs = jobs_of(&gateway);
    assert_eq!(jobs.len(), 21);
    // Never due: disabled, with the reason where a person reads it.
    let never = &jobs["48fb955d-5ee5-445c-bed0-4f81230c2bd0"];
    assert_eq!(never["enabled"], false);
    let text = never["description"].as_str().unwrap();
    assert!(text.contains("0 0 30 2 *"), "{text}");
    let zoned = &jobs["44d9f758-4ff0-40eb-8d57-983ac911fb74"];
    assert_eq!(zoned["schedule"]["tz"], "America/New_York");
    assert_eq!(zoned["failureAlert"]["after"], 3);
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(original.path("cron/jobs.json")).unwrap())
            .unwrap();
    assert_eq!(zoned["createdAtMs"], kept["jobs"][3]["createdAtMs"]);

    let mut owner = gateway.owner(4);
    let page = owner.call(
        "cron.runs",
        &json!({"id": "58c56704-b312-4be6-b065-5cab248c320c"}),
    );
    assert_eq!(page["total"], 16);
    let log =
        fs::read_to_string(original.path("cron/runs/58c56704-b312-4be6-b065-5cab248c320c.jsonl"))
            .unwrap();
    for (entry, line) in page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .zip(log.lines())
    {
        let line: Value = serde_json::from_str(line).unwrap();
        for key in ["ts", "status", "runAtMs", "durationMs", "error", "summary"] {
            assert_eq!(entry[key], line[key], "{key}");
        }
        let id = entry["runId"].as_str().unwrap();
        assert!(id.starts_with("import:58c56704-"), "{id}");
    }
    let devices = owner.call("device.pair.list", &json!({}));
    assert_eq!(devices["paired"].as_array().unwrap().len(), 3);
    let identity = owner.call("gateway.identity.get", &json!({}));
    assert_eq!(
        identity["deviceId"],
        "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"
    );
    gateway.terminate();
    assert_eq!(gateway.ended().code, Some(0));
}

#[test]
fn an_imported_job_fires_when_it_is_due_and_after_it_was_missed() {
    let original = Original::new();
    let soon = clawgate_testkit::now_ms() + 1_500;
    let missed = soon - 3_600_000;
    original.only_jobs(json!([
        job(
            "soon",
            json!({"schedule": {"kind": "at", "at": soon.to_string()}})
        ),
        job(
            "missed",
            json!({"schedule": {"kind": "at", "at": missed.to_string()}})
        ),
    ]));
    let gateway = imported(&original, &token_config()).start();
    let mut owner = gateway.owner(4);
    for id in ["missed", "soon"] {
        loop {
            let page = owner.call("cron.runs", &json!({"id": id}));
            if let Some(entry) = page["entries"].get(0) {
                assert_eq!(entry["status"], "ok", "{entry}");
                break;
            }
            owner.event("cron");
        }
    }
}

#[test]
fn a_job_that_announces_comes_as_it_is_and_can_be_disabled() {
    let original = Original::new();
    let gateway = imported(&original, &token_config()).start();
    let id = "69707d79-9fa1-44f9-8dfd-5df8215dbca2";
    let delivery = json!({"mode": "announce", "channel": "telegram", "to": "123"});
    assert_eq!(jobs_of(&gateway)[id]["delivery"], delivery);
    let mut owner = gateway.owner(4);
    let changed = owner.call(
        "cron.update",
        &json!({"id": id, "patch": {"enabled": false}}),
    );
    assert_eq!(changed["enabled"], false);
    assert_eq!(changed["delivery"], delivery);
    // Naming the place anew is another matter.
    let patch = json!({"id": id, "patch": {"delivery": {"to": "124"}}});
    assert!(
        owner
            .refused("cron.update", &patch)
            .message
            .contains("chat channel")
    );
}

#[test]
fn members_that_mean_nothing_here_are_kept() {
    let original = Original::new();
    original.only_jobs(json!([job(
        "a",
        json!({"color": "red", "delivery": {"mode": "none", "threadId": 7}})
    )]));
    let gateway = imported(&original, &token_config()).start();
    assert_eq!(
        jobs_of(&gateway)["a"]["imported"],
        json!({"color": "red", "delivery": {"threadId": 7}})
    );
}

#[test]
fn e59_an_imported_device_connects_with_what_was_approved_and_a_revoked_one_gets_no_token() {
    let (original, device, revoked) = (Original::new(), Device::new(), Device::new());
    original.edit("devices/paired.json", |file| {
        for (device, revoked) in [(&device, json!({})), (&revoked, json!({"revokedAtMs": 6}))] {
            let mut token = json!({"token": "gone", "role": "operator", "scopes": ["operator.read"],
                "createdAtMs": 5});
            for (key, value) in revoked.as_object().unwrap() {
                token[key] = value.clone();
            }
            file[device.id()] = json!({"deviceId": device.id(), "publicKey": device.public_key(),
                "platform": "linux", "clientId": "cli", "clientMode": "cli", "role": "operator",
                "roles": ["operator"], "scopes": ["operator.read"],
                "approvedScopes": ["operator.read"], "tokens": {"operator": token},
                "createdAtMs": 5, "approvedAtMs": 5});
        }
    });
    let gateway = imported(&original, &token_config()).start();
    let ask = |device: &Device| {
        Connect::new(4)
            .token(TOKEN)
            .device(device)
            .scopes(&["operator.read"])
    };
    let (_, hello) = gateway.from_afar(&ask(&device)).unwrap();
    assert_eq!(hello.scopes(), ["operator.read"]);
    let fresh = hello.device_token().unwrap().to_owned();
    assert_ne!(fresh, "gone");
    let with_token = Connect::new(4)
        .auth("deviceToken", &fresh)
        .device(&device)
        .scopes(&["operator.read"]);
    assert!(gateway.from_afar(&with_token).is_ok());
    let more = gateway.from_afar(
        &Connect::new(4)
            .token(TOKEN)
            .device(&device)
            .scopes(&OPERATOR),
    );
    assert_eq!(more.unwrap().1.scopes(), ["operator.read"]);
    let token = gateway
        .from_afar(&ask(&revoked))
        .ok()
        .and_then(|(_, hello)| hello.device_token().map(str::to_owned));
    assert_eq!(token, None);
}

#[test]
fn what_is_in_doubt_refuses_everything_and_names_file_and_line() {
    type Break = (&'static str, &'static str, fn(&str) -> String, &'static str);
    let cases: [Break; 7] = [
        (
            "cron/jobs.json",
            "cut",
            |text| text[..text.len() / 2].to_owned(),
            ", line ",
        ),
        (
            "cron/jobs.json",
            "version",
            |text| text.replace("\"version\": 1", "\"version\": 2"),
            ", line 2",
        ),
        (
            "cron/jobs.json",
            "twice",
            |text| {
                text.replace(
                    "6c95a15b-6fbb-4b32-9088-54bf24cb278d",
                    "a3cfe6a8-6ba8-40ef-abd2-b9c25cfc8426",
                )
            },
            ", line ",
        ),
        (
            "devices/paired.json",
            "cut",
            |text| text[..text.len() / 2].to_owned(),
            ", line ",
        ),
        (
            "devices/paired.json",
            "twice",
            |text| {
                let member = text.trim().trim_start_matches('{').trim_end_matches('}');
                format!("{{{member},{member}}}")
            },
            "twice",
        ),
        (
            "cron/runs/58c56704-b312-4be6-b065-5cab248c320c.jsonl",
            "odd line",
            |text| text.replacen("\n", "\n{\"ts\":\n", 1),
            ", line 2",
        ),
        (
            "openclaw.json",
            "no JSON5",
            |text| text.replace("gateway:", "gateway"),
            ", line ",
        ),
    ];
    for (file, what, spoil, says) in cases {
        let (original, target) = (Original::new(), tempfile::tempdir().unwrap());
        let into = target.path().join("new");
        let path = original.path(file);
        fs::write(&path, spoil(&fs::read_to_string(&path).unwrap())).unwrap();
        let done = original.import(&into, &[]).exits(1);
        let complaint = done.stderr.clone();
        assert!(
            complaint.contains(file) && complaint.contains(says),
            "{file}, {what}: {complaint}"
        );
        assert!(!into.exists(), "{file}, {what}");
    }
}

#[test]
fn a_last_line_of_a_history_that_was_cut_short_is_named_and_the_rest_comes() {
    let (original, target) = (Original::new(), tempfile::tempdir().unwrap());
    let path = original.path("cron/runs/58c56704-b312-4be6-b065-5cab248c320c.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    let report = original.import(target.path(), &["--json"]).exits(0).json();
    assert_eq!(counts(&report)[1], ("runs".to_owned(), 20, 19, 1));
    assert!(
        report["skipped"].to_string().contains("line 16"),
        "{report:#}"
    );
}

#[test]
fn the_newest_of_a_long_history_come() {
    let (original, target) = (Original::new(), tempfile::tempdir().unwrap());
    original.only_jobs(json!([job("long", json!({}))]));
    let lines: String = (1..=2_500)
        .map(|ts| {
            format!(
                "{{\"ts\":{ts},\"jobId\":\"long\",\"action\":\"finished\",\"status\":\"ok\"}}\n"
            )
        })
        .collect();
    fs::remove_dir_all(original.path("cron/runs")).unwrap();
    fs::create_dir(original.path("cron/runs")).unwrap();
    fs::write(original.path("cron/runs/long.jsonl"), lines).unwrap();
    let report = original.import(target.path(), &["--json"]).exits(0).json();
    assert_eq!(counts(&report)[1], ("runs".to_owned(), 2_500, 2_000, 500));
    let again = original.import(target.path(), &["--json"]).exits(0).json();
    assert_eq!(counts(&again)[1], ("runs".to_owned(), 2_500, 0, 2_500));
}

#[test]
fn a_running_gateway_is_not_imported_into() {
    let original = Original::new();
    let gateway = gateway!();
    let state = gateway.home().state();
    for more in [&["--json"][..], &["--json", "--dry-run"]] {
        let error = original.import(&state, more).exits(1).json_error();
        assert_eq!(error["code"], "TARGET_IN_USE");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&gateway.pid().to_string()), "{message}");
        let next = error["hints"][0].as_str().unwrap();
        assert!(next.starts_with("stop the gateway"), "{next}");
    }
    assert_eq!(jobs_of(&gateway).len(), 0);
}

#[test]
fn a_configuration_that_is_there_is_never_overwritten() {
    let (original, terminal) = (Original::new(), Terminal::new().config("{ /* mine */ }"));
    let config = terminal.state_dir().join("clawgate.json");
    let args = ["import", "openclaw", "--from", &original.text(), "--json"];
    let report = terminal.run(&args).exits(0).json();
    assert_eq!(counts(&report)[4], ("configuration".to_owned(), 3, 0, 3));
    assert_eq!(fs::read_to_string(&config).unwrap(), "{ /* mine */ }");
}

#[test]
fn the_target_is_where_the_gateway_runs_and_never_where_the_original_is() {
    let original = Original::new();
    let target = tempfile::tempdir().unwrap().path().join("state");
    let terminal = Terminal::new()
        .env("OPENCLAW_STATE_DIR", original.text())
        .env("CLAWGATE_STATE_DIR", target.display().to_string());
    let args = [
        "import",
        "openclaw",
        "--from",
        &original.text(),
        "--dry-run",
        "--json",
    ];
    let report = terminal.run(&args).exits(0).json();
    assert_eq!(report["target"], target.display().to_string());
}

/// Kills an import as soon as a file of the target is there, or at once.
fn killed_at(original: &Original, into: &Path, file: Option<&str>) {
    let binary = std::env::var("CLAWGATE_TEST_BIN")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_clawgate").to_owned());
    let mut child = std::process::Command::new(binary)
        .args(["import", "openclaw", "--from", &original.text(), "--into"])
        .arg(into)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let is_there = |file: &str| fs::metadata(into.join(file)).is_ok_and(|meta| meta.len() > 0);
    while file.is_some_and(|file| !is_there(file)) && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_import_that_is_killed_brings_all_rows_or_none_and_the_next_one_brings_the_rest() {
    let original = Original::new();
    let lines: String = (1..=2_000)
        .map(|ts| format!("{{\"ts\":{ts},\"action\":\"finished\",\"status\":\"ok\"}}\n"))
        .collect();
    for n in 0..4 {
        fs::write(original.path(&format!("cron/runs/{n}.jsonl")), &lines).unwrap();
    }
    let files = [
        None,
        Some("clawgate.lock"),
        Some("clawgate.sqlite"),
        Some("clawgate.sqlite-wal"),
        Some("identity/gateway.key"),
        Some("clawgate.json"),
    ];
    for file in files {
        let target = tempfile::tempdir().unwrap();
        let into = target.path().join("state");
        killed_at(&original, &into, file);
        let dry = original
            .import(&into, &["--dry-run", "--json"])
            .exits(0)
            .json();
        let missing: Vec<u64> = counts(&dry).iter().map(|(_, _, taken, _)| *taken).collect();
        let rows = &missing[..3];
        assert!(
            rows == [21, 8_020, 3] || rows == [0, 0, 0],
            "{file:?}: {rows:?}"
        );
        let rest = original.import(&into, &["--json"]).exits(0).json();
        let came: Vec<u64> = counts(&rest)
            .iter()
            .map(|(_, _, taken, _)| *taken)
            .collect();
        assert_eq!(came, missing, "{file:?}");
        let nothing = original.import(&into, &["--json"]).exits(0).json();
        assert!(counts(&nothing).iter().all(|(_, _, taken, _)| *taken == 0));
    }
}

#[test]
fn a_configuration_that_would_not_start_stays_where_it_is() {
    let (original, target) = (Original::new(), tempfile::tempdir().unwrap());
    let text = fs::read_to_string(original.path("openclaw.json")).unwrap();
    fs::write(
        original.path("openclaw.json"),
        text.replace("'loopback'", "'tailnet'"),
    )
    .unwrap();
    drop(
        original
            .import(target.path(), &[])
            .exits(0)
            .says("configuration gateway: this gateway would not start with it: gateway.bind"),
    );
    assert!(!target.path().join("clawgate.json").exists());
}

#[test]
fn the_source_is_named_once_and_is_not_the_target() {
    let original = Original::new();
    let from = original.text();
    let terminal = Terminal::new();
    let run = |args: &[&str]| terminal.run(&[&["import", "openclaw"], args].concat());
    drop(run(&[]).exits(2).complains("--from"));
    drop(
        run(&["--from", &from, "--state-dir", &from])
            .exits(2)
            .complains("--into"),
    );
    drop(run(&["--from", &from, "--into", &from]).exits(1));
    drop(run(&["--from", "/nowhere/at/all"]).exits(1));
    drop(run(&["--from", &terminal.state_dir().display().to_string()]).exits(1));
    // The spelling of OpenClaw, and the default target.
    let dry = run(&["--state-dir", &from, "--dry-run", "--json"])
        .exits(0)
        .json();
    assert_eq!(dry["target"], terminal.state_dir().display().to_string());
    assert_eq!(dry["source"], from);
}

/// A database whose owner takes rows away again behind the import's back.
fn losing_rows(database: &Path) {
    let db = rusqlite::Connection::open(database).unwrap();
    db.execute_batch(
        "CREATE TRIGGER lose AFTER INSERT ON cron_jobs WHEN new.name LIKE '%a%' BEGIN
             DELETE FROM cron_jobs WHERE job_id = new.job_id;
         END",
    )
    .unwrap();
}

#[test]
fn an_import_whose_counts_differ_is_rolled_back_whole() {
    let original = Original::new();
    let mut gateway = gateway!();
    gateway.terminate();
    gateway.ended();
    let state = gateway.home().state();
    let key = fs::read(state.join("identity/gateway.key")).unwrap();
    let database = state.join("clawgate.sqlite");
    losing_rows(&database);
    let rows = || -> Vec<i64> {
        let db = rusqlite::Connection::open(&database).unwrap();
        [
            "cron_jobs",
            "cron_runs",
            "devices",
            "device_tokens",
            "audit",
        ]
        .map(|table| format!("SELECT count(*) FROM {table}"))
        .map(|sql| db.query_row(&sql, [], |row| row.get(0)).unwrap())
        .to_vec()
    };
    let before = rows();
    let done = original.import(&state, &["--json"]).exits(1);
    let error = done.json_error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("jobs more instead of 21"), "{message}");
    assert!(message.contains("nothing was kept"), "{message}");
    assert_eq!(rows(), before, "devices and runs went with the jobs");
    assert!(!state.join("clawgate.json").exists());
    assert_eq!(fs::read(state.join("identity/gateway.key")).unwrap(), key);

    let db = rusqlite::Connection::open(&database).unwrap();
    db.execute_batch("DROP TRIGGER lose").unwrap();
    drop(db);
    drop(original.import(&state, &[]).exits(0));
    gateway.restart();
    assert_eq!(
        jobs_of(&gateway).len(),
        21,
        "and the same import comes whole"
    );
}
