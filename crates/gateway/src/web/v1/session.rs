//! Which agent is asked, and in which session.

use std::sync::Arc;

use clawgate_core::{proof, session::SessionKey};

use super::{Fault, models::no_model};
use crate::{Gateway, error, listen::Request, web::guard::Caller};

/// The agent that a model's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Default,
    Agent(String),
}

/// Reads `openclaw`, `openclaw/<agent>`, `openclaw:<agent>`, the same with `clawgate`, and
/// `agent:<agent>`. `None` where it is no name of an agent.
pub(super) fn agent_of(model: &str) -> Option<Named> {
    let model = model.trim().to_ascii_lowercase();
    if matches!(model.as_str(), "openclaw" | "clawgate") {
        return Some(Named::Default);
    }
    let id = ["openclaw/", "openclaw:", "clawgate/", "clawgate:", "agent:"]
        .into_iter()
        .find_map(|prefix| model.strip_prefix(prefix))?;
    match id {
        "" => None,
        "default" => Some(Named::Default),
        id => Some(Named::Agent(id.to_owned())),
    }
}

/// What a request says about where it belongs.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Which interface: the first word of sessions that it makes.
    pub(super) prefix: &'static str,
    pub(super) model: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    /// The response that it goes on from.
    pub(super) previous: Option<&'a str>,
}

impl Place<'_> {
    /// The session: the one that a header names, the previous response's, the user's, or one of its
    /// own.
    pub(super) async fn key(
        &self,
        gateway: &Arc<Gateway>,
        request: &Request,
        caller: &Caller,
    ) -> Result<SessionKey, Fault> {
        let roster = gateway.roster();
        let named = self.agent(gateway, request)?;
        let of_agent = named.as_deref().unwrap_or(&roster.default_id);
        let written = match (header(request, "x-openclaw-session-key"), self.previous) {
            (Some(key), _) => key.to_owned(),
            (None, Some(id)) => previous(gateway, caller, id).await?,
            (None, None) => self.own(of_agent),
        };
        let key = SessionKey::read(&written, named.as_deref(), &roster.default_id)
            .map_err(|bad| Fault::invalid("x-openclaw-session-key", bad.sentence()))?;
        if roster.get(key.agent()).is_none() {
            let message = format!("unknown agent id \"{}\"", key.agent());
            return Err(Fault::invalid("x-openclaw-session-key", message));
        }
        Ok(key)
    }

    /// The agent that is named, by header or as the model.
    fn agent(&self, gateway: &Arc<Gateway>, request: &Request) -> Result<Option<String>, Fault> {
        let roster = gateway.roster();
        let by_header =
            header(request, "x-openclaw-agent-id").or(header(request, "x-openclaw-agent"));
        if let Some(id) = by_header {
            let known = roster.get(id).map(|agent| agent.id.clone());
            let unknown = || Fault::invalid("x-openclaw-agent-id", "there is no such agent");
            return known.map(Some).ok_or_else(unknown);
        }
        let Some(model) = self.model else {
            return Ok(None);
        };
        match agent_of(model) {
            None => Err(no_model(model)),
            Some(Named::Default) => Ok(None),
            Some(Named::Agent(id)) => match roster.get(&id) {
                Some(agent) => Ok(Some(agent.id.clone())),
                None => Err(no_model(model)),
            },
        }
    }

    /// The session of a user, or one for this request alone. Users that a key cannot tell apart have
    /// sessions of their own all the same.
    fn own(&self, agent: &str) -> String {
        let Some(user) = self.user.filter(|user| !user.trim().is_empty()) else {
            return format!("agent:{agent}:{}:{}", self.prefix, uuid::Uuid::new_v4());
        };
        let plain = format!("agent:{agent}:{}-user:{user}", self.prefix);
        let is_itself =
            SessionKey::read(&plain, None, agent).is_ok_and(|key| key.as_str() == plain);
        if is_itself {
            return plain;
        }
        let mark = &proof::fingerprint(user)[..32];
        format!("agent:{agent}:{}-user:~{mark}", self.prefix)
    }
}

/// A header that says something.
pub(super) fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let text = request.header(name)?.trim();
    (!text.is_empty()).then_some(text)
}

/// A new response's id. It says whose it is: who shows one made for somebody else is not answered.
pub(super) fn response_id(caller: &Caller) -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let mark = mark(&unique, caller);
    format!("resp_{unique}{mark}")
}

fn mark(unique: &str, caller: &Caller) -> String {
    proof::fingerprint(&format!("{unique}\n{}", caller.name()))[..16].to_owned()
}

/// The session of a response that this caller got before.
async fn previous(gateway: &Gateway, caller: &Caller, id: &str) -> Result<String, Fault> {
    let unknown = || {
        Fault::invalid(
            "previous_response_id",
            "there is no such response, or it is older than a week, or another credential's",
        )
        .code("previous_response_not_found")
    };
    let unique = id.strip_prefix("resp_").and_then(|id| id.get(..32));
    let unique = unique.ok_or_else(unknown)?;
    if id != format!("resp_{unique}{}", mark(unique, caller)) {
        return Err(unknown());
    }
    let id = id.to_owned();
    let run = gateway
        .store
        .read(move |db| db.run(&id))
        .await
        .map_err(|failed| Fault::of_shape(error::store(&failed)))?;
    run.map(|run| run.session_key).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_an_agent_or_nothing() {
        for name in [
            "openclaw",
            "clawgate",
            "OpenClaw/default",
            "clawgate:default",
        ] {
            assert_eq!(agent_of(name), Some(Named::Default), "{name}");
        }
        for name in ["openclaw:ops", "openclaw/ops", "clawgate:ops", "agent:Ops"] {
            assert_eq!(
                agent_of(name),
                Some(Named::Agent("ops".to_owned())),
                "{name}"
            );
        }
        for name in ["gpt-4o", "openclaw/", "agent:", "", "clawgates"] {
            assert_eq!(agent_of(name), None, "{name}");
        }
    }

    #[test]
    fn users_that_differ_have_sessions_that_differ() {
        let of = |user: &'static str| {
            let place = Place {
                prefix: "openai",
                model: None,
                user: Some(user),
                previous: None,
            };
            let key = place.own("main");
            assert!(SessionKey::read(&key, None, "main").is_ok(), "{key}");
            assert_eq!(key, place.own("main"), "it is the same every time");
            key
        };
        assert_eq!(of("conv:1"), "agent:main:openai-user:conv:1");
        let users = ["bob", "Bob", " bob", "../x", "\u{0}", "a/../b"];
        let keys: std::collections::BTreeSet<String> = users.into_iter().map(of).collect();
        assert_eq!(keys.len(), users.len());
    }
}
