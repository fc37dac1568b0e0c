"""The program `ktrdr-mcp` as a script for fault tests: a checkpoint after every epoch, and marks.

Writes a line to standard error when the server in this process comes to a stage of its life. The
first argument is the stage that is held, or NONE; the rest is the program's command line.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

from ktrdr_mcp import limits
from ktrdr_mcp.daemon import executors, server
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.ownership import address
from ktrdr_mcp.store import db
from tests.support import eager_work, programs

NONE = "nothing"  # is held, but there are marks
HELD_S = 5.0  # most stages are over in milliseconds, before a signal could come


def install(held: str) -> None:
    """Puts in the marks.

    They are opening, connecting, importing, recovering, announcing, claiming and draining.

    Args:
        held: a stage that lasts for seconds, so that a signal meets it; or NONE.
    """
    make_executor = server.make_executor

    def make(*arguments: Any) -> Any:
        executor = make_executor(*arguments)
        from ktrdr_mcp.service import (
            reconciliation,  # imports for seconds, so that it would end that stage early
        )

        reconciliation.recover = marked("recovering", reconciliation.recover, held)
        return executor

    db.prepare = marked("opening", db.prepare, held)
    db._connect = marked("connecting", db._connect, held)
    server.make_executor = marked("importing", make, held)
    address.write = marked("announcing", address.write, held)
    JobManager._start = marked("claiming", JobManager._start, held)  # type: ignore[method-assign]
    JobManager._drain = marked("draining", JobManager._drain, held)  # type: ignore[method-assign]


def mark(word: str) -> None:
    sys.stderr.write(f"MARK {word}\n")
    sys.stderr.flush()


def marked(word: str, function: Callable[..., Any], held: str) -> Callable[..., Any]:
    """The function, which says so when it is called."""
    held_s = HELD_S if word == held else 0.0

    def call(*arguments: Any, **options: Any) -> Any:
        mark(word)
        time.sleep(held_s)
        return function(*arguments, **options)

    async def call_later(*arguments: Any, **options: Any) -> Any:
        mark(word)
        await asyncio.sleep(held_s)
        return await function(*arguments, **options)

    return call_later if inspect.iscoroutinefunction(function) else call


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(programs.ROOT)  # for the workers
    executors.TRAINING = eager_work.ENTRY  # type: ignore[misc]
    executors.SENT_TRAINING = eager_work.SENT_ENTRY  # type: ignore[misc]
    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    install(held=sys.argv.pop(1))
    runpy.run_module("ktrdr_mcp", run_name="__main__", alter_sys=True)
