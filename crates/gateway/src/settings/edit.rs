//! Editing the operator's text so that it says something else: comments, order and formatting of
//! what stays the same are kept.

use jsonc_parser::{
    ParseOptions,
    cst::{
        CstArray, CstContainerNode, CstInputValue, CstLeafNode, CstNode, CstObject, CstObjectProp,
        CstRootNode,
    },
};
use serde_json::{Map, Value};

use crate::config;

/// How deep changes are looked for, one after the other: a spelling that cannot be edited in every
/// place (items without a comma between them) has the member written anew that holds it, or else
/// the whole value.
const DEPTHS: [usize; 3] = [usize::MAX, 1, 0];

/// The same text, saying `wanted` where it said `said`. `None` when it is none that can be edited.
pub(super) fn edited(text: &str, said: &Value, wanted: &Value) -> Option<String> {
    DEPTHS
        .into_iter()
        .filter_map(|depth| edited_to(text, said, wanted, depth))
        .find(|text| config::parse(text).as_ref() == Ok(wanted))
}

fn edited_to(text: &str, said: &Value, wanted: &Value, depth: usize) -> Option<String> {
    let root = CstRootNode::parse(text, &ParseOptions::default()).ok()?;
    match root.value() {
        Some(node) => reconcile(node, said, wanted, depth),
        None => root.set_value(input(wanted)),
    }
    let mut text = root.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}

/// Whether a text holds comments.
pub(super) fn has_comments(text: &str) -> bool {
    fn below(nodes: Vec<CstNode>) -> bool {
        nodes
            .into_iter()
            .any(|node| node.is_comment() || below(node.children()))
    }
    CstRootNode::parse(text, &ParseOptions::default()).is_ok_and(|root| below(root.children()))
}

fn reconcile(node: CstNode, said: &Value, wanted: &Value, depth: usize) {
    if said == wanted {
        return;
    }
    let Some(below) = depth.checked_sub(1) else {
        return replace(node, input(wanted));
    };
    match (said, wanted, node.as_object(), node.as_array()) {
        (Value::Object(said), Value::Object(wanted), Some(object), _) => {
            members(&object, said, wanted, below);
        }
        (Value::Array(said), Value::Array(wanted), _, Some(array)) => {
            items(array, said, wanted, below);
        }
        _ => replace(node, input(wanted)),
    }
}

fn members(
    object: &CstObject,
    said: &Map<String, Value>,
    wanted: &Map<String, Value>,
    depth: usize,
) {
    for property in object.properties() {
        let gone = property
            .decoded_name()
            .is_some_and(|name| !wanted.contains_key(&name));
        if gone {
            property.remove();
        }
    }
    for (key, value) in wanted {
        match (said.get(key), property(object, key)) {
            (Some(old), _) if old == value => {}
            (Some(old), Some(property)) => match property.value() {
                Some(node) if node.as_object().is_some() || node.as_array().is_some() => {
                    reconcile(node, old, value, depth);
                }
                _ => property.set_value(input(value)),
            },
            _ => drop(object.append(key, input(value))),
        }
    }
}

/// The property that holds: of several with one name the last.
fn property(object: &CstObject, key: &str) -> Option<CstObjectProp> {
    object
        .properties()
        .into_iter()
        .rfind(|property| property.decoded_name().as_deref() == Some(key))
}

fn items(array: CstArray, said: &[Value], wanted: &[Value], depth: usize) {
    if let (Some(old), Some(new)) = (ids(said), ids(wanted)) {
        let kept: Vec<&str> = old.iter().copied().filter(|id| new.contains(id)).collect();
        let asked: Vec<&str> = new.iter().copied().filter(|id| old.contains(id)).collect();
        if kept != asked {
            let value = Value::Array(wanted.to_vec());
            drop(array.replace_with(input(&value)));
            return;
        }
        for (index, element) in array.elements().into_iter().enumerate().rev() {
            if !new.contains(&old[index]) {
                element.remove();
            }
        }
        for (index, (id, value)) in new.iter().zip(wanted).enumerate() {
            match old.iter().position(|other| other == id) {
                Some(was) => {
                    if let Some(element) = array.elements().into_iter().nth(index) {
                        reconcile(element, &said[was], value, depth);
                    }
                }
                None => drop(array.insert(index, input(value))),
            }
        }
        return;
    }
    let same_start = said.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    let same_end = said[same_start..]
        .iter()
        .rev()
        .zip(wanted[same_start..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (old_end, new_end) = (said.len() - same_end, wanted.len() - same_end);
    let elements = array.elements();
    for (index, element) in elements.into_iter().enumerate().rev() {
        if !(same_start..old_end).contains(&index) {
            continue;
        }
        if index < new_end {
            reconcile(element, &said[index], &wanted[index], depth);
        } else {
            element.remove();
        }
    }
    for (index, value) in wanted.iter().enumerate().take(new_end).skip(old_end) {
        drop(array.insert(index, input(value)));
    }
}

/// The ids of a list whose items all have one of their own.
pub(super) fn ids(items: &[Value]) -> Option<Vec<&str>> {
    let ids: Option<Vec<&str>> = items
        .iter()
        .map(|item| item.get("id").and_then(Value::as_str))
        .collect();
    let ids = ids?;
    let distinct: std::collections::HashSet<&str> = ids.iter().copied().collect();
    (!ids.is_empty() && distinct.len() == ids.len()).then_some(ids)
}

fn replace(node: CstNode, value: CstInputValue) {
    let _replaced = match node {
        CstNode::Container(CstContainerNode::Object(node)) => node.replace_with(value),
        CstNode::Container(CstContainerNode::Array(node)) => node.replace_with(value),
        CstNode::Container(CstContainerNode::Root(node)) => {
            node.set_value(value);
            None
        }
        CstNode::Container(CstContainerNode::ObjectProp(node)) => {
            node.set_value(value);
            None
        }
        CstNode::Leaf(CstLeafNode::StringLit(node)) => node.replace_with(value),
        CstNode::Leaf(CstLeafNode::NumberLit(node)) => node.replace_with(value),
        CstNode::Leaf(CstLeafNode::BooleanLit(node)) => node.replace_with(value),
        CstNode::Leaf(CstLeafNode::NullKeyword(node)) => node.replace_with(value),
        CstNode::Leaf(CstLeafNode::WordLit(node)) => node.replace_with(value),
        CstNode::Leaf(
            CstLeafNode::Token(_)
            | CstLeafNode::Whitespace(_)
            | CstLeafNode::Newline(_)
            | CstLeafNode::Comment(_),
        ) => None,
    };
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(map) => CstInputValue::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), input(value)))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(text: &str) -> Value {
        jsonc_parser::parse_to_serde_value(text, &ParseOptions::default()).unwrap()
    }

    fn edit(text: &str, wanted: &Value) -> String {
        let edited = edited(text, &said(text), wanted).unwrap();
        assert_eq!(&said(&edited), wanted, "{edited}");
        edited
    }

    const TEXT: &str = "// mine\n{\n  gateway: {\n    port: 0x10, // sixteen\n    auth: {token: 't'},\n  },\n  \
        /* who */\n  agents: {list: [\n    // the first\n    {id: 'main', name: 'M'},\n    {id: 'two'}, // second\n  ]},\n}\n";

    #[test]
    fn what_is_not_touched_keeps_its_comments_its_order_and_its_spelling() {
        let mut wanted = said(TEXT);
        wanted["gateway"]["bind"] = json!("lan");
        wanted["agents"]["list"][1]["name"] = json!("Two \"quoted\"\n");
        wanted["agents"]["list"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": "three", "tools": {"deny": ["x"]}}));
        let text = edit(TEXT, &wanted);
        for kept in [
            "// mine\n{\n  gateway: {\n    port: 0x10, // sixteen\n    auth: {token: 't'},\n",
            "/* who */",
            "// the first\n    {id: 'main', name: 'M'},",
            "// second",
        ] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
    }

    #[test]
    fn what_cannot_be_edited_in_its_place_is_written_anew_and_the_rest_kept() {
        let text = "{\n  // kept\n  a: 1,\n  b: [ // gone\n    [1]2\n  ],\n}\n";
        let text = edit(text, &json!({"a": 1, "b": [[1]]}));
        assert!(text.contains("// kept\n  a: 1,\n"), "{text}");
    }

    #[test]
    fn removing_a_value_removes_it_and_nothing_else() {
        let mut wanted = said(TEXT);
        wanted["gateway"].as_object_mut().unwrap().remove("auth");
        wanted["agents"]["list"].as_array_mut().unwrap().remove(0);
        let text = edit(TEXT, &wanted);
        assert!(text.contains("port: 0x10, // sixteen"), "{text}");
        assert!(text.contains("{id: 'two'}"), "{text}");
    }

    #[test]
    fn whatever_is_wanted_is_what_the_text_says_afterwards() {
        let values = [
            json!({}),
            json!({"a": 1}),
            json!({"a": null, "b": [1, 2, 3], "c": {"d": []}}),
            json!({"b": [1, 3], "c": {"d": [{"id": "x"}]}, "e": "\u{1f600}\\ \"'/"}),
            json!({"b": [0, 1, 2, 3, 4], "c": {"d": [{"id": "y"}, {"id": "x", "z": {}}]}}),
            json!({"b": [[1], [2, [3]]], "c": [{"id": "x"}, {"id": "y"}], "a b": {"": 1.5}}),
            json!({"b": [], "c": [{"id": "y"}, {"id": "x"}], "a b": -7}),
            json!({"b": "text", "c": [{"id": "y"}, {"id": "y"}, 3]}),
        ];
        let written = [
            "{}".to_owned(),
            "{\n  // c\n}".to_owned(),
            "{a: 1, a: 2, 'b': [1,\n// one\n2 /* two */, 3,], c: {d: []}}".to_owned(),
        ];
        let mut texts: Vec<String> = written.to_vec();
        texts.extend(
            values
                .iter()
                .map(|v| serde_json::to_string_pretty(v).unwrap()),
        );
        texts.extend(values.iter().map(Value::to_string));
        for text in &texts {
            for wanted in &values {
                edit(text, wanted);
            }
        }
        // Again and again over the same text.
        let mut text = written[2].clone();
        for wanted in values.iter().chain(values.iter().rev()).cycle().take(64) {
            text = edit(&text, wanted);
        }
    }

    #[test]
    fn an_empty_text_is_filled_and_comments_are_seen() {
        let text = edited("", &json!({}), &json!({"a": {"b": 1}})).unwrap();
        assert_eq!(said(&text), json!({"a": {"b": 1}}));
        assert!(has_comments(TEXT));
        assert!(has_comments("{a: [1, /* x */ 2]}"));
        assert!(!has_comments("{\"a\": \"// no comment\"}"));
    }
}
