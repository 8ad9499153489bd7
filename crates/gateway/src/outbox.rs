//! The owner of deliveries: sends what the scheduler queued, until it arrived or is given up.
//!
//! The database holds everything that is to be sent; this task holds only what is under way. A
//! delivery is sent at least once: when the process ends between an answer and its record, the
//! next start sends it again under the same key.
//!
//! - At most [`SENDING_MAX`] at a time, [`SENDING_EACH_MAX`] to one host, so that a slow target
//!   does not hold up the others.
//! - Whoever queued something says so through [`Outbox::waker`]; nothing is polled.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use clawgate_core::delivery::{self, Attempt, Next, Purpose};
use clawgate_protocol::{cron::CronEvent, event::Event, frame::to_json};
use clawgate_store::{Delivered, Delivery, Store};
use secrecy::SecretString;
use tokio::{
    sync::Notify,
    task::{self, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::now_ms,
    hub::Hub,
    outbound::{Outbound, Post, Sent, host_of},
};

/// Requests at the same time.
const SENDING_MAX: usize = 8;
/// Of these, to one host.
const SENDING_EACH_MAX: usize = 2;
/// Due deliveries that are looked at in one go.
const LOOK_MAX: usize = 64;
/// Pause after the database failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Nothing is due for at most this long before the clock is asked again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How deliveries go out. It can be replaced while some are under way; they end as they began.
#[derive(Debug)]
pub(crate) struct Way {
    outbound: Outbound,
    bearer: Option<SecretString>,
}

impl Way {
    pub(crate) fn new(outbound: Outbound, bearer: Option<SecretString>) -> Self {
        Self { outbound, bearer }
    }
}

/// The task.
pub(crate) struct Outbox {
    store: Store,
    hub: Hub,
    way: Arc<ArcSwap<Way>>,
    wake: Arc<Notify>,
    sending: JoinSet<Sent>,
    under_way: HashMap<task::Id, UnderWay>,
}

struct UnderWay {
    delivery: Delivery,
    host: String,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("under_way", &self.under_way.len())
            .finish_non_exhaustive()
    }
}

impl Outbox {
    pub(crate) fn new(
        store: &Store,
        hub: &Hub,
        outbound: Outbound,
        bearer: Option<SecretString>,
    ) -> Self {
        Self {
            store: store.clone(),
            hub: hub.clone(),
            way: Arc::new(ArcSwap::from_pointee(Way::new(outbound, bearer))),
            wake: Arc::new(Notify::new()),
            sending: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    /// Where another way may be put.
    pub(crate) fn way(&self) -> Arc<ArcSwap<Way>> {
        Arc::clone(&self.way)
    }

    /// To be notified after something was queued.
    pub(crate) fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Runs until told to stop. What is under way then is sent again at the next start.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = self.look().await;
            tokio::select! {
                () = stop.cancelled() => return,
                Some(end) = self.sending.join_next_with_id(), if !self.sending.is_empty() => {
                    self.close(end).await;
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Starts what is due and has a place; says how long nothing else is.
    async fn look(&mut self) -> Duration {
        // What came of an attempt could not be written, and the receiver would be asked again and again.
        if self.store.fault().is_some() {
            return STORE_PAUSE;
        }
        let now = now_ms();
        let found = self
            .store
            .read(move |db| {
                // Those under way are due as well, until their outcome is written.
                let due = db.due_deliveries(now, LOOK_MAX + SENDING_MAX)?;
                Ok((due, db.next_delivery_after(now)?))
            })
            .await;
        let (due, next_at) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                return STORE_PAUSE;
            }
        };
        for delivery in due {
            if self.under_way.len() >= SENDING_MAX {
                break;
            }
            let host = host_of(&delivery.url);
            let is_under_way = |under: &&UnderWay| under.delivery.id == delivery.id;
            let to_host = |under: &&UnderWay| under.host == host;
            if self.under_way.values().any(|under| is_under_way(&under))
                || self.under_way.values().filter(to_host).count() >= SENDING_EACH_MAX
            {
                continue;
            }
            self.send(delivery, host);
        }
        let wait_ms = next_at.map_or(i64::MAX, |at| (at - now).max(0));
        Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)).min(LOOK_EVERY)
    }

    fn send(&mut self, delivery: Delivery, host: String) {
        let way = self.way.load_full();
        let (url, id, body) = (
            delivery.url.clone(),
            delivery.id.clone(),
            delivery.body.clone(),
        );
        let task = self.sending.spawn(async move {
            let post = Post {
                url: &url,
                bearer: way.bearer.as_ref(),
                idempotency_key: &id,
                body,
            };
            way.outbound.post(post).await
        });
        self.under_way
            .insert(task.id(), UnderWay { delivery, host });
    }

    /// Writes down what became of an attempt, and tells.
    async fn close(&mut self, end: Result<(task::Id, Sent), JoinError>) {
        let (task, sent) = match end {
            Ok((task, sent)) => (task, sent),
            Err(error) => {
                tracing::error!(%error, "a delivery panicked");
                let sent = Sent {
                    attempt: Attempt::Unreachable,
                    words: "a fault in clawgate; its log has the details".to_owned(),
                };
                (error.id(), sent)
            }
        };
        let Some(UnderWay { delivery, .. }) = self.under_way.remove(&task) else {
            return;
        };
        let now = now_ms();
        let outcome = match delivery::next(sent.attempt, delivery.attempts) {
            Next::Delivered => Ok(Delivered::Taken(sent.words)),
            Next::GiveUp => Ok(Delivered::GivenUp(sent.words)),
            Next::Again { pause_ms } => Err((sent.words, now.saturating_add(pause_ms))),
        };
        let (status, words) = match &outcome {
            Ok(Delivered::Taken(words)) => ("delivered", words),
            Ok(Delivered::GivenUp(words)) => ("given-up", words),
            Err((words, _)) => ("again", words),
        };
        tracing::info!(
            job = %delivery.job_id, run = %delivery.run_id, purpose = delivery.purpose.as_str(),
            attempt = delivery.attempts + 1, status, words = words.as_str(), "a delivery was tried"
        );
        let written = {
            let (delivery, outcome) = (delivery.clone(), outcome.clone());
            self.store
                .write("recording a delivery", move |tx| match &outcome {
                    Ok(outcome) => tx.end_delivery(&delivery, outcome, now),
                    Err((error, next_ms)) => tx
                        .retry_delivery(&delivery.id, error, *next_ms)
                        .map(|()| false),
                })
                .await
        };
        match (written, outcome) {
            (Ok(true), Ok(outcome)) if delivery.purpose == Purpose::Result => {
                let (status, error) = match outcome {
                    Delivered::Taken(_) => ("delivered", None),
                    Delivered::GivenUp(error) => ("not-delivered", Some(error)),
                };
                let event = CronEvent {
                    job_id: delivery.job_id.to_string(),
                    action: "delivery".to_owned(),
                    delivered: Some(error.is_none()),
                    delivery_status: Some(status.to_owned()),
                    delivery_error: error,
                    run_id: Some(delivery.run_id.to_string()),
                    ..CronEvent::default()
                };
                self.hub.publish(Event::Cron, &to_json(&event), None);
            }
            (Ok(_), _) => {}
            (Err(error), _) => {
                let error: clawgate_store::StoreError = error;
                tracing::error!(%error, delivery = delivery.id, "an outcome could not be kept; it is sent again");
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
    }
}
