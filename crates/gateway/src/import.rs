//! Bringing the state of an OpenClaw gateway over: jobs, run history, sessions with their conversations,
//! paired devices, the gateway's key and its configuration.
//!
//! The originals are only read. What is read is counted, and each thing either comes or is named
//! with the reason why not. Rows come in one transaction, which is rolled back when the database
//! does not hold exactly what was counted; the two files (key, configuration) follow after it, each
//! moved into its place whole. An import that is cut short leaves the rows as they were, and running
//! it again brings what is missing and nothing twice.

mod conversation;
mod decide;
mod source;

use std::path::{Path, PathBuf};

use clawgate_store::{Present, Store, StoreError};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    clock::now_ms,
    config::redact,
    methods::cron::{House, host_zone},
    scheduler::Defaults,
    state::{StateDir, StateError, random_text, write_private},
};
use decide::{Decided, decide};
use source::Source;

/// What to bring where.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The state directory of OpenClaw. It is only read.
    pub source: PathBuf,
    /// The state directory that it comes into, made if it is not there.
    pub state_dir: PathBuf,
    /// The configuration file that the gateway there reads. It is written only if there is none.
    pub config_path: PathBuf,
    /// Say what would come, and write nothing.
    pub dry_run: bool,
}

/// What was read, what came and what did not. As JSON it has the same members.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportReport {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Where it came from.
    pub source: PathBuf,
    /// Where it came.
    pub target: PathBuf,
    /// A line for each kind of thing.
    pub kinds: Vec<Tally>,
    /// What did not come.
    pub skipped: Vec<Remark>,
    /// What came and is not in every respect what it was there.
    pub remarks: Vec<Remark>,
    /// The configuration that was or would be written, secrets masked; none if none was.
    pub config: Option<Value>,
}

/// Counts of one kind of thing: `read` is `taken` plus `skipped`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// `jobs`, `runs`, `devices`, `keys`, `configuration` (counted in sections), `sessions` or
    /// `entries` (of conversations).
    pub kind: &'static str,
    /// How many stood there.
    pub read: usize,
    /// How many came.
    pub taken: usize,
    /// How many did not.
    pub skipped: usize,
    /// What is to be known of those that came, in a few words.
    pub note: String,
}

/// Something to know about one thing, or about several of a file for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// As in [`Tally::kind`].
    pub kind: &'static str,
    /// Which.
    pub what: String,
    /// How many it stands for.
    pub count: usize,
    /// A sentence without its full stop.
    pub why: String,
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source is not there.
    #[error("{path} is not a directory")]
    NoSource {
        /// The directory.
        path: PathBuf,
    },
    /// The source holds nothing to import.
    #[error("{path} holds none of OpenClaw's files{}",
        if *is_later { " that are read; its database (state/openclaw.sqlite) is that of a later version" } else { "" })]
    NothingThere {
        /// The directory.
        path: PathBuf,
        /// Whether a database of a later version is there.
        is_later: bool,
    },
    /// Source and target are one.
    #[error("{path} is the source and the target")]
    SameDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the source is not what it should be.
    #[error("{}{}: {why}", file.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong.
        why: String,
    },
    /// The target cannot be used, for one because its gateway runs.
    #[error("{0}")]
    State(#[from] StateError),
    /// The database cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The database did not take what was counted; nothing was kept.
    #[error("the database counts {found} {kind} more instead of {wanted}; nothing was kept")]
    Miscounted {
        /// Of what.
        kind: &'static str,
        /// How many should have come.
        wanted: usize,
        /// How many did.
        found: u64,
    },
    /// The runtime cannot be had.
    #[error("the runtime cannot start: {0}")]
    Runtime(std::io::Error),
}

impl ImportError {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(StateError::Held { .. }) => Some(
                "stop the gateway of the target (it would not see the rows), then run this again"
                    .to_owned(),
            ),
            Self::NoSource { .. } | Self::NothingThere { .. } => {
                Some("name OpenClaw's state directory, for example --from ~/.openclaw".to_owned())
            }
            Self::SameDirectory { .. } => Some("name another target with --into".to_owned()),
            Self::Unreadable { .. } => Some(
                "nothing was written; mend the file in a copy of the directory and import that"
                    .to_owned(),
            ),
            Self::State(_) | Self::Store(_) | Self::Miscounted { .. } | Self::Runtime(_) => None,
        }
    }
}

/// Brings the state of an OpenClaw gateway into a state directory whose gateway does not run.
///
/// # Errors
/// [`ImportError`]; the database is then as it was.
pub fn import(options: &ImportOptions) -> Result<ImportReport, ImportError> {
    if is_same(&options.source, &options.state_dir) {
        return Err(ImportError::SameDirectory {
            path: options.source.clone(),
        });
    }
    let source = Source::read(&options.source)?;
    let surroundings = Surroundings {
        house: House {
            default_agent: default_agent(&source),
            zone: host_zone(),
            notices: Defaults::default(),
        },
        config_exists: options.config_path.exists(),
        config_path: options.config_path.clone(),
        key_exists: gateway_key(&options.state_dir).exists(),
        now_ms: now_ms(),
    };
    let decided = if options.dry_run {
        StateDir::refuse_if_held(&options.state_dir)?;
        let database = StateDir::database_in(&options.state_dir);
        let present = if database.exists() {
            clawgate_store::look(&database)?
        } else {
            Present::default()
        };
        let mut decided = decide(&source, &present, &surroundings);
        conversation::bring(None, &mut decided, surroundings.now_ms)?;
        decided
    } else {
        let state = StateDir::hold(&options.state_dir)?;
        state.announce("importing");
        let decided = write_rows(&state.database(), source, surroundings)?;
        write_files(options, &decided)?;
        decided
    };
    Ok(ImportReport {
        dry_run: options.dry_run,
        source: options.source.clone(),
        target: options.state_dir.clone(),
        kinds: decided.kinds,
        skipped: decided.skipped,
        remarks: decided.remarks,
        config: decided.config.as_ref().map(redact),
    })
}

/// What a decision depends on besides the source and the database.
struct Surroundings {
    house: House,
    config_path: PathBuf,
    config_exists: bool,
    key_exists: bool,
    now_ms: i64,
}

/// Writes every row in one transaction, and lets it stand only if the counts agree.
fn write_rows(
    database: &Path,
    source: Source,
    surroundings: Surroundings,
) -> Result<Decided, ImportError> {
    let store = Store::open(database)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(ImportError::Runtime)?;
    runtime.block_on(store.write("importing", move |tx| {
        let before = tx.read().row_counts()?;
        let mut decided = decide(&source, &tx.read().present()?, &surroundings);
        for job in &decided.jobs {
            let id = job.keep.plan.id.as_str();
            tx.keep_cron_job(&job.keep)?;
            if let Some(last) = &job.last_run {
                tx.import_last_run(id, last)?;
            }
            if job.alerted_at_ms.is_some() {
                tx.set_alert(id, job.alerted_at_ms, false)?;
            }
        }
        for run in &decided.runs {
            tx.import_run(run)?;
        }
        for device in &decided.devices {
            let mut device = device.clone();
            for token in &mut device.tokens {
                token.serial = random_text(24);
            }
            tx.keep_device(&device)?;
            let roles: Vec<&str> = device.approved.iter().map(|a| a.role.as_str()).collect();
            let detail = json!({"deviceId": device.device_id, "roles": roles,
                "scopes": device.all_scopes()});
            tx.audit(
                "device.import",
                "import",
                &detail.to_string(),
                surroundings.now_ms,
            )?;
        }
        conversation::bring(Some(tx), &mut decided, surroundings.now_ms)?;
        let after = tx.read().row_counts()?;
        for (kind, wanted, found) in [
            (
                "jobs",
                decided.jobs.len(),
                after.jobs.saturating_sub(before.jobs),
            ),
            (
                "runs",
                decided.runs.len(),
                after.runs.saturating_sub(before.runs),
            ),
            (
                "devices",
                decided.devices.len(),
                after.devices.saturating_sub(before.devices),
            ),
            (
                conversation::SESSIONS,
                decided.sessions.len(),
                after.sessions.saturating_sub(before.sessions),
            ),
            (
                conversation::ENTRIES,
                decided.entries,
                after.entries.saturating_sub(before.entries),
            ),
        ] {
            if u64::try_from(wanted) != Ok(found) {
                return Err(ImportError::Miscounted {
                    kind,
                    wanted,
                    found,
                });
            }
        }
        Ok(decided)
    }))
}

/// The files that are not there yet.
fn write_files(options: &ImportOptions, decided: &Decided) -> Result<(), ImportError> {
    if let Some(seed) = &decided.key {
        let path = gateway_key(&options.state_dir);
        StateDir::make_private_dir(path.parent().unwrap_or(&options.state_dir))?;
        let text = Zeroizing::new(format!("{}\n", clawgate_core::proof::hex(&**seed)));
        write_private(&path, &text)?;
    }
    if let Some(config) = &decided.config {
        let text = serde_json::to_string_pretty(config).expect("a JSON value always prints");
        write_private(&options.config_path, &format!("{text}\n"))?;
    }
    Ok(())
}

fn gateway_key(state_dir: &Path) -> PathBuf {
    state_dir.join("identity").join("gateway.key")
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// The agent whose jobs may run in the main session: the one marked so, else the first.
fn default_agent(source: &Source) -> String {
    let agents = source
        .config
        .as_ref()
        .and_then(|(_, config)| config.get("agents")?.get("list")?.as_array());
    let id = |agent: &Value| Some(agent.get("id")?.as_str()?.to_owned());
    agents
        .and_then(|agents| {
            agents
                .iter()
                .find(|agent| agent.get("default") == Some(&Value::Bool(true)))
                .or(agents.first())
                .and_then(id)
        })
        .unwrap_or_else(|| "main".to_owned())
}
