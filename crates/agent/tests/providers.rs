//! Models are asked over real HTTP, in the protocol of each provider, and whatever a provider does
//! ends in an answer or in a typed failure.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::time::Duration;

use clawgate_agent::{
    Answer, Api, Delta, Endpoint, Image, Message, Model, ModelLimits, Models, Request, Said, Stop,
    Thinking, ToolCall, ToolResult, ToolSpec, Usage,
};
use clawgate_core::turn::{Failure, FailureKind};
use clawgate_testkit::provider::{Asked, Dialect, Gate, KEY, Provider, Say};
use secrecy::SecretString;
use serde_json::{Value, json};

fn model(provider: &Provider, dialect: Dialect) -> Model {
    let api = Api::parse(dialect.api()).expect("both know the same protocols");
    let url = provider.url(dialect);
    let endpoint = Endpoint::new(&url, api, Some(SecretString::from(KEY)));
    Model {
        output_max: Some(256),
        ..Model::new("scripted", "some-model", api, endpoint)
    }
}

fn limits() -> ModelLimits {
    ModelLimits {
        first_byte: Duration::from_secs(10),
        between: Duration::from_secs(10),
        whole: Duration::from_secs(60),
        bytes: 1 << 20,
        ..ModelLimits::default()
    }
}

fn impatient() -> ModelLimits {
    ModelLimits {
        first_byte: Duration::from_millis(300),
        between: Duration::from_millis(300),
        ..limits()
    }
}

fn tool() -> ToolSpec {
    ToolSpec {
        name: "look".to_owned(),
        description: "Looks at a place".to_owned(),
        parameters: json!({
            "type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"],
        }),
    }
}

async fn ask_with(
    limits: ModelLimits,
    model: &Model,
    messages: &[Message],
) -> (Result<Answer, Failure>, String) {
    let models = Models::new(limits).unwrap();
    let tools = [tool()];
    let request = Request {
        system: "Be brief.",
        messages,
        tools: &tools,
    };
    let mut said = String::new();
    let answer = models
        .ask(model, &request, &mut |delta| {
            if let Delta::Text(text) = delta {
                said.push_str(text);
            }
        })
        .await;
    (answer, said)
}

async fn ask(provider: &Provider, dialect: Dialect) -> (Result<Answer, Failure>, String) {
    let messages = [Message::user("Hello?")];
    ask_with(limits(), &model(provider, dialect), &messages).await
}

/// What the provider was asked when it was asked this.
async fn body_of(dialect: Dialect, messages: &[Message], change: impl FnOnce(&mut Model)) -> Value {
    let provider = Provider::start(vec![dialect.text(&["Good day"])]);
    let mut model = model(&provider, dialect);
    change(&mut model);
    ask_with(limits(), &model, messages).await.0.unwrap();
    provider.asked().remove(0).body
}

async fn failure(say: Say, dialect: Dialect) -> Failure {
    let provider = Provider::start(vec![say]);
    let (answer, _) = ask(&provider, dialect).await;
    answer.expect_err("no answer")
}

#[tokio::test]
async fn every_protocol_streams_the_same_answer() {
    for dialect in Dialect::ALL {
        let provider = Provider::start(vec![dialect.text(&["Good ", "day"])]);
        let (answer, said) = ask(&provider, dialect).await;
        let answer = answer.unwrap_or_else(|failure| panic!("{dialect:?}: {failure:?}"));
        let cached = if dialect == Dialect::Ollama { 0 } else { 4 };
        let want = Answer {
            text: "Good day".to_owned(),
            thinking: None,
            calls: Vec::new(),
            usage: Usage {
                input: 12 - cached,
                output: 3,
                cache_read: cached,
                cache_write: 0,
            },
            stop: Stop::Done,
        };
        assert_eq!((answer, said.as_str()), (want, "Good day"), "{dialect:?}");
    }
}

#[tokio::test]
async fn the_first_words_are_there_before_the_last_ones() {
    for dialect in Dialect::ALL {
        let gate = Gate::new();
        let say = dialect.text(&["Good ", "day"]);
        let held = say.clone().blocks() - 1;
        let provider = Provider::start(vec![say.held_after(held, &gate)]);
        let models = Models::new(limits()).unwrap();
        let messages = [Message::user("?")];
        let request = Request {
            system: "",
            messages: &messages,
            tools: &[],
        };
        let mut first = None;
        let mut on_delta = |delta: Delta<'_>| {
            if let Delta::Text(text) = delta {
                first.get_or_insert_with(|| text.to_owned());
                gate.open();
            }
        };
        let model = model(&provider, dialect);
        let answer = models.ask(&model, &request, &mut on_delta).await;
        assert_eq!(answer.unwrap().text, "Good day", "{dialect:?}");
        assert_eq!(first.as_deref(), Some("Good "), "{dialect:?}");
    }
}

#[tokio::test]
async fn the_key_goes_in_a_header_and_the_tools_in_the_body() {
    for (dialect, path, header) in [
        (Dialect::Chat, "/v1/chat/completions", "authorization"),
        (Dialect::Responses, "/v1/responses", "authorization"),
        (Dialect::Anthropic, "/v1/messages", "x-api-key"),
        (
            Dialect::Google,
            "/v1beta/models/some-model:streamGenerateContent?alt=sse",
            "x-goog-api-key",
        ),
        (Dialect::Ollama, "/api/chat", "authorization"),
    ] {
        let provider = Provider::start(vec![dialect.text(&["Good day"])]);
        ask(&provider, dialect).await.0.unwrap();
        let asked = provider.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].line, format!("POST {path}"));
        let key = asked[0].header(header).unwrap();
        assert!(key.ends_with(KEY), "{dialect:?}: {key}");
        let text = &asked[0].text;
        assert!(!text.contains(KEY), "{dialect:?}: {text}");
        for part in ["Hello?", "Be brief.", "\"look\"", "256"] {
            assert!(text.contains(part), "{dialect:?}: no {part} in {text}");
        }
    }
}

#[tokio::test]
async fn headers_of_the_configuration_are_sent_and_never_told() {
    let provider = Provider::start(vec![Say::refused(401, "who is sesame-4711?")]);
    let api = Api::AnthropicMessages;
    let header = (
        "x-tenant".to_owned(),
        SecretString::from("sesame-4711".to_owned()),
    );
    let url = provider.url(Dialect::Anthropic);
    let endpoint = Endpoint::new(&url, api, Some(SecretString::from(KEY)))
        .bearer()
        .with_headers(vec![header]);
    let model = Model::new("scripted", "m", api, endpoint);
    assert!(!format!("{model:?}").contains("4711"), "{model:?}");
    let failure = ask_with(limits(), &model, &[Message::user("?")])
        .await
        .0
        .unwrap_err();
    assert!(!failure.message.contains("4711"), "{failure:?}");
    let asked: Asked = provider.asked().remove(0);
    assert_eq!(asked.header("x-tenant"), Some("sesame-4711"));
    assert_eq!(
        asked.header("authorization"),
        Some(format!("Bearer {KEY}").as_str())
    );
    assert_eq!(asked.header("x-api-key"), None);
}

#[tokio::test]
async fn calls_of_tools_come_whole_also_two_at_a_time() {
    for dialect in Dialect::ALL {
        let calls = dialect.answer(
            &["I look. "],
            &[
                ("c1", "look", json!({"at": "hö me"})),
                ("c2", "look", json!({})),
            ],
        );
        let provider = Provider::start(vec![calls, dialect.text(&["Seen"])]);
        let (answer, said) = ask(&provider, dialect).await;
        let answer = answer.unwrap_or_else(|failure| panic!("{dialect:?}: {failure:?}"));
        assert_eq!((said.as_str(), answer.stop), ("I look. ", Stop::Tools));
        let called: Vec<(&str, &Value)> = answer
            .calls
            .iter()
            .map(|call| (call.name.as_str(), &call.arguments))
            .collect();
        let want = (json!({"at": "hö me"}), json!({}));
        assert_eq!(
            called,
            [("look", &want.0), ("look", &want.1)],
            "{dialect:?}"
        );
        let ids: Vec<&str> = answer.calls.iter().map(|call| call.id.as_str()).collect();
        if matches!(dialect, Dialect::Google | Dialect::Ollama) {
            assert!(
                ids[0] != ids[1] && ids.iter().all(|id| id.len() > 8),
                "{ids:?}"
            );
        } else {
            assert_eq!(ids, ["c1", "c2"], "{dialect:?}");
        }

        // The results go back beside their calls.
        let results = answer.calls.clone().into_iter().map(|call| {
            Message::ToolResult(ToolResult {
                text: format!("seen {}", call.arguments),
                call_id: call.id,
                name: call.name,
                details: Some(json!("for people alone")),
                is_error: false,
            })
        });
        let mut messages = vec![
            Message::user("Look around"),
            Message::Answer(answer.clone()),
        ];
        messages.extend(results);
        let model = model(&provider, dialect);
        ask_with(limits(), &model, &messages).await.0.unwrap();
        let asked = provider.asked().remove(1);
        assert!(!asked.text.contains("for people"), "{}", asked.text);
        let body = &asked.body;
        let places = match dialect {
            Dialect::Chat => vec![
                ("/messages/2/tool_calls/1/id", "c2"),
                ("/messages/3/tool_call_id", "c1"),
                ("/messages/4/content", "seen {}"),
            ],
            Dialect::Responses => vec![
                ("/input/2/call_id", "c1"),
                ("/input/3/arguments", "{}"),
                ("/input/5/output", "seen {}"),
            ],
            // Both results are in one message.
            Dialect::Anthropic => vec![
                ("/messages/1/content/2/id", "c2"),
                ("/messages/2/content/0/tool_use_id", "c1"),
                ("/messages/2/content/1/content", "seen {}"),
            ],
            Dialect::Google => vec![
                ("/contents/1/parts/1/functionCall/args/at", "hö me"),
                (
                    "/contents/2/parts/1/functionResponse/response/output",
                    "seen {}",
                ),
            ],
            Dialect::Ollama => vec![
                ("/messages/2/tool_calls/0/function/arguments/at", "hö me"),
                ("/messages/4/content", "seen {}"),
            ],
        };
        for (place, want) in places {
            assert_eq!(
                body.pointer(place).and_then(Value::as_str),
                Some(want),
                "{dialect:?} {place}: {body:#}"
            );
        }
    }
}

#[tokio::test]
async fn calls_are_told_apart_however_they_are_numbered() {
    let chat = Dialect::Chat;
    let block = |calls: Value, finish: Value| {
        chat.block(&json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": finish}]}))
    };
    let call = |id: &str, at: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": json!({"at": at}).to_string()}});
    let mut numbered = [call("a", "1"), call("b", "2")];
    for call in &mut numbered {
        call["index"] = 0.into();
    }
    for blocks in [
        // All in the first place.
        vec![
            block(json!([numbered[0]]), Value::Null),
            block(json!([numbered[1]]), json!("tool_calls")),
        ],
        // In no place.
        vec![block(
            json!([call("a", "1"), call("b", "2")]),
            json!("stop"),
        )],
    ] {
        let provider = Provider::start(vec![Say::stream(blocks).then("data: [DONE]\n\n")]);
        let answer = ask(&provider, chat).await.0.unwrap();
        let at: Vec<&Value> = answer
            .calls
            .iter()
            .map(|call| &call.arguments["at"])
            .collect();
        assert_eq!(
            (at, answer.stop),
            (vec![&json!("1"), &json!("2")], Stop::Tools)
        );
    }
}

#[tokio::test]
async fn arguments_that_are_no_json_are_left_as_they_are() {
    let chat = Dialect::Chat;
    let say = Say::stream([
        chat.block(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "id": "a", "function": {"name": "look", "arguments": "{\"at\": "}}]},
            "finish_reason": "length"}]})),
        "data: [DONE]\n\n".to_owned(),
    ]);
    let provider = Provider::start(vec![say]);
    let answer = ask(&provider, chat).await.0.unwrap();
    assert_eq!(answer.stop, Stop::Length);
    assert_eq!(answer.calls[0].arguments, json!("{\"at\": "));
}

#[tokio::test]
async fn what_a_provider_refuses_is_sorted() {
    let told_key = format!("Incorrect API key provided: {KEY}.");
    for (status, message, kind) in [
        (400, "max_tokens must be positive", FailureKind::Invalid),
        (
            400,
            "API key not valid. Please pass one.",
            FailureKind::Auth,
        ),
        (
            400,
            "This model's maximum context length is 8192 tokens",
            FailureKind::TooLong,
        ),
        (401, told_key.as_str(), FailureKind::Auth),
        (402, "no credit", FailureKind::Billing),
        (403, "not yours", FailureKind::Auth),
        (404, "no such model", FailureKind::NoModel),
        (413, "too much", FailureKind::TooLong),
        (429, "slow down", FailureKind::RateLimited),
        (429, "You exceeded your current quota", FailureKind::Billing),
        (500, "oops", FailureKind::Server),
        (502, "bad gateway", FailureKind::Server),
        (503, "busy", FailureKind::Overloaded),
        (529, "overloaded", FailureKind::Overloaded),
    ] {
        for dialect in Dialect::ALL {
            let failure = failure(Say::refused(status, message), dialect).await;
            assert_eq!(failure.kind, kind, "{status} {dialect:?}: {failure:?}");
            assert!(!failure.message.contains(KEY), "{failure:?}");
            assert!(!failure.partial);
        }
    }
}

#[tokio::test]
async fn how_long_to_wait_is_read() {
    for dialect in Dialect::ALL {
        for (name, value, expected) in [
            ("retry-after", "7", Some(7_000)),
            ("retry-after-ms", "250", Some(250)),
            ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("retry-after", "-1", None),
            ("retry-after", "1e300", None),
        ] {
            let say = Say::refused(429, "slow down").header(name, value);
            let failure = failure(say, dialect).await;
            assert_eq!(
                failure.retry_after_ms, expected,
                "{dialect:?} {name}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_not_whole() {
    for dialect in Dialect::ALL {
        // The first words, and then nothing: broken off, or ended as if it were whole, with half
        // an event or without.
        let begun = Say::stream([dialect.piece("Good ")]);
        let half = begun.clone().then("data: {\"cho");
        for say in [begun.clone(), begun.cut(), half.clone(), half.cut()] {
            let failure = failure(say.clone(), dialect).await;
            assert_eq!(
                (failure.kind, failure.partial),
                (FailureKind::Cut, true),
                "{dialect:?} {say:?}: {failure:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_bad_end_of_the_transfer_does_not_undo_a_whole_answer() {
    for dialect in Dialect::ALL {
        let provider = Provider::start(vec![dialect.text(&["Good ", "day"]).cut()]);
        let answer = ask(&provider, dialect).await.0;
        assert_eq!(answer.unwrap().text, "Good day", "{dialect:?}");
    }
}

#[tokio::test]
async fn who_stands_still_is_left() {
    for dialect in Dialect::ALL {
        for (say, partial) in [
            (Say::silence(), false),
            // A head, and no body.
            (Say::stream([""; 0]).stalled(), false),
            (Say::stream([dialect.piece("Good ")]).stalled(), true),
        ] {
            let provider = Provider::start(vec![say]);
            let model = model(&provider, dialect);
            let (answer, _) = ask_with(impatient(), &model, &[Message::user("?")]).await;
            let failure = answer.unwrap_err();
            assert_eq!(
                (failure.kind, failure.partial),
                (FailureKind::Timeout, partial),
                "{dialect:?}: {failure:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_provider_that_only_keeps_the_line_open_is_left_in_the_end() {
    let limits = ModelLimits {
        whole: Duration::from_millis(300),
        ..limits()
    };
    let say = Say::stream([""; 0]).then_over(": still here\n\n", 1 << 30);
    let provider = Provider::start(vec![say]);
    let (answer, _) = ask_with(
        limits,
        &model(&provider, Dialect::Chat),
        &[Message::user("?")],
    )
    .await;
    let failure = answer.unwrap_err();
    assert!(
        matches!(failure.kind, FailureKind::Timeout | FailureKind::TooLarge),
        "{failure:?}"
    );
}

#[tokio::test]
async fn nonsense_is_malformed() {
    for dialect in Dialect::ALL {
        let frame = |text: &str| match dialect {
            Dialect::Ollama => format!("{text}\n"),
            _ => format!("data: {text}\n\n"),
        };
        for say in [
            Say::stream([frame("{\"choices\": [")]),
            Say::stream([frame("\u{1}\u{2}")]),
            Say::stream([dialect.piece("Good "), frame("no JSON")]),
            Say::whole(200, "<html>Welcome</html>").header("content-type", "text/html"),
        ] {
            let failure = failure(say, dialect).await;
            assert_eq!(
                failure.kind,
                FailureKind::Malformed,
                "{dialect:?}: {failure:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_not_taken_for_one() {
    for dialect in Dialect::ALL {
        let say = Say::whole(200, "{\"hello\": 1}");
        let kind = failure(say, dialect).await.kind;
        // Where a line is an event, that is one, and the end is missing.
        let want = match dialect {
            Dialect::Ollama => FailureKind::Cut,
            _ => FailureKind::Malformed,
        };
        assert_eq!(kind, want, "{dialect:?}");
        let say = Say::whole(200, "{\"error\": {\"message\": \"no\", \"code\": 429}}");
        let failure = failure(say, dialect).await;
        assert_eq!(
            failure.kind,
            FailureKind::RateLimited,
            "{dialect:?}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn an_error_within_a_stream_is_an_error() {
    for dialect in Dialect::ALL {
        let say = Say::stream([dialect.piece("Good "), dialect.trouble("Overloaded")]);
        let failure = failure(say, dialect).await;
        // Ollama has words and nothing else.
        let kind = match dialect {
            Dialect::Ollama => FailureKind::Server,
            _ => FailureKind::Overloaded,
        };
        assert_eq!((failure.kind, failure.partial), (kind, true), "{failure:?}");
        assert_eq!(failure.message, "Overloaded", "{dialect:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_ended() {
    for dialect in Dialect::ALL {
        for block in [dialect.piece(&"x".repeat(4_000)), "x".repeat(4_000)] {
            let say = Say::stream([""; 0]).then_over(&block, 100 << 20);
            let provider = Provider::start(vec![say]);
            let failure = ask(&provider, dialect).await.0.unwrap_err();
            assert_eq!(failure.kind, FailureKind::TooLarge, "{failure:?}");
        }
        let refusal = Say::whole(500, "").then_over(&"x".repeat(4_000), 100 << 20);
        let failure = failure(refusal, dialect).await;
        assert_eq!(failure.kind, FailureKind::Server);
        assert!(failure.message.len() < 1_000);
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure_of_the_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let api = Api::OpenAiCompletions;
    let endpoint = Endpoint::new(&format!("http://{address}/v1"), api, None);
    let model = Model::new("gone", "m", api, endpoint);
    let failure = ask_with(limits(), &model, &[Message::user("?")])
        .await
        .0
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network, "{failure:?}");
}

#[tokio::test]
async fn a_redirect_takes_no_key_anywhere() {
    for dialect in Dialect::ALL {
        for status in [301, 302, 303, 307, 308] {
            let elsewhere = Provider::start(vec![dialect.text(&["Caught"])]);
            let say = Say::whole(status, "").header("location", &elsewhere.url(dialect));
            let failure = failure(say, dialect).await;
            assert_eq!(failure.kind, FailureKind::Invalid, "{failure:?}");
            assert!(elsewhere.asked().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_stops_waiting_closes_the_request() {
    for dialect in Dialect::ALL {
        let provider = Provider::start(vec![Say::stream([dialect.piece("Good ")]).stalled()]);
        let models = Models::new(limits()).unwrap();
        let model = model(&provider, dialect);
        let messages = [Message::user("?")];
        let request = Request {
            system: "",
            messages: &messages,
            tools: &[],
        };
        let (said, heard) = tokio::sync::oneshot::channel();
        let mut said = Some(said);
        let mut on_delta = |_: Delta<'_>| {
            if let Some(said) = said.take() {
                let _ = said.send(());
            }
        };
        tokio::select! {
            answer = models.ask(&model, &request, &mut on_delta) => panic!("{answer:?}"),
            heard = heard => heard.expect("something was said"),
        }
        provider.wait_left(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_is_used_again() {
    for dialect in Dialect::ALL {
        let provider = Provider::start(vec![dialect.text(&["Good day"])]);
        let models = Models::new(limits()).unwrap();
        let model = model(&provider, dialect);
        let messages = [Message::user("?")];
        let request = Request {
            system: "",
            messages: &messages,
            tools: &[],
        };
        for _ in 0..3 {
            let answer = models.ask(&model, &request, &mut |_| {}).await;
            assert_eq!(answer.unwrap().text, "Good day");
        }
        // Where the end of a transfer comes late once, that connection is given up.
        let connections = provider.connections();
        assert!(connections < 3, "{dialect:?}: {connections}");
    }
}

#[tokio::test]
async fn a_level_of_thinking_is_told_to_models_that_think() {
    let places = [
        (Dialect::Chat, "/reasoning_effort", json!("high")),
        (Dialect::Responses, "/reasoning/effort", json!("high")),
        (Dialect::Anthropic, "/thinking/budget_tokens", json!(4_096)),
        (
            Dialect::Google,
            "/generationConfig/thinkingConfig/thinkingBudget",
            json!(24_576),
        ),
        (Dialect::Ollama, "/think", json!(true)),
    ];
    let messages = [Message::user("?")];
    for (dialect, place, want) in places {
        let told = |reasoning: bool, thinking: Thinking| {
            body_of(dialect, &messages, move |model| {
                model.reasoning = reasoning;
                model.thinking = thinking;
                model.output_max = Some(8_192);
            })
        };
        let high = told(true, Thinking::High).await;
        assert_eq!(high.pointer(place), Some(&want), "{dialect:?}: {high:#}");
        let cannot = told(false, Thinking::High).await;
        assert_eq!(cannot.pointer(place), None, "{dialect:?}: {cannot:#}");
        let off = told(true, Thinking::Off).await;
        let want = (dialect == Dialect::Ollama).then_some(&Value::Bool(false));
        assert_eq!(off.pointer(place), want, "{dialect:?}: {off:#}");
    }
    for level in Thinking::ALL {
        assert_eq!(Thinking::parse(level.as_str()), Some(level));
    }
}

#[tokio::test]
async fn thoughts_go_back_to_the_provider_that_signed_them_and_to_no_other() {
    let anthropic = Dialect::Anthropic;
    let thought = Say::stream([
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "seal"}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "c1", "name": "look", "input": {}}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ].map(|event| anthropic.block(&event)));
    let provider = Provider::start(vec![thought]);
    let answer = ask(&provider, anthropic).await.0.unwrap();
    assert_eq!(answer.thinking.as_deref(), Some("Hm."));
    let call: &ToolCall = &answer.calls[0];
    assert_eq!(call.arguments, json!({}));
    let messages = [
        Message::user("?"),
        Message::Answer(answer.clone()),
        Message::ToolResult(ToolResult {
            call_id: call.id.clone(),
            name: call.name.clone(),
            text: "a sea".to_owned(),
            details: None,
            is_error: false,
        }),
    ];
    for dialect in Dialect::ALL {
        let body = body_of(dialect, &messages, |model| {
            model.reasoning = true;
            model.thinking = Thinking::Low;
            model.output_max = Some(8_192);
        })
        .await;
        let is_there = body.to_string().contains("seal");
        assert_eq!(is_there, dialect == anthropic, "{dialect:?}: {body:#}");
    }
    // A model that thinks wants the thoughts before a call; without them it is not told to think.
    let mut bare = answer;
    bare.calls[0].signatures = None;
    let messages = [
        messages[0].clone(),
        Message::Answer(bare),
        messages[2].clone(),
    ];
    let body = body_of(anthropic, &messages, |model| {
        model.reasoning = true;
        model.thinking = Thinking::Low;
        model.output_max = Some(8_192);
    })
    .await;
    assert_eq!(body.get("thinking"), None, "{body:#}");
}

#[tokio::test]
async fn images_are_shown_to_models_that_see_and_counted_for_the_others() {
    let messages = [Message::User(Said {
        text: "What is that?".to_owned(),
        images: vec![Image {
            mime: "image/png".to_owned(),
            base64: "aW1hZ2U=".to_owned(),
        }],
    })];
    for dialect in Dialect::ALL {
        let seen = body_of(dialect, &messages, |model| model.images = true).await;
        let text = seen.to_string();
        assert!(
            text.contains("aW1hZ2U=") && text.contains("What is that?"),
            "{dialect:?}: {text}"
        );
        let mime = dialect != Dialect::Ollama;
        assert_eq!(text.contains("image/png"), mime, "{dialect:?}: {text}");
        let blind = body_of(dialect, &messages, |_| {}).await.to_string();
        assert!(
            !blind.contains("aW1hZ2U=") && blind.contains("[images that you cannot see: 1]"),
            "{dialect:?}: {blind}"
        );
    }
}

#[tokio::test]
async fn a_stop_at_the_limit_is_told_apart() {
    for (dialect, block, stop) in [
        (
            Dialect::Chat,
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}),
            Stop::Length,
        ),
        (
            Dialect::Chat,
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}),
            Stop::Filtered,
        ),
        (
            Dialect::Responses,
            json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}}),
            Stop::Length,
        ),
        (
            Dialect::Anthropic,
            json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}),
            Stop::Length,
        ),
        (
            Dialect::Google,
            json!({"promptFeedback": {"blockReason": "SAFETY"}}),
            Stop::Filtered,
        ),
        (
            Dialect::Ollama,
            json!({"done": true, "done_reason": "length"}),
            Stop::Length,
        ),
    ] {
        let provider = Provider::start(vec![Say::stream([dialect.block(&block)])]);
        let answer = ask(&provider, dialect).await.0.unwrap();
        assert_eq!(answer.stop, stop, "{dialect:?}");
    }
}
