//! The only place that writes to the terminal.

pub(crate) mod json;
pub(crate) mod table;

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use serde_json::Value;

use crate::error::CommandError;

/// Where a command writes, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    color: bool,
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

impl Output {
    /// Colours only on a terminal, and only if nobody objects.
    pub(crate) fn new(no_color: bool) -> Self {
        let wanted = !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            color: wanted && io::stdout().is_terminal(),
        }
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

    /// One or more lines to stdout.
    pub(crate) fn line(self, text: impl fmt::Display) {
        write(io::stdout().lock(), &text);
    }

    /// Pretty JSON to stdout, with two blanks as the original prints it.
    pub(crate) fn json(self, value: &Value) {
        self.line(json::pretty(value));
    }

    /// One JSON value on one line.
    pub(crate) fn json_line(self, value: &Value) {
        self.line(value);
    }

    /// A note to stderr, where it does not spoil what a script reads.
    pub(crate) fn note(self, text: impl fmt::Display) {
        write(io::stderr().lock(), &text);
    }

    /// A failure to stderr.
    pub(crate) fn error(self, error: &CommandError, as_json: bool) {
        if as_json {
            self.note(error.to_json());
        } else {
            self.note(plain(&error.lines().join("\n")));
        }
    }
}

/// Gateways send text; a terminal takes commands. Only line breaks and tabs pass, and the colours
/// that this module adds itself.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A reader that went away (`| head`) is no failure of the command.
fn write(mut to: impl io::Write, text: &dyn fmt::Display) {
    drop(writeln!(to, "{text}").and_then(|()| to.flush()));
}
