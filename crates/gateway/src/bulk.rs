//! The thread on which long messages come in.
//!
//! Copying, unmasking, checking and decoding 25 MiB takes tens of milliseconds of a processor. Threads
//! that do this and serve everybody else as well are given the processor late when somebody else needs
//! an answer, because they had so much of it already. So a connection moves to this thread for as long
//! as a long message comes in. There is one, so that a hundred such messages take one processor at
//! most, and it has to stand back for the others.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// How far it stands back, in steps of nice(2): about a tenth of the share of an ordinary thread while
/// there is not enough for both.
const NICE: i32 = 10;

/// Starts with the first long message; most gateways never see one.
#[derive(Debug, Default)]
pub(crate) struct Bulk(OnceLock<Option<Runtime>>);

impl Bulk {
    /// Carries on with something there. Where no thread can be had, it stays where it is.
    pub(crate) fn spawn<F>(&self, work: F) -> AbortOnDropHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        AbortOnDropHandle::new(match self.0.get_or_init(start) {
            Some(runtime) => runtime.spawn(work),
            None => tokio::spawn(work),
        })
    }
}

fn start() -> Option<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("long-messages")
        .on_thread_start(|| {
            // Where that is not allowed it is a thread like the others.
            let _ = rustix::process::nice(NICE);
        })
        .enable_all()
        .build()
        .inspect_err(|error| tracing::warn!(%error, "no thread for long messages"))
        .ok()
}

impl Drop for Bulk {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take().flatten() {
            // The last one to hold it may be a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}
