-- A workspace of version 1: one task done, one whose process died, one waiting, one model.
BEGIN TRANSACTION;
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
INSERT INTO "models" VALUES(1,'model_1','kept',1,'done','AAPL','1h','default','2026-08-01T10:00:05Z','','models/kept/AAPL_1h_v1',0.5,0.4,0.02,'mlp_8','00','{}');
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
INSERT INTO "training_tasks" VALUES(1,'done','AAPL','1h','{"epochs":3}','completed',100,'2026-08-01T10:00:01Z','2026-08-01T10:00:02Z',NULL,NULL,'2026-08-01T10:00:00Z','default','{"task_id":"done"}',1,'r1',NULL,'s1',NULL,1,'g1','thread',3,3,NULL,NULL,NULL,'{"training_metrics":{}}',NULL,NULL,NULL,NULL,0);
INSERT INTO "training_tasks" VALUES(2,'died','AAPL','1h','{"epochs":9}','training',0,'2026-08-01T10:00:03Z',NULL,NULL,NULL,'2026-08-01T10:00:03Z','default','{"task_id":"died"}',1,'r2',NULL,'s2',NULL,2,'g1','thread',0,9,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "training_tasks" VALUES(3,'waits','MSFT','1d','{"epochs":9}','pending',0,NULL,NULL,NULL,NULL,'2026-08-01T10:00:04Z','default','{"task_id":"waits"}',1,'r3',NULL,'s3',NULL,0,NULL,'thread',0,9,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE INDEX training_tasks_by_status ON training_tasks (status, seq);
CREATE INDEX training_tasks_by_symbol ON training_tasks (symbol, seq);
CREATE INDEX training_tasks_by_similarity ON training_tasks (similarity_hash, seq);
CREATE TRIGGER terminal_is_final
BEFORE UPDATE OF status, progress, completed_at, result, error_code, error_message
ON training_tasks WHEN OLD.status IN ('completed', 'failed', 'cancelled')
BEGIN
    SELECT RAISE(ABORT, 'a finished task never changes');
END;
CREATE INDEX models_by_symbol ON models (symbol, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('training_tasks',3);
INSERT INTO "sqlite_sequence" VALUES('models',1);
COMMIT;
PRAGMA user_version = 1;
