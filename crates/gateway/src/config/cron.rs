//! `cron`: places, retries, and who is told of failures.

use clawgate_core::{
    cron::Ladder,
    delivery::{AlertPolicy, DialPolicy},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::look::Look;
use crate::{outbound::check_url, scheduler::Defaults};

/// `cron`.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    pub enabled: bool,
    pub max_concurrent_runs: usize,
    pub ladder: Ladder,
    /// Sent with every webhook.
    pub webhook_token: Option<SecretString>,
    pub dial: DialPolicy,
    pub notices: Defaults,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        let secret = |cron: &Self| {
            let token = cron.webhook_token.as_ref();
            token.map(|token| token.expose_secret().to_owned())
        };
        self.enabled == other.enabled
            && self.max_concurrent_runs == other.max_concurrent_runs
            && self.ladder == other.ladder
            && self.dial == other.dial
            && self.notices == other.notices
            && secret(self) == secret(other)
    }
}

impl Default for Cron {
    fn default() -> Self {
        Self {
            enabled: true,
            max_concurrent_runs: 8,
            ladder: Ladder::default(),
            webhook_token: None,
            dial: DialPolicy::default(),
            notices: Defaults::default(),
        }
    }
}

/// The original's settings without a meaning here, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("store", "jobs are kept in the gateway's database"),
    ("webhook", "a job names its own webhook"),
    ("sessionRetention", "runs make no sessions yet"),
    ("runLog", "the newest 2,000 records of a job are kept"),
];

impl Cron {
    pub(super) fn read(look: &mut Look, root: &Map<String, Value>) -> Self {
        let cron = look.section(root, "cron");
        for (key, why) in WITHOUT_EFFECT {
            if cron.contains_key(*key) {
                look.warn(&format!("cron.{key}"), format!("has no effect here: {why}"));
            }
        }
        let default = Self::default();
        Self {
            enabled: look
                .boolean(&cron, "cron.enabled", "enabled")
                .unwrap_or(default.enabled),
            max_concurrent_runs: look
                .integer(
                    &cron,
                    "cron.maxConcurrentRuns",
                    "maxConcurrentRuns",
                    1,
                    1_024,
                )
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(default.max_concurrent_runs),
            ladder: ladder(look, &cron),
            webhook_token: look.secret(&cron, "cron.webhookToken", "webhookToken"),
            dial: dial(look, &cron),
            notices: notices(look, &cron),
        }
    }
}

/// `cron.retry`: how often, and after which pauses, a one-shot is tried again.
fn ladder(look: &mut Look, cron: &Map<String, Value>) -> Ladder {
    let retry = look.inner(cron, "cron", "retry");
    if retry.contains_key("retryOn") {
        look.warn(
            "cron.retry.retryOn",
            "has no effect here: the class of a failure says whether trying again can help"
                .to_owned(),
        );
    }
    let mut ladder = Ladder::default();
    if let Some(max) = look.integer(&retry, "cron.retry.maxAttempts", "maxAttempts", 0, 100) {
        ladder.one_shot_retries_max = u32::try_from(max).unwrap_or(u32::MAX);
    }
    if let Some(list) = retry.get("backoffMs") {
        let pauses: Option<Vec<i64>> = list.as_array().and_then(|list| {
            list.iter()
                .map(|pause| {
                    pause
                        .as_i64()
                        .filter(|pause| (0..=86_400_000).contains(pause))
                })
                .collect()
        });
        match pauses {
            Some(pauses) if !pauses.is_empty() => ladder.one_shot_ms = pauses,
            // What is wrong with an item was said.
            None if look
                .refusals
                .iter()
                .any(|issue| issue.path.starts_with("cron.retry.backoffMs[")) => {}
            _ => look.refuse(
                "cron.retry.backoffMs",
                "expected a list of milliseconds up to a day".to_owned(),
            ),
        }
    }
    ladder
}

/// `cron.webhookSsrfPolicy`: what may be dialled beyond the public internet.
fn dial(look: &mut Look, cron: &Map<String, Value>) -> DialPolicy {
    let policy = look.inner(cron, "cron", "webhookSsrfPolicy");
    let path = "cron.webhookSsrfPolicy";
    let hosts = look.texts(
        &policy,
        &format!("{path}.allowedHostnames"),
        "allowedHostnames",
    );
    DialPolicy {
        allowed_hosts: hosts
            .iter()
            .map(|host| host.trim().to_ascii_lowercase())
            .filter(|host| !host.is_empty())
            .collect(),
        private_networks: look
            .boolean(
                &policy,
                &format!("{path}.dangerouslyAllowPrivateNetwork"),
                "dangerouslyAllowPrivateNetwork",
            )
            .unwrap_or(false),
    }
}

/// `cron.failureAlert` and `cron.failureDestination`.
fn notices(look: &mut Look, cron: &Map<String, Value>) -> Defaults {
    let path = "cron.failureAlert";
    let alert = look.inner(cron, "cron", "failureAlert");
    let enabled = look.boolean(&alert, &format!("{path}.enabled"), "enabled");
    let mut policy = AlertPolicy::default();
    if let Some(after) = look.integer(&alert, &format!("{path}.after"), "after", 1, 1_000_000) {
        policy.after = u32::try_from(after).unwrap_or(u32::MAX);
    }
    let cooldown = look.integer(
        &alert,
        &format!("{path}.cooldownMs"),
        "cooldownMs",
        0,
        i64::MAX,
    );
    policy.cooldown_ms = cooldown.unwrap_or(policy.cooldown_ms);
    let alert_url = place(look, &alert, path);
    let failure = look.inner(cron, "cron", "failureDestination");
    let failure_path = "cron.failureDestination";
    Defaults {
        alert: (enabled == Some(true)).then_some(policy),
        alert_url,
        failure_url: place(look, &failure, failure_path),
    }
}

/// The web address of a `{mode, to}`. A chat is said to be none.
fn place(look: &mut Look, section: &Map<String, Value>, path: &str) -> Option<String> {
    let mode = look.text(section, &format!("{path}.mode"), "mode");
    let to = look.text(section, &format!("{path}.to"), "to");
    match mode.as_deref() {
        Some("webhook") => {
            let to = to.unwrap_or_default();
            match check_url(&to) {
                Ok(()) => Some(to),
                Err(why) => {
                    look.refuse(
                        &format!("{path}.to"),
                        format!("expected a web address; {why}"),
                    );
                    None
                }
            }
        }
        Some("announce") => {
            look.warn(
                &format!("{path}.mode"),
                "\"announce\" needs a chat channel, and this gateway has none: nothing is sent"
                    .to_owned(),
            );
            None
        }
        Some(other) => {
            look.refuse(
                &format!("{path}.mode"),
                format!("expected \"webhook\" or \"announce\", found {other:?}"),
            );
            None
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(cron: &Value) -> (Cron, Look) {
        let mut look = Look::default();
        let root = json!({"cron": cron});
        let root = root.as_object().expect("an object");
        crate::config::schema::check(&mut look, root);
        let cron = Cron::read(&mut look, root);
        (cron, look)
    }

    #[test]
    fn what_is_set_is_taken() {
        let (cron, look) = read(&json!({
            "enabled": false, "maxConcurrentRuns": 2, "webhookToken": "t",
            "retry": {"maxAttempts": 1, "backoffMs": [5, 6]},
            "webhookSsrfPolicy": {"allowedHostnames": [" Hooks.LAN "]},
            "failureAlert": {"enabled": true, "after": 4, "mode": "webhook", "to": "http://a/"},
            "failureDestination": {"mode": "webhook", "to": "https://b/"},
        }));
        assert!(look.refusals.is_empty() && look.warnings.is_empty());
        assert!(!cron.enabled);
        assert_eq!(cron.max_concurrent_runs, 2);
        assert_eq!(cron.ladder.one_shot_ms, [5, 6]);
        assert_eq!(cron.ladder.one_shot_retries_max, 1);
        assert_eq!(cron.ladder.recurring_ms, Ladder::default().recurring_ms);
        assert_eq!(cron.dial.allowed_hosts, ["hooks.lan"]);
        let notices = cron.notices;
        assert_eq!(notices.alert.expect("alerts are on").after, 4);
        assert_eq!(notices.alert_url.as_deref(), Some("http://a/"));
        assert_eq!(notices.failure_url.as_deref(), Some("https://b/"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_what_does_nothing_is_said() {
        let refused = |cron: &Value| read(cron).1.refusals.len();
        assert_eq!(refused(&json!({"maxConcurrentRuns": 0})), 1);
        assert_eq!(refused(&json!({"retry": {"backoffMs": ["x"]}})), 1);
        assert_eq!(refused(&json!({"retry": {"backoffMs": []}})), 1);
        assert_eq!(
            refused(&json!({"failureAlert": {"mode": "webhook", "to": "x"}})),
            1
        );
        assert_eq!(
            refused(&json!({"failureDestination": {"mode": "pigeon"}})),
            1
        );
        let (_, look) = read(&json!({
            "store": "x", "failureAlert": {"mode": "announce"}, "retry": {"retryOn": []}, "tpyo": 1,
        }));
        let said: Vec<&str> = look.warnings.iter().map(|w| w.path.as_str()).collect();
        assert_eq!(
            said,
            [
                "cron.tpyo",
                "cron.store",
                "cron.retry.retryOn",
                "cron.failureAlert.mode"
            ]
        );
    }
}
