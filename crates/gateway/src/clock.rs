//! The one place that asks what time it is.

use std::{
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A time as `2026-11-23T02:11:51.970Z`.
pub(crate) fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| format!("{at:.3}"))
        .unwrap_or_default()
}

/// Milliseconds that this process ran, which no change of the clock moves: for spans that must neither
/// end early nor go on because somebody set the time.
pub(crate) fn running_ms() -> i64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let ran = BEGAN.get_or_init(Instant::now).elapsed();
    i64::try_from(ran.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
