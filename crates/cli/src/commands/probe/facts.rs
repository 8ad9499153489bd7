//! Looking, and what was seen.

use std::time::Duration;

use clawgate_client::{
    Attempt, ClientError, CredentialKind, Granted, Session, Timings, needed_scopes,
};
use clawgate_protocol::connect::ReceivedHello;
use serde_json::{Value, json};

use crate::{
    clock,
    error::{CommandError, attempts_words},
    exit::Exit,
    session::{Approach, granted_json},
};

/// The probe's calls, in parallel.
const CALLS: [&str; 4] = ["health", "status", "system-presence", "config.get"];

/// What was seen of one gateway.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Host and port.
    pub(crate) address: String,
    /// Why there is no session.
    pub(crate) failure: Option<ClientError>,
    /// What the session began with.
    pub(crate) hello: Option<HelloSeen>,
    /// Every credential tried.
    pub(crate) attempts: Vec<Attempt>,
    /// Every call, sent or not.
    pub(crate) calls: Vec<Call>,
}

/// A session's beginning.
#[derive(Debug)]
pub(crate) struct HelloSeen {
    pub(crate) hello: ReceivedHello,
    pub(crate) granted: Granted,
    pub(crate) missing: Vec<String>,
    pub(crate) credential: CredentialKind,
    pub(crate) timings: Timings,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// The answer; `None` when it was not sent, because its scope is known to be missing.
    pub(crate) answer: Option<Result<Value, ClientError>>,
    pub(crate) took: Duration,
}

/// Connects, and calls what may be called.
pub(crate) async fn look(approach: &Approach) -> Facts {
    let endpoint = &approach.target.endpoint;
    let address = format!("{}:{}", endpoint.host(), endpoint.port());
    let opened = match approach.open(&CALLS).await {
        Ok(opened) => opened,
        Err((failure, attempts)) => {
            return Facts {
                address,
                failure: Some(failure),
                hello: None,
                attempts,
                calls: Vec::new(),
            };
        }
    };
    let session = opened.session;
    let [health, status, presence, config] = CALLS.map(|method| call(&session, method));
    let (health, status, presence, config) = tokio::join!(health, status, presence, config);
    let hello = HelloSeen {
        hello: session.hello().clone(),
        granted: session.granted().clone(),
        missing: opened.missing.iter().map(ToString::to_string).collect(),
        credential: opened.credential,
        timings: session.timings(),
    };
    session.close().await;
    Facts {
        address,
        failure: None,
        hello: Some(hello),
        attempts: opened.attempts,
        calls: vec![health, status, presence, config],
    }
}

async fn call(session: &Session, method: &'static str) -> Call {
    let needed = needed_scopes([method], session.dialect());
    if !session.granted().missing(&needed).is_empty() {
        return Call {
            method,
            answer: None,
            took: Duration::ZERO,
        };
    }
    let started = clock::instant();
    let params = (method == "config.get").then(|| json!({}));
    let answer = session.request(method, params.as_ref()).await;
    Call {
        method,
        answer: Some(answer),
        took: started.elapsed(),
    }
}

impl Call {
    /// Whether it was answered well.
    pub(crate) fn ok(&self) -> bool {
        matches!(self.answer, Some(Ok(_)))
    }

    /// Why not.
    pub(crate) fn error(&self) -> Option<String> {
        match &self.answer {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(
                error
                    .received()
                    .map_or_else(|| error.to_string(), |seen| seen.message.clone()),
            ),
            None => Some("not sent: its scope was not granted".to_owned()),
        }
    }
}

impl Facts {
    /// All four.
    pub(crate) fn ok(&self) -> bool {
        self.reachable() && self.hello.is_some() && self.authorized() && self.rpc_ok()
    }

    /// The gateway was asked, and said no.
    pub(crate) fn refused(&self) -> bool {
        matches!(self.failure, Some(ClientError::Rejected { .. }))
    }

    /// TCP (and TLS) answered.
    pub(crate) fn reachable(&self) -> bool {
        match &self.failure {
            Some(error) => error.was_reached(),
            None => self.hello.is_some(),
        }
    }

    /// What was granted covers what the calls need. Where the gateway does not say what it
    /// granted, the refusals are the evidence.
    pub(crate) fn authorized(&self) -> bool {
        self.hello.is_some() && self.missing().is_empty()
    }

    /// Every call was answered well.
    pub(crate) fn rpc_ok(&self) -> bool {
        !self.calls.is_empty() && self.calls.iter().all(Call::ok)
    }

    /// Scopes that are missing, said by the hello or by refused calls.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = self
            .hello
            .as_ref()
            .map(|hello| hello.missing.clone())
            .unwrap_or_default();
        for call in &self.calls {
            let Some(Err(error)) = &call.answer else {
                continue;
            };
            if let Some(scope) = error.missing_scope()
                && !missing.iter().any(|known| known == scope)
            {
                missing.push(scope.to_owned());
            }
        }
        missing
    }

    /// The payload of a call, null if there is none.
    pub(crate) fn payload(&self, method: &str) -> Value {
        self.calls
            .iter()
            .find(|call| call.method == method)
            .and_then(|call| call.answer.as_ref()?.as_ref().ok())
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// The gateway's own presence entry.
    pub(crate) fn self_entry(&self) -> Value {
        let presence = self.payload("system-presence");
        let entries = presence.as_array().map(Vec::as_slice).unwrap_or_default();
        let entry = entries
            .iter()
            .find(|entry| entry["mode"] == "gateway" && entry["reason"] == "self")
            .or_else(|| entries.iter().find(|entry| entry["mode"] == "gateway"));
        entry.map_or(Value::Null, |entry| {
            json!({
                "host": entry["host"],
                "ip": entry["ip"],
                "version": entry["version"],
                "platform": entry["platform"],
            })
        })
    }

    /// What of the gateway's configuration an operator asks first.
    pub(crate) fn config_summary(&self) -> Value {
        let payload = self.payload("config.get");
        if payload.is_null() {
            return Value::Null;
        }
        let list = |name: &str| payload.get(name).cloned().unwrap_or_else(|| json!([]));
        let config = payload.get("config").or_else(|| payload.get("parsed"));
        let gateway = config.and_then(|config| config.get("gateway"));
        let at = |pointer: &str| {
            gateway
                .and_then(|gateway| gateway.pointer(pointer))
                .cloned()
                .unwrap_or(Value::Null)
        };
        json!({
            "path": payload["path"],
            "exists": payload["exists"],
            "valid": payload["valid"],
            "issues": list("issues"),
            "legacyIssues": list("legacyIssues"),
            "gateway": {
                "mode": at("/mode"),
                "bind": at("/bind"),
                "port": at("/port"),
                "authMode": at("/auth/mode"),
                "authTokenConfigured": !at("/auth/token").is_null(),
                "authPasswordConfigured": !at("/auth/password").is_null(),
                "remoteUrl": at("/remote/url"),
            },
        })
    }

    /// The first thing that went wrong, in the original's words where it has some.
    pub(crate) fn error_words(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(match failure {
                ClientError::Connect { source }
                    if source.kind() == std::io::ErrorKind::ConnectionRefused =>
                {
                    format!("connect failed: connect ECONNREFUSED {}", self.address)
                }
                ClientError::Rejected { error, .. } => format!("connect failed: {}", error.message),
                ClientError::Timeout { .. } => "timeout".to_owned(),
                ClientError::Endpoint(_)
                | ClientError::Connect { .. }
                | ClientError::Upgrade { .. }
                | ClientError::Closed { .. }
                | ClientError::Protocol(_)
                | ClientError::NoLocalProof
                | ClientError::Failed { .. } => failure.to_string(),
            });
        }
        if let Some(scope) = self.missing().first() {
            return Some(format!("missing scope: {scope}"));
        }
        self.calls.iter().find_map(Call::error)
    }

    /// How the gateway closed; 1006 stands for "no close frame", as in the original.
    pub(crate) fn close_json(&self) -> Value {
        let Some(failure) = &self.failure else {
            return Value::Null;
        };
        if let ClientError::Timeout { .. } = failure {
            return Value::Null;
        }
        let close = failure.close().cloned().unwrap_or_default();
        json!({"code": close.code.unwrap_or(1006), "reason": close.reason})
    }

    /// The exit code of a failed connect.
    pub(crate) fn failed_exit(&self, otherwise: Exit) -> Exit {
        match &self.failure {
            Some(ClientError::Rejected { .. }) => Exit::Refused,
            Some(_) | None => otherwise,
        }
    }

    /// What to type next, when something does not hold.
    pub(crate) fn hints(&self, approach: &Approach) -> Vec<String> {
        let hints = self.hints_as_such(approach);
        hints.iter().map(|hint| approach.typed(hint)).collect()
    }

    fn hints_as_such(&self, approach: &Approach) -> Vec<String> {
        if let Some(failure) = &self.failure {
            let error = CommandError::connect(failure, &self.attempts, &approach.target);
            return error.hints().to_vec();
        }
        let mut hints = Vec::new();
        if !self.missing().is_empty() {
            let auth = self
                .hello
                .as_ref()
                .and_then(|hello| hello.hello.auth.as_ref());
            if let Some(id) = auth.and_then(|auth| auth.pending_request_id.as_deref()) {
                hints.push(format!(
                    "on the gateway's machine: {}",
                    crate::error::approve_hint(id)
                ));
            }
            hints.push("clawgate auth explain".to_owned());
        } else if !self.rpc_ok() {
            hints.push("clawgate logs".to_owned());
        }
        hints
    }

    /// The four facts for scripts.
    pub(crate) fn to_json(&self, approach: &Approach) -> Value {
        let target = &approach.target;
        json!({
            "reachable": {
                "ok": self.reachable(),
                "evidence": self.reachable_words(),
                "ms": self.hello.as_ref().map(|hello| millis(hello.timings.connected)),
            },
            "handshake": {
                "ok": self.hello.is_some(),
                "evidence": self.handshake_words(),
                "protocol": self.hello.as_ref().map(|hello| hello.hello.protocol),
                "serverVersion": self.hello.as_ref().map(|hello| hello.hello.server.version.clone()),
                "connId": self.hello.as_ref().map(|hello| hello.hello.server.conn_id.clone()),
                "ms": self.hello.as_ref().map(|hello| millis(hello.timings.hello)),
            },
            "authorized": {
                "ok": self.authorized(),
                "evidence": self.authorized_words(approach),
                "granted": self.hello.as_ref().map_or(Value::Null, |hello| granted_json(&hello.granted)),
                "missing": self.missing(),
                "basis": self.basis(),
                "credential": self.hello.as_ref().map(|hello| approach.source_of(hello.credential)),
                "configured": target.credential_words(),
                "attempts": self
                    .attempts
                    .iter()
                    .map(|attempt| attempts_words(std::slice::from_ref(attempt)))
                    .collect::<Vec<_>>(),
                "deviceId": approach.device_id(),
            },
            "rpc": {
                "ok": self.rpc_ok(),
                "evidence": self.rpc_words(),
                "calls": self
                    .calls
                    .iter()
                    .map(|call| json!({
                        "method": call.method,
                        "sent": call.answer.is_some(),
                        "ok": call.ok(),
                        "ms": millis(call.took),
                        "error": call.error(),
                    }))
                    .collect::<Vec<_>>(),
            },
            "next": self.hints(approach),
        })
    }

    /// The rule that decided, as far as it is known.
    fn basis(&self) -> Option<String> {
        let hello = self.hello.as_ref()?;
        let basis = hello
            .hello
            .auth
            .as_ref()
            .and_then(|auth| auth.basis.clone());
        Some(basis.unwrap_or_else(|| match hello.granted {
            Granted::Known(_) => "hello-ok".to_owned(),
            Granted::Unknown => "observed".to_owned(),
        }))
    }

    /// Evidence for the first fact.
    pub(crate) fn reachable_words(&self) -> String {
        let address = &self.address;
        match (&self.hello, &self.failure) {
            (Some(hello), _) => {
                format!(
                    "{address} answered in {}",
                    ms_words(hello.timings.connected)
                )
            }
            (None, Some(failure)) if failure.was_reached() => format!("{address} answered"),
            (None, Some(failure)) => failure.to_string(),
            (None, None) => "not tried".to_owned(),
        }
    }

    /// Evidence for the second.
    pub(crate) fn handshake_words(&self) -> String {
        match (&self.hello, &self.failure) {
            (Some(seen), _) => format!(
                "hello-ok in {} from version {}, wire {}",
                ms_words(seen.timings.hello),
                seen.hello.server.version,
                seen.hello.protocol
            ),
            (None, Some(failure)) if failure.was_reached() => match (failure, failure.close()) {
                // Gateways close with the words that they refused with.
                (ClientError::Rejected { error, .. }, Some(close))
                    if error.message.starts_with(&close.reason) =>
                {
                    match close.code {
                        Some(code) => format!("{failure} (close code {code})"),
                        None => failure.to_string(),
                    }
                }
                (ClientError::Rejected { .. }, Some(close)) => format!("{failure} ({close})"),
                _ => failure.to_string(),
            },
            (None, _) => "not tried".to_owned(),
        }
    }

    /// Evidence for the third.
    pub(crate) fn authorized_words(&self, approach: &Approach) -> String {
        let Some(seen) = &self.hello else {
            return match &self.failure {
                Some(ClientError::Rejected { .. }) => "nothing was granted".to_owned(),
                Some(_) | None => "not tried".to_owned(),
            };
        };
        let by = approach.used(seen.credential);
        let granted = match &seen.granted {
            Granted::Known(scopes) if scopes.is_empty() => "granted nothing".to_owned(),
            Granted::Known(scopes) => format!("granted {}", short_scopes(&scopes.joined())),
            Granted::Unknown => "the gateway does not say what it granted".to_owned(),
        };
        let missing = self.missing();
        if missing.is_empty() {
            format!("{granted}, by {by}")
        } else {
            format!(
                "missing {}; {granted}, by {by}",
                short_scopes(&missing.join(","))
            )
        }
    }

    /// Evidence for the fourth.
    pub(crate) fn rpc_words(&self) -> String {
        if self.calls.is_empty() {
            return "not tried".to_owned();
        }
        let words: Vec<String> = self
            .calls
            .iter()
            .map(|call| match call.error() {
                None => format!("{} {}", call.method, ms_words(call.took)),
                Some(error) => format!("{}: {error}", call.method),
            })
            .collect();
        words.join(" · ")
    }
}

fn short_scopes(joined: &str) -> String {
    joined.replace("operator.", "").replace(',', ", ")
}

/// Milliseconds with two decimals: a local gateway answers in less than one.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

fn ms_words(took: Duration) -> String {
    format!("{} ms", millis(took))
}
