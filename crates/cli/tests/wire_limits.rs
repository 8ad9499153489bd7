//! What one peer can take of the gateway: time, sockets, writes, lines of the log.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use clawgate_testkit::{Close, Frame, Opcode, TOKEN, gateway};
use serde_json::json;

#[test]
fn a_flood_of_pings_escapes_neither_the_deadline_nor_leaves_others_waiting() {
    let gateway = gateway!(json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "handshakeTimeoutMs": 1_000,
    }}));
    let pings = Frame::new(Opcode::Ping, "").bytes().repeat(10_000);
    let mut flooding = Vec::new();
    // One for each of the gateway's threads and more.
    for _ in 0..6 {
        let mut client = gateway.client();
        let mut writer = client.socket.writer();
        writer
            .set_write_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let pings = pings.clone();
        let writing = std::thread::spawn(move || while writer.write_all(&pings).is_ok() {});
        // The pongs are read, so that nothing holds the flood back.
        let reading = std::thread::spawn(move || client.closed());
        flooding.push((writing, reading));
    }
    let before = Instant::now();
    let mut other = gateway.owner(4);
    for _ in 0..20 {
        other.call("health", &json!({}));
    }
    assert!(
        before.elapsed() < Duration::from_secs(8),
        "{:?}",
        before.elapsed()
    );
    for (writing, reading) in flooding {
        let close = reading.join().unwrap();
        // What the flood left unread may turn the end into a reset.
        assert!(
            close == Close::new(1000, "") || close.code == 1006,
            "{close:?}"
        );
        writing.join().unwrap();
    }
    assert!(
        before.elapsed() < Duration::from_secs(15),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn floods_of_tiny_messages_leave_others_served() {
    let gateway = gateway!();
    let noise = Frame::new(Opcode::Text, "x").bytes().repeat(10_000);
    let mut flooding = Vec::new();
    for _ in 0..6 {
        let client = gateway.owner(3);
        let mut writer = client.socket.writer();
        let noise = noise.clone();
        let stop = Instant::now() + Duration::from_secs(3);
        flooding.push(std::thread::spawn(move || {
            while Instant::now() < stop && writer.write_all(&noise).is_ok() {}
            drop(client);
        }));
    }
    let before = Instant::now();
    let mut other = gateway.owner(4);
    for _ in 0..20 {
        other.call("health", &json!({}));
    }
    assert!(
        before.elapsed() < Duration::from_millis(2_500),
        "{:?}",
        before.elapsed()
    );
    for flood in flooding {
        flood.join().unwrap();
    }
}
