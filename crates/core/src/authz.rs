//! Authorization: one pure, total function from evidence to authority.
//!
//! [`grant`] looks at everything that the gateway verified about a caller and answers with a
//! [`Grant`], a demand for pairing, or a refusal. Everything else consumes the grant: the hello
//! prints it, [`admit`] checks it on each call, events are filtered by it, [`covers`] bounds what
//! it may hand on. There is no second place where scopes are computed, narrowed or cleared.
//!
//! How it decides: each valid credential opens a *lane* (device-less loopback, paired device,
//! API token, local proof, proxy identity). A lane says which of the wanted scopes it holds. The
//! grant is the union of the lanes, so that further evidence never shrinks it.
//!
//! Laws, each of them a test over the whole enumerated domain (`tests/authz_laws.rs`): never
//! powerless, nothing silent, monotone, no self-service, requested is an upper bound, no
//! escalation by delegation, same evidence same door. (The eighth, immediate revocation, is the
//! gateway's to keep.)

use clawgate_protocol::{Access, Role, Scope, ScopeSet};

/// Where the socket comes from. Never read from the text of `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A loopback socket without any forwarding header, from an address that is no trusted proxy.
    LoopbackDirect,
    /// A loopback socket whose request went through something that forwards.
    LoopbackProxied,
    /// A configured proxy that vouches for the address behind it.
    TrustedProxy,
    /// Anything else.
    Remote,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::LoopbackDirect,
        Self::LoopbackProxied,
        Self::TrustedProxy,
        Self::Remote,
    ];

    /// A stable word for logs and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoopbackDirect => "loopback-direct",
            Self::LoopbackProxied => "loopback-proxied",
            Self::TrustedProxy => "trusted-proxy",
            Self::Remote => "remote",
        }
    }
}

/// Whether a browser speaks, and from which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Browser {
    /// No `Origin`, and no client that needs one.
    No,
    /// A page that may talk to this gateway.
    AllowedOrigin,
    /// Any other page.
    ForeignOrigin,
}

impl Browser {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::No, Self::AllowedOrigin, Self::ForeignOrigin];

    /// A stable word for logs and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::AllowedOrigin => "allowed-origin",
            Self::ForeignOrigin => "foreign-origin",
        }
    }
}

/// What the client says it is. It may narrow the outcome, never widen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Declared {
    /// The Control UI.
    ControlUi,
    /// The web chat.
    Webchat,
    /// A backend on the gateway's machine that wants no pairing record.
    Backend,
    /// Anything else.
    Other,
}

impl Declared {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ControlUi, Self::Webchat, Self::Backend, Self::Other];
}

/// Outcome of checking one kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Not presented.
    Absent,
    /// Presented and good.
    Valid,
    /// Presented and not good.
    Bad(CredentialFault),
}

/// Outcome of checking a credential that carries scopes of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ScopedCheck {
    /// Not presented.
    Absent,
    /// Presented and good, holding these scopes.
    Valid(ScopeSet),
    /// Presented and not good.
    Bad(CredentialFault),
}

/// Why a credential does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialFault {
    /// The token is not the gateway's, nobody's API token and no device token of this device.
    TokenMismatch,
    /// The gateway asks for a token and has none.
    TokenNotConfigured,
    /// The password is wrong.
    PasswordMismatch,
    /// The gateway asks for a password and has none.
    PasswordNotConfigured,
    /// Not this device's token for this role, or no longer.
    DeviceTokenMismatch,
    /// No such setup code.
    BootstrapInvalid,
    /// The API token's time is over.
    ApiTokenExpired,
    /// The API token was revoked.
    ApiTokenRevoked,
    /// The local proof does not verify.
    LocalProofMismatch,
    /// A local proof from elsewhere than this machine, or from a browser.
    LocalProofNotLocal,
    /// The proxy names no user.
    ProxyUserMissing,
    /// The user header comes from an address that is no trusted proxy.
    ProxyUntrusted,
    /// The proxy's user is not on the list.
    ProxyUserNotAllowed,
    /// Too many failures from there.
    RateLimited {
        /// When the next attempt is looked at, milliseconds from now.
        retry_after_ms: u64,
    },
}

/// Everything that was presented, each kind checked on its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The gateway's token or password.
    pub shared: Check,
    /// A token of this device for this role.
    pub device_token: ScopedCheck,
    /// A named API token.
    pub api_token: ScopedCheck,
    /// Proof of reading the local key file.
    pub local_proof: Check,
    /// A setup code. None is issued yet, so it is absent or bad.
    pub bootstrap: Check,
    /// A user that a trusted proxy vouches for, with the scopes configured for that user.
    pub identity: ScopedCheck,
}

impl Credentials {
    /// Nothing presented.
    pub const NONE: Self = Self {
        shared: Check::Absent,
        device_token: ScopedCheck::Absent,
        api_token: ScopedCheck::Absent,
        local_proof: Check::Absent,
        bootstrap: Check::Absent,
        identity: ScopedCheck::Absent,
    };

    /// The fault to report when nothing holds: the one of the credential that was meant first.
    fn fault(&self) -> Option<CredentialFault> {
        let scoped = |check: &ScopedCheck| match check {
            ScopedCheck::Bad(fault) => Some(*fault),
            ScopedCheck::Absent | ScopedCheck::Valid(_) => None,
        };
        let plain = |check: Check| match check {
            Check::Bad(fault) => Some(fault),
            Check::Absent | Check::Valid => None,
        };
        scoped(&self.api_token)
            .or(scoped(&self.device_token))
            .or(plain(self.shared))
            .or(plain(self.bootstrap))
            .or(plain(self.local_proof))
            .or(scoped(&self.identity))
    }
}

/// Outcome of checking the device proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// None sent.
    Absent,
    /// The caller holds the device's key and signed this socket's challenge.
    Valid,
    /// Sent and not good. It is refused, never ignored.
    Bad(crate::proof::ProofFault),
}

/// What the gateway knows about the proven device, for the role that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// Nothing.
    Unknown,
    /// It asked and was not answered.
    Pending,
    /// Its token for this role was revoked.
    Revoked,
    /// It is paired.
    Paired {
        /// Whether for this role.
        for_role: bool,
        /// What was approved for this role.
        scopes: ScopeSet,
        /// Whether platform and device family are those that were approved.
        pinned: bool,
    },
}

/// Everything that was verified about a caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// Where from.
    pub peer: Peer,
    /// Whether a browser.
    pub browser: Browser,
    /// What it says it is.
    pub declared: Declared,
    /// The role asked for.
    pub role: Role,
    /// What was presented.
    pub credentials: Credentials,
    /// The device proof.
    pub proof: Proof,
    /// What is known about that device.
    pub record: Record,
}

/// What the operator configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Auth mode `none`: a direct loopback caller counts as holding the shared secret.
    pub open: bool,
    /// Scopes of a caller on this machine that holds the shared secret and shows no device
    /// (`gateway.auth.deviceless.loopback`).
    pub deviceless_loopback: ScopeSet,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            open: false,
            deviceless_loopback: ScopeSet::owner(),
        }
    }
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The shared secret from this machine, no device needed.
    SharedSecretLoopback,
    /// Auth mode `none` from this machine.
    OpenLoopback,
    /// A paired device.
    PairedDevice,
    /// A device that was paired in this very connect.
    SilentPairing,
    /// A named API token.
    ApiToken,
    /// The local key file.
    LocalProof,
    /// A user behind a trusted proxy.
    ProxyIdentity,
}

impl Basis {
    /// A stable word for the hello, logs and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SharedSecretLoopback => "shared-secret-loopback",
            Self::OpenLoopback => "open-loopback",
            Self::PairedDevice => "paired-device",
            Self::SilentPairing => "silent-pairing",
            Self::ApiToken => "api-token",
            Self::LocalProof => "local-proof",
            Self::ProxyIdentity => "proxy-identity",
        }
    }

    /// The same as one sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::SharedSecretLoopback => {
                "the shared secret from this machine carries gateway.auth.deviceless.loopback"
            }
            Self::OpenLoopback => "auth mode none treats callers on this machine as the owner",
            Self::PairedDevice => "a paired device gets what was approved for it",
            Self::SilentPairing => {
                "the shared secret from this machine pairs a new device without asking"
            }
            Self::ApiToken => "an API token carries the scopes that it was made with",
            Self::LocalProof => "whoever can read the state directory's local key is the owner",
            Self::ProxyIdentity => "the proxy's user carries gateway.auth.identityScopes",
        }
    }
}

/// Why a wanted scope was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissingWhy {
    /// It waits for an approval.
    NotApproved,
    /// No presented credential carries it.
    NotHeld,
    /// No scope of that family exists here.
    UnknownScope,
}

impl MissingWhy {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotApproved => "not-approved",
            Self::NotHeld => "not-held",
            Self::UnknownScope => "unknown-scope",
        }
    }
}

/// Why pairing is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairingReason {
    /// The device is new, or its token was revoked.
    NotPaired,
    /// It is paired for another role.
    RoleUpgrade,
    /// It wants more than was approved.
    ScopeUpgrade,
    /// It claims another platform or device family than was approved.
    MetadataUpgrade,
}

impl PairingReason {
    /// The wire's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPaired => "not-paired",
            Self::RoleUpgrade => "role-upgrade",
            Self::ScopeUpgrade => "scope-upgrade",
            Self::MetadataUpgrade => "metadata-upgrade",
        }
    }
}

/// What the connect does to the device's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairingStep {
    /// Nothing: no device, or none is needed.
    None,
    /// The record stands; a token for the role is kept or issued.
    Keep,
    /// The record is made or widened without asking, and audited.
    Approve(PairingReason),
    /// A pending request is kept for a person to decide.
    Ask(PairingReason),
}

/// The authority of one connection. Only [`grant`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    role: Role,
    scopes: ScopeSet,
    basis: Basis,
    missing: Vec<(Scope, MissingWhy)>,
    pairing: PairingStep,
}

impl Grant {
    /// Operator or node.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What [`admit`] enforces and the hello prints.
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// The rule that decided.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// What was wanted and is not in [`Self::scopes`].
    pub fn missing(&self) -> &[(Scope, MissingWhy)] {
        &self.missing
    }

    /// What the connect does to the device's record.
    pub fn pairing(&self) -> PairingStep {
        self.pairing
    }

    /// Whether a device token stands behind the connection.
    pub fn has_device_token(&self) -> bool {
        matches!(self.pairing, PairingStep::Keep | PairingStep::Approve(_))
            || (matches!(self.pairing, PairingStep::Ask(PairingReason::ScopeUpgrade))
                && self.basis == Basis::PairedDevice)
    }

    /// The same authority bounded by `held`, for a live connection whose record shrank.
    /// `None` when nothing of it is left.
    #[must_use]
    pub fn narrowed_to(&self, held: &ScopeSet) -> Option<Self> {
        let scopes = self.scopes.covered_by(held);
        if scopes.is_empty() && !self.scopes.is_empty() {
            return None;
        }
        let mut missing = self.missing.clone();
        for scope in &self.scopes {
            if !scopes.contains(scope) {
                missing.push((scope.clone(), MissingWhy::NotApproved));
            }
        }
        Some(Self {
            scopes,
            missing,
            ..self.clone()
        })
    }
}

/// Why a connect is refused for good, with what was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    /// The page may not talk to this gateway.
    OriginNotAllowed,
    /// The device proof is bad.
    DeviceProof(crate::proof::ProofFault),
    /// No presented credential holds.
    Credential(CredentialFault),
    /// A device was proven and no credential was presented.
    CredentialMissing,
    /// What was presented is not enough without a device.
    DeviceIdentityRequired,
    /// The credential holds, and carries none of the wanted scopes.
    NothingGranted,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Welcome, with this authority.
    Granted(Grant),
    /// A person has to approve the device first.
    NeedsPairing(PairingReason),
    /// No.
    Denied(Denied),
}

/// What one lane holds of the wanted scopes.
struct Lane {
    scopes: ScopeSet,
    basis: Basis,
}

/// What the pairing lane says.
enum PairingLane {
    /// There is no device, or no credential that stands for one.
    Closed,
    /// The device is good for these.
    Open { lane: Lane, step: PairingStep },
    /// A person has to decide.
    Ask(PairingReason),
}

/// Decides the authority of a caller. `requested` absent is not the same as empty: absent gets
/// the approved set of a paired device, or `operator.read`; empty gets nothing and may connect.
pub fn grant(evidence: &Evidence, requested: Option<&ScopeSet>, policy: &Policy) -> Outcome {
    if evidence.browser == Browser::ForeignOrigin {
        return Outcome::Denied(Denied::OriginNotAllowed);
    }
    if let Proof::Bad(fault) = evidence.proof {
        return Outcome::Denied(Denied::DeviceProof(fault));
    }
    let seen = Seen::of(evidence, policy);
    if !seen.any() {
        return Outcome::Denied(match evidence.credentials.fault() {
            Some(fault) => Denied::Credential(fault),
            None if evidence.proof == Proof::Valid => Denied::CredentialMissing,
            None => Denied::DeviceIdentityRequired,
        });
    }
    let of_device = wanted_of_device(evidence, requested);
    let pairing = pairing_lane(evidence, &seen, &of_device, requested.is_some());
    match evidence.role {
        Role::Node => node(evidence, pairing),
        Role::Operator => {
            // Nothing said: what the device has, and reading where another credential carries it.
            let wanted = requested.map_or_else(
                || of_device.union(&ScopeSet::from_iter([Scope::READ])),
                Clone::clone,
            );
            operator(
                evidence,
                policy,
                &seen,
                &wanted,
                requested.is_some(),
                pairing,
            )
        }
    }
}

/// Which credentials hold, once place and browser are taken into account.
struct Seen<'a> {
    shared: bool,
    open: bool,
    local_proof: bool,
    device_token: Option<&'a ScopeSet>,
    api_token: Option<&'a ScopeSet>,
    identity: Option<&'a ScopeSet>,
}

impl<'a> Seen<'a> {
    fn of(evidence: &'a Evidence, policy: &Policy) -> Self {
        let held = |check: &'a ScopedCheck| match check {
            ScopedCheck::Valid(scopes) => Some(scopes),
            ScopedCheck::Absent | ScopedCheck::Bad(_) => None,
        };
        let direct = evidence.peer == Peer::LoopbackDirect;
        let open = policy.open && direct;
        let proven = evidence.proof == Proof::Valid;
        Self {
            shared: open || evidence.credentials.shared == Check::Valid,
            open,
            local_proof: direct
                && evidence.browser == Browser::No
                && evidence.credentials.local_proof == Check::Valid,
            device_token: held(&evidence.credentials.device_token).filter(|_| proven),
            // Automation speaks as an operator; a node is always a device.
            api_token: held(&evidence.credentials.api_token)
                .filter(|_| evidence.role == Role::Operator),
            identity: held(&evidence.credentials.identity)
                .filter(|_| evidence.peer == Peer::TrustedProxy),
        }
    }

    fn any(&self) -> bool {
        self.shared
            || self.local_proof
            || self.device_token.is_some()
            || self.api_token.is_some()
            || self.identity.is_some()
    }
}

/// What the device's record is asked for.
fn wanted_of_device(evidence: &Evidence, requested: Option<&ScopeSet>) -> ScopeSet {
    if evidence.role == Role::Node {
        return ScopeSet::EMPTY;
    }
    match (requested, &evidence.record) {
        (Some(scopes), _) => scopes.clone(),
        (
            None,
            Record::Paired {
                for_role: true,
                scopes,
                ..
            },
        ) if evidence.proof == Proof::Valid && !scopes.is_empty() => scopes.clone(),
        (None, _) => ScopeSet::from_iter([Scope::READ]),
    }
}

fn owner() -> ScopeSet {
    ScopeSet::from_iter([Scope::ADMIN])
}

fn pairing_lane(
    evidence: &Evidence,
    seen: &Seen<'_>,
    wanted: &ScopeSet,
    was_said: bool,
) -> PairingLane {
    let vouched = seen.shared || seen.local_proof || seen.identity.is_some();
    if evidence.proof != Proof::Valid || !(vouched || seen.device_token.is_some()) {
        return PairingLane::Closed;
    }
    let here = evidence.peer == Peer::LoopbackDirect && (seen.shared || seen.local_proof);
    // A page of this gateway's own UI may pair its browser; any other page must be approved.
    let silent = here
        && match evidence.browser {
            Browser::No => true,
            Browser::AllowedOrigin => {
                matches!(evidence.declared, Declared::ControlUi | Declared::Webchat)
            }
            Browser::ForeignOrigin => false,
        };
    let before = match &evidence.record {
        Record::Paired { scopes, .. } => scopes,
        Record::Unknown | Record::Pending | Record::Revoked => &ScopeSet::EMPTY,
    };
    let approve = |reason| PairingLane::Open {
        lane: Lane {
            scopes: wanted.covered_by(&owner().union(before)),
            basis: Basis::SilentPairing,
        },
        step: PairingStep::Approve(reason),
    };
    match &evidence.record {
        Record::Unknown | Record::Pending if silent => approve(PairingReason::NotPaired),
        Record::Unknown | Record::Pending | Record::Revoked => {
            PairingLane::Ask(PairingReason::NotPaired)
        }
        Record::Paired {
            for_role: false, ..
        } => PairingLane::Ask(PairingReason::RoleUpgrade),
        Record::Paired { pinned: false, .. } => {
            if here && evidence.browser == Browser::No {
                approve(PairingReason::MetadataUpgrade)
            } else {
                PairingLane::Ask(PairingReason::MetadataUpgrade)
            }
        }
        Record::Paired { scopes, .. } => {
            // Alone, a token carries no more than it was issued with.
            let held = match seen.device_token {
                Some(token) if !vouched => {
                    scopes.covered_by(token).union(&token.covered_by(scopes))
                }
                _ => scopes.clone(),
            };
            if held.covers_all(wanted) {
                return PairingLane::Open {
                    lane: Lane {
                        scopes: wanted.clone(),
                        basis: Basis::PairedDevice,
                    },
                    step: PairingStep::Keep,
                };
            }
            if silent {
                return approve(PairingReason::ScopeUpgrade);
            }
            let part = wanted.covered_by(&held);
            if part.is_empty() {
                return PairingLane::Ask(PairingReason::ScopeUpgrade);
            }
            PairingLane::Open {
                lane: Lane {
                    scopes: part,
                    basis: Basis::PairedDevice,
                },
                // Who names no scopes is content with what its token carries.
                step: if was_said {
                    PairingStep::Ask(PairingReason::ScopeUpgrade)
                } else {
                    PairingStep::Keep
                },
            }
        }
    }
}

fn node(evidence: &Evidence, pairing: PairingLane) -> Outcome {
    match pairing {
        PairingLane::Open { lane, step } => Outcome::Granted(Grant {
            role: Role::Node,
            scopes: ScopeSet::EMPTY,
            basis: lane.basis,
            missing: Vec::new(),
            pairing: step,
        }),
        PairingLane::Ask(reason) => Outcome::NeedsPairing(reason),
        PairingLane::Closed => match evidence.credentials.fault() {
            Some(fault) if evidence.proof == Proof::Valid => {
                Outcome::Denied(Denied::Credential(fault))
            }
            _ => Outcome::Denied(Denied::DeviceIdentityRequired),
        },
    }
}

fn operator(
    evidence: &Evidence,
    policy: &Policy,
    seen: &Seen<'_>,
    wanted: &ScopeSet,
    was_said: bool,
    pairing: PairingLane,
) -> Outcome {
    let mut lanes = Vec::with_capacity(4);
    let mut step = PairingStep::None;
    let mut ask = None;
    let deviceless = deviceless_lane(evidence, policy, seen, wanted);
    // A backend on this machine wants no record; it gets none where it needs none.
    let skips_pairing = evidence.declared == Declared::Backend
        && deviceless
            .as_ref()
            .is_some_and(|lane| lane.scopes.covers_all(wanted));
    match pairing {
        PairingLane::Open { lane, step: does } if !skips_pairing => {
            lanes.push(lane);
            step = does;
        }
        PairingLane::Ask(reason) if !skips_pairing => ask = Some(reason),
        PairingLane::Open { .. } | PairingLane::Ask(_) | PairingLane::Closed => {}
    }
    lanes.extend(deviceless);
    if seen.local_proof {
        lanes.push(Lane {
            scopes: wanted.covered_by(&owner()),
            basis: Basis::LocalProof,
        });
    }
    if let Some(held) = seen.api_token {
        lanes.push(Lane {
            scopes: wanted.covered_by(held),
            basis: Basis::ApiToken,
        });
    }
    if let Some(held) = seen.identity
        && !held.is_empty()
    {
        lanes.push(Lane {
            scopes: wanted.covered_by(held),
            basis: Basis::ProxyIdentity,
        });
    }

    let mut scopes = ScopeSet::EMPTY;
    let mut basis = None;
    for lane in &lanes {
        if basis.is_none() || !scopes.covers_all(&lane.scopes) {
            basis = Some(lane.basis);
        }
        scopes = scopes.union(&lane.scopes);
    }
    // Printed in the order in which it was asked for.
    let scopes: ScopeSet = wanted
        .iter()
        .filter(|s| scopes.contains(s))
        .cloned()
        .collect();
    match basis {
        Some(basis) if !scopes.is_empty() || wanted.is_empty() => Outcome::Granted(Grant {
            role: Role::Operator,
            missing: if was_said {
                let asked = ask.is_some() || matches!(step, PairingStep::Ask(_));
                missing(wanted, &scopes, asked)
            } else {
                Vec::new()
            },
            scopes,
            basis,
            pairing: ask.map_or(step, PairingStep::Ask),
        }),
        _ => refuse(ask, &lanes),
    }
}

fn deviceless_lane(
    evidence: &Evidence,
    policy: &Policy,
    seen: &Seen<'_>,
    wanted: &ScopeSet,
) -> Option<Lane> {
    let here = evidence.peer == Peer::LoopbackDirect && evidence.browser == Browser::No;
    if !(seen.shared && here) || policy.deviceless_loopback.is_empty() {
        return None;
    }
    Some(Lane {
        scopes: wanted.covered_by(&policy.deviceless_loopback),
        basis: if seen.open {
            Basis::OpenLoopback
        } else {
            Basis::SharedSecretLoopback
        },
    })
}

fn missing(wanted: &ScopeSet, granted: &ScopeSet, asked: bool) -> Vec<(Scope, MissingWhy)> {
    wanted
        .iter()
        .filter(|scope| !granted.contains(scope))
        .map(|scope| {
            let why = if !scope.is_operator() {
                MissingWhy::UnknownScope
            } else if asked {
                MissingWhy::NotApproved
            } else {
                MissingWhy::NotHeld
            };
            (scope.clone(), why)
        })
        .collect()
}

fn refuse(ask: Option<PairingReason>, lanes: &[Lane]) -> Outcome {
    if let Some(reason) = ask {
        return Outcome::NeedsPairing(reason);
    }
    if lanes.is_empty() {
        return Outcome::Denied(Denied::DeviceIdentityRequired);
    }
    Outcome::Denied(Denied::NothingGranted)
}

/// Why one call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The method belongs to the other role.
    Role(Role),
    /// This scope is missing.
    MissingScope(Scope),
}

/// Whether a connection may make a call.
///
/// # Errors
/// [`Refused`] names the role or the scope that is in the way.
pub fn admit(grant: &Grant, access: &Access) -> Result<(), Refused> {
    let scope = match access {
        Access::AnySession => return Ok(()),
        Access::Node if grant.role == Role::Node => return Ok(()),
        Access::Node => return Err(Refused::Role(grant.role)),
        // A second connect is a call that nobody but an administrator may even spell.
        Access::Handshake => &Scope::ADMIN,
        Access::Scope(scope) => scope,
    };
    if grant.role == Role::Node {
        return Err(Refused::Role(grant.role));
    }
    if grant.scopes.covers(scope) {
        return Ok(());
    }
    Err(Refused::MissingScope(scope.clone()))
}

/// Whether a caller may hand `target` on: approve, rotate, mint. The one rule for all of them.
///
/// # Errors
/// The first scope of `target` that the caller's live authority does not cover.
pub fn covers(caller: &Grant, target: &ScopeSet) -> Result<(), Scope> {
    if caller.role == Role::Node {
        return target
            .iter()
            .next()
            .map_or(Ok(()), |scope| Err(scope.clone()));
    }
    target
        .iter()
        .find(|scope| !caller.scopes.covers(scope))
        .map_or(Ok(()), |scope| Err(scope.clone()))
}
