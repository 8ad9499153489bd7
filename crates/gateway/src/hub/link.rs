//! One live session, as the hub and its connection share it.

use std::{
    collections::{HashSet, VecDeque},
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use clawgate_core::{
    DeviceId, Dialect,
    authz::{Grant, Peer},
};
use clawgate_protocol::frame::BUFFERED_BYTES_MAX;
use futures_util::task::AtomicWaker;

use super::event::{MESSAGE_COST, Queued};
use crate::standing::Standing;

/// Events in one outbox at most. Each costs something, so the bound in bytes is met first.
const OUTBOX_EVENTS_MAX: usize = BUFFERED_BYTES_MAX / MESSAGE_COST + 2;
/// Places that an empty outbox keeps.
const OUTBOX_KEPT: usize = 64;

/// How a session is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub code: u16,
    pub reason: String,
    /// Whether the events that are queued go out before the close; otherwise they are dropped.
    pub after_queue: bool,
}

impl Ending {
    pub(super) fn at_once(code: u16, reason: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            after_queue: false,
        }
    }
}

/// What a client can make use of, as it said at connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caps {
    /// `tool-events`: steps of tools.
    pub tool_events: bool,
    /// `session-scoped-events` of wire 4: turns of the sessions that it asked for, and no others.
    pub only_own_sessions: bool,
}

impl Caps {
    /// From the words of a connect; unknown ones are as good as absent.
    pub(crate) fn of(words: &[String], dialect: Dialect) -> Self {
        let has = |cap: &str| words.iter().any(|word| word == cap);
        Self {
            tool_events: has("tool-events"),
            only_own_sessions: dialect == Dialect::V4 && has("session-scoped-events"),
        }
    }
}

/// Who a session is: its authority and what the authority rests on.
#[derive(Debug)]
pub(crate) struct Principal {
    pub conn_id: String,
    pub dialect: Dialect,
    pub grant: Grant,
    /// The proven device.
    pub device_id: Option<DeviceId>,
    /// The API token that it came with.
    pub api_token: Option<String>,
    /// When that token ends, and the session with it.
    pub expires_at_ms: Option<i64>,
    /// The pending request that would add what is missing.
    pub pending_request: Option<String>,
    /// Where it comes from.
    pub peer: Peer,
    /// Address for logs.
    pub address: String,
    pub client_id: String,
    pub client_mode: String,
    pub caps: Caps,
    /// What is looked at again when another configuration holds.
    pub standing: Option<Box<Standing>>,
}

impl Principal {
    /// How logs and the audit trail name it.
    pub(crate) fn actor(&self) -> String {
        if let Some(token) = &self.api_token {
            return format!("api-token {token}");
        }
        match &self.device_id {
            Some(device) => format!(
                "device {}",
                &device.as_str()[..12.min(device.as_str().len())]
            ),
            None => format!("{} {}", self.grant.basis().as_str(), self.client_id),
        }
    }
}

/// Keys of one connection's [`Watch`] at most.
pub(crate) const WATCHED_MAX: usize = 256;

/// What a connection asked to hear of.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Every changed session.
    pub sessions: bool,
    /// Messages of these sessions, by canonical key.
    pub messages: HashSet<String>,
}

/// Events that wait for their connection.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Queued>,
    /// Nobody takes them any more.
    is_over: bool,
}

/// A live session, shared between its connection and the hub.
#[derive(Debug)]
pub(crate) struct Link {
    pub principal: Principal,
    /// Cleared before a mutating call answers; dispatch looks at it before every call.
    live: AtomicBool,
    /// Whether it is known how it is to end.
    is_told: AtomicBool,
    /// Whether its connection is over.
    is_leaving: AtomicBool,
    /// What is in the outbox, or queued and unflushed, costs this much.
    buffered: AtomicUsize,
    waiting: Mutex<Waiting>,
    /// Its connection, which waits for events and for its end in one place.
    waiter: AtomicWaker,
    /// Bytes that its socket holds for events and answers.
    in_socket: AtomicUsize,
    /// Bytes of its messages that are coming in, and of its requests that wait.
    incoming: AtomicUsize,
    /// Set once: the first reason to end is the one that is told.
    ending: OnceLock<Ending>,
    watch: Mutex<Watch>,
}

/// What a connection waits for.
#[derive(Debug)]
pub(crate) enum News {
    /// It is known how it is to end.
    Ending,
    /// The next event.
    Event(Queued),
}

/// The receiving end of a link's events. What waits when it goes, nobody gets.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Link>);

impl Outbox {
    pub(super) fn of(link: &Arc<Link>) -> Self {
        Self(Arc::clone(link))
    }

    /// The next event, if one is there.
    pub(crate) fn next(&mut self) -> Option<Queued> {
        let mut waiting = self.0.waiting();
        let next = waiting.events.pop_front();
        // What a long queue took is not kept.
        if waiting.events.is_empty() && waiting.events.capacity() > OUTBOX_KEPT {
            waiting.events = VecDeque::new();
        }
        next
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.waiting().events.is_empty()
    }

    /// Waits until it is known how the session is to end or, where events are `wanted`, for the next
    /// one. Cancel-safe.
    pub(crate) async fn news(&mut self, wanted: bool) -> News {
        poll_fn(|context| self.poll_news(context, wanted)).await
    }

    fn poll_news(&mut self, context: &Context<'_>, wanted: bool) -> Poll<News> {
        if self.0.poll_ended(context).is_ready() {
            return Poll::Ready(News::Ending);
        }
        match wanted.then(|| self.next()).flatten() {
            Some(event) => Poll::Ready(News::Event(event)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.is_over = true;
        let left = std::mem::take(&mut waiting.events);
        drop(waiting);
        drop(left);
    }
}

impl Link {
    pub(super) fn new(principal: Principal) -> Self {
        Self {
            principal,
            live: AtomicBool::new(true),
            is_told: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            buffered: AtomicUsize::new(0),
            waiting: Mutex::default(),
            waiter: AtomicWaker::new(),
            in_socket: AtomicUsize::new(0),
            incoming: AtomicUsize::new(0),
            ending: OnceLock::new(),
            watch: Mutex::default(),
        }
    }

    /// A link that nobody is at the other end of: an agent's own, for what it asks the gateway
    /// while a turn of it runs. It is not in the hub and hears of nothing.
    pub(crate) fn unconnected(principal: Principal) -> Self {
        Self::new(principal)
    }

    /// Whether its authority still stands. Also looked at inside write transactions.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// The same for an act that hands authority on, asked inside the transaction that does it: acts
    /// and revocations are put in one order there, so none slips in behind the revocation.
    pub(crate) fn may_act(&self, now_ms: i64) -> bool {
        let lasts = self.principal.expires_at_ms.is_none_or(|at| now_ms < at);
        self.is_live() && lasts
    }

    /// The connection took this much off its hands.
    pub(crate) fn sent(&self, cost: usize) {
        self.buffered.fetch_sub(cost, Ordering::AcqRel);
    }

    /// Its socket holds this much for what it is told.
    pub(crate) fn waits(&self, in_socket: usize) {
        self.in_socket.store(in_socket, Ordering::Release);
    }

    /// What waits for it, here or in the socket's buffer.
    pub(super) fn backlog(&self) -> usize {
        let in_socket = self.in_socket.load(Ordering::Acquire);
        self.buffered.load(Ordering::Acquire).max(in_socket)
    }

    /// What the connection holds of what it was sent.
    pub(super) fn incoming(&self) -> usize {
        self.incoming.load(Ordering::Acquire)
    }

    /// The connection holds this much of what it was sent.
    pub(crate) fn holds(&self, incoming: usize) {
        self.incoming.store(incoming, Ordering::Release);
    }

    /// How it is to end, once that is known.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Waits until it is known how it is to end. Cancel-safe; for whoever has no [`Outbox`] of it.
    pub(crate) async fn ended(&self) {
        poll_fn(|context| self.poll_ended(context)).await;
    }

    fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        // Before it is looked, so that who brings something in between wakes it.
        self.waiter.register(context.waker());
        if self.is_told.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// What it asked to hear of.
    pub(crate) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its authority is gone from now on: no further call, no further event. Its close comes with
    /// [`Hub::revoke`], or when what it began before is answered.
    pub(super) fn cut(&self) {
        self.live.store(false, Ordering::Release);
    }

    /// Its connection is over, and its socket holds this much to the end. What it began is carried
    /// through with the authority that it has.
    pub(crate) fn leaves(&self, in_socket: usize) {
        self.is_leaving.store(true, Ordering::Release);
        self.buffered.store(in_socket, Ordering::Release);
        self.waits(in_socket);
        self.holds(0);
    }

    pub(super) fn end(&self, ending: Ending) {
        self.will_end(ending);
        self.tell();
    }

    /// Whether its connection is over.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Whether it is over, or about to be: what it holds is about to be given back.
    pub(super) fn is_going(&self) -> bool {
        !self.is_live() || self.is_leaving()
    }

    /// Says how it is to end, once it is [told](Self::tell). The first reason is the one that is.
    pub(super) fn will_end(&self, ending: Ending) {
        let _ = self.ending.set(ending);
    }

    /// Has its connection look how it is to end.
    pub(super) fn tell(&self) {
        self.is_told.store(true, Ordering::Release);
        self.waiter.wake();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts events into its outbox. A slow receiver misses them where they are `droppable`, and ends
    /// otherwise.
    pub(super) fn deliver(&self, droppable: bool, events: impl Iterator<Item = Queued>) {
        let mut waiting = self.waiting();
        // It leaves the hub in a moment.
        if waiting.is_over {
            return;
        }
        let had_none = waiting.events.is_empty();
        for queued in events {
            // As in the original, the backlog is looked at before the event is added to it.
            if self.buffered.load(Ordering::Acquire) > BUFFERED_BYTES_MAX
                || waiting.events.len() >= OUTBOX_EVENTS_MAX
            {
                if !droppable {
                    self.cut();
                    self.end(Ending::at_once(1008, "slow consumer"));
                }
                break;
            }
            self.buffered.fetch_add(queued.cost(), Ordering::AcqRel);
            waiting.events.push_back(queued);
        }
        let has_news = had_none && !waiting.events.is_empty();
        drop(waiting);
        // One that had some is on its way to them, or takes none for now.
        if has_news {
            self.waiter.wake();
        }
    }

    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Acquire)
    }
}
