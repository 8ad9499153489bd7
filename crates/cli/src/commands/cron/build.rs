//! From options to params: what is wrong is said here, before any connection.

use clawgate_protocol::cron::Schedule;
use serde_json::{Map, Value, json};

use super::args::{AddArgs, AlertArgs, DeliveryArgs, EditArgs, PayloadArgs, ScheduleArgs};
use crate::{
    error::{CommandError, CommandResult},
    words,
};

/// Params of `cron.add`, keys in the original's order.
pub(super) fn add(args: &AddArgs, now_ms: i64) -> CommandResult<Value> {
    let schedule = schedule(&args.schedule, now_ms)?.ok_or_else(|| {
        CommandError::usage("a job needs a schedule: exactly one of --at, --every and --cron")
    })?;
    let kinds = [
        args.payload.system_event.is_some(),
        args.payload.message.is_some(),
        !args.payload.argv.is_empty(),
    ];
    if kinds.into_iter().filter(|given| *given).count() != 1 {
        return Err(CommandError::usage(
            "a job needs a payload: exactly one of --system-event, --message and -- PROGRAM",
        ));
    }
    let is_event = kinds[0];
    let session = args
        .session
        .as_deref()
        .unwrap_or(if is_event { "main" } else { "isolated" });
    if is_event != (session == "main") {
        let fix = if is_event {
            "--system-event goes with --session main"
        } else {
            "--message and -- PROGRAM go with another session than main"
        };
        return Err(
            CommandError::usage(format!("--session {session} does not fit the payload")).hint(fix),
        );
    }
    let webhook_alone = DeliveryArgs {
        webhook: args.delivery.webhook.clone(),
        failure_webhook: args.delivery.failure_webhook.clone(),
        ..DeliveryArgs::default()
    };
    if is_event && args.delivery != webhook_alone {
        return Err(CommandError::usage(
            "a system event is delivered by --webhook or not at all",
        ));
    }
    let mut params = Map::new();
    params.insert("name".to_owned(), named(&args.name)?.into());
    set(&mut params, "description", args.description.clone());
    set(&mut params, "agentId", args.agent.clone());
    set(&mut params, "sessionKey", args.session_key.clone());
    params.insert("enabled".to_owned(), (!args.disabled).into());
    set(
        &mut params,
        "deleteAfterRun",
        either(args.delete_after_run, args.keep_after_run),
    );
    params.insert("schedule".to_owned(), json!(schedule));
    params.insert("sessionTarget".to_owned(), session.into());
    params.insert("wakeMode".to_owned(), args.wake.clone().into());
    let payload = payload(&args.payload, either(args.payload.light_context, false))?;
    params.insert("payload".to_owned(), payload.unwrap_or_default());
    // Without a word about it the gateway decides: one with channels announces, one without keeps.
    if args.delivery != DeliveryArgs::default() {
        let best_effort = either(args.delivery.best_effort_deliver, false);
        let mut delivery = delivery(&args.delivery, best_effort);
        let mode = match &args.delivery {
            DeliveryArgs {
                no_deliver: true, ..
            } => "none",
            DeliveryArgs {
                webhook: Some(_), ..
            } => "webhook",
            DeliveryArgs {
                announce: false,
                deliver: false,
                channel: None,
                to: None,
                account: None,
                ..
            } => "none",
            _ => "announce",
        };
        delivery.entry("mode").or_insert_with(|| mode.into());
        // The original names the channel even where nothing is delivered.
        if mode == "announce" || args.delivery.no_deliver {
            delivery.entry("channel").or_insert_with(|| "last".into());
        }
        params.insert("delivery".to_owned(), ordered_delivery(delivery));
    }
    if let Some(alert) = alert(&args.alert)? {
        params.insert("failureAlert".to_owned(), alert);
    }
    set(&mut params, "declarationKey", args.declaration_key.clone());
    set(&mut params, "displayName", args.display_name.clone());
    policies(&mut params, &args.schedule)?;
    Ok(Value::Object(params))
}

/// What an edit changes; the schedule is [`Change::Rebuild`] when the present one is needed.
pub(super) fn edit(args: &EditArgs, now_ms: i64) -> CommandResult<(Map<String, Value>, Change)> {
    let mut patch = Map::new();
    if let Some(name) = &args.name {
        patch.insert("name".to_owned(), named(name)?.into());
    }
    set(&mut patch, "description", args.description.clone());
    set(&mut patch, "enabled", either(args.enable, args.disable));
    set(
        &mut patch,
        "deleteAfterRun",
        either(args.delete_after_run, args.keep_after_run),
    );
    set(&mut patch, "sessionTarget", args.session.clone());
    set_or_clear(&mut patch, "agentId", args.agent.as_ref(), args.clear_agent);
    set_or_clear(
        &mut patch,
        "sessionKey",
        args.session_key.as_ref(),
        args.clear_session_key,
    );
    set(&mut patch, "wakeMode", args.wake.clone());
    let change = match schedule(&args.schedule, now_ms)? {
        Some(schedule) => {
            patch.insert("schedule".to_owned(), json!(schedule));
            Change::Given
        }
        None if cron_details(&args.schedule) => Change::Rebuild,
        None => Change::Given,
    };
    let light = either(args.payload.light_context, args.no_light_context);
    if let Some(payload) = payload(&args.payload, light)? {
        patch.insert("payload".to_owned(), payload);
    }
    let best_effort = either(
        args.delivery.best_effort_deliver,
        args.no_best_effort_deliver,
    );
    let mut delivery = delivery(&args.delivery, best_effort);
    if args.delivery.no_deliver {
        delivery.insert("mode".to_owned(), "none".into());
    } else if args.delivery.webhook.is_some() {
        delivery.insert("mode".to_owned(), "webhook".into());
    } else if args.delivery.announce || args.delivery.deliver {
        delivery.insert("mode".to_owned(), "announce".into());
    }
    if !delivery.is_empty() {
        patch.insert("delivery".to_owned(), ordered_delivery(delivery));
    }
    if let Some(alert) = alert(&args.alert)? {
        patch.insert("failureAlert".to_owned(), alert);
    }
    set(&mut patch, "displayName", args.display_name.clone());
    policies(&mut patch, &args.schedule)?;
    Ok((patch, change))
}

/// Where an edit's schedule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// From the options alone, if it changes at all.
    Given,
    /// From the job's present one and the options.
    Rebuild,
}

/// The present cron schedule with `--tz`, `--stagger` or `--exact` put in.
pub(super) fn rebuild(present: &Schedule, args: &ScheduleArgs) -> CommandResult<Schedule> {
    let Schedule::Cron {
        expr,
        tz,
        stagger_ms,
    } = present
    else {
        return Err(
            CommandError::usage("--tz, --stagger and --exact go with a cron schedule")
                .hint("give the job one: --cron EXPR"),
        );
    };
    Ok(Schedule::Cron {
        expr: expr.clone(),
        tz: args.tz.clone().or_else(|| tz.clone()),
        stagger_ms: stagger(args)?.or(*stagger_ms),
    })
}

fn schedule(args: &ScheduleArgs, now_ms: i64) -> CommandResult<Option<Schedule>> {
    let given = [&args.at, &args.every, &args.cron]
        .into_iter()
        .flatten()
        .count();
    if given > 1 {
        return Err(CommandError::usage(
            "a job has one schedule: exactly one of --at, --every and --cron",
        ));
    }
    if given == 1 && args.cron.is_none() && cron_details(args) {
        return Err(CommandError::usage(
            "--tz, --stagger and --exact go with --cron",
        ));
    }
    if let Some(at) = &args.at {
        let moment = words::parse_moment(at, now_ms).ok_or_else(|| {
            CommandError::usage(format!("--at {at:?} is neither an ISO time nor a span"))
                .hint("--at 2026-12-01T09:00:00Z, or --at 20m for 20 minutes from now")
        })?;
        return Ok(Some(Schedule::At {
            at: words::wire_moment(moment),
        }));
    }
    if let Some(every) = &args.every {
        let every_ms = span("--every", every)?;
        return Ok(Some(Schedule::Every {
            every_ms,
            anchor_ms: None,
        }));
    }
    let Some(expr) = &args.cron else {
        return Ok(None);
    };
    Ok(Some(Schedule::Cron {
        expr: expr.clone(),
        tz: args.tz.clone(),
        stagger_ms: stagger(args)?,
    }))
}

fn cron_details(args: &ScheduleArgs) -> bool {
    args.tz.is_some() || args.stagger.is_some() || args.exact
}

fn stagger(args: &ScheduleArgs) -> CommandResult<Option<i64>> {
    if args.exact {
        return Ok(Some(0));
    }
    args.stagger
        .as_deref()
        .map(|text| span("--stagger", text))
        .transpose()
}

fn span(option: &str, text: &str) -> CommandResult<i64> {
    words::parse_span(text).ok_or_else(|| {
        CommandError::usage(format!("{option} {text:?} is no span"))
            .hint(format!("{option} 10m, with ms, s, m, h or d"))
    })
}

/// What happens to slots that passed, that meet a run, or that keep failing.
fn policies(job: &mut Map<String, Value>, args: &ScheduleArgs) -> CommandResult<()> {
    if let Some(text) = &args.catch_up {
        let mut policy = Map::new();
        let (mode, max) = match text.split_once(':') {
            None => (text.as_str(), None),
            Some((mode, max)) => (mode, Some(max)),
        };
        let max = max.map(str::parse::<u32>).transpose().ok();
        match (mode, max) {
            ("none" | "latest", Some(None)) => {}
            ("all", Some(max)) => set(&mut policy, "max", max),
            _ => {
                return Err(
                    CommandError::usage(format!("--catch-up {text:?} is no policy"))
                        .hint("--catch-up none, latest, all or all:N"),
                );
            }
        }
        policy.insert("mode".to_owned(), mode.into());
        if let Some(age) = &args.catch_up_max_age {
            policy.insert(
                "maxAgeMs".to_owned(),
                span("--catch-up-max-age", age)?.into(),
            );
        }
        job.insert("catchUp".to_owned(), Value::Object(policy));
    }
    set(job, "overlap", args.overlap.clone());
    match args.disable_after.as_deref() {
        None => {}
        Some("never") => {
            job.insert("disableAfter".to_owned(), false.into());
        }
        Some(text) => {
            let after: u32 = text.parse().map_err(|_| {
                CommandError::usage(format!("--disable-after {text:?} is no number"))
                    .hint("--disable-after 10, or never")
            })?;
            job.insert("disableAfter".to_owned(), after.into());
        }
    }
    Ok(())
}

/// A program as a payload.
fn program(args: &PayloadArgs) -> CommandResult<Map<String, Value>> {
    let mut payload = Map::new();
    payload.insert("kind".to_owned(), "command".into());
    if !args.argv.is_empty() {
        payload.insert("argv".to_owned(), json!(args.argv));
    }
    set(&mut payload, "cwd", args.cwd.clone());
    if !args.env.is_empty() {
        let mut env = Map::new();
        for pair in &args.env {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| CommandError::usage(format!("--env {pair:?} is not NAME=VALUE")))?;
            env.insert(name.to_owned(), value.into());
        }
        payload.insert("env".to_owned(), Value::Object(env));
    }
    set(&mut payload, "input", args.input.clone());
    set(
        &mut payload,
        "timeoutSeconds",
        number(args.timeout_seconds.as_ref()),
    );
    set(
        &mut payload,
        "noOutputTimeoutSeconds",
        number(args.no_output_timeout_seconds.as_ref()),
    );
    set(&mut payload, "outputMaxBytes", args.output_max_bytes);
    Ok(payload)
}

fn number(seconds: Option<&serde_json::Number>) -> Option<Value> {
    seconds.cloned().map(Value::Number)
}

fn payload(args: &PayloadArgs, light_context: Option<bool>) -> CommandResult<Option<Value>> {
    let programs = !args.argv.is_empty()
        || args.cwd.is_some()
        || !args.env.is_empty()
        || args.input.is_some()
        || args.no_output_timeout_seconds.is_some()
        || args.output_max_bytes.is_some();
    if programs {
        let others = args.system_event.is_some()
            || args.message.is_some()
            || args.model.is_some()
            || args.thinking.is_some()
            || light_context.is_some();
        if others {
            return Err(CommandError::usage(
                "a program goes without the options of events and agents",
            ));
        }
        return program(args).map(|payload| Some(Value::Object(payload)));
    }
    let turns = args.message.is_some()
        || args.model.is_some()
        || args.thinking.is_some()
        || args.timeout_seconds.is_some()
        || light_context.is_some();
    if let Some(text) = &args.system_event {
        if turns {
            return Err(
                CommandError::usage("--system-event goes without the agent's options")
                    .hint("exactly one of --system-event and --message"),
            );
        }
        return Ok(Some(json!({"kind": "systemEvent", "text": text})));
    }
    if !turns {
        return Ok(None);
    }
    let mut payload = Map::new();
    payload.insert("kind".to_owned(), "agentTurn".into());
    set(&mut payload, "message", args.message.clone());
    set(&mut payload, "model", args.model.clone());
    set(&mut payload, "thinking", args.thinking.clone());
    set(
        &mut payload,
        "timeoutSeconds",
        number(args.timeout_seconds.as_ref()),
    );
    set(&mut payload, "lightContext", light_context);
    Ok(Some(Value::Object(payload)))
}

fn delivery(args: &DeliveryArgs, best_effort: Option<bool>) -> Map<String, Value> {
    let mut delivery = Map::new();
    set(&mut delivery, "channel", args.channel.clone());
    set(&mut delivery, "to", args.to.clone());
    set(&mut delivery, "accountId", args.account.clone());
    set(&mut delivery, "bestEffort", best_effort);
    set(&mut delivery, "to", args.webhook.clone());
    if let Some(url) = &args.failure_webhook {
        delivery.insert(
            "failureDestination".to_owned(),
            json!({"mode": "webhook", "to": url}),
        );
    }
    delivery
}

/// Mode first, as the original sends it.
fn ordered_delivery(mut delivery: Map<String, Value>) -> Value {
    let mut ordered = Map::new();
    for name in [
        "mode",
        "channel",
        "to",
        "accountId",
        "bestEffort",
        "failureDestination",
    ] {
        if let Some(value) = delivery.remove(name) {
            ordered.insert(name.to_owned(), value);
        }
    }
    Value::Object(ordered)
}

fn alert(args: &AlertArgs) -> CommandResult<Option<Value>> {
    let mut alert = Map::new();
    set(&mut alert, "after", args.failure_alert_after);
    set(&mut alert, "channel", args.failure_alert_channel.clone());
    set(&mut alert, "to", args.failure_alert_to.clone());
    if let Some(cooldown) = &args.failure_alert_cooldown {
        alert.insert(
            "cooldownMs".to_owned(),
            span("--failure-alert-cooldown", cooldown)?.into(),
        );
    }
    set(&mut alert, "mode", args.failure_alert_mode.clone());
    set(
        &mut alert,
        "accountId",
        args.failure_alert_account_id.clone(),
    );
    if args.no_failure_alert {
        if !alert.is_empty() {
            return Err(CommandError::usage(
                "--no-failure-alert goes without the alert's options",
            ));
        }
        return Ok(Some(Value::Bool(false)));
    }
    Ok((args.failure_alert || !alert.is_empty()).then_some(Value::Object(alert)))
}

fn named(name: &str) -> CommandResult<&str> {
    let name = name.trim();
    if name.is_empty() {
        return Err(CommandError::usage("--name is blank"));
    }
    Ok(name)
}

fn set(to: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        to.insert(name.to_owned(), value.into());
    }
}

fn set_or_clear(to: &mut Map<String, Value>, name: &str, value: Option<&String>, clear: bool) {
    if clear {
        to.insert(name.to_owned(), Value::Null);
    } else {
        set(to, name, value.cloned());
    }
}

fn either(yes: bool, no: bool) -> Option<bool> {
    match (yes, no) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}
