//! Services that are not here, talk mode, the wizard and updates over the wire.

use std::fs;

use clawgate_testkit::{Client, Connect, TOKEN, gateway};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];

#[test]
fn what_has_no_service_is_refused_as_the_original_refuses_it() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        for (method, params, code, message) in [
            (
                "channels.logout",
                json!({"channel": "whatsapp"}),
                "INVALID_REQUEST",
                "invalid channels.logout channel",
            ),
            (
                "web.login.start",
                json!({}),
                "INVALID_REQUEST",
                "web login provider is not available",
            ),
            (
                "web.login.wait",
                json!({}),
                "INVALID_REQUEST",
                "web login provider is not available",
            ),
            (
                "send",
                json!({"to": "+1", "message": "hi", "idempotencyKey": "1"}),
                "INVALID_REQUEST",
                "Error: Channel is required (no configured channels detected).",
            ),
            (
                "send",
                json!({"to": "x", "idempotencyKey": "1"}),
                "INVALID_REQUEST",
                "invalid send params: text or media is required",
            ),
            (
                "send",
                json!({"to": "x", "message": "m", "channel": "zz", "idempotencyKey": "1"}),
                "INVALID_REQUEST",
                "unsupported channel: zz",
            ),
            (
                "send",
                json!({"to": "x", "message": "m", "channel": "webchat", "idempotencyKey": "1"}),
                "INVALID_REQUEST",
                "unsupported channel: webchat (internal-only). Use `chat.send` for WebChat UI messages or choose a deliverable channel.",
            ),
            (
                "poll",
                json!({"to": "+1", "question": "q?", "options": ["a", "b"], "idempotencyKey": "1"}),
                "INVALID_REQUEST",
                "Error: Channel is required (no configured channels detected).",
            ),
            (
                "push.test",
                json!({"nodeId": "nope"}),
                "INVALID_REQUEST",
                "node nope has no APNs registration (connect iOS node first)",
            ),
            (
                "browser.request",
                json!({}),
                "INVALID_REQUEST",
                "method and path are required",
            ),
            (
                "browser.request",
                json!({"method": "PUT", "path": "/x"}),
                "INVALID_REQUEST",
                "method must be GET, POST, or DELETE",
            ),
            (
                "browser.request",
                json!({"method": "POST", "path": "/profiles/create"}),
                "INVALID_REQUEST",
                "browser.request cannot create or delete persistent browser profiles",
            ),
            (
                "browser.request",
                json!({"method": "GET", "path": "/"}),
                "UNAVAILABLE",
                "browser control is disabled",
            ),
            (
                "tts.convert",
                json!({}),
                "INVALID_REQUEST",
                "tts.convert requires text",
            ),
            (
                "tts.setProvider",
                json!({"provider": "bad"}),
                "INVALID_REQUEST",
                "Invalid provider. Use openai, elevenlabs, or edge.",
            ),
        ] {
            let error = owner.refused(method, &params);
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                (code, message),
                "{method} {params}"
            );
        }
        for (method, params) in [
            ("tts.enable", json!({})),
            ("tts.convert", json!({"text": "hi"})),
            ("tts.setProvider", json!({"provider": "edge"})),
        ] {
            let error = owner.refused(method, &params);
            assert_eq!(
                (error.code.as_str(), error.detail_code()),
                ("UNAVAILABLE", "TTS_UNAVAILABLE")
            );
        }
    }
}

#[test]
fn questions_about_what_is_not_here_are_answered_truthfully() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        let mut channels = owner.call(
            "channels.status",
            &json!({"probe": true, "timeoutMs": 1000}),
        );
        assert!(channels["ts"].is_i64());
        channels["ts"] = 0.into();
        let want = json!({"ts": 0, "channelOrder": [], "channelLabels": {}, "channelDetailLabels": {},
            "channelSystemImages": {}, "channelMeta": [], "channels": {}, "channelAccounts": {},
            "channelDefaultAccountId": {}});
        assert_eq!(channels, want);
        let tts = owner.call("tts.status", &json!({}));
        assert_eq!(
            (&tts["enabled"], &tts["auto"], &tts["edgeEnabled"]),
            (&json!(false), &json!("off"), &json!(false))
        );
        assert_eq!(
            owner.call("tts.providers", &json!({})),
            json!({"providers": [], "active": ""})
        );
        assert_eq!(
            owner.call("tts.disable", &json!({})),
            json!({"enabled": false})
        );
        let memory = owner.call("doctor.memory.status", &json!({}));
        assert_eq!(
            (&memory["provider"], &memory["embedding"]["ok"]),
            (&json!("none"), &json!(false))
        );
        let update = owner.call("update.run", &json!({"note": "now"}));
        assert_eq!(
            (&update["result"]["status"], &update["restart"]),
            (&json!("skipped"), &Value::Null)
        );
        assert_eq!(update["sentinel"]["path"], Value::Null);
        let error = owner.refused("update.run", &json!({"restartDelayMs": -1}));
        assert_eq!(
            error.message,
            "invalid update.run params: at /restartDelayMs: must be >= 0"
        );
    }
}

#[test]
fn talk_mode_is_told_to_those_who_may_talk() {
    let gateway = gateway!();
    let may = Connect::new(4).token(TOKEN).scopes(&["operator.talk"]);
    let mut listening = gateway.welcome(&may).0;
    let mut others: Vec<Client> = [
        Connect::new(4).scopes(&["operator.read"]),
        Connect::new(3).scopes(&[]),
    ]
    .into_iter()
    .map(|connect| gateway.welcome(&connect.token(TOKEN)).0)
    .collect();
    let mut owner = gateway.owner(3);
    let answer = owner.call("talk.mode", &json!({"enabled": true, "phase": "listening"}));
    assert_eq!(
        (&answer["enabled"], &answer["phase"]),
        (&json!(true), &json!("listening"))
    );
    assert_eq!(listening.event("talk.mode")["payload"], answer);
    for other in &mut others {
        let names = other.event_names_until_now();
        assert!(!names.contains(&"talk.mode".to_owned()), "{names:?}");
    }
    let error = owner.refused("talk.mode", &json!({}));
    assert_eq!(
        error.message,
        "invalid talk.mode params: must have required property 'enabled'"
    );
}

#[test]
fn secrets_of_talk_are_for_those_who_hold_their_scope() {
    let config = json!({
        "gateway": {"auth": {"mode": "token", "token": TOKEN}},
        "talk": {"voiceId": "v", "apiKey": "canary"}, "ui": {"seamColor": "#ff8800"},
    });
    let gateway = gateway!(config);
    for protocol in DIALECTS {
        let reading = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.read"]);
        let mut reader = gateway.welcome(&reading).0;
        let shown = reader.call("talk.config", &json!({}));
        assert_eq!(shown["config"]["ui"], json!({"seamColor": "#ff8800"}));
        assert_eq!(shown["config"]["talk"]["voiceId"], "v");
        let resolved = &shown["config"]["talk"]["resolved"];
        assert_eq!(
            (&resolved["provider"], &resolved["config"]["voiceId"]),
            (&json!("elevenlabs"), &json!("v"))
        );
        assert!(!shown.to_string().contains("canary"));
        let error = reader.refused("talk.config", &json!({"includeSecrets": true}));
        assert_eq!(error.message, "missing scope: operator.talk.secrets");
        let whole = gateway
            .owner(protocol)
            .call("talk.config", &json!({"includeSecrets": true}));
        assert_eq!(whole["config"]["talk"]["apiKey"], "canary");
    }
}

/// Answers the step that waits.
fn answered(owner: &mut Client, id: &str, step: &Value, value: &Value) -> Value {
    let answer = json!({"stepId": step["id"], "value": value});
    owner.call("wizard.next", &json!({"sessionId": id, "answer": answer}))
}

#[test]
fn the_wizard_asks_step_by_step_and_writes_at_the_end() {
    for protocol in DIALECTS {
        let gateway = gateway!();
        let mut owner = gateway.owner(protocol);
        let before = fs::read_to_string(gateway.home().config()).unwrap();
        let begun = owner.call("wizard.start", &json!({"mode": "local"}));
        let id = begun["sessionId"].as_str().unwrap().to_owned();
        assert_eq!(
            (&begun["done"], &begun["status"]),
            (&json!(false), &json!("running"))
        );
        let mut step = begun["step"].clone();
        assert_eq!(
            (&step["type"], &step["executor"]),
            (&json!("note"), &json!("client"))
        );
        let error = owner.refused("wizard.start", &json!({}));
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("UNAVAILABLE", "wizard already running")
        );
        let again = owner.call("wizard.next", &json!({"sessionId": id}));
        assert_eq!(
            again,
            json!({"done": false, "step": step, "status": "running"})
        );
        let bad = json!({"sessionId": id, "answer": {"stepId": "bad", "value": 1}});
        assert_eq!(
            owner.refused("wizard.next", &bad).message,
            "Error: wizard: no pending step"
        );
        let workspace = gateway.home().state().join("workspace-mine");
        for (kind, value) in [
            ("note", Value::Null),
            ("note", Value::Null),
            ("confirm", json!(true)),
            ("select", json!("advanced")),
            ("note", Value::Null),
            ("text", json!(workspace)),
            ("text", json!("19001")),
            ("select", json!("loopback")),
            ("select", json!("password")),
            ("text", json!("canary-password")),
        ] {
            assert_eq!(step["type"], kind, "{step}");
            let next = answered(&mut owner, &id, &step, &value);
            assert_eq!(next["status"], "running");
            step = next["step"].clone();
        }
        assert!(!step.to_string().contains("canary"));
        assert_eq!(
            fs::read_to_string(gateway.home().config()).unwrap(),
            before,
            "nothing yet"
        );
        assert_eq!(
            owner.call("wizard.status", &json!({"sessionId": id})),
            json!({"status": "running"})
        );
        let end = answered(&mut owner, &id, &step, &json!(true));
        assert_eq!(end, json!({"done": true, "status": "done"}));
        let written: Value =
            serde_json::from_str(&fs::read_to_string(gateway.home().config()).unwrap()).unwrap();
        assert_eq!(written["gateway"]["port"], 19_001);
        assert_eq!(written["gateway"]["auth"]["mode"], "password");
        assert_eq!(
            written["agents"]["defaults"]["workspace"],
            workspace.to_str().unwrap()
        );
        assert!(workspace.join("AGENTS.md").exists());
    }
}

#[test]
fn a_wizard_that_is_cancelled_or_declined_changes_nothing() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let before = fs::read_to_string(gateway.home().config()).unwrap();
    let begun = owner.call("wizard.start", &json!({}));
    let session = json!({"sessionId": begun["sessionId"]});
    let cancelled = json!({"status": "cancelled", "error": "cancelled"});
    assert_eq!(owner.call("wizard.cancel", &session), cancelled);
    for method in ["wizard.status", "wizard.next", "wizard.cancel"] {
        assert_eq!(owner.refused(method, &session).message, "wizard not found");
    }
    let begun = owner.call("wizard.start", &json!({}));
    let id = begun["sessionId"].as_str().unwrap().to_owned();
    let mut step = begun["step"].clone();
    for value in [Value::Null, Value::Null] {
        step = answered(&mut owner, &id, &step, &value)["step"].clone();
    }
    let end = answered(&mut owner, &id, &step, &json!(false));
    assert_eq!(
        end,
        json!({"done": true, "status": "cancelled", "error": "cancelled"})
    );
    assert_eq!(fs::read_to_string(gateway.home().config()).unwrap(), before);
}
