//! Runs one hot path a given number of times, and nothing else, so that `scripts/instruction-counts` can
//! count the instructions of one round: it runs the same path with few rounds and with many, and what
//! starting and preparing cost falls out of the difference.
//!
//! Nothing here may depend on the time, on chance or on the machine.

mod authority;
mod frames;
mod jobs;

use std::{io::Write as _, process::ExitCode};

/// A path that is counted.
struct Path {
    /// Under which name.
    name: &'static str,
    /// How many rounds more the second run has: as many as make a round stand out, and few enough for an emulator.
    rounds: u32,
    /// Makes what a round needs, and gives the round.
    prepare: fn() -> Round,
}

/// One round of a path.
type Round = Box<dyn FnMut()>;

const PATHS: &[Path] = &[
    frames::READ_A_CALL,
    frames::READ_A_CALL_WITH_PARAMS,
    frames::REFUSE_A_FRAME,
    frames::WRITE_AN_ANSWER,
    frames::WRITE_AN_ERROR,
    frames::WRITE_AN_EVENT,
    authority::READ_A_CONNECT,
    authority::CHECK_A_PROOF,
    authority::DECIDE_A_GRANT,
    authority::ADMIT_A_CALL,
    jobs::READ_AN_EXPRESSION,
    jobs::FIND_THE_NEXT_SLOT,
    jobs::LOOK_AND_NOTHING_IS_DUE,
    jobs::LOOK_AND_ONE_IS_DUE,
    jobs::READ_A_PAGE,
    jobs::KEEP_A_JOB,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let known = |wanted: &str| PATHS.iter().find(|path| path.name == wanted);
    match arguments[..] {
        ["list"] => {
            let mut out = std::io::stdout().lock();
            let written = PATHS
                .iter()
                .try_for_each(|path| writeln!(out, "{} {}", path.name, path.rounds));
            return ExitCode::from(u8::from(written.is_err()));
        }
        [name, rounds] => {
            if let (Some(path), Ok(rounds)) = (known(name), rounds.parse::<u32>()) {
                let mut round = (path.prepare)();
                for _ in 0..rounds {
                    round();
                }
                return ExitCode::SUCCESS;
            }
        }
        _ => {}
    }
    let _ = writeln!(
        std::io::stderr(),
        "usage: clawgate-paths list, clawgate-paths NAME ROUNDS"
    );
    ExitCode::from(2)
}
