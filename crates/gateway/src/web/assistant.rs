//! How an agent shows itself on a page: its name and its picture, as the configuration has them.

use std::{path::Path, sync::Arc};

use serde_json::Value;

use crate::config::Config;

const NAME_MAX: usize = 50;
const AVATAR_MAX: usize = 200;
/// Bytes of a picture file at most.
pub(super) const PICTURE_MAX: u64 = 2 * 1024 * 1024;
const PICTURES: &[&str] = &["png", "jpg", "jpeg", "gif", "webp", "svg"];

/// An agent's picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// There is none.
    None,
    /// An address that a page loads by itself: `https:`, or `data:image/`.
    Address(String),
    /// A file below the agent's workspace.
    File(Arc<Path>, String),
}

/// What a page calls the agent: `ui.assistant.name`, else the agent's own.
pub(super) fn name(config: &Config, agent: &str) -> String {
    let ui = config.snapshot.parsed.pointer("/ui/assistant/name");
    let own = entry(config, agent).and_then(|agent| agent.pointer("/identity/name"));
    cut(ui, NAME_MAX)
        .or_else(|| cut(own, NAME_MAX))
        .unwrap_or_else(|| "Assistant".to_owned())
}

/// What a page shows for the agent: an address, or a few characters.
pub(super) fn avatar(config: &Config, agent: &str, base_path: &str) -> String {
    let ui = config.snapshot.parsed.pointer("/ui/assistant/avatar");
    let identity = entry(config, agent).and_then(|agent| agent.get("identity"));
    let of = |key: &str| identity.and_then(|identity| identity.get(key));
    let shown = |text: String| {
        if is_address(&text) {
            return Some(text);
        }
        if text.contains(['/', '\\']) || PICTURES.contains(&super::files::extension(&text).as_str())
        {
            return Some(format!("{base_path}/avatar/{agent}"));
        }
        let is_short = text.chars().count() <= 4 && !text.contains(char::is_whitespace);
        is_short.then_some(text)
    };
    [ui, of("avatar"), of("emoji")]
        .into_iter()
        .find_map(|value| cut(value, AVATAR_MAX).and_then(shown))
        .unwrap_or_else(|| "A".to_owned())
}

/// The picture that `agents.list[].identity.avatar` names.
pub(super) fn picture(config: &Config, agent: &str) -> Picture {
    let text = entry(config, agent)
        .and_then(|agent| agent.pointer("/identity/avatar"))
        .and_then(Value::as_str)
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let Some(text) = text else {
        return Picture::None;
    };
    if is_address(text) {
        return Picture::Address(text.to_owned());
    }
    let Some(workspace) = workspace(config, agent) else {
        return Picture::None;
    };
    // A path from the root is good if it lies in the workspace all the same.
    let below = match Path::new(text).strip_prefix(&workspace) {
        Ok(below) => below.to_str().unwrap_or_default(),
        Err(_) => text.strip_prefix("./").unwrap_or(text),
    };
    if PICTURES.contains(&super::files::extension(below).as_str()) {
        Picture::File(workspace, below.to_owned())
    } else {
        Picture::None
    }
}

fn workspace(config: &Config, agent: &str) -> Option<Arc<Path>> {
    let own = entry(config, agent).and_then(|agent| agent.get("workspace"));
    let common = config.snapshot.parsed.pointer("/agents/defaults/workspace");
    let text = own.or(common)?.as_str()?.trim();
    let path = match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => text.into(),
    };
    path.is_absolute().then(|| path.into())
}

fn entry<'a>(config: &'a Config, agent: &str) -> Option<&'a Value> {
    let list = config.snapshot.parsed.pointer("/agents/list")?.as_array()?;
    list.iter().find(|entry| {
        let id = entry.get("id").and_then(Value::as_str).unwrap_or_default();
        id.eq_ignore_ascii_case(agent)
    })
}

fn is_address(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["https://", "http://", "data:image/"]
        .iter()
        .any(|scheme| lower.starts_with(scheme))
}

fn cut(value: Option<&Value>, max: usize) -> Option<String> {
    let text = value?.as_str()?.trim();
    (!text.is_empty()).then(|| text.chars().take(max).collect())
}
