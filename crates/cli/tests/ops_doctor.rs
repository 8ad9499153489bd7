//! `doctor`, `security audit` and `gateway status`: what is wrong is named with what mends it, and
//! nothing is changed that was not asked for.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "each file of tests uses a part of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    collections::BTreeMap, fs, net::TcpListener, os::unix::fs::PermissionsExt as _, time::Instant,
};

use clawgate_testkit::{Home, PATIENCE, TOKEN, TestGateway, gateway, home, token_config};
use serde_json::{Value, json};
use terminal::{Done, Terminal};

fn on(home: &Home, port: u16, args: &[&str]) -> Done {
    let state = home.state().display().to_string();
    let config = home.config().display().to_string();
    let common = ["--state-dir", &state, "--config", &config];
    let terminal = Terminal::new().env("CLAWGATE_GATEWAY_PORT", port.to_string());
    terminal.run(&[args, &common].concat())
}

fn of(gateway: &TestGateway, args: &[&str]) -> Done {
    on(gateway.home(), gateway.address().port(), args)
}

fn ids(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter_map(|finding| finding.get("id").or(finding.get("checkId")))
        .map(|id| id.as_str().unwrap())
        .collect()
}

/// Closes the file of the configuration, which the tests' kit leaves as an editor would.
fn close_config(home: &Home) {
    fs::set_permissions(home.config(), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Every file of a state directory with its mode and its bytes.
fn everything(home: &Home) -> BTreeMap<String, (u32, Vec<u8>)> {
    home.state_entries()
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            // What the running gateway itself writes, and this client's own key.
            !path.to_str().unwrap().contains("/logs")
                && !name.starts_with("clawgate.sqlite")
                && !["device.json", "device-auth.json", "gateways.json"].contains(&name)
        })
        .map(|path| {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let bytes = fs::read(&path).unwrap_or_default();
            (path.display().to_string(), (mode, bytes))
        })
        .collect()
}

#[test]
fn a_client_that_came_first_does_not_keep_the_gateway_from_its_first_start() {
    let home = home!(token_config());
    close_config(&home);
    let done = on(&home, 1, &["health"]);
    assert_eq!(done.code, 3, "nobody is there: {done:?}");
    assert!(home.state().join("identity/device.json").exists());
    let gateway = home.start();
    drop(of(&gateway, &["doctor", "--json"]).exits(0));
}

#[test]
fn nothing_is_wrong_with_a_gateway_that_runs_well_and_the_doctor_changes_nothing() {
    let gateway = gateway!();
    close_config(gateway.home());
    let before = everything(gateway.home());
    let report = of(&gateway, &["doctor", "--deep", "--json"])
        .exits(0)
        .json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["gateway"]["ok"], true);
    let holder = report["gateway"]["holder"].as_str().unwrap();
    assert!(holder.contains(&gateway.pid().to_string()), "{holder}");
    // The token of tests is short and stands in the file.
    assert_eq!(ids(&report), ["security.findings"], "{report:#}");
    assert!(
        everything(gateway.home()) == before,
        "something was changed"
    );
    let text = of(&gateway, &["doctor", "--human"]).exits(0);
    drop(text.says("security.findings").never_says(TOKEN));
}

#[test]
fn what_is_open_to_others_is_named_and_closed_only_when_asked_for() {
    let gateway = gateway!();
    let home = gateway.home();
    let key = home.state().join("identity/local.key");
    let identity = home.state().join("identity");
    for (path, mode) in [
        (home.state(), 0o755),
        (identity, 0o755),
        (key.clone(), 0o666),
        (home.config(), 0o644),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let audit = of(&gateway, &["security", "audit", "--json"])
        .exits(0)
        .json();
    for id in [
        "fs.state_dir.perms_readable",
        "fs.state.perms_writable",
        "fs.config.perms_world_readable",
        "gateway.token_too_short",
        "config.secrets.in_text",
    ] {
        assert!(ids(&audit).contains(&id), "{id} in {audit:#}");
    }
    assert_eq!(audit["summary"]["critical"], 2, "{audit:#}");
    assert_eq!(mode(&key), 0o666, "an audit changes nothing");
    let doctor = of(&gateway, &["doctor", "--json"]).exits(1).json();
    let wrong = doctor["findings"][0].clone();
    assert_eq!(wrong["severity"], "critical");
    assert_eq!(wrong["fixable"], true, "{wrong:#}");
    assert_eq!(mode(&key), 0o666, "so does the doctor");

    let fixed = of(&gateway, &["security", "audit", "--fix", "--json"])
        .exits(0)
        .json();
    assert_eq!(fixed["fix"]["ok"], true);
    assert_eq!(
        fixed["fix"]["changes"].as_array().unwrap().len(),
        4,
        "{fixed:#}"
    );
    assert!(
        ids(&fixed["report"])
            .iter()
            .all(|id| !id.starts_with("fs.")),
        "{fixed:#}"
    );
    assert_eq!((mode(&key), mode(&home.config())), (0o600, 0o600));
    drop(of(&gateway, &["doctor", "--json"]).exits(0));
}

#[test]
fn an_audit_has_the_members_of_the_originals_and_asks_the_gateway_only_when_told() {
    let mut gateway = gateway!();
    let audit = of(&gateway, &["security", "audit", "--json", "--deep"])
        .exits(0)
        .json();
    assert!(audit["ts"].is_i64());
    assert_eq!(
        audit["findings"].as_array().unwrap().last().unwrap()["severity"],
        "info"
    );
    assert_eq!(audit["deep"]["gateway"]["ok"], true, "{audit:#}");
    assert_eq!(audit["deep"]["gateway"]["error"], Value::Null);
    let port = gateway.address().port();
    gateway.kill();
    let audit = on(
        gateway.home(),
        port,
        &["security", "audit", "--json", "--deep"],
    );
    let audit = audit.exits(0).json();
    assert_eq!(audit["deep"]["gateway"]["ok"], false);
    assert!(ids(&audit).contains(&"gateway.probe_failed"), "{audit:#}");
    let without = on(gateway.home(), port, &["security", "audit", "--json"]);
    assert_eq!(without.exits(0).json()["deep"], Value::Null);
}

#[test]
fn a_lost_key_a_lost_database_and_a_damaged_one_are_critical_before_a_start_makes_it_worse() {
    let mut gateway = gateway!();
    gateway.terminate();
    gateway.ended();
    close_config(gateway.home());
    let state = gateway.home().state();
    let database = state.join("clawgate.sqlite");
    let whole = fs::read(&database).unwrap();
    let critical = |expected: &str| {
        let report = on(gateway.home(), 1, &["doctor", "--json"]).exits(1).json();
        assert!(ids(&report).contains(&expected), "{expected} in {report:#}");
    };
    drop(on(gateway.home(), 1, &["doctor", "--deep", "--json"]).exits(0));
    assert!(
        fs::read(&database).unwrap() == whole,
        "the database was changed"
    );
    assert!(!state.join("clawgate.sqlite-wal").exists());

    let key = state.join("identity/device-tokens.key");
    let away = state.join("away");
    fs::rename(&key, &away).unwrap();
    critical("keys.missing");
    fs::write(&key, "no key").unwrap();
    critical("keys.unreadable");
    fs::rename(&away, &key).unwrap();

    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0x55);
    fs::write(&database, &damaged).unwrap();
    critical("database.damaged");
    fs::write(&database, b"").unwrap();
    critical("database.unusable");
    let newer = {
        let mut newer = whole.clone();
        newer[60..64].copy_from_slice(&999_u32.to_be_bytes());
        newer
    };
    fs::write(&database, &newer).unwrap();
    critical("database.unusable");
    fs::remove_file(&database).unwrap();
    critical("database.gone");
    fs::write(&database, &whole).unwrap();
    drop(on(gateway.home(), 1, &["doctor", "--json"]).exits(0));
    gateway.home().write_config("{gateway: {port: 'x'}}");
    critical("config.invalid");
}

#[test]
fn a_job_that_fails_and_a_device_that_waits_are_named() {
    let gateway = gateway!();

    let mut owner = gateway.owner(4);
    let job = owner.call(
        "cron.add",
        &json!({"name": "broken", "schedule": {"kind": "every", "everyMs": 1_000},
            "sessionTarget": "isolated", "disableAfter": 1,
            "payload": {"kind": "command", "argv": ["/bin/sh", "-c", "exit 3"]}}),
    );
    let id = job["id"].as_str().unwrap().to_owned();
    let device = clawgate_testkit::Device::new();
    let connect = clawgate_testkit::Connect::new(4)
        .token(TOKEN)
        .device(&device)
        .scopes(&["operator.read"]);
    gateway
        .from_afar(&connect)
        .map(|(_, hello)| hello)
        .unwrap_err();
    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        let report = of(&gateway, &["doctor", "--json"]).json();
        if ids(&report).contains(&"cron.disabled_by_failures") {
            break report;
        }
        assert!(Instant::now() < deadline, "{report:#}");
    };
    assert!(ids(&report).contains(&"pairing.pending"), "{report:#}");
    let fix = format!("cron enable {id}");
    assert!(report["findings"].to_string().contains(&fix), "{report:#}");
}

#[test]
fn a_result_that_does_not_arrive_is_named() {
    let mut config = token_config();
    config["cron"] = json!({"webhookSsrfPolicy": {"dangerouslyAllowPrivateNetwork": true}});
    let gateway = gateway!(config);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let mut owner = gateway.owner(4);
    let job = owner.call(
        "cron.add",
        &json!({"name": "told", "schedule": {"kind": "every", "everyMs": 3_600_000},
            "sessionTarget": "isolated", "payload": {"kind": "command", "argv": ["/bin/true"]},
            "delivery": {"mode": "webhook", "to": format!("http://{nobody}/hook")}}),
    );
    owner.call("cron.run", &json!({"id": job["id"], "mode": "force"}));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = of(&gateway, &["doctor", "--json"]).json();
        if ids(&report).contains(&"outbox.stuck") {
            let text = report.to_string();
            assert!(text.contains(job["id"].as_str().unwrap()), "{report:#}");
            return;
        }
        assert!(Instant::now() < deadline, "{report:#}");
    }
}

#[test]
fn another_program_on_the_port_is_named_and_not_taken_for_a_gateway() {
    let home = home!(token_config());
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    // It takes connections and says nothing of HTTP.
    std::thread::spawn(move || {
        for stream in other.incoming().map_while(Result::ok) {
            drop(std::io::Write::write_all(
                &mut (&stream),
                b"220 mail.example ESMTP\r\n",
            ));
        }
    });
    let report = on(&home, port, &["doctor", "--json"]).exits(1).json();
    assert!(ids(&report).contains(&"port.taken"), "{report:#}");
    let own = std::process::id();
    assert!(
        report["findings"]
            .to_string()
            .contains(&format!("process {own}")),
        "{report:#}"
    );

    let status = on(&home, port, &["gateway", "status", "--no-probe", "--json"]);
    let status = status.exits(0).json();
    assert_eq!(status["port"]["status"], "busy");
    let listener = &status["port"]["listeners"][0];
    assert_eq!(listener["pid"], own);
    assert_eq!(listener["address"], format!("127.0.0.1:{port}"));
    let hint = "Another process is listening on this port.";
    assert_eq!(status["port"]["hints"], json!([hint]));
    let required = on(
        &home,
        port,
        &["gateway", "status", "--require-rpc", "--json"],
    );
    assert_eq!(required.exits(1).json()["rpc"]["ok"], false);
}

#[test]
fn gateway_status_names_the_gateway_that_listens_and_a_port_that_is_free() {
    let mut gateway = gateway!();
    let status = of(&gateway, &["gateway", "status", "--json"])
        .exits(0)
        .json();
    assert_eq!(status["rpc"]["ok"], true, "{status:#}");
    assert_eq!(status["port"]["status"], "busy");
    let pids: Vec<&Value> = status["port"]["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| &listener["pid"])
        .collect();
    assert!(pids.iter().all(|pid| **pid == gateway.pid()), "{status:#}");
    let hint = status["port"]["hints"][0].as_str().unwrap();
    assert!(
        hint.starts_with("Gateway already running locally."),
        "{hint}"
    );
    let port = gateway.address().port();
    gateway.kill();
    let status = on(gateway.home(), port, &["gateway", "status", "--json"]);
    let status = status.exits(0).json();
    assert_eq!(status["port"]["status"], "free");
    assert_eq!(status["port"]["listeners"], json!([]));
    assert_eq!(status["rpc"]["ok"], false);
}

#[test]
fn status_holds_the_real_audit_of_this_machines_gateway() {
    let gateway = gateway!();
    let status = of(&gateway, &["status", "--json"]).exits(0).json();
    let audit = &status["securityAudit"];
    assert!(ids(audit).contains(&"summary.attack_surface"), "{audit:#}");
    assert_eq!(audit["summary"]["critical"], {
        let findings = audit["findings"].as_array().unwrap().iter();
        findings.filter(|one| one["severity"] == "critical").count()
    });
    drop(
        of(&gateway, &["status", "--all", "--human"])
            .exits(0)
            .says("security   "),
    );
}
