"""What a running training may ask of the world, seen from its worker thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from ktrdr_mcp import limits
from ktrdr_mcp.context import Cancelled, Progress
from ktrdr_mcp.jobs.lease import FairLease
from ktrdr_mcp.jobs.live import Live

PUBLISH_INTERVAL_S: Final = 0.1
MAX_WARNING_CHARACTERS: Final = 77  # so that a status stays within its bytes


class JobContext:
    """The context.Context of one run of one task.

    Args:
        lease: the right to compute, shared by all runs.
        loop: the event loop in charge.
        publish: called on the loop when there is progress, at most every PUBLISH_INTERVAL_S.
        monotonic: the clock that measures turns and epochs, in seconds.
    """

    def __init__(
        self,
        lease: FairLease,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease = lease
        self._loop = loop
        self._publish = publish
        self._monotonic = monotonic
        self._holds_lease = False
        self._turn_began_s = 0.0
        self._publishing = False  # the loop will look at `live` once more
        self._published: Live | None = None
        self._stopped = asyncio.Event()
        self.began = asyncio.Event()  # it is known where the run begins
        self.stop_requested = False
        self.draining = False
        self.live = Live(monotonic())

    # Called in the worker thread.

    def report(self, progress: Progress) -> None:
        """Keeps the progress and wakes the loop; see context.Context."""
        self.live = self.live.after(progress, self._monotonic())
        self._wake_loop()

    def resumed(self, epoch: int, reason: str | None) -> None:
        """Keeps where the run begins; see context.Context."""
        self.live = self.live.resumed(epoch, reason)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self.began.set)

    def _wake_loop(self) -> None:
        """Lets the loop look at `live`, now or when it has not just done so."""
        # The loop clears the flag before it compares, so that one of the two sees the last report.
        if not self._publishing:
            self._publishing = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._publish_now)

    def yield_turn(self) -> None:
        """Takes the lease, or passes it on when the turn is over; see context.Context."""
        self._check_stop()
        if not self._holds_lease:
            self._begin_turn()
        elif self._monotonic() - self._turn_began_s >= limits.TURN_S:
            self.end_turn()
            self._begin_turn()

    def end_turn(self) -> None:
        """Gives the lease back if this run holds it."""
        if self._holds_lease:
            self._holds_lease = False
            self._lease.release(self)

    def _begin_turn(self) -> None:
        """Waits for the lease. Raises Cancelled if the training must stop."""
        self._holds_lease = self._lease.acquire(self, lambda: self.stop_requested)
        self._check_stop()
        self._turn_began_s = self._monotonic()

    def _check_stop(self) -> None:
        """Raises Cancelled if the training must stop."""
        if self.stop_requested:
            raise Cancelled

    # Called on the event loop.

    def request_stop(self, draining: bool = False) -> None:
        """Asks the run to stop at its next `yield_turn`.

        Args:
            draining: whether its state is worth keeping; not once it was asked without.
        """
        self.draining = draining and (self.draining or not self.stop_requested)
        self.stop_requested = True
        self._stopped.set()
        self._lease.wake()

    async def stopped_within(self, seconds: float) -> bool:
        """Waits, between two runs, and says whether the training must stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self.stop_requested

    def warn(self, alarm: str) -> None:
        """Shows a warning until the next report."""
        self.live = self.live.warned(alarm[:MAX_WARNING_CHARACTERS])
        self._wake_loop()

    def begin_again(self) -> None:
        """Prepares for a further run of the same attempt."""
        self.live = self.live.again(self._monotonic())

    def _publish_now(self) -> None:
        """Tells of the newest progress, and looks again after the interval."""
        self._published = self.live
        self._publish()
        self._loop.call_later(PUBLISH_INTERVAL_S, self._publish_rest)

    def _publish_rest(self) -> None:
        """Tells of progress that came within the interval."""
        self._publishing = False
        if self.live is not self._published:
            self._publishing = True
            self._publish_now()
