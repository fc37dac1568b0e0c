"""Commands of bars: data (list, check). They need no laboratory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import output
from ktrdr_mcp.cli.session import WithDefault, json_option

if TYPE_CHECKING:
    from ktrdr_mcp.contract import responses
    from ktrdr_mcp.paths import Workspace

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
    from ktrdr_mcp.contract import parse, requests
    from ktrdr_mcp.data.sources import BarSources
    from ktrdr_mcp.lab.catalog import data_summary

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

    output.answer(data_summary(BarSources(workspace), request), as_json, show)


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


@data.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a file of bars, wherever it lies."""
    from ktrdr_mcp.contract import responses
    from ktrdr_mcp.lab.file_checks import check_bars

    summary = check_bars(file)
    reply = responses.DataSummary(series=[summary], returned=1, has_more=False)

    def show(to: Console, reply: responses.DataSummary) -> None:
        to.print(Text.assemble(("Sound", "bold green"), f"  {summary.source}"))
        rows = {"bars": summary.bars, "first": summary.first_bar, "last": summary.last_bar}
        output.facts(to, rows)
        output.warn(to, summary.notes)

    output.answer(reply, as_json, show)
