//! The dialogues of `tests/conformance`, played to this gateway. They passed on 2026.3.13 as well.

use std::path::Path;

use clawgate_protocol::method::Method;
use clawgate_testkit::{
    TOKEN,
    conformance::{Outcome, SCRIPTED_MODEL, Target, load, play, wires},
    gateway,
    provider::{Dialect, Provider},
    token_config,
};
use serde_json::json;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}

#[test]
fn every_dialogue_goes_as_it_is_written() {
    let provider = Provider::conversing();
    let mut config = token_config();
    config["models"] = json!({"providers": {"scripted": provider.config(Dialect::Chat)}});
    config["agents"] = json!({"defaults": {"model": {"primary": "scripted/some-model"}}});
    let gateway = gateway!(config);
    let target = Target {
        address: gateway.address(),
        token: TOKEN.to_owned(),
    };
    let wires = wires(&target);
    assert_eq!(wires, [3, 4]);
    let mut wrong = Vec::new();
    let (mut passed, mut waiting) = (0, 0);
    for dialogue in load(&folder()).unwrap() {
        for (wire, outcome) in play(&target, &wires, &dialogue) {
            match outcome {
                Outcome::Passed => passed += 1,
                // Only what the table does not hold may be answered `unknown method`.
                Outcome::Waiting(method)
                    if method != SCRIPTED_MODEL && Method::parse(&method).is_none() =>
                {
                    waiting += 1;
                }
                other => wrong.push(format!("{} (wire {wire}): {other:?}", dialogue.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(passed > 150, "only {passed} passed, {waiting} wait");
}

#[test]
fn where_a_dialogue_has_two_ways_the_difference_is_a_chosen_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chosen = flat(&std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let mut seen = 0;
    for dialogue in load(&folder()).unwrap() {
        for line in &dialogue.differs {
            seen += 1;
            assert!(
                chosen.contains(&flat(line)),
                "{}: ARCHITECTURE.md does not say {line:?}",
                dialogue.name
            );
        }
    }
    assert!(seen > 0);
}
