//! What of an installation is open to others, and to whom: its configuration, its files, and what
//! its database holds. It reads, and asks nobody.
//!
//! The words of a check's id are the original's where it has the same check, so that scripts that
//! look for one find it.

mod exposure;
mod files;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::Serialize;

use crate::{
    clock::now_ms,
    config::{self, Config, Environment, Overrides, parse},
    state::StateDir,
};

pub(crate) use files::loose_files;

/// What to look at.
#[derive(Clone, Debug)]
pub struct ExamineOptions {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The configuration file.
    pub config_path: PathBuf,
    /// The password that the gateway's environment holds.
    pub environment_password: Option<SecretString>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody else may be the owner, or it does not work.
    Critical,
    /// Worth a look.
    Warn,
    /// To know.
    Info,
}

/// Something that was found. As JSON it has the members of the original's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// A stable word.
    pub check_id: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What, in a few words.
    pub title: String,
    /// What exactly, and why it matters.
    pub detail: String,
    /// What to type or to write where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remediation: Option<String>,
    /// What would mend it, where that is safe to do without asking further.
    #[serde(skip)]
    pub mend: Option<Mend>,
}

/// A change that mends a finding and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Close a file or directory to others.
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode afterwards.
        mode: u32,
    },
    /// Remove a file that nothing needs.
    Remove {
        /// Which.
        path: PathBuf,
    },
}

impl Mend {
    /// What it does, in words.
    pub fn words(&self) -> String {
        match self {
            Self::Mode { path, mode } => format!("chmod {mode:o} {}", path.display()),
            Self::Remove { path } => format!("rm {}", path.display()),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// The system's.
    pub fn apply(&self) -> io::Result<()> {
        match self {
            Self::Mode { path, mode } => {
                // Never through a link that came meanwhile.
                if fs::symlink_metadata(path)?.is_symlink() {
                    return Err(io::Error::other("it is a link"));
                }
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Self::Remove { path } => fs::remove_file(path),
        }
    }
}

impl Finding {
    pub(crate) fn new(
        check_id: &'static str,
        severity: Severity,
        title: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            check_id,
            severity,
            title: title.into(),
            detail: detail.into(),
            remediation: None,
            mend: None,
        }
    }

    pub(crate) fn remedy(mut self, remediation: impl Into<String>) -> Self {
        self.remediation = Some(remediation.into());
        self
    }

    pub(crate) fn mended_by(mut self, mend: Mend) -> Self {
        if self.remediation.is_none() {
            self.remediation = Some(mend.words());
        }
        self.mend = Some(mend);
        self
    }
}

/// Everything that is open to others, the worst first.
pub fn audit(options: &ExamineOptions) -> Vec<Finding> {
    let mut findings = loose_files(&options.state_dir, &options.config_path);
    match read_config(options) {
        Ok(config) => findings.extend(exposure::of_config(&config)),
        Err(finding) => findings.push(*finding),
    }
    if let Ok(text) = fs::read_to_string(options.state_dir.join("exec-approvals.json"))
        && let Ok(approvals) = parse(&text)
    {
        findings.extend(exposure::of_exec_approvals(&approvals));
    }
    let database = StateDir::database_in(&options.state_dir);
    if database.exists() {
        match clawgate_store::grants(&database) {
            Ok(grants) => findings.extend(exposure::of_grants(&grants, now_ms())),
            Err(error) => findings.push(
                Finding::new(
                    "state.database_unreadable",
                    Severity::Warn,
                    "Devices and tokens were not looked at",
                    format!("{error}"),
                )
                .remedy("clawgate doctor"),
            ),
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// The configuration as the gateway would use it. A generated token is long, and is not made here.
pub(crate) fn read_config(options: &ExamineOptions) -> Result<Config, Box<Finding>> {
    let environment = Environment {
        token: None,
        password: options.environment_password.clone(),
    };
    let generated = || Ok(SecretString::from("g".repeat(48)));
    crate::settings::read(&options.config_path)
        .map_err(|error| config::unreadable(&options.config_path, &error))
        .and_then(|text| {
            Config::of(
                &options.config_path,
                text,
                &Overrides::default(),
                &environment,
                generated,
            )
        })
        .map_err(|error| {
            let first = error.issues.first();
            let why = first.map_or_else(String::new, |issue| {
                format!("{}: {}", issue.path, issue.message)
            });
            let finding = Finding::new(
                "config.invalid",
                Severity::Critical,
                "The configuration cannot be used",
                format!(
                    "{} cannot be used, so the gateway does not start with it ({} to mend): {why}",
                    error.file.display(),
                    error.issues.len()
                ),
            )
            .remedy("clawgate config validate");
            Box::new(finding)
        })
}

/// A path with its user's home left out is not shorter here: findings name it as it must be typed.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
