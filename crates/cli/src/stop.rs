//! What ends a command in order: Ctrl-C, or a request to terminate.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CommandError, CommandResult};

/// Watches from its making on, so that nothing is missed between two waits.
#[derive(Debug)]
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn watch() -> CommandResult<Self> {
        let watch = |kind| {
            signal(kind).map_err(|error| CommandError::internal(format!("no signals: {error}")))
        };
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    /// Ends when somebody asked for the end.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
