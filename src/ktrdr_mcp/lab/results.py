"""Whether a completed task's result is still there, and how to have it again if it is not."""

from __future__ import annotations

import json
from typing import Any

from ktrdr_mcp.contract.config import TrainingConfig
from ktrdr_mcp.errors import ResultRemoved
from ktrdr_mcp.lab.replies import echo
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.research.config import effective
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.strategy import Strategy


def is_kept(workspace: Workspace, task_id: str) -> bool:
    """Whether a task's bundle is there, damaged or not."""
    return workspace.bundle_directory(task_id).exists()


def require(workspace: Workspace, task: TaskRow) -> None:
    """Refuses a task whose result is gone.

    Args:
        workspace: where bundles lie.
        task: a completed task.
    Raises:
        ResultRemoved: says how to train the same again.
    """
    if is_kept(workspace, task.task_id):
        return
    again = json.dumps(same_training(task), separators=(",", ":"))
    raise ResultRemoved(
        f"The result of task {task.task_id} was removed to free space; its figures are kept.",
        hint=f"Train it again: start_training with {again}. The same config and seed on the same"
        " bars come out the same; then use the new task.",
        field="task_id",
    )


def same_training(task: TaskRow) -> dict[str, Any]:
    """A request that trains the same again, under an id of its own."""
    series = task.spec["series"][0]
    rest = effective(TrainingConfig(), Strategy.from_dict(task.spec["strategy"])).model_dump()
    config = {
        name: value
        for name, value in echo(task.config).items()
        if name == "seed" or value != rest[name]
    }
    given = {name: value for name, value in series.items() if value is not None}
    return {**given, "strategy": task.strategy, "config": config}
