//! Approvals as wire 4 has them across all kinds: one by its id, decided, and those that ended.

use std::sync::Arc;

use clawgate_core::{
    ErrorCode,
    approval::{Decision, Standing},
};
use clawgate_protocol::{
    ErrorShape,
    approval::{HistoryParams, SnapshotResolveParams},
};
use clawgate_store::Approval;
use serde_json::{Map, Value, json};

use crate::{
    approvals::{ApprovalError, decisions, request_of, stands},
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
    error,
};

/// Requests on a page when nobody says.
const LIMIT: usize = 50;
/// The one kind that there is: nothing here asks on behalf of plugins.
const KIND: &str = "exec";

pub(crate) fn get(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    later(call.value(), move |params| async move {
        let id = params["id"].as_str().unwrap_or_default().to_owned();
        let found = gateway.approvals.get(id).await;
        let found = found.map_err(|error| error::approval(dialect, &error))?;
        let approval = found.ok_or_else(not_found)?;
        Ok(Reply::json(&json!({"approval": snapshot(&approval)})))
    })
}

/// One that was decided meanwhile is no failure here: the caller is told how.
pub(crate) fn resolve(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let params = call.typed::<SnapshotResolveParams>().and_then(|params| {
        let decision = Decision::parse(&params.decision);
        let decision = decision.ok_or_else(|| ErrorShape::invalid("invalid decision"))?;
        Ok((params, decision))
    });
    later(params, move |(params, decision)| async move {
        let dialect = link.principal.dialect;
        let told = |error: &ApprovalError| error::approval(dialect, error);
        let found = gateway.approvals.get(params.id.clone()).await;
        found
            .map_err(|error| told(&error))?
            .filter(|_| params.kind == KIND)
            .ok_or_else(not_found)?;
        let resolved = gateway
            .approvals
            .resolve(&link, params.id.clone(), decision)
            .await;
        let (applied, approval) = match resolved {
            Ok(approval) => (true, Some(approval)),
            Err(ApprovalError::Decided { .. } | ApprovalError::Unknown) => {
                let found = gateway.approvals.get(params.id).await;
                (false, found.map_err(|error| told(&error))?)
            }
            Err(error) => return Err(told(&error)),
        };
        let approval = approval.ok_or_else(not_found)?;
        if applied {
            super::keep(&gateway, &approval, decision).await;
        }
        Ok(Reply::json(
            &json!({"applied": applied, "approval": snapshot(&approval)}),
        ))
    })
}

pub(crate) fn history(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    let params = call.typed::<HistoryParams>().and_then(|params| {
        let before = match params.cursor.as_deref() {
            None => None,
            Some(cursor) => {
                let place = cursor
                    .split_once(':')
                    .and_then(|(at, id)| Some((at.parse::<i64>().ok()?, id.to_owned())));
                Some(place.ok_or_else(|| call.invalid("at /cursor: it is no cursor"))?)
            }
        };
        Ok((params, before))
    });
    later(params, move |(params, before)| async move {
        if params.kind.is_some_and(|kind| kind != KIND) {
            return Ok(Reply::json(&json!({"items": []})));
        }
        let limit = params.limit.unwrap_or(LIMIT);
        let found = gateway.approvals.ended(before, limit).await;
        let found = found.map_err(|error| error::approval(dialect, &error))?;
        let items: Vec<Value> = found.iter().map(snapshot).collect();
        let mut page = json!({"items": items});
        if let Some(last) = found.last().filter(|_| found.len() == limit) {
            page["nextCursor"] = json!(format!("{}:{}", last.ended_at_ms(), last.id));
        }
        Ok(Reply::json(&page))
    })
}

fn not_found() -> ErrorShape {
    ErrorShape::new(ErrorCode::ApprovalNotFound, "approval not found")
        .with_details(json!({"reason": "APPROVAL_NOT_FOUND"}))
}

/// An approval with what became of it.
fn snapshot(approval: &Approval) -> Value {
    let request = request_of(approval);
    let offered: Vec<&str> = decisions(&request)
        .into_iter()
        .map(Decision::as_str)
        .collect();
    let mut presentation = json!({
        "kind": KIND, "commandText": request["command"], "allowedDecisions": offered,
    });
    for key in ["commandPreview", "warningText", "host", "nodeId", "agentId"] {
        presentation[key] = request[key].clone();
    }
    let mut shown = json!({
        "id": approval.id,
        "urlPath": format!("/approve/{}", percent_encoded(&approval.id)),
        "createdAtMs": approval.created_at_ms,
        "expiresAtMs": approval.expires_at_ms,
        "presentation": presentation,
    });
    let mut source = Map::new();
    for key in ["agentId", "sessionKey"] {
        if request[key].is_string() {
            source.insert(key.to_owned(), request[key].clone());
        }
    }
    let (status, reason) = match stands(approval, now_ms()) {
        Standing::Waits => {
            shown["status"] = json!("pending");
            if let Some(session) = source.remove("sessionKey") {
                shown["sourceSessionKey"] = session;
            }
            return shown;
        }
        Standing::Decided(decision) => {
            shown["decision"] = json!(decision.as_str());
            let status = if decision.allows() {
                "allowed"
            } else {
                "denied"
            };
            (status, "user")
        }
        Standing::Expired => ("expired", "timeout"),
    };
    shown["status"] = json!(status);
    shown["reason"] = json!(reason);
    shown["resolvedAtMs"] = json!(approval.ended_at_ms());
    if !source.is_empty() {
        shown["source"] = Value::Object(source);
    }
    shown
}

/// An id as one part of a path.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    encoded
}
