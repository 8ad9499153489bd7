//! The laws of authorization over the whole domain of `grant`.
//!
//! The domain is a product of small axes; a case is a number whose digits choose one value per axis. Laws 1, 2 and 5 look
//! at one case at a time and share one sweep over the complete product, 454 million cases, in about two minutes of
//! processor time. `CLAWGATE_LAWS=quick` takes a sixth of it: every evidence under every policy, with every request where no
//! credential is bad, and with one request drawn by hash where some are (a bad credential is inert beside a good one,
//! which law 3 shows on its own). The other laws compare cases and say at the test what they leave out, and why.
//!
//! Scopes are bits here, and what covers what is written anew in [`reach`], so that nothing is compared with itself.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use clawgate_core::{
    Access, DeviceId, Dialect, Method, PairingRequestId, Role, Scope, ScopeSet,
    authz::{
        Browser, Check, CredentialFault, Credentials, Declared, Denied, Evidence, Grant,
        MissingWhy, Outcome, PairingStep, Peer, Policy, Proof, Record, Refused, ScopedCheck, admit,
        covers, grant,
    },
    origin::{self, OriginRules, OriginSeen},
    pairing::{self, Approved, Claims, Device, DeviceToken, PairingError, Pending},
    peer::{self, Forwarding},
    proof::ProofFault,
};
use clawgate_protocol::method::{access_by_name, node_only};

/// A set of scopes, one bit per name of [`NAMES`].
type Mask = u16;

/// Every name that occurs here: the known ones, one unknown of the family, one of another.
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
const APPROVALS: Mask = 1 << 3;
const PAIRING: Mask = 1 << 4;
const TALK: Mask = 1 << 7;
const SESSIONS: Mask = 1 << 8 | 1 << 9;
const BUNDLE: Mask = ADMIN | READ | WRITE | APPROVALS | PAIRING;
const UNKNOWN_OPERATOR: Mask = 1 << 10;
const FOREIGN: Mask = 1 << 11;
const OPERATOR_FAMILY: Mask = FOREIGN - 1;

/// Everything that a set is enough for, as auth.md section 3 and wire.md 7.6 put it.
fn reach(held: Mask) -> Mask {
    let mut all = held;
    if held & ADMIN != 0 {
        all |= OPERATOR_FAMILY;
    }
    if held & WRITE != 0 {
        all |= READ | TALK | SESSIONS;
    }
    all
}

fn set(mask: Mask) -> ScopeSet {
    // Every set there is: building one anew for each evidence takes longer than judging it.
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

fn bit(scope: &Scope) -> Mask {
    let at = NAMES.iter().position(|name| *name == scope.as_str());
    1 << at.unwrap_or_else(|| panic!("{scope} was never in play"))
}

fn mask(scopes: &ScopeSet) -> Mask {
    scopes.iter().map(bit).fold(NOTHING, |all, one| all | one)
}

/// What is asked for: nothing said, and then sets.
const REQUESTS: [Option<Mask>; 18] = [
    None,
    Some(NOTHING),
    Some(ADMIN),
    Some(READ),
    Some(WRITE),
    Some(APPROVALS),
    Some(PAIRING),
    Some(1 << 5),
    Some(1 << 6),
    Some(TALK),
    Some(1 << 8),
    Some(1 << 9),
    Some(BUNDLE),
    Some(READ | WRITE),
    Some(WRITE | PAIRING),
    Some(UNKNOWN_OPERATOR),
    Some(FOREIGN),
    Some(READ | FOREIGN),
];

/// A few of them, for the laws that compare cases.
const REQUESTS_FEW: [Option<Mask>; 6] = [
    None,
    Some(NOTHING),
    Some(READ),
    Some(PAIRING),
    Some(BUNDLE),
    Some(READ | FOREIGN),
];

/// A policy: whether the mode is `none`, and what a caller without a device gets here.
const POLICIES: [(bool, Mask); 4] = [
    (false, BUNDLE),
    (false, READ),
    (false, NOTHING),
    (true, BUNDLE),
];

fn policy(of: (bool, Mask)) -> Policy {
    Policy {
        open: of.0,
        deviceless_loopback: set(of.1),
    }
}

// The axes of the evidence, in the order of their digits.
const PEER: usize = 0;
const BROWSER: usize = 1;
const DECLARED: usize = 2;
const SHARED: usize = 3;
const DEVICE_TOKEN: usize = 4;
const API_TOKEN: usize = 5;
const LOCAL_PROOF: usize = 6;
const IDENTITY: usize = 7;
const BOOTSTRAP: usize = 8;
const PROOF: usize = 9;
const RECORD: usize = 10;
const ROLE: usize = 11;

/// How many values each axis has. Written out, so that nobody shrinks the domain by accident.
const RADIX: [u8; 12] = [4, 3, 4, 3, 4, 4, 3, 4, 2, 3, 19, 2];
const EVIDENCES: usize = 4 * 3 * 4 * 3 * 4 * 4 * 3 * 4 * 2 * 3 * 19 * 2;

/// Digits of every credential axis that is never bad in the sweep over all requests.
const BAD_CHECK: u8 = 2;
const BAD_SCOPED: u8 = 3;
const DEVICE_TOKENS: [Mask; 2] = [READ, BUNDLE];
const API_TOKENS: [Mask; 2] = [READ, ADMIN];
/// A user with scopes, and one without any, who is known all the same.
const IDENTITIES: [Mask; 2] = [READ, NOTHING];

const UNKNOWN: u8 = 0;
const PENDING: u8 = 1;
const REVOKED: u8 = 2;
const APPROVED: [Mask; 4] = [NOTHING, READ, BUNDLE, PAIRING];

/// The digit of a paired record.
const fn paired(for_role: bool, pinned: bool, approved: u8) -> u8 {
    3 + approved + if pinned { 0 } else { 4 } + if for_role { 0 } else { 8 }
}

/// What a record's digit says: for this role, pinned, approved.
fn read_paired(digit: u8) -> Option<(bool, bool, Mask)> {
    let rest = digit.checked_sub(3)?;
    Some((rest < 8, rest & 4 == 0, APPROVED[usize::from(rest & 3)]))
}

/// One evidence, as digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case([u8; 12]);

impl Case {
    fn at(self, axis: usize) -> u8 {
        self.0[axis]
    }

    fn peer(self) -> Peer {
        Peer::ALL[usize::from(self.at(PEER))]
    }

    fn browser(self) -> Browser {
        Browser::ALL[usize::from(self.at(BROWSER))]
    }

    fn declared(self) -> Declared {
        Declared::ALL[usize::from(self.at(DECLARED))]
    }

    fn role(self) -> Role {
        Role::ALL[usize::from(self.at(ROLE))]
    }

    fn proven(self) -> bool {
        self.at(PROOF) == 1
    }

    fn direct(self) -> bool {
        self.peer() == Peer::LoopbackDirect
    }

    /// Scopes of the device token, if it is good.
    fn device_token(self) -> Option<Mask> {
        scopes_of(self.at(DEVICE_TOKEN), DEVICE_TOKENS)
    }

    fn api_token(self) -> Option<Mask> {
        scopes_of(self.at(API_TOKEN), API_TOKENS)
    }

    fn identity(self) -> Option<Mask> {
        scopes_of(self.at(IDENTITY), IDENTITIES)
    }

    fn paired(self) -> Option<(bool, bool, Mask)> {
        read_paired(self.at(RECORD))
    }

    fn evidence(self) -> Evidence {
        let check = |axis, fault| match self.at(axis) {
            0 => Check::Absent,
            1 => Check::Valid,
            _ => Check::Bad(fault),
        };
        let scoped = |held: Option<Mask>, bad: bool, fault| match held {
            Some(scopes) => ScopedCheck::Valid(set(scopes)),
            None if bad => ScopedCheck::Bad(fault),
            None => ScopedCheck::Absent,
        };
        Evidence {
            peer: self.peer(),
            browser: self.browser(),
            declared: self.declared(),
            role: self.role(),
            credentials: Credentials {
                shared: check(SHARED, CredentialFault::TokenMismatch),
                device_token: scoped(
                    self.device_token(),
                    self.at(DEVICE_TOKEN) == BAD_SCOPED,
                    CredentialFault::DeviceTokenMismatch,
                ),
                api_token: scoped(
                    self.api_token(),
                    self.at(API_TOKEN) == BAD_SCOPED,
                    CredentialFault::ApiTokenExpired,
                ),
                local_proof: check(LOCAL_PROOF, CredentialFault::LocalProofMismatch),
                bootstrap: match self.at(BOOTSTRAP) {
                    0 => Check::Absent,
                    _ => Check::Bad(CredentialFault::BootstrapInvalid),
                },
                identity: scoped(
                    self.identity(),
                    self.at(IDENTITY) == BAD_SCOPED,
                    CredentialFault::ProxyUserMissing,
                ),
            },
            proof: match self.at(PROOF) {
                0 => Proof::Absent,
                1 => Proof::Valid,
                _ => Proof::Bad(ProofFault::SignatureInvalid),
            },
            record: match (self.at(RECORD), self.paired()) {
                (_, Some((for_role, pinned, approved))) => Record::Paired {
                    for_role,
                    scopes: set(approved),
                    pinned,
                },
                (UNKNOWN, None) => Record::Unknown,
                (PENDING, None) => Record::Pending,
                (_, None) => Record::Revoked,
            },
        }
    }
}

fn scopes_of(digit: u8, carried: [Mask; 2]) -> Option<Mask> {
    match digit {
        1 => Some(carried[0]),
        2 => Some(carried[1]),
        _ => None,
    }
}

/// A part of the domain: the values that each axis takes.
#[derive(Clone, Debug)]
struct Space([Vec<u8>; 12]);

impl Space {
    fn whole() -> Self {
        Self(RADIX.map(|radix| (0..radix).collect()))
    }

    fn with(mut self, axis: usize, values: &[u8]) -> Self {
        self.0[axis] = values.to_vec();
        self
    }

    fn without_bad_credentials(self) -> Self {
        self.with(SHARED, &[0, 1])
            .with(DEVICE_TOKEN, &[0, 1, 2])
            .with(API_TOKEN, &[0, 1, 2])
            .with(LOCAL_PROOF, &[0, 1])
            .with(IDENTITY, &[0, 1, 2])
            .with(BOOTSTRAP, &[0])
    }

    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).product()
    }

    fn case(&self, index: usize) -> Case {
        let mut rest = index;
        let mut digits = [0; 12];
        for (digit, values) in digits.iter_mut().zip(&self.0) {
            *digit = values[rest % values.len()];
            rest /= values.len();
        }
        Case(digits)
    }

    /// How far apart two neighbours on an axis are.
    fn stride(&self, axis: usize) -> usize {
        self.0[..axis].iter().map(Vec::len).product()
    }

    /// Where a value stands on its axis.
    fn place(&self, axis: usize, value: u8) -> Option<usize> {
        self.0[axis].iter().position(|v| *v == value)
    }

    /// Visits every case.
    fn for_each(&self, visit: impl Fn(usize, Case) + Sync) {
        in_blocks(self.len(), |block| {
            block.for_each(|index| visit(index, self.case(index)));
        });
    }

    /// The outcome of every case for one request under one policy, in the order of the indices.
    fn outcomes(&self, requested: Option<Mask>, under: (bool, Mask)) -> Vec<Brief> {
        let (requested, policy) = (requested.map(set), policy(under));
        let judge = |index| {
            Brief::of(&grant(
                &self.case(index).evidence(),
                requested.as_ref(),
                &policy,
            ))
        };
        in_blocks(self.len(), |block| block.map(judge).collect::<Vec<_>>()).concat()
    }
}

/// Does a piece of work for every block of indices, on two threads, and returns what came of it in
/// the order of the blocks.
fn in_blocks<T: Send>(len: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    const BLOCK: usize = 8_192;
    let next = AtomicUsize::new(0);
    let claim = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(BLOCK, Relaxed);
            if start >= len {
                return done;
            }
            done.push((start, work(start..len.min(start + BLOCK))));
        }
    };
    let mut done = thread::scope(|scope| {
        let other = scope.spawn(claim);
        let mut done = claim();
        done.extend(other.join().expect("a case failed, see above"));
        done
    });
    done.sort_by_key(|(start, _)| *start);
    done.into_iter().map(|(_, of)| of).collect()
}

/// An outcome, without its words: granted these, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Brief(Option<Mask>);

impl Brief {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Granted(grant) => Self(Some(mask(grant.scopes()))),
            Outcome::NeedsPairing(_) | Outcome::Denied(_) => Self(None),
        }
    }

    /// Whether whoever has `self` can do nothing that `other` cannot.
    fn within(self, other: Self) -> bool {
        match (self.0, other.0) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(less), Some(more)) => less & !reach(more) == 0,
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Laws 1, 2 and 5: one case at a time.

/// How often each law was looked at, and the first few cases that break it.
#[derive(Debug, Default)]
struct Findings {
    checked: u64,
    granted: u64,
    powerless: Vec<String>,
    silent: Vec<String>,
    beyond: Vec<String>,
}

fn note(into: &mut Vec<String>, what: impl FnOnce() -> String) {
    if into.len() < 10 {
        into.push(what());
    }
}

impl Findings {
    fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.granted += other.granted;
        self.powerless.extend(other.powerless);
        self.silent.extend(other.silent);
        self.beyond.extend(other.beyond);
    }

    fn look(
        &mut self,
        case: Case,
        evidence: &Evidence,
        asked: &Asked,
        under: (bool, Mask),
        policy: &Policy,
        admitted: &mut HashSet<(Role, Mask)>,
    ) {
        self.checked += 1;
        let outcome = grant(evidence, asked.set.as_ref(), policy);
        let Outcome::Granted(grant) = outcome else {
            return;
        };
        self.granted += 1;
        let requested = asked.mask;
        let here = || format!("{evidence:?} asks for {requested:?} under {under:?}: {grant:?}");

        let scopes = mask(grant.scopes());
        let meant_nothing = requested == Some(NOTHING) || case.role() == Role::Node;
        if grant.role() != case.role() || (scopes == NOTHING && !meant_nothing) {
            note(&mut self.powerless, here);
        }
        if !is_spoken(&grant, asked) || !is_enforced(&grant, scopes, admitted) {
            note(&mut self.silent, here);
        }
        if !is_bounded(case, scopes, requested, under) {
            note(&mut self.beyond, here);
        }
    }
}

/// A request in both notations.
struct Asked {
    mask: Option<Mask>,
    set: Option<ScopeSet>,
}

fn requests() -> Vec<Asked> {
    REQUESTS
        .iter()
        .map(|&mask| Asked {
            mask,
            set: mask.map(set),
        })
        .collect()
}

/// Law 2, first half: what was asked for is either granted or missing, in the order of asking, and
/// what is missing says why. Where nothing was said, nothing can be missing.
fn is_spoken(grant: &Grant, asked: &Asked) -> bool {
    let Some(requested) = &asked.set else {
        return grant.missing().is_empty();
    };
    if grant.role() == Role::Node {
        return grant.missing().is_empty();
    }
    let waits = matches!(grant.pairing(), PairingStep::Ask(_));
    let mut granted = grant.scopes().iter().peekable();
    let mut missing = grant.missing().iter().peekable();
    for scope in requested {
        if granted.next_if_eq(&scope).is_some() {
            continue;
        }
        let Some((_, why)) = missing.next_if(|(name, _)| name == scope) else {
            return false;
        };
        let expected = match (scope.as_str().starts_with("operator."), waits) {
            (false, _) => MissingWhy::UnknownScope,
            (true, true) => MissingWhy::NotApproved,
            (true, false) => MissingWhy::NotHeld,
        };
        if *why != expected || why.as_str().is_empty() {
            return false;
        }
    }
    granted.next().is_none() && missing.next().is_none()
}

/// Law 2, second half: calls are admitted exactly by the printed scopes. `admit` sees a grant's
/// role and scopes alone (the type has no other field that it could read without naming it), so
/// each such pair is looked at once per block of cases.
fn is_enforced(grant: &Grant, scopes: Mask, admitted: &mut HashSet<(Role, Mask)>) -> bool {
    if !admitted.insert((grant.role(), scopes)) {
        return true;
    }
    [Dialect::V3, Dialect::V4].into_iter().all(|dialect| {
        let methods = Method::ALL
            .iter()
            .map(|method| method.spec().access(dialect).clone());
        let unserved = [
            "no.such.method",
            "",
            "HEALTH",
            "secrets.store.set",
            "connect",
        ];
        let names = node_only(dialect)
            .iter()
            .chain(&unserved)
            .map(|name| access_by_name(name, dialect));
        methods
            .chain(names)
            .all(|access| admit(grant, &access) == admitted_by(grant, &access))
    })
}

fn admitted_by(grant: &Grant, access: &Access) -> Result<(), Refused> {
    let needed = match (access, grant.role()) {
        (Access::AnySession, _) | (Access::Node, Role::Node) => return Ok(()),
        (Access::Node | Access::Handshake | Access::Scope(_), _)
            if (grant.role() == Role::Node) != (*access == Access::Node) =>
        {
            return Err(Refused::Role(grant.role()));
        }
        (Access::Scope(scope), _) => scope.clone(),
        (Access::Node | Access::Handshake, _) => Scope::ADMIN,
    };
    if reach(mask(grant.scopes())) & bit(&needed) == 0 {
        return Err(Refused::MissingScope(needed));
    }
    Ok(())
}

/// Law 5: within what was asked for, and within what the evidence holds.
fn is_bounded(case: Case, scopes: Mask, requested: Option<Mask>, under: (bool, Mask)) -> bool {
    if case.role() == Role::Node {
        return scopes == NOTHING;
    }
    let asked = requested.unwrap_or_else(|| match case.paired() {
        Some((true, _, approved)) if case.proven() => approved | READ,
        _ => READ,
    });
    scopes & !asked == 0 && scopes & !reach(held(case, under)) == 0
}

/// Everything that the evidence could carry, whatever is asked for.
fn held(case: Case, (open, deviceless): (bool, Mask)) -> Mask {
    let direct = case.direct();
    let program = case.browser() == Browser::No;
    let own_ui = case.browser() == Browser::AllowedOrigin
        && matches!(case.declared(), Declared::ControlUi | Declared::Webchat);
    let secret = case.at(SHARED) == 1 || (open && direct);
    let local = case.at(LOCAL_PROOF) == 1 && direct && program;
    let vouches = case.peer() == Peer::TrustedProxy;
    let identity = case.identity().filter(|_| vouches);

    let mut all = NOTHING;
    if secret && direct && program {
        all |= deviceless;
    }
    if local {
        all |= OPERATOR_FAMILY;
    }
    if let Some(scopes) = case.api_token() {
        all |= scopes;
    }
    if let Some(scopes) = identity {
        all |= scopes;
    }
    if case.proven() {
        if secret && direct && (program || own_ui) && may_pair_silently(case) {
            all |= OPERATOR_FAMILY;
        }
        if let Some((true, true, approved)) = case.paired() {
            match case.device_token() {
                _ if secret || local || identity.is_some() => all |= approved,
                Some(token) => all |= reach(approved) & reach(token),
                None => {}
            }
        }
    }
    all
}

/// Whether the record leaves room for an approval that nobody is asked for.
fn may_pair_silently(case: Case) -> bool {
    match case.paired() {
        Some((for_role, pinned, _)) => for_role && (pinned || case.browser() == Browser::No),
        None => case.at(RECORD) != REVOKED,
    }
}

#[expect(clippy::print_stdout, reason = "the number of cases is the result")]
fn findings() -> &'static Findings {
    static FINDINGS: OnceLock<Findings> = OnceLock::new();
    FINDINGS.get_or_init(|| {
        let started = std::time::Instant::now();
        let mut total = Findings::default();
        let full = std::env::var("CLAWGATE_LAWS").map_or(true, |wanted| wanted != "quick");
        let whole = Space::whole();
        let clean = whole.clone().without_bad_credentials();
        let passes: &[(&Space, bool)] = if full {
            &[(&whole, true)]
        } else {
            &[(&clean, true), (&whole, false)]
        };
        for &(space, every_request) in passes {
            sweep(space, every_request, &mut total);
        }
        println!(
            "laws 1, 2 and 5: {} cases, {} of them granted, {:?}",
            total.checked,
            total.granted,
            started.elapsed()
        );
        let expected = if full {
            EVIDENCES * POLICIES.len() * REQUESTS.len()
        } else {
            (4 * 3 * 4 * 2 * 3 * 3 * 2 * 3 * 3 * 19 * 2 * REQUESTS.len() + EVIDENCES)
                * POLICIES.len()
        };
        assert!(
            total.checked >= expected as u64,
            "{} cases of {expected}",
            total.checked
        );
        assert!(
            total.granted > total.checked / 20,
            "hardly anything was granted"
        );
        total
    })
}

fn sweep(space: &Space, every_request: bool, total: &mut Findings) {
    let (requests, policies) = (requests(), POLICIES.map(|of| (of, policy(of))));
    let found = in_blocks(space.len(), |block| {
        let (mut found, mut admitted) = (Findings::default(), HashSet::new());
        for index in block {
            let case = space.case(index);
            let evidence = case.evidence();
            for (at, (under, policy)) in policies.iter().enumerate() {
                let asked = if every_request {
                    requests.as_slice()
                } else {
                    let drawn = scattered(index * policies.len() + at) % requests.len();
                    &requests[drawn..=drawn]
                };
                for asked in asked {
                    found.look(case, &evidence, asked, *under, policy, &mut admitted);
                }
            }
        }
        found
    });
    found.into_iter().for_each(|found| total.add(found));
}

/// A number that has nothing to do with the digits of its argument (splitmix64).
#[expect(clippy::cast_possible_truncation, reason = "any bits do")]
fn scattered(index: usize) -> usize {
    let mut z = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

#[test]
fn law_1_nobody_is_let_in_powerless_who_asked_for_something() {
    let found = findings();
    assert!(found.powerless.is_empty(), "{:#?}", found.powerless);
}

#[test]
fn law_2_what_is_missing_is_said_and_what_is_said_is_enforced() {
    let found = findings();
    assert!(found.silent.is_empty(), "{:#?}", found.silent);
}

#[test]
fn law_5_a_grant_stays_within_the_request_and_within_the_evidence() {
    let found = findings();
    assert!(found.beyond.is_empty(), "{:#?}", found.beyond);
}

/// That each of these patterns is some value of a list. A new variant of what is listed does not
/// compile until it is among them, and fails here until the domain has a value for it.
macro_rules! each_occurs {
    ($what:expr, $values:expr; $($pattern:pat),+ $(,)?) => {{
        let found: HashSet<&str> = $values
            .map(|value| match value { $($pattern => stringify!($pattern)),+ })
            .collect();
        for kind in [$(stringify!($pattern)),+] {
            assert!(found.contains(kind), "{}: {kind} never occurs", $what);
        }
    }};
}

/// The domain above is the real one: every field and every value of every enum that `grant` reads
/// occurs in it.
#[test]
fn the_domain_leaves_no_value_out() {
    let whole = Space::whole();
    assert_eq!(whole.len(), EVIDENCES);
    let along = |axis: usize| {
        (0..RADIX[axis]).map(move |digit| {
            let mut case = Case([0; 12]);
            case.0[axis] = digit;
            case.evidence()
        })
    };
    // No `..` here: a new kind of evidence is looked at before it is part of the domain.
    let Evidence {
        peer: _,
        browser: _,
        declared: _,
        role: _,
        credentials:
            Credentials {
                shared: _,
                device_token: _,
                api_token: _,
                local_proof: _,
                bootstrap: _,
                identity: _,
            },
        proof: _,
        record: _,
    } = Case([0; 12]).evidence();
    each_occurs!("peer", along(PEER).map(|e| e.peer);
        Peer::LoopbackDirect, Peer::LoopbackProxied, Peer::TrustedProxy, Peer::Remote);
    each_occurs!("browser", along(BROWSER).map(|e| e.browser);
        Browser::No, Browser::AllowedOrigin, Browser::ForeignOrigin);
    each_occurs!("declared", along(DECLARED).map(|e| e.declared);
        Declared::ControlUi, Declared::Webchat, Declared::Backend, Declared::Other);
    each_occurs!("role", along(ROLE).map(|e| e.role); Role::Operator, Role::Node);
    each_occurs!("shared", along(SHARED).map(|e| e.credentials.shared);
        Check::Absent, Check::Valid, Check::Bad(_));
    each_occurs!("local proof", along(LOCAL_PROOF).map(|e| e.credentials.local_proof);
        Check::Absent, Check::Valid, Check::Bad(_));
    // None is issued yet, so none can hold.
    each_occurs!("setup code", along(BOOTSTRAP).map(|e| e.credentials.bootstrap);
        Check::Absent | Check::Valid, Check::Bad(_));
    each_occurs!("device token", along(DEVICE_TOKEN).map(|e| e.credentials.device_token);
        ScopedCheck::Absent, ScopedCheck::Valid(_), ScopedCheck::Bad(_));
    each_occurs!("API token", along(API_TOKEN).map(|e| e.credentials.api_token);
        ScopedCheck::Absent, ScopedCheck::Valid(_), ScopedCheck::Bad(_));
    let identity = |e: Evidence| match e.credentials.identity {
        ScopedCheck::Valid(scopes) => (ScopedCheck::Valid(ScopeSet::EMPTY), scopes.is_empty()),
        other => (other, false),
    };
    each_occurs!("identity", along(IDENTITY).map(identity);
        (ScopedCheck::Absent, _),
        (ScopedCheck::Valid(_), false),
        (ScopedCheck::Valid(_), true),
        (ScopedCheck::Bad(_), _));
    each_occurs!("proof", along(PROOF).map(|e| e.proof);
        Proof::Absent, Proof::Valid, Proof::Bad(_));
    each_occurs!("record", along(RECORD).map(|e| e.record);
        Record::Unknown,
        Record::Pending,
        Record::Revoked,
        Record::Paired { for_role: true, pinned: true, scopes: _ },
        Record::Paired { for_role: true, pinned: false, scopes: _ },
        Record::Paired { for_role: false, pinned: true, scopes: _ },
        Record::Paired { for_role: false, pinned: false, scopes: _ });
    let records: HashSet<Record> = along(RECORD).map(|evidence| evidence.record).collect();
    assert_eq!(records.len(), 3 + 2 * 2 * APPROVED.len());
    let Policy {
        open: _,
        deviceless_loopback,
    } = Policy::default();
    assert_eq!(mask(&deviceless_loopback), POLICIES[0].1);
    each_occurs!("policy", POLICIES.iter().map(|(open, _)| *open); true, false);
    for scope in &Scope::ALL {
        assert!(
            REQUESTS.contains(&Some(bit(scope))),
            "{scope} is never asked for alone"
        );
    }
    assert_eq!(mask(&ScopeSet::owner()), BUNDLE);
}

// ---------------------------------------------------------------------------------------------------------------------
// Law 3: more evidence, no less authority.

/// One step up: on this axis, from this value to that one.
type Step = (usize, u8, u8);

/// Every way of adding evidence. Left out, because the table itself takes authority away there:
/// a bad proof (refused), a record for another role or under another platform (never the same
/// device's approval), a revocation.
fn steps_up() -> Vec<Step> {
    let mut steps = vec![
        (SHARED, 0, 1),
        (SHARED, BAD_CHECK, 1),
        (DEVICE_TOKEN, 0, 1),
        (DEVICE_TOKEN, 0, 2),
        (DEVICE_TOKEN, 1, 2),
        (DEVICE_TOKEN, BAD_SCOPED, 1),
        (API_TOKEN, 0, 1),
        (API_TOKEN, 0, 2),
        (API_TOKEN, 1, 2),
        (API_TOKEN, BAD_SCOPED, 1),
        (LOCAL_PROOF, 0, 1),
        (LOCAL_PROOF, BAD_CHECK, 1),
        (IDENTITY, 0, 1),
        (IDENTITY, 0, 2),
        (IDENTITY, 2, 1),
        (IDENTITY, BAD_SCOPED, 1),
        (IDENTITY, BAD_SCOPED, 2),
        (PROOF, 0, 1),
    ];
    for approved in 0..4 {
        for before in [UNKNOWN, PENDING, REVOKED] {
            steps.push((RECORD, before, paired(true, true, approved)));
        }
        steps.push((
            RECORD,
            paired(true, false, approved),
            paired(true, true, approved),
        ));
        steps.push((
            RECORD,
            paired(false, true, approved),
            paired(true, true, approved),
        ));
        steps.push((
            RECORD,
            paired(false, false, approved),
            paired(true, false, approved),
        ));
    }
    // [] < [read] < bundle and [] < [pairing] < bundle
    for (less, more) in [(0, 1), (0, 3), (1, 2), (3, 2), (0, 2)] {
        for (for_role, pinned) in [(true, true), (true, false), (false, true), (false, false)] {
            let wider = |approved| paired(for_role, pinned, approved);
            steps.push((RECORD, wider(less), wider(more)));
        }
    }
    steps
}

/// Ways of adding something bad. It changes nothing for whoever gets in without it.
const STEPS_BAD: [Step; 6] = [
    (SHARED, 0, BAD_CHECK),
    (DEVICE_TOKEN, 0, BAD_SCOPED),
    (API_TOKEN, 0, BAD_SCOPED),
    (LOCAL_PROOF, 0, BAD_CHECK),
    (IDENTITY, 0, BAD_SCOPED),
    (BOOTSTRAP, 0, 1),
];

/// Everything but a foreign origin and a bad proof (always refused, see the table), a proxied
/// loopback (the same as remote), webchat (the same as the Control UI) and a backend (the same as
/// any other client), which law 4 shows.
fn comparable() -> Space {
    Space::whole()
        .with(PEER, &[0, 2, 3])
        .with(BROWSER, &[0, 1])
        .with(DECLARED, &[0, 3])
        .with(PROOF, &[0, 1])
}

/// The one exception that the table asks for. Who names no scopes gets the approved set of a paired
/// device, and `operator.read` otherwise: there the record decides what is *asked for*, and an
/// approved set without reading stands instead of reading.
fn asks_for_something_else(case: Case, step: Step, requested: Option<Mask>) -> bool {
    let (axis, _, to) = step;
    requested.is_none()
        && axis == RECORD
        && case.proven()
        && read_paired(to).is_some_and(|(for_role, _, approved)| {
            for_role && approved != NOTHING && reach(approved) & READ == 0
        })
}

/// A step within a space: the axis, the value it starts from, how far the index moves.
struct Move {
    step: Step,
    by: isize,
}

/// The steps whose two values both occur in a space.
fn moves(space: &Space, steps: &[Step]) -> Vec<Move> {
    let within = |&step: &Step| {
        let (axis, from, to) = step;
        let (from, to) = (space.place(axis, from)?, space.place(axis, to)?);
        let stride = space.stride(axis).cast_signed();
        let by = (to.cast_signed() - from.cast_signed()) * stride;
        Some(Move { step, by })
    };
    steps.iter().filter_map(within).collect()
}

/// Compares each granted case with each step up from it. How many were granted, and compared.
fn monotone(space: &Space, requests: &[Option<Mask>]) -> (u64, u64) {
    let (better, worse) = (moves(space, &steps_up()), moves(space, &STEPS_BAD));
    let (grants, compared) = (AtomicU64::new(0), AtomicU64::new(0));
    for &requested in requests {
        for under in POLICIES {
            let outcomes = space.outcomes(requested, under);
            space.for_each(|index, case| {
                let before = outcomes[index];
                if before.0.is_none() {
                    return;
                }
                let after = |step: &Move| {
                    let (axis, from, _) = step.step;
                    (case.at(axis) == from).then(|| outcomes[index.wrapping_add_signed(step.by)])
                };
                let mut looked = 0;
                for step in &better {
                    let Some(after) = after(step) else { continue };
                    looked += 1;
                    let excepted = asks_for_something_else(case, step.step, requested);
                    // Even then the door stays open.
                    let kept = before.within(after) || (excepted && after.0.is_some());
                    let taken = step.step;
                    assert!(
                        kept,
                        "{case:?} {taken:?} {requested:?} {under:?}: {before:?} {after:?}"
                    );
                }
                for step in &worse {
                    let Some(after) = after(step) else { continue };
                    looked += 1;
                    let taken = step.step;
                    assert_eq!(before, after, "{case:?} {taken:?} {requested:?} {under:?}");
                }
                grants.fetch_add(1, Relaxed);
                compared.fetch_add(looked, Relaxed);
            });
        }
    }
    (grants.into_inner(), compared.into_inner())
}

#[test]
fn law_3_more_evidence_never_shrinks_a_grant() {
    let started = std::time::Instant::now();
    let operator = comparable().with(ROLE, &[0]);
    // A node asks for no scopes, so one request stands for all.
    let node = comparable().with(ROLE, &[1]);
    // Identity comes from a trusted proxy alone; elsewhere its axis would multiply the work for nothing.
    let (mut cases, mut compared) = (0, 0);
    for (peers, identities) in [(&[0, 3][..], &[0][..]), (&[2], &[0, 1, 2, 3])] {
        let narrowed = |space: &Space| space.clone().with(PEER, peers).with(IDENTITY, identities);
        for (space, requests) in [
            (narrowed(&operator), &REQUESTS_FEW[..]),
            (narrowed(&node), &REQUESTS_FEW[1..2]),
        ] {
            let counts = monotone(&space, requests);
            (cases, compared) = (cases + counts.0, compared + counts.1);
        }
    }
    println!(
        "law 3: {cases} grants, {compared} steps, {:?}",
        started.elapsed()
    );
    assert!(compared > 5_000_000, "{compared}");
}

/// A wider policy is more, too, and a secret that need not be shown is as good as one that is.
#[test]
fn law_3_a_wider_policy_never_shrinks_a_grant() {
    let space = comparable().without_bad_credentials();
    for requested in REQUESTS_FEW {
        let [owner, reading, none, open] = POLICIES.map(|under| space.outcomes(requested, under));
        for index in 0..space.len() {
            let case = space.case(index);
            assert!(none[index].within(reading[index]), "{case:?} {requested:?}");
            assert!(
                reading[index].within(owner[index]),
                "{case:?} {requested:?}"
            );
            assert!(owner[index].within(open[index]), "{case:?} {requested:?}");
            if case.at(SHARED) == 0 && case.direct() {
                let shown = index + space.stride(SHARED);
                assert_eq!(open[index], owner[shown], "{case:?} {requested:?}");
            }
        }
    }
}

/// What a device may hand on depends on who stands behind the connection, so that must not turn
/// against the caller either: the approved scopes of a foreign family survive a silent approval.
#[test]
fn law_3_what_was_approved_survives_a_silent_approval() {
    let mut case = Space::whole().case(0);
    (case.0[SHARED], case.0[PROOF]) = (1, 1);
    let requested = set(READ | FOREIGN);
    for pinned in [true, false] {
        for deviceless in [NOTHING, BUNDLE] {
            let evidence = Evidence {
                record: Record::Paired {
                    for_role: true,
                    scopes: set(FOREIGN),
                    pinned,
                },
                ..case.evidence()
            };
            let outcome = grant(&evidence, Some(&requested), &policy((false, deviceless)));
            assert_eq!(
                Brief::of(&outcome),
                Brief(Some(READ | FOREIGN)),
                "{outcome:?}"
            );
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Law 4: what a client says of itself, and the text of its headers, add nothing.

/// No bad credentials here: law 3 shows that they change nothing.
fn without_bad() -> Space {
    Space::whole()
        .without_bad_credentials()
        .with(PROOF, &[0, 1])
}

#[test]
fn law_4_what_a_client_declares_never_widens_the_outcome() {
    let space = without_bad();
    let mut compared = 0_u64;
    for requested in REQUESTS_FEW {
        for under in POLICIES {
            let outcomes = space.outcomes(requested, under);
            let at = |index: usize, axis: usize, case: Case, to: u8| {
                let from = usize::from(case.at(axis)) * space.stride(axis);
                outcomes[index - from + usize::from(to) * space.stride(axis)]
            };
            for (index, this) in outcomes.iter().copied().enumerate() {
                let case = space.case(index);
                let plain = at(index, DECLARED, case, 3);
                compared += 1;
                // A page of the gateway's own UI may pair its browser; no other page, nor any
                // program, gets more for calling itself so.
                let may_differ = case.direct()
                    && case.browser() == Browser::AllowedOrigin
                    && matches!(case.declared(), Declared::ControlUi | Declared::Webchat);
                assert!(
                    this.within(plain) || may_differ,
                    "{case:?} {requested:?} {under:?}"
                );
                // And it never gets there what a program with the same evidence would not.
                assert!(
                    this.within(at(index, BROWSER, case, 0)),
                    "{case:?} {requested:?} {under:?}"
                );
                let alike = match case.declared() {
                    Declared::ControlUi | Declared::Webchat => at(index, DECLARED, case, 0),
                    // A backend may be spared a record, and gets neither more nor less by that.
                    Declared::Backend | Declared::Other => plain,
                };
                assert_eq!(this, alike, "{case:?} {requested:?} {under:?}");
            }
        }
    }
    println!("law 4, declared: {compared} cases");
    assert!(compared >= (4 * 3 * 4 * 72 * 2 * 19 * 2 * 6 * 4) as u64);
}

#[test]
fn law_4_the_nearer_peer_never_gets_less_and_a_proxied_one_is_remote() {
    let space = without_bad();
    let nth = |peer: Peer| Peer::ALL.iter().position(|p| *p == peer).unwrap();
    for requested in REQUESTS_FEW {
        for under in POLICIES {
            let outcomes = space.outcomes(requested, under);
            for index in (0..space.len()).step_by(Peer::ALL.len()) {
                let case = space.case(index);
                let at = |peer| outcomes[index + nth(peer)];
                assert_eq!(
                    at(Peer::LoopbackProxied),
                    at(Peer::Remote),
                    "{case:?} {requested:?}"
                );
                assert!(
                    at(Peer::Remote).within(at(Peer::LoopbackDirect)),
                    "{case:?} {requested:?}"
                );
                // A user that a proxy vouches for is evidence that exists nowhere else.
                if case.at(IDENTITY) == 0 {
                    assert_eq!(
                        at(Peer::TrustedProxy),
                        at(Peer::Remote),
                        "{case:?} {requested:?}"
                    );
                }
            }
        }
    }
}

/// The whole outcome with its words, not only its scopes, on the axes where the text matters.
#[test]
fn law_4_a_proxied_loopback_is_told_the_same_as_a_remote_peer() {
    let space = without_bad()
        .with(PEER, &[1])
        .with(IDENTITY, &[0])
        .with(ROLE, &[0]);
    let requested = set(BUNDLE);
    let policy = Policy::default();
    space.for_each(|_, case| {
        let mut remote = case;
        remote.0[PEER] = 3;
        assert_eq!(
            grant(&case.evidence(), Some(&requested), &policy),
            grant(&remote.evidence(), Some(&requested), &policy),
            "{case:?}"
        );
    });
}

#[test]
fn law_4_headers_only_take_directness_away() {
    let addresses: [IpAddr; 5] = [
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(127, 9, 9, 9).into(),
        Ipv6Addr::LOCALHOST.into(),
        Ipv4Addr::new(192, 0, 2, 7).into(),
        Ipv4Addr::new(127, 0, 0, 1).to_ipv6_mapped().into(),
    ];
    let chains = [
        None,
        Some("127.0.0.1"),
        Some("::1"),
        Some("junk"),
        Some("192.0.2.9, 127.0.0.1"),
    ];
    for socket in addresses {
        for forwarded_for in chains {
            for real_ip in [None, Some("127.0.0.1")] {
                for (proxied, host_is_loopback, trusted, allow_real_ip) in (0..16_u8)
                    .map(|bits| (bits & 1 == 1, bits & 2 == 2, bits & 4 == 4, bits & 8 == 8))
                {
                    let any = proxied || forwarded_for.is_some() || real_ip.is_some();
                    let forwarding = Forwarding {
                        forwarded_for,
                        real_ip,
                        any,
                        host_is_loopback,
                    };
                    let is_trusted = |address: IpAddr| trusted && address == socket.to_canonical();
                    let way = peer::judge(socket, &forwarding, is_trusted, allow_real_ip);
                    let here = socket.to_canonical().is_loopback();
                    let direct = here && !any && host_is_loopback && !trusted;
                    assert_eq!(
                        way.peer == Peer::LoopbackDirect,
                        direct,
                        "{socket} {forwarding:?}"
                    );
                    assert_eq!(
                        way.peer == Peer::TrustedProxy,
                        trusted,
                        "{socket} {forwarding:?}"
                    );
                    if !trusted {
                        assert_eq!(way.client, Some(socket.to_canonical()));
                    }
                }
            }
        }
    }
}

#[test]
fn law_4_needing_an_origin_only_refuses_pages() {
    let rules = OriginRules::default();
    for origin in [
        None,
        Some("http://127.0.0.1:5173"),
        Some("https://evil.example"),
        Some("null"),
    ] {
        for fetch_site in [None, Some("same-origin"), Some("cross-site"), Some("none")] {
            for direct_loopback in [true, false] {
                let judged = |needs_origin| {
                    let seen = OriginSeen {
                        origin,
                        host: Some("127.0.0.1:18789"),
                        fetch_site,
                        direct_loopback,
                        needs_origin,
                    };
                    origin::judge(&seen, &rules).0
                };
                let (plain, as_ui) = (judged(false), judged(true));
                assert!(
                    as_ui == plain || as_ui == Browser::ForeignOrigin,
                    "{origin:?}"
                );
                assert!(
                    origin.is_none() || plain != Browser::No,
                    "{origin:?} makes a page"
                );
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Law 6: nobody hands on what they do not hold.

/// A live grant with exactly these scopes. An API token makes one without any other rule.
fn caller(scopes: Mask) -> Grant {
    let scopes = set(scopes);
    let evidence = Evidence {
        peer: Peer::Remote,
        browser: Browser::No,
        declared: Declared::Other,
        role: Role::Operator,
        credentials: Credentials {
            api_token: ScopedCheck::Valid(scopes.clone()),
            ..Credentials::NONE
        },
        proof: Proof::Absent,
        record: Record::Unknown,
    };
    match grant(&evidence, Some(&scopes), &Policy::default()) {
        Outcome::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

fn node_caller() -> Grant {
    let evidence = Evidence {
        peer: Peer::Remote,
        browser: Browser::No,
        declared: Declared::Other,
        role: Role::Node,
        credentials: Credentials {
            shared: Check::Valid,
            ..Credentials::NONE
        },
        proof: Proof::Valid,
        record: Record::Paired {
            for_role: true,
            scopes: ScopeSet::EMPTY,
            pinned: true,
        },
    };
    match grant(&evidence, None, &Policy::default()) {
        Outcome::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

/// Every set over the names that differ in what they cover.
fn sets() -> impl Iterator<Item = Mask> {
    let names = [
        ADMIN,
        READ,
        WRITE,
        PAIRING,
        TALK,
        UNKNOWN_OPERATOR,
        FOREIGN,
        APPROVALS,
    ];
    (0..1_u16 << names.len()).map(move |bits| {
        names
            .iter()
            .enumerate()
            .filter(|(at, _)| bits >> at & 1 == 1)
            .fold(NOTHING, |all, (_, name)| all | name)
    })
}

/// Fewer, for the tests that need three of them at once.
fn few_sets() -> impl Iterator<Item = Mask> + Clone {
    [
        NOTHING,
        READ,
        WRITE,
        PAIRING,
        WRITE | PAIRING,
        READ | PAIRING,
        ADMIN,
        BUNDLE,
        FOREIGN,
        ADMIN | FOREIGN,
    ]
    .into_iter()
}

#[test]
fn law_6_covers_means_every_target_scope_is_within_the_callers() {
    let node = node_caller();
    let mut compared = 0;
    for held in sets() {
        let caller = caller(held);
        for target in sets() {
            compared += 1;
            let beyond = target & !reach(held);
            match covers(&caller, &set(target)) {
                Ok(()) => assert_eq!(beyond, NOTHING, "{held:#b} {target:#b}"),
                Err(scope) => assert_eq!(bit(&scope), beyond & beyond.wrapping_neg(), "the first"),
            }
        }
        assert_eq!(
            covers(&node, &set(held)).is_ok(),
            held == NOTHING,
            "{held:#b}"
        );
    }
    println!("law 6: {compared} pairs of caller and target");
    assert_eq!(compared, 1 << 16);
}

#[test]
fn law_6_narrowing_a_live_grant_never_adds_and_never_leaves_it_powerless() {
    for scopes in sets() {
        let live = caller(scopes);
        for held in few_sets() {
            let left = scopes & reach(held);
            match live.narrowed_to(&set(held)) {
                None => assert!(
                    left == NOTHING && scopes != NOTHING,
                    "{scopes:#b} {held:#b}"
                ),
                Some(narrowed) => {
                    assert_eq!(mask(narrowed.scopes()), left);
                    assert!(left != NOTHING || scopes == NOTHING);
                    let missing: Mask = narrowed
                        .missing()
                        .iter()
                        .fold(NOTHING, |all, (scope, _)| all | bit(scope));
                    assert_eq!(missing, scopes & !left, "what went is named");
                }
            }
        }
    }
    let node = node_caller();
    assert_eq!(node.narrowed_to(&ScopeSet::EMPTY), Some(node));
}

fn pending(role: Role, scopes: Mask) -> Pending {
    Pending {
        request_id: PairingRequestId::new("request".to_owned()),
        device_id: DeviceId::new("device".to_owned()),
        public_key: "key".to_owned(),
        role,
        scopes: set(scopes),
        claims: Claims::default(),
        is_repair: true,
        asked_at_ms: 0,
    }
}

/// A device as it stood: what was approved, what its token carries, whether that was revoked.
fn device(role: Role, approved: Mask, token: Option<(Mask, bool)>) -> Device {
    Device {
        device_id: DeviceId::new("device".to_owned()),
        public_key: "key".to_owned(),
        claims: Claims::default(),
        approved: vec![Approved {
            role,
            scopes: set(approved),
        }],
        tokens: token
            .into_iter()
            .map(|(scopes, revoked)| DeviceToken {
                role,
                scopes: set(scopes),
                serial: "old".to_owned(),
                old_serial: None,
                old_until_ms: None,
                created_at_ms: 0,
                rotated_at_ms: None,
                revoked_at_ms: revoked.then_some(0),
                last_used_at_ms: None,
            })
            .collect(),
        silently: false,
        created_at_ms: 0,
        approved_at_ms: 0,
    }
}

fn may_approve(
    caller: &Grant,
    pending: &Pending,
    known: Option<&Device>,
) -> Result<(), PairingError> {
    let after = pairing::approve(known, pending, "new".to_owned(), false, 1);
    pairing::may_approve(caller, pending, known, &after)
}

/// A device that comes back under another platform gets all that it had: who approves that must
/// hold it all.
#[test]
fn law_6_pinning_a_device_anew_needs_everything_that_it_holds_afterwards() {
    for held in few_sets() {
        let caller = caller(held);
        for wanted in few_sets() {
            for approved in few_sets() {
                for revoked in [false, true] {
                    let mut before = device(Role::Operator, approved, Some((approved, revoked)));
                    before.claims.platform = Some("linux".to_owned());
                    let mut pending = pending(Role::Operator, wanted);
                    pending.claims.platform = Some("macos".to_owned());
                    let after = wanted | if revoked { NOTHING } else { approved };
                    assert_eq!(
                        may_approve(&caller, &pending, Some(&before)).is_ok(),
                        after & !reach(held) == NOTHING,
                        "{held:#b} {wanted:#b} {approved:#b} {revoked}"
                    );
                }
            }
        }
    }
}

#[test]
fn law_6_approving_needs_every_requested_scope_and_a_node_an_administrator() {
    for held in sets() {
        let caller = caller(held);
        for wanted in sets() {
            let covered = wanted & !reach(held) == 0;
            assert_eq!(
                may_approve(&caller, &pending(Role::Operator, wanted), None).is_ok(),
                covered
            );
        }
        let node = may_approve(&caller, &pending(Role::Node, NOTHING), None);
        assert_eq!(node.is_ok(), held & ADMIN != 0);
        if held & ADMIN == 0 {
            assert_eq!(node, Err(PairingError::NodeNeedsAdmin));
        }
    }
}

/// After an approval the device has what it lived with before, and what was approved; a revoked
/// token lived with nothing, so that whoever approves it again revives only what they saw.
#[test]
fn law_6_an_approval_adds_no_more_than_was_shown_to_the_approver() {
    let mut approvals = 0;
    for held in few_sets() {
        let caller = caller(held);
        for wanted in few_sets() {
            let pending = pending(Role::Operator, wanted);
            if may_approve(&caller, &pending, None).is_err() {
                continue;
            }
            for approved in few_sets() {
                for carried in few_sets().filter(|carried| carried & !reach(approved) == 0) {
                    for revoked in [false, true] {
                        let before = device(Role::Operator, approved, Some((carried, revoked)));
                        let after =
                            pairing::approve(Some(&before), &pending, "new".to_owned(), false, 1);
                        let (token_before, approved_before) = if revoked {
                            (NOTHING, NOTHING)
                        } else {
                            (carried, approved)
                        };
                        let token = after.token(Role::Operator).unwrap();
                        let approved_after = mask(after.approved_for(Role::Operator).unwrap());
                        let at =
                            format!("{held:#b} {wanted:#b} {approved:#b} {carried:#b} {revoked}");
                        assert_eq!(mask(&token.scopes), token_before | wanted, "token {at}");
                        assert_eq!(approved_after, approved_before | wanted, "approved {at}");
                        let added = mask(&token.scopes) & !token_before;
                        assert_eq!(added & !reach(held), NOTHING, "beyond the caller {at}");
                        let beyond = mask(&token.scopes) & !reach(approved_after);
                        assert_eq!(beyond, NOTHING, "beyond the approved set {at}");
                        assert_eq!(token.revoked_at_ms, None);
                        approvals += 1;
                    }
                }
            }
        }
    }
    println!("law 6: {approvals} approvals");
    assert!(approvals > 1_000);
}

#[test]
fn law_6_a_rotated_token_lies_within_the_caller_and_within_the_approved_set() {
    let mut rotations = 0;
    for held in few_sets() {
        let caller = caller(held);
        for approved in few_sets() {
            for carried in few_sets().filter(|carried| carried & !reach(approved) == 0) {
                let before = device(Role::Operator, approved, Some((carried, false)));
                for wanted in few_sets().map(Some).chain([None]) {
                    for by_itself in [true, false] {
                        let target = wanted.unwrap_or(carried);
                        let scopes = wanted.map(set);
                        let rotated = pairing::rotate(
                            &before,
                            Role::Operator,
                            scopes.as_ref(),
                            &caller,
                            by_itself,
                            "new".to_owned(),
                            1,
                        );
                        let allowed = target & !reach(held) == 0 && target & !reach(approved) == 0;
                        assert_eq!(
                            rotated.is_ok(),
                            allowed,
                            "{held:#b} {approved:#b} {target:#b}"
                        );
                        if let Ok(after) = rotated {
                            rotations += 1;
                            assert_eq!(mask(&after.token(Role::Operator).unwrap().scopes), target);
                            assert_eq!(
                                after.approved, before.approved,
                                "rotation approves nothing"
                            );
                        }
                    }
                }
            }
        }
    }
    println!("law 6: {rotations} rotations");
    assert!(rotations > 1_000);
}

// ---------------------------------------------------------------------------------------------------------------------
// Law 7: the same evidence, the same door.

/// Requests whose order can differ; the credentials are never bad, as under law 4.
#[test]
fn law_7_the_same_evidence_gets_the_same_outcome_in_any_order_of_asking() {
    let space = without_bad()
        .with(BROWSER, &[0, 1])
        .with(DECLARED, &[0, 2, 3]);
    let forward: [ScopeSet; 2] = [set(BUNDLE), set(READ | WRITE | FOREIGN)];
    let policies = [POLICIES[0], POLICIES[1]].map(policy);
    space.for_each(|_, case| {
        let evidence = case.evidence();
        for policy in &policies {
            for requested in &forward {
                let reversed: ScopeSet = {
                    let mut scopes: Vec<Scope> = requested.iter().cloned().collect();
                    scopes.reverse();
                    scopes.into_iter().collect()
                };
                let first = grant(&evidence, Some(requested), policy);
                assert_eq!(first, grant(&evidence, Some(requested), policy), "{case:?}");
                let turned = grant(&evidence, Some(&reversed), policy);
                assert_eq!(
                    unordered(&first),
                    unordered(&turned),
                    "{case:?} {requested:?}"
                );
            }
        }
    });
}

/// An outcome with its lists sorted.
fn unordered(outcome: &Outcome) -> (String, Mask, Vec<(Scope, MissingWhy)>) {
    match outcome {
        Outcome::Granted(grant) => {
            let mut missing = grant.missing().to_vec();
            missing.sort_by(|a, b| a.0.cmp(&b.0));
            let rule = format!("{:?} {:?} {}", grant.basis(), grant.pairing(), grant.role());
            (rule, mask(grant.scopes()), missing)
        }
        other @ (Outcome::NeedsPairing(_) | Outcome::Denied(_)) => {
            (format!("{other:?}"), NOTHING, Vec::new())
        }
    }
}

#[test]
fn law_7_a_refusal_before_the_credentials_does_not_depend_on_them() {
    let foreign = Space::whole()
        .with(BROWSER, &[2])
        .with(RECORD, &[UNKNOWN, paired(true, true, 2)]);
    let owner = Policy::default();
    foreign.for_each(|_, case| {
        let outcome = grant(&case.evidence(), Some(&ScopeSet::owner()), &owner);
        assert_eq!(
            outcome,
            Outcome::Denied(Denied::OriginNotAllowed),
            "{case:?}"
        );
    });
    let bad = Space::whole()
        .with(BROWSER, &[0, 1])
        .with(PROOF, &[2])
        .with(RECORD, &[UNKNOWN, paired(true, true, 2)]);
    bad.for_each(|_, case| {
        let outcome = grant(&case.evidence(), Some(&ScopeSet::owner()), &owner);
        let expected = Outcome::Denied(Denied::DeviceProof(ProofFault::SignatureInvalid));
        assert_eq!(outcome, expected, "{case:?}");
    });
}
