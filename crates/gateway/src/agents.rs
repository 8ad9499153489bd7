//! Agents: what the configuration says about them, and how it is changed.
//!
//! There is no list of agents besides the configuration's. Reading it is a look at what holds now;
//! a change is an edit that the owner of the file carries out.

use std::path::{Component, Path, PathBuf};

use clawgate_core::agent::{self, MAIN};
use clawgate_protocol::{ErrorShape, agent::Identity};
use serde_json::{Map, Value, json};

use crate::{
    config::{Config, ConfigError, Environment, Overrides},
    settings::{Change, Unchanged, change_file},
    workspace::{self, FileError, Workspace},
};

/// One agent, as the configuration has it and with what holds where it says nothing.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Who the configuration says that it is; its workspace may know more.
    pub identity: Identity,
    /// Where it works.
    pub workspace: PathBuf,
    /// Where its own state would be in the original's layout.
    pub agent_dir: PathBuf,
    /// Its model, or the one of all agents, as `provider/model`.
    pub model: Option<String>,
    /// Which come after it.
    pub fallbacks: Vec<String>,
    /// How many rules of `bindings` lead to it.
    pub bindings: usize,
}

/// Every agent, the default one first and the others by id.
#[derive(Clone, Debug)]
pub struct Roster {
    /// The agent that is meant where none is named.
    pub default_id: String,
    /// `session.mainKey`.
    pub main_key: String,
    /// `session.scope`.
    pub scope: String,
    /// At least one.
    pub agents: Vec<Agent>,
}

/// A text member that is not blank.
fn text(value: &Value, pointer: &str) -> Option<String> {
    let text = value.pointer(pointer)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// `agents.list[].model`, `agents.defaults.model` and the like: a text, or an object with `primary`.
pub(crate) fn primary_model(value: Option<&Value>) -> Option<String> {
    let value = value?;
    let text = value.as_str().or_else(|| value.get("primary")?.as_str())?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A path as the configuration has it: `~` is the home directory, and what is not absolute lies in
/// the state directory, wherever the process was started.
pub(crate) fn resolved(path: &str, state: &Path) -> PathBuf {
    let path = path.replace('\0', "");
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        (None, Some(home)) if path == "~" => home,
        _ => state.join(path),
    }
}

fn entries(config: &Value) -> impl Iterator<Item = &Value> {
    let list = config.pointer("/agents/list").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter(|entry| entry["id"].as_str().is_some_and(|id| !id.trim().is_empty()))
}

fn is_entry_of(entry: &Value, id: &str) -> bool {
    entry["id"].as_str().is_some_and(|own| agent::id(own) == id)
}

impl Roster {
    /// Reads it from a configuration.
    pub fn of(config: &Value, state: &Path) -> Self {
        let default_id = entries(config)
            .find(|entry| entry["default"] == true)
            .or_else(|| entries(config).next())
            .and_then(|entry| entry["id"].as_str())
            .map_or_else(|| MAIN.to_owned(), agent::id);
        let mut ids: Vec<String> = entries(config)
            .filter_map(|entry| entry["id"].as_str())
            .map(agent::id)
            .filter(|id| *id != default_id)
            .collect();
        ids.sort();
        ids.dedup();
        ids.insert(0, default_id.clone());
        let agents = ids
            .into_iter()
            .map(|id| Agent::of(id, &default_id, config, state))
            .collect();
        Self {
            default_id,
            main_key: text(config, "/session/mainKey")
                .map_or_else(|| MAIN.to_owned(), |key| key.to_lowercase()),
            scope: text(config, "/session/scope").unwrap_or_else(|| "per-sender".to_owned()),
            agents,
        }
    }

    /// An agent by id or anything that becomes its id.
    pub fn get(&self, id: &str) -> Option<&Agent> {
        let id = agent::id(id);
        self.agents.iter().find(|agent| agent.id == id)
    }

    /// The default agent.
    pub fn default_agent(&self) -> &Agent {
        self.agents.first().expect("a roster has the default agent")
    }
}

impl Agent {
    fn of(id: String, default_id: &str, config: &Value, state: &Path) -> Self {
        let null = Value::Null;
        let entry = entries(config)
            .find(|entry| is_entry_of(entry, &id))
            .unwrap_or(&null);
        let path = |pointer| text(entry, pointer).map(|path| resolved(&path, state));
        let workspace = path("/workspace").unwrap_or_else(|| {
            if id != default_id {
                return state.join(format!("workspace-{id}"));
            }
            text(config, "/agents/defaults/workspace")
                .map_or_else(|| state.join("workspace"), |path| resolved(&path, state))
        });
        let avatar = text(entry, "/identity/avatar");
        let bindings = config.get("bindings").and_then(Value::as_array);
        let leads_here = |binding: &&Value| {
            binding["agentId"]
                .as_str()
                .map_or(id == MAIN, |to| agent::id(to) == id)
        };
        Self {
            name: text(entry, "/name"),
            identity: Identity {
                name: text(entry, "/identity/name"),
                theme: text(entry, "/identity/theme"),
                emoji: text(entry, "/identity/emoji"),
                avatar_url: None,
                avatar,
            },
            workspace,
            agent_dir: path("/agentDir")
                .unwrap_or_else(|| state.join("agents").join(&id).join("agent")),
            model: primary_model(entry.get("model"))
                .or_else(|| primary_model(config.pointer("/agents/defaults/model"))),
            fallbacks: [
                entry.pointer("/model"),
                config.pointer("/agents/defaults/model"),
            ]
            .into_iter()
            .flatten()
            .find_map(|model| model.get("fallbacks")?.as_array())
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
            bindings: bindings.into_iter().flatten().filter(leads_here).count(),
            id,
        }
    }
}

/// Whether new workspaces get their first files.
pub(crate) fn wants_templates(config: &Value) -> bool {
    config.pointer("/agents/defaults/skipBootstrap") != Some(&Value::Bool(true))
}

/// Opens the workspace of an agent. One in the state directory is made when it is first used; one
/// elsewhere is the operator's, and is not there until somebody makes it.
pub(crate) fn workspace_of(
    agent: &Agent,
    config: &Value,
    state: &Path,
) -> std::io::Result<Option<Workspace>> {
    if agent.workspace.starts_with(state) {
        return Workspace::make(&agent.workspace, wants_templates(config), false).map(Some);
    }
    Workspace::open(&agent.workspace)
}

/// What is to be changed about an agent. `None` stays.
#[derive(Clone, Debug, Default)]
pub struct AgentChange {
    /// What people call it.
    pub name: Option<String>,
    /// Where it works: absolute, or below `~`.
    pub workspace: Option<String>,
    /// `provider/model`, or none of its own.
    pub model: Option<Option<String>>,
    /// Members of `identity`.
    pub identity: Identity,
}

/// Why an agent is not changed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What was asked for cannot be, in words.
    #[error("{0}")]
    Refused(String),
    /// The configuration could not be used afterwards, or now.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A workspace that was asked for, as a path; refused where it would cover the gateway's own state.
pub(crate) fn asked_workspace(asked: &str, state: &Path) -> Result<PathBuf, String> {
    let asked = asked.trim();
    if asked.contains('\0') || !(asked.starts_with('/') || asked == "~" || asked.starts_with("~/"))
    {
        return Err("workspace must be an absolute path, or begin with ~/".to_owned());
    }
    let path = resolved(asked, state);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("workspace must not contain ..".to_owned());
    }
    // Links on the way count: what matters is where it leads.
    let real = real(&path);
    let state = real_or_same(state);
    let is_state = state.starts_with(&real);
    let inside = real
        .strip_prefix(&state)
        .ok()
        .and_then(|rest| rest.components().next());
    let is_for_workspaces =
        inside.is_none_or(|first| first.as_os_str().to_string_lossy().starts_with("workspace"));
    if is_state || !is_for_workspaces {
        return Err("workspace would cover the state of the gateway".to_owned());
    }
    Ok(path)
}

fn real_or_same(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Where a path leads, as far as it is there.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), ..) => path.to_owned(),
    }
}

/// The object at a key, made if it is not there.
fn object<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, ErrorShape> {
    map.entry(key)
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(|| ErrorShape::invalid(format!("invalid config: {key}: expected an object")))
}

/// The entry of an agent, made if it is not there.
fn entry_mut<'a>(
    config: &'a mut Value,
    id: &str,
    default_id: &str,
) -> Result<&'a mut Map<String, Value>, ErrorShape> {
    let not_an_object = || ErrorShape::invalid("invalid config: expected an object");
    let root = config.as_object_mut().ok_or_else(not_an_object)?;
    let list = object(root, "agents")?
        .entry("list")
        .or_insert_with(|| json!([]))
        .as_array_mut()
        .ok_or_else(|| ErrorShape::invalid("invalid config: agents.list: expected a list"))?;
    let at = match list.iter().position(|entry| is_entry_of(entry, id)) {
        Some(at) => at,
        None => {
            // The default agent is the first of the list: it must not become another one.
            if list.is_empty() && id != default_id {
                list.push(json!({"id": default_id}));
            }
            list.push(json!({"id": id}));
            list.len() - 1
        }
    };
    list[at].as_object_mut().ok_or_else(not_an_object)
}

/// Sets what a change names.
fn set(entry: &mut Map<String, Value>, change: &AgentChange) -> Result<(), ErrorShape> {
    if let Some(name) = &change.name {
        entry.insert("name".to_owned(), name.as_str().into());
    }
    if let Some(workspace) = &change.workspace {
        entry.insert("workspace".to_owned(), workspace.as_str().into());
    }
    match &change.model {
        Some(Some(model)) => {
            entry.insert("model".to_owned(), model.as_str().into());
        }
        Some(None) => {
            entry.shift_remove("model");
        }
        None => {}
    }
    let identity = serde_json::to_value(&change.identity).unwrap_or_default();
    for (key, value) in identity.as_object().into_iter().flatten() {
        object(entry, "identity")?.insert(key.clone(), value.clone());
    }
    Ok(())
}

/// Adds an agent to a configuration.
pub(crate) fn add(config: &mut Value, id: &str, change: &AgentChange) -> Result<(), ErrorShape> {
    let default_id = Roster::of(config, Path::new("")).default_id;
    if entries(config).any(|entry| is_entry_of(entry, id)) {
        return Err(exists(id));
    }
    set(entry_mut(config, id, &default_id)?, change)
}

pub(crate) fn exists(id: &str) -> ErrorShape {
    ErrorShape::invalid(format!("agent \"{id}\" already exists"))
}

pub(crate) fn not_found(id: &str) -> ErrorShape {
    ErrorShape::invalid(format!("agent \"{id}\" not found"))
}

/// Changes an agent in a configuration.
pub(crate) fn alter(config: &mut Value, id: &str, change: &AgentChange) -> Result<(), ErrorShape> {
    let roster = Roster::of(config, Path::new(""));
    if roster.get(id).is_none() {
        return Err(not_found(id));
    }
    set(entry_mut(config, id, &roster.default_id)?, change)
}

/// What of the identity stands in the configuration and hides what the workspace says: only that
/// is changed there, the rest belongs into the workspace.
pub(crate) fn configured_part(config: &Value, id: &str, identity: &Identity) -> Identity {
    let entry = entries(config).find(|entry| is_entry_of(entry, id));
    let stands = |key: &str| entry.is_some_and(|entry| entry["identity"].get(key).is_some());
    let keep = |key: &str, value: &Option<String>| value.clone().filter(|_| stands(key));
    Identity {
        name: keep("name", &identity.name),
        theme: keep("theme", &identity.theme),
        emoji: keep("emoji", &identity.emoji),
        avatar: keep("avatar", &identity.avatar),
        avatar_url: None,
    }
}

/// How many things went with an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rules of `bindings`.
    pub bindings: usize,
    /// Entries of `tools.agentToAgent.allow`.
    pub allow: usize,
}

/// Removes an agent from a configuration, with whatever leads to it.
pub(crate) fn prune(config: &mut Value, id: &str) -> Result<Pruned, ErrorShape> {
    if !entries(config).any(|entry| is_entry_of(entry, id)) {
        return Err(not_found(id));
    }
    let list = config
        .pointer_mut("/agents/list")
        .and_then(Value::as_array_mut);
    if let Some(list) = list {
        list.retain(|entry| !is_entry_of(entry, id));
        if list.is_empty()
            && let Some(agents) = config["agents"].as_object_mut()
        {
            agents.shift_remove("list");
        }
    }
    let drop_from = |list: Option<&mut Value>, gone: &dyn Fn(&Value) -> bool| {
        let Some(list) = list.and_then(Value::as_array_mut) else {
            return 0;
        };
        let before = list.len();
        list.retain(|item| !gone(item));
        before - list.len()
    };
    Ok(Pruned {
        bindings: drop_from(config.get_mut("bindings"), &|binding| {
            binding["agentId"]
                .as_str()
                .is_some_and(|to| agent::id(to) == id)
        }),
        allow: drop_from(
            config.pointer_mut("/tools/agentToAgent/allow"),
            &|allowed| allowed == id,
        ),
    })
}

/// Moves the directories of a removed agent to the trash: those in the state directory, if no
/// other agent works there. What lies elsewhere is the operator's and stays.
pub(crate) fn discard(
    gone: &Agent,
    left: &Roster,
    state: &Path,
    now_ms: i64,
) -> std::io::Result<()> {
    let state = real_or_same(state);
    let in_use = |path: &Path| {
        let of_others = |other: &Agent| {
            let (workspace, own) = (real(&other.workspace), real(&other.agent_dir));
            [workspace, own]
                .iter()
                .any(|used| used.starts_with(path) || path.starts_with(used))
        };
        left.agents.iter().any(of_others)
    };
    let whole = state.join("agents").join(&gone.id);
    for path in [real(&gone.workspace), real(&whole)] {
        let ours = path
            .strip_prefix(&state)
            .ok()
            .and_then(|rest| rest.components().next())
            .is_some_and(|first| {
                let first = first.as_os_str().to_string_lossy();
                first.starts_with("workspace") || first == "agents"
            });
        if ours && !in_use(&path) {
            workspace::discard(&path, &state, now_ms)?;
        }
    }
    Ok(())
}

/// Makes the workspace of an agent and writes into it who the agent is.
pub(crate) fn prepare(
    workspace: &Path,
    identity: &Identity,
    templates: bool,
) -> Result<(), FileError> {
    let workspace = Workspace::make(workspace, templates, true)?;
    let lines: String = [
        ("Name", &identity.name),
        ("Theme", &identity.theme),
        ("Emoji", &identity.emoji),
        ("Avatar", &identity.avatar),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some((label, value.as_deref()?.trim())))
    .filter(|(_, value)| !value.is_empty())
    .map(|(label, value)| agent::identity_line(label, value))
    .collect();
    if lines.is_empty() {
        return Ok(());
    }
    workspace.add_identity(&lines)
}

/// The file and the directory that the command line works on, without a gateway.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The configuration.
    pub config: &'a Path,
    /// The state directory.
    pub state: &'a Path,
    /// `gateway.auth.password` of the environment.
    pub password: Option<secrecy::SecretString>,
}

impl Place<'_> {
    /// The configuration as it is now.
    fn read(&self) -> Result<Value, AgentError> {
        let text = crate::settings::read(self.config)?;
        Ok(self.judge(text)?.snapshot.parsed)
    }

    fn judge(&self, text: Option<String>) -> Result<Config, ConfigError> {
        let environment = Environment {
            token: None,
            password: self.password.clone(),
        };
        let generated = || Ok(secrecy::SecretString::from("not-generated"));
        Config::of(
            self.config,
            text,
            &Overrides::default(),
            &environment,
            generated,
        )
    }

    /// Changes the file. A gateway that runs on it takes the change up by itself.
    fn change(
        &self,
        edit: impl FnOnce(&mut Value) -> Result<(), ErrorShape> + Send + 'static,
    ) -> Result<Value, AgentError> {
        let changed = change_file(self.config, None, Change::edit(edit), |text| {
            self.judge(Some(text)).map_err(Unchanged::Invalid)
        });
        match changed {
            Ok(config) => Ok(config.snapshot.parsed),
            Err(Unchanged::Io(error)) => Err(error.into()),
            Err(Unchanged::Invalid(error)) => Err(error.into()),
            Err(Unchanged::Refused(error)) => Err(AgentError::Refused(error.message)),
            // What the file says was read before, and an edit is no text of the caller's.
            Err(_) => Err(AgentError::Refused(
                "the configuration could not be changed in place".to_owned(),
            )),
        }
    }

    /// Adds an agent and makes its workspace.
    ///
    /// # Errors
    /// Why it cannot be; nothing is configured then.
    pub fn add_agent(&self, name: &str, mut change: AgentChange) -> Result<Agent, AgentError> {
        let id = agent::id(name);
        if id == MAIN {
            return Err(AgentError::Refused(format!("\"{MAIN}\" is reserved")));
        }
        let before = self.read()?;
        if entries(&before).any(|entry| is_entry_of(entry, &id)) {
            return Err(AgentError::Refused(exists(&id).message));
        }
        change.name = Some(name.trim().to_owned());
        let workspace = match &change.workspace {
            Some(asked) => asked_workspace(asked, self.state).map_err(AgentError::Refused)?,
            None => self.state.join(format!("workspace-{id}")),
        };
        let identity = Identity {
            name: change.name.clone(),
            ..Identity::default()
        };
        prepare(&workspace, &identity, wants_templates(&before)).map_err(of_file)?;
        let added = id.clone();
        let after = self.change(move |config| add(config, &added, &change))?;
        let roster = Roster::of(&after, self.state);
        let agent = roster.get(&id).cloned();
        agent.ok_or_else(|| AgentError::Refused(not_found(&id).message))
    }

    /// Sets members of the identity of an agent in the configuration.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn set_identity(&self, id: &str, identity: Identity) -> Result<Agent, AgentError> {
        let id = agent::id(id);
        let changed = id.clone();
        let change = AgentChange {
            identity,
            ..AgentChange::default()
        };
        let after = self.change(move |config| alter(config, &changed, &change))?;
        let agent = Roster::of(&after, self.state).get(&id).cloned();
        agent.ok_or_else(|| AgentError::Refused(not_found(&id).message))
    }

    /// Who the `IDENTITY.md` in a directory says that an agent is.
    ///
    /// # Errors
    /// The system's.
    pub fn identity_of(&self, workspace: &Path) -> Result<Identity, AgentError> {
        let workspace = Workspace::open(workspace)?;
        Ok(workspace.map_or_else(Identity::default, |workspace| workspace.identity()))
    }

    /// Removes an agent, and its directories in the state directory.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn delete_agent(&self, id: &str, now_ms: i64) -> Result<(Agent, Pruned), AgentError> {
        let id = agent::id(id);
        if id == MAIN {
            return Err(AgentError::Refused(format!("\"{MAIN}\" cannot be deleted")));
        }
        let gone = Roster::of(&self.read()?, self.state).get(&id).cloned();
        let gone = gone.ok_or_else(|| AgentError::Refused(not_found(&id).message))?;
        let (tell, told) = std::sync::mpsc::channel();
        let after = self.change(move |config| {
            let pruned = prune(config, &id)?;
            let _ = tell.send(pruned);
            Ok(())
        })?;
        discard(&gone, &Roster::of(&after, self.state), self.state, now_ms)?;
        Ok((gone, told.recv().unwrap_or_default()))
    }
}

/// Who the text of an `IDENTITY.md` says that an agent is.
pub fn identity_in(text: &str) -> Identity {
    agent::read_identity(text)
}

fn of_file(error: FileError) -> AgentError {
    match error {
        FileError::Io(error) => AgentError::Io(error),
        FileError::Unsafe(_) | FileError::TooLarge => {
            AgentError::Refused(format!("unsafe workspace file \"IDENTITY.md\" ({error})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(config: &Value) -> Vec<String> {
        let roster = Roster::of(config, Path::new("/state"));
        roster.agents.into_iter().map(|agent| agent.id).collect()
    }

    #[test]
    fn the_default_agent_is_first_and_always_there() {
        assert_eq!(ids(&json!({})), ["main"]);
        assert_eq!(ids(&json!({"agents": {"list": 5}})), ["main"]);
        let config = json!({"agents": {"list": [{"id": "Zoe"}, {"id": "ann", "default": true}, {"id": ""}, {"id": "zoe"}, 3]}});
        assert_eq!(ids(&config), ["ann", "zoe"]);
    }

    #[test]
    fn a_workspace_is_the_agents_own_or_the_default_or_in_the_state_directory() {
        let config = json!({"agents": {"defaults": {"workspace": "/w", "model": {"primary": "p/m"}},
            "list": [{"id": "a"}, {"id": "b"}, {"id": "c", "workspace": "rel", "model": "p/c"}]}});
        let roster = Roster::of(&config, Path::new("/state"));
        let paths: Vec<&str> = roster
            .agents
            .iter()
            .map(|agent| agent.workspace.to_str().unwrap())
            .collect();
        assert_eq!(paths, ["/w", "/state/workspace-b", "/state/rel"]);
        assert_eq!(roster.agents[0].model.as_deref(), Some("p/m"));
        assert_eq!(roster.agents[2].model.as_deref(), Some("p/c"));
    }

    #[test]
    fn a_workspace_does_not_cover_the_state_of_the_gateway() {
        let state = std::env::temp_dir().join(format!("clawgate-agents-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&state).unwrap();
        let link = state.with_extension("link");
        std::os::unix::fs::symlink(&state, &link).unwrap();
        let at = |rest: &str| format!("{}{rest}", state.display());
        for bad in [
            "/",
            &at(""),
            &at("/identity"),
            &at("/logs/x"),
            &at("/workspace/../identity"),
            "rel",
            "",
            "/a\0b",
            &format!("{}/identity", link.display()),
        ] {
            assert!(asked_workspace(bad, &state).is_err(), "{bad}");
        }
        for good in [&at("/workspace-x"), "/srv/clawgate-not-there/a"] {
            assert!(asked_workspace(good, &state).is_ok(), "{good}");
        }
    }

    #[test]
    fn adding_keeps_the_default_and_removing_takes_what_led_there() {
        let mut config = json!({"bindings": [{"agentId": "cat"}, {"agentId": "main"}],
            "tools": {"agentToAgent": {"allow": ["cat", "x"]}}});
        let change = AgentChange {
            name: Some("Cat".to_owned()),
            ..AgentChange::default()
        };
        add(&mut config, "cat", &change).unwrap();
        assert_eq!(
            config["agents"]["list"],
            json!([{"id": "main"}, {"id": "cat", "name": "Cat"}])
        );
        assert!(add(&mut config, "cat", &change).is_err());
        let pruned = prune(&mut config, "cat").unwrap();
        assert_eq!((pruned.bindings, pruned.allow), (1, 1));
        assert_eq!(config["agents"]["list"], json!([{"id": "main"}]));
        assert!(prune(&mut config, "cat").is_err());
        assert!(alter(&mut config, "nobody", &change).is_err());
    }
}
