//! Jobs: one, all for the planner, and pages for people.

use clawgate_core::{
    JobId,
    cron::{CatchUp, CatchUpMode, CronExpr, Job, JobState, Overlap, Schedule, Zone},
};
use rusqlite::{OptionalExtension as _, Row, ToSql, params_from_iter};

use super::{StateValues, counted, disable_from};
use crate::{Read, StoreError, Tx};

/// A job as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CronJob {
    /// The text of its definition.
    pub definition: String,
    /// When, under which policies, how far it got.
    pub plan: Job,
    /// When it was added.
    pub created_at_ms: i64,
    /// When it was last changed, or a run of it ended.
    pub updated_at_ms: i64,
    /// When the planner disabled it.
    pub disabled_at_ms: Option<i64>,
    /// Start of the run under way.
    pub running_at_ms: Option<i64>,
    /// The last run that ended.
    pub last_run: Option<LastRun>,
    /// When its failures were told last.
    pub alerted_at_ms: Option<i64>,
    /// The revision of its definition; none of a job that was kept before there were any.
    pub revision: Option<String>,
}

/// The last run of a job that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// When it began.
    pub at_ms: i64,
    /// `ok`, `error` or `skipped`.
    pub status: String,
    /// How long it took.
    pub duration_ms: i64,
    /// Text of its failure.
    pub error: Option<String>,
    /// Class of its failure.
    pub error_class: Option<String>,
    /// Outcome of its delivery.
    pub delivery_status: Option<String>,
    /// Why it was not delivered.
    pub delivery_error: Option<String>,
}

/// A job to keep, new or changed.
#[derive(Clone, Debug)]
pub struct KeepJob {
    /// Id, schedule, policies and state.
    pub plan: Job,
    /// The text of its definition.
    pub definition: String,
    /// Its name.
    pub name: String,
    /// What queries look into.
    pub searchable: String,
    /// The revision of its definition.
    pub revision: String,
    /// The key under which it is declared, if it is. Only of a new job; later it stands.
    pub declaration_key: Option<String>,
    /// When it was added; of an existing job the first one stands.
    pub created_at_ms: i64,
    /// Now.
    pub updated_at_ms: i64,
}

/// What a page of jobs is sorted by. Ties are sorted by id; jobs without a next run come last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobSort {
    /// The next run.
    #[default]
    NextRun,
    /// The last change.
    Updated,
    /// The name, in lower case.
    Name,
}

/// Which jobs a page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only enabled ones, only disabled ones, or all.
    pub enabled: Option<bool>,
    /// Part of the searchable text, in any case.
    pub query: Option<String>,
    /// Only jobs with this kind of schedule.
    pub schedule_kind: Option<String>,
    /// Only jobs whose last run ended so; `unknown` for those that have not run.
    pub last_status: Option<String>,
    /// Only jobs of this agent, where the second one is whose jobs name none.
    pub agent: Option<(String, String)>,
    /// Only jobs of this session.
    pub session_key: Option<String>,
}

impl JobFilter {
    /// Whether it looks at nothing but `enabled`, by which jobs are counted already.
    fn is_counted(&self) -> bool {
        let enabled = self.enabled;
        *self
            == Self {
                enabled,
                ..Self::default()
            }
    }

    /// The conditions and their values.
    fn conditions(&self, sort: JobSort) -> (String, Vec<Box<dyn ToSql>>) {
        let mut conditions = String::from("1");
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        match self.enabled {
            Some(true) => conditions.push_str(" AND enabled = 1"),
            // A disabled job has no next run: that is the part of the index where they all are.
            Some(false) if sort == JobSort::NextRun => {
                conditions.push_str(" AND enabled = 0 AND next_run_at_ms IS NULL");
            }
            Some(false) => conditions.push_str(" AND enabled = 0"),
            None => {}
        }
        if let Some(query) = &self.query {
            conditions.push_str(" AND instr(searchable, ?) > 0");
            values.push(Box::new(query.to_lowercase()));
        }
        if let Some(kind) = &self.schedule_kind {
            conditions.push_str(" AND schedule_kind = ?");
            values.push(Box::new(kind.clone()));
        }
        if let Some(status) = &self.last_status {
            conditions.push_str(" AND coalesce(last_status, 'unknown') = ?");
            values.push(Box::new(status.clone()));
        }
        if let Some((agent, default)) = &self.agent {
            conditions.push_str(" AND coalesce(definition ->> '$.agentId', ?) = ?");
            values.push(Box::new(default.clone()));
            values.push(Box::new(agent.clone()));
        }
        if let Some(key) = &self.session_key {
            conditions.push_str(" AND definition ->> '$.sessionKey' = ?");
            values.push(Box::new(key.clone()));
        }
        (conditions, values)
    }
}

const PLAN: &str = "job_id, schedule_kind, at_ms, every_ms, anchor_ms, expr, time_zone, stagger_ms,
     delete_after_run, catch_up, catch_up_max, catch_up_age_ms, overlap, disable_after,
     enabled, disabled_why, disabled_what, disabled_count, next_slot_ms, next_run_at_ms,
     last_slot_ms, backoff_until_ms, consecutive_errors, retries";
const REST: &str = "definition, created_at_ms, updated_at_ms, disabled_at_ms, running_at_ms,
     last_run_at_ms, last_status, last_duration_ms, last_error, last_error_class, last_delivery,
     last_delivery_error, alerted_at_ms, revision";

/// Which column of a row holds what no version writes.
type Unreadable = &'static str;

fn plan_from(row: &Row<'_>) -> rusqlite::Result<(Job, Option<Unreadable>)> {
    let mut unreadable = None;
    let kind: String = row.get(1)?;
    let schedule = match kind.as_str() {
        "at" => Schedule::At { at_ms: row.get(2)? },
        "every" => Schedule::Every {
            every_ms: row.get(3)?,
            anchor_ms: row.get(4)?,
        },
        _ => {
            let zone: String = row.get(6)?;
            let tz = Zone::parse(&zone).unwrap_or_else(|_| {
                unreadable = Some("time_zone");
                Zone::utc()
            });
            Schedule::Cron {
                expr: CronExpr::stored(row.get_ref(5)?.as_str()?),
                tz,
                stagger_ms: row.get(7)?,
            }
        }
    };
    let mode = match row.get_ref(9)?.as_str()? {
        "none" => CatchUpMode::None,
        "latest" => CatchUpMode::Latest,
        _ => CatchUpMode::All { max: row.get(10)? },
    };
    let overlap = match row.get_ref(12)?.as_str()? {
        "skip" => Overlap::Skip,
        _ => Overlap::QueueOne,
    };
    let why: Option<String> = row.get(15)?;
    let disabled = match why {
        None => None,
        Some(why) => {
            let what: Option<String> = row.get(16)?;
            let reason = disable_from(&why, what.as_deref(), row.get(17)?);
            if reason.is_none() {
                unreadable = Some("disabled_why");
            }
            reason
        }
    };
    let job = Job {
        id: JobId::new(row.get::<_, String>(0)?),
        schedule,
        delete_after_run: row.get(8)?,
        catch_up: CatchUp {
            mode,
            max_age_ms: row.get(11)?,
        },
        overlap,
        disable_after: row.get(13)?,
        state: JobState {
            enabled: row.get(14)?,
            disabled,
            next_slot_ms: row.get(18)?,
            next_run_at_ms: row.get(19)?,
            last_slot_ms: row.get(20)?,
            backoff_until_ms: row.get(21)?,
            consecutive_errors: row.get(22)?,
            retries: row.get(23)?,
        },
    };
    Ok((job, unreadable))
}

fn job_from(row: &Row<'_>) -> rusqlite::Result<(CronJob, Option<Unreadable>)> {
    let (plan, unreadable) = plan_from(row)?;
    let last_run = match row.get::<_, Option<i64>>(29)? {
        None => None,
        Some(at_ms) => Some(LastRun {
            at_ms,
            status: row.get(30)?,
            duration_ms: row.get(31)?,
            error: row.get(32)?,
            error_class: row.get(33)?,
            delivery_status: row.get(34)?,
            delivery_error: row.get(35)?,
        }),
    };
    let job = CronJob {
        definition: row.get(24)?,
        plan,
        created_at_ms: row.get(25)?,
        updated_at_ms: row.get(26)?,
        disabled_at_ms: row.get(27)?,
        running_at_ms: row.get(28)?,
        last_run,
        alerted_at_ms: row.get(36)?,
        revision: row.get(37)?,
    };
    Ok((job, unreadable))
}

fn readable<T>(
    (job, unreadable): (T, Option<Unreadable>),
    id: impl Fn(&T) -> &JobId,
) -> Result<T, StoreError> {
    match unreadable {
        None => Ok(job),
        Some(column) => Err(StoreError::Inconsistent {
            table: "cron_jobs",
            column,
            row: id(&job).to_string(),
        }),
    }
}

impl Read<'_> {
    /// Every job's schedule, policies and state: what a planner is loaded with.
    ///
    /// # Errors
    /// The database's.
    pub fn cron_plans(&self) -> Result<Vec<Job>, StoreError> {
        let doing = StoreError::doing("loading cron jobs");
        let mut statement = self
            .db
            .prepare_cached(&format!("SELECT {PLAN} FROM cron_jobs"))
            .map_err(&doing)?;
        let rows = statement.query_map([], plan_from).map_err(&doing)?;
        let mut plans = Vec::new();
        for row in rows {
            plans.push(readable(row.map_err(&doing)?, |job| &job.id)?);
        }
        Ok(plans)
    }

    /// One job.
    ///
    /// # Errors
    /// The database's.
    pub fn cron_job(&self, id: &JobId) -> Result<Option<CronJob>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {PLAN}, {REST} FROM cron_jobs WHERE job_id = ?1"
            ))
            .and_then(|mut s| s.query_row([id.as_str()], job_from).optional())
            .map_err(StoreError::doing("finding a cron job"))?
            .map(|found| readable(found, |job| &job.plan.id))
            .transpose()
    }

    /// The job that is declared under a key.
    ///
    /// # Errors
    /// The database's.
    pub fn declared_cron_job(&self, key: &str) -> Result<Option<CronJob>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {PLAN}, {REST} FROM cron_jobs WHERE declaration_key = ?1"
            ))
            .and_then(|mut s| s.query_row([key], job_from).optional())
            .map_err(StoreError::doing("finding a declared cron job"))?
            .map(|found| readable(found, |job| &job.plan.id))
            .transpose()
    }

    /// How many jobs fit a filter.
    ///
    /// # Errors
    /// The database's.
    pub fn count_cron_jobs(&self, filter: &JobFilter) -> Result<u64, StoreError> {
        if filter.is_counted() {
            return match filter.enabled {
                Some(true) => counted(self.db, &["enabled"]),
                Some(false) => counted(self.db, &["disabled"]),
                None => counted(self.db, &["enabled", "disabled"]),
            };
        }
        let (conditions, values) = filter.conditions(JobSort::default());
        self.db
            .prepare_cached(&format!(
                "SELECT count(*) FROM cron_jobs WHERE {conditions}"
            ))
            .and_then(|mut s| s.query_row(params_from_iter(values), |row| row.get::<_, i64>(0)))
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(StoreError::doing("counting cron jobs"))
    }

    /// A text that stays the same while no job is added, removed, edited or moved to another next
    /// run: pages that were read under the same one belong together.
    ///
    /// # Errors
    /// The database's.
    pub fn cron_jobs_revision(&self) -> Result<String, StoreError> {
        self.db
            .prepare_cached(
                "SELECT count(*), coalesce(sum(next_run_at_ms), 0),
                        (SELECT coalesce(max(updated_at_ms), 0) FROM cron_jobs)
                 FROM cron_jobs INDEXED BY cron_jobs_by_next",
            )
            .and_then(|mut s| {
                s.query_row((), |row| {
                    let (jobs, next, updated): (i64, i64, i64) = row.try_into()?;
                    Ok(format!("{jobs}-{next:x}-{updated:x}"))
                })
            })
            .map_err(StoreError::doing("looking how cron jobs stand"))
    }

    /// A page of the jobs that fit a filter.
    ///
    /// # Errors
    /// The database's.
    pub fn cron_jobs(
        &self,
        filter: &JobFilter,
        sort: JobSort,
        descending: bool,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<CronJob>, StoreError> {
        let doing = StoreError::doing("listing cron jobs");
        let (conditions, mut values) = filter.conditions(sort);
        let order = order(sort, descending);
        values.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        values.push(Box::new(i64::try_from(offset).unwrap_or(i64::MAX)));
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "SELECT {PLAN}, {REST} FROM cron_jobs WHERE {conditions}
                 ORDER BY {order} LIMIT ? OFFSET ?"
            ))
            .map_err(&doing)?;
        let rows = statement
            .query_map(params_from_iter(values), job_from)
            .map_err(&doing)?;
        let mut jobs = Vec::new();
        for row in rows {
            jobs.push(readable(row.map_err(&doing)?, |job| &job.plan.id)?);
        }
        Ok(jobs)
    }

    /// When the next enabled job is due.
    ///
    /// # Errors
    /// The database's.
    pub fn next_cron_wake(&self) -> Result<Option<i64>, StoreError> {
        self.db
            .prepare_cached("SELECT min(next_run_at_ms) FROM cron_jobs")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(StoreError::doing("finding the next cron job"))
    }
}

/// Orders that the indexes give as they are: nothing is sorted for a page.
fn order(sort: JobSort, descending: bool) -> &'static str {
    match (sort, descending) {
        (JobSort::NextRun, false) => "next_run_at_ms NULLS LAST, job_id",
        (JobSort::NextRun, true) => "next_run_at_ms DESC, job_id DESC",
        (JobSort::Updated, false) => "updated_at_ms, job_id",
        (JobSort::Updated, true) => "updated_at_ms DESC, job_id DESC",
        (JobSort::Name, false) => "name_key, job_id",
        (JobSort::Name, true) => "name_key DESC, job_id DESC",
    }
}

impl Tx<'_> {
    /// Keeps a job, new or changed, with its state. What happened to it stays as it is.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_cron_job(&self, job: &KeepJob) -> Result<(), StoreError> {
        let doing = StoreError::doing("keeping a cron job");
        let plan = &job.plan;
        let id = plan.id.as_str();
        let (mut at, mut every, mut anchor, mut expr, mut zone, mut stagger) =
            (None, None, None, None, None, None);
        let kind = match &plan.schedule {
            Schedule::At { at_ms } => {
                at = Some(*at_ms);
                "at"
            }
            Schedule::Every {
                every_ms,
                anchor_ms,
            } => {
                (every, anchor) = (Some(*every_ms), Some(*anchor_ms));
                "every"
            }
            Schedule::Cron {
                expr: text,
                tz,
                stagger_ms,
            } => {
                (expr, zone, stagger) = (Some(text.as_str()), Some(tz.name()), Some(*stagger_ms));
                "cron"
            }
        };
        let (catch_up, catch_up_max) = match plan.catch_up.mode {
            CatchUpMode::None => ("none", None),
            CatchUpMode::Latest => ("latest", None),
            CatchUpMode::All { max } => ("all", Some(max)),
        };
        let overlap = match plan.overlap {
            Overlap::Skip => "skip",
            Overlap::QueueOne => "queue-one",
        };
        let name_key = job.name.to_lowercase();
        let searchable = job.searchable.to_lowercase();
        let state = StateValues::of(&plan.state);
        let mut params = state.params(&id, &plan.state, &job.updated_at_ms);
        let more: [(&'static str, &dyn ToSql); 20] = [
            (":revision", &job.revision),
            (":declared", &job.declaration_key),
            (":definition", &job.definition),
            (":name", &job.name),
            (":name_key", &name_key),
            (":searchable", &searchable),
            (":created", &job.created_at_ms),
            (":kind", &kind),
            (":at", &at),
            (":every", &every),
            (":anchor", &anchor),
            (":expr", &expr),
            (":zone", &zone),
            (":stagger", &stagger),
            (":delete", &plan.delete_after_run),
            (":catch_up", &catch_up),
            (":catch_up_max", &catch_up_max),
            (":catch_up_age", &plan.catch_up.max_age_ms),
            (":overlap", &overlap),
            (":disable_after", &plan.disable_after),
        ];
        params.extend(more);
        self.db
            .prepare_cached(
                "INSERT INTO cron_jobs (job_id, definition, name, name_key, searchable,
                     created_at_ms, updated_at_ms, schedule_kind, at_ms, every_ms, anchor_ms, expr,
                     time_zone, stagger_ms, delete_after_run, catch_up, catch_up_max,
                     catch_up_age_ms, overlap, disable_after, enabled, disabled_why, disabled_what,
                     disabled_count, disabled_at_ms, next_slot_ms, next_run_at_ms, last_slot_ms,
                     backoff_until_ms, consecutive_errors, retries, declaration_key, revision)
                 VALUES (:job_id, :definition, :name, :name_key, :searchable, :created, :now, :kind,
                     :at, :every, :anchor, :expr, :zone, :stagger, :delete, :catch_up,
                     :catch_up_max, :catch_up_age, :overlap, :disable_after, :enabled, :why, :what,
                     :count, iif(:why IS NULL, NULL, :now), :next_slot, :next_run, :last_slot,
                     :backoff, :errors, :retries, :declared, :revision)
                 ON CONFLICT (job_id) DO UPDATE SET definition = :definition, name = :name,
                     name_key = :name_key, searchable = :searchable, updated_at_ms = :now,
                     schedule_kind = :kind, at_ms = :at, every_ms = :every, anchor_ms = :anchor,
                     expr = :expr, time_zone = :zone, stagger_ms = :stagger,
                     delete_after_run = :delete, catch_up = :catch_up,
                     catch_up_max = :catch_up_max, catch_up_age_ms = :catch_up_age,
                     overlap = :overlap, disable_after = :disable_after, enabled = :enabled,
                     disabled_why = :why, disabled_what = :what, disabled_count = :count,
                     disabled_at_ms = iif(:why IS NULL, NULL, coalesce(disabled_at_ms, :now)),
                     next_slot_ms = :next_slot, next_run_at_ms = :next_run,
                     last_slot_ms = :last_slot, backoff_until_ms = :backoff,
                     consecutive_errors = :errors, retries = :retries,
                     revision = :revision",
            )
            .and_then(|mut s| s.execute(params.as_slice()))
            .map_err(&doing)
            .and_then(|rows| one_row(rows, id))
    }

    /// Removes a job; its history stays. `false` when it is not there.
    ///
    /// # Errors
    /// The database's.
    pub fn remove_cron_job(&self, id: &JobId) -> Result<bool, StoreError> {
        self.db
            .prepare_cached("DELETE FROM cron_jobs WHERE job_id = ?1")
            .and_then(|mut s| s.execute([id.as_str()]))
            .map(|rows| rows == 1)
            .map_err(StoreError::doing("removing a cron job"))
    }
}

/// An act on one job changes one row.
pub(super) fn one_row(rows: usize, job_id: &str) -> Result<(), StoreError> {
    if rows == 1 {
        return Ok(());
    }
    Err(StoreError::Inconsistent {
        table: "cron_jobs",
        column: "job_id",
        row: job_id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages come out of an index in its order, at any number of jobs.
    #[test]
    fn no_page_of_jobs_is_sorted() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../migrations/0002_cron.sql"))
            .unwrap();
        db.execute_batch(include_str!("../../migrations/0003_delivery.sql"))
            .unwrap();
        for sort in [JobSort::NextRun, JobSort::Updated, JobSort::Name] {
            for descending in [false, true] {
                for enabled in [None, Some(true), Some(false)] {
                    let filter = JobFilter {
                        enabled,
                        ..JobFilter::default()
                    };
                    let sql = format!(
                        "EXPLAIN QUERY PLAN SELECT {PLAN} FROM cron_jobs WHERE {}
                         ORDER BY {} LIMIT 50 OFFSET 0",
                        filter.conditions(sort).0,
                        order(sort, descending),
                    );
                    let mut statement = db.prepare(&sql).unwrap();
                    let steps: Vec<String> = statement
                        .query_map([], |row| row.get(3))
                        .unwrap()
                        .collect::<Result<_, _>>()
                        .unwrap();
                    let steps = steps.join("; ");
                    assert!(
                        !steps.contains("TEMP B-TREE"),
                        "{sort:?} {descending} {enabled:?}: {steps}"
                    );
                }
            }
        }
    }
}
