//! Closed loops: so many connections, so many requests of each in flight, for so long.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    error::BenchError,
    peer::{ANSWERED, Device},
    stats,
    wire::Wire,
};

/// How long a loop runs before it counts.
const WARM_UP: Duration = Duration::from_millis(100);

/// What a loop achieved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Finished in the counted time, per second.
    pub per_second: f64,
    /// Microseconds from sent to answered.
    pub p50_us: f64,
    /// The same, of the slowest hundredth.
    pub p99_us: f64,
    /// Finished in all, warm-up and all.
    pub finished: usize,
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
    counted: usize,
    finished: usize,
    micros: Vec<f64>,
}

impl Seen {
    fn finish(&mut self, span: Span, sent: Instant, now: Instant) {
        self.finished += 1;
        if span.counts(now) {
            self.counted += 1;
            self.micros.push((now - sent).as_secs_f64() * 1e6);
        }
    }

    fn merge(&mut self, other: Self) {
        self.counted += other.counted;
        self.finished += other.finished;
        self.micros.extend(other.micros);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn flow(mut self, counted_for: Duration) -> Flow {
        self.micros.sort_by(f64::total_cmp);
        Flow {
            per_second: self.counted as f64 / counted_for.as_secs_f64(),
            p50_us: stats::quantile(&self.micros, 0.5),
            p99_us: stats::quantile(&self.micros, 0.99),
            finished: self.finished,
        }
    }
}

/// Sends one request over and over on every wire, `window` of them in flight on each.
pub(crate) async fn rpc(
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
        seen.merge(of_wire);
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
pub(crate) async fn handshakes(
    address: SocketAddr,
    device: &Arc<Device>,
    in_flight: usize,
    counted_for: Duration,
) -> Result<Flow, BenchError> {
    let span = Span::starting_now(counted_for);
    let mut loops = JoinSet::new();
    for _ in 0..in_flight {
        let device = Arc::clone(device);
        loops.spawn(async move {
            let mut seen = Seen::default();
            loop {
                let began = Instant::now();
                if began >= span.to {
                    return Ok::<_, BenchError>(seen);
                }
                let wire = device.connect(address).await?;
                seen.finish(span, began, Instant::now());
                wire.close().await;
            }
        });
    }
    let mut seen = Seen::default();
    while let Some(ended) = loops.join_next().await {
        seen.merge(ended.map_err(|error| BenchError::Unexpected(error.to_string()))??);
    }
    Ok(seen.flow(counted_for))
}

/// Opens so many authenticated wires, a few at a time.
pub(crate) async fn open(
    address: SocketAddr,
    device: &Arc<Device>,
    wires: usize,
) -> Result<Vec<Wire>, BenchError> {
    const AT_ONCE: usize = 8;
    let mut opening = JoinSet::new();
    let mut opened = Vec::with_capacity(wires);
    for started in 0..wires {
        if started >= AT_ONCE {
            opened.push(joined(&mut opening).await?);
        }
        let device = Arc::clone(device);
        opening.spawn(async move { device.connect(address).await });
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
