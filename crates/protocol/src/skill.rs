//! Skills: directories with a `SKILL.md`, and whether what they need is there.

use serde::{Deserialize, Serialize};

use crate::shape::{Field, Shape, optional, since_v4};

const NAME: Shape = Shape::Str { min: 1, max: 200 };
const TIMEOUT: Shape = Shape::Int {
    min: 1_000,
    max: i64::MAX,
};

/// `skills.install`. Wire 3 asks for `name` and `installId`, which the handler says.
pub const INSTALL: &[Field] = &[
    optional("name", NAME),
    optional("installId", NAME),
    optional("timeoutMs", TIMEOUT),
    since_v4("agentId", NAME),
    since_v4("dangerouslyForceUnsafeInstall", Shape::Bool),
    since_v4("force", Shape::Bool),
    since_v4("sha256", NAME),
    since_v4("slug", NAME),
    since_v4("source", NAME),
    since_v4("uploadId", NAME),
    since_v4("version", NAME),
];
/// `skills.update`. Wire 3 asks for `skillKey`, which the handler says.
pub const UPDATE: &[Field] = &[
    optional("skillKey", NAME),
    optional("enabled", Shape::Bool),
    optional("apiKey", Shape::Str { min: 0, max: 8_192 }),
    optional("env", Shape::MapOf(&Shape::Str { min: 0, max: 8_192 })),
    since_v4("agentId", NAME),
    since_v4("all", Shape::Bool),
    since_v4("force", Shape::Bool),
    since_v4("slug", NAME),
    since_v4("source", NAME),
];

/// What a skill needs, or what of it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Requirements {
    /// Programs, all of them.
    pub bins: Vec<String>,
    /// Programs, one of them.
    pub any_bins: Vec<String>,
    /// Variables of the environment.
    pub env: Vec<String>,
    /// Dotted paths of the configuration that must hold something.
    pub config: Vec<String>,
    /// Operating systems, one of them: `linux`, `darwin`, `win32`.
    pub os: Vec<String>,
}

impl Requirements {
    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether one path of the configuration holds something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConfigCheck {
    /// Dotted path.
    pub path: String,
    /// Whether it does.
    pub satisfied: bool,
}

/// One way to get a program that a skill needs. Shown; nothing here carries it out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InstallOption {
    /// Its name among those of the skill.
    pub id: String,
    /// `brew`, `node`, `go`, `uv`, `download`.
    pub kind: String,
    /// For people.
    pub label: String,
    /// What it brings.
    pub bins: Vec<String>,
}

/// One skill as `skills.status` shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the wire has these flags")]
pub struct SkillStatus {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// `openclaw-workspace`, `openclaw-managed` or `openclaw-extra`.
    pub source: String,
    /// Always false: none comes with the gateway.
    pub bundled: bool,
    /// Its `SKILL.md`.
    pub file_path: String,
    /// Its directory.
    pub base_dir: String,
    /// Its key under `skills.entries` of the configuration.
    pub skill_key: String,
    /// The variable that `skills.entries.<key>.apiKey` stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_env: Option<String>,
    /// One emoji.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// Where to read more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// Whether it is taken whatever is missing.
    pub always: bool,
    /// Whether the configuration turns it off.
    pub disabled: bool,
    /// Always false: the list of allowed bundled skills has nothing to forbid.
    pub blocked_by_allowlist: bool,
    /// Whether it can be used.
    pub eligible: bool,
    /// What it needs.
    pub requirements: Requirements,
    /// What of that is not there.
    pub missing: Requirements,
    /// Its paths of the configuration, one by one.
    pub config_checks: Vec<ConfigCheck>,
    /// How its programs could be had.
    pub install: Vec<InstallOption>,
}

/// Result of `skills.status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SkillReport {
    /// The agent's workspace.
    pub workspace_dir: String,
    /// Skills of every agent.
    pub managed_skills_dir: String,
    /// By name.
    pub skills: Vec<SkillStatus>,
}
