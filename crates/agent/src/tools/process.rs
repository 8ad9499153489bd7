//! `process`: attending to programs that go on in the background.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    args::Args,
    exec::{details, ending, tail},
    running::{Input, Processes, Running},
};
use crate::{
    model::ToolSpec,
    tool::{Output, Tool, Working},
};

/// How long a poll waits at most for something new.
const POLL_MAX: Duration = Duration::from_secs(120);
/// Bytes that are written at once at most.
const WRITTEN_MAX: usize = 64 * 1024;
/// Lines of a log when nobody says how many.
const LINES: u64 = 200;

/// Attends to programs.
#[derive(Debug)]
pub struct Process {
    owner: String,
    processes: Processes,
    spec: ToolSpec,
}

impl Process {
    /// The tool for the programs of an owner, which is a session.
    #[must_use]
    pub fn new(owner: &str, processes: &Processes) -> Self {
        Self {
            owner: owner.to_owned(),
            processes: processes.clone(),
            spec: ToolSpec {
                name: "process".to_owned(),
                description: "Attends to programs that exec left in the background: list them, \
                              poll for what is new (timeout: ms to wait for it), log (offset and \
                              limit in lines), write data, send-keys, submit (a line), paste, \
                              kill, clear or remove those that ended."
                    .to_owned(),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "action": {"type": "string", "enum": [
                            "list", "poll", "log", "write", "send-keys", "submit", "paste", "kill",
                            "clear", "remove",
                        ]},
                        "sessionId": {"type": "string"},
                        "data": {"type": "string"},
                        "keys": {"type": "array", "items": {"type": "string"},
                                 "description": "Such as Enter, Tab, Escape, Up, C-c."},
                        "hex": {"type": "array", "items": {"type": "string"}},
                        "literal": {"type": "string"},
                        "text": {"type": "string"},
                        "bracketed": {"type": "boolean"},
                        "eof": {"type": "boolean"},
                        "offset": {"type": "number"},
                        "limit": {"type": "number"},
                        "timeout": {"type": "number"},
                    },
                    "required": ["action"],
                }),
            },
        }
    }

    async fn act(&self, arguments: &Value, stop: &CancellationToken) -> Result<Output, Output> {
        let args = Args::of(arguments)?;
        let action = args.required(&["action"])?;
        if action == "list" {
            return Ok(self.list());
        }
        let id = args.required(&["sessionId"])?;
        let running = self.processes.get(&self.owner, id).ok_or_else(|| {
            Output::failed(format!("no session {id}; list tells which there are"))
        })?;
        match action {
            "poll" => {
                let wait = args.number("timeout")?.unwrap_or(0);
                let wait = Duration::from_millis(wait).min(POLL_MAX);
                if !wait.is_zero() {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        _ = tokio::time::timeout(wait, running.news()) => {}
                    }
                }
                Ok(polled(&running))
            }
            "log" => {
                let offset = args.number("offset")?;
                Ok(log(
                    &running,
                    offset,
                    args.number("limit")?.unwrap_or(LINES),
                ))
            }
            "write" => {
                let data = args.text(&["data", "text"])?.unwrap_or_default();
                write(&running, data.as_bytes().to_vec(), args.flag("eof")?)
            }
            "submit" => {
                let line = args.text(&["data", "text"])?.unwrap_or_default();
                write(&running, format!("{line}\n").into_bytes(), false)
            }
            "paste" => {
                let text = args.required(&["text", "data"])?;
                let pasted = if args.flag("bracketed")? {
                    format!("\x1b[200~{text}\x1b[201~")
                } else {
                    text.to_owned()
                };
                write(&running, pasted.into_bytes(), false)
            }
            "send-keys" => {
                let mut bytes = Vec::new();
                for key in args.texts("keys")? {
                    bytes.extend(key_bytes(key).ok_or_else(|| {
                        Output::failed(format!("the key \"{key}\" is not known"))
                    })?);
                }
                for byte in args.texts("hex")? {
                    let byte = u8::from_str_radix(byte.trim().trim_start_matches("0x"), 16);
                    bytes.push(byte.map_err(|_| {
                        Output::failed("\"hex\" must be a list of bytes such as \"1b\"")
                    })?);
                }
                bytes.extend(args.text(&["literal"])?.unwrap_or_default().as_bytes());
                write(&running, bytes, false)
            }
            "kill" => {
                running.kill();
                running.ended().await;
                Ok(polled(&running))
            }
            "clear" | "remove" => {
                if running.end().is_none() {
                    if action == "clear" {
                        return Err(Output::failed(format!("{id} still runs; kill it first")));
                    }
                    running.kill();
                    running.ended().await;
                }
                self.processes.forget(&running.id);
                Ok(Output::ok(format!("{id} is gone")))
            }
            other => Err(Output::failed(format!("there is no action \"{other}\""))),
        }
    }

    fn list(&self) -> Output {
        let list = self.processes.list(&self.owner);
        let lines: Vec<String> = list
            .iter()
            .map(|running| {
                let state = running.end().map_or_else(
                    || "running".to_owned(),
                    |end| ending(&end).unwrap_or_else(|| "done".to_owned()),
                );
                let command: String = running.shown.chars().take(120).collect();
                format!("{}  {state}  {command}", running.id)
            })
            .collect();
        let rows: Vec<Value> = list
            .iter()
            .map(|running| {
                let mut row = details(running, None);
                if let Some(row) = row.as_object_mut() {
                    row.remove("aggregated");
                    row.insert("command".to_owned(), running.shown.as_str().into());
                }
                row
            })
            .collect();
        Output {
            text: if lines.is_empty() {
                "nothing runs".to_owned()
            } else {
                lines.join("\n")
            },
            details: Some(json!({"status": "completed", "sessions": rows})),
            is_error: false,
        }
    }
}

impl Tool for Process {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            match self.act(arguments, stop).await {
                Ok(output) | Err(output) => output,
            }
        })
    }
}

fn polled(running: &Arc<Running>) -> Output {
    // The end is looked at first: what was said before it is then all there.
    let end = running.end();
    let (text, lost) = running.poll();
    let mut shown = tail(&text, lost);
    if shown.is_empty() {
        shown.push_str("[nothing new]");
    }
    match &end {
        None => shown.push_str("\n[it still runs]"),
        Some(end) => {
            let how = ending(end).unwrap_or_else(|| "it is done".to_owned());
            shown = format!("{shown}\n[{how}]");
        }
    }
    Output {
        text: shown,
        details: Some(details(running, None)),
        is_error: end.is_some_and(|end| ending(&end).is_some()),
    }
}

fn log(running: &Arc<Running>, offset: Option<u64>, limit: u64) -> Output {
    let (text, gone) = running.text();
    let lines: Vec<&str> = text.lines().collect();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
    let from = offset.map_or(lines.len().saturating_sub(limit), |offset| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(lines.len())
    });
    let to = from.saturating_add(limit).min(lines.len());
    let shown = tail(&lines[from..to].join("\n"), 0);
    Output {
        text: format!(
            "{shown}\n[lines {from} to {to} of {}{}]",
            lines.len(),
            if gone > 0 {
                format!(", {gone} bytes before them are not kept")
            } else {
                String::new()
            }
        ),
        details: Some(details(running, None)),
        is_error: false,
    }
}

fn write(running: &Arc<Running>, bytes: Vec<u8>, eof: bool) -> Result<Output, Output> {
    if running.end().is_some() {
        return Err(Output::failed(format!("{} ended already", running.id)));
    }
    if !running.takes_input() {
        return Err(Output::failed(
            "it reads nothing: start a program with background or pty to write to it",
        ));
    }
    if bytes.len() > WRITTEN_MAX {
        return Err(Output::failed(format!(
            "more than {WRITTEN_MAX} bytes at once; write them in parts"
        )));
    }
    let count = bytes.len();
    let sent = (bytes.is_empty() || running.write(Input::Bytes(bytes)))
        && (!eof || running.write(Input::End));
    if !sent {
        return Err(Output::failed(
            "it does not read what was written before; poll, and try again later",
        ));
    }
    Ok(Output::ok(format!("wrote {count} bytes to {}", running.id)))
}

/// What a terminal sends for a key, by the names that terminal multiplexers have for it.
fn key_bytes(key: &str) -> Option<Vec<u8>> {
    let named: &[u8] = match key.to_ascii_lowercase().as_str() {
        "enter" | "return" => b"\r",
        "tab" => b"\t",
        "escape" | "esc" => b"\x1b",
        "space" => b" ",
        "backspace" | "bspace" => b"\x7f",
        "delete" | "dc" => b"\x1b[3~",
        "up" => b"\x1b[A",
        "down" => b"\x1b[B",
        "right" => b"\x1b[C",
        "left" => b"\x1b[D",
        "home" => b"\x1b[H",
        "end" => b"\x1b[F",
        "pageup" | "ppage" => b"\x1b[5~",
        "pagedown" | "npage" => b"\x1b[6~",
        _ => b"",
    };
    if !named.is_empty() {
        return Some(named.to_vec());
    }
    let chord = key.strip_prefix("C-").or_else(|| key.strip_prefix("ctrl-"));
    if let Some(chord) = chord {
        let mut letters = chord.chars();
        return match (letters.next(), letters.next()) {
            (Some(letter), None) if letter.is_ascii_alphabetic() => {
                Some(vec![letter.to_ascii_lowercase() as u8 & 0x1f])
            }
            _ => None,
        };
    }
    (key.chars().count() == 1).then(|| key.as_bytes().to_vec())
}
