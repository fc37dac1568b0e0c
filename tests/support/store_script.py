"""A store's day as a script: opened, a task stored, claimed, ended. Its argument is the workspace.

Says on standard output what a client would have been told.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore


def new_task(task_id: str) -> NewTask:
    return NewTask(
        task_id=task_id,
        symbol="AAPL",
        timeframe="1h",
        strategy="default",
        config={},
        spec={"padding": "x" * 10_000},
        total_epochs=1,
        request_hash=task_id,
        similarity_hash=task_id,
    )


async def day(path: Path) -> None:
    async with await Database.open(path) as database:
        tasks = TaskStore(database)
        for task_id in ("first", "second"):
            await tasks.insert(new_task(task_id), 10)
            sys.stdout.write(f"{task_id}\n")
            sys.stdout.flush()
        row = await tasks.claim("generation")
        assert row is not None
        changes = {"completed_at": "2026-01-01T00:00:00Z"}
        await tasks.move(row.task_id, {"training"}, "cancelled", row.fence, changes)


if __name__ == "__main__":
    asyncio.run(day(Path(sys.argv[1]) / ".ktrdr" / "ktrdr.db"))
