-- Migration 1. Times are ISO 8601 UTC text with Z; sequence numbers, not times, give the order.

CREATE TABLE training_tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL UNIQUE,
    symbol TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    config TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'training', 'completed', 'failed', 'cancelled')),
    progress INTEGER NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    started_at TEXT,
    completed_at TEXT,
    error_message TEXT,
    model_path TEXT,

    created_at TEXT NOT NULL,
    strategy TEXT NOT NULL,
    spec TEXT NOT NULL,
    spec_version INTEGER NOT NULL,
    request_hash TEXT NOT NULL,
    idempotency_key TEXT UNIQUE,
    similarity_hash TEXT NOT NULL,
    group_id TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    generation TEXT,
    executor TEXT NOT NULL,
    current_epoch INTEGER NOT NULL DEFAULT 0,
    total_epochs INTEGER NOT NULL,
    error_code TEXT,
    error_hint TEXT,
    error_stage TEXT,
    result TEXT,
    data_fingerprint TEXT,
    label_hash TEXT,
    test_start TEXT,
    test_end TEXT,
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),

    CHECK (status <> 'completed' OR (progress = 100 AND result IS NOT NULL)),
    CHECK (status <> 'failed' OR error_code IS NOT NULL),
    CHECK (status <> 'training' OR generation IS NOT NULL)
) STRICT;

CREATE INDEX training_tasks_by_status ON training_tasks (status, seq);
CREATE INDEX training_tasks_by_symbol ON training_tasks (symbol, seq);
CREATE INDEX training_tasks_by_similarity ON training_tasks (similarity_hash, seq);

CREATE TRIGGER terminal_is_final
BEFORE UPDATE OF status, progress, completed_at, result, error_code, error_message
ON training_tasks WHEN OLD.status IN ('completed', 'failed', 'cancelled')
BEGIN
    SELECT RAISE(ABORT, 'a finished task never changes');
END;

CREATE TABLE models (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id TEXT NOT NULL UNIQUE,
    model_name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    task_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    strategy TEXT NOT NULL,
    created_at TEXT NOT NULL,
    description TEXT NOT NULL,
    path TEXT NOT NULL,
    training_accuracy REAL,
    test_accuracy REAL,
    model_size_mb REAL NOT NULL,
    architecture TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    details TEXT NOT NULL,

    UNIQUE (model_name, version),
    UNIQUE (model_name, task_id)
) STRICT;

CREATE INDEX models_by_symbol ON models (symbol, seq);
