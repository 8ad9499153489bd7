//! Full connects: TCP, upgrade, challenge, Ed25519 proof of a paired device, hello-ok, goodbye.

use super::Bench;
use crate::{
    error::BenchError,
    measure,
    stats::{Bar, Row, Unit},
};

const IN_FLIGHT: usize = 8;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let subject = bench.gateway().await?;
    let row = Row::new("handshakes, 8 in flight", Unit::PerSecond).bar(Bar::RatioAtLeast(0.5));
    let row = measure::connects(&bench.pace(), &subject.side(), IN_FLIGHT, row).await?;
    Ok(vec![row])
}
