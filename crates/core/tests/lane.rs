//! Lanes: one turn a session, so many a lane, and nobody starves.

use std::collections::{HashMap, HashSet};

use clawgate_core::lane::{Lane, Lanes, Place, QueueMode};

fn drain(lanes: &mut Lanes) -> Vec<(String, String)> {
    std::iter::from_fn(|| lanes.take()).collect()
}

fn pair(session: &str, run: &str) -> (String, String) {
    (session.to_owned(), run.to_owned())
}

#[test]
fn a_session_runs_one_turn_at_a_time_in_the_order_of_their_coming() {
    let mut lanes = Lanes::new([4, 1, 1]);
    for run in ["1", "2", "3"] {
        lanes.enter("a", run, Lane::Main);
    }
    assert_eq!(drain(&mut lanes), [pair("a", "1")]);
    assert_eq!(lanes.running("a"), Some("1"));
    assert_eq!(lanes.waiting("a").collect::<Vec<_>>(), ["2", "3"]);
    let second = Place {
        in_session: 2,
        for_lane: false,
    };
    assert_eq!(lanes.place("a", "3"), Some(second));
    assert!(lanes.leave("a", "2"), "what waits may go");
    assert!(!lanes.leave("a", "2"));
    assert!(lanes.leave("a", "1"));
    assert_eq!(drain(&mut lanes), [pair("a", "3")]);
    assert!(lanes.leave("a", "3"));
    assert_eq!(lanes.counts(), (0, 0));
    assert_eq!(lanes.place("a", "3"), None);
}

#[test]
fn a_session_with_many_messages_holds_nobody_up() {
    let mut lanes = Lanes::new([1, 1, 1]);
    for n in 0..100 {
        lanes.enter("busy", &format!("busy{n}"), Lane::Main);
    }
    lanes.enter("quiet", "quiet0", Lane::Main);
    assert_eq!(drain(&mut lanes), [pair("busy", "busy0")]);
    let next = Place {
        in_session: 0,
        for_lane: true,
    };
    assert_eq!(lanes.place("quiet", "quiet0"), Some(next));
    lanes.leave("busy", "busy0");
    assert_eq!(drain(&mut lanes), [pair("quiet", "quiet0")]);
}

#[test]
fn a_full_lane_holds_only_its_own() {
    let mut lanes = Lanes::new([1, 1, 1]);
    lanes.enter("a", "a", Lane::Main);
    lanes.enter("b", "b", Lane::Main);
    lanes.enter("c", "c", Lane::Cron);
    lanes.enter("d", "d", Lane::Nested);
    assert_eq!(
        drain(&mut lanes),
        [pair("a", "a"), pair("c", "c"), pair("d", "d")]
    );
    lanes.widen([2, 1, 1]);
    assert_eq!(drain(&mut lanes), [pair("b", "b")]);
}

/// A small generator, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn whatever_comes_and_goes_every_turn_runs_once_and_no_width_is_passed() {
    for seed in 1..=500_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let widths = [1, 2, 3].map(|n| 1 + usize::try_from(dice.roll(n)).unwrap());
        let mut lanes = Lanes::new(widths);
        let mut of: HashMap<String, (String, Lane)> = HashMap::new();
        let (mut running, mut ran): (Vec<String>, HashSet<String>) = (Vec::new(), HashSet::new());
        let mut gone = 0;
        for step in 0..200 {
            match dice.roll(3) {
                0 => {
                    let session = format!("s{}", dice.roll(6));
                    let lane = Lane::ALL[usize::try_from(dice.roll(3)).unwrap()];
                    let run = format!("r{step}");
                    lanes.enter(&session, &run, lane);
                    of.insert(run, (session, lane));
                }
                1 if !running.is_empty() => {
                    let at = usize::try_from(dice.roll(running.len() as u64)).unwrap();
                    let run = running.swap_remove(at);
                    assert!(lanes.leave(&of[&run].0, &run));
                }
                _ => {
                    let mut waits: Vec<String> = of
                        .iter()
                        .filter(|(run, (session, _))| lanes.place(session, run).is_some())
                        .map(|(run, _)| run.clone())
                        .collect();
                    waits.sort();
                    if let Some(run) = waits.first().filter(|_| dice.roll(4) == 0) {
                        assert!(lanes.leave(&of[run].0, run));
                        gone += 1;
                        of.remove(run);
                    }
                }
            }
            for (session, run) in drain(&mut lanes) {
                assert_eq!(of[&run].0, session);
                assert!(ran.insert(run.clone()), "seed {seed}: {run} ran twice");
                running.push(run);
            }
            let mut sessions = HashSet::new();
            for (at, lane) in Lane::ALL.into_iter().enumerate() {
                let here: Vec<_> = running.iter().filter(|run| of[*run].1 == lane).collect();
                assert!(
                    here.len() <= widths[at],
                    "seed {seed}: {lane:?} is too wide"
                );
            }
            for run in &running {
                assert!(sessions.insert(&of[run].0), "seed {seed}: two in a session");
            }
        }
        while let Some(run) = running.pop() {
            lanes.leave(&of[&run].0, &run);
            for (_, run) in drain(&mut lanes) {
                assert!(ran.insert(run.clone()));
                running.push(run);
            }
        }
        assert_eq!(
            ran.len(),
            of.len(),
            "seed {seed}: {gone} went, others starved"
        );
        assert_eq!(lanes.counts(), (0, 0));
    }
}

#[test]
fn the_words_of_the_modes_are_read_back() {
    for mode in [
        QueueMode::Steer,
        QueueMode::Followup,
        QueueMode::Collect,
        QueueMode::Interrupt,
    ] {
        assert_eq!(QueueMode::parse(mode.as_str()), Some(mode));
    }
    assert_eq!(QueueMode::parse(" Steer-Backlog "), Some(QueueMode::Steer));
    assert_eq!(QueueMode::parse("sometimes"), None);
}
