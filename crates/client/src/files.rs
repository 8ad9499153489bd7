//! Files that hold secrets: read whole, written whole, never half.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

/// Whether a file that exists already is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Replace,
    Keep,
}

/// The file's text, `None` if there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file of mode 0600 in a folder of mode 0700: temporary file, sync, rename, sync of the
/// folder. With [`Existing::Keep`] a file that somebody else made meanwhile stays, and `false` is
/// returned.
pub(crate) fn write(path: &Path, text: &str, existing: Existing) -> io::Result<bool> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    create_folder(folder)?;
    let temporary = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    let written = write_new(&temporary, text).and_then(|()| match existing {
        Existing::Replace => fs::rename(&temporary, path).map(|()| true),
        Existing::Keep => match fs::hard_link(&temporary, path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
    });
    if existing == Existing::Keep || written.is_err() {
        // Best effort: a left-over temporary file holds nothing that the folder does not hold.
        drop(fs::remove_file(&temporary));
    }
    let written = written?;
    sync_folder(folder)?;
    Ok(written)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
