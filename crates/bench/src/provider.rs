//! A provider of models that answers at once: what a turn takes beside it is the gateway's.
//!
//! It speaks OpenAI's chat completions, streamed, over kept connections, and does as little as it
//! can: a request is read to its last byte and not looked at, but for the name of its model.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::error::{BenchError, Doing as _};

/// The model that answers at once.
pub(crate) const QUICK: &str = "quick";
/// The model that takes its time over each word.
pub(crate) const SLOW: &str = "slow";
/// Words of the slow model, and the time before each but the first.
const SLOW_WORDS: usize = 20;
const SLOW_STEP: Duration = Duration::from_millis(100);
/// Tokens that both are said to hold: a long conversation is cut and summed up in the run.
const WINDOW: u64 = 32_000;
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n";

/// A running provider. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Provider {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The newest request for the quick model, head and body.
    request: Mutex<Vec<u8>>,
    asked: AtomicUsize,
    now: AtomicUsize,
    at_most: AtomicUsize,
}

impl Provider {
    /// Listens on a port of loopback.
    pub(crate) async fn start() -> Result<Self, BenchError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .doing("opening the provider's port")?;
        let address = listener.local_addr().doing("asking for a port")?;
        let seen = Arc::new(Seen::default());
        let of_all = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&of_all);
                // Whoever asks leaves when it has what it wants; that is no failure here.
                tokio::spawn(async move { drop(serve(stream, &seen).await) });
            }
        });
        Ok(Self {
            address,
            seen,
            accepting,
        })
    }

    /// What a configuration says to have turns asked here, `width` of them at a time.
    pub(crate) fn config(&self, width: usize) -> Value {
        let model = |id: &str| json!({"id": id, "contextWindow": WINDOW, "maxTokens": 1_000});
        json!({
            "models": {"providers": {"bench": {
                "baseUrl": format!("http://{}/v1", self.address),
                "api": "openai-completions",
                "apiKey": "a-key-for-benchmarks-only",
                "models": [model(QUICK), model(SLOW)],
            }}},
            "agents": {"defaults": {
                "model": {"primary": format!("bench/{QUICK}")},
                "maxConcurrent": width,
            }},
        })
    }

    /// Requests answered at the same time, at most so far.
    pub(crate) fn at_once(&self) -> usize {
        self.seen.at_most.load(Ordering::Relaxed)
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.seen.asked.load(Ordering::Relaxed)
    }

    /// Asks as the gateway asked last, without it, on one connection.
    pub(crate) async fn direct(&self) -> Result<Direct, BenchError> {
        let request = lock(&self.seen.request).clone();
        let stream = TcpStream::connect(self.address)
            .await
            .doing("connecting to the provider")?;
        stream.set_nodelay(true).doing("setting TCP_NODELAY")?;
        Ok(Direct { stream, request })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(request: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    request.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A kept connection to the provider, with a request that a gateway made.
#[derive(Debug)]
pub(crate) struct Direct {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Direct {
    /// Milliseconds to the first word. The answer is read to its end.
    pub(crate) async fn first_word_ms(&mut self) -> Result<f64, BenchError> {
        let began = Instant::now();
        self.stream
            .write_all(&self.request)
            .await
            .doing("asking the provider")?;
        let mut answer = Vec::new();
        let mut first = None;
        while !answer.ends_with(b"0\r\n\r\n") {
            let mut some = [0; 4_096];
            let bytes = self
                .stream
                .read(&mut some)
                .await
                .doing("reading the provider's answer")?;
            if bytes == 0 {
                return Err(BenchError::Unexpected(
                    "the provider hung up in its answer".to_owned(),
                ));
            }
            answer.extend_from_slice(&some[..bytes]);
            if first.is_none() && find(&answer, b"\"content\":\"").is_some() {
                first = Some(began.elapsed());
            }
        }
        let first =
            first.ok_or_else(|| BenchError::Unexpected("the provider said no word".to_owned()))?;
        Ok(first.as_secs_f64() * 1e3)
    }
}

/// Answers one connection's requests, one after the other.
async fn serve(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut unread = Vec::with_capacity(64 * 1_024);
    loop {
        let Some(request) = take(&mut unread) else {
            if stream.read_buf(&mut unread).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let is_slow = find(&request, b"\"model\":\"slow\"").is_some();
        if !is_slow {
            *lock(&seen.request) = request;
        }
        seen.asked.fetch_add(1, Ordering::Relaxed);
        let now = seen.now.fetch_add(1, Ordering::Relaxed) + 1;
        seen.at_most.fetch_max(now, Ordering::Relaxed);
        let answered = answer(&mut stream, is_slow).await;
        seen.now.fetch_sub(1, Ordering::Relaxed);
        answered?;
    }
}

/// The first whole request of what came in.
fn take(unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let head = find(unread, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&unread[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok())
        .unwrap_or_default();
    (unread.len() >= head + length).then(|| unread.drain(..head + length).collect())
}

async fn answer(stream: &mut TcpStream, is_slow: bool) -> std::io::Result<()> {
    let first = format!("{HEAD}{}", word("Well,"));
    stream.write_all(first.as_bytes()).await?;
    if is_slow {
        for _ in 1..SLOW_WORDS {
            tokio::time::sleep(SLOW_STEP).await;
            stream.write_all(word(" well,").as_bytes()).await?;
        }
    }
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {
        "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15,
    }});
    let rest = [
        word(" that is that."),
        block(&end.to_string()),
        block(&usage.to_string()),
        block("[DONE]"),
        "0\r\n\r\n".to_owned(),
    ];
    stream.write_all(rest.concat().as_bytes()).await
}

fn word(text: &str) -> String {
    block(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string())
}

/// One event of the stream, as a chunk of the transfer.
fn block(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|here| here == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_when_its_last_byte_is_there() {
        let mut unread = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab".to_vec();
        assert_eq!(take(&mut unread), None);
        unread.extend_from_slice(b"cPOST");
        assert!(take(&mut unread).unwrap().ends_with(b"\r\n\r\nabc"));
        assert_eq!(unread, b"POST");
    }

    #[tokio::test]
    async fn the_first_word_comes_before_the_end_and_the_connection_stays() {
        let provider = Provider::start().await.unwrap();
        *lock(&provider.seen.request) =
            b"POST / HTTP/1.1\r\ncontent-length: 17\r\n\r\n{\"model\":\"quick\"}".to_vec();
        let mut direct = provider.direct().await.unwrap();
        for _ in 0..2 {
            assert!(direct.first_word_ms().await.unwrap() > 0.0);
        }
        assert_eq!((provider.asked(), provider.at_once()), (2, 1));
    }
}
