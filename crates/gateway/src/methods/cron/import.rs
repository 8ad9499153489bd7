//! A job as OpenClaw keeps it in `jobs.json`, brought into the form of a job here.
//!
//! What the shape of `cron.add` knows is read as if it were added now; what it does not know is kept
//! as it was (`imported`). Nothing is changed without a word: a job that would mean something else
//! here does not come, and one that cannot be due comes disabled, with the reason in its description.

use clawgate_core::{
    Dialect, JobId,
    cron::{CronExpr, DisableReason, Job as Plan, Schedule as Due, Zone, parse_at},
};
use clawgate_protocol::{
    ErrorShape,
    cron::{Job, JobState, Payload, Schedule, add_shape},
    shape::{self, Shape},
};
use clawgate_store::{KeepJob, LastRun};
use serde_json::{Map, Value};

use super::{
    input,
    job::{
        AddParams, House, check_kind, delivery_mode, keep, known_target, planned, settings,
        settle_target,
    },
};

/// Members of `state` that have a place of their own here.
const STATE: &[&str] = &[
    "nextRunAtMs",
    "runningAtMs",
    "lastRunAtMs",
    "lastRunStatus",
    "lastStatus",
    "lastError",
    "lastErrorReason",
    "lastDurationMs",
    "consecutiveErrors",
    "lastDelivered",
    "lastDeliveryStatus",
    "lastDeliveryError",
    "lastFailureAlertAtMs",
];

/// A job that comes over.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    /// What is kept.
    pub(crate) keep: KeepJob,
    /// The last run that ended there.
    pub(crate) last_run: Option<LastRun>,
    /// When its failures were told last.
    pub(crate) alerted_at_ms: Option<i64>,
    /// Why it is disabled here, when it cannot be due here.
    pub(crate) stopped: Option<String>,
    /// Whether its results go to a chat channel, which nothing here reaches.
    pub(crate) announces: bool,
    /// Whether it needs an agent's turn, which is not served here.
    pub(crate) needs_agent: bool,
    /// The slot that passed there without a run, if one did: the job's catch-up policy decides it
    /// at the next start.
    pub(crate) overdue_ms: Option<i64>,
    /// Whether it was in the middle of a run when the file was written.
    pub(crate) was_running: bool,
}

/// Reads one job of `jobs.json`.
///
/// # Errors
/// Why it cannot come.
pub(crate) fn job(found: &Value, house: &House, now_ms: i64) -> Result<Imported, String> {
    let Value::Object(mut found) = found.clone() else {
        return Err("it is not an object".to_owned());
    };
    // Absent and null mean the same in a file.
    found.retain(|_, value| !value.is_null());
    let id = match found.shift_remove("id") {
        Some(Value::String(id)) if !id.trim().is_empty() => JobId::new(id),
        _ => return Err("it has no id".to_owned()),
    };
    let created_at_ms = take_ms(&mut found, "createdAtMs").unwrap_or(now_ms);
    let updated_at_ms = take_ms(&mut found, "updatedAtMs").unwrap_or(created_at_ms);
    let mut state = match found.shift_remove("state") {
        Some(Value::Object(state)) => state,
        _ => Map::new(),
    };
    let (params, mut rest) = read(found).map_err(|error| error.message)?;
    let known = take_state(&mut state);
    if !state.is_empty() {
        rest.insert("state".to_owned(), Value::Object(state));
    }

    let mut job = Job {
        id: id.to_string(),
        agent_id: params.agent_id,
        effective_agent_id: None,
        session_key: params.session_key,
        name: params.name,
        description: params.description,
        enabled: params.enabled.unwrap_or(true),
        delete_after_run: params.delete_after_run,
        created_at_ms,
        updated_at_ms,
        schedule: params.schedule,
        session_target: params.session_target,
        wake_mode: params.wake_mode.unwrap_or_else(|| "now".to_owned()),
        payload: params.payload,
        delivery: params.delivery,
        failure_alert: params.failure_alert,
        display_name: params.display_name,
        declaration_key: params.declaration_key,
        catch_up: params.catch_up,
        overlap: params.overlap,
        disable_after: params.disable_after,
        config_revision: None,
        state: JobState::default(),
        imported: (!rest.is_empty()).then_some(Value::Object(rest)),
    };
    let (due, mut stopped) = schedule(&mut job, house, now_ms).map_err(|error| error.message)?;
    if let Err(error) = check_kind(&job, house) {
        stopped.get_or_insert(error.message);
    }
    if let Some(why) = &stopped {
        job.enabled = false;
        let note = format!("Disabled when it was imported: {why}");
        job.description = Some(match job.description.take() {
            Some(text) => format!("{text}\n{note}"),
            None => note,
        });
    }
    let mut plan = Plan::new(id, due);
    settings(&job, &mut plan);
    start(&mut plan, &known, now_ms);
    let overdue_ms = plan.state.next_slot_ms.filter(|slot| *slot <= now_ms);
    Ok(Imported {
        last_run: known.last_run,
        alerted_at_ms: known.alerted_at_ms,
        stopped,
        announces: delivery_mode(&job) == Some("announce"),
        needs_agent: matches!(job.payload, Payload::AgentTurn { .. }),
        overdue_ms,
        was_running: known.running_at_ms.is_some(),
        keep: keep(job, plan),
    })
}

/// The params of an addition that says the same, and what they have no place for.
fn read(mut found: Map<String, Value>) -> Result<(AddParams, Map<String, Value>), ErrorShape> {
    let mut rest = Map::new();
    // An addition may be wrapped in these. A job in a file is not.
    for wrapper in ["job", "data"] {
        if let Some(value) = found.shift_remove(wrapper) {
            rest.insert(wrapper.to_owned(), value);
        }
    }
    let says_delete = found.contains_key("deleteAfterRun");
    let mut params = input::added(Value::Object(found));
    if !says_delete && let Some(params) = params.as_object_mut() {
        // Left out means no in a file, and yes for a one-shot that is added.
        params.shift_remove("deleteAfterRun");
    }
    let shape = add_shape(&params);
    rest.extend(take_unknown(&mut params, shape));
    known_target(&params)?;
    shape::check(&params, shape, Dialect::V4).map_err(ErrorShape::invalid)?;
    settle_target(&mut params)?;
    let params =
        serde_json::from_value(params).map_err(|error| ErrorShape::invalid(error.to_string()))?;
    Ok((params, rest))
}

/// Takes out what a shape has no field for.
fn take_unknown(value: &mut Value, shape: &Shape) -> Map<String, Value> {
    let mut rest = Map::new();
    let Value::Object(members) = value else {
        return rest;
    };
    let fields = match shape {
        Shape::Object(fields) => Some(*fields),
        Shape::AnyOf(shapes) => shapes.iter().find_map(|shape| match shape {
            Shape::Object(fields) if fits(members, fields) => Some(*fields),
            _ => None,
        }),
        _ => None,
    };
    let Some(fields) = fields else {
        return rest;
    };
    let names: Vec<String> = members.keys().cloned().collect();
    for name in names {
        match fields.iter().find(|field| field.name == name) {
            Some(field) => {
                let inner = members
                    .get_mut(&name)
                    .map(|value| take_unknown(value, &field.shape))
                    .unwrap_or_default();
                if !inner.is_empty() {
                    rest.insert(name, Value::Object(inner));
                }
            }
            None => {
                if let Some(value) = members.shift_remove(&name) {
                    rest.insert(name, value);
                }
            }
        }
    }
    rest
}

/// Whether an object is of the kind that these fields describe.
fn fits(members: &Map<String, Value>, fields: &[shape::Field]) -> bool {
    fields.iter().all(|field| match field.shape {
        Shape::Const(word) => members.get(field.name).is_some_and(|value| value == word),
        _ => true,
    })
}

/// What happened to the job there, as far as it has a place here.
#[derive(Debug, Default)]
struct Known {
    next_run_at_ms: Option<i64>,
    running_at_ms: Option<i64>,
    consecutive_errors: u32,
    alerted_at_ms: Option<i64>,
    last_run: Option<LastRun>,
}

fn take_state(state: &mut Map<String, Value>) -> Known {
    let text = |key: &str| state.get(key).and_then(Value::as_str).map(str::to_owned);
    let ms = |key: &str| state.get(key).and_then(Value::as_i64);
    let status = text("lastRunStatus")
        .or_else(|| text("lastStatus"))
        .filter(|status| matches!(status.as_str(), "ok" | "error" | "skipped"));
    let known = Known {
        next_run_at_ms: ms("nextRunAtMs"),
        running_at_ms: ms("runningAtMs"),
        consecutive_errors: ms("consecutiveErrors")
            .and_then(|errors| u32::try_from(errors).ok())
            .unwrap_or(0),
        alerted_at_ms: ms("lastFailureAlertAtMs"),
        last_run: ms("lastRunAtMs")
            .zip(status)
            .map(|(at_ms, status)| LastRun {
                at_ms,
                status,
                duration_ms: ms("lastDurationMs").unwrap_or(0),
                error: text("lastError"),
                error_class: text("lastErrorReason"),
                delivery_status: text("lastDeliveryStatus"),
                delivery_error: text("lastDeliveryError"),
            }),
    };
    for key in STATE {
        state.shift_remove(*key);
    }
    known
}

/// Reads the schedule. One that is understood and never due comes with the reason; one that is not
/// understood, or of a zone that nobody knows here, is refused: it would run at other times.
fn schedule(
    job: &mut Job,
    house: &House,
    now_ms: i64,
) -> Result<(Due, Option<String>), ErrorShape> {
    let mut now_ms = now_ms;
    match &mut job.schedule {
        // A moment that has passed is no mistake of somebody who adds it now.
        Schedule::At { at } => now_ms = parse_at(at).map_or(now_ms, |at| at.min(now_ms)),
        Schedule::Every { anchor_ms, .. } => {
            anchor_ms.get_or_insert(job.created_at_ms);
        }
        Schedule::Cron { .. } => {}
    }
    planned(&mut job.schedule, &house.zone, now_ms)
        .map(|due| (due, None))
        .or_else(|error| {
            let code = error
                .details
                .as_ref()
                .and_then(|details| details.get("code"));
            let is_understood =
                code.is_some_and(|code| code == "CRON_NEVER_FIRES" || code == "CRON_AT_TOO_FAR");
            match never_due(&job.schedule, &house.zone).filter(|_| is_understood) {
                Some(due) => Ok((due, Some(error.message))),
                None => Err(error),
            }
        })
}

/// The schedule without asking when it is due.
fn never_due(schedule: &Schedule, host: &Zone) -> Option<Due> {
    match schedule {
        Schedule::At { at } => parse_at(at).ok().map(|at_ms| Due::At { at_ms }),
        Schedule::Every { .. } => None,
        Schedule::Cron {
            expr,
            tz,
            stagger_ms,
        } => Some(Due::Cron {
            // Without reading it again: what has no date is no expression that could be read.
            expr: CronExpr::stored(expr),
            tz: match tz {
                Some(tz) => Zone::parse(tz).ok()?,
                None => host.clone(),
            },
            stagger_ms: stagger_ms.unwrap_or(0),
        }),
    }
}

/// Where the job goes on. A slot that was due there and did not begin is the first one here; a run
/// that was under way had its slot.
fn start(plan: &mut Plan, known: &Known, now_ms: i64) {
    let id = plan.id.clone();
    plan.state.consecutive_errors = known.consecutive_errors;
    if !plan.state.enabled {
        return;
    }
    let next = match &plan.schedule {
        Due::At { at_ms } => {
            let is_done = known
                .last_run
                .as_ref()
                .is_some_and(|last| last.status != "error" && last.at_ms >= *at_ms);
            (!is_done).then_some(*at_ms)
        }
        schedule @ (Due::Every { .. } | Due::Cron { .. }) => {
            let missed = known
                .next_run_at_ms
                .filter(|next| *next <= now_ms && known.running_at_ms.is_none());
            schedule.next_after(id.as_str(), missed.map_or(now_ms, |next| next - 1))
        }
    };
    plan.state.next_slot_ms = next;
    plan.state.next_run_at_ms = next;
    if next.is_none() {
        plan.state.enabled = false;
        plan.state.disabled = Some(if plan.is_one_shot() {
            DisableReason::OneShotDone
        } else {
            DisableReason::ScheduleOver
        });
    }
}

fn take_ms(found: &mut Map<String, Value>, key: &str) -> Option<i64> {
    found
        .shift_remove(key)
        .and_then(|value| value.as_i64())
        .filter(|ms| *ms >= 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scheduler::Defaults;

    /// 2026-11-23T02:06:34.228Z.
    const NOW: i64 = 1_795_399_594_228;

    fn house() -> House {
        House {
            default_agent: "main".to_owned(),
            zone: Zone::utc(),
            notices: Defaults::default(),
        }
    }

    fn with(schedule: Value, state: Value) -> Value {
        let mut job = json!({"id": "j", "name": "n", "enabled": true, "createdAtMs": 5,
            "updatedAtMs": 6, "sessionTarget": "main", "wakeMode": "now",
            "payload": {"kind": "systemEvent", "text": "x"}});
        job["schedule"] = schedule;
        job["state"] = state;
        job
    }

    fn taken(found: &Value) -> Imported {
        job(found, &house(), NOW).unwrap_or_else(|why| panic!("{found}: {why}"))
    }

    fn definition(imported: &Imported) -> Job {
        serde_json::from_str(&imported.keep.definition).unwrap()
    }

    #[test]
    fn what_has_no_place_here_is_kept_as_it_was() {
        let mut found = with(
            json!({"kind": "every", "everyMs": 60_000, "jitter": 3}),
            json!({"lastRunAtMs": 1, "lastStatus": "ok", "scheduleErrorCount": 2}),
        );
        found["data"] = json!({"mine": 1});
        found["color"] = json!(["red"]);
        found["payload"]["mood"] = json!("calm");
        let imported = taken(&found);
        assert_eq!(
            definition(&imported).imported,
            Some(
                json!({"data": {"mine": 1}, "schedule": {"jitter": 3}, "payload": {"mood": "calm"},
                "color": ["red"], "state": {"scheduleErrorCount": 2}})
            )
        );
        assert_eq!(imported.last_run.map(|last| last.at_ms), Some(1));
        assert_eq!(imported.keep.created_at_ms, 5);
    }

    #[test]
    fn what_cannot_be_due_comes_disabled_and_what_is_not_understood_does_not_come() {
        let never = taken(&with(
            json!({"kind": "cron", "expr": "0 0 30 2 *", "tz": "UTC"}),
            json!({}),
        ));
        assert!(!never.keep.plan.state.enabled);
        assert_eq!(never.keep.plan.state.next_slot_ms, None);
        let text = definition(&never).description.unwrap();
        assert!(
            text.starts_with("Disabled when it was imported: ") && text.contains("0 0 30 2 *"),
            "{text}"
        );
        for schedule in [
            json!({"kind": "cron", "expr": "0 7 * * *", "tz": "Mars/Olympus"}),
            json!({"kind": "cron", "expr": "every day"}),
            json!({"kind": "stream", "command": ["x"]}),
        ] {
            let found = with(schedule, json!({}));
            assert!(job(&found, &house(), NOW).is_err(), "{found}");
        }
        // A bug of the original leaves such pairs behind.
        let mut mixed = with(json!({"kind": "every", "everyMs": 60_000}), json!({}));
        mixed["sessionTarget"] = json!("isolated");
        assert!(taken(&mixed).stopped.is_some());
    }

    #[test]
    fn a_slot_that_passed_there_is_the_first_one_here() {
        let daily = json!({"kind": "cron", "expr": "0 1 * * *", "tz": "UTC"});
        let next = |state| {
            taken(&with(daily.clone(), state))
                .keep
                .plan
                .state
                .next_slot_ms
        };
        // 2026-11-23T01:00Z passed; 24 hours later is the next.
        let passed = 1_795_395_600_000;
        assert_eq!(next(json!({"nextRunAtMs": passed})), Some(passed));
        assert_eq!(
            next(json!({"nextRunAtMs": passed, "runningAtMs": passed + 2})),
            Some(passed + 86_400_000)
        );
        assert_eq!(next(json!({})), Some(passed + 86_400_000));
    }

    #[test]
    fn a_one_shot_that_ran_is_done_and_one_that_did_not_is_due() {
        let at = json!({"kind": "at", "at": "2026-11-23T01:00:00.000Z"});
        let due = taken(&with(at.clone(), json!({})));
        assert_eq!(due.overdue_ms, Some(1_795_395_600_000));
        assert_eq!(definition(&due).delete_after_run, None);
        let done = taken(&with(
            at,
            json!({"lastRunAtMs": 1_795_395_600_001_i64, "lastStatus": "ok"}),
        ));
        assert!(!done.keep.plan.state.enabled);
        assert_eq!(done.overdue_ms, None);
    }
}
