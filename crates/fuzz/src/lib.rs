//! What must hold of every input that comes from elsewhere: a body for each place where bytes of
//! strangers are read. A body takes any bytes, finds its parts in them, and panics when something
//! does not hold; that nothing else panics is the first thing that must hold.
//!
//! The fuzzer in `fuzz/` runs the bodies for hours, `tests/replay.rs` runs them over the inputs in
//! `fuzz/corpus` and over a few thousand changes of each.

#[cfg(feature = "gateway")]
mod address;
mod allowlist;
#[cfg(feature = "gateway")]
mod config;
mod connect;
mod cron;
mod frame;
#[cfg(feature = "gateway")]
mod import;
#[cfg(feature = "agent")]
mod patch;
mod shape;
#[cfg(feature = "agent")]
mod stream;

#[cfg(feature = "gateway")]
pub use address::address;
pub use allowlist::allowlist;
#[cfg(feature = "gateway")]
pub use config::{config, config_edit};
pub use connect::connect;
pub use cron::cron;
pub use frame::frame;
#[cfg(feature = "gateway")]
pub use import::import;
#[cfg(feature = "agent")]
pub use patch::patch;
pub use shape::shape;
#[cfg(feature = "agent")]
pub use stream::stream;

/// What is run for an input.
pub type Body = fn(&[u8]);

/// Every body, under the name of its file in `fuzz/targets` and its directory in `fuzz/corpus`.
pub const TARGETS: &[(&str, Body)] = &[
    #[cfg(feature = "gateway")]
    ("address", address),
    ("allowlist", allowlist),
    #[cfg(feature = "gateway")]
    ("config", config),
    #[cfg(feature = "gateway")]
    ("config_edit", config_edit),
    ("connect", connect),
    ("cron", cron),
    ("frame", frame),
    #[cfg(feature = "gateway")]
    ("import", import),
    #[cfg(feature = "agent")]
    ("patch", patch),
    ("shape", shape),
    #[cfg(feature = "agent")]
    ("stream", stream),
];

/// Whether a number with a fraction is in it. JSON of those is read with an error in the last place,
/// so what is printed and read again need not be equal.
fn has_fraction(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(map) => map.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
