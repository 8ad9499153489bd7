//! What a program may do that a model runs: the side that confines itself and then becomes it.
//!
//! The gateway starts its own binary again with a [`Spec`]; that process takes its rights away from
//! itself and becomes the program. Nothing in it can be undone by what comes after. A part of it
//! that was asked for and cannot be had ends in an error and the program does not run; what a
//! system can do is asked beforehand with [`probe`].
//!
//! Files are Landlock's: what is not listed can be neither read nor written. The network is taken
//! away with a network namespace of its own where the system lets a user have one, and otherwise
//! with Landlock's rules, which know TCP.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

/// What a process is to become, and with which rights.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its command line, its own name first.
    pub argv: Vec<String>,
    /// Whether its input is a terminal that becomes its own.
    pub tty: bool,
    /// Its bounds. `None` = none.
    pub bounds: Option<Bounds>,
}

/// What a program may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Where it may read and write.
    pub write: Vec<PathBuf>,
    /// Where it may read and run what is there.
    pub read: Vec<PathBuf>,
    /// What it may not see although it lies beneath one of these.
    pub never: Vec<PathBuf>,
    /// Whom it may talk to.
    pub network: Network,
}

/// What of the network a program has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing.
    #[default]
    None,
    /// No TCP; other protocols are open because the system cannot close them.
    Tcp,
    /// Everything.
    Open,
}

/// What a system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ability {
    /// Whether files can be closed.
    pub files: bool,
    /// How much of the network is left when as much as possible is taken away.
    pub network: Network,
}

impl Ability {
    /// Of a system that can do nothing.
    pub const NOTHING: Self = Self {
        files: false,
        network: Network::Open,
    };
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Its bounds cannot be had.
    #[error("the sandbox cannot be had: {0}")]
    Bounds(String),
    /// It cannot become the program.
    #[error("{program}: {source}")]
    Program {
        /// Which.
        program: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl EnterError {
    /// The exit code that shells have for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Bounds(_) | Self::Program { .. } => 126,
        }
    }
}

/// Becomes the program. Returns only when it cannot. For a process that has one thread.
#[must_use]
pub fn enter(spec: &Spec) -> EnterError {
    match prepare(spec) {
        Err(error) => error,
        Ok(()) => {
            let mut command = Command::new(&spec.program);
            if let Some((name, arguments)) = spec.argv.split_first() {
                command.arg0(name).args(arguments);
            }
            EnterError::Program {
                source: command.exec(),
                program: spec.program.clone(),
            }
        }
    }
}

fn prepare(spec: &Spec) -> Result<(), EnterError> {
    let failed = |error: &dyn std::fmt::Display| EnterError::Bounds(error.to_string());
    // A session of its own: signals of the terminal that the gateway may have do not reach it, and
    // its processes are a group.
    rustix::process::setsid().map_err(|error| failed(&error))?;
    if spec.tty {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(|error| failed(&error))?;
    }
    match &spec.bounds {
        Some(bounds) => system::confine(bounds).map_err(EnterError::Bounds),
        None => Ok(()),
    }
}

/// What this system can do. Changes the process that asks: for one that ends afterwards.
#[must_use]
pub fn probe() -> Ability {
    system::probe()
}

/// The parts of a tree that remain when some places in it are left out: the tree itself where
/// none lies in it, and otherwise what is beside the way to them. Nothing of a tree that lies in
/// such a place.
#[must_use]
pub fn without(tree: &Path, never: &[PathBuf]) -> Vec<PathBuf> {
    let tree = tree.canonicalize().unwrap_or_else(|_| tree.to_owned());
    let never: Vec<PathBuf> = never
        .iter()
        .map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()))
        .collect();
    let mut left = Vec::new();
    split(tree, &never, &mut left);
    left
}

fn split(tree: PathBuf, never: &[PathBuf], left: &mut Vec<PathBuf>) {
    if never.iter().any(|path| tree.starts_with(path)) {
        return;
    }
    if !never.iter().any(|path| path.starts_with(&tree)) {
        left.push(tree);
        return;
    }
    // Only directories on the way to a place that is left out are looked into.
    let Ok(entries) = std::fs::read_dir(&tree) else {
        return;
    };
    for entry in entries.flatten() {
        // What a link leads to is a place of its own, and is listed itself or not at all.
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            split(entry.path(), never, left);
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, Ruleset,
        RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope, path_beneath_rules,
    };
    use rustix::thread::UnshareFlags;

    use super::{Ability, Bounds, Network, without};

    /// The newest rules that are asked for; an older system has those that it knows.
    const NEWEST: ABI = ABI::V10;
    /// Devices that every program may use.
    const DEVICES: [&str; 8] = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/pts",
    ];

    /// Where every process is shown.
    const PROCESSES: &str = "/proc";
    /// What of it says nothing about others.
    const OF_ITSELF: [&str; 9] = [
        "/proc/self",
        "/proc/cpuinfo",
        "/proc/filesystems",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/sys",
        "/proc/uptime",
        "/proc/version",
    ];

    pub(super) fn probe() -> Ability {
        let has =
            |ruleset: Result<Ruleset, RulesetError>| ruleset.and_then(Ruleset::create).is_ok();
        let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let files = has(strict().handle_access(AccessFs::from_all(ABI::V1)));
        let tcp = has(strict().handle_access(AccessNet::from_all(ABI::V4)));
        let network = match (leave_network(), tcp) {
            (Ok(()), _) => Network::None,
            (Err(_), true) => Network::Tcp,
            (Err(_), false) => Network::Open,
        };
        Ability { files, network }
    }

    pub(super) fn confine(bounds: &Bounds) -> Result<(), String> {
        let is_apart = if bounds.network == Network::None {
            leave_network().map_err(|error| format!("no network of its own: {error}"))?;
            true
        } else {
            leave(UnshareFlags::NEWUSER).is_ok()
        };
        // Landlock keeps a program from looking into processes outside, but not one that has the
        // system's own capabilities. Where root cannot lay those down it does not see them.
        let sees_others = is_apart || !rustix::process::geteuid().is_root();
        restrict(bounds, sees_others).map_err(|error| error.to_string())
    }

    /// Moves into a network where nobody is.
    fn leave_network() -> std::io::Result<()> {
        leave(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)
    }

    /// Moves into namespaces of its own, a user's among them: what it may beyond its user's files
    /// ends with them.
    fn leave(namespaces: UnshareFlags) -> std::io::Result<()> {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        #[expect(
            deprecated,
            reason = "the caller has one thread and these flags leave its files alone"
        )]
        rustix::thread::unshare(namespaces)?;
        // In it, it is who it was.
        std::fs::write("/proc/self/setgroups", "deny")?;
        let (user, group) = (user.as_raw(), group.as_raw());
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
    }

    fn restrict(bounds: &Bounds, sees_others: bool) -> Result<(), RulesetError> {
        let expanded = |trees: &[PathBuf]| -> Vec<PathBuf> {
            trees
                .iter()
                .flat_map(|tree| without(tree, &beneath(tree, &bounds.never)))
                .collect()
        };
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            // Signals and abstract sockets of processes outside.
            .scope(Scope::from_all(NEWEST))?;
        if bounds.network != Network::Open {
            ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
        }
        let all: BitFlags<AccessFs> =
            AccessFs::from_all(NEWEST) & !AccessFs::MakeBlock & !AccessFs::MakeChar;
        let mut device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
        device |= AccessFs::ReadDir | AccessFs::IoctlDev;
        let mut read = AccessFs::from_read(NEWEST);
        read &= !AccessFs::IoctlDev;
        let mut readable = expanded(&bounds.read);
        if !sees_others && readable.iter().any(|tree| tree == Path::new(PROCESSES)) {
            readable.retain(|tree| tree != Path::new(PROCESSES));
            readable.extend(OF_ITSELF.map(PathBuf::from));
        }
        ruleset
            .create()?
            .add_rules(path_beneath_rules(readable, read))?
            .add_rules(path_beneath_rules(expanded(&bounds.write), all))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .restrict_self()?;
        Ok(())
    }

    /// What is left out of a tree: places in it. A tree that lies in such a place was listed on
    /// purpose, as a workspace in the gateway's own directory is.
    fn beneath(tree: &Path, never: &[PathBuf]) -> Vec<PathBuf> {
        let tree = tree.canonicalize().unwrap_or_else(|_| tree.to_owned());
        never
            .iter()
            .map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()))
            .filter(|path| !tree.starts_with(path))
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Ability, Bounds};

    pub(super) fn probe() -> Ability {
        Ability::NOTHING
    }

    pub(super) fn confine(_: &Bounds) -> Result<(), String> {
        Err("this system has none".to_owned())
    }
}
