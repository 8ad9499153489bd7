//! The planner: all jobs' schedules, the queue for free places, the runs going on. A pure state machine.
//!
//! Inputs take the time; outputs are [`Decision`]s. Nothing waits: a tick starts what has a place and queues the rest.
//! See the [module](super) for the guarantee and the words.

use std::collections::{BTreeMap, BTreeSet};

use clawgate_protocol::JobId;

use super::decision::{Decision, Edit, Fire, NotRun, RunMode, RunSeq, Settle, Unfinished};
use super::entry::{Entry, Running};
use super::job::{Job, JobState};
use super::policy::{Ladder, Outcome, Reason};

/// What the planner is told once.
#[derive(Debug, Clone)]
pub struct PlannerConfig {
    /// How many runs go on at the same time. At least 1.
    pub max_concurrent_runs: usize,
    /// How many passed slots of one job get a record each at one look; older ones share a range record.
    pub records_each_max: u64,
    /// Pauses between attempts.
    pub ladder: Ladder,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self {
            max_concurrent_runs: 8,
            records_each_max: 10,
            ladder: Ladder::default(),
        }
    }
}

/// Decides which slots run, when, and what becomes of the others.
///
/// The caller executes every decision it is given, in order, before it asks again. If a store fails to, this value is
/// ahead of it: build a new planner from the store.
#[derive(Debug)]
pub struct Planner {
    config: PlannerConfig,
    /// Boxed, because the map moves its entries about.
    jobs: BTreeMap<JobId, Box<Entry>>,
    /// Every job with a slot ahead, by when to look at it. Redundant to the entries; makes a tick cost its due jobs only.
    wakes: BTreeSet<(i64, JobId)>,
    /// Every job with a waiting slot and no run, by due time: the queue for free places.
    ready: BTreeSet<(i64, JobId)>,
    /// Every run that holds a place, also those of removed jobs: their processes still exist.
    runs: BTreeMap<RunSeq, Place>,
    next_run: u64,
}

/// What a run number stands for, also after its job is gone.
#[derive(Debug)]
struct Place {
    job_id: JobId,
    slot_ms: Option<i64>,
}

impl Planner {
    /// An empty planner. `next_run` is the first unused run number of the store.
    #[must_use]
    pub fn new(config: PlannerConfig, next_run: u64) -> Self {
        Self {
            config,
            jobs: BTreeMap::new(),
            wakes: BTreeSet::new(),
            ready: BTreeSet::new(),
            runs: BTreeMap::new(),
            next_run,
        }
    }

    /// Takes a job as the store kept it, state and all. To be called for every job before [`recover`](Self::recover).
    pub fn load(&mut self, job: Job) {
        let id = job.id.clone();
        self.detach(&id);
        self.jobs.insert(id.clone(), Box::new(Entry::stored(job)));
        self.index(&id);
    }

    /// The same for all jobs of a store at once, into an empty planner: sorted once instead of one by
    /// one, which is what a start with a hundred thousand jobs waits for.
    pub fn load_all(&mut self, jobs: impl IntoIterator<Item = Job>) {
        let mut wakes = Vec::new();
        self.jobs = jobs
            .into_iter()
            .map(|job| {
                let mut entry = Box::new(Entry::stored(job));
                entry.wake_key = entry.wake();
                let id = entry.job.id.clone();
                wakes.extend(entry.wake_key.map(|wake| (wake, id.clone())));
                (id, entry)
            })
            .collect();
        self.wakes = wakes.into_iter().collect();
        self.ready.clear();
    }

    /// After a start: closes the runs that an earlier process left open as interrupted, and decides about every slot that
    /// became due meanwhile as [`tick`](Self::tick) does: run it, or record it with the reason, per catch-up policy.
    pub fn recover(&mut self, unfinished: Vec<Unfinished>, now_ms: i64) -> Vec<Decision> {
        let mut out = Vec::new();
        for run in unfinished {
            self.next_run = self.next_run.max(run.run_seq.0.saturating_add(1));
            let running = Running {
                run_seq: run.run_seq,
                slot_ms: run.slot_ms,
                kind: run.kind,
            };
            self.settle(
                &run.job_id,
                &running,
                Outcome::Interrupted,
                now_ms,
                &mut out,
            );
        }
        out.extend(self.tick(now_ms));
        out
    }

    /// Takes a new job; of its state only `enabled` counts. An existing id is an [`update`](Self::update).
    pub fn insert(&mut self, job: Job, now_ms: i64) -> Edit {
        let id = job.id.clone();
        if let Some(edit) = self.update(job.clone(), now_ms) {
            return edit;
        }
        let enabled = job.state.enabled;
        let mut entry = Box::new(Entry::stored(Job {
            state: JobState {
                enabled,
                ..JobState::default()
            },
            ..job
        }));
        if enabled {
            entry.restart(now_ms);
        }
        let state = Some(entry.job.state.clone());
        self.jobs.insert(id.clone(), entry);
        self.index(&id);
        Edit {
            decisions: Vec::new(),
            state,
            abort: None,
        }
    }

    /// Replaces a job's schedule and policies; of its state only `enabled` counts. `None` = no such job.
    ///
    /// Another schedule, or enabling, starts counting slots from now; slots of the old schedule that are due and did not
    /// start are recorded. Disabling names the run to abort. Other edits change nothing that is under way.
    pub fn update(&mut self, job: Job, now_ms: i64) -> Option<Edit> {
        let each_max = self.config.records_each_max;
        let entry = self.jobs.get_mut(&job.id)?;
        let mut decisions = Vec::new();
        let was_enabled = entry.job.state.enabled;
        let enabled = job.state.enabled;
        let is_rescheduled = entry.job.schedule != job.schedule;
        if was_enabled && (is_rescheduled || !enabled) {
            let reason = if enabled {
                Reason::Rescheduled
            } else {
                Reason::Disabled
            };
            entry.flush(each_max, reason, now_ms, &mut decisions);
        }
        let state = std::mem::take(&mut entry.job.state);
        entry.job = Job {
            state: JobState { enabled, ..state },
            ..job
        };
        if !enabled {
            entry.stop();
        } else if is_rescheduled || !was_enabled {
            if !was_enabled {
                entry.job.state.consecutive_errors = 0;
            }
            entry.restart(now_ms);
        }
        let abort = if was_enabled && !enabled {
            entry.running.as_ref().map(|run| run.run_seq)
        } else {
            None
        };
        let (id, state) = (entry.job.id.clone(), Some(entry.job.state.clone()));
        self.index(&id);
        Some(Edit {
            decisions,
            state,
            abort,
        })
    }

    /// Enables or disables a job; see [`update`](Self::update). `None` = no such job.
    pub fn set_enabled(&mut self, id: &JobId, enabled: bool, now_ms: i64) -> Option<Edit> {
        let mut job = self.jobs.get(id)?.job.clone();
        job.state.enabled = enabled;
        self.update(job, now_ms)
    }

    /// Forgets a job. Its run, if any, keeps its place until it is reported finished. `None` = no such job.
    pub fn remove(&mut self, id: &JobId, now_ms: i64) -> Option<Edit> {
        let each_max = self.config.records_each_max;
        let entry = self.jobs.get_mut(id)?;
        let mut decisions = Vec::new();
        if entry.job.state.enabled {
            entry.flush(each_max, Reason::Removed, now_ms, &mut decisions);
        }
        let abort = entry.running.as_ref().map(|run| run.run_seq);
        self.detach(id);
        self.jobs.remove(id);
        Some(Edit {
            decisions,
            state: None,
            abort,
        })
    }

    /// Names the job's run to abort, and records its waiting slots as cancelled. `None` = no such job.
    pub fn cancel(&mut self, id: &JobId, now_ms: i64) -> Option<Edit> {
        let each_max = self.config.records_each_max;
        let entry = self.jobs.get_mut(id)?;
        let mut decisions = Vec::new();
        entry.cancel_waiting(each_max, now_ms, &mut decisions);
        let abort = entry.running.as_ref().map(|run| run.run_seq);
        let state = Some(entry.job.state.clone());
        self.index(id);
        Some(Edit {
            decisions,
            state,
            abort,
        })
    }

    /// Decides about every slot due at `now_ms`. Costs O(d log n) for d due jobs of n. May be called at any time; a clock
    /// that went back finds nothing due.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Decision> {
        let each_max = self.config.records_each_max;
        let mut out = Vec::new();
        while self.next_wake().is_some_and(|wake| wake <= now_ms) {
            let Some((_, id)) = self.wakes.pop_first() else {
                break;
            };
            if let Some(entry) = self.jobs.get_mut(&id) {
                entry.wake_key = None;
                entry.gather(each_max, now_ms, &mut out);
            }
            self.index(&id);
        }
        self.dispatch(now_ms, &mut out);
        out
    }

    /// A run ended. Gives its settlement, and claims for the place it leaves. An unknown run changes nothing.
    pub fn finished(&mut self, run_seq: RunSeq, outcome: Outcome, now_ms: i64) -> Vec<Decision> {
        let Some(Place { job_id, slot_ms }) = self.runs.remove(&run_seq) else {
            return Vec::new();
        };
        let each_max = self.config.records_each_max;
        let mut out = Vec::new();
        let running = self
            .jobs
            .get_mut(&job_id)
            .filter(|entry| {
                entry
                    .running
                    .as_ref()
                    .is_some_and(|run| run.run_seq == run_seq)
            })
            .and_then(|entry| {
                // What became due during the run meets the overlap policy, whenever the next tick comes.
                entry.gather(each_max, now_ms, &mut out);
                entry.running.clone()
            });
        match running {
            Some(running) => self.settle(&job_id, &running, outcome, now_ms, &mut out),
            // Removed during the run, and perhaps added anew.
            None => out.push(Decision::Settle(Settle {
                run_seq,
                job_id,
                slot_ms,
                outcome,
                ended_at_ms: now_ms,
                state: None,
                delete: false,
            })),
        }
        self.dispatch(now_ms, &mut out);
        out
    }

    /// Starts a run on request, whatever the number of runs going on. The caller executes `out`, which may hold records of
    /// passed slots, then claims the fire.
    ///
    /// A forced run stands for no slot: it moves no schedule, uses up no occurrence, and a future one-shot still comes.
    /// With [`RunMode::Due`] the due slot itself starts, ahead of its turn.
    ///
    /// # Errors
    /// [`NotRun`]; `out` may hold records even then.
    pub fn run_now(
        &mut self,
        id: &JobId,
        mode: RunMode,
        now_ms: i64,
        out: &mut Vec<Decision>,
    ) -> Result<Fire, NotRun> {
        let each_max = self.config.records_each_max;
        let entry = self.jobs.get_mut(id).ok_or(NotRun::Unknown)?;
        if entry.running.is_some() {
            return Err(NotRun::AlreadyRunning);
        }
        let run_seq = RunSeq(self.next_run);
        let fire = match mode {
            RunMode::Force => Some(entry.claim_manual(run_seq, now_ms)),
            RunMode::Due => {
                entry.gather(each_max, now_ms, out);
                entry.claim(run_seq, now_ms)
            }
        };
        if let Some(fire) = &fire {
            self.hold(fire);
        }
        self.index(id);
        fire.ok_or(NotRun::NotDue)
    }

    /// Changes the number of places. A smaller one lets runs that go on end by themselves.
    pub fn set_max_concurrent_runs(&mut self, max: usize, now_ms: i64) -> Vec<Decision> {
        self.config.max_concurrent_runs = max;
        let mut out = Vec::new();
        self.dispatch(now_ms, &mut out);
        out
    }

    /// Changes the pauses between attempts. Those that have begun last as long as they were to.
    pub fn set_ladder(&mut self, ladder: Ladder) {
        self.config.ladder = ladder;
    }

    /// When [`tick`](Self::tick) has something to do next. Slots that wait for a place wait for a run's end, not for this.
    #[must_use]
    pub fn next_wake(&self) -> Option<i64> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// A job and its state.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id).map(|entry| &entry.job)
    }

    /// All jobs, by id.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|entry| &entry.job)
    }

    /// The job's run, if one is going on.
    #[must_use]
    pub fn running(&self, id: &JobId) -> Option<RunSeq> {
        self.jobs.get(id)?.running.as_ref().map(|run| run.run_seq)
    }

    /// All runs that hold a place, oldest first.
    pub fn runs(&self) -> impl Iterator<Item = (RunSeq, &JobId)> {
        self.runs.iter().map(|(run, place)| (*run, &place.job_id))
    }

    /// How many jobs wait for a place.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.ready.len()
    }

    /// Starts waiting jobs while there are places.
    fn dispatch(&mut self, now_ms: i64, out: &mut Vec<Decision>) {
        while self.runs.len() < self.config.max_concurrent_runs.max(1) {
            let Some((_, id)) = self.ready.pop_first() else {
                return;
            };
            let Some(entry) = self.jobs.get_mut(&id) else {
                continue;
            };
            entry.ready_key = None;
            let run_seq = RunSeq(self.next_run);
            if let Some(fire) = entry.claim(run_seq, now_ms) {
                self.hold(&fire);
                out.push(Decision::Claim(fire));
            }
            self.index(&id);
        }
    }

    /// Gives a fire its place.
    fn hold(&mut self, fire: &Fire) {
        self.next_run = fire.run_seq.0 + 1;
        let place = Place {
            job_id: fire.job_id.clone(),
            slot_ms: fire.slot_ms,
        };
        self.runs.insert(fire.run_seq, place);
    }

    fn settle(
        &mut self,
        job_id: &JobId,
        running: &Running,
        outcome: Outcome,
        now_ms: i64,
        out: &mut Vec<Decision>,
    ) {
        let Some(entry) = self.jobs.get_mut(job_id) else {
            out.push(Decision::Settle(Settle {
                run_seq: running.run_seq,
                job_id: job_id.clone(),
                slot_ms: running.slot_ms,
                outcome,
                ended_at_ms: now_ms,
                state: None,
                delete: false,
            }));
            return;
        };
        if entry.settle(&self.config.ladder, running, outcome, now_ms, out) {
            self.detach(job_id);
            self.jobs.remove(job_id);
        } else {
            self.index(job_id);
        }
    }

    /// Brings both indexes in line with an entry.
    fn index(&mut self, id: &JobId) {
        let Some(entry) = self.jobs.get_mut(id) else {
            return;
        };
        let (wake, ready) = (entry.wake(), entry.ready());
        reindex(&mut self.wakes, id, &mut entry.wake_key, wake);
        reindex(&mut self.ready, id, &mut entry.ready_key, ready);
    }

    fn detach(&mut self, id: &JobId) {
        if let Some(entry) = self.jobs.get_mut(id) {
            reindex(&mut self.wakes, id, &mut entry.wake_key, None);
            reindex(&mut self.ready, id, &mut entry.ready_key, None);
        }
    }
}

fn reindex(
    index: &mut BTreeSet<(i64, JobId)>,
    id: &JobId,
    current: &mut Option<i64>,
    wanted: Option<i64>,
) {
    if *current == wanted {
        return;
    }
    if let Some(key) = current.take() {
        index.remove(&(key, id.clone()));
    }
    if let Some(key) = wanted {
        index.insert((key, id.clone()));
    }
    *current = wanted;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::{
        CatchUp, CatchUpMode, DisableReason, ErrorClass, FireKind, Overlap, Schedule,
    };

    const SECOND: i64 = 1_000;
    const MINUTE: i64 = 60_000;

    fn planner(width: usize) -> Planner {
        let config = PlannerConfig {
            max_concurrent_runs: width,
            records_each_max: 3,
            ..PlannerConfig::default()
        };
        Planner::new(config, 1)
    }

    /// Slots at every, 2 * every, ...
    fn every(id: &str, every_ms: i64) -> Job {
        Job::new(id, Schedule::every(every_ms, Some(0), 0).expect("valid"))
    }

    fn at(id: &str, at_ms: i64) -> Job {
        Job::new(id, Schedule::At { at_ms })
    }

    fn catching_up(job: Job, mode: CatchUpMode, max_age_ms: Option<i64>) -> Job {
        Job {
            catch_up: CatchUp { mode, max_age_ms },
            ..job
        }
    }

    /// Decisions in one line each.
    fn told(decisions: &[Decision]) -> Vec<String> {
        decisions
            .iter()
            .map(|decision| match decision {
                Decision::Claim(fire) => {
                    let slot = fire.slot_ms.map_or("-".to_owned(), |slot| slot.to_string());
                    format!(
                        "run {} {} {slot} {:?}",
                        fire.run_seq.0, fire.job_id, fire.kind
                    )
                }
                Decision::Record(record) if record.count == 1 => {
                    format!(
                        "{:?} {} {} {:?}",
                        record.verdict, record.job_id, record.slot_ms, record.reason
                    )
                }
                Decision::Record(record) => format!(
                    "{:?} {} {}..{} x{} {:?}",
                    record.verdict,
                    record.job_id,
                    record.slot_ms,
                    record.last_slot_ms,
                    record.count,
                    record.reason
                ),
                Decision::Settle(settle) => {
                    let next = settle.state.as_ref().and_then(|state| state.next_run_at_ms);
                    let delete = if settle.delete { " delete" } else { "" };
                    format!(
                        "end {} {:?} next {next:?}{delete}",
                        settle.run_seq.0, settle.outcome
                    )
                }
            })
            .collect()
    }

    fn failed(class: ErrorClass) -> Outcome {
        Outcome::Failed(class)
    }

    #[test]
    fn a_due_slot_is_claimed_and_advances_the_job() {
        let mut planner = planner(1);
        let edit = planner.insert(every("a", MINUTE), 5);
        assert_eq!(
            edit.state.and_then(|state| state.next_run_at_ms),
            Some(MINUTE)
        );
        assert_eq!(planner.next_wake(), Some(MINUTE));
        assert!(planner.tick(MINUTE - 1).is_empty());
        let decisions = planner.tick(MINUTE + 3);
        assert_eq!(told(&decisions), ["run 1 a 60000 Scheduled"]);
        let Decision::Claim(fire) = &decisions[0] else {
            panic!()
        };
        assert_eq!(fire.started_at_ms, MINUTE + 3);
        assert_eq!(fire.state.next_run_at_ms, Some(2 * MINUTE));
        assert_eq!(
            told(&planner.finished(RunSeq(1), Outcome::Ok, MINUTE + 10)),
            ["end 1 Ok next Some(120000)"]
        );
    }

    #[test]
    fn jobs_beyond_the_width_wait_in_due_order() {
        let mut planner = planner(2);
        for (id, due) in [("d", 10), ("c", 20), ("b", 30), ("a", 40)] {
            planner.insert(at(id, due), 0);
        }
        assert_eq!(
            told(&planner.tick(50)),
            ["run 1 d 10 Scheduled", "run 2 c 20 Scheduled"]
        );
        assert_eq!(planner.queue_len(), 2);
        let decisions = planner.finished(RunSeq(2), Outcome::Ok, 900);
        assert_eq!(
            told(&decisions),
            ["end 2 Ok next None delete", "run 3 b 30 Scheduled"]
        );
        let Decision::Claim(fire) = &decisions[1] else {
            panic!()
        };
        assert_eq!((fire.queued_at_ms, fire.started_at_ms), (50, 900));
        assert_eq!(
            told(&planner.set_max_concurrent_runs(3, 950)),
            ["run 4 a 40 Scheduled"]
        );
    }

    #[test]
    fn a_slot_due_during_a_run_is_skipped_or_waits() {
        let mut planner = planner(4);
        planner.insert(every("skip", MINUTE), 0);
        planner.insert(
            Job {
                overlap: Overlap::QueueOne,
                ..every("queue", MINUTE)
            },
            0,
        );
        planner.tick(MINUTE);
        assert_eq!(
            told(&planner.tick(2 * MINUTE)),
            ["Skipped skip 120000 Overlap"]
        );
        assert_eq!(
            told(&planner.tick(3 * MINUTE)),
            [
                "Skipped queue 120000 Overlap",
                "Skipped skip 180000 Overlap"
            ]
        );
        // Run 1 is "queue": jobs due at the same time start by id.
        assert_eq!(
            told(&planner.finished(RunSeq(1), Outcome::Ok, 3 * MINUTE + 5)),
            ["end 1 Ok next Some(180000)", "run 3 queue 180000 Scheduled"]
        );
    }

    #[test]
    fn passed_slots_follow_the_catch_up_policy_and_all_are_accounted_for() {
        let wake = 7 * MINUTE + 30 * SECOND;
        let cases: [(CatchUpMode, Option<i64>, &[&str]); 5] = [
            (
                CatchUpMode::Latest,
                None,
                &[
                    "Missed a 60000..180000 x3 Superseded",
                    "Missed a 240000 Superseded",
                    "Missed a 300000 Superseded",
                    "Missed a 360000 Superseded",
                    "run 1 a 420000 Scheduled",
                ],
            ),
            (
                CatchUpMode::None,
                None,
                &[
                    "Missed a 60000..180000 x3 CatchUpOff",
                    "Missed a 240000 CatchUpOff",
                    "Missed a 300000 CatchUpOff",
                    "Missed a 360000 CatchUpOff",
                    "run 1 a 420000 Scheduled",
                ],
            ),
            (
                CatchUpMode::All { max: 5 },
                None,
                &[
                    "Missed a 60000 Superseded",
                    "Missed a 120000 Superseded",
                    "run 1 a 180000 CatchUp",
                ],
            ),
            (
                CatchUpMode::All { max: 5 },
                Some(160 * SECOND),
                &[
                    "Missed a 60000 TooOld",
                    "Missed a 120000 TooOld",
                    "Missed a 180000 TooOld",
                    "Missed a 240000 TooOld",
                    "run 1 a 300000 CatchUp",
                ],
            ),
            (
                CatchUpMode::Latest,
                Some(100 * SECOND),
                &[
                    "Missed a 60000..180000 x3 TooOld",
                    "Missed a 240000 TooOld",
                    "Missed a 300000 TooOld",
                    "Missed a 360000 Superseded",
                    "run 1 a 420000 Scheduled",
                ],
            ),
        ];
        for (mode, max_age_ms, expected) in cases {
            let mut planner = planner(1);
            planner.insert(catching_up(every("a", MINUTE), mode, max_age_ms), 0);
            assert_eq!(
                told(&planner.tick(wake)),
                expected,
                "{mode:?} {max_age_ms:?}"
            );
        }
    }

    #[test]
    fn all_slots_caught_up_run_one_after_another() {
        let mut planner = planner(4);
        let job = catching_up(every("a", 10 * MINUTE), CatchUpMode::All { max: 3 }, None);
        planner.insert(job, 0);
        assert_eq!(
            told(&planner.tick(45 * MINUTE)),
            ["Missed a 600000 Superseded", "run 1 a 1200000 CatchUp"]
        );
        assert_eq!(
            told(&planner.finished(RunSeq(1), Outcome::Ok, 46 * MINUTE)),
            ["end 1 Ok next Some(1800000)", "run 2 a 1800000 CatchUp"]
        );
        // Due during the backlog: it joins, nothing is skipped.
        assert!(planner.tick(50 * MINUTE).is_empty());
        for (run, slot) in [(2, 2_400_000), (3, 3_000_000)] {
            let decisions = told(&planner.finished(RunSeq(run), Outcome::Ok, 51 * MINUTE));
            assert!(
                decisions[1].starts_with(&format!("run {} a {slot}", run + 1)),
                "{decisions:?}"
            );
        }
    }

    #[test]
    fn a_failure_pauses_a_recurring_job() {
        let mut planner = planner(1);
        planner.insert(every("often", 10 * SECOND), 0);
        planner.tick(10 * SECOND);
        // max(natural next 20 s, end 11 s + 30 s)
        assert_eq!(
            told(&planner.finished(RunSeq(1), failed(ErrorClass::Auth), 11 * SECOND)),
            ["end 1 Failed(Auth) next Some(41000)"]
        );
        assert!(planner.tick(30 * SECOND).is_empty());
        assert_eq!(
            told(&planner.tick(41 * SECOND)),
            [
                "Skipped often 20000 Backoff",
                "Skipped often 30000 Backoff",
                "run 2 often 40000 Retry"
            ]
        );
        planner.finished(RunSeq(2), Outcome::Ok, 42 * SECOND);
        let state = &planner.job(&"often".into()).expect("exists").state;
        assert_eq!(
            (state.consecutive_errors, state.next_run_at_ms),
            (0, Some(50 * SECOND))
        );

        planner.insert(every("seldom", 60 * MINUTE), 42 * SECOND);
        planner.remove(&"often".into(), 42 * SECOND);
        planner.tick(60 * MINUTE);
        assert_eq!(
            told(&planner.finished(RunSeq(3), failed(ErrorClass::Auth), 61 * MINUTE)),
            ["end 3 Failed(Auth) next Some(7200000)"]
        );
    }

    #[test]
    fn too_many_failures_in_a_row_disable_with_the_reason_kept() {
        let mut planner = planner(1);
        planner.insert(
            Job {
                disable_after: Some(2),
                ..every("a", 120 * MINUTE)
            },
            0,
        );
        for run in 1..=2 {
            planner.tick(i64::from(run) * 120 * MINUTE);
            let end = i64::from(run) * 120 * MINUTE + SECOND;
            planner.finished(RunSeq(run as u64), failed(ErrorClass::Timeout), end);
        }
        let state = &planner.job(&"a".into()).expect("exists").state;
        assert!(!state.enabled && state.next_run_at_ms.is_none());
        assert_eq!(
            state.disabled,
            Some(DisableReason::ConsecutiveFailures {
                count: 2,
                last: ErrorClass::Timeout
            })
        );
        let edit = planner
            .set_enabled(&"a".into(), true, 250 * MINUTE)
            .expect("exists");
        let state = edit.state.expect("exists");
        assert_eq!((state.disabled, state.consecutive_errors), (None, 0));
        assert_eq!(state.next_run_at_ms, Some(360 * MINUTE));
    }

    #[test]
    fn a_one_shot_is_retried_on_transient_failures_only() {
        let mut planner = planner(2);
        planner.insert(at("flaky", 1_000), 0);
        planner.insert(at("wrong", 1_000), 0);
        planner.tick(1_000);
        assert_eq!(
            told(&planner.finished(RunSeq(2), failed(ErrorClass::Auth), 2_000)),
            ["end 2 Failed(Auth) next None"]
        );
        assert_eq!(
            planner.job(&"wrong".into()).expect("kept").state.disabled,
            Some(DisableReason::OneShotFailed {
                last: ErrorClass::Auth
            })
        );
        let mut now = 2_000;
        for (run, pause) in [(1, 30_000), (3, 60_000), (4, 300_000)] {
            let decisions = planner.finished(RunSeq(run), failed(ErrorClass::Network), now);
            now += pause;
            assert_eq!(
                told(&decisions),
                [format!("end {run} Failed(Network) next Some({now})")]
            );
            let decisions = planner.tick(now);
            let Decision::Claim(fire) = &decisions[0] else {
                panic!()
            };
            assert_eq!((fire.kind, fire.slot_ms), (FireKind::Retry, Some(now)));
        }
        planner.finished(RunSeq(5), failed(ErrorClass::Network), now);
        let state = &planner.job(&"flaky".into()).expect("kept").state;
        assert!(!state.enabled);
        assert_eq!(
            state.disabled,
            Some(DisableReason::OneShotFailed {
                last: ErrorClass::Network
            })
        );
    }

    #[test]
    fn a_forced_run_uses_up_no_occurrence() {
        let mut planner = planner(1);
        planner.insert(at("once", 1_000), 0);
        planner.insert(every("off", MINUTE), 0);
        planner.set_enabled(&"off".into(), false, 0);
        let mut out = Vec::new();
        let fire = planner
            .run_now(&"once".into(), RunMode::Force, 900, &mut out)
            .expect("runs");
        assert_eq!((fire.slot_ms, fire.kind), (None, FireKind::Manual));
        assert_eq!(fire.state.next_run_at_ms, Some(1_000));
        assert_eq!(
            planner.run_now(&"once".into(), RunMode::Force, 901, &mut out),
            Err(NotRun::AlreadyRunning)
        );
        // The width is taken, and the request is still served.
        assert!(
            planner
                .run_now(&"off".into(), RunMode::Force, 902, &mut out)
                .is_ok()
        );
        assert!(planner.tick(1_100).is_empty());
        assert_eq!(
            told(&planner.finished(RunSeq(1), Outcome::Ok, 1_200)),
            ["end 1 Ok next Some(1000)"]
        );
        assert_eq!(
            told(&planner.finished(RunSeq(2), Outcome::Ok, 1_300)),
            ["end 2 Ok next None", "run 3 once 1000 Scheduled"]
        );
        assert_eq!(
            planner.run_now(&"nobody".into(), RunMode::Force, 1, &mut out),
            Err(NotRun::Unknown)
        );
        assert!(out.is_empty());
    }

    #[test]
    fn a_due_run_starts_the_due_slot_ahead_of_its_turn() {
        let mut planner = planner(1);
        planner.insert(at("first", 10), 0);
        planner.insert(at("second", 20), 0);
        let mut out = Vec::new();
        assert_eq!(
            planner.run_now(&"second".into(), RunMode::Due, 5, &mut out),
            Err(NotRun::NotDue)
        );
        planner.tick(30);
        let fire = planner
            .run_now(&"second".into(), RunMode::Due, 40, &mut out)
            .expect("due");
        assert_eq!(fire.slot_ms, Some(20));
        assert!(out.is_empty());
        assert_eq!(
            told(&planner.finished(RunSeq(1), Outcome::Ok, 50)),
            ["end 1 Ok next None delete"]
        );
    }

    #[test]
    fn a_start_closes_what_an_earlier_process_left_and_catches_up() {
        let mut before = planner(2);
        before.insert(every("daily", 24 * 60 * MINUTE), 0);
        before.insert(at("once", 24 * 60 * MINUTE), 0);
        before.insert(at("passed", 24 * 60 * MINUTE + 5 * MINUTE), 0);
        let claims = before.tick(24 * 60 * MINUTE);
        let unfinished: Vec<Unfinished> = claims
            .iter()
            .map(|claim| match claim {
                Decision::Claim(fire) => Unfinished {
                    run_seq: fire.run_seq,
                    job_id: fire.job_id.clone(),
                    slot_ms: fire.slot_ms,
                    kind: fire.kind,
                },
                Decision::Record(_) | Decision::Settle(_) => panic!("{claim:?}"),
            })
            .collect();
        let mut after = planner(2);
        for job in before.jobs() {
            after.load(job.clone());
        }
        let now = 24 * 60 * MINUTE + 10 * MINUTE;
        assert_eq!(
            told(&after.recover(unfinished, now)),
            [
                "end 1 Interrupted next Some(172800000)".to_owned(),
                format!("end 2 Interrupted next Some({})", now + 30_000),
                format!("run 3 passed {} CatchUp", 24 * 60 * MINUTE + 5 * MINUTE),
            ]
        );
    }

    #[test]
    fn edits_record_what_was_due_and_name_the_run_to_stop() {
        let mut planner = planner(1);
        planner.insert(every("a", MINUTE), 0);
        planner.insert(every("b", MINUTE), 0);
        planner.tick(MINUTE);
        let moved = Job {
            schedule: Schedule::every(7 * MINUTE, Some(0), 0).expect("valid"),
            ..every("b", 1)
        };
        let edit = planner.update(moved, MINUTE + 5).expect("exists");
        assert_eq!(told(&edit.decisions), ["Skipped b 60000 Rescheduled"]);
        assert_eq!(
            edit.state.and_then(|state| state.next_run_at_ms),
            Some(7 * MINUTE)
        );
        assert_eq!(edit.abort, None);
        let edit = planner
            .set_enabled(&"a".into(), false, MINUTE + 6)
            .expect("exists");
        assert_eq!(edit.abort, Some(RunSeq(1)));
        let edit = planner.remove(&"a".into(), MINUTE + 7).expect("exists");
        assert_eq!((edit.abort, edit.state), (Some(RunSeq(1)), None));
        assert_eq!(
            told(&planner.finished(RunSeq(1), Outcome::Cancelled, MINUTE + 8)),
            ["end 1 Cancelled next None"]
        );
        assert_eq!(planner.next_wake(), Some(7 * MINUTE));
    }

    #[test]
    fn cancel_names_the_run_and_drops_what_waits() {
        let mut planner = planner(1);
        planner.insert(at("runs", 10), 0);
        planner.insert(at("waits", 20), 0);
        planner.tick(30);
        assert_eq!(
            planner.cancel(&"runs".into(), 31).expect("exists").abort,
            Some(RunSeq(1))
        );
        let edit = planner.cancel(&"waits".into(), 32).expect("exists");
        assert_eq!(told(&edit.decisions), ["Skipped waits 20 Cancelled"]);
        assert_eq!(
            edit.state.and_then(|state| state.disabled),
            Some(DisableReason::OneShotMissed {
                reason: Reason::Cancelled
            })
        );
        assert_eq!(planner.queue_len(), 0);
    }

    #[test]
    fn a_clock_that_went_back_repeats_nothing() {
        let mut planner = planner(1);
        planner.insert(every("a", MINUTE), 0);
        planner.tick(5 * MINUTE);
        planner.finished(RunSeq(1), Outcome::Ok, 5 * MINUTE + 1);
        for back in (0..=5 * MINUTE).step_by(10_000) {
            assert!(planner.tick(back).is_empty());
        }
        // Not even after an edit that counts afresh.
        planner.set_enabled(&"a".into(), false, 0);
        let edit = planner
            .set_enabled(&"a".into(), true, MINUTE)
            .expect("exists");
        assert_eq!(
            edit.state.and_then(|state| state.next_run_at_ms),
            Some(6 * MINUTE)
        );
    }

    #[test]
    fn a_year_of_missed_seconds_is_decided_at_once() {
        let mut planner = planner(1);
        planner.insert(every("a", 1), 0);
        let year = 365 * 24 * 60 * MINUTE;
        let decisions = told(&planner.tick(year));
        assert_eq!(decisions.len(), 5);
        assert_eq!(
            decisions[0],
            format!("Missed a 1..{} x{} Superseded", year - 4, year - 4)
        );
    }

    #[test]
    fn a_tick_costs_its_due_jobs_only() {
        let mut planner = planner(100);
        for number in 0..20_000_i64 {
            planner.insert(at(&format!("job-{number}"), 1_000_000 + number * 20), 0);
        }
        let decisions = planner.tick(1_001_000);
        assert_eq!(decisions.len(), 51);
        assert_eq!(planner.next_wake(), Some(1_001_020));
    }
}
