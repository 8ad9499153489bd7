//! Runs: what is open, and pages of what ended.

use clawgate_core::{
    JobId, RunId,
    cron::{RunSeq, Unfinished},
};
use rusqlite::{Row, ToSql, params_from_iter};

use super::{counted, kind_from};
use crate::{Read, StoreError};

/// A row of the history: a run that ended, or slots that did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronRun {
    /// Its id.
    pub run_id: RunId,
    /// Whose.
    pub job_id: JobId,
    /// The job's name at that time.
    pub job_name: String,
    /// The slot, or the first of a range; none for runs by hand.
    pub slot_ms: Option<i64>,
    /// The last slot of a range.
    pub last_slot_ms: Option<i64>,
    /// How many slots.
    pub slots: i64,
    /// `scheduled`, `catch-up`, `retry`, `manual` or `record`.
    pub kind: String,
    /// Which attempt of a one-shot, from 0.
    pub attempt: u32,
    /// `ok`, `error` or `skipped`.
    pub status: String,
    /// `ran`, `skipped`, `missed` or `interrupted`.
    pub verdict: String,
    /// Why it did not run, or not to its own end.
    pub reason: Option<String>,
    /// Text of the failure.
    pub error: Option<String>,
    /// Class of the failure.
    pub error_class: Option<String>,
    /// What it said.
    pub summary: Option<String>,
    /// When its slot was noticed.
    pub queued_at_ms: Option<i64>,
    /// When it began.
    pub started_at_ms: Option<i64>,
    /// When it ended or was decided against.
    pub ended_at_ms: i64,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// When the job was due next after it.
    pub next_run_at_ms: Option<i64>,
    /// Outcome of the delivery.
    pub delivery_status: Option<String>,
    /// Why it was not delivered.
    pub delivery_error: Option<String>,
    /// What the target answered when it took the result.
    pub delivery_receipt: Option<String>,
    /// What a turn says of itself besides, a JSON object.
    pub about: Option<String>,
    /// The process that ran it.
    pub boot_id: String,
}

/// Which rows of the history a page shows. Empty lists filter nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of one job.
    pub job_id: Option<JobId>,
    /// One run.
    pub run_id: Option<RunId>,
    /// Any of these statuses.
    pub statuses: Vec<String>,
    /// Any of these outcomes of the delivery.
    pub delivery_statuses: Vec<String>,
    /// Part of summary, error, reason, job id or job name, in any case.
    pub query: Option<String>,
}

impl RunFilter {
    fn conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let mut conditions = String::from("status <> 'running'");
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        if let Some(id) = &self.job_id {
            conditions.push_str(" AND job_id = ?");
            values.push(Box::new(id.as_str().to_owned()));
        }
        if let Some(id) = &self.run_id {
            conditions.push_str(" AND run_id = ?");
            values.push(Box::new(id.as_str().to_owned()));
        }
        let mut any_of = |column: &str, words: &[String]| {
            if words.is_empty() {
                return;
            }
            let marks = vec!["?"; words.len()].join(", ");
            conditions.push_str(" AND ");
            conditions.push_str(column);
            conditions.push_str(" IN (");
            conditions.push_str(&marks);
            conditions.push(')');
            for word in words {
                values.push(Box::new(word.clone()));
            }
        };
        any_of("status", &self.statuses);
        any_of("delivery_status", &self.delivery_statuses);
        if let Some(query) = &self.query {
            conditions.push_str(
                " AND instr(lower(concat_ws(char(10), summary, error, reason, job_id, job_name)), ?) > 0",
            );
            values.push(Box::new(query.to_lowercase()));
        }
        (conditions, values)
    }

    /// Whether the statuses alone decide, so that the kept totals answer.
    fn is_counted(&self) -> bool {
        self.job_id.is_none()
            && self.run_id.is_none()
            && self.delivery_statuses.is_empty()
            && self.query.is_none()
    }
}

const RUN: &str = "run_id, job_id, job_name, slot_ms, last_slot_ms, slots, kind, attempt, status,
     verdict, reason, error, error_class, summary, queued_at_ms, started_at_ms, ended_at_ms,
     duration_ms, next_run_at_ms, delivery_status, boot_id, delivery_error, delivery_receipt,
     about";

fn run_from(row: &Row<'_>) -> rusqlite::Result<CronRun> {
    Ok(CronRun {
        run_id: RunId::new(row.get::<_, String>(0)?),
        job_id: JobId::new(row.get::<_, String>(1)?),
        job_name: row.get(2)?,
        slot_ms: row.get(3)?,
        last_slot_ms: row.get(4)?,
        slots: row.get(5)?,
        kind: row.get(6)?,
        attempt: row.get(7)?,
        status: row.get(8)?,
        verdict: row.get(9)?,
        reason: row.get(10)?,
        error: row.get(11)?,
        error_class: row.get(12)?,
        summary: row.get(13)?,
        queued_at_ms: row.get(14)?,
        started_at_ms: row.get(15)?,
        ended_at_ms: row.get(16)?,
        duration_ms: row.get(17)?,
        next_run_at_ms: row.get(18)?,
        delivery_status: row.get(19)?,
        delivery_error: row.get(21)?,
        delivery_receipt: row.get(22)?,
        about: row.get(23)?,
        boot_id: row.get(20)?,
    })
}

impl Read<'_> {
    /// A run number that no row has or ever had.
    ///
    /// # Errors
    /// The database's.
    pub fn next_run_seq(&self) -> Result<u64, StoreError> {
        // Every run took a row number, too, and never a smaller one than its own.
        self.db
            .prepare_cached(
                "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'cron_runs'), 0) + 1",
            )
            .and_then(|mut s| s.query_row([], |row| row.get::<_, i64>(0)))
            .map(|seq| u64::try_from(seq).unwrap_or(1))
            .map_err(StoreError::doing("finding the next run number"))
    }

    /// The runs that nobody closed, oldest first. At a start these are an earlier process's.
    ///
    /// # Errors
    /// The database's.
    pub fn unfinished_runs(&self) -> Result<Vec<Unfinished>, StoreError> {
        let doing = StoreError::doing("finding open runs");
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT run_seq, job_id, slot_ms, kind FROM cron_runs
                 WHERE status = 'running' ORDER BY run_seq",
            )
            .map_err(&doing)?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, String>(1)?,
                    row.get(2)?,
                    row.get::<_, String>(3)?,
                ))
            })
            .map_err(&doing)?;
        let mut unfinished = Vec::new();
        for row in rows {
            let (run_seq, job_id, slot_ms, kind) = row.map_err(&doing)?;
            let kind = kind_from(&kind).ok_or_else(|| StoreError::Inconsistent {
                table: "cron_runs",
                column: "kind",
                row: format!("run {run_seq}"),
            })?;
            unfinished.push(Unfinished {
                run_seq: RunSeq(u64::try_from(run_seq).unwrap_or(0)),
                job_id: JobId::new(job_id),
                slot_ms,
                kind,
            });
        }
        Ok(unfinished)
    }

    /// The ids of the runs that nobody closed.
    ///
    /// # Errors
    /// The database's.
    pub fn unfinished_run_ids(&self) -> Result<Vec<RunId>, StoreError> {
        let doing = StoreError::doing("finding open runs");
        let mut statement = self
            .db
            .prepare_cached("SELECT run_id FROM cron_runs WHERE status = 'running'")
            .map_err(&doing)?;
        let rows = statement
            .query_map([], |row| Ok(RunId::new(row.get::<_, String>(0)?)))
            .map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// How many rows of the history fit a filter.
    ///
    /// # Errors
    /// The database's.
    pub fn count_cron_runs(&self, filter: &RunFilter) -> Result<u64, StoreError> {
        if filter.is_counted() {
            let all = ["ok", "error", "skipped"];
            let whats: Vec<&str> = all
                .into_iter()
                .filter(|what| {
                    filter.statuses.is_empty() || filter.statuses.iter().any(|s| s == what)
                })
                .collect();
            return counted(self.db, &whats);
        }
        let (conditions, values) = filter.conditions();
        self.db
            .prepare_cached(&format!(
                "SELECT count(*) FROM cron_runs WHERE {conditions}"
            ))
            .and_then(|mut s| s.query_row(params_from_iter(values), |row| row.get::<_, i64>(0)))
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(StoreError::doing("counting runs"))
    }

    /// A page of the history, newest end first unless `ascending`.
    ///
    /// # Errors
    /// The database's.
    pub fn cron_runs(
        &self,
        filter: &RunFilter,
        ascending: bool,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<CronRun>, StoreError> {
        let doing = StoreError::doing("listing runs");
        let (conditions, mut values) = filter.conditions();
        values.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        values.push(Box::new(i64::try_from(offset).unwrap_or(i64::MAX)));
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "SELECT {RUN} FROM cron_runs WHERE {conditions}
                 ORDER BY {} LIMIT ? OFFSET ?",
                order(ascending)
            ))
            .map_err(&doing)?;
        let rows = statement
            .query_map(params_from_iter(values), run_from)
            .map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }
}

fn order(ascending: bool) -> &'static str {
    if ascending {
        "ended_at_ms, seq"
    } else {
        "ended_at_ms DESC, seq DESC"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages come out of an index in its order, at any length of the history.
    #[test]
    fn no_page_of_the_history_is_sorted() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        for migration in crate::migrate::MIGRATIONS {
            db.execute_batch(migration).unwrap();
        }
        let one_job = RunFilter {
            job_id: Some(JobId::from("a")),
            ..RunFilter::default()
        };
        let one_status = RunFilter {
            statuses: vec!["error".to_owned()],
            ..RunFilter::default()
        };
        let cases = [
            (RunFilter::default(), "cron_runs_by_end"),
            (one_job, "cron_runs_by_job"),
            (one_status, "cron_runs_by_status"),
        ];
        for (filter, index) in cases {
            for ascending in [false, true] {
                let (conditions, values) = filter.conditions();
                let sql = format!(
                    "EXPLAIN QUERY PLAN SELECT {RUN} FROM cron_runs WHERE {conditions}
                     ORDER BY {} LIMIT 50 OFFSET 0",
                    order(ascending),
                );
                let mut statement = db.prepare(&sql).unwrap();
                let steps: Vec<String> = statement
                    .query_map(params_from_iter(values), |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();
                let steps = steps.join("; ");
                assert!(
                    !steps.contains("TEMP B-TREE") && steps.contains(index),
                    "{steps}"
                );
            }
        }
    }
}
