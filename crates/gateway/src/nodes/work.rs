//! What waits for a node until it looks.

use clawgate_protocol::node::WorkItem;
use clawgate_store::{NodeAction, NodeWork, StoreError};

use super::Nodes;
use crate::clock::now_ms;

/// How long a parked command waits, milliseconds.
const PARKED_TTL_MS: i64 = 600_000;
/// Items that a node gets at once when it does not say how many.
const DRAINED_DEFAULT: usize = 4;

/// What a node gets to do.
#[derive(Debug)]
pub(crate) struct Drained {
    pub revision: i64,
    pub items: Vec<WorkItem>,
    pub has_more: bool,
}

impl Nodes {
    /// Leaves work for a node, or finds what was left of that kind. `None` when too much is left for
    /// too many nodes.
    pub(crate) async fn leave(
        &self,
        node_id: String,
        kind: String,
        priority: Option<String>,
        expires_in_ms: Option<i64>,
    ) -> Result<Option<(i64, WorkItem)>, StoreError> {
        let now = now_ms();
        let work = NodeWork {
            work_id: uuid::Uuid::new_v4().to_string(),
            kind: kind.clone(),
            priority: priority.unwrap_or_else(|| "normal".to_owned()),
            created_at_ms: now,
            expires_at_ms: expires_in_ms.map(|ms| now.saturating_add(ms)),
        };
        self.store
            .write("leaving work for a node", move |tx| {
                if !tx.leave_node_work(&node_id, &work, now)? {
                    return Ok(None);
                }
                let (left, revision) = tx.read().node_work(&node_id, now)?;
                let of_kind = left.into_iter().find(|work| work.kind == kind);
                Ok(of_kind.map(|work| (revision, item(work))))
            })
            .await
    }

    /// What a node is to do. It stays until it is acknowledged or its time is over; that it should
    /// tell how it is stands at the end.
    pub(crate) async fn drain(
        &self,
        node_id: String,
        max: Option<usize>,
    ) -> Result<Drained, StoreError> {
        let now = now_ms();
        let (work, revision) = self
            .store
            .read(move |db| db.node_work(&node_id, now))
            .await?;
        let mut items: Vec<WorkItem> = work.into_iter().map(item).collect();
        if !items.iter().any(|item| item.kind == "status.request") {
            items.push(WorkItem {
                id: "baseline-status".to_owned(),
                kind: "status.request".to_owned(),
                priority: "default".to_owned(),
                created_at_ms: now,
                expires_at_ms: None,
            });
        }
        let max = max.unwrap_or(DRAINED_DEFAULT);
        let has_more = items.len() > max;
        items.truncate(max);
        Ok(Drained {
            revision,
            items,
            has_more,
        })
    }

    /// Parks a command until a node can run it; gives the id under which it is parked.
    pub(crate) async fn park(
        &self,
        node_id: String,
        command: String,
        params: Option<String>,
        key: String,
    ) -> Result<String, StoreError> {
        let now = now_ms();
        let action = NodeAction {
            action_id: uuid::Uuid::new_v4().to_string(),
            command,
            params,
            enqueued_at_ms: now,
        };
        self.store
            .write("parking a node's command", move |tx| {
                tx.park_node_action(&node_id, &action, &key, now - PARKED_TTL_MS)
            })
            .await
    }

    /// The commands that are parked for a node, as far as it still may run them.
    pub(crate) async fn parked(&self, node_id: String) -> Result<Vec<NodeAction>, StoreError> {
        let since = now_ms() - PARKED_TTL_MS;
        self.store
            .read(move |db| db.node_actions(&node_id, since))
            .await
    }

    /// A node did these; says how many parked commands are left.
    pub(crate) async fn acknowledge(
        &self,
        node_id: String,
        ids: Vec<String>,
    ) -> Result<usize, StoreError> {
        let since = now_ms() - PARKED_TTL_MS;
        self.store
            .write("acknowledging a node's work", move |tx| {
                tx.acknowledge_node(&node_id, &ids)?;
                Ok(tx.read().node_actions(&node_id, since)?.len())
            })
            .await
    }
}

fn item(work: NodeWork) -> WorkItem {
    WorkItem {
        id: work.work_id,
        kind: work.kind,
        priority: work.priority,
        created_at_ms: work.created_at_ms,
        expires_at_ms: work.expires_at_ms,
    }
}
