-- The record of trials of all workspaces of a user. Rows are only added.

CREATE TABLE trials (
    workspace TEXT NOT NULL,
    task_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    created_at TEXT NOT NULL,
    test_start TEXT NOT NULL,
    test_end TEXT NOT NULL,
    sketch TEXT,
    PRIMARY KEY (workspace, task_id)
) STRICT;

CREATE TABLE outcomes (
    workspace TEXT NOT NULL,
    task_id TEXT NOT NULL,
    status TEXT NOT NULL,
    completed_at TEXT NOT NULL,
    claimed INTEGER NOT NULL,
    scores TEXT,
    PRIMARY KEY (workspace, task_id)
) STRICT;

CREATE TABLE sketches (
    sketch TEXT PRIMARY KEY,
    halvings INTEGER NOT NULL,
    hashes BLOB NOT NULL
) STRICT;
