//! The agent room: one turn of an agent, from a conversation to an answer.
//!
//! What comes next in a turn is decided by [`clawgate_core::turn`]; here is what touches the world:
//! a model is asked over HTTP, its answer streams in, the tools that it calls are run. Nothing here
//! knows the gateway, a database or a session: whoever drives a turn brings a [`Record`] that keeps
//! what happened and a [`Toolbox`] that does what is called.

pub mod mcp;
mod message;
mod model;
mod run;
pub mod sandbox;
mod tool;
pub mod tools;

pub use message::{Answer, Image, Message, Said, Stop, ToolCall, ToolResult, Usage};
pub use model::{
    Api, Delta, Endpoint, Model, ModelLimits, Models, Request, SetupError, Thinking, ToolSpec,
    read_answer,
};
pub use run::{Ended, Record, Toolbox, TurnRequest, run};
pub use tool::{Output, Tool, ToolSet, Working};
