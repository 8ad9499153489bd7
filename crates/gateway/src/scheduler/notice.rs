//! Who is told of a run's end: a job's delivery and alerts, read into targets, and what is sent.

use clawgate_core::{
    JobId, RunId,
    cron::{Outcome, Settle},
    delivery::{AlertPolicy, AlertState, Purpose, alert},
};
use clawgate_protocol::{
    cron::{CronEvent, Job},
    frame::to_json,
};
use clawgate_store::{Delivery, Ending, Settled, SettledJob, StoreError, Tx};
use serde::Serialize;
use serde_json::Value;

use super::{batch, run};

/// Characters of an error inside an alert.
const ALERT_ERROR_MAX: usize = 200;
/// Why an announcement reaches nobody.
pub(crate) const NO_CHANNEL: &str = "announce has nowhere to go: this gateway has no chat channel; deliver by webhook, or not at all";

/// `cron.failureAlert` and `cron.failureDestination`: what jobs have that say nothing themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    /// `None` = no alerts but for jobs that ask for them.
    pub alert: Option<AlertPolicy>,
    /// Where alerts go whose job names no place.
    pub alert_url: Option<String>,
    /// Where failures go whose job names no place.
    pub failure_url: Option<String>,
}

/// Where a job's results and failures go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// The result of every run.
    pub result: Route,
    /// Failures, beside the result.
    pub failure: Option<String>,
    /// Failures in a row.
    pub alert: Option<(AlertPolicy, String)>,
}

/// Where results go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nobody asked.
    #[default]
    None,
    /// To a web address.
    Webhook(String),
    /// To a chat that does not exist here.
    Unreachable,
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value
        .get(key)?
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

/// A web address, where the mode says that it is one.
fn webhook(value: &Value) -> Option<String> {
    (text(value, "mode") == Some("webhook")).then(|| text(value, "to").map(str::to_owned))?
}

/// Reads a job's targets.
pub(crate) fn routes(job: &Job, defaults: &Defaults) -> Routes {
    let delivery = job.delivery.as_ref().unwrap_or(&Value::Null);
    let best_effort = delivery.get("bestEffort") == Some(&Value::Bool(true));
    let result = match text(delivery, "mode") {
        Some("webhook") => webhook(delivery).map_or(Route::Unreachable, Route::Webhook),
        Some("announce") => Route::Unreachable,
        _ => Route::None,
    };
    let failure = match delivery.get("failureDestination") {
        Some(own) => webhook(own),
        None => defaults.failure_url.clone(),
    };
    // Who gets the result gets the failure with it.
    let failure = failure
        .filter(|url| !best_effort && !matches!(&result, Route::Webhook(same) if same == url));
    let alert = match &job.failure_alert {
        Some(Value::Bool(false)) => None,
        Some(own) => Some(AlertPolicy {
            after: own
                .get("after")
                .and_then(Value::as_u64)
                .and_then(|after| u32::try_from(after).ok())
                .unwrap_or_else(|| defaults.alert.unwrap_or_default().after),
            cooldown_ms: own
                .get("cooldownMs")
                .and_then(Value::as_i64)
                .unwrap_or_else(|| defaults.alert.unwrap_or_default().cooldown_ms),
        }),
        None => defaults.alert,
    };
    let alert_url = job
        .failure_alert
        .as_ref()
        .and_then(webhook)
        .or_else(|| defaults.alert_url.clone())
        .or_else(|| webhook(delivery));
    Routes {
        result,
        failure,
        alert: alert.zip(alert_url).filter(|_| !best_effort),
    }
}

/// What is known of a run's job when it ends.
pub(super) struct Notices {
    job: Option<(Job, SettledJob)>,
    routes: Routes,
}

impl Notices {
    /// Reads the job as it is now, before the settlement that may remove it.
    pub(super) fn read(
        tx: &Tx<'_>,
        job_id: &JobId,
        defaults: &Defaults,
    ) -> Result<Self, StoreError> {
        let job = tx
            .settled_job(job_id)?
            .and_then(|settled| Some((run::parse(&settled.definition).ok()?, settled)));
        let routes = job
            .as_ref()
            .map(|(job, _)| routes(job, defaults))
            .unwrap_or_default();
        Ok(Self { job, routes })
    }

    /// How the delivery of the result stands at the settlement.
    pub(super) fn mark(&self, ending: &mut Ending) {
        let (status, error) = match self.routes.result {
            Route::None => ("not-requested", None),
            // Known once the outbox has tried.
            Route::Webhook(_) => ("unknown", None),
            Route::Unreachable => ("not-delivered", Some(NO_CHANNEL.to_owned())),
        };
        ending.delivery_status = Some(status.to_owned());
        ending.delivery_error = error;
    }

    /// Queues what is to be sent, in the transaction of the settlement. Whether there is anything.
    pub(super) fn queue(
        &self,
        tx: &Tx<'_>,
        settle: &Settle,
        ending: &Ending,
        settled: &Settled,
    ) -> Result<bool, StoreError> {
        let Some((job, before)) = &self.job else {
            return Ok(false);
        };
        let mut queued = false;
        let mut send = |purpose: Purpose, url: &str, body: String| {
            queued = true;
            tx.queue_delivery(&delivery(settle, &settled.run_id, purpose, url, body))
        };
        let event = batch::finished(settle, ending, settled);
        if let Route::Webhook(url) = &self.routes.result {
            send(Purpose::Result, url, to_json(&event))?;
        }
        let failed = matches!(settle.outcome, Outcome::Failed(_) | Outcome::Interrupted);
        if let Some(url) = self.routes.failure.as_ref().filter(|_| failed) {
            send(Purpose::Failure, url, failure(job, &event))?;
        }
        let errors = settle
            .state
            .as_ref()
            .map_or(0, |state| state.consecutive_errors);
        let state = AlertState {
            alerted_at_ms: before.alerted_at_ms,
            open: before.alert_open,
        };
        let policy = self.routes.alert.as_ref().map(|(policy, _)| *policy);
        let decided = alert(policy, state, settle.outcome, errors, settle.ended_at_ms);
        if let (Some(purpose), Some((_, url))) = (decided.say, &self.routes.alert) {
            send(purpose, url, incident(job, purpose, errors, ending))?;
        }
        if decided.state != state && !settle.delete {
            let AlertState {
                alerted_at_ms,
                open,
            } = decided.state;
            tx.set_alert(settle.job_id.as_str(), alerted_at_ms, open)?;
        }
        Ok(queued)
    }
}

fn delivery(
    settle: &Settle,
    run_id: &RunId,
    purpose: Purpose,
    url: &str,
    body: String,
) -> Delivery {
    Delivery {
        id: format!("{run_id}:{}", purpose.as_str()),
        purpose,
        job_id: settle.job_id.clone(),
        run_id: run_id.clone(),
        url: url.to_owned(),
        body,
        attempts: 0,
        created_at_ms: settle.ended_at_ms,
    }
}

/// What a place for failures gets (`cron.md` 1.4); `runId` is ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    job_id: &'a str,
    job_name: &'a str,
    message: String,
    status: &'a Option<String>,
    error: &'a Option<String>,
    run_at_ms: Option<i64>,
    duration_ms: Option<i64>,
    next_run_at_ms: Option<i64>,
    run_id: &'a Option<String>,
}

fn failure(job: &Job, event: &CronEvent) -> String {
    let error = event.error.as_deref().unwrap_or("unknown error");
    to_json(&Failure {
        job_id: &job.id,
        job_name: &job.name,
        message: format!("Cron job \"{}\" failed: {error}", job.name),
        status: &event.status,
        error: &event.error,
        run_at_ms: event.run_at_ms,
        duration_ms: event.duration_ms,
        next_run_at_ms: event.next_run_at_ms,
        run_id: &event.run_id,
    })
}

/// What a place for alerts gets (`cron.md` 1.5); `kind` and `consecutiveErrors` are ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Incident<'a> {
    job_id: &'a str,
    job_name: &'a str,
    message: String,
    kind: &'static str,
    consecutive_errors: u32,
}

fn incident(job: &Job, purpose: Purpose, errors: u32, ending: &Ending) -> String {
    let message = if purpose == Purpose::Recovery {
        format!("Cron job \"{}\" works again", job.name)
    } else {
        let error: String = ending
            .error
            .as_deref()
            .unwrap_or("unknown error")
            .chars()
            .take(ALERT_ERROR_MAX)
            .collect();
        format!(
            "Cron job \"{}\" failed {errors} times\nLast error: {error}",
            job.name
        )
    };
    to_json(&Incident {
        job_id: &job.id,
        job_name: &job.name,
        message,
        kind: purpose.as_str(),
        consecutive_errors: errors,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(extra: &Value) -> Job {
        let mut job = json!({
            "id": "j", "name": "n", "enabled": true, "createdAtMs": 0, "updatedAtMs": 0,
            "schedule": {"kind": "every", "everyMs": 1}, "sessionTarget": "isolated",
            "wakeMode": "now", "payload": {"kind": "command", "argv": ["true"]},
        });
        for (key, value) in extra.as_object().unwrap() {
            job[key] = value.clone();
        }
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_job_says_where_its_results_and_failures_go() {
        let defaults = Defaults::default();
        assert_eq!(routes(&job(&json!({})), &defaults), Routes::default());
        let announced = routes(
            &job(&json!({"delivery": {"mode": "announce", "channel": "last"}})),
            &defaults,
        );
        assert_eq!(announced.result, Route::Unreachable);
        let hooked = routes(
            &job(&json!({
                "delivery": {"mode": "webhook", "to": "http://a/",
                    "failureDestination": {"mode": "webhook", "to": "http://b/"}},
                "failureAlert": {"mode": "webhook", "to": "http://c/", "after": 3},
            })),
            &defaults,
        );
        assert_eq!(hooked.result, Route::Webhook("http://a/".to_owned()));
        assert_eq!(hooked.failure.as_deref(), Some("http://b/"));
        let (policy, url) = hooked.alert.unwrap();
        assert_eq!((policy.after, policy.cooldown_ms), (3, 3_600_000));
        assert_eq!(url, "http://c/");
    }

    #[test]
    fn an_alert_without_a_place_goes_where_the_results_go() {
        let alerted = routes(
            &job(&json!({"delivery": {"mode": "webhook", "to": "http://a/"},
                "failureAlert": {"after": 3}})),
            &Defaults::default(),
        );
        assert_eq!(alerted.alert.unwrap().1, "http://a/");
        let nowhere = routes(
            &job(&json!({"failureAlert": {"after": 3}})),
            &Defaults::default(),
        );
        assert_eq!(nowhere.alert, None);
    }

    #[test]
    fn what_a_job_leaves_open_comes_from_the_configuration() {
        let defaults = Defaults {
            alert: Some(AlertPolicy {
                after: 5,
                cooldown_ms: 9,
            }),
            alert_url: Some("http://alerts/".to_owned()),
            failure_url: Some("http://failures/".to_owned()),
        };
        let plain = routes(&job(&json!({})), &defaults);
        assert_eq!(plain.failure.as_deref(), Some("http://failures/"));
        assert_eq!(plain.alert.unwrap().0.after, 5);
        let off = routes(&job(&json!({"failureAlert": false})), &defaults);
        assert_eq!(off.alert, None);
        let careless = routes(
            &job(&json!({"delivery": {"mode": "none", "bestEffort": true}})),
            &defaults,
        );
        assert_eq!((careless.failure, careless.alert), (None, None));
        let same = routes(
            &job(&json!({"delivery": {"mode": "webhook", "to": "http://failures/"}})),
            &defaults,
        );
        assert_eq!(same.failure, None, "the result says it already");
    }
}
