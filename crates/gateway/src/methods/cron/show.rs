//! From what is kept to what travels.

use std::fmt::Write as _;

use clawgate_core::cron::{DisableReason, Schedule, format_at};
use clawgate_protocol::{
    ErrorShape,
    cron::{Job, JobState, RunEntry},
    frame::to_json,
};
use clawgate_store::{CronJob, CronRun};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{error, scheduler::delivered};

/// A job with its state.
pub(super) fn job(kept: &CronJob) -> Result<Job, ErrorShape> {
    let mut job: Job = serde_json::from_str(&kept.definition)
        .map_err(|error| error::internal("reading a cron job's definition", &error))?;
    let state = &kept.plan.state;
    job.config_revision = Some(match &kept.revision {
        Some(revision) => revision.clone(),
        None => revision(&job),
    });
    job.enabled = state.enabled;
    job.updated_at_ms = kept.updated_at_ms;
    job.state = JobState {
        next_run_at_ms: state.next_run_at_ms.filter(|_| state.enabled),
        running_at_ms: kept.running_at_ms,
        auto_disabled: auto_disabled(kept),
        time_zone: match &kept.plan.schedule {
            Schedule::Cron { tz, .. } if state.enabled => Some(tz.name().to_owned()),
            _ => None,
        },
        ..JobState::default()
    };
    if let Some(last) = &kept.last_run {
        job.state.last_run_at_ms = Some(last.at_ms);
        job.state.last_run_status = Some(last.status.clone());
        job.state.last_status = Some(last.status.clone());
        job.state.last_duration_ms = Some(last.duration_ms);
        job.state.last_error.clone_from(&last.error);
        job.state.last_error_reason.clone_from(&last.error_class);
        job.state.consecutive_errors = Some(state.consecutive_errors);
        job.state.last_delivered = delivered(last.delivery_status.as_deref());
        job.state
            .last_delivery_status
            .clone_from(&last.delivery_status);
        job.state
            .last_delivery_error
            .clone_from(&last.delivery_error);
    }
    job.state.last_failure_alert_at_ms = kept.alerted_at_ms;
    Ok(job)
}

/// What a list shows of a job, when a client asks for no more than that.
pub(super) fn compact(job: &Job) -> Value {
    let state = &job.state;
    let text = |at: Option<i64>| at.map(format_at);
    let mut shown = json!({"id": job.id, "name": job.name});
    if let Some(agent) = &job.agent_id {
        shown["agentId"] = json!(agent);
    }
    shown["updatedAtMs"] = json!(job.updated_at_ms);
    if let Some(key) = &job.declaration_key {
        shown["declarationKey"] = json!(key);
    }
    let schedule = json!(job.schedule);
    for (name, value) in [
        ("enabled", json!(job.enabled)),
        ("nextRunAt", json!(text(state.next_run_at_ms))),
        ("nextRunAtMs", json!(state.next_run_at_ms)),
        ("scheduleKind", schedule["kind"].clone()),
        ("schedule", schedule),
        ("lastRunAt", json!(text(state.last_run_at_ms))),
        ("lastRunAtMs", json!(state.last_run_at_ms)),
        ("lastRunStatus", json!(state.last_run_status)),
        ("lastRunError", json!(state.last_error)),
        ("effectiveAgentId", json!(job.effective_agent_id)),
    ] {
        shown[name] = value;
    }
    for (name, value) in [
        ("runningAtMs", json!(state.running_at_ms)),
        ("autoDisabled", json!(state.auto_disabled)),
        ("lastDelivered", json!(state.last_delivered)),
        ("lastDeliveryStatus", json!(state.last_delivery_status)),
    ] {
        if !value.is_null() {
            shown[name] = value;
        }
    }
    shown
}

/// `sha256:…` of what an operator set: every member but the times, the state and `enabled`, which
/// changes without an edit.
pub(super) fn revision(job: &Job) -> String {
    let bare = Job {
        enabled: true,
        created_at_ms: 0,
        updated_at_ms: 0,
        config_revision: None,
        state: JobState::default(),
        ..job.clone()
    };
    let digest = Sha256::digest(to_json(&bare).as_bytes());
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in digest {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Why the job was disabled without being asked. A one-shot that did its work needs no reason.
fn auto_disabled(kept: &CronJob) -> Option<Value> {
    let (reason, errors) = match kept.plan.state.disabled? {
        DisableReason::OneShotDone => return None,
        DisableReason::ConsecutiveFailures { count, .. } => ("consecutive-failures", Some(count)),
        DisableReason::OneShotFailed { .. } => ("one-shot-failed", None),
        DisableReason::OneShotInterrupted => ("one-shot-interrupted", None),
        DisableReason::OneShotSkipped => ("one-shot-skipped", None),
        DisableReason::OneShotCancelled => ("one-shot-cancelled", None),
        DisableReason::OneShotMissed { .. } => ("one-shot-missed", None),
        DisableReason::ScheduleOver => ("schedule-over", None),
    };
    let mut shown = json!({"reason": reason, "atMs": kept.disabled_at_ms});
    if let Some(errors) = errors {
        shown["consecutiveErrors"] = errors.into();
    }
    Some(shown)
}

/// A row of the history; `named` says of which job.
pub(super) fn run(run: CronRun, named: bool) -> RunEntry {
    let slots = match (run.slot_ms, run.last_slot_ms) {
        (Some(first), Some(last)) => Some(format!(
            "{} slots from {} to {}",
            run.slots,
            format_at(first),
            format_at(last)
        )),
        _ => None,
    };
    RunEntry {
        ts: run.ended_at_ms,
        job_id: run.job_id.into_string(),
        action: "finished".to_owned(),
        status: run.status,
        error: run.error.or(run.reason),
        summary: run.summary.or(slots),
        run_at_ms: run.started_at_ms,
        duration_ms: run.duration_ms,
        next_run_at_ms: run.next_run_at_ms,
        delivered: delivered(run.delivery_status.as_deref()),
        delivery_error: run.delivery_error,
        delivery_receipt: run.delivery_receipt,
        error_reason: run.error_class,
        delivery_status: run.delivery_status.unwrap_or_else(|| "unknown".to_owned()),
        run_id: Some(run.run_id.into_string()),
        slot_ms: run.slot_ms,
        last_slot_ms: run.last_slot_ms,
        slots: run.last_slot_ms.map(|_| run.slots),
        verdict: Some(run.verdict),
        queued_ms: match (run.slot_ms, run.started_at_ms, run.queued_at_ms) {
            (Some(_), Some(started), Some(queued)) => Some((started - queued).max(0)),
            _ => None,
        },
        job_name: named.then_some(run.job_name),
        about: run
            .about
            .and_then(|about| serde_json::from_str(&about).ok())
            .unwrap_or_default(),
    }
}
