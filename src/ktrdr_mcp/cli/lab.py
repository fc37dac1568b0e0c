"""The command lab: the laboratory in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ktrdr_mcp.cli import output
from ktrdr_mcp.cli.session import json_option

if TYPE_CHECKING:
    from ktrdr_mcp.lab.address import LabAddress
    from ktrdr_mcp.paths import Workspace

LOG_LINES: Final = 50
SHOWN: Final = ("pid", "kind", "url", "started_at", "version", "contract_version")


@click.group()
def lab() -> None:
    """Look at, or end, the laboratory that runs in the background.

    It starts by itself when a client or a command needs it.
    """


@lab.command()
@json_option
@click.pass_obj
def status(workspace: Workspace, as_json: bool) -> None:
    """Show whether it runs, and what it is doing."""
    import anyio

    reply = anyio.run(looked_at, workspace)
    if as_json:
        output.print_json(reply)
    elif not reply["running"]:
        output.console().print("No laboratory is running.")
    else:
        facts = {name: reply[name] for name in (*SHOWN, "tasks")}
        output.facts(output.console(), facts | {"pid": str(reply["pid"])})


async def looked_at(workspace: Workspace) -> dict[str, Any]:
    """What can be said of the laboratory; its token is left out. Raises KtrdrError."""
    from ktrdr_mcp.contract import parse, requests
    from ktrdr_mcp.lab import address
    from ktrdr_mcp.lab.ownership import is_owned
    from ktrdr_mcp.lab.remote import RemoteLab

    owned = is_owned(workspace)
    owner: LabAddress | None = address.read(workspace) if owned else None
    reply: dict[str, Any] = {"success": True, "running": owned}
    reply |= {name: getattr(owner, name, None) for name in SHOWN}
    tasks: dict[str, int] = {}
    if owner is not None:
        async with RemoteLab(lambda: owner) as remote:
            for state in ("training", "pending"):
                request = parse(requests.ListTasks, {"status": state, "limit": 1_000})
                tasks[state] = (await remote.list_training_tasks(request)).returned
    return reply | {"tasks": tasks}


@lab.command()
@json_option
@click.pass_obj
def stop(workspace: Workspace, as_json: bool) -> None:
    """End it. What it trains is stored, and goes on when it is started again."""
    import anyio

    from ktrdr_mcp.app import stop_lab

    stopped = anyio.run(stop_lab, workspace)
    if as_json:
        output.print_json({"success": True, "stopped": stopped.pid if stopped else None})
    else:
        text = f"Process {stopped.pid} has ended." if stopped else "No laboratory is running."
        output.console().print(text)


@lab.command()
@click.option(
    "--lines",
    type=click.IntRange(1, 10_000),
    default=LOG_LINES,
    show_default=True,
    help="How many of the last lines.",
)
@click.pass_obj
def logs(workspace: Workspace, lines: int) -> None:
    """Show the end of its log."""
    from ktrdr_mcp.app import launching

    to = output.console()
    if not launching.log_file(workspace).exists():
        to.print("There is no log: no laboratory has run in the background here.")
    for line in launching.log_lines(workspace, lines):
        to.print(output.printable(line))


@lab.command(hidden=True)
@click.pass_obj
def run(workspace: Workspace) -> None:
    """Run it in this process until nobody needs it."""
    import anyio

    from ktrdr_mcp.app import run_lab

    anyio.run(run_lab, workspace)
