use clawgate_protocol::{
    Dialect, ErrorCode, ErrorShape,
    frame::{self, DecodeError, ID_CHARS_MAX, Request, decode_request},
};
use serde_json::Value;

use crate::has_fraction;

/// A message of a socket: a request that is read is read as the same when it is written again, the
/// fast way of reading and the slow one agree, and whatever is refused can be answered.
///
/// # Panics
/// When one of these does not hold.
pub fn frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for dialect in [Dialect::V3, Dialect::V4] {
        match decode_request(text, dialect) {
            Ok(request) => is_read_again(&request, dialect),
            Err(DecodeError::NotJson) => assert!(
                serde_json::from_str::<Value>(text).is_err(),
                "it is JSON, and said to be none"
            ),
            Err(DecodeError::Shape { id, problems }) => {
                assert!(!problems.is_empty(), "refused without a word");
                let error = ErrorShape::new(ErrorCode::InvalidRequest, problems);
                let answer = frame::response_error(&id, &error);
                let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
                assert!(answer["id"].is_string() || answer["id"].is_number());
            }
        }
    }
    both_ways_agree(text);
}

fn is_read_again(request: &Request<'_>, dialect: Dialect) {
    let chars = request.id.chars().count();
    assert!((1..=ID_CHARS_MAX).contains(&chars) && !request.method.is_empty());
    let written = frame::request(&request.id, &request.method, request.params.as_deref());
    let again = decode_request(&written, dialect).expect("what was read can be written and read");
    assert_eq!(
        (&again.id, &again.method),
        (&request.id, &request.method),
        "{written}"
    );
    assert_eq!(value(&again), value(request), "{written}");
}

/// The params; none as well where they are no value of their own (`1e999`), or not to be compared.
fn value(request: &Request<'_>) -> Option<Value> {
    let value = serde_json::from_str(request.params.as_deref()?).ok()?;
    Some(value).filter(|value| !has_fraction(value))
}

/// A member that only wire 4 knows makes a frame be read slowly, and changes nothing else in it.
fn both_ways_agree(text: &str) {
    let (Ok(fast), Some(rest)) = (
        decode_request(text, Dialect::V4),
        text.trim_start().strip_prefix('{'),
    ) else {
        return;
    };
    let params = fast.params.as_deref().map(serde_json::from_str::<Value>);
    if params.as_ref().is_some_and(Result::is_err) {
        return;
    }
    let slowly = format!(r#"{{"traceparent":"t",{rest}"#);
    let slow = decode_request(&slowly, Dialect::V4).expect("one more member that is known");
    assert_eq!((&slow.id, &slow.method), (&fast.id, &fast.method));
    assert_eq!(slow.params.is_some(), fast.params.is_some());
    assert_eq!(value(&slow), value(&fast));
}
