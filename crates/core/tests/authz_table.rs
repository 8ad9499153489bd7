//! Section 3 of the design, row by row, and then against `grant` over the whole domain.
//!
//! [`decide`] restates the table from its text, not from the code: a row says where it holds and
//! what it gives, the answer is the union of the rows that hold, and a refusal stands where none
//! gives anything. Scopes are bits here, and [`reach`] is written anew as well.
//!
//! Where the table is silent, `decide` says so: "silent:" in a comment marks a reading of ours.

use std::{
    ops::Range,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use clawgate_core::{
    Role, Scope, ScopeSet,
    authz::{
        Basis, Browser, Check, CredentialFault, Credentials, Declared, Denied, Evidence, Grant,
        MissingWhy, Outcome, PairingReason, PairingStep, Peer, Policy, Proof, Record, ScopedCheck,
        grant,
    },
    proof::ProofFault,
};

type Mask = u16;

const NAMES: [&str; 12] = [
    "operator.admin",
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.pairing",
    "operator.talk.secrets",
    "operator.questions",
    "operator.talk",
    "operator.sessions.read",
    "operator.sessions.write",
    "operator.x",
    "foo.bar",
];
const NOTHING: Mask = 0;
const ADMIN: Mask = 1;
const READ: Mask = 1 << 1;
const WRITE: Mask = 1 << 2;
const PAIRING: Mask = 1 << 4;
const BUNDLE: Mask = 0b1_1111;
const FOREIGN: Mask = 1 << 11;
const OWNER: Mask = FOREIGN - 1;

/// `operator.admin` covers every operator scope, `operator.write` covers reading (and, on wire 4,
/// talk and sessions), everything else matches exactly.
fn reach(held: Mask) -> Mask {
    let admin = if held & ADMIN != 0 { OWNER } else { NOTHING };
    let write = if held & WRITE != 0 {
        READ | 0b11_1000_0000
    } else {
        NOTHING
    };
    held | admin | write
}

fn set(mask: Mask) -> ScopeSet {
    static SETS: LazyLock<Vec<ScopeSet>> = LazyLock::new(|| {
        let named = |mask: usize| {
            let names = NAMES
                .iter()
                .enumerate()
                .filter(move |(bit, _)| mask >> bit & 1 == 1);
            names.map(|(_, name)| Scope::from(*name)).collect()
        };
        (0..1 << NAMES.len()).map(named).collect()
    });
    SETS[usize::from(mask)].clone()
}

fn mask(scopes: &ScopeSet) -> Mask {
    let bit = |scope: &Scope| {
        NAMES
            .iter()
            .position(|name| *name == scope.as_str())
            .expect("a name in play")
    };
    scopes
        .iter()
        .fold(NOTHING, |all, scope| all | 1 << bit(scope))
}

// ---------------------------------------------------------------------------------------------------------------------
// The domain.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Absent,
    Valid,
    Bad,
}

/// A credential with scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Absent,
    Valid(Mask),
    Bad,
}

impl Carried {
    fn held(self) -> Option<Mask> {
        match self {
            Self::Valid(scopes) => Some(scopes),
            Self::Absent | Self::Bad => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Unknown,
    Pending,
    Revoked,
    Paired {
        for_role: bool,
        pinned: bool,
        approved: Mask,
    },
}

/// One evidence.
#[derive(Clone, Copy, Debug)]
struct Facts {
    peer: Peer,
    browser: Browser,
    declared: Declared,
    shared: Shown,
    device_token: Carried,
    api_token: Carried,
    local_proof: Shown,
    identity: Carried,
    bootstrap: Shown,
    proof: Shown,
    record: Known,
    role: Role,
}

/// A program on this machine that shows nothing.
const HERE: Facts = Facts {
    peer: Peer::LoopbackDirect,
    browser: Browser::No,
    declared: Declared::Other,
    shared: Shown::Absent,
    device_token: Carried::Absent,
    api_token: Carried::Absent,
    local_proof: Shown::Absent,
    identity: Carried::Absent,
    bootstrap: Shown::Absent,
    proof: Shown::Absent,
    record: Known::Unknown,
    role: Role::Operator,
};

const SHOWN: [Shown; 3] = [Shown::Absent, Shown::Valid, Shown::Bad];
const DEVICE_TOKENS: [Carried; 4] = [
    Carried::Absent,
    Carried::Valid(READ),
    Carried::Valid(BUNDLE),
    Carried::Bad,
];
const API_TOKENS: [Carried; 4] = [
    Carried::Absent,
    Carried::Valid(READ),
    Carried::Valid(ADMIN),
    Carried::Bad,
];
const IDENTITIES: [Carried; 4] = [
    Carried::Absent,
    Carried::Valid(READ),
    Carried::Valid(NOTHING),
    Carried::Bad,
];
const BOOTSTRAPS: [Shown; 2] = [Shown::Absent, Shown::Bad];

fn records() -> Vec<Known> {
    let mut all = vec![Known::Unknown, Known::Pending, Known::Revoked];
    for approved in [NOTHING, READ, BUNDLE, PAIRING] {
        for (for_role, pinned) in [(true, true), (true, false), (false, true), (false, false)] {
            all.push(Known::Paired {
                for_role,
                pinned,
                approved,
            });
        }
    }
    all
}

const EVIDENCES: usize = 4 * 3 * 4 * 3 * 4 * 4 * 3 * 4 * 2 * 3 * 19 * 2;

fn pick<T: Copy>(index: &mut usize, values: &[T]) -> T {
    let value = values[*index % values.len()];
    *index /= values.len();
    value
}

impl Facts {
    fn nth(mut index: usize, records: &[Known]) -> Self {
        let at = &mut index;
        Self {
            peer: pick(at, &Peer::ALL),
            browser: pick(at, &Browser::ALL),
            declared: pick(at, &Declared::ALL),
            shared: pick(at, &SHOWN),
            device_token: pick(at, &DEVICE_TOKENS),
            api_token: pick(at, &API_TOKENS),
            local_proof: pick(at, &SHOWN),
            identity: pick(at, &IDENTITIES),
            bootstrap: pick(at, &BOOTSTRAPS),
            proof: pick(at, &SHOWN),
            record: pick(at, records),
            role: pick(at, &Role::ALL),
        }
    }

    fn any_bad_credential(&self) -> bool {
        self.shared == Shown::Bad
            || self.device_token == Carried::Bad
            || self.api_token == Carried::Bad
            || self.local_proof == Shown::Bad
            || self.bootstrap == Shown::Bad
            || self.identity == Carried::Bad
    }

    fn evidence(&self) -> Evidence {
        let check = |shown, fault| match shown {
            Shown::Absent => Check::Absent,
            Shown::Valid => Check::Valid,
            Shown::Bad => Check::Bad(fault),
        };
        let scoped = |carried, fault| match carried {
            Carried::Absent => ScopedCheck::Absent,
            Carried::Valid(scopes) => ScopedCheck::Valid(set(scopes)),
            Carried::Bad => ScopedCheck::Bad(fault),
        };
        Evidence {
            peer: self.peer,
            browser: self.browser,
            declared: self.declared,
            role: self.role,
            credentials: Credentials {
                shared: check(self.shared, CredentialFault::TokenMismatch),
                device_token: scoped(self.device_token, CredentialFault::DeviceTokenMismatch),
                api_token: scoped(self.api_token, CredentialFault::ApiTokenRevoked),
                local_proof: check(self.local_proof, CredentialFault::LocalProofMismatch),
                bootstrap: check(self.bootstrap, CredentialFault::BootstrapInvalid),
                identity: scoped(self.identity, CredentialFault::ProxyUserMissing),
            },
            proof: match self.proof {
                Shown::Absent => Proof::Absent,
                Shown::Valid => Proof::Valid,
                Shown::Bad => Proof::Bad(ProofFault::NonceMismatch),
            },
            record: match self.record {
                Known::Unknown => Record::Unknown,
                Known::Pending => Record::Pending,
                Known::Revoked => Record::Revoked,
                Known::Paired {
                    for_role,
                    pinned,
                    approved,
                } => Record::Paired {
                    for_role,
                    scopes: set(approved),
                    pinned,
                },
            },
        }
    }

    fn ask(&self, requested: Option<Mask>, rules: Rules) -> Outcome {
        grant(
            &self.evidence(),
            requested.map(set).as_ref(),
            &rules.policy(),
        )
    }
}

/// The policy.
#[derive(Clone, Copy, Debug)]
struct Rules {
    open: bool,
    deviceless: Mask,
}

const BY_DEFAULT: Rules = Rules {
    open: false,
    deviceless: BUNDLE,
};
const RULES: [Rules; 4] = [
    BY_DEFAULT,
    Rules {
        open: false,
        deviceless: READ,
    },
    Rules {
        open: false,
        deviceless: NOTHING,
    },
    Rules {
        open: true,
        deviceless: BUNDLE,
    },
];

impl Rules {
    fn policy(self) -> Policy {
        Policy {
            open: self.open,
            deviceless_loopback: set(self.deviceless),
        }
    }
}

const REQUESTS: [Option<Mask>; 18] = [
    None,
    Some(NOTHING),
    Some(ADMIN),
    Some(READ),
    Some(WRITE),
    Some(1 << 3),
    Some(PAIRING),
    Some(1 << 5),
    Some(1 << 6),
    Some(1 << 7),
    Some(1 << 8),
    Some(1 << 9),
    Some(BUNDLE),
    Some(READ | WRITE),
    Some(WRITE | PAIRING),
    Some(1 << 10),
    Some(FOREIGN),
    Some(READ | FOREIGN),
];

// ---------------------------------------------------------------------------------------------------------------------
// The table, restated.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Granted { scopes: Mask, pairing: PairingStep },
    NeedsPairing(PairingReason),
    OriginNotAllowed,
    BadProof,
    BadCredential,
    NoCredential,
    NoDevice,
    Nothing,
}

/// What the device's rows say: which of the wanted scopes it gets, and what becomes of its record.
struct DeviceRow {
    gives: Option<Mask>,
    step: PairingStep,
}

fn decide(facts: &Facts, requested: Option<Mask>, rules: Rules) -> Answer {
    if facts.browser == Browser::ForeignOrigin {
        return Answer::OriginNotAllowed;
    }
    if facts.proof == Shown::Bad {
        return Answer::BadProof;
    }
    let direct = facts.peer == Peer::LoopbackDirect;
    let program = facts.browser == Browser::No;
    let proven = facts.proof == Shown::Valid;
    let operator = facts.role == Role::Operator;

    // Mode `none` on LoopbackDirect: as SharedSecret.
    let secret = facts.shared == Shown::Valid || (rules.open && direct);
    let local = facts.local_proof == Shown::Valid && direct && program;
    // Silent: a device token without its device is nothing.
    let token = facts.device_token.held().filter(|_| proven);
    // Silent: an API token has no node role ("Node role: device proof and an approved pairing always").
    let api = facts.api_token.held().filter(|_| operator);
    // Silent: what a proxy's user gets; it stands where the shared secret stands elsewhere.
    let identity = facts
        .identity
        .held()
        .filter(|_| facts.peer == Peer::TrustedProxy);
    if !secret && !local && token.is_none() && api.is_none() && identity.is_none() {
        // Silent: what is said when nothing at all was shown.
        return match (facts.any_bad_credential(), proven) {
            (true, _) => Answer::BadCredential,
            (false, true) => Answer::NoCredential,
            (false, false) => Answer::NoDevice,
        };
    }

    // "`scopes` absent: a paired device gets its approved set, anything else gets `operator.read`."
    let approved = match facts.record {
        Known::Paired {
            for_role: true,
            approved,
            ..
        } if proven => approved,
        _ => NOTHING,
    };
    let by_device = requested.unwrap_or(if approved == NOTHING { READ } else { approved });
    let by_others = requested.unwrap_or(by_device | READ);
    let by_device = if operator { by_device } else { NOTHING };

    let device =
        (proven && (secret || local || token.is_some() || identity.is_some())).then(|| {
            device_row(
                facts,
                by_device,
                requested.is_none(),
                secret,
                local,
                token,
                identity,
            )
        });
    if !operator {
        return match device {
            None => Answer::NoDevice,
            Some(DeviceRow {
                gives: Some(_),
                step,
            }) => Answer::Granted {
                scopes: NOTHING,
                pairing: step,
            },
            Some(DeviceRow { gives: None, step }) => refused(step),
        };
    }

    // LoopbackDirect, No, SharedSecret, Absent. An empty policy turns the row off.
    let deviceless = (secret && direct && program && rules.deviceless != NOTHING)
        .then_some(by_others & reach(rules.deviceless));
    // Silent: a backend that needs no record gets none, as in the original.
    let spared =
        facts.declared == Declared::Backend && deviceless.is_some_and(|gives| gives == by_others);
    let device = device.filter(|_| !spared);

    let rows = [
        deviceless,
        local.then_some(by_others & OWNER),
        api.map(|scopes| by_others & reach(scopes)),
        // Silent: a user without scopes is known, and needs a device to get anything.
        identity
            .filter(|scopes| *scopes != NOTHING)
            .map(|scopes| by_others & reach(scopes)),
        device.as_ref().and_then(|row| row.gives),
    ];
    let step = device.map_or(PairingStep::None, |row| row.step);
    let scopes = rows
        .into_iter()
        .flatten()
        .fold(NOTHING, |all, gives| all | gives);
    if rows.iter().any(Option::is_some) && (scopes != NOTHING || by_others == NOTHING) {
        return Answer::Granted {
            scopes,
            pairing: step,
        };
    }
    match (step, rows.iter().any(Option::is_some)) {
        (PairingStep::Ask(_), _) => refused(step),
        (PairingStep::None | PairingStep::Keep | PairingStep::Approve(_), true) => Answer::Nothing,
        (PairingStep::None | PairingStep::Keep | PairingStep::Approve(_), false) => {
            Answer::NoDevice
        }
    }
}

fn refused(step: PairingStep) -> Answer {
    match step {
        PairingStep::Ask(reason) => Answer::NeedsPairing(reason),
        PairingStep::None | PairingStep::Keep | PairingStep::Approve(_) => {
            panic!("a record that gives nothing has to be asked for: {step:?}")
        }
    }
}

/// The rows with a valid device proof and a credential that stands for a device.
fn device_row(
    facts: &Facts,
    wanted: Mask,
    nothing_said: bool,
    secret: bool,
    local: bool,
    token: Option<Mask>,
    identity: Option<Mask>,
) -> DeviceRow {
    let asks = |reason| DeviceRow {
        gives: None,
        step: PairingStep::Ask(reason),
    };
    // Silent: the local proof is the owner, and so at least the shared secret.
    let owner_here = facts.peer == Peer::LoopbackDirect && (secret || local);
    let own_ui = matches!(facts.declared, Declared::ControlUi | Declared::Webchat);
    let silent = owner_here && (facts.browser == Browser::No || own_ui);
    match facts.record {
        // "as Unknown, but never approved silently again"
        Known::Revoked => asks(PairingReason::NotPaired),
        // Silent: the row for AllowedOrigin names Unknown and not Pending; waiting takes nothing away.
        Known::Unknown | Known::Pending if silent => DeviceRow {
            gives: Some(wanted & OWNER),
            step: PairingStep::Approve(PairingReason::NotPaired),
        },
        Known::Unknown | Known::Pending => asks(PairingReason::NotPaired),
        Known::Paired {
            for_role: false, ..
        } => asks(PairingReason::RoleUpgrade),
        Known::Paired {
            pinned: false,
            approved,
            ..
        } => {
            if owner_here && facts.browser == Browser::No {
                DeviceRow {
                    gives: Some(wanted & (OWNER | approved)),
                    step: PairingStep::Approve(PairingReason::MetadataUpgrade),
                }
            } else {
                asks(PairingReason::MetadataUpgrade)
            }
        }
        Known::Paired { approved, .. } => {
            // Law 5: a token that comes alone carries what it was issued with.
            let held = match token {
                Some(token) if !secret && !local && identity.is_none() => {
                    reach(token) & reach(approved)
                }
                _ => reach(approved),
            };
            let gives = wanted & held;
            // Silent: who says nothing asks for no more than there is.
            if gives == wanted || (nothing_said && gives != NOTHING) {
                DeviceRow {
                    gives: Some(gives),
                    step: PairingStep::Keep,
                }
            } else if silent {
                DeviceRow {
                    gives: Some(wanted & (OWNER | approved)),
                    step: PairingStep::Approve(PairingReason::ScopeUpgrade),
                }
            } else if gives == NOTHING {
                asks(PairingReason::ScopeUpgrade)
            } else {
                DeviceRow {
                    gives: Some(gives),
                    step: PairingStep::Ask(PairingReason::ScopeUpgrade),
                }
            }
        }
    }
}

fn answer(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Granted(grant) => Answer::Granted {
            scopes: mask(grant.scopes()),
            pairing: grant.pairing(),
        },
        Outcome::NeedsPairing(reason) => Answer::NeedsPairing(*reason),
        Outcome::Denied(denied) => match denied {
            Denied::OriginNotAllowed => Answer::OriginNotAllowed,
            Denied::DeviceProof(_) => Answer::BadProof,
            Denied::Credential(_) => Answer::BadCredential,
            Denied::CredentialMissing => Answer::NoCredential,
            Denied::DeviceIdentityRequired => Answer::NoDevice,
            Denied::NothingGranted => Answer::Nothing,
        },
    }
}

/// A number that has nothing to do with the digits of its argument (splitmix64).
#[expect(clippy::cast_possible_truncation, reason = "any bits do")]
fn scattered(index: usize) -> usize {
    let mut z = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

/// Compares a block of evidences under every policy. Every request where no credential is bad and
/// the proof is not either, else two of them drawn by hash: a refusal that comes before the request
/// is looked at does not depend on it, and the complete product is what the laws sweep.
fn compare(block: Range<usize>, records: &[Known]) -> usize {
    let mut compared = 0;
    let rules = RULES.map(|rules| (rules, rules.policy()));
    let requests = REQUESTS.map(|requested| (requested, requested.map(set)));
    for index in block {
        let facts = Facts::nth(index, records);
        let evidence = facts.evidence();
        let plain = !facts.any_bad_credential()
            && facts.proof != Shown::Bad
            && facts.browser != Browser::ForeignOrigin;
        for (at, (rules, policy)) in rules.iter().enumerate() {
            let drawn = scattered(index * RULES.len() + at) % (requests.len() - 1);
            let some = if plain {
                &requests[..]
            } else {
                &requests[drawn..drawn + 2]
            };
            for (requested, scopes) in some {
                let given = answer(&grant(&evidence, scopes.as_ref(), policy));
                let expected = decide(&facts, *requested, *rules);
                assert_eq!(
                    given, expected,
                    "{facts:?} asks for {requested:?} under {rules:?}"
                );
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn the_function_is_the_table_over_the_whole_domain() {
    const BLOCK: usize = 8_192;
    let started = std::time::Instant::now();
    let records = records();
    let next = AtomicUsize::new(0);
    let compared = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let start = next.fetch_add(BLOCK, Relaxed);
                    if start >= EVIDENCES {
                        return;
                    }
                    let block = start..EVIDENCES.min(start + BLOCK);
                    compared.fetch_add(compare(block, &records), Relaxed);
                }
            });
        }
    });
    let compared = compared.into_inner();
    println!("the table: {compared} cases, {:?}", started.elapsed());
    let plain = 4 * 2 * 4 * 2 * 3 * 3 * 2 * 2 * 2 * 19 * 2;
    let expected = (plain * REQUESTS.len() + (EVIDENCES - plain) * 2) * RULES.len();
    assert!(compared >= expected, "{compared} of {expected}");
}

// ---------------------------------------------------------------------------------------------------------------------
// One test per row, in the table's order, each told as a story.

fn granted(outcome: Outcome) -> Grant {
    match outcome {
        Outcome::Granted(grant) => grant,
        other @ (Outcome::NeedsPairing(_) | Outcome::Denied(_)) => panic!("{other:?}"),
    }
}

fn with_secret(peer: Peer) -> Facts {
    Facts {
        peer,
        shared: Shown::Valid,
        ..HERE
    }
}

fn with_device(peer: Peer, record: Known) -> Facts {
    Facts {
        proof: Shown::Valid,
        record,
        ..with_secret(peer)
    }
}

const fn paired(approved: Mask) -> Known {
    Known::Paired {
        for_role: true,
        pinned: true,
        approved,
    }
}

const FAR: [Peer; 3] = [Peer::LoopbackProxied, Peer::TrustedProxy, Peer::Remote];

#[test]
fn a_foreign_page_is_refused_before_any_credential() {
    for peer in Peer::ALL {
        for shared in SHOWN {
            for proof in SHOWN {
                let page = Facts {
                    peer,
                    shared,
                    proof,
                    browser: Browser::ForeignOrigin,
                    declared: Declared::ControlUi,
                    local_proof: Shown::Valid,
                    ..HERE
                };
                for rules in RULES {
                    let outcome = page.ask(Some(READ), rules);
                    assert_eq!(
                        outcome,
                        Outcome::Denied(Denied::OriginNotAllowed),
                        "{page:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_bad_credential_alone_is_refused_with_its_own_fault() {
    let faults = [
        (
            Facts {
                shared: Shown::Bad,
                ..HERE
            },
            CredentialFault::TokenMismatch,
        ),
        (
            Facts {
                api_token: Carried::Bad,
                ..HERE
            },
            CredentialFault::ApiTokenRevoked,
        ),
        (
            Facts {
                device_token: Carried::Bad,
                ..HERE
            },
            CredentialFault::DeviceTokenMismatch,
        ),
        (
            Facts {
                local_proof: Shown::Bad,
                ..HERE
            },
            CredentialFault::LocalProofMismatch,
        ),
        (
            Facts {
                bootstrap: Shown::Bad,
                ..HERE
            },
            CredentialFault::BootstrapInvalid,
        ),
    ];
    for (facts, fault) in faults {
        for peer in Peer::ALL {
            for proof in [Shown::Absent, Shown::Valid] {
                let facts = Facts {
                    peer,
                    proof,
                    ..facts
                };
                for requested in REQUESTS {
                    let outcome = facts.ask(requested, BY_DEFAULT);
                    assert_eq!(
                        outcome,
                        Outcome::Denied(Denied::Credential(fault)),
                        "{facts:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_good_device_token_helps_where_the_shared_secret_is_wrong() {
    for peer in Peer::ALL {
        let facts = Facts {
            shared: Shown::Bad,
            device_token: Carried::Valid(BUNDLE),
            ..with_device(peer, paired(BUNDLE))
        };
        let grant = granted(facts.ask(Some(BUNDLE), BY_DEFAULT));
        assert_eq!(
            (mask(grant.scopes()), grant.basis()),
            (BUNDLE, Basis::PairedDevice)
        );
        let without_device = Facts {
            proof: Shown::Absent,
            ..facts
        };
        assert_eq!(
            without_device.ask(Some(BUNDLE), BY_DEFAULT),
            Outcome::Denied(Denied::Credential(CredentialFault::TokenMismatch))
        );
    }
}

#[test]
fn a_bad_device_proof_is_refused_whatever_else_is_good() {
    for peer in Peer::ALL {
        for fault in ProofFault::ALL {
            let facts = Facts {
                local_proof: Shown::Valid,
                api_token: Carried::Valid(ADMIN),
                device_token: Carried::Valid(BUNDLE),
                ..with_device(peer, paired(BUNDLE))
            };
            let evidence = Evidence {
                proof: Proof::Bad(fault),
                ..facts.evidence()
            };
            let outcome = grant(&evidence, Some(&set(READ)), &BY_DEFAULT.policy());
            assert_eq!(outcome, Outcome::Denied(Denied::DeviceProof(fault)));
        }
    }
}

#[test]
fn the_shared_secret_here_needs_no_device() {
    let facts = with_secret(Peer::LoopbackDirect);
    for (requested, deviceless, scopes) in [
        (Some(READ), BUNDLE, READ),
        (Some(BUNDLE), BUNDLE, BUNDLE),
        (Some(BUNDLE | 1 << 10), BUNDLE, BUNDLE | 1 << 10),
        (None, BUNDLE, READ),
        (Some(BUNDLE), READ, READ),
        (Some(READ | FOREIGN), BUNDLE, READ),
        (Some(NOTHING), BUNDLE, NOTHING),
    ] {
        let rules = Rules {
            open: false,
            deviceless,
        };
        let grant = granted(facts.ask(requested, rules));
        assert_eq!(
            mask(grant.scopes()),
            scopes,
            "{requested:?} {deviceless:#b}"
        );
        assert_eq!(grant.basis(), Basis::SharedSecretLoopback);
        assert_eq!(grant.pairing(), PairingStep::None);
        assert!(!grant.has_device_token());
    }
    for (requested, deviceless, denied) in [
        (WRITE, READ, Denied::NothingGranted),
        (FOREIGN, BUNDLE, Denied::NothingGranted),
        (READ, NOTHING, Denied::DeviceIdentityRequired),
    ] {
        let rules = Rules {
            open: false,
            deviceless,
        };
        assert_eq!(facts.ask(Some(requested), rules), Outcome::Denied(denied));
    }
}

/// The seed: a valid shared secret on loopback, no device, `operator.read` wanted.
#[test]
fn the_shared_secret_here_gets_no_more_than_with_a_throw_away_device() {
    for requested in REQUESTS {
        for rules in RULES {
            let scopes = |facts: Facts| match facts.ask(requested, rules) {
                Outcome::Granted(grant) => mask(grant.scopes()),
                Outcome::NeedsPairing(_) | Outcome::Denied(_) => NOTHING,
            };
            let bare = scopes(with_secret(Peer::LoopbackDirect));
            let device = scopes(with_device(Peer::LoopbackDirect, Known::Unknown));
            assert_eq!(bare & !device, NOTHING, "{requested:?} {rules:?}");
        }
    }
}

#[test]
fn a_device_with_the_shared_secret_here_is_paired_without_asking() {
    for (record, reason) in [
        (Known::Unknown, PairingReason::NotPaired),
        (Known::Pending, PairingReason::NotPaired),
        (paired(NOTHING), PairingReason::ScopeUpgrade),
        (paired(READ), PairingReason::ScopeUpgrade),
        (paired(PAIRING), PairingReason::ScopeUpgrade),
    ] {
        for rules in RULES {
            let facts = with_device(Peer::LoopbackDirect, record);
            let grant = granted(facts.ask(Some(BUNDLE), rules));
            assert_eq!(mask(grant.scopes()), BUNDLE, "{record:?}");
            assert_eq!(grant.pairing(), PairingStep::Approve(reason), "{record:?}");
            assert_eq!(grant.basis(), Basis::SilentPairing);
            assert!(grant.missing().is_empty() && grant.has_device_token());
        }
    }
}

#[test]
fn a_page_of_the_own_ui_pairs_without_asking_and_any_other_page_asks() {
    for (record, reason) in [
        (Known::Unknown, PairingReason::NotPaired),
        (paired(NOTHING), PairingReason::ScopeUpgrade),
        (paired(PAIRING), PairingReason::ScopeUpgrade),
    ] {
        for declared in Declared::ALL {
            let page = Facts {
                browser: Browser::AllowedOrigin,
                declared,
                ..with_device(Peer::LoopbackDirect, record)
            };
            let outcome = page.ask(Some(READ), BY_DEFAULT);
            match declared {
                Declared::ControlUi | Declared::Webchat => {
                    let grant = granted(outcome);
                    assert_eq!(mask(grant.scopes()), READ);
                    assert_eq!(grant.pairing(), PairingStep::Approve(reason));
                }
                Declared::Backend | Declared::Other => {
                    assert_eq!(
                        outcome,
                        Outcome::NeedsPairing(reason),
                        "{declared:?} {record:?}"
                    );
                }
            }
            let remote = Facts {
                peer: Peer::Remote,
                ..page
            };
            assert_eq!(
                remote.ask(Some(READ), BY_DEFAULT),
                Outcome::NeedsPairing(reason)
            );
        }
    }
}

#[test]
fn a_page_without_a_device_is_refused() {
    for declared in Declared::ALL {
        for shared in [Shown::Valid, Shown::Absent] {
            for requested in REQUESTS {
                let page = Facts {
                    browser: Browser::AllowedOrigin,
                    declared,
                    shared,
                    ..HERE
                };
                let outcome = page.ask(requested, BY_DEFAULT);
                assert_eq!(
                    outcome,
                    Outcome::Denied(Denied::DeviceIdentityRequired),
                    "{page:?}"
                );
            }
        }
    }
}

#[test]
fn a_device_of_another_role_asks_and_keeps_what_needs_no_device() {
    for approved in [NOTHING, BUNDLE] {
        for pinned in [true, false] {
            let record = Known::Paired {
                for_role: false,
                pinned,
                approved,
            };
            for peer in FAR {
                assert_eq!(
                    with_device(peer, record).ask(Some(READ), BY_DEFAULT),
                    Outcome::NeedsPairing(PairingReason::RoleUpgrade)
                );
            }
            let here = with_device(Peer::LoopbackDirect, record);
            let page = Facts {
                browser: Browser::AllowedOrigin,
                declared: Declared::ControlUi,
                ..here
            };
            let asks = Outcome::NeedsPairing(PairingReason::RoleUpgrade);
            assert_eq!(page.ask(Some(READ), BY_DEFAULT), asks);
            assert_eq!(
                here.ask(Some(READ), RULES[2]),
                asks,
                "without the device-less row"
            );
            let grant = granted(here.ask(Some(BUNDLE), RULES[1]));
            assert_eq!(mask(grant.scopes()), READ);
            assert_eq!(
                grant.pairing(),
                PairingStep::Ask(PairingReason::RoleUpgrade)
            );
            assert!(
                grant
                    .missing()
                    .iter()
                    .all(|(_, why)| *why == MissingWhy::NotApproved)
            );
            assert!(!grant.has_device_token());
        }
    }
}

#[test]
fn a_revoked_device_is_never_approved_without_asking_again() {
    for peer in FAR {
        assert_eq!(
            with_device(peer, Known::Revoked).ask(Some(READ), BY_DEFAULT),
            Outcome::NeedsPairing(PairingReason::NotPaired)
        );
    }
    let here = with_device(Peer::LoopbackDirect, Known::Revoked);
    let page = Facts {
        browser: Browser::AllowedOrigin,
        declared: Declared::ControlUi,
        ..here
    };
    let asks = Outcome::NeedsPairing(PairingReason::NotPaired);
    assert_eq!(page.ask(Some(READ), BY_DEFAULT), asks);
    assert_eq!(here.ask(Some(READ), RULES[2]), asks);
    let grant = granted(here.ask(Some(READ), BY_DEFAULT));
    assert_eq!(mask(grant.scopes()), READ);
    assert_eq!(grant.pairing(), PairingStep::Ask(PairingReason::NotPaired));
    assert!(!grant.has_device_token());
}

#[test]
fn another_platform_asks_except_for_a_program_here() {
    let record = Known::Paired {
        for_role: true,
        pinned: false,
        approved: READ,
    };
    let asks = Outcome::NeedsPairing(PairingReason::MetadataUpgrade);
    for peer in FAR {
        assert_eq!(with_device(peer, record).ask(Some(READ), BY_DEFAULT), asks);
    }
    let here = with_device(Peer::LoopbackDirect, record);
    for declared in Declared::ALL {
        let page = Facts {
            browser: Browser::AllowedOrigin,
            declared,
            ..here
        };
        assert_eq!(page.ask(Some(READ), BY_DEFAULT), asks);
    }
    let by_token = Facts {
        shared: Shown::Absent,
        device_token: Carried::Valid(READ),
        ..here
    };
    assert_eq!(
        by_token.ask(Some(READ), BY_DEFAULT),
        asks,
        "a token is not the shared secret"
    );
    let grant = granted(here.ask(Some(BUNDLE), BY_DEFAULT));
    assert_eq!(mask(grant.scopes()), BUNDLE);
    assert_eq!(
        grant.pairing(),
        PairingStep::Approve(PairingReason::MetadataUpgrade)
    );
}

#[test]
fn a_paired_device_gets_what_it_asks_for_within_what_was_approved() {
    let credentials = [
        Facts {
            shared: Shown::Valid,
            ..HERE
        },
        Facts {
            device_token: Carried::Valid(BUNDLE),
            ..HERE
        },
        Facts {
            shared: Shown::Valid,
            device_token: Carried::Valid(READ),
            ..HERE
        },
    ];
    for peer in Peer::ALL {
        for credential in credentials {
            let facts = Facts {
                peer,
                proof: Shown::Valid,
                record: paired(BUNDLE),
                ..credential
            };
            for requested in [BUNDLE, READ, WRITE, READ | PAIRING, 1 << 10, NOTHING] {
                let grant = granted(facts.ask(Some(requested), BY_DEFAULT));
                assert_eq!(mask(grant.scopes()), requested, "{facts:?}");
                assert_eq!(grant.pairing(), PairingStep::Keep);
                assert!(grant.missing().is_empty() && grant.has_device_token());
            }
            assert_eq!(mask(granted(facts.ask(None, BY_DEFAULT)).scopes()), BUNDLE);
        }
    }
}

#[test]
fn an_unknown_device_from_elsewhere_asks() {
    for peer in FAR {
        for record in [Known::Unknown, Known::Pending] {
            for requested in REQUESTS {
                assert_eq!(
                    with_device(peer, record).ask(requested, BY_DEFAULT),
                    Outcome::NeedsPairing(PairingReason::NotPaired)
                );
            }
        }
    }
}

#[test]
fn a_device_that_wants_more_gets_what_was_approved_and_the_rest_waits() {
    let by_token = |peer| Facts {
        shared: Shown::Absent,
        device_token: Carried::Valid(READ),
        ..with_device(peer, paired(READ))
    };
    let far = FAR.map(|peer| with_device(peer, paired(READ)));
    for facts in far.into_iter().chain(Peer::ALL.map(by_token)) {
        let grant = granted(facts.ask(Some(BUNDLE), BY_DEFAULT));
        assert_eq!(mask(grant.scopes()), READ, "{facts:?}");
        assert_eq!(
            grant.pairing(),
            PairingStep::Ask(PairingReason::ScopeUpgrade)
        );
        assert!(grant.has_device_token());
        let missing: Vec<&str> = grant
            .missing()
            .iter()
            .map(|(scope, _)| scope.as_str())
            .collect();
        assert_eq!(
            missing,
            [
                "operator.admin",
                "operator.write",
                "operator.approvals",
                "operator.pairing"
            ]
        );
        assert!(
            grant
                .missing()
                .iter()
                .all(|(_, why)| *why == MissingWhy::NotApproved)
        );
        assert_eq!(
            facts.ask(Some(PAIRING), BY_DEFAULT),
            Outcome::NeedsPairing(PairingReason::ScopeUpgrade),
            "nothing of it was approved"
        );
    }
}

/// Otherwise such a connect files a request for no scopes at all.
#[test]
fn a_narrow_token_alone_that_names_no_scopes_gets_its_own_and_asks_for_nothing() {
    for peer in Peer::ALL {
        let facts = Facts {
            shared: Shown::Absent,
            device_token: Carried::Valid(READ),
            ..with_device(peer, paired(BUNDLE))
        };
        let grant = granted(facts.ask(None, BY_DEFAULT));
        assert_eq!(mask(grant.scopes()), READ);
        assert_eq!(grant.pairing(), PairingStep::Keep);
        assert!(grant.missing().is_empty());
    }
}

#[test]
fn the_shared_secret_from_elsewhere_needs_a_device() {
    for peer in FAR {
        for requested in REQUESTS {
            for rules in RULES {
                let outcome = with_secret(peer).ask(requested, rules);
                assert_eq!(
                    outcome,
                    Outcome::Denied(Denied::DeviceIdentityRequired),
                    "{peer:?}"
                );
            }
        }
    }
}

#[test]
fn an_api_token_gets_its_scopes_from_anywhere() {
    for peer in Peer::ALL {
        for browser in [Browser::No, Browser::AllowedOrigin] {
            for (proof, record) in [
                (Shown::Absent, Known::Unknown),
                (Shown::Valid, Known::Unknown),
                (Shown::Valid, Known::Revoked),
            ] {
                let facts = Facts {
                    peer,
                    browser,
                    proof,
                    record,
                    api_token: Carried::Valid(READ | WRITE),
                    ..HERE
                };
                let grant = granted(facts.ask(Some(BUNDLE), BY_DEFAULT));
                assert_eq!(mask(grant.scopes()), READ | WRITE, "{facts:?}");
                assert_eq!(
                    (grant.basis(), grant.pairing()),
                    (Basis::ApiToken, PairingStep::None)
                );
                assert!(
                    grant
                        .missing()
                        .iter()
                        .all(|(_, why)| *why == MissingWhy::NotHeld)
                );
                assert_eq!(mask(granted(facts.ask(None, BY_DEFAULT)).scopes()), READ);
                let outcome = facts.ask(Some(ADMIN), BY_DEFAULT);
                assert_eq!(outcome, Outcome::Denied(Denied::NothingGranted));
            }
        }
    }
}

#[test]
fn the_local_proof_is_the_owner_here_and_nothing_elsewhere() {
    for record in records() {
        for proof in [Shown::Absent, Shown::Valid] {
            for rules in RULES {
                let facts = Facts {
                    local_proof: Shown::Valid,
                    proof,
                    record,
                    ..HERE
                };
                let grant = granted(facts.ask(Some(OWNER), rules));
                assert_eq!(mask(grant.scopes()), OWNER, "{facts:?}");
            }
        }
        for peer in FAR {
            let facts = Facts {
                peer,
                local_proof: Shown::Valid,
                record,
                ..HERE
            };
            let outcome = facts.ask(Some(READ), BY_DEFAULT);
            assert_eq!(outcome, Outcome::Denied(Denied::DeviceIdentityRequired));
        }
        let page = Facts {
            browser: Browser::AllowedOrigin,
            local_proof: Shown::Valid,
            record,
            ..HERE
        };
        let outcome = page.ask(Some(READ), BY_DEFAULT);
        assert_eq!(outcome, Outcome::Denied(Denied::DeviceIdentityRequired));
    }
}

#[test]
fn a_proxied_loopback_is_a_remote_peer() {
    for record in records() {
        for (browser, declared) in [
            (Browser::No, Declared::Other),
            (Browser::AllowedOrigin, Declared::ControlUi),
        ] {
            for proof in [Shown::Absent, Shown::Valid] {
                let proxied = Facts {
                    browser,
                    declared,
                    proof,
                    ..with_device(Peer::LoopbackProxied, record)
                };
                let remote = Facts {
                    peer: Peer::Remote,
                    ..proxied
                };
                for requested in REQUESTS {
                    for rules in RULES {
                        assert_eq!(proxied.ask(requested, rules), remote.ask(requested, rules));
                    }
                }
            }
        }
    }
}

#[test]
fn mode_none_here_is_as_the_shared_secret_and_elsewhere_nothing() {
    let open = Rules {
        open: true,
        deviceless: BUNDLE,
    };
    let grant = granted(HERE.ask(Some(BUNDLE), open));
    assert_eq!(
        (mask(grant.scopes()), grant.basis()),
        (BUNDLE, Basis::OpenLoopback)
    );
    for record in records() {
        for proof in [Shown::Absent, Shown::Valid] {
            for (browser, declared) in [
                (Browser::No, Declared::Other),
                (Browser::AllowedOrigin, Declared::ControlUi),
            ] {
                let nothing = Facts {
                    proof,
                    record,
                    browser,
                    declared,
                    ..HERE
                };
                let secret = Facts {
                    shared: Shown::Valid,
                    ..nothing
                };
                for requested in REQUESTS {
                    let as_secret = answer(&secret.ask(requested, BY_DEFAULT));
                    assert_eq!(
                        answer(&nothing.ask(requested, open)),
                        as_secret,
                        "{nothing:?}"
                    );
                }
            }
        }
    }
    for peer in FAR {
        let facts = Facts { peer, ..HERE };
        let outcome = facts.ask(Some(READ), open);
        assert_eq!(outcome, Outcome::Denied(Denied::DeviceIdentityRequired));
    }
}

#[test]
fn who_names_no_scopes_reads_and_a_paired_device_gets_what_was_approved() {
    let here = with_device(Peer::LoopbackDirect, Known::Unknown);
    let cases = [
        (with_secret(Peer::LoopbackDirect), READ),
        (here, READ),
        (with_device(Peer::Remote, paired(BUNDLE)), BUNDLE),
        (with_device(Peer::Remote, paired(PAIRING)), PAIRING),
        (
            Facts {
                local_proof: Shown::Valid,
                ..HERE
            },
            READ,
        ),
        (
            Facts {
                api_token: Carried::Valid(ADMIN),
                ..HERE
            },
            READ,
        ),
    ];
    for (facts, scopes) in cases {
        let grant = granted(facts.ask(None, BY_DEFAULT));
        assert_eq!(mask(grant.scopes()), scopes, "{facts:?}");
        assert!(grant.missing().is_empty(), "nothing was asked for by name");
    }
}

#[test]
fn a_node_is_always_a_proven_and_approved_device_without_scopes() {
    let node = |facts: Facts| Facts {
        role: Role::Node,
        ..facts
    };
    for peer in Peer::ALL {
        let bare = Facts {
            local_proof: Shown::Valid,
            api_token: Carried::Valid(ADMIN),
            ..with_secret(peer)
        };
        let outcome = node(bare).ask(Some(READ), BY_DEFAULT);
        assert_eq!(
            outcome,
            Outcome::Denied(Denied::DeviceIdentityRequired),
            "{peer:?}"
        );
        let known = node(with_device(peer, paired(NOTHING)));
        for requested in REQUESTS {
            let grant = granted(known.ask(requested, BY_DEFAULT));
            assert_eq!((grant.role(), grant.scopes().len()), (Role::Node, 0));
            assert_eq!(grant.pairing(), PairingStep::Keep);
        }
    }
    for peer in FAR {
        assert_eq!(
            node(with_device(peer, Known::Unknown)).ask(None, BY_DEFAULT),
            Outcome::NeedsPairing(PairingReason::NotPaired)
        );
    }
    let by_api_token = Facts {
        api_token: Carried::Valid(ADMIN),
        proof: Shown::Valid,
        record: paired(NOTHING),
        ..HERE
    };
    assert_eq!(
        node(by_api_token).ask(None, BY_DEFAULT),
        Outcome::Denied(Denied::CredentialMissing)
    );
}
