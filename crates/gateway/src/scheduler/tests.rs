use std::path::PathBuf;

use clawgate_core::cron::{FireKind, Job as Plan, JobState, Ladder, Schedule};
use clawgate_protocol::{ErrorShape, cron as wire};
use clawgate_store::{CronRun, RunFilter};
use tokio::task::JoinHandle;

use super::*;

const MAIN: &str = "agent:main:main";

/// A scheduler on a database of its own.
struct Place {
    directory: PathBuf,
    store: Store,
}

struct Running {
    handle: SchedulerHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Told each time queued system events changed.
    queued: mpsc::Receiver<()>,
}

impl Place {
    fn new() -> Self {
        let name = format!("clawgate-scheduler-{}", uuid::Uuid::new_v4());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let store = Store::open(&directory.join("clawgate.sqlite")).unwrap();
        Self { directory, store }
    }

    fn start(&self, enabled: bool) -> Running {
        self.start_with(config::Cron {
            enabled,
            max_concurrent_runs: 2,
            ..config::Cron::default()
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is made for this")]
    fn start_with(&self, config: config::Cron) -> Running {
        let (told, queued) = mpsc::channel(64);
        let changed = Arc::new(move || told.try_send(()).unwrap());
        let outbox = Arc::new(Notify::new());
        let hub = Hub::default();
        let (scheduler, handle) =
            open(&self.store, &hub, &config, "boot", MAIN, changed, outbox).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(scheduler.run(stop.clone()));
        Running {
            handle,
            stop,
            task,
            queued,
        }
    }

    fn runs(&self) -> Vec<CronRun> {
        self.store
            .read_blocking(|db| db.cron_runs(&RunFilter::default(), true, 100, 0))
            .unwrap()
    }

    /// The history once it has this many rows.
    async fn runs_once(&self, count: usize) -> Vec<CronRun> {
        let arrived = async {
            loop {
                let runs = self.runs();
                if runs.len() >= count {
                    return runs;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived)
            .await
            .expect("the runs end")
    }

    fn job(&self, id: &str) -> Option<CronJob> {
        let id = JobId::from(id);
        self.store
            .read_blocking(move |db| db.cron_job(&id))
            .unwrap()
    }

    fn queue(&self) -> Vec<String> {
        self.store
            .read_blocking(|db| db.queued_system_events(MAIN))
            .unwrap()
    }

    async fn claim_elsewhere(&self, fire: Fire) {
        let claimed = self.store.write("testing", move |tx| {
            tx.claim_fire(&fire, &fire_id(&fire), "earlier boot")
        });
        claimed.await.map_err(|error: StoreError| error).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Running {
    async fn queued(&mut self) {
        tokio::time::timeout(Duration::from_secs(10), self.queued.recv())
            .await
            .expect("a text is queued")
            .expect("the scheduler runs");
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn hour() -> Schedule {
    Schedule::every(3_600_000, None, now_ms()).unwrap()
}

fn job(id: &str, schedule: Schedule, payload: wire::Payload) -> KeepJob {
    let now = now_ms();
    let definition = wire::Job {
        id: id.to_owned(),
        agent_id: None,
        effective_agent_id: None,
        session_key: None,
        name: id.to_owned(),
        description: None,
        enabled: true,
        delete_after_run: None,
        created_at_ms: now,
        updated_at_ms: now,
        schedule: wire::Schedule::At { at: String::new() },
        session_target: "main".to_owned(),
        wake_mode: "now".to_owned(),
        payload,
        delivery: None,
        failure_alert: None,
        display_name: None,
        declaration_key: None,
        catch_up: None,
        overlap: None,
        disable_after: None,
        config_revision: None,
        state: wire::JobState::default(),
        imported: None,
    };
    KeepJob {
        plan: Plan::new(id, schedule),
        definition: to_json(&definition),
        name: id.to_owned(),
        searchable: id.to_owned(),
        declaration_key: None,
        revision: "sha256:0".to_owned(),
        created_at_ms: now,
        updated_at_ms: now,
    }
}

fn event(text: &str) -> wire::Payload {
    wire::Payload::SystemEvent {
        text: text.to_owned(),
    }
}

fn turn() -> wire::Payload {
    wire::Payload::AgentTurn {
        message: "m".to_owned(),
        model: None,
        fallbacks: None,
        thinking: None,
        timeout_seconds: None,
        allow_unsafe_external_content: None,
        light_context: None,
    }
}

fn id(id: &str) -> JobId {
    JobId::from(id)
}

#[tokio::test]
async fn a_run_by_hand_queues_its_text_and_moves_no_schedule() {
    let place = Place::new();
    let mut running = place.start(true);
    let added = running
        .handle
        .add(job("a", hour(), event("hello")))
        .await
        .unwrap();
    assert_eq!(running.handle.job_count(), 1);
    let run_id = running
        .handle
        .run_now(id("a"), RunMode::Force)
        .await
        .unwrap()
        .unwrap();
    running.queued().await;
    assert!(run_id.as_str().starts_with("manual:a:"), "{run_id}");
    assert_eq!(place.queue(), ["hello"]);
    let runs = place.runs();
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert_eq!((run.run_id.clone(), run.slot_ms), (run_id, None));
    assert_eq!((run.status.as_str(), run.verdict.as_str()), ("ok", "ran"));
    assert_eq!(run.summary.as_deref(), Some("hello"));
    assert_eq!(run.delivery_status.as_deref(), Some("not-requested"));
    let kept = place.job("a").unwrap();
    assert_eq!(kept.plan.state, added.plan.state);
    assert_eq!(kept.last_run.unwrap().status, "ok");
    running.stop().await;
}

#[tokio::test]
async fn a_due_slot_fires_at_once_and_a_one_shot_is_gone_after_it() {
    let place = Place::new();
    let mut running = place.start(true);
    let at_ms = now_ms() - 1_000;
    let added = running
        .handle
        .add(job("a", Schedule::At { at_ms }, event("ring")))
        .await
        .unwrap();
    assert_eq!(added.plan.state.next_run_at_ms, Some(at_ms));
    running.queued().await;
    let runs = place.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].run_id.as_str(), format!("cron:a:{at_ms}"));
    assert_eq!(
        (runs[0].slot_ms, runs[0].kind.as_str()),
        (Some(at_ms), "scheduled")
    );
    assert_eq!(place.job("a"), None);
    assert_eq!(running.handle.job_count(), 0);
    running.stop().await;
    // Nothing of it comes again.
    let running = place.start(true);
    assert!(matches!(
        running.handle.run_now(id("a"), RunMode::Due).await,
        Err(SchedulerError::Unknown)
    ));
    running.stop().await;
    assert_eq!(place.queue(), ["ring"]);
}

#[tokio::test]
async fn a_turn_that_cannot_run_is_never_told_as_ok() {
    let place = Place::new();
    let running = place.start(true);
    running.handle.add(job("a", hour(), turn())).await.unwrap();
    running
        .handle
        .run_now(id("a"), RunMode::Force)
        .await
        .unwrap()
        .unwrap();
    let runs = place.runs_once(1).await;
    assert_eq!(
        (runs[0].status.as_str(), runs[0].verdict.as_str()),
        ("error", "ran")
    );
    assert_eq!(
        runs[0].error_class.as_deref(),
        Some(ErrorClass::NotAvailable.as_str())
    );
    assert_eq!(place.queue(), Vec::<String>::new());
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_due_is_said() {
    let place = Place::new();
    let running = place.start(true);
    let handle = &running.handle;
    handle.add(job("a", hour(), event("x"))).await.unwrap();
    assert_eq!(
        handle.run_now(id("a"), RunMode::Due).await.unwrap(),
        Err(NotRun::NotDue)
    );
    assert!(!handle.remove(id("b")).await.unwrap());
    let change: Change = Box::new(|_, _| unreachable!("there is no such job"));
    assert!(matches!(
        handle.update(id("b"), change).await,
        Err(SchedulerError::Unknown)
    ));
    assert!(handle.remove(id("a")).await.unwrap());
    assert_eq!((place.job("a"), handle.job_count()), (None, 0));
    running.stop().await;
    let gone = handle_after_stop(&place).await;
    assert!(matches!(gone, Err(SchedulerError::Stopped)));
}

async fn handle_after_stop(place: &Place) -> Result<bool, SchedulerError> {
    let running = place.start(true);
    let handle = running.handle.clone();
    running.stop().await;
    handle.remove(id("a")).await
}

#[tokio::test]
async fn a_refused_change_leaves_the_job_as_it_was() {
    let place = Place::new();
    let running = place.start(true);
    running
        .handle
        .add(job("a", hour(), event("x")))
        .await
        .unwrap();
    let before = place.job("a");
    let change: Change = Box::new(|_, _| Err(ErrorShape::invalid("no")));
    let refused = running.handle.update(id("a"), change).await;
    assert!(matches!(refused, Err(SchedulerError::Refused(no)) if no.message == "no"));
    assert_eq!(place.job("a"), before);
    let change: Change = Box::new(|kept, now| {
        let mut next = job("a", kept.plan.schedule.clone(), event("y"));
        next.plan.state.enabled = false;
        next.updated_at_ms = now;
        Ok(next)
    });
    let kept = running.handle.update(id("a"), change).await.unwrap();
    assert_eq!(
        (kept.plan.state.enabled, kept.plan.state.next_run_at_ms),
        (false, None)
    );
    assert_eq!(place.job("a"), Some(kept));
    running.stop().await;
}

#[tokio::test]
async fn a_paused_scheduler_passes_nothing_over_and_still_runs_by_hand() {
    let place = Place::new();
    let mut running = place.start(false);
    assert!(!running.handle.is_enabled());
    let at_ms = now_ms() - 1_000;
    running
        .handle
        .add(job("due", Schedule::At { at_ms }, event("ring")))
        .await
        .unwrap();
    running
        .handle
        .add(job("a", hour(), event("hello")))
        .await
        .unwrap();
    running
        .handle
        .run_now(id("a"), RunMode::Force)
        .await
        .unwrap()
        .unwrap();
    running.queued().await;
    assert_eq!(place.queue(), ["hello"]);
    assert_eq!(
        place.job("due").unwrap().plan.state.next_run_at_ms,
        Some(at_ms)
    );
    running.stop().await;

    let mut running = place.start(true);
    running.queued().await;
    assert_eq!(place.queue(), ["hello", "ring"]);
    running.stop().await;
}

#[tokio::test]
async fn runs_of_an_earlier_process_are_recorded_as_interrupted() {
    let place = Place::new();
    let running = place.start(true);
    let slot_ms = now_ms() + 60_000;
    running
        .handle
        .add(job("once", Schedule::At { at_ms: slot_ms }, event("x")))
        .await
        .unwrap();
    running
        .handle
        .add(job("daily", hour(), event("x")))
        .await
        .unwrap();
    running.stop().await;
    let fire = |job: &str, run_seq, slot_ms: Option<i64>, state| Fire {
        run_seq: RunSeq(run_seq),
        job_id: id(job),
        slot_ms,
        kind: if slot_ms.is_some() {
            FireKind::Scheduled
        } else {
            FireKind::Manual
        },
        attempt: 0,
        queued_at_ms: now_ms(),
        started_at_ms: now_ms(),
        state,
    };
    let claimed = JobState {
        last_slot_ms: Some(slot_ms),
        ..JobState::default()
    };
    place
        .claim_elsewhere(fire("once", 1, Some(slot_ms), claimed))
        .await;
    let daily = place.job("daily").unwrap().plan.state;
    place
        .claim_elsewhere(fire("daily", 2, None, daily.clone()))
        .await;

    let running = place.start(true);
    let runs = place.runs_once(2).await;
    for run in &runs {
        assert_eq!(
            (run.status.as_str(), run.verdict.as_str()),
            ("error", "interrupted")
        );
        assert_eq!(
            run.error.as_deref(),
            Some("cron: job interrupted by gateway restart")
        );
        assert_eq!(run.boot_id, "earlier boot");
    }
    // A reminder does not vanish with its process: it is tried again, under a slot of its own.
    let once = place.job("once").unwrap();
    assert!(once.plan.state.next_slot_ms > Some(slot_ms));
    assert_eq!(once.running_at_ms, None);
    assert_eq!(place.job("daily").unwrap().plan.state, daily);
    running.stop().await;
}

#[tokio::test]
async fn a_failed_write_is_told_and_the_store_is_read_anew() {
    let place = Place::new();
    let mut running = place.start(true);
    let added = running
        .handle
        .add(job("a", hour(), event("x")))
        .await
        .unwrap();
    // Somebody takes the number of the next run behind the scheduler's back.
    let stolen = Fire {
        run_seq: RunSeq(1),
        job_id: id("a"),
        slot_ms: None,
        kind: FireKind::Manual,
        attempt: 0,
        queued_at_ms: 0,
        started_at_ms: 0,
        state: added.plan.state,
    };
    place.claim_elsewhere(stolen).await;
    let failed = running.handle.run_now(id("a"), RunMode::Force).await;
    assert!(
        matches!(failed, Err(SchedulerError::Store(_))),
        "{failed:?}"
    );
    let runs = place.runs_once(1).await;
    assert_eq!(runs[0].verdict, "interrupted");
    let again = running
        .handle
        .run_now(id("a"), RunMode::Force)
        .await
        .unwrap()
        .unwrap();
    running.queued().await;
    assert_eq!(place.runs()[1].run_id, again);
    assert_eq!(place.queue(), ["x"]);
    running.stop().await;
}

#[tokio::test]
async fn many_commands_at_once_are_answered_in_order() {
    let place = Place::new();
    let running = place.start(true);
    let adding: Vec<_> = (0..200)
        .map(|number| {
            let handle = running.handle.clone();
            let job = job(&format!("job-{number}"), hour(), event("x"));
            tokio::spawn(async move { handle.add(job).await.map(|kept| kept.plan.id) })
        })
        .collect();
    for added in adding {
        let id = added.await.unwrap().unwrap();
        assert!(
            place.job(id.as_str()).is_some(),
            "answered, so it is on disk"
        );
    }
    assert_eq!(running.handle.job_count(), 200);
    running.stop().await;
}

#[test]
fn events_have_the_members_of_the_original_in_its_order() {
    let settle = clawgate_core::cron::Settle {
        run_seq: RunSeq(1),
        job_id: id("a"),
        slot_ms: None,
        outcome: Outcome::Ok,
        ended_at_ms: 12,
        state: Some(JobState {
            next_run_at_ms: Some(99),
            ..JobState::default()
        }),
        delete: false,
    };
    let ending = Ending {
        summary: Some("tick tock".to_owned()),
        delivery_status: Some("not-requested".to_owned()),
        ..Ending::default()
    };
    let settled = clawgate_store::Settled {
        run_id: RunId::new("manual:a:5:1"),
        started_at_ms: 5,
        duration_ms: 7,
    };
    assert_eq!(
        to_json(&batch::finished(&settle, &ending, &settled)),
        r#"{"jobId":"a","action":"finished","status":"ok","summary":"tick tock","deliveryStatus":"not-requested","runAtMs":5,"durationMs":7,"nextRunAtMs":99,"runId":"manual:a:5:1","verdict":"ran"}"#
    );
}

fn shell(script: &str) -> wire::Payload {
    wire::Payload::Command {
        argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        cwd: None,
        env: None,
        input: None,
        timeout_seconds: None,
        no_output_timeout_seconds: None,
        output_max_bytes: None,
    }
}

impl Place {
    /// Waits until a job's run is under way.
    async fn running(&self, id: &str) {
        let begun = async {
            while self.job(id).is_none_or(|job| job.running_at_ms.is_none()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), begun)
            .await
            .expect("the run begins");
    }
}

#[tokio::test]
async fn a_command_runs_and_its_failure_has_a_class() {
    let place = Place::new();
    let running = place.start(true);
    let good = job("good", hour(), shell("echo done"));
    let bad = job("bad", hour(), shell("echo broken >&2; exit 4"));
    for job in [good, bad] {
        let id = job.plan.id.clone();
        running.handle.add(job).await.unwrap();
        let claimed = running.handle.run_now(id, RunMode::Force).await.unwrap();
        claimed.unwrap();
    }
    let mut runs = place.runs_once(2).await;
    runs.sort_by(|a, b| a.job_id.cmp(&b.job_id));
    assert_eq!(runs[0].error.as_deref(), Some("exit code 4: broken"));
    assert_eq!(runs[0].error_class.as_deref(), Some("command_failed"));
    assert_eq!(
        (runs[1].status.as_str(), runs[1].summary.as_deref()),
        ("ok", Some("done"))
    );
    running.stop().await;
}

#[tokio::test]
async fn a_cancelled_run_ends_and_says_so() {
    let place = Place::new();
    let running = place.start(true);
    running
        .handle
        .add(job("a", hour(), shell("echo so far; sleep 300")))
        .await
        .unwrap();
    let run_id = running
        .handle
        .run_now(id("a"), RunMode::Force)
        .await
        .unwrap()
        .unwrap();
    place.running("a").await;
    let other = RunId::new("another");
    let not_it = running.handle.cancel(id("a"), Some(other)).await.unwrap();
    assert_eq!(not_it, None);
    let ended = running.handle.cancel(id("a"), None).await.unwrap();
    assert_eq!(ended, Some(run_id.clone()));
    let runs = place.runs_once(1).await;
    assert_eq!(runs[0].run_id, run_id);
    assert_eq!(runs[0].verdict, "interrupted");
    assert_eq!(runs[0].reason.as_deref(), Some("cancelled"));
    assert!(matches!(
        running.handle.cancel(id("nobody"), None).await,
        Err(SchedulerError::Unknown)
    ));
    running.stop().await;
}

#[tokio::test]
async fn removing_a_job_stops_its_run_and_a_stop_of_the_gateway_records_the_others() {
    let place = Place::new();
    let running = place.start(true);
    for name in ["a", "b"] {
        running
            .handle
            .add(job(name, hour(), shell("sleep 300")))
            .await
            .unwrap();
        let claimed = running.handle.run_now(id(name), RunMode::Force).await;
        claimed.unwrap().unwrap();
        place.running(name).await;
    }
    assert!(running.handle.remove(id("a")).await.unwrap());
    let runs = place.runs_once(1).await;
    assert_eq!(runs[0].reason.as_deref(), Some("removed"));
    running.stop().await;
    let runs = place.runs();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1].job_id, id("b"));
    assert_eq!(runs[1].reason.as_deref(), Some("shutdown"));
    assert_eq!(place.job("b").unwrap().running_at_ms, None);
}

#[tokio::test]
async fn a_quick_job_does_not_wait_for_slow_ones() {
    let place = Place::new();
    let running = place.start(true);
    running
        .handle
        .add(job("slow", hour(), shell("sleep 300")))
        .await
        .unwrap();
    let claimed = running.handle.run_now(id("slow"), RunMode::Force).await;
    claimed.unwrap().unwrap();
    place.running("slow").await;
    let at_ms = now_ms() - 1;
    running
        .handle
        .add(job("quick", Schedule::At { at_ms }, event("now")))
        .await
        .unwrap();
    let runs = place.runs_once(1).await;
    assert_eq!(runs[0].job_id, id("quick"));
    running.stop().await;
}

#[tokio::test]
async fn a_declared_job_is_there_once() {
    let place = Place::new();
    let running = place.start(true);
    let declare = |name: &'static str| {
        running.handle.declare(
            "key".to_owned(),
            Box::new(move |found: Option<&CronJob>, _| {
                let id = found.map_or(name, |job| job.plan.id.as_str());
                let mut keep = job(id, hour(), event(name));
                keep.declaration_key = Some("key".to_owned());
                Ok(Some(keep))
            }),
        )
    };
    let first = declare("first").await.unwrap();
    assert!(first.created && !first.updated);
    let second = declare("second").await.unwrap();
    assert!(!second.created && second.updated);
    assert_eq!(second.job.plan.id, first.job.plan.id);
    assert_eq!(running.handle.job_count(), 1);
    running.stop().await;
}

mod delivery {
    use clawgate_core::delivery::{DialPolicy, Purpose};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{outbound::Outbound, outbox::Outbox};

    /// Takes requests one by one, answers each as told, and gives their bodies.
    struct Receiver {
        url: String,
        bodies: mpsc::Receiver<(String, Value)>,
    }

    impl Receiver {
        async fn new(answers: &'static [&'static str]) -> Self {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/hook", listener.local_addr().unwrap());
            let (told, bodies) = mpsc::channel(16);
            tokio::spawn(async move {
                for answer in answers {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut text = Vec::new();
                    let mut chunk = [0; 4096];
                    let body = loop {
                        let read = stream.read(&mut chunk).await.unwrap();
                        text.extend_from_slice(&chunk[..read]);
                        let whole = String::from_utf8_lossy(&text).into_owned();
                        if let Some((head, body)) = whole.split_once("\r\n\r\n")
                            && let Ok(body) = serde_json::from_str::<Value>(body)
                        {
                            break (head.to_ascii_lowercase(), body);
                        }
                    };
                    let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    told.send(body).await.unwrap();
                }
            });
            Self { url, bodies }
        }

        async fn next(&mut self) -> (String, Value) {
            tokio::time::timeout(Duration::from_secs(10), self.bodies.recv())
                .await
                .expect("something is sent")
                .expect("the receiver lives")
        }
    }

    fn to(url: &str, payload: wire::Payload, more: &Value) -> KeepJob {
        let mut keep = job("a", hour(), payload);
        let mut definition: Value = serde_json::from_str(&keep.definition).unwrap();
        definition["delivery"] = json!({"mode": "webhook", "to": url});
        for (key, value) in more.as_object().unwrap() {
            definition[key] = value.clone();
        }
        keep.definition = definition.to_string();
        keep
    }

    async fn run(running: &Running) {
        let claimed = running.handle.run_now(id("a"), RunMode::Force).await;
        claimed.unwrap().unwrap();
    }

    fn outbox(place: &Place, token: &str) -> Outbox {
        let open = DialPolicy {
            allowed_hosts: Vec::new(),
            private_networks: true,
        };
        let bearer = Some(secrecy::SecretString::from(token.to_owned()));
        Outbox::new(&place.store, &Hub::default(), Outbound::new(open), bearer)
    }

    async fn until(place: &Place, what: impl Fn(&CronRun) -> bool) -> CronRun {
        let found = async {
            loop {
                if let Some(run) = place.runs().into_iter().find(&what) {
                    return run;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .expect("it comes to that")
    }

    #[tokio::test]
    async fn a_result_waits_in_the_outbox_until_somebody_took_it() {
        let place = Place::new();
        let running = place.start(true);
        let mut receiver = Receiver::new(&["200 OK"]).await;
        let keep = to(&receiver.url, shell("echo hi"), &json!({}));
        running.handle.add(keep).await.unwrap();
        run(&running).await;
        let run = until(&place, |run| run.status == "ok").await;
        assert_eq!(run.delivery_status.as_deref(), Some("unknown"));
        running.stop().await;
        // The process that ran it is gone; the delivery is not.
        let outbox = outbox(&place, "the-token");
        let stop = CancellationToken::new();
        let sending = tokio::spawn(outbox.run(stop.clone()));
        let (head, body) = receiver.next().await;
        assert!(head.contains("authorization: bearer the-token"), "{head}");
        assert!(head.contains(&format!("idempotency-key: {}:result", run.run_id)));
        assert_eq!(
            (&body["jobId"], &body["status"]),
            (&json!("a"), &json!("ok"))
        );
        assert_eq!(body["summary"], "hi");
        assert_eq!(body["runId"], json!(run.run_id));
        let run = until(&place, |run| {
            run.delivery_status.as_deref() == Some("delivered")
        })
        .await;
        assert!(run.delivery_receipt.unwrap().starts_with("HTTP 200"));
        let last = place.job("a").unwrap().last_run.unwrap();
        assert_eq!(last.delivery_status.as_deref(), Some("delivered"));
        stop.cancel();
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_run_is_delivered_too_and_a_refusal_is_not_a_failure_of_the_run() {
        let place = Place::new();
        let running = place.start(true);
        let mut receiver = Receiver::new(&["404 Not Found"]).await;
        let keep = to(&receiver.url, shell("exit 1"), &json!({}));
        running.handle.add(keep).await.unwrap();
        let stop = CancellationToken::new();
        run(&running).await;
        until(&place, |run| run.status == "error").await;
        let sending = tokio::spawn(outbox(&place, "t").run(stop.clone()));
        let (_, body) = receiver.next().await;
        assert_eq!(body["status"], "error");
        assert_eq!(body["error"], "exit code 1");
        let run = until(&place, |run| {
            run.delivery_status.as_deref() == Some("not-delivered")
        })
        .await;
        assert!(run.delivery_error.unwrap().starts_with("HTTP 404"));
        assert_eq!(run.error.as_deref(), Some("exit code 1"));
        stop.cancel();
        sending.await.unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn what_may_help_is_put_off_and_counted() {
        let place = Place::new();
        let running = place.start(true);
        let mut receiver = Receiver::new(&["503 Service Unavailable"]).await;
        let keep = to(&receiver.url, shell("true"), &json!({}));
        running.handle.add(keep).await.unwrap();
        run(&running).await;
        until(&place, |run| run.status == "ok").await;
        let stop = CancellationToken::new();
        let began = now_ms();
        let sending = tokio::spawn(outbox(&place, "t").run(stop.clone()));
        receiver.next().await;
        let put_off = async {
            loop {
                let next = place
                    .store
                    .read_blocking(move |db| db.next_delivery_after(began + 1_000));
                if let Some(at) = next.unwrap() {
                    return at;
                }
                tokio::task::yield_now().await;
            }
        };
        let next = tokio::time::timeout(Duration::from_secs(10), put_off)
            .await
            .unwrap();
        assert!(next >= began + 5_000, "{next}");
        let later = place
            .store
            .read_blocking(move |db| db.due_deliveries(next, 9))
            .unwrap();
        assert_eq!((later.len(), later[0].attempts), (1, 1));
        stop.cancel();
        sending.await.unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn failures_in_a_row_are_told_and_so_is_their_end() {
        let place = Place::new();
        let running = place.start_with(config::Cron {
            ladder: Ladder {
                recurring_ms: vec![0],
                ..Ladder::default()
            },
            ..config::Cron::default()
        });
        let marker = place.directory.join("works");
        let mut keep = to(
            "http://127.0.0.1:9/results",
            shell(&format!("test -e {}", marker.display())),
            &json!({"failureAlert": {"after": 2, "mode": "webhook", "to": "http://127.0.0.1:9/alerts"}}),
        );
        keep.plan.schedule = Schedule::every(20, None, now_ms()).unwrap();
        keep.plan.disable_after = None;
        running.handle.add(keep).await.unwrap();
        let waiting = |purpose: Purpose| {
            let due = place
                .store
                .read_blocking(|db| db.due_deliveries(i64::MAX, 10_000));
            due.unwrap()
                .into_iter()
                .find(|sent| sent.purpose == purpose)
        };
        let sent = async |purpose: Purpose| {
            let found = async {
                loop {
                    if let Some(sent) = waiting(purpose) {
                        return sent;
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), found)
                .await
                .expect("it is told")
        };
        let alert = sent(Purpose::Alert).await;
        assert_eq!(alert.url, "http://127.0.0.1:9/alerts");
        let body: Value = serde_json::from_str(&alert.body).unwrap();
        assert_eq!(body["consecutiveErrors"], 2);
        assert_eq!(
            body["message"],
            "Cron job \"a\" failed 2 times\nLast error: exit code 1"
        );
        assert!(place.job("a").unwrap().alerted_at_ms.is_some());
        assert!(waiting(Purpose::Recovery).is_none());
        std::fs::write(&marker, "").unwrap();
        let recovery = sent(Purpose::Recovery).await;
        let body: Value = serde_json::from_str(&recovery.body).unwrap();
        assert_eq!(body["message"], "Cron job \"a\" works again");
        running.stop().await;
    }
}
