//! Connections that merely sit there: what they hold, and what they cost others.

use std::{sync::Arc, time::Duration};

use super::Bench;
use crate::{
    error::BenchError,
    load,
    peer::{self, Device},
    process::Server,
    stats::{Bar, Row, Unit},
    wire::Wire,
};

const CONNECTIONS: usize = 1_000;
/// Time for a server to put away what a burst of connects took.
const SETTLED: Duration = Duration::from_millis(300);
/// Requests in flight on the active connection.
const WINDOW: usize = 16;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut held =
        Row::new("memory a connection, 1,000 idle", Unit::Kilobytes).target(Bar::AtMost(20.0));
    let mut beside = Row::new("health beside 1,000 idle (floor: alone)", Unit::PerSecond)
        .target(Bar::RatioAtLeast(0.95));
    let request = peer::request("health", None);
    for _ in 0..bench.runs {
        let subject = bench.gateway().await?;
        let floor = Server::floor(0)?;
        let (floor_kb, idle) = sit(&floor, &subject.device).await?;
        drop(idle);
        drop(floor);
        let mut active = load::open(subject.server.address, &subject.device, 1).await?;
        let alone = load::rpc(&mut active, &request, WINDOW, bench.leg).await?;
        let (kb, idle) = sit(&subject.server, &subject.device).await?;
        let crowded = load::rpc(&mut active, &request, WINDOW, bench.leg).await?;
        drop(idle);
        held.pair(floor_kb, kb);
        beside.pair(alone.per_second, crowded.per_second);
    }
    Ok(vec![held, beside])
}

/// Opens the connections and says what each made the server hold, in kilobytes.
async fn sit(server: &Server, device: &Arc<Device>) -> Result<(f64, Vec<Wire>), BenchError> {
    let before = server.memory()?.resident;
    let idle = load::open(server.address, device, CONNECTIONS).await?;
    tokio::time::sleep(SETTLED).await;
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let each = (server.memory()?.resident - before) / idle.len() as f64;
    Ok((each / 1e3, idle))
}
