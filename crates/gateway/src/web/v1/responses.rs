//! `POST /v1/responses`.

use std::sync::Arc;

use axum::body::Body;
use hyper::Response;
use serde_json::{Map, Value, json};

use super::{
    Fault, is_set, now_seconds,
    said::Said,
    session::{Place, response_id},
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
    if is_set(members, "background")? {
        return Err(Fault::invalid(
            "background",
            "responses are not made in the background",
        ));
    }
    if members.get("conversation").is_some_and(|it| !it.is_null()) {
        let message = "conversations are not served; use previous_response_id or user";
        return Err(Fault::invalid("conversation", message));
    }
    let format = members.get("text").map(|text| &text["format"]["type"]);
    if format.is_some_and(|kind| !kind.is_null() && kind != "text") {
        let message = "an agent answers with text: other formats are not served";
        return Err(Fault::invalid("text", message));
    }
    let message = read(members)?.message("input")?;
    let (model, previous) = (
        text(members, "model")?,
        text(members, "previous_response_id")?,
    );
    let place = Place {
        prefix: "openresponses",
        model,
        user: text(members, "user")?,
        previous,
    };
    let effort = members
        .get("reasoning")
        .and_then(|it| it["effort"].as_str());
    let thinking = thinking(effort.map(str::to_owned))
        .map_err(|shape| Fault::invalid("reasoning", shape.message))?;
    let streams = is_set(members, "stream")?;
    let key = place.key(gateway, request, &caller).await?;
    let run_id = response_id(&caller);
    let shape = Reply {
        item: format!("msg_{}", uuid::Uuid::new_v4().simple()),
        model: model.unwrap_or("openclaw").to_owned(),
        created: now_seconds(),
        instructions: members.get("instructions").cloned().unwrap_or_default(),
        metadata: members.get("metadata").cloned().unwrap_or(json!({})),
        previous: previous.map(str::to_owned),
        id: run_id.clone(),
        number: 0,
        said: String::new(),
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
    let mut said = Said::default();
    said.tells(text(members, "instructions")?.unwrap_or_default());
    let items = match members.get("input") {
        Some(Value::String(text)) => {
            said.takes("input", "user", &json!(text), "")?;
            return Ok(said);
        }
        Some(Value::Array(items)) => items,
        _ => {
            return Err(Fault::invalid(
                "input",
                "input must be a text or a list of items",
            ));
        }
    };
    for item in items {
        let call = item["call_id"].as_str().unwrap_or_default();
        match item["type"].as_str().unwrap_or("message") {
            "message" => {
                let role = item["role"].as_str().unwrap_or_default();
                said.takes("input", role, &item["content"], call)?;
            }
            "function_call_output" => said.takes("input", "tool", &item["output"], call)?,
            // What was thought or called before is nothing that was said.
            "reasoning" | "item_reference" | "function_call" => {}
            kind => {
                let kind: String = kind.chars().take(50).collect();
                let message = format!("items of the type \"{kind}\" are not taken");
                return Err(Fault::invalid("input", message).code("unsupported_item"));
            }
        }
    }
    Ok(said)
}

/// The shape of a response and its events.
struct Reply {
    id: String,
    item: String,
    model: String,
    created: i64,
    instructions: Value,
    metadata: Value,
    previous: Option<String>,
    /// Of the next event.
    number: u64,
    said: String,
}

impl Reply {
    fn part(words: &str) -> Value {
        json!({"type": "output_text", "text": words, "annotations": [], "logprobs": []})
    }

    fn message(&self, status: &str, content: &Value) -> Value {
        json!({
            "type": "message", "id": self.item, "status": status, "role": "assistant",
            "content": content,
        })
    }

    fn response(&self, status: &str, output: &Value, error: &Value, usage: &Value) -> Value {
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "model": self.model, "output": output, "error": error, "usage": usage,
            "incomplete_details": null, "instructions": self.instructions,
            "metadata": self.metadata, "previous_response_id": self.previous,
            "parallel_tool_calls": false, "tool_choice": "auto", "tools": [],
        })
    }

    fn completed(&self, ended: &Ended, said: &str) -> Value {
        let message = self.message("completed", &json!([Self::part(said)]));
        let usage = ended.usage;
        let input = usage.input + usage.cache_read + usage.cache_write;
        let usage = json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": usage.cache_read},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input + usage.output,
        });
        self.response("completed", &json!([message]), &Value::Null, &usage)
    }

    fn event(&mut self, kind: &str, mut data: Value) -> String {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.number);
        self.number += 1;
        format!("event: {kind}\ndata: {data}\n\n")
    }

    /// An event about the text of the answer.
    fn of_text(&mut self, kind: &str, member: &str, value: Value) -> String {
        let mut data = json!({"item_id": self.item, "output_index": 0, "content_index": 0});
        data[member] = value;
        self.event(kind, data)
    }

    /// An event about the message.
    fn of_item(&mut self, kind: &str, item: &Value) -> String {
        self.event(kind, json!({"output_index": 0, "item": item}))
    }
}

impl Shape for Reply {
    fn whole(&self, ended: &Ended) -> Value {
        let said = if ended.is_silent() { "" } else { &ended.text };
        self.completed(ended, said)
    }

    fn opening(&mut self) -> String {
        let response = self.response("in_progress", &json!([]), &Value::Null, &Value::Null);
        let item = self.message("in_progress", &json!([]));
        [
            self.event("response.created", json!({"response": response})),
            self.event("response.in_progress", json!({"response": response})),
            self.of_item("response.output_item.added", &item),
            self.of_text("response.content_part.added", "part", Self::part("")),
        ]
        .concat()
    }

    fn words(&mut self, words: &str) -> String {
        self.said.push_str(words);
        self.of_text("response.output_text.delta", "delta", json!(words))
    }

    fn closing(&mut self, ended: &Ended) -> String {
        let said = std::mem::take(&mut self.said);
        let response = self.completed(ended, &said);
        let item = response["output"][0].clone();
        [
            self.of_text("response.output_text.done", "text", json!(said)),
            self.of_text("response.content_part.done", "part", Self::part(&said)),
            self.of_item("response.output_item.done", &item),
            self.event("response.completed", json!({"response": response})),
            "data: [DONE]\n\n".to_owned(),
        ]
        .concat()
    }

    fn failed(&mut self, fault: &Fault) -> String {
        let error = json!({"code": fault.code.unwrap_or(fault.kind), "message": fault.message});
        let output = if self.said.is_empty() {
            json!([])
        } else {
            json!([self.message("incomplete", &json!([Self::part(&self.said)]))])
        };
        let response = self.response("failed", &output, &error, &Value::Null);
        self.event("response.failed", json!({"response": response}))
    }
}
