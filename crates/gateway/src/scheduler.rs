//! The owner of cron: the task that asks the planner what to do, commits it, and tells.
//!
//! One look goes: what ended, what was asked, what is due → the planner's decisions → one write
//! → events, answers, runs to start or stop, in the order of the decisions. Nothing is told
//! before it is on disk, and no run is ever waited for.
//!
//! - Commands wait in a bounded inbox; a full one makes the callers wait.
//! - Every run is a task of its own; however it ends, by a panic too, its lease is closed.
//! - When a write fails, the planner is ahead of the store: runs are stopped and a new planner
//!   is made from the store, as at a start.
//! - With `cron.enabled: false` the planner is never told a time at which a slot is due, so
//!   nothing fires and nothing is passed over; runs by hand still work.

mod batch;
mod command;
mod handle;
mod notice;
mod run;
mod trouble;
mod turn;

pub(crate) use batch::delivered;
pub(crate) use handle::{Declared, SchedulerError, SchedulerHandle};
pub(crate) use notice::{Defaults, NO_CHANNEL, Route, routes};

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clawgate_core::{
    JobId, RunId,
    cron::{
        Decision, ErrorClass, Fire, NotRun, Outcome, Planner, PlannerConfig, RunMode, RunSeq,
        Unfinished,
    },
};
use clawgate_protocol::{cron::CronEvent, event::Event, frame::to_json};
use clawgate_store::{CronJob, Ending, KeepJob, Store, StoreError};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::{
    batch::{Answers, Batch, Step, Written},
    handle::{Answer, Change, Declaration, Planned, SchedulerCommand},
    run::{Queued, RunEnd, Stopped, Task},
    trouble::Trouble,
};
use crate::{Gateway, clock::now_ms, config, hub::Hub};

/// Commands that wait at most; further callers wait for room.
const INBOX_MAX: usize = 1_024;
/// Commands that share one write at most.
const COMMANDS_EACH_MAX: usize = 64;
/// The planner is asked at least this often, so that a jump of the clock is noticed.
const LOOK_EVERY_MS: i64 = 60_000;
/// How long runs may take to end when the gateway stops.
const WIND_DOWN: Duration = Duration::from_millis(1_500);

/// The task.
pub(crate) struct Scheduler {
    store: Store,
    hub: Hub,
    planner: Planner,
    config: PlannerConfig,
    paused: bool,
    boot_id: Arc<str>,
    main_session_key: Arc<str>,
    status_changed: Arc<dyn Fn() + Send + Sync>,
    defaults: Arc<Defaults>,
    outbox: Arc<Notify>,
    inbox: mpsc::Receiver<SchedulerCommand>,
    jobs: Arc<AtomicUsize>,
    runs: JoinSet<RunEnd>,
    live: HashMap<tokio::task::Id, Live>,
    /// Runs of an earlier process, until they are closed.
    unfinished: Vec<Unfinished>,
    /// Why the planner no longer agrees with the store, while it does not.
    stale: Option<Arc<StoreError>>,
    /// What the store refused since it last took something.
    trouble: Trouble,
    /// Where turns are taken; none in a scheduler by itself.
    turns: Option<Arc<Gateway>>,
}

/// A run that goes on.
struct Live {
    run_seq: RunSeq,
    run_id: RunId,
    job_id: JobId,
    stop: CancellationToken,
    /// Why it was told to stop.
    stopped: Option<Stopped>,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("jobs", &self.jobs)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}

/// Loads every job. What an earlier process left open is closed as soon as the task runs.
pub(crate) fn open(
    store: &Store,
    hub: &Hub,
    config: &config::Cron,
    boot_id: &str,
    main_session_key: &str,
    status_changed: Arc<dyn Fn() + Send + Sync>,
    outbox: Arc<Notify>,
) -> Result<(Scheduler, SchedulerHandle), StoreError> {
    let planner_config = PlannerConfig {
        max_concurrent_runs: config.max_concurrent_runs,
        ladder: config.ladder.clone(),
        ..PlannerConfig::default()
    };
    let loading = planner_config.clone();
    let (planner, unfinished) = store.read_blocking(move |db| load(db, loading))?;
    if !unfinished.is_empty() {
        // Their process is gone; what it started may not be.
        let left = store.read_blocking(|db| db.unfinished_run_ids())?;
        let left: Vec<String> = left.into_iter().map(RunId::into_string).collect();
        command::end_leftovers(&left);
    }
    let jobs = Arc::new(AtomicUsize::new(planner.jobs().count()));
    let (sender, inbox) = mpsc::channel(INBOX_MAX);
    let scheduler = Scheduler {
        store: store.clone(),
        hub: hub.clone(),
        planner,
        config: planner_config,
        paused: !config.enabled,
        boot_id: Arc::from(boot_id),
        main_session_key: Arc::from(main_session_key),
        status_changed,
        defaults: Arc::new(config.notices.clone()),
        outbox,
        inbox,
        jobs: Arc::clone(&jobs),
        runs: JoinSet::new(),
        live: HashMap::new(),
        unfinished,
        stale: None,
        trouble: Trouble::default(),
        turns: None,
    };
    let handle = SchedulerHandle::new(sender, jobs, config.enabled);
    Ok((scheduler, handle))
}

fn load(
    db: &clawgate_store::Read<'_>,
    config: PlannerConfig,
) -> Result<(Planner, Vec<Unfinished>), StoreError> {
    let mut planner = Planner::new(config, db.next_run_seq()?);
    planner.load_all(db.cron_plans()?);
    Ok((planner, db.unfinished_runs()?))
}

impl Scheduler {
    /// Jobs may run turns of this gateway's agents.
    pub(crate) fn take_turns_of(&mut self, gateway: &Arc<Gateway>) {
        self.turns = Some(Arc::clone(gateway));
    }

    /// Runs until told to stop. Runs that go on then are cut off; the next start records them as
    /// interrupted.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        self.recover().await;
        while !stop.is_cancelled() {
            if self.stale.is_some() && !self.reload().await {
                self.fail_waiting();
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(trouble::PAUSE) => {}
                }
                continue;
            }
            let mut ended = Vec::new();
            let mut commands = Vec::new();
            let wait = self.until_next_look();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(end) = self.runs.join_next_with_id(), if !self.runs.is_empty() => ended.push(end),
                asked = self.inbox.recv_many(&mut commands, COMMANDS_EACH_MAX) => {
                    if asked == 0 {
                        break;
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
            while let Some(end) = self.runs.try_join_next_with_id() {
                ended.push(end);
            }
            let mut batch = Batch::default();
            for end in ended {
                self.close(end, &mut batch);
            }
            for command in commands {
                self.handle(command, &mut batch).await;
            }
            // What was asked for is tried at once; what is due waits a little after a failure.
            let has_to_wait = self.paused || !self.trouble.pause(Instant::now()).is_zero();
            if !has_to_wait && self.stale.is_none() {
                let decisions = self.planner.tick(now_ms());
                self.execute(decisions, None, &mut batch);
            }
            self.commit(batch).await;
        }
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            command.fail(SchedulerError::Stopped);
        }
        self.wind_down().await;
    }

    /// Tells every run to stop, and records those that do in time. The next start records the
    /// others.
    async fn wind_down(&mut self) {
        for live in self.live.values_mut() {
            live.stopped.get_or_insert(Stopped::Shutdown);
            live.stop.cancel();
        }
        let mut batch = Batch::default();
        let ending = async {
            while let Some(end) = self.runs.join_next_with_id().await {
                let Some((run_seq, end)) = self.ended(end) else {
                    continue;
                };
                // A time at which nothing is due: what is, is for the next start.
                let now = self
                    .planner
                    .next_wake()
                    .map_or(now_ms(), |wake| now_ms().min(wake - 1));
                let decisions = self.planner.finished(run_seq, end.outcome, now);
                let settled = decisions
                    .into_iter()
                    .filter(|d| !matches!(d, Decision::Claim(_)));
                self.execute(settled.collect(), Some((run_seq, end)), &mut batch);
            }
        };
        if tokio::time::timeout(WIND_DOWN, ending).await.is_err() {
            tracing::warn!("some runs did not stop in time; the next start records them");
        }
        if self.stale.is_none() {
            self.commit(batch).await;
        }
        self.runs.shutdown().await;
    }

    fn until_next_look(&self) -> Duration {
        let now = now_ms();
        let due = if self.paused {
            None
        } else {
            self.planner.next_wake()
        };
        let wait_ms = due.map_or(LOOK_EVERY_MS, |due| (due - now).clamp(0, LOOK_EVERY_MS));
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
        wait.max(self.trouble.pause(Instant::now()))
    }

    /// The time for acts of the planner that also start what is due: while jobs must not fire it
    /// is one at which nothing is.
    fn planner_now(&self) -> i64 {
        match self.planner.next_wake() {
            Some(wake) if self.paused => now_ms().min(wake - 1),
            _ => now_ms(),
        }
    }

    /// Closes what an earlier process left open and decides about the slots since.
    async fn recover(&mut self) {
        let unfinished = std::mem::take(&mut self.unfinished);
        let decisions = self.planner.recover(unfinished, self.planner_now());
        let mut batch = Batch::default();
        self.execute(decisions, None, &mut batch);
        self.commit(batch).await;
    }

    /// Makes a new planner from the store. The runs going on belonged to the old one.
    async fn reload(&mut self) -> bool {
        self.runs.shutdown().await;
        self.live.clear();
        let config = self.config.clone();
        match self.store.read(move |db| load(db, config)).await {
            Ok((planner, unfinished)) => {
                self.jobs.store(planner.jobs().count(), Ordering::Relaxed);
                self.planner = planner;
                self.unfinished = unfinished;
                self.stale = None;
                self.recover().await;
            }
            Err(error) => {
                self.trouble.note(&error, Instant::now());
                self.stale = Some(Arc::new(error));
            }
        }
        self.stale.is_none()
    }

    /// Nobody waits for a store that cannot be read.
    fn fail_waiting(&mut self) {
        if let Some(error) = &self.stale {
            while let Ok(command) = self.inbox.try_recv() {
                command.fail(SchedulerError::Store(Arc::clone(error)));
            }
        }
    }

    /// Goes by other settings from now on.
    fn configure(&mut self, cron: &config::Cron, batch: &mut Batch) {
        self.paused = !cron.enabled;
        self.defaults = Arc::new(cron.notices.clone());
        self.config.ladder = cron.ladder.clone();
        self.config.max_concurrent_runs = cron.max_concurrent_runs;
        self.planner.set_ladder(cron.ladder.clone());
        let now = self.planner_now();
        let decisions = self
            .planner
            .set_max_concurrent_runs(cron.max_concurrent_runs, now);
        self.execute(decisions, None, batch);
    }

    async fn handle(&mut self, command: SchedulerCommand, batch: &mut Batch) {
        if let SchedulerCommand::Configure(cron) = &command {
            return self.configure(cron, batch);
        }
        if let Some(error) = &self.stale {
            command.fail(SchedulerError::Store(Arc::clone(error)));
            return;
        }
        match command {
            SchedulerCommand::Add { job, answer } => self.add(*job, answer, batch),
            SchedulerCommand::Update { id, change, answer } => {
                // The change looks at the job as it is, so everything before it must stand.
                self.commit(std::mem::take(batch)).await;
                self.update(&id, change, answer, batch).await;
            }
            SchedulerCommand::Declare {
                key,
                change,
                answer,
            } => {
                self.commit(std::mem::take(batch)).await;
                self.declare(key, change, answer, batch).await;
            }
            SchedulerCommand::Remove { id, answer } => self.remove(id, answer, batch),
            SchedulerCommand::Cancel { id, run_id, answer } => {
                self.cancel(&id, run_id.as_ref(), answer, batch);
            }
            SchedulerCommand::Run { id, mode, answer } => self.run_now(&id, mode, answer, batch),
            SchedulerCommand::Configure(_) => {}
        }
    }

    fn add(&mut self, job: KeepJob, answer: Answer<Planned>, batch: &mut Batch) {
        let job = self.insert(job, batch);
        let (stand, stands) = oneshot::channel();
        batch.answer(stand, ());
        // Whoever asked may be gone.
        let _ = answer.send(Ok(Planned { job, stands }));
    }

    fn insert(&mut self, mut job: KeepJob, batch: &mut Batch) -> CronJob {
        let edit = self.planner.insert(job.plan.clone(), now_ms());
        self.execute(edit.decisions, None, batch);
        if let Some(state) = edit.state {
            job.plan.state = state;
        }
        let kept = CronJob {
            definition: job.definition.clone(),
            plan: job.plan.clone(),
            created_at_ms: job.created_at_ms,
            updated_at_ms: job.updated_at_ms,
            disabled_at_ms: None,
            running_at_ms: None,
            last_run: None,
            alerted_at_ms: None,
            revision: Some(job.revision.clone()),
        };
        batch.step(Step::Keep { job, added: true });
        kept
    }

    async fn update(
        &mut self,
        id: &JobId,
        change: Change,
        answer: Answer<CronJob>,
        batch: &mut Batch,
    ) {
        let wanted = id.clone();
        let found = match &self.stale {
            Some(error) => Err(SchedulerError::Store(Arc::clone(error))),
            None => match self.store.read(move |db| db.cron_job(&wanted)).await {
                Ok(Some(job)) => Ok(job),
                Ok(None) => Err(SchedulerError::Unknown),
                Err(error) => Err(SchedulerError::Store(Arc::new(error))),
            },
        };
        let now = now_ms();
        let changed = found.and_then(|job| {
            let keep = change(&job, now).map_err(|no| SchedulerError::Refused(Box::new(no)))?;
            self.replace(job, keep, now, batch)
        });
        match changed {
            Ok(kept) => batch.answer(answer, kept),
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Puts a changed job in the place of what it was.
    fn replace(
        &mut self,
        job: CronJob,
        mut keep: KeepJob,
        now: i64,
        batch: &mut Batch,
    ) -> Result<CronJob, SchedulerError> {
        let edit = self
            .planner
            .update(keep.plan.clone(), now)
            .ok_or(SchedulerError::Unknown)?;
        self.execute(edit.decisions, None, batch);
        if let Some(state) = edit.state {
            keep.plan.state = state;
        }
        let kept = CronJob {
            definition: keep.definition.clone(),
            plan: keep.plan.clone(),
            updated_at_ms: keep.updated_at_ms,
            revision: Some(keep.revision.clone()),
            ..job
        };
        batch.step(Step::Keep {
            job: keep,
            added: false,
        });
        if let Some(run_seq) = edit.abort {
            batch.stop(run_seq, Stopped::Disabled);
        }
        Ok(kept)
    }

    async fn declare(
        &mut self,
        key: String,
        change: Declaration,
        answer: Answer<Declared>,
        batch: &mut Batch,
    ) {
        let found = match &self.stale {
            Some(error) => Err(Arc::clone(error)),
            None => {
                let found = self.store.read(move |db| db.declared_cron_job(&key)).await;
                found.map_err(Arc::new)
            }
        };
        let now = now_ms();
        let declared = found.map_err(SchedulerError::Store).and_then(|job| {
            let keep =
                change(job.as_ref(), now).map_err(|no| SchedulerError::Refused(Box::new(no)))?;
            match (job, keep) {
                (Some(job), None) => Ok(Declared {
                    created: false,
                    updated: false,
                    job,
                }),
                (Some(job), Some(keep)) => Ok(Declared {
                    created: false,
                    updated: true,
                    job: self.replace(job, keep, now, batch)?,
                }),
                (None, Some(keep)) => Ok(Declared {
                    created: true,
                    updated: false,
                    job: self.insert(keep, batch),
                }),
                (None, None) => Err(SchedulerError::Unknown),
            }
        });
        match declared {
            Ok(declared) => batch.answer(answer, declared),
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    fn cancel(
        &mut self,
        id: &JobId,
        run_id: Option<&RunId>,
        answer: Answer<Option<RunId>>,
        batch: &mut Batch,
    ) {
        let under_way = self
            .live
            .values()
            .find(|live| live.job_id == *id)
            .map(|live| live.run_id.clone());
        if run_id.is_some() && under_way.as_ref() != run_id {
            batch.answer(answer, None);
            return;
        }
        let Some(edit) = self.planner.cancel(id, now_ms()) else {
            let _ = answer.send(Err(SchedulerError::Unknown));
            return;
        };
        self.execute(edit.decisions, None, batch);
        let ended = under_way.filter(|_| edit.abort.is_some());
        batch.answer(answer, ended);
        if let Some(run_seq) = edit.abort {
            batch.stop(run_seq, Stopped::Cancelled);
        }
    }

    fn remove(&mut self, id: JobId, answer: Answer<bool>, batch: &mut Batch) {
        let Some(edit) = self.planner.remove(&id, now_ms()) else {
            batch.answer(answer, false);
            return;
        };
        self.execute(edit.decisions, None, batch);
        batch.step(Step::Remove(id));
        batch.answer(answer, true);
        if let Some(run_seq) = edit.abort {
            batch.stop(run_seq, Stopped::Removed);
        }
    }

    fn run_now(
        &mut self,
        id: &JobId,
        mode: RunMode,
        answer: Answer<Result<RunId, NotRun>>,
        batch: &mut Batch,
    ) {
        let mut decisions = Vec::new();
        let claimed = self.planner.run_now(id, mode, now_ms(), &mut decisions);
        self.execute(decisions, None, batch);
        match claimed {
            Err(NotRun::Unknown) => {
                let _ = answer.send(Err(SchedulerError::Unknown));
            }
            Err(no @ (NotRun::AlreadyRunning | NotRun::NotDue)) => batch.answer(answer, Err(no)),
            Ok(fire) => {
                let run_id = fire_id(&fire);
                batch.step(Step::Claim(fire, run_id.clone()));
                batch.answer(answer, Ok(run_id));
            }
        }
    }

    /// A run's task is over.
    fn close(&mut self, end: Result<(tokio::task::Id, RunEnd), JoinError>, batch: &mut Batch) {
        let Some((run_seq, end)) = self.ended(end) else {
            return;
        };
        let now = self.planner_now();
        let decisions = self.planner.finished(run_seq, end.outcome, now);
        self.execute(decisions, Some((run_seq, end)), batch);
    }

    /// Which run ended, and how.
    fn ended(
        &mut self,
        end: Result<(tokio::task::Id, RunEnd), JoinError>,
    ) -> Option<(RunSeq, RunEnd)> {
        let (task, end) = match end {
            Ok((task, end)) => (task, Ok(end)),
            Err(error) => (error.id(), Err(error)),
        };
        let live = self.live.remove(&task)?;
        let end = match (live.stopped, end) {
            // What was done before the word reached it stays done.
            (Some(reason), Ok(end)) if end.outcome == Outcome::Cancelled => {
                let said = end.ending.summary;
                let mut end = RunEnd::stopped(reason);
                end.ending.summary = said;
                end
            }
            (_, Ok(end)) => end,
            (_, Err(error)) => {
                tracing::error!(run = %live.run_id, %error, "a run panicked");
                RunEnd::failed(
                    ErrorClass::Unknown,
                    "the run ended by a fault in clawgate; its log has the details",
                )
            }
        };
        Some((live.run_seq, end))
    }

    /// Turns decisions into steps; `end` belongs to the settlement of its run.
    fn execute(
        &self,
        decisions: Vec<Decision>,
        mut end: Option<(RunSeq, RunEnd)>,
        batch: &mut Batch,
    ) {
        for decision in decisions {
            match decision {
                Decision::Claim(fire) => {
                    let run_id = fire_id(&fire);
                    batch.step(Step::Claim(fire, run_id));
                }
                Decision::Record(record) => {
                    let run_id = slot_id(&record.job_id, record.slot_ms);
                    batch.step(Step::Record(record, run_id));
                }
                Decision::Settle(mut settle) => {
                    // The planner may have been told an earlier time than it is.
                    settle.ended_at_ms = now_ms();
                    let end = end.take_if(|(run_seq, _)| *run_seq == settle.run_seq);
                    let (ending, queued) = match end {
                        Some((_, end)) => (end.ending, end.queued),
                        None => (interrupted(settle.outcome), None),
                    };
                    batch.step(Step::Settle {
                        settle,
                        ending,
                        queued,
                    });
                }
            }
        }
    }

    /// Writes a batch, and then lets it be known. Whoever waits for an answer has it from the writer's
    /// thread, as soon as the batch is on disk: this task may have others to tell first.
    async fn commit(&mut self, batch: Batch) {
        let Batch {
            steps,
            waiting,
            stops,
        } = batch;
        let answers = Answers::new(waiting);
        let written = if steps.is_empty() {
            Ok(Vec::new())
        } else {
            let (boot_id, defaults) = (Arc::clone(&self.boot_id), Arc::clone(&self.defaults));
            let (waiting, jobs) = (Arc::clone(&answers), Arc::clone(&self.jobs));
            self.store
                .write_then(
                    "keeping cron's decisions",
                    move |tx| {
                        let steps = steps.into_iter();
                        steps
                            .map(|step| step.write(tx, &boot_id, &defaults))
                            .collect()
                    },
                    move |written: Vec<Written>| {
                        for written in &written {
                            count(&jobs, written.jobs());
                        }
                        waiting.give(Ok(()));
                        written
                    },
                )
                .await
        };
        let written = match written {
            Ok(written) => {
                if !written.is_empty() {
                    self.trouble.is_over();
                }
                written
            }
            Err(error) => {
                let error: Arc<StoreError> = Arc::new(error);
                self.trouble.note(&error, Instant::now());
                answers.give(Err(&error));
                // Every run is stopped anyway.
                self.stale = Some(error);
                return;
            }
        };
        answers.give(Ok(()));
        // All that was written is told at once: who hears it wakes up and is written to once. A run begins
        // after it was told that it does.
        let mut events = Vec::new();
        for written in &written {
            tell(written, &mut events);
        }
        self.hub.publish_all(Event::Cron, &events);
        let mut stops = stops.into_iter().peekable();
        let (mut queued, mut posted) = (false, false);
        for (number, written) in written.into_iter().enumerate() {
            while let Some((_, run_seq, reason)) = stops.next_if(|(steps, ..)| *steps <= number) {
                self.stop(run_seq, reason);
            }
            queued |= written.has_queued();
            posted |= written.has_posted();
            if let Written::Claimed(fire, run_id, definition) = written {
                self.start(&fire, &run_id, &definition);
            }
        }
        for (_, run_seq, reason) in stops {
            self.stop(run_seq, reason);
        }
        if queued {
            (self.status_changed)();
        }
        if posted {
            self.outbox.notify_one();
        }
    }

    fn stop(&mut self, run_seq: RunSeq, reason: Stopped) {
        if let Some(live) = self.live.values_mut().find(|live| live.run_seq == run_seq) {
            live.stopped.get_or_insert(reason);
            live.stop.cancel();
        }
    }

    fn start(&mut self, fire: &Fire, run_id: &RunId, definition: &str) {
        tracing::info!(job = %fire.job_id, run = %run_id, "a run begins");
        let job = run::parse(definition);
        let stop = CancellationToken::new();
        let task = Task {
            run_id: run_id.to_string(),
            slot_ms: fire.slot_ms,
            main_session_key: Arc::clone(&self.main_session_key),
            stop: stop.clone(),
            turns: self.turns.clone(),
        };
        let handle = self.runs.spawn(run::run(job, task));
        let live = Live {
            run_seq: fire.run_seq,
            run_id: run_id.clone(),
            job_id: fire.job_id.clone(),
            stop,
            stopped: None,
        };
        self.live.insert(handle.id(), live);
    }
}

/// What is to be told of what was written: lines of the log, and events.
fn tell(written: &Written, events: &mut Vec<String>) {
    let event = match written {
        Written::Claimed(fire, run_id, _) => CronEvent {
            job_id: fire.job_id.to_string(),
            action: "started".to_owned(),
            run_at_ms: Some(fire.started_at_ms),
            run_id: Some(run_id.to_string()),
            slot_ms: fire.slot_ms,
            ..CronEvent::default()
        },
        Written::Recorded(record, run_id) => {
            tracing::info!(
                job = %record.job_id, run = %run_id, slots = record.count,
                reason = record.reason.as_str(), "a slot does not run"
            );
            batch::recorded(record, run_id)
        }
        Written::Settled {
            settle,
            ending,
            settled,
            ..
        } => {
            let event = batch::finished(settle, ending, settled);
            tracing::info!(
                job = %settle.job_id, run = %settled.run_id, status = event.status,
                duration_ms = settled.duration_ms, error = ending.error, "a run ended"
            );
            events.push(to_json(&event));
            if !settle.delete {
                return;
            }
            gone(&settle.job_id)
        }
        Written::Kept {
            id,
            added,
            next_run_at_ms,
        } => CronEvent {
            job_id: id.to_string(),
            action: if *added { "added" } else { "updated" }.to_owned(),
            next_run_at_ms: *next_run_at_ms,
            ..CronEvent::default()
        },
        Written::Removed(id) => gone(id),
    };
    events.push(to_json(&event));
}

fn gone(id: &JobId) -> CronEvent {
    CronEvent {
        job_id: id.to_string(),
        action: "removed".to_owned(),
        ..CronEvent::default()
    }
}

/// Moves the number of jobs.
fn count(jobs: &AtomicUsize, by: isize) {
    match by {
        0 => {}
        1.. => {
            jobs.fetch_add(by.unsigned_abs(), Ordering::Relaxed);
        }
        _ => {
            jobs.fetch_sub(by.unsigned_abs(), Ordering::Relaxed);
        }
    }
}

/// What is said about a run whose process is gone.
fn interrupted(outcome: Outcome) -> Ending {
    Ending {
        reason: (outcome == Outcome::Interrupted).then(|| "restart".to_owned()),
        error: Some("cron: job interrupted by gateway restart".to_owned()),
        ..Ending::default()
    }
}

/// The id of a slot's run or record.
fn slot_id(job_id: &JobId, slot_ms: i64) -> RunId {
    RunId::new(format!("cron:{job_id}:{slot_ms}"))
}

/// The id of a fire.
fn fire_id(fire: &Fire) -> RunId {
    match fire.slot_ms {
        Some(slot_ms) => slot_id(&fire.job_id, slot_ms),
        None => RunId::new(format!(
            "manual:{}:{}:{}",
            fire.job_id, fire.started_at_ms, fire.run_seq.0
        )),
    }
}

#[cfg(test)]
mod tests;
