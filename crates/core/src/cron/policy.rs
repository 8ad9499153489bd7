//! What to do when a run failed, a slot was passed, or two slots of one job meet. All choices are data and arithmetic.

/// A slot that is noticed at most this late counts as on time: the owner of the planner asks at least once a minute.
pub const ON_TIME_MS: i64 = 60_000;

/// Pause after the 1st, 2nd, ... failure in a row of a recurring job; the last one repeats (`cron.md` 2.4).
pub const RECURRING_BACKOFF_MS: [i64; 5] = [30_000, 60_000, 300_000, 900_000, 3_600_000];

/// Pause before the 1st, 2nd and 3rd retry of a one-shot (`cron.md` 2.4).
pub const ONE_SHOT_BACKOFF_MS: [i64; 3] = [30_000, 60_000, 300_000];

/// Failures in a row after which a recurring job is disabled (`cron.md` 2.4, OpenClaw 2026.9.6).
pub const DISABLE_AFTER: u32 = 10;

/// Upper bound of [`CatchUpMode::All`]; larger wishes are read as this.
pub const CATCH_UP_RUNS_MAX: u32 = 1_000;

/// Why a run failed, as decided where the failure happened. Nothing here reads error texts, as OpenClaw does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// Too many requests, or a quota that refills by itself.
    RateLimited,
    /// The provider is out of capacity.
    Overloaded,
    /// The connection failed.
    Network,
    /// The run, or a step of it, exceeded its time.
    Timeout,
    /// The provider failed (HTTP 5xx).
    ServerError,
    /// Credentials are missing or refused.
    Auth,
    /// The account cannot pay.
    Billing,
    /// The request itself is wrong; it will be wrong again.
    Invalid,
    /// The named model, tool, agent or route does not exist.
    NotAvailable,
    /// A policy or an approval refused it.
    Denied,
    /// The command or script ended with a failure of its own.
    CommandFailed,
    /// None of the above.
    Unknown,
}

impl ErrorClass {
    /// Whether trying again later can help.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::Network
            | Self::Timeout
            | Self::ServerError => true,
            Self::Auth
            | Self::Billing
            | Self::Invalid
            | Self::NotAvailable
            | Self::Denied
            | Self::CommandFailed
            | Self::Unknown => false,
        }
    }

    /// The stable word for stores and the wire (`lastErrorReason`, `cron.md` 2.7, where it has one).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::ServerError => "server_error",
            Self::Auth => "auth",
            Self::Billing => "billing",
            Self::Invalid => "format",
            Self::NotAvailable => "model_not_found",
            Self::Denied => "denied",
            Self::CommandFailed => "command_failed",
            Self::Unknown => "unknown",
        }
    }

    /// Reads [`as_str`](Self::as_str) back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    const ALL: [Self; 12] = [
        Self::RateLimited,
        Self::Overloaded,
        Self::Network,
        Self::Timeout,
        Self::ServerError,
        Self::Auth,
        Self::Billing,
        Self::Invalid,
        Self::NotAvailable,
        Self::Denied,
        Self::CommandFailed,
        Self::Unknown,
    ];
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work.
    Ok,
    /// It decided to do nothing (nothing to deliver, a condition not met).
    Skipped,
    /// It failed.
    Failed(ErrorClass),
    /// A person or an edit stopped it.
    Cancelled,
    /// The process that ran it is gone.
    Interrupted,
}

/// Which passed slots still run once somebody notices them (the machine slept, the gateway was down, the clock jumped).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// How many.
    pub mode: CatchUpMode,
    /// Slots older than this are never run. `None` = no limit.
    pub max_age_ms: Option<i64>,
}

/// The number of passed slots that still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUpMode {
    /// None: a slot more than [`ON_TIME_MS`] late is missed.
    None,
    /// The newest one.
    Latest,
    /// The newest `max`, one after another, at most [`CATCH_UP_RUNS_MAX`].
    All {
        /// How many; 0 is read as 1.
        max: u32,
    },
}

impl Default for CatchUp {
    fn default() -> Self {
        Self {
            mode: CatchUpMode::Latest,
            max_age_ms: None,
        }
    }
}

impl CatchUp {
    /// How many slots of one job may wait to run, at least 1.
    #[must_use]
    pub fn runs_max(&self) -> usize {
        match self.mode {
            CatchUpMode::None | CatchUpMode::Latest => 1,
            CatchUpMode::All { max } => max.clamp(1, CATCH_UP_RUNS_MAX) as usize,
        }
    }

    /// Whether a slot that is noticed at `now_ms` may run: `Ok(true)` = on time, `Ok(false)` = late but allowed.
    ///
    /// # Errors
    /// The reason why it is missed.
    pub fn admit(&self, slot_ms: i64, now_ms: i64) -> Result<bool, Reason> {
        let late_ms = now_ms.saturating_sub(slot_ms);
        if late_ms <= ON_TIME_MS {
            Ok(true)
        } else if self.mode == CatchUpMode::None {
            Err(Reason::CatchUpOff)
        } else if self.max_age_ms.is_some_and(|max| late_ms > max) {
            Err(Reason::TooOld)
        } else {
            Ok(false)
        }
    }

    /// Why a passed slot does not run although newer ones may.
    #[must_use]
    pub fn missed_reason(&self, slot_ms: i64, now_ms: i64) -> Reason {
        self.admit(slot_ms, now_ms)
            .err()
            .unwrap_or(Reason::Superseded)
    }
}

/// What happens to a slot that becomes due while a run of the same job is going on.
///
/// While a *manual* run is going on a due slot always waits: manual runs never use up an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is recorded as skipped.
    #[default]
    Skip,
    /// It waits for the run to end. Only the newest waits (or as many as the catch-up policy allows).
    QueueOne,
}

/// How a slot ended that did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Decided against, with the job alive and well.
    Skipped,
    /// Its time passed unnoticed.
    Missed,
}

/// Why a slot did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Passed, and the job wants no late runs.
    CatchUpOff,
    /// Passed, and older than the job's maximum age.
    TooOld,
    /// Passed or waiting, and a newer slot of the same job took its place.
    Superseded,
    /// An earlier run of the job was still going on.
    Overlap,
    /// Due during the pause after a failure.
    Backoff,
    /// Waiting when the job was disabled.
    Disabled,
    /// Waiting when the job was removed.
    Removed,
    /// Waiting when the job got another schedule.
    Rescheduled,
    /// Waiting when a person cancelled it.
    Cancelled,
}

impl Reason {
    /// Whether a slot with this reason counts as skipped or as missed.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::CatchUpOff | Self::TooOld | Self::Superseded => Verdict::Missed,
            Self::Overlap
            | Self::Backoff
            | Self::Disabled
            | Self::Removed
            | Self::Rescheduled
            | Self::Cancelled => Verdict::Skipped,
        }
    }

    /// The stable word for stores and the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CatchUpOff => "catch-up-off",
            Self::TooOld => "too-old",
            Self::Superseded => "superseded",
            Self::Overlap => "overlap",
            Self::Backoff => "backoff",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
            Self::Rescheduled => "rescheduled",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The pauses between attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// After the n-th failure in a row of a recurring job; the last entry repeats. Empty = no pause.
    pub recurring_ms: Vec<i64>,
    /// Before the n-th retry of a one-shot; the last entry repeats. Empty = at once.
    pub one_shot_ms: Vec<i64>,
    /// How many retries a one-shot gets.
    pub one_shot_retries_max: u32,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            recurring_ms: RECURRING_BACKOFF_MS.to_vec(),
            one_shot_ms: ONE_SHOT_BACKOFF_MS.to_vec(),
            one_shot_retries_max: 3,
        }
    }
}

impl Ladder {
    /// The pause of a recurring job after `consecutive_errors` failures in a row (1 = the first).
    #[must_use]
    pub fn recurring_pause_ms(&self, consecutive_errors: u32) -> i64 {
        rung(&self.recurring_ms, consecutive_errors.saturating_sub(1))
    }

    /// The pause before a one-shot is tried again, or `None` when it is not. `retries` = how many retries it had.
    /// Interrupted and skipped runs are tried again too: a reminder must not vanish with a restart.
    #[must_use]
    pub fn one_shot_pause_ms(&self, outcome: Outcome, retries: u32) -> Option<i64> {
        let is_retried = match outcome {
            Outcome::Failed(class) => class.is_transient(),
            Outcome::Interrupted | Outcome::Skipped => true,
            Outcome::Ok | Outcome::Cancelled => false,
        };
        (is_retried && retries < self.one_shot_retries_max)
            .then(|| rung(&self.one_shot_ms, retries))
    }
}

fn rung(ladder: &[i64], step: u32) -> i64 {
    ladder
        .get(step as usize)
        .or(ladder.last())
        .copied()
        .unwrap_or(0)
        .max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recurring_pauses_climb_and_stay() {
        let ladder = Ladder::default();
        let pauses: Vec<i64> = (1..=7)
            .map(|errors| ladder.recurring_pause_ms(errors))
            .collect();
        assert_eq!(
            pauses,
            [
                30_000, 60_000, 300_000, 900_000, 3_600_000, 3_600_000, 3_600_000
            ]
        );
    }

    #[test]
    fn one_shots_retry_transient_failures_three_times() {
        let ladder = Ladder::default();
        for class in ErrorClass::ALL {
            let first = ladder.one_shot_pause_ms(Outcome::Failed(class), 0);
            assert_eq!(first, class.is_transient().then_some(30_000), "{class:?}");
        }
        let timeout = Outcome::Failed(ErrorClass::Timeout);
        assert_eq!(ladder.one_shot_pause_ms(timeout, 1), Some(60_000));
        assert_eq!(ladder.one_shot_pause_ms(timeout, 2), Some(300_000));
        assert_eq!(ladder.one_shot_pause_ms(timeout, 3), None);
        assert_eq!(
            ladder.one_shot_pause_ms(Outcome::Interrupted, 0),
            Some(30_000)
        );
        assert_eq!(ladder.one_shot_pause_ms(Outcome::Cancelled, 0), None);
    }

    #[test]
    fn error_words_read_back() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::parse(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::parse("weather"), None);
    }

    #[test]
    fn late_slots_follow_the_catch_up_policy() {
        let now = 10_000_000;
        let none = CatchUp {
            mode: CatchUpMode::None,
            max_age_ms: None,
        };
        let aged = CatchUp {
            mode: CatchUpMode::Latest,
            max_age_ms: Some(120_000),
        };
        assert_eq!(none.admit(now - 60_000, now), Ok(true));
        assert_eq!(none.admit(now - 60_001, now), Err(Reason::CatchUpOff));
        assert_eq!(aged.admit(now - 120_000, now), Ok(false));
        assert_eq!(aged.admit(now - 120_001, now), Err(Reason::TooOld));
        assert_eq!(CatchUp::default().admit(0, now), Ok(false));
        assert_eq!(aged.missed_reason(now - 100_000, now), Reason::Superseded);
    }
}
