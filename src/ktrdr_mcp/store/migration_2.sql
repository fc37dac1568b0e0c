-- Migration 2: crashes and resuming, readings of test results, and whose database it is.

ALTER TABLE training_tasks ADD COLUMN scores TEXT;
ALTER TABLE training_tasks ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE training_tasks ADD COLUMN resumed_from TEXT;

-- How often the test results of a task were read; kept apart, since a finished task never changes.
CREATE TABLE test_readings (
    task_id TEXT PRIMARY KEY REFERENCES training_tasks (task_id),
    readings INTEGER NOT NULL
) STRICT;

-- Every transaction changes the one row, so that any write-ahead log says whose it is.
CREATE TABLE workspace (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    workspace_id TEXT NOT NULL,
    commits INTEGER NOT NULL
) STRICT;

INSERT INTO workspace VALUES (1, lower(hex(randomblob(16))), 0);
