//! What one peer can take of the gateway: time, sockets, writes, lines of the log.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clawgate_testkit::{
    Call, Client, Close, Connect, Frame, Home, Opcode, TOKEN, Upgrade, gateway, token_config,
};
use serde_json::json;

#[test]
fn e08_a_flood_of_pings_escapes_neither_the_deadline_nor_leaves_others_waiting() {
    let gateway = gateway!(json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "handshakeTimeoutMs": 1_000,
    }}));
    let pings = Frame::new(Opcode::Ping, "").bytes().repeat(10_000);
    let mut flooding = Vec::new();
    let before = Instant::now();
    let stop = before + Duration::from_secs(14);
    // One for each of the gateway's threads and more.
    for _ in 0..6 {
        let mut client = gateway.client();
        let mut writer = client.socket.writer();
        writer
            .set_write_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let pings = pings.clone();
        let writing =
            std::thread::spawn(
                move || {
                    while Instant::now() < stop && writer.write_all(&pings).is_ok() {}
                },
            );
        // The pongs are read, so that nothing holds the flood back.
        let reading = std::thread::spawn(move || client.closed());
        flooding.push((writing, reading));
    }
    let mut other = gateway.owner(4);
    for _ in 0..20 {
        other.call("health", &json!({}));
    }
    for (writing, reading) in flooding {
        let close = reading.join().unwrap();
        // What the flood left unread may turn the end into a reset.
        assert!(
            close == Close::new(1000, "") || close.code == 1006,
            "{close:?}"
        );
        // They end at their deadline, not when the flood does.
        assert!(Instant::now() < stop, "{:?}", before.elapsed());
        writing.join().unwrap();
    }
}

#[test]
fn floods_of_tiny_messages_leave_others_served() {
    let gateway = gateway!();
    let noise = Frame::new(Opcode::Text, "x").bytes().repeat(10_000);
    let over = Arc::new(AtomicBool::new(false));
    let mut flooding = Vec::new();
    for _ in 0..6 {
        let over = Arc::clone(&over);
        let client = gateway.owner(3);
        let mut writer = client.socket.writer();
        let noise = noise.clone();
        flooding.push(std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) && writer.write_all(&noise).is_ok() {}
            drop(client);
        }));
    }
    // Each of these has a deadline of its own, and the flood has none.
    let mut other = gateway.owner(4);
    for _ in 0..20 {
        other.call("health", &json!({}));
    }
    over.store(true, Ordering::Release);
    for flood in flooding {
        flood.join().unwrap();
    }
}

#[test]
fn e11_sockets_that_say_nothing_leave_room_for_clients_of_this_machine() {
    clawgate_testkit::raise_descriptor_limit();
    let gateway = gateway!();
    // Those that said hello are not counted any more.
    let greeted: Vec<Client> = (0..100).map(|_| gateway.owner(4)).collect();
    // They have not even asked for an upgrade.
    let mut idle = Vec::new();
    for _ in 0..1_024 {
        idle.push(TcpStream::connect(gateway.address()).unwrap());
    }
    // The next ones are told, and further ones dropped.
    let answer = Client::open_with(gateway.address(), &Upgrade::new()).unwrap_err();
    assert_eq!(answer.status, 503);
    drop(greeted);
    idle.truncate(512);
    let deadline = Instant::now() + clawgate_testkit::PATIENCE;
    // The gateway sees them go when it comes to it.
    while let Err(answer) = Client::open_with(gateway.address(), &Upgrade::new()) {
        assert_eq!(answer.status, 503);
        assert!(Instant::now() < deadline);
    }
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn every_refusal_has_its_line_with_a_code() {
    let gateway = gateway!();
    let first = |frame: &serde_json::Value| {
        let mut client = gateway.client();
        client.connect_raw(frame).unwrap_err();
    };
    first(&json!({"type": "req", "id": "early", "method": "health"}));
    gateway.says("method=health");
    first(&json!({"type": "req", "id": "bad", "method": "connect", "params": {}}));
    gateway.says("must have required property 'minProtocol'");
    gateway.refusal(&Connect::new(4).range(7, 9).token(TOKEN));
    gateway.says("code=PROTOCOL_MISMATCH");
    first(&json!({"no": "request"}));
    gateway.says("invalid request frame");
    let answer = Client::open_with(
        gateway.address(),
        &Upgrade::new().header("Sec-WebSocket-Key", "short"),
    );
    assert_eq!(answer.unwrap_err().status, 400);
    gateway.says("method=upgrade");
    let mut live = gateway.owner(3);
    live.raw(r#"{"type":"req","id":"odd","method":"health","more":1}"#);
    gateway.says("id=odd");
    assert!(
        !gateway.stderr().contains("code=- "),
        "{}",
        gateway.stderr()
    );
}

#[test]
fn e17_a_flood_of_refusals_is_written_as_a_number() {
    let gateway = gateway!();
    let mut client = gateway.owner(4);
    let ids: Vec<String> = (0..300)
        .map(|_| client.send("no.such.method", &json!({})))
        .collect();
    for id in ids {
        client.answer(&id);
    }
    drop(client);
    gateway.says("more=280");
    assert_eq!(gateway.stderr().matches("no.such.method").count(), 40);
}

#[test]
fn the_thirty_first_control_write_of_a_minute_waits_unless_it_is_made_on_this_machine() {
    let gateway = gateway!();
    let made = gateway.owner(4).call(
        "tokens.create",
        &json!({"name": "ci", "scopes": ["operator.admin"]}),
    );
    let connect = |protocol| {
        Connect::new(protocol)
            .token(made["token"].as_str().unwrap())
            .scopes(&["operator.admin"])
    };
    let (mut afar, _) = gateway.from_afar(&connect(4)).unwrap();
    let params = json!({"id": "00000000-0000-4000-8000-000000000000"});
    let limited = |call: &Call| matches!(call, Call::Error(error) if error.code == "UNAVAILABLE");
    for n in 0..30 {
        let call = afar.try_call("cron.remove", &params);
        assert!(!limited(&call), "{n}: {call:?}");
    }
    // It is looked at before the params are.
    let error = afar.refused("cron.remove", &json!({"nonsense": 1}));
    assert_eq!(error.code, "UNAVAILABLE");
    assert!(
        error
            .message
            .starts_with("rate limit exceeded for cron.remove; retry after "),
        "{}",
        error.message
    );
    assert_eq!(
        error.raw["details"],
        json!({"method": "cron.remove", "limit": "30 per 60s"})
    );
    assert_eq!(error.raw["retryable"], true);
    let wait = error.raw["retryAfterMs"].as_u64().unwrap();
    assert!(wait > 0 && wait <= 60_000, "{wait}");
    // A new connection of the same caller has no new budget, another method has its own.
    let (mut again, _) = gateway.from_afar(&connect(4)).unwrap();
    assert!(limited(&again.try_call("cron.remove", &params)));
    assert!(!limited(&again.try_call("cron.run", &params)));
    for mut free in [
        gateway.owner(4),
        gateway.owner(3),
        gateway.from_afar(&connect(3)).unwrap().0,
    ] {
        for n in 0..100 {
            let call = free.try_call("cron.remove", &params);
            assert!(!limited(&call), "{n}: {call:?}");
        }
    }
}

#[test]
fn a_low_limit_of_descriptors_is_raised_to_what_the_system_allows() {
    clawgate_testkit::raise_descriptor_limit();
    let place = tempfile::tempdir().unwrap();
    let limited = place.path().join("limited");
    // Written by another process: nothing of this one holds it open while it is to be run.
    let script = format!(
        "#!/bin/sh\nulimit -S -n 64\nexec {} \"$@\"\n",
        assert_cmd::cargo::cargo_bin!("clawgate").display()
    );
    let write = r#"printf %s "$1" > "$0" && chmod 700 "$0""#;
    let written = std::process::Command::new("sh")
        .args(["-c", write, limited.to_str().unwrap(), &script])
        .status();
    assert!(written.unwrap().success());
    let gateway = Home::new(limited.to_str().unwrap(), Some(&token_config())).start();
    let mut owners: Vec<Client> = (0..200).map(|_| gateway.owner(4)).collect();
    for owner in &mut owners {
        owner.call("health", &json!({}));
    }
}
