-- Notes of workspaces as they were last looked at, to be searched. The files are the truth; all of
-- this is made from them.
CREATE TABLE memory_files (
    workspace TEXT NOT NULL,
    path      TEXT NOT NULL,
    mtime_ms  INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    PRIMARY KEY (workspace, path)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE memory_search USING fts5 (
    text, workspace UNINDEXED, path UNINDEXED, first_line UNINDEXED, last_line UNINDEXED,
    tokenize = 'unicode61 remove_diacritics 2'
);
