//! Dispatch: one exhaustive match from method to handler, the daemon's table of contents.
//!
//! A caller that gets here was admitted. Methods that answer from memory do so at once; the
//! others become futures of the connection.

use std::{borrow::Cow, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use clawgate_core::{Dialect, Method, authz};
use clawgate_protocol::{
    ErrorShape,
    frame::{self, to_json},
    shape,
};
use futures_util::FutureExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Gateway, error, handshake::Welcome, hub::Link, methods};

/// An admitted request.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub params: Option<Cow<'a, str>>,
    pub gateway: &'a Arc<Gateway>,
    pub link: &'a Arc<Link>,
    pub welcome: &'a Arc<Welcome>,
}

/// JSON text of a result: shared where it is kept, owned where it was made.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Kept(Arc<str>),
    Made(String),
}

impl std::ops::Deref for Payload {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Kept(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub outcome: Result<Payload, ErrorShape>,
    /// Close the caller's own connection after the answer: its authority ended with this call.
    pub then_close: Option<(u16, String)>,
    /// A second answer to the same request, for a caller that wants to know that the first part
    /// stands. It counts as under way until it comes.
    pub rest: Option<Rest>,
}

/// An answer that is still to come.
pub(crate) struct Rest(pub Pin<Box<dyn Future<Output = Reply> + Send>>);

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rest")
    }
}

impl Reply {
    /// A result, encoded now.
    pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::made(to_json(value))
    }

    /// A result that is JSON text already.
    pub(crate) fn made(text: String) -> Self {
        Self {
            outcome: Ok(Payload::Made(text)),
            then_close: None,
            rest: None,
        }
    }

    /// A result that is kept encoded.
    pub(crate) fn kept(text: Arc<str>) -> Self {
        Self {
            outcome: Ok(Payload::Kept(text)),
            then_close: None,
            rest: None,
        }
    }

    /// A failure.
    pub(crate) fn error(error: ErrorShape) -> Self {
        Self {
            outcome: Err(error),
            then_close: None,
            rest: None,
        }
    }

    /// The same, and another answer follows.
    #[must_use]
    pub(crate) fn and_later(mut self, rest: impl Future<Output = Self> + Send + 'static) -> Self {
        self.rest = Some(Rest(Box::pin(rest)));
        self
    }

    /// The same, and the caller's connection ends after it.
    #[must_use]
    pub(crate) fn closing(mut self, code: u16, reason: &str) -> Self {
        self.then_close = Some((code, reason.to_owned()));
        self
    }
}

impl From<Result<Self, ErrorShape>> for Reply {
    fn from(result: Result<Self, ErrorShape>) -> Self {
        result.unwrap_or_else(Self::error)
    }
}

/// An answer, now or later.
pub(crate) enum Answer {
    Now(Reply),
    /// Dropped when the caller's socket goes: only the waiting is in it.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// Carried through when the caller's socket goes, so that database, memory and events never
    /// disagree.
    Carried(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Answer {
    /// A future as an answer.
    pub(crate) fn later(future: impl Future<Output = Reply> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl Answer {
    /// Waits for it, whichever it is.
    pub(crate) async fn reply(self) -> Reply {
        match self {
            Self::Now(reply) => reply,
            Self::Later(future) | Self::Carried(future) => future.await,
        }
    }
}

impl Call<'_> {
    /// The same caller's call of another method, through the same door.
    pub(crate) fn other(&self, method: Method, params: &Value) -> Answer {
        let access = method.spec().access(self.dialect());
        if let Err(refused) = authz::admit(&self.link.principal.grant, access) {
            return Answer::Now(Reply::error(error::refused(&self.link.principal, &refused)));
        }
        call(&Call {
            method,
            params: Some(Cow::Owned(params.to_string())),
            gateway: self.gateway,
            link: self.link,
            welcome: self.welcome,
        })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.link.principal.dialect
    }

    /// The params as JSON, checked against the method's shape. Absent and `null` are `{}`.
    pub(crate) fn value(&self) -> Result<Value, ErrorShape> {
        let value = self.unchecked()?;
        if let Some(shape) = &self.method.spec().params {
            self.check(&value, shape)?;
        }
        Ok(value)
    }

    /// The params as JSON, before any check.
    pub(crate) fn unchecked(&self) -> Result<Value, ErrorShape> {
        match self.params.as_deref() {
            None | Some("null") => Ok(Value::Object(serde_json::Map::new())),
            Some(text) => {
                serde_json::from_str(text).map_err(|error| self.invalid(frame::unreadable(&error)))
            }
        }
    }

    /// Checks params against a shape.
    pub(crate) fn check(&self, value: &Value, shape: &shape::Shape) -> Result<(), ErrorShape> {
        shape::check(value, shape, self.dialect()).map_err(|problems| self.invalid(&problems))
    }

    /// The params as a type.
    pub(crate) fn typed<T: DeserializeOwned>(&self) -> Result<T, ErrorShape> {
        self.parse(self.value()?)
    }

    /// Checked params as a type.
    pub(crate) fn parse<T: DeserializeOwned>(&self, value: Value) -> Result<T, ErrorShape> {
        // Where it is wrong is found out when something is.
        T::deserialize(&value).or_else(|_| {
            serde_path_to_error::deserialize(value)
                .map_err(|error| self.invalid(&format!("at {}: {}", error.path(), error.inner())))
        })
    }

    /// Only looks whether the params fit the method's shape.
    pub(crate) fn fits(&self) -> Result<(), ErrorShape> {
        if self.params.is_none() {
            return Ok(());
        }
        self.value().map(drop)
    }

    /// `invalid <method> params: …`
    pub(crate) fn invalid(&self, problems: &str) -> ErrorShape {
        ErrorShape::invalid(format!(
            "invalid {} params: {problems}",
            self.method.spec().name
        ))
    }
}

/// Answers a call. A method without an arm here does not compile.
pub(crate) fn call(call: &Call<'_>) -> Answer {
    match call.method {
        Method::Health => methods::system::health(call),
        Method::Status => methods::system::status(call),
        Method::LogsTail => methods::system::logs_tail(call),
        Method::LastHeartbeat => methods::system::last_heartbeat(call),
        Method::SetHeartbeats => methods::system::set_heartbeats(call),
        Method::Wake => methods::system::wake(call),
        Method::SystemPresence => methods::system::presence(call),
        Method::SystemEvent => methods::system::event(call),
        Method::GatewayIdentityGet => methods::system::identity(call),
        Method::ConfigGet => methods::config::get(call),
        Method::ModelsList => methods::model::list(call),
        Method::AgentsList => methods::agent::list(call),
        Method::AgentsCreate => methods::agent::create(call),
        Method::AgentsUpdate => methods::agent::update(call),
        Method::AgentsDelete => methods::agent::delete(call),
        Method::AgentsFilesList => methods::agent::files_list(call),
        Method::AgentsFilesGet => methods::agent::files_get(call),
        Method::AgentsFilesSet => methods::agent::files_set(call),
        Method::AgentIdentityGet => methods::agent::identity(call),
        Method::Agent => methods::turn::run(call),
        Method::AgentWait => methods::turn::wait(call),
        Method::ChatSend => methods::turn::chat_send(call),
        Method::ChatAbort => methods::turn::chat_abort(call),
        Method::ToolsCatalog => methods::agent::tools(call),
        Method::DoctorMemoryStatus => methods::agent::memory(call),
        Method::SkillsStatus => methods::skill::status(call),
        Method::SkillsBins => methods::skill::bins(call),
        Method::SkillsInstall => methods::skill::install(call),
        Method::SkillsUpdate => methods::skill::update(call),
        Method::ChannelsStatus => methods::channel::status(call),
        Method::ChannelsLogout => methods::channel::logout(call),
        Method::WebLoginStart | Method::WebLoginWait => methods::channel::login(call),
        Method::Send => methods::channel::send(call),
        Method::Poll => methods::channel::poll(call),
        Method::PushTest => methods::channel::push_test(call),
        Method::BrowserRequest => methods::channel::browser(call),
        Method::TtsStatus => methods::voice::status(call),
        Method::TtsProviders => methods::voice::providers(call),
        Method::TtsEnable => methods::voice::enable(call),
        Method::TtsDisable => methods::voice::disable(call),
        Method::TtsConvert => methods::voice::convert(call),
        Method::TtsSetProvider => methods::voice::set_provider(call),
        Method::TalkConfig => methods::voice::talk_config(call),
        Method::TalkMode => methods::voice::talk_mode(call),
        Method::UpdateRun => methods::update::run(call),
        Method::WizardStart => methods::wizard::start(call),
        Method::WizardNext => methods::wizard::next(call),
        Method::WizardCancel => methods::wizard::cancel(call),
        Method::WizardStatus => methods::wizard::status(call),
        Method::ConfigSet => methods::config::set(call),
        Method::ConfigApply => methods::config::apply(call),
        Method::ConfigPatch => methods::config::patch(call),
        Method::ConfigSchema => methods::config::schema(call),
        Method::ConfigSchemaLookup => methods::config::schema_lookup(call),
        Method::ConfigOpenFile => methods::config::open_file(call),
        Method::SecretsReload => methods::secret::reload(call),
        Method::SecretsResolve => methods::secret::resolve(call),
        Method::ExecApprovalsGet => methods::approval::file_get(call),
        Method::ExecApprovalsSet => methods::approval::file_set(call),
        Method::ExecApprovalsNodeGet => methods::approval::node_get(call),
        Method::ExecApprovalsNodeSet => methods::approval::node_set(call),
        Method::ExecApprovalRequest => methods::approval::request(call),
        Method::ExecApprovalWaitDecision => methods::approval::wait_decision(call),
        Method::ExecApprovalResolve => methods::approval::resolve(call),
        Method::ExecApprovalGet => methods::approval::get(call),
        Method::ExecApprovalList => methods::approval::list(call),
        Method::ApprovalGet => methods::approval::snapshot::get(call),
        Method::ApprovalResolve => methods::approval::snapshot::resolve(call),
        Method::ApprovalHistory => methods::approval::snapshot::history(call),
        Method::SessionsList => methods::session::list(call),
        Method::SessionsPreview => methods::session::preview(call),
        Method::SessionsPatch => methods::session::patch(call),
        Method::SessionsReset => methods::session::reset(call),
        Method::SessionsDelete => methods::session::delete(call),
        Method::SessionsCompact => methods::session::compact(call),
        Method::SessionsCleanup => methods::session::cleanup(call),
        Method::SessionsGet => methods::session::get(call),
        Method::SessionsResolve => methods::session::resolve(call),
        Method::SessionsDescribe => methods::session::describe(call),
        Method::SessionsCreate => methods::session::create(call),
        Method::SessionsSearch => methods::session::search(call),
        Method::SessionsSubscribe => methods::session::subscribe(call),
        Method::SessionsMessagesSubscribe => methods::session::messages_subscribe(call),
        Method::SessionsMessagesUnsubscribe => methods::session::messages_unsubscribe(call),
        Method::SessionsExport => methods::session::export(call),
        Method::SessionsImport => methods::session::import(call),
        Method::SessionsUsage => methods::usage::sessions(call),
        Method::SessionsUsageTimeseries => methods::usage::timeseries(call),
        Method::SessionsUsageLogs => methods::usage::logs(call),
        Method::UsageStatus => methods::usage::status(call),
        Method::UsageCost => methods::usage::cost(call),
        Method::ChatHistory => methods::chat::history(call),
        Method::ChatInject => methods::chat::inject(call),
        Method::ChatMessageGet => methods::chat::message_get(call),
        Method::NodeList => methods::node::list(call),
        Method::NodeDescribe => methods::node::describe(call),
        Method::NodeRename => methods::node::rename(call),
        Method::NodePairRequest => methods::node::pair_request(call),
        Method::NodePairList => methods::node::pair_list(call),
        Method::NodePairApprove => methods::node::pair_approve(call),
        Method::NodePairReject => methods::node::pair_reject(call),
        Method::NodePairVerify => methods::node::pair_verify(call),
        Method::NodePairRemove => methods::node::pair_remove(call),
        Method::NodeInvoke => methods::node::invoke(call),
        Method::NodeInvokeResult => methods::node::invoke_result(call),
        Method::NodeEvent => methods::node::event(call),
        Method::NodePendingEnqueue => methods::node::pending_enqueue(call),
        Method::NodePendingDrain => methods::node::pending_drain(call),
        Method::NodePendingPull => methods::node::pending_pull(call),
        Method::NodePendingAck => methods::node::pending_ack(call),
        Method::NodeCanvasCapabilityRefresh => methods::node::canvas_refresh(call),
        Method::VoicewakeGet => methods::node::wake_words(call),
        Method::VoicewakeSet => methods::node::set_wake_words(call),
        Method::DevicePairList => methods::device::list(call),
        Method::DevicePairApprove => methods::device::approve(call),
        Method::DevicePairReject => methods::device::reject(call),
        Method::DevicePairRemove => methods::device::remove(call),
        Method::DeviceTokenRotate => methods::device::rotate(call),
        Method::DeviceTokenRevoke => methods::device::revoke(call),
        Method::CronList => methods::cron::list(call),
        Method::CronStatus => methods::cron::status(call),
        Method::CronGet => methods::cron::get(call),
        Method::CronAdd => methods::cron::add(call),
        Method::CronUpdate => methods::cron::update(call),
        Method::CronRemove => methods::cron::remove(call),
        Method::CronRun => methods::cron::run(call),
        Method::CronCancel => methods::cron::cancel(call),
        Method::CronRuns => methods::cron::runs(call),
        Method::AuthExplain => methods::auth::explain(call),
        Method::TokensCreate => methods::token::create(call),
        Method::TokensList => methods::token::list(call),
        Method::TokensRevoke => methods::token::revoke(call),
        Method::Connect => Answer::Now(Reply::error(ErrorShape::invalid(
            "connect is only valid as the first request",
        ))),
    }
}

/// Runs a fallible handler body and makes its failure the answer.
pub(crate) fn now(body: impl FnOnce() -> Result<Reply, ErrorShape>) -> Answer {
    Answer::Now(body().into())
}

/// The same for a body that must wait. `params` are read before, so that the future owns them. It is
/// polled by the connection, which saves two wake-ups.
pub(crate) fn later<P: Send + 'static, F>(
    params: Result<P, ErrorShape>,
    body: impl FnOnce(P) -> F,
) -> Answer
where
    F: Future<Output = Result<Reply, ErrorShape>> + Send + 'static,
{
    match params {
        Err(error) => Answer::Now(Reply::error(error)),
        Ok(params) => {
            let body = AssertUnwindSafe(body(params)).catch_unwind();
            Answer::Carried(Box::pin(async move {
                match body.await {
                    Ok(outcome) => outcome.into(),
                    // The panic itself is in the log already.
                    Err(_) => Reply::error(error::internal("a handler", &"it panicked")),
                }
            }))
        }
    }
}
