//! Turns: what agents are asked to do, from the yes to the answer.
//!
//! A turn is accepted in the transaction that claims its key, so that what was said yes to is done
//! once, also after a `kill -9`: one that had not begun begins at the next start, one that had is
//! recorded as interrupted. It waits for its place ([`Lanes`]: one at a time in a session, so many
//! overall, sessions in turn), and no wait is charged to its timeout. What it says goes out as it
//! comes; what it did is in the transcript before anybody is told that it is over.

mod carry;
mod compact;
mod opening;
mod past;
mod settle;
mod voice;
mod wanted;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use clawgate_agent::{ModelLimits, Models};
use clawgate_core::{
    lane::{Lanes, Place, QueueMode},
    session::SessionKey,
};
use clawgate_protocol::{ErrorShape, frame::to_json};
use clawgate_store::{OpenRun, Run as RunRow, RunClaim};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use carry::make_workspace;
pub(crate) use opening::Calendar;
pub(crate) use settle::{Ended, Status, failure, kept_result};
pub(crate) use wanted::{Image, Origin, Wanted};

use crate::{Gateway, clock::now_ms, error, hub::Link, methods::session::Refused};

/// Turns that wait in one session at most; further ones are refused.
const WAITING_MAX: usize = 100;
/// Turns that wait in all sessions at most.
const WAITING_OF_ALL_MAX: usize = 2_000;
/// How many run at a time when the configuration does not say.
const WIDTH: usize = 4;
const WIDTH_NESTED: usize = 8;

/// The owner of turns.
#[derive(Debug)]
pub(crate) struct Turns {
    inner: Mutex<Inner>,
    /// Told whenever a turn comes in.
    appeared: Notify,
    runtime: tokio::runtime::Handle,
    /// Made when the first model is asked: a gateway without turns needs no HTTP client.
    models: OnceLock<Models>,
}

#[derive(Debug)]
struct Inner {
    lanes: Lanes,
    live: HashMap<String, Arc<Run>>,
}

/// A turn that waits or runs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) wanted: Wanted,
    /// Cancelled when it is to end, and when the gateway stops.
    pub(crate) stop: CancellationToken,
    stopped: OnceLock<Stopped>,
    /// It may begin.
    go: Notify,
    /// The turn that answers this one too.
    leader: OnceLock<Arc<Self>>,
    /// Told when a leader is found.
    led: Notify,
    state: watch::Sender<State>,
    voice: voice::Voice,
}

/// How far a turn is.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It waits for its place.
    Waiting,
    /// It began, milliseconds.
    Running(i64),
    /// It is over.
    Ended(Arc<Ended>),
}

/// Why a turn was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// `chat.abort`, or whoever asked for it gave up.
    Asked,
    /// A stop word.
    Word,
    /// It took too long.
    Timeout,
    /// A newer message took its place.
    Interrupted,
    /// Its session was reset or deleted, its job removed.
    Removed,
    /// The gateway stops.
    Shutdown,
}

impl Stopped {
    /// `stopReason` of the wire; what the original has no word for has its own.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "rpc",
            Self::Word => "stop",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is accepted.
    New(Arc<Run>),
    /// It was accepted before and is not over.
    UnderWay,
    /// It is over.
    Over(Box<RunRow>),
}

impl Run {
    pub(crate) fn id(&self) -> &str {
        &self.wanted.run_id
    }

    pub(crate) fn key(&self) -> &SessionKey {
        &self.wanted.key
    }

    /// Tells it to end. The first reason is the one that is recorded.
    pub(crate) fn halt(&self, why: Stopped) {
        if let Some(leader) = self.leader.get() {
            return leader.halt(why);
        }
        let _ = self.stopped.set(why);
        self.stop.cancel();
    }

    /// Why it was told to end, if it was.
    fn why_stopped(&self) -> Option<Stopped> {
        let is_stopped = self.stop.is_cancelled();
        is_stopped.then(|| self.stopped.get().copied().unwrap_or(Stopped::Shutdown))
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.voice.said()
    }

    /// Tells whenever it says more, and is behind what [`Self::said_after`] says.
    pub(crate) fn more(&self) -> watch::Receiver<()> {
        self.voice.more()
    }

    /// What it has said after so many bytes; nothing while that may be nothing to say.
    pub(crate) fn said_after(&self, bytes: usize) -> String {
        self.voice.said_after(bytes)
    }

    /// Waits until it is over. Cancel-safe.
    pub(crate) async fn ended(&self) -> Arc<Ended> {
        let mut state = self.state.subscribe();
        let over = |state: &State| matches!(state, State::Ended(_));
        match state.wait_for(over).await.as_deref() {
            Ok(State::Ended(ended)) => Arc::clone(ended),
            // Its sender lives as long as this does.
            _ => Arc::new(Ended::lost()),
        }
    }
}

impl Turns {
    /// No turn yet. Inside the runtime that turns run in.
    pub(crate) fn new(config: &Value) -> Self {
        Self {
            inner: Mutex::new(Inner {
                lanes: Lanes::new(widths(config)),
                live: HashMap::new(),
            }),
            appeared: Notify::new(),
            runtime: tokio::runtime::Handle::current(),
            models: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock can leave it half-done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other widths hold from now on.
    pub(crate) fn configure(&self, config: &Value) {
        let mut inner = self.lock();
        inner.lanes.widen(widths(config));
        inner.pump();
    }

    /// The turn of a key, if it waits or runs.
    pub(crate) fn get(&self, run_id: &str) -> Option<Arc<Run>> {
        self.lock().live.get(run_id).cloned()
    }

    /// Every turn of a session that waits or runs, the running one first.
    pub(crate) fn of_session(&self, key: &str) -> Vec<Arc<Run>> {
        let inner = self.lock();
        let running = inner.lanes.running(key);
        let mut found: Vec<Arc<Run>> = running
            .into_iter()
            .chain(inner.lanes.waiting(key))
            .filter_map(|id| inner.live.get(id).cloned())
            .collect();
        // Those that another one answers are in no lane.
        let led = inner.live.values().filter(|run| {
            run.key().as_str() == key && !found.iter().any(|other| other.id() == run.id())
        });
        let led: Vec<_> = led.cloned().collect();
        found.extend(led);
        found
    }

    /// Where a turn is that waits.
    pub(crate) fn place(&self, run: &Run) -> Option<Place> {
        self.lock().lanes.place(run.key().as_str(), run.id())
    }

    /// How many run and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.lock().lanes.counts()
    }

    fn has_room(&self, key: &str) -> bool {
        let inner = self.lock();
        inner.lanes.waiting(key).count() < WAITING_MAX
            && inner.lanes.counts().1 < WAITING_OF_ALL_MAX
    }

    /// The client that models are asked with.
    fn models(&self) -> Result<&Models, ErrorShape> {
        if let Some(models) = self.models.get() {
            return Ok(models);
        }
        let made = Models::new(ModelLimits::default())
            .map_err(|error| error::internal("making the client for models", &error))?;
        Ok(self.models.get_or_init(|| made))
    }

    /// Waits for a turn that may not be there yet.
    pub(crate) async fn appears(&self, run_id: &str) -> Arc<Run> {
        loop {
            let appeared = self.appeared.notified();
            tokio::pin!(appeared);
            appeared.as_mut().enable();
            if let Some(run) = self.get(run_id) {
                return run;
            }
            appeared.await;
        }
    }

    /// A turn is not here any more; others may have its place.
    fn leave(&self, run: &Run) {
        let mut inner = self.lock();
        inner.live.remove(run.id());
        inner.lanes.leave(run.key().as_str(), run.id());
        inner.pump();
    }

    /// Takes those that wait in a turn's session and `fit`, from the first on until one does not,
    /// to be answered by that turn.
    fn gather(&self, leader: &Arc<Run>, fit: impl Fn(&Run) -> bool) -> Vec<Arc<Run>> {
        let mut inner = self.lock();
        let key = leader.key().as_str();
        let taken: Vec<Arc<Run>> = inner
            .lanes
            .waiting(key)
            .map_while(|id| inner.live.get(id).filter(|run| fit(run)).cloned())
            .collect();
        for run in &taken {
            inner.lanes.leave(key, run.id());
            let _ = run.leader.set(Arc::clone(leader));
            run.led.notify_one();
        }
        taken
    }
}

impl Inner {
    /// Lets those begin that may.
    fn pump(&mut self) {
        while let Some((session, run)) = self.lanes.take() {
            match self.live.get(&run) {
                Some(run) => run.go.notify_one(),
                None => {
                    self.lanes.leave(&session, &run);
                }
            }
        }
    }
}

fn widths(config: &Value) -> [usize; 3] {
    let number = |pointer: &str| {
        let number = config.pointer(pointer).and_then(Value::as_u64)?;
        usize::try_from(number).ok().filter(|width| *width > 0)
    };
    [
        number("/agents/defaults/maxConcurrent").unwrap_or(WIDTH),
        // How many jobs run is the scheduler's matter.
        usize::MAX,
        number("/agents/defaults/subagents/maxConcurrent").unwrap_or(WIDTH_NESTED),
    ]
}

impl Gateway {
    /// Accepts a turn, once for each key. It is on disk when this returns.
    ///
    /// # Errors
    /// When there is no room, the gateway stops, or the caller's authority has ended.
    pub(crate) async fn begin_turn(
        self: &Arc<Self>,
        caller: Option<Arc<Link>>,
        wanted: Wanted,
    ) -> Result<Begun, ErrorShape> {
        if self.stopping.is_cancelled() {
            return Err(ErrorShape::unavailable("the gateway is stopping"));
        }
        if !self.turns.has_room(wanted.key.as_str()) && self.turns.get(&wanted.run_id).is_none() {
            return Err(ErrorShape::unavailable(format!(
                "too many turns wait in {}; ask again when some are done, or abort them",
                wanted.key.as_str()
            ))
            .with_details(json!({"code": "TURN_QUEUE_FULL"})));
        }
        let request = wanted.resumes.then(|| to_json(&wanted));
        let gateway = Arc::clone(self);
        self.store
            .write_then(
                "accepting a turn",
                move |tx| {
                    let now = now_ms();
                    if caller.is_some_and(|caller| !caller.may_act(now)) {
                        let gone = "the authority of this connection has ended";
                        return Err(Refused::Said(ErrorShape::invalid(gone)));
                    }
                    let (id, key) = (&wanted.run_id, wanted.key.as_str());
                    let claim = tx.claim_run(id, key, request.as_deref(), now)?;
                    Ok((claim, wanted))
                },
                move |(claim, wanted)| match claim {
                    RunClaim::Claimed => Begun::New(gateway.enter_turn(wanted)),
                    RunClaim::Before(row) if row.ended.is_some() => Begun::Over(Box::new(row)),
                    RunClaim::Before(_) => Begun::UnderWay,
                },
            )
            .await
            .map_err(Refused::shape)
    }

    /// Puts an accepted turn into its lane.
    fn enter_turn(self: &Arc<Self>, wanted: Wanted) -> Arc<Run> {
        let run = Arc::new(Run {
            voice: voice::Voice::new(&wanted),
            stop: self.stopping.child_token(),
            stopped: OnceLock::new(),
            go: Notify::new(),
            leader: OnceLock::new(),
            led: Notify::new(),
            state: watch::Sender::new(State::Waiting),
            wanted,
        });
        let (key, id) = (run.key().as_str(), run.id());
        let in_the_way = {
            let mut inner = self.turns.lock();
            inner.live.insert(id.to_owned(), Arc::clone(&run));
            let running = inner.lanes.running(key).map(str::to_owned);
            let interrupts = run.wanted.queue == QueueMode::Interrupt;
            inner.lanes.enter(key, id, run.wanted.origin.lane());
            inner.pump();
            running
                .filter(|_| interrupts)
                .and_then(|running| inner.live.get(&running).cloned())
        };
        if let Some(other) = in_the_way {
            other.halt(Stopped::Interrupted);
        }
        self.turns.appeared.notify_waiters();
        let carried = carry::carry(Arc::clone(self), Arc::clone(&run));
        self.tasks.spawn_on(carried, &self.turns.runtime);
        run
    }

    /// Takes up what an earlier process left: what began is over, what waited waits again.
    pub(crate) async fn resume_turns(self: &Arc<Self>) {
        let open = match self.store.read(|db| db.open_runs()).await {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(%error, "turns that were accepted before cannot be read");
                return;
            }
        };
        for left in open {
            if self.turns.get(&left.run_id).is_some() {
                continue;
            }
            match waiting(&left) {
                Some(wanted) => {
                    tracing::info!(run = %left.run_id, session = %left.session_key, "a turn that was accepted before the stop waits again");
                    self.enter_turn(wanted);
                }
                None => settle::interrupted(self, left).await,
            }
        }
    }

    /// Stops what goes on in a session, and waits until it is over.
    ///
    /// # Errors
    /// When it does not end in time: then nothing may be done to the session.
    pub(crate) async fn end_turns_of(&self, key: &SessionKey) -> Result<(), ErrorShape> {
        const PATIENCE: Duration = Duration::from_secs(15);
        let runs = self.turns.of_session(key.as_str());
        for run in &runs {
            run.halt(Stopped::Removed);
        }
        let over = async {
            for run in &runs {
                run.ended().await;
            }
        };
        tokio::time::timeout(PATIENCE, over).await.map_err(|_| {
            ErrorShape::unavailable(format!(
                "a turn in {} is still active; try again in a moment",
                key.as_str()
            ))
        })
    }
}

impl Gateway {
    /// Tells of a message of a turn.
    fn tell_kept(&self, key: &SessionKey, session_id: &str, kept: &opening::Kept, row: &Value) {
        let id = (kept.id.as_str(), kept.number);
        self.tell_appended(key, session_id, id, &kept.message, row);
    }
}

/// What was asked for, if it did not begin.
fn waiting(left: &OpenRun) -> Option<Wanted> {
    if left.started_at_ms.is_some() {
        return None;
    }
    serde_json::from_str(left.request.as_deref()?).ok()
}
