"""Which stretches of bars have bars in common: by content, or by symbol and time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ktrdr_mcp.data.content import Sketch, are_related, strangers


@dataclass(frozen=True)
class Stretch:
    """Bars that were looked at, traded or tested.

    Args:
        symbol: whose they are.
        start: of their time, ISO 8601 UTC.
        end: likewise, included.
        sketch: the key of their sketch; None where symbol and time alone are known.
    """

    symbol: str
    start: str
    end: str
    sketch: str | None


class Relations:
    """Finds what has bars in common; each pair of sketches is compared once."""

    def __init__(self) -> None:
        self.sketches: dict[str, Sketch] = {}
        self._found: dict[tuple[str, str], bool] = {}

    def between(self, one: Stretch, other: Stretch) -> bool:
        """Whether two stretches have bars in common, by symbol and time or by content."""
        if one.symbol == other.symbol and one.start <= other.end and other.start <= one.end:
            return True
        if one.sketch is None or other.sketch is None:
            return False
        if one.sketch == other.sketch:
            return True
        pair = (min(one.sketch, other.sketch), max(one.sketch, other.sketch))
        if pair not in self._found:
            first, second = (self.sketches.get(key) for key in pair)
            if first is None or second is None:  # not known today
                return False
            self._found[pair] = are_related(first, second)
        return self._found[pair]

    def count_separate(self, stretches: Iterable[Stretch]) -> int:
        """How many of some stretches, in turn, have no bars in common with any before."""
        each = list(dict.fromkeys(stretches))
        times: defaultdict[str, Times] = defaultdict(Times)
        strange_then = [not times[one.symbol].add(one.start, one.end) for one in each]
        keys = [key for key in dict.fromkeys(one.sketch for one in each) if key in self.sketches]
        strange = dict(zip(keys, strangers([self.sketches[key] for key in keys]), strict=True))
        begun = 0
        for one, begins in zip(each, strange_then, strict=True):
            alone = one.sketch is None or strange.get(one.sketch, True)
            if one.sketch is not None:
                strange[one.sketch] = False  # whatever has the same sketch later
            begun += begins and alone
        return begun


@dataclass
class Times:
    """Ranges of time, both ends included, joined where they overlap; ascending."""

    starts: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def add(self, start: str, end: str) -> bool:
        """Takes in a range. Returns whether it overlaps with one that was there."""
        first, after = bisect_left(self.ends, start), bisect_right(self.starts, end)
        overlaps = first < after
        if overlaps:
            start, end = min(start, self.starts[first]), max(end, self.ends[after - 1])
        self.starts[first:after], self.ends[first:after] = [start], [end]
        return overlaps
