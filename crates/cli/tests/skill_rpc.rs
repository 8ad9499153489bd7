//! Skills over the wire, and the models and tools beside them.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{fs, path::Path};

use clawgate_testkit::{Connect, Device, TOKEN, TestGateway, gateway, home, token_config};
use serde_json::json;

const DIALECTS: [u32; 2] = [3, 4];

/// A gateway that finds the programs of this machine.
fn with_programs() -> TestGateway {
    home!(token_config()).env("PATH", "/usr/bin:/bin").start()
}

fn put(directory: &Path, text: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("SKILL.md"), text).unwrap();
}

const WEATHER: &str = "---\nname: weather\ndescription: \"Forecasts: here and there.\"\nhomepage: https://example.com/\nmetadata: { \"openclaw\": { \"emoji\": \"☔\", \"primaryEnv\": \"WEATHER_KEY\", \"requires\": { \"bins\": [\"sh\", \"no-such-program\"], \"env\": [\"WEATHER_KEY\"] }, \"install\": [{ \"id\": \"brew\", \"kind\": \"brew\", \"formula\": \"w\", \"bins\": [\"no-such-program\"] }] } }\n---\n# Weather\n";

#[test]
fn skills_are_found_judged_and_shown_in_the_originals_shape() {
    for protocol in DIALECTS {
        let gateway = with_programs();
        let state = gateway.home().state();
        let base = state.join("skills/weather");
        put(&base, WEATHER);
        let mut owner = gateway.owner(protocol);
        let report = owner.call("skills.status", &json!({}));
        assert_eq!(
            report["workspaceDir"],
            state.join("workspace").to_str().unwrap()
        );
        assert_eq!(
            report["managedSkillsDir"],
            state.join("skills").to_str().unwrap()
        );
        let none = json!([]);
        let want = json!([{
            "name": "weather", "description": "Forecasts: here and there.",
            "source": "openclaw-managed", "bundled": false,
            "filePath": base.join("SKILL.md"), "baseDir": base, "skillKey": "weather",
            "primaryEnv": "WEATHER_KEY", "emoji": "☔", "homepage": "https://example.com/",
            "always": false, "disabled": false, "blockedByAllowlist": false, "eligible": false,
            "requirements": {"bins": ["sh", "no-such-program"], "anyBins": none, "env": ["WEATHER_KEY"], "config": none, "os": none},
            "missing": {"bins": ["no-such-program"], "anyBins": none, "env": ["WEATHER_KEY"], "config": none, "os": none},
            "configChecks": none,
            "install": [{"id": "brew", "kind": "brew", "label": "Install w (brew)", "bins": ["no-such-program"]}],
        }]);
        assert_eq!(report["skills"], want);
        let error = owner.refused("skills.status", &json!({"agentId": "nobody"}));
        assert_eq!(error.message, "unknown agent id \"nobody\"");
    }
}

#[test]
fn a_key_of_a_skill_is_kept_used_and_never_shown() {
    for protocol in DIALECTS {
        let gateway = gateway!();
        put(
            &gateway.home().state().join("workspace/skills/weather"),
            WEATHER,
        );
        let mut owner = gateway.owner(protocol);
        let params = json!({"skillKey": "weather", "enabled": false, "apiKey": "canary-key",
            "env": {"A": "canary-env", "B": "  "}});
        let answer = owner.call("skills.update", &params);
        assert_eq!(
            (&answer["ok"], &answer["skillKey"]),
            (&json!(true), &json!("weather"))
        );
        assert_eq!(answer["config"]["enabled"], false);
        assert!(answer["config"]["apiKey"].is_string());
        assert!(!answer.to_string().contains("canary"), "{answer}");
        let skill = &owner.call("skills.status", &json!({}))["skills"][0];
        assert_eq!(
            (&skill["disabled"], &skill["missing"]["env"]),
            (&json!(true), &json!([]))
        );
        let text = fs::read_to_string(gateway.home().config()).unwrap();
        assert!(text.contains("canary-key") && text.contains("canary-env"));
        assert!(
            !owner
                .call("config.get", &json!({}))
                .to_string()
                .contains("canary")
        );
        // An empty key removes it.
        owner.call(
            "skills.update",
            &json!({"skillKey": "weather", "enabled": true, "apiKey": ""}),
        );
        let skill = &owner.call("skills.status", &json!({}))["skills"][0];
        assert_eq!(
            (&skill["disabled"], &skill["missing"]["env"]),
            (&json!(false), &json!(["WEATHER_KEY"]))
        );
        let before = fs::read_to_string(gateway.home().config()).unwrap();
        for params in [
            json!({"skillKey": "x", "env": {"A": 5}}),
            json!({"skillKey": "x", "env": []}),
            json!({"skillKey": "x", "apiKey": {"a": 1}}),
            json!({"skillKey": "__proto__"}),
            json!({"skillKey": "x", "apiKey": "k".repeat(10_000)}),
        ] {
            assert_eq!(
                owner.refused("skills.update", &params).code,
                "INVALID_REQUEST",
                "{params}"
            );
        }
        assert_eq!(fs::read_to_string(gateway.home().config()).unwrap(), before);
    }
}

#[test]
fn nothing_is_installed_and_the_refusal_says_what_to_do() {
    let gateway = with_programs();
    put(&gateway.home().state().join("skills/weather"), WEATHER);
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        for (name, id, message) in [
            ("nope", "brew", "Skill not found: nope"),
            ("weather", "nope", "Installer not found: nope"),
            (
                "weather",
                "brew",
                "nothing is installed by this gateway; install no-such-program on this machine yourself",
            ),
        ] {
            let error = owner.refused("skills.install", &json!({"name": name, "installId": id}));
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                ("UNAVAILABLE", message)
            );
            assert_eq!(error.detail_code(), "SKILL_INSTALL_UNAVAILABLE");
        }
    }
    let error = gateway
        .owner(3)
        .refused("skills.install", &json!({"name": "x"}));
    assert_eq!(
        error.message,
        "invalid skills.install params: must have required property 'installId'"
    );
}

#[test]
fn a_node_learns_which_programs_are_wanted_and_an_operator_does_not_ask() {
    let gateway = gateway!();
    put(&gateway.home().state().join("skills/weather"), WEATHER);
    for protocol in DIALECTS {
        let node = Connect::new(protocol)
            .token(TOKEN)
            .client("node-host", "node")
            .role("node")
            .scopes(&[])
            .device(&Device::new());
        let mut node = gateway.welcome(&node).0;
        assert_eq!(
            node.call("skills.bins", &json!({})),
            json!({"bins": ["no-such-program", "sh"]})
        );
        let error = gateway.owner(protocol).refused("skills.bins", &json!({}));
        assert_eq!(error.message, "unauthorized role: operator");
    }
}

#[test]
fn models_are_those_of_the_configuration_and_their_keys_stay_there() {
    let config = json!({
        "gateway": {"auth": {"mode": "token", "token": TOKEN}},
        "models": {"providers": {"mock": {"baseUrl": "http://127.0.0.1:1/v1", "apiKey": "canary-key",
            "models": [{"id": "mock-1", "name": "Mock One", "reasoning": false, "input": ["text"], "contextWindow": 32_000}]}}},
        "agents": {"defaults": {"model": {"primary": "fast"}, "models": {"mock/mock-1": {"alias": "fast"}, "x/y": {}}}},
    });
    let gateway = gateway!(config);
    for protocol in DIALECTS {
        let answer = gateway.owner(protocol).call("models.list", &json!({}));
        let mut mock = json!({"id": "mock-1", "name": "Mock One", "provider": "mock",
            "contextWindow": 32_000, "reasoning": false, "input": ["text"]});
        if protocol == 4 {
            mock["alias"] = "fast".into();
            mock["available"] = true.into();
        }
        let want = json!({"models": [mock, {"id": "y", "name": "y", "provider": "x"}]});
        assert_eq!(answer, want);
        let tools = gateway
            .owner(protocol)
            .call("tools.catalog", &json!({"includePlugins": true}));
        assert_eq!(tools["agentId"], "main");
        let read = json!({"id": "read", "label": "read", "description": "Read a file",
            "source": "core", "defaultProfiles": ["coding"]});
        assert_eq!(
            (&tools["groups"][0]["id"], &tools["groups"][0]["tools"][0]),
            (&json!("fs"), &read)
        );
        // Nothing is shown that is not configured.
        assert!(!tools["groups"].to_string().contains("web_search"));
        assert_eq!(tools["profiles"][3], json!({"id": "full", "label": "Full"}));
    }
}
