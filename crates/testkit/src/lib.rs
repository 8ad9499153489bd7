//! Black-box tests of the gateway: the real process, and a client that can misbehave.
//!
//! Nothing here uses the gateway's own crates. Frames, proofs and hashes are made a second time,
//! from the description of the wire, so that a mistake is not shared by both ends. Everything is
//! blocking, every wait ends at a deadline ([`PATIENCE`]), and nothing sleeps.
//!
//! Invariant: a helper either gives what was asked for or panics with what it saw instead;
//! what a test may want to look at (refusals, closes, HTTP answers) is a value.

mod client;
pub mod conformance;
mod connect;
mod device;
mod gateway;
mod http;
pub mod provider;
mod socket;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use client::{Call, Client, Hello, Refusal, WireError};
pub use connect::{Connect, SignedForm};
pub use device::{Device, hmac_hex, sha256_hex};
pub use gateway::{Ended, Home, TOKEN, TestGateway, token_config};
pub use http::{HttpAnswer, Upgrade, dial_from, post, request};
pub use socket::{Close, Frame, Message, Opcode, Socket};

/// How long anything may take before a test gives up on it. Generous, because machines that run
/// tests are busy; nothing waits that long when things are well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The scopes that an ordinary operator asks for.
pub const OPERATOR: [&str; 5] = [
    "operator.admin",
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.pairing",
];

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("the year is before 292 million")
}

/// Lets this process have as many sockets as the system allows it, for tests that open many.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Where that is not allowed, the test says what it lacks.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Where the gateway's program is: `CLAWGATE_TEST_BIN`, else what Cargo built for this test.
#[macro_export]
macro_rules! home {
    ($config:expr) => {
        $crate::Home::new(
            &std::env::var("CLAWGATE_TEST_BIN")
                .unwrap_or_else(|_| env!("CARGO_BIN_EXE_clawgate").to_owned()),
            Some(&$config),
        )
    };
    () => {
        $crate::Home::new(
            &std::env::var("CLAWGATE_TEST_BIN")
                .unwrap_or_else(|_| env!("CARGO_BIN_EXE_clawgate").to_owned()),
            None,
        )
    };
}

/// A running gateway: with the shared token [`TOKEN`], or with the given configuration.
#[macro_export]
macro_rules! gateway {
    () => {
        $crate::home!($crate::token_config()).start()
    };
    ($config:expr) => {
        $crate::home!($config).start()
    };
}
