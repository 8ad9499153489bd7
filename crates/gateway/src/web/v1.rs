//! `/v1` and `/tools/invoke`: agents as programs know them that speak OpenAI's HTTP.
//!
//! A request is authorized like a connect with the same credential and no device, and its turn is
//! one like every other. Whoever goes away, or loses the authority to ask, has the turn stopped. A
//! turn that fails is an error with its status, and where words are out already the stream ends with
//! the error.

mod chat;
mod invoke;
mod models;
mod responses;
mod said;
mod session;
mod turn;

use std::sync::Arc;

use axum::body::Body;
use clawgate_core::{ErrorCode, Scope, turn::FailureKind};
use clawgate_protocol::{ErrorShape, frame};
use hyper::{Method, Response, StatusCode, header::HeaderName};
use serde_json::{Map, Value, json};

use super::{
    body, ending, guard, json as json_reply, not_allowed, not_found, refuse, retry_after, set,
    target::Target,
};
use crate::{
    Gateway,
    listen::Request,
    turns::{Ended, Status},
};

/// Where one tool is called.
pub(super) const INVOKE: &str = "/tools/invoke";
/// Bytes of a body when the configuration does not say, as in the original.
const BODY_MAX: u64 = 20_000_000;
/// Bytes of a call of a tool, as in the original.
const INVOKE_BODY_MAX: usize = 2 << 20;
/// Names under which programs send a credential in an address, where logs and histories keep it.
const SECRET_NAMES: [&str; 5] = ["token", "password", "access_token", "api_key", "key"];

/// Why a request comes to nothing, as OpenAI's clients read it.
#[derive(Clone, Debug)]
struct Fault {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<&'static str>,
    message: String,
    /// When it may be tried again, milliseconds.
    retry_after_ms: Option<u64>,
    /// Whether a turn was under way, which may have acted.
    has_begun: bool,
}

impl Fault {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            retry_after_ms: None,
            has_begun: false,
        }
    }

    /// A request that is wrong at one of its members.
    fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
        }
    }

    fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// From a refusal in the words of the wire.
    fn of_shape(shape: ErrorShape) -> Self {
        let code = shape.details.as_ref().and_then(|it| it["code"].as_str());
        match (shape.code, code) {
            (_, Some("TURN_QUEUE_FULL")) => Self {
                retry_after_ms: Some(1_000),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limit_error",
                    shape.message,
                )
                .code("turn_queue_full")
            },
            (_, Some("INTERNAL")) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                shape.message,
            ),
            (ErrorCode::Unavailable, _) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                shape.message,
            ),
            _ => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                shape.message,
            ),
        }
    }

    /// The authority of the caller ended meanwhile.
    fn ended() -> Self {
        Self {
            has_begun: true,
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the credential was revoked or has expired; the turn was stopped",
            )
        }
    }

    /// From the end of a turn, unless that is an answer.
    fn of_ended(ended: &Ended) -> Option<Self> {
        let (status, kind, code) = match ended.status {
            Status::Ok => return None,
            Status::Timeout => (StatusCode::GATEWAY_TIMEOUT, "server_error", "turn_timeout"),
            Status::Aborted => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "turn_aborted",
            ),
            Status::Interrupted => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "turn_interrupted",
            ),
            Status::Error => of_failure(ended.failure),
        };
        let message = ended.error.clone();
        Some(Self {
            code: Some(code),
            has_begun: true,
            ..Self::new(
                status,
                kind,
                message.unwrap_or_else(|| "the turn failed".to_owned()),
            )
        })
    }

    fn value(&self) -> Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }

    fn response(&self) -> Response<Body> {
        let mut response = json_reply(self.status, &self.value());
        if let Some(ms) = self.retry_after_ms {
            response = retry_after(response, ms);
        }
        if self.has_begun {
            // OpenAI's clients repeat a request that failed so, and with it what the turn did.
            set(
                &mut response,
                HeaderName::from_static("x-should-retry"),
                "false",
            );
        }
        response
    }
}

/// What a provider's failure is to whoever asked the agent. That the gateway's own key is refused is
/// no fault of the caller's credential.
const fn of_failure(failure: Option<FailureKind>) -> (StatusCode, &'static str, &'static str) {
    match failure {
        Some(FailureKind::RateLimited) => (
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            "model_rate_limited",
        ),
        Some(FailureKind::TooLong) => (
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        Some(
            FailureKind::Overloaded
            | FailureKind::Server
            | FailureKind::Network
            | FailureKind::Timeout
            | FailureKind::Cut
            | FailureKind::Malformed,
        ) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "server_error",
            "model_unavailable",
        ),
        Some(
            FailureKind::Auth
            | FailureKind::Billing
            | FailureKind::Invalid
            | FailureKind::NoModel
            | FailureKind::TooLarge,
        )
        | None => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "turn_failed",
        ),
    }
}

/// `gateway.http.endpoints`: what is served, and how much of a body is read.
struct Endpoint {
    is_on: bool,
    body_max: usize,
}

impl Endpoint {
    fn of(config: &Value, name: &str) -> Self {
        let of = &config["gateway"]["http"]["endpoints"][name];
        let body_max = of["maxBodyBytes"].as_u64().unwrap_or(BODY_MAX);
        Self {
            is_on: of["enabled"] == true,
            body_max: usize::try_from(body_max).unwrap_or(usize::MAX),
        }
    }
}

/// Answers what is below `/v1`, and calls of one tool.
pub(super) async fn answer(
    gateway: &Arc<Gateway>,
    method: &Method,
    target: &Target,
    request: &Request,
    body: Body,
) -> Response<Body> {
    if SECRET_NAMES.iter().any(|name| target.query(name).is_some()) {
        let message = "credentials are taken from the header Authorization: Bearer <token> alone, \
                       and from no address";
        let fault = Fault::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        gateway
            .web
            .log_refused("http", "a credential in the address", request);
        return ending(fault.response());
    }
    let caller = match guard::admit(gateway, request, Scope::READ).await {
        Ok(caller) => caller,
        Err(refused) => return refuse(gateway, "http", request, refused),
    };
    let config = gateway.config();
    let endpoint = |name| Endpoint::of(&config.snapshot.parsed, name);
    let (chat, responses) = (endpoint("chatCompletions"), endpoint("responses"));
    let asked = match target.path() {
        "/v1/chat/completions" if chat.is_on => Asked::Chat,
        "/v1/responses" if responses.is_on => Asked::Response,
        INVOKE => Asked::Tool,
        path if chat.is_on || responses.is_on => match path.strip_prefix("/v1/models") {
            Some("") => return models::list(gateway, method),
            Some(name) if name.starts_with('/') => {
                return models::one(gateway, method, &name[1..]);
            }
            _ => return not_found(),
        },
        _ => return not_found(),
    };
    if *method != Method::POST {
        return ending(not_allowed("POST"));
    }
    if let Err(refused) = caller.may(Scope::WRITE) {
        return refuse(gateway, "http", request, refused);
    }
    let max = match asked {
        Asked::Chat => chat.body_max,
        Asked::Response => responses.body_max,
        Asked::Tool => INVOKE_BODY_MAX,
    };
    let members = match read(gateway, request, body, max).await {
        Ok(members) => members,
        Err(fault) => return refused(gateway, request, asked, &fault, true),
    };
    let begun = match asked {
        Asked::Chat => chat::answer(gateway, request, caller, &members).await,
        Asked::Response => responses::answer(gateway, request, caller, &members).await,
        Asked::Tool => invoke::answer(gateway, request, caller, members).await,
    };
    begun.unwrap_or_else(|fault| refused(gateway, request, asked, &fault, false))
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Chat,
    Response,
    Tool,
}

/// The answer to a request that comes to nothing, and its line in the log.
fn refused(
    gateway: &Gateway,
    request: &Request,
    asked: Asked,
    fault: &Fault,
    ends: bool,
) -> Response<Body> {
    if !fault.has_begun {
        let reason = fault.code.unwrap_or(fault.kind);
        gateway.web.log_refused("http", reason, request);
    }
    let response = match asked {
        Asked::Tool => invoke::refused(fault),
        Asked::Chat | Asked::Response => fault.response(),
    };
    if ends { ending(response) } else { response }
}

async fn read(
    gateway: &Gateway,
    request: &Request,
    body: Body,
    max: usize,
) -> Result<Map<String, Value>, Fault> {
    let wrong = |status, message: &str| Fault::new(status, "invalid_request_error", message);
    let bytes = body::collect(request, body, max, &gateway.bodies)
        .await
        .map_err(|(status, message)| wrong(status, message))?;
    if std::str::from_utf8(&bytes).is_ok_and(frame::has_too_many_values) {
        let message = format!("the body {}", frame::TOO_MANY_VALUES);
        return Err(wrong(StatusCode::BAD_REQUEST, &message));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(wrong(
            StatusCode::BAD_REQUEST,
            "the body must be a JSON object",
        )),
        Err(_) => Err(wrong(StatusCode::BAD_REQUEST, "the body is no JSON")),
    }
}

/// A member that is a text, or absent.
fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, Fault> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::invalid(name, format!("{name} must be a text"))),
    }
}

/// A member that is true, false or absent, which is false.
fn is_set(members: &Map<String, Value>, name: &'static str) -> Result<bool, Fault> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is_set)) => Ok(*is_set),
        Some(_) => Err(Fault::invalid(
            name,
            format!("{name} must be true or false"),
        )),
    }
}

/// Refuses tools of the caller's own: an agent that was not told of them answers as if there were
/// none.
fn without_tools(members: &Map<String, Value>) -> Result<(), Fault> {
    let is_there = |name: &str| match members.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    };
    let are_off = members.get("tool_choice").is_some_and(|it| it == "none");
    match ["tools", "functions"].into_iter().find(|it| is_there(it)) {
        Some(name) if !are_off => Err(Fault::invalid(
            name,
            "tools of the caller are not served: the agent uses its own",
        )
        .code("unsupported_parameter")),
        _ => Ok(()),
    }
}

/// Seconds, as `created` has them.
fn now_seconds() -> i64 {
    crate::clock::now_ms() / 1_000
}
