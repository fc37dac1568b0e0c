"""How a model has seen bars, by their content: in training, in choosing, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, LoadedBars, width_ns
from ktrdr_mcp.data.content import GRAM, Grams, Hashes, ascending, grams_of

FRESH: Final = 0
TESTED: Final = 1  # by its walk-forward, whose verdict chooses among models
VALIDATION: Final = 2  # they chose its weights and settings
TRAINING: Final = 3  # they decided its weights
TENSORS: Final = {"tested": TESTED, "validation": VALIDATION, "training": TRAINING}  # in the file

Levels = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class SeenGrams:
    """All grams of the bars that made a model.

    Args:
        training: uint64[m], ascending, of bars that it was fitted on.
        validation: uint64[k], ascending, of bars that chose its weights and settings.
        tested: uint64[l], ascending, of bars after these that its verdict rests on, and of what
            their labels depend on.
    """

    training: Hashes
    validation: Hashes
    tested: Hashes

    @classmethod
    def of(cls, grams: Grams, times: tuple[int, int, int, int]) -> SeenGrams:
        """From the grams of the bars that a training used.

        Args:
            grams: of the stored bars.
            times: openings of the first training row, of the first validation row and of the first
                row after validation, and the close of the last bar that a tested label depends on;
                UTC nanoseconds.
        """
        return cls(*(ascending(grams.between(*ends)) for ends in pairwise(times)))

    def to_bytes(self) -> bytes:
        """As the bundle keeps it: the same bytes for the same grams."""
        from safetensors.numpy import save

        return save({name: getattr(self, name) for name in TENSORS})

    @classmethod
    def from_bytes(cls, raw: bytes) -> SeenGrams:
        """From what `to_bytes` made.

        Raises:
            SafetensorError, KeyError, ValueError: it is something else.
        """
        from safetensors.numpy import load

        found = load(raw)
        arrays = {name: found[name] for name in TENSORS}
        if any(array.dtype != np.uint64 or array.ndim != 1 for array in arrays.values()):
            raise ValueError("not grams")
        return cls(**arrays)

    def levels(self, loaded: LoadedBars) -> Levels | None:
        """How the model has seen each bar of a series, under whatever name and dates.

        A bar is known by the gram that ends with it. One without such a gram, as at a series'
        beginning or where prices rest, is taken as the bar before it; so are at most eight bars
        between seen ones, which one other bar makes strange.

        Args:
            loaded: the series; of aggregated bars, those that they were made from are looked up.
        Returns:
            int8[n] of FRESH, TESTED, VALIDATION and TRAINING; None if no gram counts, so that
            symbol and time alone can tell.
        """
        stored = loaded.bars if loaded.stored is None else loaded.stored
        grams = grams_of(stored)
        if not len(grams.hashes):
            return None
        found = np.full(len(grams.hashes), FRESH, np.int8)
        for name, level in TENSORS.items():
            found[np.isin(grams.hashes, getattr(self, name))] = level
        place = np.searchsorted(grams.time, stored.time, side="right") - 1
        levels = close_gaps(found[np.maximum(place, 0)])
        return levels if loaded.stored is None else widest(levels, stored, loaded.bars)


def close_gaps(levels: Levels) -> Levels:
    """The same with short runs of fresh bars between seen ones taken as the bar before them."""
    edges = np.flatnonzero(np.diff(levels != FRESH)) + 1
    starts, stops = np.r_[0, edges], np.r_[edges, len(levels)]
    closed = levels.copy()
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        inside = start > 0 and stop < len(levels)
        if inside and levels[start] == FRESH and stop - start <= GRAM:
            closed[start:stop] = levels[start - 1]
    return closed


def widest(levels: Levels, stored: Bars, wide: Bars) -> Levels:
    """int8[wide], the highest level of the stored bars that each wide bar was made from."""
    if not len(wide):
        return np.empty(0, np.int8)
    first = np.searchsorted(stored.time, wide.time)
    stop = int(np.searchsorted(stored.time, wide.time[-1] + width_ns(wide.timeframe)))
    highest: Levels = np.maximum.reduceat(levels[:stop], first)
    return highest
