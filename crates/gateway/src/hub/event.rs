//! Events on their way: encoded once, held once, and counted in every outbox.

use std::sync::{Arc, OnceLock};

use clawgate_protocol::frame::{EventParts, StateVersion};

use crate::{
    load::{Held, Share},
    websocket,
};

/// What a queued message costs beside its bytes: its place and its allocation. Counted, so that
/// many small messages are bounded like few large ones.
pub(super) const MESSAGE_COST: usize = 128;

/// Room of one place in an outbox, which is its receiver's own.
const PLACE_BYTES: usize = size_of::<Queued>();

/// Places in outboxes, counted for all who may get events before the first of them does: a count that
/// thousands change one by one is what they would wait for.
#[derive(Debug)]
pub(super) struct Places<'a> {
    held: &'a Held,
    reserved: usize,
    taken: usize,
}

impl<'a> Places<'a> {
    pub(super) fn for_at_most(places: usize, held: &'a Held) -> Self {
        held.put(places * PLACE_BYTES);
        Self {
            held,
            reserved: places,
            taken: 0,
        }
    }
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        self.held
            .take_back((self.reserved - self.taken) * PLACE_BYTES);
    }
}

/// An event, encoded once and held once for all who are to get it.
#[derive(Debug)]
pub(super) struct Encoded {
    parts: EventParts,
    /// Made when the first receiver takes it.
    whole: OnceLock<Whole>,
    held: Held,
    _share: Share,
}

/// The whole WebSocket frame as all of those get it who count it alike: on wire 3 everybody does, on
/// wire 4 those that heard of as many events before.
#[derive(Debug)]
struct Whole {
    seq: Option<u64>,
    frame: Vec<u8>,
    _share: Share,
}

impl Encoded {
    pub(super) fn new(
        event: &str,
        payload: &str,
        version: Option<StateVersion>,
        held: &Held,
    ) -> Arc<Self> {
        let parts = EventParts::new(event, payload, version);
        let share = held.share(parts.head.len() + parts.tail.len());
        Arc::new(Self {
            parts,
            whole: OnceLock::new(),
            held: held.clone(),
            _share: share,
        })
    }
}

/// An event in an outbox, with its number there.
#[derive(Debug)]
pub(crate) struct Queued {
    event: Arc<Encoded>,
    seq: Option<u64>,
}

/// An event as it goes into a socket.
#[derive(Debug)]
pub(crate) enum Framed<'a> {
    /// The very bytes that others get as well, header and all.
    Shared(&'a [u8]),
    /// The parts of a text that only this receiver gets.
    Own([std::borrow::Cow<'a, str>; 3]),
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.event.held.take_back(PLACE_BYTES);
    }
}

impl Queued {
    /// For a receiver whose place is [reserved](Places).
    pub(super) fn new(event: &Arc<Encoded>, seq: Option<u64>, places: &mut Places<'_>) -> Self {
        places.taken += 1;
        Self {
            event: Arc::clone(event),
            seq,
        }
    }

    /// What goes to the peer.
    pub(crate) fn framed(&self) -> Framed<'_> {
        let Encoded {
            parts, whole, held, ..
        } = &*self.event;
        let whole = whole.get_or_init(|| {
            let frame = websocket::text_frame(&parts.frame(self.seq));
            Whole {
                seq: self.seq,
                _share: held.share(frame.len()),
                frame,
            }
        });
        if whole.seq == self.seq {
            Framed::Shared(&whole.frame)
        } else {
            Framed::Own(parts.pieces(self.seq))
        }
    }

    /// What it counts against the [bound](clawgate_protocol::frame::BUFFERED_BYTES_MAX) until it is flushed.
    pub(crate) fn cost(&self) -> usize {
        self.event.parts.head.len() + self.event.parts.tail.len() + MESSAGE_COST
    }
}
