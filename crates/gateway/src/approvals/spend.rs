//! The use of an approval: a run on a node begins with it, once, and only the run that was shown.

#![cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "nothing runs programs on nodes before nodes are served"
    )
)]

use std::sync::Arc;

use clawgate_core::approval::Decision;
use clawgate_protocol::approval::Plan;
use serde_json::json;

use super::{ApprovalError, Approvals, Run, digest, request_of};
use crate::{clock::now_ms, hub::Link};

/// An approval that was used: the run may begin, as it was prepared.
#[derive(Debug)]
pub(crate) struct Spent {
    pub decision: Decision,
    /// What was approved; nothing else may be sent to the node.
    pub plan: Plan,
}

impl Approvals {
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
                    None if approval.requester_conn != by.principal.conn_id => {
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
                Ok(Spent { decision, plan })
            })
            .await
    }
}
