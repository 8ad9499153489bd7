//! The life of one socket: challenge, connect, then requests in and responses and events out.
//!
//! One task owns the socket and the requests that wait. When the socket goes, what was begun is
//! carried through all the same; only its answer is then nobody's. What is queued during one wake-up is written in one go. When the peer does not read, this stops reading: a client
//! that only sends is held back by its own socket, and costs a bounded amount of memory.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::Poll,
    time::Duration,
};

use clawgate_core::{Dialect, Method, authz, write_limit};
use clawgate_protocol::{
    ErrorShape,
    event::Event,
    frame::{
        self, BUFFERED_BYTES_MAX, DecodeError, EventParts, PAYLOAD_BYTES_MAX, PRE_HELLO_BYTES_MAX,
    },
    method,
};
use futures_util::{Stream as _, StreamExt as _, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    runtime::Handle,
    time::{Instant, Sleep},
};
use tungstenite::Utf8Bytes;

use crate::{
    Gateway,
    dispatch::{self, Answer, Call, Reply},
    error,
    handshake::{self, Welcome},
    hub::{Framed, Link, News, Outbox, Queued},
    listen::{PreHelloPlace, Request},
    load::{Share, UNCOUNTED_BYTES},
    logs,
    websocket::{Incoming, Socket},
};

/// Requests of one connection that wait at once; further ones stay in the socket.
const IN_FLIGHT_MAX: usize = 64;
/// Unflushed bytes above which no more is read and no more events are taken.
const UNFLUSHED_BYTES_MAX: usize = 256 * 1024;
/// Messages taken in one wake-up, control frames among them, so that one busy client does not
/// starve the others.
const READ_BATCH_MAX: usize = 64;
/// Role errors in a row after which the connection is closed.
const ROLE_ERRORS_MAX: u32 = 10;
/// How long a peer may take less than [`TAKEN_BYTES_MIN`] of what waits for it.
const STALLED_MAX: Duration = Duration::from_secs(30);
/// The same while too much waits for all together, and how often it is looked at.
const STALLED_WHEN_FULL: Duration = Duration::from_secs(1);
/// A message that takes a tenth of a millisecond and more to unmask, check and read.
const LONG_MESSAGE_BYTES: usize = 128 * 1024;
/// How often it is looked whether there is room again for events.
const ROOM_EVERY: Duration = Duration::from_millis(50);
/// What a peer has to take in that time to count as one that reads.
const TAKEN_BYTES_MIN: u64 = 64 * 1024;
/// How long a closing peer may take.
const LINGER: Duration = Duration::from_secs(1);
/// Wire 4: time between pings, and time for the pong.
const PING_EVERY: Duration = Duration::from_secs(25);

/// Runs an upgraded stream to its end.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    read: Vec<u8>,
    request: Request,
    place: Arc<PreHelloPlace>,
) {
    let socket = Socket::new(stream, read, PRE_HELLO_BYTES_MAX);
    // Boxed, and all of it gone before the session begins: what a connect takes is not kept by a
    // connection that sits there.
    let entered = Box::pin(enter(&gateway, socket, request, place)).await;
    if let Some(entered) = entered {
        Session::begin(gateway, entered).run().await;
    }
}

/// A socket whose peer was let in.
struct Entered {
    socket: Socket,
    link: Arc<Link>,
    outbox: Outbox,
    welcome: Welcome,
}

/// From the challenge to the verdict. `None` when the connection is over.
async fn enter(
    gateway: &Arc<Gateway>,
    mut socket: Socket,
    request: Request,
    place: Arc<PreHelloPlace>,
) -> Option<Entered> {
    let conn_id = uuid::Uuid::new_v4().to_string();
    let nonce = uuid::Uuid::new_v4().to_string();
    socket.queue(&challenge(&nonce));
    let deadline = Instant::now() + Duration::from_millis(gateway.config().handshake_timeout_ms);
    let text = tokio::select! {
        () = gateway.stopping.cancelled() => {
            socket.queue_close(1012, "service restart");
            socket.linger(LINGER).await;
            return None;
        }
        first = first_message(&mut socket, deadline) => match first {
            First::Text(text) => text,
            First::Close(code) => {
                socket.queue_close(code, "");
                socket.linger(LINGER).await;
                return None;
            }
            First::Gone => return None,
        },
    };
    let joined = loop {
        // A verdict that was reached while authority was taken away somewhere is reached again:
        // whoever took it away found no session to end.
        let judged_at = gateway.hub.revocations();
        let judged = handshake::judge(gateway, &request, &conn_id, &nonce, text.as_str()).await;
        match judged {
            Ok((principal, welcome)) => {
                if let Some((link, outbox)) = gateway.hub.join(principal, judged_at) {
                    break Ok((link, outbox, welcome));
                }
            }
            Err(refusal) => break Err(refusal),
        }
    };
    drop(place);
    match joined {
        Ok((link, outbox, welcome)) => {
            socket.set_message_bytes_max(PAYLOAD_BYTES_MAX);
            Some(Entered {
                socket,
                link,
                outbox,
                welcome,
            })
        }
        Err(refusal) => {
            if let Some((id, error)) = &refusal.response {
                socket.queue(&frame::response_error(id, error));
            }
            socket.queue_close(refusal.code, &refusal.reason);
            socket.linger(LINGER).await;
            None
        }
    }
}

fn challenge(nonce: &str) -> String {
    let payload = serde_json::json!({
        "nonce": nonce,
        "ts": crate::clock::now_ms(),
        "capabilities": [clawgate_protocol::connect::LOCAL_PROOF_CAPABILITY],
    });
    let parts = EventParts::new(Event::ConnectChallenge.name(), &payload.to_string(), None);
    parts.frame(None)
}

enum First {
    Text(Utf8Bytes),
    Close(u16),
    Gone,
}

/// The first text, however much else is sent before it: the deadline is looked at before every
/// batch, and after a full batch others have their turn.
async fn first_message(socket: &mut Socket, deadline: Instant) -> First {
    loop {
        socket.try_flush();
        if socket.has_ended() {
            return First::Gone;
        }
        if Instant::now() >= deadline {
            return First::Close(1000);
        }
        // Answers to its pings that it does not read are not piled up.
        let reads = socket.unflushed() <= PRE_HELLO_BYTES_MAX;
        let mut may_have_more = reads;
        if reads {
            for _ in 0..READ_BATCH_MAX {
                match socket.try_read() {
                    Incoming::Text(text) => return First::Text(text),
                    Incoming::Control => {}
                    Incoming::Part => break,
                    Incoming::Nothing => {
                        may_have_more = false;
                        break;
                    }
                    Incoming::TooLarge => return First::Close(1009),
                    Incoming::Broken(code) => return First::Close(code),
                    Incoming::Closed => {
                        socket.try_flush();
                        return First::Gone;
                    }
                }
            }
        }
        if may_have_more {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::task::consume_budget().await;
        match tokio::time::timeout_at(deadline, socket.ready(reads)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return First::Gone,
            Err(_) => return First::Close(1000),
        }
    }
}

/// A request that was waited for: its id, its method, and its answer.
struct Done {
    id: String,
    method: &'static str,
    reply: Reply,
    /// What its message counted.
    bytes: usize,
}
struct InFlight {
    done: Pin<Box<dyn Future<Output = Done> + Send>>,
    /// Whether it goes on when the socket does not.
    carried: bool,
}

impl Future for InFlight {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Done> {
        self.done.as_mut().poll(context)
    }
}

/// A peer for which something waits.
#[derive(Clone, Copy, Debug)]
struct Stalled {
    since: Instant,
    /// What it had taken in all by then.
    taken: u64,
    /// When it is looked at again.
    look: Instant,
}

/// An authenticated socket.
struct Session {
    gateway: Arc<Gateway>,
    /// Where everything else runs, while this is elsewhere for a long message.
    home: Option<Handle>,
    socket: Socket,
    link: Arc<Link>,
    outbox: Outbox,
    /// An event that was taken when there was no room for it.
    held_back: Option<Queued>,
    welcome: Arc<Welcome>,
    in_flight: FuturesUnordered<InFlight>,
    /// What the messages of the requests in flight count.
    in_flight_bytes: usize,
    /// What the events that are queued in the socket and not flushed cost.
    events_unflushed: usize,
    role_errors: u32,
    refusals: logs::Refusals,
    closing: Option<(u16, String)>,
    peer_left: bool,
    /// Whether whole messages may lie in the socket's buffer already, so that waiting for the
    /// stream could wait for nothing.
    may_have_more: bool,
    /// Wire 4: when it is pinged next.
    ping: Pin<Box<Sleep>>,
    pong_due: bool,
    /// How it is going with what waits for the peer, if something does.
    stalled: Option<Stalled>,
    /// When its authority ends by itself.
    expires: Option<Instant>,
}

impl Session {
    /// Boxed, because it moves.
    fn begin(gateway: Arc<Gateway>, entered: Entered) -> Box<Self> {
        let Entered {
            mut socket,
            link,
            outbox,
            welcome,
        } = entered;
        socket.count_among(&gateway.incoming, gateway.hub.outgoing());
        // It joined before the hello is built: nothing that happens in between is missed.
        if welcome.here.is_tracked() {
            gateway.presence.came(&welcome.here, crate::clock::now_ms());
            gateway.publish_arrival();
        }
        socket.queue(&handshake::hello(&gateway, &link.principal, &welcome));
        if let Some(node) = &welcome.node {
            gateway
                .nodes
                .came(&link.principal, &welcome.here.client, node);
            socket.queue(&gateway.nodes.wake_words_frame());
        }
        socket.try_flush();
        socket.begin_small();
        let principal = &link.principal;
        tracing::debug!(
            conn = %principal.conn_id, client = %principal.client_id, mode = %principal.client_mode,
            role = %principal.grant.role(), scopes = %principal.grant.scopes().joined(),
            basis = principal.grant.basis().as_str(), address = %principal.address,
            protocol = principal.dialect.version(), "connected"
        );
        let expires = principal.expires_at_ms.map(|at| {
            let left = u64::try_from(at - crate::clock::now_ms()).unwrap_or_default();
            Instant::now() + Duration::from_millis(left)
        });
        let refusals = logs::Refusals::of(&link.principal.conn_id);
        // One that came while everybody was told to go was not told.
        let stops = gateway.stopping.is_cancelled();
        Box::new(Self {
            gateway,
            home: None,
            socket,
            link,
            outbox,
            held_back: None,
            welcome: Arc::new(welcome),
            in_flight: FuturesUnordered::new(),
            in_flight_bytes: 0,
            events_unflushed: 0,
            role_errors: 0,
            refusals,
            closing: stops.then(|| (1012, "service restart".to_owned())),
            peer_left: false,
            expires,
            // A client may have sent its first requests together with its connect.
            may_have_more: true,
            ping: Box::pin(tokio::time::sleep(PING_EVERY)),
            pong_due: false,
            stalled: None,
        })
    }

    async fn run(mut self: Box<Self>) {
        while !self.is_over() {
            if self.is_amid_long_message() {
                let gateway = Arc::clone(&self.gateway);
                self.home = Some(Handle::current());
                self = match gateway.bulk.spawn(self.read_long()).await {
                    Ok(back) => back,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // The gateway is going down.
                        Err(_) => return,
                    },
                };
                continue;
            }
            self.turn().await;
        }
        self.end().await;
    }

    fn is_amid_long_message(&self) -> bool {
        self.socket.is_amid_more_than(LONG_MESSAGE_BYTES)
    }

    /// The same for as long as a long message comes in.
    async fn read_long(mut self: Box<Self>) -> Box<Self> {
        while !self.is_over() && self.is_amid_long_message() {
            self.turn().await;
        }
        self.home = None;
        self
    }

    fn is_over(&self) -> bool {
        self.closing.is_some() || self.peer_left || self.socket.has_ended()
    }

    /// One wake-up: wait for something, do all of it that is there, flush once.
    async fn turn(&mut self) {
        // A peer that always has something ready must not keep the others waiting.
        tokio::task::consume_budget().await;
        let unflushed = self.socket.unflushed();
        let lacks_room = self.lacks_room();
        let congested = unflushed > UNFLUSHED_BYTES_MAX || lacks_room;
        if !congested && let Some(queued) = self.held_back.take() {
            self.take_events(queued);
            return self.flush();
        }
        let reads = !congested
            && self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes <= PAYLOAD_BYTES_MAX;
        let flushes = unflushed > 0;
        let look = self.stalled.map(|stalled| stalled.look);
        let pings = self.pings();
        tokio::select! {
            biased;
            news = self.outbox.news(!congested) => match news {
                News::Ending => self.take_ending(),
                News::Event(queued) => self.take_events(queued),
            },
            done = next_done(&mut self.in_flight, self.home.as_ref()),
                if !self.in_flight.is_empty() =>
            {
                // What it did is told before it is answered.
                while self.held_back.is_none()
                    && self.socket.unflushed() <= UNFLUSHED_BYTES_MAX
                    && let Some(queued) = self.outbox.next()
                {
                    self.queue_event(queued);
                }
                self.in_flight_bytes -= done.bytes;
                self.link.holds(self.incoming());
                self.answer(&done.id, done.method, done.reply);
            }
            ready = ready(&self.socket, reads, self.may_have_more), if reads || flushes => match ready {
                Ok(()) if reads => self.read(),
                Ok(()) => {}
                Err(_) => self.peer_left = true,
            },
            () = self.ping.as_mut(), if pings => self.ping(),
            () = until(self.expires), if self.expires.is_some() => self.end_of_authority(),
            () = pause(ROOM_EVERY), if lacks_room => {}
            () = until(look), if look.is_some() => self.look_at_stalled(),
        }
        self.flush();
    }

    fn flush(&mut self) {
        self.socket.try_flush();
        if self.socket.unflushed() == 0 && self.events_unflushed > 0 {
            self.link.sent(self.events_unflushed);
            self.events_unflushed = 0;
        }
        self.link.waits(self.socket.outgoing());
        let taken = self.socket.written();
        if self.socket.unflushed() == 0 {
            self.stalled = None;
        } else if self
            .stalled
            .is_none_or(|stalled| taken >= stalled.taken + TAKEN_BYTES_MIN)
        {
            let since = Instant::now();
            let look = since + STALLED_WHEN_FULL;
            self.stalled = Some(Stalled { since, taken, look });
        }
        // Cut off, and what it began before is answered: nobody else needs to say that it is over.
        if !self.link.is_live() && self.closing.is_none() && self.in_flight.is_empty() {
            self.end_of_authority();
        }
    }

    /// Whether it is enough with a peer that takes little or nothing.
    fn look_at_stalled(&mut self) {
        let Some(stalled) = &mut self.stalled else {
            return;
        };
        stalled.look = Instant::now() + STALLED_WHEN_FULL;
        if stalled.since.elapsed() >= STALLED_MAX || self.gateway.hub.outgoing().is_full() {
            self.end_slow_consumer();
        }
    }

    fn end_slow_consumer(&mut self) {
        self.closing = Some((1008, "slow consumer".to_owned()));
    }

    /// What is held of what the peer sent.
    fn incoming(&self) -> usize {
        self.socket.incoming() + self.in_flight_bytes
    }

    /// Somebody ends this session: at once, or after what is queued for it. Whether the peer
    /// reads does not matter.
    fn take_ending(&mut self) {
        let Some(ending) = self.link.ending() else {
            return;
        };
        if ending.after_queue && self.link.is_live() {
            let held_back = self.held_back.take();
            let queued = std::iter::from_fn(|| self.outbox.next());
            for queued in held_back.into_iter().chain(queued) {
                put(&mut self.socket, &queued);
            }
        }
        self.closing = Some((ending.code, ending.reason.clone()));
    }

    /// Whether too much waits for all together for another event to go into this socket.
    fn lacks_room(&self) -> bool {
        let outgoing = self.gateway.hub.outgoing();
        outgoing.is_twice_full() || (outgoing.is_full() && self.socket.unflushed() > 0)
    }

    /// Takes an event and those behind it. One that is alone is written as it is; several are written
    /// together.
    fn take_events(&mut self, first: Queued) {
        if self.outbox.is_empty() {
            return self.send_event(first);
        }
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(queued) = next {
            self.queue_event(queued);
            taken += 1;
            if taken >= READ_BATCH_MAX
                || self.held_back.is_some()
                || self.socket.unflushed() > UNFLUSHED_BYTES_MAX
            {
                return;
            }
            next = self.outbox.next();
        }
    }

    fn send_event(&mut self, queued: Queued) {
        if let Framed::Shared(frame) = queued.framed()
            && self.link.is_live()
            && !self.lacks_room()
        {
            self.events_unflushed += queued.cost();
            self.socket.send_frame(frame);
        } else {
            self.queue_event(queued);
        }
    }

    fn queue_event(&mut self, queued: Queued) {
        // What was queued for an authority that is gone is not for this peer any more.
        if !self.link.is_live() {
            return;
        }
        // Many may have been woken for one event; not all of them have room for it.
        if self.lacks_room() {
            self.held_back = Some(queued);
            return;
        }
        self.events_unflushed += queued.cost();
        put(&mut self.socket, &queued);
    }

    /// Reads, and says how much is held of what came. Where that is too much for all of them,
    /// whoever holds most has to go.
    fn read(&mut self) {
        // What a request starts is started where everything else runs.
        let home = self.home.clone();
        let _here = home.as_ref().map(Handle::enter);
        let before = self.incoming();
        self.read_batch();
        let held = self.incoming();
        self.link.holds(held);
        if held > before && self.socket.is_too_much_incoming() {
            self.gateway.hub.end_largest_sender(&self.gateway.incoming);
        }
    }

    fn read_batch(&mut self) {
        self.may_have_more = true;
        for _ in 0..READ_BATCH_MAX {
            if !self.read_one()
                || self.is_over()
                || self.in_flight.len() >= IN_FLIGHT_MAX
                || self.in_flight_bytes > PAYLOAD_BYTES_MAX
                || self.socket.unflushed() > UNFLUSHED_BYTES_MAX
            {
                return;
            }
        }
    }

    /// Takes what comes next. False when there is nothing more to take in this wake-up.
    fn read_one(&mut self) -> bool {
        let incoming = self.socket.try_read();
        // Any sign of life will do for a pong.
        self.pong_due &= matches!(incoming, Incoming::Nothing);
        match incoming {
            Incoming::Text(text) => self.message(text.as_str()),
            Incoming::Control => {}
            Incoming::Part => return false,
            Incoming::Nothing => {
                self.may_have_more = false;
                return false;
            }
            Incoming::Closed => self.peer_left = true,
            Incoming::TooLarge => self.closing = Some((1009, String::new())),
            Incoming::Broken(code) => self.closing = Some((code, String::new())),
        }
        true
    }

    /// One request: frame, role, scope, method, params, in this order.
    fn message(&mut self, text: &str) {
        let dialect = self.link.principal.dialect;
        let request = match frame::decode_request(text, dialect) {
            Ok(request) => request,
            Err(DecodeError::NotJson) => return,
            Err(DecodeError::Shape { id, problems }) => {
                let error = ErrorShape::invalid(format!("invalid request frame: {problems}"));
                return self.refuse_frame(&id, "-", &error);
            }
        };
        if self.expires.is_some_and(|at| at <= Instant::now()) {
            self.end_of_authority();
        }
        if !self.link.is_live() || self.is_over() {
            return;
        }
        if request.expected_profile.is_some() {
            return self.refuse(&request.id, &request.method, &error::other_profile());
        }
        let known = Method::parse(&request.method);
        let admitted = match known {
            Some(method) => authz::admit(&self.link.principal.grant, method.spec().access(dialect)),
            None => authz::admit(
                &self.link.principal.grant,
                &method::access_by_name(&request.method, dialect),
            ),
        };
        if let Err(refused) = admitted {
            let is_role = matches!(refused, authz::Refused::Role(_));
            let error = error::refused(&self.link.principal, &refused);
            self.refuse(&request.id, &request.method, &error);
            self.role_errors = if is_role { self.role_errors + 1 } else { 0 };
            if self.role_errors > ROLE_ERRORS_MAX {
                self.closing = Some((1008, "repeated unauthorized calls".to_owned()));
            }
            return;
        }
        self.role_errors = 0;
        if let Some(method) = known
            && let Err(error) = self.count_write(method)
        {
            return self.refuse(&request.id, &request.method, &error);
        }
        let Some(method) = known else {
            let message = format!("unknown method: {}", request.method);
            let error = ErrorShape::invalid(message);
            return self.refuse(&request.id, &request.method, &error);
        };
        let call = Call {
            method,
            params: request.params,
            gateway: &self.gateway,
            link: &self.link,
            welcome: &self.welcome,
        };
        match dispatch::call(&call) {
            Answer::Now(reply) => self.answer(&request.id, method.spec().name, reply),
            Answer::Later(future) => {
                let id = request.id.into_owned();
                self.wait_for(id, method.spec().name, future, false, text.len());
            }
            Answer::Carried(future) => {
                let id = request.id.into_owned();
                self.wait_for(id, method.spec().name, future, true, text.len());
            }
        }
    }

    /// Waits for an answer beside everything else. What was asked is held until then; a message of
    /// ordinary length counts nothing.
    fn wait_for(
        &mut self,
        id: String,
        method: &'static str,
        reply: Pin<Box<dyn Future<Output = Reply> + Send>>,
        carried: bool,
        message_bytes: usize,
    ) {
        let bytes = message_bytes.saturating_sub(UNCOUNTED_BYTES);
        let share: Option<Share> = (bytes > 0).then(|| self.gateway.incoming.share(bytes));
        self.in_flight_bytes += bytes;
        self.in_flight.push(InFlight {
            done: Box::pin(async move {
                let reply = reply.await;
                drop(share);
                Done {
                    id,
                    method,
                    reply,
                    bytes,
                }
            }),
            carried,
        });
    }

    /// Counts a control-plane write of a caller elsewhere.
    fn count_write(&self, method: Method) -> Result<(), ErrorShape> {
        let principal = &self.link.principal;
        let spec = method.spec();
        let (kind, name) = (spec.control_write, spec.name);
        let Some((counted_as, max)) =
            write_limit::limit(kind, name, principal.dialect, principal.peer)
        else {
            return Ok(());
        };
        let writer = write_limit::Writer {
            method: counted_as,
            device: principal.device_id.clone(),
            address: principal.address.clone(),
        };
        self.gateway
            .write_windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(writer, max, crate::clock::running_ms())
            .map_err(|wait_ms| {
                let message = format!(
                    "rate limit exceeded for {}; retry after {}s",
                    spec.name,
                    wait_ms.div_ceil(1_000)
                );
                ErrorShape::unavailable(message)
                    .with_details(json!({"method": spec.name, "limit": format!("{max} per 60s")}))
                    .retry_after(wait_ms)
            })
    }

    fn answer(&mut self, id: &str, method: &'static str, reply: Reply) {
        // As for events, what waits is looked at before something is added to it.
        if self.socket.unflushed() > BUFFERED_BYTES_MAX {
            return self.end_slow_consumer();
        }
        self.gateway.hub.end_slowest();
        match reply.outcome {
            Ok(payload) => {
                let pieces = frame::response_ok_pieces(id, &payload);
                self.socket.queue_pieces(&pieces);
            }
            Err(error) => self.refuse(id, method, &error),
        }
        if let Some(rest) = reply.rest {
            self.wait_for(id.to_owned(), method, rest.0, false, 0);
        }
        if let Some((code, reason)) = reply.then_close {
            self.closing = Some((code, reason));
        }
    }

    /// Answers with an error, and writes one line about it.
    fn refuse(&mut self, id: &str, method: &str, error: &ErrorShape) {
        self.refuse_frame(&Value::from(id), method, error);
    }

    /// The same where the id is whatever came as such.
    fn refuse_frame(&mut self, id: &Value, method: &str, error: &ErrorShape) {
        if self.refusals.is_written(std::time::Instant::now()) {
            let shown = match id {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            tracing::warn!(
                method = logs::clip(method, 80),
                code = error.exact_code(),
                reason = logs::clip(&error.message, 300),
                conn = %self.link.principal.conn_id,
                id = logs::clip(&shown, 80),
                "refused"
            );
        }
        self.socket.queue(&frame::response_error(id, error));
    }

    /// Its authority is over: with the words of whoever ended it, if somebody did.
    fn end_of_authority(&mut self) {
        self.closing = Some(match self.link.ending() {
            Some(ending) => (ending.code, ending.reason.clone()),
            None => (
                crate::pairing::AUTHORITY_CHANGED,
                "gateway auth changed".to_owned(),
            ),
        });
    }

    fn pings(&self) -> bool {
        self.link.principal.dialect == Dialect::V4
    }

    fn ping(&mut self) {
        if self.pong_due {
            // Nothing came back for a whole period: the peer is gone, without a word.
            self.peer_left = true;
            return;
        }
        self.pong_due = true;
        self.ping.as_mut().reset(Instant::now() + PING_EVERY);
        self.socket.queue_ping();
    }

    async fn end(self: Box<Self>) {
        let Self {
            gateway,
            mut socket,
            link,
            welcome,
            closing,
            outbox,
            in_flight,
            ..
        } = *self;
        carry_through(in_flight);
        // What waits in it is not kept while the peer takes its time.
        drop(outbox);
        // Before it counts as one on its way out: somebody else would be ended for what is held here.
        socket.forget_incoming();
        link.leaves(socket.outgoing());
        let conn_id = &link.principal.conn_id;
        gateway.nodes.went(conn_id);
        if welcome.here.is_tracked() {
            gateway.presence.went(&welcome.here, crate::clock::now_ms());
            gateway.publish_presence();
        }
        match &closing {
            Some((1008, reason)) => tracing::warn!(
                conn = %conn_id, client = %link.principal.client_id,
                address = %link.principal.address, %reason, "a session was ended"
            ),
            _ => tracing::debug!(conn = %conn_id, "disconnected"),
        }
        if let Some((code, reason)) = &closing {
            socket.queue_close(*code, reason);
        }
        if !socket.has_ended() {
            socket.linger(LINGER).await;
        }
        // Not before, for the same reason: what it did not take is held until here.
        gateway.hub.leave(conn_id);
    }
}

/// Queues an event in a socket.
fn put(socket: &mut Socket, queued: &Queued) {
    match queued.framed() {
        Framed::Shared(frame) => socket.queue_frame(frame),
        Framed::Own(pieces) => socket.queue_pieces(&pieces),
    }
}

/// Lets requests that were begun come to their end with nobody waiting for the answers.
fn carry_through(in_flight: FuturesUnordered<InFlight>) {
    let begun: FuturesUnordered<InFlight> =
        in_flight.into_iter().filter(|one| one.carried).collect();
    if !begun.is_empty() {
        tokio::spawn(begun.for_each(|_| std::future::ready(())));
    }
}

/// Waits for the socket, unless there may be something to read in its buffer.
async fn ready(socket: &Socket, reads: bool, may_have_more: bool) -> std::io::Result<()> {
    if reads && may_have_more {
        // A full batch was read: others have their turn before the next one.
        tokio::task::yield_now().await;
        return Ok(());
    }
    socket.ready(reads).await
}

/// Waits. (A timer that is not waited for is not made.)
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// The next finished request. Never finishes while there is none.
async fn next_done(in_flight: &mut FuturesUnordered<InFlight>, home: Option<&Handle>) -> Done {
    poll_fn(|context| {
        let _here = home.map(Handle::enter);
        match Pin::new(&mut *in_flight).poll_next(context) {
            Poll::Ready(Some(done)) => Poll::Ready(done),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}
