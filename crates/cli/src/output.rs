//! The only place that writes to the terminal.

pub(crate) mod json;
pub(crate) mod table;

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use serde_json::Value;

use crate::{
    app::Globals,
    error::{CommandError, CommandResult},
};

/// Where a command writes, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    color: bool,
    /// Whether stdout is a program and nobody asked for text.
    piped: bool,
}

/// A way to set words apart, where colours are on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warn,
    Dim,
    Bold,
}

/// Whether the environment objects to colours.
pub(crate) fn no_color_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// A line to stdout, for a process that is no command of a person.
pub(crate) fn bare(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A line to stderr, likewise.
pub(crate) fn bare_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

impl Output {
    /// Colours only on a terminal, and only if nobody objects.
    pub(crate) fn new(globals: &Globals) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            color: terminal && !globals.no_color && !no_color_wanted(),
            piped: !terminal && !globals.human,
        }
    }

    /// Whether a command prints JSON whose original always does: with `--json`, and without it
    /// where a program reads.
    pub(crate) fn always_json(self, asked: bool) -> bool {
        asked || self.piped
    }

    /// Words in a tone.
    pub(crate) fn paint(self, tone: Tone, text: impl fmt::Display) -> String {
        if !self.color {
            return text.to_string();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Dim => "2",
            Tone::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Whether colours are on.
    pub(crate) fn has_color(self) -> bool {
        self.color
    }

    /// One or more lines to stdout. What cannot be written ends the command.
    pub(crate) fn line(self, text: impl fmt::Display) -> CommandResult<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .map_err(|error| CommandError::output(&error))
    }

    /// A part of a line to stdout, at once.
    pub(crate) fn piece(self, text: impl fmt::Display) -> CommandResult<()> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .map_err(|error| CommandError::output(&error))
    }

    /// Pretty JSON to stdout, with two blanks as the original prints it.
    pub(crate) fn json(self, value: &Value) -> CommandResult<()> {
        self.line(json::pretty(value))
    }

    /// One JSON value on one line.
    pub(crate) fn json_line(self, value: &Value) -> CommandResult<()> {
        self.line(json::line(value))
    }

    /// A note to stderr, where it does not spoil what a script reads. Where that is closed there
    /// is nobody left to tell.
    pub(crate) fn note(self, text: impl fmt::Display) {
        let mut stderr = io::stderr().lock();
        let text = plain(&text.to_string());
        drop(writeln!(stderr, "{text}").and_then(|()| stderr.flush()));
    }

    /// A failure to stderr. A reader that went away (`| head`) is none.
    pub(crate) fn error(self, error: &CommandError, as_json: bool) {
        if error.is_silent() {
            return;
        }
        if as_json {
            self.note(json::line(&error.to_json()));
        } else {
            self.note(error.lines().join("\n"));
        }
    }
}

/// Ends when whoever reads stdout went away; never, where that cannot be watched.
#[cfg(unix)]
pub(crate) async fn reader_gone() {
    use std::os::fd::AsFd as _;

    use tokio::{io::Interest, net::unix::pipe::Sender};

    // Only watched: nothing is written through it, so the pipe's mode stays as it is.
    let watched = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(Sender::from_owned_fd_unchecked);
    if let Ok(watched) = watched
        && watched.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Ends when whoever reads stdout went away; here only a write shows it.
#[cfg(not(unix))]
pub(crate) async fn reader_gone() {
    std::future::pending::<()>().await;
}

/// Gateways send text; a terminal takes commands. Only line breaks and tabs pass, and the colours
/// that this module adds itself.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if is_obeyed(c) && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// What has one line here, whatever its lines were there: a name, a fact, an entry of a log.
pub(crate) fn one_line(text: &str) -> String {
    plain(text).replace('\n', " ")
}

/// Whether a terminal does something at this character, or shows other text than is there: controls,
/// what turns the direction of letters, separators of lines, and what has no width. The marks that
/// some scripts are written with are none of these.
pub(crate) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
