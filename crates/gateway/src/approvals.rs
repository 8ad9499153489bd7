//! Owner of approvals: commands that wait for somebody to let them run.
//!
//! The database holds every request and every decision; this holds only who waits. A request is
//! decided once, inside a write transaction, and one whose time is over is denied whoever looks
//! and whenever: no timer has to fire for it. Waiters are told after the commit and read the
//! database, so one that asks again after a restart gets the same answer.

pub(crate) mod spend;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clawgate_core::{
    approval::{Bound, Decision, Standing, WAITS_MAX_MS, standing},
    exec_policy::{self, Executable, NotKept},
};
use clawgate_protocol::{
    approval::{Pending, Resolved},
    event::Event,
    frame::to_json,
};
use clawgate_store::{Approval, Read, Store, StoreError};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    clock::now_ms,
    exec_policy::{PolicyError, PolicyFile},
    hub::{Hub, Link, Principal},
};

/// Requests that wait at most.
const PENDING_MAX: usize = 256;
/// Of these, of one caller. Fewer than a connection may have under way, so that somebody who waits
/// for all of them can still speak.
const PENDING_EACH_MAX: usize = 32;

/// Why an approval is not asked for, decided, found or used.
#[derive(Debug)]
pub(crate) enum ApprovalError {
    /// The caller's authority ended before its turn came.
    CallerEnded,
    /// A request of that id waits.
    Waits,
    /// There was one of that id: an id is good for one request.
    IdUsed,
    /// Too many wait.
    TooMany {
        /// Of this caller alone.
        of_caller: bool,
    },
    /// None of that id waits.
    Unknown,
    /// The beginning of an id that several have.
    Ambiguous(Vec<String>),
    /// Somebody was quicker.
    Decided {
        decision: Decision,
        by: Option<String>,
        at_ms: Option<i64>,
    },
    /// It cannot be decided for good.
    NotOffered,
    /// It does not allow what the caller wants to do with it.
    Unfit {
        code: &'static str,
        message: &'static str,
    },
    /// The database.
    Store(StoreError),
}

impl From<StoreError> for ApprovalError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What is to be asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub id: Option<String>,
    /// What is shown.
    pub request: Value,
    pub digest: String,
    pub timeout_ms: i64,
}

/// What would run: the parts of it that a request shows in one form and a run has in another.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub argv: Vec<String>,
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub agent_id: Option<String>,
    pub session_key: Option<String>,
}

/// Handle of the approvals.
#[derive(Clone, Debug)]
pub(crate) struct Approvals {
    store: Store,
    hub: Hub,
    file: PolicyFile,
    waiting: Waiting,
}

type Waiting = Arc<Mutex<HashMap<String, watch::Sender<()>>>>;

/// Somebody who waits for a decision. Its place is cleared with the last one.
struct Waiter {
    waiting: Waiting,
    id: String,
    told: watch::Receiver<()>,
}

impl Waiter {
    fn new(waiting: &Waiting, id: &str) -> Self {
        let told = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id.to_owned())
            .or_insert_with(|| watch::channel(()).0)
            .subscribe();
        Self {
            waiting: Arc::clone(waiting),
            id: id.to_owned(),
            told,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // This one still counts as a receiver here.
        if waiting
            .get(&self.id)
            .is_some_and(|teller| teller.receiver_count() <= 1)
        {
            waiting.remove(&self.id);
        }
    }
}

impl Approvals {
    pub(crate) fn new(store: &Store, hub: &Hub, file: PolicyFile) -> Self {
        Self {
            store: store.clone(),
            hub: hub.clone(),
            file,
            waiting: Waiting::default(),
        }
    }

    /// The file of what may be run without asking.
    pub(crate) fn file(&self) -> &PolicyFile {
        &self.file
    }

    /// Writes a request down and tells everybody who may decide it.
    pub(crate) async fn request(
        &self,
        caller: &Arc<Link>,
        wanted: Wanted,
    ) -> Result<Approval, ApprovalError> {
        let (by, hub) = (Arc::clone(caller), self.hub.clone());
        self.store
            .write_then(
                "asking for an approval",
                move |tx| {
                    let now = now_ms();
                    if !by.may_act(now) {
                        return Err(ApprovalError::CallerEnded);
                    }
                    tx.expire_approvals(now, now.saturating_add(WAITS_MAX_MS))?;
                    let requester = bucket(&by.principal);
                    let (all, own) = tx.read().count_pending_approvals(&requester, now)?;
                    if all >= PENDING_MAX || own >= PENDING_EACH_MAX {
                        let of_caller = own >= PENDING_EACH_MAX;
                        return Err(ApprovalError::TooMany { of_caller });
                    }
                    let device = by.principal.device_id.as_ref();
                    let approval = Approval {
                        id: wanted
                            .id
                            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
                        requester,
                        requester_device: device.map(|id| id.as_str().to_owned()),
                        requester_conn: by.principal.conn_id.clone(),
                        request: wanted.request.to_string(),
                        digest: wanted.digest,
                        created_at_ms: now,
                        expires_at_ms: now.saturating_add(wanted.timeout_ms.min(WAITS_MAX_MS)),
                        expired: false,
                        decision: None,
                        decided_by: None,
                        decided_at_ms: None,
                        spent_at_ms: None,
                    };
                    if !tx.insert_approval(&approval)? {
                        let there = tx.read().approval(&approval.id)?;
                        let waits =
                            there.is_some_and(|there| stands(&there, now) == Standing::Waits);
                        return Err(if waits {
                            ApprovalError::Waits
                        } else {
                            ApprovalError::IdUsed
                        });
                    }
                    Ok(approval)
                },
                move |approval| {
                    let payload = to_json(&pending(&approval));
                    hub.publish(Event::ExecApprovalRequested, &payload, None);
                    approval
                },
            )
            .await
    }

    /// Waits until a request is decided or over.
    pub(crate) async fn wait(&self, id: &str) -> Result<Approval, ApprovalError> {
        // Before the first look, so that a decision in between is not missed.
        let mut waiter = Waiter::new(&self.waiting, id);
        loop {
            let wanted = id.to_owned();
            let found = self.store.read(move |db| db.approval(&wanted)).await?;
            let approval = found.ok_or(ApprovalError::Unknown)?;
            let now = now_ms();
            if stands(&approval, now) != Standing::Waits {
                if approval.decision.is_none() && !approval.expired {
                    // Noted before it is told: what was told does not change.
                    self.store
                        .write("expiring approvals", move |tx| {
                            tx.expire_approvals(now, now.saturating_add(WAITS_MAX_MS))
                        })
                        .await?;
                }
                return Ok(approval);
            }
            let left = u64::try_from(approval.expires_at_ms - now).unwrap_or_default();
            let told = waiter.told.changed();
            let _ = tokio::time::timeout(Duration::from_millis(left), told).await;
        }
    }

    /// Decides a request. Exactly one of all who try does.
    pub(crate) async fn resolve(
        &self,
        caller: &Arc<Link>,
        wanted: String,
        decision: Decision,
    ) -> Result<Approval, ApprovalError> {
        let by = Arc::clone(caller);
        let (hub, waiting) = (self.hub.clone(), Arc::clone(&self.waiting));
        self.store
            .write_then(
                "deciding an approval",
                move |tx| {
                    let now = now_ms();
                    if !by.may_act(now) {
                        return Err(ApprovalError::CallerEnded);
                    }
                    let mut approval = find(&tx.read(), &wanted, now)?;
                    if decision == Decision::AllowAlways && !offers_always(&approval) {
                        return Err(ApprovalError::NotOffered);
                    }
                    let client = by.principal.client_id.clone();
                    if !tx.decide_approval(&approval.id, decision, &client, now)? {
                        return Err(ApprovalError::Unknown);
                    }
                    let detail = json!({
                        "id": approval.id, "decision": decision.as_str(), "digest": approval.digest,
                    });
                    let actor = by.principal.actor();
                    tx.audit("exec.approval.resolve", &actor, &detail.to_string(), now)?;
                    approval.decision = Some(decision);
                    approval.decided_by = Some(client);
                    approval.decided_at_ms = Some(now);
                    Ok(approval)
                },
                move |approval| {
                    let payload = to_json(&Resolved {
                        id: approval.id.clone(),
                        decision: decision.as_str().to_owned(),
                        resolved_by: approval.decided_by.clone(),
                        ts: approval.decided_at_ms.unwrap_or_default(),
                        request: request_of(&approval),
                    });
                    hub.publish(Event::ExecApprovalResolved, &payload, None);
                    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(teller) = waiting.get(&approval.id) {
                        teller.send_replace(());
                    }
                    approval
                },
            )
            .await
    }

    /// Every request that waits, oldest first.
    pub(crate) async fn pending(&self) -> Result<Vec<Approval>, ApprovalError> {
        let now = now_ms();
        Ok(self.store.read(move |db| db.pending_approvals(now)).await?)
    }

    /// One request by its whole id, whatever became of it.
    pub(crate) async fn get(&self, id: String) -> Result<Option<Approval>, ApprovalError> {
        Ok(self.store.read(move |db| db.approval(&id)).await?)
    }

    /// Requests that ended, the last one first, from a place on.
    pub(crate) async fn ended(
        &self,
        before: Option<(i64, String)>,
        limit: usize,
    ) -> Result<Vec<Approval>, ApprovalError> {
        let now = now_ms();
        Ok(self
            .store
            .read(move |db| db.ended_approvals(before, limit, now))
            .await?)
    }

    /// One request that waits, by its id or the beginning of it.
    pub(crate) async fn find(&self, wanted: String) -> Result<Approval, ApprovalError> {
        let now = now_ms();
        self.store
            .read(move |db| Ok(find(db, &wanted, now)))
            .await?
    }

    /// Keeps a decision for good, in the file: only for what runs on this machine, a node keeps its
    /// own. Says why it could not be kept.
    pub(crate) async fn remember(
        &self,
        approval: &Approval,
    ) -> Result<Option<NotKept>, PolicyError> {
        let (file, request) = (self.file.clone(), request_of(approval));
        let at_ms = approval.decided_at_ms.unwrap_or_default();
        let task = tokio::task::spawn_blocking(move || {
            let text = |key: &str| request[key].as_str();
            let texts = |key: &str| -> Vec<String> {
                let list = request[key].as_array().into_iter().flatten();
                list.filter_map(|item| item.as_str().map(str::to_owned))
                    .collect()
            };
            let (argv, env) = (texts("commandArgv"), texts("envKeys"));
            let command = exec_policy::Request {
                argv: &argv,
                cwd: text("cwd"),
                env: &env,
                // Which program a text runs is for a shell to say; it names none here.
                executable: text("resolvedPath")
                    .filter(|_| !argv.is_empty())
                    .map(|path| Executable {
                        found: path,
                        real: path,
                        sha256: text("resolvedSha256"),
                    }),
                operand_sha256: None,
                skill: false,
                home: None,
            };
            let agent = text("agentId").unwrap_or("main");
            let id = uuid::Uuid::new_v4().to_string();
            let shown = text("command").unwrap_or_default();
            file.change(|file| exec_policy::remember(file, agent, &command, id, shown, at_ms))
        });
        let kept = task.await.unwrap_or_else(|died| {
            Err(PolicyError::Io {
                path: self.file.path().to_owned(),
                source: std::io::Error::other(died),
            })
        })?;
        Ok(kept.err())
    }
}

/// Whose requests are counted together.
fn bucket(principal: &Principal) -> String {
    match (&principal.device_id, &principal.api_token) {
        (Some(device), _) => format!("device {device}"),
        (None, Some(token)) => format!("api-token {token}"),
        (None, None) => format!("address {}", principal.address),
    }
}

/// Where a request stands.
pub(crate) fn stands(approval: &Approval, now: i64) -> Standing {
    standing(
        approval.decision,
        approval.expired,
        approval.expires_at_ms,
        now,
    )
}

/// A request that waits, by its id or the beginning of it.
fn find(db: &Read<'_>, wanted: &str, now: i64) -> Result<Approval, ApprovalError> {
    let wanted = wanted.trim();
    if let Some(approval) = db.approval(wanted)? {
        return match stands(&approval, now) {
            Standing::Waits => Ok(approval),
            Standing::Expired => Err(ApprovalError::Unknown),
            Standing::Decided(decision) => Err(ApprovalError::Decided {
                decision,
                by: approval.decided_by,
                at_ms: approval.decided_at_ms,
            }),
        };
    }
    let mut found = db.pending_approvals(now)?;
    found.retain(|approval| !wanted.is_empty() && approval.id.starts_with(wanted));
    match found.len() {
        0 => Err(ApprovalError::Unknown),
        1 => Ok(found.remove(0)),
        _ => {
            let ids = found.into_iter().map(|approval| approval.id);
            Err(ApprovalError::Ambiguous(ids.collect()))
        }
    }
}

fn offers_always(approval: &Approval) -> bool {
    decisions(&request_of(approval)).contains(&Decision::AllowAlways)
}

/// What may be decided about a request.
pub(crate) fn decisions(request: &Value) -> Vec<Decision> {
    let refused = request["unavailableDecisions"].as_array();
    let always = refused.is_none_or(|refused| !refused.contains(&json!("allow-always")));
    let mut offered = vec![Decision::AllowOnce, Decision::AllowAlways, Decision::Deny];
    offered.retain(|decision| always || *decision != Decision::AllowAlways);
    offered
}

/// What was shown.
pub(crate) fn request_of(approval: &Approval) -> Value {
    serde_json::from_str(&approval.request).unwrap_or_default()
}

/// A request as those see it who may decide.
pub(crate) fn pending(approval: &Approval) -> Pending {
    Pending {
        id: approval.id.clone(),
        request: request_of(approval),
        digest: Some(approval.digest.clone()),
        created_at_ms: approval.created_at_ms,
        expires_at_ms: approval.expires_at_ms,
    }
}

/// The digest of a run as a request shows it. The same for the request and for the run that begins
/// with its approval, or the run is another one.
pub(crate) fn digest(request: &Value, run: &Run) -> String {
    let env: Vec<(&str, &str)> = run
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let text = |key: &str| request[key].as_str();
    let operand = &request["systemRunPlan"]["mutableFileOperand"];
    Bound {
        host: text("host"),
        node: text("nodeId"),
        command: text("command").unwrap_or_default(),
        argv: &run.argv,
        cwd: run.cwd.as_deref(),
        env: &env,
        agent: run.agent_id.as_deref(),
        session: run.session_key.as_deref(),
        program: text("resolvedPath"),
        program_sha256: text("resolvedSha256"),
        operand: operand["path"].as_str().zip(operand["sha256"].as_str()),
    }
    .digest()
}
