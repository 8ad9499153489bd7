//! A gateway that says what a test's script has it say, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// One thing that it does when it is asked something.
pub(crate) enum Act {
    Answer(Value),
    Refuse(Value),
    Event(&'static str, Value),
    /// The connection ends without a goodbye.
    Drop,
}

/// What is done on a request: number of the connection, method, params.
type OnRequest = dyn Fn(usize, &str, &Value) -> Vec<Act> + Send + Sync;

pub(crate) struct Script {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Script {
    pub(crate) fn play(
        on_request: impl Fn(usize, &str, &Value) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&heard);
        let on_request: Arc<OnRequest> = Arc::new(on_request);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut number = 0;
                while let Ok((stream, _)) = listener.accept().await {
                    let (heard, act) = (Arc::clone(&shared), Arc::clone(&on_request));
                    tokio::spawn(serve(stream, number, heard, act));
                    number += 1;
                }
            });
        });
        Self { address, heard }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Params of every request of a method.
    pub(crate) fn asked(&self, method: &str) -> Vec<Value> {
        let heard = self.heard.lock().unwrap();
        heard
            .iter()
            .filter(|(name, _)| name == method)
            .map(|(_, params)| params.clone())
            .collect()
    }
}

fn hello() -> Value {
    json!({
        "type": "hello-ok", "protocol": 4,
        "server": {"version": "0.0.0-test", "connId": "c"},
        "features": {"methods": ["agent", "agent.wait", "chat.send", "chat.abort", "chat.history"], "events": []},
        "snapshot": {"sessionDefaults": {"defaultAgentId": "main", "mainSessionKey": "agent:main:main"}},
        "auth": {"role": "operator", "scopes": ["operator.admin", "operator.read", "operator.write",
            "operator.approvals", "operator.pairing"]},
        "policy": {"tickIntervalMs": 30000},
    })
}

async fn serve(
    stream: TcpStream,
    number: usize,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
    on_request: Arc<OnRequest>,
) {
    let Ok(mut socket) = accept_async(stream).await else {
        return;
    };
    let challenge = json!({"type": "event", "event": "connect.challenge",
        "payload": {"nonce": "4b0f5b0e-6a52-4f0a-9a4e-000000000001", "ts": 1_767_225_600_000_u64}});
    if socket
        .send(Message::text(challenge.to_string()))
        .await
        .is_err()
    {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        let Ok(request) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default())
        else {
            continue;
        };
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        let params = &request["params"];
        heard.lock().unwrap().push((method.clone(), params.clone()));
        let acts = if method == "connect" {
            vec![Act::Answer(hello())]
        } else {
            on_request(number, &method, params)
        };
        for act in acts {
            let frame = match act {
                Act::Answer(payload) => {
                    json!({"type": "res", "id": request["id"], "ok": true, "payload": payload})
                }
                Act::Refuse(error) => {
                    json!({"type": "res", "id": request["id"], "ok": false, "error": error})
                }
                Act::Event(event, payload) => {
                    json!({"type": "event", "event": event, "payload": payload})
                }
                Act::Drop => return,
            };
            if socket.send(Message::text(frame.to_string())).await.is_err() {
                return;
            }
        }
    }
}
