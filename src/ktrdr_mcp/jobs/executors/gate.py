"""Lets runs begin where this machine has memory for them, in the order in which they came."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from ktrdr_mcp import memory
from ktrdr_mcp.jobs.executors.base import HeardRun

LOOK_S: Final = 0.5  # between looks at what other programs leave free

RunT = TypeVar("RunT", bound=HeardRun)


class Gate(Generic[RunT]):
    """Admits runs by memory. On the event loop only.

    Nobody overtakes the first who waits: else a run that needs much would wait for as long as there
    are others that need little. Whole tasks wait before parts, as they do for places.

    A run that needs more than there is begins once nobody else is inside: its task was accepted by
    its estimate, and to wait any longer would give it no more.

    Args:
        promised: the memory that those inside may still come to take, in bytes.
        wanted: what a run that waits would take at most.
    """

    def __init__(
        self, promised: Callable[[Sequence[RunT]], int], wanted: Callable[[RunT], int]
    ) -> None:
        self._promised = promised
        self._wanted = wanted
        self._line: list[RunT] = []  # those that wait, the next one first
        self._inside: list[RunT] = []
        self._changed = asyncio.Event()

    @property
    def inside(self) -> list[RunT]:
        """The runs that have been admitted and have not ended."""
        self._inside = [run for run in self._inside if not run.ended]
        return self._inside

    async def enter(self, run: RunT) -> bool:
        """Waits until a run may begin, or is to stop before that.

        Returns:
            whether it may begin; it is inside until it has ended.
        """
        self._line.append(run)
        self._line.sort(key=lambda each: each.envelope.parent is not None)
        run.on_change = self._look
        try:
            while not (run.stop_requested or self._is_next(run)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
            if not run.stop_requested:
                self._inside.append(run)
        finally:
            self._line.remove(run)
            self._look()
        return not run.stop_requested

    def _is_next(self, run: RunT) -> bool:
        """Whether it is a run's turn, and there is memory for it."""
        if self._line[0] is not run:
            return False
        inside = self.inside
        return not inside or self._promised(inside) + self._wanted(run) <= available_bytes()

    def _look(self) -> None:
        """Lets everybody who waits look again."""
        self._changed.set()
        self._changed.clear()


def available_bytes() -> int:
    """The memory that can be had without swapping; a great number where the system does not say."""
    found = [memory.in_machine(), *memory.in_control_groups()]
    return min((each for each in found if each is not None), default=sys.maxsize)
