//! The chat without a screen: a line in, an answer out.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    time::Duration,
};

use clawgate_client::{ClientError, Event, Opened, Session, new_key};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use super::{
    ask::{Ask, HELP, Saying, Slash, said, slash},
    conversation::{Conversation, Defaults, Ending, Heard, text_of},
};
use crate::{
    commands::Context,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::plain,
    session::Approach,
    stop::Stop,
};

/// Attempts to find the gateway again, about a minute and a half in all.
const RECONNECTS: u32 = 20;
/// One `agent.wait` of several.
const WAIT_PIECE: Duration = Duration::from_secs(20);

/// A chat by lines.
pub(super) struct Lines<'a> {
    context: &'a Context,
    approach: Approach,
    session: Session,
    events: mpsc::Receiver<Event>,
    defaults: Defaults,
    talk: Conversation,
    saying: Saying,
    json: bool,
    streams: bool,
    stop: Stop,
    failed: bool,
}

/// How one message was answered.
struct Answer {
    run: String,
    status: &'static str,
    text: String,
    why: Option<String>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(
        context: &'a Context,
        (approach, mut opened): (Approach, Opened),
        key: String,
        defaults: Defaults,
        saying: Saying,
        json: bool,
    ) -> CommandResult<Self> {
        Ok(Self {
            context,
            approach,
            events: opened.session.take_events(),
            session: opened.session,
            defaults,
            talk: Conversation::new(key),
            saying,
            json,
            streams: !json && io::stdout().is_terminal(),
            stop: Stop::watch()?,
            failed: false,
        })
    }

    /// Answers the first message, then every line of standard input.
    pub(super) async fn run(mut self, first: Option<String>) -> CommandResult {
        if let Some(first) = first {
            self.say(&first).await?;
        }
        let mut lines = typed();
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = self.stop.asked() => None,
            };
            let Some(line) = line else {
                break;
            };
            let line = line.map_err(|error| {
                CommandError::usage(format!("standard input cannot be read: {error}"))
            })?;
            if line.trim().is_empty() {
                continue;
            }
            match slash(&line) {
                None => self.say(said(line.trim_end())).await?,
                Some(Slash::Exit) => break,
                Some(command) => self.command(command).await?,
            }
        }
        self.session.close().await;
        Ok(if self.failed { Exit::Failed } else { Exit::Ok })
    }

    async fn command(&mut self, command: Slash) -> CommandResult<()> {
        let ask = match command {
            Slash::Help => {
                for line in HELP {
                    self.context.output.note(line);
                }
                return Ok(());
            }
            Slash::Session(key) => {
                self.talk = Conversation::new(self.defaults.whole(&key));
                self.context.output.note(&self.talk.key);
                return Ok(());
            }
            Slash::Thinking(level) => {
                self.saying.thinking = level;
                return Ok(());
            }
            Slash::Wrong(why) => {
                self.failed = true;
                self.context.output.note(why);
                return Ok(());
            }
            Slash::Decide(_, None) => {
                self.context
                    .output
                    .note("which one? clawgate approvals pending");
                return Ok(());
            }
            Slash::Exit => return Ok(()),
            Slash::Reset => Ask::Reset,
            Slash::Abort => Ask::Abort { run: None },
            Slash::Model(Some(name)) => Ask::Model(name),
            Slash::Model(None) => Ask::Models,
            Slash::History => Ask::History { offset: None },
            Slash::Sessions => Ask::Sessions,
            Slash::Status => Ask::Status,
            Slash::Decide(decision, Some(id)) => Ask::Decide { id, decision },
        };
        match self.call(&ask).await {
            Ok(answer) if self.json => self.context.output.json_line(&answer),
            Ok(answer) => self.tell_command(&ask, &answer),
            Err(error) => {
                self.failed = true;
                self.context.output.note(format!("error: {error}"));
                Ok(())
            }
        }
    }

    fn tell_command(&self, ask: &Ask, answer: &Value) -> CommandResult<()> {
        let output = self.context.output;
        let list = |rows: &Value| rows.as_array().cloned().unwrap_or_default();
        match ask {
            Ask::History { .. } => {
                for message in list(&answer["messages"]) {
                    let who = message["role"].as_str().unwrap_or("?");
                    let text = text_of(&message).unwrap_or_default();
                    if !text.is_empty() {
                        output.line(plain(&format!("{who}: {text}")))?;
                    }
                }
                Ok(())
            }
            Ask::Sessions | Ask::Status => {
                for session in list(&answer["sessions"]) {
                    let key = session["key"].as_str().unwrap_or_default();
                    if matches!(ask, Ask::Sessions) || key == self.talk.key {
                        let model = session["model"].as_str().unwrap_or("-");
                        let tokens = session["totalTokens"].as_i64().unwrap_or(0);
                        output.line(plain(&format!("{key}  {model}  {tokens} tokens")))?;
                    }
                }
                Ok(())
            }
            Ask::Models => {
                for model in list(&answer["models"]) {
                    let text = |name: &str| model[name].as_str().unwrap_or_default().to_owned();
                    output.line(plain(&format!("{}/{}", text("provider"), text("id"))))?;
                }
                Ok(())
            }
            _ => {
                output.note("done");
                Ok(())
            }
        }
    }

    async fn call(&self, ask: &Ask) -> Result<Value, ClientError> {
        let params = ask.params(&self.talk.key, &self.saying);
        self.session.request(ask.method(), Some(&params)).await
    }

    /// Says something and prints the answer.
    async fn say(&mut self, text: &str) -> CommandResult<()> {
        let run = new_key();
        let ask = Ask::Send {
            text: text.to_owned(),
            run: run.clone(),
        };
        let answer = match self.sent(&ask).await? {
            Ok(status) if is_over(&status) => self.answer_of(run, &status).await?,
            Ok(_) => self.hear_out(run).await?,
            Err(why) => Answer {
                run,
                status: "error",
                text: String::new(),
                why: Some(why),
            },
        };
        self.failed |= answer.status != "ok";
        let output = self.context.output;
        if self.json {
            return output.json_line(&json!({"runId": answer.run, "status": answer.status,
                "text": answer.text, "error": answer.why}));
        }
        if self.streams {
            output.piece("\n")?;
        } else if !answer.text.is_empty() {
            output.line(plain(&answer.text))?;
        }
        if let Some(why) = answer.why {
            output.note(format!("error: {why}"));
        }
        Ok(())
    }

    /// Sends a message, across a lost connection; gives what was said to it, or why not.
    async fn sent(&mut self, ask: &Ask) -> CommandResult<Result<String, String>> {
        loop {
            return Ok(match self.call(ask).await {
                Ok(answer) => Ok(answer["status"].as_str().unwrap_or("started").to_owned()),
                Err(error @ ClientError::Failed { .. }) => Err(error.to_string()),
                // Under the same key nothing is said twice.
                Err(_) => {
                    self.reconnect().await?;
                    continue;
                }
            });
        }
    }

    /// Listens until a run ended.
    async fn hear_out(&mut self, run: String) -> CommandResult<Answer> {
        let mut shown = String::new();
        let mut aborting = false;
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = self.stop.asked() => {
                    if aborting {
                        return Err(CommandError::new(
                            Exit::Failed,
                            "NOT_ABORTED",
                            "interrupted; the gateway did not confirm that the run ended",
                        )
                        .fact("run", run));
                    }
                    aborting = true;
                    let run = Some(run.clone());
                    // Where nothing runs any more its end is on the way.
                    drop(self.call(&Ask::Abort { run }).await);
                    continue;
                }
            };
            let Some(event) = event else {
                self.reconnect().await?;
                return self.wait_for(run).await;
            };
            if event.event == "exec.approval.requested" {
                let command = event.payload["request"]["command"].as_str();
                let id = event.payload["id"].as_str().unwrap_or_default();
                self.context.output.note(format!(
                    "waits to be let run: {}\n  next: {}",
                    command.unwrap_or_default(),
                    self.context
                        .globals
                        .typed(&format!("clawgate approvals allow {id}"))
                ));
                continue;
            }
            let heard = self.talk.hear(&event);
            if self.streams && event.payload["runId"] == run.as_str() {
                self.stream(&run, &heard, &mut shown)?;
            }
            if let Heard::Ended {
                run: ended,
                ending,
                text,
            } = heard
                && ended == run
            {
                self.talk.items.clear();
                let (status, why) = match ending {
                    Ending::Final => ("ok", None),
                    Ending::Aborted => ("aborted", Some("the run was aborted".to_owned())),
                    Ending::Failed(why) => ("error", Some(why)),
                };
                return Ok(Answer {
                    run,
                    status,
                    text,
                    why,
                });
            }
        }
    }

    /// Writes what is new of the answer that streams.
    fn stream(&self, run: &str, heard: &Heard, shown: &mut String) -> CommandResult<()> {
        let text = match heard {
            Heard::Ended { text, .. } => text.as_str(),
            Heard::Changed => self.talk.said_by(run),
            Heard::Nothing => return Ok(()),
        };
        let more = match text.strip_prefix(shown.as_str()) {
            Some(more) => more.to_owned(),
            None => format!("\n{text}"),
        };
        text.clone_into(shown);
        self.context.output.piece(plain(&more))
    }

    /// Waits for a run whose events were missed.
    async fn wait_for(&mut self, run: String) -> CommandResult<Answer> {
        let ms = u64::try_from(WAIT_PIECE.as_millis()).unwrap_or(u64::MAX);
        let params = json!({"runId": run, "timeoutMs": ms});
        loop {
            let waited = self
                .session
                .request_final_within("agent.wait", Some(&params), WAIT_PIECE * 2)
                .await;
            match waited {
                Ok(waited) if waited["status"] == "timeout" && waited["endedAt"].is_null() => {}
                Ok(waited) => {
                    let status = waited["status"].as_str().unwrap_or("error").to_owned();
                    return self.answer_of(run, &status).await;
                }
                Err(error @ ClientError::Failed { .. }) => {
                    return Err(CommandError::call(&error, &self.approach.target).fact("run", run));
                }
                Err(_) => self.reconnect().await?,
            }
        }
    }

    /// The answer of a run that is over: the last thing that the agent said.
    async fn answer_of(&mut self, run: String, status: &str) -> CommandResult<Answer> {
        let answer = self
            .call(&Ask::History { offset: None })
            .await
            .map_err(|error| CommandError::call(&error, &self.approach.target))?;
        let messages = answer["messages"].as_array();
        let last = messages.into_iter().flatten().next_back();
        let text = last
            .filter(|message| message["role"] == "assistant")
            .and_then(text_of);
        let ok = status == "ok";
        if self.streams
            && let Some(text) = &text
        {
            self.context.output.piece(plain(&format!("\n{text}")))?;
        }
        Ok(Answer {
            run,
            status: if ok { "ok" } else { "error" },
            text: text.unwrap_or_default(),
            why: (!ok).then(|| format!("the turn ended with {status}")),
        })
    }

    async fn reconnect(&mut self) -> CommandResult<()> {
        self.context
            .output
            .note("the connection was lost; looking for the gateway");
        let mut pause = Duration::from_millis(200);
        for _ in 0..RECONNECTS {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.asked() => break,
            }
            pause = (pause * 2).min(Duration::from_secs(5));
            if let Ok(mut opened) = self.approach.open(super::METHODS).await {
                self.events = opened.session.take_events();
                self.session = opened.session;
                return Ok(());
            }
        }
        Err(
            CommandError::new(Exit::Unreachable, "GATEWAY_GONE", "the gateway went away")
                .hint("clawgate gateway status"),
        )
    }
}

/// Whether a message was answered already when it was sent.
fn is_over(status: &str) -> bool {
    matches!(status, "ok" | "error" | "timeout" | "aborted")
}

/// Lines of standard input, read by a thread of its own that ends with the program.
fn typed() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}
