//! Tools of the gateway itself, over the functions that answer its methods.
//!
//! A turn asks as somebody of its own: an operator that may read and write and nothing more. Where
//! a tool does what only an administrator may ask for (schedules), the tool itself is the bound: a
//! job is for the agent that adds it, runs turns or leaves texts and no programs, posts to no
//! address, and changes no job of another agent.

use std::sync::Arc;

use clawgate_agent::{Output, Tool, ToolSpec, Working};
use clawgate_core::{
    Dialect, Method, Role, Scope, ScopeSet, agent,
    authz::{
        self, Browser, Check, Credentials, Declared, Evidence, Outcome, Peer, Policy, Proof, Record,
    },
};
use clawgate_protocol::{ErrorShape, connect::Client, system::EvidenceSeen};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::Scene;
use crate::{
    Gateway, VERSION,
    dispatch::{self, Answer, Call},
    handshake::{Explained, Welcome},
    hub::{Link, Principal},
    presence::Here,
};

/// Characters of an answer at most.
const SHOWN_MAX: usize = 50_000;
/// Messages of a conversation when nobody says how many.
const MESSAGES: u64 = 50;

/// An agent as a caller of its gateway.
#[derive(Clone)]
pub(super) struct Own {
    gateway: Arc<Gateway>,
    link: Arc<Link>,
    welcome: Arc<Welcome>,
    agent: String,
    session_key: String,
    /// Whether it may look at other agents' conversations (`tools.agentToAgent.enabled`).
    sees_others: bool,
}

impl Own {
    pub(super) fn of(gateway: &Arc<Gateway>, scene: &Scene) -> Self {
        // The gateway itself can read the local key; as much is asked for as a turn may have.
        let evidence = Evidence {
            peer: Peer::LoopbackDirect,
            browser: Browser::No,
            declared: Declared::Other,
            role: Role::Operator,
            credentials: Credentials {
                local_proof: Check::Valid,
                ..Credentials::NONE
            },
            proof: Proof::Absent,
            record: Record::Unknown,
        };
        let scopes = ScopeSet::from_iter([Scope::READ, Scope::WRITE]);
        let Outcome::Granted(grant) = authz::grant(&evidence, Some(&scopes), &Policy::default())
        else {
            unreachable!("who can read the local key is granted what it asks for")
        };
        let client = Client {
            id: "gateway-client".to_owned(),
            version: VERSION.to_owned(),
            platform: std::env::consts::OS.to_owned(),
            mode: "backend".to_owned(),
            ..Client::default()
        };
        let name = format!("agent {}", scene.agent.id);
        let principal = Principal {
            conn_id: format!("run:{}", scene.run_id),
            dialect: Dialect::V4,
            grant,
            device_id: None,
            api_token: None,
            expires_at_ms: None,
            pending_request: None,
            peer: Peer::LoopbackDirect,
            address: name.clone(),
            client_id: client.id.clone(),
            client_mode: client.mode.clone(),
            caps: crate::hub::Caps::default(),
            standing: None,
        };
        let welcome = Welcome {
            id: String::new(),
            here: Here {
                client,
                role: Role::Operator,
                scopes: scopes.clone(),
                device_id: None,
                key: name,
            },
            explained: Explained {
                seen: EvidenceSeen {
                    peer: Peer::LoopbackDirect.as_str().to_owned(),
                    browser: "no".to_owned(),
                    credentials: vec!["local-proof".to_owned()],
                    device_proof: "absent".to_owned(),
                    record: "unknown".to_owned(),
                    device_id: None,
                },
                requested: Some(scopes),
            },
            method: "agent",
            token: None,
            node: None,
        };
        let config = gateway.config();
        Self {
            gateway: Arc::clone(gateway),
            link: Arc::new(Link::unconnected(principal)),
            welcome: Arc::new(welcome),
            agent: scene.agent.id.clone(),
            session_key: scene.session_key.clone(),
            sees_others: config
                .snapshot
                .parsed
                .pointer("/tools/agentToAgent/enabled")
                == Some(&json!(true)),
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Asks the gateway as any caller does.
    async fn ask(&self, method: Method, params: Value) -> Result<Value, ErrorShape> {
        let access = method.spec().access(self.link.principal.dialect);
        if let Err(refused) = authz::admit(&self.link.principal.grant, access) {
            return Err(crate::error::refused(&self.link.principal, &refused));
        }
        self.ask_bounded(method, params).await
    }

    /// The same for what the tool itself bounds.
    async fn ask_bounded(&self, method: Method, params: Value) -> Result<Value, ErrorShape> {
        let answer = dispatch::call(&Call {
            method,
            params: Some(params.to_string().into()),
            gateway: &self.gateway,
            link: &self.link,
            welcome: &self.welcome,
        });
        let reply = match answer {
            Answer::Now(reply) => reply,
            Answer::Later(later) => later.await,
            // What was begun is carried through although the turn stops.
            Answer::Carried(carried) => match tokio::spawn(carried).await {
                Ok(reply) => reply,
                Err(died) => return Err(crate::error::internal("a tool", &died)),
            },
        };
        let text = reply.outcome?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Whether a session is one that it may look at.
    fn check_session(&self, key: &str) -> Result<(), ErrorShape> {
        let of = agent::of_session_key(key);
        let own = match of {
            Some(of) => of == self.agent,
            // Short keys are the default agent's.
            None => self.gateway.default_agent() == self.agent,
        };
        if own || self.sees_others {
            return Ok(());
        }
        Err(ErrorShape::invalid(format!(
            "session \"{key}\" is another agent's; tools.agentToAgent.enabled would let you see it"
        )))
    }

    /// Whether a job is its own, and none that runs a program where it is to be changed or run.
    async fn check_job(&self, id: &str, changes: bool) -> Result<(), ErrorShape> {
        let job = self.ask(Method::CronGet, json!({"id": id})).await?;
        let of = job["agentId"].as_str().map(agent::id);
        if of.as_deref().unwrap_or(self.gateway.default_agent()) == self.agent {
            if changes && job["payload"]["kind"] == "command" {
                return Err(ErrorShape::invalid(format!(
                    "job \"{id}\" runs a program and is the operator's"
                )));
            }
            return Ok(());
        }
        Err(ErrorShape::invalid(format!(
            "job \"{id}\" is another agent's"
        )))
    }
}

/// The tools, whatever the policy says of them.
pub(super) fn tools(gateway: &Arc<Gateway>, scene: &Scene) -> Vec<Arc<dyn Tool>> {
    let own = Own::of(gateway, scene);
    Kind::ALL
        .into_iter()
        .map(|kind| -> Arc<dyn Tool> {
            Arc::new(OwnTool {
                own: own.clone(),
                kind,
                spec: kind.spec(),
            })
        })
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cron,
    SessionsList,
    SessionsHistory,
    SessionsSend,
    SessionStatus,
    AgentsList,
    Message,
    Gateway,
}

struct OwnTool {
    own: Own,
    kind: Kind,
    spec: ToolSpec,
}

impl Tool for OwnTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            let null = Map::new();
            let arguments = match arguments {
                Value::Object(members) => members,
                Value::Null => &null,
                _ => return Output::failed("the arguments are no JSON object"),
            };
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => return Output::failed("ended: the turn was stopped"),
                done = self.act(arguments) => done,
            };
            match done {
                Ok(value) => told(&value),
                Err(error) => Output {
                    text: error.message.clone(),
                    details: Some(json!({"status": "error", "error": error})),
                    is_error: true,
                },
            }
        })
    }
}

/// An answer as a model reads it.
fn told(value: &Value) -> Output {
    let text = value.to_string();
    let whole = text.len();
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    let text = if shown.len() < text.len() {
        format!(
            "{shown}\n[{} bytes more are left out; ask for less]",
            text.len() - shown.len()
        )
    } else {
        shown
    };
    Output {
        text,
        // What is long stands in the text as far as it is told.
        details: (whole <= SHOWN_MAX).then(|| value.clone()),
        is_error: false,
    }
}

fn text<'a>(arguments: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|name| arguments.get(*name)?.as_str())
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn required<'a>(arguments: &'a Map<String, Value>, names: &[&str]) -> Result<&'a str, ErrorShape> {
    text(arguments, names)
        .ok_or_else(|| ErrorShape::invalid(format!("\"{}\" is missing", names[0])))
}

/// Some members, as they are.
fn picked(arguments: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    arguments
        .iter()
        .filter(|(name, value)| names.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

impl OwnTool {
    async fn act(&self, arguments: &Map<String, Value>) -> Result<Value, ErrorShape> {
        let own = &self.own;
        match self.kind {
            Kind::Cron => cron(own, arguments).await,
            Kind::SessionsList => {
                let mut params = picked(arguments, &["limit", "activeMinutes", "search"]);
                if !own.sees_others {
                    params.insert("agentId".to_owned(), own.agent.as_str().into());
                }
                params.insert("includeLastMessage".to_owned(), true.into());
                own.ask(Method::SessionsList, params.into()).await
            }
            Kind::SessionsHistory => {
                let key = required(arguments, &["sessionKey"])?;
                own.check_session(key)?;
                let limit = arguments.get("limit").and_then(Value::as_u64);
                let limit = limit.unwrap_or(MESSAGES).clamp(1, 1_000);
                let params = json!({"sessionKey": key, "limit": limit});
                let mut history = own.ask(Method::ChatHistory, params).await?;
                if arguments.get("includeTools") != Some(&json!(true))
                    && let Some(messages) = history["messages"].as_array_mut()
                {
                    messages.retain(|message| message["role"] != "toolResult");
                }
                Ok(history)
            }
            Kind::SessionsSend => {
                let key = required(arguments, &["sessionKey"])?;
                own.check_session(key)?;
                if key == own.session_key {
                    return Err(ErrorShape::invalid(
                        "that is the session of this turn; say it in your answer",
                    ));
                }
                let message = required(arguments, &["message"])?;
                let params = json!({
                    "sessionKey": key, "message": message,
                    "idempotencyKey": uuid::Uuid::new_v4().to_string(),
                });
                own.ask(Method::ChatSend, params).await
            }
            Kind::SessionStatus => {
                let key = text(arguments, &["sessionKey"]).unwrap_or(&own.session_key);
                own.check_session(key)?;
                own.ask(Method::SessionsDescribe, json!({"key": key})).await
            }
            Kind::AgentsList => own.ask(Method::AgentsList, json!({})).await,
            Kind::Message => Err(ErrorShape::unavailable(
                "there is no channel here to send a message through; what you answer is delivered \
                 where this conversation is",
            )
            .with_details(json!({"code": "NO_CHANNEL"}))),
            Kind::Gateway => match required(arguments, &["action"])? {
                "status" => own.ask(Method::Status, json!({})).await,
                "health" => own.ask(Method::Health, json!({})).await,
                "config.get" => {
                    let config = own.ask(Method::ConfigGet, json!({})).await?;
                    let path = text(arguments, &["path"]);
                    Ok(match path {
                        Some(path) => {
                            let pointer = format!("/{}", path.replace('.', "/"));
                            json!({"path": path, "value": config["parsed"].pointer(&pointer)})
                        }
                        None => json!({"config": config["parsed"]}),
                    })
                }
                other => Err(ErrorShape::invalid(format!(
                    "\"{other}\" is for the operator; this tool only looks: status, health, \
                     config.get"
                ))),
            },
        }
    }
}

async fn cron(own: &Own, arguments: &Map<String, Value>) -> Result<Value, ErrorShape> {
    let id = || required(arguments, &["jobId", "id"]);
    match required(arguments, &["action"])? {
        "status" => own.ask(Method::CronStatus, json!({})).await,
        "list" => {
            let mut params = picked(arguments, &["includeDisabled", "limit", "offset"]);
            params.insert("agentId".to_owned(), own.agent.as_str().into());
            own.ask(Method::CronList, params.into()).await
        }
        "runs" => {
            let id = id()?;
            own.check_job(id, false).await?;
            let mut params = picked(arguments, &["limit"]);
            params.insert("id".to_owned(), id.into());
            own.ask(Method::CronRuns, params.into()).await
        }
        "add" => {
            let job = arguments.get("job").and_then(Value::as_object).cloned();
            // Some models put the job's members beside the action.
            let mut job = job.unwrap_or_else(|| {
                let mut job = arguments.clone();
                job.remove("action");
                job
            });
            job.insert("agentId".to_owned(), own.agent.as_str().into());
            let mut job = crate::methods::cron::as_added(job.into());
            check_job_members(own, &job)?;
            job["agentId"] = own.agent.as_str().into();
            own.ask_bounded(Method::CronAdd, job).await
        }
        "update" => {
            let id = id()?;
            own.check_job(id, true).await?;
            let patch = arguments.get("patch").filter(|patch| patch.is_object());
            let patch = patch.ok_or_else(|| ErrorShape::invalid("\"patch\" is missing"))?;
            let patch = crate::methods::cron::as_changed(patch);
            check_job_members(own, &patch)?;
            if patch.get("agentId").is_some() {
                return Err(ErrorShape::invalid("a job stays with its agent"));
            }
            own.ask_bounded(Method::CronUpdate, json!({"id": id, "patch": patch}))
                .await
        }
        "remove" => {
            let id = id()?;
            own.check_job(id, true).await?;
            own.ask_bounded(Method::CronRemove, json!({"id": id})).await
        }
        "run" => {
            let id = id()?;
            own.check_job(id, true).await?;
            let mode = text(arguments, &["runMode"]).unwrap_or("force");
            own.ask_bounded(Method::CronRun, json!({"id": id, "mode": mode}))
                .await
        }
        other => Err(ErrorShape::invalid(format!(
            "there is no action \"{other}\": status, list, add, update, remove, run, runs"
        ))),
    }
}

/// Members of a job that an agent may set. Others are an operator's: what a job may do beyond a
/// turn, where its results are posted, and whose job is replaced by it.
const JOB: &[&str] = &[
    "agentId",
    "catchUp",
    "deleteAfterRun",
    "delivery",
    "description",
    "disableAfter",
    "enabled",
    "name",
    "overlap",
    "payload",
    "schedule",
    "sessionKey",
    "sessionTarget",
    "wakeMode",
];
/// The same of its payload.
const PAYLOAD: &[&str] = &[
    "fallbacks",
    "kind",
    "lightContext",
    "message",
    "model",
    "text",
    "thinking",
    "timeoutSeconds",
];
/// The same of its delivery.
const DELIVERY: &[&str] = &["bestEffort", "channel", "mode", "to"];

/// Judges a job as it will be read. An object that is not in the one form is refused.
fn check_job_members(own: &Own, job: &Value) -> Result<(), ErrorShape> {
    let empty = Map::new();
    let object = |value: Option<&'_ Value>, what: &str| match value {
        None | Some(Value::Null) => Ok(empty.clone()),
        Some(Value::Object(members)) => Ok(members.clone()),
        Some(_) => Err(ErrorShape::invalid(format!("\"{what}\" must be an object"))),
    };
    let known = |members: &Map<String, Value>, known: &[&str], what: &str| match members
        .keys()
        .find(|name| !known.contains(&name.as_str()))
    {
        None => Ok(()),
        Some(name) => Err(ErrorShape::invalid(format!(
            "\"{name}\" of {what} is for the operator to set"
        ))),
    };
    let members = object(Some(job), "job")?;
    known(&members, JOB, "a job")?;
    let payload = object(members.get("payload"), "payload")?;
    if let Some(kind) = payload.get("kind")
        && !matches!(kind.as_str(), Some("agentTurn" | "systemEvent"))
    {
        return Err(ErrorShape::invalid(format!(
            "a job of yours has a payload agentTurn or systemEvent, not {kind}"
        )));
    }
    known(&payload, PAYLOAD, "a payload")?;
    let delivery = object(members.get("delivery"), "delivery")?;
    known(&delivery, DELIVERY, "a delivery")?;
    if let Some(mode) = delivery.get("mode")
        && !matches!(mode.as_str(), Some("none" | "announce"))
    {
        return Err(ErrorShape::invalid(
            "where a job's results are posted is for the operator to say",
        ));
    }
    let target = members.get("sessionTarget").and_then(Value::as_str);
    let target = target.and_then(|target| target.strip_prefix("session:"));
    let key = members.get("sessionKey").and_then(Value::as_str);
    for key in target.into_iter().chain(key) {
        own.check_session(key)?;
    }
    Ok(())
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Cron,
        Self::SessionsList,
        Self::SessionsHistory,
        Self::SessionsSend,
        Self::SessionStatus,
        Self::AgentsList,
        Self::Message,
        Self::Gateway,
    ];

    fn spec(self) -> ToolSpec {
        let (name, description, properties, required): (_, _, Value, &[&str]) = match self {
            Self::Cron => (
                "cron",
                "Your scheduled jobs: status, list, add (job), update (jobId, patch), remove, run, \
                 runs. A job is {name, schedule, payload, sessionTarget}; schedule is {kind:\"at\", \
                 at: ISO time}, {kind:\"every\", everyMs} or {kind:\"cron\", expr, tz}; payload is \
                 {kind:\"systemEvent\", text} with sessionTarget \"main\", or {kind:\"agentTurn\", \
                 message} with sessionTarget \"isolated\".",
                json!({
                    "action": {"type": "string", "enum":
                        ["status", "list", "add", "update", "remove", "run", "runs"]},
                    "job": {"type": "object", "additionalProperties": true},
                    "jobId": {"type": "string"},
                    "patch": {"type": "object", "additionalProperties": true},
                    "includeDisabled": {"type": "boolean"},
                    "runMode": {"type": "string", "enum": ["due", "force"]},
                    "limit": {"type": "number"},
                }),
                &["action"],
            ),
            Self::SessionsList => (
                "sessions_list",
                "Your conversations, the last used one first.",
                json!({
                    "limit": {"type": "number", "minimum": 1},
                    "activeMinutes": {"type": "number", "minimum": 1},
                    "search": {"type": "string"},
                }),
                &[],
            ),
            Self::SessionsHistory => (
                "sessions_history",
                "The last messages of one of your conversations.",
                json!({
                    "sessionKey": {"type": "string"},
                    "limit": {"type": "number", "minimum": 1},
                    "includeTools": {"type": "boolean"},
                }),
                &["sessionKey"],
            ),
            Self::SessionsSend => (
                "sessions_send",
                "Says something in another of your conversations; it is answered there.",
                json!({
                    "sessionKey": {"type": "string"},
                    "message": {"type": "string"},
                }),
                &["sessionKey", "message"],
            ),
            Self::SessionStatus => (
                "session_status",
                "What this conversation is: its model, its settings, what it used.",
                json!({"sessionKey": {"type": "string"}}),
                &[],
            ),
            Self::AgentsList => ("agents_list", "The agents of this gateway.", json!({}), &[]),
            Self::Message => (
                "message",
                "Sends a message through a channel.",
                json!({
                    "action": {"type": "string", "enum": ["send"]},
                    "channel": {"type": "string"},
                    "target": {"type": "string"},
                    "message": {"type": "string"},
                }),
                &["action"],
            ),
            Self::Gateway => (
                "gateway",
                "Looks at the gateway: status, health, config.get (path; secrets are masked).",
                json!({
                    "action": {"type": "string", "enum": ["status", "health", "config.get"]},
                    "path": {"type": "string"},
                }),
                &["action"],
            ),
        };
        ToolSpec {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters: json!({
                "type": "object", "properties": properties, "required": required,
            }),
        }
    }
}
