//! The one place that reads the clocks.

use std::time::UNIX_EPOCH;

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// For spans.
pub(crate) fn instant() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
