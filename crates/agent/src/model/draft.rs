//! An answer while it comes in.

use clawgate_core::turn::Failure;
use serde_json::Value;

use super::{Delta, failure};
use crate::message::{Answer, Stop, ToolCall, Usage};

/// A call of which the arguments are still coming.
#[derive(Debug)]
struct CallDraft {
    /// Which one it is at the provider.
    slot: u64,
    id: String,
    name: String,
    arguments: String,
    signature: Option<String>,
}

/// What came in so far. Whoever reads the answer along is told of each part at once.
pub(super) struct Draft<'a> {
    on_delta: &'a mut (dyn FnMut(Delta<'_>) + Send),
    bound: usize,
    bytes: usize,
    text: String,
    thinking: String,
    calls: Vec<CallDraft>,
    /// Tokens, as last told.
    pub(super) usage: Usage,
    /// Why it stopped, as soon as that is told. Without it the answer is not whole.
    pub(super) stop: Option<Stop>,
    /// Whether the protocol says that nothing follows.
    pub(super) is_over: bool,
    /// Signatures that belong to what was thought before the calls.
    pub(super) signatures: Vec<String>,
    /// Whether a reader saw any of it.
    pub(super) said: bool,
}

impl<'a> Draft<'a> {
    /// An empty one, with a bound on text, thought and calls together, bytes.
    pub(super) fn new(bound: usize, on_delta: &'a mut (dyn FnMut(Delta<'_>) + Send)) -> Self {
        Self {
            on_delta,
            bound,
            bytes: 0,
            text: String::new(),
            thinking: String::new(),
            calls: Vec::new(),
            usage: Usage::default(),
            stop: None,
            is_over: false,
            signatures: Vec::new(),
            said: false,
        }
    }

    fn grow(&mut self, by: usize) -> Result<(), Failure> {
        self.bytes += by;
        if self.bytes > self.bound {
            return Err(failure::too_large(self.bound));
        }
        Ok(())
    }

    /// More text.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.grow(text.len())?;
        self.text.push_str(text);
        self.said = true;
        (self.on_delta)(Delta::Text(text));
        Ok(())
    }

    /// More thought.
    pub(super) fn thinking(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.grow(text.len())?;
        self.thinking.push_str(text);
        (self.on_delta)(Delta::Thinking(text));
        Ok(())
    }

    /// A call, or more of one. Without a slot it is a new one when it has another id or a name,
    /// else the last one. Some providers give calls of different ids one and the same slot.
    pub(super) fn call(
        &mut self,
        slot: Option<u64>,
        id: &str,
        name: &str,
        arguments: &str,
    ) -> Result<(), Failure> {
        // What a call weighs apart from its texts is bounded as well.
        self.grow(id.len() + name.len() + arguments.len() + 8)?;
        let is_another = |call: &CallDraft| !id.is_empty() && !call.id.is_empty() && call.id != id;
        let found = match slot {
            Some(slot) => self
                .calls
                .iter_mut()
                .rev()
                .find(|call| call.slot == slot)
                .filter(|call| !is_another(call)),
            None => self
                .calls
                .last_mut()
                .filter(|call| name.is_empty() && !is_another(call)),
        };
        if let Some(call) = found {
            if call.id.is_empty() {
                id.clone_into(&mut call.id);
            }
            if call.name.is_empty() {
                name.clone_into(&mut call.name);
            }
            call.arguments.push_str(arguments);
            return Ok(());
        }
        let slot = slot.unwrap_or(self.calls.len() as u64);
        self.calls.push(CallDraft {
            slot,
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            signature: None,
        });
        Ok(())
    }

    /// The whole arguments of a call, when they are told once more at its end.
    pub(super) fn settle_call(&mut self, slot: u64, arguments: &str) -> Result<(), Failure> {
        let call = self.calls.iter_mut().rev().find(|call| call.slot == slot);
        if let Some(call) = call {
            let grown = arguments.len().saturating_sub(call.arguments.len());
            arguments.clone_into(&mut call.arguments);
            self.grow(grown)?;
        }
        Ok(())
    }

    /// The signature of the last call.
    pub(super) fn sign_call(&mut self, signature: String) -> Result<(), Failure> {
        self.grow(signature.len())?;
        if let Some(call) = self.calls.last_mut() {
            call.signature = Some(signature);
        }
        Ok(())
    }

    /// A signature of what was thought.
    pub(super) fn sign(&mut self, signature: String) -> Result<(), Failure> {
        self.grow(signature.len())?;
        self.signatures.push(signature);
        Ok(())
    }

    /// The answer, if it is whole.
    pub(super) fn into_answer(self) -> Result<Answer, Failure> {
        let Some(stop) = self.stop else {
            return Err(failure::cut());
        };
        let mut calls = Vec::with_capacity(self.calls.len());
        let mut thought = self.signatures;
        for call in self.calls {
            if call.name.is_empty() {
                return Err(failure::malformed("a tool is called that has no name"));
            }
            let mut signatures = std::mem::take(&mut thought);
            signatures.extend(call.signature);
            calls.push(ToolCall {
                id: if call.id.is_empty() {
                    fresh_id()
                } else {
                    call.id
                },
                name: call.name,
                arguments: arguments(call.arguments),
                signatures: (!signatures.is_empty()).then_some(signatures),
            });
        }
        let stop = match stop {
            Stop::Done if !calls.is_empty() => Stop::Tools,
            Stop::Tools if calls.is_empty() => Stop::Done,
            stop => stop,
        };
        Ok(Answer {
            text: self.text,
            thinking: (!self.thinking.is_empty()).then_some(self.thinking),
            calls,
            usage: self.usage,
            stop,
        })
    }
}

/// An object, or the text as it came where it is none: the tool then says what is wrong with it.
fn arguments(text: String) -> Value {
    if text.trim().is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => value,
        _ => Value::String(text),
    }
}

/// An id for a call of a protocol without ids. Another one would not do: a conversation may go on
/// with a provider to which two results of one id are an error.
fn fresh_id() -> String {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    format!("call_{:016x}", RandomState::new().build_hasher().finish())
}
