-- Migration 4: handles, each given out once, by which a client follows a task without its id.

CREATE TABLE task_handles (
    handle TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
