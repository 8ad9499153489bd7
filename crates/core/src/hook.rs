//! What a web hook may ask for, and the templates that turn a payload into words.

use std::collections::BTreeSet;

/// Which agents a hook may name (`hooks.allowedAgentIds`). `None` allows all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentPolicy(pub Option<BTreeSet<String>>);

impl AgentPolicy {
    /// Whether a hook may go to the agent that it names; one that is unknown is the default's.
    /// A hook that names none always may.
    pub fn allows(
        &self,
        named: Option<&str>,
        is_known: impl Fn(&str) -> bool,
        default: &str,
    ) -> bool {
        let named = named.map(|name| name.trim().to_ascii_lowercase());
        let (Some(name), Some(allowed)) = (named.filter(|name| !name.is_empty()), &self.0) else {
            return true;
        };
        allowed.contains(if is_known(&name) {
            name.as_str()
        } else {
            default
        })
    }
}

/// Which sessions a hook may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPolicy {
    /// `hooks.defaultSessionKey`.
    pub default_key: Option<String>,
    /// `hooks.allowRequestSessionKey`: whether a request's own choice counts at all.
    pub allow_request: bool,
    /// `hooks.allowedSessionKeyPrefixes`, lower-case. `None` allows all of them.
    pub prefixes: Option<Vec<String>>,
}

/// Who chose a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// The caller, in its payload.
    Request,
    /// The operator, in a mapping.
    Mapping,
}

/// Why a choice of a session does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionFault {
    /// Requests choose none here.
    NotByRequest,
    /// It begins with none of the prefixes.
    Prefix,
}

impl SessionPolicy {
    /// Whether a key begins as it must.
    pub fn has_prefix(&self, key: &str) -> bool {
        let key = key.trim().to_ascii_lowercase();
        self.prefixes
            .as_ref()
            .is_none_or(|prefixes| prefixes.iter().any(|prefix| key.starts_with(prefix)))
    }

    /// Judges the session that was chosen, if one was.
    ///
    /// # Errors
    /// [`SessionFault`] says what is in the way.
    pub fn judge(&self, chooser: Chooser, chosen: Option<&str>) -> Result<(), SessionFault> {
        let Some(chosen) = chosen.map(str::trim).filter(|key| !key.is_empty()) else {
            return Ok(());
        };
        if chooser == Chooser::Request && !self.allow_request {
            return Err(SessionFault::NotByRequest);
        }
        if self.has_prefix(chosen) {
            Ok(())
        } else {
            Err(SessionFault::Prefix)
        }
    }
}

/// One step into a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An item of a list, counted from 0.
    Index(usize),
}

/// What stands between the braces of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `path`: the part of the address behind the hooks' path.
    Path,
    /// `now`: the time, ISO 8601.
    Now,
    /// `headers.NAME`.
    Header(String),
    /// `query.NAME`.
    Query(String),
    /// `payload.a.b[0]`, or the same without `payload.`.
    Payload(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// A text with places in it: `New mail from {{messages[0].from}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a template. Every text is one: braces that are not closed stand for themselves.
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            let inside = &rest[open + 2..];
            let place = inside
                .find('}')
                .filter(|close| inside[*close..].starts_with("}}"))
                .map(|close| (inside[..close].trim(), &inside[close + 2..]))
                .filter(|(expression, _)| !expression.is_empty());
            plain.push_str(&rest[..open]);
            if let Some((expression, after)) = place {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Place(Place::parse(expression)));
                rest = after;
            } else {
                plain.push_str("{{");
                rest = inside;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self(parts)
    }

    /// The text, with every place filled by what `fill` finds there.
    pub fn render(&self, fill: impl Fn(&Place) -> String) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Place(place) => fill(place),
            })
            .collect()
    }
}

impl Place {
    fn parse(expression: &str) -> Self {
        if let Some(name) = expression.strip_prefix("headers.") {
            return Self::Header(name.to_ascii_lowercase());
        }
        if let Some(name) = expression.strip_prefix("query.") {
            return Self::Query(name.to_owned());
        }
        match expression {
            "path" => Self::Path,
            "now" => Self::Now,
            _ => Self::Payload(steps(
                expression.strip_prefix("payload.").unwrap_or(expression),
            )),
        }
    }
}

/// `a.b[0].c`, one step at a time.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for piece in path.split('.') {
        for (at, text) in piece.split('[').enumerate() {
            let inside = text.trim_end_matches(']');
            match inside.parse() {
                Ok(index) if at > 0 => steps.push(Step::Index(index)),
                _ if inside.is_empty() => {}
                _ => steps.push(Step::Key(inside.to_owned())),
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<Place> {
        let Template(parts) = Template::parse(text);
        parts
            .into_iter()
            .filter_map(|part| match part {
                Part::Place(place) => Some(place),
                Part::Text(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_template_keeps_its_words_and_finds_its_places() {
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(
            places(
                "{{ messages[0].from }} {{payload.a.b}} {{path}}{{now}}{{headers.X-Event}}{{query.q}}"
            ),
            [
                Place::Payload(vec![key("messages"), Step::Index(0), key("from")]),
                Place::Payload(vec![key("a"), key("b")]),
                Place::Path,
                Place::Now,
                Place::Header("x-event".to_owned()),
                Place::Query("q".to_owned()),
            ]
        );
        for text in [
            "", "plain", "{{", "{{}}", "a {{ b", "{{ }}", "{{a}", "}} {{",
        ] {
            let rendered = Template::parse(text).render(|_| "!".to_owned());
            assert_eq!(rendered, text, "{text}");
        }
        let rendered = Template::parse("a {{x}} b {{y}}").render(|_| "{{z}}".to_owned());
        assert_eq!(
            rendered, "a {{z}} b {{z}}",
            "what is filled in is no template"
        );
    }

    #[test]
    fn an_agent_is_allowed_by_name_and_an_unknown_one_is_the_default() {
        let policy = AgentPolicy(Some(["work".to_owned()].into()));
        let known = |name: &str| matches!(name, "main" | "work");
        assert!(policy.allows(Some(" Work "), known, "main"));
        assert!(policy.allows(None, known, "main") && policy.allows(Some(" "), known, "main"));
        assert!(!policy.allows(Some("main"), known, "main"));
        assert!(!policy.allows(Some("nobody"), known, "main"));
        assert!(AgentPolicy(None).allows(Some("nobody"), known, "main"));
        assert!(!AgentPolicy(Some(BTreeSet::new())).allows(Some("work"), known, "main"));
    }

    #[test]
    fn a_request_chooses_a_session_only_where_it_may() {
        let mut policy = SessionPolicy {
            prefixes: Some(vec!["hook:".to_owned()]),
            ..SessionPolicy::default()
        };
        let judge = |policy: &SessionPolicy, chooser, key| policy.judge(chooser, Some(key));
        assert_eq!(
            judge(&policy, Chooser::Request, "hook:a"),
            Err(SessionFault::NotByRequest)
        );
        assert_eq!(judge(&policy, Chooser::Mapping, "Hook:a"), Ok(()));
        policy.allow_request = true;
        assert_eq!(judge(&policy, Chooser::Request, "hook:a"), Ok(()));
        assert_eq!(
            judge(&policy, Chooser::Request, "agent:main:main"),
            Err(SessionFault::Prefix)
        );
        assert_eq!(policy.judge(Chooser::Request, Some("  ")), Ok(()));
    }
}
