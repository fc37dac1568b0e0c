"""Lets runs begin where there is memory for them, in the order in which they came."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, Generic, TypeAlias, TypeVar

from ktrdr_mcp import memory
from ktrdr_mcp.jobs.executors.base import HeardRun

LOOK_S: Final = 0.25  # between looks at what other programs leave free

Turn: TypeAlias = tuple[bool, int]  # whether of a part, which comes after whole tasks; a number
RunT = TypeVar("RunT", bound=HeardRun)
FoundT = TypeVar("FoundT")


class Line:
    """Runs that wait for memory. On the event loop only.

    Nobody overtakes the first who waits: else a run that needs much would wait for as long as there
    are others that need little. Whole tasks wait before parts, as they do for places.
    """

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._numbers = count()
        self._changed = asyncio.Event()

    def turn(self, *, part: bool) -> Turn:
        """A place behind all of its kind that have one."""
        return part, next(self._numbers)

    async def wait(
        self, turn: Turn, find: Callable[[], FoundT | None], stopped: Callable[[], bool]
    ) -> FoundT | None:
        """What is found for a run once it is its turn; None if it is to stop before.

        Args:
            turn: its place.
            find: looks for it, and takes it; None where there is nothing yet.
            stopped: whether it is to stop; `look` says that this has changed.
        Raises:
            what `find` raises.
        """
        self._turns.append(turn)
        try:
            while not stopped():
                if min(self._turns) == turn and (found := find()) is not None:
                    return found
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
            return None
        finally:
            self._turns.remove(turn)
            self.look()

    def look(self) -> None:
        """Lets everybody who waits look again."""
        self._changed.set()
        self._changed.clear()


class Gate(Generic[RunT]):
    """Admits runs to this machine by memory, in line. On the event loop only.

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
        self._line = Line()
        self._inside: list[RunT] = []

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
        run.on_change = self._line.look
        turn = self._line.turn(part=run.envelope.parent is not None)
        found = await self._line.wait(turn, lambda: self._admit(run), lambda: run.stop_requested)
        return found is not None

    def _admit(self, run: RunT) -> RunT | None:
        """Lets a run in if there is memory for it."""
        inside = self.inside
        if inside and self._promised(inside) + self._wanted(run) > available_bytes():
            return None
        self._inside.append(run)
        return run


def available_bytes() -> int:
    """The memory that can be had without swapping; a great number where the system does not say."""
    found = [memory.in_machine(), *memory.in_control_groups()]
    return min((each for each in found if each is not None), default=sys.maxsize)
