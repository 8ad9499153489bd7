//! Owner of the device book: what is approved for whom, and who waits.
//!
//! The database is the truth. A change is decided by `core::pairing` inside the write
//! transaction, on what the database holds at that moment; after the commit the book in memory
//! follows, then the events go out, then the caller is answered. Connects read the book only.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use clawgate_core::{
    DeviceId, PairingRequestId, Role, Scope, ScopeSet,
    authz::{Grant, PairingReason, Record},
    pairing::{
        self, Asked, Asking, Claims, Device, PENDING_MAX, PENDING_TTL_MS, PairingError, Pending,
    },
};
use clawgate_protocol::{
    device::{PairList, PairedRecord, PendingRecord, TokenRecord},
    event::Event,
    frame::to_json,
};
use clawgate_store::{Store, StoreError};
use serde_json::json;

use crate::{
    clock::now_ms,
    hub::{Hub, Principal},
    state::{Keys, random_text},
};

/// Close code of sessions whose authority ended, as wire 4 has it.
pub(crate) const AUTHORITY_CHANGED: u16 = 4001;

/// Why a change is refused, or failed.
#[derive(Debug)]
pub(crate) enum ChangeError {
    /// Decided against.
    Refused(PairingError),
    /// The database.
    Store(StoreError),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PairingError> for ChangeError {
    fn from(error: PairingError) -> Self {
        Self::Refused(error)
    }
}

/// A device token as it is handed to the device.
#[derive(Clone)]
pub(crate) struct IssuedToken {
    pub token: String,
    pub scopes: ScopeSet,
    pub issued_at_ms: i64,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// A proven device that connects.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub device_id: DeviceId,
    pub public_key: String,
    pub role: Role,
    pub claims: Claims,
}

#[derive(Debug, Default)]
struct Book {
    devices: HashMap<DeviceId, Arc<Device>>,
    /// Devices that wait, by role. Only whether they do: the request itself is in the database.
    waiting: HashMap<(DeviceId, Role), i64>,
}

/// Handle of the device book.
#[derive(Clone, Debug)]
pub(crate) struct Pairings {
    store: Store,
    hub: Hub,
    keys: Arc<Keys>,
    book: Arc<RwLock<Book>>,
}

impl Pairings {
    /// Reads the book from the database.
    pub(crate) fn open(store: &Store, hub: &Hub, keys: &Arc<Keys>) -> Result<Self, StoreError> {
        let (devices, waiting) =
            store.read_blocking(|db| Ok((db.devices()?, db.pairing_requests()?)))?;
        let book = Book {
            devices: devices
                .into_iter()
                .map(|device| (device.device_id.clone(), Arc::new(device)))
                .collect(),
            waiting: waiting
                .into_iter()
                .map(|pending| ((pending.device_id, pending.role), pending.asked_at_ms))
                .collect(),
        };
        Ok(Self {
            store: store.clone(),
            hub: hub.clone(),
            keys: Arc::clone(keys),
            book: Arc::new(RwLock::new(book)),
        })
    }

    fn device(&self, id: &DeviceId) -> Option<Arc<Device>> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        book.devices.get(id).cloned()
    }

    fn remember(&self, device: &Device) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        book.devices
            .insert(device.device_id.clone(), Arc::new(device.clone()));
    }

    fn set_waiting(&self, id: &DeviceId, role: Role, since_ms: Option<i64>) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        let key = (id.clone(), role);
        match since_ms {
            Some(at) => {
                book.waiting.insert(key, at);
                if book.waiting.len() > 2 * PENDING_MAX {
                    book.waiting.retain(|_, asked| at - *asked < PENDING_TTL_MS);
                }
            }
            None => {
                book.waiting.remove(&key);
            }
        }
    }

    /// What is known about an arriving device.
    pub(crate) fn record(&self, arrival: &Arrival) -> Record {
        let waits = {
            let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
            book.waiting
                .get(&(arrival.device_id.clone(), arrival.role))
                .is_some_and(|asked| now_ms() - asked < PENDING_TTL_MS)
        };
        record_of(self.device(&arrival.device_id).as_deref(), arrival, waits)
    }

    /// What a presented device token carries, if it is this device's living token for the role.
    /// Using the successor of a rotated token ends the old one.
    pub(crate) async fn check_token(&self, arrival: &Arrival, presented: &str) -> Option<ScopeSet> {
        let device = self.device(&arrival.device_id)?;
        if device.public_key != arrival.public_key {
            return None;
        }
        let token = device.token(arrival.role)?;
        let approved = device.approved_for(arrival.role)?;
        if token.revoked_at_ms.is_some() {
            return None;
        }
        let is = |serial: &str| {
            let good =
                self.keys
                    .device_token(arrival.device_id.as_str(), arrival.role.as_str(), serial);
            clawgate_core::proof::same(&good, presented)
        };
        let held = token.scopes.covered_by(approved);
        if is(&token.serial) {
            if token.old_serial.is_some() {
                self.end_old_token(&device, arrival.role).await;
            }
            return Some(held);
        }
        let old_lives = token.old_until_ms.is_some_and(|until| now_ms() < until);
        match &token.old_serial {
            Some(old) if old_lives && is(old) => Some(held),
            _ => None,
        }
    }

    async fn end_old_token(&self, device: &Device, role: Role) {
        let id = device.device_id.clone();
        let ended = self
            .store
            .write("ending an old device token", move |tx| {
                tx.end_old_device_token(&id, role)?;
                tx.read().device(&id)
            })
            .await;
        match ended {
            Ok(Some(device)) => self.remember(&device),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "an old device token lives on until its time is over");
            }
        }
    }

    /// The living token of a device for a role, issued if the role has none.
    pub(crate) async fn token_of(
        &self,
        arrival: &Arrival,
    ) -> Result<Option<IssuedToken>, StoreError> {
        let Some(device) = self.device(&arrival.device_id) else {
            return Ok(None);
        };
        if let Some(issued) = self.issued(&device, arrival.role) {
            return Ok(Some(issued));
        }
        if device.approved_for(arrival.role).is_none() {
            return Ok(None);
        }
        let (id, role, serial) = (arrival.device_id.clone(), arrival.role, random_text(24));
        let now = now_ms();
        let device = self
            .store
            .write("issuing a device token", move |tx| {
                let Some(mut device) = tx.read().device(&id)? else {
                    return Ok(None);
                };
                if device.token(role).is_none()
                    && let Some(scopes) = device.approved_for(role).cloned()
                {
                    pairing::issue_token(&mut device, role, scopes, serial, now);
                    tx.keep_device(&device)?;
                }
                Ok::<_, StoreError>(Some(device))
            })
            .await?;
        Ok(device.and_then(|device| {
            self.remember(&device);
            self.issued(&device, role)
        }))
    }

    fn issued(&self, device: &Device, role: Role) -> Option<IssuedToken> {
        let token = device.token(role)?;
        if token.revoked_at_ms.is_some() {
            return None;
        }
        Some(IssuedToken {
            token: self
                .keys
                .device_token(device.device_id.as_str(), role.as_str(), &token.serial),
            scopes: token.scopes.clone(),
            issued_at_ms: token.rotated_at_ms.unwrap_or(token.created_at_ms),
        })
    }

    /// Approves an arriving device without asking, once `core::authz::grant` said so. Two connects
    /// of the same device at once approve it once.
    pub(crate) async fn approve_silently(
        &self,
        arrival: &Arrival,
        scopes: &ScopeSet,
        reason: PairingReason,
    ) -> Result<(), StoreError> {
        let now = now_ms();
        let pending = Pending {
            request_id: PairingRequestId::new(uuid::Uuid::new_v4().to_string()),
            device_id: arrival.device_id.clone(),
            public_key: arrival.public_key.clone(),
            role: arrival.role,
            scopes: scopes.clone(),
            claims: arrival.claims.clone(),
            is_repair: false,
            asked_at_ms: now,
        };
        let (arrival_in, asked, serial) = (arrival.clone(), pending.clone(), random_text(24));
        let (device, changed) = self
            .store
            .write("pairing a device without asking", move |tx| {
                let known = tx.read().device(&asked.device_id)?;
                if let Some(device) = &known
                    && let Record::Paired {
                        for_role: true,
                        scopes,
                        pinned: true,
                    } = record_of(Some(device), &arrival_in, false)
                    && scopes.covers_all(&asked.scopes)
                {
                    return Ok((device.clone(), false));
                }
                let device = pairing::approve(known.as_ref(), &asked, serial, true, now);
                tx.keep_device(&device)?;
                if let Some(waiting) = tx.read().pairing_request_of(&asked.device_id, asked.role)? {
                    tx.drop_pairing_request(&waiting.request_id)?;
                }
                let detail = json!({
                    "device": asked.device_id, "role": asked.role, "scopes": asked.scopes,
                    "reason": reason.as_str(),
                });
                tx.audit(
                    "device.pair.silent",
                    "shared secret on this machine",
                    &detail.to_string(),
                    now,
                )?;
                Ok::<_, StoreError>((device, true))
            })
            .await?;
        self.remember(&device);
        self.set_waiting(&arrival.device_id, arrival.role, None);
        if changed {
            tracing::info!(
                device = %arrival.device_id, role = %arrival.role, scopes = %scopes.joined(),
                reason = reason.as_str(), "device paired without asking"
            );
            self.publish_resolved(&pending.request_id, &pending.device_id, "approved", now);
        }
        Ok(())
    }

    /// Files a request for a person to decide. One pending record per device and role.
    pub(crate) async fn ask(
        &self,
        arrival: &Arrival,
        scopes: &ScopeSet,
    ) -> Result<PairingRequestId, StoreError> {
        let now = now_ms();
        let new_id = PairingRequestId::new(uuid::Uuid::new_v4().to_string());
        let (arrival_in, scopes) = (arrival.clone(), scopes.clone());
        let asking = self
            .store
            .write("filing a pairing request", move |tx| {
                let is_repair = tx.read().device(&arrival_in.device_id)?.is_some();
                let asked = Asked {
                    device_id: &arrival_in.device_id,
                    public_key: &arrival_in.public_key,
                    role: arrival_in.role,
                    scopes: &scopes,
                    claims: &arrival_in.claims,
                    is_repair,
                };
                let existing = tx
                    .read()
                    .pairing_request_of(&arrival_in.device_id, arrival_in.role)?;
                let asking = pairing::ask(existing.as_ref(), &asked, new_id, now);
                let (Asking::New(pending)
                | Asking::Again(pending)
                | Asking::Replaces { new: pending, .. }) = &asking;
                tx.expire_pairing_requests(now - PENDING_TTL_MS)?;
                tx.keep_pairing_request(pending, PENDING_MAX)?;
                Ok::<_, StoreError>(asking)
            })
            .await?;
        self.set_waiting(&arrival.device_id, arrival.role, Some(now));
        let pending = match asking {
            Asking::Again(pending) => return Ok(pending.request_id),
            Asking::New(pending) => pending,
            Asking::Replaces { old, new } => {
                self.publish_resolved(&old, &new.device_id, "rejected", now);
                new
            }
        };
        tracing::info!(
            device = %pending.device_id, role = %pending.role, scopes = %pending.scopes.joined(),
            request = %pending.request_id, "device asks to be paired"
        );
        self.hub.publish(
            Event::DevicePairRequested,
            &to_json(&pending_record(&pending)),
            None,
        );
        Ok(pending.request_id)
    }

    fn publish_resolved(&self, id: &PairingRequestId, device: &DeviceId, decision: &str, now: i64) {
        let payload = json!({
            "requestId": id, "deviceId": device, "decision": decision, "ts": now,
        });
        self.hub
            .publish(Event::DevicePairResolved, &payload.to_string(), None);
    }

    /// Pending and paired devices, newest first.
    pub(crate) async fn list(&self) -> Result<PairList, StoreError> {
        let now = now_ms();
        let (devices, pending) = self
            .store
            .read(|db| Ok((db.devices()?, db.pairing_requests()?)))
            .await?;
        Ok(PairList {
            pending: pending
                .iter()
                .filter(|pending| !pending.is_expired(now))
                .map(pending_record)
                .collect(),
            paired: devices
                .iter()
                .map(|device| paired_record(device, self.hub.has_device(&device.device_id)))
                .collect(),
        })
    }

    /// Approves a request on behalf of a caller.
    pub(crate) async fn approve(
        &self,
        caller: &Principal,
        id: &PairingRequestId,
    ) -> Result<PairedRecord, ChangeError> {
        let now = now_ms();
        let (grant, actor, own) = by(caller);
        let (wanted, serial) = (id.clone(), random_text(24));
        let (device, role) = self
            .store
            .write("approving a device", move |tx| {
                let pending = tx
                    .read()
                    .pairing_request(&wanted)?
                    .filter(|pending| !pending.is_expired(now))
                    .ok_or(PairingError::UnknownRequest)?;
                if !pairing::may_manage(&grant, own.as_ref(), &pending.device_id) {
                    return Err(ChangeError::Refused(PairingError::NotCovered(Scope::ADMIN)));
                }
                pairing::may_approve(&grant, &pending)?;
                let known = tx.read().device(&pending.device_id)?;
                let device = pairing::approve(known.as_ref(), &pending, serial, false, now);
                tx.keep_device(&device)?;
                tx.drop_pairing_request(&wanted)?;
                let detail = json!({
                    "request": wanted, "device": pending.device_id, "role": pending.role,
                    "scopes": pending.scopes,
                });
                tx.audit("device.pair.approve", &actor, &detail.to_string(), now)?;
                Ok::<_, ChangeError>((device, pending.role))
            })
            .await?;
        self.remember(&device);
        self.set_waiting(&device.device_id, role, None);
        self.publish_resolved(id, &device.device_id, "approved", now);
        Ok(paired_record(
            &device,
            self.hub.has_device(&device.device_id),
        ))
    }

    /// Rejects a request.
    pub(crate) async fn reject(
        &self,
        caller: &Principal,
        id: &PairingRequestId,
    ) -> Result<DeviceId, ChangeError> {
        let now = now_ms();
        let (grant, actor, own) = by(caller);
        let wanted = id.clone();
        let (device_id, role) = self
            .store
            .write("rejecting a device", move |tx| {
                let pending = tx
                    .read()
                    .pairing_request(&wanted)?
                    .filter(|pending| !pending.is_expired(now))
                    .ok_or(PairingError::UnknownRequest)?;
                if !pairing::may_manage(&grant, own.as_ref(), &pending.device_id) {
                    return Err(ChangeError::Refused(PairingError::NotCovered(Scope::ADMIN)));
                }
                tx.drop_pairing_request(&wanted)?;
                let detail = json!({"request": wanted, "device": pending.device_id});
                tx.audit("device.pair.reject", &actor, &detail.to_string(), now)?;
                Ok::<_, ChangeError>((pending.device_id, pending.role))
            })
            .await?;
        self.set_waiting(&device_id, role, None);
        self.publish_resolved(id, &device_id, "rejected", now);
        Ok(device_id)
    }

    /// Removes a device. Its sessions are over when this returns.
    pub(crate) async fn remove(
        &self,
        caller: &Principal,
        id: &DeviceId,
    ) -> Result<(), ChangeError> {
        let now = now_ms();
        let (grant, actor, own) = by(caller);
        let wanted = id.clone();
        self.store
            .write("removing a device", move |tx| {
                if tx.read().device(&wanted)?.is_none() {
                    return Err(ChangeError::Refused(PairingError::UnknownDevice));
                }
                if !pairing::may_manage(&grant, own.as_ref(), &wanted) {
                    return Err(ChangeError::Refused(PairingError::NotCovered(Scope::ADMIN)));
                }
                tx.remove_device(&wanted)?;
                tx.audit(
                    "device.pair.remove",
                    &actor,
                    &json!({"device": wanted}).to_string(),
                    now,
                )?;
                Ok(())
            })
            .await?;
        {
            let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
            book.devices.remove(id);
            book.waiting.retain(|(device, _), _| device != id);
        }
        self.end_sessions(caller, id, None, "device removed");
        Ok(())
    }

    /// Replaces a device's token. Immediate, except where the device does it itself.
    pub(crate) async fn rotate(
        &self,
        caller: &Principal,
        id: &DeviceId,
        role: Role,
        scopes: Option<ScopeSet>,
    ) -> Result<IssuedToken, ChangeError> {
        let now = now_ms();
        let (grant, actor, own) = by(caller);
        let by_itself = own.as_ref() == Some(id) && grant.role() == role;
        let (wanted, serial) = (id.clone(), random_text(24));
        let device = self
            .store
            .write("rotating a device token", move |tx| {
                let device = tx
                    .read()
                    .device(&wanted)?
                    .ok_or(PairingError::UnknownDevice)?;
                if !pairing::may_manage(&grant, own.as_ref(), &wanted) {
                    return Err(ChangeError::Refused(PairingError::NotCovered(Scope::ADMIN)));
                }
                let device = pairing::rotate(
                    &device,
                    role,
                    scopes.as_ref(),
                    &grant,
                    by_itself,
                    serial,
                    now,
                )?;
                tx.keep_device(&device)?;
                let detail = json!({"device": wanted, "role": role, "byItself": by_itself});
                tx.audit("device.token.rotate", &actor, &detail.to_string(), now)?;
                Ok::<_, ChangeError>(device)
            })
            .await?;
        self.remember(&device);
        if !by_itself {
            self.end_sessions(caller, id, Some(role), "gateway auth changed");
        }
        self.issued(&device, role)
            .ok_or(ChangeError::Refused(PairingError::UnknownDevice))
    }

    /// Revokes a device's token. Its sessions are over when this returns.
    pub(crate) async fn revoke(
        &self,
        caller: &Principal,
        id: &DeviceId,
        role: Role,
    ) -> Result<i64, ChangeError> {
        let now = now_ms();
        let (grant, actor, own) = by(caller);
        let wanted = id.clone();
        let device = self
            .store
            .write("revoking a device token", move |tx| {
                let device = tx
                    .read()
                    .device(&wanted)?
                    .ok_or(PairingError::UnknownDevice)?;
                if !pairing::may_manage(&grant, own.as_ref(), &wanted) {
                    return Err(ChangeError::Refused(PairingError::NotCovered(Scope::ADMIN)));
                }
                let device = pairing::revoke(&device, role, now)?;
                tx.keep_device(&device)?;
                let detail = json!({"device": wanted, "role": role});
                tx.audit("device.token.revoke", &actor, &detail.to_string(), now)?;
                Ok::<_, ChangeError>(device)
            })
            .await?;
        self.remember(&device);
        self.end_sessions(caller, id, Some(role), "gateway auth changed");
        Ok(now)
    }

    /// Ends the sessions of a device. The caller's own goes on until it has its answer; its
    /// connection sees to that.
    fn end_sessions(&self, caller: &Principal, id: &DeviceId, role: Option<Role>, why: &str) {
        let ended = self
            .hub
            .revoke(AUTHORITY_CHANGED, why, Some(&caller.conn_id), |principal| {
                principal.device_id.as_ref() == Some(id)
                    && role.is_none_or(|role| principal.grant.role() == role)
            });
        tracing::info!(device = %id, sessions = ended, why, "sessions ended");
    }
}

fn by(caller: &Principal) -> (Grant, String, Option<DeviceId>) {
    (
        caller.grant.clone(),
        caller.actor(),
        caller.device_id.clone(),
    )
}

/// What a device's record means for an arrival. A record under another key is another device's.
fn record_of(device: Option<&Device>, arrival: &Arrival, waits: bool) -> Record {
    let unknown = if waits {
        Record::Pending
    } else {
        Record::Unknown
    };
    let Some(device) = device.filter(|device| device.public_key == arrival.public_key) else {
        return unknown;
    };
    if device
        .token(arrival.role)
        .is_some_and(|token| token.revoked_at_ms.is_some())
    {
        return Record::Revoked;
    }
    let approved = device.approved_for(arrival.role);
    Record::Paired {
        for_role: approved.is_some(),
        scopes: approved.cloned().unwrap_or_default(),
        pinned: device.is_pinned_to(&arrival.claims),
    }
}

fn pending_record(pending: &Pending) -> PendingRecord {
    let claims = &pending.claims;
    PendingRecord {
        request_id: pending.request_id.to_string(),
        device_id: pending.device_id.to_string(),
        public_key: pending.public_key.clone(),
        display_name: claims.display_name.clone(),
        platform: claims.platform.clone(),
        device_family: claims.device_family.clone(),
        client_id: Some(claims.client_id.clone()),
        client_mode: Some(claims.client_mode.clone()),
        role: pending.role.to_string(),
        roles: vec![pending.role.to_string()],
        scopes: pending.scopes.clone(),
        remote_ip: claims.remote_ip.clone(),
        silent: false,
        is_repair: pending.is_repair,
        ts: pending.asked_at_ms,
    }
}

fn paired_record(device: &Device, connected: bool) -> PairedRecord {
    let claims = &device.claims;
    let scopes = device.all_scopes();
    let role = device
        .approved
        .first()
        .map_or(Role::Operator, |approved| approved.role);
    PairedRecord {
        device_id: device.device_id.to_string(),
        public_key: device.public_key.clone(),
        display_name: claims.display_name.clone(),
        platform: claims.platform.clone(),
        device_family: claims.device_family.clone(),
        client_id: Some(claims.client_id.clone()),
        client_mode: Some(claims.client_mode.clone()),
        role: role.to_string(),
        roles: device.approved.iter().map(|a| a.role.to_string()).collect(),
        scopes: (!scopes.is_empty()).then_some(scopes),
        remote_ip: claims.remote_ip.clone(),
        approved_via: Some(if device.silently { "silent" } else { "owner" }.to_owned()),
        created_at_ms: device.created_at_ms,
        approved_at_ms: device.approved_at_ms,
        last_seen_at_ms: None,
        connected: Some(connected),
        tokens: device
            .tokens
            .iter()
            .map(|token| TokenRecord {
                role: token.role.to_string(),
                scopes: token.scopes.sorted(),
                created_at_ms: token.created_at_ms,
                rotated_at_ms: token.rotated_at_ms,
                revoked_at_ms: token.revoked_at_ms,
                last_used_at_ms: token.last_used_at_ms,
            })
            .collect(),
    }
}
