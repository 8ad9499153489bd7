//! A small gateway on a real socket that does what a test's script says, and remembers what it heard.

#![expect(dead_code, reason = "each test binary uses its own part")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{
        Message,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

pub(crate) const NONCE: &str = "4b0f5b0e-6a52-4f0a-9a4e-000000000001";
pub(crate) const TS: u64 = 1_767_225_600_000;

/// What happens before `connect`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    Challenge,
    /// With clawgate's local proof announced.
    LocalProof,
    /// The socket opens and nothing comes.
    Silence,
    /// Something that is no frame.
    Garbage,
}

/// What happens on `connect`.
#[derive(Clone)]
pub(crate) enum Act {
    Hello(Value),
    Refuse {
        error: Value,
        code: u16,
        reason: &'static str,
    },
    Ignore,
    Close(u16, &'static str),
}

/// What happens on a request.
pub(crate) enum Reply {
    Payload(Value),
    Error(Value),
    /// `accepted` first, then this.
    Twice(Value),
    /// Only when the next request has been answered.
    Later(Value),
    Event(Value, Value),
    Huge(usize),
    Close(u16, &'static str),
    Nothing,
}

type OnConnect = dyn Fn(usize, &Value) -> Act + Send + Sync;
type OnRequest = dyn Fn(&str, &Value) -> Reply + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    connects: Vec<Value>,
    requests: Vec<(String, Value)>,
    ends: Vec<Option<u16>>,
}

impl Server {
    pub(crate) fn start(
        greeting: Greeting,
        on_connect: impl Fn(usize, &Value) -> Act + Send + Sync + 'static,
        on_request: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (on_connect, on_request): (Arc<OnConnect>, Arc<OnRequest>) =
            (Arc::new(on_connect), Arc::new(on_request));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&heard);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (heard, connect, request) = (
                        Arc::clone(&shared),
                        Arc::clone(&on_connect),
                        Arc::clone(&on_request),
                    );
                    tokio::spawn(async move {
                        serve(stream, greeting, heard, connect, request).await;
                    });
                }
            });
        });
        Self { address, heard }
    }

    /// A gateway that welcomes everybody with a hello and answers nothing.
    pub(crate) fn welcoming(hello: Value) -> Self {
        Self::start(
            Greeting::Challenge,
            move |_, _| Act::Hello(hello.clone()),
            |_, _| Reply::Nothing,
        )
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Params of every connect.
    pub(crate) fn connects(&self) -> Vec<Value> {
        self.heard.lock().unwrap().connects.clone()
    }

    /// The credentials of every connect, by name, sorted.
    pub(crate) fn offered(&self) -> Vec<Vec<String>> {
        let names = |connect: &Value| {
            let mut names: Vec<String> = connect["auth"]
                .as_object()
                .map(|auth| auth.keys().cloned().collect())
                .unwrap_or_default();
            names.sort();
            names
        };
        self.connects().iter().map(names).collect()
    }

    /// Every request after hello.
    pub(crate) fn requests(&self) -> Vec<(String, Value)> {
        self.heard.lock().unwrap().requests.clone()
    }

    /// How clients ended their connections: the close frame's code, 1005 for none.
    pub(crate) fn ends(&self) -> Vec<Option<u16>> {
        self.heard.lock().unwrap().ends.clone()
    }
}

pub(crate) fn hello_v4(scopes: &[&str]) -> Value {
    json!({
        "type": "hello-ok", "protocol": 4,
        "server": {"version": "0.0.0-test", "connId": "c"},
        "features": {"methods": ["health", "status", "system-presence", "config.get", "cron.add",
            "cron.status", "cron.list", "cron.run", "cron.remove", "cron.update", "tokens.create"], "events": []},
        "snapshot": {"uptimeMs": 1000},
        "auth": {"role": "operator", "scopes": scopes},
        "policy": {"tickIntervalMs": 30000},
    })
}

pub(crate) fn owner() -> Value {
    hello_v4(&[
        "operator.admin",
        "operator.read",
        "operator.write",
        "operator.approvals",
        "operator.pairing",
    ])
}

pub(crate) fn refusal(code: &str) -> Act {
    Act::Refuse {
        error: json!({"code": "INVALID_REQUEST", "message": "unauthorized: no", "details": {"code": code}}),
        code: 1008,
        reason: "unauthorized: no",
    }
}

async fn serve(
    stream: TcpStream,
    greeting: Greeting,
    heard: Arc<Mutex<Heard>>,
    on_connect: Arc<OnConnect>,
    on_request: Arc<OnRequest>,
) {
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let Ok(mut socket) = accept_async_with_config(stream, Some(config)).await else {
        return;
    };
    let challenge = |capabilities: Value| {
        let payload = json!({"nonce": NONCE, "ts": TS, "capabilities": capabilities});
        json!({"type": "event", "event": "connect.challenge", "payload": payload})
    };
    match greeting {
        Greeting::Challenge => {
            say(&mut socket, &challenge(json!(["model-catalog-snapshot"]))).await;
        }
        Greeting::LocalProof => say(&mut socket, &challenge(json!(["clawgate-local-proof"]))).await,
        Greeting::Silence => {}
        Greeting::Garbage => drop(socket.send(Message::text("<html>")).await),
    }
    let mut waiting: Option<(Value, Value)> = None;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Close(frame) = &message {
            let code = frame.as_ref().map(|frame| frame.code.into());
            heard.lock().unwrap().ends.push(code);
            continue;
        }
        let Ok(request) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default())
        else {
            continue;
        };
        let (id, method) = (
            request["id"].clone(),
            request["method"].as_str().unwrap_or_default(),
        );
        if method == "connect" {
            let number = {
                let mut heard = heard.lock().unwrap();
                heard.connects.push(request["params"].clone());
                heard.connects.len() - 1
            };
            match on_connect(number, &request["params"]) {
                Act::Hello(hello) => say(&mut socket, &answer(&id, &hello)).await,
                Act::Refuse {
                    error,
                    code,
                    reason,
                } => {
                    say(
                        &mut socket,
                        &json!({"type": "res", "id": id, "ok": false, "error": error}),
                    )
                    .await;
                    close(&mut socket, code, reason).await;
                }
                Act::Ignore => {}
                Act::Close(code, reason) => close(&mut socket, code, reason).await,
            }
            continue;
        }
        heard
            .lock()
            .unwrap()
            .requests
            .push((method.to_owned(), request["params"].clone()));
        match on_request(method, &request["params"]) {
            Reply::Payload(payload) => say(&mut socket, &answer(&id, &payload)).await,
            Reply::Error(error) => {
                say(
                    &mut socket,
                    &json!({"type": "res", "id": id, "ok": false, "error": error}),
                )
                .await;
            }
            Reply::Twice(payload) => {
                say(&mut socket, &answer(&id, &json!({"status": "accepted"}))).await;
                say(&mut socket, &answer(&id, &payload)).await;
            }
            Reply::Later(payload) => {
                waiting = Some((id, payload));
                continue;
            }
            Reply::Event(event, payload) => {
                say(&mut socket, &event).await;
                say(&mut socket, &answer(&id, &payload)).await;
            }
            Reply::Huge(bytes) => say(&mut socket, &answer(&id, &"x".repeat(bytes).into())).await,
            Reply::Close(code, reason) => close(&mut socket, code, reason).await,
            Reply::Nothing => {}
        }
        if let Some((id, payload)) = waiting.take() {
            say(&mut socket, &answer(&id, &payload)).await;
        }
    }
}

fn answer(id: &Value, payload: &Value) -> Value {
    json!({"type": "res", "id": id, "ok": true, "payload": payload})
}

async fn say(socket: &mut WebSocketStream<TcpStream>, frame: &Value) {
    drop(socket.send(Message::text(frame.to_string())).await);
}

async fn close(socket: &mut WebSocketStream<TcpStream>, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code: code.into(),
        reason: reason.into(),
    };
    drop(socket.close(Some(frame)).await);
}
