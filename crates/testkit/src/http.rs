//! HTTP by hand: plain requests, and upgrade requests that may break every rule.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketType};

use crate::PATIENCE;

/// Connects, with deadlines on both directions.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the gateway listens");
    with_deadlines(stream)
}

/// Connects from an address of this machine that is chosen: all of 127.0.0.0/8 are.
pub fn dial_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket: OwnedFd = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
        .expect("a descriptor is left");
    rustix::net::bind(&socket, &SocketAddr::new(IpAddr::from(source), 0))
        .expect("the address is this machine's");
    rustix::net::connect(&socket, &address).expect("the gateway listens");
    with_deadlines(socket.into())
}

fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a deadline can be set");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a deadline can be set");
    stream.set_nodelay(true).expect("the socket takes options");
    stream
}

/// An upgrade request; a good one unless changed.
#[derive(Clone, Debug)]
pub struct Upgrade {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    without: Vec<String>,
    source: Option<[u8; 4]>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: Vec::new(),
            without: Vec::new(),
            source: None,
        }
    }
}

impl Upgrade {
    /// A good request.
    pub fn new() -> Self {
        Self::default()
    }

    /// To another path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// With another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// With a header, in place of the default one of that name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.without.push(name.to_ascii_lowercase());
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a default header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.without.push(name.to_ascii_lowercase());
        self
    }

    /// From this address of this machine.
    #[must_use]
    pub fn from(mut self, source: [u8; 4]) -> Self {
        self.source = Some(source);
        self
    }

    pub(crate) fn dial(&self, address: SocketAddr) -> TcpStream {
        match self.source {
            Some(source) => dial_from(source, address),
            None => dial(address),
        }
    }

    /// What is sent.
    pub fn text(&self, address: SocketAddr) -> String {
        let host = address.to_string();
        let defaults = [
            ("Host", host.as_str()),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let kept = defaults
            .into_iter()
            .filter(|(name, _)| !self.without.contains(&name.to_ascii_lowercase()));
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in kept.chain(own) {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text
    }
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, as far as it was read.
    pub body: String,
}

impl HttpAnswer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads the head; what was read beyond it is given back.
    pub(crate) fn read(stream: &mut TcpStream) -> (Self, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut chunk = [0_u8; 4096];
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            match stream.read(&mut chunk) {
                Ok(read) if read > 0 => bytes.extend(&chunk[..read]),
                other => panic!(
                    "no HTTP answer ({other:?}), only {:?}",
                    String::from_utf8_lossy(&bytes)
                ),
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not an HTTP answer: {head}"));
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let answer = Self {
            status,
            headers,
            body: String::new(),
        };
        (answer, bytes.split_off(end + 4))
    }

    /// Reads the body that `Content-Length` announces.
    pub(crate) fn with_body(mut self, stream: &mut TcpStream, mut read: Vec<u8>) -> Self {
        let length: usize = self
            .header("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let mut chunk = [0_u8; 4096];
        while read.len() < length {
            match stream.read(&mut chunk) {
                Ok(more) if more > 0 => read.extend(&chunk[..more]),
                _ => break,
            }
        }
        self.body = String::from_utf8_lossy(&read).into_owned();
        self
    }
}

/// One plain request on its own connection.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> HttpAnswer {
    exchange(address, method, path, headers, None)
}

/// One POST on its own connection, with the length of its body.
pub fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
    exchange(address, "POST", path, headers, Some(body))
}

fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> HttpAnswer {
    let mut stream = dial(address);
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    let is_host = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("host");
    if !headers.iter().any(is_host) {
        text.push_str("Host: ");
        text.push_str(&address.to_string());
        text.push_str("\r\n");
    }
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    if let Some(body) = body {
        text.push_str("Content-Length: ");
        text.push_str(&body.len().to_string());
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    // A gateway that refuses before it has read everything may close meanwhile.
    let _ = stream.write_all(text.as_bytes());
    let (answer, rest) = HttpAnswer::read(&mut stream);
    if method == "HEAD" {
        // Whatever follows would be a body that must not be there.
        let mut body = rest;
        let _ = stream.read_to_end(&mut body);
        return HttpAnswer {
            body: String::from_utf8_lossy(&body).into_owned(),
            ..answer
        };
    }
    answer.with_body(&mut stream, rest)
}
