//! `write` and `edit`: a file written whole, and a passage of it replaced.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    args::Args,
    blocking,
    files::{CHANGED_MAX, Files, Place},
    read::failed,
};
use crate::{
    model::ToolSpec,
    tool::{Output, Tool, Working},
};

/// Writes files.
#[derive(Debug)]
pub struct Write {
    files: Files,
    spec: ToolSpec,
}

impl Write {
    /// The tool for the files of a turn.
    #[must_use]
    pub fn new(files: &Files) -> Self {
        Self {
            files: files.clone(),
            spec: ToolSpec {
                name: "write".to_owned(),
                description: "Writes a file of the workspace, replacing what it held. Directories \
                              on the way are made."
                    .to_owned(),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "path": {"type": "string", "description": "Relative to the workspace."},
                        "content": {"type": "string", "description": "All of the file."},
                    },
                    "required": ["path", "content"],
                }),
            },
        }
    }
}

impl Tool for Write {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, _stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            let read = || {
                let args = Args::of(arguments)?;
                let path = args.required(&["path", "file_path"])?;
                let content = args.required(&["content"])?;
                let place = self.files.place(path).map_err(|fault| failed(&fault))?;
                Ok((place, content.to_owned()))
            };
            let (place, content) = match read() {
                Ok(read) => read,
                Err(output) => return output,
            };
            if content.len() as u64 > CHANGED_MAX {
                return Output::failed(format!(
                    "the content has more than {CHANGED_MAX} bytes; write it in parts"
                ));
            }
            blocking(move || match place.write(content.as_bytes()) {
                Ok(()) => Output {
                    text: format!("wrote {} bytes to {}", content.len(), place.shown()),
                    details: Some(json!({"path": place.shown(), "bytes": content.len()})),
                    is_error: false,
                },
                Err(fault) => failed(&fault),
            })
            .await
        })
    }
}

/// Replaces passages of files.
#[derive(Debug)]
pub struct Edit {
    files: Files,
    spec: ToolSpec,
}

impl Edit {
    /// The tool for the files of a turn.
    #[must_use]
    pub fn new(files: &Files) -> Self {
        Self {
            files: files.clone(),
            spec: ToolSpec {
                name: "edit".to_owned(),
                description: "Replaces one passage of a text file of the workspace. oldText must \
                              stand in the file exactly once, with its spaces and line breaks."
                    .to_owned(),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "path": {"type": "string", "description": "Relative to the workspace."},
                        "oldText": {"type": "string", "description": "What is there now."},
                        "newText": {"type": "string", "description": "What comes in its place."},
                    },
                    "required": ["path", "oldText", "newText"],
                }),
            },
        }
    }
}

impl Tool for Edit {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, _stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            let read = || {
                let args = Args::of(arguments)?;
                let path = args.required(&["path", "file_path"])?;
                let old = args.required(&["oldText", "old_string"])?;
                let new = args.required(&["newText", "new_string"])?;
                let place = self.files.place(path).map_err(|fault| failed(&fault))?;
                Ok((place, old.to_owned(), new.to_owned()))
            };
            let (place, old, new) = match read() {
                Ok(read) => read,
                Err(output) => return output,
            };
            blocking(move || edit(&place, &old, &new)).await
        })
    }
}

fn edit(place: &Place, old: &str, new: &str) -> Output {
    let path = place.shown();
    let text = match place.bytes() {
        Ok(Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => return Output::failed(format!("{path} is no UTF-8 text")),
        },
        Ok(None) => {
            return Output::failed(format!("{path} is not there; write makes a new file"));
        }
        Err(fault) => return failed(&fault),
    };
    match replaced(&text, old, new) {
        Ok((after, line)) => match place.write(after.as_bytes()) {
            Ok(()) => Output {
                text: format!("changed {path} at line {line}"),
                details: Some(json!({"path": path, "line": line})),
                is_error: false,
            },
            Err(fault) => failed(&fault),
        },
        Err(why) => Output::failed(format!("{path} was not changed: {why}")),
    }
}

/// A text with a passage replaced, and the line where that begins.
fn replaced(text: &str, old: &str, new: &str) -> Result<(String, usize), String> {
    if old.is_empty() {
        return Err("oldText is empty".to_owned());
    }
    // A model sees lines and not how they end.
    let windows = text.contains("\r\n") && !old.contains('\r');
    let (old, new) = if windows {
        let ends = |text: &str| text.replace("\r\n", "\n").replace('\n', "\r\n");
        (ends(old), ends(new))
    } else {
        (old.to_owned(), new.to_owned())
    };
    if old == new {
        return Err("oldText and newText are the same".to_owned());
    }
    let mut found = text.match_indices(&old).map(|(at, _)| at);
    let Some(at) = found.next() else {
        return Err(
            "oldText does not stand there; read the file again and copy the passage exactly"
                .to_owned(),
        );
    };
    let others = found.count();
    if others > 0 {
        return Err(format!(
            "oldText stands there {} times; take in more lines around it, so that it stands there \
             once",
            others + 1
        ));
    }
    let line = text[..at].matches('\n').count() + 1;
    let after = format!("{}{new}{}", &text[..at], &text[at + old.len()..]);
    if after.len() as u64 > CHANGED_MAX {
        return Err(format!("it would have more than {CHANGED_MAX} bytes"));
    }
    Ok((after, line))
}
