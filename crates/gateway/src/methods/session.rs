//! Sessions: rows, settings, conversations.
//!
//! What changes a session decides inside the transaction that writes it, so that of two changes at a
//! time neither is lost; what is told about it goes out in the order of the commits.

mod cleanup;
mod patch;
mod row;
mod transfer;

use std::sync::Arc;

use clawgate_core::{
    Dialect, Scope,
    session::{BadKey, SessionKey},
};
use clawgate_protocol::{
    ErrorShape,
    event::Event,
    session::{COSMETIC, CREATE_NEEDS},
};
use clawgate_store::{Entry, Read, SessionFilter, StoreError, Transcript, Tx};
use serde_json::{Map, Value, json};

pub(crate) use cleanup::cleanup;
pub(crate) use row::{DefaultModel, Held, REPORTS, Wanted, row};
pub(crate) use transfer::{export, import};

use crate::{
    Gateway,
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
    error,
    hub::{Link, WATCHED_MAX},
    transcript::{iso_in_name, text_of},
};

/// Rows of a list at most.
const LIST_MAX: i64 = 1_000;
/// Keys of one preview at most; further ones are left out, as in the original.
const PREVIEW_KEYS_MAX: usize = 64;
const PREVIEW_ITEMS: i64 = 12;
const PREVIEW_ITEMS_MAX: i64 = 50;
const PREVIEW_CHARS: i64 = 240;
const PREVIEW_CHARS_MAX: i64 = 2_000;
/// Messages of `sessions.get` when nobody says how many, and at most.
const GET_MESSAGES: i64 = 200;
const GET_MESSAGES_MAX: i64 = 1_000;
/// Bytes of the messages of one answer.
pub(crate) const ANSWER_BYTES_MAX: usize = 6 << 20;
/// Entries that a compaction keeps when nobody says how many.
const COMPACT_LINES: i64 = 400;
/// Hits of a search when nobody says how many.
const SEARCH_HITS: i64 = 10;

/// A change that does not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    Store(StoreError),
    Said(ErrorShape),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Refused {
    fn said(message: impl Into<String>) -> Self {
        Self::Said(ErrorShape::invalid(message))
    }

    pub(crate) fn shape(self) -> ErrorShape {
        match self {
            Self::Store(error) => error::store(&error),
            Self::Said(shape) => shape,
        }
    }
}

/// A change of a session, as it is told.
struct Told {
    key: String,
    reason: &'static str,
    session: Value,
}

impl Call<'_> {
    /// Checked params as members.
    fn members(&self) -> Result<Map<String, Value>, ErrorShape> {
        match self.value()? {
            Value::Object(members) => Ok(members),
            _ => Err(self.invalid("must be object")),
        }
    }

    /// Params of a method that has no shape: whatever is no object has no members.
    pub(crate) fn loose(&self) -> Result<Map<String, Value>, ErrorShape> {
        match self.unchecked()? {
            Value::Object(members) => Ok(members),
            _ => Err(self.invalid("must be object")),
        }
    }

    /// A session key among the params, with the agent that they name.
    pub(crate) fn key(
        &self,
        members: &Map<String, Value>,
        member: &str,
    ) -> Result<SessionKey, ErrorShape> {
        let text = members.get(member).and_then(Value::as_str);
        let agent = members.get("agentId").and_then(Value::as_str);
        SessionKey::read(
            text.unwrap_or_default(),
            agent,
            self.gateway.default_agent(),
        )
        .map_err(|bad| self.bad_key(member, bad))
    }

    pub(crate) fn bad_key(&self, member: &str, bad: BadKey) -> ErrorShape {
        self.invalid(&format!("at /{member}: {}", bad.sentence()))
            .with_details(json!({"code": "SESSION_KEY_INVALID"}))
    }

    /// Wire 3 has shorter labels.
    fn label_fits(&self, members: &Map<String, Value>) -> Result<(), ErrorShape> {
        let label = members.get("label").and_then(Value::as_str);
        if self.dialect() == Dialect::V3 && label.is_some_and(|label| label.chars().count() > 64) {
            return Err(self.invalid("at /label: must NOT have more than 64 characters"));
        }
        Ok(())
    }

    /// Pages in a chat window write to sessions, and change none; the control page may.
    fn not_from_webchat(&self, what: &str) -> Result<(), ErrorShape> {
        let principal = &self.link.principal;
        if principal.client_mode == "webchat" && principal.client_id != "openclaw-control-ui" {
            return Err(ErrorShape::invalid(format!(
                "webchat clients cannot {what} sessions; use chat.send for session-scoped updates"
            )));
        }
        Ok(())
    }

    fn needs_admin(&self) -> Result<(), ErrorShape> {
        if self.link.principal.grant.scopes().covers(&Scope::ADMIN) {
            return Ok(());
        }
        Err(error::missing_scope(&self.link.principal, &Scope::ADMIN))
    }

    pub(crate) fn default_model(&self) -> DefaultModel {
        DefaultModel::of(&self.gateway.config())
    }
}

pub(crate) fn text<'a>(members: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    members.get(member).and_then(Value::as_str)
}

pub(crate) fn is_on(members: &Map<String, Value>, member: &str) -> bool {
    members.get(member) == Some(&Value::Bool(true))
}

/// A number among the params; one with a point is as good as one without.
pub(crate) fn number(members: &Map<String, Value>, member: &str) -> Option<i64> {
    let value = members.get(member)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturating is meant: bounds follow"
    )]
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|number| number as i64))
}

impl Gateway {
    /// Looks at sessions.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Read<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ErrorShape> {
        self.store
            .read(look)
            .await
            .map_err(|error| error::store(&error))
    }

    /// Changes sessions in one transaction of a caller whose authority still stands, and then tells
    /// what `act` says, in the order of the commits.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        link: &Arc<Link>,
        doing: &'static str,
        act: impl FnOnce(&Tx<'_>) -> Result<(T, Option<Told>), Refused> + Send + 'static,
    ) -> Result<T, ErrorShape> {
        let (caller, gateway) = (Arc::clone(link), Arc::clone(self));
        self.store
            .write_then(
                doing,
                move |tx| {
                    if !caller.may_act(now_ms()) {
                        return Err(Refused::said("the authority of this connection has ended"));
                    }
                    act(tx)
                },
                move |(value, told)| {
                    if let Some(told) = told {
                        gateway.tell_session(&told);
                    }
                    value
                },
            )
            .await
            .map_err(Refused::shape)
    }

    fn tell_session(&self, told: &Told) {
        self.health.status_changed();
        let payload = json!({
            "sessionKey": told.key,
            "reason": told.reason,
            "ts": now_ms(),
            "session": told.session,
        });
        self.hub
            .publish_watched(Event::SessionsChanged, &payload.to_string(), |watch| {
                watch.sessions
            });
    }
}

/// What is told of a session as the transaction leaves it.
fn told(
    tx: &Tx<'_>,
    key: &SessionKey,
    reason: &'static str,
    default: &DefaultModel,
) -> Result<Option<Told>, StoreError> {
    let session = tx.read().listed_session(key.as_str())?;
    let session = session.map_or(Value::Null, |listed| {
        row(listed, default, Wanted::default(), Dialect::V4)
    });
    Ok(Some(Told {
        key: key.as_str().to_owned(),
        reason,
        session,
    }))
}

/// The present conversation of a session.
pub(crate) fn conversation(db: &Read<'_>, key: &str) -> Result<Option<Transcript>, StoreError> {
    match db.session(key)? {
        Some(session) => db.live_transcript(&session.agent_id, &session.session_id),
        None => Ok(None),
    }
}

/// The newest messages, oldest first, within a number and [`ANSWER_BYTES_MAX`].
pub(crate) fn newest_messages(
    db: &Read<'_>,
    of: &Transcript,
    last: i64,
    limit: i64,
) -> Result<Vec<Entry>, StoreError> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    db.messages_back(of, last, |entry| {
        bytes += entry.body.len();
        if bytes > ANSWER_BYTES_MAX && !entries.is_empty() {
            return false;
        }
        entries.push(entry);
        entries.len() < limit
    })?;
    entries.reverse();
    Ok(entries)
}

pub(crate) fn list(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    let default = call.default_model();
    let asked = call.members().and_then(|members| {
        call.label_fits(&members)?;
        Ok(members)
    });
    later(asked, move |asked| async move {
        let limit = number(&asked, "limit").map_or(LIST_MAX, |limit| limit.clamp(1, LIST_MAX));
        let offset = number(&asked, "offset").unwrap_or(0).max(0);
        let filter = list_filter(&asked, dialect, limit + 1, offset);
        let nobodys = ["creatorId", "ownerId", "involvingProfileId"]
            .iter()
            .any(|member| asked.contains_key(*member));
        // Sessions here belong to nobody and have no dashboards.
        let none = nobodys
            || is_on(&asked, "involvingMe")
            || text(&asked, "boardFace") == Some("dashboard");
        let mut found = if none {
            Vec::new()
        } else {
            gateway.look(move |db| db.session_page(&filter)).await?
        };
        let shown = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = found.len() > shown;
        found.truncate(shown);
        let passed = offset + i64::try_from(found.len()).unwrap_or(0);
        if is_on(&asked, "configuredAgentsOnly") {
            let agents = gateway.health.agents();
            found.retain(|one| agents.iter().any(|agent| agent.id == one.session.agent_id));
        }
        if is_on(&asked, "requireLastInteraction") {
            found.retain(|one| one.last_at_ms.is_some());
        }
        let wanted = Wanted {
            titles: is_on(&asked, "includeDerivedTitles"),
            last_message: is_on(&asked, "includeLastMessage"),
        };
        let rows: Vec<Value> = found
            .into_iter()
            .map(|listed| row(listed, &default, wanted, dialect))
            .collect();
        let mut answer = json!({
            "ts": now_ms(),
            "path": gateway.health.sessions_path(),
            "count": rows.len(),
            "defaults": {
                "modelProvider": default.provider,
                "model": default.model,
                "contextTokens": default.context_tokens,
            },
            "sessions": rows,
        });
        if dialect == Dialect::V4 {
            answer["limit"] = json!(limit);
            answer["offset"] = json!(offset);
            answer["hasMore"] = json!(has_more);
            if has_more {
                answer["nextOffset"] = json!(passed);
            }
        }
        Ok(Reply::json(&answer))
    })
}

fn list_filter(
    asked: &Map<String, Value>,
    dialect: Dialect,
    limit: i64,
    offset: i64,
) -> SessionFilter {
    let owned = |member: &str| text(asked, member).map(str::to_owned);
    let minutes = number(asked, "activeMinutes");
    let mut without_kinds = Vec::new();
    for (member, kind) in [("includeGlobal", "global"), ("includeUnknown", "unknown")] {
        if !is_on(asked, member) {
            without_kinds.push(kind);
        }
    }
    SessionFilter {
        agent_id: owned("agentId").map(|id| id.trim().to_lowercase()),
        since_ms: minutes.map(|minutes| now_ms().saturating_sub(minutes.saturating_mul(60_000))),
        label: owned("label").map(|label| label.trim().to_owned()),
        spawned_by: owned("spawnedBy"),
        search: owned("search")
            .map(|search| search.trim().to_lowercase())
            .filter(|search| !search.is_empty()),
        without_kinds,
        archived: match (dialect, asked.get("archived")) {
            // Wire 3 knows no archive: what it could not see it could not get back.
            (Dialect::V3, _) => None,
            (Dialect::V4, Some(Value::String(_))) => None,
            (Dialect::V4, other) => Some(other == Some(&Value::Bool(true))),
        },
        with_runs: false,
        offset,
        limit,
    }
}

pub(crate) fn describe(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    let default = call.default_model();
    let asked = call
        .members()
        .and_then(|members| Ok((call.key(&members, "key")?, members)));
    later(asked, move |(key, members)| async move {
        let found = gateway
            .look(move |db| db.listed_session(key.as_str()))
            .await?;
        let wanted = Wanted {
            titles: is_on(&members, "includeDerivedTitles"),
            last_message: is_on(&members, "includeLastMessage"),
        };
        let session = found.map(|listed| row(listed, &default, wanted, dialect));
        Ok(Reply::json(&json!({"session": session})))
    })
}

pub(crate) fn preview(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let default_agent = gateway.default_agent().to_owned();
    later(call.members(), move |asked| async move {
        let keys: Vec<String> = asked["keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .take(PREVIEW_KEYS_MAX)
            .map(str::to_owned)
            .collect();
        let limit = number(&asked, "limit").unwrap_or(PREVIEW_ITEMS);
        let limit = limit.clamp(1, PREVIEW_ITEMS_MAX);
        let chars = number(&asked, "maxChars").unwrap_or(PREVIEW_CHARS);
        let chars = usize::try_from(chars.clamp(20, PREVIEW_CHARS_MAX)).unwrap_or_default();
        let previews = gateway
            .look(move |db| {
                keys.iter()
                    .map(|text| {
                        let key = SessionKey::read(text, None, &default_agent).ok();
                        let session = match &key {
                            Some(key) => db.session(key.as_str())?,
                            None => None,
                        };
                        let Some(session) = session else {
                            return Ok(json!({"key": text, "status": "missing", "items": []}));
                        };
                        let of = db.live_transcript(&session.agent_id, &session.session_id)?;
                        let items = match of {
                            Some(of) => preview_items(db, &of, limit, chars)?,
                            None => Vec::new(),
                        };
                        let status = if items.is_empty() { "empty" } else { "ok" };
                        Ok(json!({"key": text, "status": status, "items": items}))
                    })
                    .collect::<Result<Vec<Value>, StoreError>>()
            })
            .await?;
        Ok(Reply::json(&json!({"ts": now_ms(), "previews": previews})))
    })
}

fn preview_items(
    db: &Read<'_>,
    of: &Transcript,
    limit: i64,
    chars: usize,
) -> Result<Vec<Value>, StoreError> {
    let limit = usize::try_from(limit).unwrap_or_default();
    // Messages that show nothing are passed over, but not for ever.
    let (mut items, mut seen) = (Vec::new(), 0);
    db.messages_back(of, of.messages, |entry| {
        seen += 1;
        let role = match entry.role.as_deref() {
            Some("user") => "user",
            Some("assistant") => "assistant",
            Some("toolResult" | "tool" | "tool_result") => "tool",
            Some("system") => "system",
            _ => "other",
        };
        let said = entry.text.as_deref().unwrap_or_default().trim();
        if !said.is_empty() && said != crate::methods::chat::NO_REPLY {
            items.push(json!({"role": role, "text": cut(said, chars)}));
        }
        items.len() < limit && seen < limit * 8
    })?;
    items.reverse();
    Ok(items)
}

/// At most `max` characters, the last three of them dots where something is missing.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let short: String = text.chars().take(max.saturating_sub(3)).collect();
    format!("{short}...")
}

pub(crate) fn get(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let asked = call.loose().and_then(|mut members| {
        let named = text(&members, "key").or(text(&members, "sessionKey"));
        let named = named.map(str::trim).filter(|key| !key.is_empty());
        let named = named
            .ok_or_else(|| ErrorShape::invalid("key required"))?
            .to_owned();
        members.insert("key".to_owned(), Value::from(named));
        Ok((call.key(&members, "key")?, number(&members, "limit")))
    });
    later(asked, move |(key, limit)| async move {
        let limit = limit.unwrap_or(GET_MESSAGES).clamp(1, GET_MESSAGES_MAX);
        let entries = gateway
            .look(move |db| match conversation(db, key.as_str())? {
                Some(of) => newest_messages(db, &of, of.messages, limit),
                None => Ok(Vec::new()),
            })
            .await?;
        let bodies: Vec<&str> = entries.iter().map(|entry| entry.body.as_str()).collect();
        Ok(Reply::made(format!(
            r#"{{"messages":[{}]}}"#,
            bodies.join(",")
        )))
    })
}

pub(crate) fn resolve(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    let asked = call.members().and_then(|members| {
        call.label_fits(&members)?;
        let selectors = ["key", "sessionId", "label", "shortId"]
            .iter()
            .filter(|member| text(&members, member).is_some_and(|text| !text.trim().is_empty()))
            .count();
        match selectors {
            0 => Err(ErrorShape::invalid(
                "Either key, sessionId, or label is required",
            )),
            1 => Ok(()),
            _ => Err(ErrorShape::invalid(
                "Provide either key, sessionId, or label (not multiple)",
            )),
        }?;
        let key = match text(&members, "key") {
            Some(_) => Some(call.key(&members, "key")?),
            None => None,
        };
        Ok((key, members))
    });
    later(asked, move |(key, members)| async move {
        let (what, wanted) = ["key", "sessionId", "label", "shortId"]
            .iter()
            .find_map(|member| Some((*member, text(&members, member)?.trim().to_owned())))
            .unwrap_or_default();
        let filter = SessionFilter {
            label: Some(wanted.clone()).filter(|_| what == "label"),
            ..list_filter(&members, Dialect::V3, 10, 0)
        };
        let of = (filter.agent_id.clone(), filter.spawned_by.clone());
        let id = wanted.clone();
        let mut found = gateway
            .look(move |db| {
                Ok(match (what, key) {
                    (_, Some(key)) => db.session(key.as_str())?.into_iter().collect(),
                    ("label", _) => db
                        .session_page(&filter)?
                        .into_iter()
                        .map(|listed| listed.session)
                        .collect(),
                    (_, _) => db.sessions_by_id(&id, what == "shortId", 10)?,
                })
            })
            .await?;
        found.retain(|session| {
            of.0.as_ref().is_none_or(|agent| *agent == session.agent_id)
                && (of.1.is_none() || of.1 == session.spawned_by)
        });
        // The row of one cron run has the same id as its job's.
        if found.iter().any(|session| !session.is_run) {
            found.retain(|session| !session.is_run);
        }
        if let Some(hint) = text(&members, "slugHint").filter(|_| found.len() > 1) {
            let hint = hint.to_lowercase();
            let hinted: Vec<_> = found
                .iter()
                .filter(|session| session.names.contains(&hint))
                .cloned()
                .collect();
            if !hinted.is_empty() {
                found = hinted;
            }
        }
        let candidate = |session: clawgate_store::Session| {
            let held = Held::of(session);
            let mut one = json!({"key": held.session.key, "agentId": held.session.agent_id});
            if let Some(name) = held.text("displayName").or(held.text("label")) {
                one["displayName"] = Value::from(name);
            }
            one
        };
        match (found.len(), dialect) {
            (1, Dialect::V3) => Ok(Reply::json(&json!({"ok": true, "key": found[0].key}))),
            (1, Dialect::V4) => {
                let mut one = candidate(found.remove(0));
                one["ok"] = Value::Bool(true);
                Ok(Reply::json(&one))
            }
            (0, _) if is_on(&members, "allowMissing") => Ok(Reply::json(&json!({"ok": false}))),
            (_, _) if is_on(&members, "allowMissing") || what == "shortId" && found.len() > 1 => {
                let candidates: Vec<Value> = found.into_iter().map(candidate).collect();
                Ok(Reply::json(&json!({"ok": false, "candidates": candidates})))
            }
            (0, _) if what == "label" => Err(ErrorShape::invalid(format!(
                "No session found with label: {wanted}"
            ))),
            (0, _) => Err(ErrorShape::invalid(format!("No session found: {wanted}"))),
            (_, _) => {
                let keys: Vec<&str> = found.iter().map(|session| session.key.as_str()).collect();
                Err(ErrorShape::invalid(format!(
                    "Multiple sessions found with {what}: {wanted} ({})",
                    keys.join(", ")
                )))
            }
        }
    })
}

/// Refuses when a session is other than the caller thinks.
fn expected(members: &Map<String, Value>, held: Option<&Held>) -> Result<(), Refused> {
    let id = held.map(|held| held.session.session_id.as_str());
    let updated = held.map(|held| held.session.updated_at_ms);
    let differs = ["expectedSessionId", "expectedLifecycleRevision"]
        .iter()
        .filter_map(|member| text(members, member))
        .any(|wanted| Some(wanted) != id)
        || number(members, "expectedSessionUpdatedAt")
            .is_some_and(|wanted| Some(wanted) != updated);
    if differs {
        return Err(Refused::Said(
            ErrorShape::invalid("the session has changed meanwhile")
                .with_details(json!({"code": "SESSION_CHANGED"})),
        ));
    }
    Ok(())
}

/// A session as the transaction finds it.
fn held(tx: &Tx<'_>, key: &SessionKey) -> Result<Option<Held>, StoreError> {
    Ok(tx.read().session(key.as_str())?.map(Held::of))
}

pub(crate) fn patch(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let default = call.default_model();
    let asked = call.not_from_webchat("patch").and_then(|()| {
        let members = call.members()?;
        call.label_fits(&members)?;
        if call.dialect() == Dialect::V3 && text(&members, "fastMode").is_some() {
            return Err(call.invalid("at /fastMode: must be boolean"));
        }
        let named = [
            "key",
            "agentId",
            "expectedSessionId",
            "expectedLifecycleRevision",
        ];
        let is_cosmetic = members
            .keys()
            .all(|name| named.contains(&name.as_str()) || COSMETIC.contains(&name.as_str()));
        if !is_cosmetic {
            call.needs_admin()?;
        }
        Ok((call.key(&members, "key")?, members))
    });
    later(asked, move |(key, members)| async move {
        let shown = default.clone();
        let (canonical, held) = gateway
            .change(&link, "changing a session", move |tx| {
                let now = now_ms();
                let found = held(tx, &key)?;
                expected(&members, found.as_ref())?;
                let reason = if found.is_some() { "patch" } else { "create" };
                let mut held = found.unwrap_or_else(|| Held::new(&key, now));
                patch::apply(&members, &key, &mut held, &default, now).map_err(Refused::said)?;
                free_label(tx, &members, &held)?;
                held.session.updated_at_ms = now;
                held.keep(tx, &key)?;
                let told = told(tx, &key, reason, &default)?;
                Ok(((key, held), told))
            })
            .await?;
        let (provider, model) = held.model(&shown);
        Ok(Reply::json(&json!({
            "ok": true,
            "path": gateway.health.sessions_path(),
            "key": canonical.as_str(),
            "entry": held.shown(),
            "resolved": {"modelProvider": provider, "model": model},
        })))
    })
}

/// A label names one session.
fn free_label(tx: &Tx<'_>, members: &Map<String, Value>, held: &Held) -> Result<(), Refused> {
    if let Some(label) = held.text("label").filter(|_| members.contains_key("label"))
        && tx.read().label_taken(label, &held.session.key)?
    {
        return Err(Refused::said(format!("label already in use: {label}")));
    }
    Ok(())
}

pub(crate) fn create(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let default = call.default_model();
    let asked = call.not_from_webchat("create").and_then(|()| {
        let mut members = call.members()?;
        call.label_fits(&members)?;
        let is_asked = |member: &str| {
            members.get(member).is_some_and(|value| {
                !matches!(value, Value::Null | Value::Bool(false))
                    && value.as_str().is_none_or(|text| !text.trim().is_empty())
                    && value.as_array().is_none_or(|list| !list.is_empty())
            })
        };
        if let Some((member, what)) = CREATE_NEEDS.iter().find(|(member, _)| is_asked(member)) {
            return Err(ErrorShape::unavailable(format!(
                "sessions.create cannot do {member} here: {what} are not served"
            ))
            .with_details(json!({"code": "NOT_SERVED", "param": member})));
        }
        if members.contains_key("model") {
            call.needs_admin()?;
        }
        if !members.contains_key("key") {
            let made = format!("dashboard:{}", uuid::Uuid::new_v4());
            members.insert("key".to_owned(), Value::from(made));
        }
        Ok((call.key(&members, "key")?, members))
    });
    later(asked, move |(key, members)| async move {
        let held = gateway
            .change(&link, "creating a session", move |tx| {
                let now = now_ms();
                let creation_key = text(&members, "idempotencyKey");
                if let Some(creation_key) = creation_key
                    && let Some(before) = tx.read().created_session(creation_key)?
                    && let Some(session) = tx.read().session(&before)?
                {
                    return Ok((Held::of(session), None));
                }
                if held(tx, &key)?.is_some() {
                    return Err(Refused::Said(
                        ErrorShape::invalid(format!(
                            "a session of the key {} exists",
                            key.as_str()
                        ))
                        .with_details(json!({"code": "SESSION_EXISTS"})),
                    ));
                }
                let mut held = Held::new(&key, now);
                let settings: Map<String, Value> = members
                    .iter()
                    .filter(|(name, _)| {
                        matches!(
                            name.as_str(),
                            "label" | "category" | "model" | "thinkingLevel" | "fastMode"
                        )
                    })
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
                patch::apply(&settings, &key, &mut held, &default, now).map_err(Refused::said)?;
                free_label(tx, &members, &held)?;
                for member in ["displayName", "parentSessionKey"] {
                    if let Some(value) = members.get(member) {
                        held.entry.insert(member.to_owned(), value.clone());
                    }
                }
                held.entry
                    .insert("createdVia".to_owned(), json!("operator"));
                held.keep(tx, &key)?;
                if let Some(creation_key) = creation_key {
                    tx.keep_creation_key(key.as_str(), creation_key)?;
                }
                let told = told(tx, &key, "create", &default)?;
                Ok((held, told))
            })
            .await?;
        Ok(Reply::json(&json!({
            "ok": true,
            "key": held.session.key,
            "sessionId": held.session.session_id,
            "entry": held.shown(),
            "runStarted": false,
        })))
    })
}

pub(crate) fn reset(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let default = call.default_model();
    let asked = call.members().and_then(|members| call.key(&members, "key"));
    later(asked, move |key| async move {
        gateway.end_turns_of(&key).await?;
        let held = gateway
            .change(&link, "resetting a session", move |tx| {
                let now = now_ms();
                let mut held = match held(tx, &key)? {
                    Some(mut held) => {
                        let session = &mut held.session;
                        if let Some(of) = tx
                            .read()
                            .live_transcript(&session.agent_id, &session.session_id)?
                        {
                            let name = free_name(tx, &of, "reset", now)?;
                            tx.put_transcript_away(&of, Some((&name, "reset")), now)?;
                        }
                        session.session_id = uuid::Uuid::new_v4().to_string();
                        session.updated_at_ms = now;
                        held
                    }
                    None => Held::new(&key, now),
                };
                held.end_conversation();
                let (provider, model) = held.model(&default);
                for (member, value) in [("modelProvider", json!(provider)), ("model", json!(model))]
                {
                    if value.is_null() {
                        held.entry.remove(member);
                    } else {
                        held.entry.insert(member.to_owned(), value);
                    }
                }
                held.keep(tx, &key)?;
                let told = told(tx, &key, "reset", &default)?;
                Ok((held, told))
            })
            .await?;
        Ok(Reply::json(&json!({
            "ok": true, "key": held.session.key, "entry": held.shown(),
        })))
    })
}

/// A name for what is put away that is not taken.
pub(crate) fn free_name(
    tx: &Tx<'_>,
    of: &Transcript,
    what: &str,
    now_ms: i64,
) -> Result<String, StoreError> {
    let mut at = now_ms;
    loop {
        let name = format!("{}.jsonl.{what}.{}", of.session_id, iso_in_name(at));
        if tx.read().archive(&name)?.is_none() {
            return Ok(name);
        }
        at += 1;
    }
}

pub(crate) fn delete(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let default = call.default_model();
    let asked = call.not_from_webchat("delete").and_then(|()| {
        let members = call.members()?;
        let key = call.key(&members, "key")?;
        if key.is_main() {
            return Err(ErrorShape::invalid(format!(
                "Cannot delete the main session ({}).",
                key.as_str()
            )));
        }
        Ok((key, members))
    });
    later(asked, move |(key, members)| async move {
        let canonical = key.as_str().to_owned();
        gateway.end_turns_of(&key).await?;
        let (deleted, archived) = gateway
            .change(&link, "deleting a session", move |tx| {
                let now = now_ms();
                let Some(held) = held(tx, &key)? else {
                    return Ok(((false, None), None));
                };
                expected(&members, Some(&held))?;
                if is_on(&members, "archivedOnly") && held.session.archived_at_ms.is_none() {
                    return Err(Refused::said("the session is not archived"));
                }
                let session = &held.session;
                let mut archived = None;
                if let Some(of) = tx
                    .read()
                    .live_transcript(&session.agent_id, &session.session_id)?
                {
                    if members.get("deleteTranscript") == Some(&Value::Bool(false)) {
                        tx.put_transcript_away(&of, None, now)?;
                    } else {
                        let name = free_name(tx, &of, "deleted", now)?;
                        tx.put_transcript_away(&of, Some((&name, "deleted")), now)?;
                        archived = Some(name);
                    }
                }
                tx.remove_session(key.as_str())?;
                let told = told(tx, &key, "delete", &default)?;
                Ok(((true, archived), told))
            })
            .await?;
        let archived: Vec<String> = archived.into_iter().collect();
        Ok(Reply::json(&json!({
            "ok": true, "key": canonical, "deleted": deleted, "archived": archived,
        })))
    })
}

pub(crate) fn compact(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let default = call.default_model();
    let asked = call
        .members()
        .and_then(|members| Ok((call.key(&members, "key")?, number(&members, "maxLines"))));
    later(asked, move |(key, max_lines)| async move {
        let keep = max_lines.unwrap_or(COMPACT_LINES).max(1);
        let answer = gateway
            .change(&link, "compacting a session", move |tx| {
                let now = now_ms();
                let mut answer = json!({"ok": true, "key": key.as_str(), "compacted": false});
                let Some(mut held) = held(tx, &key)? else {
                    answer["reason"] = json!("no sessionId");
                    return Ok((answer, None));
                };
                let session = &held.session;
                let of = tx
                    .read()
                    .live_transcript(&session.agent_id, &session.session_id)?;
                let Some(of) = of else {
                    answer["reason"] = json!("no transcript");
                    return Ok((answer, None));
                };
                let lines = of.lines - of.cut_lines;
                if lines <= keep {
                    answer["kept"] = json!(lines);
                    return Ok((answer, None));
                }
                let name = free_name(tx, &of, "bak", now)?;
                tx.compact_transcript(&of, keep, &name, now)?;
                for member in [
                    "inputTokens",
                    "outputTokens",
                    "totalTokens",
                    "totalTokensFresh",
                ] {
                    // They told of what is not there any more.
                    held.entry.remove(member);
                }
                held.session.updated_at_ms = now;
                held.keep(tx, &key)?;
                answer["compacted"] = json!(true);
                answer["kept"] = json!(keep);
                answer["archived"] = json!(name);
                let told = told(tx, &key, "compact", &default)?;
                Ok((answer, told))
            })
            .await?;
        Ok(Reply::json(&answer))
    })
}

pub(crate) fn search(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let default_agent = gateway.default_agent().to_owned();
    later(call.members(), move |asked| async move {
        let agent = text(&asked, "agentId").map(|agent| agent.trim().to_lowercase());
        let keys: Vec<String> = asked
            .get("sessionKeys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter_map(|text| SessionKey::read(text, None, &default_agent).ok())
            .map(|key| key.as_str().to_owned())
            .collect();
        if keys.is_empty() && asked.contains_key("sessionKeys") {
            return Ok(Reply::json(&json!({"results": []})));
        }
        let limit = number(&asked, "limit").unwrap_or(SEARCH_HITS);
        let query = text(&asked, "query").unwrap_or_default().to_owned();
        let mut hits = gateway
            .look(move |db| db.search_messages(&query, agent.as_deref(), &keys, limit + 1))
            .await?;
        let shown = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_cut = hits.len() > shown;
        hits.truncate(shown);
        let results: Vec<Value> = hits
            .into_iter()
            .map(|hit| {
                json!({
                    "sessionKey": hit.session_key,
                    "sessionId": hit.session_id,
                    "messageId": hit.entry_id,
                    "role": hit.role,
                    "timestamp": hit.at_ms.max(0),
                    "snippet": hit.snippet,
                    "score": hit.score,
                })
            })
            .collect();
        Ok(Reply::json(&if is_cut {
            json!({"results": results, "truncated": true})
        } else {
            json!({"results": results})
        }))
    })
}

pub(crate) fn subscribe(call: &Call<'_>) -> Answer {
    call.link.watch().sessions = true;
    Answer::Now(Reply::json(&json!({"subscribed": true})))
}

pub(crate) fn messages_subscribe(call: &Call<'_>) -> Answer {
    crate::dispatch::now(|| {
        let key = call.key(&call.members()?, "key")?;
        let mut watch = call.link.watch();
        if watch.messages.len() >= WATCHED_MAX && !watch.messages.contains(key.as_str()) {
            return Err(ErrorShape::unavailable(format!(
                "a connection can hear of {WATCHED_MAX} sessions at most"
            )));
        }
        watch.messages.insert(key.as_str().to_owned());
        Ok(Reply::json(
            &json!({"subscribed": true, "key": key.as_str()}),
        ))
    })
}

pub(crate) fn messages_unsubscribe(call: &Call<'_>) -> Answer {
    crate::dispatch::now(|| {
        let key = call.key(&call.members()?, "key")?;
        call.link.watch().messages.remove(key.as_str());
        Ok(Reply::json(
            &json!({"subscribed": false, "key": key.as_str()}),
        ))
    })
}

/// What a message says, for a log.
pub(crate) fn said(entry: &Entry) -> String {
    match &entry.text {
        Some(text) => text.clone(),
        None => {
            serde_json::from_str(&entry.body).map_or_else(|_| String::new(), |body| text_of(&body))
        }
    }
}
