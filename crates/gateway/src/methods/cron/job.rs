//! From checked params to a job: what the shapes cannot say. A job is looked at as a whole, and
//! before anything of it is kept.

use clawgate_core::{
    JobId,
    agent::MAIN,
    cron::{
        self, CatchUpMode, DISABLE_AFTER, Job as Plan, Overlap, Schedule as Due, ScheduleError,
        Zone, check_at, format_at, parse_at,
    },
    session::SessionKey,
};
use clawgate_protocol::{
    ErrorShape,
    cron::{CatchUp, Job, JobState, Payload, Schedule},
    frame::to_json,
};
use clawgate_store::{CronJob, KeepJob};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::show;
use crate::{
    Gateway, error,
    outbound::check_url,
    scheduler::{Defaults, NO_CHANNEL, Route, routes},
};

/// Passed slots that run when `all` of them shall and nobody says how many.
const CATCH_UP_MAX_DEFAULT: u32 = 10;

/// Params of `cron.add` after the shape.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddParams {
    pub(super) declaration_key: Option<String>,
    pub(super) name: String,
    pub(super) agent_id: Option<String>,
    pub(super) session_key: Option<String>,
    pub(super) description: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) delete_after_run: Option<bool>,
    pub(super) schedule: Schedule,
    pub(super) session_target: String,
    pub(super) wake_mode: Option<String>,
    pub(super) payload: Payload,
    pub(super) delivery: Option<Value>,
    pub(super) failure_alert: Option<Value>,
    pub(super) display_name: Option<String>,
    pub(super) catch_up: Option<CatchUp>,
    pub(super) overlap: Option<String>,
    pub(super) disable_after: Option<Value>,
}

/// What a job is looked at against.
#[derive(Clone, Debug)]
pub(crate) struct House {
    pub(crate) default_agent: String,
    pub(crate) zone: Zone,
    pub(crate) notices: Defaults,
}

impl House {
    pub(super) fn of(gateway: &Gateway) -> Self {
        Self {
            default_agent: gateway.default_agent().to_owned(),
            zone: host_zone(),
            notices: gateway.config().cron.notices.clone(),
        }
    }
}

/// The zone of this machine, or UTC when it has no name that could be kept.
pub(crate) fn host_zone() -> Zone {
    jiff::tz::TimeZone::system()
        .iana_name()
        .and_then(|name| Zone::parse(name).ok())
        .unwrap_or_else(Zone::utc)
}

/// A session target that nobody knows is refused by name. (The original drops it and runs the
/// job elsewhere.)
pub(super) fn known_target(params: &Value) -> Result<(), ErrorShape> {
    match params.get("sessionTarget").and_then(Value::as_str) {
        None | Some("main" | "isolated" | "current") => Ok(()),
        Some(named) if named.strip_prefix("session:").is_some_and(is_session) => Ok(()),
        Some(other) => Err(refused(
            "CRON_SESSION_TARGET_UNKNOWN",
            format!(
                "unknown sessionTarget {other:?}: expected \"main\", \"isolated\", \"current\" or \
                 \"session:<key>\""
            ),
        )),
    }
}

fn is_session(key: &str) -> bool {
    SessionKey::read(key, None, MAIN).is_ok()
}

/// `current` is the session that the caller names; it is kept under that session's key, because
/// "current" means nothing later. A key that is none is refused: no run could use it.
pub(super) fn settle_target(params: &mut Value) -> Result<(), ErrorShape> {
    let key = params.get("sessionKey").and_then(Value::as_str);
    if key.is_some_and(|key| !is_session(key)) {
        return Err(refused(
            "SESSION_KEY_INVALID",
            "sessionKey is no key of a session",
        ));
    }
    if params.get("sessionTarget").and_then(Value::as_str) != Some("current") {
        return Ok(());
    }
    let key = params
        .get("sessionKey")
        .and_then(Value::as_str)
        .filter(|key| is_session(key));
    let Some(key) = key else {
        return Err(refused(
            "CRON_SESSION_REQUIRED",
            "sessionTarget \"current\" needs sessionKey, the session that it means",
        ));
    };
    let target = format!("session:{key}");
    params["sessionTarget"] = Value::from(target);
    Ok(())
}

/// A new job.
pub(super) fn new(
    params: AddParams,
    id: JobId,
    house: &House,
    now_ms: i64,
) -> Result<KeepJob, ErrorShape> {
    let mut job = Job {
        id: id.to_string(),
        agent_id: params.agent_id,
        effective_agent_id: None,
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
        display_name: params.display_name,
        declaration_key: params.declaration_key,
        catch_up: params.catch_up,
        overlap: params.overlap,
        disable_after: params.disable_after,
        config_revision: None,
        state: JobState::default(),
        imported: None,
    };
    let due = planned(&mut job.schedule, &house.zone, now_ms)?;
    check(&job, house)?;
    let mut plan = Plan::new(id, due);
    settings(&job, &mut plan);
    Ok(keep(job, plan))
}

/// A declared job: new, changed, or `None` when it is as it shall be. What is declared replaces
/// what was, except what only an operator sets by hand afterwards: whether it is enabled.
pub(super) fn declared(
    params: AddParams,
    found: Option<&CronJob>,
    id: JobId,
    house: &House,
    now_ms: i64,
) -> Result<Option<KeepJob>, ErrorShape> {
    let Some(found) = found else {
        return new(params, id, house, now_ms).map(Some);
    };
    let before = show::job(found)?;
    let says_enabled = params.enabled;
    let mut params = params;
    // An interval goes on from its anchor unless another one is named.
    if let (
        Schedule::Every {
            every_ms: new,
            anchor_ms: anchor @ None,
        },
        Schedule::Every {
            every_ms: old,
            anchor_ms,
        },
    ) = (&mut params.schedule, &before.schedule)
        && new == old
    {
        *anchor = *anchor_ms;
    }
    let enabled = says_enabled.unwrap_or(before.enabled);
    params.enabled = Some(enabled);
    let mut keep = new_in_place(params, found, house, now_ms)?;
    if before.config_revision.as_deref() == Some(&keep.revision) && enabled == before.enabled {
        return Ok(None);
    }
    keep.created_at_ms = found.created_at_ms;
    Ok(Some(keep))
}

/// A whole new definition for a job that exists.
fn new_in_place(
    params: AddParams,
    found: &CronJob,
    house: &House,
    now_ms: i64,
) -> Result<KeepJob, ErrorShape> {
    // A one-shot that is declared again in the same words has passed, and is not wrong for it.
    let same_moment = match (&params.schedule, &found.plan.schedule) {
        (Schedule::At { at }, Due::At { at_ms }) => parse_at(at).is_ok_and(|at| at == *at_ms),
        _ => false,
    };
    let at = if same_moment {
        now_ms.min(match found.plan.schedule {
            Due::At { at_ms } => at_ms,
            Due::Every { .. } | Due::Cron { .. } => now_ms,
        })
    } else {
        now_ms
    };
    let mut keep = new(params, found.plan.id.clone(), house, at)?;
    let mut job: Job = serde_json::from_str(&keep.definition)
        .map_err(|error| error::internal("reading a declared job", &error))?;
    job.created_at_ms = found.created_at_ms;
    job.updated_at_ms = now_ms;
    keep.definition = to_json(&job);
    keep.updated_at_ms = now_ms;
    let enabled = keep.plan.state.enabled;
    keep.plan.state = found.plan.state.clone();
    keep.plan.state.enabled = enabled;
    Ok(keep)
}

/// What a definition says about policies and switches, for the planner.
pub(super) fn settings(job: &Job, plan: &mut Plan) {
    plan.delete_after_run = job.delete_after_run.unwrap_or(false);
    plan.state.enabled = job.enabled;
    plan.catch_up = match &job.catch_up {
        None => cron::CatchUp::default(),
        Some(wanted) => cron::CatchUp {
            mode: match wanted.mode.as_str() {
                "none" => CatchUpMode::None,
                "all" => CatchUpMode::All {
                    max: wanted.max.unwrap_or(CATCH_UP_MAX_DEFAULT),
                },
                _ => CatchUpMode::Latest,
            },
            max_age_ms: wanted.max_age_ms,
        },
    };
    plan.overlap = match job.overlap.as_deref() {
        Some("queue") => Overlap::QueueOne,
        _ => Overlap::Skip,
    };
    plan.disable_after = match &job.disable_after {
        None => Some(DISABLE_AFTER),
        Some(Value::Number(after)) => after.as_u64().and_then(|after| u32::try_from(after).ok()),
        Some(_) => None,
    };
}

/// An existing job with a checked patch on it.
pub(super) fn patched(
    kept: &CronJob,
    patch: Value,
    expected: Option<&str>,
    house: &House,
    now_ms: i64,
) -> Result<KeepJob, ErrorShape> {
    let mut job = show::job(kept)?;
    let revision = job.config_revision.take();
    if let Some(expected) = expected
        && revision.as_deref() != Some(expected)
    {
        return Err(ErrorShape::invalid(format!(
            "cron job changed meanwhile: its configRevision is {}",
            revision.as_deref().unwrap_or("unknown")
        ))
        .with_details(
            json!({"code": "CRON_JOB_CHANGED", "jobId": job.id, "configRevision": revision}),
        ));
    }
    job.state = JobState::default();
    job.updated_at_ms = now_ms;
    let mut plan = kept.plan.clone();
    let Value::Object(patch) = patch else {
        return Ok(keep(job, plan));
    };
    let was_main = job.session_target == "main";
    let is_rescheduled = patch.contains_key("schedule");
    let has_delivery = patch.contains_key("delivery");
    let names_routes = ["delivery", "failureAlert", "sessionTarget", "payload"]
        .iter()
        .any(|key| patch.contains_key(*key));
    for (key, value) in patch {
        apply(&mut job, &key, value)?;
    }
    if is_rescheduled {
        plan.schedule = planned(&mut job.schedule, &house.zone, now_ms)?;
    }
    // Results of a job that moves to the main session are told there.
    if job.session_target == "main"
        && !was_main
        && !has_delivery
        && delivery_mode(&job) != Some("webhook")
    {
        job.delivery = None;
    }
    check_kind(&job, house)?;
    // A job that came from elsewhere may name a place that nothing here can reach. It can be
    // disabled and renamed all the same.
    if names_routes {
        check_routes(&job, &house.notices)?;
    }
    let is_woken = job.enabled && !kept.plan.state.enabled;
    if is_woken && plan.schedule.first_after(&job.id, now_ms).is_none() {
        return Err(over(&plan.schedule, now_ms));
    }
    settings(&job, &mut plan);
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
        "displayName" => job.display_name = typed(value)?,
        "catchUp" => job.catch_up = Some(typed(value)?),
        "overlap" => job.overlap = Some(typed(value)?),
        "disableAfter" => job.disable_after = Some(value),
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
    let old_kind = match old {
        Payload::SystemEvent { .. } => "systemEvent",
        Payload::AgentTurn { .. } => "agentTurn",
        Payload::Command { .. } => "command",
    };
    let needs = match kind.as_str() {
        "systemEvent" => "text",
        "command" => "argv",
        _ => "message",
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
pub(super) fn planned(
    schedule: &mut Schedule,
    host: &Zone,
    now_ms: i64,
) -> Result<Due, ErrorShape> {
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
fn check(job: &Job, house: &House) -> Result<(), ErrorShape> {
    check_kind(job, house)?;
    check_routes(job, &house.notices)
}

/// The same without asking whether the places can be reached.
pub(super) fn check_kind(job: &Job, house: &House) -> Result<(), ErrorShape> {
    check_target(job, &house.default_agent)?;
    check_command(&job.payload)?;
    check_delivery(job)
}

fn check_target(job: &Job, default_agent: &str) -> Result<(), ErrorShape> {
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
        (Payload::Command { .. }, _) if job.session_target != "isolated" => {
            return Err(refused(
                "CRON_TARGET_PAYLOAD_MISMATCH",
                "cron jobs that run a command require sessionTarget=\"isolated\"",
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
    Ok(())
}

/// What of a command is known to be wrong before it runs.
fn check_command(payload: &Payload) -> Result<(), ErrorShape> {
    let Payload::Command { argv, cwd, env, .. } = payload else {
        return Ok(());
    };
    let wrong = |what: &str| refused("CRON_COMMAND_INVALID", format!("command {what}"));
    if argv.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(wrong("argv[0] must name a program"));
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err(wrong("arguments must not hold NUL"));
    }
    if cwd
        .as_deref()
        .is_some_and(|cwd| !cwd.starts_with('/') || cwd.contains('\0'))
    {
        return Err(wrong("cwd must be an absolute path"));
    }
    let bad_name = |name: &String| name.is_empty() || name.contains(['=', '\0']);
    if env.as_ref().is_some_and(|env| {
        env.iter()
            .any(|(name, value)| bad_name(name) || value.contains('\0'))
    }) {
        return Err(wrong("env names must be non-empty and without '=' or NUL"));
    }
    Ok(())
}

/// A place that nothing can reach is refused when it is named, not when it is needed. With
/// `bestEffort` nobody minds.
fn check_routes(job: &Job, defaults: &Defaults) -> Result<(), ErrorShape> {
    let unreachable =
        |what: &str| refused("CRON_DELIVERY_UNREACHABLE", format!("{what}: {NO_CHANNEL}"));
    let delivery = job.delivery.as_ref().unwrap_or(&Value::Null);
    if delivery.get("bestEffort") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    let routes = routes(job, defaults);
    if routes.result == Route::Unreachable {
        return Err(unreachable("cron delivery"));
    }
    let failures = delivery.get("failureDestination");
    if failures.is_some_and(|to| to.get("mode").is_none_or(|mode| mode != "webhook")) {
        return Err(unreachable("cron delivery.failureDestination"));
    }
    let wants_alert = job.failure_alert.as_ref().is_some_and(Value::is_object);
    if wants_alert && routes.alert.is_none() {
        return Err(unreachable("cron failureAlert"));
    }
    if let Some(url) = job
        .failure_alert
        .as_ref()
        .filter(|alert| alert.get("mode").is_some_and(|mode| mode == "webhook"))
        .map(|alert| alert.get("to").and_then(Value::as_str).unwrap_or_default())
        && check_url(url).is_err()
    {
        return Err(refused(
            "CRON_WEBHOOK_URL_INVALID",
            "cron failureAlert webhook requires failureAlert.to to be a valid http(s) URL",
        ));
    }
    Ok(())
}

fn check_delivery(job: &Job) -> Result<(), ErrorShape> {
    let is_main = job.session_target == "main";
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
    text.is_some_and(|text| check_url(text).is_ok())
}

pub(super) fn delivery_mode(job: &Job) -> Option<&str> {
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

pub(super) fn keep(job: Job, plan: Plan) -> KeepJob {
    let searchable = [
        Some(&job.name),
        job.description.as_ref(),
        job.agent_id.as_ref(),
        job.display_name.as_ref(),
        job.declaration_key.as_ref(),
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
        declaration_key: job.declaration_key.clone(),
        revision: show::revision(&job),
        created_at_ms: job.created_at_ms,
        updated_at_ms: job.updated_at_ms,
        name: job.name,
    }
}

#[cfg(test)]
mod tests;
