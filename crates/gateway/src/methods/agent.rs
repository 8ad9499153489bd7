//! Agents: who is configured, and the files of their workspaces.

use std::sync::Arc;

use clawgate_core::{Dialect, agent};
use clawgate_protocol::{
    ErrorShape,
    agent::{
        CreateParams, DeleteParams, FileParams, Identity, OfAgentParams, UpdateParams,
        WORKSPACE_FILES,
    },
};
use serde_json::{Value, json};

use crate::{
    Gateway,
    agents::{self, Agent, AgentChange, Roster},
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later, now},
    error,
    settings::Change,
    workspace::{self, FileError, Workspace},
};

impl Gateway {
    /// The agents that the configuration has now.
    pub(crate) fn roster(&self) -> Roster {
        Roster::of(&self.config().snapshot.parsed, self.state.path())
    }
}

/// Runs what reads or writes files where it holds nobody up.
pub(super) async fn on_disk<T: Send + 'static>(
    doing: &'static str,
    body: impl FnOnce() -> Result<T, ErrorShape> + Send + 'static,
) -> Result<T, ErrorShape> {
    match tokio::task::spawn_blocking(body).await {
        Ok(outcome) => outcome,
        Err(died) => Err(error::internal(doing, &died)),
    }
}

/// The agent of a call, the default one where none is named.
pub(super) fn named(roster: &Roster, id: Option<&str>) -> Result<Agent, ErrorShape> {
    let Some(id) = id.map(str::trim).filter(|id| !id.is_empty()) else {
        return Ok(roster.default_agent().clone());
    };
    let found = roster.get(id).cloned();
    found.ok_or_else(|| ErrorShape::invalid(format!("unknown agent id \"{id}\"")))
}

pub(crate) fn list(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let dialect = call.dialect();
    later(call.fits(), move |()| async move {
        on_disk("listing agents", move || {
            let roster = gateway.roster();
            let row = |agent| row(agent, dialect);
            let agents: Vec<Value> = roster.agents.iter().map(row).collect();
            Ok(Reply::json(&json!({
                "defaultId": roster.default_id,
                "mainKey": roster.main_key,
                "scope": roster.scope,
                "agents": agents,
            })))
        })
        .await
    })
}

/// One agent; wire 4 tells its workspace and model as well.
fn row(agent: &Agent, dialect: Dialect) -> Value {
    let mut row = json!({"id": agent.id});
    if let Some(name) = &agent.name {
        row["name"] = name.as_str().into();
    }
    if !agent.identity.is_empty() {
        let mut identity = agent.identity.clone();
        identity.avatar_url = identity
            .avatar
            .as_deref()
            .and_then(|avatar| avatar_url(agent, avatar));
        row["identity"] = serde_json::to_value(identity).unwrap_or_default();
    }
    if dialect == Dialect::V4 {
        row["workspace"] = agent.workspace.display().to_string().into();
        if let Some(model) = &agent.model {
            row["model"] = json!({"primary": model});
            if !agent.fallbacks.is_empty() {
                row["model"]["fallbacks"] = json!(agent.fallbacks);
            }
        }
    }
    row
}

/// Bytes of an avatar that is sent along.
const AVATAR_BYTES_MAX: usize = 256 * 1024;

/// An avatar as a browser loads it: an address as it is, a picture of the workspace as data.
fn avatar_url(agent: &Agent, avatar: &str) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    if agent::is_avatar_url(avatar) {
        return Some(avatar.to_owned());
    }
    let kind = match avatar.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        _ => return None,
    };
    let workspace = Workspace::open(&agent.workspace).ok()??;
    let bytes = workspace.read_below(avatar, AVATAR_BYTES_MAX).ok()??;
    Some(format!("data:{kind};base64,{}", STANDARD.encode(bytes)))
}

/// What a name would be called by is not empty, and no more than one line.
fn line(call: &Call<'_>, field: &str, text: &str) -> Result<String, ErrorShape> {
    let text = text.trim();
    if text.is_empty() || text.contains('\0') {
        return Err(call.invalid(&format!("at /{field}: must be a text")));
    }
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The same for what may be left out or blank.
fn optional_line(text: Option<&String>) -> Option<String> {
    let text = text?.replace('\0', "");
    let text: Vec<&str> = text.split_whitespace().collect();
    (!text.is_empty()).then(|| text.join(" "))
}

pub(crate) fn create(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let read = || {
        let params: CreateParams = call.typed()?;
        if call.dialect() == Dialect::V3 && params.workspace.is_none() {
            return Err(call.invalid("must have required property 'workspace'"));
        }
        let name = line(call, "name", &params.name)?;
        let asked = params.workspace.as_deref();
        let state = gateway.state.path();
        let path = asked
            .map(|asked| agents::asked_workspace(asked, state))
            .transpose()
            .map_err(|problem| call.invalid(&problem))?;
        Ok((params, name, path))
    };
    let params = read();
    later(params, move |(params, name, path)| async move {
        let id = agent::id(&name);
        if id == agent::MAIN {
            return Err(ErrorShape::invalid("\"main\" is reserved"));
        }
        let config = gateway.config();
        if gateway.roster().get(&id).is_some() {
            return Err(agents::exists(&id));
        }
        let state = gateway.state.path().to_owned();
        let workspace = path.unwrap_or_else(|| state.join(format!("workspace-{id}")));
        let identity = Identity {
            name: Some(name.clone()),
            emoji: optional_line(params.emoji.as_ref()),
            avatar: optional_line(params.avatar.as_ref()),
            ..Identity::default()
        };
        let change = AgentChange {
            name: Some(name.clone()),
            workspace: params.workspace.map(|asked| asked.trim().to_owned()),
            model: params.model.clone().map(Some),
            ..AgentChange::default()
        };
        let templates = agents::wants_templates(&config.snapshot.parsed);
        let place = workspace.clone();
        on_disk("making a workspace", move || {
            agents::prepare(&place, &identity, templates)
                .map_err(|error| file("IDENTITY.md", error))
        })
        .await?;
        let added = id.clone();
        let edit = Change::edit(move |config| agents::add(config, &added, &change));
        gateway.change_settings_by(&link, None, edit).await?;
        let mut answer = json!({
            "ok": true,
            "agentId": id,
            "name": name,
            "workspace": workspace.display().to_string(),
        });
        if let Some(model) = params.model {
            answer["model"] = model.into();
        }
        Ok(Reply::json(&answer))
    })
}

pub(crate) fn update(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let read = || {
        let params: UpdateParams = call.typed()?;
        let name = params
            .name
            .as_deref()
            .map(|name| line(call, "name", name))
            .transpose()?;
        let state = gateway.state.path();
        let asked = params.workspace.as_deref();
        let path = asked
            .map(|asked| agents::asked_workspace(asked, state))
            .transpose()
            .map_err(|problem| call.invalid(&problem))?;
        Ok((params, name, path))
    };
    let params = read();
    later(params, move |(params, name, path)| async move {
        let id = agent::id(&params.agent_id);
        if gateway.roster().get(&id).is_none() {
            return Err(agents::not_found(&id));
        }
        let config = gateway.config();
        let identity = Identity {
            emoji: optional_line(params.emoji.as_ref()),
            avatar: optional_line(params.avatar.as_ref()),
            ..Identity::default()
        };
        let change = AgentChange {
            name,
            workspace: params.workspace.map(|asked| asked.trim().to_owned()),
            model: params.model,
            identity: agents::configured_part(&config.snapshot.parsed, &id, &identity),
        };
        let changed = id.clone();
        let edit = Change::edit(move |config| agents::alter(config, &changed, &change));
        let after = gateway.change_settings_by(&link, None, edit).await?.config;
        if path.is_some() || !identity.is_empty() {
            let (of, state) = (id.clone(), gateway.state.path().to_owned());
            on_disk("writing an identity", move || {
                let parsed = &after.snapshot.parsed;
                let roster = Roster::of(parsed, &state);
                let agent = roster.get(&of).ok_or_else(|| agents::not_found(&of))?;
                let templates = agents::wants_templates(parsed);
                agents::prepare(&agent.workspace, &identity, templates)
                    .map_err(|error| file("IDENTITY.md", error))
            })
            .await?;
        }
        Ok(Reply::json(&json!({"ok": true, "agentId": id})))
    })
}

pub(crate) fn delete(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<DeleteParams>(), move |params| async move {
        let id = agent::id(&params.agent_id);
        if id == agent::MAIN {
            return Err(ErrorShape::invalid("\"main\" cannot be deleted"));
        }
        let gone = gateway.roster().get(&id).cloned();
        let gone = gone.ok_or_else(|| agents::not_found(&id))?;
        let (tell, told) = std::sync::mpsc::channel();
        let removed = id.clone();
        let edit = Change::edit(move |config| {
            let pruned = agents::prune(config, &removed)?;
            let _ = tell.send(pruned);
            Ok(())
        });
        let after = gateway.change_settings_by(&link, None, edit).await?.config;
        if params.delete_files != Some(false) {
            let state = gateway.state.path().to_owned();
            on_disk("moving an agent's directories to the trash", move || {
                let left = Roster::of(&after.snapshot.parsed, &state);
                agents::discard(&gone, &left, &state, now_ms())
                    .map_err(|error| error::internal("moving directories to the trash", &error))
            })
            .await?;
        }
        let pruned = told.try_recv().unwrap_or_default();
        Ok(Reply::json(&json!({
            "ok": true, "agentId": id, "removedBindings": pruned.bindings,
        })))
    })
}

/// Why a file is not read or written, in the words of the wire.
fn file(name: &str, failed: FileError) -> ErrorShape {
    match failed {
        FileError::Io(error) => error::file("a file of a workspace", &error),
        FileError::Unsafe(_) | FileError::TooLarge => {
            ErrorShape::invalid(format!("unsafe workspace file \"{name}\" ({failed})"))
        }
    }
}

/// Whose files a call is about, and which.
fn file_params(call: &Call<'_>) -> Result<(FileParams, Agent), ErrorShape> {
    let params: FileParams = call.typed()?;
    let roster = call.gateway.roster();
    let agent = roster.get(&params.agent_id).cloned();
    let agent = agent.ok_or_else(|| ErrorShape::invalid("unknown agent id"))?;
    Ok((params, agent))
}

/// The same for one file of those that the wire knows.
fn one_file(call: &Call<'_>) -> Result<(FileParams, Agent), ErrorShape> {
    let (mut params, agent) = file_params(call)?;
    params.name = params.name.trim().to_owned();
    if !WORKSPACE_FILES.contains(&params.name.as_str()) {
        let message = format!("unsupported file \"{}\"", params.name);
        return Err(ErrorShape::invalid(message));
    }
    Ok((params, agent))
}

fn opened(gateway: &Gateway, agent: &Agent) -> Result<Option<Workspace>, ErrorShape> {
    let config = gateway.config();
    agents::workspace_of(agent, &config.snapshot.parsed, gateway.state.path())
        .map_err(|error| error::internal("opening a workspace", &error))
}

pub(crate) fn files_list(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(file_params(call), move |(_, agent)| async move {
        on_disk("listing a workspace", move || {
            let files = match opened(&gateway, &agent)? {
                Some(workspace) => workspace
                    .list()
                    .map_err(|error| error::internal("listing a workspace", &error))?,
                None => workspace::nothing(&agent.workspace),
            };
            Ok(Reply::json(&json!({
                "agentId": agent.id,
                "workspace": agent.workspace.display().to_string(),
                "files": files,
            })))
        })
        .await
    })
}

pub(crate) fn files_get(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(one_file(call), move |(params, agent)| async move {
        on_disk("reading a workspace", move || {
            let found = match opened(&gateway, &agent)? {
                Some(workspace) => workspace
                    .read(&params.name)
                    .map_err(|error| file(&params.name, error))?,
                None => workspace::absent(&agent.workspace, &params.name),
            };
            Ok(Reply::json(&json!({
                "agentId": agent.id,
                "workspace": agent.workspace.display().to_string(),
                "file": found,
            })))
        })
        .await
    })
}

pub(crate) fn files_set(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(one_file(call), move |(params, agent)| async move {
        on_disk("writing a workspace", move || {
            let content = params.content.unwrap_or_default();
            let workspace = match opened(&gateway, &agent)? {
                Some(workspace) => workspace,
                None => Workspace::make(&agent.workspace, false, false)
                    .map_err(|error| error::internal("making a workspace", &error))?,
            };
            let written = workspace
                .write(&params.name, &content)
                .map_err(|error| file(&params.name, error))?;
            Ok(Reply::json(&json!({
                "ok": true,
                "agentId": agent.id,
                "workspace": agent.workspace.display().to_string(),
                "file": written,
            })))
        })
        .await
    })
}

pub(crate) fn identity(call: &Call<'_>) -> Answer {
    let read = || {
        let params: OfAgentParams = call.typed()?;
        let of_key = key_agent(call, params.session_key.as_deref())?;
        let asked = params
            .agent_id
            .as_deref()
            .map(str::trim)
            .filter(|id| !id.is_empty());
        if let (Some(asked), Some(of_key)) = (asked.map(agent::id), &of_key)
            && asked != *of_key
        {
            return Err(call.invalid(&format!(
                "agent \"{asked}\" does not match session key agent \"{of_key}\""
            )));
        }
        Ok(asked.map(agent::id).or(of_key))
    };
    let gateway = Arc::clone(call.gateway);
    later(read(), move |id| async move {
        let shown = gateway.assistant(id).await;
        let shown = shown.map_err(|died| error::internal("reading an identity", &died))?;
        let mut answer = json!({"agentId": shown.id, "name": shown.name, "avatar": shown.avatar});
        if let Some(emoji) = shown.emoji {
            answer["emoji"] = emoji.into();
        }
        Ok(Reply::json(&answer))
    })
}

/// The agent that a session key names; a key that looks like one and is none is refused.
pub(super) fn key_agent(call: &Call<'_>, key: Option<&str>) -> Result<Option<String>, ErrorShape> {
    let Some(key) = key.map(str::trim).filter(|key| !key.is_empty()) else {
        return Ok(None);
    };
    let found = agent::of_session_key(key);
    if found.is_none() && key.to_ascii_lowercase().starts_with("agent:") {
        return Err(call.invalid(&format!("malformed session key \"{key}\"")));
    }
    Ok(found)
}

/// The tools that a turn of an agent can have, by group.
pub(crate) fn tools(call: &Call<'_>) -> Answer {
    now(|| {
        let params: OfAgentParams = call.typed()?;
        let agent = named(&call.gateway.roster(), params.agent_id.as_deref())?;
        let config = call.gateway.config();
        let catalog = crate::tools::catalog(&config.snapshot.parsed, &agent);
        Ok(Reply::json(&catalog))
    })
}

/// How notes are searched, in the original's shape, which knows embeddings alone.
pub(crate) fn memory(call: &Call<'_>) -> Answer {
    now(|| {
        let roster = call.gateway.roster();
        Ok(Reply::json(&json!({
            "agentId": roster.default_id,
            "provider": "none",
            "embedding": {"ok": false, "error": "notes are searched by their words; no embeddings are used"},
        })))
    })
}
