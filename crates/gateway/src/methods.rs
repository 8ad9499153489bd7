//! Handlers: params in, an owner's call or a look at the store, result out.
//!
//! A handler never sees a socket. One file per noun, one function per verb.

pub(crate) mod agent;
pub(crate) mod approval;
pub(crate) mod auth;
pub(crate) mod channel;
pub(crate) mod chat;
pub(crate) mod config;
pub(crate) mod cron;
pub(crate) mod device;
pub(crate) mod model;
pub(crate) mod node;
pub(crate) mod secret;
pub(crate) mod session;
pub(crate) mod skill;
pub(crate) mod system;
pub(crate) mod token;
pub(crate) mod turn;
pub(crate) mod update;
pub(crate) mod usage;
pub(crate) mod voice;
pub(crate) mod wizard;
