-- Cron: jobs, and what became of each of their slots. Times are milliseconds since the epoch.

CREATE TABLE cron_jobs (
    job_id             TEXT PRIMARY KEY,
    -- the job as it travels; what changes by itself (enabled, times, state) is in the columns below
    definition         TEXT NOT NULL,
    name               TEXT NOT NULL,
    -- lower case: the name, and everything that a query looks into
    name_key           TEXT NOT NULL,
    searchable         TEXT NOT NULL,
    created_at_ms      INTEGER NOT NULL,
    updated_at_ms      INTEGER NOT NULL,

    -- the schedule, resolved
    schedule_kind      TEXT NOT NULL CHECK (schedule_kind IN ('at', 'every', 'cron')),
    at_ms              INTEGER,
    every_ms           INTEGER,
    anchor_ms          INTEGER,
    expr               TEXT,
    time_zone          TEXT,
    stagger_ms         INTEGER,
    delete_after_run   INTEGER NOT NULL,
    -- what to do about passed slots, overlapping slots, repeated failure
    catch_up           TEXT NOT NULL CHECK (catch_up IN ('none', 'latest', 'all')),
    catch_up_max       INTEGER,
    catch_up_age_ms    INTEGER,
    overlap            TEXT NOT NULL CHECK (overlap IN ('skip', 'queue-one')),
    disable_after      INTEGER,

    -- how far it got: the planner's state, always written whole
    enabled            INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    disabled_why       TEXT,
    disabled_what      TEXT,
    disabled_count     INTEGER,
    disabled_at_ms     INTEGER,
    next_slot_ms       INTEGER,
    next_run_at_ms     INTEGER,
    last_slot_ms       INTEGER,
    backoff_until_ms   INTEGER,
    consecutive_errors INTEGER NOT NULL,
    retries            INTEGER NOT NULL,

    -- the run under way and the last one that ended
    running_at_ms      INTEGER,
    last_run_at_ms     INTEGER,
    last_status        TEXT,
    last_duration_ms   INTEGER,
    last_error         TEXT,
    last_error_class   TEXT,
    last_delivery      TEXT,
    -- rows in cron_runs
    history            INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX cron_jobs_by_next ON cron_jobs (next_run_at_ms, job_id, enabled);
CREATE INDEX cron_jobs_by_update ON cron_jobs (updated_at_ms, job_id, enabled);
CREATE INDEX cron_jobs_by_name ON cron_jobs (name_key, job_id, enabled);

-- One row per run, and one per slot (or range of slots) that did not run. Outlives its job.
CREATE TABLE cron_runs (
    -- never used twice, so that a run number above it is always free
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id          TEXT NOT NULL UNIQUE,
    -- the planner's number; none for slots that did not run
    run_seq         INTEGER UNIQUE,
    job_id          TEXT NOT NULL,
    job_name        TEXT NOT NULL,
    -- none for runs by hand
    slot_ms         INTEGER,
    -- the end of a range of slots, and how many it holds
    last_slot_ms    INTEGER,
    slots           INTEGER NOT NULL DEFAULT 1,
    kind            TEXT NOT NULL CHECK (kind IN ('scheduled', 'catch-up', 'retry', 'manual', 'record')),
    attempt         INTEGER NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('running', 'ok', 'error', 'skipped')),
    verdict         TEXT CHECK (verdict IN ('ran', 'skipped', 'missed', 'interrupted')),
    reason          TEXT,
    error           TEXT,
    error_class     TEXT,
    summary         TEXT,
    queued_at_ms    INTEGER,
    started_at_ms   INTEGER,
    ended_at_ms     INTEGER,
    duration_ms     INTEGER,
    next_run_at_ms  INTEGER,
    delivery_status TEXT,
    -- whose process holds the lease while it is running
    boot_id         TEXT NOT NULL,
    CHECK ((status = 'running') = (ended_at_ms IS NULL)),
    CHECK ((status = 'running') = (verdict IS NULL))
) STRICT;

-- A slot is decided once. (That a range of slots is not entered again is looked after by
-- cron_jobs.last_slot_ms, which only rises.)
CREATE UNIQUE INDEX cron_runs_slot ON cron_runs (job_id, slot_ms) WHERE slot_ms IS NOT NULL;
CREATE INDEX cron_runs_open ON cron_runs (run_seq) WHERE status = 'running';
CREATE INDEX cron_runs_by_job ON cron_runs (job_id, ended_at_ms) WHERE status <> 'running';
CREATE INDEX cron_runs_by_end ON cron_runs (ended_at_ms) WHERE status <> 'running';
CREATE INDEX cron_runs_by_status ON cron_runs (status, ended_at_ms) WHERE status <> 'running';

-- Totals for the first page of a list, which must not cost more with every row.
CREATE TABLE cron_counts (
    what TEXT PRIMARY KEY,
    n    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cron_counts (what, n)
VALUES ('enabled', 0), ('disabled', 0), ('ok', 0), ('error', 0), ('skipped', 0);

CREATE TRIGGER cron_jobs_added AFTER INSERT ON cron_jobs BEGIN
    UPDATE cron_counts SET n = n + 1 WHERE what = iif(new.enabled, 'enabled', 'disabled');
END;
CREATE TRIGGER cron_jobs_removed AFTER DELETE ON cron_jobs BEGIN
    UPDATE cron_counts SET n = n - 1 WHERE what = iif(old.enabled, 'enabled', 'disabled');
END;
CREATE TRIGGER cron_jobs_switched AFTER UPDATE OF enabled ON cron_jobs
WHEN old.enabled <> new.enabled BEGIN
    UPDATE cron_counts SET n = n - 1 WHERE what = iif(old.enabled, 'enabled', 'disabled');
    UPDATE cron_counts SET n = n + 1 WHERE what = iif(new.enabled, 'enabled', 'disabled');
END;
CREATE TRIGGER cron_runs_recorded AFTER INSERT ON cron_runs WHEN new.status <> 'running' BEGIN
    UPDATE cron_counts SET n = n + 1 WHERE what = new.status;
END;
CREATE TRIGGER cron_runs_settled AFTER UPDATE OF status ON cron_runs
WHEN old.status = 'running' AND new.status <> 'running' BEGIN
    UPDATE cron_counts SET n = n + 1 WHERE what = new.status;
END;
CREATE TRIGGER cron_runs_forgotten AFTER DELETE ON cron_runs WHEN old.status <> 'running' BEGIN
    UPDATE cron_counts SET n = n - 1 WHERE what = old.status;
END;
