"""Commands of strategy files: strategies (list, check, show). They need no laboratory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr_mcp.cli import output
from ktrdr_mcp.cli.session import WithDefault, json_option
from ktrdr_mcp.errors import KtrdrError

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.strategy import Strategy, StrategyLibrary

STRATEGY_COLUMNS: Final = (
    output.Column("strategy", style="bold", whole=True),
    output.Column("indicators"),
    output.Column("description"),
)


@click.group(cls=WithDefault)
def strategies() -> None:
    """Strategy files: list (the default), check a file, show one."""


@strategies.command("list")
@json_option
@click.pass_obj
def list_strategies(workspace: Workspace, as_json: bool) -> None:
    """List the strategies that there are, with what is wrong with them."""
    from ktrdr_mcp.strategy import StrategyLibrary

    library = StrategyLibrary(workspace)
    rows = [described(library, name) for name in library.names()]
    output.answer({"success": True, "strategies": rows, "returned": len(rows)}, as_json, show_list)


def described(library: StrategyLibrary, name: str) -> dict[str, Any]:
    """One strategy of a list; a malformed one is listed with its defect."""
    try:
        return {"name": name, **summary(library.read(name)), "defects": None}
    except KtrdrError as error:
        return {"name": name, "description": "", "indicators": [], "defects": error.message}


def summary(strategy: Strategy) -> dict[str, Any]:
    """What a strategy says, in short."""
    return {
        "description": strategy.description,
        "indicators": [each.name for each in strategy.indicators],
    }


def show_list(to: Console, reply: Mapping[str, Any]) -> None:
    """The strategies on a terminal."""
    rows = reply["strategies"]
    cells = [(one["name"], one["indicators"], one["defects"] or one["description"]) for one in rows]
    output.listing(to, STRATEGY_COLUMNS, cells)


@strategies.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a strategy file as a training would, wherever it lies."""
    from ktrdr_mcp.features.remarks import remarks, without_effect
    from ktrdr_mcp.lab.file_checks import check_strategy_file

    strategy = check_strategy_file(file)
    reply = {
        "success": True,
        "name": strategy.name,
        **summary(strategy),
        "training": dict(strategy.training),
        "ignored": without_effect(strategy),
        "warnings": remarks(strategy),
    }

    def show(to: Console, reply: Mapping[str, Any]) -> None:
        to.print(Text.assemble(("Sound", "bold green"), f"  {reply['name']}"))
        output.facts(to, {name: reply[name] for name in ("description", "indicators", "training")})
        ignored = [f"{place} has no effect here." for place in reply["ignored"]]
        output.warn(to, [*ignored, *reply["warnings"]])

    output.answer(reply, as_json, show)


@strategies.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(workspace: Workspace, name: str, as_json: bool) -> None:
    """Show a strategy file as it stands."""
    from ktrdr_mcp.strategy import StrategyLibrary

    text = StrategyLibrary(workspace).text(name)
    if as_json:
        output.print_json({"success": True, "name": name, "text": text})
    else:
        click.echo("\n".join(map(output.printable, text.splitlines())))
