//! Words on the wire of the OpenClaw gateway protocol, versions 3 and 4.
//!
//! Pure data: frames, method and event tables, params and results, error shapes, the text
//! that a device signs. Nothing here decides anything, reads a clock or touches a socket;
//! both ends of the socket and the command line import it, so that they cannot disagree.
//!
//! Start with [`frame`], then [`method`].

pub mod agent;
pub mod approval;
pub mod channel;
pub mod chat;
pub mod config;
pub mod connect;
pub mod cron;
pub mod device;
pub mod error;
pub mod event;
pub mod exec_policy;
pub mod frame;
pub mod ids;
pub mod method;
pub mod node;
pub mod proof;
pub mod scope;
pub mod session;
pub mod shape;
pub mod skill;
pub mod system;
pub mod token;
mod unserved;
pub mod update;
pub mod usage;
pub mod voice;
pub mod wizard;

pub use error::{Dialect, ErrorCode, ErrorShape, ReceivedError};
pub use ids::{ConnId, DeviceId, JobId, PairingRequestId, RunId};
pub use method::{Access, Method};
pub use scope::{Role, Scope, ScopeSet};
