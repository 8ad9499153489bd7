//! One run of a job: what its payload does, and what is said at its end.

use clawgate_core::cron::{ErrorClass, Outcome};
use clawgate_protocol::cron::{Job, Payload};
use clawgate_store::Ending;

/// Characters of a summary or an error that are kept.
const TEXT_MAX: usize = 2_000;

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

impl RunEnd {
    /// It failed.
    pub(super) fn failed(class: ErrorClass, error: &str, delivery_requested: bool) -> Self {
        Self {
            outcome: Outcome::Failed(class),
            ending: Ending {
                reason: None,
                error: Some(cut(error)),
                summary: None,
                delivery_status: Some(undelivered(delivery_requested)),
            },
            queued: None,
        }
    }

    /// An edit stopped it.
    pub(super) fn stopped(reason: &'static str, delivery_requested: bool) -> Self {
        Self {
            outcome: Outcome::Cancelled,
            ending: Ending {
                reason: Some(reason.to_owned()),
                error: Some(format!("cron: run stopped because its job was {reason}")),
                summary: None,
                delivery_status: Some(undelivered(delivery_requested)),
            },
            queued: None,
        }
    }
}

/// Reads a definition as it was at the claim.
pub(super) fn parse(definition: &str) -> Result<Job, String> {
    serde_json::from_str(definition).map_err(|error| error.to_string())
}

/// Whether somebody waits for the result elsewhere.
pub(super) fn asks_for_delivery(job: &Job) -> bool {
    let mode = job
        .delivery
        .as_ref()
        .and_then(|delivery| delivery.get("mode"));
    mode.is_some_and(|mode| mode != "none")
}

/// Does what the job says.
pub(super) fn run(job: Result<Job, String>, main_session_key: &str, origin: String) -> RunEnd {
    let job = match job {
        Ok(job) => job,
        Err(error) => {
            let error = format!("the job's definition cannot be read: {error}");
            return RunEnd::failed(ErrorClass::Invalid, &error, false);
        }
    };
    let delivery_requested = asks_for_delivery(&job);
    match job.payload {
        Payload::SystemEvent { text } => {
            let session_key = match job.session_key.as_deref() {
                None | Some("main") => main_session_key.to_owned(),
                Some(key) => key.to_owned(),
            };
            RunEnd {
                outcome: Outcome::Ok,
                ending: Ending {
                    reason: None,
                    error: None,
                    summary: Some(cut(&text)),
                    delivery_status: Some(undelivered(delivery_requested)),
                },
                queued: Some(Queued {
                    session_key,
                    text,
                    origin,
                }),
            }
        }
        Payload::AgentTurn { .. } => RunEnd::failed(
            ErrorClass::NotAvailable,
            "this version of clawgate runs no agent turns: nothing was done",
            delivery_requested,
        ),
    }
}

/// Nothing is delivered yet, and nobody is told otherwise.
fn undelivered(requested: bool) -> String {
    if requested {
        "not-delivered"
    } else {
        "not-requested"
    }
    .to_owned()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
