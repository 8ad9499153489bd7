//! Errors as a person or a script reads them: what failed, with which credential, what to type next.

use std::io;

use clawgate_client::{Attempt, ClientError, EndpointError, IdentityError, Outcome};
use serde_json::{Value, json};

use crate::{app::Globals, exit::Exit, target::Target};

/// Result of a command.
pub(crate) type CommandResult<T = Exit> = Result<T, CommandError>;

/// A command's failure. The message is a lowercase fragment that fits after "error: ".
#[derive(Debug)]
pub(crate) struct CommandError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    exit: Exit,
    code: String,
    message: String,
    details: Option<Value>,
    facts: Vec<(&'static str, String)>,
    hints: Vec<String>,
    /// Whether its JSON is a line of `logs --json`.
    log_form: bool,
}

impl CommandError {
    /// A failure with its class and message.
    pub(crate) fn new(exit: Exit, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            exit,
            code: code.into(),
            message: message.into(),
            details: None,
            facts: Vec::new(),
            hints: Vec::new(),
            log_form: false,
        }))
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", message)
    }

    /// The configuration cannot be used.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Exit::Config, "CONFIG", message)
    }

    /// Something that should not happen.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, "INTERNAL", message)
    }

    /// Code of a failed write.
    pub(crate) const OUTPUT: &'static str = "OUTPUT";

    /// Stdout takes no more. A reader that has seen enough is no failure.
    pub(crate) fn output(error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe {
            Exit::Ok
        } else {
            Exit::Internal
        };
        let message = format!("cannot write the output: {error}");
        Self::new(exit, Self::OUTPUT, message)
    }

    /// The same as `logs --json` tells it.
    #[must_use]
    pub(crate) fn in_log_form(mut self) -> Self {
        self.0.log_form = true;
        self
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.exit == Exit::Ok
    }

    /// The same with its hints as they must be typed under these options.
    #[must_use]
    pub(crate) fn under(mut self, globals: &Globals) -> Self {
        for hint in &mut self.0.hints {
            *hint = globals.typed(hint);
        }
        self
    }

    /// The same with one more hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// The same with a labelled fact.
    #[must_use]
    pub(crate) fn fact(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.0.facts.push((label, value.into()));
        self
    }

    /// The same with the gateway's details.
    #[must_use]
    pub(crate) fn details(mut self, details: Option<Value>) -> Self {
        self.0.details = details;
        self
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The stable word.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    /// The message alone.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What to type next.
    pub(crate) fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// For people: message, facts, hints.
    pub(crate) fn lines(&self) -> Vec<String> {
        // What a gateway says may have lines; none of them begins where ours do.
        let under = |text: &str| text.replace('\n', "\n    ");
        let mut lines = vec![format!("error: {}", under(&self.0.message))];
        for (label, value) in &self.0.facts {
            lines.push(format!("  {label:<11} {}", under(value)));
        }
        for hint in &self.0.hints {
            lines.push(format!("  next: {}", under(hint)));
        }
        lines
    }

    /// For scripts: one object.
    pub(crate) fn to_json(&self) -> Value {
        let mut details = match self.0.details.clone() {
            Some(Value::Object(details)) => details,
            Some(other) => [("details".to_owned(), other)].into_iter().collect(),
            None => serde_json::Map::new(),
        };
        let from_gateway: Vec<String> = details.keys().cloned().collect();
        for (label, value) in &self.0.facts {
            if from_gateway.iter().any(|name| name == label) {
                continue;
            }
            // A label that comes twice is a list.
            match details.get_mut(*label) {
                None => {
                    details.insert((*label).to_owned(), value.clone().into());
                }
                Some(Value::Array(list)) => list.push(value.clone().into()),
                Some(first) => *first = json!([first.take(), value]),
            }
        }
        if self.0.log_form {
            // The original's members, where its `error` is a text; ours beside them.
            return json!({
                "type": "error",
                "message": self.0.message,
                "error": self.lines().join("\n").trim_start_matches("error: "),
                "details": details,
                "hint": self.0.hints.first(),
                "kind": self.0.exit.kind(),
                "code": self.0.code,
                "hints": self.0.hints,
            });
        }
        json!({"error": {
            "kind": self.0.exit.kind(),
            "code": self.0.code,
            "message": self.0.message,
            "details": details,
            "hints": self.0.hints,
        }})
    }

    /// A failed connect, told with what was tried.
    pub(crate) fn connect(error: &ClientError, attempts: &[Attempt], target: &Target) -> Self {
        let exit = match error {
            ClientError::Endpoint(_) => Exit::Usage,
            ClientError::Connect { .. } => Exit::Unreachable,
            ClientError::Timeout { .. } if !error.was_reached() => Exit::Unreachable,
            ClientError::Rejected { .. } => Exit::Refused,
            ClientError::Failed { .. } => Exit::Failed,
            ClientError::Upgrade { .. }
            | ClientError::Closed { .. }
            | ClientError::Timeout { .. }
            | ClientError::Protocol(_)
            | ClientError::NoLocalProof => Exit::Internal,
        };
        let code = error
            .detail_code()
            .map(ToOwned::to_owned)
            .or_else(|| error.received().map(|received| received.code.clone()))
            .unwrap_or_else(|| exit.kind().to_ascii_uppercase());
        let mut failure = Self::new(exit, code, sentence(error))
            .details(
                error
                    .received()
                    .and_then(|received| received.details.clone()),
            )
            .fact(
                "gateway",
                format!("{} ({})", target.endpoint, target.url_source),
            );
        if exit == Exit::Refused {
            failure = failure.fact("credential", target.credential_words());
            if attempts.len() > 1 {
                failure = failure.fact("tried", attempts_words(attempts));
            }
        }
        for hint in connect_hints(error, attempts, target) {
            failure = failure.hint(hint);
        }
        failure
    }

    /// A failed call on an open session.
    pub(crate) fn call(error: &ClientError, target: &Target) -> Self {
        let ClientError::Failed {
            method,
            error: received,
        } = error
        else {
            return Self::connect(error, &[], target);
        };
        let code = received.detail_code().unwrap_or(&received.code).to_owned();
        let Some(scope) = received.missing_scope() else {
            let failure = Self::new(Exit::Failed, code, error.to_string())
                .details(received.details.clone())
                .fact("gateway", target.endpoint.to_string());
            if let Some(ms) = received.retry_after_ms {
                return failure.hint(format!("wait {ms} ms and try again"));
            }
            // What there is, where something is named that may not be.
            return match method.as_str() {
                "cron.update" | "cron.run" | "cron.runs" => {
                    failure.hint("clawgate cron list --all")
                }
                "device.pair.approve"
                | "device.pair.reject"
                | "device.pair.remove"
                | "device.token.rotate"
                | "device.token.revoke" => failure.hint("clawgate devices list"),
                "tokens.revoke" => failure.hint("clawgate tokens list"),
                _ => failure,
            };
        };
        let failure = Self::new(Exit::Unauthorized, code, error.to_string())
            .details(received.details.clone())
            .fact("needs", format!("{scope} for {method}"))
            .fact(
                "gateway",
                format!("{} ({})", target.endpoint, target.url_source),
            )
            .fact("credential", target.credential_words())
            .hint("clawgate auth explain");
        match received.detail("requestId") {
            Some(id) => failure.hint(approve_hint(id)),
            None => failure,
        }
    }
}

impl From<EndpointError> for CommandError {
    fn from(error: EndpointError) -> Self {
        let failure = Self::new(Exit::Usage, "ENDPOINT", error.to_string());
        match error {
            EndpointError::Plaintext(_) => failure
                .hint("use wss://, or a tunnel: ssh -N -L 18789:127.0.0.1:18789 HOST")
                .hint("in a private network only: CLAWGATE_ALLOW_INSECURE_PRIVATE_WS=1"),
            EndpointError::Malformed(_)
            | EndpointError::Credentials
            | EndpointError::FingerprintWithoutTls(_)
            | EndpointError::Fingerprint => failure,
        }
    }
}

impl From<IdentityError> for CommandError {
    fn from(error: IdentityError) -> Self {
        Self::new(Exit::Config, "DEVICE_IDENTITY", error.to_string()).hint(error.fix())
    }
}

fn sentence(error: &ClientError) -> String {
    let unreachable = matches!(
        error,
        ClientError::Connect { .. } | ClientError::Timeout { .. }
    );
    if unreachable && !error.was_reached() {
        format!("the gateway is not reachable: {error}")
    } else {
        error.to_string()
    }
}

fn connect_hints(error: &ClientError, attempts: &[Attempt], target: &Target) -> Vec<String> {
    let mut hints = Vec::new();
    if let ClientError::Endpoint(endpoint) = error {
        return CommandError::from(endpoint.clone()).0.hints;
    }
    if let ClientError::Connect { .. } | ClientError::Timeout { .. } = error {
        if target.is_local_default() {
            hints.push("clawgate gateway run".to_owned());
        } else {
            hints.push("check the URL, and that the gateway there is running".to_owned());
        }
        return hints;
    }
    if error.needs_pairing() {
        match error.pairing_request() {
            Some(id) => hints.push(format!("on the gateway's machine: {}", approve_hint(id))),
            None => hints.push("on the gateway's machine: clawgate devices list".to_owned()),
        }
        return hints;
    }
    if error.is_rate_limited() {
        let after = error
            .received()
            .and_then(|received| received.retry_after_ms);
        hints.push(match after {
            Some(ms) => format!(
                "too many refused attempts; try again in {} s",
                ms.div_ceil(1000)
            ),
            None => "too many refused attempts; try again in a few minutes".to_owned(),
        });
        return hints;
    }
    match error.detail_code() {
        Some("AUTH_TOKEN_MISSING" | "AUTH_TOKEN_MISMATCH") => {
            hints.push(target.token_hint());
        }
        Some("AUTH_PASSWORD_MISMATCH")
            if target.credential_by_option() && target.password.is_some() =>
        {
            hints.push("this password is not the gateway's".to_owned());
        }
        Some("AUTH_PASSWORD_MISSING" | "AUTH_PASSWORD_MISMATCH") => {
            hints.push("--password PASSWORD, or CLAWGATE_GATEWAY_PASSWORD, or gateway.auth.password in the configuration".to_owned());
        }
        Some("AUTH_DEVICE_TOKEN_MISMATCH" | "AUTH_SCOPE_MISMATCH") => {
            hints.push(
                "this device's stored token is no longer good: connect once with --token, or pair again"
                    .to_owned(),
            );
        }
        Some(code) if code.starts_with("AUTH_API_TOKEN_") => {
            hints.push(
                "make a new one: clawgate tokens create --name NAME --scopes SCOPES".to_owned(),
            );
        }
        Some("DEVICE_AUTH_SIGNATURE_EXPIRED") => {
            hints.push("compare the clocks of both machines".to_owned());
        }
        _ => {}
    }
    let local_proof_tried = attempts
        .iter()
        .any(|attempt| attempt.credential == clawgate_client::CredentialKind::LocalProof);
    if error.is_credential_refusal() && target.is_loopback() && target.credential_by_option() {
        hints.push(
            "without the option, what is stored for this gateway and its local key are tried"
                .to_owned(),
        );
    } else if error.is_credential_refusal() && target.is_loopback() && !local_proof_tried {
        hints.push(
            "or prove that you own the gateway: --state-dir with the gateway's own state directory"
                .to_owned(),
        );
    }
    hints
}

/// How to approve a pending request.
pub(crate) fn approve_hint(request_id: &str) -> String {
    format!("clawgate devices approve {request_id}")
}

/// Every rung in words.
pub(crate) fn attempts_words(attempts: &[Attempt]) -> String {
    let words: Vec<String> = attempts
        .iter()
        .map(|attempt| {
            let outcome = match &attempt.outcome {
                Outcome::Enough => "enough".to_owned(),
                Outcome::Short(missing) => format!("lacks {}", missing.joined()),
                Outcome::Refused(error) => {
                    format!("refused, {}", error.detail_code().unwrap_or(&error.code))
                }
                Outcome::NotTaken => "not taken by this gateway".to_owned(),
            };
            format!("{}: {outcome}", attempt.credential)
        })
        .collect();
    words.join("; ")
}
