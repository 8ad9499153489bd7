//! kill -9 at random moments, again and again, on one state directory whose jobs fire all the time.
//!
//! Afterwards: every acknowledged job is there and every acknowledged removal holds; each slot of
//! each job has exactly one record, without a gap; and what a job's command does to the world, a
//! line with the slot in a file, was done at most once for each slot.
//!
//! `CLAWGATE_KILLS=10000` raises the number of rounds, `CLAWGATE_SEED=n` repeats one sequence of
//! choices. Both are printed.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use clawgate_testkit::{Client, TestGateway, gateway};
use serde_json::{Value, json};

const KILLS_DEFAULT: u64 = 500;
/// Jobs that fire at the same time.
const JOBS_MAX: usize = 5;

/// splitmix64
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a job was answered to be.
struct Known {
    every_ms: i64,
    /// The first slot, as the answer named it.
    first_ms: i64,
    removed: bool,
}

struct Torture {
    gateway: TestGateway,
    rng: Rng,
    effects: std::path::PathBuf,
    jobs: BTreeMap<String, Known>,
    kills: u64,
}

impl Torture {
    /// One life of the gateway: some edits, then the end at any moment.
    fn round(&mut self, round: u64) {
        let mut client = self.gateway.owner(4);
        let alive: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, known)| !known.removed)
            .map(|(id, _)| id.clone())
            .collect();
        if alive.len() < JOBS_MAX && self.rng.below(3) > 0 {
            self.add(&mut client, round);
        }
        if alive.len() == JOBS_MAX || (alive.len() > 2 && self.rng.below(6) == 0) {
            let index = usize::try_from(self.rng.below(alive.len() as u64)).unwrap();
            let id = &alive[index];
            client.call("cron.remove", &json!({"id": id}));
            self.jobs.get_mut(id).unwrap().removed = true;
        }
        // Some rounds end with something unanswered on its way.
        if self.rng.below(4) == 0 {
            client.send(
                "cron.run",
                &json!({"id": alive.first().map_or("", String::as_str)}),
            );
        }
        let life = Duration::from_micros(self.rng.below(60_000));
        let until = Instant::now() + life;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        self.gateway.kill();
        self.kills += 1;
        self.gateway.restart();
    }

    fn add(&mut self, client: &mut Client, round: u64) {
        let every_ms = 5 + i64::try_from(self.rng.below(40)).unwrap();
        let script = format!(
            "echo \"$CLAWGATE_JOB_ID $CLAWGATE_SLOT_MS\" >> '{}'",
            self.effects.display()
        );
        let job = client.call(
            "cron.add",
            &json!({
                "name": format!("round {round}"),
                "schedule": {"kind": "every", "everyMs": every_ms},
                "payload": {"kind": "command", "argv": ["/bin/sh", "-c", script]},
                "disableAfter": false,
            }),
        );
        let known = Known {
            every_ms,
            first_ms: job["state"]["nextRunAtMs"].as_i64().unwrap(),
            removed: false,
        };
        self.jobs
            .insert(job["id"].as_str().unwrap().to_owned(), known);
    }

    /// Stops the clockwork and looks at everything that was recorded.
    fn verdict(&mut self) -> (usize, i64) {
        // Wire 3 answers about a job that is gone and never had a history: with nothing.
        let mut client = self.gateway.owner(3);
        let page = client.call("cron.list", &json!({"includeDisabled": true, "limit": 200}));
        let listed: HashSet<&str> = page["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap())
            .collect();
        for (id, known) in &self.jobs {
            assert_eq!(listed.contains(id.as_str()), !known.removed, "{id}");
        }
        assert_eq!(
            listed.len(),
            self.jobs.values().filter(|known| !known.removed).count(),
            "jobs that nobody knows"
        );
        for id in listed {
            client.call(
                "cron.update",
                &json!({"id": id, "patch": {"enabled": false}}),
            );
        }
        settled(&mut client);
        let mut slots = 0;
        for (id, known) in &self.jobs {
            slots += recorded_without_gap(&mut client, id, known);
        }
        (once_each(&self.effects, &self.jobs), slots)
    }
}

/// Waits until no run is under way: what runs has no record yet.
fn settled(client: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = client.call("cron.list", &json!({"includeDisabled": true, "limit": 200}));
        let jobs = page["jobs"].as_array().unwrap();
        if jobs
            .iter()
            .all(|job| job["state"].get("runningAtMs").is_none())
        {
            return;
        }
        assert!(Instant::now() < deadline, "a run of a disabled job goes on");
    }
}

/// Walks the history of a job from its first slot on: each entry begins where the last one ended.
fn recorded_without_gap(client: &mut Client, id: &str, known: &Known) -> i64 {
    let mut entries: Vec<Value> = Vec::new();
    loop {
        let params = json!({"id": id, "scope": "job", "limit": 200, "offset": entries.len()});
        let page = client.call("cron.runs", &params);
        entries.extend(page["entries"].as_array().unwrap().iter().cloned());
        if page["hasMore"] != true {
            break;
        }
    }
    let mut taken: Vec<(i64, i64, i64)> = entries
        .iter()
        .filter_map(|entry| {
            let first = entry["slotMs"].as_i64()?;
            let last = entry["lastSlotMs"].as_i64().unwrap_or(first);
            Some((first, last, entry["slots"].as_i64().unwrap_or(1)))
        })
        .collect();
    taken.sort_unstable();
    let mut next = known.first_ms;
    let mut slots = 0;
    for (first, last, count) in taken {
        assert_eq!(first, next, "{id}: a slot is missing or recorded twice");
        assert_eq!((last - first) / known.every_ms + 1, count, "{id}: range");
        next = last + known.every_ms;
        slots += count;
    }
    slots
}

/// No slot's line stands twice in the file.
fn once_each(effects: &Path, jobs: &BTreeMap<String, Known>) -> usize {
    let text = fs::read_to_string(effects).unwrap_or_default();
    let mut seen = HashSet::new();
    let mut by_slot = 0;
    for line in text.lines() {
        let (id, slot) = line.split_once(' ').unwrap_or((line, ""));
        assert!(
            jobs.contains_key(id),
            "a job that was never answered ran: {line}"
        );
        // Runs by hand stand for no slot.
        if !slot.is_empty() {
            by_slot += 1;
            assert!(seen.insert(line.to_owned()), "done twice: {line}");
        }
    }
    by_slot
}

#[test]
fn e79_no_slot_is_lost_or_done_twice_however_often_the_process_is_killed() {
    let kills = number("CLAWGATE_KILLS").unwrap_or(KILLS_DEFAULT);
    let seed = number("CLAWGATE_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos())
    });
    println!("CLAWGATE_KILLS={kills} CLAWGATE_SEED={seed}");
    let gateway = gateway!();
    let effects = gateway.home().state().join("effects");
    let mut torture = Torture {
        gateway,
        rng: Rng(seed),
        effects,
        jobs: BTreeMap::new(),
        kills: 0,
    };
    for round in 0..kills {
        torture.round(round);
    }
    let (effects, slots) = torture.verdict();
    println!(
        "{} kills, {} jobs, {slots} slots each recorded once, {effects} effects each done once",
        torture.kills,
        torture.jobs.len()
    );
    assert!(slots > 0 && effects > 0, "nothing happened");
}
