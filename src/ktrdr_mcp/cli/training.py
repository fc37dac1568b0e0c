"""Commands of trainings: train, tasks, status, cancel, performance; waiting, however it ends."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import click
from rich.console import Console

from ktrdr_mcp import limits
from ktrdr_mcp.cli import output, screens, session
from ktrdr_mcp.cli.reports import draw_curves
from ktrdr_mcp.cli.session import Interrupted, complete_id, json_option, runs_here, with_service
from ktrdr_mcp.errors import ErrorJson, TrainingFailed, quote

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.schemas.responses import TrainingStatus
    from ktrdr_mcp.schemas.service import ServiceProtocol

QUEUE_TIMEOUT_S: Final = 2.0  # how old the shown place in the queue may get
STOPPING_TIMEOUT_S: Final = 10.0
ENDINGS: Final = {"failed": "failed", "cancelled": "was cancelled"}


def nest_settings(texts: Sequence[str]) -> dict[str, Any]:
    """The settings that some `--set` options spell.

    Args:
        texts: each "key=value", where a dotted key leads inside and a value is JSON, or else text.
    Raises:
        click.BadParameter: one is no setting, or two contradict each other.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        *parents, last = key.split(".")
        if not separator or not all((*parents, last)):
            raise bad_setting(text, "is no key=value")
        inside = settings
        for parent in parents:
            inside = inside.setdefault(parent, {})
            if not isinstance(inside, dict):
                raise bad_setting(text, f"contradicts another value of {quote(parent)}")
        if last in inside:
            raise bad_setting(text, "is set twice")
        inside[last] = parse_value(value)
    return settings


def parse_value(text: str) -> Any:
    """A value as JSON; what is no JSON is text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def bad_setting(text: str, what: str) -> click.BadParameter:
    """The usage error for one `--set`."""
    return click.BadParameter(
        f"{quote(text)} {what}; write --set epochs=50 or --set early_stopping.patience=5.",
        param_hint="--set",
    )


STATUSES: Final = ("pending", "training", "completed", "failed", "cancelled")
PAGE_ROWS: Final = 20
MINUTES: Final = len("YYYY-MM-DDTHH:MM")
MAX_TIMEOUT_S: Final = 10**6
TASK_COLUMNS: Final = (
    output.Column("task", style="bold"),
    output.Column("status"),
    output.Column("series"),
    output.Column("val acc", "right"),
    output.Column("created", whole=True),
    output.Column("differs from the defaults", optional=True),
    output.Column("strategy", optional=True),
    output.Column("error", optional=True),
    output.Column("%", "right", optional=True),
)


@click.command()
@click.argument("symbol")
@click.argument("timeframe")
@click.option("--strategy", help="Which strategy; `ktrdr-mcp strategies` lists them.")
@click.option("--start", "start_date", metavar="DATE", help="First day, YYYY-MM-DD, UTC.")
@click.option("--end", "end_date", metavar="DATE", help="Last day, inclusive.")
@click.option("--epochs", type=int, help="The most epochs; short for --set epochs=...")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of the configuration, with a JSON value: --set learning_rate=0.01 "
    "--set hidden_layers=[32,16] --set early_stopping.patience=5. Repeatable.",
)
@json_option
@click.pass_obj
def train(
    workspace: Workspace,
    /,
    epochs: int | None,
    settings: tuple[str, ...],
    as_json: bool,
    **named: str | None,
) -> None:
    """Train a network on one series of bars and wait for its result.

    \b
    ktrdr-mcp train AAPL 1h --epochs 20
    ktrdr-mcp train AAPL 1d --strategy mean_reversion --set seed=7

    Ctrl-C ends the waiting; the training goes on in the background. With --in-process, Ctrl-C
    cancels it.
    """
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    short = () if epochs is None else (f"epochs={epochs}",)
    given = {name: value for name, value in named.items() if value is not None}
    config = nest_settings((*settings, *short))
    request = parse(requests.StartTraining, {**given, "config": config})

    async def work(service: ServiceProtocol) -> tuple[list[str], responses.ModelPerformance]:
        return await train_and_judge(service, request, as_json)

    warnings, reply = with_service(workspace, work, quiet=as_json)
    if as_json:
        output.print_json({**reply.model_dump(mode="json"), "warnings": warnings})


async def train_and_judge(
    service: ServiceProtocol, request: Any, as_json: bool
) -> tuple[list[str], responses.ModelPerformance]:
    """Starts, follows and judges a training, and shows it unless JSON is wanted.

    Returns:
        the warnings of the start, and what was measured.
    """
    from ktrdr_mcp.api import operations
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    to = output.console()
    reply = await operations.START_TRAINING(service, request)
    if not as_json:
        screens.starting_lines(to, reply)
        to.print()
    async with screens.show_progress(output.console(stderr=True), "", as_json) as on_progress:
        await wait_for_completion(service, reply.task_id, on_progress)
    task = parse(requests.TaskOnly, {"task_id": reply.task_id})
    judged = await operations.GET_MODEL_PERFORMANCE(service, task)
    if not as_json:
        if to.is_terminal:
            draw_curves(to, (await operations.TRAINING_HISTORY(service, task)).history)
        screens.performance(to, judged)
        screens.next_steps(to, reply.task_id)
    return reply.warnings, judged


@click.command()
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--symbol", help="Only this symbol.")
@click.option("--limit", type=int, default=PAGE_ROWS, show_default=True, help="Rows of the page.")
@click.option("--offset", type=int, default=0, help="Rows to skip.")
@json_option
@click.pass_obj
def tasks(workspace: Workspace, /, as_json: bool, offset: int, **given: Any) -> None:
    """List the tasks, newest first."""

    def show(to: Console, reply: responses.TaskList) -> None:
        if not reply.tasks:
            to.print("There are no such tasks. Begin with: ktrdr-mcp train AAPL 1h")
            return
        output.listing(to, TASK_COLUMNS, [task_cells(one) for one in reply.tasks])
        output.more(to, reply.has_more, reply.returned, offset)

    session.answer(workspace, "list_training_tasks", {**given, "offset": offset}, as_json, show)


def task_cells(task: responses.TaskSummary) -> list[object]:
    """One task's values in the order of the columns."""
    return [
        task.task_id,
        task.status,
        f"{task.symbol} {task.timeframe}",
        task.val_accuracy,
        task.created_at[:MINUTES].replace("T", " "),
        task.differs,
        task.strategy,
        task.error_code,
        task.progress,
    ]


@click.command()
@click.argument("task_id")
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, MAX_TIMEOUT_S),
    default=0,
    help="Seconds to wait for its end.",
)
@json_option
@click.pass_context
def status(context: click.Context, task_id: str, wait_s: int, as_json: bool) -> None:
    """Show where a task stands, or wait for its end.

    With --wait, the exit code is 5 for a training that failed or was cancelled.
    """

    async def work(service: ServiceProtocol) -> responses.TrainingStatus:
        quiet = as_json or not wait_s
        console = output.console(stderr=True)
        async with screens.show_progress(
            console, f"Task {output.printable(task_id)}", quiet
        ) as on_progress:
            whole = await complete_id(service, task_id)
            return await wait_for_end(service, whole, on_progress, wait_s)

    reply = with_service(context.obj, work, quiet=as_json)
    output.answer(reply, as_json, screens.status)
    if wait_s and reply.status in ENDINGS:
        context.exit(session.TRAINING_FAILED)


@click.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def cancel(workspace: Workspace, task_id: str, as_json: bool) -> None:
    """Stop a waiting or running task; a finished one stays as it is."""

    def show(to: Console, reply: responses.TaskCancelled) -> None:
        to.print(output.printable(output.use_command_names(reply.message)))

    session.answer(workspace, "cancel_training", {"task_id": task_id}, as_json, show)


@click.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def performance(workspace: Workspace, task_id: str, as_json: bool) -> None:
    """Show what a completed training is worth."""
    session.answer(
        workspace, "get_model_performance", {"task_id": task_id}, as_json, screens.performance
    )


class TrainingEnded(TrainingFailed):
    """A training that ended without a model.

    Args:
        status: its last status.
    """

    def __init__(self, status: TrainingStatus) -> None:
        reason = f": {status.error}" if status.error else "."
        super().__init__(
            f"The training {status.task_id} {ENDINGS[status.status]}{reason}",
            hint="" if status.error else "Train again with `ktrdr-mcp train`.",
        )
        self._code = status.error_code or status.status

    def to_json(self) -> ErrorJson:
        """The error with the task's own code."""
        return {**super().to_json(), "code": self._code}


async def wait_for_end(
    service: ServiceProtocol,
    task_id: str,
    on_progress: Callable[[TrainingStatus], Awaitable[None]],
    limit_s: float | None = None,
) -> TrainingStatus:
    """A task's status once it has ended, or once the time is over.

    Args:
        service: where it runs.
        task_id: which task.
        on_progress: called with every new status.
        limit_s: how long to wait; None for as long as it takes.
    """
    from ktrdr_mcp.api.operations import GET_TRAINING_STATUS, TERMINAL

    until_s = None if limit_s is None else anyio.current_time() + limit_s
    wait_s = 0.0
    while True:
        waiting = {"task_id": task_id, "wait_s": wait_s}
        status = await GET_TRAINING_STATUS.answer(service, waiting, on_progress)
        left_s = limits.MAX_WAIT_S if until_s is None else until_s - anyio.current_time()
        if status.status in TERMINAL or left_s <= 0:
            return status
        await on_progress(status)
        longest_s = QUEUE_TIMEOUT_S if status.status == "pending" else limits.MAX_WAIT_S
        wait_s = min(longest_s, left_s)


async def wait_for_completion(
    service: ServiceProtocol, task_id: str, on_progress: Callable[[TrainingStatus], Awaitable[None]]
) -> None:
    """Returns once a training is completed.

    Raises:
        TrainingEnded: it failed or was cancelled.
        Interrupted: the user did not want to wait any longer.
    """
    try:
        status = await wait_for_end(service, task_id, on_progress)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            raise await explain_interruption(service, task_id) from None
    if status.status != "completed":
        raise TrainingEnded(status)


async def explain_interruption(service: ServiceProtocol, task_id: str) -> Interrupted:
    """What becomes of a training that nobody waits for any more.

    Cancelled if it runs in this process, which ends now; else it goes on.
    """
    if not runs_here(service):
        return Interrupted(
            f"The training {task_id} goes on in the background.",
            hint=f"Follow it with `ktrdr-mcp status {task_id} --wait 600`, or end it with "
            f"`ktrdr-mcp cancel {task_id}`.",
        )
    from ktrdr_mcp.api.operations import CANCEL_TRAINING, GET_TRAINING_STATUS

    await CANCEL_TRAINING.answer(service, {"task_id": task_id})
    waiting = {"task_id": task_id, "wait_s": STOPPING_TIMEOUT_S}
    status = await GET_TRAINING_STATUS.answer(service, waiting)
    if status.status == "completed":
        return Interrupted(
            f"The training {task_id} was completed before it could be cancelled.",
            hint=f"See it with `ktrdr-mcp performance {task_id}`.",
        )
    return Interrupted(
        f"The training {task_id} ran in this process and is cancelled.",
        hint="Without --in-process, it would go on in the background.",
    )
