//! The session: calls out, events in.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clawgate_protocol::{Dialect, Role, ScopeSet, connect::ReceivedHello, frame};
use secrecy::SecretString;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::WebSocketStream;

use crate::{
    driver::{Command, Driver},
    endpoint::Endpoint,
    error::{ClientError, CloseInfo, Waiting},
    granted::Granted,
    identity::Identity,
    local_proof::LocalKey,
};

/// Requests that wait to be written.
const COMMANDS_MAX: usize = 64;
/// Events that nobody took yet; a newer one is dropped and counted when it is full.
const EVENTS_MAX: usize = 1024;
/// How long a close may take before the connection is dropped.
const CLOSE_WITHIN: Duration = Duration::from_millis(250);

/// A key that nobody used before, for acts that are to be done once.
pub fn new_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What a client says it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An ordinary command.
    Cli,
    /// A look from outside.
    Probe,
    /// A machine that runs commands for the gateway.
    Node,
}

impl Mode {
    /// The role that it asks for.
    pub fn role(self) -> Role {
        match self {
            Self::Cli | Self::Probe => Role::Operator,
            Self::Node => Role::Node,
        }
    }

    /// What the program calls itself.
    pub(crate) fn client_id(self) -> &'static str {
        match self {
            Self::Cli | Self::Probe => "cli",
            Self::Node => "node-host",
        }
    }

    /// The wire's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Probe => "probe",
            Self::Node => "node",
        }
    }
}

/// The credentials of one connect. They do not print.
#[derive(Clone, Default)]
pub struct Offer {
    /// `auth.token`: shared token or API token.
    pub token: Option<SecretString>,
    /// `auth.password`.
    pub password: Option<SecretString>,
    /// `auth.deviceToken`.
    pub device_token: Option<SecretString>,
    /// Key of an `auth.localProof`.
    pub local_key: Option<LocalKey>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("token", &self.token.is_some())
            .field("password", &self.password.is_some())
            .field("device_token", &self.device_token.is_some())
            .field("local_key", &self.local_key.is_some())
            .finish()
    }
}

/// What a node says about itself when it connects.
#[derive(Clone, Debug, Default)]
pub struct NodeClaims {
    /// A name for people.
    pub display_name: Option<String>,
    /// Tells programs of one machine apart.
    pub instance_id: Option<String>,
    /// Groups of abilities.
    pub caps: Vec<String>,
    /// Commands that it runs.
    pub commands: Vec<String>,
    /// Where it looks for programs.
    pub path_env: Option<String>,
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions<'a> {
    /// Where to.
    pub endpoint: &'a Endpoint,
    /// As which device.
    pub identity: &'a Identity,
    /// What for.
    pub mode: Mode,
    /// Version of the calling program.
    pub version: &'a str,
    /// What is asked for: the same for every command, so that a machine is paired once.
    pub scopes: ScopeSet,
    /// What it understands beyond the least (`tool-events`: events about tools of a turn); a
    /// node's are in its claims.
    pub caps: &'a [&'a str],
    /// What it declares, where it is a node.
    pub node: Option<NodeClaims>,
    /// SHA-256 of the only certificate that is taken, as text.
    pub tls_fingerprint: Option<&'a str>,
    /// Whether plaintext may go to private addresses.
    pub allow_private_plaintext: bool,
    /// From the first packet to hello-ok.
    pub handshake_within: Duration,
    /// From a request to its answer.
    pub answer_within: Duration,
}

impl<'a> ConnectOptions<'a> {
    /// The ordinary options: mode cli, the constant bundle of scopes, ten seconds each.
    pub fn new(endpoint: &'a Endpoint, identity: &'a Identity, version: &'a str) -> Self {
        Self {
            endpoint,
            identity,
            mode: Mode::Cli,
            version,
            scopes: ScopeSet::owner(),
            caps: &[],
            node: None,
            tls_fingerprint: None,
            allow_private_plaintext: false,
            handshake_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(10),
        }
    }
}

/// How long the parts of a connect took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// TCP and TLS.
    pub connected: Duration,
    /// Until the challenge was there, from the start.
    pub challenged: Duration,
    /// Until hello-ok was there, from the start.
    pub hello: Duration,
}

/// Something that happened at the gateway.
#[derive(Clone, Debug)]
pub struct Event {
    /// Name.
    pub event: String,
    /// Payload.
    pub payload: Value,
    /// Sequence number, absent on targeted events.
    pub seq: Option<u64>,
}

/// An authenticated connection. Dropping it drops the connection; [`Session::close`] says goodbye.
pub struct Session {
    hello: ReceivedHello,
    granted: Granted,
    timings: Timings,
    answer_within: Duration,
    next_id: AtomicU64,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    missed_events: Arc<AtomicU64>,
    closed: Arc<OnceLock<CloseInfo>>,
    /// Owns the driver: it ends with the session.
    driver: JoinSet<()>,
}

impl Session {
    pub(crate) fn start<S>(
        socket: WebSocketStream<S>,
        hello: ReceivedHello,
        requested: &ScopeSet,
        timings: Timings,
        answer_within: Duration,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (outbox, events) = mpsc::channel(EVENTS_MAX);
        let closed = Arc::new(OnceLock::new());
        let missed_events = Arc::new(AtomicU64::new(0));
        let tick_ms = hello.policy.get("tickIntervalMs").and_then(Value::as_u64);
        let driver = Driver::new(
            socket,
            inbox,
            outbox,
            Arc::clone(&missed_events),
            Arc::clone(&closed),
            Duration::from_millis(tick_ms.unwrap_or(frame::TICK_INTERVAL_MS).max(1_000)),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run());
        Self {
            granted: Granted::of(&hello, requested),
            hello,
            timings,
            answer_within,
            next_id: AtomicU64::new(1),
            commands,
            events,
            missed_events,
            closed,
            driver: tasks,
        }
    }

    /// What the gateway said in its hello.
    pub fn hello(&self) -> &ReceivedHello {
        &self.hello
    }

    /// What this session may do.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// How long the connect took.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The wire version spoken.
    pub fn dialect(&self) -> Dialect {
        if self.hello.protocol >= 4 {
            Dialect::V4
        } else {
            Dialect::V3
        }
    }

    /// Whether the gateway lists a method.
    pub fn serves(&self, method: &str) -> bool {
        self.hello
            .features
            .methods
            .iter()
            .any(|name| name == method)
    }

    /// Calls a method. Many calls may be under way at once.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the gateway's error, [`ClientError::Closed`],
    /// [`ClientError::Timeout`].
    pub async fn request(
        &self,
        method: &str,
        params: Option<&Value>,
    ) -> Result<Value, ClientError> {
        self.send(method, params, self.answer_within, false).await
    }

    /// Calls a method of two stages and waits past its `accepted`.
    ///
    /// # Errors
    /// As [`Session::request`].
    pub async fn request_final(
        &self,
        method: &str,
        params: Option<&Value>,
    ) -> Result<Value, ClientError> {
        self.send(method, params, self.answer_within, true).await
    }

    /// The same, where the gateway waits for a person and says itself when that is over.
    ///
    /// # Errors
    /// As [`Session::request`].
    pub async fn request_final_within(
        &self,
        method: &str,
        params: Option<&Value>,
        within: Duration,
    ) -> Result<Value, ClientError> {
        self.send(method, params, within, true).await
    }

    /// The next event; `None` once the connection is gone and every event was taken.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Takes the events out, so that calls can be made while they are awaited. Afterwards
    /// [`Session::next_event`] gives none.
    pub fn take_events(&mut self) -> mpsc::Receiver<Event> {
        let (_, nothing) = mpsc::channel(1);
        std::mem::replace(&mut self.events, nothing)
    }

    /// How the connection ended, once it did.
    pub fn closed(&self) -> Option<&CloseInfo> {
        self.closed.get()
    }

    /// How many events were dropped because nobody took them.
    pub fn missed_events(&self) -> u64 {
        self.missed_events.load(Ordering::Relaxed)
    }

    /// Ends the connection in order, without a close code, within a quarter of a second.
    pub async fn close(mut self) {
        if self.commands.send(Command::Close).await.is_ok() {
            // Past the deadline the driver is dropped with the session.
            drop(timeout(CLOSE_WITHIN, self.driver.join_next()).await);
        }
    }

    async fn send(
        &self,
        method: &str,
        params: Option<&Value>,
        within: Duration,
        expect_final: bool,
    ) -> Result<Value, ClientError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed).to_string();
        let params = params.map(Value::to_string);
        let text = frame::request(&id, method, params.as_deref());
        let (reply, answer) = oneshot::channel();
        let command = Command::Request {
            id,
            text,
            reply,
            expect_final,
        };
        let answered = timeout(within, async {
            self.commands.send(command).await.map_err(|_| self.gone())?;
            answer.await.map_err(|_| self.gone())
        })
        .await
        .map_err(|_| ClientError::Timeout {
            waiting: Waiting::Answer,
            after: within,
        })??;
        answered.map_err(|error| ClientError::Failed {
            method: method.to_owned(),
            error,
        })
    }

    fn gone(&self) -> ClientError {
        ClientError::Closed {
            close: self.closed.get().cloned().unwrap_or_default(),
            after_hello: true,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.hello.server)
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}
