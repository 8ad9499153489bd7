//! What a configuration may hold: the one table from which a file is checked, a form is made
//! (`config.schema`), a place is looked up, and secrets are found.
//!
//! Sections that only the original has a use for stand here as open objects: they are accepted and
//! kept as they are.

mod table;

use serde_json::{Map, Value, json};
use table::ROOT;

use super::look::{Look, kind as kind_of};

/// What a value may be. Null is the same as not being there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Any,
    Text,
    /// A text, `${NAME}` in it, or a reference `{source, provider, id}`.
    Secret,
    Bool,
    /// A whole number with its bounds.
    Int(i64, i64),
    OneOf(&'static [&'static str]),
    List(&'static Self),
    /// Any keys, one kind of value.
    Map(&'static Self),
    /// These members; others are mistakes.
    Object(&'static [Member]),
    /// These members, and whatever else others keep here.
    Open(&'static [Member]),
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub key: &'static str,
    pub kind: Kind,
    label: &'static str,
    help: &'static str,
}

/// Sections in which a wrong kind of value stops a start; elsewhere it is said.
const STRICT: &[&str] = &["gateway", "cron", "hooks", "secrets"];

/// Says what in a file is unknown or of a wrong kind.
pub(super) fn check(look: &mut Look, root: &Map<String, Value>) {
    unknown(look, "", root, ROOT);
    for member in ROOT {
        if let Some(value) = root.get(member.key) {
            let mut found = Look::default();
            below(&mut found, member.key, value, &member.kind);
            look.warnings.append(&mut found.warnings);
            if STRICT.contains(&member.key) {
                look.refusals.append(&mut found.refusals);
            } else {
                look.warnings.append(&mut found.refusals);
            }
        }
    }
}

fn unknown(look: &mut Look, path: &str, map: &Map<String, Value>, known: &[Member]) {
    for key in map.keys() {
        if !known.iter().any(|member| member.key == key) {
            look.warn(&join(path, key), "unknown key, ignored".to_owned());
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn below(look: &mut Look, path: &str, value: &Value, kind: &Kind) {
    let mut expected = |what: &str| {
        look.refuse(path, format!("expected {what}, found {}", kind_of(value)));
    };
    match (kind, value) {
        (_, Value::Null)
        | (Kind::Any, _)
        | (Kind::Text | Kind::Secret, Value::String(_))
        | (Kind::Bool, Value::Bool(_)) => {}
        (Kind::Secret, Value::Object(_)) => {
            if super::secret::Reference::read(value).is_none() {
                look.refuse(
                    path,
                    "expected a string, or a reference {source: \"env\" | \"file\" | \"exec\", provider, id}"
                        .to_owned(),
                );
            }
        }
        (Kind::Text | Kind::Secret, _) => expected("a string"),
        (Kind::Bool, _) => expected("true or false"),
        (Kind::Int(min, max), value) => match value.as_i64() {
            Some(number) if (*min..=*max).contains(&number) => {}
            _ => {
                let found = match value {
                    Value::Number(number) => number.to_string(),
                    other => kind_of(other).to_owned(),
                };
                look.refuse(
                    path,
                    format!("expected a whole number from {min} to {max}, found {found}"),
                );
            }
        },
        (Kind::OneOf(words), Value::String(text)) => {
            if !words.contains(&text.as_str()) {
                look.refuse(path, format!("expected {}, found {text:?}", one_of(words)));
            }
        }
        (Kind::OneOf(_), _) => expected("a string"),
        (Kind::List(of), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                below(look, &format!("{path}[{index}]"), item, of);
            }
        }
        (Kind::List(Kind::Text), _) => expected("a list of strings"),
        (Kind::List(_), _) => expected("a list"),
        (Kind::Map(of), Value::Object(map)) => {
            for (key, value) in map {
                below(look, &join(path, key), value, of);
            }
        }
        (Kind::Object(members) | Kind::Open(members), Value::Object(map)) => {
            if matches!(kind, Kind::Object(_)) {
                unknown(look, path, map, members);
            }
            for member in *members {
                if let Some(value) = map.get(member.key) {
                    below(look, &join(path, member.key), value, &member.kind);
                }
            }
        }
        (Kind::Map(_) | Kind::Object(_) | Kind::Open(_), _) => expected("an object"),
    }
}

/// `"a", "b" or "c"`.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// JSON Schema (draft 07) of the whole.
pub(crate) fn json_schema() -> Value {
    let mut schema =
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": "clawgate"});
    merge(&mut schema, schema_of(&Kind::Object(ROOT)));
    schema
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn schema_of(kind: &Kind) -> Value {
    let mut node = own(kind);
    match kind {
        Kind::List(of) => node["items"] = schema_of(of),
        Kind::Map(of) => node["additionalProperties"] = schema_of(of),
        Kind::Object(members) | Kind::Open(members) => {
            let properties: Map<String, Value> = members
                .iter()
                .map(|member| (member.key.to_owned(), schema_of(&member.kind)))
                .collect();
            node["properties"] = Value::Object(properties);
        }
        Kind::Any | Kind::Text | Kind::Secret | Kind::Bool | Kind::Int(..) | Kind::OneOf(_) => {}
    }
    node
}

/// A node without what is below it.
fn own(kind: &Kind) -> Value {
    match kind {
        Kind::Any => json!({}),
        Kind::Text => json!({"type": "string"}),
        Kind::Secret => json!({"anyOf": [{"type": "string"}, {
            "type": "object",
            "properties": {
                "source": {"type": "string", "enum": ["env", "file", "exec"]},
                "provider": {"type": "string"},
                "id": {"type": "string"},
            },
            "required": ["source", "id"],
            "additionalProperties": false,
        }]}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::OneOf(words) => json!({"type": "string", "enum": words}),
        Kind::List(_) => json!({"type": "array"}),
        Kind::Map(_) => json!({"type": "object"}),
        Kind::Object(_) => json!({"type": "object", "additionalProperties": false}),
        Kind::Open(_) => json!({"type": "object", "additionalProperties": true}),
    }
}

/// Words for a form, by dotted path.
pub(crate) fn hints() -> Map<String, Value> {
    let mut hints = Map::new();
    walk(&mut |path, member| {
        let mut hint = hint(member);
        if !path.contains('.') {
            let order = ROOT.iter().position(|other| other.key == member.key);
            hint["group"] = member.label.into();
            hint["order"] = ((order.unwrap_or_default() + 1) * 10).into();
        }
        hints.insert(path.to_owned(), hint);
    });
    hints
}

fn hint(member: &Member) -> Value {
    let mut hint = json!({"label": member.label});
    if !member.help.is_empty() {
        hint["help"] = member.help.into();
    }
    if matches!(member.kind, Kind::Secret) {
        hint["sensitive"] = true.into();
        hint["tags"] = json!(["security"]);
    }
    hint
}

/// Visits every member with its path; items of lists and maps are `*`.
fn walk(visit: &mut dyn FnMut(&str, &Member)) {
    fn below(path: &str, kind: &Kind, visit: &mut dyn FnMut(&str, &Member)) {
        match kind {
            Kind::Object(members) | Kind::Open(members) => {
                for member in *members {
                    let path = join(path, member.key);
                    visit(&path, member);
                    below(&path, &member.kind, visit);
                }
            }
            Kind::List(of) | Kind::Map(of) => below(&join(path, "*"), of, visit),
            Kind::Any | Kind::Text | Kind::Secret | Kind::Bool | Kind::Int(..) | Kind::OneOf(_) => {
            }
        }
    }
    below("", &Kind::Object(ROOT), visit);
}

/// Paths at which a secret may stand; items of lists and maps are `*`.
pub(crate) fn secret_paths() -> Vec<String> {
    let mut paths = Vec::new();
    walk(&mut |path, member| {
        if matches!(member.kind, Kind::Secret) {
            paths.push(path.to_owned());
        }
    });
    paths
}

/// Segments of a path that is looked up at most.
const SEGMENTS_MAX: usize = 32;

/// What is known of a place, with its members, for `config.schema.lookup`. `None` when nothing is.
pub(crate) fn lookup(path: &str) -> Option<Value> {
    let segments = segments(path)?;
    let mut kind = Kind::Object(ROOT);
    let mut at: Option<Member> = None;
    let mut place = String::new();
    for segment in &segments {
        let (key, next) = match kind {
            Kind::Object(members) | Kind::Open(members) => {
                let member = members
                    .iter()
                    .find(|member| member.key == segment.as_str())?;
                at = Some(*member);
                (member.key, member.kind)
            }
            Kind::Map(of) => {
                at = None;
                (segment.as_str(), *of)
            }
            Kind::List(of) if segment == "*" || segment.bytes().all(|b| b.is_ascii_digit()) => {
                at = None;
                (segment.as_str(), *of)
            }
            _ => return None,
        };
        place = join(&place, key);
        kind = next;
    }
    let mut found =
        json!({"path": place, "schema": own(&kind), "children": children(&place, &kind)});
    if let Some(member) = at {
        found["hint"] = hint(&member);
        found["hintPath"] = pattern_of(&segments).into();
    }
    Some(found)
}

/// The path with `*` in place of every item.
fn pattern_of(segments: &[String]) -> String {
    let mut kind = Kind::Object(ROOT);
    let mut pattern = String::new();
    for segment in segments {
        let (key, next) = match kind {
            Kind::Object(members) | Kind::Open(members) => (
                segment.as_str(),
                members
                    .iter()
                    .find(|member| member.key == segment.as_str())
                    .map_or(Kind::Any, |member| member.kind),
            ),
            Kind::Map(of) | Kind::List(of) => ("*", *of),
            _ => (segment.as_str(), Kind::Any),
        };
        pattern = join(&pattern, key);
        kind = next;
    }
    pattern
}

fn children(path: &str, kind: &Kind) -> Vec<Value> {
    let row = |key: &str, kind: &Kind, member: Option<&Member>| {
        let has_children = match kind {
            Kind::Object(members) | Kind::Open(members) => !members.is_empty(),
            Kind::List(_) | Kind::Map(_) => true,
            _ => false,
        };
        let place = join(path, key);
        let mut row = json!({"key": key, "path": place});
        if let Some(name) = own(kind).get("type") {
            row["type"] = name.clone();
        }
        row["required"] = false.into();
        row["hasChildren"] = has_children.into();
        if let Some(member) = member {
            row["hint"] = hint(member);
            row["hintPath"] = place.into();
        }
        row
    };
    match kind {
        Kind::Object(members) | Kind::Open(members) => members
            .iter()
            .map(|member| row(member.key, &member.kind, Some(member)))
            .collect(),
        Kind::List(of) | Kind::Map(of) => vec![row("*", of, None)],
        _ => Vec::new(),
    }
}

/// `a.b[0].c`, `a/b/*`, `a[].b` in parts; items are `*` or a number.
fn segments(path: &str) -> Option<Vec<String>> {
    let spread = path.replace("[]", ".*").replace('[', ".").replace(']', "");
    let segments: Vec<String> = spread
        .split(['.', '/'])
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned)
        .collect();
    let fits = !segments.is_empty() && segments.len() <= SEGMENTS_MAX;
    fits.then_some(segments)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::SecretString;

    use super::*;
    use crate::config::{Config, Environment, Issue, Overrides};

    fn load(root: &Value) -> Result<Vec<Issue>, Vec<Issue>> {
        Config::of(
            Path::new("clawgate.json"),
            Some(root.to_string()),
            &Overrides::default(),
            &Environment::default(),
            || Ok(SecretString::from("made")),
        )
        .map(|config| config.snapshot.warnings)
        .map_err(|error| error.issues)
    }

    /// A configuration that holds one value, at a path whose items are `*`.
    fn with(path: &str, value: Value) -> (Value, String) {
        let (mut root, mut shown) = (value, String::new());
        let parts: Vec<&str> = path.split('.').collect();
        for (index, part) in parts.iter().enumerate().rev() {
            let outer = kind_at(&parts[..index]);
            root = match outer {
                Kind::List(_) => json!([root]),
                Kind::Map(_) => json!({"x": root}),
                _ => json!({*part: root}),
            };
        }
        for (index, part) in parts.iter().enumerate() {
            match kind_at(&parts[..index]) {
                Kind::List(_) => shown.push_str("[0]"),
                Kind::Map(_) => shown = join(&shown, "x"),
                _ => shown = join(&shown, part),
            }
        }
        (root, shown)
    }

    fn kind_at(parts: &[&str]) -> Kind {
        let mut kind = Kind::Object(ROOT);
        for part in parts {
            kind = match kind {
                Kind::Object(members) | Kind::Open(members) => {
                    members.iter().find(|m| m.key == *part).unwrap().kind
                }
                Kind::List(of) | Kind::Map(of) => *of,
                other => panic!("{other:?} has no members"),
            };
        }
        kind
    }

    fn wrong(kind: &Kind) -> Vec<Value> {
        match kind {
            Kind::Any => Vec::new(),
            Kind::Text => vec![json!(5), json!([]), json!({})],
            Kind::Secret => vec![
                json!(5),
                json!({"source": "pigeon", "id": "x"}),
                json!({"id": "x"}),
            ],
            Kind::Bool => vec![json!("yes"), json!(1)],
            Kind::Int(min, max) => {
                vec![
                    json!("1"),
                    json!(1.5),
                    json!(min - 1),
                    json!(max.saturating_add(1)),
                ]
            }
            Kind::OneOf(_) => vec![json!("something else"), json!(5)],
            Kind::List(_) => vec![json!("x"), json!({})],
            Kind::Map(_) | Kind::Object(_) | Kind::Open(_) => vec![json!("x"), json!([])],
        }
    }

    #[test]
    fn whatever_the_schema_says_is_what_a_start_holds_a_file_to() {
        let mut paths = Vec::new();
        walk(&mut |path, member| paths.push((path.to_owned(), member.kind)));
        assert!(paths.len() > 150, "{}", paths.len());
        for (path, kind) in paths {
            let strict = STRICT.contains(&path.split('.').next().unwrap());
            for value in wrong(&kind) {
                let (root, place) = with(&path, value);
                let told = load(&root);
                let issues = match &told {
                    Err(issues) if strict => issues,
                    Ok(warnings) if !strict => warnings,
                    other => panic!("{root}: {other:?}"),
                };
                assert!(
                    issues.iter().any(|issue| issue.path == place),
                    "{root}: {issues:?}"
                );
            }
            if let Kind::Object(_) = kind {
                let (root, place) = with(&path, json!({"tpyo": 1}));
                let told = load(&root).unwrap_or_else(|issues| issues);
                let place = format!("{place}.tpyo");
                // Where more is needed than that it is no mistake, the mistake is what is seen.
                assert!(
                    told.iter().any(|issue| issue.path == place) || load(&root).is_err(),
                    "{root}"
                );
            }
        }
    }

    #[test]
    fn numbers_are_taken_up_to_the_bounds_that_the_schema_says() {
        let mut paths = Vec::new();
        walk(&mut |path, member| {
            if let Kind::Int(min, max) = member.kind {
                paths.push((path.to_owned(), [min, max]));
            }
        });
        for (path, bounds) in paths {
            for bound in bounds {
                let (root, _) = with(&path, json!(bound));
                assert!(load(&root).is_ok(), "{root}: {:?}", load(&root));
            }
        }
    }

    #[test]
    fn sections_of_others_are_taken_as_they_are() {
        let root = json!({"agents": {"defaults": {"model": {"primary": "a/b"}, "x": 1}, "list": [{"id": "a", "y": {}}]},
            "models": {"providers": {"p": {"models": [{"id": "m", "cost": {}}], "z": 1}}},
            "channels": {"telegram": {"botToken": "t"}}, "plugins": {"entries": {}}, "bindings": []});
        assert_eq!(load(&root), Ok(Vec::new()));
    }

    #[test]
    fn a_place_is_found_by_each_spelling_of_its_path() {
        for path in [
            "agents.list[].name",
            "agents.list[0].name",
            "agents/list/*/name",
        ] {
            let found = lookup(path).unwrap();
            assert_eq!(found["schema"], json!({"type": "string"}), "{path}");
            assert_eq!(found["hintPath"], "agents.list.*.name");
        }
        assert_eq!(
            lookup("agents.list[].name").unwrap()["path"],
            "agents.list.*.name"
        );
        let gateway = lookup("gateway").unwrap();
        let port = &gateway["children"][1];
        assert_eq!(
            (&port["key"], &port["type"]),
            (&json!("port"), &json!("integer"))
        );
        for path in ["nope", "gateway.port.x", "", "...", "gateway.__proto__"] {
            assert_eq!(lookup(path), None, "{path}");
        }
        let deep = "a.".repeat(40);
        assert_eq!(lookup(&deep), None);
    }
}
