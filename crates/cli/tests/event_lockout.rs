//! Guessing: counted before it is looked at, for each address apart, for pages and for programs, and
//! never a way to lock the owner out of the own machine.

use std::time::{Duration, Instant};

use clawgate_testkit::{
    Client, Connect, Device, Hello, Refusal, TOKEN, TestGateway, Upgrade, gateway,
};
use serde_json::json;

fn from(
    gateway: &TestGateway,
    headers: &[(&str, &str)],
    connect: &Connect,
) -> Result<Hello, Refusal> {
    gateway.client_with(headers).connect(connect)
}

fn wrong(protocol: u32) -> Connect {
    Connect::new(protocol).token("wrong")
}

/// Proven, so that a page gets past the question for a device.
fn right(protocol: u32, device: &Device) -> Connect {
    Connect::new(protocol)
        .token(TOKEN)
        .device(device)
        .client("webchat-ui", "webchat")
}

#[test]
fn ten_wrong_tokens_of_a_local_page_lock_the_pages_here_and_no_program() {
    let gateway = gateway!();
    let device = Device::new();
    let page = [("Origin", "http://127.0.0.1:5173")];
    for _ in 0..10 {
        let refusal = from(&gateway, &page, &wrong(3)).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
    }
    let message = "unauthorized: too many failed authentication attempts (retry later)";
    for protocol in [3, 4] {
        let refusal = from(&gateway, &page, &right(protocol, &device)).unwrap_err();
        let error = refusal.error.as_ref().unwrap();
        assert_eq!(
            error.detail_code(),
            "AUTH_RATE_LIMITED",
            "the right one is not looked at"
        );
        assert_eq!(error.message, message);
        assert_eq!(error.detail("authReason"), "rate_limited");
        assert_eq!(error.detail("recommendedNextStep"), "wait_then_retry");
        assert_eq!(refusal.close.reason, message);
        if protocol == 4 {
            assert_eq!(error.raw["retryable"], true);
            let after = error.raw["retryAfterMs"].as_u64().unwrap();
            assert!((1..=300_000).contains(&after), "{after}");
        } else {
            assert!(error.raw.get("retryable").is_none(), "{error:?}");
        }
    }
    // Another page is no fresh budget: what a page is called costs nothing.
    let other = [("Origin", "http://127.0.0.1:9999")];
    let refusal = from(&gateway, &other, &right(4, &device)).unwrap_err();
    assert_eq!(refusal.code(), "AUTH_RATE_LIMITED");
    from(&gateway, &[], &Connect::new(3).token(TOKEN)).unwrap();
}

#[test]
fn e21_parallel_guesses_count_each() {
    let gateway = gateway!();
    let page = [("Origin", "http://localhost:5173")];
    let upgrade = page
        .iter()
        .fold(Upgrade::new(), |u, (name, value)| u.header(name, value));
    let mut clients: Vec<Client> = (0..60)
        .map(|_| Client::open_with(gateway.address(), &upgrade).unwrap())
        .collect();
    let codes: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.connect(&wrong(4)).unwrap_err().code().to_owned()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let looked_at = codes
        .iter()
        .filter(|code| *code == "AUTH_TOKEN_MISMATCH")
        .count();
    let limited = codes
        .iter()
        .filter(|code| *code == "AUTH_RATE_LIMITED")
        .count();
    assert_eq!(
        looked_at, 10,
        "no guess is free because another one is still being judged"
    );
    assert_eq!(looked_at + limited, 60);
}

#[test]
fn e20_what_is_not_presented_is_no_guess() {
    let gateway = gateway!();
    let device = Device::new();
    let page = [("Origin", "http://127.0.0.1:5173")];
    for _ in 0..30 {
        let bare = Connect::new(3)
            .device(&device)
            .client("webchat-ui", "webchat");
        assert_eq!(
            from(&gateway, &page, &bare).unwrap_err().code(),
            "AUTH_TOKEN_MISSING"
        );
    }
    from(&gateway, &page, &right(3, &device)).unwrap();
}

#[test]
fn a_success_wipes_the_slate() {
    let gateway = gateway!();
    let device = Device::new();
    let page = [("Origin", "http://127.0.0.1:5173")];
    for _ in 0..3 {
        for _ in 0..9 {
            let refusal = from(&gateway, &page, &wrong(3)).unwrap_err();
            assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
        }
        from(&gateway, &page, &right(3, &device)).unwrap();
    }
}

#[test]
fn e22_other_secrets_attached_do_not_stretch_the_budget() {
    let gateway = gateway!();
    let page = [("Origin", "http://127.0.0.1:5173")];
    let mut looked_at = 0;
    for n in 0..30 {
        let guess = wrong(4)
            .device(&Device::new())
            .client("webchat-ui", "webchat")
            .auth("deviceToken", &format!("guess-{n}"))
            .auth("bootstrapToken", &format!("guess-{n}"));
        let refusal = from(&gateway, &page, &guess).unwrap_err();
        looked_at += usize::from(refusal.code() != "AUTH_RATE_LIMITED");
    }
    assert_eq!(looked_at, 10);
}

#[test]
fn e23_a_foreign_page_is_refused_before_anything_is_counted() {
    let gateway = gateway!();
    let page = [("Origin", "https://evil.example")];
    for _ in 0..30 {
        let refusal = from(&gateway, &page, &wrong(3)).unwrap_err();
        assert_eq!(refusal.code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
    }
    from(&gateway, &[], &Connect::new(3).token(TOKEN)).unwrap();
}

#[test]
fn e21_an_address_behind_a_trusted_proxy_is_locked_alone() {
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "trustedProxies": ["127.0.0.1"],
    }});
    let gateway = gateway!(config);
    let guesser = [("X-Forwarded-For", "203.0.113.7")];
    for _ in 0..10 {
        let refusal = from(&gateway, &guesser, &wrong(3)).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
    }
    let asking = || Connect::new(3).token(TOKEN).device(&Device::new());
    let refusal = from(&gateway, &guesser, &asking()).unwrap_err();
    assert_eq!(refusal.code(), "AUTH_RATE_LIMITED");
    // Naming others in front of the chain is no new address.
    let forged = [("X-Forwarded-For", "198.51.100.1, 203.0.113.7")];
    assert_eq!(
        from(&gateway, &forged, &asking()).unwrap_err().code(),
        "AUTH_RATE_LIMITED"
    );
    let other = [("X-Forwarded-For", "203.0.113.8")];
    assert_eq!(
        from(&gateway, &other, &asking()).unwrap_err().code(),
        "PAIRING_REQUIRED"
    );
}

#[test]
fn e37_unnamed_forwarding_headers_give_no_fresh_budget() {
    let gateway = gateway!();
    for n in 0..10 {
        let address = format!("203.0.113.{n}");
        let refusal = from(&gateway, &[("X-Forwarded-For", &address)], &wrong(3)).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
    }
    let refusal = from(&gateway, &[("X-Forwarded-For", "203.0.113.99")], &wrong(3)).unwrap_err();
    assert_eq!(refusal.code(), "AUTH_RATE_LIMITED");
    from(&gateway, &[], &Connect::new(3).token(TOKEN)).unwrap();
}

#[test]
fn programs_here_are_slowed_and_never_locked() {
    let gateway = gateway!();
    let before = Instant::now();
    for _ in 0..5 {
        let refusal = from(&gateway, &[], &wrong(3)).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
    }
    // Three are free, then a quarter of a second and a half.
    assert!(
        before.elapsed() >= Duration::from_millis(700),
        "{:?}",
        before.elapsed()
    );
    // A guess that succeeds is not told by its haste.
    let before = Instant::now();
    from(&gateway, &[], &Connect::new(3).token(TOKEN)).unwrap();
    assert!(
        before.elapsed() >= Duration::from_millis(900),
        "{:?}",
        before.elapsed()
    );
    let before = Instant::now();
    from(&gateway, &[], &wrong(3)).unwrap_err();
    assert!(
        before.elapsed() < Duration::from_millis(250),
        "forgotten with the success"
    );
}

#[test]
fn the_limits_are_configurable() {
    let config = json!({"gateway": {"auth": {
        "mode": "token", "token": TOKEN,
        "rateLimit": {"maxAttempts": 3, "windowMs": 60_000, "lockoutMs": 1_000, "exemptLoopback": false},
    }}});
    let gateway = gateway!(config);
    for _ in 0..3 {
        assert_eq!(
            from(&gateway, &[], &wrong(4)).unwrap_err().code(),
            "AUTH_TOKEN_MISMATCH"
        );
    }
    let refusal = from(&gateway, &[], &Connect::new(4).token(TOKEN)).unwrap_err();
    assert_eq!(
        refusal.code(),
        "AUTH_RATE_LIMITED",
        "loopback as well, if so configured"
    );
    let after = refusal.error.unwrap().raw["retryAfterMs"].as_u64().unwrap();
    assert!(after <= 1_000, "{after}");
}

#[test]
fn e23_a_thousand_names_of_pages_are_one_guesser_and_do_not_lock_the_owner_out() {
    let gateway = gateway!();
    let mut looked_at = 0;
    for n in 0..1_000 {
        let origin = format!("http://localhost:{}", 10_000 + n);
        let refusal = from(&gateway, &[("Origin", &origin)], &wrong(3)).unwrap_err();
        looked_at += usize::from(refusal.code() == "AUTH_TOKEN_MISMATCH");
    }
    assert_eq!(looked_at, 10);
    from(&gateway, &[], &Connect::new(3).token(TOKEN)).unwrap();
}

#[test]
fn who_guesses_through_a_shared_page_locks_out_that_address_alone() {
    let page = ("Origin", "https://ui.example");
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "trustedProxies": ["127.0.0.1"],
        "controlUi": {"allowedOrigins": [page.1]},
    }});
    let gateway = gateway!(config);
    let asking = || right(4, &Device::new());
    let network = |n: u32| format!("2001:db8:0:1::{n:x}");
    for n in 0..10 {
        let address = network(n);
        let guesser = [page, ("X-Forwarded-For", &address)];
        let refusal = from(&gateway, &guesser, &wrong(3)).unwrap_err();
        assert_eq!(refusal.code(), "AUTH_TOKEN_MISMATCH");
    }
    let address = network(99);
    let refusal = from(&gateway, &[page, ("X-Forwarded-For", &address)], &asking()).unwrap_err();
    assert_eq!(
        refusal.code(),
        "AUTH_RATE_LIMITED",
        "a network is one guesser"
    );
    let other = [page, ("X-Forwarded-For", "2001:db8:0:2::1")];
    let refusal = from(&gateway, &other, &asking()).unwrap_err();
    assert_eq!(
        refusal.code(),
        "PAIRING_REQUIRED",
        "the page has other readers"
    );
}

#[test]
fn a_guessed_secret_is_written_nowhere() {
    let mut gateway = gateway!();
    let guess = "canary-guess-8f2c1d";
    for protocol in [3, 4] {
        let refusal = gateway.refusal(&Connect::new(protocol).token(guess));
        assert!(!format!("{refusal:?}").contains(guess));
        gateway.refusal(&Connect::new(protocol).auth("password", guess));
        gateway.refusal(
            &Connect::new(protocol)
                .device(&Device::new())
                .auth("deviceToken", guess),
        );
        gateway.refusal(
            &Connect::new(protocol)
                .device(&Device::new())
                .auth("bootstrapToken", guess),
        );
    }
    gateway.terminate();
    let ended = gateway.ended();
    assert!(
        ended.stderr.contains("AUTH_TOKEN_MISMATCH"),
        "refusals are logged"
    );
    assert!(!ended.stderr.contains(guess));
    assert_eq!(
        gateway.home().state_files_with(guess),
        Vec::<std::path::PathBuf>::new()
    );
}
