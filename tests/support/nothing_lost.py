"""The promises L1 to L7, stated over a workspace that no process owns.

Everything is read with the standard library alone, so that no defect of the program hides itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TERMINAL = {"completed", "failed", "cancelled"}
CHECKPOINT_EVERY_EPOCHS = 1  # the fault tests set the interval to zero seconds


def assert_nothing_lost(
    workspace: Path,
    acknowledged_ids: Collection[str],
    *,
    finished: Mapping[str, str] | None = None,
    reported: Mapping[str, int] | None = None,
) -> None:
    """States every promise.

    Args:
        workspace: the folder; the server on it has ended, one way or another.
        acknowledged_ids: the task ids that clients were given.
        finished: `fingerprint` of rows that were seen finished, by task id.
        reported: the newest epoch that a client was told of before a crash, by task id; asks that
            the next attempt lost at most the checkpoint interval and one epoch.
    """
    rows = tasks_of(workspace)
    acknowledged_is_durable(rows, acknowledged_ids)
    terminal_is_final(rows, finished or {})
    completed_means_complete(workspace, rows)
    little_work_is_lost(rows, reported or {})
    no_task_runs_without_a_process(rows)
    one_task_one_result(workspace, rows)
    nothing_fails_silently(rows)


def acknowledged_is_durable(rows: Mapping[str, Row], ids: Collection[str]) -> None:
    """L1: an id that was given out survives anything."""
    assert set(ids) <= set(rows), f"lost tasks: {sorted(set(ids) - set(rows))}"


def terminal_is_final(rows: Mapping[str, Row], finished: Mapping[str, str]) -> None:
    """L2: a finished task never changes."""
    for task_id, before in finished.items():
        assert fingerprint(rows[task_id]) == before, f"{task_id} changed after its end"


def completed_means_complete(workspace: Path, rows: Mapping[str, Row]) -> None:
    """L3: every file of every result is what was written, and no folder is half there."""
    for task_id, row in rows.items():
        bundle = workspace / ".ktrdr" / "tasks" / task_id / "bundle"
        assert bundle.is_dir() or row["status"] != "completed", f"{task_id} has no bundle"
    folders = [*workspace.glob(".ktrdr/tasks/*/bundle"), *workspace.glob("models/*/*_v*")]
    for folder in folders:
        document = json.loads((folder / "bundle.json").read_bytes())
        for name, expected in document["sha256"].items():
            assert sha256(folder / name) == expected, f"{folder.name}/{name} is damaged"
    for model in models_of(workspace):
        document = workspace / model["path"] / "bundle.json"
        assert sha256(document) == model["bundle_sha256"], f"{model['path']} is not as registered"


def little_work_is_lost(rows: Mapping[str, Row], reported: Mapping[str, int]) -> None:
    """L4: at most the checkpoint interval and one epoch."""
    for task_id, epoch in reported.items():
        resumed = re.match(r"epoch (\d+)", rows[task_id]["resumed_from"] or "epoch 0")
        assert resumed is not None
        lost = epoch - int(resumed[1])
        assert lost <= CHECKPOINT_EVERY_EPOCHS, f"{task_id} lost {lost} epochs"


def no_task_runs_without_a_process(rows: Mapping[str, Row]) -> None:
    """L5: with no process, nothing is training."""
    ghosts = [task_id for task_id, row in rows.items() if row["status"] == "training"]
    assert not ghosts, f"ghosts: {ghosts}"


def one_task_one_result(workspace: Path, rows: Mapping[str, Row]) -> None:
    """L6: a task has at most one result, and a request at most one task."""
    for task_id, row in rows.items():
        assert (row["result"] is not None) == (row["status"] == "completed"), task_id
    keys = Counter(row["idempotency_key"] for row in rows.values() if row["idempotency_key"])
    assert all(count == 1 for count in keys.values()), f"twins by key: {keys}"
    cards = [json.loads(path.read_bytes()) for path in workspace.glob("models/*/*_v*/model.json")]
    published = Counter((card["model_name"], card["task_id"]) for card in cards)
    assert all(count == 1 for count in published.values()), f"twins published: {published}"


def nothing_fails_silently(rows: Mapping[str, Row]) -> None:
    """L7: a failure has its code, sentence, hint, stage and attempt."""
    columns = ("error_code", "error_message", "error_hint", "error_stage", "attempt")
    for task_id, row in rows.items():
        if row["status"] == "failed":
            missing = [name for name in columns if not row[name]]
            assert not missing, f"{task_id} failed without {missing}"
        if row["status"] in TERMINAL:
            assert row["completed_at"], f"{task_id} ended without a time"


def tasks_of(workspace: Path) -> dict[str, Row]:
    """Every task's row by its id, from a database that is whole."""
    with closing(connected(workspace)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall()[0][0] == "ok"
        rows = connection.execute("SELECT * FROM training_tasks").fetchall()
    return {row["task_id"]: dict(row) for row in rows}


def models_of(workspace: Path) -> list[Row]:
    """Every model's row."""
    with closing(connected(workspace)) as connection:
        return [dict(row) for row in connection.execute("SELECT * FROM models")]


def connected(workspace: Path) -> sqlite3.Connection:
    """A read-only connection; it never moves the log into the file."""
    path = workspace / ".ktrdr" / "ktrdr.db"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def fingerprint(row: Mapping[str, Any]) -> str:
    """The same for the same row."""
    return hashlib.sha256(json.dumps(dict(row), sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
