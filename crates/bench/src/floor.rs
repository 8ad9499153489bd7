//! The floor: a WebSocket server that does nothing but what the measured work cannot do without.
//!
//! It sends a challenge, verifies one Ed25519 signature, answers a small JSON, and from then on
//! answers every message with one and the same text, which is made once and shared. It takes all
//! messages that are there before it flushes once. Asked to, it also sends one and the same event to
//! everybody for each message, through a queue of each connection. It runs as a process of its own, on
//! the same kind of runtime as the gateway, so that the processor is shared with the load generator in
//! the same way for both.

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawgate_protocol::proof::ProofText;
use ed25519_dalek::{Signature, VerifyingKey};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::{
    error::{BenchError, Doing as _},
    peer::ANSWERED,
};

/// Events of one connection that wait. The next one is caused when all have had the last.
const EVENTS_MAX: usize = 64;
/// Enough for all requests that are in flight on one connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;

#[derive(Deserialize)]
struct Connect<'a> {
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    client: Client<'a>,
    #[serde(borrow)]
    scopes: Vec<&'a str>,
    #[serde(borrow)]
    auth: Auth<'a>,
    #[serde(borrow)]
    device: DeviceProof<'a>,
}

#[derive(Deserialize)]
struct Client<'a> {
    id: &'a str,
    mode: &'a str,
    platform: &'a str,
}

#[derive(Deserialize)]
struct Auth<'a> {
    token: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceProof<'a> {
    id: &'a str,
    public_key: &'a str,
    signature: &'a str,
    signed_at: u64,
}

/// The first argument of a process that is a floor.
pub const NAME: &str = "bench-floor";
/// How the event of a floor begins.
pub const EVENT: &str = r#"{"type":"event","event":"floor""#;

/// What a floor says, and to whom.
#[derive(Debug)]
struct Says {
    answer: Utf8Bytes,
    /// What each message makes it send to everybody.
    event: Option<Utf8Bytes>,
    /// Everybody's queue.
    all: Mutex<Vec<mpsc::Sender<Utf8Bytes>>>,
}

/// Is a floor, for a process whose first argument is [`NAME`]: bytes of an answer, and of an event if
/// there is to be one. It ends with the program that started it, which holds the other end of its stdin.
pub fn main(args: &[OsString]) -> ExitCode {
    let numbers: Option<Vec<usize>> = args.iter().map(|arg| arg.to_str()?.parse().ok()).collect();
    let (answer_bytes, event_bytes) = match numbers.as_deref() {
        Some([answer]) => (*answer, None),
        Some([answer, event]) => (*answer, Some(*event)),
        _ => return ExitCode::from(2),
    };
    crate::raise_descriptor_limit();
    let served = crate::runtime()
        .doing("starting the runtime")
        .and_then(|runtime| runtime.block_on(serve(answer_bytes, event_bytes)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves until whoever started it is gone, and first says its port on stdout.
async fn serve(answer_bytes: usize, event_bytes: Option<usize>) -> Result<(), BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
    let port = listener.local_addr().doing("listening")?.port();
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{port}").doing("saying the port")?;
        out.flush().doing("saying the port")?;
    }
    let says = Arc::new(Says {
        answer: filled(ANSWERED, answer_bytes).into(),
        event: event_bytes.map(|bytes| filled(EVENT, bytes).into()),
        all: Mutex::default(),
    });
    let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
    // Not a thread of the runtime, which would wait for it at the end.
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read(&mut [0]);
        drop(gone);
    });
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await.doing("accepting")?;
            let says = Arc::clone(&says);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                converse(stream, &says).await
            });
        }
    };
    tokio::select! {
        _ = is_gone => Ok(()),
        ended = accepting => ended,
    }
}

/// A message with this beginning and of this many bytes, or of as few as it can have.
fn filled(beginning: &str, bytes: usize) -> String {
    let (head, tail) = (format!(r#"{beginning},"payload":""#), "\"}");
    let filler = bytes.saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", "x".repeat(filler))
}

impl Says {
    /// Sends the event to everybody, whoever is gone apart.
    fn broadcast(&self) {
        if let Some(event) = &self.event {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|one| one.try_send(event.clone()).is_ok());
        }
    }
}

/// `None` when the peer left or did not prove itself.
async fn converse(stream: TcpStream, says: &Says) -> Option<()> {
    // The default buffer of 128 KiB is zeroed for every connection.
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let mut socket = accept_async_with_config(stream, Some(config)).await.ok()?;
    welcome(&mut socket).await?;
    if says.event.is_some() {
        return listen(socket, says).await;
    }
    loop {
        let mut next = socket.next().await;
        loop {
            match next?.ok()? {
                Message::Text(_) => {
                    socket.feed(Message::Text(says.answer.clone())).await.ok()?;
                }
                Message::Close(_) => {
                    socket.flush().await.ok()?;
                    return Some(());
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            match socket.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        socket.flush().await.ok()?;
    }
}

/// The same with events.
async fn listen(mut socket: WebSocketStream<TcpStream>, says: &Says) -> Option<()> {
    let (queue, mut events) = mpsc::channel(EVENTS_MAX);
    says.all
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(queue);
    loop {
        tokio::select! {
            biased;
            event = events.recv() => {
                socket.send(Message::Text(event?)).await.ok()?;
            }
            message = socket.next() => match message?.ok()? {
                Message::Text(_) => {
                    says.broadcast();
                    socket.send(Message::Text(says.answer.clone())).await.ok()?;
                }
                Message::Close(_) => {
                    socket.flush().await.ok()?;
                    return Some(());
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

async fn welcome(socket: &mut WebSocketStream<TcpStream>) -> Option<()> {
    let nonce = nonce();
    let challenge = format!(
        r#"{{"type":"event","event":"connect.challenge","payload":{{"nonce":"{nonce}","ts":0}}}}"#
    );
    socket.send(Message::Text(challenge.into())).await.ok()?;
    let Message::Text(text) = socket.next().await?.ok()? else {
        return None;
    };
    let connect: Connect<'_> = serde_json::from_str(text.as_str()).ok()?;
    verify(&connect.params, &nonce)?;
    let hello = r#"{"type":"res","id":"c","ok":true,"payload":{"type":"hello-ok","protocol":4}}"#;
    socket
        .send(Message::Text(Utf8Bytes::from_static(hello)))
        .await
        .ok()
}

fn verify(params: &Params<'_>, nonce: &str) -> Option<()> {
    let device = &params.device;
    let text = ProofText {
        device_id: device.id,
        client_id: params.client.id,
        client_mode: params.client.mode,
        role: "operator",
        scopes: &params.scopes.join(","),
        signed_at_ms: device.signed_at,
        token: params.auth.token,
        nonce,
        platform: params.client.platform,
        device_family: "",
    };
    let key: [u8; 32] = URL_SAFE_NO_PAD
        .decode(device.public_key)
        .ok()?
        .try_into()
        .ok()?;
    let signature: [u8; 64] = URL_SAFE_NO_PAD
        .decode(device.signature)
        .ok()?
        .try_into()
        .ok()?;
    VerifyingKey::from_bytes(&key)
        .ok()?
        .verify_strict(text.v3().as_bytes(), &Signature::from_bytes(&signature))
        .ok()
}

/// Different each time; a floor need not be hard to guess.
fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:036}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_wanted_size() {
        assert_eq!(filled(ANSWERED, 1_000).len(), 1_000);
        assert!(filled(ANSWERED, 0).starts_with(ANSWERED));
        assert!(serde_json::from_str::<serde_json::Value>(&filled(EVENT, 99)).is_ok());
    }
}
