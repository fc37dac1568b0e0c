"""Progress notifications while a caller waits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from ktrdr_mcp.contract.responses import TrainingStatus

NOTIFICATION_INTERVAL_S: Final = 1.0

Report = Callable[[float, float | None, str | None], Awaitable[None]]


class ProgressNotifier:
    """Passes a task's progress on, about once a second and never backwards.

    Args:
        report: sends one notification: progress, total, message.
        clock: seconds since any fixed moment.
    """

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self.report = report
        self.clock = clock
        self.last_epoch = -1
        self.last_time: float | None = None

    async def __call__(self, status: TrainingStatus) -> None:
        """Sends the status, unless it is no news or comes too soon."""
        now = self.clock()
        too_soon = self.last_time is not None and now - self.last_time < NOTIFICATION_INTERVAL_S
        if too_soon or status.current_epoch <= self.last_epoch:
            return
        self.last_epoch, self.last_time = status.current_epoch, now
        await self.report(status.current_epoch, status.total_epochs, progress_message(status))


def progress_message(status: TrainingStatus) -> str:
    """Where a task stands, in a few words."""
    if status.status != "training":
        ahead = status.queue_position
        return status.status if ahead is None else f"{status.status}, tasks ahead: {ahead}"
    metrics = status.current_metrics
    parts = [f"epoch {status.current_epoch}/{status.total_epochs}"]
    if metrics.val_loss is not None:
        parts.append(f"val loss {metrics.val_loss:.3g}")
    if metrics.val_accuracy is not None:
        parts.append(f"val accuracy {metrics.val_accuracy:.2f}")
    if status.alarm is not None:
        parts.append(status.alarm)
    return ", ".join(parts)
