"""A workspace that is open on a cluster, and what its tests wait for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktrdr_mcp.daemon.server import OpenWorkspace
from ktrdr_mcp.paths import Workspace
from tests.support import eager_work
from tests.support.background_servers import wait_until
from tests.support.nothing_lost import tasks_of
from tests.support.trained_bits import WAIT_S


@dataclass
class Lab:
    """A workspace that is open on a cluster of this machine."""

    folder: Path
    opened: OpenWorkspace

    async def until_checkpoint(self, task_id: str, epoch: int, store: Path | None = None) -> int:
        """Waits until a checkpoint of at least this epoch is on the disk; see `saved_epoch`."""

        def saved() -> bool:
            return saved_epoch(self.folder, task_id, store) >= epoch

        await asyncio.to_thread(wait_until, saved, WAIT_S)
        return saved_epoch(self.folder, task_id, store)

    async def until_attempt(self, task_id: str, attempt: int) -> None:
        """Waits until a task is tried again."""

        def tried() -> bool:
            return tasks_of(self.folder)[task_id]["attempt"] >= attempt

        await asyncio.to_thread(wait_until, tried, WAIT_S)

    def worker_of(self, task_id: str) -> int:
        """The process id of the worker that has a task."""
        (pid,) = [each.pid for each in self.opened.workers() if each.task == task_id]
        return pid


@contextmanager
def held(*task_ids: str) -> Iterator[None]:
    """Lets no run of these tasks come to its end meanwhile."""
    holds = [Path(os.environ[eager_work.HOLDS]) / task_id for task_id in task_ids]
    for hold in holds:
        hold.touch()
    try:
        yield
    finally:
        for hold in holds:
            hold.unlink()


def saved_epoch(workspace: Path, task_id: str, store: Path | None = None) -> int:
    """The epoch of the newest checkpoint of a task; 0 if there is none.

    Args:
        workspace: the task's.
        task_id: whose.
        store: the shared folder in which it runs, if there is one.
    """
    found, folders = [0], [Workspace(workspace).checkpoints_directory(task_id)]
    if store is not None:
        folders += store.glob("*/checkpoints")
    for path in [folder / name / "state.json" for folder in folders for name in "ab"]:
        try:
            state = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        found.append(int(state["trainer"]["epoch"]))
    return max(found)


def resumed_epoch(row: dict[str, Any]) -> int:
    """The epoch at which a task's newest attempt began."""
    return int(row["resumed_from"].split()[1].rstrip(":"))
