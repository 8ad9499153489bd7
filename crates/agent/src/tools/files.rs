//! The files that a turn may touch: those beneath its workspace, through a handle of it.
//!
//! A path is resolved by the system itself, told to stay beneath the handle: whatever stands in the
//! way while it is looked at (`..`, an absolute link, a link that leads out, a magic one of `/proc`),
//! it ends in an error and never outside. Some directories elsewhere may be read and not written.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, renameat, statat, unlinkat},
    io::Errno,
};

/// Bytes of a file that is changed at most.
pub(super) const CHANGED_MAX: u64 = 8 * 1024 * 1024;

/// The files of a turn.
#[derive(Clone, Debug)]
pub struct Files {
    workspace: Arc<Root>,
    /// What may be read besides.
    readable: Vec<Arc<Root>>,
}

#[derive(Debug)]
struct Root {
    /// As it is configured.
    path: PathBuf,
    /// With every link followed.
    real: PathBuf,
    handle: OwnedFd,
}

impl Root {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            handle: rustix::fs::open(path, flags, Mode::empty())?,
            real: path.canonicalize()?,
            path: path.to_owned(),
        })
    }

    /// A path of it as one beneath it.
    fn beneath<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.path)
            .or_else(|_| path.strip_prefix(&self.real))
            .ok()
    }
}

/// A place beneath one of the roots.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: Arc<Root>,
    path: PathBuf,
    writable: bool,
}

/// Why a file is not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileFault {
    /// The path is none that may be used.
    #[error("{0}")]
    Refused(String),
    #[error("{0} is not there")]
    Missing(String),
    #[error("{0} leads out of the workspace; only what lies beneath it can be used")]
    Outside(String),
    #[error("{0} is a directory")]
    Directory(String),
    #[error("{0} is no regular file")]
    Special(String),
    #[error("{path} has {size} bytes, more than the {max} that can be handled at once")]
    TooLarge { path: String, size: u64, max: u64 },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

impl Files {
    /// The files beneath a workspace, which has to be there, and directories that may be read
    /// besides; those of them that are not there are left out.
    ///
    /// # Errors
    /// The workspace cannot be opened.
    pub fn open(workspace: &Path, readable: &[PathBuf]) -> io::Result<Self> {
        Ok(Self {
            workspace: Arc::new(Root::open(workspace)?),
            readable: readable
                .iter()
                .filter_map(|path| Root::open(path).ok().map(Arc::new))
                .collect(),
        })
    }

    /// Where the workspace is, with every link followed.
    pub fn workspace(&self) -> &Path {
        &self.workspace.real
    }

    /// The place that a model means: relative to the workspace, or absolute and in a root.
    pub(super) fn place(&self, text: &str) -> Result<Place, FileFault> {
        let text = text.trim();
        if text.is_empty() {
            return Err(FileFault::Refused("the path is empty".to_owned()));
        }
        if text.contains('\0') {
            return Err(FileFault::Refused("the path holds a NUL".to_owned()));
        }
        let given = Path::new(text);
        let (root, beneath, writable) = if given.is_absolute() {
            if let Some(beneath) = self.workspace.beneath(given) {
                (&self.workspace, beneath, true)
            } else {
                let found = self
                    .readable
                    .iter()
                    .find_map(|root| Some((root, root.beneath(given)?)));
                let (root, beneath) = found.ok_or_else(|| FileFault::Outside(text.to_owned()))?;
                (root, beneath, false)
            }
        } else {
            (&self.workspace, given, true)
        };
        let path: PathBuf = beneath
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        Ok(Place {
            root: Arc::clone(root),
            path,
            writable,
        })
    }
}

impl Place {
    /// As it is told.
    pub(super) fn shown(&self) -> String {
        if self.path.as_os_str().is_empty() {
            return ".".to_owned();
        }
        if self.writable {
            return self.path.display().to_string();
        }
        self.root.path.join(&self.path).display().to_string()
    }

    fn fault(&self, error: Errno) -> FileFault {
        let path = self.shown();
        match error {
            Errno::NOENT => FileFault::Missing(path),
            Errno::XDEV => FileFault::Outside(path),
            Errno::LOOP => FileFault::Refused(format!("{path} is a link, or leads through one")),
            Errno::ISDIR => FileFault::Directory(path),
            Errno::NOTDIR => {
                FileFault::Refused(format!("a part of the path {path} is no directory"))
            }
            Errno::NXIO | Errno::NODEV => FileFault::Special(path),
            other => FileFault::Io {
                path,
                source: other.into(),
            },
        }
    }

    fn io(&self, source: io::Error) -> FileFault {
        match Errno::from_io_error(&source) {
            Some(error) => self.fault(error),
            None => FileFault::Io {
                path: self.shown(),
                source,
            },
        }
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            let opened = openat2(
                &self.root.handle,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            );
            match opened {
                // The kernel asks to try again when something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) if tries < 16 => tries += 1,
                other => return other,
            }
        }
    }

    /// Opens it for reading, without waiting for a pipe, and judges what was opened.
    pub(super) fn open(&self) -> Result<(File, u64), FileFault> {
        let handle = self
            .open_at(&self.path, OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(|error| self.fault(error))?;
        let file = File::from(handle);
        let metadata = file.metadata().map_err(|error| self.io(error))?;
        if metadata.is_dir() {
            return Err(FileFault::Directory(self.shown()));
        }
        if !metadata.is_file() {
            return Err(FileFault::Special(self.shown()));
        }
        Ok((file, metadata.len()))
    }

    /// Names in a directory, directories with a slash, at most so many.
    pub(super) fn names(&self, max: usize) -> Result<Vec<String>, FileFault> {
        let handle = self
            .open_at(&self.path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| self.fault(error))?;
        let entries = rustix::fs::Dir::read_from(handle).map_err(|error| self.fault(error))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let slash = entry.file_type() == FileType::Directory;
                (name != "." && name != "..").then(|| if slash { format!("{name}/") } else { name })
            })
            .take(max)
            .collect();
        names.sort();
        Ok(names)
    }

    /// All of it; `None` if it is not there.
    pub(super) fn bytes(&self) -> Result<Option<Vec<u8>>, FileFault> {
        let (file, size) = match self.open() {
            Ok(open) => open,
            Err(FileFault::Missing(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let too_large = |size| FileFault::TooLarge {
            path: self.shown(),
            size,
            max: CHANGED_MAX,
        };
        if size > CHANGED_MAX {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        file.take(CHANGED_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.io(error))?;
        if bytes.len() as u64 > CHANGED_MAX {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Some(bytes))
    }

    /// Its directory, opened, and its own name there.
    fn parent(&self, make: bool) -> Result<(OwnedFd, PathBuf), FileFault> {
        if !self.writable {
            return Err(FileFault::Refused(format!(
                "{} can be read and not changed: it is not in the workspace",
                self.shown()
            )));
        }
        let last = self.path.components().next_back();
        let Some(Component::Normal(name)) = last else {
            return Err(FileFault::Refused(format!(
                "{} does not name a file",
                self.shown()
            )));
        };
        let above = self.path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let handle = match self.open_at(above, flags) {
            Err(Errno::NOENT) if make => self.make(above)?,
            other => other.map_err(|error| self.fault(error))?,
        };
        Ok((handle, PathBuf::from(name)))
    }

    /// Makes the directories of a path that are not there, one after the other.
    fn make(&self, path: &Path) -> Result<OwnedFd, FileFault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut so_far = PathBuf::new();
        let mut at = self
            .open_at(&so_far, flags)
            .map_err(|error| self.fault(error))?;
        for part in path.components() {
            so_far.push(part);
            at = match (self.open_at(&so_far, flags), part) {
                (Err(Errno::NOENT), Component::Normal(name)) => {
                    match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(self.fault(error)),
                    }
                    self.open_at(&so_far, flags)
                        .map_err(|error| self.fault(error))?
                }
                (other, _) => other.map_err(|error| self.fault(error))?,
            };
        }
        Ok(at)
    }

    /// The mode that a new content gets: that of the file it replaces. What is no regular file is
    /// not replaced.
    fn replaced_mode(&self, parent: &OwnedFd, name: &Path) -> Result<Mode, FileFault> {
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Mode::from_raw_mode(0o666)),
            Err(error) => Err(self.fault(error)),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(Mode::from_raw_mode(stat.st_mode & 0o777)),
                FileType::Symlink => Err(FileFault::Refused(format!(
                    "{} is a link; write to the file that it leads to",
                    self.shown()
                ))),
                FileType::Directory => Err(FileFault::Directory(self.shown())),
                _ => Err(FileFault::Special(self.shown())),
            },
        }
    }

    /// Writes it whole, beside its place and moved there when it is on the disk.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), FileFault> {
        let (parent, name) = self.parent(true)?;
        let mode = self.replaced_mode(&parent, &name)?;
        let draft = format!(".{}.new", uuid::Uuid::new_v4().simple());
        let written = self
            .write_draft(&parent, &draft, bytes, mode)
            .and_then(|()| {
                renameat(&parent, draft.as_str(), &parent, &name).map_err(|error| self.fault(error))
            });
        if written.is_err() {
            let _ = unlinkat(&parent, draft.as_str(), AtFlags::empty());
        }
        written
    }

    fn write_draft(
        &self,
        parent: impl AsFd,
        draft: &str,
        bytes: &[u8],
        mode: Mode,
    ) -> Result<(), FileFault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let handle = rustix::fs::openat(parent, draft, flags | OFlags::CLOEXEC, mode)
            .map_err(|error| self.fault(error))?;
        let mut file = File::from(handle);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| self.io(error))
    }

    /// Whether it could be written as things stand, without touching anything.
    pub(super) fn check_writable(&self) -> Result<(), FileFault> {
        match self.parent(false) {
            Ok((parent, name)) => self.replaced_mode(&parent, &name).map(drop),
            Err(FileFault::Missing(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Removes it: a file, not what a link leads to.
    pub(super) fn remove(&self) -> Result<(), FileFault> {
        let (parent, name) = self.parent(false)?;
        unlinkat(&parent, &name, AtFlags::empty()).map_err(|error| self.fault(error))
    }
}
