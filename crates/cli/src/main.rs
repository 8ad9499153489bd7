//! The clawgate command: words for people (and JSON for scripts) around `clawgate-client`, and
//! `gateway run`, which starts `clawgate-gateway`.
//!
//! Invariants: only [`output`] writes to the terminal, `chat` while it has a screen and `mcp serve`
//! on behalf of its protocol apart; only [`clock`] reads clocks; only [`mod@env`]
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
mod stop;
mod target;
mod typed;
mod words;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};

use crate::{app::App, commands::Context, error::CommandError, exit::Exit, output::Output};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    // Before anything else is done in it: this process becomes another program.
    if args
        .get(1)
        .is_some_and(|arg| arg == commands::sandbox::NAME)
    {
        return commands::sandbox::run(&args[2..]);
    }
    if args.get(1).is_some_and(|arg| arg == commands::bench::FLOOR) {
        return clawgate_bench::floor::main(&args[2..]);
    }
    let no_color = output::no_color_wanted() || args.iter().any(|arg| arg == "--no-color");
    let color = if no_color {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    };
    let parse = |tree: clap::Command| {
        tree.color(color)
            .try_get_matches_from(&args)
            .and_then(|matches| App::from_arg_matches(&matches))
    };
    // What does not read is read again, so that what is said about it knows all commands.
    let parsed = parse(typed::tree_for(&args, App::command)).or_else(|_| parse(App::command()));
    let app = match parsed {
        Ok(app) => app,
        Err(error) => return misread(&error, app::asks_for_json(&args)).into(),
    };
    let output = Output::new(&app.globals);
    let as_json = app.command.wants_json();
    let context = Context::new(app.globals, output);
    match commands::run(&context, app.command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let error = error.under(&context.globals);
            output.error(&error, as_json);
            error.exit().into()
        }
    }
}

/// What clap says instead of a command: help and version, which are no failure, or wrong usage.
fn misread(error: &clap::Error, as_json: bool) -> Exit {
    if error.use_stderr() && as_json {
        let text = error.to_string();
        let end = ["\n\nUsage:", "\n\nFor more information"]
            .iter()
            .filter_map(|mark| text.find(mark))
            .min();
        let words: Vec<&str> = text[..end.unwrap_or(text.len())]
            .split_whitespace()
            .collect();
        let message = words.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let failure = CommandError::usage(message);
        Output::new(&app::Globals::default()).error(&failure, true);
        return failure.exit();
    }
    match error.print() {
        Ok(()) if error.use_stderr() => Exit::Usage,
        Ok(()) => Exit::Ok,
        Err(_) if error.use_stderr() => Exit::Usage,
        Err(problem) => {
            let failure = CommandError::output(&problem);
            Output::new(&app::Globals::default()).error(&failure, false);
            failure.exit()
        }
    }
}
