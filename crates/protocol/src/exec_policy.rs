//! The operator's file of what may be run on a machine: `exec-approvals.json`.
//!
//! It lies on the gateway's machine and on every node, and travels in `exec.approvals.*`. Members
//! that this version does not know are kept as they are, so that reading and writing a file of a
//! newer version loses nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// Members that are not known here.
pub type Rest = Map<String, Value>;

/// The version that is understood.
pub const VERSION: u8 = 1;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct File {
    /// Always [`VERSION`].
    pub version: u8,
    /// Where the original's helper listens. Its token is a secret that never travels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Socket>,
    /// What holds for an agent that says nothing itself.
    #[serde(default)]
    pub defaults: Rules,
    /// By agent; `*` is every agent.
    #[serde(default)]
    pub agents: BTreeMap<String, Agent>,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Default for File {
    fn default() -> Self {
        Self {
            version: VERSION,
            socket: None,
            defaults: Rules::default(),
            agents: BTreeMap::new(),
            rest: Rest::new(),
        }
    }
}

/// Where the original's helper listens, and the secret that it asks for.
#[derive(Clone, Default, PartialEq, Deserialize, Serialize)]
pub struct Socket {
    /// Path of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The secret. Not printed, not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Rest,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("path", &self.path)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// Rules as they are written: text, so that a word that nobody knows is kept, and judged where the
/// decision is made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// `deny`, `allowlist` or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// `off`, `on-miss` or `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// What holds when nobody answers: `deny`, `allowlist` or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_fallback: Option<String>,
    /// Whether programs that a skill brings pass as if they were listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_allow_skills: Option<bool>,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Rest,
}

/// One agent: its rules and its list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Agent {
    /// What stands listed. Older files hold plain patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowlist: Vec<Entry>,
    /// Its rules, beside the list.
    #[serde(flatten)]
    pub rules: Rules,
}

/// One line of a list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", from = "Written")]
pub struct Entry {
    /// Unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Absolute path of a program, with `*`, `**`, `?` and a leading `~`.
    pub pattern: String,
    /// clawgate's own: the one command line that is meant, for programs that run others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// clawgate's own: the directory in which that command line is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// clawgate's own: SHA-256 of the program as it was when it was approved, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// clawgate's own: SHA-256 of the file that the command line hands to the program, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operand_sha256: Option<String>,
    /// Since 2026.9: an expression over the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg_pattern: Option<String>,
    /// Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Number>,
    /// The command as it was last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_command: Option<String>,
    /// The program as it was last found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resolved_path: Option<String>,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Entry {
    /// Notes a use.
    pub fn used(&mut self, at_ms: i64, command: &str, path: &str) {
        self.last_used_at = Some(Number::from(at_ms));
        self.last_used_command = Some(command.to_owned());
        self.last_resolved_path = Some(path.to_owned());
    }
}

/// An entry as it is written: an object, or in older files the pattern alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Pattern(String),
    Whole(Box<Whole>),
}

/// The same members as [`Entry`], read without the older form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    id: Option<String>,
    pattern: String,
    argv: Option<Vec<String>>,
    cwd: Option<String>,
    sha256: Option<String>,
    operand_sha256: Option<String>,
    arg_pattern: Option<String>,
    last_used_at: Option<Number>,
    last_used_command: Option<String>,
    last_resolved_path: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

impl From<Written> for Entry {
    fn from(written: Written) -> Self {
        match written {
            Written::Pattern(pattern) => Self {
                pattern,
                ..Self::default()
            },
            Written::Whole(whole) => Self {
                id: whole.id,
                pattern: whole.pattern,
                argv: whole.argv,
                cwd: whole.cwd,
                sha256: whole.sha256,
                operand_sha256: whole.operand_sha256,
                arg_pattern: whole.arg_pattern,
                last_used_at: whole.last_used_at,
                last_used_command: whole.last_used_command,
                last_resolved_path: whole.last_resolved_path,
                rest: whole.rest,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_here_is_written_back_as_it_was_read() {
        let written = json!({
            "version": 1, "later": {"a": [1]},
            "socket": {"path": "/s", "token": "secret", "mode": 7},
            "defaults": {"security": "allowlist", "strict": true},
            "agents": {"main": {
                "ask": "always", "mcpTools": [{"server": "x"}],
                "allowlist": [{"pattern": "/bin/ls", "lastUsedAt": 1.5, "source": "allow-always"}],
            }},
        });
        let file: File = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&file).unwrap(), written);
        assert!(!format!("{file:?}").contains("secret"));
    }

    #[test]
    fn a_plain_pattern_of_an_older_file_is_an_entry() {
        let file: File = serde_json::from_value(
            json!({"version": 1, "agents": {"*": {"allowlist": ["/bin/ls"]}}}),
        )
        .unwrap();
        assert_eq!(file.agents["*"].allowlist[0].pattern, "/bin/ls");
    }
}
