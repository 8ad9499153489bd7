//! Servers of tools, as `mcp.servers` of the configuration has them.

use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clawgate_agent::{
    Tool,
    mcp::{McpServer, McpServers, Program, Way},
};
use clawgate_core::tool_policy::{SERVER_PREFIX, Step, may_permit};
use serde_json::Value;

use crate::{Gateway, config::Resolver};

/// How long a server may take to start, and how long a call may take, when nobody says.
const START: Duration = Duration::from_secs(30);
const CALL: Duration = Duration::from_secs(60);
/// What either may be set to, milliseconds.
const WITHIN_MAX_MS: u64 = 600_000;
/// Characters of a server's name that the names of its tools have.
const LABEL_MAX: usize = 24;

/// The tools of the servers that a turn may use, each of which is started if it does not run. One
/// that cannot be had is left out, and the log says why.
pub(super) async fn tools(gateway: &Arc<Gateway>, steps: &[Step]) -> Vec<Arc<dyn Tool>> {
    let config = gateway.config();
    let Some(servers) = config.snapshot.parsed.pointer("/mcp/servers") else {
        return Vec::new();
    };
    let mut wanted = enabled(servers);
    wanted.retain(|(_, label)| may_permit(steps, &format!("{SERVER_PREFIX}{label}__")));
    if wanted.is_empty() {
        return Vec::new();
    }
    let state = gateway.state.path().to_owned();
    let held = Arc::clone(&config);
    // References are read from files and programs.
    let read = tokio::task::spawn_blocking(move || {
        let parsed = &held.snapshot.parsed;
        let resolver = Resolver::of(parsed);
        let read = wanted
            .into_iter()
            .map(|(name, label)| server(parsed, &resolver, &state, &name, label));
        read.collect::<Vec<_>>()
    })
    .await;
    let read = match read {
        Ok(read) => read,
        Err(died) => {
            tracing::error!(%died, "reading tool servers died");
            return Vec::new();
        }
    };
    // At the same time: one that hangs keeps a turn from beginning no longer than itself.
    let mut asked = Vec::new();
    for server in read {
        match server {
            Ok(server) => {
                let servers = gateway.servers.clone();
                asked.push(tokio::spawn(async move { servers.tools(&server).await }));
            }
            Err(why) => tracing::warn!("{why}"),
        }
    }
    let mut all = Vec::new();
    for asked in asked {
        match asked.await {
            Ok(Ok(tools)) => all.extend(tools),
            Ok(Err(why)) => tracing::warn!("no tools of a server: {why}"),
            Err(died) => tracing::error!(%died, "asking a tool server died"),
        }
    }
    all
}

/// Ends the servers that a new configuration has not, or has otherwise.
pub(crate) fn reloaded(gateway: &Gateway, old: &Value, new: &Value) {
    let of = |config: &Value| config.pointer("/mcp/servers").cloned().unwrap_or_default();
    let (old, new) = (of(old), of(new));
    gateway
        .servers
        .keep(|name| new.get(name).is_some_and(is_enabled) && old.get(name) == new.get(name));
}

/// What becomes of a configured server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Turns that may use it start it.
    Enabled,
    /// The operator switched it off.
    Disabled,
    /// It is switched on, and has neither a command nor an address that is used.
    Unusable,
}

impl Standing {
    /// The word for programs and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Unusable => "unusable",
        }
    }
}

/// A server of the configuration. Nothing that is secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolServer {
    /// As the configuration names it.
    pub name: String,
    /// Whether turns may have it.
    pub standing: Standing,
    /// How it is reached.
    pub reached: Reached,
    /// What the names of its tools begin with.
    pub prefix: String,
}

/// The servers of a configuration, without starting one.
#[must_use]
pub fn configured(config: &Value) -> Vec<ToolServer> {
    let servers = config.pointer("/mcp/servers").and_then(Value::as_object);
    let mut labels = HashSet::new();
    let servers = servers.into_iter().flatten();
    servers
        .map(|(name, server)| {
            let reached = Reached::of(server);
            let standing = match reached {
                _ if !is_enabled(server) => Standing::Disabled,
                Reached::Program | Reached::Web => Standing::Enabled,
                Reached::EventStream | Reached::Not => Standing::Unusable,
            };
            ToolServer {
                name: name.clone(),
                standing,
                reached,
                prefix: format!("{SERVER_PREFIX}{}__", label(name, &mut labels)),
            }
        })
        .collect()
}

/// A server that was tried.
#[derive(Clone, Debug)]
pub struct ServerProbe {
    /// Its tools as turns would call them, each with the first line of what it says of itself.
    pub outcome: Result<Vec<(String, String)>, String>,
    /// How long that took.
    pub took: Duration,
}

/// Starts a server of the configuration, asks what it has, and ends it. `None` when there is none of
/// that name. Inside a runtime.
pub async fn probe(config: &Value, state: &Path, name: &str) -> Option<ServerProbe> {
    let found = configured(config)
        .into_iter()
        .find(|server| server.name == name)?;
    let label = found.prefix[SERVER_PREFIX.len()..].trim_end_matches("__");
    let began = Instant::now();
    let servers = McpServers::new(&uuid::Uuid::new_v4().simple().to_string());
    // Before a first start there is no state directory to run it in.
    let temp = std::env::temp_dir();
    let state = if state.is_dir() { state } else { &temp };
    let server = server(config, &Resolver::of(config), state, name, label.to_owned());
    let outcome = match server {
        Ok(server) => servers.tools(&server).await,
        Err(why) => Err(why),
    };
    servers.stop().await;
    let took = began.elapsed();
    let told = |tool: &Arc<dyn Tool>| {
        let spec = tool.spec();
        let about = spec.description.lines().next().unwrap_or_default();
        (spec.name.clone(), about.to_owned())
    };
    let outcome = outcome.map(|tools| tools.iter().map(told).collect());
    Some(ServerProbe { outcome, took })
}

/// How a server is reached, by what its entry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It is a program.
    Program,
    /// It has an address.
    Web,
    /// It has one, of the protocol's old kind.
    EventStream,
    /// It has neither.
    Not,
}

impl Reached {
    fn of(server: &Value) -> Self {
        // References count as what they will be.
        let is_there = |member: &str| match &server[member] {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        let kind = ["transport", "type"]
            .iter()
            .find_map(|member| server[*member].as_str());
        match kind {
            _ if is_there("command") => Self::Program,
            Some("sse") if is_there("url") => Self::EventStream,
            _ if is_there("url") => Self::Web,
            _ => Self::Not,
        }
    }

    /// The word for programs and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Program => "stdio",
            Self::Web => "http",
            Self::EventStream => "sse",
            Self::Not => "none",
        }
    }
}

fn is_enabled(server: &Value) -> bool {
    server.get("enabled") != Some(&Value::Bool(false))
        && server.get("disabled") != Some(&Value::Bool(true))
}

/// The enabled servers, each with what its tools are called by. Every configured one has its own
/// label, whichever are enabled.
fn enabled(servers: &Value) -> Vec<(String, String)> {
    let mut labels = HashSet::new();
    let servers = servers.as_object().into_iter().flatten();
    servers
        .map(|(name, server)| (name.clone(), label(name, &mut labels), server))
        .filter(|(_, _, server)| is_enabled(server))
        .map(|(name, label, _)| (name, label))
        .collect()
}

/// What may be part of a tool's name: no two `_` together, which end a label there, and none of
/// another server, compared as the policy does.
fn label(name: &str, taken: &mut HashSet<String>) -> String {
    let mut plain = String::new();
    for letter in name.chars() {
        let letter = match letter {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '-' => letter,
            _ => '_',
        };
        if letter != '_' || !(plain.is_empty() || plain.ends_with('_')) {
            plain.push(letter);
        }
    }
    plain.truncate(LABEL_MAX);
    let plain = plain.trim_end_matches('_');
    let plain = if plain.is_empty() { "server" } else { plain };
    let mut tried = plain.to_owned();
    let mut number = 2;
    while !taken.insert(tried.to_ascii_lowercase()) {
        tried = format!("{plain}-{number}");
        number += 1;
    }
    tried
}

fn server(
    config: &Value,
    resolver: &Resolver,
    state: &Path,
    name: &str,
    label: String,
) -> Result<McpServer, String> {
    let path = format!("mcp.servers.{name}");
    let mut wrong = None;
    let said = resolver.resolved(&config["mcp"]["servers"][name], &path, &mut |path, why| {
        wrong.get_or_insert(format!("{path}: {why}"));
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    let milliseconds = |key: &str, usual| match said[key].as_u64() {
        Some(set) if set > 0 => Duration::from_millis(set.min(WITHIN_MAX_MS)),
        _ => usual,
    };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    };
    let pairs = |member: &str| -> Vec<(String, String)> {
        let pairs = said[member].as_object().into_iter().flatten();
        pairs
            .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
            .collect()
    };
    let way = match Reached::of(&said) {
        Reached::Program => {
            let command = text(&said["command"]);
            let cwd = said["cwd"]
                .as_str()
                .or_else(|| said["workingDirectory"].as_str());
            Way::Program(Program {
                command: command.ok_or_else(|| format!("{path}.command: is no text"))?,
                args: said["args"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(text)
                    .collect(),
                env: pairs("env"),
                cwd: cwd.map_or_else(
                    || state.to_owned(),
                    |cwd| crate::agents::resolved(cwd, state),
                ),
            })
        }
        Reached::Web => {
            let url = said["url"].as_str().map(str::trim).unwrap_or_default();
            if !["http://", "https://"].iter().any(|it| url.starts_with(it)) {
                return Err(format!("{path}.url: is no address of http or https"));
            }
            Way::Web {
                url: url.to_owned(),
                headers: pairs("headers"),
            }
        }
        Reached::EventStream => {
            return Err(format!(
                "{path}: the protocol's old event streams are not spoken; name the server's address of \"streamable HTTP\""
            ));
        }
        Reached::Not => return Err(format!("{path}: has neither a command nor a url")),
    };
    Ok(McpServer {
        name: name.to_owned(),
        label,
        way,
        start_within: milliseconds("connectionTimeoutMs", START),
        call_within: milliseconds("requestTimeoutMs", CALL),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_enabled_disabled_or_not_to_be_had() {
        let config = json!({"mcp": {"servers": {
            "a": {"command": "a"}, "b": {"command": "b", "enabled": false},
            "c": {"url": "https://c.example/mcp"}, "d": {"url": "https://d.example", "disabled": true},
            "e": {"url": "https://e.example/sse", "transport": "sse"}, "f": {},
        }}});
        let standings = configured(&config).into_iter().map(|it| it.standing);
        assert_eq!(
            standings.collect::<Vec<_>>(),
            [
                Standing::Enabled,
                Standing::Disabled,
                Standing::Enabled,
                Standing::Disabled,
                Standing::Unusable,
                Standing::Unusable,
            ]
        );
        assert!(configured(&json!({})).is_empty());
    }

    #[test]
    fn every_server_has_a_label_that_is_no_other_servers_beginning() {
        let servers = json!({"a b": {}, "a_b": {}, "a__b": {}, "_": {}, "ü": {"enabled": false},
            "off": {"disabled": true}, "A-B": {}});
        let labels: Vec<_> = enabled(&servers)
            .into_iter()
            .map(|(_, label)| label)
            .collect();
        let mut sorted = labels.clone();
        sorted.sort();
        assert_eq!(sorted, ["A-B", "a_b", "a_b-2", "a_b-3", "server"]);
    }
}
