//! A WebSocket over a TCP stream, as a thing that never waits.
//!
//! tungstenite does the protocol (framing, masking, UTF-8, control frames) over plain
//! non-blocking reads and writes; the connection's loop asks tokio when the stream is ready. So
//! the size limit can change on the open socket, everything that is queued in one wake-up goes
//! out in one write, and each step can be dropped without losing a byte.
//! Texts that go out are put together in a buffer of our own, with the library's headers before them:
//! an answer is copied once, and an event that thousands get is framed once and written as it is.
//! Pings, pongs and closes go through the library's buffer; no frame begins in one buffer before the
//! one that was begun in the other is written.
//! See `docs/decisions/001-websocket.md`.

use std::{
    future::poll_fn,
    io::{self, Read, Write},
    task::Poll,
};

use tokio::net::TcpStream;
use tungstenite::{
    Message, Utf8Bytes,
    error::{CapacityError, Error, ProtocolError},
    protocol::{
        CloseFrame, Role, WebSocketConfig, WebSocketContext,
        frame::{
            FrameHeader,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

use crate::load::{Held, Share, UNCOUNTED_BYTES};

/// Read buffer of a socket. Small, because ten thousand sockets may sit idle.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes that are taken from the stream before it is looked at how much is held.
const READ_AT_ONCE_BYTES: usize = 64 * 1024;

/// The longest header of a frame that is not masked.
const HEADER_BYTES_MAX: usize = 10;

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

/// What the context holds that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controls {
    None,
    Queued,
    /// Something is written in part.
    Begun,
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
    /// Whether it may be written: not while texts wait, the first of which may be written in part.
    may_write: bool,
    /// Bytes that were written.
    written: usize,
    /// Whether something is left that was to be written.
    is_refused: bool,
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
        let written = if self.may_write {
            self.stream.try_write(buffer)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
        self.is_refused = matches!(&written, Err(error) if is_not_yet(error));
        self.written += written.as_ref().copied().unwrap_or_default();
        written
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
    /// Texts that go out, as frames. They go before what the context holds.
    out: Vec<u8>,
    /// How much of that is written.
    out_written: usize,
    controls: Controls,
    /// Bytes queued since the last complete flush.
    unflushed: usize,
    /// Bytes written in all.
    written: u64,
    ended: bool,
    /// What the buffer for reading may keep, and that for writing.
    kept: [usize; 2],
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
            out: Vec::new(),
            out_written: 0,
            controls: Controls::None,
            unflushed: 0,
            written: 0,
            ended: false,
            kept: [UNCOUNTED_BYTES; 2],
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
        if let Some(counted) = &mut self.counted {
            let over = |bytes: usize| bytes.saturating_sub(UNCOUNTED_BYTES);
            counted.incoming.set(over(self.frames.held()));
            counted.outgoing.set(over(self.out.capacity()));
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
        self.out.capacity()
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

    /// Waits until reading (if wanted) or flushing (if needed) can go on. Cancel-safe; for one task.
    pub(crate) async fn ready(&self, read: bool) -> io::Result<()> {
        // The stream keeps the waker of each direction, where a waiter of its own would be entered into
        // a list and taken out again at each wake-up.
        poll_fn(|context| {
            if read && let Poll::Ready(ready) = self.stream.poll_read_ready(context) {
                return Poll::Ready(ready);
            }
            if self.unflushed > 0 {
                return self.stream.poll_write_ready(context);
            }
            Poll::Pending
        })
        .await
    }

    /// Takes the next message that is there.
    pub(crate) fn try_read(&mut self) -> Incoming {
        let (read, left) = self.with_context(READ_AT_ONCE_BYTES, |context, io| context.read(io));
        let may_have_more = left == 0;
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
                self.queue_controls();
                Incoming::Closed
            }
            Ok(Message::Ping(payload)) => {
                // Its pong is queued by now. Counted, so that a peer that only pings and does not
                // read is held back like any other.
                self.unflushed += 2 + payload.len();
                self.queue_controls();
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
        self.kept = [READ_BUFFER_BYTES / 4; 2];
    }

    /// A buffer that a large message went through, in or out, stays as large as that one was. Once
    /// nothing is in it, another takes its place.
    fn give_back_buffers(&mut self) {
        let [kept_read, kept_written] = &mut self.kept;
        if self.out.capacity() > *kept_written && self.out.is_empty() {
            self.out = Vec::new();
            *kept_written = UNCOUNTED_BYTES;
        }
        if self.frames.largest > *kept_read
            && self.drained
            && self.controls == Controls::None
            && self.frames.is_between_messages()
            && self.context.can_read()
            && self.context.can_write()
        {
            self.context = context(Vec::new(), self.message_bytes_max);
            self.frames = Frames::default();
            *kept_read = UNCOUNTED_BYTES;
        }
    }

    /// Gives back what it holds of messages that came: none of them is taken any more.
    pub(crate) fn forget_incoming(&mut self) {
        // What is to go out lies beside it, and would go with it.
        if self.frames.held() > UNCOUNTED_BYTES && self.controls == Controls::None {
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
    pub(crate) fn queue(&mut self, text: &str) {
        self.queue_pieces(&[text]);
    }

    /// Queues a text message that is in pieces.
    pub(crate) fn queue_pieces(&mut self, pieces: &[impl AsRef<str>]) {
        let length = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        self.make_room(length + HEADER_BYTES_MAX);
        put_header(&mut self.out, length);
        for piece in pieces {
            self.out.extend_from_slice(piece.as_ref().as_bytes());
        }
        self.unflushed += length;
        self.count();
    }

    /// Queues a whole frame.
    pub(crate) fn queue_frame(&mut self, frame: &[u8]) {
        self.make_room(frame.len());
        self.out.extend_from_slice(frame);
        self.unflushed += frame.len();
        self.count();
    }

    /// Writes a whole frame at once, as far as the stream takes it now. Where something is queued, it is
    /// queued after that.
    pub(crate) fn send_frame(&mut self, frame: &[u8]) {
        if self.unflushed > 0 || self.ended {
            return self.queue_frame(frame);
        }
        let written = match self.stream.try_write(frame) {
            Ok(written) => written,
            Err(error) if is_not_yet(&error) || is_interrupted(&error) => 0,
            Err(_) => {
                self.ended = true;
                return;
            }
        };
        self.written += written as u64;
        if written < frame.len() {
            self.queue_frame(frame);
            self.out_written = written;
        }
    }

    fn make_room(&mut self, bytes: usize) {
        if self.out_written > self.out.len() / 2 {
            self.out.drain(..self.out_written);
            self.out_written = 0;
        }
        // What is large already does not become twice as large for a little more.
        if self.out.len() + bytes > UNCOUNTED_BYTES {
            self.out.reserve_exact(bytes);
        } else {
            self.out.reserve(bytes);
        }
    }

    /// Has the library do something with the stream. What it says, and how many bytes more it might have
    /// read.
    fn with_context<T>(
        &mut self,
        left: usize,
        act: impl FnOnce(&mut WebSocketContext, &mut Io<'_>) -> T,
    ) -> (T, usize) {
        let mut io = Io {
            stream: &self.stream,
            frames: &mut self.frames,
            left,
            may_write: self.out.is_empty() || self.controls == Controls::Begun,
            written: 0,
            is_refused: false,
        };
        let result = act(&mut self.context, &mut io);
        let Io {
            left,
            written,
            is_refused,
            ..
        } = io;
        match (is_refused, written) {
            (true, 1..) => self.controls = Controls::Begun,
            (false, 1..) if self.controls == Controls::Begun => self.controls = Controls::Queued,
            _ => {}
        }
        self.written += written as u64;
        (result, left)
    }

    /// The context got something that goes out.
    fn queue_controls(&mut self) {
        if self.controls == Controls::None {
            self.controls = Controls::Queued;
        }
    }

    fn write_control(&mut self, message: Message) {
        self.queue_controls();
        let _ = self.with_context(0, |context, io| context.write(io, message));
    }

    /// Queues a ping.
    pub(crate) fn queue_ping(&mut self) {
        self.unflushed += 2;
        self.write_control(Message::Ping(bytes::Bytes::new()));
    }

    /// Queues a close frame. Nothing can be queued after it.
    pub(crate) fn queue_close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: Utf8Bytes::from(clawgate_protocol::error::close_reason(reason)),
        };
        self.unflushed += 4 + reason.len();
        self.write_control(Message::Close(Some(frame)));
    }

    /// Writes what is queued, as far as the stream takes it now.
    pub(crate) fn try_flush(&mut self) {
        if self.unflushed == 0 || self.ended {
            return;
        }
        match self.write_all() {
            Ok(true) => self.unflushed = 0,
            Ok(false) => {}
            Err(()) => self.ended = true,
        }
        self.give_back_buffers();
        self.count();
    }

    /// Whether everything could be written.
    fn write_all(&mut self) -> Result<bool, ()> {
        if self.controls == Controls::Begun && !self.write_controls()? {
            return Ok(false);
        }
        while self.out_written < self.out.len() {
            match self.stream.try_write(&self.out[self.out_written..]) {
                Ok(0) => return Err(()),
                Ok(bytes) => {
                    self.out_written += bytes;
                    self.written += bytes as u64;
                }
                Err(error) if is_not_yet(&error) => return Ok(false),
                Err(error) if is_interrupted(&error) => {}
                Err(_) => return Err(()),
            }
        }
        self.out.clear();
        self.out_written = 0;
        Ok(self.controls == Controls::None || self.write_controls()?)
    }

    /// The same for what the context holds.
    fn write_controls(&mut self) -> Result<bool, ()> {
        let (flushed, _) = self.with_context(0, |context, io| context.flush(io));
        match flushed {
            Ok(()) | Err(Error::ConnectionClosed) => {
                self.controls = Controls::None;
                Ok(true)
            }
            Err(Error::Io(error)) if is_not_yet(&error) => Ok(false),
            Err(_) => Err(()),
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
            let Self {
                mut stream,
                context,
                out,
                counted,
                ..
            } = self;
            // What it held is not held while the peer takes its time.
            drop((context, out, counted));
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

/// A text message as a frame.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + HEADER_BYTES_MAX);
    put_header(&mut frame, text.len());
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn put_header(out: &mut Vec<u8>, length: usize) {
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    header
        .format(length as u64, out)
        .expect("writing to memory does not fail");
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

fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
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

    #[tokio::test]
    async fn what_goes_out_arrives_whole_and_in_order_however_it_is_queued_and_cut() {
        const MESSAGES: u32 = 4_000;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Answers each hundredth message with a ping, so that pongs go out in between.
        let client = std::thread::spawn(move || {
            let stream = std::net::TcpStream::connect(address).unwrap();
            let mut client = tungstenite::WebSocket::from_raw_socket(stream, Role::Client, None);
            let (mut texts, mut pings, mut pongs) = (0_u32, 0_u32, 0_u32);
            loop {
                match client.read().unwrap() {
                    Message::Text(text) => {
                        assert!(text.starts_with(&format!("{texts}:")), "{texts}");
                        assert!(text.len() < 100 || text.ends_with('x'));
                        texts += 1;
                        if texts % 100 == 0 {
                            client.send(Message::Ping(bytes::Bytes::new())).unwrap();
                        }
                    }
                    Message::Ping(_) => pings += 1,
                    Message::Pong(_) => pongs += 1,
                    Message::Close(_) => return (texts, pings, pongs),
                    other => panic!("{other:?}"),
                }
            }
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = Socket::new(stream, Vec::new(), 1 << 20);
        let mut random = 1_u32;
        let mut next = |of: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % of
        };
        let (mut pings, mut cut) = (0, 0);
        for number in 0..MESSAGES {
            let length = if next(4) == 0 {
                next(100_000)
            } else {
                next(300)
            } as usize;
            let text = format!("{number}:{}", "x".repeat(length));
            match next(4) {
                0 => socket.queue(&text),
                1 => socket.queue_pieces(&[&text[..1], &text[1..], ""]),
                2 => socket.queue_frame(&text_frame(&text)),
                _ => socket.send_frame(&text_frame(&text)),
            }
            if next(50) == 0 {
                socket.queue_ping();
                pings += 1;
            }
            if next(3) == 0 {
                socket.try_flush();
            }
            cut += u32::from(socket.out_written > 0);
            while let Incoming::Control = socket.try_read() {}
            while socket.unflushed() > 1 << 20 {
                socket.ready(true).await.unwrap();
                while let Incoming::Control = socket.try_read() {}
                socket.try_flush();
            }
            assert!(!socket.has_ended());
        }
        socket.queue_close(1000, "");
        // What the client still sends must not be unread.
        socket.try_flush();
        while socket.unflushed() > 0 {
            socket.ready(false).await.unwrap();
            socket.try_flush();
        }
        let (texts, pings_seen, pongs) = tokio::task::spawn_blocking(|| client.join().unwrap())
            .await
            .unwrap();
        assert_eq!((texts, pings_seen), (MESSAGES, pings));
        assert!(pongs > 0, "pongs went out in between");
        assert!(cut > 0, "the stream never took less than there was");
        assert_eq!(socket.outgoing(), 0, "what it took is given back");
    }
}
