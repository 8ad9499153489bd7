//! The exec approval policy of this host: the operator's own file, read as it is.

use std::sync::Arc;

use clawgate_core::proof;
use serde_json::{Value, json};

use crate::{
    dispatch::{Answer, Call, Reply, later},
    error,
};

pub(crate) fn get(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.fits(), move |()| async move {
        let path = gateway.state.path().join("exec-approvals.json");
        let socket = gateway.state.path().join("exec-approvals.sock");
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let (exists, raw) = match read {
            Ok(raw) => (true, raw),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (false, String::new()),
            Err(error) => return Err(error::internal("reading exec approvals", &error)),
        };
        let mut file: Value = if exists {
            serde_json::from_str(&raw)
                .map_err(|error| error::internal("reading exec approvals", &error))?
        } else {
            json!({"version": 1, "socket": {}, "defaults": {}, "agents": {}})
        };
        // The socket's secret never leaves this machine.
        file["socket"] = json!({"path": socket.display().to_string()});
        Ok(Reply::json(&json!({
            "path": path.display().to_string(),
            "exists": exists,
            "hash": proof::fingerprint(&raw),
            "file": file,
        })))
    })
}
