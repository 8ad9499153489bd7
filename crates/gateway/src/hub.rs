//! The hub: every live session, and the events that go to them.
//!
//! An event is encoded once and shared by all its receivers. Whoever commits a change publishes
//! it, in commit order; the hub numbers it (one counter for all on wire 3, one per connection on
//! wire 4) and puts it into each receiver's outbox without ever waiting. An outbox is bounded by
//! its bytes: a droppable event is skipped for a slow receiver, any other closes it. How a session
//! is to end stands beside its outbox, so that a receiver that reads nothing is ended all the same.

mod event;
mod link;

pub(crate) use event::{Framed, Queued};
pub(crate) use link::{Caps, Link, News, Outbox, Principal, WATCHED_MAX, Watch};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use clawgate_core::{DeviceId, Dialect, Role, authz::Grant};
use clawgate_protocol::{
    event::{Event, Gate},
    frame::StateVersion,
};

use self::{
    event::{Encoded, Places},
    link::Ending,
};
use crate::load::{Held, OUTGOING_BYTES_MAX, UNCOUNTED_BYTES};

/// How an event of [`Hub::publish_if`] goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub event: Event,
    /// Whether wire 3 counts it.
    pub numbered: bool,
    /// Whether it is skipped for a slow receiver.
    pub droppable: bool,
}

/// The events that a session may hear, looked up once: neither its grant nor the gates change.
#[derive(Clone, Copy, Debug)]
struct Hears(u32);

const _: () = assert!(Event::ALL.len() <= 32, "one bit for each event");

impl Hears {
    const NOTHING: Self = Self(0);

    fn of(grant: &Grant) -> Self {
        let hears = |event: Event| match event.gate() {
            Gate::Everyone => true,
            Gate::Targeted => false,
            Gate::ScopeAndNodes(_) if grant.role() == Role::Node => true,
            Gate::Scope(scope) | Gate::ScopeAndNodes(scope) => {
                grant.role() == Role::Operator && grant.scopes().covers(&scope)
            }
        };
        let heard = Event::ALL.iter().filter(|event| hears(**event));
        Self(heard.fold(0, |bits, event| bits | Self::bit(*event)))
    }

    fn bit(event: Event) -> u32 {
        1 << event as u32
    }

    fn includes(self, event: Event) -> bool {
        self.0 & Self::bit(event) != 0
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
    hears: Hears,
    dialect: Dialect,
    /// Wire 4 counts what is addressed to the connection.
    seq: u64,
}

/// Handle of the hub.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    sessions: Arc<Mutex<Sessions>>,
    /// Events and answers that peers did not take yet.
    outgoing: Held,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            outgoing: Held::of_at_most(OUTGOING_BYTES_MAX),
        }
    }
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
    pub(crate) fn join(&self, principal: Principal, judged_at: u64) -> Option<(Arc<Link>, Outbox)> {
        let link = self.enter(principal, judged_at, true)?;
        let outbox = Outbox::of(&link);
        Some((link, outbox))
    }

    /// Registers who makes a request over HTTP, for as long as it goes on: found by whoever takes
    /// authority away, told no event. `None` as in [`Self::join`].
    pub(crate) fn join_unheard(&self, principal: Principal, judged_at: u64) -> Option<Arc<Link>> {
        self.enter(principal, judged_at, false)
    }

    fn enter(&self, principal: Principal, judged_at: u64, listens: bool) -> Option<Arc<Link>> {
        let key = principal.conn_id.clone();
        // A request over HTTP has authority that can be taken away, and nowhere to be told anything.
        let hears = if listens {
            Hears::of(&principal.grant)
        } else {
            Hears::NOTHING
        };
        let dialect = principal.dialect;
        let link = Arc::new(Link::new(principal));
        let member = Member {
            link: Arc::clone(&link),
            hears,
            dialect,
            seq: 0,
        };
        let mut sessions = self.lock();
        if sessions.revocations != judged_at {
            return None;
        }
        sessions.links.insert(key, member);
        Some(link)
    }

    /// Forgets a session. It holds nothing any more.
    pub(crate) fn leave(&self, conn_id: &str) {
        self.lock().links.remove(conn_id);
    }

    /// What waits for peers, all together.
    pub(crate) fn outgoing(&self) -> &Held {
        &self.outgoing
    }

    /// Where far too much waits for all together, ends those for whom most waits, until what goes
    /// with them makes room enough.
    pub(crate) fn end_slowest(&self) {
        if self.outgoing.is_twice_full() {
            self.end_slowest_of(&self.lock());
        }
    }

    fn end_slowest_of(&self, sessions: &Sessions) {
        if !self.outgoing.is_twice_full() {
            return;
        }
        let links = || sessions.links.values().map(|member| &member.link);
        let gone = links().filter(|link| link.is_going());
        let mut going: usize = gone.map(|link| link.backlog()).sum();
        while self.outgoing.is_full_without(going) {
            let slowest = links()
                .filter(|link| !link.is_going())
                .max_by_key(|link| link.backlog());
            let Some(link) = slowest.filter(|link| link.backlog() > UNCOUNTED_BYTES) else {
                return;
            };
            going += link.backlog();
            link.cut();
            link.end(Ending::at_once(1008, "slow consumer"));
        }
    }

    /// Ends the session that holds most of what is coming in, unless those that are on their way out
    /// make room enough.
    pub(crate) fn end_largest_sender(&self, of: &Held) {
        let guard = self.lock();
        let incoming = |link: &Link| link.incoming();
        let links = || guard.links.values().map(|member| &member.link);
        let going = links().filter(|link| link.is_going());
        if !of.is_full_without(going.map(|link| incoming(link)).sum()) {
            return;
        }
        let largest = links()
            .filter(|link| !link.is_going() && incoming(link) > 0)
            .max_by_key(|link| incoming(link));
        if let Some(link) = largest {
            link.cut();
            link.end(Ending::at_once(1013, "too much is being sent at once"));
        }
    }

    fn encode(&self, event: Event, payload: &str, version: Option<StateVersion>) -> Arc<Encoded> {
        Encoded::new(event.name(), payload, version, &self.outgoing)
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
            .filter(|member| !member.link.is_going())
            .any(|member| member.link.principal.device_id.as_ref() == Some(device))
    }

    /// Sends an event to everybody who may see it.
    pub(crate) fn publish(&self, event: Event, payload: &str, version: Option<StateVersion>) {
        let encoded = self.encode(event, payload, version);
        self.send(event, Some(&encoded), &encoded);
    }

    /// The same where the dialects have it otherwise. `None` for wire 3 tells nobody there, and
    /// is not counted there.
    pub(crate) fn publish_each(
        &self,
        event: Event,
        v3_payload: Option<&str>,
        v4_payload: &str,
        version: Option<StateVersion>,
    ) {
        let v3 = v3_payload.map(|payload| self.encode(event, payload, version));
        let v4 = self.encode(event, v4_payload, version);
        self.send(event, v3.as_ref(), &v4);
    }

    /// Sends events of one kind to everybody who may see them, in this order and all at once: a
    /// receiver wakes up once and writes once.
    pub(crate) fn publish_all(&self, event: Event, payloads: &[String]) {
        let all: Vec<Arc<Encoded>> = payloads
            .iter()
            .map(|payload| self.encode(event, payload, None))
            .collect();
        match &*all {
            [] => return,
            [one] => return self.send(event, Some(one), one),
            _ => {}
        }
        let mut guard = self.lock();
        let sessions = &mut *guard;
        let mut places = Places::for_at_most(sessions.links.len() * all.len(), &self.outgoing);
        for member in sessions.links.values_mut() {
            let link = &member.link;
            if !member.hears.includes(event) || !link.is_live() {
                continue;
            }
            let seq = match member.dialect {
                Dialect::V3 => sessions.seq,
                Dialect::V4 => {
                    let before = member.seq;
                    member.seq += all.len() as u64;
                    before
                }
            };
            let queued = (seq + 1..)
                .zip(&all)
                .map(|(seq, encoded)| Queued::new(encoded, Some(seq), &mut places));
            link.deliver(event.droppable(), queued);
        }
        sessions.seq += all.len() as u64;
        drop(places);
        self.end_slowest_of(sessions);
    }

    fn send(&self, event: Event, v3: Option<&Arc<Encoded>>, v4: &Arc<Encoded>) {
        let mut guard = self.lock();
        let sessions = &mut *guard;
        if v3.is_some() {
            sessions.seq += 1;
        }
        let mut places = Places::for_at_most(sessions.links.len(), &self.outgoing);
        for member in sessions.links.values_mut() {
            let link = &member.link;
            if !member.hears.includes(event) || !link.is_live() {
                continue;
            }
            let queued = match member.dialect {
                Dialect::V3 => {
                    let Some(encoded) = v3 else { continue };
                    Queued::new(encoded, Some(sessions.seq), &mut places)
                }
                Dialect::V4 => {
                    member.seq += 1;
                    Queued::new(v4, Some(member.seq), &mut places)
                }
            };
            link.deliver(event.droppable(), std::iter::once(queued));
        }
        drop(places);
        self.end_slowest_of(sessions);
    }

    /// Sends an event to those that may see it and asked for it. Wire 3, which counts what goes to
    /// everybody, does not count it.
    pub(crate) fn publish_watched(
        &self,
        event: Event,
        payload: &str,
        asked: impl Fn(&Watch) -> bool,
    ) {
        let encoded = self.encode(event, payload, None);
        let mut guard = self.lock();
        let mut places = Places::for_at_most(guard.links.len(), &self.outgoing);
        for member in guard.links.values_mut() {
            let link = &member.link;
            if member.hears.includes(event) && link.is_live() && asked(&link.watch()) {
                let seq = match member.dialect {
                    Dialect::V3 => None,
                    Dialect::V4 => {
                        member.seq += 1;
                        Some(member.seq)
                    }
                };
                let queued = Queued::new(&encoded, seq, &mut places);
                link.deliver(event.droppable(), std::iter::once(queued));
            }
        }
        drop(places);
        self.end_slowest_of(&guard);
    }

    /// Sends an event to those that may see it and are `wanted`, each in its dialect. What nobody
    /// gets is not encoded.
    pub(crate) fn publish_if(
        &self,
        way: Way,
        payload: impl Fn(Dialect) -> String,
        wanted: impl Fn(&Link) -> bool,
    ) {
        let Way {
            event,
            numbered,
            droppable,
        } = way;
        let mut guard = self.lock();
        let sessions = &mut *guard;
        if numbered {
            sessions.seq += 1;
        }
        let v3_seq = numbered.then_some(sessions.seq);
        let v3 = std::cell::OnceCell::new();
        let v4 = std::cell::OnceCell::new();
        let encoded = |dialect| self.encode(event, &payload(dialect), None);
        let mut places = Places::for_at_most(sessions.links.len(), &self.outgoing);
        for member in sessions.links.values_mut() {
            let link = &member.link;
            if !member.hears.includes(event) || !link.is_live() || !wanted(link) {
                continue;
            }
            let queued = match member.dialect {
                Dialect::V3 => {
                    let encoded = v3.get_or_init(|| encoded(Dialect::V3));
                    Queued::new(encoded, v3_seq, &mut places)
                }
                Dialect::V4 => {
                    member.seq += 1;
                    let encoded = v4.get_or_init(|| encoded(Dialect::V4));
                    Queued::new(encoded, Some(member.seq), &mut places)
                }
            };
            link.deliver(droppable, std::iter::once(queued));
        }
        drop(places);
        self.end_slowest_of(sessions);
    }

    /// Sends an event to one session alone, unnumbered. `false` when it is gone or ending.
    pub(crate) fn tell(&self, conn_id: &str, event: Event, payload: &str) -> bool {
        let encoded = self.encode(event, payload, None);
        let guard = self.lock();
        let Some(member) = guard.links.get(conn_id) else {
            return false;
        };
        if member.link.is_going() || member.link.ending().is_some() {
            return false;
        }
        let mut places = Places::for_at_most(1, &self.outgoing);
        let queued = Queued::new(&encoded, None, &mut places);
        member
            .link
            .deliver(event.droppable(), std::iter::once(queued));
        drop(places);
        self.end_slowest_of(&guard);
        member.link.is_live()
    }

    /// Has every connect that is being judged judged again, because one was found to rest on what
    /// does not hold any more.
    pub(crate) fn judge_again(&self) {
        self.lock().revocations += 1;
    }

    /// Takes authority away from the sessions that `concerned` names and says how they are to end,
    /// but ends none yet. For the transaction that revokes, before it commits: what they began and
    /// did not commit before it is refused. [`Self::revoke`] follows after the commit; a session
    /// that it excepts ends by itself once the calls that it has under way are answered.
    pub(crate) fn disarm(&self, code: u16, reason: &str, concerned: impl Fn(&Principal) -> bool) {
        self.cut(&Ending::at_once(code, reason), false, concerned);
    }

    fn cut(&self, ending: &Ending, now: bool, concerned: impl Fn(&Principal) -> bool) -> usize {
        let mut guard = self.lock();
        guard.revocations += 1;
        let mut cut = 0;
        for member in guard.links.values() {
            let link = &member.link;
            if concerned(&link.principal) {
                let is_leaving = link.is_leaving();
                link.cut();
                link.will_end(ending.clone());
                if now {
                    link.tell();
                }
                cut += usize::from(!is_leaving);
            }
        }
        cut
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
        let ending = Ending::at_once(code, reason);
        self.cut(&ending, true, |principal| {
            Some(principal.conn_id.as_str()) != except && concerned(principal)
        })
    }

    /// Ends every session after what is queued for it.
    pub(crate) fn close_all(&self, code: u16, reason: &str) {
        for member in self.lock().links.values() {
            member.link.end(Ending {
                code,
                reason: reason.to_owned(),
                after_queue: true,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use clawgate_core::{
        Scope, ScopeSet,
        authz::{
            self, Browser, Check, Credentials, Declared, Evidence, Outcome, Peer, Policy, Proof,
            Record,
        },
    };
    use clawgate_protocol::frame::BUFFERED_BYTES_MAX;

    use super::*;
    use crate::websocket;

    fn principal(conn_id: &str) -> Principal {
        let evidence = Evidence {
            peer: Peer::LoopbackDirect,
            browser: Browser::No,
            declared: Declared::Other,
            role: Role::Operator,
            credentials: Credentials {
                shared: Check::Valid,
                ..Credentials::NONE
            },
            proof: Proof::Absent,
            record: Record::Unknown,
        };
        let wanted = ScopeSet::from_iter([Scope::READ]);
        let Outcome::Granted(grant) = authz::grant(&evidence, Some(&wanted), &Policy::default())
        else {
            panic!("the secret on this machine is granted");
        };
        Principal {
            conn_id: conn_id.to_owned(),
            dialect: Dialect::V3,
            grant,
            device_id: None,
            api_token: None,
            expires_at_ms: None,
            pending_request: None,
            peer: Peer::LoopbackDirect,
            address: "127.0.0.1".to_owned(),
            client_id: "cli".to_owned(),
            client_mode: "cli".to_owned(),
            caps: Caps::default(),
            standing: None,
        }
    }

    fn join(hub: &Hub, conn_id: &str) -> (Arc<Link>, Outbox) {
        hub.join(principal(conn_id), hub.revocations())
            .expect("nothing was revoked meanwhile")
    }

    #[test]
    fn who_is_disarmed_inside_a_transaction_is_dead_and_ends_for_the_reason_given_there() {
        let hub = Hub::default();
        let (gone, mut outbox) = join(&hub, "gone");
        let (stays, _kept) = join(&hub, "stays");
        let judged_at = hub.revocations();
        hub.disarm(4001, "device removed", |principal| {
            principal.conn_id == "gone"
        });
        assert!(!gone.is_live());
        assert!(stays.is_live());
        hub.publish(Event::Tick, "{}", None);
        assert!(outbox.next().is_none(), "it hears nothing more");
        assert!(
            hub.join(principal("new"), judged_at).is_none(),
            "what was judged before is judged again"
        );
        let told = hub.revoke(4001, "something else", None, |principal| {
            principal.conn_id == "gone"
        });
        assert_eq!(told, 1);
        let ending = gone.ending().unwrap();
        assert_eq!(
            (ending.code, ending.reason.as_str()),
            (4001, "device removed")
        );
    }

    #[test]
    fn an_event_is_framed_once_for_all_who_count_it_alike_and_anew_for_others() {
        let hub = Hub::default();
        let mut outboxes = Vec::new();
        for (conn_id, dialect) in [
            ("a3", Dialect::V3),
            ("a4", Dialect::V4),
            ("b3", Dialect::V3),
            ("b4", Dialect::V4),
        ] {
            let principal = Principal {
                dialect,
                ..principal(conn_id)
            };
            let (_link, outbox) = hub.join(principal, hub.revocations()).unwrap();
            outboxes.push(outbox);
            if conn_id == "a4" {
                // Counted by those that are here, and on wire 3 for those that come.
                hub.publish(Event::Tick, "{}", None);
            }
        }
        hub.publish(Event::Health, r#"{"ok":true}"#, None);
        let queued: Vec<Queued> = outboxes
            .iter_mut()
            .map(|outbox| {
                let all = std::iter::from_fn(|| outbox.next());
                all.last().unwrap()
            })
            .collect();
        let frames: Vec<Vec<u8>> = queued
            .iter()
            .map(|queued| match queued.framed() {
                Framed::Shared(frame) => frame.to_vec(),
                Framed::Own(pieces) => websocket::text_frame(&pieces.concat()),
            })
            .collect();
        let seq = |at: usize| {
            let text = String::from_utf8_lossy(&frames[at][2..]);
            assert!(text.starts_with(r#"{"type":"event","event":"health","payload":{"ok":true}"#));
            text.rsplit_once(r#""seq":"#).unwrap().1.to_owned()
        };
        assert_eq!([seq(0), seq(1), seq(2), seq(3)], ["2}", "2}", "2}", "1}"]);
        let shared = |at: usize| match queued[at].framed() {
            Framed::Shared(frame) => Some(frame.as_ptr()),
            Framed::Own(_) => None,
        };
        assert!(shared(0).is_some(), "the first who takes it");
        assert_eq!(shared(0), shared(2), "one text for both of wire 3");
        let held = hub.outgoing.clone();
        assert!(held.bytes() > 0);
        drop((queued, outboxes));
        assert_eq!(held.bytes(), 0, "what nobody holds is not counted");
    }

    #[test]
    fn events_that_go_together_are_numbered_as_if_they_went_one_by_one() {
        let (together, apart) = (Hub::default(), Hub::default());
        let payloads = [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#].map(str::to_owned);
        let told = |hub: &Hub, tell: &dyn Fn()| {
            let mut outboxes = Vec::new();
            for (conn_id, dialect) in [("3", Dialect::V3), ("4", Dialect::V4), ("c", Dialect::V4)] {
                let principal = Principal {
                    dialect,
                    ..principal(conn_id)
                };
                let (_link, outbox) = hub.join(principal, hub.revocations()).unwrap();
                outboxes.push(outbox);
                hub.publish(Event::Tick, "{}", None);
            }
            tell();
            hub.publish(Event::Tick, "{}", None);
            let texts = |outbox: &mut Outbox| {
                let queued = std::iter::from_fn(|| outbox.next());
                let text = |queued: Queued| match queued.framed() {
                    Framed::Shared(frame) => String::from_utf8_lossy(&frame[2..]).into_owned(),
                    Framed::Own(pieces) => pieces.concat(),
                };
                queued.map(text).collect::<Vec<String>>()
            };
            outboxes.iter_mut().map(texts).collect::<Vec<_>>()
        };
        let at_once = told(&together, &|| {
            together.publish_all(Event::Health, &payloads);
        });
        let one_by_one = told(&apart, &|| {
            for payload in &payloads {
                apart.publish(Event::Health, payload, None);
            }
        });
        assert_eq!(at_once, one_by_one);
        assert_eq!(at_once[2].len(), 5);
        assert_eq!(together.outgoing.bytes(), 0, "what was taken is given back");
    }

    #[test]
    fn the_first_reason_to_end_is_the_one_that_is_told() {
        let hub = Hub::default();
        let (link, _outbox) = join(&hub, "a");
        hub.revoke(4001, "device removed", None, |_| true);
        hub.close_all(1012, "service restart");
        assert_eq!(link.ending().unwrap().reason, "device removed");
    }

    #[test]
    fn a_request_without_a_socket_hears_nothing_and_loses_its_authority_like_anybody() {
        let hub = Hub::default();
        let link = hub
            .join_unheard(principal("http"), hub.revocations())
            .unwrap();
        let payload = format!(r#""{}""#, "x".repeat(1 << 20));
        for _ in 0..100 {
            hub.publish(Event::Health, &payload, None);
        }
        assert!(link.is_live(), "what it does not hear costs it nothing");
        let ended = hub.revoke(4001, "gateway auth changed", None, |_| true);
        assert_eq!((ended, link.is_live()), (1, false));
    }

    #[test]
    fn where_too_much_waits_for_all_those_for_whom_most_waits_are_ended() {
        let hub = Hub::default();
        let connected: Vec<_> = (0..14).map(|n| join(&hub, &format!("{n}"))).collect();
        let payload = format!(r#""{}""#, "x".repeat(1 << 20));
        // Each for one of them alone, so that nothing of it is shared: more for each than for the last.
        for round in 0..14 {
            for n in round..14 {
                hub.tell(&format!("{n}"), Event::Tick, &payload);
            }
        }
        assert!(!hub.outgoing.is_full(), "105 MiB wait");
        for _ in 0..40 {
            for n in 0..14 {
                hub.tell(&format!("{n}"), Event::Tick, &payload);
            }
        }
        let live: Vec<bool> = connected.iter().map(|(link, _)| link.is_live()).collect();
        let ended = live.iter().filter(|it| !**it).count();
        assert!((1..14).contains(&ended), "{live:?}");
        assert!(live[0] && !live[13], "{live:?}");
        drop(connected);
        let shared: Vec<_> = (0..100).map(|n| join(&hub, &format!("s{n}"))).collect();
        for _ in 0..40 {
            hub.publish(Event::Tick, &payload, None);
        }
        assert!(
            shared.iter().all(|(link, _)| link.is_live()),
            "what all hear is held once"
        );
    }

    #[test]
    fn nobody_is_ended_for_what_one_on_its_way_out_still_holds() {
        const MIB: usize = 1 << 20;
        let hub = Hub::default();
        let (goes, _outbox) = join(&hub, "goes");
        let (stays, _kept) = join(&hub, "stays");
        let held = 2 * OUTGOING_BYTES_MAX + MIB;
        hub.outgoing().put(held);
        stays.waits(MIB);
        goes.leaves(held);
        hub.end_slowest();
        assert!(stays.is_live());
        assert!(goes.is_live(), "what it began is carried through");
        assert!(!hub.tell("goes", Event::Tick, "{}"), "it hears nothing");
        hub.leave("goes");
        hub.end_slowest();
        assert!(!stays.is_live(), "now it is the one for whom most waits");
    }

    #[test]
    fn a_backlog_is_bounded_by_its_bytes_and_ends_with_the_true_reason() {
        let hub = Hub::default();
        let (link, mut outbox) = join(&hub, "a");
        // Many more than the messages that an outbox once held.
        let payload = format!(r#""{}""#, "x".repeat(1_000));
        for _ in 0..60_000 {
            hub.publish(Event::Tick, &payload, None);
        }
        assert!(link.is_live(), "what may be dropped ends nobody");
        assert!(link.buffered() < BUFFERED_BYTES_MAX + 2_000);
        hub.publish(Event::Health, "{}", None);
        assert!(!link.is_live());
        let ending = link.ending().unwrap();
        assert_eq!(
            (ending.code, ending.reason.as_str()),
            (1008, "slow consumer")
        );
        assert!(!ending.after_queue);
        let mut queued = 0;
        while outbox.next().is_some() {
            queued += 1;
        }
        assert!(queued > 40_000, "{queued}");
    }
}
