//! A clock that jumps, on and back, while a gateway runs and while it does not (docs/failures.md). What
//! happens to jobs while it runs is in `attack_state.rs` (E81).

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "other tests have the disk fail")]
#[path = "support/faults.rs"]
mod faults;

use std::time::Instant;

use clawgate_testkit::{
    Client, Connect, Device, PATIENCE, Refusal, TOKEN, TestGateway, home, token_config,
};
use faults::Faults;
use serde_json::{Value, json};

const READ: &[&str] = &["operator.read"];
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn started() -> (Faults, TestGateway) {
    let faults = Faults::new();
    let gateway = faults.under(home!(token_config())).start();
    (faults, gateway)
}

fn with(device: &Device) -> Connect {
    Connect::new(4).token(TOKEN).device(device).scopes(READ)
}

fn refused(gateway: &TestGateway, connect: &Connect) -> Refusal {
    gateway.from_afar(connect).map(drop).unwrap_err()
}

/// The id under which a device waits after it asked.
fn asks(gateway: &TestGateway, device: &Device) -> Value {
    let refusal = refused(gateway, &with(device));
    assert_eq!(refusal.code(), "PAIRING_REQUIRED", "{refusal:?}");
    refusal.error.unwrap().detail("requestId").clone()
}

fn waiting(owner: &mut Client) -> usize {
    let list = owner.call("device.pair.list", &json!({}));
    list["pending"].as_array().unwrap().len()
}

#[test]
fn guesses_are_counted_and_locked_out_however_the_clock_is_set_meanwhile() {
    let (mut faults, gateway) = started();
    let guess = || refused(&gateway, &Connect::new(4).token("a guess"));
    let is_locked = || guess().code() == "AUTH_RATE_LIMITED";
    // Ten in a minute, whatever the clock says in between.
    for seconds in [0, DAY, -DAY, 10 * MINUTE, -HOUR, 0, 365 * DAY, -DAY, HOUR] {
        faults.clock(seconds);
        assert!(!is_locked());
    }
    let deadline = Instant::now() + PATIENCE;
    while !is_locked() {
        assert!(Instant::now() < deadline, "nobody is locked out");
    }
    for seconds in [DAY, 365 * DAY, -DAY, -365 * DAY, 0] {
        faults.clock(seconds);
        assert!(is_locked(), "it is let in again {seconds} s from there");
        // Nor does the right secret open what is locked.
        let right = refused(&gateway, &Connect::new(4).token(TOKEN).scopes(READ));
        assert_eq!(right.code(), "AUTH_RATE_LIMITED");
    }
    // Nobody else is.
    gateway.owner(4);
}

#[test]
fn a_request_for_pairing_waits_for_five_minutes_and_not_for_as_long_as_the_clock_went_back() {
    let (mut faults, mut gateway) = started();
    for restarts in [false, true] {
        for jump in [6 * MINUTE, DAY, -DAY, -365 * DAY] {
            faults.clock(0);
            let id = asks(&gateway, &Device::new());
            assert_eq!(waiting(&mut gateway.owner(4)), 1);
            if restarts {
                gateway.kill();
            }
            faults.clock(jump);
            if restarts {
                gateway.restart();
            }
            let mut owner = gateway.owner(4);
            assert_eq!(waiting(&mut owner), 0, "after {jump} s");
            let error = owner.refused("device.pair.approve", &json!({"requestId": id}));
            assert_eq!(error.message, "unknown requestId", "after {jump} s");
            // Who asks now waits from now on.
            let id = asks(&gateway, &Device::new());
            owner.call("device.pair.approve", &json!({"requestId": id}));
        }
    }
    // A small step, as of a clock that is set right, changes nothing.
    for step in [MINUTE, -MINUTE] {
        faults.clock(0);
        let id = asks(&gateway, &Device::new());
        faults.clock(step);
        let mut owner = gateway.owner(4);
        owner.call("device.pair.approve", &json!({"requestId": id}));
    }
}

#[test]
fn tokens_of_devices_have_no_date_and_api_tokens_go_by_theirs() {
    let (mut faults, mut gateway) = started();
    let mut owner = gateway.owner(4);
    let device = Device::new();
    let id = asks(&gateway, &device);
    owner.call("device.pair.approve", &json!({"requestId": id}));
    let (_, hello) = gateway.from_afar(&with(&device)).unwrap();
    let device_token = hello.device_token().unwrap().to_owned();
    let params = json!({"name": "dated", "scopes": READ, "expiresInMs": HOUR * 1_000});
    let dated = owner.call("tokens.create", &params)["token"].clone();
    let params = json!({"name": "undated", "scopes": READ});
    let undated = owner.call("tokens.create", &params)["token"].clone();
    let revoked =
        owner.call("tokens.create", &json!({"name": "revoked", "scopes": READ}))["token"].clone();
    owner.call("tokens.revoke", &json!({"name": "revoked"}));
    let token = |token: &Value| Connect::new(4).token(token.as_str().unwrap()).scopes(READ);
    for restarts in [false, true] {
        for (jump, is_over) in [
            (0, false),
            (2 * HOUR, true),
            (-2 * HOUR, false),
            (-DAY, false),
        ] {
            if restarts {
                gateway.kill();
            }
            faults.clock(jump);
            if restarts {
                gateway.restart();
            }
            let alone = Connect::new(4)
                .device(&device)
                .scopes(READ)
                .auth("deviceToken", &device_token);
            gateway.from_afar(&alone).unwrap();
            gateway.from_afar(&token(&undated)).unwrap();
            let outcome = gateway.from_afar(&token(&dated)).map(drop);
            assert_eq!(outcome.is_err(), is_over, "after {jump} s");
            if let Err(refusal) = outcome {
                assert_eq!(refusal.code(), "AUTH_API_TOKEN_EXPIRED", "{refusal:?}");
            }
            let refusal = refused(&gateway, &token(&revoked));
            assert_eq!(refusal.code(), "AUTH_API_TOKEN_REVOKED", "{refusal:?}");
        }
    }
}

#[test]
fn a_decision_that_was_not_made_in_time_is_not_made_when_the_clock_goes_back() {
    let (mut faults, mut gateway) = started();
    let mut owner = gateway.owner(4);
    let ask = |owner: &mut Client, id: &str| {
        let params =
            json!({"id": id, "command": "ls", "timeoutMs": HOUR * 1_000, "twoPhase": true});
        owner.call("exec.approval.request", &params);
    };
    let decide = |id: &str| json!({"id": id, "decision": "allow-once"});
    ask(&mut owner, "late");
    faults.clock(2 * HOUR);
    owner.refused("exec.approval.resolve", &decide("late"));
    // Whoever asks next has it written down.
    ask(&mut owner, "then");
    faults.clock(0);
    owner.refused("exec.approval.resolve", &decide("late"));
    // Of a time to come: it would wait for as long as the clock went back.
    faults.clock(-30 * DAY);
    owner.refused("exec.approval.resolve", &decide("then"));
    ask(&mut owner, "now");
    gateway.kill();
    gateway.restart();
    let mut owner = gateway.owner(4);
    owner.refused("exec.approval.resolve", &decide("late"));
    owner.refused("exec.approval.resolve", &decide("then"));
    owner.call("exec.approval.resolve", &decide("now"));
}

/// Records of a job, as first and last slot of each, with how it ended.
fn records(owner: &mut Client, id: &Value) -> Vec<(i64, i64, String)> {
    let params = json!({"id": id, "scope": "job", "limit": 200});
    let page = owner.call("cron.runs", &params);
    let mut found: Vec<_> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| {
            let first = entry["slotMs"].as_i64()?;
            let last = entry["lastSlotMs"].as_i64().unwrap_or(first);
            Some((first, last, entry["verdict"].as_str().unwrap().to_owned()))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn slots_that_a_jump_between_two_runs_passed_are_decided_once_by_the_policy_of_their_job() {
    let (mut faults, mut gateway) = started();
    let mut owner = gateway.owner(4);
    let policies = [
        json!({"mode": "none"}),
        json!({"mode": "latest"}),
        json!({"mode": "all", "max": 10}),
    ];
    let jobs: Vec<Value> = policies
        .iter()
        .map(|policy| {
            owner.call(
                "cron.add",
                &json!({
                    "name": policy["mode"], "catchUp": policy,
                    "schedule": {"kind": "every", "everyMs": HOUR * 1_000},
                    "payload": {"kind": "command", "argv": ["/bin/true"]},
                }),
            )
        })
        .collect();
    // On by five slots and a half, back to where it was, on again, and back by a day.
    let mut so_far: Vec<usize> = vec![0; jobs.len()];
    for (seconds, slots) in [
        (5 * HOUR + 30 * MINUTE, 5),
        (0, 5),
        (5 * HOUR + 30 * MINUTE, 5),
        (-DAY, 5),
        (7 * HOUR + 30 * MINUTE, 7),
    ] {
        gateway.kill();
        faults.clock(seconds);
        gateway.restart();
        let mut owner = gateway.owner(4);
        for (job, known) in jobs.iter().zip(&mut so_far) {
            let first = job["state"]["nextRunAtMs"].as_i64().unwrap();
            let deadline = Instant::now() + PATIENCE;
            let found = loop {
                let found = records(&mut owner, &job["id"]);
                let list = owner.call("cron.list", &json!({"includeDisabled": true}));
                let runs = list["jobs"].as_array().unwrap().iter();
                let runs = runs
                    .filter(|job| job["state"].get("runningAtMs").is_some())
                    .count();
                let last = found
                    .last()
                    .map_or(first - HOUR * 1_000, |(_, last, _)| *last);
                if runs == 0 && last == first + (slots - 1) * HOUR * 1_000 {
                    break found;
                }
                assert!(Instant::now() < deadline, "{}: {found:?}", job["name"]);
            };
            // Each slot is in one record, and none is left out.
            let mut next = first;
            for (from, to, _) in &found {
                assert_eq!(*from, next, "{}: {found:?}", job["name"]);
                next = to + HOUR * 1_000;
            }
            *known = found.iter().filter(|(.., how)| how == "ran").count();
        }
    }
    // Jobs go on from there.
    assert_eq!(so_far[0], 0, "nothing of what passed is done");
    assert_eq!(
        so_far[1], 2,
        "the last one of what passed is done, each time"
    );
    assert_eq!(so_far[2], 7, "all of it is");
}
