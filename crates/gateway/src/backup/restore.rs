//! Bringing a backup back.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Asset, BackupError, BackupOptions, Manifest, Scratch, Skipped, archive, backup, examined,
    io_error, real,
};
use crate::{clock::now_ms, state::StateDir};

/// What to bring where.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The archive.
    pub archive: PathBuf,
    /// The state directory that it becomes.
    pub state_dir: PathBuf,
    /// Where the configuration goes that lay outside of its state directory. Without a place of its
    /// own it goes into the state directory.
    pub config_path: Option<PathBuf>,
    /// Replace what is in the state directory, once that is in a backup of its own.
    pub force: bool,
    /// Verify, say what would be done, and write nothing that stays.
    pub dry_run: bool,
}

/// A backup that was brought back, or would be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Always true: everything else is an error.
    pub ok: bool,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The archive.
    pub archive_path: PathBuf,
    /// When it was made.
    pub created_at: String,
    /// By which version.
    pub runtime_version: String,
    /// The state directory that is there now.
    pub state_dir: PathBuf,
    /// The configuration file, if the archive has one.
    pub config_path: Option<PathBuf>,
    /// Files that were written.
    pub files: usize,
    /// Version of the database's schema, where there is a database.
    pub schema_version: Option<i64>,
    /// The backup of what was there before; a directory, where that was in no state to be backed up.
    pub replaced: Option<PathBuf>,
    /// What stays in the archive.
    pub skipped: Vec<Skipped>,
}

/// Brings a backup back into a directory that is empty or not there, or with `force` in place of
/// another state.
///
/// # Errors
/// [`BackupError`]; the target is then as it was.
pub fn restore(options: &RestoreOptions) -> Result<Restored, BackupError> {
    let target = real(&options.state_dir)?;
    StateDir::refuse_if_held(&target)?;
    let holds_something = holds_something(&target)?;
    if holds_something && !options.force && !options.dry_run {
        return Err(BackupError::NotEmpty { path: target });
    }
    let parent = target.parent().unwrap_or(Path::new("/"));
    if !options.dry_run && !parent.is_dir() {
        StateDir::make_private_dir(parent)?;
    }
    let beside = if options.dry_run {
        std::env::temp_dir()
    } else {
        parent.to_owned()
    };
    let scratch = Scratch::new(&beside)?;
    let mut staged = Staged::new(scratch.path().join("state"))?;
    let contents = archive::read(&options.archive, |manifest, entry| {
        staged.take(manifest, options, entry)
    })?;
    let schema_version = examined(
        &options.archive,
        &contents,
        &StateDir::database_in(&staged.root),
    )?;
    let manifest = contents.manifest;
    if holds_something && manifest.database.is_none() {
        return Err(BackupError::NotABackup {
            path: options.archive.clone(),
            why: "it holds no database, and would replace a state that has one".to_owned(),
        });
    }
    let mut restored = Restored {
        ok: true,
        dry_run: options.dry_run,
        archive_path: options.archive.clone(),
        created_at: manifest.created_at.clone(),
        runtime_version: manifest.runtime_version.clone(),
        config_path: staged.config_place(&manifest, options, &target),
        state_dir: target.clone(),
        files: staged.files,
        schema_version,
        replaced: None,
        skipped: stays(&manifest.assets),
    };
    if options.dry_run {
        return Ok(restored);
    }
    if let (Some(_), Some(place)) = (&staged.outside, &options.config_path)
        && place.symlink_metadata().is_ok()
        && !options.force
    {
        return Err(BackupError::Exists {
            path: place.clone(),
        });
    }
    staged.sync()?;
    // Held until the end: no gateway starts on what is about to be replaced.
    let held = if target.is_dir() {
        let held = StateDir::hold(&target)?;
        held.announce("restoring");
        Some(held)
    } else {
        None
    };
    let mut is_kept = false;
    if holds_something {
        match saved(options, &target, parent) {
            Ok(archive) => restored.replaced = Some(archive),
            // A damaged database is why somebody restores one.
            Err(BackupError::Store(_)) => is_kept = true,
            Err(BackupError::Damaged { path, .. }) => {
                let _ = fs::remove_file(path);
                is_kept = true;
            }
            Err(error) => return Err(error),
        }
    }
    put_in_place(&staged.root, &target, held.is_some())?;
    if is_kept {
        match kept(options, &staged.root, &target) {
            Ok(place) => restored.replaced = Some(place),
            Err(error) => {
                // It is all that there is of the old state, and the doctor names it.
                std::mem::forget(scratch);
                return Err(error);
            }
        }
    }
    if let (Some(config), Some(place)) = (&staged.outside, &options.config_path) {
        fs::rename(config, place)
            .or_else(|_| fs::copy(config, place).map(drop))
            .map_err(io_error("writing", place))?;
    }
    // What was there lies where the new state was staged now. Its log goes on.
    let old = match &restored.replaced {
        Some(place) if is_kept => place,
        _ => &staged.root,
    };
    let logs = old.join("logs");
    if held.is_some() && logs.is_dir() {
        let _ = fs::rename(logs, target.join("logs"));
    }
    fs::File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("writing", parent))?;
    Ok(restored)
}

/// Whether a directory holds more than the lock of a gateway that was refused.
fn holds_something(path: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(entries
            .flatten()
            .any(|entry| entry.file_name() != "clawgate.lock")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("listing", path)(error)),
    }
}

/// A backup of what is about to be replaced, beside it.
fn saved(options: &RestoreOptions, target: &Path, parent: &Path) -> Result<PathBuf, BackupError> {
    let config = options.config_path.clone();
    let report = backup(&BackupOptions {
        state_dir: target.to_owned(),
        config_path: config.unwrap_or_else(|| target.join("clawgate.json")),
        output: parent.to_owned(),
        only_config: false,
        include_workspace: true,
        dry_run: false,
        verify: true,
        home: None,
    })?;
    Ok(report.archive_path)
}

/// Keeps what was replaced as it is, with its configuration, beside the new state.
fn kept(options: &RestoreOptions, old: &Path, target: &Path) -> Result<PathBuf, BackupError> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!("-replaced-{}", now_ms()));
    let place = target.with_file_name(name);
    fs::rename(old, &place).map_err(io_error("keeping", &place))?;
    let config = place.join("clawgate.json");
    if let Some(outside) = &options.config_path
        && outside.is_file()
        && !config.exists()
    {
        fs::copy(outside, &config).map_err(io_error("keeping", &config))?;
    }
    Ok(place)
}

/// Puts a directory in the place of another, or where nothing is.
fn put_in_place(staged: &Path, target: &Path, exchange: bool) -> Result<(), BackupError> {
    let cwd = rustix::fs::CWD;
    let flags = if exchange {
        rustix::fs::RenameFlags::EXCHANGE
    } else {
        rustix::fs::RenameFlags::NOREPLACE
    };
    let moved = match rustix::fs::renameat_with(cwd, staged, cwd, target, flags) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            by_turns(staged, target, exchange)
        }
        other => other.map_err(io::Error::from),
    };
    moved.map_err(io_error("replacing", target))
}

/// The same where the file system cannot do it at once.
fn by_turns(staged: &Path, target: &Path, exchange: bool) -> io::Result<()> {
    if !exchange {
        return fs::rename(staged, target);
    }
    let old = staged.with_file_name("old");
    fs::rename(target, &old)?;
    if let Err(error) = fs::rename(staged, target) {
        fs::rename(&old, target)?;
        return Err(error);
    }
    fs::rename(old, staged)
}

/// Workspaces that lay elsewhere: their places are not this directory's.
fn stays(assets: &[Asset]) -> Vec<Skipped> {
    assets
        .iter()
        .filter(|asset| asset.kind == "workspace")
        .map(|asset| Skipped {
            kind: asset.kind.clone(),
            source_path: asset.source_path.clone(),
            display_path: asset.display_path.clone(),
            reason: "outside-the-state-directory".to_owned(),
            covered_by: None,
        })
        .collect()
}

/// The state as it will be, beside its place.
struct Staged {
    root: PathBuf,
    /// The configuration file that has a place of its own.
    outside: Option<PathBuf>,
    /// The configuration file that came from elsewhere and lies in the directory now.
    inside: Option<PathBuf>,
    directories: BTreeSet<PathBuf>,
    files: usize,
}

impl Staged {
    fn new(root: PathBuf) -> Result<Self, BackupError> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&root)
            .map_err(io_error("making", &root))?;
        Ok(Self {
            directories: [root.clone()].into(),
            root,
            outside: None,
            inside: None,
            files: 0,
        })
    }

    fn take(
        &mut self,
        manifest: &Manifest,
        options: &RestoreOptions,
        entry: &mut archive::Entry<'_>,
    ) -> io::Result<()> {
        let mut place = None;
        for asset in &manifest.assets {
            let below = entry.path.strip_prefix(asset.archive_path.as_str());
            match (asset.kind.as_str(), below) {
                ("state", Some(below)) if below.starts_with('/') => {
                    place = Some(self.root.join(below.trim_start_matches('/')));
                }
                ("config", Some("")) => place = Some(self.config(options)),
                _ => {}
            }
        }
        let Some(place) = place else {
            return io::copy(entry.bytes, &mut io::sink()).map(drop);
        };
        let parent = place.parent().unwrap_or(&self.root);
        if !self.directories.contains(parent) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
            let made = parent.ancestors().take_while(|path| *path != self.root);
            self.directories.extend(made.map(Path::to_owned));
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode((entry.mode & 0o700) | 0o600)
            .open(&place)?;
        io::copy(entry.bytes, &mut file)?;
        self.files += 1;
        file.sync_all()
    }

    /// Where a configuration goes that did not lie in the state directory.
    fn config(&mut self, options: &RestoreOptions) -> PathBuf {
        if options.config_path.is_some() {
            let place = self.root.with_file_name("config");
            self.outside = Some(place.clone());
            return place;
        }
        // The one that the gateway read has the name that the next one will read.
        let place = self.root.join("clawgate.json");
        if place.exists() {
            let _ = fs::rename(&place, self.root.join("clawgate.json.unused"));
        }
        self.inside = Some(place.clone());
        place
    }

    /// Where the configuration is afterwards.
    fn config_place(
        &self,
        manifest: &Manifest,
        options: &RestoreOptions,
        target: &Path,
    ) -> Option<PathBuf> {
        if self.outside.is_some() {
            return options.config_path.clone();
        }
        if self.inside.is_some() {
            return Some(target.join("clawgate.json"));
        }
        let below = manifest
            .config_path
            .strip_prefix(&manifest.state_dir)
            .ok()?;
        self.root.join(below).exists().then(|| target.join(below))
    }

    /// The names of the files; each one's bytes are synced already.
    fn sync(&self) -> Result<(), BackupError> {
        for directory in &self.directories {
            fs::File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(io_error("writing", directory))?;
        }
        Ok(())
    }
}
