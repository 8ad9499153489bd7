//! Approvals: asking, waiting, deciding; and the files of what may be run without asking.

pub(crate) mod snapshot;

use std::sync::Arc;

use clawgate_core::{
    Dialect,
    approval::{Decision, is_variable, shown, told},
    exec_policy as policy,
    exec_policy::NotKept,
    proof,
};
use clawgate_protocol::{
    ErrorShape,
    approval::{FileSetParams, RequestParams, ResolveParams, Snapshot},
};
use clawgate_store::Approval;
use serde_json::{Map, Value, json};

use crate::{
    Gateway,
    approvals::{ApprovalError, Run, Wanted, decisions, digest, pending, request_of},
    dispatch::{Answer, Call, Reply, later},
    error,
    exec_policy::{PolicyError, PolicyFile},
};

/// How long a request waits when nobody says, milliseconds.
const TIMEOUT_MS: i64 = 120_000;
/// Bytes of a request at most.
const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Characters of an id at most.
const ID_MAX: usize = 128;

pub(crate) fn request(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let dialect = call.dialect();
    let params = match wanted(call) {
        Ok(params) => params,
        Err(error) => return Answer::Now(Reply::error(error)),
    };
    let two_phase = params.1;
    // What is asked for stands when the caller goes; only its waiting ends then.
    let asking = tokio::spawn({
        let gateway = Arc::clone(&gateway);
        async move { gateway.approvals.request(&link, params.0).await }
    });
    Answer::later(async move {
        let approval = match asking.await {
            Ok(Ok(approval)) => approval,
            Ok(Err(error)) => return Reply::error(error::approval(dialect, &error)),
            Err(died) => return Reply::error(error::internal("a handler", &died)),
        };
        let id = approval.id.clone();
        let decided = async move {
            match gateway.approvals.wait(&id).await {
                Ok(approval) => Reply::json(&outcome(&approval)),
                Err(error) => Reply::error(error::approval(dialect, &error)),
            }
        };
        if !two_phase {
            return decided.await;
        }
        Reply::json(&json!({
            "status": "accepted", "id": approval.id, "digest": approval.digest,
            "createdAtMs": approval.created_at_ms, "expiresAtMs": approval.expires_at_ms,
        }))
        .and_later(decided)
    })
}

pub(crate) fn wait_decision(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let dialect = call.dialect();
    let params = match call.value() {
        Ok(params) => params,
        Err(error) => return Answer::Now(Reply::error(error)),
    };
    let id = params["id"].as_str().map(str::trim).unwrap_or_default();
    if id.is_empty() {
        return Answer::Now(Reply::error(ErrorShape::invalid("id is required")));
    }
    let id = id.to_owned();
    Answer::later(async move {
        match gateway.approvals.wait(&id).await {
            Ok(approval) => Reply::json(&outcome(&approval)),
            Err(ApprovalError::Unknown) => {
                let error = ErrorShape::invalid("approval expired or not found");
                Reply::error(match dialect {
                    Dialect::V3 => error,
                    Dialect::V4 => error.with_details(json!({"reason": "APPROVAL_NOT_FOUND"})),
                })
            }
            Err(error) => Reply::error(error::approval(dialect, &error)),
        }
    })
}

/// How a request ended. One that is over has no decision, which denies it.
fn outcome(approval: &Approval) -> Value {
    json!({
        "id": approval.id,
        "decision": approval.decision.map(Decision::as_str),
        "createdAtMs": approval.created_at_ms,
        "expiresAtMs": approval.expires_at_ms,
        "digest": approval.digest,
    })
}

pub(crate) fn resolve(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let params = call.typed::<ResolveParams>().and_then(|params| {
        let decision = Decision::parse(&params.decision);
        let decision = decision.ok_or_else(|| ErrorShape::invalid("invalid decision"))?;
        Ok((params.id, decision))
    });
    later(params, move |(id, decision)| async move {
        let dialect = link.principal.dialect;
        let approval = gateway
            .approvals
            .resolve(&link, id, decision)
            .await
            .map_err(|error| error::approval(dialect, &error))?;
        Ok(Reply::json(
            &match keep(&gateway, &approval, decision).await {
                None => json!({"ok": true}),
                Some(why) => json!({"ok": true, "kept": why.is_none(), "whyNotKept": why}),
            },
        ))
    })
}

/// Keeps a decision that is meant for good, where it is kept here: nothing for any other. The
/// decision stands whether or not it can be kept for the next time; if not, this says why.
async fn keep(
    gateway: &Arc<Gateway>,
    approval: &Approval,
    decision: Decision,
) -> Option<Option<&'static str>> {
    if decision != Decision::AllowAlways || request_of(approval)["host"] == "node" {
        return None;
    }
    Some(match gateway.approvals.remember(approval).await {
        Ok(None) => None,
        Ok(Some(NotKept::NoProgram)) => Some("which program it runs is not known"),
        Ok(Some(NotKept::PathIsPattern)) => Some("the program's path would match others as well"),
        Ok(Some(NotKept::Environment)) => Some("the caller sets variables"),
        Err(error) => {
            tracing::warn!(%error, "an approval was not kept for the next time");
            Some("the file cannot be changed")
        }
    })
}

pub(crate) fn get(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let dialect = call.dialect();
    later(call.value(), move |params| async move {
        let id = params["id"].as_str().unwrap_or_default().to_owned();
        let found = gateway.approvals.find(id).await;
        let approval = found.map_err(|error| error::approval(dialect, &error))?;
        let request = request_of(&approval);
        let offered: Vec<&str> = decisions(&request)
            .into_iter()
            .map(Decision::as_str)
            .collect();
        Ok(Reply::json(&json!({
            "id": approval.id,
            "commandText": request["command"],
            "commandPreview": request["commandPreview"],
            "allowedDecisions": offered,
            "host": request["host"],
            "nodeId": request["nodeId"],
            "agentId": request["agentId"],
            "expiresAtMs": approval.expires_at_ms,
            "digest": approval.digest,
        })))
    })
}

pub(crate) fn list(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let dialect = call.dialect();
    later(call.fits(), move |()| async move {
        let found = gateway.approvals.pending().await;
        let found = found.map_err(|error| error::approval(dialect, &error))?;
        Ok(Reply::json(&found.iter().map(pending).collect::<Vec<_>>()))
    })
}

/// What is asked for, checked, and whether the caller wants to be told first that it stands.
fn wanted(call: &Call<'_>) -> Result<(Wanted, bool), ErrorShape> {
    let size = call.params.as_deref().map_or(0, str::len);
    if size > REQUEST_BYTES_MAX {
        return Err(call.invalid(&format!("larger than {REQUEST_BYTES_MAX} bytes")));
    }
    let params: RequestParams = call.typed()?;
    let id = trimmed(params.id.as_deref());
    if let Some(id) = &id
        && (id.chars().count() > ID_MAX || id.chars().any(char::is_control))
    {
        return Err(call.invalid(&format!(
            "at /id: must be at most {ID_MAX} characters without controls"
        )));
    }
    let host = trimmed(params.host.as_deref());
    let node = host.as_deref() == Some("node");
    let node_id = trimmed(params.node_id.as_deref()).filter(|_| node);
    let plan = params
        .system_run_plan
        .filter(|plan| node && !plan.argv.is_empty() && !plan.command_text.trim().is_empty());
    if node && node_id.is_none() {
        return Err(ErrorShape::invalid("nodeId is required for host=node"));
    }
    if node && plan.is_none() {
        return Err(ErrorShape::invalid(
            "systemRunPlan is required for host=node",
        ));
    }
    // On a node the plan is what runs, whatever else is said.
    let (argv, text, cwd, agent, session) = match &plan {
        Some(plan) => (
            plan.argv.clone(),
            Some(plan.command_text.as_str()),
            trimmed(plan.cwd.as_deref()),
            trimmed(plan.agent_id.as_deref()).or_else(|| trimmed(params.agent_id.as_deref())),
            trimmed(plan.session_key.as_deref()).or_else(|| trimmed(params.session_key.as_deref())),
        ),
        None => (
            params.command_argv.unwrap_or_default(),
            params.command.as_deref(),
            trimmed(params.cwd.as_deref()),
            trimmed(params.agent_id.as_deref()),
            trimmed(params.session_key.as_deref()),
        ),
    };
    if text.is_none_or(|text| text.trim().is_empty()) {
        return Err(ErrorShape::invalid("command is required"));
    }
    let env = params.env.unwrap_or_default();
    if let Some(name) = env.keys().find(|name| !is_variable(name)) {
        let name = shown(name);
        return Err(call.invalid(&format!("at /env: '{name}' is no name of a variable")));
    }
    let all = argv.iter().chain(env.values()).chain(&cwd);
    if all.into_iter().any(|part| part.contains('\0')) {
        return Err(call.invalid("a NUL stands in the command, its directory or its variables"));
    }
    let command = told(text, &argv).unwrap_or_default();
    let binding = plan.as_ref().map(|_| {
        // The form that the original's clients know; what decides is the digest.
        let entries: Vec<_> = env.iter().collect();
        let hash = (!entries.is_empty()).then(|| proof::fingerprint(&json!(entries).to_string()));
        json!({
            "argv": argv, "cwd": cwd, "agentId": agent, "sessionKey": session, "envHash": hash,
        })
    });
    let mut request = Map::new();
    let mut say = |key: &str, value: Value| request.insert(key.to_owned(), value);
    say("command", json!(command));
    if !node && !argv.is_empty() {
        say("commandArgv", json!(argv));
    }
    if !env.is_empty() {
        say("envKeys", json!(env.keys().collect::<Vec<_>>()));
    }
    say("systemRunBinding", json!(binding));
    say("systemRunPlan", json!(plan));
    say("cwd", json!(cwd));
    say("nodeId", json!(node_id));
    say("host", json!(host));
    let mut rest = params.rest;
    let mut given = |key: &str| rest.remove(key).unwrap_or_default();
    say("security", given("security"));
    say("ask", given("ask"));
    say("agentId", json!(agent));
    say("resolvedPath", json!(params.resolved_path));
    if let Some(sha256) = &params.resolved_sha256 {
        say("resolvedSha256", json!(sha256));
    }
    say("sessionKey", json!(session));
    for key in ["turnSourceChannel", "turnSourceTo", "turnSourceAccountId"] {
        let value = given(key);
        say(key, json!(trimmed(value.as_str())));
    }
    say("turnSourceThreadId", given("turnSourceThreadId"));
    if let Some(warning) = trimmed(given("warningText").as_str()) {
        say("warningText", json!(shown(&warning)));
    }
    for key in [
        "commandSpans",
        "unavailableDecisions",
        "scope",
        "sessionId",
        "runId",
        "toolCallId",
    ] {
        let value = given(key);
        if !value.is_null() {
            say(key, value);
        }
    }
    let request = Value::Object(request);
    let run = Run {
        argv,
        cwd,
        env,
        agent_id: agent,
        session_key: session,
    };
    let wanted = Wanted {
        id,
        digest: digest(&request, &run),
        request,
        timeout_ms: params.timeout_ms.unwrap_or(TIMEOUT_MS),
    };
    Ok((wanted, params.two_phase.unwrap_or(false)))
}

fn trimmed(text: Option<&str>) -> Option<String> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

pub(crate) fn file_get(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    later(call.fits(), move |()| async move {
        let snapshot = with_file(&gateway, PolicyFile::snapshot).await?;
        Ok(Reply::json(&file_answer(dialect, &snapshot)))
    })
}

pub(crate) fn file_set(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(call.typed::<FileSetParams>(), move |params| async move {
        if !link.may_act(crate::clock::now_ms()) {
            return Err(error::approval(
                link.principal.dialect,
                &ApprovalError::CallerEnded,
            ));
        }
        let snapshot = with_file(&gateway, move |file| {
            file.replace(params.base_hash.as_deref(), params.file)
        })
        .await?;
        let (actor, now) = (link.principal.actor(), crate::clock::now_ms());
        let detail = json!({"hash": snapshot.hash}).to_string();
        let noted = gateway.store.write("noting a change", move |tx| {
            tx.audit("exec.approvals.set", &actor, &detail, now)
        });
        noted.await.map_err(|error| error::store(&error))?;
        Ok(Reply::json(&file_answer(link.principal.dialect, &snapshot)))
    })
}

/// Reads or changes the file on a thread that may wait.
async fn with_file(
    gateway: &Arc<Gateway>,
    act: impl FnOnce(&PolicyFile) -> Result<Snapshot, PolicyError> + Send + 'static,
) -> Result<Snapshot, ErrorShape> {
    let file = gateway.approvals.file().clone();
    match tokio::task::spawn_blocking(move || act(&file)).await {
        Ok(outcome) => outcome.map_err(|error| error::exec_policy(&error)),
        Err(died) => Err(error::internal("exec approvals", &died)),
    }
}

/// The file as a dialect has it: wire 4 says beside it what its defaults come to.
fn file_answer(dialect: Dialect, snapshot: &Snapshot) -> Value {
    let mut answer = json!(snapshot);
    if dialect == Dialect::V4 {
        // No agent has that name, so this is what holds where an agent says nothing.
        let mut defaults = snapshot.file.clone();
        defaults.agents.clear();
        let rules = policy::policy(&defaults, "main");
        answer["resolvedDefaults"] = json!({
            "security": rules.security.as_str(),
            "ask": rules.ask.as_str(),
            "askFallback": rules.fallback.as_str(),
            "autoAllowSkills": rules.skills,
        });
    }
    answer
}

pub(crate) fn node_get(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.value(), move |params| async move {
        let node = params["nodeId"].as_str().unwrap_or_default().to_owned();
        let answer = ask_node(&gateway, &node, "system.execApprovals.get", json!({})).await?;
        Ok(Reply::json(&answer))
    })
}

pub(crate) fn node_set(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let params = call.value().and_then(|params| {
        let (file, native) = (params.get("file"), params.get("native"));
        match (file.is_some(), native.is_some()) {
            (true, false) | (false, true) => Ok(params),
            (false, false) => Err(call.invalid("must have required property 'file'")),
            (true, true) => Err(call.invalid("must match exactly one schema in oneOf")),
        }
    });
    later(params, move |params| async move {
        let node = params["nodeId"].as_str().unwrap_or_default().to_owned();
        let mut act = json!({});
        for key in ["file", "native", "baseHash"] {
            if let Some(value) = params.get(key) {
                act[key] = value.clone();
            }
        }
        let answer = ask_node(&gateway, &node, "system.execApprovals.set", act).await?;
        Ok(Reply::json(&answer))
    })
}

/// Asks a node about its own file. Secrets of a node stay there as well.
async fn ask_node(
    gateway: &Arc<Gateway>,
    node_id: &str,
    command: &str,
    params: Value,
) -> Result<Value, ErrorShape> {
    let mut answer = super::node::ask(gateway, node_id, command, &params).await?;
    if let Some(socket) = answer
        .pointer_mut("/file/socket")
        .and_then(Value::as_object_mut)
    {
        socket.remove("token");
    }
    Ok(answer)
}
