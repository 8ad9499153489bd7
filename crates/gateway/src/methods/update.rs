//! Updates. The gateway does not replace its own program: whoever installed it does.

use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, now},
};

pub(crate) fn run(call: &Call<'_>) -> Answer {
    now(|| {
        let params = call.value()?;
        let program = std::env::current_exe().map_or_else(
            |_| "the program".to_owned(),
            |path| path.display().to_string(),
        );
        let hint = format!(
            "this gateway does not update itself: put the new program in the place of {program}, \
             by whatever installed it, and restart the service"
        );
        let version = json!({"version": crate::VERSION});
        let note = params.get("note").cloned().unwrap_or(Value::Null);
        Ok(Reply::json(&json!({
            "ok": true,
            "result": {
                "status": "skipped",
                "mode": "unknown",
                "before": version,
                "after": version,
                "reason": "not-self-managed",
                "steps": [],
                "durationMs": 0,
            },
            "restart": null,
            "sentinel": {
                "path": null,
                "payload": {
                    "kind": "update",
                    "status": "skipped",
                    "ts": now_ms(),
                    "message": note,
                    "doctorHint": hint,
                    "stats": {
                        "mode": "unknown",
                        "before": version,
                        "after": version,
                        "steps": [],
                        "reason": "not-self-managed",
                        "durationMs": 0,
                    },
                },
            },
        })))
    })
}
