//! Commands that run on nodes: asked, answered once, or over.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use clawgate_core::Dialect;
use clawgate_protocol::{
    event::Event,
    frame::to_json,
    node::{InvokeRequest, InvokeResultParams, NodeFault},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::Nodes;

/// Commands that one node runs at once.
const PER_NODE_MAX: usize = 64;
/// Commands that run at once on all nodes.
const ALL_MAX: usize = 1_024;
/// Outcomes that are kept for whoever asks again with the same key.
const KEPT_MAX: usize = 256;
/// Bytes of outcomes that are kept; one that is larger than a quarter of it is not.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A command for a node.
#[derive(Clone, Debug)]
pub(crate) struct Invoke {
    pub node_id: String,
    /// The session that was looked at; the newest, where nothing about it matters.
    pub session: Option<String>,
    pub command: String,
    /// Params as JSON text.
    pub params_json: Option<String>,
    /// As it was asked for; the node is told.
    pub timeout_ms: Option<u64>,
    /// Whose key it is, and the key: the same act is done once.
    pub key: Option<(String, String)>,
    /// The act as it was asked for, which the key belongs to: command and params.
    pub act: String,
}

/// How long a node may take when nobody says.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long a node may take at most.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Done {
    pub payload: Option<Value>,
    pub payload_json: Option<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The node is not here.
    NotConnected,
    /// It went while it ran the command.
    Disconnected,
    /// It did not answer in time.
    TimedOut,
    /// It runs as much as it may.
    Busy,
    /// The key was used for another command.
    KeyReused,
    /// It refused or failed, in its own words.
    Node(NodeFault),
}

type Outcome = Result<Arc<Done>, Failure>;
/// Whose, for which node, which key.
type Key = (String, String, String);

#[derive(Debug)]
struct Running {
    conn_id: String,
    dialect: Dialect,
    node_id: String,
    key: Option<Key>,
    /// The command and its params, to tell a repetition from another act.
    act: String,
    outcome: watch::Sender<Option<Outcome>>,
    waiters: usize,
}

#[derive(Debug)]
struct Kept {
    act: String,
    outcome: Outcome,
    cost: usize,
}

/// Everything that runs, and what lately ended.
#[derive(Debug, Default)]
pub(super) struct Invokes {
    running: HashMap<String, Running>,
    by_key: HashMap<Key, String>,
    kept: HashMap<Key, Kept>,
    kept_order: VecDeque<Key>,
    kept_bytes: usize,
}

impl Invokes {
    /// What was asked of a session is over with it.
    pub(super) fn session_ended(&mut self, conn_id: &str) {
        let ids: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| running.conn_id == conn_id)
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            if let Some(running) = self.take(&id) {
                running
                    .outcome
                    .send_replace(Some(Err(Failure::Disconnected)));
            }
        }
    }

    fn take(&mut self, id: &str) -> Option<Running> {
        let running = self.running.remove(id)?;
        if let Some(key) = &running.key {
            self.by_key.remove(key);
        }
        Some(running)
    }

    fn keep(&mut self, key: Key, act: String, outcome: Outcome, cost: usize) {
        let cost = cost + act.len();
        if cost > KEPT_BYTES_MAX / 4 {
            return;
        }
        let kept = Kept { act, outcome, cost };
        if self.kept.insert(key.clone(), kept).is_none() {
            self.kept_order.push_back(key);
            self.kept_bytes += cost;
        }
        while self.kept_order.len() > KEPT_MAX || self.kept_bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept_order.pop_front() else {
                break;
            };
            if let Some(gone) = self.kept.remove(&oldest) {
                self.kept_bytes -= gone.cost;
            }
        }
    }
}

/// Somebody waits for an outcome. When the last one goes, the node is told to stop.
struct Waiter<'a> {
    nodes: &'a Nodes,
    id: String,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let gone = {
            let mut state = self.nodes.lock();
            let Some(running) = state.invokes.running.get_mut(&self.id) else {
                return;
            };
            running.waiters -= 1;
            if running.waiters > 0 {
                return;
            }
            state.invokes.take(&self.id)
        };
        // Wire 3 has no word for it; its node answers late, and that is ignored.
        if let Some(gone) = gone
            && gone.dialect == Dialect::V4
        {
            let payload = json!({"id": self.id, "invokeId": self.id, "nodeId": gone.node_id});
            self.nodes
                .hub
                .tell(&gone.conn_id, Event::NodeInvokeCancel, &payload.to_string());
        }
    }
}

fn within(timeout_ms: Option<u64>) -> Duration {
    timeout_ms.map_or(TIMEOUT_DEFAULT, |ms| {
        Duration::from_millis(ms).min(TIMEOUT_MAX)
    })
}

/// What was begun under a key.
fn known(invokes: &mut Invokes, key: &Key, act: &str) -> Option<Result<Begun, Failure>> {
    if let Some(kept) = invokes.kept.get(key) {
        if kept.act != act {
            return Some(Err(Failure::KeyReused));
        }
        return Some(Ok(Begun::Kept(kept.outcome.clone())));
    }
    let id = invokes.by_key.get(key).cloned()?;
    let running = invokes.running.get_mut(&id)?;
    if running.act != act {
        return Some(Err(Failure::KeyReused));
    }
    running.waiters += 1;
    Some(Ok(Begun::Runs(id, running.outcome.subscribe())))
}

impl Nodes {
    /// Has a node run a command. That it may was looked at before. The same key waits for the same
    /// outcome, whether it is still to come or came lately.
    pub(crate) async fn invoke(&self, wanted: Invoke) -> Result<Arc<Done>, Failure> {
        let within = within(wanted.timeout_ms);
        let begun = self.begin(wanted)?;
        self.wait(begun, within).await
    }

    /// The outcome of an act that was begun under this key before, lately; none if it was not.
    pub(crate) async fn invoked_before(
        &self,
        node_id: &str,
        key: &(String, String),
        act: &str,
        timeout_ms: Option<u64>,
    ) -> Option<Result<Arc<Done>, Failure>> {
        let key = (key.0.clone(), node_id.to_owned(), key.1.clone());
        let known = known(&mut self.lock().invokes, &key, act)?;
        Some(match known {
            Ok(begun) => self.wait(begun, within(timeout_ms)).await,
            Err(failure) => Err(failure),
        })
    }

    async fn wait(&self, begun: Begun, within: Duration) -> Result<Arc<Done>, Failure> {
        let (waiter, mut outcome) = match begun {
            Begun::Kept(outcome) => return outcome,
            Begun::Runs(id, outcome) => (Waiter { nodes: self, id }, outcome),
        };
        let ended = timeout(within, outcome.wait_for(Option::is_some)).await;
        let outcome = match ended {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(Failure::Disconnected)),
            Ok(Err(_)) => Err(Failure::Disconnected),
            Err(_) => Err(Failure::TimedOut),
        };
        drop(waiter);
        outcome
    }

    fn begin(&self, wanted: Invoke) -> Result<Begun, Failure> {
        let id = uuid::Uuid::new_v4().to_string();
        let key = wanted
            .key
            .as_ref()
            .map(|(whose, key)| (whose.clone(), wanted.node_id.clone(), key.clone()));
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(key) = &key
            && let Some(known) = known(&mut state.invokes, key, &wanted.act)
        {
            return known;
        }
        let live = state.live.get(&wanted.node_id).and_then(|all| all.last());
        let is_meant = |conn_id: &str| wanted.session.as_ref().is_none_or(|id| id == conn_id);
        let Some(live) = live.filter(|live| is_meant(&live.conn_id)) else {
            return Err(Failure::NotConnected);
        };
        let of_node = state.invokes.running.values();
        let of_node = of_node.filter(|running| running.conn_id == live.conn_id);
        if state.invokes.running.len() >= ALL_MAX || of_node.count() >= PER_NODE_MAX {
            return Err(Failure::Busy);
        }
        let (sender, outcome) = watch::channel(None);
        let running = Running {
            conn_id: live.conn_id.clone(),
            dialect: live.dialect,
            node_id: wanted.node_id.clone(),
            key: key.clone(),
            act: wanted.act.clone(),
            outcome: sender,
            waiters: 1,
        };
        let conn_id = running.conn_id.clone();
        if let Some(key) = key {
            state.invokes.by_key.insert(key, id.clone());
        }
        state.invokes.running.insert(id.clone(), running);
        drop(guard);
        let request = InvokeRequest {
            id: id.clone(),
            node_id: wanted.node_id,
            command: wanted.command,
            params_json: wanted.params_json,
            timeout_ms: wanted.timeout_ms,
            idempotency_key: wanted.key.map(|(_, key)| key),
        };
        if !self
            .hub
            .tell(&conn_id, Event::NodeInvokeRequest, &to_json(&request))
        {
            self.lock().invokes.take(&id);
            return Err(Failure::NotConnected);
        }
        Ok(Begun::Runs(id, outcome))
    }

    /// A node's answer. `false` when it is not this session that was asked, or nobody waits.
    pub(crate) fn answered(&self, conn_id: &str, result: InvokeResultParams) -> bool {
        // Before the lock: a node may say much.
        let value = result.payload.as_ref().map(|value| value.to_string().len());
        let text = result.payload_json.as_ref().map(String::len);
        let cost = value.unwrap_or_default() + text.unwrap_or_default();
        let mut state = self.lock();
        let is_its = state
            .invokes
            .running
            .get(&result.id)
            .is_some_and(|running| running.conn_id == conn_id && running.node_id == result.node_id);
        if !is_its {
            return false;
        }
        let Some(mut running) = state.invokes.take(&result.id) else {
            return false;
        };
        let outcome = if result.ok {
            Ok(Arc::new(Done {
                payload: result.payload,
                payload_json: result.payload_json,
            }))
        } else {
            Err(Failure::Node(result.error.unwrap_or_default()))
        };
        if let Some(key) = running.key.take() {
            let act = std::mem::take(&mut running.act);
            state.invokes.keep(key, act, outcome.clone(), cost);
        }
        running.outcome.send_replace(Some(outcome));
        true
    }
}

enum Begun {
    Kept(Outcome),
    Runs(String, watch::Receiver<Option<Outcome>>),
}
