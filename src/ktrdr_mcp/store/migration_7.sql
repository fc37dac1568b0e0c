-- Migration 7: looks and backtests by the content of their bars, and when candidates became trials.

ALTER TABLE looks ADD COLUMN sketch TEXT;
ALTER TABLE backtests ADD COLUMN sketch TEXT;
ALTER TABLE added_trials ADD COLUMN added_at TEXT;

-- Of those from before, only that it was after their set had completed.
UPDATE added_trials
SET added_at = (SELECT completed_at FROM training_tasks WHERE task_id = set_id);
