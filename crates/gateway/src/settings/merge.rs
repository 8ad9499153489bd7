//! What a patch makes of a configuration, and the way back of values that were shown masked.

use serde_json::{Map, Value};

use super::edit::ids;
use crate::config::{REDACTED, redact};

/// Merges a patch (RFC 7396: null removes). A list whose items all have an id is merged by them;
/// every other list is replaced. Paths of lists that lose items by that are given to `shrunk`, in
/// the form `agents.list[].skills`.
pub(super) fn merged(base: &Value, patch: &Value, path: &str, shrunk: &mut Vec<String>) -> Value {
    match (base, patch) {
        (_, Value::Object(patch)) => {
            let mut merged = base.as_object().cloned().unwrap_or_default();
            for (key, change) in patch {
                let place = join(path, key);
                match change {
                    Value::Null => {
                        if let Some(gone) = merged.shift_remove(key) {
                            note_shrunk(&gone, &Value::Null, &place, shrunk);
                        }
                    }
                    change => {
                        let old = merged.get(key).cloned().unwrap_or(Value::Null);
                        let new = self::merged(&old, change, &place, shrunk);
                        merged.insert(key.clone(), new);
                    }
                }
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) if ids(old).is_some() => {
            Value::Array(by_id(old, new, path, shrunk))
        }
        (base, patch) => {
            note_shrunk(base, patch, path, shrunk);
            patch.clone()
        }
    }
}

fn by_id(old: &[Value], new: &[Value], path: &str, shrunk: &mut Vec<String>) -> Vec<Value> {
    let id = |item: &Value| item.get("id").and_then(Value::as_str).map(str::to_owned);
    let mut items = old.to_vec();
    for change in new {
        let place = id(change).and_then(|wanted| {
            items
                .iter()
                .position(|item| id(item).as_deref() == Some(wanted.as_str()))
        });
        match place {
            Some(index) => {
                items[index] = merged(&items[index], change, &format!("{path}[]"), shrunk);
            }
            None => items.push(without_nulls(change)),
        }
    }
    items
}

/// A patch applied to nothing.
fn without_nulls(patch: &Value) -> Value {
    match patch {
        Value::Object(_) => merged(&Value::Null, patch, "", &mut Vec::new()),
        other => other.clone(),
    }
}

fn note_shrunk(old: &Value, new: &Value, path: &str, shrunk: &mut Vec<String>) {
    let Value::Array(old) = old else { return };
    let new = new.as_array().map_or(&[][..], Vec::as_slice);
    if old.iter().any(|item| !new.contains(item)) {
        shrunk.push(path.to_owned());
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Puts what was shown masked back to what it is in the file.
///
/// # Errors
/// The path of a masked value that stands for nothing in the file, or for one of several.
pub(super) fn unmasked(wanted: &Value, said: &Value) -> Result<Value, String> {
    if !is_masked(wanted) {
        return Ok(wanted.clone());
    }
    restored(wanted, Some((said, &redact(said))), "")
}

/// Whether a mask stands anywhere in it.
pub(super) fn is_masked(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(REDACTED),
        Value::Array(items) => items.iter().any(is_masked),
        Value::Object(map) => map.values().any(is_masked),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A value of the file, and how it is shown.
type Original<'a> = Option<(&'a Value, &'a Value)>;

fn restored(wanted: &Value, original: Original<'_>, path: &str) -> Result<Value, String> {
    match wanted {
        Value::Object(map) => {
            let mut whole = Map::new();
            for (key, value) in map {
                let inner =
                    original.and_then(|(said, shown)| Some((said.get(key)?, shown.get(key)?)));
                whole.insert(key.clone(), restored(value, inner, &join(path, key))?);
            }
            Ok(Value::Object(whole))
        }
        Value::Array(items) => list(items, original, path),
        Value::String(text) if text.contains(REDACTED) => match original {
            Some((said, shown)) if shown == wanted => Ok(said.clone()),
            _ => Err(path.to_owned()),
        },
        other => Ok(other.clone()),
    }
}

/// Items are found by their id, else by what they look like, else by their place if nothing else
/// could be meant by it.
fn list(items: &[Value], original: Original<'_>, path: &str) -> Result<Value, String> {
    let none = (&[][..], &[][..]);
    let (said, shown) = match original {
        Some((Value::Array(said), Value::Array(shown))) => (said.as_slice(), shown.as_slice()),
        _ => none,
    };
    let id = |value: &Value| value.get("id").and_then(Value::as_str).map(str::to_owned);
    let looks_the_same = |item: &Value| shown.iter().any(|other| other == item);
    let mut whole = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = format!("{path}[{index}]");
        if !is_masked(item) {
            whole.push(item.clone());
            continue;
        }
        let of = |at: usize| Some((said.get(at)?, shown.get(at)?));
        let by_id = id(item).and_then(|wanted| {
            let mut found = (0..said.len()).filter(|at| id(&said[*at]).as_ref() == Some(&wanted));
            found.next().filter(|_| found.next().is_none())
        });
        let found = if by_id.is_some() {
            by_id
        } else if shown.len() == items.len() && shown.get(index) == Some(item) {
            Some(index)
        } else if looks_the_same(item) {
            let mut alike = (0..said.len()).filter(|at| &shown[*at] == item);
            let first = alike.next();
            // Several that look alike are one only where they are the same.
            first.filter(|first| alike.all(|other| said[other] == said[*first]))
        } else {
            let is_changed_alone = shown.len() == items.len()
                && id(item).is_none()
                && items
                    .iter()
                    .enumerate()
                    .all(|(at, other)| at == index || shown[at] == *other || !is_masked(other));
            is_changed_alone.then_some(index)
        };
        whole.push(restored(item, found.and_then(of), &place)?);
    }
    Ok(Value::Array(whole))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merge(base: &Value, patch: &Value) -> Value {
        merged(base, patch, "", &mut Vec::new())
    }

    #[test]
    fn a_patch_removes_by_null_and_merges_lists_by_id() {
        let base = json!({"a": 1, "b": {"c": [1, 2], "d": 3},
            "l": [{"id": "x", "n": 1, "t": ["p", "q"]}, {"id": "y"}]});
        assert_eq!(
            merge(
                &base,
                &json!({"a": null, "b": {"c": [3]}, "e": {"f": null, "g": 1}})
            ),
            json!({"b": {"c": [3], "d": 3}, "e": {"g": 1}, "l": base["l"]})
        );
        assert_eq!(
            merge(
                &base,
                &json!({"l": [{"id": "x", "n": null, "m": 2}, {"id": "z", "q": null}]})
            )["l"],
            json!([{"id": "x", "t": ["p", "q"], "m": 2}, {"id": "y"}, {"id": "z"}])
        );
        assert_eq!(merge(&base, &json!({"b": 5}))["b"], json!(5));
    }

    #[test]
    fn lists_that_lose_items_are_named() {
        let base = json!({"l": [{"id": "x", "t": ["p", "q"]}], "m": [1, 2], "n": [1], "o": [1]});
        let mut shrunk = Vec::new();
        let patch = json!({"l": [{"id": "x", "t": ["q"]}], "m": [1, 2, 3], "n": null, "o": 4});
        merged(&base, &patch, "", &mut shrunk);
        shrunk.sort();
        assert_eq!(shrunk, ["l[].t", "n", "o"]);
    }

    #[test]
    fn what_is_shown_masked_comes_back_as_it_is_in_the_file() {
        let said = json!({
            "gateway": {"auth": {"token": "one"}, "remote": {"url": "wss://h/?token=two"}},
            "channels": {"pin": 4711},
            "list": [{"id": "a", "token": "A"}, {"id": "b", "token": "B"}],
            "bots": [{"name": "n", "token": "N"}, {"name": "m", "token": "M"}],
            "mcp": {"args": ["--key", "x"]},
        });
        let shown = redact(&said);
        assert_eq!(unmasked(&shown, &said).as_ref(), Ok(&said));
        let mut moved = shown.clone();
        moved["list"].as_array_mut().unwrap().reverse();
        moved["bots"].as_array_mut().unwrap().reverse();
        moved["bots"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "new"}));
        let back = unmasked(&moved, &said).unwrap();
        assert_eq!(back["list"][0], said["list"][1]);
        assert_eq!(back["bots"][0], said["bots"][1]);
        let mut renamed = shown;
        renamed["bots"][1]["name"] = "k".into();
        assert_eq!(unmasked(&renamed, &said).unwrap()["bots"][1]["token"], "M");
    }

    #[test]
    fn a_mask_that_stands_for_nothing_is_refused_with_its_path() {
        let said =
            json!({"a": {"url": "wss://h/?token=two"}, "t": [{"token": "A"}, {"token": "B"}]});
        for (wanted, path) in [
            (json!({"b": {"token": REDACTED}}), "b.token"),
            (
                json!({"a": {"url": format!("wss://evil/?token={REDACTED}")}}),
                "a.url",
            ),
            (json!({"t": [{"token": REDACTED}]}), "t[0].token"),
            (
                json!({"gateway": {"auth": {"token": format!("x{REDACTED}")}}}),
                "gateway.auth.token",
            ),
        ] {
            assert_eq!(unmasked(&wanted, &said), Err(path.to_owned()));
        }
    }
}
