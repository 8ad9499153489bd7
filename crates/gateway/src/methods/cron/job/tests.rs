use clawgate_core::{
    Dialect,
    cron::{Planner, PlannerConfig},
};
use clawgate_protocol::{
    cron::{ADD, UPDATE},
    shape,
};

use super::*;
use crate::methods::cron::input;

/// 2026-11-23T02:06:34.228Z, when the capture was taken.
const CAPTURED_MS: i64 = 1_795_399_594_228;

fn add(params: Value, id: &str, now_ms: i64) -> Result<CronJob, ErrorShape> {
    let params = input::added(params);
    known_target(&params)?;
    shape::check(&params, &ADD, Dialect::V3)
        .map_err(|problems| ErrorShape::invalid(format!("invalid cron.add params: {problems}")))?;
    let params = serde_json::from_value(params).expect("the shape knows the types");
    let keep = new(params, JobId::from(id), "main", &Zone::utc(), now_ms)?;
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
    }
}

fn shown(kept: &CronJob) -> Value {
    let mut job = show::job(kept).expect("readable");
    // Ours alone.
    job.state.time_zone = None;
    serde_json::to_value(&job).expect("JSON")
}

/// What the original takes and clawgate refuses, with the reason.
const REFUSED_HERE: &[(&str, &str)] = &[
    // It would be enabled and never fire.
    ("ERR impossible date", "CRON_NEVER_FIRES"),
    // It would run somewhere else than asked.
    ("ERR current", "CRON_SESSION_TARGET_UNKNOWN"),
];
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
        let expected = &response["payload"];
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
        } else if response["ok"] == true {
            let got = shown(&got.expect(label));
            assert_eq!(got, *expected, "{label}");
            if !OTHER_ORDER.contains(&label) && !label.starts_with("rpc norm-") {
                assert_eq!(to_json(&got), to_json(expected), "{label}");
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
    shape::check(&params, &UPDATE, Dialect::V3).map_err(|problems| {
        ErrorShape::invalid(format!("invalid cron.update params: {problems}"))
    })?;
    let keep = patched(job, params["patch"].take(), "main", &Zone::utc(), now_ms)?;
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
            json!({"sessionTarget": "current"}),
            "CRON_SESSION_TARGET_UNKNOWN",
            "unknown sessionTarget",
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
