//! The log: JSON lines in a file that rolls daily, and lines for people on standard error.
//!
//! Both go through bounded queues that drop and count when full, so that a full disk or a reader
//! that stands still never holds up the gateway. A file line has the keys of the original's log, so
//! that its clients show it, and every field by name.

use std::{
    fmt::{self, Write as _},
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_appender::{
    non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard},
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::{
    Layer, layer::Context, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Lines that wait for a writer at most; more are dropped and counted.
const LINES_MAX: usize = 16_384;
/// Daily files kept.
const FILES_MAX: usize = 14;
const PREFIX: &str = "clawgate";
const SUFFIX: &str = "log";

/// Flushes what waits when it goes.
#[derive(Debug)]
pub(crate) struct LogGuard(#[expect(dead_code, reason = "held for its drop")] Vec<WorkerGuard>);

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
    let bounded = || {
        NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_MAX)
            .lossy(true)
    };
    let (file, file_guard) = bounded().thread_name("log-file").finish(file);
    let (people, people_guard) = bounded()
        .thread_name("log-people")
        .finish(std::io::stderr());
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
    Ok(LogGuard(vec![file_guard, people_guard]))
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

struct Lines {
    file: NonBlocking,
    people: NonBlocking,
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
        let text = format!("{value:?}");
        self.put(field, Value::from(text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
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
        let _ = self.people.clone().write_all(text.as_bytes());
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
        let _ = self
            .file
            .clone()
            .write_all(format!("{record}\n").as_bytes());
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
