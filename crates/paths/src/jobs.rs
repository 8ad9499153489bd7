//! Schedules, the planner, and jobs on disk.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use clawgate_core::cron::{
    CronExpr, Decision, Job, Outcome, Planner, PlannerConfig, Schedule, Zone,
};
use clawgate_store::{JobFilter, JobSort, KeepJob, Store, StoreError};
use serde_json::json;
use tempfile::TempDir;

use crate::Path;

/// Any instant will do.
const NOW_MS: i64 = 1_780_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const JOBS: i64 = 1_000;

pub(crate) const READ_AN_EXPRESSION: Path = Path {
    name: "read-an-expression",
    rounds: 200,
    prepare: || {
        Box::new(|| {
            let expr = CronExpr::parse(black_box("*/15 7-19 1,15 * MON-FRI"));
            black_box(expr.expect("it is one"));
        })
    },
};

/// In a zone whose clocks change, and in a year for which every zone file has the rule alone: how many changes
/// it lists until then is the machine's affair.
pub(crate) const FIND_THE_NEXT_SLOT: Path = Path {
    name: "find-the-next-slot",
    rounds: 200,
    prepare: || {
        const AFTER_2037_MS: i64 = 2_200_000_000_000;
        let schedule = Schedule::cron(
            "30 7 * * MON-FRI",
            Some("Europe/Berlin"),
            None,
            &Zone::utc(),
            AFTER_2037_MS,
        )
        .expect("a schedule");
        Box::new(move || {
            let next = black_box(&schedule).next_after("job", black_box(AFTER_2037_MS));
            black_box(next.expect("there is always another"));
        })
    },
};

/// The nth of [`JOBS`], each due every thousand hours, an hour after the one before.
fn job(nth: i64) -> Job {
    let anchor_ms = NOW_MS + (nth + 1) * HOUR_MS;
    let schedule = Schedule::every(JOBS * HOUR_MS, Some(anchor_ms), NOW_MS).expect("a schedule");
    let mut job = Job::new(format!("job-{nth:04}").as_str(), schedule);
    job.state.next_slot_ms = Some(anchor_ms);
    job.state.next_run_at_ms = Some(anchor_ms);
    job
}

fn planner() -> Planner {
    let mut planner = Planner::new(PlannerConfig::default(), 1);
    for nth in 0..JOBS {
        planner.insert(job(nth), NOW_MS);
    }
    planner
}

pub(crate) const LOOK_AND_NOTHING_IS_DUE: Path = Path {
    name: "plan-1000-jobs-none-due",
    rounds: 10_000,
    prepare: || {
        let mut planner = planner();
        Box::new(move || {
            let decisions = planner.tick(black_box(NOW_MS));
            assert!(black_box(decisions).is_empty(), "nothing is due");
        })
    },
};

/// It is claimed, runs, and is settled.
pub(crate) const LOOK_AND_ONE_IS_DUE: Path = Path {
    name: "plan-1000-jobs-one-due",
    rounds: 500,
    prepare: || {
        let mut planner = planner();
        Box::new(move || {
            let now_ms = planner.next_wake().expect("jobs repeat");
            let decisions = planner.tick(now_ms);
            let [Decision::Claim(fire)] = decisions.as_slice() else {
                panic!("one is due: {decisions:?}");
            };
            let settled = planner.finished(fire.run_seq, Outcome::Ok, now_ms + 1);
            assert_eq!(black_box(settled).len(), 1, "it is settled");
        })
    },
};

/// Waits by sleeping: what asks and what answers are two threads.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

/// A database that goes when it is dropped.
struct Kept {
    store: Store,
    next: i64,
    _dir: TempDir,
}

impl Kept {
    fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let store = Store::open(&dir.path().join("state.sqlite")).expect("an empty database");
        let mut kept = Self {
            store,
            next: 0,
            _dir: dir,
        };
        kept.keep(JOBS);
        kept
    }

    /// So many jobs more, in one commit.
    fn keep(&mut self, count: i64) {
        let jobs: Vec<KeepJob> = (self.next..self.next + count).map(kept).collect();
        self.next += count;
        let done: Result<(), StoreError> = block_on(self.store.write("counting", move |tx| {
            jobs.iter().try_for_each(|job| tx.keep_cron_job(job))
        }));
        done.expect("jobs are kept");
    }
}

/// The nth job as it is kept.
fn kept(nth: i64) -> KeepJob {
    let plan = job(nth);
    let id = plan.id.as_str();
    KeepJob {
        definition: json!({
            "id": id, "name": id, "enabled": true,
            "schedule": {"kind": "every", "everyMs": JOBS * HOUR_MS},
            "payload": {"kind": "systemEvent", "text": "time to look"},
        })
        .to_string(),
        name: id.to_owned(),
        searchable: format!("{id} time to look"),
        revision: format!("sha256:{nth:064}"),
        declaration_key: None,
        created_at_ms: NOW_MS + nth,
        updated_at_ms: NOW_MS + nth,
        plan,
    }
}

pub(crate) const READ_A_PAGE: Path = Path {
    name: "read-50-of-1000-jobs",
    rounds: 20,
    prepare: || {
        let kept = Kept::new();
        Box::new(move || {
            let page =
                block_on(kept.store.read(|db| {
                    db.cron_jobs(&JobFilter::default(), JobSort::NextRun, false, 50, 100)
                }));
            assert_eq!(black_box(page.expect("a page")).len(), 50);
        })
    },
};

pub(crate) const KEEP_A_JOB: Path = Path {
    name: "keep-a-job-beside-1000",
    rounds: 200,
    prepare: || {
        let mut kept = Kept::new();
        Box::new(move || kept.keep(1))
    },
};
