//! Models.

use clawgate_core::Dialect;
use serde_json::{Value, json};

use crate::{
    dispatch::{Answer, Call, Reply, now},
    models::models,
};

pub(crate) fn list(call: &Call<'_>) -> Answer {
    now(|| {
        call.fits()?;
        let config = call.gateway.config();
        let is_v4 = call.dialect() == Dialect::V4;
        let rows: Vec<Value> = models(&config.snapshot.parsed)
            .iter()
            .map(|model| model.row(is_v4))
            .collect();
        Ok(Reply::json(&json!({"models": rows})))
    })
}
