//! The client's end of a WebSocket with as little work as a client can do.
//!
//! A load generator that costs more than the server measures itself. So: frames are masked once
//! and sent many times, several frames go out in one write, and of an answer only the header and
//! the first bytes are looked at. There is no fragmentation, no compression, no UTF-8 check here;
//! whether a server keeps those rules is for tests to find out.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::error::{BenchError, Doing as _};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
/// Bytes that one read can take.
const READ_BYTES: usize = 64 * 1024;

/// The request by which an HTTP connection becomes a WebSocket.
pub fn upgrade(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// A text message as a client sends it, masked.
pub fn text_frame(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    out.push(0x80 | opcode);
    if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
        out.push(0x80 | short);
    } else if let Ok(middle) = u16::try_from(payload.len()) {
        out.push(0x80 | 126);
        out.extend_from_slice(&middle.to_be_bytes());
    } else {
        out.push(0x80 | 127);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

/// Where a server's frame begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    opcode: u8,
    header_bytes: usize,
    payload_bytes: usize,
}

impl Header {
    /// Reads an unmasked frame's header, once all of it is there.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (header_bytes, payload_bytes) = match second & 0x7f {
            126 => (
                4,
                usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            ),
            127 => {
                let long = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
                (10, usize::try_from(long).ok()?)
            }
            short => (2, usize::from(short)),
        };
        Some(Self {
            opcode: first & 0x0f,
            header_bytes,
            payload_bytes,
        })
    }
}

/// What came in and is not taken yet.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn take(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Makes room for one more read.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.end < READ_BYTES / 2 {
            self.bytes.resize(self.end + READ_BYTES, 0);
        }
        &mut self.bytes[self.end..]
    }
}

/// An upgraded socket.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Buffer,
    /// Bytes of the current frame's payload that are skipped unseen.
    skip: usize,
    /// The frame that is skipped is an answer, to be counted at its end.
    skips_answer: bool,
}

impl Wire {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// Nobody is there, or it is no WebSocket.
    pub async fn open(address: SocketAddr, upgrade: &[u8]) -> Result<Self, BenchError> {
        let mut stream = TcpStream::connect(address).await.doing("connecting")?;
        stream.set_nodelay(true).doing("setting TCP_NODELAY")?;
        stream
            .write_all(upgrade)
            .await
            .doing("sending the upgrade")?;
        let mut wire = Self {
            stream,
            buffer: Buffer {
                bytes: vec![0; 4 * 1024],
                start: 0,
                end: 0,
            },
            skip: 0,
            skips_answer: false,
        };
        loop {
            let head = wire.buffer.unread();
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                if !head.starts_with(b"HTTP/1.1 101") {
                    return Err(unexpected("the upgrade was answered with", head));
                }
                wire.buffer.take(end + 4);
                return Ok(wire);
            }
            wire.fill_some().await?;
        }
    }

    /// Sends what is already framed.
    pub async fn send(&mut self, frames: &[u8]) -> Result<(), BenchError> {
        self.stream.write_all(frames).await.doing("sending")
    }

    /// The next text message. It stays in the buffer until the next call.
    pub async fn message(&mut self) -> Result<String, BenchError> {
        loop {
            let unread = self.buffer.unread();
            if let Some(header) = Header::parse(unread)
                && unread.len() >= header.header_bytes + header.payload_bytes
            {
                let frame_bytes = header.header_bytes + header.payload_bytes;
                let payload = &unread[header.header_bytes..frame_bytes];
                if header.opcode == CLOSE {
                    return Err(unexpected("closed with", payload));
                }
                let text =
                    (header.opcode == TEXT).then(|| String::from_utf8_lossy(payload).into_owned());
                self.buffer.take(frame_bytes);
                if let Some(text) = text {
                    return Ok(text);
                }
                continue;
            }
            self.fill_some().await?;
        }
    }

    async fn fill_some(&mut self) -> Result<(), BenchError> {
        let room = if self.buffer.bytes.len() - self.buffer.end > 1024 {
            &mut self.buffer.bytes[self.buffer.end..]
        } else {
            self.buffer.room()
        };
        self.buffer.end += read_some(&mut self.stream, room).await?;
        Ok(())
    }

    /// Waits for bytes and counts the answers that they complete. An answer is a text message that
    /// begins with `prefix`; events are passed over; anything else is an error.
    pub async fn answers(&mut self, prefix: &[u8]) -> Result<usize, BenchError> {
        loop {
            // What came along with an earlier message is not waited for again.
            let done = self.count(prefix)?;
            if done > 0 {
                return Ok(done);
            }
            let room = self.buffer.room();
            self.buffer.end += read_some(&mut self.stream, room).await?;
        }
    }

    /// The same for one of many wires on which little is said: it keeps a small buffer.
    ///
    /// # Errors
    /// Something else came that is no event.
    pub async fn hears(&mut self, prefix: &[u8]) -> Result<usize, BenchError> {
        loop {
            let done = self.count(prefix)?;
            if done > 0 {
                return Ok(done);
            }
            self.fill_some().await?;
        }
    }

    fn count(&mut self, prefix: &[u8]) -> Result<usize, BenchError> {
        let mut done = 0;
        loop {
            let skipped = self.skip.min(self.buffer.unread().len());
            self.buffer.take(skipped);
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok(done);
            }
            done += usize::from(std::mem::take(&mut self.skips_answer));
            let unread = self.buffer.unread();
            let Some(header) = Header::parse(unread) else {
                return Ok(done);
            };
            let seen = header.header_bytes + header.payload_bytes.min(prefix.len());
            if unread.len() < seen {
                return Ok(done);
            }
            let begins = &unread[header.header_bytes..seen];
            self.skips_answer = begins == prefix;
            if !self.skips_answer && is_unwanted(header.opcode, begins) {
                return Err(unexpected("instead of an answer came", unread));
            }
            self.skip = header.payload_bytes;
            self.buffer.take(header.header_bytes);
        }
    }

    /// Says goodbye and leaves, as a client that ends does.
    pub async fn close(mut self) {
        // The peer may have gone first; then there is nobody to take leave of.
        drop(
            self.stream
                .write_all(&frame(CLOSE, &1000_u16.to_be_bytes()))
                .await,
        );
    }
}

/// Reads at least one byte.
async fn read_some(stream: &mut TcpStream, room: &mut [u8]) -> Result<usize, BenchError> {
    match stream.read(room).await.doing("reading")? {
        0 => Err(BenchError::Unexpected(
            "the server ended the connection".to_owned(),
        )),
        bytes => Ok(bytes),
    }
}

/// Neither an answer nor an event nor a ping or pong.
fn is_unwanted(opcode: u8, begins: &[u8]) -> bool {
    let event = br#"{"type":"event""#;
    let is_event = begins.len() >= event.len() && begins.starts_with(event);
    opcode == CLOSE || (opcode == TEXT && !is_event)
}

fn unexpected(what: &str, bytes: &[u8]) -> BenchError {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    BenchError::Unexpected(format!("{what}: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_three_lengths_are_read() {
        let parse = |bytes: &[u8]| Header::parse(bytes).map(|h| (h.header_bytes, h.payload_bytes));
        assert_eq!(parse(&[0x81]), None);
        assert_eq!(parse(&[0x81, 5]), Some((2, 5)));
        assert_eq!(parse(&[0x81, 126, 1]), None);
        assert_eq!(parse(&[0x81, 126, 1, 0]), Some((4, 256)));
        assert_eq!(
            parse(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            Some((10, 65_536))
        );
    }

    #[test]
    fn a_frame_is_masked_and_unmasks_to_itself() {
        let frame = text_frame("hello");
        assert_eq!(frame[..2], [0x81, 0x85]);
        let plain: Vec<u8> = frame[6..]
            .iter()
            .zip(frame[2..6].iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        assert_eq!(plain, b"hello");
        assert_eq!(text_frame(&"x".repeat(300))[..4], [0x81, 0xfe, 1, 44]);
    }

    #[tokio::test]
    async fn answers_are_counted_at_their_last_byte_and_events_are_passed_over() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut scrap = [0; 1024];
            let _ = stream.read(&mut scrap).await.unwrap();
            stream.write_all(b"HTTP/1.1 101 X\r\n\r\n").await.unwrap();
            let answer = br#"{"type":"res","id":"b","ok":true,"payload":1}"#;
            let event = br#"{"type":"event","event":"tick"}"#;
            let mut bytes = vec![0x81, u8::try_from(event.len()).unwrap()];
            bytes.extend_from_slice(event);
            for _ in 0..2 {
                bytes.extend_from_slice(&[0x81, u8::try_from(answer.len()).unwrap()]);
                bytes.extend_from_slice(answer);
            }
            let last = bytes.pop().unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.write_all(&[last]).await.unwrap();
            stream
        };
        let client = async {
            let mut wire = Wire::open(address, &upgrade("x", "/")).await.unwrap();
            let mut done = 0;
            while done < 2 {
                done += wire
                    .answers(br#"{"type":"res","id":"b","ok":true"#)
                    .await
                    .unwrap();
            }
            done
        };
        let (_stream, done) = tokio::join!(server, client);
        assert_eq!(done, 2);
    }
}
