//! The text that is being typed: several lines, a cursor between graphemes, earlier messages.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation as _};

/// Earlier messages that are kept.
const EARLIER_MAX: usize = 100;
/// Bytes of a message; what is pasted beyond is left out.
const TEXT_MAX: usize = 256 * 1024;

/// A text under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Editor {
    text: String,
    /// Byte where the cursor stands.
    cursor: usize,
    earlier: Vec<String>,
    /// Which earlier message is shown.
    recalled: Option<usize>,
}

impl Editor {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the text out and remembers it.
    pub(super) fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.cursor = 0;
        self.recalled = None;
        if !text.trim().is_empty() && self.earlier.last() != Some(&text) {
            self.earlier.push(text.clone());
            if self.earlier.len() > EARLIER_MAX {
                self.earlier.remove(0);
            }
        }
        text
    }

    pub(super) fn clear(&mut self) {
        self.put("");
    }

    /// Types a text, a pasted one too. Line ends become `\n`, other control characters are left
    /// out.
    pub(super) fn insert(&mut self, text: &str) {
        let room = TEXT_MAX.saturating_sub(self.text.len());
        let mut typed = String::new();
        for c in text.replace("\r\n", "\n").replace('\r', "\n").chars() {
            let c = if c == '\t' { ' ' } else { c };
            if c.is_control() && c != '\n' {
                continue;
            }
            if typed.len() + c.len_utf8() > room {
                break;
            }
            typed.push(c);
        }
        self.text.insert_str(self.cursor, &typed);
        self.cursor += typed.len();
    }

    /// Whether the character before the cursor asks for another line; it is taken away.
    pub(super) fn takes_backslash(&mut self) -> bool {
        if self.text[..self.cursor].ends_with('\\') {
            self.backspace();
            return true;
        }
        false
    }

    pub(super) fn backspace(&mut self) {
        let to = self.before();
        self.text.replace_range(to..self.cursor, "");
        self.cursor = to;
    }

    pub(super) fn delete(&mut self) {
        let to = self.after();
        self.text.replace_range(self.cursor..to, "");
    }

    /// Deletes the word before the cursor.
    pub(super) fn delete_word(&mut self) {
        let head = &self.text[..self.cursor];
        let kept = head.trim_end();
        let to = kept
            .unicode_word_indices()
            .next_back()
            .map_or(0, |(at, _)| at)
            .min(kept.len());
        self.text.replace_range(to..self.cursor, "");
        self.cursor = to;
    }

    /// Deletes from the beginning of the line.
    pub(super) fn delete_to_start(&mut self) {
        let to = self.line_start();
        self.text.replace_range(to..self.cursor, "");
        self.cursor = to;
    }

    /// Deletes to the end of the line.
    pub(super) fn delete_to_end(&mut self) {
        let to = self.line_end();
        self.text.replace_range(self.cursor..to, "");
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.before();
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.after();
    }

    pub(super) fn home(&mut self) {
        self.cursor = self.line_start();
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.line_end();
    }

    /// A line up; on the first one, the earlier message.
    pub(super) fn up(&mut self) {
        let start = self.line_start();
        if start > 0 {
            self.go_to_line(self.text[..start - 1].rfind('\n').map_or(0, |at| at + 1));
            return;
        }
        let next = match self.recalled {
            Some(0) => return,
            Some(at) => at - 1,
            None if self.earlier.is_empty() || !self.is_empty() => return,
            None => self.earlier.len() - 1,
        };
        self.recall(next);
    }

    /// A line down; on the last one, the later message.
    pub(super) fn down(&mut self) {
        let end = self.line_end();
        if end < self.text.len() {
            self.go_to_line(end + 1);
            return;
        }
        match self.recalled {
            Some(at) if at + 1 < self.earlier.len() => self.recall(at + 1),
            Some(_) => self.clear(),
            None => {}
        }
    }

    fn recall(&mut self, at: usize) {
        let text = self.earlier[at].clone();
        self.put(&text);
        self.recalled = Some(at);
    }

    fn put(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        self.cursor = self.text.len();
        self.recalled = None;
    }

    /// To the same grapheme of the line that begins here.
    fn go_to_line(&mut self, start: usize) {
        let column = self.text[self.line_start()..self.cursor]
            .graphemes(true)
            .count();
        let end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |at| start + at);
        self.cursor = self.text[start..end]
            .grapheme_indices(true)
            .nth(column)
            .map_or(end, |(at, _)| start + at);
    }

    fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.text[self.cursor..]
            .find('\n')
            .map_or(self.text.len(), |at| self.cursor + at)
    }

    fn before(&self) -> usize {
        GraphemeCursor::new(self.cursor, self.text.len(), true)
            .prev_boundary(&self.text, 0)
            .ok()
            .flatten()
            .unwrap_or(0)
    }

    fn after(&self) -> usize {
        GraphemeCursor::new(self.cursor, self.text.len(), true)
            .next_boundary(&self.text, 0)
            .ok()
            .flatten()
            .unwrap_or(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.insert(text);
        editor
    }

    #[test]
    fn one_backspace_takes_one_character_as_people_see_it() {
        let mut editor = typed("a👩‍👩‍👧é");
        editor.backspace();
        assert_eq!(editor.text(), "a👩‍👩‍👧");
        editor.backspace();
        assert_eq!(editor.text(), "a");
        editor.backspace();
        editor.backspace();
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn what_is_pasted_keeps_its_lines_and_loses_its_escapes() {
        assert_eq!(
            typed("one\r\ntwo\rthree\u{1b}[2J\tx").text(),
            "one\ntwo\nthree[2J x"
        );
    }

    #[test]
    fn the_cursor_walks_lines_and_then_earlier_messages() {
        let mut editor = typed("first");
        editor.take();
        editor.insert("one\ntwo");
        editor.up();
        editor.insert("X");
        assert_eq!(editor.text(), "oneX\ntwo");
        editor.clear();
        editor.up();
        assert_eq!(editor.text(), "first");
        editor.down();
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn words_and_halves_of_lines_are_deleted() {
        let mut editor = typed("say größer  ");
        editor.delete_word();
        assert_eq!(editor.text(), "say ");
        editor.insert("x\nyz");
        editor.left();
        editor.delete_to_end();
        assert_eq!(editor.text(), "say x\ny");
        editor.delete_to_start();
        assert_eq!(editor.text(), "say x\n");
    }
}
