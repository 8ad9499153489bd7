//! A job as the planner sees it: when, under which policies, and how far it got. What it does is nobody's business here.

use clawgate_protocol::JobId;

use super::policy::{CatchUp, DISABLE_AFTER, ErrorClass, Overlap, Reason};
use super::schedule::Schedule;

/// A job, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Who.
    pub id: JobId,
    /// When.
    pub schedule: Schedule,
    /// One-shots only: remove the job once it ran well (otherwise it stays, disabled).
    pub delete_after_run: bool,
    /// What to do about passed slots.
    pub catch_up: CatchUp,
    /// What to do about slots due during a run.
    pub overlap: Overlap,
    /// Disable a recurring job after this many failures in a row; `None` = never.
    pub disable_after: Option<u32>,
    /// How far it got.
    pub state: JobState,
}

impl Job {
    /// An enabled job with the default policies: the latest passed slot is caught up at any age, overlapping slots are
    /// skipped with a record, ten failures in a row disable, one-shots are deleted after a good run.
    #[must_use]
    pub fn new(id: impl Into<JobId>, schedule: Schedule) -> Self {
        Self {
            id: id.into(),
            delete_after_run: matches!(schedule, Schedule::At { .. }),
            schedule,
            catch_up: CatchUp::default(),
            overlap: Overlap::default(),
            disable_after: Some(DISABLE_AFTER),
            state: JobState::default(),
        }
    }

    /// Whether it has one occurrence only.
    #[must_use]
    pub fn is_one_shot(&self) -> bool {
        matches!(self.schedule, Schedule::At { .. })
    }
}

/// The durable scheduling state of a job. The planner hands out a new value with every decision; a store writes it whole,
/// in the same transaction, and gives it back unread at the next start.
///
/// All instants are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// Whether slots count at all.
    pub enabled: bool,
    /// Why the planner disabled the job; `None` while enabled and when a person did it.
    pub disabled: Option<DisableReason>,
    /// The earliest slot that no decision exists for. Later slots follow from the schedule.
    pub next_slot_ms: Option<i64>,
    /// When the job runs next as far as known: `next_slot_ms`, or the end of the pause after a failure if that is
    /// later. In the past while a due slot waits for a free place.
    pub next_run_at_ms: Option<i64>,
    /// The newest slot that was decided. No slot at or before it is ever decided again.
    pub last_slot_ms: Option<i64>,
    /// End of the pause after a failure.
    pub backoff_until_ms: Option<i64>,
    /// Failures in a row. Skipped runs count as good ones, interrupted and cancelled ones not at all.
    pub consecutive_errors: u32,
    /// One-shots: how many retries the current occurrence had.
    pub retries: u32,
}

impl Default for JobState {
    fn default() -> Self {
        Self {
            enabled: true,
            disabled: None,
            next_slot_ms: None,
            next_run_at_ms: None,
            last_slot_ms: None,
            backoff_until_ms: None,
            consecutive_errors: 0,
            retries: 0,
        }
    }
}

/// Why the planner disabled a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisableReason {
    /// Too many failures in a row.
    ConsecutiveFailures {
        /// How many.
        count: u32,
        /// The class of the last one.
        last: ErrorClass,
    },
    /// A one-shot that is kept after a good run.
    OneShotDone,
    /// A one-shot that failed for good or ran out of retries.
    OneShotFailed {
        /// The class of the last failure.
        last: ErrorClass,
    },
    /// A one-shot whose last allowed attempt was interrupted.
    OneShotInterrupted,
    /// A one-shot whose every attempt decided to do nothing.
    OneShotSkipped,
    /// A one-shot whose run was stopped.
    OneShotCancelled,
    /// A one-shot that never ran.
    OneShotMissed {
        /// Why.
        reason: Reason,
    },
    /// A cron expression whose last year is over.
    ScheduleOver,
}
