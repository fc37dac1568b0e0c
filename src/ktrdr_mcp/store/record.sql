-- The record of trials and backtests of all workspaces of a user. Rows are only added, and
-- tables, which earlier versions of this program leave alone.

CREATE TABLE IF NOT EXISTS trials (
    workspace TEXT NOT NULL,
    task_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    created_at TEXT NOT NULL,
    test_start TEXT NOT NULL,
    test_end TEXT NOT NULL,
    sketch TEXT,
    PRIMARY KEY (workspace, task_id)
) STRICT;

CREATE TABLE IF NOT EXISTS outcomes (
    workspace TEXT NOT NULL,
    task_id TEXT NOT NULL,
    status TEXT NOT NULL,
    completed_at TEXT NOT NULL,
    claimed INTEGER NOT NULL,
    scores TEXT,
    PRIMARY KEY (workspace, task_id)
) STRICT;

CREATE TABLE IF NOT EXISTS sketches (
    sketch TEXT PRIMARY KEY,
    halvings INTEGER NOT NULL,
    hashes BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS additions (
    workspace TEXT NOT NULL,
    set_id TEXT NOT NULL,
    trials INTEGER NOT NULL,
    added_at TEXT NOT NULL,
    PRIMARY KEY (workspace, set_id)
) STRICT;

CREATE TABLE IF NOT EXISTS backtests (
    workspace TEXT NOT NULL,
    what TEXT NOT NULL,
    symbol TEXT NOT NULL,
    first_bar TEXT NOT NULL,
    last_bar TEXT NOT NULL,
    sketch TEXT,
    scores TEXT NOT NULL,
    made_at TEXT NOT NULL,
    PRIMARY KEY (workspace, what)
) STRICT;
