//! Every body over the inputs in `fuzz/corpus`, and over changes of each that are the same every time.
//! `CLAWGATE_FUZZ_ROUNDS=20` makes twenty times as many.

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use clawgate_fuzz::{Body, TARGETS};

/// Longest input that is made, bytes.
const BYTES_MAX: usize = 16 << 10;

/// Words that mean something to one of the readers.
const WORDS: &[&str] = &[
    "\0",
    "\n",
    "\r\n",
    " ",
    "\"",
    "\\",
    "/",
    "../",
    "%2e",
    "%00",
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "9007199254740993",
    "-9223372036854775808",
    "18446744073709551615",
    "\\ud800",
    "\u{e9}",
    "\u{202e}",
    "\u{1f600}",
    "*",
    "**",
    "?",
    "~/",
    ",",
    ":",
    "//",
    "/*",
    "'",
    "+",
    "-",
    "@@",
    "*/61",
    "L",
    "#",
    "data: ",
    "[DONE]",
    "\n\n",
    "{\"id\":\"x\"}",
    "\"type\":\"req\"",
    "$",
];

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn paths_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory is of this repository");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let paths = paths_in(dir).into_iter();
    paths
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    paths_in(&fuzz_dir().join("corpus").join(target))
        .iter()
        .map(|path| fs::read(path).expect("an input can be read"))
        .collect()
}

/// A row of numbers that is the same every time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 34).expect("30 bits") % bound.max(1)
    }

    /// A place in an input, and one not before it.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        let longest = (length - from).min(64);
        from..from + self.below(longest + 1)
    }

    /// An input with a few changes.
    fn changed(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            let range = self.range(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
                1 => drop(bytes.drain(range)),
                2 => {
                    let again = bytes[range.clone()].to_vec();
                    drop(bytes.splice(range.end..range.end, again));
                }
                3 => {
                    let piece = other[self.range(other.len())].to_vec();
                    drop(bytes.splice(range, piece));
                }
                4 => bytes.truncate(range.end),
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    drop(bytes.splice(range.start..range.start, word.bytes()));
                }
            }
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }
}

fn run(target: &str, body: Body, input: &[u8]) {
    if catch_unwind(|| body(input)).is_err() {
        panic!(
            "{target} of this input, see above: b\"{}\"",
            input.escape_ascii()
        );
    }
}

/// Runs a body over its inputs, and over so many changes of them.
fn replay(target: &str, changes: usize) {
    let (_, body) = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("it is one of the bodies");
    let inputs = corpus(target);
    for input in &inputs {
        run(target, *body, input);
    }
    let rounds = std::env::var("CLAWGATE_FUZZ_ROUNDS");
    let rounds: usize = rounds.map_or(1, |rounds| rounds.parse().expect("a number"));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for index in 0..changes * rounds {
        let input = &inputs[index % inputs.len()];
        let other = &inputs[dice.below(inputs.len())];
        let changed = dice.changed(input, other);
        run(target, *body, &changed);
    }
}

#[test]
fn a_path_of_a_request_has_one_reading_or_none() {
    replay("address", 40_000);
}

#[test]
fn nothing_that_is_appended_makes_a_refused_command_pass() {
    replay("allowlist", 10_000);
}

#[test]
fn a_configuration_is_read_as_it_is_written() {
    replay("config", 4_000);
}

#[test]
fn an_edited_configuration_says_what_was_wanted() {
    replay("config_edit", 4_000);
}

#[test]
fn params_of_connect_are_read_or_refused_in_the_words_of_the_wire() {
    replay("connect", 10_000);
}

#[test]
fn a_slot_is_later_than_what_it_follows_and_is_found_again() {
    replay("cron", 3_000);
}

#[test]
fn a_frame_that_is_read_is_read_again() {
    replay("frame", 20_000);
}

#[test]
fn an_import_brings_everything_once_or_says_why_not() {
    replay("import", 60);
}

#[test]
fn a_patch_does_what_it_says() {
    replay("patch", 20_000);
}

#[test]
fn params_that_wire_3_takes_wire_4_takes_as_well() {
    replay("shape", 2_000);
}

#[test]
fn an_answer_is_the_same_wherever_its_transfer_is_cut() {
    replay("stream", 4_000);
}

#[test]
fn every_body_has_its_file_for_the_fuzzer_and_its_inputs() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&fuzz_dir().join("targets")), bodies);
    assert_eq!(names_in(&fuzz_dir().join("corpus")), bodies);
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    for body in &bodies {
        let line = format!("path = \"targets/{body}.rs\"");
        assert!(manifest.contains(&line), "{body} is in no [[bin]]");
        assert!(!corpus(body).is_empty(), "{body} has no inputs");
        let text = fs::read_to_string(fuzz_dir().join(format!("targets/{body}.rs"))).unwrap();
        assert!(text.contains(&format!("clawgate_fuzz::{body}(data)")));
    }
}
