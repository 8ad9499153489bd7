//! A model, asked over HTTP.
//!
//! Each protocol is a file with two functions: what is asked (`body`), and what one event of the
//! answer says (`take`). What they have in common is here: where a request may go and with which
//! key, how long each phase may take, how large an answer may grow, and what a failure means.

mod anthropic;
mod chat;
mod draft;
mod failure;
mod google;
mod lines;
mod ollama;
mod responses;

use std::{sync::Arc, time::Duration};

use clawgate_core::turn::{Failure, FailureKind};
use draft::Draft;
use lines::{Frames, Framing};
use reqwest::{
    RequestBuilder, Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use crate::message::{Answer, Message, Said};

/// Bytes of a refusal that are read.
const REFUSAL_MAX: usize = 64 << 10;
/// Bytes on the wire for each byte of an answer: what surrounds a short piece of text is long.
const WIRE_FACTOR: usize = 64;
/// How long the end of the transfer is waited for when the answer is whole, so that the connection
/// can be used again.
const TAIL: Duration = Duration::from_millis(20);

/// The protocol that a provider speaks; the words are those of `models.providers.<id>.api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `openai-completions`: chat completions, of OpenAI and of everybody who is compatible.
    OpenAiCompletions,
    /// `openai-responses`.
    OpenAiResponses,
    /// `anthropic-messages`.
    AnthropicMessages,
    /// `google-generative-ai`.
    Google,
    /// `ollama`: its own protocol.
    Ollama,
}

impl Api {
    /// Every protocol.
    pub const ALL: [Self; 5] = [
        Self::OpenAiCompletions,
        Self::OpenAiResponses,
        Self::AnthropicMessages,
        Self::Google,
        Self::Ollama,
    ];

    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiCompletions => "openai-completions",
            Self::OpenAiResponses => "openai-responses",
            Self::AnthropicMessages => "anthropic-messages",
            Self::Google => "google-generative-ai",
            Self::Ollama => "ollama",
        }
    }

    /// Reads [`as_str`](Self::as_str) back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.as_str() == word)
    }

    const fn framing(self) -> Framing {
        match self {
            Self::Ollama => Framing::Lines,
            _ => Framing::Sse,
        }
    }

    fn body(self, model: &Model, request: &Request<'_>) -> Value {
        match self {
            Self::OpenAiCompletions => chat::body(model, request),
            Self::OpenAiResponses => responses::body(model, request),
            Self::AnthropicMessages => anthropic::body(model, request),
            Self::Google => google::body(model, request),
            Self::Ollama => ollama::body(model, request),
        }
    }

    /// Reads one event.
    fn take(self, draft: &mut Draft<'_>, event: &str) -> Result<(), Failure> {
        if event.trim() == "[DONE]" {
            chat::done(draft);
            return Ok(());
        }
        let event: Value = serde_json::from_str(event).map_err(failure::malformed)?;
        match self {
            Self::OpenAiCompletions => chat::take(draft, &event),
            Self::OpenAiResponses => responses::take(draft, &event),
            Self::AnthropicMessages => anthropic::take(draft, &event),
            Self::Google => google::take(draft, &event),
            Self::Ollama => ollama::take(draft, &event),
        }
    }
}

/// How much a model is to think before it answers. Only models that are said to reason are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Thinking {
    /// `off`.
    #[default]
    Off,
    /// `minimal`.
    Minimal,
    /// `low`.
    Low,
    /// `medium`.
    Medium,
    /// `high`.
    High,
    /// `xhigh`.
    XHigh,
    /// `adaptive`: as it sees fit.
    Adaptive,
}

impl Thinking {
    /// Every level.
    pub const ALL: [Self; 7] = [
        Self::Off,
        Self::Minimal,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::XHigh,
        Self::Adaptive,
    ];

    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Adaptive => "adaptive",
        }
    }

    /// Reads [`as_str`](Self::as_str) back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }
}

/// Where a provider is, and the key that is for it alone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    base_url: String,
    key: Option<SecretString>,
    /// Whether the key goes in `Authorization`, whatever the protocol has for it.
    is_bearer: bool,
    headers: Vec<(String, SecretString)>,
}

impl Endpoint {
    /// An endpoint. A key goes to no other address: redirects are not followed.
    #[must_use]
    pub fn new(base_url: &str, api: Api, key: Option<SecretString>) -> Self {
        let mut base_url = base_url.trim().trim_end_matches('/').to_owned();
        // Its own clients are configured without the version.
        if api == Api::AnthropicMessages && !base_url.ends_with("/v1") {
            base_url.push_str("/v1");
        }
        if api == Api::Ollama {
            let bare = base_url.trim_end_matches("/v1").trim_end_matches("/api");
            base_url.truncate(bare.len());
        }
        Self {
            base_url,
            key,
            is_bearer: matches!(
                api,
                Api::OpenAiCompletions | Api::OpenAiResponses | Api::Ollama
            ),
            headers: Vec::new(),
        }
    }

    /// Sends the key in `Authorization`, whatever the protocol has for it.
    #[must_use]
    pub fn bearer(mut self) -> Self {
        self.is_bearer = true;
        self
    }

    /// With further headers. They are as secret as the key.
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<(String, SecretString)>) -> Self {
        self.headers = headers;
        self
    }

    /// Whether its host is this domain or below it.
    fn is_of(&self, domain: &str) -> bool {
        let rest = self.base_url.split_once("://").map_or("", |(_, rest)| rest);
        let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
        host.strip_suffix(domain)
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

/// A model of a provider.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name of the provider in the configuration.
    pub provider: String,
    /// What the provider calls the model.
    pub id: String,
    /// What the provider speaks.
    pub api: Api,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Tokens of an answer at most.
    pub output_max: Option<u32>,
    /// Tokens of everything that it can look at, if that is known.
    pub context_window: Option<u64>,
    /// Whether it can think before it answers.
    pub reasoning: bool,
    /// How much it is to think, if it can.
    pub thinking: Thinking,
    /// Whether it can look at images.
    pub images: bool,
}

impl Model {
    /// A model of which nothing else is known: it takes text and gives text.
    #[must_use]
    pub fn new(provider: &str, id: &str, api: Api, endpoint: Endpoint) -> Self {
        Self {
            provider: provider.to_owned(),
            id: id.to_owned(),
            api,
            endpoint,
            output_max: None,
            context_window: None,
            reasoning: false,
            thinking: Thinking::Off,
            images: false,
        }
    }

    /// The level, where the model can be told one.
    fn thinks(&self) -> Option<Thinking> {
        self.reasoning.then_some(self.thinking)
    }

    /// OpenAI's word for the level; none where it is to do as it does by itself.
    fn effort(&self) -> Option<&'static str> {
        match self.thinks()? {
            Thinking::Off | Thinking::Adaptive => None,
            level => Some(level.as_str()),
        }
    }

    /// The words of what somebody said; of images that it cannot see it is told at least.
    fn words(&self, said: &Said) -> String {
        if self.images {
            said.text.clone()
        } else {
            in_words(said)
        }
    }
}

/// A tool, as a model is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// What a model is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it is told first.
    pub system: &'a str,
    /// What was said.
    pub messages: &'a [Message],
    /// What it may call.
    pub tools: &'a [ToolSpec],
}

/// A part of an answer, as it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta<'a> {
    /// Text.
    Text(&'a str),
    /// Thought.
    Thinking(&'a str),
}

/// How long the phases of a request may take, and how large an answer may be.
#[derive(Clone, Copy, Debug)]
pub struct ModelLimits {
    /// Until the connection stands.
    pub connect: Duration,
    /// From then until the provider begins to answer.
    pub first_byte: Duration,
    /// Between two parts of an answer.
    pub between: Duration,
    /// The whole answer.
    pub whole: Duration,
    /// Bytes of text, thought and calls.
    pub bytes: usize,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            between: Duration::from_secs(60),
            whole: Duration::from_secs(600),
            bytes: 4 << 20,
        }
    }
}

/// The HTTP client cannot be made.
#[derive(Debug)]
pub struct SetupError(String);

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the client for models cannot be made: {}", self.0)
    }
}

impl std::error::Error for SetupError {}

/// Asks models. Connections are kept and shared.
#[derive(Clone, Debug)]
pub struct Models {
    client: reqwest::Client,
    limits: ModelLimits,
}

/// A client for endpoints that were configured. Proxies of the environment are not used and redirects
/// not followed: what is sent is for the endpoint that was configured.
pub(crate) fn web_client(connect: Duration) -> Result<reqwest::Client, SetupError> {
    let setup = |error: &dyn std::fmt::Display| SetupError(error.to_string());
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(connect)
        .tcp_nodelay(true)
        .user_agent(concat!("clawgate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| setup(&error))
}

impl Models {
    /// A client. Proxies of the environment are not used and redirects not followed: the key is for
    /// the endpoint that was configured.
    ///
    /// # Errors
    /// TLS or the resolver cannot be set up.
    pub fn new(limits: ModelLimits) -> Result<Self, SetupError> {
        let client = web_client(limits.connect)?;
        Ok(Self { client, limits })
    }

    /// Asks once, streaming. Dropping the future closes the request.
    ///
    /// # Errors
    /// Whatever kept the answer from being whole, typed.
    pub async fn ask(
        &self,
        model: &Model,
        request: &Request<'_>,
        on_delta: &mut (dyn FnMut(Delta<'_>) + Send),
    ) -> Result<Answer, Failure> {
        let mut draft = Draft::new(self.limits.bytes, on_delta);
        let asked = self.stream(model, request, &mut draft);
        let outcome = match timeout(self.limits.whole, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failure::late(&format!(
                "the answer was not whole after {} s",
                self.limits.whole.as_secs()
            ))),
        };
        let partial = draft.said;
        outcome
            .and_then(|()| draft.into_answer())
            .map_err(|failure| Failure {
                partial,
                message: model.endpoint.without_secrets(&failure.message),
                ..failure
            })
    }

    async fn stream(
        &self,
        model: &Model,
        request: &Request<'_>,
        draft: &mut Draft<'_>,
    ) -> Result<(), Failure> {
        let limits = &self.limits;
        let sent = self.request(model, request)?.send();
        let mut answer = match timeout(limits.first_byte, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failure::unreachable(&error)),
            Err(_) => {
                return Err(failure::late(
                    "the provider did not begin to answer in time",
                ));
            }
        };
        let status = answer.status();
        if !status.is_success() {
            let headers = answer.headers().clone();
            let body = refusal(&mut answer, limits.between).await;
            return Err(failure::answered(status, &body, &headers));
        }
        if let Some(kind) = no_stream(&answer, model.api) {
            let body = refusal(&mut answer, limits.between).await;
            return Err(match serde_json::from_str::<Value>(&body) {
                Ok(body) if body.get("error").is_some() => failure::told(&body),
                _ => failure::malformed(format!("it is {kind} and no stream of events")),
            });
        }
        let mut transfer = Transfer::new(model.api, limits.bytes);
        let mut patience = limits.first_byte;
        while !draft.is_over {
            let chunk = match timeout(patience, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return transfer.end(draft),
                // What is whole is not less so for a bad end of the transfer.
                Ok(Err(_)) if draft.stop.is_some() => return Ok(()),
                Ok(Err(_)) => return Err(failure::cut()),
                Err(_) if draft.stop.is_some() => return Ok(()),
                Err(_) => return Err(failure::late("the answer stood still for too long")),
            };
            patience = limits.between;
            transfer.part(draft, &chunk)?;
        }
        let _ = timeout(TAIL, answer.chunk()).await;
        Ok(())
    }

    fn request(&self, model: &Model, request: &Request<'_>) -> Result<RequestBuilder, Failure> {
        let endpoint = &model.endpoint;
        let base = endpoint.base_url.as_str();
        let url = match model.api {
            Api::OpenAiCompletions => format!("{base}/chat/completions"),
            Api::OpenAiResponses => format!("{base}/responses"),
            Api::AnthropicMessages => format!("{base}/messages"),
            Api::Google => {
                let id = model.id.trim_start_matches("models/");
                // A name is one part of the path, whatever stands in it.
                if id.contains(['/', '?', '#', '%']) || id.contains("..") {
                    return Err(failure::of(
                        FailureKind::NoModel,
                        format!("\"{id}\" is no name of a model there"),
                    ));
                }
                format!("{base}/models/{id}:streamGenerateContent?alt=sse")
            }
            Api::Ollama => format!("{base}/api/chat"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static(match model.api.framing() {
                Framing::Sse => "text/event-stream",
                Framing::Lines => "application/x-ndjson",
            }),
        );
        if model.api == Api::AnthropicMessages {
            headers.insert(
                HeaderName::from_static("anthropic-version"),
                HeaderValue::from_static("2023-06-01"),
            );
        }
        if let Some(key) = &endpoint.key {
            let (name, value) = match model.api {
                Api::AnthropicMessages if !endpoint.is_bearer => ("x-api-key", None),
                Api::Google if !endpoint.is_bearer => ("x-goog-api-key", None),
                _ => ("authorization", Some("Bearer ")),
            };
            let value = format!("{}{}", value.unwrap_or_default(), key.expose_secret());
            headers.insert(HeaderName::from_static(name), secret_header(&value, "key")?);
        }
        for (name, value) in &endpoint.headers {
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                failure::of(
                    FailureKind::Invalid,
                    format!("\"{name}\" is no name of a header"),
                )
            })?;
            headers.insert(parsed, secret_header(value.expose_secret(), name)?);
        }
        Ok(self
            .client
            .post(url)
            .headers(headers)
            .body(model.api.body(model, request).to_string()))
    }
}

/// What comes in, cut into events that are taken one by one.
struct Transfer {
    api: Api,
    frames: Frames,
    /// Bytes that came in.
    wire: usize,
    /// Bytes that an answer may have.
    bytes_max: usize,
}

impl Transfer {
    fn new(api: Api, bytes_max: usize) -> Self {
        Self {
            api,
            frames: Frames::new(api.framing(), bytes_max.saturating_mul(2)),
            wire: 0,
            bytes_max,
        }
    }

    /// Takes the next part. What follows the end of an answer is not looked at.
    fn part(&mut self, draft: &mut Draft<'_>, mut part: &[u8]) -> Result<(), Failure> {
        self.wire = self.wire.saturating_add(part.len());
        if self.wire > self.bytes_max.saturating_mul(WIRE_FACTOR) {
            return Err(failure::too_large(self.bytes_max));
        }
        while !draft.is_over {
            let Some(event) = self.frames.next(&mut part)? else {
                break;
            };
            self.api.take(draft, &event)?;
        }
        Ok(())
    }

    /// Takes an event that lacks nothing but its end; half of one is no error of its own.
    fn end(mut self, draft: &mut Draft<'_>) -> Result<(), Failure> {
        match self.frames.rest() {
            Some(rest)
                if rest.trim() == "[DONE]" || serde_json::from_str::<Value>(&rest).is_ok() =>
            {
                self.api.take(draft, &rest)
            }
            _ => Ok(()),
        }
    }
}

/// The answer in a stream of events of a provider, of which all parts are there already. `bytes_max`
/// bounds its text, thought and calls.
///
/// # Errors
/// Whatever keeps the answer from being whole, typed.
pub fn read_answer<'a>(
    api: Api,
    parts: impl IntoIterator<Item = &'a [u8]>,
    bytes_max: usize,
    on_delta: &mut (dyn FnMut(Delta<'_>) + Send),
) -> Result<Answer, Failure> {
    let mut draft = Draft::new(bytes_max, on_delta);
    let mut transfer = Transfer::new(api, bytes_max);
    for part in parts {
        transfer.part(&mut draft, part)?;
    }
    if !draft.is_over {
        transfer.end(&mut draft)?;
    }
    draft.into_answer()
}

impl Endpoint {
    /// A message without the key and what is as secret, should a provider repeat it.
    fn without_secrets(&self, message: &str) -> String {
        let message = failure::without(message, self.key.as_ref());
        self.headers.iter().fold(message, |message, (_, value)| {
            failure::without(&message, Some(value))
        })
    }
}

fn secret_header(value: &str, what: &str) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::from_str(value.trim()).map_err(|_| {
        failure::of(
            FailureKind::Auth,
            format!("the {what} of the provider holds characters that no header can"),
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// What an answer is that says itself that it is no stream.
fn no_stream(answer: &Response, api: Api) -> Option<String> {
    let kind = answer.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next()?.trim().to_ascii_lowercase();
    let is_page = kind == "text/html";
    let is_whole = kind == "application/json" && api.framing() == Framing::Sse;
    (is_page || is_whole).then_some(kind)
}

/// The beginning of what a provider says instead of an answer.
async fn refusal(answer: &mut Response, patience: Duration) -> String {
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout(patience, answer.chunk()).await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= REFUSAL_MAX {
            bytes.truncate(REFUSAL_MAX);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tokens that are believed: beyond any window, and small enough that whatever adds them up can.
const COUNT_MAX: u64 = 1 << 40;

/// A number of tokens.
fn count(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or(0).min(COUNT_MAX)
}

/// What somebody said, for a model that cannot see.
fn in_words(said: &Said) -> String {
    if said.images.is_empty() {
        return said.text.clone();
    }
    let many = said.images.len();
    format!("{}\n\n[images that you cannot see: {many}]", said.text)
        .trim_start()
        .to_owned()
}

/// The arguments of a call as the text that a model writes.
fn arguments_text(arguments: &Value) -> String {
    match arguments {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The arguments of a call, for a protocol that takes nothing but objects.
fn arguments_object(arguments: &Value) -> Value {
    match arguments {
        Value::Object(_) => arguments.clone(),
        other => serde_json::json!({"malformed": other}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(api: Api, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Answer, Failure> {
        read_answer(api, parts, 1_000, &mut |_| {})
    }

    #[test]
    fn noise_behind_a_whole_answer_does_not_undo_it_wherever_the_transfer_is_cut() {
        let mut stream = b"{\"message\":{\"content\":\"Hi\"},\"done\":true}\n".to_vec();
        stream.extend(b"\xff\xff\n{");
        for size in 1..=stream.len() {
            let answer = read(Api::Ollama, stream.chunks(size)).expect("it is whole");
            assert_eq!(answer.text, "Hi", "in parts of {size}");
        }
    }

    #[test]
    fn numbers_of_tokens_beyond_belief_can_be_added_up() {
        let many = u64::MAX;
        let google = format!(
            "data: {{\"candidates\":[{{\"finishReason\":\"STOP\"}}],\"usageMetadata\":{{\
             \"promptTokenCount\":{many},\"candidatesTokenCount\":{many},\"thoughtsTokenCount\":{many}}}}}\n\n"
        );
        let anthropic = format!(
            "data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\
             \"input_tokens\":{many},\"output_tokens\":{many}}}}}\n\n"
        );
        for (api, stream) in [(Api::Google, google), (Api::AnthropicMessages, anthropic)] {
            let mut usage = read(api, [stream.as_bytes()]).expect("it is whole").usage;
            usage.add(usage);
            assert!(usage.total() > 1 << 40 && i64::try_from(usage.total()).is_ok());
        }
    }
}
