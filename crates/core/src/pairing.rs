//! Pairing: how pending requests come, merge, are decided and expire, and what a decision does
//! to a device's record. Pure: the gateway hands in records and the time, and stores what comes out.

use std::net::IpAddr;

use clawgate_protocol::{DeviceId, PairingRequestId, Role, Scope, ScopeSet};

use crate::{
    authz::{Basis, Grant, covers},
    node::Surface,
    peer,
};

/// How long a pending request lives, milliseconds.
pub const PENDING_TTL_MS: i64 = 300_000;
/// How long the replaced token of a device that rotates its own lives at most, milliseconds.
pub const OLD_TOKEN_TTL_MS: i64 = 300_000;
/// Pending requests kept at most, so that a flood of invented devices cannot grow without bound.
pub const PENDING_MAX: usize = 256;
/// Pending requests of one address at most, so that a flood from there crowds out itself.
pub const PENDING_PER_ADDRESS_MAX: usize = 32;

/// What a device says about itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// A name for people.
    pub display_name: Option<String>,
    /// Platform as sent.
    pub platform: Option<String>,
    /// Device family as sent.
    pub device_family: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Client mode.
    pub client_mode: String,
    /// Where from, absent for direct loopback.
    pub remote_ip: Option<String>,
    /// What a node declares. Whoever approves the node approves this.
    pub surface: Surface,
}

/// A request that waits for a person. One per (device, role).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its id.
    pub request_id: PairingRequestId,
    /// The device that asks.
    pub device_id: DeviceId,
    /// Its key, base64url.
    pub public_key: String,
    /// Role asked for.
    pub role: Role,
    /// Scopes asked for.
    pub scopes: ScopeSet,
    /// What it says about itself.
    pub claims: Claims,
    /// Whether the device is paired already.
    pub is_repair: bool,
    /// When it last asked, milliseconds.
    pub asked_at_ms: i64,
}

/// Whether the time of a request is over. One that was asked later than now by as much is of a clock
/// that went back since; it would wait for as long as that went.
pub fn is_over(asked_at_ms: i64, now_ms: i64) -> bool {
    asked_at_ms.abs_diff(now_ms) >= PENDING_TTL_MS.unsigned_abs()
}

impl Pending {
    /// Whether its time is over.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        is_over(self.asked_at_ms, now_ms)
    }

    /// Where it came from, as far as one caller can choose: an address, or the network of one.
    fn network(&self) -> Option<IpAddr> {
        let address = self.claims.remote_ip.as_deref()?.parse().ok()?;
        Some(peer::network(address))
    }
}

/// A device token. The secret is derived from the serial and a key, see `proof::device_token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceToken {
    /// Role it is for.
    pub role: Role,
    /// What it carries.
    pub scopes: ScopeSet,
    /// Input of the derivation; a new one makes a new token.
    pub serial: String,
    /// The replaced token's serial, while it still lives.
    pub old_serial: Option<String>,
    /// When the replaced token dies at the latest, milliseconds.
    pub old_until_ms: Option<i64>,
    /// When the role first got a token, milliseconds.
    pub created_at_ms: i64,
    /// When it was last replaced.
    pub rotated_at_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
    /// When it was last used.
    pub last_used_at_ms: Option<i64>,
}

/// A role that was approved for a device, with what was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// The role.
    pub role: Role,
    /// The scopes approved for it. Tokens lie within them.
    pub scopes: ScopeSet,
}

/// A paired device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub device_id: DeviceId,
    /// Its key, base64url.
    pub public_key: String,
    /// What it said about itself; platform and family are pinned once given.
    pub claims: Claims,
    /// What was approved, a role at most once.
    pub approved: Vec<Approved>,
    /// Its tokens, one per role at most.
    pub tokens: Vec<DeviceToken>,
    /// Whether the last approval was without a person.
    pub silently: bool,
    /// When it was first paired, milliseconds.
    pub created_at_ms: i64,
    /// When it was last approved, milliseconds.
    pub approved_at_ms: i64,
}

impl Device {
    /// What was approved for a role.
    pub fn approved_for(&self, role: Role) -> Option<&ScopeSet> {
        self.approved
            .iter()
            .find(|approved| approved.role == role)
            .map(|approved| &approved.scopes)
    }

    /// The token of a role, revoked or not.
    pub fn token(&self, role: Role) -> Option<&DeviceToken> {
        self.tokens.iter().find(|token| token.role == role)
    }

    /// Whether claimed platform and family are the approved ones; what was never given pins nothing.
    pub fn is_pinned_to(&self, claims: &Claims) -> bool {
        let same = |stored: &Option<String>, claimed: &Option<String>| {
            let pin = |text: &Option<String>| {
                clawgate_protocol::proof::pinned(text.as_deref().unwrap_or_default())
            };
            pin(stored).is_empty() || pin(stored) == pin(claimed)
        };
        same(&self.claims.platform, &claims.platform)
            && same(&self.claims.device_family, &claims.device_family)
    }

    /// Everything that it holds for a role, or for all of them: what was approved, and what its
    /// tokens carry.
    pub fn held(&self, role: Option<Role>) -> ScopeSet {
        let meant = |one: Role| role.is_none_or(|role| role == one);
        let approved = self.approved.iter().filter(|a| meant(a.role));
        let tokens = self.tokens.iter().filter(|t| meant(t.role));
        approved
            .map(|approved| &approved.scopes)
            .chain(tokens.map(|token| &token.scopes))
            .fold(ScopeSet::EMPTY, |all, scopes| all.union(scopes))
    }

    /// Every scope approved in any role, in order of approval.
    pub fn all_scopes(&self) -> ScopeSet {
        self.approved
            .iter()
            .fold(ScopeSet::EMPTY, |all, approved| all.union(&approved.scopes))
    }
}

/// A request as it comes out of a connect.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The proven device.
    pub device_id: &'a DeviceId,
    /// Its key.
    pub public_key: &'a str,
    /// Role asked for.
    pub role: Role,
    /// Scopes asked for.
    pub scopes: &'a ScopeSet,
    /// What it says about itself.
    pub claims: &'a Claims,
    /// Whether it is paired already.
    pub is_repair: bool,
}

/// What asking does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asking {
    /// A new request, to be announced.
    New(Pending),
    /// The device asked before and wants no more than then: same id, later time.
    Again(Pending),
    /// The device asked before and wants more now: the old request is rejected, a new one announced,
    /// so that nobody approves more than was shown.
    Replaces {
        /// The request that is closed.
        old: PairingRequestId,
        /// The request that is announced.
        new: Pending,
    },
}

/// Files a request, or finds the one that is there.
pub fn ask(
    existing: Option<&Pending>,
    asked: &Asked<'_>,
    new_id: PairingRequestId,
    now_ms: i64,
) -> Asking {
    let fresh = |request_id, scopes| Pending {
        request_id,
        device_id: asked.device_id.clone(),
        public_key: asked.public_key.to_owned(),
        role: asked.role,
        scopes,
        claims: asked.claims.clone(),
        is_repair: asked.is_repair,
        asked_at_ms: now_ms,
    };
    match existing.filter(|pending| !pending.is_expired(now_ms)) {
        None => Asking::New(fresh(new_id, asked.scopes.clone())),
        Some(pending)
            if pending.scopes.covers_all(asked.scopes)
                && pending.claims.surface.covers(&asked.claims.surface)
                && pending.public_key == asked.public_key =>
        {
            Asking::Again(fresh(pending.request_id.clone(), pending.scopes.clone()))
        }
        Some(pending) => Asking::Replaces {
            old: pending.request_id.clone(),
            new: fresh(new_id, pending.scopes.union(asked.scopes)),
        },
    }
}

/// Which of the waiting requests has to go for a new one. Who asks much makes room first: the oldest
/// of the same address, and only where that address has none the oldest of the one that has most.
pub fn makes_room<'a>(waiting: &'a [Pending], new: &Pending) -> Option<&'a Pending> {
    let others = || {
        let same =
            |pending: &&Pending| pending.device_id == new.device_id && pending.role == new.role;
        waiting.iter().filter(move |pending| !same(pending))
    };
    let of = |network: Option<IpAddr>| others().filter(move |pending| pending.network() == network);
    let full = others().count() >= PENDING_MAX;
    let own = of(new.network()).count();
    let crowded = if own >= PENDING_PER_ADDRESS_MAX || (full && own > 0) {
        new.network()
    } else if full {
        others()
            .map(Pending::network)
            .max_by_key(|network| of(*network).count())?
    } else {
        return None;
    };
    of(crowded).min_by_key(|pending| pending.asked_at_ms)
}

/// Why a decision about a device is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairingError {
    /// No such pending request, or its time is over.
    UnknownRequest,
    /// No such device, or not with that role.
    UnknownDevice,
    /// The caller does not hold this scope itself.
    NotCovered(Scope),
    /// Only an administrator may approve a node.
    NodeNeedsAdmin,
    /// The scopes go beyond what was approved for the device.
    BeyondApproved(Scope),
}

/// Whether a caller may approve a request, for a device that is as `known` before and as `after`
/// afterwards.
///
/// # Errors
/// The caller must cover every requested scope itself; a node needs an administrator. Where the
/// device claims another platform or family than was approved, the approval brings back everything
/// that it held, and the caller must cover all of that.
pub fn may_approve(
    caller: &Grant,
    pending: &Pending,
    known: Option<&Device>,
    after: &Device,
) -> Result<(), PairingError> {
    covers(caller, &pending.scopes).map_err(PairingError::NotCovered)?;
    let pins_anew = known.is_some_and(|device| {
        device.public_key == pending.public_key && !device.is_pinned_to(&pending.claims)
    });
    if pins_anew {
        covers(caller, &after.held(None)).map_err(PairingError::NotCovered)?;
    }
    let makes_a_node =
        pending.role == Role::Node || (pins_anew && after.approved_for(Role::Node).is_some());
    if makes_a_node && !caller.scopes().covers(&Scope::ADMIN) {
        return Err(PairingError::NodeNeedsAdmin);
    }
    Ok(())
}

/// The device after an approval: roles and scopes are unions. The role's token stays and widens, so
/// that the device is not cut off by getting more; a revoked one is issued anew. It carries what it
/// carried and what was approved now, not all that was ever approved, and a revoked one carried
/// nothing: an approver revives no more than they were shown.
pub fn approve(
    device: Option<&Device>,
    pending: &Pending,
    serial: String,
    silently: bool,
    now_ms: i64,
) -> Device {
    // A record under another key is another device's: nothing of it carries over.
    let known = device.filter(|device| device.public_key == pending.public_key);
    let mut device = known.cloned().unwrap_or_else(|| Device {
        device_id: pending.device_id.clone(),
        public_key: pending.public_key.clone(),
        claims: pending.claims.clone(),
        approved: Vec::new(),
        tokens: Vec::new(),
        silently,
        created_at_ms: now_ms,
        approved_at_ms: now_ms,
    });
    device.claims = pending.claims.clone();
    device.silently = silently;
    device.approved_at_ms = now_ms;
    let revoked = device
        .token(pending.role)
        .is_some_and(|token| token.revoked_at_ms.is_some());
    let approved = match device.approved.iter_mut().find(|a| a.role == pending.role) {
        Some(approved) => {
            if revoked {
                approved.scopes = ScopeSet::EMPTY;
            }
            approved.scopes = approved.scopes.union(&pending.scopes);
            approved.scopes.clone()
        }
        None => {
            device.approved.push(Approved {
                role: pending.role,
                scopes: pending.scopes.clone(),
            });
            pending.scopes.clone()
        }
    };
    let living = device
        .tokens
        .iter_mut()
        .find(|token| token.role == pending.role && token.revoked_at_ms.is_none());
    match living {
        Some(token) => token.scopes = token.scopes.union(&pending.scopes),
        None => issue_token(&mut device, pending.role, approved, serial, now_ms),
    }
    device
}

/// Gives a role a new token over `scopes`, at once and without grace.
pub fn issue_token(device: &mut Device, role: Role, scopes: ScopeSet, serial: String, now_ms: i64) {
    match device.tokens.iter_mut().find(|token| token.role == role) {
        Some(token) => {
            token.scopes = scopes;
            token.serial = serial;
            token.old_serial = None;
            token.old_until_ms = None;
            token.rotated_at_ms = Some(now_ms);
            token.revoked_at_ms = None;
        }
        None => device.tokens.push(DeviceToken {
            role,
            scopes,
            serial,
            old_serial: None,
            old_until_ms: None,
            created_at_ms: now_ms,
            rotated_at_ms: None,
            revoked_at_ms: None,
            last_used_at_ms: None,
        }),
    }
}

/// The device after a rotation. A device that rotates its own token keeps the last one that it used
/// until a successor is first used, or for five minutes: an answer may be lost, and the next one
/// too. By anyone else it is immediate.
///
/// # Errors
/// Unknown role or revoked token, scopes beyond the approved ones, scopes that the caller lacks.
pub fn rotate(
    device: &Device,
    role: Role,
    scopes: Option<&ScopeSet>,
    caller: &Grant,
    by_itself: bool,
    serial: String,
    now_ms: i64,
) -> Result<Device, PairingError> {
    let mut device = device.clone();
    let approved = device
        .approved_for(role)
        .ok_or(PairingError::UnknownDevice)?
        .clone();
    let token = device
        .tokens
        .iter_mut()
        .find(|token| token.role == role && token.revoked_at_ms.is_none())
        .ok_or(PairingError::UnknownDevice)?;
    let target = scopes.cloned().unwrap_or_else(|| token.scopes.clone());
    if let Some(beyond) = target.iter().find(|scope| !approved.covers(scope)) {
        return Err(PairingError::BeyondApproved(beyond.clone()));
    }
    covers(caller, &target).map_err(PairingError::NotCovered)?;
    // While an old serial lives, its successor was never used: that one is not worth keeping.
    let old_lives = token.old_until_ms.is_some_and(|until| now_ms < until);
    let last_used = token.old_serial.take().filter(|_| old_lives);
    token.old_serial = by_itself.then(|| last_used.unwrap_or_else(|| token.serial.clone()));
    token.old_until_ms = by_itself.then_some(now_ms + OLD_TOKEN_TTL_MS);
    token.serial = serial;
    token.scopes = target;
    token.rotated_at_ms = Some(now_ms);
    Ok(device)
}

/// The device after a revocation.
///
/// # Errors
/// Unknown role.
pub fn revoke(device: &Device, role: Role, now_ms: i64) -> Result<Device, PairingError> {
    let mut device = device.clone();
    let token = device
        .tokens
        .iter_mut()
        .find(|token| token.role == role)
        .ok_or(PairingError::UnknownDevice)?;
    token.revoked_at_ms = Some(now_ms);
    token.old_serial = None;
    token.old_until_ms = None;
    Ok(device)
}

/// Whether a caller may decide a request of a device: one that is authenticated by a device token
/// and is no administrator may act on its own device only.
pub fn may_manage(caller: &Grant, own_device: Option<&DeviceId>, device: &DeviceId) -> bool {
    !caller.has_device_token()
        || caller.scopes().covers(&Scope::ADMIN)
        || own_device == Some(device)
}

/// Whether a caller may take a role's token from a device or replace it, or remove the device
/// (`role` absent). Taking away needs no less authority than giving. A device may always do it to
/// itself. Whoever holds this machine's secret or key may remove what the scopes cover that it could
/// have asked for (`for_the_asking`, which is `gateway.auth.deviceless.loopback`; a local key opens
/// all): a client that asked for pairing alone did so out of thrift.
///
/// # Errors
/// The scope that the caller lacks.
pub fn may_end(
    caller: &Grant,
    own_device: Option<&DeviceId>,
    device: &Device,
    role: Option<Role>,
    for_the_asking: &ScopeSet,
) -> Result<(), PairingError> {
    if own_device == Some(&device.device_id) {
        return Ok(());
    }
    if !may_manage(caller, own_device, &device.device_id) {
        return Err(PairingError::NotCovered(Scope::ADMIN));
    }
    let is_node = match role {
        Some(role) => role == Role::Node,
        None => device.approved_for(Role::Node).is_some(),
    };
    let mut needed = device.held(role);
    if is_node {
        needed.insert(Scope::ADMIN);
    }
    let could_ask = role.is_none()
        && match caller.basis() {
            Basis::LocalProof => true,
            Basis::SharedSecretLoopback | Basis::OpenLoopback => {
                needed.iter().all(|scope| for_the_asking.covers(scope))
            }
            _ => false,
        };
    if could_ask {
        return Ok(());
    }
    covers(caller, &needed).map_err(PairingError::NotCovered)
}
