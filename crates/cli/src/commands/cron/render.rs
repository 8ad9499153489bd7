//! Jobs and runs for people.

use clawgate_gateway::Preview;
use clawgate_protocol::cron::{Job, JobPage, Payload, RunEntry, RunPage, Schedule, Status};

use crate::{
    output::{Output, Tone, plain, table},
    words,
};

/// `cron list`.
pub(super) fn jobs(page: &JobPage, all: bool, now: i64) -> String {
    if page.jobs.is_empty() {
        let hint = if all {
            ""
        } else {
            " (--all shows disabled ones too)"
        };
        return format!("no jobs{hint}");
    }
    let rows = page
        .jobs
        .iter()
        .map(|job| {
            vec![
                job.id.clone(),
                table::cut(&job.name, 32),
                table::cut(&schedule(&job.schedule), 44),
                job.state.next_run_at_ms.map_or_else(
                    || "-".to_owned(),
                    |at| {
                        let zone = job.state.time_zone.as_deref();
                        format!("{} ({})", words::zoned(at, zone), words::relative(at, now))
                    },
                ),
                ago(job.state.last_run_at_ms, now),
                status(job).to_owned(),
                target(job),
            ]
        })
        .collect();
    let header = ["id", "name", "schedule", "next", "last", "status", "target"];
    let text = table::table(&header, &["id"], rows);
    let shown = u64::try_from(page.jobs.len()).unwrap_or(u64::MAX);
    if page.total > shown {
        return format!("{text}\n{shown} of {} jobs", page.total);
    }
    text
}

/// `cron show`, and what is said after a change.
pub(super) fn job(job: &Job, now: i64) -> String {
    let mut rows = vec![("id", job.id.clone()), ("name", job.name.clone())];
    if let Some(description) = &job.description {
        rows.push(("description", description.clone()));
    }
    rows.push(("status", status(job).to_owned()));
    rows.push(("schedule", schedule(&job.schedule)));
    if let Some(at) = job.state.next_run_at_ms {
        let zone = job.state.time_zone.as_deref();
        rows.push((
            "next",
            format!("{} ({})", words::zoned(at, zone), words::relative(at, now)),
        ));
    }
    if let Some(at) = job.state.running_at_ms {
        rows.push(("running", format!("since {}", words::moment(at, now))));
    }
    if let Some(at) = job.state.last_run_at_ms {
        let took = job
            .state
            .last_duration_ms
            .map_or_else(String::new, |ms| format!(", took {}", words::span(ms)));
        rows.push(("last", format!("{}{took}", words::moment(at, now))));
    }
    if let Some(error) = &job.state.last_error {
        let in_a_row = match job.state.consecutive_errors {
            None | Some(0) => String::new(),
            Some(times) => format!(" ({times} in a row)"),
        };
        rows.push(("error", format!("{error}{in_a_row}")));
    }
    match &job.payload {
        Payload::SystemEvent { text } => rows.push(("event", text.clone())),
        Payload::AgentTurn {
            message,
            model,
            thinking,
            timeout_seconds,
            ..
        } => {
            rows.push(("message", message.clone()));
            if let Some(model) = model {
                rows.push(("model", model.clone()));
            }
            if let Some(thinking) = thinking {
                rows.push(("thinking", thinking.clone()));
            }
            if let Some(seconds) = timeout_seconds {
                rows.push(("time limit", format!("{seconds}s")));
            }
        }
        Payload::Command {
            argv,
            cwd,
            timeout_seconds,
            ..
        } => {
            rows.push(("command", argv.join(" ")));
            if let Some(cwd) = cwd {
                rows.push(("directory", cwd.clone()));
            }
            if let Some(seconds) = timeout_seconds {
                rows.push(("time limit", format!("{seconds}s")));
            }
        }
    }
    rows.push(("target", target(job)));
    if let Some(delivery) = &job.delivery {
        let text = |name: &str| delivery[name].as_str().map(ToOwned::to_owned);
        let parts: Vec<String> = ["mode", "channel", "to"]
            .into_iter()
            .filter_map(text)
            .collect();
        rows.push(("delivery", parts.join(" ")));
    }
    if job.delete_after_run == Some(true) {
        rows.push(("afterwards", "removed".to_owned()));
    }
    table::pairs(&rows)
}

/// `cron runs`.
pub(super) fn runs(page: &RunPage, now: i64) -> String {
    if page.entries.is_empty() {
        return "no runs yet".to_owned();
    }
    let with_names = page.entries.iter().any(|run| run.job_name.is_some());
    let rows = page
        .entries
        .iter()
        .map(|run| {
            let mut row = vec![
                ago(run.run_at_ms.or(Some(run.ts)), now),
                outcome(run),
                run.duration_ms.map_or_else(|| "-".to_owned(), words::span),
            ];
            if with_names {
                let name = run.job_name.as_deref().map(|name| table::cut(name, 32));
                row.push(name.unwrap_or_else(|| run.job_id.clone()));
            }
            row.push(run.delivery_status.clone());
            let said = run
                .error
                .as_deref()
                .or(run.summary.as_deref())
                .unwrap_or_default();
            row.push(table::cut(&said.replace('\n', " "), 80));
            row
        })
        .collect();
    let mut header = vec!["when", "status", "took"];
    if with_names {
        header.push("job");
    }
    header.extend(["delivery", "said"]);
    let text = table::table(&header, &["job"], rows);
    if page.has_more {
        return format!("{text}\n{} of {} runs", page.entries.len(), page.total);
    }
    text
}

/// One run in a line.
pub(super) fn run(run: &RunEntry, now: i64) -> String {
    let at = run.run_at_ms.unwrap_or(run.ts);
    let took = run
        .duration_ms
        .map_or_else(String::new, |ms| format!(" in {}", words::span(ms)));
    let said = run.error.as_ref().or(run.summary.as_ref());
    let said = said.map_or_else(String::new, |said| format!(": {said}"));
    let id = run.run_id.as_deref().unwrap_or(&run.job_id);
    plain(
        &format!(
            "{}  {id}  {}{took}{said}",
            words::moment(at, now),
            outcome(run)
        )
        .replace('\n', " "),
    )
}

/// `cron next`.
pub(super) fn preview(preview: &Preview, now: i64) -> String {
    let rows = preview
        .slots
        .iter()
        .map(|slot| {
            vec![
                words::zoned(slot.at_ms, Some(&preview.time_zone)),
                words::relative(slot.at_ms, now),
                slot.note.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let text = table::table(&["due", "away", "note"], &["due"], rows);
    if preview.stagger_ms == 0 {
        return text;
    }
    format!(
        "{text}\njobs of this expression are spread over {} by their id; --exact keeps them on time",
        words::span(preview.stagger_ms)
    )
}

/// `cron status`.
pub(super) fn scheduler(status: &Status, output: Output, now: i64) -> String {
    let state = if status.enabled {
        output.paint(Tone::Good, "on")
    } else {
        output.paint(Tone::Warn, "off: jobs are kept and do not run")
    };
    let next = status
        .next_wake_at_ms
        .map_or_else(|| "nothing".to_owned(), |at| words::moment(at, now));
    let rows = table::pairs(&[
        ("jobs", status.jobs.to_string()),
        ("next", next),
        ("kept in", status.store_path.clone()),
    ]);
    format!("scheduler {state}\n{rows}")
}

/// A schedule in a few words.
pub(super) fn schedule(schedule: &Schedule) -> String {
    match schedule {
        Schedule::At { at } => {
            let at = at
                .parse::<jiff::Timestamp>()
                .map(jiff::Timestamp::as_millisecond);
            at.map_or_else(
                |_| "once".to_owned(),
                |at| format!("at {}", words::local(at)),
            )
        }
        Schedule::Every { every_ms, .. } => format!("every {}", words::span(*every_ms)),
        Schedule::Cron {
            expr,
            tz,
            stagger_ms,
        } => {
            let zone = tz.as_ref().map(|tz| format!(" @ {tz}")).unwrap_or_default();
            let spread = match stagger_ms {
                Some(0) => " (exact)".to_owned(),
                Some(ms) => format!(" (spread {})", words::span(*ms)),
                None => String::new(),
            };
            format!("cron {expr}{zone}{spread}")
        }
    }
}

fn status(job: &Job) -> &str {
    if !job.enabled {
        "disabled"
    } else if job.state.running_at_ms.is_some() {
        "running"
    } else {
        let last = job
            .state
            .last_run_status
            .as_deref()
            .or(job.state.last_status.as_deref());
        last.unwrap_or("idle")
    }
}

fn outcome(run: &RunEntry) -> String {
    match run.verdict.as_deref() {
        None | Some("ran") => run.status.clone(),
        Some(verdict) => format!("{} ({verdict})", run.status),
    }
}

fn target(job: &Job) -> String {
    match &job.agent_id {
        Some(agent) => format!("{} {agent}", job.session_target),
        None => job.session_target.clone(),
    }
}

fn ago(at: Option<i64>, now: i64) -> String {
    at.map_or_else(|| "-".to_owned(), |at| words::relative(at, now))
}
