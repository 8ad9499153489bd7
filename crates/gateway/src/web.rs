//! Plain HTTP on the gateway's port: probes, hooks, and the files of a Control UI.
//!
//! A request's path is brought to its one form first, and only then it is decided whose it is. What
//! is nobody's is 404. Every answer carries the headers that keep a browser from guessing, framing
//! or telling where somebody comes from.

mod body;
mod control_ui;
mod files;
mod guard;
mod hooks;
mod target;
mod v1;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Instant,
};

use axum::body::Body;
use clawgate_core::{Scope, lockout::Limits};
use clawgate_protocol::frame;
use hyper::{
    Method, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};
use serde_json::Value;

use crate::{
    Gateway,
    credentials::Guard,
    listen::{self, Request},
    logs,
};
use guard::Refused;
use target::Target;
pub use target::request_path;

/// Failed hook secrets of one caller that lock it out, within and for a minute, as in the original.
const HOOK_LIMITS: Limits = Limits {
    attempts_max: 20,
    window_ms: 60_000,
    lock_ms: 60_000,
    exempt_loopback: false,
    keys_max: 4_096,
};

/// On every answer, unless the answer says otherwise.
const HEADERS: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=()",
    ),
    (
        "content-security-policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// What plain HTTP keeps between requests.
#[derive(Debug)]
pub(crate) struct Web {
    /// The lockout of hook secrets, which counts apart.
    hook_attempts: Guard,
    refusals: Mutex<logs::Refusals>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            hook_attempts: Guard::new(HOOK_LIMITS),
            refusals: Mutex::new(logs::Refusals::of("http")),
        }
    }
}

impl Web {
    /// One line for a refused request, as long as there are not too many.
    fn log_refused(&self, what: &'static str, reason: &str, request: &Request) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.is_written(Instant::now()) {
            tracing::warn!(
                what,
                reason,
                peer = request.way.peer.as_str(),
                address = %request.client_address(),
                "refused"
            );
        }
    }
}

/// Answers one request.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    parts: Parts,
    body: Body,
    socket: SocketAddr,
    lasting: Weak<()>,
) -> Response<Body> {
    let request = Request {
        way: listen::way(gateway, &parts.headers, socket.ip()),
        headers: parts.headers,
        socket,
        lasting,
    };
    let target = Target::read(&parts.uri).or_else(|| Target::read_model(&parts.uri));
    let mut response = match target {
        Some(target) => route(gateway, &parts.method, &target, &request, body).await,
        None => not_found(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        if !headers.contains_key(*name) {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
    }
    if let Some(text) = &gateway.config().control_ui.strict_transport
        && let Ok(value) = HeaderValue::from_str(text)
    {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    if parts.method == Method::HEAD {
        return without_body(response);
    }
    response
}

async fn route(
    gateway: &Arc<Gateway>,
    method: &Method,
    target: &Target,
    request: &Request,
    body: Body,
) -> Response<Body> {
    match target.path() {
        "/health" | "/healthz" => {
            return probe(
                method,
                StatusCode::OK,
                r#"{"ok":true,"status":"live"}"#.to_owned(),
            );
        }
        "/ready" | "/readyz" => return ready(gateway, method, request).await,
        _ => {}
    }
    if listen::is_refused_as_unattributed(gateway, &request.way) {
        return listen::unattributed();
    }
    let config = gateway.config();
    if let Some(hooks) = &config.hooks
        && let Some(below) = target.below(&hooks.path)
    {
        return Box::pin(hooks::answer(
            gateway, hooks, method, target, below, request, body,
        ))
        .await;
    }
    if target.below("/v1").is_some() || target.path() == v1::INVOKE {
        return Box::pin(v1::answer(gateway, method, target, request, body)).await;
    }
    // It belongs to interfaces that need an authorized caller; none of them is there.
    if target.below("/api").is_some() {
        return match guard::authorize(gateway, request, Scope::WRITE).await {
            Ok(()) => not_found(),
            Err(refused) => refuse(gateway, "http", request, refused),
        };
    }
    if config.control_ui.enabled && matches!(*method, Method::GET | Method::HEAD) {
        return control_ui::answer(gateway, &config, target, request).await;
    }
    not_found()
}

async fn ready(gateway: &Arc<Gateway>, method: &Method, request: &Request) -> Response<Body> {
    let mut failing = Vec::new();
    if !gateway.readiness.ready.load(Ordering::Acquire) {
        failing.push("stopping");
    }
    // Reads go on, but whoever sends work here would have it refused.
    if gateway.store.fault().is_some() {
        failing.push("disk");
    }
    let ready = failing.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    // A load balancer needs the first word; the rest is for who could ask for it anyway.
    let body = if guard::is_trusted(gateway, request).await {
        let failing = frame::to_json(&failing);
        let uptime = gateway.uptime_ms();
        format!(r#"{{"ready":{ready},"failing":{failing},"uptimeMs":{uptime}}}"#)
    } else {
        format!(r#"{{"ready":{ready}}}"#)
    };
    probe(method, status, body)
}

fn probe(method: &Method, status: StatusCode, body: String) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    let mut response = reply(status, "application/json; charset=utf-8", body);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// The words of a refusal, and its line in the log.
fn refuse(
    gateway: &Gateway,
    what: &'static str,
    request: &Request,
    refused: Refused,
) -> Response<Body> {
    gateway.web.log_refused(what, refused.reason(), request);
    let error = |status, kind: &str, message: &str| {
        json(
            status,
            &serde_json::json!({"error": {"message": message, "type": kind}}),
        )
    };
    let response = match refused {
        Refused::Origin(fault) => error(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            &format!(
                "{}; allow it in gateway.controlUi.allowedOrigins",
                fault.as_str()
            ),
        ),
        Refused::Unauthorized => error(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
        Refused::NotFromElsewhere => error(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the shared secret opens this from the gateway's own machine alone; from elsewhere \
             use an API token (clawgate tokens create)",
        ),
        Refused::MissingScope(scope) => error(
            StatusCode::FORBIDDEN,
            "missing_scope",
            &format!("missing scope: {scope}"),
        ),
        Refused::RateLimited { retry_after_ms } => retry_after(
            error(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "Too many failed authentication attempts. Please try again later.",
            ),
            retry_after_ms,
        ),
    };
    ending(response)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, kind);
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    reply(status, "text/plain; charset=utf-8", words)
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    reply(status, "application/json; charset=utf-8", value.to_string())
}

fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "Not Found")
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    set(&mut response, header::ALLOW, allowed);
    response
}

/// With the seconds after which another attempt is looked at.
fn retry_after(mut response: Response<Body>, retry_after_ms: u64) -> Response<Body> {
    let seconds = retry_after_ms.div_ceil(1_000).max(1);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// Ends the connection: whatever the caller still sends is not read.
fn ending(mut response: Response<Body>) -> Response<Body> {
    set(&mut response, header::CONNECTION, "close");
    response
}

/// The same head, with the length that the body would have had.
fn without_body(response: Response<Body>) -> Response<Body> {
    use hyper::body::Body as _;
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact()
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
    {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}
