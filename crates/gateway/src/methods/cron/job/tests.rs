use clawgate_core::{
    Dialect,
    cron::{Planner, PlannerConfig},
};
use clawgate_protocol::{
    cron::{add_shape, update_shape},
    shape,
};

use super::*;
use crate::methods::cron::input;

/// 2026-11-23T02:06:34.228Z, when the capture was taken.
const CAPTURED_MS: i64 = 1_795_399_594_228;

fn house() -> House {
    House {
        default_agent: "main".to_owned(),
        zone: Zone::utc(),
        notices: Defaults::default(),
    }
}

fn parsed(params: Value) -> Result<AddParams, ErrorShape> {
    let mut params = input::added(params);
    known_target(&params)?;
    shape::check(&params, add_shape(&params), Dialect::V3)
        .map_err(|problems| ErrorShape::invalid(format!("invalid cron.add params: {problems}")))?;
    settle_target(&mut params)?;
    Ok(serde_json::from_value(params).expect("the shape knows the types"))
}

fn add(params: Value, id: &str, now_ms: i64) -> Result<CronJob, ErrorShape> {
    let keep = new(parsed(params)?, JobId::from(id), &house(), now_ms)?;
    Ok(kept(keep, now_ms))
}

/// As the scheduler and the store would have it.
fn kept(mut keep: KeepJob, now_ms: i64) -> CronJob {
    let mut planner = Planner::new(PlannerConfig::default(), 1);
    keep.plan.state = planner
        .insert(keep.plan.clone(), now_ms)
        .state
        .expect("a new job has one");
    CronJob {
        definition: keep.definition,
        plan: keep.plan,
        created_at_ms: keep.created_at_ms,
        updated_at_ms: keep.updated_at_ms,
        disabled_at_ms: None,
        running_at_ms: None,
        last_run: None,
        alerted_at_ms: None,
        revision: Some(keep.revision),
    }
}

fn shown(kept: &CronJob) -> Value {
    let mut job = show::job(kept).expect("readable");
    // Ours alone.
    job.state.time_zone = None;
    job.config_revision = None;
    serde_json::to_value(&job).expect("JSON")
}

/// What the original takes and clawgate refuses, with the reason.
const REFUSED_HERE: &[(&str, &str)] = &[
    // It would be enabled and never fire.
    ("ERR impossible date", "CRON_NEVER_FIRES"),
    // It would run somewhere else than asked.
    ("ERR current", "CRON_SESSION_REQUIRED"),
    // Its alerts would reach nobody.
    ("cron with tz", "CRON_DELIVERY_UNREACHABLE"),
];
/// What the original refuses and clawgate takes.
const TAKEN_HERE: &[&str] = &["ERR command kind"];
/// What both refuse, in other words: the original shows its expression library's.
const OWN_WORDS: &[(&str, &str)] = &[
    ("? + step", "CRON_EXPRESSION_INVALID"),
    ("ERR bad expr", "CRON_EXPRESSION_INVALID"),
    ("rpc bad-expr", "CRON_EXPRESSION_INVALID"),
    ("ERR minute 61", "CRON_EXPRESSION_INVALID"),
    ("ERR bad tz", "CRON_TIME_ZONE_UNKNOWN"),
];
/// Members that the original keeps in the order given or inferred; here they stand in one order.
const OTHER_ORDER: &[&str] = &[
    "cron with tz",
    "wrapped job + no name",
    "at epoch ms string",
];

#[test]
fn additions_are_answered_as_in_the_capture() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("add-2026.3.13.json")).expect("a fixture");
    let listed = |list: &[(&str, &'static str)], label: &str| {
        list.iter()
            .find(|(name, _)| *name == label)
            .map(|(_, code)| *code)
    };
    for case in &cases {
        let label = case["label"].as_str().expect("a label");
        let response = &case["response"];
        let mut expected = response["payload"].clone();
        // There is no chat here to announce to: it is not the default, and refused when asked for.
        let announced = expected["delivery"]["mode"] == "announce"
            && expected["delivery"]["bestEffort"] != true;
        let asks = ["\"deliver", "\"channel", "\"to\"", "\"provider"]
            .iter()
            .any(|word| case["params"].to_string().contains(word));
        if let (true, false, Value::Object(job)) = (announced, asks, &mut expected) {
            job.shift_remove("delivery");
        }
        let now = expected["createdAtMs"].as_i64().unwrap_or(match label {
            "rpc at-in-past" => 1_795_399_737_189,
            _ => CAPTURED_MS,
        });
        let id = expected["id"]
            .as_str()
            .unwrap_or("00000000-0000-4000-8000-000000000000");
        let got = add(case["params"].clone(), id, now);
        if let Some(code) = listed(REFUSED_HERE, label).or(listed(OWN_WORDS, label)) {
            assert_eq!(got.expect_err(label).detail_code(), Some(code), "{label}");
        } else if announced && asks {
            let code = got.expect_err(label).detail_code().map(str::to_owned);
            assert_eq!(
                code.as_deref(),
                Some("CRON_DELIVERY_UNREACHABLE"),
                "{label}"
            );
        } else if TAKEN_HERE.contains(&label) {
            assert!(got.is_ok(), "{label}");
        } else if response["ok"] == true {
            let got = shown(&got.expect(label));
            assert_eq!(got, expected, "{label}");
            if !OTHER_ORDER.contains(&label) && !label.starts_with("rpc norm-") {
                assert_eq!(to_json(&got), to_json(&expected), "{label}");
            }
        } else {
            let got = got.expect_err(label);
            let message = response["error"]["message"].as_str().expect("a message");
            // The original calls a wrong request UNAVAILABLE and puts the exception's name before it.
            let message = message.strip_prefix("Error: ").unwrap_or(message);
            assert_eq!(got.message, message, "{label}");
            assert_eq!(got.code.as_str(), "INVALID_REQUEST", "{label}");
            let is_shape = message.starts_with("invalid cron.add params");
            assert_eq!(got.detail_code().is_none(), is_shape, "{label}");
        }
    }
    assert_eq!(cases.len(), 60);
}

const NOW: i64 = 1_795_399_593_974;
const ID: &str = "6476df0a-7dc5-45d4-a233-8e2d925f1e87";

fn hourly() -> CronJob {
    let params = json!({"name": "hourly", "schedule": {"kind": "cron", "expr": "0 * * * *"},
        "payload": {"kind": "agentTurn", "message": "x"}, "delivery": {"mode": "none"}});
    add(params, ID, NOW).expect("valid")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a call reads like the dialogue"
)]
fn update(job: &CronJob, patch: Value, now_ms: i64) -> Result<CronJob, ErrorShape> {
    let mut params = input::updated(json!({"id": ID, "patch": patch}));
    known_target(&params["patch"])?;
    shape::check(&params, update_shape(&params), Dialect::V3).map_err(|problems| {
        ErrorShape::invalid(format!("invalid cron.update params: {problems}"))
    })?;
    let mut patch = params["patch"].take();
    settle_target(&mut patch)?;
    let keep = patched(job, patch, None, &house(), now_ms)?;
    let mut planner = Planner::new(PlannerConfig::default(), 1);
    planner.load(job.plan.clone());
    let edit = planner.update(keep.plan.clone(), now_ms).expect("known");
    Ok(CronJob {
        definition: keep.definition,
        plan: Plan {
            state: edit.state.expect("kept"),
            ..keep.plan
        },
        updated_at_ms: keep.updated_at_ms,
        revision: Some(keep.revision),
        ..job.clone()
    })
}

/// The dialogue of `313-rpc-run-update.json`.
#[test]
fn changes_are_answered_as_in_the_capture() {
    let job = update(&hourly(), json!({"enabled": false}), 1_795_399_641_918).unwrap();
    assert_eq!(
        shown(&job),
        json!({"id": ID, "name": "hourly", "enabled": false, "createdAtMs": NOW,
            "updatedAtMs": 1_795_399_641_918_i64,
            "schedule": {"kind": "cron", "expr": "0 * * * *", "staggerMs": 300_000},
            "sessionTarget": "isolated", "wakeMode": "now",
            "payload": {"kind": "agentTurn", "message": "x"}, "delivery": {"mode": "none"}, "state": {}})
    );
    let patch = json!({"enabled": true, "schedule": {"kind": "cron", "expr": "15 3 * * *"}});
    let job = update(&job, patch, 1_795_399_641_933).unwrap();
    // The original keeps the hourly job's spread here, and runs at 03:17:55.
    assert_eq!(
        shown(&job)["schedule"],
        json!({"kind": "cron", "expr": "15 3 * * *"})
    );
    assert_eq!(
        shown(&job)["state"],
        json!({"nextRunAtMs": 1_795_403_700_000_i64})
    );
    let patch = json!({"payload": {"kind": "agentTurn", "model": "openai/gpt-5"}});
    let job = update(&job, patch, NOW + 60_000).unwrap();
    assert_eq!(
        shown(&job)["payload"],
        json!({"kind": "agentTurn", "message": "x", "model": "openai/gpt-5"})
    );
    let text = json!({"kind": "systemEvent", "text": "t"});
    let no = update(&job, json!({"payload": text}), NOW + 60_000).unwrap_err();
    assert_eq!(
        no.message,
        "isolated cron jobs require payload.kind=\"agentTurn\""
    );
    let job = update(
        &job,
        json!({"sessionTarget": "main", "payload": text}),
        NOW + 60_000,
    )
    .unwrap();
    assert_eq!(shown(&job)["payload"], text);
    assert_eq!(shown(&job).get("delivery"), None);
    assert_eq!(shown(&job)["createdAtMs"], NOW);
}

#[test]
fn refused_changes_say_why() {
    let cases = [
        (
            json!({"name": " "}),
            "CRON_NAME_REQUIRED",
            "cron job name is required",
        ),
        (
            json!({"sessionTarget": "weird"}),
            "CRON_SESSION_TARGET_UNKNOWN",
            "unknown sessionTarget",
        ),
        (
            json!({"sessionTarget": "current"}),
            "CRON_SESSION_REQUIRED",
            "sessionTarget \"current\" needs sessionKey",
        ),
        (
            json!({"delivery": {"mode": "announce", "channel": "last"}}),
            "CRON_DELIVERY_UNREACHABLE",
            "cron delivery: announce has nowhere to go",
        ),
        (
            json!({"failureAlert": {"after": 3}}),
            "CRON_DELIVERY_UNREACHABLE",
            "cron failureAlert: announce has nowhere to go",
        ),
        (
            json!({"payload": {"kind": "command"}}),
            "CRON_PAYLOAD_INCOMPLETE",
            "cron.update payload.kind=\"command\" requires argv",
        ),
        (
            json!({"payload": {"kind": "command", "argv": [" "]}}),
            "CRON_COMMAND_INVALID",
            "command argv[0]",
        ),
        (
            json!({"payload": {"kind": "command", "argv": ["ls"], "cwd": "here"}}),
            "CRON_COMMAND_INVALID",
            "command cwd",
        ),
        (
            json!({"sessionTarget": "main"}),
            "CRON_TARGET_PAYLOAD_MISMATCH",
            "main cron jobs require",
        ),
        (
            json!({"payload": {"kind": "systemEvent"}}),
            "CRON_PAYLOAD_INCOMPLETE",
            "cron.update payload.kind=\"systemEvent\" requires text",
        ),
        (
            json!({"delivery": {"mode": "webhook"}}),
            "CRON_WEBHOOK_URL_INVALID",
            "cron webhook delivery",
        ),
        (
            json!({"delivery": {"mode": "webhook", "to": "http://"}}),
            "CRON_WEBHOOK_URL_INVALID",
            "cron webhook delivery",
        ),
        (
            json!({"schedule": {"kind": "cron", "expr": "0 0 30 2 *"}}),
            "CRON_NEVER_FIRES",
            "cron expression",
        ),
        (
            json!({"state": {"lastError": "x"}}),
            "CRON_STATE_READ_ONLY",
            "cron job state",
        ),
    ];
    for (patch, code, message) in cases {
        let error = update(&hourly(), patch.clone(), NOW).expect_err("refused");
        assert_eq!(error.detail_code(), Some(code), "{patch}");
        assert!(error.message.starts_with(message), "{}", error.message);
    }
}

#[test]
fn members_are_merged_cleared_and_kept() {
    let job = update(
        &hourly(),
        json!({"description": "d", "agentId": "Ops", "sessionKey": "k", "failureAlert": {"after": 3},
            "delivery": {"mode": "webhook", "to": "https://example.com/h"}, "state": {}}),
        NOW,
    )
    .unwrap();
    let job = update(
        &job,
        json!({"description": " ", "agentId": null, "sessionKey": null,
            "failureAlert": {"cooldownMs": 5}, "delivery": {"bestEffort": true}}),
        NOW,
    )
    .unwrap();
    let job = shown(&job);
    for gone in ["description", "agentId", "sessionKey"] {
        assert_eq!(job.get(gone), None, "{gone}");
    }
    assert_eq!(job["failureAlert"], json!({"after": 3, "cooldownMs": 5}));
    assert_eq!(
        job["delivery"],
        json!({"mode": "webhook", "to": "https://example.com/h", "bestEffort": true})
    );
}

#[test]
fn a_spread_stays_with_its_expression() {
    let exact = json!({"schedule": {"kind": "cron", "expr": "0 * * * *", "staggerMs": 7_000}});
    let job = update(&hourly(), exact, NOW).unwrap();
    let moved = json!({"schedule": {"kind": "cron", "expr": "0 * * * *", "tz": "Asia/Tokyo"}});
    let job = update(&job, moved, NOW).unwrap();
    assert_eq!(
        shown(&job)["schedule"],
        json!({"kind": "cron", "expr": "0 * * * *", "tz": "Asia/Tokyo", "staggerMs": 7_000})
    );
    let other = json!({"schedule": {"kind": "cron", "expr": "0 */2 * * *"}});
    let job = update(&job, other, NOW).unwrap();
    assert_eq!(
        shown(&job)["schedule"],
        json!({"kind": "cron", "expr": "0 */2 * * *", "staggerMs": 300_000})
    );
}

#[test]
fn a_passed_one_shot_is_not_enabled_into_nothing() {
    let params = json!({"name": "n", "enabled": false, "schedule": {"kind": "at", "at": (NOW + 1_000).to_string()},
        "payload": {"kind": "systemEvent", "text": "x"}});
    let job = add(params, ID, NOW).unwrap();
    let error = update(&job, json!({"enabled": true}), NOW + 600_000).unwrap_err();
    assert_eq!(error.detail_code(), Some("CRON_AT_PAST"));
    assert!(update(&job, json!({"name": "later"}), NOW + 600_000).is_ok());
    assert!(update(&job, json!({"enabled": true}), NOW).is_ok());
}

fn command(extra: &Value) -> Value {
    let mut job = json!({"name": "backup", "schedule": {"kind": "every", "everyMs": 60_000},
        "payload": {"argv": ["/bin/true"], "timeoutSeconds": 1.5}});
    for (key, value) in extra.as_object().expect("members") {
        job[key] = value.clone();
    }
    job
}

#[test]
fn a_command_is_a_payload_of_its_own() {
    let job = add(command(&json!({})), ID, NOW).unwrap();
    let shown = shown(&job);
    assert_eq!(
        shown["payload"],
        json!({"kind": "command", "argv": ["/bin/true"], "timeoutSeconds": 1.5})
    );
    assert_eq!(shown["sessionTarget"], "isolated");
    let job = update(
        &job,
        json!({"payload": {"kind": "command", "env": {"A": "b"}}}),
        NOW,
    )
    .unwrap();
    assert_eq!(
        serde_json::to_value(show::job(&job).unwrap().payload).unwrap(),
        json!({"kind": "command", "argv": ["/bin/true"], "env": {"A": "b"}, "timeoutSeconds": 1.5})
    );
    let main = add(command(&json!({"sessionTarget": "main"})), ID, NOW).unwrap_err();
    assert_eq!(main.detail_code(), Some("CRON_TARGET_PAYLOAD_MISMATCH"));
    let odd = add(
        command(&json!({"payload": {"kind": "command", "argv": []}})),
        ID,
        NOW,
    );
    assert_eq!(
        odd.unwrap_err().message,
        "invalid cron.add params: at /payload/argv: must NOT have fewer than 1 items"
    );
}

#[test]
fn policies_reach_the_planner() {
    let job = add(
        command(
            &json!({"catchUp": {"mode": "all", "max": 3, "maxAgeMs": 5_000},
            "overlap": "queue", "disableAfter": false}),
        ),
        ID,
        NOW,
    )
    .unwrap();
    assert_eq!(
        job.plan.catch_up,
        cron::CatchUp {
            mode: CatchUpMode::All { max: 3 },
            max_age_ms: Some(5_000)
        }
    );
    assert_eq!(job.plan.overlap, Overlap::QueueOne);
    assert_eq!(job.plan.disable_after, None);
    let job = update(
        &job,
        json!({"catchUp": {"mode": "none"}, "overlap": "skip", "disableAfter": 3}),
        NOW,
    )
    .unwrap();
    assert_eq!(job.plan.catch_up.mode, CatchUpMode::None);
    assert_eq!(job.plan.overlap, Overlap::Skip);
    assert_eq!(job.plan.disable_after, Some(3));
}

#[test]
fn the_current_session_is_the_one_that_is_named() {
    let turn = json!({"name": "n", "schedule": {"kind": "every", "everyMs": 60_000},
        "payload": {"message": "m"}, "sessionTarget": "current", "sessionKey": "agent:main:Work"});
    let job = add(turn, ID, NOW).unwrap();
    assert_eq!(
        show::job(&job).unwrap().session_target,
        "session:agent:main:Work"
    );
}

#[test]
fn a_revision_changes_with_what_an_operator_sets_and_with_nothing_else() {
    let job = hourly();
    let revision = |job: &CronJob| show::job(job).unwrap().config_revision.unwrap();
    let before = revision(&job);
    assert!(before.starts_with("sha256:") && before.len() == 71);
    let off = update(&job, json!({"enabled": false}), NOW + 5).unwrap();
    assert_eq!(revision(&off), before);
    let renamed = update(&job, json!({"name": "x"}), NOW + 5).unwrap();
    assert_ne!(revision(&renamed), before);
    let stale = patched(&renamed, json!({"name": "y"}), Some(&before), &house(), NOW).unwrap_err();
    assert_eq!(stale.detail_code(), Some("CRON_JOB_CHANGED"));
    let current = revision(&renamed);
    assert!(
        patched(
            &renamed,
            json!({"name": "y"}),
            Some(&current),
            &house(),
            NOW
        )
        .is_ok()
    );
}

#[test]
fn a_declaration_adds_changes_or_leaves_alone() {
    let declare = |extra: &Value, found: Option<&CronJob>, now: i64| {
        let mut params = command(&json!({"declarationKey": "backup"}));
        for (key, value) in extra.as_object().unwrap() {
            params[key] = value.clone();
        }
        declared(
            parsed(params).unwrap(),
            found,
            JobId::from(ID),
            &house(),
            now,
        )
        .unwrap()
    };
    let first = declare(&json!({}), None, NOW).expect("a new job");
    assert_eq!(first.declaration_key.as_deref(), Some("backup"));
    let first = kept(first, NOW);
    assert!(declare(&json!({}), Some(&first), NOW + 90_000).is_none());
    let renamed = declare(&json!({"name": "other"}), Some(&first), NOW + 90_000)
        .expect("it is to be changed");
    assert_eq!(renamed.plan.id, first.plan.id);
    assert_eq!(
        renamed.plan.schedule, first.plan.schedule,
        "its anchor stays"
    );
    assert_eq!(renamed.created_at_ms, first.created_at_ms);
    // Disabled by hand, it stays disabled, unless the declaration says otherwise.
    let off = update(&first, json!({"enabled": false}), NOW).unwrap();
    assert!(declare(&json!({}), Some(&off), NOW).is_none());
    let on = declare(&json!({"enabled": true}), Some(&off), NOW).expect("it is to be enabled");
    assert!(on.plan.state.enabled);
}
