//! One SQLite file and every SQL statement that touches it.
//!
//! Statements are named after the act (`approve_device`, `claim_fire`), never after the table.
//! Nothing is decided here and no event is sent; the JSON of the wire is unknown, except for
//! job definitions, which are kept as the text that they came as.
//!
//! Writes go through one thread with group commit ([`Store::write`]): each act runs in its own
//! savepoint, acts that wait together share one transaction and one sync. An act is answered
//! after the commit, so what was answered survives `kill -9`. Reads have a thread of their own
//! on a second connection ([`Store::read`]) and never wait for a writer.

mod approval;
mod backup;
mod cron;
mod db;
mod device;
mod error;
mod import;
mod memory;
mod migrate;
mod node;
mod outbox;
mod run;
mod session;
mod setting;
mod survey;
mod system_event;
mod token;
mod transcript;
mod usage;

pub use approval::Approval;
pub use backup::{Condition, copy, examine};
pub use cron::{
    Claimed, CronJob, CronRun, Ending, HISTORY_MAX, JobFilter, JobSort, KeepJob, LastRun,
    RunFilter, Settled, SettledJob,
};
pub use db::{Read, Store, Tx, draft};
pub use error::{Fault, StoreError};
pub use import::{Present, RowCounts, look};
pub use memory::{MemoryFile, MemoryHit, MemoryPassage};
pub use node::{NodeAction, NodeOrigin, NodePairing, NodeRequest, NodeSurface, NodeWork};
pub use outbox::{Delivered, Delivery, OUTBOX_HISTORY_MAX};
pub use run::{OpenRun, Run, RunClaim};
pub use session::{ListedSession, Session, SessionFilter};
pub use survey::{FailingJob, Grants, StuckDelivery, Survey, grants, survey};
pub use token::ApiToken;
pub use transcript::{Appended, Archive, Cost, Entry, Hit, NewEntry, Parent, Transcript, Used};
pub use usage::{SLOT_MS, ToolSlot, UsageRange, UsageSlot, WaitSlot};
