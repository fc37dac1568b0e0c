"""The stdio server as a script for fault tests: a checkpoint after every epoch, and marks.

Writes a line to standard error when it comes to one of these: importing, opening, recovering,
draining. Its only argument is the workspace.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any


def mark(word: str) -> None:
    sys.stderr.write(f"MARK {word}\n")
    sys.stderr.flush()


def marked(word: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which says so when it is called."""

    def call(*arguments: Any, **options: Any) -> Any:
        mark(word)
        return function(*arguments, **options)

    return call


if __name__ == "__main__":
    from ktrdr_mcp import limits
    from ktrdr_mcp.app import serve_stdio
    from ktrdr_mcp.jobs import executor
    from ktrdr_mcp.jobs.manager import JobManager
    from ktrdr_mcp.lab import recovery
    from ktrdr_mcp.paths import find_workspace
    from ktrdr_mcp.store import db

    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    executor.load_torch = marked("importing", executor.load_torch)  # type: ignore[assignment]
    db.prepare = marked("opening", db.prepare)  # type: ignore[assignment]
    recovery.recover = marked("recovering", recovery.recover)  # type: ignore[assignment]
    JobManager._drain = marked("draining", JobManager._drain)  # type: ignore[method-assign]
    asyncio.run(serve_stdio(find_workspace(sys.argv[1]), in_process=True))
