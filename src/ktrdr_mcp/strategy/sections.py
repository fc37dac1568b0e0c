"""Reading the sections of a strategy file, with everything that is wrong in one report.

Before this program's own form is checked, every dialect of another program reads the file. It takes
out what its program ignores and rewrites what this program says in another way; all that it does is
reported. To add one, implement `StrategyDialect` in a module of `interop` and name it in DIALECTS.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol

from ktrdr_mcp.errors import InvalidStrategy, did_you_mean, quote
from ktrdr_mcp.strategy.form import LARGEST_NUMBER

Values = dict[str, Any]  # plain values by name, as YAML has them, unchecked

WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
DIALECTS: Final = ("ktrdr_mcp.interop.ktrdr.strategies",)  # modules with DIALECT
LEFT_OUT: Final = object()  # in the place of an indicator that a dialect passes over


def join_place(*parts: str | int) -> str:
    """The dotted place of a nested value."""
    return ".".join(str(part) for part in parts if part != "")


def wrong(place: str, problem: str, hint: str) -> InvalidStrategy:
    """The error for one place of the file."""
    return InvalidStrategy(f"{place or 'the file'} {problem}.", hint=hint, field=place or None)


@dataclass
class Report:
    """What is found while a strategy is read, all of it.

    Args:
        problems: why it cannot be used, each with its place and remedy.
        ignored: dotted places that were read and have no effect.
        notes: sentences on what it means here and elsewhere.
    """

    problems: list[InvalidStrategy] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keeps a problem that is raised, so that what follows is read too."""
        try:
            yield
        except InvalidStrategy as error:
            self.problems += error.problems or (error,)


class Section:
    """A mapping at a dotted place. What is wrong in it is reported, and the default returned.

    Args:
        values: what stands there; None is an empty mapping.
        place: where, for messages.
        report: collects problems, and the places of keys that are read and have no effect.
    """

    def __init__(self, values: object, place: str, report: Report) -> None:
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            report.problems.append(
                wrong(place, f"is {quote(values)}, not a mapping", "Write it as key: value lines.")
            )
            values = {}
        self.place = place
        self.report = report
        self.left = dict(values)
        self.known: list[str] = []

    def at(self, key: str) -> str:
        """The dotted place of a key."""
        return join_place(self.place, key)

    def has(self, key: str) -> bool:
        """Whether a known key stands there and has not been taken."""
        self.known.append(key)
        return key in self.left

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a known key, whatever it is."""
        self.known.append(key)
        return self.left.pop(key, default)

    def section(self, key: str) -> Section:
        """The mapping under a key; empty if the key is absent."""
        return Section(self.take(key), self.at(key), self.report)

    def text(self, key: str, default: str = "") -> str:
        """The text under a key."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.wrong(key, f"is {quote(value)}, not text", "Put quotes around it.")
            return default
        return value

    def flag(self, key: str, default: bool) -> bool:
        """The boolean under a key."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            self.wrong(key, f"is {quote(value)}", "Write true or false.")
            return default
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        """The number under a key, within bounds; None if it is absent or wrong."""
        if not self.has(key):
            return None
        with self.report.collecting():
            value = number(self.take(key), self.at(key))
            if low <= value <= high:
                return value
            self.wrong(key, f"is {value:g}", f"Write a number from {low:g} to {high:g}.")
        return None

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value in choices:
            return value
        self.report.problems.append(
            InvalidStrategy(
                f"{self.at(key)} is {quote(value)}, which is not known."
                f"{did_you_mean(value, choices)}",
                hint=f"Use one of {', '.join(choices)}.",
                field=self.at(key),
            )
        )
        return default

    def wrong(self, key: str, problem: str, hint: str) -> None:
        """Reports what is wrong with the value under a key."""
        self.report.problems.append(wrong(self.at(key), problem, hint))

    def rest(self) -> Values:
        """Everything that has not been taken."""
        left, self.left = self.left, {}
        return left

    def only(self, *known: str) -> None:
        """Reports other keys, each with the nearest known one, and takes them out."""
        self.known += known
        for key in [key for key in self.left if key not in known]:
            self.report.problems.append(self.unknown(key))
            del self.left[key]

    def words(self) -> list[str]:
        """The keys, which the file's author chose, but for those that are no words."""
        for key in [key for key in self.left if not WORD.fullmatch(key)]:
            self.report.problems.append(
                wrong(
                    self.place,
                    f"has the name {quote(key)}",
                    "Write a word of at most 64 letters, digits and _.",
                )
            )
            del self.left[key]
        return list(self.left)

    def end(self) -> None:
        """Reports keys that nobody took, each with the nearest known one."""
        self.report.problems += [self.unknown(key) for key in self.left]
        self.left = {}

    def unknown(self, key: str) -> InvalidStrategy:
        """The error for a key that does not belong here."""
        where = f"{self.place} has" if self.place else "The file has"
        return InvalidStrategy(
            f"{where} the unknown key {quote(key)}.{did_you_mean(key, self.known)}",
            hint=f"Known keys here: {', '.join(dict.fromkeys(self.known))}.",
            field=quote(self.at(key), 200).strip("'"),
        )


def number(value: object, place: str) -> float:
    """A finite number, as a float. Raises InvalidStrategy."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(place, f"is {quote(value)}, not a number", "Write a number.")
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise wrong(place, f"is {quote(value)}", f"Write a number of at most {LARGEST_NUMBER:g}.")
    return float(value)


class StrategyDialect(Protocol):
    """How another program writes a strategy file."""

    def translate(self, values: Mapping[str, Any], report: Report) -> Values:
        """The file in this program's form.

        Args:
            values: the file's plain values; nothing of them is checked.
            report: gets what has no effect, what differs and what cannot be honoured.
        """
        ...


@cache
def dialects() -> tuple[StrategyDialect, ...]:
    """All of them."""
    return tuple(import_module(name).DIALECT for name in DIALECTS)
