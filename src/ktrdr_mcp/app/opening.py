"""A laboratory in this process, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from ktrdr_mcp.contract import Lab
from ktrdr_mcp.lab.ownership import Ownership, ownership
from ktrdr_mcp.paths import Workspace

if TYPE_CHECKING:
    from ktrdr_mcp.context import Context
    from ktrdr_mcp.jobs.manager import JobManager
    from ktrdr_mcp.store.db import Database
    from ktrdr_mcp.store.tasks import TaskStore


@dataclass
class OpenLab:
    """A running laboratory and how it ended."""

    lab: Lab
    manager: JobManager
    tasks: TaskStore
    ownership: Ownership
    drain: Callable[[], Awaitable[None]]  # ends all runs; questions are still answered

    async def has_work(self) -> bool:
        """Whether a task runs or waits."""
        return self.manager.running > 0 or "pending" in await self.tasks.counts()


@asynccontextmanager
async def open_lab(workspace: Workspace) -> AsyncIterator[OpenLab]:
    """The laboratory of a workspace, owned by this process until the block ends.

    Args:
        workspace: the folder; made if it is missing.
    Raises:
        WorkspaceLocked: another process owns it.
        StorageError: it cannot be read or written.
    """
    with ownership(workspace) as owned:
        from ktrdr_mcp.store.db import Database

        # First, because a database that cannot be used is refused sooner so.
        async with (
            await Database.open(workspace.database) as database,
            put_together(workspace, database, owned) as opened,
        ):
            yield opened


@asynccontextmanager
async def put_together(
    workspace: Workspace, database: Database, owned: Ownership
) -> AsyncIterator[OpenLab]:
    """The laboratory over an open database, until the block ends. Raises StorageError."""
    # Only now, because these need torch and pandas, which take seconds to import.
    from ktrdr_mcp.jobs.executor import Work, configure_process, load_torch

    configure_process()
    await anyio.to_thread.run_sync(load_torch)
    from ktrdr_mcp.data.sources import BarSources
    from ktrdr_mcp.jobs.manager import JobManager
    from ktrdr_mcp.lab import recovery
    from ktrdr_mcp.lab.local import LocalLab
    from ktrdr_mcp.learn import speed
    from ktrdr_mcp.learn.judge import baselines
    from ktrdr_mcp.research import pipeline
    from ktrdr_mcp.store.stores import Stores

    sources = BarSources(workspace)

    def run(spec: Mapping[str, Any], directory: Path, context: Context) -> dict[str, Any]:
        return pipeline.run(spec, directory, context, sources)

    def clean_up(task_id: str) -> None:
        recovery.clean_up(workspace, task_id)

    work = Work(run, workspace.bundle_directory, clean_up)
    await anyio.to_thread.run_sync(baselines.load)
    measured = await anyio.to_thread.run_sync(speed.measure)
    stores = Stores.of(database)
    await recovery.recover(workspace, stores)
    async with AsyncExitStack() as jobs:
        manager = await jobs.enter_async_context(JobManager(stores.tasks, work))
        lab = LocalLab(workspace, stores, manager, sources, measured)
        yield OpenLab(lab, manager, stores.tasks, owned, jobs.aclose)
