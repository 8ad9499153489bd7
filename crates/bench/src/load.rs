//! Closed loops: so many connections, so many requests of each in flight, for so long.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    error::BenchError,
    histogram::Histogram,
    peer::{ANSWERED, Door},
    wire::Wire,
};

/// How long a loop runs before it counts.
const WARM_UP: Duration = Duration::from_millis(100);

/// What a loop achieved.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Finished in the counted time, per second.
    pub per_second: f64,
    /// From sent to answered, those of the counted time.
    pub took: Histogram,
    /// Finished in all, warm-up and all.
    pub finished: usize,
    /// Loops that went on side by side.
    pub loops: usize,
    /// Finished in the counted time by the loop that finished least.
    pub least: u64,
}

impl Flow {
    /// What the slowest loop finished, of what each would have if all finished as much.
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    pub fn least_share(&self) -> f64 {
        let fair = self.took.many() as f64 / self.loops.max(1) as f64;
        if fair > 0.0 {
            self.least as f64 / fair
        } else {
            0.0
        }
    }

    /// Microseconds from sent to answered.
    pub fn p50_us(&self) -> f64 {
        self.took.quantile_us(0.5)
    }

    /// The same, of the slowest hundredth.
    pub fn p99_us(&self) -> f64 {
        self.took.quantile_us(0.99)
    }
}

/// When to count and when to end.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    to: Instant,
}

impl Span {
    fn starting_now(counted: Duration) -> Self {
        let from = Instant::now() + WARM_UP;
        Self {
            from,
            to: from + counted,
        }
    }

    fn counts(&self, at: Instant) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// What one loop of several saw.
#[derive(Debug, Default)]
struct Seen {
    finished: usize,
    took: Histogram,
    loops: usize,
    least: Option<u64>,
}

impl Seen {
    fn finish(&mut self, span: Span, sent: Instant, now: Instant) {
        self.finished += 1;
        if span.counts(now) {
            self.took.count(now - sent);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.finished += other.finished;
        self.took.add(&other.took);
        self.loops += 1;
        let finished = other.took.many();
        self.least = Some(self.least.map_or(finished, |least| least.min(finished)));
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn flow(self, counted_for: Duration) -> Flow {
        Flow {
            per_second: self.took.many() as f64 / counted_for.as_secs_f64(),
            took: self.took,
            finished: self.finished,
            loops: self.loops,
            least: self.least.unwrap_or_default(),
        }
    }
}

/// Sends one request over and over on every wire, `window` of them in flight on each.
pub async fn rpc(
    wires: &mut Vec<Wire>,
    request: &[u8],
    window: usize,
    counted_for: Duration,
) -> Result<Flow, BenchError> {
    let span = Span::starting_now(counted_for);
    let frames: Arc<[u8]> = request.repeat(window).into();
    let mut loops = JoinSet::new();
    for wire in wires.drain(..) {
        loops.spawn(one_wire(wire, Arc::clone(&frames), window, span));
    }
    let mut seen = Seen::default();
    while let Some(ended) = loops.join_next().await {
        let (wire, of_wire) =
            ended.map_err(|error| BenchError::Unexpected(error.to_string()))??;
        wires.push(wire);
        seen.merge(&of_wire);
    }
    Ok(seen.flow(counted_for))
}

async fn one_wire(
    mut wire: Wire,
    frames: Arc<[u8]>,
    window: usize,
    span: Span,
) -> Result<(Wire, Seen), BenchError> {
    let frame_bytes = frames.len() / window;
    let mut seen = Seen::default();
    // What is measured here is answered in order, so the oldest request is the one answered.
    let mut sent: VecDeque<Instant> = std::iter::repeat_n(Instant::now(), window).collect();
    wire.send(&frames).await?;
    while !sent.is_empty() {
        let answered = wire.answers(ANSWERED.as_bytes()).await?;
        let now = Instant::now();
        for at in sent.drain(..answered.min(window)) {
            seen.finish(span, at, now);
        }
        if now < span.to {
            sent.extend(std::iter::repeat_n(now, answered));
            wire.send(&frames[..answered * frame_bytes]).await?;
        }
    }
    Ok((wire, seen))
}

/// Connects over and over, `in_flight` at a time, and leaves after each hello.
pub async fn handshakes(
    door: &Door,
    in_flight: usize,
    counted_for: Duration,
) -> Result<Flow, BenchError> {
    let span = Span::starting_now(counted_for);
    let mut loops = JoinSet::new();
    for _ in 0..in_flight {
        let door = door.clone();
        loops.spawn(async move {
            let mut seen = Seen::default();
            loop {
                let began = Instant::now();
                if began >= span.to {
                    return Ok::<_, BenchError>(seen);
                }
                let wire = door.enter().await?;
                seen.finish(span, began, Instant::now());
                wire.close().await;
            }
        });
    }
    let mut seen = Seen::default();
    while let Some(ended) = loops.join_next().await {
        seen.merge(&ended.map_err(|error| BenchError::Unexpected(error.to_string()))??);
    }
    Ok(seen.flow(counted_for))
}

/// Opens so many authenticated wires, a few at a time.
pub async fn open(door: &Door, wires: usize) -> Result<Vec<Wire>, BenchError> {
    const AT_ONCE: usize = 8;
    let mut opening = JoinSet::new();
    let mut opened = Vec::with_capacity(wires);
    for started in 0..wires {
        if started >= AT_ONCE {
            opened.push(joined(&mut opening).await?);
        }
        let door = door.clone();
        opening.spawn(async move { door.enter().await });
    }
    while opened.len() < wires {
        opened.push(joined(&mut opening).await?);
    }
    Ok(opened)
}

async fn joined(opening: &mut JoinSet<Result<Wire, BenchError>>) -> Result<Wire, BenchError> {
    match opening.join_next().await {
        Some(Ok(opened)) => opened,
        Some(Err(error)) => Err(BenchError::Unexpected(error.to_string())),
        None => Err(BenchError::Unexpected("nothing is being opened".to_owned())),
    }
}
