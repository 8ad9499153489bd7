//! Attacks on the configuration file, the state and the process: E75 to E81 of the checklist
//! (docs/attacks.md), what other files do not try already.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use clawgate_testkit::{
    Call, Client, Connect, Device, PATIENCE, TOKEN, TestGateway, gateway, home, now_ms,
    token_config,
};
use serde_json::{Value, json};
use terminal::Terminal;

fn full() -> bool {
    std::env::var("CLAWGATE_ATTACK").is_ok_and(|how| how == "full")
}

/// Asks until an answer is as it should be.
fn until(client: &mut Client, method: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = client.call(method, &json!({}));
        if wanted(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "{method} stays {told}");
        std::thread::yield_now();
    }
}

fn terminal_at(state: &Path, config: &Path) -> Terminal {
    Terminal::new()
        .env("CLAWGATE_STATE_DIR", state.display().to_string())
        .env("CLAWGATE_CONFIG_PATH", config.display().to_string())
}

/// Files that are no configuration, with words of the reason.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = token_config().to_string();
    let utf16 = |bytes: [u8; 2], order: fn(u16) -> [u8; 2]| {
        let mut text = bytes.to_vec();
        text.extend(good.encode_utf16().flat_map(order));
        text
    };
    let deep = |open: &str, close: &str| {
        format!(
            "{{\"x\": {}1{}}}",
            open.repeat(10_000),
            close.repeat(10_000)
        )
        .into_bytes()
    };
    let wrong = |config: Value| config.to_string().into_bytes();
    vec![
        ("0 bytes", Vec::new(), "is empty"),
        ("blanks", b" \n\t\n".to_vec(), "is empty"),
        (
            "cut short",
            good.as_bytes()[..good.len() - 4].to_vec(),
            "broken",
        ),
        ("cut in a word", good.as_bytes()[..20].to_vec(), "broken"),
        ("NUL", vec![0; 4_096], "broken"),
        ("UTF-16 LE", utf16([0xff, 0xfe], u16::to_le_bytes), "UTF-8"),
        ("UTF-16 BE", utf16([0xfe, 0xff], u16::to_be_bytes), "UTF-8"),
        ("50 MB", vec![b' '; 50 << 20], "larger than"),
        ("10 000 objects", deep("{\"a\":", "}"), ""),
        ("10 000 lists", deep("[", "]"), ""),
        ("a list", b"[]".to_vec(), "an object"),
        (
            "a wrong type",
            wrong(json!({"gateway": {"port": "x"}})),
            "gateway.port",
        ),
        (
            "a wrong word",
            wrong(json!({"gateway": {"bind": "all"}})),
            "gateway.bind",
        ),
        (
            "a key twice",
            b"{gateway: {auth: {token: 'a', token: 'b'}}}".to_vec(),
            "gateway.auth",
        ),
    ]
}

#[test]
fn e75_a_file_that_is_no_configuration_stops_the_start_and_keeps_its_bytes() {
    for (what, bytes, words) in broken() {
        let home = home!();
        fs::write(home.config(), &bytes).unwrap();
        let beside = home.config().with_extension("json.bak");
        fs::write(&beside, token_config().to_string()).unwrap();
        let before = fs::metadata(home.config()).unwrap().modified().unwrap();
        // However often somebody starts it again.
        for _ in 0..2 {
            let ended = home.start_in_vain();
            assert_eq!(ended.code, Some(78), "{what}: {}", ended.stderr);
            assert!(ended.stderr.contains(words), "{what}: {}", ended.stderr);
            let file = home.config().display().to_string();
            assert!(ended.stderr.contains(&file), "{what}: {}", ended.stderr);
            assert!(
                !ended.stderr.contains("panicked"),
                "{what}: {}",
                ended.stderr
            );
            assert!(
                ended.took < Duration::from_secs(5),
                "{what}: {:?}",
                ended.took
            );
        }
        assert_eq!(fs::read(home.config()).unwrap(), bytes, "{what}");
        let after = fs::metadata(home.config()).unwrap().modified().unwrap();
        assert_eq!(after, before, "{what}");
        let text = fs::read_to_string(&beside).unwrap();
        assert_eq!(
            text,
            token_config().to_string(),
            "a copy beside it is not taken"
        );
        let checked = terminal_at(&home.state(), &home.config()).run(&["config", "validate"]);
        assert_eq!(checked.code, 1, "{what}: {checked:?}");
    }
}

#[test]
fn e75_a_running_gateway_keeps_what_held_whatever_becomes_of_the_file() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let path = gateway.home().config();
    let good = fs::read_to_string(&path).unwrap();
    for (what, bytes, _) in broken() {
        fs::write(&path, &bytes).unwrap();
        let told = until(&mut owner, "config.get", |told| told["valid"] == false);
        assert_eq!(told["config"]["gateway"]["auth"]["mode"], "token", "{what}");
        gateway.welcome(&Connect::new(4).token(TOKEN));
        gateway.refusal(&Connect::new(4).token("other"));
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}");
        fs::write(&path, &good).unwrap();
        until(&mut owner, "config.get", |told| told["valid"] == true);
    }
    // An unknown key is named and harms nothing.
    let mut odd = token_config();
    odd["gatway"] = json!({"port": 5});
    gateway.home().write_config(&odd.to_string());
    let told = until(&mut owner, "config.get", |told| {
        told["warnings"][0]["path"] == "gatway"
    });
    assert_eq!(told["valid"], true, "{told}");
}

#[test]
fn e76_two_who_set_different_values_at_once_lose_none() {
    // Each is a process of its own that waits for the disk, and reads and checks all that the earlier ones set:
    // a thousand of them take a quarter of an hour.
    let rounds = if full() { 200 } else { 25 };
    let home = home!();
    home.write_config(&format!("// mine\n{}\n", token_config()));
    let (state, config) = (home.state(), home.config());
    std::thread::scope(|scope| {
        for who in ["a", "b"] {
            let (state, config) = (&state, &config);
            scope.spawn(move || {
                let terminal = terminal_at(state, config);
                for n in 0..rounds {
                    let place = format!("messages.{who}{n}");
                    drop(
                        terminal
                            .run(&["config", "set", &place, &n.to_string()])
                            .exits(0),
                    );
                }
            });
        }
    });
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.starts_with("// mine\n"), "{text}");
    let terminal = terminal_at(&state, &config);
    let messages = terminal
        .run(&["config", "get", "messages", "--json"])
        .exits(0)
        .json();
    for who in ["a", "b"] {
        for n in 0..rounds {
            assert_eq!(messages[format!("{who}{n}")], n, "{who}{n} is lost");
        }
    }
    println!("{} values", 2 * rounds);
}

#[test]
fn e76_what_an_editor_saved_meanwhile_is_kept_and_who_came_too_late_is_told() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let path = gateway.home().config();
    let terminal = terminal_at(&gateway.home().state(), &path);
    for n in 0..8 {
        let seen = owner.call("config.get", &json!({}))["hash"].clone();
        // An editor puts a whole new text in its place.
        let mut text: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        text["messages"]["editor"] = json!(n);
        let draft = path.with_extension("swp");
        fs::write(&draft, text.to_string()).unwrap();
        fs::rename(&draft, &path).unwrap();
        let raw = json!({"messages": {"wire": n}}).to_string();
        let error = owner.refused("config.patch", &json!({"raw": raw, "baseHash": seen}));
        assert!(
            error.message.starts_with("config changed since last load"),
            "{error:?}"
        );
        drop(
            terminal
                .run(&["config", "set", &format!("messages.cli{n}"), "1"])
                .exits(0),
        );
        let now = owner.call("config.get", &json!({}));
        owner.call(
            "config.patch",
            &json!({"raw": raw, "baseHash": now["hash"]}),
        );
        let text = fs::read_to_string(&path).unwrap();
        let text: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text["messages"]["editor"], n);
        assert_eq!(text["messages"]["wire"], n);
        for earlier in 0..=n {
            assert_eq!(text["messages"][format!("cli{earlier}")], 1, "{text}");
        }
    }
}

#[test]
fn e77_a_file_that_names_others_is_refused_by_the_place() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.json");
    fs::write(
        &secret,
        r#"{"auth": {"mode": "none", "token": "canary-included"}}"#,
    )
    .unwrap();
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    for (what, include) in [
        ("above", json!("../secret.json")),
        ("absolute", json!(secret)),
        ("a link", json!("link.json")),
        ("a second name", json!("hard.json")),
        ("itself", json!("clawgate.json")),
        ("many", json!(["a.json", "../secret.json"])),
        ("a huge one", json!("huge.json")),
        ("nothing", json!(5)),
    ] {
        for place in ["$include", "gateway.$include", "agents.list[0].$include"] {
            let mut config = token_config();
            match place {
                "$include" => config["$include"] = include.clone(),
                "gateway.$include" => config["gateway"]["$include"] = include.clone(),
                _ => config["agents"] = json!({"list": [{"id": "main", "$include": include}]}),
            }
            let home = home!(config);
            let dir = home.config().parent().unwrap().to_owned();
            symlink(&secret, dir.join("link.json")).unwrap();
            fs::copy(&secret, dir.join("a.json")).unwrap();
            fs::hard_link(dir.join("a.json"), dir.join("hard.json")).unwrap();
            File::create(dir.join("huge.json"))
                .unwrap()
                .set_len(5_000_000_000)
                .unwrap();
            let ended = home.start_in_vain();
            assert_eq!(ended.code, Some(78), "{what}: {}", ended.stderr);
            assert!(ended.stderr.contains(place), "{what}: {}", ended.stderr);
            let file = home.config().display().to_string();
            assert!(ended.stderr.contains(&file), "{what}: {}", ended.stderr);
            assert!(!ended.stderr.contains("canary"), "{what}: {}", ended.stderr);
            // Nor while it runs.
            let hash = owner.call("config.get", &json!({}))["hash"].clone();
            let params = json!({"raw": config.to_string(), "baseHash": hash});
            let error = owner.refused("config.set", &params);
            assert!(error.message.contains(place), "{error:?}");
        }
    }
    // The file itself may be a link, and its own place is what is written.
    let real = outside.path().join("real.json");
    fs::write(&real, token_config().to_string()).unwrap();
    let home = home!();
    symlink(&real, home.config()).unwrap();
    let gateway = home.start();
    let mut owner = gateway.owner(4);
    let hash = owner.call("config.get", &json!({}))["hash"].clone();
    let raw = json!({"messages": {"by": "link"}}).to_string();
    owner.call("config.patch", &json!({"raw": raw, "baseHash": hash}));
    assert!(fs::read_to_string(&real).unwrap().contains("link"));
    assert!(
        fs::symlink_metadata(gateway.home().config())
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn e78_what_would_be_open_to_others_does_not_start_and_no_switch_alone_opens_it() {
    let none = |more: Value| {
        let mut gateway = json!({"auth": {"mode": "none"}});
        for (key, value) in more.as_object().unwrap() {
            gateway[key] = value.clone();
        }
        json!({"gateway": gateway})
    };
    for config in [
        none(json!({"bind": "lan"})),
        none(json!({"bind": "custom", "customBindHost": "0.0.0.0"})),
        none(json!({"bind": "custom", "customBindHost": "::"})),
        none(json!({"bind": "lan", "controlUi": {"dangerouslyDisableDeviceAuth": true}})),
        none(json!({"bind": "lan", "controlUi": {"allowInsecureAuth": true}})),
        none(json!({"bind": "lan", "trustedProxies": ["127.0.0.1"]})),
    ] {
        let home = home!(config);
        let ended = home.start_in_vain();
        assert_eq!(ended.code, Some(78), "{config}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("gateway.auth.mode"),
            "{}",
            ended.stderr
        );
    }
    for (config, args) in [
        (none(json!({})), &["--bind", "lan"][..]),
        (json!({"gateway": {"bind": "lan"}}), &["--auth", "none"]),
        (json!({}), &["--bind", "lan", "--auth", "none"]),
    ] {
        let home = args.iter().fold(home!(config), |home, arg| home.arg(arg));
        let ended = home.start_in_vain();
        assert!(matches!(ended.code, Some(78 | 2)), "{args:?}: {ended:?}");
    }
    // Nothing here serves through Tailscale: asking for it opens nothing and runs nothing.
    let bin = tempfile::tempdir().unwrap();
    let ran = bin.path().join("ran");
    let program = bin.path().join("tailscale");
    fs::write(
        &program,
        format!("#!/bin/sh\necho x >> '{}'\n", ran.display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for mode in ["serve", "funnel"] {
        let config = none(json!({"tailscale": {"mode": mode}}));
        let mut gateway = home!(config)
            .env("PATH", &format!("{}:/usr/bin:/bin", bin.path().display()))
            .start();
        assert!(gateway.address().ip().is_loopback());
        for header in [
            ("X-Forwarded-For", "203.0.113.7"),
            ("Tailscale-User-Login", "a@example.com"),
            ("Host", "box.ts.net"),
        ] {
            let mut client = gateway.client_with(&[header]);
            let refusal = client.connect(&Connect::new(4)).unwrap_err();
            assert!(!refusal.code().is_empty(), "{mode}, {header:?}");
        }
        gateway.terminate();
        gateway.ended();
    }
    assert!(!ran.exists());
    // The switches that are called dangerous give a page without a device nothing.
    let mut config = token_config();
    config["gateway"]["controlUi"] = json!({"dangerouslyDisableDeviceAuth": true,
        "allowInsecureAuth": true, "dangerouslyAllowHostHeaderOriginFallback": true});
    let gateway = gateway!(config);
    let origin = format!("http://{}", gateway.address());
    let mut page = gateway.client_with(&[("Origin", &origin)]);
    let connect = Connect::new(4)
        .token(TOKEN)
        .client("openclaw-control-ui", "ui");
    let refusal = page.connect(&connect).unwrap_err();
    assert_eq!(refusal.code(), "CONTROL_UI_DEVICE_IDENTITY_REQUIRED");
}

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
}

/// What was answered, by kind and name.
#[derive(Default)]
struct Answered {
    jobs: BTreeSet<String>,
    tokens: BTreeSet<String>,
    revoked: BTreeSet<String>,
    sessions: BTreeMap<String, String>,
    asked: BTreeMap<String, Device>,
    approved: BTreeMap<String, Device>,
    decided: BTreeMap<String, String>,
    config: u64,
}

impl Answered {
    fn count(&self) -> usize {
        self.jobs.len()
            + self.tokens.len()
            + self.revoked.len()
            + self.sessions.len()
            + self.asked.len()
            + self.approved.len()
            + self.decided.len()
            + usize::try_from(self.config).unwrap()
    }

    /// Everything that was answered is there, and nothing is half there.
    fn is_there(&self, gateway: &TestGateway) {
        let mut owner = gateway.owner(4);
        let names = |list: &Value, key: &str| -> BTreeSet<String> {
            let list = list.as_array().unwrap().iter();
            list.map(|one| one[key].as_str().unwrap().to_owned())
                .collect()
        };
        let mut jobs = BTreeSet::new();
        loop {
            let params = json!({"includeDisabled": true, "limit": 200, "offset": jobs.len()});
            let page = owner.call("cron.list", &params);
            jobs.extend(names(&page["jobs"], "name"));
            if page["hasMore"] != true {
                break;
            }
        }
        assert!(jobs.is_superset(&self.jobs), "jobs");
        let tokens = owner.call("tokens.list", &json!({}))["tokens"].clone();
        assert!(names(&tokens, "name").is_superset(&self.tokens), "tokens");
        for token in tokens.as_array().unwrap() {
            let name = token["name"].as_str().unwrap();
            if self.revoked.contains(name) {
                assert!(token["revokedAtMs"].is_i64(), "{name} was revoked");
            }
        }
        for (key, label) in &self.sessions {
            let found = owner.call("sessions.describe", &json!({"key": key}));
            assert!(found.to_string().contains(label.as_str()), "{key}: {found}");
        }
        let devices = owner.call("device.pair.list", &json!({}));
        let (waiting, paired) = (
            names(&devices["pending"], "deviceId"),
            names(&devices["paired"], "deviceId"),
        );
        for id in self.asked.keys() {
            assert!(waiting.contains(id) || paired.contains(id), "{id} asked");
        }
        for id in self.approved.keys() {
            assert!(paired.contains(id), "{id} was approved");
        }
        for (id, decision) in &self.decided {
            let ended = owner.call("exec.approval.waitDecision", &json!({"id": id}));
            assert_eq!(ended["decision"], decision.as_str(), "{id}");
        }
        let shown = owner.call("config.get", &json!({}));
        assert_eq!(shown["valid"], true);
        let n = shown["config"]["messages"]["n"]
            .as_u64()
            .unwrap_or_default();
        assert!(n >= self.config, "{n} is before {}", self.config);
    }
}

#[test]
fn e79_whatever_was_answered_is_there_however_often_the_process_is_killed() {
    let read = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let kills = read("CLAWGATE_KILLS").unwrap_or(if full() { 1_000 } else { 25 });
    let seed = read("CLAWGATE_SEED").unwrap_or_else(|| u64::try_from(now_ms()).unwrap());
    println!("CLAWGATE_KILLS={kills} CLAWGATE_SEED={seed}");
    let mut gateway = gateway!();
    let mut rng = Rng(seed);
    let mut answered = Answered::default();
    let mut slowest = Duration::ZERO;
    let mut number = 0_u64;
    let mut undecided = None;
    for round in 0..kills {
        let mut owner = gateway.owner(4);
        // What the last kill left undecided would fill up what may wait of one caller, of one address.
        if let Some((last, request)) = undecided.take() {
            let decide = json!({"id": last, "decision": "deny"});
            let _ = owner.try_call("exec.approval.resolve", &decide);
            let _ = owner.try_call("device.pair.approve", &json!({"requestId": request}));
        }
        let hash = owner.call("config.get", &json!({}))["hash"].clone();
        // A device asks, and the one that asked before is approved while other things go on.
        let device = Device::new();
        let connect = Connect::new(4)
            .token(TOKEN)
            .device(&device)
            .scopes(&["operator.read"]);
        let refusal = gateway.from_afar(&connect).map(|_| ()).unwrap_err();
        let request = refusal.error.unwrap().detail("requestId").clone();
        answered.asked.insert(device.id(), device.clone());
        let ask = format!("ask-{round}");
        let params = json!({"id": ask, "command": "ls", "timeoutMs": 3_600_000, "twoPhase": true});
        owner.call("exec.approval.request", &params);
        undecided = Some((ask.clone(), request.clone()));
        let mut sent: Vec<(&str, String, String)> = Vec::new();
        let approve = owner.send("device.pair.approve", &json!({"requestId": request}));
        sent.push(("approve", approve, device.id()));
        let decide = json!({"id": ask, "decision": "deny"});
        let decide = owner.send("exec.approval.resolve", &decide);
        sent.push(("decide", decide, ask));
        let raw = json!({"messages": {"n": round + 1, "text": "x".repeat(10_000)}}).to_string();
        let patch = owner.send("config.patch", &json!({"raw": raw, "baseHash": hash}));
        sent.push(("config", patch, String::new()));
        for _ in 0..10 {
            number += 1;
            let name = format!("n{number}");
            let (kind, id) = match rng.below(4) {
                0 => (
                    "job",
                    owner.send(
                        "cron.add",
                        &json!({
                            "name": name, "schedule": {"kind": "every", "everyMs": 3_600_000},
                            "payload": {"kind": "command", "argv": ["/bin/true"]},
                        }),
                    ),
                ),
                1 => (
                    "token",
                    owner.send(
                        "tokens.create",
                        &json!({"name": name, "scopes": ["operator.read"]}),
                    ),
                ),
                2 => {
                    let Some(token) = answered
                        .tokens
                        .iter()
                        .find(|name| !answered.revoked.contains(*name))
                    else {
                        continue;
                    };
                    let token = token.clone();
                    let id = owner.send("tokens.revoke", &json!({"name": token}));
                    sent.push(("revoke", id, token));
                    continue;
                }
                _ => (
                    "session",
                    owner.send("sessions.patch", &json!({"key": name, "label": name})),
                ),
            };
            sent.push((kind, id, name));
        }
        // At any moment: some are answered, some under way, some not read.
        let stays = usize::try_from(rng.below(sent.len() as u64 + 1)).unwrap();
        let mut closed = false;
        for (at, (kind, id, name)) in sent.iter().enumerate() {
            if at == stays {
                gateway.kill();
            }
            if closed {
                continue;
            }
            match owner.answer(id) {
                Call::Closed(_) => closed = true,
                Call::Error(error) => {
                    // Two of one name, or a token that was revoked twice, in one pipeline.
                    assert_eq!(*kind, "revoke", "{error:?}");
                }
                Call::Ok(_) => match *kind {
                    "job" => drop(answered.jobs.insert(name.clone())),
                    "token" => drop(answered.tokens.insert(name.clone())),
                    "revoke" => drop(answered.revoked.insert(name.clone())),
                    "session" => drop(
                        answered
                            .sessions
                            .insert(format!("agent:main:{name}"), name.clone()),
                    ),
                    "approve" => drop(answered.approved.insert(name.clone(), device.clone())),
                    "decide" => drop(answered.decided.insert(name.clone(), "deny".to_owned())),
                    _ => answered.config = round + 1,
                },
            }
        }
        if stays == sent.len() {
            gateway.kill();
        }
        let began = Instant::now();
        gateway.restart();
        slowest = slowest.max(began.elapsed());
        if round % 8 == 0 || round + 1 == kills {
            answered.is_there(&gateway);
        }
    }
    for device in answered.approved.values().take(5) {
        let connect = Connect::new(4)
            .token(TOKEN)
            .device(device)
            .scopes(&["operator.read"]);
        gateway.from_afar(&connect).unwrap();
    }
    println!(
        "{kills} kills, {} answers all there, slowest start {slowest:?}",
        answered.count()
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(answered.count() > 20, "little was answered");
}

/// Every file of a directory with its bytes and the time of its last change.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let changed = fs::metadata(&path).unwrap().modified().unwrap();
                found.insert(path.clone(), (fs::read(&path).unwrap(), changed));
            }
        }
    }
    found
}

#[test]
fn e80_a_command_that_looks_writes_nothing_and_migrates_nothing() {
    const LOOKS: &[&[&str]] = &[
        &["status"],
        &["doctor"],
        &["security", "audit"],
        &["config", "get", "gateway"],
        &["config", "validate"],
        &["gateway", "status"],
        &["gateway", "probe"],
        &["cron", "list"],
        &["devices", "list"],
        &["sessions"],
        &["logs"],
    ];
    let mut gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.call(
        "tokens.create",
        &json!({"name": "x", "scopes": ["operator.read"]}),
    );
    owner.call("sessions.patch", &json!({"key": "main", "label": "home"}));
    let state = gateway.home().state();
    let port = gateway.address().port().to_string();
    let look = |args: &[&str]| {
        terminal_at(&state, &gateway.home().config())
            .env("CLAWGATE_GATEWAY_PORT", port.clone())
            .run(args)
    };
    // What the gateway writes itself while somebody looks: its log, and when a credential was used.
    // A command has a device of its own, which it makes when it first speaks to a gateway.
    let of_gateway = |path: &Path| {
        let text = path.display().to_string();
        [
            "/logs/",
            "clawgate.sqlite",
            "identity/device.json",
            "identity/gateways.json",
        ]
        .iter()
        .any(|own| text.contains(own))
    };
    let still = || -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut found = contents(&state);
        found.retain(|path, _| !of_gateway(path));
        found
    };
    let before = still();
    let names = |found: &BTreeMap<PathBuf, (Vec<u8>, SystemTime)>| -> Vec<PathBuf> {
        found.keys().cloned().collect()
    };
    for args in LOOKS {
        let done = look(args);
        assert!(done.code <= 1, "{args:?}: {done:?}");
        let after = still();
        assert_eq!(names(&after), names(&before), "{args:?}");
        assert!(after == before, "{args:?} changed a file");
    }
    owner.call("health", &json!({}));
    drop(owner);
    gateway.terminate();
    gateway.ended();
    // Without a gateway, on a database of an older form: looked at, and left.
    let database = state.join("clawgate.sqlite");
    let db = rusqlite::Connection::open(&database).unwrap();
    let version: i64 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert!(version > 0);
    db.execute_batch(&format!("PRAGMA user_version = {}", version - 1))
        .unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(db);
    let before = contents(&state);
    for args in LOOKS {
        let done = terminal_at(&state, &gateway.home().config())
            .env("CLAWGATE_GATEWAY_PORT", port.clone())
            .run(args);
        let after = contents(&state);
        assert_eq!(names(&after), names(&before), "{args:?}: {done:?}");
        assert!(after == before, "{args:?} changed a file");
    }
}

/// A clock that stands elsewhere: what the process asks for the time of day is moved by what stands
/// in a file. Programs ask the C library, so that one function in front of it is enough.
struct Clock {
    dir: tempfile::TempDir,
    file: File,
}

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile int64_t *moved;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MOVED_CLOCK");
    int fd = path ? open(path, O_RDONLY) : -1;
    if (fd < 0) return;
    void *at = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) moved = at;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, ts);
    if (rc == 0 && id == CLOCK_REALTIME && moved) ts->tv_sec += *moved;
    return rc;
}
"#;

impl Clock {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("clock.c"), SHIM).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"])
            .current_dir(dir.path())
            .status()
            .expect("a C compiler, which the database needs too");
        assert!(built.success());
        let file = File::create(dir.path().join("moved")).unwrap();
        file.set_len(8).unwrap();
        Self { dir, file }
    }

    fn start(&self, config: &Value) -> TestGateway {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        home!(config)
            .env("LD_PRELOAD", &path("clock.so"))
            .env("MOVED_CLOCK", &path("moved"))
            .start()
    }

    /// Stands so many seconds after the true time.
    fn at(&mut self, seconds: i64) {
        self.file.seek(SeekFrom::Start(0)).unwrap();
        self.file.write_all(&seconds.to_ne_bytes()).unwrap();
    }

    /// Stands at this time.
    fn stand(&mut self, at_ms: i64) {
        self.at((at_ms - now_ms()).div_euclid(1_000));
    }
}

/// Has the scheduler look at its clock now, and not within a minute: as any change of a job does.
fn look_at_the_clock(client: &mut Client, id: &Value, n: i64) {
    let patch = json!({"id": id, "patch": {"description": format!("look {n}")}});
    client.call("cron.update", &patch);
}

#[test]
fn e81_jobs_that_are_overdue_each_catch_up_once_and_few_at_a_time() {
    const DAY: i64 = 86_400;
    let jobs = if full() { 500 } else { 150 };
    let mut clock = Clock::new();
    let mut config = token_config();
    config["cron"] = json!({"maxConcurrentRuns": 4});
    let gateway = clock.start(&config);
    let mut owner = gateway.owner(4);
    let mut ids = Vec::new();
    for group in 0..jobs / 50 {
        let sent: Vec<String> = (0..50)
            .map(|n| {
                owner.send(
                    "cron.add",
                    &json!({
                        "name": format!("{group}-{n}"),
                        "schedule": {"kind": "every", "everyMs": 3_600_000},
                        "payload": {"kind": "command", "argv": ["/bin/true"]},
                    }),
                )
            })
            .collect();
        for id in sent {
            let Call::Ok(job) = owner.answer(&id) else {
                panic!("a job is added")
            };
            ids.push(job["id"].as_str().unwrap().to_owned());
        }
    }
    let look = owner.call(
        "cron.add",
        &json!({
            "name": "looks", "enabled": false, "schedule": {"kind": "every", "everyMs": 3_600_000},
            "payload": {"kind": "command", "argv": ["/bin/true"]},
        }),
    );
    let mut lists = gateway.owner(3);
    owner.events_until_now();
    // A day on, as after a night asleep; a day back; and eight hours on from where it was before.
    for (n, (seconds, runs)) in [(DAY, jobs), (0, 0), (DAY + 8 * 3_600, jobs)]
        .into_iter()
        .enumerate()
    {
        clock.at(seconds);
        look_at_the_clock(&mut owner, &look["id"], i64::try_from(n).unwrap());
        let mut running = 0_usize;
        let mut ran: BTreeMap<String, usize> = BTreeMap::new();
        let mut ended = 0;
        while ended < runs {
            let event = owner.event("cron")["payload"].clone();
            match event["action"].as_str().unwrap() {
                "started" => {
                    running += 1;
                    assert!(running <= 4, "{running} at once");
                }
                "finished" if event["status"] == "ok" => {
                    running -= 1;
                    ended += 1;
                    *ran.entry(event["jobId"].as_str().unwrap().to_owned())
                        .or_default() += 1;
                }
                _ => {}
            }
            if ended % 50 == 25 {
                // Answered while the others wait, within the patience of the client.
                lists.call("cron.list", &json!({"limit": 200}));
            }
        }
        look_at_the_clock(&mut owner, &look["id"], 100 + i64::try_from(n).unwrap());
        let more = owner.events_until_now();
        let started = more
            .iter()
            .filter(|event| event["payload"]["action"] == "started")
            .count();
        assert_eq!(started, 0, "after the jump by {seconds} s");
        assert!(ran.values().all(|times| *times == 1), "{ran:?}");
        assert_eq!(ran.len(), runs, "after the jump by {seconds} s");
        let page = owner.call("cron.list", &json!({"limit": 200}));
        for job in page["jobs"].as_array().unwrap() {
            assert!(job["state"].get("runningAtMs").is_none(), "{job}");
        }
    }
    assert_eq!(ids.len(), jobs);
}

#[test]
fn e81_an_hour_that_is_left_out_or_comes_twice_is_one_slot() {
    let mut clock = Clock::new();
    let at = |text: &str| -> i64 {
        // Seconds since the epoch of a day of 2027, by its number in the year.
        let (day, rest) = text.split_once('T').unwrap();
        let (hour, minute) = rest.split_once(':').unwrap();
        let number = |text: &str| text.parse::<i64>().unwrap();
        (1_798_761_600 + (number(day) - 1) * 86_400 + number(hour) * 3_600 + number(minute) * 60)
            * 1_000
    };
    // In Berlin 2:30 does not come on day 87 (28 March), and comes twice on day 304 (31 October).
    clock.stand(at("86T12:00"));
    let gateway = clock.start(&token_config());
    let mut owner = gateway.owner(4);
    let daily = owner.call("cron.add", &json!({
        "name": "daily", "schedule": {"kind": "cron", "expr": "30 2 * * *", "tz": "Europe/Berlin", "staggerMs": 0},
        "payload": {"kind": "command", "argv": ["/bin/true"]},
    }));
    owner.events_until_now();
    let mut looks = 0;
    let mut runs_until = |clock: &mut Clock, owner: &mut Client, when: &str, wanted: usize| {
        clock.stand(at(when));
        looks += 1;
        look_at_the_clock(owner, &daily["id"], looks);
        let mut ran = 0;
        while ran < wanted {
            let event = owner.event("cron")["payload"].clone();
            ran += usize::from(event["action"] == "finished" && event["status"] == "ok");
        }
        looks += 1;
        look_at_the_clock(owner, &daily["id"], looks);
        let more = owner.events_until_now();
        let more = more
            .iter()
            .filter(|event| event["payload"]["action"] == "started")
            .count();
        assert_eq!(more, 0, "until {when}");
    };
    // The night without 2:30: once, at the end of the gap or after it.
    runs_until(&mut clock, &mut owner, "87T00:29", 0);
    runs_until(&mut clock, &mut owner, "87T01:31", 1);
    runs_until(&mut clock, &mut owner, "87T02:31", 0);
    // Seven months asleep: what passed is one.
    runs_until(&mut clock, &mut owner, "303T12:00", 1);
    // The night with two: the first of them.
    runs_until(&mut clock, &mut owner, "304T00:29", 0);
    runs_until(&mut clock, &mut owner, "304T00:31", 1);
    runs_until(&mut clock, &mut owner, "304T01:31", 0);
    runs_until(&mut clock, &mut owner, "304T12:00", 0);
    owner.call("cron.list", &json!({}));
}
