//! How an agent shows itself to people: one answer for the page, for the socket, and for the
//! address of its picture.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clawgate_core::agent::{self, is_avatar_path, is_avatar_url};
use clawgate_protocol::agent::Identity;
use serde_json::Value;

use crate::{
    Gateway,
    agents::{Agent, Roster},
    config::Config,
    workspace::Workspace,
};

/// What the name of a picture's file ends in; nothing else of a workspace is shown to a page.
const PICTURES: [&str; 6] = ["png", "jpg", "jpeg", "gif", "webp", "svg"];
/// Where pictures are, below the base path of the Control UI.
const AVATARS: &str = "/avatar/";

/// An agent, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assistant {
    /// Its id.
    pub id: String,
    /// What a page calls it.
    pub name: String,
    /// What a page shows for it: an address that it loads, or a few characters.
    pub avatar: String,
    /// Its emoji.
    pub emoji: Option<String>,
    /// What is behind `avatar`.
    pub picture: Picture,
}

/// An agent's picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    /// There is none; characters stand for the agent.
    None,
    /// An address that a page loads by itself: `https:`, or `data:image/`.
    Address(String),
    /// A file: the agent's workspace, and the names that lead to it from there.
    File(Arc<Path>, String),
}

impl Gateway {
    /// The agent with this id, or the default one. It looks into the agent's workspace.
    pub(crate) async fn assistant(
        self: &Arc<Self>,
        id: Option<String>,
    ) -> Result<Assistant, tokio::task::JoinError> {
        let gateway = Arc::clone(self);
        let look = move || Assistant::of(&gateway.config(), gateway.state.path(), id.as_deref());
        tokio::task::spawn_blocking(look).await
    }
}

impl Assistant {
    /// Reads the configuration, and `IDENTITY.md` for what is not said there. An agent that is not
    /// configured has no workspace to look into.
    fn of(config: &Config, state: &Path, id: Option<&str>) -> Self {
        let parsed = &config.snapshot.parsed;
        let roster = Roster::of(parsed, state);
        let agent = id.map_or_else(|| Some(roster.default_agent()), |id| roster.get(id));
        let id = id.map_or_else(|| roster.default_id.clone(), agent::id);
        let text = |pointer| parsed.pointer(pointer).and_then(Value::as_str);
        let interface = Identity {
            name: text("/ui/assistant/name").map(str::to_owned),
            avatar: text("/ui/assistant/avatar").map(str::to_owned),
            ..Identity::default()
        };
        let of_file = agent
            .and_then(|agent| Workspace::open(&agent.workspace).ok().flatten())
            .map(|workspace| workspace.identity());
        let configured = agent.map(|agent| agent.identity.clone());
        let shown = agent::shown(
            &interface,
            &configured.unwrap_or_default(),
            &of_file.unwrap_or_default(),
        );
        let base = &config.control_ui.base_path;
        Self {
            avatar: if is_avatar_url(&shown.avatar) || !is_avatar_path(&shown.avatar) {
                shown.avatar.clone()
            } else if shown.avatar.starts_with(AVATARS) {
                format!("{base}{}", shown.avatar)
            } else {
                format!("{base}{AVATARS}{id}")
            },
            picture: agent.map_or(Picture::None, |agent| Picture::of(agent, &shown.avatar)),
            name: shown.name,
            emoji: shown.emoji,
            id,
        }
    }
}

impl Picture {
    fn of(agent: &Agent, avatar: &str) -> Self {
        if is_avatar_url(avatar) {
            return Self::Address(avatar.to_owned());
        }
        // A path from the root is good if it lies in the workspace all the same.
        let workspace: &PathBuf = &agent.workspace;
        let below = match Path::new(avatar).strip_prefix(workspace) {
            Ok(below) => below.to_str().unwrap_or_default(),
            Err(_) => avatar.strip_prefix("./").unwrap_or(avatar),
        };
        let ending = below.rsplit_once('.').map(|(_, ending)| ending);
        if ending.is_some_and(|ending| {
            PICTURES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(ending))
        }) {
            Self::File(Arc::from(workspace.as_path()), below.to_owned())
        } else {
            Self::None
        }
    }
}
