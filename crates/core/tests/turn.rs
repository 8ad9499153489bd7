//! A turn ends, whatever happens in it, and asks no more often than it may.

use clawgate_core::turn::{End, Failure, FailureKind, Next, Turn, TurnLimits};
use proptest::prelude::*;

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: kind.as_str().to_owned(),
        retry_after_ms: None,
        partial: false,
    }
}

fn asked(next: &Next) -> (usize, u64) {
    match next {
        Next::Ask { model, after_ms } => (*model, *after_ms),
        other => panic!("expected a request, got {other:?}"),
    }
}

#[test]
fn an_answer_without_tools_ends_it() {
    let mut turn = Turn::new(TurnLimits::default(), 1);
    assert_eq!(asked(&turn.begin()), (0, 0));
    assert_eq!(turn.answered(false), Next::End(End::Answered));
    assert!(turn.attempts().is_empty());
}

#[test]
fn tools_are_run_and_the_model_is_asked_again() {
    let mut turn = Turn::new(TurnLimits::default(), 1);
    turn.begin();
    assert_eq!(turn.answered(true), Next::RunTools);
    assert_eq!(asked(&turn.tools_ran()), (0, 0));
    assert_eq!(turn.answered(false), Next::End(End::Answered));
}

#[test]
fn what_is_wrong_is_not_repeated() {
    for kind in [
        FailureKind::Auth,
        FailureKind::Billing,
        FailureKind::Invalid,
        FailureKind::NoModel,
        FailureKind::Malformed,
        FailureKind::TooLarge,
    ] {
        let mut turn = Turn::new(TurnLimits::default(), 1);
        turn.begin();
        assert_eq!(
            turn.failed(failure(kind)),
            Next::End(End::Failed(failure(kind))),
            "{kind:?}"
        );
    }
}

#[test]
fn what_passes_is_repeated_with_longer_pauses_and_one_budget() {
    let mut turn = Turn::new(TurnLimits::default(), 2);
    turn.begin();
    let mut seen = Vec::new();
    let mut next = turn.failed(failure(FailureKind::Server));
    while let Next::Ask { model, after_ms } = next {
        seen.push((model, after_ms));
        next = turn.failed(failure(FailureKind::Server));
    }
    // Three repeats in all; the fallback gets its one request and no budget of its own.
    assert_eq!(seen, [(0, 1_000), (0, 2_000), (0, 4_000), (1, 0)]);
    assert_eq!(next, Next::End(End::Failed(failure(FailureKind::Server))));
    assert_eq!(turn.attempts().len(), 5);
}

#[test]
fn a_provider_that_says_when_is_believed_within_reason() {
    let told = |ms| Failure {
        retry_after_ms: Some(ms),
        ..failure(FailureKind::RateLimited)
    };
    let mut turn = Turn::new(TurnLimits::default(), 2);
    turn.begin();
    assert_eq!(asked(&turn.failed(told(20_000))), (0, 20_000));
    // Longer than anybody waits: the next model is asked at once.
    assert_eq!(asked(&turn.failed(told(3_600_000))), (1, 0));
    assert_eq!(
        turn.failed(told(3_600_000)),
        Next::End(End::Failed(told(3_600_000)))
    );
}

#[test]
fn an_answer_that_was_begun_is_not_begun_again() {
    let mut turn = Turn::new(TurnLimits::default(), 3);
    turn.begin();
    let cut = Failure {
        partial: true,
        ..failure(FailureKind::Cut)
    };
    assert_eq!(turn.failed(cut.clone()), Next::End(End::Failed(cut)));
}

#[test]
fn too_long_is_shortened_once() {
    let mut turn = Turn::new(TurnLimits::default(), 2);
    turn.begin();
    assert_eq!(turn.failed(failure(FailureKind::TooLong)), Next::Shorten);
    assert_eq!(asked(&turn.shortened(true)), (0, 0));
    assert_eq!(
        turn.failed(failure(FailureKind::TooLong)),
        Next::End(End::Failed(failure(FailureKind::TooLong)))
    );
    let mut turn = Turn::new(TurnLimits::default(), 2);
    turn.begin();
    turn.failed(failure(FailureKind::TooLong));
    assert!(matches!(
        turn.shortened(false),
        Next::End(End::Failed(Failure {
            kind: FailureKind::TooLong,
            ..
        }))
    ));
}

#[test]
fn rounds_are_bounded() {
    let limits = TurnLimits {
        rounds: 2,
        ..TurnLimits::default()
    };
    let mut turn = Turn::new(limits, 1);
    turn.begin();
    for _ in 0..2 {
        assert_eq!(turn.answered(true), Next::RunTools);
        turn.tools_ran();
    }
    assert_eq!(turn.answered(true), Next::End(End::TooManyRounds));
}

#[test]
fn a_turn_that_is_over_does_nothing_more() {
    let mut turn = Turn::new(TurnLimits::default(), 2);
    turn.begin();
    turn.cancelled();
    for next in [
        turn.answered(true),
        turn.tools_ran(),
        turn.shortened(true),
        turn.failed(failure(FailureKind::Server)),
    ] {
        assert_eq!(next, Next::End(End::Cancelled));
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Answer(bool),
    Fail(FailureKind, bool, Option<u64>),
    CannotShorten,
}

fn happening() -> impl Strategy<Value = Happens> {
    prop_oneof![
        any::<bool>().prop_map(Happens::Answer),
        (
            prop::sample::select(&FailureKind::ALL[..]),
            prop::bool::weighted(0.1),
            prop::option::of(0_u64..120_000)
        )
            .prop_map(|(kind, partial, wait)| Happens::Fail(kind, partial, wait)),
        Just(Happens::CannotShorten),
    ]
}

proptest! {
    #[test]
    fn every_turn_ends_within_its_bounds(
        script in prop::collection::vec(happening(), 1..64),
        models in 0_usize..4,
        rounds in 0_u32..6,
        repeats in 0_u32..6,
    ) {
        let limits = TurnLimits { rounds, repeats, ..TurnLimits::default() };
        let mut turn = Turn::new(limits, models);
        let mut script = script.iter().cycle();
        let (mut requests, mut tools, mut last_model) = (0_u32, 0_u32, 0);
        let mut next = turn.begin();
        loop {
            match next {
                Next::End(_) => break,
                Next::RunTools => {
                    tools += 1;
                    next = turn.tools_ran();
                }
                Next::Shorten => {
                    let is_shorter = !matches!(script.next(), Some(Happens::CannotShorten));
                    next = turn.shortened(is_shorter);
                }
                Next::Ask { model, after_ms } => {
                    requests += 1;
                    prop_assert!(after_ms <= limits.pause_max_ms);
                    prop_assert!(model >= last_model && model < models.max(1));
                    last_model = model;
                    next = match script.next() {
                        Some(Happens::Answer(calls)) => turn.answered(*calls),
                        Some(Happens::Fail(kind, partial, retry_after_ms)) => turn.failed(Failure {
                            partial: *partial,
                            retry_after_ms: *retry_after_ms,
                            ..failure(*kind)
                        }),
                        _ => turn.answered(false),
                    };
                }
            }
        }
        let models = u32::try_from(models.max(1)).expect("few models");
        prop_assert!(tools <= rounds);
        prop_assert!(requests <= 1 + rounds + repeats + (models - 1) + limits.shortenings);
    }
}
