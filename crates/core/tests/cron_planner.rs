//! The planner under random jobs, edits, crashes at every transition and clock jumps, against a naive model.
//!
//! The model is what a store would hold: jobs with the last state written, run rows, and for each job a cursor that walks
//! the schedule one slot at a time. Every decision must name exactly the next slot of that walk (a range: exactly as
//! many), so a lost slot, a doubled slot and a slot out of order all fail at once. When a job stops counting (disabled,
//! removed, rescheduled, end of the simulation) no slot up to that moment may be left.
//!
//! `CLAWGATE_SEEDS=10000` raises the number of runs, `CLAWGATE_SEED=n` repeats one. Failures name their seed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clawgate_core::cron::{
    CatchUp, CatchUpMode, Decision, Edit, ErrorClass, Fire, FireKind, Job, JobId, JobState,
    Outcome, Overlap, Planner, PlannerConfig, Record, RunMode, RunSeq, Schedule, Settle,
    Unfinished, Zone,
};

const SEEDS_DEFAULT: u64 = 10_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;
const START: i64 = 1_767_225_600_000; // 2026-01-01

struct Rng(u64);

impl Rng {
    /// splitmix64
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn range(&mut self, from: i64, until: i64) -> i64 {
        from + self.below((until - from).max(1) as u64) as i64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())].clone()
    }
}

/// One row of the runs table.
struct Row {
    job: JobId,
    slot: Option<i64>,
    kind: FireKind,
    outcome: Option<Outcome>,
}

/// The naive walk over one job's slots while it counts them.
struct Cursor {
    schedule: Schedule,
    /// The slot that the next decision must name.
    next: Option<i64>,
}

impl Cursor {
    fn step(&mut self, job: &JobId) -> i64 {
        let slot = self
            .next
            .expect("a slot was decided that the schedule does not have");
        self.next = match self.schedule {
            Schedule::At { .. } => None,
            Schedule::Every { .. } | Schedule::Cron { .. } => {
                self.schedule.next_after(job.as_str(), slot)
            }
        };
        slot
    }
}

/// What a store would hold, and the walks that check it.
#[derive(Default)]
struct Store {
    jobs: BTreeMap<JobId, Job>,
    rows: BTreeMap<u64, Row>,
    cursors: BTreeMap<JobId, Cursor>,
    /// The newest decided slot per job, kept beyond edits: no slot at or below may be decided again.
    newest: BTreeMap<JobId, i64>,
    max_now: i64,
    claims: u64,
    records: u64,
    slots: u64,
}

impl Store {
    fn apply(&mut self, decision: &Decision, now: i64) {
        self.max_now = self.max_now.max(now);
        match decision {
            Decision::Claim(fire) => self.claim(fire),
            Decision::Record(record) => self.record(record),
            Decision::Settle(settle) => self.settle(settle),
        }
    }

    fn claim(&mut self, fire: &Fire) {
        self.claims += 1;
        let id = &fire.job_id;
        assert!(
            self.open_rows().all(|(_, row)| row.job != *id),
            "{id} runs twice at a time"
        );
        assert!(self.jobs.contains_key(id), "{id} is gone");
        match fire.slot_ms {
            None => assert_eq!(fire.kind, FireKind::Manual),
            Some(slot) => {
                assert!(slot <= self.max_now, "{id} ran before its time");
                self.decide(id, slot, slot, 1, fire.kind == FireKind::Retry);
            }
        }
        let row = Row {
            job: id.clone(),
            slot: fire.slot_ms,
            kind: fire.kind,
            outcome: None,
        };
        assert!(
            self.rows.insert(fire.run_seq.0, row).is_none(),
            "run id used twice"
        );
        self.write(id, &fire.state, fire.started_at_ms);
    }

    fn record(&mut self, record: &Record) {
        self.records += 1;
        assert_eq!(record.verdict, record.reason.verdict());
        let is_retry = self.jobs[&record.job_id].state.retries > 0;
        self.decide(
            &record.job_id,
            record.slot_ms,
            record.last_slot_ms,
            record.count,
            is_retry,
        );
        self.write(&record.job_id, &record.state, record.at_ms);
    }

    fn settle(&mut self, settle: &Settle) {
        let row = self
            .rows
            .get_mut(&settle.run_seq.0)
            .expect("an unknown run was settled");
        assert_eq!(
            (row.outcome, row.slot),
            (None, settle.slot_ms),
            "settled twice, or another slot"
        );
        row.outcome = Some(settle.outcome);
        match &settle.state {
            None => assert!(!self.jobs.contains_key(&settle.job_id)),
            Some(_) if settle.delete => {
                self.close(&settle.job_id, settle.ended_at_ms);
                self.jobs.remove(&settle.job_id);
            }
            Some(state) => self.write(&settle.job_id, state, settle.ended_at_ms),
        }
    }

    /// Checks a decision about slots against the walk. A one-shot's retry has a slot of its own beside the walk.
    fn decide(&mut self, id: &JobId, first: i64, last: i64, count: u64, may_be_retry: bool) {
        self.slots += count;
        let newest = self.newest.entry(id.clone()).or_insert(i64::MIN);
        assert!(
            first > *newest,
            "{id}: slot {first} decided at or below {newest}"
        );
        *newest = last;
        let job = &self.jobs[id];
        let cursor = self
            .cursors
            .get_mut(id)
            .expect("a stopped job decided a slot");
        if job.is_one_shot() && cursor.next.is_none() {
            assert!(
                may_be_retry && count == 1,
                "{id}: a one-shot's slot decided twice"
            );
            assert_eq!(
                job.state.next_slot_ms,
                Some(first),
                "{id}: retry at another time"
            );
            assert!(job.state.retries <= 3);
            return;
        }
        for step in 0..count {
            let slot = cursor.step(id);
            if step == 0 {
                assert_eq!(slot, first, "{id}: not the next slot");
            }
            if step + 1 == count {
                assert_eq!(slot, last, "{id}: the range ends elsewhere");
            }
        }
    }

    fn write(&mut self, id: &JobId, state: &JobState, now: i64) {
        let job = self.jobs.get_mut(id).expect("a job that exists");
        job.state = state.clone();
        if !state.enabled {
            self.close(id, now);
            return;
        }
        if !self.jobs[id].is_one_shot()
            && let Some(cursor) = self.cursors.get(id)
        {
            assert_eq!(
                state.next_slot_ms, cursor.next,
                "{id}: the durable slot is another"
            );
        }
    }

    /// The job stops counting at `now`: nothing due may be left.
    fn close(&mut self, id: &JobId, now: i64) {
        if let Some(cursor) = self.cursors.remove(id)
            && let Some(next) = cursor.next
        {
            assert!(next > now, "{id}: slot {next} lost at {now}");
        }
    }

    /// Commits an edit after its decisions.
    fn commit(&mut self, job: Job, edit: &Edit, now: i64) {
        self.max_now = self.max_now.max(now);
        let id = job.id.clone();
        let old = self.jobs.get(&id);
        let is_restart =
            old.is_none_or(|old| old.schedule != job.schedule || !self.cursors.contains_key(&id));
        let state = edit.state.clone().expect("the job exists");
        if is_restart || !state.enabled {
            self.close(&id, now);
        }
        if is_restart && state.enabled {
            let newest = self.newest.get(&id).copied().unwrap_or(i64::MIN);
            let next = match job.schedule {
                Schedule::At { at_ms } => {
                    Some(at_ms).filter(|at| *at >= now - MINUTE && *at > newest)
                }
                Schedule::Every { .. } | Schedule::Cron { .. } => {
                    job.schedule.next_after(id.as_str(), now.max(newest))
                }
            };
            let schedule = job.schedule.clone();
            self.cursors.insert(id.clone(), Cursor { schedule, next });
        }
        self.jobs.insert(
            id.clone(),
            Job {
                state: state.clone(),
                ..job
            },
        );
        self.write(&id, &state, now);
    }

    fn open_rows(&self) -> impl Iterator<Item = (RunSeq, &Row)> {
        self.rows
            .iter()
            .filter(|(_, row)| row.outcome.is_none())
            .map(|(run, row)| (RunSeq(*run), row))
    }

    fn unfinished(&self) -> Vec<Unfinished> {
        self.open_rows()
            .map(|(run_seq, row)| Unfinished {
                run_seq,
                job_id: row.job.clone(),
                slot_ms: row.slot,
                kind: row.kind,
            })
            .collect()
    }
}

struct World {
    rng: Rng,
    now: i64,
    /// The typical distance between slots and steps; three virtual years need long ones.
    pace: i64,
    config: PlannerConfig,
    planner: Planner,
    store: Store,
    made: u64,
    crashes: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let config = PlannerConfig {
            max_concurrent_runs: rng.pick(&[1, 2, 3, 4]),
            records_each_max: rng.below(6),
            ..PlannerConfig::default()
        };
        let pace = rng.pick(&[MINUTE, 20 * MINUTE, 60 * MINUTE, DAY / 2]);
        Self {
            planner: Planner::new(config.clone(), 1),
            rng,
            now: START,
            pace,
            config,
            store: Store::default(),
            made: 0,
            crashes: 0,
        }
    }

    fn schedule(&mut self) -> Schedule {
        let now = self.now;
        match self.rng.below(10) {
            0..=2 => Schedule::At {
                at_ms: now + self.rng.range(-MINUTE, 20 * self.pace),
            },
            3..=5 => {
                let every = self.rng.range(self.pace / 4, 4 * self.pace);
                let anchor = self
                    .rng
                    .chance(50)
                    .then(|| now + self.rng.range(-DAY, 3 * self.pace));
                Schedule::every(every, anchor, now).expect("in range")
            }
            _ => {
                let texts: &[&str] = match self.pace {
                    MINUTE => &[
                        "* * * * *",
                        "*/2 * * * *",
                        "*/15 1,2 * * *",
                        "30 */5 * * * *",
                    ],
                    pace if pace < DAY / 2 => &[
                        "0 * * * *",
                        "*/30 * * * *",
                        "30 2 * * *",
                        "0,30 1-3 * * *",
                        "15 */2 * * *",
                    ],
                    _ => &[
                        "0 9 * * *",
                        "30 2 * * *",
                        "30 1 * * *",
                        "0 0 L * *",
                        "0 */6 * * *",
                        "0 9 * * 1#2",
                        "0 0 0 1 1 * 2026-2028",
                        "@weekly",
                    ],
                };
                let zone = self.rng.pick(&[
                    "UTC",
                    "America/New_York",
                    "Europe/Berlin",
                    "Australia/Lord_Howe",
                    "Asia/Kolkata",
                    "Pacific/Apia",
                ]);
                let stagger = self.rng.pick(&[None, Some(0), Some(90_000)]);
                let text = self.rng.pick(texts);
                match Schedule::cron(text, Some(zone), stagger, &Zone::utc(), now) {
                    Ok(schedule) => schedule,
                    // The years of one of the expressions are over by then.
                    Err(_) => Schedule::every(self.pace, None, now).expect("in range"),
                }
            }
        }
    }

    fn policies(&mut self, job: &mut Job) {
        job.delete_after_run = self.rng.chance(50);
        job.overlap = self.rng.pick(&[Overlap::Skip, Overlap::QueueOne]);
        job.catch_up = CatchUp {
            mode: self.rng.pick(&[
                CatchUpMode::None,
                CatchUpMode::Latest,
                CatchUpMode::Latest,
                CatchUpMode::All { max: 4 },
            ]),
            max_age_ms: self
                .rng
                .chance(30)
                .then(|| self.rng.range(0, 5 * self.pace)),
        };
        job.disable_after = self.rng.pick(&[None, Some(2), Some(10)]);
    }

    /// Executes decisions one transaction at a time. `false` = the process died in between.
    fn execute(&mut self, decisions: &[Decision]) -> bool {
        for decision in decisions {
            if self.rng.chance(1) {
                return false;
            }
            self.store.apply(decision, self.now);
        }
        !self.rng.chance(1)
    }

    /// Starts a new process on what the store holds, until one survives its start.
    fn crash(&mut self) {
        loop {
            self.crashes += 1;
            self.now += match self.rng.below(4) {
                0 => 0,
                1 => self.rng.range(0, MINUTE),
                2 => self.rng.range(0, 10 * self.pace),
                _ => self.rng.range(0, self.pace),
            };
            self.store.max_now = self.store.max_now.max(self.now);
            let next_run = self.store.rows.keys().next_back().map_or(1, |run| run + 1);
            self.planner = Planner::new(self.config.clone(), next_run);
            if self.rng.chance(50) {
                self.planner.load_all(self.store.jobs.values().cloned());
            } else {
                for job in self.store.jobs.values() {
                    self.planner.load(job.clone());
                }
            }
            let decisions = self.planner.recover(self.store.unfinished(), self.now);
            if self.execute(&decisions) {
                return;
            }
        }
    }

    fn run(&mut self, decisions: &[Decision]) {
        if !self.execute(decisions) {
            self.crash();
        }
    }

    /// An edit: its decisions, then the commit, with a chance to die before either.
    fn edit(&mut self, job: Job, edit: Option<Edit>) {
        let edit = edit.expect("the job exists");
        if self.execute(&edit.decisions) {
            self.store.commit(job, &edit, self.now);
            if let Some(run) = edit.abort {
                let decisions = self.planner.finished(run, Outcome::Cancelled, self.now);
                self.run(&decisions);
            }
        } else {
            self.crash();
        }
    }

    fn some_job(&mut self) -> Option<Job> {
        let index = self.rng.index(self.store.jobs.len());
        self.store.jobs.values().nth(index).cloned()
    }

    fn outcome(&mut self) -> Outcome {
        self.rng.pick(&[
            Outcome::Ok,
            Outcome::Ok,
            Outcome::Ok,
            Outcome::Skipped,
            Outcome::Cancelled,
            Outcome::Failed(ErrorClass::Timeout),
            Outcome::Failed(ErrorClass::Auth),
        ])
    }

    fn finish_some(&mut self) {
        let runs: Vec<RunSeq> = self.planner.runs().map(|(run, _)| run).collect();
        if !runs.is_empty() {
            let run = self.rng.pick(&runs);
            let outcome = self.outcome();
            let decisions = self.planner.finished(run, outcome, self.now);
            self.run(&decisions);
        }
    }

    fn move_clock(&mut self) {
        let wake = self.planner.next_wake();
        self.now = match self.rng.below(100) {
            0..=1 => self.now + self.rng.range(0, 40 * self.pace),
            2..=3 => self.now - self.rng.range(0, 5 * self.pace),
            4..=60 => wake.map_or(self.now, |wake| wake.max(self.now)),
            61..=80 => wake.map_or(self.now, |wake| wake.max(self.now)) + self.rng.range(0, 100),
            _ => self.now + self.rng.range(0, self.pace),
        };
        self.store.max_now = self.store.max_now.max(self.now);
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=4 if self.store.jobs.len() < 12 => {
                self.made += 1;
                let schedule = self.schedule();
                let mut job = Job::new(format!("job-{}", self.made), schedule);
                self.policies(&mut job);
                job.state.enabled = self.rng.chance(90);
                let edit = self.planner.insert(job.clone(), self.now);
                self.edit(job, Some(edit));
            }
            5..=7 => {
                if let Some(mut job) = self.some_job() {
                    if self.rng.chance(60) {
                        job.schedule = self.schedule();
                    }
                    self.policies(&mut job);
                    let edit = self.planner.update(job.clone(), self.now);
                    self.edit(job, edit);
                }
            }
            8..=10 => {
                if let Some(job) = self.some_job() {
                    let enabled = self.rng.chance(70);
                    let edit = self.planner.set_enabled(&job.id, enabled, self.now);
                    self.edit(job, edit);
                }
            }
            11 => {
                if let Some(job) = self.some_job() {
                    let edit = self.planner.remove(&job.id, self.now).expect("exists");
                    if self.execute(&edit.decisions) {
                        self.store.close(&job.id, self.now);
                        self.store.jobs.remove(&job.id);
                    } else {
                        self.crash();
                    }
                }
            }
            12 => {
                if let Some(job) = self.some_job() {
                    let edit = self.planner.cancel(&job.id, self.now).expect("exists");
                    self.run(&edit.decisions);
                }
            }
            13..=16 => {
                if let Some(job) = self.some_job() {
                    let mode = self.rng.pick(&[RunMode::Force, RunMode::Due]);
                    let mut decisions = Vec::new();
                    let fire = self
                        .planner
                        .run_now(&job.id, mode, self.now, &mut decisions);
                    if mode == RunMode::Force
                        && let Ok(fire) = &fire
                    {
                        assert_eq!(fire.state, job.state, "a forced run moved the schedule");
                    }
                    decisions.extend(fire.ok().map(Decision::Claim));
                    self.run(&decisions);
                }
            }
            17..=18 => self.crash(),
            19..=45 => self.finish_some(),
            _ => {
                self.move_clock();
                let decisions = self.planner.tick(self.now);
                self.run(&decisions);
            }
        }
        let limit = self.config.max_concurrent_runs;
        let waiting = self.planner.queue_len();
        let busy = self.planner.runs().count();
        assert!(
            waiting == 0 || busy >= limit,
            "{waiting} wait beside free places"
        );
    }

    /// Lets everything that is due come to its end, then checks that nothing was left.
    fn drain(&mut self) {
        self.now = self.store.max_now.max(self.now) + 2 * 3_600_000;
        let mut decisions = self.planner.tick(self.now);
        loop {
            for decision in &decisions {
                self.store.apply(decision, self.now);
            }
            let Some(run) = self.planner.runs().next().map(|(run, _)| run) else {
                break;
            };
            decisions = self.planner.finished(run, Outcome::Ok, self.now);
        }
        assert_eq!(self.planner.queue_len(), 0);
        assert!(self.planner.next_wake().is_none_or(|wake| wake > self.now));
        let ids: Vec<JobId> = self.store.cursors.keys().cloned().collect();
        for id in ids {
            self.store.close(&id, self.now);
        }
        assert_eq!(self.store.open_rows().count(), 0);
        for job in self.planner.jobs() {
            assert_eq!(
                Some(job),
                self.store.jobs.get(&job.id),
                "memory and store differ"
            );
        }
        assert_eq!(self.planner.jobs().count(), self.store.jobs.len());
    }
}

fn simulate(seed: u64) -> (u64, u64, u64, u64) {
    let mut world = World::new(seed);
    let end = START + 3 * 365 * DAY;
    for _ in 0..1_500 {
        world.step();
        if world.now > end {
            break;
        }
    }
    world.drain();
    (
        world.store.slots,
        world.store.claims,
        world.store.records,
        world.crashes,
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_slot_is_lost_or_doubled() {
    let seeds = match number("CLAWGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CLAWGATE_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let mut total = (0, 0, 0, 0);
    for seed in seeds {
        let sums = catch_unwind(AssertUnwindSafe(|| simulate(seed)))
            .unwrap_or_else(|_| panic!("failing seed: repeat with CLAWGATE_SEED={seed}"));
        total = (
            total.0 + sums.0,
            total.1 + sums.1,
            total.2 + sums.2,
            total.3 + sums.3,
        );
    }
    let (slots, claims, records, crashes) = total;
    println!("{slots} slots, {claims} claims, {records} records, {crashes} crashes");
    assert!(slots > 0 && claims > 0 && records > 0 && crashes > 0);
}
