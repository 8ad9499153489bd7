//! Nodes: paired devices of the node role, and the older pairing store that is always empty here.

use std::sync::Arc;

use clawgate_core::Role;
use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later, now},
    error,
};

pub(crate) fn list(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.fits(), move |()| async move {
        let list = gateway
            .pairings
            .list()
            .await
            .map_err(|error| error::store(&error))?;
        let nodes: Vec<Value> = list
            .paired
            .iter()
            .filter(|device| device.roles.iter().any(|role| role == Role::Node.as_str()))
            .map(|device| {
                let mut node = json!({"nodeId": device.device_id});
                for (key, value) in [
                    ("displayName", &device.display_name),
                    ("platform", &device.platform),
                    ("deviceFamily", &device.device_family),
                    ("remoteIp", &device.remote_ip),
                ] {
                    if let Some(value) = value {
                        node[key] = value.as_str().into();
                    }
                }
                node["caps"] = json!([]);
                node["commands"] = json!([]);
                node["paired"] = true.into();
                node["connected"] = device.connected.unwrap_or(false).into();
                node
            })
            .collect();
        Ok(Reply::json(&json!({"ts": now_ms(), "nodes": nodes})))
    })
}

pub(crate) fn pair_list(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        Ok(Reply::json(&json!({"pending": [], "paired": []})))
    })
}
