//! Tools that touch this machine alone: files of a workspace and programs.

mod args;
mod exec;
mod files;
mod patch;
mod process;
mod read;
mod running;
mod tree;
mod write;

pub(crate) use exec::passed_variables;
pub use exec::{
    Confined, Exec, ExecCommand, ExecSettings, Permit, Permitting, Refusal, SandboxMode,
};
pub use files::Files;
pub use patch::{ApplyPatch, patched};
pub use process::Process;
pub use read::Read;
pub use running::{Launcher, Processes};
pub(crate) use tree::MARK;
pub use tree::{Tree, end_leftovers, end_marked};
pub use write::{Edit, Write};

use crate::tool::Output;

/// Does what may wait for a disk on a thread that may.
async fn blocking(act: impl FnOnce() -> Output + Send + 'static) -> Output {
    match tokio::task::spawn_blocking(act).await {
        Ok(output) => output,
        Err(died) => {
            tracing::error!(%died, "a tool died");
            Output::failed("the tool failed unexpectedly")
        }
    }
}
