//! HTTP routes that are no WebSocket: probes for supervisors and load balancers.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::any,
};

use crate::Readiness;

/// The routes. They know the gateway's readiness and nothing else of it.
pub(crate) fn routes(readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/health", any(live))
        .route("/healthz", any(live))
        .route("/ready", any(ready))
        .route("/readyz", any(ready))
        .fallback(not_found)
        .with_state(readiness)
}

async fn live(method: Method) -> Response {
    probe(
        &method,
        StatusCode::OK,
        r#"{"ok":true,"status":"live"}"#.to_owned(),
    )
}

async fn ready(State(readiness): State<Arc<Readiness>>, method: Method) -> Response {
    let ready = readiness.ready.load(Ordering::Acquire);
    let uptime = readiness.started.elapsed().as_millis();
    if ready {
        let body = format!(r#"{{"ready":true,"failing":[],"uptimeMs":{uptime}}}"#);
        return probe(&method, StatusCode::OK, body);
    }
    let body = format!(r#"{{"ready":false,"failing":["stopping"],"uptimeMs":{uptime}}}"#);
    probe(&method, StatusCode::SERVICE_UNAVAILABLE, body)
}

fn probe(method: &Method, status: StatusCode, body: String) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    (
        status,
        [
            (header::CONTENT_TYPE, "application/json; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        Body::from(body),
    )
        .into_response()
}

async fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "Not Found")
}

fn text(status: StatusCode, words: &'static str) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        words,
    )
        .into_response()
}
