//! The clawgate command: words for people (and JSON for scripts) around `clawgate-client`, and
//! `gateway run`, which starts `clawgate-gateway`.
//!
//! Invariants: only [`output`] writes to the terminal; only [`clock`] reads clocks; only [`mod@env`]
//! reads the environment; a secret is never printed, its source is; every failure ends in one of
//! the exit codes of [`exit`].

mod app;
mod clock;
mod commands;
mod config;
mod env;
mod error;
mod exit;
mod output;
mod session;
mod target;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{app::App, commands::Context, exit::Exit, output::Output};

fn main() -> ExitCode {
    let app = match App::try_parse() {
        Ok(app) => app,
        Err(error) => {
            // Help and version are printed by clap and are no failure.
            drop(error.print());
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            return exit.into();
        }
    };
    let output = Output::new(app.globals.no_color);
    let as_json = app.command.wants_json();
    let context = Context::new(app.globals, output);
    match commands::run(&context, app.command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&error, as_json);
            error.exit().into()
        }
    }
}
