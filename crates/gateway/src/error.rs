//! From what went wrong to the words that a peer reads. Every translation is here.

use clawgate_core::{Dialect, ErrorCode, Scope, authz::Refused, pairing::PairingError};
use clawgate_protocol::ErrorShape;
use clawgate_store::{Fault, StoreError};
use serde_json::{Value, json};

use crate::{
    approvals::ApprovalError, disk, exec_policy::PolicyError, hub::Principal, nodes::NodeError,
    pairing::ChangeError, tokens::TokenError,
};

/// How long to wait before a write is tried again on a disk that failed.
const RETRY_AFTER_MS: u64 = 5_000;

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

/// The database failed. Where that is the disk's doing, the caller is told so: it is the operator's to
/// mend, and no secret.
pub(crate) fn store(error: &StoreError) -> ErrorShape {
    let Some(fault) = error.fault() else {
        return internal("database", error);
    };
    tracing::warn!(%error, "a call failed by the disk");
    let is_open = matches!((error, fault), (StoreError::Sqlite { .. }, Fault::Unsynced));
    disk(
        fault,
        if is_open {
            "whether this was changed shows after a restart"
        } else {
            "nothing was changed"
        },
    )
}

/// A file could not be read or written.
pub(crate) fn file(doing: &'static str, error: &std::io::Error) -> ErrorShape {
    match disk::fault_of(error) {
        Some(fault) => {
            tracing::warn!(doing, %error, "a call failed by the disk");
            disk(fault, "nothing was changed")
        }
        None => internal(doing, error),
    }
}

fn disk(fault: Fault, changed: &'static str) -> ErrorShape {
    let advice = disk::advice(fault);
    let error = ErrorShape::unavailable(format!("{fault}: {changed}; {advice}"))
        .with_details(json!({"code": disk::code(fault)}));
    if fault.ends_writing() {
        error
    } else {
        error.retry_after(RETRY_AFTER_MS)
    }
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

/// A request about a node is refused, in words that need no caller.
pub(crate) fn node(error: NodeError) -> ErrorShape {
    match error {
        NodeError::UnknownRequest => ErrorShape::invalid("unknown requestId"),
        NodeError::UnknownNode => ErrorShape::invalid("unknown nodeId"),
        NodeError::IsDevice => ErrorShape::invalid("the node is paired as a device")
            .with_details(json!({"code": "NODE_IS_DEVICE"})),
        NodeError::Full => ErrorShape::unavailable("too many nodes wait for approval")
            .with_details(json!({"code": "QUEUE_FULL"})),
        NodeError::Missing(scope) => ErrorShape::invalid(format!("missing scope: {scope}")),
        NodeError::CallerEnded => caller_ended(),
        NodeError::Store(error) => store(&error),
    }
}

/// The same for a caller whose scopes may be what is missing.
pub(crate) fn node_change(principal: &Principal, error: NodeError) -> ErrorShape {
    match error {
        NodeError::Missing(scope) => missing_scope(principal, &scope),
        other => node(other),
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

/// An approval is not asked for, decided, found or used.
pub(crate) fn approval(dialect: Dialect, error: &ApprovalError) -> ErrorShape {
    let unknown = || {
        let error = ErrorShape::invalid("unknown or expired approval id");
        match dialect {
            Dialect::V3 => error,
            Dialect::V4 => error.with_details(json!({"reason": "APPROVAL_NOT_FOUND"})),
        }
    };
    match error {
        ApprovalError::Store(error) => store(error),
        ApprovalError::CallerEnded => caller_ended(),
        ApprovalError::Waits => ErrorShape::invalid("approval id already pending"),
        ApprovalError::IdUsed => ErrorShape::invalid("approval id was used before")
            .with_details(json!({"code": "APPROVAL_ID_USED"})),
        ApprovalError::TooMany { of_caller } => {
            let whose = if *of_caller { "of this caller " } else { "" };
            ErrorShape::unavailable(format!("too many approvals {whose}wait for a decision"))
                .with_details(json!({"code": "TOO_MANY_APPROVALS"}))
        }
        ApprovalError::Unknown => unknown(),
        ApprovalError::Ambiguous(ids) => {
            let some = ids.iter().take(3).map(String::as_str).collect::<Vec<_>>();
            let more = match ids.len().saturating_sub(some.len()) {
                0 => String::new(),
                more => format!(" (+{more} more)"),
            };
            ErrorShape::invalid(format!(
                "ambiguous approval id prefix; matches: {}{more}. Use the full id.",
                some.join(", ")
            ))
        }
        ApprovalError::Decided {
            decision,
            by,
            at_ms,
        } => unknown().with_details(json!({
            "code": "APPROVAL_ALREADY_RESOLVED", "reason": "APPROVAL_ALREADY_RESOLVED",
            "decision": decision.as_str(), "resolvedBy": by, "resolvedAtMs": at_ms,
        })),
        ApprovalError::NotOffered => {
            ErrorShape::invalid("allow-always is unavailable for this request")
                .with_details(json!({"reason": "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE"}))
        }
        ApprovalError::Unfit { code, message } => {
            ErrorShape::invalid(*message).with_details(json!({"code": code}))
        }
    }
}

/// The file of what may be run cannot be read or changed.
pub(crate) fn exec_policy(error: &PolicyError) -> ErrorShape {
    match error {
        PolicyError::NoBase | PolicyError::Changed => ErrorShape::invalid(error.to_string()),
        PolicyError::Unreadable { .. } => ErrorShape::unavailable(error.to_string())
            .with_details(json!({"code": "EXEC_APPROVALS_UNREADABLE"})),
        PolicyError::Io { source, .. } => file("exec approvals", source),
    }
}
