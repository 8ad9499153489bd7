//! Which credential is tried after which, and where it never goes.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/server.rs"]
mod server;

use std::fs;

use clawgate_client::{
    Attempt, ClientError, ConnectOptions, CredentialKind, Endpoint, Identity, LocalKey, Opened,
    Outcome, Plan, TokenStore, open,
};
use clawgate_protocol::{Role, ScopeSet, proof::local_proof_text};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use server::{Act, Greeting, NONCE, Reply, Server, hello_v4, owner, refusal};
use sha2::Sha256;
use tempfile::TempDir;

/// A machine with an identity, a stored token for one endpoint and a gateway's key.
struct Machine {
    dir: TempDir,
    identity: Identity,
    tokens: TokenStore,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        let tokens = TokenStore::new(dir.path(), identity.device_id());
        fs::write(
            dir.path().join("identity").join("local.key"),
            "ab".repeat(32),
        )
        .unwrap();
        Self {
            dir,
            identity,
            tokens,
        }
    }

    fn with_stored(self, endpoint: &Endpoint) -> Self {
        self.tokens
            .keep(endpoint, "operator", &"stored".into(), &ScopeSet::owner())
            .unwrap();
        self
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        token: Option<&str>,
        local: bool,
    ) -> Result<Opened, (ClientError, Vec<Attempt>)> {
        let plan = Plan {
            options: ConnectOptions::new(endpoint, &self.identity, "1"),
            methods: vec!["cron.add".to_owned(), "status".to_owned()],
            token: token.map(Into::into),
            second_token: None,
            password: None,
            asks_about_credential: false,
            stored: self.tokens.find(endpoint, "operator", false).unwrap(),
            local_key: local.then(|| LocalKey::load(self.dir.path()).unwrap().unwrap()),
        };
        let opened = open(&plan).await?;
        opened.keep_token(&self.tokens, &plan.options).unwrap();
        Ok(opened)
    }
}

fn endpoint(server: &Server) -> Endpoint {
    Endpoint::parse(&server.url()).unwrap()
}

#[tokio::test]
async fn a_good_first_credential_is_the_only_one_sent() {
    let server = Server::welcoming(owner());
    let at = endpoint(&server);
    let machine = Machine::new().with_stored(&at);
    let opened = machine.open(&at, Some("shared"), true).await.unwrap();
    assert_eq!(opened.credential, CredentialKind::Shared);
    assert_eq!(server.offered(), [["token"]]);
}

#[tokio::test]
async fn refused_then_short_then_local_proof() {
    let server = Server::start(
        Greeting::LocalProof,
        |number, _| match number {
            0 => refusal("AUTH_TOKEN_MISMATCH"),
            1 => Act::Hello(hello_v4(&["operator.read"])),
            _ => Act::Hello(owner()),
        },
        |_, _| Reply::Nothing,
    );
    let at = endpoint(&server);
    let machine = Machine::new().with_stored(&at);
    let opened = machine.open(&at, Some("wrong"), true).await.unwrap();
    assert_eq!(
        server.offered(),
        [["token"], ["deviceToken"], ["localProof"]]
    );
    assert_eq!(opened.credential, CredentialKind::LocalProof);
    assert!(opened.missing.is_empty());
    let outcomes: Vec<&Outcome> = opened
        .attempts
        .iter()
        .map(|attempt| &attempt.outcome)
        .collect();
    assert!(matches!(outcomes[0], Outcome::Refused(_)));
    assert!(matches!(outcomes[1], Outcome::Short(missing) if missing.joined() == "operator.admin"));
    assert_eq!(outcomes[2], &Outcome::Enough);

    let mut mac = Hmac::<Sha256>::new_from_slice(&[0xab; 32]).unwrap();
    let text = local_proof_text(NONCE, Role::Operator.as_str(), Some(&ScopeSet::owner()));
    mac.update(text.as_bytes());
    let want: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(server.connects()[2]["auth"], json!({"localProof": want}));
}

#[tokio::test]
async fn a_device_that_waits_for_pairing_goes_straight_to_the_local_proof() {
    let server = Server::start(
        Greeting::LocalProof,
        |number, _| {
            if number == 0 {
                refusal("PAIRING_REQUIRED")
            } else {
                Act::Hello(owner())
            }
        },
        |_, _| Reply::Nothing,
    );
    let at = endpoint(&server);
    let machine = Machine::new().with_stored(&at);
    let opened = machine.open(&at, Some("shared"), true).await.unwrap();
    assert_eq!(opened.credential, CredentialKind::LocalProof);
    assert_eq!(server.offered(), [["token"], ["localProof"]]);
}

#[tokio::test]
async fn a_gateway_that_takes_no_local_proof_gets_none() {
    let server = Server::start(
        Greeting::Challenge,
        |_, _| refusal("AUTH_TOKEN_MISMATCH"),
        |_, _| Reply::Nothing,
    );
    let at = endpoint(&server);
    let (error, attempts) = Machine::new()
        .open(&at, Some("wrong"), true)
        .await
        .unwrap_err();
    assert_eq!(
        error.detail_code(),
        Some("AUTH_TOKEN_MISMATCH"),
        "the first refusal is the one told"
    );
    assert_eq!(
        attempts.last().map(|attempt| &attempt.outcome),
        Some(&Outcome::NotTaken)
    );
    assert_eq!(server.offered(), [["token"]]);
}

#[tokio::test]
async fn a_lock_out_and_a_bad_proof_end_the_climb() {
    for code in [
        "AUTH_RATE_LIMITED",
        "DEVICE_AUTH_SIGNATURE_INVALID",
        "CONTROL_UI_ORIGIN_NOT_ALLOWED",
    ] {
        let server = Server::start(
            Greeting::LocalProof,
            move |_, _| refusal(code),
            |_, _| Reply::Nothing,
        );
        let at = endpoint(&server);
        let machine = Machine::new().with_stored(&at);
        let (error, _) = machine.open(&at, Some("shared"), true).await.unwrap_err();
        assert_eq!(error.detail_code(), Some(code));
        assert_eq!(server.connects().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn falling_short_everywhere_keeps_the_best_session_and_says_what_is_missing() {
    let server = Server::start(
        Greeting::Challenge,
        |number, _| Act::Hello(hello_v4(if number == 0 { &["operator.read"] } else { &[] })),
        |_, _| Reply::Nothing,
    );
    let at = endpoint(&server);
    let machine = Machine::new().with_stored(&at);
    let opened = machine.open(&at, Some("shared"), false).await.unwrap();
    assert_eq!(opened.credential, CredentialKind::Shared);
    assert_eq!(opened.missing.joined(), "operator.admin");
    assert_eq!(opened.attempts.len(), 2);
}

#[tokio::test]
async fn a_stored_token_stays_with_its_endpoint() {
    let first = Server::start(
        Greeting::Challenge,
        |_, _| {
            let mut hello = owner();
            hello["auth"]["deviceToken"] = "issued-by-first".into();
            Act::Hello(hello)
        },
        |_, _| Reply::Nothing,
    );
    let second = Server::start(
        Greeting::Challenge,
        |_, _| refusal("AUTH_TOKEN_MISSING"),
        |_, _| Reply::Nothing,
    );
    let machine = Machine::new();
    machine
        .open(&endpoint(&first), Some("shared"), false)
        .await
        .unwrap();
    // Kept: the next connect needs no shared secret.
    machine.open(&endpoint(&first), None, false).await.unwrap();
    assert_eq!(first.offered(), [["token"], ["deviceToken"]]);
    // Another endpoint sees a device, and no secret at all.
    drop(
        machine
            .open(&endpoint(&second), None, false)
            .await
            .unwrap_err(),
    );
    assert_eq!(second.connects().len(), 1);
    assert!(!second.connects()[0].to_string().contains("issued-by-first"));
    assert_eq!(second.connects()[0].get("auth"), None);
}

#[tokio::test]
async fn the_second_token_is_for_a_wrong_first_one_only() {
    let machine = Machine::new();
    for (code, connects) in [("AUTH_TOKEN_MISMATCH", 2), ("AUTH_PASSWORD_MISSING", 1)] {
        let server = Server::start(
            Greeting::Challenge,
            move |_, _| refusal(code),
            |_, _| Reply::Nothing,
        );
        let at = endpoint(&server);
        let plan = Plan {
            options: ConnectOptions::new(&at, &machine.identity, "1"),
            methods: Vec::new(),
            token: Some("one".into()),
            second_token: Some("two".into()),
            password: None,
            asks_about_credential: false,
            stored: None,
            local_key: None,
        };
        drop(open(&plan).await.unwrap_err());
        assert_eq!(server.connects().len(), connects, "{code}");
    }
}

#[tokio::test]
async fn a_credential_given_for_the_command_is_answered_about_itself() {
    let machine = Machine::new();
    for (first, offered) in [
        // Refused: that is the answer.
        (refusal("AUTH_TOKEN_MISMATCH"), vec![vec!["token"]]),
        // Short, or a device that is not paired yet: nothing was said against the credential.
        (
            Act::Hello(hello_v4(&["operator.read"])),
            vec![vec!["token"], vec!["deviceToken"]],
        ),
        (
            refusal("PAIRING_REQUIRED"),
            vec![vec!["token"], vec!["localProof"]],
        ),
    ] {
        let server = Server::start(
            Greeting::LocalProof,
            move |number, _| {
                if number == 0 {
                    first.clone()
                } else {
                    Act::Hello(owner())
                }
            },
            |_, _| Reply::Nothing,
        );
        let at = endpoint(&server);
        machine
            .tokens
            .keep(&at, "operator", &"stored".into(), &ScopeSet::owner())
            .unwrap();
        let plan = Plan {
            options: ConnectOptions::new(&at, &machine.identity, "1"),
            methods: vec!["cron.add".to_owned()],
            token: Some("given".into()),
            second_token: Some("other".into()),
            password: None,
            asks_about_credential: true,
            stored: machine.tokens.find(&at, "operator", false).unwrap(),
            local_key: LocalKey::load(machine.dir.path()).unwrap(),
        };
        drop(open(&plan).await);
        assert_eq!(server.offered(), offered);
    }
}

#[tokio::test]
async fn a_gateway_that_is_starting_is_waited_for_as_it_asks() {
    let server = Server::start(
        Greeting::Challenge,
        |number, _| match number {
            0 => Act::Refuse {
                error: json!({"code": "UNAVAILABLE", "message": "gateway starting; retry shortly",
                    "retryable": true, "retryAfterMs": 5, "details": {"reason": "startup-sidecars"}}),
                code: 1013,
                reason: "gateway starting",
            },
            _ => Act::Hello(owner()),
        },
        |_, _| Reply::Nothing,
    );
    let opened = Machine::new()
        .open(&endpoint(&server), Some("t"), false)
        .await
        .unwrap();
    assert_eq!(opened.attempts.len(), 1);
    assert_eq!(server.connects().len(), 2);
}
