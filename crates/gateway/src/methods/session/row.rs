//! A session as it is held, and as lists show it.

use clawgate_core::{
    Dialect,
    session::{self, SessionKey},
};
use clawgate_store::{ListedSession, Session, StoreError, Tx};
use serde_json::{Map, Value, json};

use crate::{config::Config, transcript::iso};

/// Members of an entry that are long and seldom asked for.
pub(crate) const REPORTS: [&str; 2] = ["skillsSnapshot", "systemPromptReport"];
/// Members of an entry that a row shows as they are.
const SHOWN: &[&str] = &[
    "label",
    "channel",
    "chatType",
    "subject",
    "groupChannel",
    "space",
    "origin",
    "spawnedBy",
    "spawnDepth",
    "subagentRole",
    "systemSent",
    "abortedLastRun",
    "thinkingLevel",
    "fastMode",
    "verboseLevel",
    "reasoningLevel",
    "elevatedLevel",
    "sendPolicy",
    "responseUsage",
    "inputTokens",
    "outputTokens",
    "contextTokens",
    "lastChannel",
    "lastTo",
    "lastAccountId",
];
/// The same in wire 4 besides.
const SHOWN_V4: &[&str] = &[
    "icon",
    "color",
    "category",
    "statusNote",
    "attention",
    "pinned",
    "pinnedAt",
    "unread",
    "markedUnreadAt",
    "traceLevel",
    "permissionMode",
    "parentSessionKey",
    "createdVia",
];

/// Members of an entry that are of one conversation and end with it.
const OF_CONVERSATION: &[&str] = &[
    "sessionFile",
    "compactionCount",
    "memoryFlushAt",
    "memoryFlushCompactionCount",
    "cacheRead",
    "cacheWrite",
];

/// The model that answers when nothing else is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct DefaultModel {
    pub(crate) provider: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) context_tokens: Option<i64>,
    pub(crate) thinking: Option<String>,
    /// The models that may be chosen, if the configuration names any.
    pub(crate) allowed: Option<Vec<String>>,
}

impl DefaultModel {
    pub(crate) fn of(config: &Config) -> Self {
        let defaults = config.snapshot.parsed.pointer("/agents/defaults");
        let at = |pointer: &str| defaults.and_then(|defaults| defaults.pointer(pointer));
        let named = at("/model/primary").or_else(|| at("/model"));
        let (provider, model) = match named.and_then(Value::as_str) {
            Some(named) => match named.split_once('/') {
                Some((provider, model)) => (Some(provider.to_owned()), Some(model.to_owned())),
                None => (None, Some(named.to_owned())),
            },
            None => (None, None),
        };
        Self {
            provider,
            model,
            context_tokens: at("/contextTokens").and_then(Value::as_i64),
            thinking: at("/thinkingDefault")
                .and_then(Value::as_str)
                .map(str::to_owned),
            allowed: at("/models")
                .and_then(Value::as_object)
                .filter(|models| !models.is_empty())
                .map(|models| models.keys().cloned().collect()),
        }
    }
}

/// A session whose entry can be changed.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) session: Session,
    pub(crate) entry: Map<String, Value>,
}

impl Held {
    pub(crate) fn of(session: Session) -> Self {
        let entry = match serde_json::from_str(&session.entry) {
            Ok(Value::Object(entry)) => entry,
            _ => Map::new(),
        };
        Self { session, entry }
    }

    /// A session that was not there before.
    pub(crate) fn new(key: &SessionKey, now_ms: i64) -> Self {
        Self {
            session: Session {
                key: key.as_str().to_owned(),
                agent_id: key.agent().to_owned(),
                session_id: uuid::Uuid::new_v4().to_string(),
                kind: String::new(),
                is_run: key.is_cron_run(),
                label: None,
                spawned_by: None,
                archived_at_ms: None,
                created_at_ms: now_ms,
                updated_at_ms: now_ms,
                names: String::new(),
                entry: String::new(),
            },
            entry: Map::new(),
        }
    }

    pub(crate) fn text(&self, member: &str) -> Option<&str> {
        self.entry.get(member).and_then(Value::as_str)
    }

    /// What the entry says of a conversation is that of a new one.
    pub(crate) fn end_conversation(&mut self) {
        for member in OF_CONVERSATION {
            self.entry.remove(*member);
        }
        for (member, value) in [
            ("systemSent", json!(false)),
            ("abortedLastRun", json!(false)),
            ("inputTokens", json!(0)),
            ("outputTokens", json!(0)),
            ("totalTokens", json!(0)),
            ("totalTokensFresh", json!(true)),
        ] {
            self.entry.insert(member.to_owned(), value);
        }
    }

    /// Writes it as it is now.
    pub(crate) fn keep(&mut self, tx: &Tx<'_>, key: &SessionKey) -> Result<(), StoreError> {
        let text = |member: &str| {
            self.entry
                .get(member)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let names: Vec<String> = [
            text("label"),
            text("displayName"),
            text("subject"),
            Some(self.session.session_id.clone()),
            Some(self.session.key.clone()),
        ]
        .into_iter()
        .flatten()
        .collect();
        self.session.names = names.join("\n").to_lowercase();
        self.session.label = text("label");
        self.session.spawned_by = text("spawnedBy");
        self.session.kind = key.kind(self.text("chatType")).as_str().to_owned();
        self.session.entry = Value::Object(self.entry.clone()).to_string();
        tx.keep_session(&self.session)
    }

    /// The entry as the original's store has it.
    pub(crate) fn shown(&self) -> Value {
        let mut entry = self.entry.clone();
        entry.insert("sessionId".to_owned(), json!(self.session.session_id));
        entry.insert("updatedAt".to_owned(), json!(self.session.updated_at_ms));
        Value::Object(entry)
    }

    /// Provider and model that answer in this session.
    pub(crate) fn model(&self, default: &DefaultModel) -> (Option<String>, Option<String>) {
        let pair = |provider: &str, model: &str| {
            let model = self.text(model)?.to_owned();
            let provider = self.text(provider).map(str::to_owned);
            Some((provider.or_else(|| default.provider.clone()), Some(model)))
        };
        pair("providerOverride", "modelOverride")
            .or_else(|| pair("modelProvider", "model"))
            .unwrap_or_else(|| (default.provider.clone(), default.model.clone()))
    }
}

/// What a list is asked to show besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) titles: bool,
    pub(crate) last_message: bool,
}

/// A session as a row.
pub(crate) fn row(
    listed: ListedSession,
    default: &DefaultModel,
    wanted: Wanted,
    dialect: Dialect,
) -> Value {
    let (first_text, last_text, last_at_ms) =
        (listed.first_text, listed.last_text, listed.last_at_ms);
    let held = Held::of(listed.session);
    let session = &held.session;
    let mut row = Map::new();
    let mut put = |member: &str, value: Value| {
        if !value.is_null() {
            row.insert(member.to_owned(), value);
        }
    };
    for member in SHOWN {
        put(member, held.entry.get(*member).cloned().unwrap_or_default());
    }
    put("key", json!(session.key));
    put("kind", json!(session.kind));
    put("sessionId", json!(session.session_id));
    put("updatedAt", json!(session.updated_at_ms));
    let origin = held
        .entry
        .get("origin")
        .and_then(|origin| origin.get("label"));
    let label = held.text("label");
    put(
        "displayName",
        json!(
            held.text("displayName")
                .or(label)
                .or(origin.and_then(Value::as_str))
        ),
    );
    if held.entry.get("channel").is_none() {
        let key = SessionKey::read(&session.key, None, &session.agent_id).ok();
        put("channel", json!(key.as_ref().and_then(SessionKey::channel)));
    }
    let is_fresh = held.entry.get("totalTokensFresh") == Some(&Value::Bool(true));
    put("totalTokensFresh", json!(is_fresh));
    if is_fresh {
        put(
            "totalTokens",
            held.entry.get("totalTokens").cloned().unwrap_or_default(),
        );
    }
    let (provider, model) = held.model(default);
    put("modelProvider", json!(provider));
    put("model", json!(model));
    put("deliveryContext", delivery_context(&held.entry));
    if wanted.titles {
        let day = iso(session.updated_at_ms);
        let names = [held.text("displayName"), held.text("subject")];
        let day = day.split('T').next().unwrap_or_default();
        put(
            "derivedTitle",
            json!(session::derived_title(
                &names,
                first_text.as_deref(),
                &session.session_id,
                day
            )),
        );
    }
    if wanted.last_message {
        put("lastMessagePreview", json!(last_text));
    }
    if dialect == Dialect::V4 {
        for member in SHOWN_V4 {
            put(member, held.entry.get(*member).cloned().unwrap_or_default());
        }
        put("agentId", json!(session.agent_id));
        put(
            "isMain",
            json!(session.key == SessionKey::main_of(&session.agent_id).as_str()),
        );
        put("createdAt", json!(session.created_at_ms));
        put("lastActivityAt", json!(last_at_ms));
        if let Some(at) = session.archived_at_ms {
            put("archived", json!(true));
            put("archivedAt", json!(at));
        }
    }
    Value::Object(row)
}

/// Where answers of a session go, from what its channel said last.
fn delivery_context(entry: &Map<String, Value>) -> Value {
    if let Some(context @ Value::Object(_)) = entry.get("deliveryContext") {
        return context.clone();
    }
    let mut context = Map::new();
    for (from, to) in [
        ("lastChannel", "channel"),
        ("lastTo", "to"),
        ("lastAccountId", "accountId"),
        ("lastThreadId", "threadId"),
    ] {
        if let Some(value) = entry.get(from) {
            context.insert(to.to_owned(), value.clone());
        }
    }
    if context.is_empty() {
        Value::Null
    } else {
        Value::Object(context)
    }
}
