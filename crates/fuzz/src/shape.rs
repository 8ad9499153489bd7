use clawgate_protocol::{Dialect, Method, shape};
use serde_json::Value;

use crate::has_fraction;

/// Longest list of problems, bytes: 64 of them, each with a path and a sentence.
const PROBLEMS_BYTES_MAX: usize = 64 * 1_024;

/// A list of problems: in the wire's words, and no longer than the value deserves.
pub(crate) fn is_told_well(problems: &str) {
    assert!(
        ["must ", "at /", "at root: "]
            .iter()
            .any(|start| problems.starts_with(start)),
        "not in the wire's words: {problems}"
    );
    assert!(problems.len() <= PROBLEMS_BYTES_MAX);
}

/// Params, held against the shape of every method: what wire 3 takes wire 4 takes as well, what is
/// taken is taken when it is written and read again, and what is refused is refused in few words.
///
/// # Panics
/// When one of these does not hold.
pub fn shape(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let again: Value = serde_json::from_str(&value.to_string()).expect("a value is JSON");
    for method in Method::ALL {
        let spec = method.spec();
        let Some(wanted) = &spec.params else { continue };
        let old = shape::check(&value, wanted, Dialect::V3);
        let new = shape::check(&value, wanted, Dialect::V4);
        assert!(
            old.is_err() || new.is_ok(),
            "{}: wire 4 refuses what wire 3 takes: {new:?}",
            spec.name
        );
        if !has_fraction(&value) {
            assert_eq!(shape::check(&again, wanted, Dialect::V4), new);
        }
        for problems in [old, new].into_iter().filter_map(Result::err) {
            is_told_well(&problems);
        }
    }
}
