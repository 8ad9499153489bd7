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

use crate::load::{Held, Share, UNCOUNTED_BYTES};

/// Read buffer of a socket. Small, because ten thousand sockets may sit idle.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes that are taken from the stream before it is looked at how much is held.
const READ_AT_ONCE_BYTES: usize = 64 * 1024;

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message. Binary ones are taken as UTF-8, as the original does.
    Text(Utf8Bytes),
    /// Nothing that matters to the caller (pings, pongs).
    Control,
    /// Nothing more for now.
    Nothing,
    /// As much as is taken at once came, and no message is complete. Others have their turn before the
    /// rest.
    Part,
    /// The peer closed, or the stream ended.
    Closed,
    /// The message is larger than the limit.
    TooLarge,
    /// The peer broke the WebSocket protocol; close with this code.
    Broken(u16),
}

/// Follows the frames of a stream, to know what is held of the message that is coming in, and when
/// nothing is.
#[derive(Debug, Default)]
struct Frames {
    /// The header that is coming in.
    head: [u8; 14],
    head_bytes: usize,
    /// What is to come of the payload.
    left: u64,
    /// What came of the payload, if it is of a message.
    came: usize,
    is_control: bool,
    /// Whether the message ends with this frame.
    is_last: bool,
    /// Whether a message has begun, and more fragments of it are to come.
    is_in_message: bool,
    /// Payloads of earlier fragments of the message.
    collected: usize,
    /// The largest payload that went through the read buffer. It keeps as much.
    largest: usize,
}

impl Frames {
    /// These bytes came.
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                let here = usize::try_from(self.left).map_or(bytes.len(), |it| it.min(bytes.len()));
                bytes = &bytes[here..];
                self.left -= here as u64;
                if !self.is_control {
                    self.came += here;
                    self.largest = self.largest.max(self.came);
                }
            } else {
                self.head[self.head_bytes] = *first;
                self.head_bytes += 1;
                bytes = &bytes[1..];
                self.begin();
            }
            if self.left == 0 && self.head_bytes == 0 {
                self.finish();
            }
        }
    }

    /// Begins with the payload once its header is complete.
    fn begin(&mut self) {
        let [first, second, rest @ ..] = self.head;
        let length = second & 0x7f;
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        let length_bytes = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.head_bytes < 2 + length_bytes + mask_bytes {
            return;
        }
        self.left = match length {
            126 | 127 => rest[..length_bytes]
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
            short => u64::from(short),
        };
        self.is_control = first & 0x08 != 0;
        self.is_last = first & 0x80 != 0;
        self.head_bytes = 0;
    }

    fn finish(&mut self) {
        if self.is_control {
            return;
        }
        self.is_in_message = !self.is_last;
        self.collected = if self.is_last {
            0
        } else {
            self.collected + self.came
        };
        self.came = 0;
    }

    /// Whether a message ends here.
    fn is_between_messages(&self) -> bool {
        self.left == 0 && self.head_bytes == 0 && !self.is_in_message
    }

    /// What is held of what came.
    fn held(&self) -> usize {
        self.collected + self.largest
    }
}

/// The stream as tungstenite wants it: never waiting, and not for ever reading.
struct Io<'a> {
    stream: &'a TcpStream,
    frames: &'a mut Frames,
    /// Bytes that may be read yet.
    left: usize,
    /// Bytes that were written.
    written: usize,
}

impl Read for Io<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut room = buffer.len().min(self.left);
        // A large frame ends where the buffer does, so that the buffer can be given back.
        if self.frames.largest > UNCOUNTED_BYTES && self.frames.left > 0 {
            room = usize::try_from(self.frames.left).map_or(room, |left| room.min(left));
        }
        let bytes = self.stream.try_read(&mut buffer[..room])?;
        self.frames.take(&buffer[..bytes]);
        self.left -= bytes;
        Ok(bytes)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let bytes = self.stream.try_write(buffer)?;
        self.written += bytes;
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An accepted WebSocket.
pub(crate) struct Socket {
    stream: TcpStream,
    context: WebSocketContext,
    frames: Frames,
    message_bytes_max: usize,
    /// Whether every whole frame that came was taken out of the buffer.
    drained: bool,
    /// Bytes queued since the last complete flush.
    unflushed: usize,
    /// The most that was queued at once. The write buffer keeps as much.
    most_unflushed: usize,
    /// Bytes written in all.
    written: u64,
    ended: bool,
    /// What its buffers may keep.
    kept_bytes: usize,
    /// What counts of it among all.
    counted: Option<CountedBytes>,
}

/// One socket's part of what all hold.
#[derive(Debug)]
struct CountedBytes {
    incoming: Share,
    outgoing: Share,
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
        let mut frames = Frames::default();
        frames.take(&read);
        Self {
            stream,
            context: context(read, message_bytes_max),
            frames,
            message_bytes_max,
            drained: false,
            unflushed: 0,
            most_unflushed: 0,
            written: 0,
            ended: false,
            kept_bytes: UNCOUNTED_BYTES,
            counted: None,
        }
    }

    /// Counts from now on what it holds.
    pub(crate) fn count_among(&mut self, incoming: &Held, outgoing: &Held) {
        self.counted = Some(CountedBytes {
            incoming: incoming.share(0),
            outgoing: outgoing.share(0),
        });
        self.count();
    }

    fn count(&mut self) {
        self.most_unflushed = self.most_unflushed.max(self.unflushed);
        if let Some(counted) = &mut self.counted {
            let over = |bytes: usize| bytes.saturating_sub(UNCOUNTED_BYTES);
            counted.incoming.set(over(self.frames.held()));
            counted.outgoing.set(over(self.most_unflushed));
        }
    }

    /// Bytes that it holds of messages that came, beside what nobody counts.
    pub(crate) fn incoming(&self) -> usize {
        self.counted.as_ref().map_or(0, |it| it.incoming.bytes())
    }

    /// Whether all together hold more of incoming messages than they should.
    pub(crate) fn is_too_much_incoming(&self) -> bool {
        let counted = self.counted.as_ref();
        counted.is_some_and(|it| it.incoming.is_of_too_much())
    }

    /// Whether a message of more than so many bytes is coming in.
    pub(crate) fn is_amid_more_than(&self, bytes: usize) -> bool {
        let frames = &self.frames;
        let here = (frames.collected + frames.came) as u64;
        !frames.is_control
            && !frames.is_between_messages()
            && here.saturating_add(frames.left) > bytes as u64
    }

    /// Bytes that it holds for what goes out.
    pub(crate) fn outgoing(&self) -> usize {
        self.most_unflushed
    }

    /// Bytes that the peer's side of the stream took so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Changes the limit on the open socket.
    pub(crate) fn set_message_bytes_max(&mut self, bytes: usize) {
        self.message_bytes_max = bytes;
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
        let mut io = Io {
            stream: &self.stream,
            frames: &mut self.frames,
            left: READ_AT_ONCE_BYTES,
            written: 0,
        };
        let read = self.context.read(&mut io);
        self.written += io.written as u64;
        let may_have_more = io.left == 0;
        self.drained = matches!(&read, Err(Error::Io(error)) if is_not_yet(error));
        let incoming = match self.incoming_of(read) {
            Incoming::Nothing if may_have_more => Incoming::Part,
            other => other,
        };
        self.give_back_buffers();
        self.count();
        incoming
    }

    fn incoming_of(&mut self, read: Result<Message, Error>) -> Incoming {
        match read {
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
            Err(Error::Io(error)) if is_not_yet(&error) => Incoming::Nothing,
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

    /// Gives back what the connect and its answer took, which are longer than most that follows, as
    /// soon as nothing is in the buffers.
    pub(crate) fn begin_small(&mut self) {
        self.kept_bytes = READ_BUFFER_BYTES / 4;
    }

    /// A buffer that a large message went through, in or out, stays as large as that one was. Once
    /// nothing is in either of them, others take their places.
    fn give_back_buffers(&mut self) {
        if self.frames.largest.max(self.most_unflushed) > self.kept_bytes
            && self.drained
            && self.unflushed == 0
            && self.frames.is_between_messages()
            && self.context.can_read()
            && self.context.can_write()
        {
            self.context = context(Vec::new(), self.message_bytes_max);
            self.frames = Frames::default();
            self.most_unflushed = 0;
            self.kept_bytes = UNCOUNTED_BYTES;
        }
    }

    /// Gives back what it holds of messages that came: none of them is taken any more.
    pub(crate) fn forget_incoming(&mut self) {
        // What is to go out lies beside it, and would go with it.
        if self.frames.held() > UNCOUNTED_BYTES && self.unflushed == 0 {
            self.context = context(Vec::new(), self.message_bytes_max);
            self.frames = Frames::default();
            self.count();
        }
    }

    fn end(&mut self) -> Incoming {
        self.ended = true;
        Incoming::Closed
    }

    /// Queues a text message.
    pub(crate) fn queue(&mut self, text: Utf8Bytes) {
        self.unflushed += text.len();
        let written = self.write(Message::Text(text));
        if matches!(written, Err(error) if !matches!(&error, Error::Io(io) if is_not_yet(io))) {
            self.ended = true;
        }
        self.count();
    }

    fn write(&mut self, message: Message) -> Result<(), Error> {
        let mut io = Io {
            stream: &self.stream,
            frames: &mut self.frames,
            left: 0,
            written: 0,
        };
        let result = self.context.write(&mut io, message);
        self.written += io.written as u64;
        result
    }

    /// Queues a ping.
    pub(crate) fn queue_ping(&mut self) {
        self.unflushed += 2;
        let _ = self.write(Message::Ping(bytes::Bytes::new()));
    }

    /// Queues a close frame. Nothing can be queued after it.
    pub(crate) fn queue_close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: Utf8Bytes::from(clawgate_protocol::error::close_reason(reason)),
        };
        self.unflushed += 4 + reason.len();
        let _ = self.write(Message::Close(Some(frame)));
    }

    /// Writes what is queued, as far as the stream takes it now.
    pub(crate) fn try_flush(&mut self) {
        if self.unflushed == 0 || self.ended {
            return;
        }
        let mut io = Io {
            stream: &self.stream,
            frames: &mut self.frames,
            left: 0,
            written: 0,
        };
        let flushed = self.context.flush(&mut io);
        self.written += io.written as u64;
        match flushed {
            Ok(()) | Err(Error::ConnectionClosed) => self.unflushed = 0,
            Err(Error::Io(error)) if is_not_yet(&error) => {}
            Err(_) => self.ended = true,
        }
        self.give_back_buffers();
        self.count();
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
            let Self {
                mut stream,
                context,
                counted,
                ..
            } = self;
            // What it held is not held while the peer takes its time.
            drop((context, counted));
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

fn context(read: Vec<u8>, message_bytes_max: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Writing is ours to time: queue freely, flush once a wake-up.
        .write_buffer_size(usize::MAX / 2)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    WebSocketContext::from_partially_read(read, Role::Server, Some(config))
}

fn is_not_yet(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(0x80 | u8::try_from(payload).unwrap()),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(std::iter::repeat_n(b'x', payload));
        bytes
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let (text, more, last, ping) = (0x81, 0x01, 0x80, 0x89);
        let stream = [
            frame(text, 3),
            frame(text, 300),
            frame(more, 70_000),
            frame(ping, 100),
            frame(more & 0xf0, 0),
            frame(last, 5),
            frame(ping, 0),
        ]
        .concat();
        let places = [9, 317, 70_331, 70_437, 70_443, 70_454, stream.len()];
        for step in [1, 7, 4_096, stream.len()] {
            let mut frames = Frames::default();
            let mut at = 0;
            for chunk in stream.chunks(step) {
                frames.take(chunk);
                at += chunk.len();
                let between = [9, 317, 70_454, stream.len()].contains(&at);
                assert_eq!(
                    frames.is_between_messages(),
                    between,
                    "{step} {at} {places:?}"
                );
            }
            assert_eq!(frames.held(), 70_000, "{step}");
        }
        let mut frames = Frames::default();
        frames.take(&stream[..70_331]);
        assert_eq!(frames.held(), 140_000);
    }
}
