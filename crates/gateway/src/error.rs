//! From what went wrong to the words that a peer reads. Every translation is here.

use clawgate_core::{Dialect, ErrorCode, Scope, authz::Refused, pairing::PairingError};
use clawgate_protocol::ErrorShape;
use clawgate_store::StoreError;
use serde_json::{Value, json};

use crate::{hub::Principal, pairing::ChangeError, tokens::TokenError};

/// A call that is refused by role or scope.
pub(crate) fn refused(principal: &Principal, refused: &Refused) -> ErrorShape {
    match refused {
        Refused::Role(role) => ErrorShape::invalid(format!("unauthorized role: {role}")),
        Refused::MissingScope(scope) => missing_scope(principal, scope),
    }
}

/// A missing scope in the caller's dialect, with the pending request that would add it.
pub(crate) fn missing_scope(principal: &Principal, scope: &Scope) -> ErrorShape {
    let message = format!("missing scope: {scope}");
    let mut details = json!({
        "code": "MISSING_SCOPE",
        "missingScope": scope,
        "requiredScopes": [scope],
    });
    if let Some(request) = &principal.pending_request {
        details["pendingRequestId"] = Value::from(request.as_str());
    }
    match principal.dialect {
        Dialect::V4 => ErrorShape::new(ErrorCode::Forbidden, message).with_details(details),
        Dialect::V3 if principal.pending_request.is_some() => {
            ErrorShape::invalid(message).with_details(details)
        }
        Dialect::V3 => ErrorShape::invalid(message),
    }
}

/// A call on behalf of a profile: there are none, so it is somebody else's.
pub(crate) fn other_profile() -> ErrorShape {
    ErrorShape::invalid("expected profile does not match this connection's profile")
        .with_details(json!({"reason": "EXPECTED_PROFILE_MISMATCH", "execution": "not_started"}))
}

/// Something failed inside: logged once with an id, and the peer gets the id alone.
pub(crate) fn internal(doing: &'static str, error: &dyn std::fmt::Display) -> ErrorShape {
    let incident = uuid::Uuid::new_v4();
    tracing::error!(%incident, doing, %error, "a call failed inside");
    ErrorShape::unavailable(format!("internal error (incident {incident})"))
        .with_details(json!({"code": "INTERNAL", "incident": incident.to_string()}))
}

/// The database failed.
pub(crate) fn store(error: &StoreError) -> ErrorShape {
    internal("database", error)
}

/// The caller lost its authority while the call waited for its turn. Its socket is being closed.
pub(crate) fn caller_ended() -> ErrorShape {
    ErrorShape::invalid("the authority of this connection has ended")
        .with_details(json!({"code": "AUTHORITY_ENDED"}))
}

/// What an unknown device or role is called. Wire 4 has one word for everything that is refused.
pub(crate) fn unknown_token(dialect: Dialect, denied: &'static str) -> &'static str {
    match dialect {
        Dialect::V3 => "unknown deviceId/role",
        Dialect::V4 => denied,
    }
}

/// A device token is not replaced or revoked. In wire 4 every reason sounds alike, so that nobody
/// learns which devices there are and what they hold.
pub(crate) fn token_change(
    principal: &Principal,
    error: ChangeError,
    denied: &'static str,
) -> ErrorShape {
    let unknown = unknown_token(principal.dialect, denied);
    match (principal.dialect, error) {
        (Dialect::V4, ChangeError::Refused(_)) => ErrorShape::invalid(unknown),
        (_, error) => change(principal, error, unknown),
    }
}

/// A change to a device is refused, in the dialect's words; `unknown` is what an unknown id says.
pub(crate) fn change(principal: &Principal, error: ChangeError, unknown: &str) -> ErrorShape {
    let refused = match error {
        ChangeError::Store(error) => return store(&error),
        ChangeError::CallerEnded => return caller_ended(),
        ChangeError::Refused(refused) => refused,
    };
    match refused {
        PairingError::UnknownRequest => ErrorShape::invalid("unknown requestId"),
        PairingError::UnknownDevice => ErrorShape::invalid(unknown),
        PairingError::NotCovered(scope) => {
            let details = json!({
                "code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope],
            });
            let error = ErrorShape::invalid(format!("missing scope: {scope}"));
            match principal.dialect {
                Dialect::V3 => error,
                Dialect::V4 => error.with_details(details),
            }
        }
        PairingError::NodeNeedsAdmin => ErrorShape::invalid("device pairing approval denied"),
        PairingError::BeyondApproved(scope) => ErrorShape::invalid(unknown)
            .with_details(json!({"code": "SCOPE_NOT_APPROVED", "scope": scope})),
    }
}

/// An API token cannot be made or revoked.
pub(crate) fn token(principal: &Principal, error: TokenError) -> ErrorShape {
    match error {
        TokenError::NotCovered(scope) => missing_scope(principal, &scope),
        TokenError::NameTaken => ErrorShape::invalid("an API token of that name exists")
            .with_details(json!({"code": "API_TOKEN_EXISTS"})),
        TokenError::Unknown => ErrorShape::invalid("unknown API token")
            .with_details(json!({"code": "API_TOKEN_NOT_FOUND"})),
        TokenError::CallerEnded => caller_ended(),
        TokenError::Store(error) => store(&error),
    }
}
