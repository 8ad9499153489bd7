//! Whole turns: a scripted provider, real HTTP, tools that are really called.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{sync::Mutex, time::Duration};

use clawgate_agent::{
    Api, Delta, Ended, Endpoint, Message, Model, ModelLimits, Models, Record, ToolCall, ToolResult,
    ToolSpec, Toolbox, TurnRequest, run,
};
use clawgate_core::turn::{End, FailureKind, TurnLimits};
use clawgate_testkit::provider::{Dialect, Provider, Say};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
struct Kept {
    said: String,
    messages: Vec<Message>,
    fails_at: Option<usize>,
}

impl Record for Kept {
    fn delta(&mut self, delta: Delta<'_>) {
        if let Delta::Text(text) = delta {
            self.said.push_str(text);
        }
    }

    async fn keep(&mut self, message: &Message) -> Result<(), String> {
        if self.fails_at == Some(self.messages.len()) {
            return Err("the disk is full".to_owned());
        }
        self.messages.push(message.clone());
        Ok(())
    }
}

#[derive(Debug)]
struct Echo {
    specs: Vec<ToolSpec>,
    called: Mutex<Vec<Value>>,
    /// Told when a tool runs.
    stops: bool,
}

impl Echo {
    fn new() -> Self {
        Self {
            specs: vec![ToolSpec {
                name: "echo".to_owned(),
                description: "Says it again".to_owned(),
                parameters: json!({"type": "object"}),
            }],
            called: Mutex::new(Vec::new()),
            stops: false,
        }
    }
}

impl Toolbox for Echo {
    fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    async fn call(&self, call: &ToolCall, stop: &CancellationToken) -> ToolResult {
        self.called.lock().unwrap().push(call.arguments.clone());
        if self.stops {
            stop.cancel();
        }
        ToolResult {
            call_id: call.id.clone(),
            name: call.name.clone(),
            text: call.arguments.to_string(),
            details: None,
            is_error: false,
        }
    }
}

fn text(words: &str) -> Say {
    Dialect::Chat.text(&[words])
}

fn calls(numbers: &[i64]) -> Say {
    let ids: Vec<String> = numbers.iter().map(|number| format!("c{number}")).collect();
    let calls: Vec<(&str, &str, Value)> = numbers
        .iter()
        .zip(&ids)
        .map(|(number, id)| (id.as_str(), "echo", json!({"n": number})))
        .collect();
    Dialect::Chat.calls(&calls)
}

fn refused(status: u16) -> Say {
    Say::refused(status, "no")
}

fn model(provider: &Provider) -> Model {
    model_of(provider, Dialect::Chat)
}

fn model_of(provider: &Provider, dialect: Dialect) -> Model {
    let api = Api::parse(dialect.api()).expect("both know the same protocols");
    let endpoint = Endpoint::new(&provider.url(dialect), api, None);
    Model::new("scripted", "m", api, endpoint)
}

async fn turn(models: Vec<Model>, kept: &mut Kept, tools: &Echo) -> Ended {
    let client = Models::new(ModelLimits {
        first_byte: Duration::from_secs(5),
        between: Duration::from_secs(5),
        ..ModelLimits::default()
    })
    .unwrap();
    let request = TurnRequest {
        models,
        system: "You are a test.".to_owned(),
        messages: vec![Message::user("Go")],
        limits: TurnLimits {
            pause_ms: 1,
            ..TurnLimits::default()
        },
    };
    let stop = CancellationToken::new();
    run(&client, request, kept, tools, &stop).await
}

#[tokio::test]
async fn a_turn_runs_its_tools_and_ends_with_the_answer() {
    let provider = Provider::start(vec![calls(&[1, 2]), calls(&[3]), text("done")]);
    let (mut kept, tools) = (Kept::default(), Echo::new());
    let ended = turn(vec![model(&provider)], &mut kept, &tools).await;
    assert_eq!(ended.end, End::Answered);
    assert_eq!(ended.answer.unwrap().text, "done");
    assert_eq!(ended.usage.total(), 3 * 15);
    assert_eq!(
        *tools.called.lock().unwrap(),
        [json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]
    );
    // Two answers with calls, three results, the last answer: in order, each kept once.
    let kinds: Vec<&str> = kept
        .messages
        .iter()
        .map(|message| match message {
            Message::User(_) => "user",
            Message::Answer(_) => "answer",
            Message::ToolResult(_) => "result",
        })
        .collect();
    assert_eq!(
        kinds,
        ["answer", "result", "result", "answer", "result", "answer"]
    );
    assert_eq!(kept.said, "done");
}

#[tokio::test]
async fn a_failing_provider_is_asked_as_often_as_the_budget_says() {
    for dialect in Dialect::ALL {
        for (say, kind) in [
            (refused(500), FailureKind::Server),
            (refused(529), FailureKind::Overloaded),
            (
                refused(429).header("retry-after-ms", "1"),
                FailureKind::RateLimited,
            ),
        ] {
            let provider = Provider::start(vec![say]);
            let (mut kept, tools) = (Kept::default(), Echo::new());
            let ended = turn(vec![model_of(&provider, dialect)], &mut kept, &tools).await;
            let End::Failed(failure) = ended.end else {
                panic!("{dialect:?}: {:?}", ended.end)
            };
            assert_eq!(failure.kind, kind, "{dialect:?}");
            assert_eq!((provider.asked().len(), ended.attempts.len()), (4, 4));
            assert!(kept.messages.is_empty());
        }
    }
}

#[tokio::test]
async fn the_budget_is_one_for_all_models_of_a_turn() {
    let providers =
        [refused(500), refused(529), refused(503)].map(|say| Provider::start(vec![say]));
    let (mut kept, tools) = (Kept::default(), Echo::new());
    let models = providers.iter().map(model).collect();
    let ended = turn(models, &mut kept, &tools).await;
    assert!(matches!(ended.end, End::Failed(_)), "{:?}", ended.end);
    let asked: usize = providers.iter().map(|one| one.asked().len()).sum();
    // Each model once, and the three repeats.
    assert_eq!(asked, 3 + 3);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_not_waited_for() {
    let provider = Provider::start(vec![refused(429).header("retry-after", "86400")]);
    let (mut kept, tools) = (Kept::default(), Echo::new());
    let ended = turn(vec![model(&provider)], &mut kept, &tools).await;
    assert!(
        matches!(ended.end, End::Failed(ref failure) if failure.retry_after_ms == Some(86_400_000))
    );
    assert_eq!(provider.asked().len(), 1);
}

#[tokio::test]
async fn what_was_begun_is_not_said_twice() {
    for dialect in Dialect::ALL {
        let provider = Provider::start(vec![Say::stream([dialect.piece("Good ")]).cut()]);
        let (mut kept, tools) = (Kept::default(), Echo::new());
        let ended = turn(vec![model_of(&provider, dialect)], &mut kept, &tools).await;
        assert!(matches!(ended.end, End::Failed(ref failure) if failure.kind == FailureKind::Cut));
        assert_eq!((provider.asked().len(), kept.said.as_str()), (1, "Good "));
    }
}

#[tokio::test]
async fn a_wrong_request_is_asked_once_and_is_no_success() {
    for dialect in Dialect::ALL {
        for (status, kind) in [(400, FailureKind::Invalid), (401, FailureKind::Auth)] {
            let provider = Provider::start(vec![refused(status)]);
            let (mut kept, tools) = (Kept::default(), Echo::new());
            let ended = turn(vec![model_of(&provider, dialect)], &mut kept, &tools).await;
            assert!(
                matches!(ended.end, End::Failed(ref failure) if failure.kind == kind),
                "{dialect:?}: {:?}",
                ended.end
            );
            assert_eq!(provider.asked().len(), 1);
            assert!(ended.answer.is_none());
        }
    }
}

#[tokio::test]
async fn the_fallback_answers_and_it_is_known_which_one_did() {
    let first = Provider::start(vec![refused(401)]);
    let second = Provider::start(vec![text("from the second")]);
    let (mut kept, tools) = (Kept::default(), Echo::new());
    let ended = turn(vec![model(&first), model(&second)], &mut kept, &tools).await;
    assert_eq!((ended.end, ended.model), (End::Answered, 1));
    assert_eq!(ended.attempts.len(), 1);
    assert_eq!(ended.attempts[0].kind, FailureKind::Auth);
}

#[tokio::test]
async fn what_cannot_be_written_down_ends_the_turn() {
    let provider = Provider::start(vec![calls(&[1]), text("never asked for")]);
    let mut kept = Kept {
        fails_at: Some(1),
        ..Kept::default()
    };
    let tools = Echo::new();
    let ended = turn(vec![model(&provider)], &mut kept, &tools).await;
    assert_eq!(ended.end, End::NotKept("the disk is full".to_owned()));
    assert_eq!(provider.asked().len(), 1);
}

#[tokio::test]
async fn a_stop_in_the_middle_of_tools_leaves_no_call_without_a_result() {
    let provider = Provider::start(vec![calls(&[1, 2, 3])]);
    let mut kept = Kept::default();
    let tools = Echo {
        stops: true,
        ..Echo::new()
    };
    let ended = turn(vec![model(&provider)], &mut kept, &tools).await;
    assert_eq!(ended.end, End::Cancelled);
    assert_eq!(tools.called.lock().unwrap().len(), 1);
    let results: Vec<bool> = kept
        .messages
        .iter()
        .filter_map(|message| match message {
            Message::ToolResult(result) => Some(result.is_error),
            _ => None,
        })
        .collect();
    assert_eq!(results, [false, true, true]);
}

#[tokio::test]
async fn no_model_is_said_and_not_guessed() {
    let (mut kept, tools) = (Kept::default(), Echo::new());
    let ended = turn(Vec::new(), &mut kept, &tools).await;
    assert!(matches!(ended.end, End::Failed(ref failure) if failure.kind == FailureKind::NoModel));
}
