"""A training's progress: a live display on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ktrdr_mcp.contract.responses import TrainingStatus

REFRESHES_PER_SECOND: Final = 8
BAR_CHARACTERS: Final = 40
LINE_INTERVAL_S: Final = 10.0
MINUTE_S: Final = 60
HOUR_S: Final = 3_600

OnProgress = Callable[["TrainingStatus"], Awaitable[None]]


@asynccontextmanager
async def shown(console: Console, title: str, quiet: bool) -> AsyncIterator[OnProgress]:
    """Shows a training until the block ends.

    Args:
        console: where; a terminal gets the live display.
        title: the first line of the live display, if it needs one.
        quiet: show nothing.
    Yields:
        what to call with every new status.
    """
    if quiet:
        yield nothing
    elif not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console)
    else:
        display = Display(title)
        live = Live(
            console=console,
            get_renderable=display.render,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )
        with live:
            yield display


async def nothing(status: TrainingStatus) -> None:
    """Shows no progress."""


class Lines:
    """A plain line now and then, for logs.

    Args:
        console: where to print it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_s = time.monotonic()

    async def __call__(self, status: TrainingStatus) -> None:
        """Prints the status, unless the last line is too young."""
        if time.monotonic() - self._last_s >= LINE_INTERVAL_S:
            self._last_s = time.monotonic()
            metrics = status.current_metrics
            self._console.print(
                f"{epochs(status)}, validation loss {number(metrics.val_loss)}, "
                f"validation accuracy {number(metrics.val_accuracy)}, {left(status)}"
            )
            if status.alarm is not None:
                self._console.print(f"  {status.alarm}")


class Display:
    """The newest status as a bar and a small table.

    Args:
        title: the first line, if it needs one.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._began_s = time.monotonic()
        self._status: TrainingStatus | None = None

    async def __call__(self, status: TrainingStatus) -> None:
        """Remembers the status; the display draws itself."""
        self._status = status

    def render(self) -> RenderableType:
        """What stands on the terminal now."""
        elapsed = duration(time.monotonic() - self._began_s)
        status = self._status
        title = [Text(self._title, style="bold")] if self._title else []
        if status is None or status.status == "pending":
            return Group(*title, Text(f"  {waiting(status)}, {elapsed}", style="dim"))
        bar = ProgressBar(status.total_epochs, status.current_epoch, width=BAR_CHARACTERS)
        line = Table.grid(padding=(0, 2))
        line.add_row(" ", bar, epochs(status))
        times = Text(f"  {elapsed} so far, {left(status)}", style="dim")
        alarm = [Text(f"  {status.alarm}", style="yellow")] if status.alarm else []
        return Group(*title, line, times, metrics_table(status), *alarm)


def metrics_table(status: TrainingStatus) -> Table:
    """The newest epoch's losses and accuracies."""
    metrics = status.current_metrics
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("")
    table.add_column("loss", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_row("training", number(metrics.train_loss), number(metrics.train_accuracy))
    table.add_row(
        "validation", number(metrics.val_loss), number(metrics.val_accuracy), style="bold"
    )
    return table


def waiting(status: TrainingStatus | None) -> str:
    """What a training that has not begun waits for."""
    if status is None or not status.queue_position:
        return "waiting for its first epoch"
    return f"queued, tasks ahead: {status.queue_position}"


def epochs(status: TrainingStatus) -> str:
    """How far it is."""
    return f"epoch {status.current_epoch:,} of {status.total_epochs:,}"


def left(status: TrainingStatus) -> str:
    """The estimated time until the last epoch; early stopping may end it before."""
    if status.estimated_completion is None:
        return "time left not known yet"
    remaining = datetime.fromisoformat(status.estimated_completion) - datetime.now(UTC)
    return f"about {duration(max(0.0, remaining.total_seconds()))} left"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"


def number(value: float | None) -> str:
    """A figure, or a dash while there is none."""
    return "-" if value is None else f"{value:.4f}"
