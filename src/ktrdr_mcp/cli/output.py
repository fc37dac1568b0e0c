"""What the command line prints: tables for people, JSON for programs, errors for both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ktrdr_mcp import errors
from ktrdr_mcp.errors import KtrdrError

if TYPE_CHECKING:
    from pydantic import BaseModel


PIPED_WIDTH_CHARACTERS: Final = 10_000  # a file has no width to fold lines at
GAP_CHARACTERS: Final = 2
INTERRUPTED: Final = "interrupted"
TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?Z")
SMALLEST_PLAIN: Final = 0.001  # nearer to zero, four decimals would hide the number
LARGEST_PLAIN: Final = 1e6
# Hints are written for agents; people read the command that does the same.
WAITING: Final = re.compile(r"get_training_status with task_id (\S+) and wait_s=50")
Answer = TypeVar("Answer", bound="BaseModel | Mapping[str, Any]")


class PipeConsole(Console):
    """A console that lets the program decide what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        """Called inside the except clause of the failed write."""
        raise  # rich handles a BrokenPipeError while it calls this


@dataclass(frozen=True)
class Column:
    """One column of a listing; optional ones give way, the last first, on a narrow terminal."""

    title: str
    justify: Literal["left", "right"] = "left"
    optional: bool = False
    style: str = ""
    whole: bool = False  # never broken over lines


def console(*, stderr: bool = False) -> Console:
    """Where to print; what a caller wrote is never read as markup.

    Args:
        stderr: the error stream instead of standard output.
    """
    made = PipeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH_CHARACTERS
    return made


def answer(reply: Answer, as_json: bool, show: Callable[[Console, Answer], None]) -> None:
    """Prints a reply, as JSON or as `show` does it."""
    if as_json:
        print_json(reply)
    else:
        show(console(), reply)


def print_json(reply: BaseModel | Mapping[str, Any]) -> None:
    """A reply as JSON on standard output; ASCII, so that any terminal can show it."""
    plain = dict(reply) if isinstance(reply, Mapping) else reply.model_dump(mode="json")
    click.echo(json.dumps(plain, indent=2, allow_nan=False))


def print_error(error: KtrdrError, as_json: bool) -> None:
    """An error: its one shape on standard output, or its sentences on the error stream."""
    if as_json:
        print_json(error.to_dict())
        return
    label = ("Stopped: ", "bold yellow") if error.code == INTERRUPTED else ("Error: ", "bold red")
    text = Text.assemble(label, printable(error.message))
    for more in (use_command_names(error.hint), *getattr(error, "__notes__", ())):
        if more:
            text.append(f"\n{printable(more)}", style="dim")
    console(stderr=True).print(text)


def use_command_names(hint: str) -> str:
    """A hint with the commands of this command line in place of the tools' names."""
    from ktrdr_mcp.api.operations import OPERATIONS

    hint = WAITING.sub(r"`ktrdr-mcp status \1 --wait 50`", hint)
    for operation in OPERATIONS.values():
        if operation.command is not None:
            hint = hint.replace(operation.name, f"`ktrdr-mcp {operation.command}`")
    return hint


def printable(text: str) -> str:
    """Text without what could steer a terminal: control and invisible characters are escaped."""
    return errors.printable(text, keep="\n")


def readable(value: object) -> str:
    """A value as a person reads it: four decimals, plain times, no braces."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        plain = value == 0 or SMALLEST_PLAIN <= abs(value) < LARGEST_PLAIN
        return f"{value:.4f}" if plain else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {readable(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(readable, value))
    return format_times(printable(str(value)))


def percent(fraction: float | None) -> str:
    """A return, with its sign."""
    return "-" if fraction is None else f"{fraction:+,.1%}"


def basis_points(value: float | None) -> str:
    """A cost."""
    return "-" if value is None else f"{value:.1f} basis points"


def format_with_error(value: float | None, error: float | None) -> str:
    """A figure and how far it may be off."""
    if value is None:
        return "-"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def format_times(text: str) -> str:
    """Times of day as people write them; UTC, like every time here."""
    return TIMESTAMP.sub(lambda found: f"{found[1]} {found[2]}{seconds(found[3])}", text)


def seconds(text: str | None) -> str:
    """Seconds, unless they are zero."""
    return "" if text in {None, ":00"} else str(text)


def heading(to: Console, title: str, sentence: str = "") -> None:
    """A line that begins a section."""
    to.print(Text.assemble((title, "bold cyan"), f"  {printable(sentence)}" if sentence else ""))


def facts(to: Console, rows: Mapping[str, object]) -> None:
    """Names and values in two columns."""
    table = Table.grid(padding=(0, GAP_CHARACTERS))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(f"  {name.replace('_', ' ')}", readable(value))
    to.print(table)


def listing(to: Console, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
    """Rows under titles, without the optional columns that the terminal has no room for.

    Args:
        to: where to print.
        columns: what each value of a row is.
        rows: the values, one for each column.
    """
    cells = [[readable(value) for value in row] for row in rows]
    kept = choose_columns(columns, cells, to.width)
    table = Table(box=None, padding=(0, GAP_CHARACTERS, 0, 0), header_style="bold", pad_edge=False)
    for place in kept:
        one = columns[place]
        table.add_column(
            one.title, justify=one.justify, style=one.style, overflow="fold", no_wrap=one.whole
        )
    for row in cells:
        table.add_row(*(row[place] for place in kept))
    to.print(table)


def choose_columns(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int
) -> list[int]:
    """The places of the columns that fit into a width in characters, if any choice does."""
    widths = [
        max(cell_len(each) for each in (column.title, *(row[place] for row in cells)))
        for place, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    for place in reversed(kept.copy()):
        if sum(widths[each] + GAP_CHARACTERS for each in kept) - GAP_CHARACTERS <= width:
            break
        if columns[place].optional:
            kept.remove(place)
    return kept


def warn(to: Console, sentences: Sequence[str]) -> None:
    """Things to know, below each other."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="yellow", no_wrap=True)
    table.add_column(overflow="fold")
    for sentence in sentences:
        table.add_row("  Note:", printable(sentence))
    if sentences:
        to.print(table)


def more(to: Console, has_more: bool, returned: int, offset: int) -> None:
    """How to see the rest of a page."""
    if has_more:
        to.print(f"There are more: --offset {offset + returned}", style="dim")
