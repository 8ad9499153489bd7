//! The terminal while the screen has it: raw, on its other page, given back however the program
//! ends.

use std::io;

use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, DisableBracketedPaste, EnableBracketedPaste, Event},
        execute,
    },
};
use tokio::sync::mpsc;

/// Keys that nobody took yet.
const KEYS_MAX: usize = 256;

/// Owns the terminal; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) screen: DefaultTerminal,
}

impl Terminal {
    /// Takes the terminal. A panic gives it back before it is reported.
    pub(super) fn enter() -> io::Result<Self> {
        let screen = ratatui::try_init()?;
        let terminal = Self { screen };
        execute!(io::stdout(), EnableBracketedPaste)?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What cannot be given back is gone.
        drop(execute!(io::stdout(), DisableBracketedPaste));
        drop(ratatui::try_restore());
    }
}

/// What is typed, read by a thread of its own that ends with the program.
pub(super) fn typed() -> mpsc::Receiver<Event> {
    let (keys, typed) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if keys.blocking_send(event).is_err() {
                break;
            }
        }
    });
    typed
}
