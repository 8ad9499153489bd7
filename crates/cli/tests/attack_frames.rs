//! Attacks on the way in that are not told elsewhere: half requests, peers that are torn away, floods of
//! what is not allowed. Which test is of which attack is in docs/attacks.md.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use clawgate_testkit::{Call, Client, Connect, PATIENCE, TOKEN, gateway, request, token_config};
use serde_json::json;

/// A peer that is torn away: what it has not read makes its end a reset.
fn tear(client: Client) {
    client.socket.shut();
    drop(client);
}

/// How many of the peers the gateway shows as gone.
fn gone(owner: &mut Client) -> usize {
    let present = owner.call("system-presence", &json!({}));
    let entries = present.as_array().unwrap().iter();
    entries
        .filter(|entry| {
            entry["instanceId"]
                .as_str()
                .is_some_and(|id| id.starts_with("peer-"))
        })
        .filter(|entry| entry["reason"] == "disconnect")
        .count()
}

#[test]
fn e09_a_head_that_comes_byte_by_byte_is_ended_and_one_of_many_lines_is_refused() {
    let mut config = token_config();
    config["gateway"]["bind"] = json!("lan");
    let gateway = gateway!(config);
    // An address of this machine that is not its loopback: there, whoever is slow has ten seconds.
    let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Ok(outside) = outside else {
        eprintln!("this machine has no address but its loopback: nothing comes from elsewhere");
        return;
    };
    let port = gateway.address().port();
    let mut slow = TcpStream::connect((outside.ip(), port)).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let began = Instant::now();
    let head = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let mut bytes = head.iter().chain(std::iter::repeat(&b'a'));
    let mut chunk = [0; 256];
    loop {
        // Each byte is late by what the read waits for.
        let sent = slow.write_all(&[*bytes.next().unwrap()]);
        match slow.read(&mut chunk) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && sent.is_ok() => {}
            Err(_) => break,
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it is still read"
        );
    }
    for lines in [200, 2_000] {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let many = "X-Many: x\r\n".repeat(lines);
        let _ =
            stream.write_all(format!("GET /health HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{lines}: {answer}"
        );
    }
    assert_eq!(
        request(gateway.address(), "GET", "/health", &[]).status,
        200
    );
}

#[test]
fn e16_peers_that_are_torn_away_in_the_middle_of_a_broadcast_end_once_and_alone() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let mut peers: Vec<Client> = (0..60)
        .map(|number| {
            let connect = Connect::new(4)
                .client("cli", "ui")
                .with_client("instanceId", &format!("peer-{number}"))
                .token(TOKEN);
            gateway.welcome(&connect).0
        })
        .collect();
    let torn = peers.split_off(30);
    let told: Vec<String> = (0..50)
        .map(|number| {
            owner.send(
                "system-event",
                &json!({"text": format!("Node: n-{number}")}),
            )
        })
        .collect();
    torn.into_iter().for_each(tear);
    for id in told {
        assert!(matches!(owner.answer(&id), Call::Ok(_)));
    }
    // Those that stayed heard all of it.
    for peer in &mut peers {
        let heard = peer.event_names_until_now();
        let heard = heard.iter().filter(|name| *name == "presence").count();
        assert!(heard >= 50, "{heard} of 50");
    }
    let deadline = Instant::now() + PATIENCE;
    while gone(&mut owner) < 30 {
        assert!(Instant::now() < deadline, "torn peers are still there");
    }
    assert_eq!(gone(&mut owner), 30, "and nobody else went");
    let log = gateway.stderr();
    assert!(!log.contains("panicked"), "{log}");
    assert!(
        log.lines().filter(|line| line.contains(" WARN ")).count() <= 1,
        "{log}"
    );
}

#[test]
fn e17_a_thousand_calls_without_the_scope_are_refused_and_the_log_does_not_grow_with_them() {
    let gateway = gateway!();
    let reader = Connect::new(4).token(TOKEN).scopes(&["operator.read"]);
    let (mut client, _) = gateway.welcome(&reader);
    let before = gateway.stderr().len();
    let asked: Vec<String> = (0..1_000)
        .map(|_| client.send("cron.remove", &json!({"id": "none"})))
        .collect();
    for id in asked {
        assert!(matches!(client.answer(&id), Call::Error(_)));
    }
    gateway.owner(4).call("health", &json!({}));
    let log = gateway.stderr();
    let lines = log[before..].lines().count();
    assert!(lines < 100, "{lines} lines");
}
