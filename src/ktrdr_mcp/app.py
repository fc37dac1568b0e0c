"""The only place where parts are put together: workspace, store, jobs, laboratory, faces."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import filelock

from ktrdr_mcp import durable
from ktrdr_mcp.context import Context
from ktrdr_mcp.contract import Lab
from ktrdr_mcp.errors import WorkspaceLocked
from ktrdr_mcp.jobs.executor import configure_process, load_torch
from ktrdr_mcp.jobs.manager import JobManager
from ktrdr_mcp.paths import Workspace

LOCK = "lab.lock"

log = logging.getLogger(__name__)


@dataclass
class OpenLab:
    """A running laboratory and how it ended."""

    lab: Lab
    manager: JobManager


@asynccontextmanager
async def open_lab(workspace: Workspace) -> AsyncIterator[OpenLab]:
    """The laboratory of a workspace, owned by this process until the block ends.

    Args:
        workspace: the folder; made if it is missing.
    Raises:
        WorkspaceLocked: another process owns it.
        StorageError: it cannot be read or written.
    """
    with ownership(workspace):
        configure_process()
        await anyio.to_thread.run_sync(load_torch)
        # Only now, because these need torch and pandas, which take seconds to import.
        from ktrdr_mcp.data.sources import BarSources
        from ktrdr_mcp.lab.local import LocalLab
        from ktrdr_mcp.learn import speed
        from ktrdr_mcp.research import pipeline
        from ktrdr_mcp.store.db import Database
        from ktrdr_mcp.store.registry import ModelRegistry
        from ktrdr_mcp.store.tasks import TaskStore

        sources = BarSources(workspace)

        def run(spec: Mapping[str, Any], directory: Path, context: Context) -> dict[str, Any]:
            return pipeline.run(spec, directory, context, sources)

        measured = await anyio.to_thread.run_sync(speed.measure)
        async with await Database.open(workspace.database) as database:
            tasks = TaskStore(database)
            async with JobManager(tasks, run, workspace.bundle_directory) as manager:
                lab = LocalLab(
                    workspace, tasks, ModelRegistry(database), manager, sources, measured
                )
                yield OpenLab(lab, manager)


@asynccontextmanager
async def connect(workspace: Workspace) -> AsyncIterator[Lab]:
    """A laboratory to work with, wherever it runs.

    Args:
        workspace: the folder.
    Raises:
        WorkspaceLocked: another process owns it.
    """
    async with open_lab(workspace) as opened:
        yield opened.lab


@contextmanager
def ownership(workspace: Workspace) -> Iterator[None]:
    """Holds the workspace's lock; the system frees it however the process ends.

    Args:
        workspace: the folder to own.
    Raises:
        WorkspaceLocked: another process owns it.
    """
    with durable.storage_errors("opening the workspace"):
        workspace.internal.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = filelock.FileLock(workspace.internal / LOCK, blocking=False)
    with durable.storage_errors("locking the workspace"):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise WorkspaceLocked(
                "Another ktrdr-mcp process owns this workspace.",
                hint="End that process, or choose another folder with --workspace.",
            ) from None
    try:
        yield
    finally:
        lock.release()


async def serve_stdio(workspace: Workspace) -> NoReturn:
    """Serves MCP over standard input and output until the client leaves or a signal comes.

    Ends the process itself, once everything is stored and closed: the thread that reads standard
    input cannot be interrupted, and a thread inside a step of torch would abort the interpreter's
    own exit.

    Args:
        workspace: the folder to serve.
    """
    from ktrdr_mcp.faces.logs import configure_logging
    from ktrdr_mcp.faces.tools import build_server

    configure_logging()
    async with open_lab(workspace) as opened:
        serving = asyncio.ensure_future(build_server(opened.lab).run_stdio_async())
        stopped = asyncio.ensure_future(termination())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    failed = serving.done() and serving.exception() is not None
    if failed:
        log.error("the protocol stream broke", exc_info=serving.exception())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failed else 0)


async def termination() -> None:
    """Returns on SIGTERM or SIGINT; a second one ends the process at once."""
    if os.name == "nt":  # no signal receivers there; closing standard input ends the server
        await asyncio.Event().wait()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return
