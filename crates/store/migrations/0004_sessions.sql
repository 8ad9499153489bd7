-- Sessions, their transcripts, what was used. Times are milliseconds since the epoch.

-- One row a key. What a person or a channel said about it is `entry`, JSON with whatever members it
-- came with; what is asked for by name stands beside it.
CREATE TABLE sessions (
    session_key    TEXT PRIMARY KEY,
    agent_id       TEXT NOT NULL,
    session_id     TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('direct', 'group', 'global', 'unknown')),
    -- the row of one cron run, which lists leave out
    is_run         INTEGER NOT NULL CHECK (is_run IN (0, 1)),
    label          TEXT,
    spawned_by     TEXT,
    archived_at_ms INTEGER,
    created_at_ms  INTEGER NOT NULL,
    updated_at_ms  INTEGER NOT NULL,
    -- under which a create is made once
    creation_key   TEXT UNIQUE,
    -- lower-cased names, which a search looks through
    names          TEXT NOT NULL,
    entry          TEXT NOT NULL,
    -- members of the entry that are long and seldom asked for, last so that others are read without
    reports        TEXT
) STRICT;
CREATE INDEX sessions_newest ON sessions (updated_at_ms, session_key) WHERE is_run = 0;
CREATE INDEX sessions_of_agent ON sessions (agent_id, updated_at_ms);
CREATE INDEX sessions_by_time ON sessions (updated_at_ms);
CREATE INDEX sessions_by_id ON sessions (session_id);
CREATE INDEX sessions_by_label ON sessions (label) WHERE label IS NOT NULL;
-- Kept with every change, so that nobody counts.
CREATE TABLE session_counts (
    agent_id TEXT PRIMARY KEY,
    sessions INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a conversation: a key gets a new one with each reset. Totals are those of its entries.
CREATE TABLE transcripts (
    transcript       INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id         TEXT NOT NULL,
    session_id       TEXT NOT NULL,
    session_key      TEXT NOT NULL,
    -- 0 once it was reset, deleted or left behind
    live             INTEGER NOT NULL CHECK (live IN (0, 1)),
    created_at_ms    INTEGER NOT NULL,
    -- the first line of its file, if it came from one
    header           TEXT,
    leaf_id          TEXT,
    -- numbers of the last entry and the last message, and those before which a compaction cut
    lines            INTEGER NOT NULL DEFAULT 0,
    messages         INTEGER NOT NULL DEFAULT 0,
    cut_lines        INTEGER NOT NULL DEFAULT 0,
    cut_messages     INTEGER NOT NULL DEFAULT 0,
    first_at_ms      INTEGER,
    last_at_ms       INTEGER,
    last_user_at_ms  INTEGER,
    -- beginnings of the first thing a person said and of the last thing that anybody said
    first_text       TEXT,
    last_text        TEXT
) STRICT;
CREATE UNIQUE INDEX transcripts_live ON transcripts (agent_id, session_id) WHERE live = 1;
CREATE INDEX transcripts_by_id ON transcripts (session_id);

CREATE TABLE transcript_entries (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    transcript      INTEGER NOT NULL REFERENCES transcripts (transcript),
    line            INTEGER NOT NULL,
    -- its number among the messages, if it is one
    message         INTEGER,
    entry_id        TEXT NOT NULL,
    parent_id       TEXT,
    kind            TEXT NOT NULL,
    role            TEXT,
    at_ms           INTEGER NOT NULL,
    run_id          TEXT,
    idempotency_key TEXT,
    -- the message, or the members of another entry
    body            TEXT NOT NULL,
    -- members of a message's entry besides the known ones
    extra           TEXT,
    -- what was said, for previews and the search
    text            TEXT,
    input           INTEGER,
    output          INTEGER,
    cache_read      INTEGER,
    cache_write     INTEGER,
    tokens          INTEGER,
    cost            REAL
) STRICT;
CREATE UNIQUE INDEX transcript_lines ON transcript_entries (transcript, line);
CREATE UNIQUE INDEX transcript_messages ON transcript_entries (transcript, message)
WHERE message IS NOT NULL;
CREATE UNIQUE INDEX transcript_ids ON transcript_entries (transcript, entry_id);
CREATE UNIQUE INDEX transcript_once ON transcript_entries (transcript, idempotency_key)
WHERE idempotency_key IS NOT NULL;
CREATE INDEX transcript_used ON transcript_entries (transcript, line) WHERE tokens IS NOT NULL;
CREATE VIRTUAL TABLE transcript_search USING fts5 (
    text, content = 'transcript_entries', content_rowid = 'seq'
);

-- What was put away under a name: lines of a transcript.
CREATE TABLE transcript_archives (
    name       TEXT PRIMARY KEY,
    transcript INTEGER NOT NULL REFERENCES transcripts (transcript),
    reason     TEXT NOT NULL CHECK (reason IN ('reset', 'deleted', 'compacted')),
    at_ms      INTEGER NOT NULL,
    first_line INTEGER NOT NULL,
    last_line  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX transcript_archives_by_time ON transcript_archives (at_ms);

-- Sums of a quarter of an hour, the finest in which days of every time zone begin. Rows of user
-- messages and tool results have no provider and no model.
CREATE TABLE usage_slots (
    slot_ms          INTEGER NOT NULL,
    transcript       INTEGER NOT NULL REFERENCES transcripts (transcript),
    provider         TEXT NOT NULL,
    model            TEXT NOT NULL,
    users            INTEGER NOT NULL,
    assistants       INTEGER NOT NULL,
    tool_calls       INTEGER NOT NULL,
    tool_results     INTEGER NOT NULL,
    errors           INTEGER NOT NULL,
    -- messages that say what they used
    uses             INTEGER NOT NULL,
    input            INTEGER NOT NULL,
    output           INTEGER NOT NULL,
    cache_read       INTEGER NOT NULL,
    cache_write      INTEGER NOT NULL,
    tokens           INTEGER NOT NULL,
    cost             REAL NOT NULL,
    input_cost       REAL NOT NULL,
    output_cost      REAL NOT NULL,
    cache_read_cost  REAL NOT NULL,
    cache_write_cost REAL NOT NULL,
    -- uses that do not say what they cost
    unpriced         INTEGER NOT NULL,
    first_at_ms      INTEGER NOT NULL,
    last_at_ms       INTEGER NOT NULL,
    PRIMARY KEY (slot_ms, transcript, provider, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_slots_of ON usage_slots (transcript, slot_ms);
CREATE TABLE usage_tools (
    slot_ms    INTEGER NOT NULL,
    transcript INTEGER NOT NULL REFERENCES transcripts (transcript),
    tool       TEXT NOT NULL,
    calls      INTEGER NOT NULL,
    PRIMARY KEY (slot_ms, transcript, tool)
) STRICT, WITHOUT ROWID;
-- How long answers took, in steps of about a tenth, so that a quantile needs no single values.
CREATE TABLE usage_waits (
    slot_ms    INTEGER NOT NULL,
    transcript INTEGER NOT NULL REFERENCES transcripts (transcript),
    step_ms    INTEGER NOT NULL,
    answers    INTEGER NOT NULL,
    sum_ms     INTEGER NOT NULL,
    min_ms     INTEGER NOT NULL,
    max_ms     INTEGER NOT NULL,
    PRIMARY KEY (slot_ms, transcript, step_ms)
) STRICT, WITHOUT ROWID;

-- Runs by the key under which they were asked for, so that one is not begun twice.
CREATE TABLE session_runs (
    run_id        TEXT PRIMARY KEY,
    session_key   TEXT NOT NULL,
    claimed_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER,
    outcome       TEXT,
    CHECK ((ended_at_ms IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX session_runs_ended ON session_runs (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
CREATE INDEX session_runs_open ON session_runs (session_key) WHERE ended_at_ms IS NULL;
