-- Migration 5: backtests on bars that their models had not seen, and trials that a set of
-- candidates adds once one of them is asked for or started again.

CREATE TABLE backtests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    what TEXT NOT NULL UNIQUE,
    symbol TEXT NOT NULL,
    first_bar TEXT NOT NULL,
    last_bar TEXT NOT NULL,
    scores TEXT NOT NULL,
    made_at TEXT NOT NULL
) STRICT;

CREATE INDEX backtests_by_symbol ON backtests (symbol, seq);

-- Those of a set count for tasks with a sequence number above `known_tasks`.
CREATE TABLE added_trials (
    set_id TEXT PRIMARY KEY,
    trials INTEGER NOT NULL,
    known_tasks INTEGER NOT NULL,
    started TEXT
) STRICT;
