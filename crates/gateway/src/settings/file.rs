//! The file on disk: read whole, replaced whole, with the texts before it beside it.
//!
//! A reader finds the old text or the new one and never half of either, whatever happens to the
//! writer. Whoever writes holds a lock on the file itself, so that a command and a gateway do not
//! undo each other's changes. `clawgate.json.bak` is the text before the last write,
//! `clawgate.json.bak.1` the one before that, and so on; to go back is to copy one of them.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Earlier texts that are kept.
const BACKUPS: usize = 5;
/// How long another writer is waited for.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Greatest size of the file, bytes.
pub(crate) const BYTES_MAX: usize = 4 << 20;

/// The file, held for one change.
#[derive(Debug)]
pub(super) struct Held {
    /// Where it really is: a link is followed, and stays one.
    path: PathBuf,
    /// The lock, and the text under it. `None` while there is no file.
    now: Option<(File, String)>,
}

/// The text of a file, `None` when there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match File::open(path) {
        Ok(mut file) => text_of(&mut file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn text_of(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > BYTES_MAX {
        let words = format!("is larger than {BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}

impl Held {
    /// Waits until nobody else changes the file.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        let path = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let began = Instant::now();
        loop {
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Self { path, now: None });
                }
                Err(error) => return Err(error),
            };
            match file.try_lock() {
                Ok(()) => {
                    // Another may have been put in its place while this waited.
                    let here = fs::metadata(&path)
                        .ok()
                        .map(|meta| (meta.dev(), meta.ino()));
                    let held = file.metadata()?;
                    if here == Some((held.dev(), held.ino())) {
                        let text = text_of(&mut file)?;
                        return Ok(Self {
                            path,
                            now: Some((file, text)),
                        });
                    }
                }
                Err(fs::TryLockError::WouldBlock) => {
                    if began.elapsed() > WAIT_MAX {
                        let words = "somebody else is changing it";
                        return Err(io::Error::new(io::ErrorKind::WouldBlock, words));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The text, `None` when there is no file.
    pub(super) fn text(&self) -> Option<&str> {
        self.now.as_ref().map(|(_, text)| text.as_str())
    }

    /// Puts another text in its place and keeps the old one beside it. On disk when this returns.
    pub(super) fn replace(self, text: &str) -> io::Result<()> {
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        if self.now.is_none() && !dir.is_dir() {
            use std::os::unix::fs::DirBuilderExt as _;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
        }
        // Both texts are on disk before anything moves: on a full disk nothing does, however often
        // somebody tries.
        let draft = if let Some((_, old)) = &self.now {
            self.remove_leftovers(dir);
            let kept = self.draft("old", old)?;
            let draft = self.draft("new", text).and_then(|draft| {
                self.keep(&kept)
                    .map(|()| draft.clone())
                    .inspect_err(|_| drop(fs::remove_file(&draft)))
            });
            draft.inspect_err(|_| drop(fs::remove_file(&kept)))?
        } else {
            self.draft("new", text)?
        };
        let placed = if self.now.is_some() {
            fs::rename(&draft, &self.path)
        } else {
            // Nobody could be locked out of a file that was not there: the first one stands.
            match fs::hard_link(&draft, &self.path) {
                Ok(()) => fs::remove_file(&draft),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
                // There are file systems without links.
                Err(_) => fs::rename(&draft, &self.path),
            }
        };
        if placed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        placed?;
        File::open(dir)?.sync_all()
    }

    /// Moves the earlier texts on by one and puts this one in front of them.
    fn keep(&self, draft: &Path) -> io::Result<()> {
        for number in (0..BACKUPS - 1).rev() {
            let moved = fs::rename(self.backup(number), self.backup(number + 1));
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(draft, self.backup(0))
    }

    fn backup(&self, number: usize) -> PathBuf {
        match number {
            0 => self.beside(".bak"),
            number => self.beside(&format!(".bak.{number}")),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// A text on disk under another name, for nobody else to read. One that finds no room leaves
    /// nothing behind.
    fn draft(&self, which: &str, text: &str) -> io::Result<PathBuf> {
        let draft = self.beside(&format!(".{}.{which}.new", std::process::id()));
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .inspect_err(|_| drop(fs::remove_file(&draft)))?;
        Ok(draft)
    }

    /// What writers that were killed left behind.
    fn remove_leftovers(&self, dir: &Path) {
        let mut prefix = self
            .path
            .file_name()
            .map_or_else(OsString::new, OsString::from);
        prefix.push(".");
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(b".new") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn place() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("clawgate-file-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        dir.join("clawgate.json")
    }

    fn write(path: &Path, text: &str) {
        Held::take(path).unwrap().replace(text).unwrap();
    }

    #[test]
    fn earlier_texts_stand_beside_it_and_are_bounded() {
        let path = place();
        for number in 0..9 {
            write(&path, &number.to_string());
        }
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            fs::read_to_string(name).ok()
        };
        assert_eq!(beside("").as_deref(), Some("8"));
        assert_eq!(beside(".bak").as_deref(), Some("7"));
        assert_eq!(beside(".bak.1").as_deref(), Some("6"));
        assert_eq!(beside(".bak.4").as_deref(), Some("3"));
        assert_eq!(beside(".bak.5"), None);
        for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_link_stays_one_and_leftovers_of_the_killed_go() {
        let path = place();
        write(&path, "{}");
        let dir = path.parent().unwrap().to_owned();
        let link = dir.join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::write(dir.join("clawgate.json.1.new"), "half").unwrap();
        write(&link, "{a: 1}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{a: 1}");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert!(!dir.join("clawgate.json.1.new").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn writers_wait_for_each_other() {
        let path = place();
        write(&path, "0");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let held = Held::take(&path).unwrap();
                    let number: u32 = held.text().unwrap().parse().unwrap();
                    held.replace(&(number + 1).to_string()).unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "8");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
