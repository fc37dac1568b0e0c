"""Tells those who wait for a task that something happened."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """One caller's view of one task: set on every event, remembers whether its row changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.row_changed = True  # nobody has read it yet

    def tell(self, row_changed: bool) -> None:
        """Wakes the caller."""
        self.row_changed = self.row_changed or row_changed
        self._event.set()

    async def next(self, timeout_s: float) -> bool:
        """Waits for an event since the last call; False if none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Watches:
    """All callers that wait, by task. Used on the event loop only."""

    def __init__(self) -> None:
        self._of_task: defaultdict[str, set[Watch]] = defaultdict(set)

    @contextmanager
    def watch(self, task_id: str) -> Iterator[Watch]:
        """A watch on one task for as long as the block runs."""
        watch = Watch()
        self._of_task[task_id].add(watch)
        try:
            yield watch
        finally:
            self._of_task[task_id].discard(watch)
            if not self._of_task[task_id]:
                del self._of_task[task_id]

    def tell(self, task_id: str, row_changed: bool) -> None:
        """Wakes all who wait for this task.

        Args:
            task_id: which task.
            row_changed: whether its stored row changed, or only its progress.
        """
        for watch in self._of_task.get(task_id, ()):
            watch.tell(row_changed)

    def tell_all(self) -> None:
        """Wakes everyone; their rows may have changed."""
        for task_id in self._of_task:
            self.tell(task_id, row_changed=True)
