"""Commands that bring bars in and keep them: data import, versions, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import output, session
from ktrdr_mcp.cli.session import json_option

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas import responses


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--symbol", help="What was traded, if the file does not say it.")
@click.option("--timeframe", help="The width of a bar, if its distance does not tell.")
@click.option("--timezone", help="Of times that name none: Europe/Athens, +02:00, NY+7.")
@click.option("--from", "dialect", help="The dialect, if it is recognised wrongly.")
@click.option("--dry-run", is_flag=True, help="Only show what was understood.")
@json_option
@click.pass_obj
def import_files(
    workspace: Workspace, /, files: tuple[Path, ...], as_json: bool, **given: Any
) -> None:
    """Import files of other tools: recognised, checked, and stored in data/.

    Packed files (gz, zip) and several files of one series are taken as they are.
    """
    raw = {name: value for name, value in given.items() if value not in {None, False}}
    raw["files"] = [str(Path.cwd() / file.expanduser()) for file in files]
    if not given["dry_run"]:
        session.answer(workspace, "import_bars", raw, as_json, show_imported)
        return
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse
    from ktrdr_mcp.service.importing import import_bars

    reply = import_bars(workspace, parse(requests.ImportBars, raw))
    output.answer(reply, as_json, show_imported)


def show_imported(to: Console, reply: responses.BarsImported) -> None:
    """What was understood of each series, and where it is."""
    for one in reply.series:
        done = "Recognised" if reply.dry_run else "Imported"
        files = ", ".join(one.files[:3]) + (
            f" and {len(one.files) - 3} more" if len(one.files) > 3 else ""
        )
        to.print(Text.assemble((done, "bold green"), f"  {output.printable(files)}: {one.title}"))
        output.facts(
            to,
            {
                "series": f"{one.symbol} {one.timeframe}",
                "written as": one.written,
                "time zone": one.timezone,
                "columns": one.columns,
                "bars": one.bars,
                "first": one.first_bar,
                "last": one.last_bar,
                "left out": one.left_out,
                "stored": one.stored,
                "version": None
                if one.dataset is None
                else f"{one.dataset}{'' if one.is_new else ', as it was'}",
            },
        )
        output.warn(to, one.notes)
    if reply.dry_run:
        to.print("Nothing was stored. Without --dry-run it is.", style="dim")
    elif reply.series:
        one = reply.series[0]
        to.print(f"Next: ktrdr-mcp train {one.symbol} {one.timeframe}", style="dim")


VERSION_COLUMNS: Final = (
    output.Column("version", style="bold"),
    output.Column("made"),
    output.Column("bars", "right"),
    output.Column("first bar"),
    output.Column("last bar"),
    output.Column("why", optional=True),
)


@click.command("versions")
@click.argument("symbol")
@click.argument("timeframe")
@json_option
@click.pass_obj
def list_versions(workspace: Workspace, symbol: str, timeframe: str, as_json: bool) -> None:
    """Show where a series comes from, and its versions."""

    def show(to: Console, reply: responses.DatasetVersions) -> None:
        rows = {
            name: getattr(reply, name)
            for name in ("source", "client", "fetched_at", "adjustment", "timezone", "last_final")
        }
        output.heading(to, f"{reply.symbol} {reply.timeframe}")
        output.facts(to, rows)
        cells = [
            (one.version, one.created_at, one.bars, one.first_bar, one.last_bar, one.why)
            for one in reply.versions
        ]
        output.listing(to, VERSION_COLUMNS, cells)

    raw = {"symbol": symbol, "timeframe": timeframe}
    session.answer(workspace, "list_data_versions", raw, as_json, show)


@click.command("remove")
@click.argument("symbol")
@click.argument("timeframe")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def remove(workspace: Workspace, symbol: str, timeframe: str, yes: bool, as_json: bool) -> None:
    """Remove an imported or fetched series with all its versions.

    Trainings keep their figures; they cannot be reproduced without the bars.
    """
    if not (yes or as_json):
        click.confirm(f"Remove {symbol} {timeframe} with all its versions?", abort=True)

    def show(to: Console, reply: responses.SeriesRemoved) -> None:
        to.print(f"Removed {reply.symbol} {reply.timeframe} ({reply.versions} versions).")

    raw = {"symbol": symbol, "timeframe": timeframe}
    session.answer(workspace, "remove_data", raw, as_json, show)
