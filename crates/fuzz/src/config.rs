use clawgate_gateway::{EditError, FileChange, edited_config, parse_config, redact};
use serde_json::{Value, json};

use crate::has_fraction;

const CANARY: &str = "canary-9f1c";

/// A text of a configuration: JSON is read as what it says, what is read is the same when it is
/// written as JSON, and a secret in it is not shown.
///
/// # Panics
/// When one of these does not hold.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = parse_config(text);
    if let Ok(strict) = serde_json::from_str::<Value>(text)
        && !has_fraction(&strict)
    {
        assert_eq!(read.as_ref(), Ok(&strict), "JSON is JSON5");
    }
    let Ok(mut read) = read else { return };
    if !has_fraction(&read) {
        assert_eq!(parse_config(&read.to_string()).as_ref(), Ok(&read));
    }
    let shown = redact(&read);
    assert_eq!(redact(&shown), shown, "what is masked is masked for good");
    if read.is_object() {
        let plant = FileChange::Merge(json!({"gateway": {"auth": {"token": CANARY}}}));
        plant.apply(&mut read).expect("a patch fits everywhere");
        let shown = redact(&read).to_string();
        assert!(!shown.contains(CANARY), "a token is shown");
    }
}

/// A text of a configuration, a path and a value, with a line of three dashes between them: what is
/// set, removed or merged is so afterwards, and setting it twice changes nothing more.
///
/// # Panics
/// When the text cannot be edited though the change makes sense, or says something else afterwards.
pub fn config_edit(data: &[u8]) {
    let Ok(whole) = std::str::from_utf8(data) else {
        return;
    };
    let mut parts = whole.splitn(3, "\n---\n");
    let (Some(text), Some(path), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let Ok(value) = serde_json::from_str::<Value>(value) else {
        return;
    };
    let Ok(said) = parse_config(text) else { return };
    // A masked value stands for what it masks, and is not what is said afterwards.
    if has_fraction(&said) || has_fraction(&value) || whole.contains("__OPENCLAW_REDACTED__") {
        return;
    }
    let set = || FileChange::Set(path.to_owned(), value.clone());
    if let Some(edited) = edited(text, &said, set()) {
        let twice = edited_config(&edited, set()).expect("it was set before");
        assert_eq!(twice, edited, "set twice");
    }
    drop(edited(text, &said, FileChange::Unset(path.to_owned())));
    drop(edited(text, &said, FileChange::Merge(value)));
}

/// The text with the change, if it makes sense there.
fn edited(text: &str, said: &Value, change: FileChange) -> Option<String> {
    let mut wanted = said.clone();
    let shown = format!("{change:?}");
    let makes_sense = change.apply(&mut wanted).is_ok();
    match edited_config(text, change) {
        Ok(edited) => {
            assert!(makes_sense, "{shown} was refused, and done");
            let says = parse_config(&edited).expect("what was edited is JSON5");
            assert_eq!(says, wanted, "after {shown}, in {edited}");
            Some(edited)
        }
        Err(EditError::Failed(why)) => panic!("{shown}: {why}"),
        Err(EditError::Invalid(_) | EditError::Refused(_)) => None,
    }
}
