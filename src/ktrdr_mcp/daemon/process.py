"""The life of the detached daemon process: start, idle limit, signals, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Mapping
from typing import Final, NoReturn

import anyio

from ktrdr_mcp.daemon import launch
from ktrdr_mcp.daemon.log import BoundedLog
from ktrdr_mcp.daemon.server import ServedWorkspace, serve_workspace, settle
from ktrdr_mcp.daemon.signals import end_at_internal_errors, end_at_once, end_process, termination
from ktrdr_mcp.errors import InvalidRequest, KtrdrError, WorkspaceLocked, quote
from ktrdr_mcp.paths import Workspace

IDLE_VARIABLE: Final = "KTRDR_LAB_IDLE_S"
IDLE_S: Final = 900.0
MIN_IDLE_S: Final = 2.0  # for whoever has just found the daemon, and is on the way
TICK_S: Final = 1.0
MIN_TICK_S: Final = 0.05

log = logging.getLogger(__name__)


async def run_daemon(workspace: Workspace) -> NoReturn:
    """Runs the service for other processes until it is idle, asked to end, or without its lock.

    Args:
        workspace: the folder to own.
    Raises:
        WorkspaceLocked: another process owns it.
        KtrdrError: it cannot start; the reason is left in the workspace for the starter.
    """
    from ktrdr_mcp.api.logs import configure_logging

    configure_logging()
    BoundedLog(workspace).bound()
    stop = asyncio.Event()
    signalled = asyncio.create_task(termination(), name="termination")
    begun = end_at_once(signalled)
    signalled.add_done_callback(lambda _: stop.set())
    try:
        idle_s = idle_limit_s(os.environ)
        announcing = serve_workspace(workspace, kind="detached", stop=stop.set, begun=begun)
        with end_at_internal_errors():
            async with announcing as opened:
                settle()
                await wait_for_end(workspace, opened, stop, idle_s)
    except WorkspaceLocked:
        raise
    except KtrdrError as error:
        log.error("The service cannot start: %s %s", error.message, error.hint)
        with contextlib.suppress(KtrdrError):
            launch.write(workspace, error)
        raise
    log.info("The service has ended; everything is stored")
    end_process(0)


def idle_limit_s(environment: Mapping[str, str]) -> float:
    """How long to stay without work and without requests. Raises InvalidRequest."""
    text = environment.get(IDLE_VARIABLE, "").strip()
    try:
        seconds = float(text) if text else IDLE_S
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise InvalidRequest(
            f"{IDLE_VARIABLE} is {quote(text)}, which is no number of seconds.",
            hint=f"Set it to a number such as {IDLE_S:.0f}, or leave it out.",
        )
    return seconds


async def wait_for_end(
    workspace: Workspace, opened: ServedWorkspace, stop: asyncio.Event, idle_s: float
) -> None:
    """Returns when a signal or another process says so, or when nobody needs the service."""
    log.info("The service runs, process %d; it ends after %g s without use", os.getpid(), idle_s)
    reasons = {
        asyncio.create_task(stop.wait()): "it was told to",
        asyncio.create_task(wait_until_idle(workspace, opened, idle_s)): "nobody needed it",
    }
    done, others = await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    for task in done:
        task.result()
        log.info("The service ends: %s", reasons[task])


async def wait_until_idle(workspace: Workspace, opened: ServedWorkspace, idle_s: float) -> None:
    """Returns when there has been neither work nor a request for so long."""
    log_file, worked_at = BoundedLog(workspace), time.monotonic()
    while True:
        await anyio.sleep(min(TICK_S, max(MIN_TICK_S, idle_s / 4)))
        log_file.bound()
        if opened.manager.running or not opened.activity.idle_s:
            worked_at = time.monotonic()
            continue
        quiet_s = min(opened.activity.idle_s, time.monotonic() - worked_at)
        if quiet_s >= max(idle_s, MIN_IDLE_S) and not await opened.has_work():
            return
