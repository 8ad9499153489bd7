//! Devices, their tokens, and pairing requests.

use clawgate_core::{
    DeviceId, PairingRequestId, Role, Scope, ScopeSet,
    node::Surface,
    pairing::{Approved, Claims, Device, DeviceToken, Pending},
};
use rusqlite::{OptionalExtension as _, Row};

use crate::{
    Read, StoreError, Tx,
    node::{names_to, surface_from},
};

pub(crate) fn scopes_to(scopes: &ScopeSet) -> String {
    // A scope name may hold blanks; the separator is one that JSON texts can, but names never do:
    // the gateway refuses scopes with control characters at the door.
    let names: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
    names.join("\u{1f}")
}

pub(crate) fn scopes_from(text: &str) -> ScopeSet {
    text.split('\u{1f}')
        .filter(|name| !name.is_empty())
        .map(Scope::new)
        .collect()
}

fn role_from(name: &str, table: &'static str, row: &str) -> Result<Role, StoreError> {
    Role::parse(name).ok_or_else(|| StoreError::Inconsistent {
        table,
        column: "role",
        row: row.to_owned(),
    })
}

const PENDING: &str = "request_id, device_id, public_key, role, scopes, display_name, platform, \
                       device_family, client_id, client_mode, remote_ip, is_repair, asked_at_ms, caps, \
                       commands";

fn pending_from(row: &Row<'_>) -> rusqlite::Result<(Pending, String)> {
    let role: String = row.get(3)?;
    let pending = Pending {
        request_id: PairingRequestId::new(row.get::<_, String>(0)?),
        device_id: DeviceId::new(row.get::<_, String>(1)?),
        public_key: row.get(2)?,
        role: Role::Operator,
        scopes: scopes_from(&row.get::<_, String>(4)?),
        claims: Claims {
            display_name: row.get(5)?,
            platform: row.get(6)?,
            device_family: row.get(7)?,
            client_id: row.get(8)?,
            client_mode: row.get(9)?,
            remote_ip: row.get(10)?,
            surface: surface_from(&row.get::<_, String>(13)?, &row.get::<_, String>(14)?),
        },
        is_repair: row.get(11)?,
        asked_at_ms: row.get(12)?,
    };
    Ok((pending, role))
}

fn with_role((mut pending, role): (Pending, String)) -> Result<Pending, StoreError> {
    pending.role = role_from(&role, "pairing_requests", pending.request_id.as_str())?;
    Ok(pending)
}

impl Read<'_> {
    /// Every paired device, newest approval first.
    ///
    /// # Errors
    /// The database's.
    pub fn devices(&self) -> Result<Vec<Device>, StoreError> {
        let doing = StoreError::doing("listing devices");
        let mut statement = self
            .db
            .prepare_cached("SELECT device_id FROM devices ORDER BY approved_at_ms DESC, device_id")
            .map_err(&doing)?;
        let ids: Vec<String> = statement
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(&doing)?;
        let mut devices = Vec::with_capacity(ids.len());
        for id in ids {
            devices.extend(self.device(&DeviceId::new(id))?);
        }
        Ok(devices)
    }

    /// One paired device.
    ///
    /// # Errors
    /// The database's.
    pub fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        let doing = StoreError::doing("finding a device");
        let found = self
            .db
            .prepare_cached(
                "SELECT public_key, display_name, platform, device_family, client_id, client_mode,
                        remote_ip, silently, created_at_ms, approved_at_ms
                 FROM devices WHERE device_id = ?1",
            )
            .and_then(|mut s| {
                s.query_row([id.as_str()], |row| {
                    Ok(Device {
                        device_id: id.clone(),
                        public_key: row.get(0)?,
                        claims: Claims {
                            display_name: row.get(1)?,
                            platform: row.get(2)?,
                            device_family: row.get(3)?,
                            client_id: row.get(4)?,
                            client_mode: row.get(5)?,
                            remote_ip: row.get(6)?,
                            // What of it was approved is kept with the nodes.
                            surface: Surface::default(),
                        },
                        approved: Vec::new(),
                        tokens: Vec::new(),
                        silently: row.get(7)?,
                        created_at_ms: row.get(8)?,
                        approved_at_ms: row.get(9)?,
                    })
                })
                .optional()
            })
            .map_err(&doing)?;
        let Some(mut device) = found else {
            return Ok(None);
        };
        let mut roles = self
            .db
            .prepare_cached(
                "SELECT role, scopes FROM device_roles WHERE device_id = ?1 ORDER BY role DESC",
            )
            .map_err(&doing)?;
        let rows: Vec<(String, String)> = roles
            .query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(&doing)?;
        for (role, scopes) in rows {
            device.approved.push(Approved {
                role: role_from(&role, "device_roles", id.as_str())?,
                scopes: scopes_from(&scopes),
            });
        }
        let mut tokens = self
            .db
            .prepare_cached(
                "SELECT role, scopes, serial, old_serial, old_until_ms, created_at_ms, rotated_at_ms,
                        revoked_at_ms, last_used_at_ms
                 FROM device_tokens WHERE device_id = ?1 ORDER BY role DESC",
            )
            .map_err(&doing)?;
        let rows: Vec<(String, DeviceToken)> = tokens
            .query_map([id.as_str()], |row| {
                Ok((
                    row.get(0)?,
                    DeviceToken {
                        role: Role::Operator,
                        scopes: scopes_from(&row.get::<_, String>(1)?),
                        serial: row.get(2)?,
                        old_serial: row.get(3)?,
                        old_until_ms: row.get(4)?,
                        created_at_ms: row.get(5)?,
                        rotated_at_ms: row.get(6)?,
                        revoked_at_ms: row.get(7)?,
                        last_used_at_ms: row.get(8)?,
                    },
                ))
            })
            .and_then(Iterator::collect)
            .map_err(&doing)?;
        for (role, mut token) in rows {
            token.role = role_from(&role, "device_tokens", id.as_str())?;
            device.tokens.push(token);
        }
        Ok(Some(device))
    }

    /// Every pairing request, newest first, expired ones too.
    ///
    /// # Errors
    /// The database's.
    pub fn pairing_requests(&self) -> Result<Vec<Pending>, StoreError> {
        let doing = StoreError::doing("listing pairing requests");
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "SELECT {PENDING} FROM pairing_requests ORDER BY asked_at_ms DESC, request_id"
            ))
            .map_err(&doing)?;
        let rows: Vec<_> = statement
            .query_map([], pending_from)
            .and_then(Iterator::collect)
            .map_err(&doing)?;
        rows.into_iter().map(with_role).collect()
    }

    /// The request of a device for a role.
    ///
    /// # Errors
    /// The database's.
    pub fn pairing_request_of(
        &self,
        device: &DeviceId,
        role: Role,
    ) -> Result<Option<Pending>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {PENDING} FROM pairing_requests WHERE device_id = ?1 AND role = ?2"
            ))
            .and_then(|mut s| {
                s.query_row([device.as_str(), role.as_str()], pending_from)
                    .optional()
            })
            .map_err(StoreError::doing("finding a pairing request"))?
            .map(with_role)
            .transpose()
    }

    /// One request.
    ///
    /// # Errors
    /// The database's.
    pub fn pairing_request(&self, id: &PairingRequestId) -> Result<Option<Pending>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {PENDING} FROM pairing_requests WHERE request_id = ?1"
            ))
            .and_then(|mut s| s.query_row([id.as_str()], pending_from).optional())
            .map_err(StoreError::doing("finding a pairing request"))?
            .map(with_role)
            .transpose()
    }
}

impl Tx<'_> {
    /// Keeps a request in place of an older one of the same device and role.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_pairing_request(&self, pending: &Pending) -> Result<(), StoreError> {
        let doing = StoreError::doing("keeping a pairing request");
        self.db
            .prepare_cached("DELETE FROM pairing_requests WHERE device_id = ?1 AND role = ?2")
            .and_then(|mut s| s.execute([pending.device_id.as_str(), pending.role.as_str()]))
            .map_err(&doing)?;
        self.db
            .prepare_cached(
                "INSERT INTO pairing_requests (request_id, device_id, public_key, role, scopes,
                     display_name, platform, device_family, client_id, client_mode, remote_ip,
                     is_repair, asked_at_ms, caps, commands)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )
            .and_then(|mut s| {
                let claims = &pending.claims;
                s.execute((
                    pending.request_id.as_str(),
                    pending.device_id.as_str(),
                    &pending.public_key,
                    pending.role.as_str(),
                    scopes_to(&pending.scopes),
                    &claims.display_name,
                    &claims.platform,
                    &claims.device_family,
                    &claims.client_id,
                    &claims.client_mode,
                    &claims.remote_ip,
                    pending.is_repair,
                    pending.asked_at_ms,
                    names_to(claims.surface.caps()),
                    names_to(claims.surface.commands()),
                ))
            })
            .map(drop)
            .map_err(&doing)
    }

    /// Drops a request. `false` when it is not there.
    ///
    /// # Errors
    /// The database's.
    pub fn drop_pairing_request(&self, id: &PairingRequestId) -> Result<bool, StoreError> {
        self.db
            .prepare_cached("DELETE FROM pairing_requests WHERE request_id = ?1")
            .and_then(|mut s| s.execute([id.as_str()]))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("dropping a pairing request"))
    }

    /// Drops the requests that were asked so long before now, or after it, and gives them.
    ///
    /// # Errors
    /// The database's.
    pub fn expire_pairing_requests(
        &self,
        now_ms: i64,
        ttl_ms: i64,
    ) -> Result<Vec<Pending>, StoreError> {
        let doing = StoreError::doing("expiring pairing requests");
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "DELETE FROM pairing_requests WHERE abs(?1 - asked_at_ms) >= ?2 RETURNING {PENDING}"
            ))
            .map_err(&doing)?;
        let rows: Vec<_> = statement
            .query_map([now_ms, ttl_ms], pending_from)
            .and_then(Iterator::collect)
            .map_err(&doing)?;
        rows.into_iter().map(with_role).collect()
    }

    /// Keeps a device as it is now, with its roles and tokens.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_device(&self, device: &Device) -> Result<(), StoreError> {
        let doing = StoreError::doing("keeping a device");
        let id = device.device_id.as_str();
        let claims = &device.claims;
        self.db
            .prepare_cached(
                "INSERT INTO devices (device_id, public_key, display_name, platform, device_family,
                     client_id, client_mode, remote_ip, silently, created_at_ms, approved_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (device_id) DO UPDATE SET public_key = ?2, display_name = ?3,
                     platform = ?4, device_family = ?5, client_id = ?6, client_mode = ?7,
                     remote_ip = ?8, silently = ?9, created_at_ms = ?10, approved_at_ms = ?11",
            )
            .and_then(|mut s| {
                s.execute((
                    id,
                    &device.public_key,
                    &claims.display_name,
                    &claims.platform,
                    &claims.device_family,
                    &claims.client_id,
                    &claims.client_mode,
                    &claims.remote_ip,
                    device.silently,
                    device.created_at_ms,
                    device.approved_at_ms,
                ))
            })
            .map_err(&doing)?;
        for table in ["device_roles", "device_tokens"] {
            self.db
                .prepare_cached(&format!("DELETE FROM {table} WHERE device_id = ?1"))
                .and_then(|mut s| s.execute([id]))
                .map_err(&doing)?;
        }
        for approved in &device.approved {
            self.db
                .prepare_cached(
                    "INSERT INTO device_roles (device_id, role, scopes) VALUES (?1, ?2, ?3)",
                )
                .and_then(|mut s| {
                    s.execute((id, approved.role.as_str(), scopes_to(&approved.scopes)))
                })
                .map_err(&doing)?;
        }
        for token in &device.tokens {
            self.db
                .prepare_cached(
                    "INSERT INTO device_tokens (device_id, role, scopes, serial, old_serial,
                         old_until_ms, created_at_ms, rotated_at_ms, revoked_at_ms, last_used_at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )
                .and_then(|mut s| {
                    s.execute((
                        id,
                        token.role.as_str(),
                        scopes_to(&token.scopes),
                        &token.serial,
                        &token.old_serial,
                        token.old_until_ms,
                        token.created_at_ms,
                        token.rotated_at_ms,
                        token.revoked_at_ms,
                        token.last_used_at_ms,
                    ))
                })
                .map_err(&doing)?;
        }
        Ok(())
    }

    /// Removes a device, its tokens and its requests. `false` when it is not there.
    ///
    /// # Errors
    /// The database's.
    pub fn remove_device(&self, id: &DeviceId) -> Result<bool, StoreError> {
        let doing = StoreError::doing("removing a device");
        self.db
            .prepare_cached("DELETE FROM pairing_requests WHERE device_id = ?1")
            .and_then(|mut s| s.execute([id.as_str()]))
            .map_err(&doing)?;
        self.drop_node_request_of(id)?;
        self.db
            .prepare_cached("DELETE FROM devices WHERE device_id = ?1")
            .and_then(|mut s| s.execute([id.as_str()]))
            .map(|rows| rows == 1)
            .map_err(&doing)
    }

    /// Notes when a device token was last used.
    ///
    /// # Errors
    /// The database's.
    pub fn note_device_token_use(
        &self,
        id: &DeviceId,
        role: Role,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE device_tokens SET last_used_at_ms = ?3 WHERE device_id = ?1 AND role = ?2",
            )
            .and_then(|mut s| s.execute((id.as_str(), role.as_str(), at_ms)))
            .map(drop)
            .map_err(StoreError::doing("noting the use of a device token"))
    }

    /// Ends the grace of a rotated token: its successor, the one of this serial, was used.
    ///
    /// # Errors
    /// The database's.
    pub fn end_old_device_token(
        &self,
        id: &DeviceId,
        role: Role,
        serial: &str,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE device_tokens SET old_serial = NULL, old_until_ms = NULL
                 WHERE device_id = ?1 AND role = ?2 AND serial = ?3",
            )
            .and_then(|mut s| s.execute((id.as_str(), role.as_str(), serial)))
            .map(drop)
            .map_err(StoreError::doing("ending an old device token"))
    }
}
