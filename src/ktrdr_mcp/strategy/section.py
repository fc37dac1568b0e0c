"""One mapping of a strategy file, taken apart key by key; what is left over is an error."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from ktrdr_mcp.errors import InvalidStrategy, did_you_mean, shown
from ktrdr_mcp.strategy.form import LARGEST_NUMBER

WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)


def joined(*parts: str | int) -> str:
    """The dotted place of a nested value."""
    return ".".join(str(part) for part in parts if part != "")


def wrong(place: str, problem: str, hint: str) -> InvalidStrategy:
    """The error for one place of the file."""
    return InvalidStrategy(f"{place or 'the file'} {problem}.", hint=hint, field=place or None)


class Section:
    """A mapping at a dotted place.

    Args:
        values: what stands there; None is an empty mapping.
        place: where, for messages.
        ignored: collects the places of keys that are read and have no effect.
    Raises:
        InvalidStrategy: it is not a mapping.
    """

    def __init__(self, values: object, place: str, ignored: list[str]) -> None:
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            raise wrong(
                place, f"is {shown(values)}, not a mapping", "Write it as key: value lines."
            )
        self.place = place
        self.ignored = ignored
        self.left = dict(values)
        self.known: list[str] = []

    def at(self, key: str) -> str:
        """The dotted place of a key."""
        return joined(self.place, key)

    def has(self, key: str) -> bool:
        """Whether the key stands there and has not been taken."""
        return key in self.left

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a known key, whatever it is."""
        self.known.append(key)
        return self.left.pop(key, default)

    def section(self, key: str) -> Section:
        """The mapping under a key; empty if the key is absent."""
        return Section(self.take(key), self.at(key), self.ignored)

    def text(self, key: str, default: str = "") -> str:
        """The text under a key. Raises InvalidStrategy."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise wrong(self.at(key), f"is {shown(value)}, not text", "Put quotes around it.")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """The boolean under a key. Raises InvalidStrategy."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise wrong(self.at(key), f"is {shown(value)}", "Write true or false.")
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        """The number under a key, within bounds; None if it is absent. Raises InvalidStrategy."""
        if not self.has(key):
            self.known.append(key)
            return None
        value = number(self.take(key), self.at(key))
        if not low <= value <= high:
            raise wrong(self.at(key), f"is {value:g}", f"Write a number from {low:g} to {high:g}.")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words. Raises InvalidStrategy."""
        value = self.text(key, default)
        if value not in choices:
            raise InvalidStrategy(
                f"{self.at(key)} is {shown(value)}, which is not known."
                f"{did_you_mean(value, choices)}",
                hint=f"Use one of {', '.join(choices)}.",
                field=self.at(key),
            )
        return value

    def ignore(self, *keys: str) -> None:
        """Takes keys that KTRDR's files carry and that change nothing here."""
        for key in keys:
            if self.has(key):
                self.take(key)
                self.ignored.append(self.at(key))

    def rest(self) -> dict[str, Any]:
        """Everything that has not been taken."""
        left, self.left = self.left, {}
        return left

    def only(self, *known: str) -> None:
        """Refuses other keys. Raises InvalidStrategy with the nearest known key."""
        self.known += known
        unknown = [key for key in self.left if key not in known]
        if unknown:
            raise self.unknown(unknown[0])

    def words(self) -> list[str]:
        """The keys, which the file's author chose. Raises InvalidStrategy if one is no word."""
        for key in self.left:
            if not WORD.fullmatch(key):
                raise wrong(
                    self.place,
                    f"has the name {shown(key)}",
                    "Write a word of at most 64 letters, digits and _.",
                )
        return list(self.left)

    def end(self) -> None:
        """Refuses keys that nobody took. Raises InvalidStrategy with the nearest known key."""
        if self.left:
            raise self.unknown(next(iter(self.left)))

    def unknown(self, key: str) -> InvalidStrategy:
        """The error for a key that does not belong here."""
        where = f"{self.place} has" if self.place else "The file has"
        return InvalidStrategy(
            f"{where} the unknown key {shown(key)}.{did_you_mean(key, self.known)}",
            hint=f"Known keys here: {', '.join(dict.fromkeys(self.known))}.",
            field=shown(self.at(key), 200).strip("'"),
        )


def number(value: object, place: str) -> float:
    """A finite number, as a float. Raises InvalidStrategy."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(place, f"is {shown(value)}, not a number", "Write a number.")
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise wrong(place, f"is {shown(value)}", f"Write a number of at most {LARGEST_NUMBER:g}.")
    return float(value)
