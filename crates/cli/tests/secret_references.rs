//! Secrets that the configuration only refers to: found at start, kept when they cannot be found
//! anew, and never replaced by something weaker.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use clawgate_testkit::{Connect, TestGateway, home};
use serde_json::{Value, json};

fn private(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn config(dir: &Path) -> Value {
    json!({
        "gateway": {"auth": {"mode": "token", "token": {"source": "file", "provider": "vault", "id": "/gateway/token"}}},
        "cron": {"webhookToken": "${HOOK_SECRET}"},
        "channels": {"telegram": {"botToken": {"source": "exec", "provider": "tool", "id": "bot"}}},
        "secrets": {"providers": {
            "vault": {"source": "file", "path": dir.join("vault.json"), "mode": "json"},
            "tool": {"source": "exec", "command": dir.join("tool"), "timeoutMs": 10_000},
        }},
    })
}

fn start() -> (tempfile::TempDir, TestGateway) {
    let dir = tempfile::tempdir().unwrap();
    private(
        &dir.path().join("vault.json"),
        r#"{"gateway": {"token": "canary-gate-1"}}"#,
        0o600,
    );
    private(
        &dir.path().join("tool"),
        "#!/bin/sh\nprintf '{\"values\":{\"bot\":\"canary-bot-1\"}}'\n",
        0o700,
    );
    let home = home!(config(dir.path())).env("HOOK_SECRET", "canary-hook");
    (dir, home.start())
}

#[test]
fn e34_references_are_found_at_start_and_what_cannot_be_found_stops_it() {
    let (dir, gateway) = start();
    gateway.welcome(&Connect::new(4).token("canary-gate-1"));
    let mut broken = config(dir.path());
    for (place, value, words) in [
        (
            "/cron/webhookToken",
            json!("${NOT_SET_AT_ALL}"),
            "NOT_SET_AT_ALL",
        ),
        (
            "/gateway/auth/token/id",
            json!("/gateway/nothing"),
            "holds no text",
        ),
        (
            "/gateway/auth/token/provider",
            json!("nobody"),
            "not configured",
        ),
    ] {
        let before = broken.pointer(place).unwrap().clone();
        *broken.pointer_mut(place).unwrap() = value;
        // A token of the environment would be weaker than what was asked for.
        let home = home!(broken)
            .env("HOOK_SECRET", "canary-hook")
            .env("CLAWGATE_GATEWAY_TOKEN", "fallback");
        let ended = home.start_in_vain();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains(words), "{words} in {ended:?}");
        assert!(!ended.stderr.contains("canary"), "{ended:?}");
        *broken.pointer_mut(place).unwrap() = before;
    }
}

#[test]
fn e34_a_reload_takes_the_new_secret_or_keeps_the_last_good_one() {
    let (dir, gateway) = start();
    let vault = dir.path().join("vault.json");
    let key = gateway.home().local_key();
    let (mut owner, _) = gateway.welcome(&Connect::new(4).local_proof(&key));
    let (mut old, _) = gateway.welcome(&Connect::new(4).token("canary-gate-1"));
    private(&vault, "not json", 0o600);
    let error = owner.refused("secrets.reload", &json!({}));
    assert_eq!(error.code, "UNAVAILABLE");
    assert!(
        error.message.contains("gateway.auth.token"),
        "{}",
        error.message
    );
    old.call("health", &json!({}));
    gateway.welcome(&Connect::new(4).token("canary-gate-1"));

    private(&vault, r#"{"gateway": {"token": "canary-gate-2"}}"#, 0o600);
    assert_eq!(
        owner.call("secrets.reload", &json!({})),
        json!({"ok": true, "warningCount": 0})
    );
    assert_eq!(old.closed().code, 4001);
    gateway.refusal(&Connect::new(4).token("canary-gate-1"));
    gateway.welcome(&Connect::new(4).token("canary-gate-2"));
    let told = owner.call("config.get", &json!({})).to_string() + &gateway.stderr();
    assert!(!told.contains("canary"));
    assert!(gateway.home().state_files_with("canary-gate").is_empty());
}

#[test]
fn commands_on_this_machine_are_handed_what_the_references_mean() {
    let (dir, gateway) = start();
    let (mut owner, _) = gateway.welcome(&Connect::new(3).token("canary-gate-1"));
    let ask = |targets: Value| json!({"commandName": "channels", "targetIds": targets});
    let told = owner.call(
        "secrets.resolve",
        &ask(json!(["channels.telegram.botToken"])),
    );
    let expected = json!([{"path": "channels.telegram.botToken",
        "pathSegments": ["channels", "telegram", "botToken"], "value": "canary-bot-1"}]);
    assert_eq!(told["assignments"], expected);
    let told = owner.call("secrets.resolve", &ask(json!([])));
    let nothing = json!({"ok": true, "assignments": [], "diagnostics": [], "inactiveRefPaths": []});
    assert_eq!(told, nothing);
    for (params, words) in [
        (json!({}), "invalid secrets.resolve params: commandName"),
        (
            json!({"commandName": "x"}),
            "invalid secrets.resolve params: targetIds",
        ),
        (
            ask(json!(["nope"])),
            "invalid secrets.resolve params: unknown target id \"nope\"",
        ),
        (ask(json!([5])), "invalid secrets.resolve params: targetIds"),
    ] {
        assert_eq!(owner.refused("secrets.resolve", &params).message, words);
    }
    private(
        &dir.path().join("tool"),
        "#!/bin/sh\necho canary-noise; exit 1\n",
        0o700,
    );
    let told = owner.call(
        "secrets.resolve",
        &ask(json!(["channels.telegram.botToken"])),
    );
    assert_eq!(told["assignments"], json!([]));
    assert_eq!(
        told["inactiveRefPaths"],
        json!(["channels.telegram.botToken"])
    );
    assert!(!told.to_string().contains("canary"));

    let made = owner.call(
        "tokens.create",
        &json!({"name": "far", "scopes": ["operator.admin"]}),
    );
    let connect = Connect::new(4)
        .token(made["token"].as_str().unwrap())
        .scopes(&["operator.admin"]);
    let (mut afar, _) = gateway.from_afar(&connect).unwrap();
    let error = afar.refused(
        "secrets.resolve",
        &ask(json!(["channels.telegram.botToken"])),
    );
    assert_eq!(error.detail_code(), "SECRETS_LOCAL_ONLY");
}
