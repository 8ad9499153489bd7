//! API tokens.

use std::sync::Arc;

use clawgate_protocol::token::{CreateParams, List, NameParams};
use serde_json::json;

use crate::{
    dispatch::{Answer, Call, Reply, later, now},
    error,
    pairing::AUTHORITY_CHANGED,
};

pub(crate) fn create(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let params = call.typed::<CreateParams>().and_then(|params| {
        let odd = params.scopes.iter().find(|scope| !scope.is_known());
        match odd {
            Some(scope) => Err(call.invalid(&format!("at /scopes: unknown scope {scope}"))),
            None => Ok(params),
        }
    });
    later(params, move |params| async move {
        match gateway.tokens.create(&link, params).await {
            Ok(created) => Ok(Reply::json(&created)),
            Err(error) => Err(error::token(&link.principal, error)),
        }
    })
}

pub(crate) fn list(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        let tokens = call.gateway.tokens.list();
        Ok(Reply::json(&List { tokens }))
    })
}

pub(crate) fn revoke(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<NameParams>(), move |params| async move {
        let name = params.name;
        let revoked_at_ms = gateway
            .tokens
            .revoke(&link, name.clone())
            .await
            .map_err(|error| error::token(&link.principal, error))?;
        let reply = Reply::json(&json!({"name": name, "revokedAtMs": revoked_at_ms}));
        if link.principal.api_token.as_ref() == Some(&name) {
            return Ok(reply.closing(AUTHORITY_CHANGED, "gateway auth changed"));
        }
        Ok(reply)
    })
}
