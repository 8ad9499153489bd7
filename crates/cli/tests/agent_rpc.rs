//! Agents over the wire: the list, its changes, their files, and nothing outside of them.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{fs, os::unix::fs::symlink, path::Path};

use clawgate_testkit::{Call, Connect, TOKEN, TestGateway, gateway, home};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];

/// A configuration with a comment, which every change must keep.
fn commented() -> TestGateway {
    let home = home!();
    home.write_config(&format!(
        "{{ // mine\n  gateway: {{auth: {{mode: 'token', token: '{TOKEN}'}}}},\n  bindings: [{{agentId: 'cat-two', match: {{channel: 'x'}}}}],\n}}\n"
    ));
    home.start()
}

fn config(gateway: &TestGateway) -> String {
    fs::read_to_string(gateway.home().config()).unwrap()
}

#[test]
fn an_agent_is_made_changed_and_removed_and_the_file_keeps_its_comments() {
    for protocol in DIALECTS {
        let mut gateway = commented();
        let mut owner = gateway.owner(protocol);
        let place = tempfile::tempdir().unwrap();
        let workspace = place.path().join("ws2");
        let path = workspace.to_str().unwrap();
        let made = owner.call(
            "agents.create",
            &json!({"name": "Cat Two", "workspace": path, "emoji": "🐈"}),
        );
        let want = json!({"ok": true, "agentId": "cat-two", "name": "Cat Two", "workspace": path});
        assert_eq!(made, want);
        let list = owner.call("agents.list", &json!({}));
        let mut agents = json!([{"id": "main"}, {"id": "cat-two", "name": "Cat Two"}]);
        if protocol == 4 {
            agents[0]["workspace"] = json!(gateway.home().state().join("workspace"));
            agents[1]["workspace"] = path.into();
        }
        let want = json!({"defaultId": "main", "mainKey": "main", "scope": "per-sender",
            "agents": agents});
        assert_eq!(list, want);
        let identity = owner.call("agent.identity.get", &json!({"agentId": "cat-two"}));
        let want = json!({"agentId": "cat-two", "name": "Cat Two", "avatar": "🐈", "emoji": "🐈"});
        assert_eq!(identity, want);
        for (name, message) in [
            ("main", "\"main\" is reserved"),
            ("Cat Two", "agent \"cat-two\" already exists"),
        ] {
            let params = json!({"name": name, "workspace": path});
            assert_eq!(owner.refused("agents.create", &params).message, message);
        }
        let model =
            json!({"agentId": "cat-two", "name": "Cat II", "model": "anthropic/claude-opus-4-6"});
        assert_eq!(
            owner.call("agents.update", &model),
            json!({"ok": true, "agentId": "cat-two"})
        );
        // What was answered is on disk, and holds after a restart.
        drop(owner);
        gateway.kill();
        gateway.restart();
        let mut owner = gateway.owner(protocol);
        let cat = owner.call("agents.list", &json!({}))["agents"][1].clone();
        assert_eq!(cat["name"], "Cat II");
        if protocol == 4 {
            assert_eq!(cat["model"]["primary"], "anthropic/claude-opus-4-6");
            // None of its own.
            owner.call(
                "agents.update",
                &json!({"agentId": "cat-two", "model": null}),
            );
            let cat = owner.call("agents.list", &json!({}))["agents"][1].clone();
            assert_eq!(cat.get("model"), None);
        }
        let health = owner.call("health", &json!({}));
        assert_eq!(health["agents"][1]["agentId"], "cat-two");
        let gone = owner.call("agents.delete", &json!({"agentId": "cat-two"}));
        let want = json!({"ok": true, "agentId": "cat-two", "removedBindings": 1});
        assert_eq!(gone, want);
        // It was never the gateway's directory.
        assert!(workspace.join("SOUL.md").exists());
        for method in ["agents.delete", "agents.update"] {
            let error = owner.refused(method, &json!({"agentId": "zz"}));
            assert_eq!(error.message, "agent \"zz\" not found");
        }
        let error = owner.refused("agents.delete", &json!({"agentId": "Main"}));
        assert_eq!(error.message, "\"main\" cannot be deleted");
        let text = config(&gateway);
        assert!(
            text.starts_with("{ // mine\n") && !text.contains("cat-two"),
            "{text}"
        );
    }
}

#[test]
fn directories_that_the_gateway_made_go_to_the_trash_unless_they_are_wanted() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let state = gateway.home().state();
    for (name, keep) in [("one", false), ("two", true)] {
        owner.call("agents.create", &json!({"name": name}));
        let workspace = state.join(format!("workspace-{name}"));
        fs::write(workspace.join("notes.txt"), "canary").unwrap();
        let params = json!({"agentId": name, "deleteFiles": !keep});
        owner.call("agents.delete", &params);
        assert_eq!(workspace.exists(), keep, "{name}");
    }
    let trashed: Vec<_> = fs::read_dir(state.join("trash"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(trashed.len(), 1);
    assert!(trashed[0].path().join("notes.txt").exists());
    // Two agents in one directory: the other one still works there.
    owner.call("agents.create", &json!({"name": "a"}));
    let shared = state.join("workspace-a");
    owner.call("agents.create", &json!({"name": "b", "workspace": shared}));
    owner.call("agents.delete", &json!({"agentId": "a"}));
    assert!(shared.join("AGENTS.md").exists());
}

#[test]
fn a_workspace_that_would_cover_the_gateways_own_state_is_refused() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let state = gateway.home().state();
    let before = config(&gateway);
    let within = |rest: &str| state.join(rest).display().to_string();
    for workspace in [
        within(""),
        within("identity"),
        within("logs/a"),
        within("workspace-x/../identity"),
        "/".to_owned(),
        "here".to_owned(),
        "../x".to_owned(),
        "/a\0b".to_owned(),
    ] {
        let params = json!({"name": "x", "workspace": workspace});
        let error = owner.refused("agents.create", &params);
        assert_eq!(error.code, "INVALID_REQUEST", "{workspace}");
        let params = json!({"agentId": "main", "workspace": workspace});
        let error = owner.refused("agents.update", &params);
        assert_eq!(error.code, "INVALID_REQUEST", "{workspace}");
    }
    assert_eq!(config(&gateway), before);
}

#[test]
fn files_of_a_workspace_are_listed_read_and_written() {
    for protocol in DIALECTS {
        let gateway = gateway!();
        let mut owner = gateway.owner(protocol);
        let main = json!({"agentId": "main"});
        let list = owner.call("agents.files.list", &main);
        let workspace = gateway.home().state().join("workspace");
        assert_eq!(list["workspace"], workspace.to_str().unwrap());
        let files = list["files"].as_array().unwrap();
        let names: Vec<&str> = files
            .iter()
            .map(|file| file["name"].as_str().unwrap())
            .collect();
        let want = [
            "AGENTS.md",
            "SOUL.md",
            "TOOLS.md",
            "IDENTITY.md",
            "USER.md",
            "HEARTBEAT.md",
            "BOOTSTRAP.md",
            "MEMORY.md",
        ];
        assert_eq!(names, want);
        assert_eq!(
            files[7],
            json!({"name": "MEMORY.md", "path": workspace.join("MEMORY.md"), "missing": true})
        );
        assert!(files[0]["size"].as_u64().unwrap() > 0 && files[0]["updatedAtMs"].is_i64());
        assert_eq!(files[0].get("content"), None);
        let text = "# memory\nü\n";
        let params = json!({"agentId": "main", "name": "MEMORY.md", "content": text});
        let set = owner.call("agents.files.set", &params);
        assert_eq!(
            (&set["ok"], &set["file"]["content"]),
            (&json!(true), &json!(text))
        );
        assert_eq!(set["file"]["size"], text.len());
        let params = json!({"agentId": "main", "name": "MEMORY.md"});
        let got = owner.call("agents.files.get", &params);
        assert_eq!(got["file"], set["file"]);
        assert_eq!(
            fs::read_to_string(workspace.join("MEMORY.md")).unwrap(),
            text
        );
        // Looking again makes nothing anew.
        fs::remove_file(workspace.join("BOOTSTRAP.md")).unwrap();
        fs::remove_file(workspace.join("USER.md")).unwrap();
        let list = owner.call("agents.files.list", &main);
        let files = list["files"].as_array().unwrap();
        assert_eq!(files.len(), 7);
        assert_eq!(files[4]["missing"], true);
    }
}

#[test]
fn reading_scopes_read_files_and_write_none() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let scopes = ["operator.read", "operator.write"];
        let reading = Connect::new(protocol).token(TOKEN).scopes(&scopes);
        let mut reader = gateway.welcome(&reading).0;
        reader.call(
            "agents.files.get",
            &json!({"agentId": "main", "name": "SOUL.md"}),
        );
        for (method, params) in [
            (
                "agents.files.set",
                json!({"agentId": "main", "name": "SOUL.md", "content": "x"}),
            ),
            ("agents.create", json!({"name": "x", "workspace": "/tmp/x"})),
            ("agents.update", json!({"agentId": "main", "name": "x"})),
            ("agents.delete", json!({"agentId": "x"})),
            ("skills.update", json!({"skillKey": "x"})),
            ("wizard.start", json!({})),
            ("update.run", json!({})),
        ] {
            let error = reader.refused(method, &params);
            assert_eq!(error.message, "missing scope: operator.admin", "{method}");
        }
    }
}

/// What a method must refuse without having looked or written outside of the workspace.
fn unsafe_file(gateway: &TestGateway, name: &str) {
    let mut owner = gateway.owner(4);
    for (method, params) in [
        ("agents.files.get", json!({"agentId": "main", "name": name})),
        (
            "agents.files.set",
            json!({"agentId": "main", "name": name, "content": "pwned"}),
        ),
    ] {
        let error = owner.refused(method, &params);
        assert_eq!(error.code, "INVALID_REQUEST", "{method} {name}");
        assert!(!error.raw.to_string().contains("canary"), "{error:?}");
    }
}

#[test]
fn e64_no_name_leads_out_of_a_workspace() {
    let gateway = gateway!();
    gateway
        .owner(4)
        .call("agents.files.list", &json!({"agentId": "main"}));
    for name in [
        "../x",
        "/etc/passwd",
        "SOUL.md\0",
        "./SOUL.md",
        "soul.md",
        "notes.txt",
        "..",
        "SOUL.md/../../x",
        "..%2fx",
        "skills/SKILL.md",
    ] {
        unsafe_file(&gateway, name);
    }
    for agent in ["../../etc", "nobody", "main/../x"] {
        let params = json!({"agentId": agent, "name": "SOUL.md"});
        let error = gateway.owner(4).refused("agents.files.get", &params);
        assert_eq!(error.message, "unknown agent id", "{agent}");
    }
}

#[test]
fn e64_what_was_put_in_the_place_of_a_file_is_neither_read_nor_written() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.call("agents.files.list", &json!({"agentId": "main"}));
    let state = gateway.home().state();
    let workspace = state.join("workspace");
    let secret = state.join("secret.txt");
    fs::write(&secret, "canary").unwrap();
    let swap = |name: &str, put: &dyn Fn(&Path)| {
        let path = workspace.join(name);
        fs::remove_file(&path).unwrap();
        put(&path);
    };
    swap("SOUL.md", &|path| symlink(&secret, path).unwrap());
    swap("USER.md", &|path| fs::hard_link(&secret, path).unwrap());
    swap("TOOLS.md", &|path| fs::create_dir(path).unwrap());
    swap("AGENTS.md", &|path| symlink("/dev/zero", path).unwrap());
    swap("HEARTBEAT.md", &|path| {
        fs::File::create(path)
            .unwrap()
            .set_len(5_000_000_000)
            .unwrap();
    });
    for name in ["SOUL.md", "USER.md", "TOOLS.md", "AGENTS.md"] {
        unsafe_file(&gateway, name);
    }
    let params = json!({"agentId": "main", "name": "HEARTBEAT.md"});
    assert_eq!(
        owner.refused("agents.files.get", &params).code,
        "INVALID_REQUEST"
    );
    assert_eq!(fs::read_to_string(&secret).unwrap(), "canary");
    let large = "x".repeat(2 * 1024 * 1024 + 1);
    let params = json!({"agentId": "main", "name": "MEMORY.md", "content": large});
    assert_eq!(
        owner.refused("agents.files.set", &params).code,
        "INVALID_REQUEST"
    );
    assert!(!workspace.join("MEMORY.md").exists());
    // An identity that is a link says nothing, and one in the list is missing.
    fs::remove_file(workspace.join("IDENTITY.md")).unwrap();
    symlink(&secret, workspace.join("IDENTITY.md")).unwrap();
    let identity = owner.call("agent.identity.get", &json!({}));
    assert_eq!(
        identity,
        json!({"agentId": "main", "name": "Assistant", "avatar": "A"})
    );
    let list = owner.call("agents.files.list", &json!({"agentId": "main"}));
    assert_eq!(list["files"][3]["missing"], true);
}

#[test]
fn e64_a_link_that_is_swapped_in_all_the_time_never_gets_through() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.call("agents.files.list", &json!({"agentId": "main"}));
    let state = gateway.home().state();
    let (workspace, secret) = (state.join("workspace"), state.join("secret.txt"));
    fs::write(&secret, "canary").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = workspace.join("SOUL.md");
            let other = workspace.join("other");
            while !done.load(Ordering::Relaxed) {
                let _ = symlink(&secret, &other);
                let _ = fs::rename(&other, &path);
                let _ = fs::write(&other, "mine");
                let _ = fs::rename(&other, &path);
            }
        });
        for turn in 0..200 {
            let get = json!({"agentId": "main", "name": "SOUL.md"});
            let set = json!({"agentId": "main", "name": "SOUL.md", "content": "ours"});
            let (method, params) =
                [("agents.files.get", get), ("agents.files.set", set)][turn % 2].clone();
            let answer = owner.try_call(method, &params);
            assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_to_string(&secret).unwrap(), "canary");
}

#[test]
fn an_identity_comes_from_the_configuration_then_from_the_workspace() {
    let config = json!({
        "gateway": {"auth": {"mode": "token", "token": TOKEN}},
        "agents": {"list": [
            {"id": "zoe"},
            {"id": "ann", "default": true, "name": "Ann", "identity": {"name": "Annie", "emoji": "🦊", "avatar": "pics/me.png"}},
        ]},
    });
    for protocol in DIALECTS {
        let gateway = gateway!(config);
        let mut owner = gateway.owner(protocol);
        let pics = gateway.home().state().join("workspace/pics");
        fs::create_dir_all(&pics).unwrap();
        fs::write(pics.join("me.png"), "png").unwrap();
        let list = owner.call("agents.list", &json!({}));
        assert_eq!(list["defaultId"], "ann");
        let mut ann = list["agents"][0].clone();
        ann.as_object_mut().unwrap().remove("workspace");
        assert_eq!(
            ann,
            json!({"id": "ann", "name": "Ann", "identity": {
            "name": "Annie", "emoji": "🦊", "avatar": "pics/me.png",
            "avatarUrl": "data:image/png;base64,cG5n"}})
        );
        let shown = owner.call(
            "agent.identity.get",
            &json!({"sessionKey": "agent:ann:main"}),
        );
        assert_eq!(
            shown,
            json!({"agentId": "ann", "name": "Annie", "avatar": "/avatar/ann", "emoji": "🦊"})
        );
        let both = json!({"agentId": "main", "sessionKey": "agent:other:main"});
        let error = owner.refused("agent.identity.get", &both);
        assert_eq!(
            error.message,
            "invalid agent.identity.get params: agent \"main\" does not match session key agent \"other\""
        );
    }
}

#[test]
fn turns_without_a_model_end_with_that_reason_after_their_params_were_judged() {
    for protocol in DIALECTS {
        let gateway = gateway!();
        let mut owner = gateway.owner(protocol);
        let id = owner.send("agent", &json!({"message": "hi", "idempotencyKey": "k"}));
        let Call::Ok(accepted) = owner.answer(&id) else {
            panic!("a turn is accepted before it is known what becomes of it");
        };
        assert_eq!(accepted["status"], "accepted");
        let Call::Error(error) = owner.answer(&id) else {
            panic!("nothing answers without a model");
        };
        assert_eq!(
            (error.code.as_str(), error.detail_code()),
            ("UNAVAILABLE", "AGENT_TURN_FAILED")
        );
        assert!(error.message.contains("model"), "{}", error.message);
        let waited = owner.call("agent.wait", &json!({"runId": "k", "timeoutMs": 20_000}));
        assert_eq!(
            (&waited["status"], &waited["error"]),
            (&json!("error"), &json!(error.message))
        );
        let nobody = json!({"runId": "never", "timeoutMs": 1});
        assert_eq!(
            owner.call("agent.wait", &nobody),
            json!({"runId": "never", "status": "timeout"})
        );
        let chat = json!({"sessionKey": "main", "message": "hi", "idempotencyKey": "c"});
        let started = owner.call("chat.send", &chat);
        assert_eq!(started, json!({"runId": "c", "status": "started"}));
        let last = loop {
            let event = owner.event("chat")["payload"].clone();
            if event["runId"] == "c" {
                break event;
            }
        };
        assert_eq!(
            (&last["state"], &last["errorMessage"]),
            (&json!("error"), &json!(error.message))
        );
        for (method, params, message) in [
            (
                "agent.wait",
                json!({}),
                "invalid agent.wait params: must have required property 'runId'",
            ),
            (
                "agent",
                json!({"message": "hi", "idempotencyKey": "k", "agentId": "nobody"}),
                "invalid agent params: unknown agent id \"nobody\"",
            ),
            (
                "agent",
                json!({"message": "hi", "idempotencyKey": "k", "sessionKey": "agent:x"}),
                "invalid agent params: malformed session key \"agent:x\"",
            ),
            (
                "chat.send",
                json!({"sessionKey": "main", "message": " ", "idempotencyKey": "k"}),
                "message or attachment required",
            ),
            (
                "chat.send",
                json!({"sessionKey": "main", "message": "a\0b", "idempotencyKey": "k"}),
                "message must not contain null bytes",
            ),
        ] {
            let error = owner.refused(method, &params);
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                ("INVALID_REQUEST", message)
            );
        }
        let nothing = json!({"ok": true, "aborted": false, "runIds": []});
        let stop = json!({"sessionKey": "main", "message": "/stop", "idempotencyKey": "k"});
        assert_eq!(owner.call("chat.send", &stop), nothing);
        let abort = json!({"sessionKey": "main", "runId": "nope"});
        assert_eq!(owner.call("chat.abort", &abort), nothing);
    }
}

#[test]
fn hostile_params_are_refused_by_their_path_and_change_nothing() {
    let gateway = gateway!();
    let before = config(&gateway);
    let long = "x".repeat(100_000);
    let wrong: Vec<Value> = vec![
        json!([]),
        json!("x"),
        json!(5),
        json!({"x": 1}),
        json!({"__proto__": {}}),
        json!({"agentId": 5, "name": 5, "sessionId": 5, "skillKey": 5, "channel": 5, "enabled": 5, "mode": 5}),
        json!({"agentId": null, "name": null, "workspace": null}),
        json!({"agentId": "", "name": "", "skillKey": "", "sessionId": ""}),
        json!({"agentId": long, "name": long, "skillKey": long, "sessionId": long, "workspace": long}),
        json!({"agentId": "main", "name": ["AGENTS.md"], "content": {"a": 1}}),
    ];
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        for method in [
            "agents.create",
            "agents.update",
            "agents.delete",
            "agents.files.list",
            "agents.files.get",
            "agents.files.set",
            "agent",
            "agent.wait",
            "chat.send",
            "chat.abort",
            "skills.install",
            "send",
            "poll",
            "push.test",
            "talk.mode",
            "wizard.next",
            "wizard.cancel",
            "wizard.status",
            "channels.logout",
        ] {
            for params in &wrong {
                match owner.try_call(method, params) {
                    Call::Error(error) => {
                        assert_eq!(error.code, "INVALID_REQUEST", "{method} {params}");
                        assert!(error.message.len() < 9_000, "{method}");
                    }
                    other => panic!("{method} {params}: {other:?}"),
                }
            }
        }
    }
    assert_eq!(config(&gateway), before);
}

#[test]
fn a_wake_is_for_the_named_agent_and_an_unknown_one_hears_nothing() {
    let mut gateway = gateway!();
    let mut owner = gateway.owner(4);
    owner.call("agents.create", &json!({"name": "ops"}));
    let wake = |text: &str, more: Value| {
        let mut params = json!({"mode": "now", "text": text});
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        params
    };
    for (text, more) in [
        ("one", json!({"agentId": "main", "further": 1})),
        ("two", json!({"sessionKey": "main"})),
        ("three", json!({"sessionKey": "agent:main:main"})),
        ("other", json!({"agentId": "ops"})),
        ("other", json!({"sessionKey": "agent:ops:cron:1"})),
    ] {
        assert_eq!(owner.call("wake", &wake(text, more)), json!({"ok": true}));
    }
    for more in [
        json!({"agentId": "nobody"}),
        json!({"sessionKey": "agent:nobody:main"}),
        json!({"agentId": "main", "sessionKey": "agent:ops:main"}),
        json!({"sessionKey": "x".repeat(600)}),
    ] {
        assert_eq!(
            owner.refused("wake", &wake("lost", more)).code,
            "INVALID_REQUEST"
        );
    }
    let error = gateway
        .owner(3)
        .refused("wake", &wake("lost", json!({"further": 1})));
    assert_eq!(
        error.message,
        "invalid wake params: at root: unexpected property 'further'"
    );
    drop(owner);
    gateway.kill();
    gateway.restart();
    let status = gateway.owner(4).call("status", &json!({}));
    assert_eq!(status["queuedSystemEvents"], json!(["one", "two", "three"]));
}
