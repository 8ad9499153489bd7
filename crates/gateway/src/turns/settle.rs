//! The end of a turn: what it was, in the words of each dialect, and on disk before anybody is told.

use std::sync::Arc;

use clawgate_agent::Usage;
use clawgate_core::{
    Dialect, heartbeat,
    session::SessionKey,
    turn::{End, FailureKind},
};
use clawgate_protocol::ErrorShape;
use clawgate_store::{OpenRun, Run as RunRow, StoreError, Tx};
use serde_json::{Value, json};

use super::{
    Run, State, Stopped,
    opening::{Kept, keep},
    voice,
};
use crate::{
    Gateway,
    clock::now_ms,
    methods::session::{DefaultModel, Held, row},
};

/// Characters of an answer that are kept with its run, for whoever asks under the same key again, and
/// of one that was not finished.
const ANSWER_MAX: usize = 64 << 10;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was answered.
    Ok,
    /// It failed.
    Error,
    /// Somebody stopped it.
    Aborted,
    /// It took too long.
    Timeout,
    /// The gateway stopped meanwhile.
    Interrupted,
}

impl Status {
    /// The word of the database.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Aborted => "aborted",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a turn came to.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) status: Status,
    pub(crate) started_at_ms: Option<i64>,
    pub(crate) ended_at_ms: i64,
    /// What it said, all messages of it.
    pub(crate) text: String,
    /// What its last message said: the answer.
    pub(crate) answer: String,
    /// For people; no secret is in it.
    pub(crate) error: Option<String>,
    /// What kind of failure of a model it was.
    pub(crate) failure: Option<FailureKind>,
    /// Why it was stopped.
    pub(crate) stopped: Option<Stopped>,
    /// The model that answered, or failed last: provider and id.
    pub(crate) model: Option<(String, String)>,
    pub(crate) usage: Usage,
    /// The last request's alone.
    pub(crate) last_usage: Usage,
    /// `provider/model: kind` for each request that failed on the way.
    pub(crate) attempts: Vec<String>,
    /// Things that were refused because nobody was there to allow them.
    pub(crate) denied: Vec<String>,
    pub(crate) session_id: Option<String>,
    /// Characters beside the word of a heartbeat that are still nothing; none in other turns.
    pub(crate) ack_max: usize,
    /// What the prompt consisted of.
    pub(crate) report: Option<Value>,
}

impl Ended {
    /// Nothing but that it is over.
    pub(crate) fn new(status: Status, error: Option<String>) -> Self {
        Self {
            status,
            started_at_ms: None,
            ended_at_ms: now_ms(),
            text: String::new(),
            answer: String::new(),
            error,
            failure: None,
            stopped: None,
            model: None,
            usage: Usage::default(),
            last_usage: Usage::default(),
            attempts: Vec::new(),
            denied: Vec::new(),
            session_id: None,
            ack_max: 0,
            report: None,
        }
    }

    pub(super) fn lost() -> Self {
        Self::new(Status::Interrupted, Some("the turn is gone".to_owned()))
    }

    /// It was stopped for a reason.
    pub(super) fn stopped(why: Stopped) -> Self {
        let (status, error) = match why {
            Stopped::Timeout => (Status::Timeout, "the turn took too long and was stopped"),
            Stopped::Shutdown => (Status::Interrupted, "the gateway stopped during the turn"),
            Stopped::Asked | Stopped::Word => (Status::Aborted, "the turn was aborted"),
            Stopped::Interrupted => (Status::Aborted, "a newer message took the turn's place"),
            Stopped::Removed => (
                Status::Aborted,
                "what the turn was for was removed or reset",
            ),
        };
        Self {
            stopped: Some(why),
            ..Self::new(status, Some(error.to_owned()))
        }
    }

    /// From how the room of agents says that it ended.
    pub(super) fn of_end(end: End, why: Option<Stopped>) -> Self {
        match end {
            End::Answered => Self::new(Status::Ok, None),
            End::Failed(failure) => Self {
                failure: Some(failure.kind),
                ..Self::new(Status::Error, Some(failure.message))
            },
            End::NotKept(why) => Self::new(
                Status::Error,
                Some(format!(
                    "the turn could not be written down and was stopped: {why}"
                )),
            ),
            End::TooManyRounds => Self::new(
                Status::Error,
                Some("the agent called tools again and again and was stopped".to_owned()),
            ),
            End::Cancelled => Self::stopped(why.unwrap_or(Stopped::Shutdown)),
        }
    }

    /// Whether there is nothing that anybody is to be shown.
    pub(crate) fn is_silent(&self) -> bool {
        self.status == Status::Ok && heartbeat::said(&self.answer, self.ack_max).is_none()
    }

    pub(super) fn lifecycle(&self) -> Value {
        match self.status {
            Status::Ok => json!({"phase": "end", "endedAt": self.ended_at_ms}),
            Status::Aborted | Status::Timeout | Status::Interrupted => json!({
                "phase": "end", "endedAt": self.ended_at_ms, "aborted": true,
                "stopReason": self.stopped.map(Stopped::as_str),
            }),
            Status::Error => {
                json!({"phase": "error", "error": self.error, "endedAt": self.ended_at_ms})
            }
        }
    }

    pub(super) fn chat_state(&self) -> &'static str {
        match self.status {
            Status::Ok => "final",
            Status::Error => "error",
            Status::Aborted | Status::Timeout | Status::Interrupted => "aborted",
        }
    }

    pub(super) fn stop_reason(&self) -> Option<&'static str> {
        match self.status {
            Status::Ok => Some("stop"),
            Status::Error => None,
            _ => self.stopped.map(Stopped::as_str),
        }
    }

    /// What it said as a message, if it said anything.
    pub(super) fn message(&self) -> Option<Value> {
        (!self.text.is_empty()).then(|| voice::assistant(&self.text, self.ended_at_ms))
    }

    /// The second answer to `agent`, and what is kept with the run.
    pub(crate) fn result(&self, run_id: &str) -> Value {
        let usage = |usage: Usage| {
            json!({
                "input": usage.input, "output": usage.output,
                "cacheRead": usage.cache_read, "cacheWrite": usage.cache_write,
                "total": usage.total(),
            })
        };
        let (provider, model) = self.model.clone().unzip();
        let mut meta = json!({
            "durationMs": self.started_at_ms.map_or(0, |at| self.ended_at_ms - at),
            "agentMeta": {
                "sessionId": self.session_id,
                "provider": provider,
                "model": model,
                "usage": usage(self.usage),
                "lastCallUsage": usage(self.last_usage),
                "promptTokens":
                    self.last_usage.input + self.last_usage.cache_read + self.last_usage.cache_write,
            },
            "aborted": self.stopped.is_some(),
        });
        if !self.attempts.is_empty() {
            meta["agentMeta"]["attempts"] = json!(self.attempts);
        }
        if !self.denied.is_empty() {
            meta["denied"] = json!(self.denied);
        }
        if let Some(kind) = self.failure {
            meta["error"] = json!({"kind": kind.as_str(), "message": self.error});
        }
        if let Some(report) = &self.report {
            let mut report = report.clone();
            for (member, value) in [
                ("generatedAt", json!(self.started_at_ms)),
                ("sessionId", json!(self.session_id)),
                ("provider", json!(provider)),
                ("model", json!(model)),
            ] {
                report[member] = value;
            }
            meta["systemPromptReport"] = report;
        }
        if let Some(reason) = self.stop_reason() {
            meta["stopReason"] = json!(reason);
        }
        let text: String = self.text.chars().take(ANSWER_MAX).collect();
        let payloads = if text.is_empty() || self.is_silent() {
            json!([])
        } else {
            json!([{"text": text, "mediaUrl": null}])
        };
        let summary = match self.status {
            Status::Ok => "completed".to_owned(),
            _ => self.error.clone().unwrap_or_default(),
        };
        json!({
            "runId": run_id,
            "status": self.status.as_str(),
            "summary": summary,
            "result": {"payloads": payloads, "meta": meta},
            "startedAt": self.started_at_ms,
            "endedAt": self.ended_at_ms,
        })
    }
}

/// A failed turn as the error of the call that asked for it.
pub(crate) fn failure(result: &Value) -> ErrorShape {
    let status = result["status"].as_str().unwrap_or("error");
    let summary = result["summary"].as_str().unwrap_or("the turn failed");
    ErrorShape::unavailable(summary).with_details(json!({
        "code": "AGENT_TURN_FAILED",
        "runId": result["runId"],
        "status": status,
        "kind": result.pointer("/result/meta/error/kind"),
    }))
}

/// The answer of a run that is over, as kept.
pub(crate) fn kept_result(run_id: &str, row: &RunRow) -> Value {
    let kept = row
        .result
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    kept.unwrap_or_else(|| {
        let (ended_at, outcome) = row.ended.clone().unwrap_or_default();
        json!({
            "runId": run_id, "status": outcome, "summary": outcome,
            "startedAt": row.started_at_ms, "endedAt": ended_at,
        })
    })
}

/// Writes down how a turn ended, with those that it answered too, and tells. The lane is free when
/// this returns, whatever the database does.
pub(super) async fn settle(
    gateway: &Arc<Gateway>,
    runs: Vec<Arc<Run>>,
    mut ended: Ended,
    default: DefaultModel,
    window: Option<u64>,
) {
    let Some(leader) = runs.first().cloned() else {
        return;
    };
    ended.ended_at_ms = now_ms();
    ended.text = leader.voice.said();
    if leader.wanted.origin == super::Origin::Heartbeat {
        ended.ack_max = heartbeat::ACK_MAX;
    }
    let unfinished = leader.voice.unfinished();
    let mut end = Closing {
        runs: runs.clone(),
        ended: ended.clone(),
        unfinished,
        default,
        window,
        is_told: false,
    };
    if let Err(error) = end.clone().keep(gateway).await {
        tracing::error!(
            %error, run = leader.id(),
            "the end of a turn is not on disk; it is when the disk takes it, or the next start records it as interrupted"
        );
        let said = format!("what came of the turn could not be kept: {error}");
        ended.status = Status::Error;
        ended.error = Some(said);
        leader.voice.ends(gateway, &ended, &[]);
        if error.fault().is_some() {
            end.ended = ended.clone();
            end.is_told = true;
            gateway.tasks.spawn(end.keep_later(Arc::clone(gateway)));
        }
    }
    let ended = Arc::new(ended);
    for run in &runs {
        run.state.send_replace(State::Ended(Arc::clone(&ended)));
        gateway.turns.leave(run);
    }
}

/// How a turn ended, on its way to the disk.
#[derive(Clone)]
struct Closing {
    runs: Vec<Arc<Run>>,
    ended: Ended,
    unfinished: String,
    default: DefaultModel,
    window: Option<u64>,
    /// Whether those who follow the turn know it already.
    is_told: bool,
}

impl Closing {
    async fn keep(self, gateway: &Arc<Gateway>) -> Result<(), StoreError> {
        let teller = Arc::clone(gateway);
        gateway
            .store
            .write_then(
                "ending a turn",
                move |tx| {
                    let leader = &self.runs[0];
                    let said = close(tx, leader, &self.ended, &self.unfinished, self.window)?;
                    for run in &self.runs {
                        let result = self.ended.result(run.id()).to_string();
                        tx.end_run(
                            run.id(),
                            self.ended.status.as_str(),
                            Some(&result),
                            self.ended.ended_at_ms,
                        )?;
                    }
                    let listed = tx.read().listed_session(leader.key().as_str())?;
                    let row = listed.map_or(Value::Null, |listed| {
                        let wanted = crate::methods::session::Wanted::default();
                        row(listed, &self.default, wanted, Dialect::V4)
                    });
                    Ok::<_, StoreError>((self, said, row))
                },
                move |(end, said, row)| {
                    let (leader, ended) = (&end.runs[0], &end.ended);
                    if let (Some(kept), Some(session_id)) = (&said, &ended.session_id) {
                        teller.tell_kept(leader.key(), session_id, kept, &row);
                    } else {
                        teller.tell_row(leader.key(), "message", &row);
                    }
                    if end.is_told {
                        return;
                    }
                    let others: Vec<(String, String)> = end.runs[1..]
                        .iter()
                        .map(|run| (run.id().to_owned(), run.wanted.written_key.clone()))
                        .collect();
                    leader.voice.ends(&teller, ended, &others);
                },
            )
            .await
    }

    /// Keeps it when the disk takes writes again. No turn begins before that, so that those who wait
    /// here are no more than ran at once.
    async fn keep_later(self, gateway: Arc<Gateway>) {
        let mut faults = gateway.store.faults();
        loop {
            tokio::select! {
                () = gateway.stopping.cancelled() => return,
                cleared = faults.wait_for(Option::is_none) => if cleared.is_err() {
                    return;
                },
            }
            match self.clone().keep(&gateway).await {
                Err(error) if error.fault().is_some() => {}
                Err(error) => {
                    let run = self.runs[0].id();
                    tracing::error!(%error, run, "the end of a turn could not be kept later either");
                    return;
                }
                Ok(()) => return,
            }
        }
    }
}

/// What is left to write: a message that was not finished, an error, totals of the session.
fn close(
    tx: &Tx<'_>,
    leader: &Run,
    ended: &Ended,
    unfinished: &str,
    window: Option<u64>,
) -> Result<Option<Kept>, StoreError> {
    let key = leader.key();
    let Some(session) = tx.read().session(key.as_str())? else {
        return Ok(None);
    };
    let mut held = Held::of(session);
    // A session that was reset meanwhile has another conversation.
    let is_same = ended.session_id.as_deref() == Some(held.session.session_id.as_str());
    if !is_same {
        return Ok(None);
    }
    let mut said = None;
    let (agent, session_id) = (&held.session.agent_id, &held.session.session_id);
    if ended.status != Status::Ok
        && let Some(mut of) = tx.read().live_transcript(agent, session_id)?
    {
        let message = ending(leader, ended, unfinished);
        said = keep(tx, &mut of, leader.id(), message, ended.ended_at_ms)?;
    }
    if let Some((provider, model)) = &ended.model {
        held.entry
            .insert("modelProvider".to_owned(), json!(provider));
        held.entry.insert("model".to_owned(), json!(model));
    }
    let last = ended.last_usage;
    if last.total() > 0 {
        for (member, tokens) in [
            ("inputTokens", ended.usage.input),
            ("outputTokens", ended.usage.output),
            ("cacheRead", ended.usage.cache_read),
            ("cacheWrite", ended.usage.cache_write),
            ("totalTokens", last.total()),
        ] {
            held.entry.insert(member.to_owned(), json!(tokens));
        }
        held.entry
            .insert("totalTokensFresh".to_owned(), json!(true));
    }
    if let Some(window) = window {
        held.entry.insert("contextTokens".to_owned(), json!(window));
    }
    let aborted = ended.stopped.is_some();
    held.entry
        .insert("abortedLastRun".to_owned(), json!(aborted));
    held.session.updated_at_ms = ended.ended_at_ms;
    held.keep(tx, key)?;
    if let Some(report) = &ended.report {
        let reports = json!({"systemPromptReport": report}).to_string();
        tx.keep_session_reports(key.as_str(), &reports)?;
    }
    Ok(said)
}

/// The message that stands for what was not answered.
fn ending(leader: &Run, ended: &Ended, unfinished: &str) -> Value {
    let kept: String = unfinished.chars().take(ANSWER_MAX).collect();
    let content = if kept.is_empty() {
        json!([])
    } else {
        json!([{"type": "text", "text": kept}])
    };
    let (provider, model) = ended.model.clone().unzip();
    let mut message = json!({
        "role": "assistant",
        "content": content,
        "provider": provider.unwrap_or_default(),
        "model": model.unwrap_or_default(),
        "stopReason": if ended.status == Status::Error { "error" } else { "aborted" },
        "errorMessage": ended.error,
        "timestamp": ended.ended_at_ms,
    });
    if let Some(why) = ended.stopped {
        message["openclawAbort"] =
            json!({"aborted": true, "origin": why.as_str(), "runId": leader.id()});
    }
    message
}

/// A turn that was under way when the gateway stopped.
pub(super) async fn interrupted(gateway: &Arc<Gateway>, left: OpenRun) {
    let default = DefaultModel::of(&gateway.config());
    let (teller, run_id) = (Arc::clone(gateway), left.run_id.clone());
    let written = gateway
        .store
        .write_then(
            "recording an interrupted turn",
            move |tx| {
                let now = now_ms();
                let mut ended = Ended::stopped(Stopped::Shutdown);
                ended.started_at_ms = left.started_at_ms;
                ended.ended_at_ms = now;
                let result = ended.result(&left.run_id).to_string();
                tx.end_run(&left.run_id, ended.status.as_str(), Some(&result), now)?;
                let key = SessionKey::read(&left.session_key, None, "main").ok();
                let session = tx.read().session(&left.session_key)?;
                let (Some(key), Some(session), Some(_)) = (key, session, left.started_at_ms) else {
                    return Ok(None);
                };
                let mut held = Held::of(session);
                held.entry.insert("abortedLastRun".to_owned(), json!(true));
                held.keep(tx, &key)?;
                let (agent, session_id) = (&held.session.agent_id, &held.session.session_id);
                let Some(mut of) = tx.read().live_transcript(agent, session_id)? else {
                    return Ok(None);
                };
                let message = json!({
                    "role": "assistant", "content": [], "stopReason": "aborted",
                    "errorMessage": ended.error, "timestamp": now,
                    "openclawAbort":
                        {"aborted": true, "origin": "shutdown", "runId": left.run_id},
                });
                let kept = keep(tx, &mut of, &left.run_id, message, now)?;
                let listed = tx.read().listed_session(key.as_str())?;
                let row = listed.map_or(Value::Null, |listed| {
                    let wanted = crate::methods::session::Wanted::default();
                    row(listed, &default, wanted, Dialect::V4)
                });
                Ok::<_, StoreError>(kept.map(|kept| (key, of.session_id, kept, row)))
            },
            move |told| {
                if let Some((key, session_id, kept, row)) = told {
                    teller.tell_kept(&key, &session_id, &kept, &row);
                }
            },
        )
        .await;
    match written {
        Ok(()) => {
            tracing::warn!(
                run = %run_id,
                "a turn was under way when the gateway stopped; it is recorded as interrupted"
            );
        }
        Err(error) => {
            tracing::error!(%error, run = %run_id, "an interrupted turn could not be recorded");
        }
    }
}
