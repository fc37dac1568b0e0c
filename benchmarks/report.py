"""Tables, targets and their text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """What one part measured.

    Args:
        title: what it shows.
        columns: their names, with units.
        rows: cells as they are printed.
        notes: what a reader must know to read the figures right.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [
            f"### {self.title}",
            "",
            *rows_of([self.columns]),
            "|---" * len(self.columns) + "|",
        ]
        lines += rows_of(self.rows)
        for note in self.notes:
            lines += ["", note]
        return "\n".join([*lines, ""])


@dataclass(frozen=True)
class Target:
    """A figure that was to be reached."""

    what: str
    figure: str
    bound: str
    reached: bool


@dataclass(frozen=True)
class Report:
    """The outcome of one part."""

    tables: Sequence[Table]
    targets: Sequence[Target] = field(default_factory=tuple)


def rows_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines."""
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def skipped(title: str, why: str) -> Report:
    """A part that this machine cannot run, and why."""
    return Report([Table(title, ["skipped"], [[why]])])


def targets_table(targets: Sequence[Target]) -> Table:
    """All targets beside what was measured."""
    rows = [
        [target.what, target.bound, target.figure, "yes" if target.reached else "no"]
        for target in targets
    ]
    return Table("Targets", ["what", "target", "measured", "reached"], rows)


def at_least(what: str, figure: float, bound: float, unit: str = " x") -> Target:
    """A target that is reached from below."""
    return Target(what, f"{figure:.3g}{unit}", f"at least {bound:g}{unit}", figure >= bound)


def under(what: str, figure: float, bound: float, unit: str) -> Target:
    """A target that is reached from above."""
    return Target(what, f"{figure:.3g}{unit}", f"under {bound:.3g}{unit}", figure < bound)
