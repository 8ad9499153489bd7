//! What a conversation consists of, whoever the provider is.

use serde_json::Value;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// What somebody said to the agent.
    User(Said),
    /// What a model answered.
    Answer(Answer),
    /// What a tool gave back.
    ToolResult(ToolResult),
}

impl Message {
    /// A text that somebody said.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::User(Said {
            text: text.into(),
            images: Vec::new(),
        })
    }
}

/// What somebody said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// In words, possibly none.
    pub text: String,
    /// What was shown with it. A model that takes no images is told how many there were.
    pub images: Vec<Image>,
}

/// A picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// `image/png` and the like.
    pub mime: String,
    /// Its bytes in base64.
    pub base64: String,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}, {} characters)", self.mime, self.base64.len())
    }
}

/// A model's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The text, possibly none.
    pub text: String,
    /// What it thought, where the provider shows that.
    pub thinking: Option<String>,
    /// The tools that it calls.
    pub calls: Vec<ToolCall>,
    /// What it cost.
    pub usage: Usage,
    /// Why it stopped.
    pub stop: Stop,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// It was done.
    #[default]
    Done,
    /// It waits for tools.
    Tools,
    /// It used up the tokens that it may.
    Length,
    /// The provider's filter stopped it.
    Filtered,
}

/// Tokens of one request. Zero where the provider does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read, without what came from a cache.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Written into the provider's cache.
    pub cache_write: u64,
}

impl Usage {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.input + self.output + self.cache_read + self.cache_write
    }

    /// Adds another request's.
    pub fn add(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write += other.cache_write;
    }
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The provider's id of it; the result names it.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// What it is called with: an object, or a text where the model wrote no JSON.
    pub arguments: Value,
    /// What the provider wants back as it came, each with the protocol's name before it; it goes
    /// to no provider of another protocol.
    pub signatures: Option<Vec<String>>,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// Of which call.
    pub call_id: String,
    /// Of which tool.
    pub name: String,
    /// For the model.
    pub text: String,
    /// For people and programs; no model sees it.
    pub details: Option<Value>,
    /// Whether it failed.
    pub is_error: bool,
}
