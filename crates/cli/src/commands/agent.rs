//! `agent`: one turn of an agent, from a message to its answer.
//!
//! The id of the run is the idempotency key, which is made here: so a run is known before the
//! gateway answered, and asking again after a lost connection finds the same run instead of
//! starting a second one.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::{Args, ValueEnum};
use clawgate_client::{ClientError, Event, Mode, Session, new_key};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, time::sleep};

use super::{Context, ORDINARY_MS};
use crate::{
    app::{ConnectArgs, secret},
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Output, plain},
    session::{Approach, Link},
    stop::Stop,
};

const METHOD: &str = "agent";
const WAIT: &str = "agent.wait";
/// The gateway ends a turn in its time; a lost connection is noticed by its silence. So the answer
/// itself is awaited as long as it takes.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_secs(365 * 24 * 3_600);
/// One `agent.wait` of several, milliseconds.
const WAIT_PIECE_MS: u64 = 20_000;
/// Attempts to find the gateway again, about a minute and a half in all.
const RECONNECTS: u32 = 20;
/// How long the end of an aborted run is waited for.
const ABORT_WITHIN: Duration = Duration::from_secs(5);

/// `agent`. Its time limit is in seconds, as the original's, and is the turn's.
#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    /// What to say to the agent
    #[arg(short = 'm', long, value_name = "TEXT", allow_hyphen_values = true)]
    message: String,
    /// Which agent; without this, a session or --to: the default agent's main session
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// In the session of this key
    #[arg(long, value_name = "KEY")]
    session_key: Option<String>,
    /// In the session of this id
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,
    /// In the session of this number or address
    #[arg(short = 't', long, value_name = "DEST")]
    to: Option<String>,
    /// How much the model thinks (off, minimal, low, medium, high, ...)
    #[arg(long, value_name = "LEVEL")]
    thinking: Option<String>,
    /// Tell on stderr which tools are used
    #[arg(long, value_enum, value_name = "on|off", num_args = 0..=1, default_missing_value = "on", default_value = "off")]
    verbose: Switch,
    /// Deliver the answer through a channel as well
    #[arg(long)]
    deliver: bool,
    /// Through which channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// To whom, where that is not who is written to
    #[arg(long, value_name = "TARGET")]
    reply_to: Option<String>,
    /// Through which channel, where that is another one
    #[arg(long, value_name = "CHANNEL")]
    reply_channel: Option<String>,
    /// With which account
    #[arg(long, value_name = "ID")]
    reply_account: Option<String>,
    /// Seconds that the turn may take, its waiting not counted; 0 for no limit
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The original's turn without a gateway; refused, turns are the gateway's
    #[arg(long, hide = true)]
    local: bool,
    /// Print JSON
    #[arg(long, help_heading = "Connection")]
    pub(crate) json: bool,
    /// Gateway to talk to (ws:// or wss://); needs --token or --password
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    url: Option<String>,
    /// Shared token, API token or device token
    #[arg(long, value_name = "TOKEN", help_heading = "Connection", value_parser = secret, allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// Shared password
    #[arg(long, value_name = "PASSWORD", help_heading = "Connection", value_parser = secret, allow_hyphen_values = true)]
    password: Option<SecretString>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(crate) async fn run(context: &Context, args: &AgentArgs) -> CommandResult {
    if args.local {
        return Err(CommandError::usage(
            "there is no --local: a turn is taken by the gateway, which keeps its session",
        )
        .hint("clawgate gateway run")
        .hint("clawgate agent --message TEXT"));
    }
    if args.message.trim().is_empty() {
        return Err(CommandError::usage("--message is empty"));
    }
    let connect = ConnectArgs {
        url: args.url.clone(),
        token: args.token.clone(),
        password: args.password.clone(),
        json: args.json,
        ..ConnectArgs::default()
    };
    let approach =
        Approach::new(context, &connect, Mode::Cli, ORDINARY_MS)?.with_caps(&["tool-events"]);
    let link = Link::by(context, approach, false, &[METHOD, WAIT]).await?;
    let (approach, opened) = link.into_parts();
    let run_id = new_key();
    let mut turn = Turn {
        context,
        args,
        approach,
        params: params(args, &run_id),
        run_id,
        session_key: args.session_key.clone(),
        stream: Stream::default(),
        shows: !args.json && io::stdout().is_terminal(),
        stop: Stop::watch()?,
    };
    let answer = turn.take(opened.session).await?;
    turn.tell(&answer)
}

/// What the gateway is asked for.
fn params(args: &AgentArgs, run_id: &str) -> Value {
    let mut params = Map::new();
    params.insert("message".to_owned(), json!(args.message));
    for (name, value) in [
        ("agentId", &args.agent),
        ("sessionKey", &args.session_key),
        ("sessionId", &args.session_id),
        ("to", &args.to),
        ("thinking", &args.thinking),
        ("channel", &args.channel),
        ("replyTo", &args.reply_to),
        ("replyChannel", &args.reply_channel),
        ("replyAccountId", &args.reply_account),
    ] {
        if let Some(value) = value {
            params.insert(name.to_owned(), json!(value));
        }
    }
    if let Some(seconds) = args.timeout {
        params.insert("timeout".to_owned(), json!(seconds));
    }
    params.insert("deliver".to_owned(), json!(args.deliver));
    params.insert("idempotencyKey".to_owned(), json!(run_id));
    Value::Object(params)
}

/// One turn under way.
struct Turn<'a> {
    context: &'a Context,
    args: &'a AgentArgs,
    approach: Approach,
    params: Value,
    run_id: String,
    /// Where it runs, once that is known.
    session_key: Option<String>,
    stream: Stream,
    /// Whether text is shown as it comes.
    shows: bool,
    stop: Stop,
}

/// What ended the waiting on one connection.
enum Ended {
    Answered(Result<Value, ClientError>),
    Interrupted,
}

impl Turn<'_> {
    /// The final answer, across lost connections.
    async fn take(&mut self, mut session: Session) -> CommandResult<Value> {
        let mut asked_before = false;
        loop {
            let mut events = session.take_events();
            let (params, run_id) = (self.params.clone(), self.run_id.clone());
            let ended = {
                let asking = ask(&session, &params, &run_id, asked_before);
                tokio::pin!(asking);
                loop {
                    tokio::select! {
                        // What was said before the answer is heard before it.
                        biased;
                        Some(event) = events.recv() => self.hear(&event)?,
                        answer = &mut asking => break Ended::Answered(answer),
                        () = self.stop.asked() => break Ended::Interrupted,
                    }
                }
            };
            match ended {
                Ended::Answered(Ok(answer)) => {
                    session.close().await;
                    return Ok(answer);
                }
                Ended::Answered(Err(error @ ClientError::Failed { .. })) => {
                    session.close().await;
                    self.end_line()?;
                    return Err(CommandError::call(&error, &self.approach.target)
                        .fact("run", self.run_id.as_str()));
                }
                // The connection is gone; the run is not.
                Ended::Answered(Err(_)) => {
                    self.end_line()?;
                    self.context
                        .output
                        .note("the connection was lost; looking for the gateway, the run goes on");
                    session = self.reconnect().await?;
                    asked_before = true;
                }
                Ended::Interrupted => {
                    self.end_line()?;
                    return Err(self.abort(&session, &mut events).await);
                }
            }
        }
    }

    async fn reconnect(&mut self) -> CommandResult<Session> {
        let mut pause = Duration::from_millis(200);
        for _ in 0..RECONNECTS {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.asked() => break,
            }
            pause = (pause * 2).min(Duration::from_secs(5));
            if let Ok(opened) = self.approach.open(&[METHOD, WAIT]).await {
                return Ok(opened.session);
            }
        }
        Err(CommandError::new(
            Exit::Unreachable,
            "GATEWAY_GONE",
            "the gateway went away in the middle of the turn",
        )
        .fact("run", self.run_id.as_str())
        .hint("clawgate gateway status")
        .hint(self.later()))
    }

    /// The command that finds out later what came of the run.
    fn later(&self) -> String {
        let params = json!({"runId": self.run_id, "timeoutMs": 0});
        format!("clawgate gateway call {WAIT} --params '{params}'")
    }

    /// Takes in what happened at the gateway, where it is about this run.
    fn hear(&mut self, event: &Event) -> CommandResult<()> {
        let payload = &event.payload;
        if event.event != METHOD || payload["runId"] != self.run_id.as_str() {
            return Ok(());
        }
        if let Some(key) = payload["sessionKey"].as_str() {
            self.session_key = Some(key.to_owned());
        }
        let data = &payload["data"];
        match payload["stream"].as_str() {
            Some("assistant") if self.shows => {
                let text = self.stream.take(data["text"].as_str().unwrap_or_default());
                self.context.output.piece(plain(&text))?;
            }
            Some("tool") if self.args.verbose == Switch::On && data["phase"] != "update" => {
                self.end_line()?;
                self.context.output.note(tool_words(data));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whatever comes next begins on a line of its own.
    fn end_line(&mut self) -> CommandResult<()> {
        if self.stream.end() {
            self.context.output.piece("\n")?;
        }
        Ok(())
    }

    /// Asks the gateway to end the run, and says whether it did.
    async fn abort(
        &mut self,
        session: &Session,
        events: &mut mpsc::Receiver<Event>,
    ) -> CommandError {
        let agent = self.args.agent.as_deref().unwrap_or("main");
        let key = self.session_key.clone();
        let key = key.unwrap_or_else(|| format!("agent:{agent}:main"));
        let params = json!({"sessionKey": key, "runId": self.run_id});
        let run_id = self.run_id.as_str();
        let aborting = async {
            let answer = session.request("chat.abort", Some(&params)).await?;
            if answer["aborted"] == true {
                while let Some(event) = events.recv().await {
                    let ours = event.payload["runId"] == run_id;
                    let over = matches!(event.payload["state"].as_str(), Some("aborted" | "final"))
                        || event.payload["data"]["phase"] == "end"
                        || event.payload["data"]["phase"] == "error";
                    if ours && over {
                        break;
                    }
                }
            }
            Ok::<bool, ClientError>(answer["aborted"] == true)
        };
        let outcome = tokio::select! {
            outcome = aborting => Some(outcome),
            () = sleep(ABORT_WITHIN) => None,
            () = self.stop.asked() => None,
        };
        let (code, message) = match outcome {
            Some(Ok(true)) => ("ABORTED", "the run was aborted"),
            Some(Ok(false)) => (
                "NOT_ABORTED",
                "the gateway found nothing to abort; the run may have ended, or goes on",
            ),
            Some(Err(_)) | None => (
                "NOT_ABORTED",
                "interrupted; the gateway did not confirm that the run ended",
            ),
        };
        let error = CommandError::new(Exit::Failed, code, message).fact("run", &*self.run_id);
        if code == "ABORTED" {
            error
        } else {
            error.hint(self.later())
        }
    }

    /// Prints what came of it.
    fn tell(&mut self, answer: &Value) -> CommandResult {
        let output = self.context.output;
        if self.args.json {
            output.json(answer)?;
        } else {
            self.tell_people(output, answer)?;
        }
        let status = answer["status"].as_str().unwrap_or("unknown");
        let aborted = answer["result"]["meta"]["aborted"] == true;
        if status == "ok" && !aborted {
            return Ok(Exit::Ok);
        }
        if self.args.json {
            // The answer says it.
            return Ok(Exit::Failed);
        }
        let said = [&answer["error"], &answer["summary"]];
        let why = said.into_iter().find_map(Value::as_str).unwrap_or(status);
        let (code, message) = match status {
            "ok" => ("ABORTED", "the run was aborted".to_owned()),
            "timeout" => ("TURN_TIMEOUT", "the turn took too long".to_owned()),
            _ => ("TURN_FAILED", format!("the turn failed: {}", plain(why))),
        };
        Err(CommandError::new(Exit::Failed, code, message).fact("run", self.run_id.as_str()))
    }

    fn tell_people(&mut self, output: Output, answer: &Value) -> CommandResult<()> {
        let payloads = answer["result"]["payloads"].as_array();
        for payload in payloads.into_iter().flatten() {
            let text = payload["text"].as_str().unwrap_or_default();
            // What streamed is on the screen already.
            if !text.is_empty() && !self.stream.ends_with(text) {
                self.end_line()?;
                output.line(plain(text))?;
            }
            if let Some(url) = payload["mediaUrl"].as_str() {
                self.end_line()?;
                output.line(plain(&format!("MEDIA: {url}")))?;
            }
        }
        self.end_line()
    }
}

/// Asks for the turn; after a lost connection by the same key, which starts nothing twice.
async fn ask(
    session: &Session,
    params: &Value,
    run_id: &str,
    asked_before: bool,
) -> Result<Value, ClientError> {
    if !asked_before {
        return session
            .request_final_within(METHOD, Some(params), AS_LONG_AS_IT_TAKES)
            .await;
    }
    let first = session.request(METHOD, Some(params)).await?;
    if is_final(&first) {
        return Ok(first);
    }
    let wait = json!({"runId": run_id, "timeoutMs": WAIT_PIECE_MS});
    let within = Duration::from_millis(WAIT_PIECE_MS * 2);
    loop {
        let waited = session
            .request_final_within(WAIT, Some(&wait), within)
            .await?;
        // That the wait was over, not the run.
        if waited["status"] == "timeout" && waited["endedAt"].is_null() {
            continue;
        }
        let answer = session.request(METHOD, Some(params)).await?;
        return Ok(if is_final(&answer) { answer } else { waited });
    }
}

/// Whether an answer tells of the end.
fn is_final(answer: &Value) -> bool {
    !matches!(
        answer["status"].as_str(),
        None | Some("accepted" | "started" | "in_flight" | "queued")
    )
}

/// What is on the screen of an answer that streams.
#[derive(Debug, Default)]
struct Stream {
    /// The message that streams: a turn with tools has several.
    message: String,
    /// Everything that was shown since the last line break of ours.
    open_line: bool,
}

impl Stream {
    /// What is to be written of a message whose text so far is this.
    fn take(&mut self, text: &str) -> String {
        let (begins, more) = match text.strip_prefix(self.message.as_str()) {
            Some(more) => (false, more),
            None => (self.open_line, text),
        };
        let written = if begins {
            format!("\n{more}")
        } else {
            more.to_owned()
        };
        text.clone_into(&mut self.message);
        self.open_line |= !written.is_empty();
        if let Some(last) = written.chars().last() {
            self.open_line = last != '\n';
        }
        written
    }

    /// Ends the line; says whether one was open.
    fn end(&mut self) -> bool {
        std::mem::take(&mut self.open_line)
    }

    /// Whether this text is the last thing that was shown.
    fn ends_with(&self, text: &str) -> bool {
        !self.message.is_empty() && self.message.trim_end() == text.trim_end()
    }
}

/// A use of a tool, in a line.
fn tool_words(data: &Value) -> String {
    let name = data["name"].as_str().unwrap_or("tool");
    match data["phase"].as_str() {
        Some("start") => {
            let args = data["args"].to_string();
            let short: String = args.chars().take(200).collect();
            format!(
                "[{name}] {}",
                if data["args"].is_null() { "" } else { &short }
            )
        }
        _ if data["isError"] == true => format!("[{name}] failed"),
        _ => format!("[{name}] done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_grows_is_written_once() {
        let mut stream = Stream::default();
        assert_eq!(stream.take("Hel"), "Hel");
        assert_eq!(stream.take("Hello"), "lo");
        assert_eq!(stream.take("Hello"), "");
        assert!(stream.ends_with("Hello"));
        assert!(stream.end() && !stream.end());
    }

    #[test]
    fn the_next_message_of_a_turn_begins_on_its_own_line() {
        let mut stream = Stream::default();
        stream.take("Let me look.");
        assert_eq!(stream.take("Hello"), "\nHello");
        assert_eq!(stream.take("Hello from"), " from");
        assert!(!stream.ends_with("Let me look."));
    }

    #[test]
    fn after_a_gap_only_what_is_new_is_written() {
        let mut stream = Stream::default();
        stream.take("one");
        assert!(stream.end());
        assert_eq!(stream.take("one two three"), " two three");
    }

    #[test]
    fn an_answer_that_only_says_that_it_began_is_not_the_end() {
        for status in ["accepted", "in_flight", "queued", "started"] {
            assert!(!is_final(&json!({"status": status})), "{status}");
        }
        assert!(!is_final(&json!({})));
        for status in ["ok", "error", "timeout", "aborted"] {
            assert!(is_final(&json!({"status": status})), "{status}");
        }
    }
}
