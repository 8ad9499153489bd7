//! A provider that says what a test tells it to, over real HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// One answer of the provider.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// A whole answer: status, further headers, body.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// An event stream of these blocks, ended properly.
    Stream(Vec<String>),
    /// The same, and the connection breaks off in the middle of the transfer.
    CutStream(Vec<String>),
    /// The same, and then nothing more comes.
    Stall(Vec<String>),
    /// So many mebibytes of one and the same block.
    Endless(String, usize),
    /// Nothing at all.
    Silence,
}

/// What it was asked: the head and the body.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    gone: Mutex<mpsc::UnboundedReceiver<()>>,
}

impl Provider {
    /// Serves these answers, one each, in order; the last one over and over.
    pub(crate) async fn start(script: Vec<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (left, gone) = mpsc::unbounded_channel();
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    return;
                };
                let (script, seen, left) = (script.clone(), Arc::clone(&seen), left.clone());
                tokio::spawn(async move {
                    serve(socket, &script, &seen).await;
                    let _ = left.send(());
                });
            }
        });
        Self {
            address,
            asked,
            gone: Mutex::new(gone),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until a connection has ended.
    #[expect(clippy::await_holding_lock, reason = "one test waits, nobody else")]
    pub(crate) async fn sees_a_peer_go(&self) {
        let mut gone = self.gone.lock().unwrap();
        tokio::time::timeout(Duration::from_secs(10), gone.recv())
            .await
            .expect("the connection ends")
            .expect("the provider runs");
    }
}

async fn serve(mut socket: TcpStream, script: &[Say], seen: &Mutex<Vec<Asked>>) {
    while let Some(asked) = read_request(&mut socket).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(asked);
            seen.len() - 1
        };
        let say = &script[number.min(script.len() - 1)];
        if !answer(&mut socket, say).await {
            return;
        }
    }
}

/// Whether the connection goes on.
async fn answer(socket: &mut TcpStream, say: &Say) -> bool {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    match say {
        Say::Whole(status, headers, body) => {
            let mut text = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("\r\n");
            text.push_str(body);
            socket.write_all(text.as_bytes()).await.is_ok()
        }
        Say::Stream(blocks) => {
            let mut text = head.to_owned();
            for block in blocks {
                text.push_str(&chunk(block));
            }
            text.push_str("0\r\n\r\n");
            socket.write_all(text.as_bytes()).await.is_ok()
        }
        Say::CutStream(blocks) => {
            let mut text = head.to_owned();
            for block in blocks {
                text.push_str(&chunk(block));
            }
            let _ = socket.write_all(text.as_bytes()).await;
            false
        }
        Say::Stall(blocks) => {
            let mut text = head.to_owned();
            for block in blocks {
                text.push_str(&chunk(block));
            }
            let _ = socket.write_all(text.as_bytes()).await;
            until_it_goes(socket).await;
            false
        }
        Say::Endless(block, mebibytes) => {
            let _ = socket.write_all(head.as_bytes()).await;
            let block = chunk(block);
            let mut left = *mebibytes << 20;
            while left > 0 {
                if socket.write_all(block.as_bytes()).await.is_err() {
                    return false;
                }
                left = left.saturating_sub(block.len());
            }
            false
        }
        Say::Silence => {
            until_it_goes(socket).await;
            false
        }
    }
}

fn chunk(block: &str) -> String {
    format!("{:x}\r\n{block}\r\n", block.len())
}

async fn until_it_goes(socket: &mut TcpStream) {
    let mut rest = [0_u8; 1024];
    while let Ok(read) = socket.read(&mut rest).await {
        if read == 0 {
            return;
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut part = [0_u8; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match socket.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        })
        .unwrap_or(0);
    while bytes.len() < end + length {
        match socket.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
    Some(Asked {
        head,
        body: String::from_utf8_lossy(&bytes[end..end + length]).into_owned(),
    })
}
