//! Which tools a turn may call: a profile, then lists, each of which can only take away.
//!
//! A step is what one place of the configuration says: `tools`, `tools.byProvider.<name>`, the same
//! of an agent, and the list that a job carries. A tool is there when every step lets it pass;
//! what a step denies is gone whatever another one allows. Names are compared without regard to
//! case, `*` stands for anything, `group:<id>` for the tools of a group. A word that nobody knows
//! allows nothing, and a profile that nobody knows is the smallest.

/// The sets that a configuration chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What a session is.
    Minimal,
    /// Sessions and messages.
    Messaging,
    /// Files, programs, the web, memory, sessions, schedules.
    Coding,
    /// Everything.
    Full,
}

impl Profile {
    /// Every profile, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Minimal, Self::Coding, Self::Messaging, Self::Full];

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Messaging => "messaging",
            Self::Coding => "coding",
            Self::Full => "full",
        }
    }

    /// From the configuration. A word that nobody knows is the smallest.
    pub fn parse(word: &str) -> Self {
        let word = word.trim();
        Self::ALL
            .into_iter()
            .find(|profile| profile.as_str().eq_ignore_ascii_case(word))
            .unwrap_or(Self::Minimal)
    }

    fn has(self, name: &str) -> bool {
        if self == Self::Full {
            return true;
        }
        KNOWN
            .iter()
            .any(|tool| tool.name == name && tool.profiles.contains(&self))
    }
}

/// What the names of tools begin with that a server brings.
pub const SERVER_PREFIX: &str = "mcp__";

/// A tool that comes with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// Its group.
    pub group: &'static str,
    /// What it does, in a few words for a list.
    pub summary: &'static str,
    /// The profiles that have it; [`Profile::Full`] has everything and is not named.
    pub profiles: &'static [Profile],
}

/// Groups by id and label, in the order in which they are listed.
pub const GROUPS: &[(&str, &str)] = &[
    ("fs", "Files"),
    ("runtime", "Runtime"),
    ("web", "Web"),
    ("memory", "Memory"),
    ("sessions", "Sessions"),
    ("messaging", "Messaging"),
    ("automation", "Automation"),
    ("agents", "Agents"),
];

const CODING: &[Profile] = &[Profile::Coding];
const SESSIONS: &[Profile] = &[Profile::Coding, Profile::Messaging];

const fn known(
    name: &'static str,
    group: &'static str,
    summary: &'static str,
    profiles: &'static [Profile],
) -> Known {
    Known {
        name,
        group,
        summary,
        profiles,
    }
}

/// Every tool that comes with the gateway.
pub const KNOWN: &[Known] = &[
    known("read", "fs", "Read a file", CODING),
    known("write", "fs", "Write a file", CODING),
    known("edit", "fs", "Replace a passage of a file", CODING),
    known("apply_patch", "fs", "Change several files at once", CODING),
    known("exec", "runtime", "Run a program", CODING),
    known("process", "runtime", "Attend to running programs", CODING),
    known("web_search", "web", "Search the web", CODING),
    known("web_fetch", "web", "Read a page of the web", CODING),
    known("memory_search", "memory", "Search notes", CODING),
    known("memory_get", "memory", "Read a note", CODING),
    known("sessions_list", "sessions", "List conversations", SESSIONS),
    known(
        "sessions_history",
        "sessions",
        "Read a conversation",
        SESSIONS,
    ),
    known(
        "sessions_send",
        "sessions",
        "Write to a conversation",
        SESSIONS,
    ),
    known(
        "session_status",
        "sessions",
        "What this conversation is",
        &[Profile::Minimal, Profile::Coding, Profile::Messaging],
    ),
    known(
        "message",
        "messaging",
        "Send a message",
        &[Profile::Messaging],
    ),
    known("cron", "automation", "Schedule work", CODING),
    known("gateway", "automation", "Look at the gateway", &[]),
    known("agents_list", "agents", "List agents", &[]),
];

/// What one place of the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Its profile. `None` takes nothing away.
    pub profile: Option<Profile>,
    /// What alone may pass. `None` takes nothing away; an empty list takes everything.
    pub allow: Option<Vec<String>>,
    /// What may not.
    pub deny: Vec<String>,
}

impl Step {
    /// A step that lets only these pass.
    pub fn allowing(names: Vec<String>) -> Self {
        Self {
            allow: Some(names),
            ..Self::default()
        }
    }

    /// Whether the list beside a profile names a server's tool, which no profile but the full one
    /// has by itself. The smallest stays what it is, and `*` names nothing.
    fn opens(&self, profile: Profile, name: &str) -> bool {
        let is_meant = |word: &String| {
            let plain = plain(word);
            (plain == "group:mcp" || plain.starts_with(SERVER_PREFIX)) && names(word, name)
        };
        matches!(profile, Profile::Coding | Profile::Messaging)
            && name.starts_with(SERVER_PREFIX)
            && self
                .allow
                .as_ref()
                .is_some_and(|allow| allow.iter().any(is_meant))
    }

    /// Whether it may let something pass whose name begins so.
    fn may_pass(&self, beginning: &str) -> bool {
        // What a word says before its first `*` and what is asked for agree as far as both go.
        let reaches = |word: &String| {
            let word = plain(word);
            match word.split_once('*') {
                _ if word == "group:mcp" => true,
                Some((head, _)) => head.starts_with(beginning) || beginning.starts_with(head),
                None => word.starts_with(beginning),
            }
        };
        let takes_all = |word: &String| {
            let word = plain(word);
            word == "group:mcp" || (word.ends_with('*') && fits(&word, beginning))
        };
        let listed = self.allow.as_ref();
        let is_reached = listed.is_none_or(|allow| allow.iter().any(reaches));
        let by_profile = match self.profile {
            None | Some(Profile::Full) => true,
            Some(Profile::Minimal) => false,
            Some(_) => listed.is_some() && is_reached,
        };
        by_profile && is_reached && !self.deny.iter().any(takes_all)
    }

    fn passes(&self, name: &str) -> bool {
        self.profile
            .is_none_or(|profile| profile.has(name) || self.opens(profile, name))
            && self
                .allow
                .as_ref()
                .is_none_or(|allow| allow.iter().any(|word| names(word, name)))
            && !self.deny.iter().any(|word| names(word, name))
    }
}

/// Whether a tool is there: every step lets it pass.
pub fn permits(steps: &[Step], name: &str) -> bool {
    let name = plain(name);
    steps.iter().all(|step| step.passes(&name))
}

/// Whether some tool may be there whose name begins so, as those of one server do
/// (`mcp__<server>__`): what decides whether a server is started. When it says no, [`permits`] says
/// no to each of them.
pub fn may_permit(steps: &[Step], beginning: &str) -> bool {
    let beginning = plain(beginning);
    steps.iter().all(|step| step.may_pass(&beginning))
}

/// Whether a list names a tool itself, as somebody does who means that one and not everything:
/// neither `*` nor a group does.
pub fn grants(list: &[String], name: &str) -> bool {
    list.iter().any(|word| plain(word) == plain(name))
}

/// A name as it is compared. Two tools have been known by another name.
fn plain(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    match name.as_str() {
        "bash" => "exec".to_owned(),
        "apply-patch" => "apply_patch".to_owned(),
        _ => name,
    }
}

/// Whether a word of a list stands for a tool, whose name is plain.
fn names(word: &str, name: &str) -> bool {
    let word = plain(word);
    if let Some(group) = word.strip_prefix("group:") {
        return match group {
            "openclaw" | "clawgate" => KNOWN.iter().any(|tool| tool.name == name),
            "mcp" => name.starts_with(SERVER_PREFIX),
            group => KNOWN
                .iter()
                .any(|tool| tool.group == group && tool.name == name),
        };
    }
    fits(&word, name)
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.find(before) {
                Some(at) => rest = &rest[at + before.len()..],
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(last) => rest.ends_with(last),
    }
}
