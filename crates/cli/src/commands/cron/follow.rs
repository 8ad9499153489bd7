//! Runs as they happen: `cron run --wait` and `cron runs --watch`.

use std::time::Duration;

use clawgate_protocol::cron::{CronEvent, RunEntry, RunPage, RunParams, RunsParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    SLOW_MS, always,
    args::{RunArgs, RunsArgs},
    read, render, show,
};
use crate::{
    clock,
    commands::Context,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{plain, reader_gone},
    session::Link,
    words,
};

/// Starts a run and waits until it has ended; its record is the answer.
pub(super) async fn run_and_wait(context: &Context, args: &RunArgs) -> CommandResult {
    let within = words::parse_span(&args.wait_timeout)
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis)
        .ok_or_else(|| {
            CommandError::usage(format!("--wait-timeout {:?} is no span", args.wait_timeout))
                .hint("--wait-timeout 10m, with ms, s, m, h or d")
        })?;
    let methods = ["cron.run", "cron.runs"];
    let mut link = Link::open(context, &args.connect, SLOW_MS, &methods).await?;
    let params = json!(RunParams {
        id: args.id.clone(),
        mode: Some(if args.due { "due" } else { "force" }.to_owned()),
    });
    let answer = link.call("cron.run", Some(&params)).await?;
    let Some(run_id) = answer["runId"].as_str().map(str::to_owned) else {
        link.close().await;
        show(context, always(context, &args.connect), &answer, |answer| {
            let reason = answer["reason"].as_str().unwrap_or("no reason given");
            Ok(plain(&format!("not started: {reason}")))
        })?;
        return Ok(Exit::Failed);
    };
    if !always(context, &args.connect) {
        context
            .output
            .note(format!("started as {run_id}; waiting for its end"));
    }
    let ended = async {
        loop {
            let event = link.next_cron_event().await?;
            // A gateway of the original has no run ids; there the job's next end is this one.
            let is_it = match &event.run_id {
                Some(id) => *id == run_id,
                None => event.job_id == args.id,
            };
            if event.action == "finished" && is_it {
                return Some(event);
            }
        }
    };
    let event = match timeout(within, ended).await {
        Ok(Some(event)) => event,
        Ok(None) => {
            return Err(CommandError::new(
                Exit::Unreachable,
                "GATEWAY_GONE",
                "the gateway went away before the run ended",
            )
            .hint(format!("clawgate cron runs {} --run-id {run_id}", args.id)));
        }
        Err(_) => {
            link.close().await;
            return Err(CommandError::new(
                Exit::Failed,
                "WAIT_TIMEOUT",
                format!("the run goes on after {}", args.wait_timeout),
            )
            .hint(format!("clawgate cron runs {} --run-id {run_id}", args.id))
            .hint(format!("clawgate cron cancel {}", args.id)));
        }
    };
    let params = json!(RunsParams {
        id: Some(args.id.clone()),
        run_id: event.run_id.clone(),
        limit: Some(1),
        ..RunsParams::default()
    });
    let answer = link.call("cron.runs", Some(&params)).await?;
    link.close().await;
    let entry = answer["entries"][0].clone();
    let ok = event.status.as_deref() == Some("ok");
    show(context, always(context, &args.connect), &entry, |entry| {
        let entry: RunEntry = read("cron.runs", entry)?;
        Ok(render::run(&entry, clock::now_ms()))
    })?;
    Ok(if ok { Exit::Ok } else { Exit::Failed })
}

/// Shows a page of the history, then every event about runs, until Ctrl-C.
pub(super) async fn watch(context: &Context, args: &RunsArgs, params: &Value) -> CommandResult {
    tokio::select! {
        ended = follow(context, args, params) => ended,
        () = reader_gone() => Ok(Exit::Ok),
    }
}

async fn follow(context: &Context, args: &RunsArgs, params: &Value) -> CommandResult {
    let json = always(context, &args.connect);
    let mut link = Link::open(context, &args.connect, SLOW_MS, &["cron.runs"]).await?;
    let answer = link.call("cron.runs", Some(params)).await?;
    let page: RunPage = read("cron.runs", &answer)?;
    // Oldest first, as what follows.
    for entry in page.entries.iter().rev() {
        if json {
            context.output.json_line(&json!(entry))?;
        } else {
            context.output.line(render::run(entry, clock::now_ms()))?;
        }
    }
    let only = args.id.as_ref().or(args.job.as_ref());
    while let Some(event) = link.next_cron_event().await {
        let is_run = matches!(event.action.as_str(), "started" | "finished" | "delivery");
        if !is_run || only.is_some_and(|id| *id != event.job_id) {
            continue;
        }
        if json {
            context.output.json_line(&json!(event))?;
        } else {
            context.output.line(event_words(&event))?;
        }
    }
    Err(
        CommandError::new(Exit::Unreachable, "GATEWAY_GONE", "the gateway went away")
            .hint("clawgate gateway status"),
    )
}

fn event_words(event: &CronEvent) -> String {
    let what = match event.action.as_str() {
        "finished" => {
            let took = event
                .duration_ms
                .map_or_else(String::new, |ms| format!(" in {}", words::span(ms)));
            let said = event.error.as_ref().or(event.summary.as_ref());
            let said = said.map_or_else(String::new, |said| format!(": {said}"));
            format!("{}{took}{said}", event.status.as_deref().unwrap_or("ended"))
        }
        "delivery" => {
            let why = event.delivery_error.as_ref();
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!(
                "{}{why}",
                event.delivery_status.as_deref().unwrap_or("sent")
            )
        }
        other => other.to_owned(),
    };
    let run = event.run_id.as_deref().unwrap_or(&event.job_id);
    plain(&format!("{}  {run}  {what}", words::local(clock::now_ms())).replace('\n', " "))
}
