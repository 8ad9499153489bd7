//! One job inside the planner: which slots were passed, which wait, what the next decision about them is.
//!
//! The rule that makes a crash harmless: **the slots of a job are decided in rising order.** A slot that may still run
//! waits in memory only; durably it is `next_slot_ms`, the earliest undecided slot, and everything after it follows
//! from the schedule. So a newer slot is never recorded before an older one, and when both cannot be kept it is the
//! older one that goes.

use std::collections::VecDeque;

use super::decision::{Decision, Fire, FireKind, Record, RunSeq, Settle};
use super::job::{DisableReason, Job, JobState};
use super::policy::{Ladder, Outcome, Overlap, Reason};

/// A due slot that waits for its job or for a free place.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    slot_ms: i64,
    kind: FireKind,
    queued_at_ms: i64,
}

/// Slots that will not run: `count` of them from `first` to `last`.
struct Dropped {
    first: i64,
    last: i64,
    count: u64,
    reason: Reason,
}

/// A claimed run.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) run_seq: RunSeq,
    pub(super) slot_ms: Option<i64>,
    pub(super) kind: FireKind,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    /// Due, undecided, in rising order.
    waiting: VecDeque<Waiting>,
    /// The first slot after the waiting ones.
    upcoming: Option<i64>,
    pub(super) running: Option<Running>,
    /// The keys this entry has in the planner's two indexes.
    pub(super) wake_key: Option<i64>,
    pub(super) ready_key: Option<i64>,
}

impl Entry {
    /// Takes a job as a store kept it.
    pub(super) fn stored(job: Job) -> Self {
        let upcoming = job.state.next_slot_ms.filter(|_| job.state.enabled);
        Self {
            job,
            waiting: VecDeque::new(),
            upcoming,
            running: None,
            wake_key: None,
            ready_key: None,
        }
    }

    /// When the planner must look at this job again.
    pub(super) fn wake(&self) -> Option<i64> {
        let backoff = self.job.state.backoff_until_ms.unwrap_or(i64::MIN);
        self.upcoming.map(|slot| slot.max(backoff))
    }

    /// The due time under which this job queues for a place, if it does.
    pub(super) fn ready(&self) -> Option<i64> {
        match (&self.running, self.waiting.front()) {
            (None, Some(front)) => Some(self.ready_key.unwrap_or(front.slot_ms)),
            _ => None,
        }
    }

    /// Starts counting slots afresh, from `now_ms` but never at or before a decided one.
    pub(super) fn restart(&mut self, now_ms: i64) {
        let Job {
            id,
            schedule,
            state,
            ..
        } = &mut self.job;
        state.backoff_until_ms = None;
        state.retries = 0;
        state.disabled = None;
        let first = schedule.first_after(id.as_str(), now_ms);
        self.upcoming = match state.last_slot_ms {
            Some(last) if first.is_some_and(|first| first <= last) => {
                schedule.next_after(id.as_str(), last)
            }
            _ => first,
        };
        self.refresh();
    }

    /// Stops counting slots.
    pub(super) fn stop(&mut self) {
        self.upcoming = None;
        self.job.state.backoff_until_ms = None;
        self.refresh();
    }

    /// Sorts every slot due at `now_ms` into waiting ones and recorded ones.
    pub(super) fn gather(&mut self, records_each_max: u64, now_ms: i64, out: &mut Vec<Decision>) {
        let Some(first) = self.upcoming else { return };
        if self.wake().is_none_or(|wake| wake > now_ms) {
            return;
        }
        // Over, but kept until a claim clears it: what is in memory only must not differ from the store.
        let backoff = self.job.state.backoff_until_ms;
        let mut dropped = Vec::new();
        let admitted = if self.job.is_one_shot() {
            self.upcoming = None;
            self.admit_one_shot(first, now_ms, &mut dropped)
        } else {
            self.upcoming = self.next_after(first);
            if self.upcoming.is_some_and(|next| next <= now_ms) {
                self.upcoming = self.next_after(now_ms);
            }
            let drops = &mut Drops {
                entry: self,
                each_max: records_each_max,
                list: &mut dropped,
            };
            match backoff.filter(|until| first < *until) {
                Some(until) => drops.after_backoff(first, until, now_ms),
                None => drops.passed(first, now_ms),
            }
        };
        self.merge(admitted, dropped, now_ms, out);
    }

    /// Records every slot that is due and undecided, waiting or held back by a pause.
    pub(super) fn flush(
        &mut self,
        records_each_max: u64,
        reason: Reason,
        now_ms: i64,
        out: &mut Vec<Decision>,
    ) {
        self.gather(records_each_max, now_ms, out);
        let mut dropped = self.drop_waiting(usize::MAX, reason);
        if let Some(first) = self.upcoming.filter(|first| *first <= now_ms) {
            // Still due after gathering: held back by the pause after a failure.
            self.upcoming = self.next_after(now_ms);
            Drops {
                entry: self,
                each_max: records_each_max,
                list: &mut dropped,
            }
            .range(first, now_ms, |_| Reason::Backoff);
        }
        self.record(dropped, now_ms, out);
    }

    /// Records every waiting slot as cancelled.
    pub(super) fn cancel_waiting(
        &mut self,
        records_each_max: u64,
        now_ms: i64,
        out: &mut Vec<Decision>,
    ) {
        self.gather(records_each_max, now_ms, out);
        let dropped = self.drop_waiting(usize::MAX, Reason::Cancelled);
        self.record(dropped, now_ms, out);
    }

    /// Claims the oldest waiting slot, if any.
    pub(super) fn claim(&mut self, run_seq: RunSeq, now_ms: i64) -> Option<Fire> {
        let Waiting {
            slot_ms,
            kind,
            queued_at_ms,
        } = self.waiting.pop_front()?;
        self.job.state.last_slot_ms = Some(slot_ms);
        self.job.state.backoff_until_ms = None;
        self.refresh();
        Some(self.start(run_seq, Some(slot_ms), kind, queued_at_ms, now_ms))
    }

    /// Starts a run that stands for no slot.
    pub(super) fn claim_manual(&mut self, run_seq: RunSeq, now_ms: i64) -> Fire {
        self.start(run_seq, None, FireKind::Manual, now_ms, now_ms)
    }

    /// Applies the end of a run. The caller has gathered what became due during it.
    pub(super) fn settle(
        &mut self,
        ladder: &Ladder,
        run: &Running,
        outcome: Outcome,
        now_ms: i64,
        out: &mut Vec<Decision>,
    ) -> bool {
        self.running = None;
        let delete = if run.kind == FireKind::Manual {
            self.settle_manual(outcome);
            false
        } else if self.job.is_one_shot() {
            self.settle_one_shot(ladder, outcome, now_ms)
        } else {
            self.settle_recurring(ladder, outcome, now_ms, out);
            false
        };
        self.refresh();
        out.push(Decision::Settle(Settle {
            run_seq: run.run_seq,
            job_id: self.job.id.clone(),
            slot_ms: run.slot_ms,
            outcome,
            ended_at_ms: now_ms,
            state: Some(self.job.state.clone()),
            delete,
        }));
        delete
    }

    /// A manual run says nothing about the schedule, except that a good one ends the pause after failures.
    fn settle_manual(&mut self, outcome: Outcome) {
        if outcome == Outcome::Ok && !self.job.is_one_shot() {
            self.job.state.consecutive_errors = 0;
            self.job.state.backoff_until_ms = None;
        }
    }

    fn settle_one_shot(&mut self, ladder: &Ladder, outcome: Outcome, now_ms: i64) -> bool {
        let state = &mut self.job.state;
        match outcome {
            Outcome::Ok | Outcome::Skipped => state.consecutive_errors = 0,
            Outcome::Failed(_) => state.consecutive_errors += 1,
            Outcome::Cancelled | Outcome::Interrupted => {}
        }
        // Edited during the run: what ended is not the occurrence that the job now stands for.
        let is_superseded = !state.enabled || self.upcoming.is_some() || !self.waiting.is_empty();
        if is_superseded {
            return false;
        }
        if let Some(pause_ms) = ladder.one_shot_pause_ms(outcome, state.retries) {
            state.retries += 1;
            // A slot of its own, above the decided ones even if the clock went back meanwhile.
            let decided = state.last_slot_ms.unwrap_or(now_ms);
            self.upcoming = Some(now_ms.max(decided).saturating_add(pause_ms.max(1)));
            return false;
        }
        match outcome {
            Outcome::Ok if self.job.delete_after_run => return true,
            Outcome::Ok => self.disable(DisableReason::OneShotDone),
            Outcome::Failed(last) => self.disable(DisableReason::OneShotFailed { last }),
            Outcome::Skipped => self.disable(DisableReason::OneShotSkipped),
            Outcome::Cancelled => self.disable(DisableReason::OneShotCancelled),
            Outcome::Interrupted => self.disable(DisableReason::OneShotInterrupted),
        }
        false
    }

    fn settle_recurring(
        &mut self,
        ladder: &Ladder,
        outcome: Outcome,
        now_ms: i64,
        out: &mut Vec<Decision>,
    ) {
        match outcome {
            Outcome::Ok | Outcome::Skipped => {
                self.job.state.consecutive_errors = 0;
                self.job.state.backoff_until_ms = None;
            }
            Outcome::Cancelled | Outcome::Interrupted => {}
            Outcome::Failed(last) => {
                let count = self.job.state.consecutive_errors.saturating_add(1);
                self.job.state.consecutive_errors = count;
                if !self.job.state.enabled {
                    return;
                }
                if self
                    .job
                    .disable_after
                    .is_some_and(|limit| count >= limit.max(1))
                {
                    let dropped = self.drop_waiting(usize::MAX, Reason::Disabled);
                    self.record(dropped, now_ms, out);
                    self.disable(DisableReason::ConsecutiveFailures { count, last });
                    return;
                }
                // Waiting slots wait for the end of the pause too; it decides anew which of them runs.
                if let Some(front) = self.waiting.front() {
                    self.upcoming = Some(front.slot_ms);
                    self.waiting.clear();
                }
                let until = now_ms.saturating_add(ladder.recurring_pause_ms(count));
                self.job.state.backoff_until_ms = Some(until);
            }
        }
        self.retire(DisableReason::ScheduleOver);
    }

    fn disable(&mut self, reason: DisableReason) {
        self.job.state.enabled = false;
        self.job.state.disabled = Some(reason);
        self.stop();
    }

    /// Disables a job that has nothing left to wait for.
    fn retire(&mut self, reason: DisableReason) {
        let is_over =
            self.upcoming.is_none() && self.waiting.is_empty() && !self.is_running_a_slot();
        if self.job.state.enabled && is_over {
            self.disable(reason);
        }
    }

    fn is_running_a_slot(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|run| run.kind != FireKind::Manual)
    }

    fn start(
        &mut self,
        run_seq: RunSeq,
        slot_ms: Option<i64>,
        kind: FireKind,
        queued_at_ms: i64,
        now_ms: i64,
    ) -> Fire {
        self.running = Some(Running {
            run_seq,
            slot_ms,
            kind,
        });
        Fire {
            run_seq,
            job_id: self.job.id.clone(),
            slot_ms,
            kind,
            attempt: if slot_ms.is_some() {
                self.job.state.retries
            } else {
                0
            },
            queued_at_ms,
            started_at_ms: now_ms,
            state: self.job.state.clone(),
        }
    }

    fn admit_one_shot(
        &self,
        slot_ms: i64,
        now_ms: i64,
        dropped: &mut Vec<Dropped>,
    ) -> Vec<Waiting> {
        match self.job.catch_up.admit(slot_ms, now_ms) {
            Ok(is_on_time) => vec![Waiting {
                slot_ms,
                kind: match (self.job.state.retries, is_on_time) {
                    (1.., _) => FireKind::Retry,
                    (0, true) => FireKind::Scheduled,
                    (0, false) => FireKind::CatchUp,
                },
                queued_at_ms: now_ms,
            }],
            Err(reason) => {
                dropped.push(Dropped {
                    first: slot_ms,
                    last: slot_ms,
                    count: 1,
                    reason,
                });
                Vec::new()
            }
        }
    }

    /// Joins newly admitted slots to the waiting ones, making room at the old end.
    fn merge(
        &mut self,
        admitted: Vec<Waiting>,
        dropped: Vec<Dropped>,
        now_ms: i64,
        out: &mut Vec<Decision>,
    ) {
        let room = self.job.catch_up.runs_max();
        let surplus = if dropped.is_empty() {
            (self.waiting.len() + admitted.len()).saturating_sub(room)
        } else {
            // Newer slots are recorded now, and rising order forbids that before these are decided.
            usize::MAX
        };
        let reason = if self.running.is_some() {
            Reason::Overlap
        } else {
            Reason::Superseded
        };
        let mut list = self.drop_waiting(surplus, reason);
        list.extend(dropped);
        self.waiting.extend(admitted);
        self.refresh();
        self.record(list, now_ms, out);
    }

    fn drop_waiting(&mut self, count: usize, reason: Reason) -> Vec<Dropped> {
        let count = count.min(self.waiting.len());
        self.waiting
            .drain(..count)
            .map(|waiting| Dropped {
                first: waiting.slot_ms,
                last: waiting.slot_ms,
                count: 1,
                reason,
            })
            .collect()
    }

    /// Emits one record per item; each carries the state in which exactly the items after it are undecided.
    fn record(&mut self, dropped: Vec<Dropped>, now_ms: i64, out: &mut Vec<Decision>) {
        let mut rest = dropped.into_iter().peekable();
        while let Some(item) = rest.next() {
            self.job.state.last_slot_ms = Some(item.last);
            match rest.peek() {
                Some(next) => self.set_next(Some(next.first)),
                None => {
                    let one_shot = self.job.is_one_shot();
                    self.retire(if one_shot {
                        DisableReason::OneShotMissed {
                            reason: item.reason,
                        }
                    } else {
                        DisableReason::ScheduleOver
                    });
                    self.refresh();
                }
            }
            out.push(Decision::Record(Record {
                job_id: self.job.id.clone(),
                slot_ms: item.first,
                last_slot_ms: item.last,
                count: item.count,
                verdict: item.reason.verdict(),
                reason: item.reason,
                at_ms: now_ms,
                state: self.job.state.clone(),
            }));
        }
    }

    /// Brings the durable view in line with `waiting` and `upcoming`.
    fn refresh(&mut self) {
        let next = self
            .waiting
            .front()
            .map(|front| front.slot_ms)
            .or(self.upcoming);
        self.set_next(next);
    }

    fn set_next(&mut self, next: Option<i64>) {
        let JobState {
            next_slot_ms,
            next_run_at_ms,
            backoff_until_ms,
            ..
        } = &mut self.job.state;
        *next_slot_ms = next;
        *next_run_at_ms = next.map(|slot| slot.max(backoff_until_ms.unwrap_or(i64::MIN)));
    }

    fn next_after(&self, after_ms: i64) -> Option<i64> {
        self.job.schedule.next_after(self.job.id.as_str(), after_ms)
    }

    /// Whether a due slot is skipped because of a run that is going on.
    fn skips_overlap(&self) -> bool {
        self.job.overlap == Overlap::Skip && self.waiting.is_empty() && self.is_running_a_slot()
    }

    /// The newest `count_max` of the slots from `first`, which is one, to `end`.
    fn newest(&self, first: i64, end: i64, count_max: u64) -> Vec<i64> {
        if self.next_after(first).is_none_or(|next| next > end) {
            return vec![first];
        }
        let id = self.job.id.as_str();
        let mut newest = self.job.schedule.latest(id, first, end, count_max);
        // `first` counts even if the schedule no longer yields it (newer time zone rules): it was promised.
        if (newest.len() as u64) < count_max {
            newest.insert(0, first);
        }
        newest
    }
}

/// The passed slots of a recurring job on their way into [`Dropped`] and [`Waiting`].
struct Drops<'a> {
    entry: &'a Entry,
    each_max: u64,
    list: &'a mut Vec<Dropped>,
}

impl Drops<'_> {
    /// Slots from `first` to `now_ms` under the overlap and catch-up policies.
    fn passed(&mut self, first: i64, now_ms: i64) -> Vec<Waiting> {
        if self.entry.skips_overlap() {
            self.range(first, now_ms, |_| Reason::Overlap);
            return Vec::new();
        }
        let catch_up = self.entry.job.catch_up;
        let newest = self.entry.newest(first, now_ms, catch_up.runs_max() as u64);
        let admitted: Vec<Waiting> = newest
            .into_iter()
            .filter_map(|slot_ms| {
                let is_on_time = catch_up.admit(slot_ms, now_ms).ok()?;
                Some(Waiting {
                    slot_ms,
                    kind: if is_on_time {
                        FireKind::Scheduled
                    } else {
                        FireKind::CatchUp
                    },
                    queued_at_ms: now_ms,
                })
            })
            .collect();
        // Age decides, so the admitted ones are the newest and the rest is one run of older slots.
        let end = admitted.first().map_or(now_ms, |oldest| oldest.slot_ms - 1);
        self.range(first, end, |slot| catch_up.missed_reason(slot, now_ms));
        admitted
    }

    /// Slots from `first` to `now_ms` of which those before `until` were held back by the pause after a failure: the
    /// newest of them runs, unless a slot after the pause is due already.
    fn after_backoff(&mut self, first: i64, until: i64, now_ms: i64) -> Vec<Waiting> {
        if let Some(free) = self
            .entry
            .next_after(until - 1)
            .filter(|free| *free <= now_ms)
        {
            self.range(first, until - 1, |_| Reason::Backoff);
            return self.passed(free, now_ms);
        }
        let newest = self.entry.newest(first, until - 1, 1);
        let slot_ms = newest.first().copied().unwrap_or(first);
        self.range(first, slot_ms - 1, |_| Reason::Backoff);
        vec![Waiting {
            slot_ms,
            kind: FireKind::Retry,
            queued_at_ms: now_ms,
        }]
    }

    /// Drops the slots from `first`, which is one, to `end`: the newest one by one, the rest as one range.
    fn range(&mut self, first: i64, end: i64, reason: impl Fn(i64) -> Reason) {
        if first > end {
            return;
        }
        // One more than get a record of their own: if it exists, it ends the range.
        let mut singles = self
            .entry
            .newest(first, end, self.each_max.saturating_add(1));
        if singles.len() as u64 > self.each_max {
            let last = singles.remove(0);
            let (id, schedule) = (self.entry.job.id.as_str(), &self.entry.job.schedule);
            self.list.push(Dropped {
                first,
                last,
                count: 1 + schedule.count_between(id, first, last),
                reason: reason(last),
            });
        }
        self.list.extend(singles.into_iter().map(|slot| Dropped {
            first: slot,
            last: slot,
            count: 1,
            reason: reason(slot),
        }));
    }
}
