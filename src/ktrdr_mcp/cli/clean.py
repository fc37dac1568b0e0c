"""The command clean: removes results that nobody saved."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp import limits
from ktrdr_mcp.cli import output
from ktrdr_mcp.cli.session import json_option
from ktrdr_mcp.errors import WorkspaceLocked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ktrdr_mcp.lab.cleaning import Unsaved
    from ktrdr_mcp.paths import Workspace

LONGEST_DAYS: Final = 36_500
TASKS_SHOWN: Final = 100
POLL_S: Final = 0.05
GIVES_WAY_S: Final = 30.0  # by then, one that starts has said where it is, one that ends is gone
UNITS: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
COLUMNS: Final = (
    output.Column("task", style="bold"),
    output.Column("status", optional=True),
    output.Column("symbol"),
    output.Column("timeframe"),
    output.Column("size", "right", whole=True),
    output.Column("strategy", optional=True),
    output.Column("ended", optional=True),
)


@click.command()
@click.option(
    "--older-than-days",
    type=click.IntRange(0, LONGEST_DAYS),
    default=limits.KEPT_RESULT_DAYS,
    show_default=True,
    help="For how many days a task must have ended.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
@click.pass_obj
def clean(workspace: Workspace, older_than_days: int, dry_run: bool, as_json: bool) -> None:
    """Remove the results of old trainings that were never saved as a model.

    Tasks, their figures and saved models stay. A removed result can be had again only by training
    again. Needs the workspace to itself: a laboratory in the background is ended if it has no work.
    """
    found = cleaned(workspace, older_than_days, dry_run)
    size_bytes = sum(one.size_bytes for one in found)
    if as_json:
        ids = [one.task.task_id for one in found[:TASKS_SHOWN]]
        reply = {"success": True, "removed": len(found), "freed_bytes": size_bytes}
        output.print_json({**reply, "dry_run": dry_run, "tasks": ids})
    else:
        show(output.console(), found, summary(len(found), size_bytes, older_than_days, dry_run))


def cleaned(workspace: Workspace, older_than_days: int, dry_run: bool) -> Sequence[Unsaved]:
    """What was removed, or what would be. Raises WorkspaceLocked, StorageError."""
    import anyio

    from ktrdr_mcp.lab import cleaning
    from ktrdr_mcp.lab.ownership import ownership

    found = cleaning.removable(workspace, older_than_days)
    if dry_run or not found:  # no laboratory need end for nothing
        return found
    anyio.run(end_idle_lab, workspace)
    with ownership(workspace):
        return cleaning.clean(workspace, older_than_days)


async def end_idle_lab(workspace: Workspace) -> None:
    """Ends the laboratory in the background, unless it has work.

    Raises:
        WorkspaceLocked: it has, or the owner is of another kind, which only its user may end.
        LabUnavailable: it does not answer, or does not end.
    """
    import anyio

    from ktrdr_mcp.app import stop_lab
    from ktrdr_mcp.cli.lab import looked_at
    from ktrdr_mcp.lab.ownership import locked

    deadline = time.monotonic() + GIVES_WAY_S
    while (owner := await looked_at(workspace))["running"]:
        if owner["kind"] == "detached" and any(owner["tasks"].values()):
            raise at_work(owner)
        if owner["kind"] is not None:
            await stop_lab(workspace)
        elif time.monotonic() > deadline:
            raise locked(workspace)
        await anyio.sleep(POLL_S)


def at_work(owner: dict[str, Any]) -> WorkspaceLocked:
    """The refusal while tasks run or wait."""
    tasks = owner["tasks"]
    return WorkspaceLocked(
        f"The laboratory of this workspace (process {owner['pid']}) has work:"
        f" {tasks['training']} running and {tasks['pending']} waiting.",
        hint="Clean when 'ktrdr-mcp lab status' shows none. Or end it with 'ktrdr-mcp lab stop',"
        " then clean: its tasks are kept, and go on with the next command. --dry-run works now.",
    )


def summary(count: int, size_bytes: int, older_than_days: int, dry_run: bool) -> Text:
    """What was done, in one line."""
    if not count:
        age = f"older than {counted(older_than_days, 'day')}" if older_than_days else "there"
        return Text(f"Nothing to remove: no unsaved result is {age}.")
    results = counted(count, "result")
    if dry_run:
        return Text(f"Would remove {results} and free {size(size_bytes)}.", style="bold yellow")
    return Text(f"Removed {results}; {size(size_bytes)} freed.", style="bold green")


def show(to: Console, found: Sequence[Unsaved], sentence: Text) -> None:
    """The results, and below them what was done."""
    if found:
        output.listing(to, COLUMNS, [cells(one) for one in found[:TASKS_SHOWN]])
    if len(found) > TASKS_SHOWN:
        to.print(f"and {len(found) - TASKS_SHOWN:,} more", style="dim")
    to.print(sentence)


def cells(one: Unsaved) -> list[object]:
    """One result's values in the order of the columns."""
    task = one.task
    return [
        task.task_id,
        task.status,
        task.symbol,
        task.timeframe,
        size(one.size_bytes),
        task.strategy,
        task.completed_at,
    ]


def counted(count: int, word: str) -> str:
    """A number and what it counts."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes as a person reads them."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} bytes"
