//! Runs that a node asks about: shown to an operator, let through once as they were shown, by real
//! processes at every end.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/node.rs"]
mod node;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Output, Stdio},
};

use clawgate_testkit::{
    Call, Client, Connect, Device, TOKEN, TestGateway, gateway, home, token_config,
};
use node::{Host, free_port, json_of, operator};
use serde_json::{Value, json};
use tempfile::TempDir;

const REQUESTED: &str = "exec.approval.requested";

/// A gateway, a node that asks about everything, and a program on it that notes each of its runs.
struct Scene {
    gateway: TestGateway,
    host: Host,
    place: TempDir,
    /// Sees what waits.
    watching: Client,
    node_id: String,
}

impl Scene {
    fn new(gateway: TestGateway) -> Self {
        let place = tempfile::tempdir().unwrap();
        let host = Host::start(&gateway, &place.path().join("pi"), "pi", &[]);
        host.says("connected to");
        let program = place.path().join("note");
        let script = "#!/bin/sh\necho \"$0 $* A=$A $PWD\" | tee -a \"${0%/*}/ran\"\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for dir in ["work", "other"] {
            fs::create_dir(place.path().join(dir)).unwrap();
        }
        let mut watching = gateway.owner(4);
        let nodes = watching.call("node.list", &json!({}));
        let node_id = nodes["nodes"][0]["nodeId"].as_str().unwrap().to_owned();
        let scene = Self {
            gateway,
            host,
            place,
            watching,
            node_id,
        };
        scene
            .host
            .allow(&json!({"security": "full", "ask": "always"}));
        scene
    }

    fn path(&self, name: &str) -> String {
        // A temporary directory may lie behind a link.
        let real = self.place.path().canonicalize().unwrap();
        real.join(name).to_str().unwrap().to_owned()
    }

    /// What the program noted.
    fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.place.path().join("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Where an operator of this name keeps what is theirs.
    fn home_of(&self, name: &str) -> PathBuf {
        let dir = self.place.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn by(&self, who: &str, noun: &str, args: &[&str]) -> Output {
        operator(&self.gateway, &self.home_of(who), noun, args)
            .output()
            .unwrap()
    }

    /// The first operator has the program run, and waits.
    fn asks(&self, args: &[&str]) -> Child {
        let program = self.path("note");
        let args: Vec<&str> = ["run", "--node", "pi"]
            .iter()
            .chain(args)
            .chain(&["--", &program, "one", "two words"])
            .copied()
            .collect();
        operator(&self.gateway, &self.home_of("asking"), "nodes", &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn shown(&mut self) -> Value {
        self.watching.event(REQUESTED)["payload"].clone()
    }

    fn program(&self) -> Value {
        json!({
            "command": [self.path("note"), "x"], "cwd": self.path("work"), "env": {"A": "1"},
        })
    }

    fn call_of(&self, params: &Value, key: &str) -> Value {
        json!({
            "nodeId": self.node_id, "command": "system.run", "params": params,
            "idempotencyKey": key,
        })
    }

    /// Asks for an approval of the program in two phases, by a caller of the wire.
    fn request(&self, client: &mut Client, id: &str, timeout_ms: u64) -> String {
        let run = self.program();
        let prepare = json!({
            "nodeId": self.node_id, "command": "system.run.prepare", "params": run,
            "idempotencyKey": format!("prepare {id}"),
        });
        let plan = client.call("node.invoke", &prepare)["payload"]["plan"].clone();
        assert_eq!(plan["argv"], run["command"]);
        let request = client.send(
            "exec.approval.request",
            &json!({
                "id": id, "systemRunPlan": plan, "cwd": plan["cwd"], "env": run["env"],
                "nodeId": self.node_id, "host": "node", "timeoutMs": timeout_ms, "twoPhase": true,
            }),
        );
        let Call::Ok(accepted) = client.answer(&request) else {
            panic!("it stands")
        };
        assert_eq!(accepted["status"], "accepted");
        request
    }

    /// The same, and another operator allows it.
    fn allowed(&self, client: &mut Client, id: &str) -> Value {
        let request = self.request(client, id, 60_000);
        let done = self.by("deciding", "approvals", &["allow", id]);
        assert!(done.status.success(), "{done:?}");
        let Call::Ok(answer) = client.answer(&request) else {
            panic!("it was decided")
        };
        assert_eq!(answer["decision"], "allow-once");
        let mut run = self.program();
        run["approved"] = true.into();
        run["approvalDecision"] = "allow-once".into();
        run["runId"] = id.into();
        run
    }

    /// A run that is refused by the gateway, with the code of why.
    #[track_caller]
    fn refused(&self, client: &mut Client, run: &Value, key: &str) -> String {
        let before = self.ran();
        let error = client.refused("node.invoke", &self.call_of(run, key));
        assert_eq!(self.ran(), before, "nothing ran");
        error.detail_code().to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_program_that_the_node_asks_about_runs_once_and_just_as_it_was_shown() {
    let mut scene = Scene::new(gateway!());
    let (program, work) = (scene.path("note"), scene.path("work"));
    let asking = scene.asks(&["--cwd", &work, "--env", "A=1"]);
    let shown = scene.shown();
    let request = &shown["request"];
    assert_eq!(request["command"], format!("{program} one 'two words'"));
    assert_eq!(
        request["systemRunPlan"]["argv"],
        json!([program, "one", "two words"])
    );
    assert_eq!(
        (
            &request["cwd"],
            &request["envKeys"],
            &request["host"],
            &request["nodeId"]
        ),
        (
            &json!(work),
            &json!(["A"]),
            &json!("node"),
            &json!(scene.node_id)
        )
    );
    assert_eq!(scene.ran(), [""; 0]);
    let id = shown["id"].as_str().unwrap();
    let waiting = json_of(&scene.by("deciding", "approvals", &["pending", "--json"]));
    assert_eq!(waiting[0]["id"], id);
    let done = scene.by("deciding", "approvals", &["allow", &id[..8]]);
    assert!(text(&done.stdout).contains(": allowed"), "{done:?}");
    let ended = asking.wait_with_output().unwrap();
    let line = format!("{program} one two words A=1 {work}");
    assert_eq!(
        (ended.status.code(), text(&ended.stdout).trim()),
        (Some(0), &*line),
        "{ended:?}"
    );
    assert_eq!(scene.ran(), [line.as_str()]);

    // What is denied does not run, and whoever asked is told.
    let asking = scene.asks(&[]);
    let id = scene.shown()["id"].as_str().unwrap().to_owned();
    assert!(
        scene
            .by("deciding", "approvals", &["deny", &id])
            .status
            .success()
    );
    let ended = asking.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(text(&ended.stderr).contains("exec denied"), "{ended:?}");
    assert_eq!(scene.ran().len(), 1);
    let late = scene.by("deciding", "approvals", &["allow", &id]);
    assert_eq!(late.status.code(), Some(1), "{late:?}");
}

#[test]
fn an_approval_is_good_for_one_run_by_whoever_asked_and_for_no_other_run() {
    let gateway = home!(token_config()).port(free_port()).start();
    let device = Device::new();
    let connect = || Connect::new(4).token(TOKEN).device(&device);
    let (mut asking, _) = gateway.welcome(&connect());
    let mut scene = Scene::new(gateway);
    let run = scene.allowed(&mut asking, "run-1");

    let with = |key: &str, value: Value| {
        let mut other = run.clone();
        other[key] = value;
        other
    };
    let mismatch = "APPROVAL_REQUEST_MISMATCH";
    for (key, value, code) in [
        ("command", json!([scene.path("note"), "y"]), mismatch),
        ("command", json!([scene.path("note"), "x", "y"]), mismatch),
        ("command", json!(["note", "x"]), mismatch),
        ("cwd", json!(scene.path("other")), mismatch),
        ("env", json!({"A": "2"}), mismatch),
        ("env", json!({"A": "1", "B": "1"}), mismatch),
        ("env", json!({}), mismatch),
        ("agentId", json!("other"), mismatch),
        ("sessionKey", json!("agent:main:other"), mismatch),
        ("runId", json!("run-2"), "UNKNOWN_APPROVAL_ID"),
        ("runId", json!(""), "MISSING_RUN_ID"),
    ] {
        let other = with(key, value.clone());
        let refused = scene.refused(&mut asking, &other, &format!("{key} {value}"));
        assert_eq!(refused, code, "{key} {value}");
    }
    let mut stranger = scene.gateway.owner(4);
    assert_eq!(
        scene.refused(&mut stranger, &run, "stolen"),
        "APPROVAL_DEVICE_MISMATCH"
    );
    let second = Host::start(&scene.gateway, &scene.place.path().join("two"), "two", &[]);
    second.says("connected to");
    second.allow(&json!({"security": "full", "ask": "always"}));
    let listed = asking.call("node.list", &json!({}));
    let nodes = listed["nodes"].as_array().unwrap();
    let two = nodes
        .iter()
        .find(|node| node["displayName"] == "two")
        .unwrap();
    let mut elsewhere = scene.call_of(&run, "elsewhere");
    elsewhere["nodeId"] = two["nodeId"].clone();
    assert_eq!(
        asking.refused("node.invoke", &elsewhere).detail_code(),
        "APPROVAL_NODE_MISMATCH"
    );
    drop(second);

    // None of them used it up; what tries to say more than was shown says nothing.
    let mut more = run.clone();
    more["rawCommand"] = "touch /tmp/other".into();
    more["systemRunPlan"] = json!({"argv": ["touch", "/tmp/other"]});
    let call = scene.call_of(&more, "k");
    let done = asking.call("node.invoke", &call);
    let line = format!("{} x A=1 {}", scene.path("note"), scene.path("work"));
    assert_eq!(done["payload"]["stdout"], format!("{line}\n"));
    // The same act again is the same act.
    assert_eq!(asking.call("node.invoke", &call), done);
    let (mut elsewhere, _) = scene.gateway.welcome(&connect());
    assert_eq!(elsewhere.call("node.invoke", &call), done);
    assert_eq!(scene.ran(), [line.as_str()]);
    // Another act needs another approval.
    assert_eq!(scene.refused(&mut asking, &run, "k2"), "APPROVAL_REQUIRED");

    // What was decided and what was used outlives the gateway.
    let unused = scene.allowed(&mut asking, "run-3");
    scene.gateway.kill();
    scene.host.says("disconnected");
    scene.gateway.restart();
    scene.host.says("connected to");
    let (mut asking, _) = scene.gateway.welcome(&connect());
    assert_eq!(scene.refused(&mut asking, &run, "k"), "APPROVAL_REQUIRED");
    let done = asking.call("node.invoke", &scene.call_of(&unused, "k3"));
    assert_eq!(done["payload"]["success"], true);
    assert_eq!(scene.ran(), [line.as_str(), line.as_str()]);
}

#[test]
fn what_was_denied_or_came_too_late_or_was_never_decided_does_not_run() {
    let scene = Scene::new(gateway!());
    let mut asking = scene.gateway.owner(3);
    let claim = |id: &str| {
        let mut run = scene.program();
        run["approved"] = true.into();
        run["approvalDecision"] = "allow-once".into();
        run["runId"] = id.into();
        run
    };
    let open = scene.request(&mut asking, "open", 60_000);
    assert_eq!(
        scene.refused(&mut asking, &claim("open"), "1"),
        "APPROVAL_REQUIRED"
    );
    assert!(
        scene
            .by("deciding", "approvals", &["deny", "open"])
            .status
            .success()
    );
    let Call::Ok(answer) = asking.answer(&open) else {
        panic!("it was decided")
    };
    assert_eq!(answer["decision"], "deny");
    assert_eq!(
        scene.refused(&mut asking, &claim("open"), "2"),
        "APPROVAL_REQUIRED"
    );

    let short = scene.request(&mut asking, "short", 300);
    let Call::Ok(answer) = asking.answer(&short) else {
        panic!("its time is over")
    };
    assert_eq!(answer["decision"], Value::Null);
    assert_eq!(
        scene.refused(&mut asking, &claim("short"), "3"),
        "APPROVAL_EXPIRED"
    );
    let late = scene.by("deciding", "approvals", &["allow", "short"]);
    assert_eq!(late.status.code(), Some(1), "{late:?}");

    // Without an approval the node is asked, and refuses by itself.
    let error = asking.refused("node.invoke", &scene.call_of(&scene.program(), "4"));
    assert_eq!(
        error.detail("nodeError")["message"],
        "SYSTEM_RUN_DENIED: approval required"
    );
    assert_eq!(scene.ran(), [""; 0]);
}

#[test]
fn a_program_or_script_that_changes_after_it_was_approved_does_not_run() {
    let mut scene = Scene::new(gateway!());
    let program = scene.path("note");
    let script = scene.path("script");
    fs::write(&script, "echo as shown >> ran").unwrap();
    let place = scene.place.path().to_str().unwrap().to_owned();
    let commands: [(&str, &[&str]); 2] = [(&program, &[&program]), (&script, &["sh", &script])];
    for (file, command) in commands {
        let args = [&["run", "--node", "pi", "--cwd", &place, "--"], command].concat();
        let asking = operator(&scene.gateway, &scene.home_of("asking"), "nodes", &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let id = scene.shown()["id"].as_str().unwrap().to_owned();
        fs::write(file, "#!/bin/sh\necho swapped >> ran\n").unwrap();
        let done = scene.by("deciding", "approvals", &["allow", &id]);
        assert!(done.status.success(), "{done:?}");
        let ended = asking.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said = text(&ended.stderr);
        assert!(said.contains("changed before execution"), "{said}");
        assert_eq!(scene.ran(), [""; 0], "{file}");
    }
}

#[test]
fn what_is_allowed_for_good_is_kept_by_the_node_that_runs_it() {
    let mut scene = Scene::new(gateway!());
    scene
        .host
        .allow(&json!({"security": "allowlist", "ask": "on-miss"}));
    let gateways = scene.watching.call("exec.approvals.get", &json!({}));
    let asking = scene.asks(&[]);
    let id = scene.shown()["id"].as_str().unwrap().to_owned();
    let done = scene.by("deciding", "approvals", &["allow", "--always", &id]);
    assert!(
        text(&done.stdout).contains("allowed, and the same again"),
        "{done:?}"
    );
    let ended = asking.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let kept: Value = serde_json::from_slice(&fs::read(scene.host.policy()).unwrap()).unwrap();
    let entry = &kept["agents"]["main"]["allowlist"][0];
    assert_eq!(entry["pattern"], scene.path("note"), "{kept}");
    assert_eq!(
        scene.watching.call("exec.approvals.get", &json!({})),
        gateways,
        "the gateway's own file is another one"
    );
    // Nobody is asked again, until the program is another one under the same name.
    let again = scene.asks(&[]).wait_with_output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(scene.ran().len(), 2);
    assert_eq!(
        scene.watching.call("exec.approval.list", &json!({})),
        json!([])
    );
    fs::write(
        scene.place.path().join("note"),
        "#!/bin/sh\necho other >> \"${0%/*}/ran\"\n",
    )
    .unwrap();
    let asking = scene.asks(&[]);
    let id = scene.shown()["id"].as_str().unwrap().to_owned();
    assert!(
        scene
            .by("deciding", "approvals", &["deny", &id])
            .status
            .success()
    );
    assert_eq!(asking.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(scene.ran().len(), 2);
}

#[test]
fn the_policy_of_a_node_is_read_and_changed_through_the_gateway_without_its_secret() {
    const SECRET: &str = "socket-secret-canary";
    let scene = Scene::new(gateway!());
    let file = json!({
        "version": 1, "socket": {"path": "/tmp/s", "token": SECRET},
        "defaults": {"security": "deny"},
    });
    fs::write(scene.host.policy(), file.to_string()).unwrap();
    let mut owner = scene.gateway.owner(3);
    let before = owner.call("exec.approvals.node.get", &json!({"nodeId": scene.node_id}));
    assert_eq!(before["file"]["socket"], json!({"path": "/tmp/s"}));
    let got = scene.by("deciding", "approvals", &["get", "--node", "pi", "--json"]);
    assert_eq!(json_of(&got)["file"]["defaults"]["security"], "deny");
    assert!(!text(&got.stdout).contains(SECRET));

    let wanted = json!({"version": 1, "defaults": {"security": "full", "ask": "off"}});
    let set = |base: &Value| json!({"nodeId": scene.node_id, "file": wanted, "baseHash": base});
    let stale = owner.refused("exec.approvals.node.set", &set(&json!("0")));
    assert!(
        stale.message.contains("reload and retry"),
        "{}",
        stale.message
    );
    let mut deciding = operator(
        &scene.gateway,
        &scene.home_of("deciding"),
        "approvals",
        &["set", "--node", "pi", "--stdin", "--json"],
    );
    let mut child = deciding
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(wanted.to_string().as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    assert_eq!(json_of(&done)["file"]["defaults"]["security"], "full");
    assert!(!text(&done.stdout).contains(SECRET));
    let kept: Value = serde_json::from_slice(&fs::read(scene.host.policy()).unwrap()).unwrap();
    assert_eq!(kept["socket"]["token"], SECRET, "it stays where it was");
    let ran = scene.asks(&[]).wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let program = scene.path("note");
    for verb in ["add", "remove"] {
        let args = ["allowlist", verb, &program, "--node", "pi", "--json"];
        let done = scene.by("deciding", "approvals", &args);
        let listed = &json_of(&done)["file"]["agents"]["*"]["allowlist"][0];
        assert_eq!(
            listed["pattern"] == program.as_str(),
            verb == "add",
            "{listed}"
        );
        assert!(!text(&done.stdout).contains(SECRET));
    }
    // These methods are the only way there, and are for administrators.
    let around = json!({
        "nodeId": scene.node_id, "command": "system.execApprovals.get", "idempotencyKey": "k",
    });
    let error = owner.refused("node.invoke", &around);
    assert!(
        error.message.contains("exec.approvals.node"),
        "{}",
        error.message
    );
    let writer = Connect::new(4).token(TOKEN).scopes(&[
        "operator.read",
        "operator.write",
        "operator.approvals",
    ]);
    let (mut writer, _) = scene.gateway.welcome(&writer);
    let get = json!({"nodeId": scene.node_id});
    let error = writer.refused("exec.approvals.node.get", &get);
    assert!(
        error.message.contains("operator.admin"),
        "{}",
        error.message
    );
    let logs = scene.gateway.home().state_files_with(SECRET);
    assert!(logs.is_empty(), "the gateway keeps it: {logs:?}");
}

#[test]
fn a_node_without_a_notifier_shows_nothing_and_says_so() {
    let scene = Scene::new(gateway!());
    let said = scene.by(
        "asking",
        "nodes",
        &["notify", "--node", "pi", "--title", "Tea"],
    );
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(
        text(&said.stderr).contains("does not support \"system.notify\""),
        "{said:?}"
    );
}
