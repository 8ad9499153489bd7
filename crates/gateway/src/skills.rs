//! Skills: directories with a `SKILL.md`, in the workspace of an agent, in the state directory and
//! in `skills.load.extraDirs`. None comes with the gateway, and nothing here runs one.

mod front_matter;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use clawgate_core::skill::{Surroundings, missing};
use clawgate_protocol::skill::{InstallOption, Requirements, SkillReport, SkillStatus};
use serde_json::Value;

use crate::agents::Agent;

/// Directories looked at in one place.
const SKILLS_MAX: usize = 300;
/// Bytes of a `SKILL.md`.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A skill as its file describes it.
#[derive(Clone, Debug)]
struct Skill {
    name: String,
    description: String,
    homepage: Option<String>,
    source: &'static str,
    directory: PathBuf,
    metadata: Value,
}

impl Skill {
    /// Reads a directory. `None` when it holds no skill, or one that is none.
    fn read(directory: &Path, root: &Path, source: &'static str) -> Option<Self> {
        let file = directory.join("SKILL.md");
        // A link may lead to another place below the same root, and not out of it.
        let real = file.canonicalize().ok()?;
        let metadata = fs::metadata(&real).ok()?;
        if !real.starts_with(root) || !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return None;
        }
        let text = fs::read_to_string(&real).ok()?;
        let front = front_matter::read(&text)?;
        let text_of = |key: &str| {
            let text = front.get(key)?.as_str()?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let metadata = front
            .get("metadata")
            .and_then(|metadata| {
                ["openclaw", "clawdbot", "clawgate"]
                    .iter()
                    .find_map(|name| metadata.get(name))
            })
            .cloned()
            .unwrap_or(Value::Null);
        let folder = directory.file_name()?.to_string_lossy().into_owned();
        Some(Self {
            name: text_of("name").unwrap_or(folder),
            description: text_of("description")?,
            homepage: text_of("homepage"),
            source,
            directory: directory.to_owned(),
            metadata,
        })
    }

    fn text(&self, key: &str) -> Option<String> {
        self.metadata[key].as_str().map(str::to_owned)
    }

    fn texts(&self, pointer: &str) -> Vec<String> {
        texts(self.metadata.pointer(pointer))
    }

    fn key(&self) -> String {
        self.text("skillKey").unwrap_or_else(|| self.name.clone())
    }

    fn required(&self) -> Requirements {
        Requirements {
            bins: self.texts("/requires/bins"),
            any_bins: self.texts("/requires/anyBins"),
            env: self.texts("/requires/env"),
            config: self.texts("/requires/config"),
            os: self.texts("/os"),
        }
    }

    fn install(&self) -> Vec<InstallOption> {
        let specs = self.metadata["install"].as_array();
        specs
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, spec)| {
                let kind = spec["kind"].as_str()?.to_owned();
                let text = |key: &str| {
                    spec[key]
                        .as_str()
                        .map(str::trim)
                        .filter(|text| !text.is_empty())
                };
                let what = ["formula", "package", "module", "url"]
                    .iter()
                    .find_map(|key| text(key));
                Some(InstallOption {
                    id: text("id").map_or_else(|| format!("{kind}-{index}"), str::to_owned),
                    label: text("label").map_or_else(
                        || match what {
                            Some(what) => format!("Install {what} ({kind})"),
                            None => "Run installer".to_owned(),
                        },
                        str::to_owned,
                    ),
                    bins: texts(spec.get("bins")),
                    kind,
                })
            })
            .collect()
    }
}

/// A list of texts, or one text.
fn texts(value: Option<&Value>) -> Vec<String> {
    let one = value.and_then(Value::as_str).into_iter();
    let list = value.and_then(Value::as_array).into_iter().flatten();
    one.chain(list.filter_map(Value::as_str))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Where every agent's skills lie.
pub fn managed_dir(state: &Path) -> PathBuf {
    state.join("skills")
}

/// The skills of an agent by name; of two with one name the workspace's holds, then the state
/// directory's.
fn skills(agent: &Agent, config: &Value, state: &Path) -> BTreeMap<String, Skill> {
    let mut places: Vec<(PathBuf, &'static str)> = texts(config.pointer("/skills/load/extraDirs"))
        .into_iter()
        .map(|path| (crate::agents::resolved(&path, state), "openclaw-extra"))
        .collect();
    places.push((managed_dir(state), "openclaw-managed"));
    places.push((agent.workspace.join("skills"), "openclaw-workspace"));
    let mut found = BTreeMap::new();
    for (place, source) in places {
        let Ok(root) = place.canonicalize() else {
            continue;
        };
        let Ok(entries) = fs::read_dir(&place) else {
            continue;
        };
        let mut directories: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        directories.sort();
        for directory in directories.iter().take(SKILLS_MAX) {
            if let Some(skill) = Skill::read(directory, &root, source) {
                found.insert(skill.name.clone(), skill);
            }
        }
    }
    found
}

/// This machine, as one skill may ask about it.
struct Machine<'a> {
    config: &'a Value,
    entry: &'a Value,
    primary_env: Option<&'a str>,
    programs: &'a Programs,
}

impl Surroundings for Machine<'_> {
    fn has_bin(&self, name: &str) -> bool {
        self.programs.has(name)
    }

    fn has_env(&self, name: &str) -> bool {
        let is_set = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let from_key = self.primary_env == Some(name)
            && self
                .entry
                .get("apiKey")
                .is_some_and(|key| is_set(key) || key.is_object());
        from_key
            || self.entry["env"].get(name).is_some_and(is_set)
            || std::env::var_os(name).is_some_and(|value| !value.is_empty())
    }

    fn has_config(&self, path: &str) -> bool {
        let mut value = self.config;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            match value.get(part) {
                Some(inner) => value = inner,
                None => return false,
            }
        }
        match value {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.trim().is_empty(),
            Value::Array(_) | Value::Object(_) => true,
        }
    }

    fn os(&self) -> &str {
        match std::env::consts::OS {
            "macos" => "darwin",
            "windows" => "win32",
            other => other,
        }
    }
}

/// Which programs can be started from here, each looked for once.
#[derive(Default)]
struct Programs {
    known: Mutex<HashMap<String, bool>>,
}

impl Programs {
    fn has(&self, name: &str) -> bool {
        let mut known = self
            .known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(there) = known.get(name) {
            return *there;
        }
        let there = is_on_path(name);
        known.insert(name.to_owned(), there);
        there
    }
}

fn is_on_path(name: &str) -> bool {
    // A name, and not a way to ask whether some file is there.
    if name.is_empty() || name.contains(['/', '\0']) {
        return false;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .any(|dir| {
            fs::metadata(dir.join(name))
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

/// The skills of an agent, and what they lack. Reads the disk.
pub fn report(agent: &Agent, config: &Value, state: &Path) -> SkillReport {
    let programs = Programs::default();
    let null = Value::Null;
    let rows = skills(agent, config, state)
        .into_values()
        .map(|skill| {
            let key = skill.key();
            let entry = config["skills"]["entries"].get(&key).unwrap_or(&null);
            let primary_env = skill.text("primaryEnv");
            let machine = Machine {
                config,
                entry,
                primary_env: primary_env.as_deref(),
                programs: &programs,
            };
            let requirements = skill.required();
            let always = skill.metadata["always"] == true;
            let (missing, config_checks) = missing(&requirements, always, &machine);
            let disabled = entry["enabled"] == false;
            SkillStatus {
                file_path: skill.directory.join("SKILL.md").display().to_string(),
                base_dir: skill.directory.display().to_string(),
                skill_key: key,
                primary_env,
                emoji: skill.text("emoji"),
                homepage: skill.text("homepage").or_else(|| skill.homepage.clone()),
                always,
                disabled,
                blocked_by_allowlist: false,
                eligible: !disabled && missing.is_empty(),
                requirements,
                missing,
                config_checks,
                install: skill.install(),
                name: skill.name,
                description: skill.description,
                source: skill.source.to_owned(),
                bundled: false,
            }
        })
        .collect();
    SkillReport {
        workspace_dir: agent.workspace.display().to_string(),
        managed_skills_dir: managed_dir(state).display().to_string(),
        skills: rows,
    }
}

/// A skill as an agent is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SkillRow {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Where its instructions are.
    pub(crate) path: String,
}

/// The skills that an agent can use. Reads the disk.
pub(crate) fn told(agent: &Agent, config: &Value, state: &Path) -> Vec<SkillRow> {
    let usable = report(agent, config, state).skills.into_iter();
    usable
        .filter(|skill| skill.eligible)
        .map(|skill| SkillRow {
            name: skill.name,
            description: skill.description,
            path: skill.file_path,
        })
        .collect()
}

/// Programs that the skills of these agents want, sorted: what a node looks for on its machine.
pub(crate) fn wanted_bins(agents: &[Agent], config: &Value, state: &Path) -> BTreeSet<String> {
    let mut bins = BTreeSet::new();
    for agent in agents {
        for skill in skills(agent, config, state).into_values() {
            let required = skill.required();
            bins.extend(required.bins);
            bins.extend(required.any_bins);
            bins.extend(skill.install().into_iter().flat_map(|option| option.bins));
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agents::Roster;

    fn put(directory: &Path, text: &str) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("SKILL.md"), text).unwrap();
    }

    #[test]
    fn skills_are_found_judged_and_kept_inside_their_roots() {
        let state = std::env::temp_dir().join(format!("clawgate-skills-{}", uuid::Uuid::new_v4()));
        put(
            &state.join("skills/one"),
            "---\nname: one\ndescription: managed\n---\n",
        );
        put(
            &state.join("workspace/skills/one"),
            "---\nname: one\ndescription: \"of the workspace\"\nmetadata: { \"openclaw\": { \"emoji\": \"x\", \"primaryEnv\": \"ONE_KEY\", \"requires\": { \"bins\": [\"sh\", \"no-such-program\"], \"env\": [\"ONE_KEY\"], \"config\": [\"channels.x\"], }, \"install\": [{\"kind\": \"brew\", \"formula\": \"f\", \"bins\": [\"no-such-program\"]}] } }\n---\n",
        );
        put(
            &state.join("outside"),
            "---\nname: out\ndescription: canary\n---\n",
        );
        std::os::unix::fs::symlink(state.join("outside"), state.join("skills/out")).unwrap();
        put(&state.join("skills/broken"), "no front matter");
        let config = json!({"skills": {"entries": {"one": {"apiKey": "k"}}}});
        let roster = Roster::of(&config, &state);
        let report = report(roster.default_agent(), &config, &state);
        assert_eq!(report.skills.len(), 1);
        let one = &report.skills[0];
        assert_eq!(
            (one.description.as_str(), one.source.as_str()),
            ("of the workspace", "openclaw-workspace")
        );
        assert_eq!(one.missing.bins, ["no-such-program"]);
        assert_eq!(one.missing.env, Vec::<String>::new());
        assert_eq!(one.missing.config, ["channels.x"]);
        assert!(!one.eligible);
        assert_eq!(one.install[0].label, "Install f (brew)");
        let bins = wanted_bins(&roster.agents, &config, &state);
        assert_eq!(
            bins.into_iter().collect::<Vec<_>>(),
            ["no-such-program", "sh"]
        );
        fs::remove_dir_all(state).unwrap();
    }
}
