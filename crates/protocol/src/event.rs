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
    /// The same, and every node.
    ScopeAndNodes(Scope),
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
    /// A step of a turn.
    Agent = "agent", Gate::Scope(Scope::READ), false;
    /// An agent looked up by itself.
    Heartbeat = "heartbeat", Gate::Scope(Scope::READ), true;
    /// A message of a conversation.
    Chat = "chat", Gate::Scope(Scope::READ), false;
    /// Wire 4's: a message, to those that asked for its session's.
    SessionMessage = "session.message", Gate::Scope(Scope::READ), false;
    /// Wire 4's: a session is other than it was, to those that asked.
    SessionsChanged = "sessions.changed", Gate::Scope(Scope::READ), true;
    /// A node, or what a node declares, waits for approval.
    NodePairRequested = "node.pair.requested", Gate::Scope(Scope::PAIRING), true;
    /// Such a request was decided.
    NodePairResolved = "node.pair.resolved", Gate::Scope(Scope::PAIRING), true;
    /// A command for the node that gets it.
    NodeInvokeRequest = "node.invoke.request", Gate::Targeted, false;
    /// Nobody waits any more for what was asked of the node that gets it. Wire 4.
    NodeInvokeCancel = "node.invoke.cancel", Gate::Targeted, false;
    /// Other wake words.
    VoicewakeChanged = "voicewake.changed", Gate::ScopeAndNodes(Scope::READ), true;
    /// Somebody began or ended to talk.
    TalkMode = "talk.mode", Gate::Scope(Scope::TALK), true;
    /// A device asks to be paired.
    DevicePairRequested = "device.pair.requested", Gate::Scope(Scope::PAIRING), true;
    /// A pairing request was decided.
    DevicePairResolved = "device.pair.resolved", Gate::Scope(Scope::PAIRING), true;
    /// A command waits for somebody to let it run.
    ExecApprovalRequested = "exec.approval.requested", Gate::Scope(Scope::APPROVALS), true;
    /// Somebody decided.
    ExecApprovalResolved = "exec.approval.resolved", Gate::Scope(Scope::APPROVALS), true;
}
