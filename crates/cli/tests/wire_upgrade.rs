//! The port before any frame: who gets an upgrade, and what plain HTTP says.

use std::io::{Read as _, Write as _};

use clawgate_testkit::{
    Client, Close, Connect, HttpAnswer, Message, Socket, TOKEN, TestGateway, Upgrade, gateway,
    home, request,
};
use serde_json::{Value, json};

fn refused(gateway: &TestGateway, upgrade: &Upgrade) -> HttpAnswer {
    match Socket::open(gateway.address(), upgrade) {
        Err(answer) => answer,
        Ok((_, answer)) => panic!("upgraded: {answer:?}"),
    }
}

fn upgraded(gateway: &TestGateway, upgrade: &Upgrade) -> HttpAnswer {
    let (mut socket, answer) = Socket::open(gateway.address(), upgrade)
        .unwrap_or_else(|answer| panic!("{upgrade:?}: {answer:?}"));
    match socket.read() {
        Message::Text(text) => assert!(text.contains("connect.challenge"), "{text}"),
        other => panic!("a challenge was expected: {other:?}"),
    }
    answer
}

#[test]
fn any_path_and_query_is_upgraded_and_challenged() {
    let gateway = gateway!();
    for path in [
        "/",
        "/foo/bar?x=1",
        "/healthz",
        "/__openclaw__/ws",
        "/%2e%2e/x",
    ] {
        upgraded(&gateway, &Upgrade::new().path(path));
    }
}

#[test]
fn the_accept_header_is_the_hash_of_the_key() {
    let gateway = gateway!();
    let answer = upgraded(&gateway, &Upgrade::new());
    // The example of RFC 6455, section 1.3.
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
}

#[test]
fn an_upgrade_by_another_method_than_get_is_405() {
    let gateway = gateway!();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = refused(&gateway, &Upgrade::new().method(method));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (405, "Invalid HTTP method"),
            "{method}"
        );
    }
}

#[test]
fn a_missing_or_broken_key_is_400() {
    let gateway = gateway!();
    let text = "Missing or invalid Sec-WebSocket-Key header";
    let none = refused(&gateway, &Upgrade::new().without("Sec-WebSocket-Key"));
    assert_eq!((none.status, none.body.as_str()), (400, text));
    for key in [
        "short",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25j*Q==",
        "AAAA",
    ] {
        let answer = refused(&gateway, &Upgrade::new().header("Sec-WebSocket-Key", key));
        assert_eq!((answer.status, answer.body.as_str()), (400, text), "{key}");
    }
}

#[test]
fn versions_13_and_8_are_taken_and_no_other() {
    let gateway = gateway!();
    for version in ["13", "8"] {
        upgraded(
            &gateway,
            &Upgrade::new().header("Sec-WebSocket-Version", version),
        );
    }
    for version in ["12", "7", "", "13, 8", "x"] {
        let answer = refused(
            &gateway,
            &Upgrade::new().header("Sec-WebSocket-Version", version),
        );
        assert_eq!(answer.status, 400, "{version:?}");
    }
    assert_eq!(
        refused(&gateway, &Upgrade::new().without("Sec-WebSocket-Version")).status,
        400
    );
}

#[test]
fn the_first_offered_subprotocol_is_echoed_and_none_is_needed() {
    let gateway = gateway!();
    let plain = upgraded(&gateway, &Upgrade::new());
    assert_eq!(plain.header("sec-websocket-protocol"), None);
    let offered = Upgrade::new().header("Sec-WebSocket-Protocol", "openclaw, other");
    let answer = upgraded(&gateway, &offered);
    assert_eq!(answer.header("sec-websocket-protocol"), Some("openclaw"));
}

#[test]
fn compression_is_never_negotiated() {
    let gateway = gateway!();
    let offer = "permessage-deflate; client_max_window_bits";
    let answer = upgraded(
        &gateway,
        &Upgrade::new().header("Sec-WebSocket-Extensions", offer),
    );
    assert_eq!(answer.header("sec-websocket-extensions"), None);
}

#[test]
fn an_authorization_header_is_neither_needed_nor_looked_at() {
    let gateway = gateway!();
    let mut client = gateway.client_with(&[("Authorization", &format!("Bearer {TOKEN}"))]);
    let refusal = client.connect(&Connect::new(4)).unwrap_err();
    assert_eq!(refusal.code(), "DEVICE_IDENTITY_REQUIRED");
}

#[test]
fn e41_a_token_in_the_address_is_neither_a_credential_nor_logged() {
    let gateway = gateway!();
    let upgrade = Upgrade::new().path(&format!("/?token={TOKEN}"));
    let mut client = Client::open_with(gateway.address(), &upgrade).unwrap();
    let refusal = client.connect(&Connect::new(3)).unwrap_err();
    assert_eq!(refusal.code(), "DEVICE_IDENTITY_REQUIRED");
    gateway.says("DEVICE_IDENTITY_REQUIRED");
    assert!(!gateway.stderr().contains(TOKEN));
}

#[test]
fn the_challenge_is_the_first_frame_and_has_no_sequence_number() {
    let gateway = gateway!();
    let first = gateway.client();
    let second = gateway.client();
    let challenge = &first.challenge;
    assert_eq!(challenge["type"], "event");
    assert_eq!(challenge["event"], "connect.challenge");
    assert!(challenge.get("seq").is_none(), "{challenge}");
    let nonce = first.nonce();
    let dashes: Vec<usize> = nonce.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!(dashes, [8, 13, 18, 23], "a UUID: {nonce}");
    assert_eq!(nonce.as_bytes()[14], b'4', "of version 4: {nonce}");
    assert_ne!(nonce, second.nonce());
    let ts = challenge["payload"]["ts"].as_i64().unwrap();
    assert!((clawgate_testkit::now_ms() - ts).abs() < 60_000, "{ts}");
}

#[test]
fn health_probes_answer_get() {
    let gateway = gateway!();
    for path in ["/health", "/healthz"] {
        let answer = request(gateway.address(), "GET", path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.body, r#"{"ok":true,"status":"live"}"#, "{path}");
    }
    for path in ["/ready", "/readyz"] {
        let answer = request(gateway.address(), "GET", path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["ready"], true);
        assert_eq!(body["failing"], json!([]));
        assert!(body["uptimeMs"].is_u64(), "{body}");
    }
}

#[test]
fn health_probes_answer_head_without_a_body() {
    let gateway = gateway!();
    for path in ["/health", "/healthz", "/ready", "/readyz"] {
        let answer = request(gateway.address(), "HEAD", path, &[]);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
}

#[test]
fn health_probes_refuse_other_methods() {
    let gateway = gateway!();
    for path in ["/health", "/healthz", "/ready", "/readyz"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = request(gateway.address(), method, path, &[]);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.body, "Method Not Allowed", "{method} {path}");
        }
    }
}

#[test]
fn an_unknown_path_is_404_in_plain_text() {
    let gateway = gateway!();
    for path in [
        "/nope",
        "/healthz/",
        "/../../etc/passwd",
        "/%2e%2e/x",
        "//health",
    ] {
        let answer = request(gateway.address(), "GET", path, &[]);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "Not Found"),
            "{path}"
        );
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "{path}: {kind}");
    }
}

#[test]
fn e48_an_answer_to_a_stranger_names_no_version() {
    let gateway = gateway!();
    for path in ["/", "/healthz", "/readyz"] {
        let answer = request(gateway.address(), "GET", path, &[]);
        let all = format!("{:?} {}", answer.headers, answer.body);
        assert!(
            !all.contains("0.1.0") && !all.to_lowercase().contains("clawgate"),
            "{all}"
        );
    }
}

#[test]
fn e37_a_proxied_upgrade_can_be_refused_with_the_words_of_wire_4() {
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "proxy": {"unattributed": "refuse"},
    }});
    let gateway = gateway!(config);
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "gw.example"),
        ("Tailscale-User-Login", "a@example.com"),
    ] {
        let answer = refused(&gateway, &Upgrade::new().header(name, value));
        assert_eq!(answer.status, 403, "{name}");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            body["error"]["type"], "proxy_attribution_required",
            "{name}"
        );
        assert_eq!(
            body["error"]["message"],
            "Proxy client attribution is required. Configure gateway.trustedProxies narrowly and \
             make the proxy overwrite or safely rebuild forwarded client headers."
        );
    }
    upgraded(&gateway, &Upgrade::new());
}

#[test]
fn e37_unattributed_proxies_are_named_once_with_the_fix() {
    let gateway = gateway!();
    for _ in 0..3 {
        let mut client = gateway.client_with(&[("X-Forwarded-For", "203.0.113.9")]);
        client.connect(&Connect::new(3).token(TOKEN)).unwrap_err();
    }
    gateway.says("Name the proxy's address in gateway.trustedProxies");
    let lines = gateway
        .stderr()
        .lines()
        .filter(|line| line.contains("Name the proxy"))
        .count();
    assert_eq!(lines, 1);
}

#[test]
fn e09_half_a_request_head_does_not_hold_up_others() {
    let gateway = gateway!();
    let mut slow = std::net::TcpStream::connect(gateway.address()).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgr")
        .unwrap();
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn e09_an_oversized_head_is_refused() {
    let gateway = gateway!();
    let mut stream = std::net::TcpStream::connect(gateway.address()).unwrap();
    stream
        .set_read_timeout(Some(clawgate_testkit::PATIENCE))
        .unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "a".repeat(200_000)
    );
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn e11_many_idle_sockets_leave_room_for_a_local_client() {
    let gateway = gateway!();
    let idle: Vec<Client> = (0..200).map(|_| gateway.client()).collect();
    gateway.owner(3).call("health", &json!({}));
    drop(idle);
}

#[test]
fn both_loopback_addresses_are_served_on_the_same_port() {
    let gateway = gateway!();
    let port = gateway.address().port();
    let Ok(stream) = std::net::TcpStream::connect(("::1", port)) else {
        // A machine without IPv6 cannot show this.
        assert!(
            std::net::TcpListener::bind(("::1", 0)).is_err(),
            "::1 exists and is not served"
        );
        return;
    };
    drop(stream);
    let six = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let hello = Client::open(six)
        .connect(&Connect::new(4).token(TOKEN))
        .unwrap();
    assert_eq!(hello.scopes().len(), 5);
}

#[test]
fn a_gateway_on_loopback_is_not_reachable_elsewhere() {
    let gateway = gateway!();
    let port = gateway.address().port();
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("192.0.2.1:9").is_err() {
        return;
    }
    let own = probe.local_addr().unwrap().ip();
    if own.is_loopback() {
        return;
    }
    assert!(
        std::net::TcpStream::connect((own, port)).is_err(),
        "{own}:{port} answers"
    );
}

#[test]
fn e78_an_open_mode_on_a_public_address_does_not_start() {
    let home = home!(json!({"gateway": {"bind": "lan", "auth": {"mode": "none"}}}));
    let ended = home.start_in_vain();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("gateway.auth.mode"), "{ended:?}");
}

#[test]
fn a_socket_that_goes_at_once_harms_nobody() {
    let gateway = gateway!();
    for _ in 0..20 {
        drop(gateway.client());
    }
    let mut owner = gateway.owner(3);
    owner.socket.send(&clawgate_testkit::Frame::new(
        clawgate_testkit::Opcode::Close,
        1000_u16.to_be_bytes(),
    ));
    assert_eq!(owner.closed(), Close::new(1000, ""));
    gateway.owner(4).call("health", &json!({}));
}
