//! From checked params to a job: what the shapes cannot say. A job is looked at as a whole, and
//! before anything of it is kept.

use axum::http::Uri;
use clawgate_core::{
    JobId,
    cron::{Job as Plan, Schedule as Due, ScheduleError, Zone, check_at, format_at},
};
use clawgate_protocol::{
    ErrorShape,
    cron::{Job, JobState, Payload, Schedule},
    frame::to_json,
};
use clawgate_store::{CronJob, KeepJob};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::show;

/// Params of `cron.add` after the shape.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddParams {
    name: String,
    agent_id: Option<String>,
    session_key: Option<String>,
    description: Option<String>,
    enabled: Option<bool>,
    delete_after_run: Option<bool>,
    schedule: Schedule,
    session_target: String,
    wake_mode: Option<String>,
    payload: Payload,
    delivery: Option<Value>,
    failure_alert: Option<Value>,
}

/// The zone of this machine, or UTC when it has no name that could be kept.
pub(super) fn host_zone() -> Zone {
    jiff::tz::TimeZone::system()
        .iana_name()
        .and_then(|name| Zone::parse(name).ok())
        .unwrap_or_else(Zone::utc)
}

/// A session target that nobody knows is refused by name. (The original drops it and runs the
/// job elsewhere.)
pub(super) fn known_target(params: &Value) -> Result<(), ErrorShape> {
    match params.get("sessionTarget").and_then(Value::as_str) {
        None | Some("main" | "isolated") => Ok(()),
        Some(other) => Err(refused(
            "CRON_SESSION_TARGET_UNKNOWN",
            format!("unknown sessionTarget {other:?}: expected \"main\" or \"isolated\""),
        )),
    }
}

/// A new job.
pub(super) fn new(
    params: AddParams,
    id: JobId,
    default_agent: &str,
    host: &Zone,
    now_ms: i64,
) -> Result<KeepJob, ErrorShape> {
    let mut job = Job {
        id: id.to_string(),
        agent_id: params.agent_id,
        session_key: params.session_key,
        name: params.name,
        description: params.description,
        enabled: params.enabled.unwrap_or(true),
        delete_after_run: params.delete_after_run,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        schedule: params.schedule,
        session_target: params.session_target,
        wake_mode: params.wake_mode.unwrap_or_else(|| "now".to_owned()),
        payload: params.payload,
        delivery: params.delivery,
        failure_alert: params.failure_alert,
        state: JobState::default(),
    };
    let due = planned(&mut job.schedule, host, now_ms)?;
    check(&job, default_agent)?;
    let mut plan = Plan::new(id, due);
    plan.delete_after_run = job.delete_after_run.unwrap_or(false);
    plan.state.enabled = job.enabled;
    Ok(keep(job, plan))
}

/// An existing job with a checked patch on it.
pub(super) fn patched(
    kept: &CronJob,
    patch: Value,
    default_agent: &str,
    host: &Zone,
    now_ms: i64,
) -> Result<KeepJob, ErrorShape> {
    let mut job = show::job(kept)?;
    job.state = JobState::default();
    job.updated_at_ms = now_ms;
    let mut plan = kept.plan.clone();
    let Value::Object(patch) = patch else {
        return Ok(keep(job, plan));
    };
    let was_main = job.session_target == "main";
    let is_rescheduled = patch.contains_key("schedule");
    let has_delivery = patch.contains_key("delivery");
    for (key, value) in patch {
        apply(&mut job, &key, value)?;
    }
    if is_rescheduled {
        plan.schedule = planned(&mut job.schedule, host, now_ms)?;
    }
    // Results of a job that moves to the main session are told there.
    if job.session_target == "main"
        && !was_main
        && !has_delivery
        && delivery_mode(&job) != Some("webhook")
    {
        job.delivery = None;
    }
    check(&job, default_agent)?;
    let is_woken = job.enabled && !kept.plan.state.enabled;
    if is_woken && plan.schedule.first_after(&job.id, now_ms).is_none() {
        return Err(over(&plan.schedule, now_ms));
    }
    plan.delete_after_run = job.delete_after_run.unwrap_or(false);
    plan.state.enabled = job.enabled;
    Ok(keep(job, plan))
}

/// One member of a patch.
fn apply(job: &mut Job, key: &str, value: Value) -> Result<(), ErrorShape> {
    match key {
        "name" => {
            job.name = typed::<String>(value)?.trim().to_owned();
            if job.name.is_empty() {
                return Err(refused("CRON_NAME_REQUIRED", "cron job name is required"));
            }
        }
        "agentId" => job.agent_id = typed(value)?,
        "sessionKey" => job.session_key = typed(value)?,
        "description" => {
            job.description = Some(typed::<String>(value)?).filter(|text| !text.is_empty());
        }
        "enabled" => job.enabled = typed(value)?,
        "deleteAfterRun" => job.delete_after_run = typed(value)?,
        "schedule" => {
            let old = std::mem::replace(&mut job.schedule, typed(value)?);
            keep_stagger(&old, &mut job.schedule);
        }
        "sessionTarget" => job.session_target = typed(value)?,
        "wakeMode" => job.wake_mode = typed(value)?,
        "payload" => job.payload = patched_payload(&job.payload, value)?,
        "delivery" => {
            job.delivery = Some(merged(job.delivery.take(), value));
        }
        "failureAlert" => {
            job.failure_alert = Some(merged(job.failure_alert.take(), value));
        }
        "state" if value.as_object().is_some_and(Map::is_empty) => {}
        // What happened is not edited. (The original lets any caller rewrite it.)
        "state" => {
            return Err(refused(
                "CRON_STATE_READ_ONLY",
                "cron job state says what happened and cannot be changed; enable the job to clear its failures",
            ));
        }
        other => {
            return Err(ErrorShape::invalid(format!(
                "invalid cron.update params: at /patch: unexpected property '{other}'"
            )));
        }
    }
    Ok(())
}

/// The spread of an expression stays with it; another expression gets its own. (The original
/// spreads `15 3 * * *` over five minutes when it replaces an hourly one.)
fn keep_stagger(old: &Schedule, new: &mut Schedule) {
    if let (
        Schedule::Cron {
            expr: old_expr,
            stagger_ms: Some(old),
            ..
        },
        Schedule::Cron {
            expr,
            stagger_ms: stagger @ None,
            ..
        },
    ) = (old, new)
        && old_expr == expr
    {
        *stagger = Some(*old);
    }
}

/// A payload of the same kind is merged, of another kind it replaces and must be whole.
fn patched_payload(old: &Payload, patch: Value) -> Result<Payload, ErrorShape> {
    let kind = patch
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let (old_kind, needs) = match old {
        Payload::SystemEvent { .. } => ("systemEvent", "message"),
        Payload::AgentTurn { .. } => ("agentTurn", "text"),
    };
    if kind == old_kind {
        let old = serde_json::to_value(old).unwrap_or_default();
        return typed(merged(Some(old), patch));
    }
    if patch.get(needs).is_none() {
        return Err(refused(
            "CRON_PAYLOAD_INCOMPLETE",
            format!("cron.update payload.kind=\"{kind}\" requires {needs}"),
        ));
    }
    typed(patch)
}

/// Members of a patch over what is there; blank texts clear.
fn merged(old: Option<Value>, patch: Value) -> Value {
    let patch = match patch {
        Value::Object(patch) => patch,
        other => return other,
    };
    let mut merged = match old {
        Some(Value::Object(old)) => old,
        _ => Map::new(),
    };
    for (key, value) in patch {
        if value.as_str().is_some_and(|text| text.trim().is_empty()) {
            merged.shift_remove(&key);
        } else {
            merged.insert(key, value);
        }
    }
    Value::Object(merged)
}

/// Reads a schedule, and writes it as it will be shown: instants re-serialised, the anchor and
/// the default spread named.
fn planned(schedule: &mut Schedule, host: &Zone, now_ms: i64) -> Result<Due, ErrorShape> {
    let due = match schedule {
        Schedule::At { at } => Due::at(at, now_ms),
        Schedule::Every {
            every_ms,
            anchor_ms,
        } => Due::every(*every_ms, *anchor_ms, now_ms),
        Schedule::Cron {
            expr,
            tz,
            stagger_ms,
        } => Due::cron(expr, tz.as_deref(), *stagger_ms, host, now_ms),
    }
    .map_err(|error| unscheduled(&error))?;
    match (&due, schedule) {
        (Due::At { at_ms }, Schedule::At { at }) => *at = format_at(*at_ms),
        (Due::Every { anchor_ms: due, .. }, Schedule::Every { anchor_ms, .. }) => {
            *anchor_ms = Some(*due);
        }
        (
            Due::Cron {
                expr: due,
                stagger_ms: spread,
                ..
            },
            Schedule::Cron {
                expr, stagger_ms, ..
            },
        ) => {
            *expr = due.as_str().to_owned();
            if stagger_ms.is_none() && *spread > 0 {
                *stagger_ms = Some(*spread);
            }
        }
        _ => {}
    }
    Ok(due)
}

/// What kind of job may do what, and where its results may go.
fn check(job: &Job, default_agent: &str) -> Result<(), ErrorShape> {
    let is_main = job.session_target == "main";
    match (&job.payload, is_main) {
        (Payload::AgentTurn { .. }, true) => {
            return Err(refused(
                "CRON_TARGET_PAYLOAD_MISMATCH",
                "main cron jobs require payload.kind=\"systemEvent\"",
            ));
        }
        (Payload::SystemEvent { .. }, false) => {
            return Err(refused(
                "CRON_TARGET_PAYLOAD_MISMATCH",
                "isolated cron jobs require payload.kind=\"agentTurn\"",
            ));
        }
        _ => {}
    }
    if let Some(agent) = job
        .agent_id
        .as_deref()
        .filter(|agent| is_main && *agent != default_agent)
    {
        return Err(refused(
            "CRON_AGENT_NOT_DEFAULT",
            format!(
                "cron: sessionTarget \"main\" is only valid for the default agent. Use sessionTarget \
                 \"isolated\" with payload.kind \"agentTurn\" for non-default agents (agentId: {agent})"
            ),
        ));
    }
    let Some(delivery) = &job.delivery else {
        return Ok(());
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let mode = text(delivery, "mode");
    let to = text(delivery, "to");
    match mode.as_deref() {
        Some("announce") if is_main => {
            return Err(refused(
                "CRON_DELIVERY_UNSUPPORTED",
                "cron channel delivery config is only supported for sessionTarget=\"isolated\"",
            ));
        }
        Some("announce") if text(delivery, "channel").as_deref() == Some("telegram") => {
            telegram(to.as_deref().unwrap_or_default())?;
        }
        Some("webhook") if !is_web_address(to.as_deref()) => {
            return Err(refused(
                "CRON_WEBHOOK_URL_INVALID",
                "cron webhook delivery requires delivery.to to be a valid http(s) URL",
            ));
        }
        _ => {}
    }
    if let Some(failures) = delivery.get("failureDestination") {
        if is_main && mode.as_deref() != Some("webhook") {
            return Err(refused(
                "CRON_FAILURE_DESTINATION_UNSUPPORTED",
                "cron delivery.failureDestination is only supported for sessionTarget=\"isolated\" \
                 unless delivery.mode=\"webhook\"",
            ));
        }
        let is_webhook = text(failures, "mode").as_deref() == Some("webhook");
        if is_webhook && !is_web_address(text(failures, "to").as_deref()) {
            return Err(refused(
                "CRON_WEBHOOK_URL_INVALID",
                "cron webhook delivery requires delivery.failureDestination.to to be a valid http(s) URL",
            ));
        }
    }
    Ok(())
}

/// Telegram's topics stand behind a colon; a chat id with a slash reaches nobody.
fn telegram(to: &str) -> Result<(), ErrorShape> {
    let is_link = to.contains("://") || to.starts_with("t.me/");
    if is_link || !to.contains('/') {
        return Ok(());
    }
    Err(refused(
        "CRON_DELIVERY_TARGET_INVALID",
        format!(
            "Invalid Telegram delivery target \"{to}\". Use colon (:) as delimiter for topics, not \
             slash. Valid formats: -1001234567890, -1001234567890:123, -1001234567890:topic:123, \
             @username, https://t.me/username"
        ),
    ))
}

fn is_web_address(text: Option<&str>) -> bool {
    let uri = text.and_then(|text| text.trim().parse::<Uri>().ok());
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    })
}

fn delivery_mode(job: &Job) -> Option<&str> {
    job.delivery.as_ref()?.get("mode")?.as_str()
}

/// Why a job that would be enabled has nothing to wait for.
fn over(schedule: &Due, now_ms: i64) -> ErrorShape {
    match schedule {
        Due::At { at_ms } => match check_at(*at_ms, now_ms) {
            Err(error) => unscheduled(&error),
            Ok(()) => refused("CRON_NEVER_FIRES", "the job has no upcoming run time"),
        },
        Due::Cron { expr, .. } => unscheduled(&ScheduleError::NeverFires {
            expr: expr.as_str().to_owned(),
        }),
        Due::Every { .. } => refused("CRON_NEVER_FIRES", "the job has no upcoming run time"),
    }
}

fn unscheduled(error: &ScheduleError) -> ErrorShape {
    let code = match error {
        ScheduleError::FieldCount { .. }
        | ScheduleError::UnknownNickname { .. }
        | ScheduleError::Syntax { .. }
        | ScheduleError::Grammar { .. }
        | ScheduleError::ExprTooLong { .. } => "CRON_EXPRESSION_INVALID",
        ScheduleError::NeverFires { .. } => "CRON_NEVER_FIRES",
        ScheduleError::UnknownZone { .. } => "CRON_TIME_ZONE_UNKNOWN",
        ScheduleError::AtUnreadable { .. } => "CRON_AT_INVALID",
        ScheduleError::AtPast { .. } => "CRON_AT_PAST",
        ScheduleError::AtTooFar { .. } => "CRON_AT_TOO_FAR",
        ScheduleError::EveryOutOfRange { .. } | ScheduleError::AnchorOutOfRange => {
            "CRON_INTERVAL_INVALID"
        }
        ScheduleError::StaggerOutOfRange { .. } => "CRON_STAGGER_INVALID",
    };
    refused(code, error.to_string())
}

fn refused(code: &'static str, message: impl Into<String>) -> ErrorShape {
    ErrorShape::invalid(message).with_details(json!({"code": code}))
}

/// A member of a patch that the shape let through.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorShape> {
    serde_json::from_value(value)
        .map_err(|error| ErrorShape::invalid(format!("invalid cron.update params: {error}")))
}

fn keep(job: Job, plan: Plan) -> KeepJob {
    let searchable = [
        Some(&job.name),
        job.description.as_ref(),
        job.agent_id.as_ref(),
    ];
    let searchable: Vec<&str> = searchable
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    KeepJob {
        plan,
        definition: to_json(&job),
        searchable: searchable.join("\n"),
        created_at_ms: job.created_at_ms,
        updated_at_ms: job.updated_at_ms,
        name: job.name,
    }
}

#[cfg(test)]
mod tests;
