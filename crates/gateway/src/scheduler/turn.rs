//! A run that is a turn of an agent. It has the run's id, so that events, transcript and record name
//! the same thing; it ends with the run, and what it came to is the run's outcome.

use std::sync::Arc;

use clawgate_core::{cron::ErrorClass, lane::QueueMode, session::SessionKey};
use clawgate_protocol::cron::{Job, Payload, TurnFacts};
use clawgate_store::Ending;
use serde_json::json;

use super::run::{RunEnd, Stopped, Task, duration};
use crate::{
    Gateway,
    clock::now_ms,
    turns::{self, Begun, Calendar, Ended, Origin, Status, Wanted},
};

/// Where a job's turn takes place.
struct Place {
    key: SessionKey,
    /// In a conversation of its own.
    fresh: bool,
}

/// Takes the turn of a job.
pub(super) async fn take(job: &Job, task: &Task) -> RunEnd {
    let Some(gateway) = &task.turns else {
        return not_here();
    };
    let Payload::AgentTurn {
        message,
        model,
        fallbacks,
        thinking,
        timeout_seconds,
        light_context,
        ..
    } = &job.payload
    else {
        return not_here();
    };
    let place = match place(gateway, job) {
        Ok(place) => place,
        Err(end) => return *end,
    };
    let calendar = Calendar::of(&gateway.config().snapshot.parsed);
    let wanted = Wanted {
        message: format!(
            "[cron:{} {}] {message}\nCurrent time: {}",
            job.id,
            job.name,
            calendar.stamp(now_ms())
        ),
        model: model.clone(),
        // The model that is named answers, or the run fails: no other one takes its place unasked.
        fallbacks: fallbacks
            .clone()
            .or_else(|| model.as_ref().map(|_| Vec::new())),
        thinking: thinking.clone(),
        timeout_ms: timeout_seconds
            .as_ref()
            .map(|seconds| u64::try_from(duration(seconds).as_millis()).unwrap_or(u64::MAX)),
        light: light_context.unwrap_or(false),
        label: Some(format!("Cron: {}", job.name)),
        ..wanted(place, task)
    };
    carry(gateway, wanted, task).await
}

/// Whether the text of a job is told to its session at once, by a turn: where one can be taken.
/// Otherwise it waits there for the next one.
pub(super) fn rings(job: &Job, task: &Task) -> bool {
    job.wake_mode == "now"
        && task.turns.as_ref().is_some_and(|gateway| {
            let roster = gateway.roster();
            let agent = roster.get(job.agent_id.as_deref().unwrap_or(&roster.default_id));
            agent.is_some_and(|agent| agent.model.is_some())
        })
}

/// Tells a text to a session by a turn.
pub(super) async fn ring(job: &Job, text: &str, task: &Task) -> RunEnd {
    let Some(gateway) = &task.turns else {
        return not_here();
    };
    let key = match job.session_key.as_deref() {
        None | Some("main") => task.main_session_key.to_string(),
        Some(key) => key.to_owned(),
    };
    let Some(key) = read_key(gateway, job, &key) else {
        return bad_key(&key);
    };
    let calendar = Calendar::of(&gateway.config().snapshot.parsed);
    let wanted = Wanted {
        message: format!(
            "System: [{}] {text}\n\nThe line above is due now: \"{}\" was scheduled for this time. \
             Do what it asks for and say what the person should hear; if that is nothing, answer \
             with NO_REPLY.",
            calendar.stamp(now_ms()),
            job.name,
        ),
        ..wanted(Place { key, fresh: false }, task)
    };
    carry(gateway, wanted, task).await
}

fn not_here() -> RunEnd {
    RunEnd::failed(
        ErrorClass::NotAvailable,
        "no agent takes turns here: nothing was done",
    )
}

fn bad_key(key: &str) -> RunEnd {
    RunEnd::failed(
        ErrorClass::Invalid,
        &format!("the session key \"{key}\" is none"),
    )
}

fn read_key(gateway: &Gateway, job: &Job, key: &str) -> Option<SessionKey> {
    let roster = gateway.roster();
    let agent = job.agent_id.as_deref().unwrap_or(&roster.default_id);
    // A key that names an agent names the one that is meant.
    SessionKey::read(key, None, agent).ok()
}

fn place(gateway: &Gateway, job: &Job) -> Result<Place, Box<RunEnd>> {
    let roster = gateway.roster();
    let agent = job.agent_id.as_deref().unwrap_or(&roster.default_id);
    if roster.get(agent).is_none() {
        let error = format!("the job's agent \"{agent}\" is not configured any more");
        return Err(Box::new(RunEnd::failed(ErrorClass::Invalid, &error)));
    }
    let (key, fresh) = match job.session_target.as_str() {
        "isolated" => {
            let conversation = uuid::Uuid::new_v4();
            (format!("cron:{}:run:{conversation}", job.id), true)
        }
        "main" => (SessionKey::main_of(agent).as_str().to_owned(), false),
        other => (
            other.strip_prefix("session:").unwrap_or(other).to_owned(),
            false,
        ),
    };
    let key = read_key(gateway, job, &key).ok_or_else(|| Box::new(bad_key(&key)))?;
    Ok(Place { key, fresh })
}

fn wanted(place: Place, task: &Task) -> Wanted {
    Wanted {
        queue: QueueMode::Followup,
        fresh: place.fresh,
        // The schedule decides what becomes of a run that a stop cut off.
        resumes: false,
        ..Wanted::new(task.run_id.clone(), place.key, Origin::Cron)
    }
}

async fn carry(gateway: &Arc<Gateway>, wanted: Wanted, task: &Task) -> RunEnd {
    let key = wanted.key.as_str().to_owned();
    let run = match gateway.begin_turn(None, wanted).await {
        Ok(Begun::New(run)) => run,
        Ok(Begun::UnderWay | Begun::Over(_)) => {
            let error = "a turn of this run's id was taken before";
            return RunEnd::failed(ErrorClass::Invalid, error);
        }
        Err(shape) => return RunEnd::failed(ErrorClass::NotAvailable, &shape.message),
    };
    let ended = tokio::select! {
        ended = run.ended() => ended,
        () = task.stop.cancelled() => {
            run.halt(turns::Stopped::Removed);
            run.ended().await
        }
    };
    of_turn(&ended, key)
}

/// The run's end from the turn's.
fn of_turn(ended: &Ended, session_key: String) -> RunEnd {
    let answer = if ended.is_silent() {
        ""
    } else {
        ended.answer.trim()
    };
    let mut end = match ended.status {
        Status::Ok => RunEnd::ok(answer),
        Status::Error => {
            let class = ended
                .failure
                .map_or(ErrorClass::Unknown, clawgate_core::turn::FailureKind::class);
            RunEnd::failed(class, ended.error.as_deref().unwrap_or("the turn failed"))
        }
        Status::Timeout => RunEnd::failed(ErrorClass::Timeout, "cron: job execution timed out"),
        Status::Interrupted => RunEnd::stopped(Stopped::Shutdown),
        Status::Aborted => RunEnd::stopped(Stopped::Cancelled),
    };
    let (provider, model) = ended.model.clone().unzip();
    let facts = TurnFacts {
        session_id: ended.session_id.clone(),
        session_key: Some(session_key),
        model,
        provider,
        usage: (ended.usage.total() > 0).then(|| {
            json!({
                "input_tokens": ended.usage.input + ended.usage.cache_read + ended.usage.cache_write,
                "output_tokens": ended.usage.output,
                "total_tokens": ended.usage.total(),
            })
        }),
        attempts: ended.attempts.clone(),
        denied: ended.denied.clone(),
    };
    end.ending = Ending {
        about: serde_json::to_string(&facts).ok(),
        ..end.ending
    };
    end
}
