//! A WebSocket over a TCP stream, as a thing that never waits.
//!
//! tungstenite does the protocol (framing, masking, UTF-8, control frames) over plain
//! non-blocking reads and writes; the connection's loop asks tokio when the stream is ready. So
//! the size limit can change on the open socket, everything that is queued in one wake-up goes
//! out in one write, and each step can be dropped without losing a byte.
//! See `docs/decisions/001-websocket.md`.

use std::io::{self, Read, Write};

use tokio::{io::Interest, net::TcpStream};
use tungstenite::{
    Message, Utf8Bytes,
    error::{CapacityError, Error, ProtocolError},
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

/// Read buffer of a socket. Small, because ten thousand sockets may sit idle.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message. Binary ones are taken as UTF-8, as the original does.
    Text(Utf8Bytes),
    /// Nothing that matters to the caller (pings, pongs).
    Control,
    /// Nothing more for now.
    Nothing,
    /// The peer closed, or the stream ended.
    Closed,
    /// The message is larger than the limit.
    TooLarge,
    /// The peer broke the WebSocket protocol; close with this code.
    Broken(u16),
}

/// The stream as tungstenite wants it: never waiting.
struct Io<'a>(&'a TcpStream);

impl Read for Io<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.try_write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An accepted WebSocket.
pub(crate) struct Socket {
    stream: TcpStream,
    context: WebSocketContext,
    /// Bytes queued since the last complete flush.
    unflushed: usize,
    ended: bool,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("unflushed", &self.unflushed)
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Takes over an upgraded stream; `read` is what was read from it beyond the request.
    pub(crate) fn new(stream: TcpStream, read: Vec<u8>, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            // Writing is ours to time: queue freely, flush once a wake-up.
            .write_buffer_size(usize::MAX / 2)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        Self {
            stream,
            context: WebSocketContext::from_partially_read(read, Role::Server, Some(config)),
            unflushed: 0,
            ended: false,
        }
    }

    /// Changes the limit on the open socket.
    pub(crate) fn set_message_bytes_max(&mut self, bytes: usize) {
        self.context.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    /// Waits until reading (if wanted) or flushing (if needed) can go on. Cancel-safe.
    pub(crate) async fn ready(&self, read: bool) -> io::Result<()> {
        let interest = match (read, self.unflushed > 0) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, _) => Interest::WRITABLE,
        };
        self.stream.ready(interest).await.map(drop)
    }

    /// Takes the next message that is there.
    pub(crate) fn try_read(&mut self) -> Incoming {
        match self.context.read(&mut Io(&self.stream)) {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(bytes)) => match Utf8Bytes::try_from(bytes) {
                Ok(text) => Incoming::Text(text),
                // Not text, so not JSON: what follows is what follows broken JSON.
                Err(_) => Incoming::Text(Utf8Bytes::from_static("\u{fffd}")),
            },
            Ok(Message::Close(_)) => {
                // The answer to the close is queued; it goes out with the next flush.
                self.unflushed = self.unflushed.max(1);
                Incoming::Closed
            }
            Ok(Message::Ping(payload)) => {
                // Its pong is queued by now. Counted, so that a peer that only pings and does not
                // read is held back like any other.
                self.unflushed += 2 + payload.len();
                Incoming::Control
            }
            Ok(Message::Pong(_) | Message::Frame(_)) => Incoming::Control,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Incoming::Nothing,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Incoming::TooLarge,
            Err(Error::Utf8(_)) => Incoming::Broken(1007),
            Err(Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake
                | ProtocolError::SendAfterClosing
                | ProtocolError::ReceivedAfterClosing,
            )) => self.end(),
            Err(Error::Protocol(_)) => Incoming::Broken(1002),
            Err(_) => self.end(),
        }
    }

    fn end(&mut self) -> Incoming {
        self.ended = true;
        Incoming::Closed
    }

    /// Queues a text message.
    pub(crate) fn queue(&mut self, text: Utf8Bytes) {
        self.unflushed += text.len();
        if let Err(error) = self
            .context
            .write(&mut Io(&self.stream), Message::Text(text))
            && !matches!(&error, Error::Io(io) if io.kind() == io::ErrorKind::WouldBlock)
        {
            self.ended = true;
        }
    }

    /// Queues a ping.
    pub(crate) fn queue_ping(&mut self) {
        self.unflushed += 2;
        let ping = Message::Ping(bytes::Bytes::new());
        let _ = self.context.write(&mut Io(&self.stream), ping);
    }

    /// Queues a close frame. Nothing can be queued after it.
    pub(crate) fn queue_close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: Utf8Bytes::from(clawgate_protocol::error::close_reason(reason)),
        };
        self.unflushed += 4 + reason.len();
        let _ = self
            .context
            .write(&mut Io(&self.stream), Message::Close(Some(frame)));
    }

    /// Writes what is queued, as far as the stream takes it now.
    pub(crate) fn try_flush(&mut self) {
        if self.unflushed == 0 || self.ended {
            return;
        }
        match self.context.flush(&mut Io(&self.stream)) {
            Ok(()) => self.unflushed = 0,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(Error::ConnectionClosed) => self.unflushed = 0,
            Err(_) => self.ended = true,
        }
    }

    /// Bytes that were queued and are not all written.
    pub(crate) fn unflushed(&self) -> usize {
        self.unflushed
    }

    /// Whether the stream is of no more use.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Flushes, ends the sending side, and reads what the peer still sends (a bounded amount, a
    /// bounded time), because closing over unread bytes would make the peer lose the close frame.
    pub(crate) async fn linger(mut self, wait: std::time::Duration) {
        let _ = tokio::time::timeout(wait, async {
            while self.unflushed > 0 && !self.ended {
                if self.stream.writable().await.is_err() {
                    return;
                }
                self.try_flush();
            }
            let mut stream = self.stream;
            if tokio::io::AsyncWriteExt::shutdown(&mut stream)
                .await
                .is_err()
            {
                return;
            }
            let mut scrap = [0_u8; 4096];
            let mut left: usize = 64 * 1024 * 1024;
            while left > 0 {
                match tokio::io::AsyncReadExt::read(&mut stream, &mut scrap).await {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => left = left.saturating_sub(bytes),
                }
            }
        })
        .await;
    }
}
