//! Nodes: what a node may be asked to run. Pure.
//!
//! A command is invoked where four things hold: the node declares it, somebody approved that it
//! does, the platform's list or the configuration allows it, and the configuration does not deny it.
//! Declaring adds no authority: what was approved is what was shown to whoever approved it.

use clawgate_protocol::proof::pinned;

/// How long a request of the older store waits, milliseconds.
pub const REQUEST_TTL_MS: i64 = 300_000;

/// Whether the time of such a request is over, also by a clock that went back since.
pub fn is_over(asked_at_ms: i64, now_ms: i64) -> bool {
    asked_at_ms.abs_diff(now_ms) >= REQUEST_TTL_MS.unsigned_abs()
}
/// Requests that wait at most, of either kind.
pub const REQUESTS_MAX: usize = 256;

const CANVAS: &[&str] = &[
    "canvas.present",
    "canvas.hide",
    "canvas.navigate",
    "canvas.eval",
    "canvas.snapshot",
    "canvas.a2ui.push",
    "canvas.a2ui.pushJSONL",
    "canvas.a2ui.reset",
];
const SENSES: &[&str] = &["camera.list", "location.get"];
const DEVICE: &[&str] = &["device.info", "device.status"];
const ANDROID: &[&str] = &[
    "notifications.list",
    "notifications.actions",
    "device.permissions",
    "device.health",
];
const PERSONAL: &[&str] = &[
    "contacts.search",
    "calendar.events",
    "reminders.list",
    "photos.latest",
    "motion.activity",
    "motion.pedometer",
];
const NOTIFY: &[&str] = &["system.notify"];
const SYSTEM: &[&str] = &[
    "system.run.prepare",
    "system.run",
    "system.which",
    "browser.proxy",
];

/// Commands that only their own methods may send, with their own scope.
const RESERVED: &[&str] = &["system.execApprovals.get", "system.execApprovals.set"];
/// Commands behind which another authority lies than that of writing.
const ADMIN: &[&str] = &[
    "browser.proxy",
    "browser.proxy.upload.v1",
    "fs.listDir",
    "terminal.upload",
];

/// What a node declares, or what was approved of that. Sorted, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surface {
    caps: Vec<String>,
    commands: Vec<String>,
}

impl Surface {
    /// Sorts; drops repeats and blanks.
    pub fn new(caps: &[String], commands: &[String]) -> Self {
        let tidy = |names: &[String]| {
            let mut names: Vec<String> = names
                .iter()
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        Self {
            caps: tidy(caps),
            commands: tidy(commands),
        }
    }

    /// Groups of abilities. They carry no authority.
    pub fn caps(&self) -> &[String] {
        &self.caps
    }

    /// Commands.
    pub fn commands(&self) -> &[String] {
        &self.commands
    }

    /// Whether a command is among them.
    pub fn has(&self, command: &str) -> bool {
        self.commands.iter().any(|name| name == command)
    }

    /// Whether every command of another is among them.
    pub fn covers(&self, other: &Self) -> bool {
        other.commands.iter().all(|command| self.has(command))
    }
}

/// `gateway.nodes` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandRules {
    /// Allowed beside what the platform allows.
    pub allow: Vec<String>,
    /// Denied whatever allows it.
    pub deny: Vec<String>,
}

impl CommandRules {
    /// Whether a node of a platform may be asked to run a command, by platform and configuration.
    pub fn allows(&self, command: &str, platform: Option<&str>, family: Option<&str>) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name.trim() == command);
        let by_platform = || {
            platform_commands(platform, family)
                .iter()
                .any(|names| names.contains(&command))
        };
        !named(&self.deny) && (named(&self.allow) || by_platform())
    }
}

/// The commands of a platform. What it claims is pinned at pairing; a spelling that is not plain
/// names no platform, and gets what an unknown one gets.
fn platform_commands(
    platform: Option<&str>,
    family: Option<&str>,
) -> &'static [&'static [&'static str]] {
    const IOS: &[&[&str]] = &[CANVAS, SENSES, DEVICE, PERSONAL, NOTIFY];
    const DROID: &[&[&str]] = &[CANVAS, SENSES, DEVICE, ANDROID, PERSONAL, NOTIFY];
    const MAC: &[&[&str]] = &[CANVAS, SENSES, DEVICE, PERSONAL, NOTIFY, SYSTEM];
    const DESKTOP: &[&[&str]] = &[SYSTEM, NOTIFY];
    const UNKNOWN: &[&[&str]] = &[CANVAS, SENSES, NOTIFY];
    let plain = |text: Option<&str>| {
        let text = pinned(text.unwrap_or_default());
        if text.is_ascii() { text } else { String::new() }
    };
    let (platform, family) = (plain(platform), plain(family));
    for (prefixes, commands) in [
        (&["ios"][..], IOS),
        (&["android"], DROID),
        (&["mac", "darwin"], MAC),
        (&["win", "linux"], DESKTOP),
    ] {
        if prefixes.iter().any(|prefix| platform.starts_with(prefix)) {
            return commands;
        }
    }
    for (words, commands) in [
        (&["iphone", "ipad", "ios"][..], IOS),
        (&["android"], DROID),
        (&["mac"], MAC),
        (&["windows", "linux"], DESKTOP),
    ] {
        if words.iter().any(|word| family.contains(word)) {
            return commands;
        }
    }
    UNKNOWN
}

/// Why a command is not sent to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Neither platform nor configuration allow it, or the configuration denies it.
    NotAllowed,
    /// The node declares no command at all.
    NothingDeclared,
    /// The node does not declare it.
    NotDeclared,
    /// The node declares it, and nobody approved that.
    NotApproved,
}

/// Whether a command may be sent to a node.
///
/// # Errors
/// The first reason against it.
pub fn may_run(
    command: &str,
    allowed: bool,
    declared: &Surface,
    approved: &Surface,
) -> Result<(), Withheld> {
    if !allowed {
        return Err(Withheld::NotAllowed);
    }
    if declared.commands.is_empty() {
        return Err(Withheld::NothingDeclared);
    }
    if !declared.has(command) {
        return Err(Withheld::NotDeclared);
    }
    if !approved.has(command) {
        return Err(Withheld::NotApproved);
    }
    Ok(())
}

/// Whether a command has methods of its own, and is not sent by `node.invoke`.
pub fn is_reserved(command: &str) -> bool {
    RESERVED.contains(&command)
}

/// Whether a command needs an administrator.
pub fn needs_admin(command: &str) -> bool {
    ADMIN.contains(&command)
}

/// What becomes of the request for what a node declares, when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declaring {
    /// All of it is approved: a request that waits is over.
    Approved,
    /// Somebody was asked about exactly this already.
    Asked,
    /// Somebody has to be asked; a request for something else is over.
    Ask,
}

/// Holds what a node declares against what was approved and what was asked already.
pub fn declare(approved: &Surface, asked: Option<&Surface>, declared: &Surface) -> Declaring {
    if approved.covers(declared) {
        Declaring::Approved
    } else if asked.is_some_and(|asked| asked.commands == declared.commands) {
        Declaring::Asked
    } else {
        Declaring::Ask
    }
}

/// Whether a command that a node in the background refused is kept until it comes to the front: what
/// shows or records something, on a telephone.
pub fn waits_for_foreground(platform: Option<&str>, command: &str, code: Option<&str>) -> bool {
    let platform = pinned(platform.unwrap_or_default());
    let telephone = ["ios", "ipados"]
        .iter()
        .any(|name| platform.starts_with(name));
    let shows = ["canvas.", "camera.", "screen.", "talk."];
    telephone
        && code == Some("NODE_BACKGROUND_UNAVAILABLE")
        && shows.iter().any(|group| command.starts_with(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(commands: &[&str]) -> Surface {
        let commands: Vec<String> = commands.iter().map(|name| (*name).to_owned()).collect();
        Surface::new(&[], &commands)
    }

    #[test]
    fn a_platform_allows_what_belongs_to_it_and_denying_stands_above_allowing() {
        let rules = CommandRules::default();
        for (platform, family, command, allowed) in [
            ("linux", "", "system.run", true),
            ("linux", "", "camera.snap", false),
            ("Darwin", "", "system.run", true),
            ("win32", "", "system.which", true),
            ("iOS 19", "", "system.run", false),
            ("iOS 19", "", "system.notify", true),
            ("", "iPhone", "canvas.eval", true),
            ("plan9", "", "system.run", false),
            ("plan9", "", "camera.list", true),
            // A look-alike of "linux" is no linux.
            ("ｌｉｎｕｘ", "", "system.run", false),
            ("android", "linux", "system.run", false),
        ] {
            assert_eq!(
                rules.allows(command, Some(platform), Some(family)),
                allowed,
                "{command} on {platform:?} {family:?}"
            );
        }
        let rules = CommandRules {
            allow: vec!["camera.snap".to_owned(), "system.run".to_owned()],
            deny: vec![" system.run ".to_owned()],
        };
        assert!(rules.allows("camera.snap", Some("linux"), None));
        assert!(!rules.allows("system.run", Some("linux"), None));
    }

    #[test]
    fn a_command_runs_where_it_is_declared_approved_and_allowed() {
        let (both, one, none) = (surface(&["a", "b"]), surface(&["a"]), surface(&[]));
        for (command, allowed, declared, approved, outcome) in [
            ("a", true, &both, &one, Ok(())),
            ("b", true, &both, &one, Err(Withheld::NotApproved)),
            ("b", true, &one, &both, Err(Withheld::NotDeclared)),
            ("a", true, &none, &both, Err(Withheld::NothingDeclared)),
            ("a", false, &both, &both, Err(Withheld::NotAllowed)),
            ("a", true, &both, &none, Err(Withheld::NotApproved)),
        ] {
            assert_eq!(may_run(command, allowed, declared, approved), outcome);
        }
    }

    #[test]
    fn what_is_declared_beyond_the_approval_is_asked_for_once() {
        let (less, more, other) = (surface(&["a"]), surface(&["a", "b"]), surface(&["a", "c"]));
        assert_eq!(declare(&more, None, &less), Declaring::Approved);
        assert_eq!(declare(&more, Some(&other), &more), Declaring::Approved);
        assert_eq!(declare(&less, None, &more), Declaring::Ask);
        assert_eq!(declare(&less, Some(&more), &more), Declaring::Asked);
        assert_eq!(declare(&less, Some(&other), &more), Declaring::Ask);
    }

    #[test]
    fn a_telephone_in_the_background_is_waited_for() {
        let code = Some("NODE_BACKGROUND_UNAVAILABLE");
        assert!(waits_for_foreground(Some("iOS"), "camera.snap", code));
        assert!(!waits_for_foreground(Some("linux"), "camera.snap", code));
        assert!(!waits_for_foreground(Some("iOS"), "system.notify", code));
        assert!(!waits_for_foreground(Some("iOS"), "camera.snap", None));
    }
}
