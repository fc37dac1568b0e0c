-- Migration 3: what was looked at before a training, and notes on series.

CREATE TABLE looks (
    fingerprint TEXT NOT NULL,
    symbol TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    first INTEGER NOT NULL,
    until INTEGER NOT NULL,
    bars INTEGER NOT NULL,
    looked_at TEXT NOT NULL,
    PRIMARY KEY (fingerprint, symbol, timeframe)
) STRICT;

CREATE TABLE research_notes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    symbol TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    task_id TEXT,
    note TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE INDEX research_notes_by_symbol ON research_notes (symbol, seq);
