//! What asking, approving, rotating and revoking do to requests and records.

use clawgate_core::{
    DeviceId, PairingRequestId, Role, Scope, ScopeSet,
    authz::{
        Browser, Check, Credentials, Declared, Evidence, Grant, Outcome, Peer, Policy, Proof,
        Record, ScopedCheck, grant,
    },
    pairing::{
        Approved, Asked, Asking, Claims, Device, DeviceToken, OLD_TOKEN_TTL_MS, PENDING_MAX,
        PENDING_PER_ADDRESS_MAX, PENDING_TTL_MS, PairingError, Pending, approve, ask, issue_token,
        makes_room, may_approve, may_end, may_manage, revoke, rotate,
    },
};

const NOW: i64 = 1_767_225_600_000;

fn scopes(names: &str) -> ScopeSet {
    names
        .split_whitespace()
        .map(|name| Scope::new(format!("operator.{name}")))
        .collect()
}

fn names(scopes: &ScopeSet) -> String {
    scopes.joined().replace("operator.", "").replace(',', " ")
}

fn device_id(name: &str) -> DeviceId {
    DeviceId::new(name.to_owned())
}

fn request_id(name: &str) -> PairingRequestId {
    PairingRequestId::new(name.to_owned())
}

fn claims(platform: &str, family: &str) -> Claims {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Claims {
        platform: given(platform),
        device_family: given(family),
        client_id: "cli".to_owned(),
        client_mode: "cli".to_owned(),
        ..Claims::default()
    }
}

fn pending(id: &str, role: Role, wanted: &str) -> Pending {
    Pending {
        request_id: request_id(id),
        device_id: device_id("phone"),
        public_key: "key".to_owned(),
        role,
        scopes: scopes(wanted),
        claims: claims("ios", "iPhone"),
        is_repair: false,
        asked_at_ms: NOW,
    }
}

/// A device paired as operator, with a token of its own.
fn phone(approved: &str, carried: &str) -> Device {
    Device {
        device_id: device_id("phone"),
        public_key: "key".to_owned(),
        claims: claims("ios", "iPhone"),
        approved: vec![Approved {
            role: Role::Operator,
            scopes: scopes(approved),
        }],
        tokens: vec![DeviceToken {
            role: Role::Operator,
            scopes: scopes(carried),
            serial: "first".to_owned(),
            old_serial: None,
            old_until_ms: None,
            created_at_ms: NOW,
            rotated_at_ms: None,
            revoked_at_ms: None,
            last_used_at_ms: Some(NOW),
        }],
        silently: true,
        created_at_ms: NOW,
        approved_at_ms: NOW,
    }
}

fn operator(device: &Device) -> &DeviceToken {
    device.token(Role::Operator).expect("a token")
}

/// Somebody who holds exactly these scopes, through an API token.
fn caller(held: &str) -> Grant {
    let evidence = Evidence {
        peer: Peer::Remote,
        browser: Browser::No,
        declared: Declared::Other,
        role: Role::Operator,
        credentials: Credentials {
            api_token: ScopedCheck::Valid(scopes(held)),
            ..Credentials::NONE
        },
        proof: Proof::Absent,
        record: Record::Unknown,
    };
    granted(&evidence, Some(&scopes(held)))
}

/// The same, through a paired device.
fn device_caller(role: Role, held: &str) -> Grant {
    let evidence = Evidence {
        peer: Peer::Remote,
        browser: Browser::No,
        declared: Declared::Other,
        role,
        credentials: Credentials {
            shared: Check::Valid,
            ..Credentials::NONE
        },
        proof: Proof::Valid,
        record: Record::Paired {
            for_role: true,
            scopes: scopes(held),
            pinned: true,
        },
    };
    granted(&evidence, Some(&scopes(held)))
}

fn granted(evidence: &Evidence, requested: Option<&ScopeSet>) -> Grant {
    match grant(evidence, requested, &Policy::default()) {
        Outcome::Granted(grant) => grant,
        other @ (Outcome::NeedsPairing(_) | Outcome::Denied(_)) => panic!("{other:?}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Asking.

fn asking(existing: Option<&Pending>, wanted: &str, key: &str, now_ms: i64) -> Asking {
    let asked = Asked {
        device_id: &device_id("phone"),
        public_key: key,
        role: Role::Operator,
        scopes: &scopes(wanted),
        claims: &claims("ios", "iPhone"),
        is_repair: true,
    };
    ask(existing, &asked, request_id("new"), now_ms)
}

#[test]
fn a_first_request_is_filed_as_it_was_asked() {
    let Asking::New(filed) = asking(None, "read write", "key", NOW) else {
        panic!("nothing was there before");
    };
    let expected = Pending {
        is_repair: true,
        ..pending("new", Role::Operator, "read write")
    };
    assert_eq!(filed, expected);
}

#[test]
fn asking_again_keeps_the_id_unless_more_is_wanted_than_was_shown() {
    enum Is {
        Again(&'static str),
        Replaces(&'static str),
    }
    let table = [
        ("read", "read", Is::Again("read")),
        ("read write", "read", Is::Again("read write")),
        ("write", "read", Is::Again("write")),
        (
            "admin",
            "admin read write approvals pairing",
            Is::Again("admin"),
        ),
        ("read", "", Is::Again("read")),
        ("", "", Is::Again("")),
        ("read", "write", Is::Replaces("read write")),
        ("read", "read pairing", Is::Replaces("read pairing")),
        ("write", "admin", Is::Replaces("write admin")),
        ("", "read", Is::Replaces("read")),
    ];
    for (before, wanted, is) in table {
        let old = pending("old", Role::Operator, before);
        let outcome = asking(Some(&old), wanted, "key", NOW + 1);
        match (is, outcome) {
            (Is::Again(shown), Asking::Again(again)) => {
                assert_eq!(again.request_id, request_id("old"), "{before} {wanted}");
                assert_eq!(names(&again.scopes), shown, "{before} {wanted}");
                assert_eq!(again.asked_at_ms, NOW + 1, "its time starts anew");
            }
            (Is::Replaces(shown), Asking::Replaces { old: closed, new }) => {
                assert_eq!(
                    (closed, &new.request_id),
                    (request_id("old"), &request_id("new"))
                );
                assert_eq!(names(&new.scopes), shown, "{before} {wanted}");
            }
            (_, other) => panic!("{before} {wanted}: {other:?}"),
        }
    }
}

#[test]
fn another_key_never_takes_over_a_request() {
    let old = pending("old", Role::Operator, "read");
    let outcome = asking(Some(&old), "read", "another", NOW + 1);
    let Asking::Replaces { old: closed, new } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(closed, request_id("old"));
    assert_eq!(new.public_key, "another");
}

#[test]
fn a_request_lives_for_five_minutes_after_it_was_last_asked() {
    assert_eq!(PENDING_TTL_MS, 300_000);
    let old = pending("old", Role::Operator, "read");
    for (age, expired) in [
        (0, false),
        (299_999, false),
        (300_000, true),
        (i64::from(u32::MAX), true),
    ] {
        assert_eq!(old.is_expired(NOW + age), expired, "{age}");
        let outcome = asking(Some(&old), "write", "key", NOW + age);
        match outcome {
            // Of an expired one nothing is left, neither its id nor what it asked for.
            Asking::New(new) => assert!(expired && names(&new.scopes) == "write", "{age}"),
            Asking::Replaces { .. } => assert!(!expired, "{age}"),
            Asking::Again(_) => panic!("{age}"),
        }
    }
    let Asking::Again(again) = asking(Some(&old), "read", "key", NOW + 299_999) else {
        panic!("it was alive");
    };
    assert!(!again.is_expired(NOW + 300_000));
    assert!(
        !old.is_expired(NOW - 1),
        "a clock that steps back ends nothing"
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// Approving.

/// Whether a caller may approve a request for a device as it is.
fn approving(
    caller: &Grant,
    request: &Pending,
    known: Option<&Device>,
) -> Result<(), PairingError> {
    let after = approve(known, request, "serial".to_owned(), false, NOW + 5);
    may_approve(caller, request, known, &after)
}

/// Otherwise whoever may approve reading could hand an administrator's device to another machine.
#[test]
fn an_approval_that_pins_anew_needs_all_that_it_brings_back() {
    use PairingError::{NodeNeedsAdmin, NotCovered};
    let elsewhere = |wanted| Pending {
        claims: claims("android", "Pixel"),
        ..pending("request", Role::Operator, wanted)
    };
    let admin = phone("admin read", "read");
    let reading = phone("read", "read");
    let mut node = phone("read", "read");
    node.approved.push(Approved {
        role: Role::Node,
        scopes: ScopeSet::EMPTY,
    });
    let revoked = revoke(&admin, Role::Operator, NOW).unwrap();
    let same = pending("request", Role::Operator, "read");
    let table = [
        (&admin, elsewhere("read"), Err(NotCovered(Scope::ADMIN))),
        (&admin, same.clone(), Ok(())),
        (&reading, elsewhere("read"), Ok(())),
        (&reading, elsewhere(""), Ok(())),
        (&node, elsewhere("read"), Err(NodeNeedsAdmin)),
        (&node, same, Ok(())),
        (&revoked, elsewhere("read"), Ok(())),
    ];
    for (known, request, expected) in table {
        let limited = caller("pairing read");
        assert_eq!(
            approving(&limited, &request, Some(known)),
            expected,
            "{request:?} for {known:?}"
        );
        assert_eq!(
            approving(&caller("admin"), &request, Some(known)),
            Ok(()),
            "an administrator may"
        );
    }
}

#[test]
fn an_approver_must_hold_what_is_asked_for() {
    use PairingError::{NodeNeedsAdmin, NotCovered};
    let table = [
        (
            "admin",
            Role::Operator,
            "admin read write approvals pairing",
            Ok(()),
        ),
        ("admin", Role::Operator, "frobnicate", Ok(())),
        ("write pairing", Role::Operator, "read", Ok(())),
        ("pairing", Role::Operator, "", Ok(())),
        (
            "pairing",
            Role::Operator,
            "read",
            Err(NotCovered(Scope::READ)),
        ),
        (
            "pairing read",
            Role::Operator,
            "read write admin",
            Err(NotCovered(Scope::WRITE)),
        ),
        (
            "pairing write",
            Role::Operator,
            "admin",
            Err(NotCovered(Scope::ADMIN)),
        ),
        ("admin", Role::Node, "", Ok(())),
        ("pairing write", Role::Node, "", Err(NodeNeedsAdmin)),
    ];
    for (held, role, wanted, expected) in table {
        let request = pending("request", role, wanted);
        assert_eq!(
            approving(&caller(held), &request, None),
            expected,
            "{held} approves {role} {wanted}"
        );
    }
    let mut foreign = pending("request", Role::Operator, "");
    foreign.scopes.insert(Scope::new("foo.bar"));
    assert_eq!(
        approving(&caller("admin"), &foreign, None),
        Err(NotCovered(Scope::new("foo.bar"))),
        "not even an administrator holds another family's scope"
    );
}

#[test]
fn a_first_approval_makes_the_record_and_its_token() {
    let request = pending("request", Role::Operator, "read write");
    for silently in [true, false] {
        let device = approve(None, &request, "serial".to_owned(), silently, NOW + 5);
        let mut expected = phone("read write", "read write");
        expected.tokens[0].serial = "serial".to_owned();
        expected.tokens[0].created_at_ms = NOW + 5;
        expected.tokens[0].last_used_at_ms = None;
        (expected.created_at_ms, expected.approved_at_ms) = (NOW + 5, NOW + 5);
        expected.silently = silently;
        assert_eq!(device, expected);
    }
}

#[test]
fn a_later_approval_adds_to_what_was_approved() {
    let table = [
        // approved before, carried before, approved now; then approved, carried
        ("read", "read", "write", "read write", "read write"),
        (
            "read write",
            "read write",
            "read",
            "read write",
            "read write",
        ),
        ("read", "read", "", "read", "read"),
        ("", "", "pairing", "pairing", "pairing"),
        // A token that was made narrower grows by what was shown, not to all that was ever approved.
        (
            "admin read write",
            "read",
            "write",
            "admin read write",
            "read write",
        ),
        ("admin read write", "read", "", "admin read write", "read"),
    ];
    for (approved, carried, wanted, approved_then, carried_then) in table {
        let request = pending("request", Role::Operator, wanted);
        let before = phone(approved, carried);
        let device = approve(Some(&before), &request, "second".to_owned(), false, NOW + 5);
        assert_eq!(
            names(device.approved_for(Role::Operator).unwrap()),
            approved_then
        );
        let token = operator(&device);
        assert_eq!(
            names(&token.scopes),
            carried_then,
            "{approved} {carried} {wanted}"
        );
        assert_eq!(
            (token.serial.as_str(), token.rotated_at_ms),
            ("first", None),
            "the device goes on with the token that it has"
        );
        assert_eq!((token.created_at_ms, device.created_at_ms), (NOW, NOW));
        assert_eq!((device.approved_at_ms, device.silently), (NOW + 5, false));
        assert_eq!(device.tokens.len(), 1);
    }
}

/// Otherwise whoever may approve reading could bring an administrator's revoked device back to life.
#[test]
fn approving_a_revoked_device_revives_only_what_was_shown() {
    let revoked = revoke(
        &phone("admin read write", "admin read write"),
        Role::Operator,
        NOW,
    )
    .unwrap();
    let request = pending("request", Role::Operator, "read");
    assert_eq!(
        approving(&caller("read pairing"), &request, Some(&revoked)),
        Ok(())
    );
    let device = approve(
        Some(&revoked),
        &request,
        "second".to_owned(),
        false,
        NOW + 5,
    );
    assert_eq!(names(device.approved_for(Role::Operator).unwrap()), "read");
    assert_eq!(names(&operator(&device).scopes), "read");
    assert_eq!(operator(&device).revoked_at_ms, None);
}

#[test]
fn each_role_has_its_own_approval_and_token() {
    let request = pending("request", Role::Node, "");
    let device = approve(
        Some(&phone("read", "read")),
        &request,
        "node".to_owned(),
        false,
        NOW + 5,
    );
    assert_eq!(device.approved_for(Role::Node), Some(&ScopeSet::EMPTY));
    assert_eq!(device.token(Role::Node).unwrap().serial, "node");
    assert_eq!(
        operator(&device),
        operator(&phone("read", "read")),
        "the other role is left alone"
    );
    assert_eq!(names(&device.all_scopes()), "read");
    let revoked = revoke(&device, Role::Node, NOW + 6).unwrap();
    assert_eq!(operator(&revoked).revoked_at_ms, None);
    assert_eq!(
        revoked.token(Role::Node).unwrap().revoked_at_ms,
        Some(NOW + 6)
    );
}

#[test]
fn a_record_under_another_key_lends_nothing_to_an_approval() {
    let request = Pending {
        public_key: "another".to_owned(),
        ..pending("request", Role::Operator, "read")
    };
    let before = phone("admin", "admin");
    let device = approve(Some(&before), &request, "serial".to_owned(), false, NOW + 5);
    assert_eq!(
        device,
        approve(None, &request, "serial".to_owned(), false, NOW + 5)
    );
    assert_eq!(
        (device.public_key.as_str(), names(&device.all_scopes())),
        ("another", "read".to_owned())
    );
}

#[test]
fn an_approval_leaves_the_grace_of_an_older_token_alone() {
    let caller = device_caller(Role::Operator, "read");
    let rotated = rotate(
        &phone("read", "read"),
        Role::Operator,
        None,
        &caller,
        true,
        "second".to_owned(),
        NOW,
    )
    .unwrap();
    let request = pending("request", Role::Operator, "write");
    let device = approve(Some(&rotated), &request, "third".to_owned(), false, NOW + 5);
    let (token, before) = (operator(&device), operator(&rotated));
    assert_eq!(token.serial, "second");
    assert_eq!(
        (&token.old_serial, token.old_until_ms),
        (&before.old_serial, before.old_until_ms)
    );
    assert_eq!(names(&token.scopes), "read write");
}

#[test]
fn platform_and_family_are_pinned_once_given() {
    let table = [
        ("ios", "iPhone", "ios", "iPhone", true),
        ("ios", "iPhone", " IOS ", "iphone", true),
        ("ios", "iPhone", "ios", "iPad", false),
        ("ios", "iPhone", "android", "iPhone", false),
        ("ios", "iPhone", "", "", false),
        ("ios", "", "ios", "iPhone", true),
        ("", "", "linux", "server", true),
        (" ", "\t", "linux", "server", true),
        ("ÅLAND", "", "åland", "", false),
    ];
    for (platform, family, claimed_platform, claimed_family, pinned) in table {
        let mut device = phone("read", "read");
        device.claims = claims(platform, family);
        let claimed = claims(claimed_platform, claimed_family);
        assert_eq!(
            device.is_pinned_to(&claimed),
            pinned,
            "{platform}/{family} {claimed:?}"
        );
    }
    let request = Pending {
        claims: claims("android", "Pixel"),
        ..pending("request", Role::Operator, "read")
    };
    let device = approve(
        Some(&phone("read", "read")),
        &request,
        "serial".to_owned(),
        false,
        NOW,
    );
    assert!(
        device.is_pinned_to(&claims("android", "pixel")),
        "an approval pins anew"
    );
    assert!(!device.is_pinned_to(&claims("ios", "iPhone")));
}

#[test]
fn issuing_replaces_a_token_at_once_and_revives_a_revoked_one() {
    let mut device = revoke(&phone("read write", "read"), Role::Operator, NOW).unwrap();
    issue_token(
        &mut device,
        Role::Operator,
        scopes("write"),
        "second".to_owned(),
        NOW + 5,
    );
    let token = operator(&device);
    assert_eq!(
        (names(&token.scopes), token.serial.as_str()),
        ("write".to_owned(), "second")
    );
    assert_eq!(
        (token.revoked_at_ms, token.rotated_at_ms),
        (None, Some(NOW + 5))
    );
    assert_eq!((&token.old_serial, token.old_until_ms), (&None, None));
    assert_eq!(token.created_at_ms, NOW);
    issue_token(
        &mut device,
        Role::Node,
        ScopeSet::EMPTY,
        "node".to_owned(),
        NOW + 6,
    );
    assert_eq!(device.tokens.len(), 2);
    assert_eq!(
        device.token(Role::Node).unwrap().rotated_at_ms,
        None,
        "the first of its role"
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// Rotating and revoking.

#[test]
fn a_rotation_stays_within_the_approved_set_and_within_the_caller() {
    use PairingError::{BeyondApproved, NotCovered};
    let table = [
        // approved, carried, wanted, caller; the new token
        ("read write", "read", None, "pairing read", Ok("read")),
        (
            "read write",
            "read",
            Some("write"),
            "pairing write",
            Ok("write"),
        ),
        ("write", "write", Some("read"), "pairing read", Ok("read")),
        (
            "admin",
            "admin",
            Some("read pairing"),
            "pairing read",
            Ok("read pairing"),
        ),
        ("read", "read", Some(""), "pairing", Ok("")),
        (
            "read",
            "read",
            Some("write"),
            "admin",
            Err(BeyondApproved(Scope::WRITE)),
        ),
        (
            "read",
            "read",
            Some("admin"),
            "read",
            Err(BeyondApproved(Scope::ADMIN)),
        ),
        (
            "admin",
            "admin",
            None,
            "pairing read",
            Err(NotCovered(Scope::ADMIN)),
        ),
        (
            "read write",
            "write",
            None,
            "pairing read",
            Err(NotCovered(Scope::WRITE)),
        ),
        (
            "read write",
            "read",
            Some("read write"),
            "pairing read",
            Err(NotCovered(Scope::WRITE)),
        ),
    ];
    for (approved, carried, wanted, held, expected) in table {
        let before = phone(approved, carried);
        let wanted = wanted.map(scopes);
        let rotated = rotate(
            &before,
            Role::Operator,
            wanted.as_ref(),
            &caller(held),
            false,
            "second".to_owned(),
            NOW + 5,
        );
        let carried = rotated
            .as_ref()
            .map(|device| names(&operator(device).scopes));
        let expected = expected.map(str::to_owned);
        assert_eq!(
            carried.map_err(Clone::clone),
            expected,
            "{approved} {wanted:?} {held}"
        );
        if let Ok(device) = rotated {
            assert_eq!(operator(&device).serial, "second");
            assert_eq!(operator(&device).rotated_at_ms, Some(NOW + 5));
            assert_eq!(device.approved, before.approved);
            assert_eq!(device.approved_at_ms, before.approved_at_ms);
        }
    }
}

#[test]
fn only_a_living_token_can_be_rotated() {
    let by = caller("admin");
    let rotated = |device: &Device, role| {
        rotate(device, role, None, &by, false, "second".to_owned(), NOW + 5).map(|_| ())
    };
    let device = phone("read", "read");
    assert_eq!(rotated(&device, Role::Operator), Ok(()));
    assert_eq!(
        rotated(&device, Role::Node),
        Err(PairingError::UnknownDevice)
    );
    let revoked = revoke(&device, Role::Operator, NOW + 1).unwrap();
    assert_eq!(
        rotated(&revoked, Role::Operator),
        Err(PairingError::UnknownDevice)
    );
    let mut tokenless = device.clone();
    tokenless.tokens.clear();
    assert_eq!(
        rotated(&tokenless, Role::Operator),
        Err(PairingError::UnknownDevice)
    );
    let mut unapproved = device;
    unapproved.approved.clear();
    assert_eq!(
        rotated(&unapproved, Role::Operator),
        Err(PairingError::UnknownDevice)
    );
}

#[test]
fn a_device_that_rotates_its_own_token_keeps_the_old_one_for_five_minutes() {
    assert_eq!(OLD_TOKEN_TTL_MS, 300_000);
    let own = device_caller(Role::Operator, "read write");
    let device = phone("read write", "read write");
    let rotated = rotate(
        &device,
        Role::Operator,
        None,
        &own,
        true,
        "second".to_owned(),
        NOW + 5,
    )
    .unwrap();
    let token = operator(&rotated);
    assert_eq!(token.serial, "second");
    assert_eq!(token.old_serial.as_deref(), Some("first"));
    assert_eq!(token.old_until_ms, Some(NOW + 5 + 300_000));
    // The old one has no scopes of its own: made narrower, both are.
    let narrow = scopes("read");
    let again = rotate(
        &rotated,
        Role::Operator,
        Some(&narrow),
        &own,
        true,
        "third".to_owned(),
        NOW + 6,
    )
    .unwrap();
    assert_eq!(names(&operator(&again).scopes), "read");
    assert_eq!(operator(&again).serial, "third");
    // The second was never used, or the first would not live any more: it is the one that goes.
    assert_eq!(operator(&again).old_serial.as_deref(), Some("first"));
    assert_eq!(operator(&again).old_until_ms, Some(NOW + 6 + 300_000));
    let much_later = NOW + 6 + 300_000;
    let third = rotate(
        &again,
        Role::Operator,
        None,
        &own,
        true,
        "fourth".to_owned(),
        much_later,
    )
    .unwrap();
    assert_eq!(
        operator(&third).old_serial.as_deref(),
        Some("third"),
        "the time of the first one is over"
    );
}

#[test]
fn a_rotation_by_anybody_else_ends_the_old_token_at_once() {
    let own = device_caller(Role::Operator, "read");
    let device = phone("read", "read");
    let in_grace = rotate(
        &device,
        Role::Operator,
        None,
        &own,
        true,
        "second".to_owned(),
        NOW,
    )
    .unwrap();
    for before in [device, in_grace] {
        let rotated = rotate(
            &before,
            Role::Operator,
            None,
            &caller("admin"),
            false,
            "third".to_owned(),
            NOW + 5,
        )
        .unwrap();
        assert_eq!(operator(&rotated).serial, "third");
        assert_eq!(operator(&rotated).old_serial, None);
        assert_eq!(operator(&rotated).old_until_ms, None);
    }
}

#[test]
fn a_revocation_ends_the_token_and_its_predecessor() {
    let own = device_caller(Role::Operator, "read");
    let device = phone("read", "read");
    let in_grace = rotate(
        &device,
        Role::Operator,
        None,
        &own,
        true,
        "second".to_owned(),
        NOW,
    )
    .unwrap();
    let revoked = revoke(&in_grace, Role::Operator, NOW + 5).unwrap();
    let token = operator(&revoked);
    assert_eq!(token.revoked_at_ms, Some(NOW + 5));
    assert_eq!((&token.old_serial, token.old_until_ms), (&None, None));
    assert_eq!(
        revoke(&revoked, Role::Node, NOW + 5),
        Err(PairingError::UnknownDevice)
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// Who may act on whose device.

#[test]
fn a_device_without_admin_manages_itself_alone() {
    let (own, other) = (device_id("phone"), device_id("laptop"));
    let table = [
        // who; own device; manages itself, manages another
        (
            device_caller(Role::Operator, "pairing"),
            Some(&own),
            true,
            false,
        ),
        (
            device_caller(Role::Operator, "pairing read write"),
            Some(&own),
            true,
            false,
        ),
        (device_caller(Role::Operator, "pairing"), None, false, false),
        (
            device_caller(Role::Operator, "admin"),
            Some(&own),
            true,
            true,
        ),
        (device_caller(Role::Node, ""), Some(&own), true, false),
        (caller("pairing"), None, true, true),
        (caller("admin"), None, true, true),
    ];
    for (who, own_device, itself, another) in table {
        assert_eq!(may_manage(&who, own_device, &own), itself, "{who:?}");
        assert_eq!(may_manage(&who, own_device, &other), another, "{who:?}");
    }
}

#[test]
fn taking_away_needs_what_is_taken_away() {
    use PairingError::NotCovered;
    let mut both = phone("read write", "read");
    both.approved.push(Approved {
        role: Role::Node,
        scopes: ScopeSet::EMPTY,
    });
    let admin = || Err(NotCovered(Scope::ADMIN));
    let table = [
        // who; the device; which role, or the whole of it
        (
            "pairing",
            phone("read", "read"),
            Some(Role::Operator),
            Err(NotCovered(Scope::READ)),
        ),
        (
            "pairing read",
            phone("read", "read"),
            Some(Role::Operator),
            Ok(()),
        ),
        (
            "pairing read",
            phone("admin", "read"),
            Some(Role::Operator),
            admin(),
        ),
        (
            "pairing read",
            phone("read", "admin"),
            Some(Role::Operator),
            admin(),
        ),
        ("pairing read", phone("admin", "read"), None, admin()),
        ("pairing write", both.clone(), Some(Role::Operator), Ok(())),
        ("pairing write", both.clone(), Some(Role::Node), admin()),
        ("pairing write", both.clone(), None, admin()),
        ("admin", both.clone(), None, Ok(())),
        ("admin", both, Some(Role::Node), Ok(())),
    ];
    for (held, device, role, expected) in table {
        let named = format!("{held} {role:?} {device:?}");
        assert_eq!(
            may_end(&caller(held), None, &device, role, &ScopeSet::default()),
            expected,
            "{named}"
        );
        let own = device_id("phone");
        assert_eq!(
            may_end(
                &device_caller(Role::Operator, held),
                Some(&own),
                &device,
                role,
                &ScopeSet::default(),
            ),
            Ok(()),
            "a device may end itself: {named}"
        );
        let other = device_id("laptop");
        let by_device = may_end(
            &device_caller(Role::Operator, held),
            Some(&other),
            &device,
            role,
            &ScopeSet::default(),
        );
        assert_eq!(by_device.is_ok(), held == "admin", "{named}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Floods.

fn asked_from(number: usize, address: Option<&str>) -> Pending {
    let mut request = pending(&number.to_string(), Role::Operator, "read");
    request.device_id = device_id(&format!("device-{number}"));
    request.asked_at_ms = NOW + i64::try_from(number).expect("a small number");
    request.claims.remote_ip = address.map(str::to_owned);
    request
}

fn evicted(waiting: &[Pending], new: &Pending) -> Option<String> {
    makes_room(waiting, new).map(|gone| gone.request_id.to_string())
}

#[test]
fn a_flood_crowds_out_itself_and_nobody_else() {
    let flood = Some("203.0.113.9");
    let mut waiting = vec![asked_from(0, Some("203.0.113.7")), asked_from(1, None)];
    waiting.extend((2..2 + PENDING_PER_ADDRESS_MAX).map(|n| asked_from(n, flood)));
    let new = |address| asked_from(10_000, address);
    assert_eq!(evicted(&waiting, &new(flood)).as_deref(), Some("2"));
    assert_eq!(evicted(&waiting, &new(Some("203.0.113.7"))), None);
    assert_eq!(evicted(&waiting, &new(None)), None);
    // A device that asks again takes its own place.
    assert_eq!(evicted(&waiting, &asked_from(5, flood)), None);
}

#[test]
fn a_network_of_one_machine_is_one_address() {
    let of = |n: usize| format!("2001:db8:1:2::{n:x}");
    let waiting: Vec<Pending> = (0..PENDING_PER_ADDRESS_MAX)
        .map(|n| asked_from(n, Some(&of(n))))
        .collect();
    let new = asked_from(10_000, Some(&of(9_999)));
    assert_eq!(evicted(&waiting, &new).as_deref(), Some("0"));
}

#[test]
fn when_all_places_are_taken_the_address_with_most_makes_room() {
    let mut waiting: Vec<Pending> = (0..PENDING_MAX - 2)
        .map(|n| asked_from(n, Some(&format!("198.51.{}.{}", n / 200, n % 200))))
        .collect();
    waiting.extend((0..2).map(|n| asked_from(5_000 + n, Some("203.0.113.9"))));
    let new = asked_from(10_000, Some("192.0.2.1"));
    assert_eq!(evicted(&waiting, &new).as_deref(), Some("5000"));
    let known = asked_from(10_000, Some("198.51.0.7"));
    assert_eq!(evicted(&waiting, &known).as_deref(), Some("7"));
    waiting.pop();
    assert_eq!(evicted(&waiting, &new), None);
}
