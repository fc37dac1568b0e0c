-- Migration 6: trials by the content of their bars, and what each was judged beside.

ALTER TABLE training_tasks ADD COLUMN tested_sketch TEXT;
ALTER TABLE training_tasks ADD COLUMN trained_sketch TEXT;

CREATE TABLE sketches (
    sketch TEXT PRIMARY KEY,
    halvings INTEGER NOT NULL,
    hashes BLOB NOT NULL
) STRICT;

-- What a completed trial was judged beside: never changed, whatever other workspaces say later.
CREATE TABLE standings (
    task_id TEXT PRIMARY KEY REFERENCES training_tasks (task_id),
    standing TEXT NOT NULL
) STRICT;

-- Scores of other workspaces' trials that stand in a standing.
CREATE TABLE foreign_trials (
    task_id TEXT PRIMARY KEY,
    scores TEXT NOT NULL
) STRICT;

-- Those that completed before this were judged by this workspace alone.
INSERT INTO standings SELECT task_id, '{}' FROM training_tasks WHERE status = 'completed';
