//! The hub: every live session, and the events that go to them.
//!
//! An event is encoded once and shared by all its receivers. Whoever commits a change publishes
//! it, in commit order; the hub numbers it (one counter for all on wire 3, one per connection on
//! wire 4) and puts it into each receiver's bounded outbox without ever waiting: a droppable
//! event is skipped for a slow receiver, any other closes it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use clawgate_core::{DeviceId, Dialect, Role, authz::Grant};
use clawgate_protocol::{
    event::{Event, Gate},
    frame::{BUFFERED_BYTES_MAX, EventParts, StateVersion},
};
use tokio::sync::mpsc;
use tungstenite::Utf8Bytes;

/// Messages in one outbox at most, whatever their size.
const OUTBOX_MESSAGES_MAX: usize = 16_384;

/// What a connection is to send that is no response.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// An event's frame.
    Text(Utf8Bytes),
    /// Send this close frame and end.
    Close(u16, String),
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
    /// Address for logs.
    pub address: String,
    pub client_id: String,
    pub client_mode: String,
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

/// A live session, shared between its connection and the hub.
#[derive(Debug)]
pub(crate) struct Link {
    pub principal: Principal,
    /// Cleared before a mutating call answers; dispatch looks at it before every call.
    live: AtomicBool,
    /// Bytes in the outbox or queued and unflushed.
    buffered: AtomicUsize,
    outbox: mpsc::Sender<Outgoing>,
}

impl Link {
    /// Whether its authority still stands.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// The same for an act that hands authority on, asked inside the transaction that does it: acts
    /// and revocations are put in one order there, so none slips in behind the revocation.
    pub(crate) fn may_act(&self, now_ms: i64) -> bool {
        let lasts = self.principal.expires_at_ms.is_none_or(|at| now_ms < at);
        self.is_live() && lasts
    }

    /// The connection took these bytes off its hands.
    pub(crate) fn sent(&self, bytes: usize) {
        self.buffered.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn revoke(&self, code: u16, reason: &str) {
        self.live.store(false, Ordering::Release);
        // A full outbox belongs to a slow receiver; its connection sees `live` and ends by itself.
        let _ = self
            .outbox
            .try_send(Outgoing::Close(code, reason.to_owned()));
    }

    fn receives(&self, event: Event) -> bool {
        match event.gate() {
            Gate::Everyone => true,
            Gate::Targeted => false,
            Gate::Scope(scope) => {
                self.principal.grant.role() == Role::Operator
                    && self.principal.grant.scopes().covers(&scope)
            }
        }
    }
}

#[derive(Debug, Default)]
struct Sessions {
    links: HashMap<String, Member>,
    /// Wire 3 counts all broadcasts, seen or not.
    seq: u64,
    /// Counts what may make a verdict stale: each time that authority was taken away, and each
    /// verdict that was found to rest on a record that had changed.
    revocations: u64,
}

#[derive(Debug)]
struct Member {
    link: Arc<Link>,
    /// Wire 4 counts what is addressed to the connection.
    seq: u64,
}

/// Handle of the hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hub {
    sessions: Arc<Mutex<Sessions>>,
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        // Nothing under this lock can leave it half-done, so a panic elsewhere does not spoil it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often authority was taken away so far. Taken before a connect is judged, it tells
    /// [`Self::join`] whether the verdict may be stale.
    pub(crate) fn revocations(&self) -> u64 {
        self.lock().revocations
    }

    /// Registers a session. Events from now on are in the returned outbox. `None` when authority
    /// was taken away since `judged_at`: it may have been this one's, and nobody would end it.
    pub(crate) fn join(
        &self,
        principal: Principal,
        judged_at: u64,
    ) -> Option<(Arc<Link>, mpsc::Receiver<Outgoing>)> {
        let (outbox, receiver) = mpsc::channel(OUTBOX_MESSAGES_MAX);
        let key = principal.conn_id.clone();
        let link = Arc::new(Link {
            principal,
            live: AtomicBool::new(true),
            buffered: AtomicUsize::new(0),
            outbox,
        });
        let member = Member {
            link: Arc::clone(&link),
            seq: 0,
        };
        let mut sessions = self.lock();
        if sessions.revocations != judged_at {
            return None;
        }
        sessions.links.insert(key, member);
        drop(sessions);
        Some((link, receiver))
    }

    /// Forgets a session.
    pub(crate) fn leave(&self, conn_id: &str) {
        self.lock().links.remove(conn_id);
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().links.len()
    }

    /// Whether a device is connected.
    pub(crate) fn has_device(&self, device: &DeviceId) -> bool {
        self.lock()
            .links
            .values()
            .any(|member| member.link.principal.device_id.as_ref() == Some(device))
    }

    /// Sends an event to everybody who may see it.
    pub(crate) fn publish(&self, event: Event, payload: &str, version: Option<StateVersion>) {
        self.publish_each(event, payload, payload, version);
    }

    /// The same where the dialects have it otherwise.
    pub(crate) fn publish_each(
        &self,
        event: Event,
        v3_payload: &str,
        v4_payload: &str,
        version: Option<StateVersion>,
    ) {
        let v3_parts = EventParts::new(event.name(), v3_payload, version);
        let v4_parts = EventParts::new(event.name(), v4_payload, version);
        let mut guard = self.lock();
        let sessions = &mut *guard;
        sessions.seq += 1;
        let v3 = std::cell::OnceCell::<Utf8Bytes>::new();
        for member in sessions.links.values_mut() {
            let link = &member.link;
            if !link.is_live() || !link.receives(event) {
                continue;
            }
            let text = match link.principal.dialect {
                Dialect::V3 => v3
                    .get_or_init(|| Utf8Bytes::from(v3_parts.frame(Some(sessions.seq))))
                    .clone(),
                Dialect::V4 => {
                    member.seq += 1;
                    Utf8Bytes::from(v4_parts.frame(Some(member.seq)))
                }
            };
            deliver(link, event, text);
        }
    }

    /// Has every connect that is being judged judged again, because one was found to rest on what
    /// does not hold any more.
    pub(crate) fn judge_again(&self) {
        self.lock().revocations += 1;
    }

    /// Takes their authority from the sessions that `concerned` names, and closes none yet. For the
    /// transaction that revokes: what they began and did not commit before it is refused. A session
    /// ends by itself once the calls that it has under way are answered, so that the one that
    /// revokes its own authority still hears so.
    pub(crate) fn disarm(&self, concerned: impl Fn(&Principal) -> bool) {
        for member in self.lock().links.values() {
            if concerned(&member.link.principal) {
                member.link.live.store(false, Ordering::Release);
            }
        }
    }

    /// Ends the sessions that `concerned` names, all but `except`: their authority is gone when
    /// this returns, their close frames are on the way.
    pub(crate) fn revoke(
        &self,
        code: u16,
        reason: &str,
        except: Option<&str>,
        concerned: impl Fn(&Principal) -> bool,
    ) -> usize {
        let mut guard = self.lock();
        guard.revocations += 1;
        let mut ended = 0;
        for member in guard.links.values() {
            let principal = &member.link.principal;
            if Some(principal.conn_id.as_str()) != except && concerned(principal) {
                member.link.revoke(code, reason);
                ended += 1;
            }
        }
        ended
    }

    /// Ends every session after what is queued for it.
    pub(crate) fn close_all(&self, code: u16, reason: &str) {
        for member in self.lock().links.values() {
            let _ = member
                .link
                .outbox
                .try_send(Outgoing::Close(code, reason.to_owned()));
        }
    }
}

fn deliver(link: &Link, event: Event, text: Utf8Bytes) {
    let bytes = text.len();
    let full = link.buffered.load(Ordering::Acquire) + bytes > BUFFERED_BYTES_MAX;
    if !full {
        link.buffered.fetch_add(bytes, Ordering::AcqRel);
        if link.outbox.try_send(Outgoing::Text(text)).is_ok() {
            return;
        }
        link.buffered.fetch_sub(bytes, Ordering::AcqRel);
    }
    if !event.droppable() {
        link.revoke(1008, "slow consumer");
    }
}
