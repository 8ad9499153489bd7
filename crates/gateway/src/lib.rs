//! The daemon as a library: listener, connections, dispatch, owners, lifecycle.
//!
//! Start with [`run`]. A request goes one way: `listen` → `connection` → `handshake` (first
//! frame only) → `dispatch` → `methods` → an owner (`pairing`, `tokens`, `scheduler`) or the
//! store; events leave through the `hub`.

mod agents;
mod approvals;
mod assistant;
mod audit;
mod backup;
mod bulk;
mod clock;
mod config;
mod connection;
mod credentials;
mod diagnosis;
mod disk;
mod dispatch;
mod error;
mod exec_policy;
mod handshake;
mod health;
mod heartbeat;
mod hub;
mod import;
mod lifecycle;
mod listen;
mod load;
mod logs;
mod methods;
mod models;
mod node_host;
mod nodes;
mod notify;
mod outbound;
mod outbox;
mod pairing;
mod presence;
mod preview;
mod prompt;
mod scheduler;
mod settings;
mod skills;
mod standing;
mod state;
mod tokens;
mod tools;
mod transcript;
mod turns;
mod web;
mod websocket;
mod wizard;
mod workspace;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde_json::value::RawValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use agents::{Agent, AgentChange, AgentError, Place, Pruned, Roster, identity_in};
pub use audit::{ExamineOptions, Finding, Mend, Severity, audit};
pub use backup::{
    Asset, BackupError, BackupOptions, BackupReport, Listed, RestoreOptions, Restored, Skipped,
    Verified, backup, list as list_backups, restore as restore_backup, verify as verify_backup,
};
pub use clawgate_agent::sandbox;
pub use clawgate_core::{approval::shown, exec_policy::runs_others};
pub use config::{ConfigError, Issue, redact, validate};
pub use diagnosis::{Diagnosis, diagnose};
pub use exec_policy::{Policy, PolicyError, PolicyFile};
pub use import::{ImportError, ImportOptions, ImportReport, Remark, Tally, import};
pub use lifecycle::{RunOptions, StartError, run};
pub use models::{
    Answered, Choice, Chosen, Described, Model, ModelDefaults, ModelError, Price, Probe,
    ProbeError, choose, find as find_model, key_places, key_source, models, probe as probe_model,
    wants_key,
};
pub use node_host::NodeHost;
pub use preview::{Preview, PreviewSlot, preview};
pub use settings::{
    EditError, FileChange, SecretFinding, audit_secrets, config_schema, config_schema_at,
    edit_config, edited_config, find_secret, parse_config,
};
pub use skills::{managed_dir, report as skill_report};
pub use state::{StateError, stop};
pub use tools::{
    ServerProbe, ServerReached, ServerStanding, ToolServer, configured_servers, probe_server,
};
pub use web::request_path;

/// Version that the gateway tells.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where `set-heartbeats` is kept.
pub(crate) const HEARTBEATS_SETTING: &str = "heartbeats";

/// Whether the gateway takes work; what the readiness probe tells.
#[derive(Debug)]
pub(crate) struct Readiness {
    pub started: Instant,
    pub ready: AtomicBool,
}

/// The running gateway: the owners' handles, and what does not change while it runs.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// What the operator's file says, as last read. A reader keeps what it took.
    pub live: arc_swap::ArcSwap<config::Config>,
    pub settings: settings::Settings,
    pub state: state::StateDir,
    pub store: clawgate_store::Store,
    pub keys: Arc<state::Keys>,
    pub hub: hub::Hub,
    pub pairings: pairing::Pairings,
    pub nodes: nodes::Nodes,
    pub tokens: tokens::ApiTokens,
    pub approvals: approvals::Approvals,
    pub guard: credentials::Guard,
    /// Pages of the web that were read lately.
    pub pages: tools::Pages,
    /// Programs that models run.
    pub processes: clawgate_agent::tools::Processes,
    /// Servers whose tools turns call.
    pub servers: clawgate_agent::mcp::McpServers,
    pub presence: presence::Presence,
    pub health: Arc<health::Health>,
    pub scheduler: scheduler::SchedulerHandle,
    pub turns: turns::Turns,
    pub heartbeats: heartbeat::Heartbeats,
    /// Pages of jobs that were sent.
    pub cron_pages: methods::cron::Pages,
    pub wizards: wizard::Wizards,
    /// How deliveries go out.
    pub delivery_way: Arc<arc_swap::ArcSwap<outbox::Way>>,
    pub web: web::Web,
    pub readiness: Readiness,
    pub pre_hello: listen::PreHello,
    /// Messages that are coming in over sockets, and requests that wait.
    pub incoming: load::Held,
    /// Where long ones of them come in.
    pub bulk: bulk::Bulk,
    /// Bodies that are coming in over HTTP.
    pub bodies: load::Held,
    /// Control-plane writes of callers elsewhere.
    pub write_windows: std::sync::Mutex<clawgate_core::write_limit::WriteWindows>,
    /// Refusals of those who never got a hello.
    pub strangers: logs::Strangers,
    /// Cancelled when the gateway stops taking work.
    pub stopping: CancellationToken,
    /// Every task that serves a peer.
    pub tasks: TaskTracker,
    /// New at every start.
    pub boot_id: String,
    /// `hello-ok.features`, encoded once.
    pub features: Box<RawValue>,
    pub main_session_key: String,
    warned_unattributed: AtomicBool,
}

impl Gateway {
    /// The configuration that holds now.
    pub(crate) fn config(&self) -> Arc<config::Config> {
        self.live.load_full()
    }

    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.readiness.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn default_agent(&self) -> &str {
        self.health.default_agent()
    }

    /// Says once that a proxy stands in front and is not configured.
    pub(crate) fn warn_unattributed(&self) {
        if !self.warned_unattributed.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "a request came through something that forwards, and gateway.trustedProxies is \
                 empty: such callers count as remote. Name the proxy's address in \
                 gateway.trustedProxies, or set gateway.proxy.unattributed to \"refuse\""
            );
        }
    }
}
