"""How a training's start, progress and result look on a terminal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ktrdr_mcp.cli.output import (
    basis_points,
    facts,
    format_with_error,
    heading,
    percent,
    readable,
    warn,
)

if TYPE_CHECKING:
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.schemas.responses import TrainingStatus


REFRESHES_PER_SECOND: Final = 8
BAR_CHARACTERS: Final = 40
LINE_INTERVAL_S: Final = 10.0
MINUTE_S: Final = 60
HOUR_S: Final = 3_600

OnProgress = Callable[["TrainingStatus"], Awaitable[None]]


@asynccontextmanager
async def show_progress(console: Console, title: str, quiet: bool) -> AsyncIterator[OnProgress]:
    """Shows a training until the block ends.

    Args:
        console: where; a terminal gets the live display.
        title: the first line of the live display, if it needs one.
        quiet: show nothing.
    Yields:
        what to call with every new status.
    """
    if quiet:
        yield show_nothing
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


async def show_nothing(status: TrainingStatus) -> None:
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
            metrics = status.newest
            self._console.print(
                f"{epochs(status)}, validation loss {number(metrics.val_loss)}, "
                f"validation accuracy {number(metrics.val_accuracy)}, {remaining(status)}"
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
        times = Text(f"  {elapsed} so far, {remaining(status)}", style="dim")
        alarm = [Text(f"  {status.alarm}", style="yellow")] if status.alarm else []
        return Group(*title, line, times, metrics_table(status), *alarm)


def metrics_table(status: TrainingStatus) -> Table:
    """The newest epoch's losses and accuracies."""
    metrics = status.newest
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
    if status.task_id.startswith(
        "fetch_"
    ):  # which has pages in their place, and no end that is known
        return f"{status.current_epoch:,} pages"
    epoch = f"epoch {status.current_epoch:,} of {status.total_epochs:,}"
    return epoch if status.sweep is None else f"{epoch}, {status.sweep}"


def remaining(status: TrainingStatus) -> str:
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


INDENT: Final = (0, 0, 0, 2)
ENDED: Final = {"completed", "failed", "cancelled"}
STATUS_STYLES: Final = {"completed": "green", "failed": "red", "cancelled": "yellow"}
PREDICTION_STYLES: Final = {"skill": "green", "inconclusive": "yellow", "no_skill": "red"}
CONTROLS: Final = {
    None: "none; --set control=true trains on sign-flip surrogates too",
    False: "passed: sign-flip surrogates were not foreseen",
    True: "failed: sign-flip surrogates were foreseen, so there is a leak",
}
TRADING_STYLES: Final = {
    "survives_costs": "green",
    "inconclusive": "yellow",
    "no_timing": "red",
    "loses": "red",
}


def starting_lines(to: Console, reply: responses.TrainingStarted) -> None:
    """What is going to be trained, on which rows."""
    data, config = reply.data, reply.config
    heading(to, f"Training {reply.symbol} {reply.timeframe}", f"strategy {reply.strategy}")
    layers = "-".join(map(str, config.get("hidden_layers", [])))
    shown: dict[str, object] = {"task": reply.task_id}
    if data is not None:
        shown |= {
            "bars": f"{data.bars:,} from {data.first_bar} to {data.last_bar}, {data.source}",
            "rows": f"{data.train_rows:,} training, {data.validation_rows:,} validation, "
            f"{data.test_rows:,} test, {data.purged_rows:,} purged",
            "labels": shares(data.class_shares),
        }
    shown["network"] = (
        f"{config.get('model_type')} {layers}, at most {config.get('epochs')} epochs,"
        f" {networks(config)}"
    )
    facts(to, shown)
    warn(to, reply.warnings)
    if reply.similar_to:
        warn(to, [f"Tried before, up to the seed: {', '.join(reply.similar_to)}."])


def networks(config: dict[str, Any]) -> str:
    """How many networks are trained, and with which seeds."""
    first, count = config.get("seed", 0), config.get("seeds", 1)
    parts = f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"
    folds = (config.get("walk_forward") or {}).get("folds")
    more = [f"{folds} walk-forward folds"] if folds else []
    return ", ".join([parts, *more, *(["sign-flip control"] if config.get("control") else [])])


def performance(to: Console, reply: responses.ModelPerformance) -> None:
    """What a training is worth: the verdict, the comparison, the rest."""
    heading(to, "Result", reply.task_id)
    to.print(Padding(verdict(reply), INDENT, expand=False))
    judged = reply.verdict
    reasons = {"why": judged.reason, "needs": judged.needs, "luck": judged.luck}
    facts(to, {name: text for name, text in reasons.items() if text})
    to.print()
    to.print(comparison(reply))
    to.print()
    facts(to, other_facts(reply))


def verdict(reply: responses.ModelPerformance) -> Text:
    """What the model is worth, in words."""
    judged = reply.verdict
    text = Text.assemble(
        "Prediction: ",
        (judged.prediction.replace("_", " "), f"bold {PREDICTION_STYLES[judged.prediction]}"),
        "   Trading after costs: ",
        (judged.trading.replace("_", " "), f"bold {TRADING_STYLES[judged.trading]}"),
    )
    if reply.collapsed:
        text.append("\nCollapsed: one class is predicted for every test row.", style="yellow")
    if reply.leak_suspected:
        text.append("\nA leak is suspected: even noise was foreseen.", style="bold red")
    return text


def comparison(reply: responses.ModelPerformance) -> Table:
    """Losses and accuracies of the three parts, above simple rules on the test rows."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("", "loss", "accuracy", "macro F1"):
        table.add_column(title, justify="right" if title else "left")
    training, test, simple = reply.training_metrics, reply.test_metrics, reply.baselines
    rows: tuple[tuple[str, float | None, float, float | None], ...] = (
        ("training", training.final_train_loss, training.final_train_accuracy, None),
        ("validation", training.final_val_loss, training.final_val_accuracy, None),
        ("test, last part", test.test_loss, test.test_accuracy, test.f1_score),
    )
    for name, *figures in rows:
        table.add_row(name, *map(cell, figures), style="bold" if name.startswith("test") else "")
    for name, rule in (
        ("logistic regression", simple.logistic),
        ("newest known label", simple.persistence),
        ("always the majority", simple.majority),
        ("at random", simple.prior),
    ):
        table.add_row(f"  {name}", "", cell(rule.accuracy), cell(rule.macro_f1), style="dim")
    return table


def cell(value: float | None) -> str:
    """A figure of the comparison, or nothing."""
    return "" if value is None else readable(value)


def other_facts(reply: responses.ModelPerformance) -> dict[str, str]:
    """Trading, the network and its training, each in one line."""
    trading, training, model = reply.trading, reply.training_metrics, reply.model_info
    stopped = ", stopped early" if training.early_stopped else ""
    rows = {
        "trading": f"net {percent(trading.net_total_return)} in {trading.trades:,} trades,"
        f" buy and hold {percent(trading.buy_and_hold_return)}, on the verdict's rows",
        "risk": f"Sharpe ratio {format_with_error(trading.sharpe, trading.sharpe_error)},"
        f" largest drawdown {percent(trading.max_drawdown)}",
        "break-even cost": basis_points(trading.break_even_cost_bps),
        "epochs": f"{training.epochs_completed:,}, best {training.best_epoch:,}{stopped},"
        f" {training.training_time_minutes:.2f} minutes",
        "network": f"{model.architecture}, {model.parameters_count:,} parameters,"
        f" {model.model_size_mb:.3f} MB",
        "control": CONTROLS[reply.leak_suspected],
        "test results read": "once"
        if reply.test_readings == 1
        else f"{reply.test_readings:,} times",
    }
    if reply.seeds and (spread := reply.seeds.test_accuracy):
        rows["seeds"] = (
            f"{reply.seeds.count}, the best on validation is kept; test accuracy of all"
            f" {format_with_error(spread.mean, spread.deviation)}"
        )
    return {**rows, "next": reply.next}


def shares(values: dict[str, float]) -> str:
    """Shares of the classes as percentages."""
    return ", ".join(f"{name} {share:.1%}" for name, share in values.items())


def status(to: Console, reply: responses.TrainingStatus) -> None:
    """Where a task stands."""
    style = f"bold {STATUS_STYLES.get(reply.status, '')}"
    to.print(Text.assemble((reply.status, style), f"  {reply.task_id}"))
    metrics = reply.newest
    rows: dict[str, Any] = {
        "series": f"{reply.symbol} {reply.timeframe}",
        "progress": f"{reply.progress} %, epoch {reply.current_epoch:,} of {reply.total_epochs:,}",
        "started": reply.started_at,
        "ended" if reply.status in ENDED else "estimated end": reply.estimated_completion,
        "tasks ahead": reply.queue_position,
        "training": figures(metrics.train_loss, metrics.train_accuracy),
        "validation": figures(metrics.val_loss, metrics.val_accuracy),
        "alarm": reply.alarm,
        "error": reply.error,
        "error code": reply.error_code,
    }
    facts(to, {name: value for name, value in rows.items() if value is not None})


def figures(loss: float | None, accuracy: float | None) -> str | None:
    """One part's loss and accuracy, if there are any."""
    return None if loss is None else f"loss {readable(loss)}, accuracy {readable(accuracy)}"


def next_steps(to: Console, task_id: str) -> None:
    """What to do with a completed training."""
    to.print()
    to.print(Text(f"Keep it with: ktrdr-mcp models save {task_id} NAME", style="dim"))
