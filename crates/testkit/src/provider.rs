//! A provider of models that says what a test tells it to, over real HTTP, in the protocol of each
//! provider.
//!
//! ```no_run
//! use clawgate_testkit::provider::{Dialect, Provider, Say};
//! let chat = Dialect::Chat;
//! let provider = Provider::start(vec![
//!     chat.calls(&[("c1", "exec", serde_json::json!({"command": "true"}))]),
//!     chat.text(&["All ", "done"]),
//!     Say::refused(529, "overloaded"), // the last one is said over and over
//! ]);
//! let config = serde_json::json!({
//!     "models": {"providers": {"scripted": provider.config(chat)}},
//!     "agents": {"defaults": {"model": "scripted/some-model"}},
//! });
//! ```

mod dialect;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub use dialect::Dialect;

use crate::PATIENCE;

/// The key that [`Provider::config`] configures.
pub const KEY: &str = "sk-test-4711-secret";
/// The model that [`Provider::config`] describes.
pub const MODEL: &str = "some-model";

/// Something that a test opens when it wants an answer to go on.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A closed one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everything that waits go on.
    pub fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Clone, Debug)]
enum Piece {
    /// Sent as it is, in one write of its own.
    Text(String),
    /// Sent until so many bytes are out.
    Over(String, usize),
    /// Waited for.
    Hold(Gate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As HTTP says.
    Whole,
    /// The connection breaks off in the middle of the transfer.
    Cut,
    /// Nothing more comes.
    Stall,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Say {
    /// 0 for not even a head.
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Piece>,
    end: End,
}

impl Say {
    /// An answer with a JSON body.
    #[must_use]
    pub fn whole(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            pieces: vec![Piece::Text(body.to_owned())],
            end: End::Whole,
        }
    }

    /// A refusal, in the shape that providers use.
    #[must_use]
    pub fn refused(status: u16, words: &str) -> Self {
        let body = json!({"error": {"message": words, "type": "error"}});
        Self::whole(status, &body.to_string())
    }

    /// An event stream of these blocks, each sent by itself.
    #[must_use]
    pub fn stream<T: Into<String>>(blocks: impl IntoIterator<Item = T>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())],
            pieces: blocks
                .into_iter()
                .map(|block| Piece::Text(block.into()))
                .collect(),
            end: End::Whole,
        }
    }

    /// Nothing at all, for ever.
    #[must_use]
    pub fn silence() -> Self {
        Self {
            status: 0,
            end: End::Stall,
            ..Self::stream([""; 0])
        }
    }

    /// With a further header, or another value of one.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only the first so many blocks.
    #[must_use]
    pub fn first(mut self, blocks: usize) -> Self {
        self.pieces.truncate(blocks);
        self
    }

    /// How many blocks it has.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.pieces.len()
    }

    /// One more block.
    #[must_use]
    pub fn then(mut self, block: &str) -> Self {
        self.pieces.push(Piece::Text(block.to_owned()));
        self
    }

    /// Then one block over and over until so many bytes are out.
    #[must_use]
    pub fn then_over(mut self, block: &str, bytes: usize) -> Self {
        self.pieces.push(Piece::Over(block.to_owned(), bytes));
        self
    }

    /// Waits for the gate after so many blocks; after none, with the head sent.
    #[must_use]
    pub fn held_after(mut self, blocks: usize, gate: &Gate) -> Self {
        self.pieces.insert(blocks, Piece::Hold(gate.clone()));
        self
    }

    /// The connection breaks off after the last block.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.end = End::Cut;
        self
    }

    /// Nothing more comes after the last block, and the connection stays.
    #[must_use]
    pub fn stalled(mut self) -> Self {
        self.end = End::Stall;
        self
    }
}

/// What the provider was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and target: `POST /v1/chat/completions`.
    pub line: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null when it is none.
    pub body: Value,
}

impl Asked {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

type Decide = dyn Fn(usize, &Asked) -> Say + Send + Sync;

#[derive(Debug, Default)]
struct Seen {
    asked: Vec<Asked>,
    /// Connections that began.
    came: usize,
    /// Connections that ended.
    left: usize,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Book {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Book {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no test panics while it looks")
    }
}

/// A provider on a port of its own.
#[derive(Debug)]
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    book: Arc<Book>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Ok(mut seen) = self.book.seen.lock() {
            seen.stopped = true;
        }
        // The one that accepts looks up.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Provider {
    /// Says these, one for each request, in order; the last one over and over.
    #[must_use]
    pub fn start(script: Vec<Say>) -> Self {
        assert!(!script.is_empty(), "a provider says something");
        Self::deciding(move |number, _| script[number.min(script.len() - 1)].clone())
    }

    /// Says what the last message asks for, in OpenAI's chat completions: `tests/provider.mjs` says
    /// the same to programs of others.
    #[must_use]
    pub fn conversing() -> Self {
        let chat = Dialect::Chat;
        let usual = chat.text(&["Hello", " from", " the", " scripted", " model."]);
        Self::deciding(move |_, asked| {
            let messages = asked.body["messages"].as_array();
            let last = messages.and_then(|messages| messages.last());
            let last = last.unwrap_or(&Value::Null);
            if last["role"] != "user" {
                return usual.clone();
            }
            let said = last["content"].to_string();
            if said.contains("USE_TOOL") {
                let command = json!({"command": "echo tool-ran"});
                chat.answer(&["Let me look."], &[("call_1", "exec", command)])
            } else if said.contains("SLOW") {
                let words = chat.text(&["word0", " word1", " word2"]);
                words.first(4).stalled()
            } else if said.contains("REFUSED") {
                Say::refused(400, "the provider refuses this")
            } else {
                usual.clone()
            }
        })
    }

    /// Says what is decided for each request: its number, from 0, and what it was.
    #[must_use]
    pub fn deciding(decide: impl Fn(usize, &Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let book = Arc::new(Book::default());
        let (own, decide): (_, Arc<Decide>) = (Arc::clone(&book), Arc::new(decide));
        thread::spawn(move || {
            for socket in listener.incoming() {
                if own.seen().stopped {
                    return;
                }
                let Ok(socket) = socket else { continue };
                own.seen().came += 1;
                let (book, decide) = (Arc::clone(&own), Arc::clone(&decide));
                thread::spawn(move || {
                    serve(socket, &book, decide.as_ref());
                    book.seen().left += 1;
                    book.changed.notify_all();
                });
            }
        });
        Self { address, book }
    }

    /// Its address as a `baseUrl`.
    #[must_use]
    pub fn url(&self, dialect: Dialect) -> String {
        format!("http://{}{}", self.address, dialect.base_path())
    }

    /// What `models.providers.<id>` says to use it: the model [`MODEL`], with prices, the key [`KEY`].
    #[must_use]
    pub fn config(&self, dialect: Dialect) -> Value {
        json!({
            "baseUrl": self.url(dialect), "apiKey": KEY, "api": dialect.api(),
            "models": [{
                "id": MODEL, "name": "Some Model", "contextWindow": 32_000, "maxTokens": 1_024,
                "reasoning": false, "input": ["text", "image"],
                "cost": {"input": 1.0, "output": 2.0, "cacheRead": 0.5, "cacheWrite": 1.25},
            }],
        })
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.book.seen().asked.clone()
    }

    /// How many connections it had so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.book.seen().came
    }

    /// Waits until it was asked so often, and says what.
    #[must_use]
    pub fn wait_asked(&self, times: usize) -> Vec<Asked> {
        self.wait("requests", |seen| seen.asked.len() >= times);
        self.asked()
    }

    /// Waits until so many connections have ended.
    pub fn wait_left(&self, connections: usize) {
        self.wait("ended connections", |seen| seen.left >= connections);
    }

    fn wait(&self, what: &str, done: impl Fn(&Seen) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.book.seen();
        while !done(&seen) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no more {what}: {} asked, {} left",
                seen.asked.len(),
                seen.left
            );
            seen = self
                .book
                .changed
                .wait_timeout(seen, left)
                .expect("no test panics while it looks")
                .0;
        }
    }
}

fn serve(mut socket: TcpStream, book: &Book, decide: &Decide) {
    let _ = socket.set_nodelay(true);
    let mut rest = Vec::new();
    while let Some(asked) = read_request(&mut socket, &mut rest) {
        let number = {
            let mut seen = book.seen();
            seen.asked.push(asked.clone());
            seen.asked.len() - 1
        };
        book.changed.notify_all();
        if answer(&mut socket, &decide(number, &asked)).is_none() {
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// `None` when the connection is over.
fn answer(socket: &mut TcpStream, say: &Say) -> Option<()> {
    if say.status != 0 {
        let mut head = format!("HTTP/1.1 {} Said\r\n", say.status);
        for (name, value) in &say.headers {
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        socket.write_all(head.as_bytes()).ok()?;
    }
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    for piece in &say.pieces {
        match piece {
            Piece::Text(text) if text.is_empty() => {}
            Piece::Text(text) => socket.write_all(chunk(text).as_bytes()).ok()?,
            Piece::Over(block, bytes) => {
                let text = chunk(block);
                for _ in 0..bytes.div_ceil(block.len()) {
                    socket.write_all(text.as_bytes()).ok()?;
                }
            }
            Piece::Hold(gate) => still(socket, || gate.0.load(Ordering::SeqCst))?,
        }
    }
    match say.end {
        End::Whole => socket.write_all(b"0\r\n\r\n").ok(),
        End::Cut => None,
        End::Stall => still(socket, || false),
    }
}

/// Waits until it may go on; `None` when the peer went first.
fn still(socket: &mut TcpStream, may_go_on: impl Fn() -> bool) -> Option<()> {
    socket
        .set_read_timeout(Some(Duration::from_millis(5)))
        .ok()?;
    let mut byte = [0_u8; 1];
    while !may_go_on() {
        match socket.peek(&mut byte) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return None,
        }
    }
    socket.set_read_timeout(None).ok()
}

fn read_request(socket: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Asked> {
    let mut part = [0_u8; 16_384];
    let mut bytes = std::mem::take(rest);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match socket.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default();
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        match socket.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(read) => body.extend_from_slice(&part[..read]),
        }
    }
    *rest = body.split_off(length);
    let text = String::from_utf8_lossy(&body).into_owned();
    Some(Asked {
        line,
        headers,
        body: serde_json::from_str(&text).unwrap_or_default(),
        text,
    })
}
