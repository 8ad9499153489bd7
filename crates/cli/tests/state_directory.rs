//! The state directory: one gateway at a time, closed to others, and never started over.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use clawgate_testkit::{Connect, Ended, Home, TOKEN, TestGateway, gateway, home};
use serde_json::json;

/// A second gateway on the state directory of a first.
fn second(gateway: &TestGateway) -> Ended {
    gateway.home().start_in_vain()
}

#[test]
fn e80_a_second_gateway_goes_at_once_and_says_who_is_there() {
    let gateway = gateway!();
    let ended = second(&gateway);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.took < Duration::from_secs(2), "{ended:?}");
    for fact in [
        gateway.pid().to_string(),
        format!("ws://{}", gateway.address()),
        gateway.home().state().display().to_string(),
    ] {
        assert!(
            ended.stderr.contains(&fact),
            "{fact} is not named: {}",
            ended.stderr
        );
    }
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn e80_a_removed_lock_file_lets_nobody_in() {
    let gateway = gateway!();
    let lock = gateway.home().state().join("clawgate.lock");
    fs::remove_file(&lock).unwrap();
    let ended = second(&gateway);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.stderr.contains("held by another"), "{ended:?}");
    fs::remove_file(&lock).unwrap();
    fs::write(&lock, "nobody").unwrap();
    let ended = second(&gateway);
    assert!(ended.stderr.contains("held by another"), "{ended:?}");
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn e80_ten_gateways_at_once_leave_one() {
    let gateway = gateway!();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(|| second(&gateway))).collect();
        for thread in threads {
            let ended = thread.join().unwrap();
            assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
        }
    });
    gateway.owner(4).call(
        "tokens.create",
        &json!({"name": "x", "scopes": ["operator.read"]}),
    );
}

#[test]
fn e80_what_a_killed_gateway_left_is_in_nobodys_way() {
    let mut gateway = gateway!();
    gateway.kill();
    let lock = fs::read_to_string(gateway.home().state().join("clawgate.lock")).unwrap();
    assert!(lock.contains("process"), "the file is still there: {lock}");
    gateway.restart();
    gateway.owner(3).call("health", &json!({}));
}

#[test]
fn e80_a_lock_file_that_names_a_living_process_is_no_lock() {
    let home = home!(clawgate_testkit::token_config());
    fs::create_dir_all(home.state()).unwrap();
    let text = format!("process {}, ws://127.0.0.1:1\n", std::process::id());
    fs::write(home.state().join("clawgate.lock"), text).unwrap();
    home.start().owner(4).call("health", &json!({}));
}

fn modes_below(home: &Home) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut look = |path: &Path| {
        let meta = fs::symlink_metadata(path).unwrap();
        let mode = meta.permissions().mode() & 0o777;
        let good = if meta.is_dir() { 0o700 } else { 0o600 };
        if mode != good {
            wrong.push(format!("{} is {mode:o}", path.display()));
        }
    };
    look(&home.state());
    home.state_entries().iter().for_each(|path| look(path));
    wrong
}

#[test]
fn everything_in_it_is_closed_to_others() {
    let mut gateway = gateway!(json!({}));
    let key = gateway.home().local_key();
    let (mut owner, _) = gateway.welcome(&Connect::new(4).local_proof(&key));
    owner.call(
        "tokens.create",
        &json!({"name": "x", "scopes": ["operator.read"]}),
    );
    owner.call("logs.tail", &json!({}));
    // Also while it runs, when the write-ahead log lies beside the database.
    assert_eq!(modes_below(gateway.home()), Vec::<String>::new());
    gateway.terminate();
    gateway.ended();
    assert_eq!(modes_below(gateway.home()), Vec::<String>::new());
}

#[test]
fn a_private_file_that_others_may_read_is_closed_to_them() {
    let mut gateway = gateway!();
    gateway.kill();
    let key = gateway.home().state().join("identity/local.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    gateway.restart();
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_gateway_without_a_token_makes_one_and_keeps_it() {
    let mut gateway = home!().start();
    let path = gateway.home().state().join("gateway-token");
    let token = fs::read_to_string(&path).unwrap().trim().to_owned();
    assert_eq!(token.len(), 48, "24 random bytes as hex");
    assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    gateway.welcome(&Connect::new(3).token(&token));
    gateway.refusal(&Connect::new(3).token("wrong"));
    gateway.kill();
    gateway.restart();
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), token);
    gateway.welcome(&Connect::new(4).token(&token));
    assert!(!gateway.stderr().contains(&token));
    let other = home!().start();
    let other = fs::read_to_string(other.home().state().join("gateway-token")).unwrap();
    assert_ne!(other.trim(), token);
}

/// A gateway that ran and stopped, and what lies in its database.
fn stopped() -> (TestGateway, Vec<u8>) {
    let mut gateway = gateway!();
    gateway.owner(4).call(
        "tokens.create",
        &json!({"name": "x", "scopes": ["operator.read"]}),
    );
    gateway.terminate();
    gateway.ended();
    let bytes = fs::read(gateway.home().state().join("clawgate.sqlite")).unwrap();
    (gateway, bytes)
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    let (gateway, whole) = stopped();
    let path = gateway.home().state().join("clawgate.sqlite");
    let mut scrambled = whole.clone();
    scrambled[..100].fill(0x55);
    let damages: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("no database", b"this is not a database at all".repeat(100)),
        ("another header", scrambled),
        ("half a header", whole[..50].to_vec()),
        ("zeroes", vec![0; whole.len()]),
    ];
    for (what, bytes) in damages {
        fs::write(&path, &bytes).unwrap();
        let ended = gateway.home().start_in_vain();
        assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        assert!(
            ended.stderr.contains("clawgate.sqlite") || ended.stderr.contains("database"),
            "{what}: {ended:?}"
        );
        assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
        assert_eq!(
            fs::read(&path).unwrap(),
            bytes,
            "{what}: the file was changed"
        );
    }
    fs::write(&path, &whole).unwrap();
    let mut gateway = gateway;
    gateway.restart();
    let list = gateway.owner(4).call("tokens.list", &json!({}));
    assert_eq!(
        list["tokens"].as_array().unwrap().len(),
        1,
        "the whole one is taken again"
    );
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let (gateway, whole) = stopped();
    let path = gateway.home().state().join("clawgate.sqlite");
    // The header says whose it is, and how far it got: application_id and user_version.
    let with = |version: u8, application: [u8; 4]| {
        let mut bytes = whole.clone();
        bytes[60..64].copy_from_slice(&[0, 0, 0, version]);
        bytes[68..72].copy_from_slice(&application);
        bytes
    };
    for foreign in [with(0, [0; 4]), with(2, *b"blog")] {
        fs::write(&path, &foreign).unwrap();
        let ended = gateway.home().start_in_vain();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("another program"), "{ended:?}");
        assert_eq!(fs::read(&path).unwrap(), foreign, "it was changed");
    }
    // One of ours from before there was a mark is taken, and gets it.
    fs::write(&path, with(whole[63], [0; 4])).unwrap();
    let mut gateway = gateway;
    gateway.restart();
    gateway.terminate();
    gateway.ended();
    assert_eq!(fs::read(&path).unwrap()[68..72], whole[68..72]);
}

#[test]
fn a_lost_database_is_not_made_anew_beside_what_is_left_of_it() {
    let (mut gateway, whole) = stopped();
    let state = gateway.home().state();
    let database = state.join("clawgate.sqlite");
    fs::remove_file(&database).unwrap();
    let ended = gateway.home().start_in_vain();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for text in ["clawgate.sqlite is gone", "identity", "restore", "move"] {
        assert!(ended.stderr.contains(text), "{text}: {ended:?}");
    }
    assert!(!database.exists(), "and none was made");
    fs::write(&database, &whole).unwrap();
    gateway.restart();
    gateway.terminate();
    gateway.ended();
    // Without the keys it is a new beginning, unless a log of the old one would get into it.
    fs::remove_file(&database).unwrap();
    fs::rename(state.join("identity"), state.join("identity.old")).unwrap();
    let log = state.join("clawgate.sqlite-wal");
    fs::write(&log, "what was not written yet").unwrap();
    let ended = gateway.home().start_in_vain();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("clawgate.sqlite-wal"), "{ended:?}");
    fs::remove_file(&log).unwrap();
    fs::remove_dir_all(state.join("identity")).unwrap();
    fs::remove_file(state.join("clawgate.sqlite.new")).unwrap();
    gateway.restart();
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    let (mut gateway, _) = stopped();
    let state = gateway.home().state();
    // The keys were made, the database was not moved to its place yet.
    fs::rename(
        state.join("clawgate.sqlite"),
        state.join("clawgate.sqlite.new"),
    )
    .unwrap();
    gateway.restart();
    gateway.owner(4).call("health", &json!({}));
    assert!(!state.join("clawgate.sqlite.new").exists());
}

#[test]
fn a_key_that_is_no_key_is_refused_and_left_as_it_is() {
    let (gateway, _) = stopped();
    for name in ["local.key", "device-tokens.key", "gateway.key"] {
        let path = gateway.home().state().join("identity").join(name);
        let good = fs::read(&path).unwrap();
        for bad in ["", "short", "zz".repeat(32).as_str()] {
            fs::write(&path, bad).unwrap();
            let ended = gateway.home().start_in_vain();
            assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
            assert!(ended.stderr.contains(name), "{name}: {ended:?}");
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                bad,
                "{name} was replaced"
            );
        }
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn a_link_in_place_of_a_private_file_is_not_followed() {
    let (gateway, _) = stopped();
    let path = gateway.home().state().join("identity/local.key");
    let elsewhere = gateway.home().state().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let ended = gateway.home().start_in_vain();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let home = home!(clawgate_testkit::token_config());
    fs::write(home.state(), "a file is in the way").unwrap();
    let ended = home.start_in_vain();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains(&home.state().display().to_string()),
        "{ended:?}"
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = json!({"gateway": {
        "bind": "custom", "customBindHost": "127.0.0.1", "auth": {"mode": "token", "token": TOKEN},
    }});
    let home = home!(config).port(port);
    let ended = home.start_in_vain();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&port.to_string()), "{ended:?}");
}
