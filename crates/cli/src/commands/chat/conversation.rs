//! A conversation as it is shown: what the wire says, read; no terminal, no clock.

use clawgate_client::Event;
use serde_json::Value;

/// Items that are kept; older ones are paged in again.
const ITEMS_MAX: usize = 2_000;

/// What a key that is no whole one stands for, from the hello.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    agent: String,
    main: String,
}

impl Defaults {
    /// Reads them off the snapshot of a hello.
    pub(super) fn of(snapshot: &Value) -> Self {
        let said = &snapshot["sessionDefaults"];
        let text = |name: &str| said[name].as_str().map(str::to_owned);
        let agent = text("defaultAgentId").unwrap_or_else(|| "main".to_owned());
        let main = text("mainSessionKey").unwrap_or_else(|| format!("agent:{agent}:main"));
        Self { agent, main }
    }

    /// A key in full, as events carry it.
    pub(super) fn whole(&self, key: &str) -> String {
        match key.trim() {
            "" | "main" => self.main.clone(),
            key if key.starts_with("agent:") => key.to_owned(),
            key => format!("agent:{}:{key}", self.agent),
        }
    }
}

/// One thing on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// What a person said.
    User(String),
    /// What the agent said, or is saying.
    Agent { text: String, run: Option<String> },
    /// A use of a tool.
    Tool {
        id: String,
        name: String,
        about: String,
        state: ToolState,
    },
    /// What the program says itself.
    Note(String),
}

/// How a use of a tool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolState {
    Running,
    Done,
    Failed,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Final,
    Aborted,
    Failed(String),
}

/// What an event meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing for this conversation.
    Nothing,
    /// Something is other than it was.
    Changed,
    /// A run ended.
    Ended {
        run: String,
        ending: Ending,
        text: String,
    },
}

/// The conversation of one session.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    /// Whole key of the session.
    pub(super) key: String,
    /// Oldest first.
    pub(super) items: Vec<Item>,
    /// The run under way.
    pub(super) run: Option<String>,
}

impl Conversation {
    pub(super) fn new(key: String) -> Self {
        Self {
            key,
            items: Vec::new(),
            run: None,
        }
    }

    /// Adds something at the end.
    pub(super) fn push(&mut self, item: Item) {
        self.items.push(item);
        if self.items.len() > ITEMS_MAX {
            self.items.drain(..ITEMS_MAX / 10);
        }
    }

    /// Puts the page of a history in place of what is there.
    pub(super) fn replace(&mut self, messages: &[Value]) {
        self.items = items(messages);
    }

    /// Puts an older page before what is there.
    pub(super) fn prepend(&mut self, messages: &[Value]) {
        let mut older = items(messages);
        older.append(&mut self.items);
        self.items = older;
    }

    /// Takes in an event.
    pub(super) fn hear(&mut self, event: &Event) -> Heard {
        let payload = &event.payload;
        if payload["sessionKey"].as_str() != Some(&self.key) {
            return Heard::Nothing;
        }
        let Some(run) = payload["runId"].as_str() else {
            return Heard::Nothing;
        };
        match event.event.as_str() {
            "chat" => self.hear_chat(run, payload),
            "agent" if payload["stream"] == "tool" => self.hear_tool(&payload["data"]),
            "agent" if payload["stream"] == "lifecycle" && payload["data"]["phase"] == "start" => {
                self.run.get_or_insert_with(|| run.to_owned());
                Heard::Changed
            }
            _ => Heard::Nothing,
        }
    }

    fn hear_chat(&mut self, run: &str, payload: &Value) -> Heard {
        let said = text_of(&payload["message"]);
        let ending = match payload["state"].as_str() {
            Some("delta") => {
                self.run.get_or_insert_with(|| run.to_owned());
                let delta = payload["deltaText"].as_str();
                let text = self.saying(run);
                match (said, delta) {
                    // The whole text so far.
                    (Some(said), _) => *text = said,
                    (None, Some(delta)) if payload["replace"] == true => delta.clone_into(text),
                    (None, Some(delta)) => text.push_str(delta),
                    (None, None) => {}
                }
                return Heard::Changed;
            }
            Some("final") => Ending::Final,
            Some("aborted") => Ending::Aborted,
            Some("error") => Ending::Failed(
                payload["errorMessage"]
                    .as_str()
                    .unwrap_or("the turn failed")
                    .to_owned(),
            ),
            _ => return Heard::Nothing,
        };
        if let Some(said) = said {
            *self.saying(run) = said;
        }
        let text = self.close(run);
        match &ending {
            Ending::Final => {}
            Ending::Aborted => self.push(Item::Note("aborted".to_owned())),
            Ending::Failed(why) => self.push(Item::Note(format!("failed: {why}"))),
        }
        if self.run.as_deref() == Some(run) {
            self.run = None;
        }
        Heard::Ended {
            run: run.to_owned(),
            ending,
            text,
        }
    }

    /// The text that a run is saying.
    fn saying(&mut self, run: &str) -> &mut String {
        let of_run = |item: &Item| matches!(item, Item::Agent { run: Some(of), .. } if of == run);
        let at = self.items.iter().rposition(of_run).unwrap_or_else(|| {
            self.push(Item::Agent {
                text: String::new(),
                run: Some(run.to_owned()),
            });
            self.items.len() - 1
        });
        match &mut self.items[at] {
            Item::Agent { text, .. } => text,
            Item::User(_) | Item::Tool { .. } | Item::Note(_) => {
                unreachable!("only an agent's item has a run")
            }
        }
    }

    /// What a run said so far.
    pub(super) fn said_by(&self, run: &str) -> &str {
        self.items
            .iter()
            .rev()
            .find_map(|item| match item {
                Item::Agent {
                    text,
                    run: Some(of),
                } if of == run => Some(text.as_str()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// Nothing more is said by a run; gives what it said.
    pub(super) fn close(&mut self, run: &str) -> String {
        for item in self.items.iter_mut().rev() {
            if let Item::Agent { text, run: of } = item
                && of.as_deref() == Some(run)
            {
                *of = None;
                return text.clone();
            }
        }
        String::new()
    }

    fn hear_tool(&mut self, data: &Value) -> Heard {
        let id = data["toolCallId"].as_str().unwrap_or_default();
        let known = self
            .items
            .iter_mut()
            .rev()
            .find(|item| matches!(item, Item::Tool { id: of, .. } if of == id));
        let now = match data["phase"].as_str() {
            Some("result") if data["isError"] == true => ToolState::Failed,
            Some("result") => ToolState::Done,
            _ => ToolState::Running,
        };
        if let Some(Item::Tool { state, about, .. }) = known {
            *state = now;
            if let Some(meta) = data["meta"].as_str() {
                meta.clone_into(about);
            }
            return Heard::Changed;
        }
        let item = Item::Tool {
            id: id.to_owned(),
            name: data["name"].as_str().unwrap_or("tool").to_owned(),
            about: arguments(&data["args"]),
            state: now,
        };
        // What is being said is said after it.
        let streams = matches!(self.items.last(), Some(Item::Agent { run: Some(_), .. }));
        let at = self.items.len() - usize::from(streams);
        self.items.insert(at, item);
        Heard::Changed
    }
}

/// The text of a message; none where it has no content.
pub(super) fn text_of(message: &Value) -> Option<String> {
    match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter(|part| part["type"] == "text")
                .filter_map(|part| part["text"].as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        _ => message["text"].as_str().map(str::to_owned),
    }
}

/// Arguments of a tool in a line.
fn arguments(args: &Value) -> String {
    let only = args.as_object().filter(|args| args.len() == 1);
    match only.and_then(|args| args.values().next()) {
        Some(Value::String(text)) => text.clone(),
        _ if args.is_null() => String::new(),
        _ => args.to_string(),
    }
}

/// What a page of a history shows.
fn items(messages: &[Value]) -> Vec<Item> {
    let mut items = Vec::new();
    for message in messages {
        let text = text_of(message).unwrap_or_default();
        match message["role"].as_str() {
            Some("user") => items.push(Item::User(text)),
            Some("assistant") => {
                if !text.trim().is_empty() {
                    items.push(Item::Agent { text, run: None });
                }
                let parts = message["content"].as_array();
                for part in parts.into_iter().flatten() {
                    if part["type"] == "toolCall" {
                        items.push(Item::Tool {
                            id: part["id"].as_str().unwrap_or_default().to_owned(),
                            name: part["name"].as_str().unwrap_or("tool").to_owned(),
                            about: arguments(&part["arguments"]),
                            state: ToolState::Done,
                        });
                    }
                }
            }
            Some("toolResult" | "tool") if message["isError"] == true => {
                let id = message["toolCallId"].as_str().unwrap_or_default();
                for item in &mut items {
                    if let Item::Tool { id: of, state, .. } = item
                        && of == id
                    {
                        *state = ToolState::Failed;
                    }
                }
            }
            Some("system") if !text.trim().is_empty() => items.push(Item::Note(text)),
            _ => {}
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "agent:main:main";

    fn event(name: &str, payload: Value) -> Event {
        Event {
            event: name.to_owned(),
            payload,
            seq: None,
        }
    }

    fn chat(run: &str, state: &str, text: &str) -> Event {
        let message = json!({"role": "assistant", "content": [{"type": "text", "text": text}]});
        event(
            "chat",
            json!({"runId": run, "sessionKey": KEY, "state": state, "message": message}),
        )
    }

    #[test]
    fn a_run_streams_and_ends() {
        let mut talk = Conversation::new(KEY.to_owned());
        assert_eq!(talk.hear(&chat("r", "delta", "Hello")), Heard::Changed);
        assert_eq!(talk.run.as_deref(), Some("r"));
        talk.hear(&chat("r", "delta", "Hello from"));
        let ended = talk.hear(&chat("r", "final", "Hello from here"));
        let text = "Hello from here".to_owned();
        assert_eq!(
            ended,
            Heard::Ended {
                run: "r".to_owned(),
                ending: Ending::Final,
                text: text.clone()
            }
        );
        assert_eq!(talk.items, [Item::Agent { text, run: None }]);
        assert_eq!(talk.run, None);
    }

    #[test]
    fn wire_4_appends_what_a_delta_says_and_replaces_where_it_says_so() {
        let mut talk = Conversation::new(KEY.to_owned());
        for (text, replace) in [("He", false), ("llo", false), ("Hi", true), ("!", false)] {
            talk.hear(&event(
                "chat",
                json!({"runId": "r", "sessionKey": KEY, "state": "delta", "deltaText": text, "replace": replace}),
            ));
        }
        let said = talk.hear(&event(
            "chat",
            json!({"runId": "r", "sessionKey": KEY, "state": "final"}),
        ));
        assert!(matches!(said, Heard::Ended { text, .. } if text == "Hi!"));
    }

    #[test]
    fn another_session_is_not_heard() {
        let mut talk = Conversation::new("agent:main:other".to_owned());
        assert_eq!(talk.hear(&chat("r", "delta", "Hello")), Heard::Nothing);
        assert!(talk.items.is_empty() && talk.run.is_none());
    }

    #[test]
    fn a_tool_stands_before_what_is_said_after_it_and_ends_as_it_did() {
        let mut talk = Conversation::new(KEY.to_owned());
        talk.hear(&chat("r", "delta", "Let me look."));
        let tool = |phase: &str, failed: bool| {
            event(
                "agent",
                json!({"runId": "r", "sessionKey": KEY, "stream": "tool", "data": {"phase": phase,
                    "name": "exec", "toolCallId": "c1", "args": {"command": "ls"}, "isError": failed}}),
            )
        };
        talk.hear(&tool("start", false));
        talk.hear(&tool("result", true));
        assert_eq!(talk.items.len(), 2);
        let Item::Tool { about, state, .. } = &talk.items[0] else {
            panic!("{:?}", talk.items);
        };
        assert_eq!((about.as_str(), *state), ("ls", ToolState::Failed));
    }

    #[test]
    fn an_aborted_run_keeps_what_it_said_and_says_so() {
        let mut talk = Conversation::new(KEY.to_owned());
        talk.hear(&chat("r", "delta", "word0"));
        talk.hear(&chat("r", "aborted", "word0 word1"));
        assert_eq!(talk.items.last(), Some(&Item::Note("aborted".to_owned())));
        assert!(talk.run.is_none());
    }

    #[test]
    fn a_history_shows_who_said_what_and_which_tools_failed() {
        let mut talk = Conversation::new(KEY.to_owned());
        talk.replace(&[
            json!({"role": "user", "content": "hi"}),
            json!({"role": "assistant", "content": [{"type": "text", "text": "Let me look."},
                {"type": "toolCall", "id": "c1", "name": "exec", "arguments": {"command": "ls"}}]}),
            json!({"role": "toolResult", "toolCallId": "c1", "isError": true, "content": []}),
        ]);
        assert_eq!(talk.items.len(), 3);
        assert!(matches!(
            &talk.items[2],
            Item::Tool {
                state: ToolState::Failed,
                ..
            }
        ));
    }

    #[test]
    fn short_keys_stand_for_those_of_the_default_agent() {
        let defaults = Defaults::of(&json!({"sessionDefaults": {"defaultAgentId": "ops",
            "mainSessionKey": "agent:ops:main"}}));
        for (key, whole) in [
            ("main", KEY.replace("main:main", "ops:main")),
            ("work", "agent:ops:work".to_owned()),
            ("agent:x:y", "agent:x:y".to_owned()),
        ] {
            assert_eq!(defaults.whole(key), whole);
        }
        assert_eq!(Defaults::of(&Value::Null).whole("main"), KEY);
    }
}
