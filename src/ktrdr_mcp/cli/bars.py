"""Commands that bring bars in and keep them: data import, fetch, update, versions, remove."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import output, session
from ktrdr_mcp.cli.session import json_option
from ktrdr_mcp.errors import KtrdrError

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


FETCH_WAIT_S: Final = 20.0


@click.command("fetch")
@click.argument("symbol")
@click.argument("timeframe")
@click.option("--from", "source", required=True, help="ccxt:EXCHANGE, alpaca or yfinance.")
@click.option("--since", help="First day, or a year; else as before, or 2000.")
@click.option("--dry-run", is_flag=True, help="Only fetch a first page and show it.")
@json_option
@click.pass_obj
def fetch(workspace: Workspace, /, as_json: bool, dry_run: bool, **given: Any) -> None:
    """Fetch bars from a source; of a series that is there, only what is new.

    Keys come from the environment alone. Ctrl-C ends the waiting, not the fetch.
    """
    if dry_run:
        from ktrdr_mcp.schemas import requests
        from ktrdr_mcp.schemas.parsing import parse
        from ktrdr_mcp.service.fetching import try_out

        said = {name: value for name, value in given.items() if value is not None}
        output.answer(try_out(workspace, parse(requests.FetchData, said)), as_json, show_reply)
        return
    from ktrdr_mcp.schemas import responses

    reply = responses.FetchReply(fetch=wait_for_fetch(workspace, given, as_json))
    output.answer(reply, as_json, show_reply)


def show_reply(to: Console, reply: responses.FetchReply) -> None:
    """What a fetch came to."""
    show_fetch(to, reply.fetch)


def wait_for_fetch(
    workspace: Workspace, raw: Mapping[str, Any], quiet: bool
) -> responses.FetchStatus:
    """A fetch once it has ended. Raises KtrdrError, that of the fetch too."""
    from ktrdr_mcp.errors import FeedFailed
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    given = {name: value for name, value in raw.items() if value is not None}
    request = parse(requests.FetchData, given)

    async def work(service: Any) -> responses.FetchStatus:
        while True:
            reply: responses.FetchStatus = (await service.fetch_market_data(request)).fetch
            if reply.status not in {"pending", "fetching"}:
                return reply
            waiting = requests.GetTrainingStatus(task_id=reply.task_id, wait_s=FETCH_WAIT_S)
            await service.get_training_status(waiting)
            if not quiet:
                note = f", {reply.notes[0]}" if reply.notes else ""
                text = f"{reply.symbol} {reply.timeframe}: {reply.bars:,} bars, {reply.progress} %"
                click.echo(f"{text}{note}", err=True)

    reply = session.with_service(workspace, work, quiet=quiet)
    if reply.status != "completed":
        raise FeedFailed(
            f"The fetch of {reply.symbol} {reply.timeframe} is {reply.status}."
            f" {reply.error or ''}".strip(),
            hint="The same command takes it up again.",
        )
    return reply


def show_fetch(to: Console, reply: responses.FetchStatus) -> None:
    """What a fetch came to."""
    to.print(Text.assemble(("Fetched", "bold green"), f"  {reply.symbol} {reply.timeframe}"))
    names = ("source", "bars", "new", "revised", "first_bar", "last_bar", "adjustment", "dataset")
    output.facts(to, {**{name: getattr(reply, name) for name in names}, "what": reply.what})
    output.warn(to, reply.notes)


@click.command("update")
@click.argument("symbol", required=False)
@click.argument("timeframe", required=False)
@click.option("--all", "every", is_flag=True, help="Everything that has a source.")
@json_option
@click.pass_obj
def update(
    workspace: Workspace, symbol: str | None, timeframe: str | None, every: bool, as_json: bool
) -> None:
    """Fetch the new bars of a series, or of every one with --all."""
    if every == (symbol is not None):
        raise click.UsageError("Name a series, or use --all.")
    replies, errors = [], []
    for one in with_source(workspace, symbol, timeframe):
        raw = {"source": one.source, "symbol": one.symbol, "timeframe": one.timeframe}
        try:
            replies.append(wait_for_fetch(workspace, raw, as_json))
        except KtrdrError as error:
            errors.append(f"{one.symbol} {one.timeframe}: {error.message} {error.hint}")
    shown = {
        "success": not errors,
        "updated": [one.model_dump(mode="json") for one in replies],
        "failed": errors,
    }

    def show(to: Console, reply: Any) -> None:
        for one in replies:
            show_fetch(to, one)
        output.warn(to, errors)
        if not replies and not errors:
            to.print("No series has a source; fetch one first.")

    output.answer(shown, as_json, show)
    if errors:
        raise SystemExit(session.REFUSED)


def with_source(
    workspace: Workspace, symbol: str | None, timeframe: str | None
) -> list[responses.DatasetVersions]:
    """The series that were fetched: all, or those of a symbol and timeframe. Raises NotFound."""
    from ktrdr_mcp.errors import DataNotFound
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.service.importing import IMPORT, list_stored

    found = [one for one in list_stored(workspace).series if one.source != IMPORT]
    if symbol is None:
        return found
    parsed = requests.StoredSeries(symbol=symbol, timeframe=timeframe or "1d")
    chosen = [
        one for one in found if one.symbol == parsed.symbol and timeframe in {None, one.timeframe}
    ]
    if not chosen:
        raise DataNotFound(
            f"{symbol} {timeframe or ''} was not fetched, so it has no source.".replace("  ", " "),
            hint="Fetch it with `ktrdr-mcp data fetch`, or import its file again.",
        )
    return chosen
