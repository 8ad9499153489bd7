//! Nodes: approved commands, requests, the older pairing store, work that waits.

use clawgate_core::{DeviceId, node::Surface};
use rusqlite::{OptionalExtension as _, Row};

use crate::{Read, StoreError, Tx};

/// Nodes with work at most; work is left for names that nobody checks.
const WORK_MAX: i64 = 1_024;
/// Parked commands of one node at most; the oldest make room.
const ACTIONS_MAX: i64 = 64;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeOrigin {
    /// Filed for the older store.
    Filed,
    /// A paired device declares more than was approved.
    Declared,
}

impl NodeOrigin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Filed => "filed",
            Self::Declared => "declared",
        }
    }
}

/// A request that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRequest {
    /// Its id.
    pub request_id: String,
    /// The node.
    pub node_id: String,
    /// Where it comes from.
    pub origin: NodeOrigin,
    /// The request as it travels.
    pub record: String,
    /// When it was asked.
    pub asked_at_ms: i64,
}

/// What was approved for a paired device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSurface {
    /// The device.
    pub device_id: String,
    /// What.
    pub surface: Surface,
    /// When.
    pub approved_at_ms: i64,
}

/// A node of the older store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePairing {
    /// The node.
    pub node_id: String,
    /// Input of its token's derivation.
    pub serial: String,
    /// What was approved, as it travels.
    pub record: String,
    /// When it was first approved.
    pub created_at_ms: i64,
    /// When it was last approved.
    pub approved_at_ms: i64,
}

/// Something that a node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWork {
    /// Its id.
    pub work_id: String,
    /// What.
    pub kind: String,
    /// How urgent.
    pub priority: String,
    /// Since when.
    pub created_at_ms: i64,
    /// Until when it is of use.
    pub expires_at_ms: Option<i64>,
}

/// A command that waits until a node can run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAction {
    /// Its id.
    pub action_id: String,
    /// Which command.
    pub command: String,
    /// Its params as JSON text.
    pub params: Option<String>,
    /// When it was parked.
    pub enqueued_at_ms: i64,
}

// Names hold no line breaks: the gateway refuses control characters at the door.
pub(crate) fn names_to(names: &[String]) -> String {
    names.join("\n")
}

pub(crate) fn surface_from(caps: &str, commands: &str) -> Surface {
    let names = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    Surface::new(&names(caps), &names(commands))
}

const REQUEST: &str = "request_id, node_id, origin, record, asked_at_ms";

fn request_from(row: &Row<'_>) -> rusqlite::Result<NodeRequest> {
    let origin: String = row.get(2)?;
    Ok(NodeRequest {
        request_id: row.get(0)?,
        node_id: row.get(1)?,
        // The schema knows these two.
        origin: if origin == "declared" {
            NodeOrigin::Declared
        } else {
            NodeOrigin::Filed
        },
        record: row.get(3)?,
        asked_at_ms: row.get(4)?,
    })
}

fn surface_row(row: &Row<'_>) -> rusqlite::Result<NodeSurface> {
    Ok(NodeSurface {
        device_id: row.get(0)?,
        surface: surface_from(&row.get::<_, String>(1)?, &row.get::<_, String>(2)?),
        approved_at_ms: row.get(3)?,
    })
}

fn pairing_from(row: &Row<'_>) -> rusqlite::Result<NodePairing> {
    Ok(NodePairing {
        node_id: row.get(0)?,
        serial: row.get(1)?,
        record: row.get(2)?,
        created_at_ms: row.get(3)?,
        approved_at_ms: row.get(4)?,
    })
}

impl Read<'_> {
    /// What was approved for a device.
    ///
    /// # Errors
    /// The database's.
    pub fn node_surface(&self, id: &DeviceId) -> Result<Option<NodeSurface>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT device_id, caps, commands, approved_at_ms FROM node_surfaces
                 WHERE device_id = ?1",
            )
            .and_then(|mut s| s.query_row([id.as_str()], surface_row).optional())
            .map_err(StoreError::doing("finding what a node may do"))
    }

    /// What was approved for every device, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn node_surfaces(&self) -> Result<Vec<NodeSurface>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT device_id, caps, commands, approved_at_ms FROM node_surfaces
                 ORDER BY approved_at_ms DESC, device_id",
            )
            .and_then(|mut s| s.query_map([], surface_row)?.collect())
            .map_err(StoreError::doing("listing what nodes may do"))
    }

    /// What operators call devices.
    ///
    /// # Errors
    /// The database's.
    pub fn node_names(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.db
            .prepare_cached("SELECT device_id, display_name FROM node_names")
            .and_then(|mut s| {
                s.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(StoreError::doing("listing names of nodes"))
    }

    /// One request.
    ///
    /// # Errors
    /// The database's.
    pub fn node_request(&self, id: &str) -> Result<Option<NodeRequest>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {REQUEST} FROM node_requests WHERE request_id = ?1"
            ))
            .and_then(|mut s| s.query_row([id], request_from).optional())
            .map_err(StoreError::doing("finding a node's request"))
    }

    /// The request of a node from one origin.
    ///
    /// # Errors
    /// The database's.
    pub fn node_request_of(
        &self,
        node_id: &str,
        origin: NodeOrigin,
    ) -> Result<Option<NodeRequest>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {REQUEST} FROM node_requests WHERE node_id = ?1 AND origin = ?2"
            ))
            .and_then(|mut s| {
                s.query_row([node_id, origin.as_str()], request_from)
                    .optional()
            })
            .map_err(StoreError::doing("finding a node's request"))
    }

    /// Every request, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn node_requests(&self) -> Result<Vec<NodeRequest>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {REQUEST} FROM node_requests ORDER BY asked_at_ms DESC, request_id"
            ))
            .and_then(|mut s| s.query_map([], request_from)?.collect())
            .map_err(StoreError::doing("listing requests of nodes"))
    }

    /// A node of the older store.
    ///
    /// # Errors
    /// The database's.
    pub fn node_pairing(&self, node_id: &str) -> Result<Option<NodePairing>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT node_id, serial, record, created_at_ms, approved_at_ms FROM node_pairings
                 WHERE node_id = ?1",
            )
            .and_then(|mut s| s.query_row([node_id], pairing_from).optional())
            .map_err(StoreError::doing("finding a paired node"))
    }

    /// Every node of the older store, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn node_pairings(&self) -> Result<Vec<NodePairing>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT node_id, serial, record, created_at_ms, approved_at_ms FROM node_pairings
                 ORDER BY approved_at_ms DESC, node_id",
            )
            .and_then(|mut s| s.query_map([], pairing_from)?.collect())
            .map_err(StoreError::doing("listing paired nodes"))
    }

    /// What a node is to do, most urgent first, and how often that list changed.
    ///
    /// # Errors
    /// The database's.
    pub fn node_work(
        &self,
        node_id: &str,
        now_ms: i64,
    ) -> Result<(Vec<NodeWork>, i64), StoreError> {
        let doing = StoreError::doing("reading a node's work");
        let work = self
            .db
            .prepare_cached(
                "SELECT work_id, kind, priority, created_at_ms, expires_at_ms FROM node_work
                 WHERE node_id = ?1 AND (expires_at_ms IS NULL OR expires_at_ms > ?2)
                 ORDER BY priority = 'high' DESC, created_at_ms, kind",
            )
            .and_then(|mut s| {
                s.query_map((node_id, now_ms), |row| {
                    Ok(NodeWork {
                        work_id: row.get(0)?,
                        kind: row.get(1)?,
                        priority: row.get(2)?,
                        created_at_ms: row.get(3)?,
                        expires_at_ms: row.get(4)?,
                    })
                })?
                .collect()
            })
            .map_err(&doing)?;
        let revision = self
            .db
            .prepare_cached("SELECT revision FROM node_work_revisions WHERE node_id = ?1")
            .and_then(|mut s| s.query_row([node_id], |row| row.get(0)).optional())
            .map_err(&doing)?;
        Ok((work, revision.unwrap_or_default()))
    }

    /// The commands that are parked for a node since `since_ms`, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub fn node_actions(
        &self,
        node_id: &str,
        since_ms: i64,
    ) -> Result<Vec<NodeAction>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT action_id, command, params, enqueued_at_ms FROM node_actions
                 WHERE node_id = ?1 AND enqueued_at_ms > ?2 ORDER BY seq",
            )
            .and_then(|mut s| {
                s.query_map((node_id, since_ms), |row| {
                    Ok(NodeAction {
                        action_id: row.get(0)?,
                        command: row.get(1)?,
                        params: row.get(2)?,
                        enqueued_at_ms: row.get(3)?,
                    })
                })?
                .collect()
            })
            .map_err(StoreError::doing("reading a node's parked commands"))
    }
}

impl Tx<'_> {
    /// Approves what a device declares as a node, and nothing else any more.
    ///
    /// # Errors
    /// The database's.
    pub fn approve_node_surface(
        &self,
        id: &DeviceId,
        surface: &Surface,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO node_surfaces (device_id, caps, commands, approved_at_ms)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (device_id) DO UPDATE SET caps = ?2, commands = ?3, approved_at_ms = ?4",
            )
            .and_then(|mut s| {
                let (caps, commands) = (names_to(surface.caps()), names_to(surface.commands()));
                s.execute((id.as_str(), caps, commands, now_ms))
            })
            .map(drop)
            .map_err(StoreError::doing("approving a node"))
    }

    /// Takes back what was approved for a device. `false` when nothing was.
    ///
    /// # Errors
    /// The database's.
    pub fn withdraw_node_surface(&self, id: &DeviceId) -> Result<bool, StoreError> {
        self.db
            .prepare_cached("DELETE FROM node_surfaces WHERE device_id = ?1")
            .and_then(|mut s| s.execute([id.as_str()]))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("taking back a node's approval"))
    }

    /// Names a paired device.
    ///
    /// # Errors
    /// The database's.
    pub fn name_node(&self, id: &DeviceId, name: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO node_names (device_id, display_name) VALUES (?1, ?2)
                 ON CONFLICT (device_id) DO UPDATE SET display_name = ?2",
            )
            .and_then(|mut s| s.execute([id.as_str(), name]))
            .map(drop)
            .map_err(StoreError::doing("naming a node"))
    }

    /// Keeps a request in place of an older one of the same node and origin.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_node_request(&self, request: &NodeRequest) -> Result<(), StoreError> {
        let doing = StoreError::doing("keeping a node's request");
        self.db
            .prepare_cached("DELETE FROM node_requests WHERE node_id = ?1 AND origin = ?2")
            .and_then(|mut s| s.execute([&*request.node_id, request.origin.as_str()]))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "INSERT INTO node_requests (request_id, node_id, origin, record, asked_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .and_then(|mut s| {
                s.execute((
                    &request.request_id,
                    &request.node_id,
                    request.origin.as_str(),
                    &request.record,
                    request.asked_at_ms,
                ))
            })
            .map(drop)
            .map_err(&doing)
    }

    /// Drops a request.
    ///
    /// # Errors
    /// The database's.
    pub fn drop_node_request(&self, request_id: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached("DELETE FROM node_requests WHERE request_id = ?1")
            .and_then(|mut s| s.execute([request_id]))
            .map(drop)
            .map_err(StoreError::doing("dropping a node's request"))
    }

    /// Drops what a device asked about its commands, when the device itself goes.
    ///
    /// # Errors
    /// The database's.
    pub fn drop_node_request_of(&self, id: &DeviceId) -> Result<(), StoreError> {
        self.db
            .prepare_cached("DELETE FROM node_requests WHERE node_id = ?1 AND origin = 'declared'")
            .and_then(|mut s| s.execute([id.as_str()]))
            .map(drop)
            .map_err(StoreError::doing("dropping a node's request"))
    }

    /// Drops the requests of the older store that were filed so long before now, or after it, and gives
    /// them.
    ///
    /// # Errors
    /// The database's.
    pub fn expire_node_requests(
        &self,
        now_ms: i64,
        ttl_ms: i64,
    ) -> Result<Vec<NodeRequest>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "DELETE FROM node_requests WHERE origin = 'filed' AND abs(?1 - asked_at_ms) >= ?2
                 RETURNING {REQUEST}"
            ))
            .and_then(|mut s| s.query_map([now_ms, ttl_ms], request_from)?.collect())
            .map_err(StoreError::doing("expiring requests of nodes"))
    }

    /// Keeps a node of the older store.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_node_pairing(&self, node: &NodePairing) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO node_pairings (node_id, serial, record, created_at_ms, approved_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (node_id) DO UPDATE SET serial = ?2, record = ?3, approved_at_ms = ?5",
            )
            .and_then(|mut s| {
                s.execute((
                    &node.node_id,
                    &node.serial,
                    &node.record,
                    node.created_at_ms,
                    node.approved_at_ms,
                ))
            })
            .map(drop)
            .map_err(StoreError::doing("keeping a paired node"))
    }

    /// Removes a node of the older store. `false` when it is not there.
    ///
    /// # Errors
    /// The database's.
    pub fn remove_node_pairing(&self, node_id: &str) -> Result<bool, StoreError> {
        self.db
            .prepare_cached("DELETE FROM node_pairings WHERE node_id = ?1")
            .and_then(|mut s| s.execute([node_id]))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("removing a paired node"))
    }

    /// Leaves work for a node, unless there is some of that kind. `false` when too many nodes have
    /// some.
    ///
    /// # Errors
    /// The database's.
    pub fn leave_node_work(
        &self,
        node_id: &str,
        work: &NodeWork,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let doing = StoreError::doing("leaving work for a node");
        self.db
            .prepare_cached("DELETE FROM node_work WHERE expires_at_ms <= ?1")
            .and_then(|mut s| s.execute([now_ms]))
            .map_err(&doing)?;
        let added = self
            .db
            .prepare_cached(
                "INSERT INTO node_work (node_id, kind, work_id, priority, created_at_ms, expires_at_ms)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM node_work) < ?7
                     AND (EXISTS (SELECT 1 FROM node_work_revisions WHERE node_id = ?1)
                         OR (SELECT count(*) FROM node_work_revisions) < ?7 * 4)
                 ON CONFLICT (node_id, kind) DO NOTHING",
            )
            .and_then(|mut s| {
                s.execute((
                    node_id,
                    &work.kind,
                    &work.work_id,
                    &work.priority,
                    work.created_at_ms,
                    work.expires_at_ms,
                    WORK_MAX,
                ))
            })
            .map_err(&doing)?;
        if added == 1 {
            self.db
                .prepare_cached(
                    "INSERT INTO node_work_revisions (node_id, revision) VALUES (?1, 1)
                     ON CONFLICT (node_id) DO UPDATE SET revision = revision + 1",
                )
                .and_then(|mut s| s.execute([node_id]))
                .map_err(&doing)?;
            return Ok(true);
        }
        self.db
            .prepare_cached("SELECT 1 FROM node_work WHERE node_id = ?1 AND kind = ?2")
            .and_then(|mut s| s.exists([node_id, &work.kind]))
            .map_err(&doing)
    }

    /// Parks a command for a node, once for a key; gives the id under which it is parked.
    ///
    /// # Errors
    /// The database's.
    pub fn park_node_action(
        &self,
        node_id: &str,
        action: &NodeAction,
        key: &str,
        since_ms: i64,
    ) -> Result<String, StoreError> {
        let doing = StoreError::doing("parking a node's command");
        self.db
            .prepare_cached(
                "DELETE FROM node_actions WHERE enqueued_at_ms <= ?2 OR (node_id = ?1 AND seq <= (
                     SELECT seq FROM node_actions WHERE node_id = ?1
                     ORDER BY seq DESC LIMIT 1 OFFSET ?3))",
            )
            .and_then(|mut s| s.execute((node_id, since_ms, ACTIONS_MAX - 1)))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "INSERT INTO node_actions (action_id, node_id, command, params, idempotency_key,
                     enqueued_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (node_id, idempotency_key) DO UPDATE SET command = command
                 RETURNING action_id",
            )
            .and_then(|mut s| {
                s.query_row(
                    (
                        &action.action_id,
                        node_id,
                        &action.command,
                        &action.params,
                        key,
                        action.enqueued_at_ms,
                    ),
                    |row| row.get(0),
                )
            })
            .map_err(&doing)
    }

    /// Forgets what a node did of what was left or parked for it.
    ///
    /// # Errors
    /// The database's.
    pub fn acknowledge_node(&self, node_id: &str, ids: &[String]) -> Result<(), StoreError> {
        let doing = StoreError::doing("acknowledging a node's work");
        for id in ids {
            self.db
                .prepare_cached("DELETE FROM node_actions WHERE node_id = ?1 AND action_id = ?2")
                .and_then(|mut s| s.execute([node_id, id]))
                .map_err(&doing)?;
            let done = self
                .db
                .prepare_cached("DELETE FROM node_work WHERE node_id = ?1 AND work_id = ?2")
                .and_then(|mut s| s.execute([node_id, id]))
                .map_err(&doing)?;
            if done > 0 {
                self.db
                    .prepare_cached(
                        "UPDATE node_work_revisions SET revision = revision + 1 WHERE node_id = ?1",
                    )
                    .and_then(|mut s| s.execute([node_id]))
                    .map_err(&doing)?;
            }
        }
        Ok(())
    }
}
