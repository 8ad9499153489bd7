//! The turn behind a request: begun, listened to, and stopped when nobody waits for it any more.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use clawgate_core::{Scope, lane::QueueMode, session::SessionKey};
use hyper::{
    Response, StatusCode,
    header::{self, HeaderName},
};
use serde_json::Value;
use tokio::sync::watch;

use super::{Fault, json_reply, said::Message, session::header, set};
use crate::{
    Gateway, error,
    listen::Request,
    turns::{Begun, Ended, Origin, Run, State, Stopped, Wanted},
    web::{guard::Caller, reply},
};

/// How long the head of a stream waits for the first words, so that a turn that fails before them has
/// its status.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// After so much silence a stream says that it is alive: proxies end one that is quiet.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// What it says then: a comment, which clients skip.
const ALIVE: &str = ": the turn goes on\n\n";

/// How an interface says what a turn says.
pub(super) trait Shape: Send + 'static {
    /// The whole answer.
    fn whole(&self, ended: &Ended) -> Value;
    /// What a stream begins with.
    fn opening(&mut self) -> String;
    /// Words.
    fn words(&mut self, words: &str) -> String;
    /// The end of a stream that went well.
    fn closing(&mut self, ended: &Ended) -> String;
    /// The end of one that did not.
    fn failed(&mut self, fault: &Fault) -> String;
}

/// A turn that is asked for.
pub(super) struct Wish {
    pub(super) run_id: String,
    pub(super) key: SessionKey,
    pub(super) message: Message,
    /// How much is thought, in the words of `reasoning_effort`.
    pub(super) thinking: Option<String>,
    pub(super) streams: bool,
}

/// Carries a turn through and answers with what it says.
pub(super) async fn answer(
    gateway: &Arc<Gateway>,
    request: &Request,
    caller: Caller,
    wish: Wish,
    shape: impl Shape,
) -> Result<Response<Body>, Fault> {
    let model = header(request, "x-openclaw-model").map(str::to_owned);
    if model.is_some() && !caller.has(&Scope::ADMIN) {
        let shape = error::missing_scope(&caller.link().principal, &Scope::ADMIN);
        let message = format!("{}: x-openclaw-model", shape.message);
        return Err(Fault::new(StatusCode::FORBIDDEN, "missing_scope", message));
    }
    let Message {
        text,
        images,
        system,
    } = wish.message;
    let wanted = Wanted {
        message: text,
        images,
        model,
        thinking: wish.thinking,
        extra_system: system,
        queue: QueueMode::Followup,
        conn_id: Some(caller.link().principal.conn_id.clone()),
        // Nobody would hear what it says.
        resumes: false,
        ..Wanted::new(wish.run_id, wish.key, Origin::Http)
    };
    let waiting = begin(gateway, request, caller, wanted).await?;
    if wish.streams {
        stream(waiting, shape).await
    } else {
        let ended = waiting.run.ended().await;
        waiting.judge(&ended)?;
        Ok(json_reply(StatusCode::OK, &shape.whole(&ended)))
    }
}

/// Somebody waits for a turn. Dropped, it has the turn stopped.
struct Waiting {
    run: Arc<Run>,
    caller: Arc<Caller>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !matches!(self.run.state(), State::Ended(_)) {
            self.run.halt(Stopped::Asked);
        }
    }
}

impl Waiting {
    /// Whether an end is an answer.
    fn judge(&self, ended: &Ended) -> Result<(), Fault> {
        if !self.caller.is_live() {
            return Err(Fault::ended());
        }
        match Fault::of_ended(ended) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}

async fn begin(
    gateway: &Arc<Gateway>,
    request: &Request,
    caller: Caller,
    wanted: Wanted,
) -> Result<Waiting, Fault> {
    let (owner, caller) = (Arc::clone(gateway), Arc::new(caller));
    let lasting = request.lasting.upgrade();
    // A task of its own: whoever goes away meanwhile leaves a turn that is stopped, not one that
    // nobody knows of.
    let begun = gateway.tasks.spawn(async move {
        let link = Arc::clone(caller.link());
        let begun = owner.begin_turn(Some(link), wanted).await;
        let Begun::New(run) = begun.map_err(Fault::of_shape)? else {
            let shape = error::internal("beginning a turn", &"its new id was there before");
            return Err(Fault::of_shape(shape));
        };
        let (watched, until) = (Arc::clone(&run), Arc::clone(&caller));
        let watcher = Arc::clone(&owner);
        owner.tasks.spawn(async move {
            // The connection stays as long as the turn, however slowly it is read.
            let _lasting = lasting;
            tokio::select! {
                _ = watched.ended() => return,
                () = until.ended() => {}
            }
            if !watcher.stopping.is_cancelled() {
                watched.halt(Stopped::Asked);
            }
            watched.ended().await;
        });
        Ok(Waiting { run, caller })
    });
    begun.await.unwrap_or_else(|died| {
        let shape = error::internal("beginning a turn", &died);
        Err(Fault::of_shape(shape))
    })
}

/// What is heard of a turn next.
enum Heard {
    Words(String),
    /// Nothing for a while.
    Silence,
    /// It is over, with these last words.
    Over(String, Arc<Ended>),
    /// The caller has no authority any more.
    Cut,
}

struct Hearing {
    waiting: Waiting,
    more: watch::Receiver<()>,
    /// Bytes that were heard.
    heard: usize,
}

impl Hearing {
    /// Waits for what comes next. Cancel-safe.
    async fn next(&mut self) -> Heard {
        let run = Arc::clone(&self.waiting.run);
        loop {
            if !self.waiting.caller.is_live() {
                return Heard::Cut;
            }
            if let State::Ended(ended) = run.state() {
                let last = ended.text.get(self.heard..).filter(|_| !ended.is_silent());
                return Heard::Over(last.unwrap_or_default().to_owned(), ended);
            }
            let words = run.said_after(self.heard);
            if !words.is_empty() {
                self.heard += words.len();
                return Heard::Words(words);
            }
            tokio::select! {
                _ = self.more.changed() => {}
                _ = run.ended() => {}
                () = tokio::time::sleep(SILENCE_MAX) => return Heard::Silence,
            }
        }
    }
}

/// A stream of a turn. It is pulled: what is not read is not made, and costs nothing.
struct Telling<S> {
    hearing: Hearing,
    shape: S,
    first: Option<Heard>,
    is_open: bool,
    is_over: bool,
}

impl<S: Shape> Telling<S> {
    async fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        let mut text = String::new();
        if !self.is_open {
            self.is_open = true;
            text = self.shape.opening();
            if self.first.is_none() {
                return Some(text);
            }
        }
        let heard = match self.first.take() {
            Some(first) => first,
            None => self.hearing.next().await,
        };
        match heard {
            Heard::Words(words) => text.push_str(&self.shape.words(&words)),
            Heard::Silence => text.push_str(ALIVE),
            Heard::Over(last, ended) => {
                self.is_over = true;
                if !last.is_empty() {
                    text.push_str(&self.shape.words(&last));
                }
                text.push_str(&match self.hearing.waiting.judge(&ended) {
                    Ok(()) => self.shape.closing(&ended),
                    Err(fault) => self.shape.failed(&fault),
                });
            }
            Heard::Cut => {
                self.is_over = true;
                text.push_str(&self.shape.failed(&Fault::ended()));
            }
        }
        Some(text)
    }
}

async fn stream(waiting: Waiting, shape: impl Shape) -> Result<Response<Body>, Fault> {
    let more = waiting.run.more();
    let mut hearing = Hearing {
        waiting,
        more,
        heard: 0,
    };
    let first = tokio::time::timeout(HEAD_PATIENCE, hearing.next())
        .await
        .ok();
    match &first {
        Some(Heard::Cut) => return Err(Fault::ended()),
        Some(Heard::Over(last, ended)) if last.is_empty() => hearing.waiting.judge(ended)?,
        _ => {}
    }
    let telling = Telling {
        hearing,
        shape,
        first,
        is_open: false,
        is_over: false,
    };
    let pieces = futures_util::stream::unfold(telling, |mut telling| async move {
        let text = telling.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), telling))
    });
    let mut response = reply(
        StatusCode::OK,
        "text/event-stream; charset=utf-8",
        Body::from_stream(pieces),
    );
    set(&mut response, header::CACHE_CONTROL, "no-cache, no-store");
    set(
        &mut response,
        HeaderName::from_static("x-accel-buffering"),
        "no",
    );
    Ok(response)
}
