//! One run of a job: what its payload does, and what is said at its end.

use std::{sync::Arc, time::Duration};

use clawgate_core::cron::{ErrorClass, Outcome};
use clawgate_protocol::cron::{Job, Payload};
use clawgate_store::Ending;
use serde_json::Number;
use tokio_util::sync::CancellationToken;

use super::{
    command::{self, End, Program},
    turn,
};
use crate::Gateway;

/// Characters of a summary or an error that are kept.
const TEXT_MAX: usize = 2_000;
/// How long a run may take to end after it was told to.
const STOP_MAX: Duration = Duration::from_secs(4);

/// How a run ended.
#[derive(Clone, Debug)]
pub(super) struct RunEnd {
    pub(super) outcome: Outcome,
    pub(super) ending: Ending,
    /// What its settlement puts into a session's queue, in the same transaction: so it is there
    /// exactly when the run is recorded as ok.
    pub(super) queued: Option<Queued>,
}

/// A text for a session.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) session_key: String,
    pub(super) text: String,
    /// The run; the same origin is queued once.
    pub(super) origin: String,
}

/// What a run is told besides its job.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) run_id: String,
    pub(super) slot_ms: Option<i64>,
    pub(super) main_session_key: Arc<str>,
    pub(super) stop: CancellationToken,
    pub(super) turns: Option<Arc<Gateway>>,
}

impl RunEnd {
    pub(super) fn ok(summary: &str) -> Self {
        Self {
            outcome: Outcome::Ok,
            ending: Ending {
                summary: Some(cut(summary)).filter(|text| !text.is_empty()),
                ..Ending::default()
            },
            queued: None,
        }
    }

    /// It failed.
    pub(super) fn failed(class: ErrorClass, error: &str) -> Self {
        Self {
            outcome: Outcome::Failed(class),
            ending: Ending {
                error: Some(cut(error)),
                ..Ending::default()
            },
            queued: None,
        }
    }

    /// Somebody stopped it.
    pub(super) fn stopped(reason: Stopped) -> Self {
        Self {
            outcome: match reason {
                Stopped::Shutdown => Outcome::Interrupted,
                Stopped::Cancelled | Stopped::Disabled | Stopped::Removed => Outcome::Cancelled,
            },
            ending: Ending {
                reason: Some(reason.as_str().to_owned()),
                error: Some(reason.sentence().to_owned()),
                ..Ending::default()
            },
            queued: None,
        }
    }
}

/// Why a run was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    Cancelled,
    Disabled,
    Removed,
    Shutdown,
}

impl Stopped {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Cancelled => "cron: run cancelled",
            Self::Disabled => "cron: run stopped because its job was disabled",
            Self::Removed => "cron: run stopped because its job was removed",
            Self::Shutdown => "cron: run interrupted because the gateway stopped",
        }
    }
}

/// Reads a definition as it was at the claim.
pub(super) fn parse(definition: &str) -> Result<Job, String> {
    serde_json::from_str(definition).map_err(|error| error.to_string())
}

/// Does what the job says. Told to stop, it ends within five seconds, with everything it started.
pub(super) async fn run(job: Result<Job, String>, task: Task) -> RunEnd {
    let stop = task.stop.clone();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_MAX).await;
    };
    tokio::select! {
        end = work(job, task) => end,
        // Dropped, the work ends what it started.
        () = overdue => RunEnd::stopped(Stopped::Cancelled),
    }
}

async fn work(job: Result<Job, String>, task: Task) -> RunEnd {
    let job = match job {
        Ok(job) => job,
        Err(error) => {
            let error = format!("the job's definition cannot be read: {error}");
            return RunEnd::failed(ErrorClass::Invalid, &error);
        }
    };
    match job.payload {
        Payload::SystemEvent { ref text } if turn::rings(&job, &task) => {
            turn::ring(&job, text, &task).await
        }
        Payload::SystemEvent { text } => {
            let session_key = match job.session_key.as_deref() {
                None | Some("main") => task.main_session_key.to_string(),
                Some(key) => key.to_owned(),
            };
            RunEnd {
                queued: Some(Queued {
                    session_key,
                    origin: format!("cron:{}", task.run_id),
                    text: text.clone(),
                }),
                ..RunEnd::ok(&text)
            }
        }
        Payload::AgentTurn { .. } => turn::take(&job, &task).await,
        Payload::Command {
            argv,
            cwd,
            env,
            input,
            timeout_seconds,
            no_output_timeout_seconds,
            output_max_bytes,
        } => {
            let program = Program {
                argv,
                cwd,
                env: env.unwrap_or_default(),
                input,
                timeout: timeout_seconds.as_ref().map(duration),
                no_output_timeout: no_output_timeout_seconds.as_ref().map(duration),
                output_max: output_max_bytes
                    .and_then(|bytes| usize::try_from(bytes).ok())
                    .unwrap_or(command::OUTPUT_DEFAULT),
                run_id: task.run_id,
                job_id: job.id,
                slot_ms: task.slot_ms,
            };
            match program.run(&task.stop).await {
                End::Done { output } => RunEnd::ok(&last(&output)),
                End::Failed {
                    class,
                    error,
                    output,
                } => {
                    let mut end = RunEnd::failed(class, &error);
                    end.ending.summary = Some(last(&output)).filter(|text| !text.is_empty());
                    end
                }
                End::Stopped => RunEnd::stopped(Stopped::Cancelled),
            }
        }
    }
}

/// Seconds with parts, as far as a span can be.
pub(super) fn duration(seconds: &Number) -> Duration {
    let seconds = seconds.as_f64().unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(Duration::MAX)
        .min(Duration::from_secs(365 * 24 * 3_600))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// The end of a long output, which says how it went.
fn last(text: &str) -> String {
    let surplus = text.chars().count().saturating_sub(TEXT_MAX);
    text.chars().skip(surplus).collect()
}
