"""The command that draws: report, as a file for a browser or as text for the terminal."""

from __future__ import annotations

import shutil
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console

from ktrdr_mcp import files
from ktrdr_mcp.cli import output
from ktrdr_mcp.cli.session import complete_ids, json_option, with_service
from ktrdr_mcp.errors import InvalidRequest

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.schemas.service import ServiceProtocol


MOST_COLUMNS: Final = 160  # of a drawing: beyond, it is too flat to read


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="TASK_ID...")
@click.option("--model", "is_model", is_flag=True, help="The name is a saved model's.")
@click.option("--start", "start_date", metavar="DATE", help="First day, with --model.")
@click.option("--end", "end_date", metavar="DATE", help="Last day, with --model.")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; by default the name with .html, in this folder.",
)
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
@click.option("--text", "as_text", is_flag=True, help="Draw in the terminal and write no file.")
@json_option
@click.pass_obj
def report(
    workspace: Workspace,
    /,
    names: tuple[str, ...],
    is_model: bool,
    path: Path | None,
    opens: bool,
    as_text: bool,
    as_json: bool,
    **dates: str | None,
) -> None:
    """Draw what a training came to, or several side by side, or a saved model.

    \b
    ktrdr-mcp report training_20250610_123456 --open
    ktrdr-mcp report TASK_ID OTHER_TASK_ID -o comparison.html
    ktrdr-mcp report my_model --model --start 2026-01-01

    The file needs no network and runs no script. A report shows test results, so making one counts
    as a reading of them.
    """
    given = {name: value for name, value in dates.items() if value is not None}
    check_usage(names, is_model=is_model, as_text=as_text, dated=bool(given))
    if as_text:
        draw_in_terminal(workspace, names[0])
        return
    html = with_service(workspace, lambda lab: fetch(lab, names, is_model, given), quiet=as_json)
    path = path or Path(f"{'-'.join(names)[:100]}.html")
    with files.storage_errors(f"writing {path.name}"):
        files.replace(path, html.encode())
    if opens:
        webbrowser.open(path.resolve().as_uri())
    if as_json:
        output.print_json({"success": True, "path": str(path)})
    else:
        output.facts(output.console(), {"written": str(path)})


@click.command("open")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@json_option
@click.pass_obj
def open_page(workspace: Workspace, no_browser: bool, as_json: bool) -> None:
    """Open the live page: what runs, queue, verdicts, models and series.

    The address lets one browser in, once, within 30 seconds; the page keeps its token for its tab.
    """

    async def work(service: ServiceProtocol) -> str:
        if not hasattr(service, "page_address"):
            raise InvalidRequest(
                "There is no server that a browser could reach.",
                hint="Leave --in-process out, or run 'ktrdr-mcp serve'.",
            )
        found: str = await service.page_address()
        return found

    address = with_service(workspace, work, quiet=as_json)
    if as_json:
        output.print_json({"success": True, "address": address})
    else:
        output.console().print(address, soft_wrap=True)
    if not no_browser:
        webbrowser.open(address)


def check_usage(names: tuple[str, ...], *, is_model: bool, as_text: bool, dated: bool) -> None:
    """Refuses options that do not go together. Raises click.UsageError."""
    if is_model and (len(names) > 1 or as_text):
        raise click.UsageError("--model takes one name, and draws a file.")
    if dated and not is_model:
        raise click.UsageError("--start and --end go with --model; a training has its own range.")
    if as_text and len(names) > 1:
        raise click.UsageError("--text draws one task.")


async def fetch(
    service: ServiceProtocol, names: tuple[str, ...], is_model: bool, dates: dict[str, Any]
) -> str:
    """The report's HTML. Raises KtrdrError."""
    from ktrdr_mcp.api.operations import OPERATIONS
    from ktrdr_mcp.schemas.parsing import parse

    raw: dict[str, Any]
    if is_model:
        name, raw = "model_report", {"model_name": names[0], **dates}
    elif len(names) > 1:
        name, raw = "comparison_report", {"task_ids": list(names)}
    else:
        name, raw = "training_report", {"task_id": names[0]}
    operation = OPERATIONS[name]
    request = await complete_ids(service, parse(operation.request, raw))
    reply: responses.Report = await operation(service, request)
    return reply.html


def draw_in_terminal(workspace: Workspace, name: str) -> None:
    """Loss and equity of a task as text."""
    from ktrdr_mcp.api.operations import TRAINING_HISTORY
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    async def work(service: ServiceProtocol) -> responses.TrainingHistory:
        request = parse(requests.TaskOnly, {"task_id": name})
        return await TRAINING_HISTORY(service, await complete_ids(service, request))

    draw_history(output.console(), with_service(workspace, work).history)


def draw_history(to: Console, history: dict[str, Any]) -> None:
    """The curves of a task's history, as wide as the terminal, and its verdict."""
    draw_curves(to, history)
    verdict = history.get("verdict")
    status = history["status"]
    said = verdict["reason"] if verdict else status["error"] or f"Status: {status['status']}."
    to.print(output.printable(said))


def width_of(to: Console) -> int:
    """The columns of the terminal; what is piped has none, and gets those that are usual."""
    columns = to.width if to.is_terminal else shutil.get_terminal_size().columns
    return min(columns, MOST_COLUMNS)


def draw_curves(to: Console, history: dict[str, Any]) -> None:
    """Loss by epoch, and equity where there is a result."""
    from ktrdr_mcp.report.terminal import chart

    epochs = history["epochs"]
    losses = {name: [each[f"{name}_loss"] for each in epochs] for name in ("train", "val")}
    result = history.get("performance") or {}
    equity = [each["equity"] for each in result.get("equity", [])]
    ends = (
        f"; at the end {losses['train'][-1]:.4g} in training, {losses['val'][-1]:.4g} in validation"
        if epochs
        else ""
    )
    grown = f", {equity[-1]:.3g} at the end" if equity else ""
    for title, lines in (
        (f"loss by epoch, nats{ends}", losses),
        (f"growth of one unit after costs, tested rows{grown}", {"equity": equity}),
    ):
        if drawing := chart(lines, width_of(to)):
            to.print(title, style="bold")
            to.print(drawing)
