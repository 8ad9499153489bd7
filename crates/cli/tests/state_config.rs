//! The configuration file: read at the start, checked by name and kind, and not written by that.

use std::{fs, os::unix::fs::MetadataExt as _};

use clawgate_testkit::{Connect, Home, TOKEN, gateway, home, token_config};
use serde_json::{Value, json};

#[test]
fn e75_unknown_keys_warn_by_their_path_and_do_not_stop_the_start() {
    let mut config = token_config();
    config["gatway"] = json!({});
    config["gateway"]["prot"] = json!(1);
    config["gateway"]["auth"]["tokn"] = json!("x");
    let gateway = gateway!(config);
    for path in ["path=gatway", "path=gateway.prot", "path=gateway.auth.tokn"] {
        gateway.says(path);
    }
    let told = gateway.owner(4).call("config.get", &json!({}));
    let warned: Vec<&Value> = told["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| &warning["path"])
        .collect();
    assert_eq!(warned, ["gatway", "gateway.prot", "gateway.auth.tokn"]);
}

#[test]
fn e75_a_wrong_kind_stops_the_start_with_78_the_path_and_what_was_expected() {
    let cases = [
        (json!({"gateway": 5}), "gateway", "an object"),
        (json!({"gateway": []}), "gateway", "an object"),
        (
            json!({"gateway": {"auth": "token"}}),
            "gateway.auth",
            "an object",
        ),
        (
            json!({"gateway": {"auth": {"token": 5}}}),
            "gateway.auth.token",
            "a string",
        ),
        (
            json!({"gateway": {"auth": {"token": ["x"]}}}),
            "gateway.auth.token",
            "a string",
        ),
        (
            json!({"gateway": {"auth": {"password": true}}}),
            "gateway.auth.password",
            "a string",
        ),
        (
            json!({"gateway": {"auth": {"mode": 1}}}),
            "gateway.auth.mode",
            "a string",
        ),
        (
            json!({"gateway": {"auth": {"mode": "maybe"}}}),
            "gateway.auth.mode",
            "token",
        ),
        (
            json!({"gateway": {"auth": {"mode": "password"}}}),
            "gateway.auth.password",
            "a password",
        ),
        (
            json!({"gateway": {"auth": {"token": "a", "password": "b"}}}),
            "gateway.auth.mode",
            "password",
        ),
        (
            json!({"gateway": {"auth": {"mode": "trusted-proxy"}}}),
            "gateway.",
            "expected",
        ),
        (
            json!({"gateway": {"auth": {"rateLimit": {"maxAttempts": "ten"}}}}),
            "gateway.auth.rateLimit.maxAttempts",
            "a whole number",
        ),
        (
            json!({"gateway": {"port": "18789"}}),
            "gateway.port",
            "a whole number",
        ),
        (
            json!({"gateway": {"port": 70_000}}),
            "gateway.port",
            "65535",
        ),
        (
            json!({"gateway": {"port": -1}}),
            "gateway.port",
            "a whole number",
        ),
        (
            json!({"gateway": {"port": 1.5}}),
            "gateway.port",
            "a whole number",
        ),
        (
            json!({"gateway": {"bind": "everywhere"}}),
            "gateway.bind",
            "loopback",
        ),
        (
            json!({"gateway": {"bind": true}}),
            "gateway.bind",
            "a string",
        ),
        (
            json!({"gateway": {"trustedProxies": "127.0.0.1"}}),
            "gateway.trustedProxies",
            "a list",
        ),
        (
            json!({"gateway": {"trustedProxies": ["proxy"]}}),
            "gateway.trustedProxies",
            "addresses",
        ),
        (
            json!({"gateway": {"trustedProxies": [1]}}),
            "gateway.trustedProxies",
            "a string",
        ),
        (
            json!({"gateway": {"controlUi": {"allowedOrigins": "*"}}}),
            "gateway.controlUi.allowedOrigins",
            "a list",
        ),
        (
            json!({"gateway": {"controlUi":
                {"dangerouslyAllowHostHeaderOriginFallback": "yes"}}}),
            "gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback",
            "true or false",
        ),
        (
            json!({"gateway": {"allowRealIpFallback": 1}}),
            "gateway.allowRealIpFallback",
            "true or",
        ),
        (
            json!({"gateway": {"proxy": {"unattributed": "x"}}}),
            "gateway.proxy.unattributed",
            "refuse",
        ),
        (
            json!({"gateway": {"bind": "lan", "auth": {"mode": "none"}}}),
            "gateway.auth.mode",
            "loopback",
        ),
        (
            json!({"gateway": {"auth": {"token": "cgt_looks-like-an-api-token"}}}),
            "gateway.auth.token",
            "cgt_",
        ),
        (
            json!({"gateway": {"tls": {"enabled": true}}}),
            "gateway.tls.enabled",
            "not served",
        ),
        (json!({"gateway": {"http": 5}}), "gateway.http", "an object"),
        (json!([]), "", "an object"),
    ];
    for (config, path, expectation) in cases {
        let home = home!(config);
        let ended = home.start_in_vain();
        assert_eq!(ended.code, Some(78), "{config}: {ended:?}");
        assert!(ended.stderr.contains(path), "{config}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(expectation),
            "{config}: {}",
            ended.stderr
        );
        let file = home.config().display().to_string();
        assert!(ended.stderr.contains(&file), "{config}: {}", ended.stderr);
    }
}

#[test]
fn every_problem_is_named_at_once() {
    let home = home!(json!({"gateway": {"port": "x", "bind": 5, "trustedProxies": 7}}));
    let ended = home.start_in_vain();
    for path in ["gateway.port", "gateway.bind", "gateway.trustedProxies"] {
        assert!(ended.stderr.contains(path), "{path}: {}", ended.stderr);
    }
}

#[test]
fn a_secret_of_the_wrong_kind_is_not_printed() {
    let home = home!(json!({"gateway": {"auth": {"token": ["canary-7721"]}}}));
    let ended = home.start_in_vain();
    assert!(!ended.stderr.contains("canary-7721"), "{}", ended.stderr);
}

#[test]
fn e33_words_that_scripts_put_in_place_of_a_secret_are_no_secret() {
    for word in ["undefined", "null", "${CLAWGATE_NO_SUCH_VARIABLE}"] {
        for (mode, key) in [("token", "token"), ("password", "password")] {
            let home = home!(json!({"gateway": {"auth": {"mode": mode, key: word}}}));
            let ended = home.start_in_vain();
            assert_eq!(ended.code, Some(78), "{word}: {ended:?}");
            assert!(
                ended.stderr.contains(&format!("gateway.auth.{key}")),
                "{word}: {ended:?}"
            );
        }
    }
}

#[test]
fn e33_what_a_sample_has_in_place_of_a_secret_is_none_wherever_it_comes_from() {
    let words = [
        "change-me",
        "CHANGEME",
        "<your-token>",
        "your_token_here",
        "undefined",
        "null",
    ];
    for word in words {
        for mode in ["token", "password"] {
            let path = format!("gateway.auth.{mode}");
            let refused = |home: Home, whence: &str| {
                let ended = home.start_in_vain();
                assert_eq!(ended.code, Some(78), "{word} {whence}: {ended:?}");
                assert!(ended.stderr.contains(&path), "{word} {whence}: {ended:?}");
            };
            refused(
                home!(json!({"gateway": {"auth": {"mode": mode, mode: word}}})),
                "written",
            );
            let empty = || home!(json!({"gateway": {"auth": {"mode": mode}}}));
            refused(empty().arg(&format!("--{mode}")).arg(word), "given");
            let name = format!("CLAWGATE_GATEWAY_{}", mode.to_uppercase());
            refused(empty().env(&name, word), "in the environment");
        }
    }
}

#[test]
fn e33_where_the_token_is_empty_the_one_that_is_made_opens_and_nobody_guesses_it() {
    let gateway = gateway!(json!({"gateway": {"auth": {"mode": "token", "token": ""}}}));
    let made: Vec<String> = fs::read_dir(gateway.home().state())
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| {
            gateway
                .client()
                .connect(&Connect::new(4).token(text))
                .is_ok()
        })
        .collect();
    let [token] = made.as_slice() else {
        panic!("one file has it: {made:?}");
    };
    // 128 bits and more, however they are written.
    assert!(token.len() >= 32, "{} letters", token.len());
    let other = gateway!(json!({"gateway": {"auth": {"mode": "token", "token": ""}}}));
    other.refusal(&Connect::new(4).token(token));
}

#[test]
fn e33_an_empty_secret_is_none() {
    for blank in ["", "   "] {
        let gateway = gateway!(json!({"gateway": {"auth": {"mode": "token", "token": blank}}}));
        for protocol in [3, 4] {
            gateway.refusal(&Connect::new(protocol).token(blank));
            gateway.refusal(&Connect::new(protocol));
        }
        let home = home!(json!({"gateway": {"auth": {"mode": "password", "password": blank}}}));
        assert_eq!(home.start_in_vain().code, Some(78));
    }
}

#[test]
fn e75_text_that_is_no_configuration_stops_the_start_and_stays_as_it_is() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for text in [
        "{",
        "not json",
        "{\"gateway\": {}",
        &deep,
        "{\"a\":1}}",
        "5",
        "\u{0}",
    ] {
        let home = home!();
        home.write_config(text);
        let ended = home.start_in_vain();
        let shown: String = text.chars().take(20).collect();
        assert_eq!(ended.code, Some(78), "{shown}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{shown}: {ended:?}");
        assert_eq!(fs::read_to_string(home.config()).unwrap(), text);
    }
}

#[test]
fn e75_a_file_that_is_not_text_stops_the_start() {
    let home = home!();
    fs::write(home.config(), [0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00]).unwrap();
    assert_eq!(home.start_in_vain().code, Some(78));
}

#[test]
fn comments_and_loose_json_are_welcome() {
    let home = home!();
    home.write_config(&format!(
        "// mine\n{{\n  gateway: {{ /* here */ auth: {{ mode: 'token', token: '{TOKEN}', }}, }},\n}}\n"
    ));
    let gateway = home.start();
    gateway.owner(3).call("health", &json!({}));
}

#[test]
fn no_file_and_an_empty_object_are_an_empty_configuration() {
    let gateway = home!().start();
    assert!(gateway.home().state().join("gateway-token").exists());
    let home = home!();
    home.write_config("{}");
    let gateway = home.start();
    assert!(gateway.home().state().join("gateway-token").exists());
}

#[test]
fn e75_a_start_never_writes_the_file() {
    let text = format!("{{ // mine\n gateway: {{auth: {{token: '{TOKEN}'}}, prot: 5}} }}\n");
    let home = home!();
    home.write_config(&text);
    let before = fs::metadata(home.config()).unwrap();
    let mut gateway = home.start();
    gateway
        .owner(4)
        .call("set-heartbeats", &json!({"enabled": true}));
    gateway.owner(4).call("config.get", &json!({}));
    gateway.terminate();
    gateway.ended();
    let after = fs::metadata(gateway.home().config()).unwrap();
    assert_eq!(fs::read_to_string(gateway.home().config()).unwrap(), text);
    assert_eq!(
        (before.mtime_nsec(), before.ino()),
        (after.mtime_nsec(), after.ino())
    );

    let mut gateway = home!().start();
    gateway.terminate();
    gateway.ended();
    assert!(!gateway.home().config().exists(), "and makes none");
}

#[test]
fn the_shape_of_the_originals_own_file_is_taken() {
    let config = json!({
        "meta": {"lastTouchedVersion": "2026.3.13"},
        "gateway": {
            "mode": "local", "port": 18789, "bind": "loopback",
            "auth": {"mode": "token", "token": TOKEN, "allowTailscale": false},
            "trustedProxies": [], "controlUi": {"enabled": false},
            "tailscale": {"mode": "off"}, "reload": {"mode": "off"},
        },
        "agents": {"defaults": {"workspace": "/tmp/x", "model": {"primary": "a/b"}}},
        "channels": {}, "cron": {"enabled": true},
    });
    let gateway = gateway!(config);
    let told = gateway.owner(3).call("config.get", &json!({}));
    assert_eq!(told["warnings"], json!([]), "{told}");
}

#[test]
fn the_environment_gives_a_secret_where_the_file_names_none() {
    let auth = |auth: Value| json!({"gateway": {"auth": auth}});
    let env = "from-the-environment";
    let token = home!(auth(json!({"mode": "token"})))
        .env("CLAWGATE_GATEWAY_TOKEN", env)
        .start();
    token.welcome(&Connect::new(4).token(env));
    let file = home!(token_config())
        .env("CLAWGATE_GATEWAY_TOKEN", env)
        .start();
    file.refusal(&Connect::new(4).token(env));
    file.welcome(&Connect::new(4).token(TOKEN));
    let password = home!(auth(json!({"mode": "password"})))
        .env("CLAWGATE_GATEWAY_PASSWORD", env)
        .start();
    password.welcome(&Connect::new(4).auth("password", env));
    let named = home!(auth(json!({"mode": "token", "token": "${MY_SECRET}"})))
        .env("MY_SECRET", env)
        .start();
    named.welcome(&Connect::new(4).token(env));
}
