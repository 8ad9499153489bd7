//! One event to many: from the call that causes it to the last subscriber who hears it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{sync::Notify, task::JoinSet, time::timeout};

use crate::{
    error::BenchError,
    floor,
    jobs::Jobs,
    load,
    peer::{self, ANSWERED, Door},
    process::PATIENCE,
    wire::Wire,
};

/// So long it is waited whether a call causes an event.
const CAUSED_WITHIN: Duration = Duration::from_secs(1);
/// The beacon of a client that says where it is; the text of any other would be for the agent.
const BEACON: &str = r#"{"text":"Node: clawgate bench"}"#;

/// A call that makes a server send an event to everybody.
#[derive(Clone, Debug)]
pub struct Cause {
    call: Vec<u8>,
    /// How the event begins.
    prefix: &'static str,
    /// What it is, for people.
    pub name: &'static str,
    /// Bytes of the answer and of the event.
    pub bytes: (usize, usize),
}

impl Cause {
    /// That of a floor.
    pub fn of_floor() -> Self {
        Self {
            call: peer::request("floor", None),
            prefix: floor::EVENT,
            name: "floor",
            bytes: (0, 0),
        }
    }

    /// Finds one that this gateway has: `system-event`, which newer gateways do not tell others of, or a
    /// change of one of `jobs`, which is there afterwards.
    ///
    /// # Errors
    /// It has neither, or refuses both.
    pub async fn find(door: &Door, jobs: &Jobs) -> Result<Self, BenchError> {
        let mut hearer = door.enter().await?;
        let mut caller = door.enter().await?;
        let mut cause = Self {
            call: peer::request("system-event", Some(BEACON)),
            prefix: r#"{"type":"event","event":"presence""#,
            name: "presence, by system-event",
            bytes: (0, 0),
        };
        let answer = peer::call(&mut caller, "system-event", Some(BEACON)).await?;
        let heard = if answer.starts_with(ANSWERED) {
            hear(&mut hearer, cause.prefix).await?
        } else {
            None
        };
        if let Some(event) = heard {
            cause.bytes = (answer.len(), event);
            return Ok(cause);
        }
        let job = jobs.add(&mut caller).await?;
        let change = json!({"id": job, "patch": {"description": "clawgate bench"}}).to_string();
        cause.call = peer::request("cron.update", Some(&change));
        cause.prefix = r#"{"type":"event","event":"cron""#;
        cause.name = "cron, by cron.update";
        // That it was added is an event, too.
        hear(&mut hearer, cause.prefix).await?;
        let answer = peer::answer(&mut caller, "cron.update", Some(&change)).await?;
        let event = hear(&mut hearer, cause.prefix).await?.ok_or_else(|| {
            BenchError::Skipped(
                "neither a system-event nor a change of a job is told to others".to_owned(),
            )
        })?;
        cause.bytes = (answer.len(), event);
        Ok(cause)
    }
}

/// Waits a moment for an event and gives its size.
async fn hear(wire: &mut Wire, prefix: &str) -> Result<Option<usize>, BenchError> {
    let hearing = async {
        loop {
            let message = wire.message().await?;
            if message.starts_with(prefix) {
                return Ok(message.len());
            }
        }
    };
    match timeout(CAUSED_WITHIN, hearing).await {
        Ok(heard) => heard.map(Some),
        Err(_) => Ok(None),
    }
}

/// Who has not heard of it yet.
#[derive(Debug, Default)]
struct Heard {
    left: AtomicUsize,
    last: Mutex<Option<Instant>>,
    all: Notify,
}

impl Heard {
    fn one(&self) {
        let before = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(1)
            });
        // An event that nobody here caused may have come along.
        if before == Ok(1) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.all.notify_one();
        }
    }
}

/// Subscribers, and one among them who causes events.
#[derive(Debug)]
pub struct Circle {
    caller: Wire,
    cause: Cause,
    many: usize,
    heard: Arc<Heard>,
    listening: JoinSet<BenchError>,
}

impl Circle {
    /// Opens the connections.
    ///
    /// # Errors
    /// Not all of them could be opened.
    pub async fn gather(door: &Door, cause: Cause, many: usize) -> Result<Self, BenchError> {
        let heard = Arc::new(Heard::default());
        let mut listening = JoinSet::new();
        let caller = door.enter().await?;
        for mut wire in load::open(door, many).await? {
            let heard = Arc::clone(&heard);
            let prefix = cause.prefix;
            listening.spawn(async move {
                loop {
                    match wire.hears(prefix.as_bytes()).await {
                        Ok(events) => (0..events).for_each(|_| heard.one()),
                        Err(error) => return error,
                    }
                }
            });
        }
        Ok(Self {
            caller,
            cause,
            many,
            heard,
            listening,
        })
    }

    /// Causes one event and waits until all have heard of it.
    ///
    /// # Errors
    /// Somebody is gone, or has not heard of it in half a minute.
    pub async fn round(&mut self) -> Result<Duration, BenchError> {
        self.heard.left.store(self.many, Ordering::Release);
        let began = Instant::now();
        self.caller.send(&self.cause.call).await?;
        let all = tokio::select! {
            all = timeout(PATIENCE, self.heard.all.notified()) => all,
            Some(gone) = self.listening.join_next() => {
                return Err(gone.unwrap_or_else(|died| BenchError::Unexpected(died.to_string())));
            }
        };
        if all.is_err() {
            let left = self.heard.left.load(Ordering::Acquire);
            return Err(BenchError::Unexpected(format!(
                "{left} of {} subscribers did not hear of the event",
                self.many
            )));
        }
        let last = self
            .heard
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let took = last.unwrap_or(began).saturating_duration_since(began);
        self.caller.answers(ANSWERED.as_bytes()).await?;
        Ok(took)
    }
}
