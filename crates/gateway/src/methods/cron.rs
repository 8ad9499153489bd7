//! Cron: jobs and their history.
//!
//! What a caller sends is brought into form (`input`), checked against the wire's shape, and
//! becomes a job (`job`) that the scheduler keeps; what is kept becomes what travels (`show`).

pub(crate) mod import;
mod input;
mod job;
mod page;
mod show;

pub(crate) use job::{House, host_zone};
pub(crate) use page::Pages;

use std::sync::Arc;

use clawgate_core::{
    Dialect, JobId, RunId,
    cron::{NotRun, RunMode},
};
use clawgate_protocol::{
    ErrorShape,
    cron::{
        CancelParams, Cancelled, IdParams, JobPage, ListParams, RunPage, RunParams, RunsParams,
        Status, add_shape, update_shape,
    },
    frame::to_json,
};
use clawgate_store::{CronJob, JobFilter, JobSort, RunFilter};
use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
    error,
    scheduler::SchedulerError,
};

/// Entries of a page when nobody says how many.
const PAGE: u64 = 50;
/// Entries of a page at most.
const PAGE_MAX: u64 = 200;

pub(crate) fn list(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let dialect = call.dialect();
    let default_agent = gateway.default_agent().to_owned();
    let asked = page::Asked {
        dialect,
        default_agent: default_agent.clone(),
        params: call.params.as_deref().unwrap_or_default().to_owned(),
    };
    // Before the page is read: what is committed meanwhile may be on it, and counts as later.
    let commits = gateway.store.commits();
    if let Some(page) = gateway.cron_pages.find(&asked, commits) {
        return Answer::Now(Reply::kept(page));
    }
    later(call.typed::<ListParams>(), move |params| async move {
        let named = |word: Option<String>| word.filter(|word| word != "all");
        // No job here waits for a condition beside its schedule.
        let nothing = params.trigger.as_deref() == Some("conditional");
        let filter = JobFilter {
            enabled: match params.enabled.as_deref() {
                Some("all") => None,
                Some("disabled") => Some(false),
                Some(_) => Some(true),
                None if params.include_disabled == Some(true) => None,
                None => Some(true),
            },
            query: needle(params.query),
            schedule_kind: if nothing {
                Some(String::new())
            } else {
                named(params.schedule_kind)
            },
            last_status: named(params.last_run_status),
            agent: params.agent_id.map(|agent| (agent, default_agent.clone())),
            session_key: params.session_key,
        };
        let sort = match params.sort_by.as_deref() {
            Some("updatedAtMs") => JobSort::Updated,
            Some("name") => JobSort::Name,
            _ => JobSort::NextRun,
        };
        let descending = params.sort_dir.as_deref() == Some("desc");
        let (wanted, from) = (params.limit, params.offset.unwrap_or(0));
        let (jobs, total, offset, limit, revision) = gateway
            .store
            .read(move |db| {
                db.at_once(|| {
                    let revision = match dialect {
                        Dialect::V3 => None,
                        Dialect::V4 => Some(db.cron_jobs_revision()?),
                    };
                    let total = db.count_cron_jobs(&filter)?;
                    // Who does not say how many wants all of them, up to a full page.
                    let all = if total == 0 { PAGE } else { total };
                    let limit = wanted.unwrap_or(all).min(PAGE_MAX);
                    let offset = from.min(total);
                    let jobs = db.cron_jobs(&filter, sort, descending, limit, offset)?;
                    Ok((jobs, total, offset, limit, revision))
                })
            })
            .await
            .map_err(|error| error::store(&error))?;
        let end = offset + jobs.len() as u64;
        let mut page = JobPage {
            jobs: jobs.iter().map(show::job).collect::<Result<_, _>>()?,
            total,
            offset,
            limit,
            has_more: end < total,
            next_offset: (end < total).then_some(end),
            snapshot_revision: revision,
        };
        if dialect == Dialect::V4 {
            for job in &mut page.jobs {
                let agent = job.agent_id.as_ref().unwrap_or(&default_agent);
                job.effective_agent_id = Some(agent.clone());
            }
        }
        let text: Arc<str> = if params.compact == Some(true) {
            let compact: Value = page.jobs.iter().map(show::compact).collect();
            let mut page = json!(page);
            page["jobs"] = compact;
            to_json(&page).into()
        } else {
            to_json(&page).into()
        };
        gateway.cron_pages.keep(asked, commits, &text);
        Ok(Reply::kept(text))
    })
}

pub(crate) fn status(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.fits(), move |()| async move {
        let (jobs, next_wake_at_ms) = gateway
            .store
            .read(|db| {
                Ok((
                    db.count_cron_jobs(&JobFilter::default())?,
                    db.next_cron_wake()?,
                ))
            })
            .await
            .map_err(|error| error::store(&error))?;
        let enabled = gateway.scheduler.is_enabled();
        Ok(Reply::json(&Status {
            enabled,
            store_path: gateway.store.path().display().to_string(),
            jobs,
            next_wake_at_ms: next_wake_at_ms.filter(|_| enabled),
        }))
    })
}

pub(crate) fn get(call: &Call<'_>) -> Answer {
    let store = call.gateway.store.clone();
    later(call.typed::<IdParams>(), move |params| async move {
        let id = JobId::new(params.id);
        let wanted = id.clone();
        let found = store.read(move |db| db.cron_job(&wanted)).await;
        match found.map_err(|error| error::store(&error))? {
            Some(job) => Ok(Reply::json(&show::job(&job)?)),
            None => Err(unknown(&id)),
        }
    })
}

pub(crate) fn add(call: &Call<'_>) -> Answer {
    let params = call.unchecked().and_then(|params| {
        let mut params = input::added(params);
        job::known_target(&params)?;
        call.check(&params, add_shape(&params))?;
        job::settle_target(&mut params)?;
        call.parse::<job::AddParams>(params)
    });
    let gateway = Arc::clone(call.gateway);
    later(params, move |params| async move {
        let id = JobId::new(uuid::Uuid::new_v4().to_string());
        let house = House::of(&gateway);
        let Some(key) = params.declaration_key.clone() else {
            let keep = job::new(params, id.clone(), &house, now_ms())?;
            let say = |kept| Ok(Reply::json(&show::job(&kept)?));
            let said = gateway.scheduler.add_as(keep, say).await;
            return said.map_err(|error| failed(error, &id))?;
        };
        let new_id = id.clone();
        let change = Box::new(move |found: Option<&CronJob>, now: i64| {
            job::declared(params, found, new_id, &house, now)
        });
        let declared = gateway.scheduler.declare(key, change).await;
        let declared = declared.map_err(|error| failed(error, &id))?;
        Ok(Reply::json(&json!({
            "created": declared.created,
            "updated": declared.updated,
            "job": show::job(&declared.job)?,
        })))
    })
}

/// A job as `cron.add` reads it, whatever the caller left out or spelled in another way: for who
/// judges what is in it before it is added.
pub(crate) fn as_added(job: Value) -> Value {
    input::added(job)
}

/// The same for a change.
pub(crate) fn as_changed(patch: &Value) -> Value {
    input::updated(json!({"patch": patch}))["patch"].take()
}

pub(crate) fn update(call: &Call<'_>) -> Answer {
    let params = call.unchecked().and_then(|params| {
        let mut params = input::updated(params);
        let patch = params.get("patch").unwrap_or(&Value::Null);
        job::known_target(patch)?;
        call.check(&params, update_shape(&params))?;
        let mut patch = params.get_mut("patch").map(Value::take).unwrap_or_default();
        job::settle_target(&mut patch)?;
        let expected = params
            .get("expectedConfigRevision")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let params: IdParams = call.parse(params)?;
        Ok((JobId::new(params.id), patch, expected))
    });
    let gateway = Arc::clone(call.gateway);
    later(params, move |(id, patch, expected)| async move {
        let house = House::of(&gateway);
        let change = Box::new(move |job: &CronJob, now: i64| {
            job::patched(job, patch, expected.as_deref(), &house, now)
        });
        let kept = gateway.scheduler.update(id.clone(), change).await;
        Ok(Reply::json(&show::job(
            &kept.map_err(|error| failed(error, &id))?,
        )?))
    })
}

pub(crate) fn cancel(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.typed::<CancelParams>(), move |params| async move {
        let id = JobId::new(params.id);
        let run_id = params.run_id.map(RunId::new);
        let ended = gateway.scheduler.cancel(id.clone(), run_id).await;
        let ended = ended.map_err(|error| failed(error, &id))?;
        Ok(Reply::json(&Cancelled {
            ok: true,
            cancelled: ended.is_some(),
            run_id: ended.map(RunId::into_string),
        }))
    })
}

pub(crate) fn remove(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    later(call.typed::<IdParams>(), move |params| async move {
        let id = JobId::new(params.id);
        let removed = gateway.scheduler.remove(id.clone()).await;
        match removed.map_err(|error| failed(error, &id))? {
            false if dialect == Dialect::V4 => Err(unknown(&id)),
            removed => Ok(Reply::json(&json!({"ok": true, "removed": removed}))),
        }
    })
}

pub(crate) fn run(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.typed::<RunParams>(), move |params| async move {
        let id = JobId::new(params.id);
        let mode = match params.mode.as_deref() {
            Some("due") => RunMode::Due,
            _ => RunMode::Force,
        };
        let claimed = gateway.scheduler.run_now(id.clone(), mode).await;
        let reply = match claimed.map_err(|error| failed(error, &id))? {
            Ok(run_id) => json!({"ok": true, "enqueued": true, "runId": run_id}),
            Err(NotRun::Unknown) => return Err(unknown(&id)),
            Err(no @ (NotRun::AlreadyRunning | NotRun::NotDue)) => {
                json!({"ok": true, "ran": false, "reason": no.to_string()})
            }
        };
        Ok(Reply::json(&reply))
    })
}

pub(crate) fn runs(call: &Call<'_>) -> Answer {
    let params = call.typed::<RunsParams>().and_then(|mut params| {
        let id = params.id.take().or(params.job_id.take());
        let of_job = match params.scope.as_deref() {
            Some("all") => None,
            Some(_) if id.is_none() => return Err(call.invalid("missing id")),
            _ => id,
        };
        Ok((params, of_job.map(JobId::new)))
    });
    let (store, dialect) = (call.gateway.store.clone(), call.dialect());
    later(params, move |(params, of_job)| async move {
        let one = |word: Option<String>| word.filter(|word| word != "all").into_iter().collect();
        let filter = RunFilter {
            job_id: of_job.clone(),
            run_id: params.run_id.map(RunId::new),
            statuses: params.statuses.unwrap_or_else(|| one(params.status)),
            delivery_statuses: params
                .delivery_statuses
                .unwrap_or_else(|| one(params.delivery_status)),
            query: needle(params.query),
        };
        let ascending = params.sort_dir.as_deref() == Some("asc");
        let limit = params.limit.unwrap_or(PAGE).min(PAGE_MAX);
        let from = params.offset.unwrap_or(0);
        let asked = of_job.clone();
        let (runs, total, offset, known) = store
            .read(move |db| {
                let total = db.count_cron_runs(&filter)?;
                let offset = from.min(total);
                let runs = db.cron_runs(&filter, ascending, limit, offset)?;
                let known = match asked {
                    Some(id) if total == 0 => db.cron_job(&id)?.is_some(),
                    _ => true,
                };
                Ok((runs, total, offset, known))
            })
            .await
            .map_err(|error| error::store(&error))?;
        if let (false, Dialect::V4, Some(id)) = (known, dialect, &of_job) {
            return Err(unknown(id));
        }
        let end = offset + runs.len() as u64;
        Ok(Reply::json(&RunPage {
            entries: runs
                .into_iter()
                .map(|run| show::run(run, of_job.is_none()))
                .collect(),
            total,
            offset,
            limit,
            has_more: end < total,
            next_offset: (end < total).then_some(end),
        }))
    })
}

/// A query that asks for something.
fn needle(query: Option<String>) -> Option<String> {
    query
        .map(|query| query.trim().to_owned())
        .filter(|query| !query.is_empty())
}

fn unknown(id: &JobId) -> ErrorShape {
    let mut details = json!({"code": "CRON_JOB_NOT_FOUND"});
    // What is longer than any id is not given back.
    if id.as_str().len() <= 256 {
        details["jobId"] = json!(id);
    }
    ErrorShape::invalid(format!("unknown cron job id: {id}")).with_details(details)
}

fn failed(error: SchedulerError, id: &JobId) -> ErrorShape {
    match error {
        SchedulerError::Unknown => unknown(id),
        SchedulerError::Refused(refused) => *refused,
        SchedulerError::Store(error) => error::store(&error),
        SchedulerError::Stopped => {
            ErrorShape::unavailable("the gateway is stopping").retry_after(1_000)
        }
    }
}
