//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use hyper::Response;
use serde_json::{Map, Value, json};

use super::{
    Fault, is_set, now_seconds,
    said::Said,
    session::Place,
    text,
    turn::{self, Shape, Wish},
    without_tools,
};
use crate::{Gateway, listen::Request, methods::turn::thinking, turns::Ended, web::guard::Caller};

pub(super) async fn answer(
    gateway: &Arc<Gateway>,
    request: &Request,
    caller: Caller,
    members: &Map<String, Value>,
) -> Result<Response<Body>, Fault> {
    without_tools(members)?;
    if members.get("n").is_some_and(|n| !n.is_null() && *n != 1) {
        return Err(Fault::invalid("n", "an agent answers once: n must be 1"));
    }
    let format = members.get("response_format").map(|format| &format["type"]);
    if format.is_some_and(|kind| !kind.is_null() && kind != "text") {
        let message = "an agent answers with text: other formats are not served";
        return Err(Fault::invalid("response_format", message));
    }
    let message = read(members)?.message("messages")?;
    let model = text(members, "model")?;
    let place = Place {
        prefix: "openai",
        model,
        user: text(members, "user")?,
        previous: None,
    };
    let thinking = thinking(text(members, "reasoning_effort")?.map(str::to_owned))
        .map_err(|shape| Fault::invalid("reasoning_effort", shape.message))?;
    let streams = is_set(members, "stream")?;
    let key = place.key(gateway, request, &caller).await?;
    let run_id = format!("chatcmpl_{}", uuid::Uuid::new_v4());
    let shape = Completion {
        id: run_id.clone(),
        model: model.unwrap_or("openclaw").to_owned(),
        created: now_seconds(),
        tells_usage: members
            .get("stream_options")
            .is_some_and(|options| options["include_usage"] == true),
    };
    let wish = Wish {
        run_id,
        key,
        message,
        thinking,
        streams,
    };
    turn::answer(gateway, request, caller, wish, shape).await
}

fn read(members: &Map<String, Value>) -> Result<Said, Fault> {
    let messages = members.get("messages").and_then(Value::as_array);
    let messages = messages.filter(|list| !list.is_empty()).ok_or_else(|| {
        Fault::invalid("messages", "messages must be a list with something in it")
    })?;
    let mut said = Said::default();
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        let call = message["tool_call_id"]
            .as_str()
            .or(message["name"].as_str());
        said.takes(
            "messages",
            role,
            &message["content"],
            call.unwrap_or_default(),
        )?;
    }
    Ok(said)
}

/// The shape of completions and their chunks.
struct Completion {
    id: String,
    model: String,
    created: i64,
    tells_usage: bool,
}

impl Completion {
    fn chunk(&self, choices: &Value, usage: Option<Value>) -> String {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "choices": choices,
        });
        if self.tells_usage {
            chunk["usage"] = usage.unwrap_or_default();
        }
        format!("data: {chunk}\n\n")
    }

    fn delta(&self, delta: &Value, finish: Option<&str>) -> String {
        self.chunk(
            &json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]),
            None,
        )
    }
}

fn usage(ended: &Ended) -> Value {
    let usage = ended.usage;
    let prompt = usage.input + usage.cache_read + usage.cache_write;
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
    })
}

impl Shape for Completion {
    fn whole(&self, ended: &Ended) -> Value {
        let said = if ended.is_silent() { "" } else { &ended.text };
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": said, "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": usage(ended),
        })
    }

    fn opening(&mut self) -> String {
        self.delta(&json!({"role": "assistant", "content": ""}), None)
    }

    fn words(&mut self, words: &str) -> String {
        self.delta(&json!({"content": words}), None)
    }

    fn closing(&mut self, ended: &Ended) -> String {
        let mut text = self.delta(&json!({}), Some("stop"));
        if self.tells_usage {
            text.push_str(&self.chunk(&json!([]), Some(usage(ended))));
        }
        text.push_str("data: [DONE]\n\n");
        text
    }

    fn failed(&mut self, fault: &Fault) -> String {
        // Without `[DONE]`: who overlooks the error sees that the answer is not whole.
        format!("data: {}\n\n", fault.value())
    }
}
