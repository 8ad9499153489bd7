//! A model, asked over HTTP.
//!
//! The dialects of the providers are the `genai` crate's; what is ours is where a request may go and
//! with which key, how long each phase may take, how large an answer may grow, and what a failure
//! means.

mod failure;

use std::{sync::Arc, time::Duration};

use clawgate_core::turn::{Failure, FailureKind};
use futures_util::StreamExt as _;
use genai::{
    Client, ModelIden, ServiceTarget,
    adapter::AdapterKind,
    chat::{
        ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, ContentPart, MessageContent,
        StopReason, StreamEnd, Tool, ToolResponse,
    },
    resolver::{AuthData, Endpoint as Target},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::message::{Answer, Message, Stop, ToolCall, Usage};

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

    const fn adapter(self) -> AdapterKind {
        match self {
            Self::OpenAiCompletions => AdapterKind::OpenAI,
            Self::OpenAiResponses => AdapterKind::OpenAIResp,
            Self::AnthropicMessages => AdapterKind::Anthropic,
            Self::Google => AdapterKind::Gemini,
            Self::Ollama => AdapterKind::Ollama,
        }
    }

    /// Whether the end of the stream is all that says that an answer is whole. What has no reason
    /// to have stopped was then cut off.
    const fn ends_silently(self) -> bool {
        matches!(self, Self::Google | Self::OpenAiResponses)
    }
}

/// Where a provider is, and the key that is for it alone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    base_url: String,
    key: Option<SecretString>,
}

impl Endpoint {
    /// An endpoint. A key goes to no other address: redirects are not followed.
    #[must_use]
    pub fn new(base_url: &str, api: Api, key: Option<SecretString>) -> Self {
        let mut base_url = base_url.trim().trim_end_matches('/').to_owned();
        // The address of the service alone is how its own clients are configured.
        let has_path = base_url
            .split_once("://")
            .is_some_and(|(_, rest)| rest.contains('/'));
        if api == Api::AnthropicMessages && !has_path {
            base_url.push_str("/v1");
        }
        base_url.push('/');
        Self { base_url, key }
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
    client: Client,
    options: ChatOptions,
    limits: ModelLimits,
}

impl Models {
    /// A client. Proxies of the environment are not used and redirects not followed: the key is for
    /// the endpoint that was configured.
    ///
    /// # Errors
    /// TLS or the resolver cannot be set up.
    pub fn new(limits: ModelLimits) -> Result<Self, SetupError> {
        let setup = |error: &dyn std::fmt::Display| SetupError(error.to_string());
        let roots =
            rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(limits.connect)
            .tcp_nodelay(true)
            .user_agent(concat!("clawgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| setup(&error))?;
        let client = Client::builder()
            .with_reqwest(http)
            .build()
            .map_err(|error| setup(&error))?;
        let options = ChatOptions::default()
            .with_capture_usage(true)
            .with_capture_content(true)
            .with_capture_reasoning_content(true)
            .with_capture_tool_calls(true)
            .with_stream_header_timeout(limits.first_byte)
            .with_stream_read_timeout(limits.between);
        Ok(Self {
            client,
            options,
            limits,
        })
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
        let mut seen = Seen::default();
        let asked = self.stream(model, request, on_delta, &mut seen);
        let outcome = match tokio::time::timeout(self.limits.whole, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failure::of(
                FailureKind::Timeout,
                format!(
                    "the answer was not whole after {} s",
                    self.limits.whole.as_secs()
                ),
            )),
        };
        outcome.map_err(|failure| Failure {
            partial: seen.said,
            message: failure::without(&failure.message, model.endpoint.key.as_ref()),
            ..failure
        })
    }

    async fn stream(
        &self,
        model: &Model,
        request: &Request<'_>,
        on_delta: &mut (dyn FnMut(Delta<'_>) + Send),
        seen: &mut Seen,
    ) -> Result<Answer, Failure> {
        let mut options = self.options.clone();
        options.max_tokens = model.output_max;
        let target = ServiceTarget {
            endpoint: Target::from_owned(model.endpoint.base_url.as_str()),
            // A provider without a key is a server of one's own; most protocols want a word there.
            auth: AuthData::from_single(
                model
                    .endpoint
                    .key
                    .as_ref()
                    .map_or("none", |key| key.expose_secret()),
            ),
            model: ModelIden::new(model.api.adapter(), model.id.as_str()),
        };
        let answer = self
            .client
            .exec_chat_stream(target, chat(request), Some(&options))
            .await
            .map_err(|error| failure::read(&error))?;
        let mut stream = answer.stream;
        while let Some(event) = stream.next().await {
            match event.map_err(|error| failure::read(&error))? {
                ChatStreamEvent::Chunk(chunk) => {
                    seen.grow(chunk.content.len(), self.limits.bytes)?;
                    seen.said = true;
                    on_delta(Delta::Text(&chunk.content));
                }
                ChatStreamEvent::ReasoningChunk(chunk) => {
                    seen.grow(chunk.content.len(), self.limits.bytes)?;
                    on_delta(Delta::Thinking(&chunk.content));
                }
                // It has all the arguments so far.
                ChatStreamEvent::ToolCallChunk(chunk) => {
                    let call = &chunk.tool_call;
                    let arguments = call.fn_arguments.as_str().map_or(0, str::len);
                    if arguments > self.limits.bytes {
                        return Err(failure::too_large(self.limits.bytes));
                    }
                }
                ChatStreamEvent::End(end) => return whole(model.api, end),
                ChatStreamEvent::Start
                | ChatStreamEvent::ThoughtSignatureChunk(_)
                | ChatStreamEvent::Heartbeat => {}
            }
        }
        Err(failure::cut())
    }
}

/// What came in so far.
#[derive(Debug, Default)]
struct Seen {
    bytes: usize,
    /// Whether a reader saw any of it.
    said: bool,
}

impl Seen {
    fn grow(&mut self, by: usize, bound: usize) -> Result<(), Failure> {
        self.bytes += by;
        if self.bytes > bound {
            return Err(failure::too_large(bound));
        }
        Ok(())
    }
}

fn chat(request: &Request<'_>) -> ChatRequest {
    let mut chat = ChatRequest::new(request.messages.iter().map(message).collect());
    if !request.system.is_empty() {
        chat = chat.with_system(request.system);
    }
    if !request.tools.is_empty() {
        chat = chat.with_tools(request.tools.iter().map(|tool| {
            Tool::new(tool.name.as_str())
                .with_description(tool.description.as_str())
                .with_schema(tool.parameters.clone())
        }));
    }
    chat
}

fn message(message: &Message) -> ChatMessage {
    match message {
        Message::User(text) => ChatMessage::user(text.as_str()),
        Message::Answer(answer) => {
            let mut parts = Vec::with_capacity(1 + answer.calls.len());
            if !answer.text.is_empty() || answer.calls.is_empty() {
                parts.push(ContentPart::from_text(answer.text.as_str()));
            }
            for call in &answer.calls {
                parts.push(ContentPart::ToolCall(genai::chat::ToolCall {
                    call_id: call.id.clone(),
                    fn_name: call.name.clone(),
                    fn_arguments: call.arguments.clone(),
                    thought_signatures: call.signatures.clone(),
                }));
            }
            ChatMessage::assistant(MessageContent::from_parts(parts))
        }
        Message::ToolResult(result) => ChatMessage::from(
            ToolResponse::new(result.call_id.as_str(), result.text.as_str())
                .with_fn_name(result.name.as_str()),
        ),
    }
}

/// The answer at the end of its stream.
fn whole(api: Api, mut end: StreamEnd) -> Result<Answer, Failure> {
    let Some(stop) = end.captured_stop_reason.take() else {
        if api.ends_silently() {
            return Err(failure::cut());
        }
        return Ok(answer(end, Stop::Done));
    };
    let stop = match stop {
        StopReason::MaxTokens(_) => Stop::Length,
        StopReason::ToolCall(_) => Stop::Tools,
        StopReason::ContentFilter(_) => Stop::Filtered,
        StopReason::Completed(_) | StopReason::StopSequence(_) | StopReason::Other(_) => Stop::Done,
    };
    Ok(answer(end, stop))
}

fn answer(end: StreamEnd, stop: Stop) -> Answer {
    let usage = end
        .captured_usage
        .as_ref()
        .map_or_else(Usage::default, usage);
    let mut answer = Answer {
        thinking: end
            .captured_reasoning_content
            .filter(|text| !text.is_empty()),
        usage,
        stop,
        ..Answer::default()
    };
    for part in end
        .captured_content
        .map(MessageContent::into_parts)
        .unwrap_or_default()
    {
        match part {
            ContentPart::Text(text) => answer.text.push_str(&text),
            ContentPart::ToolCall(call) => answer.calls.push(ToolCall {
                id: call.call_id,
                name: call.fn_name,
                arguments: call.fn_arguments,
                signatures: call.thought_signatures,
            }),
            _ => {}
        }
    }
    if !answer.calls.is_empty() && answer.stop == Stop::Done {
        answer.stop = Stop::Tools;
    }
    answer
}

/// What is read from a cache is counted once here; providers count it among what was read.
fn usage(told: &genai::chat::Usage) -> Usage {
    let count = |n: Option<i32>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let details = told.prompt_tokens_details.as_ref();
    let cache_read = count(details.and_then(|details| details.cached_tokens));
    let cache_write = count(details.and_then(|details| details.cache_creation_tokens));
    Usage {
        input: count(told.prompt_tokens).saturating_sub(cache_read + cache_write),
        output: count(told.completion_tokens),
        cache_read,
        cache_write,
    }
}
