//! What was answered is kept: through kill -9, at any moment, whatever it was.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use clawgate_testkit::{Call, Connect, Device, TOKEN, TestGateway, gateway};
use serde_json::{Value, json};

const READ: &[&str] = &["operator.read"];

fn token_names(gateway: &TestGateway) -> Vec<String> {
    let list = gateway.owner(4).call("tokens.list", &json!({}));
    let names = list["tokens"].as_array().unwrap().iter();
    names
        .map(|token| token["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_api_token_that_was_answered_survives_a_kill() {
    let mut gateway = gateway!();
    for round in 0..5 {
        let name = format!("t{round}");
        let answer = gateway.owner(4).call(
            "tokens.create",
            &json!({"name": name, "scopes": ["operator.read"]}),
        );
        gateway.kill();
        gateway.restart();
        assert!(token_names(&gateway).contains(&name), "round {round}");
        let secret = answer["token"].as_str().unwrap();
        gateway.welcome(&Connect::new(4).token(secret).scopes(READ));
    }
}

#[test]
fn an_approval_that_was_answered_survives_a_kill() {
    let mut gateway = gateway!();
    let device = Device::new();
    let connect = || Connect::new(4).token(TOKEN).device(&device).scopes(READ);
    let refusal = gateway
        .from_afar(&connect())
        .map(|(_, hello)| hello)
        .unwrap_err();
    let id = refusal.error.unwrap().detail("requestId").clone();
    gateway
        .owner(4)
        .call("device.pair.approve", &json!({"requestId": id}));
    gateway.kill();
    gateway.restart();
    gateway.from_afar(&connect()).unwrap();
}

#[test]
fn a_silent_pairing_survives_a_kill_right_after_the_hello() {
    let mut gateway = gateway!();
    let device = Device::new();
    let (_, hello) = gateway.welcome(&Connect::new(4).token(TOKEN).device(&device).scopes(READ));
    let token = hello.device_token().unwrap().to_owned();
    gateway.kill();
    gateway.restart();
    let alone = Connect::new(4)
        .device(&device)
        .scopes(READ)
        .auth("deviceToken", &token);
    gateway.from_afar(&alone).unwrap();
}

#[test]
fn a_request_for_pairing_survives_a_kill() {
    let mut gateway = gateway!();
    let connect = Connect::new(4)
        .token(TOKEN)
        .device(&Device::new())
        .scopes(READ);
    let refusal = gateway
        .from_afar(&connect)
        .map(|(_, hello)| hello)
        .unwrap_err();
    let id = refusal.error.unwrap().detail("requestId").clone();
    gateway.kill();
    gateway.restart();
    let again = gateway
        .from_afar(&connect)
        .map(|(_, hello)| hello)
        .unwrap_err();
    assert_eq!(
        again.error.unwrap().detail("requestId"),
        &id,
        "the same request"
    );
    gateway
        .owner(4)
        .call("device.pair.approve", &json!({"requestId": id}));
}

#[test]
fn a_queued_system_event_and_a_setting_survive_a_kill() {
    let mut gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.call("system-event", &json!({"text": "water the plants"}));
    owner.call("set-heartbeats", &json!({"enabled": true}));
    let before = owner.call("status", &json!({}));
    assert!(before.to_string().contains("water the plants"), "{before}");
    gateway.kill();
    gateway.restart();
    let after = gateway.owner(4).call("status", &json!({}));
    assert!(after.to_string().contains("water the plants"), "{after}");
    assert_eq!(after["heartbeat"], before["heartbeat"]);
}

#[test]
fn a_job_that_was_answered_survives_a_kill() {
    let mut gateway = gateway!();
    for protocol in [3, 4] {
        let name = format!("job-{protocol}");
        let job = gateway.owner(protocol).call(
            "cron.add",
            &json!({
                "name": name,
                "schedule": {"kind": "every", "everyMs": 3_600_000},
                "sessionTarget": "main",
                "wakeMode": "now",
                "payload": {"kind": "systemEvent", "text": "hello"},
            }),
        );
        gateway.kill();
        gateway.restart();
        let list = gateway.owner(protocol).call("cron.list", &json!({}));
        let jobs = list["jobs"].as_array().unwrap();
        let kept = jobs.iter().find(|kept| kept["name"] == name.as_str());
        assert_eq!(
            kept.unwrap_or_else(|| panic!("it is gone: {list}"))["id"],
            job["id"]
        );
    }
}

#[test]
fn e79_a_kill_in_the_middle_of_work_loses_nothing_that_was_answered() {
    let mut gateway = gateway!();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..4 {
        let mut clients: Vec<_> = (0..4).map(|_| gateway.owner(4)).collect();
        let sent: Vec<Vec<(String, String)>> = clients
            .iter_mut()
            .enumerate()
            .map(|(n, client)| {
                (0..50)
                    .map(|m| {
                        let name = format!("{round}-{n}-{m}");
                        let params = json!({"name": name, "scopes": ["operator.read"]});
                        (client.send("tokens.create", &params), name)
                    })
                    .collect()
            })
            .collect();
        // Some are answered, the others are on their way.
        let (id, name) = &sent[0][round * 10];
        assert!(matches!(clients[0].answer(id), Call::Ok(_)));
        acknowledged.push(name.clone());
        gateway.kill();
        for (client, sent) in clients.iter_mut().zip(&sent) {
            for (id, name) in sent {
                match client.answer(id) {
                    Call::Ok(_) => acknowledged.push(name.clone()),
                    Call::Error(error) => panic!("{error:?}"),
                    Call::Closed(_) => break,
                }
            }
        }
        gateway.restart();
        let names = token_names(&gateway);
        for name in &acknowledged {
            assert!(names.contains(name), "{name} was answered and is gone");
        }
    }
    assert!(acknowledged.len() >= 4);
}

#[test]
fn e79_a_start_after_a_kill_is_quick_and_needs_nobody() {
    let mut gateway = gateway!();
    for _ in 0..3 {
        gateway
            .owner(4)
            .call("set-heartbeats", &json!({"enabled": true}));
        gateway.kill();
        gateway.restart();
        let took = gateway.lived();
        assert!(took.as_secs() < 2, "{took:?}");
        let entry: Value = gateway.owner(4).call("gateway.identity.get", &json!({}));
        assert_eq!(entry["deviceId"].as_str().unwrap().len(), 64);
    }
}
