-- Devices, API tokens, settings, system events, cron. Times are milliseconds since the epoch.

CREATE TABLE devices (
    device_id      TEXT PRIMARY KEY,
    public_key     TEXT NOT NULL,
    display_name   TEXT,
    platform       TEXT,
    device_family  TEXT,
    client_id      TEXT NOT NULL,
    client_mode    TEXT NOT NULL,
    remote_ip      TEXT,
    silently       INTEGER NOT NULL,
    created_at_ms  INTEGER NOT NULL,
    approved_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE device_roles (
    device_id TEXT NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    role      TEXT NOT NULL,
    -- approved scopes, space separated, in order of approval
    scopes    TEXT NOT NULL,
    PRIMARY KEY (device_id, role)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_tokens (
    device_id       TEXT NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    role            TEXT NOT NULL,
    scopes          TEXT NOT NULL,
    -- the token itself is derived from this and a key outside of the database
    serial          TEXT NOT NULL,
    old_serial      TEXT,
    old_until_ms    INTEGER,
    created_at_ms   INTEGER NOT NULL,
    rotated_at_ms   INTEGER,
    revoked_at_ms   INTEGER,
    last_used_at_ms INTEGER,
    PRIMARY KEY (device_id, role)
) STRICT, WITHOUT ROWID;

CREATE TABLE pairing_requests (
    request_id    TEXT PRIMARY KEY,
    device_id     TEXT NOT NULL,
    public_key    TEXT NOT NULL,
    role          TEXT NOT NULL,
    scopes        TEXT NOT NULL,
    display_name  TEXT,
    platform      TEXT,
    device_family TEXT,
    client_id     TEXT NOT NULL,
    client_mode   TEXT NOT NULL,
    remote_ip     TEXT,
    is_repair     INTEGER NOT NULL,
    asked_at_ms   INTEGER NOT NULL,
    UNIQUE (device_id, role)
) STRICT;

CREATE TABLE api_tokens (
    name            TEXT PRIMARY KEY,
    -- SHA-256 of the secret, hex
    fingerprint     TEXT NOT NULL UNIQUE,
    scopes          TEXT NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    expires_at_ms   INTEGER,
    last_used_at_ms INTEGER,
    revoked_at_ms   INTEGER
) STRICT;

-- What was decided about authority, by whom and why. Never a secret.
CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms  INTEGER NOT NULL,
    act    TEXT NOT NULL,
    actor  TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Texts that wait for the main session's next turn.
CREATE TABLE system_events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    session_key TEXT NOT NULL,
    text        TEXT NOT NULL,
    -- what it came from, such as a run of a job; the same origin is queued once
    origin      TEXT UNIQUE,
    at_ms       INTEGER NOT NULL
) STRICT;
