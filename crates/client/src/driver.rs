//! The task that owns a session's socket: writes what is asked, sorts what arrives.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clawgate_protocol::{ReceivedError, frame::Received};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::{client::Event, clock, error::CloseInfo};

/// What a caller gets: the payload or the gateway's error.
pub(crate) type Answer = Result<Value, Box<ReceivedError>>;

/// What the session asks of its driver.
pub(crate) enum Command {
    Request {
        id: String,
        text: String,
        reply: oneshot::Sender<Answer>,
        /// Whether an answer with `status: accepted` is only the first of two.
        expect_final: bool,
    },
    Close,
}

struct Pending {
    reply: oneshot::Sender<Answer>,
    expect_final: bool,
}

pub(crate) struct Driver<S> {
    socket: WebSocketStream<S>,
    inbox: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    missed_events: Arc<AtomicU64>,
    closed: Arc<OnceLock<CloseInfo>>,
    pending: HashMap<String, Pending>,
    /// The gateway ticks; twice this long without anything means that it is gone.
    tick: Duration,
    heard_at: Instant,
}

impl<S> Driver<S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    pub(crate) fn new(
        socket: WebSocketStream<S>,
        inbox: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        missed_events: Arc<AtomicU64>,
        closed: Arc<OnceLock<CloseInfo>>,
        tick: Duration,
    ) -> Self {
        Self {
            socket,
            inbox,
            events,
            missed_events,
            closed,
            pending: HashMap::new(),
            tick,
            heard_at: clock::instant(),
        }
    }

    /// Runs until either end closes. Dropping what is pending tells its callers.
    pub(crate) async fn run(mut self) {
        let close = self.serve().await;
        // Set before the pending replies are dropped, so that their callers can read it.
        self.closed.get_or_init(|| close);
    }

    async fn serve(&mut self) -> CloseInfo {
        loop {
            tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(Command::Request { id, text, reply, expect_final }) => {
                        if let Err(error) = self.write(id, text, reply, expect_final).await {
                            return lost(&error);
                        }
                    }
                    Some(Command::Close) | None => return self.say_goodbye().await,
                },
                message = self.socket.next() => {
                    self.heard_at = clock::instant();
                    match message {
                        Some(Ok(message)) => {
                            if let Some(close) = self.take(&message) {
                                return close;
                            }
                        }
                        Some(Err(error)) => return lost(&error),
                        None => return CloseInfo::default(),
                    }
                }
                () = sleep_until(self.heard_at + self.tick * 2) => {
                    let reason = "tick timeout";
                    let frame = CloseFrame { code: CloseCode::from(4000), reason: reason.into() };
                    drop(self.socket.close(Some(frame)).await);
                    return CloseInfo { code: Some(4000), reason: reason.to_owned() };
                }
            }
        }
    }

    /// Writes a request and whatever else is waiting, then flushes once.
    async fn write(
        &mut self,
        id: String,
        text: String,
        reply: oneshot::Sender<Answer>,
        expect_final: bool,
    ) -> Result<(), tungstenite::Error> {
        self.pending.insert(
            id,
            Pending {
                reply,
                expect_final,
            },
        );
        self.socket.feed(Message::text(text)).await?;
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Request {
                    id,
                    text,
                    reply,
                    expect_final,
                } => {
                    self.pending.insert(
                        id,
                        Pending {
                            reply,
                            expect_final,
                        },
                    );
                    self.socket.feed(Message::text(text)).await?;
                }
                Command::Close => {
                    self.inbox.close();
                    break;
                }
            }
        }
        self.socket.flush().await
    }

    /// Sorts one message; `Some` when the peer closed.
    fn take(&mut self, message: &Message) -> Option<CloseInfo> {
        let text = match message {
            Message::Text(text) => text.as_str(),
            Message::Binary(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            Message::Close(frame) => return Some(close_info(frame.as_ref())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return None,
        };
        match serde_json::from_str::<Received>(text) {
            Ok(Received::Res {
                id,
                ok,
                payload,
                error,
            }) => self.answer(&id, ok, payload, error),
            Ok(Received::Event {
                event,
                payload,
                seq,
            }) => {
                if self
                    .events
                    .try_send(Event {
                        event,
                        payload,
                        seq,
                    })
                    .is_err()
                {
                    self.missed_events.fetch_add(1, Ordering::Relaxed);
                }
            }
            // A newer gateway may say more than this client understands.
            Err(_) => {}
        }
        None
    }

    fn answer(&mut self, id: &Value, ok: bool, payload: Value, error: Option<ReceivedError>) {
        let Some(pending) = id.as_str().and_then(|id| self.pending.remove(id)) else {
            return;
        };
        let first_of_two = pending.expect_final
            && ok
            && payload.get("status").and_then(Value::as_str) == Some("accepted");
        if let (true, Some(id)) = (first_of_two, id.as_str()) {
            self.pending.insert(id.to_owned(), pending);
            return;
        }
        let answer = if ok {
            Ok(payload)
        } else {
            Err(Box::new(error.unwrap_or_else(no_error)))
        };
        // Nobody waits any more after a deadline.
        drop(pending.reply.send(answer));
    }

    /// Sends a close without a code and waits for the peer's.
    async fn say_goodbye(&mut self) -> CloseInfo {
        if self.socket.close(None).await.is_ok() {
            while let Some(Ok(_)) = self.socket.next().await {}
        }
        CloseInfo::default()
    }
}

fn no_error() -> ReceivedError {
    ReceivedError {
        code: String::new(),
        message: "the gateway refused without saying why".to_owned(),
        details: None,
        retryable: None,
        retry_after_ms: None,
    }
}

/// The peer's close frame as an outcome.
pub(crate) fn close_info(frame: Option<&CloseFrame>) -> CloseInfo {
    frame.map_or_else(
        || CloseInfo {
            code: Some(1005),
            reason: String::new(),
        },
        |frame| CloseInfo {
            code: Some(frame.code.into()),
            reason: frame.reason.as_str().to_owned(),
        },
    )
}

fn lost(error: &tungstenite::Error) -> CloseInfo {
    if let tungstenite::Error::Capacity(_) = error {
        return CloseInfo {
            code: Some(1009),
            reason: "message above this client's limit".to_owned(),
        };
    }
    CloseInfo::default()
}
