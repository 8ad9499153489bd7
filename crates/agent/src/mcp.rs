//! Servers of the Model Context Protocol, whose tools a turn may call.
//!
//! [`McpServers`] owns them. Each is attended by a task of its own, which starts it when somebody
//! first wants its tools, one start at a time, and ends it with everything that it started when it
//! is configured no more, when it answers what it must not, and when the gateway stops. Whoever
//! calls a tool holds only a way to write to the server, never the server.

mod call;
mod child;
mod list;
mod web;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmcp::{
    ClientHandler, Peer, RoleClient,
    service::{ClientInitializeError, NotificationContext, RunningService, serve_client},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    call::ServerTool,
    child::{Lines, Started},
};
use crate::{model::ToolSpec, tool::Tool};

/// Who may wait for one server at a time.
const WAITING_MAX: usize = 64;
/// Between two starts of a server that keeps failing, at most.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A server that lived this long did not fail at its start.
const SETTLED: Duration = Duration::from_secs(60);

/// A server, and how it is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct McpServer {
    /// As the configuration names it.
    pub name: String,
    /// As the names of its tools have it: letters, digits, `-` and single `_`.
    pub label: String,
    /// How it is reached.
    pub way: Way,
    /// How long it may take to start and to say what it has.
    pub start_within: Duration,
    /// How long a call may take.
    pub call_within: Duration,
}

/// How a server is reached.
#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// It is started, and spoken to over its standard input and output.
    Program(Program),
    /// It runs somewhere, and is spoken to over HTTP ("streamable HTTP" of the protocol).
    Web {
        /// Where, `http` or `https`.
        url: String,
        /// What every request has, by name. May hold secrets; they go to no other address.
        headers: Vec<(String, String)>,
    },
}

/// What is started as a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// What is run: a path, or a name that is looked for in `PATH`.
    pub command: String,
    /// What it is told.
    pub args: Vec<String>,
    /// Its environment, beside what every program sees. May hold secrets.
    pub env: Vec<(String, String)>,
    /// Where it runs.
    pub cwd: PathBuf,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Program(_) => "Program",
            Self::Web { .. } => "Web",
        })
    }
}

impl std::fmt::Debug for McpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Owner of the servers. A handle.
#[derive(Clone, Debug)]
pub struct McpServers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What every mark begins with, as those of programs do.
    marks: String,
    known: Mutex<HashMap<String, Known>>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// A server that was asked for. Dropped, it is ended.
#[derive(Debug)]
struct Known {
    config: McpServer,
    asks: mpsc::Sender<Ask>,
    _end: tokio_util::sync::DropGuard,
}

type Ask = oneshot::Sender<Result<Arc<Vec<Offered>>, String>>;

/// A tool as a server offers it now.
#[derive(Clone, Debug)]
struct Offered {
    /// As the server calls it.
    own: String,
    spec: ToolSpec,
    peer: Peer<RoleClient>,
}

impl McpServers {
    /// The owner. `marks` names this gateway among others of the same user.
    #[must_use]
    pub fn new(marks: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                marks: marks.to_owned(),
                known: Mutex::default(),
                stopping: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        let known = &self.inner.known;
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the servers of which this does not hold.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        self.known().retain(|name, _| is_kept(name));
    }

    /// The tools of a server, which is started if it does not run. One that runs as it was
    /// configured before is ended first.
    ///
    /// # Errors
    /// Why there are none, naming the server.
    pub async fn tools(&self, config: &McpServer) -> Result<Vec<Arc<dyn Tool>>, String> {
        let asks = self.asks(config).ok_or("the gateway is stopping")?;
        let gone = || format!("the server \"{}\" was ended", config.name);
        let (ask, answer) = oneshot::channel();
        asks.send(ask).await.map_err(|_| gone())?;
        let offered = answer.await.map_err(|_| gone())??;
        let tool = |offered: &Offered| -> Arc<dyn Tool> {
            Arc::new(ServerTool {
                server: config.name.clone(),
                within: config.call_within,
                offered: offered.clone(),
            })
        };
        Ok(offered.iter().map(tool).collect())
    }

    fn asks(&self, config: &McpServer) -> Option<mpsc::Sender<Ask>> {
        let mut known = self.known();
        // Under the lock: a stop that clears the map comes before or after.
        if self.inner.stopping.is_cancelled() {
            return None;
        }
        if let Some(known) = known.get(&config.name)
            && known.config == *config
        {
            return Some(known.asks.clone());
        }
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        let end = self.inner.stopping.child_token();
        let attended = attend(config.clone(), self.inner.marks.clone(), asked);
        let ended = end.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = attended => {}
                () = ended.cancelled() => {}
            }
        });
        known.insert(
            config.name.clone(),
            Known {
                config: config.clone(),
                asks: asks.clone(),
                _end: end.drop_guard(),
            },
        );
        Some(asks)
    }

    /// Ends all of them, and starts none any more.
    pub async fn stop(&self) {
        self.inner.stopping.cancel();
        self.known().clear();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// Hears what a server says by itself.
#[derive(Debug)]
struct Ear {
    changed: Arc<Notify>,
}

impl ClientHandler for Ear {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// A server that runs. Dropped, it is ended with everything that it started.
struct Live {
    offered: Arc<Vec<Offered>>,
    changed: Arc<Notify>,
    since: Instant,
    service: RunningService<RoleClient, Ear>,
    /// Its program, where it has one.
    started: Option<Started>,
}

impl Live {
    /// Waits until its program ended.
    async fn ended(started: &mut Option<Started>) {
        match started {
            // A program that cannot be waited for is none any more.
            Some(started) => drop(started.child.wait().await),
            None => std::future::pending().await,
        }
    }
}

/// Starts a server when it is asked for, until nobody can ask any more.
async fn attend(config: McpServer, marks: String, mut asked: mpsc::Receiver<Ask>) {
    let mut live: Option<Live> = None;
    let mut failures = 0_u32;
    let mut refused: Option<(Instant, String)> = None;
    loop {
        let ask = match &mut live {
            None => asked.recv().await,
            Some(running) => tokio::select! {
                ask = asked.recv() => ask,
                () = Live::ended(&mut running.started) => {
                    tracing::warn!(server = %config.name, "a tool server ended by itself");
                    failures = more(failures, running.since);
                    refused = pause(failures, "it ended by itself");
                    live = None;
                    continue;
                }
                () = running.changed.notified() => {
                    match timeout(config.start_within, list::of(&config, running.service.peer())).await {
                        Ok(Ok(offered)) => running.offered = Arc::new(offered),
                        Ok(Err(why)) => tracing::warn!(server = %config.name, why, "no new list"),
                        Err(_) => tracing::warn!(server = %config.name, "no new list in time"),
                    }
                    continue;
                }
            },
        };
        let Some(ask) = ask else { return };
        if let Some(running) = live.take_if(|live| live.service.is_transport_closed()) {
            failures = more(failures, running.since);
            refused = pause(failures, "it stopped answering");
        }
        let answer = match (&live, &refused) {
            (Some(live), _) => Ok(Arc::clone(&live.offered)),
            (None, Some((until, why))) if Instant::now() < *until => Err(why.clone()),
            (None, _) => match timeout(config.start_within, start(&config, &marks)).await {
                Ok(Ok(started)) => {
                    refused = None;
                    Ok(Arc::clone(&live.insert(started).offered))
                }
                failed => {
                    let why = match failed {
                        Ok(Err(why)) => why,
                        _ => format!("it did not start in {} s", config.start_within.as_secs()),
                    };
                    tracing::warn!(server = %config.name, why, "a tool server did not start");
                    failures = failures.saturating_add(1);
                    refused = pause(failures, &why);
                    Err(why)
                }
            },
        };
        let answer = answer.map_err(|why| format!("the server \"{}\": {why}", config.name));
        // Whoever asked may have gone.
        let _ = ask.send(answer);
    }
}

fn more(failures: u32, since: Instant) -> u32 {
    if since.elapsed() >= SETTLED {
        1
    } else {
        failures.saturating_add(1)
    }
}

/// Until when a server that failed so often is let be. The first time, not at all.
fn pause(failures: u32, why: &str) -> Option<(Instant, String)> {
    let seconds = match failures {
        0 | 1 => return None,
        more => 1_u64 << (more - 2).min(6),
    };
    let pause = Duration::from_secs(seconds).min(PAUSE_MAX);
    Some((Instant::now() + pause, why.to_owned()))
}

/// What is behind an error, in the words of whoever met it first.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.last().unwrap_or(error).to_string()
}

/// The same with addresses that end at their `?`.
fn without_queries(text: &str) -> String {
    let mut parts = text.split('?');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find([')', ' ', '"', '\'']).unwrap_or(part.len());
        kept.push_str(&part[end..]);
    }
    kept
}

async fn start(config: &McpServer, marks: &str) -> Result<Live, String> {
    let changed = Arc::new(Notify::new());
    let ear = Ear {
        changed: Arc::clone(&changed),
    };
    let (service, started) = match &config.way {
        Way::Program(program) => {
            let mut started = Started::new(&config.name, program, marks).map_err(|error| {
                match program.cwd.is_dir() {
                    true => format!("it could not be started: {error}"),
                    false => format!("there is no directory {}", program.cwd.display()),
                }
            })?;
            let (reader, writer) = started.pipes.take().ok_or("it has no pipes")?;
            let service = Box::pin(serve_client(ear, (Lines::new(reader), writer)));
            (service.await, Some(started))
        }
        Way::Web { url, headers } => {
            let transport = web::transport(url, headers, config.start_within)?;
            (Box::pin(serve_client(ear, transport)).await, None)
        }
    };
    let service = service.map_err(|error| match error {
        ClientInitializeError::TransportError { error, .. } => {
            // It names the address, in which somebody may have put a key.
            let said = without_queries(&cause(&*error.error));
            format!("it cannot be spoken to: {}", list::cut(&said, 300))
        }
        other => {
            let said = other.to_string();
            format!("it does not speak the protocol: {}", list::cut(&said, 300))
        }
    })?;
    let offered = Arc::new(list::of(config, service.peer()).await?);
    tracing::info!(server = %config.name, tools = offered.len(), "a tool server runs");
    Ok(Live {
        offered,
        changed,
        since: Instant::now(),
        service,
        started,
    })
}
