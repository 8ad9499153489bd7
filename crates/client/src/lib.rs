//! A peer's end of the socket: connect, prove the device, be granted something, call, listen.
//!
//! The road of one command: an [`Endpoint`] is parsed, the [`Identity`] of this machine is
//! loaded, [`open`] tries the credentials of a [`Plan`] in a fixed order until what was granted
//! covers what the command needs, and the [`Session`] that comes back carries the calls.
//!
//! Invariants:
//! - a device proof is on every connect, and every command asks for the same scopes, so that a
//!   machine is paired once;
//! - a stored secret goes only to the endpoint that it was stored for;
//! - plaintext goes only to this machine, unless the caller lifts that for private addresses;
//! - errors are asked ([`ClientError::is_retryable`], [`ClientError::needs_pairing`]), their
//!   texts are never matched.
//!
//! What is not here: configuration, environment, terminals. The command line brings those.

mod client;
mod clock;
mod driver;
mod endpoint;
mod error;
mod files;
mod granted;
mod handshake;
mod identity;
mod local_proof;
mod open;
mod tls;
mod tokens;

pub use client::{ConnectOptions, Event, Mode, NodeClaims, Offer, Session, Timings, new_key};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ClientError, CloseInfo, Waiting};
pub use granted::{Granted, needed_scopes};
pub use handshake::{connect, connect_text};
pub use identity::{Identity, IdentityError};
pub use local_proof::LocalKey;
pub use open::{Attempt, CredentialKind, Opened, Outcome, Plan, open};
pub use tokens::{StoredToken, TokenStore};
