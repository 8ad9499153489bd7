//! Turns as clients ask for them: `agent`, `agent.wait`, `chat.send`, `chat.abort`.

mod slash;

use std::{sync::Arc, time::Duration};

use clawgate_core::{
    Dialect, Scope, agent,
    lane::QueueMode,
    session::{self, SessionKey},
    slash::{Slash, is_stop},
};
use clawgate_protocol::{
    ErrorShape,
    agent::{AbortParams, CHAT_SEND_NEEDS, ChatSendParams, RUN_NEEDS, RunParams, WaitParams},
};
use serde_json::{Value, json};

use super::{agent::key_agent, agent::named, session::conversation};
use crate::{
    Gateway,
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later, now},
    hub::Link,
    turns::{self, Begun, Image, Origin, Run, State, Stopped, Wanted},
};

/// Pictures of one message, and bytes of one of them, as in the original.
const IMAGES_MAX: usize = 10;
const IMAGE_BYTES_MAX: usize = 5 << 20;
/// Characters of a message.
const MESSAGE_MAX: usize = 1 << 20;
/// How long `agent.wait` waits when nobody says, and at most.
const WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Pictures among attachments. Anything else is refused: an agent that does not see what was sent
/// answers as if it were not there.
pub(crate) fn images(attachments: &[Value]) -> Result<Vec<Image>, ErrorShape> {
    if attachments.len() > IMAGES_MAX {
        return Err(ErrorShape::invalid(format!(
            "a message has {IMAGES_MAX} attachments at most"
        )));
    }
    attachments.iter().enumerate().map(image).collect()
}

fn image((place, attachment): (usize, &Value)) -> Result<Image, ErrorShape> {
    let bad = |why: &str| ErrorShape::invalid(format!("attachment {}: {why}", place + 1));
    let text = |member: &str| attachment.get(member).and_then(Value::as_str);
    let mime = text("mimeType")
        .or_else(|| text("mime"))
        .unwrap_or_default();
    let mime = mime.trim().to_ascii_lowercase();
    if !matches!(
        mime.as_str(),
        "image/png" | "image/jpeg" | "image/gif" | "image/webp"
    ) {
        return Err(bad("only pictures (png, jpeg, gif, webp) are taken"));
    }
    let content = text("content").or_else(|| text("data")).unwrap_or_default();
    let data = match content.split_once(";base64,") {
        Some((head, data)) if head.starts_with("data:") => data,
        _ => content,
    };
    let fits = data.len() / 4 * 3 <= IMAGE_BYTES_MAX;
    if !fits {
        return Err(bad("it is larger than 5 MB"));
    }
    if !is_base64(data) {
        return Err(bad("content must be base64"));
    }
    Ok(Image {
        mime,
        data: data.to_owned(),
    })
}

/// Whether a text is base64 in the ordinary alphabet, with its end filled up or not.
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let ends = text.len() - body.len();
    let of_alphabet = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    !body.is_empty()
        && body.len() % 4 != 1
        && (ends == 0 || (ends <= 2 && text.len().is_multiple_of(4)))
        && body.bytes().all(of_alphabet)
}

/// What a person wrote, without what no text has.
pub(crate) fn words(message: &str) -> Result<String, ErrorShape> {
    if message.contains('\0') {
        return Err(ErrorShape::invalid("message must not contain null bytes"));
    }
    if message.chars().count() > MESSAGE_MAX {
        return Err(ErrorShape::invalid(
            "message is longer than 1048576 characters",
        ));
    }
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    Ok(message.chars().filter(kept).collect())
}

pub(crate) fn thinking(level: Option<String>) -> Result<Option<String>, ErrorShape> {
    let Some(level) = level.filter(|level| !level.trim().is_empty()) else {
        return Ok(None);
    };
    match session::thinking_level(&level) {
        Some(known) => Ok(Some(known.to_owned())),
        None => Err(ErrorShape::invalid(format!(
            "invalid thinking level \"{}\" (use off|minimal|low|medium|high|xhigh|adaptive)",
            level.trim()
        ))),
    }
}

/// Refuses members that ask for what is not there.
fn served(call: &Call<'_>, needs: &[&str]) -> Result<(), ErrorShape> {
    let Value::Object(members) = call.unchecked()? else {
        return Ok(());
    };
    let asked = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    match needs
        .iter()
        .find(|name| members.get(**name).is_some_and(asked))
    {
        None => Ok(()),
        Some(name) => Err(ErrorShape::unavailable(format!(
            "{} cannot do {name} here",
            call.method.spec().name
        ))
        .with_details(json!({"code": "NOT_SERVED", "param": name}))),
    }
}

/// What happens when a turn runs already: as asked, else as configured.
fn queue_mode(gateway: &Gateway, asked: Option<&str>) -> Result<QueueMode, ErrorShape> {
    match asked {
        Some(word) => QueueMode::parse(word)
            .ok_or_else(|| ErrorShape::invalid(format!("invalid queueMode \"{word}\""))),
        None => Ok(gateway
            .config()
            .snapshot
            .parsed
            .pointer("/messages/queue/mode")
            .and_then(Value::as_str)
            .and_then(QueueMode::parse)
            .unwrap_or_default()),
    }
}

fn wanted(link: &Link, key: SessionKey, origin: Origin, run_id: String) -> Wanted {
    let device = link.principal.device_id.as_ref();
    Wanted {
        conn_id: Some(link.principal.conn_id.clone()),
        device_id: device.map(|id| id.as_str().to_owned()),
        ..Wanted::new(run_id, key, origin)
    }
}

pub(crate) fn run(call: &Call<'_>) -> Answer {
    let asked = read_run(call);
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let reset = match &asked {
        Ok((_, _, Some(reset))) => Some(call.other(
            clawgate_core::Method::SessionsReset,
            &json!({"key": reset.as_str()}),
        )),
        _ => None,
    };
    later(asked, move |(wanted, session_id, _)| async move {
        if let Some(reset) = reset {
            let reply = reset.reply().await;
            if wanted.message.is_empty() {
                reply.outcome?;
                let result = json!({
                    "runId": wanted.run_id, "status": "ok", "summary": "reset",
                    "result": {"payloads": []},
                });
                return Ok(Reply::json(&result));
            }
            reply.outcome?;
        }
        let wanted = match session_id {
            Some(session_id) => in_conversation(&gateway, wanted, session_id).await?,
            None => wanted,
        };
        let run_id = wanted.run_id.clone();
        match gateway.begin_turn(Some(link), wanted).await? {
            Begun::New(run) => {
                let mut accepted = json!({
                    "runId": run_id, "status": "accepted", "acceptedAt": now_ms(),
                });
                tell_place(&gateway, &run, &mut accepted);
                Ok(Reply::json(&accepted).and_later(async move {
                    let ended = run.ended().await;
                    of_result(&ended.result(run.id()))
                }))
            }
            Begun::UnderWay => Ok(Reply::json(
                &json!({"runId": run_id, "status": "in_flight"}),
            )),
            Begun::Over(row) => Ok(of_result(&turns::kept_result(&run_id, &row))),
        }
    })
}

/// Says how many turns come before one that waits.
fn tell_place(gateway: &Gateway, run: &Run, answer: &mut Value) {
    if let Some(place) = gateway.turns.place(run)
        && (place.in_session > 0 || place.for_lane)
    {
        answer["queuePosition"] = json!(place.in_session);
    }
}

/// The end of a run as the answer to `agent`.
fn of_result(result: &Value) -> Reply {
    match result["status"].as_str() {
        Some("ok") => Reply::json(result),
        _ => Reply::error(turns::failure(result)),
    }
}

/// What `agent` asks for; a conversation that it names; a session that is to begin anew.
type AskedRun = (Wanted, Option<String>, Option<SessionKey>);

fn read_run(call: &Call<'_>) -> Result<AskedRun, ErrorShape> {
    let params: RunParams = call.typed()?;
    served(call, RUN_NEEDS)?;
    let of_key = key_agent(call, params.session_key.as_deref())?;
    let roster = call.gateway.roster();
    if let Some(asked) = params.agent_id.as_deref() {
        let known = named(&roster, Some(asked)).map_err(|error| call.invalid(&error.message))?;
        if let Some(of_key) = of_key.as_deref().filter(|of_key| *of_key != known.id) {
            return Err(call.invalid(&format!(
                "agent \"{}\" does not match session key agent \"{of_key}\"",
                known.id
            )));
        }
    }
    let channels = [&params.channel, &params.reply_channel];
    let channel = channels
        .into_iter()
        .flatten()
        .map(|channel| channel.trim().to_ascii_lowercase())
        .find(|channel| !matches!(channel.as_str(), "" | "last" | "webchat" | "internal"));
    if let Some(channel) = channel {
        return Err(call.invalid(&format!("unknown channel: {channel}")));
    }
    if params.deliver && !params.best_effort_deliver {
        return Err(ErrorShape::invalid(
            "Error: Channel is required (no configured channels detected).",
        ));
    }
    let agent_id = params
        .agent_id
        .as_deref()
        .map(agent::id)
        .or(of_key)
        .unwrap_or_else(|| roster.default_id.clone());
    let agent_id = agent_id.as_str();
    if roster.get(agent_id).is_none() {
        return Err(call.invalid(&format!("unknown agent id \"{agent_id}\"")));
    }
    let to = params
        .to
        .as_deref()
        .map(str::trim)
        .filter(|to| !to.is_empty());
    let written = params
        .session_key
        .as_deref()
        .map(str::trim)
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
        .or_else(|| to.map(|to| format!("direct:{to}")));
    let key = match &written {
        Some(written) => SessionKey::read(written, Some(agent_id), agent_id)
            .map_err(|bad| call.bad_key("sessionKey", bad))?,
        None => SessionKey::main_of(agent_id),
    };
    let message = words(&params.message)?;
    if message.trim().is_empty() {
        return Err(call.invalid("at /message: must not be blank"));
    }
    let origin = match params.lane.as_deref() {
        Some("nested" | "subagent") => Origin::Nested,
        _ => Origin::Agent,
    };
    let (message, reset) = match Slash::parse(&message) {
        Some(Slash::New(rest)) => (rest, Some(key.clone())),
        _ => (message, None),
    };
    let model = match (params.provider, params.model) {
        (Some(provider), Some(model)) if !model.contains('/') => {
            Some(format!("{provider}/{model}"))
        }
        (_, model) => model,
    };
    if model.is_some() && !call.link.principal.grant.scopes().covers(&Scope::ADMIN) {
        return Err(crate::error::missing_scope(
            &call.link.principal,
            &Scope::ADMIN,
        ));
    }
    let wanted = Wanted {
        written_key: written.unwrap_or_else(|| key.as_str().to_owned()),
        message,
        images: images(&params.attachments)?,
        model,
        thinking: thinking(params.thinking)?,
        timeout_ms: params.timeout.map(|seconds| seconds.saturating_mul(1_000)),
        extra_system: params.extra_system_prompt,
        label: params.label,
        queue: queue_mode(call.gateway, None)?,
        ..wanted(call.link, key, origin, params.idempotency_key)
    };
    let session_id = params.session_id.filter(|id| !id.trim().is_empty());
    Ok((
        wanted,
        session_id.or(params.expected_existing_session_id),
        reset,
    ))
}

/// The session that has a conversation now.
async fn in_conversation(
    gateway: &Gateway,
    mut wanted: Wanted,
    session_id: String,
) -> Result<Wanted, ErrorShape> {
    let (agent, id) = (wanted.key.agent().to_owned(), session_id.trim().to_owned());
    let found = gateway
        .look(move |db| db.sessions_by_id(&id, false, 100))
        .await?
        .into_iter()
        .find(|listed| listed.agent_id == agent);
    let Some(session) = found else {
        return Err(ErrorShape::invalid(format!(
            "no session has the conversation \"{session_id}\""
        ))
        .with_details(json!({"code": "SESSION_NOT_FOUND"})));
    };
    wanted.key = SessionKey::read(&session.key, Some(&session.agent_id), &session.agent_id)
        .map_err(|bad| ErrorShape::invalid(bad.sentence()))?;
    wanted.written_key.clone_from(&session.key);
    Ok(wanted)
}

pub(crate) fn wait(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let params: WaitParams = match call.typed() {
        Ok(params) => params,
        Err(error) => return Answer::Now(Reply::error(error)),
    };
    // Only the waiting is in it: it ends with the caller's socket.
    Answer::later(async move { waited(&gateway, params).await.into() })
}

async fn waited(gateway: &Gateway, params: WaitParams) -> Result<Reply, ErrorShape> {
    let patience = params
        .timeout_ms
        .map_or(WAIT, Duration::from_millis)
        .min(WAIT_MAX);
    let id = params.run_id;
    let live = gateway.turns.get(&id);
    let key = id.clone();
    // What is over is said at once, however short the patience is.
    let over = match live {
        Some(_) => None,
        None => gateway
            .look(move |db| db.run(&key))
            .await?
            .filter(|row| row.ended.is_some()),
    };
    let ended = async {
        if let Some(row) = over {
            return turns::kept_result(&id, &row);
        }
        let run = match live {
            Some(run) => run,
            None => gateway.turns.appears(&id).await,
        };
        run.ended().await.result(run.id())
    };
    let Ok(result) = tokio::time::timeout(patience, ended).await else {
        return Ok(Reply::json(&json!({"runId": id, "status": "timeout"})));
    };
    let status = match result["status"].as_str() {
        Some("ok") => "ok",
        Some("timeout") => "timeout",
        _ => "error",
    };
    let mut answer = json!({"runId": id, "status": status});
    for member in ["startedAt", "endedAt"] {
        if result[member].is_i64() {
            answer[member] = result[member].clone();
        }
    }
    if status != "ok" {
        answer["error"] = result["summary"].clone();
    }
    Ok(Reply::json(&answer))
}

pub(crate) fn chat_send(call: &Call<'_>) -> Answer {
    let params = match read_send(call) {
        Ok(params) => params,
        Err(error) => return Answer::Now(Reply::error(error)),
    };
    let key = match chat_key(call, &params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(error) => return Answer::Now(Reply::error(error)),
    };
    let reads_commands = !params.suppress_command_interpretation;
    if reads_commands && is_stop(&params.message) {
        return now(|| Ok(stopped(call, &key, None, Stopped::Word)?.into()));
    }
    if reads_commands && let Some(slash) = Slash::parse(&params.message) {
        return slash::answer(call, slash, &key, &params);
    }
    send(call, key, params)
}

/// Begins a turn of a chat.
fn send(call: &Call<'_>, key: SessionKey, params: ChatSendParams) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let read = || {
        let queue = queue_mode(call.gateway, params.queue_mode.as_deref())?;
        Ok(Wanted {
            written_key: params.session_key.clone(),
            message: params.message.clone(),
            images: images(&params.attachments)?,
            thinking: thinking(params.thinking.clone())?,
            timeout_ms: params.timeout_ms,
            queue,
            ..wanted(call.link, key, Origin::Chat, params.idempotency_key.clone())
        })
    };
    let asked = read();
    later(asked, move |wanted| async move {
        expected(&gateway, &wanted.key, &params).await?;
        let run_id = wanted.run_id.clone();
        let status = match gateway.begin_turn(Some(link), wanted).await? {
            Begun::New(run) => {
                let mut started = json!({"runId": run_id, "status": "started"});
                tell_place(&gateway, &run, &mut started);
                return Ok(Reply::json(&started));
            }
            Begun::UnderWay => "in_flight",
            Begun::Over(row) => {
                let result = turns::kept_result(&run_id, &row);
                let status = match result["status"].as_str() {
                    Some("ok") => "ok",
                    _ => "error",
                };
                let mut answer = json!({"runId": run_id, "status": status});
                if status == "error" {
                    answer["summary"] = result["summary"].clone();
                }
                return Ok(Reply::json(&answer));
            }
        };
        Ok(Reply::json(&json!({"runId": run_id, "status": status})))
    })
}

fn read_send(call: &Call<'_>) -> Result<ChatSendParams, ErrorShape> {
    let mut params: ChatSendParams = call.typed()?;
    served(call, CHAT_SEND_NEEDS)?;
    if params.system_input_provenance.is_some() || params.system_provenance_receipt.is_some() {
        return Err(ErrorShape::invalid(
            "system provenance fields are reserved for the ACP bridge",
        ));
    }
    params.message = words(&params.message)?;
    if params.message.trim().is_empty() && params.attachments.is_empty() {
        return Err(ErrorShape::invalid("message or attachment required"));
    }
    Ok(params)
}

fn chat_key(call: &Call<'_>, key: &str, agent: Option<&str>) -> Result<SessionKey, ErrorShape> {
    let key = SessionKey::read(key, agent, call.gateway.default_agent())
        .map_err(|bad| call.bad_key("sessionKey", bad))?;
    if call.gateway.roster().get(key.agent()).is_none() {
        return Err(call.invalid(&format!("unknown agent id \"{}\"", key.agent())));
    }
    Ok(key)
}

/// Refuses a message for a conversation that is another one than its writer sees.
async fn expected(
    gateway: &Gateway,
    key: &SessionKey,
    params: &ChatSendParams,
) -> Result<(), ErrorShape> {
    if params.session_id.is_none() && params.expected_leaf_entry_id.is_none() {
        return Ok(());
    }
    let key = key.clone();
    let of = gateway
        .look(move |db| conversation(db, key.as_str()))
        .await?;
    let differs = |wanted: &Option<String>, is: Option<&String>| {
        wanted.as_ref().is_some_and(|wanted| Some(wanted) != is)
    };
    let id_differs =
        differs(&params.session_id, of.as_ref().map(|of| &of.session_id)) && of.is_some();
    let leaf = of.as_ref().and_then(|of| of.leaf_id.clone());
    let leaf_differs = params
        .expected_leaf_entry_id
        .as_ref()
        .is_some_and(|wanted| *wanted != leaf);
    if id_differs || leaf_differs {
        return Err(ErrorShape::invalid("the session has changed meanwhile")
            .with_details(json!({"code": "SESSION_CHANGED"})));
    }
    Ok(())
}

pub(crate) fn chat_abort(call: &Call<'_>) -> Answer {
    now(|| {
        let params: AbortParams = call.typed()?;
        let key = chat_key(call, &params.session_key, params.agent_id.as_deref())?;
        Ok(stopped(call, &key, params.run_id.as_deref(), Stopped::Asked)?.into())
    })
}

/// What an abort did.
struct Aborted(Vec<String>);

impl From<Aborted> for Reply {
    fn from(Aborted(ids): Aborted) -> Self {
        Self::json(&json!({"ok": true, "aborted": !ids.is_empty(), "runIds": ids}))
    }
}

/// Stops turns of a session: those of the caller, or anybody's for an administrator.
fn stopped(
    call: &Call<'_>,
    key: &SessionKey,
    run_id: Option<&str>,
    why: Stopped,
) -> Result<Aborted, ErrorShape> {
    let turns = &call.gateway.turns;
    let runs: Vec<Arc<Run>> = match run_id {
        Some(id) => match turns.get(id) {
            Some(run) if run.key() != key => {
                return Err(ErrorShape::invalid("runId does not match sessionKey"));
            }
            run => run.into_iter().collect(),
        },
        None => turns.of_session(key.as_str()),
    };
    let principal = &call.link.principal;
    let is_admin = principal.grant.scopes().covers(&Scope::ADMIN);
    let own = |run: &Arc<Run>| {
        let device = principal
            .device_id
            .as_ref()
            .map(clawgate_core::DeviceId::as_str);
        is_admin
            || run.wanted.conn_id.as_deref() == Some(principal.conn_id.as_str())
            || (device.is_some() && run.wanted.device_id.as_deref() == device)
    };
    let (may, may_not): (Vec<_>, Vec<_>) = runs
        .into_iter()
        .filter(|run| !matches!(run.state(), State::Ended(_)) && !run.stop.is_cancelled())
        .partition(own);
    if may.is_empty() && !may_not.is_empty() {
        return Err(ErrorShape::invalid("unauthorized"));
    }
    for run in &may {
        run.halt(why);
    }
    Ok(Aborted(may.iter().map(|run| run.id().to_owned()).collect()))
}

impl Gateway {
    /// The turn that goes on in a session, as wire 4 shows it beside a conversation.
    pub(crate) fn in_flight(&self, key: &SessionKey, dialect: Dialect) -> Option<Value> {
        if dialect == Dialect::V3 {
            return None;
        }
        let runs = self.turns.of_session(key.as_str());
        let run = runs
            .iter()
            .find(|run| matches!(run.state(), State::Running(_)))?;
        let State::Running(since_ms) = run.state() else {
            return None;
        };
        Some(json!({
            "runId": run.id(),
            "startedAt": since_ms,
            "text": run.said(),
            "queued": runs.len() - 1,
        }))
    }
}
