//! One connect and one session, against a scripted gateway on a real socket.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawgate_client::{
    ClientError, CloseInfo, ConnectOptions, Endpoint, EndpointError, Granted, Identity, Offer,
    Session, Waiting, connect,
};
use clawgate_protocol::{ScopeSet, proof::ProofText};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use serde_json::json;
use server::{Act, Greeting, NONCE, Reply, Server, TS, owner, refusal};
use tempfile::TempDir;

struct Caller {
    identity: Identity,
    _dir: TempDir,
}

impl Caller {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            identity: Identity::load_or_create(dir.path()).unwrap(),
            _dir: dir,
        }
    }

    async fn connect(&self, url: &str, offer: &Offer) -> Result<Session, ClientError> {
        let endpoint = Endpoint::parse(url).unwrap();
        let mut options = ConnectOptions::new(&endpoint, &self.identity, "1.2.3");
        options.handshake_within = Duration::from_secs(5);
        options.answer_within = Duration::from_secs(5);
        connect(&options, offer).await
    }

    async fn connect_within(&self, url: &str, ms: u64) -> ClientError {
        let endpoint = Endpoint::parse(url).unwrap();
        let mut options = ConnectOptions::new(&endpoint, &self.identity, "1.2.3");
        options.handshake_within = Duration::from_millis(ms);
        connect(&options, &Offer::default()).await.unwrap_err()
    }
}

fn token(text: &str) -> Offer {
    Offer {
        token: Some(text.into()),
        ..Offer::default()
    }
}

#[tokio::test]
async fn connect_offers_both_versions_and_a_proof_that_verifies() {
    let server = Server::welcoming(owner());
    let caller = Caller::new();
    let session = caller.connect(&server.url(), &token("tok")).await.unwrap();
    assert_eq!(session.granted(), &Granted::Known(ScopeSet::owner()));
    let params = &server.connects()[0];
    assert_eq!(
        (&params["minProtocol"], &params["maxProtocol"]),
        (&json!(3), &json!(4))
    );
    assert_eq!(params["client"]["id"], "cli");
    assert_eq!(params["client"]["mode"], "cli");
    assert_eq!(params["client"].get("deviceFamily"), None);
    assert_eq!(params["scopes"], json!(ScopeSet::owner()));
    assert_eq!(params["auth"], json!({"token": "tok"}));
    let device = &params["device"];
    assert_eq!(
        (&device["nonce"], &device["signedAt"]),
        (&json!(NONCE), &json!(TS))
    );
    let platform = params["client"]["platform"].as_str().unwrap();
    let text = ProofText {
        device_id: caller.identity.device_id(),
        client_id: "cli",
        client_mode: "cli",
        role: "operator",
        scopes: &ScopeSet::owner().joined(),
        signed_at_ms: TS,
        token: "tok",
        nonce: NONCE,
        platform,
        device_family: "",
    };
    let bytes = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(device[name].as_str().unwrap())
            .unwrap()
    };
    let key = VerifyingKey::from_bytes(&bytes("publicKey").try_into().unwrap()).unwrap();
    let signature = Signature::from_bytes(&bytes("signature").try_into().unwrap());
    key.verify(text.v3().as_bytes(), &signature).unwrap();
}

#[tokio::test]
async fn a_version_3_hello_without_auth_grants_nothing_known() {
    let server = Server::welcoming(json!({
        "type": "hello-ok", "protocol": 3, "server": {"version": "2026.3.13", "connId": "c"},
        "features": {"methods": ["health"], "events": []}, "snapshot": {}, "policy": {},
        "something": {"newer": true},
    }));
    let session = Caller::new()
        .connect(&server.url(), &token("t"))
        .await
        .unwrap();
    assert_eq!(session.granted(), &Granted::Unknown);
    assert!(session.serves("health") && !session.serves("auth.explain"));
}

#[tokio::test]
async fn a_refusal_comes_with_error_code_and_reason() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Refuse {
            error: json!({"code": "NOT_PAIRED", "message": "pairing required",
                "details": {"code": "PAIRING_REQUIRED", "requestId": "r1", "reason": "not-paired"}}),
            code: 1008,
            reason: "pairing required",
        },
        |_, _| Reply::Nothing,
    );
    let error = Caller::new()
        .connect(&server.url(), &token("t"))
        .await
        .unwrap_err();
    assert!(error.needs_pairing() && !error.is_retryable() && error.was_reached());
    assert_eq!(error.pairing_request(), Some("r1"));
    let close = CloseInfo {
        code: Some(1008),
        reason: "pairing required".to_owned(),
    };
    assert_eq!(error.close(), Some(&close));
}

#[tokio::test]
async fn credential_refusals_are_told_from_a_lock_out() {
    for (code, credential, limited) in [
        ("AUTH_TOKEN_MISMATCH", true, false),
        ("AUTH_PASSWORD_MISSING", true, false),
        ("AUTH_RATE_LIMITED", false, true),
        ("DEVICE_AUTH_SIGNATURE_INVALID", false, false),
        ("CONTROL_UI_ORIGIN_NOT_ALLOWED", false, false),
    ] {
        let server = Server::start(
            Greeting::Challenge,
            move |_, _| refusal(code),
            |_, _| Reply::Nothing,
        );
        let error = Caller::new()
            .connect(&server.url(), &token("t"))
            .await
            .unwrap_err();
        assert_eq!(
            (error.is_credential_refusal(), error.is_rate_limited()),
            (credential, limited),
            "{code}"
        );
    }
}

#[tokio::test]
async fn every_silence_has_its_own_deadline() {
    let caller = Caller::new();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", mute.local_addr().unwrap());
    let error = caller.connect_within(&url, 60).await;
    assert!(
        matches!(
            error,
            ClientError::Timeout {
                waiting: Waiting::Upgrade,
                ..
            }
        ),
        "{error:?}"
    );
    let silent = Server::start(Greeting::Silence, |_, _| Act::Ignore, |_, _| Reply::Nothing);
    let error = caller.connect_within(&silent.url(), 60).await;
    assert!(
        matches!(
            error,
            ClientError::Timeout {
                waiting: Waiting::Challenge,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        silent.connects().is_empty(),
        "nothing is sent before the challenge"
    );
    let ignoring = Server::start(
        Greeting::Challenge,
        |_, _| Act::Ignore,
        |_, _| Reply::Nothing,
    );
    let error = caller.connect_within(&ignoring.url(), 60).await;
    assert!(
        matches!(
            error,
            ClientError::Timeout {
                waiting: Waiting::Hello,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.was_reached());
}

#[tokio::test]
async fn what_is_no_gateway_is_said_so() {
    let caller = Caller::new();
    let garbage = Server::start(Greeting::Garbage, |_, _| Act::Ignore, |_, _| Reply::Nothing);
    let error = caller
        .connect(&garbage.url(), &token("canary"))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
    assert!(
        garbage.connects().is_empty(),
        "no credential for something that is no gateway"
    );
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = caller
        .connect(&format!("ws://{gone}"), &token("t"))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }) && error.is_retryable());
    assert!(!error.was_reached());
}

#[tokio::test]
async fn a_close_instead_of_hello_is_reported_with_its_code() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Close(1013, "gateway starting"),
        |_, _| Reply::Nothing,
    );
    let error = Caller::new()
        .connect(&server.url(), &token("t"))
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.close().and_then(|close| close.code), Some(1013));
}

#[tokio::test]
async fn calls_may_overtake_each_other_and_events_flow_beside_them() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |method, params| match method {
            "slow" => Reply::Later(json!("slow")),
            "echo" => Reply::Event(
                json!({"type": "event", "event": "tick", "payload": {"ts": 1}, "seq": 7}),
                params.clone(),
            ),
            _ => Reply::Nothing,
        },
    );
    let mut session = Caller::new()
        .connect(&server.url(), &token("t"))
        .await
        .unwrap();
    let params = json!({"a": [1, 2]});
    let (slow, echo) = tokio::join!(
        session.request("slow", None),
        session.request("echo", Some(&params))
    );
    assert_eq!((slow.unwrap(), echo.unwrap()), (json!("slow"), params));
    let event = session.next_event().await.unwrap();
    assert_eq!(
        (event.event.as_str(), event.seq, session.missed_events()),
        ("tick", Some(7), 0)
    );
    session.close().await;
    assert_eq!(server.ends(), [None], "the close frame has no code");
}

#[tokio::test]
async fn a_call_fails_with_the_gateways_error_and_can_wait_for_the_second_answer() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |method, _| match method {
            "agent" => Reply::Twice(json!({"status": "ok"})),
            _ => Reply::Error(
                json!({"code": "FORBIDDEN", "message": "missing scope: operator.admin",
                "details": {"code": "MISSING_SCOPE", "missingScope": "operator.admin"}}),
            ),
        },
    );
    let session = Caller::new()
        .connect(&server.url(), &token("t"))
        .await
        .unwrap();
    assert_eq!(
        session.request("agent", None).await.unwrap()["status"],
        "accepted"
    );
    assert_eq!(
        session.request_final("agent", None).await.unwrap()["status"],
        "ok"
    );
    let error = session.request("cron.add", None).await.unwrap_err();
    assert_eq!(error.missing_scope(), Some("operator.admin"));
    assert_eq!(error.detail_code(), Some("MISSING_SCOPE"));
}

#[tokio::test]
async fn pending_calls_learn_how_the_gateway_closed() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |_, _| Reply::Close(1012, "service restart"),
    );
    let session = Caller::new()
        .connect(&server.url(), &token("t"))
        .await
        .unwrap();
    for _ in 0..2 {
        let error = session.request("status", None).await.unwrap_err();
        let ClientError::Closed {
            close,
            after_hello: true,
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(
            (close.code, close.reason.as_str()),
            (Some(1012), "service restart")
        );
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_message_of_the_gateways_own_limit_is_taken_and_a_larger_one_is_not() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| Act::Hello(owner()),
        |method, _| {
            Reply::Huge(if method == "large" {
                26_000_000
            } else {
                28_000_000
            })
        },
    );
    let session = Caller::new()
        .connect(&server.url(), &token("t"))
        .await
        .unwrap();
    let large = session.request("large", None).await.unwrap();
    assert_eq!(large.as_str().map(str::len), Some(26_000_000));
    let error = session.request("too large", None).await.unwrap_err();
    assert_eq!(error.close().and_then(|close| close.code), Some(1009));
}

#[tokio::test]
async fn an_answer_that_never_comes_has_a_deadline() {
    let server = Server::welcoming(owner());
    let caller = Caller::new();
    let endpoint = Endpoint::parse(&server.url()).unwrap();
    let mut options = ConnectOptions::new(&endpoint, &caller.identity, "1");
    options.answer_within = Duration::from_millis(40);
    let session = connect(&options, &token("t")).await.unwrap();
    let error = session.request("status", None).await.unwrap_err();
    assert!(matches!(
        error,
        ClientError::Timeout {
            waiting: Waiting::Answer,
            ..
        }
    ));
}

#[tokio::test]
async fn plaintext_to_another_machine_is_refused_before_a_packet() {
    let caller = Caller::new();
    for url in ["ws://example.org:1", "ws://10.1.2.3:1"] {
        let error = caller.connect(url, &token("canary")).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Endpoint(EndpointError::Plaintext(_))),
            "{error:?}"
        );
        assert!(!error.was_reached());
    }
    let endpoint = Endpoint::parse("ws://127.0.0.1:1").unwrap();
    let mut options = ConnectOptions::new(&endpoint, &caller.identity, "1");
    options.tls_fingerprint = Some("00");
    let error = connect(&options, &Offer::default()).await.unwrap_err();
    assert!(matches!(
        error,
        ClientError::Endpoint(EndpointError::Fingerprint)
    ));
}

#[test]
fn credentials_do_not_print() {
    let offer = Offer {
        password: Some("canary".into()),
        ..token("canary")
    };
    let shown = format!("{offer:?}");
    assert!(!shown.contains("canary"), "{shown}");
}
