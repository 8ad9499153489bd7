//! Jobs of our own at a gateway: added under a name that nobody else has, found by it, removed.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    error::BenchError,
    peer::{self, ANSWERED, Door},
    wire::Wire,
};

/// How the name of every job begins that this tool adds.
pub const NAMED: &str = "clawgate-bench";
/// How an answer begins, whichever it is.
const RESPONSE: &str = r#"{"type":"res""#;
/// What is said of a job that removed itself since it was listed: it ran.
const GONE: &str = "unknown cron job";
/// Jobs of one page.
const PAGE: usize = 200;
/// From adding jobs to their being due, at least.
const AHEAD: Duration = Duration::from_secs(2);
/// How long after they are due it is waited for them.
const LATEST: Duration = Duration::from_secs(30);

/// Jobs of one run of the tool.
#[derive(Clone, Debug)]
pub struct Jobs {
    name: String,
}

impl Jobs {
    /// None yet, under a name of their own.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, BenchError> {
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|error| BenchError::Unexpected(error.to_string()))?;
        let number = random
            .iter()
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        Ok(Self {
            name: format!("{NAMED} {number:012x}"),
        })
    }

    /// What all of them are called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parameters of one that is never due: it is disabled.
    pub fn idle(&self) -> String {
        json!({
            "name": self.name, "enabled": false,
            "schedule": {"kind": "every", "everyMs": 86_400_000},
            "sessionTarget": "main", "wakeMode": "next-heartbeat",
            "payload": {"kind": "systemEvent", "text": NAMED},
        })
        .to_string()
    }

    /// Parameters of one that is due once, then, and not spread.
    fn due(&self, at_ms: i64) -> String {
        json!({
            "name": self.name, "enabled": true, "deleteAfterRun": true,
            "schedule": {"kind": "at", "at": at_ms.to_string()},
            "sessionTarget": "main", "wakeMode": "next-heartbeat",
            "payload": {"kind": "systemEvent", "text": NAMED},
        })
        .to_string()
    }

    /// Adds one that is never due and gives its id.
    ///
    /// # Errors
    /// The gateway refuses.
    pub async fn add(&self, wire: &mut Wire) -> Result<String, BenchError> {
        let answer = peer::answer(wire, "cron.add", Some(&self.idle())).await?;
        id_of(&read(&answer)?["payload"])
    }

    /// Removes all that are there and says how many they were.
    ///
    /// # Errors
    /// The gateway refuses, or is gone.
    pub async fn remove_all(&self, door: &Door) -> Result<usize, BenchError> {
        let mut wire = door.enter().await?;
        let (mut offset, mut removed) = (0, 0);
        loop {
            let query = json!({
                "includeDisabled": true, "limit": PAGE, "offset": offset, "query": self.name,
            });
            let page = peer::answer(&mut wire, "cron.list", Some(&query.to_string())).await?;
            let page = read(&page)?;
            let jobs = page["payload"]["jobs"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ours: Vec<String> = jobs
                .iter()
                .filter(|job| job["name"] == self.name.as_str())
                .map(id_of)
                .collect::<Result<_, _>>()?;
            if ours.is_empty() {
                // A gateway that does not look for names has others before ours.
                if jobs.len() < PAGE {
                    wire.close().await;
                    return Ok(removed);
                }
                offset += jobs.len();
                continue;
            }
            let requests: Vec<u8> = ours
                .iter()
                .flat_map(|id| peer::request("cron.remove", Some(&json!({"id": id}).to_string())))
                .collect();
            wire.send(&requests).await?;
            let mut left = ours.len();
            while left > 0 {
                let message = wire.message().await?;
                if !message.starts_with(RESPONSE) {
                    continue;
                }
                left -= 1;
                if message.starts_with(ANSWERED) {
                    removed += 1;
                } else if !message.contains(GONE) {
                    return Err(BenchError::Unexpected(format!(
                        "cron.remove was answered with {message}"
                    )));
                }
            }
        }
    }

    /// Has so many jobs be due within one second, and says how late each started.
    ///
    /// # Errors
    /// The gateway refuses, or not all of them ran.
    pub async fn lateness(&self, door: &Door, many: u32) -> Result<Vec<Lateness>, BenchError> {
        let mut wire = door.enter().await?;
        let from = now_ms() + ms(AHEAD);
        let mut due = HashMap::new();
        for number in 0..many {
            let at = due_at(from, number, many);
            let answer = peer::answer(&mut wire, "cron.add", Some(&self.due(at))).await?;
            due.insert(id_of(&read(&answer)?["payload"])?, at);
        }
        let mut late = Vec::new();
        let hearing = async {
            while !due.is_empty() {
                let message = wire.message().await?;
                if !message.starts_with(r#"{"type":"event","event":"cron""#) {
                    continue;
                }
                let told = now_ms();
                let event = &read(&message)?["payload"];
                if let Some(started) = event["runAtMs"].as_i64()
                    && let Some(at) = event["jobId"].as_str().and_then(|id| due.remove(id))
                {
                    late.push(Lateness {
                        started_ms: as_float(started - at),
                        told_ms: as_float(told - at),
                    });
                }
            }
            Ok::<_, BenchError>(())
        };
        let patience = AHEAD + Duration::from_secs(1) + LATEST;
        match timeout(patience, hearing).await {
            Ok(heard) => heard?,
            Err(_) => {
                return Err(BenchError::Unexpected(format!(
                    "{} of {many} jobs ran",
                    late.len()
                )));
            }
        }
        wire.close().await;
        Ok(late)
    }
}

/// How late one job was, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    /// By its record, which the gateway's clock made.
    pub started_ms: f64,
    /// Until we were told, by our own clock.
    pub told_ms: f64,
}

/// The same of timers of this process: what no gateway can be better than.
///
/// # Errors
/// A timer was lost.
pub async fn timer_lateness(many: u32) -> Result<Vec<f64>, BenchError> {
    let from = now_ms() + 100;
    let mut waiting = JoinSet::new();
    for number in 0..many {
        let at = UNIX_EPOCH
            + Duration::from_millis(u64::try_from(due_at(from, number, many)).unwrap_or(0));
        waiting.spawn(async move {
            let left = at.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(left).await;
            let late = SystemTime::now().duration_since(at).unwrap_or_default();
            late.as_secs_f64() * 1e3
        });
    }
    let mut late = Vec::new();
    while let Some(one) = waiting.join_next().await {
        late.push(one.map_err(|died| BenchError::Unexpected(died.to_string()))?);
    }
    Ok(late)
}

/// When one of many is due that are spread over a second.
fn due_at(from_ms: i64, number: u32, many: u32) -> i64 {
    from_ms + i64::from(number) * 1_000 / i64::from(many.max(1))
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn now_ms() -> i64 {
    ms(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default())
}

#[expect(clippy::cast_precision_loss, reason = "a difference of clocks")]
fn as_float(ms: i64) -> f64 {
    ms as f64
}

fn read(text: &str) -> Result<Value, BenchError> {
    serde_json::from_str(text).map_err(|error| BenchError::Unexpected(error.to_string()))
}

fn id_of(job: &Value) -> Result<String, BenchError> {
    job["id"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| BenchError::Unexpected(format!("a job without an id: {job}")))
}
