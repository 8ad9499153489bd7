//! `sandbox-exec`: what the gateway starts to run a program of an agent within bounds. Nobody types
//! it, so it is not in the help: the gateway writes its only argument.

use std::{ffi::OsString, process::ExitCode};

use clawgate_gateway::sandbox::{self, Spec};

use crate::output;

/// The word by which it is meant.
pub(crate) const NAME: &str = "sandbox-exec";

/// Becomes the program, or says why not; with `--probe`, says what this system can do.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let spec = match args {
        [probe] if probe == "--probe" => {
            let ability = serde_json::to_string(&sandbox::probe()).unwrap_or_default();
            output::bare(&ability);
            return ExitCode::SUCCESS;
        }
        [spec] => spec
            .to_str()
            .and_then(|spec| serde_json::from_str::<Spec>(spec).ok()),
        _ => None,
    };
    let Some(spec) = spec else {
        output::bare_error("clawgate sandbox-exec is for the gateway itself");
        return ExitCode::from(2);
    };
    let failed = sandbox::enter(&spec);
    output::bare_error(&format!("clawgate: {failed}"));
    ExitCode::from(failed.exit_code())
}
