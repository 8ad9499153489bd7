//! The event table: every event that the gateway sends, who gets it, and what happens
//! to it when the receiver is slow.

use crate::scope::Scope;

/// Who receives an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Every authenticated session of either role.
    Everyone,
    /// Operators whose scopes cover this one.
    Scope(Scope),
    /// Sent to one socket only, never broadcast.
    Targeted,
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $gate:expr, $droppable:literal;)*) => {
        /// An event that the gateway sends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event {
            $($(#[$doc])* $variant,)*
        }

        impl Event {
            /// Every event in the order in which `hello-ok` lists them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Who receives it.
            pub fn gate(self) -> Gate {
                match self { $(Self::$variant => $gate,)* }
            }

            /// Whether it is skipped for a slow receiver; otherwise a slow receiver is closed.
            pub fn droppable(self) -> bool {
                match self { $(Self::$variant => $droppable,)* }
            }
        }
    };
}

events! {
    /// The nonce, at once after open.
    ConnectChallenge = "connect.challenge", Gate::Targeted, false;
    /// Who is here.
    Presence = "presence", Gate::Scope(Scope::READ), true;
    /// Sign of life.
    Tick = "tick", Gate::Everyone, true;
    /// The gateway stops.
    Shutdown = "shutdown", Gate::Everyone, false;
    /// The health snapshot.
    Health = "health", Gate::Everyone, false;
    /// A job was added, changed, removed, started or finished.
    Cron = "cron", Gate::Scope(Scope::READ), true;
    /// Somebody began or ended to talk.
    TalkMode = "talk.mode", Gate::Scope(Scope::TALK), true;
    /// A device asks to be paired.
    DevicePairRequested = "device.pair.requested", Gate::Scope(Scope::PAIRING), true;
    /// A pairing request was decided.
    DevicePairResolved = "device.pair.resolved", Gate::Scope(Scope::PAIRING), true;
}
