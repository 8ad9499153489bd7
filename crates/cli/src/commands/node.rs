//! `node run`: this machine runs commands for a gateway.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use clawgate_client::{
    ClientError, ConnectOptions, Event, Identity, LocalKey, Mode, NodeClaims, Plan, Session,
    TokenStore, open,
};
use clawgate_gateway::NodeHost;
use clawgate_protocol::{
    ScopeSet,
    node::{InvokeRequest, InvokeResultParams},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use super::Context;
use crate::{
    app::{ConnectArgs, secret},
    env,
    error::{CommandError, CommandResult},
    exit::Exit,
    target::Target,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const ROLE: &str = "node";
/// Where programs are looked for when the environment does not say.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between the first failure and the next attempt; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Between two attempts at most.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// While a person has to decide about this node.
const PAUSE_PAIRING: Duration = Duration::from_secs(3);
/// For connecting and for the answer to a result.
const WITHIN: Duration = Duration::from_secs(10);

/// `node`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run commands of a gateway on this machine, until stopped
    #[command(
        after_help = "What may run is decided on this machine: DIR/node/exec-approvals.json, where DIR is\nthe state directory. Without that file nothing runs that nobody approved.\n\nExamples:\n  clawgate node run\n  clawgate node run --host gateway.lan --tls --token TOKEN --display-name kitchen-pi\n  clawgate --state-dir ~/.second node run --port 19001"
    )]
    Run(RunArgs),
}

/// `node run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Host of the gateway (default this machine)
    #[arg(long, value_name = "HOST", conflicts_with = "url")]
    host: Option<String>,
    /// Port of the gateway
    #[arg(long, value_name = "PORT", conflicts_with = "url")]
    port: Option<u16>,
    /// Connect with TLS
    #[arg(long, conflicts_with = "url")]
    tls: bool,
    /// The only certificate that is taken, SHA-256
    #[arg(long, value_name = "SHA256")]
    tls_fingerprint: Option<String>,
    /// Gateway to run commands for (ws:// or wss://)
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Shared token or this node's device token
    #[arg(long, value_name = "TOKEN", value_parser = secret, allow_hyphen_values = true)]
    token: Option<secrecy::SecretString>,
    /// Shared password
    #[arg(long, value_name = "PASSWORD", value_parser = secret, allow_hyphen_values = true)]
    password: Option<secrecy::SecretString>,
    /// Tells several nodes of one machine apart
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// A name for people
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// The original's way to look for a gateway; accepted and not needed
    #[arg(long, hide = true)]
    json: bool,
}

impl NodeCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Run(args) => args.json,
        }
    }
}

pub(crate) async fn run(context: &Context, command: NodeCommand) -> CommandResult {
    match command {
        NodeCommand::Run(args) => serve(context, &args).await,
    }
}

/// Everything that a connect of the node needs.
struct Node {
    target: Target,
    identity: Identity,
    tokens: TokenStore,
    claims: NodeClaims,
    local_key: Option<LocalKey>,
    tls_fingerprint: Option<String>,
}

async fn serve(context: &Context, args: &RunArgs) -> CommandResult {
    let path_env = env::Env::named("PATH").unwrap_or_else(|| PATH_DEFAULT.to_owned());
    // A device of its own: what approves this node does not touch the operator's rights here.
    let directory = context.paths.state_dir.join("node");
    let host = NodeHost::open(&directory, &path_env)
        .map_err(|error| CommandError::config(error.to_string()))?;
    let node = Node::new(context, args, &directory, &host, &path_env)?;
    let host = Arc::new(host);
    context.output.line(format!("node host PATH: {path_env}"))?;
    let mut stop = Stop::watch()?;
    let mut pause = PAUSE_MIN;
    let mut was_here = false;
    let mut told = String::new();
    loop {
        let connected = tokio::select! {
            () = stop.asked() => return Ok(Exit::Ok),
            connected = node.connect() => connected,
        };
        let wait = match connected {
            Ok(session) => {
                (pause, was_here) = (PAUSE_MIN, true);
                told.clear();
                context.output.note(format!(
                    "connected to {} as node {}",
                    node.target.endpoint,
                    node.identity.device_id()
                ));
                let how = tokio::select! {
                    () = stop.asked() => return Ok(Exit::Ok),
                    how = attend(session, &host) => how,
                };
                context.output.note(format!("disconnected ({how})"));
                PAUSE_MIN
            }
            Err(error) => {
                let told_now = match error.pairing_request() {
                    Some(request) => format!(
                        "waits for approval: on the gateway's machine, clawgate devices approve {request}"
                    ),
                    None => error.to_string(),
                };
                // A wrong secret does not become right by waiting; once it was right, it may again.
                if !was_here && is_final(&error) {
                    return Err(CommandError::connect(&error, &[], &node.target));
                }
                if told != told_now {
                    context.output.note(&told_now);
                    told = told_now;
                }
                if error.needs_pairing() {
                    PAUSE_PAIRING
                } else {
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    wait
                }
            }
        };
        tokio::select! {
            () = stop.asked() => return Ok(Exit::Ok),
            () = sleep(wait) => {}
        }
    }
}

fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Endpoint(_) | ClientError::Protocol(_) => true,
        error => error.is_credential_refusal(),
    }
}

impl Node {
    fn new(
        context: &Context,
        args: &RunArgs,
        directory: &Path,
        host: &NodeHost,
        path_env: &str,
    ) -> CommandResult<Self> {
        let identity = Identity::load_or_create(directory)?;
        let tokens = TokenStore::new(directory, identity.device_id());
        let url = match (&args.url, &args.host, args.port) {
            (Some(url), _, _) => Some(url.clone()),
            (None, None, None) if !args.tls => None,
            (None, host, port) => {
                let scheme = if args.tls { "wss" } else { "ws" };
                let host = host.as_deref().unwrap_or("127.0.0.1");
                Some(format!("{scheme}://{host}:{}", port.unwrap_or(18_789)))
            }
        };
        let mut connect = ConnectArgs {
            url,
            token: args.token.clone(),
            password: args.password.clone(),
            ..ConnectArgs::default()
        };
        if connect.url.is_some() && connect.token.is_none() && connect.password.is_none() {
            let named = |names| context.env.first(names).map(|(value, _)| value.into());
            connect.token = named(env::TOKEN);
            connect.password = named(env::PASSWORD);
            if connect.token.is_none() && connect.password.is_none() {
                connect.token = kept(&tokens, connect.url.as_deref().unwrap_or_default());
            }
        }
        let target = Target::resolve(&connect, &context.paths, &context.env)?;
        let local_key = target
            .gateway_state_dirs
            .iter()
            .filter(|_| target.is_loopback())
            .find_map(|dir| LocalKey::load(dir).ok().flatten());
        Ok(Self {
            claims: NodeClaims {
                display_name: Some(args.display_name.clone().unwrap_or_else(machine_name)),
                instance_id: args.node_id.clone(),
                caps: NodeHost::caps(),
                commands: host.commands(),
                path_env: Some(path_env.to_owned()),
            },
            tls_fingerprint: args
                .tls_fingerprint
                .clone()
                .or(target.tls_fingerprint.clone()),
            target,
            identity,
            tokens,
            local_key,
        })
    }

    async fn connect(&self) -> Result<Session, ClientError> {
        let mut options = ConnectOptions::new(&self.target.endpoint, &self.identity, VERSION);
        options.mode = Mode::Node;
        options.scopes = ScopeSet::EMPTY;
        options.node = Some(self.claims.clone());
        options.tls_fingerprint = self.tls_fingerprint.as_deref();
        options.allow_private_plaintext = self.target.allow_private_plaintext;
        options.handshake_within = WITHIN;
        options.answer_within = WITHIN;
        let local = self.target.is_local_default();
        let stored = self.tokens.find(&self.target.endpoint, ROLE, local).ok();
        let secret = |sourced: &Option<crate::target::Sourced>| {
            sourced.as_ref().map(|sourced| sourced.secret.clone())
        };
        let plan = Plan {
            options,
            methods: Vec::new(),
            token: secret(&self.target.token),
            second_token: secret(&self.target.second_token),
            password: secret(&self.target.password),
            asks_about_credential: false,
            stored: stored.flatten(),
            local_key: self.local_key.clone(),
        };
        let opened = open(&plan).await.map_err(|(error, _)| error)?;
        // Losing it costs an approval later, not this connection.
        drop(opened.keep_token(&self.tokens, &plan.options));
        Ok(opened.session)
    }
}

/// The device token that is kept for a gateway.
fn kept(tokens: &TokenStore, url: &str) -> Option<secrecy::SecretString> {
    let endpoint = clawgate_client::Endpoint::parse(url).ok()?;
    let stored = tokens.find(&endpoint, ROLE, false).ok()??;
    Some(stored.token.expose_secret().into())
}

fn machine_name() -> String {
    std::fs::read_to_string("/etc/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "node".to_owned())
}

/// Does what the gateway asks until the connection ends; says how it ended. What still runs then is
/// ended: nobody waits for it.
async fn attend(mut session: Session, host: &Arc<NodeHost>) -> String {
    let events = session.take_events();
    let session = Arc::new(session);
    let mut running = JoinSet::new();
    take_turns(&session, events, host, &mut running).await;
    running.shutdown().await;
    session
        .closed()
        .map_or_else(|| "no reason".to_owned(), ToString::to_string)
}

async fn take_turns(
    session: &Arc<Session>,
    mut events: mpsc::Receiver<Event>,
    host: &Arc<NodeHost>,
    running: &mut JoinSet<String>,
) {
    let mut asked = HashMap::new();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            Some(ended) = running.join_next() => {
                if let Ok(id) = ended {
                    asked.remove(&id);
                }
                continue;
            }
        };
        let Some(event) = event else {
            return;
        };
        match event.event.as_str() {
            "node.invoke.request" => {
                let Ok(request) = serde_json::from_value::<InvokeRequest>(event.payload) else {
                    continue;
                };
                let id = request.id.clone();
                let task = answer(Arc::clone(session), Arc::clone(host), request);
                asked.insert(id, running.spawn(task));
            }
            "node.invoke.cancel" => {
                let id = event.payload["id"].as_str().unwrap_or_default();
                if let Some(task) = asked.remove(id) {
                    task.abort();
                }
            }
            _ => {}
        }
    }
}

async fn answer(session: Arc<Session>, host: Arc<NodeHost>, request: InvokeRequest) -> String {
    let outcome = host
        .answer(&request.command, request.params_json.as_deref())
        .await;
    let (ok, payload_json, error) = match outcome {
        Ok(payload) => (true, Some(payload.to_string()), None),
        Err(fault) => (false, None, Some(fault)),
    };
    let result = json!(InvokeResultParams {
        id: request.id.clone(),
        node_id: request.node_id,
        ok,
        payload: None::<Value>,
        payload_json,
        error,
    });
    // Where the connection is gone, so is whoever waited.
    drop(session.request("node.invoke.result", Some(&result)).await);
    request.id
}

/// What ends the command in order.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn watch() -> CommandResult<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let watch = |kind| {
            signal(kind).map_err(|error| CommandError::internal(format!("no signals: {error}")))
        };
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
