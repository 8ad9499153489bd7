//! `hooks`: what may be posted here from elsewhere, and what becomes of it.

use clawgate_core::hook::{AgentPolicy, SessionPolicy, Template};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::{Auth, control_ui::mount, is_secret, look::Look};

/// Bytes of a request's body at most, where the file does not say.
const BODY_MAX: i64 = 256 * 1024;
/// What `hooks.maxBodyBytes` may be at most.
const BODY_LIMIT: i64 = 16 * 1024 * 1024;

/// `hooks`, when they are enabled.
#[derive(Clone, Debug)]
pub(crate) struct Hooks {
    /// `/like/this`.
    pub path: String,
    pub token: SecretString,
    pub body_max: usize,
    pub mappings: Vec<Mapping>,
    pub agents: AgentPolicy,
    pub sessions: SessionPolicy,
}

/// One entry of `hooks.mappings`. The first that matches decides.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub id: String,
    /// What follows the hooks' path, without slashes around it; any if absent.
    pub path: Option<String>,
    /// The payload's `source`; any if absent.
    pub source: Option<String>,
    pub action: Action,
}

/// What a mapping makes of a payload.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A text for the main session.
    Wake { text: Template, mode: Mode },
    /// A turn of an agent.
    Agent {
        message: Template,
        agent: Option<String>,
        session_key: Option<Template>,
        /// `provider/model`, if it is not the agent's.
        model: Option<String>,
        thinking: Option<String>,
        timeout_seconds: Option<u64>,
    },
}

/// When the main session looks at a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Now,
    NextHeartbeat,
}

impl Mode {
    /// The wire's word; whatever else is said means now, as in the original.
    pub(crate) fn of(text: Option<&str>) -> Self {
        if text == Some("next-heartbeat") {
            Self::NextHeartbeat
        } else {
            Self::Now
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::NextHeartbeat => "next-heartbeat",
        }
    }
}

impl Hooks {
    /// Reads the section. What is not enabled is not looked at any closer.
    pub(super) fn read(
        look: &mut Look,
        root: &Map<String, Value>,
        auth: Option<&Auth>,
    ) -> Option<Self> {
        let hooks = look.section(root, "hooks");
        if look.boolean(&hooks, "hooks.enabled", "enabled") != Some(true) {
            return None;
        }
        let token = token(look, &hooks, auth);
        let path = look.text(&hooks, "hooks.path", "path");
        let path = mount(
            look,
            "hooks.path",
            path.or_else(|| Some("/hooks".to_owned())),
        );
        if path.as_deref() == Some("") {
            look.refuse("hooks.path", "expected a path below \"/\"".to_owned());
        }
        let body_max = look
            .integer(&hooks, "hooks.maxBodyBytes", "maxBodyBytes", 1, BODY_LIMIT)
            .unwrap_or(BODY_MAX);
        for key in ["gmail", "internal"] {
            if hooks.contains_key(key) {
                look.warn(&format!("hooks.{key}"), "has no effect here".to_owned());
            }
        }
        Some(Self {
            token: token?,
            path: path?,
            body_max: usize::try_from(body_max).unwrap_or(usize::MAX),
            mappings: mappings(look, &hooks),
            agents: agents(look, &hooks),
            sessions: sessions(look, &hooks),
        })
    }
}

/// A secret of its own: whoever may post a text here is not the owner.
fn token(look: &mut Look, hooks: &Map<String, Value>, auth: Option<&Auth>) -> Option<SecretString> {
    let path = "hooks.token";
    let refused = look.refusals.len();
    let token = look.secret(hooks, path, "token");
    if token.is_none() && look.refusals.len() == refused {
        look.refuse(
            path,
            "expected a secret, because hooks.enabled is true".to_owned(),
        );
    }
    let token = token?;
    if let Some(Auth::Token(own) | Auth::Password(own)) = auth
        && is_secret(own, token.expose_secret())
    {
        look.refuse(
            path,
            "expected another secret than the gateway's own: who may post to a hook would be \
             the owner"
                .to_owned(),
        );
    }
    Some(token)
}

fn agents(look: &mut Look, hooks: &Map<String, Value>) -> AgentPolicy {
    if hooks.get("allowedAgentIds").is_none_or(Value::is_null) {
        return AgentPolicy(None);
    }
    let names = look.texts(hooks, "hooks.allowedAgentIds", "allowedAgentIds");
    let names = names.iter().map(|name| name.trim().to_ascii_lowercase());
    let names: std::collections::BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
    AgentPolicy((!names.contains("*")).then_some(names))
}

fn sessions(look: &mut Look, hooks: &Map<String, Value>) -> SessionPolicy {
    let filled = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let path = "hooks.allowedSessionKeyPrefixes";
    let prefixes: Vec<String> = look
        .texts(hooks, path, "allowedSessionKeyPrefixes")
        .into_iter()
        .filter_map(|prefix| filled(prefix.to_ascii_lowercase()))
        .collect();
    let allow_request = look.boolean(
        hooks,
        "hooks.allowRequestSessionKey",
        "allowRequestSessionKey",
    );
    let policy = SessionPolicy {
        default_key: look
            .text(hooks, "hooks.defaultSessionKey", "defaultSessionKey")
            .and_then(filled),
        allow_request: allow_request.unwrap_or(false),
        prefixes: (!prefixes.is_empty()).then_some(prefixes),
    };
    match &policy.default_key {
        Some(key) if !policy.has_prefix(key) => look.refuse(
            "hooks.defaultSessionKey",
            "expected one of hooks.allowedSessionKeyPrefixes at its beginning".to_owned(),
        ),
        None if !policy.has_prefix("hook:") => look.refuse(
            path,
            "expected \"hook:\" among them, because hooks.defaultSessionKey is not set".to_owned(),
        ),
        _ => {}
    }
    policy
}

fn mappings(look: &mut Look, hooks: &Map<String, Value>) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    match hooks.get("mappings") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                let path = format!("hooks.mappings[{index}]");
                match item.as_object() {
                    Some(map) => mappings.extend(mapping(look, map, &path, index)),
                    None => look.refuse(&path, "expected an object".to_owned()),
                }
            }
        }
        Some(_) => look.refuse("hooks.mappings", "expected a list of objects".to_owned()),
    }
    for preset in look.texts(hooks, "hooks.presets", "presets") {
        if preset == "gmail" {
            mappings.push(gmail());
        } else {
            look.warn(
                "hooks.presets",
                format!("there is no preset {preset:?}; ignored"),
            );
        }
    }
    mappings
}

fn mapping(look: &mut Look, map: &Map<String, Value>, path: &str, index: usize) -> Option<Mapping> {
    if map.get("transform").is_some_and(|value| !value.is_null()) {
        look.refuse(
            &format!("{path}.transform"),
            "is not served: no code is loaded into the gateway. Use textTemplate or \
             messageTemplate"
                .to_owned(),
        );
        return None;
    }
    let text = |look: &mut Look, key: &str| {
        let text = look.text(map, &format!("{path}.{key}"), key)?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let id = text(look, "id").unwrap_or_else(|| format!("mapping-{}", index + 1));
    let matching = look.inner(map, path, "match");
    let inner = |look: &mut Look, key: &str| {
        let text = look.text(&matching, &format!("{path}.match.{key}"), key)?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let mode = text(look, "wakeMode");
    if mode
        .as_deref()
        .is_some_and(|mode| mode != Mode::of(Some(mode)).as_str())
    {
        look.refuse(
            &format!("{path}.wakeMode"),
            "expected \"now\" or \"next-heartbeat\"".to_owned(),
        );
    }
    let action = text(look, "action").unwrap_or_else(|| "agent".to_owned());
    let template = match action.as_str() {
        "wake" => "textTemplate",
        "agent" => "messageTemplate",
        _ => {
            look.refuse(
                &format!("{path}.action"),
                format!("expected \"wake\" or \"agent\", found {action:?}"),
            );
            return None;
        }
    };
    let Some(words) = text(look, template) else {
        look.refuse(
            &format!("{path}.{template}"),
            format!("expected a text, because the action is \"{action}\""),
        );
        return None;
    };
    let words = Template::parse(&words);
    Some(Mapping {
        id,
        path: inner(look, "path").map(|path| path.trim_matches('/').to_owned()),
        source: inner(look, "source"),
        action: if template == "textTemplate" {
            Action::Wake {
                text: words,
                mode: Mode::of(mode.as_deref()),
            }
        } else {
            Action::Agent {
                message: words,
                agent: text(look, "agentId"),
                session_key: text(look, "sessionKey").map(|text| Template::parse(&text)),
                model: text(look, "model"),
                thinking: text(look, "thinking"),
                timeout_seconds: map.get("timeoutSeconds").and_then(Value::as_u64),
            }
        },
    })
}

/// What the original calls the preset "gmail".
fn gmail() -> Mapping {
    Mapping {
        id: "gmail".to_owned(),
        path: Some("gmail".to_owned()),
        source: None,
        action: Action::Agent {
            message: Template::parse(
                "New email from {{messages[0].from}}\nSubject: {{messages[0].subject}}\n\
                 {{messages[0].snippet}}\n{{messages[0].body}}",
            ),
            agent: None,
            session_key: Some(Template::parse("hook:gmail:{{messages[0].id}}")),
            model: None,
            thinking: None,
            timeout_seconds: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(hooks: &Value) -> (Option<Hooks>, Vec<String>) {
        let mut look = Look::default();
        let root = json!({"hooks": hooks});
        let auth = Auth::Token(SecretString::from("the gateway's"));
        let hooks = Hooks::read(&mut look, root.as_object().expect("an object"), Some(&auth));
        let refused = look.refusals.into_iter().map(|issue| issue.path).collect();
        (hooks, refused)
    }

    #[test]
    fn what_is_not_enabled_is_not_there() {
        assert!(read(&json!({"token": "x"})).0.is_none());
        let (hooks, refused) = read(&json!({"enabled": false, "mappings": [{"transform": {}}]}));
        assert!(hooks.is_none() && refused.is_empty());
    }

    #[test]
    fn what_is_set_is_taken() {
        let (hooks, refused) = read(&json!({
            "enabled": true, "token": "t", "path": "in/", "maxBodyBytes": 10,
            "allowedAgentIds": [" Main "], "presets": ["gmail"],
            "mappings": [{"match": {"path": "/gh/", "source": "s"}, "action": "wake",
                "textTemplate": "{{payload.x}}", "wakeMode": "next-heartbeat"}],
        }));
        assert_eq!(refused, Vec::<String>::new());
        let hooks = hooks.expect("enabled");
        assert_eq!((hooks.path.as_str(), hooks.body_max), ("/in", 10));
        assert_eq!(hooks.mappings[0].path.as_deref(), Some("gh"));
        assert!(matches!(
            hooks.mappings[0].action,
            Action::Wake {
                mode: Mode::NextHeartbeat,
                ..
            }
        ));
        assert_eq!(hooks.mappings[1].id, "gmail");
        assert_eq!(hooks.agents, AgentPolicy(Some(["main".to_owned()].into())));
    }

    #[test]
    fn what_would_be_open_or_does_nothing_is_refused_with_its_path() {
        for (hooks, path) in [
            (json!({"enabled": true}), "hooks.token"),
            (json!({"enabled": true, "token": " "}), "hooks.token"),
            (
                json!({"enabled": true, "token": "the gateway's"}),
                "hooks.token",
            ),
            (json!({"enabled": "yes", "token": "t"}), "hooks.enabled"),
            (
                json!({"enabled": true, "token": "t", "path": "/"}),
                "hooks.path",
            ),
            (
                json!({"enabled": true, "token": "t", "path": "/../x"}),
                "hooks.path",
            ),
            (
                json!({"enabled": true, "token": "t", "maxBodyBytes": 0}),
                "hooks.maxBodyBytes",
            ),
            (
                json!({"enabled": true, "token": "t", "mappings": {}}),
                "hooks.mappings",
            ),
            (
                json!({"enabled": true, "token": "t", "mappings": [{"transform": {"module": "x.js"}}]}),
                "hooks.mappings[0].transform",
            ),
            (
                json!({"enabled": true, "token": "t", "mappings": [{"action": "wake"}]}),
                "hooks.mappings[0].textTemplate",
            ),
            (
                json!({"enabled": true, "token": "t", "mappings": [{"action": "run"}]}),
                "hooks.mappings[0].action",
            ),
            (
                json!({"enabled": true, "token": "t", "allowedSessionKeyPrefixes": ["x:"]}),
                "hooks.allowedSessionKeyPrefixes",
            ),
            (
                json!({"enabled": true, "token": "t", "defaultSessionKey": "y",
                    "allowedSessionKeyPrefixes": ["x:"]}),
                "hooks.defaultSessionKey",
            ),
        ] {
            assert_eq!(read(&hooks).1, [path], "{hooks}");
        }
    }
}
