-- Nodes: what was approved, what waits for approval, what is to be done. Times are milliseconds.

-- What a node declares with the request to be paired; lines of names.
ALTER TABLE pairing_requests ADD COLUMN caps TEXT NOT NULL DEFAULT '';
ALTER TABLE pairing_requests ADD COLUMN commands TEXT NOT NULL DEFAULT '';

-- What was approved of what a paired device declares as a node.
CREATE TABLE node_surfaces (
    device_id      TEXT PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    caps           TEXT NOT NULL,
    commands       TEXT NOT NULL,
    approved_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What an operator calls a paired device.
CREATE TABLE node_names (
    device_id    TEXT PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    display_name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests: of the older store, which anybody files for a name, and of paired devices that declare
-- more than was approved.
CREATE TABLE node_requests (
    request_id  TEXT PRIMARY KEY,
    node_id     TEXT NOT NULL,
    origin      TEXT NOT NULL CHECK (origin IN ('filed', 'declared')),
    -- the request as it travels
    record      TEXT NOT NULL,
    asked_at_ms INTEGER NOT NULL,
    UNIQUE (node_id, origin)
) STRICT;

-- The older store: names with a token each. A connect does not ask it.
CREATE TABLE node_pairings (
    node_id        TEXT PRIMARY KEY,
    -- the token itself is derived from this and a key outside of the database
    serial         TEXT NOT NULL,
    -- what was approved, as it travels
    record         TEXT NOT NULL,
    created_at_ms  INTEGER NOT NULL,
    approved_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a node is to do when it looks; one of a kind.
CREATE TABLE node_work (
    node_id       TEXT NOT NULL,
    kind          TEXT NOT NULL,
    work_id       TEXT NOT NULL UNIQUE,
    priority      TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    PRIMARY KEY (node_id, kind)
) STRICT, WITHOUT ROWID;
-- How often a node's list changed.
CREATE TABLE node_work_revisions (
    node_id  TEXT PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Commands that a node could not run in the background.
CREATE TABLE node_actions (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    action_id       TEXT NOT NULL UNIQUE,
    node_id         TEXT NOT NULL,
    command         TEXT NOT NULL,
    params          TEXT,
    idempotency_key TEXT NOT NULL,
    enqueued_at_ms  INTEGER NOT NULL,
    UNIQUE (node_id, idempotency_key)
) STRICT;
CREATE INDEX node_actions_by_node ON node_actions (node_id, seq);
