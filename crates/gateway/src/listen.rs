//! The listener: one port for HTTP and WebSocket.
//!
//! hyper reads the request; an upgrade to WebSocket is judged by its headers alone and then
//! becomes a connection, everything else goes to the HTTP routes.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::body::Body;
use clawgate_core::{
    authz::Peer,
    peer::{self, Forwarding, Way},
};
use hyper::{HeaderMap, Method, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{Gateway, connection, logs, web};

/// Sockets of one address that may be unauthenticated at once, as in wire 4. They count from the
/// moment at which they are accepted, whatever they say or do not say.
const PRE_HELLO_PER_ADDRESS_MAX: usize = 32;
/// The same for this machine and for configured proxies, where many clients share an address.
const PRE_HELLO_SHARED_MAX: usize = 1_024;
/// The same for everybody together, if the process may have that many descriptors.
const PRE_HELLO_TOTAL_MAX: usize = 4_096;
/// Sockets of one address that are still told by HTTP that there are too many; further ones are
/// dropped without a word.
const TOLD_MAX: usize = 8;
/// Time for a request's headers to arrive, from elsewhere and from this machine: a program here may
/// open its socket and then load itself for a while.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_TIMEOUT_HERE: Duration = Duration::from_secs(60);
/// How long a connection of plain HTTP may last: one that stops reading gives its place back. One
/// that waits for something lasting is looked at again after as long.
const HTTP_MAX: Duration = Duration::from_secs(300);

/// Headers that only something that forwards would send.
const PROXY_HEADERS: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "tailscale-user-login",
    "tailscale-user-name",
    "tailscale-user-profile-pic",
    "via",
];

/// What is known of the request behind a socket.
#[derive(Debug)]
pub(crate) struct Request {
    pub headers: HeaderMap,
    pub socket: SocketAddr,
    pub way: Way,
    /// Held for as long as the connection is to stay although it is old: a turn goes on for it.
    pub lasting: Weak<()>,
}

impl Request {
    /// A header's text, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The client's address as far as it is known, else the socket's.
    pub(crate) fn client_address(&self) -> String {
        self.way
            .client
            .unwrap_or_else(|| self.socket.ip())
            .to_string()
    }
}

/// Counts sockets that have not said hello yet.
#[derive(Debug)]
pub(crate) struct PreHello {
    /// For everybody together: half of the process's descriptors at most, so that idle sockets
    /// never take those that sessions and the database need.
    budget: usize,
    counts: Mutex<Counts>,
}

impl Default for PreHello {
    fn default() -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = descriptors.map_or(usize::MAX, |limit| {
            usize::try_from(limit / 2).unwrap_or(usize::MAX)
        });
        Self {
            budget: half.min(PRE_HELLO_TOTAL_MAX),
            counts: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, usize>,
    total: usize,
}

/// How a new socket is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// It may go on.
    Free,
    /// It is told that there are too many.
    Full,
}

impl Counts {
    /// Takes a place for a socket of this address, if it is to be served at all.
    fn take(&mut self, address: IpAddr, shared: bool, budget: usize) -> Option<Room> {
        let limit = if shared {
            PRE_HELLO_SHARED_MAX
        } else {
            PRE_HELLO_PER_ADDRESS_MAX
        };
        // A quarter of the whole is kept for clients of this machine.
        let budget = if address.is_loopback() {
            budget
        } else {
            budget - budget / 4
        };
        let count = self.by_address.get(&address).copied().unwrap_or_default();
        if self.total >= budget || count >= limit + TOLD_MAX {
            return None;
        }
        self.by_address.insert(address, count + 1);
        self.total += 1;
        Some(if count < limit {
            Room::Free
        } else {
            Room::Full
        })
    }

    fn give_back(&mut self, address: IpAddr) {
        self.total -= 1;
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// One counted socket; gives its place back when it goes.
#[derive(Debug)]
pub(crate) struct PreHelloPlace {
    gateway: Arc<Gateway>,
    address: IpAddr,
    room: Room,
}

impl PreHello {
    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(gateway: &Arc<Gateway>, address: IpAddr) -> Option<PreHelloPlace> {
        let shared = address.is_loopback() || gateway.config().is_trusted_proxy(address);
        let pre_hello = &gateway.pre_hello;
        let room = pre_hello.lock().take(address, shared, pre_hello.budget)?;
        Some(PreHelloPlace {
            gateway: Arc::clone(gateway),
            address,
            room,
        })
    }
}

impl Drop for PreHelloPlace {
    fn drop(&mut self) {
        self.gateway.pre_hello.lock().give_back(self.address);
    }
}

/// Raises the number of descriptors that this process may have to what the system allows it:
/// the usual default is meant for programs that hold no sockets.
pub(crate) fn raise_descriptor_limit() {
    let resource = rustix::process::Resource::Nofile;
    let limit = rustix::process::getrlimit(resource);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(resource, raised) {
        tracing::debug!(%error, "the number of descriptors stays as it is");
    }
}

/// Binds every address; the first must work.
pub(crate) fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(addresses.len());
    for address in addresses {
        // With port 0 the system chooses once, and the others follow.
        let port = match listeners.first() {
            Some(first) => first.local_addr()?.port(),
            None => port,
        };
        match listen_on(SocketAddr::new(*address, port)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if listeners.is_empty() => return Err(error),
            // A machine without IPv6 still has its IPv4 loopback.
            Err(error) => tracing::debug!(%address, %error, "not listening there"),
        }
    }
    Ok(listeners)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}

/// Accepts until the gateway stops.
pub(crate) async fn run(gateway: Arc<Gateway>, listener: TcpListener) {
    let mut dropped = logs::Refusals::of("listener");
    loop {
        let accepted = tokio::select! {
            () = gateway.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = PreHello::take(&gateway, address.ip()) else {
                    if dropped.is_written(std::time::Instant::now()) {
                        tracing::warn!(
                            address = %address.ip(),
                            "a connection was dropped: too many without a hello"
                        );
                    }
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let gateway_of = Arc::clone(&gateway);
                gateway
                    .tasks
                    .spawn(async move { serve(gateway_of, stream, address, place).await });
            }
            Err(error) => {
                // Out of descriptors: accepting again at once would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    address: SocketAddr,
    place: PreHelloPlace,
) {
    let stopping = gateway.stopping.clone();
    // Goes with the socket: to its WebSocket if it becomes one.
    let place = Arc::new(place);
    let lasting = Arc::new(());
    let weak = Arc::downgrade(&lasting);
    let service = hyper::service::service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        let (place, lasting) = (Arc::clone(&place), weak.clone());
        async move { Ok::<_, Infallible>(answer(gateway, request, address, place, lasting).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if address.ip().is_loopback() {
            HEADERS_TIMEOUT_HERE
        } else {
            HEADERS_TIMEOUT
        })
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            // A peer that breaks HTTP or goes away is its own business.
            _ = connection.as_mut() => return,
            () = stopping.cancelled() => break,
            () = tokio::time::sleep(HTTP_MAX) => {
                if Arc::strong_count(&lasting) == 1 {
                    break;
                }
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
}

async fn answer(
    gateway: Arc<Gateway>,
    mut request: hyper::Request<hyper::body::Incoming>,
    address: SocketAddr,
    place: Arc<PreHelloPlace>,
    lasting: Weak<()>,
) -> Response<Body> {
    let wants_websocket = request
        .headers()
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("websocket"));
    if !wants_websocket {
        let (parts, body) = request.into_parts();
        return Box::pin(web::answer(
            &gateway,
            parts,
            Body::new(body),
            address,
            lasting,
        ))
        .await;
    }
    let accept = match upgrade_key(&request) {
        Ok(key) => tungstenite::handshake::derive_accept_key(key.as_bytes()),
        Err((status, text)) => {
            log_refused(&gateway, status, text, address);
            return plain(status, text);
        }
    };
    let way = way(&gateway, request.headers(), address.ip());
    if is_refused_as_unattributed(&gateway, &way) {
        let reason = "proxy_attribution_required";
        log_refused(&gateway, StatusCode::FORBIDDEN, reason, address);
        return unattributed();
    }
    if place.room == Room::Full {
        let text = "Too many unauthenticated connections";
        log_refused(&gateway, StatusCode::SERVICE_UNAVAILABLE, text, address);
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let protocol = request.headers().get("sec-websocket-protocol").cloned();
    let facts = Request {
        headers: std::mem::take(request.headers_mut()),
        socket: address,
        way,
        lasting,
    };
    let gateway_of = Arc::clone(&gateway);
    gateway.tasks.spawn(async move {
        let (stream, read) = {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
                return;
            };
            // What was read beyond the request lies in a buffer of 8 KiB, which ends here.
            (parts.io.into_inner(), parts.read_buf.to_vec())
        };
        connection::run(gateway_of, stream, read, facts, place).await;
    });
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header("Sec-WebSocket-Accept", accept);
    // A client that offers subprotocols gets its first one back, as in the original.
    if let Some(first) = protocol
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(',').next())
    {
        response = response.header("Sec-WebSocket-Protocol", first.trim());
    }
    response
        .body(Body::empty())
        .unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST, "Bad Request"))
}

/// Ends the HTTP connection of a refused upgrade: each costs a connection of its own.
fn ending(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(
        header::CONNECTION,
        header::HeaderValue::from_static("close"),
    );
    response
}

/// The upgrade rules of the original.
fn upgrade_key(
    request: &hyper::Request<hyper::body::Incoming>,
) -> Result<&str, (StatusCode, &'static str)> {
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "Invalid HTTP method"));
    }
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let key = header("sec-websocket-key")
        .filter(|key| is_key(key))
        .ok_or((
            StatusCode::BAD_REQUEST,
            "Missing or invalid Sec-WebSocket-Key header",
        ))?;
    if !matches!(header("sec-websocket-version"), Some("13" | "8")) {
        return Err((
            StatusCode::BAD_REQUEST,
            "Missing or invalid Sec-WebSocket-Version header",
        ));
    }
    Ok(key)
}

/// 16 bytes as base64: 22 characters and two equal signs.
fn is_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key.as_bytes()[..22]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// Judges the way of a request from its headers and its socket.
pub(crate) fn way(gateway: &Gateway, headers: &HeaderMap, socket: IpAddr) -> Way {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let chain: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|value| value.to_str().unwrap_or("unreadable"))
        .collect();
    let chain = chain.join(",");
    let any = headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || PROXY_HEADERS.contains(&name)
    });
    let forwarding = Forwarding {
        forwarded_for: (!chain.is_empty()).then_some(chain.as_str()),
        real_ip: text("x-real-ip"),
        any,
        host_is_loopback: text("host").is_some_and(peer::host_is_loopback),
    };
    peer::judge(
        socket,
        &forwarding,
        |address| gateway.config().is_trusted_proxy(address),
        gateway.config().allow_real_ip,
    )
}

/// Whether a request is refused because something forwarded it that nobody vouches for; where that
/// is allowed, it is said once.
pub(crate) fn is_refused_as_unattributed(gateway: &Gateway, way: &Way) -> bool {
    let config = gateway.config();
    if way.peer != Peer::LoopbackProxied || !config.trusted_proxies.is_empty() {
        return false;
    }
    if !config.refuse_unattributed {
        gateway.warn_unattributed();
    }
    config.refuse_unattributed
}

/// One line for an upgrade that is refused by HTTP.
fn log_refused(gateway: &Gateway, status: StatusCode, reason: &'static str, address: SocketAddr) {
    let now = std::time::Instant::now();
    if !gateway.strangers.is_written(address.ip(), now) {
        return;
    }
    tracing::warn!(
        method = "upgrade",
        code = status.as_u16(),
        reason,
        address = %address.ip(),
        "refused"
    );
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    ending(response)
}

/// Wire 4's answer to proxied requests that nobody vouches for.
pub(crate) fn unattributed() -> Response<Body> {
    let body = serde_json::json!({"error": {
        "message": "Proxy client attribution is required. Configure gateway.trustedProxies narrowly and make the proxy overwrite or safely rebuild forwarded client headers.",
        "type": "proxy_attribution_required",
    }});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json; charset=utf-8"),
    );
    ending(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_has_32_places_then_is_told_and_then_is_dropped() {
        let mut counts = Counts::default();
        let mut got = Vec::new();
        for _ in 0..50 {
            got.push(counts.take(address(1), false, 1_000));
        }
        let count = |room| got.iter().filter(|taken| **taken == room).count();
        assert_eq!(count(Some(Room::Free)), 32);
        assert_eq!(count(Some(Room::Full)), TOLD_MAX);
        assert_eq!(count(None), 10);
        assert_eq!(counts.take(address(2), false, 1_000), Some(Room::Free));
        for _ in 0..40 {
            counts.give_back(address(1));
        }
        assert_eq!(counts.take(address(1), false, 1_000), Some(Room::Free));
        assert_eq!(counts.total, 2);
    }

    #[test]
    fn everybody_else_together_leaves_a_quarter_for_this_machine() {
        let mut counts = Counts::default();
        let strangers = (0..=255_u8)
            .filter(|n| counts.take(address(*n), false, 100).is_some())
            .count();
        assert_eq!(strangers, 75);
        let local = (0..100)
            .filter(|_| counts.take(HERE, true, 100).is_some())
            .count();
        assert_eq!(local, 25);
    }
}
