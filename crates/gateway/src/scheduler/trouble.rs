//! A store that refuses cron's writes: said when it begins, now and then while it lasts, and when it is
//! over; and nothing that is due is tried without a pause.

use std::time::{Duration, Instant};

use clawgate_store::StoreError;

/// How often at most it is said while it lasts.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Pause between attempts, of which nobody asked for one.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What went wrong since the last write that went well.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<Failures>);

#[derive(Debug)]
struct Failures {
    /// Writes, and readings anew.
    times: u64,
    last: Instant,
    said: Instant,
}

impl Trouble {
    /// Something failed.
    pub(super) fn note(&mut self, error: &StoreError, now: Instant) {
        match &mut self.0 {
            None => {
                tracing::error!(%error, "cron could not write; reading its state anew");
                self.0 = Some(Failures {
                    times: 1,
                    last: now,
                    said: now,
                });
            }
            Some(failures) => {
                failures.times += 1;
                failures.last = now;
                if now.duration_since(failures.said) >= SAID_EVERY {
                    failures.said = now;
                    let times = failures.times;
                    tracing::error!(times, %error, "cron still cannot write");
                }
            }
        }
    }

    /// Something was written.
    pub(super) fn is_over(&mut self) {
        if let Some(Failures { times, .. }) = self.0.take() {
            tracing::info!(times, "cron writes again");
        }
    }

    /// How long what is due has to wait until it is tried again.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |failures| {
            PAUSE.saturating_sub(now.duration_since(failures.last))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_waits_after_a_failure_and_not_after_a_success() {
        let error = StoreError::Closed;
        let start = Instant::now();
        let mut trouble = Trouble::default();
        assert_eq!(trouble.pause(start), Duration::ZERO);
        trouble.note(&error, start);
        assert_eq!(trouble.pause(start), PAUSE);
        assert_eq!(trouble.pause(start + PAUSE / 4), PAUSE * 3 / 4);
        assert_eq!(trouble.pause(start + 2 * PAUSE), Duration::ZERO);
        trouble.note(&error, start + 2 * PAUSE);
        assert_eq!(trouble.pause(start + 2 * PAUSE), PAUSE);
        trouble.is_over();
        assert_eq!(trouble.pause(start + 2 * PAUSE), Duration::ZERO);
    }

    #[test]
    fn a_failure_that_lasts_is_said_once_a_minute_with_its_number() {
        let error = StoreError::Closed;
        let start = Instant::now();
        let mut trouble = Trouble::default();
        let mut said = Vec::new();
        for second in 0..=150 {
            let now = start + Duration::from_secs(second);
            trouble.note(&error, now);
            let failures = trouble.0.as_ref().unwrap();
            if failures.said == now {
                said.push((second, failures.times));
            }
        }
        assert_eq!(said, [(0, 1), (60, 61), (120, 121)]);
    }
}
