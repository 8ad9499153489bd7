//! What keeps a gateway from working well, as its files tell it: whether or not it runs, and without
//! changing anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clawgate_store::{StoreError, Survey};
use serde_json::Value;

use crate::{
    audit::{ExamineOptions, Finding, Mend, Severity, audit, loose_files, read_config, shown},
    backup::left_over,
    clock::now_ms,
    logs,
    state::{KEY_FILES, StateDir, StateError, has_keys},
    tools::{ServerReached, ServerStanding, ToolServer},
};

/// Bytes that should be free, and those without which writes fail soon.
const FREE_WANTED: u64 = 512 * 1024 * 1024;
const FREE_NEEDED: u64 = 64 * 1024 * 1024;
/// Bytes of logs that are worth a word.
const LOGS_MANY: u64 = 512 * 1024 * 1024;
/// How far ahead of the clock a row may be, milliseconds.
const AHEAD_MAX_MS: i64 = 300_000;
/// The start of 2025: a clock before it was never set.
const CLOCK_MIN_MS: i64 = 1_735_689_600_000;

/// What was found, and what else the one who asks needs to know.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// The gateway that holds the state directory, in its own words.
    pub holder: Option<String>,
    /// Version of the database's schema.
    pub schema: Option<i64>,
    /// Jobs in it.
    pub jobs: Option<u64>,
    /// Bytes free where the state lies.
    pub free_bytes: Option<u64>,
}

/// Looks at everything that lies still. `deep` reads every page and index of the database.
pub fn diagnose(options: &ExamineOptions, deep: bool) -> Diagnosis {
    let mut found = Diagnosis::default();
    configuration(options, &mut found);
    if options.state_dir.is_dir() {
        state_dir(options, &mut found);
        database(options, deep, &mut found);
        keys(&options.state_dir, &mut found);
        log_files(&options.state_dir, &mut found);
    } else {
        found.findings.push(
            Finding::new(
                "state.missing",
                Severity::Warn,
                "There is no state directory",
                format!(
                    "{} is not there; a gateway makes it at its first start",
                    shown(&options.state_dir)
                ),
            )
            .remedy("clawgate gateway run"),
        );
    }
    if now_ms() < CLOCK_MIN_MS {
        found.findings.push(
            Finding::new(
                "clock.not_set",
                Severity::Critical,
                "The clock is not set",
                "it shows a time before 2025: jobs run at the wrong times, and devices are refused",
            )
            .remedy("timedatectl set-ntp true"),
        );
    }
    exposure(options, &mut found);
    found.findings.sort_by_key(|finding| finding.severity);
    found
}

fn configuration(options: &ExamineOptions, found: &mut Diagnosis) {
    match read_config(options) {
        Err(finding) => found.findings.push(*finding),
        Ok(config) => {
            found
                .findings
                .extend(config.snapshot.warnings.iter().map(|issue| {
                    Finding::new(
                        "config.warning",
                        Severity::Warn,
                        format!("The configuration has something in {}", issue.path),
                        format!("{}: {}", issue.path, issue.message),
                    )
                    .remedy(format!(
                        "correct {} in {}",
                        issue.path,
                        shown(&options.config_path)
                    ))
                }));
            tool_servers(&config.snapshot.parsed, found);
        }
    }
}

/// What `mcp.servers` names, and which of them no turn can have. None is started.
fn tool_servers(config: &Value, found: &mut Diagnosis) {
    let configured = crate::tools::configured_servers(config);
    if configured.is_empty() {
        return;
    }
    let words = |server: &ToolServer| {
        let (reached, standing) = (server.reached.as_str(), server.standing.as_str());
        format!("{} ({reached}, {standing})", clip(&server.name))
    };
    let all: Vec<String> = configured.iter().map(words).collect();
    found.findings.push(Finding::new(
        "servers.configured",
        Severity::Info,
        "Servers bring tools",
        all.join(", "),
    ));
    let unusable = configured
        .iter()
        .filter(|server| server.standing == ServerStanding::Unusable);
    found.findings.extend(unusable.map(|server| {
        let name = clip(&server.name);
        let why = match server.reached {
            ServerReached::EventStream => {
                "it speaks the protocol's old event streams, which are not spoken here"
            }
            _ => "it has neither a command nor a url",
        };
        Finding::new(
            "servers.unusable",
            Severity::Warn,
            format!("The tools of the server \"{name}\" are not to be had"),
            why,
        )
        .remedy(format!(
            "give mcp.servers.{name} a command or the url of its streamable HTTP, or enabled: false"
        ))
    }));
}

fn state_dir(options: &ExamineOptions, found: &mut Diagnosis) {
    let state = &options.state_dir;
    let lock = state.join("clawgate.lock");
    match StateDir::refuse_if_held(state) {
        Ok(()) => {
            if let Ok(text) = fs::read_to_string(&lock)
                && !text.trim().is_empty()
            {
                found.findings.push(
                    Finding::new(
                        "state.lock_left",
                        Severity::Info,
                        "No gateway holds the state directory",
                        format!(
                            "{} was left by {}; it holds nobody up",
                            shown(&lock),
                            text.trim()
                        ),
                    )
                    .mended_by(Mend::Remove { path: lock }),
                );
            }
        }
        Err(StateError::Held { holder, .. }) => found.holder = Some(holder),
        Err(error) => found.findings.push(Finding::new(
            "state.unusable",
            Severity::Critical,
            "The state directory cannot be used",
            error.to_string(),
        )),
    }
    found
        .findings
        .extend(loose_files(state, &options.config_path));
    let beside = state.parent().map(left_over).unwrap_or_default();
    found.findings.extend(beside.iter().map(|left| {
        Finding::new(
            "backup.left_over",
            Severity::Info,
            "A restore was cut short",
            format!(
                "{} holds a whole state with its keys, closed to others; unless one runs right now nothing needs it",
                shown(left)
            ),
        )
        .remedy(format!("rm -r {}", shown(left)))
    }));
    if let Ok(disk) = rustix::fs::statvfs(state) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        found.free_bytes = Some(free);
        let severity = match free {
            0..FREE_NEEDED => Some(Severity::Critical),
            FREE_NEEDED..FREE_WANTED => Some(Severity::Warn),
            _ => None,
        };
        if let Some(severity) = severity {
            found.findings.push(
                Finding::new(
                    "disk.almost_full",
                    severity,
                    "The disk is almost full",
                    format!(
                        "{} MiB are free where {} lies; what cannot be written is not acknowledged, and jobs do not run",
                        free / (1024 * 1024),
                        shown(state)
                    ),
                )
                .remedy(format!("du -xh --max-depth=2 {} | sort -h", shown(state))),
            );
        }
    }
}

fn database(options: &ExamineOptions, deep: bool, found: &mut Diagnosis) {
    let path = StateDir::database_in(&options.state_dir);
    let draft = clawgate_store::draft(&path);
    if path.symlink_metadata().is_err() {
        if has_keys(&options.state_dir) && draft.symlink_metadata().is_err() {
            found.findings.push(
                Finding::new(
                    "database.gone",
                    Severity::Critical,
                    "The database is gone",
                    format!(
                        "{} is not there, and the keys beside it are: devices, tokens and jobs are lost unless it comes back",
                        shown(&path)
                    ),
                )
                .remedy("clawgate backup restore ARCHIVE --force"),
            );
        }
        return;
    }
    if draft.symlink_metadata().is_ok() && found.holder.is_none() {
        found.findings.push(
            Finding::new(
                "database.draft_left",
                Severity::Info,
                "A draft of a database is left over",
                format!("{} is of a start that was cut short", shown(&draft)),
            )
            .mended_by(Mend::Remove { path: draft }),
        );
    }
    let condition = match clawgate_store::examine(&path, deep) {
        Ok(condition) => condition,
        Err(error) => {
            found.findings.push(unusable(&path, &error));
            return;
        }
    };
    found.schema = Some(condition.schema);
    if let Some(problem) = condition.problems.first() {
        found.findings.push(
            Finding::new(
                "database.damaged",
                Severity::Critical,
                "The database is damaged",
                format!(
                    "{}: {problem}{}",
                    shown(&path),
                    match condition.problems.len() {
                        1 => String::new(),
                        more => format!(" (and {} more)", more - 1),
                    }
                ),
            )
            .remedy("clawgate backup restore ARCHIVE --force"),
        );
        return;
    }
    if condition.schema > condition.known_schema {
        let error = StoreError::TooNew {
            found: condition.schema,
            known: condition.known_schema,
        };
        found.findings.push(unusable(&path, &error));
        return;
    }
    if condition.schema < condition.known_schema {
        found.findings.push(
            Finding::new(
                "database.older_schema",
                Severity::Info,
                "The database is of an older version",
                format!(
                    "its schema is {}, this program's is {}: the next start brings it up to date",
                    condition.schema, condition.known_schema
                ),
            )
            .remedy("clawgate backup create"),
        );
        return;
    }
    match clawgate_store::survey(&path) {
        Ok(survey) => rows(&survey, now_ms(), found),
        Err(error) => found.findings.push(unusable(&path, &error)),
    }
}

fn unusable(path: &Path, error: &StoreError) -> Finding {
    Finding::new(
        "database.unusable",
        Severity::Critical,
        "The database cannot be opened",
        error.to_string(),
    )
    .remedy(match error {
        StoreError::TooNew { .. } => {
            "use the version of clawgate that wrote it, or a newer one".to_owned()
        }
        _ => format!(
            "clawgate backup restore ARCHIVE --force (what lies at {} is kept beside it)",
            shown(path)
        ),
    })
}

fn rows(survey: &Survey, now_ms: i64, found: &mut Diagnosis) {
    found.jobs = Some(survey.jobs);
    let findings = &mut found.findings;
    if let Some(newest) = survey.newest_ms
        && newest > now_ms.saturating_add(AHEAD_MAX_MS)
    {
        findings.push(
            Finding::new(
                "clock.went_back",
                Severity::Warn,
                "The clock went back",
                format!(
                    "the newest record is {} s ahead of this machine's clock: what is due may seem to be past or far away",
                    (newest - now_ms) / 1000
                ),
            )
            .remedy("timedatectl status"),
        );
    }
    for job in &survey.failing_jobs {
        let last = job.last_error.as_deref().unwrap_or("it did not say why");
        let (id, title, fix) = if job.enabled {
            (
                "cron.failing",
                format!("Job {:?} fails, {} times in a row", job.name, job.failures),
                format!("clawgate cron runs --id {}", job.id),
            )
        } else {
            (
                "cron.disabled_by_failures",
                format!(
                    "Job {:?} was disabled after {} failures",
                    job.name, job.failures
                ),
                format!("clawgate cron enable {}", job.id),
            )
        };
        findings.push(Finding::new(id, Severity::Warn, title, clip(last)).remedy(fix));
    }
    for (id, name) in &survey.idle_jobs {
        findings.push(
            Finding::new(
                "cron.never_due",
                Severity::Warn,
                format!("Job {name:?} is enabled and never due"),
                "its schedule has no time that is still to come",
            )
            .remedy(format!("clawgate cron show {id}")),
        );
    }
    if let Some(oldest) = survey.stuck_deliveries.first() {
        findings.push(
            Finding::new(
                "outbox.stuck",
                Severity::Warn,
                format!(
                    "{} of {} deliveries that wait were tried in vain",
                    survey.stuck_deliveries.len(),
                    survey.waiting_deliveries
                ),
                format!(
                    "the oldest waits for {} min after {} attempts: {}",
                    (now_ms - oldest.created_at_ms).max(0) / 60_000,
                    oldest.attempts,
                    clip(oldest.error.as_deref().unwrap_or("it did not say why"))
                ),
            )
            .remedy(format!("clawgate cron runs --id {}", oldest.job_id)),
        );
    }
    let pending = survey
        .pairing_requests
        .iter()
        .filter(|request| !request.is_expired(now_ms))
        .count();
    if pending > 0 {
        findings.push(
            Finding::new(
                "pairing.pending",
                Severity::Info,
                format!("{pending} waiting for approval"),
                "devices asked to be paired, and ask no longer than five minutes",
            )
            .remedy("clawgate devices list"),
        );
    }
}

fn keys(state: &Path, found: &mut Diagnosis) {
    let has_database = StateDir::database_in(state).exists();
    for name in KEY_FILES {
        let path = state.join("identity").join(name);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text = text.trim();
                if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    found.findings.push(
                        Finding::new(
                            "keys.unreadable",
                            Severity::Critical,
                            "A key file holds no key",
                            format!(
                                "{} is not 32 bytes in hex; the gateway does not start",
                                shown(&path)
                            ),
                        )
                        .remedy("clawgate backup restore ARCHIVE --force"),
                    );
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if has_database {
                    found.findings.push(
                        Finding::new(
                            "keys.missing",
                            Severity::Critical,
                            "A key is gone",
                            format!(
                                "{} is not there, and the database is: a new one would be made at the next start, and what the old one stood behind is refused then",
                                shown(&path)
                            ),
                        )
                        .remedy("clawgate backup restore ARCHIVE --force"),
                    );
                }
            }
            Err(error) => found.findings.push(Finding::new(
                "keys.unreadable",
                Severity::Critical,
                "A key file cannot be read",
                format!("{}: {error}", shown(&path)),
            )),
        }
    }
}

fn log_files(state: &Path, found: &mut Diagnosis) {
    let directory = state.join("logs");
    let sizes = fs::read_dir(&directory).into_iter().flatten().flatten();
    let total: u64 = sizes
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum();
    if total > LOGS_MANY {
        found.findings.push(
            Finding::new(
                "logs.large",
                Severity::Info,
                "The logs are large",
                format!(
                    "{} MiB in {}; fourteen days are kept",
                    total / (1024 * 1024),
                    shown(&directory)
                ),
            )
            .remedy(format!("ls -lS {}", shown(&directory))),
        );
    }
    let today: Option<PathBuf> = logs::current_file(&directory);
    let full = today.and_then(|path| Some((path.metadata().ok()?.len(), path)));
    if let Some((bytes, path)) = full
        && bytes >= logs::DAY_BYTES_MAX - 4_096
    {
        found.findings.push(
            Finding::new(
                "logs.day_full",
                Severity::Warn,
                "The newest log is full",
                format!(
                    "{} reached its size for a day; further lines of that day are dropped",
                    shown(&path)
                ),
            )
            .remedy("clawgate logs --limit 50"),
        );
    }
}

/// How the audit of what is open to others ended, without what was said already.
fn exposure(options: &ExamineOptions, found: &mut Diagnosis) {
    let said = |finding: &Finding| {
        finding.check_id.starts_with("fs.") || finding.check_id.starts_with("config.invalid")
    };
    let findings = audit(options);
    let count = |severity| {
        let of_it = |finding: &&Finding| finding.severity == severity && !said(finding);
        findings.iter().filter(of_it).count()
    };
    let (critical, warn) = (count(Severity::Critical), count(Severity::Warn));
    if critical + warn > 0 {
        found.findings.push(
            Finding::new(
                "security.findings",
                if critical > 0 {
                    Severity::Critical
                } else {
                    Severity::Warn
                },
                format!("Something is open to others: {critical} critical, {warn} to look at"),
                findings
                    .iter()
                    .filter(|finding| finding.severity != Severity::Info && !said(finding))
                    .map(|finding| finding.check_id)
                    .collect::<Vec<_>>()
                    .join(", "),
            )
            .remedy("clawgate security audit"),
        );
    }
}

/// What a program or a server said, its beginning.
fn clip(text: &str) -> String {
    logs::clip(text, 300).to_owned()
}
