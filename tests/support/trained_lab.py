"""A workspace that is open on a cluster, and what its tests wait for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktrdr_mcp.daemon.server import OpenWorkspace
from ktrdr_mcp.paths import Workspace
from tests.support.background_servers import wait_until
from tests.support.nothing_lost import tasks_of
from tests.support.trained_bits import WAIT_S


@dataclass
class Lab:
    """A workspace that is open on a cluster of this machine."""

    folder: Path
    opened: OpenWorkspace

    async def until_checkpoint(self, task_id: str, epoch: int) -> int:
        """Waits until a checkpoint of at least this epoch is on the disk; the epoch then."""
        folder = Workspace(self.folder).checkpoints_directory(task_id)

        def kept() -> int:
            found = [0]
            for generation in ("a", "b"):
                try:
                    state = json.loads((folder / generation / "state.json").read_bytes())
                except FileNotFoundError:
                    continue
                found.append(int(state["trainer"]["epoch"]))
            return max(found)

        await asyncio.to_thread(wait_until, lambda: kept() >= epoch, WAIT_S)
        return kept()

    async def until_epoch(self, task_id: str, epoch: int) -> None:
        """Waits until a run has reported an epoch."""

        def reported() -> bool:
            live = self.opened.manager.live(task_id)
            return live is not None and live.progress is not None and live.progress.epoch >= epoch

        await asyncio.to_thread(wait_until, reported, WAIT_S)

    async def until_attempt(self, task_id: str, attempt: int) -> None:
        """Waits until a task is tried again."""

        def tried() -> bool:
            return tasks_of(self.folder)[task_id]["attempt"] >= attempt

        await asyncio.to_thread(wait_until, tried, WAIT_S)

    def worker_of(self, task_id: str) -> int:
        """The process id of the worker that has a task."""
        (pid,) = [each.pid for each in self.opened.workers() if each.task == task_id]
        return pid


def resumed_epoch(row: dict[str, Any]) -> int:
    """The epoch at which a task's newest attempt began."""
    return int(row["resumed_from"].split()[1].rstrip(":"))
