//! Changes that meet: what is begun first is polled first, and who wakes up first is the test's to say.

use std::{future::Future, path::PathBuf, pin::pin, task::Poll};

use clawgate_core::{
    Dialect,
    authz::{
        self, Browser, Check, Credentials, Declared, Evidence, Grant, Outcome, Peer, Policy, Proof,
    },
};
use clawgate_protocol::token::CreateParams;

use super::*;
use crate::{
    state::StateDir,
    tokens::{ApiTokens, TokenError},
};

/// Owners on a database of their own.
struct Place {
    directory: PathBuf,
    store: Store,
    hub: Hub,
    pairings: Pairings,
    tokens: ApiTokens,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Place {
    fn new() -> Self {
        let name = format!("clawgate-pairing-{}", uuid::Uuid::new_v4());
        let directory = std::env::temp_dir().join(name);
        let state = StateDir::hold(&directory).unwrap();
        state.expect_database().unwrap();
        let store = Store::open(&state.database()).unwrap();
        let keys = Arc::new(Keys::open(&state).unwrap());
        let hub = Hub::default();
        Self {
            pairings: Pairings::open(&store, &hub, &keys).unwrap(),
            tokens: ApiTokens::open(&store, &hub).unwrap(),
            directory,
            store,
            hub,
        }
    }

    /// A session with everything, of a device or of nobody's.
    fn session(&self, device: Option<&DeviceId>) -> Arc<Link> {
        self.session_with(device, "operator.admin").0
    }

    fn session_with(
        &self,
        device: Option<&DeviceId>,
        scope: &'static str,
    ) -> (Arc<Link>, crate::hub::Outbox) {
        let principal = Principal {
            conn_id: uuid::Uuid::new_v4().to_string(),
            dialect: Dialect::V4,
            grant: grant(scope),
            device_id: device.cloned(),
            api_token: None,
            expires_at_ms: None,
            pending_request: None,
            peer: Peer::LoopbackDirect,
            address: "127.0.0.1".to_owned(),
            client_id: "cli".to_owned(),
            client_mode: "cli".to_owned(),
            caps: crate::hub::Caps::default(),
            standing: None,
        };
        self.hub.join(principal, self.hub.revocations()).unwrap()
    }

    async fn pair(&self, arrival: &Arrival, scopes: &ScopeSet) -> String {
        let reason = PairingReason::NotPaired;
        self.pairings
            .approve_silently(arrival, &self.pairings.record(arrival), scopes, reason)
            .await
            .unwrap();
        let issued = self.pairings.token_of(arrival).await.unwrap();
        issued.expect("it is paired").token
    }

    fn stored(&self, arrival: &Arrival) -> Option<Device> {
        let id = arrival.device_id.clone();
        self.store.read_blocking(move |db| db.device(&id)).unwrap()
    }
}

fn scopes(names: &[&'static str]) -> ScopeSet {
    names.iter().map(|name| Scope::from(*name)).collect()
}

fn grant(scope: &'static str) -> Grant {
    let evidence = Evidence {
        peer: Peer::LoopbackDirect,
        browser: Browser::No,
        declared: Declared::Other,
        role: Role::Operator,
        credentials: Credentials {
            shared: Check::Valid,
            ..Credentials::NONE
        },
        proof: Proof::Absent,
        record: Record::Unknown,
    };
    match authz::grant(&evidence, Some(&scopes(&[scope])), &Policy::default()) {
        Outcome::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

fn arrival(name: &str) -> Arrival {
    Arrival {
        device_id: DeviceId::new(name.to_owned()),
        public_key: format!("key of {name}"),
        role: Role::Operator,
        claims: Claims {
            client_id: "cli".to_owned(),
            client_mode: "cli".to_owned(),
            ..Claims::default()
        },
    }
}

/// Lets a future begin: its act is queued, its caller does not look at the outcome yet.
async fn begin<F: Future>(mut future: std::pin::Pin<&mut F>) {
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "it waits");
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_wakes_up_late_does_not_bring_a_revoked_token_back() {
    let place = Place::new();
    let phone = arrival("phone");
    place.pair(&phone, &scopes(&["operator.read"])).await;
    let own = place
        .session_with(Some(&phone.device_id), "operator.read")
        .0;
    let rotated = place
        .pairings
        .rotate(&own, &phone.device_id, Role::Operator, None)
        .await
        .unwrap();
    let token = rotated.token.token.as_str();
    // Connects with the new token end the old one; an admin revokes; the connects wake up last.
    let (mut first, mut second) = (
        pin!(place.pairings.check_token(&phone, token)),
        pin!(place.pairings.check_token(&phone, token)),
    );
    begin(first.as_mut()).await;
    begin(second.as_mut()).await;
    let admin = place.session(None);
    place
        .pairings
        .revoke(&admin, &phone.device_id, Role::Operator)
        .await
        .unwrap();
    first.await;
    second.await;
    assert_eq!(place.pairings.check_token(&phone, token).await, None);
    assert_eq!(place.pairings.record(&phone), Record::Revoked);
}

#[tokio::test]
async fn a_caller_that_wakes_up_late_does_not_bring_a_removed_device_back() {
    let place = Place::new();
    let phone = arrival("phone");
    place.pair(&phone, &scopes(&["operator.read"])).await;
    let admin = place.session(None);
    let mut rotating = pin!(
        place
            .pairings
            .rotate(&admin, &phone.device_id, Role::Operator, None)
    );
    begin(rotating.as_mut()).await;
    place
        .pairings
        .remove(&admin, &phone.device_id, ScopeSet::default())
        .await
        .unwrap();
    rotating.await.unwrap();
    assert_eq!(place.pairings.record(&phone), Record::Unknown);
    assert_eq!(place.stored(&phone), None);
}

#[tokio::test]
async fn a_revocation_that_overtakes_a_silent_upgrade_stands() {
    let place = Place::new();
    let phone = arrival("phone");
    place.pair(&phone, &scopes(&["operator.read"])).await;
    let judged = place.pairings.record(&phone);
    let judged_at = place.hub.revocations();
    let admin = place.session(None);
    let everything = scopes(&["operator.admin"]);
    let (mut revoking, mut upgrading) = (
        pin!(
            place
                .pairings
                .revoke(&admin, &phone.device_id, Role::Operator)
        ),
        pin!(place.pairings.approve_silently(
            &phone,
            &judged,
            &everything,
            PairingReason::ScopeUpgrade
        )),
    );
    begin(revoking.as_mut()).await;
    begin(upgrading.as_mut()).await;
    upgrading.await.unwrap();
    assert_ne!(
        place.hub.revocations(),
        judged_at,
        "the connect is judged again"
    );
    revoking.await.unwrap();
    assert_eq!(place.pairings.record(&phone), Record::Revoked);
    let stored = place.stored(&phone).unwrap();
    assert!(
        stored
            .token(Role::Operator)
            .unwrap()
            .revoked_at_ms
            .is_some()
    );
    assert!(!stored.all_scopes().covers(&Scope::ADMIN));
}

#[tokio::test]
async fn a_record_that_changed_role_is_not_approved_on_the_old_verdict() {
    let place = Place::new();
    let phone = arrival("phone");
    // Judged when nothing was known; a person paired it as something else meanwhile.
    let judged = place.pairings.record(&phone);
    let as_node = Arrival {
        role: Role::Node,
        ..phone.clone()
    };
    place.pair(&as_node, &ScopeSet::EMPTY).await;
    let judged_at = place.hub.revocations();
    let wanted = scopes(&["operator.admin"]);
    let reason = PairingReason::NotPaired;
    place
        .pairings
        .approve_silently(&phone, &judged, &wanted, reason)
        .await
        .unwrap();
    assert_ne!(place.hub.revocations(), judged_at);
    assert_eq!(
        place.stored(&phone).unwrap().approved_for(Role::Operator),
        None
    );
}

#[tokio::test]
async fn a_session_that_is_revoked_first_makes_no_token_after_it() {
    let place = Place::new();
    let phone = arrival("phone");
    place.pair(&phone, &scopes(&["operator.admin"])).await;
    let laptop = arrival("laptop");
    let asked = place
        .pairings
        .ask(&laptop, &scopes(&["operator.read"]))
        .await
        .unwrap();
    let admin = place.session(None);
    let (own, mut outbox) = place.session_with(Some(&phone.device_id), "operator.admin");
    let params = || CreateParams {
        name: "survivor".to_owned(),
        scopes: scopes(&["operator.admin"]),
        expires_in_ms: None,
    };
    {
        let (mut revoking, mut making, mut approving, mut rotating) = (
            pin!(
                place
                    .pairings
                    .revoke(&admin, &phone.device_id, Role::Operator)
            ),
            pin!(place.tokens.create(&own, params())),
            pin!(place.pairings.approve(&own, &asked)),
            pin!(
                place
                    .pairings
                    .rotate(&own, &phone.device_id, Role::Operator, None)
            ),
        );
        begin(revoking.as_mut()).await;
        begin(making.as_mut()).await;
        begin(approving.as_mut()).await;
        begin(rotating.as_mut()).await;
        assert!(matches!(making.await, Err(TokenError::CallerEnded)));
        assert!(matches!(approving.await, Err(ChangeError::CallerEnded)));
        assert!(matches!(rotating.await, Err(ChangeError::CallerEnded)));
        revoking.await.unwrap();
    }
    assert!(!own.is_live());
    assert!(outbox.next().is_none(), "it hears nothing more");
    let ending = own.ending().expect("it is to end");
    assert_eq!(ending.code, AUTHORITY_CHANGED);
    // The same where the session revokes itself: it is not closed before its answer, and yet over.
    let tablet = arrival("tablet");
    place.pair(&tablet, &scopes(&["operator.admin"])).await;
    let own = place.session(Some(&tablet.device_id));
    let (mut revoking, mut making) = (
        pin!(
            place
                .pairings
                .revoke(&own, &tablet.device_id, Role::Operator)
        ),
        pin!(place.tokens.create(&own, params())),
    );
    begin(revoking.as_mut()).await;
    begin(making.as_mut()).await;
    revoking.await.unwrap();
    assert!(matches!(making.await, Err(TokenError::CallerEnded)));
    assert_eq!(place.tokens.list().len(), 0);
}

#[tokio::test]
async fn a_device_token_notes_its_last_use() {
    let place = Place::new();
    let phone = arrival("phone");
    let token = place.pair(&phone, &scopes(&["operator.read"])).await;
    place.pairings.check_token(&phone, &token).await.unwrap();
    let noted = async {
        loop {
            let stored = place.stored(&phone).unwrap();
            if stored
                .token(Role::Operator)
                .unwrap()
                .last_used_at_ms
                .is_some()
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), noted)
        .await
        .expect("the use is written down");
}
