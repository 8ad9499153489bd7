//! The load tool: what `clawgate bench` measures any gateway with, and `clawgate-bench` this one's binary.
//!
//! Every figure that has a floor is taken in pairs (floor, subject, floor, subject …) in the same run, and
//! the median of the pairs' ratios is what counts: absolute figures say as much about the machine as about
//! the program. The floor is a process as well, this very program under another name ([`floor::NAME`]).
//! What is measured and why is in `docs/performance.md`.
//!
//! Invariant: a client here costs less than the server that it asks, or it would measure itself.

pub mod error;
pub mod fan_out;
pub mod floor;
pub mod histogram;
pub mod jobs;
pub mod load;
pub mod looks;
pub mod measure;
pub mod meter;
pub mod peer;
pub mod process;
pub mod stats;
pub mod wire;

use rustix::process::{Resource, getrlimit, setrlimit};

/// A runtime like the gateway's own, for load and floor.
///
/// # Errors
/// There are no threads to be had.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)))
        .enable_all()
        .build()
}

/// A thousand sockets here need a thousand descriptors, here and in the servers that are started.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, what needs it says so.
    let _ = setrlimit(Resource::Nofile, limit);
}
