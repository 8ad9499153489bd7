//! What a model wrote, read as what a tool takes.

use serde_json::Value;

use crate::tool::Output;

/// Arguments of a call.
#[derive(Clone, Copy)]
pub(super) struct Args<'a>(&'a Value);

/// Why they are none: what the model is told.
pub(super) type Misread = Output;

fn misread(text: impl Into<String>) -> Misread {
    Output::failed(text)
}

impl<'a> Args<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, Misread> {
        if value.is_object() {
            return Ok(Self(value));
        }
        Err(misread(
            "the arguments are no JSON object; call the tool again with an object",
        ))
    }

    /// A text, under the first of these names that is there.
    pub(super) fn text(self, names: &[&str]) -> Result<Option<&'a str>, Misread> {
        for name in names {
            match &self.0[*name] {
                Value::Null => {}
                Value::String(text) => return Ok(Some(text)),
                other => {
                    return Err(misread(format!(
                        "\"{name}\" must be a text, not {}",
                        kind(other)
                    )));
                }
            }
        }
        Ok(None)
    }

    /// A text that has to be there.
    pub(super) fn required(self, names: &[&str]) -> Result<&'a str, Misread> {
        self.text(names)?
            .ok_or_else(|| misread(format!("\"{}\" is missing", names[0])))
    }

    /// A whole number; one with a fraction or below zero is none.
    pub(super) fn number(self, name: &str) -> Result<Option<u64>, Misread> {
        let value = &self.0[name];
        if value.is_null() {
            return Ok(None);
        }
        // Models write 5.0 and "5" for 5.
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let text = text.trim();
        let text = text.strip_suffix(".0").unwrap_or(text);
        text.parse()
            .map(Some)
            .map_err(|_| misread(format!("\"{name}\" must be a whole number from 0 on")))
    }

    pub(super) fn flag(self, name: &str) -> Result<bool, Misread> {
        match &self.0[name] {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            other => Err(misread(format!(
                "\"{name}\" must be true or false, not {}",
                kind(other)
            ))),
        }
    }

    /// A list of texts.
    pub(super) fn texts(self, name: &str) -> Result<Vec<&'a str>, Misread> {
        match &self.0[name] {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str())
                .collect::<Option<_>>()
                .ok_or_else(|| misread(format!("\"{name}\" must be a list of texts"))),
            _ => Err(misread(format!("\"{name}\" must be a list of texts"))),
        }
    }

    /// An object of texts.
    pub(super) fn pairs(self, name: &str) -> Result<Vec<(&'a str, &'a str)>, Misread> {
        match &self.0[name] {
            Value::Null => Ok(Vec::new()),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| Some((key.as_str(), value.as_str()?)))
                .collect::<Option<_>>()
                .ok_or_else(|| misread(format!("the members of \"{name}\" must be texts"))),
            _ => Err(misread(format!("\"{name}\" must be an object"))),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
