//! One write of the scheduler: the planner's decisions and the edits, in order, and what follows
//! once they are on disk.

use std::sync::{Arc, Mutex, PoisonError};

use clawgate_core::{
    JobId, RunId,
    cron::{Fire, Outcome, Record, RunSeq, Settle, Verdict},
};
use clawgate_protocol::cron::CronEvent;
use clawgate_store::{Ending, KeepJob, Settled, StoreError, Tx};

use super::{
    Answer, Queued, SchedulerError,
    notice::{Defaults, Notices},
    run::Stopped,
};

/// Steps of one transaction, who waits for them, and which runs are to stop after how many of them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) steps: Vec<Step>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) stops: Vec<(usize, RunSeq, Stopped)>,
}

/// Somebody who is told how the write went.
type Waiting = Box<dyn FnOnce(Result<(), SchedulerError>) + Send>;

/// Those who wait for a write. They are told once: by the writer's thread when it is on disk, by the
/// scheduler when it failed.
pub(super) struct Answers(Mutex<Vec<Waiting>>);

/// One act.
pub(super) enum Step {
    Claim(Fire, RunId),
    Record(Record, RunId),
    Settle {
        settle: Settle,
        ending: Ending,
        queued: Option<Queued>,
    },
    Keep {
        job: KeepJob,
        added: bool,
    },
    Remove(JobId),
}

/// One act that was done.
pub(super) enum Written {
    Claimed(Fire, RunId, String),
    Recorded(Record, RunId),
    Settled {
        settle: Settle,
        ending: Ending,
        settled: Settled,
        queued: bool,
        /// Something waits in the outbox.
        posted: bool,
    },
    Kept {
        id: JobId,
        added: bool,
        next_run_at_ms: Option<i64>,
    },
    Removed(JobId),
}

impl Batch {
    pub(super) fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Stops a run once everything so far is on disk.
    pub(super) fn stop(&mut self, run_seq: RunSeq, reason: Stopped) {
        self.stops.push((self.steps.len(), run_seq, reason));
    }

    /// Answers once everything is on disk.
    pub(super) fn answer<T: Send + 'static>(&mut self, answer: Answer<T>, value: T) {
        self.waiting.push(Box::new(move |outcome| {
            // Whoever asked may be gone.
            let _ = answer.send(outcome.map(|()| value));
        }));
    }
}

impl Answers {
    pub(super) fn new(waiting: Vec<Waiting>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(waiting)))
    }

    /// Tells everybody who was not told yet.
    pub(super) fn give(&self, outcome: Result<(), &Arc<StoreError>>) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for tell in waiting {
            tell(outcome.map_err(|error| SchedulerError::Store(Arc::clone(error))));
        }
    }
}

impl Step {
    pub(super) fn write(
        self,
        tx: &Tx<'_>,
        boot_id: &str,
        defaults: &Defaults,
    ) -> Result<Written, StoreError> {
        Ok(match self {
            Self::Claim(fire, run_id) => {
                let claimed = tx.claim_fire(&fire, &run_id, boot_id)?;
                Written::Claimed(fire, run_id, claimed.definition)
            }
            Self::Record(record, run_id) => {
                tx.record_slot(&record, &run_id, boot_id)?;
                Written::Recorded(record, run_id)
            }
            Self::Settle {
                settle,
                mut ending,
                queued,
            } => {
                let notices = Notices::read(tx, &settle.job_id, defaults)?;
                notices.mark(&mut ending);
                let settled = tx.settle_run(&settle, &ending)?;
                let posted = notices.queue(tx, &settle, &ending, &settled)?;
                if let Some(Queued {
                    session_key,
                    text,
                    origin,
                }) = &queued
                {
                    tx.queue_system_event(session_key, text, Some(origin), settle.ended_at_ms)?;
                }
                Written::Settled {
                    settle,
                    ending,
                    settled,
                    queued: queued.is_some(),
                    posted,
                }
            }
            Self::Keep { job, added } => {
                tx.keep_cron_job(&job)?;
                Written::Kept {
                    next_run_at_ms: job.plan.state.next_run_at_ms,
                    id: job.plan.id,
                    added,
                }
            }
            Self::Remove(id) => {
                tx.remove_cron_job(&id)?;
                Written::Removed(id)
            }
        })
    }
}

impl Written {
    /// By how much it changes the number of jobs.
    pub(super) fn jobs(&self) -> isize {
        match self {
            Self::Kept { added: true, .. } => 1,
            Self::Removed(_) => -1,
            Self::Settled { settle, .. } if settle.delete => -1,
            Self::Kept { .. } | Self::Settled { .. } | Self::Claimed(..) | Self::Recorded(..) => 0,
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        matches!(self, Self::Settled { queued: true, .. })
    }

    pub(super) fn has_posted(&self) -> bool {
        matches!(self, Self::Settled { posted: true, .. })
    }
}

/// The event about slots that do not run.
pub(super) fn recorded(record: &Record, run_id: &RunId) -> CronEvent {
    let verdict = match record.verdict {
        Verdict::Skipped => "skipped",
        Verdict::Missed => "missed",
    };
    CronEvent {
        job_id: record.job_id.to_string(),
        action: "finished".to_owned(),
        status: Some("skipped".to_owned()),
        error: Some(record.reason.as_str().to_owned()),
        delivery_status: Some("not-requested".to_owned()),
        next_run_at_ms: record.state.next_run_at_ms,
        run_id: Some(run_id.to_string()),
        slot_ms: Some(record.slot_ms),
        verdict: Some(verdict.to_owned()),
        ..CronEvent::default()
    }
}

/// The event about a run's end.
pub(super) fn finished(settle: &Settle, ending: &Ending, settled: &Settled) -> CronEvent {
    let (status, verdict) = match settle.outcome {
        Outcome::Ok => ("ok", "ran"),
        Outcome::Skipped => ("skipped", "skipped"),
        Outcome::Failed(_) => ("error", "ran"),
        Outcome::Cancelled | Outcome::Interrupted => ("error", "interrupted"),
    };
    CronEvent {
        job_id: settle.job_id.to_string(),
        action: "finished".to_owned(),
        status: Some(status.to_owned()),
        error: ending.error.clone(),
        summary: ending.summary.clone(),
        delivered: delivered(ending.delivery_status.as_deref()),
        delivery_status: ending.delivery_status.clone(),
        delivery_error: ending.delivery_error.clone(),
        run_at_ms: Some(settled.started_at_ms),
        duration_ms: Some(settled.duration_ms),
        next_run_at_ms: settle.state.as_ref().and_then(|state| state.next_run_at_ms),
        run_id: Some(settled.run_id.to_string()),
        slot_ms: settle.slot_ms,
        verdict: Some(verdict.to_owned()),
        about: ending
            .about
            .as_deref()
            .and_then(|about| serde_json::from_str(about).ok())
            .unwrap_or_default(),
    }
}

/// Whether a result arrived, where that is known.
pub(crate) fn delivered(status: Option<&str>) -> Option<bool> {
    match status {
        Some("delivered") => Some(true),
        Some("not-delivered") => Some(false),
        _ => None,
    }
}
