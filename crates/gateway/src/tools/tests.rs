//! The tools of a turn over a real gateway without a listener.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use clawgate_agent::{Output, ToolSet, Toolbox as _};
use clawgate_core::approval::Decision;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Scene, of_turn, own::Own};
use crate::{Gateway, lifecycle};

struct House {
    dir: PathBuf,
    gateway: Arc<Gateway>,
}

impl House {
    fn new(mut config: Value) -> Self {
        let dir = std::env::temp_dir().join(format!("clawgate-turn-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&dir).unwrap();
        config["gateway"] =
            json!({"mode": "local", "auth": {"mode": "token", "token": "t0ken-of-tests-0001"}});
        // There is no binary here that could become another program within bounds.
        config["tools"]["exec"]["sandbox"]["mode"] = "off".into();
        fs::write(dir.join("clawgate.json"), config.to_string()).unwrap();
        Self {
            gateway: lifecycle::without_listener(&dir),
            dir,
        }
    }

    fn scene(&self, agent: &str) -> Scene {
        let roster = self.gateway.roster();
        let agent = roster.get(agent).unwrap().clone();
        fs::create_dir_all(&agent.workspace).unwrap();
        Scene {
            session_key: format!("agent:{}:main", agent.id),
            session_id: "s".to_owned(),
            run_id: uuid::Uuid::new_v4().to_string(),
            workspace: agent.workspace.clone(),
            attended: false,
            allow: None,
            model: "m".to_owned(),
            provider: "p".to_owned(),
            agent,
        }
    }

    fn tools(&self) -> ToolSet {
        of_turn(&self.gateway, &self.scene("main"))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.gateway.stopping.cancel();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

async fn call(tools: &ToolSet, name: &str, arguments: Value) -> Output {
    let tool = tools.get(name).unwrap_or_else(|| panic!("no {name}"));
    let stop = CancellationToken::new();
    let called = tool.call(&arguments, &stop);
    tokio::time::timeout(Duration::from_secs(30), called)
        .await
        .expect("within 30 s")
}

async fn fails(tools: &ToolSet, name: &str, arguments: Value, why: &str) {
    let output = call(tools, name, arguments.clone()).await;
    assert!(output.is_error, "{name} {arguments}: {output:?}");
    assert!(output.text.contains(why), "{arguments}: {}", output.text);
}

fn names(tools: &ToolSet) -> Vec<String> {
    tools.specs().iter().map(|spec| spec.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_has_what_every_place_of_the_configuration_leaves() {
    let house = House::new(json!({
        "tools": {"profile": "coding", "deny": ["web_*"],
                  "byProvider": {"P": {"deny": ["cron"]}}},
        "agents": {"list": [{"id": "main", "tools": {"deny": ["group:memory"]}}]},
    }));
    let left = names(&house.tools());
    for name in ["read", "write", "edit", "exec", "process", "sessions_list"] {
        assert!(left.iter().any(|left| left == name), "{name} in {left:?}");
    }
    for name in [
        "web_fetch",
        "cron",
        "memory_get",
        "gateway",
        "message",
        "apply_patch",
    ] {
        assert!(!left.iter().any(|left| left == name), "{name} in {left:?}");
    }
    let scene = Scene {
        allow: Some(vec!["read".to_owned(), "gateway".to_owned()]),
        ..house.scene("main")
    };
    assert_eq!(names(&of_turn(&house.gateway, &scene)), ["read"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_schedules_for_itself_and_runs_no_programs_that_way() {
    let house = House::new(json!({"agents": {"list": [{"id": "main"}, {"id": "other"}]}}));
    let tools = house.tools();
    let job = json!({
        "name": "stretch", "schedule": {"kind": "every", "everyMs": 3_600_000},
        "sessionTarget": "main", "payload": {"kind": "systemEvent", "text": "stretch"},
    });
    let added = call(&tools, "cron", json!({"action": "add", "job": job})).await;
    assert!(!added.is_error, "{}", added.text);
    let id = added.details.unwrap()["id"].as_str().unwrap().to_owned();
    let list = call(&tools, "cron", json!({"action": "list"})).await;
    assert!(list.text.contains(&id), "{}", list.text);
    let others = of_turn(&house.gateway, &house.scene("other"));
    let list = call(&others, "cron", json!({"action": "list"})).await;
    assert!(!list.text.contains(&id), "{}", list.text);
    for action in ["remove", "run", "runs"] {
        let arguments = json!({"action": action, "jobId": id});
        fails(&others, "cron", arguments, "another agent's").await;
    }
    let with = |key: &str, value: Value| {
        let mut job = job.clone();
        job[key] = value;
        json!({"action": "add", "job": job})
    };
    let command = json!({"kind": "command", "argv": ["/bin/true"]});
    fails(
        &tools,
        "cron",
        with("payload", command.clone()),
        "not \"command\"",
    )
    .await;
    let webhook = json!({"mode": "webhook", "to": "https://x.example/"});
    fails(
        &tools,
        "cron",
        with("delivery", webhook),
        "for the operator",
    )
    .await;
    let granted = json!({"kind": "agentTurn", "message": "x", "toolsAllow": ["exec"]});
    fails(
        &tools,
        "cron",
        with("payload", granted),
        "\"toolsAllow\" of a payload",
    )
    .await;
    let replacing = with("declarationKey", json!("theirs"));
    fails(&tools, "cron", replacing, "\"declarationKey\" of a job").await;
    let elsewhere = with("sessionTarget", json!("session:agent:other:main"));
    fails(&tools, "cron", elsewhere, "another agent's").await;
    let mut twice = job.clone();
    twice["payload"] = command.clone();
    let twice = json!({"action": "add", "job": {"data": {"job": twice}}});
    fails(&tools, "cron", twice, "").await;
    let count = call(&tools, "cron", json!({"action": "status"})).await;
    assert_eq!(count.details.unwrap()["jobs"], 1);
    let patch = json!({"action": "update", "jobId": id, "patch": {"payload": command}});
    fails(&tools, "cron", patch, "not \"command\"").await;
    let moved = json!({"action": "update", "jobId": id, "patch": {"agentId": "other"}});
    fails(&tools, "cron", moved, "stays with its agent").await;
    let renamed = json!({"action": "update", "jobId": id, "patch": {"name": "walk"}});
    assert!(!call(&tools, "cron", renamed).await.is_error);
    let removed = call(&tools, "cron", json!({"action": "remove", "jobId": id})).await;
    assert!(!removed.is_error, "{}", removed.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_looks_and_changes_nothing_of_the_gateway() {
    let house = House::new(json!({"agents": {"list": [{"id": "main"}, {"id": "other"}]}}));
    let tools = house.tools();
    let shown = call(&tools, "gateway", json!({"action": "config.get"})).await;
    assert!(!shown.is_error, "{}", shown.text);
    assert!(!shown.text.contains("t0ken-of-tests"), "{}", shown.text);
    for action in ["config.patch", "config.apply", "restart", "update.run"] {
        fails(
            &tools,
            "gateway",
            json!({"action": action}),
            "for the operator",
        )
        .await;
    }
    let elsewhere = json!({"sessionKey": "agent:other:main"});
    fails(
        &tools,
        "sessions_history",
        elsewhere.clone(),
        "another agent's",
    )
    .await;
    fails(&tools, "session_status", elsewhere, "another agent's").await;
    let send = json!({"action": "send", "message": "x"});
    fails(&tools, "message", send, "no channel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_a_command_is_denied_at_once_unless_it_was_granted() {
    let house = House::new(json!({}));
    let denied = call(&house.tools(), "exec", json!({"command": "id -u"})).await;
    assert!(denied.is_error);
    let details = denied.details.unwrap();
    assert_eq!(details["status"], "denied");
    assert_eq!(details["reason"], "unattended");
    let allowing = |allow: &str| Scene {
        allow: Some(vec![allow.to_owned()]),
        ..house.scene("main")
    };
    let granted = of_turn(&house.gateway, &allowing("exec"));
    let ran = call(&granted, "exec", json!({"command": "id -u"})).await;
    assert!(!ran.is_error, "{}", ran.text);
    // Everything is no grant for this.
    let all = of_turn(&house.gateway, &allowing("*"));
    assert!(
        call(&all, "exec", json!({"command": "id -u"}))
            .await
            .is_error
    );
    // Nor does a grant stand above what the operator denies.
    let strict = House::new(json!({"tools": {"exec": {"security": "deny"}}}));
    let scene = Scene {
        allow: Some(vec!["exec".to_owned()]),
        ..strict.scene("main")
    };
    let denied = of_turn(&strict.gateway, &scene);
    let denied = call(&denied, "exec", json!({"command": "id -u"})).await;
    assert_eq!(denied.details.unwrap()["reason"], "policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_waited_for_inside_the_call() {
    let house = House::new(json!({"tools": {"exec": {"host": "gateway"}}}));
    let scene = Scene {
        attended: true,
        ..house.scene("main")
    };
    let tools = of_turn(&house.gateway, &scene);
    for (decision, runs) in [(Decision::AllowOnce, true), (Decision::Deny, false)] {
        let decide = async {
            loop {
                let waiting = house.gateway.approvals.pending().await.unwrap();
                let Some(waiting) = waiting.first() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                assert!(waiting.request.contains("echo from"), "{}", waiting.request);
                let own = Own::of(&house.gateway, &scene);
                let id = waiting.id.clone();
                let approvals = &house.gateway.approvals;
                approvals.resolve(own.link(), id, decision).await.unwrap();
                return;
            }
        };
        let arguments = json!({"command": "echo from | cat"});
        let (output, ()) = tokio::join!(call(&tools, "exec", arguments), decide);
        assert_eq!(!output.is_error, runs, "{}", output.text);
        if runs {
            assert!(output.text.contains("from"), "{}", output.text);
        } else {
            assert_eq!(output.details.unwrap()["reason"], "denied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_found_as_they_are_now() {
    let house = House::new(json!({}));
    let scene = house.scene("main");
    let workspace = scene.workspace.clone();
    let tools = of_turn(&house.gateway, &scene);
    fs::create_dir_all(workspace.join("memory")).unwrap();
    fs::write(
        workspace.join("MEMORY.md"),
        "# Tea\nThe user likes oolong.\n",
    )
    .unwrap();
    fs::write(workspace.join("memory/day.md"), "Bought a bicycle.\n").unwrap();
    fs::write(house.dir.join("secret.md"), "oolong canary\n").unwrap();
    std::os::unix::fs::symlink(
        house.dir.join("secret.md"),
        workspace.join("memory/link.md"),
    )
    .unwrap();
    let found = call(&tools, "memory_search", json!({"query": "which oolong?"})).await;
    assert!(found.text.starts_with("MEMORY.md:1-2"), "{}", found.text);
    assert!(!found.text.contains("canary"), "{}", found.text);
    fs::write(
        workspace.join("memory/day.md"),
        "Sold the boat, not the tea.\n",
    )
    .unwrap();
    let gone = call(&tools, "memory_search", json!({"query": "bicycle"})).await;
    assert!(gone.text.contains("nothing"), "{}", gone.text);
    let now = call(&tools, "memory_search", json!({"query": "boat"})).await;
    assert!(now.text.starts_with("memory/day.md:1-1"), "{}", now.text);
    fs::remove_file(workspace.join("memory/day.md")).unwrap();
    let gone = call(&tools, "memory_search", json!({"query": "boat"})).await;
    assert!(gone.text.contains("nothing"), "{}", gone.text);
    let odd = call(&tools, "memory_search", json!({"query": "\" OR * ( NEAR"})).await;
    assert!(!odd.is_error, "{}", odd.text);
    let note = call(
        &tools,
        "memory_get",
        json!({"path": "MEMORY.md", "from": 2}),
    )
    .await;
    assert_eq!(note.text, "The user likes oolong.");
    fails(&tools, "memory_get", json!({"path": "SOUL.md"}), "no note").await;
    fails(
        &tools,
        "memory_get",
        json!({"path": "memory/link.md"}),
        "link",
    )
    .await;
}
