//! The lockout of failed attempts.
//!
//! An attempt is reserved *before* the secret is compared, so that a thousand parallel guesses
//! count as a thousand and not as none. A success gives the reservation back and clears the
//! key; a failure keeps it. Memory is bounded: when the table is full the least recently used
//! key that is not locked makes room, and if all are locked the new key is refused.

use std::{collections::HashMap, net::IpAddr};

use crate::peer;

/// Attempts of programs on this machine that are remembered at most.
const SLOWED_ATTEMPTS_MAX: usize = 64;

/// What is being guessed. Each purpose counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Token or password.
    SharedSecret,
    /// Device tokens.
    DeviceToken,
    /// API tokens.
    ApiToken,
    /// Local proofs.
    LocalProof,
    /// HTTP hooks.
    Hook,
}

/// Who guesses. Nothing that a caller writes chooses its key, except that it may count as a page:
/// an origin is a header like any other outside of a browser, and one page has many readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Somebody elsewhere.
    Elsewhere {
        /// The address, or the network that one machine may have to itself.
        network: IpAddr,
        /// Whether as a page in a browser.
        page: bool,
    },
    /// A program on this machine.
    Program,
    /// A page in a browser on this machine. Never exempt: any page of the world may be open there.
    Page,
}

impl Source {
    /// Who speaks from an address; `here` for a direct caller on this machine.
    pub fn of(address: IpAddr, here: bool, page: bool) -> Self {
        match (here, page) {
            (true, true) => Self::Page,
            (true, false) => Self::Program,
            (false, page) => Self::Elsewhere {
                network: peer::network(address),
                page,
            },
        }
    }
}

/// Limits. `gateway.auth.rateLimit` sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures within the window that lock.
    pub attempts_max: u32,
    /// Length of the window, milliseconds.
    pub window_ms: i64,
    /// How long a lock lasts, milliseconds.
    pub lock_ms: i64,
    /// Whether programs on this machine are slowed instead of locked.
    pub exempt_loopback: bool,
    /// Keys remembered at most.
    pub keys_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts_max: 10,
            window_ms: 60_000,
            lock_ms: 300_000,
            exempt_loopback: true,
            keys_max: 4_096,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// Times of the failures and reservations inside the window, oldest first.
    attempts: Vec<i64>,
    /// How many of them are still being judged.
    open: usize,
    locked_until_ms: Option<i64>,
    used_at_ms: i64,
}

/// A reserved attempt. Hand it back with [`Lockout::succeeded`] or [`Lockout::failed`]; one that is
/// dropped counts against a lock all the same.
#[derive(Debug)]
#[must_use = "an attempt that is not settled counts as failed"]
pub struct Attempt {
    key: (Purpose, Source),
    /// How long to wait before the secret is compared, milliseconds: a guess that fails late and
    /// succeeds at once tells by its haste.
    pub delay_ms: u64,
}

/// The lockout's state.
#[derive(Debug, Default)]
pub struct Lockout {
    limits: Limits,
    entries: HashMap<(Purpose, Source), Entry>,
}

impl Lockout {
    /// Nothing failed yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
        }
    }

    /// Other limits hold from now on; what was counted stays counted.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Reserves an attempt.
    ///
    /// # Errors
    /// Milliseconds until the next attempt is looked at.
    pub fn reserve(
        &mut self,
        purpose: Purpose,
        source: Source,
        now_ms: i64,
    ) -> Result<Attempt, u64> {
        let limits = self.limits;
        let key = (purpose, source);
        if !self.entries.contains_key(&key) && self.entries.len() >= limits.keys_max {
            self.make_room(now_ms)?;
        }
        let slowed = limits.exempt_loopback && key.1 == Source::Program;
        let entry = self.entries.entry(key).or_default();
        entry.used_at_ms = now_ms;
        if let Some(until) = entry.locked_until_ms {
            if now_ms < until && until - now_ms <= limits.lock_ms {
                return Err(u64::try_from(until - now_ms).unwrap_or_default());
            }
            *entry = Entry {
                used_at_ms: now_ms,
                ..Entry::default()
            };
        }
        // A clock that jumped back makes old attempts look future; they are forgotten.
        entry
            .attempts
            .retain(|at| *at <= now_ms && now_ms - at < limits.window_ms);
        if slowed {
            // Many at once with the right secret are no guesses; those that are being judged are
            // failures once they have failed.
            let failed = entry.attempts.len().saturating_sub(entry.open);
            let failures = u32::try_from(failed).unwrap_or(u32::MAX);
            if entry.attempts.len() >= SLOWED_ATTEMPTS_MAX {
                entry.attempts.remove(0);
            }
            entry.attempts.push(now_ms);
            entry.open += 1;
            return Ok(Attempt {
                key,
                delay_ms: loopback_delay_ms(failures),
            });
        }
        if entry.attempts.len() >= limits.attempts_max as usize {
            entry.locked_until_ms = Some(now_ms + limits.lock_ms);
            entry.attempts.clear();
            return Err(u64::try_from(limits.lock_ms).unwrap_or_default());
        }
        entry.attempts.push(now_ms);
        entry.open += 1;
        Ok(Attempt { key, delay_ms: 0 })
    }

    /// The secret was right: the key's slate is clean.
    #[expect(clippy::needless_pass_by_value, reason = "an attempt is settled once")]
    pub fn succeeded(&mut self, attempt: Attempt) {
        self.entries.remove(&attempt.key);
    }

    /// The secret was wrong.
    #[expect(clippy::needless_pass_by_value, reason = "an attempt is settled once")]
    pub fn failed(&mut self, attempt: Attempt) {
        if let Some(entry) = self.entries.get_mut(&attempt.key) {
            entry.open = entry.open.saturating_sub(1);
        }
    }

    /// The attempt was no guess at all (nothing was presented for this purpose after all).
    #[expect(clippy::needless_pass_by_value, reason = "an attempt is settled once")]
    pub fn withdrawn(&mut self, attempt: Attempt) {
        if let Some(entry) = self.entries.get_mut(&attempt.key) {
            entry.attempts.pop();
            entry.open = entry.open.saturating_sub(1);
            if entry.attempts.is_empty() && entry.locked_until_ms.is_none() {
                self.entries.remove(&attempt.key);
            }
        }
    }

    /// Keys remembered now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn make_room(&mut self, now_ms: i64) -> Result<(), u64> {
        let window = self.limits.window_ms;
        self.entries.retain(|_, entry| {
            entry.locked_until_ms.is_some_and(|until| now_ms < until)
                || entry.attempts.iter().any(|at| now_ms - at < window)
        });
        if self.entries.len() < self.limits.keys_max {
            return Ok(());
        }
        let oldest = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.locked_until_ms.is_none())
            .min_by_key(|(_, entry)| entry.used_at_ms)
            .map(|(key, _)| *key);
        match oldest {
            Some(key) => {
                self.entries.remove(&key);
                Ok(())
            }
            None => Err(u64::try_from(window).unwrap_or_default()),
        }
    }
}

/// Programs on this machine are not locked out (a cron job with a stale token must not shut the
/// owner out), but guessing gets slow: the first three failures are free, then 250 ms doubling to 5 s.
fn loopback_delay_ms(failures: u32) -> u64 {
    match failures {
        0..=2 => 0,
        n => (250_u64 << (n - 3).min(5)).min(5_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Source {
        Source::Page
    }

    #[test]
    fn parallel_guesses_count_before_they_are_judged() {
        let mut lockout = Lockout::new(Limits::default());
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(lockout.reserve(Purpose::SharedSecret, origin(), 0).unwrap());
        }
        assert_eq!(
            lockout
                .reserve(Purpose::SharedSecret, origin(), 0)
                .unwrap_err(),
            300_000
        );
    }

    #[test]
    fn a_success_clears_the_key_and_a_lock_ends() {
        let mut lockout = Lockout::new(Limits::default());
        for _ in 0..9 {
            drop(lockout.reserve(Purpose::SharedSecret, origin(), 0).unwrap());
        }
        let good = lockout.reserve(Purpose::SharedSecret, origin(), 1).unwrap();
        lockout.succeeded(good);
        assert!(lockout.is_empty());
        for _ in 0..10 {
            drop(lockout.reserve(Purpose::SharedSecret, origin(), 2).unwrap());
        }
        assert!(lockout.reserve(Purpose::SharedSecret, origin(), 3).is_err());
        assert!(
            lockout.reserve(Purpose::DeviceToken, origin(), 3).is_ok(),
            "purposes count apart"
        );
        assert!(
            lockout
                .reserve(Purpose::SharedSecret, origin(), 300_003)
                .is_ok()
        );
    }

    #[test]
    fn loopback_programs_are_slowed_and_not_locked() {
        let mut lockout = Lockout::new(Limits::default());
        let delays: Vec<u64> = (0..12)
            .map(|n| {
                let attempt = lockout
                    .reserve(Purpose::SharedSecret, Source::Program, n)
                    .unwrap();
                let delay = attempt.delay_ms;
                lockout.failed(attempt);
                delay
            })
            .collect();
        assert_eq!(
            delays,
            [0, 0, 0, 250, 500, 1000, 2000, 4000, 5000, 5000, 5000, 5000]
        );
    }

    #[test]
    fn programs_that_come_all_at_once_wait_for_failures_and_not_for_each_other() {
        let mut lockout = Lockout::new(Limits::default());
        let reserve = |lockout: &mut Lockout| {
            lockout
                .reserve(Purpose::SharedSecret, Source::Program, 0)
                .unwrap()
        };
        let mut open: Vec<Attempt> = (0..100).map(|_| reserve(&mut lockout)).collect();
        assert!(open.iter().all(|attempt| attempt.delay_ms == 0));
        for attempt in open.drain(..) {
            lockout.failed(attempt);
        }
        assert_eq!(reserve(&mut lockout).delay_ms, 5_000);
    }

    #[test]
    fn memory_is_bounded_and_locks_survive_a_flood() {
        let limits = Limits {
            keys_max: 8,
            ..Limits::default()
        };
        let mut lockout = Lockout::new(limits);
        for _ in 0..11 {
            let _ = lockout.reserve(Purpose::SharedSecret, origin(), 0);
        }
        for n in 0..1_000 {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap());
            let source = Source::of(address.into(), false, false);
            let _ = lockout.reserve(Purpose::SharedSecret, source, n);
        }
        assert!(lockout.len() <= 8);
        assert!(
            lockout
                .reserve(Purpose::SharedSecret, origin(), 1_000)
                .is_err()
        );
    }

    #[test]
    fn a_clock_that_jumps_back_locks_nobody_for_ever() {
        let mut lockout = Lockout::new(Limits::default());
        for _ in 0..11 {
            let _ = lockout.reserve(Purpose::SharedSecret, origin(), 1_000_000_000);
        }
        assert!(lockout.reserve(Purpose::SharedSecret, origin(), 0).is_ok());
    }

    #[test]
    fn a_network_is_one_guesser_and_a_page_there_another() {
        let of = |text: &str, page| Source::of(text.parse().unwrap(), false, page);
        assert_eq!(of("2001:db8::1", false), of("2001:db8::2:3", false));
        assert_eq!(of("::ffff:192.0.2.1", false), of("192.0.2.1", false));
        assert_ne!(of("192.0.2.1", false), of("192.0.2.2", false));
        assert_ne!(of("192.0.2.1", false), of("192.0.2.1", true));
        assert_ne!(of("127.0.0.1", false), Source::Program, "through a proxy");
    }
}
