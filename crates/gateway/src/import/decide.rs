//! What comes and what does not, from what was read and what is here. Nothing is written.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawgate_core::{
    DeviceId, JobId, Role, RunId, Scope, ScopeSet,
    pairing::{Approved, Claims, Device, DeviceToken},
    proof::DeviceKey,
};
use clawgate_store::{CronRun, HISTORY_MAX, Present};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    Remark, Surroundings, Tally,
    conversation::{self, Incoming},
    source::{History, Source},
};
use crate::{
    config,
    methods::cron::import::{self, Imported},
};

const JOBS: &str = "jobs";
const RUNS: &str = "runs";
const DEVICES: &str = "devices";
const KEYS: &str = "keys";
const CONFIGURATION: &str = "configuration";
/// What an Ed25519 key in PKCS #8 is before its 32 bytes (RFC 8410).
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The process that the runs are recorded for: none of ours.
const BOOT: &str = "import";

/// What comes, and the report. It holds secrets and does not print.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) jobs: Vec<Imported>,
    pub(super) runs: Vec<CronRun>,
    /// Serials of their tokens are blank.
    pub(super) devices: Vec<Device>,
    pub(super) sessions: Vec<Incoming>,
    /// Entries of their conversations.
    pub(super) entries: usize,
    /// The gateway's key.
    pub(super) key: Option<Zeroizing<[u8; 32]>>,
    /// The configuration, with its secrets.
    pub(super) config: Option<Value>,
    pub(super) kinds: Vec<Tally>,
    pub(super) skipped: Vec<Remark>,
    pub(super) remarks: Vec<Remark>,
}

impl Decided {
    pub(super) fn skip(
        &mut self,
        kind: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
    ) {
        self.skip_all(kind, what, 1, why);
    }

    pub(super) fn skip_all(
        &mut self,
        kind: &'static str,
        what: impl Into<String>,
        count: usize,
        why: impl Into<String>,
    ) {
        if count > 0 {
            self.skipped.push(remark(kind, what, count, why));
        }
    }

    fn remark(&mut self, kind: &'static str, what: impl Into<String>, why: impl Into<String>) {
        self.remarks.push(remark(kind, what, 1, why));
    }

    pub(super) fn tally(
        &mut self,
        kind: &'static str,
        read: usize,
        taken: usize,
        notes: &[String],
    ) {
        let skipped = self.skipped.iter().filter(|skipped| skipped.kind == kind);
        self.kinds.push(Tally {
            kind,
            read,
            taken,
            skipped: skipped.map(|skipped| skipped.count).sum(),
            note: notes.join("; "),
        });
    }
}

fn remark(
    kind: &'static str,
    what: impl Into<String>,
    count: usize,
    why: impl Into<String>,
) -> Remark {
    Remark {
        kind,
        what: what.into(),
        count,
        why: why.into(),
    }
}

pub(super) fn decide(source: &Source, present: &Present, around: &Surroundings) -> Decided {
    let mut decided = Decided::default();
    jobs(source, present, around, &mut decided);
    runs(source, present, &mut decided);
    devices(source, present, around, &mut decided);
    key(source, around, &mut decided);
    configuration(source, around, &mut decided);
    conversation::sessions(&source.sessions, present, around.now_ms, &mut decided);
    if let Some(path) = &source.later_database {
        decided.remark(
            JOBS,
            path.display().to_string(),
            "a database of a later OpenClaw, which is not read: if that version ran, what it added or changed is only there",
        );
    }
    decided
}

fn jobs(source: &Source, present: &Present, around: &Surroundings, decided: &mut Decided) {
    let mut declared = present.declared.clone();
    let (mut announcing, mut turns) = (0, 0);
    for (index, found) in source.jobs.iter().enumerate() {
        let text = |key: &str| found.get(key).and_then(Value::as_str);
        let what = match (text("id"), text("name")) {
            (Some(id), Some(name)) => format!("{id} ({name})"),
            (Some(id), None) => id.to_owned(),
            _ => format!("jobs[{index}]"),
        };
        if text("id").is_some_and(|id| present.jobs.contains(id)) {
            decided.skip(JOBS, what, "a job of this id is here already");
            continue;
        }
        let job = match import::job(found, &around.house, around.now_ms) {
            Ok(job) => job,
            Err(why) => {
                decided.skip(JOBS, what, why);
                continue;
            }
        };
        if let Some(key) = &job.keep.declaration_key
            && !declared.insert(key.clone())
        {
            let why = format!("another job is declared under {key:?}");
            decided.skip(JOBS, what, why);
            continue;
        }
        if let Some(why) = &job.stopped {
            decided.remark(JOBS, &what, format!("comes disabled: {why}"));
        }
        if job.was_running {
            decided.remark(
                JOBS,
                &what,
                "a run was under way when the file was written: make sure that OpenClaw's gateway is stopped, or both will run it",
            );
        }
        if let Some(slot) = job.overdue_ms {
            let at = clawgate_core::cron::format_at(slot);
            decided.remark(
                JOBS,
                &what,
                format!("was due at {at} and did not run there: its catch-up policy decides that when the gateway starts"),
            );
        }
        if job.announces {
            announcing += 1;
            decided.remark(
                JOBS,
                &what,
                "announces its results to a chat channel: the delivery is kept as it is, and nothing here can make it",
            );
        }
        turns += usize::from(job.needs_agent);
        decided.jobs.push(job);
    }
    let stopped = decided
        .jobs
        .iter()
        .filter(|job| job.stopped.is_some())
        .count();
    let mut notes = counted(&[
        (stopped, "disabled"),
        (announcing, "announce, which nothing here delivers"),
        (
            turns,
            "need an agent turn, which is not served: each run records that",
        ),
    ]);
    if let Some(path) = &source.no_jobs {
        notes.push(format!("there is no {}", path.display()));
    }
    let taken = decided.jobs.len();
    decided.tally(JOBS, source.jobs.len(), taken, &notes);
}

fn counted(counts: &[(usize, &str)]) -> Vec<String> {
    counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect()
}

fn runs(source: &Source, present: &Present, decided: &mut Decided) {
    let names: HashMap<&str, &str> = source
        .jobs
        .iter()
        .filter_map(|job| Some((job.get("id")?.as_str()?, job.get("name")?.as_str()?)))
        .collect();
    let mut read = 0;
    let mut taken_ids = HashSet::new();
    for history in &source.histories {
        read += history.entries.len() + usize::from(history.torn.is_some());
        let what = format!("runs/{}.jsonl", history.job_id);
        if let Some(line) = history.torn {
            decided.skip(
                RUNS,
                format!("{what}, line {line}"),
                "the line was cut short",
            );
        }
        let name = names.get(history.job_id.as_str());
        let (mut found, odd) = finished(history, name.copied().unwrap_or(&history.job_id));
        for (line, why) in odd {
            decided.skip(RUNS, format!("{what}, line {line}"), why);
        }
        let before = found.len();
        found.retain(|run| {
            !present.runs.contains(run.run_id.as_str())
                && taken_ids.insert(run.run_id.as_str().to_owned())
        });
        decided.skip_all(RUNS, &what, before - found.len(), "here already");
        // The oldest make room. Those of one millisecond stay in their order.
        found.sort_by_key(|run| run.ended_at_ms);
        let kept = usize::try_from(HISTORY_MAX).unwrap_or(usize::MAX);
        let here = present.history.get(&history.job_id).copied().unwrap_or(0);
        let surplus = found.len().saturating_sub(kept.saturating_sub(here));
        let why = format!("older than the newest {kept} of the job, which are kept");
        decided.skip_all(RUNS, &what, surplus, why);
        found.drain(..surplus);
        decided.runs.append(&mut found);
    }
    let taken = decided.runs.len();
    decided.tally(RUNS, read, taken, &[]);
}

/// What a run of a turn says besides.
fn about(entry: &Value) -> Option<String> {
    let facts = ["sessionId", "sessionKey", "model", "provider", "usage"];
    let facts: Map<String, Value> = facts
        .into_iter()
        .filter_map(|fact| Some((fact.to_owned(), entry.get(fact)?.clone())))
        .collect();
    (!facts.is_empty()).then(|| Value::Object(facts).to_string())
}

/// The finished runs of a log in their order, and the lines that are something else.
fn finished(history: &History, name: &str) -> (Vec<CronRun>, Vec<(usize, String)>) {
    let (mut runs, mut odd) = (Vec::new(), Vec::new());
    let mut same_ts: HashMap<i64, usize> = HashMap::new();
    for (line, entry) in &history.entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        let ms = |key: &str| entry.get(key).and_then(Value::as_i64);
        let verdict = match text("status").as_deref() {
            Some("ok" | "error") => "ran",
            Some("skipped") => "skipped",
            _ => {
                odd.push((*line, "its status is none of ok, error, skipped".to_owned()));
                continue;
            }
        };
        if text("action").is_some_and(|action| action != "finished") {
            odd.push((*line, "it is not the end of a run".to_owned()));
            continue;
        }
        if text("jobId").is_some_and(|id| id != history.job_id) {
            odd.push((*line, "it is of another job than the file".to_owned()));
            continue;
        }
        let Some(ts) = ms("ts") else {
            odd.push((*line, "it does not say when it ended".to_owned()));
            continue;
        };
        let n = same_ts.entry(ts).and_modify(|n| *n += 1).or_insert(0);
        runs.push(CronRun {
            run_id: RunId::new(format!("import:{}:{ts}:{n}", history.job_id)),
            job_id: JobId::new(history.job_id.as_str()),
            job_name: name.to_owned(),
            slot_ms: None,
            last_slot_ms: None,
            slots: 1,
            kind: "record".to_owned(),
            attempt: 0,
            status: text("status").unwrap_or_default(),
            verdict: verdict.to_owned(),
            reason: None,
            error: text("error"),
            error_class: None,
            summary: text("summary"),
            queued_at_ms: None,
            started_at_ms: ms("runAtMs"),
            ended_at_ms: ts,
            duration_ms: ms("durationMs"),
            next_run_at_ms: ms("nextRunAtMs"),
            delivery_status: text("deliveryStatus"),
            delivery_error: text("deliveryError"),
            delivery_receipt: None,
            about: about(entry),
            boot_id: BOOT.to_owned(),
        });
    }
    (runs, odd)
}

fn devices(source: &Source, present: &Present, around: &Surroundings, decided: &mut Decided) {
    for (id, found) in &source.devices {
        let what = match found.get("displayName").and_then(Value::as_str) {
            Some(name) => format!("{id} ({name})"),
            None => id.clone(),
        };
        if present.devices.contains(id) {
            decided.skip(DEVICES, what, "a device of this id is paired here already");
            continue;
        }
        match device(id, found, around.now_ms) {
            Ok(device) => decided.devices.push(device),
            Err(why) => decided.skip(DEVICES, what, why),
        }
    }
    let taken = decided.devices.len();
    let notes = if taken > 0 {
        vec!["pairings are kept; each gets a new device token at its next connect with the shared secret".to_owned()]
    } else {
        Vec::new()
    };
    decided.tally(DEVICES, source.devices.len(), taken, &notes);
}

/// A paired device with what was approved for it. Its tokens keep what they carried and whether
/// they were revoked, but not their secrets: those are derived from a key of this gateway.
fn device(id: &str, found: &Value, now_ms: i64) -> Result<Device, String> {
    let text = |key: &str| found.get(key).and_then(Value::as_str).map(str::to_owned);
    let ms = |key: &str| found.get(key).and_then(Value::as_i64);
    let key = text("publicKey")
        .as_deref()
        .and_then(DeviceKey::parse)
        .ok_or("its public key cannot be read")?;
    if key.device_id() != id || text("deviceId").is_some_and(|inner| inner != id) {
        return Err("its id is not that of its key".to_owned());
    }
    let mut names: Vec<String> = texts(found.get("roles"));
    names.extend(text("role"));
    let empty = Map::new();
    let tokens = found
        .get("tokens")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    // The oldest records name neither roles nor scopes: what was approved is what their tokens carry
    // that were not taken away.
    let is_live = |token: &Value| token.get("revokedAtMs").is_none_or(Value::is_null);
    if names.is_empty() {
        let live = tokens.iter().filter(|(_, token)| is_live(token));
        names.extend(live.map(|(name, _)| name.clone()));
    }
    let mut approved: Vec<Approved> = Vec::new();
    let mut kept = Vec::new();
    for name in names {
        let role = Role::parse(&name).ok_or(format!("its role {name:?} is unknown"))?;
        if approved.iter().any(|approved| approved.role == role) {
            continue;
        }
        let token = tokens.get(&name);
        let carried = scopes(token.and_then(|token| token.get("scopes")))?;
        // The record's scopes are those of all its roles; they are an operator's.
        let scopes = match role {
            Role::Operator => match found.get("approvedScopes").or(found.get("scopes")) {
                Some(list) => scopes(Some(list))?,
                None if token.is_some_and(is_live) => carried.clone(),
                None => ScopeSet::default(),
            },
            Role::Node => carried.clone(),
        };
        let carried = carried.covered_by(&scopes);
        approved.push(Approved { role, scopes });
        if let Some(token) = token {
            let ms = |key: &str| token.get(key).and_then(Value::as_i64);
            kept.push(DeviceToken {
                role,
                scopes: carried,
                serial: String::new(),
                old_serial: None,
                old_until_ms: None,
                created_at_ms: ms("createdAtMs").unwrap_or(now_ms),
                rotated_at_ms: ms("rotatedAtMs"),
                revoked_at_ms: ms("revokedAtMs"),
                last_used_at_ms: ms("lastUsedAtMs"),
            });
        }
    }
    if approved.is_empty() {
        return Err("no role was approved for it".to_owned());
    }
    let created_at_ms = ms("createdAtMs").unwrap_or(now_ms);
    Ok(Device {
        device_id: DeviceId::new(id),
        public_key: key.to_base64url(),
        claims: Claims {
            display_name: text("displayName"),
            platform: text("platform"),
            device_family: text("deviceFamily"),
            client_id: text("clientId").unwrap_or_default(),
            client_mode: text("clientMode").unwrap_or_default(),
            remote_ip: text("remoteIp"),
            surface: clawgate_core::node::Surface::default(),
        },
        approved,
        tokens: kept,
        silently: false,
        created_at_ms,
        approved_at_ms: ms("approvedAtMs").unwrap_or(created_at_ms),
    })
}

fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

fn scopes(list: Option<&Value>) -> Result<ScopeSet, String> {
    let names = texts(list);
    if let Some(odd) = names.iter().find(|name| name.contains(char::is_control)) {
        return Err(format!("its scope {odd:?} holds control characters"));
    }
    Ok(names.into_iter().map(Scope::new).collect())
}

fn key(source: &Source, around: &Surroundings, decided: &mut Decided) {
    let what = "identity/device.json";
    if let Some(text) = &source.identity {
        match seed(text) {
            _ if around.key_exists => {
                decided.skip(
                    KEYS,
                    what,
                    "this gateway has a device key of its own already",
                );
            }
            Some(seed) => decided.key = Some(seed),
            None => decided.skip(
                KEYS,
                what,
                "it does not hold an Ed25519 key in PKCS #8, the only form that is known",
            ),
        }
    }
    if source.has_client_tokens {
        decided.skip(
            KEYS,
            "identity/device-auth.json",
            "its device tokens are the original's; this gateway issues its own at the next connect",
        );
    }
    let read = usize::from(source.identity.is_some()) + usize::from(source.has_client_tokens);
    let taken = usize::from(decided.key.is_some());
    let notes = counted(&[(taken, "is the gateway's device key: it keeps its device id")]);
    decided.tally(KEYS, read, taken, &notes);
}

/// The 32 bytes of the private key in a `device.json`.
fn seed(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let file: Value = serde_json::from_str(text).ok()?;
    let body: Zeroizing<String> = Zeroizing::new(
        file.get("privateKeyPem")?
            .as_str()?
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("-----"))
            .collect(),
    );
    let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
    let seed = der.strip_prefix(PKCS8_ED25519.as_slice())?;
    seed.try_into().ok().map(Zeroizing::new)
}

/// Sections that this gateway reads as they are.
const SECTIONS: &[&str] = &["gateway", "cron"];

fn configuration(source: &Source, around: &Surroundings, decided: &mut Decided) {
    let Some((path, found)) = &source.config else {
        decided.tally(CONFIGURATION, 0, 0, &[]);
        return;
    };
    let mut taken = Map::new();
    let why = why_not(path, around);
    for (section, value) in found {
        if !SECTIONS.contains(&section.as_str()) {
            decided.skip(
                CONFIGURATION,
                section,
                "what it configures is not served here",
            );
        } else if let Some(why) = &why {
            decided.skip(CONFIGURATION, section, why);
        } else {
            taken.insert(section.clone(), value.clone());
        }
    }
    let count = taken.len();
    let notes = if count > 0 {
        vec![format!("as {}", around.config_path.display())]
    } else {
        Vec::new()
    };
    decided.config = (count > 0).then_some(Value::Object(taken));
    decided.tally(CONFIGURATION, found.len(), count, &notes);
}

/// Why the configuration stays where it is, if it does.
fn why_not(path: &Path, around: &Surroundings) -> Option<String> {
    if around.config_exists {
        let here = around.config_path.display();
        return Some(format!("{here} is there already and is never overwritten"));
    }
    let error = config::validate(path, None).err()?;
    let issues: Vec<String> = error
        .issues
        .iter()
        .map(|issue| format!("{} {}", issue.path, issue.message))
        .collect();
    Some(format!(
        "this gateway would not start with it: {}",
        issues.join("; ")
    ))
}
