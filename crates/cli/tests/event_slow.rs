//! Listeners that do not read: skipped, then ended, and never kept waiting for their own close.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::time::{Duration, Instant};

use clawgate_testkit::{Client, Close, Connect, Device, Message, TOKEN, TestGateway, gateway};
use serde_json::json;

const READ: &[&str] = &["operator.read"];
/// What one presence event weighs after [`heavy_beacons`].
const HEAVY: usize = 1024 * 1024;

fn resident_kb(gateway: &TestGateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends beacons of this text in one go and waits for their answers, without looking at anything
/// else that comes.
fn beacons(acting: &mut Client, text: &str, count: usize) {
    for _ in 0..count {
        acting.send("system-event", &json!({"text": text}));
    }
    let mut answered = 0;
    while answered < count {
        match acting.socket.read() {
            Message::Text(text) if text.starts_with(r#"{"type":"res""#) => answered += 1,
            Message::Closed(close) => panic!("{close:?}"),
            _ => {}
        }
    }
}

/// The same with an entry so large that every presence event is.
fn heavy_beacons(acting: &mut Client, count: usize) {
    let text = format!("Node: heavy · {}", "x".repeat(HEAVY));
    for _ in 0..count {
        beacons(acting, &text, 1);
    }
}

#[test]
fn e15_a_slow_consumer_is_closed_1008_on_wire_3_though_it_does_not_read() {
    let gateway = gateway!();
    let (mut lazy, _) = gateway.welcome(&Connect::new(3).token(TOKEN).scopes(READ));
    let mut acting = gateway.owner(4);
    heavy_beacons(&mut acting, 70);
    let full = resident_kb(&gateway);
    let before = Instant::now();
    // Not droppable: it finds the backlog full.
    acting.call("health", &json!({"probe": true}));
    gateway.says("slow consumer");
    assert!(before.elapsed() < Duration::from_secs(5));
    // It reads again, and finds at the end why it was ended.
    let reading = std::thread::spawn(move || lazy.closed());
    acting.call("health", &json!({}));
    assert_eq!(
        gateway.stderr().matches("slow consumer").count(),
        1,
        "it is said once"
    );
    // Their backlogs go with them, and do not wait for the peers: those of others take no more room.
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(gateway.welcome(&Connect::new(3).token(TOKEN).scopes(READ)));
        heavy_beacons(&mut acting, 70);
        acting.call("health", &json!({"probe": true}));
    }
    assert!(
        resident_kb(&gateway) < full + 55_000,
        "{} kB after {full} kB, three backlogs of 50 MB later",
        resident_kb(&gateway)
    );
    assert_eq!(reading.join().unwrap(), Close::new(1008, "slow consumer"));
}

#[test]
fn many_small_events_do_not_end_a_listener_that_catches_up() {
    let gateway = gateway!();
    let (mut lazy, _) = gateway.welcome(&Connect::new(3).token(TOKEN).scopes(READ));
    let mut acting = gateway.owner(4);
    // More events than the sockets of the system take, and less than the bound in bytes.
    for _ in 0..40 {
        beacons(&mut acting, "Node: n", 500);
    }
    acting.call("health", &json!({"probe": true}));
    let mut heard = 0;
    while heard < 20_000 {
        match lazy.socket.read() {
            Message::Text(text) if text.contains(r#""event":"presence""#) => heard += 1,
            Message::Closed(close) => panic!("after {heard}: {close:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_removed_device_that_does_not_read_hears_nothing_more_and_is_ended_at_once() {
    let gateway = gateway!();
    let device = Device::new();
    let connect = Connect::new(3).token(TOKEN).scopes(READ).device(&device);
    let (mut lazy, _) = gateway.welcome(&connect);
    let mut acting = gateway.owner(4);
    heavy_beacons(&mut acting, 30);
    acting.call("device.pair.remove", &json!({"deviceId": device.id()}));
    let mut heard = 0;
    let close = loop {
        match lazy.socket.read() {
            Message::Text(text) => heard += text.len(),
            Message::Closed(close) => break close,
            _ => {}
        }
    };
    assert!(
        close == Close::new(4001, "device removed") || close.code == 1006,
        "{close:?}"
    );
    assert!(
        heard < 20 * HEAVY,
        "{heard} bytes came after the authority was gone"
    );
}
