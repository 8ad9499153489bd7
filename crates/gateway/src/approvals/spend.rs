//! The use of an approval: a run on a node begins with it, once, and only the run that was shown.

use std::{collections::BTreeMap, sync::Arc};

use clawgate_core::approval::Decision;
use clawgate_protocol::{ErrorShape, approval::Plan};
use serde_json::{Map, Value, json};

use super::{ApprovalError, Approvals, Run, bucket, digest, request_of};
use crate::{clock::now_ms, error, hub::Link};

/// An approval that was used: the run may begin, as it was prepared.
#[derive(Debug)]
pub(crate) struct Spent {
    pub decision: Decision,
    /// What was approved; nothing else may be sent to the node.
    pub plan: Plan,
    /// The whole request as it was shown.
    pub shown: Value,
}

/// Whether the params of a run say that somebody approved it. Only a record can say that.
pub(crate) fn claims_approval(given: &Value) -> bool {
    let decision = given["approvalDecision"].as_str().map(str::trim);
    given["approved"] == true || matches!(decision, Some("allow-once" | "allow-always"))
}

impl Approvals {
    /// The members of `system.run` that an approval decides, for params that claim one: taken from
    /// what was shown, for the record that `runId` names, which is used up by this. Every other
    /// member that says what runs is to be left out.
    pub(crate) async fn approved_run(
        &self,
        caller: &Arc<Link>,
        node_id: &str,
        given: &Value,
    ) -> Result<Map<String, Value>, ErrorShape> {
        let id = given["runId"].as_str().map(str::trim).unwrap_or_default();
        if id.is_empty() {
            return Err(
                ErrorShape::invalid("approval override requires params.runId")
                    .with_details(json!({"code": "MISSING_RUN_ID"})),
            );
        }
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        };
        let text = |key: &str| {
            let text = given[key].as_str().map(str::trim);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let env = given["env"].as_object().into_iter().flatten();
        let env: BTreeMap<String, String> = env
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or("\0").to_owned()))
            .collect();
        let run = Run {
            argv: texts(&given["command"]),
            cwd: text("cwd"),
            env,
            agent_id: text("agentId"),
            session_key: text("sessionKey"),
        };
        let spent = self.spend(caller, id.to_owned(), node_id, run).await;
        let spent = spent.map_err(|error| {
            let error = error::approval(caller.principal.dialect, &error);
            let mut details = error.details.clone().unwrap_or_else(|| json!({}));
            details["runId"] = json!(id);
            error.with_details(details)
        })?;
        let members = json!({
            "command": spent.plan.argv, "rawCommand": spent.plan.command_text,
            "cwd": spent.shown["cwd"], "agentId": spent.shown["agentId"],
            "sessionKey": spent.shown["sessionKey"],
            "systemRunPlan": spent.plan, "runId": id, "approved": true,
            "approvalDecision": spent.decision.as_str(),
            "resolvedSha256": spent.shown["resolvedSha256"],
        });
        let Value::Object(mut members) = members else {
            return Ok(Map::new());
        };
        members.retain(|_, value| !value.is_null());
        Ok(members)
    }

    /// Uses an approval for a run on a node: once, before its time is over, by whoever asked for
    /// it, and for exactly what was shown.
    pub(crate) async fn spend(
        &self,
        caller: &Arc<Link>,
        id: String,
        node_id: &str,
        run: Run,
    ) -> Result<Spent, ApprovalError> {
        let (by, node_id) = (Arc::clone(caller), node_id.to_owned());
        let unfit = |code, message| ApprovalError::Unfit { code, message };
        self.store
            .write("using an approval", move |tx| {
                let now = now_ms();
                if !by.may_act(now) {
                    return Err(ApprovalError::CallerEnded);
                }
                let approval = tx.read().approval(&id)?.ok_or_else(|| {
                    unfit("UNKNOWN_APPROVAL_ID", "unknown or expired approval id")
                })?;
                if now >= approval.expires_at_ms {
                    return Err(unfit("APPROVAL_EXPIRED", "approval expired"));
                }
                let own_device = by.principal.device_id.as_ref().map(|id| id.as_str());
                match approval.requester_device.as_deref() {
                    Some(device) if own_device != Some(device) => {
                        return Err(unfit(
                            "APPROVAL_DEVICE_MISMATCH",
                            "approval id not valid for this device",
                        ));
                    }
                    // An API token is the same caller on every connection.
                    None if approval.requester_conn != by.principal.conn_id
                        && (by.principal.api_token.is_none()
                            || approval.requester != bucket(&by.principal)) =>
                    {
                        return Err(unfit(
                            "APPROVAL_CLIENT_MISMATCH",
                            "approval id not valid for this client",
                        ));
                    }
                    Some(_) | None => {}
                }
                let request = request_of(&approval);
                if request["nodeId"] != node_id.as_str() {
                    return Err(unfit(
                        "APPROVAL_NODE_MISMATCH",
                        "approval id not valid for this node",
                    ));
                }
                // What a caller leaves out is as it was shown.
                let shown = |key: &str| request[key].as_str().map(str::to_owned);
                let run = Run {
                    cwd: run.cwd.or_else(|| shown("cwd")),
                    agent_id: run.agent_id.or_else(|| shown("agentId")),
                    session_key: run.session_key.or_else(|| shown("sessionKey")),
                    ..run
                };
                let mismatch = || {
                    unfit(
                        "APPROVAL_REQUEST_MISMATCH",
                        "approval id does not match request",
                    )
                };
                let plan: Plan = serde_json::from_value(request["systemRunPlan"].clone())
                    .map_err(|_| mismatch())?;
                if digest(&request, &run) != approval.digest {
                    return Err(mismatch());
                }
                let decision = approval.decision.filter(|decision| decision.allows());
                let (Some(decision), true) = (decision, tx.spend_approval(&id, now)?) else {
                    return Err(unfit("APPROVAL_REQUIRED", "approval required"));
                };
                let actor = by.principal.actor();
                let detail = json!({"id": id, "digest": approval.digest});
                tx.audit("exec.approval.spend", &actor, &detail.to_string(), now)?;
                Ok(Spent {
                    decision,
                    plan,
                    shown: request,
                })
            })
            .await
    }
}
