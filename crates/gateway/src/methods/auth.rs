//! `auth.explain`: how this connection's authority came about.

use clawgate_protocol::system::AuthExplanation;

use crate::{
    dispatch::{Answer, Call, Reply, now},
    handshake,
};

pub(crate) fn explain(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        let principal = &call.link.principal;
        let grant = &principal.grant;
        let missing = handshake::missing(grant);
        let next_step = match (&principal.pending_request, missing.is_empty()) {
            (Some(request), _) => Some(format!("clawgate devices approve {request}")),
            (None, false) => Some(
                "ask for fewer scopes, or connect with a credential that carries them".to_owned(),
            ),
            (None, true) => None,
        };
        Ok(Reply::json(&AuthExplanation {
            evidence: call.welcome.explained.seen.clone(),
            basis: grant.basis().as_str().to_owned(),
            rule: grant.basis().sentence().to_owned(),
            role: grant.role(),
            requested: call.welcome.explained.requested.clone(),
            granted: grant.scopes().clone(),
            missing,
            pending_request_id: principal.pending_request.clone(),
            next_step,
        }))
    })
}
