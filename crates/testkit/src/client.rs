//! A peer: opens, reads the challenge, connects, calls, listens.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    PATIENCE,
    connect::Connect,
    http::{HttpAnswer, Upgrade},
    socket::{Close, Message, Socket},
};

/// An error as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct WireError {
    /// The whole `error` member.
    pub raw: Value,
    /// First-level code.
    pub code: String,
    /// Message.
    pub message: String,
}

impl WireError {
    /// Takes apart the `error` member of a response.
    pub fn of(raw: &Value) -> Self {
        let text = |key: &str| {
            let found = raw[key].as_str();
            found
                .unwrap_or_else(|| panic!("an error has a {key}: {raw}"))
                .to_owned()
        };
        Self {
            code: text("code"),
            message: text("message"),
            raw: raw.clone(),
        }
    }

    /// A member of `details`; null if it is not there.
    pub fn detail(&self, key: &str) -> &Value {
        &self.raw["details"][key]
    }

    /// `details.code`.
    pub fn detail_code(&self) -> &str {
        self.detail("code").as_str().unwrap_or_default()
    }
}

/// A connect that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The response, if one came before the close.
    pub error: Option<Box<WireError>>,
    /// The close.
    pub close: Close,
}

impl Refusal {
    /// `details.code` of the response.
    pub fn code(&self) -> &str {
        self.error.as_ref().map_or("", |error| error.detail_code())
    }
}

/// A connect that was granted.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The payload of the response.
    pub raw: Value,
}

impl Hello {
    /// `auth.scopes`.
    pub fn scopes(&self) -> Vec<String> {
        texts(&self.raw["auth"]["scopes"])
    }

    /// What the session may do: `auth.sessionScopes`, where there is one, else `auth.scopes`.
    pub fn session_scopes(&self) -> Vec<String> {
        let own = &self.raw["auth"]["sessionScopes"];
        if own.is_null() {
            self.scopes()
        } else {
            texts(own)
        }
    }

    /// The device token that was handed out.
    pub fn device_token(&self) -> Option<&str> {
        self.raw["auth"]["deviceToken"].as_str()
    }

    /// Names of the scopes that `auth.missing` lists.
    pub fn missing(&self) -> Vec<String> {
        let list = self.raw["auth"]["missing"].as_array();
        list.into_iter()
            .flatten()
            .map(|one| {
                one["scope"]
                    .as_str()
                    .expect("missing names scopes")
                    .to_owned()
            })
            .collect()
    }

    /// `features.methods`.
    pub fn methods(&self) -> Vec<String> {
        texts(&self.raw["features"]["methods"])
    }
}

fn texts(list: &Value) -> Vec<String> {
    let list = list
        .as_array()
        .unwrap_or_else(|| panic!("a list was expected, not {list}"));
    list.iter()
        .map(|text| text.as_str().expect("a list of texts").to_owned())
        .collect()
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Answered.
    Ok(Value),
    /// Refused.
    Error(WireError),
    /// The socket ended first.
    Closed(Close),
}

fn answered(frame: &Value) -> Call {
    if frame["ok"] == true {
        return Call::Ok(frame["payload"].clone());
    }
    Call::Error(WireError::of(&frame["error"]))
}

/// A socket that read its challenge.
#[derive(Debug)]
pub struct Client {
    /// The socket beneath.
    pub socket: Socket,
    /// The whole challenge frame.
    pub challenge: Value,
    stash: VecDeque<Value>,
    made: u64,
}

impl Client {
    /// Opens a socket in the ordinary way.
    pub fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &Upgrade::new())
            .unwrap_or_else(|answer| panic!("no upgrade: {answer:?}"))
    }

    /// Opens a socket with a request of one's own.
    ///
    /// # Errors
    /// The HTTP answer, if it is no upgrade.
    pub fn open_with(address: SocketAddr, upgrade: &Upgrade) -> Result<Self, HttpAnswer> {
        let (mut socket, _) = Socket::open(address, upgrade)?;
        let challenge = match socket.read() {
            Message::Text(text) => serde_json::from_str(&text).expect("a challenge is JSON"),
            other => panic!("a challenge was expected, not {other:?}"),
        };
        Ok(Self {
            socket,
            challenge,
            stash: VecDeque::new(),
            made: 0,
        })
    }

    /// The challenge's nonce.
    pub fn nonce(&self) -> &str {
        self.challenge["payload"]["nonce"]
            .as_str()
            .expect("a challenge has a nonce")
    }

    /// Connects.
    ///
    /// # Errors
    /// The refusal, with the close that followed it.
    pub fn connect(&mut self, connect: &Connect) -> Result<Hello, Refusal> {
        let ts = self.challenge["payload"]["ts"]
            .as_i64()
            .expect("a challenge has a time");
        let params = connect.params(self.nonce(), ts);
        self.connect_raw(&json!({
            "type": "req", "id": "connect", "method": "connect", "params": params,
        }))
    }

    /// Sends any frame as the first one.
    ///
    /// # Errors
    /// The refusal, with the close that followed it.
    pub fn connect_raw(&mut self, frame: &Value) -> Result<Hello, Refusal> {
        self.socket.send_text(&frame.to_string());
        match self.frame() {
            Ok(answer) if answer["ok"] == true => {
                let raw = answer["payload"].clone();
                assert_eq!(raw["type"], "hello-ok", "{raw}");
                Ok(Hello { raw })
            }
            Ok(answer) => Err(Refusal {
                error: Some(Box::new(WireError::of(&answer["error"]))),
                close: self.socket.closed(),
            }),
            Err(close) => Err(Refusal { error: None, close }),
        }
    }

    /// Sends a request and says under which id.
    pub fn send(&mut self, method: &str, params: &Value) -> String {
        self.made += 1;
        let id = format!("r{}", self.made);
        let request = json!({"type": "req", "id": id, "method": method, "params": params});
        self.socket.send_text(&request.to_string());
        id
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self, id: &str) -> Call {
        let found = self.find(|frame| frame["type"] == "res" && frame["id"] == id);
        match found {
            Err(close) => Call::Closed(close),
            Ok(answer) => answered(&answer),
        }
    }

    /// Calls a method.
    pub fn try_call(&mut self, method: &str, params: &Value) -> Call {
        let id = self.send(method, params);
        self.answer(&id)
    }

    /// Calls a method that must be answered.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        match self.try_call(method, params) {
            Call::Ok(payload) => payload,
            other => panic!("{method} was expected to succeed: {other:?}"),
        }
    }

    /// Calls a method that must be refused.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: &Value) -> WireError {
        match self.try_call(method, params) {
            Call::Error(error) => error,
            other => panic!("{method} was expected to be refused: {other:?}"),
        }
    }

    /// Sends any text and waits for the next response, whatever its id.
    #[track_caller]
    pub fn raw(&mut self, text: &str) -> Value {
        self.socket.send_text(text);
        self.response()
    }

    /// The next response, whatever its id.
    #[track_caller]
    pub fn response(&mut self) -> Value {
        self.find(|frame| frame["type"] == "res")
            .unwrap_or_else(|close| panic!("an answer was expected, not {close:?}"))
    }

    /// Waits for an event and gives its frame.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        self.find(|frame| frame["type"] == "event" && frame["event"] == name)
            .unwrap_or_else(|close| panic!("{name} was expected, not {close:?}"))
    }

    /// Waits longer than usual for an event.
    #[track_caller]
    pub fn event_within(&mut self, name: &str, wait: Duration) -> Value {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.socket.read_within(left) {
                Some(Message::Text(text)) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    if frame["event"] == name {
                        return frame;
                    }
                }
                Some(Message::Closed(close)) => panic!("{name} was expected, not {close:?}"),
                Some(_) => {}
                None => panic!("no {name} within {wait:?}"),
            }
        }
    }

    /// Waits for the answer to a request, and gives the events that came before it as well.
    #[track_caller]
    pub fn answer_after_events(&mut self, id: &str) -> (Vec<Value>, Call) {
        let mut events: Vec<Value> = self.stash.drain(..).collect();
        let call = loop {
            match self.frame() {
                Ok(frame) if frame["id"] == id => break answered(&frame),
                Ok(frame) => events.push(frame),
                Err(close) => break Call::Closed(close),
            }
        };
        events.retain(|frame| frame["type"] == "event");
        (events, call)
    }

    /// Events that arrived before the answer to a call that is made now, in order.
    #[track_caller]
    pub fn events_until_now(&mut self) -> Vec<Value> {
        let id = self.send("health", &json!({}));
        let (events, call) = self.answer_after_events(&id);
        assert!(matches!(call, Call::Ok(_)), "{call:?}");
        events
    }

    /// Names of the same.
    #[track_caller]
    pub fn event_names_until_now(&mut self) -> Vec<String> {
        let name = |frame: &Value| frame["event"].as_str().expect("an event's name").to_owned();
        self.events_until_now().iter().map(name).collect()
    }

    /// Reads until the end and says how it came.
    pub fn closed(&mut self) -> Close {
        self.socket.closed()
    }

    /// The next frame that is wanted; the others wait for their turn.
    fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, Close> {
        if let Some(at) = self.stash.iter().position(&wanted) {
            return Ok(self.stash.remove(at).expect("it was found there"));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frame = self.frame()?;
            if wanted(&frame) {
                return Ok(frame);
            }
            self.stash.push_back(frame);
            assert!(
                Instant::now() < deadline,
                "only other frames came: {:?}",
                self.stash
            );
        }
    }

    fn frame(&mut self) -> Result<Value, Close> {
        loop {
            match self.socket.read() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    assert!(
                        frame["type"] == "res" || frame["type"] == "event",
                        "neither response nor event: {frame}"
                    );
                    return Ok(frame);
                }
                Message::Closed(close) => return Err(close),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Binary(bytes) => panic!("a binary message came: {bytes:?}"),
            }
        }
    }
}
