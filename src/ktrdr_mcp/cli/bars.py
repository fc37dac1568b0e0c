"""Commands that bring bars in: data import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
            },
        )
        output.warn(to, one.notes)
    if reply.dry_run:
        to.print("Nothing was stored. Without --dry-run it is.", style="dim")
    elif reply.series:
        one = reply.series[0]
        to.print(f"Next: ktrdr-mcp train {one.symbol} {one.timeframe}", style="dim")
