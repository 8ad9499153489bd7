//! The log: JSON lines in a file that rolls daily, and lines for people on standard error.
//!
//! Both go through bounded queues that drop and count when full, so that a full disk or a reader
//! that stands still never holds up the gateway. What a peer can cause is bounded twice: its
//! refusals are written one by one only so often in a minute, and a day's file has a size. A file line has the keys of the original's log, so
//! that its clients show it, and every field by name.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clawgate_core::approval::hides;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{
    Layer, layer::Context, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Lines that wait for a writer at most; more are dropped and counted.
const LINES_MAX: usize = 16_384;
/// Bytes of a day's file at most; further lines of that day are dropped and counted.
pub(crate) const DAY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Refusals of one connection that are written one by one in a minute.
const REFUSALS_MAX: u32 = 20;
const REFUSALS_WINDOW: Duration = Duration::from_secs(60);
/// Refusals before a hello that are written one by one in that time, whoever they are of.
const STRANGERS_MAX: u32 = 200;
/// Daily files kept.
const FILES_MAX: usize = 14;
const PREFIX: &str = "clawgate";
const SUFFIX: &str = "log";

/// How long the last lines may take to be written when logging ends.
const FLUSHES_WITHIN: Duration = Duration::from_secs(1);

/// Writes what waits when it goes.
#[derive(Debug)]
pub(crate) struct LogGuard(Vec<Waiting>);

/// Lines on their way to one writer. It takes the room of what waits and not of what may wait.
#[derive(Clone, Debug)]
struct Waiting {
    lines: mpsc::Sender<Line>,
    /// Lines that found no room, until that was told.
    dropped: Arc<AtomicU64>,
}

/// What a writer's thread is told.
enum Line {
    Text(String),
    /// No further ones are written. Dropped when all before it are.
    Last {
        _written: std::sync::mpsc::Sender<()>,
    },
}

impl Waiting {
    /// Starts a writer's thread. `note` makes a line about the log itself.
    fn for_writer(
        name: &str,
        mut writer: impl Write + Send + 'static,
        note: fn(&str) -> String,
    ) -> std::io::Result<Self> {
        let (sender, mut lines) = mpsc::channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let untold = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut lost = 0_u64;
                while let Some(Line::Text(line)) = lines.blocking_recv() {
                    // A line that cannot be written has nowhere else to go. What was written of it is
                    // ended before the next one, and that one says how many are missing.
                    let line = match lost {
                        0 => line,
                        lost => format!(
                            "\n{}{line}",
                            note(&format!("{lost} lines could not be written"))
                        ),
                    };
                    match writer.write_all(line.as_bytes()) {
                        Ok(()) => lost = 0,
                        Err(_) => lost += 1,
                    }
                    let more = untold.swap(0, Ordering::Relaxed);
                    if more > 0 {
                        let text = format!("{more} lines were dropped: too many waited");
                        let _ = writer.write_all(note(&text).as_bytes());
                    }
                    if lines.is_empty() {
                        let _ = writer.flush();
                    }
                }
            })?;
        Ok(Self {
            lines: sender,
            dropped,
        })
    }

    /// Has a line written, or drops it when too many wait.
    fn put(&self, line: String) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.lines.try_send(Line::Text(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSHES_WITHIN;
        let (written, all) = std::sync::mpsc::channel();
        for waiting in self.0.drain(..) {
            // A full queue has a writer that stands still; nobody waits for that one.
            let _ = waiting.lines.try_send(Line::Last {
                _written: written.clone(),
            });
        }
        drop(written);
        let _ = all.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Starts logging. A second gateway in the same process keeps the first one's log.
pub(crate) fn start(directory: &Path, verbose: bool) -> std::io::Result<LogGuard> {
    if !directory.is_dir() {
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(directory)?;
    }
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(PREFIX)
        .filename_suffix(SUFFIX)
        .max_log_files(FILES_MAX)
        .build(directory)
        .map_err(std::io::Error::other)?;
    let today = today();
    let file = Capped {
        inner: file,
        day: today,
        // Of a file that this day began already.
        bytes: current_file(directory)
            .and_then(|path| path.metadata().ok())
            .map_or(0, |meta| meta.len()),
        dropped: 0,
    };
    let file = Waiting::for_writer("log-file", file, note_for_file)?;
    let people = Waiting::for_writer("log-people", std::io::stderr(), note_for_people)?;
    let guard = LogGuard(vec![file.clone(), people.clone()]);
    let lines = Lines {
        file,
        people,
        colour: std::io::IsTerminal::is_terminal(&std::io::stderr())
            && std::env::var_os("NO_COLOR").is_none(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    };
    let level = if verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(level))
        .try_init();
    Ok(guard)
}

/// The newest log file.
pub(crate) fn current_file(directory: &Path) -> Option<PathBuf> {
    std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.starts_with(PREFIX) && name.ends_with(SUFFIX)
        })
        .max()
}

/// Days since the epoch, by which the file rolls.
fn today() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(86_400)
}

/// A file that takes so many bytes a day.
struct Capped<W> {
    inner: W,
    day: i64,
    bytes: u64,
    dropped: u64,
}

impl<W: Write> Capped<W> {
    fn line(&mut self, day: i64, line: &[u8]) -> std::io::Result<()> {
        if day != self.day {
            let dropped = std::mem::take(&mut self.dropped);
            (self.day, self.bytes) = (day, 0);
            if dropped > 0 {
                self.note(&format!(
                    "{dropped} lines of the day before were dropped: its file was full"
                ))?;
            }
        }
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.dropped > 0 || self.bytes.saturating_add(length) > DAY_BYTES_MAX {
            self.dropped += 1;
            if self.dropped == 1 {
                self.note("the file of this day is full; further lines of it are dropped")?;
            }
            return Ok(());
        }
        self.bytes += length;
        self.inner.write_all(line)
    }

    /// A line about the file itself.
    fn note(&mut self, message: &str) -> std::io::Result<()> {
        self.inner.write_all(note_for_file(message).as_bytes())
    }
}

/// A line about the log itself, for programs.
fn note_for_file(message: &str) -> String {
    let note = json!({
        "time": jiff::Timestamp::now().to_string(), "level": "warn", "subsystem": "gateway/logs",
        "message": message, "1": message,
    });
    format!("{note}\n")
}

/// The same, for people.
fn note_for_people(message: &str) -> String {
    let time = jiff::Timestamp::now();
    format!("{time:.3}  WARN [gateway/logs] {message}\n")
}

impl<W: Write> Write for Capped<W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.line(today(), line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Which refusals of one connection are written one by one.
#[derive(Debug)]
pub(crate) struct Refusals {
    conn_id: String,
    since: Instant,
    written: u32,
    more: u64,
}

impl Refusals {
    pub(crate) fn of(conn_id: &str) -> Self {
        Self {
            conn_id: conn_id.to_owned(),
            since: Instant::now(),
            written: 0,
            more: 0,
        }
    }

    /// Whether a refusal that happens now gets its line. At the end of a minute the rest of it is
    /// told as a number.
    pub(crate) fn is_written(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= REFUSALS_WINDOW {
            self.tell_rest();
            (self.since, self.written) = (now, 0);
        }
        if self.written < REFUSALS_MAX {
            self.written += 1;
            return true;
        }
        self.more += 1;
        false
    }

    fn tell_rest(&mut self) {
        let more = std::mem::take(&mut self.more);
        if more > 0 {
            tracing::warn!(conn = %self.conn_id, more, "refused, and not written one by one");
        }
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        self.tell_rest();
    }
}

/// Which refusals of those who never got a hello are written one by one: so many of one network, so
/// many of all, in a minute. Every connection is another one, so that they are counted together.
#[derive(Debug)]
pub(crate) struct Strangers(Mutex<StrangersWindow>);

#[derive(Debug)]
struct StrangersWindow {
    since: Instant,
    /// Those that were written, by network. It holds no more than may be written.
    written: HashMap<IpAddr, u32>,
    more: u64,
    last: Option<IpAddr>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self(Mutex::new(StrangersWindow {
            since: Instant::now(),
            written: HashMap::new(),
            more: 0,
            last: None,
        }))
    }
}

impl Strangers {
    /// Whether a refusal that happens now gets its line.
    pub(crate) fn is_written(&self, address: IpAddr, now: Instant) -> bool {
        let mut window = self.0.lock().expect("nothing panics while it is held");
        window.turn(now);
        let all: u32 = window.written.values().sum();
        let network = clawgate_core::peer::network(address);
        let own = window.written.get(&network).copied().unwrap_or(0);
        if own < REFUSALS_MAX && all < STRANGERS_MAX {
            window.written.insert(network, own + 1);
            return true;
        }
        window.more += 1;
        window.last = Some(address);
        false
    }

    /// Tells the rest of a minute that is over, also when nobody comes any more.
    pub(crate) fn tell_rest(&self, now: Instant) {
        let mut window = self.0.lock().expect("nothing panics while it is held");
        window.turn(now);
    }
}

impl StrangersWindow {
    fn turn(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) < REFUSALS_WINDOW {
            return;
        }
        self.since = now;
        self.written.clear();
        let more = std::mem::take(&mut self.more);
        if let Some(last) = self.last.take() {
            tracing::warn!(
                more, last = %last,
                "refused before a hello, and not written one by one"
            );
        }
    }
}

/// What a line repeats of something that a peer sent: its beginning.
pub(crate) fn clip(text: &str, chars_max: usize) -> &str {
    text.char_indices()
        .nth(chars_max)
        .map_or(text, |(end, _)| &text[..end])
}

struct Lines {
    file: Waiting,
    people: Waiting,
    colour: bool,
    host: String,
}

#[derive(Default)]
struct Fields {
    message: String,
    named: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(tame(&format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(tame(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

/// What somebody said, as it may stand in a log: what hides or reorders text, or is a control that
/// JSON lets pass, is written as its number.
fn tame(text: &str) -> String {
    let mut tame = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii() && hides(c) {
            let _ = write!(tame, "\\u{{{:X}}}", u32::from(c));
        } else {
            tame.push(c);
        }
    }
    tame
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
        } else {
            self.named.insert(field.name().to_owned(), value);
        }
    }

    /// Message and fields on one line; control characters never reach a terminal.
    fn line(&self) -> String {
        let mut line = self.message.clone();
        for (name, value) in &self.named {
            let _ = match value {
                Value::String(text) if !text.is_empty() && !text.contains([' ', '"']) => {
                    write!(line, " {name}={text}")
                }
                other => write!(line, " {name}={other}"),
            };
        }
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        // Libraries speak only when something is wrong with them.
        if !meta.target().starts_with("clawgate") && *meta.level() > Level::WARN {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = jiff::Timestamp::now();
        let time = format!("{time:.3}");
        let subsystem = subsystem(meta.target());
        let line = fields.line();
        self.to_people(meta.level(), &time, &subsystem, &line);
        self.to_file(*meta.level(), &time, &subsystem, &line, &fields);
    }
}

impl Lines {
    fn to_people(&self, level: &Level, time: &str, subsystem: &str, line: &str) {
        let colour = match *level {
            Level::ERROR => "31",
            Level::WARN => "33",
            _ => "2",
        };
        let text = if self.colour {
            format!(
                "\u{1b}[2m{time}\u{1b}[0m \u{1b}[{colour}m{level:>5}\u{1b}[0m [{subsystem}] {line}\n"
            )
        } else {
            format!("{time} {level:>5} [{subsystem}] {line}\n")
        };
        self.people.put(text);
    }

    fn to_file(&self, level: Level, time: &str, subsystem: &str, line: &str, fields: &Fields) {
        let name = json!({"subsystem": subsystem}).to_string();
        let record = json!({
            "0": name,
            "1": line,
            "_meta": {
                "runtime": "clawgate",
                "runtimeVersion": crate::VERSION,
                "hostname": self.host,
                "date": time,
                "logLevelId": level_id(level),
                "logLevelName": level.as_str(),
                "name": name,
            },
            "time": time,
            "level": level.as_str().to_ascii_lowercase(),
            "subsystem": subsystem,
            "message": fields.message,
            "fields": fields.named,
        });
        self.file.put(format!("{record}\n"));
    }
}

fn level_id(level: Level) -> u8 {
    match level {
        Level::TRACE => 1,
        Level::DEBUG => 2,
        Level::INFO => 3,
        Level::WARN => 4,
        Level::ERROR => 5,
    }
}

/// `clawgate_gateway::connection` is `gateway/connection`.
fn subsystem(target: &str) -> String {
    target.trim_start_matches("clawgate_").replace("::", "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_day_drops_and_counts_and_the_next_day_says_so() {
        let mut file = Capped {
            inner: Vec::new(),
            day: 1,
            bytes: DAY_BYTES_MAX - 10,
            dropped: 0,
        };
        for _ in 0..5 {
            file.line(1, b"12345678\n").unwrap();
        }
        let text = String::from_utf8(file.inner.clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("the file of this day is full"), "{text}");
        file.line(2, b"morning\n").unwrap();
        let text = String::from_utf8(file.inner).unwrap();
        assert!(text.contains("4 lines of the day before"), "{text}");
        assert!(text.ends_with("morning\n"), "{text}");
    }

    /// A writer that says when it was begun with, and goes on when it may.
    struct Gate {
        began: std::sync::mpsc::Sender<()>,
        go: std::sync::mpsc::Receiver<()>,
        text: Arc<Mutex<String>>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let _ = self.began.send(());
            let _ = self.go.recv();
            let text = std::str::from_utf8(line).unwrap();
            self.text.lock().unwrap().push_str(text);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_stands_still_holds_nobody_up_and_says_later_what_it_missed() {
        let (began, begun) = std::sync::mpsc::channel();
        let (open, go) = std::sync::mpsc::channel();
        let text = Arc::new(Mutex::new(String::new()));
        let gate = Gate {
            began,
            go,
            text: Arc::clone(&text),
        };
        let waiting = Waiting::for_writer("gate", gate, note_for_people).unwrap();
        waiting.put("first\n".to_owned());
        begun.recv_timeout(Duration::from_secs(10)).unwrap();
        for _ in 0..LINES_MAX + 3 {
            waiting.put("more\n".to_owned());
        }
        drop(open);
        let until = Instant::now() + Duration::from_secs(10);
        while !text.lock().unwrap().contains("3 lines were dropped") {
            assert!(Instant::now() < until, "{}", text.lock().unwrap().len());
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_waits_is_written_when_logging_ends() {
        let (began, _begun) = std::sync::mpsc::channel();
        let (open, go) = std::sync::mpsc::channel();
        drop(open);
        let text = Arc::new(Mutex::new(String::new()));
        let gate = Gate {
            began,
            go,
            text: Arc::clone(&text),
        };
        let waiting = Waiting::for_writer("gate", gate, note_for_people).unwrap();
        for number in 0..100 {
            waiting.put(format!("{number}\n"));
        }
        drop(LogGuard(vec![waiting]));
        assert!(text.lock().unwrap().ends_with("\n99\n"));
    }

    #[test]
    fn refusals_are_written_one_by_one_twenty_times_a_minute() {
        let start = Instant::now();
        let mut refusals = Refusals::of("c");
        let written =
            |refusals: &mut Refusals, at| (0..100).filter(|_| refusals.is_written(at)).count();
        assert_eq!(written(&mut refusals, start), 20);
        assert_eq!(refusals.more, 80);
        let later = start + REFUSALS_WINDOW + Duration::from_secs(1);
        assert_eq!(written(&mut refusals, later), 20);
    }

    #[test]
    fn refusals_before_a_hello_are_bounded_by_network_and_in_all() {
        let start = Instant::now();
        let strangers = Strangers::default();
        let written = |address: &str, times: u32, at| {
            let address = address.parse().unwrap();
            (0..times)
                .filter(|_| strangers.is_written(address, at))
                .count()
        };
        assert_eq!(written("203.0.113.7", 1_000, start), 20);
        // One network of the newer kind is one, whatever addresses it is given.
        let of_network: usize = (0..1_000)
            .map(|host| written(&format!("2001:db8::{host:x}"), 1, start))
            .sum();
        assert_eq!(of_network, 20);
        let of_many: usize = (0..250)
            .map(|host| written(&format!("198.51.100.{host}"), 10, start))
            .sum();
        assert_eq!(of_many, 160, "200 of all");
        assert!(strangers.0.lock().unwrap().written.len() <= 200);
        let later = start + REFUSALS_WINDOW + Duration::from_secs(1);
        assert_eq!(written("203.0.113.7", 1_000, later), 20);
        strangers.tell_rest(later + REFUSALS_WINDOW);
        assert_eq!(strangers.0.lock().unwrap().more, 0);
    }
}
