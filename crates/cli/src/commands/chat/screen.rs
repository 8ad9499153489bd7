//! The chat's screen: what happened goes in, what is to be asked comes out, rows are drawn from
//! what is known. No clock, no socket, no terminal.

use clawgate_client::Event;
use clawgate_gateway::shown;
use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph},
};
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::{
    ask::{Ask, HELP, Saying, Slash, said, slash},
    conversation::{Conversation, Defaults, Heard, Item, ToolState, text_of},
    editor::Editor,
};
use crate::{output::plain, words};

/// Rows of the text that is being typed, at most.
const EDITOR_ROWS: u16 = 8;
/// Rows of a command that waits for a decision, at most; what is longer is not allowed by a key.
const COMMAND_ROWS: usize = 6;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Happening {
    Key(KeyEvent),
    Paste(String),
    Resized(u16, u16),
    /// At the gateway.
    Event(Event),
    /// A connection stands.
    Connected {
        may_approve: bool,
    },
    /// It does no more.
    Lost(String),
    /// A call was answered; `lost` where the connection ended instead.
    Answered {
        ask: Ask,
        answer: Result<Value, Refusal>,
    },
    /// Time went on, milliseconds since the epoch.
    Tick(i64),
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    /// Whether the connection was lost before the answer.
    pub(super) lost: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Ask(Ask),
    Leave,
}

/// A command that waits for a decision.
#[derive(Clone, Debug)]
struct Waiting {
    id: String,
    command: String,
    place: String,
    expires_at_ms: i64,
}

/// All that the screen knows.
#[derive(Debug)]
pub(super) struct Screen {
    defaults: Defaults,
    talk: Conversation,
    editor: Editor,
    saying: Saying,
    waiting: Vec<Waiting>,
    may_approve: bool,
    /// Why there is no connection.
    lost: Option<String>,
    /// Messages that are to be sent as soon as there is one.
    unsent: Vec<Ask>,
    /// Runs that were begun here and did not end yet.
    own: Vec<String>,
    /// Rows that the view is above the end.
    scroll: usize,
    /// Messages before the ones that are there.
    older: Option<u64>,
    asked_older: bool,
    size: (u16, u16),
    now_ms: i64,
    since_ms: i64,
    gateway: String,
    /// Makes keys for messages; given, so that the screen stays what it is told.
    new_key: fn() -> String,
}

impl Screen {
    pub(super) fn new(
        key: String,
        gateway: String,
        defaults: Defaults,
        saying: Saying,
        new_key: fn() -> String,
    ) -> Self {
        Self {
            defaults,
            talk: Conversation::new(key),
            editor: Editor::default(),
            saying,
            waiting: Vec::new(),
            may_approve: false,
            lost: Some("connecting".to_owned()),
            unsent: Vec::new(),
            own: Vec::new(),
            scroll: 0,
            older: None,
            asked_older: false,
            size: (80, 24),
            now_ms: 0,
            since_ms: 0,
            gateway,
            new_key,
        }
    }

    /// The session of now.
    pub(super) fn key(&self) -> &str {
        &self.talk.key
    }

    /// What goes with messages.
    pub(super) fn saying(&self) -> &Saying {
        &self.saying
    }

    /// Takes in what happened; gives what is to be done.
    pub(super) fn take(&mut self, happening: Happening) -> Vec<Wish> {
        match happening {
            Happening::Key(key) if key.kind != KeyEventKind::Release => self.key_pressed(key),
            Happening::Key(_) => Vec::new(),
            Happening::Paste(text) => {
                self.editor.insert(&text);
                Vec::new()
            }
            Happening::Resized(width, height) => {
                self.size = (width, height);
                Vec::new()
            }
            Happening::Event(event) => self.hear(&event),
            Happening::Connected { may_approve } => self.connected(may_approve),
            Happening::Lost(why) => {
                self.lost = Some(why);
                Vec::new()
            }
            Happening::Answered { ask, answer } => self.answered(ask, answer),
            Happening::Tick(now_ms) => {
                self.now_ms = now_ms;
                self.waiting
                    .retain(|waiting| waiting.expires_at_ms > now_ms);
                Vec::new()
            }
        }
    }

    /// Says something, as if it had been typed.
    pub(super) fn say(&mut self, text: &str) -> Vec<Wish> {
        let run = (self.new_key)();
        self.talk.push(Item::User(text.to_owned()));
        self.scroll = 0;
        self.since_ms = self.now_ms;
        self.talk.run.get_or_insert_with(|| run.clone());
        self.own.push(run.clone());
        let ask = Ask::Send {
            text: text.to_owned(),
            run,
        };
        if self.lost.is_some() {
            self.unsent.push(ask);
            return Vec::new();
        }
        vec![Wish::Ask(ask)]
    }

    fn note(&mut self, text: impl Into<String>) {
        self.talk.push(Item::Note(text.into()));
        self.scroll = 0;
    }

    fn connected(&mut self, may_approve: bool) -> Vec<Wish> {
        self.lost = None;
        self.may_approve = may_approve;
        self.waiting.clear();
        // What was missed is in the history; what still runs says its whole text next.
        let mut wishes = vec![Wish::Ask(Ask::History { offset: None })];
        if may_approve {
            wishes.push(Wish::Ask(Ask::Approvals));
        }
        let unsent = std::mem::take(&mut self.unsent);
        if unsent.is_empty()
            && let Some(run) = self.talk.run.clone()
        {
            wishes.push(Wish::Ask(Ask::Waited { run }));
        }
        wishes.extend(unsent.into_iter().map(Wish::Ask));
        wishes
    }

    fn hear(&mut self, event: &Event) -> Vec<Wish> {
        let payload = &event.payload;
        match event.event.as_str() {
            "exec.approval.requested" => self.wait_for(payload),
            "exec.approval.resolved" => {
                let id = payload["id"].as_str().unwrap_or_default();
                let before = self.waiting.len();
                self.waiting.retain(|waiting| waiting.id != id);
                if self.waiting.len() != before {
                    let decision = payload["decision"].as_str().unwrap_or("decided");
                    let by = payload["resolvedBy"].as_str().unwrap_or("somebody");
                    self.note(format!("{decision} by {by}"));
                }
            }
            _ => {
                let ran = self.talk.run.is_some();
                let heard = self.talk.hear(event);
                if !ran && self.talk.run.is_some() {
                    self.since_ms = self.now_ms;
                }
                if let Heard::Ended { run, .. } = heard {
                    let before = self.own.len();
                    self.own.retain(|own| *own != run);
                    if self.own.len() == before {
                        // Somebody else's: what was asked is in the history alone.
                        return vec![Wish::Ask(Ask::History { offset: None })];
                    }
                }
            }
        }
        Vec::new()
    }

    fn wait_for(&mut self, pending: &Value) {
        let text = |value: &Value| value.as_str().map(shown);
        let request = &pending["request"];
        let Some(id) = pending["id"].as_str() else {
            return;
        };
        if self.waiting.iter().any(|waiting| waiting.id == id) {
            return;
        }
        let place: Vec<String> = [("in", "cwd"), ("node", "nodeId"), ("session", "sessionKey")]
            .iter()
            .filter_map(|(label, name)| Some(format!("{label} {}", text(&request[*name])?)))
            .collect();
        self.waiting.push(Waiting {
            id: id.to_owned(),
            command: text(&request["command"]).unwrap_or_default(),
            place: place.join(", "),
            expires_at_ms: pending["expiresAtMs"].as_i64().unwrap_or(i64::MAX),
        });
    }

    fn decide(&mut self, decision: &'static str, id: Option<String>) -> Vec<Wish> {
        if !self.may_approve {
            self.note("this connection may not decide: it lacks operator.approvals (clawgate auth explain)");
            return Vec::new();
        }
        let by_key = id.is_none();
        let chosen = match id {
            Some(id) => Some(id),
            None => self.waiting.first().map(|waiting| waiting.id.clone()),
        };
        if by_key && decision != "deny" && !self.shows_all() {
            self.note(
                "it is longer than the screen shows: clawgate approvals pending, then /allow ID",
            );
            return Vec::new();
        }
        match chosen {
            Some(id) => vec![Wish::Ask(Ask::Decide { id, decision })],
            None => {
                self.note("no command waits for a decision");
                Vec::new()
            }
        }
    }

    fn key_pressed(&mut self, key: KeyEvent) -> Vec<Wish> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let other = key
            .modifiers
            .intersects(KeyModifiers::ALT | KeyModifiers::SHIFT);
        match key.code {
            KeyCode::Enter if other => self.editor.insert("\n"),
            KeyCode::Enter if self.editor.takes_backslash() => self.editor.insert("\n"),
            KeyCode::Enter => return self.entered(),
            KeyCode::Char('j') if control => self.editor.insert("\n"),
            KeyCode::Char('c') if control => {
                if self.editor.is_empty() {
                    if self.talk.run.is_some() {
                        return self.abort();
                    }
                    return vec![Wish::Leave];
                }
                self.editor.clear();
            }
            KeyCode::Char('d') if control && self.editor.is_empty() => return vec![Wish::Leave],
            KeyCode::Char('d') if control => self.editor.delete(),
            KeyCode::Char('a') if control => self.editor.home(),
            KeyCode::Char('e') if control => self.editor.end(),
            KeyCode::Char('b') if control => self.editor.left(),
            KeyCode::Char('f') if control => self.editor.right(),
            KeyCode::Char('k') if control => self.editor.delete_to_end(),
            KeyCode::Char('u') if control => self.editor.delete_to_start(),
            KeyCode::Char('w') if control => self.editor.delete_word(),
            KeyCode::Char('h') if control => self.editor.backspace(),
            KeyCode::Char(_) if control => {}
            KeyCode::Char(c) => self.editor.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => self.editor.backspace(),
            KeyCode::Delete => self.editor.delete(),
            KeyCode::Left => self.editor.left(),
            KeyCode::Right => self.editor.right(),
            KeyCode::Home => self.editor.home(),
            KeyCode::End => self.editor.end(),
            KeyCode::Up => self.editor.up(),
            KeyCode::Down => self.editor.down(),
            KeyCode::PageUp => return self.page_up(),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_sub(self.page()),
            KeyCode::Esc => return self.abort(),
            KeyCode::F(2) => return self.decide("allow-once", None),
            KeyCode::F(3) => return self.decide("allow-always", None),
            KeyCode::F(4) => return self.decide("deny", None),
            _ => {}
        }
        Vec::new()
    }

    fn abort(&mut self) -> Vec<Wish> {
        match &self.talk.run {
            Some(run) => vec![Wish::Ask(Ask::Abort {
                run: Some(run.clone()),
            })],
            None => Vec::new(),
        }
    }

    fn entered(&mut self) -> Vec<Wish> {
        let text = self.editor.take();
        if text.trim().is_empty() {
            return Vec::new();
        }
        let Some(command) = slash(&text) else {
            return self.say(said(text.trim_end()));
        };
        match command {
            Slash::Help => {
                for line in HELP {
                    self.note(*line);
                }
            }
            Slash::Reset => return vec![Wish::Ask(Ask::Reset)],
            Slash::Abort => {
                let run = self.talk.run.clone();
                return vec![Wish::Ask(Ask::Abort { run })];
            }
            Slash::Model(Some(name)) => return vec![Wish::Ask(Ask::Model(name))],
            Slash::Model(None) => return vec![Wish::Ask(Ask::Models)],
            Slash::Thinking(Some(level)) => {
                self.note(format!("thinking: {level}"));
                self.saying.thinking = Some(level);
            }
            Slash::Thinking(None) => {
                let level = self.saying.thinking.as_deref();
                let level = level.unwrap_or("as the session has it").to_owned();
                self.note(format!("thinking: {level}"));
            }
            Slash::History => return self.ask_older(),
            Slash::Sessions => return vec![Wish::Ask(Ask::Sessions)],
            Slash::Session(key) => {
                self.talk = Conversation::new(self.defaults.whole(&key));
                (self.scroll, self.older, self.asked_older) = (0, None, false);
                self.own.clear();
                return vec![Wish::Ask(Ask::History { offset: None })];
            }
            Slash::Status => return vec![Wish::Ask(Ask::Status)],
            Slash::Decide(decision, id) => return self.decide(decision, id),
            Slash::Exit => return vec![Wish::Leave],
            Slash::Wrong(why) => self.note(why),
        }
        Vec::new()
    }

    fn page(&self) -> usize {
        usize::from(self.size.1 / 2).max(1)
    }

    fn page_up(&mut self) -> Vec<Wish> {
        let height = usize::from(self.view_height());
        let wanted = self.scroll + self.page();
        let there = self.rows(usize::from(self.size.0), wanted + height).len();
        self.scroll = wanted.min(there.saturating_sub(height));
        if there < wanted + height {
            return self.ask_older();
        }
        Vec::new()
    }

    fn ask_older(&mut self) -> Vec<Wish> {
        match self.older {
            Some(offset) if !self.asked_older => {
                self.asked_older = true;
                vec![Wish::Ask(Ask::History {
                    offset: Some(offset),
                })]
            }
            Some(_) => Vec::new(),
            None => {
                if !matches!(self.talk.items.first(), Some(Item::Note(_))) {
                    let begin = "the conversation begins here".to_owned();
                    self.talk.items.insert(0, Item::Note(begin));
                }
                Vec::new()
            }
        }
    }

    fn answered(&mut self, ask: Ask, answer: Result<Value, Refusal>) -> Vec<Wish> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => return self.refused(ask, &refusal),
        };
        match ask {
            // A command of the gateway's own is answered at once.
            Ask::Send { run, .. } => {
                let over = matches!(
                    answer["status"].as_str(),
                    Some("ok" | "error" | "timeout" | "aborted")
                );
                if over {
                    return self.ended_unheard(&run);
                }
            }
            Ask::Abort { .. } if answer["aborted"] != true => {
                self.talk.run = None;
                self.note("nothing ran any more");
            }
            Ask::Abort { .. } => {}
            Ask::History { offset } => self.history(offset, &answer),
            Ask::Waited { run } => {
                let over = answer["status"] != "timeout" || !answer["endedAt"].is_null();
                if over {
                    return self.ended_unheard(&run);
                }
            }
            Ask::Reset => {
                self.talk.items.clear();
                self.talk.run = None;
                self.older = None;
                self.note("a new conversation");
            }
            Ask::Model(name) => {
                let model = answer["resolved"]["model"].as_str().unwrap_or(&name);
                let said = format!("model: {model}");
                self.note(said);
            }
            Ask::Models => {
                let names: Vec<String> = answer["models"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|model| {
                        let text = |name: &str| model[name].as_str().unwrap_or_default();
                        format!("{}/{}", text("provider"), text("id"))
                    })
                    .collect();
                self.list("models", &names);
            }
            Ask::Sessions => {
                let keys: Vec<String> = sessions(&answer)
                    .map(|session| session["key"].as_str().unwrap_or_default().to_owned())
                    .collect();
                self.list("sessions", &keys);
            }
            Ask::Status => {
                let key = self.talk.key.clone();
                let row = sessions(&answer).find(|session| session["key"] == key.as_str());
                let status = match row {
                    Some(row) => format!(
                        "{key}: model {}, {} tokens",
                        row["model"].as_str().unwrap_or("of the agent"),
                        row["totalTokens"].as_i64().unwrap_or(0),
                    ),
                    None => format!("{key}: nothing was said yet"),
                };
                self.note(status);
            }
            Ask::Approvals => {
                for pending in answer.as_array().into_iter().flatten() {
                    self.wait_for(pending);
                }
            }
            Ask::Decide { id, .. } => {
                self.waiting.retain(|waiting| waiting.id != id);
                if let Some(why) = answer["whyNotKept"].as_str() {
                    self.note(format!("it is asked about again: {why}"));
                }
            }
        }
        Vec::new()
    }

    /// A run is over whose end was not heard: what it said is in the history.
    fn ended_unheard(&mut self, run: &str) -> Vec<Wish> {
        self.own.retain(|own| own != run);
        self.talk.close(run);
        if self.talk.run.as_deref() == Some(run) {
            self.talk.run = None;
        }
        vec![Wish::Ask(Ask::History { offset: None })]
    }

    fn refused(&mut self, ask: Ask, refusal: &Refusal) -> Vec<Wish> {
        match ask {
            // It is sent again under its key, now or with the next connection.
            Ask::Send { .. } if refusal.lost && self.lost.is_none() => return vec![Wish::Ask(ask)],
            Ask::Send { .. } if refusal.lost => self.unsent.push(ask),
            Ask::Send { run, .. } => {
                self.own.retain(|own| *own != run);
                if self.talk.run.as_deref() == Some(&run) {
                    self.talk.run = None;
                }
                self.note(format!("not sent: {}", refusal.message));
            }
            Ask::History { .. } => {
                self.asked_older = false;
                if !refusal.lost {
                    self.note(format!("no history: {}", refusal.message));
                }
            }
            Ask::Waited { .. } | Ask::Approvals => {}
            Ask::Decide { id, .. } => {
                if !refusal.lost {
                    self.waiting.retain(|waiting| waiting.id != id);
                }
                self.note(format!("not decided: {}", refusal.message));
            }
            Ask::Abort { .. }
            | Ask::Reset
            | Ask::Model(_)
            | Ask::Models
            | Ask::Sessions
            | Ask::Status => self.note(refusal.message.clone()),
        }
        Vec::new()
    }

    fn list(&mut self, of: &str, names: &[String]) {
        if names.is_empty() {
            self.note(format!("no {of}"));
        }
        for name in names {
            self.note(name.clone());
        }
    }

    fn history(&mut self, offset: Option<u64>, answer: &Value) {
        let none = Vec::new();
        let messages = answer["messages"].as_array().unwrap_or(&none);
        self.asked_older = false;
        self.older = answer["nextOffset"]
            .as_u64()
            .filter(|_| answer["hasMore"] == true);
        if offset.is_some() {
            self.talk.prepend(messages);
            return;
        }
        // What is being said stays, and what was said here and is not in the history yet.
        let asked: Vec<String> = messages
            .iter()
            .rev()
            .filter(|message| message["role"] == "user")
            .take(self.own.len())
            .filter_map(text_of)
            .collect();
        let is_new = |item: &&Item| matches!(item, Item::User(said) if !asked.iter().any(|asked| asked.ends_with(said.as_str())));
        let users = self.talk.items.iter().rev();
        let mut open: Vec<Item> = users
            .filter(|item| matches!(item, Item::User(_)))
            .take(self.own.len())
            .filter(is_new)
            .cloned()
            .collect();
        open.reverse();
        let saying = |item: &&Item| matches!(item, Item::Agent { run: Some(_), .. });
        open.extend(self.talk.items.iter().filter(saying).cloned());
        self.talk.replace(messages);
        for item in open {
            self.talk.push(item);
        }
    }

    /// Draws all of it.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let editor = self.editor_rows(usize::from(area.width));
        let editor_height = rows_of(editor.rows.len()).clamp(1, EDITOR_ROWS) + 1;
        let approval = self.approval_rows(usize::from(area.width));
        let [head, view, asked, status, typing] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(rows_of(approval.len())),
            Constraint::Length(1),
            Constraint::Length(editor_height),
        ])
        .areas(area);
        let title = format!("{}  {}", self.talk.key, self.gateway);
        frame.render_widget(
            Line::styled(cut(&plain(&title), usize::from(head.width)), dim()),
            head,
        );
        self.draw_view(frame, view);
        frame.render_widget(Paragraph::new(approval), asked);
        frame.render_widget(self.status(usize::from(status.width)), status);
        draw_editor(frame, typing, &editor);
    }

    fn view_height(&self) -> u16 {
        let width = usize::from(self.size.0);
        let editor = rows_of(self.editor_rows(width).rows.len()).clamp(1, EDITOR_ROWS) + 1;
        let approval = rows_of(self.approval_rows(width).len());
        self.size.1.saturating_sub(2 + editor + approval).max(1)
    }

    fn draw_view(&self, frame: &mut Frame<'_>, area: Rect) {
        let height = usize::from(area.height);
        let rows = self.rows(usize::from(area.width), self.scroll + height);
        let end = rows
            .len()
            .saturating_sub(self.scroll)
            .max(height.min(rows.len()));
        let start = end.saturating_sub(height);
        frame.render_widget(Paragraph::new(rows[start..end].to_vec()), area);
    }

    /// The last so many rows of the conversation, or a few more.
    fn rows(&self, width: usize, wanted: usize) -> Vec<Line<'static>> {
        let mut blocks = Vec::new();
        let mut count = 0;
        for item in self.talk.items.iter().rev() {
            let block = item_rows(item, width);
            count += block.len();
            blocks.push(block);
            if count >= wanted {
                break;
            }
        }
        blocks.into_iter().rev().flatten().collect()
    }

    fn status(&self, width: usize) -> Line<'static> {
        if let Some(why) = &self.lost {
            let text = format!("not connected: {}; trying again", plain(why));
            return Line::styled(cut(&text, width), Style::new().fg(Color::Red));
        }
        let mut parts = Vec::new();
        if self.talk.run.is_some() {
            let seconds = (self.now_ms - self.since_ms).max(0) / 1_000;
            let span = words::span(seconds * 1_000);
            parts.push(match seconds {
                0 => "answering, Esc ends it".to_owned(),
                _ => format!("answering for {span}, Esc ends it"),
            });
        } else {
            parts.push("/help".to_owned());
        }
        if let Some(level) = &self.saying.thinking {
            parts.push(format!("thinking {}", plain(level)));
        }
        if self.scroll > 0 {
            parts.push(format!("{} rows below, PageDown", self.scroll));
        }
        Line::styled(cut(&parts.join(" | "), width), dim())
    }

    /// Whether the command that waits is on the screen to its end.
    fn shows_all(&self) -> bool {
        let (width, height) = (usize::from(self.size.0), usize::from(self.size.1));
        let rows = self
            .waiting
            .first()
            .map_or(0, |first| wrap(&first.command, width).len());
        // Beside it: the title, a row of the conversation, two of its own, the status, the text.
        rows <= COMMAND_ROWS && rows + 7 <= height
    }

    fn approval_rows(&self, width: usize) -> Vec<Line<'static>> {
        let Some(first) = self.waiting.first() else {
            return Vec::new();
        };
        let warn = Style::new().fg(Color::Yellow);
        let mut rows = vec![Line::styled(
            cut(&format!("wants to run ({})", first.place), width),
            warn.add_modifier(Modifier::BOLD),
        )];
        let command = wrap(&first.command, width);
        let whole = command.len() <= COMMAND_ROWS;
        rows.extend(
            command
                .into_iter()
                .take(COMMAND_ROWS)
                .map(|row| Line::styled(row, warn)),
        );
        let more = self.waiting.len() - 1;
        let mut keys = if whole {
            "F2 allow once, F3 allow always, F4 deny".to_owned()
        } else {
            format!(
                "longer than is shown: clawgate approvals pending; /allow {} or F4 deny",
                plain(&first.id)
            )
        };
        if more > 0 {
            keys = format!("{keys}; {more} more");
        }
        rows.push(Line::styled(cut(&keys, width), dim()));
        rows
    }

    fn editor_rows(&self, width: usize) -> Typed {
        let width = width.saturating_sub(2).max(1);
        let (text, cursor) = (self.editor.text(), self.editor.cursor());
        let mut typed = Typed {
            rows: Vec::new(),
            row: 0,
            column: 0,
        };
        let mut at = 0;
        for line in text.split('\n') {
            let mut row = String::new();
            let mut columns = 0;
            for (offset, grapheme) in line.grapheme_indices(true) {
                if columns + grapheme.width() > width {
                    typed.rows.push(std::mem::take(&mut row));
                    columns = 0;
                }
                if at + offset == cursor {
                    (typed.row, typed.column) = (typed.rows.len(), columns);
                }
                row.push_str(grapheme);
                columns += grapheme.width();
            }
            if at + line.len() == cursor {
                (typed.row, typed.column) = (typed.rows.len(), columns);
            }
            typed.rows.push(row);
            at += line.len() + 1;
        }
        typed
    }
}

/// The text that is being typed, in rows, and where its cursor is.
struct Typed {
    rows: Vec<String>,
    row: usize,
    column: usize,
}

fn draw_editor(frame: &mut Frame<'_>, area: Rect, typed: &Typed) {
    let block = Block::new().borders(Borders::TOP).border_style(dim());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let height = usize::from(inner.height).max(1);
    let start = (typed.row + 1).saturating_sub(height);
    let rows: Vec<Line<'_>> = typed
        .rows
        .iter()
        .enumerate()
        .skip(start)
        .take(height)
        .map(|(number, row)| {
            let mark = if number == 0 { "> " } else { "  " };
            Line::from(vec![Span::styled(mark, dim()), Span::raw(row.as_str())])
        })
        .collect();
    frame.render_widget(Paragraph::new(rows), inner);
    let column = rows_of(typed.column + 2).min(inner.width.saturating_sub(1));
    frame.set_cursor_position(Position::new(
        inner.x + column,
        inner.y + rows_of(typed.row - start),
    ));
}

/// Rows of a list of sessions.
fn sessions(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["sessions"].as_array().into_iter().flatten()
}

/// A number of rows or columns of a terminal.
fn rows_of(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn item_rows(item: &Item, width: usize) -> Vec<Line<'static>> {
    let (text, style) = match item {
        Item::User(text) => {
            let rows = wrap(&plain(text), width.saturating_sub(2));
            let bold = Style::new().add_modifier(Modifier::BOLD);
            let mut lines: Vec<Line<'static>> = rows
                .into_iter()
                .enumerate()
                .map(|(number, row)| {
                    let mark = if number == 0 { "> " } else { "  " };
                    Line::from(vec![Span::styled(mark, dim()), Span::styled(row, bold)])
                })
                .collect();
            lines.insert(0, Line::default());
            return lines;
        }
        Item::Agent { text, run } => {
            let open = if run.is_some() { "▌" } else { "" };
            (format!("{}{open}", text.trim_end()), Style::new())
        }
        Item::Tool {
            name, about, state, ..
        } => {
            let (mark, color) = match state {
                ToolState::Running => ("…", Color::Yellow),
                ToolState::Done => ("✓", Color::Green),
                ToolState::Failed => ("✗", Color::Red),
            };
            let text = format!("{mark} {name} {}", about.replace('\n', " "));
            let row = cut(&plain(&text), width);
            return vec![Line::styled(row, Style::new().fg(color))];
        }
        Item::Note(text) => (text.clone(), dim().add_modifier(Modifier::ITALIC)),
    };
    wrap(&plain(&text), width)
        .into_iter()
        .map(|row| Line::styled(row, style))
        .collect()
}

/// A text in rows of a width: at blanks where there are any, within words where there are none.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut rows = Vec::new();
    for line in text.replace('\t', "    ").split('\n') {
        let mut row = String::new();
        let mut columns = 0;
        for word in line.split_word_bounds() {
            let wide = word.width();
            if wide <= width && columns + wide > width {
                rows.push(std::mem::take(&mut row));
                columns = 0;
                if word.trim().is_empty() {
                    continue;
                }
            }
            if wide <= width {
                row.push_str(word);
                columns += wide;
                continue;
            }
            for grapheme in word.graphemes(true) {
                if columns + grapheme.width() > width && columns > 0 {
                    rows.push(std::mem::take(&mut row));
                    columns = 0;
                }
                row.push_str(grapheme);
                columns += grapheme.width();
            }
        }
        rows.push(row);
    }
    rows
}

/// The beginning of a text that fits a width.
fn cut(text: &str, width: usize) -> String {
    let text = text.replace('\n', " ");
    if text.width() <= width {
        return text;
    }
    let mut short = String::new();
    let mut columns = 0;
    for grapheme in text.graphemes(true) {
        if columns + grapheme.width() + 1 > width {
            break;
        }
        short.push_str(grapheme);
        columns += grapheme.width();
    }
    short + "…"
}

#[cfg(test)]
mod tests;
