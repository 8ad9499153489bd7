//! The method table: every method that the gateway serves, who may call it in which
//! dialect, whether `hello-ok` lists it, and what its params look like.
//!
//! It is the only such table. The gateway dispatches by [`Method`], the command line asks it
//! what a command needs before connecting, `hello-ok.features.methods` is printed from it.
//! A name that is not here needs `operator.admin` and is then answered `unknown method`.

use crate::{
    cron, device,
    error::Dialect,
    scope::Scope,
    shape::{Field, NON_EMPTY, Shape, optional, required, since_v4},
    system,
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
    /// Who may call it on wire version 3.
    pub v3: Access,
    /// Who may call it on wire version 4.
    pub v4: Access,
    /// Whether `hello-ok.features.methods` lists it.
    pub advertised: bool,
    /// What params must look like; `None` where the original does not look.
    pub params: Option<Shape>,
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
    (approvals) => {
        Access::Scope(Scope::APPROVALS)
    };
}

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $v3:ident / $v4:ident, $advertised:literal, $params:expr;)*) => {
        /// A method that the gateway serves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method {
            $($(#[$doc])* $variant,)*
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
                v3: access!($v3),
                v4: access!($v4),
                advertised: $advertised,
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
const SESSIONS_LIST: &[Field] = &[
    optional(
        "limit",
        Shape::Int {
            min: ONE,
            max: i64::MAX,
        },
    ),
    optional(
        "activeMinutes",
        Shape::Int {
            min: ONE,
            max: i64::MAX,
        },
    ),
    optional("includeGlobal", Shape::Bool),
    optional("includeUnknown", Shape::Bool),
    optional("includeDerivedTitles", Shape::Bool),
    optional("includeLastMessage", Shape::Bool),
    optional("label", Shape::Str { min: 1, max: 64 }),
    optional("spawnedBy", NON_EMPTY),
    optional("agentId", NON_EMPTY),
    optional("search", Shape::Text),
];
const MODELS_LIST: &[Field] = &[
    since_v4("agentId", NON_EMPTY),
    since_v4("includeProviderCapabilities", Shape::Bool),
    since_v4("preparedOnly", Shape::Bool),
    since_v4("refresh", Shape::Bool),
    since_v4("view", NON_EMPTY),
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
    Health = "health", any / any, true, None;
    /// A slice of the log file.
    LogsTail = "logs.tail", read / read, true, Some(Shape::Object(LOGS_TAIL));
    /// The operator's summary.
    Status = "status", read / read, true, None;
    /// The configuration with secrets masked.
    ConfigGet = "config.get", read / read, true, NO_PARAMS;
    /// The exec approval policy of this host.
    ExecApprovalsGet = "exec.approvals.get", admin / admin, true, NO_PARAMS;
    /// Configured models.
    ModelsList = "models.list", read / read, true, Some(Shape::Object(MODELS_LIST));
    /// Configured agents.
    AgentsList = "agents.list", read / read, true, NO_PARAMS;
    /// Sessions, newest first.
    SessionsList = "sessions.list", read / read, true, Some(Shape::Object(SESSIONS_LIST));
    /// The last heartbeat, or null.
    LastHeartbeat = "last-heartbeat", read / read, true, None;
    /// Turns heartbeats on or off.
    SetHeartbeats = "set-heartbeats", admin / admin, true, None;
    /// Queues a system event for the main session.
    Wake = "wake", write / write, true, Some(Shape::Object(system::WAKE));
    /// Pairing requests of the older node store.
    NodePairList = "node.pair.list", pairing / pairing, true, NO_PARAMS;
    /// Pending and paired devices.
    DevicePairList = "device.pair.list", pairing / pairing, true, NO_PARAMS;
    /// Approves a pending device.
    DevicePairApprove = "device.pair.approve", pairing / pairing, true, Some(Shape::Object(device::REQUEST_ID));
    /// Rejects a pending device.
    DevicePairReject = "device.pair.reject", pairing / pairing, true, Some(Shape::Object(device::REQUEST_ID));
    /// Removes a paired device.
    DevicePairRemove = "device.pair.remove", pairing / pairing, true, Some(Shape::Object(device::DEVICE_ID));
    /// Replaces a device's token.
    DeviceTokenRotate = "device.token.rotate", pairing / pairing, true, Some(Shape::Object(device::TOKEN_ROTATE));
    /// Revokes a device's token.
    DeviceTokenRevoke = "device.token.revoke", pairing / pairing, true, Some(Shape::Object(device::TOKEN_REVOKE));
    /// Known nodes.
    NodeList = "node.list", read / read, true, NO_PARAMS;
    /// A page of jobs.
    CronList = "cron.list", read / read, true, Some(Shape::Object(cron::LIST));
    /// The scheduler's state.
    CronStatus = "cron.status", read / read, true, NO_PARAMS;
    /// One job.
    CronGet = "cron.get", read / read, true, Some(cron::ID_OR_JOB_ID);
    /// Adds a job.
    CronAdd = "cron.add", admin / admin, true, None;
    /// Changes a job.
    CronUpdate = "cron.update", admin / admin, true, None;
    /// Removes a job.
    CronRemove = "cron.remove", admin / admin, true, Some(cron::ID_OR_JOB_ID);
    /// Runs a job now.
    CronRun = "cron.run", admin / admin, true, Some(cron::RUN);
    /// clawgate's own: ends the run of a job that is under way.
    CronCancel = "cron.cancel", admin / admin, true, Some(cron::CANCEL);
    /// A page of the run history.
    CronRuns = "cron.runs", read / read, true, Some(Shape::Object(cron::RUNS));
    /// The gateway's own device identity.
    GatewayIdentityGet = "gateway.identity.get", read / read, true, None;
    /// Who is here.
    SystemPresence = "system-presence", read / read, true, None;
    /// Records a beacon or queues a system event.
    SystemEvent = "system-event", admin / admin, true, None;
    /// clawgate's own: how this connection's authority came about.
    AuthExplain = "auth.explain", any / any, true, NO_PARAMS;
    /// clawgate's own: makes a named API token.
    TokensCreate = "tokens.create", pairing / pairing, true, Some(Shape::Object(TOKENS_CREATE));
    /// clawgate's own: lists API tokens without their secrets.
    TokensList = "tokens.list", pairing / pairing, true, NO_PARAMS;
    /// clawgate's own: revokes an API token.
    TokensRevoke = "tokens.revoke", pairing / pairing, true, Some(Shape::Object(TOKENS_REVOKE));
    /// The first frame; afterwards it is refused.
    Connect = "connect", handshake / handshake, false, None;
}

/// Methods that belong to the node role in the original, served here or not. Calling one as an
/// operator is a role error before anything else is looked at.
pub const NODE_ONLY: &[&str] = &[
    "node.invoke.result",
    "node.event",
    "node.pending.drain",
    "node.canvas.capability.refresh",
    "node.pending.pull",
    "node.pending.ack",
    "skills.bins",
];

/// What the original of wire version 3 asks for a method that is not served here. A client that
/// lacks that scope is told so before it is told that the method is unknown.
pub fn access_by_name(name: &str, dialect: Dialect) -> Access {
    if let Some(method) = Method::parse(name) {
        return method.spec().access(dialect).clone();
    }
    if NODE_ONLY.contains(&name) {
        return Access::Node;
    }
    Access::Scope(Scope::ADMIN)
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
}
