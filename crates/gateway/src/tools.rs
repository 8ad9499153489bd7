//! What a turn may call: which tools there are for it, and how they are bounded.
//!
//! The tools of this machine are the agent room's; those of the gateway are made here, over the
//! same functions that answer its methods. Which of them a turn has is decided by
//! [`clawgate_core::tool_policy`] from what the configuration says.

mod memory;
mod own;
mod permit;
mod servers;
#[cfg(test)]
mod tests;
mod web;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clawgate_agent::{
    ToolSet,
    mcp::McpServers,
    sandbox::{Bounds, Network},
    tools::{
        ApplyPatch, Edit, Exec, ExecSettings, Files, Launcher, Process, Processes, Read,
        SandboxMode, Write,
    },
};
use clawgate_core::{
    proof,
    tool_policy::{GROUPS, KNOWN, Profile, Step, permits},
};
use serde_json::{Value, json};

pub use self::servers::{
    Reached as ServerReached, ServerProbe, Standing as ServerStanding, ToolServer,
    configured as configured_servers, probe as probe_server,
};
pub(crate) use self::{servers::reloaded, web::Pages};
use crate::{Gateway, agents::Agent};

/// How long a program runs when nobody says.
const EXEC_TIMEOUT: Duration = Duration::from_secs(1_800);
/// What every program may read and run.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix",
    "/gnu",
    "/snap",
    "/proc",
    "/sys",
    "/run/current-system",
    "/run/systemd/resolve",
];
/// What it may read below the home directory: what programs are made of.
const OF_HOME: &[&str] = &[
    ".cargo",
    ".rustup",
    ".local/bin",
    ".local/lib",
    ".local/share/pipx",
    ".local/share/uv",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".bun",
    ".deno",
    "go",
    ".gitconfig",
    ".config/git",
];
/// What it never sees below the home directory, wherever its workspace is.
const SECRETS_OF_HOME: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".config/gcloud",
    ".config/gh",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".local/share/keyrings",
    ".password-store",
    ".mozilla",
    ".config/google-chrome",
    ".openclaw",
    ".clawgate",
];
/// What it never sees of the system, should the gateway run as root.
const SECRETS_OF_SYSTEM: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/krb5.keytab",
    "/etc/clawgate",
];

/// Whose turn it is, and how it is meant.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub agent: Agent,
    pub session_key: String,
    pub session_id: String,
    pub run_id: String,
    pub workspace: PathBuf,
    /// Whether somebody may answer an approval.
    pub attended: bool,
    /// A narrower list, which a job carries. A tool that it names itself needs nobody's permission.
    pub allow: Option<Vec<String>>,
    pub model: String,
    pub provider: String,
}

/// How marks of programs begin: those of a state directory, and of one gateway over it.
fn marks(state: &Path, boot_id: &str) -> (String, String) {
    let all = proof::fingerprint(&state.display().to_string())[..16].to_owned();
    let own = format!("{all}/{boot_id}");
    (all, own)
}

/// Ends what programs of agents left behind when an earlier gateway of this directory died. Looks at
/// every process there is: for a thread that may wait.
pub(crate) fn end_leftovers(state: &Path, boot_id: &str) {
    let (all, own) = marks(state, boot_id);
    let ended = clawgate_agent::tools::end_leftovers(&all, &own);
    if ended > 0 {
        tracing::warn!(
            processes = ended,
            "ended what programs of agents had left behind"
        );
    }
}

/// The owner of the programs that models run.
pub(crate) fn processes(state: &Path, boot_id: &str) -> Processes {
    // The binary as it is running, also when it was replaced meanwhile. That of a test cannot become
    // another program.
    let program = if cfg!(test) {
        None
    } else if cfg!(target_os = "linux") {
        Some(PathBuf::from("/proc/self/exe"))
    } else {
        std::env::current_exe().ok()
    };
    let launcher = program.map(|program| Launcher {
        program,
        arguments: vec!["sandbox-exec".to_owned()],
    });
    Processes::new(launcher, &marks(state, boot_id).1)
}

/// The owner of the servers whose tools turns call.
pub(crate) fn servers(state: &Path, boot_id: &str) -> McpServers {
    McpServers::new(&marks(state, boot_id).1)
}

/// The tools of a turn, those of servers among them, which are started for it.
pub(crate) async fn with_servers(gateway: &Arc<Gateway>, scene: &Scene) -> ToolSet {
    let mut tools = of_turn(gateway, scene);
    let steps = steps(&gateway.config().snapshot.parsed, scene);
    for tool in servers::tools(gateway, &steps).await {
        if permits(&steps, &tool.spec().name) {
            tools.add(tool);
        }
    }
    tools
}

/// The tools of a turn that come with the gateway.
pub(crate) fn of_turn(gateway: &Arc<Gateway>, scene: &Scene) -> ToolSet {
    let config = gateway.config();
    let parsed = &config.snapshot.parsed;
    let steps = steps(parsed, scene);
    let mut tools = ToolSet::default();
    let mut all: Vec<Arc<dyn clawgate_agent::Tool>> = Vec::new();
    match Files::open(&scene.workspace, &skills(gateway)) {
        Ok(files) => {
            all.push(Arc::new(Read::new(&files)));
            all.push(Arc::new(Write::new(&files)));
            all.push(Arc::new(Edit::new(&files)));
            if exec_setting(parsed, &scene.agent.id, "/applyPatch/enabled") == Some(&json!(true)) {
                all.push(Arc::new(ApplyPatch::new(&files)));
            }
            let settings = exec_settings(gateway, parsed, scene, files.workspace());
            let permit = Arc::new(permit::Asking::new(gateway, scene, parsed));
            all.push(Arc::new(Exec::new(settings, &gateway.processes, permit)));
            all.push(Arc::new(Process::new(
                &scene.session_key,
                &gateway.processes,
            )));
        }
        Err(error) => {
            tracing::warn!(workspace = %scene.workspace.display(), %error, "no files for a turn");
        }
    }
    all.extend(own::tools(gateway, scene));
    all.extend(memory::tools(gateway, scene));
    all.extend(web::tools(gateway, parsed));
    for tool in all {
        if permits(&steps, &tool.spec().name) {
            tools.add(tool);
        }
    }
    tools
}

/// Where skills are, to be read.
fn skills(gateway: &Gateway) -> Vec<PathBuf> {
    vec![gateway.state.path().join("skills")]
}

/// What the configuration says about the tools of a turn, place by place.
pub(crate) fn steps(config: &Value, scene: &Scene) -> Vec<Step> {
    let mut steps = Vec::new();
    let model = format!("{}/{}", scene.provider, scene.model);
    let of_agent = agent_entry(config, &scene.agent.id).and_then(|entry| entry.get("tools"));
    for section in [config.get("tools"), of_agent].into_iter().flatten() {
        steps.push(step(section));
        let providers = section.get("byProvider").and_then(Value::as_object);
        let named = |wanted: &str| {
            providers
                .into_iter()
                .flatten()
                .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
                .map(|(_, section)| step(section))
        };
        steps.extend(named(&scene.provider));
        steps.extend(named(&model));
    }
    steps.extend(scene.allow.clone().map(Step::allowing));
    steps
}

fn agent_entry<'a>(config: &'a Value, id: &str) -> Option<&'a Value> {
    let list = config.pointer("/agents/list")?.as_array()?;
    list.iter().find(|entry| {
        entry["id"]
            .as_str()
            .is_some_and(|own| clawgate_core::agent::id(own) == id)
    })
}

fn step(section: &Value) -> Step {
    let words = |key: &str| {
        let list = section.get(key)?.as_array()?;
        let words = list.iter().filter_map(Value::as_str).map(str::to_owned);
        Some(words.collect::<Vec<_>>())
    };
    Step {
        profile: section
            .get("profile")
            .and_then(Value::as_str)
            .map(Profile::parse),
        allow: words("allow"),
        deny: words("deny").unwrap_or_default(),
    }
}

/// A setting of `exec`: the agent's, else everybody's.
pub(crate) fn exec_setting<'a>(config: &'a Value, agent: &str, pointer: &str) -> Option<&'a Value> {
    let of = |value: Option<&'a Value>| value?.pointer("/tools/exec")?.pointer(pointer);
    of(agent_entry(config, agent)).or_else(|| of(Some(config)))
}

fn exec_settings(
    gateway: &Gateway,
    config: &Value,
    scene: &Scene,
    workspace: &Path,
) -> ExecSettings {
    let setting = |pointer: &str| exec_setting(config, &scene.agent.id, pointer);
    let word = |pointer: &str| setting(pointer).and_then(Value::as_str);
    // What nobody is asked about has to be bounded.
    let sandbox = match (word("/host"), word("/sandbox/mode")) {
        (Some("sandbox"), _) => SandboxMode::Required,
        (_, None | Some("auto")) => SandboxMode::Auto,
        (_, Some("off")) => SandboxMode::Off,
        (_, Some(_)) => SandboxMode::Required,
    };
    let network = if setting("/sandbox/network") == Some(&json!(true)) {
        Network::Open
    } else {
        Network::None
    };
    let seconds = setting("/timeoutSec").and_then(Value::as_u64);
    let temp = temp_of(gateway.state.path(), &scene.agent.id);
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let mut bounds = bounds(gateway.state.path(), workspace, temp.as_deref(), &path);
    bounds.network = network;
    bounds.read.extend(skills(gateway));
    let more = |pointer: &str| -> Vec<PathBuf> {
        let list = setting(pointer).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|path| crate::agents::resolved(path, gateway.state.path()))
            .collect()
    };
    bounds.read.extend(more("/sandbox/read"));
    bounds.write.extend(more("/sandbox/write"));
    ExecSettings {
        owner: scene.session_key.clone(),
        run_id: scene.run_id.clone(),
        workspace: workspace.to_owned(),
        path,
        temp,
        sandbox,
        bounds,
        timeout: seconds
            .filter(|seconds| *seconds > 0)
            .map_or(EXEC_TIMEOUT, Duration::from_secs),
    }
}

/// A directory for the temporary files of an agent's programs, in the gateway's own, where no
/// other user puts a link.
fn temp_of(state: &Path, agent: &str) -> Option<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = state.join("exec-tmp").join(agent);
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path);
    match made {
        Ok(()) => Some(path),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no directory for temporary files");
            None
        }
    }
}

/// What programs of a workspace may read and write when nothing else is configured.
fn bounds(state: &Path, workspace: &Path, temp: Option<&Path>, path: &str) -> Bounds {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let at_home = |names: &[&str]| -> Vec<PathBuf> {
        let home = home.iter();
        home.flat_map(|home| names.iter().map(|name| home.join(name)))
            .collect()
    };
    let mut never = vec![state.to_owned()];
    never.extend(at_home(SECRETS_OF_HOME));
    never.extend(SECRETS_OF_SYSTEM.iter().map(PathBuf::from));
    let mut write = vec![workspace.to_owned(), std::env::temp_dir()];
    write.extend(temp.map(Path::to_owned));
    let mut read: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    read.extend(at_home(OF_HOME));
    let is_home = |path: &Path| home.as_ref().is_some_and(|home| home.starts_with(path));
    let searched = path.split(':').map(PathBuf::from);
    // A search path may name anything; the home directory and the root are not programs.
    read.extend(searched.filter(|path| {
        path.is_absolute() && !is_home(path) && !never.iter().any(|never| path.starts_with(never))
    }));
    Bounds {
        write,
        read,
        never,
        network: Network::None,
    }
}

/// `tools.catalog`: every group with what an agent may have of it.
pub(crate) fn catalog(config: &Value, agent: &Agent) -> Value {
    let profiles: Vec<Value> = Profile::ALL
        .into_iter()
        .map(|profile| {
            let id = profile.as_str();
            let label = format!("{}{}", id[..1].to_uppercase(), &id[1..]);
            json!({"id": id, "label": label})
        })
        .collect();
    let search = web::Search::of(config).is_some();
    let groups: Vec<Value> = GROUPS
        .iter()
        .map(|(id, label)| {
            let tools: Vec<Value> = KNOWN
                .iter()
                .filter(|tool| tool.group == *id && (search || tool.name != "web_search"))
                .map(|tool| {
                    let profiles: Vec<&str> = tool
                        .profiles
                        .iter()
                        .map(|profile| profile.as_str())
                        .collect();
                    json!({
                        "id": tool.name, "label": tool.name, "description": tool.summary,
                        "source": "core", "defaultProfiles": profiles,
                    })
                })
                .collect();
            json!({"id": id, "label": label, "source": "core", "tools": tools})
        })
        .filter(|group| {
            group["tools"]
                .as_array()
                .is_some_and(|tools| !tools.is_empty())
        })
        .collect();
    json!({"agentId": agent.id, "profiles": profiles, "groups": groups})
}
