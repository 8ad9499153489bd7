//! Channels, messages through them, browsers and pushes. None of these services is here: questions
//! are answered truthfully, and what needs one is refused in the original's words.

use clawgate_protocol::ErrorShape;
use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, now},
};

pub(crate) fn status(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        Ok(Reply::json(&json!({
            "ts": now_ms(),
            "channelOrder": [],
            "channelLabels": {},
            "channelDetailLabels": {},
            "channelSystemImages": {},
            "channelMeta": [],
            "channels": {},
            "channelAccounts": {},
            "channelDefaultAccountId": {},
        })))
    })
}

pub(crate) fn logout(call: &Call<'_>) -> Answer {
    now(|| {
        call.value()?;
        Err(ErrorShape::invalid("invalid channels.logout channel"))
    })
}

pub(crate) fn login(call: &Call<'_>) -> Answer {
    now(|| {
        call.value()?;
        Err(ErrorShape::invalid("web login provider is not available"))
    })
}

fn text<'a>(params: &'a Value, key: &str) -> &'a str {
    params
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim()
}

/// There is no channel to take.
fn no_channel(asked: Option<&str>, unsupported: &str) -> ErrorShape {
    match asked {
        None => {
            ErrorShape::invalid("Error: Channel is required (no configured channels detected).")
        }
        Some(channel) => ErrorShape::invalid(format!("{unsupported}: {channel}")),
    }
}

pub(crate) fn send(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.value()?;
        let urls = params.get("mediaUrls").and_then(Value::as_array);
        let has_urls = urls
            .into_iter()
            .flatten()
            .any(|url| url.as_str().is_some_and(|url| !url.trim().is_empty()));
        let is_empty = ["message", "mediaUrl", "buffer"]
            .iter()
            .all(|key| text(&params, key).is_empty());
        if is_empty && !has_urls {
            return Err(call.invalid("text or media is required"));
        }
        let asked = params.get("channel").and_then(Value::as_str);
        if asked.is_some_and(|channel| channel.trim().eq_ignore_ascii_case("webchat")) {
            return Err(ErrorShape::invalid(
                "unsupported channel: webchat (internal-only). Use `chat.send` for WebChat UI \
                 messages or choose a deliverable channel.",
            ));
        }
        Err(no_channel(asked, "unsupported channel"))
    })
}

pub(crate) fn poll(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.value()?;
        let asked = params.get("channel").and_then(Value::as_str);
        Err(no_channel(asked, "unsupported poll channel"))
    })
}

pub(crate) fn push_test(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.value()?;
        Err(ErrorShape::invalid(format!(
            "node {} has no APNs registration (connect iOS node first)",
            text(&params, "nodeId")
        )))
    })
}

pub(crate) fn browser(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.unchecked()?;
        let method = text(&params, "method").to_ascii_uppercase();
        let path = text(&params, "path");
        if method.is_empty() || path.is_empty() {
            return Err(ErrorShape::invalid("method and path are required"));
        }
        if !["GET", "POST", "DELETE"].contains(&method.as_str()) {
            return Err(ErrorShape::invalid("method must be GET, POST, or DELETE"));
        }
        let path = format!("/{}", path.trim_matches('/'));
        let deletes = path
            .strip_prefix("/profiles/")
            .is_some_and(|name| method == "DELETE" && !name.contains('/'));
        if deletes || (method == "POST" && path == "/profiles/create") {
            return Err(ErrorShape::invalid(
                "browser.request cannot create or delete persistent browser profiles",
            ));
        }
        Err(ErrorShape::unavailable("browser control is disabled")
            .with_details(json!({"code": "BROWSER_UNAVAILABLE"})))
    })
}
