-- Deliveries, failure alerts, declared jobs. Times are milliseconds since the epoch.

-- Under which key a job is declared: adding the same key again changes the job.
ALTER TABLE cron_jobs ADD COLUMN declaration_key TEXT;
CREATE UNIQUE INDEX cron_jobs_by_declaration ON cron_jobs (declaration_key)
WHERE declaration_key IS NOT NULL;
-- Of everything that an operator set; computed once, when it was kept.
ALTER TABLE cron_jobs ADD COLUMN revision TEXT;
-- The last run's delivery, and the failures that were told and are not over.
ALTER TABLE cron_jobs ADD COLUMN last_delivery_error TEXT;
ALTER TABLE cron_jobs ADD COLUMN alerted_at_ms INTEGER;
ALTER TABLE cron_jobs ADD COLUMN alert_open INTEGER NOT NULL DEFAULT 0 CHECK (alert_open IN (0, 1));

ALTER TABLE cron_runs ADD COLUMN delivery_error TEXT;
-- what the target answered when it took the result
ALTER TABLE cron_runs ADD COLUMN delivery_receipt TEXT;

-- What is to be sent, written in the transaction that made it necessary. A row is sent at least
-- once; its id travels along, so that a receiver can tell a repetition.
CREATE TABLE outbox (
    seq                INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id        TEXT NOT NULL UNIQUE,
    purpose            TEXT NOT NULL CHECK (purpose IN ('result', 'failure', 'alert', 'recovery')),
    job_id             TEXT NOT NULL,
    run_id             TEXT NOT NULL,
    url                TEXT NOT NULL,
    body               TEXT NOT NULL,
    status             TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts           INTEGER NOT NULL DEFAULT 0,
    next_attempt_at_ms INTEGER,
    created_at_ms      INTEGER NOT NULL,
    ended_at_ms        INTEGER,
    error              TEXT,
    receipt            TEXT,
    CHECK ((status = 'pending') = (next_attempt_at_ms IS NOT NULL)),
    CHECK ((status = 'pending') = (ended_at_ms IS NULL))
) STRICT;
CREATE INDEX outbox_due ON outbox (next_attempt_at_ms) WHERE status = 'pending';
