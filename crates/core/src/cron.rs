//! Cron: which job runs when, and what becomes of every slot. Pure: time is an argument, nothing is read or written.
//!
//! # The guarantee
//!
//! **Every due slot of every enabled job ends in exactly one decision**: claimed (and then settled once, with its
//! outcome), or recorded as skipped or missed with the reason. This holds across crashes between any two decisions,
//! restarts, edits, long sleeps, and clocks that jump in either direction, provided that a store executes the decisions
//! in order, each in one transaction.
//!
//! Three rules carry it:
//! 1. A job's slots are decided in rising order, so one number, the earliest undecided slot, says what is left.
//! 2. Every decision carries the job's whole state after it, and is committed together with it.
//! 3. Nothing at or before the newest decided slot is ever decided again. A clock that was once far ahead therefore
//!    leaves a job waiting for that time; what it passed over is on record.
//!
//! # Words
//!
//! - **slot**: one due time of one job in epoch milliseconds, stagger included. Its key is (job id, slot).
//! - **fire**: one start of a job: for a slot, or by hand (then it has no slot and uses none up).
//! - **claim**: the transaction that inserts a fire's run row under the slot's key and advances the job.
//! - **lease**: a claimed run row that is not settled. Its process is alive, or the next start settles it as interrupted.
//! - **misfire policy**: what happens to passed slots ([`CatchUp`]) and to slots due during a run ([`Overlap`]).
//! - **retry**: a recurring job pauses after a failure, and the newest slot of the pause runs at its end, the others are
//!   skipped; a one-shot is tried again under a new slot of its own. An interrupted recurring slot is not run again.
//!
//! # Where what is
//!
//! `expr` and `walk`: cron expressions, on the calendar and in real time. `schedule`: the three kinds. `policy`: choices.
//! `job`, `decision`: what goes in and out. `entry`: one job's slots. `planner`: all jobs, the queue, the runs.
//!
//! Not here: payloads, delivery, timeouts of runs, the clock, the store.

mod decision;
mod entry;
mod expr;
mod job;
mod planner;
mod policy;
mod schedule;
mod walk;

pub use clawgate_protocol::JobId;
pub use decision::{
    Decision, Edit, Fire, FireKind, NotRun, Record, RunMode, RunSeq, Settle, Unfinished,
};
pub use expr::CronExpr;
pub use job::{DisableReason, Job, JobState};
pub use planner::{Planner, PlannerConfig};
pub use policy::{
    CATCH_UP_RUNS_MAX, CatchUp, CatchUpMode, DISABLE_AFTER, ErrorClass, Ladder, ON_TIME_MS,
    ONE_SHOT_BACKOFF_MS, Outcome, Overlap, RECURRING_BACKOFF_MS, Reason, Verdict,
};
pub use schedule::{
    AT_AHEAD_MAX_MS, AT_PAST_MAX_MS, STAGGER_DEFAULT_MS, Schedule, ScheduleError, Slot, Zone,
    check_at, format_at, parse_at, stagger_offset_ms,
};
pub use walk::ClockNote;
