//! A turn: what an agent does between a message and its answer, as a pure machine.
//!
//! One turn asks a model, runs the tools that it calls, asks again, and ends with an answer or a
//! typed failure. [`Turn`] decides what comes next; whoever drives it does it and says how it went.
//! Every path ends: rounds, requests and repeats are bounded, and one budget of repeats covers the
//! whole turn, so that a provider that fails is not asked a dozen times for one run.

use crate::cron::ErrorClass;

/// Why a request to a model failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// For people; holds no secret.
    pub message: String,
    /// How long the provider asked to wait, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Whether a part of the answer was passed on already. Such a request is not repeated: a
    /// reader would see the beginning twice.
    pub partial: bool,
}

/// Kinds of failures of a request to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The credentials are missing or refused (401, 403).
    Auth,
    /// The account cannot pay (402).
    Billing,
    /// Too many requests (429).
    RateLimited,
    /// The provider is out of capacity (503, 529).
    Overloaded,
    /// The provider failed (other 5xx).
    Server,
    /// The request is wrong (other 4xx).
    Invalid,
    /// There is no such model (404).
    NoModel,
    /// The conversation is longer than the model takes.
    TooLong,
    /// The connection failed.
    Network,
    /// The connection, the first byte or the next one took too long.
    Timeout,
    /// The answer ended in the middle.
    Cut,
    /// The answer is not what the protocol allows.
    Malformed,
    /// The answer is longer than is taken.
    TooLarge,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Auth,
        Self::Billing,
        Self::RateLimited,
        Self::Overloaded,
        Self::Server,
        Self::Invalid,
        Self::NoModel,
        Self::TooLong,
        Self::Network,
        Self::Timeout,
        Self::Cut,
        Self::Malformed,
        Self::TooLarge,
    ];

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::Server
            | Self::Network
            | Self::Timeout
            | Self::Cut => true,
            Self::Auth
            | Self::Billing
            | Self::Invalid
            | Self::NoModel
            | Self::TooLong
            | Self::Malformed
            | Self::TooLarge => false,
        }
    }

    /// Whether another model may do what this one does not.
    #[must_use]
    pub const fn may_fall_back(self) -> bool {
        !matches!(self, Self::TooLong | Self::TooLarge)
    }

    /// The class that cron decides about retries by.
    #[must_use]
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::Auth => ErrorClass::Auth,
            Self::Billing => ErrorClass::Billing,
            Self::RateLimited => ErrorClass::RateLimited,
            Self::Overloaded => ErrorClass::Overloaded,
            Self::Server | Self::Cut | Self::Malformed => ErrorClass::ServerError,
            Self::Invalid | Self::TooLong | Self::TooLarge => ErrorClass::Invalid,
            Self::NoModel => ErrorClass::NotAvailable,
            Self::Network => ErrorClass::Network,
            Self::Timeout => ErrorClass::Timeout,
        }
    }

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Billing => "billing",
            Self::RateLimited => "rate-limited",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Invalid => "invalid",
            Self::NoModel => "no-model",
            Self::TooLong => "too-long",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
            Self::TooLarge => "too-large",
        }
    }
}

/// The bounds of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnLimits {
    /// Times that tools are run and the model is asked again.
    pub rounds: u32,
    /// Requests repeated after transient failures, over the whole turn and all models.
    pub repeats: u32,
    /// Pause before the first repeat, milliseconds; it doubles.
    pub pause_ms: u64,
    /// The longest pause, also when a provider asks for more: it is then not waited for.
    pub pause_max_ms: u64,
    /// Times that the conversation is shortened to fit.
    pub shortenings: u32,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            rounds: 50,
            repeats: 3,
            pause_ms: 1_000,
            pause_max_ms: 60_000,
            shortenings: 1,
        }
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the model at this place of the list, after a pause.
    Ask {
        /// 0 is the model that was asked for, the others are its fallbacks.
        model: usize,
        /// Milliseconds.
        after_ms: u64,
    },
    /// Run the tools that the answer calls.
    RunTools,
    /// Shorten the conversation, then say so.
    Shorten,
    /// It is over.
    End(End),
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The model answered.
    Answered,
    /// No model answered; the last failure is the reason.
    Failed(Failure),
    /// It called tools in every round that it may.
    TooManyRounds,
    /// Somebody stopped it.
    Cancelled,
    /// What happened could not be written down, so nothing more may happen.
    NotKept(String),
}

/// One failure on the way, for the record of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which model.
    pub model: usize,
    /// What happened.
    pub kind: FailureKind,
}

/// What a turn waits to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Answer,
    Tools,
    Shortened,
    Nothing,
}

/// A turn in progress.
#[derive(Clone, Debug)]
pub struct Turn {
    limits: TurnLimits,
    models: usize,
    model: usize,
    rounds: u32,
    repeats: u32,
    shortenings: u32,
    waiting: Waiting,
    attempts: Vec<Attempt>,
}

impl Turn {
    /// A turn over so many models, the wanted one and its fallbacks. None counts as one.
    #[must_use]
    pub fn new(limits: TurnLimits, models: usize) -> Self {
        Self {
            limits,
            models: models.max(1),
            model: 0,
            rounds: 0,
            repeats: 0,
            shortenings: 0,
            waiting: Waiting::Nothing,
            attempts: Vec::new(),
        }
    }

    /// What failed on the way.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The first thing to do.
    pub fn begin(&mut self) -> Next {
        self.ask(0)
    }

    /// The model answered, and calls tools or does not.
    pub fn answered(&mut self, calls_tools: bool) -> Next {
        if self.waiting != Waiting::Answer {
            return self.end(End::Cancelled);
        }
        if !calls_tools {
            return self.end(End::Answered);
        }
        if self.rounds >= self.limits.rounds {
            return self.end(End::TooManyRounds);
        }
        self.rounds += 1;
        self.waiting = Waiting::Tools;
        Next::RunTools
    }

    /// The tools have run, well or not: the model is told either way.
    pub fn tools_ran(&mut self) -> Next {
        if self.waiting != Waiting::Tools {
            return self.end(End::Cancelled);
        }
        self.ask(0)
    }

    /// The conversation is shorter now, or could not be made so.
    pub fn shortened(&mut self, is_shorter: bool) -> Next {
        if self.waiting != Waiting::Shortened {
            return self.end(End::Cancelled);
        }
        if is_shorter {
            return self.ask(0);
        }
        self.end(End::Failed(Failure {
            kind: FailureKind::TooLong,
            message: "the conversation is longer than the model takes and cannot be shortened"
                .to_owned(),
            retry_after_ms: None,
            partial: false,
        }))
    }

    /// The request failed.
    pub fn failed(&mut self, failure: Failure) -> Next {
        if self.waiting != Waiting::Answer {
            return self.end(End::Cancelled);
        }
        self.attempts.push(Attempt {
            model: self.model,
            kind: failure.kind,
        });
        if failure.partial {
            return self.end(End::Failed(failure));
        }
        if failure.kind == FailureKind::TooLong && self.shortenings < self.limits.shortenings {
            self.shortenings += 1;
            self.waiting = Waiting::Shortened;
            return Next::Shorten;
        }
        if failure.kind.is_transient() && self.repeats < self.limits.repeats {
            let pause = self
                .limits
                .pause_ms
                .saturating_mul(1 << self.repeats.min(32))
                .min(self.limits.pause_max_ms);
            // A provider that wants more patience than there is counts as one that is not there.
            if failure
                .retry_after_ms
                .is_none_or(|wait| wait <= self.limits.pause_max_ms)
            {
                self.repeats += 1;
                return self.ask(failure.retry_after_ms.unwrap_or(0).max(pause));
            }
        }
        if failure.kind.may_fall_back() && self.model + 1 < self.models {
            self.model += 1;
            return self.ask(0);
        }
        self.end(End::Failed(failure))
    }

    /// Somebody stops it. What is under way is to be dropped.
    pub fn cancelled(&mut self) -> Next {
        self.end(End::Cancelled)
    }

    /// A message could not be written down.
    pub fn not_kept(&mut self, why: String) -> Next {
        self.end(End::NotKept(why))
    }

    fn ask(&mut self, after_ms: u64) -> Next {
        self.waiting = Waiting::Answer;
        Next::Ask {
            model: self.model,
            after_ms,
        }
    }

    fn end(&mut self, end: End) -> Next {
        self.waiting = Waiting::Nothing;
        Next::End(end)
    }
}
