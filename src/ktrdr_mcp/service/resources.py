"""What can be read by address: the states of such things, for clients that follow them, and epochs.

The epochs of a task without a result are kept beside its other files when its run ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import anyio.to_thread

from ktrdr_mcp import files
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.jobs.epochs import EpochCurve
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.requests import ReadResourceStates
from ktrdr_mcp.schemas.responses import ResourceStates
from ktrdr_mcp.service.models import ModelCatalog
from ktrdr_mcp.store.stores import Stores
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training.bundle import History

LOOK_INTERVAL_S: Final = 1.0  # while a caller waits; what trains changes no more often
MOST_RUNNING: Final = 64  # tasks; more would hold all cores of a large machine
ABSENT: Final = "absent"

EPOCHS: Final = "epochs.json"  # beside a task's bundle
LARGEST_BYTES: Final = 256 * 1024  # ten times what is ever written


class Resources:
    """Looks at tasks, models and strategies; shows no test results, so no reading counts.

    Args:
        workspace: where files lie.
        stores: of its database.
        manager: runs the tasks.
        models: finds the newest version of each name.
        strategies: finds strategy files.
    """

    def __init__(
        self,
        workspace: Workspace,
        stores: Stores,
        manager: JobManager,
        models: ModelCatalog,
        strategies: StrategyCatalog,
    ) -> None:
        self._workspace = workspace
        self._stores = stores
        self._manager = manager
        self._models = models
        self._strategies = strategies

    async def states(self, request: ReadResourceStates) -> ResourceStates:
        """The states, as soon as they are not those of the request's mark, or when time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_s
        while True:
            now = await self._look(request.addresses)
            left_s = deadline - loop.time()
            if now.mark != request.mark or left_s <= 0:
                return now
            if await self._manager.drains_within(min(left_s, LOOK_INTERVAL_S)):
                return now

    async def _look(self, addresses: Iterable[str]) -> ResourceStates:
        """The states as they are."""
        states = {address: await self._state(address) for address in addresses}
        lists = await self._lists()
        return ResourceStates(
            states=states, lists=lists, mark=digest(lists, *map(str, states.items()))
        )

    async def _state(self, address: str) -> str:
        """The state of one resource."""
        kind, _, rest = address.partition("://")
        name = unquote(rest.partition("/")[0])
        try:
            if kind == "training":
                return await self._task(name)
            if kind in {"model", "equity"}:
                return (await self._models.newest(name)).model_id
            if kind == "strategy":
                file = self._workspace.strategy_file(self._strategies.find_name(name))
                return await anyio.to_thread.run_sync(stamp, file)
        except KtrdrError:  # malformed, or there is none
            pass
        return ABSENT

    async def _task(self, task_id: str) -> str:
        """Where a task stands."""
        live = self._manager.live(task_id)
        if live is not None and live.progress is not None:
            return f"training {live.progress.epoch}"
        row = await self._stores.tasks.get(task_id)
        return f"{row.status} {row.attempt} {row.current_epoch}"

    async def _lists(self) -> str:
        """What changes when something is started, begins, ends, is saved or written."""
        newest = await self._stores.tasks.page(1, 0, None, None)
        running = await self._stores.tasks.page(MOST_RUNNING, 0, "training", None)
        counts = await self._stores.tasks.counts()
        saved = await self._stores.registry.page(1, 0, None)
        folders = (self._workspace.models, self._workspace.strategies)
        files = await anyio.to_thread.run_sync(lambda: [stamp(folder) for folder in folders])
        return digest(
            *(row.task_id for row in newest.rows),
            *(row.task_id for row in running.rows),
            *map(str, sorted(counts.items())),
            *(row.model_id for row in saved.rows),
            *files,
        )


def stamp(path: Path) -> str:
    """When a file or what a folder lists was last changed."""
    try:
        status = path.stat()
    except OSError:
        return ABSENT
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"


def digest(*parts: str) -> str:
    """A short text that differs where any part does."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def keep_epochs(workspace: Workspace, task_id: str, epochs: EpochCurve) -> None:
    """Writes them. Raises StorageError."""
    files.replace(
        workspace.task_directory(task_id) / EPOCHS, files.json_bytes({"epochs": epochs.to_json()})
    )


def read_epochs(workspace: Workspace, task_id: str) -> History:
    """What `keep_epochs` wrote; none if it is not there or not what was written."""
    path = workspace.task_directory(task_id) / EPOCHS
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST_BYTES:
            return []
        kept = json.loads(path.read_bytes())["epochs"]
        figures = all(isinstance(value, int | float) for each in kept for value in each.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return list(kept) if figures else []
