//! One turn, from its place in the queue to its end.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use clawgate_agent::{
    Answer, Delta, Ended as AgentEnded, Message, Record, Stop, Thinking, ToolCall, ToolResult,
    TurnRequest, Usage,
};
use clawgate_core::{Dialect, lane::QueueMode, turn::TurnLimits};
use clawgate_protocol::ErrorShape;
use clawgate_store::{StoreError, Transcript};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::{
    Run, State, Stopped, compact,
    opening::{self, Calendar, Kept, Opened},
    past::{self, BYTES_PER_TOKEN, Past},
    settle::{self, Ended, Status},
};
use crate::{
    Gateway,
    agents::{self, Agent},
    clock::now_ms,
    config::Config,
    error,
    methods::session::{DefaultModel, row},
    models::{self, Chosen, ModelError},
    prompt::{self, Files, Ground, Parts},
    tools::{self, Scene},
    workspace::Workspace,
};

/// How long a turn may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How long it may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(5);
/// Tokens that a model is taken to hold when the configuration does not say.
const WINDOW: u64 = 128_000;
/// Tokens kept free for the answer and for what tools return.
const RESERVE: u64 = 20_000;
/// Bytes of a conversation that are told however small the window is.
const ROOM_MIN: usize = 4_000;

/// Carries a turn through, and leaves its lane free however that goes.
pub(super) async fn carry(gateway: Arc<Gateway>, run: Arc<Run>) {
    tokio::select! {
        biased;
        () = run.led.notified() => return,
        () = run.stop.cancelled() => {
            // What only waited when the gateway stops is not over: it waits at the next start.
            if run.why_stopped() != Some(Stopped::Shutdown) || !run.wanted.resumes {
                let why = run.why_stopped().unwrap_or(Stopped::Shutdown);
                let default = DefaultModel::of(&gateway.config());
                settle::settle(&gateway, vec![run], Ended::stopped(why), default, None).await;
            }
            return;
        }
        () = run.go.notified() => {}
    }
    let default = DefaultModel::of(&gateway.config());
    let mut runs = vec![Arc::clone(&run)];
    if run.wanted.queue == QueueMode::Collect {
        runs.extend(gateway.turns.gather(&run, |other| goes_with(&run, other)));
    }
    let mut window = None;
    let turned = AssertUnwindSafe(turn(&gateway, &mut runs, &default, &mut window));
    let ended = match turned.catch_unwind().await {
        Ok(ended) => ended,
        // The panic itself is in the log already.
        Err(_) => {
            let shape = error::internal("a turn", &"it panicked");
            Ended::new(Status::Error, Some(shape.message))
        }
    };
    settle::settle(&gateway, runs, ended, default, window).await;
}

/// Whether a message that waits may be answered together with another one.
fn goes_with(leader: &Run, other: &Run) -> bool {
    let (one, two) = (&leader.wanted, &other.wanted);
    one.origin.is_conversation()
        && two.origin.is_conversation()
        && two.queue == QueueMode::Collect
        && !two.fresh
        && (&one.model, &one.thinking, &one.tools, &one.extra_system)
            == (&two.model, &two.thinking, &two.tools, &two.extra_system)
}

/// Does it. `runs` grows by those that are answered too.
async fn turn(
    gateway: &Arc<Gateway>,
    runs: &mut Vec<Arc<Run>>,
    default: &DefaultModel,
    window: &mut Option<u64>,
) -> Ended {
    let run = Arc::clone(&runs[0]);
    let config = gateway.config();
    let parsed = &config.snapshot.parsed;
    let calendar = Calendar::of(parsed);
    let began_ms = now_ms();
    // The disk is read while the beginning is written.
    let (begun, ground) = tokio::join!(
        begin(gateway, runs, &calendar, default, began_ms),
        ground(gateway, &config, &run),
    );
    let opened = match begun {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            let said = "the turn began before and is not begun again".to_owned();
            return Ended::new(Status::Interrupted, Some(said));
        }
        Err(error) => {
            let said = error::store(&error).message;
            return Ended::new(Status::Error, Some(said));
        }
    };
    let session_id = opened.held.session.session_id.clone();
    for run in runs.iter() {
        run.state.send_replace(State::Running(began_ms));
    }
    let prepared = match ground {
        Ok(ground) => prepare(gateway, &run, &opened, &calendar, default, ground).await,
        Err(shape) => Err(shape),
    };
    let mut ended = match prepared {
        Ok(prepared) => {
            *window = Some(prepared.window);
            let timeout = timeout_of(&run, parsed);
            act(gateway, runs, opened, prepared, (calendar, timeout)).await
        }
        Err(shape) => Ended {
            model: None,
            ..Ended::new(Status::Error, Some(shape.message))
        },
    };
    ended.started_at_ms = Some(began_ms);
    ended.session_id = Some(session_id);
    ended
}

fn timeout_of(run: &Run, config: &Value) -> Option<Duration> {
    let configured = config
        .pointer("/agents/defaults/timeoutSeconds")
        .and_then(Value::as_f64)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|timeout| !timeout.is_zero());
    match run.wanted.timeout_ms {
        Some(0) => None,
        Some(ms) => Some(Duration::from_millis(ms)),
        None => Some(configured.unwrap_or(TIMEOUT)),
    }
}

/// The transaction at the beginning, and what is told of it.
async fn begin(
    gateway: &Arc<Gateway>,
    runs: &[Arc<Run>],
    calendar: &Calendar,
    default: &DefaultModel,
    now: i64,
) -> Result<Option<Opened>, StoreError> {
    let (calendar, default) = (calendar.clone(), default.clone());
    let (runs, teller) = (runs.to_vec(), Arc::clone(gateway));
    let leader = Arc::clone(&runs[0]);
    gateway
        .store
        .write_then(
            "beginning a turn",
            move |tx| opening::open(tx, &runs, &calendar, &default, now),
            move |opened| {
                if let Some(opened) = &opened {
                    let session_id = &opened.held.session.session_id;
                    leader.voice.begins(&teller, session_id, now);
                    for kept in &opened.said {
                        teller.tell_kept(leader.key(), session_id, kept, &opened.row);
                    }
                }
                opened
            },
        )
        .await
}

/// What a turn is carried out with.
struct Prepared {
    request: TurnRequest,
    chosen: Chosen,
    tools: clawgate_agent::ToolSet,
    window: u64,
    report: Value,
}

/// What a turn stands on before anything of its session is known.
struct Grounded {
    config: Arc<Config>,
    agent: Agent,
    ground: Ground,
    /// The model that was asked for, or the agent's.
    chosen: Result<Chosen, ModelError>,
}

/// Reads what is on the disk, and the keys of the models: a program may have to hand those out, so
/// others do not wait for it.
async fn ground(
    gateway: &Arc<Gateway>,
    config: &Arc<Config>,
    run: &Arc<Run>,
) -> Result<Grounded, ErrorShape> {
    let roster = gateway.roster();
    let agent = roster
        .get(run.key().agent())
        .cloned()
        .ok_or_else(|| agents::not_found(run.key().agent()))?;
    let (config, run) = (Arc::clone(config), Arc::clone(run));
    let state = gateway.state.path().to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let (parsed, wanted) = (&config.snapshot.parsed, &run.wanted);
        let files = match wanted.light {
            true => Files::None,
            false if wanted.origin.has_reader() => Files::All,
            false => Files::ForJobs,
        };
        let ground = Ground::read(&agent, parsed, &state, files)?;
        let named = wanted.model.as_deref();
        let chosen = models::choose(parsed, &agent, named, wanted.fallbacks.as_deref());
        Ok::<_, std::io::Error>(Grounded {
            config,
            agent,
            ground,
            chosen,
        })
    });
    let read = reading
        .await
        .map_err(|died| error::internal("preparing a turn", &died))?;
    read.map_err(|error| error::file("making a workspace", &error))
}

/// Chooses the model, reads what was said, puts the prompt together. No model is asked when
/// something is missing.
async fn prepare(
    gateway: &Arc<Gateway>,
    run: &Arc<Run>,
    opened: &Opened,
    calendar: &Calendar,
    default: &DefaultModel,
    grounded: Grounded,
) -> Result<Prepared, ErrorShape> {
    let Grounded {
        config,
        agent,
        ground,
        chosen,
    } = grounded;
    let wanted = &run.wanted;
    let of_session =
        opened
            .held
            .text("modelOverride")
            .map(|model| match opened.held.text("providerOverride") {
                Some(provider) => format!("{provider}/{model}"),
                None => model.to_owned(),
            });
    let chosen = match of_session {
        Some(named) if wanted.model.is_none() => {
            choose(&config, &agent, named, wanted.fallbacks.clone()).await?
        }
        _ => chosen.map_err(|why| why.shape())?,
    };
    let thinking = wanted
        .thinking
        .as_deref()
        .or_else(|| opened.held.text("thinkingLevel"))
        .or(default.thinking.as_deref());
    let thinking = thinking.and_then(Thinking::parse).unwrap_or_default();
    let window = chosen.choices[0].model.context_window.unwrap_or(WINDOW);
    let (provider, model) = name(&chosen, 0);
    let scene = Scene {
        agent: agent.clone(),
        session_key: run.key().as_str().to_owned(),
        session_id: opened.held.session.session_id.clone(),
        run_id: run.id().to_owned(),
        workspace: agent.workspace.clone(),
        attended: wanted.origin.is_attended(),
        allow: wanted.tools.clone(),
        model: model.to_owned(),
        provider: provider.to_owned(),
    };
    let models = chosen.models(thinking);
    let model_name = format!("{provider}/{model}");
    let tools = tools::with_servers(gateway, &scene).await;
    let specs = clawgate_agent::Toolbox::specs(&tools).to_vec();
    let of_tools: usize = specs
        .iter()
        .map(|spec| spec.description.len() + spec.parameters.to_string().len())
        .sum();
    let prompt = prompt::assemble(&Parts {
        agent: &agent,
        ground: &ground,
        tools: &specs,
        model: &model_name,
        zone: calendar.zone.iana_name().unwrap_or("UTC"),
        session_key: run.key().as_str(),
        extra: wanted.extra_system.as_deref(),
        is_alone: !wanted.origin.has_reader(),
        config: &config.snapshot.parsed,
    });
    let taken = prompt.text.len() + of_tools;
    let mut past = read_past(gateway, &opened.of, room(window, taken)).await?;
    if past.is_cut {
        tracing::info!(
            run = run.id(),
            from = past.from,
            bytes = past.bytes,
            "the conversation does not fit into the model's window"
        );
        let room = room(window, taken);
        past = compact::make_room(gateway, run, &opened.of, &models[0], past, room).await;
    }
    Ok(Prepared {
        request: TurnRequest {
            models,
            system: prompt.text,
            messages: past.messages,
            limits: TurnLimits::default(),
        },
        chosen,
        tools,
        window,
        report: prompt.report,
    })
}

/// Bytes of a conversation that fit beside what is told anyway.
fn room(window: u64, taken: usize) -> usize {
    let tokens = window.saturating_sub(RESERVE.min(window / 4));
    usize::try_from(tokens * BYTES_PER_TOKEN)
        .unwrap_or(usize::MAX)
        .saturating_sub(taken)
        .max(ROOM_MIN)
}

async fn read_past(
    gateway: &Arc<Gateway>,
    of: &Transcript,
    room: usize,
) -> Result<Past, ErrorShape> {
    let of = of.clone();
    gateway.look(move |db| past::read(db, &of, room)).await
}

/// Makes the place where the agent works, with its first files, if it is not there.
pub(crate) async fn make_workspace(config: &Arc<Config>, agent: &Agent) -> Result<(), ErrorShape> {
    let templates = agents::wants_templates(&config.snapshot.parsed);
    let path = agent.workspace.clone();
    tokio::task::spawn_blocking(move || Workspace::make(&path, templates, false).map(drop))
        .await
        .map_err(|died| error::internal("making a workspace", &died))?
        .map_err(|error| error::internal("making a workspace", &error))
}

/// The models of a session that has one of its own.
async fn choose(
    config: &Arc<Config>,
    agent: &Agent,
    named: String,
    fallbacks: Option<Vec<String>>,
) -> Result<Chosen, ErrorShape> {
    let (config, agent) = (Arc::clone(config), agent.clone());
    let choosing = tokio::task::spawn_blocking(move || {
        let parsed = &config.snapshot.parsed;
        models::choose(parsed, &agent, Some(&named), fallbacks.as_deref())
    });
    let chosen = choosing
        .await
        .map_err(|died| error::internal("choosing a model", &died))?;
    chosen.map_err(|why| why.shape())
}

/// Provider and id of the model at a place.
fn name(chosen: &Chosen, place: usize) -> (&str, &str) {
    let choice = chosen.choices.get(place);
    choice.map_or(("", ""), |choice| {
        (choice.model.provider.as_str(), choice.model.id.as_str())
    })
}

/// Asks, runs tools, keeps.
async fn act(
    gateway: &Arc<Gateway>,
    runs: &mut Vec<Arc<Run>>,
    opened: Opened,
    prepared: Prepared,
    (calendar, timeout): (Calendar, Option<Duration>),
) -> Ended {
    let run = Arc::clone(&runs[0]);
    let models = match gateway.turns.models() {
        Ok(models) => models,
        Err(shape) => return Ended::new(Status::Error, Some(shape.message)),
    };
    let Prepared {
        request,
        chosen,
        tools,
        report,
        ..
    } = prepared;
    let full = opened.held.text("verboseLevel") == Some("full");
    let mut record = Keeper {
        gateway,
        run: &run,
        runs,
        of: opened.of,
        chosen: &chosen,
        calendar,
        asked: 0,
        tools_full: full,
        last_usage: Usage::default(),
        denied: Vec::new(),
    };
    let ran = {
        let working = clawgate_agent::run(models, request, &mut record, &tools, &run.stop);
        let overdue = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
            run.halt(Stopped::Timeout);
        };
        let gone = async {
            run.stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::pin!(working, overdue, gone);
        let mut late = false;
        loop {
            tokio::select! {
                ran = &mut working => break Some(ran),
                () = &mut overdue, if !late => late = true,
                // Dropped, it ends what it started.
                () = &mut gone => break None,
                () = run.voice.keep_telling(gateway) => {}
            }
        }
    };
    let (last_usage, denied) = (record.last_usage, record.denied);
    if run.why_stopped().is_some() {
        // What it left in the background ends with it.
        gateway.processes.end_run(run.id()).await;
    }
    let mut ended = match ran {
        Some(ran) => of_agent(&chosen, ran, run.why_stopped()),
        None => Ended::stopped(run.why_stopped().unwrap_or(Stopped::Shutdown)),
    };
    ended.last_usage = last_usage;
    ended.denied = denied;
    ended.report = Some(report);
    ended
}

fn of_agent(chosen: &Chosen, ran: AgentEnded, why: Option<Stopped>) -> Ended {
    let mut ended = Ended::of_end(ran.end, why);
    let name = |place: usize| {
        let (provider, model) = name(chosen, place);
        (provider.to_owned(), model.to_owned())
    };
    ended.attempts = ran
        .attempts
        .iter()
        .map(|attempt| {
            let (provider, model) = name(attempt.model);
            format!("{provider}/{model}: {}", attempt.kind.as_str())
        })
        .collect();
    for (left_out, why) in &chosen.left_out {
        ended.attempts.push(format!("{left_out}: {why}"));
    }
    ended.answer = ran.answer.map(|answer| answer.text).unwrap_or_default();
    ended.model = Some(name(ran.model));
    ended.usage = ran.usage;
    ended
}

/// Keeps what happens in a turn, and tells of it.
struct Keeper<'a> {
    gateway: &'a Arc<Gateway>,
    run: &'a Arc<Run>,
    runs: &'a mut Vec<Arc<Run>>,
    of: Transcript,
    chosen: &'a Chosen,
    calendar: Calendar,
    /// The model that is asked: its place.
    asked: usize,
    /// Whether results of tools are told whole.
    tools_full: bool,
    last_usage: Usage,
    denied: Vec<String>,
}

impl Keeper<'_> {
    async fn append(&mut self, message: Value) -> Result<(), StoreError> {
        let (mut of, run_id) = (self.of.clone(), self.run.id().to_owned());
        let default = DefaultModel::of(&self.gateway.config());
        let (teller, run) = (Arc::clone(self.gateway), Arc::clone(self.run));
        self.of = self
            .gateway
            .store
            .write_then(
                "keeping a message",
                move |tx| {
                    let kept = opening::keep(tx, &mut of, &run_id, message, now_ms())?;
                    let listed = tx.read().listed_session(run.key().as_str())?;
                    let row = listed.map_or(Value::Null, |listed| {
                        let wanted = crate::methods::session::Wanted::default();
                        row(listed, &default, wanted, Dialect::V4)
                    });
                    Ok::<_, StoreError>((of, run, kept, row))
                },
                move |(of, run, kept, row)| {
                    if let Some(kept) = &kept {
                        teller.tell_kept(run.key(), &of.session_id, kept, &row);
                    }
                    of
                },
            )
            .await?;
        Ok(())
    }

    fn answer(&self, answer: &Answer) -> Value {
        let (provider, model) = name(self.chosen, self.asked);
        let mut content = Vec::new();
        if let Some(thinking) = &answer.thinking {
            content.push(json!({"type": "thinking", "thinking": thinking}));
        }
        if !answer.text.is_empty() {
            content.push(json!({"type": "text", "text": answer.text}));
        }
        for call in &answer.calls {
            let mut block = json!({
                "type": "toolCall", "id": call.id, "name": call.name, "arguments": call.arguments,
            });
            if let Some(signatures) = &call.signatures {
                block["signatures"] = json!(signatures);
            }
            content.push(block);
        }
        let usage = answer.usage;
        let choice = self.chosen.choices.get(self.asked);
        let cost = choice
            .and_then(|choice| choice.cost(usage))
            .unwrap_or_default();
        json!({
            "role": "assistant",
            "content": content,
            "api": choice.map(|choice| choice.model.api.as_str()),
            "provider": provider,
            "model": model,
            "usage": {
                "input": usage.input, "output": usage.output,
                "cacheRead": usage.cache_read, "cacheWrite": usage.cache_write,
                "totalTokens": usage.total(),
                "cost": {
                    "input": cost.input, "output": cost.output, "cacheRead": cost.cache_read,
                    "cacheWrite": cost.cache_write, "total": cost.total,
                },
            },
            "stopReason": match answer.stop {
                _ if !answer.calls.is_empty() => "toolUse",
                Stop::Length => "length",
                Stop::Done | Stop::Tools | Stop::Filtered => "stop",
            },
            "timestamp": now_ms(),
        })
    }
}

impl Record for Keeper<'_> {
    fn asks(&mut self, model: usize) {
        self.run.voice.takes_back();
        if model != self.asked {
            let (provider, id) = name(self.chosen, model);
            let data = json!({"phase": "fallback", "activeProvider": provider, "activeModel": id});
            self.run.voice.tells(self.gateway, "lifecycle", &data);
        }
        self.asked = model;
    }

    fn delta(&mut self, delta: Delta<'_>) {
        match delta {
            Delta::Text(words) => self.run.voice.says(self.gateway, words),
            Delta::Thinking(words) => self.run.voice.thinks(self.gateway, words),
        }
    }

    fn tool_begins(&mut self, call: &ToolCall) {
        let voice = &self.run.voice;
        voice.tool_begins(self.gateway, &call.id, &call.name, &call.arguments);
    }

    fn tool_ended(&mut self, result: &ToolResult) {
        let told = self.tools_full.then_some(result.text.as_str());
        let of = (result.call_id.as_str(), result.name.as_str());
        self.run
            .voice
            .tool_ends(self.gateway, of, result.is_error, told);
        let details = result.details.as_ref();
        if details.is_some_and(|details| details["status"] == "denied") {
            let reason = details.and_then(|details| details["reason"].as_str());
            let said = format!("{}: {}", result.name, reason.unwrap_or("denied"));
            self.denied.push(said);
        }
    }

    async fn keep(&mut self, message: &Message) -> Result<(), String> {
        let body = match message {
            Message::Answer(answer) => {
                self.last_usage = answer.usage;
                self.answer(answer)
            }
            Message::ToolResult(result) => json!({
                "role": "toolResult",
                "toolCallId": result.call_id,
                "toolName": result.name,
                "content": [{"type": "text", "text": result.text}],
                "details": result.details,
                "isError": result.is_error,
                "timestamp": now_ms(),
            }),
            // What somebody says is kept before a model is told it.
            Message::User(_) => return Ok(()),
        };
        if matches!(message, Message::Answer(_)) {
            // Its words are in the transcript next; until then they are said and nowhere kept.
            self.run.voice.flush(self.gateway);
        }
        self.append(body).await.map_err(|error| error.to_string())?;
        if matches!(message, Message::Answer(_)) {
            self.run.voice.message_ends(self.gateway);
        }
        Ok(())
    }

    async fn said_meanwhile(&mut self) -> Vec<Message> {
        let joined = self
            .gateway
            .turns
            .gather(self.run, |other| other.wanted.queue == QueueMode::Steer);
        let mut told = Vec::with_capacity(joined.len());
        for other in joined {
            let (mut of, calendar) = (self.of.clone(), self.calendar.clone());
            let (teller, said) = (Arc::clone(self.gateway), Arc::clone(&other));
            let written = self
                .gateway
                .store
                .write_then(
                    "putting a message into a turn",
                    move |tx| {
                        let now = now_ms();
                        tx.start_run(said.id(), now)?;
                        let kept =
                            opening::say(tx, &mut of, &said.wanted, Vec::new(), &calendar, now)?;
                        Ok::<_, StoreError>((of, said, kept))
                    },
                    move |(of, said, kept): (Transcript, Arc<Run>, Option<Kept>)| {
                        if let Some(kept) = &kept {
                            teller.tell_kept(said.key(), &of.session_id, kept, &Value::Null);
                        }
                        (of, kept)
                    },
                )
                .await;
            match written {
                Ok((of, kept)) => {
                    self.of = of;
                    told.extend(kept.map(|kept| {
                        past::user(crate::transcript::text_of(&kept.message), &kept.message)
                    }));
                }
                Err(error) => {
                    tracing::error!(%error, run = other.id(), "a message for a running turn could not be kept");
                }
            }
            self.runs.push(other);
        }
        told
    }
}
