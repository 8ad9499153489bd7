//! `GET /v1/models`: the agents, under the names that `model` takes.

use std::sync::Arc;

use axum::body::Body;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Fault, json_reply, not_allowed,
    session::{Named, agent_of},
};
use crate::Gateway;

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 0, "owned_by": "openclaw", "permission": []})
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

pub(super) fn list(gateway: &Arc<Gateway>, method: &Method) -> Response<Body> {
    if !is_read(method) {
        return not_allowed("GET, HEAD");
    }
    let mut data = vec![model("openclaw"), model("openclaw/default")];
    let roster = gateway.roster();
    data.extend(
        roster
            .agents
            .iter()
            .map(|agent| model(&format!("openclaw/{}", agent.id))),
    );
    json_reply(StatusCode::OK, &json!({"object": "list", "data": data}))
}

pub(super) fn one(gateway: &Arc<Gateway>, method: &Method, name: &str) -> Response<Body> {
    if !is_read(method) {
        return not_allowed("GET, HEAD");
    }
    let is_there = match agent_of(name) {
        Some(Named::Default) => true,
        Some(Named::Agent(id)) => gateway.roster().get(&id).is_some(),
        None => false,
    };
    if is_there {
        json_reply(StatusCode::OK, &model(name))
    } else {
        no_model(name).response()
    }
}

/// There is no such agent.
pub(super) fn no_model(name: &str) -> Fault {
    let name: String = name.chars().take(200).collect();
    let message = format!(
        "there is no model \"{name}\": a model is an agent here, openclaw or openclaw/<agent>"
    );
    Fault {
        param: Some("model"),
        ..Fault::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }
    .code("model_not_found")
}
