"""What bars are by their content: the same under another symbol, other dates or another workspace.

A gram is the hash of eight log returns in a row, rounded to 1e-6. Only grams with six different
moves count, as flat and tick-rounded bars repeat by nature. A sketch keeps the hashes below a
bound, the lower the more bars there are, so that two are compared in bounded time.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars, Integers

Hashes = NDArray[np.uint64]

GRAM: Final = 8  # returns
MIN_DIFFERENT: Final = 6  # of them that are not 0
RETURN_STEP: Final = 1e-6
KEPT_WHOLE: Final = 4_096  # bars up to which a sketch has every hash
MIN_HASHES: Final = 32  # of a sketch; fewer tell nothing
RELATED_SHARE: Final = 0.05  # of the smaller sketch, from which two have bars in common
RECENT: Final = 8  # sketches that each is compared with first
# Of Sebastiano Vigna's splitmix64: each bit of a return changes half of the bits of its hash.
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9))
_SECOND: Final = (np.uint64(27), np.uint64(0x94D049BB133111EB))
_LAST: Final = np.uint64(31)


@dataclass(frozen=True, eq=False)
class Grams:
    """The countable grams of a series.

    Args:
        hashes: uint64[m].
        time: int64[m], the opening of each gram's last bar, UTC nanoseconds.
    """

    hashes: Hashes
    time: Integers

    def between(self, start: int, stop: int) -> Hashes:
        """uint64[k], the hashes of grams that end from one moment up to, not including, another."""
        return self.hashes[(self.time >= start) & (self.time < stop)]


NO_GRAMS: Final = Grams(np.empty(0, np.uint64), np.empty(0, np.int64))


def grams_of(bars: Bars) -> Grams:
    """The countable grams of stored bars, whatever they are called and whenever they open."""
    if len(bars) <= GRAM:
        return NO_GRAMS
    moves = np.rint(np.diff(np.log(bars.close)) / RETURN_STEP).astype(np.int64)
    count = len(moves) - GRAM + 1
    mixed = scramble(moves.view(np.uint64) + _ODD)
    hashes = np.zeros(count, np.uint64)
    for place in range(GRAM):
        hashes = hashes * _ODD + mixed[place : place + count]
    countable = count_different(moves) >= MIN_DIFFERENT
    return Grams(scramble(hashes[countable]), bars.time[GRAM:][countable])


def ascending(hashes: Hashes) -> Hashes:
    """Each of uint64[n] once; much faster than np.unique on many."""
    ordered = np.sort(hashes)
    once: Hashes = ordered[np.diff(ordered, prepend=~ordered[:1]) != 0]
    return once


def scramble(values: Hashes) -> Hashes:
    """splitmix64's mixing of uint64[n]."""
    for shift, factor in (_FIRST, _SECOND):
        values = (values ^ (values >> shift)) * factor
    mixed: Hashes = values ^ (values >> _LAST)
    return mixed


def count_different(moves: Integers) -> Integers:
    """int64[n - 7], how many different moves each gram has, 0 left out.

    Args:
        moves: int64[n], n >= 8.
    """
    order = np.argsort(moves, kind="stable")
    before = np.full(len(moves), -1, np.int64)  # where the same move was last
    same = moves[order[1:]] == moves[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    first = np.arange(len(moves) - GRAM + 1)
    found = np.zeros(len(first), np.int64)
    for place in range(GRAM):
        at = first + place
        found += (before[at] < first) & (moves[at] != 0)
    return found


@dataclass(frozen=True, eq=False)
class Sketch:
    """Some hashes of bars, which say how much two stretches of bars have in common.

    Args:
        halvings: how often the rate of kept hashes was halved.
        hashes: uint64[m], ascending, each below 2^(64 - halvings).
    """

    halvings: int
    hashes: Hashes

    @property
    def key(self) -> str:
        """SHA-256, in hexadecimal: the same for the same sketch."""
        digest = hashlib.sha256(f"sketch:{self.halvings}:".encode())
        digest.update(self.to_bytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """The hashes, little-endian."""
        return self.hashes.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, halvings: int, raw: bytes) -> Sketch:
        """From what `to_bytes` made. Raises ValueError if it is none."""
        hashes = np.frombuffer(raw, "<u8").astype(np.uint64)
        if not 0 <= halvings < 64 or np.any(hashes[1:] <= hashes[:-1]):
            raise ValueError("not a sketch")
        return cls(halvings, hashes)

    def to_text(self) -> str:
        """The whole sketch, for JSON."""
        return f"{self.halvings}:{base64.b64encode(self.to_bytes()).decode()}"

    @classmethod
    def from_text(cls, text: str) -> Sketch:
        """From what `to_text` made. Raises ValueError if it is none."""
        halvings, _, hashes = text.partition(":")
        return cls.from_bytes(int(halvings), base64.b64decode(hashes, validate=True))

    def at_rate(self, halvings: int) -> Hashes:
        """The hashes that a rate at most as high keeps."""
        return self.hashes[: int(np.searchsorted(self.hashes, bound_at(halvings), side="right"))]


def bound_at(halvings: int) -> np.uint64:
    """The largest hash that is kept after so many halvings of the rate."""
    return np.uint64(2 ** (64 - halvings) - 1)


def sketch_of(hashes: Hashes) -> Sketch | None:
    """The sketch of a stretch of bars; None if too few grams count to tell it from others.

    Args:
        hashes: uint64[m] of its grams, of which there is at most one for each bar.
    """
    halvings = max(0, math.ceil(math.log2(max(len(hashes), 1) / KEPT_WHOLE)))
    kept = Sketch(halvings, ascending(hashes[hashes <= bound_at(halvings)]))
    return kept if len(kept.hashes) >= MIN_HASHES else None


def share_in_common(one: Sketch, other: Sketch) -> float:
    """The hashes in common as a share of the smaller sketch, at the coarser of both rates."""
    halvings = max(one.halvings, other.halvings)
    first, second = one.at_rate(halvings), other.at_rate(halvings)
    smaller = min(len(first), len(second))
    if not smaller:
        return 0.0
    return len(np.intersect1d(first, second, assume_unique=True)) / smaller


def are_related(one: Sketch, other: Sketch) -> bool:
    """Whether two stretches have bars in common."""
    return share_in_common(one, other) > RELATED_SHARE


def strangers(sketches: Sequence[Sketch]) -> list[bool]:
    """Whether each of some sketches has no bars in common with any before it.

    Each is compared with those just before it; only of the rest it is looked up which hashes they
    share with whom, so that all takes about as long as sorting the hashes.
    """
    asked = [
        at
        for at, one in enumerate(sketches)
        if not any(are_related(one, other) for other in sketches[max(0, at - RECENT) : at])
    ]
    found = [False] * len(sketches)
    for at, begins in zip(asked, begin_anew(sketches, asked), strict=True):
        found[at] = begins
    return found


def begin_anew(sketches: Sequence[Sketch], asked: Sequence[int]) -> Iterator[bool]:
    """Whether each of those asked about, by place, has no bars in common with any before it."""
    if len(asked) < 2:  # the first one does, whatever it is
        yield from (True for _ in asked)
        return
    hashes = np.concatenate([each.hashes for each in sketches])
    ordered = np.sort(hashes)
    shared = ascending(ordered[1:][ordered[1:] == ordered[:-1]])
    kept = [np.isin(each.hashes, shared, assume_unique=True) for each in sketches]
    owner = np.repeat(np.arange(len(sketches)), [int(each.sum()) for each in kept])
    among = np.searchsorted(shared, hashes[np.concatenate(kept)])
    order = np.argsort(among, kind="stable")
    holders = owner[order]  # of each shared hash in turn, ascending
    turns = np.diff(among[order], prepend=-1) != 0
    first, own = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    first[order] = np.maximum.accumulate(np.where(turns, np.arange(len(order)), 0))
    own[order] = np.arange(len(order))
    edges = np.searchsorted(owner, np.arange(len(sketches) + 1))
    halvings = np.array([each.halvings for each in sketches])
    sizes = np.array([len(each.hashes) for each in sketches])
    for at in asked:
        start, stop = edges[at : at + 2].tolist()
        before = holders[ranges(first[start:stop], own[start:stop])]
        common = np.bincount(before, minlength=len(sketches))
        alike = halvings == halvings[at]
        share = common / np.maximum(np.minimum(sizes, sizes[at]), 1)
        yield not (
            np.any(share[alike] > RELATED_SHARE)
            or any(
                are_related(sketches[at], sketches[other])
                for other in np.flatnonzero(common * ~alike).tolist()
            )
        )


def ranges(begin: Integers, end: Integers) -> Integers:
    """int64[m], the whole numbers of some ranges, one after another.

    Args:
        begin: int64[n], the first of each.
        end: int64[n], the one after the last of each.
    """
    sizes = end - begin
    before = np.cumsum(sizes) - sizes
    whole: Integers = np.repeat(begin - before, sizes) + np.arange(int(sizes.sum()))
    return whole
