//! A WebSocket by hand: whatever bytes a test wants to send, and the server's frames back.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    PATIENCE,
    http::{HttpAnswer, Upgrade},
};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Kind of a frame, or any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation,
    /// Text.
    Text,
    /// Bytes.
    Binary,
    /// Close.
    Close,
    /// Ping.
    Ping,
    /// Pong.
    Pong,
    /// One that does not exist.
    Other(u8),
}

impl Opcode {
    fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => Self::Other(other),
        }
    }
}

/// A frame as a client sends it. Every rule can be broken.
#[derive(Clone, Debug)]
pub struct Frame {
    opcode: Opcode,
    last: bool,
    reserved: u8,
    masked: bool,
    announced: Option<u64>,
    payload: Vec<u8>,
}

impl Frame {
    /// A good frame.
    pub fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            opcode,
            last: true,
            reserved: 0,
            masked: true,
            announced: None,
            payload: payload.into(),
        }
    }

    /// More fragments follow.
    #[must_use]
    pub fn more(mut self) -> Self {
        self.last = false;
        self
    }

    /// Without the mask that a client must use.
    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.masked = false;
        self
    }

    /// With reserved bits set (1 to 7).
    #[must_use]
    pub fn reserved(mut self, bits: u8) -> Self {
        self.reserved = bits;
        self
    }

    /// Says another length than it has.
    #[must_use]
    pub fn announcing(mut self, bytes: u64) -> Self {
        self.announced = Some(bytes);
        self
    }

    /// What goes onto the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 14);
        let last = if self.last { 0x80 } else { 0 };
        bytes.push(last | (self.reserved << 4) | self.opcode.number());
        let mask = if self.masked { 0x80 } else { 0 };
        let length = self.announced.unwrap_or(self.payload.len() as u64);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length), _) if length < 126 => bytes.push(mask | length),
            (_, Ok(length)) => {
                bytes.push(mask | 126);
                bytes.extend(length.to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
            let masked = self
                .payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(b, m)| b ^ m);
            bytes.extend(masked);
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Close code; 1005 for a close frame without one, 1006 for an end without a close frame.
    pub code: u16,
    /// Close reason.
    pub reason: String,
}

impl Close {
    /// For comparisons.
    pub fn new(code: u16, reason: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
        }
    }
}

/// What the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The end.
    Closed(Close),
}

/// A client's end of an upgraded stream.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    closed: Option<Close>,
}

impl Socket {
    /// Asks for an upgrade.
    ///
    /// # Errors
    /// The HTTP answer, if it is not 101.
    pub fn open(address: SocketAddr, upgrade: &Upgrade) -> Result<(Self, HttpAnswer), HttpAnswer> {
        let mut stream = upgrade.dial(address);
        stream
            .write_all(upgrade.text(address).as_bytes())
            .expect("the request can be written");
        let (answer, rest) = HttpAnswer::read(&mut stream);
        if answer.status != 101 {
            return Err(answer.with_body(&mut stream, rest));
        }
        let socket = Self {
            stream,
            buffer: rest,
            closed: None,
        };
        Ok((socket, answer))
    }

    /// Sends bytes as they are. The server may have closed already; what it said about that is
    /// to be read.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Frame) {
        let _ = self.send_bytes(&frame.bytes());
    }

    /// Sends a text message.
    pub fn send_text(&mut self, text: &str) {
        self.send(&Frame::new(Opcode::Text, text));
    }

    /// Ends the sending side of the TCP connection.
    pub fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// A second handle for a writer thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor is left")
    }

    /// The next message, within [`PATIENCE`].
    pub fn read(&mut self) -> Message {
        self.read_within(PATIENCE)
            .expect("the gateway says something in time")
    }

    /// The next message, or nothing when the time is over.
    pub fn read_within(&mut self, wait: Duration) -> Option<Message> {
        if let Some(close) = &self.closed {
            return Some(Message::Closed(close.clone()));
        }
        let deadline = Instant::now() + wait;
        let mut message: Option<(Opcode, Vec<u8>)> = None;
        loop {
            let (last, opcode, payload) = match self.frame(deadline) {
                Ok(frame) => frame,
                Err(error) if is_timeout(&error) => return None,
                Err(_) => return Some(self.ended(Close::new(1006, ""))),
            };
            let whole = match opcode {
                Opcode::Close => {
                    let code = match payload.get(..2) {
                        Some(code) => u16::from_be_bytes([code[0], code[1]]),
                        None => 1005,
                    };
                    let reason = payload.get(2..).unwrap_or_default();
                    let reason = std::str::from_utf8(reason).expect("a close reason is UTF-8");
                    return Some(self.ended(Close::new(code, reason)));
                }
                Opcode::Ping => return Some(Message::Ping(payload)),
                Opcode::Pong => return Some(Message::Pong(payload)),
                Opcode::Continuation => {
                    let (kind, mut sofar) = message.take().expect("a fragment has a beginning");
                    sofar.extend(payload);
                    (kind, sofar)
                }
                Opcode::Text | Opcode::Binary => (opcode, payload),
                Opcode::Other(number) => panic!("the gateway sent opcode {number}"),
            };
            if !last {
                message = Some(whole);
                continue;
            }
            return Some(match whole.0 {
                Opcode::Text => {
                    Message::Text(String::from_utf8(whole.1).expect("a text message is UTF-8"))
                }
                _ => Message::Binary(whole.1),
            });
        }
    }

    /// Reads until the end and says how it came.
    pub fn closed(&mut self) -> Close {
        loop {
            if let Message::Closed(close) = self.read() {
                return close;
            }
        }
    }

    fn ended(&mut self, close: Close) -> Message {
        self.closed = Some(close.clone());
        Message::Closed(close)
    }

    fn frame(&mut self, deadline: Instant) -> io::Result<(bool, Opcode, Vec<u8>)> {
        self.fill(2, deadline)?;
        let (first, second) = (self.buffer[0], self.buffer[1]);
        assert_eq!(second & 0x80, 0, "a server does not mask");
        assert_eq!(first & 0x70, 0, "no extension was negotiated");
        let (start, length) = match second & 0x7f {
            126 => {
                self.fill(4, deadline)?;
                (
                    4,
                    u64::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])),
                )
            }
            127 => {
                self.fill(10, deadline)?;
                let bytes: [u8; 8] = self.buffer[2..10].try_into().expect("eight bytes");
                (10, u64::from_be_bytes(bytes))
            }
            length => (2, u64::from(length)),
        };
        let end = start + usize::try_from(length).expect("it fits into memory");
        self.fill(end, deadline)?;
        let payload = self.buffer[start..end].to_vec();
        self.buffer.drain(..end);
        Ok((first & 0x80 != 0, Opcode::of(first & 0x0f), payload))
    }

    /// Reads until so many bytes are there; what was read stays when the time is over.
    fn fill(&mut self, bytes: usize, deadline: Instant) -> io::Result<()> {
        let mut chunk = [0_u8; 16 * 1024];
        while self.buffer.len() < bytes {
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.buffer.extend(&chunk[..read]),
            }
            if left.is_zero() && self.buffer.len() < bytes {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
