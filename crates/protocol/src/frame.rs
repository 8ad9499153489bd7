//! Frames: one JSON object a message.
//!
//! Decoding is envelope first: `params` stay raw until a handler wants them. The fast
//! path is one pass; only a frame that it refuses is looked at again, slowly, to say
//! exactly what is wrong with it in the words of the caller's dialect.

use std::{borrow::Cow, fmt::Write as _};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    error::{Dialect, ErrorShape, ReceivedError},
    shape::{self, Field, NON_EMPTY, Shape, optional, required, since_v4},
};

/// Largest message before hello-ok, in bytes. One byte more closes 1009.
pub const PRE_HELLO_BYTES_MAX: usize = 65_536;
/// Largest message after hello-ok, in bytes (`policy.maxPayload`).
pub const PAYLOAD_BYTES_MAX: usize = 26_214_400;
/// Outbound backlog per socket above which it counts as slow (`policy.maxBufferedBytes`).
pub const BUFFERED_BYTES_MAX: usize = 52_428_800;
/// Longest request id, in characters. The original has no bound; an id is repeated in the answer
/// and in the log.
pub const ID_CHARS_MAX: usize = 1_024;
/// What the values of one message may take in memory, as it is reckoned before they are read. The
/// original has no bound.
pub const VALUES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Time between ticks (`policy.tickIntervalMs`).
pub const TICK_INTERVAL_MS: u64 = 30_000;

const REQUEST_FIELDS: &[Field] = &[
    required("type", Shape::Const("req")),
    required(
        "id",
        Shape::Str {
            min: 1,
            max: ID_CHARS_MAX,
        },
    ),
    required("method", NON_EMPTY),
    optional("params", Shape::Any),
    since_v4("traceparent", Shape::Str { min: 0, max: 128 }),
    since_v4("expectedProfileId", Shape::Str { min: 1, max: 128 }),
];
const REQUEST: Shape = Shape::Object(REQUEST_FIELDS);

/// A request, borrowed from the message it came in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Chosen by the caller, repeated in the response. Never empty.
    pub id: Cow<'a, str>,
    /// Method name. Never empty.
    pub method: Cow<'a, str>,
    /// Raw JSON of the params; absent and `null` are both `None`.
    pub params: Option<Cow<'a, str>>,
    /// Wire 4: the profile on whose behalf the caller believes to act.
    pub expected_profile: Option<String>,
}

/// Why a message is not a request.
#[derive(Clone, Debug, PartialEq)]
pub enum DecodeError {
    /// It is not JSON at all, or it is no object and cannot be read.
    NotJson,
    /// It is JSON of another shape, or an object with something in it that cannot be read.
    Shape {
        /// What the answer carries as `id`: the received one when the object had one that can be
        /// repeated, else `"invalid"`.
        id: Value,
        /// The problems, in the dialect's words.
        problems: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

/// Reads one message as a request.
///
/// # Errors
/// [`DecodeError::NotJson`] for text that is no JSON, [`DecodeError::Shape`] for anything that is
/// no request.
pub fn decode_request(text: &str, dialect: Dialect) -> Result<Request<'_>, DecodeError> {
    if has_too_many_values(text) {
        return Err(unreadable_object(text, TOO_MANY_VALUES));
    }
    // A list of the right length would do for the struct, but it is no request.
    if is_object(text)
        && let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text)
        && envelope.kind == "req"
        && !envelope.id.is_empty()
        && envelope.id.len() <= ID_CHARS_MAX
        && !envelope.method.is_empty()
    {
        return Ok(Request {
            id: envelope.id,
            method: envelope.method,
            params: envelope.params.map(|raw| Cow::Borrowed(raw.get())),
            expected_profile: None,
        });
    }
    decode_slowly(text, dialect)
}

fn decode_slowly(text: &str, dialect: Dialect) -> Result<Request<'static>, DecodeError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| unreadable_frame(text, &error))?;
    if let Err(problems) = shape::check(&value, &REQUEST, dialect) {
        let id = repeatable_id(value.get("id").cloned());
        return Err(DecodeError::Shape { id, problems });
    }
    let text_of = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Ok(Request {
        id: Cow::Owned(text_of("id")),
        method: Cow::Owned(text_of("method")),
        params: value
            .get("params")
            .filter(|params| !params.is_null())
            .map(|params| Cow::Owned(params.to_string())),
        expected_profile: value
            .get("expectedProfileId")
            .and_then(Value::as_str)
            .map(str::to_owned),
    })
}

fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
        .starts_with('{')
}

/// An id as the answer to a malformed frame repeats it.
fn repeatable_id(id: Option<Value>) -> Value {
    id.filter(|id| match id {
        Value::String(text) => text.len() <= ID_CHARS_MAX || text.chars().count() <= ID_CHARS_MAX,
        other => other.is_number(),
    })
    .unwrap_or_else(|| Value::from("invalid"))
}

/// How a text is refused that has too many values.
pub const TOO_MANY_VALUES: &str = "must not hold more than some hundred thousand values";

/// Whether a JSON text would take more memory than it may once it is read: `[0],` is four letters and
/// hundreds of bytes. Looked at before the text is read; a short one is always good.
pub fn has_too_many_values(text: &str) -> bool {
    text.len() > PRE_HELLO_BYTES_MAX && values_bytes(text) > VALUES_BYTES_MAX
}

/// What the values of a JSON text take once they are read, beside their letters: an upper bound. It is
/// not looked whether the text is JSON.
fn values_bytes(text: &str) -> usize {
    /// A further element, with what a growing list keeps free.
    const ELEMENT: usize = 256;
    /// A list with its first elements.
    const LIST: usize = 384;
    /// An object with its first members.
    const OBJECT: usize = 640;
    let mut bytes: usize = 0;
    let mut is_in_string = false;
    let mut is_escaped = false;
    for letter in text.bytes() {
        if is_in_string {
            let ends = letter == b'"' && !is_escaped;
            is_escaped = letter == b'\\' && !is_escaped;
            is_in_string = !ends;
            continue;
        }
        bytes = bytes.saturating_add(match letter {
            b'"' => {
                is_in_string = true;
                0
            }
            b',' => ELEMENT,
            b'[' => LIST,
            b'{' => OBJECT,
            _ => 0,
        });
    }
    bytes
}

/// A text that cannot be read as a value: an object in which only some value is at fault is told
/// what that is, under its id if that can be read.
fn unreadable_frame(text: &str, error: &serde_json::Error) -> DecodeError {
    unreadable_object(text, unreadable(error))
}

fn unreadable_object(text: &str, problem: &str) -> DecodeError {
    #[derive(Deserialize)]
    struct IdAlone<'a> {
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
    }
    match serde_json::from_str::<IdAlone<'_>>(text) {
        Ok(object) if is_object(text) => DecodeError::Shape {
            id: repeatable_id(
                object
                    .id
                    .and_then(|raw| serde_json::from_str(raw.get()).ok()),
            ),
            problems: problem.to_owned(),
        },
        _ => DecodeError::NotJson,
    }
}

/// Why JSON whose syntax is good cannot be read. The original reads most of this; what is
/// refused here could not be given back as it came.
pub fn unreadable(error: &serde_json::Error) -> &'static str {
    // The library tells these apart by their words alone.
    let words = error.to_string();
    if words.starts_with("recursion limit exceeded") {
        "must not be nested deeper than 128 levels"
    } else if words.starts_with("number out of range") {
        "must not hold numbers beyond 1.8e308"
    } else if words.contains("surrogate") || words.contains("hex escape") {
        "must not hold half of a surrogate pair"
    } else {
        "must be JSON"
    }
}

/// `{"type":"res","id":…,"ok":true,"payload":…}` with the payload already as JSON text.
pub fn response_ok(id: &str, payload: &str) -> String {
    let mut text = response_ok_head(id, payload.len() + 1);
    text.push_str(payload);
    text.push('}');
    text
}

/// The same in pieces, for whoever puts them together elsewhere: a payload may be long.
pub fn response_ok_pieces<'a>(id: &str, payload: &'a str) -> [Cow<'a, str>; 3] {
    let head = response_ok_head(id, 0);
    [Cow::Owned(head), Cow::Borrowed(payload), Cow::Borrowed("}")]
}

/// Everything up to the payload, with room for what follows.
fn response_ok_head(id: &str, room: usize) -> String {
    let mut head = String::with_capacity(room + id.len() + 47);
    head.push_str(r#"{"type":"res","id":"#);
    push_json_str(&mut head, id);
    head.push_str(r#","ok":true,"payload":"#);
    head
}

/// `{"type":"res","id":…,"ok":false,"error":…}`. The id is any JSON value, because a malformed
/// frame's id is repeated as it came.
pub fn response_error(id: &Value, error: &ErrorShape) -> String {
    #[derive(Serialize)]
    struct Frame<'a> {
        r#type: &'static str,
        id: &'a Value,
        ok: bool,
        error: &'a ErrorShape,
    }
    to_json(&Frame {
        r#type: "res",
        id,
        ok: false,
        error,
    })
}

/// A request as a client sends it.
pub fn request(id: &str, method: &str, params: Option<&str>) -> String {
    let mut text = String::with_capacity(64 + params.map_or(0, str::len));
    text.push_str(r#"{"type":"req","id":"#);
    push_json_str(&mut text, id);
    text.push_str(r#","method":"#);
    push_json_str(&mut text, method);
    if let Some(params) = params {
        text.push_str(r#","params":"#);
        text.push_str(params);
    }
    text.push('}');
    text
}

/// An event, encoded once and shared by all its receivers: the frame is
/// `head` + (`,"seq":N` of the receiver's own counting) + `tail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventParts {
    /// `{"type":"event","event":…,"payload":…` without the closing brace.
    pub head: String,
    /// `,"stateVersion":{…}}` or `}`.
    pub tail: String,
}

impl EventParts {
    /// Encodes an event whose payload is already JSON text.
    pub fn new(event: &str, payload: &str, state_version: Option<StateVersion>) -> Self {
        let mut head = String::with_capacity(payload.len() + event.len() + 48);
        head.push_str(r#"{"type":"event","event":"#);
        push_json_str(&mut head, event);
        head.push_str(r#","payload":"#);
        head.push_str(payload);
        let tail = state_version.map_or_else(
            || "}".to_owned(),
            |version| format!(r#","stateVersion":{}}}"#, to_json(&version)),
        );
        Self { head, tail }
    }

    /// The frame with a sequence number, or without one for targeted events.
    pub fn frame(&self, seq: Option<u64>) -> String {
        let mut text = String::with_capacity(self.head.len() + self.tail.len() + 32);
        text.push_str(&self.head);
        push_seq(&mut text, seq);
        text.push_str(&self.tail);
        text
    }

    /// The same in pieces, for whoever puts them together elsewhere.
    pub fn pieces(&self, seq: Option<u64>) -> [Cow<'_, str>; 3] {
        // As long as the longest number.
        let mut number = String::with_capacity(seq.map_or(0, |_| 27));
        push_seq(&mut number, seq);
        let number = Cow::Owned(number);
        [
            Cow::Borrowed(&*self.head),
            number,
            Cow::Borrowed(&*self.tail),
        ]
    }
}

fn push_seq(text: &mut String, seq: Option<u64>) {
    if let Some(seq) = seq {
        write!(text, r#","seq":{seq}"#).expect("writing to memory does not fail");
    }
}

/// Counters beside `presence` and `health` events; both only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVersion {
    /// Grows when a tracked client comes or goes.
    pub presence: u64,
    /// Grows with each health refresh.
    pub health: u64,
}

/// A message as a client receives it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Received {
    /// The answer to a request.
    Res {
        /// The request's id.
        #[serde(default)]
        id: Value,
        /// Whether `payload` or `error` is to be read.
        ok: bool,
        /// The result.
        #[serde(default)]
        payload: Value,
        /// The failure.
        #[serde(default)]
        error: Option<ReceivedError>,
    },
    /// Something happened.
    Event {
        /// Event name.
        event: String,
        /// Event payload.
        #[serde(default)]
        payload: Value,
        /// Sequence number, absent on targeted events.
        #[serde(default)]
        seq: Option<u64>,
    },
}

/// Appends a JSON string literal.
pub fn push_json_str(out: &mut String, text: &str) {
    out.push_str(&to_json(&text));
}

/// JSON text of a value whose serialisation cannot fail: plain structs, maps with text keys.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("wire types have text keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_take_hundreds_of_times_its_letters_is_not_read() {
        let request = |params: &str| {
            format!(r#"{{"type":"req","id":"7","method":"health","params":[{params}]}}"#)
        };
        for part in ["[0],", r#"{"":0},"#, "0,", "[[[]]],", r#"{"a":{}},"#] {
            let text = request(&format!("{}0", part.repeat(2_000_000 / part.len())));
            let refused = decode_request(&text, Dialect::V4).unwrap_err();
            let DecodeError::Shape { id, problems } = refused else {
                panic!("{part}: {refused:?}");
            };
            assert_eq!((id, problems.as_str()), (json!("7"), TOO_MANY_VALUES));
        }
        // What is in strings is no value.
        let quoted = json!(r#"[0],{"a":0},\"#.repeat(1_000_000)).to_string();
        assert!(decode_request(&request(&quoted), Dialect::V4).is_ok());
        let text = request("0,".repeat(40_000).trim_end_matches(','));
        assert!(decode_request(&text, Dialect::V4).is_ok());
    }

    #[test]
    fn a_request_is_borrowed_from_its_message() {
        let request =
            decode_request(r#"{"type":"req","id":"1","method":"health"}"#, Dialect::V3).unwrap();
        assert!(matches!(request.id, Cow::Borrowed("1")));
        assert_eq!(request.method, "health");
        assert!(request.params.is_none());
    }

    #[test]
    fn null_params_are_no_params() {
        let text = r#"{"type":"req","id":"1","method":"x","params":null}"#;
        assert!(decode_request(text, Dialect::V3).unwrap().params.is_none());
    }

    #[test]
    fn a_repeated_key_is_taken_as_javascript_takes_it() {
        let text = r#"{"type":"req","id":"1","id":"2","method":"x"}"#;
        assert_eq!(decode_request(text, Dialect::V3).unwrap().id, "2");
    }

    #[test]
    fn malformed_requests_are_described_as_the_original_does() {
        let shape = |text: &str| match decode_request(text, Dialect::V3) {
            Err(DecodeError::Shape { id, problems }) => (id, problems),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            shape("null"),
            (json!("invalid"), "must be object".to_owned())
        );
        assert_eq!(
            shape("{}").1,
            "must have required property 'type'; must have required property 'id'; \
             must have required property 'method'"
        );
        assert_eq!(
            shape(r#"{"type":"req","id":"","method":"health"}"#),
            (
                json!(""),
                "at /id: must NOT have fewer than 1 characters".to_owned()
            )
        );
        assert_eq!(
            shape(r#"{"type":"req","id":5,"method":"health"}"#),
            (json!(5), "at /id: must be string".to_owned())
        );
        assert_eq!(
            shape(r#"{"type":"req","id":"p10","method":"status","extra":1}"#).1,
            "at root: unexpected property 'extra'"
        );
        assert_eq!(
            decode_request("not json", Dialect::V3).unwrap_err(),
            DecodeError::NotJson
        );
        assert_eq!(
            decode_request("", Dialect::V3).unwrap_err(),
            DecodeError::NotJson
        );
    }

    #[test]
    fn deep_nesting_does_not_overflow() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!(r#"{{"type":"req","id":"1","method":"x","params":{deep}}}"#);
        let params = decode_request(&text, Dialect::V4).unwrap().params.unwrap();
        assert!(serde_json::from_str::<Value>(&params).is_err());
        assert!(decode_request(&deep, Dialect::V4).is_err());
    }

    #[test]
    fn an_object_that_cannot_be_read_is_told_why_under_its_id() {
        let shape = |text: &str| match decode_request(text, Dialect::V4) {
            Err(DecodeError::Shape { id, problems }) => (id, problems),
            other => panic!("{other:?}"),
        };
        let half = "must not hold half of a surrogate pair".to_owned();
        assert_eq!(
            shape(r#"{"type":"req","id":"\ud800","method":"health"}"#),
            (json!("invalid"), half.clone())
        );
        assert_eq!(
            shape(r#"{"type":"req","id":"a","method":"\ud800x"}"#),
            (json!("a"), half)
        );
        assert_eq!(
            shape(r#"{"type":"req","id":1e999,"method":"health"}"#),
            (
                json!("invalid"),
                "must not hold numbers beyond 1.8e308".to_owned()
            )
        );
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(
            shape(&format!(r#"{{"type":"req","id":"a","more":{deep}}}"#)).1,
            "must not be nested deeper than 128 levels"
        );
        assert_eq!(
            decode_request(r#"{"type":"req","id":"a""#, Dialect::V4).unwrap_err(),
            DecodeError::NotJson
        );
    }

    #[test]
    fn a_list_is_no_request() {
        let text = r#"["req","1","health"]"#;
        assert_eq!(
            decode_request(text, Dialect::V4).unwrap_err(),
            DecodeError::Shape {
                id: json!("invalid"),
                problems: "must be object".to_owned(),
            }
        );
        let half = r#"["\ud800","1","health"]"#;
        assert_eq!(
            decode_request(half, Dialect::V4).unwrap_err(),
            DecodeError::NotJson
        );
    }

    #[test]
    fn an_id_has_at_most_1024_characters() {
        let text = |id: &str| json!({"type": "req", "id": id, "method": "x"}).to_string();
        for id in ["x".repeat(1_024), "ü".repeat(1_024)] {
            assert!(decode_request(&text(&id), Dialect::V3).is_ok());
        }
        assert_eq!(
            decode_request(&text(&"x".repeat(1_025)), Dialect::V3).unwrap_err(),
            DecodeError::Shape {
                id: json!("invalid"),
                problems: "at /id: must NOT have more than 1024 characters".to_owned(),
            }
        );
    }

    #[test]
    fn version_4_takes_trace_headers() {
        let text = r#"{"type":"req","id":"1","method":"x","traceparent":"00-0-0-00"}"#;
        assert!(decode_request(text, Dialect::V4).is_ok());
        assert!(decode_request(text, Dialect::V3).is_err());
    }

    #[test]
    fn event_frames_have_the_wire_key_order() {
        let version = StateVersion {
            presence: 1,
            health: 2,
        };
        let parts = EventParts::new("health", r#"{"ok":true}"#, Some(version));
        assert_eq!(
            parts.frame(Some(7)),
            r#"{"type":"event","event":"health","payload":{"ok":true},"seq":7,"stateVersion":{"presence":1,"health":2}}"#
        );
        let parts = EventParts::new("tick", "{}", None);
        assert_eq!(
            parts.frame(None),
            r#"{"type":"event","event":"tick","payload":{}}"#
        );
    }

    #[test]
    fn error_frames_have_the_wire_key_order() {
        let error = ErrorShape::invalid("no")
            .with_details(json!({"code": "X"}))
            .retry_after(5);
        assert_eq!(
            response_error(&json!("1"), &error),
            r#"{"type":"res","id":"1","ok":false,"error":{"code":"INVALID_REQUEST","message":"no","details":{"code":"X"},"retryable":true,"retryAfterMs":5}}"#
        );
    }
}
