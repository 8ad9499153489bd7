//! What a model may call: tools by name, brought together for one turn.

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    message::{ToolCall, ToolResult},
    model::ToolSpec,
    run::Toolbox,
};

/// A tool's work.
pub type Working<'a> = Pin<Box<dyn Future<Output = Output> + Send + 'a>>;

/// One tool. It is made for one turn and knows whose turn it is.
pub trait Tool: Send + Sync {
    /// What the model is told of it.
    fn spec(&self) -> &ToolSpec;

    /// Does it. `stop` is obeyed at once: what was started is ended before this returns. Dropped,
    /// it ends what it started too.
    fn call<'a>(&'a self, arguments: &'a Value, stop: &'a CancellationToken) -> Working<'a>;
}

/// What a tool gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// For the model; bounded by the tool.
    pub text: String,
    /// For people and programs: kept in the transcript, never sent to a model.
    pub details: Option<Value>,
    /// Whether it failed.
    pub is_error: bool,
}

impl Output {
    /// It went well.
    #[must_use]
    pub fn ok(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// It failed; the text says why and what to do instead.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: true,
            ..Self::default()
        }
    }
}

/// The tools of one turn.
#[derive(Clone, Default)]
pub struct ToolSet {
    tools: Vec<Arc<dyn Tool>>,
    specs: Vec<ToolSpec>,
}

impl std::fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.specs.iter().map(|spec| spec.name.as_str());
        f.debug_set().entries(names).finish()
    }
}

impl ToolSet {
    /// Adds a tool. One of the same name that is there already stays: what comes with the gateway
    /// is not replaced by what a server offers.
    pub fn add(&mut self, tool: Arc<dyn Tool>) {
        if self.specs.iter().any(|spec| spec.name == tool.spec().name) {
            return;
        }
        self.specs.push(tool.spec().clone());
        self.tools.push(tool);
    }

    /// The tool of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.iter().find(|tool| tool.spec().name == name)
    }
}

impl Toolbox for ToolSet {
    fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    async fn call(&self, call: &ToolCall, stop: &CancellationToken) -> ToolResult {
        let output = match self.get(&call.name) {
            Some(tool) => tool.call(&call.arguments, stop).await,
            None => Output::failed(format!("there is no tool \"{}\" in this turn", call.name)),
        };
        ToolResult {
            call_id: call.id.clone(),
            name: call.name.clone(),
            text: output.text,
            details: output.details,
            is_error: output.is_error,
        }
    }
}
