//! Cron on a real database file: slots are decided once, decisions are whole or not at all, pages
//! and totals agree, the history is bounded.

mod support;

use std::task::Poll;

use clawgate_core::{
    JobId, RunId,
    cron::{
        CatchUp, CatchUpMode, DisableReason, ErrorClass, Fire, FireKind, Job, JobState, Outcome,
        Overlap, Reason, Record, RunSeq, Schedule, Settle, Unfinished, Verdict, Zone,
    },
};
use clawgate_store::{
    CronJob, Ending, HISTORY_MAX, JobFilter, JobSort, KeepJob, RunFilter, Store, StoreError, Tx,
};
use support::{Place, block_on};

fn write<T: Send + 'static>(
    store: &Store,
    act: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    block_on(store.write("testing", act))
}

fn every(id: &str) -> Job {
    Job::new(id, Schedule::every(1_000, Some(0), 0).expect("valid"))
}

fn named(plan: Job, name: &str, at_ms: i64) -> KeepJob {
    KeepJob {
        definition: format!(r#"{{"id":"{}"}}"#, plan.id),
        plan,
        name: name.to_owned(),
        declaration_key: None,
        revision: "sha256:0".to_owned(),
        searchable: name.to_owned(),
        created_at_ms: at_ms,
        updated_at_ms: at_ms,
    }
}

fn add(store: &Store, job: KeepJob) {
    write(store, move |tx| tx.keep_cron_job(&job)).expect("kept");
}

fn job(store: &Store, id: &str) -> Option<CronJob> {
    let id = JobId::from(id);
    store
        .read_blocking(move |db| db.cron_job(&id))
        .expect("readable")
}

fn state_after(slot_ms: i64) -> JobState {
    JobState {
        last_slot_ms: Some(slot_ms),
        next_slot_ms: Some(slot_ms + 1_000),
        next_run_at_ms: Some(slot_ms + 1_000),
        ..JobState::default()
    }
}

fn fire(id: &str, run_seq: u64, slot_ms: Option<i64>) -> Fire {
    Fire {
        run_seq: RunSeq(run_seq),
        job_id: JobId::from(id),
        slot_ms,
        kind: if slot_ms.is_some() {
            FireKind::Scheduled
        } else {
            FireKind::Manual
        },
        attempt: 0,
        queued_at_ms: slot_ms.unwrap_or(0),
        started_at_ms: slot_ms.unwrap_or(0) + 5,
        state: state_after(slot_ms.unwrap_or(0)),
    }
}

fn run_id(run_seq: u64) -> RunId {
    RunId::new(format!("run:{run_seq}"))
}

fn claim(store: &Store, fire: Fire) -> Result<String, StoreError> {
    let id = run_id(fire.run_seq.0);
    write(store, move |tx| tx.claim_fire(&fire, &id, "boot")).map(|claimed| claimed.definition)
}

fn record(id: &str, first: i64, last: i64, count: u64) -> Record {
    Record {
        job_id: JobId::from(id),
        slot_ms: first,
        last_slot_ms: last,
        count,
        verdict: Verdict::Missed,
        reason: Reason::Superseded,
        at_ms: last + 1,
        state: state_after(last),
    }
}

fn keep_record(store: &Store, record: Record) -> Result<(), StoreError> {
    let id = RunId::new(format!("slot:{}:{}", record.job_id, record.slot_ms));
    write(store, move |tx| tx.record_slot(&record, &id, "boot"))
}

fn settle(id: &str, run_seq: u64, slot_ms: Option<i64>, outcome: Outcome) -> Settle {
    Settle {
        run_seq: RunSeq(run_seq),
        job_id: JobId::from(id),
        slot_ms,
        outcome,
        ended_at_ms: slot_ms.unwrap_or(0) + 105,
        state: Some(state_after(slot_ms.unwrap_or(0))),
        delete: false,
    }
}

fn close(store: &Store, settle: Settle, ending: Ending) -> Result<(), StoreError> {
    write(store, move |tx| tx.settle_run(&settle, &ending)).map(drop)
}

fn runs_of(store: &Store, id: &str) -> Vec<(Option<i64>, String)> {
    let filter = RunFilter {
        job_id: Some(JobId::from(id)),
        ..RunFilter::default()
    };
    let runs = store
        .read_blocking(move |db| db.cron_runs(&filter, true, 10_000, 0))
        .expect("readable");
    runs.into_iter()
        .map(|run| (run.slot_ms, run.verdict))
        .collect()
}

fn is_inconsistent<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    let error = outcome.expect_err("refused");
    assert!(matches!(error, StoreError::Inconsistent { .. }), "{error}");
}

#[test]
fn a_slot_is_decided_once() {
    let place = Place::new();
    let store = place.open();
    add(&store, named(every("a"), "a", 0));
    assert_eq!(
        claim(&store, fire("a", 1, Some(1_000))).unwrap(),
        r#"{"id":"a"}"#
    );
    close(
        &store,
        settle("a", 1, Some(1_000), Outcome::Ok),
        Ending::default(),
    )
    .unwrap();
    let before = job(&store, "a");

    is_inconsistent(claim(&store, fire("a", 2, Some(1_000))));
    is_inconsistent(claim(&store, fire("a", 2, Some(500))));
    is_inconsistent(keep_record(&store, record("a", 1_000, 1_000, 1)));
    is_inconsistent(claim(&store, fire("nobody", 2, Some(2_000))));
    // A run number is used once, too.
    is_inconsistent(claim(&store, fire("a", 1, Some(9_000))));
    assert_eq!(job(&store, "a"), before);
    assert_eq!(runs_of(&store, "a"), [(Some(1_000), "ran".to_owned())]);
}

#[test]
fn a_range_of_slots_is_not_entered_again() {
    let place = Place::new();
    let store = place.open();
    add(&store, named(every("a"), "a", 0));
    keep_record(&store, record("a", 1_000, 5_000, 5)).unwrap();
    is_inconsistent(claim(&store, fire("a", 1, Some(3_000))));
    is_inconsistent(keep_record(&store, record("a", 5_000, 5_000, 1)));
    claim(&store, fire("a", 1, Some(6_000))).unwrap();
    let first = store
        .read_blocking(|db| db.cron_runs(&RunFilter::default(), true, 1, 0))
        .unwrap();
    assert_eq!((first[0].slots, first[0].last_slot_ms), (5, Some(5_000)));
    assert_eq!(first[0].reason.as_deref(), Some("superseded"));
}

#[test]
fn a_claim_and_its_advance_stand_or_fall_together() {
    let place = Place::new();
    let store = place.open();
    add(&store, named(every("a"), "a", 0));
    let before = job(&store, "a");
    let fell = write::<()>(&store, |tx| {
        tx.claim_fire(&fire("a", 1, Some(1_000)), &run_id(1), "boot")?;
        Err(StoreError::Closed)
    });
    assert!(matches!(fell, Err(StoreError::Closed)));
    assert_eq!(job(&store, "a"), before);
    assert_eq!(store.read_blocking(|db| db.unfinished_runs()).unwrap(), []);

    claim(&store, fire("a", 1, Some(1_000))).unwrap();
    let after = job(&store, "a").unwrap();
    assert_eq!(after.plan.state, state_after(1_000));
    assert_eq!(after.running_at_ms, Some(1_005));
}

#[test]
fn open_runs_outlive_the_process_and_numbers_are_not_used_again() {
    let place = Place::new();
    {
        let store = place.open();
        add(&store, named(every("a"), "a", 0));
        assert_eq!(store.read_blocking(|db| db.next_run_seq()).unwrap(), 1);
        claim(&store, fire("a", 1, Some(1_000))).unwrap();
        claim(&store, fire("a", 2, None)).unwrap();
    }
    let store = place.open();
    let unfinished = store.read_blocking(|db| db.unfinished_runs()).unwrap();
    let expected = [
        (1, Some(1_000), FireKind::Scheduled),
        (2, None, FireKind::Manual),
    ]
    .map(|(run_seq, slot_ms, kind)| Unfinished {
        run_seq: RunSeq(run_seq),
        job_id: JobId::from("a"),
        slot_ms,
        kind,
    });
    assert_eq!(unfinished, expected);
    assert_eq!(store.read_blocking(|db| db.next_run_seq()).unwrap(), 3);
    let plans = store.read_blocking(|db| db.cron_plans()).unwrap();
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].state.last_slot_ms, Some(0));
}

#[test]
fn a_run_is_settled_once_and_its_facts_are_the_jobs() {
    let place = Place::new();
    let store = place.open();
    add(&store, named(every("a"), "a", 0));
    claim(&store, fire("a", 1, Some(1_000))).unwrap();
    let ending = Ending {
        error: Some("no".to_owned()),
        delivery_status: Some("not-delivered".to_owned()),
        ..Ending::default()
    };
    let failed = settle("a", 1, Some(1_000), Outcome::Failed(ErrorClass::Network));
    close(&store, failed.clone(), ending.clone()).unwrap();
    is_inconsistent(close(&store, failed, ending));
    let kept = job(&store, "a").unwrap();
    let last = kept.last_run.unwrap();
    assert_eq!(
        (last.at_ms, last.duration_ms, last.status.as_str()),
        (1_005, 100, "error")
    );
    assert_eq!(last.error_class.as_deref(), Some("network"));
    assert_eq!((kept.running_at_ms, kept.updated_at_ms), (None, 1_105));

    claim(&store, fire("a", 2, Some(2_000))).unwrap();
    close(
        &store,
        settle("a", 2, Some(2_000), Outcome::Ok),
        Ending::default(),
    )
    .unwrap();
    assert_eq!(job(&store, "a").unwrap().last_run.unwrap().error, None);
}

#[test]
fn history_outlives_its_job() {
    let place = Place::new();
    let store = place.open();
    add(&store, named(every("a"), "reminder", 0));
    claim(&store, fire("a", 1, Some(1_000))).unwrap();
    let done = Settle {
        delete: true,
        ..settle("a", 1, Some(1_000), Outcome::Ok)
    };
    close(&store, done, Ending::default()).unwrap();
    assert_eq!(job(&store, "a"), None);
    let runs = store
        .read_blocking(|db| db.cron_runs(&RunFilter::default(), false, 10, 0))
        .unwrap();
    assert_eq!(runs[0].job_name, "reminder");

    // A run whose job was removed meanwhile still gets its end.
    add(&store, named(every("b"), "b", 0));
    claim(&store, fire("b", 2, None)).unwrap();
    assert!(write(&store, |tx| tx.remove_cron_job(&JobId::from("b"))).unwrap());
    assert!(!write(&store, |tx| tx.remove_cron_job(&JobId::from("b"))).unwrap());
    let orphan = Settle {
        state: None,
        ..settle("b", 2, None, Outcome::Cancelled)
    };
    close(&store, orphan, Ending::default()).unwrap();
    assert_eq!(runs_of(&store, "b"), [(None, "interrupted".to_owned())]);
}

#[test]
fn a_job_reads_back_as_it_was_kept() {
    let place = Place::new();
    let store = place.open();
    let cron = Schedule::cron(
        "*/5 9 * * MON",
        Some("Europe/Berlin"),
        Some(7),
        &Zone::utc(),
        0,
    );
    let plans = [
        Job::new("at", Schedule::At { at_ms: 77 }),
        Job {
            catch_up: CatchUp {
                mode: CatchUpMode::All { max: 3 },
                max_age_ms: Some(9),
            },
            overlap: Overlap::QueueOne,
            disable_after: None,
            ..Job::new("cron", cron.unwrap())
        },
        Job {
            catch_up: CatchUp {
                mode: CatchUpMode::None,
                max_age_ms: None,
            },
            state: JobState {
                enabled: false,
                disabled: Some(DisableReason::ConsecutiveFailures {
                    count: 10,
                    last: ErrorClass::Timeout,
                }),
                last_slot_ms: Some(5),
                backoff_until_ms: Some(6),
                consecutive_errors: 10,
                retries: 2,
                ..JobState::default()
            },
            ..every("every")
        },
    ];
    for plan in &plans {
        add(&store, named(plan.clone(), "n", 3));
    }
    for plan in plans {
        let kept = job(&store, plan.id.as_str()).unwrap();
        assert_eq!(kept.disabled_at_ms, plan.state.disabled.map(|_| 3));
        assert_eq!(kept.plan, plan);
    }
}

#[test]
fn pages_of_jobs_follow_filter_and_order() {
    let place = Place::new();
    let store = place.open();
    let jobs = [
        ("a", "Beta", Some(30), 3),
        ("b", "alpha", Some(10), 4),
        ("c", "Gamma", None, 5),
    ];
    for (id, name, next, updated) in jobs {
        let mut plan = every(id);
        plan.state.enabled = next.is_some();
        plan.state.next_run_at_ms = next;
        add(&store, named(plan, name, updated));
    }
    let page = |enabled: Option<bool>, query: Option<&str>, sort, descending, limit, offset| {
        let filter = JobFilter {
            enabled,
            query: query.map(str::to_owned),
            ..JobFilter::default()
        };
        let (ids, total) = store
            .read_blocking(move |db| {
                let jobs = db.cron_jobs(&filter, sort, descending, limit, offset)?;
                let ids: String = jobs.iter().map(|job| job.plan.id.as_str()).collect();
                Ok((ids, db.count_cron_jobs(&filter)?))
            })
            .unwrap();
        format!("{ids} of {total}")
    };
    let next = JobSort::NextRun;
    assert_eq!(page(None, None, next, false, 50, 0), "bac of 3");
    assert_eq!(page(None, None, next, true, 50, 0), "abc of 3");
    assert_eq!(page(Some(true), None, next, false, 50, 0), "ba of 2");
    assert_eq!(page(Some(false), None, next, false, 50, 0), "c of 1");
    assert_eq!(page(None, None, next, false, 1, 1), "a of 3");
    assert_eq!(page(None, None, next, false, 50, 3), " of 3");
    assert_eq!(page(None, None, JobSort::Name, false, 50, 0), "bac of 3");
    assert_eq!(
        page(Some(true), None, JobSort::Name, true, 50, 0),
        "ab of 2"
    );
    assert_eq!(
        page(Some(false), None, JobSort::Updated, true, 50, 0),
        "c of 1"
    );
    assert_eq!(page(None, None, JobSort::Updated, true, 50, 0), "cba of 3");
    assert_eq!(page(None, Some("AMMA"), next, false, 50, 0), "c of 1");
    assert_eq!(page(Some(true), Some("a"), next, false, 1, 0), "b of 2");
    assert_eq!(
        store.read_blocking(|db| db.next_cron_wake()).unwrap(),
        Some(10)
    );

    // Totals follow a switch and a removal.
    let mut plan = every("a");
    plan.state.enabled = false;
    add(&store, named(plan, "Beta", 9));
    assert_eq!(page(Some(true), None, next, false, 50, 0), "b of 1");
    assert_eq!(job(&store, "a").unwrap().created_at_ms, 3);
    write(&store, |tx| tx.remove_cron_job(&JobId::from("c"))).unwrap();
    assert_eq!(page(Some(false), None, next, false, 50, 0), "a of 1");
}

#[test]
fn pages_of_runs_follow_filter_and_order() {
    let place = Place::new();
    let store = place.open();
    for id in ["a", "b"] {
        add(&store, named(every(id), &format!("job {id}"), 0));
    }
    let outcomes = [
        (1, "a", Outcome::Ok, "hello", "delivered"),
        (2, "b", Outcome::Failed(ErrorClass::Auth), "", "unknown"),
        (
            3,
            "a",
            Outcome::Failed(ErrorClass::Auth),
            "",
            "not-requested",
        ),
        (4, "b", Outcome::Skipped, "", "not-requested"),
    ];
    for (run_seq, id, outcome, summary, delivery) in outcomes {
        let slot = i64::try_from(run_seq).unwrap() * 1_000;
        claim(&store, fire(id, run_seq, Some(slot))).unwrap();
        let ending = Ending {
            error: matches!(outcome, Outcome::Failed(_)).then(|| "No API Key".to_owned()),
            summary: Some(summary.to_owned()).filter(|text| !text.is_empty()),
            delivery_status: Some(delivery.to_owned()),
            ..Ending::default()
        };
        close(&store, settle(id, run_seq, Some(slot), outcome), ending).unwrap();
    }
    claim(&store, fire("a", 5, None)).unwrap();

    let words = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    let page = |filter: RunFilter, ascending, limit, offset| {
        let (ids, total) = store
            .read_blocking(move |db| {
                let runs = db.cron_runs(&filter, ascending, limit, offset)?;
                let ids: Vec<String> = runs
                    .iter()
                    .map(|run| run.run_id.as_str()[4..].to_owned())
                    .collect();
                Ok((ids.concat(), db.count_cron_runs(&filter)?))
            })
            .unwrap();
        format!("{ids} of {total}")
    };
    let all = RunFilter::default;
    assert_eq!(page(all(), false, 50, 0), "4321 of 4");
    assert_eq!(page(all(), true, 2, 1), "23 of 4");
    let of_a = || RunFilter {
        job_id: Some(JobId::from("a")),
        ..all()
    };
    assert_eq!(page(of_a(), false, 50, 0), "31 of 2");
    assert_eq!(
        page(
            RunFilter {
                run_id: Some(run_id(2)),
                ..all()
            },
            false,
            50,
            0
        ),
        "2 of 1"
    );
    let errors = || RunFilter {
        statuses: words(&["error"]),
        ..all()
    };
    assert_eq!(page(errors(), false, 50, 0), "32 of 2");
    assert_eq!(
        page(
            RunFilter {
                statuses: words(&["error"]),
                ..of_a()
            },
            false,
            50,
            0
        ),
        "3 of 1"
    );
    let both = RunFilter {
        statuses: words(&["ok", "skipped"]),
        ..all()
    };
    assert_eq!(page(both, false, 50, 0), "41 of 2");
    let delivery = RunFilter {
        delivery_statuses: words(&["unknown", "delivered"]),
        ..all()
    };
    assert_eq!(page(delivery, false, 50, 0), "21 of 2");
    let query = |text: &str| RunFilter {
        query: Some(text.to_owned()),
        ..all()
    };
    assert_eq!(page(query("api KEY"), false, 50, 0), "32 of 2");
    assert_eq!(page(query("job b"), true, 50, 0), "24 of 2");
    assert_eq!(page(query("weather"), true, 50, 0), " of 0");
}

#[test]
fn history_is_bounded_per_job() {
    let place = Place::new();
    let store = place.open();
    for id in ["busy", "quiet"] {
        add(&store, named(every(id), id, 0));
    }
    claim(&store, fire("quiet", 1, Some(1_000))).unwrap();
    close(
        &store,
        settle("quiet", 1, Some(1_000), Outcome::Ok),
        Ending::default(),
    )
    .unwrap();
    let surplus = 7;
    write(&store, move |tx| {
        for number in 1..=HISTORY_MAX + surplus {
            let slot = number * 1_000;
            let id = RunId::new(format!("slot:{slot}"));
            tx.record_slot(&record("busy", slot, slot, 1), &id, "boot")?;
        }
        Ok(())
    })
    .unwrap();
    let slots = runs_of(&store, "busy");
    assert_eq!(i64::try_from(slots.len()).unwrap(), HISTORY_MAX);
    assert_eq!(slots[0].0, Some((surplus + 1) * 1_000));
    assert_eq!(runs_of(&store, "quiet").len(), 1);
    let total = store
        .read_blocking(|db| db.count_cron_runs(&RunFilter::default()))
        .unwrap();
    assert_eq!(i64::try_from(total).unwrap(), HISTORY_MAX + 1);
    // A forgotten slot is still a decided one.
    is_inconsistent(claim(&store, fire("busy", 2, Some(1_000))));
}

#[test]
fn a_commit_is_counted_before_anybody_is_told_of_it() {
    let place = Place::new();
    let store = place.open();
    for number in 0..50 {
        let before = store.commits();
        add(&store, named(every("a"), "a", number));
        let after = store.commits();
        assert!(after > before, "{before} {after}");
        job(&store, "a").expect("kept");
        assert_eq!(store.commits(), after, "looking commits nothing");
    }
}

#[test]
fn more_acts_than_may_wait_at_once_are_all_done() {
    let place = Place::new();
    let store = place.open();
    let acts = 10_000;
    let mut under_way: Vec<_> = (0..acts)
        .map(|number: i64| {
            let job = named(every(&format!("job-{number}")), "many", number);
            Box::pin(store.write("testing", move |tx| tx.keep_cron_job(&job)))
        })
        .collect();
    block_on(std::future::poll_fn(|context| {
        under_way.retain_mut(|act| match act.as_mut().poll(context) {
            Poll::Ready(outcome) => {
                outcome.expect("kept");
                false
            }
            Poll::Pending => true,
        });
        if under_way.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    let kept = store
        .read_blocking(|db| db.count_cron_jobs(&JobFilter::default()))
        .expect("readable");
    assert_eq!(kept, 10_000);
}

#[test]
fn an_act_that_fails_or_panics_alone_leaves_no_trace_and_the_next_one_stands() {
    let place = Place::new();
    let store = place.open();
    let failed = write(&store, |tx| {
        tx.keep_cron_job(&named(every("failed"), "failed", 1))?;
        Err::<(), _>(StoreError::Closed)
    });
    assert!(matches!(failed, Err(StoreError::Closed)), "{failed:?}");
    let panicked = write(&store, |tx| {
        tx.keep_cron_job(&named(every("panicked"), "panicked", 1))?;
        if true {
            panic!("on purpose");
        }
        Ok(())
    });
    assert!(
        matches!(panicked, Err(StoreError::Abandoned { .. })),
        "{panicked:?}"
    );
    add(&store, named(every("kept"), "kept", 1));
    assert_eq!(job(&store, "failed"), None);
    assert_eq!(job(&store, "panicked"), None);
    assert!(job(&store, "kept").is_some());
}
