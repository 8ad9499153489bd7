//! Backups of a state directory: made while its gateway runs or not, verified, brought back.
//!
//! A backup is one archive (`archive`): a manifest, the database as one snapshot, the other files,
//! and a list of checksums at its end. The database is copied first, so that every key and file
//! that a row relies on was there before the row and is in the archive. Logs, locks and drafts do
//! not belong to a state and stay out.
//!
//! **Invariants:** an archive is 0600 and moved to its place when whole; what is restored was
//! verified in full beside its place and replaces a directory in one rename.

mod archive;
mod restore;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use clawgate_store::StoreError;
use serde::{Deserialize, Serialize};

pub use restore::{RestoreOptions, Restored, restore};

use crate::{
    VERSION,
    clock::now_ms,
    state::{StateDir, StateError},
};
use archive::{CHECKSUMS, Contents, MANIFEST, Writer};

/// Version of the layout of an archive.
const SCHEMA_VERSION: u32 = 1;
/// Names directly in a state directory that belong to the running of a gateway, not to its state.
const NOT_STATE: &[&str] = &["logs", "clawgate.lock"];
/// Ends of names of files that are about to become something else.
const DRAFTS: &[&str] = &[".new", ".tmp", ".part", ".sock"];

/// How the names of directories begin that hold what is in between.
const SCRATCH: &str = ".clawgate.";

/// What backups and restores that were cut short left in a directory.
pub(crate) fn left_over(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(SCRATCH));
            id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        })
        .map(|entry| entry.path())
        .collect()
}

/// What to put into an archive, and where it goes.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the command"
)]
pub struct BackupOptions {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The configuration file; it need not be in the state directory.
    pub config_path: PathBuf,
    /// A file that does not exist yet, or a directory to make one in.
    pub output: PathBuf,
    /// The configuration file alone.
    pub only_config: bool,
    /// Whether the agents' workspaces come along.
    pub include_workspace: bool,
    /// Say what would be done, and write nothing.
    pub dry_run: bool,
    /// Verify the archive once it is written.
    pub verify: bool,
    /// What `~` stands for in the report.
    pub home: Option<PathBuf>,
}

/// A backup, made or planned. As JSON it has the members of the original's report and `files` and
/// `bytes` beside them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the members of the original's report"
)]
pub struct BackupReport {
    /// RFC 3339 with milliseconds.
    pub created_at: String,
    /// The one directory at the top of the archive.
    pub archive_root: String,
    /// The archive.
    pub archive_path: PathBuf,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Whether workspaces came along.
    pub include_workspace: bool,
    /// Whether it is the configuration alone.
    pub only_config: bool,
    /// Whether the archive was read back and found good.
    pub verified: bool,
    /// What is in it.
    pub assets: Vec<Asset>,
    /// What is not, and why.
    pub skipped: Vec<Skipped>,
    /// Files in it, besides the manifest and the checksums.
    pub files: usize,
    /// Size of the archive.
    pub bytes: u64,
}

/// A file or a directory that is in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asset {
    /// `state`, `config` or `workspace`.
    pub kind: String,
    /// Where it lay.
    pub source_path: PathBuf,
    /// The same with `~` for the home directory.
    pub display_path: String,
    /// Where it lies in the archive.
    pub archive_path: String,
}

/// Something that is not in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// `workspace`, `file` or `directory`.
    pub kind: String,
    /// Where it lies.
    pub source_path: PathBuf,
    /// The same with `~` for the home directory.
    pub display_path: String,
    /// `covered`, `not-state`, `not-wanted`, `not-a-file`, `name-is-no-text` or `gone`.
    pub reason: String,
    /// The asset that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<String>,
}

/// What stands at the beginning of an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    created_at: String,
    archive_root: String,
    runtime_version: String,
    platform: String,
    /// The database, where there is one.
    database: Option<String>,
    state_dir: PathBuf,
    config_path: PathBuf,
    assets: Vec<Asset>,
    skipped: Vec<Skipped>,
}

/// An archive that was read in full and is good.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Always true: everything else is an error.
    pub ok: bool,
    /// The archive.
    pub archive_path: PathBuf,
    /// The one directory at its top.
    pub archive_root: String,
    /// When it was made.
    pub created_at: String,
    /// By which version.
    pub runtime_version: String,
    /// Files and directories that it was made of.
    pub asset_count: usize,
    /// Entries in it.
    pub entry_count: usize,
    /// Version of the database's schema, where there is a database.
    pub schema_version: Option<i64>,
}

/// An archive of a directory, as its beginning tells.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The archive.
    pub archive_path: PathBuf,
    /// When it was made.
    pub created_at: String,
    /// By which version.
    pub runtime_version: String,
    /// Of which state directory.
    pub state_dir: PathBuf,
    /// Whether it holds a database.
    pub has_database: bool,
    /// Its size.
    pub bytes: u64,
}

/// Why there is no backup, or why one is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or directory refuses.
    #[error("{doing} {path}: {source}")]
    Io {
        /// The act.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The state directory is not there, or a gateway holds the one that is to be replaced.
    #[error("{0}")]
    State(#[from] StateError),
    /// The database cannot be copied or the copy is not good.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// There is nothing to make a backup of.
    #[error("{path} is not there")]
    NothingThere {
        /// What is missing.
        path: PathBuf,
    },
    /// The archive's place is taken.
    #[error("{path} exists; nothing is overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The archive would contain itself.
    #[error("{path} lies in what the backup is made of")]
    InsideSource {
        /// The file.
        path: PathBuf,
    },
    /// The file is no backup, or not one that this program made.
    #[error("{path} is not a backup: {why}")]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Something in the archive is not what it was when it was made.
    #[error("{path} is damaged or was changed: {why}; nothing of it was used")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The target holds something.
    #[error("{path} holds a state already")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
}

impl BackupError {
    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "BACKUP_IO",
            Self::State(StateError::Held { .. }) => "TARGET_IN_USE",
            Self::State(_) => "BACKUP_STATE",
            Self::Store(_) => "BACKUP_DATABASE",
            Self::NothingThere { .. } => "NOTHING_THERE",
            Self::Exists { .. } => "BACKUP_EXISTS",
            Self::InsideSource { .. } => "BACKUP_INSIDE_SOURCE",
            Self::NotABackup { .. } => "NOT_A_BACKUP",
            Self::Damaged { .. } => "BACKUP_DAMAGED",
            Self::NotEmpty { .. } => "TARGET_NOT_EMPTY",
        }
    }

    /// The next thing to try.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::State(StateError::Held { .. }) => {
                "stop the gateway of the target, then run this again"
            }
            Self::NothingThere { .. } => "name the state directory with --state-dir",
            Self::Exists { .. } | Self::InsideSource { .. } => "name another file with --output",
            Self::NotEmpty { .. } => {
                "name another directory with --into, or pass --force: what is there is put into a backup first"
            }
            Self::Damaged { .. } | Self::NotABackup { .. } => "clawgate backup list",
            Self::Store(StoreError::TooNew { .. }) => {
                "restore it with the version of clawgate that made it, or a newer one"
            }
            Self::Io { .. } | Self::State(_) | Self::Store(_) => return None,
        })
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// A private directory for what is in between, gone with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(beside: &Path) -> Result<Self, BackupError> {
        let name = format!("{SCRATCH}{}", uuid::Uuid::new_v4().simple());
        let path = beside.join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(io_error("making", &path))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What goes into an archive, in its order.
struct Plan {
    manifest: Manifest,
    database: Option<PathBuf>,
    files: Vec<(PathBuf, String)>,
}

/// Makes a backup, of a running gateway too.
///
/// # Errors
/// [`BackupError`]; there is no archive then.
pub fn backup(options: &BackupOptions) -> Result<BackupReport, BackupError> {
    let created = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
    let created_at = format!("{created:.3}");
    let archive_root = format!("{}-clawgate-backup", created_at.replace(':', "-"));
    let plan = plan(options, &created_at, &archive_root)?;
    let archive_path = place(options, &archive_root, &plan)?;
    let mut report = BackupReport {
        created_at,
        archive_root,
        archive_path,
        dry_run: options.dry_run,
        include_workspace: options.include_workspace && !options.only_config,
        only_config: options.only_config,
        verified: false,
        assets: plan.manifest.assets.clone(),
        skipped: plan.manifest.skipped.clone(),
        files: plan.files.len() + usize::from(plan.database.is_some()),
        bytes: 0,
    };
    if options.dry_run {
        return Ok(report);
    }
    let gone = write(&report.archive_path, &plan)?;
    report.files -= gone.len();
    report.skipped.extend(
        gone.iter()
            .map(|path| skipped("file", path, "gone", None, options)),
    );
    report.bytes = fs::metadata(&report.archive_path)
        .map_err(io_error("reading", &report.archive_path))?
        .len();
    if options.verify {
        verify(&report.archive_path)?;
        report.verified = true;
    }
    Ok(report)
}

/// Where the archive goes: a file that is not there, outside of what goes into it.
fn place(options: &BackupOptions, root: &str, plan: &Plan) -> Result<PathBuf, BackupError> {
    let output =
        std::path::absolute(&options.output).map_err(io_error("finding", &options.output))?;
    let path = if output.is_dir() {
        output.join(format!("{root}.tar.gz"))
    } else {
        output
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent = parent.canonicalize().map_err(io_error("finding", parent))?;
    let within = |asset: &&Asset| asset.kind != "config" && parent.starts_with(&asset.source_path);
    if plan.manifest.assets.iter().any(|asset| within(&asset)) {
        return Err(BackupError::InsideSource { path });
    }
    if path.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path });
    }
    Ok(path)
}

fn plan(options: &BackupOptions, created_at: &str, root: &str) -> Result<Plan, BackupError> {
    let asset = |kind: &str, path: &Path| Asset {
        kind: kind.to_owned(),
        source_path: path.to_owned(),
        display_path: displayed(path, options),
        archive_path: archived(root, path),
    };
    let config = real(&options.config_path)?;
    let config_is_there = config.is_file();
    let mut plan = Plan {
        manifest: Manifest {
            schema_version: SCHEMA_VERSION,
            created_at: created_at.to_owned(),
            archive_root: root.to_owned(),
            runtime_version: VERSION.to_owned(),
            platform: std::env::consts::OS.to_owned(),
            database: None,
            state_dir: options.state_dir.clone(),
            config_path: config.clone(),
            assets: Vec::new(),
            skipped: Vec::new(),
        },
        database: None,
        files: Vec::new(),
    };
    if options.only_config {
        if !config_is_there {
            return Err(BackupError::NothingThere { path: config });
        }
        plan.manifest.assets.push(asset("config", &config));
        plan.files.push((config.clone(), archived(root, &config)));
        return Ok(plan);
    }
    if !options.state_dir.is_dir() {
        return Err(BackupError::NothingThere {
            path: options.state_dir.clone(),
        });
    }
    let state = real(&options.state_dir)?;
    plan.manifest.state_dir.clone_from(&state);
    plan.manifest.assets.push(asset("state", &state));
    let database = StateDir::database_in(&state);
    if database.is_file() {
        plan.manifest.database = Some(archived(root, &database));
        plan.database = Some(database);
    }
    collect(&state, &state, root, options, &mut plan)?;
    if config_is_there && !config.starts_with(&state) {
        plan.manifest.assets.push(asset("config", &config));
        plan.files.push((config.clone(), archived(root, &config)));
    }
    for workspace in workspaces_elsewhere(&config) {
        let Ok(workspace) = real(&workspace) else {
            continue;
        };
        if !workspace.is_dir() || workspace.starts_with(&state) {
            continue;
        }
        if options.include_workspace {
            plan.manifest.assets.push(asset("workspace", &workspace));
            collect(&workspace, &workspace, root, options, &mut plan)?;
        } else {
            let why = skipped("workspace", &workspace, "not-wanted", None, options);
            plan.manifest.skipped.push(why);
        }
    }
    Ok(plan)
}

/// Every file below a directory that belongs into an archive.
fn collect(
    base: &Path,
    directory: &Path,
    root: &str,
    options: &BackupOptions,
    plan: &mut Plan,
) -> Result<(), BackupError> {
    let at_top = base == directory;
    let mut entries: Vec<fs::DirEntry> = fs::read_dir(directory)
        .and_then(Iterator::collect)
        .map_err(io_error("listing", directory))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let of = if kind.is_dir() { "directory" } else { "file" };
        let mut skip = |of, why, by| {
            plan.manifest
                .skipped
                .push(skipped(of, &path, why, by, options));
        };
        let Some(name) = name.to_str() else {
            skip(of, "name-is-no-text", None);
            continue;
        };
        if at_top && base == plan.manifest.state_dir {
            if name.starts_with("clawgate.sqlite") || DRAFTS.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            if NOT_STATE.contains(&name) {
                skip(of, "not-state", None);
                continue;
            }
            if kind.is_dir() && (name == "workspace" || name.starts_with("workspace-")) {
                if !options.include_workspace {
                    skip("workspace", "not-wanted", None);
                    continue;
                }
                skip("workspace", "covered", Some(displayed(base, options)));
            }
        }
        if kind.is_dir() {
            collect(base, &path, root, options, plan)?;
        } else if kind.is_file() {
            if !DRAFTS.iter().any(|end| name.ends_with(end)) {
                let place = archived(root, &path);
                plan.files.push((path, place));
            }
        } else {
            skip(of, "not-a-file", None);
        }
    }
    Ok(())
}

/// Workspaces that the configuration names.
fn workspaces_elsewhere(config: &Path) -> Vec<PathBuf> {
    let Ok(text) = fs::read_to_string(config) else {
        return Vec::new();
    };
    let Ok(config) = crate::config::parse(&text) else {
        return Vec::new();
    };
    let agents = config.get("agents");
    let of_each = agents
        .and_then(|agents| agents.get("list")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(|agent| agent.get("workspace")?.as_str());
    let of_all = agents.and_then(|agents| agents.get("defaults")?.get("workspace")?.as_str());
    of_all
        .into_iter()
        .chain(of_each)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .collect()
}

/// The path without links and detours; the last part need not exist.
fn real(path: &Path) -> Result<PathBuf, BackupError> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let absolute = std::path::absolute(path).map_err(io_error("finding", path))?;
    let parent = absolute
        .parent()
        .and_then(|parent| parent.canonicalize().ok());
    Ok(match (parent, absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => absolute,
    })
}

fn archived(root: &str, path: &Path) -> String {
    let parts: Vec<&str> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    format!("{root}/payload/posix/{}", parts.join("/"))
}

fn displayed(path: &Path, options: &BackupOptions) -> String {
    let home = options.home.as_deref();
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

fn skipped(
    kind: &str,
    path: &Path,
    reason: &str,
    covered_by: Option<String>,
    options: &BackupOptions,
) -> Skipped {
    Skipped {
        kind: kind.to_owned(),
        source_path: path.to_owned(),
        display_path: displayed(path, options),
        reason: reason.to_owned(),
        covered_by,
    }
}

/// Writes the archive beside its place and moves it there. Gives the files that went away before
/// they were read.
fn write(path: &Path, plan: &Plan) -> Result<Vec<PathBuf>, BackupError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let scratch = Scratch::new(parent)?;
    let draft = scratch.path().join("archive");
    let file = private_file(&draft)?;
    let writing = || io_error("writing", path);
    let mut writer = Writer::new(&file);
    let manifest = serde_json::to_vec_pretty(&plan.manifest).expect("a manifest is plain data");
    let root = &plan.manifest.archive_root;
    writer
        .text(&format!("{root}/{MANIFEST}"), &manifest)
        .map_err(writing())?;
    if let (Some(database), Some(place)) = (&plan.database, &plan.manifest.database) {
        let copy = scratch.path().join("database");
        drop(private_file(&copy)?);
        clawgate_store::copy(database, &copy)?;
        writer.file(place, &copy).map_err(writing())?;
        fs::remove_file(&copy).map_err(io_error("removing", &copy))?;
    }
    let mut gone = Vec::new();
    for (source, place) in &plan.files {
        match writer.file(place, source) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(source.clone()),
            Err(error) => return Err(io_error("reading", source)(error)),
        }
    }
    writer
        .finish(&format!("{root}/{CHECKSUMS}"))
        .and_then(|()| file.sync_all())
        .map_err(writing())?;
    // Never over something that came meanwhile.
    fs::hard_link(&draft, path)
        .or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::rename(&draft, path),
        })
        .and_then(|()| fs::File::open(parent)?.sync_all())
        .map_err(writing())?;
    Ok(gone)
}

fn private_file(path: &Path) -> Result<fs::File, BackupError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io_error("making", path))
}

/// Reads an archive in full: names, checksums, and the database in it as a database.
///
/// # Errors
/// [`BackupError`] when it is not good.
pub fn verify(path: &Path) -> Result<Verified, BackupError> {
    let scratch = Scratch::new(&std::env::temp_dir())?;
    let copy = scratch.path().join("clawgate.sqlite");
    let contents = archive::read(path, |manifest, entry| {
        if Some(entry.path) == manifest.database.as_deref() {
            let file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&copy);
            io::copy(entry.bytes, &mut file?).map(drop)
        } else {
            io::copy(entry.bytes, &mut io::sink()).map(drop)
        }
    })?;
    let schema_version = examined(path, &contents, &copy)?;
    Ok(Verified {
        ok: true,
        archive_path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        archive_root: contents.manifest.archive_root,
        created_at: contents.manifest.created_at,
        runtime_version: contents.manifest.runtime_version,
        asset_count: contents.manifest.assets.len(),
        entry_count: contents.entries,
        schema_version,
    })
}

/// The schema of an archive's database, which must be whole and known.
fn examined(
    archive: &Path,
    contents: &Contents,
    database: &Path,
) -> Result<Option<i64>, BackupError> {
    if contents.manifest.database.is_none() {
        return Ok(None);
    }
    let condition = clawgate_store::examine(database, true)?;
    if let Some(problem) = condition.problems.first() {
        return Err(BackupError::Damaged {
            path: archive.to_owned(),
            why: format!("its database is not whole: {problem}"),
        });
    }
    if condition.schema > condition.known_schema {
        return Err(BackupError::Store(StoreError::TooNew {
            found: condition.schema,
            known: condition.known_schema,
        }));
    }
    Ok(Some(condition.schema))
}

/// The backups of a directory, the newest first. Only their beginnings are read.
///
/// # Errors
/// [`BackupError::Io`] when the directory cannot be listed.
pub fn list(directory: &Path) -> Result<Vec<Listed>, BackupError> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(io_error("listing", directory))? {
        let Ok(entry) = entry else { continue };
        let path = entry.path();
        let is_archive = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.ends_with(".tar.gz"));
        if !is_archive || !path.is_file() {
            continue;
        }
        let Ok(manifest) = archive::beginning(&path) else {
            continue;
        };
        let bytes = entry.metadata().map_or(0, |meta| meta.len());
        found.insert(
            (manifest.created_at.clone(), path.clone()),
            Listed {
                archive_path: path,
                created_at: manifest.created_at,
                runtime_version: manifest.runtime_version,
                state_dir: manifest.state_dir,
                has_database: manifest.database.is_some(),
                bytes,
            },
        );
    }
    Ok(found.into_values().rev().collect())
}
