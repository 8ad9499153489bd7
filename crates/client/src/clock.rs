//! The one place that reads the clocks.

use std::time::UNIX_EPOCH;

use tokio::time::Instant;

/// Milliseconds since the epoch; 0 if the clock stands before it.
pub(crate) fn now_ms() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// For spans and deadlines.
pub(crate) fn instant() -> Instant {
    Instant::now()
}
