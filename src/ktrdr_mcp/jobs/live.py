"""Live progress of running tasks, kept in memory, and the callers waiting for it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from ktrdr_mcp.context import EpochFigures, Progress
from ktrdr_mcp.jobs.epochs import EpochCurve

UNFINISHED_PERCENT_MAX = 99  # 100 is for completed tasks
ROUNDING: Final = 1e-9  # of a share that was summed up: nine times 0.1 are 0.9


def count_whole(share: float, total: int) -> int:
    """How many of so many a share comes to, rounded down."""
    return int(share * total + ROUNDING)


@dataclass(frozen=True)
class Live:
    """A running training as it is now. Times are seconds since its run began."""

    progress: Progress | None = None  # of the newest finished epoch
    reported_s: float | None = None  # when that epoch finished
    first_epoch: int | None = None  # the epoch of this run's first report
    first_reported_s: float | None = None
    resumed_epoch: int = 0  # epochs that earlier runs had finished
    resumed_share: float = 0.0  # of all its work, what earlier runs had done
    resumed_from: str | None = None  # where this run began, in words
    epochs: EpochCurve = field(default_factory=EpochCurve)  # of all runs

    def with_epoch(
        self, progress: Progress, elapsed_s: float, figures: Sequence[EpochFigures] = ()
    ) -> Live:
        """This training once more epochs are finished.

        Args:
            progress: at the end of the newest.
            elapsed_s: since its run began.
            figures: of those epochs.
        """
        epochs = self.epochs.with_figures(figures)
        later = replace(self, progress=progress, reported_s=elapsed_s, epochs=epochs)
        if self.first_epoch is None:
            return replace(later, first_epoch=progress.epoch, first_reported_s=elapsed_s)
        return later

    def with_start(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        share: float = 0.0,
    ) -> Live:
        """This training once it is known where it begins.

        Args:
            epoch: epochs that earlier runs had finished.
            reason: why it does not begin further on, or with what it began, if either.
            figures: of those epochs.
            share: of all its work, what earlier runs had done.
        """
        words = f"epoch {epoch}" if reason is None else f"epoch {epoch}: {reason}"
        epochs = EpochCurve().with_figures(figures)
        begun = replace(self, resumed_epoch=epoch, resumed_share=share)
        return replace(begun, resumed_from=words, epochs=epochs)

    def with_restart(self) -> Live:
        """This training once it begins to run anew; what it had come to is still shown."""
        return replace(self, first_epoch=None, first_reported_s=None, reported_s=None)

    def with_warning(self, alarm: str) -> Live:
        """This training with a warning, if it has come to any epoch that could bear it."""
        if self.progress is None:
            return self
        return replace(self, progress=replace(self.progress, alarm=alarm))

    @property
    def percent(self) -> int:
        """The share of its epochs that are finished, 0 to 99."""
        if self.progress is None:
            return self.resumed_percent
        share = self.progress.epoch * 100 // max(1, self.progress.total_epochs)
        return min(UNFINISHED_PERCENT_MAX, max(0, share))

    @property
    def resumed_percent(self) -> int:
        """What earlier runs had done, 0 to 99."""
        return min(UNFINISHED_PERCENT_MAX, count_whole(self.resumed_share, 100))

    @property
    def has_begun(self) -> bool:
        """Whether it is known where it begins, or how far it is."""
        return self.resumed_from is not None or self.progress is not None

    @property
    def seconds_per_epoch(self) -> float | None:
        """The measured duration of an epoch in this run; None before its first.

        From the second report on, what came before the first epoch does not count.
        """
        if self.progress is None or self.reported_s is None:
            return None
        if self.first_epoch is None or self.first_reported_s is None:
            return None
        if self.progress.epoch > self.first_epoch:
            epochs = self.progress.epoch - self.first_epoch
            return (self.reported_s - self.first_reported_s) / epochs
        if self.progress.epoch <= self.resumed_epoch:
            return None
        return self.reported_s / (self.progress.epoch - self.resumed_epoch)

    @property
    def remaining_s(self) -> float | None:
        """The estimated time to the last epoch's end from the newest report, without early stop."""
        if self.progress is None or self.seconds_per_epoch is None:
            return None
        return self.seconds_per_epoch * max(0, self.progress.total_epochs - self.progress.epoch)


class Watch:
    """One caller's view of one task: set on every event, remembers whether its row changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.row_changed = True  # nobody has read it yet

    def wake(self, row_changed: bool) -> None:
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

    def wake(self, task_id: str, row_changed: bool) -> None:
        """Wakes all who wait for this task.

        Args:
            task_id: which task.
            row_changed: whether its stored row changed, or only its progress.
        """
        for watch in self._of_task.get(task_id, ()):
            watch.wake(row_changed)

    def wake_all(self) -> None:
        """Wakes everyone; their rows may have changed."""
        for task_id in self._of_task:
            self.wake(task_id, row_changed=True)
