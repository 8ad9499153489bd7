//! How often control-plane writes may be made, as on wire 4: each method apart, by device and
//! address, so many in a window.
//!
//! A window begins with its first write. Memory is bounded: when the table is full, windows that
//! are over make room, and if none is, the oldest one.

use std::collections::HashMap;

use clawgate_protocol::{DeviceId, Dialect, method::ControlWrite};

use crate::authz::Peer;

/// Writes of one kind in a window.
pub const WRITES_MAX: u32 = 30;
/// Writes of all kinds that wire 3 counts, together, in a window.
pub const V3_WRITES_MAX: u32 = 3;
/// Length of a window, milliseconds.
pub const WINDOW_MS: i64 = 60_000;
/// Windows remembered at most.
const WINDOWS_MAX: usize = 4_096;

/// How many writes of a kind a caller may make in a window, and under which name they are counted.
/// Those of callers on this machine are not, where a script that imports a hundred jobs is an
/// ordinary thing.
pub fn limit(
    kind: ControlWrite,
    method: &'static str,
    dialect: Dialect,
    peer: Peer,
) -> Option<(&'static str, u32)> {
    if peer == Peer::LoopbackDirect {
        return None;
    }
    match (kind, dialect) {
        (ControlWrite::Free, _) | (ControlWrite::Limited, Dialect::V3) => None,
        (ControlWrite::Limited | ControlWrite::Scarce, Dialect::V4) => Some((method, WRITES_MAX)),
        (ControlWrite::Scarce, Dialect::V3) => Some(("wire 3", V3_WRITES_MAX)),
    }
}

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    /// Name under which it is counted.
    pub method: &'static str,
    /// The proven device.
    pub device: Option<DeviceId>,
    /// Address of the client.
    pub address: String,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began_ms: i64,
    writes: u32,
}

impl Window {
    /// Milliseconds until it is over; a clock that was set back does not make it longer.
    fn left_ms(&self, now_ms: i64) -> i64 {
        let age = now_ms.saturating_sub(self.began_ms);
        if age < 0 {
            return 0;
        }
        WINDOW_MS.saturating_sub(age).max(0)
    }
}

/// The running windows.
#[derive(Debug, Default)]
pub struct WriteWindows(HashMap<Writer, Window>);

impl WriteWindows {
    /// Counts a write.
    ///
    /// # Errors
    /// How long to wait, in milliseconds, when the window is full. Such a write is not counted.
    pub fn take(&mut self, writer: Writer, max: u32, now_ms: i64) -> Result<(), u64> {
        if let Some(window) = self.0.get_mut(&writer) {
            let left = window.left_ms(now_ms);
            if left == 0 {
                *window = Window {
                    began_ms: now_ms,
                    writes: 1,
                };
                return Ok(());
            }
            if window.writes >= max {
                return Err(left.unsigned_abs());
            }
            window.writes += 1;
            return Ok(());
        }
        self.make_room(now_ms);
        self.0.insert(
            writer,
            Window {
                began_ms: now_ms,
                writes: 1,
            },
        );
        Ok(())
    }

    fn make_room(&mut self, now_ms: i64) {
        if self.0.len() < WINDOWS_MAX {
            return;
        }
        self.0.retain(|_, window| window.left_ms(now_ms) > 0);
        if self.0.len() < WINDOWS_MAX {
            return;
        }
        let oldest = self.0.iter().min_by_key(|(_, window)| window.began_ms);
        if let Some(oldest) = oldest.map(|(writer, _)| writer.clone()) {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(method: &'static str, address: &str) -> Writer {
        Writer {
            method,
            device: None,
            address: address.to_owned(),
        }
    }

    #[test]
    fn the_thirty_first_write_of_a_window_waits_for_its_end() {
        let mut windows = WriteWindows::default();
        for n in 0..i64::from(WRITES_MAX) {
            assert_eq!(windows.take(writer("cron.add", "a"), WRITES_MAX, n), Ok(()));
        }
        assert_eq!(
            windows.take(writer("cron.add", "a"), WRITES_MAX, 10_000),
            Err(50_000)
        );
        assert_eq!(
            windows.take(writer("cron.add", "a"), WRITES_MAX, 59_999),
            Err(1)
        );
        assert_eq!(
            windows.take(writer("cron.add", "a"), WRITES_MAX, 60_000),
            Ok(())
        );
    }

    #[test]
    fn methods_addresses_and_devices_are_counted_apart() {
        let mut windows = WriteWindows::default();
        for _ in 0..WRITES_MAX {
            windows
                .take(writer("cron.add", "a"), WRITES_MAX, 0)
                .unwrap();
        }
        assert!(
            windows
                .take(writer("cron.add", "a"), WRITES_MAX, 0)
                .is_err()
        );
        assert!(windows.take(writer("cron.run", "a"), WRITES_MAX, 0).is_ok());
        assert!(windows.take(writer("cron.add", "b"), WRITES_MAX, 0).is_ok());
        let device = Writer {
            device: Some(DeviceId::new("d")),
            ..writer("cron.add", "a")
        };
        assert!(windows.take(device, WRITES_MAX, 0).is_ok());
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut windows = WriteWindows::default();
        for _ in 0..WRITES_MAX {
            windows
                .take(writer("cron.add", "a"), WRITES_MAX, 1_000_000)
                .unwrap();
        }
        assert!(windows.take(writer("cron.add", "a"), WRITES_MAX, 5).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let mut windows = WriteWindows::default();
        for n in 0..20_000 {
            windows
                .take(writer("cron.add", &n.to_string()), WRITES_MAX, 0)
                .unwrap();
        }
        assert!(windows.0.len() <= WINDOWS_MAX);
    }

    #[test]
    fn this_machine_is_not_counted_and_wire_3_counts_the_scarce_ones_together() {
        use ControlWrite::{Free, Limited, Scarce};
        for (kind, dialect, peer, expected) in [
            (Limited, Dialect::V4, Peer::Remote, Some(("m", 30))),
            (Limited, Dialect::V4, Peer::LoopbackProxied, Some(("m", 30))),
            (Scarce, Dialect::V4, Peer::Remote, Some(("m", 30))),
            (Scarce, Dialect::V3, Peer::Remote, Some(("wire 3", 3))),
            (Limited, Dialect::V3, Peer::Remote, None),
            (Free, Dialect::V4, Peer::Remote, None),
            (Scarce, Dialect::V3, Peer::LoopbackDirect, None),
            (Limited, Dialect::V4, Peer::LoopbackDirect, None),
        ] {
            assert_eq!(limit(kind, "m", dialect, peer), expected);
        }
    }
}
