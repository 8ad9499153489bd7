//! Delivery: who is to be told of a run's end, when an attempt is repeated, and which addresses
//! may be dialled. Choices and arithmetic; nothing is sent from here.
//!
//! A run and the delivery of its result are two facts: a result that reached nobody does not make
//! the run a failure, and a failed run is delivered like a good one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cron::Outcome;

/// What something is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The result of a run, to the job's own target.
    Result,
    /// The failure of a run, to the target for failures.
    Failure,
    /// A number of failures in a row.
    Alert,
    /// The end of failures that were told.
    Recovery,
}

impl Purpose {
    /// The stable word for stores and receivers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Failure => "failure",
            Self::Alert => "alert",
            Self::Recovery => "recovery",
        }
    }

    /// Reads [`as_str`](Self::as_str) back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Result, Self::Failure, Self::Alert, Self::Recovery]
            .into_iter()
            .find(|purpose| purpose.as_str() == word)
    }
}

/// When failures in a row are told (`cron.md` 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertPolicy {
    /// After how many failures in a row.
    pub after: u32,
    /// Not again for so long.
    pub cooldown_ms: i64,
}

impl Default for AlertPolicy {
    fn default() -> Self {
        Self {
            after: 2,
            cooldown_ms: 3_600_000,
        }
    }
}

/// What is known about a job's failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertState {
    /// When they were told last.
    pub alerted_at_ms: Option<i64>,
    /// Whether they were told and are not over.
    pub open: bool,
}

/// What to say after a run, and the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// [`Purpose::Alert`] or [`Purpose::Recovery`], or nothing.
    pub say: Option<Purpose>,
    /// To be remembered, in the transaction that queues what is said.
    pub state: AlertState,
}

/// Decides whether failures, or their end, are told. `policy` is `None` when nobody wants to know;
/// an incident that was told is closed by the next good run all the same, without a word.
#[must_use]
pub fn alert(
    policy: Option<AlertPolicy>,
    state: AlertState,
    outcome: Outcome,
    consecutive_errors: u32,
    now_ms: i64,
) -> Alert {
    let quiet = |state| Alert { say: None, state };
    match outcome {
        Outcome::Ok if state.open => Alert {
            say: policy.map(|_| Purpose::Recovery),
            state: AlertState {
                open: false,
                ..state
            },
        },
        Outcome::Failed(_) => {
            let Some(policy) = policy else {
                return quiet(state);
            };
            // A clock that went back does not silence an alert for longer than its pause.
            let rests = state
                .alerted_at_ms
                .is_some_and(|at| (0..policy.cooldown_ms).contains(&now_ms.saturating_sub(at)));
            if consecutive_errors < policy.after.max(1) || rests {
                return quiet(state);
            }
            Alert {
                say: Some(Purpose::Alert),
                state: AlertState {
                    alerted_at_ms: Some(now_ms),
                    open: true,
                },
            }
        }
        Outcome::Ok | Outcome::Skipped | Outcome::Cancelled | Outcome::Interrupted => quiet(state),
    }
}

/// Pauses between attempts; with the last one a delivery is given up after about a day.
pub const ATTEMPT_PAUSES_MS: [i64; 9] = [
    5_000, 15_000, 60_000, 300_000, 900_000, 3_600_000, 10_800_000, 21_600_000, 43_200_000,
];
/// The longest pause that a receiver can ask for.
pub const RETRY_AFTER_MAX_MS: i64 = 3_600_000;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The target answered with this HTTP status, and perhaps with a pause that it wants.
    Answered {
        /// The status.
        status: u16,
        /// `Retry-After`, milliseconds.
        retry_after_ms: Option<i64>,
    },
    /// No answer: not resolved, not connected, cut off, too slow.
    Unreachable,
    /// The address may not be dialled, or the target cannot be understood.
    Forbidden,
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// Once more, so long from now.
    Again {
        /// Milliseconds.
        pause_ms: i64,
    },
    /// No.
    GiveUp,
}

/// Decides what follows from an attempt; `attempts` are those before it.
#[must_use]
pub fn next(attempt: Attempt, attempts: u32) -> Next {
    let wanted = match attempt {
        Attempt::Answered {
            status: 200..=299, ..
        } => return Next::Delivered,
        Attempt::Answered {
            status: 408 | 425 | 429 | 500..=599,
            retry_after_ms,
        } => retry_after_ms.unwrap_or(0).clamp(0, RETRY_AFTER_MAX_MS),
        Attempt::Unreachable => 0,
        // A redirect is not followed: the next address was not what the operator named.
        Attempt::Answered { .. } | Attempt::Forbidden => return Next::GiveUp,
    };
    match ATTEMPT_PAUSES_MS.get(usize::try_from(attempts).unwrap_or(usize::MAX)) {
        Some(pause_ms) => Next::Again {
            pause_ms: wanted.max(*pause_ms),
        },
        None => Next::GiveUp,
    }
}

/// Which targets may be dialled beyond the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialPolicy {
    /// Names and addresses that may be anywhere, as the operator wrote them, lower case.
    pub allowed_hosts: Vec<String>,
    /// Whether loopback and private addresses may be dialled under any name.
    pub private_networks: bool,
}

impl DialPolicy {
    /// Whether an address that `host` stands for may be dialled. Asked for the very address that
    /// is dialled, after resolving: a name says nothing about where it leads.
    #[must_use]
    pub fn may_dial(&self, host: &str, address: IpAddr) -> bool {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.');
        is_public(address)
            || (self.private_networks && !is_never(address))
            || self
                .allowed_hosts
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}

/// Whether an address belongs to the public internet, the way a packet would take it: an address
/// of version 4 inside one of version 6 counts as itself.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| is_public_v6(v6), is_public_v4),
    }
}

/// Nobody's address: not even a private network is behind it.
fn is_never(address: IpAddr) -> bool {
    let address = match address {
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    address.is_unspecified() || address.is_multicast()
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = match (a, b, c) {
        // this network, loopback, multicast and above
        (0 | 127 | 224.., _, _)
        // private
        | (10, _, _)
        | (172, 16..=31, _)
        | (192, 168, _)
        // carrier NAT, link local (metadata services live there)
        | (100, 64..=127, _)
        | (169, 254, _)
        // protocol assignments, documentation, 6to4 relays, benchmarks
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [first, second, ..] = v6.segments();
    // Global unicast is 2000::/3; of that, documentation, ORCHID, benchmarks and Teredo are not.
    first & 0xe000 == 0x2000
        && !(first == 0x2001 && matches!(second, 0x0000 | 0x0002 | 0x0010..=0x002f | 0x0db8))
        && !(first == 0x3fff && second < 0x1000)
}

/// The address of version 4 that one of version 6 stands for: mapped, compatible, NAT64, 6to4.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 1, .., high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::ErrorClass;

    const FAILED: Outcome = Outcome::Failed(ErrorClass::Timeout);

    #[test]
    fn failures_are_told_once_per_incident_and_pause() {
        let policy = Some(AlertPolicy {
            after: 2,
            cooldown_ms: 1_000,
        });
        let first = alert(policy, AlertState::default(), FAILED, 1, 0);
        assert_eq!(first.say, None);
        let second = alert(policy, first.state, FAILED, 2, 10);
        assert_eq!(second.say, Some(Purpose::Alert));
        let third = alert(policy, second.state, FAILED, 3, 500);
        assert_eq!(third.say, None, "it rests");
        let fourth = alert(policy, third.state, FAILED, 4, 1_010);
        assert_eq!(fourth.say, Some(Purpose::Alert));
        let over = alert(policy, fourth.state, Outcome::Ok, 0, 1_020);
        assert_eq!(over.say, Some(Purpose::Recovery));
        let again = alert(policy, over.state, Outcome::Ok, 0, 1_030);
        assert_eq!(again.say, None, "a recovery is told once");
    }

    #[test]
    fn what_nobody_wants_to_know_is_not_told() {
        let told = AlertState {
            alerted_at_ms: Some(0),
            open: true,
        };
        assert_eq!(alert(None, told, FAILED, 9, 5).say, None);
        let over = alert(None, told, Outcome::Ok, 0, 5);
        assert_eq!((over.say, over.state.open), (None, false));
        for outcome in [Outcome::Skipped, Outcome::Cancelled, Outcome::Interrupted] {
            let quiet = alert(Some(AlertPolicy::default()), told, outcome, 9, 5);
            assert_eq!((quiet.say, quiet.state), (None, told));
        }
    }

    #[test]
    fn a_clock_that_went_back_does_not_silence_alerts() {
        let policy = Some(AlertPolicy::default());
        let future = AlertState {
            alerted_at_ms: Some(1_000_000),
            open: true,
        };
        assert_eq!(
            alert(policy, future, FAILED, 2, 0).say,
            Some(Purpose::Alert)
        );
    }

    #[test]
    fn only_what_can_help_is_repeated() {
        let answered = |status| Attempt::Answered {
            status,
            retry_after_ms: None,
        };
        assert_eq!(next(answered(200), 0), Next::Delivered);
        assert_eq!(next(answered(204), 8), Next::Delivered);
        for status in [301, 302, 307, 400, 401, 404, 410] {
            assert_eq!(next(answered(status), 0), Next::GiveUp, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert_eq!(next(answered(status), 0), Next::Again { pause_ms: 5_000 });
        }
        assert_eq!(next(Attempt::Forbidden, 0), Next::GiveUp);
        assert_eq!(
            next(Attempt::Unreachable, 8),
            Next::Again {
                pause_ms: 43_200_000
            }
        );
        assert_eq!(next(Attempt::Unreachable, 9), Next::GiveUp);
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause_within_bounds() {
        let slow = |ms| Attempt::Answered {
            status: 429,
            retry_after_ms: Some(ms),
        };
        assert_eq!(next(slow(20_000), 0), Next::Again { pause_ms: 20_000 });
        assert_eq!(next(slow(1), 0), Next::Again { pause_ms: 5_000 });
        assert_eq!(
            next(slow(i64::MAX), 0),
            Next::Again {
                pause_ms: RETRY_AFTER_MAX_MS
            }
        );
    }

    #[test]
    fn only_public_addresses_are_dialled() {
        let policy = DialPolicy::default();
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "172.32.0.1"] {
            assert!(policy.may_dial("x", public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "64:ff9b:1::a00:1",
            "3fff::1",
        ] {
            assert!(!policy.may_dial("x", special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn the_operator_may_allow_a_name_or_private_networks() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let named = DialPolicy {
            allowed_hosts: vec!["hooks.lan".to_owned(), "127.0.0.1".to_owned()],
            private_networks: false,
        };
        assert!(named.may_dial("Hooks.LAN.", local));
        assert!(named.may_dial("127.0.0.1", local));
        assert!(!named.may_dial("hooks.lan.evil.example", local));
        let open = DialPolicy {
            allowed_hosts: Vec::new(),
            private_networks: true,
        };
        assert!(open.may_dial("anything", local));
        assert!(!open.may_dial("anything", "0.0.0.0".parse().unwrap()));
        assert!(!open.may_dial("anything", "224.0.0.1".parse().unwrap()));
    }
}
