//! `cron`: scheduled jobs.

pub(crate) mod args;
mod build;
mod follow;
mod render;

use args::{AddArgs, CancelArgs, CronCommand, EditArgs, NextArgs, RunArgs, RunsArgs};
use build::Change;
use clawgate_protocol::cron::{
    CancelParams, Cancelled, IdParams, Job, JobPage, ListParams, RunPage, RunParams, RunsParams,
    Status,
};
use serde_json::{Value, json};

use super::{Context, SLOW_MS, call_once, read};
use crate::{
    app::ConnectArgs,
    clock,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::plain,
    session::Link,
};

/// Largest page that a gateway gives.
const PAGE_MAX: u64 = 200;

pub(crate) async fn run(context: &Context, command: CronCommand) -> CommandResult {
    match command {
        CronCommand::Add(args) => add(context, &args).await,
        CronCommand::List(args) => {
            let params = json!({"includeDisabled": args.all});
            let answer = ask(context, &args.connect, "cron.list", &params).await?;
            show(context, args.connect.json, &answer, |answer| {
                let page: JobPage = read("cron.list", answer)?;
                Ok(render::jobs(&page, args.all, clock::now_ms()))
            })
        }
        CronCommand::Show(args) => {
            let link = Link::open(context, &args.connect, SLOW_MS, &["cron.list"]).await?;
            let job = find(&link, &args.id).await?;
            link.close().await;
            show(context, args.connect.json, &job, |job| {
                Ok(render::job(&read("cron.list", job)?, clock::now_ms()))
            })
        }
        CronCommand::Edit(args) => edit(context, &args).await,
        CronCommand::Enable(args) => {
            update(
                context,
                &args.connect,
                &args.id,
                json!({"enabled": true}),
                "enabled",
            )
            .await
        }
        CronCommand::Disable(args) => {
            update(
                context,
                &args.connect,
                &args.id,
                json!({"enabled": false}),
                "disabled",
            )
            .await
        }
        CronCommand::Rm(args) => {
            let answer = remove(context, &args.connect, &args.id).await?;
            show(context, always(context, &args.connect), &answer, |answer| {
                let removed = answer["removed"] == true;
                Ok(if removed {
                    format!("removed {}", args.id)
                } else {
                    format!("there is no job {}", args.id)
                })
            })
        }
        CronCommand::Run(args) => run_now(context, &args).await,
        CronCommand::Runs(args) => runs(context, &args).await,
        CronCommand::Cancel(args) => cancel(context, &args).await,
        CronCommand::Next(args) => next(context, &args),
        CronCommand::Status(connect) => {
            let answer = ask(context, &connect, "cron.status", &json!({})).await?;
            show(context, always(context, &connect), &answer, |answer| {
                let status: Status = read("cron.status", answer)?;
                Ok(render::scheduler(&status, context.output, clock::now_ms()))
            })
        }
    }
}

async fn add(context: &Context, args: &AddArgs) -> CommandResult {
    let params = build::add(args, clock::now_ms())?;
    let methods = ["cron.add", "cron.status"];
    let link = Link::open(context, &args.connect, SLOW_MS, &methods).await?;
    let job = link.call("cron.add", Some(&params)).await?;
    if args.payload.message.is_some() && !link.opened().session.serves("agent") {
        context.output.note(
            "warning: this gateway runs no agent turns; each run is recorded as not possible",
        );
    }
    // What is declared is answered with what became of it.
    let what = match (&job["created"], &job["updated"]) {
        (Value::Bool(false), Value::Bool(true)) => "changed",
        (Value::Bool(false), Value::Bool(false)) => "already as declared",
        _ => "added",
    };
    changed(context, &args.connect, link, &job, what).await
}

async fn edit(context: &Context, args: &EditArgs) -> CommandResult {
    let (mut patch, change) = build::edit(args, clock::now_ms())?;
    let methods = ["cron.update", "cron.status", "cron.list"];
    let link = Link::open(context, &args.connect, SLOW_MS, &methods).await?;
    if change == Change::Rebuild {
        let present: Job = read("cron.list", &find(&link, &args.id).await?)?;
        let schedule = build::rebuild(&present.schedule, &args.schedule)?;
        patch.insert("schedule".to_owned(), json!(schedule));
    }
    let mut params = json!({"id": args.id, "patch": patch});
    if let Some(revision) = &args.expect_revision {
        params["expectedConfigRevision"] = revision.as_str().into();
    }
    let job = link.call("cron.update", Some(&params)).await?;
    changed(context, &args.connect, link, &job, "changed").await
}

async fn update(
    context: &Context,
    connect: &ConnectArgs,
    id: &str,
    patch: Value,
    what: &str,
) -> CommandResult {
    let link = Link::open(context, connect, SLOW_MS, &["cron.update", "cron.status"]).await?;
    let params = json!({"id": id, "patch": patch});
    let job = link.call("cron.update", Some(&params)).await?;
    changed(context, connect, link, &job, what).await
}

/// Says what a job is now, and warns on the same connection if nothing will run it.
async fn changed(
    context: &Context,
    connect: &ConnectArgs,
    link: Link,
    job: &Value,
    what: &str,
) -> CommandResult {
    let status = link.try_call("cron.status", Some(&json!({}))).await;
    link.close().await;
    let exit = show(context, always(context, connect), job, |job| {
        let job = job
            .get("job")
            .filter(|_| job.get("created").is_some())
            .unwrap_or(job);
        let text = render::job(&read("cron.update", job)?, clock::now_ms());
        Ok(format!("{what}\n{text}"))
    })?;
    // The change itself went through; a failed look at the scheduler changes nothing about that.
    if status.is_ok_and(|status| status["enabled"] == false) {
        context
            .output
            .note("warning: the scheduler is off; jobs are kept and do not run");
    }
    Ok(exit)
}

/// Removes a job. That there is none is an answer, whichever way the gateway gives it.
async fn remove(context: &Context, connect: &ConnectArgs, id: &str) -> CommandResult<Value> {
    let method = "cron.remove";
    let link = Link::open(context, connect, SLOW_MS, &[method]).await?;
    let params = json!(IdParams { id: id.to_owned() });
    let answer = match link.try_call(method, Some(&params)).await {
        Err(error) if error.detail_code() == Some("CRON_JOB_NOT_FOUND") => {
            Ok(json!({"ok": true, "removed": false}))
        }
        Err(error) => Err(link.failed(method, &error)),
        Ok(answer) => Ok(answer),
    };
    link.close().await;
    answer
}

async fn cancel(context: &Context, args: &CancelArgs) -> CommandResult {
    let params = json!(CancelParams {
        id: args.id.clone(),
        run_id: args.run_id.clone(),
    });
    let answer = ask(context, &args.connect, "cron.cancel", &params).await?;
    show(context, args.connect.json, &answer, |answer| {
        let answer: Cancelled = read("cron.cancel", answer)?;
        Ok(match answer.run_id {
            Some(run_id) => plain(&format!("{run_id} was told to end")),
            None => "no such run is under way".to_owned(),
        })
    })
}

fn next(context: &Context, args: &NextArgs) -> CommandResult {
    let preview = clawgate_gateway::preview(
        &args.expr,
        args.tz.as_deref(),
        None,
        usize::from(args.number),
    )
    .map_err(CommandError::usage)?;
    if args.connect.json {
        let slots: Vec<Value> = preview
            .slots
            .iter()
            .map(|slot| json!({"atMs": slot.at_ms, "note": slot.note}))
            .collect();
        context.output.json(&json!({
            "expr": args.expr, "timeZone": preview.time_zone, "staggerMs": preview.stagger_ms,
            "slots": slots,
        }))?;
    } else {
        context
            .output
            .line(render::preview(&preview, clock::now_ms()))?;
    }
    Ok(Exit::Ok)
}

async fn run_now(context: &Context, args: &RunArgs) -> CommandResult {
    if args.wait {
        return follow::run_and_wait(context, args).await;
    }
    let mode = if args.due { "due" } else { "force" };
    let params = json!(RunParams {
        id: args.id.clone(),
        mode: Some(mode.to_owned())
    });
    let answer = ask(context, &args.connect, "cron.run", &params).await?;
    let started = answer["ran"] == true || answer["enqueued"] == true;
    show(context, always(context, &args.connect), &answer, |answer| {
        let id = answer["runId"]
            .as_str()
            .map(|id| format!(" as {id}"))
            .unwrap_or_default();
        let reason = answer["reason"]
            .as_str()
            .unwrap_or("the gateway does not say why");
        Ok(plain(&if started {
            format!("started{id}")
        } else {
            format!("not started: {reason}")
        }))
    })?;
    Ok(if started { Exit::Ok } else { Exit::Failed })
}

async fn runs(context: &Context, args: &RunsArgs) -> CommandResult {
    let params = json!(RunsParams {
        limit: Some(u64::from(args.limit)),
        offset: Some(args.offset).filter(|offset| *offset > 0),
        id: args.id.clone().or_else(|| args.job.clone()),
        run_id: args.run_id.clone(),
        status: args.status.clone(),
        delivery_status: args.delivery_status.clone(),
        query: args.query.clone(),
        ..RunsParams::default()
    });
    if args.watch {
        return follow::watch(context, args, &params).await;
    }
    let answer = ask(context, &args.connect, "cron.runs", &params).await?;
    show(context, always(context, &args.connect), &answer, |answer| {
        let page: RunPage = read("cron.runs", answer)?;
        Ok(render::runs(&page, clock::now_ms()))
    })
}

/// A job by id, by the beginning of an id, or by its name when only one has it.
async fn find(link: &Link, wanted: &str) -> CommandResult<Value> {
    let mut close = Vec::new();
    let mut offset = 0;
    loop {
        let params = json!(ListParams {
            include_disabled: Some(true),
            limit: Some(PAGE_MAX),
            offset: Some(offset),
            ..ListParams::default()
        });
        let answer = link.call("cron.list", Some(&params)).await?;
        for job in answer["jobs"].as_array().into_iter().flatten() {
            let id = job["id"].as_str().unwrap_or_default();
            if id == wanted {
                return Ok(job.clone());
            }
            if (wanted.len() >= 4 && id.starts_with(wanted)) || job["name"] == wanted {
                close.push(job.clone());
            }
        }
        match answer["nextOffset"].as_u64() {
            Some(next) if next > offset => offset = next,
            Some(_) | None => break,
        }
    }
    let missing = |message: String| {
        Err(
            CommandError::new(Exit::Failed, "CRON_JOB_NOT_FOUND", message)
                .hint("clawgate cron list --all"),
        )
    };
    match close.len() {
        1 => Ok(close.remove(0)),
        0 => missing(format!("there is no job {wanted}")),
        many => missing(format!("{wanted} could be {many} jobs")),
    }
}

async fn ask(
    context: &Context,
    connect: &ConnectArgs,
    method: &str,
    params: &Value,
) -> CommandResult<Value> {
    call_once(context, connect, SLOW_MS, method, Some(params)).await
}

/// Whether to print JSON where the original's command always does.
fn always(context: &Context, connect: &ConnectArgs) -> bool {
    context.output.always_json(connect.json)
}

/// The payload for scripts, words for people.
fn show(
    context: &Context,
    as_json: bool,
    answer: &Value,
    words: impl FnOnce(&Value) -> CommandResult<String>,
) -> CommandResult {
    if as_json {
        context.output.json(answer)?;
    } else {
        context.output.line(words(answer)?)?;
    }
    Ok(Exit::Ok)
}
