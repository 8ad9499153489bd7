//! Which tools may be called over HTTP, one at a time and without a turn around them.

use std::collections::BTreeSet;

/// What is not let through unless the operator says so: programs, changes of files, other sessions,
/// what outlives the call, and the gateway itself. The original's list.
const CLOSED: [&str; 16] = [
    "apply_patch",
    "cron",
    "edit",
    "exec",
    "fs_delete",
    "fs_move",
    "fs_write",
    "gateway",
    "nodes",
    "process",
    "sessions_send",
    "sessions_spawn",
    "shell",
    "spawn",
    "whatsapp_login",
    "write",
];
/// `gateway.tools`: what the operator closes and opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolDoor {
    deny: BTreeSet<String>,
    allow: BTreeSet<String>,
}

impl ToolDoor {
    /// From the names of `gateway.tools.deny` and `gateway.tools.allow`.
    pub fn new<'a>(
        deny: impl IntoIterator<Item = &'a str>,
        allow: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let names = |name: &str| name.trim().to_ascii_lowercase();
        Self {
            deny: deny.into_iter().map(names).collect(),
            allow: allow.into_iter().map(names).collect(),
        }
    }

    /// Whether a tool may be called. What is denied stays so; what is opened is open to
    /// administrators.
    #[must_use]
    pub fn lets(&self, tool: &str, is_administrator: bool) -> bool {
        let tool = tool.trim().to_ascii_lowercase();
        let is_closed = CLOSED.contains(&tool.as_str());
        !self.deny.contains(&tool)
            && (!is_closed || (is_administrator && self.allow.contains(&tool)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_closed_until_the_operator_opens_it_to_administrators() {
        let usual = ToolDoor::default();
        for tool in CLOSED {
            assert!(!usual.lets(tool, true), "{tool}");
        }
        assert!(!usual.lets(" Exec ", true), "however it is written");
        assert!(usual.lets("sessions_list", false));
        let opened = ToolDoor::new([], ["exec", "cron"]);
        assert!(opened.lets("exec", true) && opened.lets("cron", true));
        assert!(!opened.lets("exec", false) && !opened.lets("cron", false));
        assert!(!opened.lets("gateway", true));
    }

    #[test]
    fn what_is_denied_stays_so_whatever_is_opened() {
        let door = ToolDoor::new(["Browser", "exec"], ["exec"]);
        assert!(!door.lets("browser", true));
        assert!(!door.lets("exec", true));
        assert!(door.lets("web_fetch", false));
    }
}
