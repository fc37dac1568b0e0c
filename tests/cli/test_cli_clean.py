"""`clean` on the command line: what it says, what it asks for, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr_mcp.cli.maintenance import size
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service import cleaning
from tests.support.command_line import QUICK

ALL = ("clean", "--older-than-days", "0")


def files(folder: Path) -> dict[str, int]:
    """The size of every file below a folder."""
    return {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def reply(result) -> dict[str, Any]:
    """A reply that was printed as JSON."""
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_an_old_result_is_announced_then_removed_and_then_missed(run, tmp_path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    task_id = reply(run("train", "AAPL", "1h", *QUICK, "--json"))["task_id"]
    before = files(workspace.bundle_directory(task_id))
    assert "older than 30 days" in run("clean").stdout

    announced = reply(run(*ALL, "--dry-run", "--json"))
    assert "Would remove 1 result" in run(*ALL, "--dry-run").stdout
    assert files(workspace.bundle_directory(task_id)) == before
    done = reply(run(*ALL, "--json"))
    freed = {"removed": 1, "freed_bytes": sum(before.values()), "tasks": [task_id]}
    assert done == {"success": True, "dry_run": False, **freed}
    assert announced == {**done, "dry_run": True}
    assert reply(run(*ALL, "--json"))["removed"] == 0

    saved = run("models", "save", task_id, "mine")
    assert saved.exit_code == 4
    assert "was removed" in saved.stderr
    assert "`ktrdr-mcp train` with {" in saved.stderr
    performance = reply(run("performance", task_id, "--json"))
    assert performance["training_metrics"]["epochs_completed"] == 2


def test_a_removed_result_is_shown_with_its_size(run, tmp_path) -> None:
    task_id = reply(run("train", "AAPL", "1h", *QUICK, "--json"))["task_id"]
    total = sum(files(Workspace(tmp_path / "workspace").bundle_directory(task_id)).values())
    shown = run(*ALL).stdout
    assert task_id in shown
    assert f"Removed 1 result; {total / 1000:.1f} kB freed." in shown


def test_cleaning_where_there_is_nothing_makes_nothing(run, tmp_path) -> None:
    assert reply(run(*ALL, "--json"))["removed"] == 0
    assert "no unsaved result is there" in run(*ALL).stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("days", ["-1", "1.5", "a month", "", "36501", "nan"])
def test_days_are_a_whole_number(run, days) -> None:
    result = run("clean", "--older-than-days", days, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "invalid_request"


def test_a_workspace_in_use_is_only_looked_at(shop, task_id) -> None:
    announced = shop.reply(*ALL, "--dry-run")
    assert task_id in announced["tasks"]
    refused = shop.run(*ALL, "--json")
    assert refused.exit_code == 3
    assert json.loads(refused.stdout)["error"]["code"] == "workspace_locked"
    assert shop.reply(*ALL, "--dry-run") == announced
    assert shop.workspace.bundle_directory(task_id).is_dir()


def test_a_hundred_of_many_results_are_named(run, monkeypatch) -> None:
    task = {"status": "completed", "symbol": "AAPL", "timeframe": "1h", "strategy": "default"}
    found = [
        cleaning.Unsaved(SimpleNamespace(task_id=f"task-{n}", completed_at=None, **task), 10**6)
        for n in range(1_101)
    ]
    monkeypatch.setattr(cleaning, "removable", lambda *_: found)
    told = reply(run("clean", "--dry-run", "--json"))
    assert (told["removed"], told["freed_bytes"]) == (1_101, 1_101 * 10**6)
    assert told["tasks"] == [f"task-{n}" for n in range(100)]
    shown = run("clean", "--dry-run").stdout
    assert "task-99 " in shown
    assert "task-100" not in shown
    assert "and 1,001 more" in shown
    assert "Would remove 1,101 results and free 1.1 GB." in shown


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (2_549_999, "2.5 MB")],
)
def test_a_size_is_told_in_its_own_unit(count, text) -> None:
    assert size(count) == text
