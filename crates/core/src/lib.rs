//! Decisions without IO.
//!
//! Authorization, device proofs, pairing, the lockout of failed attempts, cron, and agent turns. Time is
//! an argument, randomness is an argument, nothing here reads a clock, a file or a socket,
//! and nothing knows JSON. Every function is total: it has an answer for every input.
//!
//! **Invariant:** [`authz::grant`] is the only place where scopes are computed.

pub mod agent;
pub mod approval;
pub mod authz;
pub mod cron;
pub mod delivery;
pub mod exec_policy;
pub mod heartbeat;
pub mod hook;
pub mod lane;
pub mod lockout;
pub mod node;
pub mod origin;
pub mod pairing;
pub mod peer;
pub mod proof;
pub mod session;
pub mod skill;
pub mod slash;
pub mod tool_door;
pub mod tool_policy;
pub mod turn;
pub mod wizard;
pub mod write_limit;

pub use clawgate_protocol::{
    Access, ConnId, DeviceId, Dialect, ErrorCode, JobId, Method, PairingRequestId, Role, RunId,
    Scope, ScopeSet,
};
