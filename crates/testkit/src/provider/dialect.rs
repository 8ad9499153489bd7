//! How the providers' protocols say things.

use serde_json::{Value, json};

use super::{MODEL, Say};

/// A provider's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Anthropic,
    /// Google's `generateContent`.
    Google,
    /// Ollama's own.
    Ollama,
}

impl Dialect {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Chat,
        Self::Responses,
        Self::Anthropic,
        Self::Google,
        Self::Ollama,
    ];

    /// The word of the configuration.
    #[must_use]
    pub const fn api(self) -> &'static str {
        match self {
            Self::Chat => "openai-completions",
            Self::Responses => "openai-responses",
            Self::Anthropic => "anthropic-messages",
            Self::Google => "google-generative-ai",
            Self::Ollama => "ollama",
        }
    }

    pub(super) const fn base_path(self) -> &'static str {
        match self {
            Self::Chat | Self::Responses => "/v1",
            Self::Google => "/v1beta",
            Self::Anthropic | Self::Ollama => "",
        }
    }

    /// Says a text, each piece by itself. It read 12 tokens, 4 of them from a cache (Ollama knows
    /// no cache), and wrote 3.
    #[must_use]
    pub fn text(self, pieces: &[&str]) -> Say {
        self.answer(pieces, &[])
    }

    /// Calls tools: id, name, arguments. Ids are only told where the protocol has them.
    #[must_use]
    pub fn calls(self, calls: &[(&str, &str, Value)]) -> Say {
        self.answer(&[], calls)
    }

    /// Says a text, then calls tools.
    #[must_use]
    pub fn answer(self, pieces: &[&str], calls: &[(&str, &str, Value)]) -> Say {
        let blocks = match self {
            Self::Chat => chat(pieces, calls),
            Self::Responses => responses(pieces, calls),
            Self::Anthropic => anthropic(pieces, calls),
            Self::Google => google(pieces, calls),
            Self::Ollama => ollama(pieces, calls),
        };
        let say = Say::stream(blocks);
        if self == Self::Ollama {
            return say.header("content-type", "application/x-ndjson");
        }
        say
    }

    /// One event of the protocol.
    #[must_use]
    pub fn block(self, value: &Value) -> String {
        match self {
            Self::Ollama => format!("{value}\n"),
            Self::Chat | Self::Google => format!("data: {value}\n\n"),
            Self::Responses | Self::Anthropic => {
                let name = value["type"].as_str().unwrap_or("message");
                format!("event: {name}\ndata: {value}\n\n")
            }
        }
    }

    /// An event that says some text.
    #[must_use]
    pub fn piece(self, text: &str) -> String {
        self.block(&match self {
            Self::Chat => chat_chunk(&json!({"content": text}), None),
            Self::Responses => {
                json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text})
            }
            Self::Anthropic => {
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
            }
            Self::Google => {
                json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}], "modelVersion": MODEL})
            }
            Self::Ollama => {
                json!({"model": MODEL, "message": {"role": "assistant", "content": text}, "done": false})
            }
        })
    }

    /// An event that says that something went wrong in the middle.
    #[must_use]
    pub fn trouble(self, words: &str) -> String {
        self.block(&match self {
            Self::Chat => json!({"error": {"message": words, "type": "overloaded_error"}}),
            Self::Responses => {
                json!({"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "error": {"code": "overloaded_error", "message": words}}})
            }
            Self::Anthropic => {
                json!({"type": "error", "error": {"type": "overloaded_error", "message": words}})
            }
            Self::Google => {
                json!({"error": {"code": 503, "message": words, "status": "UNAVAILABLE"}})
            }
            Self::Ollama => json!({"error": words}),
        })
    }
}

fn chat_chunk(delta: &Value, finish: Option<&str>) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn chat(pieces: &[&str], calls: &[(&str, &str, Value)]) -> Vec<String> {
    let dialect = Dialect::Chat;
    let mut blocks = vec![dialect.block(&chat_chunk(&json!({"role": "assistant"}), None))];
    blocks.extend(pieces.iter().map(|text| dialect.piece(text)));
    for (index, (id, name, arguments)) in calls.iter().enumerate() {
        let begun = json!({"tool_calls": [{"index": index, "id": id, "type": "function",
                           "function": {"name": name, "arguments": ""}}]});
        blocks.push(dialect.block(&chat_chunk(&begun, None)));
        for half in halves(&arguments.to_string()) {
            let more = json!({"tool_calls": [{"index": index, "function": {"arguments": half}}]});
            blocks.push(dialect.block(&chat_chunk(&more, None)));
        }
    }
    let finish = if calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    blocks.push(dialect.block(&chat_chunk(&json!({}), Some(finish))));
    blocks.push(dialect.block(
        &json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15,
                  "prompt_tokens_details": {"cached_tokens": 4}}}),
    ));
    blocks.push("data: [DONE]\n\n".to_owned());
    blocks
}

fn responses(pieces: &[&str], calls: &[(&str, &str, Value)]) -> Vec<String> {
    let dialect = Dialect::Responses;
    let mut events = vec![json!({"type": "response.created",
        "response": {"id": "resp_1", "object": "response", "status": "in_progress", "model": MODEL}})];
    let mut output = Vec::new();
    let mut blocks: Vec<String> = Vec::new();
    if !pieces.is_empty() {
        events.push(json!({"type": "response.output_item.added", "output_index": 0,
            "item": {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}}));
        output.push(
            json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": pieces.concat(), "annotations": []}]}),
        );
    }
    blocks.extend(events.iter().map(|event| dialect.block(event)));
    blocks.extend(pieces.iter().map(|text| dialect.piece(text)));
    for (index, (id, name, arguments)) in calls.iter().enumerate() {
        let index = index + output.len().min(1);
        let item = |arguments: &str, status: &str| {
            json!({"id": format!("fc_{id}"), "type": "function_call", "status": status,
                   "call_id": id, "name": name, "arguments": arguments})
        };
        blocks.push(dialect.block(&json!({"type": "response.output_item.added",
            "output_index": index, "item": item("", "in_progress")})));
        let whole = arguments.to_string();
        for half in halves(&whole) {
            blocks.push(
                dialect.block(&json!({"type": "response.function_call_arguments.delta",
                "item_id": format!("fc_{id}"), "output_index": index, "delta": half})),
            );
        }
        blocks.push(dialect.block(&json!({"type": "response.output_item.done",
            "output_index": index, "item": item(&whole, "completed")})));
    }
    output.extend(calls.iter().map(|(id, name, arguments)| {
        json!({"id": format!("fc_{id}"), "type": "function_call", "status": "completed",
               "call_id": id, "name": name, "arguments": arguments.to_string()})
    }));
    blocks.push(dialect.block(&json!({"type": "response.completed", "response": {
        "id": "resp_1", "object": "response", "status": "completed", "model": MODEL, "output": output,
        "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 4},
                  "output_tokens": 3, "total_tokens": 15}}})));
    blocks
}

fn anthropic(pieces: &[&str], calls: &[(&str, &str, Value)]) -> Vec<String> {
    let dialect = Dialect::Anthropic;
    let mut blocks = vec![dialect.block(&json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": MODEL,
        "usage": {"input_tokens": 8, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0,
                  "output_tokens": 1}}}))];
    let mut index = 0;
    if !pieces.is_empty() {
        blocks.push(
            dialect.block(&json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""}})),
        );
        blocks.extend(pieces.iter().map(|text| dialect.piece(text)));
        blocks.push(dialect.block(&json!({"type": "content_block_stop", "index": 0})));
        index = 1;
    }
    for (id, name, arguments) in calls {
        blocks.push(
            dialect.block(&json!({"type": "content_block_start", "index": index,
            "content_block": {"type": "tool_use", "id": id, "name": name, "input": {}}})),
        );
        for half in halves(&arguments.to_string()) {
            blocks.push(
                dialect.block(&json!({"type": "content_block_delta", "index": index,
                "delta": {"type": "input_json_delta", "partial_json": half}})),
            );
        }
        blocks.push(dialect.block(&json!({"type": "content_block_stop", "index": index})));
        index += 1;
    }
    let reason = if calls.is_empty() {
        "end_turn"
    } else {
        "tool_use"
    };
    blocks.push(dialect.block(&json!({"type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 3}})));
    blocks.push(dialect.block(&json!({"type": "message_stop"})));
    blocks
}

fn google(pieces: &[&str], calls: &[(&str, &str, Value)]) -> Vec<String> {
    let dialect = Dialect::Google;
    let mut blocks: Vec<String> = pieces.iter().map(|text| dialect.piece(text)).collect();
    let parts: Vec<Value> = calls
        .iter()
        .map(|(_, name, arguments)| json!({"functionCall": {"name": name, "args": arguments}}))
        .collect();
    blocks.push(dialect.block(&json!({
        "candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 3, "totalTokenCount": 15,
                          "cachedContentTokenCount": 4},
        "modelVersion": MODEL,
    })));
    blocks
}

fn ollama(pieces: &[&str], calls: &[(&str, &str, Value)]) -> Vec<String> {
    let dialect = Dialect::Ollama;
    let mut blocks: Vec<String> = pieces.iter().map(|text| dialect.piece(text)).collect();
    if !calls.is_empty() {
        let calls: Vec<Value> = calls
            .iter()
            .map(|(_, name, arguments)| json!({"function": {"name": name, "arguments": arguments}}))
            .collect();
        blocks.push(dialect.block(&json!({"model": MODEL, "done": false,
            "message": {"role": "assistant", "content": "", "tool_calls": calls}})));
    }
    blocks.push(
        dialect.block(&json!({"model": MODEL, "done": true, "done_reason": "stop",
        "message": {"role": "assistant", "content": ""}, "prompt_eval_count": 12, "eval_count": 3})),
    );
    blocks
}

/// Both halves of a text, as it is streamed.
fn halves(text: &str) -> [String; 2] {
    let middle = text
        .char_indices()
        .nth(text.chars().count() / 2)
        .map_or(0, |(at, _)| at);
    [text[..middle].to_owned(), text[middle..].to_owned()]
}
