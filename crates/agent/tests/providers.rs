//! Models are asked over real HTTP, in the protocol of each provider, and whatever a provider does
//! ends in an answer or in a typed failure.

mod support;

use std::time::Duration;

use clawgate_agent::{
    Answer, Api, Delta, Endpoint, Message, Model, ModelLimits, Models, Request, Stop, ToolCall,
    ToolResult, ToolSpec, Usage,
};
use clawgate_core::turn::{Failure, FailureKind};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{Provider, Say};

const KEY: &str = "sk-test-4711-secret";

fn model(provider: &Provider, api: Api) -> Model {
    Model {
        provider: "scripted".to_owned(),
        id: "some-model".to_owned(),
        api,
        endpoint: Endpoint::new(&provider.url(), api, Some(SecretString::from(KEY))),
        output_max: Some(256),
    }
}

fn limits() -> ModelLimits {
    ModelLimits {
        first_byte: Duration::from_millis(300),
        between: Duration::from_millis(300),
        whole: Duration::from_secs(10),
        bytes: 1 << 20,
        ..ModelLimits::default()
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
    provider: &Provider,
    api: Api,
    messages: &[Message],
) -> (Result<Answer, Failure>, String) {
    let models = Models::new(limits()).unwrap();
    let tools = [tool()];
    let request = Request {
        system: "Be brief.",
        messages,
        tools: &tools,
    };
    let mut said = String::new();
    let answer = models
        .ask(&model(provider, api), &request, &mut |delta| {
            if let Delta::Text(text) = delta {
                said.push_str(text);
            }
        })
        .await;
    (answer, said)
}

async fn ask(provider: &Provider, api: Api) -> (Result<Answer, Failure>, String) {
    ask_with(provider, api, &[Message::User("Hello?".to_owned())]).await
}

async fn failure(say: Say, api: Api) -> Failure {
    let provider = Provider::start(vec![say]).await;
    ask(&provider, api).await.0.expect_err("no answer")
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn named(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

/// The same answer, "Good day", in each protocol.
fn good_day(api: Api) -> Say {
    match api {
        Api::OpenAiCompletions => Say::Stream(vec![
            data(
                &json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Good "}, "finish_reason": null}]}),
            ),
            data(
                &json!({"choices": [{"index": 0, "delta": {"content": "day"}, "finish_reason": null}]}),
            ),
            data(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})),
            data(
                &json!({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4}}}),
            ),
            "data: [DONE]\n\n".to_owned(),
        ]),
        Api::AnthropicMessages => Say::Stream(vec![
            named(
                "message_start",
                &json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "some-model", "usage": {"input_tokens": 8, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 1}}}),
            ),
            named(
                "content_block_start",
                &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ),
            named(
                "content_block_delta",
                &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Good "}}),
            ),
            named(
                "content_block_delta",
                &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "day"}}),
            ),
            named(
                "content_block_stop",
                &json!({"type": "content_block_stop", "index": 0}),
            ),
            named(
                "message_delta",
                &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
            ),
            named("message_stop", &json!({"type": "message_stop"})),
        ]),
        Api::Google => Say::Stream(vec![
            data(
                &json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "Good "}]}}]}),
            ),
            data(
                &json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "day"}]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 3, "totalTokenCount": 15, "cachedContentTokenCount": 4}}),
            ),
        ]),
        Api::Ollama => Say::Stream(vec![
            format!(
                "{}\n",
                json!({"model": "some-model", "message": {"role": "assistant", "content": "Good "}, "done": false})
            ),
            format!(
                "{}\n",
                json!({"model": "some-model", "message": {"role": "assistant", "content": "day"}, "done": false})
            ),
            format!(
                "{}\n",
                json!({"model": "some-model", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 3})
            ),
        ]),
        Api::OpenAiResponses => Say::Stream(vec![
            named(
                "response.output_item.added",
                &json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "i", "type": "message", "role": "assistant", "content": [], "status": "in_progress"}}),
            ),
            named(
                "response.output_text.delta",
                &json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "Good "}),
            ),
            named(
                "response.output_text.delta",
                &json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "day"}),
            ),
            named(
                "response.completed",
                &json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [{"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "Good day"}]}], "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3, "total_tokens": 15}}}),
            ),
        ]),
    }
}

#[tokio::test]
async fn every_protocol_streams_the_same_answer() {
    for api in Api::ALL {
        let provider = Provider::start(vec![good_day(api)]).await;
        let (answer, said) = ask(&provider, api).await;
        let answer = answer.unwrap_or_else(|failure| panic!("{api:?}: {failure:?}"));
        assert_eq!(
            (answer.text.as_str(), said.as_str()),
            ("Good day", "Good day"),
            "{api:?}"
        );
        assert_eq!(answer.stop, Stop::Done, "{api:?}");
        let cached = if api == Api::Ollama { 0 } else { 4 };
        let usage = Usage {
            input: 12 - cached,
            output: 3,
            cache_read: cached,
            cache_write: 0,
        };
        assert_eq!(answer.usage, usage, "{api:?}");
    }
}

#[tokio::test]
async fn the_key_goes_in_a_header_and_the_tools_in_the_body() {
    for api in Api::ALL {
        let provider = Provider::start(vec![good_day(api)]).await;
        ask(&provider, api).await.0.unwrap();
        let asked = provider.asked();
        assert_eq!(asked.len(), 1);
        let (line, headers) = asked[0].head.split_once("\r\n").unwrap();
        assert!(!line.contains(KEY), "{api:?}: {line}");
        // A server of one's own asks for no key.
        assert_eq!(headers.contains(KEY), api != Api::Ollama, "{api:?}");
        let body: Value = serde_json::from_str(&asked[0].body).unwrap();
        let text = body.to_string();
        assert!(
            text.contains("Hello?") && text.contains("Be brief."),
            "{api:?}: {text}"
        );
        assert!(text.contains("\"look\""), "{api:?}: {text}");
    }
}

#[tokio::test]
async fn calls_of_tools_come_whole_also_two_at_a_time() {
    let calls = Say::Stream(vec![
        data(
            &json!({"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}]}, "finish_reason": null}]}),
        ),
        data(
            &json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"at\":"}}]}, "finish_reason": null}]}),
        ),
        data(
            &json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\"home\"}"}}]}, "finish_reason": null}]}),
        ),
        data(
            &json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"sea\"}"}}]}, "finish_reason": null}]}),
        ),
        data(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})),
        "data: [DONE]\n\n".to_owned(),
    ]);
    let provider = Provider::start(vec![calls, good_day(Api::OpenAiCompletions)]).await;
    let (answer, said) = ask(&provider, Api::OpenAiCompletions).await;
    let answer = answer.unwrap();
    assert_eq!((said.as_str(), answer.stop), ("", Stop::Tools));
    let call = |id: &str, at: &str| ToolCall {
        id: id.to_owned(),
        name: "look".to_owned(),
        arguments: json!({"at": at}),
        signatures: None,
    };
    assert_eq!(answer.calls, [call("c1", "home"), call("c2", "sea")]);

    // The results go back beside their calls.
    let result = |id: &str| {
        Message::ToolResult(ToolResult {
            call_id: id.to_owned(),
            name: "look".to_owned(),
            text: format!("seen by {id}"),
            details: None,
            is_error: false,
        })
    };
    let messages = [
        Message::User("Look around".to_owned()),
        Message::Answer(answer),
        result("c1"),
        result("c2"),
    ];
    ask_with(&provider, Api::OpenAiCompletions, &messages)
        .await
        .0
        .unwrap();
    let body: Value = serde_json::from_str(&provider.asked()[1].body).unwrap();
    let roles: Vec<&str> = body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|message| message["role"].as_str())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool"]);
    assert_eq!(body["messages"][3]["tool_call_id"], "c1");
    assert_eq!(body["messages"][4]["content"], "seen by c2");
}

#[tokio::test]
async fn what_a_provider_refuses_is_sorted() {
    let error = |message: &str| json!({"error": {"message": message, "type": "x"}}).to_string();
    for (status, message, kind) in [
        (400, "max_tokens must be positive", FailureKind::Invalid),
        (
            400,
            "This model's maximum context length is 8192 tokens",
            FailureKind::TooLong,
        ),
        (
            401,
            "Incorrect API key provided: sk-test-4711-secret.",
            FailureKind::Auth,
        ),
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
        for api in Api::ALL {
            let failure = failure(Say::Whole(status, Vec::new(), error(message)), api).await;
            assert_eq!(failure.kind, kind, "{status} {api:?}: {failure:?}");
            assert!(!failure.message.contains(KEY), "{failure:?}");
            assert!(!failure.partial);
        }
    }
}

#[tokio::test]
async fn how_long_to_wait_is_read() {
    for (name, value, expected) in [
        ("retry-after", "7", Some(7_000)),
        ("retry-after-ms", "250", Some(250)),
        ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("retry-after", "-1", None),
        ("retry-after", "1e300", None),
    ] {
        let say = Say::Whole(429, vec![(name, value.to_owned())], "{}".to_owned());
        let failure = failure(say, Api::OpenAiCompletions).await;
        assert_eq!(failure.retry_after_ms, expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_not_whole() {
    for api in Api::ALL {
        let Say::Stream(blocks) = good_day(api) else {
            unreachable!("a stream")
        };
        // The first words, and then nothing: ended in the middle, or ended as if it were whole.
        let begun: Vec<String> = blocks[..blocks.len() - 1].to_vec();
        let begun = match api {
            Api::AnthropicMessages => begun[..4].to_vec(),
            Api::OpenAiCompletions => begun[..2].to_vec(),
            Api::Google | Api::Ollama => begun[..1].to_vec(),
            Api::OpenAiResponses => begun,
        };
        for say in [Say::CutStream(begun.clone()), Say::Stream(begun.clone())] {
            let failure = failure(say.clone(), api).await;
            assert_eq!(
                failure.kind,
                FailureKind::Cut,
                "{api:?} {say:?}: {failure:?}"
            );
            assert!(failure.partial, "{api:?}: something was said");
        }
    }
}

#[tokio::test]
async fn who_stands_still_is_left() {
    let silent = failure(Say::Silence, Api::OpenAiCompletions).await;
    assert_eq!((silent.kind, silent.partial), (FailureKind::Timeout, false));
    let Say::Stream(blocks) = good_day(Api::OpenAiCompletions) else {
        unreachable!("a stream")
    };
    let stalled = failure(Say::Stall(blocks[..1].to_vec()), Api::OpenAiCompletions).await;
    assert_eq!(
        (stalled.kind, stalled.partial),
        (FailureKind::Timeout, true)
    );
}

#[tokio::test]
async fn nonsense_is_malformed() {
    for say in [
        Say::Stream(vec!["data: {\"choices\": [\n\n".to_owned()]),
        Say::Stream(vec!["data: \u{1}\u{2}\n\n".to_owned()]),
    ] {
        let failure = failure(say, Api::OpenAiCompletions).await;
        assert_eq!(failure.kind, FailureKind::Malformed, "{failure:?}");
    }
}

#[tokio::test]
async fn an_error_within_a_stream_is_an_error() {
    let say = Say::Stream(vec![data(&json!({
        "error": {"message": "Overloaded", "type": "overloaded_error"},
    }))]);
    let failure = failure(say, Api::OpenAiCompletions).await;
    assert_eq!(failure.kind, FailureKind::Overloaded, "{failure:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_ended() {
    let block = data(&json!({
        "choices": [{"index": 0, "delta": {"content": "x".repeat(4_000)}, "finish_reason": null}],
    }));
    let failure = failure(Say::Endless(block, 100), Api::OpenAiCompletions).await;
    assert_eq!(failure.kind, FailureKind::TooLarge, "{failure:?}");
}

#[tokio::test]
async fn nobody_there_is_a_failure_of_the_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let models = Models::new(limits()).unwrap();
    let api = Api::OpenAiCompletions;
    let model = Model {
        provider: "gone".to_owned(),
        id: "m".to_owned(),
        api,
        endpoint: Endpoint::new(&format!("http://{address}/v1"), api, None),
        output_max: None,
    };
    let messages = [Message::User("?".to_owned())];
    let request = Request {
        system: "",
        messages: &messages,
        tools: &[],
    };
    let failure = models.ask(&model, &request, &mut |_| {}).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network, "{failure:?}");
}

#[tokio::test]
async fn a_redirect_takes_no_key_anywhere() {
    let elsewhere = Provider::start(vec![good_day(Api::OpenAiCompletions)]).await;
    let target = format!("{}/chat/completions", elsewhere.url());
    let say = Say::Whole(307, vec![("location", target)], String::new());
    let provider = Provider::start(vec![say]).await;
    assert!(ask(&provider, Api::OpenAiCompletions).await.0.is_err());
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn who_stops_waiting_closes_the_request() {
    let Say::Stream(blocks) = good_day(Api::OpenAiCompletions) else {
        unreachable!("a stream")
    };
    let provider = Provider::start(vec![Say::Stall(blocks[..1].to_vec())]).await;
    let patient = ModelLimits {
        between: Duration::from_secs(60),
        ..limits()
    };
    let models = Models::new(patient).unwrap();
    let model = model(&provider, Api::OpenAiCompletions);
    let messages = [Message::User("?".to_owned())];
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
    provider.sees_a_peer_go().await;
}
