"""Commands of models: list, show, save, load, predict, backtest, compare, reproduce."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp import files, limits
from ktrdr_mcp.cli import output, session
from ktrdr_mcp.cli.session import WithDefault, json_option, with_service

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.schemas.service import ServiceProtocol


PAGE_ROWS: Final = 20
MODEL_COLUMNS: Final = (
    output.Column("model", style="bold"),
    output.Column("version", "right"),
    output.Column("symbol"),
    output.Column("timeframe"),
    output.Column("test acc.", "right"),
    output.Column("train acc.", "right", optional=True),
    output.Column("created", optional=True),
    output.Column("description", optional=True),
)
SIGNAL_STYLES: Final = {"buy": "bold green", "hold": "bold yellow", "sell": "bold red"}
CARD_FACTS: Final = (
    "description",
    "created_at",
    "symbol",
    "timeframe",
    "task_id",
    "model_path",
    "feature_names",
)


@click.group(cls=WithDefault)
def models() -> None:
    """Saved models: list (the default), show, save, load."""


@models.command("list")
@click.option("--symbol", help="Only this symbol.")
@click.option("--limit", type=int, default=PAGE_ROWS, show_default=True, help="Rows of the page.")
@click.option("--offset", type=int, default=0, help="Rows to skip.")
@json_option
@click.pass_obj
def list_models(workspace: Workspace, /, as_json: bool, offset: int, **given: Any) -> None:
    """List the saved models, newest first."""

    def show(to: Console, reply: responses.ModelList) -> None:
        if not reply.models:
            to.print("No model is saved. Save one with: ktrdr-mcp models save TASK_ID NAME")
            return
        output.listing(to, MODEL_COLUMNS, [model_cells(one) for one in reply.models])
        output.more(to, reply.has_more, reply.returned, offset)

    session.answer(workspace, "list_trained_models", {**given, "offset": offset}, as_json, show)


def model_cells(model: responses.ModelRow) -> list[object]:
    """One model's values in the order of the columns."""
    return [
        model.model_name,
        model.version,
        model.symbol,
        model.timeframe,
        model.test_accuracy,
        model.training_accuracy,
        model.created_at,
        model.description,
    ]


@models.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show_model(workspace: Workspace, name: str, as_json: bool) -> None:
    """Show what the newest version of a model is, was trained on and measured."""
    from ktrdr_mcp.api.operations import MODEL_CARD
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    request = parse(requests.LoadModel, {"model_name": name})
    reply = with_service(workspace, lambda service: MODEL_CARD(service, request), quiet=as_json)
    output.answer(reply.card, as_json, show_card)


def show_card(to: Console, card: Mapping[str, Any]) -> None:
    """A model card on a terminal."""
    output.heading(to, card["model_name"], f"version {card['version']}")
    metrics = card.get("metrics", {})
    rows = {name: card[name] for name in CARD_FACTS if name in card}
    rows["strategy"] = card.get("strategy", {}).get("name")
    rows |= {
        f"{name} bars": " to ".join(map(str, ends))
        for name, ends in card.get("periods", {}).items()
        if isinstance(ends, list)
    }
    rows |= metrics.get("test_metrics", {})
    output.facts(to, rows)


@models.command()
@click.argument("task_id")
@click.argument("name")
@click.option("--description", default="", help="What the model is for.")
@json_option
@click.pass_obj
def save(workspace: Workspace, task_id: str, name: str, description: str, as_json: bool) -> None:
    """Publish a completed task's model under a name."""
    raw = {"task_id": task_id, "model_name": name, "description": description}

    def show(to: Console, reply: responses.ModelSaved) -> None:
        done = "Saved" if reply.created else "Saved before"
        to.print(Text.assemble((done, "bold green"), f"  {reply.model_name} v{reply.version}"))
        output.facts(to, {"folder": reply.model_path, "weights": f"{reply.model_size_mb:.3f} MB"})
        output.warn(to, reply.warnings)

    session.answer(workspace, "save_trained_model", raw, as_json, show)


@models.command()
@click.argument("name")
@json_option
@click.pass_obj
def load(workspace: Workspace, name: str, as_json: bool) -> None:
    """Verify every file of a model's newest version and keep it in memory."""

    def show(to: Console, reply: responses.ModelLoaded) -> None:
        to.print(Text.assemble(("Verified and loaded", "bold green"), f"  {reply.model_name}"))
        rows = reply.model_info.model_dump()
        output.facts(to, rows | {"trained_on": " to ".join(rows["trained_on"])})

    session.answer(workspace, "load_trained_model", {"model_name": name}, as_json, show)


@click.command()
@click.argument("model")
@click.option("--symbol", help="Another symbol than the model's own.")
@click.option("--timeframe", help="The model's own, if left out.")
@click.option(
    "--date",
    "test_date",
    metavar="DATE",
    help="The last bar of this day, YYYY-MM-DD; else the newest.",
)
@json_option
@click.pass_obj
def predict(workspace: Workspace, /, model: str, as_json: bool, **given: str | None) -> None:
    """Predict one bar with a saved model."""
    session.answer(
        workspace, "test_model_prediction", {"model_name": model, **given}, as_json, show_prediction
    )


def show_prediction(to: Console, reply: responses.ModelPrediction) -> None:
    """A prediction on a terminal."""
    one = reply.prediction
    to.print(
        Text.assemble(
            (one.signal.upper(), SIGNAL_STYLES[one.signal]),
            f"  {reply.symbol} {reply.timeframe}, bar of {output.format_times(reply.as_of)} UTC, "
            f"{reply.model_name} v{reply.version}",
        )
    )
    probabilities = [f"{name} {value:.1%}" for name, value in one.probabilities.items()]
    output.facts(
        to,
        {
            "most probable": f"{one.most_probable}, {one.confidence:.1%}",
            "probabilities": ", ".join(probabilities),
            "signal_strength": one.signal_strength,
            "fuzzy_outputs": one.fuzzy_outputs,
            "inputs": reply.input_features,
        },
    )
    seen = ["The model has seen this bar in its training."] if reply.in_sample else []
    output.warn(to, [*seen, *reply.warnings])


COMPARED_COLUMNS: Final = (
    output.Column("rank", "right"),
    output.Column("task", style="bold"),
    output.Column("val gain", "right"),
    output.Column("val acc.", "right"),
    output.Column("test acc.", "right", optional=True),
    output.Column("T", "right"),
    output.Column("verdict"),
)
TRADE_COLUMNS: Final = (
    "side",
    "entry_time",
    "entry_price",
    "exit_time",
    "exit_price",
    "bars",
    "net_return",
)
EQUITY_COLUMNS: Final = ("time", "equity")
RESULT_STYLES: Final = {"match": "bold green", "differs": "bold red", None: "bold yellow"}


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID TASK_ID...")
@json_option
@click.pass_obj
def compare(workspace: Workspace, task_ids: tuple[str, ...], as_json: bool) -> None:
    """Set completed trainings side by side, ranked by validation only."""
    session.answer(
        workspace, "compare_trainings", {"task_ids": list(task_ids)}, as_json, show_comparison
    )


def show_comparison(to: Console, reply: responses.Comparison) -> None:
    """A comparison on a terminal."""
    output.listing(to, COMPARED_COLUMNS, [compared_cells(task) for task in reply.tasks])
    if reply.differences:
        columns = [output.Column("setting"), *(output.Column(f"{one.rank}") for one in reply.tasks)]
        to.print()
        output.listing(to, columns, [[name, *row] for name, row in reply.differences.items()])
    to.print()
    for number, test in enumerate(reply.tests, start=2):
        output.facts(to, {f"1 against {number}": f"p {test.p:.3f}. {test.meaning}"})
    to.print(Text(reply.summary, style="bold"))


def compared_cells(task: responses.ComparedTask) -> list[object]:
    """One task's values in the order of the columns."""
    return [
        task.rank,
        task.task_id,
        task.val_gain,
        task.val_accuracy,
        task.test_accuracy,
        f"{task.statistic:.1f}",
        task.prediction.replace("_", " "),
    ]


@click.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def reproduce(workspace: Workspace, task_id: str, as_json: bool) -> None:
    """Train a completed task again from what is stored: match, or what differs."""
    session.answer(
        workspace, "reproduce_training", {"task_id": task_id}, as_json, show_reproduction
    )


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
@click.option(
    "--trades",
    "trades_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every trade into this CSV file.",
)
@click.option(
    "--equity",
    "equity_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the growth of one unit, bar by bar, into this CSV file.",
)
@json_option
@click.pass_obj
def backtest(
    workspace: Workspace,
    /,
    model: str,
    as_json: bool,
    trades_file: Path | None,
    equity_file: Path | None,
    **given: Any,
) -> None:
    """Trade a saved model's signals over any range, after costs."""
    from ktrdr_mcp.api import operations
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    wanted = {"model_name": model, "start_date": given.pop("start"), "end_date": given.pop("end")}
    raw = {name: value for name, value in {**wanted, **given}.items() if value is not None}
    request = parse(requests.BacktestModel, raw)

    async def work(service: ServiceProtocol) -> responses.ModelBacktest:
        reply = await operations.BACKTEST_MODEL(service, request)
        if trades_file or equity_file:
            curve = parse(requests.ReadEquityCurve, {**raw, "points": limits.MAX_CURVE_POINTS})
            drawn = await operations.EQUITY_CURVE(service, curve)
            write_csv(trades_file, TRADE_COLUMNS, drawn.model_dump()["trades"])
            write_csv(equity_file, EQUITY_COLUMNS, drawn.equity)
        return reply

    reply = with_service(workspace, work, quiet=as_json)
    output.answer(reply, as_json, show_backtest)
    if not as_json:
        written = [str(path) for path in (trades_file, equity_file) if path]
        output.facts(output.console(), {"written": ", ".join(written)} if written else {})


def write_csv(
    path: Path | None, columns: Sequence[str], parts: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Writes the rows of each part of a backtest, whole or not at all.

    Args:
        path: of the file, which is replaced; None for none.
        columns: of a row, behind the name of its part.
        parts: rows by the name of the part.
    Raises:
        StorageError: the file cannot be written.
    """
    if path is None:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("part", *columns))
    for name, rows in parts.items():
        writer.writerows((name, *(row[column] for column in columns)) for row in rows)
    with files.storage_errors(f"writing {path.name}"):
        files.replace(path, text.getvalue().encode())


def show_backtest(to: Console, reply: responses.ModelBacktest) -> None:
    """A backtest on a terminal, the part that says something first."""
    output.heading(to, f"Backtest of {reply.model_name} v{reply.version}")
    output.facts(
        to,
        {
            "bars": f"{reply.symbol} {reply.timeframe}, {reply.first_bar} to {reply.last_bar}",
            "sides": "long only" if reply.long_only else "long and short",
            "cost": f"{reply.cost_bps:g} basis points per unit of position change",
        },
    )
    to.print()
    to.print(Text(reply.summary, style="bold"))
    for title, part in (
        ("fresh", reply.out_of_sample),
        ("seen in choosing", reply.choosing),
        ("seen in training", reply.in_sample),
    ):
        if part is not None:
            to.print()
            output.heading(to, title, f"{part.bars:,} bars")
            output.facts(to, part_facts(part))
    output.warn(to, reply.warnings)


def part_facts(part: responses.BacktestFigures) -> dict[str, str]:
    """The figures of one part of a backtest, each as it is read elsewhere too."""
    factor = part.profit_factor
    return {
        "net return": f"{output.percent(part.net_total_return)} in {part.trades:,} trades",
        "buy and hold": output.percent(part.buy_and_hold_return),
        "Sharpe ratio": f"{output.format_with_error(part.sharpe, part.sharpe_error)}, buy and hold"
        f" {output.format_with_error(part.buy_and_hold_sharpe, None)}",
        "largest drawdown": f"{output.percent(part.max_drawdown)}, buy and hold"
        f" {output.percent(part.buy_and_hold_max_drawdown)}",
        "trades won": "-"
        if part.win_rate is None
        else f"{part.win_rate:.1%}, gains over losses {'-' if factor is None else f'{factor:.2f}'}",
        "in the market": f"{part.exposure:.1%} of the bars,"
        f" turnover {part.turnover_per_year:,.0f} a year",
        "break-even cost": output.basis_points(part.break_even_cost_bps),
    }
