//! The scheduler's handle, and what it can be asked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use clawgate_core::{
    JobId, RunId,
    cron::{NotRun, RunMode},
};
use clawgate_protocol::ErrorShape;
use clawgate_store::{CronJob, KeepJob, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::config;

/// What changes a job: from the job as it is to the job as it shall be, or the reason why not.
pub(crate) type Change = Box<dyn FnOnce(&CronJob, i64) -> Result<KeepJob, ErrorShape> + Send>;
/// The same for a job that may not be there yet; `None` = it is as it shall be.
pub(crate) type Declaration =
    Box<dyn FnOnce(Option<&CronJob>, i64) -> Result<Option<KeepJob>, ErrorShape> + Send>;
pub(super) type Answer<T> = oneshot::Sender<Result<T, SchedulerError>>;

/// What became of a declaration.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) created: bool,
    pub(crate) updated: bool,
    pub(crate) job: CronJob,
}

/// A job as it will be once it is on disk, for whoever has something to prepare meanwhile.
pub(crate) struct Planned {
    pub(super) job: CronJob,
    pub(super) stands: oneshot::Receiver<Result<(), SchedulerError>>,
}

/// What the scheduler can be asked.
pub(crate) enum SchedulerCommand {
    Add {
        job: Box<KeepJob>,
        answer: Answer<Planned>,
    },
    Update {
        id: JobId,
        change: Change,
        answer: Answer<CronJob>,
    },
    /// Changes the job that is declared under a key, or adds it.
    Declare {
        key: String,
        change: Declaration,
        answer: Answer<Declared>,
    },
    Remove {
        id: JobId,
        answer: Answer<bool>,
    },
    /// Ends the run under way, if it is this one.
    Cancel {
        id: JobId,
        run_id: Option<RunId>,
        answer: Answer<Option<RunId>>,
    },
    Run {
        id: JobId,
        mode: RunMode,
        answer: Answer<Result<RunId, NotRun>>,
    },
    /// Other settings hold from now on. Runs that go on are not touched.
    Configure(Box<config::Cron>),
}

impl SchedulerCommand {
    pub(super) fn fail(self, error: SchedulerError) {
        // Whoever asked may be gone.
        match self {
            Self::Add { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Update { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Declare { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Remove { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Cancel { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Run { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Configure(_) => {}
        }
    }
}

/// Why a command changed nothing.
#[derive(Clone, Debug)]
pub(crate) enum SchedulerError {
    /// No such job.
    Unknown,
    /// The change itself says no.
    Refused(Box<ErrorShape>),
    /// The database failed.
    Store(Arc<StoreError>),
    /// The gateway is going down.
    Stopped,
}

/// The scheduler's handle.
#[derive(Clone, Debug)]
pub(crate) struct SchedulerHandle {
    inbox: mpsc::Sender<SchedulerCommand>,
    jobs: Arc<AtomicUsize>,
    enabled: Arc<AtomicBool>,
}

impl SchedulerHandle {
    pub(super) fn new(
        inbox: mpsc::Sender<SchedulerCommand>,
        jobs: Arc<AtomicUsize>,
        enabled: bool,
    ) -> Self {
        Self {
            inbox,
            jobs,
            enabled: Arc::new(AtomicBool::new(enabled)),
        }
    }

    /// How many jobs there are.
    pub(crate) fn job_count(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Whether jobs fire at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Has the scheduler go by other settings. For a thread that may wait.
    pub(crate) fn configure_blocking(&self, cron: &config::Cron) {
        self.enabled.store(cron.enabled, Ordering::Release);
        let command = SchedulerCommand::Configure(Box::new(cron.clone()));
        // One that is gone needs no settings.
        let _ = self.inbox.blocking_send(command);
    }

    /// Adds a job. It is on disk when this returns; what is to be said of it is made while the disk
    /// works.
    pub(crate) async fn add_as<T>(
        &self,
        job: KeepJob,
        say: impl FnOnce(CronJob) -> T,
    ) -> Result<T, SchedulerError> {
        let job = Box::new(job);
        let planned = self.ask(|answer| SchedulerCommand::Add { job, answer });
        let Planned { job, stands } = planned.await?;
        let said = say(job);
        stands.await.unwrap_or(Err(SchedulerError::Stopped))?;
        Ok(said)
    }

    /// Adds a job. It is on disk when this returns.
    #[cfg(test)]
    pub(crate) async fn add(&self, job: KeepJob) -> Result<CronJob, SchedulerError> {
        self.add_as(job, |kept| kept).await
    }

    /// Changes a job, or leaves it exactly as it is.
    pub(crate) async fn update(
        &self,
        id: JobId,
        change: Change,
    ) -> Result<CronJob, SchedulerError> {
        self.ask(|answer| SchedulerCommand::Update { id, change, answer })
            .await
    }

    /// Changes the job that is declared under a key, or adds it.
    pub(crate) async fn declare(
        &self,
        key: String,
        change: Declaration,
    ) -> Result<Declared, SchedulerError> {
        self.ask(|answer| SchedulerCommand::Declare {
            key,
            change,
            answer,
        })
        .await
    }

    /// Tells the run under way to stop, if it is `run_id` or that is open. Which one that was; none
    /// when there is no such run.
    pub(crate) async fn cancel(
        &self,
        id: JobId,
        run_id: Option<RunId>,
    ) -> Result<Option<RunId>, SchedulerError> {
        self.ask(|answer| SchedulerCommand::Cancel { id, run_id, answer })
            .await
    }

    /// Removes a job and stops its run. `false` when there is none.
    pub(crate) async fn remove(&self, id: JobId) -> Result<bool, SchedulerError> {
        self.ask(|answer| SchedulerCommand::Remove { id, answer })
            .await
    }

    /// Starts a run. It is claimed, not ended, when this returns.
    pub(crate) async fn run_now(
        &self,
        id: JobId,
        mode: RunMode,
    ) -> Result<Result<RunId, NotRun>, SchedulerError> {
        self.ask(|answer| SchedulerCommand::Run { id, mode, answer })
            .await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(Answer<T>) -> SchedulerCommand,
    ) -> Result<T, SchedulerError> {
        let (answer, answered) = oneshot::channel();
        self.inbox
            .send(command(answer))
            .await
            .map_err(|_| SchedulerError::Stopped)?;
        answered.await.unwrap_or(Err(SchedulerError::Stopped))
    }
}
