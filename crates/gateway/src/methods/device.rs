//! Devices: pairing requests, paired devices, their tokens.

use std::sync::Arc;

use clawgate_core::{DeviceId, Dialect, PairingRequestId, Role};
use clawgate_protocol::{
    ErrorShape,
    device::{DeviceIdParams, RequestIdParams, TokenParams},
};
use serde_json::json;

use crate::{
    dispatch::{Answer, Call, Reply, later},
    error,
    hub::Principal,
    pairing::{AUTHORITY_CHANGED, IssuedToken},
};

/// How wire 4 refuses to rotate a token, whatever the reason: nothing can be probed with it.
const ROTATION_DENIED: &str = "device token rotation denied";
/// The same for a revocation.
const REVOCATION_DENIED: &str = "device token revocation denied";

pub(crate) fn list(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.fits(), move |()| async move {
        let list = gateway.pairings.list().await;
        list.map(|list| Reply::json(&list))
            .map_err(|error| error::store(&error))
    })
}

pub(crate) fn approve(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<RequestIdParams>(), move |params| async move {
        let id = PairingRequestId::new(params.request_id);
        match gateway.pairings.approve(&link, &id).await {
            Ok(device) => Ok(Reply::json(&json!({"requestId": id, "device": device}))),
            Err(error) => Err(error::change(&link.principal, error, "unknown requestId")),
        }
    })
}

pub(crate) fn reject(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<RequestIdParams>(), move |params| async move {
        let id = PairingRequestId::new(params.request_id);
        match gateway.pairings.reject(&link, &id).await {
            Ok(device) => Ok(Reply::json(&json!({"requestId": id, "deviceId": device}))),
            Err(error) => Err(error::change(&link.principal, error, "unknown requestId")),
        }
    })
}

pub(crate) fn remove(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<DeviceIdParams>(), move |params| async move {
        let id = DeviceId::new(params.device_id);
        gateway
            .pairings
            .remove(&link, &id, gateway.config().deviceless_loopback.clone())
            .await
            .map_err(|error| error::change(&link.principal, error, "unknown deviceId"))?;
        let reply = Reply::json(&json!({"deviceId": id}));
        Ok(end_own(reply, &link.principal, &id, None, "device removed"))
    })
}

pub(crate) fn rotate(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(
        token_params(call, ROTATION_DENIED),
        move |(params, role)| async move {
            let id = DeviceId::new(params.device_id);
            let issued = gateway
                .pairings
                .rotate(&link, &id, role, params.scopes)
                .await
                .map_err(|error| error::token_change(&link.principal, error, ROTATION_DENIED))?;
            let dialect = link.principal.dialect;
            let own = link.principal.device_id.as_ref() == Some(&id);
            let reply = Reply::made(rotated(dialect, own, &id, role, &issued.token));
            if issued.ends_caller {
                return Ok(reply.closing(AUTHORITY_CHANGED, "gateway auth changed"));
            }
            Ok(reply)
        },
    )
}

pub(crate) fn revoke(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(
        token_params(call, REVOCATION_DENIED),
        move |(params, role)| async move {
            let id = DeviceId::new(params.device_id);
            let revoked_at_ms = gateway
                .pairings
                .revoke(&link, &id, role)
                .await
                .map_err(|error| error::token_change(&link.principal, error, REVOCATION_DENIED))?;
            let reply = Reply::json(&json!({
                "deviceId": id, "role": role, "revokedAtMs": revoked_at_ms,
            }));
            Ok(end_own(
                reply,
                &link.principal,
                &id,
                Some(role),
                "gateway auth changed",
            ))
        },
    )
}

/// Wire 3 hands the token to whoever rotates it; wire 4 to the device itself alone, which gets it
/// at its next connect otherwise. Without the device's key it is of no use to anybody else.
fn rotated(dialect: Dialect, own: bool, id: &DeviceId, role: Role, issued: &IssuedToken) -> String {
    let (scopes, at) = (&issued.scopes, issued.issued_at_ms);
    match (dialect, own) {
        (Dialect::V3, _) => json!({
            "deviceId": id, "role": role, "token": issued.token, "scopes": scopes, "rotatedAtMs": at,
        }),
        (Dialect::V4, true) => json!({
            "deviceId": id, "role": role, "token": issued.token, "scopes": scopes, "rotatedAtMs": at,
            "tokenDelivery": "in-band",
        }),
        (Dialect::V4, false) => json!({
            "deviceId": id, "role": role, "scopes": scopes, "rotatedAtMs": at,
            "tokenDelivery": "withheld-cross-device",
        }),
    }
    .to_string()
}

fn token_params(call: &Call<'_>, denied: &'static str) -> Result<(TokenParams, Role), ErrorShape> {
    let params = call.typed::<TokenParams>()?;
    let unknown = || ErrorShape::invalid(error::unknown_token(call.dialect(), denied));
    let role = Role::parse(&params.role).ok_or_else(unknown)?;
    Ok((params, role))
}

/// A caller that took its own authority away gets its answer, then the close.
fn end_own(
    reply: Reply,
    caller: &Principal,
    id: &DeviceId,
    role: Option<Role>,
    why: &str,
) -> Reply {
    let own = caller.device_id.as_ref() == Some(id)
        && role.is_none_or(|role| caller.grant.role() == role);
    if own {
        reply.closing(AUTHORITY_CHANGED, why)
    } else {
        reply
    }
}
