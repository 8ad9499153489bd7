//! What the planner wants done: values that a store executes, one transaction each, in the order given.
//!
//! Every decision about a job carries the job's whole [`JobState`] after it. So whatever prefix of the decisions was
//! executed when the process died, the store holds a state from which [`Planner::recover`](super::Planner::recover)
//! goes on without losing or repeating a slot.

use clawgate_protocol::JobId;

use super::job::JobState;
use super::policy::{Outcome, Reason, Verdict};

/// The number of a run (the wire's run id is made from it elsewhere), unique over the life of a store (the next one is given to [`Planner::new`](super::Planner::new)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunSeq(pub u64);

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Claim a slot, then start the run.
    Claim(Fire),
    /// Record one or more slots that do not run.
    Record(Record),
    /// Close a run.
    Settle(Settle),
}

/// Why a run happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FireKind {
    /// Its slot is due.
    Scheduled,
    /// Its slot is long past.
    CatchUp,
    /// The first run after a failure: a recurring job's newest slot of the pause, or a one-shot's next attempt, which
    /// has a slot of its own.
    Retry,
    /// A person asked; no slot is involved.
    Manual,
}

/// A claim. In one transaction: insert the run row as running, under the unique key (job, slot), and write `state`.
/// After the commit the run starts; the row is its lease until [`Settle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fire {
    /// The new run.
    pub run_seq: RunSeq,
    /// Whose.
    pub job_id: JobId,
    /// The slot, `None` for manual runs (so that an SQL unique key over (job, slot) fits as it is).
    pub slot_ms: Option<i64>,
    /// Why.
    pub kind: FireKind,
    /// One-shots: 0 for the first attempt, then 1, 2, 3.
    pub attempt: u32,
    /// When the slot was noticed; from here to `started_at_ms` it waited for a free place. Not part of the run's time.
    pub queued_at_ms: i64,
    /// When it got its place.
    pub started_at_ms: i64,
    /// The job after the claim.
    pub state: JobState,
}

/// Slots that do not run. In one transaction: insert the row(s) under the unique key (job, slot) and write `state`.
///
/// Usually one slot (`count` 1). When a long absence passed more slots than the planner records one by one, the oldest
/// come as a single range of `count` slots from `slot_ms` to `last_slot_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub job_id: JobId,
    /// The slot, or the first of the range.
    pub slot_ms: i64,
    /// The last of the range; `slot_ms` again for one slot.
    pub last_slot_ms: i64,
    /// How many slots.
    pub count: u64,
    /// Skipped or missed.
    pub verdict: Verdict,
    /// Why. A range carries the reason of its newest slot.
    pub reason: Reason,
    /// When it was decided.
    pub at_ms: i64,
    /// The job after the record.
    pub state: JobState,
}

/// The end of a run. In one transaction: close the run row, and write `state` or delete the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The run.
    pub run_seq: RunSeq,
    /// Whose.
    pub job_id: JobId,
    /// Its slot, `None` for manual runs.
    pub slot_ms: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub ended_at_ms: i64,
    /// The job after it; `None` when the job is gone.
    pub state: Option<JobState>,
    /// Delete the job: a one-shot that did its work.
    pub delete: bool,
}

/// What an edit of a job entails. Execute `decisions` in order, then commit the edit itself together with `state`, then
/// stop the run in `abort` (its end still comes back through [`Planner::finished`](super::Planner::finished)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Records of slots that were due and will not run.
    pub decisions: Vec<Decision>,
    /// The job after the edit; `None` when it was removed.
    pub state: Option<JobState>,
    /// The run to stop.
    pub abort: Option<RunSeq>,
}

/// A run that an earlier process claimed and never closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The run.
    pub run_seq: RunSeq,
    /// Whose.
    pub job_id: JobId,
    /// As claimed.
    pub slot_ms: Option<i64>,
    /// As claimed.
    pub kind: FireKind,
}

/// When a manual run is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// Now, due or not, enabled or not.
    Force,
    /// Only if a slot is due: that slot then starts at once, before its turn.
    Due,
}

/// Why a manual run did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRun {
    /// A run of this job is going on.
    #[error("already-running")]
    AlreadyRunning,
    /// No slot is due.
    #[error("not-due")]
    NotDue,
    /// No such job.
    #[error("unknown cron job")]
    Unknown,
}
