//! `POST /tools/invoke`: one tool of an agent, called by a program.

use std::sync::Arc;

use axum::body::Body;
use clawgate_core::{Scope, session::SessionKey, tool_door::ToolDoor};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{Fault, json_reply, text};
use crate::{
    Gateway, error,
    listen::Request,
    tools::{self, Scene},
    turns,
    web::guard::Caller,
};

/// Characters of a tool's name at most.
const NAME_MAX: usize = 200;

/// The original's shape of a refusal.
pub(super) fn refused(fault: &Fault) -> Response<Body> {
    let error = json!({"type": fault.kind, "message": fault.message});
    json_reply(fault.status, &json!({"ok": false, "error": error}))
}

pub(super) async fn answer(
    gateway: &Arc<Gateway>,
    request: &Request,
    caller: Caller,
    mut members: Map<String, Value>,
) -> Result<Response<Body>, Fault> {
    let name = match text(&members, "name")? {
        Some(name) => name,
        None => text(&members, "tool")?.unwrap_or_default(),
    };
    let name = name.trim().to_owned();
    if name.is_empty() || name.chars().count() > NAME_MAX {
        return Err(Fault::invalid("tool", "tool must be the name of a tool"));
    }
    let action = text(&members, "action")?.map(str::to_owned);
    let is_rehearsal = super::is_set(&members, "dryRun")?;
    let key = session(gateway, &members)?;
    let mut args = match members.remove("args") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(args)) => args,
        Some(_) => return Err(Fault::invalid("args", "args must be an object")),
    };
    let config = gateway.config();
    let rules = &config.snapshot.parsed["gateway"]["tools"];
    let door = ToolDoor::new(names(&rules["deny"]), names(&rules["allow"]));
    let unknown = || {
        let message = format!("tool not available: {name}");
        Fault::new(StatusCode::NOT_FOUND, "not_found", message)
    };
    if !door.lets(&name, caller.has(&Scope::ADMIN)) {
        return Err(unknown());
    }
    let set = tools::of_turn(gateway, &scene(gateway, &key).await?);
    let tool = set.get(&name).ok_or_else(unknown)?;
    if let Some(action) = action
        && !args.contains_key("action")
        && tool.spec().parameters["properties"]["action"].is_object()
    {
        args.insert("action".to_owned(), json!(action));
    }
    let args = Value::Object(args);
    if is_rehearsal {
        let result = json!({"dryRun": true, "tool": name, "args": args});
        return Ok(json_reply(
            StatusCode::OK,
            &json!({"ok": true, "result": result}),
        ));
    }
    // The connection stays while the tool works.
    let _lasting = request.lasting.upgrade();
    let stop = gateway.stopping.child_token();
    // Who goes away drops this, and with it what the tool started.
    let _ends = stop.clone().drop_guard();
    let output = tokio::select! {
        output = tool.call(&args, &stop) => output,
        () = ended(&caller, &stop) => return Err(Fault::ended()),
    };
    let actor = caller.link().principal.actor();
    tracing::info!(tool = %name, session = key.as_str(), %actor, failed = output.is_error, "a tool was called over HTTP");
    if output.is_error {
        let is_denied = output
            .details
            .as_ref()
            .is_some_and(|it| it["status"] == "denied");
        let (status, kind) = if is_denied {
            (StatusCode::FORBIDDEN, "tool_call_blocked")
        } else {
            (StatusCode::BAD_REQUEST, "tool_error")
        };
        return Err(Fault {
            has_begun: true,
            ..Fault::new(status, kind, output.text)
        });
    }
    let result = json!({
        "content": [{"type": "text", "text": output.text}], "details": output.details,
    });
    Ok(json_reply(
        StatusCode::OK,
        &json!({"ok": true, "result": result}),
    ))
}

/// Waits until the caller's authority ends, and has the tool stopped.
async fn ended(caller: &Caller, stop: &CancellationToken) {
    caller.ended().await;
    stop.cancel();
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// The session in which a tool is called: the one that is named, or the agent's main one.
fn session(gateway: &Gateway, members: &Map<String, Value>) -> Result<SessionKey, Fault> {
    let roster = gateway.roster();
    let agent = match text(members, "agentId")?
        .map(str::trim)
        .filter(|id| !id.is_empty())
    {
        Some(id) => {
            let unknown = || Fault::invalid("agentId", "there is no such agent");
            Some(roster.get(id).ok_or_else(unknown)?.id.clone())
        }
        None => None,
    };
    let written = text(members, "sessionKey")?.map(str::trim);
    let of_agent = agent.as_deref().unwrap_or(&roster.default_id);
    let key = match written.filter(|key| !key.is_empty() && *key != "main") {
        None => SessionKey::main_of(of_agent),
        Some(written) => SessionKey::read(written, agent.as_deref(), &roster.default_id)
            .map_err(|bad| Fault::invalid("sessionKey", bad.sentence()))?,
    };
    if roster.get(key.agent()).is_none() {
        let message = format!("unknown agent id \"{}\"", key.agent());
        return Err(Fault::invalid("sessionKey", message));
    }
    Ok(key)
}

/// As for a turn in which nobody can be asked for an approval.
async fn scene(gateway: &Arc<Gateway>, key: &SessionKey) -> Result<Scene, Fault> {
    let agent = gateway.roster().get(key.agent()).cloned();
    let agent = agent.ok_or_else(|| Fault::invalid("sessionKey", "there is no such agent"))?;
    let wanted = key.as_str().to_owned();
    let session = gateway.store.read(move |db| db.session(&wanted)).await;
    let session = session.map_err(|failed| Fault::of_shape(error::store(&failed)))?;
    let new_id = || uuid::Uuid::new_v4().to_string();
    turns::make_workspace(&gateway.config(), &agent)
        .await
        .map_err(Fault::of_shape)?;
    // Which tools there are may depend on the model that would be asked.
    let named = agent.model.clone().unwrap_or_default();
    let (provider, model) = named.split_once('/').unwrap_or(("", ""));
    Ok(Scene {
        session_key: key.as_str().to_owned(),
        session_id: session.map_or_else(new_id, |session| session.session_id),
        run_id: format!("tool_{}", new_id()),
        workspace: agent.workspace.clone(),
        attended: false,
        allow: None,
        model: model.to_owned(),
        provider: provider.to_owned(),
        agent,
    })
}
