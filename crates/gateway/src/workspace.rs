//! Workspaces: the directories in which agents work, and the few files in them that the wire
//! knows.
//!
//! Everything goes through a handle of the directory, one name at a time and never through a
//! link: what somebody puts in the place of a file while it is looked at changes nothing but
//! that file. A file that other names lead to as well (a hard link) is not touched either.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Component, Path, PathBuf},
};

use clawgate_core::agent;
use clawgate_protocol::agent::{
    Identity, WORKSPACE_FILE_BYTES_MAX, WORKSPACE_FILES, WorkspaceFile,
};
use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};

/// What a new workspace begins with; the texts are ours.
const TEMPLATES: [(&str, &str); 7] = [
    ("AGENTS.md", include_str!("workspace/AGENTS.md")),
    ("SOUL.md", include_str!("workspace/SOUL.md")),
    ("TOOLS.md", include_str!("workspace/TOOLS.md")),
    ("IDENTITY.md", include_str!("workspace/IDENTITY.md")),
    ("USER.md", include_str!("workspace/USER.md")),
    ("HEARTBEAT.md", include_str!("workspace/HEARTBEAT.md")),
    (BOOTSTRAP, include_str!("workspace/BOOTSTRAP.md")),
];
/// Is there until the agent knows who it is, and is not listed after that.
const BOOTSTRAP: &str = "BOOTSTRAP.md";
const IDENTITY: &str = "IDENTITY.md";

/// A workspace, open. Its path may lead through links, for it is the operator's; nothing below it may.
#[derive(Debug)]
pub(crate) struct Workspace {
    path: PathBuf,
    handle: OwnedFd,
}

/// Why a file is not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It is none that may be: the reason, in words that leak nothing.
    #[error("{0}")]
    Unsafe(&'static str),
    /// It is larger than it may be.
    #[error("larger than {WORKSPACE_FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::LOOP => Self::Unsafe("it is a link"),
            Errno::NOTDIR => Self::Unsafe("a part of its path is no directory"),
            other => Self::Io(other.into()),
        }
    }
}

/// A file, open and judged.
struct Open {
    file: File,
    size: u64,
    updated_at_ms: i64,
}

impl Workspace {
    /// Opens it, if it is there.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(Self {
                path: path.to_owned(),
                handle,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens it, and makes it with its first files if it is not there. One that is there gets the
    /// files that it lacks if `complete`, and is left as it is otherwise; no file is written over.
    pub(crate) fn make(path: &Path, templates: bool, complete: bool) -> io::Result<Self> {
        let there = Self::open(path)?;
        let is_new = there.is_none();
        let workspace = match there {
            Some(workspace) => workspace,
            None => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path)?;
                Self::open(path)?.ok_or(io::ErrorKind::NotFound)?
            }
        };
        if templates && (is_new || complete) {
            let is_empty = is_new || !workspace.has_any()?;
            for (name, text) in TEMPLATES {
                // Who has files already knows who it is.
                if name == BOOTSTRAP && !is_empty {
                    continue;
                }
                match workspace.create(name, text) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(workspace)
    }

    fn has_any(&self) -> io::Result<bool> {
        for (name, _) in TEMPLATES {
            match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return Ok(true),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Writes a file that is not there.
    fn create(&self, name: &str, text: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let handle = openat(&self.handle, name, flags | OFlags::NOFOLLOW, mode())?;
        File::from(handle)
            .write_all(text.as_bytes())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// The files that the wire knows, without their texts.
    pub(crate) fn list(&self) -> io::Result<Vec<WorkspaceFile>> {
        let mut files = Vec::new();
        for name in WORKSPACE_FILES {
            let found = match look(&self.handle, name) {
                Ok(found) => found,
                Err(FileError::Unsafe(_) | FileError::TooLarge) => None,
                Err(FileError::Io(error)) => return Err(error),
            };
            // The second spelling of the memory stands in for the first.
            if name == "memory.md" {
                if let (Some(_), Some(last)) = (&found, files.last()) {
                    let last: &WorkspaceFile = last;
                    if last.missing {
                        files.pop();
                        files.push(self.row(name, found.as_ref()));
                    }
                }
                continue;
            }
            if name == BOOTSTRAP && found.is_none() {
                continue;
            }
            files.push(self.row(name, found.as_ref()));
        }
        Ok(files)
    }

    fn row(&self, name: &str, found: Option<&Open>) -> WorkspaceFile {
        WorkspaceFile {
            name: name.to_owned(),
            path: self.path.join(name).display().to_string(),
            missing: found.is_none(),
            size: found.map(|open| open.size),
            updated_at_ms: found.map(|open| open.updated_at_ms),
            content: None,
        }
    }

    /// One of the files with its text; one that is not there is said to be missing.
    pub(crate) fn read(&self, name: &str) -> Result<WorkspaceFile, FileError> {
        let Some(open) = look(&self.handle, name)? else {
            return Ok(self.row(name, None));
        };
        let mut row = self.row(name, Some(&open));
        let bytes = whole(open, WORKSPACE_FILE_BYTES_MAX)?;
        row.content = Some(String::from_utf8_lossy(&bytes).into_owned());
        Ok(row)
    }

    /// Writes one of the files, beside its place and moved there when it is on the disk.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<WorkspaceFile, FileError> {
        if text.len() > WORKSPACE_FILE_BYTES_MAX {
            return Err(FileError::TooLarge);
        }
        // What is no ordinary file is not replaced either: somebody put it there for a reason.
        look(&self.handle, name)?;
        let draft = format!(".{name}.{}.new", crate::state::random_text(6));
        let written = self
            .create(&draft, text)
            .and_then(|()| self.sync(&draft))
            .and_then(|()| renameat(&self.handle, &draft, &self.handle, name));
        if let Err(error) = written {
            let _ = unlinkat(&self.handle, &draft, AtFlags::empty());
            return Err(error.into());
        }
        rustix::fs::fsync(&self.handle)?;
        let mut row = self.row(name, look(&self.handle, name)?.as_ref());
        row.content = Some(text.to_owned());
        Ok(row)
    }

    fn sync(&self, name: &str) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::fsync(openat(&self.handle, name, flags, Mode::empty())?)
    }

    /// Adds lines to the end of `IDENTITY.md`, where the last of a kind holds.
    pub(crate) fn add_identity(&self, lines: &str) -> Result<(), FileError> {
        let before = self.read(IDENTITY)?.content.unwrap_or_default();
        self.write(IDENTITY, &format!("{}\n\n{lines}", before.trim_end()))?;
        Ok(())
    }

    /// Who `IDENTITY.md` says that the agent is. One that cannot be read says nothing.
    pub(crate) fn identity(&self) -> Identity {
        let text = self.read(IDENTITY).ok().and_then(|file| file.content);
        agent::read_identity(&text.unwrap_or_default())
    }

    /// The bytes of any file below, by a relative path that leads through no link; for avatars.
    pub(crate) fn read_below(&self, path: &str, max: usize) -> Result<Option<Vec<u8>>, FileError> {
        let mut names = Vec::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(FileError::Unsafe("it leads out of the workspace"));
                }
            }
        }
        let Some(name) = names.pop() else {
            return Ok(None);
        };
        let mut at: Option<OwnedFd> = None;
        for directory in names {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let above = at.as_ref().unwrap_or(&self.handle);
            match openat(above, directory, flags, Mode::empty()) {
                Ok(handle) => at = Some(handle),
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        match look(at.as_ref().unwrap_or(&self.handle), name)? {
            Some(open) => whole(open, max).map(Some),
            None => Ok(None),
        }
    }
}

/// Readable for others as far as the process's mask lets them, as an editor writes it.
fn mode() -> Mode {
    Mode::from_raw_mode(0o644)
}

/// Opens a file without following a link and without waiting for a pipe, and judges what was
/// opened.
fn look(directory: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<Open>, FileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let handle = match openat(directory, name, flags, Mode::empty()) {
        Ok(handle) => handle,
        Err(Errno::NOENT) => return Ok(None),
        // A socket or a device without a driver.
        Err(Errno::NXIO | Errno::NODEV) => return Err(FileError::Unsafe("it is no regular file")),
        Err(error) => return Err(error.into()),
    };
    let file = File::from(handle);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileError::Unsafe("it is no regular file"));
    }
    if metadata.nlink() > 1 {
        return Err(FileError::Unsafe("it has a second name"));
    }
    Ok(Some(Open {
        size: metadata.len(),
        updated_at_ms: metadata
            .mtime()
            .saturating_mul(1_000)
            .saturating_add(metadata.mtime_nsec() / 1_000_000),
        file,
    }))
}

/// All of a file, or nothing if there is too much of it.
fn whole(open: Open, max: usize) -> Result<Vec<u8>, FileError> {
    let most = u64::try_from(max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    open.file
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(FileError::TooLarge);
    }
    Ok(bytes)
}

/// What a workspace would show that is not there: every file missing.
pub(crate) fn nothing(path: &Path) -> Vec<WorkspaceFile> {
    WORKSPACE_FILES
        .iter()
        .filter(|name| !matches!(**name, BOOTSTRAP | "memory.md"))
        .map(|name| absent(path, name))
        .collect()
}

/// A file that is not there.
pub(crate) fn absent(path: &Path, name: &str) -> WorkspaceFile {
    WorkspaceFile {
        name: name.to_owned(),
        path: path.join(name).display().to_string(),
        missing: true,
        size: None,
        updated_at_ms: None,
        content: None,
    }
}

/// Moves a directory into the trash of the state directory. One that is not there is gone already.
pub(crate) fn discard(path: &Path, state: &Path, now_ms: i64) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let trash = state.join("trash");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&trash)?;
    let mut place = name.to_os_string();
    place.push(format!("-{now_ms}-{}", crate::state::random_text(4)));
    match fs::rename(path, trash.join(place)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place() -> PathBuf {
        let path = std::env::temp_dir().join(format!("clawgate-ws-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn files_are_made_once_and_never_written_over() {
        let path = place().join("ws");
        let workspace = Workspace::make(&path, true, false).unwrap();
        assert_eq!(workspace.list().unwrap().len(), 8);
        workspace.write("SOUL.md", "mine").unwrap();
        fs::remove_file(path.join("USER.md")).unwrap();
        let again = Workspace::make(&path, true, false).unwrap();
        assert_eq!(
            again.read("SOUL.md").unwrap().content.as_deref(),
            Some("mine")
        );
        assert!(again.read("USER.md").unwrap().missing);
        fs::remove_file(path.join(BOOTSTRAP)).unwrap();
        let complete = Workspace::make(&path, true, true).unwrap();
        assert!(!complete.read("USER.md").unwrap().missing);
        assert!(complete.read(BOOTSTRAP).unwrap().missing);
        assert_eq!(
            complete.read("SOUL.md").unwrap().content.as_deref(),
            Some("mine")
        );
    }

    #[test]
    fn nothing_below_leads_out() {
        let place = place();
        fs::write(place.join("secret"), "canary").unwrap();
        let path = place.join("ws");
        fs::create_dir(&path).unwrap();
        let workspace = Workspace::open(&path).unwrap().unwrap();
        symlink(place.join("secret"), path.join("SOUL.md")).unwrap();
        symlink(&place, path.join("dir")).unwrap();
        fs::hard_link(place.join("secret"), path.join("USER.md")).unwrap();
        fs::create_dir(path.join("TOOLS.md")).unwrap();
        for name in ["SOUL.md", "USER.md", "TOOLS.md"] {
            assert!(
                matches!(workspace.read(name), Err(FileError::Unsafe(_))),
                "{name}"
            );
            assert!(
                matches!(workspace.write(name, "x"), Err(FileError::Unsafe(_))),
                "{name}"
            );
        }
        for below in [
            "../secret",
            "/etc/passwd",
            "dir/secret",
            "SOUL.md",
            "a/../../secret",
        ] {
            let read = workspace.read_below(below, 100);
            assert!(
                matches!(read, Err(FileError::Unsafe(_))),
                "{below}: {read:?}"
            );
        }
        assert_eq!(fs::read_to_string(place.join("secret")).unwrap(), "canary");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 4, "no draft is left");
    }

    #[test]
    fn a_pipe_does_not_block_and_a_large_file_is_refused() {
        let path = place();
        let workspace = Workspace::open(&path).unwrap().unwrap();
        rustix::fs::mkfifoat(&workspace.handle, "SOUL.md", mode()).unwrap();
        assert!(matches!(
            workspace.read("SOUL.md"),
            Err(FileError::Unsafe(_))
        ));
        let file = File::create(path.join("AGENTS.md")).unwrap();
        file.set_len(5_000_000_000).unwrap();
        assert!(matches!(
            workspace.read("AGENTS.md"),
            Err(FileError::TooLarge)
        ));
        let large = "x".repeat(WORKSPACE_FILE_BYTES_MAX + 1);
        assert!(matches!(
            workspace.write("USER.md", &large),
            Err(FileError::TooLarge)
        ));
    }
}
