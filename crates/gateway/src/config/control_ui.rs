//! `gateway.controlUi`: where the page comes from; and what every answer's headers say.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::look::Look;

/// `gateway.controlUi`, as far as files are concerned.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlUi {
    pub enabled: bool,
    /// Directory of a built UI.
    pub root: Option<PathBuf>,
    /// Empty, or `/like/this`.
    pub base_path: String,
    /// `gateway.http.securityHeaders.strictTransportSecurity`.
    pub strict_transport: Option<String>,
}

impl ControlUi {
    /// Reads both sections of `gateway`; `ui` is `controlUi`.
    pub(super) fn read(
        look: &mut Look,
        gateway: &Map<String, Value>,
        ui: &Map<String, Value>,
    ) -> Self {
        let enabled = look.boolean(ui, "gateway.controlUi.enabled", "enabled");
        let base = look.text(ui, "gateway.controlUi.basePath", "basePath");
        Self {
            enabled: enabled.unwrap_or(true),
            root: root(look, ui),
            base_path: mount(look, "gateway.controlUi.basePath", base).unwrap_or_default(),
            strict_transport: strict_transport(look, gateway),
        }
    }
}

fn root(look: &mut Look, ui: &Map<String, Value>) -> Option<PathBuf> {
    let path = "gateway.controlUi.root";
    let text = look.text(ui, path, "root")?;
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let root = match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    };
    if !root.is_absolute() {
        look.refuse(
            path,
            "expected the absolute path of a directory with an index.html".to_owned(),
        );
        return None;
    }
    Some(root)
}

/// A path that something is served below, without its last slash; `/` alone is empty.
pub(super) fn mount(look: &mut Look, path: &str, text: Option<String>) -> Option<String> {
    let text = text?;
    let trimmed = text.trim().trim_matches('/');
    if trimmed.is_empty() {
        return Some(String::new());
    }
    let is_plain = |segment: &str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    if !trimmed.split('/').all(is_plain) {
        look.refuse(
            path,
            format!(
                "expected a path such as \"/name\", of letters, digits and -._~, found {text:?}"
            ),
        );
        return None;
    }
    Some(format!("/{trimmed}"))
}

fn strict_transport(look: &mut Look, gateway: &Map<String, Value>) -> Option<String> {
    let path = "gateway.http.securityHeaders.strictTransportSecurity";
    let value = gateway
        .get("http")?
        .get("securityHeaders")?
        .get("strictTransportSecurity")?;
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) if text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => {
            Some(text.trim().to_owned())
        }
        _ => {
            look.refuse(path, "expected the header's text, or false".to_owned());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(ui: &Value) -> (ControlUi, Vec<String>) {
        let mut look = Look::default();
        let gateway = json!({"controlUi": ui});
        let read = ControlUi::read(
            &mut look,
            gateway.as_object().expect("an object"),
            ui.as_object().expect("an object"),
        );
        let refused = look.refusals.into_iter().map(|issue| issue.path).collect();
        (read, refused)
    }

    #[test]
    fn a_base_path_is_brought_to_one_form() {
        for (text, expected) in [
            ("", ""),
            ("/", ""),
            ("ui", "/ui"),
            ("/ui/", "/ui"),
            ("/a/b-c", "/a/b-c"),
        ] {
            let (ui, refused) = read(&json!({"basePath": text}));
            assert_eq!(
                (ui.base_path.as_str(), refused.len()),
                (expected, 0),
                "{text}"
            );
        }
        for text in [
            "/a//b", "/..", "/a/../b", "/%2e", "/a b", "/a?b", "/.hidden",
        ] {
            let (_, refused) = read(&json!({"basePath": text}));
            assert_eq!(refused, ["gateway.controlUi.basePath"], "{text}");
        }
    }

    #[test]
    fn a_root_is_an_absolute_path() {
        assert_eq!(read(&json!({"root": "dist"})).1, ["gateway.controlUi.root"]);
        assert_eq!(read(&json!({"root": 5})).1, ["gateway.controlUi.root"]);
        let (ui, refused) = read(&json!({"root": "/srv/ui"}));
        assert_eq!(ui.root, Some(PathBuf::from("/srv/ui")));
        assert!(ui.enabled && refused.is_empty());
    }
}
