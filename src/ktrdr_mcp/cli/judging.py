"""Commands that set trainings and models beside one another: compare, reproduce, backtest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import output
from ktrdr_mcp.cli.session import json_option, with_lab

if TYPE_CHECKING:
    from ktrdr_mcp.contract import responses
    from ktrdr_mcp.paths import Workspace

COMPARED_COLUMNS: Final = (
    output.Column("rank", "right"),
    output.Column("task", style="bold"),
    output.Column("val gain", "right"),
    output.Column("val acc.", "right"),
    output.Column("test acc.", "right", optional=True),
    output.Column("T", "right"),
    output.Column("verdict"),
)
RESULT_STYLES: Final = {"match": "bold green", "differs": "bold red", None: "bold yellow"}


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID TASK_ID...")
@json_option
@click.pass_obj
def compare(workspace: Workspace, task_ids: tuple[str, ...], as_json: bool) -> None:
    """Set completed trainings side by side, ranked by validation only."""
    from ktrdr_mcp.contract import parse, requests

    request = parse(requests.CompareTrainings, {"task_ids": list(task_ids)})
    reply = with_lab(workspace, lambda lab: lab.compare_trainings(request), quiet=as_json)
    output.answer(reply, as_json, show_comparison)


def show_comparison(to: Console, reply: responses.Comparison) -> None:
    """A comparison on a terminal."""
    output.listing(to, COMPARED_COLUMNS, [compared_cells(task) for task in reply.tasks])
    to.print()
    output.facts(
        to, {name: ", ".join(map(str, values)) for name, values in reply.differences.items()}
    )
    output.facts(
        to,
        {
            f"1 against {number}": f"p {test.p:.3f}. {test.meaning}"
            for number, test in enumerate(reply.tests, start=2)
        },
    )
    to.print(Text(reply.summary, style="bold"))


def compared_cells(task: responses.ComparedTask) -> list[object]:
    """One task's values in the order of the columns."""
    return [
        task.rank,
        task.task_id,
        task.val_gain,
        task.val_accuracy,
        task.test_accuracy,
        task.statistic,
        task.prediction.replace("_", " "),
    ]


@click.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def reproduce(workspace: Workspace, task_id: str, as_json: bool) -> None:
    """Train a completed task again from what is stored: match, or what differs."""
    from ktrdr_mcp.contract import parse, requests

    request = parse(requests.ReproduceTraining, {"task_id": task_id})
    reply = with_lab(workspace, lambda lab: lab.reproduce_training(request), quiet=as_json)
    output.answer(reply, as_json, show_reproduction)


def show_reproduction(to: Console, reply: responses.Reproduction) -> None:
    """A reproduction on a terminal."""
    word = reply.result or reply.status
    to.print(Text.assemble((word, RESULT_STYLES[reply.result]), f"  {reply.message}"))
    output.facts(to, {"reproduction": reply.reproduction_task_id})
    output.warn(to, reply.differences)


@click.command()
@click.argument("model")
@click.option("--symbol", help="Another symbol than the model's own.")
@click.option("--start", metavar="DATE", help="First day, YYYY-MM-DD, UTC.")
@click.option("--end", metavar="DATE", help="Last day, inclusive.")
@click.option("--cost-bps", type=float, help="Basis points per unit of position change.")
@click.option("--long-only/--long-short", default=None, help="Whether sell means no position.")
@json_option
@click.pass_obj
def backtest(workspace: Workspace, /, model: str, as_json: bool, **given: Any) -> None:
    """Trade a saved model's signals over any range, after costs."""
    from ktrdr_mcp.contract import parse, requests

    raw = {
        "model_name": model,
        "symbol": given["symbol"],
        "start_date": given["start"],
        "end_date": given["end"],
        "cost_bps": given["cost_bps"],
        "long_only": given["long_only"],
    }
    request = parse(
        requests.BacktestModel, {name: value for name, value in raw.items() if value is not None}
    )
    reply = with_lab(workspace, lambda lab: lab.backtest_model(request), quiet=as_json)
    output.answer(reply, as_json, show_backtest)


def show_backtest(to: Console, reply: responses.ModelBacktest) -> None:
    """A backtest on a terminal, the part that says something first."""
    output.heading(to, f"Backtest of {reply.model_name} v{reply.version}", reply.symbol)
    to.print(Text(reply.summary, style="bold"))
    for title, part in (("out of sample", reply.out_of_sample), ("in sample", reply.in_sample)):
        if part is not None:
            output.heading(to, title, f"{part.bars:,} bars")
            output.facts(to, part.model_dump(exclude={"bars"}))
    output.warn(to, reply.warnings)
