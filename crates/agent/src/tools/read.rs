//! `read`: a part of a file, by its lines.

use std::io::{BufRead as _, BufReader, Read as _};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    args::Args,
    blocking,
    files::{FileFault, Files, Place},
};
use crate::{
    model::ToolSpec,
    tool::{Output, Tool, Working},
};

/// Lines of an answer at most.
const LINES_MAX: u64 = 2_000;
/// Bytes of an answer at most.
const BYTES_MAX: usize = 50 * 1024;
/// How far into a file it is looked for a line.
const SCANNED_MAX: u64 = 256 * 1024 * 1024;
/// Names of a directory that are told.
const NAMES_MAX: usize = 200;

/// Reads files.
#[derive(Debug)]
pub struct Read {
    files: Files,
    spec: ToolSpec,
}

impl Read {
    /// The tool for the files of a turn.
    #[must_use]
    pub fn new(files: &Files) -> Self {
        Self {
            files: files.clone(),
            spec: ToolSpec {
                name: "read".to_owned(),
                description:
                    "Shows a text file of the workspace. At most 2000 lines or 50 KB come \
                              at once; go on with offset."
                        .to_owned(),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "path": {"type": "string", "description": "Relative to the workspace."},
                        "offset": {"type": "number", "description": "First line, from 1."},
                        "limit": {"type": "number", "description": "How many lines."},
                    },
                    "required": ["path"],
                }),
            },
        }
    }
}

impl Tool for Read {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, _stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            let read = || {
                let args = Args::of(arguments)?;
                let path = args.required(&["path", "file_path"])?;
                let from = args.number("offset")?.unwrap_or(1).max(1);
                let limit = args.number("limit")?.unwrap_or(LINES_MAX);
                let place = self.files.place(path).map_err(|fault| failed(&fault))?;
                Ok((place, from, limit.clamp(1, LINES_MAX)))
            };
            let (place, from, limit) = match read() {
                Ok(read) => read,
                Err(output) => return output,
            };
            blocking(move || show(&place, from, limit).unwrap_or_else(|fault| failed(&fault))).await
        })
    }
}

pub(super) fn failed(fault: &FileFault) -> Output {
    Output::failed(fault.to_string())
}

fn show(place: &Place, from: u64, limit: u64) -> Result<Output, FileFault> {
    let (file, size) = match place.open() {
        Ok(open) => open,
        Err(FileFault::Directory(path)) => {
            let names = place.names(NAMES_MAX)?;
            return Ok(Output::failed(format!(
                "{path} is a directory. It holds:\n{}",
                names.join("\n")
            )));
        }
        Err(fault) => return Err(fault),
    };
    let io = |source| FileFault::Io {
        path: place.shown(),
        source,
    };
    let mut reader = BufReader::with_capacity(64 * 1024, file.take(SCANNED_MAX));
    let head = reader.fill_buf().map_err(io)?;
    if head[..head.len().min(8 * 1024)].contains(&0) {
        return Ok(Output::failed(format!(
            "{} is no text: {size} bytes that hold NUL",
            place.shown()
        )));
    }
    let mut line = 1;
    while line < from {
        if !skip_line(&mut reader).map_err(io)? {
            return Ok(Output::failed(format!(
                "{} has {} lines; offset {from} is beyond its end",
                place.shown(),
                line - 1
            )));
        }
        line += 1;
    }
    let mut shown = Vec::new();
    let mut is_cut = false;
    let mut lines = 0;
    while lines < limit {
        let room = BYTES_MAX - shown.len();
        let before = shown.len();
        let read = (&mut reader)
            .take(room as u64 + 1)
            .read_until(b'\n', &mut shown)
            .map_err(io)?;
        if read == 0 {
            break;
        }
        if shown.len() > BYTES_MAX {
            // The line that does not fit any more comes next time; one that never fits is cut.
            if lines > 0 {
                shown.truncate(before);
            } else {
                shown.truncate(BYTES_MAX);
                is_cut = true;
                lines += 1;
                skip_line(&mut reader).map_err(io)?;
            }
            break;
        }
        lines += 1;
    }
    let next = from + lines;
    let more = !reader.fill_buf().map_err(io)?.is_empty() || shown.len() > BYTES_MAX;
    let mut text = String::from_utf8_lossy(&shown).into_owned();
    if is_cut {
        text.push_str("\n[this line is longer and was cut]");
    }
    if more || is_cut {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format_more(next, size));
    }
    Ok(Output {
        text,
        details: Some(json!({"path": place.shown(), "from": from, "lines": lines, "size": size})),
        is_error: false,
    })
}

fn format_more(next: u64, size: u64) -> String {
    format!("[there is more: the file has {size} bytes; go on with offset {next}]")
}

/// Passes over a line; false at the end.
fn skip_line(reader: &mut impl std::io::BufRead) -> std::io::Result<bool> {
    let mut some = false;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(some);
        }
        some = true;
        match piece.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                reader.consume(at + 1);
                return Ok(true);
            }
            None => {
                let all = piece.len();
                reader.consume(all);
            }
        }
    }
}
