//! From start to stop.
//!
//! Start: take the state directory, read the configuration, open keys and database, bring the
//! scheduler up to date, bind, say ready. Stop (SIGTERM, SIGINT): take no more work, tell every
//! client (`shutdown`, close 1012), let what runs be recorded, close the database.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::{Duration, Instant},
};

use clawgate_core::Method;
use clawgate_protocol::{
    connect::Features,
    event::Event,
    frame::{TICK_INTERVAL_MS, to_json},
};
use clawgate_store::{Fault, Store, StoreError};
use secrecy::SecretString;
use serde_json::{json, value::RawValue};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Gateway, HEARTBEATS_SETTING, Readiness, VERSION,
    approvals::Approvals,
    bulk,
    clock::now_ms,
    config::{Config, ConfigError, Environment, Overrides},
    credentials::Guard,
    disk,
    exec_policy::PolicyFile,
    health::{Glance, Health},
    heartbeat::{self, Heartbeats},
    hub::Hub,
    listen, load, logs,
    nodes::Nodes,
    outbound::Outbound,
    outbox::Outbox,
    pairing::Pairings,
    presence::{Presence, SelfEntry},
    scheduler,
    settings::{Settings, Sources, Stamp},
    state::{Keys, StateDir, StateError},
    tokens::ApiTokens,
    turns::Turns,
    web,
};

/// How often the health snapshot is rebuilt and sent.
const HEALTH_EVERY: Duration = Duration::from_secs(60);
/// How long peers may take to go when the gateway stops.
const DRAIN: Duration = Duration::from_secs(2);

/// What `clawgate gateway run` is told.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The configuration file; it need not exist.
    pub config_path: PathBuf,
    /// Stands above `gateway.port`. 0 lets the system choose.
    pub port: Option<u16>,
    /// Stands above `gateway.bind`.
    pub bind: Option<String>,
    /// Stands above `gateway.auth.mode`.
    pub auth: Option<String>,
    /// Stands above `gateway.auth.token`.
    pub token: Option<SecretString>,
    /// Stands above `gateway.auth.password`.
    pub password: Option<SecretString>,
    /// The environment's token, used when neither flag nor file names one.
    pub environment_token: Option<SecretString>,
    /// The environment's password, likewise.
    pub environment_password: Option<SecretString>,
    /// Debug lines in the log.
    pub verbose: bool,
}

/// Why the gateway does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The state directory cannot be used.
    #[error("{0}")]
    State(#[from] StateError),
    /// The database cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The log cannot be written.
    #[error("the log directory {path} cannot be used: {source}")]
    Logs {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The port cannot be had.
    #[error("port {port} cannot be had: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// The system's words.
        source: std::io::Error,
    },
    /// The runtime or a signal handler cannot be had.
    #[error("the runtime cannot start: {0}")]
    Runtime(std::io::Error),
}

impl StartError {
    /// 78 for configuration, as `sysexits.h` has it; 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::State(_)
            | Self::Store(_)
            | Self::Logs { .. }
            | Self::Listen { .. }
            | Self::Runtime(_) => 1,
        }
    }

    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => Some(format!(
                "check it with: clawgate config validate --config {}",
                error.file.display()
            )),
            Self::State(StateError::Held { .. }) => {
                Some("stop the other gateway, or use another --state-dir".to_owned())
            }
            Self::Listen { port, .. } => Some(format!(
                "stop what listens on {port}, or use another --port"
            )),
            Self::State(StateError::Io { source, path, .. }) | Self::Logs { source, path } => {
                of_disk(source, path)
            }
            Self::State(StateError::DatabaseGone { .. }) => Some(RESTORE.to_owned()),
            Self::Store(error) => match error {
                StoreError::TooNew { .. } => {
                    Some("use the version of clawgate that wrote it, or a newer one".to_owned())
                }
                StoreError::Unusable { .. } | StoreError::Inconsistent { .. } => {
                    Some(RESTORE.to_owned())
                }
                error => match error.fault() {
                    Some(Fault::Full) => {
                        Some("make room where the state directory lies: df -h".to_owned())
                    }
                    Some(Fault::Refused | Fault::Unsynced) => Some(
                        "see whether the disk is read only or fails: findmnt, dmesg".to_owned(),
                    ),
                    Some(Fault::Damaged) => Some(RESTORE.to_owned()),
                    None => None,
                },
            },
            Self::State(_) | Self::Runtime(_) => None,
        }
    }
}

/// What to do about a state that is not whole.
const RESTORE: &str = "look at it with: clawgate doctor --deep; bring it back with: clawgate backup restore ARCHIVE --force";

/// The next thing to try with a file that the system refuses.
fn of_disk(error: &std::io::Error, path: &std::path::Path) -> Option<String> {
    let path = path.display();
    match (disk::fault_of(error), error.kind()) {
        (Some(Fault::Full), _) => Some(format!("make room: df -h {path}")),
        (Some(_), _) => Some(format!(
            "see whether the disk is read only or fails: findmnt --target {path}; or use another --state-dir"
        )),
        (None, std::io::ErrorKind::PermissionDenied) => Some(format!(
            "see whose it is: ls -ld {path}; or use another --state-dir"
        )),
        (None, _) => None,
    }
}

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn run(options: &RunOptions) -> Result<(), StartError> {
    let started = Instant::now();
    // Whatever is made from here on, logs among it, is closed to other users.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let state = StateDir::hold(&options.state_dir)?;
    let sources = sources(options);
    let stamp = Stamp::of(&sources.path);
    let config = sources.load()?;
    let log_guard =
        logs::start(&state.logs(), options.verbose).map_err(|source| StartError::Logs {
            path: state.logs(),
            source,
        })?;
    for issue in &config.snapshot.warnings {
        tracing::warn!(path = %issue.path, "configuration: {}", issue.message);
    }
    leave_no_dumps();
    listen::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)))
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let outcome = runtime.block_on(serve(state, (sources, stamp, config), started));
    runtime.shutdown_timeout(Duration::from_secs(1));
    // Whatever did not end in time may still hold it: it is closed all the same, and leaves one file.
    let outcome = outcome.map(|store| store.close());
    drop(log_guard);
    outcome
}

/// A crash leaves no file with secrets in it, nor do those of what is started from here. One byte and not
/// none: dumps that go to a program are made whatever the limit, except for that one.
fn leave_no_dumps() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Core);
    limit.current = Some(limit.maximum.map_or(1, |most| most.min(1)));
    if let Err(error) = setrlimit(Resource::Core, limit) {
        tracing::warn!(%error, "a crash could leave a core dump with secrets in it");
    }
}

fn sources(options: &RunOptions) -> Sources {
    Sources {
        path: options.config_path.clone(),
        state_dir: options.state_dir.clone(),
        overrides: Overrides {
            port: options.port,
            bind: options.bind.clone(),
            auth: options.auth.clone(),
            token: options.token.clone(),
            password: options.password.clone(),
        },
        environment: Environment {
            token: options.environment_token.clone(),
            password: options.environment_password.clone(),
        },
    }
}

async fn serve(
    state: StateDir,
    (sources, stamp, config): (Sources, Stamp, Config),
    started: Instant,
) -> Result<Store, StartError> {
    // Signals are watched from the first moment, so that an early SIGTERM is not lost.
    let mut signals = Signals::watch().map_err(StartError::Runtime)?;
    let listeners = listen::bind(&config.bind.addresses(), config.port).map_err(|source| {
        StartError::Listen {
            port: config.port,
            source,
        }
    })?;
    let address = listeners
        .first()
        .and_then(|listener| listener.local_addr().ok())
        .map_or_else(String::new, |address| address.to_string());
    state.announce(&format!("ws://{address}"));
    let (heart, heartbeats) = heartbeat::open();
    let (gateway, mut scheduler, outbox) =
        open(state, (sources, stamp, config), started, heartbeats)?;
    scheduler.take_turns_of(&gateway);
    gateway
        .tasks
        .spawn(outbox.run(gateway.stopping.child_token()));
    let scheduling = gateway
        .tasks
        .spawn(scheduler.run(gateway.stopping.child_token()));
    gateway.readiness.ready.store(true, Ordering::Release);
    let mut accepting = Vec::with_capacity(listeners.len());
    for listener in listeners {
        accepting.push(tokio::spawn(listen::run(Arc::clone(&gateway), listener)));
    }
    let beat = tokio::spawn(beat(Arc::clone(&gateway)));
    let manager = crate::notify::Manager::of_environment();
    manager.ready(&format!("ws://{address}"));
    let watched = tokio::spawn(manager.clone().watch(Arc::clone(&gateway)));
    tracing::info!(
        url = %format!("ws://{address}"), auth = gateway.config().auth.mode(), version = VERSION,
        state = %gateway.state.path().display(), jobs = gateway.scheduler.job_count(),
        start_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "listening"
    );

    gateway.tasks.spawn(disk::watch(Arc::clone(&gateway)));
    gateway.tasks.spawn(Arc::clone(&gateway).watch_settings());
    let beating = Arc::clone(&gateway);
    gateway
        .tasks
        .spawn(heart.run(beating, gateway.stopping.child_token()));
    // Whoever waits for the first hello does not wait for this.
    let (state, boot_id) = (gateway.state.path().to_owned(), gateway.boot_id.clone());
    gateway
        .tasks
        .spawn_blocking(move || crate::tools::end_leftovers(&state, &boot_id));
    let resuming = Arc::clone(&gateway);
    gateway
        .tasks
        .spawn(async move { resuming.resume_turns().await });
    let mut scheduling = scheduling;
    let signal = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                "SIGHUP" => {
                    let gateway = Arc::clone(&gateway);
                    let tasks = gateway.tasks.clone();
                    tasks.spawn(async move { gateway.reload_settings_soon("SIGHUP").await });
                }
                signal => break signal,
            },
            ended = &mut scheduling => {
                tracing::error!(panicked = ended.is_err(), "the scheduler ended by itself; stopping");
                break "failure";
            }
        }
    };
    tracing::info!(signal, "stopping");
    manager.stopping();
    stop(&gateway).await;
    beat.abort();
    watched.abort();
    for task in accepting {
        let _ = task.await;
    }
    tracing::info!("stopped");
    Ok(gateway.store.clone())
}

/// Opens everything that a gateway consists of.
fn open(
    state: StateDir,
    (sources, stamp, config): (Sources, Stamp, Config),
    started: Instant,
    heartbeats: Heartbeats,
) -> Result<(Arc<Gateway>, scheduler::Scheduler, Outbox), StartError> {
    state.expect_database()?;
    // At a first start both wait for the disk; side by side they wait once.
    let (keys, store) = std::thread::scope(|scope| {
        let keys = scope.spawn(|| Keys::open(&state));
        let store = Store::open(&state.database());
        (keys.join().expect("opening keys does not panic"), store)
    });
    let (keys, store) = (Arc::new(keys?), store?);
    let hub = Hub::default();
    let pairings = Pairings::open(&store, &hub, &keys)?;
    let nodes = Nodes::open(&store, &hub, &keys)?;
    let tokens = ApiTokens::open(&store, &hub)?;
    let approvals = Approvals::new(&store, &hub, PolicyFile::of(state.path()));
    let beats = store
        .read_blocking(|db| db.setting(HEARTBEATS_SETTING))?
        .map(|value| value == "on");
    let sessions = store.path().display().to_string();
    let glance = store.read_blocking(Glance::take)?;
    let health = Arc::new(Health::new(&config, sessions, glance, beats, now_ms()));
    let main_session_key = format!("agent:{}:main", health.default_agent());
    let boot_id = uuid::Uuid::new_v4().to_string();
    let told = Arc::clone(&health);
    let outbox = Outbox::new(
        &store,
        &hub,
        Outbound::new(config.cron.dial.clone()),
        config.cron.webhook_token.clone(),
    );
    let (scheduler, handle) = scheduler::open(
        &store,
        &hub,
        &config.cron,
        &boot_id,
        &main_session_key,
        Arc::new(move || told.status_changed()),
        outbox.waker(),
    )?;
    let readiness = Readiness {
        started,
        ready: AtomicBool::new(false),
    };
    let processes = crate::tools::processes(state.path(), &boot_id);
    let servers = crate::tools::servers(state.path(), &boot_id);
    let gateway = Arc::new(Gateway {
        processes,
        servers,
        pages: crate::tools::Pages::default(),
        guard: Guard::new(config.rate_limit),
        presence: Presence::new(SelfEntry::of_this_machine(VERSION)),
        web: web::Web::default(),
        pre_hello: listen::PreHello::default(),
        incoming: load::Held::of_at_most(load::INCOMING_BYTES_MAX),
        bulk: bulk::Bulk::default(),
        bodies: load::Held::of_at_most(load::BODIES_BYTES_MAX),
        write_windows: std::sync::Mutex::default(),
        strangers: logs::Strangers::default(),
        stopping: CancellationToken::new(),
        tasks: TaskTracker::new(),
        features: features(),
        warned_unattributed: AtomicBool::new(false),
        scheduler: handle,
        turns: Turns::new(&config.snapshot.parsed),
        heartbeats,
        cron_pages: crate::methods::cron::Pages::default(),
        wizards: crate::wizard::Wizards::default(),
        delivery_way: outbox.way(),
        settings: Settings::new(sources, stamp, &config),
        live: arc_swap::ArcSwap::from_pointee(config),
        state,
        store,
        keys,
        hub,
        pairings,
        nodes,
        tokens,
        approvals,
        health,
        readiness,
        boot_id,
        main_session_key,
    });
    Ok((gateway, scheduler, outbox))
}

/// A gateway without a listener, over a state directory, with its scheduler running; for tests of
/// what is inside.
#[cfg(test)]
pub(crate) fn without_listener(state_dir: &std::path::Path) -> Arc<Gateway> {
    let sources = sources(&RunOptions {
        state_dir: state_dir.to_owned(),
        config_path: state_dir.join("clawgate.json"),
        ..RunOptions::default()
    });
    let stamp = Stamp::of(&sources.path);
    let config = sources.load().expect("the configuration reads");
    let state = StateDir::hold(state_dir).expect("the directory can be held");
    let opened = open(
        state,
        (sources, stamp, config),
        Instant::now(),
        heartbeat::open().1,
    );
    let (gateway, scheduler, _outbox) = opened.expect("it opens");
    gateway
        .tasks
        .spawn(scheduler.run(gateway.stopping.child_token()));
    gateway
}

/// `hello-ok.features`: exactly what is served.
fn features() -> Box<RawValue> {
    let features = Features {
        methods: Method::ALL
            .iter()
            .map(|method| method.spec())
            .filter(|spec| spec.advertised)
            .map(|spec| spec.name.to_owned())
            .collect(),
        events: Event::ALL
            .iter()
            .map(|event| event.name().to_owned())
            .collect(),
    };
    RawValue::from_string(to_json(&features)).expect("encoded by serde_json")
}

/// Ticks and health snapshots, for as long as the gateway runs.
async fn beat(gateway: Arc<Gateway>) {
    let tick = Duration::from_millis(TICK_INTERVAL_MS);
    let start = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval_at(start + tick, tick);
    let mut healths = tokio::time::interval_at(start + HEALTH_EVERY, HEALTH_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    healths.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = gateway.stopping.cancelled() => return,
            _ = ticks.tick() => {
                let payload = json!({"ts": now_ms()}).to_string();
                gateway.hub.publish(Event::Tick, &payload, None);
                gateway.strangers.tell_rest(Instant::now());
                if let Err(error) = gateway.pairings.expire().await {
                    tracing::warn!(%error, "pairing requests did not expire in time");
                }
                if let Err(error) = gateway.nodes.expire().await {
                    tracing::warn!(%error, "requests of nodes did not expire in time");
                }
            }
            _ = healths.tick() => {
                gateway.look_at_sessions().await;
                gateway.health.refresh(now_ms());
                gateway.publish_health();
            }
        }
    }
}

async fn stop(gateway: &Arc<Gateway>) {
    gateway.readiness.ready.store(false, Ordering::Release);
    // Before anybody is told: a session that begins from now on sees it and ends by itself.
    gateway.stopping.cancel();
    // Wire 4 leaves out what is not expected.
    let v3 = json!({"reason": "gateway stopping", "restartExpectedMs": null}).to_string();
    let v4 = json!({"reason": "gateway stopping"}).to_string();
    gateway
        .hub
        .publish_each(Event::Shutdown, Some(&v3), &v4, None);
    gateway.hub.close_all(1012, "service restart");
    gateway.processes.stop().await;
    gateway.servers.stop().await;
    gateway.tasks.close();
    if tokio::time::timeout(DRAIN, gateway.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            sessions = gateway.hub.len(),
            "some peers did not go in time"
        );
    }
}

/// The signals that end a gateway, and the one that has it read its configuration anew.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
