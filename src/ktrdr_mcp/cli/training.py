"""Commands of trainings: train, tasks, status, cancel, performance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console

from ktrdr_mcp.cli import output, screens, session
from ktrdr_mcp.cli.reports import draw_curves
from ktrdr_mcp.cli.session import json_option, with_service
from ktrdr_mcp.cli.task_ids import complete_id
from ktrdr_mcp.errors import quote

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.schemas.service import ServiceProtocol


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
    from ktrdr_mcp.cli import following
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    to = output.console()
    reply = await operations.START_TRAINING(service, request)
    if not as_json:
        screens.starting_lines(to, reply)
        to.print()
    async with screens.show_progress(output.console(stderr=True), "", as_json) as on_progress:
        await following.wait_for_completion(service, reply.task_id, on_progress)
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
    from ktrdr_mcp.cli import following

    async def work(service: ServiceProtocol) -> responses.TrainingStatus:
        quiet = as_json or not wait_s
        console = output.console(stderr=True)
        async with screens.show_progress(
            console, f"Task {output.printable(task_id)}", quiet
        ) as on_progress:
            whole = await complete_id(service, task_id)
            return await following.wait_for_end(service, whole, on_progress, wait_s)

    reply = with_service(context.obj, work, quiet=as_json)
    output.answer(reply, as_json, screens.status)
    if wait_s and reply.status in following.ENDINGS:
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
