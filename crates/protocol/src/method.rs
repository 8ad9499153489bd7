//! The method table: every method that the gateway serves, who may call it in which
//! dialect, whether `hello-ok` lists it, and what its params look like.
//!
//! It is the only such table. The gateway dispatches by [`Method`], the command line asks it
//! what a command needs before connecting, `hello-ok.features.methods` is printed from it.
//! A name that is not here needs the original's scope for it, `operator.admin` where the original
//! does not know it either, and is then answered `unknown method`.

use crate::{
    agent, approval, channel, chat, config, cron, device,
    error::Dialect,
    node,
    scope::Scope,
    session,
    shape::{Field, NON_EMPTY, Shape, optional, required, since_v4},
    skill, system, unserved, update, usage, voice, wizard,
};

/// Who may call a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any authenticated session, even one without scopes, of either role.
    AnySession,
    /// An operator whose scopes cover this one.
    Scope(Scope),
    /// The node role.
    Node,
    /// The first frame alone.
    Handshake,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name on the wire.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Who may call it on wire version 3.
    pub v3: Access,
    /// Who may call it on wire version 4.
    pub v4: Access,
    /// Whether `hello-ok.features.methods` lists it.
    pub advertised: bool,
    /// How often a caller elsewhere may make it.
    pub control_write: ControlWrite,
    /// What params must look like; `None` where the original does not look.
    pub params: Option<Shape>,
}

/// Whether a method is a control-plane write, of which a caller elsewhere may make few in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlWrite {
    /// It is none.
    Free,
    /// Counted on wire 4, each method apart.
    Limited,
    /// The same, and on wire 3 counted together with all others of this kind, of which it allows
    /// fewer.
    Scarce,
}

impl Spec {
    /// Who may call it in a dialect.
    pub fn access(&self, dialect: Dialect) -> &Access {
        match dialect {
            Dialect::V3 => &self.v3,
            Dialect::V4 => &self.v4,
        }
    }
}

macro_rules! access {
    (any) => {
        Access::AnySession
    };
    (node) => {
        Access::Node
    };
    (handshake) => {
        Access::Handshake
    };
    (read) => {
        Access::Scope(Scope::READ)
    };
    (write) => {
        Access::Scope(Scope::WRITE)
    };
    (admin) => {
        Access::Scope(Scope::ADMIN)
    };
    (pairing) => {
        Access::Scope(Scope::PAIRING)
    };
    (talk) => {
        Access::Scope(Scope::TALK)
    };
    (approvals) => {
        Access::Scope(Scope::APPROVALS)
    };
}

macro_rules! control_write {
    (free) => {
        ControlWrite::Free
    };
    (limited) => {
        ControlWrite::Limited
    };
    (scarce) => {
        ControlWrite::Scarce
    };
}

macro_rules! methods {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $v3:ident / $v4:ident, $advertised:literal, $limit:ident, $params:expr;)*) => {
        /// A method that the gateway serves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Method {
            /// Every method in the order in which `hello-ok` lists them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The method of that name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its row.
            pub fn spec(self) -> &'static Spec {
                &TABLE[self as usize]
            }
        }

        static TABLE: &[Spec] = &[
            $(Spec {
                name: $name,
                about: concat!($($doc),*).trim_ascii(),
                v3: access!($v3),
                v4: access!($v4),
                advertised: $advertised,
                control_write: control_write!($limit),
                params: $params,
            },)*
        ];
    };
}

const NOTHING: &[Field] = &[];
const NO_PARAMS: Option<Shape> = Some(Shape::Object(NOTHING));
const ONE: i64 = 1;

const LOGS_TAIL: &[Field] = &[
    optional(
        "cursor",
        Shape::Int {
            min: 0,
            max: i64::MAX,
        },
    ),
    optional(
        "limit",
        Shape::Int {
            min: ONE,
            max: 5_000,
        },
    ),
    optional(
        "maxBytes",
        Shape::Int {
            min: ONE,
            max: 1_000_000,
        },
    ),
];
const MODELS_LIST: &[Field] = &[
    since_v4("agentId", NON_EMPTY),
    since_v4("includeProviderCapabilities", Shape::Bool),
    since_v4("preparedOnly", Shape::Bool),
    since_v4("refresh", Shape::Bool),
    since_v4(
        "view",
        Shape::OneOf(&["default", "configured", "provider-config", "all"]),
    ),
];
const TOKENS_CREATE: &[Field] = &[
    required("name", Shape::Str { min: 1, max: 64 }),
    required(
        "scopes",
        Shape::List {
            of: &NON_EMPTY,
            min: 1,
            max: 32,
        },
    ),
    optional(
        "expiresInMs",
        Shape::Int {
            min: 1_000,
            max: 10 * 365 * 24 * 3_600_000,
        },
    ),
];
const TOKENS_REVOKE: &[Field] = &[required("name", NON_EMPTY)];

methods! {
    /// The health snapshot; the one method that needs no scope.
    Health = "health", any / any, true, free, None;
    /// A slice of the log file.
    LogsTail = "logs.tail", read / read, true, free, Some(Shape::Object(LOGS_TAIL));
    /// The operator's summary.
    Status = "status", read / read, true, free, None;
    /// The configuration with secrets masked.
    ConfigGet = "config.get", read / read, true, free, NO_PARAMS;
    /// Replaces the configuration.
    ConfigSet = "config.set", admin / admin, true, limited, Some(Shape::Object(config::SET));
    /// Replaces the configuration; the original restarts after it.
    ConfigApply = "config.apply", admin / admin, true, scarce, Some(Shape::Object(config::APPLY));
    /// Merges a patch into the configuration.
    ConfigPatch = "config.patch", admin / admin, true, scarce, Some(Shape::Object(config::PATCH));
    /// What a configuration may hold.
    ConfigSchema = "config.schema", admin / read, true, free, NO_PARAMS;
    /// One place of it.
    ConfigSchemaLookup = "config.schema.lookup", read / read, true, free, Some(Shape::Object(config::SCHEMA_LOOKUP));
    /// Opens the file where the gateway runs.
    ConfigOpenFile = "config.openFile", admin / admin, false, free, NO_PARAMS;
    /// Resolves secret references anew.
    SecretsReload = "secrets.reload", admin / admin, true, free, None;
    /// Hands resolved references to a command on this machine.
    SecretsResolve = "secrets.resolve", admin / admin, true, free, None;
    /// The exec approval policy of this host.
    ExecApprovalsGet = "exec.approvals.get", admin / admin, true, free, NO_PARAMS;
    /// Replaces it.
    ExecApprovalsSet = "exec.approvals.set", admin / admin, true, free, Some(Shape::Object(approval::FILE_SET));
    /// The same of a node.
    ExecApprovalsNodeGet = "exec.approvals.node.get", admin / admin, true, free, Some(Shape::Object(approval::NODE_GET));
    /// Replaces a node's.
    ExecApprovalsNodeSet = "exec.approvals.node.set", admin / admin, true, free, Some(Shape::Object(approval::NODE_SET));
    /// Asks for a command to be let run, and waits for the decision.
    ExecApprovalRequest = "exec.approval.request", approvals / approvals, true, free, Some(Shape::Object(approval::REQUEST));
    /// Waits for the decision of a request that stands.
    ExecApprovalWaitDecision = "exec.approval.waitDecision", approvals / approvals, true, free, None;
    /// Decides a request.
    ExecApprovalResolve = "exec.approval.resolve", approvals / approvals, true, free, Some(Shape::Object(approval::RESOLVE));
    /// One request that waits.
    ExecApprovalGet = "exec.approval.get", approvals / approvals, true, free, Some(Shape::Object(approval::ID));
    /// Every request that waits.
    ExecApprovalList = "exec.approval.list", approvals / approvals, true, free, NO_PARAMS;
    /// One approval, whatever became of it.
    ApprovalGet = "approval.get", approvals / approvals, true, free, Some(Shape::Object(approval::ID));
    /// Decides one; tells how it was decided where somebody was quicker.
    ApprovalResolve = "approval.resolve", approvals / approvals, true, free, Some(Shape::Object(approval::SNAPSHOT_RESOLVE));
    /// Approvals that ended.
    ApprovalHistory = "approval.history", approvals / approvals, true, free, Some(Shape::Object(approval::HISTORY));
    /// Configured models.
    ModelsList = "models.list", read / read, true, free, Some(Shape::Object(MODELS_LIST));
    /// Configured agents.
    AgentsList = "agents.list", read / read, true, free, NO_PARAMS;
    /// Adds an agent to the configuration and makes its workspace.
    AgentsCreate = "agents.create", admin / admin, true, free, Some(Shape::Object(agent::CREATE));
    /// Changes an agent.
    AgentsUpdate = "agents.update", admin / admin, true, free, Some(Shape::Object(agent::UPDATE));
    /// Removes an agent.
    AgentsDelete = "agents.delete", admin / admin, true, free, Some(Shape::Object(agent::DELETE));
    /// The files of a workspace that the wire knows.
    AgentsFilesList = "agents.files.list", read / read, true, free, Some(Shape::Object(agent::FILES_LIST));
    /// One of them.
    AgentsFilesGet = "agents.files.get", read / read, true, free, Some(Shape::Object(agent::FILES_GET));
    /// Writes one of them.
    AgentsFilesSet = "agents.files.set", admin / admin, true, free, Some(Shape::Object(agent::FILES_SET));
    /// Who an agent is.
    AgentIdentityGet = "agent.identity.get", read / read, true, free, Some(Shape::Object(agent::IDENTITY_GET));
    /// A turn of an agent.
    Agent = "agent", write / write, true, free, Some(Shape::Object(agent::RUN));
    /// Waits for the end of a turn.
    AgentWait = "agent.wait", write / write, true, free, Some(Shape::Object(agent::WAIT));
    /// A turn of a chat.
    ChatSend = "chat.send", write / write, true, free, Some(Shape::Object(agent::CHAT_SEND));
    /// Ends turns of a chat.
    ChatAbort = "chat.abort", write / write, true, free, Some(Shape::Object(agent::CHAT_ABORT));
    /// The tools that agents have.
    ToolsCatalog = "tools.catalog", read / read, true, free, Some(Shape::Object(agent::TOOLS_CATALOG));
    /// Skills, and what they lack.
    SkillsStatus = "skills.status", read / read, true, free, Some(Shape::Object(agent::OF_AGENT));
    /// Programs that skills want, for nodes.
    SkillsBins = "skills.bins", node / node, true, free, NO_PARAMS;
    /// Runs an installer of a skill; there is none.
    SkillsInstall = "skills.install", admin / admin, false, free, Some(Shape::Object(skill::INSTALL));
    /// Turns a skill on or off and gives it its key.
    SkillsUpdate = "skills.update", admin / admin, true, free, Some(Shape::Object(skill::UPDATE));
    /// Channels and their accounts: none.
    ChannelsStatus = "channels.status", read / read, true, free, Some(Shape::Object(channel::STATUS));
    /// Logs a channel out; there is none.
    ChannelsLogout = "channels.logout", admin / admin, false, free, Some(Shape::Object(channel::LOGOUT));
    /// Logs a channel in by a picture; there is none.
    WebLoginStart = "web.login.start", admin / admin, false, free, Some(Shape::Object(channel::LOGIN_START));
    /// Waits for that.
    WebLoginWait = "web.login.wait", admin / admin, false, free, Some(Shape::Object(channel::LOGIN_WAIT));
    /// Sends a message through a channel; there is none.
    Send = "send", write / write, false, free, Some(Shape::Object(channel::SEND));
    /// Sends a poll through a channel; there is none.
    Poll = "poll", write / write, false, free, Some(Shape::Object(channel::POLL));
    /// Sends a test push to a node; no push service is there.
    PushTest = "push.test", write / write, false, free, Some(Shape::Object(channel::PUSH_TEST));
    /// Controls a browser; there is none.
    BrowserRequest = "browser.request", write / write, false, free, None;
    /// Speech: off.
    TtsStatus = "tts.status", read / read, false, free, None;
    /// Services that speak: none.
    TtsProviders = "tts.providers", read / read, false, free, None;
    /// Turns speech on; refused.
    TtsEnable = "tts.enable", write / write, false, free, None;
    /// Turns speech off, which it is.
    TtsDisable = "tts.disable", write / write, false, free, None;
    /// Speaks a text; refused.
    TtsConvert = "tts.convert", write / write, false, free, None;
    /// Chooses who speaks; refused.
    TtsSetProvider = "tts.setProvider", write / write, false, free, None;
    /// What apps need to know to talk.
    TalkConfig = "talk.config", read / read, true, free, Some(Shape::Object(voice::TALK_CONFIG));
    /// Tells the others that somebody talks.
    TalkMode = "talk.mode", write / talk, true, free, Some(Shape::Object(voice::TALK_MODE));
    /// Whether memory search works: it is not there.
    DoctorMemoryStatus = "doctor.memory.status", read / read, true, free, None;
    /// How this program is updated; changes nothing.
    UpdateRun = "update.run", admin / admin, true, scarce, Some(Shape::Object(update::RUN));
    /// Begins the onboarding wizard.
    WizardStart = "wizard.start", admin / admin, true, free, Some(Shape::Object(wizard::START));
    /// Answers its step.
    WizardNext = "wizard.next", admin / admin, true, free, Some(Shape::Object(wizard::NEXT));
    /// Ends it without a change.
    WizardCancel = "wizard.cancel", admin / admin, true, free, Some(Shape::Object(wizard::SESSION));
    /// How it stands.
    WizardStatus = "wizard.status", admin / admin, true, free, Some(Shape::Object(wizard::SESSION));
    /// Sessions, newest first.
    SessionsList = "sessions.list", read / read, true, free, Some(Shape::Object(session::LIST));
    /// Beginnings of conversations.
    SessionsPreview = "sessions.preview", read / read, true, free, Some(Shape::Object(session::PREVIEW));
    /// Creates a session or changes its settings.
    SessionsPatch = "sessions.patch", admin / write, true, free, Some(Shape::Object(session::PATCH));
    /// Begins a session's conversation anew.
    SessionsReset = "sessions.reset", admin / admin, true, free, Some(Shape::Object(session::RESET));
    /// Removes a session and puts its conversation away.
    SessionsDelete = "sessions.delete", admin / admin, true, free, Some(Shape::Object(session::DELETE));
    /// Cuts a conversation to its last entries.
    SessionsCompact = "sessions.compact", admin / admin, true, free, Some(Shape::Object(session::COMPACT));
    /// Puts away sessions that nobody touched, and erases what was put away long ago.
    SessionsCleanup = "sessions.cleanup", admin / admin, true, free, Some(Shape::Object(session::CLEANUP));
    /// Messages as they are kept.
    SessionsGet = "sessions.get", read / read, false, free, None;
    /// The key of a session by its key, id or label.
    SessionsResolve = "sessions.resolve", read / read, false, free, Some(Shape::Object(session::RESOLVE));
    /// Wire 4's: one row of the list.
    SessionsDescribe = "sessions.describe", read / read, true, free, Some(Shape::Object(session::DESCRIBE));
    /// Wire 4's: makes a session.
    SessionsCreate = "sessions.create", write / write, true, free, Some(Shape::Object(session::CREATE));
    /// Wire 4's: messages in which words stand.
    SessionsSearch = "sessions.search", read / read, true, free, Some(Shape::Object(session::SEARCH));
    /// Wire 4's: this connection hears of changed sessions.
    SessionsSubscribe = "sessions.subscribe", read / read, true, free, None;
    /// Wire 4's: this connection hears of a session's messages.
    SessionsMessagesSubscribe = "sessions.messages.subscribe", read / read, true, free, Some(Shape::Object(session::MESSAGES_SUBSCRIBE));
    /// Wire 4's: it hears of them no more.
    SessionsMessagesUnsubscribe = "sessions.messages.unsubscribe", read / read, true, free, Some(Shape::Object(session::MESSAGES_UNSUBSCRIBE));
    /// clawgate's own: a conversation in the original's file format, by pages.
    SessionsExport = "sessions.export", admin / admin, true, free, Some(Shape::Object(session::EXPORT));
    /// clawgate's own: a conversation from the original's file format.
    SessionsImport = "sessions.import", admin / admin, true, free, Some(Shape::Object(session::IMPORT));
    /// What sessions used.
    SessionsUsage = "sessions.usage", read / read, false, free, Some(Shape::Object(usage::SESSIONS));
    /// What one session used, over time.
    SessionsUsageTimeseries = "sessions.usage.timeseries", read / read, false, free, None;
    /// What was said in one session, with what it used.
    SessionsUsageLogs = "sessions.usage.logs", read / read, false, free, None;
    /// Quota windows of providers.
    UsageStatus = "usage.status", read / read, true, free, None;
    /// What was used by day.
    UsageCost = "usage.cost", read / read, true, free, None;
    /// The last messages of a session, as clients show them.
    ChatHistory = "chat.history", read / read, true, free, Some(Shape::Object(chat::HISTORY));
    /// Puts a message of the agent into a session.
    ChatInject = "chat.inject", admin / admin, false, free, Some(Shape::Object(chat::INJECT));
    /// Wire 4's: one message in full.
    ChatMessageGet = "chat.message.get", read / read, true, free, Some(Shape::Object(chat::MESSAGE_GET));
    /// The last heartbeat, or null.
    LastHeartbeat = "last-heartbeat", read / read, true, free, None;
    /// Turns heartbeats on or off.
    SetHeartbeats = "set-heartbeats", admin / admin, true, free, None;
    /// Queues a system event for the main session.
    Wake = "wake", write / write, true, free, Some(Shape::Object(system::WAKE));
    /// Wake words.
    VoicewakeGet = "voicewake.get", read / read, true, free, None;
    /// Replaces the wake words.
    VoicewakeSet = "voicewake.set", write / write, true, free, None;
    /// Files a request in the older node store.
    NodePairRequest = "node.pair.request", pairing / pairing, true, free, Some(Shape::Object(node::PAIR_REQUEST));
    /// Nodes and commands that wait for approval, and nodes of the older store.
    NodePairList = "node.pair.list", pairing / pairing, true, free, NO_PARAMS;
    /// Approves a node, or what a node declares.
    NodePairApprove = "node.pair.approve", pairing / pairing, true, free, Some(Shape::Object(node::REQUEST_ID));
    /// Rejects the same.
    NodePairReject = "node.pair.reject", pairing / pairing, true, free, Some(Shape::Object(node::REQUEST_ID));
    /// Checks a token of the older node store.
    NodePairVerify = "node.pair.verify", pairing / pairing, true, free, Some(Shape::Object(node::VERIFY));
    /// Takes back what was approved for a node.
    NodePairRemove = "node.pair.remove", pairing / pairing, true, free, Some(Shape::Object(node::NODE_ID));
    /// Pending and paired devices.
    DevicePairList = "device.pair.list", pairing / pairing, true, free, NO_PARAMS;
    /// Approves a pending device.
    DevicePairApprove = "device.pair.approve", pairing / pairing, true, free, Some(Shape::Object(device::REQUEST_ID));
    /// Rejects a pending device.
    DevicePairReject = "device.pair.reject", pairing / pairing, true, free, Some(Shape::Object(device::REQUEST_ID));
    /// Removes a paired device.
    DevicePairRemove = "device.pair.remove", pairing / pairing, true, free, Some(Shape::Object(device::DEVICE_ID));
    /// Replaces a device's token.
    DeviceTokenRotate = "device.token.rotate", pairing / pairing, true, free, Some(Shape::Object(device::TOKEN_ROTATE));
    /// Revokes a device's token.
    DeviceTokenRevoke = "device.token.revoke", pairing / pairing, true, free, Some(Shape::Object(device::TOKEN_REVOKE));
    /// Names a node.
    NodeRename = "node.rename", pairing / pairing, true, free, Some(Shape::Object(node::RENAME));
    /// Known nodes.
    NodeList = "node.list", read / read, true, free, NO_PARAMS;
    /// One node.
    NodeDescribe = "node.describe", read / read, true, free, Some(Shape::Object(node::NODE_ID));
    /// What a node is to do when it looks.
    NodePendingDrain = "node.pending.drain", node / node, true, free, Some(Shape::Object(node::DRAIN));
    /// Leaves something for a node to do.
    NodePendingEnqueue = "node.pending.enqueue", write / write, true, free, Some(Shape::Object(node::ENQUEUE));
    /// Runs a command on a node.
    NodeInvoke = "node.invoke", write / write, true, free, Some(Shape::Object(node::INVOKE));
    /// Commands that were parked for a node in the background.
    NodePendingPull = "node.pending.pull", node / node, true, free, NO_PARAMS;
    /// A node did what was parked for it.
    NodePendingAck = "node.pending.ack", node / node, true, free, Some(Shape::Object(node::ACK));
    /// A node's answer to an invoke.
    NodeInvokeResult = "node.invoke.result", node / node, true, free, None;
    /// Something happened at a node.
    NodeEvent = "node.event", node / node, true, free, Some(Shape::Object(node::EVENT));
    /// A capability for canvas URLs; there is no canvas host here.
    NodeCanvasCapabilityRefresh = "node.canvas.capability.refresh", node / admin, false, free, NO_PARAMS;
    /// A page of jobs.
    CronList = "cron.list", read / read, true, free, Some(Shape::Object(cron::LIST));
    /// The scheduler's state.
    CronStatus = "cron.status", read / read, true, free, NO_PARAMS;
    /// One job.
    CronGet = "cron.get", read / read, true, free, Some(cron::ID_OR_JOB_ID);
    /// Adds a job.
    CronAdd = "cron.add", admin / admin, true, limited, None;
    /// Changes a job.
    CronUpdate = "cron.update", admin / admin, true, limited, None;
    /// Removes a job.
    CronRemove = "cron.remove", admin / admin, true, limited, Some(cron::ID_OR_JOB_ID);
    /// Runs a job now.
    CronRun = "cron.run", admin / admin, true, limited, Some(cron::RUN);
    /// clawgate's own: ends the run of a job that is under way.
    CronCancel = "cron.cancel", admin / admin, true, free, Some(cron::CANCEL);
    /// A page of the run history.
    CronRuns = "cron.runs", read / read, true, free, Some(Shape::Object(cron::RUNS));
    /// The gateway's own device identity.
    GatewayIdentityGet = "gateway.identity.get", read / read, true, free, None;
    /// Who is here.
    SystemPresence = "system-presence", read / read, true, free, None;
    /// Records a beacon or queues a system event.
    SystemEvent = "system-event", admin / admin, true, free, None;
    /// clawgate's own: how this connection's authority came about.
    AuthExplain = "auth.explain", any / any, true, free, NO_PARAMS;
    /// clawgate's own: makes a named API token.
    TokensCreate = "tokens.create", pairing / pairing, true, free, Some(Shape::Object(TOKENS_CREATE));
    /// clawgate's own: lists API tokens without their secrets.
    TokensList = "tokens.list", pairing / pairing, true, free, NO_PARAMS;
    /// clawgate's own: revokes an API token.
    TokensRevoke = "tokens.revoke", pairing / pairing, true, free, Some(Shape::Object(TOKENS_REVOKE));
    /// The first frame; afterwards it is refused.
    Connect = "connect", handshake / handshake, false, free, None;
}

/// Methods that belong to the node role on wire 3, served here or not.
pub(crate) const NODE_ONLY_V3: &[&str] = &[
    "node.invoke.result",
    "node.event",
    "node.pending.drain",
    "node.canvas.capability.refresh",
    "node.pending.pull",
    "node.pending.ack",
];

/// Methods that belong to the node role on wire 4, served here or not.
pub(crate) const NODE_ONLY_V4: &[&str] = &[
    "node.pluginSurface.refresh",
    "node.pluginTools.update",
    "node.skills.update",
    "node.runnerInventory.update",
    "node.pending.drain",
    "node.pending.pull",
    "node.pending.ack",
    "node.invoke.progress",
    "node.invoke.result",
    "node.event",
];

/// Methods that belong to the node role in a dialect. Calling one as an operator is a role error
/// before anything else is looked at.
pub fn node_only(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::V3 => NODE_ONLY_V3,
        Dialect::V4 => NODE_ONLY_V4,
    }
}

/// Who may call a method of that name, served here or not. A client that lacks the original's
/// scope for it is told so before it is told that the method is unknown.
pub fn access_by_name(name: &str, dialect: Dialect) -> Access {
    if let Some(method) = Method::parse(name) {
        return method.spec().access(dialect).clone();
    }
    if node_only(dialect).contains(&name) {
        return Access::Node;
    }
    Access::Scope(unserved::scope(name, dialect))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_parses_to_its_own_row() {
        let mut seen = HashSet::new();
        for method in Method::ALL {
            let spec = method.spec();
            assert!(seen.insert(spec.name), "{} twice", spec.name);
            assert_eq!(Method::parse(spec.name), Some(*method));
        }
    }

    #[test]
    fn unknown_means_admin() {
        for name in ["no.such.method", "", "HEALTH", "health ", "config.set\0"] {
            assert_eq!(Method::parse(name), None);
            assert_eq!(
                access_by_name(name, Dialect::V3),
                Access::Scope(Scope::ADMIN)
            );
        }
    }

    #[test]
    fn node_methods_are_those_of_the_dialect() {
        for (name, v3, v4) in [
            ("node.event", true, true),
            ("node.canvas.capability.refresh", true, false),
            ("node.invoke.progress", false, true),
            ("node.runnerInventory.update", false, true),
        ] {
            assert_eq!(
                access_by_name(name, Dialect::V3) == Access::Node,
                v3,
                "{name}"
            );
            assert_eq!(
                access_by_name(name, Dialect::V4) == Access::Node,
                v4,
                "{name}"
            );
        }
    }
}
