"""Commands of bars and strategies: data, strategies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import bars, output
from ktrdr_mcp.cli.session import WithDefault, json_option

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.strategy.form import Strategy


PAGE_ROWS: Final = 100
SERIES_COLUMNS: Final = (
    output.Column("symbol", style="bold"),
    output.Column("timeframe"),
    output.Column("bars", "right"),
    output.Column("first bar"),
    output.Column("last bar"),
    output.Column("source", optional=True),
)


@click.group(cls=WithDefault)
def data() -> None:
    """Bars: list (the default) what there is, check a file."""


@data.command("list")
@click.option("--symbol", help="Only this symbol.")
@click.option("--limit", type=int, default=PAGE_ROWS, show_default=True, help="Rows of the page.")
@click.option("--offset", type=int, default=0, help="Rows to skip.")
@json_option
@click.pass_obj
def list_data(workspace: Workspace, /, as_json: bool, offset: int, **given: Any) -> None:
    """List the bars that there are, defects included."""
    from ktrdr_mcp.data.catalog import BarCatalog
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse
    from ktrdr_mcp.service.data import data_summary

    request = parse(requests.SummarizeData, {**given, "offset": offset})

    def show(to: Console, reply: responses.DataSummary) -> None:
        if not reply.series:
            to.print("There are no such bars. Put SYMBOL_TIMEFRAME.csv into data/.")
            output.warn(to, reply.not_read)
            return
        output.listing(to, SERIES_COLUMNS, [series_cells(one) for one in reply.series])
        show_notes(to, reply.series)
        output.warn(to, reply.not_read)
        output.more(to, reply.has_more, reply.returned, offset)

    output.answer(data_summary(BarCatalog(workspace), request), as_json, show)


def series_cells(series: responses.SeriesSummary) -> list[object]:
    """One series' values in the order of the columns."""
    return [
        series.symbol,
        series.timeframe,
        series.bars,
        series.first_bar,
        series.last_bar,
        series.source,
    ]


def show_notes(to: Console, series: list[responses.SeriesSummary]) -> None:
    """What is wrong with a series, and each note once with the series that it is about."""
    about: dict[str, list[str]] = {}
    for one in series:
        name = f"{one.symbol} {one.timeframe}"
        if one.defects:
            text = output.printable(one.defects)
            to.print(Text.assemble((f"\n{name} cannot be used: ", "bold red"), text))
        for note in one.notes:
            about.setdefault(note, []).append(name)
    if about:
        to.print()
    output.warn(to, [f"{', '.join(names)}: {note}" for note, names in about.items()])


@data.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--calendar", help="An exchange whose sessions must be there, such as XNYS.")
@json_option
def check_data(file: Path, calendar: str | None, as_json: bool) -> None:
    """Check a file of bars, wherever it lies."""
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.service.data import check_bars

    summary = check_bars(file, calendar)
    reply = responses.DataSummary(series=[summary], returned=1, has_more=False)

    def show(to: Console, reply: responses.DataSummary) -> None:
        to.print(Text.assemble(("Sound", "bold green"), f"  {summary.source}"))
        rows = {"bars": summary.bars, "first": summary.first_bar, "last": summary.last_bar}
        output.facts(to, rows)
        output.warn(to, summary.notes)

    output.answer(reply, as_json, show)


STRATEGY_COLUMNS: Final = (
    output.Column("strategy", style="bold", whole=True),
    output.Column("indicators"),
    output.Column("description"),
)


SET_COLUMNS: Final = (output.Column("input", style="bold", whole=True), output.Column("sets"))


@click.group(cls=WithDefault)
def strategies() -> None:
    """Strategy files: list (the default), check a file, show one."""


@strategies.command("list")
@json_option
@click.pass_obj
def list_strategies(workspace: Workspace, as_json: bool) -> None:
    """List the strategies that there are, with what is wrong with them."""
    from ktrdr_mcp.strategy.catalog import StrategyCatalog
    from ktrdr_mcp.training.strategies import list_strategies

    rows = [asdict(each) for each in list_strategies(StrategyCatalog(workspace))]
    output.answer({"success": True, "strategies": rows, "returned": len(rows)}, as_json, show_list)


def summary(strategy: Strategy) -> dict[str, Any]:
    """What a strategy says, in short."""
    return {
        "description": strategy.description,
        "indicators": [each.name for each in strategy.indicators],
    }


def show_list(to: Console, reply: Mapping[str, Any]) -> None:
    """The strategies on a terminal."""
    rows = reply["strategies"]
    cells = [(one["name"], one["indicators"], one["defects"] or one["description"]) for one in rows]
    output.listing(to, STRATEGY_COLUMNS, cells)
    for one in rows:
        output.warn(to, [f"{one['name']}: {said}" for said in one["warnings"]])


@strategies.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "series",
    nargs=2,
    metavar="SYMBOL TIMEFRAME",
    help="Name the features that never vary on these bars too.",
)
@json_option
@click.pass_obj
def check_strategy(
    workspace: Workspace, file: Path, series: tuple[str, str] | None, as_json: bool
) -> None:
    """Check a strategy as a training would: a file, wherever it lies, or one by its name."""
    from ktrdr_mcp.features.build import find_ineffective
    from ktrdr_mcp.features.registry import check
    from ktrdr_mcp.training.strategies import warnings

    strategy = read_sound_strategy(workspace, file)
    reply = {
        "success": True,
        "name": strategy.name,
        **summary(strategy),
        "fuzzy_sets": sets_of(strategy),
        "training": dict(strategy.training),
        "decisions": dict(strategy.decisions),
        "warm_up_bars": max(each.warm_up_bars for each in check(strategy)),
        "ignored": find_ineffective(strategy),
        "warnings": warnings(strategy),
        "constant": None if series is None else constant_features(strategy, workspace, *series),
    }

    def show(to: Console, reply: Mapping[str, Any]) -> None:
        to.print(Text.assemble(("Sound", "bold green"), f"  {reply['name']}"))
        facts = {name: reply[name] for name in ("description", "indicators")}
        facts |= {name: settings(reply[name]) for name in ("training", "decisions")}
        output.facts(to, facts | {"warm-up": f"{reply['warm_up_bars']:,} bars"})
        to.print()
        output.listing(to, SET_COLUMNS, [set_cells(*one) for one in reply["fuzzy_sets"].items()])
        if reply["constant"] == []:
            output.facts(to, {"constant": "no feature is the same on every bar"})
        constant = [f"{name} is the same on every bar." for name in reply["constant"] or []]
        output.warn(to, [*reply["warnings"], *constant])

    output.answer(reply, as_json, show)


def read_sound_strategy(workspace: Workspace, file: Path) -> Strategy:
    """The sound strategy of a file; of a name, where there is no such file. Raises KtrdrError."""
    from ktrdr_mcp.service.data import check_strategy_file
    from ktrdr_mcp.strategy.catalog import StrategyCatalog
    from ktrdr_mcp.training.strategies import read_strategy

    if file.exists() or file.suffix or len(file.parts) > 1:
        return check_strategy_file(file)
    return read_strategy(StrategyCatalog(workspace), str(file))


def sets_of(strategy: Strategy) -> dict[str, Any]:
    """The fuzzy sets of each indicator output: `auto`, `crisp`, `cyclic`, or the numbers."""
    return {
        each.indicator_output: each.sets
        if isinstance(each.sets, str)
        else {one.name: list(one.parameters) for one in each.sets}
        for each in strategy.fuzzy_inputs
    }


def set_cells(name: str, sets: str | Mapping[str, list[float]]) -> list[str]:
    """The name of an input and its sets, for people."""
    if isinstance(sets, str):
        return [name, sets]
    shown = (f"{one} [{', '.join(f'{x:g}' for x in numbers)}]" for one, numbers in sets.items())
    return [name, ", ".join(shown)]


def settings(values: Mapping[str, Any], above: str = "") -> str:
    """Nested settings as one would write them behind `--set`."""
    return ", ".join(
        settings(value, f"{above}{name}.")
        if isinstance(value, Mapping)
        else f"{above}{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )


def constant_features(
    strategy: Strategy, workspace: Workspace, symbol: str, timeframe: str
) -> list[str]:
    """The features of a strategy that are the same on every bar of a series. Raises KtrdrError."""
    import numpy as np

    from ktrdr_mcp.data.catalog import BarCatalog
    from ktrdr_mcp.features import build, inputs

    bars = BarCatalog(workspace).load(symbol, timeframe).bars
    table = build.compute_indicators(bars, strategy)
    rows = np.arange(table.warm_up_bars, len(bars))
    names, values = build.feature_matrix(table, build.fit_fuzzy(table, strategy, rows))
    return [name for name, same in zip(names, inputs.constant(values[rows]), strict=True) if same]


@strategies.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show_strategy(workspace: Workspace, name: str, as_json: bool) -> None:
    """Show a strategy file as it stands."""
    from ktrdr_mcp.strategy.catalog import StrategyCatalog

    text = StrategyCatalog(workspace).text(name)
    if as_json:
        output.print_json({"success": True, "name": name, "text": text})
    else:
        click.echo("\n".join(map(output.printable, text.splitlines())))


for command in (
    bars.import_files,
    bars.fetch,
    bars.update,
    bars.list_versions,
    bars.remove,
):
    data.add_command(command)
