//! What a turn is asked to do. It is kept as JSON until the turn is over.

use clawgate_core::{
    lane::{Lane, QueueMode},
    session::SessionKey,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A request for a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wanted {
    /// Its key: asked for twice it is done once.
    pub(crate) run_id: String,
    /// In which session.
    #[serde(with = "key")]
    pub(crate) key: SessionKey,
    /// The key as the caller wrote it; wire 3 gets it back so.
    pub(crate) written_key: String,
    /// Who asks.
    pub(crate) origin: Origin,
    /// What is said. Empty for a turn over what waits in the session alone.
    pub(crate) message: String,
    /// Pictures to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<Image>,
    /// A model other than the session's, `provider/model` or an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// What comes after it; `None` for what is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fallbacks: Option<Vec<String>>,
    /// How much is thought, other than in the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<String>,
    /// From its beginning, milliseconds; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    /// What the agent is told besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extra_system: Option<String>,
    /// Without the files of the workspace.
    #[serde(default)]
    pub(crate) light: bool,
    /// The tools that it may have at most; `None` for what is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tools: Option<Vec<String>>,
    /// What happens when the session is busy.
    #[serde(with = "mode")]
    pub(crate) queue: QueueMode,
    /// The conversation begins anew with it.
    #[serde(default)]
    pub(crate) fresh: bool,
    /// A name for the session, if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// The connection that asked, which hears of its tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conn_id: Option<String>,
    /// The device that asked, which may abort it from another connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device_id: Option<String>,
    /// Whether it begins after a restart, if it did not before.
    #[serde(default)]
    pub(crate) resumes: bool,
}

impl Wanted {
    /// A turn of which nothing is said but where it is and who asks.
    pub(crate) fn new(run_id: String, key: SessionKey, origin: Origin) -> Self {
        Self {
            run_id,
            written_key: key.as_str().to_owned(),
            key,
            origin,
            message: String::new(),
            images: Vec::new(),
            model: None,
            fallbacks: None,
            thinking: None,
            timeout_ms: None,
            extra_system: None,
            light: false,
            tools: None,
            queue: QueueMode::default(),
            fresh: false,
            label: None,
            conn_id: None,
            device_id: None,
            resumes: true,
        }
    }
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// `image/png`, …
    pub(crate) mime: String,
    /// Base64.
    pub(crate) data: String,
}

/// Who asks for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// `chat.send`.
    Chat,
    /// `agent`.
    Agent,
    /// A job.
    Cron,
    /// `POST /hooks/agent` and mapped hooks.
    Hook,
    /// `POST /v1/…`.
    Http,
    /// A heartbeat or a wake.
    Heartbeat,
    /// A tool of another turn.
    Nested,
}

impl Origin {
    pub(crate) const fn lane(self) -> Lane {
        match self {
            Self::Chat | Self::Agent | Self::Hook | Self::Http | Self::Heartbeat => Lane::Main,
            Self::Cron => Lane::Cron,
            Self::Nested => Lane::Nested,
        }
    }

    /// Whether somebody may be there who answers a question.
    pub(crate) const fn is_attended(self) -> bool {
        matches!(self, Self::Chat | Self::Agent)
    }

    /// Whether whoever asked reads the answer and may say more.
    pub(crate) const fn has_reader(self) -> bool {
        matches!(self, Self::Chat | Self::Agent | Self::Http)
    }

    /// Whether a person's words are in it, which may be answered together with others.
    pub(crate) const fn is_conversation(self) -> bool {
        matches!(self, Self::Chat | Self::Agent)
    }
}

mod key {
    use super::{Deserialize as _, Deserializer, Serializer, SessionKey};

    pub(super) fn serialize<S: Serializer>(key: &SessionKey, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}\n{}", key.agent(), key.as_str()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SessionKey, D::Error> {
        let text = String::deserialize(from)?;
        let (agent, key) = text.split_once('\n').unwrap_or(("main", &text));
        SessionKey::read(key, Some(agent), agent)
            .map_err(|bad| serde::de::Error::custom(bad.sentence()))
    }
}

mod mode {
    use super::{Deserialize as _, Deserializer, QueueMode, Serializer};

    pub(super) fn serialize<S: Serializer>(mode: &QueueMode, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(mode.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<QueueMode, D::Error> {
        let word = String::deserialize(from)?;
        Ok(QueueMode::parse(&word).unwrap_or_default())
    }
}
