//! Canaries: secrets are put everywhere, and looked for everywhere else.

use clawgate_testkit::{Call, Connect, Device, TestGateway, gateway, home};
use serde_json::{Value, json};

/// A configuration in which every secret is a canary.
fn config(auth: &Value) -> Value {
    let mut config = json!({
        "gateway": {
            "remote": {"url": "ws://elsewhere", "token": canary("remote-token"),
                "password": canary("remote-password")},
            "auth": auth,
        },
        "env": {"OPENAI_API_KEY": canary("env-key"), "vars": {"MY_SECRET": canary("env-secret")}},
        "models": {"providers": {
            "acme": {"apiKey": canary("api-key"), "baseUrl": "https://api.example",
                "headers": {"Authorization": canary("authorization-header"),
                    "x-api-key": canary("x-api-key-header")},
                "models": [{"id": "m"}]},
        }},
        "channels": {
            "telegram": {"botToken": canary("bot-token"), "webhookSecret": canary("webhook")},
            "slack": {"accounts": [{"appToken": canary("app-token"),
                "signingSecret": canary("signing")}]},
        },
        "hooks": {"enabled": true, "token": canary("hooks-token")},
        "tools": {"web": {"search": {"apiKey": canary("search-key"), "api_key": canary("snake")}}},
        "secrets": {"providers": {"vault": {"passphrase": canary("passphrase"),
            "privateKey": canary("private-key"), "credentials": canary("credentials"),
            "accessKeyId": "public", "secretAccessKey": canary("secret-access-key")}}},
        "talk": {"apiKey": {"source": canary("nested-under-a-secret")},
            "apiKeys": [canary("key-in-a-list")]},
        "skills": {"entries": {"weather": {"env": {"PLAIN_NAME": canary("skill-env")}}}},
        "mcp": {"servers": {"files": {"command": "serve", "args": ["--api-key", canary("argument")],
            "env": {"REGION": canary("server-env")},
            "url": format!("https://mcp.example/in?token={}&api_key={}", canary("query"), canary("query-two"))}}},
        "auth": {"profiles": {"acme:me": {"provider": "acme", "key": canary("profile-key"),
            "access": canary("profile-access"), "refresh": canary("profile-refresh")}}},
        "plugins": {"entries": {"x": {"pass": canary("pass"), "pwd": canary("pwd"), "PIN": canary("pin"),
            "pat": canary("pat"), "nsec": canary("nsec"), "auth": canary("auth"),
            "sessionKey": canary("session-key")}}},
    });
    config["gateway"]["auth"]["rateLimit"] = json!({"maxAttempts": 1_000});
    config
}

fn canary(name: &str) -> String {
    format!("canary-{name}-51f0")
}

/// The names of the canaries that a text holds.
fn birds(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .match_indices("canary-")
        .map(|(at, _)| {
            text[at..]
                .chars()
                .take_while(|c| *c != '"' && *c != '\\')
                .collect()
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn look_around(gateway: &mut TestGateway, good: &Connect, bad: &Connect, protocol: u32) {
    let (mut client, hello) = gateway.welcome(good);
    assert_eq!(
        birds(&hello.raw.to_string()),
        Vec::<String>::new(),
        "the hello"
    );
    for method in hello.methods() {
        if method.starts_with("cron.") && method != "cron.list" {
            continue;
        }
        let said = match client.try_call(&method, &json!({})) {
            Call::Ok(payload) => payload.to_string(),
            Call::Error(error) => error.raw.to_string(),
            Call::Closed(close) => panic!("{method}: {close:?}"),
        };
        assert_eq!(
            birds(&said),
            Vec::<String>::new(),
            "wire {protocol}: {method}"
        );
    }
    client.call("health", &json!({"probe": true}));
    client.call("system-event", &json!({"text": "Node: x"}));
    for event in client.events_until_now() {
        assert_eq!(birds(&event.to_string()), Vec::<String>::new(), "{event}");
    }
    let refusal = gateway.refusal(bad);
    assert_eq!(birds(&format!("{refusal:?}")), Vec::<String>::new());
}

fn no_bird_got_out(mut gateway: TestGateway) {
    gateway.terminate();
    let ended = gateway.ended();
    assert_eq!(birds(&ended.stderr), Vec::<String>::new(), "standard error");
    let found = gateway.home().state_files_with("canary-");
    assert_eq!(
        found,
        Vec::<std::path::PathBuf>::new(),
        "the state directory"
    );
}

#[test]
fn e65_no_secret_of_a_token_gateway_gets_out() {
    let secret = canary("gateway-token");
    let mut gateway = gateway!(config(&json!({"mode": "token", "token": secret})));
    for protocol in [3, 4] {
        let good = Connect::new(protocol).token(&secret).device(&Device::new());
        let bad = Connect::new(protocol).token(&canary("wrong-guess"));
        look_around(&mut gateway, &good, &bad, protocol);
    }
    no_bird_got_out(gateway);
}

#[test]
fn e65_no_secret_of_a_password_gateway_gets_out() {
    let secret = canary("gateway-password");
    let mut gateway = gateway!(config(&json!({"mode": "password", "password": secret})));
    for protocol in [3, 4] {
        let good = Connect::new(protocol)
            .auth("password", &secret)
            .device(&Device::new());
        let bad = Connect::new(protocol).auth("password", &canary("wrong-guess"));
        look_around(&mut gateway, &good, &bad, protocol);
    }
    no_bird_got_out(gateway);
}

#[test]
fn e65_comments_and_repeated_keys_are_not_read_out() {
    let secret = canary("gateway-token");
    let home = home!();
    home.write_config(&format!(
        "{{\n  // token: '{}'\n  gateway: {{ auth: {{ token: '{secret}' }} }},\n  \
         /* the one before: {} */\n  hooks: {{ token: '{}', token: '' }},\n  \
         logging: {{ pin: 51007755 }},\n}}\n",
        canary("commented-token"),
        canary("in-prose"),
        canary("repeated"),
    ));
    let gateway = home.start();
    let (mut client, _) =
        gateway.welcome(&Connect::new(4).token(&secret).scopes(&["operator.read"]));
    let told = client.call("config.get", &json!({}));
    assert_eq!(birds(&told.to_string()), Vec::<String>::new());
    assert!(!told.to_string().contains("51007755"), "{told}");
    let raw: Value = serde_json::from_str(told["raw"].as_str().unwrap()).unwrap();
    assert_eq!(raw, told["parsed"], "the text says what was read");
}

#[test]
fn what_is_no_secret_is_shown() {
    let secret = canary("gateway-token");
    let gateway = gateway!(config(&json!({"mode": "token", "token": secret})));
    let (mut client, _) =
        gateway.welcome(&Connect::new(4).token(&secret).scopes(&["operator.read"]));
    let told = client.call("config.get", &json!({}));
    assert_eq!(
        told["config"]["models"]["providers"]["acme"]["baseUrl"],
        "https://api.example"
    );
    assert_eq!(told["config"]["gateway"]["auth"]["mode"], "token");
    assert_ne!(
        told["config"]["gateway"]["auth"]["token"],
        json!(null),
        "that there is one is no secret"
    );
}

#[test]
fn a_refused_call_is_logged_without_its_params() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let hidden = canary("in-params");
    owner.refused("device.pair.approve", &json!({"requestId": hidden}));
    owner.refused("no.such.method", &json!({"token": hidden}));
    owner.refused(
        "tokens.create",
        &json!({"name": hidden, "scopes": [hidden]}),
    );
    gateway.says("no.such.method");
    let said = gateway.stderr();
    let line = said
        .lines()
        .find(|line| line.contains("no.such.method"))
        .unwrap();
    for field in ["method=", "code=", "reason=", "conn=", "id="] {
        assert!(line.contains(field), "{field} is missing: {line}");
    }
    assert!(!line.contains(&hidden), "{line}");
}

#[test]
fn e74_a_log_line_cannot_be_forged_through_what_a_client_says() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.refused(
        "no\n2026-01-01T00:00:00Z  INFO forged \u{1b}[31mline",
        &json!({}),
    );
    gateway.says("forged");
    for line in gateway.stderr().lines() {
        assert!(!line.starts_with("2026-01-01T00:00:00Z"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

/// Runs a command where a crash would leave a core dump, ends it by SIGABRT, and gives the files left there.
#[cfg(target_os = "linux")]
fn left_by_a_crash(command: &str, is_ready: impl Fn(&str) -> bool) -> Vec<String> {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };
    let place = tempfile::tempdir().expect("a directory");
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -c unlimited; exec {command}")])
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh is there");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(
        lines.any(|line| is_ready(&line.expect("text"))),
        "it does not come up"
    );
    let kill = format!("kill -ABRT {}", child.id());
    let killed = Command::new("sh").args(["-c", &kill]).status();
    assert!(killed.expect("sh is there").success(), "{kill}");
    let ended = child.wait().expect("it ends");
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&ended),
        Some(6),
        "{ended}"
    );
    std::fs::read_dir(place.path())
        .expect("the directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn e65_a_crash_leaves_no_core_dump() {
    // Where the system gives dumps to a program of its own, nothing is to be seen either way.
    let other = left_by_a_crash("sh -c 'echo here >&2; exec sleep 600'", |line| {
        line == "here"
    });
    let home = home!(config(
        &json!({"mode": "token", "token": canary("gateway-token")})
    ));
    let gateway = format!(
        "{} gateway run --port 0 --state-dir {} --config {}",
        env!("CARGO_BIN_EXE_clawgate"),
        home.state().display(),
        home.config().display()
    );
    let ours = left_by_a_crash(&gateway, |line| line.contains("listening"));
    assert_eq!(
        ours,
        Vec::<String>::new(),
        "another program leaves {other:?}"
    );
}
