//! The front matter of a `SKILL.md`: the part of YAML that is found there.
//!
//! Keys with texts (plain, quoted, folded over lines, or as a block), nested keys by indentation,
//! lists with dashes, and JSON with comments and trailing commas where a value begins with a
//! bracket. Whatever is not understood is a text.

use serde_json::{Map, Value};

/// Nesting that is followed.
const DEPTH_MAX: usize = 8;

/// Reads it. `None` where there is none.
pub(super) fn read(text: &str) -> Option<Map<String, Value>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let mut block = Vec::new();
    for line in lines {
        if line.trim_end() == "---" {
            let block: Vec<&str> = block;
            return match mapping(&block, 0) {
                Value::Object(map) => Some(map),
                _ => None,
            };
        }
        block.push(line);
    }
    None
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The lines that belong to the entry before them: indented more, or blank.
fn belonging<'a>(lines: &'a [&'a str], level: usize) -> usize {
    lines
        .iter()
        .position(|line| !line.trim().is_empty() && indent(line) <= level)
        .unwrap_or(lines.len())
}

fn mapping(lines: &[&str], depth: usize) -> Value {
    let mut map = Map::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if is_blank(line) {
            continue;
        }
        let level = indent(line);
        let Some((key, rest)) = line.trim().split_once(':') else {
            continue;
        };
        if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
            continue;
        }
        let mut count = belonging(&lines[at..], level);
        // A list may stand on the level of its key.
        if count == 0 && rest.trim().is_empty() {
            let is_item = |line: &str| indent(line) == level && line.trim_start().starts_with('-');
            count = lines[at..]
                .iter()
                .position(|line| !is_blank(line) && !is_item(line) && indent(line) <= level)
                .unwrap_or(lines.len() - at);
        }
        let inner = &lines[at..at + count];
        at += count;
        let key = key.trim().trim_matches(['"', '\'']);
        map.insert(key.to_owned(), value(rest.trim(), inner, depth));
    }
    Value::Object(map)
}

fn value(first: &str, more: &[&str], depth: usize) -> Value {
    let joined = || {
        let mut text = first.to_owned();
        for line in more {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(line);
        }
        text
    };
    let folded = |lines: &[&str], between: &str| {
        let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
        lines.join(between).trim().to_owned()
    };
    if first.starts_with('|') {
        return folded(more, "\n").into();
    }
    if first.starts_with('>') {
        return folded(more, " ").into();
    }
    let text = joined();
    let whole = text.trim();
    if whole.starts_with(['{', '[']) {
        let options = jsonc_parser::ParseOptions::default();
        if let Ok(value) = jsonc_parser::parse_to_serde_value::<Value>(whole, &options) {
            return value;
        }
        return flow(whole).unwrap_or_else(|| whole.into());
    }
    if first.is_empty() && depth < DEPTH_MAX {
        let content: Vec<&str> = more
            .iter()
            .copied()
            .filter(|line| !is_blank(line))
            .collect();
        match content.first() {
            None => return Value::Null,
            Some(line) if line.trim_start().starts_with("- ") => return list(&content, depth),
            Some(line) if line.contains(':') => return mapping(&content, depth + 1),
            Some(_) => {}
        }
    }
    let mut parts = vec![first];
    parts.extend(more.iter().map(|line| line.trim()));
    scalar(parts.join(" ").trim())
}

/// `[a, b]` without quotes.
fn flow(text: &str) -> Option<Value> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if inner.contains(['[', '{']) {
        return None;
    }
    let items = inner
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    Some(items.map(scalar).collect())
}

fn list(lines: &[&str], depth: usize) -> Value {
    let mut items = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        let level = indent(line);
        let Some(first) = line.trim().strip_prefix('-') else {
            continue;
        };
        let count = belonging(&lines[at..], level);
        let inner = &lines[at..at + count];
        at += count;
        let first = first.trim();
        let is_mapping = !first.starts_with(['"', '\'', '{', '['])
            && first
                .split_once(':')
                .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(' '));
        if is_mapping && depth < DEPTH_MAX {
            // The first key stands where the dash leaves room for it.
            let shifted = format!("{}{first}", " ".repeat(level + 2));
            let mut block = vec![shifted.as_str()];
            block.extend(inner);
            items.push(mapping(&block, depth + 1));
        } else {
            items.push(value(first, inner, depth + 1));
        }
    }
    Value::Array(items)
}

fn scalar(text: &str) -> Value {
    if text.len() >= 2 {
        if let Some(inner) = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        {
            return serde_json::from_str(text).unwrap_or_else(|_| inner.into());
        }
        if let Some(inner) = text
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
        {
            return inner.replace("''", "'").into();
        }
    }
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "" | "~" | "null" => Value::Null,
        text => text.split(" #").next().unwrap_or(text).trim_end().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_over_lines_with_trailing_commas_is_read() {
        let front = read("---\nname: op\ndescription: Do: things, well\nmetadata:\n  {\n    \"openclaw\":\n      { \"requires\": { \"bins\": [\"op\"], }, },\n  }\n---\n# Op\n").unwrap();
        assert_eq!(front["name"], "op");
        assert_eq!(front["description"], "Do: things, well");
        assert_eq!(
            front["metadata"]["openclaw"]["requires"]["bins"],
            json!(["op"])
        );
    }

    #[test]
    fn nested_keys_lists_and_blocks_are_read() {
        let front = read("---\r\nname: 'it''s'\ndescription: >\n  two\n  lines\nmetadata:\n  openclaw:\n    always: true\n    os: [linux, darwin]\n    requires:\n      bins:\n        - a\n        - \"b\"\n    install:\n      - id: x\n        kind: brew\n        bins: [a]\n      - kind: go\ntop:\n- one\n- two\n---\n").unwrap();
        assert_eq!(front["name"], "it's");
        assert_eq!(front["description"], "two lines");
        let claw = &front["metadata"]["openclaw"];
        assert_eq!(claw["always"], true);
        assert_eq!(claw["os"], json!(["linux", "darwin"]));
        assert_eq!(claw["requires"]["bins"], json!(["a", "b"]));
        assert_eq!(
            claw["install"],
            json!([{"id": "x", "kind": "brew", "bins": ["a"]}, {"kind": "go"}])
        );
        assert_eq!(front["top"], json!(["one", "two"]));
    }

    #[test]
    fn nonsense_is_none_or_text() {
        assert!(read("# no").is_none());
        assert!(read("---\nname: x\n").is_none());
        let front =
            read("---\nname: {broken\n  [\n:\n: :\n- x\n\u{0}: 1\nurl: http://a:1/b\n---\n")
                .unwrap();
        assert_eq!(front["url"], "http://a:1/b");
        let deep = format!(
            "---\n{}---\n",
            (0..500)
                .map(|n| format!("{}k:\n", " ".repeat(n)))
                .collect::<String>()
        );
        assert!(read(&deep).is_some());
    }
}
