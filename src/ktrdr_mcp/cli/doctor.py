"""The command doctor: what is wrong with machine and workspace, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import endings, output
from ktrdr_mcp.cli.session import json_option

if TYPE_CHECKING:
    from ktrdr_mcp.lab.diagnosis import Finding
    from ktrdr_mcp.paths import Workspace

STYLES: Final = {"ok": "green", "note": "yellow", "wrong": "bold red"}
NAME_CHARACTERS: Final = 11
STATE_CHARACTERS: Final = 6


@click.command()
@click.option("--verify", is_flag=True, help="Check every hash and every row too.")
@click.option("--rebuild", is_flag=True, help="Rebuild the registry from the bundles first.")
@json_option
@click.pass_context
def doctor(context: click.Context, verify: bool, rebuild: bool, as_json: bool) -> None:
    """Look for what is wrong, and say how to mend it.

    Looks at Python, torch, SQLite, the workspace, its owner, its database, free disk space, bars
    and strategies. Changes nothing, unless --rebuild is given, which needs the workspace to itself
    and sets a damaged database aside. Exit code 4 if something is wrong.
    """
    workspace: Workspace = context.obj
    to, findings = output.console(), []
    for finding in examined(workspace, verify or rebuild, rebuild):
        findings.append(finding)
        if not as_json:
            show(to, finding)
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        output.print_json({"success": True, "healthy": not wrong, "checks": checks})
    else:
        to.print(verdict(wrong))
    context.exit(endings.REFUSED if wrong else endings.DONE)


def examined(workspace: Workspace, verify: bool, rebuild: bool) -> Iterator[Finding]:
    """Everything that was asked for, in the order of its cost."""
    from ktrdr_mcp.lab.diagnosis import diagnose

    if rebuild:
        yield from rebuilt(workspace)
    yield from diagnose(workspace)
    if verify:
        from ktrdr_mcp.lab import verification

        yield from verification.verify(workspace)


def rebuilt(workspace: Workspace) -> Iterator[Finding]:
    """What rebuilding did. Raises WorkspaceLocked while another process owns the workspace."""
    import anyio

    from ktrdr_mcp.lab import rebuilding
    from ktrdr_mcp.lab.diagnosis import Finding
    from ktrdr_mcp.lab.ownership import ownership

    with ownership(workspace):
        done = anyio.run(rebuilding.rebuild, workspace)
    aside = f"; set aside: {', '.join(done.set_aside)}" if done.set_aside else ""
    registered = f"{done.models} models registered, {done.tasks} lost tasks taken in{aside}"
    yield Finding("rebuilt", "ok", registered)
    yield from done.left_out


def show(to: Console, finding: Finding) -> None:
    """One finding, and below it how to mend it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    table.add_column(width=STATE_CHARACTERS, style=STYLES[finding.state])
    table.add_column(width=NAME_CHARACTERS, style="bold")
    table.add_column(overflow="fold")
    table.add_row(finding.state, finding.name, output.printable(finding.text))
    if finding.remedy:
        table.add_row("", "", Text(output.printable(finding.remedy), style="dim"))
    to.print(table)


def verdict(wrong: int) -> Text:
    """The last line."""
    if wrong:
        return Text(f"\n{wrong} to mend.", style="bold red")
    return Text("\nNothing is wrong.", style="bold green")
