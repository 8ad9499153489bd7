//! Cron over the wire, by the real process: what is refused changes nothing, what runs is told and
//! recorded in the original's shape, and one job waits for no other.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use clawgate_testkit::{Client, gateway, token_config};
use serde_json::{Value, json};

const EVERY_HOUR: &str = r#"{"kind":"every","everyMs":3600000}"#;

fn job(extra: &Value) -> Value {
    let mut job = json!({
        "name": "job",
        "schedule": serde_json::from_str::<Value>(EVERY_HOUR).unwrap(),
        "payload": {"kind": "command", "argv": ["/bin/true"]},
    });
    for (key, value) in extra.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

fn shell(script: &str) -> Value {
    json!({"kind": "command", "argv": ["/bin/sh", "-c", script]})
}

/// The next cron event of this action.
fn event(client: &mut Client, action: &str) -> Value {
    loop {
        let event = client.event("cron");
        if event["payload"]["action"] == action {
            return event["payload"].clone();
        }
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn pages_of_one_inventory_carry_one_revision_on_wire_4() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let page = |client: &mut Client, params: Value| client.call("cron.list", &params);
    let revision = |page: &Value| page["snapshotRevision"].as_str().unwrap().to_owned();
    let nothing = revision(&page(&mut client, json!({})));
    assert!(!nothing.is_empty());
    let first = client.call("cron.add", &job(&json!({"name": "first"})));
    let second = client.call(
        "cron.add",
        &job(&json!({"name": "second", "agentId": "main"})),
    );
    client.call(
        "cron.add",
        &job(&json!({"name": "third", "schedule": {"kind": "cron", "expr": "0 9 * * *"}})),
    );

    let (one, two) = (
        page(&mut client, json!({"limit": 2, "compact": true})),
        page(&mut client, json!({"limit": 2, "offset": 2})),
    );
    assert_eq!(revision(&one), revision(&two));
    assert_ne!(revision(&one), nothing);
    assert_eq!(one["nextOffset"], 2);
    assert_eq!(two["nextOffset"], Value::Null);
    assert_eq!(two["jobs"][0]["effectiveAgentId"], "main");
    assert_eq!(one["jobs"][0]["scheduleKind"], "every");
    assert_eq!(one["jobs"][0]["payload"], Value::Null);

    for (params, names) in [
        (json!({"scheduleKind": "cron"}), &["third"][..]),
        (json!({"scheduleKind": "on-exit"}), &[]),
        (json!({"trigger": "conditional"}), &[]),
        (json!({"agentId": "other"}), &[]),
        (json!({"agentId": "main"}), &["first", "second", "third"]),
        (
            json!({"lastRunStatus": "unknown"}),
            &["first", "second", "third"],
        ),
        (json!({"lastRunStatus": "ok"}), &[]),
    ] {
        let answer = page(&mut client, params.clone());
        let mut found: Vec<&str> = answer["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["name"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, names, "{params}");
        assert_eq!(answer["total"], names.len(), "{params}");
    }

    let mut last = revision(&one);
    for change in ["cron.update", "cron.remove"] {
        let params = match change {
            "cron.update" => json!({"id": first["id"], "patch": {"name": "renamed"}}),
            _ => json!({"id": second["id"]}),
        };
        client.call(change, &params);
        let now = revision(&page(&mut client, json!({})));
        assert_ne!(now, last, "after {change}");
        last = now;
    }
    let older = gateway.owner(3).call("cron.list", &json!({}));
    assert_eq!(
        keys(&older),
        ["jobs", "total", "offset", "limit", "hasMore", "nextOffset"]
    );
    assert_eq!(older["jobs"][0]["effectiveAgentId"], Value::Null);
}

#[test]
fn what_is_refused_has_a_reason_and_changes_nothing() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let kept = client.call("cron.add", &job(&json!({})));
    let id = kept["id"].as_str().unwrap();
    let wrong = [
        json!({"schedule": {"kind": "cron", "expr": "0 0 30 2 *"}}),
        json!({"schedule": {"kind": "cron", "expr": "not cron"}}),
        json!({"schedule": {"kind": "cron", "expr": "* * * * *", "tz": "Mars/Base"}}),
        json!({"schedule": {"kind": "at", "at": "yesterday"}}),
        json!({"schedule": {"kind": "at", "at": "2001-01-01T00:00:00Z"}}),
        json!({"schedule": {"kind": "every", "everyMs": 0}}),
        json!({"schedule": 5}),
        json!({"sessionTarget": "somewhere"}),
        json!({"sessionTarget": "current"}),
        json!({"sessionTarget": "session:"}),
        json!({"payload": {"kind": "command", "argv": []}}),
        json!({"payload": {"kind": "command", "argv": [""]}}),
        json!({"payload": {"kind": "command", "argv": ["a\u{0}b"]}}),
        json!({"payload": {"kind": "command", "argv": ["ls"], "cwd": "relative"}}),
        json!({"payload": {"kind": "command", "argv": ["ls"], "timeoutSeconds": -1}}),
        json!({"payload": {"kind": "unheard-of"}}),
        json!({"delivery": {"mode": "announce"}}),
        json!({"delivery": {"mode": "webhook"}}),
        json!({"delivery": {"mode": "webhook", "to": "file:///etc/passwd"}}),
        json!({"delivery": {"mode": "webhook", "to": "http://user:pass@example.org/"}}),
        json!({"failureAlert": {"after": 0}}),
        json!({"failureAlert": {"after": 2}}),
        json!({"catchUp": {"mode": "some"}}),
        json!({"overlap": "maybe"}),
        json!({"disableAfter": 0}),
        json!({"unknown": true}),
    ];
    for extra in &wrong {
        let error = client.refused("cron.add", &job(extra));
        assert_eq!(error.code, "INVALID_REQUEST", "{extra}: {error:?}");
        assert!(!error.message.is_empty(), "{extra}");
        let error = client.refused("cron.update", &json!({"id": id, "patch": extra}));
        assert_eq!(error.code, "INVALID_REQUEST", "{extra}: {error:?}");
    }
    let stale = json!({"id": id, "patch": {"name": "x"}, "expectedConfigRevision": "sha256:old"});
    let error = client.refused("cron.update", &stale);
    assert_eq!(error.detail_code(), "CRON_JOB_CHANGED");
    for (method, params) in [
        ("cron.get", json!({"id": "nobody"})),
        ("cron.update", json!({"id": "nobody", "patch": {}})),
        ("cron.run", json!({"id": "nobody"})),
        ("cron.cancel", json!({"id": "nobody"})),
        ("cron.remove", json!({"id": "nobody"})),
    ] {
        let error = client.refused(method, &params);
        assert_eq!(error.detail_code(), "CRON_JOB_NOT_FOUND", "{method}");
    }
    assert_eq!(client.call("cron.get", &json!({"id": id})), kept);
    let page = client.call("cron.list", &json!({"includeDisabled": true}));
    assert_eq!(page["total"], 1);
    assert_eq!(client.call("cron.runs", &json!({}))["total"], 0);
}

#[test]
fn events_and_records_have_the_members_of_the_original_in_its_order() {
    let gateway = gateway!();
    let mut client = gateway.owner(3);
    let added = client.call(
        "cron.add",
        &json!({"name": "say", "schedule": {"everyMs": 3_600_000}, "text": "hello"}),
    );
    let id = added["id"].as_str().unwrap();
    assert_eq!(
        keys(&event(&mut client, "added")),
        ["jobId", "action", "nextRunAtMs"]
    );
    let run_id = client.call("cron.run", &json!({"id": id}))["runId"].clone();
    let started = event(&mut client, "started");
    assert_eq!(keys(&started), ["jobId", "action", "runAtMs", "runId"]);
    let finished = event(&mut client, "finished");
    // As in the original's `{jobId, action, status, error?, summary?, …}`; from `runId` on ours.
    assert_eq!(
        keys(&finished),
        [
            "jobId",
            "action",
            "status",
            "summary",
            "deliveryStatus",
            "runAtMs",
            "durationMs",
            "nextRunAtMs",
            "runId",
            "verdict"
        ]
    );
    assert_eq!((&started["runId"], &finished["runId"]), (&run_id, &run_id));
    let page = client.call("cron.runs", &json!({"id": id, "runId": run_id}));
    let entry = &page["entries"][0];
    // A line of a run log of 2026.3.13, and what is ours after it.
    assert_eq!(
        keys(entry),
        [
            "ts",
            "jobId",
            "action",
            "status",
            "summary",
            "deliveryStatus",
            "runAtMs",
            "durationMs",
            "nextRunAtMs",
            "runId",
            "verdict"
        ]
    );
    assert_eq!(entry["deliveryStatus"], "not-requested");
    gateway.says(run_id.as_str().unwrap());
}

#[test]
fn a_job_that_is_due_beside_slow_ones_does_not_wait_for_them() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    for _ in 0..4 {
        let slow = client.call("cron.add", &job(&json!({"payload": shell("sleep 25")})));
        client.call("cron.run", &json!({"id": slow["id"]}));
        event(&mut client, "started");
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let due = now.as_millis() + 300;
    let quick = client.call(
        "cron.add",
        &json!({"name": "quick", "text": "now", "schedule": {"at": due.to_string()}}),
    );
    let finished = event(&mut client, "finished");
    // The slow ones take 25 s: whoever finishes first did not wait for any of them.
    assert_eq!(finished["jobId"], quick["id"]);
    assert_eq!(finished["status"], "ok");
}

#[test]
fn removing_a_job_ends_everything_that_its_run_started() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let file = gateway.home().state().join("alive");
    // Two generations, one of them in a session of its own; the file is locked while either lives.
    let script = format!(
        "exec 9>'{0}'; flock 9; setsid sleep 300 & sleep 300",
        file.display()
    );
    let added = client.call("cron.add", &job(&json!({"payload": shell(&script)})));
    client.call("cron.run", &json!({"id": added["id"]}));
    event(&mut client, "started");
    let locked = || std::fs::File::open(&file).is_ok_and(|file| file.try_lock().is_err());
    wait(Duration::from_secs(10), &locked);
    client.call("cron.remove", &json!({"id": added["id"]}));
    wait(Duration::from_secs(5), &|| !locked());
    event(&mut client, "finished");
    let entry = client.call("cron.runs", &json!({}))["entries"][0].clone();
    assert_eq!(entry["verdict"], "interrupted");
    assert_eq!(
        entry["error"],
        "cron: run stopped because its job was removed"
    );
}

/// Looks until it is so, within a time.
fn wait(within: Duration, holds: &dyn Fn() -> bool) {
    let until = std::time::Instant::now() + within;
    while !holds() {
        assert!(
            std::time::Instant::now() < until,
            "it does not come to that"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_gateway_leaves_no_process_and_a_record_behind() {
    let mut gateway = gateway!();
    let file = gateway.home().state().join("alive");
    let script = format!(
        "exec 9>'{0}'; flock 9; setsid sleep 300 & sleep 300",
        file.display()
    );
    let mut client = gateway.owner(4);
    let added = client.call("cron.add", &job(&json!({"payload": shell(&script)})));
    let run = client.call("cron.run", &json!({"id": added["id"]}));
    let locked = || std::fs::File::open(&file).is_ok_and(|file| file.try_lock().is_err());
    wait(Duration::from_secs(10), &locked);
    gateway.kill();
    assert!(locked(), "its processes outlive it");
    gateway.restart();
    wait(Duration::from_secs(5), &|| !locked());
    // What was interrupted is recorded while the gateway serves already.
    let client = std::cell::RefCell::new(gateway.owner(4));
    let entry = || client.borrow_mut().call("cron.runs", &json!({}))["entries"][0].clone();
    wait(Duration::from_secs(5), &|| !entry().is_null());
    let entry = entry();
    assert_eq!(entry["runId"], run["runId"]);
    assert_eq!(entry["verdict"], "interrupted");
    assert_eq!(entry["error"], "cron: job interrupted by gateway restart");
}

#[test]
fn e72_a_result_is_posted_where_the_operator_allows_and_nowhere_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://127.0.0.1:{}/hook",
        listener.local_addr().unwrap().port()
    );
    let webhook = json!({"delivery": {"mode": "webhook", "to": url}, "payload": shell("echo hi")});

    let closed = gateway!();
    let mut client = closed.owner(4);
    let added = client.call("cron.add", &job(&webhook));
    client.call("cron.run", &json!({"id": added["id"]}));
    let told = event(&mut client, "delivery");
    assert_eq!(told["deliveryStatus"], "not-delivered");
    assert!(
        told["deliveryError"]
            .as_str()
            .unwrap()
            .contains("allowedHostnames"),
        "{told}"
    );
    let entry = client.call("cron.runs", &json!({}))["entries"][0].clone();
    assert_eq!(
        (&entry["status"], &entry["delivered"]),
        (&json!("ok"), &json!(false))
    );

    let mut config = token_config();
    config["cron"] = json!({"webhookToken": "hook-secret",
        "webhookSsrfPolicy": {"allowedHostnames": ["127.0.0.1"]}});
    let open = gateway!(&config);
    let mut client = open.owner(4);
    let added = client.call("cron.add", &job(&webhook));
    client.call("cron.run", &json!({"id": added["id"]}));
    let (mut stream, _) = listener.accept().unwrap();
    let mut asked = Vec::new();
    let mut chunk = [0; 4096];
    while !asked.ends_with(b"}") {
        let read = stream.read(&mut chunk).unwrap();
        asked.extend_from_slice(&chunk[..read]);
    }
    let asked = String::from_utf8(asked).unwrap();
    assert!(
        asked
            .to_ascii_lowercase()
            .contains("authorization: bearer hook-secret")
    );
    assert!(asked.contains("\"summary\":\"hi\""), "{asked}");
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let told = event(&mut client, "delivery");
    assert_eq!(told["deliveryStatus"], "delivered");
    let entry = client.call("cron.runs", &json!({}))["entries"][0].clone();
    assert_eq!(entry["delivered"], true);
    assert!(
        entry["deliveryReceipt"]
            .as_str()
            .unwrap()
            .starts_with("HTTP 200")
    );
    assert!(open.home().state_files_with("hook-secret").is_empty());
}
