//! Full connects: TCP, upgrade, challenge, Ed25519 proof of a paired device, hello-ok, goodbye.

use super::{Bench, rpc::Meter};
use crate::{
    error::BenchError,
    load,
    process::Server,
    stats::{Bar, Row, Unit},
};

const IN_FLIGHT: usize = 8;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let subject = bench.gateway().await?;
    let floor = Server::floor(0)?;
    let mut meter = Meter::default();
    for _ in 0..bench.runs {
        for server in [&floor, &subject.server] {
            let began = meter.begin(server);
            let flow =
                load::handshakes(server.address, &subject.device, IN_FLIGHT, bench.leg).await?;
            meter.end(server, &began, flow);
        }
    }
    let row = Row::new("handshakes, 8 in flight", Unit::PerSecond).bar(Bar::RatioAtLeast(0.5));
    Ok(vec![meter.row(row)])
}
