//! `logs`: the tail of the gateway's log, and what comes after it.

use std::time::Duration;

use clap::Args;
use clawgate_protocol::system::{LogsTail, LogsTailParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Context, SLOW_MS, read};
use crate::{
    app::ConnectArgs,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Output, Tone, one_line, reader_gone},
    session::Link,
    words,
};

/// `logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Lines at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    limit: u32,
    /// Bytes at most
    #[arg(long, value_name = "N", default_value_t = 250_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_bytes: u32,
    /// Go on with what is written from now on
    #[arg(long, short)]
    follow: bool,
    /// How often to look, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..))]
    interval: u32,
    /// Nothing but text: full times, no colours
    #[arg(long)]
    plain: bool,
    /// Times in this machine's zone
    #[arg(long)]
    local_time: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Reconnects in a row before `--follow` gives up.
const RETRIES_MAX: u32 = 5;

pub(crate) async fn run(context: &Context, args: &LogsArgs) -> CommandResult {
    if !args.follow {
        return follow(context, args).await;
    }
    tokio::select! {
        ended = follow(context, args) => ended,
        // `logs --follow | head` ends with its reader, also when nothing more is logged.
        () = reader_gone() => Ok(Exit::Ok),
    }
}

/// Where a reader of the log is, and how the road there is.
#[derive(Debug, Default)]
struct Progress {
    /// Where the next tail begins; nothing before the first.
    cursor: Option<u64>,
    /// Connections in a row that ended before a tail.
    failures: u32,
}

async fn follow(context: &Context, args: &LogsArgs) -> CommandResult {
    let mut progress = Progress::default();
    loop {
        match tail(context, args, &mut progress).await {
            Ok(()) => return Ok(Exit::Ok),
            // A gateway that restarts is worth waiting for, but only once it was there.
            Err(error)
                if args.follow
                    && progress.cursor.is_some()
                    && progress.failures < RETRIES_MAX
                    && error.code() != CommandError::OUTPUT
                    && matches!(error.exit(), Exit::Unreachable | Exit::Internal) =>
            {
                progress.failures += 1;
                let (time, of) = (progress.failures, RETRIES_MAX);
                let message = format!("the gateway went away; trying again ({time} of {of})");
                notice(context.output, args, &message)?;
                sleep(Duration::from_secs(1 << progress.failures.min(4))).await;
            }
            Err(error) => return Err(error.in_log_form()),
        }
    }
}

/// One connection's worth: one tail, or with `--follow` tails until the connection ends.
async fn tail(context: &Context, args: &LogsArgs, progress: &mut Progress) -> CommandResult<()> {
    let output = context.output;
    let link = Link::open(context, &args.connect, SLOW_MS, &["logs.tail"]).await?;
    loop {
        let params = LogsTailParams {
            cursor: progress.cursor,
            limit: usize::try_from(args.limit).ok(),
            max_bytes: Some(u64::from(args.max_bytes)),
        };
        let params = serde_json::to_value(params).unwrap_or_default();
        let answer = link.call("logs.tail", Some(&params)).await?;
        let tail: LogsTail = read("logs.tail", &answer)?;
        progress.failures = 0;
        let first = progress.cursor.is_none();
        if first && args.connect.json {
            output.json_line(&json!({
                "type": "meta", "file": tail.file, "cursor": tail.cursor, "size": tail.size,
            }))?;
        } else if first {
            output.line(output.paint(Tone::Dim, format!("log file: {}", one_line(&tail.file))))?;
        }
        for line in &tail.lines {
            let record = Record::parse(line);
            if args.connect.json {
                output.json_line(&record.to_json(line))?;
            } else {
                output.line(record.words(output, args, line))?;
            }
        }
        // A first tail is a part by its nature; people know that, scripts are told.
        if tail.truncated && (args.connect.json || !first) {
            let message = "some lines were left out (raise --max-bytes or --limit)";
            notice(output, args, message)?;
        }
        if tail.reset && !first {
            notice(output, args, "the log began anew")?;
        }
        progress.cursor = Some(tail.cursor);
        if !args.follow {
            link.close().await;
            return Ok(());
        }
        sleep(Duration::from_millis(u64::from(args.interval))).await;
    }
}

fn notice(output: Output, args: &LogsArgs, message: &str) -> CommandResult<()> {
    if args.connect.json {
        return output.json_line(&json!({"type": "notice", "message": message}));
    }
    output.note(message);
    Ok(())
}

/// One line of the log, as far as it is understood.
#[derive(Debug, Default, PartialEq)]
struct Record {
    time: String,
    level: String,
    subsystem: Option<String>,
    module: Option<String>,
    message: Option<String>,
}

impl Record {
    /// Reads the original's records (`_meta`, numbered arguments) and ours (`time`, `level`,
    /// `subsystem` or `target`, `message`).
    fn parse(line: &str) -> Self {
        let Ok(Value::Object(record)) = serde_json::from_str(line) else {
            return Self::default();
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(ToOwned::to_owned);
        let meta = record.get("_meta");
        let member = |name: &str| text(meta.and_then(|meta| meta.get(name)));
        let names = member("name").or_else(|| text(record.get("0")));
        let names: Value = names
            .and_then(|names| serde_json::from_str(&names).ok())
            .unwrap_or(Value::Null);
        let fields = record.get("fields");
        let numbered: Vec<String> = (0..10)
            .filter_map(|at: u8| record.get(&at.to_string()))
            .filter(|value| {
                // The logger's own name is no part of the message.
                value
                    .as_str()
                    .is_none_or(|text| !text.starts_with("{\"subsystem\""))
            })
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), ToOwned::to_owned)
            })
            .collect();
        // The numbered arguments are the whole line; `message` may be its beginning only.
        let message = (!numbered.is_empty())
            .then(|| numbered.join(" "))
            .or_else(|| text(record.get("message")))
            .or_else(|| text(fields.and_then(|fields| fields.get("message"))))
            .or_else(|| text(record.get("msg")));
        Self {
            time: text(record.get("time"))
                .or_else(|| text(record.get("timestamp")))
                .or_else(|| text(record.get("ts")))
                .or_else(|| member("date"))
                .unwrap_or_default(),
            level: text(record.get("level"))
                .or_else(|| member("logLevelName"))
                .unwrap_or_default()
                .to_ascii_lowercase(),
            subsystem: text(record.get("subsystem"))
                .or_else(|| text(record.get("target")))
                .or_else(|| text(names.get("subsystem"))),
            module: text(record.get("module")).or_else(|| text(names.get("module"))),
            message,
        }
    }

    fn to_json(&self, raw: &str) -> Value {
        let Some(message) = &self.message else {
            return json!({"type": "raw", "raw": raw});
        };
        let mut value = json!({"type": "log", "time": self.time, "level": self.level});
        if let Some(subsystem) = &self.subsystem {
            value["subsystem"] = subsystem.as_str().into();
        }
        if let Some(module) = &self.module {
            value["module"] = module.as_str().into();
        }
        value["message"] = message.as_str().into();
        value["raw"] = raw.into();
        value
    }

    fn words(&self, output: Output, args: &LogsArgs, raw: &str) -> String {
        let Some(message) = &self.message else {
            return one_line(raw);
        };
        let time = if args.local_time {
            let at = self
                .time
                .parse::<jiff::Timestamp>()
                .map(jiff::Timestamp::as_millisecond);
            at.map_or_else(|_| self.time.clone(), words::local)
        } else if output.has_color() && !args.plain {
            self.time.get(11..19).unwrap_or(&self.time).to_owned()
        } else {
            self.time.clone()
        };
        let subsystem = self.subsystem.as_deref().unwrap_or("-");
        let message = one_line(message);
        if args.plain {
            return one_line(&format!("{time} {} {subsystem} {message}", self.level));
        }
        let tone = match self.level.as_str() {
            "error" | "fatal" => Tone::Bad,
            "warn" => Tone::Warn,
            _ => Tone::Dim,
        };
        format!(
            "{} {} {} {message}",
            output.paint(Tone::Dim, one_line(&time)),
            output.paint(tone, format!("{:<5}", one_line(&self.level))),
            output.paint(Tone::Bold, one_line(subsystem)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_both_gateways_are_read() {
        let theirs = r#"{"0":"{\"subsystem\":\"gateway\"}","1":"ready pid=1","_meta":{"logLevelName":"INFO","name":"{\"subsystem\":\"gateway\"}","date":"2026-11-23T02:07:33.279Z"}}"#;
        let record = Record::parse(theirs);
        assert_eq!(record.subsystem.as_deref(), Some("gateway"));
        assert_eq!(record.message.as_deref(), Some("ready pid=1"));
        assert_eq!(
            (record.level.as_str(), record.time.as_str()),
            ("info", "2026-11-23T02:07:33.279Z")
        );
        let ours = r#"{"time":"2026-11-24T00:00:00Z","level":"WARN","subsystem":"auth","message":"refused"}"#;
        let record = Record::parse(ours);
        assert_eq!(record.level, "warn");
        assert_eq!(record.message.as_deref(), Some("refused"));
        let raw = Record::parse("not json").to_json("not json");
        assert_eq!(raw, json!({"type": "raw", "raw": "not json"}));
    }
}
