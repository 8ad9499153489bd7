use ratatui::{Terminal, backend::TestBackend};
use serde_json::json;

use super::*;

const KEY: &str = "agent:main:main";

/// A screen with a pretended terminal, at work.
struct Play {
    screen: Screen,
    terminal: Terminal<TestBackend>,
}

impl Play {
    fn of(width: u16, height: u16) -> Self {
        let saying = Saying {
            thinking: None,
            deliver: false,
            timeout_ms: None,
            page: 200,
        };
        let defaults = Defaults::of(&Value::Null);
        let mut screen = Screen::new(
            KEY.to_owned(),
            "ws://here".to_owned(),
            defaults,
            saying,
            || "run-1".to_owned(),
        );
        screen.take(Happening::Resized(width, height));
        screen.take(Happening::Connected { may_approve: true });
        Self {
            screen,
            terminal: Terminal::new(TestBackend::new(width, height)).unwrap(),
        }
    }

    fn press(&mut self, code: KeyCode) -> Vec<Wish> {
        self.press_with(code, KeyModifiers::NONE)
    }

    fn press_with(&mut self, code: KeyCode, modifiers: KeyModifiers) -> Vec<Wish> {
        self.screen
            .take(Happening::Key(KeyEvent::new(code, modifiers)))
    }

    fn enter(&mut self, text: &str) -> Vec<Wish> {
        self.screen.take(Happening::Paste(text.to_owned()));
        self.press(KeyCode::Enter)
    }

    fn chat(&mut self, state: &str, text: &str) -> Vec<Wish> {
        self.event(
            "chat",
            json!({"runId": "run-1", "sessionKey": KEY, "state": state,
                "message": {"role": "assistant", "content": [{"type": "text", "text": text}]}}),
        )
    }

    fn event(&mut self, event: &str, payload: Value) -> Vec<Wish> {
        let event = event.to_owned();
        self.screen.take(Happening::Event(Event {
            event,
            payload,
            seq: None,
        }))
    }

    fn answer(&mut self, ask: Ask, answer: Value) -> Vec<Wish> {
        let answer = Ok(answer);
        self.screen.take(Happening::Answered { ask, answer })
    }

    fn refuse(&mut self, ask: Ask, message: &str, lost: bool) -> Vec<Wish> {
        let message = message.to_owned();
        let answer = Err(Refusal { message, lost });
        self.screen.take(Happening::Answered { ask, answer })
    }

    /// The rows as they are seen, blanks at their ends left out.
    fn rows(&mut self) -> Vec<String> {
        self.terminal.draw(|frame| self.screen.draw(frame)).unwrap();
        let shown = self.terminal.backend().to_string();
        shown
            .lines()
            .map(|row| row.trim_matches('"').trim_end().to_owned())
            .collect()
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        let rows = self.rows();
        assert!(
            rows.iter().any(|row| row.contains(text)),
            "no {text:?}: {rows:#?}"
        );
    }

    #[track_caller]
    fn sees_no(&mut self, text: &str) {
        let rows = self.rows();
        assert!(
            rows.iter().all(|row| !row.contains(text)),
            "{text:?}: {rows:#?}"
        );
    }
}

fn send() -> Ask {
    Ask::Send {
        text: "hello".to_owned(),
        run: "run-1".to_owned(),
    }
}

fn waits(id: &str, command: &str) -> Value {
    json!({"id": id, "request": {"command": command, "cwd": "/srv"}, "createdAtMs": 0, "expiresAtMs": 10_000})
}

#[test]
fn a_message_is_sent_streams_and_ends() {
    let mut play = Play::of(40, 10);
    assert_eq!(play.enter("hello"), [Wish::Ask(send())]);
    play.answer(send(), json!({"runId": "run-1", "status": "started"}));
    play.chat("delta", "Hello from");
    play.sees("Hello from▌");
    play.sees("Esc ends it");
    assert_eq!(play.chat("final", "Hello from here."), []);
    assert_eq!(
        play.rows(),
        [
            "agent:main:main  ws://here",
            "",
            "> hello",
            "Hello from here.",
            "",
            "",
            "",
            "/help",
            "────────────────────────────────────────",
            ">",
        ]
    );
}

#[test]
fn escape_ends_the_run_and_does_nothing_without_one() {
    let mut play = Play::of(40, 10);
    assert_eq!(play.press(KeyCode::Esc), []);
    play.enter("hello");
    let run = Some("run-1".to_owned());
    assert_eq!(play.press(KeyCode::Esc), [Wish::Ask(Ask::Abort { run })]);
    play.chat("aborted", "word0");
    play.sees("aborted");
    assert_eq!(play.press(KeyCode::Esc), []);
}

#[test]
fn what_was_typed_while_there_is_no_connection_is_sent_once_there_is_one() {
    let mut play = Play::of(40, 10);
    play.screen
        .take(Happening::Lost("service restart".to_owned()));
    play.sees("not connected: service restart");
    assert_eq!(play.enter("hello"), []);
    let wishes = play
        .screen
        .take(Happening::Connected { may_approve: false });
    assert_eq!(
        wishes,
        [Wish::Ask(Ask::History { offset: None }), Wish::Ask(send())]
    );
    play.answer(Ask::History { offset: None }, json!({"messages": []}));
    play.sees("> hello");
}

#[test]
fn a_message_whose_answer_was_lost_is_sent_again_under_its_key() {
    let mut play = Play::of(40, 10);
    play.enter("hello");
    play.screen.take(Happening::Lost("gone".to_owned()));
    assert_eq!(play.refuse(send(), "gone", true), []);
    let wishes = play
        .screen
        .take(Happening::Connected { may_approve: false });
    assert!(wishes.contains(&Wish::Ask(send())), "{wishes:?}");
    // Told of only after the next connection stands: at once.
    assert_eq!(play.refuse(send(), "gone", true), [Wish::Ask(send())]);
}

#[test]
fn a_run_whose_end_was_missed_is_asked_about_and_filled_from_the_history() {
    let mut play = Play::of(40, 10);
    play.enter("hello");
    play.answer(send(), json!({"status": "started"}));
    play.screen.take(Happening::Lost("gone".to_owned()));
    let waited = Ask::Waited {
        run: "run-1".to_owned(),
    };
    let wishes = play
        .screen
        .take(Happening::Connected { may_approve: false });
    assert!(wishes.contains(&Wish::Ask(waited.clone())), "{wishes:?}");
    let history = Ask::History { offset: None };
    let wishes = play.answer(waited, json!({"status": "ok", "endedAt": 5}));
    assert_eq!(wishes, [Wish::Ask(history.clone())]);
    play.answer(
        history,
        json!({"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "missed"}]}),
    );
    play.sees("missed");
    play.sees_no("Esc ends it");
}

#[test]
fn a_refused_message_says_why() {
    let mut play = Play::of(60, 10);
    play.enter("hello");
    play.refuse(send(), "no agent takes turns here", false);
    play.sees("not sent: no agent takes turns here");
    play.sees_no("Esc ends it");
}

#[test]
fn a_command_that_waits_is_shown_whole_and_decided_by_a_key_of_its_own() {
    let mut play = Play::of(60, 14);
    play.event(
        "exec.approval.requested",
        waits("a1", "rm -rf /tmp/x \u{1b}[2J"),
    );
    play.sees("wants to run (in /srv)");
    play.sees("rm -rf /tmp/x");
    play.sees("F2 allow once");
    // Letters are typed, they never decide.
    assert_eq!(play.press(KeyCode::Char('a')), []);
    for (key, decision) in [(2, "allow-once"), (3, "allow-always"), (4, "deny")] {
        let id = "a1".to_owned();
        assert_eq!(
            play.press(KeyCode::F(key)),
            [Wish::Ask(Ask::Decide { id, decision })]
        );
    }
    play.event(
        "exec.approval.resolved",
        json!({"id": "a1", "decision": "deny", "resolvedBy": "phone"}),
    );
    play.sees("deny by phone");
    play.sees_no("wants to run");
}

#[test]
fn a_command_longer_than_is_shown_says_so_and_one_that_expired_is_gone() {
    let mut play = Play::of(30, 20);
    play.event("exec.approval.requested", waits("a1", &"x".repeat(1_000)));
    play.sees("longer than is shown");
    play.sees_no("F2");
    assert_eq!(play.press(KeyCode::F(2)), []);
    let id = "a1".to_owned();
    let decision = "deny";
    assert_eq!(
        play.press(KeyCode::F(4)),
        [Wish::Ask(Ask::Decide { id, decision })]
    );
    play.screen.take(Happening::Tick(20_000));
    play.sees_no("wants to run");
}

#[test]
fn who_may_not_decide_is_told() {
    let mut play = Play::of(80, 10);
    play.screen
        .take(Happening::Connected { may_approve: false });
    assert_eq!(play.enter("/allow a1"), []);
    play.sees("operator.approvals");
}

#[test]
fn page_up_walks_the_history_and_asks_for_more_once() {
    let mut play = Play::of(40, 10);
    let page = |from: u64| -> Vec<Value> {
        (from..from + 10)
            .map(|n| json!({"role": "assistant", "content": format!("line {n}")}))
            .collect()
    };
    play.answer(
        Ask::History { offset: None },
        json!({"messages": page(10), "hasMore": true, "nextOffset": 10}),
    );
    play.sees("line 19");
    let older = Ask::History { offset: Some(10) };
    assert_eq!(play.press(KeyCode::PageUp), [Wish::Ask(older.clone())]);
    play.sees_no("line 19");
    assert_eq!(play.press(KeyCode::PageUp), []);
    play.answer(older, json!({"messages": page(0), "hasMore": false}));
    for _ in 0..4 {
        play.press(KeyCode::PageUp);
    }
    play.sees("line 0");
    play.sees("conversation begins here");
    for _ in 0..8 {
        play.press(KeyCode::PageDown);
    }
    play.sees("line 19");
}

#[test]
fn several_lines_are_typed_and_the_screen_makes_room() {
    let mut play = Play::of(40, 10);
    play.enter("one\\");
    play.screen.take(Happening::Paste("two".to_owned()));
    play.press_with(KeyCode::Enter, KeyModifiers::ALT);
    play.screen.take(Happening::Paste("three".to_owned()));
    let rows = play.rows();
    assert_eq!(&rows[7..], ["> one", "  two", "  three"]);
    let wishes = play.press(KeyCode::Enter);
    assert!(
        matches!(&wishes[..], [Wish::Ask(Ask::Send { text, .. })] if text == "one\ntwo\nthree"),
        "{wishes:?}"
    );
}

#[test]
fn wide_characters_and_narrow_terminals_are_wrapped_and_nothing_is_lost() {
    assert_eq!(wrap("日本語のテキスト", 6), ["日本語", "のテキ", "スト"]);
    assert_eq!(wrap("a sentence of words", 10), ["a sentence", "of words"]);
    assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    assert_eq!(wrap("one\n\ntwo", 10), ["one", "", "two"]);
    assert_eq!(cut("日本語のテキスト", 7), "日本語…");
    for (width, height) in [(1, 1), (2, 3), (5, 4), (300, 2)] {
        let mut play = Play::of(width, height);
        play.enter("日本語 hello");
        play.event("exec.approval.requested", waits("a1", "ls"));
        play.chat("delta", "text");
        play.press(KeyCode::PageUp);
        play.rows();
    }
}

#[test]
fn what_a_gateway_says_cannot_command_the_terminal() {
    let mut play = Play::of(40, 10);
    play.enter("hello");
    play.chat("final", "a\u{1b}[2Jb\u{7}");
    play.sees("a\u{fffd}[2Jb\u{fffd}");
}

#[test]
fn another_session_is_gone_to_by_its_key() {
    let mut play = Play::of(60, 10);
    play.enter("hello");
    let wishes = play.enter("/session work");
    assert_eq!(wishes, [Wish::Ask(Ask::History { offset: None })]);
    assert_eq!(play.screen.key(), "agent:main:work");
    play.chat("delta", "of the other session");
    play.sees_no("of the other session");
}

#[test]
fn control_c_clears_then_ends_the_run_then_leaves() {
    let mut play = Play::of(40, 10);
    play.enter("hello");
    play.screen.take(Happening::Paste("half".to_owned()));
    let press = |play: &mut Play| play.press_with(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(press(&mut play), []);
    assert!(matches!(
        &press(&mut play)[..],
        [Wish::Ask(Ask::Abort { .. })]
    ));
    play.chat("aborted", "");
    assert_eq!(press(&mut play), [Wish::Leave]);
}
