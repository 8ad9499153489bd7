//! Owner of the device book: what is approved for whom, and who waits.
//!
//! The database is the truth. A change is decided by `core::pairing` inside the write
//! transaction, on what the database holds at that moment and for a caller whose authority still
//! stands then. After the commit, and in the order of the commits, the book in memory follows and
//! sessions end; then the events go out, then the caller is answered. Connects read the book only.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use clawgate_core::{
    DeviceId, PairingRequestId, Role, Scope, ScopeSet,
    authz::{PairingReason, Record},
    pairing::{self, Asked, Asking, Claims, Device, PENDING_TTL_MS, PairingError, Pending},
};
use clawgate_protocol::{
    device::{PairList, PairedRecord, PendingRecord, TokenRecord},
    event::Event,
    frame::to_json,
};
use clawgate_store::{Store, StoreError, Tx};
use serde_json::json;

use crate::{
    clock::now_ms,
    hub::{Hub, Link, Principal},
    state::{Keys, random_text},
};

/// Close code of sessions whose authority ended, as wire 4 has it.
pub(crate) const AUTHORITY_CHANGED: u16 = 4001;

/// How often the last use of a token is written down at most, milliseconds.
const NOTE_EVERY_MS: i64 = 60_000;

/// Why a change is refused, or failed.
#[derive(Debug)]
pub(crate) enum ChangeError {
    /// Decided against.
    Refused(PairingError),
    /// The caller's authority ended before its turn came.
    CallerEnded,
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
    /// When the use of a token was last written down; the database need not know every connect.
    noted: HashMap<(DeviceId, Role), i64>,
}

/// What a committed change means for the book.
#[derive(Debug)]
enum BookChange {
    Device(Device),
    Removed(DeviceId),
    Waits(Pending),
    WaitsNoMore(DeviceId, Role),
}

impl Book {
    fn follow(&mut self, change: BookChange) {
        match change {
            BookChange::Device(device) => {
                self.devices
                    .insert(device.device_id.clone(), Arc::new(device));
            }
            BookChange::Removed(id) => {
                self.devices.remove(&id);
                self.waiting.retain(|(device, _), _| *device != id);
                self.noted.retain(|(device, _), _| *device != id);
            }
            BookChange::Waits(pending) => {
                self.waiting
                    .insert((pending.device_id, pending.role), pending.asked_at_ms);
            }
            BookChange::WaitsNoMore(id, role) => {
                self.waiting.remove(&(id, role));
            }
        }
    }
}

/// The changes of one transaction, gathered while it runs.
type Changes = Vec<BookChange>;

/// What became of an approval without a person.
#[derive(Clone, Copy, Debug)]
enum Silently {
    Approved,
    /// Another connect was first, or it needed none.
    WasApproved,
    /// The record is not the one that was judged.
    OnOtherGrounds,
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
            noted: HashMap::new(),
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

    /// Runs a change. What it did to the book is done there after the commit and before the next
    /// one, whoever wakes up first; `then` comes right after it.
    async fn change<T: Send + 'static, E>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&Tx<'_>, &mut Changes) -> Result<T, E> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<StoreError> + Send + 'static,
    {
        let book = Arc::clone(&self.book);
        self.store
            .write_then(
                doing,
                move |tx| {
                    let mut changes = Changes::new();
                    let outcome = act(tx, &mut changes)?;
                    Ok((outcome, changes))
                },
                move |(outcome, changes)| {
                    {
                        let mut book = book.write().unwrap_or_else(PoisonError::into_inner);
                        changes.into_iter().for_each(|change| book.follow(change));
                    }
                    then(&outcome);
                    outcome
                },
            )
            .await
    }

    /// What is known about an arriving device.
    pub(crate) fn record(&self, arrival: &Arrival) -> Record {
        let waits = {
            let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
            book.waiting
                .get(&(arrival.device_id.clone(), arrival.role))
                .is_some_and(|asked| !pairing::is_over(*asked, now_ms()))
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
                self.end_old_token(&device, arrival.role, &token.serial)
                    .await;
            }
        } else {
            let old_lives = token.old_until_ms.is_some_and(|until| now_ms() < until);
            let old = token.old_serial.as_deref().filter(|_| old_lives)?;
            if !is(old) {
                return None;
            }
        }
        self.note_use(&device.device_id, arrival.role);
        Some(held)
    }

    async fn end_old_token(&self, device: &Device, role: Role, serial: &str) {
        let (id, serial) = (device.device_id.clone(), serial.to_owned());
        let ended = self
            .change(
                "ending an old device token",
                move |tx, changes| {
                    tx.end_old_device_token(&id, role, &serial)?;
                    changes.extend(tx.read().device(&id)?.map(BookChange::Device));
                    Ok::<_, StoreError>(())
                },
                |()| {},
            )
            .await;
        if let Err(error) = ended {
            tracing::warn!(%error, "an old device token lives on until its time is over");
        }
    }

    /// Writes down a use, off the caller's path: losing one to a crash loses a minute's precision.
    fn note_use(&self, id: &DeviceId, role: Role) {
        let now = now_ms();
        {
            let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
            let noted = book.noted.entry((id.clone(), role)).or_default();
            if now - *noted < NOTE_EVERY_MS {
                return;
            }
            *noted = now;
        }
        let (store, id) = (self.store.clone(), id.clone());
        tokio::spawn(async move {
            let noted = store
                .write("noting the use of a device token", move |tx| {
                    tx.note_device_token_use(&id, role, now)
                })
                .await;
            if let Err(error) = noted {
                tracing::warn!(%error, "the use of a device token was not noted");
            }
        });
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
            .change(
                "issuing a device token",
                move |tx, changes| {
                    let Some(mut device) = tx.read().device(&id)? else {
                        return Ok(None);
                    };
                    if device.token(role).is_none()
                        && let Some(scopes) = device.approved_for(role).cloned()
                    {
                        pairing::issue_token(&mut device, role, scopes, serial, now);
                        tx.keep_device(&device)?;
                        changes.push(BookChange::Device(device.clone()));
                    }
                    Ok::<_, StoreError>(Some(device))
                },
                |_| {},
            )
            .await?;
        Ok(device.and_then(|device| self.issued(&device, role)))
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

    /// Approves an arriving device without asking, once `core::authz::grant` said so about the
    /// record `judged`. Where the record is another one by now, such as a revoked one, nothing is
    /// approved and every connect that is under way is judged again. Two connects of the same device
    /// at once approve it once.
    pub(crate) async fn approve_silently(
        &self,
        arrival: &Arrival,
        judged: &Record,
        scopes: &ScopeSet,
        reason: PairingReason,
    ) -> Result<(), StoreError> {
        let now = now_ms();
        let asked = Pending {
            request_id: PairingRequestId::new(uuid::Uuid::new_v4().to_string()),
            device_id: arrival.device_id.clone(),
            public_key: arrival.public_key.clone(),
            role: arrival.role,
            scopes: scopes.clone(),
            claims: arrival.claims.clone(),
            is_repair: false,
            asked_at_ms: now,
        };
        let request_id = asked.request_id.clone();
        // Whether it waits for a person is no matter here, and changes by the mere passing of time.
        let judged = match judged {
            Record::Pending => Record::Unknown,
            other => other.clone(),
        };
        let (arriving, serial) = (arrival.clone(), random_text(24));
        let done = self
            .change(
                "pairing a device without asking",
                move |tx, changes| {
                    let known = tx.read().device(&asked.device_id)?;
                    let record = record_of(known.as_ref(), &arriving, false);
                    if let Record::Paired {
                        for_role: true,
                        scopes,
                        pinned: true,
                    } = &record
                        && scopes.covers_all(&asked.scopes)
                    {
                        return Ok(Silently::WasApproved);
                    }
                    if record != judged {
                        // Judged again by what is here, so that one look more is enough.
                        changes.push(match known {
                            Some(device) => BookChange::Device(device),
                            None => BookChange::Removed(asked.device_id),
                        });
                        return Ok(Silently::OnOtherGrounds);
                    }
                    let device = pairing::approve(known.as_ref(), &asked, serial, true, now);
                    tx.keep_device(&device)?;
                    approve_surface(tx, &asked, now)?;
                    if let Some(waiting) =
                        tx.read().pairing_request_of(&asked.device_id, asked.role)?
                    {
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
                    changes.push(BookChange::Device(device));
                    changes.push(BookChange::WaitsNoMore(asked.device_id, asked.role));
                    Ok::<_, StoreError>(Silently::Approved)
                },
                |_| {},
            )
            .await?;
        match done {
            Silently::WasApproved => {}
            Silently::OnOtherGrounds => self.hub.judge_again(),
            Silently::Approved => {
                tracing::info!(
                    device = %arrival.device_id, role = %arrival.role, scopes = %scopes.joined(),
                    reason = reason.as_str(), "device paired without asking"
                );
                self.publish_resolved(&request_id, &arrival.device_id, "approved", now);
            }
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
        let (arriving, scopes) = (arrival.clone(), scopes.clone());
        let (asking, gone) = self
            .change(
                "filing a pairing request",
                move |tx, changes| {
                    let mut gone = expire(tx, now, changes)?;
                    let is_repair = tx.read().device(&arriving.device_id)?.is_some();
                    let asked = Asked {
                        device_id: &arriving.device_id,
                        public_key: &arriving.public_key,
                        role: arriving.role,
                        scopes: &scopes,
                        claims: &arriving.claims,
                        is_repair,
                    };
                    let existing = tx
                        .read()
                        .pairing_request_of(&arriving.device_id, arriving.role)?;
                    let asking = pairing::ask(existing.as_ref(), &asked, new_id, now);
                    let (Asking::New(pending)
                    | Asking::Again(pending)
                    | Asking::Replaces { new: pending, .. }) = &asking;
                    if existing.is_none() {
                        let waiting = tx.read().pairing_requests()?;
                        if let Some(evicted) = pairing::makes_room(&waiting, pending) {
                            tx.drop_pairing_request(&evicted.request_id)?;
                            changes.push(BookChange::WaitsNoMore(
                                evicted.device_id.clone(),
                                evicted.role,
                            ));
                            gone.push(evicted.clone());
                        }
                    }
                    tx.keep_pairing_request(pending)?;
                    changes.push(BookChange::Waits(pending.clone()));
                    Ok::<_, StoreError>((asking, gone))
                },
                |_| {},
            )
            .await?;
        self.publish_gone(&gone, now);
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

    /// Drops the requests whose time is over, and says so.
    pub(crate) async fn expire(&self) -> Result<(), StoreError> {
        let now = now_ms();
        let some_are_over = {
            let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
            book.waiting
                .values()
                .any(|asked| pairing::is_over(*asked, now))
        };
        if some_are_over {
            let gone = self
                .change(
                    "expiring pairing requests",
                    move |tx, changes| expire(tx, now, changes),
                    |_| {},
                )
                .await?;
            self.publish_gone(&gone, now);
        }
        Ok(())
    }

    /// Nobody said yes to these. The wire has no other word for that than `rejected`.
    fn publish_gone(&self, gone: &[Pending], now: i64) {
        for pending in gone {
            self.publish_resolved(&pending.request_id, &pending.device_id, "rejected", now);
        }
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
        caller: &Arc<Link>,
        id: &PairingRequestId,
    ) -> Result<PairedRecord, ChangeError> {
        let now = now_ms();
        let (by, wanted, serial) = (Arc::clone(caller), id.clone(), random_text(24));
        let device = self
            .change(
                "approving a device",
                move |tx, changes| {
                    let caller = standing(&by, now)?;
                    let pending = waiting_for(tx, caller, &wanted, now)?;
                    let known = tx.read().device(&pending.device_id)?;
                    let device = pairing::approve(known.as_ref(), &pending, serial, false, now);
                    pairing::may_approve(&caller.grant, &pending, known.as_ref(), &device)?;
                    tx.keep_device(&device)?;
                    approve_surface(tx, &pending, now)?;
                    tx.drop_pairing_request(&wanted)?;
                    let detail = json!({
                        "request": wanted, "device": pending.device_id, "role": pending.role,
                        "scopes": pending.scopes,
                    });
                    tx.audit(
                        "device.pair.approve",
                        &caller.actor(),
                        &detail.to_string(),
                        now,
                    )?;
                    changes.push(BookChange::Device(device.clone()));
                    changes.push(BookChange::WaitsNoMore(pending.device_id, pending.role));
                    Ok::<_, ChangeError>(device)
                },
                |_| {},
            )
            .await?;
        self.publish_resolved(id, &device.device_id, "approved", now);
        Ok(paired_record(
            &device,
            self.hub.has_device(&device.device_id),
        ))
    }

    /// Rejects a request.
    pub(crate) async fn reject(
        &self,
        caller: &Arc<Link>,
        id: &PairingRequestId,
    ) -> Result<DeviceId, ChangeError> {
        let now = now_ms();
        let (by, wanted) = (Arc::clone(caller), id.clone());
        let device_id = self
            .change(
                "rejecting a device",
                move |tx, changes| {
                    let caller = standing(&by, now)?;
                    let pending = waiting_for(tx, caller, &wanted, now)?;
                    tx.drop_pairing_request(&wanted)?;
                    let detail = json!({"request": wanted, "device": pending.device_id});
                    tx.audit(
                        "device.pair.reject",
                        &caller.actor(),
                        &detail.to_string(),
                        now,
                    )?;
                    let device_id = pending.device_id.clone();
                    changes.push(BookChange::WaitsNoMore(pending.device_id, pending.role));
                    Ok::<_, ChangeError>(device_id)
                },
                |_| {},
            )
            .await?;
        self.publish_resolved(id, &device_id, "rejected", now);
        Ok(device_id)
    }

    /// Removes a device. Its sessions are over when this returns.
    pub(crate) async fn remove(
        &self,
        caller: &Arc<Link>,
        id: &DeviceId,
        for_the_asking: ScopeSet,
    ) -> Result<(), ChangeError> {
        let now = now_ms();
        let (by, wanted, hub) = (Arc::clone(caller), id.clone(), self.hub.clone());
        let ended = Ended::new(caller, id, None);
        let ending = ended.clone();
        self.change(
            "removing a device",
            move |tx, changes| {
                let caller = standing(&by, now)?;
                may_end(tx, caller, &wanted, None, &for_the_asking)?;
                tx.remove_device(&wanted)?;
                let detail = json!({"device": wanted});
                tx.audit(
                    "device.pair.remove",
                    &caller.actor(),
                    &detail.to_string(),
                    now,
                )?;
                changes.push(BookChange::Removed(wanted));
                hub.disarm(AUTHORITY_CHANGED, "device removed", |principal| {
                    ending.concerns(principal)
                });
                Ok::<_, ChangeError>(())
            },
            self.ends(ended, "device removed"),
        )
        .await
    }

    /// Replaces a device's token. Immediate, except where the device does it itself; then sessions
    /// end that hold more than the new token carries, where it carries less than the old one.
    pub(crate) async fn rotate(
        &self,
        caller: &Arc<Link>,
        id: &DeviceId,
        role: Role,
        scopes: Option<ScopeSet>,
    ) -> Result<Rotated, ChangeError> {
        let now = now_ms();
        let by_itself = is_own(&caller.principal, id, role);
        let (by, wanted, serial) = (Arc::clone(caller), id.clone(), random_text(24));
        let (hub, closing) = (self.hub.clone(), self.hub.clone());
        let ended = Ended::new(caller, id, Some(role));
        let (device, ended) = self
            .change(
                "rotating a device token",
                move |tx, changes| {
                    let caller = standing(&by, now)?;
                    let before = may_end(tx, caller, &wanted, Some(role), &ScopeSet::default())?;
                    let device = pairing::rotate(
                        &before,
                        role,
                        scopes.as_ref(),
                        &caller.grant,
                        by_itself,
                        serial,
                        now,
                    )?;
                    tx.keep_device(&device)?;
                    let detail = json!({"device": wanted, "role": role, "byItself": by_itself});
                    tx.audit(
                        "device.token.rotate",
                        &caller.actor(),
                        &detail.to_string(),
                        now,
                    )?;
                    let ended = if by_itself {
                        let carried = |device: &Device| {
                            let token = device.token(role);
                            token.map(|token| token.scopes.clone()).unwrap_or_default()
                        };
                        let carries = carried(&device);
                        let narrows = !carries.covers_all(&carried(&before));
                        narrows.then(|| ended.beyond(carries))
                    } else {
                        Some(ended)
                    };
                    if let Some(ended) = &ended {
                        hub.disarm(AUTHORITY_CHANGED, "gateway auth changed", |principal| {
                            ended.concerns(principal)
                        });
                    }
                    changes.push(BookChange::Device(device.clone()));
                    Ok::<_, ChangeError>((device, ended))
                },
                move |(_, ended)| {
                    if let Some(ended) = ended {
                        ended.end(&closing, "gateway auth changed");
                    }
                },
            )
            .await?;
        let token = self
            .issued(&device, role)
            .ok_or(ChangeError::Refused(PairingError::UnknownDevice))?;
        Ok(Rotated {
            token,
            ends_caller: ended.is_some_and(|ended| ended.concerns(&caller.principal)),
        })
    }

    /// Revokes a device's token. Its sessions are over when this returns.
    pub(crate) async fn revoke(
        &self,
        caller: &Arc<Link>,
        id: &DeviceId,
        role: Role,
    ) -> Result<i64, ChangeError> {
        let now = now_ms();
        let (by, wanted, hub) = (Arc::clone(caller), id.clone(), self.hub.clone());
        let ended = Ended::new(caller, id, Some(role));
        let ending = ended.clone();
        self.change(
            "revoking a device token",
            move |tx, changes| {
                let caller = standing(&by, now)?;
                let device = may_end(tx, caller, &wanted, Some(role), &ScopeSet::default())?;
                let device = pairing::revoke(&device, role, now)?;
                tx.keep_device(&device)?;
                let detail = json!({"device": wanted, "role": role});
                tx.audit(
                    "device.token.revoke",
                    &caller.actor(),
                    &detail.to_string(),
                    now,
                )?;
                changes.push(BookChange::Device(device));
                hub.disarm(AUTHORITY_CHANGED, "gateway auth changed", |principal| {
                    ending.concerns(principal)
                });
                Ok::<_, ChangeError>(())
            },
            self.ends(ended, "gateway auth changed"),
        )
        .await?;
        Ok(now)
    }

    /// Ends sessions once the commit stands: all that were there, and, by what [`Hub::join`] looks
    /// at, all that were judged by the book as it was before.
    fn ends(&self, ended: Ended, why: &'static str) -> impl FnOnce(&()) + Send + 'static {
        let hub = self.hub.clone();
        move |()| ended.end(&hub, why)
    }
}

/// A rotated token.
#[derive(Debug)]
pub(crate) struct Rotated {
    pub token: IssuedToken,
    /// Whether the caller's own session held more than the new token carries, and is over once it
    /// has its answer.
    pub ends_caller: bool,
}

/// Which sessions a change ends: those of a device, in one role or all, that hold more than is left.
#[derive(Clone, Debug)]
struct Ended {
    caller: String,
    device: DeviceId,
    role: Option<Role>,
    left: Option<ScopeSet>,
}

impl Ended {
    fn new(caller: &Link, device: &DeviceId, role: Option<Role>) -> Self {
        Self {
            caller: caller.principal.conn_id.clone(),
            device: device.clone(),
            role,
            left: None,
        }
    }

    fn beyond(mut self, left: ScopeSet) -> Self {
        self.left = Some(left);
        self
    }

    fn concerns(&self, principal: &Principal) -> bool {
        principal.device_id.as_ref() == Some(&self.device)
            && self.role.is_none_or(|role| principal.grant.role() == role)
            && self
                .left
                .as_ref()
                .is_none_or(|left| !left.covers_all(principal.grant.scopes()))
    }

    /// The caller's own goes on until it has its answer; its connection sees to that.
    fn end(&self, hub: &Hub, why: &str) {
        let ended = hub.revoke(AUTHORITY_CHANGED, why, Some(&self.caller), |principal| {
            self.concerns(principal)
        });
        tracing::info!(device = %self.device, sessions = ended, why, "sessions ended");
    }
}

/// Whether a session is the device itself, in that role.
pub(crate) fn is_own(principal: &Principal, id: &DeviceId, role: Role) -> bool {
    principal.device_id.as_ref() == Some(id) && principal.grant.role() == role
}

/// The caller, as long as its authority stands.
fn standing(caller: &Link, now: i64) -> Result<&Principal, ChangeError> {
    if caller.may_act(now) {
        Ok(&caller.principal)
    } else {
        Err(ChangeError::CallerEnded)
    }
}

/// The request that a caller may decide.
fn waiting_for(
    tx: &Tx<'_>,
    caller: &Principal,
    id: &PairingRequestId,
    now: i64,
) -> Result<Pending, ChangeError> {
    let pending = tx
        .read()
        .pairing_request(id)?
        .filter(|pending| !pending.is_expired(now))
        .ok_or(PairingError::UnknownRequest)?;
    if pairing::may_manage(&caller.grant, caller.device_id.as_ref(), &pending.device_id) {
        Ok(pending)
    } else {
        Err(PairingError::NotCovered(Scope::ADMIN).into())
    }
}

/// Whoever approves a node approves the commands that its request shows, and no others any more.
fn approve_surface(tx: &Tx<'_>, pending: &Pending, now: i64) -> Result<(), StoreError> {
    if pending.role != Role::Node {
        return Ok(());
    }
    tx.approve_node_surface(&pending.device_id, &pending.claims.surface, now)?;
    tx.drop_node_request_of(&pending.device_id)
}

/// The device whose token, or whose whole record, a caller may end.
fn may_end(
    tx: &Tx<'_>,
    caller: &Principal,
    id: &DeviceId,
    role: Option<Role>,
    for_the_asking: &ScopeSet,
) -> Result<Device, ChangeError> {
    let device = tx.read().device(id)?.ok_or(PairingError::UnknownDevice)?;
    pairing::may_end(
        &caller.grant,
        caller.device_id.as_ref(),
        &device,
        role,
        for_the_asking,
    )?;
    Ok(device)
}

/// Drops the requests whose time is over.
fn expire(tx: &Tx<'_>, now: i64, changes: &mut Changes) -> Result<Vec<Pending>, StoreError> {
    let gone = tx.expire_pairing_requests(now, PENDING_TTL_MS)?;
    let no_more = |one: &Pending| BookChange::WaitsNoMore(one.device_id.clone(), one.role);
    changes.extend(gone.iter().map(no_more));
    Ok(gone)
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
        caps: (pending.role == Role::Node).then(|| claims.surface.caps().to_vec()),
        commands: (pending.role == Role::Node).then(|| claims.surface.commands().to_vec()),
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

#[cfg(test)]
mod tests;
