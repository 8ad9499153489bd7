//! JSON for scripts, which may yet end up on a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::is_obeyed;

/// Two blanks of indent, keys in the order in which they came.
pub(crate) fn pretty(value: &Value) -> String {
    escaped(serde_json::to_string_pretty(value).expect("a JSON value always prints"))
}

/// On one line.
pub(crate) fn line(value: &Value) -> String {
    escaped(value.to_string())
}

/// JSON asks for escapes below U+0020 only; terminals obey some above it too. Escaped they mean
/// the same to a script and nothing to a terminal.
fn escaped(text: String) -> String {
    let obeyed = |c: char| is_obeyed(c) && c != '\n';
    if !text.contains(obeyed) {
        return text;
    }
    let mut quiet = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) {
            write!(quiet, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
        } else {
            quiet.push(c);
        }
    }
    quiet
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_means_the_same() {
        let value = json!({"a": "\u{1b}[2J\u{9b}2J\u{7f}\n\u{202e}", "b": "ü"});
        for text in [pretty(&value), line(&value)] {
            assert!(!text.contains(|c: char| is_obeyed(c) && c != '\n'));
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
