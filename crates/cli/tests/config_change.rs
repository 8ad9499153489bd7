//! The operator's file, changed while the gateway runs: over the wire, by hand, by signal.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use clawgate_testkit::{Call, Client, Connect, Device, PATIENCE, TOKEN, TestGateway, home};
use serde_json::{Value, json};

const MASK: &str = "__OPENCLAW_REDACTED__";

fn text() -> String {
    format!(
        "// mine\n{{\n  gateway: {{\n    mode: 'local', // here\n    auth: {{mode: 'token', token: '{TOKEN}'}},\n  }},\n  \
         channels: {{telegram: {{botToken: 'canary-bot'}}}}, // kept\n}}\n"
    )
}

fn start(text: &str) -> TestGateway {
    let home = home!();
    home.write_config(text);
    home.start()
}

fn file(gateway: &TestGateway) -> String {
    fs::read_to_string(gateway.home().config()).unwrap()
}

fn hash(client: &mut Client) -> Value {
    client.call("config.get", &json!({}))["hash"].clone()
}

fn patch(client: &mut Client, patch: &Value) -> Value {
    let hash = hash(client);
    client.call(
        "config.patch",
        &json!({"raw": patch.to_string(), "baseHash": hash}),
    )
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

fn device_with_token(gateway: &TestGateway) -> (Client, Device, String) {
    let device = Device::new();
    let (_, hello) = gateway.welcome(&Connect::new(4).token(TOKEN).device(&device));
    let token = hello.device_token().unwrap().to_owned();
    let (client, _) = gateway.welcome(&Connect::new(4).auth("deviceToken", &token).device(&device));
    (client, device, token)
}

#[test]
fn a_patch_edits_the_file_in_place_holds_at_once_and_keeps_the_text_before() {
    for protocol in [3, 4] {
        let gateway = start(&text());
        let mut client = gateway.owner(protocol);
        let raw =
            "{messages: {ackReaction: 'ok'}, agents: {list: [{id: 'main', name: 'M'}]}, /* c */}";
        let hash = hash(&mut client);
        let params = json!({"raw": raw, "baseHash": hash, "note": "why", "restartDelayMs": 5});
        let told = client.call("config.patch", &params);
        assert_eq!(told["ok"], true);
        assert_eq!(told["path"], gateway.home().config().display().to_string());
        assert_eq!(told["config"]["messages"]["ackReaction"], "ok");
        assert_eq!(told["restart"]["ok"], true);
        assert_eq!(told["restart"]["needed"], json!([]));
        assert_eq!(told["sentinel"]["payload"]["kind"], "config-patch");
        assert_eq!(told["sentinel"]["payload"]["message"], "why");
        let now = file(&gateway);
        for kept in [
            "// mine\n",
            "mode: 'local', // here\n",
            "// kept\n",
            TOKEN,
            "canary-bot",
        ] {
            assert!(now.contains(kept), "{kept} in {now}");
        }
        let path = gateway.home().config();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_to_string(path.with_extension("json.bak")).unwrap(),
            text()
        );
        let agents = client.call("agents.list", &json!({}));
        assert_eq!(agents["agents"][0]["name"], "M");
        let told = client.call("config.get", &json!({}));
        assert_ne!(told["hash"], hash);
        let shown = told.to_string() + &gateway.stderr();
        for secret in [TOKEN, "canary-bot"] {
            assert!(!shown.contains(secret), "{secret}");
        }
    }
}

#[test]
fn e67_what_cannot_be_is_refused_in_the_originals_words_and_changes_nothing() {
    let gateway = start(&text());
    let mut client = gateway.owner(3);
    let hash = hash(&mut client);
    let said = |client: &mut Client, method: &str, params: Value| {
        let error = client.refused(method, &params);
        assert_eq!(error.code, "INVALID_REQUEST");
        error
    };
    for method in ["config.set", "config.apply", "config.patch"] {
        let error = said(&mut client, method, json!({"raw": "{}"}));
        assert_eq!(
            error.message,
            "config base hash required; re-run config.get and retry"
        );
        let error = said(&mut client, method, json!({"raw": "{}", "baseHash": "bad"}));
        assert_eq!(
            error.message,
            "config changed since last load; re-run config.get and retry"
        );
        let error = said(
            &mut client,
            method,
            json!({"raw": "{nope", "baseHash": hash}),
        );
        assert!(
            error.message.starts_with("SyntaxError: JSON5: "),
            "{}",
            error.message
        );
        let error = said(&mut client, method, json!({"raw": "", "baseHash": hash}));
        assert!(
            error
                .message
                .starts_with(&format!("invalid {method} params: at /raw"))
        );
        let raw = r#"{"gateway": {"port": "x", "bind": 5}}"#;
        let error = said(&mut client, method, json!({"raw": raw, "baseHash": hash}));
        assert!(
            error
                .message
                .starts_with("invalid config: gateway.port: expected"),
            "{}",
            error.message
        );
        let paths: Vec<&Value> = error.raw["details"]["issues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| &i["path"])
            .collect();
        assert_eq!(paths, ["gateway.port", "gateway.bind"]);
        let raw = json!({"gateway": {"remote": {"token": MASK}}}).to_string();
        let error = said(&mut client, method, json!({"raw": raw, "baseHash": hash}));
        assert!(
            error.message.contains("gateway.remote.token"),
            "{}",
            error.message
        );
        let deep = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
        said(&mut client, method, json!({"raw": deep, "baseHash": hash}));
    }
    let error = said(
        &mut client,
        "config.patch",
        json!({"raw": "[]", "baseHash": hash}),
    );
    assert_eq!(error.message, "config.patch raw must be an object");
    let (mut reader, _) = gateway.welcome(&Connect::new(3).token(TOKEN).scopes(&["operator.read"]));
    for method in [
        "config.set",
        "config.patch",
        "config.apply",
        "config.schema",
        "secrets.reload",
        "secrets.resolve",
        "config.openFile",
    ] {
        let error = reader.refused(method, &json!({"raw": "{}"}));
        assert_eq!(error.message, "missing scope: operator.admin", "{method}");
    }
    assert_eq!(file(&gateway), text());
}

#[test]
fn e66_what_is_shown_can_be_written_back_as_it_is_and_means_what_is_in_the_file() {
    let gateway = start(&text());
    let mut client = gateway.owner(4);
    let told = client.call("config.get", &json!({}));
    let raw = told["raw"].as_str().unwrap();
    assert!(raw.contains(MASK));
    let params = json!({"raw": raw, "baseHash": told["hash"]});
    let set = client.call("config.set", &params);
    assert_eq!(file(&gateway), text(), "nothing was to be changed");
    assert_eq!(set["config"]["gateway"]["auth"]["token"], MASK);
    let mut whole: Value = told["parsed"].clone();
    whole["gateway"]["controlUi"] = json!({"allowedOrigins": ["https://a.example"]});
    let raw = serde_json::to_string_pretty(&whole).unwrap();
    client.call(
        "config.apply",
        &json!({"raw": raw, "baseHash": told["hash"]}),
    );
    let now = file(&gateway);
    assert!(
        now.contains("https://a.example") && now.contains("canary-bot") && now.contains("// kept"),
        "{now}"
    );
    assert!(!now.contains(MASK));
}

#[test]
fn a_list_that_would_lose_items_must_be_named_on_wire_4() {
    let gateway = start(&text());
    let mut client = gateway.owner(4);
    patch(
        &mut client,
        &json!({"gateway": {"trustedProxies": ["10.0.0.1", "10.0.0.2"]}}),
    );
    let hash = hash(&mut client);
    let raw = json!({"gateway": {"trustedProxies": ["10.0.0.2"]}}).to_string();
    let error = client.refused("config.patch", &json!({"raw": raw, "baseHash": hash}));
    assert_eq!(
        error.raw["details"]["paths"],
        json!(["gateway.trustedProxies"])
    );
    let params = json!({"raw": raw, "baseHash": hash, "replacePaths": ["gateway.trustedProxies"]});
    client.call("config.patch", &params);
}

#[test]
fn another_shared_token_ends_the_sessions_that_rest_on_the_old_one_and_no_other() {
    let gateway = start(&text());
    let mut by_secret = gateway.owner(4);
    let mut caller = gateway.owner(3);
    let (mut by_device, device, token) = device_with_token(&gateway);
    let key = gateway.home().local_key();
    let (mut by_proof, _) = gateway.welcome(&Connect::new(4).local_proof(&key));
    let made = by_proof.call(
        "tokens.create",
        &json!({"name": "ci", "scopes": ["operator.read"]}),
    );
    let connect = Connect::new(4)
        .token(made["token"].as_str().unwrap())
        .scopes(&["operator.read"]);
    let (mut by_api_token, _) = gateway.welcome(&connect);

    // What does not concern them ends nobody.
    patch(&mut caller, &json!({"cron": {"maxConcurrentRuns": 3}}));
    by_secret.call("health", &json!({}));

    let told = patch(
        &mut caller,
        &json!({"gateway": {"auth": {"token": "another-secret-0002"}}}),
    );
    assert_eq!(told["config"]["gateway"]["auth"]["token"], MASK);
    for client in [&mut caller, &mut by_secret] {
        let close = client.closed();
        assert_eq!(
            (close.code, close.reason.as_str()),
            (4001, "gateway auth changed")
        );
    }
    for client in [&mut by_device, &mut by_proof, &mut by_api_token] {
        client.call("health", &json!({}));
    }
    gateway.refusal(&Connect::new(4).token(TOKEN));
    gateway.welcome(&Connect::new(4).token("another-secret-0002"));
    gateway.welcome(&Connect::new(4).auth("deviceToken", &token).device(&device));
    for secret in [TOKEN, "another-secret-0002"] {
        assert!(!gateway.stderr().contains(secret));
    }
}

#[test]
fn a_page_whose_origin_is_taken_off_the_list_ends() {
    let mut config = clawgate_testkit::token_config();
    config["gateway"]["controlUi"] =
        json!({"allowedOrigins": ["https://a.example", "https://b.example"]});
    let gateway = home!(config).start();
    let page = |origin: &str| {
        let mut client = gateway.client_with(&[("Origin", origin)]);
        let connect = Connect::new(4)
            .token(TOKEN)
            .device(&Device::new())
            .client("openclaw-control-ui", "ui");
        client.connect(&connect).unwrap();
        client
    };
    let (mut stays, mut goes) = (page("https://a.example"), page("https://b.example"));
    let mut owner = gateway.owner(3);
    patch(
        &mut owner,
        &json!({"gateway": {"controlUi": {"allowedOrigins": ["https://a.example"]}}}),
    );
    assert_eq!(goes.closed().code, 4001);
    stays.call("health", &json!({}));
}

#[test]
fn e75_a_file_changed_by_hand_is_taken_and_a_broken_one_is_not() {
    let gateway = start(&text());
    let mut client = gateway.owner(4);
    let home = gateway.home();
    home.write_config(
        &text()
            .replace("// here", "")
            .replace("channels", "cron: {enabled: false}, channels"),
    );
    until(&mut client, "cron.status", |told| told["enabled"] == false);
    let good = file(&gateway);

    home.write_config(&good.replace("enabled: false", "enabled: 'maybe'"));
    let told = until(&mut client, "config.get", |told| told["valid"] == false);
    assert_eq!(told["issues"][0]["path"], "cron.enabled");
    assert_eq!(told["config"]["cron"]["enabled"], false);
    gateway.says("the configuration is not taken");
    let status = client.call("status", &json!({}));
    assert_eq!(status["config"]["issues"][0]["path"], "cron.enabled");
    home.write_config("{broken");
    let told = until(&mut client, "config.get", |told| told["raw"].is_null());
    assert_eq!(told["valid"], false);
    // What is wrong can be replaced over the wire.
    let raw = json!({"gateway": {"auth": {"token": TOKEN}}, "cron": {"enabled": true}}).to_string();
    client.call("config.set", &json!({"raw": raw, "baseHash": told["hash"]}));
    until(&mut client, "cron.status", |told| told["enabled"] == true);
    assert_eq!(client.call("config.get", &json!({}))["valid"], true);

    // An editor that empties the file before it writes takes nobody's access away.
    home.write_config("");
    until(&mut client, "config.get", |told| told["valid"] == false);
    gateway.welcome(&Connect::new(4).token(TOKEN));
}

#[test]
fn a_signal_has_the_file_read_where_it_is_not_watched() {
    let quiet = text().replace("mode: 'local'", "reload: {mode: 'off'}, mode: 'local'");
    let gateway = start(&quiet);
    let mut client = gateway.owner(4);
    gateway
        .home()
        .write_config(&quiet.replace("channels", "cron: {enabled: false}, channels"));
    gateway.hang_up();
    until(&mut client, "cron.status", |told| told["enabled"] == false);
}

#[test]
fn a_file_that_is_not_watched_is_still_what_an_edit_begins_with() {
    let quiet = text().replace("mode: 'local'", "reload: {mode: 'off'}, mode: 'local'");
    let gateway = start(&quiet);
    let mut client = gateway.owner(4);
    gateway
        .home()
        .write_config(&quiet.replace("channels", "messages: {by: 'hand'}, channels"));
    let told = client.call("config.get", &json!({}));
    assert_eq!(told["parsed"]["messages"]["by"], "hand");
    assert_eq!(
        told["config"]["messages"],
        Value::Null,
        "it does not hold yet"
    );
    patch(&mut client, &json!({"cron": {"enabled": false}}));
    let told = client.call("config.get", &json!({}));
    assert_eq!(told["config"]["messages"]["by"], "hand");
    assert_eq!(client.call("cron.status", &json!({}))["enabled"], false);
}

#[test]
fn what_needs_a_restart_is_said_until_it_is_taken_back() {
    let gateway = start(&text());
    let mut client = gateway.owner(4);
    let told = patch(&mut client, &json!({"gateway": {"bind": "lan"}}));
    assert_eq!(told["restart"]["needed"], json!(["gateway.bind"]));
    let status = client.call("status", &json!({}));
    assert_eq!(
        status["config"],
        json!({"valid": true, "restart": ["gateway.bind"]})
    );
    let (mut reader, _) = gateway.welcome(&Connect::new(4).token(TOKEN).scopes(&["operator.read"]));
    assert_eq!(reader.call("status", &json!({}))["config"], Value::Null);
    patch(&mut client, &json!({"gateway": {"bind": null}}));
    assert_eq!(client.call("status", &json!({}))["config"], Value::Null);
}

#[test]
fn two_hundred_clients_and_the_runs_under_way_see_changes_pass() {
    clawgate_testkit::raise_descriptor_limit();
    let gateway = start(&text());
    let mut owner = gateway.owner(4);
    let script = "i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done";
    let job = owner.call(
        "cron.add",
        &json!({
            "name": "long", "schedule": {"kind": "every", "everyMs": 3_600_000},
            "sessionTarget": "isolated", "wakeMode": "now",
            "payload": {"kind": "command", "argv": ["/bin/sh", "-c", script]},
        }),
    );
    owner.call("cron.run", &json!({"id": job["id"], "mode": "force"}));
    let mut clients: Vec<Client> = (0..200).map(|n| gateway.owner(3 + n % 2)).collect();
    for n in 1..=8 {
        patch(
            &mut owner,
            &json!({
                "cron": {"maxConcurrentRuns": n, "webhookToken": format!("canary-{n}")},
                "gateway": {"auth": {"rateLimit": {"maxAttempts": 10 + n}}, "handshakeTimeoutMs": 15_000 + n},
                "agents": {"list": [{"id": "main", "name": format!("n{n}")}]},
            }),
        );
    }
    for client in &mut clients {
        client.call("health", &json!({}));
    }
    let told = owner.call("cron.get", &json!({"id": job["id"]}));
    assert!(told["state"]["runningAtMs"].is_i64(), "{told}");
    assert!(!gateway.stderr().contains("canary-"));
}

#[test]
fn e79_whoever_is_killed_while_it_writes_leaves_one_whole_text() {
    let mut gateway = start(&text());
    for round in 0..6_u64 {
        let mut client = gateway.owner(4);
        let mut number = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(20 + round * 7) {
            number += 1;
            patch(
                &mut client,
                &json!({"messages": {"n": number, "text": "x".repeat(20_000)}}),
            );
        }
        let hash = hash(&mut client);
        let raw = json!({"messages": {"n": 0, "text": "y".repeat(20_000)}}).to_string();
        client.send("config.patch", &json!({"raw": raw, "baseHash": hash}));
        gateway.kill();
        let now = file(&gateway);
        assert!(
            now.starts_with("// mine\n") && now.ends_with("}\n"),
            "{}",
            &now[now.len() - 40..]
        );
        gateway.restart();
    }
    let mut client = gateway.owner(4);
    patch(&mut client, &json!({"messages": null}));
    let dir = gateway.home().config().parent().unwrap().to_owned();
    let left: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".new"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn e67_of_two_that_saw_the_same_one_wins() {
    let gateway = start(&text());
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.owner(4)).collect();
    let hash = hash(&mut clients[0]);
    let ids: Vec<String> = clients
        .iter_mut()
        .enumerate()
        .map(|(n, client)| {
            let raw = json!({"messages": {"n": n}}).to_string();
            client.send("config.patch", &json!({"raw": raw, "baseHash": hash}))
        })
        .collect();
    let won = clients
        .iter_mut()
        .zip(ids)
        .filter_map(|(client, id)| match client.answer(&id) {
            Call::Ok(_) => Some(()),
            Call::Closed(close) => panic!("{close:?}"),
            Call::Error(error) => {
                assert!(error.message.starts_with("config changed since last load"));
                None
            }
        })
        .count();
    assert_eq!(won, 1);
}

#[test]
fn wire_3_allows_three_changes_in_a_minute_from_elsewhere() {
    let gateway = start(&text());
    let made = gateway.owner(4).call(
        "tokens.create",
        &json!({"name": "ci", "scopes": ["operator.admin"]}),
    );
    let connect = Connect::new(3)
        .token(made["token"].as_str().unwrap())
        .scopes(&["operator.admin"]);
    let (mut afar, _) = gateway.from_afar(&connect).unwrap();
    let params = json!({"raw": "{}", "baseHash": "bad"});
    for method in ["config.patch", "config.apply", "config.patch"] {
        assert_eq!(afar.refused(method, &params).code, "INVALID_REQUEST");
    }
    let error = afar.refused("config.apply", &params);
    assert_eq!(error.code, "UNAVAILABLE");
    assert_eq!(
        error.raw["details"],
        json!({"method": "config.apply", "limit": "3 per 60s"})
    );
    let mut here = gateway.owner(3);
    for _ in 0..5 {
        assert_eq!(
            here.refused("config.patch", &params).code,
            "INVALID_REQUEST"
        );
    }
}

#[test]
fn the_schema_says_what_a_form_needs_and_where_secrets_are() {
    let gateway = start(&text());
    let (mut reader, _) = gateway.welcome(&Connect::new(4).token(TOKEN).scopes(&["operator.read"]));
    let told = reader.call("config.schema", &json!({}));
    assert_eq!(
        told["schema"]["properties"]["gateway"]["properties"]["port"]["type"],
        "integer"
    );
    assert_eq!(told["uiHints"]["gateway.auth.token"]["sensitive"], true);
    assert!(told["generatedAt"].as_str().unwrap().ends_with('Z'));
    let found = reader.call("config.schema.lookup", &json!({"path": "gateway.auth"}));
    assert_eq!(
        found["schema"],
        json!({"type": "object", "additionalProperties": false})
    );
    let keys: Vec<&Value> = found["children"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| &child["key"])
        .collect();
    assert!(keys.contains(&&json!("token")), "{keys:?}");
    let error = reader.refused("config.schema.lookup", &json!({"path": "nope.nope"}));
    assert_eq!(error.message, "config schema path not found");
    let error = reader.refused("config.schema.lookup", &json!({"path": "bad path!"}));
    assert_eq!(
        error.message,
        r#"invalid config.schema.lookup params: at /path: must match pattern "^[A-Za-z0-9_./\[\]\-*]+$""#
    );
}
