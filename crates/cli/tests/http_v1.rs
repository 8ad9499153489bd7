//! Agents for programs that speak OpenAI's HTTP: who may ask, what is answered, how it streams, and
//! what becomes of a turn that nobody waits for.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use clawgate_testkit::{
    HttpAnswer, PATIENCE, TOKEN, TestGateway, gateway, post,
    provider::{Dialect, Gate, KEY, Provider, Say},
    request, token_config,
};
use serde_json::{Value, json};

const CHAT: Dialect = Dialect::Chat;
const COMPLETIONS: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
/// What makes a caller one from elsewhere.
const ELSEWHERE: (&str, &str) = ("X-Real-IP", "203.0.113.9");

fn config(provider: &Provider) -> Value {
    let mut config = token_config();
    let on = json!({"enabled": true});
    config["gateway"]["http"] = json!({"endpoints": {"chatCompletions": on, "responses": on}});
    config["models"] = json!({"providers": {"scripted": provider.config(CHAT)}});
    config["agents"] = json!({
        "defaults": {"model": {"primary": "scripted/some-model"}},
        "list": [{"id": "main"}, {"id": "ops"}],
    });
    config
}

fn started(provider: &Provider) -> TestGateway {
    gateway!(config(provider))
}

/// Asks with a secret and further headers.
fn ask(
    gateway: &TestGateway,
    path: &str,
    secret: &str,
    more: &[(&str, &str)],
    body: &Value,
) -> HttpAnswer {
    let bearer = format!("Bearer {secret}");
    let mut headers = vec![("Authorization", bearer.as_str())];
    headers.extend_from_slice(more);
    post(gateway.address(), path, &headers, &body.to_string())
}

fn owner(gateway: &TestGateway, path: &str, body: &Value) -> HttpAnswer {
    ask(gateway, path, TOKEN, &[], body)
}

fn get(gateway: &TestGateway, path: &str, secret: &str) -> HttpAnswer {
    let bearer = format!("Bearer {secret}");
    request(
        gateway.address(),
        "GET",
        path,
        &[("Authorization", &bearer)],
    )
}

fn body(answer: &HttpAnswer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

fn hi() -> Value {
    json!({"model": "openclaw", "messages": [{"role": "user", "content": "hi"}]})
}

fn streaming(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

fn token(gateway: &TestGateway, name: &str, scopes: &[&str]) -> String {
    let made = json!({"name": name, "scopes": scopes});
    let answer = gateway.owner(4).call("tokens.create", &made);
    answer["token"].as_str().unwrap().to_owned()
}

/// The sessions that there are.
fn sessions(gateway: &TestGateway) -> Vec<String> {
    let list = gateway.owner(4).call("sessions.list", &json!({}));
    let keys = list["sessions"].as_array().unwrap().iter();
    let mut keys: Vec<String> = keys
        .map(|row| row["key"].as_str().unwrap().to_owned())
        .collect();
    keys.sort();
    keys
}

/// What a request told the model last, and what it told it first.
fn told(asked: &Value) -> (String, String) {
    let text = |message: &Value| {
        let content = &message["content"];
        let said = content.as_str().or_else(|| content[0]["text"].as_str());
        said.unwrap_or_default().to_owned()
    };
    let messages = asked["messages"].as_array().unwrap();
    (text(messages.last().unwrap()), text(&messages[0]))
}

/// A connection on which a request went out, read piece by piece.
struct Open {
    socket: TcpStream,
    read: String,
}

impl Open {
    fn send(gateway: &TestGateway, path: &str, secret: &str, body: &Value) -> Self {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {secret}\r\n\
             Content-Length: {}\r\n\r\n",
            gateway.address(),
            body.len(),
        );
        Self::raw(gateway, &format!("{head}{body}"))
    }

    fn raw(gateway: &TestGateway, text: &str) -> Self {
        let mut socket = TcpStream::connect(gateway.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        Self {
            socket,
            read: String::new(),
        }
    }

    /// Reads until a text is there, and says everything so far.
    #[track_caller]
    fn until(&mut self, text: &str) -> &str {
        let mut part = [0_u8; 4_096];
        while !self.read.contains(text) {
            match self.socket.read(&mut part) {
                Ok(read) if read > 0 => {
                    self.read.push_str(&String::from_utf8_lossy(&part[..read]));
                }
                other => panic!("{text} did not come ({other:?}): {}", self.read),
            }
        }
        &self.read
    }

    /// Reads to the end of the answer, and says its events.
    #[track_caller]
    fn events(mut self) -> Vec<Value> {
        let text = self.until("\r\n0\r\n\r\n");
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
            .collect()
    }
}

/// The words of the chunks of a completion.
fn words(events: &[Value]) -> String {
    let deltas = events
        .iter()
        .map(|event| &event["choices"][0]["delta"]["content"]);
    deltas.filter_map(Value::as_str).collect()
}

#[test]
fn nothing_is_served_until_the_operator_says_so() {
    let provider = Provider::start(vec![CHAT.text(&["Never."])]);
    let mut off = config(&provider);
    off["gateway"]["http"] = json!({"endpoints": {"responses": {"enabled": false}}});
    let gateway = gateway!(off);
    for path in [COMPLETIONS, RESPONSES] {
        assert_eq!(owner(&gateway, path, &hi()).status, 404, "{path}");
        let none = post(gateway.address(), path, &[], &hi().to_string());
        assert_eq!(none.status, 401, "{path}");
    }
    assert_eq!(get(&gateway, "/v1/models", TOKEN).status, 404);
    assert!(provider.asked().is_empty());
}

#[test]
fn a_completion_is_the_agents_answer_with_what_it_used() {
    let provider = Provider::start(vec![CHAT.text(&["Hello", " there."])]);
    let gateway = started(&provider);
    let asked = json!({
        "model": "clawgate:main",
        "temperature": 0.2,
        "messages": [
            {"role": "system", "content": "Speak like a pirate."},
            {"role": "user", "content": "Who are you?"},
            {"role": "assistant", "content": "A clerk."},
            {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
        ],
    });
    let answer = owner(&gateway, COMPLETIONS, &asked);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let whole = body(&answer);
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "clawgate:main");
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl_"));
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["content"], "Hello there.");
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(
        (
            &whole["usage"]["prompt_tokens"],
            &whole["usage"]["completion_tokens"]
        ),
        (&json!(12), &json!(3))
    );
    let (now, system) = told(&provider.asked()[0].body);
    assert!(system.contains("Speak like a pirate."), "{system}");
    assert!(!system.contains("Nobody reads along"), "{system}");
    let before = now.find("User: Who are you?").unwrap();
    let between = now.find("You: A clerk.").unwrap();
    assert!(before < between && now.ends_with("And now?"), "{now}");
    let keys = sessions(&gateway);
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("agent:main:openai:"), "{keys:?}");
    assert!(!gateway.stderr().contains(KEY));
}

#[test]
fn a_stream_says_words_as_they_come_and_its_use_when_asked() {
    let gate = Gate::new();
    let say = CHAT.text(&["One", " two", " three."]).held_after(2, &gate);
    let provider = Provider::start(vec![say]);
    let gateway = started(&provider);
    let mut asked = streaming(hi());
    asked["stream_options"] = json!({"include_usage": true});
    let mut open = Open::send(&gateway, COMPLETIONS, TOKEN, &asked);
    let so_far = open.until("\"One\"");
    assert!(so_far.starts_with("HTTP/1.1 200"), "{so_far}");
    assert!(
        so_far.contains("text/event-stream") && !so_far.contains("three"),
        "{so_far}"
    );
    gate.open();
    let events = open.events();
    assert_eq!(words(&events), "One two three.");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let last = &events[events.len() - 3..];
    assert_eq!(last[0]["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (&last[1]["choices"], &last[1]["usage"]["total_tokens"]),
        (&json!([]), &json!(15))
    );
    assert_eq!(last[2], "[DONE]");
}

#[test]
fn who_goes_away_has_the_turn_stopped() {
    let gate = Gate::new();
    let held = CHAT.text(&["One", " two"]).held_after(2, &gate);
    let provider = Provider::start(vec![held.clone(), held, CHAT.text(&["Free."])]);
    let gateway = started(&provider);
    let mut asked = hi();
    asked["user"] = json!("gone");
    let mut open = Open::send(&gateway, COMPLETIONS, TOKEN, &streaming(asked.clone()));
    open.until("\"One\"");
    drop(open);
    provider.wait_left(1);
    let open = Open::send(&gateway, COMPLETIONS, TOKEN, &asked);
    let _ = provider.wait_asked(2);
    drop(open);
    provider.wait_left(2);
    let next = owner(&gateway, COMPLETIONS, &asked);
    assert_eq!(body(&next)["choices"][0]["message"]["content"], "Free.");
    let key = "agent:main:openai-user:gone";
    let history = gateway
        .owner(4)
        .call("chat.history", &json!({"sessionKey": key}));
    let stopped = &history["messages"][1];
    assert_eq!(stopped["stopReason"], "aborted", "{stopped}");
    assert_eq!(stopped["content"][0]["text"], "One");
}

#[test]
fn a_turn_that_fails_is_an_error_with_its_status_and_never_an_answer() {
    let later = Say::refused(429, "slow down").header("retry-after", "3600");
    let refused = [
        (Say::refused(400, "no such request"), 500, "turn_failed"),
        (Say::refused(401, "bad key"), 500, "turn_failed"),
        (later, 429, "model_rate_limited"),
        (
            CHAT.text(&["Half", " more"]).first(2).cut(),
            503,
            "model_unavailable",
        ),
    ];
    for (say, status, code) in refused {
        let is_partial = status == 503;
        let provider = Provider::start(vec![say]);
        let gateway = started(&provider);
        let answer = owner(&gateway, COMPLETIONS, &hi());
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        let error = body(&answer)["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(!answer.body.contains("choices"), "{}", answer.body);
        assert!(!answer.body.contains(KEY), "{}", answer.body);
        let mut open = Open::send(&gateway, COMPLETIONS, TOKEN, &streaming(hi()));
        if !is_partial {
            let head = open.until("\r\n\r\n");
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
            continue;
        }
        let events = open.events();
        assert_eq!(words(&events), "Half");
        let last = events.last().unwrap();
        assert_eq!(
            last["error"]["code"], code,
            "the stream ends with the error"
        );
        let reasons = events
            .iter()
            .map(|event| &event["choices"][0]["finish_reason"]);
        assert!(reasons.clone().all(Value::is_null), "{events:?}");
    }
}

#[test]
fn who_may_ask_is_who_may_write_over_a_socket() {
    let provider = Provider::start(vec![CHAT.text(&["Yes."])]);
    let gateway = started(&provider);
    let (reads, writes) = (
        token(&gateway, "reads", &["operator.read"]),
        token(&gateway, "writes", &["operator.write"]),
    );
    for path in [COMPLETIONS, RESPONSES, "/tools/invoke"] {
        let with = |secret: &str, more: &[(&str, &str)]| ask(&gateway, path, secret, more, &hi());
        let none = post(gateway.address(), path, &[], &hi().to_string());
        assert_eq!(none.status, 401, "{path}");
        assert_eq!(with("wrong", &[]).status, 401, "{path}");
        let elsewhere = with(TOKEN, &[ELSEWHERE]);
        assert_eq!(elsewhere.status, 401, "{path}");
        assert!(elsewhere.body.contains("API token"), "{}", elsewhere.body);
        let page = with(TOKEN, &[("Origin", "https://evil.example")]);
        assert_eq!(page.status, 403, "{path}");
        let site = with(&writes, &[("Sec-Fetch-Site", "cross-site")]);
        assert_eq!(site.status, 403, "{path}");
        let narrow = with(&reads, &[]);
        assert_eq!(narrow.status, 403, "{path}");
        assert!(
            narrow.body.contains("missing scope: operator.write"),
            "{}",
            narrow.body
        );
        let in_address = ask(
            &gateway,
            &format!("{path}?token={TOKEN}"),
            TOKEN,
            &[],
            &hi(),
        );
        assert_eq!(in_address.status, 400, "{path}");
    }
    assert_eq!(get(&gateway, "/v1/models", &reads).status, 200);
    assert!(provider.asked().is_empty(), "nobody of them had a turn");
    let other_model = [("x-openclaw-model", "scripted/other")];
    let chosen = ask(&gateway, COMPLETIONS, &writes, &other_model, &hi());
    assert_eq!(chosen.status, 403, "{}", chosen.body);
    let answer = ask(&gateway, COMPLETIONS, &writes, &[ELSEWHERE], &hi());
    assert_eq!(answer.status, 200, "{}", answer.body);
    for _ in 0..11 {
        ask(&gateway, COMPLETIONS, "wrong", &[ELSEWHERE], &hi());
    }
    let locked = ask(&gateway, COMPLETIONS, "wrong", &[ELSEWHERE], &hi());
    assert_eq!(locked.status, 429);
    assert!(locked.header("retry-after").is_some());
    gateway.says("missing scope");
    assert!(!gateway.stderr().contains(TOKEN), "no secret is in the log");
}

#[test]
fn e35_a_stream_ends_with_the_authority_that_asked_for_it() {
    let gate = Gate::new();
    let say = CHAT.text(&["One", " two"]).held_after(2, &gate);
    let provider = Provider::start(vec![say]);
    let gateway = started(&provider);
    let secret = token(&gateway, "ci", &["operator.write"]);
    let mut open = Open::send(&gateway, COMPLETIONS, &secret, &streaming(hi()));
    open.until("\"One\"");
    let mut whole = Open::send(&gateway, COMPLETIONS, &secret, &hi());
    let _ = provider.wait_asked(2);
    gateway
        .owner(4)
        .call("tokens.revoke", &json!({"name": "ci"}));
    let events = open.events();
    assert_eq!(events.last().unwrap()["error"]["type"], "unauthorized");
    assert!(whole.until("\r\n\r\n").starts_with("HTTP/1.1 401"));
    provider.wait_left(2);
    assert_eq!(ask(&gateway, COMPLETIONS, &secret, &[], &hi()).status, 401);
}

#[test]
fn a_user_goes_on_where_it_was_and_names_choose_agent_and_session() {
    let provider = Provider::start(vec![CHAT.text(&["Noted."])]);
    let gateway = started(&provider);
    let say = |more: &[(&str, &str)], user: Value, model: &str| {
        let asked = json!({
            "model": model, "user": user, "messages": [{"role": "user", "content": "hi"}],
        });
        ask(&gateway, COMPLETIONS, TOKEN, more, &asked)
    };
    for (more, user, model) in [
        (&[][..], json!("conv:1"), "openclaw"),
        (&[], json!("conv:1"), "openclaw/default"),
        (&[], json!("conv:1"), "agent:ops"),
        (
            &[("x-openclaw-agent-id", "ops")],
            json!("conv:2"),
            "openclaw",
        ),
        (
            &[("x-openclaw-session-key", "agent:ops:main")],
            json!(null),
            "openclaw",
        ),
        (
            &[("x-openclaw-session-key", "desk")],
            json!("x"),
            "openclaw:ops",
        ),
    ] {
        let answer = say(more, user, model);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(
        sessions(&gateway),
        [
            "agent:main:openai-user:conv:1",
            "agent:ops:desk",
            "agent:ops:main",
            "agent:ops:openai-user:conv:1",
            "agent:ops:openai-user:conv:2",
        ]
    );
    let asked = provider.asked();
    let length = |at: usize| asked[at].body["messages"].as_array().unwrap().len();
    assert_eq!(length(1), length(0) + 2, "the second one knows the first");
    for (more, model, status) in [
        (&[][..], "gpt-4o", 404),
        (&[], "openclaw:nobody", 404),
        (&[("x-openclaw-agent-id", "nobody")], "openclaw", 400),
        (
            &[("x-openclaw-session-key", "agent:main:x")],
            "openclaw:ops",
            400,
        ),
        (&[("x-openclaw-session-key", "../x")], "openclaw", 400),
    ] {
        let answer = say(more, json!(null), model);
        assert_eq!(answer.status, status, "{model} {more:?} {}", answer.body);
    }
    assert_eq!(provider.asked().len(), 6);
}

#[test]
fn a_response_is_the_agents_answer_and_the_next_one_goes_on_from_it() {
    let provider = Provider::start(vec![CHAT.text(&["First."]), CHAT.text(&["Second."])]);
    let gateway = started(&provider);
    let first = owner(
        &gateway,
        RESPONSES,
        &json!({"model": "openclaw", "input": "hello", "instructions": "Be kind."}),
    );
    assert_eq!(first.status, 200, "{}", first.body);
    let first = body(&first);
    assert_eq!(
        (&first["object"], &first["status"]),
        (&json!("response"), &json!("completed"))
    );
    assert_eq!(first["output"][0]["content"][0]["text"], "First.");
    assert_eq!(first["usage"]["input_tokens"], 12);
    let previous = first["id"].as_str().unwrap();
    let next = json!({
        "previous_response_id": previous,
        "input": [
            {"type": "reasoning", "summary": []},
            {"role": "user", "content": [{"type": "input_text", "text": "go on"}]},
        ],
    });
    let second = owner(&gateway, RESPONSES, &next);
    assert_eq!(second.status, 200, "{}", second.body);
    assert_eq!(body(&second)["previous_response_id"], previous);
    assert_eq!(sessions(&gateway).len(), 1);
    let asked = provider.asked();
    assert!(told(&asked[0].body).1.contains("Be kind."));
    assert!(asked[1].text.contains("hello") && asked[1].text.contains("First."));
    let other = token(&gateway, "other", &["operator.write"]);
    for (secret, id) in [
        (other.as_str(), previous),
        (TOKEN, "resp_1"),
        (TOKEN, "resp_é"),
    ] {
        let foreign = json!({"input": "hi", "previous_response_id": id});
        let answer = ask(&gateway, RESPONSES, secret, &[], &foreign);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(
            body(&answer)["error"]["code"],
            "previous_response_not_found"
        );
    }
}

#[test]
fn a_response_streams_its_events_in_order_and_ends_completed_or_failed() {
    let provider = Provider::start(vec![
        CHAT.text(&["One", " two."]),
        CHAT.text(&["Half", " more"]).first(2).cut(),
    ]);
    let gateway = started(&provider);
    let asked = json!({"model": "openclaw", "stream": true, "input": "hi"});
    let events = Open::send(&gateway, RESPONSES, TOKEN, &asked).events();
    let mut kinds: Vec<&str> = events.iter().filter_map(|it| it["type"].as_str()).collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(events.last().unwrap(), "[DONE]");
    for (at, event) in events[..events.len() - 1].iter().enumerate() {
        assert_eq!(event["sequence_number"], at);
    }
    let deltas: String = events
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(deltas, "One two.");
    let done = &events[events.len() - 2]["response"];
    assert_eq!(done["output"][0]["content"][0]["text"], "One two.");
    assert_eq!(done["usage"]["total_tokens"], 15);
    let events = Open::send(&gateway, RESPONSES, TOKEN, &asked).events();
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(last["response"]["error"]["code"], "model_unavailable");
}

#[test]
fn what_is_nothing_to_say_is_an_empty_answer() {
    let provider = Provider::start(vec![CHAT.text(&["NO_", "REPLY"])]);
    let gateway = started(&provider);
    let answer = body(&owner(&gateway, COMPLETIONS, &hi()));
    assert_eq!(answer["choices"][0]["message"]["content"], "");
    let events = Open::send(&gateway, COMPLETIONS, TOKEN, &streaming(hi())).events();
    assert_eq!(words(&events), "");
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[test]
fn the_models_are_the_agents() {
    let provider = Provider::start(vec![CHAT.text(&["Never."])]);
    let gateway = started(&provider);
    let list = body(&get(&gateway, "/v1/models", TOKEN));
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "openclaw",
            "openclaw/default",
            "openclaw/main",
            "openclaw/ops"
        ]
    );
    for name in ["openclaw", "openclaw/ops", "openclaw%2Fops", "clawgate:ops"] {
        let one = get(&gateway, &format!("/v1/models/{name}"), TOKEN);
        assert_eq!(one.status, 200, "{name}");
        assert_eq!(body(&one)["object"], "model");
    }
    for name in ["gpt-4o", "openclaw/nobody", "openclaw%2F..", "a/b/c", ""] {
        let none = get(&gateway, &format!("/v1/models/{name}"), TOKEN);
        assert_eq!(none.status, 404, "{name}");
    }
    assert_eq!(owner(&gateway, "/v1/models", &json!({})).status, 405);
    assert_eq!(get(&gateway, COMPLETIONS, TOKEN).status, 405);
}

#[test]
fn e44_bodies_that_are_none_are_refused_and_harm_nobody() {
    let provider = Provider::start(vec![CHAT.text(&["Still here."])]);
    let mut small = config(&provider);
    small["gateway"]["http"]["endpoints"]["chatCompletions"]["maxBodyBytes"] = json!(10_000);
    let gateway = gateway!(small);
    let picture = |url: &str| {
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        json!({"messages": [{"role": "user", "content": [part]}]}).to_string()
    };
    let with = |name: &str, value: Value| {
        let mut body = hi();
        body[name] = value;
        body.to_string()
    };
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str())];
    for text in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "\"hi\"".to_owned(),
        format!("{}{}", "[".repeat(4_000), "]".repeat(4_000)),
        json!({"messages": "hi"}).to_string(),
        json!({"messages": []}).to_string(),
        json!({"messages": [7, null]}).to_string(),
        json!({"messages": [{"role": "user", "content": {"a": 1}}]}).to_string(),
        json!({"messages": [{"role": "assistant", "content": "hi"}]}).to_string(),
        with("stream", json!("yes")),
        with("model", json!(7)),
        with("user", json!({})),
        with("n", json!(2)),
        with(
            "tools",
            json!([{"type": "function", "function": {"name": "x"}}]),
        ),
        with("response_format", json!({"type": "json_object"})),
        with("reasoning_effort", json!("immense")),
        picture("http://169.254.169.254/latest/meta-data"),
        picture("data:text/html;base64,aGk="),
        picture("data:image/png;base64,<>"),
        picture("file:///etc/passwd"),
    ] {
        let answer = post(gateway.address(), COMPLETIONS, &headers, &text);
        let shown: String = text.chars().take(100).collect();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.body);
        let error = body(&answer)["error"].clone();
        assert_eq!(error["type"], "invalid_request_error", "{shown}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    let long = with("user", json!("x".repeat(20_000)));
    assert_eq!(
        post(gateway.address(), COMPLETIONS, &headers, &long).status,
        413
    );
    let zipped = [headers[0], ("Content-Encoding", "gzip")];
    let zipped = post(gateway.address(), COMPLETIONS, &zipped, "x");
    assert_eq!(zipped.status, 415);
    let head = |secret: &str, more: &str| {
        format!(
            "POST {COMPLETIONS} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {secret}\r\n{more}\r\n\r\n",
            gateway.address(),
        )
    };
    let chunk = format!("{:x}\r\n{}\r\n", 9_000, " ".repeat(9_000));
    let endless = head(TOKEN, "Transfer-Encoding: chunked") + &chunk + &chunk;
    let mut endless = Open::raw(&gateway, &endless);
    assert!(endless.until("\r\n\r\n").starts_with("HTTP/1.1 413"));
    let mut unread = Open::raw(&gateway, &head("wrong", "Content-Length: 1000000000"));
    assert!(unread.until("\r\n\r\n").starts_with("HTTP/1.1 401"));
    assert!(provider.asked().is_empty(), "none of them became a turn");
    let seen = picture("data:image/png;base64,aGk=");
    let seen = post(gateway.address(), COMPLETIONS, &headers, &seen);
    assert_eq!(seen.status, 200, "{}", seen.body);
}

#[test]
fn e45_a_tool_is_called_only_where_the_door_for_it_is_open() {
    let gateway = gateway!();
    let call = |body: &Value| owner(&gateway, "/tools/invoke", body);
    for tool in [
        "no_such_tool",
        "exec",
        "sessions_spawn",
        "cron",
        "gateway",
        "Write",
    ] {
        let answer = call(&json!({"tool": tool, "args": {}}));
        assert_eq!(answer.status, 404, "{tool}");
        let said = body(&answer);
        assert_eq!(
            (&said["ok"], &said["error"]["type"]),
            (&json!(false), &json!("not_found"))
        );
    }
    for wrong in [
        json!({}),
        json!({"tool": " "}),
        json!({"tool": 7}),
        json!({"tool": "x", "args": []}),
        json!({"tool": "x", "dryRun": "yes"}),
        json!({"tool": "x", "sessionKey": "../x"}),
        json!({"tool": "x", "agentId": "nobody"}),
        json!({"tool": "x", "agentId": "main", "sessionKey": "agent:other:x"}),
    ] {
        let answer = call(&wrong);
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(body(&answer)["ok"], false, "{wrong}");
    }
    let read = json!({"tool": "read", "args": {"path": "AGENTS.md"}});
    let answer = call(&read);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = body(&answer)["result"]["content"][0]["text"].clone();
    assert!(text.as_str().unwrap().contains("AGENTS.md"), "{text}");
    let mut rehearsed = read;
    rehearsed["args"]["path"] = json!("nowhere");
    rehearsed["dryRun"] = json!(true);
    assert_eq!(body(&call(&rehearsed))["result"]["dryRun"], true);
    let outside = json!({"tool": "read", "args": {"path": "../gateway-token"}});
    let answer = call(&outside);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(body(&answer)["error"]["type"], "tool_error");
    let large = json!({"tool": "x", "args": {"text": "x".repeat(2 << 20)}});
    assert_eq!(call(&large).status, 413);
    assert_eq!(get(&gateway, "/tools/invoke", TOKEN).status, 405);
}
