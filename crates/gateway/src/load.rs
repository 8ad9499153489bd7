//! What peers can make the gateway hold: bytes that all of them share, counted where they lie.
//!
//! One connection's bounds keep one client small; these keep a thousand small together. The bounds
//! themselves, and what follows from them for the whole process, are in `docs/overload.md`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes of messages that are coming in over sockets, or wait as requests, of all sessions together.
/// Above it the session that holds most of them is closed 1013.
pub(crate) const INCOMING_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of events and answers that peers did not take yet, of all sessions together. Above it whoever
/// takes little for a second is closed 1008, and above twice as much those for whom most waits are.
pub(crate) const OUTGOING_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of bodies that are coming in over HTTP, of all requests together. Above it a request is
/// answered 503.
pub(crate) const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What a connection may hold uncounted, as it may before its hello.
pub(crate) const UNCOUNTED_BYTES: usize = 64 * 1024;

/// Bytes that are held somewhere, by many, with a number that should not be exceeded.
#[derive(Clone, Debug)]
pub(crate) struct Held(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    bytes: AtomicUsize,
    max: usize,
}

impl Held {
    /// Nothing is held yet.
    pub(crate) fn of_at_most(max: usize) -> Self {
        let bytes = AtomicUsize::new(0);
        Self(Arc::new(Counted { bytes, max }))
    }

    /// How much there is.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Whether there is more than there should be.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.0.max
    }

    /// The same when so many bytes are about to be given back.
    pub(crate) fn is_full_without(&self, going: usize) -> bool {
        self.bytes().saturating_sub(going) > self.0.max
    }

    /// Whether there is twice as much as there should be.
    pub(crate) fn is_twice_full(&self) -> bool {
        self.bytes() / 2 > self.0.max
    }

    /// Counts bytes until they are taken back, for what is too small and too often to have a share.
    pub(crate) fn put(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts bytes no more that were [put](Self::put).
    pub(crate) fn take_back(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Counts bytes for as long as the share lives.
    pub(crate) fn share(&self, bytes: usize) -> Share {
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        Share {
            of: self.clone(),
            bytes,
        }
    }
}

/// A part of what is held; it is given back when this goes.
#[derive(Debug)]
pub(crate) struct Share {
    of: Held,
    bytes: usize,
}

impl Share {
    /// It is this much now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let counted = &self.of.0.bytes;
        if bytes > self.bytes {
            counted.fetch_add(bytes - self.bytes, Ordering::AcqRel);
        } else if bytes < self.bytes {
            counted.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
        }
        self.bytes = bytes;
    }

    /// How much it is.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all shares together are more than there should be.
    pub(crate) fn is_of_too_much(&self) -> bool {
        self.of.is_full()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_the_sum_of_the_shares_that_live() {
        let held = Held::of_at_most(100);
        let mut one = held.share(60);
        let other = held.share(40);
        assert!(!held.is_full());
        one.set(61);
        assert!(one.is_of_too_much());
        drop(other);
        assert!(!held.is_full());
        one.set(10);
        let more = held.share(91);
        assert!(held.is_full());
        drop(one);
        assert!(!held.is_full());
        drop(more);
        assert_eq!(held.0.bytes.load(Ordering::Acquire), 0);
    }
}
