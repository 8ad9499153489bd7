//! Files and directories that others may read or change.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Finding, Mend, Severity, shown};

/// Files looked at, at most: a workspace may hold any number.
const FILES_MAX: usize = 20_000;
/// Directories of a state directory that hold what agents made; they are closed by what is above.
const NOT_LOOKED_INTO: &[&str] = &["workspace", "skills"];

/// What is open to others, each with the mode that closes it.
pub(crate) fn loose_files(state_dir: &Path, config: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    let own = rustix::process::geteuid().as_raw();
    let mut looked_at = 0;
    let mut ahead: Vec<PathBuf> = vec![state_dir.to_owned()];
    if !config.starts_with(state_dir) {
        judge(config, own, &mut found, "fs.config");
    }
    while let Some(path) = ahead.pop() {
        looked_at += 1;
        if looked_at > FILES_MAX {
            break;
        }
        let check = if path == state_dir {
            "fs.state_dir"
        } else if path == config {
            "fs.config"
        } else {
            "fs.state"
        };
        judge(&path, own, &mut found, check);
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            ahead.extend(entries.map(|entry| entry.path()).filter(|entry| {
                let name = entry.file_name().and_then(|name| name.to_str());
                !name.is_some_and(|name| {
                    NOT_LOOKED_INTO.contains(&name) || name.starts_with("workspace-")
                })
            }));
        }
    }
    found
}

fn judge(path: &Path, own: u32, found: &mut Vec<Finding>, check: &str) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    let place = shown(path);
    if meta.is_symlink() {
        if check != "fs.config" {
            found.push(
                Finding::new(
                    "fs.state.symlink",
                    Severity::Warn,
                    "A link lies in the state directory",
                    format!("{place} is a link: whoever may change what it leads to changes the gateway's state"),
                )
                .remedy("put the file itself there"),
            );
        }
        return;
    }
    if meta.uid() != own && own != 0 {
        found.push(
            Finding::new(
                "fs.state.other_owner",
                Severity::Critical,
                "A file belongs to another user",
                format!(
                    "{place} belongs to user {}, who may change it at any time",
                    meta.uid()
                ),
            )
            .remedy(format!("sudo chown {own} {place}")),
        );
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 == 0 {
        return;
    }
    let closed = mode & 0o700;
    let mend = Mend::Mode {
        path: path.to_owned(),
        mode: closed,
    };
    let (check_id, severity, who, may) = match (check, mode & 0o022 != 0) {
        ("fs.state_dir", true) => (
            "fs.state_dir.perms_world_writable",
            Severity::Critical,
            "others may change",
            "make themselves its owner",
        ),
        ("fs.state_dir", false) => (
            "fs.state_dir.perms_readable",
            Severity::Warn,
            "others may list",
            "see what is there, and read whatever is not closed by itself",
        ),
        ("fs.config", true) => (
            "fs.config.perms_writable",
            Severity::Critical,
            "others may change",
            "decide who may use the gateway",
        ),
        ("fs.config", false) => (
            "fs.config.perms_world_readable",
            Severity::Critical,
            "others may read",
            "use every secret in it",
        ),
        (_, true) => (
            "fs.state.perms_writable",
            Severity::Critical,
            "others may change",
            "give themselves rights in the gateway",
        ),
        (_, false) => (
            "fs.state.perms_readable",
            Severity::Warn,
            "others may read",
            "use what is secret in it, if they reach it",
        ),
    };
    let detail = format!("its mode is {mode:o}: other users of this machine could {may}");
    let (severity, detail) = if is_closed_above(path) {
        let closed = "a directory above it is closed to them, which is all that keeps them out";
        (Severity::Info, format!("{detail}; {closed}"))
    } else {
        (severity, detail)
    };
    let title = format!("{place} is something that {who}");
    found.push(Finding::new(check_id, severity, title, detail).mended_by(mend));
}

/// Whether no other user gets as far as this.
fn is_closed_above(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    path.ancestors()
        .skip(1)
        .any(|above| fs::metadata(above).is_ok_and(|meta| meta.mode() & 0o011 == 0))
}
