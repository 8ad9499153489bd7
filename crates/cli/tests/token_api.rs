//! Named API tokens: made by those who hold what they hand on, shown once, bounded, ended.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use clawgate_testkit::{Call, Client, Close, Connect, Device, Hello, Refusal, TOKEN, gateway};
use serde_json::{Value, json};

const DIALECTS: [u32; 2] = [3, 4];

fn create(client: &mut Client, name: &str, scopes: &[&str]) -> String {
    let answer = client.call("tokens.create", &json!({"name": name, "scopes": scopes}));
    answer["token"].as_str().unwrap().to_owned()
}

fn with(protocol: u32, token: &str, scopes: &[&str]) -> Connect {
    Connect::new(protocol).token(token).scopes(scopes)
}

#[track_caller]
fn refusal(result: Result<(Client, Hello), Refusal>) -> Refusal {
    result.map(|(_, hello)| hello).unwrap_err()
}

fn list(client: &mut Client) -> Vec<Value> {
    client.call("tokens.list", &json!({}))["tokens"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn a_token_is_shown_when_it_is_made_and_never_again() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let params = json!({
        "name": "ci", "scopes": ["operator.read", "operator.write"], "expiresInMs": 3_600_000,
    });
    let answer = owner.call("tokens.create", &params);
    let secret = answer["token"].as_str().unwrap().to_owned();
    assert!(
        secret.starts_with("cgt_") && secret.len() >= 40,
        "{}",
        secret.len()
    );
    let record = &answer["record"];
    assert_eq!(record["name"], "ci");
    assert_eq!(record["scopes"], params["scopes"]);
    let life = record["expiresAtMs"].as_i64().unwrap() - record["createdAtMs"].as_i64().unwrap();
    assert_eq!(life, 3_600_000);
    assert_eq!(list(&mut owner), std::slice::from_ref(record));
    let said = owner.call("tokens.list", &json!({})).to_string();
    assert!(!said.contains(&secret), "{said}");
}

#[test]
fn the_secret_lies_nowhere() {
    let mut gateway = gateway!();
    let secret = create(&mut gateway.owner(4), "ci", &["operator.read"]);
    gateway
        .from_afar(&with(4, &secret, &["operator.read"]))
        .unwrap();
    refusal(gateway.from_afar(&with(4, &secret, &["operator.admin"])));
    // In the write-ahead log as well as in the database, and after the one became the other.
    let nowhere = Vec::<std::path::PathBuf>::new();
    assert_eq!(gateway.home().state_files_with(&secret), nowhere);
    let kept = gateway
        .home()
        .state_files_with(&clawgate_testkit::sha256_hex(&secret));
    assert!(!kept.is_empty(), "its hash is kept");
    gateway.terminate();
    let ended = gateway.ended();
    assert!(!ended.stderr.contains(&secret));
    assert_eq!(gateway.home().state_files_with(&secret), nowhere);
}

#[test]
fn a_token_works_from_anywhere_within_its_scopes() {
    let gateway = gateway!();
    let secret = create(&mut gateway.owner(4), "ci", &["operator.write"]);
    for protocol in DIALECTS {
        let everything = Connect::new(protocol).token(&secret);
        for far in [true, false] {
            let (mut client, hello) = if far {
                gateway.from_afar(&everything).unwrap()
            } else {
                gateway.welcome(&everything)
            };
            assert_eq!(hello.session_scopes(), ["operator.read", "operator.write"]);
            let missing = hello.missing();
            assert_eq!(
                missing,
                ["operator.admin", "operator.approvals", "operator.pairing"]
            );
            assert_eq!(hello.raw["auth"]["missing"][0]["reason"], "not-held");
            assert_eq!(hello.raw["auth"]["basis"], "api-token");
            client.call("status", &json!({}));
            client.call("wake", &json!({"text": "hello", "mode": "now"}));
            let error = client.refused("cron.add", &json!({}));
            assert_eq!(error.message, "missing scope: operator.admin");
            let error = client.refused("tokens.list", &json!({}));
            assert_eq!(error.message, "missing scope: operator.pairing");
        }
    }
}

#[test]
fn nothing_of_what_was_asked_is_a_refusal_with_the_reason() {
    let gateway = gateway!();
    let secret = create(&mut gateway.owner(4), "ci", &["operator.read"]);
    for (protocol, code) in [(3, "INVALID_REQUEST"), (4, "FORBIDDEN")] {
        let admin = with(protocol, &secret, &["operator.admin"]);
        let refusal = refusal(gateway.from_afar(&admin));
        let error = refusal.error.unwrap();
        assert_eq!(error.code, code);
        assert_eq!(error.message, "missing scope: operator.admin");
        assert_eq!(error.detail_code(), "MISSING_SCOPE");
        assert!(error.detail("nextStep").is_string());
        assert_eq!(
            refusal.close,
            Close::new(1008, "missing scope: operator.admin")
        );
    }
}

#[test]
fn scopes_left_out_are_reading() {
    let gateway = gateway!();
    let secret = create(&mut gateway.owner(4), "ci", &["operator.admin"]);
    let silent = Connect::new(4).token(&secret).without_scopes();
    let (_, hello) = gateway.from_afar(&silent).unwrap();
    assert_eq!(hello.scopes(), ["operator.read"]);
}

#[test]
fn a_token_is_no_node_and_pairs_no_device() {
    let gateway = gateway!();
    let secret = create(
        &mut gateway.owner(4),
        "ci",
        &["operator.admin", "operator.pairing"],
    );
    for protocol in DIALECTS {
        let device = Device::new();
        let node = Connect::new(protocol)
            .token(&secret)
            .scopes(&[])
            .role("node");
        let node = node.client("node-host", "node");
        refusal(gateway.from_afar(&node));
        let node = Connect::new(protocol)
            .token(&secret)
            .scopes(&[])
            .role("node")
            .device(&device);
        refusal(gateway.from_afar(&node));
        gateway.refusal(&node);
        let operator = Connect::new(protocol).token(&secret).device(&device);
        let (_, hello) = gateway.from_afar(&operator).unwrap();
        assert_eq!(hello.device_token(), None);
        let said = gateway
            .owner(4)
            .call("device.pair.list", &json!({}))
            .to_string();
        assert!(!said.contains(&device.id()), "{said}");
    }
}

#[test]
fn a_token_works_in_every_mode() {
    for auth in [
        json!({"mode": "password", "password": TOKEN}),
        json!({"mode": "none"}),
        json!({"mode": "token", "token": TOKEN}),
    ] {
        let gateway = gateway!(json!({"gateway": {"auth": auth}}));
        let key = gateway.home().local_key();
        let (mut owner, _) = gateway.welcome(&Connect::new(4).local_proof(&key));
        let secret = create(&mut owner, "ci", &["operator.read"]);
        let (_, hello) = gateway
            .from_afar(&with(4, &secret, &["operator.read"]))
            .unwrap();
        assert_eq!(hello.raw["auth"]["method"], "api-token", "{auth}");
    }
}

#[test]
fn an_expired_token_is_refused_and_its_sessions_end() {
    let gateway = gateway!();
    let params = json!({"name": "short", "scopes": ["operator.read"], "expiresInMs": 1_000});
    let answer = gateway.owner(4).call("tokens.create", &params);
    let secret = answer["token"].as_str().unwrap();
    let connect = with(4, secret, &["operator.read"]);
    let (mut client, _) = gateway.from_afar(&connect).unwrap();
    client.call("status", &json!({}));
    // The end of its session is the end of its time.
    assert_eq!(client.closed(), Close::new(4001, "gateway auth changed"));
    assert!(clawgate_testkit::now_ms() >= answer["record"]["expiresAtMs"].as_i64().unwrap());
    let refusal = refusal(gateway.from_afar(&connect));
    assert_eq!(refusal.code(), "AUTH_API_TOKEN_EXPIRED");
    // Its name is free again.
    let again = create(&mut gateway.owner(4), "short", &["operator.read"]);
    gateway
        .from_afar(&with(4, &again, &["operator.read"]))
        .unwrap();
    assert_eq!(list(&mut gateway.owner(4)).len(), 1);
}

#[test]
fn e53_a_revoked_token_is_refused_and_its_sessions_end_before_the_answer() {
    let gateway = gateway!();
    for protocol in DIALECTS {
        let mut owner = gateway.owner(protocol);
        let name = format!("ci-{protocol}");
        let secret = create(&mut owner, &name, &["operator.read"]);
        let other = create(&mut owner, &format!("other-{protocol}"), &["operator.read"]);
        let connect = with(protocol, &secret, &["operator.read"]);
        let (mut first, _) = gateway.from_afar(&connect).unwrap();
        let (mut second, _) = gateway.welcome(&connect);
        let (mut bystander, _) = gateway
            .from_afar(&with(protocol, &other, &["operator.read"]))
            .unwrap();
        let answer = owner.call("tokens.revoke", &json!({"name": name}));
        assert_eq!(answer["name"], name.as_str());
        assert!(answer["revokedAtMs"].is_i64());
        for client in [&mut first, &mut second] {
            let outcome = client.try_call("status", &json!({}));
            assert_eq!(
                outcome,
                Call::Closed(Close::new(4001, "gateway auth changed"))
            );
        }
        bystander.call("status", &json!({}));
        assert_eq!(
            refusal(gateway.from_afar(&connect)).code(),
            "AUTH_API_TOKEN_REVOKED"
        );
        let record = list(&mut owner)
            .into_iter()
            .find(|t| t["name"] == name.as_str())
            .unwrap();
        assert!(record["revokedAtMs"].is_i64(), "{record}");
        let error = owner.refused("tokens.revoke", &json!({"name": name}));
        assert_eq!(error.detail_code(), "API_TOKEN_NOT_FOUND");
    }
}

#[test]
fn revocation_survives_kill_and_restart() {
    let mut gateway = gateway!();
    let mut owner = gateway.owner(4);
    let gone = create(&mut owner, "gone", &["operator.read"]);
    let kept = create(&mut owner, "kept", &["operator.read"]);
    owner.call("tokens.revoke", &json!({"name": "gone"}));
    gateway.kill();
    gateway.restart();
    let refused = refusal(gateway.from_afar(&with(4, &gone, &["operator.read"])));
    assert_eq!(refused.code(), "AUTH_API_TOKEN_REVOKED");
    gateway
        .from_afar(&with(4, &kept, &["operator.read"]))
        .unwrap();
}

#[test]
fn nobody_mints_or_ends_more_than_they_hold() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    create(&mut owner, "admin", &["operator.admin"]);
    for protocol in DIALECTS {
        let deciding = Connect::new(protocol).token(TOKEN);
        let (mut deciding, _) =
            gateway.welcome(&deciding.scopes(&["operator.pairing", "operator.read"]));
        for scopes in [
            json!(["operator.admin"]),
            json!(["operator.read", "operator.write"]),
            json!(["operator.approvals"]),
        ] {
            let params = json!({"name": "more", "scopes": scopes});
            let error = deciding.refused("tokens.create", &params);
            assert!(
                error.message.starts_with("missing scope: operator."),
                "{error:?}"
            );
        }
        let error = deciding.refused("tokens.revoke", &json!({"name": "admin"}));
        assert_eq!(error.message, "missing scope: operator.admin");
        create(
            &mut deciding,
            &format!("fits-{protocol}"),
            &["operator.read", "operator.pairing"],
        );
    }
    let names: Vec<String> = list(&mut owner)
        .iter()
        .map(|t| t["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(!names.contains(&"more".to_owned()), "{names:?}");
}

#[test]
fn a_token_mints_within_itself() {
    let gateway = gateway!();
    let parent = create(
        &mut gateway.owner(4),
        "parent",
        &["operator.pairing", "operator.read"],
    );
    let asked = ["operator.pairing", "operator.read"];
    let (mut client, _) = gateway.from_afar(&with(4, &parent, &asked)).unwrap();
    let child = create(&mut client, "child", &["operator.read"]);
    gateway
        .from_afar(&with(4, &child, &["operator.read"]))
        .unwrap();
    // A session that asked for less mints less.
    let (mut narrow, _) = gateway
        .from_afar(&with(4, &parent, &["operator.pairing"]))
        .unwrap();
    let params = json!({"name": "wider", "scopes": ["operator.read"]});
    assert_eq!(
        narrow.refused("tokens.create", &params).message,
        "missing scope: operator.read"
    );
}

#[test]
fn a_session_that_ends_its_own_token_gets_its_answer_and_then_the_close() {
    let gateway = gateway!();
    let scopes = ["operator.pairing", "operator.read"];
    let secret = create(&mut gateway.owner(4), "self", &scopes);
    let (mut client, _) = gateway.from_afar(&with(4, &secret, &scopes)).unwrap();
    client.call("tokens.revoke", &json!({"name": "self"}));
    assert_eq!(client.closed(), Close::new(4001, "gateway auth changed"));
}

#[test]
fn names_are_unique_among_the_living() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let first = create(&mut owner, "ci", &["operator.read"]);
    let again = json!({"name": "ci", "scopes": ["operator.read"]});
    let error = owner.refused("tokens.create", &again);
    assert_eq!(error.detail_code(), "API_TOKEN_EXISTS");
    owner.call("tokens.revoke", &json!({"name": "ci"}));
    let second = create(&mut owner, "ci", &["operator.read"]);
    assert_ne!(first, second);
    refusal(gateway.from_afar(&with(4, &first, &["operator.read"])));
    gateway
        .from_afar(&with(4, &second, &["operator.read"]))
        .unwrap();
}

#[test]
fn only_known_scopes_can_be_handed_out() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    for scope in ["operator.frobnicate", "foo.bar", "operator.admin ", "*", ""] {
        let params = json!({"name": "odd", "scopes": [scope]});
        let error = owner.refused("tokens.create", &params);
        assert!(
            error.message.starts_with("invalid tokens.create params: "),
            "{scope}: {error:?}"
        );
    }
    assert!(list(&mut owner).is_empty());
}

#[test]
fn names_may_hold_anything_that_a_text_can() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    for name in [
        "'; DROP TABLE api_tokens; --",
        "🦀",
        "a/b\\c",
        "..",
        "\u{202e}gpj",
    ] {
        let secret = create(&mut owner, name, &["operator.read"]);
        gateway
            .from_afar(&with(4, &secret, &["operator.read"]))
            .unwrap();
        owner.call("tokens.revoke", &json!({"name": name}));
    }
    let long = json!({"name": "x".repeat(65), "scopes": ["operator.read"]});
    owner.refused("tokens.create", &long);
    assert_eq!(list(&mut owner).len(), 5);
}

#[test]
fn the_last_use_is_noted() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let secret = create(&mut owner, "ci", &["operator.read"]);
    assert!(list(&mut owner)[0].get("lastUsedAtMs").is_none());
    gateway
        .from_afar(&with(4, &secret, &["operator.read"]))
        .unwrap();
    let used = list(&mut owner)[0]["lastUsedAtMs"].as_i64().unwrap();
    assert!((clawgate_testkit::now_ms() - used).abs() < 60_000);
}

#[test]
fn the_list_is_newest_first() {
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let mut last = 0;
    for name in ["a", "b", "c"] {
        // The order is by milliseconds; a token made in the same one is made again.
        loop {
            let params = json!({"name": name, "scopes": ["operator.read"]});
            let made = owner.call("tokens.create", &params)["record"]["createdAtMs"].as_i64();
            if made.unwrap() > last {
                last = made.unwrap();
                break;
            }
            owner.call("tokens.revoke", &json!({"name": name}));
        }
    }
    let tokens = list(&mut owner);
    let alive: Vec<&str> = tokens
        .iter()
        .filter(|token| token.get("revokedAtMs").is_none())
        .map(|token| token["name"].as_str().unwrap())
        .collect();
    assert_eq!(alive, ["c", "b", "a"]);
}

#[test]
fn a_guess_looks_like_any_wrong_token() {
    let gateway = gateway!();
    let secret = create(&mut gateway.owner(4), "ci", &["operator.read"]);
    let near = format!("{}x", &secret[..secret.len() - 1]);
    for guess in ["cgt_", "cgt_nope", near.as_str(), &secret[4..]] {
        for protocol in DIALECTS {
            let refused = refusal(gateway.from_afar(&with(protocol, guess, &["operator.read"])));
            assert_eq!(refused.code(), "AUTH_TOKEN_MISMATCH", "{guess}");
        }
    }
}

#[test]
fn guesses_are_counted_and_locked_out() {
    let gateway = gateway!();
    let secret = create(&mut gateway.owner(4), "ci", &["operator.read"]);
    for n in 0..10 {
        let guess = with(4, &format!("cgt_guess{n}"), &["operator.read"]);
        assert_eq!(
            refusal(gateway.from_afar(&guess)).code(),
            "AUTH_TOKEN_MISMATCH"
        );
    }
    let right = with(4, &secret, &["operator.read"]);
    assert_eq!(
        refusal(gateway.from_afar(&right)).code(),
        "AUTH_RATE_LIMITED"
    );
    gateway.welcome(&right);
}

#[test]
fn the_audience_of_a_token_is_told_by_explain() {
    let gateway = gateway!();
    let secret = create(&mut gateway.owner(4), "ci", &["operator.read"]);
    let (mut client, _) = gateway
        .from_afar(&with(4, &secret, &["operator.read"]))
        .unwrap();
    let explained = client.call("auth.explain", &json!({}));
    assert_eq!(explained["basis"], "api-token");
    assert_eq!(explained["granted"], json!(["operator.read"]));
    assert!(
        explained.to_string().contains("api-token:ci"),
        "{explained}"
    );
    assert!(!explained.to_string().contains(&secret));
}
