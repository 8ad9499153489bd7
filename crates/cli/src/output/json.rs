//! JSON for scripts.

use serde_json::Value;

/// Two blanks of indent, keys in the order in which they came.
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value always prints")
}
