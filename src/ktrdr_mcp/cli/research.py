"""Commands of the research: what was tried on a series, and what a network learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import output, session
from ktrdr_mcp.cli.session import complete_id, json_option, with_service

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas import responses
    from ktrdr_mcp.schemas.service import ServiceProtocol


PAGE_ROWS: Final = 20
DAY: Final = len("2025-01-31")
TRIAL_COLUMNS: Final = (
    output.Column("task", style="bold"),
    output.Column("trial", "right"),
    output.Column("series"),
    output.Column("strategy"),
    output.Column("verdict"),
    output.Column("created", optional=True),
    output.Column("note", optional=True),
    output.Column("differs", optional=True),
)
GROUP_COLUMNS: Final = (
    output.Column("indicator", style="bold"),
    output.Column("importance", "right"),
    output.Column("error", "right"),
    output.Column("p", "right"),
)
RULE_COLUMNS: Final = (
    output.Column("when", style="bold"),
    output.Column("leans to"),
    output.Column("fidelity", "right"),
    output.Column("of the rows", "right"),
)


@click.command()
@click.argument("symbol", required=False)
@click.argument("timeframe", required=False)
@click.option("--limit", type=int, default=PAGE_ROWS, show_default=True, help="Rows of the page.")
@click.option("--offset", type=int, default=0, help="Rows to skip.")
@json_option
@click.pass_obj
def research(workspace: Workspace, /, as_json: bool, offset: int, **given: Any) -> None:
    """Show what was tried, newest first, with verdicts and notes.

    Each verdict that is shown counts as a reading of its test results.
    """

    def show(to: Console, reply: responses.ResearchPage) -> None:
        if not reply.trials and not reply.notes:
            to.print("Nothing was tried yet. Begin with: ktrdr-mcp train AAPL 1h")
            return
        output.listing(to, TRIAL_COLUMNS, [trial_cells(one) for one in reply.trials])
        output.more(to, reply.has_more, reply.returned, offset)
        if reply.notes:
            to.print()
            output.facts(to, {f"noted {note_title(one)}": one.note for one in reply.notes})

    session.answer(workspace, "research_log", {**given, "offset": offset}, as_json, show)


def trial_cells(trial: responses.ResearchEntry) -> list[object]:
    """One trial's values in the order of the columns."""
    return [
        trial.task_id,
        trial.trial,
        f"{trial.symbol} {trial.timeframe}",
        trial.strategy,
        trial.verdict,
        trial.created_at[:DAY],
        trial.note,
        trial.differs,
    ]


def note_title(note: responses.ResearchNoteRow) -> str:
    """When a note was made, and on what."""
    about = note.task_id or f"{note.symbol} {note.timeframe}".strip()
    return f"{note.created_at[:DAY]}, {about}"


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def explain(workspace: Workspace, name: str, as_json: bool) -> None:
    """Show which indicators a network's foresight rests on, if on any.

    NAME is a saved model's, or the id of a completed task, of which the beginning will do. It reads
    test rows, so it counts as a reading.
    """
    from ktrdr_mcp.api.operations import EXPLAIN_MODEL

    async def work(service: ServiceProtocol) -> responses.Explanation:
        return await EXPLAIN_MODEL.answer(service, await model_or_task(service, name))

    output.answer(with_service(workspace, work, quiet=as_json), as_json, show_explanation)


async def model_or_task(service: ServiceProtocol, name: str) -> dict[str, str]:
    """The field of a request that a name belongs into. Raises InvalidRequest."""
    from ktrdr_mcp.api.operations import COMPLETE
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    asked = parse(requests.CompleteName, {"kind": "model_name", "prefix": name})
    if name in (await COMPLETE(service, asked)).names:
        return {"model_name": name}
    return {"task_id": await complete_id(service, name)}


def show_explanation(to: Console, reply: responses.Explanation) -> None:
    """What networks learned on a terminal."""
    to.print(Text(reply.summary, style="bold"))
    to.print()
    cells = [[one.group, one.importance, one.error, one.p] for one in reply.groups]
    output.listing(to, GROUP_COLUMNS, cells)
    if reply.rules:
        to.print()
        output.heading(to, "Rules", "that describe the folds' networks best, on their test rows")
        cells = [
            [one.when, one.leans, f"{one.fidelity:.0%}", f"{one.covers:.0%}"] for one in reply.rules
        ]
        output.listing(to, RULE_COLUMNS, cells)
    if reply.response is not None:
        to.print()
        show_response(to, reply.response)


def show_response(to: Console, grid: responses.ResponseGrid) -> None:
    """The mean of p(buy) - p(sell) over one or two groups: the first downwards."""
    first, second = grid.groups[0], grid.groups[1] if len(grid.groups) > 1 else None
    across = grid.values[1] if second else [None]
    over = f"{first} (down)" + (f" and {second} (across)" if second else "")
    output.heading(to, "p(buy) - p(sell)", f"on average, over {over}")
    columns = [
        output.Column(first, "right", style="bold"),
        *(output.Column("mean" if each is None else f"{each:g}", "right") for each in across),
    ]
    rows = [
        [f"{value:g}", *(f"{mean:+.3f}" for mean in line)]
        for value, line in zip(grid.values[0], grid.direction, strict=True)
    ]
    output.listing(to, columns, rows)
