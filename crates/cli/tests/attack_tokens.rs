//! Attacks on pairing and tokens: E51 to E60 of the checklist (docs/attacks.md), what other files do
//! not try already.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "support/terminal.rs"]
mod terminal;

use std::{collections::BTreeSet, fs};

use clawgate_testkit::{
    Call, Client, Close, Connect, Device, Hello, OPERATOR, Refusal, TOKEN, TestGateway, gateway,
    home, post, provider::Provider, token_config,
};
use serde_json::{Value, json};
use terminal::Terminal;

const DIALECTS: [u32; 2] = [3, 4];
const READ: &[&str] = &["operator.read"];
const READ_AND_PAIRING: &[&str] = &["operator.read", "operator.pairing"];
const PAIRING: &[&str] = &["operator.pairing"];

fn full() -> bool {
    std::env::var("CLAWGATE_ATTACK").is_ok_and(|how| how == "full")
}

fn with(protocol: u32, device: &Device, scopes: &[&str]) -> Connect {
    Connect::new(protocol)
        .token(TOKEN)
        .device(device)
        .scopes(scopes)
}

fn request_id(refusal: &Refusal) -> String {
    let error = refusal.error.as_ref().unwrap();
    error.detail("requestId").as_str().unwrap().to_owned()
}

#[track_caller]
fn asks(gateway: &TestGateway, connect: &Connect) -> String {
    let refusal = gateway
        .from_afar(connect)
        .map(|(_, hello)| hello)
        .unwrap_err();
    assert_eq!(refusal.code(), "PAIRING_REQUIRED", "{refusal:?}");
    request_id(&refusal)
}

/// Pairs a device from elsewhere with exactly these scopes, and gives its token.
#[track_caller]
fn pair(gateway: &TestGateway, device: &Device, scopes: &[&str]) -> String {
    let id = asks(gateway, &with(4, device, scopes));
    gateway
        .owner(4)
        .call("device.pair.approve", &json!({"requestId": id}));
    let (_, hello) = gateway.from_afar(&with(4, device, scopes)).unwrap();
    hello.device_token().unwrap().to_owned()
}

fn by_token(
    gateway: &TestGateway,
    device: &Device,
    token: &str,
    scopes: &[&str],
) -> Result<(Client, Hello), Refusal> {
    let connect = Connect::new(4).device(device).scopes(scopes);
    gateway.from_afar(&connect.auth("deviceToken", token))
}

fn list(client: &mut Client) -> Value {
    client.call("device.pair.list", &json!({}))
}

fn paired(client: &mut Client, device: &Device) -> Option<Value> {
    let list = list(client);
    let mut found = list["paired"].as_array().unwrap().iter();
    found.find(|one| one["deviceId"] == device.id()).cloned()
}

fn pending(client: &mut Client) -> Vec<Value> {
    list(client)["pending"].as_array().unwrap().clone()
}

#[test]
fn e51_no_dialect_or_credential_lets_a_decider_approve_an_administrator() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let params = json!({"name": "decides", "scopes": PAIRING});
    let api = owner.call("tokens.create", &params)["token"].clone();
    let limited = Device::new();
    let own = pair(&gateway, &limited, PAIRING);
    let victim = Device::new();
    let id = asks(&gateway, &with(4, &victim, &OPERATOR));
    let waits = pending(&mut owner);
    let approve = json!({"requestId": id});
    for protocol in DIALECTS {
        let bare = || Connect::new(protocol).scopes(PAIRING);
        let callers = [
            gateway.welcome(&bare().token(TOKEN)).0,
            gateway.welcome(&bare().token(api.as_str().unwrap())).0,
            gateway
                .from_afar(&bare().device(&limited).auth("deviceToken", &own))
                .unwrap()
                .0,
        ];
        for mut caller in callers {
            let error = caller.refused("device.pair.approve", &approve);
            assert_eq!(error.code, "INVALID_REQUEST", "{error:?}");
            assert_eq!(pending(&mut owner), waits, "the request is intact");
            assert_eq!(paired(&mut owner, &victim), None);
        }
    }
    owner.call("device.pair.approve", &approve);
    let (_, hello) = gateway.from_afar(&with(4, &victim, &OPERATOR)).unwrap();
    assert_eq!(hello.scopes(), OPERATOR, "what was shown is what was given");
}

#[test]
fn e52_a_rotation_of_what_one_lacks_is_denied_and_the_old_token_stands() {
    let gateway = gateway!();
    let (device, other, gone) = (Device::new(), Device::new(), Device::new());
    let token = pair(&gateway, &device, READ_AND_PAIRING);
    let others = pair(&gateway, &other, READ);
    let lost = pair(&gateway, &gone, READ_AND_PAIRING);
    let mut owner = gateway.owner(4);
    let remove = json!({"deviceId": gone.id()});
    owner.call("device.pair.remove", &remove);
    for protocol in DIALECTS {
        let connect = Connect::new(protocol)
            .device(&device)
            .scopes(READ_AND_PAIRING);
        let (mut client, _) = gateway
            .from_afar(&connect.auth("deviceToken", &token))
            .unwrap();
        for params in [
            json!({"deviceId": device.id(), "role": "operator", "scopes": ["operator.admin"]}),
            json!({"deviceId": device.id(), "role": "operator", "scopes": ["operator.read", "operator.write"]}),
            json!({"deviceId": device.id(), "role": "node"}),
            json!({"deviceId": device.id(), "role": "admin"}),
            json!({"deviceId": other.id(), "role": "operator"}),
            json!({"deviceId": gone.id(), "role": "operator"}),
        ] {
            let error = client.refused("device.token.rotate", &params);
            assert_eq!(error.code, "INVALID_REQUEST", "{params}: {error:?}");
            by_token(&gateway, &device, &token, READ_AND_PAIRING).unwrap();
            by_token(&gateway, &other, &others, READ).unwrap();
            let refusal = by_token(&gateway, &gone, &lost, READ).unwrap_err();
            assert!(
                ["PAIRING_REQUIRED", "AUTH_DEVICE_TOKEN_MISMATCH"].contains(&refusal.code()),
                "{refusal:?}"
            );
        }
        let error = owner.refused(
            "device.token.rotate",
            &json!({"deviceId": gone.id(), "role": "operator"}),
        );
        assert_eq!(error.code, "INVALID_REQUEST");
    }
    assert_eq!(paired(&mut owner, &gone), None, "nothing brought it back");
}

/// A gateway that serves turns over HTTP.
fn over_http() -> (TestGateway, Provider) {
    let provider = Provider::conversing();
    let mut config = token_config();
    config["gateway"]["http"] = json!({"endpoints": {"chatCompletions": {"enabled": true}, "responses": {"enabled": true}}});
    config["models"] = json!({"providers": {"scripted": provider.config(clawgate_testkit::provider::Dialect::Chat)}});
    config["agents"] = json!({"defaults": {"model": {"primary": "scripted/some-model"}}});
    (gateway!(config), provider)
}

#[test]
fn e53_what_was_revoked_opens_nothing_on_any_way_in() {
    let (gateway, _provider) = over_http();
    let mut owner = gateway.owner(4);
    let params = json!({"name": "ci", "scopes": ["operator.read", "operator.write"]});
    let api = owner.call("tokens.create", &params)["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let device = Device::new();
    let token = pair(&gateway, &device, READ);
    let (mut open, _) = by_token(&gateway, &device, &token, READ).unwrap();
    let (mut api_open, _) = gateway
        .from_afar(&Connect::new(3).token(&api).scopes(READ))
        .unwrap();
    let body = json!({"model": "openclaw", "messages": [{"role": "user", "content": "hi"}]});
    let paths = ["/v1/chat/completions", "/v1/responses", "/tools/invoke"];
    let http = |secret: &str, path: &str| {
        let bearer = format!("Bearer {secret}");
        let headers = [("Authorization", bearer.as_str())];
        post(gateway.address(), path, &headers, &body.to_string()).status
    };
    assert_eq!(http(&api, paths[0]), 200, "it was good before");
    owner.call(
        "device.token.revoke",
        &json!({"deviceId": device.id(), "role": "operator"}),
    );
    owner.call("tokens.revoke", &json!({"name": "ci"}));
    for client in [&mut open, &mut api_open] {
        let outcome = client.try_call("status", &json!({}));
        assert_eq!(
            outcome,
            Call::Closed(Close::new(4001, "gateway auth changed"))
        );
    }
    for protocol in DIALECTS {
        for key in ["deviceToken", "token"] {
            let connect = Connect::new(protocol).device(&device).scopes(READ);
            let here = gateway.refusal(&connect.auth(key, &token));
            assert!(here.code().starts_with("AUTH_"), "{here:?}");
        }
        let refusal = gateway.refusal(&Connect::new(protocol).token(&api).scopes(READ));
        assert_eq!(refusal.code(), "AUTH_API_TOKEN_REVOKED");
    }
    for path in paths {
        assert_eq!(http(&api, path), 401, "{path}");
        assert_eq!(http(&token, path), 401, "{path}");
    }
}

#[test]
fn e54_a_setup_code_that_nobody_issued_opens_nothing_however_often_it_is_tried() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let code = "setup-code-of-nobody";
    let before = list(&mut owner);
    for protocol in DIALECTS {
        for scopes in [&[][..], READ, &OPERATOR] {
            for role in ["operator", "node"] {
                let device = Device::new();
                let connect = Connect::new(protocol)
                    .device(&device)
                    .role(role)
                    .scopes(scopes)
                    .auth("bootstrapToken", code);
                // Once, and the same again.
                for _ in 0..2 {
                    let refusal = gateway.from_afar(&connect).map(|_| ()).unwrap_err();
                    assert_eq!(
                        refusal.code(),
                        "AUTH_BOOTSTRAP_TOKEN_INVALID",
                        "{refusal:?}"
                    );
                    assert_eq!(refusal.close.code, 1008);
                }
            }
        }
    }
    let welcomed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50)
            .map(|_| {
                let gateway = &gateway;
                scope.spawn(move || {
                    let connect = Connect::new(4)
                        .device(&Device::new())
                        .scopes(&OPERATOR)
                        .auth("bootstrapToken", code);
                    usize::from(gateway.from_afar(&connect).is_ok())
                })
            })
            .collect();
        threads.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(welcomed, 0);
    assert_eq!(
        list(&mut owner),
        before,
        "nobody waits and nobody is paired"
    );
    assert!(!gateway.stderr().contains(code));
    assert!(gateway.home().state_files_with(code).is_empty());
}

#[test]
fn e55_a_flood_of_devices_from_many_addresses_is_bounded_and_leaves_others_waiting() {
    const ALL: usize = 256;
    const OF_ONE: usize = 32;
    let mut gateway = gateway!();
    let device = Device::new();
    let token = pair(&gateway, &device, READ);
    let params = json!({"name": "watch", "scopes": PAIRING});
    let watch = gateway.owner(4).call("tokens.create", &params)["token"].clone();
    gateway.kill();
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "trustedProxies": ["127.0.0.1"],
    }});
    gateway.home().write_config(&config.to_string());
    gateway.restart();
    let asks_from = |address: &str| {
        let mut client = gateway.client_with(&[("X-Forwarded-For", address)]);
        request_id(&client.connect(&with(4, &Device::new(), READ)).unwrap_err())
    };
    let watching = Connect::new(4)
        .token(watch.as_str().unwrap())
        .scopes(PAIRING);
    let (mut watcher, _) = gateway.welcome(&watching);
    let known = paired(&mut watcher, &device).unwrap();
    let others: Vec<String> = (1..=4)
        .map(|n| asks_from(&format!("198.51.100.{n}")))
        .collect();
    // More than one address may have, from more addresses than there is room for.
    let (addresses, each) = if full() { (100, 100) } else { (12, 36) };
    let mut last = String::new();
    for n in 0..addresses {
        for _ in 0..each {
            last = asks_from(&format!("203.0.113.{n}"));
        }
        let waiting = pending(&mut watcher);
        assert!(waiting.len() <= ALL, "{}", waiting.len());
        let own = format!("203.0.113.{n}");
        let of_own = waiting
            .iter()
            .filter(|one| one["remoteIp"] == own.as_str())
            .count();
        assert!(of_own <= OF_ONE, "{of_own}");
        // Nothing is left unread for long.
        watcher.events_until_now();
    }
    let waiting: BTreeSet<String> = pending(&mut watcher)
        .iter()
        .map(|one| one["requestId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(waiting.len(), ALL);
    assert!(waiting.contains(&last), "who asks now waits");
    for other in &others {
        assert!(waiting.contains(other), "who asked once waits still");
    }
    let after = paired(&mut watcher, &device).unwrap();
    for member in ["scopes", "roles", "tokens", "approvedAtMs"] {
        assert_eq!(after[member], known[member]);
    }
    let mut client = gateway.client_with(&[("X-Forwarded-For", "203.0.113.1")]);
    let own = Connect::new(4).device(&device).scopes(READ);
    client.connect(&own.auth("deviceToken", &token)).unwrap();
}

#[test]
fn e56_who_comes_back_is_told_to_wait_and_nobody_is_told_twice() {
    let gateway = gateway!();
    let decides = Connect::new(4).token(TOKEN).scopes(PAIRING);
    let (mut decider, _) = gateway.welcome(&decides);
    let device = Device::new();
    let mut ids = BTreeSet::new();
    for n in 0..100 {
        let protocol = if n % 2 == 0 { 3 } else { 4 };
        let refusal = gateway
            .from_afar(&with(protocol, &device, READ))
            .unwrap_err();
        assert_eq!(refusal.code(), "PAIRING_REQUIRED");
        assert_eq!(refusal.close.code, 1008, "no code that asks to come again");
        let error = refusal.error.as_ref().unwrap();
        assert_ne!(error.raw["retryable"], true, "{error:?}");
        if protocol == 4 {
            let hint = "Approve this device from the pending pairing requests.";
            assert_eq!(error.detail("remediationHint"), hint);
        }
        ids.insert(request_id(&refusal));
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(pending(&mut decider).len(), 1);
    let told = decider.event_names_until_now();
    let asked = told.iter().filter(|name| *name == "device.pair.requested");
    assert_eq!(asked.count(), 1, "{told:?}");
}

#[test]
fn e57_asking_anew_never_gives_more_than_was_approved_and_takes_nothing_away() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let device = Device::new();
        pair(&gateway, &device, READ_AND_PAIRING);
        let mut owner = gateway.owner(4);
        let known = paired(&mut owner, &device).unwrap();
        let cases: [(&[&str], &[&str]); 5] = [
            (&[], &[]),
            (READ, READ),
            (READ_AND_PAIRING, READ_AND_PAIRING),
            (&OPERATOR, READ_AND_PAIRING),
            (&["operator.read", "operator.write"], READ),
        ];
        for (wanted, given) in cases {
            let (_, hello) = gateway.from_afar(&with(protocol, &device, wanted)).unwrap();
            let mut got = hello.session_scopes();
            got.sort();
            let mut given: Vec<String> = given.iter().map(|one| (*one).to_owned()).collect();
            given.sort();
            assert_eq!(got, given, "wire {protocol}, {wanted:?}");
            let now = paired(&mut owner, &device).unwrap();
            assert_eq!(now["scopes"], known["scopes"], "{wanted:?}");
            assert_eq!(now["roles"], known["roles"], "{wanted:?}");
        }
        // Nothing of what was approved is a refusal, and another key is another device.
        asks(&gateway, &with(protocol, &device, &["operator.admin"]));
        asks(&gateway, &with(protocol, &Device::new(), READ));
        for one in pending(&mut owner) {
            owner.call(
                "device.pair.reject",
                &json!({"requestId": one["requestId"]}),
            );
        }
        let now = paired(&mut owner, &device).unwrap();
        assert_eq!(
            now["scopes"], known["scopes"],
            "a rejection changes nothing"
        );
    }
}

#[test]
fn e58_a_request_whose_time_is_over_can_be_decided_by_nobody() {
    const TTL_MS: i64 = 300_000;
    let mut gateway = gateway!();
    let (late, early) = (Device::new(), Device::new());
    let over = asks(&gateway, &with(4, &late, READ));
    let stands = asks(&gateway, &with(4, &early, READ));
    gateway.terminate();
    gateway.ended();
    let database = gateway.home().state().join("clawgate.sqlite");
    let db = rusqlite::Connection::open(&database).unwrap();
    let aged = db
        .execute(
            "UPDATE pairing_requests SET asked_at_ms = asked_at_ms - ?1 WHERE request_id = ?2",
            (TTL_MS, over.as_str()),
        )
        .unwrap();
    assert_eq!(aged, 1);
    drop(db);
    gateway.restart();
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        for method in ["device.pair.approve", "device.pair.reject"] {
            for id in [over.as_str(), "never-was"] {
                for _ in 0..2 {
                    let error = owner.refused(method, &json!({"requestId": id}));
                    assert_eq!(
                        (error.code.as_str(), error.message.as_str()),
                        ("INVALID_REQUEST", "unknown requestId"),
                        "{method} {id}"
                    );
                }
            }
        }
        assert_eq!(paired(&mut owner, &late), None);
    }
    let mut owner = gateway.owner(4);
    let waiting = pending(&mut owner);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    owner.call("device.pair.approve", &json!({"requestId": stands}));
    let known = paired(&mut owner, &early).unwrap();
    for method in ["device.pair.approve", "device.pair.reject"] {
        owner.refused(method, &json!({"requestId": stands}));
    }
    let after = paired(&mut owner, &early).unwrap();
    assert_eq!(after["scopes"], known["scopes"], "decided once");
    // Who came too late asks anew, under another id.
    assert_ne!(asks(&gateway, &with(4, &late, READ)), over);
}

#[test]
fn e59_old_records_without_some_members_come_with_what_they_had_and_no_more() {
    let original = tempfile::tempdir().unwrap();
    fs::create_dir_all(original.path().join("devices")).unwrap();
    fs::write(original.path().join("openclaw.json"), "{}").unwrap();
    let token = |scopes: &[&str]| json!({"token": "gone", "role": "operator", "scopes": scopes, "createdAtMs": 5});
    let revoked = |scopes: &[&str]| {
        let mut token = token(scopes);
        token["revokedAtMs"] = json!(6);
        token
    };
    // What a record has beside its key, and what the device may do afterwards; none for a device
    // that does not come.
    type Case = (&'static str, Value, Option<&'static [&'static str]>);
    let cases: [Case; 8] = [
        (
            "only role and scopes",
            json!({"role": "operator", "scopes": READ}),
            Some(READ),
        ),
        (
            "only roles and scopes",
            json!({"roles": ["operator"], "scopes": READ_AND_PAIRING}),
            Some(READ_AND_PAIRING),
        ),
        (
            "no scopes but those of its token",
            json!({"role": "operator", "tokens": {"operator": token(READ)}}),
            Some(READ),
        ),
        (
            "no role but that of its token",
            json!({"scopes": READ_AND_PAIRING, "tokens": {"operator": token(READ)}}),
            Some(READ_AND_PAIRING),
        ),
        (
            "neither, but a token",
            json!({"tokens": {"operator": token(READ)}}),
            Some(READ),
        ),
        (
            "an approval narrower than what was asked",
            json!({"role": "operator", "scopes": OPERATOR, "approvedScopes": READ}),
            Some(READ),
        ),
        ("nothing at all", json!({}), None),
        (
            "only a token that was taken away",
            json!({"tokens": {"operator": revoked(READ)}}),
            None,
        ),
    ];
    let devices: Vec<Device> = cases.iter().map(|_| Device::new()).collect();
    let records: serde_json::Map<String, Value> = devices
        .iter()
        .zip(&cases)
        .map(|(device, (_, more, _))| {
            let mut record = json!({"deviceId": device.id(), "publicKey": device.public_key(),
                "platform": "linux", "clientId": "cli", "clientMode": "cli",
                "createdAtMs": 5, "approvedAtMs": 5});
            for (key, value) in more.as_object().unwrap() {
                record[key] = value.clone();
            }
            (device.id(), record)
        })
        .collect();
    fs::write(
        original.path().join("devices/paired.json"),
        Value::Object(records).to_string(),
    )
    .unwrap();
    let home = home!(token_config());
    let from = original.path().display().to_string();
    let into = home.state().display().to_string();
    let args = [
        "import", "openclaw", "--from", &from, "--into", &into, "--json",
    ];
    let report = Terminal::new().run(&args).exits(0).json();
    let kinds = report["kinds"].as_array().unwrap();
    let tally = kinds.iter().find(|one| one["kind"] == "devices").unwrap();
    assert_eq!(tally["read"], cases.len(), "{report:#}");
    let came = cases.iter().filter(|(_, _, may)| may.is_some()).count();
    assert_eq!(tally["taken"], came, "{report:#}");
    let gateway = home.start();
    let mut owner = gateway.owner(4);
    for (device, (name, _, may)) in devices.iter().zip(&cases) {
        let Some(may) = may else {
            let said = report["skipped"].to_string();
            assert!(said.contains(&device.id()[..8]), "{name}: {said}");
            assert_eq!(paired(&mut owner, device), None, "{name}");
            asks(&gateway, &with(4, device, READ));
            continue;
        };
        let record = paired(&mut owner, device).unwrap();
        assert_eq!(record["scopes"], json!(may), "{name}");
        assert_eq!(record["roles"], json!(["operator"]), "{name}");
        let (_, hello) = gateway
            .from_afar(&with(4, device, &OPERATOR))
            .unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        let mut got = hello.session_scopes();
        let mut want: Vec<String> = may.iter().map(|one| (*one).to_owned()).collect();
        got.sort();
        want.sort();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn e60_the_operator_at_the_machine_approves_though_every_device_only_reads() {
    let gateway = gateway!();
    let (reads, asking) = (Device::new(), Device::new());
    let token = pair(&gateway, &reads, READ);
    let id = asks(&gateway, &with(4, &asking, &OPERATOR));
    let (mut reader, _) = by_token(&gateway, &reads, &token, READ).unwrap();
    reader.refused("device.pair.approve", &json!({"requestId": id}));
    let url = format!("ws://{}", gateway.address());
    let at = |state: String| Terminal::new().env("CLAWGATE_STATE_DIR", state);
    // Who cannot read the state directory has no proof.
    let elsewhere = tempfile::tempdir().unwrap();
    let done =
        at(elsewhere.path().display().to_string()).run(&["devices", "approve", &id, "--url", &url]);
    assert_ne!(done.code, 0, "{done:?}");
    assert_eq!(pending(&mut gateway.owner(4)).len(), 1);
    let port = gateway.address().port().to_string();
    let done = at(gateway.home().state().display().to_string())
        .env("CLAWGATE_GATEWAY_PORT", port)
        .run(&["devices", "approve", &id, "--json"])
        .exits(0)
        .never_says(TOKEN);
    assert_eq!(done.json()["requestId"], id.as_str());
    let (_, hello) = gateway.from_afar(&with(4, &asking, &OPERATOR)).unwrap();
    assert_eq!(hello.scopes(), OPERATOR);
}
