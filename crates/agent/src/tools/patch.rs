//! `apply_patch`: several files changed at once, or none of them.
//!
//! The format names a passage by its words and not by line numbers:
//!
//! ```text
//! *** Begin Patch
//! *** Add File: new.txt
//! +first line
//! *** Update File: old.txt
//! *** Move to: moved.txt
//! @@ fn main() {
//!  stays
//! -goes
//! +comes
//! *** Delete File: gone.txt
//! *** End Patch
//! ```

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    args::Args,
    blocking,
    files::{CHANGED_MAX, Files, Place},
};
use crate::{
    model::ToolSpec,
    tool::{Output, Tool, Working},
};

/// Files in one patch at most.
const FILES_MAX: usize = 100;

/// Applies patches.
#[derive(Debug)]
pub struct ApplyPatch {
    files: Files,
    spec: ToolSpec,
}

impl ApplyPatch {
    /// The tool for the files of a turn.
    #[must_use]
    pub fn new(files: &Files) -> Self {
        Self {
            files: files.clone(),
            spec: ToolSpec {
                name: "apply_patch".to_owned(),
                description: "Changes several files of the workspace at once: all of them, or \
                              none when a part does not fit. The patch begins with \"*** Begin \
                              Patch\" and ends with \"*** End Patch\"; between them stand \"*** Add \
                              File: PATH\" with lines that begin with +, \"*** Delete File: PATH\", \
                              and \"*** Update File: PATH\" (then perhaps \"*** Move to: PATH\") \
                              with passages that begin with @@ and hold lines that begin with a \
                              space (stays), - (goes) or + (comes)."
                    .to_owned(),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "input": {"type": "string", "description": "The whole patch."},
                    },
                    "required": ["input"],
                }),
            },
        }
    }
}

impl Tool for ApplyPatch {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, _stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            let input = Args::of(arguments).and_then(|args| args.required(&["input", "patch"]));
            let input = match input {
                Ok(input) => input.to_owned(),
                Err(output) => return output,
            };
            let files = self.files.clone();
            blocking(move || match apply(&files, &input) {
                Ok(done) => Output {
                    text: done.join("\n"),
                    details: Some(json!({"changes": done})),
                    is_error: false,
                },
                Err(why) => Output::failed(format!("nothing was changed: {why}")),
            })
            .await
        })
    }
}

/// What a patch does to one file.
#[derive(Debug, PartialEq, Eq)]
enum Act<'a> {
    Add {
        path: &'a str,
        text: String,
    },
    Delete {
        path: &'a str,
    },
    Update {
        path: &'a str,
        to: Option<&'a str>,
        passages: Vec<Passage<'a>>,
    },
}

/// A passage of a file, as it is and as it will be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passage<'a> {
    /// A line that stands somewhere before it.
    after: Option<&'a str>,
    old: Vec<&'a str>,
    new: Vec<&'a str>,
    /// Whether it stands at the end of the file.
    at_end: bool,
}

/// The text of a file after a patch that changes this file and does nothing else.
///
/// # Errors
/// Why the patch cannot be read, does something else or does not fit.
pub fn patched(text: &str, input: &str) -> Result<String, String> {
    match parse(input)?.as_slice() {
        [
            Act::Update {
                to: None, passages, ..
            },
        ] => updated(text, passages),
        _ => Err("it does not change one file".to_owned()),
    }
}

/// Reads a patch. An error names the line.
fn parse(input: &str) -> Result<Vec<Act<'_>>, String> {
    let lines: Vec<&str> = input.trim().lines().collect();
    let whole = lines.first().map(|line| line.trim()) == Some("*** Begin Patch")
        && lines.last().map(|line| line.trim()) == Some("*** End Patch")
        && lines.len() >= 2;
    if !whole {
        return Err(
            "a patch begins with the line \"*** Begin Patch\" and ends with the line \"*** End \
             Patch\""
                .to_owned(),
        );
    }
    let mut acts = Vec::new();
    let end = lines.len() - 1;
    let mut at = 1;
    while at < end {
        let line = lines[at];
        let number = at + 1;
        at += 1;
        if line.trim().is_empty() {
            continue;
        }
        if let Some(path) = named(line, "*** Add File:") {
            let mut text = String::new();
            while at < end && !lines[at].starts_with("*** ") {
                let added = lines[at].strip_prefix('+').ok_or_else(|| {
                    format!("line {}: every line of a new file begins with +", at + 1)
                })?;
                text.push_str(added);
                text.push('\n');
                at += 1;
            }
            acts.push(Act::Add { path, text });
        } else if let Some(path) = named(line, "*** Delete File:") {
            acts.push(Act::Delete { path });
        } else if let Some(path) = named(line, "*** Update File:") {
            let to = (at < end)
                .then(|| named(lines[at], "*** Move to:"))
                .flatten();
            if to.is_some() {
                at += 1;
            }
            let passages = passages(&lines[..end], &mut at)?;
            if passages.is_empty() && to.is_none() {
                return Err(format!("line {number}: nothing of {path} is changed"));
            }
            acts.push(Act::Update { path, to, passages });
        } else {
            return Err(format!(
                "line {number}: expected \"*** Add File:\", \"*** Update File:\" or \"*** Delete \
                 File:\", not \"{}\"",
                line.chars().take(80).collect::<String>()
            ));
        }
        if acts.len() > FILES_MAX {
            return Err(format!("it is about more than {FILES_MAX} files"));
        }
    }
    if acts.is_empty() {
        return Err("the patch is empty".to_owned());
    }
    Ok(acts)
}

fn named<'a>(line: &'a str, what: &str) -> Option<&'a str> {
    line.trim_end().strip_prefix(what).map(str::trim)
}

fn passages<'a>(lines: &[&'a str], at: &mut usize) -> Result<Vec<Passage<'a>>, String> {
    let mut passages: Vec<Passage<'a>> = Vec::new();
    let mut current: Option<Passage<'a>> = None;
    while let Some(line) = lines.get(*at) {
        if line.trim_end() == "*** End of File" {
            if let Some(passage) = &mut current {
                passage.at_end = true;
            }
            *at += 1;
            continue;
        }
        if line.starts_with("*** ") {
            break;
        }
        if let Some(after) = line.strip_prefix("@@") {
            passages.extend(current.take().filter(|passage| !is_void(passage)));
            let after = after.trim();
            current = Some(Passage {
                after: (!after.is_empty()).then_some(after),
                ..Passage::default()
            });
            *at += 1;
            continue;
        }
        let passage = current.get_or_insert_default();
        let (mark, rest) = match line.chars().next() {
            None => (' ', ""),
            Some(mark) => (mark, &line[mark.len_utf8()..]),
        };
        match mark {
            ' ' => {
                passage.old.push(rest);
                passage.new.push(rest);
            }
            '-' => passage.old.push(rest),
            '+' => passage.new.push(rest),
            _ => {
                return Err(format!(
                    "line {}: a line of a passage begins with a space, - or +",
                    *at + 1
                ));
            }
        }
        *at += 1;
    }
    passages.extend(current.filter(|passage| !is_void(passage)));
    Ok(passages)
}

fn is_void(passage: &Passage<'_>) -> bool {
    passage.old.is_empty() && passage.new.is_empty()
}

/// Where lines stand in others, from a place on: as they are, then without regard to blanks at
/// their ends, then at both sides.
fn find(lines: &[&str], wanted: &[&str], from: usize, at_end: bool) -> Option<usize> {
    if wanted.len() > lines.len() {
        return None;
    }
    let last = lines.len() - wanted.len();
    let as_is: fn(&str) -> &str = |line| line;
    for same in [as_is, str::trim_end, str::trim] {
        let stands = |at: &usize| {
            lines[*at..*at + wanted.len()]
                .iter()
                .zip(wanted)
                .all(|(line, wanted)| same(line) == same(wanted))
        };
        let found = if at_end {
            Some(last).filter(|at| *at >= from).filter(stands)
        } else {
            (from..=last).find(stands)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A text with its passages replaced.
fn updated(text: &str, passages: &[Passage<'_>]) -> Result<String, String> {
    let windows = text.contains("\r\n");
    let ends_with_break = text.is_empty() || text.ends_with('\n');
    let lines: Vec<&str> = text.lines().collect();
    let mut after: Vec<&str> = Vec::with_capacity(lines.len());
    let mut at = 0;
    for passage in passages {
        let mut from = at;
        if let Some(line) = passage.after {
            from = find(&lines, &[line], at, false)
                .ok_or_else(|| format!("the line \"{line}\" is not there"))?
                + 1;
        }
        let place = if passage.old.is_empty() {
            // Only new lines: after the named line, or at the end.
            if passage.after.is_some() && !passage.at_end {
                from
            } else {
                lines.len()
            }
        } else {
            find(&lines, &passage.old, from, passage.at_end)
                // The named line may be the first of the passage.
                .or_else(|| {
                    let before = passage.after.map(|_| from - 1)?;
                    find(&lines, &passage.old, before, passage.at_end)
                })
                .ok_or_else(|| format!("these lines are not there:\n{}", passage.old.join("\n")))?
        };
        after.extend(&lines[at..place]);
        after.extend(&passage.new);
        at = place + passage.old.len();
    }
    after.extend(&lines[at..]);
    let end = if windows { "\r\n" } else { "\n" };
    let mut text = after.join(end);
    if ends_with_break && !text.is_empty() {
        text.push_str(end);
    }
    Ok(text)
}

/// A file as it was and as it will be. `None` = not there.
struct Change {
    place: Place,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

/// Applies a patch; what it did, or why nothing was done.
fn apply(files: &Files, input: &str) -> Result<Vec<String>, String> {
    let acts = parse(input)?;
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    let mut done = Vec::new();
    for act in &acts {
        let path = match act {
            Act::Add { path, .. } | Act::Delete { path } | Act::Update { path, .. } => path,
        };
        let key = look(files, &mut changes, path)?;
        let now = changes[&key].after.clone();
        match act {
            Act::Add { text, .. } => {
                if now.is_some() {
                    return Err(format!("{key} is there already; update it instead"));
                }
                set(&mut changes, &key, Some(text.clone().into_bytes()))?;
                done.push(format!("added {key}"));
            }
            Act::Delete { .. } => {
                now.ok_or_else(|| format!("{key} is not there"))?;
                set(&mut changes, &key, None)?;
                done.push(format!("deleted {key}"));
            }
            Act::Update { to, passages, .. } => {
                let now = now.ok_or_else(|| format!("{key} is not there"))?;
                let text = String::from_utf8(now).map_err(|_| format!("{key} is no UTF-8 text"))?;
                let text =
                    updated(&text, passages).map_err(|why| format!("{key} does not fit: {why}"))?;
                let to = to.map(|to| look(files, &mut changes, to)).transpose()?;
                match to.filter(|to| *to != key) {
                    Some(to) => {
                        if changes[&to].after.is_some() {
                            return Err(format!("{to} is there already"));
                        }
                        set(&mut changes, &key, None)?;
                        set(&mut changes, &to, Some(text.into_bytes()))?;
                        done.push(format!("changed {key}, now {to}"));
                    }
                    None => {
                        set(&mut changes, &key, Some(text.into_bytes()))?;
                        done.push(format!("changed {key}"));
                    }
                }
            }
        }
    }
    carry_out(changes.into_values().collect())?;
    Ok(done)
}

/// Takes a file into the changes, as it is; its name there.
fn look(
    files: &Files,
    changes: &mut BTreeMap<String, Change>,
    path: &str,
) -> Result<String, String> {
    let place = files.place(path).map_err(|fault| fault.to_string())?;
    let key = place.shown();
    if !changes.contains_key(&key) {
        place.check_writable().map_err(|fault| fault.to_string())?;
        let before = place.bytes().map_err(|fault| fault.to_string())?;
        let after = before.clone();
        changes.insert(
            key.clone(),
            Change {
                place,
                before,
                after,
            },
        );
    }
    Ok(key)
}

fn set(
    changes: &mut BTreeMap<String, Change>,
    key: &str,
    after: Option<Vec<u8>>,
) -> Result<(), String> {
    if after
        .as_ref()
        .is_some_and(|bytes| bytes.len() as u64 > CHANGED_MAX)
    {
        return Err(format!("{key} would have more than {CHANGED_MAX} bytes"));
    }
    if let Some(change) = changes.get_mut(key) {
        change.after = after;
    }
    Ok(())
}

/// Writes what is new, then removes what is gone. When one fails, those before it are put back.
fn carry_out(mut changes: Vec<Change>) -> Result<(), String> {
    changes.retain(|change| change.before != change.after);
    changes.sort_by_key(|change| change.after.is_none());
    for (index, change) in changes.iter().enumerate() {
        let act = match &change.after {
            Some(bytes) => change.place.write(bytes),
            None => change.place.remove(),
        };
        let Err(fault) = act else { continue };
        for undone in changes[..index].iter().rev() {
            let back = match &undone.before {
                Some(bytes) => undone.place.write(bytes),
                None => undone.place.remove(),
            };
            if let Err(worse) = back {
                return Err(format!(
                    "{fault}; and {} could not be put back: {worse}",
                    undone.place.shown()
                ));
            }
        }
        return Err(fault.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(text: &str, passages: &str) -> Result<String, String> {
        let patch = format!("*** Begin Patch\n*** Update File: a\n{passages}\n*** End Patch");
        super::patched(text, &patch)
    }

    #[test]
    fn a_patch_is_read_as_what_it_does() {
        let acts = parse(
            "*** Begin Patch\n*** Add File: a b.txt\n+one\n+\n*** Delete File: c\n*** Update File: \
             d\n*** Move to: e\n@@\n x\n-y\n*** End Patch\n",
        )
        .unwrap();
        assert_eq!(
            acts,
            [
                Act::Add {
                    path: "a b.txt",
                    text: "one\n\n".to_owned()
                },
                Act::Delete { path: "c" },
                Act::Update {
                    path: "d",
                    to: Some("e"),
                    passages: vec![Passage {
                        old: vec!["x", "y"],
                        new: vec!["x"],
                        ..Passage::default()
                    }]
                },
            ]
        );
    }

    #[test]
    fn what_is_no_patch_is_refused_with_its_line() {
        for (patch, why) in [
            ("", "begins with"),
            ("*** Begin Patch\n*** End Patch", "empty"),
            ("*** Begin Patch\n*** Add File: a\n+x", "ends with"),
            (
                "*** Begin Patch\n*** Add File: a\nx\n*** End Patch",
                "line 3",
            ),
            ("*** Begin Patch\nhello\n*** End Patch", "line 2"),
            (
                "*** Begin Patch\n*** Update File: a\n*** End Patch",
                "line 2",
            ),
            (
                "*** Begin Patch\n*** Update File: a\n@@\nx\n*** End Patch",
                "line 4",
            ),
        ] {
            let error = parse(patch).unwrap_err();
            assert!(error.contains(why), "{patch}: {error}");
        }
    }

    #[test]
    fn passages_are_found_by_their_words() {
        let text = "a\nb\nc\nb\nd\n";
        assert_eq!(patched(text, "@@\n-b\n+B").unwrap(), "a\nB\nc\nb\nd\n");
        assert_eq!(patched(text, "@@ c\n-b\n+B").unwrap(), "a\nb\nc\nB\nd\n");
        assert_eq!(patched(text, "@@ a\n+x").unwrap(), "a\nx\nb\nc\nb\nd\n");
        assert_eq!(patched(text, "+z").unwrap(), "a\nb\nc\nb\nd\nz\n");
        assert_eq!(
            patched(text, "@@\n b\n-d\n*** End of File").unwrap(),
            "a\nb\nc\nb\n"
        );
        assert_eq!(patched(text, "@@\n-a\n@@\n-d\n+D").unwrap(), "b\nc\nb\nD\n");
        assert!(patched(text, "@@\n-d\n@@\n-a").is_err(), "in order");
        assert!(patched(text, "@@ q\n-b").is_err());
        assert!(patched(text, "@@\n-q").unwrap_err().contains("not there"));
    }

    #[test]
    fn blanks_and_line_ends_do_not_hide_a_passage() {
        assert_eq!(patched("  a  \nb", "@@\n-a\n+x").unwrap(), "x\nb");
        assert_eq!(patched("a\r\nb\r\n", "@@\n-b\n+c").unwrap(), "a\r\nc\r\n");
    }
}
