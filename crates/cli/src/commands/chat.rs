//! `chat`: a conversation in the terminal; with a screen, or by lines where there is no terminal.

mod ask;
mod conversation;
mod editor;
mod plain;
mod screen;
mod terminal;

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use clawgate_client::{ClientError, Event, Mode, Opened, Session, new_key};
use clawgate_protocol::Scope;
use ratatui::crossterm::event::Event as Typed;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Context, SLOW_MS};
use crate::{
    app::ConnectArgs,
    clock,
    error::{CommandError, CommandResult},
    exit::Exit,
    session::{Approach, Link},
    stop::Stop,
};
use ask::{Ask, PAGE, Saying};
use conversation::Defaults;
use plain::Lines;
use screen::{Happening, Refusal, Screen, Wish};
use terminal::Terminal;

/// What a chat cannot do without.
const METHODS: &[&str] = &["chat.send", "chat.history"];
/// Between two attempts to find the gateway again.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// `chat`.
#[derive(Args, Debug)]
pub(crate) struct ChatArgs {
    /// Which session: its key, whole or as it is listed
    #[arg(long, value_name = "KEY", default_value = "main")]
    session: String,
    /// Say this first
    #[arg(short = 'm', long, value_name = "TEXT", allow_hyphen_values = true)]
    message: Option<String>,
    /// How much the model thinks (off, minimal, low, medium, high, ...)
    #[arg(long, value_name = "LEVEL")]
    thinking: Option<String>,
    /// Deliver answers through the session's channel as well
    #[arg(long)]
    deliver: bool,
    /// Milliseconds that a turn may take
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Messages of a page of the history
    #[arg(long, value_name = "N", default_value_t = PAGE, value_parser = clap::value_parser!(u64).range(1..=1000))]
    history_limit: u64,
    /// No screen: each line of standard input is a message, each answer is printed
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

pub(crate) async fn run(context: &Context, args: &ChatArgs) -> CommandResult {
    let approach =
        Approach::new(context, &args.connect, Mode::Cli, SLOW_MS)?.with_caps(&["tool-events"]);
    let link = Link::by(context, approach, false, METHODS).await?;
    let parts = link.into_parts();
    let defaults = Defaults::of(&parts.1.session.hello().snapshot);
    let key = defaults.whole(&args.session);
    let saying = Saying {
        thinking: args.thinking.clone(),
        deliver: args.deliver,
        timeout_ms: args.timeout_ms,
        page: args.history_limit,
    };
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if args.plain || args.connect.json || !terminal {
        let lines = Lines::new(context, parts, key, defaults, saying, args.connect.json)?;
        return lines.run(args.message.clone()).await;
    }
    let gateway = parts.0.target.endpoint.to_string();
    let screen = Screen::new(key, gateway, defaults, saying, new_key);
    on_screen(parts, screen, args.message.as_deref()).await
}

/// Work that ended.
enum Done {
    Answered(Ask, Result<Value, Refusal>),
    Reconnected(Box<Opened>),
}

/// The screen, its connection and what is under way.
struct Running {
    approach: Arc<Approach>,
    screen: Screen,
    session: Option<Arc<Session>>,
    events: mpsc::Receiver<Event>,
    work: JoinSet<Done>,
    leaves: bool,
}

async fn on_screen(
    (approach, opened): (Approach, Opened),
    screen: Screen,
    first: Option<&str>,
) -> CommandResult {
    let mut stop = Stop::watch()?;
    let mut terminal = Terminal::enter().map_err(|error| {
        CommandError::internal(format!("the terminal cannot be used: {error}"))
            .hint("clawgate chat --plain")
    })?;
    let mut typed = terminal::typed();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (_, nothing) = mpsc::channel(1);
    let mut running = Running {
        approach: Arc::new(approach),
        screen,
        session: None,
        events: nothing,
        work: JoinSet::new(),
        leaves: false,
    };
    if let Ok(size) = terminal.screen.size() {
        running.take(Happening::Resized(size.width, size.height));
    }
    running.take(Happening::Tick(clock::now_ms()));
    running.connected(opened);
    if let Some(first) = first {
        let wishes = running.screen.say(first);
        running.grant(wishes);
    }
    while !running.leaves {
        terminal
            .screen
            .draw(|frame| running.screen.draw(frame))
            .map_err(|error| CommandError::output(&error))?;
        tokio::select! {
            key = typed.recv() => match key {
                Some(key) => running.typed(key),
                None => break,
            },
            event = running.events.recv(), if running.session.is_some() => match event {
                Some(event) => running.take(Happening::Event(event)),
                None => running.lost(),
            },
            Some(done) = running.work.join_next() => {
                if let Ok(done) = done {
                    running.done(done);
                }
            }
            _ = ticks.tick() => running.take(Happening::Tick(clock::now_ms())),
            () = stop.asked() => break,
        }
        // What is there already is drawn together.
        while let Ok(key) = typed.try_recv() {
            running.typed(key);
        }
        while let Ok(event) = running.events.try_recv() {
            running.take(Happening::Event(event));
        }
    }
    drop(terminal);
    running.work.shutdown().await;
    if let Some(session) = running.session.and_then(Arc::into_inner) {
        session.close().await;
    }
    Ok(Exit::Ok)
}

impl Running {
    fn take(&mut self, happening: Happening) {
        let wishes = self.screen.take(happening);
        self.grant(wishes);
    }

    fn typed(&mut self, typed: Typed) {
        match typed {
            Typed::Key(key) => self.take(Happening::Key(key)),
            Typed::Paste(text) => self.take(Happening::Paste(text)),
            Typed::Resize(width, height) => self.take(Happening::Resized(width, height)),
            Typed::FocusGained | Typed::FocusLost | Typed::Mouse(_) => {}
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Answered(ask, answer) => {
                let gone = matches!(&answer, Err(refusal) if refusal.lost);
                let session = self.session.as_ref();
                if gone && session.is_some_and(|session| session.closed().is_some()) {
                    self.lost();
                }
                self.take(Happening::Answered { ask, answer });
            }
            Done::Reconnected(opened) => self.connected(*opened),
        }
    }

    fn connected(&mut self, mut opened: Opened) {
        self.events = opened.session.take_events();
        let granted = opened.session.granted().known().cloned();
        let may_approve = granted.is_some_and(|scopes| scopes.covers(&Scope::APPROVALS));
        self.session = Some(Arc::new(opened.session));
        self.take(Happening::Connected { may_approve });
    }

    fn lost(&mut self) {
        let session = self.session.take();
        let why = session
            .as_ref()
            .and_then(|session| session.closed())
            .map_or_else(|| "the connection ended".to_owned(), ToString::to_string);
        let approach = Arc::clone(&self.approach);
        self.work.spawn(async move {
            let mut pause = PAUSE_MIN;
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                if let Ok(opened) = approach.open(METHODS).await {
                    return Done::Reconnected(Box::new(opened));
                }
            }
        });
        self.take(Happening::Lost(why));
    }

    /// Does what the screen wants.
    fn grant(&mut self, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Leave => self.leaves = true,
                Wish::Ask(ask) => self.ask(ask),
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let params = ask.params(self.screen.key(), self.screen.saying());
        let session = self.session.clone();
        self.work.spawn(async move {
            let Some(session) = session else {
                let refusal = Refusal {
                    message: "there is no connection".to_owned(),
                    lost: true,
                };
                return Done::Answered(ask, Err(refusal));
            };
            let answer = session.request(ask.method(), Some(&params)).await;
            let answer = answer.map_err(|error| Refusal {
                lost: matches!(error, ClientError::Closed { .. }),
                message: error.to_string(),
            });
            Done::Answered(ask, answer)
        });
    }
}
