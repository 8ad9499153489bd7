//! A million messages: pages, lists and searches against a gateway with few of them, and what a start
//! and its memory make of a large database.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clawgate_store::{NewEntry, Session, Store, StoreError, Used};
use serde_json::json;

use super::{Bench, Subject};
use crate::{
    error::BenchError,
    load,
    measure::timed_start,
    peer,
    stats::{Bar, Row, Unit},
    wire::Wire,
};

/// Messages of the conversation that is long, and of the one that is short on both sides.
const LONG: u32 = 100_000;
const SHORT: u32 = 20;
/// Messages of one transaction while a state is laid down.
const AT_ONCE: u32 = 5_000;
/// When memory is looked at after a start.
const SETTLED: Duration = Duration::from_secs(2);
/// Pages that memory may grow by.
const PAGES: u32 = 100;
const PAGE: u32 = 200;
/// Keys of the conversations that are asked for.
const LONG_KEY: &str = "agent:main:bench-long";
const SHORT_KEY: &str = "agent:main:bench-short";
/// What a state directory holds.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Conversations besides the two that are asked for.
    others: u32,
    /// Messages of each of them.
    of_each: u32,
    /// Messages of the long one.
    long: u32,
}

/// A million messages.
const MANY: Shape = Shape {
    others: 1_998,
    of_each: 451,
    long: LONG,
};
/// As few as still fill the same pages.
const FEW: Shape = Shape {
    others: 1_098,
    of_each: 2,
    long: 300,
};

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut few = laid_down(bench, FEW).await?;
    let mut many = laid_down(bench, MANY).await?;
    let (mut few_wires, mut many_wires) = (
        load::open(&few.door(), 1).await?,
        load::open(&many.door(), 1).await?,
    );
    let mut rows = Vec::new();
    for (name, method, params) in asked() {
        let mut row = Row::new(name, Unit::Millis).target(Bar::RatioAtMost(1.25));
        let request = peer::request(method, Some(&params));
        for wires in [&mut few_wires, &mut many_wires] {
            let Some(wire) = wires.first_mut() else {
                continue;
            };
            peer::answer(wire, method, Some(&params)).await?;
        }
        for _ in 0..bench.runs {
            let floor = load::rpc(&mut few_wires, &request, 1, bench.leg).await?;
            let flow = load::rpc(&mut many_wires, &request, 1, bench.leg).await?;
            row.pair(floor.p50_us() / 1e3, flow.p50_us() / 1e3);
        }
        rows.push(row);
    }
    drop((few_wires, many_wires));
    rows.extend(started(bench, &mut few, &mut many).await?);
    Ok(rows)
}

/// A start, the memory after it, and what a walk through the long conversation adds to that.
async fn started(
    bench: &Bench,
    few: &mut Subject,
    many: &mut Subject,
) -> Result<[Row; 4], BenchError> {
    let mut start = Row::new("start with 1,000,000 messages (floor: few)", Unit::Millis)
        .target(Bar::AtMost(25.0));
    for _ in 0..bench.runs {
        let few_ms = again(few).await?;
        start.pair(few_ms, again(many).await?);
    }
    tokio::time::sleep(SETTLED).await;
    let mut resident = Row::new("memory with them, 2 s on (floor: few)", Unit::Megabytes)
        .target(Bar::RatioAtMost(1.05));
    let rested = many.server.memory()?.resident;
    resident.pair(few.server.memory()?.resident / 1e6, rested / 1e6);
    let mut grown = Row::new("memory grown by 100 pages of them", Unit::Megabytes);
    let mut further =
        Row::new("memory grown by 100 further pages", Unit::Megabytes).target(Bar::AtMost(1.0));
    let mut before = rested;
    let mut wire = many.door().enter().await?;
    for (row, first) in [(&mut grown, 0), (&mut further, PAGES)] {
        walk(&mut wire, first).await?;
        let after = many.server.memory()?.resident;
        row.subject.push((after - before) / 1e6);
        before = after;
    }
    wire.close().await;
    Ok([start, resident, grown, further])
}

/// Milliseconds of a start on a state that is there.
async fn again(subject: &mut Subject) -> Result<f64, BenchError> {
    subject.server.end();
    let (ms, server) = timed_start(|| subject.home.start(), &subject.device).await?;
    subject.server = server;
    Ok(ms)
}

/// What is asked for, and what it is called in the table.
fn asked() -> Vec<(&'static str, &'static str, String)> {
    let history = |key: &str, offset: u32| json!({"sessionKey": key, "offset": offset}).to_string();
    let keys: Vec<String> = (0..10).map(key_of).collect();
    let search = |word: &str| json!({"query": word}).to_string();
    vec![
        (
            "chat.history, newest 200 of 100,000",
            "chat.history",
            history(LONG_KEY, 0),
        ),
        (
            "chat.history, 20 of 20",
            "chat.history",
            history(SHORT_KEY, 0),
        ),
        (
            "sessions.list, 1,000 sessions",
            "sessions.list",
            json!({}).to_string(),
        ),
        (
            "sessions.list, 50 sessions",
            "sessions.list",
            json!({"limit": 50}).to_string(),
        ),
        (
            "sessions.preview of 10",
            "sessions.preview",
            json!({"keys": keys, "limit": 2}).to_string(),
        ),
        (
            "sessions.search, 10 of 10 messages",
            "sessions.search",
            search("seldom"),
        ),
        (
            "sessions.search, 10 of 500,000 messages",
            "sessions.search",
            search("often"),
        ),
    ]
}

/// Reads a part of the long conversation backwards, page by page.
async fn walk(wire: &mut Wire, first: u32) -> Result<(), BenchError> {
    for page in first..first + PAGES {
        let params = json!({"sessionKey": LONG_KEY, "offset": page * PAGE, "limit": PAGE});
        peer::answer(wire, "chat.history", Some(&params.to_string())).await?;
    }
    Ok(())
}

fn key_of(number: u32) -> String {
    format!("agent:main:bench-{number}")
}

/// A gateway that runs on a state of this shape.
async fn laid_down(bench: &Bench, shape: Shape) -> Result<Subject, BenchError> {
    // Keys and configuration are the gateway's own matter; the rows are laid down while it is away.
    let mut subject = bench.gateway().await?;
    subject.server.end();
    lay_down(&subject.home.database(), shape)
        .await
        .map_err(|error| BenchError::Unexpected(error.to_string()))?;
    again(&mut subject).await?;
    Ok(subject)
}

async fn lay_down(database: &Path, shape: Shape) -> Result<(), StoreError> {
    let store = Store::open(database)?;
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let others = (0..shape.others).map(|number| (key_of(number), shape.of_each));
    let asked_for = [
        (LONG_KEY.to_owned(), shape.long),
        (SHORT_KEY.to_owned(), SHORT),
    ];
    let mut waiting: Vec<(String, u32)> = Vec::new();
    let mut rows = 0;
    for (key, messages) in others.chain(asked_for) {
        rows += messages;
        waiting.push((key, messages));
        if rows >= AT_ONCE {
            write(&store, std::mem::take(&mut waiting), now_ms).await?;
            rows = 0;
        }
    }
    write(&store, waiting, now_ms).await?;
    // Whoever closes waits for the disk.
    tokio::task::spawn_blocking(move || store.close())
        .await
        .map_err(|_| StoreError::Closed)
}

async fn write(
    store: &Store,
    conversations: Vec<(String, u32)>,
    now_ms: i64,
) -> Result<(), StoreError> {
    store
        .write("laying down conversations", move |tx| {
            for (key, messages) in conversations {
                let session_id = format!("{}-id", key.rsplit(':').next().unwrap_or_default());
                tx.keep_session(&Session {
                    entry: json!({"sessionId": session_id, "updatedAt": now_ms}).to_string(),
                    names: key.clone(),
                    agent_id: "main".to_owned(),
                    session_id: session_id.clone(),
                    kind: "direct".to_owned(),
                    is_run: false,
                    label: None,
                    spawned_by: None,
                    archived_at_ms: None,
                    created_at_ms: now_ms,
                    updated_at_ms: now_ms,
                    key: key.clone(),
                })?;
                let mut of = tx.begin_transcript("main", &session_id, &key, None, now_ms)?;
                // A message every half a minute, the last one now.
                let first_ms = now_ms - i64::from(messages) * 30_000;
                for number in 0..messages {
                    let at_ms = first_ms + i64::from(number) * 30_000;
                    // A word of as many messages on both sides, and one of every other message.
                    let word = if key == SHORT_KEY { "seldom" } else { "often" };
                    tx.append(&mut of, &message(number, at_ms, word))?;
                }
            }
            Ok(())
        })
        .await
}

/// A message of a person or an answer, about 200 characters either.
fn message(number: u32, at_ms: i64, word: &str) -> NewEntry {
    // A walk through some thousands of words that is the same each time.
    let mut seed = number.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut words: Vec<String> = (0..24)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            format!("word{}", seed % 4_096)
        })
        .collect();
    let is_user = number.is_multiple_of(2);
    if is_user {
        words.push(word.to_owned());
    }
    let text = words.join(" ");
    let content = json!([{"type": "text", "text": text}]);
    let message = if is_user {
        json!({"role": "user", "content": content, "timestamp": at_ms})
    } else {
        json!({
            "role": "assistant", "content": content, "timestamp": at_ms, "stopReason": "stop",
            "api": "openai-completions", "provider": "bench", "model": "bench",
            "usage": {"input": 900, "output": 60, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 960},
        })
    };
    NewEntry {
        id: format!("{number:08x}"),
        kind: "message".to_owned(),
        role: Some(if is_user { "user" } else { "assistant" }.to_owned()),
        at_ms,
        body: message.to_string(),
        text: Some(text),
        provider: (!is_user).then(|| "bench".to_owned()),
        model: (!is_user).then(|| "bench".to_owned()),
        used: (!is_user).then(|| Used {
            input: 900,
            output: 60,
            tokens: 960,
            ..Used::default()
        }),
        ..NewEntry::default()
    }
}
