"""Commands of maintenance: doctor, clean, lab."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp import limits
from ktrdr_mcp.cli import output, session
from ktrdr_mcp.cli.session import json_option
from ktrdr_mcp.errors import WorkspaceLocked
from ktrdr_mcp.ownership import trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ktrdr_mcp.ownership.address import DaemonAddress
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.service.cleaning import Unsaved
    from ktrdr_mcp.service.diagnosis import Finding


STYLES: Final = {"ok": "green", "note": "yellow", "wrong": "bold red"}
NAME_CHARACTERS: Final = 11
STATE_CHARACTERS: Final = 6


@click.command()
@click.option("--verify", is_flag=True, help="Check every hash and every row too.")
@click.option("--rebuild", is_flag=True, help="Rebuild the registry from the bundles first.")
@click.option("--adopt", is_flag=True, help="Say that the workspace is yours, before all else.")
@click.option("--mcp", is_flag=True, help="Start the server as a client of MCP would, too.")
@json_option
@click.pass_context
def doctor(
    context: click.Context, verify: bool, rebuild: bool, adopt: bool, mcp: bool, as_json: bool
) -> None:
    """Look for what is wrong, and say how to mend it.

    Looks at Python, torch, SQLite, the workspace, its owner, its database, free disk space, bars
    and strategies. Changes nothing, unless --rebuild is given, which needs the workspace to itself
    and sets a damaged database aside, or --adopt: a workspace that was copied from elsewhere or
    that an older version made is only read until its user says so. Exit code 4 if something is
    wrong.
    """
    workspace: Workspace = context.obj
    to, findings = output.console(), []
    if adopt:
        trust.adopt(workspace)
    for finding in examine_all(workspace, verify or rebuild, rebuild, mcp):
        findings.append(finding)
        if not as_json:
            show_finding(to, finding)
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        output.print_json({"success": True, "healthy": not wrong, "checks": checks})
    else:
        to.print(verdict(wrong))
    context.exit(session.REFUSED if wrong else session.DONE)


def examine_all(workspace: Workspace, verify: bool, rebuild: bool, mcp: bool) -> Iterator[Finding]:
    """Yields every finding, in the order of its cost."""
    from ktrdr_mcp.service.diagnosis import diagnose

    if rebuild:
        yield from rebuild_registry(workspace)
    said: set[Finding] = set()
    for finding in diagnose(workspace):
        said.add(finding)
        yield finding
    if verify:
        from ktrdr_mcp.service.reconciliation import verify as find_all

        yield from (finding for finding in find_all(workspace) if finding not in said)
    if mcp:
        from ktrdr_mcp.cli.host import examine

        yield from examine(workspace)


def rebuild_registry(workspace: Workspace) -> Iterator[Finding]:
    """Rebuilds the registry and yields what was done.

    Raises:
        WorkspaceLocked: another process owns the workspace.
    """
    import anyio

    from ktrdr_mcp.ownership.lock import ownership
    from ktrdr_mcp.service import reconciliation
    from ktrdr_mcp.service.diagnosis import Finding

    with ownership(workspace):
        done = anyio.run(reconciliation.rebuild, workspace)
    moved = ", ".join(done.quarantined)
    aside = f"; in quarantine: {moved}" if moved else ""
    remembered = f", {done.remembered} looks and notes" if done.remembered else ""
    registered = (
        f"{done.models} models registered, {done.tasks} lost tasks taken in{remembered}{aside}"
    )
    yield Finding("rebuilt", "ok", registered)
    yield from done.left_out


def show_finding(to: Console, finding: Finding) -> None:
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


LOG_LINES: Final = 50
SHOWN: Final = ("pid", "kind", "url", "started_at", "version", "contract_version")


@click.group()
def lab() -> None:
    """Look at, or stop, the server that runs in the background.

    It starts by itself when a client or a command needs it.
    """


@lab.command()
@json_option
@click.pass_obj
def status(workspace: Workspace, as_json: bool) -> None:
    """Show whether it runs, and what it is doing."""
    import anyio

    reply = anyio.run(describe_daemon, workspace)
    if as_json:
        output.print_json(reply)
    elif not reply["running"]:
        output.console().print("No server is running.")
    else:
        facts = {name: reply[name] for name in (*SHOWN, "tasks")}
        output.facts(output.console(), facts | {"pid": str(reply["pid"])})
        show_workers(output.console(), reply["workers"])


async def describe_daemon(workspace: Workspace) -> dict[str, Any]:
    """What can be said of the daemon; its token is left out. Raises KtrdrError."""
    from ktrdr_mcp.api.client import ServiceClient
    from ktrdr_mcp.daemon.connection import announced_owner
    from ktrdr_mcp.ownership.lock import is_owned
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    owned = is_owned(workspace)
    owner: DaemonAddress | None = announced_owner(workspace)
    reply: dict[str, Any] = {"success": True, "running": owned}
    reply |= {name: getattr(owner, name, None) for name in SHOWN}
    tasks: dict[str, int] = {}
    workers: list[dict[str, Any]] = []
    if owner is not None:
        async with ServiceClient(lambda: owner) as remote:
            for state in ("training", "pending"):
                request = parse(requests.ListTasks, {"status": state, "limit": 1_000})
                tasks[state] = (await remote.list_training_tasks(request)).returned
            workers = [each.model_dump() for each in await remote.workers()]
    return reply | {"tasks": tasks, "workers": workers}


def show_workers(to: Console, workers: Sequence[dict[str, Any]]) -> None:
    """A line for each process that computes."""
    if workers:
        rows = [
            [
                str(each["pid"]),
                each["node"] or "here",
                each["task"] or "idle",
                size(each["memory_bytes"]),
                each["since"],
            ]
            for each in workers
        ]
        output.listing(to, WORKER_COLUMNS, rows)


@lab.command()
@json_option
@click.pass_obj
def stop(workspace: Workspace, as_json: bool) -> None:
    """Stop it. What it trains is stored, and goes on when it is started again."""
    import anyio

    from ktrdr_mcp.daemon.connection import stop_daemon

    stopped = anyio.run(stop_daemon, workspace)
    if as_json:
        output.print_json({"success": True, "stopped": stopped.pid if stopped else None})
    else:
        text = f"Process {stopped.pid} has ended." if stopped else "No server is running."
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
    from ktrdr_mcp.daemon import log

    to = output.console()
    if not log.log_file(workspace).exists():
        to.print("There is no log: no server has run in the background here.")
    for line in log.log_lines(workspace, lines):
        to.print(output.printable(line))


@lab.command(hidden=True)
@click.pass_obj
def run(workspace: Workspace) -> None:
    """Run it in this process until nobody needs it."""
    import anyio

    from ktrdr_mcp.daemon.process import run_daemon

    anyio.run(run_daemon, workspace)


LONGEST_DAYS: Final = 36_500
TASKS_SHOWN: Final = 100
POLL_INTERVAL_S: Final = 0.05
GIVES_WAY_TIMEOUT_S: Final = (
    30.0  # by then, one that starts has said where it is, one that ends is gone
)
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
WORKER_COLUMNS: Final = (
    output.Column("worker", justify="right"),
    output.Column("node", optional=True),
    output.Column("task"),
    output.Column("memory", justify="right"),
    output.Column("since"),
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
    again. Needs the workspace to itself: a server in the background is stopped if it has no work.
    """
    found = remove_unsaved(workspace, older_than_days, dry_run)
    size_bytes = sum(one.size_bytes for one in found)
    if as_json:
        ids = [one.task.task_id for one in found[:TASKS_SHOWN]]
        reply = {"success": True, "removed": len(found), "freed_bytes": size_bytes}
        output.print_json({**reply, "dry_run": dry_run, "tasks": ids})
    else:
        show_unsaved(
            output.console(), found, summary(len(found), size_bytes, older_than_days, dry_run)
        )


def remove_unsaved(workspace: Workspace, older_than_days: int, dry_run: bool) -> Sequence[Unsaved]:
    """Removes unsaved results, unless it is a dry run; returns which.

    Raises:
        WorkspaceLocked: the daemon has work, or another process owns the workspace.
        StorageError: the disk failed.
    """
    import anyio

    from ktrdr_mcp.ownership.lock import ownership
    from ktrdr_mcp.service import cleaning

    found = cleaning.removable(workspace, older_than_days)
    if dry_run or not found:  # no daemon need stop for nothing
        return found
    anyio.run(stop_idle_daemon, workspace)
    with ownership(workspace):
        return cleaning.clean(workspace, older_than_days)


async def stop_idle_daemon(workspace: Workspace) -> None:
    """Stops the daemon, unless it has work.

    Raises:
        WorkspaceLocked: it has, or the owner is of another kind, which only its user may end.
        LabUnavailable: it does not answer, or does not end.
    """
    import anyio

    from ktrdr_mcp.daemon.connection import stop_daemon
    from ktrdr_mcp.ownership.lock import workspace_locked

    deadline = time.monotonic() + GIVES_WAY_TIMEOUT_S
    while (owner := await describe_daemon(workspace))["running"]:
        if owner["kind"] == "detached" and any(owner["tasks"].values()):
            raise daemon_has_work(owner)
        if owner["kind"] is not None:
            await stop_daemon(workspace)
        elif time.monotonic() > deadline:
            raise workspace_locked(workspace)
        await anyio.sleep(POLL_INTERVAL_S)


def daemon_has_work(owner: dict[str, Any]) -> WorkspaceLocked:
    """The refusal while tasks run or wait."""
    tasks = owner["tasks"]
    return WorkspaceLocked(
        f"The server of this workspace (process {owner['pid']}) has work:"
        f" {tasks['training']} running and {tasks['pending']} waiting.",
        hint="Clean when 'ktrdr-mcp lab status' shows none. Or stop it with 'ktrdr-mcp lab stop',"
        " then clean: its tasks are kept, and go on with the next command. --dry-run works now.",
    )


def summary(count: int, size_bytes: int, older_than_days: int, dry_run: bool) -> Text:
    """What was done, in one line."""
    if not count:
        age = f"older than {pluralize(older_than_days, 'day')}" if older_than_days else "there"
        return Text(f"Nothing to remove: no unsaved result is {age}.")
    results = pluralize(count, "result")
    if dry_run:
        return Text(f"Would remove {results} and free {size(size_bytes)}.", style="bold yellow")
    return Text(f"Removed {results}; {size(size_bytes)} freed.", style="bold green")


def show_unsaved(to: Console, found: Sequence[Unsaved], sentence: Text) -> None:
    """The results, and below them what was done."""
    if found:
        output.listing(to, COLUMNS, [unsaved_cells(one) for one in found[:TASKS_SHOWN]])
    if len(found) > TASKS_SHOWN:
        to.print(f"and {len(found) - TASKS_SHOWN:,} more", style="dim")
    to.print(sentence)


def unsaved_cells(one: Unsaved) -> list[object]:
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


def pluralize(count: int, word: str) -> str:
    """A number and what it counts."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes as a person reads them."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} bytes"
