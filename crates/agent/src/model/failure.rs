//! What a failed request means.

use std::time::Duration;

use clawgate_core::turn::{Failure, FailureKind};
use reqwest::{StatusCode, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// Characters of a provider's words that are kept.
const WORDS_MAX: usize = 500;

pub(super) fn of(kind: FailureKind, message: String) -> Failure {
    Failure {
        kind,
        message,
        retry_after_ms: None,
        partial: false,
    }
}

pub(super) fn cut() -> Failure {
    of(
        FailureKind::Cut,
        "the answer ended before it was whole".to_owned(),
    )
}

pub(super) fn too_large(bound: usize) -> Failure {
    of(
        FailureKind::TooLarge,
        format!("the answer is larger than {bound} bytes"),
    )
}

/// A message without the key, should a provider repeat it.
pub(super) fn without(message: &str, key: Option<&SecretString>) -> String {
    match key.map(ExposeSecret::expose_secret) {
        Some(key) if key.len() >= 4 => message.replace(key, "[key]"),
        _ => message.to_owned(),
    }
}

pub(super) fn malformed(why: impl std::fmt::Display) -> Failure {
    of(
        FailureKind::Malformed,
        format!("the answer is not what the protocol says: {why}"),
    )
}

pub(super) fn late(words: &str) -> Failure {
    of(FailureKind::Timeout, words.to_owned())
}

/// No head of an answer came.
pub(super) fn unreachable(error: &reqwest::Error) -> Failure {
    let kind = if error.is_timeout() {
        FailureKind::Timeout
    } else {
        FailureKind::Network
    };
    // The innermost words say what happened; those around it repeat the address.
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    of(
        kind,
        format!(
            "the provider cannot be reached: {}",
            clip(&innermost.to_string())
        ),
    )
}

/// The provider refused.
pub(super) fn answered(status: StatusCode, body: &str, headers: &HeaderMap) -> Failure {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let words = parsed
        .as_ref()
        .and_then(words_of)
        .unwrap_or_else(|| clip(body));
    if status.is_redirection() {
        return of(
            FailureKind::Invalid,
            format!(
                "HTTP {}: the provider is elsewhere, and a key is not sent there; correct its baseUrl",
                status.as_u16()
            ),
        );
    }
    let kind = match status.as_u16() {
        401 | 403 => FailureKind::Auth,
        402 => FailureKind::Billing,
        404 => FailureKind::NoModel,
        408 => FailureKind::Timeout,
        413 => FailureKind::TooLong,
        429 => FailureKind::RateLimited,
        503 | 529 => FailureKind::Overloaded,
        500..=599 => FailureKind::Server,
        _ => FailureKind::Invalid,
    };
    let kind = match kind {
        // Google refuses a wrong key as a wrong request.
        FailureKind::Invalid if words.to_ascii_lowercase().contains("api key not valid") => {
            FailureKind::Auth
        }
        FailureKind::Invalid if speaks_of_length(&words) => FailureKind::TooLong,
        FailureKind::RateLimited if speaks_of_money(&words) => FailureKind::Billing,
        kind => kind,
    };
    Failure {
        retry_after_ms: retry_after(headers),
        ..of(kind, format!("HTTP {}: {words}", status.as_u16()))
    }
}

/// An error that came as a part of a stream, or as a whole answer that claims to be well.
pub(super) fn told(body: &Value) -> Failure {
    let body = body.get(0).unwrap_or(body);
    let words = words_of(body).unwrap_or_else(|| clip(&body.to_string()));
    let kind = ["type", "code", "status"]
        .iter()
        .flat_map(|key| {
            [
                body.get("error").and_then(|error| error.get(key)),
                body.get(key),
            ]
        })
        .flatten()
        .find_map(|word| match word {
            Value::String(word) => named(word),
            Value::Number(number) => number.as_u64().and_then(numbered),
            _ => None,
        })
        .unwrap_or(if speaks_of_length(&words) {
            FailureKind::TooLong
        } else {
            FailureKind::Server
        });
    of(kind, words)
}

fn numbered(status: u64) -> Option<FailureKind> {
    match status {
        429 => Some(FailureKind::RateLimited),
        503 | 529 => Some(FailureKind::Overloaded),
        401 | 403 => Some(FailureKind::Auth),
        _ => None,
    }
}

fn named(word: &str) -> Option<FailureKind> {
    let word = word.to_ascii_lowercase();
    let kinds = [
        ("overloaded", FailureKind::Overloaded),
        ("rate_limit", FailureKind::RateLimited),
        ("resource_exhausted", FailureKind::RateLimited),
        ("unavailable", FailureKind::Overloaded),
        ("insufficient_quota", FailureKind::Billing),
        ("billing", FailureKind::Billing),
        ("authentication", FailureKind::Auth),
        ("permission", FailureKind::Auth),
        ("context_length", FailureKind::TooLong),
        ("not_found", FailureKind::NoModel),
        ("invalid_request", FailureKind::Invalid),
    ];
    kinds
        .iter()
        .find(|(part, _)| word.contains(part))
        .map(|(_, kind)| *kind)
}

/// The message of an error, in the shapes that providers use.
fn words_of(body: &Value) -> Option<String> {
    let body = body.get(0).unwrap_or(body);
    let error = body.get("error").unwrap_or(body);
    let words = error
        .get("message")
        .or_else(|| body.get("message"))
        .or(Some(error))
        .and_then(Value::as_str)?;
    Some(clip(words))
}

fn speaks_of_length(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    [
        "context length",
        "context window",
        "context_length",
        "prompt is too long",
        "too many tokens",
        "maximum context",
        "exceeds the available context",
    ]
    .iter()
    .any(|part| words.contains(part))
}

fn speaks_of_money(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    [
        "insufficient_quota",
        "exceeded your current quota",
        "billing",
        "credit balance",
    ]
    .iter()
    .any(|part| words.contains(part))
}

/// `retry-after-ms`, or `Retry-After` in seconds. A date is not read: clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let wait = number("retry-after-ms")
        .map(|ms| ms / 1e3)
        .or_else(|| number("retry-after"))?;
    let wait = Duration::try_from_secs_f64(wait).ok()?;
    u64::try_from(wait.as_millis()).ok()
}

pub(super) fn clip(words: &str) -> String {
    let words = words.trim();
    match words.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}
