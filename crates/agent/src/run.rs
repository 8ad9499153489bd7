//! One turn, carried out.

use std::time::Duration;

use clawgate_core::turn::{Attempt, End, Failure, Next, Turn, TurnLimits};
use tokio_util::sync::CancellationToken;

use crate::{
    message::{Answer, Message, ToolCall, ToolResult, Usage},
    model::{Delta, Model, Models, Request, ToolSpec},
};

/// Where a turn is written down as it happens.
pub trait Record: Send {
    /// A model is asked: its place in the list. What an earlier request said and did not finish
    /// is void.
    fn asks(&mut self, model: usize) {
        let _ = model;
    }

    /// A part of an answer came in. It is not kept: the answer will be.
    fn delta(&mut self, delta: Delta<'_>);

    /// A tool begins.
    fn tool_begins(&mut self, call: &ToolCall) {
        let _ = call;
    }

    /// A tool is done; its result is kept next.
    fn tool_ended(&mut self, result: &ToolResult) {
        let _ = result;
    }

    /// What somebody said meanwhile, kept already. It is told to the model with the results.
    fn said_meanwhile(&mut self) -> impl Future<Output = Vec<Message>> + Send {
        async { Vec::new() }
    }

    /// A message is whole. It is kept when this returns; `Err` ends the turn.
    fn keep(&mut self, message: &Message) -> impl Future<Output = Result<(), String>> + Send;
}

/// What the model may call.
pub trait Toolbox: Send + Sync {
    /// The tools, as the model is told of them.
    fn specs(&self) -> &[ToolSpec];

    /// Runs one. What fails is told to the model; a stop is obeyed within the tool's own bounds.
    fn call(
        &self,
        call: &ToolCall,
        stop: &CancellationToken,
    ) -> impl Future<Output = ToolResult> + Send;
}

/// What a turn starts from.
#[derive(Debug)]
pub struct TurnRequest {
    /// The model that is wanted, then its fallbacks.
    pub models: Vec<Model>,
    /// What the agent is told first.
    pub system: String,
    /// What was said, the newest last.
    pub messages: Vec<Message>,
    /// The bounds.
    pub limits: TurnLimits,
}

/// How a turn ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// The last answer, if there was one.
    pub answer: Option<Answer>,
    /// The model that gave it, or failed last: its place in the list.
    pub model: usize,
    /// Tokens of all requests.
    pub usage: Usage,
    /// What failed on the way.
    pub attempts: Vec<Attempt>,
}

/// Runs a turn to its end. Told to stop, it drops the request under way, which closes its
/// connection, and ends as cancelled.
pub async fn run<R: Record, T: Toolbox>(
    models: &Models,
    request: TurnRequest,
    record: &mut R,
    tools: &T,
    stop: &CancellationToken,
) -> Ended {
    let TurnRequest {
        models: list,
        system,
        mut messages,
        limits,
    } = request;
    let mut turn = Turn::new(limits, list.len());
    let mut ended = Ended {
        end: End::Cancelled,
        answer: None,
        model: 0,
        usage: Usage::default(),
        attempts: Vec::new(),
    };
    let mut next = turn.begin();
    loop {
        next = match next {
            Next::End(end) => {
                ended.end = end;
                ended.attempts = turn.attempts().to_vec();
                return ended;
            }
            Next::Ask { model, after_ms } => {
                ended.model = model;
                let Some(wanted) = list.get(model) else {
                    next = turn.failed(nothing_configured());
                    continue;
                };
                record.asks(model);
                let asking = async {
                    if after_ms > 0 {
                        tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    }
                    let request = Request {
                        system: &system,
                        messages: &messages,
                        tools: tools.specs(),
                    };
                    models
                        .ask(wanted, &request, &mut |delta| record.delta(delta))
                        .await
                };
                let asked = tokio::select! {
                    biased;
                    () = stop.cancelled() => None,
                    asked = asking => Some(asked),
                };
                match asked {
                    None => turn.cancelled(),
                    Some(Err(failure)) => turn.failed(failure),
                    Some(Ok(answer)) => {
                        ended.usage.add(answer.usage);
                        let calls = !answer.calls.is_empty();
                        ended.answer = Some(answer.clone());
                        let message = Message::Answer(answer);
                        match record.keep(&message).await {
                            Err(why) => turn.not_kept(why),
                            Ok(()) => {
                                messages.push(message);
                                turn.answered(calls)
                            }
                        }
                    }
                }
            }
            Next::RunTools => match run_tools(&mut messages, record, tools, stop).await {
                Ok(()) if stop.is_cancelled() => turn.cancelled(),
                Ok(()) => {
                    messages.extend(record.said_meanwhile().await);
                    turn.tools_ran()
                }
                Err(why) => turn.not_kept(why),
            },
            Next::Shorten => {
                let is_shorter = shorten(&mut messages);
                turn.shortened(is_shorter)
            }
        };
    }
}

fn nothing_configured() -> Failure {
    Failure {
        kind: clawgate_core::turn::FailureKind::NoModel,
        message: "no model is configured".to_owned(),
        retry_after_ms: None,
        partial: false,
    }
}

/// Runs what the last answer calls, one after the other: a model that writes two calls expects the
/// second to see what the first did. Every call gets a result, also when the turn is stopped: a
/// conversation with a call and no result is refused by providers for ever after.
async fn run_tools<R: Record, T: Toolbox>(
    messages: &mut Vec<Message>,
    record: &mut R,
    tools: &T,
    stop: &CancellationToken,
) -> Result<(), String> {
    let Some(Message::Answer(answer)) = messages.last() else {
        return Ok(());
    };
    for call in answer.calls.clone() {
        let result = if stop.is_cancelled() {
            ToolResult {
                call_id: call.id.clone(),
                name: call.name.clone(),
                text: "not run: the turn was stopped".to_owned(),
                details: None,
                is_error: true,
            }
        } else {
            record.tool_begins(&call);
            let result = tools.call(&call, stop).await;
            record.tool_ended(&result);
            result
        };
        let message = Message::ToolResult(result);
        record.keep(&message).await?;
        messages.push(message);
    }
    Ok(())
}

/// Leaves out the older half of what was said, at a place where a user speaks, so that no result
/// stands without its call. The transcript keeps all of it.
fn shorten(messages: &mut Vec<Message>) -> bool {
    let half = messages.len().div_ceil(2);
    let from = messages
        .iter()
        .enumerate()
        .skip(half.max(1))
        .find(|(_, message)| matches!(message, Message::User(_)))
        .map(|(index, _)| index)
        .or_else(|| {
            messages
                .iter()
                .rposition(|message| matches!(message, Message::User(_)))
                .filter(|index| *index > 0)
        });
    match from {
        Some(from) => {
            messages.drain(..from);
            true
        }
        None => false,
    }
}
