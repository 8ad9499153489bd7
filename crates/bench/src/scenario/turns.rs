//! Turns: what the gateway adds to a provider's first word, a hundred at a time, and what ten
//! thousand of them leave behind in memory.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::{Bench, Subject};
use crate::{
    error::BenchError,
    load, peer,
    provider::{Provider, QUICK, SLOW},
    stats::{Bar, Row, Spread, Unit},
    wire::Wire,
};

/// Turns that are under way at a time.
const AT_ONCE: usize = 100;
/// Connections that ask for them: one has 64 requests under way at most.
const WIRES: usize = 4;
/// Times that so many are.
const WAVES: usize = 10;
/// Those that only warm it up: their turns find out how much memory a hundred take.
const WARM_UP: usize = 5;
/// When a wave is looked at: its turns take two seconds.
const MIDST: Duration = Duration::from_millis(1_200);
/// Time to put away what a wave took.
const SETTLED: Duration = Duration::from_millis(500);
/// Turns after which memory is looked at, and looked at again.
const EARLY: usize = 1_000;
const LATE: usize = 10_000;
/// Sessions of every second turn; the others are all in one.
const SESSIONS: usize = 50;
/// What the one says who has the first word, and the one who has the last one.
const FIRST_WORD: &str = r#""stream":"assistant""#;
const REFUSED: &str = r#"{"type":"res","id":"b","ok":false"#;

/// The first word, and a hundred at once.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let provider = Provider::start().await?;
    let subject = bench.gateway_with(&provider.config(AT_ONCE)).await?;
    let mut rows = first_words(bench, &subject, &provider).await?;
    rows.extend(at_once(&subject, &provider).await?);
    Ok(rows)
}

/// The ten thousand, on a gateway of their own.
pub(super) async fn many(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let provider = Provider::start().await?;
    let subject = bench.gateway_with(&provider.config(AT_ONCE)).await?;
    Ok(vec![one_after_another(&subject, &provider).await?])
}

async fn first_words(
    bench: &Bench,
    subject: &Subject,
    provider: &Provider,
) -> Result<Vec<Row>, BenchError> {
    let mut wire = subject.door().enter().await?;
    let mut number = 0;
    let mut both = Row::new("first word of a turn (floor: asked alone)", Unit::Millis);
    let mut added = Row::new("the same, beyond asking alone", Unit::Millis).bar(Bar::AtMost(5.0));
    // The first turn makes the workspace and the client of models.
    turn(&mut wire, QUICK, "first", "first").await?;
    for _ in 0..bench.runs {
        let mut alone = Vec::new();
        let mut direct = provider.direct().await?;
        let until = Instant::now() + bench.leg / 2;
        while Instant::now() < until {
            alone.push(direct.first_word_ms().await?);
        }
        let mut through = Vec::new();
        let until = Instant::now() + bench.leg;
        while Instant::now() < until {
            number += 1;
            let (session, run) = (format!("first-{}", number % 10), format!("first-{number}"));
            through.push(turn(&mut wire, QUICK, &session, &run).await?);
        }
        let (alone, through) = (Spread::of(&alone).median, Spread::of(&through).median);
        both.pair(alone, through);
        added.subject.push(through - alone);
    }
    wire.close().await;
    Ok(vec![both, added])
}

/// Asks for a turn and waits for its end. Milliseconds to its first word.
pub(super) async fn turn(
    wire: &mut Wire,
    model: &str,
    session: &str,
    run: &str,
) -> Result<f64, BenchError> {
    let params = json!({
        "message": "And what is that?",
        "sessionKey": format!("agent:main:bench-{session}"),
        "idempotencyKey": run,
        "model": format!("bench/{model}"),
    });
    let began = Instant::now();
    wire.send(&peer::request("agent", Some(&params.to_string())))
        .await?;
    let mut first = None;
    let mut answers = 0;
    // It is answered twice: accepted, and done.
    while answers < 2 {
        let message = wire.message().await?;
        if first.is_none() && message.contains(FIRST_WORD) {
            first = Some(began.elapsed());
        }
        if message.starts_with(REFUSED) {
            return Err(BenchError::Unexpected(format!("a turn failed: {message}")));
        }
        answers += usize::from(message.starts_with(peer::ANSWERED));
    }
    let first = first.ok_or_else(|| {
        BenchError::Unexpected("a turn ended without having said a word".to_owned())
    })?;
    Ok(first.as_secs_f64() * 1e3)
}

async fn at_once(subject: &Subject, provider: &Provider) -> Result<Vec<Row>, BenchError> {
    let mut wires = load::open(&subject.door(), WIRES).await?;
    let mut held = Row::new("memory a turn, the first 100 at once", Unit::Kilobytes);
    let mut resident = Vec::with_capacity(WAVES);
    for wave in 0..WAVES {
        let before = subject.server.memory()?.resident;
        let mut asking = JoinSet::new();
        for (place, wire) in wires.drain(..).enumerate() {
            asking.spawn(part_of_wave(wire, wave, place));
        }
        tokio::time::sleep(MIDST).await;
        let midst = subject.server.memory()?.resident;
        while let Some(ended) = asking.join_next().await {
            wires.push(ended.map_err(|died| BenchError::Unexpected(died.to_string()))??);
        }
        tokio::time::sleep(SETTLED).await;
        resident.push(subject.server.memory()?.resident);
        if wave == 0 {
            #[expect(clippy::cast_precision_loss, reason = "a hundred")]
            held.subject.push((midst - before) / AT_ONCE as f64 / 1e3);
        }
    }
    if provider.at_once() < AT_ONCE {
        return Err(BenchError::Unexpected(format!(
            "{} turns were under way at a time, not {AT_ONCE}",
            provider.at_once()
        )));
    }
    let mut grown =
        Row::new("memory grown by 5 more times 100 turns", Unit::Megabytes).bar(Bar::AtMost(2.0));
    grown
        .subject
        .push((resident[WAVES - 1] - resident[WARM_UP - 1]) / 1e6);
    Ok(vec![held, grown])
}

/// The turns of one connection, all under way together, to their ends.
async fn part_of_wave(mut wire: Wire, wave: usize, place: usize) -> Result<Wire, BenchError> {
    let turns = AT_ONCE / WIRES;
    let mut requests = Vec::new();
    for number in 0..turns {
        let params = json!({
            "message": "And what is that?",
            "sessionKey": format!("agent:main:bench-wave-{wave}-{place}-{number}"),
            "idempotencyKey": format!("wave-{wave}-{place}-{number}"),
            "model": format!("bench/{SLOW}"),
        });
        requests.extend(peer::request("agent", Some(&params.to_string())));
    }
    wire.send(&requests).await?;
    let mut answers = 0;
    while answers < 2 * turns {
        answers += wire.answers(peer::ANSWERED.as_bytes()).await?;
    }
    Ok(wire)
}

async fn one_after_another(subject: &Subject, provider: &Provider) -> Result<Row, BenchError> {
    let mut wire = subject.door().enter().await?;
    let asked = provider.asked();
    let mut early = 0.0;
    for number in 1..=LATE {
        let session = match number % 2 {
            0 => "long".to_owned(),
            _ => format!("many-{}", number / 2 % SESSIONS),
        };
        turn(&mut wire, QUICK, &session, &format!("row-{number}")).await?;
        if number == EARLY {
            tokio::time::sleep(SETTLED).await;
            early = subject.server.memory()?.resident;
        }
    }
    tokio::time::sleep(SETTLED).await;
    let late = subject.server.memory()?.resident;
    wire.close().await;
    if provider.asked() - asked < LATE {
        return Err(BenchError::Unexpected(
            "not every turn asked the model".to_owned(),
        ));
    }
    let mut grown =
        Row::new("memory grown, turn 1,000 to 10,000", Unit::Megabytes).bar(Bar::AtMost(10.0));
    grown.subject.push((late - early) / 1e6);
    Ok(grown)
}
