//! Plays the dialogues of `tests/conformance` to any gateway:
//! `conformance --url ws://127.0.0.1:18789 --token TOKEN [--only TEXT] [--folder FOLDER]`.
//!
//! One line per dialogue and wire, and at the end `N passed, N failed, N waiting`: those that wait
//! need a method that the gateway does not serve. Exit 1 when one failed, 2 for wrong usage.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it prints is what it is for"
)]

use std::{net::ToSocketAddrs as _, path::PathBuf, process::ExitCode};

use clawgate_testkit::conformance::{Outcome, Target, load, play, wires};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("conformance: {why}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut only = String::new();
    let mut folder = PathBuf::from("tests/conformance");
    let (mut url, mut token) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--url" => url = Some(value),
            "--token" => token = Some(value),
            "--only" => only = value,
            "--folder" => folder = PathBuf::from(value),
            _ => return Err(format!("{arg} is not known")),
        }
    }
    let url = url.ok_or("--url ws://HOST:PORT is needed")?;
    let target = Target {
        address: url
            .trim_start_matches("ws://")
            .trim_end_matches('/')
            .to_socket_addrs()
            .map_err(|error| format!("{url}: {error}"))?
            .next()
            .ok_or(format!("{url} has no address"))?,
        token: token.ok_or("--token TOKEN is needed")?,
    };
    let dialogues = load(&folder)?;
    // What a dialogue panics with is its outcome, and printed as that.
    std::panic::set_hook(Box::new(|_| {}));
    let wires = wires(&target);
    if wires.is_empty() {
        return Err(format!("{url} lets nobody in with that token"));
    }
    let (mut passed, mut failed, mut waiting) = (0, 0, 0);
    for dialogue in dialogues.iter().filter(|one| one.name.contains(&only)) {
        for (wire, outcome) in play(&target, &wires, dialogue) {
            let name = &dialogue.name;
            match outcome {
                Outcome::Passed => {
                    passed += 1;
                    println!("ok    {name} (wire {wire})");
                }
                Outcome::Waiting(method) => {
                    waiting += 1;
                    println!("wait  {name} (wire {wire}): {method} is not there");
                }
                Outcome::Failed(why) => {
                    failed += 1;
                    println!("FAIL  {name} (wire {wire})\n      {why}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {waiting} waiting");
    Ok(failed == 0)
}
