//! Cron: jobs, and the record of every slot and run.
//!
//! The acts mirror the decisions of [`clawgate_core::cron`]: [`Tx::claim_fire`],
//! [`Tx::record_slot`], [`Tx::settle_run`]. Each of them writes the run's row and the job's whole
//! state, and is meant to share its transaction with nothing that can fail for another reason.
//!
//! **Invariant:** a slot is decided once. A claim or a record of a slot at or before
//! `cron_jobs.last_slot_ms` is refused, and so is a second row under (job, slot).
//!
//! A definition is a text that this room does not read; everything that a page sorts, filters or
//! shows by itself has a column beside it.

mod job;
mod run;

pub use job::{CronJob, JobFilter, JobSort, KeepJob, LastRun};
pub use run::{CronRun, RunFilter};

use clawgate_core::{
    JobId, RunId,
    cron::{
        DisableReason, ErrorClass, Fire, FireKind, JobState, Outcome, Reason, Record, RunSeq,
        Settle, Verdict,
    },
};
use rusqlite::{OptionalExtension as _, Row, ToSql, named_params};

use crate::{StoreError, Tx};

/// Rows of one job's history that are kept; the oldest make room.
pub const HISTORY_MAX: i64 = 2_000;

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The job's definition as of the claim: what the run does.
    pub definition: String,
}

/// What a run says at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Why it did not run to its own end.
    pub reason: Option<String>,
    /// Text of the failure.
    pub error: Option<String>,
    /// What it said.
    pub summary: Option<String>,
    /// Outcome of the delivery, which is not the run's.
    pub delivery_status: Option<String>,
    /// Why nothing is delivered.
    pub delivery_error: Option<String>,
    /// What a turn says of itself besides, a JSON object.
    pub about: Option<String>,
}

/// A closed run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its id.
    pub run_id: RunId,
    /// When it began.
    pub started_at_ms: i64,
    /// How long it took, queue time not counted.
    pub duration_ms: i64,
}

/// What a job says about who is to be told of a run's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledJob {
    /// Its definition.
    pub definition: String,
    /// When its failures were told last.
    pub alerted_at_ms: Option<i64>,
    /// Whether they were told and are not over.
    pub alert_open: bool,
}

/// The state columns, always written together. `:now` dates a disabling once.
const SET_STATE: &str = "enabled = :enabled, disabled_why = :why, disabled_what = :what,
     disabled_count = :count, next_slot_ms = :next_slot, next_run_at_ms = :next_run,
     last_slot_ms = :last_slot, backoff_until_ms = :backoff, consecutive_errors = :errors,
     retries = :retries,
     disabled_at_ms = iif(:why IS NULL, NULL, coalesce(disabled_at_ms, :now))";

/// The values for [`SET_STATE`].
struct StateValues {
    why: Option<&'static str>,
    what: Option<&'static str>,
    count: Option<u32>,
}

impl StateValues {
    fn of(state: &JobState) -> Self {
        let (why, what, count) = match state.disabled {
            None => (None, None, None),
            Some(reason) => disable_words(reason),
        };
        Self { why, what, count }
    }

    fn params<'a>(
        &'a self,
        job_id: &'a &'a str,
        state: &'a JobState,
        now_ms: &'a i64,
    ) -> Vec<(&'static str, &'a dyn ToSql)> {
        vec![
            (":job_id", job_id),
            (":enabled", &state.enabled),
            (":why", &self.why),
            (":what", &self.what),
            (":count", &self.count),
            (":next_slot", &state.next_slot_ms),
            (":next_run", &state.next_run_at_ms),
            (":last_slot", &state.last_slot_ms),
            (":backoff", &state.backoff_until_ms),
            (":errors", &state.consecutive_errors),
            (":retries", &state.retries),
            (":now", now_ms),
        ]
    }
}

impl Tx<'_> {
    /// Claims a fire: the run's row as running, and the job as it is after the claim.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] when the slot was decided before or the job is not there.
    pub fn claim_fire(
        &self,
        fire: &Fire,
        run_id: &RunId,
        boot_id: &str,
    ) -> Result<Claimed, StoreError> {
        let doing = StoreError::doing("claiming a fire");
        let job_id = fire.job_id.as_str();
        let values = StateValues::of(&fire.state);
        let mut params = values.params(&job_id, &fire.state, &fire.started_at_ms);
        params.push((":started", &fire.started_at_ms));
        params.push((":slot", &fire.slot_ms));
        let (name, definition, history) = self
            .db
            .prepare_cached(&format!(
                "UPDATE cron_jobs SET {SET_STATE}, running_at_ms = :started, history = history + 1
                 WHERE job_id = :job_id
                     AND (:slot IS NULL OR last_slot_ms IS NULL OR last_slot_ms < :slot)
                 RETURNING name, definition, history"
            ))
            .and_then(|mut s| {
                s.query_row(params.as_slice(), |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
            })
            .map_err(&doing)?
            .ok_or_else(|| decided(job_id, fire.slot_ms))?;
        let inserted = self
            .db
            .prepare_cached(
                "INSERT INTO cron_runs (run_id, run_seq, job_id, job_name, slot_ms, kind, attempt,
                     status, queued_at_ms, started_at_ms, boot_id)
                 VALUES (:run_id, :run_seq, :job_id, :name, :slot, :kind, :attempt, 'running',
                     :queued, :started, :boot)
                 ON CONFLICT DO NOTHING",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":run_id": run_id.as_str(),
                    ":run_seq": number(fire.run_seq),
                    ":job_id": job_id,
                    ":name": name,
                    ":slot": fire.slot_ms,
                    ":kind": kind_word(fire.kind),
                    ":attempt": fire.attempt,
                    ":queued": fire.queued_at_ms,
                    ":started": fire.started_at_ms,
                    ":boot": boot_id,
                })
            })
            .map_err(&doing)?;
        if inserted == 0 {
            return Err(decided(job_id, fire.slot_ms));
        }
        self.forget_history(job_id, history)?;
        Ok(Claimed { definition })
    }

    /// Records a slot, or a range of slots, that does not run, and the job as it is after that.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] when the slot was decided before or the job is not there.
    pub fn record_slot(
        &self,
        record: &Record,
        run_id: &RunId,
        boot_id: &str,
    ) -> Result<(), StoreError> {
        let doing = StoreError::doing("recording a slot");
        let job_id = record.job_id.as_str();
        let values = StateValues::of(&record.state);
        let mut params = values.params(&job_id, &record.state, &record.at_ms);
        params.push((":slot", &record.slot_ms));
        let (name, history) = self
            .db
            .prepare_cached(&format!(
                "UPDATE cron_jobs SET {SET_STATE}, history = history + 1
                 WHERE job_id = :job_id AND (last_slot_ms IS NULL OR last_slot_ms < :slot)
                 RETURNING name, history"
            ))
            .and_then(|mut s| {
                s.query_row(params.as_slice(), |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?))
                })
                .optional()
            })
            .map_err(&doing)?
            .ok_or_else(|| decided(job_id, Some(record.slot_ms)))?;
        let inserted = self
            .db
            .prepare_cached(
                "INSERT INTO cron_runs (run_id, job_id, job_name, slot_ms, last_slot_ms, slots,
                     kind, attempt, status, verdict, reason, ended_at_ms, next_run_at_ms,
                     delivery_status, boot_id)
                 VALUES (:run_id, :job_id, :name, :slot, :last_slot, :slots, 'record', 0,
                     'skipped', :verdict, :reason, :at, :next_run, 'not-requested', :boot)
                 ON CONFLICT DO NOTHING",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":run_id": run_id.as_str(),
                    ":job_id": job_id,
                    ":name": name,
                    ":slot": record.slot_ms,
                    ":last_slot": (record.count > 1).then_some(record.last_slot_ms),
                    ":slots": i64::try_from(record.count).unwrap_or(i64::MAX),
                    ":verdict": match record.verdict {
                        Verdict::Skipped => "skipped",
                        Verdict::Missed => "missed",
                    },
                    ":reason": record.reason.as_str(),
                    ":at": record.at_ms,
                    ":next_run": record.state.next_run_at_ms,
                    ":boot": boot_id,
                })
            })
            .map_err(&doing)?;
        if inserted == 0 {
            return Err(decided(job_id, Some(record.slot_ms)));
        }
        self.forget_history(job_id, history)
    }

    /// Closes a run, and writes the job as it is after that or removes it.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] when no such run is open.
    pub fn settle_run(&self, settle: &Settle, ending: &Ending) -> Result<Settled, StoreError> {
        let doing = StoreError::doing("settling a run");
        let (status, verdict, class) = outcome_words(settle.outcome);
        let next_run_at_ms = settle.state.as_ref().and_then(|state| state.next_run_at_ms);
        let settled = self
            .db
            .prepare_cached(
                "UPDATE cron_runs SET status = :status, verdict = :verdict, reason = :reason,
                     error = :error, error_class = :class, summary = :summary,
                     ended_at_ms = :ended, duration_ms = max(:ended - started_at_ms, 0),
                     next_run_at_ms = :next_run, delivery_status = :delivery,
                     delivery_error = :delivery_error, about = :about
                 WHERE run_seq = :run_seq AND status = 'running'
                 RETURNING run_id, started_at_ms, duration_ms",
            )
            .and_then(|mut s| {
                s.query_row(
                    named_params! {
                        ":status": status,
                        ":verdict": verdict,
                        ":reason": ending.reason,
                        ":error": ending.error,
                        ":class": class,
                        ":summary": ending.summary,
                        ":ended": settle.ended_at_ms,
                        ":next_run": next_run_at_ms,
                        ":delivery": ending.delivery_status,
                        ":delivery_error": ending.delivery_error,
                        ":about": ending.about,
                        ":run_seq": number(settle.run_seq),
                    },
                    |row| {
                        Ok(Settled {
                            run_id: RunId::new(row.get::<_, String>(0)?),
                            started_at_ms: row.get(1)?,
                            duration_ms: row.get(2)?,
                        })
                    },
                )
                .optional()
            })
            .map_err(&doing)?
            .ok_or_else(|| StoreError::Inconsistent {
                table: "cron_runs",
                column: "status",
                row: format!("run {}", settle.run_seq.0),
            })?;
        match &settle.state {
            _ if settle.delete => {
                self.remove_cron_job(&settle.job_id)?;
            }
            Some(state) => {
                let job_id = settle.job_id.as_str();
                let values = StateValues::of(state);
                let mut params = values.params(&job_id, state, &settle.ended_at_ms);
                params.push((":started", &settled.started_at_ms));
                params.push((":status", &status));
                params.push((":duration", &settled.duration_ms));
                params.push((":error", &ending.error));
                params.push((":class", &class));
                params.push((":delivery", &ending.delivery_status));
                params.push((":delivery_error", &ending.delivery_error));
                self.db
                    .prepare_cached(&format!(
                        "UPDATE cron_jobs SET {SET_STATE}, running_at_ms = NULL,
                             updated_at_ms = :now, last_run_at_ms = :started,
                             last_status = :status, last_duration_ms = :duration,
                             last_error = :error, last_error_class = :class,
                             last_delivery = :delivery, last_delivery_error = :delivery_error
                         WHERE job_id = :job_id"
                    ))
                    .and_then(|mut s| s.execute(params.as_slice()))
                    .map_err(&doing)
                    .and_then(|rows| job::one_row(rows, job_id))?;
            }
            None => {}
        }
        Ok(settled)
    }

    /// The job of a run that is about to be closed; none when it was removed before.
    ///
    /// # Errors
    /// The database's.
    pub fn settled_job(&self, job_id: &JobId) -> Result<Option<SettledJob>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT definition, alerted_at_ms, alert_open FROM cron_jobs WHERE job_id = ?1",
            )
            .and_then(|mut s| {
                s.query_row([job_id.as_str()], |row| {
                    Ok(SettledJob {
                        definition: row.get(0)?,
                        alerted_at_ms: row.get(1)?,
                        alert_open: row.get(2)?,
                    })
                })
                .optional()
            })
            .map_err(StoreError::doing("finding a run's job"))
    }

    /// Remembers that a job's failures were told, or that they are over.
    ///
    /// # Errors
    /// The database's.
    pub fn set_alert(
        &self,
        job_id: &str,
        alerted_at_ms: Option<i64>,
        open: bool,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE cron_jobs SET alerted_at_ms = ?2, alert_open = ?3 WHERE job_id = ?1",
            )
            .and_then(|mut s| s.execute((job_id, alerted_at_ms, open)))
            .map(drop)
            .map_err(StoreError::doing("noting an alert"))
    }

    /// Keeps the newest [`HISTORY_MAX`] rows of a job: one statement, one row in the steady state.
    fn forget_history(&self, job_id: &str, history: i64) -> Result<(), StoreError> {
        let surplus = history - HISTORY_MAX;
        if surplus <= 0 {
            return Ok(());
        }
        let doing = StoreError::doing("forgetting old runs");
        let forgotten = self
            .db
            .prepare_cached(
                "DELETE FROM cron_runs WHERE seq IN (
                     SELECT seq FROM cron_runs WHERE job_id = ?1 AND status <> 'running'
                     ORDER BY ended_at_ms, seq LIMIT ?2)",
            )
            .and_then(|mut s| s.execute((job_id, surplus)))
            .map_err(&doing)?;
        self.db
            .prepare_cached("UPDATE cron_jobs SET history = history - ?2 WHERE job_id = ?1")
            .and_then(|mut s| s.execute((job_id, i64::try_from(forgotten).unwrap_or(i64::MAX))))
            .map(drop)
            .map_err(&doing)
    }
}

/// A second decision about a slot, or a decision about no job.
fn decided(job_id: &str, slot_ms: Option<i64>) -> StoreError {
    StoreError::Inconsistent {
        table: "cron_runs",
        column: "slot_ms",
        row: match slot_ms {
            Some(slot) => format!("{job_id} at {slot}"),
            None => job_id.to_owned(),
        },
    }
}

fn number(run_seq: RunSeq) -> i64 {
    i64::try_from(run_seq.0).unwrap_or(i64::MAX)
}

fn kind_word(kind: FireKind) -> &'static str {
    match kind {
        FireKind::Scheduled => "scheduled",
        FireKind::CatchUp => "catch-up",
        FireKind::Retry => "retry",
        FireKind::Manual => "manual",
    }
}

fn kind_from(word: &str) -> Option<FireKind> {
    [
        FireKind::Scheduled,
        FireKind::CatchUp,
        FireKind::Retry,
        FireKind::Manual,
    ]
    .into_iter()
    .find(|kind| kind_word(*kind) == word)
}

/// Status, verdict and error class of an outcome.
fn outcome_words(outcome: Outcome) -> (&'static str, &'static str, Option<&'static str>) {
    match outcome {
        Outcome::Ok => ("ok", "ran", None),
        Outcome::Skipped => ("skipped", "skipped", None),
        Outcome::Failed(class) => ("error", "ran", Some(class.as_str())),
        Outcome::Cancelled | Outcome::Interrupted => ("error", "interrupted", None),
    }
}

/// Why, about what, and after how many.
type DisableWords = (Option<&'static str>, Option<&'static str>, Option<u32>);

fn disable_words(reason: DisableReason) -> DisableWords {
    match reason {
        DisableReason::ConsecutiveFailures { count, last } => (
            Some("consecutive-failures"),
            Some(last.as_str()),
            Some(count),
        ),
        DisableReason::OneShotDone => (Some("one-shot-done"), None, None),
        DisableReason::OneShotFailed { last } => {
            (Some("one-shot-failed"), Some(last.as_str()), None)
        }
        DisableReason::OneShotInterrupted => (Some("one-shot-interrupted"), None, None),
        DisableReason::OneShotSkipped => (Some("one-shot-skipped"), None, None),
        DisableReason::OneShotCancelled => (Some("one-shot-cancelled"), None, None),
        DisableReason::OneShotMissed { reason } => {
            (Some("one-shot-missed"), Some(reason.as_str()), None)
        }
        DisableReason::ScheduleOver => (Some("schedule-over"), None, None),
    }
}

fn disable_from(why: &str, what: Option<&str>, count: Option<u32>) -> Option<DisableReason> {
    Some(match why {
        "consecutive-failures" => DisableReason::ConsecutiveFailures {
            count: count?,
            last: ErrorClass::parse(what?)?,
        },
        "one-shot-done" => DisableReason::OneShotDone,
        "one-shot-failed" => DisableReason::OneShotFailed {
            last: ErrorClass::parse(what?)?,
        },
        "one-shot-interrupted" => DisableReason::OneShotInterrupted,
        "one-shot-skipped" => DisableReason::OneShotSkipped,
        "one-shot-cancelled" => DisableReason::OneShotCancelled,
        "one-shot-missed" => DisableReason::OneShotMissed {
            reason: reason_from(what?)?,
        },
        "schedule-over" => DisableReason::ScheduleOver,
        _ => return None,
    })
}

fn reason_from(word: &str) -> Option<Reason> {
    [
        Reason::CatchUpOff,
        Reason::TooOld,
        Reason::Superseded,
        Reason::Overlap,
        Reason::Backoff,
        Reason::Disabled,
        Reason::Removed,
        Reason::Rescheduled,
        Reason::Cancelled,
    ]
    .into_iter()
    .find(|reason| reason.as_str() == word)
}

/// A total that the triggers keep.
fn counted(db: &rusqlite::Connection, whats: &[&str]) -> Result<u64, StoreError> {
    let mut total = 0_i64;
    for what in whats {
        total += db
            .prepare_cached("SELECT n FROM cron_counts WHERE what = ?1")
            .and_then(|mut s| s.query_row([what], |row: &Row<'_>| row.get::<_, i64>(0)))
            .map_err(StoreError::doing("counting cron rows"))?;
    }
    Ok(u64::try_from(total).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_for_disabling_read_back() {
        for reason in [
            DisableReason::ConsecutiveFailures {
                count: 10,
                last: ErrorClass::RateLimited,
            },
            DisableReason::OneShotDone,
            DisableReason::OneShotFailed {
                last: ErrorClass::NotAvailable,
            },
            DisableReason::OneShotInterrupted,
            DisableReason::OneShotSkipped,
            DisableReason::OneShotCancelled,
            DisableReason::OneShotMissed {
                reason: Reason::TooOld,
            },
            DisableReason::ScheduleOver,
        ] {
            let (why, what, count) = disable_words(reason);
            assert_eq!(disable_from(why.unwrap(), what, count), Some(reason));
        }
        assert_eq!(disable_from("weather", None, None), None);
    }
}
