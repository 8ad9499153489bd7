//! Sessions. None exists before there are agent turns, so the list is empty, and says so.

use serde_json::json;

use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, now},
};

pub(crate) fn list(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        let health = &call.gateway.health;
        let model = health.model();
        let (provider, model) = match model.as_deref().and_then(|model| model.split_once('/')) {
            Some((provider, model)) => (Some(provider), Some(model)),
            None => (None, model.as_deref()),
        };
        Ok(Reply::json(&json!({
            "ts": now_ms(),
            "path": health.sessions_path(),
            "count": 0,
            "defaults": {"modelProvider": provider, "model": model, "contextTokens": null},
            "sessions": [],
        })))
    })
}
