-- Commands that wait for somebody to let them run, and what became of them. Times are milliseconds
-- since the epoch.

CREATE TABLE approvals (
    approval_id      TEXT PRIMARY KEY,
    -- who asked: bounds are by this
    requester        TEXT NOT NULL,
    requester_device TEXT,
    requester_conn   TEXT NOT NULL,
    -- what was shown, as JSON, and SHA-256 over everything that is decided about
    request          TEXT NOT NULL,
    digest           TEXT NOT NULL,
    created_at_ms    INTEGER NOT NULL,
    expires_at_ms    INTEGER NOT NULL,
    status           TEXT NOT NULL CHECK (status IN ('pending', 'decided', 'expired')),
    decision         TEXT CHECK (decision IN ('allow-once', 'allow-always', 'deny')),
    decided_by       TEXT,
    decided_at_ms    INTEGER,
    -- when the run that it was for was begun: once
    spent_at_ms      INTEGER,
    CHECK ((status = 'decided') = (decision IS NOT NULL)),
    CHECK ((status = 'decided') = (decided_at_ms IS NOT NULL))
) STRICT;
CREATE INDEX approvals_pending ON approvals (expires_at_ms) WHERE status = 'pending';
CREATE INDEX approvals_ended ON approvals (created_at_ms) WHERE status <> 'pending';
