//! Requests and their decisions: of the older store, and of what paired devices declare beyond what
//! was approved.

use std::sync::{Arc, PoisonError};

use clawgate_core::{
    DeviceId, Dialect, Role, Scope,
    node::{self, REQUEST_TTL_MS, REQUESTS_MAX, Surface},
    pairing, proof,
};
use clawgate_protocol::{
    event::Event,
    frame::to_json,
    node::{About, PairList, PairRequestParams, PairedNode, PendingNode},
};
use clawgate_store::{NodeOrigin, NodePairing, NodeRequest, StoreError, Tx};
use serde_json::json;

use super::{Nodes, shown};
use crate::{
    clock::now_ms,
    hub::{Link, Principal},
    state::random_text,
};

/// Names the tokens of the older store to their derivation, so that none is a device's token.
const TOKEN_KIND: &str = "node.pair";

/// Why a request or a decision is refused, or failed.
#[derive(Debug)]
pub(crate) enum NodeError {
    /// No such request, or its time is over.
    UnknownRequest,
    /// No such node.
    UnknownNode,
    /// The name belongs to a paired device, which asks by connecting.
    IsDevice,
    /// Too many requests wait.
    Full,
    /// The caller lacks this scope.
    Missing(Scope),
    /// The caller's authority ended before its turn came.
    CallerEnded,
    /// The database.
    Store(StoreError),
}

impl From<StoreError> for NodeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The caller, as long as its authority stands.
fn standing(caller: &Link, now: i64) -> Result<&Principal, NodeError> {
    if caller.may_act(now) {
        Ok(&caller.principal)
    } else {
        Err(NodeError::CallerEnded)
    }
}

/// The request that a caller may decide.
fn waiting(tx: &Tx<'_>, caller: &Principal, id: &str, now: i64) -> Result<NodeRequest, NodeError> {
    let request = tx.read().node_request(id)?.filter(|request| {
        request.origin == NodeOrigin::Declared || !node::is_over(request.asked_at_ms, now)
    });
    let request = request.ok_or(NodeError::UnknownRequest)?;
    let device = DeviceId::new(request.node_id.clone());
    if pairing::may_manage(&caller.grant, caller.device_id.as_ref(), &device) {
        Ok(request)
    } else {
        Err(NodeError::Missing(Scope::ADMIN))
    }
}

fn is_device(tx: &Tx<'_>, node_id: &str) -> Result<bool, StoreError> {
    let device = tx.read().device(&DeviceId::new(node_id.to_owned()))?;
    Ok(device.is_some_and(|device| device.approved_for(Role::Node).is_some()))
}

fn about_of(record: &str) -> About {
    serde_json::from_str(record).unwrap_or_default()
}

fn paired(node: NodePairing, token: Option<String>) -> PairedNode {
    PairedNode {
        about: about_of(&node.record),
        node_id: node.node_id,
        token,
        created_at_ms: node.created_at_ms,
        approved_at_ms: node.approved_at_ms,
    }
}

impl Nodes {
    /// Files a request in the older store, or finds the one that waits; says whether it is new.
    pub(crate) async fn file(
        &self,
        params: PairRequestParams,
    ) -> Result<(PendingNode, bool), NodeError> {
        let now = now_ms();
        let new = PendingNode {
            request_id: uuid::Uuid::new_v4().to_string(),
            node_id: params.node_id,
            about: params.about,
            silent: params.silent,
            is_repair: false,
            ts: now,
        };
        let (pending, created, gone) = self
            .store
            .write("filing a node's request", move |tx| {
                let gone = tx.expire_node_requests(now, REQUEST_TTL_MS)?;
                if is_device(tx, &new.node_id)? {
                    return Err(NodeError::IsDevice);
                }
                if let Some(asked) = tx.read().node_request_of(&new.node_id, NodeOrigin::Filed)?
                    && let Ok(pending) = serde_json::from_str(&asked.record)
                {
                    return Ok((pending, false, gone));
                }
                let filed = tx.read().node_requests()?;
                let filed = filed.iter().filter(|one| one.origin == NodeOrigin::Filed);
                if filed.count() >= REQUESTS_MAX {
                    return Err(NodeError::Full);
                }
                let is_repair = tx.read().node_pairing(&new.node_id)?.is_some();
                let pending = PendingNode { is_repair, ..new };
                tx.keep_node_request(&NodeRequest {
                    request_id: pending.request_id.clone(),
                    node_id: pending.node_id.clone(),
                    origin: NodeOrigin::Filed,
                    record: to_json(&pending),
                    asked_at_ms: now,
                })?;
                Ok((pending, true, gone))
            })
            .await?;
        self.publish_gone(&gone);
        if created {
            self.hub
                .publish(Event::NodePairRequested, &to_json(&pending), None);
        }
        Ok((pending, created))
    }

    /// Drops the requests of the older store whose time is over, and says so.
    pub(crate) async fn expire(&self) -> Result<(), StoreError> {
        let now = now_ms();
        let waits = self
            .store
            .read(move |db| Ok(!db.node_requests()?.is_empty()))
            .await?;
        if waits {
            let gone = self
                .store
                .write("expiring requests of nodes", move |tx| {
                    tx.expire_node_requests(now, REQUEST_TTL_MS)
                })
                .await?;
            self.publish_gone(&gone);
        }
        Ok(())
    }

    fn publish_gone(&self, gone: &[NodeRequest]) {
        for request in gone {
            self.publish_resolved(&request.request_id, &request.node_id, "rejected");
        }
    }

    /// What waits, and what was approved. Wire 3 knows the older store alone, wire 4 has nodes that
    /// are paired as devices there too. No token is shown.
    pub(crate) async fn pair_list(&self, dialect: Dialect) -> Result<PairList, StoreError> {
        let now = now_ms();
        let (requests, pairings, surfaces, devices) = self
            .store
            .read(|db| {
                Ok((
                    db.node_requests()?,
                    db.node_pairings()?,
                    db.node_surfaces()?,
                    db.devices()?,
                ))
            })
            .await?;
        let pending = requests
            .iter()
            .filter(|one| {
                one.origin == NodeOrigin::Declared || !node::is_over(one.asked_at_ms, now)
            })
            .filter_map(|one| serde_json::from_str(&one.record).ok())
            .collect();
        let mut all: Vec<PairedNode> = pairings
            .into_iter()
            .map(|node| paired(node, None))
            .collect();
        if dialect == Dialect::V4 {
            for row in surfaces {
                let Some(device) = devices
                    .iter()
                    .find(|one| one.device_id.as_str() == row.device_id)
                else {
                    continue;
                };
                all.push(PairedNode {
                    node_id: row.device_id,
                    token: None,
                    about: About {
                        display_name: device.claims.display_name.clone(),
                        platform: device.claims.platform.clone(),
                        device_family: device.claims.device_family.clone(),
                        remote_ip: device.claims.remote_ip.clone(),
                        caps: Some(row.surface.caps().to_vec()),
                        commands: Some(row.surface.commands().to_vec()),
                        ..About::default()
                    },
                    created_at_ms: device.created_at_ms,
                    approved_at_ms: row.approved_at_ms,
                });
            }
            all.sort_by_key(|node| std::cmp::Reverse(node.approved_at_ms));
        }
        Ok(PairList {
            pending,
            paired: all,
        })
    }

    /// Approves a request on behalf of a caller. What a device declares needs an administrator, as
    /// its pairing did; a name of the older store gets a token, which is shown this once.
    pub(crate) async fn approve(
        &self,
        caller: &Arc<Link>,
        request_id: String,
    ) -> Result<PairedNode, NodeError> {
        let now = now_ms();
        let (by, serial, state) = (Arc::clone(caller), random_text(24), Arc::clone(&self.state));
        let id = request_id.clone();
        let (mut node, serial) = self
            .store
            .write_then(
                "approving a node",
                move |tx| {
                    let caller = standing(&by, now)?;
                    let request = waiting(tx, caller, &id, now)?;
                    tx.drop_node_request(&id)?;
                    let surface = shown(&request.record);
                    let node_id = request.node_id.clone();
                    let approved = match request.origin {
                        NodeOrigin::Filed => approve_filed(tx, &request, serial, now)?,
                        NodeOrigin::Declared => {
                            if !caller.grant.scopes().covers(&Scope::ADMIN) {
                                return Err(NodeError::Missing(Scope::ADMIN));
                            }
                            let device = DeviceId::new(request.node_id.clone());
                            tx.approve_node_surface(&device, &surface, now)?;
                            let known = tx.read().device(&device)?;
                            let known = known.ok_or(NodeError::UnknownRequest)?;
                            let node = PairedNode {
                                node_id: request.node_id,
                                token: None,
                                about: about_of(&request.record),
                                created_at_ms: known.created_at_ms,
                                approved_at_ms: now,
                            };
                            (node, None)
                        }
                    };
                    let detail = json!({
                        "request": id, "node": node_id, "commands": surface.commands(),
                    });
                    tx.audit(
                        "node.pair.approve",
                        &caller.actor(),
                        &detail.to_string(),
                        now,
                    )?;
                    Ok((approved, request.origin, surface))
                },
                move |(approved, origin, surface): ((PairedNode, Option<String>), _, Surface)| {
                    if origin == NodeOrigin::Declared {
                        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.follow(&approved.0.node_id, surface, None);
                    }
                    approved
                },
            )
            .await?;
        node.token = serial.map(|serial| self.token(&node.node_id, &serial));
        self.publish_resolved(&request_id, &node.node_id, "approved");
        Ok(node)
    }

    /// Rejects a request; gives the node's id.
    pub(crate) async fn reject(
        &self,
        caller: &Arc<Link>,
        request_id: String,
    ) -> Result<String, NodeError> {
        let now = now_ms();
        let (by, id, state) = (
            Arc::clone(caller),
            request_id.clone(),
            Arc::clone(&self.state),
        );
        let node_id = self
            .store
            .write_then(
                "rejecting a node",
                move |tx| {
                    let caller = standing(&by, now)?;
                    let request = waiting(tx, caller, &id, now)?;
                    tx.drop_node_request(&id)?;
                    let detail = json!({"request": id, "node": request.node_id});
                    tx.audit(
                        "node.pair.reject",
                        &caller.actor(),
                        &detail.to_string(),
                        now,
                    )?;
                    Ok::<_, NodeError>(request)
                },
                move |request| {
                    if request.origin == NodeOrigin::Declared {
                        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.asked.remove(&request.node_id);
                    }
                    request.node_id
                },
            )
            .await?;
        self.publish_resolved(&request_id, &node_id, "rejected");
        Ok(node_id)
    }

    /// The node of the older store whose token this is.
    pub(crate) async fn verify(
        &self,
        node_id: String,
        token: &str,
    ) -> Result<Option<PairedNode>, StoreError> {
        let found = self.store.read(move |db| db.node_pairing(&node_id)).await?;
        Ok(found
            .filter(|node| proof::same(&self.token(&node.node_id, &node.serial), token))
            .map(|node| paired(node, None)))
    }

    /// Names a node of the older store, or a paired device.
    pub(crate) async fn rename(
        &self,
        caller: &Arc<Link>,
        node_id: String,
        name: String,
    ) -> Result<(), NodeError> {
        let now = now_ms();
        let by = Arc::clone(caller);
        self.store
            .write("naming a node", move |tx| {
                let caller = standing(&by, now)?;
                let device = DeviceId::new(node_id.clone());
                if !pairing::may_manage(&caller.grant, caller.device_id.as_ref(), &device) {
                    return Err(NodeError::Missing(Scope::ADMIN));
                }
                if is_device(tx, &node_id)? {
                    return Ok(tx.name_node(&device, &name)?);
                }
                let known = tx.read().node_pairing(&node_id)?;
                let mut node = known.ok_or(NodeError::UnknownNode)?;
                node.record = to_json(&About {
                    display_name: Some(name),
                    ..about_of(&node.record)
                });
                Ok(tx.keep_node_pairing(&node)?)
            })
            .await
    }

    /// Removes a node of the older store, or takes back what was approved for a paired device. Says
    /// whether it is the latter.
    pub(crate) async fn withdraw(
        &self,
        caller: &Arc<Link>,
        node_id: String,
    ) -> Result<bool, NodeError> {
        let now = now_ms();
        let (by, state) = (Arc::clone(caller), Arc::clone(&self.state));
        self.store
            .write_then(
                "removing a node",
                move |tx| {
                    let caller = standing(&by, now)?;
                    let device = DeviceId::new(node_id.clone());
                    if !pairing::may_manage(&caller.grant, caller.device_id.as_ref(), &device) {
                        return Err(NodeError::Missing(Scope::ADMIN));
                    }
                    let of_device = is_device(tx, &node_id)?;
                    if of_device {
                        // Taking away needs no less authority than giving.
                        if !caller.grant.scopes().covers(&Scope::ADMIN) {
                            return Err(NodeError::Missing(Scope::ADMIN));
                        }
                        tx.withdraw_node_surface(&device)?;
                        tx.drop_node_request_of(&device)?;
                    } else if !tx.remove_node_pairing(&node_id)? {
                        return Err(NodeError::UnknownNode);
                    }
                    let detail = json!({"node": node_id});
                    tx.audit(
                        "node.pair.remove",
                        &caller.actor(),
                        &detail.to_string(),
                        now,
                    )?;
                    Ok((node_id, of_device))
                },
                move |(node_id, of_device)| {
                    if of_device {
                        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.follow(&node_id, Surface::default(), None);
                    }
                    of_device
                },
            )
            .await
    }

    fn token(&self, node_id: &str, serial: &str) -> String {
        self.keys.device_token(node_id, TOKEN_KIND, serial)
    }
}

fn approve_filed(
    tx: &Tx<'_>,
    request: &NodeRequest,
    serial: String,
    now: i64,
) -> Result<(PairedNode, Option<String>), NodeError> {
    if is_device(tx, &request.node_id)? {
        return Err(NodeError::IsDevice);
    }
    let known = tx.read().node_pairing(&request.node_id)?;
    let node = NodePairing {
        node_id: request.node_id.clone(),
        serial: serial.clone(),
        record: to_json(&about_of(&request.record)),
        created_at_ms: known.map_or(now, |known| known.created_at_ms),
        approved_at_ms: now,
    };
    tx.keep_node_pairing(&node)?;
    Ok((paired(node, None), Some(serial)))
}
