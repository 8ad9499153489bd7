//! What a request says: system texts, what was said before, what is said now.

use std::fmt::Write as _;

use clawgate_protocol::ErrorShape;
use serde_json::{Value, json};

use super::Fault;
use crate::{
    methods::turn::{images, words},
    turns::Image,
};

/// Who says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    User,
    Assistant,
    /// A tool of the caller, by the name of its call.
    Tool(String),
}

#[derive(Clone, Debug)]
struct Line {
    speaker: Speaker,
    text: String,
    /// Pictures as `methods::turn` takes them.
    pictures: Vec<Value>,
}

/// Everything that a request says.
#[derive(Debug, Default)]
pub(super) struct Said {
    system: Vec<String>,
    lines: Vec<Line>,
}

/// What a turn is made of.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) images: Vec<Image>,
    /// What the agent is told besides.
    pub(super) system: Option<String>,
}

impl Said {
    /// Something that the agent is told besides.
    pub(super) fn tells(&mut self, text: &str) {
        if !text.trim().is_empty() {
            self.system.push(text.to_owned());
        }
    }

    /// Reads what a role says: a text, or parts of one.
    pub(super) fn takes(
        &mut self,
        param: &'static str,
        role: &str,
        content: &Value,
        call: &str,
    ) -> Result<(), Fault> {
        let speaker = match role {
            "system" | "developer" => {
                let (text, _) = parts(param, content)?;
                self.tells(&text);
                return Ok(());
            }
            "user" => Speaker::User,
            "assistant" => Speaker::Assistant,
            "tool" | "function" => Speaker::Tool(call.chars().take(200).collect()),
            _ => {
                return Err(Fault::invalid(
                    param,
                    "a role is system, developer, user, assistant or tool",
                ));
            }
        };
        let (text, pictures) = parts(param, content)?;
        // An assistant that only called tools said nothing.
        if !text.trim().is_empty() || !pictures.is_empty() {
            self.lines.push(Line {
                speaker,
                text,
                pictures,
            });
        }
        Ok(())
    }

    /// Puts it together: what was said before is told as text, before what is said now.
    pub(super) fn message(mut self, param: &'static str) -> Result<Message, Fault> {
        let wrong = |shape: ErrorShape| Fault::invalid(param, shape.message);
        let now = self.lines.pop();
        let Some(now) = now.filter(|line| line.speaker != Speaker::Assistant) else {
            return Err(Fault::invalid(
                param,
                "the last message must be one of the user or of a tool, with something in it",
            ));
        };
        let mut text = String::new();
        for line in &self.lines {
            if text.is_empty() {
                text.push_str("What was said before:\n\n");
            }
            let who = match &line.speaker {
                Speaker::User => "User".to_owned(),
                Speaker::Assistant => "You".to_owned(),
                Speaker::Tool(call) => format!("Result of the tool call {call}"),
            };
            let pictures = if line.pictures.is_empty() {
                ""
            } else {
                " (with pictures that are not shown again)"
            };
            let _ = write!(text, "{who}{pictures}: {}\n\n", line.text.trim());
        }
        let is_alone = text.is_empty();
        match &now.speaker {
            Speaker::Tool(call) => {
                let _ = write!(text, "Result of the tool call {call}:\n\n");
            }
            _ if is_alone => {}
            _ => text.push_str("What is said now:\n\n"),
        }
        if now.text.trim().is_empty() {
            text.push_str("(pictures without words)");
        } else {
            text.push_str(&now.text);
        }
        let system = self.system.join("\n\n");
        Ok(Message {
            text: words(&text).map_err(wrong)?,
            images: images(&now.pictures).map_err(wrong)?,
            system: Some(words(&system).map_err(wrong)?).filter(|text| !text.is_empty()),
        })
    }
}

/// The text and the pictures of a content.
fn parts(param: &'static str, content: &Value) -> Result<(String, Vec<Value>), Fault> {
    let list = match content {
        Value::Null => return Ok((String::new(), Vec::new())),
        Value::String(text) => return Ok((text.clone(), Vec::new())),
        Value::Array(list) => list,
        _ => {
            return Err(Fault::invalid(
                param,
                "content must be a text or a list of parts",
            ));
        }
    };
    let (mut texts, mut pictures) = (Vec::new(), Vec::new());
    for part in list {
        let kind = part["type"].as_str().unwrap_or_default();
        match kind {
            "text" | "input_text" | "output_text" | "refusal" => {
                let text = part["text"].as_str().or(part["refusal"].as_str());
                let missing = || Fault::invalid(param, "a part of a text has no text");
                texts.push(text.ok_or_else(missing)?);
            }
            "image_url" | "input_image" => pictures.push(picture(param, part)?),
            _ => {
                let kind: String = kind.chars().take(50).collect();
                let message =
                    format!("parts of the type \"{kind}\" are not taken: text and pictures are");
                return Err(Fault::invalid(param, message).code("unsupported_part"));
            }
        }
    }
    Ok((texts.join("\n"), pictures))
}

/// A picture that is in the request itself. Nothing is fetched for a caller.
fn picture(param: &'static str, part: &Value) -> Result<Value, Fault> {
    let source = &part["source"];
    if source["type"] == "base64" {
        return Ok(json!({"mimeType": source["media_type"], "content": source["data"]}));
    }
    let url = &part["image_url"];
    let url = url.as_str().or_else(|| url["url"].as_str());
    let inline = url
        .and_then(|url| url.strip_prefix("data:"))
        .and_then(|url| url.split_once(";base64,"));
    match inline {
        Some((mime, data)) => Ok(json!({"mimeType": mime, "content": data})),
        None => Err(Fault::invalid(
            param,
            "pictures are taken as data: addresses with base64 alone",
        )
        .code("unsupported_image")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[(&str, Value)]) -> Result<Message, Fault> {
        let mut said = Said::default();
        for (role, content) in lines {
            said.takes("messages", role, content, "look")?;
        }
        said.message("messages")
    }

    #[test]
    fn one_message_is_told_as_it_is_and_earlier_ones_before_it() {
        let one = said(&[("system", json!("Be short.")), ("user", json!("hi"))]).unwrap();
        assert_eq!(one.text, "hi");
        assert_eq!(one.system.as_deref(), Some("Be short."));
        let more = said(&[
            ("user", json!("a?")),
            ("assistant", json!([{"type": "text", "text": "b."}])),
            ("assistant", json!(null)),
            ("tool", json!("42")),
            ("user", json!("c?")),
        ])
        .unwrap();
        assert_eq!(
            more.text,
            "What was said before:\n\nUser: a?\n\nYou: b.\n\nResult of the tool call look: 42\n\n\
             What is said now:\n\nc?"
        );
        assert_eq!(more.system, None);
    }

    #[test]
    fn what_an_agent_would_not_see_is_refused() {
        let remote = json!([{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}]);
        let file = json!([{"type": "input_file", "file_id": "f"}]);
        for (role, content) in [
            ("user", remote),
            ("user", file),
            ("user", json!("")),
            ("user", json!(7)),
            ("user", json!([{"type": "text"}])),
            ("assistant", json!("the last word")),
            ("root", json!("hi")),
            ("user", json!("a\u{0}b")),
        ] {
            let fault = said(&[(role, content)]).unwrap_err();
            assert_eq!(fault.status, 400, "{}", fault.message);
        }
        let seen =
            json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]);
        let seen = said(&[("user", seen)]).unwrap();
        assert_eq!(
            (seen.images.len(), seen.images[0].mime.as_str()),
            (1, "image/png")
        );
    }
}
